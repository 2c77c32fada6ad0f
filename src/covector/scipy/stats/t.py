"""Student's distribution."""

from __future__ import annotations

import math
from typing import Any

import covector.numpy as cnp
from covector.scipy.arguments import floats
from covector.scipy.gammas import gammaln


def logpdf(x: Any, df: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density.

    Args:
        x: where.
        df: degrees of freedom, positive.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    x, df, loc, scale = floats("t.logpdf", x, df, loc, scale)
    standard = (x - loc) / scale
    half = 0.5 * df
    size = gammaln(half) - gammaln(half + 0.5) + 0.5 * cnp.log(math.pi * df) + cnp.log(scale)
    return -(size + (half + 0.5) * cnp.log1p(standard * standard / df))


def pdf(x: Any, df: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density.

    Args:
        x: where.
        df: degrees of freedom, positive.
        loc: shift of the distribution.
        scale: its factor, positive.
    """
    return cnp.exp(logpdf(x, df, loc, scale))
