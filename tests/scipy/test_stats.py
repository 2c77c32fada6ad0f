"""Distributions against scipy.stats (values) and finite differences (derivatives)."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scipy.stats

import covector as cv
from covector.scipy import stats
from covector.testing.optable import OpRow, cases, ulps_between
from covector.testing.rows.integrals import ROWS

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(size=24) * 3, [0.0, 1.0, 2.0, -1.0, np.nan]])
Q = np.array([0.0, 1e-9, 0.2, 0.5, 0.93, 1.0, np.nan, -0.5, 1.5])
K = np.array([-1.0, 0.0, 1.0, 2.0, 3.0, 7.0])

# Functions of x, shapes, and whether a shift and a factor follow them.
CONTINUOUS: dict[str, tuple[str, tuple[float, ...]]] = {
    "beta": ("logpdf pdf cdf logcdf sf logsf", (2.3, 1.4)),
    "cauchy": ("logpdf pdf cdf logcdf sf logsf", ()),
    "expon": ("logpdf pdf cdf logcdf sf logsf", ()),
    "gamma": ("logpdf pdf cdf logcdf sf logsf", (2.3,)),
    "laplace": ("logpdf pdf cdf", ()),
    "logistic": ("logpdf pdf cdf sf", ()),
    "norm": ("logpdf pdf cdf logcdf sf logsf", ()),
    "t": ("logpdf pdf", (3.7,)),
    "uniform": ("logpdf pdf cdf", ()),
}
QUANTILES = {
    "cauchy": "ppf isf",
    "expon": "ppf",
    "logistic": "ppf isf",
    "norm": "ppf isf",
    "uniform": "ppf",
}
DISCRETE: dict[str, tuple[str, tuple[float, ...]]] = {
    "bernoulli": ("logpmf pmf", (0.3,)),
    "binom": ("logpmf pmf", (5.0, 0.3)),
    "poisson": ("logpmf pmf cdf", (2.6,)),
}


@pytest.fixture(autouse=True)
def _x64() -> Iterator[None]:
    with cv.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def compare(name: str, function: str, *args: Any) -> None:
    ours = getattr(getattr(stats, name), function)
    expected = getattr(getattr(scipy.stats, name), function)(*args)
    for fn in (ours, cv.jit(ours)):
        found = np.asarray(fn(*args))
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous(name: str) -> None:
    functions, shapes = CONTINUOUS[name]
    for function in functions.split():
        compare(name, function, X, *shapes)
        compare(name, function, X, *shapes, 0.4, 2.5)


@pytest.mark.parametrize("name", QUANTILES)
def test_quantiles(name: str) -> None:
    q = Q if name != "cauchy" else Q[1:5]
    for function in QUANTILES[name].split():
        compare(name, function, q, 0.4, 2.5)


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete(name: str) -> None:
    functions, shapes = DISCRETE[name]
    for function in functions.split():
        compare(name, function, K, *shapes)
        compare(name, function, K, *shapes, 1.0)


def test_bernoulli_quantiles() -> None:
    for p in (0.0, 0.3, 1.0):
        compare("bernoulli", "cdf", np.array([-1.0, 0.0, 0.5, 1.0, 4.0]), p)
    found = stats.bernoulli.ppf(np.array([0.1, 0.69, 0.71, 1.0, 1.2, np.nan]), 0.3)
    np.testing.assert_array_equal(np.asarray(found), [0, 0, 1, 1, np.nan, np.nan])
    assert np.isnan(stats.bernoulli.cdf(1.0, 1.5))


def test_ends_of_supports() -> None:
    assert float(stats.gamma.logpdf(0.0, 1.0)) == 0.0
    assert float(stats.beta.pdf(0.0, 1.0, 2.0)) == pytest.approx(2)
    assert np.isnan(stats.beta.logpdf(0.5, -1.0, 2.0))
    assert float(stats.poisson.logpmf(0, 0.0)) == 0.0
    assert float(stats.poisson.pmf(1.5, 2.0)) == 0.0
    assert float(stats.binom.pmf(0, 0, 0.5)) == 1.0
    assert float(stats.norm.logsf(40.0)) == pytest.approx(scipy.stats.norm.logsf(40.0))
    assert float(stats.norm.isf(1e-20)) == pytest.approx(scipy.stats.norm.isf(1e-20))


# Where the logarithm of the density is differentiated, and by which arguments.
POINTS: dict[str, tuple[tuple[float, ...], tuple[int, ...]]] = {
    **{
        name: ((0.8, *v[1], 0.1, 1.3), tuple(range(len(v[1]) + 3)))
        for name, v in CONTINUOUS.items()
    },
    "bernoulli": ((1.0, 0.3), (1,)),
    "binom": ((2.0, 5.0, 0.3), (2,)),
    "poisson": ((2.0, 2.6), (1,)),
}


@pytest.mark.parametrize("name", POINTS)
def test_derivatives(name: str) -> None:
    point, which = POINTS[name]
    fn = getattr(getattr(stats, name), "logpdf" if name in CONTINUOUS else "logpmf")
    eps = 1e-6
    for k, slope in zip(which, cv.jit(cv.grad(fn, which))(*point), strict=True):
        up, down = list(point), list(point)
        up[k] += eps
        down[k] -= eps
        numeric = (float(fn(*up)) - float(fn(*down))) / (2 * eps)
        assert float(slope) == pytest.approx(numeric, rel=1e-6, abs=1e-9)
    if name in ("expon", "gamma", "uniform"):
        outside = cv.grad(fn, which)(-3.0, *point[1:])
        assert all(np.isfinite(float(g)) for g in outside)


def test_integers_and_batches() -> None:
    found = stats.norm.logpdf(np.arange(3), 0, 2)
    np.testing.assert_allclose(np.asarray(found), scipy.stats.norm.logpdf(np.arange(3), 0, 2))
    assert stats.norm.pdf(np.float32(1)).dtype == np.float32
    batched = cv.vmap(stats.gamma.logpdf, in_axes=(0, None))(X[:4], 2.0)
    np.testing.assert_allclose(np.asarray(batched), scipy.stats.gamma.logpdf(X[:4], 2.0))


def test_multivariate_normal() -> None:
    a = RNG.normal(size=(3, 3))
    cov, mean, x = a @ a.T + np.eye(3), RNG.normal(size=3), RNG.normal(size=(5, 3))
    exact = scipy.stats.multivariate_normal(mean, cov)
    for fn in (stats.multivariate_normal.logpdf, cv.jit(stats.multivariate_normal.logpdf)):
        np.testing.assert_allclose(np.asarray(fn(x, mean, cov)), exact.logpdf(x), rtol=1e-11)
    np.testing.assert_allclose(
        np.asarray(stats.multivariate_normal.pdf(x[0], mean, cov)), exact.pdf(x[0]), rtol=1e-11
    )
    for given in ((0.3, 0.1, 2.0), (x[0], mean, 2.0)):
        size = np.size(given[1])
        expected = scipy.stats.multivariate_normal(given[1], 2.0 * np.eye(size)).logpdf(given[0])
        found = stats.multivariate_normal.logpdf(*given)
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-11)
    covs = np.stack([cov, 2 * cov])
    several = stats.multivariate_normal.logpdf(x[0], mean, covs)
    assert several.shape == (2,)
    gradient = cv.grad(lambda m: stats.multivariate_normal.logpdf(x[0], m, cov))(mean)
    np.testing.assert_allclose(np.asarray(gradient), np.linalg.solve(cov, x[0] - mean), rtol=1e-9)
    with pytest.raises(ValueError, match="covariance of shape"):
        stats.multivariate_normal.logpdf(x, mean, np.eye(2))
    with pytest.raises(NotImplementedError, match="allow_singular"):
        stats.multivariate_normal.logpdf(x, mean, cov, True)


def test_every_distribution_is_a_module() -> None:
    for name in (*CONTINUOUS, *DISCRETE, "multivariate_normal"):
        assert importlib.import_module(f"covector.scipy.stats.{name}") is getattr(stats, name)


# --- the op table's rows of what these are made of ------------------------------------------------


@pytest.mark.parametrize(("row", "dtype"), [*cases(ROWS)], ids=str)
def test_native_code_gives_what_numpy_gives(row: OpRow, dtype: str) -> None:
    operands = row.sample(0, dtype, (67,))
    expected = np.asarray(row(*operands))
    found = np.asarray(cv.jit(lambda *xs: row(*xs), backend="native")(*operands))
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert ulps_between(found, expected, row.roots).max() < row.ulps
    if dtype == "f64" and row.numpy is not None:
        np.testing.assert_allclose(expected, row.numpy(*operands), rtol=1e-11)
