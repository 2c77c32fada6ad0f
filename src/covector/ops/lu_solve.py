"""Systems of equations whose matrix has been factorised already.

The solution is differentiated by what it solves, not through the factorisation: the derivative
costs one more solution with the same factors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval, Zero
from covector.core.trace import aval_of
from covector.loopir.tensor import Lowering
from covector.ops import common
from covector.ops import indices as ix
from covector.ops import matrices as mx
from covector.ops.arithmetic import neg
from covector.ops.common import batch_at_front
from covector.ops.factorize import solve_small, spread_small, taken_small
from covector.ops.gradient import stop_gradient
from covector.ops.lu import lu
from covector.ops.matrix_primitives import (
    check_batches,
    check_matrices,
    column_lane,
    is_empty,
    is_small,
    matrix_primitive,
    shared_matrix_batch,
    substitute,
)
from covector.ops.triangular import triangular_solve

Array = np.ndarray[Any, Any]


def _flags(lower: bool, transposed: bool) -> dict[str, bool]:
    return {
        "left_side": True,
        "lower": lower,
        "transpose_a": transposed,
        "conjugate_a": False,
        "unit_diagonal": lower,
    }


def _shape(a: Aval, factors: Aval, rows: Aval, b: Aval, *, transposed: bool) -> Aval:
    check_matrices("lu_solve", a, factors, b)
    check_batches("lu_solve", (a, factors, rows, b), (2, 2, 1, 2))
    n = a.shape[-1]
    wanted = (n, n)
    if a.shape[-2:] != wanted or factors.shape[-2:] != wanted or rows.shape[-1:] != (n,):
        raise ValueError(f"lu_solve takes square matrices, got {a}, {factors} and {rows}")
    if b.shape[-2] != n or rows.dtype != dtypes.int32:
        raise ValueError(f"lu_solve of {a} takes {n} rows and int32 numbers, got {b} and {rows}")
    return b.strong()


def _evaluate(a: Array, factors: Array, rows: Array, b: Array, *, transposed: bool) -> Any:
    solve = triangular_solve.evaluate
    order = rows[..., None]
    if not transposed:
        middle = solve(factors, np.take_along_axis(b, order, -2), **_flags(True, False))
        return solve(factors, middle, **_flags(False, False))
    middle = solve(factors, b, **_flags(False, True))
    out = np.empty_like(b)
    np.put_along_axis(out, order, solve(factors, middle, **_flags(True, True)), -2)
    return out


def _jvp(ctx: Any, primals: Any, tangents: Any, *, transposed: bool) -> Any:
    # The factors are a function of the matrix, whose tangent says it all.
    x = lu_solve(*primals, transposed=transposed)
    change, moved = tangents[3], tangents[0]
    if type(moved) is not Zero:
        moved = mx.transposed(moved) if transposed else moved
        change = common.add_tangents(change, neg(mx.matmul(moved, x)))
    if type(change) is Zero:
        return x, Zero(aval_of(x).tangent())
    return x, lu_solve(*primals[:3], change, transposed=transposed)


def _transpose(
    ctx: Any, ct: Any, a: Any, factors: Any, rows: Any, b: Any, *, transposed: bool
) -> list[Any]:
    return [None, None, None, lu_solve(a, factors, rows, ct, transposed=not transposed)]


def _batch(ctx: Any, args: Any, dims: Any, *, transposed: bool) -> Any:
    if any(d is not None for d in dims[:3]):
        args = [batch_at_front(x, d, ctx.axis_size) for x, d in zip(args, dims, strict=True)]
        return lu_solve(*args, transposed=transposed), 0
    return shared_matrix_batch(lu_solve, args, dims[3], ctx, transposed=transposed)


def _lanes(dims: Any, *avals: Aval, transposed: bool) -> int | None:
    return column_lane(dims, avals, (2, 2, 1, 2), left_side=True)


def _solver(
    builder: Any, transposed: bool, factors: Array, rows: Array
) -> Callable[[Array], Array]:
    """The solution for a column, from all elements of small factors."""
    if transposed:
        first = solve_small(builder, factors.T, True, False)
        second = solve_small(builder, factors.T, False, True)
        return lambda column: spread_small(builder, second(first(column)), rows)
    first = solve_small(builder, factors, True, True)
    second = solve_small(builder, factors, False, False)
    return lambda column: second(first(taken_small(builder, column, rows)))


def _lower(b: Lowering, a: Any, factors: Any, rows: Any, rhs: Any, *, transposed: bool) -> Any:
    if is_empty(rhs.shape):
        return rhs
    solve, builder, n = triangular_solve.lower, b.builder, rhs.shape[-2]
    if is_small(n):
        return substitute(b, [factors, rows], rhs, partial(_solver, builder, transposed))

    def number(index: tuple[Any, ...]) -> Any:
        place = builder.convert(rows.at(index[:-1]), np.dtype(np.int64))
        return ix.clamp(builder, place, n)

    if not transposed:
        known = b.stored(rhs)

        def moved(index: tuple[Any, ...]) -> Any:
            return known.at((*index[:-2], number(index), index[-1]))

        permuted = b.lazy(rhs.shape, rhs.dtype, moved, 2.0)
        middle = solve(b, factors, permuted, **_flags(True, False))
        return solve(b, factors, middle, **_flags(False, False))
    middle = solve(b, factors, rhs, **_flags(False, True))
    solved = b.stored(solve(b, factors, middle, **_flags(True, True)))
    out = b.new(rhs.shape, rhs.dtype)

    def put(index: tuple[Any, ...]) -> None:
        place = (*index[:-2], number(index), index[-1])
        builder.store(out.buffer, place, solved.at(index))

    b.for_each(rhs.shape, put)
    return out


lu_solve = matrix_primitive(
    "lu_solve",
    cores=(2, 2, 1, 2),
    shape=_shape,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    lanes=_lanes,
    lower=_lower,
)
"""The X with a X = b (a^T X = b if `transposed`), given the LU decomposition of a.

Operands are the matrix, which only derivatives read; both factors in one matrix, and the
permutation of rows, as `lu` gives them; and b. Derivatives are those of the solution as a function
of a and b.
"""


def solve(a: Any, b: Any) -> Any:
    """The X with a X = b for square matrices of equal batch axes."""
    factors, _, rows = lu(stop_gradient(a))
    return lu_solve(a, factors, rows, b, transposed=False)
