"""Constants: what is known beforehand is computed, in loops and branches too, to the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.compiler.passes.constants import Constants
from covector.compiler.passes.dce import DeadCode
from covector.compiler.pipeline import run_passes
from covector.core.interpret import run
from covector.core.program import Program, all_equations
from covector.core.verify import verify

X = np.linspace(-1.0, 2.0, 5, dtype=np.float32)


def folded(function: Callable[..., Any], *args: Any) -> Program:
    """A function's program, after checking that folding changes no bit."""
    program = run_passes(cv.make_program(function)(*args), ())
    after = DeadCode().run(Constants().run(program))
    verify(after)
    for found, wanted in zip(run(after, *args), run(program, *args), strict=True):
        assert found.tobytes() == wanted.tobytes()
    return after


def names(program: Program) -> list[str]:
    return [e.primitive.name for e in all_equations(program)]


def test_arithmetic_of_literals_is_done() -> None:
    assert names(folded(lambda x: x * (cnp.float32(3.0) / 4.0 + 1.0), X)) == ["mul"]


def test_filled_arrays_stay_one_operation() -> None:
    def shifted(x: Any) -> Any:
        return x + (cnp.zeros((5, 2)) + 1.0).sum(1) * 0.0 + cnp.ones(5)[::-1]

    assert names(folded(shifted, X)).count("broadcast_in_dim") <= 2


def test_functions_with_rounding_of_their_own_are_left() -> None:
    assert "sin" in names(folded(lambda x: x + cnp.sin(cnp.float32(1.0)), X))


def test_narrow_floats_are_left() -> None:
    def scaled(x: Any) -> Any:
        return x * (cnp.asarray(0.1, "bfloat16") * 3).astype("f4")

    assert names(folded(scaled, X)).count("mul") == 2


def test_what_does_nothing_is_dropped() -> None:
    def idle(x: Any) -> Any:
        y = lax.stop_gradient(cnp.where(True, x, 0.0))
        return cnp.where((x > 0) & True | False, y, y)

    assert "select_n" not in names(folded(idle, X))
    assert "and" not in names(folded(idle, X))


def test_a_flag_that_no_iteration_sets_is_a_constant() -> None:
    def loop(x: Any) -> Any:
        def body(carry: Any) -> Any:
            x, ready, _ = carry
            return cnp.where(ready, 0.0, x + 1.0), ready & (x > 0), ready

        return lax.while_loop(lambda c: cnp.all(c[0] < 4.0), body, (x, cnp.zeros(5, bool), X > 9))

    found = names(folded(loop, X))
    assert "select_n" not in found
    assert "and" not in found


def test_a_loops_condition_is_simplified_like_its_body() -> None:
    def loop(x: Any) -> Any:
        def below(x: Any) -> Any:
            return cnp.all((x < 4.0) & True)

        return lax.while_loop(below, lambda x: cnp.where(below(x), x + 1.0, x), x)

    assert "and" not in names(folded(loop, X))


def test_a_flag_that_an_iteration_sets_is_not() -> None:
    def loop(x: Any) -> Any:
        return lax.scan(lambda c, _: ((c[0] + c[1], True), c[1]), (x, False), None, length=3)

    folded(loop, X)


def test_carries_that_move_on_are_found_out_one_after_the_other() -> None:
    def loop(x: Any) -> Any:
        def body(carry: Any, _: Any) -> Any:
            return (*carry[1:], x), carry[0]

        start = (*[cnp.zeros(5)] * 7, x)
        return lax.scan(body, start, None, length=9)

    folded(loop, X)


def test_known_branches_are_taken() -> None:
    def chosen(x: Any) -> Any:
        flag = cnp.float32(1.0) < 2.0
        y = lax.cond(flag, lambda v: v + 1.0, lambda v: cnp.sin(v), x)
        return lax.switch(7, [lambda v: v, lambda v: v * y], x)

    assert names(folded(chosen, X)) == ["add", "mul"]


def test_what_all_branches_give_is_known() -> None:
    def chosen(x: Any) -> Any:
        _, k = lax.cond(x[0] > 0, lambda: (x, 3.0), lambda: (-x, 3.0))
        return x * k

    assert "cond" not in names(folded(chosen, X))


def test_loops_that_never_run_keep_their_start() -> None:
    def loop(x: Any) -> Any:
        kept = lax.while_loop(lambda c: cnp.any(x > 9), lambda c: (c[0] + 1, x), (3, x))
        return kept, lax.scan(lambda c, _: (c + 1, c), 3, None, length=0)

    folded(loop, X)


@pytest.mark.parametrize("value", [np.nan, -0.0, np.inf, 1e-40])
def test_special_values_keep_their_bits(value: float) -> None:
    folded(lambda x: (cnp.full(5, value) * 1.0, cnp.minimum(cnp.float32(value), 0.0)), X)


def test_integers_divide_as_the_language_says() -> None:
    folded(lambda x: x + lax.div(cnp.int32(7), cnp.int32(0)) + cnp.int32(-7) // 2, X)
