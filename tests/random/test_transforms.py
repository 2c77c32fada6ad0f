"""Samplers under vmap, jit and grad: the numbers and derivatives of jax.random."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import covector as cv
from covector import lax, random

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
def test_batched_keys_and_parameters(name):
    draw = SAMPLERS[name]
    keys, their_keys = (m.split(m.key(3), 4) for m in (random, jax.random))
    ours = cv.vmap(lambda k, a: draw(random, k, a))(keys, SHAPES)
    theirs = jax.vmap(lambda k, a: draw(jax.random, k, a))(their_keys, SHAPES)
    close(ours, theirs)


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_key_with_batched_parameters(name):
    draw = SAMPLERS[name]
    ours = cv.vmap(lambda a: draw(random, random.key(3), a), axis_size=4)(SHAPES)
    theirs = jax.vmap(lambda a: draw(jax.random, jax.random.key(3), a), axis_size=4)(SHAPES)
    close(ours, theirs)


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
def test_derivatives_by_parameters(name):
    draw = DIFFERENTIABLE[name]
    for parameter in SHAPES[:3]:
        ours = cv.grad(lambda a: draw(random, random.key(5), a).sum())(parameter)
        theirs = jax.grad(lambda a: draw(jax.random, jax.random.key(5), a).sum())(parameter)
        close(ours, theirs, 2e-4)


def test_derivative_of_gamma_compiled_and_batched():
    key, their_key = random.key(5), jax.random.key(5)
    ours = cv.jit(cv.vmap(cv.grad(lambda a: random.gamma(key, a))))(SHAPES)
    theirs = jax.vmap(jax.grad(lambda a: jax.random.gamma(their_key, a)))(SHAPES)
    close(ours, theirs, 2e-4)


def test_forward_mode_of_gamma():
    def drawn(m, k):
        return lambda a: m.gamma(k, a, (3,))

    ours = cv.jvp(drawn(random, random.key(1)), (SHAPES[2],), (np.float32(1),))
    theirs = jax.jvp(drawn(jax.random, jax.random.key(1)), (SHAPES[2],), (np.float32(1),))
    for a, b in zip(ours, theirs, strict=True):
        close(a, b, 2e-4)


def test_keys_in_loops():
    def walk(m, la, key):
        def step(carry, _):
            key, x = carry
            key, one_time = m.split(key)
            x = x + m.normal(one_time, (2,))
            return (key, x), x

        return la.scan(step, (key, np.zeros(2, np.float32)), None, length=6)[1]

    ours, theirs = walk(random, lax, random.key(2)), walk(jax.random, jax.lax, jax.random.key(2))
    close(ours, theirs)
    close(cv.jit(lambda k: walk(random, lax, k))(random.key(2)), theirs)
