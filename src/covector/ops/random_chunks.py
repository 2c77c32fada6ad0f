"""Random bits for some of the lanes of an array: what `random_bits` is to the compiler's lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.trace import aval_of
from covector.ops.arithmetic import add, mul
from covector.ops.axes import broadcast_in_dim, iota, squeeze
from covector.ops.bitwise import or_, shift_left, xor
from covector.ops.common import Chunk, like
from covector.ops.convert import convert_element_type
from covector.ops.random import random_unwrap, threefry2x32
from covector.ops.slices import slice_in_dim

_WORD = Aval((), dtypes.uint32)


def bits_of_chunk(
    chunk: Chunk, out_dim: int, keys: Any, *, bit_width: int, shape: Sequence[int]
) -> Any:
    """The part of `random_bits(keys, shape=shape)` that belongs to a chunk of lanes.

    Args:
        chunk: which lanes.
        out_dim: the axis of the result they are along.
        keys: the same for all lanes.
        bit_width: 8, 16, 32 or 64.
        shape: for all lanes; at most 2^32 elements.
    """
    own = aval_of(keys).shape
    out = chunk.narrowed((*own, *shape), out_dim)

    def everywhere(x: Any) -> Any:
        return broadcast_in_dim(x, shape=out, broadcast_dimensions=tuple(range(aval_of(x).ndim)))

    # The number of each element: its indices times their strides in the whole shape.
    position = zero = everywhere(like(_WORD, 0))
    stride = 1
    for axis in reversed(range(len(own), len(out))):
        index = iota(dtype=dtypes.uint32, shape=out, dimension=axis)
        if axis == out_dim:
            index = add(index, everywhere(_converted(chunk.offset, dtypes.uint32)))
        step = everywhere(like(_WORD, stride % (1 << 32)))
        position = add(position, mul(index, step))
        stride *= shape[axis - len(own)]
    words = random_unwrap(keys)
    k0, k1 = (everywhere(_word(words, which)) for which in (0, 1))
    y0, y1 = threefry2x32(k0, k1, zero, position)
    if bit_width != 64:
        return _converted(xor(y0, y1), dtypes.from_short_name(f"u{bit_width}"))
    high, low = (_converted(y, dtypes.uint64) for y in (y0, y1))
    return or_(shift_left(high, everywhere(like(Aval((), dtypes.uint64), 32))), low)


def _converted(x: Any, dtype: Any) -> Any:
    return convert_element_type(x, new_dtype=dtype, weak_type=False)


def _word(words: Any, which: int) -> Any:
    """One of the two words of each key."""
    last = aval_of(words).ndim - 1
    return squeeze(slice_in_dim(words, which, which + 1, last), dimensions=(last,))
