"""Windowed reductions against jax.lax.reduce_window: values, derivatives, batching, native code."""

from __future__ import annotations

from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from jax import lax

import covector as cv
from covector.core.avals import Aval
from covector.core.trace import trace_program
from covector.ops import reduce_window as ops
from covector.ops.elementwise import add, ge, le, mul
from covector.ops.select_window import select_and_gather_add, select_and_scatter_add

FIELDS = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")

# Shape of the operand, then the parameters in the order of FIELDS.
WINDOWS = [
    ((7,), (3,), (1,), ((0, 0),), (1,), (1,)),
    ((7,), (3,), (2,), ((1, 2),), (1,), (1,)),
    ((6,), (2,), (1,), ((-1, 3),), (2,), (1,)),
    ((9,), (3,), (2,), ((1, 0),), (1,), (2,)),
    ((5,), (2,), (2,), ((2, 1),), (3,), (2,)),
    ((4, 5), (2, 3), (2, 1), ((0, 0), (1, 1)), (1, 1), (1, 1)),
    ((2,), (3,), (1,), ((0, 0),), (1,), (1,)),
    ((0, 3), (1, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1)),
]


def window(case: Any) -> dict[str, Any]:
    return dict(zip(FIELDS, case[1:], strict=True))


def drawn(shape: Any, dtype: Any = np.float64, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(dtype)


def oracle(name: str, x: Any, params: dict[str, Any]) -> Any:
    dtype = x.dtype
    start, fn = {
        "sum": (dtype.type(0), lax.add),
        "max": (dtype.type(-np.inf) if dtype.kind not in "iu" else np.iinfo(dtype).min, lax.max),
        "min": (dtype.type(np.inf) if dtype.kind not in "iu" else np.iinfo(dtype).max, lax.min),
    }[name]
    return lax.reduce_window(x, np.asarray(start, dtype), fn, **params)


@pytest.fixture(autouse=True)
def x64():
    with cv.enable_x64(True), jax.enable_x64(True):
        yield


@pytest.mark.parametrize("case", WINDOWS, ids=str)
@pytest.mark.parametrize("name", ["sum", "max", "min"])
def test_values(name, case):
    x = drawn(case[0])
    primitive = getattr(ops, f"reduce_window_{name}")

    def ours(x: Any) -> Any:
        return primitive(x, **window(case))

    expected = np.asarray(oracle(name, x, window(case)))
    for found in (ours(x), cv.jit(ours)(x)):
        assert found.shape == expected.shape
        np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.float16, ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize("name", ["sum", "max", "min"])
def test_dtypes(name, dtype):
    x = drawn(WINDOWS[5][0], np.int32).astype(dtype)
    found = getattr(ops, f"reduce_window_{name}")(x, **window(WINDOWS[5]))
    expected = np.asarray(oracle(name, x, window(WINDOWS[5])))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.mark.parametrize("case", WINDOWS[:6], ids=str)
@pytest.mark.parametrize("name", ["sum", "max", "min"])
def test_derivatives(name, case):
    x, t = (
        drawn(case[0]) + np.linspace(0, 0.5, drawn(case[0]).size).reshape(case[0]),
        drawn(case[0], seed=1),
    )
    params = window(case)

    def ours(x: Any) -> Any:
        return getattr(ops, f"reduce_window_{name}")(x, **params)

    def theirs(x: Any) -> Any:
        return oracle(name, x, params)

    (y, dot), (jax_y, jax_dot) = cv.jvp(ours, (x,), (t,)), jax.jvp(theirs, (x,), (t,))
    np.testing.assert_allclose(np.asarray(y), np.asarray(jax_y))
    np.testing.assert_allclose(np.asarray(dot), np.asarray(jax_dot))
    if name != "sum" and case[5] != (1,) * len(case[0]):
        with pytest.raises(NotImplementedError, match="window_dilation"):
            cv.vjp(ours, x)[1](np.ones(y.shape))
        return
    ct = drawn(y.shape, seed=2)
    found = cv.vjp(ours, x)[1](ct)[0]
    assert np.vdot(found, t) == pytest.approx(np.vdot(ct, dot))
    if np.min(case[3]) < 0:
        return  # JAX does not take negative padding in reverse mode
    expected = jax.vjp(theirs, x)[1](ct)[0]
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected))
    compiled = cv.jit(lambda x, ct: cv.vjp(ours, x)[1](ct)[0])(x, ct)
    np.testing.assert_allclose(np.asarray(compiled), np.asarray(expected))


@pytest.mark.parametrize("name", ["sum", "max"])
def test_batching(name):
    x = drawn((3, *WINDOWS[5][0]))

    def ours(x: Any) -> Any:
        return getattr(ops, f"reduce_window_{name}")(x, **window(WINDOWS[5]))

    expected = np.stack([np.asarray(oracle(name, v, window(WINDOWS[5]))) for v in x])
    np.testing.assert_array_equal(np.asarray(cv.vmap(ours)(x)), expected)
    ct = drawn(expected.shape, seed=3)
    pulled = cv.vmap(lambda x, ct: cv.vjp(ours, x)[1](ct)[0])(x, ct)
    each = [np.asarray(cv.vjp(ours, v)[1](c)[0]) for v, c in zip(x, ct, strict=True)]
    np.testing.assert_array_equal(np.asarray(pulled), np.stack(each))


@pytest.mark.parametrize("select", [ge, le])
def test_selection_takes_the_first_of_equals(select):
    x = np.ones(4)
    params = window(((4,), (2,), (2,), ((0, 0),), (1,), (1,)))
    gathered = select_and_gather_add(np.arange(4.0), x, select_prim=select, **params)
    np.testing.assert_array_equal(np.asarray(gathered), [0, 2])
    del params["base_dilation"], params["window_dilation"]
    scattered = select_and_scatter_add(np.array([5.0, 7.0]), x, select_prim=select, **params)
    np.testing.assert_array_equal(np.asarray(scattered), [5, 0, 7, 0])


def _program(fn: Any) -> Any:
    return trace_program(fn, [Aval((), np.dtype(np.float64))] * 2)[0]


@pytest.mark.parametrize("case", WINDOWS, ids=str)
def test_windows_reduced_by_a_program(case):
    x, half = drawn(case[0]), _program(lambda x, y: [add(x, mul(y, np.float64(0.5)))])

    def ours(x: Any) -> Any:
        return ops.reduce_window(x, np.float64(0), program=half, **window(case))[0]

    # Not associative, but the sum of halves all the same.
    expected = np.asarray(oracle("sum", x, window(case))) / 2
    for found in (ours(x), cv.jit(ours)(x)):
        np.testing.assert_allclose(np.asarray(found), expected)
    t = drawn(case[0], seed=1)
    dot = cv.jvp(ours, (x,), (t,))[1]
    np.testing.assert_allclose(np.asarray(dot), np.asarray(oracle("sum", t, window(case))) / 2)


def test_errors():
    x = np.ones((4, 5))
    with pytest.raises(ValueError, match="window_strides needs an entry"):
        ops.reduce_window_sum(x, **{**window(WINDOWS[5]), "window_strides": (1,)})
    with pytest.raises(ValueError, match="must be positive"):
        ops.reduce_window_sum(x, **{**window(WINDOWS[5]), "window_dilation": (0, 1)})
