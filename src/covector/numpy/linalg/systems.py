"""Systems of linear equations, exact and in the sense of least squares."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.errors import compose
from covector.core.source import here
from covector.numpy.creation import array, asarray, zeros
from covector.numpy.elementwise import where
from covector.numpy.linalg.arguments import adjoint, check_matrices, matrices, symmetrized
from covector.numpy.linalg.decompositions import svd
from covector.numpy.manipulation import expand_dims, moveaxis, ravel, reshape, squeeze
from covector.numpy.products import matmul
from covector.numpy.promote import (
    broadcast_shapes,
    broadcast_to,
    convert,
    operand,
    promote_inexact,
)
from covector.numpy.reductions import any as some
from covector.numpy.reductions import max as largest
from covector.numpy.reductions import sum as total
from covector.ops import matrices as mx
from covector.ops.gradient import stop_gradient
from covector.ops.lu import lu
from covector.ops.lu_solve import lu_solve
from covector.transforms.custom_jvp import custom_jvp

__all__ = ["inv", "lstsq", "matrix_rank", "pinv", "solve", "tensorinv", "tensorsolve"]


# --- exact --------------------------------------------------------------------------------------


def solve(a: Any, b: Any) -> Any:
    """The x with a x = b.

    Args:
        a: square matrices.
        b: a vector, or matrices of as many rows; other axes broadcast.

    Returns:
        An array; what singular matrices give is not finite.

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> import covector.numpy as cnp
        >>> cnp.linalg.solve(cnp.array([[2.0, 0.0], [0.0, 4.0]]), cnp.array([2.0, 2.0]))
        Array([1. , 0.5], dtype=float32)
    """
    a, b = promote_inexact(operand(a, "linalg.solve"), operand(b, "linalg.solve"))
    check_matrices("linalg.solve", a, square=True)
    check_right_hand_side("linalg.solve", a, b)
    if b.ndim == 1:
        return squeeze(solve_matrices(a, expand_dims(b, -1)), -1)
    return solve_matrices(a, b)


def check_right_hand_side(name: str, a: Any, b: Any) -> None:
    """Checks that a vector or matrices have as many rows as square matrices.

    Raises:
        ValueError: saying what may have been meant.
    """
    n = a.shape[-1]
    if b.ndim and b.shape[max(b.ndim - 2, 0)] == n:
        return
    fix = "give as many rows as the matrix has"
    if b.ndim > 1 and b.shape[-1] == n:
        fix = f"for a batch of vectors, {name}(a, b[..., None])[..., 0]"
    raise ValueError(
        compose(f"{name} of {n} equations", found=f"{a.aval} and {b.aval}", fix=fix, line=here())
    )


def solve_matrices(a: Any, b: Any) -> Any:
    """`solve` for operands of equal dtype and fitting shapes, both matrices."""
    factors, _, rows = lu(stop_gradient(a))
    return solve_factored(a, factors, rows, b)


def solve_factored(a: Any, factors: Any, rows: Any, b: Any, transposed: bool = False) -> Any:
    """`solve_matrices` given the LU decomposition; batch axes broadcast."""
    lead, count = b.shape[:-2], a.ndim - 2
    if count == 0 and lead:
        # One matrix: all right-hand sides are columns of one.
        columns = moveaxis(b, -2, 0)
        flat = reshape(columns, (b.shape[-2], math.prod(columns.shape[1:])))
        found = lu_solve(a, factors, rows, flat, transposed=transposed)
        return moveaxis(reshape(found, columns.shape), 0, -2)
    batch = broadcast_shapes("linalg.solve", a.shape[:-2], lead)
    n = a.shape[-1]
    a, factors = (broadcast_to(x, (*batch, n, n)) for x in (a, factors))
    rows, b = broadcast_to(rows, (*batch, n)), broadcast_to(b, (*batch, *b.shape[-2:]))
    return lu_solve(a, factors, rows, b, transposed=transposed)


def inv(a: Any) -> Any:
    """The inverse of square matrices.

    Args:
        a: square matrices.

    Raises:
        ValueError: they are not square.

    Example:
        >>> import covector.numpy as cnp
        >>> cnp.linalg.inv(cnp.array([[2.0, 0.0], [0.0, 4.0]]))
        Array([[0.5 , 0.  ],
               [0.  , 0.25]], dtype=float32)
    """
    x = matrices("linalg.inv", a, square=True)
    return solve_matrices(x, mx.identity_like(x))


def tensorsolve(a: Any, b: Any, axes: Sequence[int] | None = None) -> Any:
    """The x with tensordot(a, x, x.ndim) = b.

    Args:
        a: an array whose first axes are those of `b`, the others those of x.
        b: an array.
        axes: axes of `a` to move to the end first.

    Raises:
        ValueError: shapes do not fit, or do not give as many equations as unknowns.
    """
    a, b = operand(a, "linalg.tensorsolve"), operand(b, "linalg.tensorsolve")
    if axes is not None:
        moved = [axis % a.ndim for axis in axes]
        kept = [k for k in range(a.ndim) if k not in moved]
        a = a.transpose(*kept, *moved)
    shape = a.shape[b.ndim :]
    if a.shape[: b.ndim] != b.shape or b.size != math.prod(shape):
        raise ValueError(
            f"linalg.tensorsolve needs a with the axes of b first, and others of as many elements, "
            f"got {a.aval} (axes moved) and {b.aval}"
        )
    return reshape(solve(reshape(a, (b.size, b.size)), ravel(b)), shape)


def tensorinv(a: Any, ind: int = 2) -> Any:
    """The inverse of what `tensordot(a, x, ...)` does to x.

    Args:
        a: an array whose first `ind` axes have as many elements as the others.
        ind: a positive number.

    Raises:
        ValueError: `ind` is not positive, or the numbers of elements differ.
    """
    a, ind = operand(a, "linalg.tensorinv"), operator.index(ind)
    if ind <= 0:
        raise ValueError(f"linalg.tensorinv: ind must be positive, got {ind}")
    first, others = a.shape[:ind], a.shape[ind:]
    rows, columns = math.prod(first), math.prod(others)
    if rows != columns:
        raise ValueError(
            f"linalg.tensorinv: the first {ind} axes need as many elements as the others, got "
            f"{rows} and {columns} of {a.aval}"
        )
    return reshape(inv(reshape(a, (rows, columns))), (*others, *first))


# --- least squares ------------------------------------------------------------------------------


def _epsilon(dtype: Any) -> float:
    return float(dtypes.finfo(dtype).eps)


def pinv(a: Any, rtol: Any = None, hermitian: bool = False, *, rcond: Any = None) -> Any:
    """The Moore-Penrose inverse.

    Args:
        a: matrices.
        rtol: singular values of at most this part of the greatest count as zero; by default 10
            times the larger number of rows and columns times the spacing of numbers at 1.
        hermitian: the matrices are Hermitian.
        rcond: another name of `rtol`.

    Returns:
        Matrices, differentiable where the rank does not change.

    Raises:
        ValueError: both `rtol` and `rcond` are given, or `a` has no matrices.

    Example:
        >>> import covector.numpy as cnp
        >>> cnp.linalg.pinv(cnp.array([[2.0], [0.0]]))
        Array([[0.5, 0. ]], dtype=float32)
    """
    if rcond is not None and rtol is not None:
        raise ValueError("linalg.pinv: give rtol or rcond, not both: they are the same")
    rtol = rcond if rtol is None else rtol
    x = matrices("linalg.pinv", a, square=hermitian)
    m, n = x.shape[-2:]
    if m == 0 or n == 0:
        return zeros((*x.shape[:-2], n, m), x.dtype)
    if rtol is None:
        rtol = 10.0 * max(m, n) * _epsilon(x.dtype)
    limit = stop_gradient(asarray(rtol, dtypes.real_of(x.dtype)))
    return (_hermitian_pinv if hermitian else _pinv)(x, limit)


def _pseudoinverse(x: Any, rtol: Any, hermitian: bool) -> Any:
    u, s, vh = svd(x, full_matrices=False, hermitian=hermitian)
    limit = expand_dims(rtol, -1) * s[..., :1]
    inverses = convert(where(s > limit, s, np.inf), x.dtype)
    return matmul(adjoint(vh), adjoint(u) / expand_dims(inverses, -1))


def _pseudoinverse_tangent(p: Any, a: Any, t: Any) -> Any:
    """Golub and Pereyra (1973), theorem 4.3, at constant rank."""
    th, ph = adjoint(t), adjoint(p)
    m, n = a.shape[-2:]
    inside = -matmul(matmul(p, t), p)
    if m >= n:
        s, r = matmul(matmul(p, ph), th), matmul(matmul(th, ph), p)
        return inside + s - matmul(matmul(s, a), p) + r - matmul(matmul(p, a), r)
    s, r = matmul(p, matmul(ph, th)), matmul(th, matmul(ph, p))
    return inside + s - matmul(s, matmul(a, p)) + r - matmul(p, matmul(a, r))


@custom_jvp
def _pinv(x: Any, rtol: Any) -> Any:
    return _pseudoinverse(x, rtol, False)


@_pinv.defjvp
def _(primals: Any, tangents: Any) -> Any:
    p = _pinv(*primals)
    return p, _pseudoinverse_tangent(p, primals[0], tangents[0])


@custom_jvp
def _hermitian_pinv(x: Any, rtol: Any) -> Any:
    return _pseudoinverse(x, rtol, True)


@_hermitian_pinv.defjvp
def _(primals: Any, tangents: Any) -> Any:
    p = _hermitian_pinv(*primals)
    return p, _pseudoinverse_tangent(p, symmetrized(primals[0]), symmetrized(tangents[0]))


def matrix_rank(M: Any, rtol: Any = None, *, hermitian: bool = False, tol: Any = None) -> Any:
    """The number of singular values that are not small.

    Args:
        M: matrices; of an array of less than two axes, whether an element is not zero.
        rtol: what they have to exceed; by default the greatest one times the larger number of rows
            and columns times the spacing of numbers at 1.
        hermitian: the matrices are Hermitian.
        tol: another name of `rtol`.

    Raises:
        ValueError: both `rtol` and `tol` are given.
    """
    if tol is not None and rtol is not None:
        raise ValueError("linalg.matrix_rank: give rtol or tol, not both: they are the same")
    rtol = tol if rtol is None else rtol
    (x,) = promote_inexact(operand(M, "linalg.matrix_rank"))
    if x.ndim < 2:
        return convert(some(x != 0), dtypes.int32)
    s = svd(x, full_matrices=False, compute_uv=False, hermitian=hermitian)
    if rtol is None:
        rtol = largest(s, -1, initial=0) * (max(x.shape[-2:]) * _epsilon(s.dtype))
    return total(s > expand_dims(asarray(rtol), -1), -1)


def lstsq(
    a: Any, b: Any, rcond: float | None = None, *, numpy_resid: bool = False
) -> tuple[Any, Any, Any, Any]:
    """The x that makes the norm of a x - b least; of several the shortest.

    Args:
        a: a matrix.
        b: a vector, or a matrix of as many rows.
        rcond: singular values of less than this part of the greatest count as zero; by default the
            spacing of numbers at 1 times the larger number of rows and columns.
        numpy_resid: give no residuals where NumPy gives none, which needs a known rank.

    Returns:
        x, the squared norms of the residuals, the rank of `a` and its singular values.

    Raises:
        TypeError: `a` is no matrix, or `b` neither a vector nor a matrix.
        ValueError: they have different numbers of rows.
    """
    a, b = promote_inexact(operand(a, "linalg.lstsq"), operand(b, "linalg.lstsq"))
    if a.ndim != 2 or b.ndim not in (1, 2):
        raise TypeError(
            f"linalg.lstsq needs a matrix, and a vector or another, got {a.aval} and {b.aval}"
        )
    if a.shape[0] != b.shape[0]:
        raise ValueError(f"linalg.lstsq needs equal numbers of rows, got {a.aval} and {b.aval}")
    (m, n), known = a.shape, b if b.ndim == 2 else expand_dims(b, 1)
    if a.size == 0:
        x, s = zeros((n, known.shape[1]), a.dtype), zeros(0, dtypes.real_of(a.dtype))
        rank = array(0, dtypes.default_int())
    else:
        x, rank, s = _shortest(a, known, rcond)
    if numpy_resid and (m <= n or int(rank) < n):
        residuals = zeros(0)
    else:
        rest = known - matmul(a, x)
        residuals = total((rest * rest.conj()).real, 0)
    return (ravel(x) if b.ndim == 1 else x), residuals, rank, s


def _shortest(a: Any, b: Any, rcond: Any) -> tuple[Any, Any, Any]:
    epsilon = _epsilon(a.dtype)
    limit = epsilon * max(a.shape) if rcond is None else where(rcond < 0, epsilon, rcond)
    u, s, vh = svd(a, full_matrices=False)
    counted = (s > 0) & (s >= limit * s[0])
    inverses = where(counted, 1 / where(counted, s, 1), 0)
    weighted = expand_dims(convert(inverses, a.dtype), 1) * matmul(adjoint(u), b)
    return matmul(adjoint(vh), weighted), total(counted), s
