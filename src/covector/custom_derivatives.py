"""Derivative rules of the user's own: `jax.custom_derivatives`'s functions, and their kin."""

from __future__ import annotations

from typing import Any

from covector.core import pytree
from covector.core.trace import aval_of
from covector.transforms.custom_gradient import custom_gradient
from covector.transforms.custom_jvp import SymbolicZero, custom_jvp
from covector.transforms.custom_transpose import custom_transpose, linear_call
from covector.transforms.custom_vjp import custom_vjp
from covector.transforms.custom_vjp_pair import CustomVJPPrimal
from covector.transforms.staging import closure_convert

__all__ = [
    "CustomVJPPrimal",
    "SymbolicZero",
    "closure_convert",
    "custom_gradient",
    "custom_jvp",
    "custom_transpose",
    "custom_vjp",
    "custom_vjp_primal_tree_values",
    "linear_call",
    "zero_from_primal",
]


def custom_vjp_primal_tree_values(tree: Any) -> Any:
    """The arrays in what a forward rule with `symbolic_zeros=True` is given.

    Args:
        tree: a pytree of `CustomVJPPrimal`.

    Example:
        >>> from covector.custom_derivatives import CustomVJPPrimal, custom_vjp_primal_tree_values
        >>> custom_vjp_primal_tree_values((CustomVJPPrimal(1.0, True),))
        (1.0,)
    """

    def value(leaf: Any) -> Any:
        return leaf.value if isinstance(leaf, CustomVJPPrimal) else leaf

    return pytree.map(value, tree)


def zero_from_primal(val: Any, symbolic_zeros: bool = False) -> Any:
    """Zeros of the shapes and dtypes of the tangents of arrays.

    Args:
        val: a pytree of arrays.
        symbolic_zeros: give `SymbolicZero` instead of arrays.

    Example:
        >>> import covector.numpy as cnp
        >>> from covector.custom_derivatives import zero_from_primal
        >>> zero_from_primal(cnp.ones(2))
        Array([0., 0.], dtype=float32)
    """

    def zero(x: Any) -> Any:
        symbol = SymbolicZero(aval_of(x).tangent())
        return symbol if symbolic_zeros else symbol.instantiate()

    return pytree.map(zero, val)
