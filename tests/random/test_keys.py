"""Keys against jax.random: seeds, splitting, folding, legacy keys, errors."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import random


def words(keys):
    return np.asarray(random.key_data(keys))


def jax_words(keys):
    return np.asarray(jax.random.key_data(keys))


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 42, -1, 2**31 - 1, 2**32 + 5, -(2**40), np.int32(-7)])
def test_seeds(seed, x64):
    with cv.enable_x64(x64), jax.enable_x64(x64):
        np.testing.assert_array_equal(words(random.key(seed)), jax_words(jax.random.key(seed)))
        legacy = random.PRNGKey(seed)
        assert legacy.dtype == np.uint32
        np.testing.assert_array_equal(legacy, jax.random.PRNGKey(seed))


@pytest.mark.parametrize("num", [1, 2, 7, (3,), (2, 3), (0,)])
def test_split(num):
    ours, theirs = random.split(random.key(5), num), jax.random.split(jax.random.key(5), num)
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(words(ours), jax_words(theirs))


@pytest.mark.parametrize("data", [0, 3, 2**32 - 1, np.int32(-1), np.uint32(9)])
def test_fold_in(data):
    ours, theirs = random.fold_in(random.key(5), data), jax.random.fold_in(jax.random.key(5), data)
    np.testing.assert_array_equal(words(ours), jax_words(theirs))


def test_legacy_keys_give_legacy_keys():
    key = random.PRNGKey(3)
    for ours, theirs in (
        (random.split(key, 3), jax.random.split(jax.random.PRNGKey(3), 3)),
        (random.fold_in(key, 8), jax.random.fold_in(jax.random.PRNGKey(3), 8)),
        (random.clone(key), jax.random.PRNGKey(3)),
    ):
        assert ours.dtype == np.uint32
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(
        random.uniform(np.array([0, 3], np.uint32), (4,)), random.uniform(random.key(3), (4,))
    )


def test_wrapping_is_undone_by_unwrapping():
    data = np.arange(12, dtype=np.uint32).reshape(3, 2, 2)
    keys = random.wrap_key_data(data)
    assert keys.shape == (3, 2)
    np.testing.assert_array_equal(random.key_data(keys), data)
    assert random.key_impl(keys) == "threefry2x32"
    assert keys.dtype == random.key_dtype("threefry2x32")
    again = random.wrap_key_data(data, dtype=keys.dtype)
    np.testing.assert_array_equal(random.key_data(again), data)


def test_clone_is_the_same_key():
    key = random.key(1)
    np.testing.assert_array_equal(words(random.clone(key)), words(key))


def test_keys_are_indexed_and_batched_like_arrays():
    keys = random.split(random.key(0), 6)
    np.testing.assert_array_equal(words(keys[2]), words(keys)[2])
    np.testing.assert_array_equal(words(keys[1:5:2]), words(keys)[1:5:2])
    np.testing.assert_array_equal(words(keys.reshape(2, 3)), words(keys).reshape(2, 3, 2))
    first, *rest = keys
    assert len(rest) == 5
    np.testing.assert_array_equal(words(first), words(keys)[0])
    folded = cv.vmap(random.fold_in)(keys, cnp.arange(6))
    theirs = jax.vmap(jax.random.fold_in)(
        jax.random.split(jax.random.key(0), 6), jax.numpy.arange(6)
    )
    np.testing.assert_array_equal(words(folded), jax_words(theirs))


def test_keys_through_jit():
    key = random.key(9)
    split = cv.jit(lambda k: random.split(k, 3))(key)
    np.testing.assert_array_equal(words(split), words(random.split(key, 3)))
    seeded = cv.jit(random.key)(9)
    np.testing.assert_array_equal(words(seeded), words(key))


def test_seeds_are_batched_by_vmap():
    ours = cv.vmap(random.key)(cnp.arange(4))
    theirs = jax.vmap(jax.random.key)(jax.numpy.arange(4))
    np.testing.assert_array_equal(words(ours), jax_words(theirs))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: random.key(1.5), TypeError, "integer scalar"),
        (lambda: random.key(np.arange(3)), TypeError, "vmap"),
        (lambda: random.key(0, impl="mersenne"), ValueError, "threefry2x32"),
        (lambda: random.key(0, impl=3), TypeError, "by name"),
        (lambda: random.normal(0), TypeError, "random.key"),
        (lambda: random.normal(np.zeros(2, np.int32)), TypeError, "uint32"),
        (lambda: random.normal(np.zeros(3, np.uint32)), TypeError, "uint32"),
        (lambda: random.normal(random.split(random.key(0))), ValueError, "vmap"),
        (lambda: random.split(random.split(random.key(0))), ValueError, "vmap"),
        (lambda: random.fold_in(random.key(0), np.arange(2)), TypeError, "vmap"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()
