"""Contraction: what becomes one operation, what stays two, and that both backends agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector.numpy as jnp
from covector import grad, jit, lax, vmap
from covector.core import config as settings

X = jnp.asarray(np.linspace(0.1, 3.0, 40, dtype=np.float32))


def names(f: Callable[..., Any], *args: Any) -> list[str]:
    text = jit(f).lower(*args).as_text("optimized")
    return [word for word in text.split() if word in ("mul", "add", "sub", "fma", "neg")]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x, y, z: x * y + z, ["fma"]),
        (lambda x, y, z: z + x * y, ["fma"]),
        (lambda x, y, z: x * y - z, ["neg", "fma"]),
        (lambda x, y, z: z - x * y, ["neg", "fma"]),
        (lambda x, y, z: x * y + z * x, ["mul", "fma"]),
        (lambda x, y, z: x * y - z * x, ["mul", "mul", "sub"]),
        (lambda x, y, z: (x * y + z, x * y), ["mul", "fma"]),
        (lambda x, y, z: (x * y + z) * z + y, ["fma", "fma"]),
        (lambda x, y, z: (x + y) * z, ["add", "mul"]),
    ],
)
def test_what_is_fused(function: Callable[..., Any], expected: list[str]) -> None:
    assert sorted(names(function, X, X + 1, X - 2)) == sorted(expected)
    ours = np.asarray(jit(function)(X, X + 1, X - 2))
    plain = np.asarray(function(*(np.asarray(a, np.float64) for a in (X, X + 1, X - 2))))
    np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)


def test_a_product_is_rounded_once_with_its_sum() -> None:
    small = 2.0**-12
    x = jnp.full(8, 1 + small)
    with settings.config.override("cpu", "native"):  # the oldest processors have no such operation
        assert np.all(np.asarray(jit(lambda x: x * x - (1 + 2 * small))(x)) == small**2)
    with settings.config.override("disable", "contraction"):
        assert np.all(np.asarray(jit(lambda x: x * x - (1 + 2 * small))(x)) == 0)


def test_equal_products_leave_no_difference() -> None:
    x, y = X, X[::-1]
    assert not np.any(np.asarray(jit(lambda x, y: x * y - y * x)(x, y)))
    assert not np.any(np.asarray(jit(lambda x, y: jnp.sqrt(x * x - y * y))(x, x + 0)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "complex64"])
def test_other_dtypes_keep_both_roundings(dtype: str) -> None:
    assert sorted(names(lambda x: x * x + x, X.astype(dtype))) == ["add", "mul"]


def test_weak_types_do_not_hide_a_product() -> None:
    assert names(lambda x: x * 0.5 + jnp.float32(1.0), 2.0) == ["fma"]


def test_loops_and_branches_are_reached() -> None:
    def loop(x: Any) -> Any:
        def body(carry: Any, _: Any) -> Any:
            return lax.cond(carry[0] > 1, lambda c: c * 0.5 + x, lambda c: c - c * x, carry), None

        return lax.scan(body, x, None, length=3)[0]

    assert names(loop, X).count("fma") == 2
    assert "fma" in names(vmap(grad(lambda x: loop(x[None])[0])), X)
