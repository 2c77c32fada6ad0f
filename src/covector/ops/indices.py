"""Index arithmetic in lowerings, on Python ints and loop IR values alike.

Two ints give an int, so that what is known at compile time stays known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from covector.loopir.builder import Builder

Index = Any
"""An `int` or a loop IR value of the index type."""


def _value(builder: Builder, i: Index) -> Any:
    return builder.index(i) if type(i) is int else i


def add(builder: Builder, i: Index, j: Index) -> Index:
    """`i + j`."""
    if type(i) is int and type(j) is int:
        return i + j
    if i == 0 and type(i) is int:
        return j
    if j == 0 and type(j) is int:
        return i
    return builder.op("add", _value(builder, i), _value(builder, j))


def sub(builder: Builder, i: Index, j: Index) -> Index:
    """`i - j`."""
    if type(i) is int and type(j) is int:
        return i - j
    if j == 0 and type(j) is int:
        return i
    return builder.op("sub", _value(builder, i), _value(builder, j))


def mul(builder: Builder, i: Index, j: Index) -> Index:
    """`i * j`."""
    if type(i) is int and type(j) is int:
        return i * j
    if (type(i) is int and i == 0) or (type(j) is int and j == 0):
        return 0
    if type(i) is int and i == 1:
        return j
    if type(j) is int and j == 1:
        return i
    return builder.op("mul", _value(builder, i), _value(builder, j))


def div(builder: Builder, i: Index, j: Index) -> Index:
    """`i // j` for `i >= 0`, `j > 0`."""
    if type(j) is int:
        if j == 1:
            return i
        if type(i) is int:
            return i // j
    return builder.op("index_div", _value(builder, i), _value(builder, j))


def rem(builder: Builder, i: Index, j: Index) -> Index:
    """`i % j` for `i >= 0`, `j > 0`."""
    if type(j) is int:
        if j == 1:
            return 0
        if type(i) is int:
            return i % j
    return builder.op("index_rem", _value(builder, i), _value(builder, j))


def clamp(builder: Builder, i: Index, extent: Index) -> Index:
    """The index nearest to `i` in `range(extent)`, which is not empty."""
    last = sub(builder, extent, 1)
    if type(i) is int and type(last) is int:
        return max(0, min(i, last))
    if type(last) is int and last == 0:
        return 0
    low = builder.op("max", _value(builder, i), builder.index(0))
    return builder.op("min", low, _value(builder, last))


def at_least(builder: Builder, i: Index, bound: int) -> Index:
    """`i`, or `bound` if that is greater."""
    if type(i) is int:
        return max(i, bound)
    return builder.op("max", i, builder.index(bound))


def at_most(builder: Builder, i: Index, bound: Index) -> Index:
    """`i`, or `bound` if that is less."""
    if type(i) is int and type(bound) is int:
        return min(i, bound)
    return builder.op("min", _value(builder, i), _value(builder, bound))


def product(builder: Builder, extents: Sequence[Index]) -> Index:
    """The product of extents."""
    total: Index = 1
    for extent in extents:
        total = mul(builder, total, extent)
    return total


def compare(builder: Builder, operation: str, i: Index, j: Index) -> Any:
    """A loop IR bool: `i` compared with `j` by "lt", "le", "eq", "ge" ..."""
    return builder.op(operation, _value(builder, i), _value(builder, j))


def linear(builder: Builder, index: Sequence[Index], shape: Sequence[Index]) -> Index:
    """The row-major position of an index."""
    position: Index = 0
    for i, extent in zip(index, shape, strict=True):
        position = add(builder, mul(builder, position, extent), i)
    return position


def delinear(builder: Builder, position: Index, shape: Sequence[Index]) -> list[Index]:
    """The index whose row-major position is given."""
    index: list[Index] = []
    for axis in range(len(shape) - 1, -1, -1):
        if shape[axis] == 1 and type(shape[axis]) is int:
            index.append(0)
        elif all(type(n) is int and n == 1 for n in shape[:axis]):
            index.append(position)
            position = 0
        else:
            index.append(rem(builder, position, shape[axis]))
            position = div(builder, position, shape[axis])
    index.reverse()
    return index
