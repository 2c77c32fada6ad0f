"""The normal distribution."""

from __future__ import annotations

import math
from typing import Any

import covector.numpy as cnp
from covector.scipy.arguments import floats
from covector.scipy.integrals import log_ndtr, ndtr, ndtri


def logpdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density.

    Args:
        x: where.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, loc, scale = floats("norm.logpdf", x, loc, scale)
    standard = (x - loc) / scale
    return -0.5 * standard * standard - cnp.log(scale) - 0.5 * math.log(2 * math.pi)


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
    x, loc, scale = floats("norm.cdf", x, loc, scale)
    return ndtr((x - loc) / scale)


def logcdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the probability of numbers up to `x`.

    Args:
        x: where.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, loc, scale = floats("norm.logcdf", x, loc, scale)
    return log_ndtr((x - loc) / scale)


def sf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of numbers above `x`.

    Args:
        x: where.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, loc, scale = floats("norm.sf", x, loc, scale)
    return ndtr((loc - x) / scale)


def logsf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the probability of numbers above `x`.

    Args:
        x: where.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, loc, scale = floats("norm.logsf", x, loc, scale)
    return log_ndtr((loc - x) / scale)


def ppf(q: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The number up to which the probability is `q`.

    Args:
        q: probabilities.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    q, loc, scale = floats("norm.ppf", q, loc, scale)
    return ndtri(q) * scale + loc


def isf(q: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The number above which the probability is `q`.

    Args:
        q: probabilities.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    q, loc, scale = floats("norm.isf", q, loc, scale)
    return loc - ndtri(q) * scale
