"""Program passes: each keeps a program valid and its values the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.compiler.passes.cse import CommonSubexpressions
from covector.compiler.passes.dce import DeadCode
from covector.compiler.passes.inline import Inline
from covector.compiler.pipeline import LAST, PASSES, run_passes
from covector.core import interpret
from covector.core.program import Program, count_equations
from covector.core.verify import verify

x = np.linspace(0.1, 1.0, 6, dtype=np.float32)


def calls(v: Any) -> Any:
    inner = cv.jit(lambda a, b: (cnp.sin(a) * b, a + b))
    y, z = inner(v, v * 2.0)
    return inner(y, z)[0] + inner(v, v * 2.0)[1]


def repeated(v: Any) -> Any:
    return cnp.sin(v) * cnp.sin(v) + cnp.sin(v).sum()


def loops(v: Any) -> Any:
    step = cv.jit(lambda c, t: (cnp.cos(c) * t, c + c))
    return lax.scan(lambda c, t: step(c, t), v, v[:3])[0]


def nested_calls(v: Any) -> Any:
    inner = cv.jit(lambda a: (cnp.sin(a), a))
    middle = cv.jit(lambda a: (*inner(a), inner(a * 2.0)[1]))
    return cv.jit(lambda a: middle(a))(v)


def derivative(v: Any) -> Any:
    return cv.grad(lambda w: (repeated(w) ** 2).sum())(v)


FUNCTIONS = (calls, nested_calls, repeated, loops, derivative)


@pytest.mark.parametrize("each", [*PASSES, *LAST], ids=lambda p: p.name)
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_pass_keeps_programs_valid_and_values_equal(
    each: Any, function: Callable[..., Any]
) -> None:
    program = cv.make_program(function)(x)
    before = program.as_text()
    rewritten = each.run(program)
    verify(rewritten)
    assert program.as_text() == before
    for a, b in zip(interpret.run(program, x), interpret.run(rewritten, x), strict=True):
        np.testing.assert_array_equal(a, b)


def primitives(program: Program) -> list[str]:
    return [e.primitive.name for e in program.equations]


def test_inline_leaves_no_calls() -> None:
    program = Inline().run(cv.make_program(calls)(x))
    assert "jit" not in primitives(program)
    nested = Inline().run(cv.make_program(loops)(x))
    assert "jit" not in nested.as_text()


def test_dead_code_goes_and_effects_stay() -> None:
    def f(v: Any) -> Any:
        cnp.sin(v)
        lax.stop_gradient(v)
        return v * 2.0

    assert primitives(DeadCode().run(cv.make_program(f)(x))) == ["mul"]


def test_common_subexpressions_are_computed_once() -> None:
    program = CommonSubexpressions().run(cv.make_program(repeated)(x))
    assert primitives(program).count("sin") == 1


def test_all_passes_together_reach_a_fixed_point() -> None:
    program = run_passes(cv.make_program(calls)(x))
    assert count_equations(run_passes(program)) == count_equations(program)
