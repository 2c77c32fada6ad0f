"""Cauchy's distribution."""

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
    x, loc, scale = floats("cauchy.logpdf", x, loc, scale)
    standard = (x - loc) / scale
    return -(cnp.log(math.pi * scale) + cnp.log1p(standard * standard))


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
    x, loc, scale = floats("cauchy.cdf", x, loc, scale)
    return 0.5 + cnp.arctan((x - loc) / scale) / math.pi


def logcdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the probability of numbers up to `x`.

    Args:
        x: where.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    return cnp.log(cdf(x, loc, scale))


def sf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of numbers above `x`.

    Args:
        x: where.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, loc, scale = floats("cauchy.sf", x, loc, scale)
    return 0.5 + cnp.arctan((loc - x) / scale) / math.pi


def logsf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the probability of numbers above `x`.

    Args:
        x: where.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    return cnp.log(sf(x, loc, scale))


def ppf(q: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The number up to which the probability is `q`.

    Args:
        q: probabilities.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    q, loc, scale = floats("cauchy.ppf", q, loc, scale)
    return loc - scale / cnp.tan(math.pi * q)


def isf(q: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The number above which the probability is `q`.

    Args:
        q: probabilities.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    q, loc, scale = floats("cauchy.isf", q, loc, scale)
    return loc + scale / cnp.tan(math.pi * q)
