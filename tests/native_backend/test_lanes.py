"""Loops over independent elements in native code: each element in a lane of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax, random
from covector.compiler import pipeline
from covector.compiler.passes.lanes import Lanes
from covector.core import backend
from covector.core.config import config
from covector.core.interpret import run
from covector.core.program import Program
from covector.ops.lanes import TOGETHER
from covector.ops.linalg import cholesky

RNG = np.random.default_rng(0)
LANES = 40


def compiled(function: Callable[..., Any], *args: Any) -> Program:
    """The program native code is made of, after checking what it computes."""
    program = cv.make_program(function)(*args)
    leaves = [
        np.asarray(x).astype(v.aval.dtype)
        for x, v in zip(cv.tree.leaves(args), program.inputs, strict=True)
    ]
    expected = run(program, *leaves)
    executable = backend.executable(program)
    # The second call finds the buffers as the first one left them.
    for results in (executable(*leaves), executable(*leaves)):
        for found, wanted in zip(results, expected, strict=True):
            found = np.asarray(found)
            assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
            near = 2e-2 if wanted.dtype.itemsize == 2 else 3e-5
            if wanted.dtype.kind in "iub":
                np.testing.assert_array_equal(found, wanted)
            else:
                wide = np.complex128 if wanted.dtype.kind == "c" else np.float64
                scale = max(1.0, float(np.abs(wanted.astype(wide)).max()))
                np.testing.assert_allclose(
                    found.astype(wide), wanted.astype(wide), rtol=near, atol=near * scale
                )
    return pipeline.schedule(program).program


def in_lanes(program: Program) -> int:
    return sum(e.primitive.name == "lanes" for e in program.equations)


def repeated(step: Callable[[Any], Any], steps: int = 4) -> Callable[[Any], Any]:
    def loop(x: Any) -> Any:
        return lax.scan(lambda x, _: (step(x), None), x, None, length=steps)[0]

    return loop


# --- numbers of lanes -----------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", [16, 17, 31, 32, 33, 64, 65, 100])
def test_every_number_of_lanes(lanes: int) -> None:
    def simulate(x: Any, rate: Any) -> Any:
        def step(x: Any, _: Any) -> Any:
            x = x + rate * cnp.sin(x)
            return x, x

        return lax.scan(step, x, None, length=5)

    x = RNG.normal(size=(lanes, 3)).astype(np.float32)
    program = compiled(lambda x, r: cv.vmap(simulate, (0, None))(x, r), x, np.float32(0.1))
    assert in_lanes(program) == 1
    program = compiled(
        cv.grad(lambda x, r: cv.vmap(simulate, (0, None))(x, r)[0].sum(), (0, 1)),
        x,
        np.float32(0.1),
    )
    assert in_lanes(program) == 1


def test_results_of_one_lane_do_not_depend_on_the_others() -> None:
    x = RNG.normal(size=(3 * TOGETHER + 5, 2)).astype(np.float32)
    simulate = cv.jit(cv.vmap(repeated(lambda x: cnp.tanh(x[::-1]) + x * 0.5, 50)))
    whole = np.asarray(simulate(x))
    np.testing.assert_array_equal(whole[20:60], np.asarray(simulate(x[20:60])))


def test_few_lanes_stay_together() -> None:
    x = RNG.normal(size=(15, 2)).astype(np.float32)
    assert in_lanes(compiled(cv.vmap(repeated(cnp.sin)), x)) == 0


# --- what lanes compute ---------------------------------------------------------------------------


def mixed(x: Any) -> Any:
    return x * x[::-1] - x.sum(dtype=x.dtype) + 1


@pytest.mark.parametrize(
    "dtype", ["f2", "bfloat16", "f4", "f8", "c8", "c16", "i1", "u2", "i4", "u8"]
)
def test_every_kind_of_number(dtype: str) -> None:
    with cv.enable_x64(True):
        dtype = np.dtype(cnp.bfloat16 if dtype == "bfloat16" else dtype)
        x = (RNG.normal(size=(LANES, 3)) * 3).astype(dtype)
        program = compiled(cv.vmap(repeated(mixed)), x)
        assert in_lanes(program) == 1


def wide_state(x: Any) -> Any:
    """More elements for a lane than fit in registers."""

    def step(x: Any, _: Any) -> Any:
        x = 0.5 * x + cnp.sin(cnp.roll(x, 1)) * cnp.cumsum(x)[-1] / 50
        return x, x[::7]

    return lax.scan(step, x, None, length=4)


def updated(x: Any) -> Any:
    def step(carry: Any, i: Any) -> Any:
        x, k = carry
        return (x.at[i].set(x[k] + 1.0).at[cnp.array([0, 2])].add(0.5), (k + i) % 5), x[k]

    return lax.scan(step, (x, 0), cnp.arange(6) % 5)


def looked_up(x: Any) -> Any:
    table = cnp.asarray(np.linspace(0, 1, 11, dtype=np.float32))

    def step(x: Any, _: Any) -> Any:
        return x + table[(x[0] * 10).astype(int) % 11], None

    return lax.scan(step, x, None, length=4)[0]


def multiplied(x: Any) -> Any:
    weights = cnp.asarray(np.random.default_rng(1).normal(size=(5, 5)).astype(np.float32))
    return repeated(lambda x: cnp.tanh(weights @ x) + cnp.outer(x, x).sum(0) / 9)(x)


def factorised(x: Any) -> Any:
    def step(x: Any) -> Any:
        a = cnp.outer(x, x) / 9 + 3 * cnp.eye(5)
        low = cholesky(a)
        return 0.5 * x + low @ x

    return repeated(step)(x)


def drawn(x: Any) -> Any:
    def step(carry: Any, _: Any) -> Any:
        x, key = carry
        key, own = random.split(key)
        return (x + random.normal(own, (5,)), key), None

    start = random.key((x[0] * 1000).astype("int32"))
    return lax.scan(step, (x, start), None, length=3)[0][0]


def branching(x: Any) -> Any:
    def step(x: Any) -> Any:
        cases = [cnp.sin, lambda x: x * x / 4, lambda x: -x]
        return lax.switch((x[0] * 2).astype(int) % 3, cases, x)

    return repeated(step)(x)


def searching(x: Any) -> Any:
    """Newton's iteration until it converges, inside a scan."""

    def root(a: Any) -> Any:
        return lax.while_loop(
            lambda y: cnp.abs(y * y - a) > 1e-4 * a, lambda y: 0.5 * (y + a / y), a
        )

    return repeated(lambda x: root(cnp.abs(x[0]) + 1.0) + 0.1 * x)(x)


BODIES = [wide_state, updated, looked_up, multiplied, factorised, drawn, branching, searching]


@pytest.mark.parametrize("body", BODIES)
def test_bodies(body: Callable[[Any], Any]) -> None:
    shape = (70, 64) if body is wide_state else (LANES, 5)
    x = RNG.normal(size=shape).astype(np.float32)
    assert in_lanes(compiled(cv.vmap(body), x)) == 1


@pytest.mark.parametrize("body", [b for b in BODIES if b not in (drawn, searching)])
def test_gradients_of_bodies(body: Callable[[Any], Any]) -> None:
    shape = (70, 64) if body is wide_state else (LANES, 5)
    x = RNG.normal(size=shape).astype(np.float32)

    def loss(x: Any) -> Any:
        return sum([cnp.sum(r**2) for r in cv.tree.leaves(cv.vmap(body)(x)) if r.dtype.kind == "f"])

    assert in_lanes(compiled(cv.grad(loss), x)) >= 1


def test_a_few_lanes_of_large_arrays_stay_together() -> None:
    x = RNG.normal(size=(20, 64)).astype(np.float32)
    with config.override("disable", config.disable - {"lane_ways"}):
        assert in_lanes(compiled(cv.vmap(wide_state), x)) == 0


def test_a_function_without_a_vector_form_keeps_lanes_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "LANES", Lanes(1))

    def step(x: Any) -> Any:
        return cnp.sort(x * 1.1) + cnp.sin(x)

    x = RNG.normal(size=(LANES, 300)).astype(np.float32)
    assert in_lanes(compiled(cv.vmap(repeated(step)), x)) == 0


def test_uniform_branches_with_several_results() -> None:
    def step(carry: Any, t: Any) -> Any:
        x, low, high = carry
        low, high = lax.cond(t > 1.0, lambda: (low + t, high * 2), lambda: (low, high - t))
        return (x * low + high, low, high), None

    def simulate(x: Any, low: Any) -> Any:
        return lax.scan(step, (x, low, low + 1), cnp.linspace(0.0, 2.0, 5))[0]

    x = RNG.normal(size=LANES).astype(np.float32)
    program = compiled(lambda x, low: cv.vmap(simulate, (0, None))(x, low), x, np.float32(0.5))
    assert in_lanes(program) == 1


def test_the_debug_ladder_says_which_loops_run_in_lanes(capsys: pytest.CaptureFixture[str]) -> None:
    def walk(x: Any) -> Any:
        return lax.scan(lambda c, _: (c + x, c), 0.0, None, length=3)[1]

    with cv.debug.debug_level(3):
        cv.jit(cv.vmap(walk))(np.ones(LANES, np.float32))
        cv.jit(lambda xs: lax.scan(lambda c, x: (c + x, c), 0.0, xs)[1])(np.ones(20, np.float32))
    said = capsys.readouterr().err
    assert f"in {LANES} lanes" in said
    assert "not in lanes: along an axis of 20" in said
