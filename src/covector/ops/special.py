"""Special functions: the gamma function and its relatives.

Names and meanings are those of `jax.lax`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from covector.ops.arithmetic import mul
from covector.ops.functions import function, scipy_function

Array = np.ndarray[Any, Any]
Scalar = Any

# --- gamma and its logarithmic derivatives ------------------------------------------------------


def _lgamma_evaluate(x: Array) -> Any:
    return np.where(np.isinf(x), np.inf, scipy_function("gammaln")(x))


lgamma = function("lgamma", _lgamma_evaluate, lambda t, x: mul(t, digamma(x)), kinds="f", cost=40.0)


def _digamma_evaluate(x: Array) -> Any:
    pole = (x <= 0) & (x == np.floor(x))
    return np.where(pole, np.nan, scipy_function("digamma")(x))


def _digamma_jvp(t: Any, x: Any) -> Any:
    return mul(t, polygamma(like(x, 1), x))


digamma = function("digamma", _digamma_evaluate, _digamma_jvp, kinds="f", cost=40.0)
