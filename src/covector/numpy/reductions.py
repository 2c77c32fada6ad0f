"""Reductions: sums, means, extremes and the like along axes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, cast

from covector.core import dtypes
from covector.core.primitive import Primitive
from covector.numpy.promote import (
    broadcast,
    broadcast_to,
    constant,
    convert,
    operand,
    promote_inexact,
)
from covector.ops import cumulative as cum
from covector.ops import elementwise as el
from covector.ops import reduce as red
from covector.ops.shape import reshape

Axis = int | Sequence[int] | None

__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "average",
    "count_nonzero",
    "cumprod",
    "cumsum",
    "max",
    "mean",
    "min",
    "prod",
    "ptp",
    "std",
    "sum",
    "var",
]


def axes_of(name: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """Axes as non-negative ints in order; all of them for `None`.

    Raises:
        ValueError: for an axis out of range or given twice.
    """
    if axis is None:
        return tuple(range(ndim))
    several = isinstance(axis, (tuple, list))
    given = cast("Sequence[int]", axis) if several else (cast("int", axis),)
    found: list[int] = []
    for a in map(operator.index, given):
        if not -ndim <= a < ndim:
            raise ValueError(
                f"{name}: axis {a} is out of range for an array with {ndim} "
                f"{'axis' if ndim == 1 else 'axes'}"
            )
        found.append(a % ndim)
    if len(set(found)) != len(found):
        raise ValueError(f"{name}: an axis is given twice in {axis}")
    return tuple(sorted(found))


def one_axis(name: str, axis: int, ndim: int) -> int:
    """One axis as a non-negative int."""
    return axes_of(name, axis, ndim)[0]


def keep(result: Any, shape: Sequence[Any], axes: Sequence[int], keepdims: bool) -> Any:
    """The result of a reduction, its axes kept with size 1 if wanted."""
    if not keepdims:
        return result
    sizes = tuple([1 if i in axes else s for i, s in enumerate(shape)])
    return reshape(result, new_sizes=sizes, dimensions=None)


def _reduce(
    name: str,
    primitive: Primitive,
    a: Any,
    axis: Axis,
    keepdims: bool,
    initial: Any,
    where: Any,
    identity: Callable[[Any], Any] | None,
    combine: Primitive,
) -> Any:
    aval = a.aval
    axes = axes_of(name, axis, aval.ndim)
    if where is not None:
        neutral = initial if identity is None else identity(aval.dtype)
        if neutral is None:
            raise ValueError(f"{name} with where= needs initial=, as it has no neutral element")
        mask, a = broadcast(name, (operand(where, name), a))
        shape = mask.aval.shape or a.aval.shape
        filler = broadcast_to(constant(_number(neutral), aval.dtype), shape)
        a = el.select_n(broadcast_to(mask, shape), filler, broadcast_to(a, shape))
        aval = a.aval
    if identity is None and initial is None and any_empty(aval.shape, axes):
        raise ValueError(f"{name} of an empty array {aval} has no value; give initial=")
    result = primitive(a, axes=axes)
    if initial is not None:
        result = combine(result, convert(operand(initial, name), result.aval.dtype))
    return keep(result, aval.shape, axes, keepdims)


def any_empty(shape: Sequence[Any], axes: Sequence[int]) -> bool:
    """Whether a reduction along axes has nothing to reduce."""
    return 0 in [shape[i] for i in axes]


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _sum_dtype(a: Any, dtype: Any) -> Any:
    """Sums and products of bools and narrow integers are made in the default integer."""
    if dtype is not None:
        return convert(a, dtypes.requested(dtype, "reduction"))
    found = a.aval.dtype
    if dtypes.is_bool(found):
        return convert(a, dtypes.default_int())
    if dtypes.is_integer(found):
        wide = dtypes.default_uint() if dtypes.is_unsigned(found) else dtypes.default_int()
        if found.itemsize < wide.itemsize:
            return convert(a, wide)
    return a


def sum(  # NumPy's name
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
    promote_integers: bool = True,
) -> Any:
    """Sum of elements along axes.

    Args:
        a: an array.
        axis: one axis, several, or all (`None`).
        dtype: in which to sum; narrow integers are summed in the default integer.
        out: must be `None`: arrays are immutable.
        keepdims: keep the reduced axes with size 1.
        initial: a number to start from.
        where: which elements to include; broadcasts against `a`.
        promote_integers: whether narrow integers become wider.
    """
    no_out("sum", out)
    a = operand(a, "sum")
    a = _sum_dtype(a, dtype) if promote_integers or dtype is not None else a
    return _reduce("sum", red.reduce_sum, a, axis, keepdims, initial, where, lambda d: 0, el.add)


def prod(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
    promote_integers: bool = True,
) -> Any:
    """Product of elements along axes; arguments as for `sum`."""
    no_out("prod", out)
    a = operand(a, "prod")
    a = _sum_dtype(a, dtype) if promote_integers or dtype is not None else a
    return _reduce("prod", red.reduce_prod, a, axis, keepdims, initial, where, lambda d: 1, el.mul)


def no_out(name: str, out: Any) -> None:
    """Raises if a caller asks for the result in an existing array."""
    if out is not None:
        raise NotImplementedError(f"{name}: out= is not supported, arrays are immutable")


def max(  # NumPy's name
    a: Any,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """Largest element along axes; NaN if there is one. Arguments as for `sum`."""
    no_out("max", out)
    a = operand(a, "max")
    return _reduce("max", red.reduce_max, a, axis, keepdims, initial, where, None, el.max_)


def min(  # NumPy's name
    a: Any,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """Smallest element along axes; NaN if there is one. Arguments as for `sum`."""
    no_out("min", out)
    a = operand(a, "min")
    return _reduce("min", red.reduce_min, a, axis, keepdims, initial, where, None, el.min_)


amax = max
amin = min


def _truth(a: Any, name: str) -> Any:
    a = operand(a, name)
    if a.aval.dtype == dtypes.bool_:
        return a
    return el.ne(a, constant(0, a.aval.dtype))


def all(  # NumPy's name
    a: Any, axis: Axis = None, out: None = None, keepdims: bool = False, *, where: Any = None
) -> Any:
    """Whether all elements along axes are true (not zero)."""
    no_out("all", out)
    a = _truth(a, "all")
    return _reduce("all", red.reduce_and, a, axis, keepdims, None, where, lambda d: True, el.and_)


def any(  # NumPy's name
    a: Any, axis: Axis = None, out: None = None, keepdims: bool = False, *, where: Any = None
) -> Any:
    """Whether an element along axes is true (not zero)."""
    no_out("any", out)
    a = _truth(a, "any")
    return _reduce("any", red.reduce_or, a, axis, keepdims, None, where, lambda d: False, el.or_)


def count_nonzero(a: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """How many elements along axes are not zero."""
    return sum(_truth(a, "count_nonzero"), axis, dtypes.default_int(), keepdims=keepdims)


def _count(a: Any, axes: Sequence[int], where: Any, axis: Axis, keepdims: bool) -> Any:
    if where is None:
        return math.prod([a.aval.shape[i] for i in axes])
    mask = broadcast_to(operand(where, "mean"), a.aval.shape)
    return sum(mask, axis, a.aval.dtype, keepdims=keepdims)


def _as_inexact(a: Any, dtype: Any) -> Any:
    if dtype is not None:
        return convert(a, dtypes.requested(dtype, "mean"))
    return convert(a, dtypes.to_inexact(a.aval.dtype), a.aval.weak_type)


def mean(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    *,
    where: Any = None,
) -> Any:
    """Arithmetic mean along axes; arguments as for `sum`."""
    no_out("mean", out)
    return _mean(_as_inexact(operand(a, "mean"), dtype), axis, keepdims, where)


def _mean(a: Any, axis: Axis, keepdims: bool, where: Any) -> Any:
    axes = axes_of("mean", axis, a.aval.ndim)
    total = sum(a, axis, keepdims=keepdims, where=where)
    return total / _count(a, axes, where, axis, keepdims)


def average(
    a: Any, axis: Axis = None, weights: Any = None, returned: bool = False, keepdims: bool = False
) -> Any:
    """Weighted mean along axes.

    Args:
        a: an array.
        axis: one axis, several, or all.
        weights: of the shape of `a`, or of its one axis; equal by default.
        returned: also return the sum of weights.
        keepdims: keep the reduced axes with size 1.
    """
    a = operand(a, "average")
    if weights is None:
        result = mean(a, axis, keepdims=keepdims)
        if not returned:
            return result
        count = math.prod([a.aval.shape[i] for i in axes_of("average", axis, a.aval.ndim)])
        total = broadcast_to(constant(count, result.aval.dtype), result.aval.shape)
        return result, total
    w = operand(weights, "average")
    if w.aval.shape != a.aval.shape:
        if w.aval.ndim != 1 or not isinstance(axis, int):
            raise ValueError(
                f"average: weights {w.aval} must have the shape of {a.aval} or be 1-d with an axis"
            )
        place = one_axis("average", axis, a.aval.ndim)
        sizes = [1] * a.aval.ndim
        sizes[place] = w.aval.shape[0]
        w = reshape(w, new_sizes=tuple(sizes), dimensions=None)
    a, w = promote_inexact(a, w)
    total = sum(broadcast_to(w, a.aval.shape), axis, keepdims=keepdims)
    result = sum(a * w, axis, keepdims=keepdims) / total
    return (result, total) if returned else result


def var(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    ddof: int = 0,
    keepdims: bool = False,
    *,
    where: Any = None,
    mean: Any = None,
    correction: float | None = None,
) -> Any:
    """Variance along axes.

    Args:
        a: an array.
        axis: one axis, several, or all.
        dtype: in which to compute.
        out: must be `None`.
        ddof: subtracted from the number of elements in the divisor.
        keepdims: keep the reduced axes with size 1.
        where: which elements to include.
        mean: the means, with the axes kept, if they are known.
        correction: the array API's name for `ddof`.
    """
    no_out("var", out)
    a = _as_inexact(operand(a, "var"), dtype)
    axes = axes_of("var", axis, a.aval.ndim)
    deviation = a - (_mean(a, axis, True, where) if mean is None else mean)
    if dtypes.is_complex(a.aval.dtype):
        squares = el.add(el.square(el.real(deviation)), el.square(el.imag(deviation)))
    else:
        squares = el.square(deviation)
    less = ddof if correction is None else correction
    count = _count(a, axes, where, axis, keepdims)
    if where is not None:
        count = el.real(count) if dtypes.is_complex(count.aval.dtype) else count
    return sum(squares, axis, keepdims=keepdims, where=where) / (count - less)


def std(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    ddof: int = 0,
    keepdims: bool = False,
    *,
    where: Any = None,
    mean: Any = None,
    correction: float | None = None,
) -> Any:
    """Standard deviation along axes; arguments as for `var`."""
    no_out("std", out)
    squares = var(
        a, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction
    )
    return el.sqrt(squares)


def ptp(a: Any, axis: Axis = None, out: None = None, keepdims: bool = False) -> Any:
    """Largest minus smallest element along axes."""
    no_out("ptp", out)
    return max(a, axis, keepdims=keepdims) - min(a, axis, keepdims=keepdims)


def _arg_extremum(name: str, primitive: Primitive, a: Any, axis: int | None, keepdims: bool) -> Any:
    a = operand(a, name)
    shape = a.aval.shape
    if axis is None:
        a = reshape(a, new_sizes=(a.aval.size,), dimensions=None)
    place = 0 if axis is None else one_axis(name, axis, len(shape))
    if a.aval.shape[place] == 0:
        raise ValueError(f"{name} of an empty axis: {a.aval} along axis {place}")
    result = primitive(a, axes=(place,), index_dtype=dtypes.default_int())
    axes = range(len(shape)) if axis is None else (place,)
    return keep(result, shape, tuple(axes), keepdims)


def argmax(a: Any, axis: int | None = None, out: None = None, keepdims: bool = False) -> Any:
    """Index of the largest element, the first of equal ones; of the flattened array by default."""
    no_out("argmax", out)
    return _arg_extremum("argmax", red.argmax, a, axis, keepdims)


def argmin(a: Any, axis: int | None = None, out: None = None, keepdims: bool = False) -> Any:
    """Index of the smallest element, the first of equal ones; of the flattened array by default."""
    no_out("argmin", out)
    return _arg_extremum("argmin", red.argmin, a, axis, keepdims)


def _cumulative(name: str, primitive: Primitive, a: Any, axis: int | None, dtype: Any) -> Any:
    a = operand(a, name)
    # Unlike sums, running sums of narrow integers stay narrow.
    if dtype is not None or dtypes.is_bool(a.aval.dtype):
        a = _sum_dtype(a, dtype)
    if axis is None:
        a = reshape(a, new_sizes=(a.aval.size,), dimensions=None)
    return primitive(a, axis=one_axis(name, axis or 0, a.aval.ndim), reverse=False)


def cumsum(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
    """Running sums along an axis, of the flattened array by default."""
    no_out("cumsum", out)
    return _cumulative("cumsum", cum.cumsum, a, axis, dtype)


def cumprod(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
    """Running products along an axis, of the flattened array by default."""
    no_out("cumprod", out)
    return _cumulative("cumprod", cum.cumprod, a, axis, dtype)
