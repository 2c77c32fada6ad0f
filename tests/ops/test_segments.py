"""Loops in segments: the same derivatives from less memory, on request or beyond a budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.core.config import config, debug_level
from covector.core.errors import UnsupportedRuleError
from covector.core.program import Program, all_equations
from covector.core.verify import verify
from covector.ops.nested import nbytes
from covector.ops.tapes import memory, segment_lengths
from covector.testing.gradients import check_grads

RNG = np.random.default_rng(0)
W = RNG.normal(size=(4, 4)).astype(np.float32)
Y = RNG.normal(size=4).astype(np.float32)
NO_EFFECTS = Program([], [], [])
REMATS: list[Any] = [True, "log", 1, 3, 100, (3, 2), (4, 1)]


def loss(
    w: Any, y: Any, xs: Any, remat: Any = None, reverse: bool = False, around: Any = None
) -> Any:
    """A loop with consts, a carry that never changes, a counter, and pytrees of xs and ys."""

    def step(carry: Any, x: Any) -> Any:
        i, w, y = carry
        y = y + 0.1 * cnp.sin(w @ y + x["a"]) + 0.01 * i
        return (i + 1, w, y), {"y": y * x["b"], "sum": y.sum()}

    body = step if around is None else around(step)
    carry, out = lax.scan(body, (0, w, y), xs, reverse=reverse, remat=remat)
    return (carry[2] ** 2).sum() + (out["y"] ** 2).sum() + out["sum"].sum()


def inputs(length: int) -> Any:
    return {
        "a": RNG.normal(size=(length, 4)).astype(np.float32),
        "b": RNG.normal(size=length).astype(np.float32),
    }


def equal(found: Any, expected: Any) -> None:
    for a, b in zip(cv.tree.leaves(found), cv.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def close(found: Any, expected: Any) -> None:
    for a, b in zip(cv.tree.leaves(found), cv.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * float(np.abs(b).max(initial=0)))


def stacked(function: Callable[..., Any], *args: Any) -> int:
    """Bytes of the largest array that a loop stacks for another one."""
    program = cv.make_program(function)(*args)
    verify(program)
    return max(
        [
            nbytes(v.aval)
            for e in all_equations(program)
            if e.primitive.name == "scan"
            for v in e.outputs[e.params["num_carry"] :]
        ],
        default=0,
    )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 2, 12, 17])
def test_gradients_are_the_same_bit_for_bit(length: int, reverse: bool) -> None:
    xs = inputs(length)
    plain = cv.jit(cv.value_and_grad(loss, (0, 1, 2)), static_argnums=(3, 4))
    value, expected = plain(W, Y, xs, None, reverse)
    for remat in REMATS:
        found, gradients = plain(W, Y, xs, remat, reverse)
        equal(gradients, expected)
        # What is left over is a stack of its own: a sum over both may take another order.
        np.testing.assert_allclose(found, value, rtol=1e-6)


@pytest.mark.parametrize("remat", [True, (3, 2)])
def test_gradients_in_eager_code(remat: Any) -> None:
    xs = inputs(17)
    gradient = cv.grad(loss, (0, 1, 2))
    equal(gradient(W, Y, xs, remat), gradient(W, Y, xs))
    with cv.enable_x64(True):
        wide = (W.astype(np.float64), Y.astype(np.float64))
        check_grads(lambda w, y: loss(w, y, xs, remat), wide, 2)


def test_an_unrolled_loop_and_fori_loop() -> None:
    def f(y: Any, remat: Any, unroll: Any) -> Any:
        xs = np.arange(10, dtype=np.float32)
        y, _ = lax.scan(lambda y, x: (cnp.sin(y * x), None), y, xs, unroll=unroll, remat=remat)
        return lax.fori_loop(0, 11, lambda i, y: y + cnp.sin(y * i), y, remat=remat).sum()

    gradient = cv.jit(cv.grad(f), static_argnums=(1, 2))
    for unroll in (1, 3, True):
        close(gradient(Y, True, unroll), gradient(Y, None, 1))


def second_orders(remat: Any) -> dict[str, Callable[..., Any]]:
    xs = inputs(14)

    def f(w: Any, y: Any) -> Any:
        return loss(w, y, xs, remat)

    ys = np.stack([Y, 2 * Y, -Y])
    return {
        "forward over reverse": lambda: cv.jvp(lambda w: cv.grad(f, 1)(w, Y), (W,), (W,)),
        "reverse over reverse": lambda: cv.grad(lambda w: (cv.grad(f)(w, Y) ** 2).sum())(W),
        "reverse over forward": lambda: cv.grad(lambda w: cv.jvp(f, (w, Y), (W, Y))[1])(W),
        "jacfwd of grad": lambda: cv.jacfwd(lambda y: cv.grad(f)(W, y))(Y),
        "hessian": lambda: cv.hessian(f, 1)(W, Y),
        "vmap of grad": lambda: cv.vmap(cv.grad(f, (0, 1)), (None, 0))(W, ys),
        "grad of vmap": lambda: cv.grad(lambda w: cv.vmap(lambda y: f(w, y))(ys).sum())(W),
        "linearize": lambda: cv.linearize(lambda w: f(w, Y), W)[1](W),
        "grad of checkpoint": lambda: cv.grad(cv.checkpoint(f))(W, Y),
        "grad of jit": lambda: cv.grad(cv.jit(f))(W, Y),
    }


@pytest.mark.parametrize("name", list(second_orders(None)))
@pytest.mark.parametrize("remat", [True, (3, 2)])
def test_compositions(name: str, remat: Any) -> None:
    global RNG
    RNG = np.random.default_rng(1)
    plain = second_orders(None)[name]
    RNG = np.random.default_rng(1)
    found = second_orders(remat)[name]
    close(cv.jit(found)(), cv.jit(plain)())


def test_loops_in_loops() -> None:
    def f(y: Any, inner: Any, outer: Any) -> Any:
        def step(y: Any, x: Any) -> Any:
            y, ys = lax.scan(lambda y, _: (cnp.sin(y) + x, y), y, None, length=7, remat=inner)
            return y, ys.sum()

        y, sums = lax.scan(step, y, np.arange(6, dtype=np.float32), remat=outer)
        return y.sum() + sums.sum()

    gradient = cv.jit(cv.grad(f), static_argnums=(1, 2))
    expected = gradient(Y, None, None)
    for inner, outer in ((True, None), (None, True), (True, (3, 2))):
        equal(gradient(Y, inner, outer), expected)


def test_agrees_with_jax() -> None:
    jax = pytest.importorskip("jax")

    def f(module: Any, w: Any, y: Any, **options: Any) -> Any:
        def step(y: Any, _: Any) -> Any:
            return y + 0.1 * module.numpy.sin(w @ y), None

        return (module.lax.scan(step, y, None, length=23, **options)[0] ** 2).sum()

    found = cv.hessian(lambda w: f(cv, w, Y, remat="log"))(W)
    np.testing.assert_allclose(found, jax.hessian(lambda w: f(jax, w, Y))(W), rtol=1e-3, atol=1e-4)


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("remat", "most"), [(True, 100 * 80), ("log", 40 * 80)])
def test_memory_grows_as_asked(remat: Any, most: int) -> None:
    w, y = np.float32(0.5), np.zeros(20, np.float32)

    def gradient(remat: Any) -> Callable[..., Any]:
        def f(y: Any) -> Any:
            def step(y: Any, _: Any) -> Any:
                return y + cnp.sin(w * y) * y, None

            return lax.scan(step, y, None, length=2000, remat=remat)[0].sum()

        return cv.grad(f)

    found, plain = gradient(remat), gradient(None)
    assert stacked(found, y) <= most < stacked(plain, y)
    twice = [cv.grad(lambda y, g=g: (g(y) ** 2).sum()) for g in (found, plain)]
    assert stacked(twice[0], y) <= most < stacked(twice[1], y)

    def planned(gradient: Callable[..., Any]) -> int:
        return cv.jit(gradient).explain(y).memory.temporary

    assert planned(found) < planned(plain) / 8
    assert planned(twice[0]) < planned(twice[1]) / 8


def test_policies_of_the_body_decide_what_an_iteration_keeps() -> None:
    xs = inputs(400)

    def kept(policy: Any) -> int:
        checkpointed = cv.checkpoint(policy=policy)
        program = cv.make_program(cv.grad(lambda w: loss(w, Y, xs, 16, around=checkpointed)))(W)
        return max(
            sum([nbytes(v.aval) for v in e.outputs[e.params["num_carry"] :]])
            for e in all_equations(program)
            if e.primitive.name == "scan" and e.params["length"] == 25 and not e.params["reverse"]
        )

    everything, nothing = (
        kept(cv.checkpoint_policies.everything_saveable),
        kept(cv.checkpoint_policies.nothing_saveable),
    )
    assert nothing < everything


def test_carries_that_never_change_are_not_stacked() -> None:
    def f(w: Any, y: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            w, y = carry
            return (w, y + 0.1 * cnp.sin(w @ y)), None

        (w, y), _ = lax.scan(step, (w, y), None, length=30)
        return (w * y).sum()

    assert stacked(cv.grad(f, (0, 1)), W, Y) == 30 * Y.nbytes
    with cv.enable_x64(True):
        check_grads(f, (W.astype(np.float64), Y.astype(np.float64)), 2)


def test_a_checkpointed_loop_keeps_nothing_when_it_runs_first() -> None:
    def f(y: Any) -> Any:
        inner = cv.checkpoint(lambda y: lax.fori_loop(0, 50, lambda i, y: cnp.sin(y), y))
        return lax.scan(lambda y, _: (inner(y), None), y, None, length=2)[0].sum()

    first, second = [
        e
        for e in cv.make_program(cv.grad(f))(Y).equations
        if e.primitive.name == "scan" and e.params["length"] == 2
    ]
    inside = [e for e in all_equations(first.params["program"]) if e.primitive.name == "scan"]
    assert [len(e.outputs) - e.params["num_carry"] for e in inside] == [0]
    again = [e for e in all_equations(second.params["program"]) if e.primitive.name == "scan"]
    assert len(again[0].outputs) > again[0].params["num_carry"]


# --- the budget -----------------------------------------------------------------------------------


def rough(y: Any, remat: Any = None, length: int = 1000) -> Any:
    return lax.scan(lambda y, _: (cnp.sin(cnp.sin(y)), None), y, None, length=length, remat=remat)[
        0
    ].sum()


def test_a_tape_beyond_the_budget_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    y = np.ones(10, np.float32)
    expected = cv.jit(cv.grad(rough))(y)
    whole = stacked(cv.grad(rough), y)
    with config.override("tape_bytes", 20_000), debug_level(1):
        equal(cv.jit(cv.grad(rough))(y), expected)
        message = capsys.readouterr().err
        assert "1000 iterations" in message
        assert "tape_bytes" in message
        assert "test_segments.py" in message
        assert stacked(cv.grad(rough), y) <= 20_000 < whole
        assert stacked(lambda y: cv.grad(rough)(y, False), y) == whole
        with config.override("disable", "segments"):
            assert stacked(cv.grad(rough), y) == whole
    with config.override("tape_bytes", 4000):
        equal(cv.jit(cv.grad(rough))(y), expected)
        assert stacked(cv.grad(rough), y) <= 4000
    with config.override("tape_bytes", 2 * whole):
        assert stacked(cv.grad(rough), y) == whole


def test_a_batch_counts() -> None:
    ys = np.ones((10, 10), np.float32)
    whole = stacked(cv.grad(rough), ys[0])
    with config.override("tape_bytes", 3 * whole):
        assert stacked(cv.grad(rough), ys[0]) == whole
        assert stacked(cv.vmap(cv.grad(rough)), ys) < whole
        assert stacked(cv.vmap(cv.grad(cv.jit(rough))), ys) < whole
        assert stacked(cv.grad(cv.jit(rough)), ys[0]) == whole


def test_lengths() -> None:
    def lengths(remat: Any, length: Any, carry: int = 8, tape: int = 8) -> tuple[int, ...]:
        return segment_lengths(remat, length, carry, tape, NO_EFFECTS)

    assert lengths(True, 100) == (10,)
    assert lengths(True, 101) == (10,)
    assert lengths("log", 1000) == (100, 10)
    assert lengths(4, 10) == (3,)
    assert lengths((4, 3), 100) == (25, 9)
    assert lengths(True, 100, carry=0) == (4,)
    assert lengths(True, 100, carry=1000) == ()
    assert lengths(True, 1) == lengths(True, 100, tape=0) == lengths(None, 10**6) == ()
    for length in (10, 97, 1000, 12345, 10**6):
        for carry, tape in ((8, 8), (8, 80), (80, 8), (1, 1000)):
            found = lengths("log", length, carry, tape)
            assert list(found) == sorted(set(found), reverse=True)
            assert memory(found, length, carry, tape) <= length * tape


# --- effects and errors ---------------------------------------------------------------------------


def test_what_is_printed_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    def f(y: Any) -> Any:
        def step(y: Any, x: Any) -> Any:
            cv.debug.print("at {}", x, ordered=True)
            return cnp.sin(y), None

        return lax.scan(step, y, np.arange(9), remat=True)[0].sum()

    cv.jit(cv.grad(f))(Y)
    assert capsys.readouterr().out.split() == " ".join([f"at {k}" for k in range(9)]).split()


def test_iterations_that_act_are_not_repeated() -> None:
    def f(y: Any, remat: Any) -> Any:
        def step(y: Any, _: Any) -> Any:
            cv.io_callback(lambda: None, None, ordered=True)
            return cnp.sin(y), None

        return lax.scan(step, y, None, length=9, remat=remat)[0].sum()

    with pytest.raises(UnsupportedRuleError, match=r"repeats iterations.*io_callback"):
        cv.grad(f)(Y, True)
    with config.override("tape_bytes", 10):
        cv.grad(f)(Y, None)


@pytest.mark.parametrize("remat", ["sqrt", 2.5, None.__class__, {}])
def test_remat_of_no_meaning(remat: Any) -> None:
    with pytest.raises(TypeError, match=r"checkpoint.*policy"):
        lax.scan(lambda c, x: (c, x), 1.0, np.ones(3), remat=remat)


@pytest.mark.parametrize("remat", [0, -1, (), (3, 0)])
def test_numbers_of_segments_are_positive(remat: Any) -> None:
    with pytest.raises(ValueError, match="positive"):
        lax.scan(lambda c, x: (c, x), 1.0, np.ones(3), remat=remat)


def test_bounds_that_are_traced_have_no_segments() -> None:
    with pytest.raises(ValueError, match="remat needs bounds"):
        cv.jit(lambda n: lax.fori_loop(0, n, lambda i, y: y + i, 0, remat=True))(3)
