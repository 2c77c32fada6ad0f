"""Every row of the op table, of every family: derivatives, batching and compilation.

Values against JAX or NumPy are in the files of the families.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import covector as cv
from covector.core import dtypes
from covector.testing.gradients import check_grads
from covector.testing.optable import OpRow, all_rows

ROWS = all_rows()


@pytest.fixture(autouse=True)
def _x64() -> Iterator[None]:
    with cv.enable_x64(True):
        yield


def widest(row: OpRow) -> str | None:
    """The dtype to check a row's derivatives with."""
    return next((d for d in ("f64", "c128") if d in row.dtypes), None)


def of_active(row: OpRow, operands: list[np.ndarray]) -> tuple[Callable[..., Any], list[Any]]:
    """The row as a function of its differentiable operands."""
    places = row.differentiable
    if places is None:
        places = tuple(k for k, x in enumerate(operands) if dtypes.is_inexact(x.dtype))

    def function(*xs: Any) -> Any:
        full: list[Any] = list(operands)
        for k, x in zip(places, xs, strict=True):
            full[k] = x
        results = row(*full)
        several = results if isinstance(results, (list, tuple)) else [results]
        return [r for r in several if dtypes.is_inexact(r.dtype)]

    return function, [operands[k] for k in places]


STEPS = ("convert_to_f16", "convert_to_bf16", "convert_to_f32", "convert_to_c64")
"""Rounding turns a function into steps, whose differences are not its derivative."""

UNDEFINED = ("gather_rows_or_fill",)
"""Results that are NaN whatever the operands have no differences."""


def has_differences(row: OpRow) -> bool:
    return row.name not in STEPS + UNDEFINED and not row.name.startswith("reduce_precision")


SMOOTH = [r for r in ROWS if r.order > 0 and widest(r) is not None and has_differences(r)]


@pytest.mark.parametrize("row", SMOOTH, ids=str)
def test_derivatives_are_difference_quotients(row: OpRow) -> None:
    dtype = widest(row)
    assert dtype is not None
    function, xs = of_active(row, row.sample(3, dtype, (2, 3)))
    modes = ("fwd", "rev") if row.reverse else ("fwd",)
    # Differences of differences of functions that vary fast are not sharp.
    check_grads(function, xs, min(row.order, 2), modes, atol=1e-5, rtol=1e-5)


def some_dtypes(row: OpRow) -> list[str]:
    """One dtype of each kind."""
    kinds = [("f32", "f64"), ("c64",), ("i32",), ("u8",), ("bool",)]
    return [d for d in [next((d for d in k if d in row.dtypes), None) for k in kinds] if d]


CASES = [(row, dtype) for row in ROWS for dtype in some_dtypes(row)]


def results_of(value: Any) -> list[np.ndarray]:
    return [np.asarray(x) for x in cv.tree.leaves(value)]


def assert_same(found: Any, expected: Any) -> None:
    for a, b in zip(results_of(found), results_of(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        if dtypes.is_inexact(a.dtype):
            near = 1e-4 if dtypes.real_of(a.dtype).itemsize == 4 else 1e-8
            scale = max(1.0, float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b))))
            np.testing.assert_allclose(a, b, rtol=near, atol=near * scale)
        else:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("row", "dtype"), CASES, ids=lambda v: str(v))
def test_a_batch_is_one_example_after_another(row: OpRow, dtype: str) -> None:
    examples = [row.sample(seed, dtype, (2, 3)) for seed in range(3)]
    stacked = [np.stack(xs) for xs in zip(*examples, strict=True)]
    one_by_one = [row(*xs) for xs in examples]
    expected = cv.tree.map(lambda *rs: np.stack([np.asarray(r) for r in rs]), *one_by_one)
    assert_same(cv.vmap(row)(*stacked), expected)
    for k in range(len(stacked)):
        axes = [1 if j == k else None for j in range(len(stacked))]
        operands = [
            np.stack([x[k] for x in examples], 1) if j == k and x0.ndim else x0
            for j, x0 in enumerate(examples[0])
        ]
        if not examples[0][k].ndim:
            continue
        one_by_one = [
            row(*[x[k] if j == k else x0 for j, x0 in enumerate(examples[0])]) for x in examples
        ]
        expected = cv.tree.map(lambda *rs: np.stack([np.asarray(r) for r in rs]), *one_by_one)
        assert_same(cv.vmap(row, axes)(*operands), expected)


@pytest.mark.parametrize("backend", ["reference", "native"])
@pytest.mark.parametrize(("row", "dtype"), CASES, ids=lambda v: str(v))
def test_compiled_code_computes_what_eager_code_does(row: OpRow, dtype: str, backend: str) -> None:
    if backend == "native" and not row.compiled:
        pytest.skip("native code cannot be made of it")
    operands = row.sample(1, dtype, (2, 3))
    assert_same(cv.jit(row, backend=backend)(*operands), row(*operands))
