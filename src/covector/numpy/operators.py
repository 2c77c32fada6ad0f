"""Installs what Python's operators do on arrays and tracers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from covector.core.array import Array
from covector.core.dims import Dim
from covector.core.operand import install_operators
from covector.core.trace import Tracer
from covector.numpy import elementwise as el
from covector.ops import dimension as dimension  # symbolic sizes become values

_ACCEPTED = (Array, Tracer, np.ndarray, np.generic, bool, int, float, complex, Dim)


def _binary(fn: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """An operator: declines operands it does not know, so that theirs gets a chance."""

    def operator(lhs: Any, rhs: Any) -> Any:
        if not isinstance(lhs, _ACCEPTED) or not isinstance(rhs, _ACCEPTED):
            return NotImplemented
        return fn(lhs, rhs)

    return operator


def _matmul(x: Any, y: Any) -> Any:
    from covector.numpy.products import matmul

    return matmul(x, y)


def _round(x: Any, ndigits: int | None) -> Any:
    from covector.numpy.rounding import round as round_

    return round_(x, ndigits or 0)


def _getitem(x: Any, index: Any) -> Any:
    from covector.numpy.indexing import getitem

    return getitem(x, index)


def install() -> None:
    """Makes Python's operators call the functions of this package."""
    install_operators(
        {
            "add": _binary(el.add),
            "sub": _binary(el.subtract),
            "mul": _binary(el.multiply),
            "truediv": _binary(el.true_divide),
            "floordiv": _binary(el.floor_divide),
            "mod": _binary(el.remainder),
            "divmod": _binary(el.divmod),
            "pow": _binary(el.power),
            "matmul": _binary(_matmul),
            "and": _binary(el.bitwise_and),
            "or": _binary(el.bitwise_or),
            "xor": _binary(el.bitwise_xor),
            "lshift": _binary(el.left_shift),
            "rshift": _binary(el.right_shift),
            "eq": _binary(el.equal),
            "ne": _binary(el.not_equal),
            "lt": _binary(el.less),
            "le": _binary(el.less_equal),
            "gt": _binary(el.greater),
            "ge": _binary(el.greater_equal),
            "neg": el.negative,
            "pos": el.positive,
            "abs": el.absolute,
            "invert": el.bitwise_not,
            "round": _round,
            "getitem": _getitem,
        }
    )
