"""Carried and updated arrays: who overwrites what, and that nothing reads what is overwritten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.core.config import config

N = 1000
STEPS = 7


def planned(fn: Callable[..., Any], *args: Any) -> int:
    """Bytes of temporary memory that the compiled function uses."""
    return cv.jit(fn).lower(*args).compile().cost_analysis()["workspace_bytes"]


def check(fn: Callable[..., Any], *args: Any) -> None:
    """The compiled function agrees with the interpreter, with and without overwriting."""
    expected = cv.tree.leaves(cv.jit(fn, backend="reference")(*args))
    for disabled in ((), ("in_place",), ("ranges",)):
        with config.override("disable", frozenset(disabled)):
            found = cv.tree.leaves(cv.jit(lambda *a: fn(*a))(*args))
        for x, y in zip(found, expected, strict=True):
            np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-5, atol=1e-5)


@pytest.fixture
def x() -> Any:
    return cnp.asarray(np.random.default_rng(0).standard_normal(N).astype(np.float32))


def loop(step: Callable[..., Any], *state: Any) -> Any:
    return lax.fori_loop(0, STEPS, lambda i, s: step(i, *s), state)


def swap(i: Any, a: Any, b: Any) -> Any:
    return b, a.at[i].set(b[i] + 1)


def wave(i: Any, before: Any, now: Any) -> Any:
    return now, 2 * now - before + 0.1 * (cnp.roll(now, 1) - now)


def wave_of_neighbours(i: Any, before: Any, now: Any) -> Any:
    return now, 2 * now - cnp.roll(before, 1)


def delay(i: Any, a: Any, b: Any, c: Any) -> Any:
    return b, c, cnp.roll(a, 1) + b


def rotate(i: Any, a: Any, b: Any, c: Any) -> Any:
    return b, c, a.at[i].add(c[0])


def both_want_one(i: Any, a: Any, b: Any) -> Any:
    return b.at[i].set(1.0), b.at[i + 1].set(2.0)


def keep_old(i: Any, a: Any, b: Any) -> Any:
    return a.at[i].set(a[i + 1]), a + b


def read_old_after(i: Any, a: Any, b: Any) -> Any:
    updated = a.at[i].set(5.0)
    return updated, b + a[i] + updated[i]


def exchange(i: Any, a: Any, b: Any) -> Any:
    return a.at[i].set(a[i + 1]).at[i + 1].set(a[i]), b


def shift_itself(i: Any, a: Any, b: Any) -> Any:
    return lax.dynamic_update_slice(a, a[:500] * 2, (i + 100,)), b


def branch(i: Any, a: Any, b: Any) -> Any:
    return lax.cond(a[i] > 0, lambda c: c.at[i].set(c[i + 1] * 2), lambda c: c, a), b


def branch_with_more(i: Any, a: Any, b: Any) -> Any:
    a, total = lax.cond(
        a[i] > 0, lambda c: (c.at[i].set(0.0), c[:600].sum()), lambda c: (c, c[i]), a
    )
    return a, b + total


def branch_after_reading(i: Any, a: Any, b: Any) -> Any:
    old = a[::-1] * 2.0
    a = lax.switch(i % 3, [lambda c: c, lambda c: c.at[i].set(9.0), lambda c: c.at[0].add(1.0)], a)
    return a, b + old


def nested(i: Any, a: Any, b: Any) -> Any:
    return lax.fori_loop(0, 5, lambda j, c: c.at[i + j].add(c[j]), a), b


def nested_while(i: Any, a: Any, b: Any) -> Any:
    def more(s: Any) -> Any:
        return s[0] < 4

    def body(s: Any) -> Any:
        return s[0] + 1, s[1].at[s[0] * i].set(s[1][s[0]] + 1)

    return lax.while_loop(more, body, (0, a))[1], b


def intermediate_is_read(i: Any, a: Any, b: Any) -> Any:
    first = a.at[i].set(3.0)
    second = first.at[i + 1].set(first[i] + first[i + 2])
    return second, b + first[::-1]


TWO = (
    swap,
    wave,
    wave_of_neighbours,
    both_want_one,
    keep_old,
    read_old_after,
    exchange,
    shift_itself,
    branch,
    branch_with_more,
    branch_after_reading,
    nested,
    nested_while,
    intermediate_is_read,
)


@pytest.mark.parametrize("step", TWO, ids=lambda step: step.__name__)
def test_pairs_of_carries(step: Any, x: Any) -> None:
    check(lambda a, b: loop(step, a, b), x, x[::-1] * 0.5)


@pytest.mark.parametrize("step", [delay, rotate])
def test_triples_of_carries(step: Any, x: Any) -> None:
    check(lambda a, b, c: loop(step, a, b, c), x, x[::-1] * 0.5, x + 1)


@pytest.mark.parametrize("step", TWO, ids=lambda step: step.__name__)
def test_stacked_states_are_the_old_ones(step: Any, x: Any) -> None:
    def fn(a: Any, b: Any) -> Any:
        def body(s: Any, i: Any) -> Any:
            return step(i, *s), (s[0], s[1][:700])

        return lax.scan(body, (a, b), cnp.arange(STEPS))

    check(fn, x, x * 0.5)


@pytest.mark.parametrize("step", [swap, wave, branch, nested])
def test_unrolled_and_reversed(step: Any, x: Any) -> None:
    def fn(a: Any, b: Any) -> Any:
        def body(s: Any, i: Any) -> Any:
            return step(i, *s), s[0][i]

        return lax.scan(body, (a, b), cnp.arange(STEPS), reverse=True, unroll=3)

    check(fn, x, x * 0.5)


def test_updates_in_a_row_share_one_buffer(x: Any) -> None:
    def fn(a: Any) -> Any:
        for k in range(20):
            a = a.at[3 * k].set(a[k] + k)
        return a * 2

    check(fn, x)
    assert planned(fn, x) <= 4 * N + 64


def test_an_older_version_stays(x: Any) -> None:
    def fn(a: Any) -> Any:
        first = a.at[0].set(1.0)
        second = first.at[1].set(2.0)
        third = second.at[2].set(3.0)
        return first, third, first[::-1] + third

    check(fn, x)


BYTES = 4 * N


@pytest.mark.parametrize(
    ("step", "carries", "buffers"),
    [(swap, 2, 2), (rotate, 3, 3), (wave, 2, 2), (wave_of_neighbours, 2, 3), (delay, 3, 4)],
)
def test_carries_are_not_copied(step: Any, carries: int, buffers: int, x: Any) -> None:
    state = [x] * carries
    slack = 8192  # results of fewer elements, and the distance kept between the buffers
    assert planned(lambda *s: loop(step, *s), *state) <= buffers * BYTES + slack


@pytest.mark.parametrize("step", [branch, branch_with_more, nested, nested_while, exchange])
def test_updates_cost_what_they_touch(step: Any, x: Any) -> None:
    """No loop over a whole array in the loop over the steps: only before and after it."""
    text = cv.jit(lambda a, b: loop(step, a, b[:1])).lower(x, x).as_text("loopir")
    inner = [line for line in text.splitlines() if line.startswith("   ") and f"..{N} " in line]
    assert not inner, text


def test_a_window_written_whole_is_fused() -> None:
    def step(i: Any, u: Any) -> Any:
        inner = u[2:, 1:-1] + u[:-2, 1:-1] - 4 * u[1:-1, 1:-1]
        return u.at[1:-1, 1:-1].add(0.1 * inner)

    u = cnp.asarray(np.random.default_rng(1).standard_normal((70, 90)).astype(np.float32))

    def fn(u: Any) -> Any:
        return lax.fori_loop(0, STEPS, step, u)

    check(fn, u)
    assert planned(fn, u) <= 2 * 4 * 70 * 90 + 8192


def test_one_loop_inside_overwrites_several_carries(x: Any) -> None:
    def outer(i: Any, a: Any, b: Any) -> Any:
        def inner(j: Any, state: Any) -> Any:
            a, b = state
            return a.at[j].add(1.0 * i), b.at[j + 1].add(a[j])

        return lax.fori_loop(0, 40, inner, (a, b))

    check(lambda x: loop(outer, x, x[::-1]), x)


def random_statement(rng: Any, depth: int) -> Callable[..., Any]:
    """A function from an index and some arrays to as many arrays, of updates in random nests."""
    kind = rng.choice(["update", "read", "swap", "loop", "cond", "both"]) if depth else "update"
    to, of = rng.choice(3, 2, replace=False).tolist()
    shift, scale = int(rng.integers(0, 50)), float(rng.uniform(-1, 1))
    if kind in ("loop", "cond", "both"):
        first, second = (random_statement(rng, depth - 1) for _ in range(2))

    def statement(i: Any, state: Any) -> Any:
        state = list(state)
        if kind == "update":
            state[to] = state[to].at[i * 3 + shift].add(scale * state[of][i + shift])
        elif kind == "read":
            state[to] = state[to] + scale * state[of][shift]
        elif kind == "swap":
            state[to], state[of] = state[of], state[to]
        elif kind == "loop":
            state = lax.fori_loop(0, 5, lambda j, s: first(i + j, s), tuple(state))
        elif kind == "cond":
            taken = state[of][i] > 0
            state = lax.cond(taken, lambda s: first(i, s), lambda s: second(i, s), tuple(state))
        else:
            state = second(i, first(i, tuple(state)))
        return tuple(state)

    return statement


@pytest.mark.parametrize("seed", range(40))
def test_random_nests_of_updates(seed: int) -> None:
    rng = np.random.default_rng(seed)
    statement = random_statement(rng, 3)
    arrays = rng.standard_normal((3, 120)).astype(np.float32)
    check(lambda *a: lax.fori_loop(0, 6, statement, a), *arrays)
