"""Joining arrays, cutting them in parts, repeating and shifting their elements."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from covector.core import dtypes
from covector.core.array import Array
from covector.core.errors import ConcretizationTypeError, compose
from covector.core.source import here
from covector.core.trace import Tracer
from covector.numpy import promote
from covector.numpy.creation import asarray
from covector.numpy.manipulation import (
    at_least_2d,
    atleast_1d,
    atleast_3d,
    expand_dims,
    ravel,
    reshape,
)
from covector.numpy.promote import convert, operand, promote_dtypes, whole_numbers
from covector.numpy.reductions import no_out, one_axis
from covector.ops import pieces
from covector.ops import shape as sh
from covector.ops.slices import slice_in_dim

__all__ = [
    "append",
    "array_split",
    "column_stack",
    "concat",
    "concatenate",
    "dsplit",
    "dstack",
    "hsplit",
    "hstack",
    "repeat",
    "roll",
    "split",
    "stack",
    "tile",
    "unstack",
    "vsplit",
    "vstack",
]

# --- joining ------------------------------------------------------------------------------------


def _parts(name: str, arrays: Any) -> list[Any]:
    """What to join: the entries of a sequence, or of an array along its first axis."""
    if isinstance(arrays, (Array, Tracer, np.ndarray)):
        arrays = unstack(arrays)
    parts = [operand(a, name) for a in arrays]
    if not parts:
        raise ValueError(f"{name} needs at least one array")
    return parts


def _in_one_dtype(parts: list[Any], dtype: Any) -> list[Any]:
    if dtype is None:
        return promote_dtypes(*parts)
    target = dtypes.requested(dtype, "concatenate")
    return [convert(p, target) for p in parts]


def concatenate(arrays: Any, axis: int | None = 0, dtype: Any = None) -> Any:
    """Arrays joined along an existing axis.

    Args:
        arrays: a sequence of arrays that differ in size along the axis only.
        axis: along which; `None` joins flattened arrays.
        dtype: of the result, by default the one in which theirs meet.

    >>> import covector.numpy as cnp
    >>> cnp.concatenate([cnp.arange(2), cnp.arange(3)])
    Array([0, 1, 0, 1, 2], dtype=int32)
    """
    parts = _parts("concatenate", arrays)
    if axis is None:
        parts, axis = [ravel(p) for p in parts], 0
    if parts[0].ndim == 0:
        raise ValueError("concatenate: arrays without axes cannot be joined; use stack")
    parts = _in_one_dtype(parts, dtype)
    place = one_axis("concatenate", axis, parts[0].ndim)
    return parts[0] if len(parts) == 1 else pieces.concatenate(*parts, dimension=place)


def concat(arrays: Any, /, *, axis: int | None = 0) -> Any:
    """Arrays joined along an existing axis (the array API's name for `concatenate`)."""
    return concatenate(arrays, axis)


def stack(arrays: Any, axis: int = 0, out: None = None, dtype: Any = None) -> Any:
    """Arrays of one shape joined along a new axis.

    Args:
        arrays: a sequence of arrays.
        axis: where the new axis goes.
        out: must be `None`.
        dtype: of the result, by default the one in which theirs meet.
    """
    no_out("stack", out)
    parts = _parts("stack", arrays)
    shapes = {tuple(p.shape) for p in parts}
    if len(shapes) != 1:
        raise ValueError(f"stack needs arrays of one shape, got {sorted(shapes)}")
    parts = _in_one_dtype(parts, dtype)
    place = one_axis("stack", axis, parts[0].ndim + 1)
    return pieces.stack(*parts, axis=place)


def vstack(tup: Any, dtype: Any = None) -> Any:
    """Arrays joined along the first axis, vectors as rows."""
    return concatenate([at_least_2d(a) for a in _parts("vstack", tup)], 0, dtype)


def hstack(tup: Any, dtype: Any = None) -> Any:
    """Arrays joined along the second axis, vectors along their only one."""
    parts = [atleast_1d(a) for a in _parts("hstack", tup)]
    return concatenate(parts, 0 if parts[0].ndim == 1 else 1, dtype)


def dstack(tup: Any, dtype: Any = None) -> Any:
    """Arrays joined along the third axis."""
    return concatenate([atleast_3d(a) for a in _parts("dstack", tup)], 2, dtype)


def column_stack(tup: Any) -> Any:
    """Vectors as columns, matrices as they are, side by side."""
    parts = _parts("column_stack", tup)
    return concatenate([reshape(p, (-1, 1)) if p.ndim < 2 else p for p in parts], 1)


def append(arr: Any, values: Any, axis: int | None = None) -> Any:
    """Values put behind an array.

    Args:
        arr: an array.
        values: another.
        axis: along which to join them; `None` joins flattened arrays.
    """
    return concatenate([operand(arr, "append"), operand(values, "append")], axis)


# --- cutting ------------------------------------------------------------------------------------


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    """The parts of an array along an axis, without it."""
    x = operand(x, "unstack")
    if x.ndim == 0:
        raise ValueError("unstack needs an array with at least one axis")
    place = one_axis("unstack", axis, x.ndim)
    return tuple(pieces.unstack(x, axis=place)) if x.shape[place] else ()


def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """An array cut along an axis, into nearly equal parts if need be; see `split`."""
    return _split("array_split", ary, indices_or_sections, axis, False)


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """An array cut along an axis.

    Args:
        ary: an array.
        indices_or_sections: into how many equal parts, or before which positions.
        axis: along which.
    """
    return _split("split", ary, indices_or_sections, axis, True)


def hsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """An array cut along its second axis, or its only one; see `split`."""
    x = operand(ary, "hsplit")
    return _split("hsplit", x, indices_or_sections, 0 if x.ndim == 1 else 1, True)


def vsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """An array cut along its first axis; see `split`."""
    return _split("vsplit", ary, indices_or_sections, 0, True)


def dsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """An array cut along its third axis; see `split`."""
    return _split("dsplit", ary, indices_or_sections, 2, True)


def _split(name: str, ary: Any, sections: Any, axis: int, equal: bool) -> list[Any]:
    x = operand(ary, name)
    place = one_axis(name, axis, x.ndim)
    size: int = x.shape[place]
    if np.ndim(sections) == 0:
        count = operator.index(sections)
        if count <= 0 or (equal and size % count):
            raise ValueError(f"{name}: an axis of size {size} cannot be cut in {count} equal parts")
        each, extra = divmod(size, count)
        bounds = [0, *itertools.accumulate([each + (k < extra) for k in range(count)])]
    else:
        places = [operator.index(i) for i in sections]
        bounds = [0, *[min(max(i if i >= 0 else size + i, 0), size) for i in places], size]
    return [slice_in_dim(x, low, max(high, low), place) for low, high in itertools.pairwise(bounds)]


# --- repeating and shifting ---------------------------------------------------------------------


def tile(A: Any, reps: Any) -> Any:
    """An array repeated as a whole along each axis.

    Args:
        A: an array.
        reps: how often along each axis, or along the last one.
    """
    x = operand(A, "tile")
    counts = (reps,) if isinstance(reps, int) else tuple([operator.index(n) for n in reps])
    rank = max(len(counts), x.ndim)
    counts = (1,) * (rank - len(counts)) + counts
    x = reshape(x, (1,) * (rank - x.ndim) + tuple(x.shape))
    return pieces.tile(x, reps=counts)


def repeat(
    a: Any, repeats: Any, axis: int | None = None, *, total_repeat_length: int | None = None
) -> Any:
    """Each element repeated.

    Args:
        a: an array.
        repeats: how often: one int, or one for each element along the axis.
        axis: along which; the flattened array by default.
        total_repeat_length: the size of the result along the axis; needed for traced `repeats`.
            What goes beyond it is left out, what is missing filled with the last element.

    >>> import covector.numpy as cnp
    >>> cnp.repeat(cnp.arange(3), cnp.array([2, 0, 1]))
    Array([0, 0, 2], dtype=int32)
    """
    x = operand(a, "repeat")
    if axis is None:
        x, axis = ravel(x), 0
    x = atleast_1d(x)
    place = one_axis("repeat", axis, x.ndim)
    size = x.shape[place]
    if np.ndim(repeats) == 0 and total_repeat_length is None and not isinstance(repeats, Tracer):
        return _repeated_alike(x, operator.index(repeats), place)
    counts = asarray(repeats)
    if counts.ndim > 1 or (counts.ndim == 1 and counts.shape[0] not in (1, size)):
        raise ValueError(f"repeat: one count for each of {size} elements is needed: {counts.aval}")
    counts = promote.broadcast_to(counts, (size,))
    known = counts.concrete()
    if total_repeat_length is not None:
        return _repeated_to(x, counts, place, operator.index(total_repeat_length))
    if known is None:
        raise ConcretizationTypeError(
            compose(
                "repeat needs to know how often while tracing, as it gives the size of the result",
                found=f"a traced value {counts.aval} of {counts._trace.name}",
                fix="give total_repeat_length",
                line=here(),
            )
        )
    return _taken(x, np.repeat(whole_numbers(size), np.asarray(known)), place)


def _repeated_alike(x: Any, count: int, axis: int) -> Any:
    before, size, behind = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    spread = promote.broadcast_to(expand_dims(x, axis + 1), (*before, size, count, *behind))
    return reshape(spread, (*before, size * count, *behind))


def _repeated_to(x: Any, counts: Any, axis: int, total: int) -> Any:
    from covector.numpy.reductions import cumsum
    from covector.numpy.sorting import searchsorted

    ends = cumsum(counts)
    places = searchsorted(ends, sh.iota(dtype=ends.dtype, shape=(total,), dimension=0), "right")
    return _taken(x, places, axis)


def _taken(x: Any, places: Any, axis: int) -> Any:
    from covector.numpy.index_functions import take

    return take(x, places, axis=axis, mode="clip")


def roll(a: Any, shift: Any, axis: int | Sequence[int] | None = None) -> Any:
    """Elements shifted along axes, those pushed out coming back at the other end.

    Args:
        a: an array.
        shift: by how much; one for all axes, or one for each.
        axis: one axis or several; the flattened array by default.
    """
    x = operand(a, "roll")
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), x.shape)
    axes = [axis] if isinstance(axis, int) else list(axis)
    for by, one in zip(_shifts(shift, len(axes)), axes, strict=True):
        x = _roll_one(x, by, one_axis("roll", one, x.ndim))
    return x


def _shifts(shift: Any, count: int) -> list[Any]:
    """A shift for each axis."""
    if isinstance(shift, (tuple, list)):
        given = list(cast("Sequence[Any]", shift))
    elif getattr(shift, "ndim", 0):
        given = list(unstack(shift))
    else:
        given = [shift]
    if len(given) not in (1, count):
        raise ValueError(f"roll: {count} axes need one shift or as many, got {len(given)}")
    return given * count if len(given) == 1 else given


def _roll_one(x: Any, shift: Any, axis: int) -> Any:
    size = x.shape[axis]
    if size == 0:
        return x
    known = shift.concrete() if isinstance(shift, Tracer) else shift
    if known is None:
        from covector.numpy.creation import arange

        return _taken(x, (arange(size) - shift) % size, axis)
    by = int(known) % size
    if by == 0:
        return x
    head, tail = slice_in_dim(x, 0, size - by, axis), slice_in_dim(x, size - by, size, axis)
    return pieces.concatenate(tail, head, dimension=axis)
