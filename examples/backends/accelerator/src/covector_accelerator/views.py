"""Arrays as elements of tensors in DRAM, so that reindexing costs nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from covector_accelerator.isa import Place


def packed(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a row-major array."""
    strides: list[int] = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


@dataclass(frozen=True)
class View:
    """An array: where its elements are.

    Attributes:
        tensor: number of the tensor.
        offset: of the first element.
        shape: of the array.
        strides: in elements; 0 along axes that repeat.
        dtype: name of the element type.
    """

    tensor: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str

    @classmethod
    def whole(cls, tensor: int, shape: Sequence[int], dtype: str) -> View:
        """All of a tensor."""
        return cls(tensor, 0, tuple(shape), packed(shape), dtype)

    @property
    def place(self) -> Place:
        """For an instruction."""
        return Place(self.tensor, self.offset, self.shape, self.strides)

    @property
    def is_packed(self) -> bool:
        """Whether it is row-major without gaps."""
        return self.merged((math.prod(self.shape),)) is not None and self._steps_by_one

    @property
    def _steps_by_one(self) -> bool:
        long = [s for n, s in zip(self.shape, self.strides, strict=True) if n > 1]
        return not long or long[-1] == 1

    def transposed(self, axes: Sequence[int]) -> View:
        """Its axes in another order."""
        return replace(
            self,
            shape=tuple([self.shape[k] for k in axes]),
            strides=tuple([self.strides[k] for k in axes]),
        )

    def broadcast(self, shape: Sequence[int], axes: Sequence[int]) -> View:
        """Repeated: axis `axes[k]` of the result is axis k, where that is not 1 long."""
        strides = [0] * len(shape)
        for axis, n, stride in zip(axes, self.shape, self.strides, strict=True):
            strides[axis] = stride if n > 1 else 0
        return replace(self, shape=tuple(shape), strides=tuple(strides))

    def sliced(self, starts: Sequence[int], stops: Sequence[int], steps: Sequence[int]) -> View:
        """Every so many of its elements along each axis."""
        axes = list(zip(starts, stops, steps, self.strides, strict=True))
        return replace(
            self,
            offset=self.offset + sum([start * stride for start, _, _, stride in axes]),
            shape=tuple([max(0, -(-(stop - start) // step)) for start, stop, step, _ in axes]),
            strides=tuple([step * stride for _, _, step, stride in axes]),
        )

    def merged(self, shape: Sequence[int]) -> View | None:
        """As an array of another shape, if its elements can be reached by strides."""
        # Maximal runs of axes that one stride walks through, then those of the new shape in them.
        runs: list[tuple[int, int]] = []
        for n, stride in zip(self.shape, self.strides, strict=True):
            if n == 1:
                continue
            if runs and runs[-1][1] == n * stride:
                runs[-1] = (runs[-1][0] * n, stride)
            else:
                runs.append((n, stride))
        strides: list[int] = []
        left, step = runs.pop() if runs else (1, 1)
        for n in reversed(shape):
            if n == 1:
                strides.append(0)
                continue
            if left == 1 and runs:
                left, step = runs.pop()
            if left % n:
                return None
            strides.append(step)
            left, step = left // n, step * n
        if left != 1 or runs:
            return None
        return replace(self, shape=tuple(shape), strides=tuple(reversed(strides)))

    def tile(self, batch: int, row: int, column: int, rows: int, columns: int) -> Place:
        """A tile of an array of three axes."""
        by_batch, by_row, by_column = self.strides
        offset = self.offset + batch * by_batch + row * by_row + column * by_column
        return Place(self.tensor, offset, (rows, columns), (by_row, by_column))
