"""Differences, integrals, interpolation, convolution and polynomials against NumPy and JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp

X = np.array([0.5, 1.0, 2.5, 3.0, 4.75], np.float32)
Y = np.array([1.0, -2.0, 0.5, 4.0, 3.0], np.float32)


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_diff(n, axis, dtype, twins):
    x = twins.sample(dtype, (4, 5))
    twins.agree(lambda m, x: m.diff(x, n, axis), x)


def test_diff_with_ends(twins):
    x = twins.sample(np.int32)
    twins.agree(lambda m, x: m.diff(x, prepend=0, append=x[:, :2]), x)
    twins.agree(lambda m, x: m.diff(x, axis=0, prepend=x[:1]), x)


def test_ediff1d(dtype, twins):
    if dtype.kind == "b":
        pytest.skip("not in NumPy")
    x = twins.sample(dtype)
    twins.agree(lambda m, x: m.ediff1d(x), x)
    twins.agree(lambda m, x: m.ediff1d(x, to_begin=x[0], to_end=x[1, :1]), x)


@pytest.mark.parametrize("axis", [None, 0, 1, (1, 0)], ids=str)
def test_gradient(axis, twins):
    x = twins.sample(np.float32, (4, 5))
    twins.agree(lambda m, x: m.gradient(x, axis=axis), x)
    twins.agree(lambda m, x: m.gradient(x, 0.5, axis=axis), x)
    twins.agree(lambda m, x: m.gradient(x[0], X), x)
    twins.agree(lambda m, x: m.gradient(x, 2.0, X), x)
    twins.agree(lambda m, x: m.gradient(x), twins.sample(np.int32, (6,)))


@pytest.mark.parametrize("axis", [0, -1])
def test_trapezoid(axis, dtype, twins):
    y = twins.sample(dtype, (5, 5))
    rtol = 2e-2 if dtype == np.float16 else 1e-4
    twins.agree(lambda m, y: m.trapezoid(y, axis=axis), y, rtol=rtol)
    twins.agree(lambda m, y: m.trapezoid(y, dx=0.5, axis=axis), y, rtol=rtol)
    twins.agree(lambda m, y, x: m.trapezoid(y, x, axis=axis), y, X, rtol=rtol)
    twins.agree(lambda m, y, x: m.trapezoid(y, m.stack([x] * 5), axis=axis), y, X, rtol=rtol)


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int32])
def test_unwrap(kind, twins):
    x = np.asarray(np.cumsum(twins.sample(np.float32, (3, 20)), 1) % 7, kind)
    period = 7 if kind == np.int32 else 2 * np.pi
    rtol = 5e-2 if kind == np.float16 else 1e-4
    values = "jax" if kind == np.float16 else "numpy"
    twins.agree(lambda m, x: m.unwrap(x, period=period), x, rtol=rtol, values=values)
    twins.agree(lambda m, x: m.unwrap(x, period=period, axis=0), x, rtol=rtol, values=values)


@pytest.mark.parametrize("options", [{}, {"left": -9.0}, {"right": 7.0}, {"period": 4.0}], ids=str)
def test_interp(options, twins):
    at = np.linspace(-1, 6, 30).astype(np.float32)
    twins.agree(lambda m, x: m.interp(x, X, Y, **options), at, rtol=1e-4)
    twins.agree(lambda m, x: m.interp(x, X, Y, **options), at.reshape(5, 6), rtol=1e-4)
    twins.agree(lambda m, x: m.interp(x, X[:1], Y[:1], **options), at)


def test_interp_beyond_the_ends(twins):
    at = np.linspace(-1, 6, 30).astype(np.float32)
    fn = lambda m, x: m.interp(x, X, Y, left="extrapolate", right="extrapolate")  # noqa: E731
    twins.agree(fn, at, values="jax", rtol=1e-4)
    repeated = np.array([0.0, 1.0, 1.0, 2.0, 3.0], np.float32)
    twins.agree(lambda m, x: m.interp(x, repeated, Y), at, values="jax")


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", ["convolve", "correlate"])
def test_convolution(name, mode, dtype, twins):
    for first, second in ((9, 3), (3, 9), (4, 4), (1, 1), (60, 45)):
        x, y = twins.sample(dtype, (first,)), twins.sample(dtype, (second,), seed=1)
        rtol = 1e-1 if dtype == np.float16 else 1e-4
        twins.agree(lambda m, x, y: getattr(m, name)(x, y, mode), x, y, rtol=rtol)


DIFFERENTIABLE = {
    "diff": lambda m, x: m.diff(x, 2),
    "gradient": lambda m, x: m.gradient(x, X),
    "trapezoid": lambda m, x: m.trapezoid(x, X),
    "interp at": lambda m, x: m.interp(x, X, Y),
    "interp values": lambda m, x: m.interp(X + 0.1, X, x),
    "convolve": lambda m, x: m.convolve(x, x),
    "correlate": lambda m, x: m.correlate(x, X[:2]),
    "unwrap": lambda m, x: m.unwrap(x * 3),
    "polyval": lambda m, x: m.polyval(x, X),
    "polyval at": lambda m, x: m.polyval(X, x),
    "polymul": lambda m, x: m.polymul(x, x[:3]),
    "vander": lambda m, x: m.vander(x),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives(name):
    fn = DIFFERENTIABLE[name]
    ours = cv.grad(lambda x: (fn(cnp, x) ** 2).sum())(Y)
    theirs = jax.grad(lambda x: (fn(jnp, x) ** 2).sum())(Y)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)
    compiled = cv.jit(lambda x: fn(cnp, x))(Y)
    np.testing.assert_allclose(compiled, fn(cnp, Y), rtol=1e-5, atol=1e-5)


# --- polynomials --------------------------------------------------------------------------------

POLYNOMIALS = {
    "polyadd": lambda m, a, b: m.polyadd(a, b),
    "polysub": lambda m, a, b: m.polysub(a, b),
    "polymul": lambda m, a, b: m.polymul(a, b),
    "polydiv": lambda m, a, b: m.polydiv(b, a),
    "polyder": lambda m, a, b: [m.polyder(b), m.polyder(b, 2), m.polyder(b, 0)],
    "polyint": lambda m, a, b: [
        m.polyint(b),
        m.polyint(b, 2),
        m.polyint(b, 2, k=np.float32([1.0, 2.0])),
    ],
    "polyval": lambda m, a, b: m.polyval(b, a),
    "vander": lambda m, a, b: [m.vander(a), m.vander(a, 2), m.vander(a, 5, increasing=True)],
    "poly": lambda m, a, b: m.poly(a),
}


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials(name, dtype, twins):
    if dtype.kind == "b" or (dtype.kind == "u" and name != "vander"):
        pytest.skip("NumPy wraps, JAX refuses bools")
    a, b = twins.sample(dtype, (3,)), twins.sample(dtype, (6,), seed=4)
    a = np.asarray(a + (a == 0), dtype)
    rtol = 2e-1 if dtype == np.float16 else 1e-3
    # NumPy leaves leading zeros out of quotients and remainders.
    values = "jax" if name in ("polydiv", "vander") else "numpy"
    twins.agree(lambda m, a, b: POLYNOMIALS[name](m, a, b), a, b, values=values, rtol=rtol)


def test_polyval_of_many_coefficients(twins):
    p = twins.sample(np.float32, (50,)) / 10
    twins.agree(lambda m, p: m.polyval(p, np.float32(0.9)), p, rtol=1e-4)
    many = twins.sample(np.float32, (3, 2))
    twins.agree(lambda m, p: m.polyval(p, np.ones((4, 2), np.float32)), many, values="jax")


@pytest.mark.parametrize("trim", ["f", "b", "fb"])
def test_trim_zeros(trim, twins):
    for x in ([0, 0, 1, 0, 2, 0], [0, 0], [1, 2], []):
        x = np.array(x, np.int32)
        twins.agree(lambda m, x: m.trim_zeros(x, trim), x, values="jax")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"full": True},
        {"cov": True},
        {"w": Y**2},
        {"w": Y**2, "cov": "unscaled"},
        {"rcond": 0.1},
    ],
    ids=str,
)
def test_polyfit(options):
    for values in (Y, np.stack([Y, Y[::-1] * 2], 1)):
        if "cov" in options and values.ndim == 2 and "w" in options:
            continue
        ours, theirs = (m.polyfit(X, values, 2, **options) for m in (cnp, jnp))
        for a, b in zip(jax.tree.leaves(tuple(ours)), jax.tree.leaves(tuple(theirs)), strict=True):
            assert (np.shape(a), a.dtype) == (np.shape(b), b.dtype)
            np.testing.assert_allclose(a, b, rtol=1e-2, atol=2e-3)


def test_roots(twins):
    for p in ([1, -6, 11, -6], [1, 0, 1], [0, 0, 2, -1, 0, 0], [5], [0, 0], [1, 2]):
        p = np.array(p, np.float32)
        found, expected = np.asarray(cnp.roots(p)), np.roots(p)
        assert found.dtype == np.complex64
        order = lambda z: z[np.lexsort((z.imag.round(3), z.real.round(3)))]  # noqa: E731
        np.testing.assert_allclose(order(found), order(expected + 0j), rtol=1e-3, atol=1e-3)
    plain = cv.jit(lambda p: cnp.roots(p, strip_zeros=False))(np.float32([2, -6, 4]))
    np.testing.assert_allclose(np.sort(np.asarray(plain).real), [1, 2], rtol=1e-4)
    matrix = np.float32([[2, 1], [1, 3]])
    np.testing.assert_allclose(cnp.poly(matrix).real, [1, -5, 5], rtol=1e-4)


def test_leading_zeros():
    product = cnp.polymul(np.float32([0, 0, 1]), np.float32([0, 2, 1]), trim_leading_zeros=True)
    np.testing.assert_array_equal(product, [2, 1])
    _, rest = cnp.polydiv(np.float32([1, 0, -1]), np.float32([1, 1]), trim_leading_zeros=True)
    np.testing.assert_array_equal(rest, [])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: cnp.diff(1.0), ValueError, "at least one axis"),
        (lambda: cnp.diff(X, -1), ValueError, "n must"),
        (lambda: cnp.gradient(X[:1]), ValueError, "at least 2"),
        (lambda: cnp.gradient(X, edge_order=2), NotImplementedError, "edge_order"),
        (lambda: cnp.gradient(X, X[:2]), ValueError, "spacing"),
        (lambda: cnp.interp(1.0, X, Y[:2]), ValueError, "equal numbers"),
        (lambda: cnp.interp(1.0, X, Y, left="zero"), ValueError, "extrapolate"),
        (lambda: cnp.convolve(X, X, "middle"), ValueError, "mode"),
        (lambda: cnp.convolve(X, X[:0]), ValueError, "not empty"),
        (lambda: cnp.polyadd(np.ones((2, 2)), X), ValueError, "vectors"),
        (lambda: cnp.polyder(X, -1), ValueError, "m must"),
        (lambda: cnp.polyfit(X, Y, -1), ValueError, "deg"),
        (lambda: cnp.polyfit(X, Y[:2], 1), ValueError, "value for each"),
        (lambda: cnp.polyfit(X[:3], Y[:3], 2, cov=True), ValueError, "too few"),
        (lambda: cnp.poly(np.ones((2, 3))), ValueError, "square"),
        (lambda: cnp.cumulative_sum(1.0), ValueError, "at least one axis"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()
