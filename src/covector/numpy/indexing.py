"""NumPy's indexing, for reading (`x[i]`) and for functional updates (`x.at[i].set(y)`).

An index is resolved into one entry for each axis of the array. Slices become static slices where
possible; integer and array indices become one gather or scatter. Integers outside of the array are
clamped when reading and dropped when writing, as in JAX; `mode=` says otherwise.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

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
            slices.append(_slice(cast("slice[Any, Any, Any]", entry), x.shape[axis]))
            marks.append(axis)
        else:
            slices.append(_index_array(entry, x.shape[axis], axis, x))
            marks.append("index")
    arrays = [s for s in slices if not isinstance(s, tuple)]
    shape = broadcast_shapes("indexing", *[_shape(a) for a in arrays]) if arrays else ()
    return Parsed(slices, *_layout(marks, entries, len(shape)), shape)


def _expand(x: Any, index: Any) -> list[Any]:
    """The entries of an index, with an ellipsis and bool masks replaced, one for each axis."""
    parts = list(cast("tuple[Any, ...]", index)) if isinstance(index, tuple) else [index]
    expanded: list[Any] = []
    for part in parts:
        if isinstance(part, list):
            raise TypeError(
                compose(
                    "indexing with a list is not supported, as it hides a conversion",
                    found=repr(cast("list[Any]", part))[:80],
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


def _slice(entry: slice[Any, Any, Any], extent: Any) -> tuple[int, int, int]:
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
        number = int(cast("int", entry))
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
        numbers = cast("np.ndarray[Any, Any]", entry)
        if not np.issubdtype(numbers.dtype, np.integer):
            raise TypeError(f"index arrays must be of integers or bools, got {numbers.dtype}")
        return np.where(numbers < 0, numbers + extent, numbers).astype(np.int64)
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
    starts: list[int] = []
    limits: list[int] = []
    strides: list[int] = []
    reverse: list[int] = []
    for axis, (entry, extent) in enumerate(zip(parsed.slices, x.shape, strict=True)):
        whole = not isinstance(entry, tuple)
        start, stop, step = (0, extent, 1) if whole else cast("tuple[int, int, int]", entry)
        if step < 0:
            count = len(range(start, stop, step))
            last = start + (count - 1) * step
            start, stop, step = (last, start + 1, -step) if count else (0, 0, 1)
            reverse.append(axis)
        starts.append(start)
        limits.append(extent if whole else max(start, stop))
        strides.append(step)
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
            numbers = np.asarray(cast("np.ndarray[Any, Any]", a))
            a = asarray(numbers if wide else np.clip(numbers, -(2**31), 2**31 - 1), dtype)
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
    return all([isinstance(s, int) or (_is_slice(s) and s[2] == 1) for s in parsed.slices])


def _is_slice(entry: Any) -> TypeGuard[tuple[int, int, int]]:
    return isinstance(entry, tuple)


def _set_block(x: Any, parsed: Parsed, values: Any) -> Any:
    starts: list[int] = []
    sizes: list[int] = []
    for entry, extent in zip(parsed.slices, x.shape, strict=True):
        if isinstance(entry, int):
            if not 0 <= entry < extent:
                return x  # outside: dropped
            starts.append(entry)
            sizes.append(1)
        else:
            starts.append(entry[0])
            sizes.append(max(0, entry[1] - entry[0]))
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
        start, stop, step = slices[k]
        numbers = cast("np.ndarray[Any, Any]", np.arange(start, stop, step))
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
