"""Reductions against jax.lax: values, dtypes, edges, errors."""

from __future__ import annotations

from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from jax import lax

import covector as cv
from covector.core.avals import Aval
from covector.core.config import config
from covector.core.dims import symbol
from covector.core.dtypes import ARRAY_DTYPES
from covector.ops import reduce as reductions

DTYPES = sorted(ARRAY_DTYPES, key=str)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
HALVES = (np.dtype(np.float16), BFLOAT16)


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


ORACLES = {
    "reduce_sum": lax.reduce_sum,
    "reduce_prod": lax.reduce_prod,
    "reduce_max": lax.reduce_max,
    "reduce_min": lax.reduce_min,
    "reduce_and": lax.reduce_and,
    "reduce_or": lax.reduce_or,
    "reduce_xor": lax.reduce_xor,
}
BITWISE = ("reduce_and", "reduce_or", "reduce_xor")


SHAPES = [
    ((0, 3), (0,)),
    ((2, 3, 4), (0, 2)),
    ((0, 3), (1,)),
    ((), ()),
    ((7,), (0,)),
    ((2, 3, 4), (1,)),
    ((2, 3, 4), ()),
    ((2, 3, 4), (0, 1, 2)),
]


def accepts(name: str, dtype: Any) -> bool:
    if name in BITWISE:
        return dtype.kind in "biu"
    return dtype.kind != "b" or name in ("reduce_max", "reduce_min")


@pytest.mark.parametrize(
    ("name", "dtype"), [(n, d) for n in ORACLES for d in DTYPES if accepts(n, d)], ids=str
)
def test_reductions(name, dtype):
    primitive, oracle = getattr(reductions, name), ORACLES[name]
    for shape, axes in SHAPES if dtype in (np.float32, np.int32) else SHAPES[:2]:
        x = drawn(shape, dtype)
        agree(primitive(x, axes=axes), oracle(x, axes))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_accumulates_in_float32(dtype):
    ones = np.ones(5000, dtype)
    found = float(reductions.reduce_sum(ones, axes=(0,)))
    assert found == float(np.asarray(5000, dtype))


def test_integer_sums_wrap_in_their_own_dtype():
    x = np.array([100, 100, 100], np.int8)
    agree(reductions.reduce_sum(x, axes=(0,)), np.int8(44))


@pytest.mark.parametrize("dtype", [*HALVES, np.dtype(np.float32)], ids=str)
def test_extrema_and_nan(dtype):
    x = np.array([[1, np.nan, 3], [2, 5, 4], [-np.inf, 1, np.inf]], dtype)
    for name in ("reduce_max", "reduce_min"):
        agree(getattr(reductions, name)(x, axes=(1,)), ORACLES[name](x, (1,)))
    for name in ("argmax", "argmin"):
        ours = getattr(reductions, name)(x, axes=(1,), index_dtype=np.dtype(np.int32))
        agree(ours, getattr(lax, name)(x, 1, np.int32))


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind != "c"], ids=str)
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_arg_extrema(name, dtype):
    primitive, oracle = getattr(reductions, name), getattr(lax, name)
    x = drawn((4, 5), dtype)
    x[2, 3] = x[1, 3]
    for axis, index_dtype in [(0, np.int64), (1, np.uint8)]:
        ours = primitive(x, axes=(axis,), index_dtype=np.dtype(index_dtype))
        agree(ours, oracle(x, axis, index_dtype))


def test_arg_extrema_take_the_first_of_equals():
    x = np.array([1, 3, 3, np.nan, np.nan], np.float32)
    index = {"axes": (0,), "index_dtype": np.dtype(np.int32)}
    assert int(reductions.argmax(x[:3], **index)) == 1
    assert int(reductions.argmax(x, **index)) == 3
    assert int(reductions.argmin(x, **index)) == 3
    assert int(reductions.argmin(x[1:3], **index)) == 0


BAD = [
    (reductions.reduce_sum, (2,), bool, {"axes": (0,)}, "does not accept"),
    (reductions.reduce_and, (2,), np.float32, {"axes": (0,)}, "does not accept"),
    (reductions.reduce_sum, (2,), np.float32, {"axes": (1,)}, "range"),
    (reductions.reduce_sum, (2,), np.float32, {"axes": (0, 0)}, "distinct"),
    (
        reductions.argmax,
        (0, 2),
        np.float32,
        {"axes": (0,), "index_dtype": np.dtype(np.int32)},
        "no elements",
    ),
    (
        reductions.argmax,
        (2,),
        np.float32,
        {"axes": (0,), "index_dtype": np.dtype(np.float32)},
        "integer",
    ),
    (
        reductions.argmax,
        (2, 2),
        np.float32,
        {"axes": (0, 1), "index_dtype": np.dtype(np.int32)},
        "one axis",
    ),
]


@pytest.mark.parametrize(("primitive", "shape", "dtype", "params", "match"), BAD)
def test_errors(primitive, shape, dtype, params, match):
    with pytest.raises((TypeError, ValueError), match=match):
        primitive(np.ones(shape, dtype), **params)


def test_symbolic_shapes():
    n = symbol("n")
    x = Aval((n, 3), np.dtype(np.float32))
    assert reductions.reduce_sum.shape(x, axes=(1,)).shape == (n,)
    assert reductions.reduce_max.shape(x, axes=(0,)).shape == (3,)
    index = reductions.argmax.shape(x, axes=(0,), index_dtype=np.dtype(np.int32))
    assert index.shape == (3,)


# --- derivatives and batching ---------------------------------------------------------------------


def _with_zeros(shape: tuple[int, ...]) -> Any:
    x = drawn(shape, np.float64)
    x.flat[[0, 7, 8]] = 0
    return x


OPERANDS = {
    "distinct": drawn((3, 4, 5), np.float64),
    "zeros": _with_zeros((3, 4, 5)),
    "ties": np.round(drawn((3, 4, 5), np.float64)),
}


@pytest.mark.parametrize(
    ("name", "operand", "axes"),
    [
        ("reduce_sum", "distinct", (1,)),
        ("reduce_prod", "zeros", (2, 1)),
        ("reduce_max", "ties", (0, 2)),
        ("reduce_min", "distinct", (1, 2)),
        ("reduce_min", "ties", (2,)),
    ],
)
def test_derivatives_and_batching(name, operand, axes, against_jax):
    against_jax.everything(
        lambda x: getattr(reductions, name)(x, axes=axes),
        jax.jit(lambda x: ORACLES[name](x, axes)),
        [OPERANDS[operand]],
    )


def test_second_derivative_of_products():
    x, t, ct = [drawn(shape, np.float64, k) for k, shape in enumerate([(3, 4, 5)] * 2 + [(4,)])]
    x[0, 1, 2] = x[1, 1, 0] = 0

    def ours(x: Any) -> Any:
        return cv.vjp(lambda x: reductions.reduce_prod(x, axes=(0, 2)), x)[1](ct)[0]

    @jax.jit
    def theirs(x: Any) -> Any:
        return jax.vjp(lambda x: lax.reduce_prod(x, (0, 2)), x)[1](ct)[0]

    agree(cv.jvp(ours, (x,), (t,))[1], jax.jvp(theirs, (x,), (t,))[1], 1e-10)


@pytest.mark.parametrize("name", BITWISE)
def test_batching_of_bitwise_reductions(name, against_jax):
    primitive = getattr(reductions, name)
    x = drawn((3, 4), np.int32)
    against_jax.vmap(lambda x: primitive(x, axes=(0,)), lambda x: ORACLES[name](x, (0,)), [x])


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_batching_of_arg_extrema(name, against_jax):
    x, index = drawn((3, 4), np.int32), np.dtype(np.int32)
    against_jax.vmap(
        lambda x: getattr(reductions, name)(x, axes=(1,), index_dtype=index),
        lambda x: getattr(lax, name)(x, 1, index),
        [x],
    )


# --- native code ----------------------------------------------------------------------------------

NATIVE = [
    np.dtype(name)
    for name in ("bool", "int8", "uint32", "float16", "bfloat16", "float32", "float64", "complex64")
]


@pytest.mark.parametrize(
    ("name", "dtype"), [(n, d) for n in ORACLES for d in NATIVE if accepts(n, d)], ids=str
)
def test_native_reductions(name, dtype):
    primitive = getattr(reductions, name)
    x = drawn((3, 40), dtype)

    def several(x: Any) -> Any:
        return [primitive(x, axes=axes) for axes in [(1,), (0,), (0, 1), ()]]

    for found, expected in zip(cv.jit(several)(x), several(x), strict=True):
        agree(found, expected, TOLERANCE.get(dtype, 1e-13) * 4)


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.float16, np.float32], ids=str)
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_native_arg_extrema(name, dtype):
    x = drawn((4, 40), dtype)
    x[2, 3] = x[1, 3]
    if np.dtype(dtype).kind == "f":
        x[0, [7, 9]] = np.nan

    def both(x: Any) -> Any:
        index = np.dtype(np.int32)
        return [getattr(reductions, name)(x, axes=(a,), index_dtype=index) for a in (0, 1)]

    for found, expected in zip(cv.jit(both)(x), both(x), strict=True):
        agree(found, expected)


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32], ids=str)
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_the_place_of_an_extremum_along_a_long_axis(name, dtype):
    """One block is searched: the first that has the extremum, were it the last, which overlaps."""
    n = 5 * 4096 - 100
    x = np.random.default_rng(0).integers(-40, 40, (6, n)).astype(dtype)
    best = 50 if name == "argmax" else -50
    x[0, [4095, 4096]] = x[1, [n - 1]] = x[2, [4 * 4096 - 1, 4 * 4096, n - 2]] = best
    x[3, [n - 4096, n - 4000]] = x[4, 0] = best
    if np.dtype(dtype).kind == "f":
        x[5, [8192, 9000]] = np.nan
        x[4, n - 1] = np.nan

    def along(x: Any) -> Any:
        index, rows = np.dtype(np.int32), getattr(reductions, name)
        return rows(x, axes=(1,), index_dtype=index), rows(x.T, axes=(0,), index_dtype=index)

    for disabled in ((), ("arg_blocks",), ("threads",)):
        with config.override("disable", frozenset(disabled)):
            for found in cv.jit(lambda x: along(x))(x):
                np.testing.assert_array_equal(np.asarray(found), getattr(np, name)(x, axis=1))
