"""Stable sorts by merging, made anew for each combination of element types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from covector_wasm.routines import INDEX, STATUS, Routine, RoutineBuilder

FUNCTIONS = {"cv_sort", "cv_argsort"}

_BOOL, _U8, _F32 = np.dtype(np.bool_), np.dtype(np.uint8), np.dtype(np.float32)
_TYPES = tuple(
    map(
        np.dtype,
        (
            *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
            *("float16", ml_dtypes.bfloat16, "float32", "float64", "complex64", "complex128"),
        ),
    )
)
"""Element types by their numbers in calls, eight bits each."""


def make(symbol: str, args: Sequence[Any]) -> Routine:
    """The function with a name of `FUNCTIONS`, for the types that a call says."""
    return (_sort if symbol == "cv_sort" else _argsort)(symbol, args)


def _types(number: int, count: int) -> list[Any]:
    return [_TYPES[number >> 8 * k & 255] for k in range(count)]


def _name(symbol: str, *parts: Any) -> str:
    return "_".join([symbol, *[getattr(part, "name", str(part)) for part in parts]])


def _sort(symbol: str, args: Sequence[Any]) -> Routine:
    """Sorts rows of n elements of several arrays by the first of them."""
    count = args[3].attr
    dtypes = _types(args[5].attr, args[4].attr)
    b = RoutineBuilder(_name(symbol, count, *dtypes))
    b.skip()
    rows, n = b.numbers(2)
    b.skip(3)
    arrays = [b.array(dtype) for dtype in dtypes]
    sorter = _Sorter(b, n, arrays[:count], descending=False)
    spare = {dtype: b.buffer(dtype, (n,), f"row_{dtype.name}") for dtype in dict.fromkeys(dtypes)}

    def row(number: Any) -> None:
        start = b.mul(number, n)
        sorter.order(start)
        for array in arrays:
            other = spare[array.dtype]

            def read(k: Any, array: Any = array, other: Any = other) -> None:
                place = b.add(start, sorter.place(k))
                b.store_at(other, k, b.load_at(array, place))

            def write(k: Any, array: Any = array, other: Any = other) -> None:
                b.store_at(array, b.add(start, k), b.load_at(other, k))

            b.loop(0, n, read)
            b.loop(0, n, write)

    b.loop(0, rows, row)
    return b.routine()


def _argsort(symbol: str, args: Sequence[Any]) -> Routine:
    """The places of the elements of rows in their order."""
    count, size, descending = args[3].attr, args[5].attr, bool(args[6].attr)
    dtypes = _types(args[4].attr, count)
    places = STATUS if size == 4 else INDEX
    b = RoutineBuilder(_name(symbol, places, "down" if descending else "up", *dtypes))
    b.skip()
    rows, n = b.numbers(2)
    b.skip(4)
    permutation = b.array(places)
    sorter = _Sorter(b, n, [b.array(dtype) for dtype in dtypes], descending)

    def row(number: Any) -> None:
        start = b.mul(number, n)
        sorter.order(start)

        def write(k: Any) -> None:
            b.store_at(permutation, b.add(start, k), b.convert(sorter.place(k), places))

        b.loop(0, n, write)

    b.loop(0, rows, row)
    return b.routine()


class _Sorter:
    """Orders the numbers 0 to n - 1 by what arrays have there.

    Args:
        b: builds the routine.
        n: how many there are.
        keys: the arrays, the most important one first.
        descending: whether the greatest comes first; equal ones stay in their order.
    """

    def __init__(self, b: Any, n: Any, keys: Sequence[Any], descending: bool) -> None:
        self._b, self._n, self._keys, self._descending = b, n, keys, descending
        self._places = b.buffer(INDEX, (b.mul(n, 2),), "places")
        # Where in `places` the result begins.
        self._begins = b.buffer(INDEX, (1,), "begins")

    def place(self, k: Any) -> Any:
        """The k-th number in order."""
        b = self._b
        return b.load_at(self._places, b.add(b.load_at(self._begins, 0), k))

    def order(self, start: Any) -> None:
        """Orders them by the elements of the arrays from a place on."""
        b, n = self._b, self._n
        b.loop(0, n, lambda k: b.store_at(self._places, k, k))

        def merge(width: Any, source: Any, target: Any) -> list[Any]:
            both = b.mul(width, 2)
            blocks = b.op("index_div", b.sub(b.add(n, both), 1), both)

            def block(number: Any) -> None:
                first = b.mul(number, both)
                middle = b.op("min", b.add(first, width), n)
                end = b.op("min", b.add(first, both), n)
                self._merged(start, first, middle, end, source, target)

            b.loop(0, blocks, block)
            return [both, target, source]

        def goes_on(width: Any, source: Any, target: Any) -> Any:
            return b.op("lt", width, n)

        found = b.while_(goes_on, merge, [b.index(1), b.index(0), n])[1]
        b.store_at(self._begins, 0, found)

    def _merged(
        self, start: Any, first: Any, middle: Any, end: Any, source: Any, target: Any
    ) -> None:
        b = self._b

        def at(k: Any) -> Any:
            return b.load_at(self._places, b.add(source, k))

        def step(k: Any, left: Any, right: Any) -> list[Any]:
            def compared() -> list[Any]:
                x, y = b.add(start, at(left)), b.add(start, at(right))
                return [b.op("not", self._before(y, x))]

            def undecided() -> list[Any]:
                return b.if_(b.op("lt", right, end), compared, lambda: [b.const(True, _BOOL)])

            (from_left,) = b.if_(
                b.op("lt", left, middle), undecided, lambda: [b.const(False, _BOOL)]
            )
            chosen = at(b.select(from_left, left, right))
            b.store_at(self._places, b.add(target, k), chosen)
            more = b.convert(from_left, INDEX)
            return [b.add(left, more), b.add(right, b.sub(b.index(1), more))]

        b.loop(first, end, step, [first, middle])

    def _before(self, i: Any, j: Any) -> Any:
        """Whether element i comes before element j, and is not equal to it."""
        i, j = (j, i) if self._descending else (i, j)
        b = self._b
        (less, greater), *others = [pair for key in self._keys for pair in _compared(b, key, i, j)]
        for next_less, next_greater in others:
            tied = b.op("not", b.op("or", less, greater))
            less = b.op("or", less, b.op("and", tied, next_less))
            greater = b.op("or", greater, b.op("and", tied, next_greater))
        return less


def _compared(b: Any, key: Any, i: Any, j: Any) -> list[tuple[Any, Any]]:
    """For each part of two elements whether it is less and whether it is greater."""
    x, y = b.load_at(key, i), b.load_at(key, j)
    pairs = [(x.re, y.re), (x.im, y.im)] if key.dtype.kind == "c" else [(x, y)]
    wide = {"bool": _U8, "float16": _F32, "bfloat16": _F32}.get(key.dtype.name)
    if wide is not None:
        pairs = [(b.convert(x, wide), b.convert(y, wide))]
    return [(_less(b, p, q), _less(b, q, p)) for p, q in pairs]


def _less(b: Any, x: Any, y: Any) -> Any:
    """NaN is greater than all others."""
    less = b.op("lt", x, y)
    if x.dtype.kind != "f":
        return less
    last = b.op("and", b.op("is_nan", y), b.op("not", b.op("is_nan", x)))
    return b.op("or", less, last)
