"""Buffers, and loads and stores of their elements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from covector.loopir.expressions import Expressions
from covector.loopir.ir import (
    ARGUMENT,
    CONSTANT,
    HEAP,
    READ_ONLY,
    RESULT,
    WORKSPACE,
    Allocate,
    Block,
    Buffer,
    ComplexValue,
    DType,
    Extent,
    LoopIRError,
    SizeInBlock,
    Store,
    Value,
)

MAX_HOISTED = 32
"""Loads moved out of loops into one block; more would not stay in registers anyway."""


class Storage(Expressions):
    """What a builder knows of buffers.

    Args:
        name: symbol of the function.
    """

    __slots__ = ("_hoisted", "_names", "_positions", "_safe", "_upper", "lane", "origin")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.lane: tuple[Value, int] | None = None
        """Inside a loop over independent lanes: the number of the lane, and a bound of it. Each
        lane has arrays of its own in buffers made there."""
        self.origin: object = None
        """What is being built: buffers made meanwhile remember it."""
        self._names: dict[str, int] = {}
        self._positions: Counter[str] = Counter()
        self._hoisted: dict[Block, int] = {}
        self._upper: dict[Value, tuple[Value, ...]] = {}
        """What the indices of loops stay below, where that is known at run time only."""
        self._safe: set[tuple[Buffer, Value]] = set()
        """Offsets known to be inside of buffers, other than by their range."""

    def argument(self, dtype: DType, shape: Sequence[Extent], name: str | None = None) -> Buffer:
        """The next array argument of the function.

        Args:
            dtype: element type.
            shape: extents, ints or index values.
            name: for people.

        Returns:
            A read-only buffer.
        """
        return self._buffer(dtype, shape, ARGUMENT, name)

    def result(self, dtype: DType, shape: Sequence[Extent], name: str | None = None) -> Buffer:
        """The next array result of the function.

        Args:
            dtype: element type.
            shape: extents, ints or index values.
            name: for people.

        Returns:
            A buffer that the caller provides.
        """
        return self._buffer(dtype, shape, RESULT, name)

    def constant(
        self, dtype: DType, shape: Sequence[int], name: str | None = None, data: Any = None
    ) -> Buffer:
        """The next constant array that the executable owns.

        Args:
            dtype: element type.
            shape: extents.
            name: for people.
            data: its elements, if reading one of them at a known place should give a constant.

        Returns:
            A read-only buffer.
        """
        buffer = self._buffer(dtype, shape, CONSTANT, name)
        buffer.data = data
        return buffer

    def buffer(self, dtype: DType, shape: Sequence[Extent], name: str | None = None) -> Buffer:
        """A temporary array.

        Args:
            dtype: element type.
            shape: extents; run-time extents make it a heap buffer, allocated before all loops.
            name: for people.

        Returns:
            An uninitialised buffer.
        """
        static = all(isinstance(extent, int) for extent in shape)
        if self.lane is not None:
            return self._of_lanes(dtype, shape, name, *self.lane)
        buffer = self._buffer(dtype, shape, WORKSPACE if static else HEAP, name)
        if not static:
            count = self._count(buffer)
            self._blocks[0].items.append(Allocate(buffer, count, len(self.function.buffers) - 1))
        return buffer

    def _count(self, buffer: Buffer) -> Value:
        """The number of a buffer's elements, computed before all loops and branches."""
        placement, memo = self._placement, self._memo
        if self.depth:
            self._placement, self._memo = list(range(self.depth + 1)), {}
        count = self.index(2 if buffer.element is not buffer.dtype else 1)
        for extent in buffer.shape:
            count = self.op("mul", count, self._as_index(extent))
        self._placement, self._memo = placement, memo
        if count.depth:
            raise SizeInBlock(f"the size of {buffer!r} depends on a loop or branch")
        return count

    def _of_lanes(
        self, dtype: DType, shape: Sequence[Extent], name: str | None, lane: Value, lanes: int
    ) -> Buffer:
        """A temporary array for each of some lanes, equal elements of all of them neighbours."""
        buffer = self._buffer(dtype, [*shape, lanes], WORKSPACE, name)
        buffer.strides = buffer.strides[:-1]
        buffer.lane = lane
        return buffer

    def _buffer(
        self, dtype: DType, shape: Sequence[Extent], space: str, name: str | None
    ) -> Buffer:
        position = self._positions[space]
        self._positions[space] += 1
        buffer = Buffer(
            self._unique(name or f"{space[0]}{position}"),
            dtype,
            [int(e) if not isinstance(e, Value) else e for e in shape],
            space,
            position,
            self._strides(shape),
        )
        buffer.origin = self.origin
        self.function.buffers.append(buffer)
        return buffer

    def _unique(self, name: str) -> str:
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return name if count == 0 else self._unique(f"{name}_{count}")

    def _strides(self, shape: Sequence[Extent]) -> list[Extent]:
        strides: list[Extent] = []
        stride: Extent = 1
        for extent in reversed(shape):
            strides.append(stride)
            if isinstance(extent, int) and isinstance(stride, int):
                stride = stride * extent
            else:
                stride = self.op("mul", self._as_index(extent), self._as_index(stride))
        return strides[::-1]

    def offset(self, buffer: Buffer, indices: Sequence[Any]) -> Value:
        """The linear offset of an element, in elements of the buffer's dtype.

        Args:
            buffer: any buffer.
            indices: an int or index value for each axis.

        Returns:
            An index value.

        Raises:
            LoopIRError: if the number of indices is not that of the axes.
        """
        strides = buffer.strides
        if len(indices) != len(strides):
            raise LoopIRError(f"{buffer!r} has {len(strides)} axes, indexed with {len(indices)}")
        fixed = 0
        total: Value | None = None
        op = self.op
        for i, stride in zip(indices, strides, strict=True):
            if type(i) is int and type(stride) is int:
                fixed += i * stride
                continue
            term = self._as_index(i)
            if stride != 1:
                term = op("mul", term, self._as_index(stride))
            total = term if total is None else op("add", total, term)
        if buffer.lane is not None:
            total = buffer.lane if total is None else op("add", total, buffer.lane)
        if total is None:
            return self.index(fixed)
        return op("add", total, self.index(fixed)) if fixed else total

    def load(self, buffer: Buffer, *indices: Any) -> Any:
        """Reads an element.

        Args:
            buffer: any buffer.
            *indices: an int or index value for each axis.

        Returns:
            The value, complex for complex buffers.
        """
        offset = self.offset(buffer, indices)
        if buffer.space in READ_ONLY and self._inside(buffer, indices):
            self._safe.add((buffer, offset))
        return self._load_element(buffer, offset)

    def _inside(self, buffer: Buffer, indices: Sequence[Any]) -> bool:
        """Whether every index is known to be inside, other than by the range of the offset."""
        if buffer.size is not None and self.lane is None:
            return False
        return all(map(self._is_below, indices, buffer.shape))

    def _is_below(self, index: Any, extent: Extent) -> bool:
        if type(index) is int and type(extent) is int:
            return 0 <= index < extent
        low, high = self.bounds(self._as_index(index))
        if low < 0:
            return False
        if type(extent) is int and high < extent:
            return True
        return self._less(self._as_index(index), self._as_index(extent))

    def _less(self, index: Value, extent: Value) -> bool:
        """Whether an index is less than a value: it counts up to it, or from x up to it less x."""
        if index.op == "index":
            return extent in self._upper.get(index, ())
        if index.op != "add":
            return False
        return any(
            [
                bound.op == "sub" and bound.args == (extent, start)
                for start, count in (index.args, index.args[::-1])
                for bound in self._upper.get(count, ())
            ]
        )

    def load_at(self, buffer: Buffer, offset: Any) -> Any:
        """Reads an element at a linear offset.

        Args:
            buffer: any buffer.
            offset: in elements of the array, row-major.

        Returns:
            The value, complex for complex buffers.
        """
        return self._load_element(buffer, self._physical(buffer, offset))

    def _physical(self, buffer: Buffer, offset: Any) -> Value:
        """Where in a buffer an element of its array is."""
        offset = self._as_index(offset)
        if buffer.lane is None:
            return offset
        lanes = self.index(int(buffer.shape[-1]))  # pyright: ignore[reportArgumentType]
        return self.op("add", self.op("mul", offset, lanes), buffer.lane)

    def _load_element(self, buffer: Buffer, offset: Value) -> Any:
        if buffer.element is buffer.dtype:
            return self._load(buffer, offset)
        first = self.op("mul", offset, self.index(2))
        second = self.op("add", first, self.index(1))
        return ComplexValue(self._load(buffer, first), self._load(buffer, second), buffer.dtype)

    def _load(self, buffer: Buffer, offset: Value) -> Value:
        if buffer.data is not None and offset.op == "const" and 0 <= offset.attr < buffer.data.size:
            return self.const(buffer.data.flat[offset.attr], buffer.element)
        # What a block reads stays the same until a store; loops may store further down.
        fixed = buffer.space in READ_ONLY
        key = ("load", buffer, offset, None if fixed else (buffer.version, self.block))
        found = self._memo.get(key)
        if found is None:
            depth = self._load_depth(buffer, offset) if fixed else self.depth
            found = Value("load", (offset,), buffer, buffer.element, self._number(), depth)
            self._blocks[depth].items.append(found)
            self._remember_at(depth, key, found)
        return found

    def _load_depth(self, buffer: Buffer, offset: Value) -> int:
        """Where to load from a read-only buffer: outside loops if that is safe and worthwhile."""
        depth = self._placement[offset.depth]
        if depth == self.depth:
            return depth
        block = self._blocks[depth]
        if not self._is_safe(buffer, offset) or self._hoisted.get(block, 0) >= MAX_HOISTED:
            return self.depth
        self._hoisted[block] = self._hoisted.get(block, 0) + 1
        return depth

    def _is_safe(self, buffer: Buffer, offset: Value) -> bool:
        """Whether an offset is known to be inside of a buffer."""
        if (buffer, offset) in self._safe:
            return True
        size = buffer.size
        low, high = self.bounds(offset)
        return size is not None and low >= 0 and high < size

    def store(
        self, buffer: Buffer, indices: Sequence[Any], value: Any, depth: int | None = None
    ) -> None:
        """Writes an element.

        Args:
            buffer: a buffer that is not read-only.
            indices: an int or index value for each axis.
            value: of the buffer's dtype.
            depth: of the block around this one at whose present end to write; the indices and the
                value are known there, and nothing has touched the buffer in a block inside it.
        """
        self._store_element(buffer, self.offset(buffer, indices), value, depth)

    def store_at(self, buffer: Buffer, offset: Any, value: Any) -> None:
        """Writes an element at a linear offset.

        Args:
            buffer: a buffer that is not read-only.
            offset: in elements of the array, row-major.
            value: of the buffer's dtype.

        Raises:
            LoopIRError: if the buffer is read-only or the dtype differs.
        """
        self._store_element(buffer, self._physical(buffer, offset), value)

    def _store_element(
        self, buffer: Buffer, offset: Value, value: Any, depth: int | None = None
    ) -> None:
        if value.dtype is not buffer.dtype:
            raise LoopIRError(f"store of {value.dtype.name} in {buffer!r}: {buffer.dtype.name}")
        if buffer.space in READ_ONLY:
            raise LoopIRError(f"store in the read-only {buffer!r}")
        if type(value) is Value:
            parts = [(offset, value)]
        else:
            first = self.op("mul", offset, self.index(2))
            parts = [(first, value.re), (self.op("add", first, self.index(1)), value.im)]
        self.touch(buffer)
        for place, part in parts:
            self._put(buffer, place, part, depth)

    def load_linear(self, buffer: Buffer, offset: Value) -> Value:
        """Reads a component at a place in memory.

        Args:
            buffer: any buffer.
            offset: in elements of `buffer.element`, like that of a "load".

        Returns:
            The value.
        """
        return self._load(buffer, offset)

    def store_linear(self, buffer: Buffer, offset: Value, value: Value) -> None:
        """Writes a component at a place in memory.

        Args:
            buffer: a buffer that is not read-only.
            offset: in elements of `buffer.element`, like that of a `Store`.
            value: of that dtype.
        """
        self.touch(buffer)
        self._put(buffer, offset, value)

    def _put(self, buffer: Buffer, offset: Value, value: Value, depth: int | None = None) -> None:
        depth = self.depth if depth is None else depth
        block = self._blocks[depth]
        block.items.append(Store(buffer, offset, value))
        self._remember_at(depth, ("load", buffer, offset, (buffer.version, block)), value)

    def touch(self, buffer: Buffer) -> None:
        """Forgets what is known of a buffer's contents, as a store or a call changes them.

        Args:
            buffer: the buffer.
        """
        buffer.version += 1
