"""Matrix primitives against jax.lax.linalg."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import covector as cv
from covector.core.avals import Aval
from covector.core.dims import symbol
from covector.ops import linalg as ops
from covector.ops.common import Inseparable
from covector.ops.lu import solve_system

DTYPES = ("f4", "f8", "c8", "c16")


@pytest.fixture(autouse=True)
def x64():
    with cv.enable_x64(True), jax.enable_x64(True):
        yield


def numbers(shape: tuple[int, ...], dtype: str = "f8", seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        parts = parts + 1j * rng.normal(size=shape)
    return np.asarray(parts, dtype)


def positive(shape: tuple[int, ...], dtype: str = "f8", seed: int = 0) -> Any:
    x = numbers(shape, dtype, seed)
    return np.asarray(x @ np.swapaxes(x.conj(), -1, -2) + 2 * np.eye(shape[-1]), dtype)


def hermitian(shape: tuple[int, ...], dtype: str = "f8", seed: int = 0) -> Any:
    x = numbers(shape, dtype, seed)
    return np.asarray((x + np.swapaxes(x.conj(), -1, -2)) / 2, dtype)


def close(found: Any, expected: Any, factor: float = 100.0) -> None:
    expected = np.asarray(expected)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    tolerance = factor * np.finfo(expected.dtype).eps
    np.testing.assert_allclose(np.asarray(found), expected, rtol=tolerance, atol=tolerance)


def adjoint(x: Any) -> Any:
    return np.swapaxes(np.asarray(x).conj(), -1, -2)


# --- cholesky -------------------------------------------------------------------------------------


def theirs_cholesky(x: Any) -> Any:
    return jnp.tril(lax.linalg.cholesky(x, symmetrize_input=False))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 4, 4), (0, 0)])
def test_cholesky(shape: Any, dtype: str):
    x = positive(shape, dtype)
    # What stands above the diagonal is not read.
    close(ops.cholesky(np.tril(x) + np.triu(np.full(shape, 7, dtype), 1)), np.linalg.cholesky(x))


def test_cholesky_of_indefinite_matrices_is_nan():
    x = np.stack([positive((3, 3)), -np.eye(3), positive((3, 3), seed=1)])
    out = np.asarray(ops.cholesky(x))
    assert np.isnan(out[1].real).all()
    close(out[[0, 2]], np.linalg.cholesky(x[[0, 2]]))


@pytest.mark.parametrize("dtype", ["f8", "c16"])
def test_transformed_cholesky(against_jax: Any, dtype: str):
    x = positive((3, 3), dtype)
    # Versions of JAX differ in directions that leave the matrix asymmetric.
    ours = lambda a: ops.cholesky((a + a.mT.conj()) / 2)  # noqa: E731
    theirs = lambda a: theirs_cholesky((a + jnp.conj(a.mT)) / 2)  # noqa: E731
    against_jax.jvp(ours, theirs, (x,))
    against_jax.vjp(ours, theirs, (x,))
    batch = np.stack([x, positive((3, 3), dtype, seed=5)], axis=1)
    found = cv.vmap(ops.cholesky, in_axes=1)(batch)
    close(found, np.linalg.cholesky(np.moveaxis(batch, 1, 0)))


# --- triangular_solve -----------------------------------------------------------------------------

FLAGS = [
    {"left_side": left, "lower": lower, "transpose_a": transpose, "conjugate_a": conjugate}
    for left in (True, False)
    for lower in (True, False)
    for transpose in (True, False)
    for conjugate in (True, False)
]


def digits(flags: dict[str, bool]) -> str:
    return "".join(str(int(flag)) for flag in flags.values())


@pytest.mark.parametrize("flags", FLAGS, ids=digits)
def test_triangular_solve(against_jax: Any, flags: Any):
    a, b = numbers((2, 3, 3), "c16") + 2 * np.eye(3), numbers((2, 3, 3), "c16", seed=1)
    for unit in (True, False):
        options = {**flags, "unit_diagonal": unit}
        ours = partial(ops.triangular_solve, **options)
        against_jax.value(ours, partial(lax.linalg.triangular_solve, **options), (a, b))


@pytest.mark.parametrize("flags", FLAGS[1::5], ids=digits)
def test_derivatives_of_triangular_solve(against_jax: Any, flags: Any):
    a = numbers((3, 3), "c16") + 2 * np.eye(3)
    shape = (3, 4) if flags["left_side"] else (4, 3)
    options = {**flags, "unit_diagonal": False}
    ours = partial(ops.triangular_solve, **options)
    theirs = partial(lax.linalg.triangular_solve, **options)
    against_jax.jvp(ours, theirs, (a, numbers(shape, "c16", seed=1)))
    against_jax.vjp(ours, theirs, (a, numbers(shape, "c16", seed=1)))


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0), (None, 1), (None, 2)])
def test_batched_triangular_solve(left: bool, axes: Any):
    options = {"left_side": left, "lower": True, "transpose_a": False, "conjugate_a": False}
    a = numbers((3, 3) if axes[0] is None else (5, 3, 3)) + 3 * np.eye(3)
    shape = (3, 2) if left else (2, 3)
    b = numbers(shape if axes[1] is None else (*shape[: axes[1]], 5, *shape[axes[1] :]))
    solve = partial(ops.triangular_solve, **options, unit_diagonal=False)
    expected = jax.vmap(partial(lax.linalg.triangular_solve, **options), in_axes=axes)(a, b)
    close(cv.vmap(solve, in_axes=axes)(a, b), expected)


def test_triangular_solve_of_every_dtype(against_jax: Any):
    options = {"left_side": True, "lower": True, "transpose_a": False, "conjugate_a": False}
    for dtype in DTYPES:
        a, b = numbers((3, 3), dtype) + 3 * np.eye(3, dtype=dtype), numbers((3, 2), dtype)
        found = ops.triangular_solve(a, b, **options, unit_diagonal=False)
        close(found, lax.linalg.triangular_solve(a, b, **options))
    empty = ops.triangular_solve(np.eye(3), np.zeros((3, 0)), **options, unit_diagonal=False)
    assert empty.shape == (3, 0)


# --- lu -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 3), (3, 5), (1, 1), (2, 0, 3)])
def test_lu(shape: Any, dtype: str):
    x = numbers(shape, dtype)
    for found, expected in zip(ops.lu(x), lax.linalg.lu(x), strict=True):
        if found.dtype == np.int32:
            np.testing.assert_array_equal(found, expected)
        else:
            close(found, expected)


def test_lu_of_singular_matrices():
    for found, expected in zip(
        ops.lu(np.ones((3, 3))), lax.linalg.lu(np.ones((3, 3))), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("shape", "dtype"), [((2, 3, 3), "c16"), ((4, 3), "f8"), ((3, 5), "f8")])
def test_derivatives_of_lu(against_jax: Any, shape: Any, dtype: str):
    x = numbers(shape, dtype)
    against_jax.jvp(lambda x: ops.lu(x)[0], lambda x: lax.linalg.lu(x)[0], (x,))
    against_jax.vjp(lambda x: ops.lu(x)[0], lambda x: lax.linalg.lu(x)[0], (x,))


def test_batched_lu(against_jax: Any):
    against_jax.vmap(ops.lu, lambda x: list(lax.linalg.lu(x)), (numbers((3, 3)),))


def test_pivots_to_permutation(against_jax: Any):
    pivots = np.array([[2, 1, 3], [0, 3, 2]], np.int32)
    against_jax.value(
        partial(ops.lu_pivots_to_permutation, permutation_size=5),
        partial(lax.linalg.lu_pivots_to_permutation, permutation_size=5),
        (pivots,),
    )


def test_solving_a_system():
    a, b = numbers((2, 4, 4)), numbers((2, 4, 3), seed=1)
    close(solve_system(a, b), np.linalg.solve(a, b), 1000)


# --- qr -------------------------------------------------------------------------------------------


def ours_qr(full: bool = False, pivoting: bool = False) -> Any:
    return partial(ops.qr, full_matrices=full, pivoting=pivoting)


def theirs_qr(full: bool = False, pivoting: bool = False) -> Any:
    return lambda x: list(lax.linalg.qr(x, full_matrices=full, pivoting=pivoting))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 3), (2, 5, 3), (3, 5)])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("pivoting", [True, False])
def test_qr(shape: Any, dtype: str, full: bool, pivoting: bool):
    x = numbers(shape, dtype)
    for found, expected in zip(
        ours_qr(full, pivoting)(x), theirs_qr(full, pivoting)(x), strict=True
    ):
        if found.dtype == np.int32:
            np.testing.assert_array_equal(found, expected)
        else:
            close(found, expected)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 0)])
def test_empty_qr(against_jax: Any, shape: Any):
    against_jax.value(ours_qr(full=True), theirs_qr(full=True), (np.zeros(shape),))


@pytest.mark.parametrize(
    ("shape", "full", "pivoting", "dtype"),
    [
        ((5, 3), False, True, "c16"),
        ((3, 5), False, False, "f8"),
        ((5, 3), True, False, "c16"),
    ],
)
def test_derivatives_of_qr(against_jax: Any, shape: Any, full: bool, pivoting: bool, dtype: str):
    x = numbers(shape, dtype)
    against_jax.jvp(
        lambda x: ours_qr(full, pivoting)(x)[:2], lambda x: theirs_qr(full, pivoting)(x)[:2], (x,)
    )
    against_jax.vjp(
        lambda x: ours_qr(full, pivoting)(x)[:2], lambda x: theirs_qr(full, pivoting)(x)[:2], (x,)
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_reflections(dtype: str):
    x = numbers((2, 5, 3), dtype)
    factored, taus = ops.geqrf(x)
    q = ops.householder_product(factored, taus)
    close(q, lax.linalg.qr(x, full_matrices=False)[0])
    close(lax.linalg.householder_product(np.asarray(factored), np.asarray(taus)), q)
    with pytest.raises(NotImplementedError, match="differentiate `qr` instead"):
        cv.jvp(ops.geqrf, (x,), (x,))


# --- eigenvalues ----------------------------------------------------------------------------------


def ours_eigh(lower: bool = True, subset: Any = None) -> Any:
    return partial(
        ops.eigh, lower=lower, sort_eigenvalues=True, subset_by_index=subset, algorithm=None
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lower", [True, False])
def test_eigh(dtype: str, lower: bool):
    x = hermitian((2, 4, 4), dtype)
    vectors, values = ours_eigh(lower)(np.tril(x) if lower else np.triu(x))
    close(values, np.linalg.eigvalsh(x))
    close(vectors @ np.asarray(values)[..., None] * 0, np.zeros((2, 4, 1), dtype))
    rebuilt = (np.asarray(vectors) * np.asarray(values)[..., None, :]) @ adjoint(vectors)
    close(rebuilt, x)


def test_some_eigenvalues():
    x = hermitian((4, 4))
    vectors, values = ours_eigh()(x)
    some_vectors, some_values = ours_eigh(subset=(1, 3))(x)
    np.testing.assert_array_equal(some_values, np.asarray(values)[1:3])
    np.testing.assert_array_equal(some_vectors, np.asarray(vectors)[:, 1:3])
    with pytest.raises(NotImplementedError, match="subset_by_index"):
        cv.jvp(ours_eigh(subset=(1, 3)), (x,), (x,))


def test_eigh_of_nan():
    x = np.stack([hermitian((3, 3)), np.full((3, 3), np.nan)])
    vectors, values = ours_eigh()(x)
    assert np.isnan(np.asarray(values)[1]).all()
    assert np.isnan(np.asarray(vectors)[1]).all()
    close(np.asarray(values)[0], np.linalg.eigvalsh(x[0]))


@pytest.mark.parametrize("dtype", ["c16"])
def test_derivatives_of_eigh(against_jax: Any, dtype: str):
    x = hermitian((3, 3), dtype)

    def theirs(x: Any) -> Any:
        return list(lax.linalg.eigh(x, symmetrize_input=False))

    def invariant(fn: Any) -> Any:
        # Projections do not depend on the phases of eigenvectors.
        def projections(x: Any) -> Any:
            vectors, values = fn(x)
            return [vectors * vectors.conj(), values]

        return projections

    against_jax.jvp(invariant(ours_eigh()), invariant(theirs), (x,))
    against_jax.vjp(invariant(ours_eigh()), invariant(theirs), (x,))
    against_jax.vmap(lambda x: ours_eigh()(x)[1], lambda x: theirs(x)[1], (x,))


def ours_svd(full: bool = False, vectors: bool = True, subset: Any = None) -> Any:
    return partial(
        ops.svd, full_matrices=full, compute_uv=vectors, subset_by_index=subset, algorithm=None
    )


def theirs_svd(full: bool = False, vectors: bool = True) -> Any:
    def svd(x: Any) -> Any:
        out = lax.linalg.svd(x, full_matrices=full, compute_uv=vectors)
        if not vectors:
            return [out]
        u, s, vh = out
        return [s, u, vh]

    return svd


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 3), (2, 5, 3), (3, 5)])
def test_svd(dtype: str, shape: Any):
    x = numbers(shape, dtype)
    (only,) = ours_svd(vectors=False)(x)
    close(only, np.linalg.svd(x, compute_uv=False))
    for full in (True, False):
        s, u, vh = ours_svd(full)(x)
        expected = np.linalg.svd(x, full_matrices=full)
        assert (u.shape, vh.shape) == (expected[0].shape, expected[2].shape)
        close(s, expected[1])
        rank = s.shape[-1]
        rebuilt = (np.asarray(u)[..., :rank] * np.asarray(s)[..., None, :]) @ np.asarray(vh)[
            ..., :rank, :
        ]
        close(rebuilt, x)


def test_some_singular_values():
    x = numbers((5, 4))
    s, u, vh = ours_svd()(x)
    some = ours_svd(subset=(0, 2))(x)
    np.testing.assert_array_equal(some[0], np.asarray(s)[:2])
    np.testing.assert_array_equal(some[1], np.asarray(u)[:, :2])
    np.testing.assert_array_equal(some[2], np.asarray(vh)[:2])
    with pytest.raises(ValueError, match="subset_by_index"):
        ours_svd(full=True, subset=(0, 2))(x)


def test_svd_of_nan():
    x = np.stack([numbers((3, 3)), np.full((3, 3), np.nan)])
    s, u, vh = ours_svd()(x)
    assert all(np.isnan(np.asarray(part)[1]).all() for part in (s, u, vh))
    close(np.asarray(s)[0], np.linalg.svd(x[0], compute_uv=False))


@pytest.mark.parametrize(("shape", "dtype"), [((3, 3), "f8"), ((5, 3), "c16"), ((3, 5), "f8")])
def test_derivatives_of_svd(against_jax: Any, shape: Any, dtype: str):
    def invariant(fn: Any) -> Any:
        def squares(x: Any) -> Any:
            s, u, vh = fn(x)
            return [s, u * u.conj(), vh * vh.conj()]

        return squares

    x = numbers(shape, dtype)
    against_jax.jvp(invariant(ours_svd()), invariant(theirs_svd()), (x,))
    against_jax.vjp(invariant(ours_svd()), invariant(theirs_svd()), (x,))
    against_jax.vjp(ours_svd(vectors=False), theirs_svd(vectors=False), (x,))


def test_derivatives_of_all_singular_vectors():
    with pytest.raises(NotImplementedError, match="full_matrices=False"):
        cv.jvp(ours_svd(full=True), (numbers((5, 3)),), (numbers((5, 3)),))


def ours_eig(left: bool = False, right: bool = False, derivatives: bool = True) -> Any:
    return partial(
        ops.eig,
        compute_left_eigenvectors=left,
        compute_right_eigenvectors=right,
        enable_eigvec_derivs=derivatives,
        implementation=None,
    )


def theirs_eig(left: bool = False, right: bool = False) -> Any:
    return lambda x: list(
        lax.linalg.eig(
            x,
            compute_left_eigenvectors=left,
            compute_right_eigenvectors=right,
            enable_eigvec_derivs=True,
        )
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_eig(dtype: str):
    x = numbers((2, 4, 4), dtype)
    found, expected = ours_eig(True, True)(x), theirs_eig(True, True)(x)
    for ours, theirs in zip(found, expected, strict=True):
        close(ours, theirs, 1000)


def test_eig_of_nan():
    x = np.stack([numbers((3, 3)), np.full((3, 3), np.nan)])
    values, vectors = ours_eig(right=True)(x)
    assert np.isnan(np.asarray(values)[1]).all()
    assert np.isfinite(np.asarray(vectors)[0]).all()


@pytest.mark.parametrize(("left", "right"), [(False, False), (True, True)])
def test_derivatives_of_eig(against_jax: Any, left: bool, right: bool):
    x = numbers((4, 4), seed=3)
    against_jax.jvp(ours_eig(left, right), theirs_eig(left, right), (x,))
    against_jax.vjp(ours_eig(left, right), theirs_eig(left, right), (x,))


def test_derivatives_of_eigenvectors_must_be_asked_for():
    x = numbers((3, 3))
    with pytest.raises(NotImplementedError, match="enable_eigvec_derivs"):
        cv.jvp(ours_eig(right=True, derivatives=False), (x,), (x,))


# --- tridiagonal systems --------------------------------------------------------------------------


def tridiagonal(batch: tuple[int, ...], n: int, dtype: str = "f8") -> list[Any]:
    diagonals = [numbers((*batch, n), dtype, seed) for seed in (1, 2, 3)]
    diagonals[0][..., 0] = diagonals[2][..., -1] = 0
    return diagonals


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "batch"), [(5, (2,)), (1, ()), (2, ())])
def test_tridiagonal_solve(n: int, batch: Any, dtype: str):
    diagonals, b = tridiagonal(batch, n, dtype), numbers((*batch, n, 3), dtype)
    found = ops.tridiagonal_solve(*diagonals, b, perturb_singular=False)
    close(found, lax.linalg.tridiagonal_solve(*diagonals, b), 1e5)


def test_singular_tridiagonal_system():
    zero, one = np.zeros(3), np.ones((3, 1))
    found = ops.tridiagonal_solve(zero, np.array([1.0, 0, 1]), zero, one, perturb_singular=False)
    assert np.isnan(np.asarray(found)).all()
    with pytest.raises(NotImplementedError, match="perturb_singular"):
        ops.tridiagonal_solve(zero, zero, zero, one, perturb_singular=True)


def test_transformed_tridiagonal_solve(against_jax: Any):
    operands = (*tridiagonal((), 4), numbers((4, 2)))
    ours = partial(ops.tridiagonal_solve, perturb_singular=False)
    against_jax.jvp(ours, lax.linalg.tridiagonal_solve, operands)
    against_jax.vjp(ours, lax.linalg.tridiagonal_solve, operands)
    for axes in ((None, None, None, 1), (0, None, 0, 0)):
        stacked = [
            x if axis is None else np.stack([x, 2 * x, 3 * x], axis)
            for x, axis in zip(operands, axes, strict=True)
        ]
        expected = jax.vmap(lax.linalg.tridiagonal_solve, in_axes=axes)(*stacked)
        close(cv.vmap(ours, in_axes=axes)(*stacked), expected, 1e5)


# --- other forms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_schur(dtype: str):
    x = numbers((2, 4, 4), dtype)
    options = {"compute_schur_vectors": True, "sort_eig_vals": False, "select_callable": None}
    for found, expected in zip(ops.schur(x, **options), lax.linalg.schur(x), strict=True):
        close(found, expected, 1000)
    (form,) = ops.schur(x, **{**options, "compute_schur_vectors": False})
    close(form, lax.linalg.schur(x)[0], 1000)
    assert np.isnan(np.asarray(ops.schur(np.full((2, 2), np.nan), **options)[0])).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_hessenberg(dtype: str):
    x = numbers((2, 4, 4), dtype)
    for found, expected in zip(ops.hessenberg(x), lax.linalg.hessenberg(x), strict=True):
        close(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lower", [True, False])
def test_tridiagonal(dtype: str, lower: bool):
    x = hermitian((2, 4, 4), dtype)
    theirs = lax.linalg.tridiagonal(x, lower=lower)
    for found, expected in zip(ops.tridiagonal(x, lower=lower)[1:], theirs[1:], strict=True):
        close(found, expected)


# --- what all have in common ----------------------------------------------------------------------


def test_errors():
    with pytest.raises(TypeError, match="f32, f64, c64, c128, got i64"):
        ops.cholesky(np.eye(2, dtype=int))
    with pytest.raises(ValueError, match="square"):
        ops.cholesky(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="two or more axes"):
        ops.lu(np.zeros(3))
    options = {"lower": True, "transpose_a": False, "conjugate_a": False, "unit_diagonal": False}
    with pytest.raises(ValueError, match="as many rows"):
        ops.triangular_solve(np.eye(3), np.zeros((2, 3)), left_side=True, **options)
    with pytest.raises(TypeError, match="equal batch axes"):
        ops.triangular_solve(np.zeros((2, 3, 3)), np.zeros((3, 3)), left_side=True, **options)
    with pytest.raises(TypeError, match="equal dtype"):
        ops.triangular_solve(np.eye(3), np.eye(3, dtype="f4"), left_side=True, **options)


def test_symbolic_sizes():
    n, batch = symbol("n"), symbol("b")
    x = Aval((batch, n, n), np.dtype("f4"))
    assert str(ops.cholesky.shape(x)) == "f32[b,n,n]"
    assert [str(a) for a in ops.lu.shape(x)] == ["f32[b,n,n]", "i32[b,n]", "i32[b,n]"]
    with pytest.raises(TypeError, match="depends on which is smaller"):
        ops.lu.shape(Aval((n, 3), np.dtype("f4")))


def test_lanes():
    x = Aval((5, 3, 3), np.dtype("f4"))
    assert ops.cholesky.lanes((0,), x) == 0
    assert ops.lu.lanes((0,), x) == [0, 0, 0]
    with pytest.raises(Inseparable):
        ops.cholesky.lanes((1,), x)
