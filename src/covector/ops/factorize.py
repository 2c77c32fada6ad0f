"""Factorisations of small matrices as straight-line code on loop IR scalars.

Matrices are object arrays of scalars. Nothing branches, so that many matrices can be factorised at
once in the lanes of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.loopir.ir import ComplexValue

Array = np.ndarray[Any, Any]


def conjugate_value(builder: Any, x: Any) -> Any:
    """The complex conjugate of a scalar."""
    return builder.op("conj", x) if type(x) is ComplexValue else x


def _real(x: Any) -> Any:
    return x.re if type(x) is ComplexValue else x


def _minus_product(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """`x - y * z`, perhaps rounded once."""
    if type(x) is ComplexValue:
        return builder.op("sub", x, builder.op("mul", y, z))
    return builder.op("sub", x, builder.op("mul", y, z, attr="contract"), attr="contract")


def _times_real(builder: Any, x: Any, factor: Any) -> Any:
    if type(x) is ComplexValue:
        return builder.complex(builder.op("mul", x.re, factor), builder.op("mul", x.im, factor))
    return builder.op("mul", x, factor)


def cholesky_small(builder: Any, a: Array) -> Array:
    """The Cholesky factor of a matrix given by its lower triangle; NaN if there is none."""
    n, dtype = len(a), a[0, 0].dtype
    factor = np.full((n, n), builder.const(0, dtype), object)
    ok: Any = None
    for j in range(n):
        rest = _real(a[j, j])
        for k in range(j):
            x = factor[j, k]
            for part in (x.re, x.im) if type(x) is ComplexValue else (x,):
                rest = _minus_product(builder, rest, part, part)
        positive = builder.op("gt", rest, 0.0)
        ok = positive if ok is None else builder.op("and", ok, positive)
        root = builder.op("sqrt", rest)
        inverse = builder.op("div", builder.const(1, root.dtype), root)
        factor[j, j] = builder.complex(root, 0.0) if dtypes.is_complex(dtype) else root
        for i in range(j + 1, n):
            entry = a[i, j]
            for k in range(j):
                conjugated = conjugate_value(builder, factor[j, k])
                entry = _minus_product(builder, entry, factor[i, k], conjugated)
            factor[i, j] = _times_real(builder, entry, inverse)
    nan = builder.const(complex(np.nan, np.nan) if dtypes.is_complex(dtype) else np.nan, dtype)
    for place, value in np.ndenumerate(factor):
        factor[place] = builder.select(ok, value, nan)
    return factor


def solve_small(builder: Any, a: Array, forward: bool, unit: bool) -> Callable[[Array], Array]:
    """Substitution with a triangular matrix.

    Args:
        builder: of loop IR.
        a: the matrix, of which one triangle is read.
        forward: whether that is the lower one.
        unit: whether its diagonal is taken as ones.

    Returns:
        A function from a right-hand side to the solution.
    """
    n = len(a)
    order = range(n) if forward else range(n - 1, -1, -1)
    inverses: list[Any] = [None] * n
    if not unit:
        one = builder.const(1, a[0, 0].dtype)
        inverses = [builder.op("div", one, a[i, i]) for i in range(n)]

    def solve(known: Array) -> Array:
        solution = np.empty(n, object)
        done: list[int] = []
        for i in order:
            rest = known[i]
            for k in done:
                rest = _minus_product(builder, rest, a[i, k], solution[k])
            solution[i] = rest if unit else builder.op("mul", rest, inverses[i])
            done.append(i)
        return solution

    return solve


def taken_small(builder: Any, column: Array, rows: Array) -> Array:
    """The elements of a column whose numbers are given: chosen, not looked up in memory."""
    taken = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        value = column[0]
        for j in range(1, len(column)):
            value = builder.select(builder.op("eq", row, j), column[j], value)
        taken[i] = value
    return taken


def spread_small(builder: Any, column: Array, rows: Array) -> Array:
    """The inverse of `taken_small` where `rows` is a permutation."""
    spread = np.empty(len(rows), object)
    for j in range(len(rows)):
        value = column[0]
        for i in range(1, len(rows)):
            value = builder.select(builder.op("eq", rows[i], j), column[i], value)
        spread[j] = value
    return spread


def lu_small(builder: Any, a: Array) -> tuple[Array, Array, Array]:
    """Gaussian elimination with row exchanges.

    Returns:
        L (without its diagonal of ones) and U in one matrix, the row each row was exchanged with,
        and the original number of each row.
    """
    m, n = a.shape
    a = a.copy()
    rows = np.empty(m, object)
    rows[:] = [builder.const(i, dtypes.int32) for i in range(m)]
    pivots = np.empty(min(m, n), object)
    for k in range(min(m, n)):
        pivots[k] = chosen = _largest(builder, a[k:, k], k)
        is_chosen = [builder.op("eq", chosen, i) for i in range(k + 1, m)]
        for column in (*[a[:, j] for j in range(n)], rows):
            _exchange(builder, column, k, is_chosen)
        _eliminate(builder, a, k)
    return a, pivots, rows


def _largest(builder: Any, column: Array, first: int) -> Any:
    """The number of the first row of the largest entry, in LAPACK's measure."""
    best = _magnitude(builder, column[0])
    row = builder.const(first, dtypes.int32)
    for i, entry in enumerate(column[1:], first + 1):
        magnitude = _magnitude(builder, entry)
        larger = builder.op("gt", magnitude, best)
        best = builder.select(larger, magnitude, best)
        row = builder.select(larger, builder.const(i, dtypes.int32), row)
    return row


def _magnitude(builder: Any, x: Any) -> Any:
    if type(x) is ComplexValue:
        return builder.op("add", builder.op("abs", x.re), builder.op("abs", x.im))
    return builder.op("abs", x)


def _exchange(builder: Any, column: Array, k: int, is_chosen: Sequence[Any]) -> None:
    """Exchanges entry `k` of a column with the chosen one after it, if one is."""
    top = found = column[k]
    for i, here in enumerate(is_chosen, k + 1):
        found = builder.select(here, column[i], found)
        column[i] = builder.select(here, top, column[i])
    column[k] = found


def _eliminate(builder: Any, a: Array, k: int) -> None:
    m, n = a.shape
    pivot = a[k, k]
    singular = builder.op("eq", pivot, builder.const(0, pivot.dtype))
    for i in range(k + 1, m):
        # All entries below a pivot of zero are zero, too.
        factor = builder.select(singular, a[i, k], builder.op("div", a[i, k], pivot))
        a[i, k] = factor
        for j in range(k + 1, n):
            a[i, j] = _minus_product(builder, a[i, j], factor, a[k, j])
