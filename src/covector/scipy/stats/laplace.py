"""Laplace's distribution."""

from __future__ import annotations

from typing import Any

import covector.numpy as cnp
from covector.scipy.arguments import floats


def logpdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density.

    Args:
        x: where.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, loc, scale = floats("laplace.logpdf", x, loc, scale)
    return -(cnp.abs(x - loc) / scale + cnp.log(2 * scale))


def pdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density.

    Args:
        x: where.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    return cnp.exp(logpdf(x, loc, scale))


def cdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of numbers up to `x`.

    Args:
        x: where.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, loc, scale = floats("laplace.cdf", x, loc, scale)
    standard = (x - loc) / scale
    tail = 0.5 * cnp.exp(-cnp.abs(standard))
    return cnp.where(standard <= 0, tail, 1 - tail)
