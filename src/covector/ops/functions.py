"""Elementary functions: powers and roots, exponentials, trigonometry, the error function.

Names, meanings and branch cuts are those of `jax.lax`. Each derivative puts what does not depend on
the tangent into one coefficient, so that the linear part of a program is a single product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval, Zero
from covector.core.primitive import Primitive, unsupported
from covector.ops.arithmetic import add, add_any, div, integer_pow, mul, neg, sub
from covector.ops.common import kind_of, like, where
from covector.ops.compare import eq, select_n
from covector.ops.convert import convert_scalar, convert_values, to_dtype
from covector.ops.factory import (
    NOT_LINEAR,
    Function,
    align_batched,
    at_shape,
    common_shape,
    elements,
    elementwise,
    in_float32,
    lanes_elementwise,
)

Array = np.ndarray[Any, Any]
Scalar = Any


def function(
    name: str,
    evaluate: Function,
    jvp: Function,
    *,
    kinds: str = "fc",
    jvp_uses_result: bool = False,
    scalar: str | Function | None = None,
    cost: float,
) -> Primitive:
    """An elementary function of one operand.

    Args:
        name: of the primitive, and of its loop IR operation.
        evaluate: NumPy function for every dtype but float16 and bfloat16, which go through float32.
        jvp: `(tangent, x) -> tangent`, or `(tangent, result, x)` with `jvp_uses_result`.
        kinds: which dtypes it takes.
        jvp_uses_result: see `jvp`.
        scalar: lowering, if it is not the loop IR operation of the same name.
        cost: estimated instructions per element.
    """
    return elementwise(
        name,
        evaluate=in_float32(evaluate),
        jvp=jvp,
        jvp_uses_result=jvp_uses_result,
        scalar=scalar or name,
        kinds=kinds,
        cost=cost,
    )


def scipy_function(name: str) -> Callable[..., Any]:
    """A function of scipy.special, which is imported when it is first needed."""

    def evaluate(*operands: Array) -> Any:
        import scipy.special

        return getattr(scipy.special, name)(*operands)

    return evaluate


# --- roots --------------------------------------------------------------------------------------


def _sqrt_jvp(t: Any, y: Any, x: Any) -> Any:
    return mul(t, div(like(y, 0.5), y))


sqrt = function("sqrt", np.sqrt, _sqrt_jvp, jvp_uses_result=True, cost=6.0)


def _rsqrt_evaluate(x: Array) -> Any:
    return x.dtype.type(1) / np.sqrt(x)


def _rsqrt_jvp(t: Any, y: Any, x: Any) -> Any:
    return mul(t, mul(like(y, -0.5), div(y, x)))


rsqrt = function("rsqrt", _rsqrt_evaluate, _rsqrt_jvp, jvp_uses_result=True, cost=8.0)


def _cbrt_jvp(t: Any, y: Any, x: Any) -> Any:
    return mul(t, mul(like(y, 1 / 3), integer_pow(y, y=-2)))


cbrt = function("cbrt", np.cbrt, _cbrt_jvp, kinds="f", jvp_uses_result=True, cost=15.0)

# --- exponentials and logarithms ----------------------------------------------------------------

exp = function("exp", np.exp, lambda t, y, x: mul(t, y), jvp_uses_result=True, cost=12.0)


def _exp2_evaluate(x: Array) -> Any:
    if kind_of(x.dtype) == "c":
        return np.exp(x * x.real.dtype.type(math.log(2.0)))
    return np.exp2(x)


def _exp2_jvp(t: Any, y: Any, x: Any) -> Any:
    return mul(t, mul(like(y, math.log(2.0)), y))


exp2 = function("exp2", _exp2_evaluate, _exp2_jvp, jvp_uses_result=True, cost=12.0)


# Not from the result, which is -1 where the derivative is small.
expm1 = function("expm1", np.expm1, lambda t, x: mul(t, exp(x)), cost=16.0)
log = function("log", np.log, lambda t, x: div(t, x), cost=12.0)


def _log_in_base(name: str, evaluate: Callable[..., Any], base: float) -> Primitive:
    def jvp(t: Any, x: Any) -> Any:
        return div(t, mul(x, like(x, math.log(base))))

    return function(name, evaluate, jvp, kinds="f", cost=14.0)


# Exact at powers of the base, which a quotient of logarithms is not.
log2 = _log_in_base("log2", np.log2, 2.0)
log10 = _log_in_base("log10", np.log10, 10.0)


def _log1p_evaluate(x: Array) -> Any:
    if kind_of(x.dtype) != "c":
        return np.log1p(x)
    # log |1 + x| by log1p of |1 + x|^2 - 1 near 0; numpy.log1p loses what is small beside 1.
    a, b = x.real, x.imag
    near = np.log1p(a * (a + 2) + b * b) / 2
    size = where(np.maximum(np.abs(a), np.abs(b)) < 0.5, near, np.log(np.abs(1 + x)))
    out = np.empty_like(x)
    out.real, out.imag = size, np.arctan2(b, 1 + a)
    return out


log1p = function("log1p", _log1p_evaluate, lambda t, x: div(t, add(x, like(x, 1))), cost=16.0)


def _logistic_evaluate(x: Array) -> Any:
    if kind_of(x.dtype) != "c":
        return scipy_function("expit")(x)
    left = x.real < 0
    decaying = np.exp(where(left, x, -x))
    return where(left, decaying, 1) / (1 + decaying)


def _logistic_scalar(builder: Any, x: Scalar) -> Scalar:
    if not dtypes.is_complex(x.dtype):
        return builder.op("logistic", x)
    left = builder.op("lt", builder.op("real", x), 0.0)
    decaying = builder.op("exp", builder.select(left, x, builder.op("neg", x)))
    one = builder.const(1, x.dtype)
    return builder.op("div", builder.select(left, decaying, one), builder.op("add", one, decaying))


def _logistic_jvp(t: Any, y: Any, x: Any) -> Any:
    return mul(t, mul(y, sub(like(y, 1), y)))


logistic = function(
    "logistic",
    _logistic_evaluate,
    _logistic_jvp,
    jvp_uses_result=True,
    scalar=_logistic_scalar,
    cost=18.0,
)

# --- powers -------------------------------------------------------------------------------------


def _pow_shape(x: Aval, y: Aval) -> Aval:
    if x.dtype not in dtypes.INEXACT or (y.dtype is not x.dtype and y.dtype not in dtypes.INTEGER):
        raise TypeError(
            "pow takes a floating or complex base, and an exponent of the same dtype or an "
            f"integer one, got {x} and {y}"
        )
    if x.shape == y.shape and x.weak_type is y.weak_type:
        return x
    return Aval(common_shape("pow", (x, y)), x.dtype, x.weak_type and y.weak_type)


def _pow_evaluate(x: Array, y: Array) -> Any:
    if y.dtype != x.dtype:
        y = convert_values(y, x.dtype)
    return np.asarray(in_float32(_power)(x, y), x.dtype)


def _power(x: Array, y: Array) -> Any:
    if kind_of(x.dtype) != "c":
        return np.power(x, y)
    # |x|^re(y) as a real power keeps the accuracy that exp(y log x) loses.
    size, angle = np.abs(x), np.angle(x)
    turn = where(y.imag == 0, 0, y.imag * np.log(size))
    length = np.power(size, y.real) * np.exp(-y.imag * angle)
    turn = turn + y.real * angle
    power = np.empty(np.broadcast_shapes(x.shape, y.shape), x.dtype)
    power.real, power.imag = length * np.cos(turn), length * np.sin(turn)
    power = where((x == 0) & (y.real > 0), 0, power)
    return where(y == 0, 1, power)


def _power_scalar(builder: Any, x: Scalar, y: Scalar) -> Scalar:
    if not dtypes.is_complex(x.dtype):
        return builder.op("pow", x, y)
    op, select = builder.op, builder.select
    yr, yi = op("real", y), op("imag", y)
    size, angle = op("abs", x), op("atan2", op("imag", x), op("real", x))
    turn = select(op("eq", yi, 0.0), yi, op("mul", yi, op("log", size)))
    turn = op("add", turn, op("mul", yr, angle))
    length = op("mul", op("pow", size, yr), op("exp", op("neg", op("mul", yi, angle))))
    power = builder.complex(op("mul", length, op("cos", turn)), op("mul", length, op("sin", turn)))
    vanishes = op("and", op("eq", size, 0.0), op("gt", yr, 0.0))
    power = select(vanishes, builder.const(0, x.dtype), power)
    return select(op("eq", y, builder.const(0, y.dtype)), builder.const(1, x.dtype), power)


def _pow_jvp(ctx: Any, primals: Any, tangents: Any) -> Any:
    (x, y), (tx, ty) = primals, tangents
    out = pow_(x, y)
    parts: list[Any] = []
    if type(tx) is not Zero:
        by_base = _integer_exponent_slope if kind_of(y.dtype) in "iu" else _exponent_slope
        parts.append(mul(tx, by_base(x, y)))
    if type(ty) is not Zero:
        # At base 0 the logarithm is replaced by log 1 = 0, which leaves no NaN.
        safe = select_n(eq(x, like(x, 0)), x, like(x, 1))
        parts.append(mul(ty, mul(log(safe), out)))
    total = add_any(*parts) if len(parts) == 2 else parts[0] if parts else None
    return out, at_shape(total, out)


def _exponent_slope(x: Any, y: Any) -> Any:
    return mul(y, pow_(x, sub(y, like(y, 1))))


def _integer_exponent_slope(x: Any, y: Any) -> Any:
    """y x^(y-1) without 0 * inf where y is 0."""
    y = to_dtype(y, x.dtype)
    vanishes = eq(y, like(y, 0))
    safe = select_n(vanishes, y, like(y, 1))
    slope = mul(safe, pow_(x, sub(y, like(y, 1))))
    return select_n(vanishes, slope, like(y, 0))


def _pow_batch(ctx: Any, args: Any, dims: Any) -> Any:
    args, dim = align_batched(args, dims)
    return pow_(*args), dim


def _pow_lower(b: Any, x: Any, y: Any) -> Any:
    builder = b.builder
    dtype = x.dtype
    shape = x.shape if len(x.shape) >= len(y.shape) else y.shape

    def element(index: Any) -> Scalar:
        base, exponent = elements((x, y), index)
        return _power_scalar(builder, base, convert_scalar(builder, exponent, dtype))

    return b.lazy(shape, dtype, element, x.cost + y.cost + 30.0)


pow_ = Primitive(
    "pow",
    shape=_pow_shape,
    evaluate=_pow_evaluate,
    jvp=_pow_jvp,
    transpose=unsupported(NOT_LINEAR),
    batch=_pow_batch,
    lower=_pow_lower,
    lanes=lanes_elementwise,
    tags=frozenset({"elementwise"}),
)

# --- trigonometric functions --------------------------------------------------------------------

sin = function("sin", np.sin, lambda t, x: mul(t, cos(x)), cost=14.0)
cos = function("cos", np.cos, lambda t, x: mul(t, neg(sin(x))), cost=14.0)


def _tan_jvp(t: Any, y: Any, x: Any) -> Any:
    return mul(t, add(mul(y, y), like(y, 1)))


tan = function("tan", np.tan, _tan_jvp, jvp_uses_result=True, cost=22.0)


def _one_minus_square(x: Any) -> Any:
    return sub(like(x, 1), mul(x, x))


asin = function("asin", np.arcsin, lambda t, x: mul(t, rsqrt(_one_minus_square(x))), cost=18.0)
acos = function("acos", np.arccos, lambda t, x: mul(t, neg(rsqrt(_one_minus_square(x)))), cost=18.0)
atan = function("atan", np.arctan, lambda t, x: div(t, add(mul(x, x), like(x, 1))), cost=16.0)


def _atan2_evaluate(y: Array, x: Array) -> Any:
    if kind_of(y.dtype) != "c":
        return np.arctan2(y, x)
    return -1j * np.log((x + 1j * y) / np.sqrt(x * x + y * y))


def _atan2_scalar(builder: Any, y: Scalar, x: Scalar) -> Scalar:
    """Of complex numbers, as XLA: -i log((x + iy) / sqrt(x^2 + y^2))."""
    if not dtypes.is_complex(y.dtype):
        return builder.op("atan2", y, x)
    op = builder.op
    i = builder.const(1j, y.dtype)
    norm = op("sqrt", op("add", op("mul", x, x), op("mul", y, y)))
    direction = op("div", op("add", x, op("mul", i, y)), norm)
    logarithm = op("log", direction)
    return builder.complex(op("imag", logarithm), op("neg", op("real", logarithm)))


def _atan2_jvp(ctx: Any, primals: Any, tangents: Any) -> Any:
    (y, x), (ty, tx) = primals, tangents
    out = atan2(y, x)
    norm = add(mul(x, x), mul(y, y))
    parts: list[Any] = []
    if type(ty) is not Zero:
        parts.append(mul(ty, div(x, norm)))
    if type(tx) is not Zero:
        parts.append(mul(tx, div(neg(y), norm)))
    return out, at_shape(add_any(*parts) if len(parts) == 2 else parts[0], out)


atan2 = elementwise(
    "atan2",
    evaluate=in_float32(_atan2_evaluate),
    jvp=None,
    jvp_rule=_atan2_jvp,
    arity=2,
    scalar=_atan2_scalar,
    cost=24.0,
)

# --- hyperbolic functions -----------------------------------------------------------------------

sinh = function("sinh", np.sinh, lambda t, x: mul(t, cosh(x)), cost=18.0)
cosh = function("cosh", np.cosh, lambda t, x: mul(t, sinh(x)), cost=18.0)


def _tanh_jvp(t: Any, y: Any, x: Any) -> Any:
    return mul(t, _one_minus_square(y))


tanh = function("tanh", np.tanh, _tanh_jvp, jvp_uses_result=True, cost=16.0)


def _asinh_jvp(t: Any, x: Any) -> Any:
    return mul(t, rsqrt(add(mul(x, x), like(x, 1))))


def _acosh_jvp(t: Any, x: Any) -> Any:
    # Not of x^2 - 1, which overflows, and cancels near 1.
    one = like(x, 1)
    return mul(t, mul(rsqrt(sub(x, one)), rsqrt(add(x, one))))


def _atanh_jvp(t: Any, x: Any) -> Any:
    # Not 1 - x^2, which cancels near the ends of the domain.
    one = like(x, 1)
    return div(t, mul(sub(one, x), add(one, x)))


asinh = function("asinh", np.arcsinh, _asinh_jvp, cost=20.0)
acosh = function("acosh", np.arccosh, _acosh_jvp, cost=20.0)
atanh = function("atanh", np.arctanh, _atanh_jvp, cost=20.0)

# --- the error function -------------------------------------------------------------------------


def _erf_slope(x: Any, factor: float) -> Any:
    return mul(like(x, factor), exp(neg(mul(x, x))))


_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)

erf = function(
    "erf",
    scipy_function("erf"),
    lambda t, x: mul(t, _erf_slope(x, _TWO_OVER_ROOT_PI)),
    kinds="f",
    cost=20.0,
)
erfc = function(
    "erfc",
    scipy_function("erfc"),
    lambda t, x: mul(t, _erf_slope(x, -_TWO_OVER_ROOT_PI)),
    kinds="f",
    cost=24.0,
)


def _erf_inv_jvp(t: Any, y: Any, x: Any) -> Any:
    return mul(t, mul(like(y, 1 / _TWO_OVER_ROOT_PI), exp(mul(y, y))))


erf_inv = function(
    "erf_inv", scipy_function("erfinv"), _erf_inv_jvp, kinds="f", jvp_uses_result=True, cost=24.0
)
