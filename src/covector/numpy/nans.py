"""Reductions that leave NaN out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from covector.core import dtypes
from covector.numpy import reductions as red
from covector.numpy.elementwise import isnan, sqrt, where
from covector.numpy.promote import constant, convert, operand, promote_inexact
from covector.ops import elementwise as el

Axis = int | Sequence[int] | None

__all__ = [
    "nanargmax",
    "nanargmin",
    "nancumprod",
    "nancumsum",
    "nanmax",
    "nanmean",
    "nanmin",
    "nanprod",
    "nanstd",
    "nansum",
    "nanvar",
]


def _filled(name: str, a: Any, value: float) -> tuple[Any, Any]:
    """The array with NaN replaced, and where NaN was (`None` where there cannot be any)."""
    x = operand(a, name)
    if not dtypes.is_inexact(x.dtype):
        return x, None
    missing = isnan(x)
    return where(missing, constant(value, x.dtype), x), missing


def nansum(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """Sum of elements that are not NaN; arguments as for `sum`."""
    filled, _ = _filled("nansum", a, 0)
    return red.sum(filled, axis, dtype, out, keepdims, initial, where)


def nanprod(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """Product of elements that are not NaN; arguments as for `sum`."""
    filled, _ = _filled("nanprod", a, 1)
    return red.prod(filled, axis, dtype, out, keepdims, initial, where)


def nancumsum(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
    """Running sums, NaN counting as 0; arguments as for `cumsum`."""
    return red.cumsum(_filled("nancumsum", a, 0)[0], axis, dtype, out)


def nancumprod(a: Any, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
    """Running products, NaN counting as 1; arguments as for `cumprod`."""
    return red.cumprod(_filled("nancumprod", a, 1)[0], axis, dtype, out)


def nanmax(
    a: Any,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """Largest element that is not NaN; NaN if there is none. Arguments as for `sum`."""
    return _extreme("nanmax", red.max, -math.inf, a, axis, out, keepdims, initial, where)


def nanmin(
    a: Any,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """Smallest element that is not NaN; NaN if there is none. Arguments as for `sum`."""
    return _extreme("nanmin", red.min, math.inf, a, axis, out, keepdims, initial, where)


def _extreme(
    name: str,
    reduce: Callable[..., Any],
    least: float,
    a: Any,
    axis: Axis,
    out: None,
    keepdims: bool,
    initial: Any,
    mask: Any,
) -> Any:
    filled, missing = _filled(name, a, least)
    result = reduce(filled, axis, out, keepdims, initial, mask)
    if missing is None or initial is not None:
        return result
    none = red.all(missing, axis, keepdims=keepdims, where=mask)
    return where(none, constant(math.nan, result.dtype), result)


def nanargmax(
    a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None
) -> Any:
    """Index of the largest element that is not NaN; -1 if there is none."""
    return _place("nanargmax", red.argmax, -math.inf, a, axis, out, bool(keepdims))


def nanargmin(
    a: Any, axis: int | None = None, out: None = None, keepdims: bool | None = None
) -> Any:
    """Index of the smallest element that is not NaN; -1 if there is none."""
    return _place("nanargmin", red.argmin, math.inf, a, axis, out, bool(keepdims))


def _place(
    name: str,
    reduce: Callable[..., Any],
    least: float,
    a: Any,
    axis: int | None,
    out: None,
    keepdims: bool,
) -> Any:
    filled, missing = _filled(name, a, least)
    result = reduce(filled, axis, out, keepdims)
    if missing is None:
        return result
    none = red.all(missing, axis, keepdims=keepdims)
    return where(none, constant(-1, result.dtype), result)


def _counted(name: str, a: Any, axis: Axis, keepdims: bool, mask: Any, dtype: Any) -> Any:
    """How many elements are not NaN."""
    x = operand(a, name)
    there = ~isnan(x) if dtypes.is_inexact(x.dtype) else el.eq(x, x)
    return convert(red.sum(there, axis, dtypes.default_int(), keepdims=keepdims, where=mask), dtype)


def nanmean(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    keepdims: bool = False,
    where: Any = None,
) -> Any:
    """Mean of elements that are not NaN; arguments as for `mean`."""
    x = operand(a, "nanmean")
    if not dtypes.is_inexact(x.dtype):
        return red.mean(x, axis, dtype, out, keepdims, where=where)
    target = x.dtype if dtype is None else dtypes.requested(dtype, "nanmean")
    whole = nansum(x, axis, target, out, keepdims, where=where)
    return el.div(whole, _counted("nanmean", x, axis, keepdims, where, whole.dtype))


def nanvar(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    ddof: int = 0,
    keepdims: bool = False,
    where: Any = None,
    mean: Any = None,
) -> Any:
    """Variance of elements that are not NaN; arguments as for `var`."""
    red.no_out("nanvar", out)
    (x,) = promote_inexact(operand(a, "nanvar"))
    if dtype is not None:
        x = convert(x, dtypes.requested(dtype, "nanvar"))
    centre = nanmean(x, axis, keepdims=True, where=where) if mean is None else mean
    deviation = _deviation(x, centre)
    if dtypes.is_complex(x.dtype):
        squares = el.add(el.square(el.real(deviation)), el.square(el.imag(deviation)))
    else:
        squares = el.square(deviation)
    count = _counted("nanvar", x, axis, keepdims, where, squares.dtype)
    whole = red.sum(squares, axis, keepdims=keepdims, where=where)
    return _ratio(whole, count, ddof)


def _deviation(x: Any, centre: Any) -> Any:
    return where(isnan(x), constant(0, x.dtype), x - centre)


def _ratio(whole: Any, count: Any, ddof: int) -> Any:
    """The sum over the count less `ddof`, NaN where that is not positive."""
    divisor = count - ddof
    enough = divisor > 0
    nan = constant(math.nan, whole.dtype)
    return where(enough, whole / where(enough, divisor, constant(1, count.dtype)), nan)


def nanstd(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: None = None,
    ddof: int = 0,
    keepdims: bool = False,
    where: Any = None,
    mean: Any = None,
) -> Any:
    """Standard deviation of elements that are not NaN; arguments as for `var`."""
    return sqrt(nanvar(a, axis, dtype, out, ddof, keepdims, where, mean))
