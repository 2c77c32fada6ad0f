"""`covector.scipy.linalg` against SciPy for values, JAX for types and derivatives."""

from __future__ import annotations

import doctest
import importlib
from functools import partial

import jax
import jax.scipy.linalg as theirs
import numpy as np
import pytest
import scipy.linalg

import covector as cv
import covector.numpy as cnp
from covector.scipy import linalg

TYPES = [np.float32, np.complex64, np.int32]


def sample(dtype, shape, seed=0):
    rng = np.random.default_rng((seed, *shape))
    x = rng.normal(size=shape) * 2
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.normal(size=shape)
    return np.round(x).astype(dtype) if np.dtype(dtype).kind == "i" else x.astype(dtype)


def definite(x):
    product = x @ np.swapaxes(np.conj(x), -1, -2)
    return (product + 5 * np.eye(x.shape[-1])).astype(x.dtype)


def leaves(found):
    return [leaf for part in found for leaf in leaves(part)] if type(found) is tuple else [found]


def agree(name, *args, **options):
    """Values are SciPy's in double precision; shapes and dtypes JAX's."""
    found = leaves(getattr(linalg, name)(*args, **options))
    kinds = jax.eval_shape(partial(getattr(theirs, name), **options), *args)
    wide = [np.asarray(x, np.complex128 if x.dtype.kind == "c" else np.float64) for x in args]
    wanted = leaves(getattr(scipy.linalg, name)(*wide, **options))
    for ours, kind, value in zip(found, leaves(kinds), wanted, strict=True):
        assert (ours.shape, ours.dtype) == (kind.shape, kind.dtype)
        np.testing.assert_allclose(ours, value, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", TYPES)
def test_factors(dtype):
    x, wide, tall = (sample(dtype, shape) for shape in [(4, 4), (3, 5), (5, 3)])
    for lower in (True, False):
        agree("cholesky", definite(x), lower=lower)
    for matrix in (x, wide, tall):
        agree("lu", matrix)
        agree("lu", matrix, permute_l=True)
        for pivoting in (False, True):
            for mode in ("full", "economic"):
                q, r, *p = linalg.qr(matrix, mode=mode, pivoting=pivoting)
                columns = np.asarray(p[0]) if pivoting else slice(None)
                np.testing.assert_allclose(q @ r, matrix[:, columns], atol=1e-4)
                alone = linalg.qr(matrix, mode="r", pivoting=pivoting)
                assert len(alone) == 1 + pivoting
        u, s, vh = linalg.svd(matrix, full_matrices=False)
        np.testing.assert_allclose((u * s) @ vh, matrix, atol=1e-4)
        agree("svd", matrix, compute_uv=False)
    agree("lu_factor", x)
    agree("det", x)
    agree("inv", x)
    hermitian = x + x.T.conj()
    agree("eigh", hermitian, eigvals_only=True)
    w, v = linalg.eigh(hermitian)
    np.testing.assert_allclose(v * w, hermitian @ v, atol=1e-4)


@pytest.mark.parametrize("dtype", TYPES)
def test_forms(dtype):
    x = sample(dtype, (2, 4, 4))
    for output in ("real", "complex"):
        t, z = linalg.schur(x, output)
        found = z @ t @ cnp.swapaxes(z.conj(), -1, -2)
        np.testing.assert_allclose(found, x, atol=1e-4)
    np.testing.assert_array_equal(linalg.schur(x, "complex")[0], np.triu(t))
    h, q = linalg.hessenberg(x, calc_q=True)
    np.testing.assert_allclose(q @ h @ cnp.swapaxes(q.conj(), -1, -2), x, atol=1e-4)
    np.testing.assert_array_equal(np.tril(h, -2), 0)
    np.testing.assert_array_equal(linalg.hessenberg(x), h)


@pytest.mark.parametrize("method", ["svd", "qdwh"])
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)], ids=str)
def test_polar(shape, method):
    x = sample(np.complex64, shape)
    for side in ("right", "left"):
        for ours, wanted in zip(
            linalg.polar(x, side, method=method), scipy.linalg.polar(x, side), strict=True
        ):
            np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4)


# --- systems --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("vector", [True, False])
def test_systems(dtype, vector):
    x = sample(dtype, (4, 4)) + (6 * np.eye(4)).astype(dtype)
    b = sample(dtype, (4,) if vector else (4, 3), 1)
    agree("solve", x, b)
    for lower in (True, False):
        found = linalg.solve(definite(x), b, lower=lower, assume_a="pos")
        np.testing.assert_allclose(definite(x) @ found, b, atol=1e-3)
        factored = linalg.cho_factor(definite(x), lower=lower)
        np.testing.assert_allclose(linalg.cho_solve(factored, b), found, rtol=1e-3, atol=1e-4)
        for trans in (0, 1, 2, "N", "T", "C"):
            for unit in (False, True):
                options = {"trans": trans, "lower": lower, "unit_diagonal": unit}
                found = linalg.solve_triangular(x, b, **options)
                wanted = scipy.linalg.solve_triangular(x, b, **options)
                np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-2)
    for trans, matrix in ((0, x), (1, x.T), (2, x.T.conj())):
        found = linalg.lu_solve(linalg.lu_factor(x), b, trans=trans)
        np.testing.assert_allclose(matrix @ found, b, atol=1e-4)


def test_batches_of_systems_broadcast():
    x = sample(np.float32, (2, 4, 4)) + 6 * np.eye(4, dtype=np.float32)
    for shape in [(4,), (4, 3), (2, 4, 3), (5, 1, 4, 3)]:
        b = sample(np.float32, shape, 1)
        wanted = np.linalg.solve(x, b if len(shape) > 1 else b[:, None])
        wanted = wanted if len(shape) > 1 else wanted[..., 0]
        np.testing.assert_allclose(linalg.solve(x, b), wanted, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(
            linalg.lu_solve(linalg.lu_factor(x), b), wanted, rtol=1e-3, atol=1e-4
        )
        positive = definite(x)
        found = linalg.solve(positive, b, assume_a="pos")
        np.testing.assert_allclose(found, linalg.solve(positive, b), rtol=1e-3, atol=1e-4)
        upper = linalg.solve_triangular(x, b)
        np.testing.assert_allclose(upper, linalg.solve(np.triu(x), b), rtol=1e-3, atol=1e-4)


# --- the exponential ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("scale", [0.01, 1, 5])
def test_expm(dtype, scale):
    x = (sample(dtype, (4, 4)) * scale).astype(dtype)
    found = linalg.expm(x)
    assert found.dtype == (dtype if dtype != np.int32 else np.float32)
    wanted = scipy.linalg.expm(x.astype(np.complex128))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * abs(wanted).max())


def test_expm_in_double_precision():
    with cv.enable_x64(True):
        for scale in (0.0, 1e-8, 0.3, 2.0, 30.0):
            x = sample(np.float64, (3, 5, 5)) * scale
            wanted = scipy.linalg.expm(x)
            size = abs(wanted).max(axis=(-1, -2), keepdims=True)
            np.testing.assert_allclose(linalg.expm(x) / size, wanted / size, atol=1e-11)
            compiled = cv.jit(cv.vmap(linalg.expm))(x)
            np.testing.assert_allclose(compiled / size, wanted / size, atol=1e-11)
        upper = np.triu(x[0])
        np.testing.assert_allclose(
            linalg.expm(upper, upper_triangular=True), linalg.expm(upper), rtol=1e-9, atol=1e-8
        )


def test_expm_of_what_is_too_large_is_nan():
    x = np.eye(3, dtype=np.float32) * 64
    assert np.isfinite(linalg.expm(x)).all()
    assert np.isnan(linalg.expm(x, max_squarings=3)).all()
    both = linalg.expm(np.stack([x, x / 64]), max_squarings=3)
    assert np.isnan(both[0]).all()
    np.testing.assert_allclose(both[1], np.e * np.eye(3), rtol=1e-6)
    assert np.isnan(linalg.expm(np.full((2, 2), np.inf, np.float32))).all()


def test_expm_frechet():
    with cv.enable_x64(True):
        x, t = sample(np.float64, (4, 4)), sample(np.float64, (4, 4), 1)
        for ours, wanted in zip(
            linalg.expm_frechet(x, t), scipy.linalg.expm_frechet(x, t), strict=True
        ):
            np.testing.assert_allclose(ours, wanted, rtol=1e-9, atol=1e-9)
        alone = linalg.expm_frechet(x, t, compute_expm=False)
        np.testing.assert_allclose(alone, scipy.linalg.expm_frechet(x, t)[1], rtol=1e-9)


# --- derivatives ----------------------------------------------------------------------------------

DERIVATIVES = {
    "cholesky": lambda f, x: f.cholesky(x @ x.T + 5 * np.eye(4)),
    "expm": lambda f, x: f.expm(x),
    "solve_pos": lambda f, x: f.solve(x @ x.T + 5 * np.eye(4), x[:, :2] ** 2, assume_a="pos"),
    "cho_solve": lambda f, x: f.cho_solve(f.cho_factor(x @ x.T + 5 * np.eye(4)), x[0]),
    "lu_solve": lambda f, x: f.lu_solve(f.lu_factor(x), x[0] ** 2, trans=1),
    "solve_triangular": lambda f, x: f.solve_triangular(x, x[:, :2] ** 2, trans=1, lower=True),
    "lu": lambda f, x: sum(f.lu(x)[1:]),
    "polar": lambda f, x: sum(f.polar(x, method="svd")),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_first_and_second_derivatives(name):
    weights = np.cos(np.arange(16.0))

    def weighted(f, x):
        found = DERIVATIVES[name](f, x)
        return (found * weights[: found.size].reshape(found.shape)).sum() + (found**2).sum()

    with cv.enable_x64(True), jax.enable_x64(True):
        x, t = sample(np.float64, (4, 4), 2), sample(np.float64, (4, 4), 3)
        gradient = jax.grad(partial(weighted, theirs))
        wanted = jax.jit(lambda x, t: jax.jvp(gradient, (x,), (t,)))(x, t)
        found = cv.jvp(cv.grad(partial(weighted, linalg)), (x,), (t,))
        for a, b in zip(found, wanted, strict=True):
            scale = abs(np.asarray(b)).max()
            np.testing.assert_allclose(a / scale, b / scale, atol=1e-9)


# --- patterns -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
def test_patterns(dtype):
    c, r = sample(dtype, (4,)), sample(dtype, (3,), 1)
    agree("toeplitz", c)
    agree("toeplitz", c, r)
    both = linalg.toeplitz(np.stack([c, c + 1]), r)
    np.testing.assert_array_equal(both[1], linalg.toeplitz(c + 1, r))
    assert linalg.toeplitz(c, np.zeros(0, dtype)).shape == (4, 0)
    agree("block_diag", sample(dtype, (2, 3)), c, sample(dtype, (3, 1)))
    assert linalg.block_diag().shape == (1, 0)
    mixed = linalg.block_diag(np.ones((1, 1), np.int32), np.ones((1, 1), np.float32))
    assert mixed.dtype == np.float32


def test_empty():
    x = np.zeros((0, 0), np.float32)
    for name in ("cholesky", "inv", "expm", "hessenberg"):
        assert getattr(linalg, name)(x).shape == (0, 0)
    assert linalg.det(x) == 1
    assert [p.shape for p in linalg.lu(x)] == [(0, 0)] * 3
    assert linalg.solve(x, np.zeros((0, 2), np.float32)).shape == (0, 2)


x33 = np.eye(3, dtype=np.float32)
BAD = [
    (lambda: linalg.solve(x33, x33[0], assume_a="x"), ValueError, "assume_a"),
    (lambda: linalg.solve(x33, np.ones(4, np.float32)), ValueError, "equations"),
    (lambda: linalg.solve_triangular(x33, x33[0], trans="x"), ValueError, "trans"),
    (lambda: linalg.solve_triangular(x33[:2], x33[0]), ValueError, "square"),
    (lambda: linalg.lu_solve((x33, np.arange(3)), x33[0], trans=3), ValueError, "trans"),
    (lambda: linalg.cho_solve((x33, True), np.ones(2, np.float32)), ValueError, "equations"),
    (lambda: linalg.lu(np.ones((2, 3, 3))), ValueError, "vmap"),
    (lambda: linalg.qr(x33, mode="x"), ValueError, "mode"),
    (lambda: linalg.eigh(x33, x33), NotImplementedError, "None"),
    (lambda: linalg.eigh(x33, type=2), NotImplementedError, "type"),
    (lambda: linalg.schur(x33, "x"), ValueError, "output"),
    (lambda: linalg.polar(x33, "x"), ValueError, "side"),
    (lambda: linalg.polar(x33, method="x"), ValueError, "method"),
    (lambda: linalg.polar(x33, eps=0.1), NotImplementedError, "eps"),
    (lambda: linalg.expm(x33[:2]), ValueError, "square"),
    (lambda: linalg.expm_frechet(x33, np.eye(2)), ValueError, "one shape"),
    (lambda: linalg.expm_frechet(x33, x33, method="x"), ValueError, "method"),
    (lambda: linalg.block_diag(np.ones((2, 2, 2))), ValueError, "argument 0"),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_the_package_finds_its_modules():
    assert cv.scipy.linalg is linalg
    with pytest.raises(AttributeError, match="no attribute"):
        _ = cv.scipy.nothing


@pytest.mark.parametrize("name", ["exponentials", "linalg", "patterned"])
def test_examples(name):
    result = doctest.testmod(importlib.import_module(f"covector.scipy.{name}"))
    assert result.failed == 0
    assert result.attempted > 0
