"""Gather, scatters and dynamic slices: native code against eager evaluation."""

from __future__ import annotations

from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.ops import index as ops
from covector.ops import scatter as scatters
from covector.ops.random import random_seed, random_split
from covector.ops.windows import (
    GatherDimensionNumbers,
    GatherScatterMode,
    ScatterDimensionNumbers,
)

DTYPES = ("f2", "f4", "f8", "c8", "bf16", "?", "i1", "i4", "u1", "u4")
SCATTERS = {
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

# Dimension numbers, shape of the indices, sizes of windows, shape of the updates; 5 x 4 operands.
LAYOUTS = {
    "rows": (((1,), (0,), (0,)), (6, 1), (1, 4), (6, 4)),
    "blocks": (((0, 1), (), (0,)), (6, 1), (2, 3), (2, 3, 6)),
    "elements": (((), (0, 1), (1, 0)), (2, 3, 2), (1, 1), (2, 3)),
    "blocks-split": (((0, 3), (), (1, 0)), (2, 3, 2), (2, 2), (2, 2, 3, 2)),
    "batched-elements": (((), (1,), (1,), (0,), (1,)), (2, 5, 1), (1, 1), (2, 5)),
    "batched-rows": (((2,), (), (1,), (0,), (1,)), (2, 5, 1), (1, 3), (2, 5, 3)),
    "single": (((0,), (0,), (0,)), (1,), (1, 4), (4,)),
    "whole": (((0, 2), (), ()), (3, 0), (5, 4), (5, 3, 4)),
    "none": (((1,), (0,), (0,)), (0, 1), (1, 4), (0, 4)),
}


@pytest.fixture(autouse=True)
def x64():
    with cv.enable_x64(True):
        yield


def numbers(shape: tuple[int, ...], dtype: str = "f8", seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    if dtype == "?":
        return rng.integers(0, 2, shape).astype(bool)
    return rng.integers(1, 9, shape).astype(ml_dtypes.bfloat16 if dtype == "bf16" else dtype)


def starts(shape: tuple[int, ...], dtype: str = "i4") -> Any:
    low = 0 if dtype[0] == "u" else -2
    return np.random.default_rng(0).integers(low, 6, shape).astype(dtype)


def gather(layout: str, mode: str, fill: Any = None) -> Any:
    return partial(
        ops.gather,
        dimension_numbers=GatherDimensionNumbers(*LAYOUTS[layout][0]),
        slice_sizes=LAYOUTS[layout][2],
        mode=GatherScatterMode.from_any(mode),
        fill_value=fill,
        indices_are_sorted=False,
        unique_indices=False,
    )


def scatter(name: str, layout: str, mode: str) -> Any:
    return partial(
        SCATTERS[name],
        dimension_numbers=ScatterDimensionNumbers(*LAYOUTS[layout][0]),
        mode=GatherScatterMode.from_any(mode),
        indices_are_sorted=False,
        unique_indices=False,
    )


def agree(fn: Any, *args: Any) -> None:
    """Native code gives exactly what eager evaluation (or the reference backend) gives."""
    expected, found = cv.jit(fn, backend="reference")(*args), cv.jit(fn, backend="native")(*args)
    assert found.aval == expected.aval
    np.testing.assert_array_equal(
        found._value.view(np.uint8) if found.dtype == ml_dtypes.bfloat16 else found._value,
        expected._value.view(np.uint8) if found.dtype == ml_dtypes.bfloat16 else expected._value,
    )


@pytest.mark.parametrize("mode", ["clip", "fill", "promise_in_bounds"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gather(layout: str, mode: str):
    agree(gather(layout, mode), numbers((5, 4)), starts(LAYOUTS[layout][1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_of_every_dtype(dtype: str):
    agree(gather("blocks-split", "fill", 1), numbers((5, 4), dtype), starts((2, 3, 2)))


@pytest.mark.parametrize("dtype", ["i1", "u1", "u4", "i8", "u8"])
def test_gather_with_every_index_dtype(dtype: str):
    for mode in ("clip", "fill"):
        agree(gather("rows", mode), numbers((5, 4)), starts((6, 1), dtype))
        huge = np.full((6, 1), np.iinfo(dtype).max, dtype)
        agree(gather("rows", mode), numbers((5, 4)), huge)


@pytest.mark.parametrize("size", [5, 50], ids=("by-choices", "in-memory"))
@pytest.mark.parametrize("layout", [k for k in LAYOUTS if not k.startswith("batched")])
@pytest.mark.parametrize("name", ["scatter", "scatter-add", "scatter-max"])
def test_scatter(name: str, layout: str, size: int):
    places = starts(LAYOUTS[layout][1]) * (size // 5)
    if layout == "whole" and size == 50:
        pytest.skip("these windows are as large as the operand")
    agree(
        scatter(name, layout, "drop"),
        numbers((size, 4)),
        places,
        numbers(LAYOUTS[layout][3], seed=1),
    )


@pytest.mark.parametrize("layout", ["batched-elements", "batched-rows"])
@pytest.mark.parametrize("name", SCATTERS)
def test_batched_scatter(name: str, layout: str):
    _, places, _, updates = LAYOUTS[layout]
    for mode in ("clip", "drop"):
        agree(
            scatter(name, layout, mode), numbers((5, 4)), starts(places), numbers(updates, seed=1)
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SCATTERS)
def test_scatter_of_every_dtype(name: str, dtype: str):
    if dtype == "?" and name == "scatter-sub":
        pytest.skip("booleans cannot be subtracted")
    if dtype == "c8" and name in ("scatter-min", "scatter-max"):
        pytest.skip("complex numbers have no order")
    for size in (5, 50):
        agree(
            scatter(name, "rows", "clip"),
            numbers((size, 4), dtype),
            starts((6, 1), "u1"),
            numbers((6, 4), dtype, seed=1),
        )


@pytest.mark.parametrize("begins", [(1, 1), (-3, 5), (100, -100), (3, 2)])
@pytest.mark.parametrize("shape", [(5, 4), (15, 14)])
def test_dynamic_slices(shape: Any, begins: Any):
    places = [np.array(i) for i in begins]
    agree(partial(ops.dynamic_slice, slice_sizes=(2, 3)), numbers(shape), *places)
    agree(ops.dynamic_update_slice, numbers(shape), numbers((2, 3), seed=1), *places)
    agree(ops.dynamic_update_slice, numbers(shape), np.zeros((0, 3)), *places)


def test_keys():
    def moved(seed: Any, places: Any) -> Any:
        keys = random_split(random_seed(seed, impl="fry"), shape=(5, 4))
        rows = gather("rows", "fill")(keys, places)
        keys = scatter("scatter", "rows", "drop")(keys, places[::-1], rows)
        i = places[0, 0]
        keys = ops.dynamic_update_slice(keys, keys[:2, :2], i, i)
        return ops.dynamic_slice(keys, i, i, slice_sizes=(3, 3))

    agree(moved, np.int32(3), starts((6, 1)))


@pytest.mark.parametrize("rows", [5, 20], ids=("registers", "memory"))
@pytest.mark.parametrize("mode", ["clip", "drop"])
@pytest.mark.parametrize("layout", ["rows", "blocks", "elements", "single"])
@pytest.mark.parametrize("constant", [True, False])
def test_in_a_loop(layout: str, mode: str, rows: int, constant: bool):
    places = starts(LAYOUTS[layout][1])
    read = gather(layout, mode if mode == "clip" else "fill", fill=0.5)
    write = scatter("scatter-add", layout, mode)

    def walk(x: Any, given: Any) -> Any:
        def step(i: Any, x: Any) -> Any:
            here = places if constant else given + i.astype(given.dtype)
            return write(x, here, read(x, here) * 0.5)

        return lax.fori_loop(0, 5, step, x)

    agree(walk, numbers((rows, 4)), places)


@pytest.mark.parametrize("count", [7, 300])
def test_batched_loop(count: int):
    def one(x: Any, i: Any) -> Any:
        def step(k: Any, x: Any) -> Any:
            x = x.at[(i + k) % 3].add(x[i] * 0.5)
            return ops.dynamic_update_slice(x, x[:1], k)

        return lax.fori_loop(0, 5, step, x)

    agree(cv.vmap(one), numbers((count, 3)), np.arange(count) % 3)


def test_an_array_is_read_and_updated_at_once():
    def shifted(x: Any, i: Any) -> Any:
        y = x * 2.0
        return y.at[i].add(y[i + 1]), cnp.sum(y)

    for count in (10, 100):
        x, i = numbers((count,)), np.arange(count - 1)
        found, total = cv.jit(shifted)(x, i)
        expected = 2 * x
        expected[:-1] += 2 * x[1:]
        np.testing.assert_array_equal(found, expected)
        assert float(total) == 2 * x.sum()
