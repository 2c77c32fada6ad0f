"""What is the same in each iteration stands before the loop, with equal results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.compiler.passes.invariants import Invariants
from covector.core.config import config
from covector.core.interpret import run
from covector.core.program import Program, all_equations, subprograms
from covector.core.verify import verify

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32) / max(shape)


A, X, Y = normal(16, 16), normal(16), normal(7, 16)


def inside(program: Program, name: str) -> int:
    """How many equations of a primitive the loops of a program hold."""
    loops = [e for e in program.equations if next(subprograms(e.params), None) is not None]
    bodies = [p for e in loops for p in subprograms(e.params)]
    return sum(e.primitive.name == name for p in bodies for e in all_equations(p))


def hoisted(function: Callable[..., Any], *args: Any) -> Program:
    """The program after the pass, after checking that it computes the same as before."""
    program = cv.make_program(function)(*args)
    after = Invariants().run(program)
    verify(after)
    for found, wanted in zip(run(after, *args), run(program, *args), strict=True):
        np.testing.assert_array_equal(found, wanted)
    return after


def repeated(step: Callable[..., Any], length: int = 3) -> Callable[..., Any]:
    """`step(carry, *consts)` some times."""

    def function(x: Any, *consts: Any) -> Any:
        return lax.scan(lambda c, _: (step(c, *consts), None), x, None, length=length)[0]

    return function


def until(step: Callable[..., Any]) -> Callable[..., Any]:
    """`step(carry, *consts)` in a `while` whose condition has a const, too."""

    def function(x: Any, a: Any) -> Any:
        def condition(state: Any) -> Any:
            return state[0] < (a[0, 0] > -5) * 3

        def body(state: Any) -> Any:
            return state[0] + 1, step(state[1], a)

        return lax.while_loop(condition, body, (0, x))

    return function


@pytest.mark.parametrize("loop", [repeated, until])
@pytest.mark.parametrize(
    ("step", "name", "left"),
    [
        (lambda x, a: (a @ a) @ x, "dot_general", 1),
        (lambda x, a: cnp.exp(2 * a.T + 1) @ x, "exp", 0),
        (lambda x, a: x + a.sum(), "reduce_sum", 0),
        (lambda x, a: x + cnp.sort(a[0]) @ a, "sort", 0),
        (lambda x, a: cnp.linalg.solve(a @ a.T + cnp.eye(16), x), "cholesky", 0),
        (lambda x, a: a @ a, "dot_general", 0),  # nothing but the invariant is the result
        # What the carries change stays.
        (lambda x, a: cnp.exp(cnp.outer(a @ x, x)) @ x, "exp", 1),
        # Sums fuse into what reads them; scalars and short arrays are registers.
        (lambda x, a: (a + 1) @ x, "add", 1),
        (lambda x, a: x * cnp.exp(a[0, 0]), "exp", 1),
    ],
)
def test_costly_equations_move(loop: Any, step: Any, name: str, left: int) -> None:
    x = A if step(X, A).ndim == 2 else X
    after = hoisted(loop(step), x, A)
    assert inside(after, name) == left + (name == "add" and loop is until)


def test_two_loops_deep() -> None:
    def step(x: Any, a: Any) -> Any:
        return repeated(lambda x, a: (a @ a) @ x)(x, a)

    after = hoisted(repeated(step), X, A)
    assert inside(after, "dot_general") == 1


def test_loops_move_themselves() -> None:
    def step(x: Any, a: Any) -> Any:
        return x + repeated(lambda c, a: cnp.tanh(a @ c))(a[0], a)

    after = hoisted(repeated(step), X, A)
    assert inside(after, "tanh") == 1
    assert [e.primitive.name for e in after.equations].count("scan") == 2
    (outer,) = [e for e in after.equations[-1:] if e.primitive.name == "scan"]
    assert not any(e.primitive.name == "scan" for e in outer.params["program"].equations)


def test_all_results_of_an_equation_move() -> None:
    def step(x: Any, a: Any) -> Any:
        w, v = cnp.linalg.eigh(a + a.T)
        return w * x + v[0]

    assert inside(hoisted(repeated(step), X, A), "eigh") == 0


def test_xs_and_ys_keep_their_places() -> None:
    def function(x: Any, y: Any, a: Any) -> Any:
        def step(c: Any, y: Any) -> Any:
            return (a @ a) @ c + y, c - y

        return lax.scan(step, x, y, reverse=True)

    assert inside(hoisted(function, X, Y, A), "dot_general") == 1


@pytest.mark.parametrize("length", [0, 1])
def test_short_loops_stay(length: int) -> None:
    program = cv.make_program(repeated(lambda x, a: (a @ a) @ x, length))(X, A)
    assert Invariants().run(program) is program


def test_effects_and_checkpoints_stay(capfd: Any) -> None:
    def shown(x: Any, a: Any) -> Any:
        cv.debug.print("norm {}", (a @ a).sum())
        return x

    program = cv.make_program(repeated(shown))(X, A)
    after = Invariants().run(program)
    assert inside(after, "reduce_sum") == 0
    assert inside(after, "debug_callback") == inside(program, "debug_callback") > 0
    cv.jit(repeated(shown))(X, A)
    assert capfd.readouterr().out.count("norm") == 3

    def kept(x: Any, a: Any) -> Any:
        return lax.optimization_barrier(a @ a) @ x

    program = cv.make_program(repeated(kept))(X, A)
    assert inside(Invariants().run(program), "optimization_barrier") == 1


def test_what_would_fill_memory_stays() -> None:
    def step(x: Any, a: Any) -> Any:
        wide = cnp.exp(a[0, :, None, None] * cnp.ones((1, 700, 700)))
        return (wide * x[:, None, None]).sum((1, 2))

    program = cv.make_program(repeated(step))(X, A)
    assert Invariants().run(program) is program


@pytest.mark.parametrize("disable", ["", "invariants"])
@pytest.mark.parametrize("loop", [repeated, until])
def test_derivatives_and_lanes(disable: str, loop: Any) -> None:
    def step(x: Any, a: Any) -> Any:
        return cnp.tanh(cnp.exp(a) @ a @ x) + (a * a).sum()

    def last(x: Any, a: Any) -> Any:
        return cv.tree.leaves(loop(step)(x, a))[-1].sum()

    mode = cv.grad if loop is repeated else cv.jacfwd
    with config.override("disable", frozenset(disable.split())):
        each = cv.vmap(mode(last, (0, 1)), (0, None))
        found = cv.jit(each)(Y, A)
    for k, y in enumerate(Y):
        wanted = mode(last, (0, 1))(y, A)
        for f, w in zip(found, wanted, strict=True):
            np.testing.assert_allclose(f[k], w, rtol=2e-4, atol=1e-5)


def test_loops_that_might_not_end_stay_where_they_are_guarded() -> None:
    def f(n: Any, d: Any) -> Any:
        def body(state: Any) -> Any:
            k = lax.while_loop(lambda k: k < 100, lambda k: k + d, 0)  # ends only if d > 0
            return state[0] + 1, state[1] + k

        return lax.while_loop(lambda state: (state[0] < n) & (d > 0), body, (0, 0))

    program = cv.make_program(f)(3, 0)
    assert Invariants().run(program) is program
    assert tuple(map(int, cv.jit(f)(3, 0))) == (0, 0)
    assert tuple(map(int, cv.jit(f)(3, 7))) == (3, 315)

    def steps(d: Any) -> Any:  # runs in any case
        def step(s: Any, _: Any) -> Any:
            return s + lax.while_loop(lambda k: k < 100, lambda k: k + d, 0), None

        return lax.scan(step, 0, None, length=4)[0]

    after = Invariants().run(cv.make_program(steps)(7))
    assert inside(after, "while") == 0
    assert int(cv.jit(steps)(7)) == 420
