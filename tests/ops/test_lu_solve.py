"""Systems of equations with factors at hand."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
from covector.ops.lu import lu
from covector.ops.lu_solve import lu_solve, solve
from covector.testing.optable import cases, ulps_between
from covector.testing.rows import linalg


def numbers(shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng((seed, *shape))
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def factored(a):
    factors, _, rows = lu(a)
    return a, factors, rows


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
@pytest.mark.parametrize("shape", [(3, 3), (12, 12), (2, 3, 3), (33, 2, 2), (2, 12, 12)], ids=str)
def test_values(shape, dtype, transposed):
    with cv.enable_x64(True):
        a = numbers(shape, dtype) + 3 * np.eye(shape[-1], dtype=dtype)
        b = numbers((*shape[:-1], 2), dtype, 1)
        wanted = np.linalg.solve(np.swapaxes(a, -1, -2) if transposed else a, b)
        function = partial(lu_solve, transposed=transposed)
        tolerance = 1e-3 if dtype == np.float32 else 1e-9
        for call in (function, cv.jit(function)):
            found = call(*factored(a), b)
            assert found.dtype == dtype
            np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_derivatives(dtype, transposed):
    def ours(a, b):
        return lu_solve(*factored(cv.lax.stop_gradient(a)), b, transposed=transposed)

    def through(a, b):
        constant = factored(cv.lax.stop_gradient(a))
        return lu_solve(a, *constant[1:], b, transposed=transposed)

    def theirs(a, b):
        return jnp.linalg.solve(a.mT if transposed else a, b)

    with cv.enable_x64(True), jax.enable_x64(True):
        a, b = numbers((4, 4), dtype), numbers((4, 3), dtype, 1)
        t = numbers((4, 4), dtype, 2), numbers((4, 3), dtype, 3)
        ct = numbers((4, 3), dtype, 4)
        forward = jax.jvp(theirs, (a, b), t)[1]
        np.testing.assert_allclose(cv.jvp(through, (a, b), t)[1], forward, rtol=1e-8)
        backward = jax.vjp(theirs, a, b)[1](ct)
        for found, wanted in zip(cv.vjp(through, a, b)[1](ct), backward, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-9)
        # The factors alone carry no derivative.
        np.testing.assert_array_equal(cv.vjp(ours, a, b)[1](ct)[0], np.zeros((4, 4)))


@pytest.mark.parametrize("transposed", [False, True])
def test_batching(transposed):
    with cv.enable_x64(True):
        a, b = numbers((5, 3, 3)) + 3 * np.eye(3), numbers((5, 3, 2), seed=1)
        for axes in ((0, 0), (0, None), (None, 0), (None, 2)):
            args = [x[0] if axis is None else x for x, axis in zip((a, b), axes, strict=True)]
            if axes[1] == 2:
                args[1] = np.moveaxis(args[1], 0, 2)

            def function(a, b):
                return lu_solve(*factored(a), b, transposed=transposed)

            matrices = np.swapaxes(a, -1, -2) if transposed else a
            matrices = matrices if axes[0] == 0 else matrices[:1]
            wanted = np.linalg.solve(matrices, b if axes[1] is not None else b[:1])
            mapped = cv.vmap(function, in_axes=axes)
            np.testing.assert_allclose(mapped(*args), wanted, rtol=1e-9)
            np.testing.assert_allclose(cv.jit(mapped)(*args), wanted, rtol=1e-9)


@pytest.mark.parametrize("shape", [(0, 0), (0, 2, 2), (2, 0, 0)], ids=str)
def test_empty(shape):
    a = np.zeros(shape, np.float32)
    b = np.zeros((*shape[:-1], 3), np.float32)
    for call in (solve, cv.jit(solve)):
        assert call(a, b).shape == b.shape


def test_errors():
    a, factors, rows = factored(np.eye(3, dtype=np.float32))
    b = np.ones((3, 1), np.float32)
    call = partial(lu_solve, transposed=False)
    with pytest.raises(ValueError, match="3 rows"):
        call(a, factors, rows, np.ones((2, 1), np.float32))
    with pytest.raises(TypeError, match="equal dtype"):
        call(a, factors, rows, b.astype(np.complex64))
    with pytest.raises(TypeError, match="batch axes"):
        call(a, factors, rows, np.ones((2, 3, 1), np.float32))
    with pytest.raises(ValueError, match="square"):
        call(np.ones((3, 2), np.float32), factors, rows, b)


ROWS = [row for row in linalg.ROWS if row.name.startswith("lu_solve")]


@pytest.mark.parametrize(("row", "dtype"), list(cases(tuple(ROWS))), ids=str)
def test_rows(row, dtype):
    with cv.enable_x64(True):
        operands = row.sample(0, dtype, ())
        complex_ = operands[0].dtype.kind == "c"
        wide = [x.astype(np.complex128 if complex_ else np.float64) for x in operands]
        for found in (row.op(*operands), cv.jit(row.op)(*operands)):
            wanted = row.numpy(*wide).astype(found.dtype)
            assert ulps_between(np.asarray(found), wanted, row.roots).max() <= row.ulps
