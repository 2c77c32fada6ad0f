"""The operations of the vector unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import covector.numpy as cnp

Array = np.ndarray[Any, Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "f32": np.dtype(np.float32),
    "bf16": np.dtype(cnp.bfloat16),
    "i8": np.dtype(np.int8),
    "i32": np.dtype(np.int32),
    "bool": np.dtype(np.bool_),
}
"""The types of elements, by their names in assembly language."""

NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Operation(NamedTuple):
    """An operation on elements.

    Attributes:
        function: of NumPy arrays; bf16 is computed in f32 and rounded.
        cycles: that `lanes` elements take.
    """

    function: Callable[..., Array]
    cycles: int


def _rounded(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """A function computed in double precision."""
    return lambda x: function(x.astype(np.float64))


def _select(which: Array, no: Array, yes: Array) -> Array:
    return np.where(which, yes, no)


OPERATIONS: dict[str, Operation] = {
    "add": Operation(np.add, 1),
    "sub": Operation(np.subtract, 1),
    "mul": Operation(np.multiply, 1),
    "neg": Operation(np.negative, 1),
    "abs": Operation(np.abs, 1),
    "max": Operation(np.maximum, 1),
    "min": Operation(np.minimum, 1),
    "div": Operation(np.divide, 4),
    "sqrt": Operation(np.sqrt, 4),
    "rsqrt": Operation(_rounded(lambda x: 1 / np.sqrt(x)), 4),
    "exp": Operation(np.exp, 8),
    "log": Operation(np.log, 8),
    "tanh": Operation(_rounded(np.tanh), 8),
    "logistic": Operation(_rounded(lambda x: 1 / (1 + np.exp(-x))), 8),
    "eq": Operation(np.equal, 1),
    "ne": Operation(np.not_equal, 1),
    "lt": Operation(np.less, 1),
    "le": Operation(np.less_equal, 1),
    "gt": Operation(np.greater, 1),
    "ge": Operation(np.greater_equal, 1),
    "and": Operation(np.logical_and, 1),
    "or": Operation(np.logical_or, 1),
    "not": Operation(np.logical_not, 1),
    "select": Operation(_select, 1),
    "convert": Operation(lambda x: x, 1),
}

COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
LOGICAL = ("and", "or", "not")


def apply(name: str, operands: list[Array | float], dtype: str) -> Array:
    """What an operation gives.

    Args:
        name: of the operation.
        operands: tiles, and constants.
        dtype: of the result.
    """
    known = [x for x in operands if isinstance(x, np.ndarray)]
    kind = _computed_in(known)
    wide = [_widened(x, kind) for x in operands]
    with np.errstate(all="ignore"):
        return OPERATIONS[name].function(*wide).astype(DTYPES[dtype])


def _computed_in(tiles: list[Array]) -> np.dtype[Any]:
    """What constants are taken for: the type of the tiles that are not conditions."""
    for tile in tiles:
        if tile.dtype != np.bool_:
            return tile.dtype
    return DTYPES["f32"] if not tiles else tiles[0].dtype


def _widened(x: Array | float, kind: np.dtype[Any]) -> Array:
    if not isinstance(x, np.ndarray):
        x = np.asarray(x, np.float32 if kind == np.bool_ else kind)
    return x.astype(np.float32) if x.dtype == DTYPES["bf16"] else x
