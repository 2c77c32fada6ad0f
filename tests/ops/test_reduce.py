"""Reductions and cumulative operations against jax.lax: values, dtypes, edges, errors."""

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
from covector.ops import cumulative as cumulatives
from covector.ops import reduce as reductions
from covector.ops.shape import slice_in_dim

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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ORACLES)
def test_reductions(name, dtype):
    if not accepts(name, dtype):
        pytest.skip("not defined on this dtype")
    primitive, oracle = getattr(reductions, name), ORACLES[name]
    for shape, axes in SHAPES if dtype in (np.float32, np.int32) else SHAPES[:2]:
        x = drawn(shape, dtype)
        agree(primitive(x, axes=axes), oracle(x, axes))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_accumulates_in_float32(dtype):
    ones = np.ones(5000, dtype)
    found = float(reductions.reduce_sum(ones, axes=(0,)))
    assert found == float(np.asarray(5000, dtype))
    last = np.asarray(cumulatives.cumsum(ones, axis=0))[-1]
    assert float(last) == float(np.asarray(5000, dtype))


def test_integer_sums_wrap_in_their_own_dtype():
    x = np.array([100, 100, 100], np.int8)
    agree(reductions.reduce_sum(x, axes=(0,)), np.int8(44))
    agree(cumulatives.cumsum(x, axis=0), np.array([100, -56, 44], np.int8))


@pytest.mark.parametrize("dtype", [*HALVES, np.dtype(np.float32)], ids=str)
def test_extrema_and_nan(dtype):
    x = np.array([[1, np.nan, 3], [2, 5, 4], [-np.inf, 1, np.inf]], dtype)
    for name in ("reduce_max", "reduce_min"):
        agree(getattr(reductions, name)(x, axes=(1,)), ORACLES[name](x, (1,)))
    for name in ("argmax", "argmin"):
        ours = getattr(reductions, name)(x, axes=(1,), index_dtype=np.dtype(np.int32))
        agree(ours, getattr(lax, name)(x, 1, np.int32))
    agree(cumulatives.cummax(x, axis=1), lax.cummax(x, 1))
    agree(cumulatives.cummin(x, axis=1), lax.cummin(x, 1))


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


CUMULATIVE = {
    "cumsum": lax.cumsum,
    "cumprod": lax.cumprod,
    "cummax": lax.cummax,
    "cummin": lax.cummin,
    "cumlogsumexp": lax.cumlogsumexp,
}


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind != "b"], ids=str)
@pytest.mark.parametrize("name", CUMULATIVE)
def test_cumulative(name, dtype):
    floating = dtype.kind == "f" or dtype == BFLOAT16
    if name == "cumlogsumexp" and not floating:
        pytest.skip("not defined on this dtype")
    if name in ("cummax", "cummin") and dtype.kind == "c":
        pytest.skip("not defined on this dtype")
    primitive, oracle = getattr(cumulatives, name), CUMULATIVE[name]
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
        agree(cumulatives.cumlogsumexp(x, axis=0), np.logaddexp.accumulate(x))


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
    (cumulatives.cumsum, (2,), bool, {"axis": 0}, "does not accept"),
    (cumulatives.cumsum, (2,), np.float32, {"axis": 1}, "range"),
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
    assert cumulatives.cumsum.shape(x, axis=0).shape == (n, 3)


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


@pytest.mark.parametrize("operand", OPERANDS)
@pytest.mark.parametrize("name", ["reduce_sum", "reduce_prod", "reduce_max", "reduce_min"])
def test_derivatives_of_reductions(name, operand, against_jax):
    for axes in [(1,), (0, 2)] if operand == "distinct" else [(2, 1)]:
        against_jax.everything(
            lambda x, axes=axes: getattr(reductions, name)(x, axes=axes),
            lambda x, axes=axes: ORACLES[name](x, axes),
            [OPERANDS[operand]],
        )


@pytest.mark.parametrize("operand", OPERANDS)
@pytest.mark.parametrize("name", CUMULATIVE)
def test_derivatives_of_cumulative_operations(name, operand, against_jax):
    for axis, reverse in [(2, False), (1, True)] if operand == "distinct" else [(2, True)]:
        against_jax.everything(
            lambda x, a=axis, r=reverse: getattr(cumulatives, name)(x, axis=a, reverse=r),
            lambda x, a=axis, r=reverse: CUMULATIVE[name](x, a, r),
            [OPERANDS[operand]],
        )


@pytest.mark.parametrize("name", ["reduce_prod", "cumprod", "cumlogsumexp"])
def test_second_derivatives(name):
    """Of the operand with ties: products and log-sum-exp are smooth there."""
    x, t, ct = OPERANDS["ties"], drawn((3, 4, 5), np.float64, 1), drawn((3, 4, 5), np.float64, 2)
    if name == "reduce_prod":
        ct = ct[0, :, 0]
        ours = lambda x: reductions.reduce_prod(x, axes=(0, 2))
        theirs = lambda x: lax.reduce_prod(x, (0, 2))
    else:
        ours = lambda x: getattr(cumulatives, name)(x, axis=2, reverse=False)
        theirs = lambda x: CUMULATIVE[name](x, 2)
    found = cv.jvp(lambda x: cv.vjp(ours, x)[1](ct)[0], (x,), (t,))[1]
    expected = jax.jvp(lambda x: jax.vjp(theirs, x)[1](ct)[0], (x,), (t,))[1]
    agree(found, expected, 1e-10)


@pytest.mark.parametrize("name", [*BITWISE, "argmax", "argmin"])
def test_batching_of_operations_without_derivative(name, against_jax):
    x = drawn((3, 4), np.int32)
    if name in BITWISE:
        ours = lambda x: getattr(reductions, name)(x, axes=(0,))
        against_jax.vmap(ours, lambda x: ORACLES[name](x, (0,)), [x])
    else:
        index = {"axes": (1,), "index_dtype": np.dtype(np.int32)}
        ours = lambda x: getattr(reductions, name)(x, **index)
        against_jax.vmap(ours, lambda x: getattr(lax, name)(x, 1, np.int32), [x])


# --- native code ----------------------------------------------------------------------------------

NATIVE = (np.bool_, np.int8, np.uint32, np.float16, BFLOAT16, np.float32, np.float64, np.complex64)


@pytest.mark.parametrize("dtype", NATIVE, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("name", ORACLES)
def test_native_reductions(name, dtype):
    dtype = np.dtype(dtype)
    if not accepts(name, dtype):
        pytest.skip("not defined on this dtype")
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


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32, np.complex64], ids=str)
@pytest.mark.parametrize("name", CUMULATIVE)
def test_native_cumulative_operations(name, dtype):
    kind = np.dtype(dtype).kind
    if (name == "cumlogsumexp" and kind != "f") or (name in ("cummax", "cummin") and kind == "c"):
        pytest.skip("not defined on this dtype")
    primitive = getattr(cumulatives, name)
    x = drawn((3, 40), dtype)

    def several(x: Any) -> Any:
        large = [primitive(x, axis=a, reverse=r) for a, r in [(1, True), (0, False)]]
        small = slice_in_dim(x, 0, 4, 1)
        return large + [primitive(small, axis=a, reverse=r) for a, r in [(1, True), (0, False)]]

    for found, expected in zip(cv.jit(several)(x), several(x), strict=True):
        agree(found, expected, TOLERANCE.get(np.dtype(dtype), 1e-13) * 8)
