"""Jacobians and Hessians, by batching directional derivatives."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from covector.core import dtypes, pytree, treetools
from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.errors import compose
from covector.core.source import here
from covector.core.trace import aval_of
from covector.transforms.autodiff import ArgNums, jvp, vjp
from covector.transforms.batching import vmap
from covector.transforms.flat import (
    check_leaves,
    function_name,
    named_like,
    normalize_argnums,
    split_args,
)


def jacfwd(
    fun: Callable[..., Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """A function that evaluates the Jacobian of `fun` column by column, in forward mode.

    Args:
        fun: a function of pytrees of arrays.
        argnums: which positional arguments to differentiate.
        has_aux: whether `fun` returns `(output, aux)`.
        holomorphic: `fun` is complex differentiable; inputs and outputs are complex.

    Returns:
        A function of the same arguments; for an output of shape `m` and an argument of shape `n`
        it gives an array of shape `m + n`, nested like the output, then like the arguments.

    >>> import covector as cv
    >>> import covector.numpy as cnp
    >>> cv.jacfwd(lambda x: x * x)(cnp.array([1.0, 2.0]))
    Array([[2., 0.],
           [0., 4.]], dtype=float32)
    """
    name = f"jacfwd of {function_name(fun)}"

    def jacobian(*args: Any, **kwargs: Any) -> Any:
        numbers = normalize_argnums(name, argnums, len(args))
        partial, chosen = split_args(fun, numbers, args)
        dynamic = chosen[0] if isinstance(argnums, int) else tuple(chosen)
        _check(name, dynamic, holomorphic)
        single = isinstance(argnums, int)

        def push(tangent: Any) -> Any:
            tangents = (tangent,) if single else tangent
            return jvp(lambda *a: partial(*a, **kwargs), tuple(chosen), tangents, has_aux)

        basis = _standard_basis(dynamic)
        axes = (None, -1, None) if has_aux else (None, -1)
        results = vmap(push, out_axes=axes)(basis)
        jac = _unravel_all(results[1], dynamic, -1)
        return (jac, results[2]) if has_aux else jac

    return named_like(jacobian, fun, "jacfwd")


def jacrev(
    fun: Callable[..., Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """A function that evaluates the Jacobian of `fun` row by row, in reverse mode.

    Args:
        fun: a function of pytrees of arrays.
        argnums: which positional arguments to differentiate.
        has_aux: whether `fun` returns `(output, aux)`.
        holomorphic: `fun` is complex differentiable; inputs and outputs are complex.
        allow_int: integer arguments get float0 Jacobians instead of an error.

    Returns:
        As for `jacfwd`.

    >>> import covector as cv
    >>> import covector.numpy as cnp
    >>> cv.jacrev(lambda x: x * x)(cnp.array([1.0, 2.0]))
    Array([[2., 0.],
           [0., 4.]], dtype=float32)
    """
    name = f"jacrev of {function_name(fun)}"

    def jacobian(*args: Any, **kwargs: Any) -> Any:
        numbers = normalize_argnums(name, argnums, len(args))
        partial, chosen = split_args(fun, numbers, args)
        single = isinstance(argnums, int)
        if not allow_int:
            _check(name, chosen, holomorphic)
        result = vjp(lambda *a: partial(*a, **kwargs), *chosen, has_aux=has_aux)
        out, pullback = result[0], result[1]
        _check_output(name, out, holomorphic)
        rows = vmap(pullback)(_standard_basis(out))
        structure = pytree.structure(out)
        per_argument = [_unravel_all(row, out, 0) for row in rows]
        # From argument-major to output-major nesting.
        nested = tuple(
            treetools.transpose(pytree.structure(arg), structure, jac)
            for arg, jac in zip(chosen, per_argument, strict=True)
        )
        if single:
            jac = nested[0]
        else:
            jac = (
                treetools.transpose(pytree.structure(tuple(0 for _ in nested)), structure, nested)
                if structure.num_leaves != 1 or structure.num_nodes != 1
                else nested
            )
        return (jac, result[2]) if has_aux else jac

    return named_like(jacobian, fun, "jacrev")


def hessian(
    fun: Callable[..., Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """A function that evaluates the Hessian of `fun`: forward over reverse mode.

    Args:
        fun: a function of pytrees of arrays.
        argnums: which positional arguments to differentiate.
        has_aux: whether `fun` returns `(output, aux)`.
        holomorphic: `fun` is complex differentiable; inputs and outputs are complex.

    Returns:
        A function of the same arguments; see `jacfwd` for the nesting.

    >>> import covector as cv
    >>> cv.hessian(lambda x: x**3)(2.0)
    Array(12., dtype=float32, weak_type=True)
    """
    inner = jacrev(fun, argnums, has_aux, holomorphic)
    return jacfwd(inner, argnums, has_aux, holomorphic)


def _check(name: str, tree: Any, holomorphic: bool) -> None:
    check_leaves(f"{name}: differentiated arguments", tree)
    for leaf in pytree.leaves(tree):
        aval = aval_of(leaf)
        wanted = dtypes.is_complex if holomorphic else dtypes.is_floating
        if not wanted(aval.dtype):
            kind = "complex" if holomorphic else "real floating"
            raise TypeError(
                compose(f"{name} needs arguments of a {kind} dtype", found=str(aval), line=here())
            )


def _check_output(name: str, tree: Any, holomorphic: bool) -> None:
    for leaf in pytree.leaves(tree):
        aval = aval_of(leaf)
        wanted = dtypes.is_complex if holomorphic else dtypes.is_floating
        if not wanted(aval.dtype):
            kind = "complex" if holomorphic else "real floating"
            raise TypeError(
                compose(f"{name} needs outputs of a {kind} dtype", found=str(aval), line=here())
            )


def _size(leaf: Any) -> int:
    return cast("int", math.prod(aval_of(leaf).shape))


def _sizes(tree: Any) -> list[int]:
    return [_size(leaf) for leaf in pytree.leaves(tree)]


def _standard_basis(tree: Any) -> Any:
    """All unit vectors of a pytree of arrays, along a leading axis of each leaf."""
    leaves, structure = pytree.flatten(tree)
    total = sum(_sizes(tree))
    start = 0
    basis: list[Any] = []
    for leaf in leaves:
        aval = aval_of(leaf)
        size = _size(leaf)
        rows = np.zeros((total, size), aval.dtype)
        rows[np.arange(start, start + size), np.arange(size)] = 1
        shape = (total, *aval.shape)
        basis.append(Array.of(rows.reshape(shape), Aval(shape, aval.dtype)))
        start += size
    return pytree.unflatten(structure, basis)


def _unravel_all(results: Any, tree: Any, axis: int) -> Any:
    return pytree.map(functools.partial(_unravel, tree=tree, axis=axis), results)


def _unravel(x: Any, tree: Any, axis: int) -> Any:
    """Splits an axis that runs over all elements of a pytree into the shapes of its leaves."""
    from covector.ops.shape import reshape, slice_

    shape = aval_of(x).shape
    axis %= len(shape)
    leaves, structure = pytree.flatten(tree)
    parts: list[Any] = []
    start = 0
    for leaf, size in zip(leaves, _sizes(tree), strict=True):
        low = [0] * len(shape)
        high = list(shape)
        low[axis], high[axis] = start, start + size
        part = slice_(x, start_indices=tuple(low), limit_indices=tuple(high), strides=None)
        sizes = (*shape[:axis], *aval_of(leaf).shape, *shape[axis + 1 :])
        parts.append(reshape(part, new_sizes=sizes, dimensions=None))
        start += size
    return pytree.unflatten(structure, parts)
