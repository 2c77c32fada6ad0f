"""The binomial distribution."""

from __future__ import annotations

import math
from typing import Any

import covector.numpy as cnp
from covector.scipy.arguments import floats
from covector.scipy.entropies import xlog1py, xlogy
from covector.scipy.gammas import gammaln


def logpmf(k: Any, n: Any, p: Any, loc: Any = 0) -> Any:
    """The logarithm of the probability.

    Args:
        k: number of successes.
        n: number of trials.
        p: probability of success.
        loc: shift of the distribution.
    """
    k, n, p, loc = floats("binom.logpmf", k, n, p, loc)
    x = k - loc
    inside = cnp.logical_and(x >= 0, x < n + 1)
    safe = cnp.where(inside, x, 0)
    ways = gammaln(n + 1) - gammaln(safe + 1) - gammaln(n - safe + 1)
    value = ways + xlogy(safe, p) + xlog1py(n - safe, -p)
    return cnp.where(inside, value, -math.inf)


def pmf(k: Any, n: Any, p: Any, loc: Any = 0) -> Any:
    """The probability.

    Args:
        k: number of successes.
        n: number of trials.
        p: probability of success.
        loc: shift of the distribution.
    """
    return cnp.exp(logpmf(k, n, p, loc))
