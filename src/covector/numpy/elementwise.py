"""Elementwise functions of `covector.numpy`, one declaration each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from covector.core import dtypes
from covector.core.primitive import Primitive
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
from covector.ops import elementwise as el

__all__ = [
    "abs",
    "absolute",
    "acos",
    "acosh",
    "add",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "cbrt",
    "conj",
    "conjugate",
    "cos",
    "cosh",
    "deg2rad",
    "degrees",
    "divide",
    "divmod",
    "equal",
    "exp",
    "exp2",
    "expm1",
    "float_power",
    "floor_divide",
    "greater",
    "greater_equal",
    "hypot",
    "imag",
    "invert",
    "isfinite",
    "isinf",
    "isnan",
    "left_shift",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "mod",
    "multiply",
    "negative",
    "not_equal",
    "positive",
    "pow",
    "power",
    "rad2deg",
    "radians",
    "real",
    "reciprocal",
    "remainder",
    "right_shift",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "true_divide",
    "where",
]


def _document(fn: Callable[..., Any], name: str, text: str) -> None:
    fn.__name__ = fn.__qualname__ = name
    fn.__doc__ = text
    fn.__module__ = "covector.numpy"


def _unary(
    name: str, primitive: Callable[[Any], Any], text: str, inexact: bool = True
) -> Callable[[Any], Any]:
    """A function of one array; integers become floats first if `inexact`."""

    def fn(x: Any, /) -> Any:
        x = operand(x, name)
        if inexact and not dtypes.is_inexact(x.aval.dtype):
            (x,) = promote_inexact(x)
        return primitive(x)

    _document(fn, name, text)
    return fn


def _binary(
    name: str, primitive: Callable[[Any, Any], Any], text: str, inexact: bool = False
) -> Callable[[Any, Any], Any]:
    """A function of two arrays that broadcast against each other."""

    def fn(x: Any, y: Any, /) -> Any:
        if inexact:
            x, y = promote_inexact(operand(x, name), operand(y, name))
        return primitive(*binary_operands(name, x, y))

    _document(fn, name, text)
    return fn


sin = _unary("sin", el.sin, "Sine of angles in radians.")
cos = _unary("cos", el.cos, "Cosine of angles in radians.")
tan = _unary("tan", el.tan, "Tangent of angles in radians.")
arcsin = _unary("arcsin", el.asin, "Inverse sine, in radians.")
arccos = _unary("arccos", el.acos, "Inverse cosine, in radians.")
arctan = _unary("arctan", el.atan, "Inverse tangent, in radians.")
sinh = _unary("sinh", el.sinh, "Hyperbolic sine.")
cosh = _unary("cosh", el.cosh, "Hyperbolic cosine.")
tanh = _unary("tanh", el.tanh, "Hyperbolic tangent.")
arcsinh = _unary("arcsinh", el.asinh, "Inverse hyperbolic sine.")
arccosh = _unary("arccosh", el.acosh, "Inverse hyperbolic cosine.")
arctanh = _unary("arctanh", el.atanh, "Inverse hyperbolic tangent.")
exp = _unary("exp", el.exp, "Exponential.")
exp2 = _unary("exp2", el.exp2, "Two to the power of each element.")
expm1 = _unary("expm1", el.expm1, "`exp(x) - 1`, exact for small arguments.")
log = _unary("log", el.log, "Natural logarithm.")
log1p = _unary("log1p", el.log1p, "`log(1 + x)`, exact for small arguments.")
sqrt = _unary("sqrt", el.sqrt, "Square root.")
cbrt = _unary("cbrt", el.cbrt, "Cube root.")
negative = _unary("negative", el.neg, "Each element with its sign changed.", inexact=False)
sign = _unary("sign", el.sign, "The sign: -1, 0 or 1.", inexact=False)


def _log_in_base(name: str, real: Callable[[Any], Any], base: float) -> Callable[[Any], Any]:
    def fn(x: Any, /) -> Any:
        (x,) = promote_inexact(operand(x, name))
        if not dtypes.is_complex(x.aval.dtype):
            return real(x)
        value = el.log(x)
        return el.div(value, constant(math.log(base), value.aval.dtype))

    _document(fn, name, f"Logarithm in base {base:g}.")
    return fn


log2 = _log_in_base("log2", el.log2, 2.0)
log10 = _log_in_base("log10", el.log10, 10.0)


def _add(x: Any, y: Any) -> Any:
    return el.or_(x, y) if x.aval.dtype == dtypes.bool_ else el.add(x, y)


def _multiply(x: Any, y: Any) -> Any:
    return el.and_(x, y) if x.aval.dtype == dtypes.bool_ else el.mul(x, y)


add = _binary("add", _add, "Sum, element by element; `or` of bools.")
subtract = _binary("subtract", el.sub, "Difference, element by element.")
multiply = _binary("multiply", _multiply, "Product, element by element; `and` of bools.")


def _larger(x: Any, y: Any) -> Any:
    return el.max_(x, y) if not dtypes.is_complex(x.aval.dtype) else where(greater(x, y), x, y)


def _smaller(x: Any, y: Any) -> Any:
    return el.min_(x, y) if not dtypes.is_complex(x.aval.dtype) else where(less(x, y), x, y)


maximum = _binary("maximum", _larger, "The larger of each pair of elements; NaN if one is.")
minimum = _binary("minimum", _smaller, "The smaller of each pair of elements; NaN if one is.")
equal = _binary("equal", el.eq, "Whether elements are equal.")
not_equal = _binary("not_equal", el.ne, "Whether elements differ.")
arctan2 = _binary("arctan2", el.atan2, "The angle of the point (y, x).", inexact=True)
bitwise_and = _binary("bitwise_and", el.and_, "Bitwise and; logical on bools.")
bitwise_or = _binary("bitwise_or", el.or_, "Bitwise or; logical on bools.")
bitwise_xor = _binary("bitwise_xor", el.xor, "Bitwise exclusive or; logical on bools.")
left_shift = _binary("left_shift", el.shift_left, "Bits shifted to the left.")
bitwise_not = _unary("bitwise_not", el.not_, "Each bit inverted; `not` of bools.", inexact=False)


def _true_divide(x: Any, y: Any, /) -> Any:
    x, y = promote_inexact(operand(x, "true_divide"), operand(y, "true_divide"))
    return el.div(*broadcast("true_divide", (x, y)))


def true_divide(x: Any, y: Any, /) -> Any:
    """Quotient; of integers too it is a float."""
    if (
        type(y) is float
        and (aval := getattr(x, "aval", None)) is not None
        and aval.dtype.kind == "f"
    ):
        return el.div(*binary_operands("true_divide", x, y))
    return _true_divide(x, y)


divide = true_divide


def right_shift(x: Any, y: Any, /) -> Any:
    """Bits shifted to the right; the sign is kept."""
    x, y = binary_operands("right_shift", x, y)
    unsigned = dtypes.is_unsigned(x.aval.dtype)
    return (el.shift_right_logical if unsigned else el.shift_right_arithmetic)(x, y)


def absolute(x: Any, /) -> Any:
    """Magnitude of each element; real for complex arrays."""
    x = operand(x, "absolute")
    dtype = x.aval.dtype
    return x if dtype == dtypes.bool_ or dtypes.is_unsigned(dtype) else el.abs_(x)


abs = absolute  # NumPy's name


def positive(x: Any, /) -> Any:
    """The array itself."""
    return operand(x, "positive")


def _ordered(name: str, primitive: Primitive, text: str) -> Callable[[Any, Any], Any]:
    """A comparison; complex numbers compare by real, then imaginary part, as in NumPy."""

    def fn(x: Any, y: Any, /) -> Any:
        x, y = binary_operands(name, x, y)
        if not dtypes.is_complex(x.aval.dtype):
            return primitive(x, y)
        xr, yr, xi, yi = el.real(x), el.real(y), el.imag(x), el.imag(y)
        return el.select_n(el.eq(xr, yr), primitive(xr, yr), primitive(xi, yi))

    _document(fn, name, text)
    return fn


less = _ordered("less", el.lt, "Whether each element of `x` is less than that of `y`.")
less_equal = _ordered("less_equal", el.le, "Whether each element of `x` is at most that of `y`.")
greater = _ordered("greater", el.gt, "Whether each element of `x` is greater than that of `y`.")
greater_equal = _ordered("greater_equal", el.ge, "Whether each element of `x` is at least `y`'s.")


def _numbers(name: str, x: Any, y: Any) -> Sequence[Any]:
    """Operands of one numeric dtype: bools become integers."""
    x, y = binary_operands(name, x, y)
    dtype = x.aval.dtype
    if dtypes.is_complex(dtype):
        raise TypeError(f"{name} is not defined for complex numbers")
    if dtypes.is_bool(dtype):
        return convert(x, dtypes.int32), convert(y, dtypes.int32)
    return x, y


def floor_divide(x: Any, y: Any, /) -> Any:
    """The quotient rounded down.

    Args:
        x: dividends.
        y: divisors; integers divided by 0 give -1, as in XLA.
    """
    return _floor_divide(*_numbers("floor_divide", x, y))


def _floor_divide(x: Any, y: Any) -> Any:
    dtype = x.aval.dtype
    if dtypes.is_floating(dtype):
        return _float_divmod(x, y)[0]
    quotient = el.div(x, y)
    if dtypes.is_unsigned(dtype):
        return quotient
    inexact = el.ne(el.rem(x, y), constant(0, dtype))
    negative_quotient = el.ne(el.sign(x), el.sign(y))
    down = el.and_(inexact, negative_quotient)
    return el.select_n(down, quotient, el.sub(quotient, constant(1, dtype)))


def remainder(x: Any, y: Any, /) -> Any:
    """The remainder of `floor_divide`: it has the sign of `y`.

    Args:
        x: dividends.
        y: divisors; integers divided by 0 leave 0.
    """
    return _remainder(*_numbers("remainder", x, y))


def truncated_remainder(x: Any, y: Any) -> Any:
    """The remainder of the division rounded towards zero; integers divided by 0 leave 0."""
    dtype = x.aval.dtype
    if dtypes.is_floating(dtype):
        return el.rem(x, y)
    # By 1 there is no rest.
    zero_divisor = el.eq(y, constant(0, dtype))
    ones = broadcast_to(constant(1, dtype), y.aval.shape)
    return el.rem(x, el.select_n(zero_divisor, y, ones))


def _remainder(x: Any, y: Any) -> Any:
    dtype = x.aval.dtype
    zero = constant(0, dtype)
    rest = truncated_remainder(x, y)
    if dtypes.is_unsigned(dtype):
        return rest
    wrong_sign = el.ne(el.lt(rest, zero), el.lt(y, zero))
    adjust = el.and_(wrong_sign, el.ne(rest, zero))
    return el.select_n(adjust, rest, el.add(rest, y))


mod = remainder


def _float_divmod(x: Any, y: Any) -> tuple[Any, Any]:
    dtype = x.aval.dtype
    zero, one = constant(0, dtype), constant(1, dtype)
    rest = el.rem(x, y)
    quotient = el.div(el.sub(x, rest), y)
    adjust = el.and_(el.ne(rest, zero), el.ne(el.sign(y), el.sign(rest)))
    rest = el.select_n(adjust, rest, el.add(rest, y))
    quotient = el.select_n(adjust, quotient, el.sub(quotient, one))
    quotient = el.round_(quotient, rounding_method=_NEAREST_EVEN)
    by_zero = el.eq(y, zero)
    shape = quotient.aval.shape
    by_zero, unrounded = broadcast_to(by_zero, shape), el.div(x, y)
    return el.select_n(by_zero, quotient, unrounded), rest


_NEAREST_EVEN = 1


def divmod(x: Any, y: Any, /) -> tuple[Any, Any]:
    """`(floor_divide(x, y), remainder(x, y))`."""
    x, y = _numbers("divmod", x, y)
    if dtypes.is_floating(x.aval.dtype):
        return _float_divmod(x, y)
    return _floor_divide(x, y), _remainder(x, y)


def power(x: Any, y: Any, /) -> Any:
    """`x` to the power `y`.

    Args:
        x: bases.
        y: exponents; an integer known while tracing multiplies repeatedly, which is exact.

    Raises:
        TypeError: integers to a negative power known while tracing.
    """
    exponent = _known_exponent(y)
    if exponent is not None:
        return _integer_power(operand(x, "power"), exponent)
    x, y = binary_operands("power", x, y)
    dtype = x.aval.dtype
    if dtypes.is_bool(dtype):
        return el.or_(x, el.not_(y))
    if dtypes.is_integer(dtype):
        return _power_by_squaring(x, y)
    return el.pow_(x, y)


def _known_exponent(y: Any) -> int | None:
    """The exponent, if it is a Python int or an integer scalar of NumPy."""
    return int(cast("int", y)) if isinstance(y, (int, np.integer)) else None


def _integer_power(x: Any, exponent: int) -> Any:
    dtype = x.aval.dtype
    if dtypes.is_bool(dtype):
        x = convert(x, dtypes.default_int())
    if exponent < 0 and not dtypes.is_inexact(dtype):
        raise TypeError(f"integers cannot be raised to negative powers, got {x.aval} ** {exponent}")
    if exponent == 1:
        return x
    if exponent == 2:
        return el.square(x)
    return el.integer_pow(x, y=exponent)


def _power_by_squaring(x: Any, y: Any) -> Any:
    """Powers of integers, with wrapping products; exponents count modulo 64, as in JAX."""
    dtype = x.aval.dtype
    shape = x.aval.shape or y.aval.shape
    base, rest = broadcast_to(x, shape), broadcast_to(y, shape)
    one, zero = constant(1, dtype), constant(0, dtype)
    result = broadcast_to(one, shape)
    for _ in range(6):
        odd = el.ne(el.and_(rest, one), zero)
        result = el.select_n(odd, result, el.mul(result, base))
        base = el.mul(base, base)
        rest = el.shift_right_logical(rest, one)
    return result


float_power = _binary("float_power", el.pow_, "`x` to the power `y`, as floats.", inexact=True)
pow = power


def where(
    condition: Any, x: Any = None, y: Any = None, /, *, size: Any = None, fill_value: Any = None
) -> Any:
    """Elements of `x` where the condition holds, of `y` elsewhere; with it alone, the indices.

    Args:
        condition: of truth values.
        x: chosen where the condition holds.
        y: chosen elsewhere.
        size: without `x` and `y`, how many indices to return, see `nonzero`.
        fill_value: likewise.
    """
    if x is None and y is None:
        from covector.numpy.index_functions import nonzero

        return nonzero(condition, size=size, fill_value=fill_value)
    if x is None or y is None:
        raise ValueError("where takes a condition alone, or a condition, x and y")
    if size is not None or fill_value is not None:
        raise ValueError("where: size and fill_value go with a condition alone")
    condition = truth(operand(condition, "where"))
    x, y = promote_dtypes(operand(x, "where"), operand(y, "where"))
    condition, x, y = broadcast("where", (condition, x, y))
    shape = condition.aval.shape or x.aval.shape or y.aval.shape
    return el.select_n(condition, broadcast_to(y, shape), broadcast_to(x, shape))


def truth(x: Any) -> Any:
    """Whether each element of an array is not zero."""
    dtype = x.aval.dtype
    return x if dtypes.is_bool(dtype) else el.ne(x, constant(0, dtype))


def conjugate(x: Any, /) -> Any:
    """Complex conjugate; real arrays as they are."""
    x = operand(x, "conjugate")
    return el.conj(x, input_dtype=x.aval.dtype) if dtypes.is_complex(x.aval.dtype) else x


conj = conjugate


def real(val: Any, /) -> Any:
    """Real part."""
    x = operand(val, "real")
    return el.real(x) if dtypes.is_complex(x.aval.dtype) else x


def imag(val: Any, /) -> Any:
    """Imaginary part, zeros for real arrays."""
    x = operand(val, "imag")
    if dtypes.is_complex(x.aval.dtype):
        return el.imag(x)
    from covector.numpy.creation import zeros_like

    return zeros_like(x)


def square(x: Any, /) -> Any:
    """Each element times itself."""
    x = operand(x, "square")
    return el.square(convert(x, dtypes.int32) if dtypes.is_bool(x.aval.dtype) else x)


def reciprocal(x: Any, /) -> Any:
    """One divided by each element."""
    (x,) = promote_inexact(operand(x, "reciprocal"))
    return el.integer_pow(x, y=-1)


def isnan(x: Any, /) -> Any:
    """Whether each element is NaN."""
    x = operand(x, "isnan")
    return el.ne(x, x)


def isfinite(x: Any, /) -> Any:
    """Whether each element is neither infinite nor NaN."""
    x = operand(x, "isfinite")
    dtype = x.aval.dtype
    if dtypes.is_complex(dtype):
        return el.and_(el.is_finite(el.real(x)), el.is_finite(el.imag(x)))
    if dtypes.is_floating(dtype):
        return el.is_finite(x)
    return el.eq(x, x)


def isinf(x: Any, /) -> Any:
    """Whether each element is infinite."""
    x = operand(x, "isinf")
    dtype = x.aval.dtype
    if dtypes.is_complex(dtype):
        return el.or_(isinf(el.real(x)), isinf(el.imag(x)))
    if not dtypes.is_floating(dtype):
        return el.ne(x, x)
    return el.eq(el.abs_(x), constant(float("inf"), dtype))


def logical_not(x: Any, /) -> Any:
    """Whether each element is false (zero)."""
    x = operand(x, "logical_not")
    return el.eq(x, constant(0, x.aval.dtype))


def _logical(name: str, primitive: Primitive, text: str) -> Callable[[Any, Any], Any]:
    def fn(x: Any, y: Any, /) -> Any:
        pair = truth(operand(x, name)), truth(operand(y, name))
        return primitive(*broadcast(name, pair))

    _document(fn, name, text)
    return fn


logical_and = _logical("logical_and", el.and_, "Whether both elements are true.")
logical_or = _logical("logical_or", el.or_, "Whether at least one element is true.")
logical_xor = _logical("logical_xor", el.xor, "Whether exactly one element is true.")


def hypot(x: Any, y: Any, /) -> Any:
    """Length of the vector (x, y), without overflow."""
    x, y = promote_inexact(operand(x, "hypot"), operand(y, "hypot"))
    if dtypes.is_complex(x.aval.dtype):
        raise ValueError("hypot is not defined for complex numbers: use absolute first")
    x, y = el.abs_(x), el.abs_(y)
    x, y = maximum(x, y), minimum(x, y)
    zero = constant(0, x.aval.dtype)
    safe = where(el.eq(x, zero), constant(1, x.aval.dtype), x)
    ratio = el.div(y, safe)
    length = el.mul(x, el.sqrt(el.add(el.square(ratio), constant(1, x.aval.dtype))))
    return where(el.eq(x, zero), x, length)


def logaddexp(x: Any, y: Any, /) -> Any:
    """`log(exp(x) + exp(y))` without overflow."""
    x, y = promote_inexact(operand(x, "logaddexp"), operand(y, "logaddexp"))
    x, y = broadcast("logaddexp", (x, y))
    from covector.ops.cumulative import logaddexp as stable

    return stable(x, y)


def degrees(x: Any, /) -> Any:
    """Radians as degrees."""
    (x,) = promote_inexact(operand(x, "degrees"))
    return el.mul(x, constant(180.0 / math.pi, x.aval.dtype))


def radians(x: Any, /) -> Any:
    """Degrees as radians."""
    (x,) = promote_inexact(operand(x, "radians"))
    return el.mul(x, constant(math.pi / 180.0, x.aval.dtype))


rad2deg, deg2rad = degrees, radians
acos, asin, atan, atan2 = arccos, arcsin, arctan, arctan2
acosh, asinh, atanh = arccosh, arcsinh, arctanh
invert = bitwise_invert = bitwise_not
bitwise_left_shift, bitwise_right_shift = left_shift, right_shift
