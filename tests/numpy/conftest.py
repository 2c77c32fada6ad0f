"""Comparison with NumPy for values and with JAX for types, or with JAX for both."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import covector.numpy as cnp

Array = np.ndarray[Any, Any]

# With "jax", all values are compared with JAX's, which takes long: it compiles every operation.
ORACLE = os.environ.get("COVECTOR_TEST_ORACLE", "numpy")

TOLERANCES = {
    np.dtype(np.float16): 4e-3,
    np.dtype(ml_dtypes.bfloat16): 3e-2,
    np.dtype(np.float32): 1e-5,
    np.dtype(np.complex64): 1e-5,
    np.dtype(np.float64): 1e-12,
    np.dtype(np.complex128): 1e-12,
}


class Twins:
    """Runs a function of a NumPy-like module, ours and theirs, and compares."""

    def agree(
        self,
        fn: Callable[..., Any],
        *args: Any,
        values: str = "numpy",
        rtol: float | None = None,
        reference: Callable[..., Any] | None = None,
    ) -> None:
        """Types are those of JAX, values those of NumPy on wider floats, or of JAX.

        Args:
            fn: takes a module and the arguments.
            args: NumPy arrays.
            values: "numpy" or "jax".
            rtol: tolerance, by default that of the dtype.
            reference: replaces `fn` for NumPy.
        """
        ours = leaves(fn(cnp, *args))
        if "jax" in (values, ORACLE):
            expected = [np.asarray(x) for x in leaves(fn(jnp, *args))]
            kinds = [(x.shape, x.dtype) for x in expected]
        else:
            shapes = leaves(jax.eval_shape(lambda *xs: fn(jnp, *xs), *args))
            kinds = [(x.shape, x.dtype) for x in shapes]
            expected = in_numpy(reference or fn, args, kinds)
        assert [(x.shape, x.dtype) for x in ours] == kinds
        for found, wanted in zip(ours, expected, strict=True):
            close(found, wanted, rtol)

    def sample(self, dtype: Any, shape: tuple[int, ...] = (3, 4), seed: int = 0) -> Array:
        """Small numbers of a dtype, whole, repeated and negative ones among them."""
        rng = np.random.default_rng(seed)
        dtype = np.dtype(dtype)
        if dtype.kind in "bu":
            return rng.integers(0, 2 if dtype.kind == "b" else 9, shape).astype(dtype)
        if dtype.kind == "i":
            return rng.integers(-6, 7, shape).astype(dtype)
        numbers = np.round(rng.normal(size=shape) * 2, 1)
        if dtype.kind == "c":
            numbers = numbers + 1j * np.round(rng.normal(size=shape), 1)
        return np.asarray(numbers, dtype)


def leaves(tree: Any) -> list[Any]:
    if isinstance(tree, (list, tuple)):
        return [leaf for part in tree for leaf in leaves(part)]
    return [tree]


def in_numpy(fn: Callable[..., Any], args: Any, kinds: Any) -> list[Any]:
    """NumPy's results for wider operands.

    Where all results are floats, integers are widened too, and bools as the first operand (others
    are masks).
    """
    floats = all(d.kind in "fcV" for _, d in kinds)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return leaves(fn(np, *[widened(x, floats, k == 0) for k, x in enumerate(args)]))


def widened(x: Any, integers: bool, bools: bool) -> Any:
    if not isinstance(x, np.ndarray) or (x.dtype.kind == "b" and not bools):
        return x
    if x.dtype.kind == "c":
        return x.astype(np.complex128)
    return x.astype(np.float64) if integers or x.dtype.kind in "fV" else x


def close(found: Any, wanted: Any, rtol: float | None = None) -> None:
    """Equal up to the tolerance of the dtype; integers and bools exactly."""
    dtype = np.dtype(found.dtype)
    with np.errstate(all="ignore"):
        expected = np.asarray(wanted).astype(dtype)
    actual = np.asarray(found)
    assert actual.shape == expected.shape
    if dtype.kind in "biu":
        np.testing.assert_array_equal(actual, expected)
        return
    tolerance = TOLERANCES[dtype] if rtol is None else rtol
    if dtype.kind == "V":
        actual, expected = actual.astype(np.float32), expected.astype(np.float32)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


DTYPES = [np.bool_, np.int32, np.uint8, np.float32, np.float16, np.complex64]


@pytest.fixture
def twins() -> Twins:
    return Twins()


@pytest.fixture(params=DTYPES, ids=lambda d: np.dtype(d).name)
def dtype(request: pytest.FixtureRequest) -> np.dtype[Any]:
    return np.dtype(request.param)
