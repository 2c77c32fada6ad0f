"""The uniform distribution."""

from __future__ import annotations

import math
from typing import Any

import covector.numpy as cnp
from covector.scipy.arguments import floats


def logpdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density.

    Args:
        x: where.
        loc: lower end.
        scale: length, positive.
    """
    x, loc, scale = floats("uniform.logpdf", x, loc, scale)
    outside = cnp.logical_or(x < loc, x > loc + scale)
    value = cnp.where(cnp.isnan(x), math.nan, -cnp.log(scale))
    return cnp.where(outside, -math.inf, value)


def pdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density.

    Args:
        x: where.
        loc: lower end.
        scale: length, positive.
    """
    return cnp.exp(logpdf(x, loc, scale))


def cdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of numbers up to `x`.

    Args:
        x: where.
        loc: lower end.
        scale: length, positive.
    """
    x, loc, scale = floats("uniform.cdf", x, loc, scale)
    share = (x - loc) / scale
    return cnp.where(x < loc, 0, cnp.where(x > loc + scale, 1, share))


def ppf(q: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The number up to which the probability is `q`.

    Args:
        q: probabilities.
        loc: lower end.
        scale: length, positive.
    """
    q, loc, scale = floats("uniform.ppf", q, loc, scale)
    possible = cnp.logical_and(q >= 0, q <= 1)
    return cnp.where(possible, loc + scale * q, math.nan)
