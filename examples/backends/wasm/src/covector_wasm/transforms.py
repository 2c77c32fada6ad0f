"""Fourier transforms of any length, in double precision; a factor p of the length costs p."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector_wasm.helpers import F64
from covector_wasm.routines import Routine, RoutineBuilder

_C128 = np.dtype(np.complex128)


def make(symbol: str, args: Sequence[Any]) -> Routine:
    """The function with a name of `FUNCTIONS`."""
    rule, dtype = FUNCTIONS[symbol]
    b = RoutineBuilder(symbol)
    b.skip()  # the context
    return rule(b, np.dtype(dtype))


class _Work:
    """Memory for transforms of n numbers, and what does them.

    Args:
        b: builds the routine.
        n: how many.
        inverse: whether to transform back, without the factor; an index or a bool of Python.
    """

    def __init__(self, b: Any, n: Any, inverse: Any) -> None:
        self._b, self._n = b, n
        self.values = b.buffer(_C128, (b.mul(n, 2),), "values")
        self._roots = b.buffer(_C128, (n,), "roots")
        turn = b.op("div", b.const(2 * math.pi, F64), b.convert(n, F64))
        if isinstance(inverse, bool):
            turn = turn if inverse else b.op("neg", turn)
        else:
            turn = b.select(b.op("ne", inverse, 0), turn, b.op("neg", turn))

        def root(k: Any) -> None:
            angle = b.mul(turn, b.convert(k, F64))
            b.store(self._roots, (k,), b.complex(b.op("cos", angle), b.op("sin", angle)))

        b.loop(0, n, root)

    def transformed(self) -> Any:
        """Transforms the first n of `values`; where the result begins there.

        Transforms of the numbers that are n / done apart become ones of p times as many.
        """
        b, n = self._b, self._n

        def stage(done: Any, source: Any, target: Any) -> list[Any]:
            rest = b.op("index_div", n, done)
            p = self._least_factor(rest)
            apart = b.op("index_div", rest, p)
            many = b.mul(done, p)
            b.loop(0, apart, lambda q: self._combined(q, done, p, apart, many, source, target))
            return [many, target, source]

        goes_on = lambda done, source, target: b.op("lt", done, n)  # noqa: E731  # as a carry
        return b.while_(goes_on, stage, [b.index(1), b.index(0), n])[1]

    def _combined(
        self, q: Any, done: Any, p: Any, apart: Any, many: Any, source: Any, target: Any
    ) -> None:
        b = self._b

        def output(k: Any) -> None:
            inside = b.op("index_rem", k, done)

            def term(r: Any, total: Any) -> list[Any]:
                place = b.mul(b.add(q, b.mul(r, apart)), done)
                x = b.load_at(self.values, b.add(b.add(source, place), inside))
                turns = b.mul(b.op("index_rem", b.mul(r, k), many), apart)
                return [b.add(total, b.mul(x, b.load_at(self._roots, turns)))]

            (total,) = b.loop(0, p, term, [b.const(0, _C128)])
            b.store_at(self.values, b.add(b.add(target, b.mul(q, many)), k), total)

        b.loop(0, many, output)

    def _least_factor(self, n: Any) -> Any:
        b = self._b

        def goes_on(p: Any) -> Any:
            small = b.op("le", b.mul(p, p), n)
            return b.op("and", small, b.op("ne", b.op("index_rem", n, p), 0))

        (p,) = b.while_(goes_on, lambda p: [b.add(p, 1)], [b.index(2)])
        return b.select(b.op("gt", b.mul(p, p), n), n, p)


def _narrowed(b: Any, x: Any, factor: Any, dtype: Any) -> Any:
    scaled = b.complex(b.mul(x.re, factor), b.mul(x.im, factor))
    return b.convert(scaled, dtype)


def _fft(b: Any, dtype: Any) -> Routine:
    """In place along the middle axis; back, divided by n, if `inverse`."""
    outer, n, inner = b.numbers(3)
    data, inverse = b.array(dtype), b.number()
    work = _Work(b, n, inverse)
    one = b.const(1.0, F64)
    factor = b.select(b.op("ne", inverse, 0), b.op("div", one, b.convert(n, F64)), one)

    def row(number: Any) -> None:
        block, column = b.op("index_div", number, inner), b.op("index_rem", number, inner)
        start = b.add(b.mul(b.mul(block, n), inner), column)

        def place(k: Any) -> Any:
            return b.add(start, b.mul(k, inner))

        def read(k: Any) -> None:
            b.store_at(work.values, k, b.convert(b.load_at(data, place(k)), _C128))

        b.loop(0, n, read)
        found = work.transformed()

        def write(k: Any) -> None:
            x = b.load_at(work.values, b.add(found, k))
            b.store_at(data, place(k), _narrowed(b, x, factor, dtype))

        b.loop(0, n, write)

    b.loop(0, b.mul(outer, inner), row)
    return b.routine()


def _rfft(b: Any, dtype: Any) -> Routine:
    """From rows of n real numbers to rows of n / 2 + 1 complex ones."""
    complex_type = np.dtype(np.complex64 if dtype.itemsize == 4 else np.complex128)
    rows, n = b.numbers(2)
    source, target = b.array(dtype), b.array(complex_type)
    work = _Work(b, n, False)
    many = b.add(b.op("index_div", n, b.index(2)), 1)

    def row(number: Any) -> None:
        def read(k: Any) -> None:
            x = b.convert(b.load_at(source, b.add(b.mul(number, n), k)), F64)
            b.store_at(work.values, k, b.complex(x, 0.0))

        b.loop(0, n, read)
        found = work.transformed()

        def write(k: Any) -> None:
            x = b.load_at(work.values, b.add(found, k))
            b.store_at(target, b.add(b.mul(number, many), k), b.convert(x, complex_type))

        b.loop(0, many, write)

    b.loop(0, rows, row)
    return b.routine()


def _irfft(b: Any, dtype: Any) -> Routine:
    """Back, divided by n: the other half of each row is the conjugate of this one."""
    real_type = np.dtype(np.float32 if dtype.itemsize == 8 else np.float64)
    rows, n = b.numbers(2)
    source, target = b.array(dtype), b.array(real_type)
    work = _Work(b, n, True)
    half = b.op("index_div", n, b.index(2))
    factor = b.op("div", b.const(1.0, F64), b.convert(n, F64))

    def row(number: Any) -> None:
        start = b.mul(number, b.add(half, 1))

        def read(k: Any) -> None:
            mirrored = b.op("gt", k, half)
            place = b.select(mirrored, b.sub(n, k), k)
            x = b.convert(b.load_at(source, b.add(start, place)), _C128)
            own = b.op("eq", b.op("index_rem", b.mul(place, 2), n), 0)
            im = b.select(own, b.const(0.0, F64), b.select(mirrored, b.op("neg", x.im), x.im))
            b.store_at(work.values, k, b.complex(x.re, im))

        b.loop(0, n, read)
        found = work.transformed()

        def write(k: Any) -> None:
            x = b.mul(b.load_at(work.values, b.add(found, k)).re, factor)
            b.store_at(target, b.add(b.mul(number, n), k), b.convert(x, real_type))

        b.loop(0, n, write)

    b.loop(0, rows, row)
    return b.routine()


FUNCTIONS: dict[str, tuple[Callable[[Any, Any], Routine], str]] = {
    "cv_fft_c64": (_fft, "complex64"),
    "cv_fft_c128": (_fft, "complex128"),
    "cv_rfft_f32": (_rfft, "float32"),
    "cv_rfft_f64": (_rfft, "float64"),
    "cv_irfft_c64": (_irfft, "complex64"),
    "cv_irfft_c128": (_irfft, "complex128"),
}
"""What makes each function, and of which elements."""
