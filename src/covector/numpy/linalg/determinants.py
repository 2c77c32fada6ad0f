"""Determinants."""

from __future__ import annotations

from typing import Any, NamedTuple

from covector.core import dtypes
from covector.numpy.creation import arange, zeros_like
from covector.numpy.elementwise import absolute, log, real, sign, where
from covector.numpy.index_functions import diagonal
from covector.numpy.linalg.arguments import matrices
from covector.numpy.linalg.systems import solve_matrices
from covector.numpy.manipulation import expand_dims
from covector.numpy.products import trace
from covector.numpy.promote import convert, operand
from covector.numpy.reductions import any as some
from covector.numpy.reductions import count_nonzero, prod
from covector.numpy.reductions import sum as total
from covector.ops import linalg as ops
from covector.ops import matrices as mx
from covector.transforms.custom_jvp import custom_jvp

__all__ = ["det", "slogdet"]


class SlogdetResult(NamedTuple):
    """The sign of a determinant (of magnitude 1, or 0) and the logarithm of its magnitude."""

    sign: Any
    logabsdet: Any


def _parity(pivots: Any, dtype: Any) -> Any:
    """-1 for an odd number of row exchanges, else 1."""
    places = arange(pivots.shape[-1], dtype=pivots.dtype)
    return convert(1 - 2 * (count_nonzero(pivots != places, -1) % 2), dtype)


def _diagonal(x: Any) -> Any:
    return diagonal(x, 0, -2, -1)


# --- logarithms ---------------------------------------------------------------------------------


def slogdet(a: Any, *, method: str | None = None) -> SlogdetResult:
    """The sign of the determinant, and the logarithm of its magnitude.

    Args:
        a: square matrices.
        method: by which decomposition: "lu" (the default), or "qr" for real matrices.

    Returns:
        `sign` and `logabsdet`; 0 and -inf for singular matrices.

    Raises:
        ValueError: matrices are not square, or there is no such method.
        NotImplementedError: "qr" of complex matrices.

    Example:
        >>> import covector.numpy as cnp
        >>> cnp.linalg.slogdet(cnp.array([[0.0, 1.0], [1.0, 0.0]]))
        SlogdetResult(sign=Array(-1., dtype=float32), logabsdet=Array(0., dtype=float32))
    """
    x = matrices("linalg.slogdet", a, square=True)
    if method is None or method == "lu":
        return SlogdetResult(*_slogdet_lu(x))
    if method != "qr":
        raise ValueError(f'linalg.slogdet: unknown method {method!r}; it is "lu" or "qr"')
    if dtypes.is_complex(x.dtype):
        raise NotImplementedError('linalg.slogdet: method="qr" does not take complex matrices')
    return SlogdetResult(*_slogdet_qr(x))


def _from_diagonal(values: Any, exchanges: Any) -> tuple[Any, Any]:
    return prod(sign(values), -1) * exchanges, total(log(absolute(values)), -1)


@custom_jvp
def _slogdet_lu(x: Any) -> tuple[Any, Any]:
    both, pivots, _ = ops.lu(x)
    return _from_diagonal(_diagonal(both), _parity(pivots, x.dtype))


@custom_jvp
def _slogdet_qr(x: Any) -> tuple[Any, Any]:
    # Each reflection, unless it is none, has the determinant -1.
    both, taus = ops.geqrf(x)
    return _from_diagonal(_diagonal(both), prod(where(taus != 0, -1, 1), -1).astype(x.dtype))


def _slogdet_tangents(x: Any, t: Any, signs: Any) -> tuple[Any, Any]:
    change = trace(solve_matrices(x, operand(t, "linalg.slogdet")), 0, -2, -1)
    if not dtypes.is_complex(x.dtype):
        return zeros_like(signs), change
    length = real(change)
    return (change - convert(length, change.dtype)) * signs, length


@_slogdet_lu.defjvp
def _(primals: Any, tangents: Any) -> Any:
    out = _slogdet_lu(*primals)
    return out, _slogdet_tangents(primals[0], tangents[0], out[0])


@_slogdet_qr.defjvp
def _(primals: Any, tangents: Any) -> Any:
    out = _slogdet_qr(*primals)
    return out, _slogdet_tangents(primals[0], tangents[0], out[0])


# --- determinants -------------------------------------------------------------------------------


def det(a: Any) -> Any:
    """The determinant.

    Args:
        a: square matrices.

    Returns:
        Numbers, differentiable for singular matrices, too, of rank n - 1.

    Raises:
        ValueError: matrices are not square.

    Example:
        >>> import covector.numpy as cnp
        >>> cnp.linalg.det(cnp.array([[1.0, 2.0], [3.0, 4.0]]))
        Array(-2., dtype=float32)
    """
    x = matrices("linalg.det", a, square=True)
    n = x.shape[-1]
    if n == 1:
        return x[..., 0, 0]
    if n == 2:
        return x[..., 0, 0] * x[..., 1, 1] - x[..., 0, 1] * x[..., 1, 0]
    if n == 3:
        return sum(_along_row(x, k) for k in range(3))
    return _det(x)


def _along_row(x: Any, k: int) -> Any:
    """A term of the determinant of 3 x 3 matrices, developed along the first row."""
    i, j = (k + 1) % 3, (k + 2) % 3
    return x[..., 0, k] * (x[..., 1, i] * x[..., 2, j] - x[..., 1, j] * x[..., 2, i])


@custom_jvp
def _det(x: Any) -> Any:
    both, pivots, _ = ops.lu(x)
    return prod(_diagonal(both), -1) * _parity(pivots, x.dtype)


@_det.defjvp
def _(primals: Any, tangents: Any) -> Any:
    """The trace of the adjugate times the tangent, without division by the last pivot.

    With P A = L U and u the last pivot, adj(A) is the product of the other pivots times
    u U^-1 L^-1 P; and z = u U^-1 y solves U z = u y, where the last equation is z_n = y_n.
    """
    (x,), (t,) = primals, tangents
    if x.shape[-1] == 0:
        return _det(x), zeros_like(_det(x))
    both, pivots, rows = ops.lu(x)
    values = _diagonal(both)
    others, last = values[..., :-1], values[..., -1:, None]
    partial = prod(others, -1) * _parity(pivots, x.dtype)
    flags = {"left_side": True, "transpose_a": False, "conjugate_a": False}
    y = ops.triangular_solve(both, mx.take_rows(t, rows), lower=True, unit_diagonal=True, **flags)
    is_last = arange(x.shape[-1]) == x.shape[-1] - 1
    scaled = where(expand_dims(is_last, -1), y, last * y)
    corner = is_last & expand_dims(is_last, -1)
    # Of rank n - 2 or less: the adjugate is zero.
    lost = expand_dims(some(others == 0, -1), (-1, -2))
    upper = where(lost, mx.identity_like(both), where(corner, 1, both).astype(x.dtype))
    z = ops.triangular_solve(upper, scaled, lower=False, unit_diagonal=False, **flags)
    return partial * values[..., -1], partial * trace(z, 0, -2, -1)
