"""Conversions: between dtypes, to and from bits, to and from complex numbers; copies.

Names and meanings are those of `jax.lax`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval, Linear, Zero
from covector.core.primitive import REGISTRY, Primitive, unsupported
from covector.core.trace import aval_of
from covector.loopir.ir import ComplexValue
from covector.ops.common import (
    CHEAP,
    Inseparable,
    broadcast_to,
    is_linear,
    kind_of,
    like,
    linear_jvp,
    move_axis,
    unbroadcast,
    where,
)
from covector.ops.factory import elementwise, lanes_elementwise

Scalar = Any

# --- convert_element_type -----------------------------------------------------------------------


def convert_values(x: np.ndarray[Any, Any], dtype: Any) -> np.ndarray[Any, Any]:
    """Conversion as XLA does it.

    Floats saturate to integers, NaN becomes 0, bool is `!= 0`; of complex numbers the real part
    is converted.

    Args:
        x: an array.
        dtype: what to convert it to.

    Returns:
        A new array, or `x` itself if it has the dtype.
    """
    source, target = kind_of(x.dtype), kind_of(dtype)
    if source == "c" and target != "c":
        x, source = x.real, "f"
    if target == "b":
        return x != 0
    if source == "f" and target in "iu":
        return _saturate(x, dtype)
    if dtype == dtypes.bfloat16 and x.dtype.itemsize == 8:
        x = _to_odd_float32(x)
    return x.astype(dtype, copy=False)


def _saturate(x: np.ndarray[Any, Any], dtype: Any) -> np.ndarray[Any, Any]:
    info = np.iinfo(dtype)
    wide = np.nan_to_num(x.astype(np.float64), nan=0.0)
    # float(info.max) may round up to one past the largest value of a 64-bit type.
    above, below = wide >= float(info.max), wide <= float(info.min)
    result = where(above | below, 0.0, wide).astype(dtype)
    result = where(above, np.array(info.max, dtype), result)
    return where(below, np.array(info.min, dtype), result)


def _to_odd_float32(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rounds to float32 such that rounding the result once more rounds `x` correctly.

    An inexact result gets an odd last bit (Boldo and Melquiond, "When double rounding is odd").
    """
    narrow = np.asarray(x, np.float32)
    # Exact comparison of 64-bit integers with floats: through the signed residual.
    error = x - narrow.astype(x.dtype) if x.dtype.kind == "f" else _residual(x, narrow)
    even = (narrow.view(np.uint32) & 1) == 0
    stepped = np.nextafter(narrow, where(error > 0, np.float32(np.inf), np.float32(-np.inf)))
    return where(even & (error != 0) & np.isfinite(narrow), stepped, narrow)


def _residual(x: np.ndarray[Any, Any], narrow: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # The high parts nearly cancel, and what remains fits float64 exactly.
    high, low = x >> np.array(11, x.dtype), x & np.array(2047, x.dtype)
    difference = high.astype(np.float64) * 2048.0 - narrow.astype(np.float64)
    return difference + low.astype(np.float64)


def _convert_shape(x: Aval, *, new_dtype: Any, weak_type: bool = False) -> Aval:
    if kind_of(x.dtype) in "k0":
        raise TypeError(
            f"{x} cannot be converted to {dtypes.short_name(new_dtype)}; "
            "for the words of PRNG keys use random.key_data"
        )
    return Aval(x.shape, new_dtype, weak_type)


def _convert_evaluate(x: Any, *, new_dtype: Any, weak_type: bool = False) -> Any:
    return np.asarray(convert_values(np.asarray(x), new_dtype))


def _convert_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    out = convert_element_type(primals[0], **params)
    if not dtypes.is_inexact(params["new_dtype"]):
        return out, Zero(aval_of(out).tangent())
    return out, to_dtype(tangents[0], params["new_dtype"])


def _convert_transpose(ctx: Any, ct: Any, x: Linear, **params: Any) -> list[Any]:
    return [to_dtype(ct, x.aval.dtype)]


def _convert_batch(ctx: Any, args: Any, dims: Any, **params: Any) -> Any:
    return convert_element_type(args[0], **params), dims[0]


def _convert_lower(b: Any, x: Any, *, new_dtype: Any, weak_type: bool = False) -> Any:
    if x.dtype == new_dtype:
        return x
    builder, at = b.builder, x.at

    def element(index: Any) -> Any:
        return convert_scalar(builder, at(index), new_dtype)

    return b.lazy(x.shape, new_dtype, element, x.cost + 1.0)


def convert_scalar(builder: Any, value: Scalar, dtype: Any) -> Scalar:
    """A scalar of the loop IR converted to a dtype as `convert_values` does it.

    Args:
        builder: of the loop IR.
        value: a number, complex too.
        dtype: what to convert it to.

    Returns:
        The converted value.
    """
    if isinstance(value, ComplexValue):
        if dtypes.is_complex(dtype):
            return builder.convert(value, dtype)
        value = value.re
    if dtypes.is_complex(dtype):
        return builder.complex(builder.convert(value, dtypes.real_of(dtype)), 0.0)
    return builder.convert(value, dtype)


convert_element_type = Primitive(
    "convert_element_type",
    shape=_convert_shape,
    evaluate=_convert_evaluate,
    jvp=_convert_jvp,
    transpose=_convert_transpose,
    batch=_convert_batch,
    lower=_convert_lower,
    lanes=lanes_elementwise,
    tags=frozenset({"elementwise", CHEAP}),
)


def to_dtype(x: Any, dtype: Any) -> Any:
    """`x` converted to a dtype, itself if it has it.

    Args:
        x: an operand.
        dtype: a dtype.

    Returns:
        The converted operand, not weakly typed if it was converted.
    """
    if x.dtype == dtype:
        return x
    return convert_element_type(x, new_dtype=dtype, weak_type=False)


# --- bitcast_convert_type -----------------------------------------------------------------------


def _bitcast_shape(x: Aval, *, new_dtype: Any) -> Aval:
    if kind_of(x.dtype) in "bck0" or kind_of(new_dtype) in "bck0":
        if x.dtype != new_dtype:
            raise TypeError(
                f"bitcast_convert_type of {x} to {dtypes.short_name(new_dtype)}: "
                "bool and complex have no bits of another dtype; use .view() on the array"
            )
        return Aval(x.shape, new_dtype)
    old, new = x.dtype.itemsize, new_dtype.itemsize
    if old == new:
        return Aval(x.shape, new_dtype)
    if old > new:
        return Aval((*x.shape, old // new), new_dtype)
    if not x.shape or x.shape[-1] != new // old:
        raise ValueError(
            f"bitcast_convert_type of {x} to {dtypes.short_name(new_dtype)}: the last axis must "
            f"have size {new // old}, the number of elements that make one of the result"
        )
    return Aval(x.shape[:-1], new_dtype)


def _bitcast_evaluate(x: Any, *, new_dtype: Any) -> Any:
    x = np.ascontiguousarray(x).reshape(x.shape)
    if x.dtype.itemsize == new_dtype.itemsize:
        return x.view(new_dtype)
    if x.dtype.itemsize > new_dtype.itemsize:
        return x[..., None].view(new_dtype)
    return x.view(new_dtype)[..., 0]


def _bitcast_batch(ctx: Any, args: Any, dims: Any, *, new_dtype: Any) -> Any:
    (x,), (dim,) = args, dims
    if dim == len(aval_of(x).shape) - 1:
        # The last axis may be the one that is made or used up.
        x, dim = move_axis(x, dim, 0), 0
    return bitcast_convert_type(x, new_dtype=new_dtype), dim


def _unsigned(itemsize: int) -> Any:
    return np.dtype(f"u{itemsize}")


def _bitcast_lower(b: Any, x: Any, *, new_dtype: Any) -> Any:
    if x.dtype == new_dtype:
        return x
    builder, at = b.builder, x.at
    old, new = x.dtype.itemsize, new_dtype.itemsize
    old_bits, new_bits = _unsigned(old), _unsigned(new)

    def same(index: Any) -> Scalar:
        return builder.op("bitcast", at(index), attr=new_dtype)

    def part(index: Any) -> Scalar:
        place = index[-1]
        bits = builder.op("bitcast", at(index[:-1]), attr=old_bits)
        if type(place) is int:
            shift = builder.const(8 * new * place, old_bits)
        else:
            shift = builder.convert(builder.op("mul", place, 8 * new), old_bits)
        bits = builder.convert(builder.op("shr_logical", bits, shift), new_bits)
        return builder.op("bitcast", bits, attr=new_dtype)

    def whole(index: Any) -> Scalar:
        total = builder.const(0, new_bits)
        for k in range(new // old):
            bits = builder.op("bitcast", at((*index, k)), attr=old_bits)
            shifted = builder.op("shl", builder.convert(bits, new_bits), 8 * old * k)
            total = builder.op("or", total, shifted)
        return builder.op("bitcast", total, attr=new_dtype)

    if old == new:
        return b.lazy(x.shape, new_dtype, same, x.cost + 1.0)
    if old > new:
        return b.lazy((*x.shape, old // new), new_dtype, part, x.cost + 3.0)
    return b.lazy(x.shape[:-1], new_dtype, whole, (x.cost + 3.0) * (new // old))


def _bitcast_lanes(dims: Any, x: Aval, *, new_dtype: Any) -> int | None:
    narrow_to_wide = kind_of(x.dtype) in "iuf" and x.dtype.itemsize < new_dtype.itemsize
    if narrow_to_wide and dims[0] == len(x.shape) - 1:
        raise Inseparable("it makes one element of several lanes")
    return dims[0]


def _bitcast_jvp(ctx: Any, primals: Any, tangents: Any, *, new_dtype: Any) -> Any:
    out = bitcast_convert_type(primals[0], new_dtype=new_dtype)
    return out, Zero(aval_of(out).tangent())


bitcast_convert_type = Primitive(
    "bitcast_convert_type",
    shape=_bitcast_shape,
    evaluate=_bitcast_evaluate,
    jvp=_bitcast_jvp,
    transpose=unsupported("bits are not a linear function of the number they stand for"),
    batch=_bitcast_batch,
    lower=_bitcast_lower,
    lanes=_bitcast_lanes,
    tags=frozenset({"elementwise", CHEAP}),
)

# --- reduce_precision ---------------------------------------------------------------------------

_FORMATS: dict[Any, tuple[int, int]] = {
    dtypes.float16: (5, 10),
    dtypes.bfloat16: (8, 7),
    dtypes.float32: (8, 23),
    dtypes.float64: (11, 52),
}
"""Bits of exponent and mantissa."""


def _check_precision(x: Aval, *, exponent_bits: int, mantissa_bits: int) -> None:
    if exponent_bits < 1:
        raise ValueError(f"reduce_precision needs a positive exponent_bits, got {exponent_bits}")
    if mantissa_bits < 0:
        raise ValueError(f"reduce_precision needs mantissa_bits >= 0, got {mantissa_bits}")


def _exponent_range(dtype: Any, exponent_bits: int) -> tuple[int, int] | None:
    """The largest and the smallest biased exponent of numbers kept; `None` if all are."""
    own, _ = _FORMATS[dtype]
    if exponent_bits >= own:
        return None
    bias, kept = (1 << (own - 1)) - 1, (1 << (exponent_bits - 1)) - 1
    return bias + kept, bias - kept


def _reduce_precision_evaluate(x: Any, *, exponent_bits: int, mantissa_bits: int) -> Any:
    _, own = _FORMATS[x.dtype]
    unsigned = _unsigned(x.dtype.itemsize)
    x = np.asarray(x)
    bits: Any = x.view(unsigned)
    dropped = own - mantissa_bits
    one = unsigned.type(1)
    if dropped > 0:
        # Round to nearest, ties to even; a carry into the exponent is what is wanted.
        odd = (bits >> unsigned.type(dropped)) & one
        bits = bits + odd + unsigned.type((1 << (dropped - 1)) - 1)
        bits = bits & ~unsigned.type((1 << dropped) - 1)
    limits = _exponent_range(x.dtype, exponent_bits)
    if limits is not None:
        sign = unsigned.type(1 << (8 * x.dtype.itemsize - 1))
        exponent = (bits & ~sign) >> unsigned.type(own)
        infinity = np.array(np.inf, x.dtype).view(unsigned)
        bits = where(exponent > limits[0], (bits & sign) | infinity, bits)
        bits = where(exponent <= limits[1], bits & sign, bits)
    return where(np.isnan(x), x, bits.astype(unsigned).view(x.dtype))


def _reduce_precision_scalar(
    builder: Any, x: Scalar, *, exponent_bits: int, mantissa_bits: int
) -> Scalar:
    _, own = _FORMATS[x.dtype]
    unsigned = _unsigned(x.dtype.itemsize)
    bits = builder.op("bitcast", x, attr=unsigned)
    dropped = own - mantissa_bits
    if dropped > 0:
        odd = builder.op("and", builder.op("shr_logical", bits, dropped), 1)
        bits = builder.op("add", builder.op("add", bits, odd), (1 << (dropped - 1)) - 1)
        bits = builder.op("and", bits, -1 << dropped)
    limits = _exponent_range(x.dtype, exponent_bits)
    if limits is not None:
        sign_bit = 1 << (8 * x.dtype.itemsize - 1)
        sign = builder.op("and", bits, sign_bit)
        exponent = builder.op("shr_logical", builder.op("and", bits, sign_bit - 1), own)
        infinity = builder.op("or", sign, int(np.array(np.inf, x.dtype).view(unsigned)))
        bits = builder.select(builder.op("gt", exponent, limits[0]), infinity, bits)
        bits = builder.select(builder.op("le", exponent, limits[1]), sign, bits)
    reduced = builder.op("bitcast", bits, attr=x.dtype)
    return builder.select(builder.op("is_nan", x), x, reduced)


def _reduce_precision_jvp(t: Any, x: Any, **params: Any) -> Any:
    return reduce_precision(t, **params)


def _reduce_precision_transpose(ctx: Any, ct: Any, x: Linear, **params: Any) -> list[Any]:
    return [reduce_precision(ct, **params)]


reduce_precision = elementwise(
    "reduce_precision",
    evaluate=_reduce_precision_evaluate,
    jvp=_reduce_precision_jvp,
    transpose=_reduce_precision_transpose,
    scalar=_reduce_precision_scalar,
    kinds="f",
    check=_check_precision,
    cost=8.0,
)

# --- complex numbers ----------------------------------------------------------------------------


def _real_evaluate(x: Any) -> Any:
    return np.array(x.real)


def _real_transpose(ctx: Any, ct: Any, x: Linear) -> list[Any]:
    return [complex_(ct, like(ct, 0))]


real = elementwise(
    "real",
    evaluate=_real_evaluate,
    jvp=lambda t, x: real(t),
    transpose=_real_transpose,
    scalar="real",
    kinds="c",
    result=dtypes.real_of,
    cost=0.0,
)


def _imag_evaluate(x: Any) -> Any:
    return np.array(x.imag)


def _imag_transpose(ctx: Any, ct: Any, x: Linear) -> list[Any]:
    # Cotangents pair without conjugation: imag(z) is the real part of -i z.
    return [complex_(like(ct, 0), REGISTRY["neg"](ct))]


imag = elementwise(
    "imag",
    evaluate=_imag_evaluate,
    jvp=lambda t, x: imag(t),
    transpose=_imag_transpose,
    scalar="imag",
    kinds="c",
    result=dtypes.real_of,
    cost=0.0,
)


def _complex_check(x: Aval, y: Aval) -> None:
    if x.dtype.itemsize == 2:
        raise TypeError(f"complex takes float32 or float64 parts, got {x}")


def _complex_evaluate(x: Any, y: Any) -> Any:
    out = np.empty(np.broadcast_shapes(x.shape, y.shape), dtypes.complex_of(x.dtype))
    out.real, out.imag = x, y
    return out


def _complex_jvp(ctx: Any, primals: Any, tangents: Any) -> Any:
    out = complex_(*primals)
    x, y = [like(p, 0) if type(t) is Zero else t for p, t in zip(primals, tangents, strict=True)]
    return out, broadcast_to(complex_(x, y), aval_of(out).shape)


def _complex_transpose(ctx: Any, ct: Any, x: Any, y: Any) -> list[Any]:
    return [
        unbroadcast(real(ct), x.aval) if is_linear(x) else None,
        unbroadcast(REGISTRY["neg"](imag(ct)), y.aval) if is_linear(y) else None,
    ]


complex_ = elementwise(
    "complex",
    evaluate=_complex_evaluate,
    jvp=None,
    jvp_rule=_complex_jvp,
    arity=2,
    transpose=_complex_transpose,
    scalar=lambda builder, x, y: builder.complex(x, y),
    kinds="f",
    result=dtypes.complex_of,
    check=_complex_check,
    cost=0.0,
)


def _conj_check(x: Aval, *, input_dtype: Any) -> None:
    if kind_of(x.dtype) == "f" and x.dtype.itemsize == 2:
        raise TypeError(f"conj takes float32, float64 or complex operands, got {x}")
    if x.dtype != input_dtype:
        raise TypeError(f"conj of {x} with input_dtype={dtypes.short_name(input_dtype)}")


def _conj_evaluate(x: Any, *, input_dtype: Any) -> Any:
    return np.conj(x)


def _conj_jvp(t: Any, x: Any, *, input_dtype: Any) -> Any:
    return conj(t, input_dtype=input_dtype)


def _conj_transpose(ctx: Any, ct: Any, x: Linear, *, input_dtype: Any) -> list[Any]:
    if dtypes.is_complex(input_dtype):
        return [conj(ct, input_dtype=ct.dtype)]
    return [real(ct)]


def _conj_scalar(builder: Any, x: Scalar, *, input_dtype: Any) -> Scalar:
    if isinstance(x, ComplexValue):
        return builder.op("conj", x)
    return builder.complex(x, 0.0)


conj = elementwise(
    "conj",
    evaluate=_conj_evaluate,
    jvp=_conj_jvp,
    transpose=_conj_transpose,
    scalar=_conj_scalar,
    kinds="fc",
    result=dtypes.complex_of,
    check=_conj_check,
)

# --- copy ---------------------------------------------------------------------------------------


def _copy_transpose(ctx: Any, ct: Any, x: Linear) -> list[Any]:
    return [ct]


def _copy_jvp(ctx: Any, primals: Any, tangents: Any) -> Any:
    return linear_jvp(copy, ctx, primals, tangents)


def _copy_batch(ctx: Any, args: Any, dims: Any) -> Any:
    return copy(args[0]), dims[0]


def _copy_shape(x: Aval) -> Aval:
    return x


def _copy_lower(b: Any, x: Any) -> Any:
    return x


copy = Primitive(
    "copy",
    shape=_copy_shape,
    evaluate=np.array,
    jvp=_copy_jvp,
    transpose=_copy_transpose,
    batch=_copy_batch,
    lower=_copy_lower,
    lanes=lanes_elementwise,
    tags=frozenset({"elementwise", CHEAP}),
)
