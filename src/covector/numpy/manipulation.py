"""Changing the shape of arrays and the order of their axes."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from covector.core.errors import compose
from covector.core.source import here
from covector.numpy import promote
from covector.numpy.creation import asarray
from covector.numpy.promote import operand
from covector.numpy.reductions import axes_of, one_axis
from covector.ops import elementwise as el
from covector.ops import shape as sh

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_arrays",
    "broadcast_shapes",
    "broadcast_to",
    "copy",
    "expand_dims",
    "flip",
    "fliplr",
    "flipud",
    "matrix_transpose",
    "moveaxis",
    "permute_dims",
    "ravel",
    "reshape",
    "rollaxis",
    "rot90",
    "squeeze",
    "swapaxes",
    "transpose",
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
    unknown = [i for i, s in enumerate(sizes) if isinstance(s, int) and s < 0]
    total = a.aval.size
    if unknown and (len(unknown) > 1 or sizes[unknown[0]] != -1):
        raise ValueError(f"reshape: one entry of a shape may be -1, no other negative: got {sizes}")
    if unknown:
        others = math.prod([s for i, s in enumerate(sizes) if i != unknown[0]])
        if others != 0 and total % others == 0:
            sizes = (*sizes[: unknown[0]], total // others, *sizes[unknown[0] + 1 :])
    if math.prod(sizes) != total or -1 in sizes:
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


def matrix_transpose(x: Any, /) -> Any:
    """The last two axes exchanged."""
    x = operand(x, "matrix_transpose")
    if x.ndim < 2:
        raise ValueError(f"matrix_transpose needs at least two axes, got {x.aval}")
    return swapaxes(x, -1, -2)


def copy(a: Any, order: str | None = None) -> Any:
    """The same array.

    Args:
        a: an array, or what `asarray` converts.
        order: "C" or "K".
    """
    return el.copy(asarray(a, order=order))


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


def atleast_1d(*arys: Any) -> Any:
    """Arrays with at least one axis."""
    found = [a if (a := operand(x, "atleast_1d")).ndim else reshape(a, (1,)) for x in arys]
    return found[0] if len(found) == 1 else found


def atleast_2d(*arys: Any) -> Any:
    """Arrays with at least two axes, new ones in front."""
    found = [at_least_2d(operand(x, "atleast_2d")) for x in arys]
    return found[0] if len(found) == 1 else found


def at_least_2d(a: Any) -> Any:
    missing = 2 - a.ndim
    return a if missing <= 0 else reshape(a, (1,) * missing + tuple(a.shape))


def atleast_3d(*arys: Any) -> Any:
    """Arrays with at least three axes."""
    found: list[Any] = []
    for x in arys:
        a = at_least_2d(operand(x, "atleast_3d")) if getattr(x, "ndim", 0) < 1 else operand(x, "")
        if a.ndim == 1:
            a = reshape(a, (1, -1, 1))
        elif a.ndim == 2:
            a = expand_dims(a, 2)
        found.append(a)
    return found[0] if len(found) == 1 else found


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
