"""Contractions: native code against eager evaluation."""

from __future__ import annotations

from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import covector as cv
from covector import lax
from covector.ops.contract import dot_general

DTYPES = ("f2", "bf16", "f4", "f8", "c8", "c16", "i1", "i4", "u1", "i8", "?")
MATRICES = (((1,), (0,)), ((), ()))

# Shapes, dimension numbers: small ones, loops over rows, and products that BLAS makes.
LAYOUTS = {
    "small": ((5, 4), (4, 3), MATRICES),
    "small-batch": ((4, 2, 5), (3, 4, 2), (((0,), (1,)), ((1,), (2,)))),
    "outer": ((4, 3), (2,), (((), ()), ((), ()))),
    "two-axes": ((2, 3, 4), (4, 3, 5), (((1, 2), (1, 0)), ((), ()))),
    "empty": ((0, 3), (3, 2), MATRICES),
    "empty-sum": ((2, 0), (0, 2), MATRICES),
    "vectors": ((70,), (70,), (((0,), (0,)), ((), ()))),
    "matrix-vector": ((10, 23), (23,), MATRICES),
    "vector-matrix": ((23,), (23, 10), (((0,), (0,)), ((), ()))),
    "transposed-vector": ((23, 10), (23,), (((0,), (0,)), ((), ()))),
    "rows": ((10, 23), (23, 9), MATRICES),
    "rows-transposed": ((10, 23), (9, 23), (((1,), (1,)), ((), ()))),
    "rows-batch": ((2, 10, 23), (2, 23, 9), (((2,), (1,)), ((0,), (0,)))),
    "rows-two-axes": ((10, 3, 7), (7, 3, 9), (((1, 2), (1, 0)), ((), ()))),
    "large": ((70, 65), (65, 80), MATRICES),
    "large-transposed": ((65, 70), (80, 65), (((0,), (1,)), ((), ()))),
    "large-batch": ((65, 2, 70), (2, 80, 65), (((0,), (2,)), ((1,), (0,)))),
    "large-two-axes": ((15, 70, 5), (80, 15, 5), (((0, 2), (1, 2)), ((), ()))),
    "large-vector": ((600, 500), (500,), MATRICES),
    "large-vector-matrix": ((1, 500), (500, 600), MATRICES),
    "large-vector-transposed": ((500,), (600, 500), (((0,), (1,)), ((), ()))),
    "large-transposed-column": ((500, 600), (500, 1), (((0,), (0,)), ((), ()))),
    "large-transposed-vectors": ((500, 2, 600), (2, 500), (((0,), (1,)), ((1,), (0,)))),
    "large-sum": ((1, 1 << 18), (1 << 18, 1), MATRICES),
}


@pytest.fixture(autouse=True)
def x64():
    with cv.enable_x64(True):
        yield


def numbers(shape: tuple[int, ...], dtype: str = "f8", seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    known = np.dtype(ml_dtypes.bfloat16) if dtype == "bf16" else np.dtype(dtype)
    if known.kind in "biu":
        return rng.integers(0, 2 if dtype == "?" else 100, shape).astype(known)
    parts = rng.normal(size=shape)
    return np.asarray(parts + 1j * rng.normal(size=shape) if known.kind == "c" else parts, known)


def agree(fn: Any, *args: Any) -> None:
    expected, found = cv.jit(fn, backend="reference")(*args), cv.jit(fn, backend="native")(*args)
    assert found.aval == expected.aval
    ours, theirs = np.asarray(found), np.asarray(expected)
    if ours.dtype.kind in "biu":
        np.testing.assert_array_equal(ours, theirs)
        return
    if ours.dtype == ml_dtypes.bfloat16:
        ours, theirs = ours.astype(np.float32), theirs.astype(np.float32)
    real_bytes = found.dtype.itemsize // (2 if ours.dtype.kind == "c" else 1)
    tolerance = {2: 2e-2, 4: 1e-4, 8: 1e-11}[real_bytes]
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * 20)


def contract(layout: str, preferred: Any = None) -> Any:
    return partial(
        dot_general,
        dimension_numbers=LAYOUTS[layout][2],
        precision=None,
        preferred_element_type=preferred,
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str):
    lhs, rhs, _ = LAYOUTS[layout]
    agree(contract(layout), numbers(lhs), numbers(rhs, seed=1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["small-batch", "rows", "rows-transposed", "large"])
def test_every_dtype(layout: str, dtype: str):
    lhs, rhs, _ = LAYOUTS[layout]
    agree(contract(layout), numbers(lhs, dtype), numbers(rhs, dtype, seed=1))


@pytest.mark.parametrize(("dtype", "preferred"), [("i1", "i4"), ("i1", "f4"), ("bf16", "f4")])
@pytest.mark.parametrize("layout", ["small", "rows", "large"])
def test_preferred_dtypes(layout: str, dtype: str, preferred: str):
    lhs, rhs, _ = LAYOUTS[layout]
    wanted = contract(layout, np.dtype(preferred))
    agree(wanted, numbers(lhs, dtype), numbers(rhs, dtype, seed=1))


@pytest.mark.parametrize("shape", [(3,), (3, 3), (40,), (40, 40), (70, 70)])
@pytest.mark.parametrize("side", ["left", "right", "transposed"])
def test_in_a_loop(shape: Any, side: str):
    def step(a: Any, x: Any) -> Any:
        if side == "left":
            return a @ x
        return x @ a if side == "right" else a.T @ x.T

    def walk(a: Any, x: Any) -> Any:
        return lax.fori_loop(0, 5, lambda _, x: step(a, x), x)

    n = shape[0]
    agree(walk, numbers((n, n)) / n, numbers(shape, seed=1))


def test_fused_with_neighbours():
    def chain(a: Any, b: Any, c: Any) -> Any:
        return ((a * 2.0) @ b + 1.0) @ (c - 1.0).T

    for n in (3, 30, 70):
        agree(chain, numbers((n, 40)), numbers((40, 20), seed=1), numbers((50, 20), seed=2))


def test_small_products_of_a_batch_are_shared_by_threads():
    a = np.ones((1000, 24, 20), np.float32)
    b = np.ones((1000, 20, 32), np.float32)
    program = cv.jit(lambda a, b: a @ b).lower(a, b).as_text("loopir")
    assert "parallel in 0..1000" in program
    np.testing.assert_array_equal(cv.jit(lambda a, b: a @ b)(a, b), np.full((1000, 24, 32), 20))
