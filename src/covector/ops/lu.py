"""LU decomposition with row exchanges.

Names, parameters and meanings are those of JAX's linear algebra primitives.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval, Zero
from covector.core.primitive import unsupported
from covector.core.trace import aval_of
from covector.loopir.tensor import Lowering
from covector.ops import common
from covector.ops import matrices as mx
from covector.ops.arithmetic import add
from covector.ops.factorize import lu_small
from covector.ops.matrix_primitives import (
    SUFFIX,
    call_library,
    check_matrices,
    each_matrix,
    is_small,
    library,
    matrix_primitive,
    pointer,
    scratch,
    spell_out,
)
from covector.ops.shape import pad
from covector.ops.triangular import triangular_solve
from covector.ops.windows import as_value

Array = np.ndarray[Any, Any]


def smaller(m: Any, n: Any) -> Any:
    """The smaller of two extents; of symbolic ones, if they are equal.

    Raises:
        TypeError: if it depends on symbolic sizes.
    """
    if type(m) is int and type(n) is int:
        return min(m, n)
    if m == n:
        return m
    raise TypeError(
        f"a factorisation of {m} x {n} matrices has a size that depends on which is smaller; "
        "use concrete sizes"
    )


# --- lu ------------------------------------------------------------------------------------------


def _lu_shape(x: Aval) -> list[Aval]:
    check_matrices("lu", x)
    batch, (m, n) = x.shape[:-2], x.shape[-2:]
    return [
        x.strong(),
        Aval((*batch, smaller(m, n)), dtypes.int32),
        Aval((*batch, m), dtypes.int32),
    ]


def _lu_evaluate(x: Array) -> list[Any]:
    m, n = x.shape[-2:]
    rank = min(m, n)
    factorise = library("getrf", x) if x.size else None

    def factor(matrix: Array) -> list[Array]:
        found, pivots = matrix, np.zeros(0, np.int32)
        if factorise is not None:
            found, pivots, _ = factorise(matrix)
        rows = np.arange(m, dtype=np.int32)
        for i, j in enumerate(pivots[:rank]):
            rows[[i, j]] = rows[[j, i]]
        return [found, pivots[:rank], rows]

    results = [((m, n), x.dtype), ((rank,), np.int32), ((m,), np.int32)]
    return each_matrix(factor, [x], [2], results)


def _lu_jvp(ctx: Any, primals: Any, tangents: Any) -> Any:
    # With P A = L U and F = L^-1 P dA U^-1: dL is L times the strict lower triangle of F, dU is the
    # upper triangle times U (de Hoog, Anderssen, Lukas 2011). L and U are completed to be square.
    both, pivots, rows = lu(primals[0])
    m, n = mx.shape_of(both)[-2:]
    rank = smaller(m, n)
    unit_lower = _completed(mx.lower_triangle(mx.columns_of(both, 0, rank), -1), 0, m - rank)
    unit_lower = add(unit_lower, mx.identity_like(unit_lower))
    upper = _completed(mx.upper_triangle(mx.rows_of(both, 0, rank)), n - rank, 0)
    if rank != n:
        upper = add(upper, _tail_identity(upper, rank))
    flags = {"transpose_a": False, "conjugate_a": False}
    middle = triangular_solve(
        unit_lower,
        mx.take_rows(tangents[0], rows),
        left_side=True,
        lower=True,
        unit_diagonal=True,
        **flags,
    )
    middle = triangular_solve(
        upper, middle, left_side=False, lower=False, unit_diagonal=False, **flags
    )
    change = add(
        mx.matmul(unit_lower, mx.lower_triangle(middle, -1)),
        mx.matmul(mx.upper_triangle(middle), upper),
    )
    zeros = [Zero(aval_of(x).tangent()) for x in (pivots, rows)]
    return [both, pivots, rows], [change, *zeros]


def _completed(x: Any, rows: Any, columns: Any) -> Any:
    """Matrices with zero rows below and zero columns at the right."""
    if type(rows) is int and type(columns) is int and rows == 0 and columns == 0:
        return x
    config = [(0, 0, 0)] * (len(mx.shape_of(x)) - 2)
    return pad(x, mx.scalar(x.dtype, 0), padding_config=(*config, (0, rows, 0), (0, columns, 0)))


def _tail_identity(x: Any, first: Any) -> Any:
    """Ones on the main diagonals from place `first` on."""
    n = mx.shape_of(x)[-1]
    tail = mx.identity_like(common.zeros(Aval((n - first, n - first), x.dtype)))
    corner = pad(tail, mx.scalar(x.dtype, 0), padding_config=((first, 0, 0), (first, 0, 0)))
    shape = mx.shape_of(x)
    return mx.expand(corner, shape, (len(shape) - 2, len(shape) - 1)) if len(shape) > 2 else corner


def _lu_lower(b: Lowering, x: Any) -> list[Any]:
    batch, (m, n) = x.shape[:-2], x.shape[-2:]
    rank = min(m, n)
    small = [((m, n), x.dtype), ((rank,), dtypes.int32), ((m,), dtypes.int32)]
    if rank and is_small(max(m, n)):
        builder = b.builder
        return spell_out(b, [x], batch, small, partial(lu_small, builder))
    out = b.update_in_place(x)
    pivots, rows = (scratch(b, (*batch, *core), dtype) for core, dtype in small[1:])
    symbol = f"cv_getrf_{SUFFIX[x.dtype]}"

    def factor(index: tuple[Any, ...]) -> None:
        if rank:
            place = pointer(b, out, index), n, pointer(b, pivots, index)
            call_library(b, symbol, m, n, *place)
        permute_rows(b, pivots, rows, index, rank, m)

    b.for_each_apart(batch, factor)
    return [out, pivots, rows]


def permute_rows(
    b: Lowering, pivots: Any, rows: Any, batch: tuple[Any, ...], rank: int, m: int
) -> None:
    """Stores the permutation that a sequence of row exchanges makes."""
    builder = b.builder

    def number(i: Any) -> None:
        value = builder.convert(as_value(builder, i), dtypes.int32)
        builder.store(rows.buffer, (*batch, i), value)

    def exchange(i: Any) -> None:
        j = builder.convert(pivots.at((*batch, i)), np.dtype(np.int64))
        j = builder.op("max", builder.op("min", j, m - 1), 0)
        here, there = rows.at((*batch, i)), rows.at((*batch, j))
        builder.store(rows.buffer, (*batch, i), there)
        builder.store(rows.buffer, (*batch, j), here)

    builder.loop(0, m, number)
    builder.loop(0, rank, exchange)


lu = matrix_primitive(
    "lu",
    cores=(2,),
    shape=_lu_shape,
    evaluate=_lu_evaluate,
    jvp=_lu_jvp,
    lower=_lu_lower,
    results=3,
)
"""L (below the diagonal; its own is ones) and U in one matrix; pivots; permutation of the rows."""


def solve_system(a: Any, b: Any) -> Any:
    """The X with a X = b for square matrices, through `lu`."""
    both, _, rows = lu(a)
    flags = {"left_side": True, "transpose_a": False, "conjugate_a": False}
    middle = triangular_solve(both, mx.take_rows(b, rows), lower=True, unit_diagonal=True, **flags)
    return triangular_solve(both, middle, lower=False, unit_diagonal=False, **flags)


# --- lu_pivots_to_permutation --------------------------------------------------------------------


def _permutation_shape(pivots: Aval, *, permutation_size: Any) -> Aval:
    if pivots.dtype != dtypes.int32 or pivots.ndim < 1:
        raise TypeError(f"lu_pivots_to_permutation takes int32 pivots, got {pivots}")
    k = pivots.shape[-1]
    if type(k) is int and type(permutation_size) is int and k > permutation_size:
        raise ValueError(
            f"lu_pivots_to_permutation: {k} pivots exchange more than {permutation_size} rows"
        )
    return Aval((*pivots.shape[:-1], permutation_size), dtypes.int32)


def _permutation_evaluate(pivots: Array, *, permutation_size: int) -> Any:
    def permute(exchanged: Array) -> list[Array]:
        rows = np.arange(permutation_size, dtype=np.int32)
        for i, j in enumerate(exchanged.clip(0, permutation_size - 1)):
            rows[[i, j]] = rows[[j, i]]
        return [rows]

    return each_matrix(permute, [pivots], [1], [((permutation_size,), np.int32)])[0]


def _permutation_lower(b: Lowering, pivots: Any, *, permutation_size: int) -> Any:
    batch = pivots.shape[:-1]
    rows = b.new((*batch, permutation_size), dtypes.int32)
    known = b.stored(pivots)
    rank = pivots.shape[-1]
    b.for_each(batch, lambda index: permute_rows(b, known, rows, index, rank, permutation_size))
    return rows


lu_pivots_to_permutation = matrix_primitive(
    "lu_pivots_to_permutation",
    cores=(1,),
    shape=_permutation_shape,
    evaluate=_permutation_evaluate,
    jvp=unsupported("a permutation is made of integers"),
    lower=_permutation_lower,
)
"""The permutation of rows that a sequence of exchanges makes."""
