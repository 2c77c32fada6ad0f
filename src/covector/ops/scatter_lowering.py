"""The lowering of scatters: in memory, or by a choice at each element of a small operand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.loopir.tensor import Lowering
from covector.ops.index import offsets_inside, small
from covector.ops.windows import (
    GatherScatterMode,
    ScatterDimensionNumbers,
    Windows,
    batch_axes,
    both,
    choose,
    inverse,
    static_size,
    window_dims,
    window_sizes,
)

MAX_CHOICES = 8
"""Up to so many windows of a small operand are written by choices, not in memory."""


def operand_rank(numbers: ScatterDimensionNumbers) -> int:
    """The logical rank of the operand."""
    absent = len(numbers.inserted_window_dims) + len(numbers.operand_batching_dims)
    return len(numbers.update_window_dims) + absent


class _Writer:
    """A scatter in a lowering: which windows there are and how an element is updated."""

    __slots__ = ("builder", "combine", "numbers", "updates", "which_axes", "windows")

    def __init__(
        self,
        b: Lowering,
        combine: str | None,
        operand: Any,
        indices: Any,
        updates: Any,
        numbers: ScatterDimensionNumbers,
        mode: Any,
    ) -> None:
        self.builder = b.builder
        self.combine = _scalar_operation(combine, operand.dtype)
        self.numbers = inverse(numbers)
        self.updates = updates
        self.which_axes = batch_axes(self.numbers, indices.ndim)
        sizes = window_sizes(self.numbers, operand_rank(numbers), updates.shape)
        drops = mode is not GatherScatterMode.CLIP
        self.windows = Windows(b, operand.shape, indices, self.numbers, sizes, drops)

    def updated(self, old: Any, which: Sequence[Any], offsets: Sequence[Any]) -> Any:
        """The value that takes the place of `old()`."""
        index: list[Any] = [0] * len(self.updates.shape)
        for axis, i in zip(self.which_axes, which, strict=True):
            index[axis] = i
        inner = self.numbers.offset_dims
        for axis, i in zip(inner, offsets, strict=False):
            index[axis] = i
        words = len(offsets) - len(inner)
        if words:
            index[-words:] = offsets[-words:]
        new = self.updates.at(tuple(index))
        return new if self.combine is None else self.builder.op(self.combine, old(), new)


def _scalar_operation(combine: str | None, dtype: Any) -> str | None:
    if combine is None or not dtypes.is_bool(dtype):
        return combine
    return {"add": "or", "max": "or", "mul": "and", "min": "and"}[combine]


def lower_scatter(
    b: Lowering,
    combine: str | None,
    operand: Any,
    indices: Any,
    updates: Any,
    params: dict[str, Any],
) -> Any:
    """A scatter as a tensor.

    Args:
        b: the lowering.
        combine: the operation on an old and a new element; `None` keeps the new one.
        operand: tensor to update.
        indices: tensor of the starts of windows.
        updates: tensor of what to write.
        params: those of the primitive.

    Returns:
        The updated tensor.
    """
    numbers = params["dimension_numbers"]
    if static_size(updates.shape) == 0:
        return operand
    writer = _Writer(b, combine, operand, indices, updates, numbers, params["mode"])
    if _few_choices(operand, indices, updates, numbers):
        return _by_choices(b, writer, operand, indices, numbers)
    return _in_memory(b, writer, operand, indices, numbers)


def _few_choices(
    operand: Any, indices: Any, updates: Any, numbers: ScatterDimensionNumbers
) -> bool:
    """Whether few elements have few windows to lie in each, within an example of a batch."""
    outside, which = numbers.operand_batching_dims, numbers.scatter_indices_batching_dims
    elements = [n for dim, n in enumerate(operand.shape) if dim not in outside]
    windows = static_size([n for axis, n in enumerate(indices.shape[:-1]) if axis not in which])
    sizes = static_size([updates.shape[axis] for axis in numbers.update_window_dims])
    return small(elements) and sizes is not None and windows is not None and windows <= MAX_CHOICES


def _by_choices(
    b: Lowering, writer: _Writer, operand: Any, indices: Any, numbers: ScatterDimensionNumbers
) -> Any:
    """For each element of the operand, all the windows it may lie in."""
    builder = b.builder
    sizes = window_sizes(writer.numbers, operand_rank(numbers), writer.updates.shape)
    inner = window_dims(writer.numbers, operand_rank(numbers))
    batching = dict(
        zip(numbers.scatter_indices_batching_dims, numbers.operand_batching_dims, strict=True)
    )
    ranges = [1 if axis in batching else n for axis, n in enumerate(indices.shape[:-1])]

    def element(index: tuple[Any, ...]) -> Any:
        value = operand.at(index)
        for place in np.ndindex(*ranges):
            which = tuple(
                [index[batching[k]] if k in batching else int(i) for k, i in enumerate(place)]
            )
            value = after(value, index, which)
        return value

    def after(value: Any, index: tuple[Any, ...], which: tuple[Any, ...]) -> Any:
        window = writer.windows.window(which)
        hit, offsets = offsets_inside(builder, index, window.starts, sizes)
        inside = [offsets[dim] for dim in inner] + offsets[len(sizes) :]
        return choose(
            builder,
            both(builder, hit, window.inside),
            lambda: writer.updated(lambda: value, which, inside),
            lambda: value,
        )

    count = static_size(ranges) or 1
    each = writer.updates.cost + indices.cost + 4 * len(sizes)
    return b.lazy(operand.shape, operand.dtype, element, operand.cost + count * each)


def _in_memory(
    b: Lowering, writer: _Writer, operand: Any, indices: Any, numbers: ScatterDimensionNumbers
) -> Any:
    builder, updates = b.builder, writer.updates
    out = b.update_in_place(operand)
    rank = operand_rank(numbers)
    words = operand.shape[rank:]
    inner_shape = [updates.shape[axis] for axis in writer.numbers.offset_dims]

    def write_window(which: tuple[Any, ...]) -> None:
        window = writer.windows.window(which)

        def write(offsets: tuple[Any, ...]) -> None:
            place = writer.windows.place(window, offsets[: len(inner_shape)])
            place = (*place, *offsets[len(inner_shape) :])
            value = writer.updated(lambda: out.at(place), which, offsets)
            out.put(place, value)

        def write_all() -> None:
            b.for_each((*inner_shape, *words), write, independent=True)

        if window.inside is True:
            write_all()
        elif window.inside is not False:
            builder.if_(window.inside, write_all, _nothing)

    b.for_each(indices.shape[:-1], write_window)
    return out


def _nothing() -> None:
    return None
