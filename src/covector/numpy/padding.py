"""Padding arrays."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from covector.core import dtypes
from covector.numpy.creation import asarray, linspace
from covector.numpy.index_functions import take
from covector.numpy.joining import concatenate
from covector.numpy.manipulation import moveaxis
from covector.numpy.promote import broadcast_to, constant, convert, operand
from covector.numpy.reductions import max as largest
from covector.numpy.reductions import mean
from covector.numpy.reductions import min as smallest
from covector.numpy.statistics import median
from covector.ops import elementwise as el
from covector.ops.slices import pad as pad_p
from covector.ops.slices import slice_in_dim

__all__ = ["pad"]

Widths = list[tuple[int, int]]
_numpy_pad: Any = np.pad

_OPTIONS: dict[str, tuple[str, ...]] = {
    "constant": ("constant_values",),
    "empty": (),
    "edge": (),
    "linear_ramp": ("end_values",),
    "maximum": ("stat_length",),
    "mean": ("stat_length",),
    "median": ("stat_length",),
    "minimum": ("stat_length",),
    "reflect": ("reflect_type",),
    "symmetric": ("reflect_type",),
    "wrap": (),
}
_STATISTICS: dict[str, Callable[..., Any]] = {
    "maximum": largest,
    "mean": mean,
    "median": median,
    "minimum": smallest,
}


def pad(array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    """An array with elements put around it.

    Args:
        array: an array.
        pad_width: how many before and behind along each axis: a number for all, a pair for all,
            a pair for each axis, or a dictionary from axes to these.
        mode: "constant", "edge", "linear_ramp", "maximum", "mean", "median", "minimum", "reflect",
            "symmetric", "wrap", "empty" (zeros), or a function `(vector, (before, behind), axis,
            options)` that returns the padded vector.
        kwargs: options of the mode: `constant_values`, `end_values`, `stat_length`,
            `reflect_type`.

    Raises:
        ValueError: for another mode, or an option that the mode does not have.

    >>> import covector.numpy as cnp
    >>> cnp.pad(cnp.array([1, 2, 3]), (1, 2), mode="reflect")
    Array([2, 1, 2, 3, 2, 1], dtype=int32)
    """
    x = operand(array, "pad")
    widths = _widths(pad_width, x.ndim)
    if callable(mode):
        return _by_function(x, widths, mode, kwargs)
    if mode not in _OPTIONS:
        raise ValueError(f"pad: mode must be one of {', '.join(_OPTIONS)}, got {mode!r}")
    unknown = sorted(set(kwargs) - set(_OPTIONS[mode]))
    if unknown:
        raise ValueError(f"pad: mode {mode!r} has no option {', '.join(unknown)}")
    if mode in ("constant", "empty"):
        return _constants(x, widths, kwargs.get("constant_values", 0))
    if mode == "linear_ramp":
        return _ramps(x, widths, kwargs.get("end_values", 0))
    if mode in _STATISTICS:
        return _statistics(x, widths, mode, kwargs.get("stat_length"))
    if kwargs.get("reflect_type", "even") == "odd":
        return _odd_reflections(x, widths, mode)
    return _by_index(x, widths, mode)


def _widths(pad_width: Any, ndim: int) -> Widths:
    if isinstance(pad_width, dict):
        widths: Widths = [(0, 0)] * ndim
        for axis, entry in cast("dict[int, Any]", pad_width).items():
            widths[axis] = _pairs(entry, 1)[0]
        return widths
    return _pairs(pad_width, ndim)


def _pairs(value: Any, ndim: int) -> Any:
    """A pair for each axis, from a number, one pair or all pairs."""
    try:
        given = np.asarray(value, dtype=object)
        pairs = np.broadcast_to(given, (ndim, 2)).tolist()
        widths = [(operator.index(low), operator.index(high)) for low, high in pairs]
    except (TypeError, ValueError):
        raise ValueError(
            f"pad: pad_width must be an int, a pair, or {ndim} pairs of ints, got {value!r}"
        ) from None
    if any(n < 0 for pair in widths for n in pair):
        raise ValueError(f"pad: pad_width must not be negative, got {value!r}")
    return widths


def _values(name: str, given: Any, x: Any) -> Any:
    """A pair of values for each axis."""
    values = convert(asarray(given), x.dtype)
    return broadcast_to(values, (x.ndim, 2))


def _constants(x: Any, widths: Widths, given: Any) -> Any:
    if np.ndim(given) == 0 and not isinstance(given, (list, tuple)):
        value = convert(operand(given, "pad"), x.dtype)
        config = tuple((low, high, 0) for low, high in widths)
        return pad_p(x, value, padding_config=config)
    values = _values("constant_values", given, x)
    for axis, width in enumerate(widths):
        for side in (0, 1):
            config = [(0, 0, 0)] * x.ndim
            config[axis] = (width[0], 0, 0) if side == 0 else (0, width[1], 0)
            x = pad_p(x, values[axis, side], padding_config=tuple(config))
    return x


def _by_index(x: Any, widths: Widths, mode: str) -> Any:
    """Modes that repeat elements: which, NumPy's own padding of the indices says."""
    for axis, width in enumerate(widths):
        if width == (0, 0):
            continue
        size = x.shape[axis]
        if size == 0:
            raise ValueError(f"pad: an empty axis cannot be padded in mode {mode!r}: {x.aval}")
        indices = _numpy_pad(np.arange(size), width, mode=mode)
        x = take(x, indices, axis=axis, mode="clip")
    return x


def _odd_reflections(x: Any, widths: Widths, mode: str) -> Any:
    """Reflections at the edge in value too: twice the edge less the element.

    Elements of the result are sums of elements with whole coefficients, those that NumPy's own
    padding of the unit vectors has.
    """
    from covector.numpy.products import tensordot

    for axis, width in enumerate(widths):
        size = x.shape[axis]
        if width == (0, 0):
            continue
        if size == 0:
            raise ValueError(f"pad: an empty axis cannot be padded in mode {mode!r}: {x.aval}")
        padded = _numpy_pad(np.eye(size), ((0, 0), width), mode=mode, reflect_type="odd")
        weights = asarray(padded, x.dtype)
        x = moveaxis(tensordot(x, weights, ((axis,), (0,))), -1, axis)
    return x


def _ramps(x: Any, widths: Widths, given: Any) -> Any:
    values = _values("end_values", given, x)
    for axis, (low, high) in enumerate(widths):
        size = x.shape[axis]
        first = slice_in_dim(x, 0, 1, axis)
        last = slice_in_dim(x, size - 1, size, axis)
        parts = [
            _ramp(values[axis, 0], first, low, axis),
            x,
            _reversed(_ramp(values[axis, 1], last, high, axis), axis),
        ]
        x = concatenate(parts, axis)
    return x


def _ramp(end: Any, edge: Any, count: int, axis: int) -> Any:
    """Numbers from the end value up to but not including the edge."""
    from covector.numpy.manipulation import squeeze

    start = broadcast_to(end, edge.shape)
    ramp = linspace(
        squeeze(start, axis),
        squeeze(edge, axis),
        count,
        endpoint=False,
        dtype=edge.dtype,
        axis=axis,
    )
    return convert(ramp, edge.dtype)


def _reversed(x: Any, axis: int) -> Any:
    from covector.numpy.manipulation import flip

    return flip(x, axis)


def _statistics(x: Any, widths: Widths, mode: str, stat_length: Any) -> Any:
    reduce = _STATISTICS[mode]
    lengths = None if stat_length is None else _pairs(stat_length, x.ndim)
    if lengths is not None and any(n == 0 for pair in lengths for n in pair):
        raise ValueError("pad: stat_length must be positive")
    for axis, (low, high) in enumerate(widths):
        size = x.shape[axis]
        before, behind = (size, size) if lengths is None else lengths[axis]
        ends = (
            slice_in_dim(x, 0, min(before, size), axis),
            slice_in_dim(x, max(size - behind, 0), size, axis),
        )
        parts: list[Any] = []
        for part, count in zip(ends, (low, high), strict=True):
            value = reduce(part, axis, keepdims=True)
            if dtypes.is_integer(x.dtype) and dtypes.is_inexact(value.dtype):
                value = el.round_(value, rounding_method=1)
            shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
            parts.append(broadcast_to(convert(value, x.dtype), shape))
        x = concatenate([parts[0], x, parts[1]], axis)
    return x


def _by_function(x: Any, widths: Widths, fn: Callable[..., Any], options: dict[str, Any]) -> Any:
    from covector.numpy.functional import apply_along_axis

    config = tuple((low, high, 0) for low, high in widths)
    x = pad_p(x, constant(0, x.dtype), padding_config=config)
    for axis, width in enumerate(widths):
        x = apply_along_axis(fn, axis, x, width, axis, options)
    return x
