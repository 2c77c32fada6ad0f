"""Batched `while` loops in lanes: each chunk ends by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.compiler.lanes_support import in_lanes, normal, separated

import covector as cv
import covector.numpy as cnp
from covector import lax


def collatz(n: Any) -> Any:
    def body(carry: Any) -> Any:
        n, steps = carry
        return cnp.where(n % 2 == 0, n // 2, 3 * n + 1), steps + 1

    return lax.while_loop(lambda c: c[0] != 1, body, (n, 0))


def test_each_chunk_of_a_batched_while_ends_by_itself() -> None:
    program, _ = separated(cv.vmap(collatz), np.arange(1, 12, dtype=np.int32))
    assert in_lanes(program) == [(11, (0, 0))]


def test_a_batched_while_in_two_axes() -> None:
    twice = cv.vmap(cv.vmap(collatz))
    program, _ = separated(twice, np.arange(1, 31, dtype=np.int32).reshape(6, 5))
    assert len(in_lanes(program)) == 1


def test_a_while_inside_a_batched_scan() -> None:
    def steps(n: Any) -> Any:
        return lax.scan(lambda n, _: (n + collatz(n)[1], collatz(n)[1]), n, None, length=3)

    program, _ = separated(cv.vmap(steps), np.arange(1, 12, dtype=np.int32))
    assert len(in_lanes(program)) == 1


def any_lane(body: Callable[..., Any], counter: bool = False) -> Callable[..., Any]:
    def loop(x: Any) -> Any:
        def go_on(carry: Any) -> Any:
            return cnp.any(carry[0] < 3.0) & ((carry[1] < 5) if counter else True)

        return lax.while_loop(go_on, body, (x, 0))

    return loop


def guarded(carry: Any) -> Any:
    x, i = carry
    return cnp.where(x < 3.0, x + 1.0 + 0.1 * i, x), i + 1


def test_a_counter_that_nobody_reads_may_differ_between_chunks() -> None:
    x = np.abs(normal(10))
    for counter in (False, True):
        loop = any_lane(guarded, counter)
        program, _ = separated(lambda x, loop=loop: loop(x)[0], x)
        assert in_lanes(program)[0][0] == 10


@pytest.mark.parametrize("step", [1, -2, 0.5])
def test_a_counter_that_is_read_is_that_of_the_last_chunk(step: Any) -> None:
    def body(carry: Any) -> Any:
        x, i = carry
        return cnp.where(x < 3.0, x + 1.0, x), i + step

    def loop(x: Any) -> Any:
        return lax.while_loop(lambda c: cnp.any(c[0] < 3.0), body, (x, 7 * step))

    program, _ = separated(loop, np.abs(normal(10)))
    assert in_lanes(program) == [(10, (0, "max" if step > 0 else "min"))]


def test_what_lanes_share_and_read_afterwards_must_be_a_counter() -> None:
    def body(carry: Any) -> Any:
        x, i = carry
        return cnp.where(x < 3.0, x + 1.0, x), 3 - i

    program, decisions = separated(any_lane(body), np.abs(normal(10)))
    assert in_lanes(program) == []
    assert "until the last lane is done" in decisions[0].reason


def test_lanes_that_go_on_changing_do_not_separate() -> None:
    def body(carry: Any) -> Any:
        return carry[0] + 1.0, carry[1] + 1

    program, decisions = separated(lambda x: any_lane(body)(x)[0], np.abs(normal(10)))
    assert in_lanes(program) == []
    assert "changes in lanes that are done" in decisions[0].reason


def test_lanes_that_stop_by_another_predicate_do_not_separate() -> None:
    def body(carry: Any) -> Any:
        x, i = carry
        return cnp.where(x < 2.5, x + 1.0, x + 0.5), i + 1

    def other(carry: Any) -> Any:
        x, i = carry
        return cnp.where(x < 4.0, x + 1.0, x), i + 1

    program, decisions = separated(lambda x: any_lane(body)(x)[0], np.abs(normal(10)))
    assert in_lanes(program) == []
    assert "changes in lanes" in decisions[0].reason
    program, decisions = separated(lambda x: any_lane(other)(x)[0], np.abs(normal(10)))
    assert in_lanes(program) == []
    assert "another predicate" in decisions[0].reason


def on_counter(active: Callable[..., Any]) -> Callable[..., Any]:
    def loop(x: Any) -> Any:
        def body(carry: Any) -> Any:
            x, i = carry
            return cnp.where(active(x, i), x + 1.0, x), i + 1

        return lax.while_loop(lambda c: cnp.any(active(*c)), body, (x, 0))[0]

    return loop


def test_a_shared_counter_may_end_the_loop_for_all_lanes_at_once() -> None:
    loop = on_counter(lambda x, i: (x < 9.0) & (i < 8))
    program, _ = separated(loop, np.abs(normal(10)))
    assert in_lanes(program) == [(10, (0,))]


def test_a_predicate_on_a_shared_counter_may_come_true_again() -> None:
    loop = on_counter(lambda x, i: (x < 0.5 * (i % 4)) & (i < 8))
    program, decisions = separated(loop, np.abs(normal(10)))
    assert in_lanes(program) == []
    assert "whether a lane is done depends on" in decisions[0].reason
