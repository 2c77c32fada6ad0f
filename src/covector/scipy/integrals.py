"""Error functions, exponential integrals, Bessel and other functions of `scipy.special`."""

from __future__ import annotations

import math
from typing import Any

import covector.numpy as cnp
from covector.core.array import Array
from covector.core.errors import compose
from covector.core.source import here
from covector.ops import elementwise as el
from covector.ops import integrals as ops
from covector.scipy.arguments import apply, floats

__all__ = [
    "dawsn",
    "erf",
    "erfc",
    "erfcx",
    "erfinv",
    "exp1",
    "expi",
    "expit",
    "expn",
    "hyp1f1",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "log_ndtr",
    "logit",
    "ndtr",
    "ndtri",
    "spence",
    "sph_harm_y",
]

# --- error functions and normal probabilities -----------------------------------------------------


def erf(x: Any) -> Any:
    """The error function.

    Args:
        x: real numbers.
    """
    return apply(el.erf, "erf", x)


def erfc(x: Any) -> Any:
    """1 minus the error function, exact where that is small.

    Args:
        x: real numbers.
    """
    return apply(el.erfc, "erfc", x)


def erfcx(x: Any) -> Any:
    """`exp(x^2) erfc(x)`.

    Args:
        x: real numbers.
    """
    return apply(ops.erfcx, "erfcx", x)


def erfinv(x: Any) -> Any:
    """The inverse of the error function.

    Args:
        x: numbers from -1 to 1.
    """
    return apply(el.erf_inv, "erfinv", x)


def dawsn(x: Any) -> Any:
    """Dawson's integral: `exp(-x^2)` times the integral of `exp(t^2)` from 0 to `x`.

    Args:
        x: real numbers.
    """
    return apply(ops.dawsn, "dawsn", x)


def ndtr(x: Any) -> Any:
    """The distribution function of standard normal numbers.

    Args:
        x: real numbers.

    >>> from covector.scipy import special
    >>> special.ndtr(0.0)
    Array(0.5, dtype=float32, weak_type=True)
    """
    (x,) = floats("ndtr", x)
    return 0.5 * el.erfc(-x * math.sqrt(0.5))


def ndtri(p: Any) -> Any:
    """The quantiles of standard normal numbers, the inverse of `ndtr`.

    Args:
        p: probabilities.
    """
    return apply(ops.ndtri, "ndtri", p)


_MOST_TERMS = 30


def log_ndtr(x: Any, series_order: int = 3) -> Any:
    """The logarithm of the distribution function of standard normal numbers.

    Args:
        x: real numbers.
        series_order: accepted for JAX's sake, from 0 to 30: terms of an expansion that it uses
            far below 0. Here as many are used as the dtype needs.
    """
    if not isinstance(series_order, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"log_ndtr: series_order must be an int, found {series_order!r}")
    if not 0 <= series_order <= _MOST_TERMS:
        raise ValueError(f"log_ndtr: series_order must be from 0 to 30, found {series_order}")
    return apply(ops.log_ndtr, "log_ndtr", x)


def expit(x: Any) -> Any:
    """`1 / (1 + exp(-x))`.

    Args:
        x: numbers.
    """
    return apply(el.logistic, "expit", x)


def logit(x: Any) -> Any:
    """`log(x / (1 - x))`, the inverse of `expit`.

    Args:
        x: numbers.
    """
    (x,) = floats("logit", x)
    # Not the logarithm of a quotient, of which the derivative at 0 would be 0 times infinity.
    return cnp.log(x) - cnp.log1p(-x)


# --- exponential integrals ------------------------------------------------------------------------


def expn(n: Any, x: Any) -> Any:
    """The exponential integral of order `n`: the integral of `exp(-x t) / t^n` from 1 on.

    Args:
        n: whole numbers that are not negative.
        x: numbers that are not negative.
    """
    return apply(ops.expn, "expn", n, x)


def exp1(x: Any) -> Any:
    """The exponential integral of order 1.

    Args:
        x: numbers that are not negative.
    """
    return expn(1, x)


def expi(x: Any) -> Any:
    """The exponential integral: that of `exp(t) / t` from minus infinity to `x`.

    Args:
        x: real numbers.
    """
    return apply(ops.expi, "expi", x)


def spence(x: Any) -> Any:
    """The integral of `log(t) / (1 - t)` from 1 to `x`, also known as a dilogarithm.

    Args:
        x: numbers that are not negative.
    """
    return apply(ops.spence, "spence", x)


def hyp1f1(a: Any, b: Any, x: Any) -> Any:
    """Kummer's confluent hypergeometric function.

    Args:
        a: real numbers.
        b: real numbers.
        x: real numbers; where terms of the series cancel (`x > 0` and `a` far below 0, or `x < 0`
            and `a` far above `b`) precision suffers.
    """
    return apply(ops.hyp1f1, "hyp1f1", a, b, x)


# --- Bessel functions -----------------------------------------------------------------------------


def i0e(x: Any) -> Any:
    """`exp(-|x|)` times the modified Bessel function of order 0.

    Args:
        x: real numbers.
    """
    return apply(el.bessel_i0e, "i0e", x)


def i0(x: Any) -> Any:
    """The modified Bessel function of order 0.

    Args:
        x: real numbers.
    """
    return apply(ops.bessel_i0, "i0", x)


def i1e(x: Any) -> Any:
    """`exp(-|x|)` times the modified Bessel function of order 1.

    Args:
        x: real numbers.
    """
    return apply(el.bessel_i1e, "i1e", x)


def i1(x: Any) -> Any:
    """The modified Bessel function of order 1.

    Args:
        x: real numbers.
    """
    return apply(ops.bessel_i1, "i1", x)


# --- spherical harmonics --------------------------------------------------------------------------


def sph_harm_y(
    n: Any, m: Any, theta: Any, phi: Any, diff_n: None = None, n_max: int | None = None
) -> Any:
    """Spherical harmonics.

    Args:
        n: degrees, whole numbers that are not negative.
        m: orders, whole numbers of absolute value up to `n`.
        theta: polar angles.
        phi: azimuths.
        diff_n: must be `None`.
        n_max: the greatest degree; needed where `n` is not known while tracing.

    Returns:
        Complex numbers, of the shape of all arguments together.
    """
    if diff_n is not None:
        raise NotImplementedError("scipy.special.sph_harm_y: diff_n is not supported")
    degree, order = cnp.asarray(n), cnp.asarray(m)
    theta, phi = floats("sph_harm_y", theta, phi)
    size = cnp.abs(order)
    value = _legendre(degree, size, theta, _greatest(degree, n_max))
    angle = size * phi
    turn = el.complex_(*cnp.broadcast_arrays(cnp.cos(angle), cnp.sin(angle)))
    harmonic = value * turn
    mirrored = cnp.where(size % 2 == 1, -1, 1) * cnp.conj(harmonic)
    return cnp.where(order < 0, mirrored, harmonic)


def _greatest(degree: Any, n_max: int | None) -> int:
    if n_max is not None:
        return n_max
    if not isinstance(degree, Array):
        raise TypeError(
            compose(
                "scipy.special.sph_harm_y needs n_max where n is traced",
                found=f"n {degree.aval}",
                fix="pass the greatest degree as n_max",
                line=here(),
            )
        )
    return int(cnp.max(degree)) if degree.size else 0


def _legendre(degree: Any, order: Any, theta: Any, n_max: int) -> Any:
    """Associated Legendre functions of cos(theta), normalised on the sphere, with their sign.

    From that of degree m = order upwards by the recurrence in the degree.
    """
    x, s = cnp.cos(theta), cnp.sin(theta)
    m = order.astype(x.dtype)
    diagonal: Any = 0.5 / math.sqrt(math.pi)
    for k in range(1, n_max + 1):
        diagonal = cnp.where(order >= k, -math.sqrt(1 + 0.5 / k) * s * diagonal, diagonal)
    before: Any = 0.0
    current = diagonal
    found = cnp.where(degree == order, current, 0.0)
    for n in range(1, n_max + 1):
        ahead = order < n
        gap = cnp.where(ahead, n * n - m * m, 1.0)
        up = cnp.sqrt((4.0 * n * n - 1.0) / gap)
        down = cnp.sqrt(
            cnp.maximum((n - 1.0) ** 2 - m * m, 0.0) / gap * (2 * n + 1) / max(2 * n - 3, 1)
        )
        after = up * x * current - down * before
        before, current = cnp.where(ahead, current, 0.0), cnp.where(ahead, after, current)
        found = cnp.where(cnp.logical_and(ahead, degree == n), current, found)
    return found
