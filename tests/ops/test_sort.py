"""sort and top_k against jax.lax: values, dtypes, stability, NaN and zeros, errors."""

from __future__ import annotations

from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import covector as cv
from covector.core.dtypes import ARRAY_DTYPES
from covector.ops.sort import sort, top_k

DTYPES = sorted(ARRAY_DTYPES, key=str)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@pytest.fixture(autouse=True)
def x64():
    with cv.enable_x64(True), jax.enable_x64(True):
        yield


def drawn(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Any:
    numbers = np.random.default_rng(seed).integers(-4, 5, (2, *shape))
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return numbers[0] > 0
    if dtype.kind == "u":
        return (numbers[0] + 4).astype(dtype)
    return (numbers[0] + 1j * numbers[1] if dtype.kind == "c" else numbers[0]).astype(dtype)


def same_bits(ours: Any, theirs: Any) -> None:
    """Equal, zeros with their signs, too."""
    expected, found = np.asarray(theirs), np.asarray(ours)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if expected.dtype.kind not in "biu":
        wide = np.complex128 if expected.dtype.kind == "c" else np.float64
        found, expected = found.astype(wide), expected.astype(wide)
        np.testing.assert_array_equal(np.signbit(found.real), np.signbit(expected.real))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(dtype):
    x = drawn((3, 6), dtype)
    for dimension in (0, 1):
        (ours,) = sort(x, dimension=dimension, is_stable=True, num_keys=1)
        same_bits(ours, lax.sort(x, dimension))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_two_keys_and_a_passenger(dtype):
    x, y = drawn((20,), dtype), drawn((20,), np.float32, seed=1)
    passenger = np.arange(20, dtype=np.int32)
    ours = sort(x, y, passenger, dimension=0, is_stable=True, num_keys=2)
    for a, b in zip(ours, lax.sort((x, y, passenger), 0, num_keys=2), strict=True):
        same_bits(a, b)


SPECIAL = [0.0, -0.0, np.nan, 1.0, -np.inf, np.inf, np.nan, -0.0, 0.0, -1.0]


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float32, np.float64], ids=str)
def test_nan_is_last_and_zeros_are_equal(dtype):
    x, places = np.array(SPECIAL, dtype), np.arange(len(SPECIAL), dtype=np.int32)
    ours = sort(x, places, dimension=0, is_stable=True, num_keys=1)
    for a, b in zip(ours, lax.sort((x, places), 0, num_keys=1), strict=True):
        same_bits(a, b)


def test_complex_numbers_in_lexicographic_order():
    x = np.array([1 + 1j, 1 - 1j, complex(np.nan, 0), complex(1, np.nan), -1 + 5j], np.complex64)
    (ours,) = sort(x, dimension=0, is_stable=True, num_keys=1)
    same_bits(ours, lax.sort(x))


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 0), (0, 3), (17,), (300,)])
def test_lengths(shape):
    x = drawn(shape, np.float32)
    (ours,) = sort(x, dimension=0, is_stable=True, num_keys=1)
    same_bits(ours, lax.sort(x, 0))


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind != "c"], ids=str)
def test_top_k_dtypes(dtype):
    x = drawn((3, 6), dtype)
    for k, axis in [(2, 0), (4, 1)]:
        values, places = top_k(x, k=k, axis=axis)
        expected = lax.top_k(x, k, axis=axis)
        same_bits(values, expected[0])
        same_bits(places, expected[1])


@given(
    x=st.lists(st.sampled_from([*SPECIAL, -np.nan, 2.0, 2.0]), min_size=6, max_size=6),
    k=st.sampled_from([0, 1, 4, 6]),
)
def test_top_k_distinguishes_signs(x, k):
    x = np.array(x, np.float32)
    values, places = top_k(x, k=k, axis=0)
    expected = lax.top_k(x, k)
    same_bits(values, expected[0])
    same_bits(places, expected[1])


def test_top_k_of_the_least_integers():
    x = np.array([-128, 127, -128, 0], np.int8)
    values, places = top_k(x, k=4, axis=0)
    np.testing.assert_array_equal(np.asarray(places), [1, 3, 0, 2])
    np.testing.assert_array_equal(np.asarray(values), [127, 0, -128, -128])


def test_errors():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="num_keys"):
        sort(x, dimension=0, is_stable=True, num_keys=2)
    with pytest.raises(ValueError, match="range"):
        sort(x, dimension=2, is_stable=True, num_keys=1)
    with pytest.raises(TypeError, match="equal shapes"):
        sort(x, x[0], dimension=0, is_stable=True, num_keys=1)
    with pytest.raises(ValueError, match="found 4"):
        top_k(x, k=4, axis=1)
    with pytest.raises(TypeError, match="real numbers"):
        top_k(x.astype(np.complex64), k=1, axis=1)


def test_derivatives_and_batching(against_jax):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 7)), np.round(rng.normal(size=(3, 7)))
    for d in (0, 1):
        against_jax.everything(
            lambda *xs, d=d: tuple(sort(*xs, dimension=d, is_stable=True, num_keys=1)),
            jax.jit(lambda *xs, d=d: lax.sort(xs, d, num_keys=1)),
            [y, x],
        )
    against_jax.vmap(
        lambda x: tuple(top_k(x, k=2, axis=1)), lambda x: tuple(lax.top_k(x, 2, axis=1)), [x]
    )

    def ours(x: Any) -> Any:
        return top_k(x, k=3, axis=1)[0]

    def theirs(x: Any) -> Any:
        return lax.top_k(x, 3, axis=1)[0]

    against_jax.jvp(ours, theirs, [x])
    against_jax.vjp(ours, theirs, [x])


@pytest.mark.parametrize(
    "dtype", [np.bool_, np.int8, np.float16, np.float64, np.complex64], ids=str
)
@pytest.mark.parametrize("shape", [(3, 6), (20, 3), (5, 40)])
def test_native_code(dtype, shape):
    """Networks in registers, networks in loops, and the library's sort."""
    x, y = drawn(shape, dtype), drawn(shape, np.float32, 1)
    places = np.arange(x.size, dtype=np.int32).reshape(shape)

    def several(x: Any, *others: Any) -> Any:
        results: list[Any] = []
        for d in (0, 1):
            results += sort(x, dimension=d, is_stable=True, num_keys=1)
            results += sort(x, *others, dimension=d, is_stable=True, num_keys=2)
            if np.dtype(dtype).kind != "c":
                results += top_k(x, k=3, axis=d)
                results += top_k(x, k=x.shape[d], axis=d)
        return results

    found = cv.jit(several)(x, y, places)
    for a, b in zip(found, several(x, y, places), strict=True):
        same_bits(a, b)


@pytest.mark.parametrize("copies", [1, 5])
@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float32, np.float64], ids=str)
def test_native_order_of_nan_and_zeros(dtype, copies):
    x = np.array(SPECIAL * copies, dtype)
    places = np.arange(x.size, dtype=np.int32)

    def both(x: Any, places: Any) -> Any:
        results = sort(x, places, dimension=0, is_stable=True, num_keys=1)
        return [*results, *top_k(x, k=7, axis=0)]

    for a, b in zip(cv.jit(both)(x, places), both(x, places), strict=True):
        same_bits(a, b)


def test_native_sort_of_more_operands_than_the_library_takes():
    x = drawn((30,), np.float32)
    others = [np.arange(30, dtype=np.int32) * k for k in range(10)]

    def ours(*xs: Any) -> Any:
        return sort(*xs, dimension=0, is_stable=True, num_keys=1)

    for a, b in zip(cv.jit(ours)(x, *others), ours(x, *others), strict=True):
        same_bits(a, b)
