"""Ensembles as JAX 0.12 traces them: their loops run in lanes, with the results that JAX gives.

Only files are read: `export_ensembles.py` says how they are made.
"""

from __future__ import annotations

import io
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from covector.compiler.passes.lanes import Decision, Lanes
from covector.compiler.pipeline import run_passes
from covector.core import backend
from covector.core.backend import Options
from covector.core.config import config
from covector.core.interpret import run
from covector.core.parsing import parse
from covector.core.program import Program, subprograms
from covector.core.verify import verify
from covector.ops.callback import FlatCallback
from covector.ops.registry import load_all

FIXTURES = {
    path.name.removesuffix(".npz.xz"): path
    for path in sorted((Path(__file__).parent / "fixtures").glob("*.npz.xz"))
}

PARTLY = {
    "batched_lbfgs": "the sequence of step numbers is the same for all members",
    "diffrax_adaptive_gradient": "the number of forward steps is checked for all members at once",
    "kalman_gradient": "covariances are the same for all members",
    "lotka_volterra_sweep_interp_table": "the interpolated table is the same for all members",
}
"""Programs some of whose loops stay outside of lanes."""

APART = {
    "evolution_strategy": "no axis of its operands has",
    "parallel_tempering": "takes some of the lanes",
}
"""Programs whose members meet in every step, and what is said of them."""


def fail(*args: Any) -> Any:
    raise AssertionError("a callback that reports an error was called")


def load(name: str) -> tuple[Program, list[Any], list[Any]]:
    """The program of a file, the arguments, and what JAX gives."""
    load_all()
    data = np.load(io.BytesIO(lzma.decompress(FIXTURES[name].read_bytes())))
    objects = [FlatCallback(fail, [], "fail")] * int(data["objects"])
    program = parse(data["program"].tobytes().decode(), objects)
    args = [data[k] for k in sorted(data.files) if k.startswith("in")]
    return program, args, [data[k] for k in sorted(data.files) if k.startswith("out")]


def assert_close(results: Any, expected: Any) -> None:
    for result, wanted in zip(results, expected, strict=True):
        scale = max(1.0, float(np.max(np.abs(wanted), initial=0)))
        np.testing.assert_allclose(np.asarray(result), wanted, rtol=1e-4, atol=1e-4 * scale)


def loops(program: Program) -> set[str]:
    """The names of the loops of a program, without those that run in lanes."""
    found: set[str] = set()
    for equation in program.equations:
        name = equation.primitive.name
        if name in ("scan", "while", "lanes"):
            found.add(name)
        if name != "lanes":
            found.update(*[loops(inner) for inner in subprograms(equation.params)])
    return found


def check_decisions(name: str, found: set[str], decisions: list[Decision]) -> None:
    if name in APART:
        assert "lanes" not in found
        assert APART[name] in decisions[0].reason
    elif name in PARTLY:
        assert "lanes" in found
    else:
        assert found == {"lanes"}
        assert all([d.lanes for d in decisions])


def test_most_ensembles_run_in_lanes() -> None:
    assert len(FIXTURES) - len(APART) - len(PARTLY) >= 25
    assert {*APART, *PARTLY} <= FIXTURES.keys()


@pytest.mark.parametrize("name", FIXTURES)
def test_ensemble(name: str) -> None:
    program, args, expected = load(name)
    verify(program)
    with config.override("disable", frozenset()):  # decisions are those of all passes
        separated, decisions = Lanes(16, 16).decide(run_passes(program))
    verify(separated)
    check_decisions(name, loops(separated), decisions)
    assert_close(run(separated, *args), expected)
    compiled = backend.get_backend("native").compile(program, Options())
    assert_close(compiled(*args), expected)
