"""Branches by lane: what no lane of a vector needs is left out, and no value changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import jit, lax, vmap
from covector.compiler.passes.branches import Branches
from covector.compiler.passes.lanes import Lanes
from covector.compiler.pipeline import run_passes
from covector.core.config import config
from covector.core.interpret import run
from covector.core.program import Program, all_equations
from covector.core.verify import verify

XS = np.linspace(0.1, 1.0, 70).astype(np.float32)
STEPS = 5


def expensive(y: Any) -> Any:
    for _ in range(6):
        y = y - (y * cnp.exp(y) - 1.0) / (cnp.exp(y) * (1 + y) + 1e-3)
    return y


def over_steps(step: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    def function(x: Any) -> Any:
        return lax.scan(lambda c, k: (step(c, k), None), x, cnp.arange(STEPS))[0]

    return function


def rarely(x: Any, k: Any) -> Any:
    return lax.cond(x * (k + 1) > 0.9, expensive, lambda y: y + 0.01, x)


def one_of_three(x: Any, k: Any) -> Any:
    index = (x * 10).astype(cnp.int32) - 3  # out of range, too
    return lax.switch(index, [expensive, cnp.sin, lambda y: expensive(y * y)], x)


def nested(x: Any, k: Any) -> Any:
    def outer(y: Any) -> Any:
        z = expensive(y) * 0.5
        return lax.cond(z > 0.2, lambda z: expensive(z + 1), lambda z: z, z)

    return lax.cond(x > 0.4, outer, lambda y: y + 0.1, x)


def one_after_the_other(x: Any, k: Any) -> Any:
    event = x * (k + 1) > 0.9
    first = cnp.where(event, expensive(x), x)
    return cnp.where(event, first + expensive(first * 0.5), first + 0.01)


def several_results(x: Any, k: Any) -> Any:
    def taken(y: Any) -> Any:
        v = cnp.arange(3.0) * y
        return cnp.exp(cnp.sin(v) @ cnp.ones((3, 3)) * 0.1), expensive(y)

    v, y = lax.cond(x > 0.5, taken, lambda y: (cnp.zeros(3), y), x)
    return 0.5 * y + 0.1 * v.sum()


def with_a_loop(x: Any, k: Any) -> Any:
    def taken(y: Any) -> Any:
        return lax.fori_loop(0, 20, lambda _, z: z - 0.1 * cnp.sin(z), y)

    return lax.cond(x > 0.5, taken, lambda y: y + 0.1, x)


def with_what_others_need(x: Any, k: Any) -> Any:
    y = expensive(x)
    return cnp.where(x > 0.5, y, x) * 0.5 + y * 0.1


STEPPED = {
    f.__name__: f
    for f in (
        rarely,
        one_of_three,
        nested,
        one_after_the_other,
        several_results,
        with_a_loop,
        with_what_others_need,
    )
}


def branched(function: Callable[..., Any], *args: Any) -> tuple[Program, Program]:
    """A vmapped function in lanes of one, without branches and with them."""
    program = run_passes(cv.make_program(vmap(function))(*args))
    lanes, decisions = Lanes(1, 16).decide(program)
    assert all([d.lanes for d in decisions])
    after = Branches().run(lanes)
    verify(after)
    return lanes, after


def count(program: Program, name: str) -> int:
    return sum([e.primitive.name == name for e in all_equations(program)])


@pytest.mark.parametrize("name", STEPPED)
def test_no_value_changes(name: str) -> None:
    function = over_steps(STEPPED[name])
    lanes, after = branched(function, XS)
    for found, wanted in zip(run(after, XS), run(lanes, XS), strict=True):
        np.testing.assert_array_equal(found, wanted)
    for differentiated in (function, cv.grad(function)):
        found = jit(vmap(differentiated))(XS)
        with config.override("disable", "lane_branches"):
            wanted = jit(vmap(differentiated))(XS)
        np.testing.assert_array_equal(found, wanted)


def test_what_one_side_needs_is_in_a_branch() -> None:
    lanes, after = branched(over_steps(rarely), XS)
    assert count(lanes, "cond") == 0
    assert count(lanes, "exp") == count(after, "exp") == 6
    (branch,) = [e for e in all_equations(after) if e.primitive.name == "cond"]
    assert [count(p, "exp") for p in branch.params["branches"]] == [0, 6]
    assert count(after, "select_n") == 0


def test_results_of_one_branch_share_it() -> None:
    _, after = branched(over_steps(several_results), XS)
    assert count(after, "cond") == 1
    _, after = branched(over_steps(one_after_the_other), XS)
    assert count(after, "cond") == 2


def test_branches_inside_of_branches() -> None:
    _, after = branched(over_steps(nested), XS)
    (outer,) = [
        e
        for p in [e.params["program"] for e in all_equations(after) if e.primitive.name == "scan"]
        for e in p.equations
        if e.primitive.name == "cond"
    ]
    assert sorted([count(p, "cond") for p in outer.params["branches"]]) == [0, 1]


def test_what_others_need_stays_outside() -> None:
    _, after = branched(over_steps(with_what_others_need), XS)
    assert count(after, "cond") == 0


def test_cheap_sides_stay_selects() -> None:
    cheap = over_steps(lambda x, k: lax.cond(x > 0.5, lambda y: y * y + 1, lambda y: -y, x))
    _, after = branched(cheap, XS)
    assert count(after, "cond") == 0


def test_lanes_that_have_left_a_while_are_masked_already() -> None:
    def function(x: Any) -> Any:
        return lax.while_loop(lambda y: y < 3, lambda y: y + 1 + expensive(y), x)

    _, after = branched(function, XS)
    assert count(after, "cond") == 0
    assert count(after, "select_n") > 0


def test_lanes_that_are_done_skip_the_steps_of_a_scan() -> None:
    """A loop of bounded length, as one writes it for reverse mode."""

    def step(carry: Any, _: Any) -> Any:
        x, done = carry
        after = expensive(x) + x
        return (cnp.where(done, x, after), done | (x > 2)), None

    def function(x: Any) -> Any:
        return lax.scan(step, (x, False), None, length=STEPS)[0][0]

    _, after = branched(function, XS)
    assert count(after, "cond") == 1


def test_plain_arrays_are_left_alone() -> None:
    program = run_passes(cv.make_program(vmap(lambda x: rarely(x, 0)))(XS))
    assert Branches().run(program).as_text() == program.as_text()


def test_one_number_may_stand_for_all_elements() -> None:
    def step(x: Any, z: Any) -> Any:
        return cnp.where(x > z, expensive(x), z), cnp.where(x > z, 0.5, expensive(z + x))

    def function(x: Any) -> Any:
        return lax.scan(step, x, cnp.linspace(0.0, 1.0, STEPS))

    before, after = branched(function, XS)
    assert count(after, "cond") == 1
    for wanted, found in zip(run(before, XS), run(after, XS), strict=True):
        np.testing.assert_array_equal(found, wanted)
    found = jit(vmap(function))(XS)
    with config.override("disable", "lane_branches"):
        wanted = jit(vmap(function))(XS)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
