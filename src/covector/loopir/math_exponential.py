"""Exponentials, logarithms, hyperbolic functions and powers.

Arguments of exponentials are reduced to |r| <= log(2)/2 by a multiple of log(2) in two parts, the
first short enough for exact products (Cody and Waite, 1980). Logarithms reduce to a significand
between sqrt(1/2) and sqrt(2).
"""

from __future__ import annotations

import math

import numpy as np

from covector.loopir import coefficients as table
from covector.loopir.math_support import (
    DOUBLE,
    SINGLE,
    Format,
    Real,
    estrin,
    horner,
    polynomial,
    power_of_two,
    quick_two_sum,
    round_to_integer,
    split_exponent,
    split_normal,
    two_product,
    two_sum,
)
from covector.loopir.scalars import F32, F64

# log(2) in two parts; the first has few enough bits for exact products with exponents.
_LN2 = {
    F32: (0.693145751953125, 1.428606765330187e-06),
    F64: (0.6931471805598903, 5.497923018708371e-14),
}
_EXP = {F32: table.EXP_F32, F64: table.EXP_F64}
_EXP_PLUS_ONE = {F32: table.EXP_PLUS_ONE_F32, F64: table.EXP_F64}
_EXP2 = {F32: table.EXP2_F32, F64: table.EXP2_F64}
_SINH = {F32: table.SINH_F32, F64: table.SINH_F64}
_TANH = {F32: table.TANH_F32, F64: table.TANH_F64}
_INF = math.inf


def _reduced(x: Real) -> tuple[Real, Real, Real, Real]:
    """x = n log(2) + r + c with a tiny c; n as a float and in the low bits of an integer."""
    high, low = _LN2[x.dtype]
    n, bits = round_to_integer(x, 1.0 / math.log(2.0))
    exact = n.fma(-high, x)
    r = n.fma(-low, exact)
    c = n.fma(-low, exact - r)
    return r, c, n, bits


def _exp_minus_one(r: Real, c: Real | None = None) -> Real:
    """exp(r + c) - 1 for a reduced argument."""
    square, series = r * r, polynomial(r, _EXP[r.dtype])
    return square.fma(series, r) if c is None else r + square.fma(series, c)


def _exp_reduced(r: Real) -> Real:
    """exp(r) for a reduced argument: to it, what is far less than 1 matters less."""
    return (r * r).fma(polynomial(r, _EXP_PLUS_ONE[r.dtype]), r) + 1.0


def _scaled(significand: Real, n: Real, bits: Real) -> Real:
    """significand * 2^n where that may overflow or be subnormal."""
    fmt = significand.fmt
    up = 64 if fmt is SINGLE else 128
    tiny = n < float(2 - fmt.bias)
    first = power_of_two(bits, tiny.pick(up, bits.const(-1)), fmt)
    second = tiny.pick(2.0**-up, significand.const(2.0))
    return significand * first * second


def exp(x: Real) -> Real:
    """e^x."""
    low, high = (-104.0, 89.0) if x.fmt is SINGLE else (-746.0, 710.0)
    x = x.clamp(low, high)
    r, _, _, bits = _reduced(x)
    return _exp_reduced(r).scale(bits)


def exp_of_sum(x: Real, small: Real, factor: Real | None = None) -> Real:
    """e^(x + small) for x within the range of `exp`, and times a factor, rounded once with it."""
    r, c, n, bits = _reduced(x)
    c = c + small
    whole = r + c
    above_one = _exp_minus_one(whole, (r - whole) + c)
    if factor is None:
        return (above_one + 1.0).scale(bits)
    return _scaled(above_one.fma(factor, factor), n, bits)


def exp2(x: Real) -> Real:
    """2^x; the reduction is exact."""
    low, high = (-151.0, 129.0) if x.fmt is SINGLE else (-1076.0, 1025.0)
    x = x.clamp(low, high)
    n, bits = round_to_integer(x)
    r = x - n
    return ((r * polynomial(r, _EXP2[x.dtype])) + 1.0).scale(bits)


def _except_tiny(x: Real, value: Real) -> Real:
    """The value, but the argument itself where it is so small that the function is x."""
    return (abs(x) < 2.0**-30 if x.fmt is SINGLE else abs(x) < 2.0**-60).pick(x, value)


def expm1(x: Real) -> Real:
    """e^x - 1, accurate near 0."""
    fmt = x.fmt
    low, high = (-25.0, 89.0) if fmt is SINGLE else (-50.0, 710.0)
    r, c, _, bits = _reduced(x.clamp(low, high))
    # Half of the result, since 2^n may overflow where that does not.
    half = power_of_two(bits, -1, fmt)
    value = _exp_minus_one(r, c).fma(half, half - 0.5) * 2.0
    return _except_tiny(x, value)


def _quarter_exp(x: Real) -> Real:
    """e^x / 4 for x >= 0, which overflows later."""
    r, c, _, bits = _reduced(x.op("min", 89.6 if x.fmt is SINGLE else 710.7))
    return (_exp_minus_one(r, c) + 1.0) * power_of_two(bits, -2, x.fmt)


def sinh(x: Real) -> Real:
    """A polynomial for small x, else (e^|x| - e^-|x|) / 2, from e^|x| / 4."""
    size = abs(x)
    square = x * x
    near = (x * square).fma(polynomial(square, _SINH[x.dtype]), x)
    quarter = _quarter_exp(size)
    far = (quarter - 0.0625 / quarter) * 2.0
    return (size < 1.0).pick(near, far).copysign(x)


def cosh(x: Real) -> Real:
    """(e^|x| + e^-|x|) / 2."""
    quarter = _quarter_exp(abs(x))
    return (quarter + 0.0625 / quarter) * 2.0


def tanh(x: Real) -> Real:
    """A polynomial for small x, else 1 - f(|x|), which keeps the error of f out of the result.

    Loops often wait for it, so it is written for a short way from x to the result.
    """
    size = abs(x)
    square = x * x
    far, rest = (1.0, _tanh_rest_f32) if x.fmt is SINGLE else (0.55, _tanh_rest_f64)
    near = (x * square).fma(estrin(square, _TANH[x.dtype]), x)
    return (size < far).pick(near, 1.0 - rest(size)).copysign(x)


def _tanh_rest_f32(size: Real) -> Real:
    """1 - tanh as a rational function; from 9.2 on tanh is 1."""
    enough = size.op("min", 9.2)
    return estrin(enough, table.TANH_REST_ABOVE) / estrin(enough, table.TANH_REST_BELOW)


def _tanh_rest_f64(size: Real) -> Real:
    """2 / (1 + e^(2 |x|)), the exponential 2^n (1 + r q(r)) with n + r = 2 |x| / log(2).

    That in one step: what the rounded factor does to r grows with |x| far slower than the
    exponential's share in the result shrinks.
    """
    # From there on tanh is 1.
    enough = size.op("min", 19.1)
    factor, magic = size.const(2.0 / math.log(2.0)), size.const(size.fmt.magic)
    shifted = enough.fma(factor, magic)
    r = enough.fma(factor, magic - shifted)
    scale = power_of_two(shifted.as_bits(), 0, size.fmt)
    return 2.0 / (r * scale).fma(estrin(r, _EXP2[size.dtype]), scale + 1.0)


def logistic(x: Real) -> Real:
    """1 - w, or for negative x e - e w, with e = e^-|x| and w = e / (1 + e)."""
    e = exp_of_sum((-abs(x)).op("max", -104.0 if x.fmt is SINGLE else -746.0), x.const(0.0))
    w = e / (e + 1.0)
    size = (x < 0.0).pick(e, x.const(1.0))
    return size - size * w


# Logarithms


def _log_parts(f: Real) -> tuple[Real, Real]:
    """log(1 + f) = f + c for the significand 1 + f."""
    half_square = f * f * 0.5
    if f.fmt is SINGLE:
        return f, (f * f * f).fma(polynomial(f, table.LOG_F32), -half_square)
    s = f / (f + 2.0)
    z = s * s
    rest = z * polynomial(z, table.LOG_S_F64)
    return f, s.fma(half_square + rest, -half_square)


def _log_edges(x: Real, value: Real) -> Real:
    """The logarithm at 0, infinity and beyond the domain."""
    value = (x < _INF).pick(value, x)
    value = x.eq(0.0).pick(-_INF, value)
    return (x < 0.0).pick(math.nan, value)


def _log_sum(f: Real, c: Real, k: Real) -> Real:
    high, low = _LN2[f.dtype]
    return k.fma(high, f + k.fma(low, c))


def log(x: Real) -> Real:
    """The natural logarithm."""
    m, _, k = split_exponent(x)
    return _log_edges(x, _log_sum(*_log_parts(m - 1.0), k))


def _log_to_base(x: Real, factor: tuple[float, float], per_exponent: tuple[float, float]) -> Real:
    """log(m) * factor + k * per_exponent, both constants in two parts."""
    m, _, k = split_exponent(x)
    f, c = _log_parts(m - 1.0)
    product, error = two_product(f, factor[0])
    small = c.fma(factor[0], f.fma(factor[1], error))
    small = k.fma(per_exponent[1], small)
    return _log_edges(x, k.fma(per_exponent[0], product + small))


def _two_parts(text: str, fmt: Format, bits: int | None = None) -> tuple[float, float]:
    """A constant, given in decimal, as a float of the format (of few bits) and a remainder."""
    from fractions import Fraction

    exact = Fraction(text)
    if bits is None:
        first = float(np.array(float(exact), fmt.dtype))
    else:
        scale = 2.0 ** (bits - math.frexp(float(exact))[1])
        first = math.floor(float(exact) * scale) / scale
    return first, float(np.array(float(exact - Fraction(first)), fmt.dtype))


_LOG2_E = "1.44269504088896340735992468100189213742664595415298593413544940693"
_LOG10_E = "0.434294481903251827651128918916605082294397005803666566114453783166"
_LOG10_2 = "0.301029995663981195213738894724493026768189881462108541310427461127"


def log2(x: Real) -> Real:
    """The logarithm to base 2, exact for powers of 2."""
    return _log_to_base(x, _two_parts(_LOG2_E, x.fmt), (1.0, 0.0))


def log10(x: Real) -> Real:
    """The logarithm to base 10."""
    short = 16 if x.fmt is SINGLE else 42
    return _log_to_base(x, _two_parts(_LOG10_E, x.fmt), _two_parts(_LOG10_2, x.fmt, short))


def log1p(x: Real) -> Real:
    """log(1 + x), with what rounding takes from 1 + x put back in the significand."""
    fmt = x.fmt
    u, error = two_sum(x.const(1.0), x)
    m, k, k_float = split_exponent(u)
    scale = ((fmt.bias - k.op("min", 64)) << fmt.mantissa).as_float()
    f = k.eq(0).pick(x, error.fma(scale, m - 1.0))
    value = _log_sum(*_log_parts(f), k_float)
    return x.eq(0.0).pick(x, _log_edges(u, value))


def log_of_normal(x: Real) -> Real:
    """The logarithm of a positive finite number that is not subnormal."""
    m, k = split_normal(x)
    return _log_sum(*_log_parts(m - 1.0), k)


# Inverse hyperbolic functions; float32 through float64, which is as fast as more careful code


def _in_double(x: Real) -> tuple[Real, bool]:
    return (x, False) if x.dtype is F64 else (x.convert(F64), True)


def _back(value: Real, narrow: bool) -> Real:
    return value.convert(F32) if narrow else value


def asinh(x: Real) -> Real:
    """log1p(|x| + x^2 / (1 + sqrt(1 + x^2))); log|x| + log 2 for large x."""
    a, narrow = _in_double(abs(x))
    large = a > 1e17
    t = large.pick(1.0, a)
    square = t * t
    t = t + square / ((square + 1.0).sqrt() + 1.0)
    value = _log1p_or_log(t, a, large)
    return _back(value, narrow).copysign(x)


def _log1p_or_log(t: Real, a: Real, large: Real) -> Real:
    """log1p(t), or log(2 a) where `large`."""
    plain = log1p(large.pick(a, t))
    return large.pick(plain + math.log(2.0), plain)


def acosh(x: Real) -> Real:
    """log1p(t + sqrt(2 t + t^2)) with t = x - 1."""
    a, narrow = _in_double(x)
    large = a > 1e17
    t = large.pick(1.0, a - 1.0)
    t = t + (t * (t + 2.0)).sqrt()
    return (x < 1.0).pick(math.nan, _back(_log1p_or_log(t, a, large), narrow))


def atanh(x: Real) -> Real:
    """log1p(2 |x| / (1 - |x|)) / 2."""
    a, narrow = _in_double(abs(x))
    value = log1p((a + a) / (1.0 - a)) * 0.5
    return _back(value, narrow).copysign(x)


# Powers and roots


def rsqrt(x: Real) -> Real:
    """1 / sqrt(x)."""
    return 1.0 / x.sqrt()


def cbrt(x: Real) -> Real:
    """The cube root: a polynomial guess, then Halley's iteration."""
    a, narrow = _in_double(abs(x))
    m, _, k = split_exponent(a)
    third = (k * (1.0 / 3.0)).op("floor")
    third = (k - third * 3.0 >= 3.0).pick(third + 1.0, third)
    rest = k - third * 3.0
    one, two = rest.eq(1.0), rest.eq(2.0)
    target = m * one.pick(2.0, two.pick(4.0, m.const(1.0)))
    guess = horner(m, table.CBRT) * one.pick(2.0 ** (1 / 3), two.pick(2.0 ** (2 / 3), m.const(1.0)))
    for _ in range(1 if narrow else 2):
        cube = guess * guess * guess
        guess = guess + guess * (target - cube) / (cube + cube + target)
    _, bits = round_to_integer(third)
    value = _back(guess * power_of_two(bits, 0, DOUBLE), narrow).copysign(x)
    ordinary = (abs(x) > 0.0) & (abs(x) < _INF)
    return ordinary.pick(value, x)


def hypot(x: Real, y: Real) -> Real:
    """sqrt(x^2 + y^2) without overflow; infinite if either is, even beside a NaN."""
    a, narrow = _in_double(abs(x))
    c, _ = _in_double(abs(y))
    if narrow:
        value = (a * a + c * c).sqrt().convert(F32)
    else:
        large, small = a.op("max", c), a.op("min", c)
        huge, minute = large > 2.0**500, large < 2.0**-450
        scale = huge.pick(2.0**-600, minute.pick(2.0**550, large.const(1.0)))
        back = huge.pick(2.0**600, minute.pick(2.0**-550, large.const(1.0)))
        large, small = large * scale, small * scale
        value = (large * large + small * small).sqrt() * back
    infinite = abs(x).eq(_INF) | abs(y).eq(_INF)
    return infinite.pick(_INF, value)


def pow_(x: Real, y: Real) -> Real:
    """x^y as IEEE 754 has it: float32 in float64, float64 with a logarithm in two parts."""
    size = abs(x)
    value = _pow_single(size, y) if x.fmt is SINGLE else _pow_double(size, y)
    half = y * 0.5
    whole = y.op("trunc").eq(y)
    odd = whole & half.op("trunc").ne(half) & (abs(y) < _INF)
    negative = (x < 0.0) | (x.eq(0.0) & ((1.0 / x) < 0.0))
    value = (negative & odd).pick(-value, value)
    value = ((x < 0.0) & (x > -_INF) & ~whole).pick(math.nan, value)
    one = x.eq(1.0) | y.eq(0.0) | (x.eq(-1.0) & abs(y).eq(_INF))
    return one.pick(1.0, value)


def _pow_single(size: Real, y: Real) -> Real:
    a, y = size.convert(F64), y.convert(F64)
    m, k = split_normal(a)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    log_e = s.fma(z * polynomial(z, table.LOG_S_POW32), s + s)
    log_2 = log_e.fma(1.0 / math.log(2.0), k)
    log_2 = a.eq(0.0).pick(-_INF, (a < _INF).pick(log_2, a))
    t = (log_2 * y).clamp(-400.0, 400.0)
    n, low = round_to_integer(t)
    r = t - n
    value = (r * polynomial(r, table.EXP2_POW32) + 1.0) * power_of_two(low, 0, DOUBLE)
    return value.convert(F32)


def _pow_double(size: Real, y: Real) -> Real:
    high, low = _precise_log(size)
    product, error = two_product(y, high)
    error = y.fma(low, error)
    edge = size.eq(0.0) | ~(size < _INF)
    product = edge.pick(y * size.eq(0.0).pick(-_INF, size), product)
    within = abs(product) < 800.0
    error = within.pick(error, error.const(0.0))
    product = product.clamp(-800.0, 800.0)
    ln2_high, ln2_low = _LN2[F64]
    n, bits = round_to_integer(product * (1.0 / math.log(2.0)))
    r = n.fma(-ln2_high, product) + n.fma(-ln2_low, error)
    value = _exp_minus_one(r) + 1.0
    return _scaled_twice(value, n, bits)


def _scaled_twice(value: Real, n: Real, bits: Real) -> Real:
    """`_scaled` for exponents that go far beyond the range."""
    fmt = value.fmt
    half = bits.const(0) + ((bits << 20) >> 21)
    return value * power_of_two(half, 0, fmt) * power_of_two(bits - half, 0, fmt)


def _precise_log(x: Real) -> tuple[Real, Real]:
    """log(x) as the sum of two numbers, to about 2^-68."""
    m, _, k = split_exponent(x)
    f = m - 1.0
    d = f + 2.0
    d_low = f - (d - 2.0)
    inverse = 1.0 / d
    s = f * inverse
    product, error = two_product(s, d)
    s_low = (((f - product) - error) - s * d_low) * inverse
    z, z_low = two_product(s, s)
    z_low = (s * s_low).fma(2.0, z_low)
    rest = z * z * polynomial(z, table.LOG_S_REST)
    # (2/3 z + rest) s, then 2 s, then k log(2)
    w, w_low = two_product(z, 2.0 / 3.0)
    w_low = w_low + z.fma(3.700743415417188e-17, z_low * (2.0 / 3.0)) + rest
    t, t_low = two_product(s, w)
    t_low = t_low + s.fma(w_low, s_low * w)
    total, total_low = quick_two_sum(s + s, t)
    total_low = total_low + (t_low + (s_low + s_low))
    ln2_high, ln2_low = _LN2[F64]
    high, low = two_sum(k * ln2_high, total)
    return quick_two_sum(high, low + k.fma(ln2_low, total_low))
