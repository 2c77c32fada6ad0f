"""Iterative linear solvers against JAX's and NumPy's."""

from __future__ import annotations

import doctest
import importlib

import jax
import jax.numpy as jnp
import jax.scipy.sparse.linalg as theirs
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector.scipy.sparse import linalg as ours

RNG = np.random.default_rng(1)
GENERAL = RNG.normal(size=(6, 6)) + 4 * np.eye(6)
DEFINITE = GENERAL @ GENERAL.T
B = RNG.normal(size=6)
MATRICES = {"cg": DEFINITE, "bicgstab": GENERAL, "gmres": GENERAL}


@pytest.fixture
def x64():
    with cv.enable_x64(), jax.enable_x64(True):
        yield


def solve(m, name, matrix, b, **options):
    module = ours if m is cv else theirs
    return getattr(module, name)(matrix, b, tol=1e-12, **options)[0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", MATRICES)
class TestSolvers:
    def test_solutions(self, name):
        matrix = MATRICES[name]
        expected = np.linalg.solve(matrix, B)
        for run in (lambda f: f, cv.jit):
            f = run(lambda a, b: solve(cv, name, a, b))
            np.testing.assert_allclose(f(matrix, B), expected, rtol=1e-9)
        # A function, a first guess, a preconditioner.
        inverse = np.diag(1 / np.diag(matrix))
        x = solve(cv, name, lambda x: cnp.matmul(matrix, x), B, x0=B, M=inverse)
        np.testing.assert_allclose(x, expected, rtol=1e-9)

    def test_derivatives_are_those_of_jax(self, name):
        def loss(m, a, b):
            return (m.numpy.sin(solve(m, name, a, b)) * b).sum()

        def direct(a, b):
            return (jnp.sin(jnp.linalg.solve(a, b)) * b).sum()

        args = (MATRICES[name], B)
        gradient = cv.grad(lambda a, b: loss(cv, a, b), (0, 1))
        for found, wanted in zip(cv.jit(gradient)(*args), jax.grad(direct, (0, 1))(*args),
                                 strict=True):  # fmt: skip
            np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9)
        rights = np.stack([B, B * B])
        batched = cv.jit(cv.vmap(cv.grad(lambda b: loss(cv, args[0], b))))(rights)
        expected = jax.vmap(jax.grad(lambda b: direct(args[0], b)))(rights)
        np.testing.assert_allclose(batched, expected, rtol=1e-7, atol=1e-9)

    def test_iterations_are_those_of_jax(self, name):
        options = {"restart": 2} if name == "gmres" else {}
        for limit in (1, 3):
            found = solve(cv, name, MATRICES[name], B, maxiter=limit, **options)
            wanted = solve(jax, name, MATRICES[name], B, maxiter=limit, **options)
            np.testing.assert_allclose(found, wanted, rtol=1e-8)

    def test_complex_pytrees(self, name):
        matrix = DEFINITE + 1j * np.triu(np.ones((6, 6)), 1) - 1j * np.tril(np.ones((6, 6)), -1)

        def multiply(x):
            y = cnp.matmul(matrix, cnp.concatenate([x["p"], cnp.ravel(x["q"])]))
            return {"p": y[:2], "q": y[2:].reshape(2, 2)}

        right = {"p": (B + 1j * B)[:2], "q": (B + 1j * B)[2:].reshape(2, 2)}
        x = solve(cv, name, multiply, right)
        found = np.concatenate([np.asarray(x["p"]), np.ravel(np.asarray(x["q"]))])
        np.testing.assert_allclose(found, np.linalg.solve(matrix, B + 1j * B), rtol=1e-8)

    def test_a_right_hand_side_of_zeros(self, name):
        np.testing.assert_array_equal(solve(cv, name, MATRICES[name], 0 * B), 0 * B)

    def test_exact_after_one_step(self, name):
        np.testing.assert_allclose(solve(cv, name, 2 * np.eye(6), B), B / 2)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", ["batched", "incremental"])
@pytest.mark.parametrize("restart", [2, 6, 20])
def test_restarts_of_gmres(method, restart):
    options = {"restart": restart, "solve_method": method, "maxiter": 200}
    x = solve(cv, "gmres", GENERAL, B, **options)
    np.testing.assert_allclose(x, np.linalg.solve(GENERAL, B), rtol=1e-8)


def test_messages():
    with pytest.raises(TypeError, match="cg: A must be a function or a square matrix"):
        ours.cg("matrix", B)
    with pytest.raises(ValueError, match=r"gmres: A must be a square matrix, got .*\(2, 3\)"):
        ours.gmres(np.ones((2, 3)), B)
    with pytest.raises(ValueError, match="x0 must have the structure of b"):
        ours.bicgstab(GENERAL, B, x0=(B,))
    with pytest.raises(ValueError, match=r"shapes of those of b, got \(2,\)"):
        ours.cg(GENERAL, B, x0=B[:2])
    with pytest.raises(ValueError, match="solve_method must be one of"):
        ours.gmres(GENERAL, B, solve_method="other")
    with pytest.raises(ValueError, match="b has no arrays"):
        ours.cg(lambda x: x, ())


def test_examples():
    result = doctest.testmod(importlib.import_module("covector.scipy.sparse.linalg"))
    assert result.failed == 0
    assert result.attempted > 0
