"""The work of deciding about lanes grows in proportion to the program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.compiler.lanes_support import RHOS, separated

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.compiler.lanes import distribute
from covector.compiler.lanes.flow import Flow
from covector.compiler.passes.lanes import Lanes
from covector.compiler.pipeline import run_passes
from covector.core.config import config
from covector.core.program import Program


def steps_taken(program: Program, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often the pass looks at an equation."""
    taken = 0
    step = Flow.step

    def counted(flow: Flow, equation: Any) -> Any:
        nonlocal taken
        taken += 1
        return step(flow, equation)

    with monkeypatch.context() as patch:
        patch.setattr(Flow, "step", counted)
        Lanes(4, 2).decide(program)
    return taken


def taken_apart(program: Program, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often the pass looks for parts of loops."""
    taken = 0
    parts = distribute._Parts.__init__

    def counted(*args: Any) -> None:
        nonlocal taken
        taken += 1
        parts(*args)

    with monkeypatch.context() as patch:
        patch.setattr(distribute._Parts, "__init__", counted)
        Lanes(4, 2).decide(program)
    return taken


def test_each_level_of_loops_is_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def nested(depth: int) -> Callable[..., Any]:
        def body(carry: Any) -> Any:
            x, y = carry
            z = nested(depth - 1)(x, y) if depth else cnp.sin(x)
            return lax.cond(z > 0.5, lambda z: z * y, lambda z: z + 1.0, z), y + 1

        return lambda x, y: lax.while_loop(lambda c: c[0] < c[1], body, (x, y))[0]

    one, two, four = [
        steps_taken(
            run_passes(cv.make_program(cv.vmap(nested(depth)))(RHOS, RHOS + 1)), monkeypatch
        )
        for depth in (1, 2, 4)
    ]
    assert four - two < 1.1 * 2 * (two - one)


def test_work_grows_in_proportion_to_what_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepared(length: int) -> Callable[..., Any]:
        def function(x: Any) -> Any:
            rates = cnp.arange(10.0)
            for _ in range(length):
                rates = cnp.sin(rates)
            return lax.scan(lambda x, _: (x * rates, None), x, None, length=3)[0]

        return function

    few, many = [
        steps_taken(run_passes(cv.make_program(prepared(n))(RHOS)), monkeypatch) for n in (10, 80)
    ]
    assert many < 10 * few
    program, _ = separated(prepared(10), RHOS)
    assert [e.primitive.name for e in program.equations] == ["lanes"]


def test_a_loop_with_many_operands_is_followed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes lead from each of them to all others, and what they find does not pay."""

    def coupled(count: int) -> Callable[..., Any]:
        def step(carry: Any, _: Any) -> Any:
            shared, xs = carry
            total = sum(xs) + shared[0]
            shared = cnp.sin(shared + shared.sum())
            return (shared, tuple([cnp.sin(x) + total for x in xs])), None

        def function(x: Any) -> Any:
            starts = tuple([x + k for k in range(count)])
            return lax.scan(step, (cnp.ones(900 * count), starts), None, length=3)[0]

        return function

    with config.override("disable", "distribution"):
        programs = [run_passes(cv.make_program(coupled(n))(RHOS)) for n in (10, 80)]
        assert "is shared" in str(Lanes(4, 2).decide(programs[0])[1][0])
        few, many = [steps_taken(program, monkeypatch) for program in programs]
    assert many < 10 * few


def test_a_tape_of_many_stacks_is_taken_apart_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(count: int) -> Callable[..., Any]:
        def step(x: Any, _: Any) -> Any:
            for _ in range(count):
                x = cnp.sin(x) * x
            return x, None

        return lambda x: lax.scan(step, x, None, length=3)[0].sum()

    few, many = [
        taken_apart(run_passes(cv.make_program(cv.grad(loss(n)))(RHOS)), monkeypatch)
        for n in (5, 40)
    ]
    assert many == few


def test_of_many_stacks_one_is_tried_along_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tape of numbers has no axis but that of the steps, and all its stacks meet the same."""

    def loss(x: Any) -> Any:
        def step(x: Any, _: Any) -> Any:
            for _ in range(20):
                x = cnp.sin(x) * x
            return x, None

        return lax.scan(step, x, None, length=50)[0]

    tried = 0
    separated_along = Lanes._separated

    def counted(*args: Any) -> Program:
        nonlocal tried
        tried += 1
        return separated_along(*args)

    program = run_passes(cv.make_program(cv.grad(cv.grad(loss)))(cnp.float32(1)))
    monkeypatch.setattr(Lanes, "_separated", counted)
    _, decisions = Lanes(4, 2).decide(program)
    assert "one after the other" in str(decisions[-1])
    assert tried <= len(decisions)


def test_independent_carries_begin_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lanes of one lead to no other, and alone have little of the work."""

    def independent(count: int) -> Callable[..., Any]:
        def step(carry: Any, _: Any) -> Any:
            return tuple([cnp.sin(x) for x in carry]), None

        return lambda x: lax.scan(step, tuple([x * k for k in range(count)]), None, length=9)[0]

    x = cnp.ones(60)
    programs = [run_passes(cv.make_program(independent(n))(x)) for n in (10, 80)]
    for program in programs:
        _, decisions = Lanes(4, 2).decide(program)
        assert [d.lanes for d in decisions] == [60]
    few, many = [steps_taken(program, monkeypatch) for program in programs]
    assert many < 10 * few
