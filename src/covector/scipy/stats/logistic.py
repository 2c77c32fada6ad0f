"""The logistic distribution."""

from __future__ import annotations

from typing import Any

import covector.numpy as cnp
from covector.scipy.arguments import floats
from covector.scipy.integrals import expit, logit


def logpdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density.

    Args:
        x: where.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, loc, scale = floats("logistic.logpdf", x, loc, scale)
    half = 0.5 * (x - loc) / scale
    return -2 * cnp.logaddexp(half, -half) - cnp.log(scale)


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
    x, loc, scale = floats("logistic.cdf", x, loc, scale)
    return expit((x - loc) / scale)


def sf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of numbers above `x`.

    Args:
        x: where.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, loc, scale = floats("logistic.sf", x, loc, scale)
    return expit((loc - x) / scale)


def ppf(q: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The number up to which the probability is `q`.

    Args:
        q: probabilities.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    q, loc, scale = floats("logistic.ppf", q, loc, scale)
    return logit(q) * scale + loc


def isf(q: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The number above which the probability is `q`.

    Args:
        q: probabilities.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    q, loc, scale = floats("logistic.isf", q, loc, scale)
    return loc - logit(q) * scale
