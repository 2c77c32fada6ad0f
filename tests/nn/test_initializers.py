"""Initialisers against jax.nn.initializers: the same numbers for the same key."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import covector as cv
from covector import random
from covector.nn import initializers as ours

theirs = jax.nn.initializers

FAMILIES = [
    f"{name}_{distribution}"
    for name in ("glorot", "he", "lecun")
    for distribution in ("normal", "uniform")
]
QUICK = {"xla_backend_optimization_level": 0}


def compare(made: tuple[Any, Any], shape: Any, *dtype: Any, rtol: float = 1e-5) -> None:
    found = made[0](random.key(3), shape, *dtype)
    make = jax.jit(lambda key: made[1](key, shape, *dtype), compiler_options=QUICK)
    expected = np.asarray(make(jax.random.key(3)))
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=rtol, atol=1e-6)


def pair(name: str, *args: Any, **given: Any) -> tuple[Any, Any]:
    return getattr(ours, name)(*args, **given), getattr(theirs, name)(*args, **given)


@pytest.mark.parametrize("name", FAMILIES)
def test_families(name: str) -> None:
    compare(pair(name), (3, 2, 40, 6))
    compare(pair(name, in_axis=0, out_axis=(1, 2), batch_axis=3), (5, 4, 2, 3))


def test_other_names() -> None:
    for distribution in ("normal", "uniform"):
        for name, other in [("xavier", "glorot"), ("kaiming", "he")]:
            alias = getattr(ours, f"{name}_{distribution}")
            assert alias is getattr(ours, f"{other}_{distribution}")


@pytest.mark.parametrize("name", ["uniform", "normal", "truncated_normal", "orthogonal"])
def test_others(name: str) -> None:
    compare(pair(name), (5, 6))
    compare(pair(name, 0.7), (3, 4, 2))
    if name != "orthogonal":  # there is no factorisation in half precision, nor in JAX
        compare(pair(name, dtype=np.float16), (4, 4), rtol=2e-3)


def test_constants() -> None:
    compare((ours.zeros, theirs.zeros), (2, 3))
    compare((ours.ones, theirs.ones), (2, 3), np.int8)
    compare(pair("constant", 2.5), (2, 3))
    compare(pair("constant", np.arange(3.0, dtype=np.float32)), (2, 3))


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
def test_modes(mode: str) -> None:
    compare(pair("variance_scaling", 1.7, mode, "normal"), (30, 5))


@pytest.mark.parametrize("distribution", ["normal", "truncated_normal", "uniform"])
def test_complex_weights(distribution: str) -> None:
    compare(pair("variance_scaling", 1.7, "fan_in", distribution), (30, 5), np.complex64)


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6), (2, 3, 5), (0, 3)], ids=str)
def test_orthogonal(shape: Any) -> None:
    for axis in (-1, 0):
        compare(pair("orthogonal", 2.0, column_axis=axis), shape)


@pytest.mark.parametrize("shape", [(3, 2, 4), (3, 4, 2, 2), (2, 3, 4, 2, 3)], ids=str)
def test_delta_orthogonal(shape: Any) -> None:
    compare(pair("delta_orthogonal"), shape)


def test_under_jit_and_vmap() -> None:
    init = ours.lecun_normal()
    expected = np.asarray(theirs.lecun_normal()(jax.random.key(0), (8, 3)))
    found = cv.jit(lambda key: init(key, (8, 3)))(random.key(0))
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5)
    keys = random.split(random.key(0), 2)
    several = cv.vmap(lambda key: init(key, (8, 3)))(keys)
    np.testing.assert_allclose(np.asarray(several[1]), np.asarray(init(keys[1], (8, 3))), rtol=1e-5)


def test_what_is_refused() -> None:
    key = random.key(0)
    refused: list[tuple[Any, type[Exception], str]] = [
        (lambda: ours.variance_scaling(1.0, "fan", "normal"), ValueError, "mode"),
        (lambda: ours.variance_scaling(1.0, "fan_in", "cauchy"), ValueError, "distribution"),
        (lambda: ours.he_normal()(key, (3,)), ValueError, "in_axis"),
        (lambda: ours.orthogonal()(key, (3,)), ValueError, "two axes"),
        (lambda: ours.delta_orthogonal()(key, (3, 3)), ValueError, "axes of places"),
        (lambda: ours.delta_orthogonal()(key, (3, 4, 3)), ValueError, "no fewer outputs"),
        (lambda: ours.ones(key, (3,), None, "x"), NotImplementedError, "out_sharding"),
        (lambda: ours.normal()(key, (-1,)), ValueError, "negative"),
    ]
    for call, error, words in refused:
        with pytest.raises(error, match=words):
            call()
