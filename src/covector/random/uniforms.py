"""Random bits and the uniform distributions over floats and integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.errors import compose
from covector.core.source import here
from covector.numpy.promote import constant, convert, operand
from covector.ops import elementwise as el
from covector.ops.random import random_bits
from covector.random.arguments import (
    Shape,
    check_broadcast,
    float_dtype,
    int_dtype,
    shape_argument,
    single_key,
    spread,
    subkeys,
)

_UNSIGNED = {1: dtypes.uint8, 2: dtypes.uint16, 4: dtypes.uint32, 8: dtypes.uint64}


def bits(key: Any, shape: Shape = (), dtype: Any = None) -> Any:
    """Random bits as unsigned integers.

    Args:
        key: a PRNG key.
        shape: of the result.
        dtype: an unsigned dtype, uint32 (uint64 with x64) by default.

    Raises:
        ValueError: the dtype is not unsigned.

    >>> from covector import random
    >>> random.bits(random.key(0), (2,))
    Array([4070199207, 4202968722], dtype=uint32)
    """
    single = single_key("bits", key)
    target = dtypes.default_uint() if dtype is None else dtypes.requested(dtype, "bits")
    if not dtypes.is_unsigned(target):
        raise ValueError(f"bits draws unsigned integers: dtype must be one, got {target}")
    sizes = shape_argument("bits", shape)
    return random_bits(single, bit_width=8 * target.itemsize, shape=sizes)


# --- floats -------------------------------------------------------------------------------------


def uniform(
    key: Any, shape: Shape = (), dtype: Any = None, minval: Any = 0.0, maxval: Any = 1.0
) -> Any:
    """Floats drawn uniformly from `minval` (included) to `maxval` (excluded).

    Args:
        key: a PRNG key.
        shape: of the result.
        dtype: a floating dtype, float32 (float64 with x64) by default.
        minval: lower bounds, of a shape that broadcasts to the result's.
        maxval: upper bounds, likewise.

    Raises:
        ValueError: the dtype is not floating, or a bound does not broadcast to the shape.

    >>> from covector import random
    >>> x = random.uniform(random.key(0), (1000,), minval=2.0, maxval=3.0)
    >>> bool((x >= 2).all() and (x < 3).all())
    True
    """
    single = single_key("uniform", key)
    target = float_dtype("uniform", dtype)
    sizes = shape_argument("uniform", shape)
    if isinstance(minval, (int, float)) and isinstance(maxval, (int, float)):
        return between(single, sizes, target, minval, maxval)
    low, high = (convert(operand(v, "uniform"), target) for v in (minval, maxval))
    check_broadcast("uniform", sizes, low.shape, high.shape)
    return _scaled(unit(single, sizes, target), low, high, sizes)


def unit(key: Any, shape: tuple[Any, ...], dtype: Any) -> Any:
    """Floats drawn uniformly from [0, 1): random bits as the mantissa of a number in [1, 2)."""
    mantissa = dtypes.finfo(dtype).nmant
    width = 8 if mantissa < 8 else 8 * dtype.itemsize
    words = _UNSIGNED[dtype.itemsize]
    drawn = random_bits(key, bit_width=width, shape=shape)
    if drawn.dtype != words:
        drawn = convert(drawn, words)
    drawn = el.shift_right_logical(drawn, constant(width - mantissa, words))
    one = int(np.ones((), dtype).view(words))
    drawn = el.or_(drawn, constant(one, words))
    drawn = el.bitcast_convert_type(drawn, new_dtype=dtype)
    return el.sub(drawn, constant(1.0, dtype))


def between(key: Any, shape: tuple[Any, ...], dtype: Any, low: Any, high: Any) -> Any:
    """Floats drawn uniformly between two numbers; the arithmetic is that of the dtype."""
    drawn = unit(key, shape, dtype)
    if low == 0 and high == 1:
        return drawn
    low, high = dtype.type(low), dtype.type(high)
    with np.errstate(over="ignore"):
        span = high - low
    drawn = el.add(el.mul(drawn, constant(span, dtype)), constant(low, dtype))
    # Rounding may have gone below the bound.
    return el.max_(constant(low, dtype), drawn)


def _scaled(drawn: Any, low: Any, high: Any, shape: tuple[Any, ...]) -> Any:
    span = spread(el.sub(*_equal_ranks(high, low)), shape)
    low = spread(low, shape)
    return el.max_(low, el.add(el.mul(drawn, span), low))


def _equal_ranks(x: Any, y: Any) -> tuple[Any, Any]:
    from covector.numpy.promote import broadcast

    a, b = broadcast("uniform", (x, y))
    return a, b


# --- integers -----------------------------------------------------------------------------------


def randint(key: Any, shape: Shape, minval: Any, maxval: Any, dtype: Any = None) -> Any:
    """Integers drawn uniformly from `minval` (included) to `maxval` (excluded).

    Two words are drawn for each integer and reduced modulo the size of the range, which favours
    some integers slightly unless that size is a power of two.

    Args:
        key: a PRNG key.
        shape: of the result.
        minval: lower bounds, of a shape that broadcasts to the result's.
        maxval: upper bounds, likewise; where one is not above its lower bound, that is drawn.
        dtype: an integer dtype, int32 (int64 with x64) by default.

    Raises:
        TypeError: the dtype is not an integer one.
        ValueError: a bound does not broadcast to the shape.

    >>> from covector import random
    >>> x = random.randint(random.key(0), (1000,), 0, 6)
    >>> int(x.min()), int(x.max())
    (0, 5)
    """
    single = single_key("randint", key)
    target = int_dtype("randint", dtype)
    sizes = shape_argument("randint", shape)
    # Narrow integers are drawn as 32 bits, where the bias of the remainder is small.
    wide = dtypes.int32 if target.itemsize < 4 else target
    limits = dtypes.iinfo(target)
    bounds: tuple[int, int] = (int(limits.min), int(limits.max))
    if isinstance(minval, int) and isinstance(maxval, int):
        drawn = _between_known(single, sizes, wide, *_clipped(bounds, wide, minval, maxval))
    else:
        low, high = (_integers(v) for v in (minval, maxval))
        check_broadcast("randint", sizes, low.shape, high.shape)
        if wide != target:
            low = _clip(convert(low, wide), bounds[0], bounds[1])
            high = _clip(convert(high, wide), bounds[0], bounds[1] + 1)
        drawn = _between_arrays(single, sizes, wide, low, high)
    return convert(drawn, target)


def _clipped(bounds: tuple[int, int], wide: Any, low: int, high: int) -> tuple[int, int]:
    """Bounds within reach of the dtype."""
    first, last = bounds
    return min(max(int(low), first), last), min(max(int(high), first), last + 1)


def _between_known(key: Any, shape: tuple[Any, ...], dtype: Any, low: int, high: int) -> Any:
    words = _UNSIGNED[dtype.itemsize]
    width = 8 * dtype.itemsize
    span = (high - low if high > low else 1) % 2**width  # 0: all integers there are
    higher, lower = subkeys(key)
    offset = _remainder(random_bits(lower, bit_width=width, shape=shape), span, words)
    # What the higher word counts for: 2**width modulo the span, by products that do not overflow
    # for the spans of 32 bits.
    half = 2 ** (width // 2) % span if span else 0
    weight = half * half % 2**width % span if span else 0
    if weight:
        above = _remainder(random_bits(higher, bit_width=width, shape=shape), span, words)
        above = el.mul(above, constant(weight, words))
        offset = _remainder(el.add(above, offset), span, words)
    drawn = convert(offset, dtype)
    return el.add(drawn, constant(low, dtype)) if low else drawn


def _remainder(x: Any, span: int, words: Any) -> Any:
    return el.rem(x, constant(span, words)) if span else x


def _between_arrays(key: Any, shape: tuple[Any, ...], dtype: Any, low: Any, high: Any) -> Any:
    words = _UNSIGNED[dtype.itemsize]
    width = 8 * dtype.itemsize
    last = int(dtypes.iinfo(dtype).max)
    beyond = el.gt(high, constant(min(last, int(dtypes.iinfo(high.dtype).max)), high.dtype))
    low, high, beyond = (
        spread(x, shape) for x in (_clip_to(low, dtype), _clip_to(high, dtype), beyond)
    )
    some = el.lt(low, high)
    one = spread(constant(1, words), shape)
    span = el.select_n(some, one, convert(el.sub(high, low), words))
    # The remainder by 0, which the span of all integers comes to, is the dividend.
    span = el.select_n(el.and_(beyond, some), span, el.add(span, one))
    weight = el.rem(spread(constant(2 ** (width // 2), words), shape), span)
    weight = el.rem(el.mul(weight, weight), span)
    first, second = subkeys(key)
    above = el.rem(random_bits(first, bit_width=width, shape=shape), span)
    offset = el.rem(random_bits(second, bit_width=width, shape=shape), span)
    offset = el.rem(el.add(el.mul(above, weight), offset), span)
    return el.add(low, convert(offset, dtype))


def _integers(value: Any) -> Any:
    x = operand(value, "randint")
    if dtypes.is_integer(x.dtype):
        return x
    if dtypes.is_complex(x.dtype) or dtypes.is_key(x.dtype):
        raise TypeError(
            compose("randint needs real bounds", found=str(x.aval), fix="pass ints", line=here())
        )
    return convert(x, dtypes.default_int())


def _clip(x: Any, low: int, high: int) -> Any:
    return el.clamp(constant(low, x.dtype), x, constant(high, x.dtype))


def _clip_to(x: Any, dtype: Any) -> Any:
    """Integers in another dtype, those that it does not hold replaced by the nearest."""
    own, other = dtypes.iinfo(x.dtype), dtypes.iinfo(dtype)
    low, high = max(int(own.min), int(other.min)), min(int(own.max), int(other.max))
    return convert(_clip(x, low, high), dtype)
