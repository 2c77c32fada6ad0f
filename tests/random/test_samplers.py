"""Samplers against jax.random: integers bit for bit, floats to rounding, all dtypes and shapes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import covector as cv
from covector import random

SIZE = (60,)
RAMP = np.linspace(0.05, 12, 60).astype(np.float32)
LOGITS = np.array([[0.5, -1.0, 2.0, 0.0], [3.0, 3.0, 3.0, 3.0]], np.float32)
TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)
COVARIANCE = np.array([[2.0, 0.5], [0.5, 1.0]], np.float32)
CHANCES = np.array([0.1, 0.2, 0.3, 0.4], np.float32)

# Functions of the module, ours or theirs, and a key.
EXACT: dict[str, Any] = {
    "bits": lambda m, k: m.bits(k, SIZE),
    "bits of no axes": lambda m, k: m.bits(k),
    "bits of 8": lambda m, k: m.bits(k, (3, 5), "uint8"),
    "bits of 16": lambda m, k: m.bits(k, SIZE, "uint16"),
    "uniform": lambda m, k: m.uniform(k, SIZE),
    "uniform of none": lambda m, k: m.uniform(k, (0, 2)),
    "uniform half": lambda m, k: m.uniform(k, SIZE, "float16"),
    "uniform bfloat16": lambda m, k: m.uniform(k, SIZE, ml_dtypes.bfloat16),
    "randint": lambda m, k: m.randint(k, SIZE, 0, 10),
    "randint across zero": lambda m, k: m.randint(k, SIZE, -5, 1000003),
    "randint of arrays": lambda m, k: m.randint(
        k, (4, 3), np.array([0, -(2**31), 5]), np.array([2**31 - 1, 2**31 - 1, 5])
    ),
    "randint of int32": lambda m, k: m.randint(k, SIZE, np.int32(-5), np.int32(99)),
    "randint of floats": lambda m, k: m.randint(k, SIZE, np.float32(1.7), np.float32(9.2)),
    "randint of all bytes": lambda m, k: m.randint(k, SIZE, 0, 256, "uint8"),
    "randint of some bytes": lambda m, k: m.randint(k, SIZE, np.int16(-300), 100, "int8"),
    "randint of nothing": lambda m, k: m.randint(k, SIZE, 5, 2, "int16"),
    "randint of uint32": lambda m, k: m.randint(k, SIZE, 3, 2**31 - 1, "uint32"),
    "randint of a power of two": lambda m, k: m.randint(k, SIZE, 0, 1 << 20),
    "bernoulli": lambda m, k: m.bernoulli(k, 0.3, SIZE),
    "bernoulli high": lambda m, k: m.bernoulli(k, 0.3, SIZE, mode="high"),
    "bernoulli of arrays": lambda m, k: m.bernoulli(k, RAMP / 12),
    "rademacher": lambda m, k: m.rademacher(k, SIZE),
    "rademacher of floats": lambda m, k: m.rademacher(k, SIZE, "float32"),
    "geometric": lambda m, k: m.geometric(k, 0.1, SIZE),
    "categorical": lambda m, k: m.categorical(k, LOGITS),
    "categorical samples": lambda m, k: m.categorical(k, LOGITS, shape=(50, 2)),
    "categorical of columns": lambda m, k: m.categorical(k, LOGITS, axis=0, shape=(50, 4)),
    "categorical high": lambda m, k: m.categorical(k, LOGITS, shape=(50, 2), mode="high"),
    "categorical distinct": lambda m, k: m.categorical(k, RAMP, shape=(10,), replace=False),
    "categorical distinct rows": lambda m, k: m.categorical(k, LOGITS, shape=(3, 2), replace=False),
    "permutation": lambda m, k: m.permutation(k, 300),
    "permutation of one": lambda m, k: m.permutation(k, 1),
    "permutation of rows": lambda m, k: m.permutation(k, TABLE),
    "permutation of columns": lambda m, k: m.permutation(k, TABLE, axis=-1),
    "permutation independent": lambda m, k: m.permutation(k, TABLE, axis=1, independent=True),
    "choice": lambda m, k: m.choice(k, 100, (50,)),
    "choice of one": lambda m, k: m.choice(k, 5),
    "choice of none": lambda m, k: m.choice(k, TABLE, (0,)),
    "choice distinct": lambda m, k: m.choice(k, 100, (50,), replace=False),
    "choice of rows": lambda m, k: m.choice(k, TABLE, (7,), p=CHANCES),
    "choice of columns": lambda m, k: m.choice(
        k, TABLE, (2,), replace=False, axis=1, p=CHANCES[:3]
    ),
    "choice in a grid": lambda m, k: m.choice(k, TABLE, (2, 5), axis=-1),
    "poisson": lambda m, k: m.poisson(k, 3.0, SIZE),
    "poisson of arrays": lambda m, k: m.poisson(k, RAMP * 4 - 0.2),
    "binomial": lambda m, k: m.binomial(k, 10, 0.3, SIZE),
    "binomial of arrays": lambda m, k: m.binomial(k, np.float32(100), RAMP / 12),
    "binomial at the edges": lambda m, k: m.binomial(
        k, np.float32([3, -1, np.nan, np.inf, 5, 4]), np.float32([0, 0.5, 0.5, 0.3, 1, np.nan])
    ),
    "multinomial": lambda m, k: m.multinomial(k, np.float32([50, 20]), np.stack([CHANCES] * 2)),
}

CLOSE: dict[str, Any] = {
    "uniform between": lambda m, k: m.uniform(k, SIZE, minval=-3.0, maxval=5.0),
    "uniform between arrays": lambda m, k: m.uniform(
        k, (10, 3), minval=np.float32([1, 2, 3]), maxval=np.float32(10)
    ),
    "normal": lambda m, k: m.normal(k, SIZE),
    "normal half": lambda m, k: m.normal(k, SIZE, "float16"),
    "normal complex": lambda m, k: m.normal(k, SIZE, "complex64"),
    "truncated normal": lambda m, k: m.truncated_normal(k, -1.0, 2.0, SIZE),
    "truncated normal of arrays": lambda m, k: m.truncated_normal(k, RAMP / 8 - 2, np.float32(4)),
    "lognormal": lambda m, k: m.lognormal(k, 0.5, SIZE),
    "maxwell": lambda m, k: m.maxwell(k, SIZE),
    "double sided maxwell": lambda m, k: m.double_sided_maxwell(k, 1.0, 2.0, (5,)),
    "double sided maxwell of arrays": lambda m, k: m.double_sided_maxwell(
        k, RAMP[:3], np.float32(2)
    ),
    "wald": lambda m, k: m.wald(k, np.float32(2), SIZE),
    "exponential": lambda m, k: m.exponential(k, SIZE),
    "gumbel": lambda m, k: m.gumbel(k, SIZE),
    "gumbel high": lambda m, k: m.gumbel(k, SIZE, mode="high"),
    "gumbel highest": lambda m, k: m.gumbel(k, SIZE, mode="highest"),
    "laplace": lambda m, k: m.laplace(k, SIZE),
    "logistic": lambda m, k: m.logistic(k, SIZE),
    "cauchy": lambda m, k: m.cauchy(k, SIZE),
    "pareto": lambda m, k: m.pareto(k, 3.0, SIZE),
    "rayleigh": lambda m, k: m.rayleigh(k, RAMP),
    "weibull": lambda m, k: m.weibull_min(k, 2.0, 3.0, SIZE),
    "triangular": lambda m, k: m.triangular(k, 0.0, 0.3, 1.0, SIZE),
    "gamma": lambda m, k: m.gamma(k, RAMP),
    "gamma in a grid": lambda m, k: m.gamma(k, np.float32([0.5, 3]), (50, 2)),
    "loggamma": lambda m, k: m.loggamma(k, RAMP / 50),
    "beta": lambda m, k: m.beta(k, 2.0, RAMP),
    "dirichlet": lambda m, k: m.dirichlet(k, CHANCES * 10, (30,)),
    "dirichlet of rows": lambda m, k: m.dirichlet(k, np.exp(LOGITS)),
    "chisquare": lambda m, k: m.chisquare(k, RAMP),
    "f": lambda m, k: m.f(k, 3.0, 4.0, (50,)),
    "t": lambda m, k: m.t(k, RAMP),
    "generalized normal": lambda m, k: m.generalized_normal(k, 1.5, (50,)),
    "multivariate normal": lambda m, k: m.multivariate_normal(k, RAMP[:2], COVARIANCE, (20,)),
    "multivariate normal by svd": lambda m, k: m.multivariate_normal(
        k, RAMP[:2], COVARIANCE, method="svd"
    ),
    "multivariate normal by eigh": lambda m, k: m.multivariate_normal(
        k, np.stack([RAMP[:2]] * 3), COVARIANCE, method="eigh"
    ),
    "orthogonal": lambda m, k: m.orthogonal(k, 3),
    "orthogonal rows": lambda m, k: m.orthogonal(k, 2, (3,), m=4),
    "orthogonal columns": lambda m, k: m.orthogonal(k, 4, m=2),
    "unitary": lambda m, k: m.orthogonal(k, 3, dtype="complex64"),
    "ball": lambda m, k: m.ball(k, 3, 2, (20,)),
    "ball of the 1-norm": lambda m, k: m.ball(k, 3, 1.0, (5,)),
}


def drawn(samples: Any, name: str, draw: Any) -> tuple[Any, Any]:
    """Our numbers and JAX's."""
    theirs = samples.expected(name, lambda jax: draw(jax.random, jax.random.key(7)))
    ours = draw(random, random.key(7))
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    return np.asarray(ours), theirs


@pytest.mark.parametrize("name", EXACT)
def test_exact(name, samples):
    ours, theirs = drawn(samples, name, EXACT[name])
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", CLOSE)
def test_close(name, samples):
    ours, theirs = drawn(samples, name, CLOSE[name])
    rtol = 1e-5 if theirs.dtype.itemsize > 2 else 2e-3
    # Relative to the typical size: near zero, JAX's own rounding shows.
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * np.abs(theirs).mean())


def with_x64(draw: Any) -> Any:
    """For JAX: the same function in 64 bits."""

    def wide(module: Any, key: Any) -> Any:
        if module is random:
            return draw(module, key)
        import jax

        with jax.enable_x64(True):
            return np.asarray(draw(module, key))

    return wide


WIDE = ["bits", "uniform", "randint", "randint of int32", "rademacher", "categorical"]
WIDE += ["permutation", "choice of rows", "choice distinct", "poisson", "binomial", "bernoulli"]
WIDE_CLOSE = ["normal", "truncated normal", "gumbel", "gumbel high", "gamma", "loggamma", "beta"]
WIDE_CLOSE += ["laplace", "cauchy", "uniform between", "exponential"]


@pytest.mark.parametrize("name", WIDE + WIDE_CLOSE)
def test_with_x64(name, samples):
    with cv.enable_x64(True):
        ours, theirs = drawn(samples, f"x64: {name}", with_x64((EXACT | CLOSE)[name]))
    np.testing.assert_allclose(ours, theirs, rtol=1e-10 if name in WIDE_CLOSE else 0)


@pytest.mark.parametrize("known", [True, False], ids=["ints", "arrays"])
@pytest.mark.parametrize(
    ("low", "high"), [(0, 2**40), (-(2**62), 2**62), (0, 2**63 - 1), (-(2**63), 2**63 - 1), (3, 10)]
)
def test_randint_of_64_bits(low, high, known, samples):
    bounds = (low, high) if known else np.array([low, high])
    draw = with_x64(lambda m, k: m.randint(k, SIZE, bounds[0], bounds[1]))
    with cv.enable_x64(True):
        ours, theirs = drawn(samples, f"randint {low} {high} known={known}", draw)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda k: random.normal(k, 3), TypeError, "sequence of ints"),
        (lambda k: random.normal(k, (-1,)), ValueError, "negative"),
        (lambda k: random.normal(k, dtype="int32"), ValueError, "floating or complex"),
        (lambda k: random.uniform(k, dtype="int32"), ValueError, "floating dtype"),
        (lambda k: random.bits(k, dtype="int32"), ValueError, "unsigned"),
        (lambda k: random.randint(k, (2,), 0, 3, "float32"), TypeError, "integer dtype"),
        (lambda k: random.randint(k, (2,), 0, np.arange(3)), ValueError, "broadcast"),
        (lambda k: random.uniform(k, (2,), minval=np.ones(3)), ValueError, "broadcast"),
        (lambda k: random.gamma(k, np.ones(3), (2,)), ValueError, "broadcast"),
        (lambda k: random.bernoulli(k, 1), TypeError, "floating"),
        (lambda k: random.bernoulli(k, mode="middle"), ValueError, "mode"),
        (lambda k: random.gumbel(k, mode="middle"), ValueError, "mode"),
        (lambda k: random.choice(k, 3, (5,), replace=False), ValueError, "without replacement"),
        (lambda k: random.choice(k, 0, (5,)), ValueError, "no elements"),
        (lambda k: random.choice(k, 3, (5,), p=np.ones(2)), ValueError, "probabilities"),
        (lambda k: random.choice(k, 3, 5), TypeError, "sequence"),
        (lambda k: random.permutation(k, 2.5), TypeError, "int"),
        (lambda k: random.dirichlet(k, 1.0), ValueError, "axis"),
        (lambda k: random.multivariate_normal(k, np.ones(3), np.eye(2)), ValueError, "covariances"),
        (
            lambda k: random.multivariate_normal(k, np.ones(2), np.eye(2), method="lu"),
            ValueError,
            "method",
        ),
        (lambda k: random.beta(k, np.float32(1), 1.0, dtype="float16"), ValueError, "exactly"),
        (
            lambda k: random.categorical(k, np.zeros(3), shape=(4,), replace=False),
            ValueError,
            "without replacement",
        ),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(random.key(0))
