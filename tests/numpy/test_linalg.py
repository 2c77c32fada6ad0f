"""`covector.numpy.linalg` against NumPy for values, JAX for types and derivatives."""

from __future__ import annotations

import doctest
import importlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector.core.errors import UnsupportedRuleError

TYPES = [np.float32, np.complex64, np.int32]


def sample(dtype, shape, seed=0):
    rng = np.random.default_rng((seed, *shape))
    x = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.normal(size=shape)
    return np.round(x * 4).astype(dtype) if np.dtype(dtype).kind == "i" else x.astype(dtype)


def definite(m, x):
    return m.matmul(x, m.conj(m.swapaxes(x, -1, -2))) + 3 * m.eye(x.shape[-1], dtype=x.dtype)


def mean(m, x):
    return (x + m.conj(m.swapaxes(x, -1, -2))) / 2


# --- values ---------------------------------------------------------------------------------------

SQUARE = {
    "cholesky": lambda m, x: m.linalg.cholesky(definite(m, x)),
    "det": lambda m, x: m.linalg.det(x),
    "slogdet": lambda m, x: m.linalg.slogdet(x),
    "inv": lambda m, x: m.linalg.inv(x),
    "eigvalsh": lambda m, x: m.linalg.eigvalsh(mean(m, x)),
    "eigvalsh_upper": lambda m, x: m.linalg.eigvalsh(mean(m, x), "U"),
    "cond_1": lambda m, x: m.linalg.cond(x, 1),
    "cond_fro": lambda m, x: m.linalg.cond(x, "fro"),
    "cond_inf": lambda m, x: m.linalg.cond(x, -np.inf),
    "cond_least": lambda m, x: m.linalg.cond(x, -2),
    "power_0": lambda m, x: m.linalg.matrix_power(x, 0),
    "power_3": lambda m, x: m.linalg.matrix_power(x, 3),
    "power_6": lambda m, x: m.linalg.matrix_power(x, 6),
    "power_inverse": lambda m, x: m.linalg.matrix_power(x, -2),
    "trace": lambda m, x: m.linalg.trace(x, offset=1),
    "diagonal": lambda m, x: m.linalg.diagonal(x, offset=-1),
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 3), (1, 1), (2, 2), (9, 9)], ids=str)
@pytest.mark.parametrize("name", SQUARE)
def test_square(name, shape, dtype, twins):
    if name.startswith("power") and shape[-1] > 4:
        pytest.skip("numbers grow beyond any tolerance")
    x = sample(dtype, shape, 1) + (3 * np.eye(shape[-1])).astype(dtype)
    twins.agree(SQUARE[name], x, rtol=2e-3)


RECTANGULAR = {
    "svdvals": lambda m, x: m.linalg.svdvals(x),
    "cond": lambda m, x: m.linalg.cond(x),
    "pinv": lambda m, x: m.linalg.pinv(x),
    "pinv_rtol": lambda m, x: m.linalg.pinv(x, rtol=0.5),
    "matrix_rank": lambda m, x: m.linalg.matrix_rank(x * 1.0),
    "matrix_transpose": lambda m, x: m.linalg.matrix_transpose(x),
    **{
        f"norm_{o}": lambda m, x, o=o: m.linalg.norm(x, o, axis=(-2, -1), keepdims=o == "nuc")
        for o in (None, "fro", "nuc", 2, -2, 1, -1, np.inf, -np.inf)
    },
    **{
        f"vector_norm_{o}": lambda m, x, o=o: m.linalg.vector_norm(x * 1.0, ord=o, axis=-1)
        for o in (0, 1, 2, 3, -1, np.inf, -np.inf)
    },
    "vector_norm_all": lambda m, x: m.linalg.vector_norm(x, keepdims=True),
    "vector_norm_axes": lambda m, x: m.linalg.vector_norm(x, axis=(-1, 0)),
    "norm_all": lambda m, x: m.linalg.norm(x),
    "norm_axes": lambda m, x: m.linalg.norm(x, 1, axis=(-1, -2)),
    "norm_axis": lambda m, x: m.linalg.norm(x, 3, axis=0),
    "matrix_norm": lambda m, x: m.linalg.matrix_norm(x, ord=1, keepdims=True),
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("name", RECTANGULAR)
def test_rectangular(name, shape, dtype, twins):
    twins.agree(RECTANGULAR[name], sample(dtype, shape), rtol=1e-4)


SYSTEMS = [
    ((3, 3), (3,)),
    ((3, 3), (3, 2)),
    ((2, 3, 3), (2, 3, 2)),
    ((2, 3, 3), (3,)),
    ((2, 3, 3), (3, 2)),
    ((3, 3), (2, 3, 2)),
    ((2, 1, 3, 3), (4, 3, 2)),
    ((12, 12), (12, 3)),
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shapes", SYSTEMS, ids=str)
def test_solve(shapes, dtype, twins):
    a = sample(dtype, shapes[0]) + (4 * np.eye(shapes[0][-1])).astype(dtype)
    twins.agree(lambda m, a, b: m.linalg.solve(a, b), a, sample(dtype, shapes[1], 1), rtol=1e-4)


PRODUCTS = {
    "cross": ((4, 3), (4, 3)),
    "matmul": ((2, 3, 4), (4, 2)),
    "outer": ((3,), (4,)),
    "vecdot": ((2, 3), (3,)),
    "tensordot": ((2, 3, 4), (3, 4, 2)),
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name, dtype, twins):
    x, y = (sample(dtype, shape, k) for k, shape in enumerate(PRODUCTS[name]))
    twins.agree(lambda m, x, y: getattr(m.linalg, name)(x, y), x, y, rtol=1e-4)


@pytest.mark.parametrize(
    "shapes", [((3,), (3, 4), (4,)), ((2, 9), (9, 3), (3, 5), (5, 2))], ids=str
)
def test_multi_dot(shapes, twins):
    xs = [sample(np.float32, shape, k) for k, shape in enumerate(shapes)]
    twins.agree(lambda m, *xs: m.linalg.multi_dot(xs), *xs, rtol=1e-4)


def test_tensor_equations(twins):
    a, b = sample(np.float32, (2, 3, 6)), sample(np.float32, (2, 3), 1)
    twins.agree(lambda m, a, b: m.linalg.tensorsolve(a, b), a, b, rtol=1e-3)
    twins.agree(lambda m, a: m.linalg.tensorinv(a), a, rtol=1e-3)
    moved = sample(np.float32, (2, 6, 3))
    twins.agree(lambda m, a, b: m.linalg.tensorsolve(a, b, axes=(1,)), moved, b, rtol=1e-3)
    assert cnp.linalg.tensorinv(sample(np.float32, (4, 2, 2)), ind=1).shape == (2, 2, 4)


@pytest.mark.parametrize("shapes", [((5, 3), (5,)), ((5, 3), (5, 2)), ((3, 5), (3,))], ids=str)
@pytest.mark.parametrize("rcond", [None, 0.4])
def test_lstsq(shapes, rcond):
    a, b = sample(np.float32, shapes[0]), sample(np.float32, shapes[1], 1)
    for numpy_resid in (False, True):
        found = cnp.linalg.lstsq(a, b, rcond, numpy_resid=numpy_resid)
        wanted = np.linalg.lstsq(a, b, rcond)
        kept = (0, 1, 2, 3) if numpy_resid else (0, 2, 3)
        for k in kept:
            np.testing.assert_allclose(found[k], wanted[k], rtol=1e-4, atol=1e-5)
    residual = np.linalg.norm(np.asarray(b - a @ np.asarray(found[0])), axis=0) ** 2
    np.testing.assert_allclose(
        np.ravel(cnp.linalg.lstsq(a, b, rcond)[1]), np.ravel(residual), atol=1e-5
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4), (3, 3)], ids=str)
def test_decompositions_make_up_the_matrix(shape, dtype):
    x = sample(dtype, shape)
    result = np.result_type(dtype, np.float32) if dtype != np.int32 else np.float32
    m, n = shape[-2:]

    def check(*factors):
        assert all(f.dtype in (result, np.float32) for f in factors)
        product = factors[0]
        for factor in factors[1:]:
            product = product @ factor
        np.testing.assert_allclose(product, x, atol=1e-4)

    for full in (False, True):
        u, s, vh = cnp.linalg.svd(x, full_matrices=full)
        k = min(m, n)
        assert u.shape[-1] == (m if full else k)
        assert vh.shape[-2] == (n if full else k)
        check(u[..., :k] * s[..., None, :], vh[..., :k, :])
    for mode in ("reduced", "complete", "full"):
        q, r = cnp.linalg.qr(x, mode)
        assert q.shape[-1] == (m if mode == "complete" else min(m, n))
        check(q, r)
    r = cnp.linalg.qr(x, "r")
    np.testing.assert_allclose(r, cnp.linalg.qr(x).R, atol=1e-6)
    if m == n:
        hermitian = mean(cnp, x * 1.0)
        for UPLO in (None, "L", "U"):
            w, v = cnp.linalg.eigh(hermitian, UPLO)
            found = (v * w[..., None, :]) @ cnp.conj(cnp.swapaxes(v, -1, -2))
            np.testing.assert_allclose(found, hermitian, atol=1e-4)
        u, s, vh = cnp.linalg.svd(hermitian, hermitian=True)
        np.testing.assert_allclose((u * s[..., None, :]) @ vh, hermitian, atol=1e-4)
        w, v = cnp.linalg.eig(x)
        assert w.dtype == v.dtype == np.complex64
        np.testing.assert_allclose(x @ v, v * w[..., None, :], atol=1e-4)
        np.testing.assert_allclose(np.sort(cnp.linalg.eigvals(x)), np.sort(w), atol=1e-4)


def test_raw_qr_is_what_lapack_gives():
    x = sample(np.float32, (4, 3))
    found, wanted = cnp.linalg.qr(x, "raw"), np.linalg.qr(x, "raw")
    np.testing.assert_allclose(found.Q, wanted[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.R, wanted[1], rtol=1e-4, atol=1e-5)


def test_only_one_triangle_is_read_unless_symmetrised():
    x = np.array([[4.0, 100.0], [2.0, 5.0]], np.float32)
    found = cnp.linalg.cholesky(x, symmetrize_input=False)
    np.testing.assert_allclose(found, np.linalg.cholesky([[4.0, 2.0], [2.0, 5.0]]), rtol=1e-6)
    lower = cnp.linalg.eigvalsh(x, symmetrize_input=False)
    np.testing.assert_allclose(lower, np.linalg.eigvalsh([[4.0, 2.0], [2.0, 5.0]]), rtol=1e-6)
    upper = cnp.linalg.eigvalsh(x, "U", symmetrize_input=False)
    np.testing.assert_allclose(upper, np.linalg.eigvalsh([[4.0, 100], [100, 5]]), rtol=1e-5)
    np.testing.assert_allclose(
        cnp.linalg.cholesky(x[:, ::1] * 0 + np.eye(2, dtype=np.float32) * 4, upper=True),
        2 * np.eye(2),
    )


def test_singular_matrices():
    x = np.array([[1.0, 2.0], [2.0, 4.0]], np.float32)
    assert not np.isfinite(cnp.linalg.inv(x)).all()
    assert cnp.linalg.det(x) == 0
    sign, logarithm = cnp.linalg.slogdet(np.zeros((3, 3), np.float32))
    assert sign == 0
    assert logarithm == -np.inf
    assert cnp.linalg.matrix_rank(x) == 1
    assert np.isnan(cnp.linalg.cholesky(-x)).all()
    assert cnp.linalg.cond(np.zeros((2, 2), np.float32), 1) == np.inf


@pytest.mark.parametrize("shape", [(0, 0), (2, 0, 0), (0, 2, 2)], ids=str)
def test_empty_square(shape, twins):
    x = np.zeros(shape, np.float32)
    for name in ("det", "slogdet", "inv", "cholesky", "eigvalsh", "pinv"):
        twins.agree(lambda m, x, n=name: getattr(m.linalg, n)(x), x)
    assert cnp.linalg.matrix_rank(x).shape == shape[:-2]
    rhs = np.zeros((*shape[:-1], 3), np.float32)
    twins.agree(lambda m, a, b: m.linalg.solve(a, b), x, rhs)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3)], ids=str)
def test_empty(shape, twins):
    x = np.zeros(shape, np.float32)
    for name in ("pinv", "svdvals", "norm", "vector_norm", "matrix_norm", "matrix_transpose"):
        twins.agree(lambda m, x, n=name: getattr(m.linalg, n)(x), x)
    for mode in ("reduced", "complete"):
        twins.agree(lambda m, x, k=mode: m.linalg.qr(x, k), x)
    if len(shape) == 2:
        found = cnp.linalg.lstsq(x, np.ones(shape[0], np.float32))
        assert found[0].shape == (shape[1],)
        assert found[2] == 0


def test_dtypes_follow_x64():
    with cv.enable_x64(True):
        assert cnp.linalg.inv(np.eye(2, dtype=np.int64)).dtype == np.float64
        assert cnp.linalg.inv(np.eye(2, dtype=np.float32)).dtype == np.float32
        assert cnp.linalg.eigvals(np.eye(2)).dtype == np.complex128
    assert cnp.linalg.svdvals(np.eye(2, dtype=np.complex64)).dtype == np.float32


# --- derivatives ----------------------------------------------------------------------------------

PHASELESS = np.arange(9.0).reshape(3, 3) + np.eye(3)

DERIVATIVES = {
    "cholesky": lambda m, x: m.linalg.cholesky(definite(m, x)),
    "cond": lambda m, x: m.linalg.cond(x),
    "det": lambda m, x: m.linalg.det(x),
    "det_small": lambda m, x: [m.linalg.det(x[..., :k, :k]) for k in (1, 2, 3)],
    "slogdet": lambda m, x: m.linalg.slogdet(x)[1],
    "slogdet_sign": lambda m, x: m.linalg.slogdet(x)[0],
    "inv": lambda m, x: m.linalg.inv(x),
    "solve": lambda m, x: m.linalg.solve(x, m.sin(x[:, :2])),
    "solve_vector": lambda m, x: m.linalg.solve(x, x[0]),
    "matrix_power": lambda m, x: m.linalg.matrix_power(x, -2),
    "pinv_tall": lambda m, x: m.linalg.pinv(x[:, :3]),
    "pinv_wide": lambda m, x: m.linalg.pinv(x[:3]),
    "pinv_hermitian": lambda m, x: m.linalg.pinv(x + 3 * m.eye(4), hermitian=True),
    "eigvalsh": lambda m, x: m.linalg.eigvalsh(x),
    "svdvals": lambda m, x: m.linalg.svdvals(x[:3]),
    "qr": lambda m, x: m.linalg.qr(x[:, :3]),
    "lstsq": lambda m, x: m.linalg.lstsq(x[:, :3], m.cos(x[:, 3]))[0],
    "tensorsolve": lambda m, x: m.linalg.tensorsolve(x.reshape(2, 2, 4), m.sin(x[:2, :2])),
    "multi_dot": lambda m, x: m.linalg.multi_dot([x[0], x, m.sin(x), x[1]]),
    **{f"norm_{o}": lambda m, x, o=o: m.linalg.norm(x, o) for o in (None, "nuc", -2, 1)},
    "vector_norm": lambda m, x: m.linalg.vector_norm(x, ord=3, axis=0),
    "eigenvectors": lambda m, x: phaseless(m, m.linalg.eigh(x)[1]),
    "singular_vectors": lambda m, x: [phaseless(m, v) for v in thin_vectors(m, x[:, :3])],
}
FIRST = {
    "eigvals": lambda m, x: m.abs(m.linalg.eigvals(x)).sum(),
    "cond_1": lambda m, x: m.linalg.cond(x, 1),
    "norm_inf": lambda m, x: m.linalg.norm(x, -np.inf),
    "norm_2": lambda m, x: m.linalg.norm(x, 2),
}


def phaseless(m, vectors):
    """Something that does not depend on the phases of vectors."""
    return m.abs(vectors[:3, :3]) ** 2 * PHASELESS


def thin_vectors(m, x):
    u, _, vh = m.linalg.svd(x, full_matrices=False)
    return u, m.swapaxes(vh, 0, 1)


def weighted(fn, m, x):
    """A real number from all that a function returns."""
    found = fn(m, x)
    parts = found if isinstance(found, (list, tuple)) else [found]
    total = 0.0
    for k, part in enumerate(parts):
        weights = np.cos(np.arange(part.size, dtype=float) + k).reshape(part.shape)
        total = total + m.sum(m.real(part) * weights + m.imag(part) ** 2)
    return total


def second(gradient, jvp, x, t):
    """A gradient and how it moves along a direction."""
    return jvp(gradient, (x,), (t,))


@pytest.mark.parametrize("name", DERIVATIVES)
def test_first_and_second_derivatives(name):
    fn = DERIVATIVES[name]
    with cv.enable_x64(True), jax.enable_x64(True):
        x, t = sample(np.float64, (4, 4), 2), sample(np.float64, (4, 4), 3)
        if name.startswith(("eigv", "eigenv")):
            x = x + np.diag([4.0, 8.0, -4.0, -8.0])
        gradient = cv.grad(partial(weighted, fn, cnp))
        theirs = jax.jit(partial(second, jax.grad(partial(weighted, fn, jnp)), jax.jvp))
        for ours, wanted in zip(second(gradient, cv.jvp, x, t), theirs(x, t), strict=True):
            np.testing.assert_allclose(ours, wanted, rtol=1e-8, atol=1e-9)


COMPLEX = (
    "cholesky",
    "det",
    "slogdet",
    "solve",
    "pinv_tall",
    "eigvalsh",
    "svdvals",
    "qr",
    "norm_2",
)


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_derivatives(name):
    fn = {**DERIVATIVES, **FIRST}[name]
    with cv.enable_x64(True), jax.enable_x64(True):
        x = sample(np.complex128, (4, 4), 2)
        wanted = jax.jit(jax.grad(partial(weighted, fn, jnp)))(x)
        np.testing.assert_allclose(
            cv.grad(partial(weighted, fn, cnp))(x), wanted, rtol=1e-8, atol=1e-9
        )


def test_second_derivative_of_eigenvalues():
    with cv.enable_x64(True):
        x, t = sample(np.float64, (4, 4), 2), sample(np.float64, (4, 4), 3)
        gradient = cv.grad(lambda x: (cnp.linalg.eigvals(x) ** 3).sum().real)
        value, change = cv.jvp(gradient, (x,), (t,))
        np.testing.assert_allclose(value, 3 * (x @ x).T, rtol=1e-9)
        np.testing.assert_allclose(change, 3 * (x @ t + t @ x).T, rtol=1e-8)


@pytest.mark.parametrize("name", ["solve", "det", "pinv_wide", "slogdet", "eigvalsh"])
def test_compositions(name):
    """Compiled as eager; batches as one by one."""
    fn = partial(weighted, DERIVATIVES[name], cnp)
    with cv.enable_x64(True):
        xs = np.stack([sample(np.float64, (4, 4), k) for k in range(3)])
        gradient = cv.grad(fn)
        one_by_one = np.stack([np.asarray(gradient(x)) for x in xs])
        np.testing.assert_allclose(cv.vmap(gradient)(xs), one_by_one, rtol=1e-9, atol=1e-10)
        compiled = cv.jit(cv.vmap(cv.value_and_grad(fn)))
        np.testing.assert_allclose(compiled(xs)[1], one_by_one, rtol=1e-9, atol=1e-10)
        forward = cv.jit(cv.jacfwd(fn))
        np.testing.assert_allclose(forward(xs[0]), one_by_one[0], rtol=1e-9, atol=1e-10)


def test_vmap_of_solve_over_either_operand():
    with cv.enable_x64(True):
        a, b = sample(np.float64, (3, 4, 4)) + 4 * np.eye(4), sample(np.float64, (3, 4, 2), 1)
        for axes in ((0, 0), (0, None), (None, 0)):
            args = [x if axis == 0 else x[0] for x, axis in zip((a, b), axes, strict=True)]
            pairs = [
                [x if ax is None else x[k] for x, ax in zip(args, axes, strict=True)]
                for k in range(3)
            ]
            wanted = np.stack([np.linalg.solve(*pair) for pair in pairs])
            for vmapped in (
                cv.vmap(cnp.linalg.solve, axes),
                cv.jit(cv.vmap(cnp.linalg.solve, axes)),
            ):
                np.testing.assert_allclose(vmapped(*args), wanted, rtol=1e-10)


def test_solving_is_differentiated_by_what_it_solves():
    x = cnp.asarray(sample(np.float32, (4, 4)))
    program = str(cv.make_program(cv.grad(lambda a: cnp.linalg.solve(a, a[0]).sum()))(x))
    assert program.count(" lu ") == 1
    assert "triangular_solve" not in program


def test_derivative_of_det_at_singular_matrices():
    rng = np.random.default_rng(0)
    with cv.enable_x64(True):
        for rank in (4, 3, 2):
            x = rng.normal(size=(5, rank)) @ rng.normal(size=(rank, 5))
            u, s, vh = np.linalg.svd(x)
            adjugate = np.zeros((5, 5))
            if rank == 4:
                adjugate = np.prod(s[:-1]) * np.linalg.det(u) * np.linalg.det(vh)
                adjugate = adjugate * np.outer(vh[-1], u[:, -1])
            np.testing.assert_allclose(cv.grad(cnp.linalg.det)(x), adjugate.T, atol=1e-8)
        zero = np.zeros((4, 4))
        np.testing.assert_array_equal(cv.grad(cnp.linalg.det)(zero), zero)


# --- errors ---------------------------------------------------------------------------------------

x34, x33, x3 = np.ones((3, 4), np.float32), np.eye(3, dtype=np.float32), np.ones(3, np.float32)
BAD = [
    (lambda f: f.inv(x34), ValueError, "square"),
    (lambda f: f.inv(x3), ValueError, "square"),
    (lambda f: f.det(x34), ValueError, "square"),
    (lambda f: f.slogdet(x34), ValueError, "square"),
    (lambda f: f.slogdet(x33, method="x"), ValueError, "method"),
    (lambda f: f.slogdet(x33.astype(np.complex64), method="qr"), NotImplementedError, "complex"),
    (lambda f: f.cholesky(x34), ValueError, "square"),
    (lambda f: f.eigh(x33, "X"), ValueError, "UPLO"),
    (lambda f: f.eig(x34), ValueError, "square"),
    (lambda f: f.svd(x3), ValueError, "matrices"),
    (lambda f: f.svd(x33, hermitian=True, subset_by_index=(0, 1)), NotImplementedError, "subset"),
    (lambda f: f.qr(x33, "x"), ValueError, "mode"),
    (lambda f: f.solve(x33, np.ones(4, np.float32)), ValueError, "equations"),
    (lambda f: f.solve(x33, np.ones((2, 3), np.float32)), ValueError, r"\[\.\.\., None\]"),
    (lambda f: f.solve(x34, x3), ValueError, "square"),
    (lambda f: f.norm(x33, 3), ValueError, "order"),
    (lambda f: f.norm(x33, "x"), ValueError, "order"),
    (lambda f: f.norm(np.ones((2, 2, 2)), 1), ValueError, "axis"),
    (lambda f: f.vector_norm(x3, ord="inf"), ValueError, "number"),
    (lambda f: f.cond(x34, 1), ValueError, "square"),
    (lambda f: f.cond(np.ones((0, 0))), ValueError, "elements"),
    (lambda f: f.cross(x34, x34), ValueError, "3 components"),
    (lambda f: f.outer(x33, x3), ValueError, "vectors"),
    (lambda f: f.matrix_transpose(x3), ValueError, "axes"),
    (lambda f: f.matrix_power(x34, 2), TypeError, "square"),
    (lambda f: f.matrix_power(x33, 1.5), TypeError, "integer"),
    (lambda f: f.multi_dot([x33]), ValueError, "two arrays"),
    (lambda f: f.multi_dot([x33, x3, x33]), ValueError, "ends"),
    (lambda f: f.multi_dot([x33, x34, x33]), ValueError, "rows"),
    (lambda f: f.pinv(x33, 0.1, rcond=0.1), ValueError, "not both"),
    (lambda f: f.matrix_rank(x33, 0.1, tol=0.1), ValueError, "not both"),
    (lambda f: f.lstsq(x33, np.ones(4, np.float32)), ValueError, "rows"),
    (lambda f: f.lstsq(x3, x3), TypeError, "matrix"),
    (lambda f: f.tensorinv(x33, 0), ValueError, "positive"),
    (lambda f: f.tensorinv(x34, 1), ValueError, "elements"),
    (lambda f: f.tensorsolve(x34, x3), ValueError, "elements"),
    (lambda f: f.inv([[1.0]]), TypeError, "arrays"),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call(cnp.linalg)


def test_eigenvectors_of_any_matrix_have_no_derivative():
    with pytest.raises(UnsupportedRuleError, match="eigenvalues only"):
        cv.grad(lambda x: abs(cnp.linalg.eig(x).eigenvectors).sum())(x33)


@pytest.mark.parametrize("name", ["decompositions", "determinants", "norms", "products", "systems"])
def test_examples(name):
    result = doctest.testmod(importlib.import_module(f"covector.numpy.linalg.{name}"))
    assert result.failed == 0
    assert result.attempted > 0
