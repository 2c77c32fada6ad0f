"""Elementwise operations compiled to native code against their evaluation by NumPy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import covector as cv
from covector.core import dtypes
from covector.core.array import as_array
from covector.testing.optable import OpRow, cases, edge_operands, ulps_between
from covector.testing.rows.elementwise import ROWS

# The other dtypes differ from these in a width.
COMMON = ("bool", "i8", "i32", "u32", "f16", "bf16", "f32", "f64", "c64")
CASES = [
    pytest.param(row, dtype, marks=[] if dtype in COMMON else [pytest.mark.slow])
    for row, dtype in cases(ROWS)
    if row.compiled
]


@pytest.fixture(autouse=True)
def _x64() -> Iterator[None]:
    with cv.enable_x64(True):
        yield


@pytest.mark.parametrize(("row", "dtype"), CASES, ids=str)
def test_native_code_gives_what_numpy_gives(row: OpRow, dtype: str) -> None:
    sampled = row.sample(0, dtype, (67,))
    edges = edge_operands(row, dtype, limit=200)
    operands = [
        as_array(x if e is None else np.concatenate([x, e]))
        for x, e in zip(sampled, edges or [None] * len(sampled), strict=True)
    ]
    found = np.asarray(cv.jit(lambda *xs: row(*xs), backend="native")(*operands))
    expected = np.asarray(row(*operands))
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if dtypes.is_inexact(found.dtype):
        # Complex functions lose more, relative to the whole number, near their zeros and poles.
        allowed = 256.0 if dtypes.is_complex(found.dtype) else row.ulps
        bad = ulps_between(found, expected, row.roots) > allowed
    else:
        bad = found != expected
    if bad.any():
        place = tuple(np.argwhere(bad)[0])
        at = [np.asarray(x)[place] for x in operands if x.ndim == found.ndim]
        pytest.fail(f"{row}{at}: {found[place]!r}, NumPy {expected[place]!r}; {bad.sum()} differ")


@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (5, 1, 3)], ids=str)
def test_shapes(shape: tuple[int, ...]) -> None:
    rows = {row.name: row for row in ROWS}
    for name in ("add", "select_n", "clamp", "convert_to_i8", "complex", "integer_pow_3"):
        operands = [as_array(x) for x in rows[name].sample(0, "f32", shape)]
        found = cv.jit(rows[name], backend="native")(*operands)
        np.testing.assert_array_equal(np.asarray(found), np.asarray(rows[name](*operands)))
        assert found.aval == rows[name](*operands).aval
