"""Eigenvalues and singular values.

Names, parameters and meanings are those of JAX's linear algebra primitives, and so are the
derivatives, which exist where eigenvalues (singular values) are distinct.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.errors import UnsupportedRuleError
from covector.loopir.tensor import Lowering
from covector.ops import matrices as mx
from covector.ops.arithmetic import abs_, add, div, mul, neg, sub
from covector.ops.compare import eq
from covector.ops.convert import complex_, imag
from covector.ops.lu import smaller, solve_system
from covector.ops.matrix_primitives import (
    SUFFIX,
    call_library,
    check_matrices,
    each_matrix,
    is_empty,
    lower_by_evaluation,
    matrix_primitive,
    nan_of,
    pointer,
    scipy_linalg,
    scratch,
    spoil,
)
from covector.ops.reduce import argmax, reduce_sum

Array = np.ndarray[Any, Any]


def _window(subset: Any, count: Any) -> tuple[int, Any]:
    """The range of values asked for by `subset_by_index`."""
    return (0, count) if subset is None else (subset[0], min(subset[1], count))


# --- eigh ----------------------------------------------------------------------------------------


def _eigh_shape(
    x: Aval, *, lower: bool, sort_eigenvalues: bool, subset_by_index: Any, algorithm: Any
) -> list[Aval]:
    check_matrices("eigh", x, square=True)
    batch, n = x.shape[:-2], x.shape[-1]
    first, last = _window(subset_by_index, n)
    return [
        Aval((*batch, n, last - first), x.dtype),
        Aval((*batch, last - first), dtypes.real_of(x.dtype)),
    ]


def _eigh_evaluate(
    x: Array, *, lower: bool, sort_eigenvalues: bool, subset_by_index: Any, algorithm: Any
) -> list[Any]:
    triangle = "L" if lower else "U"
    n = x.shape[-1]
    try:
        values, vectors = np.linalg.eigh(x, UPLO=triangle)
    except np.linalg.LinAlgError:

        def factor(matrix: Array) -> list[Array]:
            try:
                return list(np.linalg.eigh(matrix, UPLO=triangle))
            except np.linalg.LinAlgError:
                return [np.full(n, np.nan), np.full((n, n), nan_of(x.dtype))]

        results = [((n,), dtypes.real_of(x.dtype)), ((n, n), x.dtype)]
        values, vectors = each_matrix(factor, [x], [2], results)
    first, last = _window(subset_by_index, n)
    return [vectors[..., first:last], values[..., first:last]]


def _inverse_differences(values: Any, like: Any) -> Any:
    """1 / (w_j - w_i) off the diagonals, 0 on them."""
    eye = mx.identity_like(like, values.dtype)
    differences = sub(mx.on_rows(values, like), mx.on_columns(values, like))
    return sub(div(mx.ones_like(eye), add(eye, differences)), eye)


def _eigh_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    n = mx.shape_of(primals[0])[-1]
    if _window(params["subset_by_index"], n) != (0, n):
        raise UnsupportedRuleError(
            "differentiation of `eigh` is not supported for a part of the eigenvalues: "
            "the derivative needs all eigenvectors; leave out subset_by_index"
        )
    vectors, values = eigh(primals[0], **params)
    # First-order perturbation theory.
    projected = mx.matmul(mx.matmul(mx.adjoint(vectors), tangents[0]), vectors)
    wide = mx.convert(values, vectors.dtype)
    rotation = mul(_inverse_differences(wide, projected), projected)
    return [vectors, values], [mx.matmul(vectors, rotation), mx.diagonal(mx.real(projected))]


def _eigh_lower(
    b: Lowering,
    x: Any,
    *,
    lower: bool,
    sort_eigenvalues: bool,
    subset_by_index: Any,
    algorithm: Any,
) -> list[Any]:
    batch, n = x.shape[:-2], x.shape[-1]
    first, last = _window(subset_by_index, n)
    vectors = b.update_in_place(x)
    values = scratch(b, (*batch, n), dtypes.real_of(x.dtype))
    symbol = f"cv_syevd_{SUFFIX[x.dtype]}"

    def factor(index: tuple[Any, ...]) -> None:
        places = pointer(b, vectors, index), n, pointer(b, values, index)
        ok = call_library(b, symbol, n, *places, int(lower), 1)
        spoil(b, ok, index, vectors, values)

    if not is_empty(x.shape):
        b.for_each_apart(batch, factor)
    return [_last_axis(b, t, first, last) for t in (vectors, values)]


def _last_axis(b: Lowering, tensor: Any, first: int, last: int) -> Any:
    """A range of a stored tensor's last axis."""
    if first == 0 and last == tensor.shape[-1]:
        return tensor
    from covector.ops import indices as ix

    def element(index: tuple[Any, ...]) -> Any:
        return tensor.at((*index[:-1], ix.add(b.builder, index[-1], first)))

    shape = (*tensor.shape[:-1], last - first)
    return b.lazy(shape, tensor.dtype, element, 0.0, moves=True)


eigh = matrix_primitive(
    "eigh",
    cores=(2,),
    shape=_eigh_shape,
    evaluate=_eigh_evaluate,
    jvp=_eigh_jvp,
    lower=_eigh_lower,
    results=2,
)
"""Eigenvectors and eigenvalues of Hermitian matrices, given by one triangle.

Params:
    lower: which triangle is read.
    sort_eigenvalues: they are ascending either way; kept for compatibility.
    subset_by_index: first and last (exclusive) eigenvalue wanted, or `None`.
    algorithm: which one XLA should take; here it is LAPACK's divide and conquer in any case.
"""

# --- svd -----------------------------------------------------------------------------------------


def _svd_shape(
    x: Aval, *, full_matrices: bool, compute_uv: bool, subset_by_index: Any, algorithm: Any
) -> list[Aval]:
    check_matrices("svd", x)
    batch, (m, n) = x.shape[:-2], x.shape[-2:]
    rank = smaller(m, n)
    first, last = _window(subset_by_index, rank)
    if full_matrices and (first, last) != (0, rank):
        raise ValueError("svd: full_matrices and subset_by_index cannot both be given")
    count = last - first
    values = Aval((*batch, count), dtypes.real_of(x.dtype))
    if not compute_uv:
        return [values]
    rows, columns = (m, n) if full_matrices else (count, count)
    return [values, Aval((*batch, m, rows), x.dtype), Aval((*batch, columns, n), x.dtype)]


def _svd_evaluate(
    x: Array, *, full_matrices: bool, compute_uv: bool, subset_by_index: Any, algorithm: Any
) -> list[Any]:
    m, n = x.shape[-2:]
    first, last = _window(subset_by_index, min(m, n))

    def factor(matrix: Array) -> list[Array]:
        if not compute_uv:
            return [np.linalg.svd(matrix, compute_uv=False)]
        u, s, vh = np.linalg.svd(matrix, full_matrices=full_matrices)
        return [s, u, vh]

    try:
        found = factor(x)
    except np.linalg.LinAlgError:
        avals = _svd_shape(
            Aval(x.shape[-2:], x.dtype),
            full_matrices=full_matrices,
            compute_uv=compute_uv,
            subset_by_index=None,
            algorithm=None,
        )

        def factor_or_nan(matrix: Array) -> list[Array]:
            try:
                return factor(matrix)
            except np.linalg.LinAlgError:
                return [np.full(a.shape, nan_of(a.dtype)) for a in avals]

        results = [(a.shape, a.dtype) for a in avals]
        found = each_matrix(factor_or_nan, [x], [2], results)
    if (first, last) == (0, min(m, n)):
        return found
    parts = [found[0][..., first:last]]
    return (
        parts
        if not compute_uv
        else [*parts, found[1][..., first:last], found[2][..., first:last, :]]
    )


def _svd_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    x, t = primals[0], tangents[0]
    m, n = mx.shape_of(x)[-2:]
    if params["compute_uv"] and params["full_matrices"] and m != n:
        raise UnsupportedRuleError(
            "differentiation of `svd` is not supported with full_matrices=True for matrices that "
            "are not square: the additional singular vectors are not unique; "
            "use full_matrices=False"
        )
    thin = {**params, "full_matrices": False, "compute_uv": True}
    s, u, vh = svd(x, **thin)
    inner = mx.matmul(mx.matmul(mx.adjoint(u), t), mx.adjoint(vh))
    change = mx.diagonal(mx.real(inner))
    if not params["compute_uv"]:
        return [s], [change]
    du, dv = _singular_vector_tangents(s, u, vh, inner)
    wide = mx.convert(s, x.dtype)
    if _exceeds(m, n):
        moved = mx.matmul(t, mx.adjoint(vh))
        du = add(du, _outside(u, moved, wide))
    if _exceeds(n, m):
        moved = mx.matmul(mx.adjoint(t), u)
        dv = add(dv, _outside(mx.adjoint(vh), moved, wide))
    return [s, u, vh], [change, du, mx.adjoint(dv)]


def _exceeds(m: Any, n: Any) -> bool:
    return type(m) is int and type(n) is int and m > n


def _outside(basis: Any, moved: Any, s: Any) -> Any:
    """The part of the singular vectors' tangents that is orthogonal to all of them."""
    inside = mx.matmul(basis, mx.matmul(mx.adjoint(basis), moved))
    return div(sub(moved, inside), mx.on_rows(s, moved))


def _singular_vector_tangents(s: Any, u: Any, vh: Any, inner: Any) -> tuple[Any, Any]:
    """Tangents inside the spaces of the singular vectors (James Townsend, 2016)."""
    across, down = mx.on_rows(s, inner), mx.on_columns(s, inner)
    eye = mx.identity_like(inner, s.dtype)
    differences = mul(add(across, down), sub(across, down))
    factor = sub(div(mx.ones_like(eye), add(differences, eye)), eye)
    dtype = inner.dtype
    factor, across, down = (mx.convert(x, dtype) for x in (factor, across, down))
    right, left = mul(across, inner), mul(down, inner)
    du = mul(factor, add(right, mx.adjoint(right)))
    if dtypes.is_complex(dtype):
        zero = mx.convert(eq(s, mx.scaled(s, 0)), s.dtype)
        inverse = sub(div(mx.ones_like(s), add(s, zero)), zero)
        turn = mx.scaled(sub(inner, mx.adjoint(inner)), 0.5)
        phases = mul(mx.identity_like(inner), mx.convert(mx.on_rows(inverse, inner), dtype))
        du = add(du, mul(turn, phases))
    dv = mul(factor, add(left, mx.adjoint(left)))
    return mx.matmul(u, du), mx.matmul(mx.adjoint(vh), dv)


def _svd_lower(b: Lowering, x: Any, **params: Any) -> list[Any]:
    batch, (m, n) = x.shape[:-2], x.shape[-2:]
    avals = _svd_shape(Aval(x.shape, x.dtype), **params)
    if is_empty(x.shape):
        return lower_by_evaluation(b, partial(_svd_evaluate, **params), [x], avals)
    rank = min(m, n)
    first, last = _window(params["subset_by_index"], rank)
    full, vectors = params["full_matrices"], params["compute_uv"]
    # Only whole results may lie where the caller wants them.
    whole = (first, last) == (0, rank)
    real = dtypes.real_of(x.dtype)
    s = b.new((*batch, rank), real) if whole else scratch(b, (*batch, rank), real)
    work = scratch(b, x.shape, x.dtype)
    b.fill(work, x)
    rows, columns = ((m, n) if full else (rank, rank)) if vectors else (1, 1)
    core = ((m, rows), (columns, n)) if vectors else ((1, 1), (1, 1))
    u, vh = (scratch(b, (*batch, *shape), x.dtype) for shape in core)
    mode = (2 if full else 1) if vectors else 0
    symbol = f"cv_gesdd_{SUFFIX[x.dtype]}"

    def factor(index: tuple[Any, ...]) -> None:
        places = [pointer(b, t, index) for t in (work, s, u, vh)]
        ok = call_library(
            b,
            symbol,
            m,
            n,
            places[0],
            n,
            places[1],
            places[2],
            core[0][1],
            places[3],
            core[1][1],
            mode,
        )
        spoil(b, ok, index, *((s, u, vh) if vectors else (s,)))

    b.for_each_apart(batch, factor)
    if not vectors:
        return [_last_axis(b, s, first, last)]
    return [
        _last_axis(b, s, first, last),
        _last_axis(b, u, first, last if not whole else rows),
        _rows_range(b, vh, first, last if not whole else columns),
    ]


def _rows_range(b: Lowering, tensor: Any, first: int, last: int) -> Any:
    """A range of the rows of stored matrices."""
    if first == 0 and last == tensor.shape[-2]:
        return tensor
    from covector.ops import indices as ix

    def element(index: tuple[Any, ...]) -> Any:
        return tensor.at((*index[:-2], ix.add(b.builder, index[-2], first), index[-1]))

    shape = (*tensor.shape[:-2], last - first, tensor.shape[-1])
    return b.lazy(shape, tensor.dtype, element, 0.0, moves=True)


svd = matrix_primitive(
    "svd",
    cores=(2,),
    shape=_svd_shape,
    evaluate=_svd_evaluate,
    jvp=_svd_jvp,
    lower=_svd_lower,
    results=0,
)
"""Singular values, descending; with `compute_uv` also U and V^H with U diag(s) V^H = x.

Params:
    full_matrices: whether U and V^H are square.
    compute_uv: whether they are wanted.
    subset_by_index: first and last (exclusive) singular value wanted, or `None`.
    algorithm: which one XLA should take; here it is LAPACK's divide and conquer in any case.
"""

# --- eig -----------------------------------------------------------------------------------------


def _eig_shape(
    x: Aval,
    *,
    compute_left_eigenvectors: bool,
    compute_right_eigenvectors: bool,
    enable_eigvec_derivs: bool,
    implementation: Any,
) -> list[Aval]:
    check_matrices("eig", x, square=True)
    dtype = dtypes.complex_of(x.dtype)
    vectors = [Aval(x.shape, dtype)] * (compute_left_eigenvectors + compute_right_eigenvectors)
    return [Aval(x.shape[:-1], dtype), *vectors]


def _eig_evaluate(
    x: Array,
    *,
    compute_left_eigenvectors: bool,
    compute_right_eigenvectors: bool,
    enable_eigvec_derivs: bool,
    implementation: Any,
) -> list[Any]:
    left, right, n = compute_left_eigenvectors, compute_right_eigenvectors, x.shape[-1]
    dtype = dtypes.complex_of(x.dtype)
    results = [((n,), dtype), *[((n, n), dtype)] * (left + right)]

    decompose = scipy_linalg().eig

    def factor(matrix: Array) -> list[Any]:
        if n and np.isfinite(matrix).all():
            try:
                found = decompose(matrix, left=left, right=right)
                return list(found) if left or right else [found]
            except np.linalg.LinAlgError:
                pass
        return [np.full(shape, nan_of(dtype)) for shape, _ in results]

    return each_matrix(factor, [x], [2], results)


def _eig_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    left, right = params["compute_left_eigenvectors"], params["compute_right_eigenvectors"]
    if (left or right) and not params["enable_eigvec_derivs"]:
        raise UnsupportedRuleError(
            "differentiation of `eig` is supported for the eigenvalues only, unless "
            "enable_eigvec_derivs=True says that the eigenvalues are distinct and that nothing "
            "depends on the phases of the eigenvectors"
        )
    # The derivative of eigenvalues does not depend on the phases, so that it has one itself.
    wanted = {"compute_right_eigenvectors": True, "enable_eigvec_derivs": True}
    out = eig(primals[0], **{**params, **wanted})
    values, vectors = out[0], out[-1]
    t = mx.convert(tangents[0], vectors.dtype)
    change, vectors_t = _eigenvector_tangents(values, vectors, t, left or right)
    outs, changes = [values], [change]
    if left:
        other = _eigenvector_tangents(mx.conjugate(values), out[1], mx.adjoint(t), True)
        outs, changes = [*outs, out[1]], [*changes, other[1]]
    if right:
        outs, changes = [*outs, vectors], [*changes, vectors_t]
    return outs, changes


def _eigenvector_tangents(values: Any, vectors: Any, t: Any, wanted: bool) -> tuple[Any, Any]:
    """Tangents of eigenvalues and of eigenvectors as LAPACK scales them.

    It makes their norm 1 and their largest component real, which fixes the part of the tangent
    along the vector itself.
    """
    projected = mx.matmul(solve_system(vectors, t), vectors)
    change = mx.diagonal(projected)
    if not wanted:
        return change, None
    rotation = mul(_inverse_differences(values, projected), projected)
    free = mx.matmul(vectors, rotation)
    axis = len(mx.shape_of(vectors)) - 2
    largest = argmax(abs_(vectors), axes=(axis,), index_dtype=dtypes.int32)
    mask = mx.convert(eq(mx.row_numbers(vectors), mx.on_rows(largest, vectors)), vectors.dtype)

    def over_rows(x: Any) -> Any:
        return reduce_sum(x, axes=(axis,))

    along = mx.real(over_rows(mul(mx.conjugate(vectors), free)))
    turn = div(imag(over_rows(mul(mask, free))), mx.real(over_rows(mul(mask, vectors))))
    correction = complex_(neg(along), neg(turn))
    return change, add(free, mul(vectors, mx.on_rows(correction, vectors)))


def _eig_lower(b: Lowering, x: Any, **params: Any) -> list[Any]:
    avals = _eig_shape(Aval(x.shape, x.dtype), **params)
    return lower_by_evaluation(b, partial(_eig_evaluate, **params), [x], avals)


eig = matrix_primitive(
    "eig",
    cores=(2,),
    shape=_eig_shape,
    evaluate=_eig_evaluate,
    jvp=_eig_jvp,
    lower=_eig_lower,
    results=0,
)
"""Eigenvalues of any square matrices, in no order; left and right eigenvectors if wanted.

Params:
    compute_left_eigenvectors: whether they are wanted.
    compute_right_eigenvectors: likewise.
    enable_eigvec_derivs: allows to differentiate eigenvectors, see the error that comes otherwise.
    implementation: which one XLA should take; here it is LAPACK in any case.
"""
