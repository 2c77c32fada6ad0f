"""Small factorisations and solves as generated code: sizes, batches, lanes, derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg as sl

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.core.config import config, enable_x64
from covector.scipy.linalg import cho_solve, solve_triangular
from covector.testing.gradients import check_grads

SIZES = (1, 2, 3, 5, 8, 9, 16)
BATCHES = {np.float32: ((), (0,), (19,)), np.float64: ((), (2, 9))}


def matrices(rng: Any, shape: tuple[int, ...], n: int, dtype: Any) -> tuple[Any, Any, Any]:
    """Matrices far from singular ones, positive definite ones, right-hand sides."""
    a = rng.normal(size=(*shape, n, n)) + 2 * np.eye(n) * np.sign(rng.normal(size=n))
    p = a @ np.swapaxes(a, -1, -2) + np.eye(n)
    b = rng.normal(size=(*shape, n, 2))
    return tuple(np.asarray(x, dtype) for x in (a, p, b))  # pyright: ignore[reportReturnType]


def agree(found: Any, wanted: Any, dtype: Any, factor: float = 1.0) -> None:
    eps = np.finfo(dtype).eps
    scale = np.abs(wanted).max() if np.size(wanted) else 1.0
    assert found.dtype == dtype
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=0, atol=400 * factor * eps * scale)


@pytest.fixture(params=["generated", "library"])
def path(request: pytest.FixtureRequest) -> Any:
    """Both ways to do it."""
    off = "small_linalg" if request.param == "library" else ""
    with config.override("disable", off):
        yield request.param


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", BATCHES)
def test_sizes(n: int, dtype: Any, path: str) -> None:
    with enable_x64(True):
        for batch in BATCHES[dtype]:
            a, p, b = matrices(np.random.default_rng(n), batch, n, dtype)
            condition = float(np.linalg.cond(a).max()) if a.size else 1.0
            agree(cv.jit(cnp.linalg.solve)(a, b), np.linalg.solve(a, b), dtype, condition)
            agree(cv.jit(cnp.linalg.inv)(a), np.linalg.inv(a), dtype, condition)
            agree(cv.jit(cnp.linalg.det)(a), np.linalg.det(a), dtype, n)
            sign, length = cv.jit(cnp.linalg.slogdet)(a)
            wanted = np.linalg.slogdet(a)
            np.testing.assert_array_equal(np.asarray(sign), wanted[0])
            agree(length, wanted[1], dtype, n)
            agree(cv.jit(cnp.linalg.cholesky)(p), np.linalg.cholesky(p), dtype, n)


@pytest.mark.parametrize("n", [2, 4, 8])
def test_failures(n: int, path: str) -> None:
    rng = np.random.default_rng(n)
    a, p, _ = matrices(rng, (21,), n, np.float32)
    bad = rng.random(21) < 0.4
    p[bad, 0, 0] = -1.0
    found = np.asarray(cv.jit(cnp.linalg.cholesky)(p))
    assert np.isnan(found[bad]).all()
    np.testing.assert_allclose(found[~bad], np.linalg.cholesky(p[~bad]), rtol=1e-4, atol=1e-4)
    a[bad, -1] = a[bad, 0]
    a[bad, :, -1] = 0.0
    sign, length = map(np.asarray, cv.jit(cnp.linalg.slogdet)(a))
    assert (sign[bad] == 0).all()
    assert (length[bad] == -np.inf).all()
    assert (np.asarray(cv.jit(cnp.linalg.det)(a))[bad] == 0).all()
    solved = np.asarray(cv.jit(cnp.linalg.solve)(a, np.ones((21, n, 1), np.float32)))
    assert not np.isfinite(solved[bad]).all(axis=(1, 2)).any()
    assert np.isfinite(solved[~bad]).all()


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "solve": lambda p, b: cnp.linalg.solve(p, b),
    "solve transposed": lambda p, b: cnp.linalg.solve(p.T, b),
    "inverse": lambda p, b: cnp.linalg.inv(p) @ b,
    "slogdet": lambda p, b: cnp.linalg.slogdet(p)[1] + b.sum(),
    "cholesky": lambda p, b: cnp.linalg.cholesky(p) @ b,
    "cho_solve": lambda p, b: cho_solve((cnp.linalg.cholesky(p), True), b),
    "triangular": lambda p, b: solve_triangular(p, b, lower=False, trans=1),
}


def mapped(function: Callable[..., Any], way: str) -> Callable[..., Any]:
    """A function of each of many matrices, in different places."""
    if way == "vmap":
        return cv.vmap(function)

    def in_scan(p: Any, b: Any) -> Any:
        def step(x: Any, _: Any) -> Any:
            return 0.5 * x + 0.1 * cnp.sin(function(p, x).sum()) + 0.2 * x, None

        return lax.scan(step, b, None, length=3)[0]

    def in_while(p: Any, b: Any) -> Any:
        def body(carry: Any) -> Any:
            k, x = carry
            return k + 1, 0.5 * x + 0.1 * function(p, x).sum()

        return lax.while_loop(lambda c: c[0] < 3, body, (0, b))[1]

    return cv.vmap({"scan": in_scan, "while": in_while}[way])


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("way", ["vmap", "scan", "while"])
def test_in_loops_over_a_batch(name: str, way: str) -> None:
    _, p, b = matrices(np.random.default_rng(2), (20,), 3, np.float32)
    function = mapped(FUNCTIONS[name], way)
    found = np.asarray(cv.jit(function)(p, b))
    each = [np.asarray(function(p[k : k + 1], b[k : k + 1]))[0] for k in range(20)]
    np.testing.assert_allclose(found, np.stack(each), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives(name: str) -> None:
    with enable_x64(True):
        _, p, b = matrices(np.random.default_rng(4), (2,), 3, np.float64)

        def symmetric(x: Any, y: Any) -> Any:
            return cnp.tanh(FUNCTIONS[name](0.5 * (x + x.T) / 4, y)).sum()

        check_grads(cv.jit(cv.vmap(symmetric)), (p, b), 2)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_loops_over_a_batch(name: str) -> None:
    _, p, b = matrices(np.random.default_rng(6), (20,), 3, np.float32)
    function = mapped(FUNCTIONS[name], "scan")
    gradient = cv.grad(lambda p, b: function(0.5 * (p + cnp.swapaxes(p, 1, 2)), b).sum(), (0, 1))
    found = cv.jit(gradient)(p, b)
    with config.override("disable", "lanes,small_linalg"):
        wanted = cv.jit(gradient)(p, b)
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("columns", [1, 2, 11])
def test_one_matrix_for_all_right_hand_sides(columns: int) -> None:
    a, p, _ = matrices(np.random.default_rng(8), (), 4, np.float32)
    b = np.random.default_rng(9).normal(size=(18, 4, columns)).astype(np.float32)
    solved = cv.jit(cv.vmap(cnp.linalg.solve, (None, 0)))(a, b)
    np.testing.assert_allclose(np.asarray(solved), np.linalg.solve(a, b), rtol=1e-3, atol=1e-4)
    factor = np.linalg.cholesky(p)
    both = cv.jit(cv.vmap(lambda f, x: solve_triangular(f, x, lower=True), (None, 0)))(factor, b)
    wanted = np.stack([sl.solve_triangular(factor, x, lower=True) for x in b])
    np.testing.assert_allclose(np.asarray(both), wanted, rtol=1e-3, atol=1e-4)
