"""Cumulative operations against jax.lax: values, dtypes, derivatives, native code."""

from __future__ import annotations

from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from jax import lax

import covector as cv
from covector.core.avals import Aval
from covector.core.dims import symbol
from covector.core.dtypes import ARRAY_DTYPES
from covector.ops import cumulative as ops
from covector.ops.shape import slice_in_dim

DTYPES = sorted(ARRAY_DTYPES, key=str)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@pytest.fixture(autouse=True)
def x64():
    with cv.enable_x64(True), jax.enable_x64(True):
        yield


def drawn(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> Any:
    generator = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return generator.random(shape) < 0.6
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return generator.integers(info.min, info.max, shape, dtype, endpoint=True)
    if dtype.kind == "c":
        parts = generator.normal(size=(2, *shape))
        return (parts[0] + 1j * parts[1]).astype(dtype)
    return generator.normal(size=shape).astype(dtype)


TOLERANCE = {
    np.dtype(np.float16): 1e-3,
    BFLOAT16: 1e-2,
    np.dtype(np.float32): 2e-6,
    np.dtype(np.complex64): 2e-6,
}


def agree(ours: Any, theirs: Any, tolerance: float | None = None) -> None:
    expected = np.asarray(theirs)
    assert ours.dtype == expected.dtype
    assert ours.shape == expected.shape
    found = np.asarray(ours)
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(found, expected)
        return
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    rtol = TOLERANCE.get(expected.dtype, 1e-14) if tolerance is None else tolerance
    np.testing.assert_allclose(found.astype(wide), expected.astype(wide), rtol=rtol, atol=rtol)


CUMULATIVE = {
    "cumsum": lax.cumsum,
    "cumprod": lax.cumprod,
    "cummax": lax.cummax,
    "cummin": lax.cummin,
    "cumlogsumexp": lax.cumlogsumexp,
}


def accepts(name: str, dtype: Any) -> bool:
    if name == "cumlogsumexp":
        return dtype.kind == "f" or dtype == BFLOAT16
    return dtype.kind != "b" and not (dtype.kind == "c" and name in ("cummax", "cummin"))


@pytest.mark.parametrize(
    ("name", "dtype"), [(n, d) for n in CUMULATIVE for d in DTYPES if accepts(n, d)], ids=str
)
def test_values(name, dtype):
    primitive, oracle = getattr(ops, name), CUMULATIVE[name]
    # XLA accumulates half precision in half precision.
    tolerance = {np.dtype(np.float16): 1e-2, BFLOAT16: 8e-2}.get(dtype)
    edges = [((6,), 0, False), ((1, 3), 0, True), ((0, 2), 0, True), ((2, 0), 0, False)]
    for shape, axis, reverse in [((3, 4), 1, True), *(edges if dtype == np.float32 else [])]:
        x = drawn(shape, dtype)
        ours = primitive(x, axis=axis, reverse=reverse)
        agree(ours, oracle(x, axis, reverse), tolerance)


def test_cumlogsumexp_of_infinities():
    for values in ([-np.inf, -np.inf, 1], [np.inf, 0, np.inf], [800.0, 801.0, -1000.0]):
        x = np.array(values, np.float32)
        agree(ops.cumlogsumexp(x, axis=0), np.logaddexp.accumulate(x))


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16], ids=str)
def test_half_precision_accumulates_in_float32(dtype):
    last = np.asarray(ops.cumsum(np.ones(5000, dtype), axis=0))[-1]
    assert float(last) == float(np.asarray(5000, dtype))


def test_integer_sums_wrap_in_their_own_dtype():
    x = np.array([100, 100, 100], np.int8)
    agree(ops.cumsum(x, axis=0), np.array([100, -56, 44], np.int8))


def test_extrema_keep_nan():
    x = np.array([[1, np.nan, 3], [2, 5, 4], [-np.inf, 1, np.inf]], np.float32)
    agree(ops.cummax(x, axis=1), lax.cummax(x, 1))
    agree(ops.cummin(x, axis=1, reverse=True), lax.cummin(x, 1, reverse=True))


def test_errors_and_symbolic_shapes():
    with pytest.raises(TypeError, match="does not accept"):
        ops.cumsum(np.ones(2, bool), axis=0)
    with pytest.raises(ValueError, match="range"):
        ops.cumsum(np.ones(2), axis=1)
    n = symbol("n")
    assert ops.cumsum.shape(Aval((n, 3), np.dtype(np.float32)), axis=0).shape == (n, 3)


def _with_zeros(shape: tuple[int, ...]) -> Any:
    x = drawn(shape, np.float64)
    x.flat[[0, 7, 8]] = 0
    return x


OPERANDS = {
    "distinct": drawn((3, 5), np.float64),
    "zeros": _with_zeros((3, 5)),
    "ties": np.round(drawn((3, 5), np.float64)),
}


@pytest.mark.parametrize(
    ("name", "operand", "axis", "reverse"),
    [
        ("cumsum", "distinct", 0, True),
        ("cumprod", "zeros", 1, True),
        ("cummax", "ties", 1, False),
        ("cummin", "distinct", 0, False),
        ("cumlogsumexp", "ties", 1, False),
    ],
)
def test_derivatives_and_batching(name, operand, axis, reverse, against_jax):
    against_jax.everything(
        lambda x: getattr(ops, name)(x, axis=axis, reverse=reverse),
        jax.jit(lambda x: CUMULATIVE[name](x, axis, reverse)),
        [OPERANDS[operand]],
    )


@pytest.mark.parametrize("name", ["cumprod", "cumlogsumexp"])
def test_second_derivatives(name):
    """Of an operand with zeros and ties: products and log-sum-exp are smooth there."""
    x, t, ct = OPERANDS["ties"], drawn((3, 5), np.float64, 1), drawn((3, 5), np.float64, 2)

    def ours(x: Any) -> Any:
        return cv.vjp(lambda x: getattr(ops, name)(x, axis=1, reverse=False), x)[1](ct)[0]

    @jax.jit
    def theirs(x: Any) -> Any:
        return jax.vjp(lambda x: CUMULATIVE[name](x, 1), x)[1](ct)[0]

    agree(cv.jvp(ours, (x,), (t,))[1], jax.jvp(theirs, (x,), (t,))[1], 1e-10)


@pytest.mark.parametrize("name", CUMULATIVE)
@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32, np.complex64], ids=str)
def test_native_code(name, dtype):
    if not accepts(name, np.dtype(dtype)):
        return
    primitive = getattr(ops, name)
    x = drawn((3, 40), dtype)

    def several(x: Any) -> Any:
        large = [primitive(x, axis=a, reverse=r) for a, r in [(1, True), (0, False)]]
        small = slice_in_dim(x, 0, 4, 1)
        return large + [primitive(small, axis=a, reverse=r) for a, r in [(1, True), (0, False)]]

    for found, expected in zip(cv.jit(several)(x), several(x), strict=True):
        agree(found, expected, TOLERANCE.get(np.dtype(dtype), 1e-13) * 8)
