"""What the tests of lanes share: programs in lanes, after a check of what they compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.compiler import pipeline
from covector.compiler.passes.lanes import Decision, Lanes
from covector.compiler.pipeline import run_passes
from covector.core import backend
from covector.core.interpret import run
from covector.core.program import Program
from covector.core.verify import verify

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def in_lanes(program: Program) -> list[tuple[int, Any]]:
    """For each `lanes` equation how many lanes it has, and where its results have them."""
    found = [e for e in program.equations if e.primitive.name == "lanes"]
    return [(e.params["length"], e.params["out_dims"]) for e in found]


def separated(
    function: Callable[..., Any], *args: Any, width: int = 4, natively: bool = True
) -> tuple[Program, list[Decision]]:
    """A function's program in lanes, after checking that it computes the same.

    Native code, which has no chunks, has lanes wherever there are some.
    """
    program = run_passes(cv.make_program(function)(*args))
    after, decisions = Lanes(width, 2).decide(program)
    verify(after)
    leaves = [
        np.asarray(x).astype(v.aval.dtype)
        for x, v in zip(cv.tree.leaves(args), program.inputs, strict=True)
    ]
    expected = run(program, *leaves)
    answers = [run(after, *leaves)]
    if natively:
        backend.clear_cache()
        with mock.patch.object(pipeline, "LANES", Lanes(1, fewest=2)):
            answers.append(backend.executable(program)(*leaves))
    for results in answers:
        for found, wanted in zip(results, expected, strict=True):
            assert found.dtype == wanted.dtype
            np.testing.assert_allclose(np.asarray(found), wanted, rtol=2e-5, atol=1e-5)
    return after, decisions


def lorenz(y: Any, rho: Any) -> Any:
    def step(y: Any, _: Any) -> Any:
        rates = [10.0 * (y[1] - y[0]), y[0] * (rho - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]]
        return y + 0.01 * cnp.stack(rates), y[0]

    return lax.scan(step, y, None, length=6)


STARTS, RHOS = normal(10, 3), normal(10) + 28


def mean_square(rho: Any, starts: Any) -> Any:
    return cnp.mean(cv.vmap(lorenz, (0, None))(starts, rho)[0] ** 2)
