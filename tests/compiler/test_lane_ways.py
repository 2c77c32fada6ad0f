"""In which way loops over a batch run, and chunks of lanes in native code."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax, random
from covector.compiler.lanes import regions
from covector.compiler.lanes.estimate import array_time, by_threads
from covector.compiler.lanes.ways import Way, duration
from covector.compiler.passes.lanes import Decision
from covector.compiler.pipeline import LANES, prepare
from covector.core import backend
from covector.core.config import config
from covector.core.interpret import run
from covector.core.program import Program

RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def chosen() -> Generator[None]:
    """Ways are chosen even where the suite runs without that."""
    with config.override("disable", config.disable - {"lane_ways"}):
        yield


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32) / 10


def network(batch: int, hidden: int) -> tuple[Callable[..., Any], list[np.ndarray]]:
    def one(y: Any, a: Any, b: Any, c: Any) -> Any:
        def step(y: Any, _: Any) -> Any:
            return y + 0.05 * cnp.tanh(cnp.tanh(y @ a) @ b) @ c, None

        return lax.scan(step, y, None, length=50)[0]

    weights = [normal(8, hidden), normal(hidden, hidden), normal(hidden, 8)]
    return cv.vmap(one, (0, None, None, None)), [normal(batch, 8), *weights]


def own_matrices(batch: int, size: int) -> tuple[Callable[..., Any], list[np.ndarray]]:
    def one(y: Any, a: Any) -> Any:
        return lax.scan(lambda y, _: (y + cnp.tanh(a @ y), None), y, None, length=100)[0]

    return cv.vmap(one), [normal(batch, size), normal(batch, size, size)]


def oscillators(batch: int, size: int) -> tuple[Callable[..., Any], list[np.ndarray]]:
    def one(y: Any) -> Any:
        def step(y: Any, _: Any) -> Any:
            return y + 0.01 * cnp.stack([y[1], -cnp.sin(y[0])]), None

        return lax.scan(step, y, None, length=size)[0]

    return cv.vmap(one), [normal(batch, 2)]


def recurrent(batch: int, hidden: int) -> tuple[Callable[..., Any], list[np.ndarray]]:
    """Its inputs are constants, of which each lane has its own part none the less."""
    inputs = normal(20, batch, 8)

    def loss(a: Any, b: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            return cnp.tanh(x @ a + h @ b), None

        return lax.scan(step, cnp.zeros((batch, hidden)), inputs)[0]

    return loss, [normal(8, hidden), normal(hidden, hidden)]


def gradient(case: tuple[Callable[..., Any], list[np.ndarray]]) -> Any:
    function, args = case
    return cv.grad(lambda *a: function(*a).sum(), tuple(range(len(args)))), args


def decided(case: tuple[Callable[..., Any], list[np.ndarray]]) -> tuple[Program, list[Decision]]:
    function, args = case
    return LANES.decide(prepare(cv.make_program(function)(*args)))


def way_of(program: Program) -> str:
    found = {
        Way(e.params["width"], e.params["width"] > 1 or e.params.get("apart", False)).name
        for e in program.equations
        if e.primitive.name == "lanes"
    }
    (name,) = found or {"whole arrays"}
    return "chunks" if name.startswith("chunks") else name


@pytest.mark.parametrize(
    ("case", "way"),
    [
        (network(512, 128), "chunks"),
        (gradient(network(512, 128)), "chunks"),
        (gradient(network(4096, 16)), "chunks"),
        (network(4096, 16), "vectors of lanes"),
        (network(32, 512), "whole arrays"),
        (gradient(recurrent(64, 48)), "chunks"),
        (own_matrices(256, 32), "one lane at a time"),
        (gradient(own_matrices(256, 32)), "one lane at a time"),
        (own_matrices(1024, 3), "vectors of lanes"),
        (oscillators(1000, 100), "vectors of lanes"),
        (gradient(oscillators(1000, 100)), "vectors of lanes"),
    ],
)
def test_the_way(case: Any, way: str) -> None:
    program, decisions = decided(case)
    assert way_of(program) == way
    assert decisions
    for decision in decisions:
        assert "thought to take" in str(decision)


def test_chunks_never_hold_a_lane_that_shares_large_weights_alone() -> None:
    program, _ = decided(network(512, 128))
    widths = [e.params["width"] for e in program.equations if e.primitive.name == "lanes"]
    assert widths
    assert all(32 <= w <= 128 for w in widths)


def test_the_number_of_threads_decides_nothing() -> None:
    found: list[str] = []
    for threads in (1, 2, 64):
        with config.override("num_threads", threads):
            found.append(decided(gradient(network(512, 128)))[0].as_text())
    assert found[0] == found[1] == found[2]


def test_without_the_model_lanes_run_in_vectors() -> None:
    with config.override("disable", config.disable | {"lane_ways"}):
        assert way_of(decided(own_matrices(256, 20))[0]) == "vectors of lanes"


def test_estimates_grow_with_work() -> None:
    def program(batch: int, hidden: int) -> Program:
        function, args = network(batch, hidden)
        return prepare(cv.make_program(function)(*args))

    times = [array_time(program(64, hidden)) for hidden in (8, 64, 256, 512)]
    assert times == sorted(times)
    assert times[-1] > 20 * times[0]
    assert array_time(program(128, 64)) > array_time(program(64, 64))


def test_threads_share_what_is_long_enough() -> None:
    assert by_threads(1000.0, 64) == 1000.0
    assert by_threads(1e6, 1) == 1e6
    assert 5e5 < by_threads(1e6, 64) < 6e5
    assert by_threads(3e6, 3) > by_threads(3e6, 64)  # one waits for the other


def test_durations() -> None:
    assert [duration(t) for t in (12.0, 3400.0, 5.6e6, 2e9)] == ["12 ns", "3.4 us", "5.6 ms", "2 s"]


# --- chunks in native code ------------------------------------------------------------------------


@pytest.fixture(params=[1, 4])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Whatever separates runs in chunks of so many lanes, their arrays one after the other."""
    width: int = request.param

    def always(*_: Any) -> list[Way]:
        return [Way(width, True)]

    monkeypatch.setattr(regions, "ways", always)
    backend.clear_cache()
    return width


def check(function: Callable[..., Any], *args: Any, width: int) -> None:
    """What it computes, in chunks, is right, and bitwise the same on any number of threads."""
    program = cv.make_program(function)(*args)
    leaves = [np.asarray(x) for x in cv.tree.leaves(args)]
    executable = backend.executable(program)
    with config.override("disable", config.disable | {"run_time_sizes"}):
        made = LANES.decide(prepare(program))[0]
    found = [e.params["width"] for e in made.equations if e.primitive.name == "lanes"]
    assert found
    assert set(found) == {width}
    results = executable(*leaves)
    for result, wanted in zip(results, run(program, *leaves), strict=True):
        near = 2e-5 * max(1.0, np.abs(wanted).max())
        np.testing.assert_allclose(np.asarray(result), wanted, rtol=2e-4, atol=near)
    with config.override("num_threads", 1):
        for again, result in zip(executable(*leaves), results, strict=True):
            np.testing.assert_array_equal(np.asarray(again), np.asarray(result))


LANE_COUNTS = [16, 17, 23, 300]
"""Whole chunks, a rest of one lane and of several; more chunks than groups of them."""


@pytest.mark.parametrize("lanes", LANE_COUNTS)
def test_a_network(lanes: int, chunks: int) -> None:
    check(*_flat(network(lanes, 9)), width=chunks)


@pytest.mark.parametrize("lanes", LANE_COUNTS)
def test_the_gradient_of_a_network(lanes: int, chunks: int) -> None:
    check(*_flat(gradient(network(lanes, 9))), width=chunks)


@pytest.mark.parametrize("lanes", [16, 19])
def test_matrices_of_each_lane(lanes: int, chunks: int) -> None:
    check(*_flat(gradient(own_matrices(lanes, 6))), width=chunks)


@pytest.mark.parametrize("lanes", [16, 21])
def test_products_by_a_library(lanes: int, chunks: int) -> None:
    def one(p: Any, w: Any) -> Any:
        return lax.scan(lambda p, _: (cnp.tanh(p @ w) + p, None), p, None, length=2)[0]

    weights = normal(70, 70)
    check(cv.vmap(one, (0, None)), normal(lanes, 60, 70), weights, width=chunks)


@pytest.mark.parametrize("lanes", [16, 18])
def test_lanes_along_another_axis_their_numbers_and_totals(lanes: int, chunks: int) -> None:
    def function(x: Any) -> Any:
        def step(y: Any, t: Any) -> Any:
            return cnp.sin(y) + cnp.arange(lanes) * t, y.max(0)

        y, tops = lax.scan(step, x, cnp.arange(3, dtype=cnp.float32))
        return y, tops, y.sum(), y.max()

    check(function, normal(5, lanes), width=chunks)


@pytest.mark.parametrize("lanes", [16, 18])
def test_random_numbers_and_a_while(lanes: int, chunks: int) -> None:
    def function(x: Any) -> Any:
        noise = random.normal(random.key(1), (lanes, 5))

        def one(x: Any, z: Any) -> Any:
            state = lax.while_loop(
                lambda s: s[0].sum() < 9.0, lambda s: (s[0] + 1.0, s[1] + 1), (x, 0)
            )
            return state[0] * z, state[1]

        return cv.vmap(one)(x, noise)

    check(function, normal(lanes, 5), width=chunks)


def _flat(case: Any) -> tuple[Any, ...]:
    function, args = case
    return function, *args
