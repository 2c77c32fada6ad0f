"""The gamma distribution."""

from __future__ import annotations

import math
from typing import Any

import covector.numpy as cnp
from covector.scipy.arguments import floats
from covector.scipy.entropies import xlogy
from covector.scipy.gammas import gammainc, gammaincc, gammaln


def logpdf(x: Any, a: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density.

    Args:
        x: where.
        a: shape, positive.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, a, loc, scale = floats("gamma.logpdf", x, a, loc, scale)
    outside = x < loc
    standard = cnp.where(outside, 1, (x - loc) / scale)
    value = xlogy(a - 1, standard) - standard - gammaln(a) - cnp.log(scale)
    return cnp.where(outside, -math.inf, value)


def pdf(x: Any, a: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density.

    Args:
        x: where.
        a: shape, positive.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    return cnp.exp(logpdf(x, a, loc, scale))


def cdf(x: Any, a: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of numbers up to `x`.

    Args:
        x: where.
        a: shape, positive.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, a, loc, scale = floats("gamma.cdf", x, a, loc, scale)
    return gammainc(a, cnp.maximum((x - loc) / scale, 0))


def logcdf(x: Any, a: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the probability of numbers up to `x`.

    Args:
        x: where.
        a: shape, positive.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    return cnp.log(cdf(x, a, loc, scale))


def sf(x: Any, a: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of numbers above `x`.

    Args:
        x: where.
        a: shape, positive.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, a, loc, scale = floats("gamma.sf", x, a, loc, scale)
    standard = (x - loc) / scale
    return cnp.where(standard < 0, 1, gammaincc(a, cnp.maximum(standard, 0)))


def logsf(x: Any, a: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the probability of numbers above `x`.

    Args:
        x: where.
        a: shape, positive.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    return cnp.log(sf(x, a, loc, scale))
