"""Indexing for reading and for updates: drawn indices against NumPy, edge cases against JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import covector as cv
import covector.numpy as cnp
from covector.core.errors import NonConcreteBooleanIndexError

# --- drawn indices ------------------------------------------------------------------------------


@st.composite
def shapes(draw: Any) -> tuple[int, ...]:
    return tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))


def slices(size: int) -> st.SearchStrategy[slice]:
    bound = st.one_of(st.none(), st.integers(-size - 2, size + 2))
    step = st.one_of(st.none(), st.sampled_from([1, 2, 3, -1, -2]))
    return st.builds(slice, bound, bound, step)


@st.composite
def entries(draw: Any, size: int, broadcast: tuple[int, ...]) -> Any:
    """An entry for one axis, all indices within it."""
    kind = draw(st.sampled_from(["slice", "slice", "whole", "int", "array", "array"]))
    if kind == "slice":
        return draw(slices(size))
    if kind == "whole":
        return slice(None)
    if kind == "int":
        return draw(st.integers(-size, size - 1))
    # Any shape that broadcasts to the one drawn for the whole index.
    rank = draw(st.integers(0, len(broadcast)))
    shape = [n if draw(st.booleans()) else 1 for n in broadcast[len(broadcast) - rank :]]
    count = int(np.prod(shape))
    numbers = draw(st.lists(st.integers(-size, size - 1), min_size=count, max_size=count))
    return np.array(numbers, np.int32).reshape(shape)


@st.composite
def cases(draw: Any) -> tuple[Any, Any]:
    """An array and an index."""
    shape = draw(shapes())
    x = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    broadcast = tuple(draw(st.lists(st.integers(1, 3), min_size=0, max_size=2)))
    used = draw(st.integers(0, len(shape)))
    index: list[Any] = [draw(entries(n, broadcast)) for n in shape[:used]]
    if draw(st.booleans()):
        # An ellipsis, and the entries behind it for the last axes.
        split = draw(st.integers(0, used))
        tail = [draw(entries(n, broadcast)) for n in shape[len(shape) - (used - split) :]]
        index = [*index[:split], Ellipsis, *tail]
    for _ in range(draw(st.integers(0, 2))):
        index.insert(draw(st.integers(0, len(index))), None)
    return x, index[0] if len(index) == 1 and draw(st.booleans()) else tuple(index)


@given(cases())
def test_reading(case):
    x, index = case
    found = cnp.asarray(x)[index]
    expected = x[index]
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


@given(cases())
def test_reading_compiled(case):
    x, index = case
    # Arrays among the indices are arguments of the compiled function.
    entries = index if isinstance(index, tuple) else (index,)
    arrays = [e for e in entries if isinstance(e, np.ndarray)]

    def read(x, arrays):
        rest = iter(arrays)
        return x[tuple(next(rest) if isinstance(e, np.ndarray) else e for e in entries)]

    traced = cv.make_program(read)(x, arrays)
    found = cv.jit(read, backend="reference")(x, arrays)
    assert traced.output_avals[0].shape == x[index].shape
    np.testing.assert_array_equal(found, x[index])


@given(cases(), st.randoms(use_true_random=False))
def test_setting(case, random):
    x, index = case
    target = x[index]
    # Values that broadcast to what is indexed; equal ones, where a place is named twice.
    shape = [n if random.random() < 0.7 else 1 for n in target.shape]
    values = np.full(shape[random.randint(0, len(shape)) :] if shape else (), -1.0, np.float32)
    expected = x.copy()
    expected[index] = values
    found = cnp.asarray(x).at[index].set(values)
    np.testing.assert_array_equal(found, expected)


UPDATES = {
    "add": np.add.at,
    "multiply": np.multiply.at,
    "min": np.minimum.at,
    "max": np.maximum.at,
    "subtract": np.subtract.at,
}


@given(cases(), st.sampled_from(sorted(UPDATES)), st.integers(0, 9))
def test_updating(case, name, seed):
    x, index = case
    values = np.random.default_rng(seed).integers(-3, 4, x[index].shape).astype(np.float32)
    expected = x.copy()
    UPDATES[name](expected, index, values)
    found = getattr(cnp.asarray(x).at[index], name)(values)
    np.testing.assert_array_equal(found, expected)


@given(cases())
def test_derivative_of_reading(case):
    x, index = case
    weights = np.arange(1, x[index].size + 1, dtype=np.float32).reshape(x[index].shape)
    slope = cv.grad(lambda x: (x[index] * weights).sum())(x)
    expected = np.zeros_like(x)
    np.add.at(expected, index, weights)
    np.testing.assert_array_equal(slope, expected)


@given(shapes(), st.data())
def test_masks(shape, data):
    x = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    rank = data.draw(st.integers(1, len(shape)))
    size = int(np.prod(shape[:rank]))
    mask = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    mask = np.array(mask).reshape(shape[:rank])
    np.testing.assert_array_equal(cnp.asarray(x)[mask], x[mask])
    expected = x.copy()
    expected[mask] = -1
    np.testing.assert_array_equal(cnp.asarray(x).at[mask].set(-1), expected)


@st.composite
def broadcasting(draw: Any) -> list[tuple[int, ...]]:
    whole = draw(st.lists(st.integers(0, 3), min_size=0, max_size=4))
    found: list[tuple[int, ...]] = []
    for _ in range(draw(st.integers(1, 4))):
        rank = draw(st.integers(0, len(whole)))
        found.append(tuple(n if draw(st.booleans()) else 1 for n in whole[len(whole) - rank :]))
    return found


@given(broadcasting())
def test_broadcasting(drawn):
    arrays = [np.arange(int(np.prod(s)), dtype=np.float32).reshape(s) for s in drawn]
    assert cnp.broadcast_shapes(*drawn) == np.broadcast_shapes(*drawn)
    for ours, theirs in zip(
        cnp.broadcast_arrays(*arrays), np.broadcast_arrays(*arrays), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    total, expected = arrays[0], arrays[0]
    for x in arrays[1:]:
        total, expected = cnp.add(total, x), expected + x
        np.testing.assert_array_equal(cnp.multiply(x, total), x * expected)
    np.testing.assert_array_equal(total, expected)


# --- outside of the array -----------------------------------------------------------------------

X = np.arange(12, dtype=np.float32).reshape(3, 4)
OUTSIDE = [
    5,
    -7,
    np.array([0, 3, -4, 9]),
    (slice(1, None), 9),
    (np.array([7, 0]), np.array([0, -9])),
]


@pytest.mark.parametrize("mode", [None, "clip", "fill", "promise_in_bounds"])
@pytest.mark.parametrize("index", OUTSIDE, ids=str)
def test_reading_outside(index, mode):
    if mode == "promise_in_bounds":
        assert cnp.asarray(X).at[1].get(mode=mode).shape == (4,)
        return
    ours = cnp.asarray(X).at[index].get(mode=mode)
    theirs = jnp.asarray(X).at[index].get(mode=mode)
    np.testing.assert_array_equal(ours, theirs)
    if mode is None:
        np.testing.assert_array_equal(cnp.asarray(X)[index], theirs)


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.float16, np.bool_, np.complex64])
def test_filling(kind):
    x, places = X.astype(kind), np.array([0, 7])
    for fill in (None, 1):
        ours = cnp.asarray(x).at[places].get(mode="fill", fill_value=fill)
        theirs = jnp.asarray(x).at[places].get(mode="fill", fill_value=fill)
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(cnp.take(x, places, axis=0), jnp.take(x, places, axis=0))


@pytest.mark.parametrize("mode", [None, "drop", "clip"])
@pytest.mark.parametrize("name", ["set", "add", "multiply", "min"])
@pytest.mark.parametrize("index", OUTSIDE, ids=str)
def test_writing_outside(index, name, mode):
    ours = getattr(cnp.asarray(X).at[index], name)(-2.0, mode=mode)
    theirs = getattr(jnp.asarray(X).at[index], name)(-2.0, mode=mode)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("index", OUTSIDE, ids=str)
def test_wrapping(index):
    """A mode that JAX lacks for indexing: integers count modulo the sizes of axes."""
    entries = index if isinstance(index, tuple) else (index,)
    sizes = zip(entries, X.shape, strict=False)
    inside = tuple(e if isinstance(e, slice) else np.asarray(e) % n for e, n in sizes)
    x = cnp.asarray(X)
    np.testing.assert_array_equal(x.at[index].get(mode="wrap"), X[inside])
    expected = X.copy()
    np.add.at(expected, inside, 2.0)
    np.testing.assert_array_equal(x.at[index].add(2.0, mode="wrap"), expected)


METHODS = ["set", "add", "subtract", "multiply", "mul", "divide", "power", "min", "max"]


@pytest.mark.parametrize("name", METHODS)
def test_methods_of_at(name, dtype, twins):
    if dtype.kind in "b" and name not in ("set", "min", "max"):
        pytest.skip("not defined")
    if dtype.kind in "iu" and name in ("divide", "power"):
        pytest.skip("makes other dtypes")
    if dtype.kind == "c" and name in ("min", "max"):
        pytest.skip("not defined")
    x = twins.sample(dtype)
    y = np.asarray(twins.sample(dtype, (2, 4), seed=1) + (1 if dtype.kind in "fc" else 0), dtype)
    y = np.where(y == 0, 1, y).astype(dtype)
    rtol = 1e-2 if dtype == np.float16 else 1e-4
    places = np.array([2, 0])
    if name in ("power",):
        y = np.full_like(y, 2)
    fn = lambda m, x, y: getattr(m.asarray(x).at[places], name)(y)  # noqa: E731
    twins.agree(fn, x, y, values="jax", rtol=rtol)


def test_apply_and_get():
    x, places = cnp.asarray(X), np.array([0, 2])
    ours, theirs = x.at[places].apply(cnp.sin), jnp.asarray(X).at[places].apply(jnp.sin)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    np.testing.assert_array_equal(x.at[1:, ::2].get(), X[1:, ::2])


@pytest.mark.parametrize("name", ["set", "add", "multiply", "min", "max"])
def test_derivatives_of_updates(name):
    places, y = np.array([2, 0]), np.float32([[1, 2, 3, 4], [5, 6, 7, 8]])

    def fn(m, x, y):
        # JAX differentiates products only for this promise.
        options = {"unique_indices": True} if name == "multiply" else {}
        return (getattr(m.asarray(x).at[places], name)(y, **options) ** 2).sum()

    for k in (0, 1):
        ours = cv.grad(lambda x, y: fn(cnp, x, y), k)(X + 1, y)
        theirs = jax.grad(lambda x, y: fn(jnp, x, y), k)(X + 1, y)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_derivatives_of_divide_and_apply():
    places, y = np.array([2, 0]), np.float32([[1, 2, 3, 4], [5, 6, 7, 8]])
    slope = cv.grad(lambda x: cnp.asarray(x).at[places].divide(y).sum())(X)
    expected = np.ones_like(X)
    expected[places] /= y
    np.testing.assert_allclose(slope, expected, rtol=1e-6)
    slope = cv.grad(lambda x: cnp.asarray(x).at[places].apply(cnp.sin).sum())(X)
    expected = np.ones_like(X)
    expected[places] = np.cos(X[places])
    np.testing.assert_allclose(slope, expected, rtol=1e-5)


def test_batched_and_compiled():
    read = lambda x, i: x[i, 1:]  # noqa: E731
    write = lambda x, i, v: x.at[i, ::2].add(v)  # noqa: E731
    x, places, values = cnp.asarray(X), np.array([0, 2, -1]), np.float32([1, 2, 3])
    np.testing.assert_array_equal(cv.vmap(read, (None, 0))(x, places), X[places, 1:])
    expected = jax.vmap(write, (None, 0, 0))(jnp.asarray(X), places, values)
    np.testing.assert_array_equal(cv.vmap(write, (None, 0, 0))(x, places, values), expected)
    batched = cv.jit(cv.vmap(write, (None, 0, 0)))(x, places, values)
    np.testing.assert_array_equal(batched, expected)


def test_scalars_of_bool_are_axes():
    x = cnp.asarray(X)
    np.testing.assert_array_equal(x[True], X[True])
    np.testing.assert_array_equal(x[False], X[False])
    np.testing.assert_array_equal(x[:, True], X[:, True])
    np.testing.assert_array_equal(x[True, 1], X[True, 1])


def test_traced_integers_index_like_others():
    first = cv.jit(lambda x, i: x[i])(X, 1)
    np.testing.assert_array_equal(first, X[1])
    mixed = cv.jit(lambda x, i: x[1:, i, None])(X, -1)
    np.testing.assert_array_equal(mixed, X[1:, -1, None])
    part = cv.jit(lambda x, i: x.at[i, i + 1].set(0.0))(X, 1)
    np.testing.assert_array_equal(part, np.where(X == 6, 0, X))


# --- functions that read by index ---------------------------------------------------------------


@pytest.mark.parametrize("mode", [None, "fill", "clip", "wrap"])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_take(axis, mode, dtype, twins):
    x, places = twins.sample(dtype), np.array([[0, -1], [1, 20]])
    twins.agree(lambda m, x, i: m.take(x, i, axis=axis, mode=mode), x, places, values="jax")
    twins.agree(lambda m, x: m.take(x, 1, axis=axis, mode=mode), x, values="jax")


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_take_along_axis(axis, dtype, twins):
    x = twins.sample(dtype)
    order = np.argsort(x, axis=axis)
    twins.agree(lambda m, x: m.take_along_axis(x, order, axis=axis), x)
    if axis is not None:
        one = np.argmax(x, axis=axis, keepdims=True)
        twins.agree(lambda m, x: m.take_along_axis(x, one, axis=axis), x)
        outside = order * 0 + 9
        for mode in (None, "clip", "fill"):
            fn = lambda m, x, k=mode: m.take_along_axis(x, outside, axis=axis, mode=k)  # noqa: E731
            twins.agree(fn, x, values="jax")


def test_nonzero(dtype, twins):
    x = twins.sample(dtype, (5, 4)) * twins.sample(np.bool_, (5, 4), seed=2)
    x = np.asarray(x, dtype)
    twins.agree(lambda m, x: m.nonzero(x), x, values="jax")
    twins.agree(lambda m, x: m.argwhere(x), x, values="jax")
    twins.agree(lambda m, x: m.flatnonzero(x), x, values="jax")
    twins.agree(lambda m, x: m.where(x), x, values="jax")
    for options in ({"size": 3}, {"size": 25}, {"size": 25, "fill_value": -1}):
        fn = lambda m, x, o=options: m.nonzero(x, **o)  # noqa: E731
        twins.agree(fn, x, values="jax")
        for ours, eager in zip(cv.jit(lambda x, f=fn: f(cnp, x))(x), fn(cnp, x), strict=True):
            np.testing.assert_array_equal(ours, eager)
    both = lambda m, x: m.nonzero(x, size=25, fill_value=(7, 8))  # noqa: E731
    twins.agree(both, x, values="jax")
    twins.agree(lambda m, x: m.argwhere(x, size=25, fill_value=5), x, values="jax")


def test_positions(twins):
    flat, shape = np.array([0, 5, 11, 7]), (3, 4)
    twins.agree(lambda m, i: m.unravel_index(i, shape), flat)
    twins.agree(lambda m, i: m.unravel_index(i, shape), np.array([13, -1, -14]), values="jax")
    pair = np.unravel_index(flat, shape)
    for order in ("C", "F"):
        ours = cnp.ravel_multi_index(pair, shape, order=order)
        np.testing.assert_array_equal(ours, np.ravel_multi_index(pair, shape, order=order))
    beyond = (np.array([4, -1]), np.array([0, 9]))
    for mode in ("clip", "wrap"):
        ours = cnp.ravel_multi_index(beyond, shape, mode=mode)
        np.testing.assert_array_equal(ours, np.ravel_multi_index(beyond, shape, mode=mode))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: x[[0, 1]], TypeError, "list"),
        (lambda x: x[0, 0, 0], IndexError, "too many"),
        (lambda x: x[..., ...], IndexError, "ellipsis"),
        (lambda x: x[1.5], TypeError, "integers"),
        (lambda x: x["a"], TypeError, "integers"),
        (lambda x: x[np.ones(3)], TypeError, "integers or bools"),
        (lambda x: x[np.ones(2, bool)], IndexError, "mask|boolean"),
        (lambda x: x.__setitem__(0, 1.0), TypeError, "immutable"),
        (lambda x: x.at[0].set(np.ones(3)), ValueError, "broadcast"),
        (lambda x: cnp.take_along_axis(x, np.array([0]), 0), ValueError, "rank"),
        (lambda x: cnp.ravel_multi_index((5, 0), (3, 4)), ValueError, "outside"),
        (lambda x: cv.jit(lambda m: x[m])(x > 1), NonConcreteBooleanIndexError, "mask"),
        (lambda x: cv.jit(lambda i: x[:i])(1), IndexError, "dynamic_slice"),
        (lambda x: cv.jit(cnp.nonzero)(x), NonConcreteBooleanIndexError, "size"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(cnp.asarray(X))


@pytest.mark.parametrize(
    "index", [7, -9, np.array([1, 5, -7, -1]), (np.array([0, 5]), np.array([1, 2])), (5, 1)]
)
@pytest.mark.parametrize("jit", [False, True])
def test_derivatives_of_reads_outside_are_those_of_jax(index: Any, jit: bool) -> None:
    x = np.arange(12.0, dtype=np.float32).reshape(4, 3)

    def total(x: Any, index: Any) -> Any:
        return (x[index] ** 2).sum()

    ours, theirs = cv.value_and_grad(total), jax.value_and_grad(total)
    if jit:
        ours, theirs = cv.jit(ours), jax.jit(theirs)
    for found, expected in zip(
        ours(cnp.asarray(x), index), theirs(jnp.asarray(x), index), strict=True
    ):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
