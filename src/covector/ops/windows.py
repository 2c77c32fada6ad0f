"""Windows: how gather and scatter say which parts of an operand they read and write.

The last axis of `indices` holds the start of a window, the other axes say which window. A scatter's
updates look like the result of the gather with the same dimension numbers, so both share this code.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.errors import compose
from covector.core.params import register_param_type
from covector.loopir.ir import INDEX
from covector.loopir.tensor import Lowering
from covector.ops import indices as ix
from covector.ops.common import Inseparable

Shape = Sequence[Any]


@register_param_type
class GatherDimensionNumbers(NamedTuple):
    """Which axes are what in a gather.

    Attributes:
        offset_dims: axes of the result that run inside a window, ascending.
        collapsed_slice_dims: axes of the operand with windows of one element that the result
            does not have, ascending.
        start_index_map: the axis of the operand that each component of a start belongs to.
        operand_batching_dims: axes of the operand that the windows are batched along.
        start_indices_batching_dims: the matching axes of the indices.
    """

    offset_dims: tuple[int, ...]
    collapsed_slice_dims: tuple[int, ...]
    start_index_map: tuple[int, ...]
    operand_batching_dims: tuple[int, ...] = ()
    start_indices_batching_dims: tuple[int, ...] = ()


@register_param_type
class ScatterDimensionNumbers(NamedTuple):
    """Which axes are what in a scatter.

    Attributes:
        update_window_dims: axes of the updates that run inside a window, ascending.
        inserted_window_dims: axes of the operand with windows of one element that the updates
            do not have, ascending.
        scatter_dims_to_operand_dims: the axis of the operand that each component of a start
            belongs to.
        operand_batching_dims: axes of the operand that the windows are batched along.
        scatter_indices_batching_dims: the matching axes of the indices.
    """

    update_window_dims: tuple[int, ...]
    inserted_window_dims: tuple[int, ...]
    scatter_dims_to_operand_dims: tuple[int, ...]
    operand_batching_dims: tuple[int, ...] = ()
    scatter_indices_batching_dims: tuple[int, ...] = ()


def inverse(numbers: ScatterDimensionNumbers) -> GatherDimensionNumbers:
    """The gather that reads the windows a scatter writes."""
    return GatherDimensionNumbers(*numbers)


def scatter_numbers(numbers: GatherDimensionNumbers) -> ScatterDimensionNumbers:
    """The scatter that writes the windows a gather reads."""
    return ScatterDimensionNumbers(*numbers)


@register_param_type
class GatherScatterMode(Enum):
    """What happens to windows that are not wholly inside the operand.

    CLIP moves them inside. FILL_OR_DROP reads a fill value, or drops the update. With
    PROMISE_IN_BOUNDS the user says that there are none; should there be one all the same, gather
    clips and scatter drops.
    """

    CLIP = 0
    FILL_OR_DROP = 1
    PROMISE_IN_BOUNDS = 2

    @staticmethod
    def from_any(mode: str | GatherScatterMode | None) -> GatherScatterMode:
        """The mode that users mean.

        Args:
            mode: "clip", "fill", "drop", "promise_in_bounds", a mode, or `None` for the default.

        Raises:
            ValueError: if there is no such mode.
        """
        if isinstance(mode, GatherScatterMode):
            return mode
        found = _MODES.get(mode)
        if found is None:
            names = ", ".join(repr(name) for name in _MODES if name)
            raise ValueError(f"no gather or scatter mode is called {mode!r}; there are {names}")
        return found


_MODES: dict[str | None, GatherScatterMode] = {
    "clip": GatherScatterMode.CLIP,
    "fill": GatherScatterMode.FILL_OR_DROP,
    "drop": GatherScatterMode.FILL_OR_DROP,
    "promise_in_bounds": GatherScatterMode.PROMISE_IN_BOUNDS,
    None: GatherScatterMode.FILL_OR_DROP,
}

# --- shapes --------------------------------------------------------------------------------------


def batch_axes(numbers: GatherDimensionNumbers, indices_rank: int) -> list[int]:
    """The axes of a gather's result that say which window."""
    rank = len(numbers.offset_dims) + indices_rank - 1
    return [axis for axis in range(rank) if axis not in numbers.offset_dims]


def window_dims(numbers: GatherDimensionNumbers, operand_rank: int) -> list[int]:
    """The axes of the operand that `offset_dims` run along, in their order."""
    absent = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    return [dim for dim in range(operand_rank) if dim not in absent]


def window_sizes(
    numbers: GatherDimensionNumbers, operand_rank: int, updates_shape: Shape
) -> tuple[Any, ...]:
    """The extents of a scatter's windows along each axis of the operand."""
    sizes: list[Any] = [1] * operand_rank
    for dim, axis in zip(window_dims(numbers, operand_rank), numbers.offset_dims, strict=True):
        sizes[dim] = updates_shape[axis]
    return tuple(sizes)


def result_shape(
    numbers: GatherDimensionNumbers, indices_shape: Shape, sizes: Shape
) -> tuple[Any, ...]:
    """The shape of a gather's result."""
    shape: list[Any] = list(indices_shape[:-1])
    for dim, axis in zip(window_dims(numbers, len(sizes)), numbers.offset_dims, strict=True):
        shape.insert(axis, sizes[dim])
    return tuple(shape)


def check_windows(
    name: str, operand: Aval, indices: Aval, numbers: GatherDimensionNumbers, sizes: Shape | None
) -> None:
    """Raises unless the dimension numbers fit the operand and the indices.

    Args:
        name: the operation, for messages.
        operand: what is read or written.
        indices: the starts of the windows.
        numbers: those of the gather, or of the inverse of the scatter.
        sizes: of the windows; `None` checks only the dimension numbers.

    Raises:
        TypeError: saying which rule is broken.
        ValueError: if the indices are not integers.
    """
    if not dtypes.is_integer(indices.dtype):
        raise ValueError(f"{name}: indices must have an integer type, got {indices}")
    for broken in _broken_rules(operand, indices, numbers):
        raise TypeError(
            compose(f"{name} needs {broken}", found=_describe(operand, indices, numbers))
        )
    if sizes is None:
        return
    for broken in _broken_sizes(operand, indices, numbers, sizes):
        found = f"{_describe(operand, indices, numbers)}, windows of {tuple(sizes)}"
        raise TypeError(compose(f"{name} needs {broken}", found=found))


def _describe(operand: Aval, indices: Aval, numbers: GatherDimensionNumbers) -> str:
    return f"operand {operand}, indices {indices}, {tuple(numbers)}"


def _broken_rules(operand: Aval, indices: Aval, numbers: GatherDimensionNumbers) -> list[str]:
    offset, collapsed, index_map, batching, index_batching = numbers
    if indices.ndim == 0:
        return ["indices with a last axis that holds the starts of windows"]
    rank, which = operand.ndim, indices.ndim - 1
    rules = {
        "one component of a start for each entry of the index map": (
            len(index_map) == indices.shape[-1]
        ),
        "ascending window axes inside the result": _ascending(offset, len(offset) + which),
        "ascending axes without a window inside the operand": _ascending(collapsed, rank),
        "ascending batching axes inside the operand": _ascending(batching, rank),
        "different axes of the operand in the index map": _distinct(index_map, rank),
        "different batching axes of the indices, not the last": _distinct(index_batching, which),
        "batching axes apart from those of the windows": (
            not set(batching) & {*collapsed, *index_map}
        ),
        "as many batching axes of the operand as of the indices": (
            len(batching) == len(index_batching)
        ),
        "a window axis for each other axis of the operand": (
            rank == len(offset) + len(collapsed) + len(batching)
        ),
    }
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        return broken
    pairs = zip(batching, index_batching, strict=True)
    if any(operand.shape[i] != indices.shape[j] for i, j in pairs):
        return ["batching axes of equal sizes"]
    return []


def _ascending(axes: Sequence[int], rank: int) -> bool:
    return _distinct(axes, rank) and list(axes) == sorted(axes)


def _distinct(axes: Sequence[int], rank: int) -> bool:
    return len(set(axes)) == len(axes) and all(0 <= axis < rank for axis in axes)


def _broken_sizes(
    operand: Aval, indices: Aval, numbers: GatherDimensionNumbers, sizes: Shape
) -> list[str]:
    if len(sizes) != operand.ndim:
        return ["a window size for each axis of the operand"]
    fits = all(
        not (type(size) is int and type(extent) is int) or 0 <= size <= extent
        for size, extent in zip(sizes, operand.shape, strict=True)
    )
    rules = {
        "windows that fit into the operand": fits or 0 in indices.shape,
        "windows of one element along axes that the result lacks": (
            all(sizes[dim] == 1 for dim in numbers.collapsed_slice_dims)
        ),
        "windows of at most one element along batching axes": (
            all(sizes[dim] == 1 or sizes[dim] == 0 for dim in numbers.operand_batching_dims)
        ),
    }
    return [rule for rule, holds in rules.items() if not holds]


# --- evaluation ----------------------------------------------------------------------------------


def window_starts(
    shape: Shape, indices: np.ndarray[Any, Any], numbers: GatherDimensionNumbers, sizes: Shape
) -> tuple[dict[int, np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    """Where windows begin, moved inside the operand, and which were inside to begin with.

    Args:
        shape: of the operand.
        indices: any integers.
        numbers: which component of a start is what.
        sizes: of the windows.

    Returns:
        For each axis of the operand that has starts or is a batching axis, an array that
        broadcasts to the shape of `indices` without the last axis; and a boolean of that shape.
    """
    batch = indices.shape[:-1]
    inside = np.ones(batch, np.bool_)
    starts: dict[int, np.ndarray[Any, Any]] = {}
    # No operand has so many elements that this changes which starts are inside.
    highest = np.iinfo(np.int64).max
    signed = np.minimum(indices, highest) if indices.dtype == np.uint64 else indices
    signed = signed.astype(np.int64)
    for component, dim in enumerate(numbers.start_index_map):
        start = signed[..., component]
        last = max(shape[dim] - sizes[dim], 0)
        inside &= (start >= 0) & (start <= last)
        starts[dim] = np.clip(start, 0, last)
    pairs = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    for dim, axis in pairs:
        along = [1] * len(batch)
        along[axis] = batch[axis]
        starts[dim] = _counting(along, axis)
    return starts, inside


def _counting(shape: Sequence[int], axis: int) -> np.ndarray[Any, Any]:
    """0, 1, 2 ... along one axis of a shape whose other axes have one element."""
    numbers: np.ndarray[Any, Any] = np.arange(shape[axis], dtype=np.int64)
    return numbers.reshape(tuple(shape))


def window_selection(
    data: np.ndarray[Any, Any],
    starts: dict[int, np.ndarray[Any, Any]],
    inside: np.ndarray[Any, Any],
    numbers: GatherDimensionNumbers,
    sizes: Shape,
) -> tuple[np.ndarray[Any, Any], tuple[np.ndarray[Any, Any], ...], list[int]]:
    """All windows, as NumPy indexes.

    Args:
        data: the operand, with a trailing axis of words if it holds PRNG keys.
        starts: from `window_starts`.
        inside: likewise.
        numbers: which axis of the operand is what.
        sizes: of the windows.

    Returns:
        A view of the operand; the indices of its leading axes, which select an array whose axes
        say which window, then run inside the window; the axes of the operand that run inside the
        window, in the order in which they come out.
    """
    rank = len(sizes)
    inner = window_dims(numbers, rank)
    # Whole axes need no index.
    whole = [d for d in inner if d not in starts and sizes[d] == data.shape[d]]
    indexed = [d for d in range(rank) if d not in whole]
    ranged = [d for d in indexed if d in inner]
    tail = (1,) * len(ranged)
    # An axis of one element in front, so that there is an index even if all axes are whole.
    view = data.transpose(*indexed, *whole, *range(rank, data.ndim))[np.newaxis]
    selection = [np.zeros(inside.shape + tail, np.int64)]
    for dim in indexed:
        start = starts.get(dim, np.zeros((1,) * inside.ndim, np.int64))
        index: np.ndarray[Any, Any] = start.reshape(start.shape + tail)
        if dim in ranged:
            along = [1] * index.ndim
            along[inside.ndim + ranged.index(dim)] = sizes[dim]
            index = index + _counting(along, inside.ndim + ranged.index(dim))
        selection.append(index)
    return view, tuple(selection), ranged + whole


# --- lowering ------------------------------------------------------------------------------------


class Window:
    """One window in a lowering.

    Attributes:
        starts: along each axis of the operand, an index inside it.
        inside: a loop IR bool: whether the window was inside the operand; or a Python bool.
    """

    __slots__ = ("inside", "starts")

    def __init__(self, starts: list[Any], inside: Any) -> None:
        self.starts = starts
        self.inside = inside


class Windows:
    """The windows of a gather or scatter in a lowering.

    Args:
        b: the lowering.
        shape: extents of the operand.
        indices: the tensor of starts.
        numbers: which axis is what.
        sizes: extents of the windows.
        drops: whether it matters that a window is outside, which costs comparisons.
    """

    __slots__ = ("_builder", "_drops", "_indices", "_inner", "_numbers", "_shape", "_sizes")

    def __init__(
        self,
        b: Lowering,
        shape: Shape,
        indices: Any,
        numbers: GatherDimensionNumbers,
        sizes: Shape,
        drops: bool,
    ) -> None:
        self._builder = b.builder
        self._shape = shape
        self._indices = indices
        self._numbers = numbers
        self._sizes = sizes
        self._drops = drops
        self._inner = window_dims(numbers, len(sizes))

    def window(self, which: tuple[Any, ...]) -> Window:
        """The window whose place among the windows is given."""
        key = (self, which)
        known = self._builder.recall(key)
        if known is None:
            known = self._find(which)
            self._builder.remember(key, known)
        return known

    def _find(self, which: tuple[Any, ...]) -> Window:
        numbers, builder = self._numbers, self._builder
        starts: list[Any] = [0] * len(self._sizes)
        inside: Any = True
        for component, dim in enumerate(numbers.start_index_map):
            bound = ix.sub(builder, self._shape[dim], self._sizes[dim])
            if type(bound) is int and bound <= 0 and not self._drops:
                continue
            start = self._indices.at((*which, component))
            starts[dim], fits = clamp_start(builder, start, bound, self._drops)
            inside = both(builder, inside, fits)
        for dim, axis in zip(
            numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True
        ):
            starts[dim] = which[axis]
        return Window(starts, inside)

    def place(self, window: Window, offsets: Sequence[Any]) -> tuple[Any, ...]:
        """The index into the operand of an element of a window."""
        index = list(window.starts)
        for dim, offset in zip(self._inner, offsets, strict=True):
            index[dim] = ix.add(self._builder, index[dim], offset)
        return tuple(index)


def as_index(builder: Any, value: Any) -> Any:
    """An integer scalar as an index: a Python int where it is known; too large ones saturate."""
    if type(value) is int:
        return value
    if value.op == "const":
        return min(int(value.attr), np.iinfo(np.int64).max)
    if value.dtype == np.uint64:
        value = builder.op("min", value, builder.const(np.iinfo(np.int64).max, value.dtype))
    return builder.convert(value, INDEX)


def clamp_start(builder: Any, start: Any, bound: Any, compare: bool) -> tuple[Any, Any]:
    """A start moved into `[0, bound]`.

    Args:
        builder: of loop IR.
        start: an integer scalar.
        bound: the last start, an index that is not negative.
        compare: whether to find out if it was there already.

    Returns:
        The index, and a bool (a loop IR value, or Python's).
    """
    index = as_index(builder, start)
    if type(index) is int and type(bound) is int:
        return max(0, min(index, bound)), not compare or 0 <= index <= bound
    fits: Any = True
    if compare:
        fits = both(
            builder, ix.compare(builder, "ge", index, 0), ix.compare(builder, "le", index, bound)
        )
    return clamp_between(builder, index, bound), fits


def clamp_between(builder: Any, index: Any, last: Any) -> Any:
    """The index in `[0, last]` nearest to an index."""
    if type(last) is int:
        if type(index) is int:
            return max(0, min(index, last))
        if last == 0:
            return 0
        last = builder.index(last)
    high = builder.op("min", as_value(builder, index), last)
    return builder.op("max", high, builder.index(0))


def as_value(builder: Any, index: Any) -> Any:
    """An index as a loop IR value."""
    return builder.index(index) if type(index) is int else index


def both(builder: Any, a: Any, b: Any) -> Any:
    """`a and b` of bools, known ones as Python's."""
    a, b = known_bool(a), known_bool(b)
    if a is True or b is False:
        return b
    if b is True or a is False:
        return a
    return builder.op("and", a, b)


def known_bool(value: Any) -> Any:
    """Python's bool for a constant, else the value."""
    if type(value) is bool:
        return value
    return bool(value.attr) if value.op == "const" else value


def choose(builder: Any, predicate: Any, a: Any, b: Any) -> Any:
    """`a()` where the predicate holds, else `b()`; only one is made where it is known."""
    if predicate is True:
        return a()
    if predicate is False:
        return b()
    return builder.select(predicate, a(), b())


def static_size(shape: Shape) -> int | None:
    """The number of elements; `None` if known at run time only."""
    size = 1
    for extent in shape:
        if type(extent) is not int:
            return None
        size *= extent
    return size


# --- lanes ----------------------------------------------------------------------------------------

WHOLE_WINDOWS = -1


def window_lane(
    numbers: GatherDimensionNumbers,
    operand: Aval,
    indices: Aval,
    operand_lane: int | None,
    indices_lane: int | None,
    sizes: Sequence[Any],
) -> int | None:
    """How lanes pass through windows.

    Returns:
        The axis of the indices the lanes go along, `WHOLE_WINDOWS` if they go along an axis of the
        operand that lies wholly inside each window, `None` if nothing has lanes.

    Raises:
        Inseparable: if windows reach across lanes.
    """
    if operand_lane is None and indices_lane is None:
        return None
    if indices_lane == indices.ndim - 1:
        raise Inseparable("the components of a start would be in different lanes")
    pairs = dict(
        zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    )
    if operand_lane is None:
        if indices_lane in numbers.start_indices_batching_dims:
            raise Inseparable("the indices have lanes along a batching axis, the operand has not")
        return indices_lane
    if operand_lane in pairs:
        if indices_lane != pairs[operand_lane]:
            raise Inseparable("operand and indices have their lanes along different axes")
        return indices_lane
    if indices_lane is not None:
        raise Inseparable("each lane would read or write all lanes of the operand")
    whole = (
        operand_lane not in numbers.start_index_map
        and operand_lane not in numbers.collapsed_slice_dims
        and sizes[operand_lane] == operand.shape[operand_lane]
    )
    if not whole:
        raise Inseparable("windows begin at places along the axis of the lanes")
    return WHOLE_WINDOWS
