"""Products with logarithms, and other elementary functions of `scipy.special`."""

from __future__ import annotations

import math
from typing import Any

import covector.numpy as cnp
from covector import nn
from covector.core import dtypes
from covector.nn import logsumexp
from covector.numpy.reductions import Axis
from covector.ops import integrals as ops
from covector.scipy.arguments import apply, floats

__all__ = [
    "boxcox",
    "boxcox1p",
    "entr",
    "kl_div",
    "log_softmax",
    "logsumexp",
    "rel_entr",
    "softmax",
    "xlog1py",
    "xlogy",
]


def xlogy(x: Any, y: Any) -> Any:
    """`x log(y)`, but 0 where `x` is 0.

    Args:
        x: numbers.
        y: numbers.

    >>> from covector.scipy import special
    >>> special.xlogy(0.0, 0.0)
    Array(0., dtype=float32, weak_type=True)
    """
    return apply(ops.xlogy, "xlogy", x, y)


def xlog1py(x: Any, y: Any) -> Any:
    """`x log(1 + y)`, but 0 where `x` is 0.

    Args:
        x: numbers.
        y: numbers.
    """
    return apply(ops.xlog1py, "xlog1py", x, y)


def _real(name: str, *values: Any) -> list[Any]:
    found = floats(name, *values)
    if dtypes.is_complex(found[0].dtype):
        raise ValueError(f"scipy.special.{name} is not defined for complex numbers")
    return found


def entr(x: Any) -> Any:
    """`-x log(x)`, 0 at 0, and minus infinity below.

    Args:
        x: real numbers.
    """
    (x,) = _real("entr", x)
    return cnp.where(x < 0, -math.inf, -ops.xlogx(x))


def rel_entr(p: Any, q: Any) -> Any:
    """`p log(p / q)`, 0 where `p` is 0, and infinity where either is negative or only `q` is 0.

    Args:
        p: real numbers.
        q: real numbers.
    """
    p, q = _real("rel_entr", p, q)
    positive = cnp.logical_and(p > 0, q > 0)
    nothing = cnp.logical_and(p == 0, q >= 0)
    safe_p, safe_q = cnp.where(positive, p, 1), cnp.where(positive, q, 1)
    value = ops.xlogx(safe_p) - safe_p * cnp.log(safe_q)
    value = cnp.where(positive, value, cnp.where(nothing, 0, math.inf))
    return cnp.where(cnp.logical_or(cnp.isnan(p), cnp.isnan(q)), math.nan, value)


def kl_div(p: Any, q: Any) -> Any:
    """`rel_entr(p, q) - p + q`.

    Args:
        p: real numbers.
        q: real numbers.
    """
    p, q = _real("kl_div", p, q)
    return rel_entr(p, q) - p + q


def boxcox(x: Any, lmbda: Any) -> Any:
    """`(x^lmbda - 1) / lmbda`, and `log(x)` where that is 0.

    Args:
        x: positive numbers.
        lmbda: real numbers.
    """
    x, power = floats("boxcox", x, lmbda)
    return _boxcox(cnp.log(x), power)


def boxcox1p(x: Any, lmbda: Any) -> Any:
    """`boxcox` of `1 + x`.

    Args:
        x: numbers above -1.
        lmbda: real numbers.
    """
    x, power = floats("boxcox1p", x, lmbda)
    return _boxcox(cnp.log1p(x), power)


def _boxcox(logarithm: Any, power: Any) -> Any:
    gone = power == 0
    safe = cnp.where(gone, 1, power)
    return cnp.where(gone, logarithm, cnp.expm1(safe * logarithm) / safe)


def softmax(x: Any, /, *, axis: Axis = None) -> Any:
    """Exponentials divided by their sum along axes.

    Args:
        x: an array.
        axis: one or several, `None` for all.
    """
    return nn.softmax(x, axis)


def log_softmax(x: Any, /, *, axis: Axis = None) -> Any:
    """The logarithm of the softmax.

    Args:
        x: an array.
        axis: one or several, `None` for all.
    """
    return nn.log_softmax(x, axis)
