"""Trigonometric functions and their inverses.

Arguments are reduced to |r| <= pi/4 by a multiple n of pi/2 in three parts. What is left after the
first part is exact as long as n has few bits, and the rounding errors of taking off the second are
kept. Larger arguments go through a branch that is almost never taken: float32 in float64
arithmetic, with parts of pi/2 whose products with n are exact, and what is too large for that by
the C library, one lane at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from covector.loopir import coefficients as table
from covector.loopir.math_support import (
    SINGLE,
    Real,
    polynomial,
    quick_two_sum,
    round_to_integer,
    two_product,
)
from covector.loopir.scalars import F32, F64

_INF = math.inf
# pi/2 as sums of three floats: of 26, 26 and 53 bits, and of full precision.
_HALF_PI_SHORT = (1.5707963109016418, 1.5893254712295857e-08, 6.123233995736766e-17)
_HALF_PI_FULL = {
    F32: (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    F64: (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}
# pi/8 in two parts; the first has 22 (51) bits.
_EIGHTH_PI = {
    F32: (0.3926990032196045, 7.847911831504462e-08),
    F64: (0.39269908169872414, 1.5308084989341915e-17),
}
_HALF_PI = {
    F32: (1.5707963705062866, -4.371139e-08),
    F64: (1.5707963267948966, 6.123233995736766e-17),
}
_LARGE = {F32: 1e4, F64: 1e6}
_HUGE = 1e8
_SIN = {F32: table.SIN_F32, F64: table.SIN_F64}
_COS = {F32: table.COS_F32, F64: table.COS_F64}
_TAN = {F32: table.TAN_F32, F64: table.TAN_F64}
_ASIN = {F32: table.ASIN_F32, F64: table.ASIN_F64}


Reduced = tuple[Real, Real, Real]
"""r and c with x = n pi/2 + r + c and a tiny c; an integer with n in its low bits."""


def _reduced(x: Real) -> Reduced:
    n, bits = round_to_integer(x * (2.0 / math.pi))
    first, second, third = _HALF_PI_FULL[x.dtype]
    exact = n.op("fma", -first, x, attr="exact")
    product, error = two_product(n, second)
    near = exact - product
    lost = (exact - near) - product
    return *quick_two_sum(near, n.fma(-third, lost - error)), bits


def _reduced_in_double(x: Real) -> Reduced:
    wide = x.convert(F64)
    n, bits = round_to_integer(wide * (2.0 / math.pi))
    for part in _HALF_PI_SHORT:
        wide = n.fma(-part, wide)
    r = wide.convert(F32)
    return r, (wide - r.convert(F64)).convert(F32), bits.convert(SINGLE.bits)


def _sin_reduced(r: Real, c: Real) -> Real:
    t = r * r
    return r + (r * t * polynomial(t, _SIN[r.dtype]) + c)


def _cos_reduced(r: Real, c: Real) -> Real:
    t = r * r
    half = t * 0.5
    head = 1.0 - half
    rest = t * t * polynomial(t, _COS[r.dtype]) - r * c
    return head + (((1.0 - head) - half) + rest)


def sin_pi(r: Real) -> Real:
    """sin(pi r) for 0 <= r <= 1/2."""
    zero = r.const(0.0)
    near, far = _sin_reduced(r * math.pi, zero), _cos_reduced((0.5 - r) * math.pi, zero)
    return (r < 0.25).pick(near, far)


def _unless(x: Real, limit: float, value: Real, otherwise: Callable[[], Real]) -> Real:
    """The value, but where |x| exceeds the limit what is computed in a branch."""
    large = abs(x) > limit
    (result,) = x.b.if_(large.value, lambda: [otherwise().value], lambda: [value.value])
    return Real(x.b, result)


def _by_library(x: Real, name: str) -> Real:
    symbol = name if x.dtype is F64 else f"{name}f"
    return Real(x.b, x.b.pure_call(symbol, x.dtype, x.value))


def _sin(x: Real, reduced: Reduced) -> Real:
    return x.eq(0.0).pick(x, _quadrant(reduced, 0))


def _cos(x: Real, reduced: Reduced) -> Real:
    return _quadrant(reduced, 1)


def _quadrant(reduced: Reduced, shift: int) -> Real:
    r, c, n = reduced
    if shift:
        n = n + shift
    odd = (n & 1).ne(0)
    value = odd.pick(_cos_reduced(r, c), _sin_reduced(r, c))
    sign = (n & 2) << (8 * r.dtype.itemsize - 2)
    return (value.as_bits() ^ sign).as_float()


def _tan(x: Real, reduced: Reduced) -> Real:
    r, c, n = reduced
    t = r * r
    rest = r * t * polynomial(t, _TAN[x.dtype])
    value = r + rest
    # With the error of the sum, tan = value + low; the reciprocal takes it into account.
    low = (rest - (value - r)) + c * value.fma(value, 1.0)
    inverse = 1.0 / value
    product, error = two_product(inverse, value)
    inverse = inverse + inverse * ((1.0 - product) - error - inverse * low)
    return x.eq(0.0).pick(x, (n & 1).ne(0).pick(-inverse, value + low))


_KERNELS = {"sin": _sin, "cos": _cos, "tan": _tan}


def _function(name: str) -> Callable[[Real], Real]:
    """A function for all arguments; the large ones by the function `name_large`."""
    kernel = _KERNELS[name]

    def definition(x: Real) -> Real:
        value = kernel(x, _reduced(x))
        return _unless(x, _LARGE[x.dtype], value, lambda: x.op(f"{name}_large"))

    return definition


def _large_function(name: str) -> Callable[[Real], Real]:
    """The same for arguments that the other leaves to it."""
    kernel = _KERNELS[name]

    def definition(x: Real) -> Real:
        if x.fmt is not SINGLE:
            return _by_library(x, name)
        value = kernel(x, _reduced_in_double(x))
        return _unless(x, _HUGE, value, lambda: _by_library(x, name))

    return definition


sin, cos, tan = (_function(name) for name in _KERNELS)
sin_large, cos_large, tan_large = (_large_function(name) for name in _KERNELS)


# Inverse functions


def _atan_of_quotient(y: Real, x: Real, left: Real | None = None) -> Real:
    """atan(y / x) for positive operands, and pi minus that where `left`."""
    if x.fmt is SINGLE:
        # at most 1: y/x or -x/y
        steep = y > x
        z = steep.pick(-x, y) / steep.pick(y, x)
        eighths = steep.pick(4.0, x.const(0.0))
        series = table.ATAN_F32
    else:
        # at most tan(pi/8): y/x, -x/y or (y - x)/(y + x)
        steep = y > x * 2.414213562373095
        flat = y < x * 0.41421356237309503
        over = steep.pick(-x, flat.pick(y, y - x))
        z = over / steep.pick(y, flat.pick(x, y + x))
        eighths = steep.pick(4.0, flat.pick(0.0, x.const(2.0)))
        series = table.ATAN_F64
    if left is not None:
        eighths = left.pick(8.0 - eighths, eighths)
        z = left.pick(-z, z)
    t = z * z
    # Multiples of pi/8 by 0, 2, 4 and 8 are exact; by 6, pi/8 is short enough.
    high, low = _EIGHTH_PI[x.dtype]
    rest = (z * t).fma(polynomial(t, series), eighths * low)
    return eighths.fma(high, z + rest)


def atan(x: Real) -> Real:
    """The arc tangent; -0.0 stays."""
    a = abs(x)
    infinite = a.eq(_INF)
    value = _atan_of_quotient(infinite.pick(1.0, a), infinite.pick(0.0, x.const(1.0)))
    return value.copysign(x)


def atan2(y: Real, x: Real) -> Real:
    """The angle of the point (x, y), in all four quadrants, as IEEE 754 has it."""
    a, c = abs(y), abs(x)
    limit = 2.0**120 if x.fmt is SINGLE else 2.0**1020
    scale = ((a > limit) | (c > limit)).pick(0.125, x.const(1.0))
    both = a.eq(_INF) & c.eq(_INF)
    neither = a.eq(0.0) & c.eq(0.0)
    a, c = both.pick(1.0, a * scale), (both | neither).pick(1.0, c * scale)
    infinite = a.eq(_INF)
    a, c = infinite.pick(1.0, a), infinite.pick(0.0, c)
    value = _atan_of_quotient(a, c, left=x.as_bits() < 0)
    return (x.is_nan() | y.is_nan()).pick(math.nan, value.copysign(y))


def _asin_small(s: Real, t: Real) -> Real:
    """asin(s) - s for |s| <= 1/2, t = s^2."""
    return s * t * polynomial(t, _ASIN[s.dtype])


def asin(x: Real) -> Real:
    """The arc sine; pi/2 - 2 asin(sqrt((1 - |x|) / 2)) for large |x|."""
    a = abs(x)
    large = a > 0.5
    t = large.pick((1.0 - a) * 0.5, a * a)
    s = large.pick(t.sqrt(), a)
    rest = _asin_small(s, t)
    high, low = _HALF_PI[x.dtype]
    far = high - ((s + s) + (rest + rest - low))
    return large.pick(far, s + rest).copysign(x)


def acos(x: Real) -> Real:
    """The arc cosine: pi/2 - asin(x), or twice the arc sine of sqrt((1 - |x|) / 2)."""
    a = abs(x)
    large = a > 0.5
    t = large.pick((1.0 - a) * 0.5, a * a)
    s = large.pick(t.sqrt(), x)
    rest = _asin_small(s, t)
    high, low = _HALF_PI[x.dtype]
    near = high - (s + (rest - low))
    twice = (s + rest) * 2.0
    mirrored = 2 * high - ((s + s) + (rest + rest - 2 * low))
    return large.pick((x < 0.0).pick(mirrored, twice), near)
