"""Poisson's distribution."""

from __future__ import annotations

import math
from typing import Any

import covector.numpy as cnp
from covector.scipy.arguments import floats
from covector.scipy.entropies import xlogy
from covector.scipy.gammas import gammaincc, gammaln


def logpmf(k: Any, mu: Any, loc: Any = 0) -> Any:
    """The logarithm of the probability.

    Args:
        k: which number.
        mu: the mean, not negative.
        loc: shift of the distribution.
    """
    k, mu, loc = floats("poisson.logpmf", k, mu, loc)
    x = k - loc
    outside = cnp.logical_or(x < 0, cnp.round(k) != k)
    safe = cnp.where(outside, 0, x)
    return cnp.where(outside, -math.inf, xlogy(safe, mu) - gammaln(safe + 1) - mu)


def pmf(k: Any, mu: Any, loc: Any = 0) -> Any:
    """The probability.

    Args:
        k: which number.
        mu: the mean, not negative.
        loc: shift of the distribution.
    """
    return cnp.exp(logpmf(k, mu, loc))


def cdf(k: Any, mu: Any, loc: Any = 0) -> Any:
    """The probability of numbers up to `k`.

    Args:
        k: which number.
        mu: the mean, not negative.
        loc: shift of the distribution.
    """
    k, mu, loc = floats("poisson.cdf", k, mu, loc)
    x = k - loc
    return cnp.where(x < 0, 0, gammaincc(cnp.floor(1 + cnp.maximum(x, 0)), mu))
