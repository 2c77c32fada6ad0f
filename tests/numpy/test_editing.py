"""Putting in, taking out and overwriting elements; functions of functions; bits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector.core.errors import ConcretizationTypeError

OBJECTS = [1, -1, slice(0, 3, 2), slice(None), [0, 2], [-1, 0, 0], [], [True, False, True, False]]


@pytest.mark.parametrize("axis", [None, 1, -1])
@pytest.mark.parametrize("obj", OBJECTS, ids=str)
def test_delete(obj, axis, dtype, twins):
    x = twins.sample(dtype, (3, 4))
    if isinstance(obj, list):
        if axis is None and any(o is True for o in obj):
            obj = obj * 3
        obj = np.array(obj, bool if obj and isinstance(obj[0], bool) else int)
    twins.agree(lambda m, x: m.delete(x, obj, axis), x)


def test_delete_at_traced_places():
    x = np.arange(10.0, dtype=np.float32)
    one = cv.jit(lambda x, i: cnp.delete(x, i))
    for i in (0, 4, 9, -1):
        np.testing.assert_array_equal(one(x, i), np.delete(x, i))
    several = cv.jit(lambda x, i: cnp.delete(x, i, assume_unique_indices=True))
    for places in ([2, 5], [9, 0], [-1, 3]):
        np.testing.assert_array_equal(several(x, np.array(places)), np.delete(x, places))
    with pytest.raises(ConcretizationTypeError, match="assume_unique_indices"):
        cv.jit(cnp.delete)(x, np.array([1, 2]))


INSERTIONS = [(1, 9), (-1, 9), (0, [7, 8, 9, 9]), ([0, 2], 9), ([2, 0, 4], 9), (slice(0, 2), 9)]


@pytest.mark.parametrize(("obj", "values"), INSERTIONS, ids=str)
def test_insert(obj, values, dtype, twins):
    if dtype.kind == "b":
        values = True
    x = twins.sample(dtype, (4, 4))
    obj = np.array(obj) if isinstance(obj, list) else obj
    values = np.array(values, dtype)
    twins.agree(lambda m, x: m.insert(x, obj, values, axis=0), x)
    twins.agree(lambda m, x: m.insert(x, obj, values, axis=1), x)
    if values.ndim == 0:
        twins.agree(lambda m, x: m.insert(x, obj, values), x)


def test_insert_several(twins):
    x = twins.sample(np.float32, (4, 3))
    twins.agree(lambda m, x: m.insert(x, np.array([1, 3]), x[:2], axis=0), x)
    twins.agree(lambda m, x: m.insert(x, np.array([1]), x[:2], axis=0), x)
    twins.agree(lambda m, x: m.insert(x[0], np.array([2, 0, 2]), np.float32([7, 8, 9])), x)
    inserted = cv.jit(lambda x, i: cnp.insert(x, i, 7.0))(x[0], 1)
    np.testing.assert_array_equal(inserted, np.insert(x[0], 1, 7.0))


def test_put_and_place(dtype, twins):
    x, v = twins.sample(dtype, (3, 4)), twins.sample(dtype, (2,), seed=1)
    places, mask = np.array([0, 5, -1]), twins.sample(np.bool_, (3, 4), seed=2)

    def changed(name, *args, **options):
        expected = x.copy()
        getattr(np, name)(expected, *args, **options)
        found = getattr(cnp, name)(x, *args, inplace=False, **options)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)

    changed("put", places, v)
    changed("put", np.array([3, 40, -99]), v, mode="clip")
    changed("put", np.array([3, 40, -99]), v, mode="wrap")
    changed("place", mask, v)
    changed("place", ~mask, v[:1])
    ours = cnp.put_along_axis(x, np.argmax(x, 1, keepdims=True), v[0], 1, inplace=False)
    expected = x.copy()
    np.put_along_axis(expected, np.argmax(x, 1, keepdims=True), v[0], 1)
    np.testing.assert_array_equal(ours, expected)


def test_fill_diagonal(dtype, twins):
    x = twins.sample(dtype, (3, 5))
    for value in (x[0, 1], x[0, :3], x[0, :2]):
        expected = x.copy()
        np.fill_diagonal(expected, value)
        found = cnp.fill_diagonal(x, value, inplace=False)
        np.testing.assert_array_equal(found, expected)


def test_extract_and_compress(dtype, twins):
    x, mask = twins.sample(dtype, (3, 4)), twins.sample(np.bool_, (3, 4), seed=2)
    twins.agree(lambda m, x, c: m.extract(c, x), x, mask, values="jax")
    twins.agree(lambda m, x, c: m.extract(c, x, size=9), x, mask, values="jax")
    row = np.array([True, False, True])
    twins.agree(lambda m, x, c: m.compress(c, x, axis=0), x, row, values="jax")
    sized = cv.jit(lambda x, c: cnp.compress(c, x, axis=0, size=3, fill_value=1))(x, row)
    theirs = jnp.compress(row, x, axis=0, size=3, fill_value=1)
    np.testing.assert_array_equal(sized, theirs)


@pytest.mark.parametrize("bitorder", ["big", "little"])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_bits(axis, bitorder, twins):
    x = twins.sample(np.uint8, (3, 11)) % 3
    twins.agree(lambda m, x: m.packbits(x, axis, bitorder), x)
    packed = np.random.default_rng(0).integers(0, 256, (3, 4)).astype(np.uint8)
    for count in (None, 10, -3, 40):
        fn = lambda m, x, c=count: m.unpackbits(x, axis, c, bitorder)  # noqa: E731
        twins.agree(fn, packed)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: cnp.fill_diagonal(x, 1), ValueError, "inplace=False"),
        (lambda x: cnp.put(x, 0, 1), ValueError, "inplace=False"),
        (lambda x: cnp.place(x, x > 0, 1), ValueError, "inplace=False"),
        (lambda x: cnp.put_along_axis(x, x, 1, 0), ValueError, "inplace=False"),
        (lambda x: cnp.delete(x, 9, axis=0), IndexError, "out of range"),
        (lambda x: cnp.packbits(x), TypeError, "bools and integers"),
        (lambda x: cnp.unpackbits(x), TypeError, "uint8"),
        (lambda x: cnp.resize(x, (-1, 2)), ValueError, "negative"),
        (lambda x: cnp.insert(x, np.ones((2, 2), int), 1, axis=0), ValueError, "vector"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(np.ones((3, 3), np.float32))


# --- functions of functions ---------------------------------------------------------------------

ALONG = {
    "a number": lambda m: lambda v: v.sum(),
    "a vector": lambda m: lambda v: m.cumsum(v)[:2],
    "a matrix": lambda m: lambda v: m.outer(v, v[:2]),
    "a constant": lambda m: lambda v: m.ones(2, "float32"),
}


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("name", ALONG)
def test_along_an_axis(name, axis, twins):
    x = twins.sample(np.float32, (2, 3, 4))
    twins.agree(lambda m, x: m.apply_along_axis(ALONG[name](m), axis, x), x)


def test_options_along_an_axis(twins):
    x = twins.sample(np.float32, (2, 3))
    fn = lambda m, x: m.apply_along_axis(lambda v, a, b=0: v.sum() * a + b, 0, x, 2, b=1)  # noqa: E731
    twins.agree(fn, x)


def test_over_axes(twins):
    x = twins.sample(np.float32, (2, 3, 4))
    twins.agree(lambda m, x: m.apply_over_axes(m.sum, x, (0, -1)), x)
    twins.agree(lambda m, x: m.apply_over_axes(m.cumsum, x, (1,)), x)
    assert cnp.apply_over_axes(cnp.sum, x, 1).shape == (2, 1, 4)


def test_piecewise(dtype, twins):
    if dtype.kind in "bc":
        pytest.skip("not sensible")
    x = twins.sample(dtype, (3, 4))
    conditions = [x < 1, x > 3]
    choices = [lambda v: v * 2, lambda v: v + 1]
    twins.agree(lambda m, x: m.piecewise(x, conditions, choices), x, values="jax")
    twins.agree(lambda m, x: m.piecewise(x, conditions, [*choices, 7]), x, values="jax")
    twins.agree(lambda m, x: m.piecewise(x, conditions, [1, 2]), x, values="jax")
    more = lambda m, x: m.piecewise(x, conditions, [lambda v, a: v + v * 0 + a, 3], 5)  # noqa: E731
    twins.agree(more, x, values="jax")


def test_select_and_choose(dtype, twins):
    x, y = twins.sample(dtype), twins.sample(dtype, seed=1)
    first, second = twins.sample(np.bool_, seed=2), twins.sample(np.bool_, seed=3)
    fn = lambda m, x, y: m.select([first, second], [x, y], 1)  # noqa: E731
    twins.agree(fn, x, y, values="jax")
    which = np.array([0, 1, 1, 0])
    np.testing.assert_array_equal(cnp.choose(which, [x, y]), np.choose(which, [x, y]))
    for mode in ("clip", "wrap"):
        twins.agree(lambda m, x, y, k=mode: m.choose(which * 5 - 2, [x, y], mode=k), x, y)


VECTORIZED = {
    "scalars": (None, lambda m, a, b: m.where(a > b, a - b, a + b)),
    "matrices": ("(m,n),(n)->(m)", lambda m, a, b: a @ b),
    "two results": ("(n),(n)->(),(n)", lambda m, a, b: (a @ b, a + b)),
    "fixed sizes": ("(3),(3)->(3)", lambda m, a, b: m.cross(a, b)),
}
SHAPES = {
    "scalars": ((2, 1), (3,)),
    "matrices": ((5, 1, 2, 3), (4, 3)),
    "two results": ((4, 3), (2, 1, 3)),
    "fixed sizes": ((4, 3), (3,)),
}


@pytest.mark.parametrize("name", VECTORIZED)
def test_vectorize(name, twins):
    signature, fn = VECTORIZED[name]
    args = [twins.sample(np.float32, s, seed=k) for k, s in enumerate(SHAPES[name])]
    ours = cnp.vectorize(lambda a, b: fn(cnp, a, b), signature=signature)(*args)
    theirs = jnp.vectorize(lambda a, b: fn(jnp, a, b), signature=signature)(*args)
    for a, b in zip(*[x if isinstance(x, tuple) else (x,) for x in (ours, theirs)], strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_vectorize_with_arguments_left_out():
    def power(x, k, scale=1.0):
        assert isinstance(k, int)
        return scale * x**k

    fn = cnp.vectorize(power, excluded={1})
    np.testing.assert_array_equal(fn(np.arange(3.0), 2), [0, 1, 4])
    np.testing.assert_array_equal(fn(np.arange(3.0), 2, scale=np.ones((2, 1))), [[0, 1, 4]] * 2)
    named = cnp.vectorize(power, excluded={1, "scale"})
    np.testing.assert_array_equal(named(np.arange(3.0), 2, scale=3.0), [0, 3, 12])


def test_vectorize_compiled_and_differentiated():
    fn = cnp.vectorize(lambda a, v: (a @ v).sum(), signature="(m,n),(n)->()")
    a, v = np.ones((4, 2, 3), np.float32), np.arange(3, dtype=np.float32)
    np.testing.assert_array_equal(cv.jit(fn)(a, v), fn(a, v))
    ours = cv.grad(lambda v: fn(a, v).sum())(v)
    theirs = jax.grad(lambda v: jnp.einsum("bmn,n->", a, v))(v)
    np.testing.assert_allclose(ours, theirs)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: cnp.vectorize(lambda a: a, signature="n->n"), ValueError, "signature"),
        (lambda x: cnp.vectorize(lambda a: a, signature="(n)->()")(x), ValueError, "result"),
        (lambda x: cnp.vectorize(lambda a: a, signature="(n)->(n)")(1.0), ValueError, "axes"),
        (lambda x: cnp.vectorize(lambda a, b: a, signature="(n)->(n)")(x, x), TypeError, "takes 1"),
        (
            lambda x: cnp.vectorize(lambda a, b: a, signature="(n),(n)->(n)")(x, x[:, :2]),
            ValueError,
            "axis 'n'",
        ),
        (lambda x: cnp.vectorize(lambda a: a, excluded={-1}), ValueError, "negative"),
        (lambda x: cnp.piecewise(x, [x > 0], [1, 2, 3]), ValueError, "conditions"),
        (lambda x: cnp.select([], []), ValueError, "conditions"),
        (lambda x: cnp.choose(np.array([5]), [1, 2]), ValueError, "out of range"),
    ],
)
def test_wrong_functions(call, error, text):
    with pytest.raises(error, match=text):
        call(np.ones((3, 4), np.float32))
