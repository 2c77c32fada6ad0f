"""Scans whose lanes share work: that work runs once, in a loop of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.compiler.passes.lanes import Lanes
from covector.compiler.pipeline import run_passes
from covector.core import backend
from covector.core.config import config
from covector.core.interpret import run
from covector.core.program import Program
from covector.core.verify import verify
from covector.scipy.linalg import cho_solve, solve_triangular

RNG = np.random.default_rng(3)
STATES, SEEN, STEPS, SERIES = 3, 2, 6, 20


def distributed(
    function: Callable[..., Any], *args: Any, width: int = 4, close: float = 2e-4
) -> Program:
    """A function's program in lanes, after checking that it computes the same."""
    program = run_passes(cv.make_program(function)(*args))
    after, _ = Lanes(width, 2).decide(program)
    verify(after)
    leaves = [np.asarray(x) for x in cv.tree.leaves(args)]
    expected = run(program, *leaves)
    with config.override("disable", "lanes,distribution"):
        plain = backend.executable(program)(*leaves)
    for results in (run(after, *leaves), backend.executable(program)(*leaves), plain):
        for found, wanted in zip(results, expected, strict=True):
            scale = 1.0 + np.abs(wanted).max()
            np.testing.assert_allclose(np.asarray(found), wanted, rtol=close, atol=close * scale)
    return after


def loops(program: Program) -> list[str]:
    """What loops there are, in order; of lanes those inside."""
    names: list[str] = []
    for equation in program.equations:
        if equation.primitive.name == "lanes":
            inner = loops(equation.params["programs"][0])
            names.append(f"lanes({', '.join(inner)})")
        elif equation.primitive.name in ("scan", "while"):
            names.append(equation.primitive.name)
    return names


# --- a filter -------------------------------------------------------------------------------------


def by_solve(s: Any, hp: Any, r: Any) -> Any:
    gain = cnp.linalg.solve(s, hp).T
    return gain, r @ cnp.linalg.solve(s, r) + cnp.linalg.slogdet(s)[1]


def by_inverse(s: Any, hp: Any, r: Any) -> Any:
    inverse = cnp.linalg.inv(s)
    return hp.T @ inverse, r @ inverse @ r + cnp.log(cnp.linalg.det(s))


def by_cholesky(s: Any, hp: Any, r: Any) -> Any:
    factor = cnp.linalg.cholesky(s)
    z = solve_triangular(factor, r, lower=True)
    gain = cho_solve((factor, True), hp).T
    return gain, z @ z + 2 * cnp.log(cnp.diag(factor)).sum()


def likelihood(update: Callable[..., Any], f: Any, h: Any, q: Any, r: Any, start: Any, ys: Any):
    def step(carry: Any, y: Any) -> Any:
        x, p = carry
        x, p = f @ x, f @ p @ f.T + q
        s = h @ p @ h.T + r
        gain, length = update(s, h @ p, y - h @ x)
        return (x + gain @ (y - h @ x), p - gain @ s @ gain.T), -0.5 * length

    return lax.scan(step, (cnp.zeros(STATES), start), ys)[1].sum()


def arguments() -> list[Any]:
    f = 0.9 * np.eye(STATES) + 0.1 * RNG.normal(size=(STATES, STATES))
    h = RNG.normal(size=(SEEN, STATES))
    ys = RNG.normal(size=(SERIES, STEPS, SEEN))
    given = (f, h, 0.1 * np.eye(STATES), 0.3 * np.eye(SEEN), np.eye(STATES), ys)
    return [x.astype(np.float32) for x in given]


UPDATES = pytest.mark.parametrize("update", [by_solve, by_inverse, by_cholesky])


def total(update: Callable[..., Any], *args: Any, shared: bool = True) -> Any:
    axes = (None,) * 4 + (None if shared else 0, 0)
    return cv.vmap(lambda *a: likelihood(update, *a), axes)(*args).sum()


@UPDATES
def test_a_covariance_that_all_series_share_is_computed_once(update: Callable[..., Any]) -> None:
    program = distributed(lambda *args: total(update, *args), *arguments())
    assert loops(program) == ["scan", "lanes(scan)"]


@UPDATES
def test_its_derivative_too(update: Callable[..., Any]) -> None:
    gradient = cv.grad(lambda *args: total(update, *args), (0, 1, 2, 3))
    program = distributed(gradient, *arguments())
    assert loops(program) == ["scan", "lanes(scan, scan)"]


@UPDATES
def test_a_covariance_of_each_series_has_lanes(update: Callable[..., Any]) -> None:
    # Sums over 20 series that begin with variances up to 19 lose digits that 32 bits do not have.
    *args, start, ys = [x.astype(np.float64) for x in arguments()]
    starts = start + np.arange(SERIES)[:, None, None] * np.eye(STATES)
    args = [*args, starts, ys]
    each = lambda *a: total(update, *a, shared=False)  # noqa: E731
    with cv.enable_x64(True):
        for function, expected in (
            (each, "lanes(scan)"),
            (cv.grad(each, (0, 1, 2, 3)), "lanes(scan, scan)"),
        ):
            assert loops(distributed(function, *args, close=1e-8)) == [expected]


# --- parts ----------------------------------------------------------------------------------------


def test_what_is_not_linear_in_a_sum_over_lanes_follows_in_a_loop_of_its_own() -> None:
    def step(carry: Any, _: Any) -> Any:
        x, moments = carry
        x = cnp.sin(x) + 0.1
        mixed = cnp.tanh(moments @ moments.T + x.mean())
        return (x, cnp.exp(-mixed) @ mixed), x.max()

    def simulate(x: Any, start: Any) -> Any:
        return lax.scan(step, (x, start), None, length=5)

    xs = RNG.normal(size=18).astype(np.float32)
    program = distributed(simulate, xs, RNG.normal(size=(3, 3)).astype(np.float32))
    assert loops(program) == ["lanes(scan)", "scan"]


def test_cheap_counters_stay_with_the_lanes() -> None:
    def step(carry: Any, _: Any) -> Any:
        x, t = carry
        return (x + cnp.sin(x + t), t + 0.1), None

    def simulate(x: Any) -> Any:
        return lax.scan(step, (x, cnp.float32(0)), None, length=5)[0]

    assert loops(distributed(simulate, RNG.normal(size=18).astype(np.float32))) == ["lanes(scan)"]


def test_reversed_loops_and_stacked_results_are_distributed_alike() -> None:
    def step(carry: Any, given: Any) -> Any:
        x, w = carry
        k, row = given
        w = cnp.tanh(w @ w + k)
        return (cnp.sin(x) * w[0, 0] + row, w), (w.sum(0), x, k)

    def simulate(x: Any, w: Any, ks: Any, rows: Any) -> Any:
        return lax.scan(step, (x, w), (ks, rows), reverse=True)

    args = [RNG.normal(size=s).astype(np.float32) for s in ((18,), (4, 4), (5,), (5, 18))]
    assert loops(distributed(simulate, *args)) == ["scan", "lanes(scan)"]


# --- arrays that lanes write to together ----------------------------------------------------------


def tallied(work: int, read: bool = False) -> Callable[..., Any]:
    """Particles that leave a trace in one histogram at every step."""

    def step(carry: Any, _: Any) -> Any:
        x, tally = carry
        for _ in range(work):
            x = 0.7 * cnp.sin(x) + 0.2 * cnp.cos(x)
        place = cnp.clip(cnp.abs(x) * 3, 0, 6).astype(int)
        tally = tally.at[place].add(x * x)
        if read:
            x = cnp.sin(x + tally[place])
        return (x, tally), cnp.max(tally)

    return lambda x: lax.scan(step, (x, cnp.ones(7)), None, length=STEPS)


def test_a_tally_has_a_loop_of_its_own() -> None:
    xs = RNG.normal(size=SERIES).astype(np.float32)
    program = distributed(tallied(10), xs)
    assert loops(program) == ["lanes(scan)", "scan"]
    # In the order in which one loop would add, so that nothing is rounded otherwise.
    found = cv.jit(tallied(10))(xs)
    with config.override("disable", "distribution"):
        wanted = cv.jit(tallied(10))(xs)
    for a, b in zip(cv.tree.leaves(found), cv.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_tally_of_little_work_stays_where_it_is() -> None:
    program = distributed(tallied(1), RNG.normal(size=SERIES).astype(np.float32))
    assert loops(program) == ["scan"]


def test_a_tally_that_lanes_read_keeps_them_together() -> None:
    xs = RNG.normal(size=SERIES).astype(np.float32)
    program, _ = Lanes(4, 2).decide(run_passes(cv.make_program(tallied(10, read=True))(xs)))
    assert loops(program) == ["scan"]
