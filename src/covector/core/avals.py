"""Abstract values: what tracing knows of an array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from covector.core import dtypes
from covector.core.dims import Dim

if TYPE_CHECKING:
    from collections.abc import Sequence

Shape = tuple[int | Dim, ...]

_FLOAT0 = np.dtype([("float0", np.void, 0)])


class Aval:
    """Shape, dtype and weak type of an array.

    Args:
        shape: one `int` or symbolic `Dim` for each axis.
        dtype: a `numpy.dtype`, or a `KeyDType` for PRNG keys.
        weak_type: whether the dtype came from a Python scalar and gives way in promotion.
    """

    __slots__ = ("_hash", "dtype", "shape", "weak_type")

    def __init__(self, shape: Sequence[int | Dim], dtype: Any, weak_type: bool = False) -> None:
        self.shape: Shape = tuple(shape)
        self.dtype: Any = dtype
        self.weak_type: bool = weak_type
        self._hash = hash((self.shape, dtype, weak_type))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Any:
        """Number of elements: an `int`, or a `Dim` where an axis is symbolic."""
        size: Any = 1
        for extent in self.shape:
            size = size * extent
        return size

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Aval)
            and self._hash == other._hash
            and self.shape == other.shape
            and self.dtype == other.dtype
            and self.weak_type == other.weak_type
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        mark = "~" if self.weak_type else ""
        extents = ",".join(map(str, self.shape))
        return f"{mark}{dtypes.short_name(self.dtype)}[{extents}]"

    def strong(self) -> Aval:
        """The same aval without the weak type."""
        return Aval(self.shape, self.dtype) if self.weak_type else self

    def tangent(self) -> Aval:
        """The aval of tangents and cotangents: float0 where there is no derivative."""
        if dtypes.is_inexact(self.dtype):
            return self.strong()
        return Aval(self.shape, _FLOAT0)

    def update(self, shape: Sequence[int | Dim] | None = None, dtype: Any = None) -> Aval:
        """A copy with another shape or dtype; a new dtype is never weak."""
        return Aval(
            self.shape if shape is None else shape,
            self.dtype if dtype is None else dtype,
            self.weak_type if dtype is None else False,
        )


def same_type(a: Aval, b: Aval) -> bool:
    """Equal shape and dtype, whatever the weak types."""
    return a.shape == b.shape and a.dtype == b.dtype


class Zero:
    """A symbolic zero tangent or cotangent: known to vanish, never stored."""

    __slots__ = ("aval",)

    def __init__(self, aval: Aval) -> None:
        self.aval = aval

    def __repr__(self) -> str:
        return f"Zero({self.aval})"


class Linear:
    """Stands for a linear operand in a transpose rule: its value is not known, its aval is."""

    __slots__ = ("aval",)

    def __init__(self, aval: Aval) -> None:
        self.aval = aval

    def __repr__(self) -> str:
        return f"Linear({self.aval})"
