"""Steps that a Python loop wrote out become loops, with the values they have one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.compiler import repeats
from covector.compiler.passes.rolling import Rolling
from covector.compiler.pipeline import PASSES, run_passes
from covector.core import interpret
from covector.core.config import config
from covector.core.program import Equation, Program, all_equations, count_equations
from covector.core.verify import verify

STEPS = 120
MATRIX = np.random.default_rng(0).normal(0.0, 0.3, (4, 4)).astype(np.float32)


def euler(x: Any) -> Any:
    for _ in range(STEPS):
        x = x + 0.01 * cnp.sin(x) * cnp.cos(2.0 * x)
    return x.sum()


def varying(x: Any) -> Any:
    for k in range(STEPS):
        x = x + 0.01 * cnp.sin(x * (1.0 + k / 64)) - k * 1e-4
    return x.sum()


def matrix(x: Any) -> Any:
    for _ in range(STEPS):
        x = x + 0.01 * cnp.tanh(cnp.asarray(MATRIX) @ x)
    return x.sum()


def scalars(x: Any) -> Any:
    p, v = x[0], x[1]
    for _ in range(STEPS):
        v = v - 0.01 * cnp.sin(p)
        p = p + 0.01 * v
    return p * v + x[2]


def two_steps(x: Any) -> Any:
    """Adams and Bashforth's: a step reads what two before it computed."""
    before, now = -cnp.sin(x), -cnp.sin(x + 0.01)
    for _ in range(STEPS):
        x = x + 0.01 * (1.5 * now - 0.5 * before)
        before, now = now, -cnp.sin(x)
    return x.sum()


def runge_kutta(x: Any) -> Any:
    def field(y: Any) -> Any:
        a, b, c, d = y
        return cnp.stack([10.0 * (b - a), a * (28.0 - c) - b, a * b - 8 / 3 * c, -d])

    for _ in range(STEPS // 4):
        k1 = field(x)
        k2 = field(x + 0.005 * k1)
        k3 = field(x + 0.005 * k2)
        k4 = field(x + 0.01 * k3)
        x = x + 0.01 / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x.sum()


def some_kept(x: Any) -> Any:
    """Every tenth state is a result of its own."""
    kept: list[Any] = []
    for k in range(STEPS):
        x = x + 0.01 * cnp.sin(x) * cnp.cos(x)
        if k % 10 == 3:
            kept.append(x)
    return (cnp.stack(kept) ** 2).sum() + x.sum()


def trajectory(x: Any) -> Any:
    states = [x]
    for _ in range(STEPS):
        x = x + 0.01 * cnp.sin(x) * cnp.cos(x)
        states.append(x)
    return (cnp.stack(states) * cnp.arange(STEPS + 1.0)[:, None]).sum()


def driven(x: Any) -> Any:
    """Each step reads a row of an array."""
    for row in cnp.sin(cnp.outer(cnp.arange(float(STEPS)), x)):
        x = x + 0.01 * cnp.tanh(x + row) * row
    return x.sum()


def there_and_back(x: Any) -> Any:
    """The second loop reads the states of the first in their order, then others in reverse."""
    states: list[Any] = []
    for _ in range(STEPS):
        x = x + 0.01 * cnp.sin(x) * cnp.exp(-x)
        states.append(x)
    for a, b in zip(states, reversed(states), strict=True):
        x = x + 0.01 * cnp.sin(a) * cnp.cos(b) * x
    return x.sum()


def inside(x: Any) -> Any:
    return lax.scan(lambda c, _: (x + 0.1 * euler(c), None), x, None, length=3)[0].sum()


GRADIENTS = (euler, varying, matrix, scalars, two_steps, runge_kutta, some_kept, trajectory, driven)
FUNCTIONS = (*GRADIENTS, there_and_back, inside)
x = np.linspace(0.2, 1.0, 4, dtype=np.float32)

BEFORE = PASSES[: [p.name for p in PASSES].index("rolling")]


def str_of(function: Any) -> str:
    return function.__name__


def prepared(function: Callable[..., Any]) -> Program:
    return run_passes(cv.make_program(function)(x), BEFORE)


def loops(program: Program) -> list[Equation]:
    return [e for e in all_equations(program) if e.primitive.name == "scan"]


@pytest.mark.parametrize("function", [*FUNCTIONS, *map(cv.grad, GRADIENTS)], ids=str_of)
def test_loops_have_the_values_of_steps(function: Any) -> None:
    """The same operations in the same order: equal to the last bit where they are interpreted."""
    program = prepared(function)
    rolled = Rolling().run(program)
    verify(rolled)
    assert len(loops(rolled)) > len(loops(program))
    assert count_equations(rolled) < count_equations(program) / 3
    for a, b in zip(interpret.run(program, x), interpret.run(rolled, x), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("function", [varying, scalars, some_kept, trajectory, driven], ids=str_of)
def test_compiled_gradients(function: Any) -> None:
    results: list[Any] = []
    for left_out in ("", "rolling"):
        with config.override("disable", left_out):
            gradient = cv.jit(cv.grad(lambda v: function(v)))
            results.append(gradient(x))
            assert ("scan" in gradient.lower(x).as_text("optimized")) == (left_out == "")
    np.testing.assert_allclose(*results, rtol=2e-5, atol=1e-6)


def test_a_state_is_all_that_is_handed_on() -> None:
    """Wherever the first step begins: two steps overlap by one array."""
    (loop,) = loops(Rolling().run(prepared(euler)))
    assert loop.params["num_carry"] == 1
    assert loop.params["num_consts"] == 0
    assert loop.params["length"] >= STEPS - 3


def test_gradients_walk_backwards_through_what_was_kept() -> None:
    forwards, backwards = loops(Rolling().run(prepared(cv.grad(euler))))
    assert not forwards.params["reverse"]
    assert backwards.params["reverse"]


def tangled(v: Any) -> Any:
    """The same operation over and over, of operands in no order."""
    generator = np.random.default_rng(1)
    values = [v, v + 1.0]
    for _ in range(600):
        a, b = generator.integers(0, len(values), 2)
        values.append(values[a] + values[b])
    return cnp.stack(values).sum()


def short(v: Any) -> Any:
    for _ in range(20):
        v = cnp.sin(v)
    return v


@pytest.mark.parametrize("function", [tangled, short], ids=str_of)
def test_what_stays_as_it_is(function: Any) -> None:
    program = prepared(function)
    assert Rolling().run(program).as_text() == program.as_text()


def test_effects_are_no_steps() -> None:
    def f(v: Any) -> Any:
        for k in range(STEPS):
            v = cnp.sin(v) * 2.0 + 1.0
            cv.debug.print("{}", k)
        return v

    program = cv.make_program(f)(x)
    assert Rolling().run(program).as_text() == program.as_text()


def test_results_read_one_by_one_are_no_gain() -> None:
    def f(v: Any) -> Any:
        states: list[Any] = []
        for _ in range(3 * STEPS):
            v = cnp.sin(v)
            states.append(v)
        return states

    program = prepared(f)
    assert Rolling().run(program).as_text() == program.as_text()


def test_looking_for_repeats_takes_time_that_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operands looked at, where each period seems to fit."""
    looked, holds = 0, repeats.Repeats._holds

    def counting(*args: Any) -> bool:
        nonlocal looked
        looked += 1
        return holds(*args)

    def far_apart(v: Any) -> Any:
        rows = [v * k for k in range(400)]
        order = np.random.default_rng(2).permutation(400)
        return cnp.stack([rows[k] + rows[j] for k, j in enumerate(order)])

    program = prepared(far_apart)
    monkeypatch.setattr(repeats.Repeats, "_holds", counting)
    rolled = Rolling().run(program)
    assert looked <= 3 * repeats.EFFORT * sum(len(e.inputs) for e in program.equations)
    for a, b in zip(interpret.run(program, x), interpret.run(rolled, x), strict=True):
        np.testing.assert_array_equal(a, b)
