"""Lanes: what separates runs in chunks with equal results; what does not is left, with a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax, random
from covector.compiler import pipeline
from covector.compiler.lanes.flow import Flow
from covector.compiler.passes.lanes import Decision, Lanes
from covector.compiler.pipeline import run_passes
from covector.core import backend, dtypes
from covector.core.avals import Aval
from covector.core.config import config
from covector.core.dims import symbol
from covector.core.interpret import run
from covector.core.program import Program
from covector.core.trace import trace_program
from covector.core.verify import verify
from covector.lax.callbacks import debug_callback
from covector.ops.linalg import cholesky

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def in_lanes(program: Program) -> list[tuple[int, Any]]:
    """For each `lanes` equation how many lanes it has, and where its results have them."""
    found = [e for e in program.equations if e.primitive.name == "lanes"]
    return [(e.params["length"], e.params["out_dims"]) for e in found]


def separated(
    function: Callable[..., Any], *args: Any, width: int = 4
) -> tuple[Program, list[Decision]]:
    """A function's program in lanes, after checking that it computes the same."""
    program = run_passes(cv.make_program(function)(*args))
    after, decisions = Lanes(width, 2).decide(program)
    verify(after)
    leaves = [
        np.asarray(x).astype(v.aval.dtype)
        for x, v in zip(cv.tree.leaves(args), program.inputs, strict=True)
    ]
    expected = run(program, *leaves)
    for results in (run(after, *leaves), backend.executable(program)(*leaves)):
        for found, wanted in zip(results, expected, strict=True):
            assert found.dtype == wanted.dtype
            np.testing.assert_allclose(np.asarray(found), wanted, rtol=2e-5, atol=1e-5)
    return after, decisions


@pytest.fixture(autouse=True)
def _natively(monkeypatch: pytest.MonkeyPatch) -> None:
    """Native code has lanes wherever there are some."""
    monkeypatch.setattr(pipeline, "LANES", Lanes(1, fewest=2))
    backend.clear_cache()


def lorenz(y: Any, rho: Any) -> Any:
    def step(y: Any, _: Any) -> Any:
        rates = [10.0 * (y[1] - y[0]), y[0] * (rho - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]]
        return y + 0.01 * cnp.stack(rates), y[0]

    return lax.scan(step, y, None, length=6)


STARTS, RHOS = normal(10, 3), normal(10) + 28


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


# --- reductions over lanes ------------------------------------------------------------------------


def mean_square(rho: Any, starts: Any) -> Any:
    return cnp.mean(cv.vmap(lorenz, (0, None))(starts, rho)[0] ** 2)


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


# --- while ----------------------------------------------------------------------------------------


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


# --- sums that are not sums of parts, effects, work -----------------------------------------------


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


def steps_taken(program: Program, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often the pass looks at an equation."""
    taken = 0
    step = Flow.step

    def counted(flow: Flow, equation: Any) -> Any:
        nonlocal taken
        taken += 1
        return step(flow, equation)

    with monkeypatch.context() as patch:
        patch.setattr(Flow, "step", counted)
        Lanes(4, 2).decide(program)
    return taken


def test_each_level_of_loops_is_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def nested(depth: int) -> Callable[..., Any]:
        def body(carry: Any) -> Any:
            x, y = carry
            z = nested(depth - 1)(x, y) if depth else cnp.sin(x)
            return lax.cond(z > 0.5, lambda z: z * y, lambda z: z + 1.0, z), y + 1

        return lambda x, y: lax.while_loop(lambda c: c[0] < c[1], body, (x, y))[0]

    one, two, four = [
        steps_taken(
            run_passes(cv.make_program(cv.vmap(nested(depth)))(RHOS, RHOS + 1)), monkeypatch
        )
        for depth in (1, 2, 4)
    ]
    assert four - two < 1.1 * 2 * (two - one)


def test_work_grows_in_proportion_to_what_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepared(length: int) -> Callable[..., Any]:
        def function(x: Any) -> Any:
            rates = cnp.arange(10.0)
            for _ in range(length):
                rates = cnp.sin(rates)
            return lax.scan(lambda x, _: (x * rates, None), x, None, length=3)[0]

        return function

    few, many = [
        steps_taken(run_passes(cv.make_program(prepared(n))(RHOS)), monkeypatch) for n in (10, 80)
    ]
    assert many < 10 * few
    program, _ = separated(prepared(10), RHOS)
    assert [e.primitive.name for e in program.equations] == ["lanes"]


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
