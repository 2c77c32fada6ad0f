"""Symbolic sizes as values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.export import symbolic_shape
from covector.ops.dimension import dimension_size

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: cnp.sum(x) / x.shape[0],
        lambda x: x.shape[0] * x,
        lambda x: x + x.size,
        lambda x: x.shape[0] - 1 - x.astype(int),
        cnp.mean,
        lambda x: cnp.var(x, axis=0),
        cnp.average,
        lambda x: cv.grad(lambda v: cnp.mean(v**2))(x),
        lambda x: cv.vmap(lambda row: row / x.shape[0])(x),
        lambda x: lax.fori_loop(0, 3, lambda i, c: c + x.shape[0] * i, 0),
        lambda x: lax.scan(lambda c, r: (c + r / x.shape[0], c), cnp.zeros(3), x),
    ],
)
def test_sizes_are_values(function: Callable[[Any], Any], backend: str) -> None:
    shape = cv.ShapeDtypeStruct(symbolic_shape("n, 3"), "float32")
    found = cv.jit(function, backend=backend).lower(shape).compile()(X)
    wanted = cv.jit(function)(X)
    for a, b in zip(cv.tree.leaves(found), cv.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_size_is_an_integer() -> None:
    assert int(dimension_size(size=3, dtype=np.dtype(np.int32))) == 3
    with pytest.raises(TypeError, match="a size is an integer"):
        dimension_size(size=3, dtype=np.dtype(np.float32))
