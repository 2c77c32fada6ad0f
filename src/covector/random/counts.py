"""Distributions of counts, drawn by inversion where they are small, else by rejection."""

from __future__ import annotations

from typing import Any

from covector.core import dtypes
from covector.lax.control_flow import scan, while_loop
from covector.numpy.elementwise import where
from covector.numpy.indexing import getitem
from covector.numpy.manipulation import moveaxis
from covector.numpy.promote import constant, convert, operand, promote_inexact
from covector.numpy.reductions import any as some
from covector.numpy.rounding import clip
from covector.ops import elementwise as el
from covector.ops.cumulative import cumsum
from covector.ops.random import random_split
from covector.random.arguments import (
    Shape,
    float_dtype,
    int_dtype,
    joint_shape,
    shape_argument,
    single_key,
    spread,
    subkeys,
)
from covector.random.uniforms import unit
from covector.transforms.jit import jit

# --- Poisson ------------------------------------------------------------------------------------


def poisson(key: Any, lam: Any, shape: Shape | None = None, dtype: Any = None) -> Any:
    """Poisson numbers, of probability `lam**k * exp(-lam) / k!`.

    Args:
        key: a PRNG key.
        lam: means.
        shape: of the result, by default that of `lam`.
        dtype: an integer dtype, int32 (int64 with x64) by default.

    >>> from covector import random
    >>> random.poisson(random.key(0), 3.0, (4,)).shape
    (4,)
    """
    single = single_key("poisson", key)
    target = int_dtype("poisson", dtype)
    mean = operand(lam, "poisson")
    sizes = joint_shape("poisson", shape, mean)
    return _poisson(single, spread(convert(mean, dtypes.float32), sizes), target)


def _poisson_samples(key: Any, lam: Any, dtype: Any) -> Any:
    small = el.ne(lam, lam) | (lam < 10)
    # Each method gets harmless means in the places of the other.
    by_products = _poisson_by_products(key, where(small, lam, 0.0), dtype)
    by_rejection = _poisson_by_rejection(key, where(small, 1e5, lam), dtype)
    drawn = el.select_n(small, by_rejection, by_products)
    return where(lam == 0, constant(0, dtype), drawn)


_poisson = jit(_poisson_samples, static_argnums=2)


def _limit(dtype: Any) -> int:
    """How many rounds at most: never reached, but that it is an end is certain."""
    return min(int(dtypes.iinfo(dtype).max), 2**31 - 1)


def _poisson_by_products(key: Any, lam: Any, dtype: Any) -> Any:
    """How many uniform numbers have a product of at least `exp(-lam)` (Knuth)."""
    rounds = _limit(dtype)

    def unfinished(state: Any) -> Any:
        i, _, _, log_product = state
        return some(log_product > -lam) & (i < rounds)

    def draw(state: Any) -> Any:
        i, count, key, log_product = state
        key, one_time = subkeys(key)
        count = where(log_product > -lam, count + 1, count)
        drawn = unit(one_time, lam.shape, dtypes.float32)
        return i + 1, count, key, log_product + el.log(drawn)

    start = (0, _filled(0, lam, dtype), key, _filled(0.0, lam, dtypes.float32))
    return while_loop(unfinished, draw, start)[1] - 1


def _poisson_by_rejection(key: Any, lam: Any, dtype: Any) -> Any:
    """Transformed rejection (Hormann, "The transformed rejection method for generating Poisson
    random variables", 1993)."""
    log_lam = el.log(lam)
    b = 0.931 + 2.53 * el.sqrt(lam)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    v_r = 0.9277 - 3.6224 / (b - 2)
    rounds = _limit(dtype)

    def unfinished(state: Any) -> Any:
        i, _, accepted, _ = state
        return some(~accepted) & (i < rounds)

    def draw(state: Any) -> Any:
        i, count, accepted, key = state
        key, first, second = subkeys(key, 3)
        u = unit(first, lam.shape, lam.dtype) - 0.5
        v = unit(second, lam.shape, lam.dtype)
        margin = 0.5 - abs(u)
        k = el.floor((2 * a / margin + b) * u + lam + 0.43)
        log_v = el.log(v * inverse_alpha / (a / (margin * margin) + b))
        log_p = -lam + k * log_lam - el.lgamma(k + 1)
        at_once = (margin >= 0.07) & (v <= v_r)
        never = (k < 0) | ((margin < 0.013) & (v > margin))
        accept = at_once | (~never & (log_v <= log_p))
        return i + 1, where(accept, k, count), accepted | accept, key

    start = (0, _filled(-1.0, lam, lam.dtype), _filled(False, lam, dtypes.bool_), key)
    return convert(while_loop(unfinished, draw, start)[1], dtype)


def _filled(value: Any, x: Any, dtype: Any) -> Any:
    return spread(constant(value, dtype), x.shape)


# --- binomial -----------------------------------------------------------------------------------


def binomial(key: Any, n: Any, p: Any, shape: Shape | None = None, dtype: Any = None) -> Any:
    """Binomial numbers: how many of `n` trials succeed.

    Args:
        key: a PRNG key.
        n: numbers of trials; NaN or negative ones give NaN.
        p: probabilities of success.
        shape: of the result, by default that of the parameters.
        dtype: a floating dtype, float32 (float64 with x64) by default.

    Returns:
        Whole numbers as floats.
    """
    single = single_key("binomial", key)
    target = float_dtype("binomial", dtype)
    (probability,) = promote_inexact(operand(p, "binomial"))
    trials = convert(operand(n, "binomial"), probability.dtype)
    sizes = joint_shape("binomial", shape, trials, probability)
    return _binomial(single, spread(trials, sizes), spread(probability, sizes), target)


def _binomial_samples(key: Any, n: Any, p: Any, dtype: Any) -> Any:
    few = p < 0.5
    q = where(few, p, 1.0 - p)
    no_q = el.ne(q, q)
    negative_q = q < 0.0
    q = where(no_q | negative_q, 0.01, q)
    no_n = el.ne(n, n) | (n < 0.0)
    infinite = el.abs_(n) == float("inf")
    small = no_n | (n * q <= 10.0)
    n = el.floor(n)
    by_inversion = _binomial_by_inversion(key, where(small, n, 0.0), q, dtype)
    by_rejection = _binomial_by_rejection(key, where(small, 1e4, n), where(small, 0.5, q), dtype)
    drawn = el.select_n(small, by_rejection, by_inversion)
    invalid = negative_q | no_q | no_n
    drawn = where(invalid, constant(float("nan"), dtype), drawn)
    drawn = where(infinite & ~invalid, constant(float("inf"), dtype), drawn)
    return el.select_n(few | no_n | no_q | infinite, convert(n, dtype) - drawn, drawn)


_binomial = jit(_binomial_samples, static_argnums=3)


def _binomial_by_inversion(key: Any, n: Any, q: Any, dtype: Any) -> Any:
    """How many geometric numbers have a sum of at most `n`."""
    log_failure = el.log1p(-q)

    def unfinished(state: Any) -> Any:
        return some(state[1] <= n)

    def draw(state: Any) -> Any:
        count, reached, key = state
        one_time, key = subkeys(key)
        count = where(reached <= n, count + 1, count)
        u = unit(one_time, q.shape, q.dtype)
        return count, reached + el.ceil(el.log(u) / log_failure), key

    start = (_filled(0.0, q, q.dtype), _filled(0.0, q, q.dtype), key)
    return convert(while_loop(unfinished, draw, start)[0] - 1, dtype)


def _binomial_by_rejection(key: Any, n: Any, q: Any, dtype: Any) -> Any:
    """Transformed rejection (Hormann, "The generation of binomial random variates", 1993: BTRS)."""
    deviation = el.sqrt(n * q * (1 - q))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * q
    c = n * q + 0.5
    v_r = 0.92 - 4.2 / b
    odds = q / (1 - q)
    alpha = (2.83 + 5.1 / b) * deviation
    mode = el.floor((n + 1) * q)

    def unfinished(state: Any) -> Any:
        return some(~state[1])

    def draw(state: Any) -> Any:
        count, accepted, key = state
        key, first, second = subkeys(key, 3)
        u = unit(first, q.shape, q.dtype)
        v = unit(second, q.shape, q.dtype)
        u = u - 0.5
        margin = 0.5 - abs(u)
        at_once = (margin >= 0.07) & (v <= v_r)
        k = el.floor((2 * a / margin + b) * u + c)
        outside = (k < 0) | (k > n)
        log_v = el.log(v * alpha / (a / (margin * margin) + b))
        bound = (
            (mode + 0.5) * el.log((mode + 1) / (odds * (n - mode + 1)))
            + (n + 1) * el.log((n - mode + 1) / (n - k + 1))
            + (k + 0.5) * el.log(odds * (n - k + 1) / (k + 1))
            + _stirling_tail(mode)
            + _stirling_tail(n - mode)
            - _stirling_tail(k)
            - _stirling_tail(n - k)
        )
        accept = at_once | (~outside & (log_v <= bound))
        return where(accept, k, count), accepted | accept, key

    start = (_filled(-1.0, q, q.dtype), _filled(False, q, dtypes.bool_), key)
    return convert(while_loop(unfinished, draw, start)[0], dtype)


# log(k!) minus Stirling's formula, for k from 0 to 9.
_TAILS = (
    0.0810614667953272,
    0.0413406959554092,
    0.0276779256849983,
    0.02079067210376509,
    0.0166446911898211,
    0.0138761288230707,
    0.0118967099458917,
    0.0104112652619720,
    0.00925546218271273,
    0.00833056343336287,
)


def _stirling_tail(k: Any) -> Any:
    """The error of Stirling's formula for `log(k!)`."""
    from covector.numpy.creation import asarray

    tabled = k <= 9
    k = clip(k, 0.0, 9.0)
    square = (k + 1) * (k + 1)
    series = (1.0 / 12 - (1.0 / 360 - 1.0 / 1260 / square) / square) / (k + 1)
    table = asarray(_TAILS, k.dtype)
    return where(tabled, getitem(table, (convert(el.floor(k), dtypes.int32),)), series)


# --- multinomial --------------------------------------------------------------------------------


def multinomial(
    key: Any,
    n: Any,
    p: Any,
    *,
    shape: Shape | None = None,
    dtype: Any = None,
    unroll: int | bool = 1,
) -> Any:
    """How many of `n` trials have each outcome.

    Args:
        key: a PRNG key.
        n: numbers of trials.
        p: probabilities of the outcomes, along the last axis.
        shape: of the result, by default that of `p`.
        dtype: a floating dtype, float32 (float64 with x64) by default.
        unroll: of the loop over the outcomes, see `lax.scan`.

    Returns:
        Whole numbers as floats.
    """
    single = single_key("multinomial", key)
    trials, weights = promote_inexact(operand(n, "multinomial"), operand(p, "multinomial"))
    target = float_dtype("multinomial", dtype)
    sizes = weights.shape if shape is None else shape_argument("multinomial", shape)
    trials = spread(trials, sizes[:-1])
    weights = moveaxis(spread(weights, sizes), -1, 0)
    rest = cumsum(weights, axis=0, reverse=True)
    ratios = weights / where(rest == 0, 1, rest)

    def draw(remaining: Any, outcome: Any) -> Any:
        ratio, key = outcome
        count = binomial(key, remaining, clip(ratio, 0, 1), dtype=remaining.dtype)
        return remaining - count, count

    keys = random_split(single, shape=(ratios.shape[0],))
    counts = moveaxis(scan(draw, trials, (ratios, keys), unroll=unroll)[1], 0, -1)
    return convert(counts, target)


__all__ = ["binomial", "multinomial", "poisson"]
