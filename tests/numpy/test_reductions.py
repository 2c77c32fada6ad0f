"""Reductions, with and without NaN, against NumPy and JAX: axes, masks, dtypes, empties."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp

AXES = [None, 0, -1, (0, 2), ()]
SHAPE = (2, 3, 4)

REDUCTIONS = {
    "all": "biufc",
    "any": "biufc",
    "count_nonzero": "biufc",
    "max": "biuf",
    "mean": "biufc",
    "min": "biuf",
    "prod": "biufc",
    "ptp": "iuf",
    "std": "biufc",
    "sum": "biufc",
    "var": "biufc",
    "nanmax": "biuf",
    "nanmean": "biufc",
    "nanmin": "biuf",
    "nanprod": "biufc",
    "nanstd": "biufc",
    "nansum": "biufc",
    "nanvar": "biufc",
    "median": "iuf",
    "nanmedian": "iuf",
}


def with_nan(x):
    if x.dtype.kind == "f" and x.size:
        x[..., 1] = np.nan
    return x


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_along_axes(name, dtype, axis, twins):
    if dtype.kind not in REDUCTIONS[name]:
        pytest.skip("not defined")
    if axis == () and name in ("ptp", "median", "nanmedian", "count_nonzero"):
        pytest.skip("not in NumPy")
    x = twins.sample(dtype, SHAPE)
    if name.startswith("nan"):
        x = with_nan(x)
    # Sums of many halves differ in their rounding.
    rtol = 2e-2 if dtype == np.float16 else 2e-5
    twins.agree(lambda m, x: getattr(m, name)(x, axis=axis), x, rtol=rtol)
    twins.agree(lambda m, x: getattr(m, name)(x, axis=axis, keepdims=True), x, rtol=rtol)


@pytest.mark.parametrize("name", ["sum", "prod", "all", "any", "mean", "nansum", "nanprod"])
def test_of_nothing(name, dtype, twins):
    x = twins.sample(dtype, (3, 0))
    for axis in (None, 0, 1):
        twins.agree(lambda m, x, a=axis: getattr(m, name)(x, axis=a), x)


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
def test_extremes_of_nothing(name, twins):
    x = np.zeros((3, 0), np.float32)
    twins.agree(lambda m, x: getattr(m, name)(x, axis=0), x)
    for axis in (None, 1):
        with pytest.raises(ValueError, match="empty"):
            getattr(cnp, name)(x, axis=axis)
    if name in ("max", "min"):
        twins.agree(lambda m, x: getattr(m, name)(x, axis=1, initial=2.0), x)


@pytest.mark.parametrize("name", ["sum", "prod", "all", "any", "mean", "std", "var", "nansum"])
def test_where(name, dtype, twins):
    x, mask = twins.sample(dtype, (3, 4)), twins.sample(np.bool_, (4,), seed=3)
    mask[0] = True
    rtol = 2e-2 if dtype == np.float16 else 2e-5
    for axis in (None, 1):
        twins.agree(
            lambda m, x, w, a=axis: getattr(m, name)(x, axis=a, where=w), x, mask, rtol=rtol
        )


@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes_with_a_mask(name, twins):
    x, mask = twins.sample(np.float32, (3, 4)), np.array([True, False, True, False])
    twins.agree(lambda m, x, w: getattr(m, name)(x, axis=1, where=w, initial=0.5), x, mask)
    with pytest.raises(ValueError, match="initial"):
        getattr(cnp, name)(x, where=mask)


@pytest.mark.parametrize("kind", ["int32", "float32", "uint8", "float16", "complex64"])
@pytest.mark.parametrize("name", ["sum", "prod", "cumsum", "cumprod", "mean", "var"])
def test_dtype(name, kind, twins):
    if name in ("mean", "var") and kind in ("int32", "uint8"):
        pytest.skip("not sensible")
    if name == "var" and kind == "complex64":
        pytest.skip("JAX refuses")
    x = twins.sample(np.int32, (3, 4)) % 3
    twins.agree(lambda m, x: getattr(m, name)(x, axis=1, dtype=kind), x)


@pytest.mark.parametrize("ddof", [0, 1, 2])
@pytest.mark.parametrize("name", ["std", "var", "nanstd", "nanvar"])
def test_ddof(name, ddof, twins):
    x = with_nan(twins.sample(np.float32)) if "nan" in name else twins.sample(np.float32)
    twins.agree(lambda m, x: getattr(m, name)(x, axis=1, ddof=ddof), x)
    if "nan" not in name:
        twins.agree(lambda m, x: getattr(m, name)(x, axis=1, correction=ddof), x)
        centre = x.mean(1, keepdims=True)
        twins.agree(lambda m, x, c: getattr(m, name)(x, axis=1, mean=c), x, centre)


def test_promotion_of_integers_can_be_left_out(twins):
    x = twins.sample(np.uint8)
    for name in ("sum", "prod"):
        twins.agree(lambda m, x, n=name: getattr(m, n)(x, promote_integers=False), x, values="jax")


@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("name", ["argmax", "argmin", "nanargmax", "nanargmin"])
def test_places_of_extremes(name, dtype, axis, twins):
    if dtype.kind == "c":
        pytest.skip("not in JAX")
    x = twins.sample(dtype, SHAPE)
    if dtype.kind == "f":
        x[0, 1, 2] = np.nan
    twins.agree(lambda m, x: getattr(m, name)(x, axis=axis), x)
    twins.agree(lambda m, x: getattr(m, name)(x, axis=axis, keepdims=True), x)


def test_places_where_there_is_only_nan(twins):
    x = np.full((2, 3), np.nan, np.float32)
    x[0, 1] = 1
    for name in ("nanargmax", "nanargmin", "nanmax", "nanmin", "nanmean", "nansum", "nanvar"):
        twins.agree(lambda m, x, n=name: getattr(m, n)(x, axis=1), x, values="jax")


@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("name", ["cumsum", "cumprod", "nancumsum", "nancumprod"])
def test_running(name, dtype, axis, twins):
    x = twins.sample(dtype, SHAPE)
    if "nan" in name:
        x = with_nan(x)
    rtol = 2e-2 if dtype == np.float16 else 2e-5
    twins.agree(lambda m, x: getattr(m, name)(x, axis=axis), x, rtol=rtol)


@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("name", ["cumulative_sum", "cumulative_prod"])
def test_running_of_the_array_api(name, initial, dtype, twins):
    x = twins.sample(dtype)
    twins.agree(
        lambda m, x: getattr(m, name)(x, axis=1, include_initial=initial),
        x,
        values="jax",
        rtol=1e-2,
    )
    twins.agree(lambda m, x: getattr(m, name)(x), x[0], values="jax", rtol=1e-2)
    with pytest.raises(ValueError, match="axis"):
        getattr(cnp, name)(x)


def test_average(dtype, twins):
    x, w = twins.sample(dtype), np.array([1, 2, 3, 4], np.float32)
    rtol = 2e-2 if dtype == np.float16 else 2e-5
    twins.agree(lambda m, x: m.average(x), x, rtol=rtol)
    twins.agree(lambda m, x: m.average(x, axis=0, returned=True), x, rtol=rtol)
    twins.agree(lambda m, x, w: m.average(x, axis=1, weights=w), x, w, rtol=rtol)
    twins.agree(lambda m, x, w: m.average(x, 1, w, True), x, w, rtol=rtol)
    twins.agree(lambda m, x, w: m.average(x, None, m.stack([w] * 3), True), x, w, rtol=rtol)


REAL = ["sum", "prod", "max", "min", "mean", "std", "var", "cumsum", "cumprod", "nanmean"]


@pytest.mark.parametrize("name", [*REAL, "nanvar", "median"])
def test_derivatives(name):
    x = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]], np.float32)
    ours = cv.grad(lambda x: getattr(cnp, name)(x, axis=1).sum())(x)
    theirs = jax.grad(lambda x: getattr(jnp, name)(x, axis=1).sum())(x)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: cnp.sum(np.ones(3), axis=1), ValueError, "axis 1"),
        (lambda: cnp.sum(np.ones((3, 3)), axis=(0, 0)), ValueError, "twice"),
        (lambda: cnp.sum([1, 2]), TypeError, "asarray"),
        (lambda: cnp.sum(np.ones(3), out=np.ones(())), NotImplementedError, "out="),
        (lambda: cnp.average(np.ones(3), weights=np.ones(2)), ValueError, "weights"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()
