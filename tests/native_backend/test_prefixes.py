"""Running totals in lanes, and in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax

SIZES = (1, 15, 16, 17, 33, 1000, 4096, 8191, 8192, 8193, 12289, 20001)
OPERATIONS = {
    lax.cumsum: np.add.accumulate,
    lax.cumprod: np.multiply.accumulate,
    lax.cummax: np.maximum.accumulate,
    lax.cummin: np.minimum.accumulate,
    lax.cumlogsumexp: np.logaddexp.accumulate,
}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda f: f.__name__)
def test_floats(operation: Any, reverse: bool, n: int) -> None:
    x = np.random.default_rng(n).uniform(0.9, 1.1, n)
    expected = OPERATIONS[operation](x[::-1] if reverse else x)
    found = cv.jit(lambda x: operation(x, reverse=reverse))(cnp.asarray(x.astype(np.float32)))
    np.testing.assert_allclose(
        np.asarray(found), expected[::-1] if reverse else expected, rtol=2e-4
    )


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int16, np.float16, np.complex64])
def test_other_types(dtype: Any, n: int) -> None:
    x = np.random.default_rng(n).integers(-3 if dtype is not np.uint8 else 0, 4, n).astype(dtype)
    found = np.asarray(cv.jit(lax.cumsum)(cnp.asarray(x)))
    wide = np.float32 if dtype is np.float16 else dtype
    np.testing.assert_array_equal(found, np.cumsum(x, dtype=wide).astype(dtype))


def test_errors_do_not_grow_with_length() -> None:
    x = np.random.default_rng(0).standard_normal(3_000_000).astype(np.float32)
    found, exact = np.asarray(cv.jit(lax.cumsum)(cnp.asarray(x))), np.cumsum(x, dtype=np.float64)
    assert np.abs(found - exact).max() < 5e-7 * np.abs(exact).max()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axes(axis: int) -> None:
    x = np.random.default_rng(1).standard_normal((7, 130, 65)).astype(np.float32)
    found = cv.jit(lambda x: lax.cumsum(x * 2, axis=axis))(cnp.asarray(x))
    np.testing.assert_allclose(np.asarray(found), np.cumsum(x * 2, axis), rtol=1e-4, atol=1e-4)


def test_what_is_not_a_number_stays() -> None:
    x = np.ones(100, np.float32)
    x[[40, 70]] = np.nan, np.inf
    for operation, numpy_operation in OPERATIONS.items():
        found = np.asarray(cv.jit(operation)(cnp.asarray(x)))
        with np.errstate(invalid="ignore"):
            expected = numpy_operation(x)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_total_that_is_stored_in_a_loop() -> None:
    def fn(x: Any) -> Any:
        return lax.scan(lambda s, v: (s + v, s + v), 3, x)

    x = cnp.arange(1001, dtype=np.int32)
    total, steps = cv.jit(fn)(x)
    assert int(total) == 3 + 500500
    np.testing.assert_array_equal(np.asarray(steps), 3 + np.cumsum(np.arange(1001)))
