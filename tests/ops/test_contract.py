"""dot_general against jax.lax."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import covector as cv
from covector.core.avals import Aval
from covector.core.dims import symbol
from covector.ops.common import Inseparable, Partial
from covector.ops.contract import accumulator, dot_general

DTYPES = ("f2", "bf16", "f4", "f8", "c8", "c16", "i1", "i4", "u1", "u4", "i8", "?")
# Shapes and dimension numbers.
LAYOUTS = {
    "matrices": ((5, 4), (4, 3), (((1,), (0,)), ((), ()))),
    "batch": ((2, 5, 4), (2, 4, 3), (((2,), (1,)), ((0,), (0,)))),
    "batch-inside": ((4, 2, 5), (3, 4, 2), (((0,), (1,)), ((1,), (2,)))),
    "vectors": ((4,), (4,), (((0,), (0,)), ((), ()))),
    "matrix-vector": ((5, 4), (4,), (((1,), (0,)), ((), ()))),
    "outer": ((4, 3), (2,), (((), ()), ((), ()))),
    "two-axes": ((2, 3, 4), (4, 3, 5), (((1, 2), (1, 0)), ((), ()))),
    "two-axes-crossed": ((2, 3, 4), (5, 4, 3), (((2, 1), (1, 2)), ((), ()))),
    "two-batches": ((2, 3, 4), (3, 4, 2), (((2,), (1,)), ((1, 0), (0, 2)))),
    "empty": ((0, 3), (3, 2), (((1,), (0,)), ((), ()))),
    "empty-sum": ((2, 0), (0, 2), (((1,), (0,)), ((), ()))),
}


@pytest.fixture(autouse=True)
def x64():
    with cv.enable_x64(True), jax.enable_x64(True):
        yield


def numbers(shape: tuple[int, ...], dtype: str = "f8", seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    known = np.dtype(ml_dtypes.bfloat16) if dtype == "bf16" else np.dtype(dtype)
    if known.kind in "biu":
        return rng.integers(0, 2 if dtype == "?" else 100, shape).astype(known)
    parts = rng.normal(size=shape)
    return np.asarray(parts + 1j * rng.normal(size=shape) if known.kind == "c" else parts, known)


def pair(dims: Any, preferred: Any = None) -> tuple[Any, Any]:
    options = {"dimension_numbers": dims, "preferred_element_type": preferred, "precision": None}
    return partial(dot_general, **options), partial(lax.dot_general, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["batch-inside", "two-axes", "empty-sum"])
def test_every_dtype(against_jax: Any, layout: str, dtype: str):
    lhs, rhs, dims = LAYOUTS[layout]
    against_jax.value(*pair(dims), (numbers(lhs, dtype), numbers(rhs, dtype, seed=1)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(against_jax: Any, layout: str):
    lhs, rhs, dims = LAYOUTS[layout]
    against_jax.value(*pair(dims), (numbers(lhs), numbers(rhs, seed=1)))


@pytest.mark.parametrize("layout", ["batch-inside", "two-axes-crossed", "two-batches", "vectors"])
def test_transformed(against_jax: Any, layout: str):
    lhs, rhs, dims = LAYOUTS[layout]
    against_jax.everything(*pair(dims), (numbers(lhs), numbers(rhs, seed=1)))


@pytest.mark.parametrize("preferred", ["f4", "f8"])
def test_derivatives_with_a_preferred_dtype(against_jax: Any, preferred: str):
    lhs, rhs, dims = LAYOUTS["batch"]
    operands = (numbers(lhs, "bf16"), numbers(rhs, "bf16", seed=1))
    against_jax.jvp(*pair(dims, np.dtype(preferred)), operands)
    against_jax.vjp(*pair(dims, np.dtype(preferred)), operands)


@pytest.mark.parametrize(
    ("dtype", "preferred"),
    [("i1", "i4"), ("i1", "f4"), ("bf16", "f4"), ("f4", "f2"), ("f2", "f8"), ("?", "i4")],
)
def test_preferred_dtypes(against_jax: Any, dtype: str, preferred: str):
    lhs, rhs, dims = LAYOUTS["matrices"]
    operands = (numbers(lhs, dtype), numbers(rhs, dtype, seed=1))
    against_jax.value(*pair(dims, np.dtype(preferred)), operands)


@pytest.mark.parametrize(
    ("left", "right"),
    [("f4", "bf16"), ("i4", "f4"), ("c8", "f4"), ("i1", "i4"), ("u1", "i1"), ("f2", "bf16")],
)
def test_operands_of_two_dtypes(against_jax: Any, left: str, right: str):
    lhs, rhs, dims = LAYOUTS["matrices"]
    against_jax.value(*pair(dims), (numbers(lhs, left), numbers(rhs, right, seed=1)))


def test_narrow_floats_are_summed_in_float32():
    ones = np.ones(3000, ml_dtypes.bfloat16)
    assert float(dot_general(ones, ones, **pair(LAYOUTS["vectors"][2])[0].keywords)) == 3008.0
    narrow, single = np.dtype(ml_dtypes.bfloat16), np.dtype("f4")
    assert accumulator(narrow, narrow, narrow) == single
    assert accumulator(np.dtype("i1"), np.dtype("i1"), single) == single
    assert accumulator(np.dtype("f8"), single, single) == np.dtype("f8")


def test_symbolic_sizes():
    n = symbol("n")
    lhs, rhs = Aval((n, 5, 4), np.dtype("f4")), Aval((n, 4, 3), np.dtype("f4"))
    params = pair(LAYOUTS["batch"][2])[0].keywords
    assert str(dot_general.shape(lhs, rhs, **params)) == "f32[n,5,3]"


@pytest.mark.parametrize(
    ("shapes", "dims", "message"),
    [
        (((5, 4), (5, 4)), (((1,), (0,)), ((), ())), "contracted axes of equal sizes"),
        (((5, 4), (4, 5)), (((), ()), ((0,), (0,))), "batch axes of equal sizes"),
        (((5, 4), (4, 5)), (((2,), (0,)), ((), ())), "different axes"),
        (((5, 4), (4, 5)), (((1,), (0,)), ((1,), (0,))), "different axes"),
    ],
)
def test_wrong_shapes(shapes: Any, dims: Any, message: str):
    with pytest.raises(TypeError, match=message):
        pair(dims)[0](numbers(shapes[0]), numbers(shapes[1]))


def test_wrong_dtypes():
    lhs, rhs, dims = LAYOUTS["matrices"]
    with pytest.raises(TypeError, match="narrower"):
        pair(dims, np.dtype("i1"))[0](numbers(lhs, "i4"), numbers(rhs, "i4"))


def test_lanes():
    _, _, dims = LAYOUTS["batch"]
    lhs, rhs = Aval((2, 5, 4), np.dtype("f4")), Aval((2, 4, 3), np.dtype("f4"))

    def lanes(left: int | None, right: int | None) -> Any:
        return dot_general.lanes((left, right), lhs, rhs, dimension_numbers=dims)

    assert lanes(None, None) is None
    assert lanes(0, 0) == 0
    assert lanes(1, None) == 1
    assert lanes(None, 2) == 2
    assert isinstance(lanes(2, 1), Partial)
    for wrong in ((0, None), (1, 2), (2, None), (None, 0), (0, 2)):
        with pytest.raises(Inseparable):
            lanes(*wrong)


@st.composite
def contractions(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    """Operands whose batch, free and contracted axes stand in any order."""
    size = st.integers(1, 3)
    batch = draw(st.lists(size, max_size=2))
    inner = draw(st.lists(size, max_size=2))
    sides: list[Any] = []
    for seed in (0, 1):
        free = draw(st.lists(size, max_size=2))
        tagged = [*[("b", i) for i in range(len(batch))], *[("k", i) for i in range(len(inner))]]
        tagged += [("f", i) for i in range(len(free))]
        order = draw(st.permutations(tagged))
        extents = {"b": batch, "k": inner, "f": free}
        shape = tuple([extents[kind][i] for kind, i in order])
        axes = [tuple([order.index((k, i)) for i in range(len(extents[k]))]) for k in "kb"]
        sides.append((numbers(shape, seed=seed), axes))
    (lhs, (lhs_inner, lhs_batch)), (rhs, (rhs_inner, rhs_batch)) = sides
    return lhs, rhs, ((lhs_inner, rhs_inner), (lhs_batch, rhs_batch))


@given(contractions())
@settings(max_examples=60)
def test_any_order_of_axes_against_einsum(case: Any):
    lhs, rhs, dims = case
    (lhs_inner, rhs_inner), (lhs_batch, rhs_batch) = dims
    names = [list(range(10, 10 + lhs.ndim)), list(range(20, 20 + rhs.ndim))]
    for i, j in (*zip(lhs_inner, rhs_inner, strict=True), *zip(lhs_batch, rhs_batch, strict=True)):
        names[1][j] = names[0][i]
    out = [names[0][i] for i in lhs_batch]
    out += [names[0][i] for i in range(lhs.ndim) if i not in (*lhs_batch, *lhs_inner)]
    out += [names[1][i] for i in range(rhs.ndim) if i not in (*rhs_batch, *rhs_inner)]
    expected = np.einsum(lhs, names[0], rhs, names[1], out)
    np.testing.assert_allclose(pair(dims)[0](lhs, rhs), expected, atol=1e-12)
