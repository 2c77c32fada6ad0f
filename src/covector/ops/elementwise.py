"""Elementwise arithmetic and mathematics, one declaration each.

Names and meanings are those of `jax.lax`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval, Linear
from covector.core.trace import aval_of
from covector.ops.common import is_linear, kind_of, like, unbroadcast
from covector.ops.factory import elementwise

# --- linear operations ------------------------------------------------------------------------


def _neg_transpose(ctx: Any, ct: Any, x: Any) -> list[Any]:
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


add = elementwise(
    "add",
    evaluate=np.add,
    jvp=(lambda t, x, y: t, lambda t, x, y: t),
    transpose=_add_transpose,
    scalar="add",
    kinds="biufc",
)


def _sub_transpose(ctx: Any, ct: Any, x: Any, y: Any) -> list[Any]:
    return [
        unbroadcast(ct, x.aval) if is_linear(x) else None,
        unbroadcast(neg(ct), y.aval) if is_linear(y) else None,
    ]


sub = elementwise(
    "sub",
    evaluate=np.subtract,
    jvp=(lambda t, x, y: t, lambda t, x, y: neg(t)),
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
    kinds="biufc",
)


def _divide(x: Any, y: Any) -> Any:
    if kind_of(x.dtype) in "iu":
        return _integer_quotient(x, y)
    return np.divide(x, y)


def _integer_quotient(x: Any, y: Any) -> Any:
    """Rounds toward zero; x/0 is all ones (-1), the least integer over -1 is itself."""
    x, y = np.broadcast_arrays(x, y)
    zero = y == 0
    divisor = np.where(zero, np.ones_like(y), y)
    quotient = np.floor_divide(x, divisor)
    if x.dtype.kind == "i":
        inexact = quotient * divisor != x
        quotient = quotient + (inexact & ((x < 0) != (divisor < 0))).astype(x.dtype)
        quotient = np.where(divisor == -1, np.negative(x), quotient)
    ones = np.array(-1).astype(x.dtype)
    return np.where(zero, ones, quotient)


def _div_transpose(ctx: Any, ct: Any, x: Any, y: Any) -> list[Any]:
    return [unbroadcast(div(ct, y), x.aval), None]


div = elementwise(
    "div",
    evaluate=_divide,
    jvp=(lambda t, q, x, y: div(t, y), lambda t, q, x, y: neg(mul(div(t, y), q))),
    jvp_uses_result=True,
    transpose=_div_transpose,
    scalar="div",
    kinds="iufc",
    cost=4.0,
)


def _remainder(x: Any, y: Any) -> Any:
    if kind_of(x.dtype) in "iu":
        x, y = np.broadcast_arrays(x, y)
        return np.where(y == 0, x, np.fmod(x, np.where(y == 0, np.ones_like(y), y)))
    return np.fmod(x, y)


rem = elementwise(
    "rem",
    evaluate=_remainder,
    jvp=(
        lambda t, x, y: t,
        lambda t, x, y: neg(mul(t, _truncate(div(x, y)))),
    ),
    scalar="rem",
    kinds="iuf",
    cost=20.0,
)


def _truncate(x: Any) -> Any:
    return mul(sign(x), floor(abs_(x)))


# --- convert ------------------------------------------------------------------------------------


def _convert_evaluate(x: Any, *, new_dtype: Any, weak_type: bool = False) -> Any:
    return convert_values(np.asarray(x), new_dtype)


def convert_values(x: np.ndarray[Any, Any], dtype: Any) -> np.ndarray[Any, Any]:
    """Conversion as XLA does it: floats saturate to integers, NaN becomes 0, bool is `!= 0`."""
    source, target = kind_of(x.dtype), kind_of(dtype)
    if source == "c" and target != "c":
        x = x.real
        source = "f"
    if target == "b":
        return x != 0
    if source == "f" and target in "iu":
        return _saturate(x, dtype)
    return x.astype(dtype)


def _saturate(x: np.ndarray[Any, Any], dtype: Any) -> np.ndarray[Any, Any]:
    info = np.iinfo(dtype)
    wide = x.astype(np.float64)
    inside = np.clip(np.nan_to_num(wide, nan=0.0), float(info.min), float(info.max))
    # float(info.max) may round up to one past the largest value of a 64-bit type.
    result = np.where(inside >= float(info.max), 0, inside).astype(dtype)
    return np.where(inside >= float(info.max), np.array(info.max, dtype), result)


def _convert_shape(x: Aval, *, new_dtype: Any, weak_type: bool = False) -> Aval:
    if kind_of(x.dtype) == "k":
        raise TypeError(f"PRNG keys {x} cannot be converted to {new_dtype}")
    return Aval(x.shape, new_dtype, weak_type)


def _convert_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    from covector.core.avals import Zero

    (x,), (t,) = primals, tangents
    out = convert_element_type(x, **params)
    if not dtypes.is_inexact(params["new_dtype"]):
        return out, Zero(aval_of(out).tangent())
    return out, convert_element_type(t, new_dtype=params["new_dtype"])


def _convert_transpose(ctx: Any, ct: Any, x: Linear, **params: Any) -> list[Any]:
    return [convert_element_type(ct, new_dtype=x.aval.dtype)]


def _convert_batch(ctx: Any, args: Any, dims: Any, **params: Any) -> Any:
    return convert_element_type(args[0], **params), dims[0]


def _convert_lower(b: Any, x: Any, *, new_dtype: Any, weak_type: bool = False) -> Any:
    if x.dtype == new_dtype:
        return x
    builder = b.builder
    fn = lambda i: builder.op("convert", x.at(i), attr=new_dtype)  # noqa: E731
    return b.lazy(x.shape, new_dtype, fn, x.cost + 1)


def _convert_lanes(dims: Any, x: Aval, **params: Any) -> Any:
    return dims[0]


from covector.core.primitive import Primitive  # noqa: E402

convert_element_type = Primitive(
    "convert_element_type",
    shape=_convert_shape,
    evaluate=_convert_evaluate,
    jvp=_convert_jvp,
    transpose=_convert_transpose,
    batch=_convert_batch,
    lower=_convert_lower,
    lanes=_convert_lanes,
    tags=frozenset({"elementwise"}),
)

# --- exponentials, trigonometry -----------------------------------------------------------------

exp = elementwise(
    "exp",
    evaluate=np.exp,
    jvp=lambda t, y, x: mul(t, y),
    jvp_uses_result=True,
    scalar="exp",
    cost=12.0,
)
log = elementwise(
    "log", evaluate=np.log, jvp=lambda t, x: div(t, x), scalar="log", cost=12.0
)
sin = elementwise(
    "sin", evaluate=np.sin, jvp=lambda t, x: mul(t, cos(x)), scalar="sin", cost=14.0
)
cos = elementwise(
    "cos", evaluate=np.cos, jvp=lambda t, x: neg(mul(t, sin(x))), scalar="cos", cost=14.0
)
tanh = elementwise(
    "tanh",
    evaluate=np.tanh,
    jvp=lambda t, y, x: mul(t, sub(like(y, 1), mul(y, y))),
    jvp_uses_result=True,
    scalar="tanh",
    cost=16.0,
)
sqrt = elementwise(
    "sqrt",
    evaluate=np.sqrt,
    jvp=lambda t, y, x: div(t, mul(like(y, 2), y)),
    jvp_uses_result=True,
    scalar="sqrt",
    cost=6.0,
)
floor = elementwise("floor", evaluate=np.floor, jvp=None, scalar="floor", kinds="f")


def _sign_evaluate(x: Any) -> Any:
    return np.sign(x)


def _sign_scalar(builder: Any, x: Any) -> Any:
    if kind_of(x.dtype) == "c":
        return builder.op("sign", x)
    zero, one = builder.const(0, x.dtype), builder.const(1, x.dtype)
    if kind_of(x.dtype) == "u":
        return builder.op("min", x, one)
    if kind_of(x.dtype) == "i":
        low = builder.op("max", x, builder.const(-1, x.dtype))
        return builder.op("min", low, one)
    signed = builder.op("copysign", one, x)
    vanishes = builder.op("or", builder.op("eq", x, zero), builder.op("is_nan", x))
    return builder.op("select", vanishes, x, signed)


sign = elementwise(
    "sign", evaluate=_sign_evaluate, jvp=None, scalar=_sign_scalar, kinds="iufc", cost=3.0
)


def _abs_jvp(t: Any, x: Any) -> Any:
    return mul(t, sign(x))


abs_ = elementwise(
    "abs",
    evaluate=np.abs,
    jvp=_abs_jvp,
    scalar="abs",
    kinds="iuf",
)

# --- comparison and choice ----------------------------------------------------------------------


def _boolean(dtype: Any) -> Any:
    return np.dtype(np.bool_)


def _comparison(name: str, evaluate: Any, kinds: str = "biuf") -> Primitive:
    return elementwise(
        name,
        evaluate=evaluate,
        jvp=None,
        arity=2,
        scalar=name,
        kinds=kinds,
        result=_boolean,
    )


eq = _comparison("eq", np.equal, "biufc")
ne = _comparison("ne", np.not_equal, "biufc")
lt = _comparison("lt", np.less)
le = _comparison("le", np.less_equal)
gt = _comparison("gt", np.greater)
ge = _comparison("ge", np.greater_equal)


def _extremum_jvp(primitive: Any, t: Any, out: Any, mine: Any, other: Any) -> Any:
    """The derivative goes to the operand chosen, half to each where they are equal."""
    one, half, nil = like(t, 1), like(t, 0.5), like(t, 0)
    tie = select_n(eq(mine, other), one, half)
    chosen = select_n(eq(out, mine), nil, tie)
    return mul(t, chosen)
