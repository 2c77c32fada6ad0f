"""`lax.reduce` against JAX."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import covector as cv
from covector import lax

X = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)

CASES: list[tuple[Any, Any, Any]] = [
    (lambda m: m.add, 0.0, (1,)),
    (lambda m: m.add, 1.5, (0, 2)),
    (lambda m: m.mul, 1.0, (2,)),
    (lambda m: m.max, -np.inf, (0, 1, 2)),
    (lambda m: lambda x, y: x + y + x * y, 0.0, (1,)),
    (lambda m: m.min, 0.0, ()),
]


@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("jit", [False, True])
def test_one_array(case: int, jit: bool) -> None:
    computation, start, axes = CASES[case]

    def reduced(m: Any) -> Any:
        return lambda x: m.reduce(x, np.float32(start), computation(m), axes)

    ours = cv.jit(reduced(lax)) if jit else reduced(lax)
    expected = jax.jit(reduced(jax.lax))(X)
    np.testing.assert_allclose(np.asarray(ours(X)), np.asarray(expected), rtol=1e-5)
    np.testing.assert_allclose(
        np.asarray(cv.vmap(reduced(lax))(X[None])[0]), np.asarray(expected), rtol=1e-5
    )


def test_several_arrays_and_derivatives() -> None:
    def extreme(m: Any) -> Any:
        def later(x: Any, y: Any) -> Any:
            (a, i), (b, j) = x, y
            return m.select(a >= b, a, b), m.select(a >= b, i, j)

        return lambda x, k: m.reduce((x, k), (np.float32(-9), np.int32(0)), later, (0,))

    places = np.arange(24, dtype=np.int32).reshape(X.shape)
    for found, expected in zip(
        cv.jit(extreme(lax))(X, places), jax.jit(extreme(jax.lax))(X, places), strict=True
    ):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    total = cv.grad(lambda x: lax.reduce(x, 0.0, lax.add, (0, 1, 2)))(X)
    np.testing.assert_array_equal(np.asarray(total), np.ones_like(X))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: lax.reduce((X, X), 0.0, lax.add, (0,)), ValueError, "same pytree"),
        (lambda: lax.reduce(X, 0.0, lax.add, (3,)), ValueError, "from 0 to 2"),
        (lambda: lax.reduce(X, 0.0, lambda x, y: (x, y), (0,)), TypeError, "what it takes"),
    ],
)
def test_errors(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
