"""Elementwise functions of `covector.numpy`, one declaration each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from covector.core import dtypes
from covector.core.primitive import Primitive
from covector.numpy.promote import (
    binary_operands,
    broadcast,
    constant,
    convert,
    operand,
    promote_dtypes,
    promote_inexact,
)
from covector.ops import elementwise as el

__all__: list[str] = []


def _document(fn: Callable[..., Any], name: str, text: str) -> None:
    fn.__name__ = fn.__qualname__ = name
    fn.__doc__ = text
    fn.__module__ = "covector.numpy"
    __all__.append(name)


def _unary(
    name: str, primitive: Primitive | Callable[..., Any], text: str, inexact: bool = True
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
    name: str, primitive: Primitive | Callable[..., Any], text: str, inexact: bool = False
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


def _log_in_base(name: str, base: float) -> Callable[[Any], Any]:
    import math

    def fn(x: Any, /) -> Any:
        (x,) = promote_inexact(operand(x, name))
        value = el.log(x)
        return el.div(value, constant(math.log(base), value.aval.dtype))

    _document(fn, name, f"Logarithm in base {base:g}.")
    return fn


log2 = _log_in_base("log2", 2.0)
log10 = _log_in_base("log10", 10.0)


def _add(x: Any, y: Any) -> Any:
    return el.or_(x, y) if x.aval.dtype == dtypes.bool_ else el.add(x, y)


def _multiply(x: Any, y: Any) -> Any:
    return el.and_(x, y) if x.aval.dtype == dtypes.bool_ else el.mul(x, y)


add = _binary("add", _add, "Sum, element by element; `or` of bools.")
subtract = _binary("subtract", el.sub, "Difference, element by element.")
multiply = _binary("multiply", _multiply, "Product, element by element; `and` of bools.")
maximum = _binary("maximum", el.max_, "The larger of each pair of elements; NaN if one is.")
minimum = _binary("minimum", el.min_, "The smaller of each pair of elements; NaN if one is.")
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


def floor_divide(x: Any, y: Any, /) -> Any:
    """The quotient rounded down."""
    x, y = binary_operands("floor_divide", x, y)
    dtype = x.aval.dtype
    if dtypes.is_floating(dtype):
        return _float_divmod(x, y)[0]
    if dtypes.is_complex(dtype):
        raise TypeError("floor_divide is not defined for complex numbers")
    quotient = el.div(x, y)
    if dtypes.is_unsigned(dtype):
        return quotient
    inexact = el.ne(el.rem(x, y), constant(0, dtype))
    negative_quotient = el.ne(el.sign(x), el.sign(y))
    down = el.and_(inexact, negative_quotient)
    return el.select_n(down, quotient, el.sub(quotient, constant(1, dtype)))


def remainder(x: Any, y: Any, /) -> Any:
    """The remainder of `floor_divide`: it has the sign of `y`."""
    x, y = binary_operands("remainder", x, y)
    zero = constant(0, x.aval.dtype)
    rest = el.rem(x, y)
    if dtypes.is_unsigned(x.aval.dtype):
        return rest
    wrong_sign = el.ne(el.lt(rest, zero), el.lt(y, zero))
    adjust = el.and_(wrong_sign, el.ne(rest, zero))
    return el.select_n(adjust, rest, el.add(rest, y))


mod = remainder


def _float_divmod(x: Any, y: Any) -> tuple[Any, Any]:
    dtype = x.aval.dtype
    rest = el.rem(x, y)
    quotient = el.div(el.sub(x, rest), y)
    zero = constant(0, dtype)
    adjust = el.and_(el.ne(rest, zero), el.ne(el.sign(y), el.sign(rest)))
    rest = el.select_n(adjust, rest, el.add(rest, y))
    quotient = el.select_n(adjust, quotient, el.sub(quotient, constant(1, dtype)))
    return el.round_(quotient, rounding_method=_NEAREST_EVEN), rest


_NEAREST_EVEN = 1


def divmod(x: Any, y: Any, /) -> tuple[Any, Any]:  # NumPy's name
    """`(floor_divide(x, y), remainder(x, y))`."""
    x, y = binary_operands("divmod", x, y)
    if dtypes.is_floating(x.aval.dtype):
        return _float_divmod(x, y)
    return floor_divide(x, y), remainder(x, y)


def power(x: Any, y: Any, /) -> Any:
    """`x` to the power `y`; Python integer exponents multiply repeatedly."""
    if type(y) is int or (type(y) is float and y.is_integer() and abs(y) < 64):  # type: ignore[operator]
        base = operand(x, "power")
        exponent = int(y)
        if dtypes.is_inexact(base.aval.dtype) or (type(y) is int and exponent >= 0):
            return _integer_power(base, exponent)
    x, y = binary_operands("power", x, y)
    dtype = x.aval.dtype
    if dtype == dtypes.bool_ or dtypes.is_integer(dtype):
        return _power_by_squaring(x, y)
    return el.pow_(x, y)


float_power = _binary("float_power", el.pow_, "`x` to the power `y`, as floats.", inexact=True)
pow = power  # NumPy's name


def _integer_power(x: Any, exponent: int) -> Any:
    if x.aval.dtype == dtypes.bool_:
        x = convert(x, dtypes.default_int())
    if exponent == 1:
        return x
    if exponent == 2:
        return el.square(x)
    return el.integer_pow(x, y=exponent)


def _power_by_squaring(x: Any, y: Any) -> Any:
    if x.aval.dtype == dtypes.bool_:
        x, y = convert(x, dtypes.int32), convert(y, dtypes.int32)
    dtype = x.aval.dtype
    one, zero = constant(1, dtype), constant(0, dtype)
    result, base, rest = el.add(el.mul(x, zero), one), x, y
    x_shape = x.aval.shape or y.aval.shape
    if result.aval.shape != x_shape:
        result = el.add(result, el.mul(y, zero))
    for _ in range(6):
        odd = el.ne(el.and_(rest, one), zero)
        result = el.select_n(odd, result, el.mul(result, base))
        base = el.mul(base, base)
        rest = el.shift_right_logical(rest, one)
    return result


def where(
    condition: Any, x: Any = None, y: Any = None, /, *, size: Any = None, fill_value: Any = None
) -> Any:
    """Elements of `x` where the condition holds, of `y` elsewhere; with it alone, the indices."""
    if x is None and y is None:
        from covector.numpy.indexing import nonzero

        return nonzero(condition, size=size, fill_value=fill_value)
    if x is None or y is None:
        raise ValueError("where takes a condition alone, or a condition, x and y")
    condition = operand(condition, "where")
    if condition.aval.dtype != dtypes.bool_:
        condition = el.ne(condition, constant(0, condition.aval.dtype))
    x, y = promote_dtypes(operand(x, "where"), operand(y, "where"))
    shape_args = broadcast("where", (condition, x, y))
    condition, x, y = shape_args
    if x.aval.shape != y.aval.shape:
        from covector.ops.common import broadcast_to

        shape = x.aval.shape or y.aval.shape
        x, y = broadcast_to(x, shape), broadcast_to(y, shape)
    if x.aval.shape == () and condition.aval.shape != ():
        from covector.ops.common import broadcast_to

        x, y = broadcast_to(x, condition.aval.shape), broadcast_to(y, condition.aval.shape)
    return el.select_n(condition, y, x)


__all__ += [
    "abs",
    "absolute",
    "divide",
    "divmod",
    "floor_divide",
    "mod",
    "positive",
    "pow",
    "power",
    "remainder",
    "right_shift",
    "true_divide",
    "where",
]


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
    return el.square(x)


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
    def truth(x: Any) -> Any:
        x = operand(x, name)
        is_bool = x.aval.dtype == dtypes.bool_
        return x if is_bool else el.ne(x, constant(0, x.aval.dtype))

    def fn(x: Any, y: Any, /) -> Any:
        return primitive(*broadcast(name, (truth(x), truth(y))))

    _document(fn, name, text)
    return fn


logical_and = _logical("logical_and", el.and_, "Whether both elements are true.")
logical_or = _logical("logical_or", el.or_, "Whether at least one element is true.")
logical_xor = _logical("logical_xor", el.xor, "Whether exactly one element is true.")


def hypot(x: Any, y: Any, /) -> Any:
    """Length of the vector (x, y), without overflow."""
    x, y = promote_inexact(operand(x, "hypot"), operand(y, "hypot"))
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
    import math

    (x,) = promote_inexact(operand(x, "degrees"))
    return el.mul(x, constant(180.0 / math.pi, x.aval.dtype))


def radians(x: Any, /) -> Any:
    """Degrees as radians."""
    import math

    (x,) = promote_inexact(operand(x, "radians"))
    return el.mul(x, constant(math.pi / 180.0, x.aval.dtype))


rad2deg, deg2rad = degrees, radians
acos, asin, atan, atan2 = arccos, arcsin, arctan, arctan2
acosh, asinh, atanh = arccosh, arcsinh, arctanh
invert = bitwise_invert = bitwise_not
bitwise_left_shift, bitwise_right_shift = left_shift, right_shift

__all__ += [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_right_shift",
    "conj",
    "conjugate",
    "deg2rad",
    "degrees",
    "hypot",
    "imag",
    "invert",
    "isfinite",
    "isinf",
    "isnan",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "rad2deg",
    "radians",
    "real",
    "reciprocal",
    "square",
]
