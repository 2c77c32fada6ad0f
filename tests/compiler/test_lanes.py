"""Lanes: what separates runs in chunks with equal results; what does not is left, with a reason."""

from __future__ import annotations

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
from covector import lax, random
from covector.compiler.passes.lanes import Lanes
from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.config import config
from covector.core.dims import symbol
from covector.core.trace import trace_program
from covector.core.verify import verify
from covector.lax.callbacks import debug_callback
from covector.ops.linalg import cholesky

# --- loops that separate --------------------------------------------------------------------------


def test_a_batched_scan_runs_in_one_region_with_its_stacked_results() -> None:
    program, decisions = separated(cv.vmap(lorenz), STARTS, RHOS)
    assert in_lanes(program) == [(10, (0, 0))]
    assert [d.lanes for d in decisions] == [10]
    assert not [e for e in program.equations if e.primitive.name == "scan"]


@pytest.mark.parametrize("lanes", [5, 6, 7, 8, 9])
def test_the_last_chunk_has_what_is_left(lanes: int) -> None:
    program, _ = separated(cv.vmap(lorenz), STARTS[:lanes], RHOS[:lanes])
    (equation,) = program.equations
    programs = equation.params["programs"]
    assert [p.inputs[1].aval.shape[0] for p in programs] == [4, lanes % 4][: 1 + (lanes % 4 > 0)]


@pytest.mark.parametrize("lanes", [0, 1, 4])
def test_fewer_lanes_than_a_chunk_are_left_alone(lanes: int) -> None:
    program, decisions = separated(cv.vmap(lorenz), STARTS[:lanes], RHOS[:lanes])
    assert in_lanes(program) == []
    assert "has 5 elements" in decisions[0].reason


def test_lanes_are_found_along_any_axis() -> None:
    program, _ = separated(cv.vmap(lorenz, (1, None), 1), STARTS.T, RHOS[0])
    assert len(in_lanes(program)) == 1


def test_a_literal_as_large_as_the_number_of_lanes_is_not_one_of_them() -> None:
    def scaled(x: Any) -> Any:
        return lax.scan(lambda c, _: (c * 10 / 10.0 + 1, None), x, None, length=10)[0]

    program, _ = separated(cv.vmap(scaled), RHOS)
    assert in_lanes(program) == [(10, (0,))]


def test_the_users_own_broadcasting_separates_too() -> None:
    def decay(rates: Any) -> Any:
        def step(carry: Any, t: Any) -> Any:
            x, total = carry
            x = x * cnp.exp(-rates * t) + 0.1 * cnp.arange(10)
            return (x, total + cnp.ones(10) * t), x

        start = cnp.zeros(10) + 1.0, cnp.zeros(10)
        return lax.scan(step, start, cnp.linspace(0.0, 1.0, 7))

    program, _ = separated(decay, RHOS / 30)
    assert len(in_lanes(program)) == 1


def test_random_numbers_of_each_lane_are_drawn_in_its_chunk() -> None:
    def walk(x: Any) -> Any:
        def step(x: Any, key: Any) -> Any:
            return x + random.normal(key, (300,)), None

        return lax.scan(step, x, random.split(random.key(1), 5))[0]

    program, _ = separated(walk, normal(300), width=64)
    assert in_lanes(program) == [(300, (0,))]
    (equation,) = [e for e in program.equations if e.primitive.name == "lanes"]
    wide = [
        v.aval
        for body in equation.params["programs"]
        for e in body.equations
        for v in e.params["program"].equations[0].outputs
        if 300 in v.aval.shape
    ]
    assert not wide, "nothing in a chunk is as large as all lanes"


@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_random_bits_of_a_chunk_are_those_of_the_whole(width: int) -> None:
    def draw(x: Any) -> Any:
        def step(x: Any, key: Any) -> Any:
            bits = random.bits(key, (3, 70, 2), {8: "u1", 16: "u2", 32: "u4", 64: "u8"}[width])
            return x + (bits[1, :, 0] >> (width - 4)).astype("i4"), None

        return lax.scan(step, x, random.split(random.key(7), 3))[0]

    with cv.enable_x64(True):
        program, _ = separated(draw, np.zeros(70, np.int32), width=16)
    assert len(in_lanes(program)) == 1


# --- branches, nesting, what stays outside --------------------------------------------------------


def test_branches_that_all_lanes_take() -> None:
    def chosen(x: Any, which: Any) -> Any:
        def step(x: Any, _: Any) -> Any:
            cases = [lambda x: cnp.sin(x), lambda x: x * cnp.arange(10.0), lambda x: cnp.ones(10)]
            return lax.switch(which, cases, x), None

        return lax.scan(step, x, None, length=3)[0]

    for which in (0, 1, 2):
        program, _ = separated(chosen, RHOS, np.int32(which))
        assert len(in_lanes(program)) == 1


def test_branches_of_each_lane() -> None:
    def chosen(x: Any) -> Any:
        def step(x: Any, _: Any) -> Any:
            return lax.cond(x > 0, cnp.sin, lambda x: x + 1.0, x), None

        return lax.scan(step, x, None, length=3)[0]

    program, _ = separated(cv.vmap(chosen), normal(10))
    assert len(in_lanes(program)) == 1


def test_a_loop_inside_one_that_does_not_separate() -> None:
    def train(rho: Any, starts: Any) -> Any:
        return lax.scan(
            lambda rho, _: (rho - 1e-3 * cv.grad(mean_square)(rho, starts), None),
            rho,
            None,
            length=2,
        )[0]

    program, decisions = separated(train, RHOS[0], STARTS)
    assert [d.lanes for d in decisions] == [0, 10, 10]
    (loop,) = [e for e in program.equations if e.primitive.name == "scan"]
    assert len(in_lanes(loop.params["program"])) == 1


def test_tables_and_matrices_that_all_lanes_read() -> None:
    table, weights = normal(6), normal(3, 3)

    def look_up(y: Any, i: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            y, i = carry
            y = cnp.tanh(weights @ y) + cnp.asarray(table)[i]
            return (y, (i + 1) % 6), y[0]

        return lax.scan(step, (y, i), None, length=4)

    program, _ = separated(cv.vmap(look_up), STARTS, np.arange(10, dtype=np.int32) % 6)
    assert len(in_lanes(program)) == 1


def test_factorisations_of_each_lane() -> None:
    def solve(a: Any, b: Any) -> Any:
        matrix = a[:, None] * a[None, :] + 3.0 * cnp.eye(3)

        def step(x: Any, _: Any) -> Any:
            return 0.5 * x + cholesky(matrix) @ b, None

        return lax.scan(step, b, None, length=3)[0]

    program, _ = separated(cv.vmap(solve), STARTS, STARTS + 1)
    assert len(in_lanes(program)) == 1


def test_a_sort_of_all_lanes_stands_between_two_regions() -> None:
    def ranked(starts: Any, rhos: Any) -> Any:
        last = cv.vmap(lorenz)(starts, rhos)[0]
        return cv.vmap(lorenz)(cnp.sort(last, axis=0), rhos)[0]

    program, _ = separated(ranked, STARTS, RHOS)
    names = [e.primitive.name for e in program.equations]
    assert names.count("lanes") == 2
    assert "sort" in names


def test_effects_keep_their_order_and_stay_outside() -> None:
    heard: list[Any] = []

    def talk(x: Any) -> Any:
        def step(x: Any, _: Any) -> Any:
            return cnp.sin(x), None

        debug_callback(lambda v: heard.append(("first", float(v))), x.sum())
        x = lax.scan(step, x, None, length=2)[0]
        debug_callback(lambda v: heard.append(("second", float(v))), x.sum())
        return x

    separated(talk, RHOS)
    assert [name for name, _ in heard] == ["first", "second"] * 3


def test_work_that_lanes_share_is_not_repeated_for_each_chunk() -> None:
    shared = normal(40, 40)

    def mostly_shared(x: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            x, w = carry
            w = cnp.tanh(w @ w)
            return (x + w[0, 0], w), None

        return lax.scan(step, (x, cnp.asarray(shared)), None, length=3)[0][0]

    with config.override("disable", "distribution"):
        program, decisions = separated(mostly_shared, RHOS)
    assert in_lanes(program) == []
    assert "shared" in decisions[0].reason
    program, _ = separated(mostly_shared, RHOS)
    assert in_lanes(program) == [(10, (0,))]


def test_neighbours_and_sequences_do_not_separate() -> None:
    def heat(u: Any) -> Any:
        def step(u: Any, _: Any) -> Any:
            return u + 0.1 * (cnp.roll(u, 1) - 2 * u + cnp.roll(u, -1)), None

        return lax.scan(step, u, None, length=3)[0]

    def sequence(xs: Any) -> Any:
        return lax.scan(lambda c, x: (c * 0.5 + x, c), 0.0, xs)

    for function, why in ((heat, "lanes"), (sequence, "one after the other")):
        program, decisions = separated(function, RHOS)
        assert in_lanes(program) == []
        assert why in decisions[0].reason


def test_the_users_line_stays_with_the_equations_of_a_chunk() -> None:
    program, _ = separated(cv.vmap(lorenz), STARTS, RHOS)
    (equation,) = program.equations
    (loop, *_) = [e for e in equation.params["programs"][0].equations if e.primitive.name == "scan"]
    for inner in loop.params["program"].equations:
        assert inner.location is not None
        assert inner.location.function.endswith("step")


def test_effects_in_a_loop_happen_once() -> None:
    heard: list[int] = []

    def talk(x: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            x, i = carry
            debug_callback(lambda i: heard.append(int(i)), i)
            return (cnp.sin(x) * i, i + 1), None

        return lax.scan(step, (x, 0), None, length=3)[0][0]

    program, decisions = separated(talk, RHOS)
    assert in_lanes(program) == []
    assert "effects" in decisions[0].reason
    assert heard == [0, 1, 2] * 3


def test_a_square_matrix_sorts_along_either_axis() -> None:
    x = normal(40, 40)
    for axis in (0, 1):
        np.testing.assert_array_equal(cv.jit(lambda x, a=axis: cnp.sort(x, a))(x), np.sort(x, axis))


def test_lanes_of_a_loop_of_symbolic_length() -> None:
    def function(x: Any, xs: Any) -> Any:
        return lax.scan(lambda x, v: (lax.mul(lax.sin(x), v), lax.add(x, v)), x, xs)

    avals = [Aval((5,), dtypes.float32), Aval((symbol("n"), 5), dtypes.float32)]
    program, _ = trace_program(lambda *xs: cv.tree.leaves(function(*xs)), avals)
    after = Lanes(2, 2).run(program)
    verify(after)
    assert in_lanes(after) == [(5, (0, 1))]
