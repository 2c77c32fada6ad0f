"""Functions that read by index: `take`, `nonzero`, triangles, diagonals, choices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from covector.core import dtypes
from covector.core.errors import NonConcreteBooleanIndexError, compose
from covector.core.source import here
from covector.numpy.creation import asarray
from covector.numpy.indexing import getitem
from covector.numpy.manipulation import reshape
from covector.numpy.promote import broadcast_to, constant, convert, operand
from covector.numpy.updates import At
from covector.ops import elementwise as el
from covector.ops import shape as sh

__all__ = [
    "argwhere",
    "choose",
    "compress",
    "diag",
    "diagflat",
    "diagonal",
    "flatnonzero",
    "nonzero",
    "ravel_multi_index",
    "select",
    "take",
    "take_along_axis",
    "tri",
    "tril",
    "triu",
    "unravel_index",
]


def take(
    a: Any,
    indices: Any,
    axis: int | None = None,
    out: None = None,
    mode: Any = None,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    fill_value: Any = None,
) -> Any:
    """Elements along an axis.

    Args:
        a: an array.
        indices: integers.
        axis: along which; the flattened array by default.
        out: must be `None`.
        mode: for indices outside: "fill" (NaN; the default), "clip", "wrap".
        unique_indices: a promise about the indices that nothing depends on.
        indices_are_sorted: likewise.
        fill_value: for mode "fill".
    """
    if out is not None:
        raise NotImplementedError("take: out= is not supported, arrays are immutable")
    x = operand(a, "take")
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    place: int = axis % x.ndim
    where_ = asarray(indices)
    if mode == "clip":
        # Unlike elsewhere, negative indices do not count from the end.
        last = max(x.shape[place] - 1, 0)
        where_ = el.clamp(constant(0, where_.dtype), where_, constant(last, where_.dtype))
    index: tuple[Any, ...] = (*[slice(None)] * place, where_)
    return getitem(x, index, "fill" if mode is None else mode, fill_value)


def take_along_axis(
    arr: Any, indices: Any, axis: int | None = -1, mode: Any = None, fill_value: Any = None
) -> Any:
    """Elements along one axis, at places that differ along the others.

    Args:
        arr: an array.
        indices: integers, with as many axes; others than `axis` broadcast.
        axis: along which; the flattened array for `None`.
        mode: for indices outside: "fill" (the default) or "clip".
        fill_value: for mode "fill".
    """
    x, where_ = operand(arr, "take_along_axis"), operand(indices, "take_along_axis")
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    if x.ndim != where_.ndim:
        raise ValueError(f"take_along_axis: {x.aval} and indices {where_.aval} differ in rank")
    axis = axis % x.ndim
    index: list[Any] = []
    for k in range(x.ndim):
        if k == axis:
            index.append(where_)
        else:
            extent = (
                1 if x.shape[k] == 1 else where_.shape[k] if where_.shape[k] != 1 else x.shape[k]
            )
            sizes = [1] * x.ndim
            sizes[k] = extent
            index.append(np.arange(extent).reshape(sizes))
    return getitem(x, tuple(index), "fill" if mode is None else mode, fill_value)


def nonzero(a: Any, *, size: int | None = None, fill_value: Any = None) -> tuple[Any, ...]:
    """Indices of the elements that are not zero, an array for each axis.

    Args:
        a: an array.
        size: how many to return; needed when the values are traced.
        fill_value: what to put for those missing, 0 by default; a number or one for each axis.
    """
    x = operand(a, "nonzero")
    if size is None:
        value = x.concrete()
        if value is None:
            raise NonConcreteBooleanIndexError(
                compose(
                    "nonzero needs values known while tracing, as they give the size of the result",
                    found=f"a traced value {x.aval} of {x._trace.name}",
                    fix="give size=",
                    line=here(),
                )
            )
        return tuple(
            asarray(k.astype(np.int64), dtypes.default_int()) for k in np.nonzero(np.asarray(value))
        )
    from covector.numpy.reductions import cumsum

    mask = reshape(el.ne(x, constant(0, x.dtype)) if x.dtype != dtypes.bool_ else x, (-1,))
    index_dtype = dtypes.default_int()
    rank = cumsum(convert(mask, index_dtype)) - 1
    place = el.select_n(mask, broadcast_to(constant(size, index_dtype), rank.shape), rank)
    count = rank[-1] + 1 if rank.shape[0] else constant(0, index_dtype)
    positions = sh.iota(dtype=index_dtype, shape=rank.shape, dimension=0)
    flat = At(broadcast_to(constant(0, index_dtype), (size,)))[place].set(positions)
    coordinates = unravel_index(flat, x.shape)
    valid = el.lt(sh.iota(dtype=index_dtype, shape=(size,), dimension=0), count)
    if isinstance(fill_value, tuple):
        fills = cast("tuple[Any, ...]", fill_value)
    else:
        fills = (fill_value or 0,) * x.ndim
    return tuple(
        el.select_n(valid, broadcast_to(convert(operand(f, "nonzero"), c.dtype), c.shape), c)
        for c, f in zip(coordinates, fills, strict=True)
    )


def flatnonzero(a: Any, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Indices of the elements of the flattened array that are not zero."""
    return nonzero(reshape(operand(a, "flatnonzero"), (-1,)), size=size, fill_value=fill_value)[0]


def argwhere(a: Any, *, size: int | None = None, fill_value: Any = None) -> Any:
    """Indices of the elements that are not zero, a row for each."""
    from covector.numpy.joining import stack

    return stack(nonzero(a, size=size, fill_value=fill_value), axis=1)


def unravel_index(indices: Any, shape: Any) -> tuple[Any, ...]:
    """Positions in a flattened array as indices along each axis.

    Args:
        indices: integers; negative ones count from the end, those outside are moved inside.
        shape: of the array.
    """
    from covector.numpy.elementwise import floor_divide, remainder, where
    from covector.numpy.rounding import clip

    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    total = math.prod(sizes)
    rest = operand(indices, "unravel_index")
    rest = clip(where(rest < 0, rest + total, rest), 0, max(total - 1, 0))
    coordinates: list[Any] = []
    for extent in reversed(sizes):
        coordinates.append(remainder(rest, extent))
        rest = floor_divide(rest, extent)
    return tuple(coordinates[::-1])


def ravel_multi_index(
    multi_index: Sequence[Any], dims: Sequence[int], mode: str = "raise", order: str = "C"
) -> Any:
    """Indices along each axis as positions in the flattened array.

    Args:
        multi_index: an integer array for each axis.
        dims: the shape.
        mode: "clip" or "wrap" for indices outside ("raise" needs values known while tracing).
        order: "C" or "F".
    """
    from covector.numpy.elementwise import remainder
    from covector.numpy.rounding import clip

    arrays = [operand(i, "ravel_multi_index") for i in multi_index]
    if mode == "raise":
        for values, extent in zip(arrays, dims, strict=True):
            value = values.concrete()
            if value is None:
                raise NonConcreteBooleanIndexError(
                    "ravel_multi_index: mode='raise' needs values known while tracing; "
                    "use mode='clip' or 'wrap'"
                )
            if np.any((np.asarray(value) < 0) | (np.asarray(value) >= extent)):
                raise ValueError("ravel_multi_index: an index is outside of its axis")
    elif mode == "clip":
        arrays = [clip(i, 0, n - 1) for i, n in zip(arrays, dims, strict=True)]
    else:
        arrays = [remainder(i, n) for i, n in zip(arrays, dims, strict=True)]
    pairs = list(zip(arrays, dims, strict=True))
    if order == "F":
        pairs.reverse()
    position: Any = 0
    for values, extent in pairs:
        position = position * extent + values
    return position


def _band(name: str, m: Any, k: int, lower: bool) -> Any:
    x = operand(m, name)
    if x.ndim < 2:
        raise ValueError(f"{name} needs an array with at least two axes, got {x.aval}")
    rows = sh.iota(dtype=dtypes.int32, shape=x.shape, dimension=x.ndim - 2)
    columns = sh.iota(dtype=dtypes.int32, shape=x.shape, dimension=x.ndim - 1)
    shifted = el.add(rows, constant(k, dtypes.int32))
    keep = el.ge(shifted, columns) if lower else el.le(shifted, columns)
    return el.select_n(keep, broadcast_to(constant(0, x.dtype), x.shape), x)


def tril(m: Any, k: int = 0) -> Any:
    """The lower triangle, zeros above diagonal `k`."""
    return _band("tril", m, k, True)


def triu(m: Any, k: int = 0) -> Any:
    """The upper triangle, zeros below diagonal `k`."""
    return _band("triu", m, k, False)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Any:
    """Ones on and below a diagonal, zeros above.

    Args:
        N: rows.
        M: columns, as many as rows by default.
        k: which diagonal, 0 the main one.
        dtype: floats by default.
    """
    target = dtypes.requested(float if dtype is None else dtype, "tri")
    return asarray(np.tri(N, M, k), target)


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The elements where two axes have indices that differ by `offset`, along a last axis."""
    from covector.numpy.manipulation import moveaxis

    x = moveaxis(operand(a, "diagonal"), (axis1, axis2), (-2, -1))
    rows, columns = x.shape[-2:]
    count = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    first = np.arange(count)
    return getitem(x, (..., first - min(offset, 0), first + max(offset, 0)))


def diag(v: Any, k: int = 0) -> Any:
    """The diagonal of a matrix, or the matrix with a vector on its diagonal."""
    x = operand(v, "diag")
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(f"diag needs a vector or a matrix, got {x.aval}")
    size = x.shape[0] + abs(k)
    where_: np.ndarray[Any, Any] = np.arange(cast("int", x.shape[0]))
    target = broadcast_to(constant(0, x.dtype), (size, size))
    return At(target)[where_ - min(k, 0), where_ + max(k, 0)].set(x)


def diagflat(v: Any, k: int = 0) -> Any:
    """The matrix with the elements of an array, flattened, on a diagonal."""
    return diag(reshape(operand(v, "diagflat"), (-1,)), k)


def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    """For each element, the choice of the first condition that holds."""
    from covector.numpy.elementwise import where

    if len(condlist) != len(choicelist) or not condlist:
        raise ValueError(
            f"select needs as many conditions as choices, at least one, got {len(condlist)} "
            f"and {len(choicelist)}"
        )
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = where(condition, choice, result)
    return result


def choose(a: Any, choices: Any, out: None = None, mode: str = "raise") -> Any:
    """For each element of `a`, the element of that choice.

    Args:
        a: integers.
        choices: arrays that broadcast together.
        out: must be `None`.
        mode: "clip" or "wrap" for numbers outside; "raise" needs values known while tracing.
    """
    from covector.numpy.elementwise import remainder
    from covector.numpy.joining import stack
    from covector.numpy.manipulation import broadcast_arrays
    from covector.numpy.rounding import clip

    if out is not None:
        raise NotImplementedError("choose: out= is not supported, arrays are immutable")
    which, *options = broadcast_arrays(a, *choices)
    count = len(options)
    if mode == "raise":
        value = which.concrete()
        if value is None or np.any((np.asarray(value) < 0) | (np.asarray(value) >= count)):
            raise ValueError("choose: an index is out of range, or traced; use mode='clip'")
    which = clip(which, 0, count - 1) if mode != "wrap" else remainder(which, count)
    return take_along_axis(stack(options), which[None], axis=0)[0]


def compress(
    condition: Any, a: Any, axis: int | None = None, *, size: int | None = None, fill_value: Any = 0
) -> Any:
    """The elements along an axis where a condition holds.

    Args:
        condition: a bool vector; traced ones need `size`.
        a: an array.
        axis: along which; the flattened array by default.
        size: how many elements to return.
        fill_value: for those missing.
    """
    x = operand(a, "compress")
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    (where_,) = nonzero(asarray(condition), size=size, fill_value=x.shape[axis])
    return take(x, where_, axis=axis, mode="fill", fill_value=fill_value)
