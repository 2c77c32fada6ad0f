"""Trigonometric functions and their inverses.

Arguments are reduced to |r| <= pi/4 by a multiple n of pi/2: float32 in float64 arithmetic with
pi/2 in three parts whose products with n are exact; float64 with pi/2 in three parts of 53 bits and
the rounding errors of all products and differences. Beyond the range of n where that holds, a
branch that is almost never taken calls the C library, one lane at a time.
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
# pi/2 as sums: of 26, 26 and 53 bits, and of 53 bits each.
_HALF_PI_SHORT = (1.5707963109016418, 1.5893254712295857e-08, 6.123233995736766e-17)
_HALF_PI_LONG = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
# pi/8 in two parts; the first has 22 (51) bits.
_EIGHTH_PI = {
    F32: (0.3926990032196045, 7.847911831504462e-08),
    F64: (0.39269908169872414, 1.5308084989341915e-17),
}
_HALF_PI = {
    F32: (1.5707963705062866, -4.371139e-08),
    F64: (1.5707963267948966, 6.123233995736766e-17),
}
_LARGE = {F32: 1e8, F64: 1e6}
_SIN = {F32: table.SIN_F32, F64: table.SIN_F64}
_COS = {F32: table.COS_F32, F64: table.COS_F64}
_TAN = {F32: table.TAN_F32, F64: table.TAN_F64}
_ASIN = {F32: table.ASIN_F32, F64: table.ASIN_F64}


def _reduced(x: Real) -> tuple[Real, Real, Real]:
    """x = n pi/2 + r + c with a tiny c, and n in the low bits of an integer of x's width."""
    if x.fmt is SINGLE:
        wide = x.convert(F64)
        n, bits = round_to_integer(wide * (2.0 / math.pi))
        for part in _HALF_PI_SHORT:
            wide = n.fma(-part, wide)
        r = wide.convert(F32)
        return r, (wide - r.convert(F64)).convert(F32), bits.convert(SINGLE.bits)
    n, bits = round_to_integer(x * (2.0 / math.pi))
    product, error = two_product(n, _HALF_PI_LONG[0])
    exact = (x - product) - error
    product, error = two_product(n, _HALF_PI_LONG[1])
    r = exact - product
    virtual = r - exact
    lost = (exact - (r - virtual)) - (product + virtual)
    r, c = quick_two_sum(r, n.fma(-_HALF_PI_LONG[2], lost - error))
    return r, c, bits


def _sin_reduced(r: Real, c: Real) -> Real:
    t = r * r
    rest = r * t * polynomial(t, _SIN[r.dtype])
    return r + (rest if r.fmt is SINGLE else rest + c)


def _cos_reduced(r: Real, c: Real) -> Real:
    t = r * r
    half = t * 0.5
    head = 1.0 - half
    rest = t * t * polynomial(t, _COS[r.dtype])
    if r.fmt is not SINGLE:
        rest = rest - r * c
    return head + (((1.0 - head) - half) + rest)


def _with_large(x: Real, name: str, value: Callable[[], Real]) -> Real:
    """The value, or that of the C library where the argument is too large for the reduction."""
    b = x.b
    large = abs(x) > _LARGE[x.dtype]
    near = value()
    (result,) = b.if_(
        large.value,
        lambda: [b.op(f"{name}_large", x.value)],
        lambda: [near.value],
    )
    return Real(b, result)


def by_library(name: str) -> Callable[..., Real]:
    """A definition that calls the C library.

    Args:
        name: the function's name for double.

    Returns:
        The definition.
    """

    def definition(*args: Real) -> Real:
        x = args[0]
        symbol = name if x.dtype is F64 else f"{name}f"
        return Real(x.b, x.b.pure_call(symbol, x.dtype, *(a.value for a in args)))

    return definition


def _quadrant(x: Real, shift: int) -> Real:
    r, c, n = _reduced(x)
    if shift:
        n = n + shift
    odd = (n & 1).ne(0)
    value = odd.pick(_cos_reduced(r, c), _sin_reduced(r, c))
    sign = (n & 2) << (8 * x.dtype.itemsize - 2)
    return (value.as_bits() ^ sign).as_float()


def sin(x: Real) -> Real:
    """The sine; -0.0 stays."""
    return _with_large(x, "sin", lambda: x.eq(0.0).pick(x, _quadrant(x, 0)))


def cos(x: Real) -> Real:
    """The cosine."""
    return _with_large(x, "cos", lambda: _quadrant(x, 1))


def _tan(x: Real) -> Real:
    r, c, n = _reduced(x)
    t = r * r
    rest = r * t * polynomial(t, _TAN[x.dtype])
    value = r + rest
    # With the error of the sum, tan = value + low; the reciprocal takes it into account.
    low = (rest - (value - r)) + c * value.fma(value, 1.0)
    inverse = 1.0 / value
    product, error = two_product(inverse, value)
    inverse = inverse + inverse * ((1.0 - product) - error - inverse * low)
    return x.eq(0.0).pick(x, (n & 1).ne(0).pick(-inverse, value + low))


def tan(x: Real) -> Real:
    """The tangent; -0.0 stays."""
    return _with_large(x, "tan", lambda: _tan(x))


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
