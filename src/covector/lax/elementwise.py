"""The elementwise functions of `jax.lax`: one primitive each, operands of equal dtypes."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from covector.core import dtypes, pytree
from covector.core.primitive import Primitive
from covector.numpy.promote import binary_operands, constant, convert, operand
from covector.ops import elementwise as el
from covector.ops import gradient

__all__ = [
    "RoundingMethod",
    "abs",
    "acos",
    "acosh",
    "add",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bessel_i0e",
    "bessel_i1e",
    "betainc",
    "bitcast_convert_type",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "cbrt",
    "ceil",
    "clamp",
    "clz",
    "complex",
    "conj",
    "convert_element_type",
    "cos",
    "cosh",
    "digamma",
    "div",
    "eq",
    "erf",
    "erf_inv",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "ge",
    "gt",
    "igamma",
    "igamma_grad_a",
    "igammac",
    "imag",
    "integer_pow",
    "is_finite",
    "le",
    "lgamma",
    "log",
    "log1p",
    "logistic",
    "lt",
    "max",
    "min",
    "mul",
    "mulhi",
    "ne",
    "neg",
    "nextafter",
    "polygamma",
    "population_count",
    "pow",
    "random_gamma_grad",
    "real",
    "reciprocal",
    "reduce_precision",
    "rem",
    "round",
    "rsqrt",
    "select",
    "select_n",
    "shift_left",
    "shift_right_arithmetic",
    "shift_right_logical",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "stop_gradient",
    "sub",
    "tan",
    "tanh",
    "zeta",
]


def _unary(name: str, primitive: Primitive) -> Callable[[Any], Any]:
    def fn(x: Any) -> Any:
        return primitive(operand(x, f"lax.{name}"))

    fn.__name__ = fn.__qualname__ = name
    fn.__doc__ = f"Elementwise `{name}`; see `covector.numpy` for the function with promotion."
    return fn


def _binary(name: str, primitive: Primitive) -> Callable[[Any, Any], Any]:
    def fn(x: Any, y: Any) -> Any:
        if isinstance(x, (int, float, bool)) or isinstance(y, (int, float, bool)):
            return primitive(*binary_operands(f"lax.{name}", x, y))
        return primitive(operand(x, f"lax.{name}"), operand(y, f"lax.{name}"))

    fn.__name__ = fn.__qualname__ = name
    fn.__doc__ = (
        f"Elementwise `{name}` of arrays of equal shape and dtype; Python numbers take the dtype "
        "of the other operand."
    )
    return fn


abs = _unary("abs", el.abs_)  # JAX's name
acos = _unary("acos", el.acos)
acosh = _unary("acosh", el.acosh)
bessel_i0e = _unary("bessel_i0e", el.bessel_i0e)
bessel_i1e = _unary("bessel_i1e", el.bessel_i1e)
asin = _unary("asin", el.asin)
asinh = _unary("asinh", el.asinh)
atan = _unary("atan", el.atan)
atanh = _unary("atanh", el.atanh)
bitwise_not = _unary("bitwise_not", el.not_)
cbrt = _unary("cbrt", el.cbrt)
ceil = _unary("ceil", el.ceil)
clz = _unary("clz", el.clz)
cos = _unary("cos", el.cos)
cosh = _unary("cosh", el.cosh)
digamma = _unary("digamma", el.digamma)
erf = _unary("erf", el.erf)
erf_inv = _unary("erf_inv", el.erf_inv)
erfc = _unary("erfc", el.erfc)
exp = _unary("exp", el.exp)
exp2 = _unary("exp2", el.exp2)
expm1 = _unary("expm1", el.expm1)
floor = _unary("floor", el.floor)
imag = _unary("imag", el.imag)
is_finite = _unary("is_finite", el.is_finite)
lgamma = _unary("lgamma", el.lgamma)
log = _unary("log", el.log)
log1p = _unary("log1p", el.log1p)
logistic = _unary("logistic", el.logistic)
neg = _unary("neg", el.neg)
population_count = _unary("population_count", el.population_count)
real = _unary("real", el.real)
rsqrt = _unary("rsqrt", el.rsqrt)
sign = _unary("sign", el.sign)
sin = _unary("sin", el.sin)
sinh = _unary("sinh", el.sinh)
sqrt = _unary("sqrt", el.sqrt)
square = _unary("square", el.square)
tan = _unary("tan", el.tan)
tanh = _unary("tanh", el.tanh)

add = _binary("add", el.add)
atan2 = _binary("atan2", el.atan2)
bitwise_and = _binary("bitwise_and", el.and_)
bitwise_or = _binary("bitwise_or", el.or_)
bitwise_xor = _binary("bitwise_xor", el.xor)
div = _binary("div", el.div)
eq = _binary("eq", el.eq)
ge = _binary("ge", el.ge)
gt = _binary("gt", el.gt)
le = _binary("le", el.le)
lt = _binary("lt", el.lt)
max = _binary("max", el.max_)  # JAX's name
min = _binary("min", el.min_)  # JAX's name
mul = _binary("mul", el.mul)
ne = _binary("ne", el.ne)
nextafter = _binary("nextafter", el.nextafter)
pow = _binary("pow", el.pow_)  # JAX's name
rem = _binary("rem", el.rem)
shift_left = _binary("shift_left", el.shift_left)
shift_right_arithmetic = _binary("shift_right_arithmetic", el.shift_right_arithmetic)
shift_right_logical = _binary("shift_right_logical", el.shift_right_logical)
sub = _binary("sub", el.sub)


igamma = _binary("igamma", el.igamma)
igamma_grad_a = _binary("igamma_grad_a", el.igamma_grad_a)
igammac = _binary("igammac", el.igammac)
mulhi = _binary("mulhi", el.mulhi)
polygamma = _binary("polygamma", el.polygamma)
random_gamma_grad = _binary("random_gamma_grad", el.random_gamma_grad)
zeta = _binary("zeta", el.zeta)


def betainc(a: Any, b: Any, x: Any) -> Any:
    """The regularized incomplete beta function, elementwise.

    Args:
        a: the first parameter, positive.
        b: the second parameter, of the same shape and dtype.
        x: where, between 0 and 1.
    """
    operands = [operand(v, "lax.betainc") for v in (a, b, x)]
    return el.regularized_incomplete_beta(*operands)


def reciprocal(x: Any) -> Any:
    """`1 / x`, elementwise."""
    x = operand(x, "lax.reciprocal")
    return el.integer_pow(x, y=-1)


RoundingMethod = el.RoundingMethod


def round(  # JAX's name
    x: Any, rounding_method: int = RoundingMethod.AWAY_FROM_ZERO
) -> Any:
    """Rounds to integers, halves as `rounding_method` says (a `RoundingMethod`)."""
    return el.round_(operand(x, "lax.round"), rounding_method=int(rounding_method))


def integer_pow(x: Any, y: int) -> Any:
    """`x` to a power known while tracing."""
    return el.integer_pow(operand(x, "lax.integer_pow"), y=operator.index(y))


def complex(x: Any, y: Any) -> Any:  # JAX's name
    """The complex numbers with real parts `x` and imaginary parts `y`."""
    return el.complex_(*binary_operands("lax.complex", x, y))


def conj(x: Any, input_dtype: Any = None) -> Any:
    """Complex conjugate; real arrays become complex."""
    x = operand(x, "lax.conj")
    return el.conj(x, input_dtype=input_dtype or x.dtype)


def clamp(min: Any, x: Any, max: Any) -> Any:  # JAX's names
    """`x` between bounds, which are rank-0 or of its shape."""
    x = operand(x, "lax.clamp")
    low, high = (number_like(b, x) for b in (min, max))
    return el.clamp(low, x, high)


def number_like(value: Any, x: Any) -> Any:
    """A Python number in the dtype of `x`; arrays as they are."""
    if isinstance(value, (bool, int, float)):
        return constant(value, x.dtype)
    return operand(value, "lax")


def select(pred: Any, on_true: Any, on_false: Any) -> Any:
    """`on_true` where `pred` holds, else `on_false`."""
    return select_n(pred, on_false, on_true)


def select_n(which: Any, *cases: Any) -> Any:
    """For each element the case of number `which` (`False` the first, `True` the second)."""
    return el.select_n(operand(which, "lax.select_n"), *[operand(c, "lax.select_n") for c in cases])


def convert_element_type(operand_: Any, new_dtype: Any) -> Any:
    """An array in another dtype."""
    target = dtypes.requested(new_dtype, "convert_element_type")
    return convert(operand(operand_, "lax.convert_element_type"), target)


def bitcast_convert_type(operand_: Any, new_dtype: Any) -> Any:
    """The same bits read as another dtype."""
    return el.bitcast_convert_type(
        operand(operand_, "lax.bitcast_convert_type"), new_dtype=dtypes.requested(new_dtype)
    )


def reduce_precision(operand_: Any, exponent_bits: int, mantissa_bits: int) -> Any:
    """Floats rounded to fewer bits."""
    return el.reduce_precision(
        operand(operand_, "lax.reduce_precision"),
        exponent_bits=exponent_bits,
        mantissa_bits=mantissa_bits,
    )


def stop_gradient(x: Any) -> Any:
    """The same value with a derivative of zero; takes pytrees."""

    def stop(leaf: Any) -> Any:
        leaf = operand(leaf, "lax.stop_gradient")
        return gradient.stop_gradient(leaf) if dtypes.is_inexact(leaf.dtype) else leaf

    return pytree.map(stop, x)
