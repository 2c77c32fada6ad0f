"""Scalar values of the loop IR, and the buffers that hold arrays of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = [
    "ARGUMENT",
    "BOOL",
    "CONSTANT",
    "HEAP",
    "INDEX",
    "PRIVATE",
    "READ_ONLY",
    "RESULT",
    "SPACES",
    "WORKSPACE",
    "Buffer",
    "CallInLanes",
    "ComplexValue",
    "DType",
    "Extent",
    "LoopIRError",
    "Scalar",
    "SizeInBlock",
    "Value",
    "component",
]

DType = np.dtype[Any]

BOOL: DType = np.dtype(np.bool_)
INDEX: DType = np.dtype(np.int64)

ARGUMENT = "argument"
RESULT = "result"
CONSTANT = "constant"
WORKSPACE = "workspace"
HEAP = "heap"
PRIVATE = "private"
SPACES = (ARGUMENT, RESULT, CONSTANT, WORKSPACE, HEAP, PRIVATE)
READ_ONLY = frozenset({ARGUMENT, CONSTANT})


class LoopIRError(ValueError):
    """A lowering built loop IR that makes no sense; the text names the operation."""


class SizeInBlock(LoopIRError):
    """The size of an array is computed in a loop or branch, where it is too late to allocate it."""


class CallInLanes(LoopIRError):
    """A lowering called a function without a vector form in a loop over lanes.

    Attributes:
        equation: the equation that was lowered, if it is known.
    """

    equation: Any = None


class Value:
    """One scalar: an operation applied to values, a load, a constant, or a parameter of a block.

    Attributes:
        op: name in the table of `scalars`, or one of "const", "load", "call", "dim", "parameter",
            "index" (of a loop) and "result" (of a statement).
        args: the operands.
        attr: what the operation needs besides: the target dtype of a conversion, the buffer of a
            load, the Python number of a constant, the (lowest, highest) of an index.
        dtype: element type.
        id: number within its function.
        depth: nesting depth of the block that holds it; 0 is the function's own.
    """

    __slots__ = ("args", "attr", "depth", "dtype", "id", "op")

    def __init__(
        self, op: str, args: tuple[Value, ...], attr: Any, dtype: DType, number: int, depth: int
    ) -> None:
        self.op = op
        self.args = args
        self.attr = attr
        self.dtype = dtype
        self.id = number
        self.depth = depth

    def __repr__(self) -> str:
        if self.op == "const":
            return f"<const {self.attr!r}: {self.dtype.name}>"
        return f"<%{self.id} = {self.op}: {self.dtype.name}>"


class ComplexValue:
    """A complex number as two values of the component type."""

    __slots__ = ("depth", "dtype", "im", "re")

    op = "complex"

    def __init__(self, re: Value, im: Value, dtype: DType) -> None:
        self.re = re
        self.im = im
        self.dtype = dtype
        self.depth = max(re.depth, im.depth)

    def __repr__(self) -> str:
        return f"<complex {self.re!r} {self.im!r}>"


Scalar = Value | ComplexValue
Extent = int | Value

_COMPONENT: dict[DType, DType] = {
    np.dtype(np.complex64): np.dtype(np.float32),
    np.dtype(np.complex128): np.dtype(np.float64),
}


def component(dtype: DType) -> DType:
    """The dtype of a component: that of the parts of complex numbers, else the dtype itself."""
    return _COMPONENT.get(dtype, dtype)


class Buffer:
    """Storage for an array, row-major and contiguous.

    Offsets of loads and stores count elements of `element`: a complex buffer holds twice as many
    real components.

    Attributes:
        name: for people; unique within a function.
        dtype: element type as the program sees it.
        element: the scalar dtype in memory (the component type of complex buffers).
        shape: extents; an `int`, or an index value for a size known at run time only.
        space: one of `SPACES`. "heap" buffers are allocated at entry through the context; each
            thread that runs a parallel loop has its own "private" ones.
        index: position among the arguments, results or constants.
        offset: byte offset in the workspace or in private memory, set by the memory planner.
        alias_class: buffers of one class may overlap in memory; `None` is a class of its own.
        strides: how many elements of `dtype` apart neighbours are along each axis; those along the
            first may be further apart than they need to be.
        lane: for a buffer with an array for each lane of a loop, the lane: the array's elements
            are as far apart as there are lanes, `shape` has the lanes as one more axis at the end.
        version: counts stores while building, so that loads are merged only between stores.
        data: the elements of a constant, where the builder may look at them.
        origin: what the builder was told it builds when the buffer was made, for error messages.
        reason: why an array is in memory that need not be, for people.
    """

    __slots__ = (
        "alias_class",
        "data",
        "dtype",
        "element",
        "index",
        "lane",
        "name",
        "offset",
        "origin",
        "reason",
        "shape",
        "space",
        "strides",
        "version",
    )

    def __init__(
        self,
        name: str,
        dtype: DType,
        shape: Sequence[Extent],
        space: str,
        index: int = 0,
        strides: Sequence[Extent] | None = None,
    ) -> None:
        if space not in SPACES:
            raise LoopIRError(f"buffer {name!r}: unknown space {space!r}, not one of {SPACES}")
        self.name = name
        self.dtype = dtype
        self.element = component(dtype)
        self.shape = tuple(shape)
        self.space = space
        self.index = index
        self.offset: int | None = None
        self.alias_class: object | None = None
        self.strides: tuple[Extent, ...] = tuple(strides) if strides is not None else ()
        self.lane: Value | None = None
        self.version = 0
        self.origin: object = None
        self.reason = ""
        self.data: Any = None

    @property
    def size(self) -> int | None:
        """How many elements of `element`; `None` if known at run time only."""
        total = 2 if self.element is not self.dtype else 1
        for extent in self.shape:
            if not isinstance(extent, int):
                return None
            total *= extent
        if self.strides and self.lane is None:
            first, apart = self.shape[0], self.strides[0]
            assert isinstance(first, int)
            assert isinstance(apart, int)
            return max(total, first * apart * (2 if self.element is not self.dtype else 1))
        return total

    @property
    def nbytes(self) -> int | None:
        """Size in bytes; `None` if known at run time only."""
        size = self.size
        return None if size is None else size * self.element.itemsize

    def __repr__(self) -> str:
        return f"<{self.space} {self.name}>"
