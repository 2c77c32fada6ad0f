"""The beta distribution."""

from __future__ import annotations

import math
from typing import Any

import covector.numpy as cnp
from covector.scipy.arguments import floats
from covector.scipy.entropies import xlog1py, xlogy
from covector.scipy.gammas import betainc, betaln


def logpdf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density.

    Args:
        x: where.
        a: shape, positive.
        b: the other shape, positive.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, a, b, loc, scale = floats("beta.logpdf", x, a, b, loc, scale)
    standard = (x - loc) / scale
    value = xlogy(a - 1, standard) + xlog1py(b - 1, -standard) - betaln(a, b) - cnp.log(scale)
    outside = cnp.logical_or(x < loc, x > loc + scale)
    value = cnp.where(outside, -math.inf, value)
    wrong = cnp.logical_or(cnp.logical_or(a <= 0, b <= 0), scale <= 0)
    return cnp.where(wrong, math.nan, value)


def pdf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density.

    Args:
        x: where.
        a: shape, positive.
        b: the other shape, positive.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    return cnp.exp(logpdf(x, a, b, loc, scale))


def cdf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of numbers up to `x`.

    Args:
        x: where.
        a: shape, positive.
        b: the other shape, positive.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, a, b, loc, scale = floats("beta.cdf", x, a, b, loc, scale)
    return betainc(a, b, cnp.clip((x - loc) / scale, 0, 1))


def logcdf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the probability of numbers up to `x`.

    Args:
        x: where.
        a: shape, positive.
        b: the other shape, positive.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    return cnp.log(cdf(x, a, b, loc, scale))


def sf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of numbers above `x`.

    Args:
        x: where.
        a: shape, positive.
        b: the other shape, positive.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, a, b, loc, scale = floats("beta.sf", x, a, b, loc, scale)
    return betainc(b, a, 1 - cnp.clip((x - loc) / scale, 0, 1))


def logsf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the probability of numbers above `x`.

    Args:
        x: where.
        a: shape, positive.
        b: the other shape, positive.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    return cnp.log(sf(x, a, b, loc, scale))
