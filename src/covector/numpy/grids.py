"""Coordinates, indices of parts of arrays, and sequences of numbers."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from covector.core import dtypes
from covector.core.array import Array
from covector.core.trace import Tracer
from covector.numpy.creation import arange, asarray, linspace
from covector.numpy.elementwise import power
from covector.numpy.joining import concatenate, stack
from covector.numpy.manipulation import atleast_1d, expand_dims, moveaxis, reshape
from covector.numpy.promote import (
    broadcast_to,
    constant,
    convert,
    operand,
    promote_inexact,
)
from covector.ops import elementwise as el
from covector.ops import shape as sh

__all__ = [
    "bartlett",
    "blackman",
    "c_",
    "diag_indices",
    "diag_indices_from",
    "fromfunction",
    "geomspace",
    "hamming",
    "hanning",
    "index_exp",
    "indices",
    "ix_",
    "kaiser",
    "logspace",
    "mask_indices",
    "meshgrid",
    "mgrid",
    "ogrid",
    "r_",
    "s_",
    "tril_indices",
    "tril_indices_from",
    "triu_indices",
    "triu_indices_from",
]

# --- coordinates --------------------------------------------------------------------------------


def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> list[Any]:
    """The coordinates of a grid, from those along each axis.

    Args:
        xi: vectors or numbers.
        copy: must be `True`.
        sparse: leave axes along which coordinates do not change at size 1.
        indexing: "xy", the first vector along the second axis, or "ij", along the first.

    Returns:
        An array for each vector.
    """
    if not copy:
        raise ValueError("meshgrid: copy=False is not possible, arrays are immutable")
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    vectors = [atleast_1d(operand(x, "meshgrid")) for x in xi]
    if any(v.ndim != 1 for v in vectors):
        raise ValueError(f"meshgrid needs vectors, got {[str(v.aval) for v in vectors]}")
    places = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) >= 2:
        places[:2] = [1, 0]
    sizes = [0] * len(vectors)
    for v, place in zip(vectors, places, strict=True):
        sizes[place] = v.shape[0]
    grids: list[Any] = []
    for v, place in zip(vectors, places, strict=True):
        shape = [v.shape[0] if k == place else 1 for k in range(len(vectors))]
        spread = reshape(v, shape)
        grids.append(spread if sparse else broadcast_to(spread, sizes))
    return grids


def indices(dimensions: Sequence[int], dtype: Any = None, sparse: bool = False) -> Any:
    """The indices of the elements of a shape, along each axis.

    Args:
        dimensions: the shape.
        dtype: int32 (int64 with x64) by default.
        sparse: a tuple of arrays, of size 1 along axes where the index does not change.
    """
    target = dtypes.default_int() if dtype is None else dtypes.requested(dtype, "indices")
    shape = tuple([operator.index(n) for n in dimensions])
    if sparse:
        return tuple(
            sh.iota(
                dtype=target,
                shape=tuple(n if k == axis else 1 for k in range(len(shape))),
                dimension=axis,
            )
            for axis, n in enumerate(shape)
        )
    if not shape:
        return broadcast_to(constant(0, target), (0,))
    return stack([sh.iota(dtype=target, shape=shape, dimension=k) for k in range(len(shape))])


def ix_(*args: Any) -> tuple[Any, ...]:
    """Vectors of indices shaped so that they name the elements of a grid.

    Args:
        args: vectors of integers or bools, one for each axis.
    """
    shaped: list[Any] = []
    for k, given in enumerate(args):
        x = asarray(given)
        if x.ndim != 1:
            raise ValueError(f"ix_ needs vectors, got {x.aval}")
        if dtypes.is_bool(x.dtype):
            from covector.numpy.index_functions import nonzero

            (x,) = nonzero(x)
        if x.shape[0] == 0:
            x = convert(x, dtypes.default_int())
        shaped.append(reshape(x, [x.shape[0] if i == k else 1 for i in range(len(args))]))
    return tuple(shaped)


def fromfunction(
    function: Callable[..., Any], shape: Any, *, dtype: Any = float, **kwargs: Any
) -> Any:
    """A function applied to the indices of each element of a shape.

    Args:
        function: takes an index for each axis.
        shape: of the result.
        dtype: of the indices.
        kwargs: passed to the function.
    """
    from covector.transforms.batching import vmap

    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    for k in range(len(sizes)):
        in_axes = tuple(0 if i == len(sizes) - 1 - k else None for i in range(len(sizes)))
        inner = function
        function = vmap(_with_options(inner, kwargs if k == 0 else {}), in_axes=in_axes)
    target = dtypes.requested(dtype, "fromfunction")
    return function(*[sh.iota(dtype=target, shape=(n,), dimension=0) for n in sizes])


def _with_options(function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    return (lambda *args: function(*args, **options)) if options else function


# --- indices of triangles and diagonals ---------------------------------------------------------


def _constant_indices(found: Sequence[np.ndarray[Any, Any]]) -> tuple[Any, ...]:
    return tuple(asarray(x.astype(np.int64), dtypes.default_int()) for x in found)


def tril_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Any, Any]:
    """The indices of the lower triangle of a matrix.

    Args:
        n: rows.
        k: the diagonal above which elements are left out.
        m: columns, as many as rows by default.
    """
    rows, columns = _constant_indices(np.tril_indices(n, k, m))
    return rows, columns


def triu_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Any, Any]:
    """The indices of the upper triangle of a matrix.

    Args:
        n: rows.
        k: the diagonal below which elements are left out.
        m: columns, as many as rows by default.
    """
    rows, columns = _constant_indices(np.triu_indices(n, k, m))
    return rows, columns


def _matrix_shape(name: str, arr: Any) -> tuple[int, int]:
    shape = np.shape(arr) if not isinstance(arr, (Array, Tracer)) else arr.shape
    if len(shape) != 2:
        raise ValueError(f"{name} needs a matrix, got an array of shape {shape}")
    return shape


def tril_indices_from(arr: Any, k: int = 0) -> tuple[Any, Any]:
    """The indices of the lower triangle of a matrix; see `tril_indices`."""
    rows, columns = _matrix_shape("tril_indices_from", arr)
    return tril_indices(rows, k, columns)


def triu_indices_from(arr: Any, k: int = 0) -> tuple[Any, Any]:
    """The indices of the upper triangle of a matrix; see `triu_indices`."""
    rows, columns = _matrix_shape("triu_indices_from", arr)
    return triu_indices(rows, k, columns)


def diag_indices(n: int, ndim: int = 2) -> tuple[Any, ...]:
    """The indices of the diagonal of an array with equal axes.

    Args:
        n: the size of its axes.
        ndim: how many axes.
    """
    n, ndim = operator.index(n), operator.index(ndim)
    if n < 0 or ndim < 0:
        raise ValueError(f"diag_indices: sizes must not be negative, got {n} and {ndim}")
    return (arange(n),) * ndim


def diag_indices_from(arr: Any) -> tuple[Any, ...]:
    """The indices of the diagonal of an array; see `diag_indices`."""
    x = operand(arr, "diag_indices_from")
    if x.ndim < 2 or len(set(x.shape)) != 1:
        raise ValueError(f"diag_indices_from needs equal axes, at least two, got {x.aval}")
    return diag_indices(x.shape[0], x.ndim)


def mask_indices(
    n: int, mask_func: Callable[..., Any], k: Any = 0, *, size: int | None = None
) -> tuple[Any, ...]:
    """The indices of what a function such as `triu` leaves of a square matrix.

    Args:
        n: the size of the matrix.
        mask_func: takes a matrix and `k`.
        k: passed to it.
        size: how many indices to return; needed if the function's result is traced.
    """
    from covector.numpy.creation import ones
    from covector.numpy.index_functions import nonzero

    return nonzero(mask_func(ones((n, n)), k), size=size)


# --- sequences of numbers -----------------------------------------------------------------------


def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """Powers of a base whose exponents are evenly spaced.

    Args:
        start: the first exponent, or an array of them.
        stop: the last exponent.
        num: how many.
        endpoint: whether the last exponent is included.
        base: of the powers.
        dtype: of the result, a floating dtype by default.
        axis: along which the numbers lie when start and stop are arrays.
    """
    target = None if dtype is None else dtypes.requested(dtype, "logspace")
    exponents = linspace(start, stop, num, endpoint, axis=axis)
    result = power(operand(base, "logspace"), exponents)
    return result if target is None else convert(result, target)


def geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Any:
    """Numbers evenly spaced on a logarithmic scale.

    Args:
        start: the first number, or an array of them; not 0.
        stop: the last number, of the same sign.
        num: how many.
        endpoint: whether the last number is included.
        dtype: of the result, a floating dtype by default.
        axis: along which the numbers lie when start and stop are arrays.
    """
    first, last = promote_inexact(operand(start, "geomspace"), operand(stop, "geomspace"))
    if dtype is not None:
        target = dtypes.requested(dtype, "geomspace")
    else:
        target = first.dtype
    first, last = (convert(x, dtypes.to_inexact(x.dtype)) for x in (first, last))
    if dtypes.is_complex(first.dtype):
        signs = constant(1, first.dtype)
    else:
        signs = el.select_n(
            el.lt(first, constant(0, first.dtype)),
            broadcast_to(constant(1, first.dtype), first.shape),
            broadcast_to(constant(-1, first.dtype), first.shape),
        )
    exponents = [el.div(el.log(x * signs), constant(math.log(10), x.dtype)) for x in (first, last)]
    result = logspace(exponents[0], exponents[1], num, endpoint)
    result = result * signs
    if num > 0:
        result = concatenate([expand_dims(broadcast_to(first, result.shape[1:]), 0), result[1:]])
        if endpoint and num > 1:
            end = expand_dims(broadcast_to(last, result.shape[1:]), 0)
            result = concatenate([result[:-1], end])
    return convert(moveaxis(result, 0, axis), target)


def _window(name: str, M: int, shape: Callable[[Any, int], Any]) -> Any:
    """A window function of M points; one point has the value 1."""
    count = operator.index(M)
    dtype = dtypes.default_float()
    if count <= 1:
        return broadcast_to(constant(1.0, dtype), (max(count, 0),))
    return shape(sh.iota(dtype=dtype, shape=(count,), dimension=0), count)


def hanning(M: int) -> Any:
    """The Hann window: half of 1 minus a cosine.

    Args:
        M: how many points.
    """
    return _window("hanning", M, lambda n, m: 0.5 * (1 - el.cos(2 * math.pi * n / (m - 1))))


def hamming(M: int) -> Any:
    """The Hamming window: 0.54 minus 0.46 of a cosine.

    Args:
        M: how many points.
    """
    return _window("hamming", M, lambda n, m: 0.54 - 0.46 * el.cos(2 * math.pi * n / (m - 1)))


def blackman(M: int) -> Any:
    """The Blackman window, of two cosines.

    Args:
        M: how many points.
    """

    def shape(n: Any, m: int) -> Any:
        angle = 2 * math.pi * n / (m - 1)
        return 0.42 - 0.5 * el.cos(angle) + 0.08 * el.cos(2 * angle)

    return _window("blackman", M, shape)


def bartlett(M: int) -> Any:
    """The Bartlett window, a triangle.

    Args:
        M: how many points.
    """
    return _window("bartlett", M, lambda n, m: 1 - abs(2 * n + 1 - m) / (m - 1))


def kaiser(M: int, beta: Any) -> Any:
    """The Kaiser window, of a Bessel function.

    Args:
        M: how many points.
        beta: the larger, the narrower.
    """
    from covector.numpy.floats import i0

    def shape(n: Any, m: int) -> Any:
        half = 0.5 * (m - 1)
        return i0(beta * el.sqrt(1 - ((n - half) / half) ** 2)) / i0(operand(beta, "kaiser") * 1.0)

    return _window("kaiser", M, shape)


# --- by indexing --------------------------------------------------------------------------------


class _IndexExpression:
    """What is written between the brackets, as it is: `index_exp[1:2, ...]`."""

    def __init__(self, as_tuple: bool) -> None:
        self._as_tuple = as_tuple

    def __getitem__(self, index: Any) -> Any:
        if self._as_tuple and not isinstance(index, tuple):
            return (index,)
        return cast("Any", index)


index_exp = _IndexExpression(True)
s_ = _IndexExpression(False)


def _slice_values(entry: slice[Any, Any, Any]) -> Any:
    """The numbers that a slice names; an imaginary step says how many, ends included."""
    start = 0 if entry.start is None else entry.start
    if isinstance(entry.step, complex):
        return linspace(start, entry.stop, int(abs(entry.step)))
    return arange(start, entry.stop, 1 if entry.step is None else entry.step)


class _Grid:
    """Coordinates by slices: `mgrid[0:2, 0:3]`."""

    def __init__(self, sparse: bool) -> None:
        self._sparse = sparse

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _slice_values(cast("Any", index))
        vectors = [_slice_values(entry) for entry in index]
        if len({v.dtype for v in vectors}) > 1:
            vectors = [convert(v, dtypes.default_float()) for v in vectors]
        grids = meshgrid(*vectors, indexing="ij", sparse=self._sparse)
        if self._sparse:
            return grids
        return stack(grids) if grids else broadcast_to(constant(0, dtypes.default_int()), (0,))


mgrid = _Grid(sparse=False)
ogrid = _Grid(sparse=True)


class _Concatenator:
    """Arrays joined by indexing: `r_[0, 1:4, x]`; a leading string says how, as in NumPy."""

    def __init__(self, axis: int, ndmin: int, place: int) -> None:
        self._defaults = (axis, ndmin, place)

    def __getitem__(self, index: Any) -> Any:
        several = isinstance(index, tuple)
        entries: list[Any] = list(cast("tuple[Any, ...]", index)) if several else [index]
        axis, ndmin, place = self._defaults
        if entries and isinstance(entries[0], str):
            axis, ndmin, place = _directive(entries.pop(0), self._defaults)
        parts = [_joined_entry(entry, ndmin, place) for entry in entries]
        return concatenate(parts, axis)


def _directive(text: str, defaults: tuple[int, int, int]) -> tuple[int, int, int]:
    if text in ("r", "c"):
        raise NotImplementedError(f"r_ and c_: matrices ({text!r}) do not exist here")
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"r_ and c_ take up to three numbers as directive, got {text!r}") from None
    axis, ndmin, place = (*numbers, *defaults[len(numbers) :])
    return axis, ndmin, place


def _joined_entry(entry: Any, ndmin: int, place: int) -> Any:
    """An entry as an array with at least `ndmin` axes, its own beginning at `place`."""
    x = _slice_values(cast("Any", entry)) if isinstance(entry, slice) else asarray(entry)
    if x.ndim >= ndmin:
        return atleast_1d(x)
    missing = ndmin - x.ndim
    before = missing if place == -1 else min(place, missing) if place >= 0 else missing + place + 1
    if x.ndim == 0:
        before = 0
    return reshape(x, (1,) * before + tuple(x.shape) + (1,) * (missing - before))


r_ = _Concatenator(0, 1, -1)
c_ = _Concatenator(-1, 2, 0)
