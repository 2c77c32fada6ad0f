"""The smallest residuals of a scan: what is kept, what is recomputed, and that nothing changes."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.core.avals import Aval
from covector.core.primitive import Linearized
from covector.core.program import Equation, Program, Variable, all_equations
from covector.core.verify import verify
from covector.ops import elementwise as el
from covector.ops import residuals, scan_linearize
from covector.ops.residuals import choose_residuals

STEPS = 20


def scans(function: Any, *args: Any) -> list[Equation]:
    program = cv.make_program(function)(*args)
    verify(program)
    return [e for e in program.equations if e.primitive.name == "scan"]


def kept(loop: Equation) -> list[tuple[int, ...]]:
    """The shapes of what a forward loop stacks, for one iteration each."""
    return [v.aval.shape[1:] for v in loop.outputs[loop.params["num_carry"] :]]


def rk4(rates: Any, y: Any, h: float) -> Any:
    def step(y: Any, _: Any) -> Any:
        k1 = rates(y)
        k2 = rates(y + h / 2 * k1)
        k3 = rates(y + h / 2 * k2)
        k4 = rates(y + h * k3)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

    return lax.scan(step, y, None, length=STEPS)[0].sum()


def lorenz(rho: Any, y: Any) -> Any:
    def rates(y: Any) -> Any:
        return cnp.stack(
            [10 * (y[1] - y[0]), y[0] * (rho - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]]
        )

    return rk4(rates, y, 0.01)


def tanh_field(w: Any, y: Any) -> Any:
    return rk4(lambda y: cnp.tanh(w @ y), y, 0.01)


def test_of_a_polynomial_field_the_carry_alone_is_kept() -> None:
    forward, _ = scans(cv.grad(lorenz, (0, 1)), np.float32(28), np.ones(3, np.float32))
    assert kept(forward) == [(3,)]


def test_costly_functions_are_not_computed_twice() -> None:
    w = np.eye(4, dtype=np.float32)
    forward, backward = scans(cv.grad(tanh_field, (0, 1)), w, np.ones(4, np.float32))
    names = [e.primitive.name for e in all_equations(backward.params["program"])]
    assert "tanh" not in names
    assert len(kept(forward)) <= 8


def test_what_the_backward_loop_reads_anyway_is_not_kept() -> None:
    def f(c: Any, xs: Any) -> Any:
        def step(y: Any, x: Any) -> Any:
            z = c * x + 1.0
            return y * (z * z + x), y

        y, ys = lax.scan(step, cnp.ones(()), xs)
        return y + ys.sum()

    forward, _ = scans(cv.grad(f, (0, 1)), np.float32(0.3), np.ones(5, np.float32))
    assert kept(forward) == [()], "the stacked carry is a result; all else follows from it and xs"


@pytest.mark.parametrize("function", [lorenz, tanh_field])
@pytest.mark.parametrize("order", [1, 2])
def test_gradients_are_those_with_all_residuals(
    function: Any, order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = np.float64(28.0) if function is lorenz else np.random.default_rng(0).normal(size=(4, 4))
    y = np.arange(3.0 if function is lorenz else 4.0) / 4

    def derivative(w: Any, y: Any) -> Any:
        if order == 1:
            return cv.grad(function, (0, 1))(w, y)
        return cv.hessian(function, 1)(w, y)

    with cv.enable_x64(True):
        fewest = cv.jit(derivative)(w, y)
        monkeypatch.setattr(scan_linearize, "choose_residuals", lambda body, *_: body)
        every = derivative(w, y)
        for found, expected in zip(cv.tree.leaves(fewest), cv.tree.leaves(every), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-11)


def ring(y: Any) -> Any:
    """Neighbours on a ring, by two stages of sines."""

    def rates(y: Any) -> Any:
        return cnp.sin(cnp.roll(y, -1) - y) + cnp.sin(cnp.roll(y, 1) - y)

    def step(y: Any, _: Any) -> Any:
        return y + 0.1 * rates(y + 0.05 * rates(y)), None

    return (lax.scan(step, y, None, length=STEPS)[0] ** 2).sum()


def test_functions_are_computed_again_for_large_tapes(monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.linspace(-1, 2, 7, dtype=np.float32)
    forward, _ = scans(cv.grad(ring), y)
    assert kept(forward) == [(7,)] * 4, "a small tape keeps the cosines"
    few = np.asarray(cv.grad(ring)(y))
    monkeypatch.setattr(residuals, "LARGE_TAPE", 4 * 7 * 4 * STEPS)
    forward, _ = scans(cv.grad(ring), y)
    assert kept(forward) == [(7,)], "a large one the carry"
    np.testing.assert_allclose(np.asarray(cv.jit(cv.grad(ring))(y)), few, rtol=2e-5)


def test_functions_are_not_computed_twice_for_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """One array fewer for a chain of five functions, all of which the result needs too."""

    def f(y: Any) -> Any:
        def step(y: Any, _: Any) -> Any:
            z = cnp.tanh(cnp.exp(cnp.tanh(cnp.exp(cnp.tanh(y)))))
            return z * y, None

        return lax.scan(step, y, None, length=STEPS)[0].sum()

    monkeypatch.setattr(residuals, "LARGE_TAPE", 1)
    monkeypatch.setattr(residuals, "WORD", 1000)
    forward, backward = scans(cv.grad(f), np.ones(5, np.float32))
    names = [e.primitive.name for e in all_equations(backward.params["program"])]
    assert "tanh" not in names
    assert len(kept(forward)) > 1


# --- the cut --------------------------------------------------------------------------------------


@st.composite
def bodies(draw: st.DrawFn) -> tuple[Linearized, set[Variable]]:
    """Random programs of cheap and costly equations, of whose values some are residuals."""
    sizes = [(), (2,), (3,)]
    variables = [Variable(Aval(draw(st.sampled_from(sizes)), np.dtype("f4"))) for _ in range(2)]
    inputs = list(variables)
    equations: list[Equation] = []
    for _ in range(draw(st.integers(1, 7))):
        operand = draw(st.sampled_from(variables))
        alike = [v for v in variables if v.aval == operand.aval]
        kind = draw(st.sampled_from(["mul", "neg", "tanh", "slice", "sum"]))
        out = Variable(operand.aval)
        if kind == "mul":
            equation = Equation(el.mul, [operand, draw(st.sampled_from(alike))], [out], {})
        elif kind == "slice" and operand.aval.shape:
            from covector.ops.slices import slice_

            params = {"start_indices": (0,), "limit_indices": (1,), "strides": None}
            out = Variable(Aval((1,), operand.aval.dtype))
            equation = Equation(slice_, [operand], [out], params)
        else:
            equation = Equation(el.tanh if kind == "tanh" else el.neg, [operand], [out], {})
        equations.append(equation)
        variables.append(out)
    residuals = draw(st.lists(st.sampled_from(variables), min_size=1, max_size=4))
    free = set(draw(st.lists(st.sampled_from(variables), max_size=2)))
    stand_ins = [Variable(v.aval) for v in residuals]
    tangent = Variable(Aval((), np.dtype("f4")))
    linear = Program([*stand_ins, tangent], [], [*stand_ins])
    known = Program(inputs, equations, [*residuals])
    return Linearized(known, linear, len(residuals), [True]), free


def size(variables: Any, free: set[Variable]) -> int:
    return sum(int(v.aval.size) * 4 for v in set(variables) if v not in free)


def suffices(kept: set[Variable], needed: list[Variable], equations: list[Equation]) -> bool:
    known = set(kept)
    for equation in equations:
        cheap = equation.primitive.name != "tanh"
        if cheap and all(a in known for a in equation.inputs):
            known.update(equation.outputs)
    return known.issuperset(needed)


@given(bodies())
def test_no_smaller_set_of_values_would_do(drawn: tuple[Linearized, set[Variable]]) -> None:
    body, free = drawn
    after = choose_residuals(body, 0, free)
    verify(after.known)
    verify(after.linear)
    chosen = [v for v in after.known.outputs if isinstance(v, Variable)]
    assert len(chosen) == after.num_residuals
    needed = [v for v in body.known.outputs if isinstance(v, Variable)]
    assert suffices(set(chosen), needed, body.known.equations)

    variables = {*body.known.inputs, *[v for e in body.known.equations for v in e.outputs]}
    candidates = sorted(variables - free, key=id)
    best = min(
        size(subset, free)
        for count in range(len(candidates) + 1)
        for subset in combinations(candidates, count)
        if suffices({*subset, *free}, needed, body.known.equations)
    )
    assert size(chosen, free) == best


@given(bodies())
def test_the_linear_part_gets_the_same_values(drawn: tuple[Linearized, set[Variable]]) -> None:
    from covector.core.interpret import run

    body, free = drawn
    after = choose_residuals(body, 0, free)
    rng = np.random.default_rng(0)
    values = [rng.normal(size=v.aval.shape).astype("f4") for v in body.known.inputs]
    tangent = np.float32(1.0).reshape(())
    before = run(body.linear, *run(body.known, *values), tangent)
    now = run(after.linear, *run(after.known, *values), tangent)
    for found, expected in zip(now, before, strict=True):
        np.testing.assert_array_equal(found, expected)
