"""What WebAssembly has no instructions for, as functions of scalars in loop IR.

Sums and products that are rounded once, remainders of floating-point numbers, upper halves of long
products, and conversions of half-precision numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from covector.extend.loopir import Builder, Function, LoopIRError

I32, I64 = np.dtype(np.int32), np.dtype(np.int64)
U16, U32, U64 = np.dtype(np.uint16), np.dtype(np.uint32), np.dtype(np.uint64)
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)

_DTYPES = {"f32": F32, "f64": F64, "i64": I64, "u64": U64}


@cache
def helper(operation: str, dtype: str) -> Function:
    """The definition of an operation.

    Args:
        operation: a name of `HELPERS`.
        dtype: short name of its operands', or of its result's if they are half-precision.

    Raises:
        LoopIRError: for another one.
    """
    if operation not in HELPERS:
        raise LoopIRError(f"the wasm backend has no function {operation}_{dtype}")
    b = Builder(f"{operation}_{dtype}")
    return b.finish(HELPERS[operation](b, _DTYPES[dtype]))


# --- rounding once --------------------------------------------------------------------------------


def two_sum(b: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """A sum and what rounding took from it (Knuth)."""
    total = b.op("add", x, y)
    virtual = b.op("sub", total, x)
    rest = b.op("sub", x, b.op("sub", total, virtual))
    return total, b.op("add", rest, b.op("sub", y, virtual))


def error_of(b: Any, x: Any, y: Any, product: Any) -> Any:
    """x * y - product exactly, where that is the rounded product (Dekker)."""
    (x1, x2), (y1, y2) = _halves(b, x), _halves(b, y)
    error = b.op("sub", b.op("mul", x1, y1), product)
    for left, right in ((x1, y2), (x2, y1), (x2, y2)):
        error = b.op("add", error, b.op("mul", left, right))
    return error


_BITS = {F32: (I32, 12), F64: (I64, 27)}
"""The integers with the bits of a number, and how many bits its half leaves out."""


def _halves(b: Any, x: Any) -> tuple[Any, Any]:
    """A number as a sum of two with half as many bits."""
    integers, left_out = _BITS[x.dtype]
    bits = b.op("add", b.op("bitcast", x, attr=integers), 1 << (left_out - 1))
    high = b.op("bitcast", b.op("and", bits, -1 << left_out), attr=x.dtype)
    return high, b.op("sub", x, high)


def odd_sum(b: Any, x: Any, y: Any) -> Any:
    """A sum with an odd last bit if it is inexact: so that it may be rounded again."""
    total, error = two_sum(b, x, y)
    integers, _ = _BITS[x.dtype]
    bits = b.op("bitcast", total, attr=integers)
    inwards = b.op("xor", b.op("gt", error, 0.0), b.op("gt", total, 0.0))
    moved = b.op("add", bits, b.select(inwards, b.const(-1, integers), b.const(1, integers)))
    inexact = b.op("or", b.op("lt", error, 0.0), b.op("gt", error, 0.0))
    is_even = b.op("eq", b.op("and", bits, 1), 0)
    bits = b.select(b.op("and", inexact, is_even), moved, bits)
    return b.op("bitcast", bits, attr=x.dtype)


def _fma(b: Any, dtype: Any) -> Any:
    """x * y + z, rounded once."""
    if dtype is F64:
        return _fma_in_parts(b, dtype)
    x, y, z = [b.convert(b.parameter(dtype), F64) for _ in range(3)]
    return b.convert(odd_sum(b, b.op("mul", x, y), z), F32)


def _fma_in_parts(b: Any, dtype: Any) -> Any:
    """The same if nothing is out of range (Boldo and Melquiond), without wider numbers."""
    x, y, z = [b.parameter(dtype) for _ in range(3)]
    product = b.op("mul", x, y)
    middle, lower = two_sum(b, z, error_of(b, x, y, product))
    total, rest = two_sum(b, product, middle)
    plain = b.op("add", product, z)
    finite = b.op("lt", b.op("abs", plain), np.inf)
    return b.select(finite, b.op("add", total, odd_sum(b, lower, rest)), plain)


def _mul_error(b: Any, dtype: Any) -> Any:
    x, y, product = [b.parameter(dtype) for _ in range(3)]
    return error_of(b, x, y, product)


# --- remainders -----------------------------------------------------------------------------------


def _fmod(b: Any, dtype: Any) -> Any:
    """The remainder of a division towards zero, exactly: a long division of the significands."""
    bits_type, mantissa = (I32, 23) if dtype is F32 else (I64, 52)
    x, y = b.parameter(dtype), b.parameter(dtype)
    sign = b.op("and", b.op("bitcast", x, attr=bits_type), -1 << (31 if dtype is F32 else 63))
    mx, ex = _parts(b, b.op("abs", x), bits_type, mantissa)
    my, ey = _parts(b, b.op("abs", y), bits_type, mantissa)
    infinity = b.const(np.inf, dtype)
    valid = b.op("and", b.op("lt", b.op("abs", x), infinity), b.op("gt", b.op("abs", y), 0.0))
    valid = b.op("and", valid, b.op("not", b.op("is_nan", y)))
    divides = b.op("and", valid, b.op("le", b.op("abs", y), b.op("abs", x)))
    at_once = 63 - mantissa - 1

    def divided() -> list[Any]:
        def step(left: Any, rest: Any) -> list[Any]:
            bits = b.op("min", left, at_once)
            rest = b.op("rem", b.op("shl", rest, bits), my)
            return [b.op("sub", left, bits), rest]

        start = [b.op("sub", ex, ey), b.op("rem", mx, my)]
        _, rest = b.while_(lambda left, rest: b.op("gt", left, 0), step, start)
        bits = b.convert(_packed(b, rest, ey, mantissa), bits_type)
        return [b.op("bitcast", b.op("or", bits, sign), attr=dtype)]

    def whole() -> list[Any]:
        return [b.select(valid, x, b.const(np.nan, dtype))]

    return b.if_(divides, divided, whole)[0]


def _parts(b: Any, x: Any, bits_type: Any, mantissa: int) -> tuple[Any, Any]:
    """m and e of a number m * 2^e, for e that begin with 1."""
    bits = b.convert(b.op("bitcast", x, attr=bits_type), I64)
    exponent, fraction = b.op("shr_logical", bits, mantissa), b.op("and", bits, (1 << mantissa) - 1)
    normal = b.op("gt", exponent, 0)
    whole = b.select(normal, b.op("or", fraction, 1 << mantissa), fraction)
    return whole, b.op("max", exponent, 1)


def _packed(b: Any, m: Any, e: Any, mantissa: int) -> Any:
    """The bits of m * 2^e."""
    shift = b.op("sub", b.op("clz", m), 63 - mantissa)
    exponent = b.op("sub", e, shift)
    fraction = b.op("and", b.op("shl", m, shift), (1 << mantissa) - 1)
    normal = b.op("or", b.op("shl", exponent, mantissa), fraction)
    small = b.op("shl", m, b.op("sub", e, 1))
    bits = b.select(b.op("gt", exponent, 0), normal, small)
    return b.select(b.op("eq", m, 0), b.const(0, I64), bits)


# --- long products --------------------------------------------------------------------------------


def _mulhi(b: Any, dtype: Any) -> Any:
    x, y = b.parameter(dtype), b.parameter(dtype)
    ux, uy = (b.op("bitcast", v, attr=U64) for v in (x, y))
    (x0, x1), (y0, y1) = (
        (b.op("and", v, 0xFFFFFFFF), b.op("shr_logical", v, 32)) for v in (ux, uy)
    )
    low = b.op("shr_logical", b.op("mul", x0, y0), 32)
    middle = b.op("add", b.op("mul", x1, y0), low)
    other = b.op("add", b.op("mul", x0, y1), b.op("and", middle, 0xFFFFFFFF))
    high = b.op("add", b.op("mul", x1, y1), b.op("shr_logical", middle, 32))
    high = b.op("add", high, b.op("shr_logical", other, 32))
    if dtype is U64:
        return high
    zero = b.const(0, U64)
    high = b.op("sub", high, b.select(b.op("lt", x, 0), uy, zero))
    high = b.op("sub", high, b.select(b.op("lt", y, 0), ux, zero))
    return b.op("bitcast", high, attr=I64)


# --- half-precision numbers -----------------------------------------------------------------------
# As in memory, their bits are the low ones of an i32; so the functions take and give uint16.


def _from_bf16(b: Any, dtype: Any) -> Any:
    bits = b.convert(b.parameter(U16), U32)
    return b.op("bitcast", b.op("shl", bits, 16), attr=F32)


def _from_f16(b: Any, dtype: Any) -> Any:
    """Exponent and mantissa at their places in a float; a product corrects the bias."""
    word = b.convert(b.parameter(U16), U32)
    bits = b.op("shl", b.op("and", word, 0x7FFF), 13)
    scaled = b.op("mul", b.op("bitcast", bits, attr=F32), 2.0**112)
    special = b.op("or", bits, 0x7F800000)  # infinities and NaN
    finite = b.op("bitcast", scaled, attr=U32)
    size = b.select(b.op("lt", bits, 0x0F800000), finite, special)
    sign = b.op("shl", b.op("and", word, 0x8000), 16)
    return b.op("bitcast", b.op("or", size, sign), attr=F32)


def _to_bf16(b: Any, dtype: Any) -> Any:
    x = _as_float(b, b.parameter(dtype))
    bits = b.op("bitcast", x, attr=U32)
    odd = b.op("and", b.op("shr_logical", bits, 16), 1)
    rounded = b.op("add", b.op("add", bits, 0x7FFF), odd)
    quiet = b.op("or", bits, 0x400000)
    bits = b.select(b.op("is_nan", x), quiet, rounded)
    return b.convert(b.op("shr_logical", bits, 16), U16)


def _to_f16(b: Any, dtype: Any) -> Any:
    x = _as_float(b, b.parameter(dtype))
    bits = b.op("bitcast", x, attr=U32)
    size = b.op("and", bits, 0x7FFFFFFF)
    odd = b.op("and", b.op("shr_logical", size, 13), 1)
    normal = b.op("add", b.op("add", size, 0xC8000FFF), odd)
    half = b.op("shr_logical", normal, 13)
    # The addition rounds a subnormal at the right bit.
    small = b.op("add", b.op("bitcast", size, attr=F32), 0.5)
    subnormal = b.op("sub", b.op("bitcast", small, attr=U32), 0x3F000000)
    half = b.select(b.op("lt", size, 0x38800000), subnormal, half)
    half = b.select(b.op("ge", size, 0x47800000), b.const(0x7C00, U32), half)
    payload = b.op("or", b.op("and", b.op("shr_logical", size, 13), 0x3FF), 0x7E00)
    half = b.select(b.op("gt", size, 0x7F800000), payload, half)
    sign = b.op("and", b.op("shr_logical", bits, 16), 0x8000)
    return b.convert(b.op("or", half, sign), U16)


def _as_float(b: Any, x: Any) -> Any:
    """A float such that rounding it once more is as good as rounding once."""
    if x.dtype is F32:
        return x
    narrow = b.convert(x, F32)
    wide = b.convert(narrow, F64)
    bits = b.op("bitcast", narrow, attr=U32)
    is_less = b.op("lt", b.op("abs", wide), b.op("abs", x))
    moved = b.select(is_less, b.op("add", bits, 1), b.op("sub", bits, 1))
    stays = b.op("or", b.op("is_nan", x), b.op("eq", wide, x))
    stays = b.op("or", stays, b.op("eq", b.op("and", bits, 1), 1))
    stays = b.op("or", stays, b.op("eq", b.op("abs", narrow), np.inf))
    return b.op("bitcast", b.select(stays, bits, moved), attr=F32)


HELPERS: dict[str, Callable[[Any, Any], Any]] = {
    "fma": _fma,
    "fma_in_parts": _fma_in_parts,
    "mul_error": _mul_error,
    "fmod": _fmod,
    "mulhi": _mulhi,
    "from_bf16": _from_bf16,
    "from_f16": _from_f16,
    "to_bf16": _to_bf16,
    "to_f16": _to_f16,
}
"""What builds each function."""
