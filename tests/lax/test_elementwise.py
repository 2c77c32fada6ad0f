"""Functions of `lax` without a counterpart in `numpy`, against JAX."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from covector import lax

CASES: list[tuple[str, tuple[Any, ...]]] = [
    ("igamma", (1.5, 2.0)),
    ("igammac", (1.5, 2.0)),
    ("igamma_grad_a", (1.5, 2.0)),
    ("random_gamma_grad", (1.5, 2.0)),
    ("zeta", (2.5, 3.0)),
    ("polygamma", (1.0, 2.0)),
    ("betainc", (1.5, 2.0, 0.3)),
    ("bessel_i0e", (1.5,)),
    ("bessel_i1e", (1.5,)),
    ("reciprocal", (3.0,)),
    ("mulhi", (np.int32(1 << 30), np.int32(8))),
    ("round", (2.5, 0)),
    ("round", (2.5, 1)),
]


@pytest.mark.parametrize(("name", "args"), CASES)
def test_values_are_those_of_jax(name: str, args: tuple[Any, ...]) -> None:
    args = tuple([np.float32(x) if isinstance(x, float) else x for x in args])
    if name == "round":
        expected = jax.lax.round(args[0], jax.lax.RoundingMethod(args[1]))
        found = lax.round(args[0], lax.RoundingMethod(args[1]))
    else:
        expected, found = getattr(jax.lax, name)(*args), getattr(lax, name)(*args)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=2e-6)
