"""Sorting, searching and sets against NumPy and JAX."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector.core.errors import ConcretizationTypeError


def special(twins, dtype, shape=(40,)):
    x = twins.sample(dtype, shape)
    if dtype.kind == "f":
        x.reshape(-1)[:5] = [np.nan, np.inf, -np.inf, -0.0, np.nan]
    return x


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_sort(dtype, axis, twins):
    x = special(twins, dtype, (5, 8))
    twins.agree(lambda m, x: m.sort(x, axis=axis), x)
    twins.agree(lambda m, x: m.argsort(x, axis=axis, stable=True), x)


def test_descending(dtype, twins):
    x = special(twins, dtype, (5, 8))
    twins.agree(lambda m, x: m.sort(x, descending=True), x, values="jax")
    twins.agree(lambda m, x: m.argsort(x, axis=0, descending=True), x, values="jax")


def test_lexsort(dtype, twins):
    a, b = twins.sample(dtype, (30,)), twins.sample(np.int32, (30,), seed=1)
    twins.agree(lambda m, a, b: m.lexsort((a, b)), a, b)
    twins.agree(lambda m, a, b: m.lexsort((b, a)), a, b)
    twins.agree(lambda m, b: m.lexsort(b.reshape(2, 15)), b)


def test_sort_complex(dtype, twins):
    twins.agree(lambda m, x: m.sort_complex(x), twins.sample(dtype), values="jax")


@pytest.mark.parametrize("kth", [0, 3, -1])
def test_partition(dtype, kth, twins):
    if dtype.kind == "c":
        with pytest.raises(NotImplementedError, match="complex"):
            cnp.partition(twins.sample(dtype), kth)
        return
    x = special(twins, dtype, (6, 9))
    for axis in (0, 1):
        found = np.asarray(cnp.partition(x, kth, axis))
        assert found.dtype == dtype
        place = kth % x.shape[axis]
        np.testing.assert_array_equal(np.sort(found, axis), np.sort(x, axis))
        pick = lambda a, p=place, k=axis: np.take(a, p, k)  # noqa: E731
        np.testing.assert_array_equal(pick(found), pick(np.sort(x, axis)))
        order = cnp.argpartition(x, kth, axis)
        assert order.dtype == np.int32
        by_order = np.take_along_axis(x, np.asarray(order), axis)
        np.testing.assert_array_equal(pick(by_order), pick(np.sort(x, axis)))


@pytest.mark.parametrize("method", ["scan", "scan_unrolled", "sort", "compare_all"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted(dtype, side, method, twins):
    table, x = np.sort(special(twins, dtype, (20,))), special(twins, dtype, (3, 9))
    twins.agree(lambda m, t, x: _search(m, t, x, side, method), table, x)
    twins.agree(lambda m, t, x: _search(m, t, x, side, method), table[:0], x)
    twins.agree(lambda m, t, x: _search(m, t, x, side, method), table, x[:0])
    twins.agree(lambda m, t, x: _search(m, t, x, side, method), table[:1], x)


def _search(m, table, x, side, method):
    if m is np:
        return np.searchsorted(table, x, side)
    return m.searchsorted(table, x, side, method=method)


def test_searchsorted_with_order(twins):
    table, x = twins.sample(np.float32, (20,)), twins.sample(np.float32, (9,), seed=1)
    order = np.argsort(table).astype(np.int32)
    twins.agree(lambda m, t, x, o: m.searchsorted(t, x, sorter=o), table, x, order)


@pytest.mark.parametrize("right", [False, True])
def test_digitize(right, twins):
    x, bins = twins.sample(np.float32, (3, 9)), np.sort(twins.sample(np.float32, (7,), seed=2))
    twins.agree(lambda m, x, b: m.digitize(x, b, right), x, bins)
    twins.agree(lambda m, x, b: m.digitize(x, b[::-1], right), x, bins)


# --- sets ---------------------------------------------------------------------------------------


def test_unique(dtype, twins):
    x = special(twins, dtype, (4, 10))
    twins.agree(lambda m, x: m.unique(x), x, values="jax")
    twins.agree(lambda m, x: m.unique(x, True, True, True), x, values="jax")
    twins.agree(lambda m, x: m.unique(x, equal_nan=False), x, values="jax")
    twins.agree(lambda m, x: m.unique(x[:0], True, True, True), x, values="jax")


@pytest.mark.parametrize("size", [1, 4, 40])
@pytest.mark.parametrize("fill_value", [None, 3])
def test_unique_of_a_size(dtype, size, fill_value, twins):
    x = twins.sample(dtype, (30,))

    def sized(m, x):
        return m.unique(x, True, True, True, size=size, fill_value=fill_value)

    twins.agree(sized, x, values="jax")
    found = cv.jit(lambda x: sized(cnp, x))(x)
    for ours, eager in zip(found, sized(cnp, x), strict=True):
        np.testing.assert_array_equal(ours, eager)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_unique_slices(axis, twins):
    x = twins.sample(np.int32, (6, 3, 2)) % 2
    twins.agree(lambda m, x: m.unique(x, True, True, True, axis=axis), x, values="jax")
    twins.agree(lambda m, x: m.unique(x, axis=axis, size=3), x, values="jax")


def test_unique_of_the_array_api(twins):
    x = twins.sample(np.int32, (4, 5))
    for name in ("unique_all", "unique_counts", "unique_inverse", "unique_values"):
        twins.agree(lambda m, x, n=name: getattr(m, n)(x), x, values="jax")
    assert cnp.unique_counts(x)._fields == ("values", "counts")


@pytest.mark.parametrize("method", ["auto", "compare_all", "binary_search", "sort"])
def test_isin(dtype, method, twins):
    x, table = twins.sample(dtype, (3, 9)), twins.sample(dtype, (30,), seed=1)[:25]
    for part in (table, table[:3], table[:0]):
        for invert in (False, True):
            twins.agree(lambda m, x, t, i=invert: _isin(m, x, t, i, method), x, part)


def _isin(m, x, table, invert, method):
    return m.isin(x, table, invert=invert, **({} if m is np else {"method": method}))


@pytest.mark.parametrize("name", ["union1d", "setdiff1d", "setxor1d", "intersect1d"])
def test_sets(name, dtype, twins):
    x, y = twins.sample(dtype, (3, 6)), twins.sample(dtype, (8,), seed=1)
    fn = lambda m, x, y: getattr(m, name)(x, y)  # noqa: E731
    twins.agree(fn, x, y, values="jax")
    twins.agree(fn, x[:0], y, values="jax")
    twins.agree(fn, x, y[:0], values="jax")


@pytest.mark.parametrize("size", [2, 12])
@pytest.mark.parametrize("name", ["union1d", "setdiff1d", "setxor1d", "intersect1d"])
def test_sets_of_a_size(name, size, twins):
    x, y = twins.sample(np.int32, (3, 6)), twins.sample(np.int32, (8,), seed=1)
    for fill in (None, 77):
        sized = lambda m, x, y, f=fill: getattr(m, name)(x, y, size=size, fill_value=f)  # noqa: E731
        twins.agree(sized, x, y, values="jax")
        found = cv.jit(lambda x, y, s=sized: s(cnp, x, y))(x, y)
        np.testing.assert_array_equal(found, sized(cnp, x, y))


def test_indices_of_intersections(twins):
    x, y = np.array([5, 1, 3, 1, 9]), np.array([9, 3, 3, 7])
    twins.agree(lambda m, x, y: m.intersect1d(x, y, return_indices=True), x, y, values="jax")
    twins.agree(
        lambda m, x, y: m.intersect1d(x, y, return_indices=True, size=4), x, y, values="jax"
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda x: cnp.unique(x),
        lambda x: cnp.union1d(x, x),
        lambda x: cnp.setdiff1d(x, x),
        lambda x: cnp.intersect1d(x, x),
        lambda x: cnp.bincount(x),
        lambda x: cnp.trim_zeros(x),
    ],
)
def test_sizes_must_be_known(call):
    with pytest.raises(ConcretizationTypeError, match="known while tracing"):
        cv.jit(call)(np.arange(3))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: cnp.sort(np.arange(3), axis=1), ValueError, "axis 1"),
        (lambda: cnp.sort(np.arange(3), order="a"), NotImplementedError, "order"),
        (lambda: cnp.searchsorted(np.ones((2, 2)), 1.0), ValueError, "vector"),
        (lambda: cnp.searchsorted(np.ones(2), 1.0, side="up"), ValueError, "side"),
        (lambda: cnp.lexsort(()), TypeError, "at least one"),
        (lambda: cnp.partition(np.ones(3), 3), ValueError, "out of range"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_derivative_of_sort():
    x = np.array([3.0, 1.0, 2.0], np.float32)
    weights = np.array([1.0, 10.0, 100.0], np.float32)
    ours = cv.grad(lambda x: (cnp.sort(x) * weights).sum())(x)
    theirs = jax.grad(lambda x: (jax.numpy.sort(x) * weights).sum())(x)
    np.testing.assert_array_equal(ours, theirs)
