"""Samplers under vmap, jit and grad: the numbers and derivatives of jax.random."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import covector as cv
from covector import lax, random  # noqa: F401  # cv.lax

SHAPES = np.array([0.3, 1.0, 2.5, 7.0], np.float32)
CHANCES = np.array([0.2, 0.5, 0.3], np.float32)

# Functions of the module, a key and a parameter.
SAMPLERS: dict[str, Any] = {
    "bits": lambda m, k, a: m.bits(k, (3,)),
    "uniform": lambda m, k, a: m.uniform(k, (3,), maxval=a),
    "normal": lambda m, k, a: m.normal(k, (2, 3)) * a,
    "randint": lambda m, k, a: m.randint(k, (3,), 0, 100),
    "bernoulli": lambda m, k, a: m.bernoulli(k, a / 8, (3,)),
    "split": lambda m, k, a: m.uniform(m.split(k)[1], (3,)),
    "fold_in": lambda m, k, a: m.uniform(m.fold_in(k, 3), (3,)),
    "categorical": lambda m, k, a: m.categorical(k, CHANCES * a, shape=(5,)),
    "permutation": lambda m, k, a: m.permutation(k, 10),
    "choice": lambda m, k, a: m.choice(k, 3, (4,), p=CHANCES),
    "gamma": lambda m, k, a: m.gamma(k, a, (3,)),
    "poisson": lambda m, k, a: m.poisson(k, a * 4, (3,)),
    "binomial": lambda m, k, a: m.binomial(k, 20.0, a / 8, (3,)),
    "dirichlet": lambda m, k, a: m.dirichlet(k, CHANCES * a),
}


def close(ours: Any, theirs: Any, rtol: float = 2e-5) -> None:
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=rtol, atol=rtol / 10)


@pytest.mark.parametrize("name", SAMPLERS)
def test_batched_keys_and_parameters(name, samples):
    def draw(m: Any) -> Any:
        keys = m.random.split(m.random.key(3), 4)
        return m.vmap(lambda k, a: SAMPLERS[name](m.random, k, a))(keys, SHAPES)

    close(draw(cv), samples.expected(f"batched keys: {name}", draw))


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_key_with_batched_parameters(name, samples):
    def draw(m: Any) -> Any:
        key = m.random.key(3)
        return m.vmap(lambda a: SAMPLERS[name](m.random, key, a))(SHAPES)

    close(draw(cv), samples.expected(f"one key: {name}", draw))


@pytest.mark.parametrize("name", SAMPLERS)
def test_compiled(name):
    draw = SAMPLERS[name]
    key, parameter = random.key(3), np.float32(2.5)
    compiled = cv.jit(lambda k, a: draw(random, k, a))(key, parameter)
    close(compiled, draw(random, key, parameter))


DIFFERENTIABLE: dict[str, Any] = {
    "uniform": lambda m, k, a: m.uniform(k, (5,), minval=-a, maxval=2 * a),
    "truncated_normal": lambda m, k, a: m.truncated_normal(k, -a, a, (5,)),
    "gamma": lambda m, k, a: m.gamma(k, a, (5,)),
    "loggamma": lambda m, k, a: m.loggamma(k, a, (5,)),
    "beta": lambda m, k, a: m.beta(k, a, 2.0, (5,)),
    "dirichlet": lambda m, k, a: m.dirichlet(k, CHANCES * a)[0],
    "chisquare": lambda m, k, a: m.chisquare(k, a, (5,)),
    "t": lambda m, k, a: m.t(k, a, (5,)),
    "lognormal": lambda m, k, a: m.lognormal(k, a, (5,)),
    "pareto": lambda m, k, a: m.pareto(k, a, (5,)),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_by_parameters(name, samples):
    def slopes(m: Any) -> Any:
        key = m.random.key(5)
        grad = m.grad(lambda a: DIFFERENTIABLE[name](m.random, key, a).sum())
        return np.stack([np.asarray(grad(a)) for a in SHAPES[:3]])

    close(slopes(cv), samples.expected(f"derivatives: {name}", slopes), 2e-4)


def test_derivative_of_gamma_compiled_and_batched(samples):
    def slopes(m: Any) -> Any:
        key = m.random.key(5)
        return m.jit(m.vmap(m.grad(lambda a: m.random.gamma(key, a))))(SHAPES)

    close(slopes(cv), samples.expected("derivatives compiled", slopes), 2e-4)


def test_forward_mode_of_gamma(samples):
    def pair(m: Any) -> Any:
        key = m.random.key(1)
        drawn = m.jvp(lambda a: m.random.gamma(key, a, (3,)), (SHAPES[2],), (np.float32(1),))
        return np.stack([np.asarray(x) for x in drawn])

    close(pair(cv), samples.expected("forward mode", pair), 2e-4)


def test_keys_in_loops(samples):
    def walk(m: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            key, x = carry
            key, one_time = m.random.split(key)
            x = x + m.random.normal(one_time, (2,))
            return (key, x), x

        start = (m.random.key(2), np.zeros(2, np.float32))
        return m.lax.scan(step, start, None, length=6)[1]

    close(walk(cv), samples.expected("random walk", walk))
    close(cv.jit(lambda: walk(cv))(), walk(cv))
