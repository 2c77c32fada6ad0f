"""Reductions over lanes: partial results of chunks, combined in a fixed order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.compiler.lanes_support import (
    RHOS,
    STARTS,
    in_lanes,
    lorenz,
    mean_square,
    normal,
    separated,
)

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.core.config import config


def test_forward_and_backward_loops_share_a_region() -> None:
    program, decisions = separated(cv.value_and_grad(mean_square), RHOS[0], STARTS)
    assert in_lanes(program) == [(10, ("add", "add"))]
    assert [d.lanes for d in decisions] == [10, 10]


def test_a_cotangent_that_needs_all_lanes_comes_in_a_later_stage() -> None:
    def loss(rho: Any, starts: Any) -> Any:
        return cnp.log(mean_square(rho, starts))

    program, _ = separated(cv.grad(loss), RHOS[0], STARTS)
    assert len(in_lanes(program)) == 2
    names = [e.primitive.name for e in program.equations]
    assert names.index("lanes") < names.index("div") < len(names) - names[::-1].index("lanes")


def test_second_derivatives_over_lanes() -> None:
    program, _ = separated(cv.hessian(mean_square), RHOS[0], STARTS)
    assert in_lanes(program)


@pytest.mark.parametrize("name", ["sum", "max", "min", "prod"])
def test_partial_results_are_combined(name: str) -> None:
    def reduced(starts: Any, rhos: Any) -> Any:
        last, path = cv.vmap(lorenz)(starts, rhos)
        return getattr(cnp, name)(last / 10, axis=0), getattr(cnp, name)(path / 10)

    program, _ = separated(reduced, STARTS, RHOS)
    (found,) = in_lanes(program)
    assert all(isinstance(d, str) for d in found[1])


@pytest.mark.parametrize("name", ["any", "all"])
def test_predicates_over_lanes_are_combined(name: str) -> None:
    def reduced(starts: Any, rhos: Any) -> Any:
        return getattr(cnp, name)(cv.vmap(lorenz)(starts, rhos)[0] > 0.3)

    program, _ = separated(reduced, STARTS, RHOS)
    assert len(in_lanes(program)) == 1


def test_a_sum_over_lanes_may_be_carried_if_it_is_only_added_to() -> None:
    def simulate(x: Any, start: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            x, total, moved = carry
            x = cnp.sin(x) + 0.1
            return (x, total + x.sum(), 2.0 * moved - cnp.stack([x.sum(), 1.0])), x.mean()

        return lax.scan(step, (x, start, cnp.zeros(2)), None, length=4)

    program, _ = separated(simulate, normal(100), np.float32(3.0), width=16)
    assert in_lanes(program) == [(100, (0, "add", "add", "add"))]


def test_a_sum_over_lanes_that_lanes_go_on_with_does_not_separate() -> None:
    def coupled(x: Any) -> Any:
        return lax.scan(lambda x, _: (cnp.sin(x) + x.mean(), None), x, None, length=4)[0]

    program, decisions = separated(coupled, RHOS)
    assert in_lanes(program) == []
    assert "all lanes" in decisions[0].reason
    assert "coupled" in decisions[0].reason


@pytest.mark.parametrize(
    "function",
    [
        lambda x: lax.div(x.sum(), np.int32(3)),
        lambda x: (x.astype("u4") * np.uint32(2654435761)).sum().astype("f4"),
        lambda x: x.astype("i1").sum(dtype="i1").astype("i4"),
        lambda x: (x.sum() % 4 > 1).astype("i4"),
    ],
)
def test_what_parts_of_an_integer_sum_do_not_give(function: Callable[..., Any]) -> None:
    def loop(x: Any) -> Any:
        return lax.scan(lambda x, _: (x + 1, function(x * 97)), x, None, length=4)

    with config.override("disable", "distribution"):
        program, decisions = separated(loop, np.arange(-3, 8, dtype=np.int32))
    assert in_lanes(program) == []
    assert "needs the reduction (add)" in decisions[0].reason


def test_averages_of_counts_are_sums_of_parts() -> None:
    def loop(x: Any) -> Any:
        return lax.scan(lambda x, _: (x * 1.5, (x > 1).sum() / 10), x, None, length=4)

    program, _ = separated(loop, normal(10))
    assert in_lanes(program) == [(10, (0, "add"))]
