"""Reads across the rows of a matrix: tiles transposed in registers give what gathers do."""

from __future__ import annotations

import numpy as np
import pytest

import covector as cv
from covector import numpy as cnp
from covector.core.config import config

RNG = np.random.default_rng(0)


def text(function, *args, stage="llvm"):
    return cv.jit(function).lower(*args).as_text(stage)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i4", "i2", "u1", "bool", "c8"])
@pytest.mark.parametrize("shape", [(8, 8), (40, 40), (10, 40), (33, 17), (9, 65), (3, 24, 40)])
def test_transposes_are_exact(dtype, shape):
    x = RNG.integers(0, 2 if dtype == "bool" else 200, shape).astype(dtype)

    def copies(x):
        y = cnp.swapaxes(x, -1, -2)
        return cnp.concatenate([y, y], -2)

    y = np.swapaxes(x, -1, -2)
    with config.override("x64", True):
        found = np.asarray(cv.jit(copies)(x))
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found, np.concatenate([y, y], -2))


def test_what_reads_across_rows_is_equal_bit_for_bit():
    x, y = RNG.normal(size=(2, 40, 40)).astype("f4")

    def mixed(x, y):
        return cnp.sin(x.T) * y + x

    found = np.asarray(cv.jit(mixed)(x, y))
    with config.override("disable", "transposed_reads"):
        np.testing.assert_array_equal(found, np.asarray(cv.jit(mixed)(x, y)))


def test_whole_vectors_instead_of_gathers():
    x = RNG.normal(size=(40, 40)).astype("f4")

    def copy(x):
        return x.T + 1.0

    with config.override("disable", "run_time_sizes"):
        assert "masked.gather" not in text(copy, x)
    with config.override("cpu", "native"):
        assert "load <8 x float>" in text(copy, x)
    with config.override("disable", "run_time_sizes,transposed_reads"):
        assert "masked.gather" in text(copy, x)


def test_rows_of_a_table_read_field_by_field():
    """Long records of which lanes read neighbours: parts of eight and of four fields."""
    x = RNG.normal(size=(64, 21)).astype("f4")

    def fields(x):
        total = x[:, 1]
        for k in range(2, 14):
            total = total * 0.5 + x[:, k]
        return total

    expected = x[:, 1]
    for k in range(2, 14):
        expected = expected * np.float32(0.5) + x[:, k]
    np.testing.assert_allclose(np.asarray(cv.jit(fields)(x)), expected, rtol=1e-6)


@pytest.mark.parametrize("columns", [17, 20, 33, 36, 40, 43, 47])
@pytest.mark.parametrize("inner", [8, 10, 16, 17, 40])
def test_products_with_a_rest_of_columns(columns, inner):
    """The last step of a loop has as few lanes as what remains needs."""
    a = RNG.normal(size=(12, inner)).astype("f4")
    b = RNG.normal(size=(inner, columns)).astype("f4")
    expected = a.astype("f8") @ b.astype("f8")
    for found in (
        cv.jit(lambda a, b: a @ b)(a, b),
        cv.jit(lambda a, b: a @ b.T)(a, np.ascontiguousarray(b.T)),
        cv.jit(lambda a, b: a.T @ b)(np.ascontiguousarray(a.T), b),
    ):
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5, atol=1e-5)
