"""Gather, scatter and dynamic slices against jax.lax."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from jax import lax

import covector as cv
from covector.core.avals import Aval
from covector.core.dims import symbol
from covector.ops import index as ops
from covector.ops import scatter as scatters
from covector.ops.common import Inseparable, Partial
from covector.ops.random import random_split, random_wrap
from covector.ops.windows import (
    GatherDimensionNumbers,
    GatherScatterMode,
    ScatterDimensionNumbers,
    inverse,
    window_sizes,
)

DTYPES = ("f2", "f4", "f8", "c8", "bf16", "?", "i1", "i4", "u1", "u4")
MODES = ("clip", "fill", "promise_in_bounds")
SCATTERS = {
    "scatter": lax.scatter,
    "scatter-add": lax.scatter_add,
    "scatter-sub": lax.scatter_sub,
    "scatter-mul": lax.scatter_mul,
    "scatter-min": lax.scatter_min,
    "scatter-max": lax.scatter_max,
}
PRIMITIVES = {
    p.name: p
    for p in (
        scatters.scatter,
        scatters.scatter_add,
        scatters.scatter_sub,
        scatters.scatter_mul,
        scatters.scatter_min,
        scatters.scatter_max,
    )
}

# Dimension numbers (of the gather), shape of the indices, sizes of the windows of a 5 x 4 operand.
LAYOUTS = {
    "rows": (((1,), (0,), (0,)), (6, 1), (1, 4)),
    "blocks": (((0, 1), (), (0,)), (6, 1), (2, 3)),
    "elements": (((), (0, 1), (0, 1)), (2, 3, 2), (1, 1)),
    "elements-swapped": (((), (0, 1), (1, 0)), (2, 3, 2), (1, 1)),
    "blocks-split": (((0, 3), (), (1, 0)), (2, 3, 2), (2, 2)),
    "columns": (((2,), (1,), (1, 0)), (2, 3, 2), (2, 1)),
    "batched-elements": (((), (1,), (1,), (0,), (1,)), (2, 5, 1), (1, 1)),
    "batched-rows": (((2,), (), (1,), (0,), (1,)), (2, 5, 1), (1, 3)),
    "single": (((0,), (0,), (0,)), (1,), (1, 4)),
    "whole": (((0, 2), (), ()), (3, 0), (5, 4)),
    "none": (((1,), (0,), (0,)), (0, 1), (1, 4)),
}


@pytest.fixture(autouse=True)
def x64():
    with cv.enable_x64(True), jax.enable_x64(True):
        yield


def numbers(shape: tuple[int, ...], dtype: str = "f8", seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    if dtype == "?":
        return rng.integers(0, 2, shape).astype(bool)
    known = ml_dtypes.bfloat16 if dtype == "bf16" else np.dtype(dtype)
    return rng.integers(1, 9, shape).astype(known)


def starts(shape: tuple[int, ...], dtype: str = "i4", seed: int = 0) -> Any:
    """Starts of windows, some outside."""
    low = 0 if dtype[0] == "u" else -2
    return np.random.default_rng(seed).integers(low, 6, shape).astype(dtype)


def gather_pair(layout: str, mode: str, fill: Any = None) -> tuple[Any, Any]:
    dims, _, sizes = LAYOUTS[layout]
    options = {"indices_are_sorted": False, "unique_indices": False, "fill_value": fill}
    ours = partial(
        ops.gather,
        dimension_numbers=GatherDimensionNumbers(*dims),
        slice_sizes=sizes,
        mode=GatherScatterMode.from_any(mode),
        **options,
    )
    theirs = partial(
        lax.gather,
        dimension_numbers=lax.GatherDimensionNumbers(*dims),
        slice_sizes=sizes,
        mode=mode,
        **options,
    )
    return ours, theirs


def scatter_pair(name: str, layout: str, mode: str, unique: bool = False) -> tuple[Any, Any]:
    dims = LAYOUTS[layout][0]
    options = {"indices_are_sorted": False, "unique_indices": unique}
    ours = partial(
        PRIMITIVES[name],
        dimension_numbers=ScatterDimensionNumbers(*dims),
        mode=GatherScatterMode.from_any(mode),
        **options,
    )
    theirs = partial(
        SCATTERS[name],
        dimension_numbers=lax.ScatterDimensionNumbers(*dims),
        mode=mode,
        **options,
    )
    return ours, theirs


def updates_shape(layout: str) -> tuple[int, ...]:
    dims, indices_shape, sizes = LAYOUTS[layout]
    operand = Aval((5, 4), np.dtype("f4"))
    indices = Aval(indices_shape, np.dtype("i4"))
    params = {"indices_are_sorted": False, "unique_indices": False, "fill_value": None}
    return ops.gather.shape(
        operand,
        indices,
        dimension_numbers=GatherDimensionNumbers(*dims),
        slice_sizes=sizes,
        mode=GatherScatterMode.CLIP,
        **params,
    ).shape


# --- gather ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gather(against_jax: Any, layout: str, mode: str):
    indices = starts(LAYOUTS[layout][1])
    if mode == "promise_in_bounds":
        indices = indices.clip(0, 1)
    against_jax.value(*gather_pair(layout, mode), (numbers((5, 4)), indices))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_of_every_dtype(against_jax: Any, dtype: str):
    operands = (numbers((5, 4), dtype), starts((2, 3, 2)))
    against_jax.value(*gather_pair("blocks-split", "fill"), operands)


@pytest.mark.parametrize("dtype", ["i1", "u1", "u4", "i8", "u8"])
def test_gather_with_every_index_dtype(against_jax: Any, dtype: str):
    for mode in ("clip", "fill"):
        operands = (numbers((5, 4)), starts((2, 3, 2), dtype))
        against_jax.value(*gather_pair("blocks-split", mode), operands)


def test_gather_fills_with_a_given_value(against_jax: Any):
    ours, theirs = gather_pair("rows", "fill", fill=7)
    against_jax.value(ours, theirs, (numbers((5, 4)), np.array([[9], [-1], [2], [0], [1], [5]])))


def test_gather_of_huge_unsigned_indices_is_outside(against_jax: Any):
    indices = np.array([[2**64 - 1]] * 6, "u8")
    for mode in ("clip", "fill"):
        against_jax.value(*gather_pair("rows", mode), (numbers((5, 4)), indices))


@pytest.mark.parametrize(
    ("layout", "mode"),
    [("rows", "clip"), ("blocks-split", "fill"), ("batched-rows", "clip"), ("whole", "fill")],
)
def test_transformed_gather(against_jax: Any, layout: str, mode: str):
    ours, theirs = gather_pair(layout, mode)
    against_jax.everything(ours, theirs, (numbers((5, 4)), starts(LAYOUTS[layout][1])))


def test_gather_of_keys():
    keys = random_split(random_wrap(np.array([1, 2], np.uint32), impl="fry"), shape=(5, 4))
    ours, _ = gather_pair("rows", "fill")
    out = ours(keys, np.array([[3], [9], [0], [0], [1], [2]]))
    assert str(out.aval) == "key<fry>[6,4]"
    np.testing.assert_array_equal(out._value[0], keys._value[3])
    assert (out._value[1] == 2**32 - 1).all()


def test_gather_of_symbolic_sizes():
    n = symbol("n")
    aval = ops.gather.shape(
        Aval((n, 4), np.dtype("f4")),
        Aval((n, 1), np.dtype("i4")),
        dimension_numbers=GatherDimensionNumbers((1,), (0,), (0,)),
        slice_sizes=(1, 4),
        mode=GatherScatterMode.CLIP,
        fill_value=None,
        indices_are_sorted=False,
        unique_indices=False,
    )
    assert str(aval) == "f32[n,4]"


@pytest.mark.parametrize(
    ("dims", "indices_shape", "sizes", "message"),
    [
        (((1,), (0,), (0, 1)), (6, 1), (1, 4), "one component of a start"),
        (((5,), (0,), (0,)), (6, 1), (1, 4), "ascending window axes"),
        (((1,), (0,), (2,)), (6, 1), (1, 4), "different axes of the operand in the index map"),
        (((1,), (0,), (0,)), (6, 1), (2, 4), "windows of one element"),
        (((1,), (0,), (0,)), (6, 1), (1, 5), "windows that fit"),
        (((1,), (), (0,)), (6, 1), (1, 4), "a window axis for each other axis"),
        (((2,), (), (1,), (0,), (0,)), (2, 5, 1), (1, 3), "batching axes of equal sizes"),
        (((1,), (0,), (0,)), (), (1, 4), "last axis"),
    ],
)
def test_gather_says_what_is_wrong(dims: Any, indices_shape: Any, sizes: Any, message: str):
    with pytest.raises(TypeError, match=message):
        ops.gather(
            numbers((5, 4)),
            np.zeros(indices_shape, "i4"),
            dimension_numbers=GatherDimensionNumbers(*dims),
            slice_sizes=sizes,
            mode=GatherScatterMode.CLIP,
            fill_value=None,
            indices_are_sorted=False,
            unique_indices=False,
        )


def test_modes_by_name():
    assert GatherScatterMode.from_any("fill") is GatherScatterMode.from_any("drop")
    assert GatherScatterMode.from_any(None) is GatherScatterMode.FILL_OR_DROP
    with pytest.raises(ValueError, match="'wrap'"):
        GatherScatterMode.from_any("wrap")
    ours, _ = gather_pair("rows", "clip")
    with pytest.raises(TypeError, match="GatherScatterMode"):
        ours(numbers((5, 4)), starts((6, 1)), mode="clip")


def test_lanes_of_gather():
    dims, _, sizes = LAYOUTS["rows"]
    params = {"dimension_numbers": GatherDimensionNumbers(*dims), "slice_sizes": sizes}
    operand, indices = Aval((5, 4), np.dtype("f4")), Aval((6, 1), np.dtype("i4"))
    assert ops.gather.lanes((None, 0), operand, indices, **params) == 0
    assert ops.gather.lanes((1, None), operand, indices, **params) == 1
    for lanes in ((0, None), (None, 1), (1, 0)):
        with pytest.raises(Inseparable):
            ops.gather.lanes(lanes, operand, indices, **params)
    dims, _, sizes = LAYOUTS["batched-rows"]
    params = {"dimension_numbers": GatherDimensionNumbers(*dims), "slice_sizes": sizes}
    indices = Aval((2, 5, 1), np.dtype("i4"))
    assert ops.gather.lanes((0, 1), operand, indices, **params) == 1
    with pytest.raises(Inseparable):
        ops.gather.lanes((0, None), operand, indices, **params)


# --- scatter --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["scatter", "scatter-add", "scatter-max"])
def test_scatter(against_jax: Any, name: str, layout: str):
    operands = (
        numbers((5, 4)),
        starts(LAYOUTS[layout][1]),
        numbers(updates_shape(layout), seed=1),
    )
    against_jax.value(*scatter_pair(name, layout, "drop"), operands)


@pytest.mark.parametrize("mode", ["clip", "promise_in_bounds"])
@pytest.mark.parametrize("name", SCATTERS)
def test_scatter_in_other_modes(against_jax: Any, name: str, mode: str):
    indices = starts((2, 3, 2))
    operands = (numbers((5, 4)), indices, numbers((2, 2, 3, 2), seed=1))
    against_jax.value(*scatter_pair(name, "blocks-split", mode), operands)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SCATTERS)
def test_scatter_of_every_dtype(against_jax: Any, name: str, dtype: str):
    if dtype == "?" and name in ("scatter-add", "scatter-sub", "scatter-mul"):
        pytest.skip("JAX has no such scatter of booleans")
    if dtype == "c8" and name in ("scatter-min", "scatter-max"):
        pytest.skip("JAX orders complex numbers in another way than NumPy")
    operands = (numbers((5, 4), dtype), starts((6, 1), "u1"), numbers((6, 4), dtype, seed=1))
    against_jax.value(*scatter_pair(name, "rows", "drop"), operands)


def test_scatter_keeps_the_last_of_several_updates():
    ours, _ = scatter_pair("scatter", "rows", "clip")
    rows = np.arange(24.0).reshape(6, 4)
    out = ours(np.zeros((5, 4)), np.array([[0], [1], [0], [1], [0], [1]]), rows)
    np.testing.assert_array_equal(out, [rows[4], rows[5], *np.zeros((3, 4))])


@pytest.mark.parametrize(
    ("name", "layout", "mode"),
    [
        ("scatter", "rows", "drop"),
        ("scatter", "blocks-split", "clip"),
        ("scatter-add", "batched-rows", "drop"),
        ("scatter-sub", "single", "clip"),
    ],
)
def test_transformed_scatter(against_jax: Any, name: str, layout: str, mode: str):
    ours, theirs = scatter_pair(name, layout, mode)
    operands = (
        numbers((5, 4)),
        starts(LAYOUTS[layout][1]),
        numbers(updates_shape(layout), seed=1),
    )
    against_jax.everything(ours, theirs, operands)


@pytest.mark.parametrize("name", ["scatter", "scatter-mul"])
def test_derivatives_of_scatter_with_unique_indices(against_jax: Any, name: str):
    ours, theirs = scatter_pair(name, "rows", "drop", unique=True)
    indices = np.array([[3], [-1], [0], [7], [1], [2]])
    operands = (numbers((5, 4)), indices, numbers((6, 4), seed=1))
    against_jax.jvp(ours, theirs, operands)
    against_jax.vjp(ours, theirs, operands)


@pytest.mark.parametrize("name", ["scatter-min", "scatter-max"])
def test_derivatives_of_extrema(against_jax: Any, name: str):
    ours, theirs = scatter_pair(name, "rows", "drop")
    operands = (numbers((5, 4)), starts((6, 1)), numbers((6, 4), seed=1))
    against_jax.jvp(ours, theirs, operands)
    against_jax.vjp(ours, theirs, operands)


def test_derivative_of_scatter_mul_with_repeated_indices_and_zeros():
    ours, _ = scatter_pair("scatter-mul", "elements", "drop")
    indices = np.zeros((2, 3, 2), "i4")
    indices[..., 1] = [[0, 0, 0], [1, 1, 2]]
    updates = np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 4.0]])
    operand = numbers((5, 4))

    def by_hand(operand: Any, updates: Any) -> Any:
        import jax.numpy as jnp

        row = jnp.stack(
            [
                operand[0, 0] * updates[0, 0] * updates[0, 1] * updates[0, 2],
                operand[0, 1] * updates[1, 0] * updates[1, 1],
                operand[0, 2] * updates[1, 2],
                operand[0, 3],
            ]
        )
        return jnp.concatenate([row[None], operand[1:]])

    out, pull_back = cv.vjp(lambda x, u: ours(x, indices, u), operand, updates)
    expected, expected_pull_back = jax.vjp(by_hand, operand, updates)
    np.testing.assert_allclose(out, expected)
    ct = np.arange(20.0).reshape(5, 4)
    for found, wanted in zip(pull_back(ct), expected_pull_back(ct), strict=True):
        np.testing.assert_allclose(found, wanted)


def test_transposing_scatter_needs_unique_indices():
    ours, _ = scatter_pair("scatter", "rows", "drop")
    with pytest.raises(NotImplementedError, match="unique_indices=True"):
        cv.linear_transpose(lambda u: ours(numbers((5, 4)), starts((6, 1)), u), numbers((6, 4)))(
            numbers((5, 4))
        )


def test_scatter_says_what_is_wrong():
    ours, _ = scatter_pair("scatter-add", "rows", "drop")
    with pytest.raises(TypeError, match="updates of shape"):
        ours(numbers((5, 4)), starts((6, 1)), numbers((5, 4)))
    with pytest.raises(TypeError, match="updates with an axis for each"):
        ours(numbers((5, 4)), starts((6, 1)), numbers((6,)))
    with pytest.raises(TypeError, match="equal dtype"):
        ours(numbers((5, 4)), starts((6, 1)), numbers((6, 4), "i4"))
    with pytest.raises(ValueError, match="integer"):
        ours(numbers((5, 4)), numbers((6, 1)), numbers((6, 4)))


def test_lanes_of_scatter():
    rows = {"dimension_numbers": ScatterDimensionNumbers(*LAYOUTS["rows"][0])}
    avals = [Aval(s, np.dtype("f4")) for s in ((5, 4), (6, 1), (6, 4))]
    assert scatters.scatter_add.lanes((1, None, 1), *avals, **rows) == 1
    found = scatters.scatter_max.lanes((None, 0, 0), *avals, **rows)
    assert isinstance(found, Partial)
    assert found.operation == "max"
    for lanes in ((None, 0, 0), (0, None, 0), (1, None, None), (None, None, 0)):
        with pytest.raises(Inseparable):
            scatters.scatter_add.lanes(lanes, *avals, **rows)
    batched = {"dimension_numbers": ScatterDimensionNumbers(*LAYOUTS["batched-rows"][0])}
    avals = [Aval(s, np.dtype("f4")) for s in ((5, 4), (2, 5, 1), (2, 5, 3))]
    assert scatters.scatter.lanes((0, 1, 1), *avals, **batched) == 0


def test_windows_of_a_scatter_are_those_of_the_inverse_gather():
    dims, _, sizes = LAYOUTS["blocks-split"]
    reader = inverse(ScatterDimensionNumbers(*dims))
    assert window_sizes(reader, 2, updates_shape("blocks-split")) == sizes


# --- dynamic_slice and dynamic_update_slice -------------------------------------------------------


def theirs_slice(operand: Any, *begins: Any, slice_sizes: Any) -> Any:
    # lax.dynamic_slice counts negative starts from the end before it binds the primitive.
    return lax.dynamic_slice_p.bind(operand, *begins, slice_sizes=slice_sizes)


BEGINS = ((1, 1), (-3, 5), (100, -100), (3, 2))


@pytest.mark.parametrize("begins", BEGINS)
@pytest.mark.parametrize("index_dtype", ["i4", "i1", "i8"])
def test_dynamic_slices(against_jax: Any, begins: Any, index_dtype: str):
    places = [np.array(i, index_dtype) for i in begins]
    for dtype in DTYPES:
        x, update = numbers((5, 4), dtype), numbers((2, 3), dtype, seed=1)
        against_jax.value(
            partial(ops.dynamic_slice, slice_sizes=(2, 3)),
            partial(theirs_slice, slice_sizes=(2, 3)),
            (x, *places),
        )
        against_jax.value(
            ops.dynamic_update_slice, lax.dynamic_update_slice_p.bind, (x, update, *places)
        )


@pytest.mark.parametrize("begins", BEGINS[1:3])
def test_transformed_dynamic_slices(against_jax: Any, begins: Any):
    places = [np.array(i) for i in begins]
    x, update = numbers((5, 4)), numbers((2, 3), seed=1)
    ours = partial(ops.dynamic_slice, slice_sizes=(2, 3))
    theirs = partial(theirs_slice, slice_sizes=(2, 3))
    against_jax.vjp(ours, theirs, (x, *places))
    against_jax.jvp(ops.dynamic_update_slice, lax.dynamic_update_slice_p.bind, (x, update, *places))
    against_jax.vjp(ops.dynamic_update_slice, lax.dynamic_update_slice_p.bind, (x, update, *places))


@pytest.mark.parametrize("axes", [(0, None, None), (2, None, 0), (None, 0, 0), (1, 0, None)])
def test_batched_dynamic_slice(against_jax: Any, axes: Any):
    operands = [numbers((5, 4) if axes[0] is None else (3, 5, 4)), np.array(1), np.array(-1)]
    if axes[0] is not None:
        operands[0] = np.moveaxis(operands[0], 0, axes[0])
    for k in (1, 2):
        if axes[k] is not None:
            operands[k] = np.array([1, -2, 9])
    against_jax.value(
        cv.vmap(partial(ops.dynamic_slice, slice_sizes=(2, 3)), in_axes=axes),
        jax.vmap(partial(theirs_slice, slice_sizes=(2, 3)), in_axes=axes),
        operands,
    )
    update_axes = (axes[0], 0, *axes[1:])
    against_jax.value(
        cv.vmap(ops.dynamic_update_slice, in_axes=update_axes),
        jax.vmap(lax.dynamic_update_slice_p.bind, in_axes=update_axes),
        (operands[0], numbers((3, 2, 3), seed=1), *operands[1:]),
    )


def test_dynamic_slices_say_what_is_wrong():
    x, zero = numbers((5, 4)), np.array(0)
    with pytest.raises(TypeError, match="fits into the operand"):
        ops.dynamic_slice(x, zero, zero, slice_sizes=(6, 1))
    with pytest.raises(TypeError, match="one start index for each of the 2 axes"):
        ops.dynamic_slice(x, zero, slice_sizes=(1, 1))
    with pytest.raises(TypeError, match="scalars"):
        ops.dynamic_slice(x, zero, np.zeros(2, int), slice_sizes=(1, 1))
    with pytest.raises(TypeError, match="one dtype"):
        ops.dynamic_slice(x, zero, np.array(0, "i4"), slice_sizes=(1, 1))
    with pytest.raises(TypeError, match="fits into the operand"):
        ops.dynamic_update_slice(x, numbers((6, 1)), zero, zero)


def test_lanes_of_dynamic_slices():
    x, zero = Aval((5, 4), np.dtype("f4")), Aval((), np.dtype("i4"))
    assert ops.dynamic_slice.lanes((1, None, None), x, zero, zero, slice_sizes=(2, 4)) == 1
    with pytest.raises(Inseparable):
        ops.dynamic_slice.lanes((0, None, None), x, zero, zero, slice_sizes=(2, 4))
    update = Aval((2, 4), np.dtype("f4"))
    assert ops.dynamic_update_slice.lanes((1, 1, None, None), x, update, zero, zero) == 1
    with pytest.raises(Inseparable):
        ops.dynamic_update_slice.lanes((1, None, None, None), x, update, zero, zero)
