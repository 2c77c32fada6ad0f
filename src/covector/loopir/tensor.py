"""Tensors: what the `lower` rules of primitives take and return.

A tensor knows its shape and how to produce the scalar at an index. Most are `Lazy`: nothing runs
until a consumer asks for elements, which is how producers fuse into consumers and movement
operations turn into index arithmetic. An index is a tuple of Python ints (known at compile time)
and loop IR values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from covector.core.avals import Aval
from covector.core.program import Equation, Program
from covector.loopir.builder import Builder
from covector.loopir.ir import Buffer, Value

NOTHING: Mapping[Any, Any] = MappingProxyType({})

Extent = Any
"""An `int`, or a loop IR value for a size known at run time only."""
Index = tuple[Any, ...]
Scalar = Any
"""A loop IR value, or a pair of them for a complex number."""


class Tensor:
    """An array inside a lowering.

    Attributes:
        shape: an extent for each axis.
        dtype: element type; PRNG keys appear as their words, with a trailing axis.
        cost: estimated operations to produce one element; 0 for stored ones.
    """

    __slots__ = ("cost", "dtype", "shape")

    shape: tuple[Extent, ...]
    dtype: np.dtype[Any]
    cost: float

    def at(self, index: Index) -> Scalar:
        """The element at `index`."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        return len(self.shape)


class Lazy(Tensor):
    """Elements computed on demand, once for each index in a scope."""

    __slots__ = ("_builder", "_fn", "moves", "origin")

    def __init__(
        self,
        builder: Builder,
        shape: Sequence[Extent],
        dtype: np.dtype[Any],
        fn: Callable[[Index], Scalar],
        cost: float,
        moves: bool = False,
    ) -> None:
        self._builder = builder
        self.shape = tuple(shape)
        self.dtype = dtype
        self._fn = fn
        self.cost = cost
        self.moves = moves
        """Whether it only re-indexes its operand, so that it is never worth storing."""
        self.origin = builder.origin
        """What its elements are computed for: see `Buffer`."""

    def at(self, index: Index) -> Scalar:
        key = (self, index)
        builder = self._builder
        known = builder.recall(key)
        if known is None:
            outer, builder.origin = builder.origin, self.origin
            known = self._fn(index)
            builder.origin = outer
            builder.block.origins[self.origin] = None
            builder.remember(key, known)
        return known


class Stored(Tensor):
    """Elements in a buffer, row-major."""

    __slots__ = ("_builder", "buffer")

    def __init__(self, builder: Builder, buffer: Buffer, shape: Sequence[Extent]) -> None:
        self._builder = builder
        self.buffer = buffer
        self.shape = tuple(shape)
        self.dtype = buffer.dtype
        self.cost = 0.0

    def at(self, index: Index) -> Scalar:
        return self._builder.load(self.buffer, *index)

    def put(self, index: Index, value: Scalar) -> None:
        """Stores an element."""
        self._builder.store(self.buffer, index, value)

    def row(self, i: Any) -> Row:
        """The part at index `i` of the first axis, in place."""
        return Row(self._builder, self.buffer, (i,), self.shape[1:])


class Row(Tensor):
    """Part of a buffer: what is left after fixing the first indices. It can be written to."""

    __slots__ = ("_buffer", "_builder", "_prefix")

    def __init__(
        self, builder: Builder, buffer: Buffer, prefix: Index, shape: Sequence[Extent]
    ) -> None:
        self._builder = builder
        self._buffer = buffer
        self._prefix = prefix
        self.shape = tuple(shape)
        self.dtype = buffer.dtype
        self.cost = 0.0

    def at(self, index: Index) -> Scalar:
        return self._builder.load(self._buffer, *self._prefix, *index)

    def put(self, index: Index, value: Scalar) -> None:
        """Stores an element."""
        self._builder.store(self._buffer, (*self._prefix, *index), value)

    def row(self, i: Any) -> Row:
        """The part at index `i` of the first axis, in place."""
        return Row(self._builder, self._buffer, (*self._prefix, i), self.shape[1:])


class Pending(Tensor):
    """A tensor that is about to be stored: computed on demand until it is."""

    __slots__ = ("done", "source", "target")

    def __init__(self, target: Stored, source: Lazy) -> None:
        self.target = target
        self.source = source
        self.shape = source.shape
        self.dtype = source.dtype
        self.cost = 0.0
        self.done = False

    def at(self, index: Index) -> Scalar:
        return self.target.at(index) if self.done else self.source.at(index)


class Registers(Tensor):
    """Elements in SSA values; an index not known at compile time goes through a spilled copy."""

    __slots__ = ("_spill", "_spilled", "depth", "values")

    def __init__(
        self,
        values: np.ndarray[Any, Any],
        dtype: np.dtype[Any],
        spill: Callable[[Registers], tuple[Tensor, bool]],
        depth: int = 0,
    ) -> None:
        self.values = values
        self.shape = values.shape
        self.dtype = dtype
        self.cost = 0.0
        self.depth = depth
        """How deep inside loops and branches the values were made."""
        self._spill = spill
        self._spilled: Tensor | None = None

    def at(self, index: Index) -> Scalar:
        known: Index = tuple([i.attr if _is_constant(i) else i for i in index])
        for i in known:
            if type(i) is not int:
                return self.spilled().at(index)
        return self.values[known]

    def spilled(self) -> Tensor:
        """The copy in memory, made where the values were: not in each iteration of a loop."""
        if self._spilled is not None:
            return self._spilled
        copy, lasts = self._spill(self)
        if lasts:
            self._spilled = copy
        return copy


def _is_constant(i: Any) -> bool:
    return type(i) is Value and i.op == "const"


class Lowering(Protocol):
    """The builder that `lower` rules receive: the loop IR's, and what the scheduler adds."""

    @property
    def builder(self) -> Builder: ...

    @property
    def equation(self) -> Equation:
        """What is lowered: its avals tell data of PRNG keys from other arrays."""
        ...

    def lazy(
        self,
        shape: Sequence[Extent],
        dtype: np.dtype[Any],
        fn: Callable[[Index], Scalar],
        cost: float = 1.0,
        moves: bool = False,
    ) -> Tensor:
        """A tensor computed on demand; `cost` includes the operands'."""
        ...

    def extents(self, aval: Aval) -> tuple[Extent, ...]:
        """The shape of an aval as extents, symbolic sizes as run-time values."""
        ...

    def element_dtype(self, aval: Aval) -> np.dtype[Any]:
        """The dtype of an aval's data: that of the words for PRNG keys."""
        ...

    def stored(self, tensor: Tensor) -> Stored:
        """The tensor in a row-major buffer, computing it into one if need be."""
        ...

    def hoist(self, tensor: Tensor) -> Tensor:
        """The tensor computed here once if that is costly, in registers or a buffer."""
        ...

    def update_in_place(self, tensor: Tensor) -> Stored:
        """A copy of the tensor in a buffer that the caller may write to."""
        ...

    def owns(self, tensor: Tensor) -> bool:
        """Whether the tensor's own buffer may be written to: nothing else needs its elements."""
        ...

    def new(self, shape: Sequence[Extent], dtype: np.dtype[Any], output: int = 0) -> Stored:
        """A new uninitialised buffer, for the result of that number."""
        ...

    def registers(self, values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> Registers:
        """A tensor of SSA values given as an object array."""
        ...

    def fill(self, target: Stored, source: Tensor) -> None:
        """Stores every element of `source` in `target`, which nothing in `source` may read."""
        ...

    def for_each(
        self,
        shape: Sequence[Extent],
        body: Callable[[Index], None],
        independent: bool = False,
        cost: float = 1.0,
    ) -> None:
        """Runs `body` for each index of a shape, in loops.

        Args:
            shape: extents.
            body: given the index.
            independent: no two indices touch the same memory; else they run in row-major order.
            cost: operations of `body`, as far as is known; what is long is not unrolled.
        """
        ...

    def for_each_apart(self, shape: Sequence[Extent], body: Callable[[Index], None]) -> None:
        """Runs `body`, which may call libraries, for each index of a shape, on several threads.

        Args:
            shape: extents.
            body: given the index; no two indices touch the same memory.
        """
        ...

    def inline(
        self,
        program: Program,
        operands: Sequence[Tensor],
        in_place: Mapping[int, Sequence[tuple[Any, Stored]]] = NOTHING,
        targets: Mapping[Any, Stored] = NOTHING,
    ) -> list[Tensor]:
        """Lowers a nested program's equations in place.

        Args:
            program: its inputs correspond to the operands.
            operands: tensors of the shapes and dtypes of the inputs.
            in_place: by identity of an equation, each `Overwrite` and the tensor it overwrites.
            targets: buffers in which some of its variables should end up.
        """
        ...

    def callback(self, function: tuple[Any, Any, Any]) -> int:
        """The number by which generated code calls a Python function.

        Args:
            function: takes a list of NumPy arrays and returns a sequence of them; then shape and
                dtype of each operand; then shape, dtype and weak type of each result.
        """
        ...


class InPlace:
    """A lowering in which some tensors may be overwritten instead of copied.

    Args:
        b: the lowering.
        own: the tensors.
    """

    def __init__(self, b: Lowering, *own: Stored | Row) -> None:
        self._b = b
        self._own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._b, name)

    def owns(self, tensor: Tensor) -> bool:
        """See `Lowering.owns`."""
        return any([tensor is own for own in self._own])

    def update_in_place(self, tensor: Tensor) -> Tensor:
        """One of its tensors itself, a copy of others."""
        return tensor if self.owns(tensor) else self._b.update_in_place(tensor)
