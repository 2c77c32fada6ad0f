"""Copies of arrays with elements put in, taken out or overwritten."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from covector.core import dtypes
from covector.core.trace import Tracer
from covector.numpy.creation import asarray
from covector.numpy.elementwise import remainder, where
from covector.numpy.index_functions import compress, take
from covector.numpy.joining import concatenate
from covector.numpy.manipulation import moveaxis, ravel, reshape
from covector.numpy.promote import broadcast_to, constant, convert, operand, whole_numbers
from covector.numpy.reductions import cumsum, one_axis
from covector.numpy.rounding import clip
from covector.numpy.sorting import known_values
from covector.numpy.updates import At
from covector.ops import elementwise as el
from covector.ops import shape as sh
from covector.ops.slices import slice_in_dim

__all__ = [
    "block",
    "delete",
    "extract",
    "fill_diagonal",
    "insert",
    "packbits",
    "place",
    "put",
    "put_along_axis",
    "resize",
    "unpackbits",
]


def _check_not_inplace(name: str, inplace: bool) -> None:
    if inplace:
        raise ValueError(
            f"{name} cannot change an array, which is immutable: pass inplace=False and use the "
            "copy that is returned"
        )


# --- overwriting --------------------------------------------------------------------------------


def fill_diagonal(a: Any, val: Any, wrap: bool = False, *, inplace: bool = True) -> Any:
    """A copy with the diagonal overwritten.

    Args:
        a: an array with at least two axes; with more than two they must be equal.
        val: a number, or an array whose elements are used in turn.
        wrap: must be `False`.
        inplace: must be `False`, and says so explicitly, as NumPy's function changes `a`.
    """
    _check_not_inplace("fill_diagonal", inplace)
    if wrap:
        raise NotImplementedError("fill_diagonal: wrap=True is not supported")
    x = operand(a, "fill_diagonal")
    if x.ndim < 2 or (x.ndim > 2 and len(set(x.shape)) != 1):
        raise ValueError(f"fill_diagonal needs two axes, or equal ones, got {x.aval}")
    count = min(x.shape)
    values = ravel(asarray(val))
    if values.shape[0] > 1:
        values = resize(values, (count,))
    along = whole_numbers(count)
    return At(x)[(along,) * x.ndim].set(convert(values, x.dtype))


def put(a: Any, ind: Any, v: Any, mode: str | None = None, *, inplace: bool = True) -> Any:
    """A copy with elements of the flattened array overwritten.

    Args:
        a: an array.
        ind: indices into the flattened array.
        v: values, used in turn.
        mode: for indices outside: "clip" (the default) or "wrap".
        inplace: must be `False`, and says so explicitly, as NumPy's function changes `a`.
    """
    _check_not_inplace("put", inplace)
    x, places, values = operand(a, "put"), ravel(asarray(ind)), ravel(asarray(v))
    if not x.size or not places.shape[0] or not values.shape[0]:
        return x
    size = x.size
    if mode in (None, "clip"):
        places = clip(where(places < 0, places + size, places), 0, size - 1)
        if mode is None:
            places = where_inside(ravel(asarray(ind)), size)
    elif mode == "wrap":
        places = remainder(places, size)
    else:
        raise ValueError(f"put: mode must be None, 'clip' or 'wrap', got {mode!r}")
    values = resize(values, places.shape)
    flat = At(ravel(x))[places].set(convert(values, x.dtype), mode="drop")
    return reshape(flat, x.shape)


def where_inside(places: Any, size: int) -> Any:
    """Indices from 0, those outside of the array made `size`: they are dropped."""
    places = where(places < 0, places + size, places)
    return where((places < 0) | (places >= size), size, places)


def place(arr: Any, mask: Any, vals: Any, *, inplace: bool = True) -> Any:
    """A copy with the elements where a mask holds overwritten.

    Args:
        arr: an array.
        mask: of the same size.
        vals: values, used in turn.
        inplace: must be `False`, and says so explicitly, as NumPy's function changes `arr`.
    """
    _check_not_inplace("place", inplace)
    x, chosen, values = operand(arr, "place"), operand(mask, "place"), ravel(asarray(vals))
    if x.size != chosen.size:
        raise ValueError(f"place needs a mask of {x.size} elements, got {chosen.aval}")
    if not values.shape[0]:
        if not x.size:
            return x
        raise ValueError("place needs at least one value")
    flat = ravel(chosen)
    flat = flat if dtypes.is_bool(flat.dtype) else el.ne(flat, constant(0, flat.dtype))
    rank = cumsum(convert(flat, dtypes.int32)) - 1
    taken = take(convert(values, x.dtype), remainder(rank, values.shape[0]), mode="clip")
    return reshape(el.select_n(flat, ravel(x), taken), x.shape)


def put_along_axis(
    arr: Any,
    indices: Any,
    values: Any,
    axis: int | None,
    inplace: bool = True,
    *,
    mode: str | None = None,
) -> Any:
    """A copy with elements along one axis overwritten, at places that differ along the others.

    Args:
        arr: an array.
        indices: integers, with as many axes; others than `axis` broadcast.
        values: broadcast against the indices.
        axis: along which; the flattened array for `None`.
        inplace: must be `False`, and says so explicitly, as NumPy's function changes `arr`.
        mode: for indices outside, see `x.at[...]`.
    """
    _check_not_inplace("put_along_axis", inplace)
    x, places = operand(arr, "put_along_axis"), operand(indices, "put_along_axis")
    shape = x.shape
    if axis is None:
        x, axis = ravel(x), 0
    if x.ndim != places.ndim:
        raise ValueError(f"put_along_axis: {x.aval} and indices {places.aval} differ in rank")
    along = one_axis("put_along_axis", axis, x.ndim)
    index: list[Any] = []
    for k in range(x.ndim):
        sizes = [1] * x.ndim
        sizes[k] = x.shape[k]
        numbers = whole_numbers(x.shape[k])
        index.append(places if k == along else numbers.reshape(sizes))
    return reshape(At(x)[tuple(index)].set(values, mode=mode), shape)


# --- taking out and putting in ------------------------------------------------------------------


def delete(
    arr: Any, obj: Any, axis: int | None = None, *, assume_unique_indices: bool = False
) -> Any:
    """A copy without some elements along an axis.

    Args:
        arr: an array.
        obj: which: an index, a slice, a vector of indices, or a bool mask (both known while
            tracing, unless `assume_unique_indices` is given for the indices).
        axis: along which; the flattened array by default.
        assume_unique_indices: a promise that no index comes twice.

    >>> import covector.numpy as cnp
    >>> cnp.delete(cnp.arange(5), 1)
    Array([0, 2, 3, 4], dtype=int32)
    """
    x = operand(arr, "delete")
    if axis is None:
        x, axis = ravel(x), 0
    along = one_axis("delete", axis, x.ndim)
    size: int = x.shape[along]
    all_places = whole_numbers(size)
    if isinstance(obj, slice):
        return _kept(x, np.delete(all_places, cast("Any", obj)), along)
    if isinstance(obj, (int, np.integer)):
        number = int(cast("int", obj))
        if not -size <= number < size:
            raise IndexError(f"delete: index {number} is out of range for an axis of size {size}")
        return _kept(x, np.delete(all_places, number), along)
    which = asarray(obj)
    if which.ndim == 0 and dtypes.is_integer(which.dtype):
        return _without_traced(x, reshape(which, (1,)), along)
    if dtypes.is_bool(which.dtype):
        mask = known_values("delete", which, "as they give the size of the result")
        if mask.shape != (size,):
            raise ValueError(f"delete needs a mask of {size} elements, got {which.aval}")
        return _kept(x, np.nonzero(~mask)[0], along)
    if isinstance(which, Tracer) and which.concrete() is None and assume_unique_indices:
        return _without_traced(x, ravel(which), along)
    values = known_values("delete", which, "unless assume_unique_indices=True").reshape(-1)
    inside = values[(values >= -size) & (values < size)].astype(np.int64)
    return _kept(x, np.delete(all_places, inside), along)


def _kept(x: Any, places: np.ndarray[Any, Any], axis: int) -> Any:
    return take(x, places, axis=axis, mode="clip")


def _without_traced(x: Any, which: Any, axis: int) -> Any:
    """Without elements at different places: each later one moves up for each before it."""
    from covector.numpy.sorting import sort

    size, count = x.shape[axis], which.shape[0]
    which = sort(where_inside(which, size))
    shifts = el.sub(which, sh.iota(dtype=which.dtype, shape=which.shape, dimension=0))
    target = sh.iota(dtype=which.dtype, shape=(size - count, 1), dimension=0)
    shape = (size - count, count)
    passed = el.ge(broadcast_to(target, shape), broadcast_to(shifts, shape))
    places = target[:, 0] + convert(passed, which.dtype).sum(1)
    return take(x, places, axis=axis, mode="clip")


def insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Any:
    """A copy with elements put in along an axis.

    Args:
        arr: an array.
        obj: before which: an index, a slice, or a vector of indices, of the original array.
        values: what to put in; broadcast.
        axis: along which; the flattened array by default.

    >>> import covector.numpy as cnp
    >>> cnp.insert(cnp.arange(3), 1, 9)
    Array([0, 9, 1, 2], dtype=int32)
    """
    x, new = operand(arr, "insert"), asarray(values)
    if axis is None:
        x, axis = ravel(x), 0
    along = one_axis("insert", axis, x.ndim)
    size = x.shape[along]
    places = _insertion_places(obj, size)
    new = convert(new, x.dtype)
    new = reshape(new, (1,) * (x.ndim - new.ndim) + tuple(new.shape))
    if places.ndim == 0:
        # For a single index, a further axis of values takes the place of the one put in.
        new = moveaxis(new, 0, along)
        count = new.shape[along]
        places = broadcast_to(reshape(places, (1,)), (count,))
    elif places.shape[0] == 1 and new.shape[along] > 1:
        places = broadcast_to(places, (new.shape[along],))
    count = places.shape[0]
    new = broadcast_to(new, tuple(count if k == along else n for k, n in enumerate(x.shape)))
    return _inserted(x, places, new, along)


def _insertion_places(obj: Any, size: int) -> Any:
    if isinstance(obj, slice):
        places = asarray(np.arange(*obj.indices(size)))
    else:
        places = asarray(obj)
        if dtypes.is_bool(places.dtype):
            known = known_values("insert", places, "as they give the size of the result")
            places = asarray(np.nonzero(known)[0])
        if places.size == 0:
            places = convert(places, dtypes.default_int())
    if not dtypes.is_integer(places.dtype):
        raise IndexError(f"insert: indices must be integers, got {places.aval}")
    if places.ndim > 1:
        raise ValueError(f"insert: indices must be a number or a vector, got {places.aval}")
    return clip(where(places < 0, places + size, places), 0, size)


def _inserted(x: Any, places: Any, new: Any, axis: int) -> Any:
    """Original elements and new ones, merged by where they go."""
    from covector.numpy.sorting import argsort

    size, count = x.shape[axis], places.shape[0]
    order = argsort(places)
    # New elements go before the original ones of equal place.
    originals = sh.iota(dtype=places.dtype, shape=(size,), dimension=0)
    keys = concatenate([take(places, order, mode="clip"), originals])
    merged = argsort(keys)
    both = concatenate([take(new, order, axis=axis, mode="clip"), x], axis)
    assert both.shape[axis] == size + count
    return take(both, merged, axis=axis, mode="clip")


def extract(condition: Any, arr: Any, *, size: int | None = None, fill_value: Any = 0) -> Any:
    """The elements of the flattened array where a condition holds.

    Args:
        condition: a mask; traced ones need `size`.
        arr: an array.
        size: how many elements to return.
        fill_value: for those missing.
    """
    return compress(ravel(asarray(condition)), arr, size=size, fill_value=fill_value)


def resize(a: Any, new_shape: Any) -> Any:
    """The elements in another shape, repeated or cut off to fit.

    Args:
        a: an array.
        new_shape: of the result.
    """
    x = operand(a, "resize")
    shape = (new_shape,) if isinstance(new_shape, int) else tuple(map(operator.index, new_shape))
    if any(n < 0 for n in shape):
        raise ValueError(f"resize: sizes must not be negative, got {shape}")
    size = math.prod(shape)
    flat = ravel(x)
    if not x.size or not size:
        return broadcast_to(constant(0, x.dtype), shape)
    repeats = -(-size // x.size)
    if repeats > 1:
        flat = ravel(broadcast_to(flat, (repeats, x.size)))
    return reshape(slice_in_dim(flat, 0, size, 0), shape)


def block(arrays: Any) -> Any:
    """An array made of blocks.

    Args:
        arrays: nested lists of arrays; the innermost are joined along the last axis, the others
            along the axes before it.
    """
    depth = _depth(arrays)
    leaves = _leaves(arrays)
    rank = max([depth, *[x.ndim for x in leaves]])
    return _joined(arrays, rank, rank - depth)


def _depth(arrays: Any) -> int:
    if not isinstance(arrays, list):
        if isinstance(arrays, tuple):
            raise TypeError(f"block takes nested lists of arrays, not tuples: {arrays!r:.80}")
        return 0
    if arrays == []:
        raise ValueError("block: a list is empty")
    entries = cast("list[Any]", arrays)
    depths = {_depth(a) for a in entries}
    if len(depths) > 1:
        raise ValueError(f"block: lists are nested to different depths {sorted(depths)}")
    return depths.pop() + 1


def _leaves(arrays: Any) -> list[Any]:
    if not isinstance(arrays, list):
        return [asarray(arrays)]
    entries = cast("list[Any]", arrays)
    return [leaf for a in entries for leaf in _leaves(a)]


def _joined(arrays: Any, rank: int, axis: int) -> Any:
    if not isinstance(arrays, list):
        x = asarray(arrays)
        return reshape(x, (1,) * (rank - x.ndim) + tuple(x.shape))
    entries = cast("list[Any]", arrays)
    return concatenate([_joined(a, rank, axis + 1) for a in entries], axis)


# --- bits ---------------------------------------------------------------------------------------


def packbits(a: Any, axis: int | None = None, bitorder: str = "big") -> Any:
    """Truth values as the bits of bytes.

    Args:
        a: an array of bools or integers.
        axis: along which eight make one; the flattened array by default.
        bitorder: "big" for the first as the highest bit, or "little".
    """
    x = operand(a, "packbits")
    if not (dtypes.is_integer(x.dtype) or dtypes.is_bool(x.dtype)):
        raise TypeError(f"packbits is for bools and integers, got {x.aval}")
    weights = _bit_weights("packbits", bitorder)
    x = where(x != constant(0, x.dtype), constant(1, dtypes.uint8), constant(0, dtypes.uint8))
    if axis is None:
        x, axis = ravel(x), 0
    x = moveaxis(x, axis, -1)
    missing = -x.shape[-1] % 8
    if missing:
        config = ((0, 0, 0),) * (x.ndim - 1) + ((0, missing, 0),)
        x = sh.pad(x, constant(0, dtypes.uint8), padding_config=config)
    bits = reshape(x, (*x.shape[:-1], x.shape[-1] // 8, 8))
    packed = convert((bits * weights).sum(-1), dtypes.uint8)
    return moveaxis(packed, -1, axis)


def unpackbits(
    a: Any, axis: int | None = None, count: int | None = None, bitorder: str = "big"
) -> Any:
    """The bits of bytes, as bytes that are 0 or 1.

    Args:
        a: an array of uint8.
        axis: along which each makes eight; the flattened array by default.
        count: how many to return; a negative number leaves out so many, zeros are put behind.
        bitorder: "big" for the highest bit first, or "little".
    """
    x = operand(a, "unpackbits")
    if x.dtype != dtypes.uint8:
        raise TypeError(f"unpackbits is for uint8, got {x.aval}")
    weights = _bit_weights("unpackbits", bitorder)
    if axis is None:
        x, axis = ravel(x), 0
    x = moveaxis(x, axis, -1)
    bits = convert((x[..., None] & weights) != constant(0, dtypes.uint8), dtypes.uint8)
    bits = reshape(bits, (*x.shape[:-1], 8 * x.shape[-1]))
    if count is not None:
        size = count if count >= 0 else max(bits.shape[-1] + count, 0)
        if size > bits.shape[-1]:
            config = ((0, 0, 0),) * (bits.ndim - 1) + ((0, size - bits.shape[-1], 0),)
            bits = sh.pad(bits, constant(0, dtypes.uint8), padding_config=config)
        bits = bits[..., :size]
    return moveaxis(bits, -1, axis)


def _bit_weights(name: str, bitorder: str) -> Any:
    if bitorder not in ("big", "little"):
        raise ValueError(f"{name}: bitorder must be 'big' or 'little', got {bitorder!r}")
    weights: Sequence[int] = [1 << k for k in range(8)]
    return asarray(weights if bitorder == "little" else weights[::-1], dtypes.uint8)
