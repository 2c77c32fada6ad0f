"""Growth: compile time with the program, run time with lanes and steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.client import Peer
from benchmarks.measure import measure as measure_workload
from benchmarks.workloads import WORKLOADS

SIZES = (1000, 2000, 4000, 8000, 16000)
"""Equations."""

Program = tuple[Callable[..., Any], Any]
"""A function to compile, and its argument."""


def chain(count: int, turn: int) -> Program:
    """The gradient of a chain of steps that a Python loop has written out, each with a number."""
    import covector as cv
    import covector.numpy as cnp

    def f(x: Any) -> Any:
        y = x
        for k in range(count // 7):
            y = cnp.sin(y) * (1.0 + k * 1e-4 + turn * 1e-2) + x
        return y

    return cv.value_and_grad(f), np.float32(1.0)


def field(count: int, turn: int) -> Program:
    """The gradient of unrolled Euler steps of a 4x4 tanh field."""
    import covector as cv
    import covector.numpy as cnp

    matrix = np.random.default_rng(0).normal(0.0, 0.3, (4, 4)).astype("float32")

    def f(y: Any) -> Any:
        for _ in range(count // 10):
            y = y + (0.01 + 1e-3 * turn) * cnp.tanh(cnp.asarray(matrix) @ y)
        return y.sum()

    return cv.grad(f), np.ones(4, "float32")


def _tangle(values: list[Any], count: int, turn: int) -> list[Any]:
    """Values, and about `count` equations' worth of others, each of two of the last twenty."""
    import covector.numpy as cnp

    generator = np.random.default_rng(turn)
    operations = (
        lambda a, b: a + b,
        lambda a, b: a * b,
        lambda a, b: a - b,
        lambda a, b: cnp.sin(a) + b,
        lambda a, b: cnp.tanh(a) * b,
        lambda a, b: cnp.exp(-a * a) + b,
        lambda a, b: cnp.where(a > b, a, b),
    )
    for _ in range(int(count / 2.8)):
        i, j = generator.integers(max(0, len(values) - 20), len(values), 2)
        operation = operations[generator.integers(len(operations))]
        values.append(0.5 * operation(values[i], values[j]))
    return values


def graph(count: int, turn: int) -> Program:
    """Elementwise operations that depend on each other at random."""

    def f(x: Any) -> Any:
        return sum(_tangle([x, x + 1.0], count, turn)[-20:])

    return f, np.linspace(0.0, 1.0, 64, dtype="float32")


def body(count: int, turn: int) -> Program:
    """The same of scalars, as the body of a scan."""
    import covector.numpy as cnp
    from covector import lax

    def step(x: Any, _: Any) -> Any:
        return cnp.stack(_tangle(list(x), count, turn)[-4:]), None

    return lambda x: lax.scan(step, x, None, length=10)[0], np.linspace(0, 1, 4, dtype="float32")


def many_results(count: int, turn: int) -> Program:
    """The same, of which every tenth is a result."""

    def f(x: Any) -> Any:
        return _tangle([x, x + 1.0], count, turn)[2::10]

    return f, np.linspace(0.0, 1.0, 64, dtype="float32")


SHAPES = {each.__name__: each for each in (chain, field, graph, body, many_results)}
"""Programs that can be made as large as wanted."""


def measure(shape: str, count: int, turn: int = 0) -> dict[str, Any]:
    """Traces and compiles a program of about `count` equations.

    Args:
        shape: key of `SHAPES`.
        count: equations.
        turn: no cache knows the program of another one.

    Returns:
        Equations of the program; processors' seconds of tracing and compiling, which other
        processes disturb least.
    """
    import covector as cv
    from covector.core.config import config
    from covector.core.program import count_equations

    function, x = SHAPES[shape](count, turn)
    jitted = cv.jit(function)
    with config.override("disable", config.disable | {"disk_cache"}):
        start = time.process_time()
        traced = jitted.trace(x)
        tracing = time.process_time() - start
        traced.lower().compile()
        seconds = time.process_time() - start
    equations = count_equations(traced.program)
    return {
        "shape": shape,
        "equations": equations,
        "trace_s": tracing,
        "compile_s": seconds - tracing,
        "us_per_equation": seconds / equations * 1e6,
    }


def table(sizes: tuple[int, ...] = SIZES) -> list[dict[str, Any]]:
    """The fastest of three measurements for each shape and size, after a warm-up.

    `growth` is the time of an equation divided by that in the smallest program of the shape: 1
    where time is linear in size, less where something takes the same time in all.
    """
    rows: list[dict[str, Any]] = []
    for shape in SHAPES:
        measure(shape, 200)
        first = 0.0
        for size in sizes:
            turns = [measure(shape, size, turn) for turn in (1, 2, 3)]
            row = min(turns, key=lambda each: each["us_per_equation"])
            first = first or row["us_per_equation"]
            row["growth"] = row["us_per_equation"] / first
            rows.append(row)
    return rows


ENSEMBLE = "RK4 Lorenz 16384 x 1000"


def ensemble(repeats: int, folder: Path, log: Path, tiny: bool = False) -> list[dict[str, Any]]:
    """Run time of an ensemble as lanes and steps grow, on Covector.

    Args:
        repeats: turns; the fastest counts.
        folder: for results that pass between processes.
        log: where the worker prints.
        tiny: toy sizes.

    Returns:
        For each size its seconds, and nanoseconds for a lane's step.
    """
    workload = next(w for w in WORKLOADS if w.name == ENSEMBLE)
    peer = Peer("covector", log)
    rows: list[dict[str, Any]] = []
    for lanes, steps in ((40, 10), (80, 10)) if tiny else GROWING:
        sizes = {"lanes": lanes, "steps": steps}
        row = measure_workload(workload, {"covector": peer}, repeats, folder, sizes=sizes)
        figures = row.versions["covector"]
        if "min" in figures:
            seconds = figures["min"]
            nanoseconds = seconds / lanes / steps * 1e9
            rows.append({**sizes, "seconds": seconds, "ns_per_lane_step": nanoseconds})
        else:
            rows.append({**sizes, "error": figures["error"]})
    peer.close()
    return rows


GROWING = (
    *((lanes, 1000) for lanes in (1024, 4096, 16384, 65536)),
    *((4096, steps) for steps in (250, 4000, 16000)),
)
"""Lanes and steps."""
