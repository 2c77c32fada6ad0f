"""Error functions, gamma functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from covector.loopir import coefficients as table
from covector.loopir.math_exponential import exp_of_sum, log_of_normal
from covector.loopir.math_support import (
    SINGLE,
    Real,
    horner,
    polynomial,
    split_normal,
    two_product,
)
from covector.loopir.math_trigonometric import sin_pi
from covector.loopir.scalars import F32, F64

_ERF = {F32: table.ERF_F32, F64: table.ERF_F64}
_ERFC = {F32: table.ERFC_F32, F64: table.ERFC_F64}


def _erfc_positive(x: Real) -> Real:
    """erfc(x) for x >= 0: a polynomial in (x - 2) / (x + 2) times exp(-x^2) / (1 + 2 x).

    The exponential takes the rounding error of x^2 into account.
    """
    x = x.op("min", 12.0 if x.fmt is SINGLE else 28.0)
    u = (x - 2.0) / (x + 2.0)
    square, error = two_product(x, x)
    ratio = polynomial(u, _ERFC[x.dtype]) / (x + x + 1.0)
    lowest = -110.0 if x.fmt is SINGLE else -750.0
    return exp_of_sum((-square).op("max", lowest), -error, ratio)


def _erf_small(x: Real) -> Real:
    """erf(x) for |x| <= 1, or 1.1 in float32."""
    return x.fma(polynomial(x * x, _ERF[x.dtype]), x)


def erf(x: Real) -> Real:
    """The error function."""
    a = abs(x)
    far, rest = (1.1, _erf_rest_f32) if x.fmt is SINGLE else (1.0, _erfc_positive)
    return (a < far).pick(_erf_small(x), (1.0 - rest(a)).copysign(x))


def _erf_rest_f32(a: Real) -> Real:
    """1 - erf(a) from 1.1 on as a fourth power; at 4 it is 2^-26 and stays there."""
    root = polynomial(a.op("min", 4.0) - 2.5, table.ERF_REST_F32)
    square = root * root
    return square * square


def erfc(x: Real) -> Real:
    """1 - erf(x), accurate where that is tiny."""
    a = abs(x)
    far = _erfc_positive(a)
    return (a < 0.5).pick(1.0 - _erf_small(x), (x < 0.0).pick(2.0 - far, far))


def erf_inv(x: Real) -> Real:
    """The inverse of erf: polynomials in w = -log(1 - x^2), or in sqrt(w) (after Giles, 2010)."""
    a = abs(x)
    w = -log_of_normal((1.0 - a) * (a + 1.0))
    root = w.sqrt()
    if x.fmt is SINGLE:
        low = polynomial(w - 2.5, table.ERF_INV_LOW_F32)
        high = polynomial(root - 3.0, table.ERF_INV_HIGH_F32)
        factor = (w < 5.0).pick(low, high)
    else:
        low = polynomial(w - 3.125, table.ERF_INV_LOW_F64)
        middle = polynomial(root - 3.25, table.ERF_INV_MIDDLE_F64)
        high = polynomial(root - 5.0, table.ERF_INV_HIGH_F64)
        factor = (w < 6.25).pick(low, (root < 4.0).pick(middle, high))
    edge = a.eq(1.0).pick(x * math.inf, x.const(math.nan))
    return (a < 1.0).pick(x * factor, edge)


# Where the asymptotic series of lgamma begins, and log(2 pi) / 2 - 1/2.
_LGAMMA_FAR = {F32: 3.0, F64: 8.0}
_STIRLING = 0.4189385332046727


def lgamma(x: Real) -> Real:
    """log|gamma(x)|, computed in float64; by reflection where x is negative."""
    wide = x.convert(F64)
    size = abs(wide)
    value = _lgamma_single(size) if x.fmt is SINGLE else _lgamma_double(size)

    def reflected() -> list[Any]:
        return [(wide < 0.0).pick(_lgamma_reflected(size, value), value).value]

    (result,) = x.b.if_((wide < 0.0).value, reflected, lambda: [value.value])
    edge = size.eq(0.0) | ~(size < math.inf)
    # Infinity at 0, and NaN stays.
    result = edge.pick((size + 1.0) * math.inf, Real(x.b, result))
    return result.convert(x.dtype)


def _lgamma_reflected(y: Real, value: Real) -> Real:
    """lgamma(-y) for y > 0, by gamma(-y) gamma(y) = -pi / (y sin(pi y)); infinite at poles."""
    sine = sin_pi(abs(y - y.op("round_even")))
    product = Real(y.b, y.b.op("log", (y * sine * (1.0 / math.pi)).value))
    return (y < 1e-30).pick(value, -product - value)


def _lgamma_single(y: Real) -> Real:
    """lgamma(y) for what float32 holds: -log(y) + lgamma(y + 1), a polynomial, or the series."""
    logarithm, inverse = _log_and_inverse(y)
    below, above = y < 1.0, y >= _LGAMMA_FAR[F32]
    near = _lgamma_near(below.pick(y, y - 1.0), 1.0, table.LGAMMA_NEAR_F32)
    far = _stirling_rest(inverse, table.LGAMMA_FAR_F32)
    factor = above.pick(y - 0.5, below.pick(-1.0, y.const(0.0)))
    return above.pick(logarithm - 1.0, logarithm).fma(factor, above.pick(far, near))


def _lgamma_double(y: Real) -> Real:
    """The same for float64; between 2 and 8 the logarithm of a product is added."""
    below, above = y < 1.0, y >= _LGAMMA_FAR[F64]
    moved, product = y, y.const(1.0)
    for _ in range(int(_LGAMMA_FAR[F64]) - 2):
        more = moved >= 2.0
        moved = more.pick(moved - 1.0, moved)
        product = more.pick(product * moved, product)
    near = _lgamma_near(below.pick(y, moved - 1.0), 0.5, table.LGAMMA_NEAR_F64)
    far = _stirling_rest(1.0 / y, table.LGAMMA_FAR_F64)
    argument = (below | above).pick(y, product)
    logarithm = Real(y.b, y.b.op("log", argument.value))
    factor = above.pick(y - 0.5, below.pick(-1.0, y.const(1.0)))
    return above.pick(logarithm - 1.0, logarithm).fma(factor, above.pick(far, near))


def _lgamma_near(t: Real, centre: float, coefficients: Sequence[float]) -> Real:
    """lgamma(1 + t), its roots kept."""
    return t * (t - 1.0) * polynomial(t - centre, coefficients)


def _stirling_rest(inverse: Real, coefficients: Sequence[float]) -> Real:
    """What lgamma(y) is beyond (y - 1/2) (log(y) - 1), from 1 / y."""
    return inverse.fma(polynomial(inverse * inverse, coefficients), _STIRLING)


def _log_and_inverse(y: Real) -> tuple[Real, Real]:
    """log(y), to what float32 needs, and 1 / y, by one division; y may not be subnormal."""
    m, k = split_normal(y)
    below = m + 1.0
    quotient = 1.0 / (below * y)
    s = (m - 1.0) * (y * quotient)
    z = s * s
    series = s.fma(z * polynomial(z, table.LOG_S_POW32), s + s)
    return k.fma(math.log(2.0), series), below * quotient


# The root of digamma in two parts, and B(2k) / 2k for k = 1 ... 7, its asymptotic series.
_ROOT = (1.4616321449683622, 9.549995429965697e-17)
_SERIES = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
_FAR = 10


def digamma(x: Real) -> Real:
    """The logarithmic derivative of gamma, computed in float64.

    A polynomial between 1 and 2, recurrence to get there, the asymptotic series beyond 10, and
    reflection for negative x.
    """
    wide = x.convert(F64)
    negative = wide < 0.0
    y = negative.pick(1.0 - wide, wide)
    value = (y < float(_FAR)).pick(_digamma_near(y), _digamma_far(y))
    fraction = wide - wide.op("round_even")
    tangent = Real(x.b, x.b.op("tan", (fraction * math.pi).value))
    value = negative.pick(value - math.pi / tangent, value)
    pole = (wide <= 0.0) & fraction.eq(0.0)
    value = pole.pick(math.nan, value)
    value = wide.eq(0.0).pick(-math.inf, value)
    value = (wide < math.inf).pick(value, wide)
    return value.convert(x.dtype)


def _digamma_far(y: Real) -> Real:
    inverse = 1.0 / y
    z = inverse * inverse
    return Real(y.b, y.b.op("log", y.value)) - inverse * 0.5 - z * horner(z, _SERIES)


def _digamma_near(y: Real) -> Real:
    # -1/y below 1, or 1/(y - 1) + 1/(y - 2) + ... above 2, as one fraction
    small = y < 1.0
    over, under = small.pick(-1.0, y.const(0.0)), small.pick(y, y.const(1.0))
    moved = small.pick(y + 1.0, y)
    for _ in range(_FAR - 2):
        more = moved >= 2.0
        moved = more.pick(moved - 1.0, moved)
        over = more.pick(over * moved + under, over)
        under = more.pick(under * moved, under)
    near = ((moved - _ROOT[0]) - _ROOT[1]) * polynomial(moved - 1.5, table.DIGAMMA)
    return near + over / under
