"""The forward and backward functions of a `custom_vjp`, on flat values, and what they see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from covector.core import pytree
from covector.core.avals import Aval, Zero, same_type
from covector.core.errors import compose
from covector.core.source import here
from covector.core.trace import aval_of
from covector.transforms.custom_jvp import SymbolicZero, is_pair, merge_nondiff
from covector.transforms.flat import FlatFunction, check_leaves


class FlatPair:
    """The forward and backward functions of one call, on flat values."""

    def __init__(
        self,
        owner: Any,
        fixed: dict[int, Any],
        flat: FlatFunction,
        count: int,
        avals: list[Aval],
    ) -> None:
        self.owner = owner
        self.fixed = fixed
        self.flat = flat
        self.tree = flat.tree
        self.count = count
        self.avals = avals
        self.out_tree: Any = None
        self.residual_tree: Any = None

    def forward(self, nonzero: Sequence[bool], *flat: Any) -> Any:
        owner = self.owner
        assert owner._fwd is not None
        given: Sequence[Any] = flat
        if owner._symbolic_zeros:
            given = [CustomVJPPrimal(x, n) for x, n in zip(flat, nonzero, strict=True)]
        dynamic = pytree.unflatten(self.tree, given)[0]
        result = merge_nondiff(owner._fwd, self.fixed, self.count)(*dynamic)
        if not is_pair(result):
            raise TypeError(
                compose(
                    f"the forward rule of {owner.__name__} must return a pair (output, residuals)",
                    found=f"a {type(result).__name__}",
                    line=here(),
                )
            )
        outs, self.out_tree = pytree.flatten(result[0])
        if self.flat.out_tree is not None and self.out_tree != self.flat.out_tree:
            raise TypeError(
                compose(
                    f"the forward rule of {owner.__name__} must return an output of the "
                    f"structure of the function's, {self.flat.out_tree}",
                    found=str(self.out_tree),
                    line=here(),
                )
            )
        residuals, self.residual_tree = pytree.flatten(result[1])
        check_leaves(f"the output of the forward rule of {owner.__name__}", result[0])
        check_leaves(f"the residuals of {owner.__name__}", result[1])
        return outs, residuals

    def backward(self, residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        owner = self.owner
        assert owner._bwd is not None
        nondiff = [self.fixed[i] for i in sorted(self.fixed)]
        visible = [_visible(ct, owner._symbolic_zeros) for ct in cts]
        cotangent = pytree.unflatten(self.out_tree, visible)
        residual = pytree.unflatten(self.residual_tree, residuals)
        result = owner._bwd(*nondiff, residual, cotangent)
        grads = cast("Sequence[Any]", result)
        example = pytree.unflatten(self.tree, self.avals)[0]
        several = isinstance(result, (tuple, list))
        if not several or len(grads) != len(example):
            raise TypeError(
                compose(
                    f"the backward rule of {owner.__name__} must return a tuple of {len(example)} "
                    "cotangents, one for each differentiable argument",
                    found=f"{len(grads)} of them" if several else f"a {type(grads).__name__}",
                    line=here(),
                )
            )
        flat: list[Any] = []
        for position, (grad, avals) in enumerate(zip(grads, example, strict=True)):
            flat.extend(self._checked(position, grad, avals))
        return flat

    def _checked(self, position: int, grad: Any, avals: Any) -> list[Any]:
        """Cotangents of the arrays of an argument; `None` stands for a whole part of it."""
        name = f"the backward rule of {self.owner.__name__}: cotangent {position}"
        flat: list[Any] = []

        def add(part: Any, of: Any) -> None:
            if part is None:
                flat.extend([Zero(a.tangent()) for a in pytree.leaves(of)])
            elif isinstance(of, Aval):
                flat.append(self._leaf(name, part, of))
            else:
                raise ValueError("an array in place of a container")

        try:
            pytree.map(add, grad, avals, is_leaf=lambda x: x is None)
        except ValueError as error:
            raise TypeError(
                compose(
                    f"{name} must have the structure of the argument, {pytree.structure(avals)}, "
                    "with None for zeros",
                    found=str(pytree.structure(grad, is_leaf=lambda x: x is None)),
                    line=here(),
                )
            ) from error
        return flat

    def _leaf(self, name: str, grad: Any, aval: Aval) -> Any:
        expected = aval.tangent()
        if grad is None or type(grad) is SymbolicZero or expected.dtype.names:
            return Zero(expected)
        check_leaves(name, grad)
        found = aval_of(grad)
        if not same_type(found, expected):
            raise TypeError(
                compose(
                    f"{name}: an argument {aval} needs a cotangent {expected}",
                    found=str(found),
                    line=here(),
                )
            )
        return grad


def _visible(ct: Any, symbolic_zeros: bool) -> Any:
    """What a backward rule sees: zeros as arrays, float0 for outputs without a derivative."""
    if type(ct) is not Zero:
        return ct
    return SymbolicZero(ct.aval) if symbolic_zeros else SymbolicZero(ct.aval).instantiate()


class CustomVJPPrimal:
    """An argument, as forward rules with `symbolic_zeros=True` see it.

    Attributes:
        value: the array.
        perturbed: whether a derivative with respect to it may be asked for.
    """

    __slots__ = ("perturbed", "value")

    def __init__(self, value: Any, perturbed: bool) -> None:
        self.value = value
        self.perturbed = perturbed

    def __repr__(self) -> str:
        return f"CustomVJPPrimal(value={self.value!r}, perturbed={self.perturbed})"
