"""The exponential of matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.lax.control_flow import cond, scan
from covector.numpy.creation import arange, asarray
from covector.numpy.elementwise import exp2, log2, maximum, where
from covector.numpy.linalg.arguments import matrices
from covector.numpy.linalg.norms import norm
from covector.numpy.linalg.systems import solve_matrices
from covector.numpy.manipulation import expand_dims
from covector.numpy.products import matmul
from covector.numpy.promote import convert
from covector.numpy.reductions import any as some
from covector.numpy.rounding import ceil, floor
from covector.ops import linalg as ops
from covector.ops import matrices as mx
from covector.ops.gradient import stop_gradient
from covector.transforms.autodiff import jvp

__all__ = ["expm", "expm_frechet"]

# The degree of the Pade approximant, and up to which norm it is exact to rounding:
# N. J. Higham, "The scaling and squaring method for the matrix exponential revisited" (2005).
_DOUBLE = (13, 5.371920351148152)
_SINGLE = (7, 3.925724783138660)


def expm(A: Any, *, upper_triangular: bool = False, max_squarings: int = 16) -> Any:
    """The exponential of square matrices, by Pade approximants with scaling and squaring.

    Args:
        A: square matrices.
        upper_triangular: they are upper triangular, which saves work.
        max_squarings: matrices so large that they need more give NaN.

    Returns:
        Matrices.

    Raises:
        ValueError: matrices are not square.

    Example:
        >>> import covector.numpy as cnp
        >>> from covector.scipy import linalg
        >>> linalg.expm(cnp.array([[0.0, 1.0], [0.0, 0.0]]))
        Array([[1., 1.],
               [0., 1.]], dtype=float32)
    """
    x = matrices("scipy.linalg.expm", asarray(A), square=True)
    if x.shape[-1] == 0:
        return x
    double = x.dtype in (dtypes.float64, dtypes.complex128)
    degree, bound = _DOUBLE if double else _SINGLE
    exponent = log2(stop_gradient(norm(x, 1, (-2, -1))) / bound)
    count = maximum(ceil(exponent), 0)
    small = x * convert(expand_dims(exp2(-count), (-1, -2)), x.dtype)
    result = _squared(_approximant(small, degree, upper_triangular), count, max_squarings)
    too_large = expand_dims(floor(exponent) > max_squarings, (-1, -2))
    return where(too_large, np.nan, result).astype(x.dtype)


def _approximant(x: Any, degree: int, upper_triangular: bool) -> Any:
    """The Pade approximant: its numerator is V + U, its denominator V - U."""
    weights = [
        float(math.factorial(2 * degree - j) // (math.factorial(degree - j) * math.factorial(j)))
        for j in range(degree + 1)
    ]
    second = matmul(x, x)
    fourth = matmul(second, second)
    powers = [mx.identity_like(x), second, fourth, matmul(fourth, second)]

    def even(first: int) -> Any:
        """The part of every second power from `first` on, divided by the `first` power."""
        chosen = weights[first::2]
        total = sum(w * power for w, power in zip(chosen[:4], powers, strict=False))
        high = chosen[4:]
        if not high:
            return total
        beyond = sum(w * power for w, power in zip(high, powers[1:], strict=True))
        return total + matmul(powers[3], beyond)

    v, u = even(0), matmul(x, even(1))
    if upper_triangular:
        flags = {"transpose_a": False, "conjugate_a": False, "unit_diagonal": False}
        return ops.triangular_solve(v - u, v + u, left_side=True, lower=False, **flags)
    return solve_matrices(v - u, v + u)


def _same(x: Any) -> Any:
    return x


def _squared(x: Any, count: Any, most: int) -> Any:
    """Matrices squared, each as often as its count says, at most once more than `most`."""

    def step(x: Any, k: Any) -> tuple[Any, None]:
        wanted = k < count

        def square(x: Any) -> Any:
            return where(expand_dims(wanted, (-1, -2)), matmul(x, x), x)

        return cond(some(wanted), square, _same, x), None

    return scan(step, x, arange(most + 1, dtype=count.dtype))[0]


_METHODS = (None, "SPS", "blockEnlarge")


def expm_frechet(A: Any, E: Any, *, method: str | None = None, compute_expm: bool = True) -> Any:
    """The derivative of `expm` in a direction.

    Args:
        A: square matrices, where to take it.
        E: matrices of the same shape, the direction.
        method: SciPy's names are accepted; it is forward-mode differentiation in any case.
        compute_expm: return the exponential, too.

    Returns:
        The exponential and the derivative, or the derivative alone.

    Raises:
        ValueError: shapes differ, matrices are not square, or there is no such method.
    """
    if method not in _METHODS:
        raise ValueError(f"scipy.linalg.expm_frechet: unknown method {method!r}")
    x = matrices("scipy.linalg.expm_frechet", asarray(A), square=True)
    t = matrices("scipy.linalg.expm_frechet", asarray(E), square=True)
    if x.shape != t.shape:
        raise ValueError(
            f"scipy.linalg.expm_frechet needs matrices of one shape, got {x.aval} and {t.aval}"
        )
    value, change = jvp(expm, (x,), (convert(t, x.dtype),))
    return (value, change) if compute_expm else change
