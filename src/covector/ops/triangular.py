"""Cholesky factors, and systems of equations with triangular matrices.

Names, parameters and meanings are those of JAX's linear algebra primitives.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from covector.core.avals import Aval, Zero
from covector.core.trace import aval_of
from covector.loopir.costs import product_cost
from covector.loopir.tensor import Lowering
from covector.ops import common
from covector.ops import indices as ix
from covector.ops import matrices as mx
from covector.ops.arithmetic import mul, neg
from covector.ops.common import batch_at_front, kind_of
from covector.ops.compare import select_n
from covector.ops.factorize import cholesky_small, conjugate_value, solve_small
from covector.ops.matrix_primitives import (
    SUFFIX,
    call_library,
    check_batches,
    check_matrices,
    column_lane,
    each_matrix,
    is_empty,
    is_small,
    library,
    matrix_primitive,
    nan_of,
    pointer,
    shared_matrix_batch,
    spell_out,
    spoil,
    substitute,
)
from covector.ops.product_tiles import extent_at, strip_side

Array = np.ndarray[Any, Any]

# --- cholesky ------------------------------------------------------------------------------------


def _cholesky_shape(x: Aval) -> Aval:
    check_matrices("cholesky", x, square=True)
    return x.strong()


def _cholesky_evaluate(x: Array) -> Any:
    try:
        return np.linalg.cholesky(x)
    except np.linalg.LinAlgError:
        pass
    factorise = library("potrf", x)

    def factor(matrix: Array) -> list[Array]:
        found, info = factorise(matrix, lower=1, clean=1)
        return [found if info == 0 else np.full_like(matrix, nan_of(x.dtype))]

    return each_matrix(factor, [x], [2], [(x.shape[-2:], x.dtype)])[0]


def _cholesky_jvp(ctx: Any, primals: Any, tangents: Any) -> Any:
    # Iain Murray, "Differentiation of the Cholesky decomposition" (2016), section 3.1.
    factor = cholesky(primals[0])
    middle = solve(factor, tangents[0], left_side=False, transpose_a=True, conjugate_a=True)
    middle = solve(factor, middle, left_side=True)
    half = mx.scaled(mx.identity_like(middle), 0.5)
    weights = select_n(mx.lower_mask(middle, -1), half, common.full(aval_of(middle), 1))
    return factor, mx.matmul(factor, mul(middle, weights))


def solve(a: Any, b: Any, *, left_side: bool, **flags: bool) -> Any:
    """`triangular_solve` with a lower triangle; flags default to False."""
    params = {"lower": True, "transpose_a": False, "conjugate_a": False, "unit_diagonal": False}
    return triangular_solve(a, b, left_side=left_side, **{**params, **flags})


def _cholesky_lower(b: Lowering, x: Any) -> Any:
    n = x.shape[-1]
    batch = x.shape[:-2]
    if is_empty(x.shape):
        return x
    if is_small(n):
        builder = b.builder

        def compute(matrix: Array) -> list[Array]:
            return [cholesky_small(builder, matrix)]

        return spell_out(b, [x], batch, [((n, n), x.dtype)], compute)[0]
    out = b.update_in_place(x)
    symbol = f"cv_potrf_{SUFFIX[x.dtype]}"

    def factor(index: tuple[Any, ...]) -> None:
        ok = call_library(b, symbol, n, pointer(b, out, index), n, 1)
        _clear_above(b, out, index, n)
        spoil(b, ok, index, out)

    b.for_each_apart(batch, factor)
    return out


def _clear_above(b: Lowering, out: Any, batch: tuple[Any, ...], n: int) -> None:
    builder = b.builder
    zero = builder.const(0, out.dtype)

    def clear_row(i: Any) -> None:
        def clear(j: Any) -> None:
            builder.store(out.buffer, (*batch, i, j), zero)

        builder.loop(builder.op("add", i, 1), n, clear)

    builder.loop(0, n, clear_row)


cholesky = matrix_primitive(
    "cholesky",
    cores=(2,),
    shape=_cholesky_shape,
    evaluate=_cholesky_evaluate,
    jvp=_cholesky_jvp,
    lower=_cholesky_lower,
)
"""The lower triangular L with L L^H = x, from the lower triangle of x; NaN where there is none."""

# --- triangular_solve ----------------------------------------------------------------------------


def _solve_shape(
    a: Aval,
    b: Aval,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> Aval:
    check_matrices("triangular_solve", a, b, square=True)
    check_batches("triangular_solve", (a, b), (2, 2))
    if a.shape[-1] != b.shape[-2 if left_side else -1]:
        side = "rows" if left_side else "columns"
        raise ValueError(
            f"triangular_solve needs as many {side} of the right-hand side as the matrix has, "
            f"got {a} and {b} with left_side={left_side}"
        )
    return b.strong()


def _solve_evaluate(
    a: Array,
    b: Array,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> Any:
    if b.size == 0:
        return b.copy()
    if conjugate_a and not transpose_a:
        a, conjugate_a = a.conj(), False
    trsm = library("trsm", a)
    trans = 0 if not transpose_a else 2 if conjugate_a else 1

    def one(matrix: Array, rhs: Array) -> list[Array]:
        return [
            trsm(
                1,
                matrix,
                rhs,
                side=int(not left_side),
                lower=int(lower),
                trans_a=trans,
                diag=int(unit_diagonal),
            )
        ]

    return each_matrix(one, [a, b], [2, 2], [(b.shape[-2:], b.dtype)])[0]


def _solve_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    a, b = primals
    out = triangular_solve(a, b, **params)
    tangent: Any = Zero(aval_of(out).tangent())
    if type(tangents[1]) is not Zero:
        tangent = triangular_solve(a, tangents[1], **params)
    if type(tangents[0]) is not Zero:
        change = _matrix_tangent(tangents[0], **params)
        tangent = common.add_tangents(tangent, _moved_solution(a, out, change, params))
    return out, tangent


def _matrix_tangent(
    t: Any,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> Any:
    """Minus the tangent of op(a), of which only the triangle that is read counts."""
    k = int(unit_diagonal)
    t = neg(mx.lower_triangle(t, -k) if lower else mx.upper_triangle(t, k))
    if transpose_a:
        t = mx.transposed(t)
    return mx.conjugate(t) if conjugate_a else t


def _moved_solution(a: Any, x: Any, change: Any, params: dict[str, Any]) -> Any:
    """How the solution `x` moves with the matrix: solving costs as much as multiplying."""
    rows, columns = mx.shape_of(x)[-2:]
    if params["left_side"]:
        if _greater(rows, columns):
            return triangular_solve(a, mx.matmul(change, x), **params)
        return mx.matmul(triangular_solve(a, change, **params), x)
    if _greater(columns, rows):
        return triangular_solve(a, mx.matmul(x, change), **params)
    return mx.matmul(x, triangular_solve(a, change, **params))


def _greater(m: Any, n: Any) -> bool:
    return type(m) is not int or type(n) is not int or m > n


def _solve_transpose(ctx: Any, ct: Any, a: Any, b: Any, **params: Any) -> list[Any]:
    params = {**params, "transpose_a": not params["transpose_a"]}
    return [None, triangular_solve(a, ct, **params)]


def _solve_batch(ctx: Any, args: Any, dims: Any, **params: Any) -> Any:
    a, b = args
    if dims[0] is not None:
        a = batch_at_front(a, dims[0], ctx.axis_size)
        return triangular_solve(a, batch_at_front(b, dims[1], ctx.axis_size), **params), 0
    return shared_matrix_batch(triangular_solve, (a, b), dims[1], ctx, **params)


def _solve_lanes(dims: Any, *avals: Aval, left_side: bool, **params: Any) -> int | None:
    return column_lane(dims, avals, (2, 2), left_side)


def _solve_lower(
    b: Lowering,
    a: Any,
    rhs: Any,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> Any:
    if is_empty(rhs.shape):
        return rhs
    builder, n = b.builder, a.shape[-1]
    conjugate_a = conjugate_a and kind_of(a.dtype) == "c"
    if is_small(n):
        return _solve_small(b, a, rhs, left_side, lower, transpose_a, conjugate_a, unit_diagonal)
    if conjugate_a and not transpose_a:
        at = a.at
        a = b.lazy(a.shape, a.dtype, lambda i: conjugate_value(builder, at(i)), a.cost + 1)
    out = b.update_in_place(rhs)
    matrix = b.stored(a)
    symbol = f"cv_trsm_{SUFFIX[a.dtype]}"
    trans = 0 if not transpose_a else 2 if conjugate_a else 1
    flags = (int(not left_side), int(lower), trans, int(unit_diagonal))
    rows, columns = rhs.shape[-2:]
    free = columns if left_side else rows  # the axis of right-hand sides
    side = _strip(rows, columns, n, free, a.dtype)

    def one(index: tuple[Any, ...]) -> None:
        *batch, number = index
        start = ix.mul(builder, number, side or 0)
        count = extent_at(builder, free, side, start) if side else free
        target, first = pointer(b, out, batch)
        first = ix.add(builder, first, start if left_side else ix.mul(builder, start, columns))
        sizes = (rows, count) if left_side else (count, columns)
        place = pointer(b, matrix, batch), n, (target, first), columns
        call_library(b, symbol, *flags, *sizes, *place)

    strips = -(-free // side) if side else 1
    b.for_each_apart((*rhs.shape[:-2], strips), one)
    return out


def _strip(rows: Any, columns: Any, n: Any, free: Any, dtype: Any) -> int | None:
    """For how many right-hand sides one call of BLAS solves; `None` for all of them."""
    if any([type(extent) is not int for extent in (rows, columns, n)]):
        return None
    return strip_side(free, product_cost(rows, columns, n, SUFFIX[dtype]))


def _solve_small(
    b: Lowering,
    a: Any,
    rhs: Any,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> Any:
    """For each column (or row) of the right-hand side, substitution spelled out."""
    builder = b.builder
    forward = lower != transpose_a if left_side else lower == transpose_a
    exchange = transpose_a == left_side

    def prepare(values: Array) -> Any:
        if conjugate_a:
            values = values.copy()
            for place, value in np.ndenumerate(values):
                values[place] = conjugate_value(builder, value)
        return solve_small(builder, values.T if exchange else values, forward, unit_diagonal)

    return substitute(b, [a], rhs, prepare, left_side)


triangular_solve = matrix_primitive(
    "triangular_solve",
    cores=(2, 2),
    shape=_solve_shape,
    evaluate=_solve_evaluate,
    jvp=_solve_jvp,
    transpose=_solve_transpose,
    batch=_solve_batch,
    lanes=_solve_lanes,
    lower=_solve_lower,
)
"""The X with op(a) X = b (or X op(a) = b without `left_side`); one triangle of `a` is read."""
