"""Functional updates: `x.at[index].set(values)` and its relatives.

An index that names a block gives a `dynamic_update_slice`, others a scatter. Integers outside of
the array are dropped, as in JAX; `mode=` says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard, cast

import numpy as np

from covector.core import dtypes
from covector.core.errors import compose
from covector.core.primitive import Primitive
from covector.core.source import here
from covector.numpy.indexing import Parsed, getitem, parse_index, stacked, wrapped
from covector.numpy.manipulation import reshape, transpose
from covector.numpy.promote import broadcast_shapes, broadcast_to, constant, convert, operand
from covector.ops import elementwise as el
from covector.ops import scatter as sc
from covector.ops.index import dynamic_update_slice
from covector.ops.slices import slice_
from covector.ops.windows import GatherScatterMode, ScatterDimensionNumbers

Combine = Callable[[Any, Any], Any]


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
    """`x.at[index]`: its methods return updated copies of `x`.

    They take `indices_are_sorted` and `unique_indices`, which are promises, and `mode`, which says
    what happens to indices outside of the array: "drop" (the default), "clip", "wrap" or
    "promise_in_bounds".

    >>> import covector.numpy as cnp
    >>> cnp.arange(4).at[1:3].set(9)
    Array([0, 9, 9, 3], dtype=int32)
    """

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
        return self._update(sc.scatter, _second, values, **options)

    def add(self, values: Any, **options: Any) -> Any:
        """A copy with `values` added; those for one place all count."""
        return self._update(sc.scatter_add, el.add, values, **options)

    def subtract(self, values: Any, **options: Any) -> Any:
        """A copy with `values` subtracted; those for one place all count."""
        return self.add(el.neg(operand(values, "x.at[...]")), **options)

    def multiply(self, values: Any, **options: Any) -> Any:
        """A copy multiplied by `values`; those for one place all count."""
        return self._update(sc.scatter_mul, el.mul, values, **options)

    mul = multiply

    def divide(self, values: Any, **options: Any) -> Any:
        """A copy divided by `values`; those for one place all count."""
        ones = broadcast_to(constant(1, self.array.dtype), self.array.shape)
        return self.array / Update(ones, self.index).multiply(values, **options)

    def power(self, values: Any, **options: Any) -> Any:
        """A copy with the elements raised to powers; each place may be named once."""
        return self.set(self.get() ** values, **options)

    def min(self, values: Any, **options: Any) -> Any:
        """A copy with the smaller of each element and `values`."""
        return self._update(sc.scatter_min, el.min_, values, **options)

    def max(self, values: Any, **options: Any) -> Any:
        """A copy with the larger of each element and `values`."""
        return self._update(sc.scatter_max, el.max_, values, **options)

    def apply(self, func: Callable[[Any], Any], **options: Any) -> Any:
        """A copy with `func` applied to the elements; each place may be named once."""
        return self.set(func(self.get()), **options)

    def _update(
        self,
        primitive: Primitive,
        combine: Combine,
        values: Any,
        *,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        mode: Any = None,
    ) -> Any:
        x = self.array
        values = convert(operand(values, "x.at[...]"), x.dtype)
        parsed = parse_index(x, self.index)
        if mode == "wrap":
            parsed, mode = wrapped(parsed, x.shape), "clip"
        target = _result_shape(parsed)
        values = _spread(values, parsed, target)
        if 0 in target:
            return x
        if mode is None and _is_block(parsed):
            return _update_block(x, parsed, values, combine)
        promises = {"indices_are_sorted": indices_are_sorted, "unique_indices": unique_indices}
        chosen = GatherScatterMode.from_any("drop" if mode is None else mode)
        return _scatter(primitive, x, parsed, values, mode=chosen, **promises)


def _second(x: Any, y: Any) -> Any:
    return y


def _result_shape(parsed: Parsed) -> tuple[Any, ...]:
    """The shape of `x[index]` before new axes."""
    shape: list[Any] = []
    extents = iter(parsed.index_shape)
    for item in parsed.order:
        shape.append(next(extents) if item == "index" else len(range(*parsed.slices[item])))
    return tuple(shape)


def _spread(values: Any, parsed: Parsed, target: tuple[Any, ...]) -> Any:
    """Values broadcast to what is indexed, axes that `None` entries made dropped."""
    sizes = list(target)
    for place in parsed.new_axes:
        sizes.insert(place, 1)
    if broadcast_shapes("x.at[...]", sizes, values.shape) != tuple(sizes):
        raise ValueError(
            compose(
                f"values must broadcast to what the index names, of shape {tuple(sizes)}",
                found=str(values.aval),
                line=here(),
            )
        )
    values = broadcast_to(values, sizes)
    return reshape(values, target) if parsed.new_axes else values


# --- blocks -------------------------------------------------------------------------------------


def _is_slice(entry: Any) -> TypeGuard[tuple[int, int, int]]:
    return isinstance(entry, tuple)


def _is_block(parsed: Parsed) -> bool:
    """Whether the index names one block known while tracing: ints and slices of step 1."""
    return all([isinstance(s, int) or (_is_slice(s) and s[2] == 1) for s in parsed.slices])


def _update_block(x: Any, parsed: Parsed, values: Any, combine: Combine) -> Any:
    starts: list[int] = []
    limits: list[int] = []
    for entry, extent in zip(parsed.slices, x.shape, strict=True):
        if isinstance(entry, int) and not 0 <= entry < extent:
            return x  # outside: dropped
        low, high = (entry, entry + 1) if isinstance(entry, int) else entry[:2]
        starts.append(low)
        limits.append(high)
    sizes = [high - low for low, high in zip(starts, limits, strict=True)]
    values = reshape(values, sizes)
    whole = sizes == list(x.shape)
    if combine is not _second:
        bounds = {"start_indices": tuple(starts), "limit_indices": tuple(limits), "strides": None}
        values = combine(x if whole else slice_(x, **bounds), values)
    if whole:
        return values
    return dynamic_update_slice(x, values, *[constant(s, dtypes.int32) for s in starts])


# --- scatters -----------------------------------------------------------------------------------


def _scatter(primitive: Primitive, x: Any, parsed: Parsed, values: Any, **options: Any) -> Any:
    spread = _slices_as_indices(parsed, x)
    axes = spread.indexed
    indices = stacked(spread, axes, x.shape)
    windows = [a for a in range(x.ndim) if a not in axes]
    # From the layout of the result to index axes first, windows behind.
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
    return primitive(x, indices, values, dimension_numbers=numbers, **options)


def _slices_as_indices(parsed: Parsed, x: Any) -> Parsed:
    """The index with each slice that is not whole turned into an array on an axis of its own."""
    extents = enumerate(zip(parsed.slices, x.shape, strict=True))
    partial = [k for k, (s, n) in extents if isinstance(s, tuple) and s != (0, n, 1)]
    slices = list(parsed.slices)
    for k in parsed.indexed:
        if not isinstance(slices[k], int) and partial:
            slices[k] = _with_trailing(slices[k], len(partial))
    shape = list(parsed.index_shape)
    for position, k in enumerate(partial):
        start, stop, step = slices[k]
        numbers = cast("np.ndarray[Any, Any]", np.arange(start, stop, step))
        slices[k] = _with_trailing(numbers, len(partial) - position - 1)
        shape.append(len(numbers))
    return Parsed(slices, parsed.new_axes, parsed.order, tuple(shape))


def _with_trailing(x: Any, count: int) -> Any:
    shape = (*x.shape, *[1] * count)
    if isinstance(x, np.ndarray):
        return cast("np.ndarray[Any, Any]", x).reshape(shape)
    return reshape(x, shape)


def _update_order(parsed: Parsed, spread: Parsed, windows: Sequence[int]) -> list[int]:
    """Which axis of the result comes where in the updates: index axes, sliced ones, windows."""
    index_axes = [k for k, item in enumerate(parsed.order) if item == "index"]
    sliced = [a for a in spread.indexed if isinstance(parsed.slices[a], tuple)]
    places = {item: k for k, item in enumerate(parsed.order) if item != "index"}
    return index_axes + [places[a] for a in sliced] + [places[a] for a in windows]
