"""Order statistics, histograms and covariances."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any, cast

from covector.core import dtypes
from covector.numpy.creation import asarray, linspace
from covector.numpy.elementwise import conjugate, isnan, real, where
from covector.numpy.index_functions import diagonal, take_along_axis
from covector.numpy.joining import concatenate, stack
from covector.numpy.manipulation import expand_dims, moveaxis, reshape, squeeze
from covector.numpy.products import dot
from covector.numpy.promote import (
    broadcast_to,
    constant,
    convert,
    operand,
    promote_dtypes,
    promote_inexact,
)
from covector.numpy.reductions import any as some
from covector.numpy.reductions import average, axes_of, mean, no_out
from covector.numpy.reductions import max as largest
from covector.numpy.reductions import min as smallest
from covector.numpy.reductions import sum as total
from covector.numpy.rounding import clip
from covector.numpy.sorting import known_values, searchsorted
from covector.numpy.updates import At
from covector.ops import elementwise as el
from covector.ops import sort as so

Axis = int | Sequence[int] | None

__all__ = [
    "bincount",
    "corrcoef",
    "cov",
    "digitize",
    "histogram",
    "histogram2d",
    "histogram_bin_edges",
    "histogramdd",
    "median",
    "nanmedian",
    "nanpercentile",
    "nanquantile",
    "percentile",
    "quantile",
]

_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")

# --- order statistics ---------------------------------------------------------------------------


def quantile(
    a: Any,
    q: Any,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: None = None,
) -> Any:
    """Quantiles of elements along axes; NaN where there is a NaN.

    Args:
        a: an array.
        q: which quantiles, numbers from 0 to 1.
        axis: one axis, several, or all.
        out: must be `None`.
        overwrite_input: must be `False`.
        method: between two elements: "linear", "lower", "higher", "midpoint", "nearest".
        keepdims: keep the reduced axes with size 1.
        weights: must be `None`.

    Returns:
        An array with the axes of `q` before those of `a` that are not reduced.

    >>> import covector.numpy as cnp
    >>> cnp.quantile(cnp.arange(5), 0.25)
    Array(1., dtype=float32)
    """
    _check_options("quantile", out, overwrite_input, weights)
    a, q = operand(a, "quantile"), operand(q, "quantile")
    return _quantile("quantile", a, q, axis, method, keepdims, False)


def nanquantile(
    a: Any,
    q: Any,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: None = None,
) -> Any:
    """Quantiles of elements that are not NaN; arguments as for `quantile`."""
    _check_options("nanquantile", out, overwrite_input, weights)
    a, q = operand(a, "nanquantile"), operand(q, "nanquantile")
    return _quantile("nanquantile", a, q, axis, method, keepdims, True)


def percentile(
    a: Any,
    q: Any,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: None = None,
) -> Any:
    """Percentiles, `q` from 0 to 100; arguments as for `quantile`."""
    _check_options("percentile", out, overwrite_input, weights)
    (q,) = promote_inexact(operand(q, "percentile"))
    return _quantile("percentile", operand(a, "percentile"), q / 100, axis, method, keepdims, False)


def nanpercentile(
    a: Any,
    q: Any,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: None = None,
) -> Any:
    """Percentiles of elements that are not NaN; arguments as for `quantile`."""
    _check_options("nanpercentile", out, overwrite_input, weights)
    (q,) = promote_inexact(operand(q, "nanpercentile"))
    a = operand(a, "nanpercentile")
    return _quantile("nanpercentile", a, q / 100, axis, method, keepdims, True)


def median(
    a: Any,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    keepdims: bool = False,
) -> Any:
    """Medians of elements along axes; arguments as for `quantile`."""
    return quantile(a, 0.5, axis, out, overwrite_input, "midpoint", keepdims)


def nanmedian(
    a: Any,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    keepdims: bool = False,
) -> Any:
    """Medians of elements that are not NaN; arguments as for `quantile`."""
    return nanquantile(a, 0.5, axis, out, overwrite_input, "midpoint", keepdims)


def _check_options(name: str, out: Any, overwrite_input: bool, weights: Any) -> None:
    no_out(name, out)
    if overwrite_input:
        raise ValueError(f"{name}: overwrite_input=True is not possible, arrays are immutable")
    if weights is not None:
        raise NotImplementedError(f"{name}: weights= is not supported")


def _quantile(
    name: str, a: Any, q: Any, axis: Axis, method: str, keepdims: bool, ignore_nan: bool
) -> Any:
    if method not in _METHODS:
        raise ValueError(f"{name}: method must be one of {', '.join(_METHODS)}, got {method!r}")
    if dtypes.is_complex(a.dtype):
        raise ValueError(f"{name} is not defined for complex numbers, got {a.aval}")
    target = dtypes.to_inexact(a.dtype)
    a, q = promote_inexact(a, q)
    axes = axes_of(name, axis, a.ndim)
    kept = [k for k in range(a.ndim) if k not in axes]
    shape = tuple(a.shape[k] for k in kept)
    rows = reshape(moveaxis(a, axes, range(a.ndim - len(axes), a.ndim)), (*shape, -1))
    (rows,) = so.sort(rows, dimension=rows.ndim - 1, is_stable=True, num_keys=1)
    levels = reshape(q, (-1,))
    found = _between_elements(rows, levels, method, ignore_nan)
    found = reshape(moveaxis(found, -1, 0), (*q.shape, *shape))
    if keepdims:
        found = expand_dims(found, tuple(q.ndim + k for k in axes))
    return convert(found, target)


def _between_elements(rows: Any, levels: Any, method: str, ignore_nan: bool) -> Any:
    """Quantiles of sorted rows, along a last axis: NaN is at the end of a row."""
    size, dtype = rows.shape[-1], rows.dtype
    empty = isnan(rows)
    if ignore_nan:
        count = convert(total(~empty, -1, keepdims=True), dtype)
    else:
        count = broadcast_to(constant(size, dtype), (*rows.shape[:-1], 1))
    position = levels * (count - 1)
    below, above = el.floor(position), el.ceil(position)
    weight = position - below
    # An empty row has no elements to clip to, and its result is NaN by its first element.
    last = el.max_(count - 1, constant(0, dtype))
    places = [convert(clip(p, 0, last), dtypes.int32) for p in (below, above)]
    low, high = (_pick(rows, p) for p in places)
    found = _blend(low, high, weight, method)
    if ignore_nan:
        return found
    return where(some(empty, -1, keepdims=True), constant(math.nan, dtype), found)


def _pick(rows: Any, places: Any) -> Any:
    return take_along_axis(rows, places, axis=-1, mode="clip")


def _blend(low: Any, high: Any, weight: Any, method: str) -> Any:
    if method == "linear":
        return low * (1 - weight) + high * weight
    if method == "lower":
        return low
    if method == "higher":
        return high
    if method == "midpoint":
        # One element twice is itself, even if twice it is infinite.
        return where(weight == 0, low, low * 0.5 + high * 0.5)
    return where(weight <= 0.5, low, high)


# --- histograms ---------------------------------------------------------------------------------


def bincount(x: Any, weights: Any = None, minlength: int = 0, *, length: int | None = None) -> Any:
    """How often each number comes, or the sum of its weights.

    Args:
        x: a vector of integers; negative ones count as 0.
        weights: for each element, by default 1.
        minlength: the least size of the result.
        length: the size of the result, numbers beyond being left out; needed for traced values.

    Returns:
        A vector, by default as long as the largest number asks for.

    >>> import covector.numpy as cnp
    >>> cnp.bincount(cnp.array([0, 1, 1, 3]))
    Array([1, 2, 0, 1], dtype=int32)
    """
    x = operand(x, "bincount")
    if x.ndim != 1 or not (dtypes.is_integer(x.dtype) or dtypes.is_bool(x.dtype)):
        raise TypeError(f"bincount needs a vector of integers, got {x.aval}")
    if length is None:
        values = known_values("bincount", x, "as the largest gives the size of the result")
        length = max(int(minlength), int(values.max()) + 1 if values.size else 0)
    else:
        length = max(int(length), int(minlength))
    if weights is None:
        amounts = broadcast_to(constant(1, dtypes.default_int()), x.shape)
    else:
        amounts = operand(weights, "bincount")
        if amounts.shape != x.shape:
            raise ValueError(f"bincount needs a weight for each element: {amounts.aval}, {x.aval}")
    numbers = convert(x, dtypes.int32) if dtypes.is_bool(x.dtype) else x
    start = broadcast_to(constant(0, amounts.dtype), (length,))
    return At(start)[clip(numbers, 0)].add(amounts, mode="drop")


def digitize(x: Any, bins: Any, right: bool = False, *, method: str | None = None) -> Any:
    """In which bin each element lies.

    Args:
        x: an array.
        bins: a vector of edges, increasing or decreasing.
        right: whether bins include their right edges instead of their left ones.
        method: of the search, see `searchsorted`.

    Returns:
        Indices: `bins[i - 1] <= x < bins[i]`.
    """
    values, edges = operand(x, "digitize"), operand(bins, "digitize")
    if edges.ndim != 1:
        raise ValueError(f"digitize needs a vector of edges, got {edges.aval}")
    if edges.shape[0] == 0:
        return broadcast_to(constant(0, dtypes.int32), values.shape)
    method = "scan" if method is None else method
    up, down = ("left", "right") if right else ("right", "left")
    rising = searchsorted(edges, values, up, method=method)
    falling = edges.shape[0] - searchsorted(edges[::-1], values, down, method=method)
    return where(edges[-1] >= edges[0], rising, falling)


def histogram_bin_edges(a: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Any:
    """The edges of the bins of a histogram.

    Args:
        a: an array.
        bins: how many equal bins, or their edges.
        range: the lowest and highest edge, by default the extremes of the array.
        weights: without effect on the edges.
    """
    if isinstance(bins, str):
        raise NotImplementedError(f"histogram: the rule {bins!r} for the number of bins")
    values = operand(a, "histogram")
    edges = asarray(bins)
    if edges.ndim == 1:
        return edges
    dtype = dtypes.to_inexact(values.dtype)
    low, high = _range(values, range, dtype)
    return linspace(low, high, int(bins) + 1, dtype=dtype)


def _range(values: Any, range: Any, dtype: Any) -> tuple[Any, Any]:
    if range is not None:
        bounds = asarray(range)
        if bounds.shape != (2,):
            raise ValueError(f"histogram: range must be a pair of numbers, got {range!r}")
        low, high = bounds[0], bounds[1]
    elif values.size == 0:
        low, high = constant(0, dtype), constant(1, dtype)
    else:
        low, high = smallest(values), largest(values)
    low, high = convert(low, dtype), convert(high, dtype)
    span = where(high == low, constant(0.5, dtype), constant(0.0, dtype))
    return low - span, high + span


def histogram(
    a: Any, bins: Any = 10, range: Any = None, weights: Any = None, density: bool | None = None
) -> tuple[Any, Any]:
    """How many elements lie in each bin.

    Args:
        a: an array.
        bins: how many equal bins, or their edges.
        range: the lowest and highest edge, by default the extremes of the array.
        weights: for each element, by default 1.
        density: divide by the number of elements and the widths of bins.

    Returns:
        The counts, as floats, and the edges.
    """
    values = operand(a, "histogram")
    if weights is None:
        (values,) = promote_inexact(values)
        amounts = broadcast_to(constant(1, values.dtype), values.shape)
    else:
        amounts = operand(weights, "histogram")
        if amounts.shape != values.shape:
            raise ValueError(
                f"histogram needs a weight for each element: {amounts.aval}, {values.aval}"
            )
        values, amounts = promote_inexact(values, amounts)
    edges = histogram_bin_edges(values, bins, range)
    flat, amounts = reshape(values, (-1,)), reshape(amounts, (-1,))
    place, inside = _bins_of(flat, edges)
    start = broadcast_to(constant(0, amounts.dtype), (edges.shape[0] - 1,))
    amounts = where(inside, amounts, constant(0, amounts.dtype))
    counts = At(start)[place].add(amounts, mode="drop")
    if density:
        counts = counts / (edges[1:] - edges[:-1]) / total(counts)
    return counts, edges


def _bins_of(values: Any, edges: Any) -> tuple[Any, Any]:
    """For each value its bin, and whether it lies in one; the last includes its right edge."""
    count = edges.shape[0] - 1
    place = searchsorted(edges, values, "right") - 1
    place = where(values == edges[-1], count - 1, place)
    return clip(place, 0, count - 1), (values >= edges[0]) & (values <= edges[-1])


def histogram2d(
    x: Any,
    y: Any,
    bins: Any = 10,
    range: Any = None,
    weights: Any = None,
    density: bool | None = None,
) -> tuple[Any, Any, Any]:
    """How many points lie in each bin of a plane.

    Args:
        x: first coordinates.
        y: second coordinates.
        bins: how many along both axes, or a pair, of numbers or edges.
        range: a pair of lowest and highest edges for each axis.
        weights: for each point, by default 1.
        density: divide by the number of points and the areas of bins.

    Returns:
        The counts, and the edges along each axis.
    """
    if isinstance(bins, (list, tuple)) and len(cast("Sequence[Any]", bins)) != 2:
        bins = [asarray(bins), asarray(bins)]
    sample = stack([operand(v, "histogram2d") for v in (x, y)], axis=1)
    counts, edges = histogramdd(sample, bins, range, weights, density)
    return counts, edges[0], edges[1]


def histogramdd(
    sample: Any,
    bins: Any = 10,
    range: Any = None,
    weights: Any = None,
    density: bool | None = None,
) -> tuple[Any, list[Any]]:
    """How many points lie in each bin of a space.

    Args:
        sample: an array of shape (points, axes).
        bins: how many along all axes, or for each, as a number or as edges.
        range: a pair of lowest and highest edges for each axis.
        weights: for each point, by default 1.
        density: divide by the number of points and the volumes of bins.

    Returns:
        The counts, and a list of the edges along each axis.
    """
    points = operand(sample, "histogramdd")
    if points.ndim != 2:
        raise ValueError(f"histogramdd needs an array of shape (points, axes), got {points.aval}")
    (points,) = promote_inexact(points)
    axes = points.shape[1]
    several = isinstance(bins, (list, tuple))
    each: list[Any] = list(cast("Sequence[Any]", bins)) if several else [bins] * axes
    ranges = [None] * axes if range is None else list(range)
    if len(each) != axes or len(ranges) != axes:
        raise ValueError(f"histogramdd: {axes} axes need as many entries of bins and range")
    columns = [points[:, k] for k in builtins.range(axes)]
    edges = [histogram_bin_edges(x, b, r) for x, b, r in zip(columns, each, ranges, strict=True)]
    found = [_bins_of(x, e) for x, e in zip(columns, edges, strict=True)]
    inside = found[0][1]
    for _, within in found[1:]:
        inside = inside & within
    one = constant(1, dtypes.default_int())
    amounts = one if weights is None else operand(weights, "histogramdd")
    amounts = broadcast_to(amounts, (points.shape[0],))
    start = broadcast_to(constant(0, amounts.dtype), tuple(e.shape[0] - 1 for e in edges))
    amounts = where(inside, amounts, constant(0, amounts.dtype))
    counts = At(start)[tuple(place for place, _ in found)].add(amounts, mode="drop")
    if density:
        counts = convert(counts, points.dtype) / total(counts)
        for k, edge in enumerate(edges):
            widths = edge[1:] - edge[:-1]
            sizes = [1] * axes
            sizes[k] = widths.shape[0]
            counts = counts / reshape(widths, sizes)
    return counts, edges


# --- covariances --------------------------------------------------------------------------------


def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    dtype: Any = None,
) -> Any:
    """The matrix of covariances.

    Args:
        m: observations: a row for each variable.
        y: more variables.
        rowvar: whether rows are variables, and not columns.
        bias: divide by the number of observations instead of one less.
        ddof: subtracted from the number of observations, 1 (0 with `bias`) by default.
        fweights: how often each observation was made.
        aweights: the importance of each observation.
        dtype: in which to compute.
    """
    x = _variables("cov", m, rowvar)
    if y is not None:
        x, other = promote_dtypes(x, _variables("cov", y, rowvar))
        x = concatenate([x, other], 0)
    (x,) = promote_inexact(x) if dtype is None else (convert(x, dtypes.requested(dtype, "cov")),)
    if ddof is None:
        ddof = 0 if bias else 1
    weights = _observation_weights(x, fweights, aweights)
    if weights is None:
        centre, divisor = mean(x, 1, keepdims=True), x.shape[1] - ddof
        weighted = deviations = x - centre
    else:
        centre, divisor = _weighted(x, weights, aweights, ddof)
        deviations = x - centre
        weighted = deviations * weights
    return squeeze(dot(weighted, conjugate(deviations).T) / divisor)


def _variables(name: str, m: Any, rowvar: bool) -> Any:
    x = operand(m, name)
    if x.ndim > 2:
        raise ValueError(f"{name} needs at most two axes, got {x.aval}")
    x = reshape(x, (1,) * (2 - x.ndim) + tuple(x.shape))
    return x if rowvar or x.shape[0] == 1 else x.T


def _observation_weights(x: Any, fweights: Any, aweights: Any) -> Any:
    weights: Any = None
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is None:
            continue
        one = operand(given, "cov")
        if one.shape != (x.shape[1],):
            raise ValueError(
                f"cov: {name} must be a vector of {x.shape[1]} numbers, got {one.aval}"
            )
        if name == "fweights" and not dtypes.is_integer(one.dtype):
            raise TypeError(f"cov: fweights must be integers, got {one.aval}")
        weights = abs(one) if weights is None else weights * abs(one)
    return weights


def _weighted(x: Any, weights: Any, aweights: Any, ddof: int) -> tuple[Any, Any]:
    """The weighted means, and what to divide by."""
    centre, sums = average(x, 1, weights, returned=True, keepdims=True)
    whole = sums[0]
    if ddof == 0:
        return centre, whole
    if aweights is None:
        return centre, whole - ddof
    return centre, whole - ddof * total(weights * operand(aweights, "cov")) / whole


def corrcoef(x: Any, y: Any = None, rowvar: bool = True, dtype: Any = None) -> Any:
    """The matrix of correlations; arguments as for `cov`."""
    c = cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    deviation = el.sqrt(convert(real(diagonal(c)), dtypes.real_of(c.dtype)))
    c = c / expand_dims(deviation, 1) / expand_dims(deviation, 0)
    if dtypes.is_complex(c.dtype):
        return el.complex_(clip(el.real(c), -1, 1), clip(el.imag(c), -1, 1))
    return clip(c, -1, 1)
