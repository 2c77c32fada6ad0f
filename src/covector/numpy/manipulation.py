"""Changing the shape and order of arrays, joining and splitting them."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any, cast

from covector.core.errors import compose
from covector.core.source import here
from covector.numpy import promote
from covector.numpy.creation import asarray
from covector.numpy.promote import convert, operand, promote_dtypes
from covector.numpy.reductions import axes_of, one_axis
from covector.ops import pieces
from covector.ops import shape as sh
from covector.ops.slices import slice_

__all__ = [
    "append",
    "array_split",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_arrays",
    "broadcast_shapes",
    "broadcast_to",
    "column_stack",
    "concatenate",
    "dstack",
    "expand_dims",
    "flip",
    "fliplr",
    "flipud",
    "hstack",
    "moveaxis",
    "permute_dims",
    "ravel",
    "repeat",
    "reshape",
    "roll",
    "rollaxis",
    "rot90",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "tile",
    "transpose",
    "vstack",
]


def _sizes(shape: Any) -> tuple[Any, ...]:
    if isinstance(shape, int):
        return (shape,)
    try:
        return tuple([s if hasattr(s, "evaluate") else operator.index(s) for s in shape])
    except TypeError:
        return (operator.index(shape),)


def reshape(a: Any, shape: Any, order: str = "C", *, copy: bool | None = None) -> Any:
    """The same elements in another shape.

    Args:
        a: an array.
        shape: the new shape; one entry may be -1, which is found from the others.
        order: "C", the last axis fastest, or "F", the first.
        copy: has no meaning for immutable arrays.

    Raises:
        TypeError: if the number of elements differs.
    """
    a = operand(a, "reshape")
    sizes = _inferred(a, _sizes(shape))
    if order == "F":
        flipped = transpose(a)
        back = sh.reshape(flipped, new_sizes=sizes[::-1], dimensions=None)
        return transpose(back)
    if order not in ("C", "A"):
        raise ValueError(f"reshape: order={order!r} is not supported, use 'C' or 'F'")
    if sizes == a.aval.shape:
        return a
    return sh.reshape(a, new_sizes=sizes, dimensions=None)


def _inferred(a: Any, sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """The shape with -1 replaced."""
    unknown = [i for i, s in enumerate(sizes) if isinstance(s, int) and s == -1]
    total = a.aval.size
    if len(unknown) == 1:
        others = math.prod([s for i, s in enumerate(sizes) if i != unknown[0]])
        if others != 0 and total % others == 0:
            sizes = (*sizes[: unknown[0]], total // others, *sizes[unknown[0] + 1 :])
    elif len(unknown) > 1:
        raise ValueError(f"reshape: only one entry of a shape may be -1, got {sizes}")
    if math.prod(sizes) != total:
        raise TypeError(
            compose(
                f"reshape needs a shape of {total} elements",
                found=f"{sizes} for an array {a.aval}",
                line=here(),
            )
        )
    return sizes


def ravel(a: Any, order: str = "C") -> Any:
    """All elements along one axis."""
    return reshape(a, (-1,) if operand(a, "ravel").size != 0 else (0,), order)


def transpose(a: Any, axes: Sequence[int] | None = None) -> Any:
    """Axes permuted, reversed by default."""
    a = operand(a, "transpose")
    ndim = a.aval.ndim
    order = tuple(range(ndim))[::-1] if axes is None else tuple(axes)
    if sorted(x % ndim if -ndim <= x < ndim else -1 for x in order) != list(range(ndim)):
        raise ValueError(f"transpose: axes {order} are not a permutation of {ndim} axes")
    order = tuple(x % ndim for x in order)
    return a if order == tuple(range(ndim)) else sh.transpose(a, permutation=order)


def permute_dims(a: Any, axes: Sequence[int]) -> Any:
    """Axes permuted (the array API's name for `transpose`)."""
    return transpose(a, axes)


def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    """Two axes exchanged."""
    a = operand(a, "swapaxes")
    first, second = (one_axis("swapaxes", x, a.aval.ndim) for x in (axis1, axis2))
    order = list(range(a.aval.ndim))
    order[first], order[second] = order[second], order[first]
    return transpose(a, order)


def moveaxis(a: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Any:
    """Axes moved to other positions, the others keeping their order."""
    a = operand(a, "moveaxis")
    ndim = a.aval.ndim
    sources = [source] if isinstance(source, int) else list(source)
    targets = [destination] if isinstance(destination, int) else list(destination)
    if len(sources) != len(targets):
        raise ValueError(f"moveaxis: {len(sources)} axes cannot go to {len(targets)} positions")
    moved = [one_axis("moveaxis", x, ndim) for x in sources]
    places = [one_axis("moveaxis", x, ndim) for x in targets]
    order = [i for i in range(ndim) if i not in moved]
    for place, axis in sorted(zip(places, moved, strict=True)):
        order.insert(place, axis)
    return transpose(a, order)


def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    """One axis moved in front of another position."""
    a = operand(a, "rollaxis")
    axis = one_axis("rollaxis", axis, a.aval.ndim)
    start = start + a.aval.ndim if start < 0 else start
    return moveaxis(a, axis, start - 1 if start > axis else start)


def expand_dims(a: Any, axis: int | Sequence[int]) -> Any:
    """Axes of size 1 put in."""
    a = operand(a, "expand_dims")
    count = 1 if isinstance(axis, int) else len(axis)
    places = axes_of("expand_dims", axis, a.aval.ndim + count)
    sizes = list(a.aval.shape)
    for place in places:
        sizes.insert(place, 1)
    return sh.reshape(a, new_sizes=tuple(sizes), dimensions=None)


def squeeze(a: Any, axis: int | Sequence[int] | None = None) -> Any:
    """Axes of size 1 dropped, all of them by default."""
    a = operand(a, "squeeze")
    shape = a.aval.shape
    if axis is None:
        places = tuple([i for i, s in enumerate(shape) if s == 1])
    else:
        places = axes_of("squeeze", axis, a.aval.ndim)
    for place in places:
        if shape[place] != 1:
            raise ValueError(f"squeeze: axis {place} of {a.aval} has size {shape[place]}, not 1")
    return sh.squeeze(a, dimensions=places) if places else a


def broadcast_to(array: Any, shape: Any) -> Any:
    """An array repeated to a shape, by NumPy's rules."""
    array = operand(array, "broadcast_to")
    sizes = _sizes(shape)
    if promote.broadcast_shapes("broadcast_to", array.aval.shape, sizes) != sizes:
        raise ValueError(f"broadcast_to: {array.aval} does not broadcast to {sizes}")
    return promote.broadcast_to(array, sizes)


def broadcast_shapes(*shapes: Any) -> tuple[Any, ...]:
    """The shape that shapes broadcast to."""
    return promote.broadcast_shapes("broadcast_shapes", *[_sizes(s) for s in shapes])


def broadcast_arrays(*args: Any) -> list[Any]:
    """Arrays repeated to their common shape."""
    arrays = [operand(a, "broadcast_arrays") for a in args]
    if not arrays:
        return []
    shape = promote.broadcast_shapes("broadcast_arrays", *[a.aval.shape for a in arrays])
    return [promote.broadcast_to(a, shape) for a in arrays]


def concatenate(arrays: Any, axis: int | None = 0, dtype: Any = None) -> Any:
    """Arrays joined along an existing axis; flattened first for `None`."""
    parts = [operand(a, "concatenate") for a in arrays]
    if not parts:
        raise ValueError("concatenate needs at least one array")
    if axis is None:
        parts, axis = [ravel(p) for p in parts], 0
    if parts[0].aval.ndim == 0:
        raise ValueError("concatenate: 0-d arrays cannot be joined; use stack")
    parts = _in_one_dtype(parts, dtype)
    place = one_axis("concatenate", axis, parts[0].aval.ndim)
    return parts[0] if len(parts) == 1 else pieces.concatenate(*parts, dimension=place)


def _in_one_dtype(parts: list[Any], dtype: Any) -> list[Any]:
    if dtype is not None:
        from covector.core import dtypes

        target = dtypes.requested(dtype)
        return [convert(p, target) for p in parts]
    return promote_dtypes(*parts)


def stack(arrays: Any, axis: int = 0, out: None = None, dtype: Any = None) -> Any:
    """Arrays of one shape joined along a new axis."""
    if out is not None:
        raise NotImplementedError("stack: out= is not supported, arrays are immutable")
    parts = [operand(a, "stack") for a in arrays]
    if not parts:
        raise ValueError("stack needs at least one array")
    shapes = {tuple(p.aval.shape) for p in parts}
    if len(shapes) != 1:
        raise ValueError(f"stack needs arrays of one shape, got {sorted(shapes)}")
    parts = _in_one_dtype(parts, dtype)
    place = one_axis("stack", axis, parts[0].aval.ndim + 1)
    return pieces.stack(*parts, axis=place)


def atleast_1d(*arys: Any) -> Any:
    """Arrays with at least one axis."""
    found = [a if (a := operand(x, "atleast_1d")).ndim else reshape(a, (1,)) for x in arys]
    return found[0] if len(found) == 1 else found


def atleast_2d(*arys: Any) -> Any:
    """Arrays with at least two axes, new ones in front."""
    found = [_at_least_2d(operand(x, "atleast_2d")) for x in arys]
    return found[0] if len(found) == 1 else found


def _at_least_2d(a: Any) -> Any:
    missing = 2 - a.ndim
    return a if missing <= 0 else reshape(a, (1,) * missing + tuple(a.shape))


def atleast_3d(*arys: Any) -> Any:
    """Arrays with at least three axes."""
    found: list[Any] = []
    for x in arys:
        a = _at_least_2d(operand(x, "atleast_3d")) if getattr(x, "ndim", 0) < 1 else operand(x, "")
        if a.ndim == 1:
            a = reshape(a, (1, -1, 1))
        elif a.ndim == 2:
            a = expand_dims(a, 2)
        found.append(a)
    return found[0] if len(found) == 1 else found


def vstack(tup: Any, dtype: Any = None) -> Any:
    """Arrays joined along the first axis, vectors as rows."""
    return concatenate([_at_least_2d(operand(a, "vstack")) for a in tup], 0, dtype)


def hstack(tup: Any, dtype: Any = None) -> Any:
    """Arrays joined along the second axis, vectors along their only one."""
    parts = [atleast_1d(a) for a in tup]
    return concatenate(parts, 0 if parts[0].ndim == 1 else 1, dtype)


def dstack(tup: Any, dtype: Any = None) -> Any:
    """Arrays joined along the third axis."""
    return concatenate([atleast_3d(a) for a in tup], 2, dtype)


def column_stack(tup: Any) -> Any:
    """Vectors as columns, matrices as they are, side by side."""
    parts = [operand(a, "column_stack") for a in tup]
    return concatenate([reshape(p, (-1, 1)) if p.ndim < 2 else p for p in parts], 1)


def append(arr: Any, values: Any, axis: int | None = None) -> Any:
    """Values put behind an array."""
    return concatenate([asarray(arr), asarray(values)], axis)


def flip(m: Any, axis: int | Sequence[int] | None = None) -> Any:
    """Elements in reverse order along axes, all of them by default."""
    m = operand(m, "flip")
    return sh.rev(m, dimensions=axes_of("flip", axis, m.aval.ndim))


def fliplr(m: Any) -> Any:
    """Columns in reverse order."""
    return flip(m, 1)


def flipud(m: Any) -> Any:
    """Rows in reverse order."""
    return flip(m, 0)


def rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    """Rotates by 90 degrees `k` times in the plane of two axes."""
    first, second = axes
    k %= 4
    if k == 0:
        return operand(m, "rot90")
    if k == 2:
        return flip(m, (first, second))
    if k == 1:
        return swapaxes(flip(m, second), first, second)
    return flip(swapaxes(m, first, second), second)


def tile(A: Any, reps: int | Sequence[int]) -> Any:  # NumPy's name
    """An array repeated as a whole along each axis."""
    a = operand(A, "tile")
    counts = (reps,) if isinstance(reps, int) else tuple(reps)
    rank = max(len(counts), a.ndim)
    counts = (1,) * (rank - len(counts)) + counts
    a = reshape(a, (1,) * (rank - a.ndim) + tuple(a.shape))
    return pieces.tile(a, reps=counts)


def repeat(
    a: Any, repeats: Any, axis: int | None = None, *, total_repeat_length: Any = None
) -> Any:
    """Each element repeated.

    Args:
        a: an array.
        repeats: how often: one int, or an int for each element along the axis (known while
            tracing).
        axis: along which; the flattened array by default.
        total_repeat_length: the size of the result along the axis; must agree with `repeats`.
    """
    import numpy as np

    a = operand(a, "repeat")
    if axis is None:
        a, axis = ravel(a), 0
    place = one_axis("repeat", axis, a.ndim)
    counts = np.asarray(repeats)
    if counts.ndim == 0 or counts.size == 1:
        count = int(counts.reshape(-1)[0])
        spread = expand_dims(a, place + 1)
        sizes = (*a.shape[: place + 1], count, *a.shape[place + 1 :])
        joined = promote.broadcast_to(spread, sizes)
        result = reshape(joined, (*a.shape[:place], a.shape[place] * count, *a.shape[place + 1 :]))
    else:
        from covector.numpy.index_functions import take

        result = take(a, np.repeat(np.arange(cast("int", a.shape[place])), counts), axis=place)
    if total_repeat_length is not None and result.shape[place] != total_repeat_length:
        raise ValueError(
            f"repeat: total_repeat_length={total_repeat_length} but the repeats give "
            f"{result.shape[place]}"
        )
    return result


def roll(a: Any, shift: Any, axis: int | Sequence[int] | None = None) -> Any:
    """Elements shifted along axes, those pushed out coming back at the other end."""
    a = operand(a, "roll")
    if axis is None:
        return reshape(roll(ravel(a), shift, 0), a.shape)
    axes = [axis] if isinstance(axis, int) else list(axis)
    several = isinstance(shift, (tuple, list))
    shifts = list(cast("Sequence[Any]", shift)) if several else [shift] * len(axes)
    for by, one in zip(shifts, axes, strict=True):
        a = _roll_one(a, by, one_axis("roll", one, a.ndim))
    return a


def _roll_one(a: Any, shift: Any, axis: int) -> Any:
    size = a.shape[axis]
    if size == 0:
        return a
    from covector.core.trace import Tracer

    if isinstance(shift, Tracer) or getattr(shift, "ndim", 0):
        from covector.numpy.creation import arange
        from covector.numpy.index_functions import take

        return take(a, (arange(size) - shift) % size, axis=axis)
    by = int(shift) % size
    if by == 0:
        return a
    head, tail = _cut(a, axis, 0, size - by), _cut(a, axis, size - by, size)
    return pieces.concatenate(tail, head, dimension=axis)


def _cut(a: Any, axis: int, low: int, high: int) -> Any:
    starts, limits = [0] * a.ndim, list(a.shape)
    starts[axis], limits[axis] = low, high
    return slice_(a, start_indices=tuple(starts), limit_indices=tuple(limits), strides=None)


def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """An array cut along an axis, into nearly equal parts if need be."""
    return _split("array_split", ary, indices_or_sections, axis, False)


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """An array cut along an axis, into so many equal parts or at the given positions."""
    return _split("split", ary, indices_or_sections, axis, True)


def _split(name: str, ary: Any, sections: Any, axis: int, equal: bool) -> list[Any]:
    a = operand(ary, name)
    place = one_axis(name, axis, a.ndim)
    size = a.shape[place]
    if isinstance(sections, int):
        if equal and size % sections:
            raise ValueError(
                f"{name}: an axis of size {size} cannot be cut in {sections} equal parts"
            )
        each, extra = divmod(size, sections)
        bounds = [0]
        for k in range(sections):
            bounds.append(bounds[-1] + each + (k < extra))
    else:
        positions = [min(max(int(i) if i >= 0 else size + int(i), 0), size) for i in sections]
        bounds = [0, *positions, size]
    cut: list[Any] = []
    for low, high in itertools.pairwise(bounds):
        cut.append(_cut(a, place, low, max(high, low)))
    return cut
