"""Keeping computations apart that compilers would merge."""

from __future__ import annotations

from typing import Any

from covector.core import pytree
from covector.ops import remat
from covector.transforms.flat import check_leaves, operands

__all__ = ["optimization_barrier"]


def optimization_barrier(operand: Any) -> Any:
    """Returns its operand; what is computed from the result is not merged with anything else.

    Args:
        operand: a pytree of arrays.

    Returns:
        The same pytree.

    Example:
        >>> from covector import lax
        >>> print(lax.optimization_barrier(1.0))
        1.0
    """
    check_leaves("lax.optimization_barrier", operand)
    leaves, tree = pytree.flatten(operand)
    return pytree.unflatten(tree, remat.optimization_barrier(*operands(leaves)))
