"""Loops whose lanes stop by a mask, and questions that each chunk of lanes may answer alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.compiler.passes.lanes import Lanes
from covector.compiler.pipeline import run_passes, schedule
from covector.core import backend
from covector.core.interpret import run
from covector.core.primitive import REGISTRY
from covector.loopir.ir import CallInLanes
from covector.ops.unvmap import unvmap_all, unvmap_any, unvmap_max

RNG = np.random.default_rng(1)
X = RNG.uniform(0.0, 3.0, 70).astype(np.float32)
LIMITS = RNG.uniform(2.0, 5.0, 70).astype(np.float32)


def decided(function: Callable[..., Any], *args: Any) -> list[Any]:
    """What is decided about a function's loops, after checking that all ways to run it agree."""
    program = run_passes(cv.make_program(function)(*args))
    after, decisions = Lanes(16, 16).decide(program)
    expected = run(program, *args)
    for results in (run(after, *args), backend.executable(program)(*args)):
        for found, wanted in zip(results, expected, strict=True):
            np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-6, atol=1e-6)
    return decisions


def masked(begin: Any, go_on: Any, again: Any) -> Callable[..., Any]:
    """A loop that keeps the values of lanes by a flag that it carries."""

    def loop(x: Any, limit: Any) -> Any:
        def body(carry: Any) -> Any:
            x, active, steps, count = carry
            y = x * 1.2 + 0.1
            return (
                cnp.where(active, y, x),
                again(active, y < limit),
                cnp.where(active, steps + 1, steps),
                count + 1,
            )

        def unfinished(carry: Any) -> Any:
            return cnp.any(go_on(carry[0], limit)) & (carry[3] < 20)

        start = (x, begin(x, limit), cnp.zeros(70, "i4"), 0)
        return lax.while_loop(unfinished, body, start)[:3]

    return loop


def below(x: Any, limit: Any) -> Any:
    return x < limit


def both(active: Any, more: Any) -> Any:
    return active & more


def test_a_mask_that_follows_the_predicate_separates() -> None:
    decisions = decided(masked(below, below, both), X, LIMITS)
    assert [d.lanes for d in decisions] == [70]


def test_a_mask_may_say_less_than_the_predicate() -> None:
    def begin(x: Any, limit: Any) -> Any:
        return (x < limit) & (x > 0.5)

    def again(active: Any, more: Any) -> Any:
        return more & active & more

    assert [d.lanes for d in decided(masked(begin, below, again), X, LIMITS)] == [70]


def test_a_mask_set_from_the_start_does_not_separate() -> None:
    def begin(x: Any, limit: Any) -> Any:
        return x > -1.0

    (decision,) = decided(masked(begin, below, both), X, LIMITS)
    assert decision.lanes == 0
    assert "not known whether it is set for lanes that are done" in decision.reason


def test_a_mask_that_is_set_again_does_not_separate() -> None:
    (decision,) = decided(masked(below, below, lambda active, more: more), X, LIMITS)
    assert decision.lanes == 0


def test_a_mask_for_another_limit_does_not_separate() -> None:
    def other(x: Any, limit: Any) -> Any:
        return x < limit - 1.0

    (decision,) = decided(masked(other, other, both), X, LIMITS)
    assert decision.lanes == 0
    assert "not known" in decision.reason


def newton(x: Any) -> Any:
    """Steps of one lane, some left out together when no lane needs them."""

    def body(carry: Any) -> Any:
        y, steps = carry
        far = cnp.abs(y * y - x) > 1e-4
        y = lax.cond(
            unvmap_any(far), lambda y: cnp.where(far, 0.5 * (y + x / y), y), lambda y: y, y
        )
        return y, steps + unvmap_max(cnp.where(far, 1, 1))

    return lax.while_loop(lambda c: c[1] < 9, body, (x + 1.0, 0))[0]


def test_each_chunk_answers_for_its_own_lanes() -> None:
    decisions = decided(cv.vmap(newton), X)
    assert [d.lanes for d in decisions] == [70]


def test_an_answer_read_by_others_is_that_of_all_lanes() -> None:
    def function(x: Any) -> Any:
        y = newton(x)
        return y, cnp.where(unvmap_any(y > 1.7), 1.0, 0.0), cnp.where(unvmap_all(y > 0.1), 1, 2)

    decisions = decided(cv.vmap(function), X)
    assert [d.lanes for d in decisions] == [70]


def test_a_loop_may_run_as_often_as_its_chunk_needs() -> None:
    def function(x: Any) -> Any:
        def body(carry: Any) -> Any:
            y, _ = carry
            return cnp.where(y < 4.0, y + 1.0, y), unvmap_any(y < 3.0)

        def step(y: Any, _: Any) -> Any:
            return lax.while_loop(lambda c: c[1], body, (y - 2.0, True))[0], y

        return lax.scan(step, x, None, length=4)

    decisions = decided(cv.vmap(function), X)
    assert [d.lanes for d in decisions] == [70]


@pytest.mark.parametrize("primitive", [unvmap_any, unvmap_all])
def test_questions_of_a_batch_ignore_its_axes(primitive: Any) -> None:
    x = cnp.asarray(X > 1.0)
    assert cv.vmap(primitive)(x).shape == (70,)
    assert cv.jit(primitive)(x) == primitive(x)
    assert cv.vmap(lambda a: primitive(a), out_axes=None)(x) == primitive(x)
    assert unvmap_max(cnp.arange(4)) == 3


def sorted_apart(x: Any) -> Any:
    """Two loops; one sorts a row of each lane in each of its steps."""
    rows = x[:, None] * cnp.cos(cnp.arange(9.0))

    def walk(y: Any, _: Any) -> Any:
        return y + 0.1 * cnp.sin(y), y

    def shuffle(row: Any, _: Any) -> Any:
        return cnp.cos(7.0 * cnp.sort(row, -1)), None

    paths = lax.scan(walk, x, None, length=5)
    return paths, lax.scan(shuffle, rows, None, length=2)[0]


def test_a_library_call_keeps_only_its_own_loop_out_of_lanes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    primitive, lower = REGISTRY["sort"], REGISTRY["sort"].lower

    def calling(b: Any, *operands: Any, **params: Any) -> Any:
        if b.builder.lane is not None:
            raise CallInLanes("a sort of the library cannot be called for some lanes of a vector")
        return lower(b, *operands, **params)

    program = cv.make_program(sorted_apart)(X)
    for rule, loops in ((lower, ["lanes", "lanes"]), (calling, ["lanes", "scan"])):
        monkeypatch.setattr(primitive, "lower", rule)
        names = [e.primitive.name for e in schedule(program).program.equations]
        assert sorted(n for n in names if n in ("scan", "lanes")) == loops
