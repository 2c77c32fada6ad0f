"""Elementwise functions against NumPy (values) and JAX (types), over dtypes and shapes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp

SHAPES = [(), (3, 4), (0, 4)]

# Letters say for which dtypes: bool, int32, uint8, floats, complex.
UNARY = {
    "absolute": "biufc",
    "angle": "biufc",
    "arccos": "biufc",
    "arccosh": "biufc",
    "arcsin": "biufc",
    "arcsinh": "biufc",
    "arctan": "biufc",
    "arctanh": "biuf",
    "bitwise_count": "iu",
    "bitwise_not": "biu",
    "cbrt": "biuf",
    "ceil": "biuf",
    "conjugate": "biufc",
    "cos": "biufc",
    "cosh": "biufc",
    "deg2rad": "biuf",
    "degrees": "biuf",
    "exp": "biufc",
    "exp2": "biufc",
    "expm1": "biufc",
    "fabs": "biuf",
    "floor": "biuf",
    "frexp": "f",
    "i0": "f",
    "imag": "biufc",
    "iscomplex": "biufc",
    "isfinite": "biufc",
    "isinf": "biufc",
    "isnan": "biufc",
    "isneginf": "biuf",
    "isposinf": "biuf",
    "isreal": "biufc",
    "log": "biufc",
    "log10": "biufc",
    "log1p": "biufc",
    "log2": "biufc",
    "logical_not": "biufc",
    "modf": "f",
    "nan_to_num": "biufc",
    "negative": "iufc",
    "positive": "iufc",
    "rad2deg": "biuf",
    "radians": "biuf",
    "real": "biufc",
    "reciprocal": "fc",
    "rint": "biufc",
    "round": "iufc",
    "sign": "iuf",
    "signbit": "biuf",
    "sin": "biufc",
    "sinc": "biufc",
    "sinh": "biufc",
    "sqrt": "biufc",
    "square": "biufc",
    "tan": "biufc",
    "tanh": "biufc",
    "trunc": "biuf",
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", UNARY)
def test_unary(name, dtype, shape, twins):
    if dtype.kind not in UNARY[name]:
        pytest.skip("not defined")
    if name == "angle" and dtype == np.float16 and shape == ():
        pytest.skip("JAX makes float32 of such scalars only")
    x = twins.sample(dtype, shape)
    if shape and x.size and dtype.kind == "f":
        x[0, :3] = [np.inf, -np.inf, np.nan]
    # The largest number of the dtype, not of the wider one, replaces infinity.
    values = "jax" if name == "nan_to_num" else "numpy"
    twins.agree(lambda m, x: getattr(m, name)(x), x, values=values)


BINARY = {
    "add": "biufc",
    "arctan2": "biuf",
    "bitwise_and": "biu",
    "bitwise_or": "biu",
    "bitwise_xor": "biu",
    "copysign": "biuf",
    "equal": "biufc",
    "float_power": "f",
    "fmax": "biuf",
    "fmin": "biuf",
    "fmod": "f",
    "gcd": "iu",
    "greater": "biufc",
    "greater_equal": "biufc",
    "heaviside": "biuf",
    "hypot": "biuf",
    "isclose": "biufc",
    "lcm": "iu",
    "less": "biufc",
    "less_equal": "biufc",
    "logaddexp": "biuf",
    "logaddexp2": "biuf",
    "logical_and": "biufc",
    "logical_or": "biufc",
    "logical_xor": "biufc",
    "maximum": "biuf",
    "minimum": "biuf",
    "multiply": "biufc",
    "not_equal": "biufc",
    "subtract": "iufc",
    "true_divide": "biufc",
}


@pytest.mark.parametrize("name", BINARY)
def test_binary(name, dtype, twins):
    if dtype.kind not in BINARY[name]:
        pytest.skip("not defined")
    x, y = twins.sample(dtype), twins.sample(dtype, (4,), seed=1)
    fn = lambda m, x, y: getattr(m, name)(x, y)  # noqa: E731
    twins.agree(fn, x, y)
    twins.agree(fn, x, y[0])
    twins.agree(fn, x[:0], y)


@pytest.mark.parametrize("other", [np.int32, np.float32, np.complex64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", ["add", "multiply", "true_divide", "equal"])
def test_mixed_dtypes(name, dtype, other, twins):
    x, y = twins.sample(dtype), twins.sample(other, seed=1)
    twins.agree(lambda m, x, y: getattr(m, name)(x, y), x, y)


@pytest.mark.parametrize("scalar", [3, -2, 2.5, True, 1j], ids=str)
@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "power", "true_divide", "less"])
def test_python_numbers(name, dtype, scalar, twins):
    if name in ("maximum", "less") and isinstance(scalar, complex):
        pytest.skip("complex numbers are compared otherwise in NumPy")
    if scalar == -2 and dtype.kind in "biu":
        pytest.skip("out of range")
    x = twins.sample(dtype) + (1 if dtype.kind in "fc" else 0)
    x = np.asarray(np.abs(x) if name == "power" else x, dtype)
    twins.agree(lambda m, x: getattr(m, name)(x, scalar), x, values="jax", rtol=5e-3)
    if name != "power":
        twins.agree(lambda m, x: getattr(m, name)(scalar, x), x, values="jax", rtol=5e-3)


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.float32, np.float16, np.int8])
@pytest.mark.parametrize("name", ["floor_divide", "remainder", "divmod", "fmod"])
def test_division_with_remainder(name, kind, twins):
    x, y = twins.sample(kind, (40,)), twins.sample(kind, (40,), seed=1)
    info = np.finfo(kind) if np.dtype(kind).kind == "f" else np.iinfo(kind)
    x[:4], y[:4] = [info.min, info.max, 5, 0], [-1 if np.dtype(kind).kind != "u" else 1, 1, 0, 0]
    twins.agree(lambda m, x, y: getattr(m, name)(x, y), x, y, values="jax")


@pytest.mark.parametrize("kind", [np.int32, np.uint8])
def test_shifts(kind, twins):
    x, y = twins.sample(kind, (20,)) * 9, np.arange(20).astype(kind)
    for name in ("left_shift", "right_shift"):
        twins.agree(lambda m, x, y, name=name: getattr(m, name)(x, y), x, y, values="jax")


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, -3, 0.5, 2.0, 7])
def test_powers(exponent, dtype, twins):
    if dtype.kind in "biu" and exponent < 0:
        with pytest.raises(TypeError, match="negative"):
            cnp.power(twins.sample(dtype), exponent)
        return
    x = np.asarray(np.abs(twins.sample(dtype)) + 1, dtype)
    twins.agree(lambda m, x: m.power(x, exponent), x, values="jax")


def test_powers_of_integers(twins):
    x, y = twins.sample(np.int32, (30,)), np.abs(twins.sample(np.int32, (30,), seed=1))
    twins.agree(lambda m, x, y: m.power(x, y), x, y)
    twins.agree(lambda m, x: m.power(x, 13), x)
    twins.agree(lambda m, y: m.power(2, y), y)
    twins.agree(lambda m, y: m.power(np.float32(1.5), y), y)
    base, exponent = np.int32([0, 1, -1, 2, -2, 7]), np.int32([-1, -2, -3, -1, 0, 100])
    for b in base:
        bases = np.full(6, b)
        twins.agree(lambda m, x, y: m.power(x, y), bases, exponent, values="jax")
    large = np.uint32([1, 2, 3, 70, 200, 2**31])
    for b in (1, 2, 6):
        bases = np.full(6, b, np.uint32)
        twins.agree(lambda m, x, y: m.power(x, y), bases, large, values="jax")


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_ldexp_and_frexp(scale, twins):
    x = (twins.sample(np.float32, (50,)) * scale).astype(np.float32)
    e = np.arange(-25, 25).astype(np.int32)
    twins.agree(lambda m, x: m.frexp(x), x)
    for exponents in (e, np.array([300, -300, 200, -149, 149] * 10, np.int32)):
        with np.errstate(over="ignore", under="ignore"):
            expected = np.ldexp(x, exponents)
        found = cnp.ldexp(x, exponents)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


def test_parts_of_subnormal_numbers():
    x = np.array([1e-40, -3e-45, 0.0, -0.0], np.float32)
    mantissa, exponent = cnp.frexp(x)
    expected = np.frexp(x)
    np.testing.assert_array_equal(mantissa, expected[0])
    np.testing.assert_array_equal(exponent, expected[1])
    np.testing.assert_array_equal(cnp.spacing(x[:2]), np.spacing(x[:2]))


def test_neighbours(twins):
    x = twins.sample(np.float32, (20,))
    twins.agree(lambda m, x: m.nextafter(x, np.float32(0)), x, reference=_exact_nextafter)
    np.testing.assert_array_equal(cnp.spacing(x), np.spacing(x))


def _exact_nextafter(m, x):
    return np.nextafter(x.astype(np.float32), np.float32(0))


@pytest.mark.parametrize("decimals", [0, 1, 2, -1])
def test_round(decimals, dtype, twins):
    if dtype.kind in "biu" and decimals < 0:
        pytest.skip("not supported, as in JAX")
    if dtype.kind == "b":
        pytest.skip("JAX fails")
    x = np.asarray(twins.sample(dtype) * 12, dtype)
    twins.agree(lambda m, x: m.round(x, decimals), x, values="jax")


def test_round_to_tens_of_integers_is_refused():
    with pytest.raises(NotImplementedError, match="negative decimals"):
        cnp.round(np.array([15]), -1)


@pytest.mark.parametrize("bounds", [(1, 2), (None, 1), (-1, None), (2, 1)], ids=str)
def test_clip(bounds, dtype, twins):
    if dtype.kind == "c":
        with pytest.raises(ValueError, match="complex"):
            cnp.clip(twins.sample(dtype), *bounds)
        return
    if dtype.kind in "bu" and bounds[0] == -1:
        pytest.skip("out of range")
    twins.agree(lambda m, x: m.clip(x, *bounds), twins.sample(dtype), values="jax")
    twins.agree(lambda m, x: m.clip(x, min=bounds[0]), twins.sample(dtype), values="jax")


def test_where(dtype, twins):
    condition = twins.sample(np.bool_, (4,))
    x, y = twins.sample(dtype), twins.sample(dtype, (3, 1), seed=1)
    twins.agree(lambda m, c, x, y: m.where(c, x, y), condition, x, y)
    twins.agree(lambda m, c, x: m.where(c, x, 0), condition, x)
    twins.agree(lambda m, c, x: m.where(c, 1.5, x), condition, x, values="jax")
    twins.agree(lambda m, c, x, y: m.where(c, x, y), np.int32([0, 1, 2, 0]), x, y)


@pytest.mark.parametrize("method", ["nan", "posinf", "neginf"])
def test_nan_to_num_by_hand(method, twins):
    x = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    twins.agree(lambda m, x: m.nan_to_num(x, **{method: 7.5}), x, values="jax")


def test_closeness(twins):
    x = np.array([1, 1 + 1e-6, np.nan, np.inf, -np.inf, 0], np.float32)
    y = np.array([1, 1, np.nan, np.inf, np.inf, 1e-9], np.float32)
    for options in ({}, {"equal_nan": True}, {"rtol": 0, "atol": 0}, {"atol": 1}):
        twins.agree(lambda m, x, y, o=options: m.isclose(x, y, **o), x, y)
        twins.agree(lambda m, x, y, o=options: m.allclose(x, y, **o), x, y)
        equal = {k: v for k, v in options.items() if k == "equal_nan"}
        twins.agree(lambda m, x, y, o=equal: m.array_equal(x, y, **o), x, y)
    twins.agree(lambda m, x: m.array_equal(x, x[:3]), x)
    twins.agree(lambda m, x: m.array_equiv(x, m.stack([x, x])), x[:2])
    assert not cnp.array_equiv(x, x[:4])


SMOOTH = ["sin", "cos", "tan", "exp", "log", "sqrt", "tanh", "arctan", "sinc", "square"]
SMOOTH += ["reciprocal", "absolute", "i0", "arcsinh", "log1p", "expm1", "cbrt", "logistic"]


@pytest.mark.parametrize("name", [n for n in SMOOTH if n != "logistic"])
def test_derivatives(name):
    x = np.array([0.3, 0.9, 1.7], np.float32)
    ours = cv.grad(lambda x: getattr(cnp, name)(x).sum())(x)
    theirs = jax.grad(lambda x: getattr(jnp, name)(x).sum())(x)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_derivatives_of_sinc_at_zero():
    first = cv.grad(cnp.sinc)
    assert float(first(0.0)) == 0
    second = float(cv.grad(first)(0.0))
    np.testing.assert_allclose(second, -(np.pi**2) / 3, rtol=1e-6)


@pytest.mark.parametrize("name", ["hypot", "maximum", "minimum", "logaddexp", "arctan2", "fmax"])
def test_derivatives_of_two(name):
    x, y = np.float32([0.3, 1.0, 2.0]), np.float32([1.2, 0.4, 2.0])
    for k in (0, 1):
        ours = cv.grad(lambda x, y: getattr(cnp, name)(x, y).sum(), k)(x, y)
        theirs = jax.grad(lambda x, y: getattr(jnp, name)(x, y).sum(), k)(x, y)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: cnp.sin([1.0, 2.0]), TypeError, "asarray"),
        (lambda: cnp.add(np.ones(3), np.ones(4)), ValueError, "broadcast"),
        (lambda: cnp.bitwise_and(np.ones(3), np.ones(3)), TypeError, "float32|f32"),
        (lambda: cnp.ldexp(1.0, 2.5), ValueError, "integer"),
        (lambda: cnp.gcd(1.5, 2), ValueError, "integers"),
        (lambda: cnp.fmod(np.complex64(1), 2), TypeError, "complex"),
        (lambda: cnp.remainder(np.complex64(1), 2), TypeError, "complex"),
        (lambda: cnp.hypot(np.complex64(1), 2), ValueError, "complex"),
        (lambda: cnp.where(True, 1), ValueError, "condition"),
    ],
)
def test_errors(call: Any, error: Any, text: str):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("x", [-np.inf, 0.0, np.inf])
@pytest.mark.parametrize("y", [-np.inf, 0.0])
def test_the_derivative_of_logaddexp_is_finite_at_infinities(x: float, y: float) -> None:
    first, second = cv.grad(cnp.logaddexp, (0, 1))(np.float32(x), np.float32(y))
    if x != y:
        assert (float(first), float(second)) == (float(x > y), float(y > x))
    assert float(first) + float(second) == 1.0
    assert float(cv.grad(cv.grad(cnp.logaddexp))(np.float32(x), np.float32(y))) in (0.0, 0.25)
