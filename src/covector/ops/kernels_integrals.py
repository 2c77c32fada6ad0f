"""Algorithms of exponential integrals, the dilogarithm, normal quantiles and Kummer's function.

Written as those in `kernels`, for NumPy arrays and for scalars of the loop IR.
"""

from __future__ import annotations

import math
from typing import Any

from covector.ops.kernels import EPS, TINY, Number, bessel_i0e, bessel_i1e

INF = math.inf
NAN = math.nan
_ROOT_HALF = math.sqrt(0.5)
_ROOT_PI = math.sqrt(math.pi)

# --- exponential integrals ------------------------------------------------------------------------


def _expn_series(m: Any, n: Number, x: Number) -> Number:
    """E_n for 0 < x <= 1 (DLMF 8.19.8); the term that would divide by 0 becomes a logarithm."""
    one = x * 0.0 + 1.0

    def step(k: Number, term: Number, total: Number) -> Any:
        gap = k + 1.0 - n
        part = m.where(m.equal(gap, 0.0), 0.0, term / m.where(m.equal(gap, 0.0), 1.0, gap))
        return k + 1.0, -term * x / (k + 1.0), total + part

    def unfinished(k: Number, term: Number, total: Number) -> Any:
        return (k < 3.0) | ((m.abs(term) > 1e-2 * EPS * m.abs(total)) & (k < 60.0))

    _, _, total = m.repeat(unfinished, step, x * 0.0, one, x * 0.0)
    odd = ~m.equal(n, 2.0 * m.floor(n * 0.5))
    size = m.exp((n - 1.0) * m.log(x) - m.lgamma(n)) * (m.digamma(n) - m.log(x))
    return m.where(odd, size, -size) - total


def _expn_fraction(m: Any, n: Number, x: Number) -> Number:
    """E_n exp(x) for x > 1 by the continued fraction of DLMF 8.19.17, by Lentz's method."""

    def step(k: Number, b: Number, c: Number, d: Number, h: Number, error: Number) -> Any:
        numerator, b = -k * (n - 1.0 + k), b + 2.0
        d = 1.0 / (numerator * d + b)
        c = b + numerator / c
        factor = c * d
        return k + 1.0, b, c, d, h * factor, m.abs(factor - 1.0)

    def unfinished(k: Number, b: Number, c: Number, d: Number, h: Number, error: Number) -> Any:
        return (error > EPS) & (k < 1000.0)

    one = x * 0.0 + 1.0
    first = x + n
    start = (one, first, one / TINY, 1.0 / first, 1.0 / first, one)
    return m.repeat(unfinished, step, *start)[4]


def expn(m: Any, n: Number, x: Number) -> Number:
    """The exponential integral E_n(x) for whole n >= 0."""
    regular = (n >= 1.0) & m.equal(n, m.floor(n)) & (x > 0.0) & (x < 1e300)
    near = regular & (x <= 1.0)
    far = regular & (x > 1.0)
    order = m.where(regular, n, 1.0)
    below = _expn_series(m, order, m.where(near, x, 0.5))
    x_far = m.where(far, x, 2.0)
    above = _expn_fraction(m, order, x_far) * m.exp(-x_far)
    value = m.where(near, below, above)
    value = m.where(m.equal(n, 0.0), m.exp(-x) / m.where(x > 0.0, x, 1.0), value)
    at_zero = m.where(n < 2.0, INF, 1.0 / m.where(n < 2.0, 1.0, n - 1.0))
    value = m.where(m.equal(x, 0.0), at_zero, value)
    value = m.where(x >= 1e300, 0.0, value)
    wrong = (n < 0.0) | (x < 0.0) | m.is_nan(x) | m.is_nan(n) | ~m.equal(n, m.floor(n))
    return m.where(wrong, NAN, value)


_FAR = 40.0


def _expi_series(m: Any, x: Number) -> Number:
    """Ei for 0 < x < 40: all terms are positive."""

    def step(k: Number, term: Number, total: Number) -> Any:
        term = term * x / k
        return k + 1.0, term, total + term / k

    def unfinished(k: Number, term: Number, total: Number) -> Any:
        return (k < 3.0) | (term > EPS * k * total)

    one = x * 0.0 + 1.0
    _, _, total = m.repeat(unfinished, step, one, one, x * 0.0)
    return total + (m.log(x) + 0.5772156649015329)


def _expi_asymptotic(m: Any, x: Number) -> Number:
    """Ei x exp(-x) for x >= 40: terms k!/x^k, which decrease beyond double precision."""

    def step(k: Number, term: Number, total: Number) -> Any:
        term = term * k / x
        return k + 1.0, term, total + term

    def unfinished(k: Number, term: Number, total: Number) -> Any:
        return (term > 0.1 * EPS) & (k < _FAR)

    one = x * 0.0 + 1.0
    return m.repeat(unfinished, step, one, one, one)[2]


def expi(m: Any, x: Number) -> Number:
    """The exponential integral Ei(x)."""
    near = (x > 0.0) & (x < _FAR)
    far = (x >= _FAR) & (x < 1e300)
    x_far = m.where(far, x, 50.0)
    value = m.where(
        near,
        _expi_series(m, m.where(near, x, 1.0)),
        m.exp(x_far) / x_far * _expi_asymptotic(m, x_far),
    )
    left = x < 0.0
    size = m.where(left, -x, 1.0)
    value = m.where(left, -expn(m, m.where(left, 1.0, 1.0), size), value)
    value = m.where(m.equal(x, 0.0), -INF, m.where(x >= 1e300, INF, value))
    return m.where(m.is_nan(x), NAN, value)


# --- the dilogarithm ------------------------------------------------------------------------------

_DILOGARITHM = (
    *(1 / 36, -1 / 3600, 1 / 211680, -1 / 10886400, 1 / 526901760),
    *(-691 / 16999766784000, 1 / 1120863744000, -3617 / 181400588328960000),
    *(43867 / 97072790126247936000, -174611 / 16860010916664115200000),
)
"""B_2k / (2k + 1)! for k from 1."""


def spence(m: Any, x: Number) -> Number:
    """The integral of log(t) / (1 - t) from 1 to x, which is Li_2(1 - x).

    In u = -log(x) it is u - u^2/4 + sum of B_2k u^(2k+1) / (2k+1)!; outside of [1/2, 2] by its
    functional equations.
    """
    large = x > 2.0
    inside = m.where(large, 1.0 / m.where(large, x, 1.0), x)
    small = (inside < 0.5) & (inside >= 0.0)
    middle = m.where(small, 1.0 - inside, m.where(inside > 0.0, inside, 1.0))
    u = -m.log(middle)
    square = u * u
    total: Number = square * 0.0
    for c in reversed(_DILOGARITHM):
        total = total * square + c
    value = u * (1.0 - 0.25 * u + square * total)
    logarithm = m.log(m.where(small & (inside > 0.0), inside, 1.0))
    value = m.where(small, math.pi**2 / 6 - logarithm * m.log(middle) - value, value)
    logarithm = m.log(m.where(large, x, 1.0))
    value = m.where(large, -0.5 * logarithm * logarithm - value, value)
    return m.where((x < 0.0) | m.equal(x, INF) | m.is_nan(x), NAN, value)


# --- normal probabilities -------------------------------------------------------------------------

_ASYMPTOTIC_TERMS = 12


def _mills_series(square: Number) -> Number:
    """1 - 1/x^2 + 1*3/x^4 - ... in terms of x^2, for |x| >= 15."""
    total: Number = square * 0.0 + 1.0
    for k in range(_ASYMPTOTIC_TERMS, 0, -1):
        total = 1.0 - (2.0 * k - 1.0) / square * total
    return total


def log_ndtr(m: Any, x: Number) -> Number:
    """The logarithm of the standard normal distribution function; needs `erfc`."""
    deep = x < -15.0
    far = m.where(deep, x, -15.0)
    tail = m.log(_mills_series(far * far)) - m.log(-far) - 0.5 * math.log(2.0 * math.pi)
    tail = m.where(m.equal(x, -INF), -INF, tail - 0.5 * far * far)
    right = x > 0.0
    near = m.where(deep | right, -1.0, x)
    left = m.log(0.5 * m.erfc(-near * _ROOT_HALF))
    above = m.log1p(-0.5 * m.erfc(m.where(right, x, 1.0) * _ROOT_HALF))
    value = m.where(deep, tail, m.where(right, above, left))
    return m.where(m.is_nan(x), NAN, value)


def ndtri(m: Any, p: Number) -> Number:
    """The quantile of the standard normal distribution; needs `erfc`, `erf_inv`.

    In the tails by Newton's method for the logarithm of the probability, from the approximation
    26.2.23 of Abramowitz and Stegun, whose error is below 4.5e-4.
    """
    low = (p > 0.0) & (p < 0.02)
    high = (p > 0.98) & (p < 1.0)
    share = m.where(low, p, m.where(high, 1.0 - p, 0.01))
    goal = m.log(share)
    t = m.sqrt(-2.0 * goal)
    upper = 2.515517 + t * (0.802853 + t * 0.010328)
    lower = 1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    x = t - upper / lower
    for _ in range(4):
        tail = 0.5 * m.erfc(x * _ROOT_HALF)
        slope = m.exp(-0.5 * x * x) / (math.sqrt(2.0 * math.pi) * tail)
        x = x + (m.log(tail) - goal) / slope
    inside = (p > 0.0) & (p < 1.0)
    middle = math.sqrt(2.0) * m.erf_inv(2.0 * m.where(inside, p, 0.5) - 1.0)
    value = m.where(low, -x, m.where(high, x, middle))
    value = m.where(m.equal(p, 0.0), -INF, m.where(m.equal(p, 1.0), INF, value))
    return m.where((p < 0.0) | (p > 1.0) | m.is_nan(p), NAN, value)


def erfcx(m: Any, x: Number) -> Number:
    """exp(x^2) erfc(x); needs `erfc`. Beyond 2.5 by the continued fraction of DLMF 7.9.1."""
    far = x > 2.5
    z = m.where(far, x, 3.0)

    def step(k: Number, b: Number, c: Number, d: Number, h: Number, error: Number) -> Any:
        numerator = 0.5 * k
        d = 1.0 / (numerator * d + z)
        c = z + numerator / c
        factor = c * d
        return k + 1.0, b, c, d, h * factor, m.abs(factor - 1.0)

    def unfinished(k: Number, b: Number, c: Number, d: Number, h: Number, error: Number) -> Any:
        return (error > EPS) & (k < 1000.0)

    one = z * 0.0 + 1.0
    fraction = m.repeat(unfinished, step, one, one, one / TINY, 1.0 / z, 1.0 / z, one)[4]
    near = m.where(far, 0.0, x)
    value = m.where(far, fraction / _ROOT_PI, m.exp(near * near) * m.erfc(near))
    return m.where(m.equal(x, INF), 0.0, value)


def dawsn(m: Any, x: Number) -> Number:
    """Dawson's integral exp(-x^2) times the integral of exp(t^2) from 0 to x.

    Up to 6.5 by the series of the integral, of which all terms are positive.
    """
    size = m.abs(x)
    far = size > 6.5
    near = m.where(far, 0.0, size)
    square = near * near

    def step(k: Number, term: Number, total: Number) -> Any:
        term = term * square / k
        return k + 1.0, term, total + term / (2.0 * k + 1.0)

    def unfinished(k: Number, term: Number, total: Number) -> Any:
        return (k < 2.0) | (term > EPS * k * total)

    one = square * 0.0 + 1.0
    total = m.repeat(unfinished, step, one, one, one)[2]
    below = near * m.exp(-square) * total
    z = m.where(far, size, 7.0)
    inverse = 0.5 / (z * z)
    above: Number = inverse * 0.0 + 1.0
    for k in range(20, 0, -1):
        above = 1.0 + (2.0 * k - 1.0) * inverse * above
    value = m.where(far, 0.5 / z * above, below)
    return m.where(m.is_nan(x), NAN, m.where(x < 0.0, -value, value))


# --- Bessel functions -----------------------------------------------------------------------------


def bessel_i0(m: Any, x: Number) -> Number:
    """I_0(x)."""
    return bessel_i0e(m, x) * m.exp(m.abs(x))


def bessel_i1(m: Any, x: Number) -> Number:
    """I_1(x)."""
    return bessel_i1e(m, x) * m.exp(m.abs(x))


# --- Kummer's function ----------------------------------------------------------------------------


def _kummer(m: Any, a: Number, b: Number, x: Number) -> tuple[Number, Number, Number]:
    """The series of 1F1(a; b; x) for x >= 0, and its derivatives by a and b."""

    def step(k: Number, t: Number, ta: Number, tb: Number, *totals: Number) -> Any:
        ratio = x / ((b + k) * (k + 1.0))
        up = a + k
        t_next = t * up * ratio
        ta_next = (ta * up + t) * ratio
        tb_next = (tb - t / (b + k)) * up * ratio
        parts = (t_next, ta_next, tb_next)
        sums = [total + part for total, part in zip(totals, parts, strict=True)]
        return k + 1.0, t_next, ta_next, tb_next, *sums

    def unfinished(k: Number, t: Number, ta: Number, tb: Number, *totals: Number) -> Any:
        more = m.abs(t) > 0.1 * EPS * m.abs(totals[0])
        more = more | (m.abs(ta) > 0.1 * EPS * m.abs(totals[1]))
        more = more | (m.abs(tb) > 0.1 * EPS * m.abs(totals[2]))
        return (k < 2.0) | (more & (k < 5000.0))

    nil = x * 0.0 + a * 0.0 + b * 0.0
    one = nil + 1.0
    state = m.repeat(unfinished, step, nil, one, nil, nil, one, nil, nil)
    return state[4], state[5], state[6]


def _kummer_parts(m: Any, a: Number, b: Number, x: Number) -> tuple[Number, Number, Number]:
    """1F1(a; b; x) and its derivatives by a and b; for negative x by Kummer's transformation."""
    inf = m.abs(x) >= 1e300
    pole = (b <= 0.0) & m.equal(b, m.floor(b))
    wrong = m.is_nan(a) | m.is_nan(b) | m.is_nan(x) | inf
    a, b, x = m.where(wrong, 1.0, a), m.where(pole | wrong, 1.0, b), m.where(wrong, 1.0, x)
    left = x < 0.0
    f, fa, fb = _kummer(m, m.where(left, b - a, a), b, m.abs(x))
    scale = m.exp(m.where(left, x, 0.0))
    value = scale * f
    by_a = m.where(left, -scale * fa, fa)
    by_b = m.where(left, scale * (fa + fb), fb)
    value = m.where(pole & ~m.equal(a, 0.0), INF, value)
    value = m.where(wrong, NAN, value)
    undefined = pole | wrong
    return value, m.where(undefined, NAN, by_a), m.where(undefined, NAN, by_b)


def hyp1f1(m: Any, a: Number, b: Number, x: Number) -> Number:
    """The confluent hypergeometric function 1F1(a; b; x)."""
    return _kummer_parts(m, a, b, x)[0]


def hyp1f1_grad_a(m: Any, a: Number, b: Number, x: Number) -> Number:
    """Its derivative by a."""
    return _kummer_parts(m, a, b, x)[1]


def hyp1f1_grad_b(m: Any, a: Number, b: Number, x: Number) -> Number:
    """Its derivative by b."""
    return _kummer_parts(m, a, b, x)[2]
