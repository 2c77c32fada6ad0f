"""QR decomposition, by Householder reflections.

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
from covector.ops import indices as ix
from covector.ops import matrices as mx
from covector.ops.arithmetic import add, mul, sub
from covector.ops.lu import smaller, solve_system
from covector.ops.matrix_primitives import (
    SUFFIX,
    call_library,
    check_batches,
    check_matrices,
    each_matrix,
    is_empty,
    library,
    lower_by_evaluation,
    matrix_primitive,
    pointer,
    scipy_linalg,
    scratch,
)
from covector.ops.triangular import triangular_solve

Array = np.ndarray[Any, Any]

_THROUGH_QR = "its vectors are not unique; differentiate `qr` instead"

# --- geqrf and householder_product ---------------------------------------------------------------


def _geqrf_shape(a: Aval) -> list[Aval]:
    check_matrices("geqrf", a)
    rank = smaller(*a.shape[-2:])
    return [a.strong(), Aval((*a.shape[:-2], rank), a.dtype)]


def _geqrf_evaluate(a: Array) -> list[Any]:
    m, n = a.shape[-2:]
    results = [((m, n), a.dtype), ((min(m, n),), a.dtype)]
    factorise = library("geqrf", a) if a.size else None

    def factor(matrix: Array) -> list[Array]:
        assert factorise is not None
        return list(factorise(matrix)[:2])

    return each_matrix(factor, [a], [2], results) if a.size else [a.copy(), _nothing(results[1], a)]


def _nothing(result: Any, a: Array) -> Array:
    return np.zeros(a.shape[:-2] + result[0], result[1])


def _reflections(b: Lowering, a: Any, work: Any) -> Any:
    """Stores the QR factors of `a` in `work`; returns the tensor of the scalar factors."""
    batch, (m, n) = a.shape[:-2], a.shape[-2:]
    taus = scratch(b, (*batch, min(m, n)), a.dtype)
    b.fill(work, a)
    symbol = f"cv_geqrf_{SUFFIX[a.dtype]}"

    def factor(index: tuple[Any, ...]) -> None:
        call_library(b, symbol, m, n, pointer(b, work, index), n, pointer(b, taus, index))

    if not is_empty(a.shape):
        b.for_each_apart(batch, factor)
    return taus


def _geqrf_lower(b: Lowering, a: Any) -> list[Any]:
    out = b.new(a.shape, a.dtype)
    return [out, _reflections(b, a, out)]


geqrf = matrix_primitive(
    "geqrf",
    cores=(2,),
    shape=_geqrf_shape,
    evaluate=_geqrf_evaluate,
    jvp=unsupported(_THROUGH_QR),
    lower=_geqrf_lower,
    results=2,
)
"""R in the upper triangle, Householder vectors below it, and their scalar factors."""


def _product_shape(a: Aval, taus: Aval) -> Aval:
    check_matrices("householder_product", a)
    if taus.dtype != a.dtype or taus.ndim < 1:
        raise TypeError(f"householder_product takes factors of the matrix's dtype, got {taus}")
    check_batches("householder_product", (a, taus), (2, 1))
    (m, n), k = a.shape[-2:], taus.shape[-1]
    if all(type(x) is int for x in (m, n, k)) and not m >= n >= k:
        raise ValueError(
            "householder_product takes a matrix with at least as many rows as columns and at most "
            f"as many factors as columns, got {a} and {taus}"
        )
    return a.strong()


def _product_evaluate(a: Array, taus: Array) -> Any:
    if a.size == 0:
        return a.copy()
    name = "ungqr" if dtypes.is_complex(a.dtype) else "orgqr"
    multiply = library(name, a)

    def one(matrix: Array, factors: Array) -> list[Array]:
        return [multiply(matrix, factors)[0]]

    return each_matrix(one, [a, taus], [2, 1], [(a.shape[-2:], a.dtype)])[0]


def _multiply(b: Lowering, out: Any, taus: Any, count: int) -> None:
    """Replaces Householder vectors by the product of their reflections."""
    batch, (m, n) = out.shape[:-2], out.shape[-2:]
    symbol = f"cv_orgqr_{SUFFIX[out.dtype]}"

    def one(index: tuple[Any, ...]) -> None:
        place = pointer(b, out, index), n, pointer(b, taus, index)
        call_library(b, symbol, m, n, count, *place)

    b.for_each_apart(batch, one)


def _product_lower(b: Lowering, a: Any, taus: Any) -> Any:
    if is_empty(a.shape):
        return a
    out = b.update_in_place(a)
    _multiply(b, out, b.stored(taus), taus.shape[-1])
    return out


householder_product = matrix_primitive(
    "householder_product",
    cores=(2, 1),
    shape=_product_shape,
    evaluate=_product_evaluate,
    jvp=unsupported(_THROUGH_QR),
    lower=_product_lower,
)
"""The first columns of the product of the reflections that `geqrf` returns."""

# --- qr ------------------------------------------------------------------------------------------


def _qr_shape(a: Aval, *, pivoting: bool, full_matrices: bool, use_magma: Any = None) -> list[Aval]:
    check_matrices("qr", a)
    batch, (m, n) = a.shape[:-2], a.shape[-2:]
    k = m if full_matrices else smaller(m, n)
    factors = [Aval((*batch, m, k), a.dtype), Aval((*batch, k, n), a.dtype)]
    return [*factors, Aval((*batch, n), dtypes.int32)] if pivoting else factors


def _qr_evaluate(
    a: Array, *, pivoting: bool, full_matrices: bool, use_magma: Any = None
) -> list[Any]:
    (m, n), batch = a.shape[-2:], a.shape[:-2]
    k = m if full_matrices else min(m, n)
    if a.size == 0:
        q = np.broadcast_to(np.eye(m, k, dtype=a.dtype), (*batch, m, k)).copy()
        factors = [q, np.zeros((*batch, k, n), a.dtype)]
        return [*factors, np.zeros((*batch, n), np.int32)] if pivoting else factors
    if not pivoting:
        return list(np.linalg.qr(a, mode="complete" if full_matrices else "reduced"))

    decompose = scipy_linalg().qr

    def factor(matrix: Array) -> list[Array]:
        mode = "full" if full_matrices else "economic"
        return list(decompose(matrix, mode=mode, pivoting=True, check_finite=False))

    results = [((m, k), a.dtype), ((k, n), a.dtype), ((n,), np.int32)]
    return each_matrix(factor, [a], [2], results)


def _qr_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    a, t = primals[0], tangents[0]
    out = qr(a, **params)
    q, r = out[:2]
    if params["pivoting"]:
        t = mx.take_columns(t, out[2])
    m, n = mx.shape_of(a)[-2:]
    if type(m) is int and type(n) is int and m < n:
        changes = _wide_tangents(q, r, t, m, n)
    elif not params["full_matrices"] or m == n:
        changes = _thin_tangents(q, r, t)
    else:
        changes = _full_tangents(q, r, t, m, n)
    zeros = [Zero(aval_of(p).tangent()) for p in out[2:]]
    return out, [*changes, *zeros]


def _thin_tangents(q: Any, r: Any, t: Any) -> tuple[Any, Any]:
    """Tangents of Q and R with as many columns as rows in R, at the tangent `t` of Q R."""
    # With F = Q^H dA R^-1: Q^H dQ is the skew-Hermitian W of the same strict lower triangle (and
    # of F's imaginary diagonal), dR = (F - W) R.
    flags = {"transpose_a": False, "conjugate_a": False, "unit_diagonal": False}
    solved = triangular_solve(r, t, left_side=False, lower=False, **flags)
    f = mx.matmul(mx.adjoint(q), solved)
    low = mx.lower_triangle(f, -1)
    skew = sub(low, mx.adjoint(low))
    if dtypes.is_complex(f.dtype):
        imaginary = sub(f, mx.convert(mx.real(f), f.dtype))
        skew = add(skew, mul(mx.identity_like(f), imaginary))
    return add(mx.matmul(q, sub(skew, f)), solved), mx.matmul(sub(f, skew), r)


def _wide_tangents(q: Any, r: Any, t: Any, m: int, n: int) -> tuple[Any, Any]:
    """The first columns give Q; the others R2 = Q^H A2, where A2 = Q R2."""
    dq, first = _thin_tangents(q, mx.columns_of(r, 0, m), mx.columns_of(t, 0, m))
    rest = mx.matmul(q, mx.columns_of(r, m, n))
    others = add(mx.matmul(mx.adjoint(dq), rest), mx.matmul(mx.adjoint(q), mx.columns_of(t, m, n)))
    return dq, mx.beside(first, others)


def _full_tangents(q: Any, r: Any, t: Any, m: Any, n: Any) -> tuple[Any, Any]:
    """Tangents of a square Q and of R with rows of zeros.

    The last columns of Q are a function of its first, Q1, as products of reflections have them.
    With Z = Q1[n:] (Q1[:n] - I)^-1 their tangent is dQ1 Z^H - (Q1 + Q2 Z) (dQ1[n:] - Z dQ1[:n])^H
    (arXiv:2409.13374, equations 32 and 33).
    """
    q1, q2 = mx.columns_of(q, 0, n), mx.columns_of(q, n, m)
    dq1, dr = _thin_tangents(q1, mx.rows_of(r, 0, n), t)
    top, bottom = mx.rows_of(q1, 0, n), mx.rows_of(q1, n, m)
    less = mx.adjoint(sub(top, mx.identity_like(top)))
    z_adjoint = solve_system(less, mx.adjoint(bottom))
    z = mx.adjoint(z_adjoint)
    moved = sub(mx.rows_of(dq1, n, m), mx.matmul(z, mx.rows_of(dq1, 0, n)))
    dq2 = sub(
        mx.matmul(dq1, z_adjoint),
        mx.matmul(add(q1, mx.matmul(q2, z)), mx.adjoint(moved)),
    )
    zeros = common.zeros(Aval((*mx.shape_of(r)[:-2], m - n, n), r.dtype))
    return mx.beside(dq1, dq2), mx.below(dr, zeros)


def _qr_lower(
    b: Lowering, a: Any, *, pivoting: bool, full_matrices: bool, use_magma: Any = None
) -> list[Any]:
    batch, (m, n) = a.shape[:-2], a.shape[-2:]
    params = {"pivoting": pivoting, "full_matrices": full_matrices}
    if pivoting or is_empty(a.shape):
        return lower_by_evaluation(
            b,
            partial(_qr_evaluate, **params),
            [a],
            _qr_shape(Aval(a.shape, a.dtype), **params),
        )
    k = m if full_matrices else min(m, n)
    builder = b.builder
    q = b.new((*batch, m, k), a.dtype)
    work = scratch(b, a.shape, a.dtype)
    taus = _reflections(b, a, work)
    zero = builder.const(0, a.dtype)

    def vectors(index: tuple[Any, ...]) -> Any:
        last = ix.clamp(builder, index[-1], n)
        found = work.at((*index[:-1], last))
        return (
            found
            if k <= n
            else builder.select(ix.compare(builder, "lt", index[-1], n), found, zero)
        )

    b.fill(q, b.lazy(q.shape, a.dtype, vectors, 1.0))
    _multiply(b, q, taus, min(m, n))

    def upper(index: tuple[Any, ...]) -> Any:
        inside = ix.compare(builder, "le", index[-2], index[-1])
        return builder.select(inside, work.at(index), zero)

    return [q, b.lazy((*batch, k, n), a.dtype, upper, 2.0)]


qr = matrix_primitive(
    "qr",
    cores=(2,),
    shape=_qr_shape,
    evaluate=_qr_evaluate,
    jvp=_qr_jvp,
    lower=_qr_lower,
    results=0,
)
"""Q and R with Q R = a; with `pivoting` also the permutation p of columns with Q R = a[:, p].

Params:
    pivoting: whether columns are exchanged.
    full_matrices: whether Q is square.
    use_magma: whether a GPU should use this library; without meaning on a CPU.
"""
