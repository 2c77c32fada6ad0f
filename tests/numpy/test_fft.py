"""`covector.numpy.fft` against NumPy for values and JAX for types."""

from __future__ import annotations

import doctest
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp

ONE = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
TWO = ("fft2", "ifft2", "rfft2", "irfft2")
SEVERAL = ("fftn", "ifftn", "rfftn", "irfftn")
NORMS = (None, "backward", "ortho", "forward")


def allowed(name, dtype):
    return dtype.kind != "c" or (name[0] != "r" and name != "ihfft")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ONE)
def test_one_axis(name, norm, dtype, twins):
    if not allowed(name, dtype) or (dtype == np.float16 and name in ("rfft", "ihfft")):
        pytest.skip("takes no such numbers")
    x = twins.sample(dtype, (3, 5))
    for options in ({}, {"n": 3}, {"n": 8}, {"axis": 0}, {"axis": -2, "n": 4}):
        twins.agree(
            lambda m, x, o=options: getattr(m.fft, name)(x, **o, norm=norm),
            x,
            reference=lambda m, x, o=options: getattr(m.fft, name)(x, **o, norm=norm),
            rtol=1e-4,
        )


@pytest.mark.parametrize("name", TWO)
def test_two_axes(name, dtype, twins):
    if not allowed(name, dtype) or (dtype == np.float16 and name == "rfft2"):
        pytest.skip("takes no such numbers")
    x = twins.sample(dtype, (2, 4, 5))
    for options in ({}, {"s": (3, 6)}, {"axes": (1, 0)}, {"s": (3, 3), "axes": (0, 2)}):
        fn = lambda m, x, o=options: getattr(m.fft, name)(x, **o, norm="ortho")  # noqa: E731
        twins.agree(fn, x, rtol=1e-4)


@pytest.mark.parametrize("name", SEVERAL)
def test_several_axes(name, twins):
    x = twins.sample(np.float32, (2, 3, 2, 3, 4))
    for options in (
        {},
        {"axes": (1,)},
        {"axes": (4, 0)},
        {"axes": (3, 1, 2, 0)},
        {"axes": (2, 0), "s": (3, 5), "norm": "forward"},
    ):
        twins.agree(lambda m, x, o=options: getattr(m.fft, name)(x, **o), x, rtol=1e-4)
    # NumPy wants axes along with sizes.
    found = getattr(cnp.fft, name)(x, s=(3, 5))
    wanted = getattr(np.fft, name)(x, s=(3, 5), axes=(-2, -1))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_no_axes():
    x = np.arange(4.0, dtype=np.float32).reshape(2, 2)
    assert cnp.fft.fftn(x, axes=()).dtype == np.complex64
    assert cnp.fft.rfftn(x, axes=()).dtype == np.float32
    np.testing.assert_array_equal(cnp.fft.irfftn(x, axes=()), x)
    assert cnp.fft.fftn(np.float32(3)) == 3


@pytest.mark.parametrize("norm", NORMS)
def test_inverses(norm):
    with cv.enable_x64(True):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(3, 6, 5))
        f = cnp.fft
        for there, back in ((f.fft, f.ifft), (f.fft2, f.ifft2), (f.fftn, f.ifftn)):
            np.testing.assert_allclose(back(there(x, norm=norm), norm=norm), x, atol=1e-13)
        for there, back in ((f.rfft, f.irfft), (f.ihfft, f.hfft)):
            np.testing.assert_allclose(back(there(x, norm=norm), 5, norm=norm), x, atol=1e-13)
        for there, back in ((f.rfft2, f.irfft2), (f.rfftn, f.irfftn)):
            s = x.shape[-2:] if there is f.rfft2 else x.shape
            np.testing.assert_allclose(back(there(x, norm=norm), s, norm=norm), x, atol=1e-13)


@pytest.mark.parametrize("n", [1, 4, 7])
@pytest.mark.parametrize("name", ["fftfreq", "rfftfreq"])
def test_frequencies(name, n, twins):
    for options in ({}, {"d": 0.25}, {"d": np.float32(2)}):
        twins.agree(lambda m, o=options: getattr(m.fft, name)(n, **o))
    for dtype in (np.float16, np.int32):
        ours, theirs = (getattr(m.fft, name)(n, dtype=dtype) for m in (cnp, jnp))
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert cnp.fft.fftfreq(0).shape == (0,)


@pytest.mark.parametrize("axes", [None, 0, -1, (0, 1), ()], ids=str)
def test_shifts(axes, dtype, twins):
    x = twins.sample(dtype, (4, 5))
    twins.agree(lambda m, x: m.fft.fftshift(x, axes), x)
    twins.agree(lambda m, x: m.fft.ifftshift(x, axes), x)
    np.testing.assert_array_equal(cnp.fft.ifftshift(cnp.fft.fftshift(x, axes), axes), x)


def test_convolution_theorem_and_its_gradient():
    with cv.enable_x64(True), jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(2, 9))

        def through(m, x, y):
            product = m.fft.rfft(x, 17) * m.fft.rfft(y, 17)
            return (m.fft.irfft(product, 17) ** 3).sum()

        def directly(x, y):
            return (cnp.convolve(x, y) ** 3).sum()

        wanted = cv.grad(directly, (0, 1))(x, y)
        for gradient in (
            cv.grad(lambda *a: through(cnp, *a), (0, 1)),
            cv.jit(cv.grad(lambda *a: through(cnp, *a), (0, 1))),
        ):
            for ours, other in zip(gradient(x, y), wanted, strict=True):
                np.testing.assert_allclose(ours, other, rtol=1e-10, atol=1e-11)
        hessian = cv.hessian(lambda x: through(cnp, x, y))(x)
        np.testing.assert_allclose(hessian, cv.hessian(directly)(x, y), rtol=1e-9, atol=1e-9)


def test_vmap_along_any_axis():
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    for axis in (0, 1, 2):
        wanted = np.stack([np.fft.fft2(part) for part in np.moveaxis(x, axis, 0)])
        for mapped in (cv.vmap(cnp.fft.fft2, axis), cv.jit(cv.vmap(cnp.fft.fft2, axis))):
            np.testing.assert_allclose(mapped(x), wanted, rtol=1e-4, atol=1e-4)


x3, x33 = np.ones(3, np.float32), np.ones((3, 3), np.float32)
BAD = [
    (lambda f: f.fft([1.0, 2.0]), TypeError, "arrays"),
    (lambda f: f.fft(np.float32(1)), ValueError, "axis"),
    (lambda f: f.fft(x3, 0), ValueError, "positive"),
    (lambda f: f.fft(x3, 2.5), TypeError, "integer"),
    (lambda f: f.fft(x3, axis=1), ValueError, "out of range"),
    (lambda f: f.fft(x3, axis=(0,)), ValueError, "one axis"),
    (lambda f: f.hfft(x3, axis=(0,)), ValueError, "one axis"),
    (lambda f: f.fft(x3, norm="x"), ValueError, "norm"),
    (lambda f: f.rfft(x3 + 1j), ValueError, "real"),
    (lambda f: f.rfft(np.zeros(0, np.float32)), ValueError, "at least one"),
    (lambda f: f.fft2(x3), ValueError, "out of range"),
    (lambda f: f.fft2(x33, axes=(0,)), ValueError, "2 axes"),
    (lambda f: f.fft2(x33, axes=(0, 0)), ValueError, "repeated"),
    (lambda f: f.fftn(x33, s=(2,), axes=(0, 1)), ValueError, "different lengths"),
    (lambda f: f.fftn(x33, s=(2, 2, 2)), ValueError, "3 sizes"),
    (lambda f: f.fftfreq([4]), ValueError, "integer"),
    (lambda f: f.rfftfreq(4, [1.0]), ValueError, "number"),
    (lambda f: f.fftshift(x3, 1), ValueError, "out of range"),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call(cnp.fft)


@pytest.mark.parametrize("name", ["numpy.fft", "lax.fourier"])
def test_examples(name):
    result = doctest.testmod(importlib.import_module(f"covector.{name}"))
    assert result.failed == 0
    assert result.attempted > 0
