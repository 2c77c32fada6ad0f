"""The exponential distribution."""

from __future__ import annotations

import math
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
    x, loc, scale = floats("expon.logpdf", x, loc, scale)
    return cnp.where(x < loc, -math.inf, -((x - loc) / scale + cnp.log(scale)))


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
    x, loc, scale = floats("expon.cdf", x, loc, scale)
    return cnp.where(x < loc, 0, -cnp.expm1((loc - x) / scale))


def logcdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the probability of numbers up to `x`.

    Args:
        x: where.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    return cnp.log1p(-sf(x, loc, scale))


def sf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of numbers above `x`.

    Args:
        x: where.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    return cnp.exp(logsf(x, loc, scale))


def logsf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the probability of numbers above `x`.

    Args:
        x: where.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, loc, scale = floats("expon.logsf", x, loc, scale)
    return cnp.where(x < loc, 0, (loc - x) / scale)


def ppf(q: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The number up to which the probability is `q`.

    Args:
        q: probabilities.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    q, loc, scale = floats("expon.ppf", q, loc, scale)
    possible = cnp.logical_and(q >= 0, q <= 1)
    return cnp.where(possible, loc - scale * cnp.log1p(-q), math.nan)
