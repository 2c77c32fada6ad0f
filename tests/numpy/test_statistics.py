"""Quantiles, histograms and covariances against NumPy and JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp

METHODS = ["linear", "lower", "higher", "midpoint", "nearest"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["quantile", "percentile", "nanquantile", "nanpercentile"])
def test_quantiles(name, method, dtype, twins):
    if dtype.kind in "bc" or (dtype == np.float16 and "percentile" in name):
        pytest.skip("not in NumPy, or rounded otherwise in JAX")
    x = twins.sample(dtype, (4, 7))
    if "nan" in name and dtype.kind == "f":
        x[1, 2:5] = np.nan
    scale = 100 if "percentile" in name else 1
    levels = np.float32([0, 0.15, 0.4, 0.75, 1]) * scale
    # NumPy's "nearest" rounds halves to even.
    values = "jax" if method == "nearest" or dtype == np.float16 else "numpy"
    rtol = 1e-2 if dtype == np.float16 else 1e-4
    for axis in (None, 0, (0, 1)) if values == "numpy" else (0,):
        fn = lambda m, x, q, a=axis: getattr(m, name)(x, q, axis=a, method=method)  # noqa: E731
        twins.agree(fn, x, levels, values=values, rtol=rtol)
    keep = lambda m, x, q: getattr(m, name)(x, q, axis=1, method=method, keepdims=True)  # noqa: E731
    twins.agree(keep, x, levels[1:2], values=values, rtol=rtol)
    twins.agree(keep, x, levels[3], values=values, rtol=rtol)


def test_quantiles_where_there_is_nan(twins):
    x = twins.sample(np.float32, (4, 7))
    x[1, 2] = np.nan
    twins.agree(lambda m, x: m.quantile(x, 0.3, axis=1), x)
    twins.agree(lambda m, x: m.median(x, axis=0), x)
    x[1] = np.nan
    twins.agree(lambda m, x: m.nanquantile(x, 0.3, axis=1), x)


@pytest.mark.parametrize("weights", [False, True])
def test_bincount(weights, twins):
    x, w = np.array([0, 3, 3, 1, 7, 0]), np.float32([1, 2, 3, 4, 5, 6])
    extra = (w,) if weights else ()
    twins.agree(lambda m, x, *w: m.bincount(x, *w), x, *extra, values="jax")
    twins.agree(lambda m, x, *w: m.bincount(x, *w, minlength=12), x, *extra, values="jax")
    for length in (4, 12):
        ours = cnp.bincount(x, *extra, length=length)
        theirs = jnp.bincount(x, *extra, length=length)
        compiled = cv.jit(lambda x, length=length: cnp.bincount(x, *extra, length=length))(x)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(compiled, theirs)
    twins.agree(lambda m, x: m.bincount(x), np.array([True, False, True]), values="jax")
    assert cnp.bincount(x[:0]).shape == (0,)


def irrational(dtype):
    """A factor for floats, so that no number is on the edge of a bin."""
    return 1.0371 if np.dtype(dtype).kind == "f" else 1


@pytest.mark.parametrize("density", [False, True])
@pytest.mark.parametrize("bins", [5, [-3.0, -1.0, 0.0, 0.5, 4.0]], ids=["number", "edges"])
def test_histogram(bins, density, dtype, twins):
    if dtype.kind in "bc":
        pytest.skip("not in JAX")
    x, w = (
        np.asarray(twins.sample(dtype, (50,)) * irrational(dtype), dtype),
        twins.sample(np.float32, (50,), seed=1) ** 2,
    )
    bins = bins if isinstance(bins, int) else np.float32(bins)
    rtol = 1e-2 if dtype == np.float16 else 1e-4
    if dtype == np.float16:
        pytest.skip("edges differ in their rounding")
    twins.agree(lambda m, x: m.histogram(x, bins, density=density), x, rtol=rtol)
    twins.agree(lambda m, x: m.histogram(x, bins, range=(-2, 2), density=density), x, rtol=rtol)
    fn = lambda m, x, w: m.histogram(x, bins, weights=w, density=density)  # noqa: E731
    twins.agree(fn, x, w, rtol=1e-3)


def test_edges(twins):
    x = twins.sample(np.float32, (50,))
    twins.agree(lambda m, x: m.histogram_bin_edges(x, 7), x)
    twins.agree(lambda m, x: m.histogram_bin_edges(x, 7, range=(-1, 2)), x)
    twins.agree(lambda m, x: m.histogram_bin_edges(m.ones_like(x), 3), x)
    twins.agree(lambda m, x: m.histogram_bin_edges(x, np.float32([1, 2])), x)


@pytest.mark.parametrize("density", [False, True])
@pytest.mark.parametrize("bins", [4, [3, 5]], ids=str)
def test_histograms_of_points(bins, density, twins):
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    twins.agree(lambda m, x: m.histogramdd(x, bins, density=density), x, rtol=1e-4)
    twins.agree(lambda m, x: m.histogram2d(x[:, 0], x[:, 1], bins, density=density), x, rtol=1e-4)
    bounds = [(-1, 1), (-2, 3)]
    twins.agree(lambda m, x: m.histogramdd(x, bins, range=bounds), x, rtol=1e-4)
    weights = np.linspace(0, 1, 60).astype(np.float32)
    twins.agree(lambda m, x, w: m.histogramdd(x, bins, weights=w), x, weights, rtol=1e-4)


COVARIANCES = {
    "cov": lambda m, x: m.cov(x),
    "cov of columns": lambda m, x: m.cov(x, rowvar=False),
    "cov of a vector": lambda m, x: m.cov(x[0]),
    "cov of two": lambda m, x: m.cov(x[0], x[1]),
    "cov biased": lambda m, x: m.cov(x, bias=True),
    "cov with ddof": lambda m, x: m.cov(x, ddof=2),
    "cov with counts": lambda m, x: m.cov(x, fweights=np.array([1, 2, 0, 3, 1, 1])),
    "cov with weights": lambda m, x: m.cov(x, aweights=np.float32([1, 2, 0.5, 3, 1, 1])),
    "cov with both": lambda m, x: m.cov(
        x, fweights=np.array([1, 2, 0, 3, 1, 1]), aweights=np.float32([1, 2, 0.5, 3, 1, 1]), ddof=0
    ),
    "corrcoef": lambda m, x: m.corrcoef(x),
    "corrcoef of two": lambda m, x: m.corrcoef(x[0], x[1]),
    "corrcoef of columns": lambda m, x: m.corrcoef(x[:, :2], rowvar=False),
}


@pytest.mark.parametrize("name", COVARIANCES)
def test_covariances(name, dtype, twins):
    if dtype.kind == "b":
        pytest.skip("not sensible")
    rtol = 3e-2 if dtype == np.float16 else 1e-4
    x = twins.sample(dtype, (3, 6))
    twins.agree(lambda m, x: COVARIANCES[name](m, x), x, rtol=rtol)


@pytest.mark.parametrize("name", ["median", "quantile", "cov", "corrcoef", "nanmedian"])
def test_derivatives(name):
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    args = (0.3,) if name == "quantile" else ()
    ours = cv.grad(lambda x: (getattr(cnp, name)(x, *args) ** 2).sum())(x)
    theirs = jax.grad(lambda x: (getattr(jnp, name)(x, *args) ** 2).sum())(x)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: cnp.quantile(x, 0.5, method="best"), ValueError, "method"),
        (lambda x: cnp.quantile(x, 0.5, overwrite_input=True), ValueError, "immutable"),
        (lambda x: cnp.quantile(x.astype("complex64"), 0.5), ValueError, "complex"),
        (lambda x: cnp.bincount(x), TypeError, "integers"),
        (lambda x: cnp.histogram(x, "auto"), NotImplementedError, "auto"),
        (lambda x: cnp.histogram(x, weights=x[:1]), ValueError, "weight"),
        (lambda x: cnp.cov(x, fweights=np.ones(4)), TypeError, "integers"),
        (lambda x: cnp.cov(x, aweights=np.ones(3)), ValueError, "vector of 4"),
        (lambda x: cnp.digitize(x, np.ones((2, 2))), ValueError, "vector"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(np.ones((3, 4), np.float32))
