"""Products and factors of matrices, written to be short. All are row-major.

Names end with the short name of an element type. Each function returns a status, 0 if all is well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector_wasm.routines import STATUS, Routine, RoutineBuilder

_DTYPES = {"f32": "float32", "f64": "float64", "c64": "complex64", "c128": "complex128"}


_ROWS, _DEPTH, _WIDTH = 6, 128, 64
"""Of products: rows that are computed together, and the size of tiles of the second matrix."""


def make(symbol: str, args: Sequence[Any]) -> Routine:
    """The function with a name of `FUNCTIONS`."""
    rule, dtype = FUNCTIONS[symbol]
    b = RoutineBuilder(symbol)
    return rule(b, np.dtype(dtype))


def _is_complex(dtype: Any) -> bool:
    return dtype.kind == "c"


def _conjugate(b: Any, x: Any) -> Any:
    return b.complex(x.re, b.op("neg", x.im)) if _is_complex(x.dtype) else x


def _loaded(b: Any, matrix: Any, offset: Any, conjugated: Any) -> Any:
    """An element, or its conjugate if a condition holds."""
    x = b.load_at(matrix, offset)
    if not _is_complex(x.dtype):
        return x
    return b.complex(x.re, b.select(conjugated, b.op("neg", x.im), x.im))


def _gemm(b: Any, dtype: Any) -> Routine:
    """The m x n matrix c = op(a) op(b); op transposes if its flag is 1, and conjugates too if 2.

    Tiles of the second matrix are copied to where they are contiguous and stay in the cache.
    """
    m, n, k = b.numbers(3)
    a, lda = b.array(dtype), b.number()
    y, ldb = b.array(dtype), b.number()
    c, ldc = b.array(dtype), b.number()
    op_a, op_b = b.numbers(2)
    tile = b.buffer(dtype, (_DEPTH * _WIDTH,), "tile")
    one = b.index(1)
    row, down = (b.select(b.op("eq", op, 0), ld, one) for op, ld in ((op_a, lda), (op_b, ldb)))
    column, across = (b.select(b.op("eq", op, 0), one, ld) for op, ld in ((op_a, lda), (op_b, ldb)))

    def clear(i: Any) -> None:
        start = b.mul(i, ldc)
        b.loop(0, n, lambda j: b.store_at(c, b.add(start, j), b.const(0, dtype)), kind="simd")

    def copied(left: Any, top: Any, width: Any, depth: Any) -> None:
        def line(l: Any) -> None:
            start = b.mul(b.add(top, l), down)

            def element(j: Any) -> None:
                place = b.add(start, b.mul(b.add(left, j), across))
                x = _loaded(b, y, place, b.op("eq", op_b, 2))
                b.store_at(tile, b.add(b.mul(l, _WIDTH), j), x)

            b.loop(0, width, element)

        b.loop(0, depth, line)

    def added(first: Any, many: int, left: Any, top: Any, width: Any, depth: Any) -> None:
        """To some rows, so that what is loaded of the tile serves all of them."""
        rows = [b.add(first, r) for r in range(many)]
        starts = [b.add(b.mul(i, row), b.mul(top, column)) for i in rows]
        ends = [b.add(b.mul(i, ldc), left) for i in rows]

        def element(j: Any) -> None:
            def term(l: Any, *sums: Any) -> list[Any]:
                z, place = b.load_at(tile, b.add(b.mul(l, _WIDTH), j)), b.mul(l, column)
                xs = [_loaded(b, a, b.add(s, place), b.op("eq", op_a, 2)) for s in starts]
                return [b.add(s, b.mul(x, z)) for x, s in zip(xs, sums, strict=True)]

            before = [b.load_at(c, b.add(end, j)) for end in ends]
            for end, total in zip(ends, b.loop(0, depth, term, before), strict=True):
                b.store_at(c, b.add(end, j), total)

        b.loop(0, width, element, kind="simd")

    def tiles(left: Any) -> None:
        width = b.op("min", b.sub(n, left), _WIDTH)

        def by(top: Any) -> None:
            depth = b.op("min", b.sub(k, top), _DEPTH)
            copied(left, top, width, depth)
            blocks = b.mul(b.op("index_div", m, b.index(_ROWS)), _ROWS)
            b.loop(0, blocks, lambda i: added(i, _ROWS, left, top, width, depth), step=_ROWS)
            b.loop(blocks, m, lambda i: added(i, 1, left, top, width, depth))

        b.loop(0, k, by, step=_DEPTH)

    b.loop(0, m, clear)
    b.loop(0, n, tiles, step=_WIDTH)
    return b.routine()


def _trsm(b: Any, dtype: Any) -> Routine:
    """Solves op(a) x = b, or x op(a) = b if `right`, for the m x n matrix b in place.

    The matrix a is triangular; its other triangle, and its diagonal if `unit`, is not read.
    """
    right, lower, op, unit, m, n = [*b.numbers(6)]
    a, lda = b.array(dtype), b.number()
    y, ldb = b.array(dtype), b.number()
    zero, one = b.index(0), b.index(1)
    is_right, is_unit = b.op("ne", right, 0), b.op("ne", unit, 0)
    turned = b.op("ne", b.op("ne", op, 0), is_right)
    forwards = b.op("ne", b.op("ne", lower, 0), turned)
    row, column = b.select(turned, one, lda), b.select(turned, lda, one)
    size, others = b.select(is_right, n, m), b.select(is_right, m, n)
    down, across = b.select(is_right, one, ldb), b.select(is_right, ldb, one)
    conjugated = b.op("eq", op, 2)

    def solved(j: Any) -> None:
        start = b.mul(j, across)

        def step(number: Any) -> None:
            i = b.select(forwards, number, b.sub(b.sub(size, 1), number))
            line, place = b.mul(i, row), b.add(start, b.mul(i, down))

            def less(k: Any, total: Any) -> list[Any]:
                x = _loaded(b, a, b.add(line, b.mul(k, column)), conjugated)
                z = b.load_at(y, b.add(start, b.mul(k, down)))
                return [b.sub(total, b.mul(x, z))]

            first = b.select(forwards, zero, b.add(i, 1))
            (total,) = b.loop(first, b.select(forwards, i, size), less, [b.load_at(y, place)])

            def divided() -> list[Any]:
                diagonal = _loaded(b, a, b.add(line, b.mul(i, column)), conjugated)
                return [b.op("div", total, diagonal)]

            (total,) = b.if_(is_unit, lambda: [total], divided)
            b.store_at(y, place, total)

        b.loop(zero, size, step)

    b.loop(zero, others, solved)
    return b.routine()


def _potrf(b: Any, dtype: Any) -> Routine:
    """The Cholesky factor in place, in one triangle; the other one is not touched.

    The status is 1 + the first row whose leading minor is not positive.
    """
    n, a, lda, lower = b.number(), b.array(dtype), b.number(), b.number()
    zero, one = b.index(0), b.index(1)
    is_lower = b.op("ne", lower, 0)
    row, column = b.select(is_lower, lda, one), b.select(is_lower, one, lda)

    def at(i: Any, j: Any) -> Any:
        return b.add(b.mul(i, row), b.mul(j, column))

    def inner(i: Any, j: Any) -> Any:
        """An element less the products of what is in front of it."""

        def less(k: Any, total: Any) -> list[Any]:
            x, z = b.load_at(a, at(i, k)), _conjugate(b, b.load_at(a, at(j, k)))
            return [b.sub(total, b.mul(x, z))]

        return b.loop(zero, j, less, [b.load_at(a, at(i, j))])[0]

    def factored(j: Any) -> list[Any]:
        square = inner(j, j)
        square = square.re if _is_complex(dtype) else square

        def below() -> list[Any]:
            root = b.op("sqrt", square)
            pivot = b.complex(root, 0.0) if _is_complex(dtype) else root
            b.store_at(a, at(j, j), pivot)
            b.loop(
                b.add(j, 1),
                n,
                lambda i: b.store_at(a, at(i, j), b.op("div", inner(i, j), pivot)),
            )
            return [b.add(j, 1), b.const(0, STATUS)]

        def stopped() -> list[Any]:
            return [n, b.convert(b.add(j, 1), STATUS)]

        return b.if_(b.op("gt", square, 0.0), below, stopped)

    _, status = b.while_(
        lambda j, status: b.op("lt", j, n),
        lambda j, status: factored(j),
        [zero, b.const(0, STATUS)],
    )
    return b.routine(status)


def _getrf(b: Any, dtype: Any) -> Routine:
    """P a = L U in place, with a unit diagonal in L; row i was exchanged with row pivots[i].

    The status is 1 + the place of the first pivot that is 0.
    """
    m, n, a, lda, pivots = b.number(), b.number(), b.array(dtype), b.number(), b.array(STATUS)
    part = b.const(0, dtype).re.dtype if _is_complex(dtype) else dtype

    def at(i: Any, j: Any) -> Any:
        return b.add(b.mul(i, lda), j)

    def size(x: Any) -> Any:
        if not _is_complex(dtype):
            return b.op("abs", x)
        return b.add(b.op("abs", x.re), b.op("abs", x.im))

    def column(j: Any, status: Any) -> list[Any]:
        def larger(i: Any, most: Any, best: Any) -> list[Any]:
            found = size(b.load_at(a, at(i, j)))
            is_larger = b.op("gt", found, most)
            return [b.select(is_larger, found, most), b.select(is_larger, i, best)]

        most, best = b.loop(j, m, larger, [b.const(-1, part), j])
        b.store_at(pivots, j, b.convert(best, STATUS))

        def exchange(k: Any) -> None:
            x, y = b.load_at(a, at(j, k)), b.load_at(a, at(best, k))
            b.store_at(a, at(j, k), y)
            b.store_at(a, at(best, k), x)

        b.if_(b.op("ne", best, j), lambda: b.loop(0, n, exchange) and None, lambda: None)

        def eliminated(i: Any) -> None:
            factor = b.op("div", b.load_at(a, at(i, j)), b.load_at(a, at(j, j)))
            b.store_at(a, at(i, j), factor)

            def less(k: Any) -> None:
                product = b.mul(factor, b.load_at(a, at(j, k)))
                b.store_at(a, at(i, k), b.sub(b.load_at(a, at(i, k)), product))

            b.loop(b.add(j, 1), n, less)

        is_zero = b.op("eq", most, 0.0)
        b.if_(is_zero, lambda: None, lambda: b.loop(b.add(j, 1), m, eliminated) and None)
        first = b.op("and", is_zero, b.op("eq", status, 0))
        return [b.select(first, b.convert(b.add(j, 1), STATUS), status)]

    (status,) = b.loop(0, b.op("min", m, n), column, [b.const(0, STATUS)])
    return b.routine(status)


_RULES: dict[str, Callable[[Any, Any], Routine]] = {
    "gemm": _gemm,
    "trsm": _trsm,
    "potrf": _potrf,
    "getrf": _getrf,
}

FUNCTIONS = {
    f"cv_{name}_{short}": (rule, dtype)
    for name, rule in _RULES.items()
    for short, dtype in _DTYPES.items()
}
"""What makes each function, and of which elements."""
