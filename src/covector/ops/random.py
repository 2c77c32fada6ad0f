"""Random bits: the Threefry-2x32 hash, keys made of its words, and bits drawn from keys.

Counters are 64-bit positions in row-major order, so that each element's bits depend on its own
position only (JAX calls this partitionable). Names, parameters and bits are those of JAX, except
that `impl` is the tag of the generator.

Threefry is Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.primitive import Primitive, unsupported
from covector.core.trace import aval_of
from covector.loopir.tensor import Lowering
from covector.ops import common
from covector.ops import indices as ix
from covector.ops.common import Inseparable, move_axis
from covector.ops.factory import align_batched
from covector.ops.windows import as_value, static_size

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
_BLOCK = 1 << 15
"""How many hashes NumPy computes at a time: as many as stay in the cache."""
_COST = 110.0
_FEW_KEYS = 16
"""Up to so many keys split off one key are computed by their readers."""
_NO_DERIVATIVE = "keys and random bits have no derivative"

Array = np.ndarray[Any, Any]


def threefry(
    add: Any, xor: Any, rotate: Any, k0: Any, k1: Any, x0: Any, x1: Any
) -> tuple[Any, Any]:
    """The hash of a counter under a key, in any arithmetic of 32-bit words.

    Args:
        add: sum modulo 2**32; an operand may be a Python int.
        xor: exclusive or, likewise.
        rotate: `(x, distance)`, to the left.
        k0: first word of the key.
        k1: second word of the key.
        x0: first word of the counter.
        x1: second word of the counter.

    Returns:
        Both words of the hash.
    """
    keys = (k0, k1, xor(xor(k0, k1), PARITY))
    x0, x1 = add(x0, k0), add(x1, k1)
    for injection in range(1, 6):
        for distance in ROTATIONS[(injection - 1) % 2]:
            x0 = add(x0, x1)
            x1 = xor(rotate(x1, distance), x0)
        x0 = add(x0, keys[injection % 3])
        x1 = add(add(x1, keys[(injection + 1) % 3]), injection)
    return x0, x1


# --- in NumPy ------------------------------------------------------------------------------------


def _hash_arrays(k0: Array, k1: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    """The hash of uint32 arrays that broadcast together."""
    shape = np.broadcast_shapes(k0.shape, k1.shape, x0.shape, x1.shape)
    size = int(np.prod(shape, dtype=np.int64))
    if size <= _BLOCK:
        return _hash_block(k0, k1, np.broadcast_to(x0, shape), np.broadcast_to(x1, shape))
    operands = [np.broadcast_to(x, shape).reshape(-1) if x.ndim else x for x in (k0, k1, x0, x1)]
    y0, y1 = np.empty(size, np.uint32), np.empty(size, np.uint32)
    for start in range(0, size, _BLOCK):
        part = slice(start, start + _BLOCK)
        pieces = [x[part] if x.ndim else x for x in operands]
        y0[part], y1[part] = _hash_block(*pieces)
    return y0.reshape(shape), y1.reshape(shape)


def _hash_block(k0: Array, k1: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    keys = (k0, k1, k0 ^ k1 ^ np.uint32(PARITY))
    shape = np.broadcast_shapes(k0.shape, k1.shape, x0.shape, x1.shape)
    y0: Array = np.empty(shape, np.uint32)
    y1: Array = np.empty(shape, np.uint32)
    np.add(x0, k0, out=y0)
    np.add(x1, k1, out=y1)
    high = np.empty_like(y1)
    for injection in range(1, 6):
        for distance in ROTATIONS[(injection - 1) % 2]:
            np.add(y0, y1, out=y0)
            np.left_shift(y1, np.uint32(distance), out=high)
            np.right_shift(y1, np.uint32(32 - distance), out=y1)
            np.bitwise_or(y1, high, out=y1)
            np.bitwise_xor(y1, y0, out=y1)
        np.add(y0, keys[injection % 3], out=y0)
        np.add(y1, keys[(injection + 1) % 3], out=y1)
        np.add(y1, np.uint32(injection), out=y1)
    return y0, y1


def _hash_positions(keys: Array, shape: Sequence[int]) -> tuple[Array, Array]:
    """For each key, the hashes of all positions in a shape."""
    size = int(np.prod(shape, dtype=np.int64))
    out = (*keys.shape[:-1], *shape)
    hashed: tuple[Array, Array]
    k0, k1 = (keys[..., word].reshape(-1, 1) for word in (0, 1))
    if size <= _BLOCK:
        hashed = _hash_arrays(k0, k1, *_positions(0, size))
    else:
        hashed = np.empty((len(k0), size), np.uint32), np.empty((len(k0), size), np.uint32)
        for key, start in np.ndindex(len(k0), -(-size // _BLOCK)):
            part = slice(start * _BLOCK, min((start + 1) * _BLOCK, size))
            words = _hash_block(k0[key], k1[key], *_positions(part.start, part.stop))
            hashed[0][key, part], hashed[1][key, part] = words
    return hashed[0].reshape(out), hashed[1].reshape(out)


def _positions(start: int, stop: int) -> tuple[Array, Array]:
    """Both words of consecutive positions."""
    low = np.arange(start, stop, dtype=np.uint64)
    return (low >> np.uint64(32)).astype(np.uint32), low.astype(np.uint32)


# --- in loop IR ----------------------------------------------------------------------------------


def hash_words(builder: Any, k0: Any, k1: Any, x0: Any, x1: Any) -> tuple[Any, Any]:
    """The hash of uint32 scalars."""

    def rotate(x: Any, distance: int) -> Any:
        high = builder.op("shl", x, distance)
        return builder.op("or", high, builder.op("shr_logical", x, 32 - distance))

    return threefry(partial(builder.op, "add"), partial(builder.op, "xor"), rotate, k0, k1, x0, x1)


def hash_position(
    builder: Any, keys: Any, which: Sequence[Any], index: Sequence[Any], shape: Sequence[Any]
) -> tuple[Any, Any]:
    """The hash of a position in a shape under one of the keys of a tensor."""
    position = ix.linear(builder, index, shape)
    value = as_value(builder, position)
    low = builder.convert(value, dtypes.uint32)
    size = static_size(shape)
    if size is not None and size <= 1 << 32:
        high = builder.const(0, dtypes.uint32)
    else:
        high = builder.convert(builder.op("shr_logical", value, 32), dtypes.uint32)
    return hash_words(builder, keys.at((*which, 0)), keys.at((*which, 1)), high, low)


def _word(builder: Any, words: tuple[Any, Any], which: Any) -> Any:
    """One of the two words of a key."""
    if type(which) is int:
        return words[which]
    return builder.select(ix.compare(builder, "eq", which, 0), *words)


# --- what the primitives share -------------------------------------------------------------------


def _batch_along(primitive: Callable[[], Primitive]) -> Any:
    """Batching of primitives whose operand's axes stand first in the result."""

    def batch(ctx: Any, args: Any, dims: Any, **params: Any) -> Any:
        return primitive()(args[0], **params), dims[0]

    return batch


def _lanes_along(dims: Any, x: Aval, **params: Any) -> int | None:
    return dims[0]


def _check_keys(name: str, keys: Aval) -> None:
    if not dtypes.is_key(keys.dtype):
        raise TypeError(
            f"{name} takes PRNG keys, got {keys}; make keys with random.key, or from their words "
            "with random.wrap_key_data"
        )


# --- threefry2x32 --------------------------------------------------------------------------------


def _threefry_shape(k0: Aval, k1: Aval, x0: Aval, x1: Aval) -> list[Aval]:
    avals = (k0, k1, x0, x1)
    if any(a.dtype != dtypes.uint32 for a in avals):
        raise TypeError(f"threefry2x32 takes uint32 operands, got {', '.join(map(str, avals))}")
    aval = Aval(_broadcast_shape(avals), dtypes.uint32)
    return [aval, aval]


def _broadcast_shape(avals: Sequence[Aval]) -> tuple[Any, ...]:
    """The common shape of operands of rank 0 or of equal rank, axes of one element repeated."""
    shapes = [a.shape for a in avals if a.shape]
    if not shapes:
        return ()
    if any(len(s) != len(shapes[0]) for s in shapes):
        raise TypeError(f"operands must have equal ranks, got {', '.join(map(str, avals))}")
    result: list[Any] = []
    for extents in zip(*shapes, strict=True):
        wide = [n for n in extents if n != 1]
        if any(n != wide[0] for n in wide):
            raise TypeError(f"operands must have equal shapes, got {', '.join(map(str, avals))}")
        result.append(wide[0] if wide else 1)
    return tuple(result)


def _threefry_evaluate(k0: Any, k1: Any, x0: Any, x1: Any) -> list[Any]:
    return list(_hash_arrays(k0, k1, x0, x1))


def _threefry_batch(ctx: Any, args: Any, dims: Any) -> Any:
    from covector.ops.shape import broadcast_in_dim

    shape = _broadcast_shape(
        [
            Aval([n for i, n in enumerate(aval_of(x).shape) if i != d], dtypes.uint32)
            for x, d in zip(args, dims, strict=True)
        ]
    )
    rank = len(shape) + 1
    aligned: list[Any] = []
    for x, d in zip(args, dims, strict=True):
        own = aval_of(x).shape
        if d is not None:
            x = move_axis(x, d, 0)
            if len(own) == 1 and rank > 1:
                x = broadcast_in_dim(
                    x, shape=(own[0], *[1] * (rank - 1)), broadcast_dimensions=(0,)
                )
        elif own:
            x = broadcast_in_dim(x, shape=(1, *own), broadcast_dimensions=tuple(range(1, rank)))
        aligned.append(x)
    return threefry2x32(*aligned), [0, 0]


def _threefry_lanes(dims: Any, *avals: Aval) -> list[int | None]:
    lane = common.same_lane(dims, *avals)
    return [lane, lane]


def _threefry_lower(b: Lowering, *tensors: Any) -> list[Any]:
    builder = b.builder
    shape = _broadcast_shape([Aval(t.shape, dtypes.uint32) for t in tensors])
    cost = _COST + sum(t.cost for t in tensors)

    def words(index: tuple[Any, ...]) -> tuple[Any, Any]:
        return hash_words(builder, *[t.at(_own_index(t.shape, index)) for t in tensors])

    return [
        b.lazy(shape, dtypes.uint32, lambda index: words(index)[0], cost),
        b.lazy(shape, dtypes.uint32, lambda index: words(index)[1], cost),
    ]


def _own_index(shape: Sequence[Any], index: Sequence[Any]) -> tuple[Any, ...]:
    if not shape:
        return ()
    return tuple([0 if type(n) is int and n == 1 else i for n, i in zip(shape, index, strict=True)])


threefry2x32 = Primitive(
    "threefry2x32",
    shape=_threefry_shape,
    evaluate=_threefry_evaluate,
    jvp=unsupported(_NO_DERIVATIVE),
    transpose=unsupported(_NO_DERIVATIVE),
    batch=_threefry_batch,
    lanes=_threefry_lanes,
    lower=_threefry_lower,
    multiple_results=True,
)

# --- random_seed ---------------------------------------------------------------------------------


def _seed_shape(seeds: Aval, *, impl: str) -> Aval:
    if not dtypes.is_integer(seeds.dtype):
        raise TypeError(f"seeds of PRNG keys are integers, got {seeds}")
    return Aval(seeds.shape, dtypes.KeyDType(impl))


def _seed_evaluate(seeds: Any, *, impl: str) -> Any:
    low = seeds.astype(np.uint32)
    high = np.zeros_like(low)
    if seeds.dtype.itemsize == 8:
        high = (seeds.astype(np.uint64) >> np.uint64(32)).astype(np.uint32)
    return np.stack([high, low], axis=-1)


def _seed_lower(b: Lowering, seeds: Any, *, impl: str) -> Any:
    builder = b.builder
    wide = seeds.dtype.itemsize == 8

    def word(index: tuple[Any, ...]) -> Any:
        seed = seeds.at(index[:-1])
        low = builder.convert(seed, dtypes.uint32)
        high = builder.const(0, dtypes.uint32)
        if wide:
            high = builder.convert(builder.op("shr_logical", seed, 32), dtypes.uint32)
        return _word(builder, (high, low), index[-1])

    return b.lazy((*seeds.shape, 2), dtypes.uint32, word, seeds.cost + 2)


random_seed = Primitive(
    "random_seed",
    shape=_seed_shape,
    evaluate=_seed_evaluate,
    jvp=unsupported(_NO_DERIVATIVE),
    transpose=unsupported(_NO_DERIVATIVE),
    batch=_batch_along(lambda: random_seed),
    lanes=_lanes_along,
    lower=_seed_lower,
)

# --- random_split --------------------------------------------------------------------------------


def _split_shape(keys: Aval, *, shape: Sequence[Any]) -> Aval:
    _check_keys("random_split", keys)
    return Aval((*keys.shape, *shape), keys.dtype)


def _split_evaluate(keys: Any, *, shape: Sequence[int]) -> Any:
    return np.stack(_hash_positions(keys, shape), axis=-1)


def _split_lower(b: Lowering, keys: Any, *, shape: Sequence[Any]) -> Any:
    builder = b.builder
    extents = b.extents(Aval(shape, dtypes.uint32))
    which = keys.shape[:-1]
    rank = len(which)
    whole = (*which, *extents, 2)

    def words(index: tuple[Any, ...]) -> tuple[Any, Any]:
        return hash_position(builder, keys, index[:rank], index[rank:], extents)

    count = static_size(extents)
    if count is not None and count <= _FEW_KEYS:
        return b.lazy(
            whole,
            dtypes.uint32,
            lambda index: _word(builder, words(index[:-1]), index[-1]),
            _COST + 2 * keys.cost,
        )
    out = b.new(whole, dtypes.uint32)

    def store(index: tuple[Any, ...]) -> None:
        for word, value in enumerate(words(index)):
            builder.store(out.buffer, (*index, word), value)

    b.for_each(whole[:-1], store, independent=True)
    return out


random_split = Primitive(
    "random_split",
    shape=_split_shape,
    evaluate=_split_evaluate,
    jvp=unsupported(_NO_DERIVATIVE),
    transpose=unsupported(_NO_DERIVATIVE),
    batch=_batch_along(lambda: random_split),
    lanes=_lanes_along,
    lower=_split_lower,
)

# --- random_fold_in ------------------------------------------------------------------------------


def _fold_shape(keys: Aval, data: Aval) -> Aval:
    _check_keys("random_fold_in", keys)
    if data.dtype != dtypes.uint32:
        raise TypeError(f"random_fold_in folds in uint32 numbers, got {data}")
    return Aval(_broadcast_shape((keys, data)), keys.dtype)


def _fold_evaluate(keys: Any, data: Any) -> Any:
    hashed = _hash_arrays(keys[..., 0], keys[..., 1], np.zeros_like(data), data)
    return np.stack(hashed, axis=-1)


def _fold_batch(ctx: Any, args: Any, dims: Any) -> Any:
    aligned, dim = align_batched(args, dims)
    return random_fold_in(*aligned), dim


def _fold_lower(b: Lowering, keys: Any, data: Any) -> Any:
    builder = b.builder
    shape = _broadcast_shape(
        (Aval(keys.shape[:-1], dtypes.uint32), Aval(data.shape, dtypes.uint32))
    )

    def word(index: tuple[Any, ...]) -> Any:
        which = _own_index(keys.shape[:-1], index[:-1])
        zero = builder.const(0, dtypes.uint32)
        low = data.at(_own_index(data.shape, index[:-1]))
        words = hash_words(builder, keys.at((*which, 0)), keys.at((*which, 1)), zero, low)
        return _word(builder, words, index[-1])

    return b.lazy((*shape, 2), dtypes.uint32, word, _COST + 2 * keys.cost + data.cost)


random_fold_in = Primitive(
    "random_fold_in",
    shape=_fold_shape,
    evaluate=_fold_evaluate,
    jvp=unsupported(_NO_DERIVATIVE),
    transpose=unsupported(_NO_DERIVATIVE),
    batch=_fold_batch,
    lanes=common.same_lane,
    lower=_fold_lower,
)

# --- random_bits ---------------------------------------------------------------------------------

_UNSIGNED = {8: dtypes.uint8, 16: dtypes.uint16, 32: dtypes.uint32, 64: dtypes.uint64}


def _bits_shape(keys: Aval, *, bit_width: int, shape: Sequence[Any]) -> Aval:
    _check_keys("random_bits", keys)
    if bit_width not in _UNSIGNED:
        raise TypeError(f"random_bits draws 8, 16, 32 or 64 bits, got bit_width={bit_width}")
    return Aval((*keys.shape, *shape), _UNSIGNED[bit_width])


def _bits_evaluate(keys: Any, *, bit_width: int, shape: Sequence[int]) -> Any:
    y0, y1 = _hash_positions(keys, shape)
    if bit_width == 64:
        return (y0.astype(np.uint64) << np.uint64(32)) | y1
    np.bitwise_xor(y0, y1, out=y0)
    return y0.astype(_UNSIGNED[bit_width], copy=False)


def _bits_lower(b: Lowering, keys: Any, *, bit_width: int, shape: Sequence[Any]) -> Any:
    builder, dtype = b.builder, _UNSIGNED[bit_width]
    extents = b.extents(Aval(shape, dtypes.uint32))
    rank = len(keys.shape) - 1

    def bits(index: tuple[Any, ...]) -> Any:
        y0, y1 = hash_position(builder, keys, index[:rank], index[rank:], extents)
        if bit_width != 64:
            return builder.convert(builder.op("xor", y0, y1), dtype)
        high = builder.op("shl", builder.convert(y0, dtype), 32)
        return builder.op("or", high, builder.convert(y1, dtype))

    return b.lazy((*keys.shape[:-1], *extents), dtype, bits, _COST + 2 * keys.cost)


def _bits_creates(dim: int, keys: Aval, *, bit_width: int, shape: Sequence[Any]) -> bool:
    # The number of an element is one word; with more elements it would be two.
    size = static_size(shape)
    return dim >= keys.ndim and size is not None and size <= 1 << 32


def _bits_narrow(chunk: Any, dims: Any, out_dim: int, keys: Any, **params: Any) -> Any:
    from covector.ops.random_chunks import bits_of_chunk

    if dims[0] is not None:
        return random_bits(keys, **params)
    return bits_of_chunk(chunk, out_dim, keys, **params)


random_bits = Primitive(
    "random_bits",
    shape=_bits_shape,
    evaluate=_bits_evaluate,
    jvp=unsupported(_NO_DERIVATIVE),
    transpose=unsupported(_NO_DERIVATIVE),
    batch=_batch_along(lambda: random_bits),
    lanes=_lanes_along,
    narrow=_bits_narrow,
    creates=_bits_creates,
    lower=_bits_lower,
)


def bits_at(key: Any, positions: Any, *, bit_width: int) -> Any:
    """Some of the bits that `random_bits` draws for a shape.

    Args:
        key: one key.
        positions: uint64 row-major positions in the shape.
        bit_width: as in `random_bits`.

    Returns:
        Bits of the shape of `positions`. With all positions of a shape in order, what `random_bits`
        gives; a part of them needs no other ones.
    """
    from covector.ops.bitwise import or_, shift_left, shift_right_logical, xor
    from covector.ops.convert import convert_element_type
    from covector.ops.shape import slice_in_dim, squeeze

    words = random_unwrap(key)
    k0, k1 = (squeeze(slice_in_dim(words, i, i + 1, 0), dimensions=(0,)) for i in (0, 1))
    distance = common.like(positions, 32)
    high = convert_element_type(shift_right_logical(positions, distance), new_dtype=dtypes.uint32)
    low = convert_element_type(positions, new_dtype=dtypes.uint32)
    y0, y1 = threefry2x32(k0, k1, high, low)
    dtype = _UNSIGNED[bit_width]
    if bit_width != 64:
        bits = xor(y0, y1)
        return bits if bit_width == 32 else convert_element_type(bits, new_dtype=dtype)
    y0, y1 = (convert_element_type(y, new_dtype=dtype) for y in (y0, y1))
    return or_(shift_left(y0, common.like(y0, 32)), y1)


# --- words of keys -------------------------------------------------------------------------------


def _wrap_shape(words: Aval, *, impl: str) -> Aval:
    dtype = dtypes.KeyDType(impl)
    if words.dtype != dtypes.uint32 or words.ndim == 0 or words.shape[-1] != dtype.words:
        raise TypeError(
            f"keys of {dtype.impl} are made from uint32 words with a last axis of "
            f"{dtype.words}, got {words}"
        )
    return Aval(words.shape[:-1], dtype)


def _identity(x: Any, **params: Any) -> Any:
    return x


def _lower_identity(b: Lowering, x: Any, **params: Any) -> Any:
    return x


def _wrap_batch(ctx: Any, args: Any, dims: Any, *, impl: str) -> Any:
    return random_wrap(move_axis(args[0], dims[0], 0), impl=impl), 0


def _wrap_lanes(dims: Any, words: Aval, *, impl: str) -> int | None:
    if dims[0] == words.ndim - 1:
        raise Inseparable("the words of a key would be in different lanes")
    return dims[0]


random_wrap = Primitive(
    "random_wrap",
    shape=_wrap_shape,
    evaluate=_identity,
    jvp=unsupported(_NO_DERIVATIVE),
    transpose=unsupported(_NO_DERIVATIVE),
    batch=_wrap_batch,
    lanes=_wrap_lanes,
    lower=_lower_identity,
)


def _unwrap_shape(keys: Aval) -> Aval:
    _check_keys("random_unwrap", keys)
    return Aval((*keys.shape, keys.dtype.words), dtypes.uint32)


random_unwrap = Primitive(
    "random_unwrap",
    shape=_unwrap_shape,
    evaluate=_identity,
    jvp=unsupported(_NO_DERIVATIVE),
    transpose=unsupported(_NO_DERIVATIVE),
    batch=_batch_along(lambda: random_unwrap),
    lanes=_lanes_along,
    lower=_lower_identity,
)


def _clone_shape(keys: Aval) -> Aval:
    _check_keys("random_clone", keys)
    return keys


random_clone = Primitive(
    "random_clone",
    shape=_clone_shape,
    evaluate=_identity,
    jvp=unsupported(_NO_DERIVATIVE),
    transpose=unsupported(_NO_DERIVATIVE),
    batch=_batch_along(lambda: random_clone),
    lanes=_lanes_along,
    lower=_lower_identity,
)
