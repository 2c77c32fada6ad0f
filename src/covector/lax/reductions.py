"""`lax.reduce`: reductions along axes by any function of two elements."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes, pytree
from covector.core.array import Array
from covector.core.errors import compose
from covector.core.source import here
from covector.lax import elementwise
from covector.lax.windowed import combination, initial_value
from covector.numpy import elementwise as numpy_elementwise
from covector.numpy.promote import operand
from covector.ops import reduce as red
from covector.ops.fold import reduce_

__all__ = ["reduce"]

_KNOWN: dict[Any, Any] = {
    elementwise.add: (red.reduce_sum, 0),
    numpy_elementwise.add: (red.reduce_sum, 0),
    elementwise.mul: (red.reduce_prod, 1),
    numpy_elementwise.multiply: (red.reduce_prod, 1),
}
"""Reductions that have a primitive of their own, from their neutral elements."""


def reduce(
    operands: Any,
    init_values: Any,
    computation: Callable[[Any, Any], Any],
    dimensions: Sequence[int],
) -> Any:
    """Reduces axes by a function of two elements.

    Sums and products (`lax.add`, `lax.mul` from 0 and 1) can be differentiated in both modes, other
    reductions in forward mode.

    Args:
        operands: an array, or a pytree of arrays of one shape that are reduced together.
        init_values: what each reduction starts from: a scalar, or a pytree of them like `operands`.
        computation: combines two elements, or pytrees of them; associative.
        dimensions: the axes to reduce; without any, the operands stay as they are.

    Returns:
        An array without these axes, or a pytree of them.

    Raises:
        ValueError: `init_values` does not have the structure of `operands`.
        TypeError: `computation` does not return what it takes.

    >>> import covector.numpy as cnp
    >>> from covector import lax
    >>> lax.reduce(cnp.arange(6).reshape(2, 3), 1, lambda x, y: x * 2 + y, (1,))
    Array([12, 33], dtype=int32)
    """
    xs, tree = pytree.flatten(operands)
    inits, init_tree = pytree.flatten(init_values)
    if tree != init_tree or not xs:
        raise ValueError(
            compose(
                "lax.reduce needs an initial value for each operand, in the same pytree",
                found=f"operands {tree}, initial values {init_tree}",
                line=here(),
            )
        )
    arrays = [operand(x, "lax.reduce") for x in xs]
    starts = [initial_value("lax.reduce", v, x) for v, x in zip(inits, arrays, strict=True)]
    axes = tuple([_axis(d, arrays[0].ndim) for d in dimensions])
    if not axes:
        return tree.unflatten(arrays)
    known = _known_reduction(computation, starts)
    if known is not None:
        return tree.unflatten([known(arrays[0], axes=axes)])
    program = combination("lax.reduce", computation, tree, starts)
    return tree.unflatten(reduce_(*arrays, *starts, program=program, dimensions=axes))


def _axis(dimension: Any, rank: int) -> int:
    axis = operator.index(dimension)
    if not 0 <= axis < rank:
        raise ValueError(
            compose(
                f"lax.reduce: dimensions of an array with {rank} axes are from 0 to {rank - 1}",
                found=str(axis),
                line=here(),
            )
        )
    return axis


def _known_reduction(computation: Any, starts: Sequence[Any]) -> Any:
    entry = _KNOWN.get(computation)
    start = starts[0]
    if entry is None or len(starts) != 1 or not isinstance(start, Array):
        return None
    if dtypes.is_key(start.dtype) or dtypes.is_bool(start.dtype) or start.shape != ():
        return None
    primitive, neutral = entry
    value: Any = np.asarray(start)[()]
    return primitive if value == neutral else None
