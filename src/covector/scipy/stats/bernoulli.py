"""The distribution of a number that is 0 or 1."""

from __future__ import annotations

import math
from typing import Any

import covector.numpy as cnp
from covector.scipy.arguments import floats
from covector.scipy.entropies import xlog1py, xlogy


def logpmf(k: Any, p: Any, loc: Any = 0) -> Any:
    """The logarithm of the probability.

    Args:
        k: which number.
        p: probability of 1.
        loc: shift of the distribution.
    """
    k, p, loc = floats("bernoulli.logpmf", k, p, loc)
    x = k - loc
    outside = cnp.logical_or(x < 0, x > 1)
    return cnp.where(outside, -math.inf, xlogy(x, p) + xlog1py(1 - x, -p))


def pmf(k: Any, p: Any, loc: Any = 0) -> Any:
    """The probability.

    Args:
        k: which number.
        p: probability of 1.
        loc: shift of the distribution.
    """
    return cnp.exp(logpmf(k, p, loc))


def cdf(k: Any, p: Any) -> Any:
    """The probability of numbers up to `k`.

    Args:
        k: which number.
        p: probability of 1.
    """
    k, p = floats("bernoulli.cdf", k, p)
    value = cnp.where(k < 0, 0, cnp.where(k < 1, 1 - p, 1))
    return cnp.where(_possible(p, cnp.logical_not(cnp.isnan(k))), value, math.nan)


def ppf(q: Any, p: Any) -> Any:
    """The least number up to which the probability is at least `q`.

    Args:
        q: probabilities.
        p: probability of 1.
    """
    q, p = floats("bernoulli.ppf", q, p)
    value = cnp.where(q <= 1 - p, cnp.zeros_like(q), 1)
    return cnp.where(_possible(p, cnp.logical_and(q >= 0, q <= 1)), value, math.nan)


def _possible(p: Any, others: Any) -> Any:
    """Where a probability and the other arguments have values that they may have."""
    return cnp.logical_and(cnp.logical_and(p >= 0, p <= 1), others)
