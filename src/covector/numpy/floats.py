"""Elementwise functions of floating-point and integer representations, and tests of closeness."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from covector.core import dtypes
from covector.numpy.elementwise import abs as absolute
from covector.numpy.elementwise import isinf, isnan, truncated_remainder, where
from covector.numpy.promote import (
    binary_operands,
    broadcast,
    broadcast_to,
    constant,
    convert,
    operand,
    promote_dtypes,
    promote_inexact,
)
from covector.numpy.reductions import all as every
from covector.ops import elementwise as el

__all__ = [
    "allclose",
    "angle",
    "array_equal",
    "array_equiv",
    "bitwise_count",
    "copysign",
    "fabs",
    "fmax",
    "fmin",
    "fmod",
    "frexp",
    "gcd",
    "heaviside",
    "i0",
    "isclose",
    "iscomplex",
    "isneginf",
    "isposinf",
    "isreal",
    "lcm",
    "ldexp",
    "logaddexp2",
    "modf",
    "nextafter",
    "signbit",
    "sinc",
    "spacing",
]

_WORDS: dict[int, Any] = {2: dtypes.uint16, 4: dtypes.uint32, 8: dtypes.uint64}


def _inexact_pair(name: str, x: Any, y: Any) -> list[Any]:
    return broadcast(name, promote_inexact(operand(x, name), operand(y, name)))


def _no_complex(name: str, *args: Any) -> None:
    if any(dtypes.is_complex(a.dtype) for a in args):
        raise TypeError(f"{name} is not defined for complex numbers")


def _words_of(x: Any) -> Any:
    """The bits of floats as unsigned integers."""
    return el.bitcast_convert_type(x, new_dtype=_WORDS[x.dtype.itemsize])


# --- parts of floats ----------------------------------------------------------------------------


def signbit(x: Any, /) -> Any:
    """Whether the sign is set: of negative numbers, -0 and NaN with the sign.

    >>> import covector.numpy as cnp
    >>> cnp.signbit(cnp.array([-0.0, 1.0]))
    Array([ True, False], dtype=bool)
    """
    x = operand(x, "signbit")
    _no_complex("signbit", x)
    if not dtypes.is_floating(x.dtype):
        return el.lt(x, constant(0, x.dtype))
    words = _words_of(x)
    return el.ne(
        el.shift_right_logical(words, constant(8 * x.dtype.itemsize - 1, words.dtype)),
        constant(0, words.dtype),
    )


def copysign(x1: Any, x2: Any, /) -> Any:
    """The magnitude of the first with the sign of the second.

    Args:
        x1: magnitudes.
        x2: signs; that of -0 counts.
    """
    x, y = _inexact_pair("copysign", x1, x2)
    _no_complex("copysign", x, y)
    size = el.abs_(x)
    return where(signbit(y), el.neg(size), size)


def frexp(x: Any, /) -> tuple[Any, Any]:
    """Mantissas, from 1/2 to 1, and int32 exponents of two.

    >>> import covector.numpy as cnp
    >>> [a.item() for a in cnp.frexp(cnp.float32(6.0))]
    [0.75, 3]
    """
    (x,) = promote_inexact(operand(x, "frexp"))
    _no_complex("frexp", x)
    info = dtypes.finfo(x.dtype)
    digits = info.nmant
    # Subnormal numbers are scaled up first.
    scale = digits + 2
    small = el.lt(el.abs_(x), constant(float(info.tiny), x.dtype))
    y = where(small, el.mul(x, constant(2.0**scale, x.dtype)), x)
    words = _words_of(y)
    exponent_bits = 8 * x.dtype.itemsize - 1 - digits
    bias = 2 ** (exponent_bits - 1) - 2
    mask = (2**exponent_bits - 1) << digits
    raw = el.shift_right_logical(
        el.and_(words, constant(mask, words.dtype)), constant(digits, words.dtype)
    )
    exponent = el.sub(convert(raw, dtypes.int32), constant(bias, dtypes.int32))
    exponent = where(small, exponent - scale, exponent)
    every_bit = 2 ** (8 * x.dtype.itemsize) - 1
    halved = el.or_(
        el.and_(words, constant(every_bit ^ mask, words.dtype)),
        constant(bias << digits, words.dtype),
    )
    mantissa = el.bitcast_convert_type(halved, new_dtype=x.dtype)
    special = el.or_(el.eq(x, constant(0.0, x.dtype)), el.not_(el.is_finite(x)))
    return where(special, x, mantissa), where(special, constant(0, dtypes.int32), exponent)


def ldexp(x1: Any, x2: Any, /) -> Any:
    """`x1 * 2**x2`, without overflow on the way.

    Args:
        x1: mantissas.
        x2: exponents, of an integer dtype.
    """
    x, e = operand(x1, "ldexp"), operand(x2, "ldexp")
    if not (dtypes.is_integer(e.dtype) or dtypes.is_bool(e.dtype)):
        raise ValueError(f"ldexp needs exponents of an integer dtype, got {e.aval}")
    (x,) = promote_inexact(x)
    _no_complex("ldexp", x)
    x, e = broadcast("ldexp", (x, convert(e, dtypes.int32)))
    info = dtypes.finfo(x.dtype)
    # In three steps, each by a power that the dtype holds.
    limit = int(info.maxexp) - 1
    reach = constant(4 * int(info.maxexp), dtypes.int32)
    e = el.clamp(el.neg(reach), e, reach)
    for _ in range(3):
        step = el.clamp(constant(1 - limit, dtypes.int32), e, constant(limit, dtypes.int32))
        x = el.mul(*broadcast("ldexp", (x, _power_of_two(step, x.dtype))))
        e = el.sub(e, step)
    return x


def _power_of_two(e: Any, dtype: Any) -> Any:
    """The float `2**e`, for exponents of normal numbers."""
    info = dtypes.finfo(dtype)
    words = _WORDS[dtype.itemsize]
    biased = convert(el.add(e, constant(int(info.maxexp) - 1, dtypes.int32)), words)
    return el.bitcast_convert_type(
        el.shift_left(biased, constant(int(info.nmant), words)), new_dtype=dtype
    )


def modf(x: Any, /, out: None = None) -> tuple[Any, Any]:
    """Fractional and whole parts, both with the sign of the number."""
    from covector.numpy.reductions import no_out
    from covector.numpy.rounding import trunc

    no_out("modf", out)
    (x,) = promote_inexact(operand(x, "modf"))
    _no_complex("modf", x)
    whole = trunc(x)
    fraction = where(isinf(x), constant(0.0, x.dtype), el.sub(x, whole))
    return copysign(fraction, x), copysign(whole, x)


def nextafter(x: Any, y: Any, /) -> Any:
    """The neighbour of each number in the direction of another."""
    a, b = _inexact_pair("nextafter", x, y)
    _no_complex("nextafter", a)
    return el.nextafter(a, b)


def spacing(x: Any, /) -> Any:
    """The distance to the next number away from zero, with the sign of the number."""
    (x,) = promote_inexact(operand(x, "spacing"))
    _no_complex("spacing", x)
    away = el.nextafter(x, copysign(constant(math.inf, x.dtype), x))
    return el.sub(away, x)


# --- choices between two ------------------------------------------------------------------------


def fmax(x1: Any, x2: Any) -> Any:
    """The larger of each pair of elements; NaN only if both are."""
    return _extreme("fmax", x1, x2, el.gt)


def fmin(x1: Any, x2: Any) -> Any:
    """The smaller of each pair of elements; NaN only if both are."""
    return _extreme("fmin", x1, x2, el.lt)


def _extreme(name: str, x1: Any, x2: Any, better: Callable[[Any, Any], Any]) -> Any:
    from covector.numpy.elementwise import greater, less

    x, y = binary_operands(name, x1, x2)
    compare = greater if better is el.gt else less
    return where(compare(x, y) | isnan(y), x, y)


def fmod(x1: Any, x2: Any, /) -> Any:
    """The remainder of the division rounded towards zero: it has the sign of `x1`."""
    x, y = binary_operands("fmod", x1, x2)
    _no_complex("fmod", x)
    if dtypes.is_bool(x.dtype):
        x, y = convert(x, dtypes.int32), convert(y, dtypes.int32)
    return truncated_remainder(x, y)


def heaviside(x1: Any, x2: Any, /) -> Any:
    """0 for negative numbers, 1 for positive ones, `x2` for zero."""
    x, y = _inexact_pair("heaviside", x1, x2)
    _no_complex("heaviside", x)
    zero, one = constant(0.0, x.dtype), constant(1.0, x.dtype)
    return where(el.eq(x, zero), y, where(el.lt(x, zero), zero, where(isnan(x), x, one)))


def logaddexp2(x1: Any, x2: Any, /) -> Any:
    """`log2(2**x1 + 2**x2)` without overflow."""
    from covector.numpy.elementwise import logaddexp

    x, y = _inexact_pair("logaddexp2", x1, x2)
    ln2 = constant(math.log(2.0), x.dtype)
    return el.div(logaddexp(el.mul(x, ln2), el.mul(y, ln2)), ln2)


# --- integers -----------------------------------------------------------------------------------


def _integers(name: str, x1: Any, x2: Any) -> list[Any]:
    pair = promote_dtypes(operand(x1, name), operand(x2, name))
    if not dtypes.is_integer(pair[0].dtype):
        raise ValueError(f"{name} is for integers, got {pair[0].aval} and {pair[1].aval}")
    x, y = broadcast(name, pair)
    shape = x.shape or y.shape
    return [broadcast_to(v, shape) for v in (x, y)]


def gcd(x1: Any, x2: Any) -> Any:
    """Greatest common divisors, by Euclid's algorithm."""
    from covector.lax.control_flow import while_loop
    from covector.numpy.reductions import any as some

    x, y = (absolute(v) for v in _integers("gcd", x1, x2))
    zero = constant(0, x.dtype)

    def unfinished(pair: Any) -> Any:
        return some(el.ne(pair[1], zero))

    def step(pair: Any) -> Any:
        a, b = pair
        done = el.eq(b, zero)
        rest = el.rem(a, where(done, constant(1, a.dtype), b))
        return where(done, a, b), where(done, zero, rest)

    return while_loop(unfinished, step, (x, y))[0]


def lcm(x1: Any, x2: Any) -> Any:
    """Least common multiples."""
    x, y = (absolute(v) for v in _integers("lcm", x1, x2))
    divisor = gcd(x, y)
    zero, one = constant(0, x.dtype), constant(1, x.dtype)
    none = el.eq(divisor, zero)
    return where(none, zero, el.mul(x, el.div(y, where(none, one, divisor))))


def bitwise_count(x: Any, /) -> Any:
    """How many bits are set in the magnitude of each integer, as uint8.

    >>> import covector.numpy as cnp
    >>> cnp.bitwise_count(cnp.array([7, -8]))
    Array([3, 1], dtype=uint8)
    """
    x = operand(x, "bitwise_count")
    if not (dtypes.is_integer(x.dtype) or dtypes.is_bool(x.dtype)):
        raise TypeError(f"bitwise_count is for integers, got {x.aval}")
    if dtypes.is_bool(x.dtype):
        return convert(x, dtypes.uint8)
    return convert(el.population_count(absolute(x)), dtypes.uint8)


# --- functions ----------------------------------------------------------------------------------


def fabs(x: Any, /) -> Any:
    """Magnitudes, as floats."""
    (x,) = promote_inexact(operand(x, "fabs"))
    _no_complex("fabs", x)
    return el.abs_(x)


def sinc(x: Any, /) -> Any:
    """`sin(pi x) / (pi x)`, 1 at 0, with all its derivatives there."""
    (x,) = promote_inexact(operand(x, "sinc"))
    zero = el.eq(x, constant(0.0, x.dtype))
    angle_ = el.mul(constant(math.pi, x.dtype), x)
    safe = where(zero, constant(1.0, x.dtype), angle_)
    return where(zero, _sinc_series(angle_), el.div(el.sin(safe), safe))


def _sinc_series(y: Any) -> Any:
    """1 - y^2/6 + y^4/120 - ...: exact at 0 together with its first seven derivatives."""
    square = el.mul(y, y)
    total = constant(0.0, y.dtype)
    for k in (3, 2, 1):
        term = constant((-1) ** k / math.factorial(2 * k + 1), y.dtype)
        total = el.mul(square, el.add(total, term))
    return el.add(total, constant(1.0, y.dtype))


def i0(x: Any) -> Any:
    """The modified Bessel function of the first kind, of order 0."""
    (x,) = promote_inexact(operand(x, "i0"))
    if not dtypes.is_floating(x.dtype):
        raise ValueError(f"i0 is for real numbers, got {x.aval}")
    size = el.abs_(x)
    return el.mul(el.exp(size), el.bessel_i0e(size))


def angle(z: Any, deg: bool = False) -> Any:
    """The angle of each complex number, in radians, or in degrees.

    Args:
        z: an array; that of negative real numbers is pi.
        deg: degrees instead of radians.
    """
    from covector.numpy.elementwise import arctan2, degrees, imag, real

    z = operand(z, "angle")
    if not dtypes.is_inexact(z.dtype):
        z = convert(z, dtypes.default_float())
    result = arctan2(imag(z), real(z))
    if not dtypes.is_complex(z.dtype):
        result = where(isnan(z), z, result)
    return degrees(result) if deg else result


# --- comparing ----------------------------------------------------------------------------------


def isposinf(x: Any, /, out: None = None) -> Any:
    """Whether each element is infinity."""
    return _is_infinity("isposinf", x, math.inf, out)


def isneginf(x: Any, /, out: None = None) -> Any:
    """Whether each element is minus infinity."""
    return _is_infinity("isneginf", x, -math.inf, out)


def _is_infinity(name: str, x: Any, infinity: float, out: None) -> Any:
    from covector.numpy.reductions import no_out

    no_out(name, out)
    x = operand(x, name)
    if dtypes.is_complex(x.dtype):
        raise ValueError(f"{name} is not defined for complex numbers")
    if not dtypes.is_floating(x.dtype):
        return broadcast_to(constant(False, dtypes.bool_), x.shape)
    return el.eq(x, constant(infinity, x.dtype))


def isreal(x: Any) -> Any:
    """Whether each element has no imaginary part."""
    from covector.numpy.elementwise import imag

    part = imag(operand(x, "isreal"))
    return el.eq(part, constant(0, part.dtype))


def iscomplex(x: Any) -> Any:
    """Whether each element has an imaginary part."""
    return el.not_(isreal(x))


def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    """Whether elements are equal up to a tolerance: `abs(a - b) <= atol + rtol * abs(b)`.

    Args:
        a: an array.
        b: what to compare it with.
        rtol: tolerance relative to `b`.
        atol: absolute tolerance.
        equal_nan: whether NaN is close to NaN.
    """
    x, y = promote_dtypes(operand(a, "isclose"), operand(b, "isclose"))
    if dtypes.is_bool(x.dtype):
        x, y = convert(x, dtypes.default_int()), convert(y, dtypes.default_int())
    x, y = broadcast("isclose", (x, y))
    same = el.eq(x, y)
    if not dtypes.is_inexact(x.dtype):
        wide = dtypes.default_float()
        x, y = convert(x, wide), convert(y, wide)
    real = dtypes.real_of(x.dtype)
    relative, least = (convert(operand(t, "isclose"), real) for t in (rtol, atol))
    allowed = least + relative * el.abs_(y)
    near = el.le(el.abs_(el.sub(x, y)), allowed) & ~isinf(x) & ~isinf(y)
    result = near | same
    return result | (isnan(x) & isnan(y)) if equal_nan else result


def allclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    """Whether all elements are equal up to a tolerance; see `isclose`."""
    return every(isclose(a, b, rtol, atol, equal_nan))


def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    """Whether two arrays have the same shape and elements.

    Args:
        a1: an array or sequence.
        a2: another.
        equal_nan: whether NaN equals NaN.
    """
    pair = _arrays(a1, a2)
    if pair is None or pair[0].shape != pair[1].shape:
        return constant(False, dtypes.bool_)
    return every(_equal(pair[0], pair[1], equal_nan))


def array_equiv(a1: Any, a2: Any) -> Any:
    """Whether two arrays broadcast to the same elements."""
    pair = _arrays(a1, a2)
    if pair is None:
        return constant(False, dtypes.bool_)
    try:
        pair = broadcast("array_equiv", promote_dtypes(*pair))
    except ValueError:
        return constant(False, dtypes.bool_)
    return every(el.eq(*pair))


def _arrays(a1: Any, a2: Any) -> list[Any] | None:
    from covector.numpy.creation import asarray

    try:
        return [asarray(a1), asarray(a2)]
    except Exception:
        return None


def _equal(x: Any, y: Any, equal_nan: bool) -> Any:
    x, y = promote_dtypes(x, y)
    same = el.eq(x, y)
    return same | (isnan(x) & isnan(y)) if equal_nan else same
