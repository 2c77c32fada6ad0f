"""`reduce` by a program against jax.lax.reduce: values, derivatives, batching, native code."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from jax import lax

import covector as cv
from covector.core.avals import Aval
from covector.core.trace import trace_program
from covector.ops.elementwise import add, convert_element_type, ge, gt, mul, select_n
from covector.ops.fold import reduce_
from covector.ops.reduce import reduce_sum
from covector.ops.shape import broadcast_in_dim

F32, I32 = np.dtype(np.float32), np.dtype(np.int32)


def program(fn: Any, *dtypes: Any) -> Any:
    scalars = [Aval((), np.dtype(dtype)) for dtype in dtypes]
    return trace_program(fn, scalars + scalars)[0]


def first_of_greatest(x: Any, i: Any, y: Any, j: Any) -> list[Any]:
    keep = ge(x, y)
    return [select_n(keep, y, x), select_n(keep, j, i)]


def jax_first_of_greatest(x: Any, y: Any) -> Any:
    keep = x[0] >= y[0]
    return lax.select(keep, x[0], y[0]), lax.select(keep, x[1], y[1])


SUM_AND_GREATEST = program(
    lambda s, p, t, q: [add(s, t), select_n(gt(p, q), q, p)], np.float64, np.float64
)


def sum_and_greatest(x: Any, y: Any) -> Any:
    return x[0] + y[0], lax.select(x[1] > y[1], x[1], y[1])


@pytest.fixture(autouse=True)
def x64():
    with cv.enable_x64(True), jax.enable_x64(True):
        yield


def drawn(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize("dimensions", [(0,), (1, 2), (0, 1, 2), ()])
@pytest.mark.parametrize("compiled", [False, True])
def test_values(dimensions, compiled):
    x = drawn(3, 4, 6).astype(F32)
    places = np.arange(72, dtype=I32).reshape(3, 4, 6)
    both = program(first_of_greatest, F32, I32)
    start = np.float32(-np.inf), np.int32(-1)

    def ours(*xs: Any) -> Any:
        return reduce_(*xs, *start, program=both, dimensions=dimensions)

    found = (cv.jit(ours) if compiled else ours)(x, places)
    expected = lax.reduce((x, places), start, jax_first_of_greatest, dimensions)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_programs_that_are_not_elementwise():
    def by_sums(x: Any, y: Any) -> list[Any]:
        return [
            reduce_sum(broadcast_in_dim(add(x, y), shape=(1,), broadcast_dimensions=()), axes=(0,))
        ]

    x = drawn(3, 5).astype(F32)
    (found,) = reduce_(x, np.float32(1), program=program(by_sums, F32), dimensions=(1,))
    np.testing.assert_allclose(np.asarray(found), 1 + x.sum(1), rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_derivatives(n):
    x, y = drawn(2, n, 3), drawn(2, n, 3) + 1
    # JAX forgets initial values other than identities in the jvp.
    start = np.float64(0), np.float64(-9)

    def ours(x: Any, y: Any) -> Any:
        s, p = reduce_(x, y, *start, program=SUM_AND_GREATEST, dimensions=(1,))
        return mul(s, p)

    def theirs(x: Any, y: Any) -> Any:
        s, p = lax.reduce((x, y), start, sum_and_greatest, (1,))
        return s * p

    tangents = drawn(2, n, 3), np.cos(drawn(2, n, 3))
    found, expected = cv.jvp(ours, (x, y), tangents), jax.jvp(theirs, (x, y), tangents)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-12)
    ct = drawn(2, 3)
    for a, b in zip(cv.vjp(ours, x, y)[1](ct), jax.vjp(theirs, x, y)[1](ct), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-12)


@pytest.mark.parametrize("n", [0, 1, 4])
def test_derivatives_with_initial_values(n):
    x = drawn(n)
    times = program(lambda x, y: [mul(x, y)], np.float64)

    def product(x: Any, start: Any) -> Any:
        return reduce_(x, start, program=times, dimensions=(0,))[0]

    found, tangent = cv.jvp(product, (x, np.float64(3)), (np.ones(n), np.float64(0.5)))
    assert float(found) == pytest.approx(3 * np.prod(x))
    others = [np.prod(np.delete(x, k)) for k in range(n)]
    assert float(tangent) == pytest.approx(3 * np.sum(others) + 0.5 * np.prod(x))


def test_batching():
    x, y = drawn(4, 3, 5), drawn(3, 5)

    def ours(x: Any) -> Any:
        start = np.float64(0), np.float64(-9)
        return reduce_(x, y, *start, program=SUM_AND_GREATEST, dimensions=(0,))

    found = cv.vmap(ours)(x)
    np.testing.assert_allclose(np.asarray(found[0]), x.sum(1))
    np.testing.assert_allclose(np.asarray(found[1]), np.broadcast_to(y.max(0), (4, 5)))


def test_errors():
    narrow = program(lambda x, y: [add(x, convert_element_type(y, new_dtype=F32))], F32)
    with pytest.raises(TypeError, match="takes"):
        reduce_(np.ones(3, I32), np.int32(0), program=narrow, dimensions=(0,))
    with pytest.raises(ValueError, match="dimensions"):
        reduce_(np.ones(3, F32), np.float32(0), program=narrow, dimensions=(1,))
