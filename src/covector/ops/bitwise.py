"""Operations on the bits of integers, and logic on bools.

Names and meanings are those of `jax.lax`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from covector.core.primitive import Primitive
from covector.ops.common import where
from covector.ops.factory import elementwise

Array = np.ndarray[Any, Any]


def _binary(
    name: str, evaluate: Any, scalar: str, kinds: str = "iu", cost: float = 1.0
) -> Primitive:
    return elementwise(
        name, evaluate=evaluate, jvp=None, arity=2, scalar=scalar, kinds=kinds, cost=cost
    )


def _unary(name: str, evaluate: Any, scalar: str, kinds: str = "iu") -> Primitive:
    return elementwise(name, evaluate=evaluate, jvp=None, scalar=scalar, kinds=kinds)


and_ = _binary("and", np.bitwise_and, "and", "biu")
or_ = _binary("or", np.bitwise_or, "or", "biu")
xor = _binary("xor", np.bitwise_xor, "xor", "biu")
not_ = _unary("not", np.invert, "not", "biu")

# --- shifts: amounts outside of the width shift everything out ----------------------------------


def _as_unsigned(x: Array) -> Array:
    return np.asarray(x).view(np.dtype(f"u{x.dtype.itemsize}"))


def _as_signed(x: Array) -> Array:
    return np.asarray(x).view(np.dtype(f"i{x.dtype.itemsize}"))


def _shift_right_logical(x: Array, amount: Array) -> Array:
    shifted = np.right_shift(_as_unsigned(x), _as_unsigned(amount))
    return np.asarray(shifted).view(x.dtype)


def _shift_right_arithmetic(x: Array, amount: Array) -> Array:
    width = 8 * x.dtype.itemsize
    amount = np.minimum(_as_unsigned(amount), width - 1)
    return np.asarray(np.right_shift(_as_signed(x), _as_signed(amount))).view(x.dtype)


shift_left = _binary("shift_left", np.left_shift, "shl")
shift_right_logical = _binary("shift_right_logical", _shift_right_logical, "shr_logical")
shift_right_arithmetic = _binary(
    "shift_right_arithmetic", _shift_right_arithmetic, "shr_arithmetic"
)

# --- counts -------------------------------------------------------------------------------------


def _population_count(x: Array) -> Array:
    return np.bitwise_count(_as_unsigned(x))


def _leading_zeros(x: Array) -> Array:
    bits = _as_unsigned(x)
    width = 8 * x.dtype.itemsize
    step = 1
    while step < width:  # fill with ones below the leading one
        bits = bits | (bits >> bits.dtype.type(step))
        step *= 2
    return width - np.bitwise_count(bits).astype(np.int64)


population_count = _unary("population_count", _population_count, "popcount")
clz = _unary("clz", _leading_zeros, "clz")

# --- products -----------------------------------------------------------------------------------


def _upper_product(x: Array, y: Array) -> Array:
    """The upper half of the product of twice the width."""
    if x.dtype.itemsize < 8:
        wide = np.dtype(f"{x.dtype.kind}8")
        product = x.astype(wide) * y.astype(wide)
        return (product >> wide.type(8 * x.dtype.itemsize)).astype(x.dtype)
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    a, b = _as_unsigned(x), _as_unsigned(y)
    a0, a1, b0, b1 = a & low, a >> half, b & low, b >> half
    carry = ((a0 * b0) >> half) + ((a1 * b0) & low) + ((a0 * b1) & low)
    upper = a1 * b1 + ((a1 * b0) >> half) + ((a0 * b1) >> half) + (carry >> half)
    if x.dtype.kind == "i":
        # A negative factor counts as 2^64 more without its sign.
        upper = upper - where(x < 0, b, 0) - where(y < 0, a, 0)
    return np.asarray(upper).view(x.dtype)


mulhi = _binary("mulhi", _upper_product, "mulhi", cost=3.0)
