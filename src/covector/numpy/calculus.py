"""Differences, integrals, interpolation and convolution."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.lax.convolution import conv_general_dilated
from covector.numpy.creation import asarray
from covector.numpy.elementwise import (
    absolute,
    conjugate,
    floor_divide,
    not_equal,
    remainder,
    where,
)
from covector.numpy.index_functions import take
from covector.numpy.joining import concatenate
from covector.numpy.manipulation import flip, moveaxis, ravel, reshape
from covector.numpy.promote import (
    broadcast_to,
    constant,
    convert,
    operand,
    promote_dtypes,
    promote_inexact,
)
from covector.numpy.reductions import axes_of, cumprod, cumsum, one_axis
from covector.numpy.reductions import sum as total
from covector.numpy.rounding import clip
from covector.numpy.sorting import searchsorted
from covector.ops import elementwise as el
from covector.ops import sort as so
from covector.ops.slices import pad, slice_in_dim

__all__ = [
    "convolve",
    "correlate",
    "cumulative_prod",
    "cumulative_sum",
    "diff",
    "ediff1d",
    "gradient",
    "interp",
    "trapezoid",
    "unwrap",
]


def _part(x: Any, axis: int, start: int, stop: int) -> Any:
    """Elements along an axis; negative bounds count from the end."""
    size = x.shape[axis]
    low = start + size if start < 0 else start
    return slice_in_dim(x, low, stop + size if stop < 0 else stop, axis)


def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """Differences of neighbours along an axis.

    Args:
        a: an array.
        n: how many times.
        axis: along which.
        prepend: put before the array first: a number or an array.
        append: put behind it.

    >>> import covector.numpy as cnp
    >>> cnp.diff(cnp.array([1, 4, 9]))
    Array([3, 5], dtype=int32)
    """
    x = operand(a, "diff")
    if n < 0:
        raise ValueError(f"diff: n must be at least 0, got {n}")
    if n == 0:
        return x
    if x.ndim == 0:
        raise ValueError("diff needs an array with at least one axis")
    place = one_axis("diff", axis, x.ndim)
    ends = [None if e is None else _end(e, x, place) for e in (prepend, append)]
    if ends != [None, None]:
        parts = [p for p in (ends[0], x, ends[1]) if p is not None]
        x = concatenate(parts, place)
    for _ in range(n):
        size = x.shape[place]
        later, earlier = _part(x, place, min(1, size), size), _part(x, place, 0, max(size - 1, 0))
        x = not_equal(later, earlier) if dtypes.is_bool(x.dtype) else later - earlier
    return x


def _end(value: Any, x: Any, axis: int) -> Any:
    value = operand(value, "diff")
    if value.ndim == 0:
        return broadcast_to(value, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    return value


def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    """Differences of neighbours in the flattened array.

    Args:
        ary: an array.
        to_end: put behind the differences.
        to_begin: put before them.
    """
    x = ravel(operand(ary, "ediff1d"))
    result = x[1:] - x[:-1]
    ends = [None if e is None else ravel(convert(asarray(e), x.dtype)) for e in (to_begin, to_end)]
    parts = [p for p in (ends[0], result, ends[1]) if p is not None]
    return concatenate(parts) if len(parts) > 1 else result


def gradient(
    f: Any, *varargs: Any, axis: int | Sequence[int] | None = None, edge_order: None = None
) -> Any:
    """Central differences in the interior, one-sided ones at the ends.

    Args:
        f: samples of a function.
        varargs: the spacing: nothing for 1, a number for all axes, or for each axis a number or
            a vector of coordinates.
        axis: one axis, several, or all.
        edge_order: must be `None`: differences at the ends are of first order.

    Returns:
        An array for each axis, in a list; the array itself for a single one.
    """
    if edge_order is not None:
        raise NotImplementedError("gradient: edge_order= is not supported")
    (x,) = promote_inexact(operand(f, "gradient"))
    axes = axes_of("gradient", axis, x.ndim) if axis is None else _axes_in_order(axis, x.ndim)
    spacings = _spacings(varargs, len(axes))
    results: list[Any] = []
    for place, spacing in zip(axes, spacings, strict=True):
        if x.shape[place] < 2:
            raise ValueError(f"gradient needs at least 2 elements along axis {place} of {x.aval}")
        if spacing.ndim == 0:
            results.append(_even_gradient(x, spacing, place))
        elif spacing.shape == (x.shape[place],):
            results.append(_uneven_gradient(x, spacing, place))
        else:
            raise ValueError(
                f"gradient: spacing must be a number or a vector of {x.shape[place]} coordinates, "
                f"got {spacing.aval}"
            )
    return results[0] if len(axes) == 1 else results


def _axes_in_order(axis: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    axes_of("gradient", axis, ndim)
    given = (axis,) if isinstance(axis, int) else axis
    return tuple(k % ndim for k in given)


def _spacings(varargs: Sequence[Any], count: int) -> list[Any]:
    if not varargs:
        return [operand(1.0, "gradient")] * count
    given = [operand(v, "gradient") for v in varargs]
    if len(given) == 1 and (given[0].ndim == 0 or count == 1):
        return given * count
    if len(given) != count:
        raise TypeError(f"gradient: {count} axes need as many spacings, got {len(given)}")
    return given


def _even_gradient(x: Any, spacing: Any, axis: int) -> Any:
    size = x.shape[axis]
    first = _part(x, axis, 1, 2) - _part(x, axis, 0, 1)
    inner = (_part(x, axis, 2, size) - _part(x, axis, 0, size - 2)) * 0.5
    last = _part(x, axis, size - 1, size) - _part(x, axis, size - 2, size - 1)
    return concatenate([first, inner, last], axis) / spacing


def _uneven_gradient(x: Any, places: Any, axis: int) -> Any:
    """Central differences with weights that are exact for parabolas."""
    size = x.shape[axis]
    steps = places[1:] - places[:-1]
    steps = reshape(steps, [size - 1 if k == axis else 1 for k in range(x.ndim)])
    slopes = (_part(x, axis, 1, size) - _part(x, axis, 0, size - 1)) / steps
    before, after = _part(steps, axis, 0, size - 2), _part(steps, axis, 1, size - 1)
    left, right = _part(slopes, axis, 0, size - 2), _part(slopes, axis, 1, size - 1)
    inner = (left * after + right * before) / (before + after)
    ends = _part(slopes, axis, 0, 1), _part(slopes, axis, size - 2, size - 1)
    return concatenate([ends[0], inner, ends[1]], axis)


def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    """The integral along an axis by the trapezoidal rule.

    Args:
        y: values.
        x: where, a vector or an array of the shape of `y`; evenly spaced by default.
        dx: the spacing, without `x`.
        axis: along which.

    >>> import covector.numpy as cnp
    >>> cnp.trapezoid(cnp.array([1.0, 2.0, 3.0]))
    Array(4., dtype=float32)
    """
    if x is None:
        (values,) = promote_inexact(operand(y, "trapezoid"))
        values, step = moveaxis(values, axis, -1), operand(dx, "trapezoid")
    else:
        values, places = promote_inexact(operand(y, "trapezoid"), operand(x, "trapezoid"))
        if places.ndim == 1:
            step = diff(places)
        else:
            step = moveaxis(diff(places, axis=axis), axis, -1)
        values = moveaxis(values, axis, -1)
    return 0.5 * total(step * (values[..., 1:] + values[..., :-1]), -1)


def cumulative_sum(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Any:
    """Running sums along an axis (the array API's name for `cumsum`).

    Args:
        x: an array.
        axis: along which; may be left out for vectors.
        dtype: in which to sum.
        include_initial: begin with 0, so that there is one more element.
    """
    return _cumulative("cumulative_sum", cumsum, 0, x, axis, dtype, include_initial)


def cumulative_prod(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Any:
    """Running products along an axis (the array API's name for `cumprod`).

    Args:
        x: an array.
        axis: along which; may be left out for vectors.
        dtype: in which to multiply.
        include_initial: begin with 1, so that there is one more element.
    """
    return _cumulative("cumulative_prod", cumprod, 1, x, axis, dtype, include_initial)


def _cumulative(
    name: str,
    accumulate: Any,
    first: int,
    x: Any,
    axis: int | None,
    dtype: Any,
    include_initial: bool,
) -> Any:
    x = operand(x, name)
    if x.ndim == 0:
        raise ValueError(f"{name} needs an array with at least one axis")
    if axis is None:
        if x.ndim > 1:
            raise ValueError(f"{name}: axis must be given for an array of {x.ndim} axes")
        axis = 0
    place = one_axis(name, axis, x.ndim)
    if accumulate is cumsum and dtype is None and dtypes.is_integer(x.dtype):
        wide = dtypes.default_uint() if dtypes.is_unsigned(x.dtype) else dtypes.default_int()
        dtype = wide if wide.itemsize > x.dtype.itemsize else x.dtype
    result = accumulate(x, place, dtype)
    if include_initial:
        shape = (*x.shape[:place], 1, *x.shape[place + 1 :])
        start = broadcast_to(constant(first, result.dtype), shape)
        result = concatenate([start, result], place)
    return result


def unwrap(p: Any, discont: Any = None, axis: int = -1, period: Any = 2 * math.pi) -> Any:
    """Jumps along an axis made small by adding multiples of the period.

    Args:
        p: an array.
        discont: the largest step to leave, half a period by default.
        axis: along which.
        period: of the values.
    """
    x = operand(p, "unwrap")
    if dtypes.is_complex(x.dtype):
        raise ValueError("unwrap is not defined for complex numbers")
    if x.shape[axis] == 0:
        return promote_inexact(x)[0] if not dtypes.is_integer(x.dtype) else x
    x, size = _with_period(x, period)
    whole = dtypes.is_integer(x.dtype)
    half = floor_divide(size, 2) if whole else size / 2
    steps = diff(x, axis=axis)
    wrapped = remainder(steps + half, size) - half
    # Half a period up and half a period down are the same: the direction of the step decides.
    ambiguous = remainder(size, 2) == 0 if whole else True
    wrapped = where((wrapped == -half) & (steps > 0) & ambiguous, half, wrapped)
    limit = size / 2 if discont is None else discont
    correction = where(absolute(steps) < limit, constant(0, x.dtype), wrapped - steps)
    place = one_axis("unwrap", axis, x.ndim)
    first, rest = _part(x, place, 0, 1), _part(x, place, 1, x.shape[place])
    return concatenate([first, convert(rest + cumsum(correction, place), x.dtype)], place)


def _with_period(x: Any, period: Any) -> tuple[Any, Any]:
    """Values and period in a dtype that holds both."""
    size = operand(period, "unwrap")
    if not (dtypes.is_integer(x.dtype) and dtypes.is_integer(size.dtype)):
        (x,) = promote_inexact(x)
    x, size = promote_dtypes(x, size)
    return x, size


# --- interpolation ------------------------------------------------------------------------------


def interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Any:
    """Linear interpolation between points.

    Args:
        x: where to interpolate.
        xp: coordinates of the points, increasing.
        fp: values at the points.
        left: before the first point; its value by default, "extrapolate" for its line.
        right: behind the last point; its value by default, "extrapolate" for its line.
        period: of the coordinates, which then need not increase.

    >>> import covector.numpy as cnp
    >>> cnp.interp(2.5, cnp.array([1.0, 2.0, 3.0]), cnp.array([3.0, 2.0, 0.0]))
    Array(1., dtype=float32)
    """
    at, places = promote_inexact(operand(x, "interp"), operand(xp, "interp"))
    (values,) = promote_inexact(operand(fp, "interp"))
    if places.ndim != 1 or places.shape != values.shape or not places.shape[0]:
        raise ValueError(f"interp needs points of equal numbers, got {places.aval}, {values.aval}")
    if period is not None:
        at, places, values = _periodic(at, places, values, period)
        left = right = None
    return _on_segments(at, places, values, left, right)


def _on_segments(at: Any, places: Any, values: Any, left: Any, right: Any) -> Any:
    size = places.shape[0]
    above = clip(searchsorted(places, at, "right"), 1, max(size - 1, 1))
    low, high = (take(values, k, mode="clip") for k in (above - 1, above))
    start, end = (take(places, k, mode="clip") for k in (above - 1, above))
    width, rise = end - start, high - low
    # Segments without width have the value of their beginning.
    tiny = np.spacing(np.finfo(dtypes.real_of(places.dtype)).eps)
    empty = absolute(width) <= constant(float(tiny), width.dtype)
    slope = rise / where(empty, constant(1, width.dtype), width)
    found = where(empty, low, low + (at - start) * slope)
    found = _beyond(found, at < places[0], left, values[0])
    return _beyond(found, at > places[-1], right, values[-1])


def _beyond(found: Any, outside: Any, choice: Any, edge: Any) -> Any:
    if isinstance(choice, str):
        if choice != "extrapolate":
            raise ValueError(f"interp: left and right are numbers or 'extrapolate', got {choice!r}")
        return found
    return where(outside, edge if choice is None else choice, found)


def _periodic(at: Any, places: Any, values: Any, period: Any) -> tuple[Any, Any, Any]:
    """The points in one period in order, with one more on either side."""
    if isinstance(period, (int, float)) and period == 0:
        raise ValueError("interp: period must not be 0")
    length = convert(absolute(operand(period, "interp")), places.dtype)
    at, places = remainder(at, length), remainder(places, length)
    places, values = so.sort(places, values, dimension=0, is_stable=True, num_keys=1)
    places = concatenate([places[-1:] - length, places, places[:1] + length])
    return at, places, concatenate([values[-1:], values, values[:1]])


# --- convolution --------------------------------------------------------------------------------


def convolve(
    a: Any,
    v: Any,
    mode: str = "full",
    *,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """The convolution of two vectors.

    Args:
        a: a vector.
        v: another.
        mode: "full", "same" (as long as the longer vector) or "valid" (where both overlap fully).
        precision: accepted for JAX's sake; see `matmul`.
        preferred_element_type: dtype of the result.

    >>> import covector.numpy as cnp
    >>> cnp.convolve(cnp.array([1.0, 2.0, 3.0]), cnp.array([0.0, 1.0]))
    Array([0., 1., 2., 3.], dtype=float32)
    """
    x, y = _vectors("convolve", a, v)
    if x.shape[0] < y.shape[0]:
        x, y = y, x
    return _sliding("convolve", x, flip(y), mode, precision, preferred_element_type)


def correlate(
    a: Any,
    v: Any,
    mode: str = "valid",
    *,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """The cross-correlation of two vectors; the second is conjugated.

    Args:
        a: a vector.
        v: another.
        mode: "valid" (where both overlap fully), "same" (as long as the longer vector) or "full".
        precision: accepted for JAX's sake; see `matmul`.
        preferred_element_type: dtype of the result.
    """
    x, y = _vectors("correlate", a, v)
    y = conjugate(y)
    if x.shape[0] >= y.shape[0]:
        return _sliding("correlate", x, y, mode, precision, preferred_element_type)
    return flip(_sliding("correlate", y, x, mode, precision, preferred_element_type))


def _vectors(name: str, a: Any, v: Any) -> list[Any]:
    pair = promote_inexact(operand(a, name), operand(v, name))
    if any(x.ndim != 1 or x.shape[0] == 0 for x in pair):
        raise ValueError(
            f"{name} needs vectors that are not empty, got {[str(x.aval) for x in pair]}"
        )
    return pair


_UNROLLED = 32
"""Up to so many products are written out; more are one contraction."""


def _sliding(name: str, x: Any, y: Any, mode: str, precision: Any, preferred: Any) -> Any:
    """Sums of products of `y` and each window of `x` as long; `y` is the shorter one."""
    size, width = x.shape[0], y.shape[0]
    padding = {"full": (width - 1, width - 1), "valid": (0, 0)}
    padding["same"] = (width // 2, width - width // 2 - 1)
    if mode not in padding:
        raise ValueError(f"{name}: mode must be 'full', 'same' or 'valid', got {mode!r}")
    low, high = padding[mode]
    if width > _UNROLLED or preferred is not None:
        return conv_general_dilated(
            x[None, None],
            y[None, None],
            (1,),
            [(low, high)],
            precision=precision,
            preferred_element_type=preferred,
        )[0, 0]
    if low or high:
        x = pad(x, constant(0, x.dtype), padding_config=((low, high, 0),))
    count = size + low + high - width + 1
    terms = [slice_in_dim(x, k, k + count, 0) * y[k] for k in range(width)]
    return functools.reduce(el.add, terms)
