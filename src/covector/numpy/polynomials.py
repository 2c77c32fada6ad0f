"""Polynomials as vectors of coefficients, the highest power first."""

from __future__ import annotations

from typing import Any

import numpy as np

from covector.core import dtypes
from covector.numpy.calculus import convolve
from covector.numpy.creation import asarray
from covector.numpy.elementwise import where
from covector.numpy.joining import concatenate
from covector.numpy.manipulation import atleast_1d, expand_dims, reshape
from covector.numpy.promote import (
    broadcast_shapes,
    broadcast_to,
    constant,
    convert,
    operand,
    promote_dtypes,
    promote_inexact,
    whole_numbers,
)
from covector.numpy.reductions import one_axis
from covector.numpy.sorting import known_values
from covector.ops import elementwise as el
from covector.ops.reduce import reduce_sum
from covector.ops.shape import pad

__all__ = [
    "poly",
    "polyadd",
    "polyder",
    "polydiv",
    "polyfit",
    "polyint",
    "polymul",
    "polysub",
    "polyval",
    "roots",
    "trim_zeros",
    "vander",
]


def polyval(p: Any, x: Any, *, unroll: int = 16) -> Any:
    """The values of a polynomial, by Horner's rule.

    Args:
        p: coefficients along the first axis, the highest power first.
        x: where.
        unroll: of long polynomials, how many steps the body of the loop takes.

    >>> import covector.numpy as cnp
    >>> cnp.polyval(cnp.array([1.0, 0.0, -1.0]), 3.0)
    Array(8., dtype=float32)
    """
    from covector.lax.control_flow import scan

    coefficients, at = promote_dtypes(operand(p, "polyval"), operand(x, "polyval"))
    shape = broadcast_shapes("polyval", coefficients.shape[1:], at.shape)
    value = broadcast_to(constant(0, at.dtype), shape)
    at = broadcast_to(at, shape)

    def step(value: Any, coefficient: Any) -> Any:
        return el.add(el.mul(value, at), broadcast_to(coefficient, shape)), None

    if coefficients.shape[0] <= _UNROLLED:
        for k in range(coefficients.shape[0]):
            value, _ = step(value, coefficients[k])
        return value
    return scan(step, value, coefficients, unroll=unroll)[0]


_UNROLLED = 32


def _coefficients(name: str, *args: Any) -> list[Any]:
    found = [atleast_1d(operand(a, name)) for a in args]
    for x in found:
        if x.ndim != 1:
            raise ValueError(f"{name} needs vectors of coefficients, got {x.aval}")
    return found


def _aligned(name: str, a1: Any, a2: Any) -> list[Any]:
    """Coefficients of one dtype, zeros put before the shorter ones."""
    pair = promote_dtypes(*_coefficients(name, a1, a2))
    size = max(x.shape[0] for x in pair)
    return [_padded(x, size) for x in pair]


def _padded(x: Any, size: int) -> Any:
    missing = size - x.shape[0]
    return pad(x, constant(0, x.dtype), padding_config=((missing, 0, 0),)) if missing else x


def polyadd(a1: Any, a2: Any) -> Any:
    """The sum of two polynomials."""
    x, y = _aligned("polyadd", a1, a2)
    return x + y


def polysub(a1: Any, a2: Any) -> Any:
    """The difference of two polynomials."""
    x, y = _aligned("polysub", a1, a2)
    return x - y


def polymul(a1: Any, a2: Any, *, trim_leading_zeros: bool = False) -> Any:
    """The product of two polynomials.

    Args:
        a1: coefficients.
        a2: coefficients.
        trim_leading_zeros: leave out leading zeros first; needs values known while tracing.
    """
    pair = promote_inexact(*_coefficients("polymul", a1, a2))
    if trim_leading_zeros and (pair[0].shape[0] > 1 or pair[1].shape[0] > 1):
        pair = [x if x.shape[0] else _zero(x) for x in (trim_zeros(x, "f") for x in pair)]
    x, y = (x if x.shape[0] else _zero(x) for x in pair)
    return convolve(x, y)


def _zero(x: Any) -> Any:
    return broadcast_to(constant(0, x.dtype), (1,))


def polydiv(u: Any, v: Any, *, trim_leading_zeros: bool = False) -> tuple[Any, Any]:
    """The quotient and the remainder of two polynomials.

    Args:
        u: coefficients of the dividend.
        v: coefficients of the divisor, the first not zero.
        trim_leading_zeros: leave out leading zeros of the remainder; needs values known while
            tracing.
    """
    rest, divisor = promote_inexact(*_coefficients("polydiv", u, v))
    steps = rest.shape[0] - divisor.shape[0] + 1
    if steps <= 0:
        return _zero(rest), rest
    quotient: list[Any] = []
    for k in range(steps):
        factor = rest[k] / divisor[0]
        quotient.append(reshape(factor, (1,)))
        rest = rest.at[k : k + divisor.shape[0]].add(-factor * divisor)
    if trim_leading_zeros:
        rest = trim_zeros(rest, "f")
    return concatenate(quotient), rest


def polyder(p: Any, m: int = 1) -> Any:
    """The derivative of a polynomial.

    Args:
        p: coefficients.
        m: how many times.
    """
    if m < 0:
        raise ValueError(f"polyder: m must be at least 0, got {m}")
    (x,) = promote_inexact(*_coefficients("polyder", p))
    for _ in range(m):
        powers = whole_numbers(x.shape[0] - 1, 0, -1)
        x = x[:-1] * asarray(powers, x.dtype) if len(powers) else x[:0]
    return x


def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    """The integral of a polynomial.

    Args:
        p: coefficients.
        m: how many times.
        k: constants of integration, one for each time, 0 by default.
    """
    if m < 0:
        raise ValueError(f"polyint: m must be at least 0, got {m}")
    constants = _coefficients("polyint", 0 if k is None else k)[0]
    x, constants = promote_inexact(*_coefficients("polyint", p), constants)
    if constants.shape == (1,):
        constants = broadcast_to(constants, (m,))
    if constants.shape != (m,):
        raise ValueError(f"polyint: k must be a number or {m} of them, got {constants.aval}")
    for step in range(m):
        powers = whole_numbers(x.shape[0], 0, -1)
        x = concatenate([x / asarray(powers, x.dtype), constants[step : step + 1]])
    return x


def poly(seq_of_zeros: Any) -> Any:
    """The polynomial with given roots, or the characteristic polynomial of a matrix.

    Args:
        seq_of_zeros: a vector of roots, or a square matrix.
    """
    (roots,) = promote_inexact(atleast_1d(operand(seq_of_zeros, "poly")))
    if roots.ndim == 2:
        if roots.shape[0] != roots.shape[1] or not roots.shape[0]:
            raise ValueError(f"poly needs a vector or a square matrix, got {roots.aval}")
        roots = _eigenvalues(roots)
    if roots.ndim != 1:
        raise ValueError(f"poly needs a vector or a square matrix, got {roots.aval}")
    one = broadcast_to(constant(1, roots.dtype), (1,))
    result = one
    for k in range(roots.shape[0]):
        result = convolve(result, concatenate([one, -roots[k : k + 1]]))
    return result


def roots(p: Any, *, strip_zeros: bool = True) -> Any:
    """The roots of a polynomial: the eigenvalues of its companion matrix.

    Args:
        p: coefficients.
        strip_zeros: leave out zeros at both ends first, which needs values known while tracing.
            Without it, the first coefficient must not be zero.

    Returns:
        Complex numbers, one less than there are coefficients left.
    """
    (x,) = promote_inexact(*_coefficients("roots", p))
    zeros = 0
    if strip_zeros:
        size = x.shape[0]
        x = trim_zeros(x, "f")
        zeros, x = x.shape[0], trim_zeros(x, "b")
        zeros = zeros - x.shape[0] if size else 0
    count = max(x.shape[0] - 1, 0)
    none = broadcast_to(constant(0, dtypes.complex_of(x.dtype)), (zeros,))
    if not count:
        return none
    below = asarray(np.eye(count, k=-1), x.dtype)
    companion = below.at[0].set(-x[1:] / x[0])
    found = _eigenvalues(companion)
    return concatenate([found, none]) if zeros else found


def _eigenvalues(x: Any) -> Any:
    from covector.numpy.linalg import eigvals

    return eigvals(x)


def polyfit(
    x: Any,
    y: Any,
    deg: int,
    rcond: float | None = None,
    full: bool = False,
    w: Any = None,
    cov: Any = False,
) -> Any:
    """The polynomial nearest to points, in the sense of least squares.

    Args:
        x: a vector of coordinates.
        y: values at them; more axes are more polynomials.
        deg: the degree.
        rcond: singular values below the largest one times this count as zero.
        full: also return the sums of squared residuals, the rank, the singular values and `rcond`.
        w: weights of the points, by which residuals are multiplied.
        cov: also return the covariance of the coefficients; "unscaled" for weights that are
            inverse standard deviations.

    Returns:
        The coefficients, in a tuple with what else was asked for.

    >>> import covector.numpy as cnp
    >>> cnp.polyfit(cnp.array([0.0, 1.0, 2.0]), cnp.array([1.0, 3.0, 5.0]), 1).round(3)
    Array([2., 1.], dtype=float32)
    """
    points, values = promote_inexact(operand(x, "polyfit"), operand(y, "polyfit"))
    count, order = _check_points(points, values, deg), deg + 1
    matrix = vander(points, order)
    if w is not None:
        weights = convert(operand(w, "polyfit"), matrix.dtype)
        if weights.shape != points.shape:
            raise ValueError(f"polyfit needs a weight for each point, got {weights.aval}")
        matrix = matrix * weights[:, None]
        values = values * reshape(weights, (-1,) + (1,) * (values.ndim - 1))
    scale = el.sqrt(reduce_sum(el.square(matrix), axes=(0,)))
    matrix = matrix / scale
    limit = count * float(dtypes.finfo(matrix.dtype).eps) if rcond is None else rcond
    solution, inverse, singular, rank = _least_squares(matrix, values, limit)
    residuals = reduce_sum(el.square(matrix @ solution - values), axes=(0,))
    solution = solution / reshape(scale, (-1,) + (1,) * (values.ndim - 1))
    if full:
        return solution, atleast_1d(residuals), rank, singular, asarray(limit, matrix.dtype)
    if not cov:
        return solution
    covariance = inverse / (scale[:, None] * scale[None, :])
    if cov != "unscaled":
        if count <= order:
            raise ValueError(
                f"polyfit: {count} points are too few for the covariance of {order} coefficients"
            )
        residuals = residuals / (count - order)
        covariance = (
            covariance * residuals if values.ndim == 1 else covariance[:, :, None] * residuals
        )
    return solution, covariance


def _check_points(points: Any, values: Any, deg: int) -> int:
    """How many points there are."""
    if deg < 0:
        raise ValueError(f"polyfit: deg must be at least 0, got {deg}")
    if points.ndim != 1 or not points.shape[0] or values.ndim not in (1, 2):
        raise ValueError(
            f"polyfit needs a vector of coordinates, and one or two axes of values, "
            f"got {points.aval} and {values.aval}"
        )
    if points.shape[0] != values.shape[0]:
        raise ValueError(f"polyfit needs a value for each point, got {points.aval}, {values.aval}")
    return points.shape[0]


def _least_squares(a: Any, b: Any, limit: Any) -> tuple[Any, Any, Any, Any]:
    """The solution, the inverse of `a.T @ a`, the singular values and the rank."""
    from covector.numpy.linalg import svd

    u, singular, vh = svd(a, full_matrices=False)
    kept = singular > limit * singular[0]
    inverses = where(kept, 1 / where(kept, singular, 1), 0)
    columns = vh.T * inverses
    rank = reduce_sum(convert(kept, dtypes.int32), axes=(0,))
    return columns @ (u.T @ b), columns @ columns.T, singular, rank


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """The matrix of powers of a vector, a row for each element.

    Args:
        x: a vector.
        N: how many columns, as many as rows by default.
        increasing: the power 0 first.
    """
    x = operand(x, "vander")
    if x.ndim != 1:
        raise ValueError(f"vander needs a vector, got {x.aval}")
    if dtypes.is_bool(x.dtype):
        raise TypeError(f"vander is not defined for bools, got {x.aval}")
    count = x.shape[0] if N is None else N
    if count < 0:
        raise ValueError(f"vander: N must be at least 0, got {N}")
    powers = np.arange(count) if increasing else np.arange(count)[::-1]
    exponents = asarray(powers, dtypes.default_int())
    return expand_dims(x, 1) ** (
        exponents if dtypes.is_inexact(x.dtype) else convert(exponents, x.dtype)
    )


def trim_zeros(filt: Any, trim: str = "fb", axis: Any = None) -> Any:
    """An array without the zeros at its ends; needs values known while tracing.

    Args:
        filt: an array.
        trim: "f" for those in front, "b" for those behind, "fb" for both.
        axis: one axis, several, or all.
    """
    x = asarray(filt)
    values = known_values("trim_zeros", x, "as they give the size of the result")
    if axis is None:
        axes = range(x.ndim)
    else:
        given = (axis,) if isinstance(axis, int) else axis
        axes = [one_axis("trim_zeros", k, x.ndim) for k in given]
    bounds: list[Any] = [slice(None)] * x.ndim
    for k in axes:
        (places,) = np.nonzero(np.any(values != 0, axis=tuple(i for i in range(x.ndim) if i != k)))
        first, last = (places[0], places[-1] + 1) if len(places) else (x.shape[k], x.shape[k])
        start = first if "f" in trim.lower() else 0
        stop = last if "b" in trim.lower() else x.shape[k]
        bounds[k] = slice(start, stop) if len(places) else slice(0, 0)
    return x[tuple(bounds)]
