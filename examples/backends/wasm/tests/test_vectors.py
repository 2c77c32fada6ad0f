"""Loops in vectors of 128 bits: the same numbers as without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.extend import loopir
from covector.extend.backends import backend_names, register_backend
from covector_wasm import WasmBackend
from covector_wasm.vector_plan import plan_vectors

RNG = np.random.default_rng(0)
LARGE = {"sin_large", "cos_large", "tan_large"}
IN_DOUBLES = {"asinh", "acosh", "atanh", "cbrt", "lgamma", "digamma", "pow", "hypot"}
"""Functions of floats that compute with doubles, of which there are half as many in a vector."""

FUNCTIONS = sorted(name for name, spec in loopir.OPERATIONS.items() if spec.elementary)


@pytest.fixture(scope="module", autouse=True)
def _without_vectors() -> Iterator[None]:
    if "plain-wasm" not in backend_names():
        register_backend("plain-wasm", lambda: WasmBackend(vectors=False))
    with cv.enable_x64(True):
        yield


def both(function: Any, *args: Any) -> tuple[list[Any], list[Any]]:
    """Results with and without vectors, where the module has vectors."""
    found = []
    for backend in ("wasm", "plain-wasm"):
        jitted = cv.jit(function, backend=backend)
        found.append([np.asarray(x) for x in cv.tree.leaves(jitted(*args))])
        assert ("v128.store" in jitted.lower(*args).compile().as_text()) == (backend == "wasm")
    return found[0], found[1]


def same(function: Any, *args: Any) -> None:
    for x, y in zip(*both(function, *args), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["exp", "log1p", "sin", "tan", "tanh", "erf", "logistic"])
def test_elementary_functions(name: str, dtype: str) -> None:
    function = getattr(lax, name)
    near = RNG.normal(0, 3, 61)
    far = np.concatenate([near, [np.inf, np.nan, 0, -0.0, 1e30, -3e7, 1e-30, 5e-41]])
    with np.errstate(over="ignore"):
        same(function, far.astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_which_elementary_functions_have_vectors(dtype: str) -> None:
    lacking = {
        name for name in FUNCTIONS if plan_vectors(loopir.definition(name, np.dtype(dtype))) is None
    }
    assert lacking == LARGE | (IN_DOUBLES if dtype == "float32" else set())


@pytest.mark.parametrize("n", [4, 5, 6, 7, 8, 33])
def test_sizes_that_are_no_multiples(n: int) -> None:
    x = RNG.normal(size=(2, n)).astype(np.float32)
    same(lambda v: (v * 2 + 1, cnp.where(v > 0, v, -v)), x)


ON_FLOATS = {
    "arithmetic": lambda v, w: v / w - v * w,
    "extremes": lambda v, w: cnp.minimum(v, w) + cnp.maximum(v, 1),
    "rounding": lambda v, w: cnp.floor(v) + cnp.ceil(w) + cnp.trunc(v) + cnp.round(w),
    "signs": lambda v, w: cnp.sqrt(cnp.abs(v)) + cnp.copysign(v, w),
    "branches": lambda v, w: cnp.where(cnp.isnan(cnp.sqrt(v)), v, -w) + (v > w).astype(v.dtype),
    "one by one": lambda v, w: lax.rem(v, w) + cnp.exp(v) * cnp.exp(w) + cnp.exp(v * w),
    "indices": lambda v, w: v * w - v / w + cnp.arange(41, dtype=v.dtype),
}
ON_INTEGERS = {
    "arithmetic": lambda a, b: (a * 3 - b) ^ (a & b) | ~a,
    "shifts": lambda a, b: (a << 3) + (b >> 5) + lax.shift_right_logical(a, lax.full_like(a, 7)),
    "branches": lambda a, b: cnp.where(a < b, a - b, b * 3) + (a ^ b),
    "conversions": lambda a, b: a.astype("f4") * b.astype("f4"),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ON_FLOATS)
def test_operations_on_floats(name: str, dtype: str) -> None:
    x = RNG.normal(0, 5, (3, 41)).astype(dtype)
    with np.errstate(all="ignore"):
        same(ON_FLOATS[name], x, np.roll(x, 1))


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
@pytest.mark.parametrize("name", ON_INTEGERS)
def test_operations_on_integers(name: str, dtype: str) -> None:
    n = RNG.integers(0, 2**32, (3, 41), dtype=np.uint32).astype(dtype)
    same(ON_INTEGERS[name], n, np.roll(n, 1))


def test_elements_that_are_apart() -> None:
    x = RNG.normal(size=(12, 10)).astype(np.float32)
    same(lambda v: (v.T * 2, v[::-1, ::-1] + 1, v[:, ::3] * v[:, 1::3][:, :3].sum()), x)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_reductions(dtype: str) -> None:
    x = (10 * RNG.normal(size=(403,))).astype(dtype)

    def f(v: Any) -> Any:
        return v.sum(), (v * v).sum(), v.max(), v.min(), (v % 3 + 1)[:9].prod(), v * 2

    for a, b in zip(*both(f, x), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5 if dtype == "float32" else 1e-12)


def test_loops_in_lanes() -> None:
    def path(y: Any) -> Any:
        def step(y: Any, k: Any) -> Any:
            y = y + 0.01 * cnp.sin(y) * k
            return y, y

        return lax.scan(step, y, cnp.arange(20, dtype=y.dtype))

    y = RNG.normal(size=37).astype(np.float32)
    same(cv.vmap(path), y)
    same(cv.vmap(cv.grad(lambda v: path(v)[0])), y)
