"""NumPy's indexing: what an index means, and reading by it, `x[i]`.

An index is resolved into one entry for each axis of the array. Slices become static slices where
possible; integer and array indices become one gather or scatter. Integers outside of the array are
clamped when reading and dropped when writing, as in JAX; `mode=` says otherwise.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from covector.core import dtypes
from covector.core.array import Array
from covector.core.errors import NonConcreteBooleanIndexError, compose
from covector.core.source import here
from covector.core.trace import Tracer
from covector.numpy.creation import asarray
from covector.numpy.promote import broadcast_shapes, broadcast_to, constant, convert
from covector.ops import elementwise as el
from covector.ops import shape as sh
from covector.ops.index import gather
from covector.ops.pieces import concatenate
from covector.ops.slices import slice_
from covector.ops.windows import GatherDimensionNumbers, GatherScatterMode


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
    flags: list[tuple[int, ...]] = []
    for entry in entries:
        axis = len(slices)
        if entry is None:
            marks.append("new")
        elif type(entry) is _Flag:
            flags.append((1,) if entry.value else (0,))
            marks.append("index")
        elif isinstance(entry, slice):
            slices.append(_slice(cast("slice[Any, Any, Any]", entry), x.shape[axis]))
            marks.append(axis)
        else:
            slices.append(_index_array(entry, x.shape[axis], axis, x))
            marks.append("index")
    shapes = [_shape(s) for s in slices if not isinstance(s, tuple)] + flags
    shape = broadcast_shapes("indexing", *shapes) if shapes else ()
    return Parsed(slices, *_layout(marks, len(shape)), shape)


class _Flag:
    """A single bool as an index: an axis of size 1 or 0, of no axis of the array."""

    __slots__ = ("value",)

    def __init__(self, value: bool) -> None:
        self.value = value


class _MaskPart:
    """The indices along one axis where a mask holds, and the size that the mask has there."""

    __slots__ = ("places", "size")

    def __init__(self, places: np.ndarray[Any, Any], size: int) -> None:
        self.places = places
        self.size = size


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
        expanded.extend(_mask_parts(part) if _is_mask(part) else [part])
    dots = [k for k, p in enumerate(expanded) if p is Ellipsis]
    used = sum(1 for p in expanded if p is not None and p is not Ellipsis and type(p) is not _Flag)
    if used > x.ndim:
        raise IndexError(f"too many indices: {used} for an array {x.aval} of {x.ndim} axes")
    if len(dots) > 1:
        raise IndexError("an index can only have one ellipsis ('...')")
    missing = [slice(None)] * (x.ndim - used)
    place = dots[0] if dots else len(expanded)
    return _with_places(x, expanded[:place] + missing + expanded[place + len(dots) :])


def _with_places(x: Any, entries: list[Any]) -> list[Any]:
    """Masks replaced by the places where they hold, after a look at their sizes."""
    axis = 0
    found: list[Any] = []
    for entry in entries:
        if type(entry) is _MaskPart and entry.size != x.shape[axis]:
            raise IndexError(
                compose(
                    "a bool mask must have the sizes of the axes that it indexes",
                    found=f"size {entry.size} for axis {axis} of {x.aval}",
                    line=here(),
                )
            )
        found.append(entry.places if type(entry) is _MaskPart else entry)
        axis += entry is not None and type(entry) is not _Flag
    return found


def _is_mask(part: Any) -> bool:
    if isinstance(part, bool | np.bool_):
        return True
    return getattr(part, "dtype", None) == np.bool_


def _mask_parts(mask: Any) -> list[Any]:
    if isinstance(mask, Tracer):
        known = mask.concrete()
        if known is None:
            raise NonConcreteBooleanIndexError(
                compose(
                    "a bool mask as an index needs values known while tracing, as they give the "
                    "size of the result",
                    found=f"a traced mask {mask.aval} of {mask._trace.name}",
                    fix="use covector.numpy.where(mask, x, y), or nonzero(mask, size=...)",
                    line=here(),
                )
            )
        mask = known
    data = np.asarray(mask)
    if data.ndim == 0:
        return [_Flag(bool(data))]
    return [_MaskPart(p, n) for p, n in zip(np.nonzero(data), data.shape, strict=True)]


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


def _layout(marks: list[Any], index_rank: int) -> tuple[list[int], list[Any]]:
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
            "fill" the fill value, "wrap" the one at the index modulo the size,
            "promise_in_bounds" anything.
        fill_value: NaN, or the lowest number of an integer dtype, by default.
    """
    parsed = parse_index(x, index)
    if mode == "wrap":
        parsed, mode = wrapped(parsed, x.shape), "clip"
    result = _static_slices(x, parsed)
    if parsed.indexed:
        result = _gather(result, parsed, mode, fill_value)
    elif parsed.index_shape:
        result = _along_flags(result, parsed)
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


def wrapped(parsed: Parsed, shape: Sequence[Any]) -> Parsed:
    """The index with integers taken modulo the sizes of their axes."""
    slices = list(parsed.slices)
    for axis in parsed.indexed:
        entry, extent = slices[axis], shape[axis]
        if extent == 0:
            continue
        if isinstance(entry, (Array, Tracer)):
            from covector.numpy.elementwise import remainder

            slices[axis] = remainder(entry, constant(extent, entry.dtype))
        else:
            slices[axis] = entry % extent
    return Parsed(slices, parsed.new_axes, parsed.order, parsed.index_shape)


def _along_flags(x: Any, parsed: Parsed) -> Any:
    """An array with an axis, of size 1 or 0, that only single bools among the indices give."""
    place = parsed.order.index("index")
    sizes = list(x.shape)
    sizes.insert(place, 1)
    x = sh.reshape(x, new_sizes=tuple(sizes), dimensions=None)
    if parsed.index_shape == (1,):
        return x
    limits = [0 if k == place else n for k, n in enumerate(sizes)]
    return slice_(x, start_indices=(0,) * len(sizes), limit_indices=tuple(limits), strides=None)


def _gather(x: Any, parsed: Parsed, mode: Any, fill_value: Any) -> Any:
    axes = parsed.indexed
    known = all([isinstance(parsed.slices[a], int) for a in axes])
    if known and not parsed.index_shape and mode in (None, "clip"):
        return _pick(x, parsed, axes)
    indices = stacked(parsed, axes, x.shape)
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
    if mode is None:
        # Both clamp; the derivative of an array of indices drops those outside, as JAX's does.
        mode = "promise_in_bounds" if parsed.index_shape else "clip"
    chosen = GatherScatterMode.from_any(mode)
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


def stacked(parsed: Parsed, axes: Sequence[int], shape: Sequence[Any]) -> Any:
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
