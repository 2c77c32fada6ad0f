"""NumPy's indexing, for reading (`x[i]`) and for functional updates (`x.at[i].set(y)`).

An index is resolved into one entry for each axis of the array. Slices become static slices where
possible; integer and array indices become one gather or scatter. Integers outside of the array are
clamped when reading and dropped when writing, as in JAX; `mode=` says otherwise.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.array import Array
from covector.core.errors import NonConcreteBooleanIndexError, compose
from covector.core.source import here
from covector.core.trace import Tracer
from covector.numpy.creation import asarray
from covector.numpy.manipulation import reshape, transpose
from covector.numpy.promote import broadcast_shapes, broadcast_to, constant, convert, operand
from covector.ops import elementwise as el
from covector.ops import shape as sh
from covector.ops.index import dynamic_update_slice, gather
from covector.ops.pieces import concatenate
from covector.ops.scatter import (
    scatter,
    scatter_add,
    scatter_max,
    scatter_min,
    scatter_mul,
)
from covector.ops.slices import slice_
from covector.ops.windows import (
    GatherDimensionNumbers,
    GatherScatterMode,
    ScatterDimensionNumbers,
)

__all__ = [
    "argwhere",
    "choose",
    "compress",
    "diag",
    "diagonal",
    "flatnonzero",
    "nonzero",
    "ravel_multi_index",
    "select",
    "take",
    "take_along_axis",
    "tri",
    "tril",
    "triu",
    "unravel_index",
]


@dataclass
class Parsed:
    """An index resolved for one array.

    Attributes:
        slices: for each axis its slice as (start, stop, step), or an index array or scalar.
        new_axes: positions of `None` entries in the result.
        order: for each axis of the result before new ones, an operand axis, or "index" for an
            axis of the broadcast index arrays.
        index_shape: the shape that the index arrays broadcast to.
    """

    slices: list[Any]
    new_axes: list[int]
    order: list[Any]
    index_shape: tuple[Any, ...]

    @property
    def indexed(self) -> list[int]:
        """Axes with an index array."""
        return [k for k, s in enumerate(self.slices) if not isinstance(s, tuple)]


def parse_index(x: Any, index: Any) -> Parsed:
    """Resolves an index.

    Args:
        x: the array.
        index: as written between brackets.

    Raises:
        IndexError: for too many indices, or entries that cannot index.
    """
    entries = _expand(x, index)
    slices: list[Any] = []
    marks: list[Any] = []  # what each entry gives: "new", an axis, or "index"
    for entry in entries:
        axis = len(slices)
        if entry is None:
            marks.append("new")
        elif isinstance(entry, slice):
            slices.append(_slice(entry, x.shape[axis]))
            marks.append(axis)
        else:
            slices.append(_index_array(entry, x.shape[axis], axis, x))
            marks.append("index")
    arrays = [s for s in slices if not isinstance(s, tuple)]
    shape = broadcast_shapes("indexing", *[_shape(a) for a in arrays]) if arrays else ()
    return Parsed(slices, *_layout(marks, entries, len(shape)), shape)


def _expand(x: Any, index: Any) -> list[Any]:
    """The entries of an index, with an ellipsis and bool masks replaced, one for each axis."""
    parts: list[Any] = list(index) if isinstance(index, tuple) else [index]
    expanded: list[Any] = []
    for part in parts:
        if isinstance(part, list):
            raise TypeError(
                compose(
                    "indexing with a list is not supported, as it hides a conversion",
                    found=repr(part)[:80],
                    fix="use x[covector.numpy.array(...)], or a tuple for several axes",
                    line=here(),
                )
            )
        if _is_mask(part):
            expanded.extend(_mask_to_arrays(part))
        else:
            expanded.append(part)
    used = sum(1 for p in expanded if p is not None and p is not Ellipsis)
    if used > x.ndim:
        raise IndexError(f"too many indices: {used} for an array {x.aval} of {x.ndim} axes")
    dots = [k for k, p in enumerate(expanded) if p is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have one ellipsis ('...')")
    missing = [slice(None)] * (x.ndim - used)
    place = dots[0] if dots else len(expanded)
    return expanded[:place] + missing + expanded[place + len(dots) :]


def _is_mask(part: Any) -> bool:
    if isinstance(part, bool | np.bool_):
        return True
    return getattr(part, "dtype", None) == np.bool_


def _mask_to_arrays(mask: Any) -> list[Any]:
    if isinstance(mask, Tracer) and mask.concrete() is None:
        raise NonConcreteBooleanIndexError(
            compose(
                "a bool mask as an index needs values known while tracing, as they give the size "
                "of the result",
                found=f"a traced mask {mask.aval} of {mask._trace.name}",
                fix="use covector.numpy.where(mask, x, y), or nonzero(mask, size=...)",
                line=here(),
            )
        )
    data = np.asarray(mask)
    if data.ndim == 0:
        raise NotImplementedError(
            "a single bool as an index is not supported: use x[None] or x[:0][None]"
        )
    return list(np.nonzero(data))


def _slice(entry: slice, extent: Any) -> tuple[int, int, int]:
    for bound in (entry.start, entry.stop, entry.step):
        if isinstance(bound, Tracer) and bound.concrete() is None:
            raise IndexError(
                compose(
                    "slices need bounds known while tracing, as they give the size of the result",
                    found=f"a traced bound {bound.aval} of {bound._trace.name}",
                    fix="use lax.dynamic_slice, or an array of indices",
                    line=here(),
                )
            )
    bounds = slice(
        *[None if b is None else operator.index(b) for b in (entry.start, entry.stop, entry.step)]
    )
    if bounds == slice(None):
        return (0, extent, 1)
    return bounds.indices(extent)


def _index_array(entry: Any, extent: Any, axis: int, x: Any) -> Any:
    """An index as an int within reach of the axis, or an array of such."""
    if isinstance(entry, (int, np.integer)):
        number = int(entry)
        return number + extent if number < 0 else number
    if isinstance(entry, (float, str, complex)) or not hasattr(entry, "dtype"):
        raise TypeError(
            compose(
                "an index must consist of integers, slices, None, ... and integer or bool arrays",
                found=f"{type(entry).__name__} {entry!r}"[:100] + f" for axis {axis} of {x.aval}",
                line=here(),
            )
        )
    if isinstance(entry, np.ndarray | np.generic):
        if not np.issubdtype(entry.dtype, np.integer):
            raise TypeError(f"index arrays must be of integers or bools, got {entry.dtype}")
        return np.where(entry < 0, entry + extent, entry).astype(np.int64)
    if not dtypes.is_integer(entry.dtype):
        raise TypeError(
            compose(
                "index arrays must be of integers or bools",
                found=f"{entry.aval} for axis {axis} of {x.aval}",
                fix="convert with .astype(int)",
                line=here(),
            )
        )
    if dtypes.is_unsigned(entry.dtype):
        return entry
    dtype = entry.dtype
    moved = el.add(entry, constant(extent, dtype))
    return el.select_n(el.lt(entry, constant(0, dtype)), entry, moved)


def _shape(index: Any) -> tuple[Any, ...]:
    return () if isinstance(index, int) else tuple(index.shape)


def _layout(marks: list[Any], entries: list[Any], index_rank: int) -> tuple[list[int], list[Any]]:
    """Where new axes go in the result, and the order of the others."""
    places = [k for k, m in enumerate(marks) if m == "index"]
    adjacent = not places or places[-1] - places[0] + 1 == len(places)
    first = places[0] if adjacent and places else 0
    order: list[Any] = []
    new_axes: list[int] = []
    if places and not adjacent:
        order.extend(["index"] * index_rank)
    for k, mark in enumerate(marks):
        if adjacent and places and k == first:
            order.extend(["index"] * index_rank)
        if mark == "new":
            new_axes.append(len(order) + len(new_axes))
        elif mark != "index":
            order.append(mark)
    return new_axes, order


# --- reading ------------------------------------------------------------------------------------


def getitem(x: Any, index: Any, mode: Any = None, fill_value: Any = None) -> Any:
    """`x[index]`.

    Args:
        x: an array or tracer.
        index: ints, slices, `None`, `...`, integer and bool arrays.
        mode: what indices outside of the array read: "clip" (the default) the nearest element,
            "fill" the fill value, "promise_in_bounds" anything.
        fill_value: NaN, or the lowest number of an integer dtype, by default.
    """
    parsed = parse_index(x, index)
    result = _static_slices(x, parsed)
    if parsed.indexed:
        result = _gather(result, parsed, mode, fill_value)
    if parsed.new_axes:
        sizes = list(result.shape)
        for place in parsed.new_axes:
            sizes.insert(place, 1)
        result = sh.reshape(result, new_sizes=tuple(sizes), dimensions=None)
    return result


def _static_slices(x: Any, parsed: Parsed) -> Any:
    """Applies the slices, and integers known while tracing (which stay as axes of size 1)."""
    starts, limits, strides, reverse = [], [], [], []
    for axis, (entry, extent) in enumerate(zip(parsed.slices, x.shape, strict=True)):
        if not isinstance(entry, tuple):
            starts.append(0), limits.append(extent), strides.append(1)
            continue
        start, stop, step = entry
        if step < 0:
            count = len(range(start, stop, step))
            last = start + (count - 1) * step
            start, stop, step = (last, start + 1, -step) if count else (0, 0, 1)
            reverse.append(axis)
        starts.append(start), limits.append(max(start, stop)), strides.append(step)
    if starts != [0] * x.ndim or limits != list(x.shape) or strides != [1] * x.ndim:
        steps = None if strides == [1] * x.ndim else tuple(strides)
        x = slice_(x, start_indices=tuple(starts), limit_indices=tuple(limits), strides=steps)
    return sh.rev(x, dimensions=tuple(reverse)) if reverse else x


def _gather(x: Any, parsed: Parsed, mode: Any, fill_value: Any) -> Any:
    axes = parsed.indexed
    if all(isinstance(parsed.slices[a], int) for a in axes) and mode in (None, "clip"):
        return _pick(x, parsed, axes)
    indices = _stacked(parsed, axes, x.shape)
    rank = len(parsed.index_shape)
    windows = [a for a in range(x.ndim) if a not in axes]
    at = [k for k, o in enumerate(parsed.order) if o == "index"]
    offset = tuple(k for k in range(rank + len(windows)) if k not in at)
    numbers = GatherDimensionNumbers(
        offset_dims=offset,
        collapsed_slice_dims=tuple(axes),
        start_index_map=tuple(axes),
        operand_batching_dims=(),
        start_indices_batching_dims=(),
    )
    sizes = tuple(1 if a in axes else s for a, s in enumerate(x.shape))
    chosen = GatherScatterMode.from_any("clip" if mode is None else mode)
    return gather(
        x,
        indices,
        dimension_numbers=numbers,
        slice_sizes=sizes,
        mode=chosen,
        fill_value=fill_value,
        indices_are_sorted=False,
        unique_indices=False,
    )


def _pick(x: Any, parsed: Parsed, axes: Sequence[int]) -> Any:
    """Integers known while tracing: a static slice, the axes dropped."""
    starts, limits = [0] * x.ndim, list(x.shape)
    for a in axes:
        if x.shape[a] == 0:
            raise IndexError(f"index {parsed.slices[a]} into an axis of size 0 of {x.aval}")
        starts[a] = min(max(parsed.slices[a], 0), x.shape[a] - 1)
        limits[a] = starts[a] + 1
    part = slice_(x, start_indices=tuple(starts), limit_indices=tuple(limits), strides=None)
    return sh.squeeze(part, dimensions=tuple(axes))


def _stacked(parsed: Parsed, axes: Sequence[int], shape: Sequence[Any]) -> Any:
    """The index arrays side by side along a last axis."""
    arrays = [parsed.slices[a] for a in axes]
    traced = [a for a in arrays if isinstance(a, (Array, Tracer))]
    wide = any(a.dtype.itemsize == 8 for a in traced) or any(
        isinstance(s, int) and s > 2**31 - 1 for s in shape
    )
    dtype = dtypes.int64 if wide else dtypes.int32
    full = parsed.index_shape
    columns: list[Any] = []
    for a in arrays:
        if isinstance(a, int | np.ndarray):
            a = asarray(np.clip(a, -(2**31), 2**31 - 1) if not wide else np.asarray(a), dtype)
        column = broadcast_to(convert(a, dtype), full)
        columns.append(sh.reshape(column, new_sizes=(*full, 1), dimensions=None))
    return columns[0] if len(columns) == 1 else concatenate(*columns, dimension=len(full))


# --- writing ------------------------------------------------------------------------------------


class At:
    """What `x.at` gives: `x.at[index]` names the part of the array to update."""

    __slots__ = ("array",)

    def __init__(self, array: Any) -> None:
        self.array = array

    def __getitem__(self, index: Any) -> Update:
        return Update(self.array, index)

    def __repr__(self) -> str:
        return f"At({self.array!r})"


class Update:
    """`x.at[index]`: its methods return updated copies of `x`."""

    __slots__ = ("array", "index")

    def __init__(self, array: Any, index: Any) -> None:
        self.array = array
        self.index = index

    def get(
        self,
        *,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        mode: Any = None,
        fill_value: Any = None,
    ) -> Any:
        """`x[index]`, with a choice of what indices outside of the array read."""
        return getitem(self.array, self.index, mode, fill_value)

    def set(self, values: Any, **options: Any) -> Any:
        """A copy with `values` at the index; of several values for one place the last stays."""
        return _update(scatter, self.array, self.index, values, **options)

    def add(self, values: Any, **options: Any) -> Any:
        """A copy with `values` added; those for one place all count."""
        return _update(scatter_add, self.array, self.index, values, **options)

    def subtract(self, values: Any, **options: Any) -> Any:
        """A copy with `values` subtracted; those for one place all count."""
        return self.add(el.neg(operand(values, "at[].subtract")), **options)

    def multiply(self, values: Any, **options: Any) -> Any:
        """A copy multiplied by `values`; those for one place all count."""
        return _update(scatter_mul, self.array, self.index, values, **options)

    mul = multiply

    def divide(self, values: Any, **options: Any) -> Any:
        """A copy divided by `values`."""
        ones = _update(scatter_mul, full_like_ones(self.array), self.index, values, **options)
        return self.array / ones

    def power(self, values: Any, **options: Any) -> Any:
        """A copy with the elements raised to powers; each place may be named once."""
        return self.set(self.get() ** values, **options)

    def min(self, values: Any, **options: Any) -> Any:
        """A copy with the smaller of each element and `values`."""
        return _update(scatter_min, self.array, self.index, values, **options)

    def max(self, values: Any, **options: Any) -> Any:
        """A copy with the larger of each element and `values`."""
        return _update(scatter_max, self.array, self.index, values, **options)

    def apply(self, func: Any, **options: Any) -> Any:
        """A copy with `func` applied to the elements; each place may be named once."""
        return self.set(func(self.get()), **options)


def full_like_ones(x: Any) -> Any:
    """Ones like `x`."""
    return broadcast_to(constant(1, x.dtype), x.shape)


def _update(
    primitive: Any,
    x: Any,
    index: Any,
    values: Any,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: Any = None,
) -> Any:
    values = convert(operand(values, "x.at[...]"), x.dtype)
    parsed = parse_index(x, index)
    target = _result_shape(parsed, x)
    if primitive is scatter and mode is None and _is_block(parsed):
        return _set_block(x, parsed, broadcast_to(_without_new(values, parsed, target), target))
    values = broadcast_to(_without_new(values, parsed, target), target)
    spread = _slices_as_indices(parsed, x)
    axes = spread.indexed
    indices = _stacked(spread, axes, x.shape)
    # From the layout of the result to index axes first, windows behind.
    windows = [a for a in range(x.ndim) if a not in axes]
    order = _update_order(parsed, spread, windows)
    values = transpose(values, order) if values.ndim > 1 else values
    rank = len(spread.index_shape)
    numbers = ScatterDimensionNumbers(
        update_window_dims=tuple(range(rank, rank + len(windows))),
        inserted_window_dims=tuple(axes),
        scatter_dims_to_operand_dims=tuple(axes),
        operand_batching_dims=(),
        scatter_indices_batching_dims=(),
    )
    values = reshape(values, (*spread.index_shape, *[x.shape[a] for a in windows]))
    return primitive(
        x,
        indices,
        values,
        dimension_numbers=numbers,
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices,
        mode=GatherScatterMode.from_any("drop" if mode is None else mode),
    )


def _result_shape(parsed: Parsed, x: Any) -> tuple[Any, ...]:
    """The shape of `x[index]` before new axes."""
    shape: list[Any] = []
    extents = iter(parsed.index_shape)
    for item in parsed.order:
        shape.append(next(extents) if item == "index" else len(range(*parsed.slices[item])))
    return tuple(shape)


def _without_new(values: Any, parsed: Parsed, target: tuple[Any, ...]) -> Any:
    """Values broadcast to the result, with the axes that `None` entries made dropped."""
    if not parsed.new_axes:
        return values
    sizes = list(target)
    for place in parsed.new_axes:
        sizes.insert(place, 1)
    return reshape(broadcast_to(values, sizes), target)


def _is_block(parsed: Parsed) -> bool:
    """Whether the index names one block known while tracing: ints and slices of step 1."""
    return all(isinstance(s, int) or (isinstance(s, tuple) and s[2] == 1) for s in parsed.slices)


def _set_block(x: Any, parsed: Parsed, values: Any) -> Any:
    starts: list[int] = []
    sizes: list[int] = []
    for entry, extent in zip(parsed.slices, x.shape, strict=True):
        if isinstance(entry, int):
            if not 0 <= entry < extent:
                return x  # outside: dropped
            starts.append(entry), sizes.append(1)
        else:
            starts.append(entry[0]), sizes.append(max(0, entry[1] - entry[0]))
    if sizes == list(x.shape):
        return reshape(values, x.shape)
    if 0 in sizes:
        return x
    offsets = [constant(s, dtypes.int32) for s in starts]
    return dynamic_update_slice(x, reshape(values, sizes), *offsets)


def _slices_as_indices(parsed: Parsed, x: Any) -> Parsed:
    """The index with each slice that is not whole turned into an array on an axis of its own."""
    partial = [
        k
        for k, (s, extent) in enumerate(zip(parsed.slices, x.shape, strict=True))
        if isinstance(s, tuple) and s != (0, extent, 1)
    ]
    rank = len(parsed.index_shape)
    slices = list(parsed.slices)
    for k in parsed.indexed:
        entry = slices[k]
        if not isinstance(entry, int) and partial:
            shape = (*_shape(entry), *[1] * len(partial))
            slices[k] = (
                entry.reshape(shape) if isinstance(entry, np.ndarray) else reshape(entry, shape)
            )
    shape = list(parsed.index_shape)
    for position, k in enumerate(partial):
        numbers = np.arange(*slices[k])
        trailing = len(partial) - position - 1
        slices[k] = numbers.reshape((len(numbers),) + (1,) * trailing)
        shape.append(len(numbers))
    assert len(shape) == rank + len(partial)
    return Parsed(slices, parsed.new_axes, parsed.order, tuple(shape))


def _update_order(parsed: Parsed, spread: Parsed, windows: Sequence[int]) -> list[int]:
    """Which axis of the result comes where in the updates: index axes, sliced ones, windows."""
    index_axes = [k for k, item in enumerate(parsed.order) if item == "index"]
    sliced = [a for a in spread.indexed if isinstance(parsed.slices[a], tuple)]
    places = {item: k for k, item in enumerate(parsed.order) if item != "index"}
    return index_axes + [places[a] for a in sliced] + [places[a] for a in windows]


# --- functions ----------------------------------------------------------------------------------


def take(
    a: Any,
    indices: Any,
    axis: int | None = None,
    out: None = None,
    mode: Any = None,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    fill_value: Any = None,
) -> Any:
    """Elements along an axis.

    Args:
        a: an array.
        indices: integers.
        axis: along which; the flattened array by default.
        out: must be `None`.
        mode: for indices outside: "fill" (NaN; the default), "clip", "wrap".
        unique_indices: a promise about the indices that nothing depends on.
        indices_are_sorted: likewise.
        fill_value: for mode "fill".
    """
    if out is not None:
        raise NotImplementedError("take: out= is not supported, arrays are immutable")
    x = operand(a, "take")
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = axis % x.ndim
    where_ = asarray(indices)
    if mode == "wrap":
        from covector.numpy.elementwise import remainder

        where_ = remainder(where_, constant(x.shape[axis], where_.dtype))
        mode = "promise_in_bounds"
    index = (slice(None),) * axis + (where_,)
    return getitem(x, index, "fill" if mode is None else mode, fill_value)


def take_along_axis(
    arr: Any, indices: Any, axis: int | None = -1, mode: Any = None, fill_value: Any = None
) -> Any:
    """Elements along one axis, at places that differ along the others.

    Args:
        arr: an array.
        indices: integers, with as many axes; others than `axis` broadcast.
        axis: along which; the flattened array for `None`.
        mode: for indices outside: "fill" (the default) or "clip".
        fill_value: for mode "fill".
    """
    x, where_ = operand(arr, "take_along_axis"), operand(indices, "take_along_axis")
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    if x.ndim != where_.ndim:
        raise ValueError(f"take_along_axis: {x.aval} and indices {where_.aval} differ in rank")
    axis = axis % x.ndim
    index: list[Any] = []
    for k in range(x.ndim):
        if k == axis:
            index.append(where_)
        else:
            extent = (
                1 if x.shape[k] == 1 else where_.shape[k] if where_.shape[k] != 1 else x.shape[k]
            )
            sizes = [1] * x.ndim
            sizes[k] = extent
            index.append(np.arange(extent).reshape(sizes))
    return getitem(x, tuple(index), "fill" if mode is None else mode, fill_value)


def nonzero(a: Any, *, size: int | None = None, fill_value: Any = None) -> tuple[Any, ...]:
    """Indices of the elements that are not zero, an array for each axis.

    Args:
        a: an array.
        size: how many to return; needed when the values are traced.
        fill_value: what to put for those missing, 0 by default; a number or one for each axis.
    """
    x = operand(a, "nonzero")
    if size is None:
        value = x.concrete()
        if value is None:
            raise NonConcreteBooleanIndexError(
                compose(
                    "nonzero needs values known while tracing, as they give the size of the result",
                    found=f"a traced value {x.aval} of {x._trace.name}",
                    fix="give size=",
                    line=here(),
                )
            )
        return tuple(
            asarray(k.astype(np.int64), dtypes.default_int()) for k in np.nonzero(np.asarray(value))
        )
    from covector.numpy.reductions import cumsum

    mask = reshape(el.ne(x, constant(0, x.dtype)) if x.dtype != dtypes.bool_ else x, (-1,))
    index_dtype = dtypes.default_int()
    rank = cumsum(convert(mask, index_dtype)) - 1
    place = el.select_n(mask, broadcast_to(constant(size, index_dtype), rank.shape), rank)
    count = rank[-1] + 1 if rank.shape[0] else constant(0, index_dtype)
    positions = sh.iota(dtype=index_dtype, shape=rank.shape, dimension=0)
    flat = At(broadcast_to(constant(0, index_dtype), (size,)))[place].set(positions)
    coordinates = unravel_index(flat, x.shape)
    valid = el.lt(sh.iota(dtype=index_dtype, shape=(size,), dimension=0), count)
    fills = fill_value if isinstance(fill_value, tuple) else (fill_value or 0,) * x.ndim
    return tuple(
        el.select_n(valid, broadcast_to(convert(operand(f, "nonzero"), c.dtype), c.shape), c)
        for c, f in zip(coordinates, fills, strict=True)
    )


def flatnonzero(a: Any, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Indices of the elements of the flattened array that are not zero."""
    return nonzero(reshape(operand(a, "flatnonzero"), (-1,)), size=size, fill_value=fill_value)[0]


def argwhere(a: Any, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Indices of the elements that are not zero, a row for each."""
    from covector.numpy.manipulation import stack

    return stack(nonzero(a, size=size, fill_value=fill_value), axis=1)


def unravel_index(indices: Any, shape: Any) -> tuple[Any, ...]:
    """Positions in a flattened array as indices along each axis."""
    from covector.numpy.elementwise import floor_divide, remainder

    rest = operand(indices, "unravel_index")
    coordinates: list[Any] = []
    for extent in reversed(tuple(shape)):
        coordinates.append(remainder(rest, extent))
        rest = floor_divide(rest, extent)
    return tuple(coordinates[::-1])


def ravel_multi_index(
    multi_index: Sequence[Any], dims: Sequence[int], mode: str = "raise", order: str = "C"
) -> Any:
    """Indices along each axis as positions in the flattened array.

    Args:
        multi_index: an integer array for each axis.
        dims: the shape.
        mode: "clip" or "wrap" for indices outside ("raise" needs values known while tracing).
        order: "C" or "F".
    """
    from covector.numpy.elementwise import remainder
    from covector.numpy.rounding import clip

    arrays = [operand(i, "ravel_multi_index") for i in multi_index]
    if mode == "raise":
        for values, extent in zip(arrays, dims, strict=True):
            value = values.concrete()
            if value is None:
                raise NonConcreteBooleanIndexError(
                    "ravel_multi_index: mode='raise' needs values known while tracing; "
                    "use mode='clip' or 'wrap'"
                )
            if np.any((np.asarray(value) < 0) | (np.asarray(value) >= extent)):
                raise ValueError("ravel_multi_index: an index is outside of its axis")
    elif mode == "clip":
        arrays = [clip(i, 0, n - 1) for i, n in zip(arrays, dims, strict=True)]
    else:
        arrays = [remainder(i, n) for i, n in zip(arrays, dims, strict=True)]
    pairs = list(zip(arrays, dims, strict=True))
    if order == "F":
        pairs.reverse()
    position: Any = 0
    for values, extent in pairs:
        position = position * extent + values
    return position


def _band(name: str, m: Any, k: int, lower: bool) -> Any:
    x = operand(m, name)
    if x.ndim < 2:
        raise ValueError(f"{name} needs an array with at least two axes, got {x.aval}")
    rows = sh.iota(dtype=dtypes.int32, shape=x.shape, dimension=x.ndim - 2)
    columns = sh.iota(dtype=dtypes.int32, shape=x.shape, dimension=x.ndim - 1)
    shifted = el.add(rows, constant(k, dtypes.int32))
    keep = el.ge(shifted, columns) if lower else el.le(shifted, columns)
    return el.select_n(keep, broadcast_to(constant(0, x.dtype), x.shape), x)


def tril(m: Any, k: int = 0) -> Any:
    """The lower triangle, zeros above diagonal `k`."""
    return _band("tril", m, k, True)


def triu(m: Any, k: int = 0) -> Any:
    """The upper triangle, zeros below diagonal `k`."""
    return _band("triu", m, k, False)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Any:
    """Ones on and below diagonal `k`, zeros above."""
    target = dtypes.default_float() if dtype is None else dtypes.requested(dtype)
    return asarray(np.tri(N, M, k), target)


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The elements where two axes have indices that differ by `offset`, along a last axis."""
    from covector.numpy.manipulation import moveaxis

    x = moveaxis(operand(a, "diagonal"), (axis1, axis2), (-2, -1))
    rows, columns = x.shape[-2:]
    count = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    first = np.arange(count)
    return getitem(x, (..., first - min(offset, 0), first + max(offset, 0)))


def diag(v: Any, k: int = 0) -> Any:
    """The diagonal of a matrix, or the matrix with a vector on its diagonal."""
    x = operand(v, "diag")
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(f"diag needs a vector or a matrix, got {x.aval}")
    size = x.shape[0] + abs(k)
    where_ = np.arange(x.shape[0])
    target = broadcast_to(constant(0, x.dtype), (size, size))
    return At(target)[where_ - min(k, 0), where_ + max(k, 0)].set(x)


def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    """For each element, the choice of the first condition that holds."""
    from covector.numpy.elementwise import where

    if len(condlist) != len(choicelist) or not condlist:
        raise ValueError(
            f"select needs as many conditions as choices, at least one, got {len(condlist)} "
            f"and {len(choicelist)}"
        )
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = where(condition, choice, result)
    return result


def choose(a: Any, choices: Any, out: None = None, mode: str = "raise") -> Any:
    """For each element of `a`, the element of that choice.

    Args:
        a: integers.
        choices: arrays that broadcast together.
        out: must be `None`.
        mode: "clip" or "wrap" for numbers outside; "raise" needs values known while tracing.
    """
    from covector.numpy.elementwise import remainder
    from covector.numpy.manipulation import broadcast_arrays, stack
    from covector.numpy.rounding import clip

    if out is not None:
        raise NotImplementedError("choose: out= is not supported, arrays are immutable")
    which, *options = broadcast_arrays(a, *choices)
    count = len(options)
    if mode == "raise":
        value = which.concrete()
        if value is None or np.any((np.asarray(value) < 0) | (np.asarray(value) >= count)):
            raise ValueError("choose: an index is out of range, or traced; use mode='clip'")
    which = clip(which, 0, count - 1) if mode != "wrap" else remainder(which, count)
    return take_along_axis(stack(options), which[None], axis=0)[0]


def compress(
    condition: Any, a: Any, axis: int | None = None, *, size: int | None = None, fill_value: Any = 0
) -> Any:
    """The elements along an axis where a condition holds.

    Args:
        condition: a bool vector; traced ones need `size`.
        a: an array.
        axis: along which; the flattened array by default.
        size: how many elements to return.
        fill_value: for those missing.
    """
    x = operand(a, "compress")
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    (where_,) = nonzero(asarray(condition), size=size, fill_value=x.shape[axis])
    return take(x, where_, axis=axis, mode="fill", fill_value=fill_value)
