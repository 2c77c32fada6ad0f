"""Matrix primitives and keys: native code against eager evaluation."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import covector as cv
from covector import lax
from covector.ops import linalg as ops
from covector.ops import random as keys

DTYPES = ("f4", "f8", "c8", "c16")
# Registers, straight-line code for a few and for many matrices, LAPACK.
CASES = [(1, ()), (3, ()), (8, (2,)), (4, (37,)), (3, (3, 7)), (9, ()), (20, (2,))]


@pytest.fixture(autouse=True)
def x64():
    with cv.enable_x64(True):
        yield


def numbers(shape: tuple[int, ...], dtype: str = "f8", seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        parts = parts + 1j * rng.normal(size=shape)
    return np.asarray(parts, dtype)


def adjoint(x: Any) -> Any:
    return np.swapaxes(np.asarray(x).conj(), -1, -2)


def positive(shape: tuple[int, ...], dtype: str = "f8") -> Any:
    x = numbers(shape, dtype)
    return np.asarray(x @ adjoint(x) + 2 * np.eye(shape[-1]), dtype)


def close(found: Any, expected: Any, factor: float = 1e4) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if found.dtype.kind in "iu":
        np.testing.assert_array_equal(found, expected)
        return
    tolerance = factor * np.finfo(found.dtype).eps
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def agree(fn: Any, *args: Any) -> None:
    expected, found = cv.jit(fn, backend="reference")(*args), cv.jit(fn, backend="native")(*args)
    if not isinstance(expected, list):
        expected, found = [expected], [found]
    for a, b in zip(found, expected, strict=True):
        assert a.aval == b.aval
        close(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "batch"), CASES)
def test_cholesky(n: int, batch: Any, dtype: str):
    agree(ops.cholesky, positive((*batch, n, n), dtype))


@pytest.mark.parametrize("n", [3, 13])
@pytest.mark.parametrize("dtype", ["f8", "c8"])
def test_cholesky_of_indefinite_matrices(n: int, dtype: str):
    x = np.stack([np.eye(n), -np.eye(n), 2 * np.eye(n)]).astype(dtype)
    found = np.asarray(cv.jit(ops.cholesky, backend="native")(x))
    assert np.isnan(found[1].real).all()
    close(found[[0, 2]], np.linalg.cholesky(x[[0, 2]]))


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("trans", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("n", "batch", "columns"), [(3, (), 5), (4, (37,), 2), (5, (2,), 11), (9, (2,), 3)]
)
def test_triangular_solve(n: int, batch: Any, columns: int, left: bool, lower: bool, trans: int):
    solve = partial(
        ops.triangular_solve,
        left_side=left,
        lower=lower,
        transpose_a=bool(trans & 1),
        conjugate_a=bool(trans & 2),
        unit_diagonal=trans == 1,
    )
    a = numbers((*batch, n, n), "c16") * 0.3 + 2 * np.eye(n)
    core = (n, columns) if left else (columns, n)
    agree(solve, a, numbers((*batch, *core), "c16", seed=1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "batch"), CASES)
def test_lu(n: int, batch: Any, dtype: str):
    agree(ops.lu, numbers((*batch, n, n), dtype))


@pytest.mark.parametrize(
    "shape", [(5, 3), (3, 5), (20, 2, 5), (12, 10), (10, 12), (0, 3), (2, 3, 0)]
)
def test_rectangular_lu(shape: Any):
    agree(ops.lu, numbers(shape))


def test_singular_lu():
    agree(ops.lu, np.ones((3, 3)))
    agree(ops.lu, np.zeros((12, 12)))
    agree(
        partial(ops.lu_pivots_to_permutation, permutation_size=5),
        np.array([[2, 1, 3], [0, 3, 2]], np.int32),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 3), (2, 5, 3), (3, 5), (12, 9)])
@pytest.mark.parametrize("full", [True, False])
def test_qr(shape: Any, full: bool, dtype: str):
    agree(partial(ops.qr, pivoting=False, full_matrices=full), numbers(shape, dtype))


def test_reflections():
    x = numbers((2, 5, 3))
    agree(ops.geqrf, x)
    agree(lambda x: ops.householder_product(*ops.geqrf(x)), x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 3), (2, 9, 9), (0, 0)])
def test_eigh(shape: Any, dtype: str):
    x = positive(shape, dtype)
    for lower in (True, False):
        decompose = partial(
            ops.eigh, lower=lower, sort_eigenvalues=True, subset_by_index=None, algorithm=None
        )
        part = np.tril(x) if lower else np.triu(x)
        vectors, values = cv.jit(decompose, backend="native")(part)
        close(values, np.linalg.eigvalsh(x))
        close((np.asarray(vectors) * np.asarray(values)[..., None, :]) @ adjoint(vectors), x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 3), (2, 5, 3), (9, 12)])
def test_svd(shape: Any, dtype: str):
    x = numbers(shape, dtype)
    options = {"subset_by_index": None, "algorithm": None}
    values = partial(ops.svd, compute_uv=False, full_matrices=False, **options)
    agree(values, x)
    for full in (True, False):
        decompose = partial(ops.svd, compute_uv=True, full_matrices=full, **options)
        s, u, vh = cv.jit(decompose, backend="native")(x)
        rank = s.shape[-1]
        product = np.asarray(u)[..., :rank] * np.asarray(s)[..., None, :]
        close(product @ np.asarray(vh)[..., :rank, :], x)


def test_parts_of_spectra():
    x = positive((5, 5))
    some = {"subset_by_index": (1, 3), "algorithm": None}
    agree(lambda x: ops.eigh(x, lower=True, sort_eigenvalues=True, **some)[1], x)
    agree(lambda x: ops.svd(x, compute_uv=True, full_matrices=False, **some)[0], x)


def test_nan_is_not_decomposed():
    x = np.stack([positive((3, 3)), np.full((3, 3), np.nan)])
    options = {"subset_by_index": None, "algorithm": None}
    values = cv.jit(lambda x: ops.eigh(x, lower=True, sort_eigenvalues=True, **options)[1])(x)
    assert np.isnan(np.asarray(values)[1]).all()
    close(np.asarray(values)[0], np.linalg.eigvalsh(x[0]))


@pytest.mark.parametrize("n", [3, 12])
def test_in_a_loop(n: int):
    flags = {"transpose_a": False, "conjugate_a": False, "unit_diagonal": False}

    def walk(x: Any) -> Any:
        def step(_: Any, y: Any) -> Any:
            factor = ops.cholesky(y @ y.T * 0.1 + x)
            y = ops.triangular_solve(factor, y, left_side=True, lower=True, **flags)
            return ops.lu(y + x)[0]

        return lax.fori_loop(0, 3, step, x)

    agree(walk, positive((n, n)))
    agree(cv.vmap(walk), positive((19, n, n)))


def test_derivatives():
    def loss(x: Any) -> Any:
        return ops.cholesky(x).sum() + ops.lu(x)[0].sum()

    for n in (3, 9):
        agree(cv.grad(loss), positive((n, n)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n", "batch", "columns"),
    [(1, (), 1), (2, (3,), 2), (5, (), 40), (30, (7, 5), 1), (4, (0,), 2)],
)
def test_tridiagonal_solve(n: int, batch: Any, columns: int, dtype: str):
    diagonals = [numbers((*batch, n), dtype, seed) for seed in (1, 2, 3)]
    agree(
        partial(ops.tridiagonal_solve, perturb_singular=False),
        *diagonals,
        numbers((*batch, n, columns), dtype),
    )


def test_singular_tridiagonal_systems():
    zero = np.zeros((3, 4))
    middle = np.array([[1.0, 2, 3, 4], [1, 0, 1, 1], [1, 1, 1, 0]])
    agree(
        partial(ops.tridiagonal_solve, perturb_singular=False),
        zero,
        middle,
        zero,
        numbers((3, 4, 2)),
    )


def test_what_calls_back():
    x = numbers((2, 4, 4))
    agree(
        partial(ops.schur, compute_schur_vectors=True, sort_eig_vals=False, select_callable=None),
        x,
    )
    agree(ops.hessenberg, x)
    agree(partial(ops.tridiagonal, lower=True), positive((2, 4, 4)))
    agree(partial(ops.qr, pivoting=True, full_matrices=True), numbers((5, 3)))
    agree(
        partial(
            ops.eig,
            compute_left_eigenvectors=True,
            compute_right_eigenvectors=True,
            enable_eigvec_derivs=False,
            implementation=None,
        ),
        x,
    )


# --- keys -----------------------------------------------------------------------------------------


def words(fn: Any) -> Any:
    """A function of a seed that makes keys, as one that returns their words."""
    return lambda seed: keys.random_unwrap(fn(keys.random_seed(seed, impl="fry")))


@pytest.mark.parametrize("shape", [(), (3,), (300,), (2, 30)])
def test_split(shape: Any):
    split = words(lambda key: keys.random_split(key, shape=shape))
    agree(split, np.int64(2**40 + 7))
    agree(split, np.arange(4, dtype=np.uint32))


@pytest.mark.parametrize("width", [8, 16, 32, 64])
@pytest.mark.parametrize("dtype", ["i8", "i4", "u1"])
def test_bits(width: int, dtype: str):
    def draw(seed: Any) -> Any:
        key = keys.random_seed(seed, impl="fry")
        return keys.random_bits(keys.random_clone(key), bit_width=width, shape=(3, 5))

    for seed in (np.array(100, dtype), np.arange(4, dtype=dtype)):
        expected = cv.jit(draw, backend="reference")(seed)
        np.testing.assert_array_equal(cv.jit(draw, backend="native")(seed), expected)


def test_fold_in_and_hash():
    data = np.arange(4, dtype=np.uint32)
    for seed in (np.int64(2**40), np.arange(4)):
        agree(words(lambda key: keys.random_fold_in(key, data)), seed)
        agree(words(lambda key: keys.random_fold_in(key, data[3])), seed)
    agree(keys.threefry2x32, data[1], data[2], data, data[::-1].copy())
    agree(lambda w: keys.random_unwrap(keys.random_wrap(w, impl="fry")), data.reshape(2, 2))


def test_keys_in_a_loop():
    def walk(seed: Any) -> Any:
        def step(i: Any, carry: Any) -> Any:
            key, total = carry
            pair = keys.random_split(key, shape=(2,))
            bits = keys.random_bits(pair[1], bit_width=32, shape=(3,))
            more = keys.random_fold_in(pair[1], i.astype(np.uint32))
            return pair[0], total + bits + keys.random_bits(more, bit_width=32, shape=(3,))

        start = (keys.random_seed(seed, impl="fry"), np.zeros(3, np.uint32))
        return lax.fori_loop(0, 5, step, start)[1]

    agree(walk, np.int64(3))
    agree(cv.vmap(walk), np.arange(19))
