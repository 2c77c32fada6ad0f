"""Arithmetic, rounding, and what else real numbers have: signs, bounds, neighbours, powers.

Names and meanings are those of `jax.lax`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval, Linear, Zero
from covector.core.params import register_param_type
from covector.core.primitive import Primitive, unsupported
from covector.core.trace import aval_of
from covector.ops.bitwise import and_
from covector.ops.common import add_tangents, is_linear, kind_of, like, unbroadcast, where
from covector.ops.compare import boolean, eq, ge, gt, lt, select_n
from covector.ops.convert import conj, real, to_dtype
from covector.ops.factory import at_shape, elementwise, in_float32

Scalar = Any

# --- linear operations ------------------------------------------------------------------------


def _neg_transpose(ctx: Any, ct: Any, x: Linear) -> list[Any]:
    return [neg(ct)]


neg = elementwise(
    "neg",
    evaluate=np.negative,
    jvp=lambda t, x: neg(t),
    transpose=_neg_transpose,
    scalar="neg",
    kinds="iufc",
)


def _add_transpose(ctx: Any, ct: Any, x: Any, y: Any) -> list[Any]:
    return [unbroadcast(ct, a.aval) if is_linear(a) else None for a in (x, y)]


def _sum(name: str) -> Primitive:
    return elementwise(
        name,
        evaluate=np.add,
        jvp=(lambda t, x, y: t, lambda t, x, y: t),
        transpose=_add_transpose,
        scalar="add",
        kinds="iufc",
    )


add = _sum("add")
add_any = _sum("add_any")


def _sub_jvp(ctx: Any, primals: Any, tangents: Any) -> Any:
    out = sub(*primals)
    tx, ty = tangents
    if type(ty) is Zero:
        return out, at_shape(tx, out)
    return out, at_shape(neg(ty) if type(tx) is Zero else sub(tx, ty), out)


def _sub_transpose(ctx: Any, ct: Any, x: Any, y: Any) -> list[Any]:
    return [
        unbroadcast(ct, x.aval) if is_linear(x) else None,
        unbroadcast(neg(ct), y.aval) if is_linear(y) else None,
    ]


sub = elementwise(
    "sub",
    evaluate=np.subtract,
    jvp=None,
    jvp_rule=_sub_jvp,
    arity=2,
    transpose=_sub_transpose,
    scalar="sub",
    kinds="iufc",
)


def _mul_transpose(ctx: Any, ct: Any, x: Any, y: Any) -> list[Any]:
    if is_linear(x):
        return [unbroadcast(mul(ct, y), x.aval), None]
    return [None, unbroadcast(mul(x, ct), y.aval)]


mul = elementwise(
    "mul",
    evaluate=np.multiply,
    jvp=(lambda t, x, y: mul(t, y), lambda t, x, y: mul(x, t)),
    transpose=_mul_transpose,
    scalar="mul",
    kinds="iufc",
)


def _fused(x: Any, y: Any, z: Any) -> Any:
    """A product and a sum with one rounding, where NumPy has floats wide enough for it."""
    wide = np.float64 if x.dtype.itemsize < 8 else np.longdouble
    return np.add(np.multiply(x, y, dtype=wide), z)


def _fused_transpose(ctx: Any, ct: Any, x: Any, y: Any, z: Any) -> list[Any]:
    from_product = _mul_transpose(ctx, ct, x, y) if is_linear(x) or is_linear(y) else [None, None]
    return [*from_product, unbroadcast(ct, z.aval) if is_linear(z) else None]


fma = elementwise(
    "fma",
    evaluate=_fused,
    jvp=(lambda t, x, y, z: mul(t, y), lambda t, x, y, z: mul(x, t), lambda t, x, y, z: t),
    transpose=_fused_transpose,
    scalar="fma",
    kinds="f",
)
"""`x * y + z`, rounded once. Compilation makes it of products and sums (`passes.contraction`)."""

# --- division -----------------------------------------------------------------------------------


def _divide(x: Any, y: Any) -> Any:
    return _integer_quotient(x, y) if kind_of(x.dtype) in "iu" else np.divide(x, y)


def _integer_quotient(x: Any, y: Any) -> Any:
    """Rounds toward zero; x/0 is all ones (-1), the least integer over -1 is itself."""
    x, y = np.broadcast_arrays(x, y)
    zero = y == 0
    divisor: Any = where(zero, np.ones_like(y), y)
    quotient: Any = np.floor_divide(x, divisor)
    if x.dtype.kind == "i":
        inexact: Any = quotient * divisor != x
        quotient = quotient + (inexact & ((x < 0) != (divisor < 0))).astype(x.dtype)
        quotient = where(divisor == -1, np.negative(x), quotient)
    return where(zero, np.array(-1).astype(x.dtype), quotient)


def _div_jvp(ctx: Any, primals: Any, tangents: Any) -> Any:
    (x, y), (tx, ty) = primals, tangents
    out = div(x, y)
    if type(ty) is Zero:
        tangent = div(tx, y)
    elif type(tx) is Zero:
        tangent = mul(ty, neg(div(out, y)))
    else:
        tangent = div(sub(tx, mul(ty, out)), y)
    return out, at_shape(tangent, out)


def _div_transpose(ctx: Any, ct: Any, x: Any, y: Any) -> list[Any]:
    return [unbroadcast(div(ct, y), x.aval), None]


div = elementwise(
    "div",
    evaluate=_divide,
    jvp=None,
    jvp_rule=_div_jvp,
    arity=2,
    transpose=_div_transpose,
    scalar="div",
    kinds="iufc",
    cost=4.0,
)


def _remainder(x: Any, y: Any) -> Any:
    if kind_of(x.dtype) in "iu":
        x, y = np.broadcast_arrays(x, y)
        zero = y == 0
        return where(zero, x, np.fmod(x, where(zero, np.ones_like(y), y)))
    return np.fmod(x, y)


def _rem_jvp(t: Any, out: Any, x: Any, y: Any) -> Any:
    # x = quotient * y + out with an integral quotient, which is the derivative up to its sign.
    return mul(t, round_(div(sub(out, x), y), rounding_method=RoundingMethod.TO_NEAREST_EVEN))


rem = elementwise(
    "rem",
    evaluate=in_float32(_remainder),
    jvp=(lambda t, out, x, y: t, _rem_jvp),
    jvp_uses_result=True,
    scalar="rem",
    kinds="iuf",
    cost=20.0,
)

# --- sign, absolute value -----------------------------------------------------------------------


def _sign_evaluate(x: Any) -> Any:
    if kind_of(x.dtype) != "c":
        return np.sign(x)
    size = np.abs(x)
    return where(size == 0, x, x / where(size == 0, np.ones_like(size), size))


sign = elementwise("sign", evaluate=_sign_evaluate, jvp=None, scalar="sign", kinds="iufc", cost=3.0)


def _abs_jvp(t: Any, out: Any, x: Any) -> Any:
    if dtypes.is_complex(x.dtype):
        safe = select_n(eq(out, like(out, 0)), out, like(out, 1))
        direction = div(conj(x, input_dtype=x.dtype), to_dtype(safe, x.dtype))
        return real(mul(t, direction))
    return mul(t, select_n(ge(x, like(x, 0)), like(x, -1), like(x, 1)))


abs_ = elementwise(
    "abs",
    evaluate=np.abs,
    jvp=_abs_jvp,
    jvp_uses_result=True,
    scalar="abs",
    kinds="ifc",
    result=dtypes.real_of,
)

# --- rounding -----------------------------------------------------------------------------------


@register_param_type
class RoundingMethod(enum.IntEnum):
    """Where `round` takes numbers half-way between two integers."""

    AWAY_FROM_ZERO = 0
    TO_NEAREST_EVEN = 1


floor = elementwise("floor", evaluate=np.floor, jvp=None, scalar="floor", kinds="f")
ceil = elementwise("ceil", evaluate=np.ceil, jvp=None, scalar="ceil", kinds="f")


def _round_evaluate(x: Any, *, rounding_method: int) -> Any:
    if rounding_method == RoundingMethod.TO_NEAREST_EVEN:
        return np.rint(x)
    whole = np.trunc(x)
    return where(np.abs(x - whole) >= 0.5, whole + np.copysign(x.dtype.type(1), x), whole)


def _round_scalar(builder: Any, x: Scalar, *, rounding_method: int) -> Scalar:
    even = rounding_method == RoundingMethod.TO_NEAREST_EVEN
    return builder.op("round_even" if even else "round_away", x)


def _round_check(x: Aval, *, rounding_method: int) -> None:
    if rounding_method not in (0, 1):
        raise ValueError(f"round: rounding_method must be a RoundingMethod, got {rounding_method}")


round_ = elementwise(
    "round",
    evaluate=_round_evaluate,
    jvp=None,
    scalar=_round_scalar,
    kinds="f",
    check=_round_check,
)
is_finite = elementwise(
    "is_finite", evaluate=np.isfinite, jvp=None, scalar="is_finite", kinds="f", result=boolean
)

# --- neighbours ---------------------------------------------------------------------------------


def _nextafter_scalar(builder: Any, x: Scalar, y: Scalar) -> Scalar:
    if x.dtype.itemsize != 2:
        return builder.op("nextafter", x, y)
    # Half-precision operations go through float32, whose neighbours are others: step the bits.
    bits_dtype = np.dtype(np.uint16)
    bits = builder.op("bitcast", x, attr=bits_dtype)
    magnitude = builder.op("and", bits, 0x7FFF)
    outwards = builder.op("eq", builder.op("lt", x, y), builder.op("gt", x, 0.0))
    moved = builder.op("add", bits, builder.select(outwards, builder.const(1, bits_dtype), -1))
    sign = builder.op("and", builder.op("bitcast", y, attr=bits_dtype), 0x8000)
    moved = builder.select(builder.op("eq", magnitude, 0), builder.op("or", sign, 1), moved)
    stepped = builder.op("bitcast", moved, attr=x.dtype)
    stepped = builder.select(builder.op("eq", x, y), y, stepped)
    unordered = builder.op("or", builder.op("is_nan", x), builder.op("is_nan", y))
    return builder.select(unordered, builder.op("add", x, y), stepped)


nextafter = elementwise(
    "nextafter",
    evaluate=np.nextafter,
    jvp=None,
    jvp_rule=unsupported("the neighbouring number is not a differentiable function"),
    arity=2,
    scalar=_nextafter_scalar,
    kinds="f",
    cost=10.0,
)

# --- bounds -------------------------------------------------------------------------------------


def _lexicographic(numpy_function: Callable[..., Any], greater: bool) -> Callable[..., Any]:
    """The extremum of complex numbers by real parts, then by imaginary ones, as XLA has it."""

    def evaluate(x: Any, y: Any) -> Any:
        if kind_of(x.dtype) != "c":
            return numpy_function(x, y)
        a, b = (x, y) if greater else (y, x)
        first = where(a.real == b.real, a.imag > b.imag, a.real > b.real)
        return where(first, x, y)

    return evaluate


def _lexicographic_scalar(name: str, greater: bool) -> Callable[..., Any]:
    operation = "gt" if greater else "lt"

    def scalar(builder: Any, x: Scalar, y: Scalar) -> Scalar:
        if not dtypes.is_complex(x.dtype):
            return builder.op(name, x, y)
        xr, yr = builder.op("real", x), builder.op("real", y)
        by_imag = builder.op(operation, builder.op("imag", x), builder.op("imag", y))
        by_real = builder.op(operation, xr, yr)
        first = builder.op("or", by_real, builder.op("and", builder.op("eq", xr, yr), by_imag))
        return builder.select(first, x, y)

    return scalar


def _extremum(name: str, evaluate: Callable[..., Any], greater: bool) -> Primitive:
    """max or min; the derivative goes to the operand chosen, half to each where they are equal."""

    def jvp_rule(ctx: Any, primals: Any, tangents: Any) -> Any:
        (x, y), (tx, ty) = primals, tangents
        out = primitive(x, y)
        if dtypes.is_complex(out.dtype):
            return out, at_shape(_complex_extremum_tangent(out, x, y, tx, ty), out)
        one, tie = like(out, 1), select_n(eq(x, y), like(out, 0), like(out, 0.5))
        above, below = (gt, lt) if greater else (lt, gt)
        tangent: Any = Zero(out.aval)
        if type(tx) is not Zero:
            tangent = mul(tx, select_n(above(x, y), tie, one))
        if type(ty) is not Zero:
            tangent = add_tangents(tangent, mul(ty, select_n(below(x, y), tie, one)))
        return out, at_shape(tangent, out)

    primitive = elementwise(
        name,
        evaluate=_lexicographic(evaluate, greater),
        jvp=None,
        jvp_rule=jvp_rule,
        arity=2,
        scalar=_lexicographic_scalar(name, greater),
        kinds="biufc",
    )
    return primitive


def _complex_extremum_tangent(out: Any, x: Any, y: Any, tx: Any, ty: Any) -> Any:
    half, one, nil = like(out, 0.5), like(out, 1), like(out, 0)
    tie = select_n(eq(x, y), one, half)
    parts = [
        mul(t, select_n(eq(out, operand), nil, tie))
        for t, operand in ((tx, x), (ty, y))
        if type(t) is not Zero
    ]
    return parts[0] if len(parts) == 1 else add(*parts)


max_ = _extremum("max", np.maximum, greater=True)
min_ = _extremum("min", np.minimum, greater=False)


def _clamp_evaluate(low: Any, x: Any, high: Any) -> Any:
    return np.minimum(np.maximum(x, low), high)


def _clamp_scalar(builder: Any, low: Scalar, x: Scalar, high: Scalar) -> Scalar:
    return builder.op("min", builder.op("max", x, low), high)


def _clamp_jvp_low(t: Any, low: Any, x: Any, high: Any) -> Any:
    return select_n(and_(gt(low, x), lt(low, high)), like(t, 0), t)


def _clamp_jvp(t: Any, low: Any, x: Any, high: Any) -> Any:
    return select_n(and_(gt(x, low), lt(x, high)), like(t, 0), t)


def _clamp_jvp_high(t: Any, low: Any, x: Any, high: Any) -> Any:
    return select_n(lt(high, x), like(t, 0), t)


clamp = elementwise(
    "clamp",
    evaluate=_clamp_evaluate,
    jvp=(_clamp_jvp_low, _clamp_jvp, _clamp_jvp_high),
    scalar=_clamp_scalar,
    kinds="biuf",
    cost=2.0,
)

# --- powers with integer exponents --------------------------------------------------------------


def _square_evaluate(x: Any) -> Any:
    if kind_of(x.dtype) != "c":
        return x * x
    out = np.empty_like(x)
    out.real, out.imag = (x.real - x.imag) * (x.real + x.imag), 2 * x.real * x.imag
    return out


square = elementwise(
    "square",
    evaluate=_square_evaluate,
    jvp=lambda t, x: mul(t, mul(like(x, 2), x)),
    scalar="square",
    kinds="iufc",
)


def _power(x: Any, y: int, times: Callable[[Any, Any], Any]) -> Any:
    """x^y for y > 0, by squaring."""
    result: Any = None
    while True:
        if y & 1:
            result = x if result is None else times(result, x)
        y >>= 1
        if not y:
            return result
        x = times(x, x)


def _integer_pow_evaluate(x: Any, *, y: int) -> Any:
    if y == 0:
        return np.ones_like(x)
    power = _power(x, abs(y), np.multiply)
    return power if y > 0 else np.divide(np.ones_like(x), power)


def _integer_pow_jvp(t: Any, x: Any, *, y: int) -> Any:
    if y == 0:
        return Zero(aval_of(t))
    if y == 1:
        return t
    power = x if y == 2 else integer_pow(x, y=y - 1)
    return mul(t, mul(like(x, y), power))


def _integer_pow_scalar(builder: Any, x: Scalar, *, y: int) -> Scalar:
    one = builder.const(1, x.dtype)
    if y == 0:
        return one
    power = _power(x, abs(y), lambda a, b: builder.op("mul", a, b))
    return power if y > 0 else builder.op("div", one, power)


def _integer_pow_check(x: Aval, *, y: int) -> None:
    if y < 0 and kind_of(x.dtype) in "iu":
        raise TypeError(f"integers cannot be raised to negative powers: integer_pow of {x}, y={y}")


integer_pow = elementwise(
    "integer_pow",
    evaluate=_integer_pow_evaluate,
    jvp=_integer_pow_jvp,
    scalar=_integer_pow_scalar,
    kinds="iufc",
    check=_integer_pow_check,
    cost=3.0,
)
