"""Keys and bits against jax.random."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import covector as cv
from covector.core.avals import Aval
from covector.core.dims import symbol
from covector.core.dtypes import key_fry
from covector.ops import random as ops
from covector.ops.common import Inseparable

SHAPES = ((), (1,), (5,), (3, 4), (0,), (2, 3, 2))
WIDTHS = (8, 16, 32, 64)


@pytest.fixture(autouse=True)
def x64():
    with cv.enable_x64(True), jax.enable_x64(True):
        yield


def key(seed: int = 0) -> tuple[Any, Any]:
    return ops.random_seed(np.int64(seed), impl="fry"), jax.random.key(seed)


def same_keys(ours: Any, theirs: Any) -> None:
    assert ours.dtype is key_fry
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours._value, jax.random.key_data(theirs))


@pytest.mark.parametrize("seed", [0, 1, 42, 2**31, 2**40 + 7, -1, -5])
def test_seeds(seed: int):
    same_keys(*key(seed))


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "i4", "u4", "u8"])
def test_seeds_of_every_dtype(dtype: str):
    for seed in (5, 100, -3 if dtype[0] == "i" else 7):
        value = np.array(seed, dtype)
        # What the bits of the number are, sign-extended within 32 bits.
        low = int(value) % 2**32
        high = int(value) % 2**64 >> 32 if dtype == "u8" else 0
        assert ops.random_seed(value, impl="fry")._value.tolist() == [high, low]


@pytest.mark.parametrize("shape", SHAPES)
def test_split(shape: Any):
    ours, theirs = key(3)
    same_keys(ops.random_split(ours, shape=shape), jax.random.split(theirs, shape))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_bits(shape: Any, width: int):
    ours, theirs = key(3)
    bits = ops.random_bits(ours, bit_width=width, shape=shape)
    expected = jax.random.bits(theirs, shape, f"uint{width}")
    assert bits.dtype == expected.dtype
    np.testing.assert_array_equal(bits, expected)


def test_many_bits():
    ours, theirs = key(3)
    for shape in ((32769,), (400, 250)):
        bits = ops.random_bits(ours, bit_width=32, shape=shape)
        np.testing.assert_array_equal(bits, jax.random.bits(theirs, shape, "uint32"))
    ours, theirs = ops.random_split(ours, shape=(2,)), jax.random.split(theirs, 2)
    expected = jax.vmap(lambda k: jax.random.bits(k, (40000,), "uint32"))(theirs)
    bits = ops.random_bits(ours, bit_width=32, shape=(40000,))
    np.testing.assert_array_equal(bits, expected)


def test_positions_beyond_32_bits():
    high, low = ops._positions(2**33 + 5, 2**33 + 7)
    assert high.tolist() == [2, 2]
    assert low.tolist() == [5, 6]


@pytest.mark.parametrize("width", WIDTHS)
def test_bits_at_some_positions(width: int):
    ours, _ = key(3)
    whole = np.asarray(ops.random_bits(ours, bit_width=width, shape=(4, 5)))
    positions = np.arange(20, dtype=np.uint64).reshape(4, 5)[1:3]
    found = ops.bits_at(ours, positions, bit_width=width)
    assert found.dtype == whole.dtype
    np.testing.assert_array_equal(found, whole[1:3])


def test_fold_in():
    ours, theirs = key(3)
    same_keys(ops.random_fold_in(ours, np.uint32(77)), jax.random.fold_in(theirs, 77))


def test_batches_of_keys():
    ours, theirs = key(9)
    ours, theirs = ops.random_split(ours, shape=(4,)), jax.random.split(theirs, 4)
    data = np.arange(4, dtype="u4")
    mapped = cv.vmap(lambda k: ops.random_split(k, shape=(3,)))(ours)
    same_keys(mapped, jax.vmap(lambda k: jax.random.split(k, 3))(theirs))
    mapped = cv.vmap(lambda k: ops.random_bits(k, bit_width=32, shape=(2,)), out_axes=1)(ours)
    expected = jax.vmap(lambda k: jax.random.bits(k, (2,), "uint32"), out_axes=1)(theirs)
    np.testing.assert_array_equal(mapped, expected)
    for axes in ((0, 0), (None, 0), (0, None)):
        k = (ours if axes[0] == 0 else ours[0], theirs if axes[0] == 0 else theirs[0])
        d = data if axes[1] == 0 else data[1]
        mapped = cv.vmap(ops.random_fold_in, in_axes=axes)(k[0], d)
        same_keys(mapped, jax.vmap(jax.random.fold_in, in_axes=axes)(k[1], d))


def test_batched_seeds_and_words():
    seeds = np.arange(3)
    keys = cv.vmap(lambda s: ops.random_seed(s, impl="fry"))(seeds)
    same_keys(keys, jax.vmap(jax.random.key)(seeds))
    words = cv.vmap(ops.random_unwrap)(keys)
    assert words.shape == (3, 2)
    back = cv.vmap(lambda w: ops.random_wrap(w, impl="fry"), in_axes=1)(np.asarray(words).T)
    np.testing.assert_array_equal(back._value, keys._value)
    clones = cv.vmap(ops.random_clone)(keys)
    np.testing.assert_array_equal(clones._value, keys._value)


def test_the_hash_itself():
    # Known answers of the authors' Random123, file kat_vectors: threefry2x32 with 20 rounds.
    def words(*numbers: int) -> list[Any]:
        return [np.array(n, np.uint32) for n in numbers]

    assert [int(x) for x in ops.threefry2x32(*words(0, 0, 0, 0))] == [0x6B200159, 0x99BA4EFE]
    ones = words(*[0xFFFFFFFF] * 4)
    assert [int(x) for x in ops.threefry2x32(*ones)] == [0x1CB996FC, 0xBB002BE7]
    pi = words(0x13198A2E, 0x03707344, 0x243F6A88, 0x85A308D3)
    assert [int(x) for x in ops.threefry2x32(*pi)] == [0xC4923A9C, 0x483DF7A0]


@pytest.mark.parametrize("axes", [(None, None, 0, 0), (0, 0, None, None), (0, None, 1, None)])
def test_batched_hash(axes: Any):
    rng = np.random.default_rng(0)
    shapes = [(), (), (5,), (5,)]
    operands: list[Any] = []
    for shape, axis in zip(shapes, axes, strict=True):
        full = shape if axis is None else (*shape[:axis], 3, *shape[axis:])
        operands.append(rng.integers(0, 2**32, full, dtype=np.uint32))
    mapped = cv.vmap(ops.threefry2x32, in_axes=axes)(*operands)
    for example in range(3):
        chosen = [
            x if axis is None else np.take(x, example, axis)
            for x, axis in zip(operands, axes, strict=True)
        ]
        for found, expected in zip(mapped, ops.threefry2x32(*chosen), strict=True):
            np.testing.assert_array_equal(np.asarray(found)[example], expected)


def test_symbolic_sizes():
    n = symbol("n")
    keys = Aval((n,), key_fry)
    assert str(ops.random_bits.shape(keys, bit_width=32, shape=(n, 2))) == "u32[n,n,2]"
    assert str(ops.random_split.shape(keys, shape=(2,))) == "key<fry>[n,2]"
    assert str(ops.random_unwrap.shape(keys)) == "u32[n,2]"


def test_errors():
    ours, _ = key()
    with pytest.raises(TypeError, match="PRNG keys"):
        ops.random_bits(np.zeros(2, np.uint32), bit_width=32, shape=())
    with pytest.raises(TypeError, match="bit_width=7"):
        ops.random_bits(ours, bit_width=7, shape=())
    with pytest.raises(TypeError, match="last axis of 2"):
        ops.random_wrap(np.zeros(3, np.uint32), impl="fry")
    with pytest.raises(TypeError, match="integers"):
        ops.random_seed(np.float32(1), impl="fry")
    with pytest.raises(ValueError, match="'rbg'"):
        ops.random_seed(np.int32(1), impl="rbg")
    with pytest.raises(TypeError, match="uint32"):
        ops.random_fold_in(ours, np.int32(1))


def test_lanes():
    keys = Aval((4, 3), key_fry)
    assert ops.random_bits.lanes((1,), keys, bit_width=32, shape=(2,)) == 1
    assert ops.random_split.lanes((None,), keys, shape=(2,)) is None
    words = Aval((4, 2), np.dtype("u4"))
    assert ops.random_wrap.lanes((0,), words, impl="fry") == 0
    with pytest.raises(Inseparable):
        ops.random_wrap.lanes((1,), words, impl="fry")
