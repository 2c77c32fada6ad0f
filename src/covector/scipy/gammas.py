"""The gamma and beta functions and their relatives, as functions of `scipy.special`."""

from __future__ import annotations

import math
import operator
from fractions import Fraction
from typing import Any

import numpy as np

import covector.numpy as cnp
from covector.core import dtypes
from covector.core.errors import compose
from covector.core.source import here
from covector.numpy.promote import operand
from covector.ops import elementwise as el
from covector.scipy.arguments import apply, floats

__all__ = [
    "bernoulli",
    "beta",
    "betainc",
    "betaln",
    "comb",
    "digamma",
    "factorial",
    "gamma",
    "gammainc",
    "gammaincc",
    "gammaln",
    "gammasgn",
    "loggamma",
    "multigammaln",
    "poch",
    "polygamma",
    "zeta",
]


def _real(name: str, *values: Any) -> list[Any]:
    found = floats(name, *values)
    if dtypes.is_complex(found[0].dtype):
        raise ValueError(f"scipy.special.{name} is not defined here for complex numbers")
    return found


# --- the gamma function ---------------------------------------------------------------------------


def gammaln(x: Any) -> Any:
    """The logarithm of the absolute value of the gamma function.

    Args:
        x: real numbers.

    >>> from covector.scipy import special
    >>> special.gammaln(5)
    Array(3.1780539, dtype=float32, weak_type=True)
    """
    return apply(el.lgamma, "gammaln", x)


def gammasgn(x: Any) -> Any:
    """The sign of the gamma function; NaN at its poles, where it changes, but the one at 0.

    Args:
        x: real numbers.
    """
    (x,) = _real("gammasgn", x)
    below = cnp.floor(x)
    pole = cnp.logical_and(x < 0, x == below)
    odd = cnp.logical_and(x < 0, below % 2 != 0)
    minus_zero = cnp.logical_and(x == 0, cnp.signbit(x))
    sign = cnp.where(cnp.logical_or(odd, minus_zero), -1, cnp.ones_like(x))
    return cnp.where(cnp.logical_or(pole, cnp.isnan(x)), math.nan, sign)


def gamma(x: Any) -> Any:
    """The gamma function.

    Args:
        x: real numbers.
    """
    (x,) = _real("gamma", x)
    return gammasgn(x) * cnp.exp(el.lgamma(x))


def loggamma(x: Any) -> Any:
    """The logarithm of the gamma function; NaN for `x` that are not positive.

    Args:
        x: real numbers.
    """
    (x,) = _real("loggamma", x)
    return cnp.where(x > 0, el.lgamma(x), math.nan)


def digamma(x: Any) -> Any:
    """The derivative of the logarithm of the gamma function.

    Args:
        x: real numbers.
    """
    return apply(el.digamma, "digamma", x)


def polygamma(n: Any, x: Any) -> Any:
    """The derivatives of digamma.

    Args:
        n: whole numbers that are not negative, of an integer dtype.
        x: real numbers.

    Raises:
        ValueError: `n` is not of an integer dtype.
    """
    order = operand(n, "polygamma")
    if not dtypes.is_integer(order.dtype):
        raise ValueError(
            compose(
                "polygamma takes orders of an integer dtype",
                found=str(order.aval),
                fix="convert it with astype(int)",
                line=here(),
            )
        )
    return apply(el.polygamma, "polygamma", order, x)


def multigammaln(a: Any, d: int) -> Any:
    """The logarithm of the gamma function of `d` by `d` positive definite matrices.

    Args:
        a: real numbers above `(d - 1) / 2`.
        d: an int known while tracing.
    """
    (a,) = floats("multigammaln", a)
    size = _known("d of multigammaln", d)
    total: Any = 0.25 * size * (size - 1) * math.log(math.pi)
    for k in range(size):
        total = total + el.lgamma(a - 0.5 * k)
    return total


def _known(what: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(
            compose(
                f"the argument {what} must be an int known while tracing",
                found=repr(value)[:120],
                fix="mark it static (static_argnums of jit)",
                line=here(),
            )
        ) from None


def gammainc(a: Any, x: Any) -> Any:
    """The regularised lower incomplete gamma function.

    Args:
        a: positive numbers.
        x: numbers that are not negative.
    """
    return apply(el.igamma, "gammainc", a, x)


def gammaincc(a: Any, x: Any) -> Any:
    """The regularised upper incomplete gamma function.

    Args:
        a: positive numbers.
        x: numbers that are not negative.
    """
    return apply(el.igammac, "gammaincc", a, x)


# --- products of gamma functions ------------------------------------------------------------------


def factorial(n: Any, exact: bool = False) -> Any:
    """The gamma function of `n + 1`; 0 for negative `n`.

    Args:
        n: real numbers.
        exact: must be `False`: arrays hold no integers of any size.
    """
    if exact:
        raise NotImplementedError("scipy.special.factorial: exact=True is not supported")
    (n,) = _real("factorial", n)
    return cnp.where(n < 0, 0, cnp.exp(el.lgamma(n + 1)))


def comb(N: Any, k: Any, *, repetition: bool = False) -> Any:
    """The number of ways to choose `k` of `N` things.

    Args:
        N: numbers of things.
        k: how many to choose.
        repetition: whether the same thing may be chosen again.

    Returns:
        Floats; 0 where there is no way.
    """
    n, k = _real("comb", N, k)
    if repetition:
        nothing = cnp.logical_and(k == 0, n >= 0)
        return cnp.where(nothing, 1.0, comb(n + k - 1, k))
    possible = cnp.logical_and(k <= n, cnp.logical_and(n >= 0, k >= 0))
    n, k = cnp.where(possible, n, 0.0), cnp.where(possible, k, 0.0)
    ways = cnp.exp(el.lgamma(n + 1) - el.lgamma(k + 1) - el.lgamma(n + 1 - k))
    return cnp.where(possible, ways, 0.0)


def poch(z: Any, m: Any) -> Any:
    """The gamma function of `z + m` divided by that of `z`.

    Args:
        z: real numbers.
        m: real numbers.
    """
    z, m = _real("poch", z, m)
    size = cnp.exp(cnp.subtract(el.lgamma(z + m), el.lgamma(z)))
    value = gammasgn(z + m) * gammasgn(z) * size
    # At the poles the quotient has no value, but for m = 0, where it is 1.
    return cnp.where(cnp.logical_and(m == 0, cnp.isnan(value)), 1, value)


def betaln(a: Any, b: Any) -> Any:
    """The logarithm of the absolute value of the beta function.

    Args:
        a: real numbers.
        b: real numbers.
    """
    a, b = _real("betaln", a, b)
    less, greater = cnp.minimum(a, b), cnp.maximum(a, b)
    large = less >= _LARGE
    mixed = cnp.logical_and(greater >= _LARGE, cnp.logical_and(less > 0, less < _LARGE))
    direct = el.lgamma(a) + el.lgamma(b) - el.lgamma(a + b)
    p, q = cnp.where(large, less, _LARGE), cnp.where(large, greater, _LARGE)
    value = cnp.where(large, _beta_of_large(p, q), direct)
    p, q = cnp.where(mixed, less, 1.0), cnp.where(mixed, greater, _LARGE)
    return cnp.where(mixed, el.lgamma(p) + _gamma_quotient(p, q), value)


_LARGE = 10.0
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)


def _stirling(x: Any) -> Any:
    """log Gamma(x) - ((x - 1/2) log x - x + log(2 pi) / 2), for x >= 10."""
    square = 1 / (x * x)
    total: Any = 0.0
    for c in reversed(_STIRLING):
        total = total * square + c
    return total / x


def _beta_of_large(p: Any, q: Any) -> Any:
    """log B(p, q) without the cancellation of three large logarithms, for p, q >= 10."""
    small = _stirling(p) + _stirling(q) - _stirling(p + q)
    shares = (p - 0.5) * cnp.log(p / (p + q)) - q * cnp.log1p(p / q)
    return shares - 0.5 * cnp.log(q) + 0.5 * math.log(2 * math.pi) + small


def _gamma_quotient(p: Any, q: Any) -> Any:
    """log Gamma(q) - log Gamma(p + q) likewise, for p > 0, q >= 10."""
    small = _stirling(q) - _stirling(p + q)
    return p - p * cnp.log(p + q) - (q - 0.5) * cnp.log1p(p / q) + small


def beta(a: Any, b: Any) -> Any:
    """The beta function.

    Args:
        a: real numbers.
        b: real numbers.
    """
    a, b = _real("beta", a, b)
    return gammasgn(a) * gammasgn(b) * gammasgn(a + b) * cnp.exp(betaln(a, b))


def betainc(a: Any, b: Any, x: Any) -> Any:
    """The regularised incomplete beta function.

    Args:
        a: positive numbers.
        b: positive numbers.
        x: numbers from 0 to 1.
    """
    return apply(el.regularized_incomplete_beta, "betainc", a, b, x)


# --- sums -----------------------------------------------------------------------------------------


def zeta(x: Any, q: Any = None) -> Any:
    """Hurwitz's zeta function: the sum of `(k + q)^-x` over `k >= 0`.

    Args:
        x: real numbers.
        q: real numbers; 1 gives Riemann's zeta function.

    Raises:
        NotImplementedError: without `q`.
    """
    if q is None:
        raise NotImplementedError(
            "scipy.special.zeta needs q; pass q=1 for Riemann's zeta function of x > 1"
        )
    return apply(el.zeta, "zeta", x, q)


def bernoulli(n: int) -> Any:
    """The Bernoulli numbers of order 0 to `n`, with -1/2 for order 1.

    Args:
        n: an int known while tracing.

    >>> from covector.scipy import special
    >>> special.bernoulli(2)
    Array([ 1.        , -0.5       ,  0.16666667], dtype=float32)
    """
    order = _known("n of bernoulli", n)
    if order < 0:
        raise ValueError(f"scipy.special.bernoulli: n must not be negative, found {order}")
    numbers: list[Fraction] = []
    for k in range(order + 1):
        earlier = sum([math.comb(k + 1, j) * b for j, b in enumerate(numbers)], Fraction(0))
        numbers.append(Fraction(1) if k == 0 else -earlier / (k + 1))
    return cnp.asarray(np.array([float(b) for b in numbers], dtypes.default_float()))
