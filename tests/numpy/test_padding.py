"""Padding in all modes against NumPy and JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp

WIDTHS = [2, (1, 3), ((1, 0), (0, 2)), ((0, 0), (4, 5)), ((9, 3), (0, 11))]
MODES = ["constant", "edge", "linear_ramp", "maximum", "mean", "median", "minimum", "reflect"]
MODES += ["symmetric", "wrap"]


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_modes(mode, widths, dtype, twins):
    if dtype.kind in "bc" and mode in ("maximum", "mean", "median", "minimum", "linear_ramp"):
        pytest.skip("not in NumPy")
    if dtype.kind in "iu" and mode in ("linear_ramp", "median", "mean"):
        pytest.skip("rounded otherwise in NumPy")
    rtol = 1e-2 if dtype == np.float16 else 1e-5
    twins.agree(lambda m, x: m.pad(x, widths, mode=mode), twins.sample(dtype, (3, 4)), rtol=rtol)


OPTIONS = {
    "one constant": ("constant", {"constant_values": 7}),
    "two constants": ("constant", {"constant_values": (1, 2)}),
    "all constants": ("constant", {"constant_values": ((1, 2), (3, 4))}),
    "ends": ("linear_ramp", {"end_values": (5, -5)}),
    "odd reflection": ("reflect", {"reflect_type": "odd"}),
    "odd symmetry": ("symmetric", {"reflect_type": "odd"}),
    "part of the maximum": ("maximum", {"stat_length": 2}),
    "part of the mean": ("mean", {"stat_length": ((1, 2), (3, 2))}),
    "part of the median": ("median", {"stat_length": 3}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name, twins):
    mode, options = OPTIONS[name]
    x = twins.sample(np.float32, (3, 4))
    for widths in (2, ((1, 0), (5, 9))):
        fn = lambda m, x, w=widths: m.pad(x, w, mode=mode, **options)  # noqa: E731
        twins.agree(fn, x, rtol=1e-4)


@pytest.mark.parametrize("mode", ["mean", "median", "linear_ramp"])
def test_rounding_of_integers(mode, twins):
    x = twins.sample(np.int32, (3, 4))
    twins.agree(lambda m, x: m.pad(x, ((1, 2), (0, 3)), mode=mode), x, values="jax")


def test_by_a_function():
    def fill(vector, width, axis, options):
        value = options.get("value", 10)
        vector = vector.at[: width[0]].set(value)
        return vector.at[vector.shape[0] - width[1] :].set(-value)

    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for options in ({}, {"value": 3}):
        ours, theirs = (m.pad(x, ((1, 2), (2, 1)), fill, **options) for m in (cnp, jnp))
        np.testing.assert_array_equal(ours, theirs)


def test_widths_by_axis(twins):
    x = twins.sample(np.float32, (3, 4))
    ours = cnp.pad(x, {0: 1, -1: (2, 3)}, mode="edge")
    np.testing.assert_array_equal(ours, np.pad(x, ((1, 1), (2, 3)), mode="edge"))


def test_empty(twins):
    twins.agree(lambda m, x: m.pad(x, ((2, 1), (0, 0))), np.ones((0, 3), np.float32))
    ours = cnp.pad(np.ones(3), 2, mode="empty")
    assert ours.shape == (7,)


@pytest.mark.parametrize("mode", MODES)
def test_derivatives(mode):
    x = np.array([[1.0, 2.5, -1.0], [0.5, 4.0, 3.0]], np.float32)
    ours = cv.grad(lambda x: (cnp.pad(x, 2, mode=mode) ** 2).sum())(x)
    theirs = jax.grad(lambda x: (jnp.pad(x, 2, mode=mode) ** 2).sum())(x)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    compiled = cv.jit(lambda x: cnp.pad(x, 2, mode=mode))(x)
    np.testing.assert_allclose(compiled, cnp.pad(x, 2, mode=mode), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: cnp.pad(x, 1, mode="fancy"), ValueError, "mode"),
        (lambda x: cnp.pad(x, 1, mode="edge", constant_values=3), ValueError, "constant_values"),
        (lambda x: cnp.pad(x, -1), ValueError, "negative"),
        (lambda x: cnp.pad(x, (1, 2, 3)), ValueError, "pairs"),
        (lambda x: cnp.pad(x, 1.5), ValueError, "int"),
        (lambda x: cnp.pad(x[:0], 1, mode="edge"), ValueError, "empty"),
        (lambda x: cnp.pad(x, 1, mode="mean", stat_length=0), ValueError, "positive"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(np.ones((3, 4), np.float32))
