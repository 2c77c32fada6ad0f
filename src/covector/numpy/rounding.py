"""Rounding and clipping."""

from __future__ import annotations

from typing import Any

from covector.core import dtypes
from covector.numpy.elementwise import maximum, minimum
from covector.numpy.promote import constant, operand, promote_inexact
from covector.numpy.reductions import no_out
from covector.ops import elementwise as el

__all__ = ["around", "ceil", "clip", "fix", "floor", "nan_to_num", "rint", "round", "trunc"]

_TO_NEAREST_EVEN = 1


def _inexact(x: Any, name: str) -> Any:
    x = operand(x, name)
    return x if dtypes.is_inexact(x.aval.dtype) else promote_inexact(x)[0]


def floor(x: Any, /) -> Any:
    """The largest integer not above each element, as a float."""
    x = operand(x, "floor")
    return el.floor(x) if dtypes.is_inexact(x.aval.dtype) else x


def ceil(x: Any, /) -> Any:
    """The smallest integer not below each element, as a float."""
    x = operand(x, "ceil")
    return el.ceil(x) if dtypes.is_inexact(x.aval.dtype) else x


def trunc(x: Any, /) -> Any:
    """Each element rounded towards zero."""
    x = operand(x, "trunc")
    if not dtypes.is_inexact(x.aval.dtype):
        return x
    return el.select_n(el.lt(x, constant(0, x.aval.dtype)), el.floor(x), el.ceil(x))


fix = trunc


def rint(x: Any, /) -> Any:
    """Each element rounded to the nearest integer, halves to the even one."""
    return _to_integers(_inexact(x, "rint"))


def _to_integers(x: Any) -> Any:
    """Floats rounded to the nearest integers, both parts of complex numbers."""
    if dtypes.is_complex(x.aval.dtype):
        return el.complex_(_to_integers(el.real(x)), _to_integers(el.imag(x)))
    return el.round_(x, rounding_method=_TO_NEAREST_EVEN)


def round(a: Any, decimals: int = 0, out: None = None) -> Any:  # NumPy's name
    """Rounds to a number of decimals, halves to even.

    Args:
        a: an array.
        decimals: how many; negative ones round to tens, hundreds ...
        out: must be `None`.

    Raises:
        NotImplementedError: for integers and negative decimals.
    """
    no_out("round", out)
    a = operand(a, "round")
    dtype = a.aval.dtype
    if dtypes.is_integer(dtype) or dtype == dtypes.bool_:
        if decimals < 0:
            raise NotImplementedError("round of integers to negative decimals is not supported")
        return a
    if decimals == 0:
        return _to_integers(a)
    factor = constant(10.0**decimals, dtype)
    return el.div(_to_integers(el.mul(a, factor)), factor)


around = round


def clip(a: Any, min: Any = None, max: Any = None) -> Any:  # NumPy's names
    """Elements below `min` raised to it, those above `max` lowered to it.

    Args:
        a: an array.
        min: lower bounds, or `None`.
        max: upper bounds, or `None`; they win over lower ones.
    """
    a = operand(a, "clip")
    if dtypes.is_complex(a.aval.dtype):
        raise ValueError("clip is not defined for complex numbers")
    if min is not None:
        a = maximum(min, a)
    return a if max is None else minimum(max, a)


def nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    """NaN and infinities replaced by numbers.

    Args:
        x: an array.
        copy: has no meaning for immutable arrays.
        nan: for NaN.
        posinf: for infinity, by default the largest number of the dtype.
        neginf: for minus infinity, by default the lowest number of the dtype.
    """
    x = operand(x, "nan_to_num")
    dtype = x.aval.dtype
    if not dtypes.is_inexact(dtype):
        return x
    if dtypes.is_complex(dtype):
        parts = [nan_to_num(p, copy, nan, posinf, neginf) for p in (el.real(x), el.imag(x))]
        return el.complex_(*parts)
    from covector.numpy.elementwise import where

    info = dtypes.finfo(dtype)
    high = constant(float(info.max) if posinf is None else posinf, dtype)
    low = constant(float(info.min) if neginf is None else neginf, dtype)
    x = where(el.ne(x, x), constant(nan, dtype), x)
    x = where(el.eq(x, constant(float("inf"), dtype)), high, x)
    return where(el.eq(x, constant(float("-inf"), dtype)), low, x)
