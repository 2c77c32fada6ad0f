"""What a lane may do, at several widths of chunks and natively, and what keeps lanes together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.compiler.lanes_support import in_lanes, normal, separated

import covector as cv
import covector.numpy as cnp
from covector import lax, random

LANES = 9
WIDTHS = (1, 2, 4, 8, 16)


def stepped(step: Callable[..., Any], batched: bool = True) -> Callable[..., Any]:
    """Some steps of a simulation of many lanes; what else is given stays as it is."""

    def loop(x: Any, *constants: Any) -> Any:
        return lax.scan(lambda x, _: (step(x, *constants), None), x, None, length=3)[0]

    return cv.vmap(loop) if batched else loop


def check(function: Callable[..., Any], *args: Any, lanes: int = LANES) -> None:
    """Checks results and that all lanes run in chunks, where there are more than one chunk."""
    for width in WIDTHS:
        program, _ = separated(function, *args, width=width, natively=width == WIDTHS[0])
        found = [length for length, _ in in_lanes(program)]
        assert found == ([lanes] if lanes > max(width, 1) else []), width


def refusal(function: Callable[..., Any], *args: Any) -> str:
    """Why no lanes were found: the same at every width."""
    reasons: set[str] = set()
    for width in WIDTHS[:3]:
        program, (decision,) = separated(function, *args, width=width, natively=width == WIDTHS[0])
        assert in_lanes(program) == []
        reasons.add(decision.reason)
    (reason,) = reasons
    return reason


# --- how many -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", [0, 1, 2, 5, 8, 16, 17, 33])
def test_any_number_of_lanes(lanes: int) -> None:
    def step(x: Any) -> Any:
        return cnp.sin(x) + x.sum()

    check(stepped(step), normal(lanes, 1), lanes=lanes)


def test_numbers_and_axes_that_are_as_large_as_there_are_lanes() -> None:
    weights = normal(LANES, LANES) / LANES

    def step(x: Any) -> Any:
        return cnp.tanh(x @ weights + cnp.full(LANES, LANES)) * LANES

    check(stepped(step), normal(LANES, LANES))


def test_places_along_the_lanes() -> None:
    def step(x: Any) -> Any:
        return cnp.sin(x) * cnp.arange(LANES) + cnp.linspace(0.0, 1.0, LANES)

    check(stepped(step, batched=False), normal(LANES))


# --- what a lane may do ---------------------------------------------------------------------------


def places(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 6, (LANES, *shape)).astype(np.int32)


def moved(x: Any, i: Any) -> Any:
    part = lax.dynamic_slice(x, (i,), (2,))
    return lax.dynamic_update_slice(x, 2.0 * part, ((i + 1) % 5,))


STEPS: dict[str, tuple[Callable[..., Any], list[np.ndarray]]] = {
    "sort": (lambda x: cnp.sort(0.9 * x) + cnp.argsort(x), [normal(LANES, 6)]),
    "gather": (lambda x, i: x[i] + 1.0, [normal(LANES, 6), places(6)]),
    "scatter": (lambda x, i: x.at[i].set(2.0), [normal(LANES, 6), places(6)]),
    "scatter-add": (lambda x, i: x.at[i].add(0.5 * x[::-1]), [normal(LANES, 6), places(6)]),
    "slices": (moved, [normal(LANES, 6), places()]),
    "convolution": (
        lambda x, w: cnp.tanh(cnp.convolve(x, w)[1:-1]),
        [normal(LANES, 6), normal(9, 3)],
    ),
    "branches": (lambda x: lax.cond(x > 0, cnp.sin, lambda x: x + 1.0, x), [normal(LANES)]),
}


@pytest.mark.parametrize("name", STEPS)
def test_within_a_lane(name: str) -> None:
    step, args = STEPS[name]
    check(stepped(step), *args)


def test_a_convolution_with_channels() -> None:
    weights = normal(2, 2, 3)

    def step(x: Any) -> Any:
        return cnp.tanh(lax.conv_general_dilated(x[None], weights, (1,), "SAME")[0])

    def many(x: Any) -> Any:
        return stepped(step)(x)

    x = normal(70, 2, 3)  # more lanes than any axis of a lane
    program, _ = separated(many, x)
    assert [length for length, _ in in_lanes(program)] == [70]


def test_tables_read_at_places_of_each_lane() -> None:
    table = cnp.asarray(normal(7))

    def step(x: Any) -> Any:
        return table[(3.0 * x).astype("int32") % 7] + x

    check(stepped(step), normal(LANES))


@pytest.mark.parametrize("fold", [False, True])
def test_random_numbers_of_each_lane(fold: bool) -> None:
    def walk(key: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            key, x = carry
            key, now = random.split(key)
            return (key, x + random.normal(now)), random.uniform(now)

        (_, x), drawn = lax.scan(step, (key, 0.0), None, length=3)
        return x, drawn

    def walks(seed: Any) -> Any:
        key = random.key(seed)
        if fold:
            return cv.vmap(lambda k: walk(random.fold_in(key, k)))(cnp.arange(LANES))
        return cv.vmap(walk)(random.split(key, LANES))

    check(walks, 3)


@pytest.mark.parametrize("which", [-1.0, 1.0])
def test_a_branch_that_all_lanes_take(which: float) -> None:
    def step(x: Any) -> Any:
        return lax.cond(cnp.float32(which) > 0, cnp.sin, lambda x: x + 1.0, x)

    def given(x: Any, which: Any) -> Any:
        def one(x: Any) -> Any:
            return lax.cond(which > 0, cnp.sin, lambda x: x + 1.0, x)

        return stepped(one)(x)

    check(stepped(step), normal(LANES))
    check(given, normal(LANES), np.float32(which))


# --- where lanes meet -----------------------------------------------------------------------------


def test_means_over_lanes_that_the_next_step_uses() -> None:
    def step(x: Any) -> Any:
        return cnp.sin(x) + x.mean()

    assert "uses a reduction over all lanes in each lane" in refusal(
        stepped(step, batched=False), normal(LANES)
    )


def test_means_over_lanes_that_are_only_collected() -> None:
    def loop(x: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            x, total = carry
            return (cnp.sin(x), total + x.mean()), x.max()

        return lax.scan(step, (x, 0.0), None, length=3)

    check(loop, normal(LANES))


def added(read: bool) -> Callable[..., Any]:
    def loop(x: Any, places: Any) -> Any:
        def step(carry: Any, i: Any) -> Any:
            x, table = carry
            x = cnp.sin(x) + (table[i] if read else 0.0)
            return (x, table.at[i].add(x)), None

        return lax.scan(step, (x, cnp.zeros(5)), places)[0]

    return loop


@pytest.mark.parametrize("read", [False, True])
def test_places_that_lanes_share_are_added_to_by_all_together(read: bool) -> None:
    assert "scatter-add" in refusal(added(read), normal(LANES), places(3).T % 5)


def test_an_operand_that_is_there_twice_begins_lanes() -> None:
    def loop(x: Any) -> Any:
        on = cnp.ones(LANES, bool)

        def step(carry: Any) -> Any:
            x, active, seen = carry
            x = cnp.where(active, x + 1.0, x)
            return x, active & (x < 3.0), seen & active

        return lax.while_loop(lambda c: c[1].any(), step, (x, on, on))[0]

    check(loop, normal(LANES))
