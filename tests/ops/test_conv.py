"""Convolutions against jax.lax: values, derivatives, batching, native code, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.core.avals import Aval
from covector.core.trace import eval_program
from covector.interop import from_jax
from covector.ops.common import Inseparable, Partial
from covector.ops.conv import conv_general_dilated as conv_p
from covector.testing.optable import OpRow, ulps_between
from covector.testing.rows.conv import ROWS

Array = np.ndarray[Any, Any]

# Shapes, then keywords of conv_general_dilated.
CASES: dict[str, tuple[Any, ...]] = {
    "series": ((2, 3, 9), (4, 3, 3), {}),
    "strided": (
        (2, 3, 7, 6),
        (5, 3, 3, 2),
        {"window_strides": (2, 1), "padding": ((1, 2), (0, 1))},
    ),
    "features_last": (
        (2, 7, 6, 3),
        (3, 2, 3, 8),
        {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "padding": "SAME", "rhs_dilation": (2, 1)},
    ),
    "lhs_dilation": (
        (2, 4, 5, 5),
        (3, 4, 3, 3),
        {"lhs_dilation": (2, 3), "padding": ((2, 1), (2, 3))},
    ),
    "cut_off": ((2, 3, 9), (2, 3, 2), {"lhs_dilation": (2,), "padding": ((-2, 1),)}),
    "feature_groups": ((2, 6, 8), (9, 2, 3), {"feature_group_count": 3, "padding": "SAME"}),
    "depthwise": (
        (2, 4, 6, 6),
        (8, 1, 3, 3),
        {"feature_group_count": 4, "padding": "SAME", "window_strides": (2, 2)},
    ),
    "batch_groups": ((6, 2, 8), (9, 2, 3), {"batch_group_count": 3, "padding": "SAME_LOWER"}),
    "other_orders": (
        (3, 2, 7, 6),
        (3, 3, 2, 5),
        {"dimension_numbers": ("CNHW", "IHWO", "CHWN"), "window_strides": (1, 2)},
    ),
    "no_spatial_axes": ((3, 4), (5, 4), {}),
    "three_spatial_axes": ((1, 2, 4, 4, 3), (2, 2, 2, 2, 2), {"padding": "SAME"}),
    "no_window": ((2, 3, 1), (4, 3, 3), {}),
}
# Large enough for BLAS, in blocks of columns.
LARGE: dict[str, tuple[Any, ...]] = {
    "batch_first": ((2, 64, 45, 50), (16, 64, 3, 3), {}),
    "features_last": (
        (3, 45, 50, 64),
        (3, 3, 64, 16),
        {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "window_strides": (2, 1)},
    ),
    "features_first": (
        (64, 3, 45, 50),
        (64, 3, 3, 16),
        {"dimension_numbers": ("CNHW", "IHWO", "CNHW"), "padding": "SAME"},
    ),
    "feature_groups": ((2, 32, 15, 20), (32, 16, 3, 3), {"feature_group_count": 2}),
    "batch_groups": (
        (4, 16, 15, 40),
        (32, 16, 3, 3),
        {"batch_group_count": 2, "padding": "SAME", "rhs_dilation": (2, 1)},
    ),
    "pointwise": ((2, 64, 15, 20), (32, 64, 1, 1), {}),
    "pointwise_last": (
        (2, 15, 20, 64),
        (1, 1, 32, 32),
        {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": 2},
    ),
    "one_output": ((8, 28, 28, 16), (3, 3, 16, 1), {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}),
}


def drawn(shape: Any, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def both(case: tuple[Any, ...]) -> tuple[Any, Any]:
    """The case's convolution here and in JAX."""
    lhs, _, given = case
    params = {"window_strides": (1,) * (len(lhs) - 2), "padding": "VALID", **given}

    def ours(x: Any, w: Any) -> Any:
        return lax.conv_general_dilated(x, w, **params)

    def theirs(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(x, w, **params)

    return ours, theirs


def operands(case: tuple[Any, ...]) -> tuple[Array, Array]:
    return drawn(case[0], 1), drawn(case[1], 2)


def close(found: Any, expected: Any) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=1e-10)


@pytest.fixture(autouse=True)
def _x64() -> Iterator[None]:
    with cv.enable_x64(True), jax.enable_x64(True):
        yield


# --- values and derivatives -----------------------------------------------------------------------


def derivatives(package: Any, fn: Any) -> Any:
    """A function to the value, both modes' derivatives, and a second derivative."""

    def all_of(x: Any, w: Any, dx: Any, dw: Any, ct: Any) -> Any:
        out, tangent = package.jvp(fn, (x, w), (dx, dw))
        cotangents = package.vjp(fn, x, w)[1](ct)

        def pulled(x: Any, w: Any) -> Any:
            return package.vjp(fn, x, w)[1](ct)

        return out, tangent, *cotangents, *package.jvp(pulled, (x, w), (dx, dw))[1]

    return all_of


@cache
def oracle(name: str) -> Any:
    """JAX's results, compiled once for all tests of a case."""
    case = CASES[name]
    _, theirs = both(case)
    x, w = operands(case)
    ct = drawn(jax.eval_shape(theirs, x, w).shape, 3)
    args = (x, w, drawn(x.shape, 4), drawn(w.shape, 5), ct)
    return args, jax.jit(derivatives(jax, theirs))(*args)


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name: str) -> None:
    ours, _ = both(CASES[name])
    args, expected = oracle(name)
    for run in (derivatives(cv, ours), cv.jit(derivatives(cv, ours))):
        for found, wanted in zip(run(*args), expected, strict=True):
            close(found, wanted)


@pytest.mark.parametrize("name", LARGE)
def test_large_ones_by_blas(name: str) -> None:
    ours, _ = both(LARGE[name])
    x, w = operands(LARGE[name])
    expected = np.asarray(ours(x, w))  # by NumPy
    close(cv.jit(ours)(x, w), expected)
    ct = drawn(expected.shape, 3)

    def pulled(x: Any, w: Any, ct: Any) -> Any:
        return cv.vjp(ours, x, w)[1](ct)

    for found, wanted in zip(cv.jit(pulled)(x, w, ct), pulled(x, w, ct), strict=True):
        close(found, np.asarray(wanted))


@pytest.mark.parametrize("name", ["batch_first", "features_last"])
def test_large_ones_are_those_of_jax(name: str) -> None:
    ours, theirs = both(LARGE[name])
    x, w = (v.astype(np.float32) for v in operands(LARGE[name]))
    expected = np.asarray(theirs(x, w))
    np.testing.assert_allclose(np.asarray(cv.jit(ours)(x, w)), expected, rtol=1e-4, atol=1e-3)


# --- batching -------------------------------------------------------------------------------------

BATCHED = [name for name in CASES if name != "three_spatial_axes"]


@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("axes", [(0, 0), (-1, 1), (1, None), (None, -1)], ids=str)
def test_batches(name: str, axes: Any) -> None:
    case = CASES[name]
    ours, _ = both(case)
    xs, ws = drawn((3, *case[0]), 6), drawn((3, *case[1]), 7)
    each = [
        ours(xs[0 if axes[0] is None else i], ws[0 if axes[1] is None else i]) for i in (0, 1, 2)
    ]
    given = [
        v[0] if a is None else np.moveaxis(v, 0, a) for v, a in zip((xs, ws), axes, strict=True)
    ]
    found = cv.vmap(ours, in_axes=axes)(*given)
    close(found, np.stack([np.asarray(e) for e in each]))


@pytest.mark.parametrize("name", ["strided", "feature_groups", "batch_groups"])
def test_gradients_of_batches(name: str) -> None:
    ours, theirs = both(CASES[name])

    def per_example(package: Any, fn: Any) -> Any:
        def loss(x: Any, w: Any) -> Any:
            return (fn(x, w) ** 2).sum()

        return package.jit(package.vmap(package.grad(loss, (0, 1)), in_axes=(0, None)))

    x, w = drawn((3, *CASES[name][0])), operands(CASES[name])[1]
    for found, wanted in zip(
        per_example(cv, ours)(x, w), per_example(jax, theirs)(x, w), strict=True
    ):
        np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-9)


def test_an_empty_batch() -> None:
    ours, _ = both(CASES["feature_groups"])
    found = cv.vmap(ours)(np.ones((0, 2, 6, 8)), np.ones((0, 9, 2, 3)))
    assert found.shape == (0, 2, 9, 8)


# --- dtypes ---------------------------------------------------------------------------------------

NARROW = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}


@pytest.mark.parametrize("dtype", ["i8", "u32", "i64", "f16", "bf16", "f32", "c64", "c128"])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_native_code_gives_what_numpy_gives(row: OpRow, dtype: str) -> None:
    xs = row.sample(0, dtype)
    expected = np.asarray(row(*xs))
    found = np.asarray(cv.jit(lambda *v: row(*v))(*xs))
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if expected.dtype.kind in "iu":
        np.testing.assert_array_equal(found, expected)
    else:
        assert ulps_between(found, expected, True).max() < row.ulps


@pytest.mark.parametrize("dtype", ["i32", "bf16", "f32", "c64"])
def test_dtypes_are_those_of_jax(dtype: str) -> None:
    pairs = [(row, row.sample(0, dtype)) for row in ROWS]

    def all_of(operands: Any) -> Any:
        return [row.jax_twin(jax)(*xs) for (row, _), xs in zip(pairs, operands, strict=True)]

    expected = jax.jit(all_of)([xs for _, xs in pairs])
    for (row, xs), wanted in zip(pairs, expected, strict=True):
        found, wanted = np.asarray(row(*xs)), np.asarray(wanted)
        assert found.dtype == wanted.dtype
        tolerance = 2e-2 if dtype == "bf16" else 1e-5
        np.testing.assert_allclose(
            found.astype(np.complex128), wanted.astype(np.complex128), atol=tolerance
        )


def test_booleans() -> None:
    x, w = drawn((1, 2, 6)) > 0, drawn((3, 2, 2), 1) > 0
    ours, theirs = both(((1, 2, 6), (3, 2, 2), {}))
    expected = np.asarray(theirs(x, w))
    for fn in (ours, cv.jit(ours)):
        np.testing.assert_array_equal(np.asarray(fn(x, w)), expected)


def test_a_wider_result() -> None:
    x, w = drawn((1, 2, 9)).astype(ml_dtypes.bfloat16), drawn((3, 2, 3)).astype(ml_dtypes.bfloat16)

    def ours(x: Any, w: Any) -> Any:
        return lax.conv_general_dilated(x, w, (1,), "SAME", preferred_element_type=np.float32)

    found = ours(x, w)
    assert found.dtype == np.float32
    wide = lax.conv(x.astype(np.float32), w.astype(np.float32), (1,), "SAME")
    np.testing.assert_allclose(np.asarray(found), np.asarray(wide), rtol=1e-6)
    gradients = cv.grad(lambda x, w: (ours(x, w) ** 2).sum(), (0, 1))(x, w)
    assert [g.dtype for g in gradients] == [x.dtype, w.dtype]
    exact = lax.conv_general_dilated(
        np.full((1, 1, 4), 100, np.int8),
        np.full((1, 1, 3), 100, np.int8),
        (1,),
        "VALID",
        preferred_element_type=np.int32,
    )
    np.testing.assert_array_equal(np.asarray(exact), [[[30000, 30000]]])


# --- facades --------------------------------------------------------------------------------------


@pytest.mark.parametrize("transpose_kernel", [False, True])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 2), (0, 1))], ids=str)
def test_conv_transpose(padding: Any, transpose_kernel: bool) -> None:
    x, w = drawn((2, 4, 5, 3)), drawn((3, 2, 3, 3), 1)
    for consistent in (False, True):
        given: dict[str, Any] = {
            "rhs_dilation": (1, 2),
            "transpose_kernel": transpose_kernel,
            "use_consistent_padding": consistent,
        }
        found = lax.conv_transpose(x, w, (2, 3), padding, **given)
        close(found, jax.lax.conv_transpose(x, w, (2, 3), padding, **given))


@pytest.mark.parametrize("rank", [2, 3, 5])
def test_conv_transpose_by_rank(rank: int) -> None:
    x, w = drawn((2, *[3] * (rank - 2), 2)), drawn((*[2] * (rank - 2), 2, 3), 1)
    strides = (2,) * (rank - 2)
    found = lax.conv_transpose(x, w, strides, "SAME")
    close(found, jax.lax.conv_transpose(x, w, strides, "SAME"))


def test_other_facades() -> None:
    x, w = drawn((2, 3, 7, 6)), drawn((4, 3, 2, 3), 1)
    close(lax.conv(x, w, (2, 1), "SAME"), jax.lax.conv(x, w, (2, 1), "SAME"))
    pads = ((1, 0), (2, 1))
    found = lax.conv_with_general_padding(x, w, (1, 1), pads, (2, 1), (1, 2))
    close(found, jax.lax.conv_with_general_padding(x, w, (1, 1), pads, (2, 1), (1, 2)))
    names = ("NHWC", "HWIO", "CHNW")
    numbers = lax.conv_dimension_numbers(x.shape, w.shape, names)
    assert tuple(numbers) == tuple(jax.lax.conv_dimension_numbers(x.shape, w.shape, names))
    assert lax.conv_dimension_numbers(x.shape, w.shape, numbers) is numbers
    for padding in ("SAME", "SAME_LOWER", "VALID", "same"):
        ours = lax.padtype_to_pads((7, 6), (2, 3), (2, 1), padding)
        theirs = jax.lax.padtype_to_pads((7, 6), (2, 3), np.array((2, 1)), padding)
        assert [tuple(map(int, p)) for p in theirs] == ours


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_convolve_agrees(mode: str) -> None:
    a, v = drawn(9), drawn(4, 1)
    found = cv.jit(lambda a, v: cnp.convolve(a, v, mode))(a, v)
    np.testing.assert_allclose(np.asarray(found), np.convolve(a, v, mode), atol=1e-12)
    pads = {"full": (3, 3), "same": (2, 1), "valid": (0, 0)}[mode]
    same = lax.conv_general_dilated(a[None, None], v[None, None, ::-1], (1,), [pads])
    np.testing.assert_allclose(np.asarray(same)[0, 0], np.convolve(a, v, mode), atol=1e-12)


def test_imported_from_jax() -> None:
    _, theirs = both(CASES["features_last"])
    x, w = operands(CASES["features_last"])

    def gradient(x: Any, w: Any) -> Any:
        return jax.grad(lambda w: (theirs(x, w) ** 2).sum())(w)

    program = from_jax(gradient, x, w)
    (found,) = cv.jit(lambda *args: eval_program(program, *args))(x, w)
    np.testing.assert_allclose(np.asarray(found), np.asarray(gradient(x, w)), rtol=1e-10)


# --- pooling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((0, 0), (1, 0), (0, 1))], ids=str)
@pytest.mark.parametrize("name", ["add", "max", "min", "mul"])
def test_reduce_window(name: str, padding: Any) -> None:
    x = drawn((2, 6, 7))
    start = {"add": 0.0, "max": -np.inf, "min": np.inf, "mul": 1.0}[name]

    def pooled(package: Any) -> Any:
        return lambda x: package.lax.reduce_window(
            x, start, getattr(package.lax, name), (1, 2, 3), (1, 2, 2), padding
        )

    close(pooled(cv)(x), pooled(jax)(x))
    close(cv.jit(pooled(cv))(x), pooled(jax)(x))
    if name != "mul":
        found = cv.grad(lambda x: (pooled(cv)(x) ** 2).sum())(x)
        close(found, jax.grad(lambda x: (pooled(jax)(x) ** 2).sum())(x))


def test_reduce_window_of_a_pytree() -> None:
    x, y = drawn((6,)), np.arange(6)

    def larger(a: Any, b: Any) -> Any:
        keep = a["x"] >= b["x"]
        return {k: lax.select(keep, a[k], b[k]) for k in a}

    start = {"x": -np.inf, "at": np.int64(-1)}
    found = lax.reduce_window({"x": x, "at": y}, start, larger, (3,), (3,))
    np.testing.assert_array_equal(np.asarray(found["at"]), [x[:3].argmax(), 3 + x[3:].argmax()])
    with pytest.raises(ValueError, match="initial value for each operand"):
        lax.reduce_window({"x": x}, 0.0, lax.add, (3,))


# --- lanes, and what is refused -------------------------------------------------------------------


def test_lanes() -> None:
    def lanes(lhs: Any, rhs: Any, **given: Any) -> Any:
        numbers = lax.conv_dimension_numbers((1,) * 3, (1,) * 3, ("NCH", "OIH", "HNC"))
        counts = {"feature_group_count": 1, "batch_group_count": 1, **given}
        avals = (Aval((4, 4, 4), np.dtype(np.float64)),) * 2
        return conv_p.lanes((lhs, rhs), *avals, dimension_numbers=numbers, **counts)

    assert lanes(None, None) is None
    assert lanes(0, None) == 1
    assert lanes(0, None, feature_group_count=2) == 1
    assert lanes(None, 0) == 2
    assert lanes(1, 1) == Partial("add")
    for dims, given in [
        ((2, None), {}),
        ((None, 2), {}),
        ((0, 0), {}),
        ((1, None), {}),
        ((None, 0), {"feature_group_count": 2}),
        ((0, None), {"batch_group_count": 2}),
    ]:
        with pytest.raises(Inseparable):
            lanes(*dims, **given)


X, W = np.ones((2, 3, 8)), np.ones((4, 3, 3))
REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: lax.conv(X, W[0], (1,), "SAME"), TypeError, "equal rank"),
    (lambda: lax.conv(X, W[:, :2], (1,), "SAME"), ValueError, "as many features"),
    (lambda: lax.conv(X, W, (1, 1), "SAME"), ValueError, "1 entries in window_strides"),
    (lambda: lax.conv(X, W, (0,), [(0, 0)]), ValueError, "positive window_strides"),
    (lambda: lax.conv(X, W, (1,), "BOTH"), RuntimeError, "'SAME_LOWER'"),
    (lambda: lax.conv(X, W, (1,), [(1, 2, 3)]), ValueError, "pairs"),
    (lambda: lax.conv(X, W, (1,), [(-9, 0)]), ValueError, "negative padding"),
    (lambda: lax.conv(X, W.astype(np.float32), (1,), "SAME"), TypeError, "equal dtype"),
    (
        lambda: lax.conv_general_dilated(X, W, (1,), "SAME", lhs_dilation=(2,)),
        ValueError,
        "conv_transpose",
    ),
    (
        lambda: lax.conv_general_dilated(X, W, (1,), "SAME", batch_group_count=3),
        ValueError,
        "batch_group_count that divides",
    ),
    (
        lambda: lax.conv_general_dilated(X, W[:, :1], (1,), "SAME", feature_group_count=3),
        ValueError,
        "feature_group_count that divides",
    ),
    (
        lambda: lax.conv_general_dilated(
            X, W, (1,), "SAME", dimension_numbers=("NCH", "OIW", "NCH")
        ),
        TypeError,
        "same letters",
    ),
    (
        lambda: lax.conv_general_dilated(X, W, (1,), "SAME", dimension_numbers=("NC", "OI", "NC")),
        TypeError,
        "3 different letters",
    ),
    (
        lambda: lax.conv_general_dilated(X, W, (1,), "SAME", preferred_element_type=np.int64),
        TypeError,
        "preferred_element_type",
    ),
    (
        lambda: lax.conv_general_dilated(X, W, (1,), "SAME", out_sharding="x"),
        NotImplementedError,
        "out_sharding",
    ),
    (
        lambda: lax.conv_transpose(np.ones((1,) * 6), np.ones((1,) * 6), (1,) * 4, "SAME"),
        ValueError,
        "2 to 5",
    ),
]


@pytest.mark.parametrize(("call", "error", "words"), REFUSED, ids=[w for *_, w in REFUSED])
def test_what_is_refused(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
