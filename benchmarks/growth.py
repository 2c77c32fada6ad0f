"""Growth: compile time with the program, run time with lanes and steps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.client import Peer
from benchmarks.measure import measure as measure_workload
from benchmarks.workloads import WORKLOADS


def chain(count: int, turn: int) -> Any:
    """A function whose gradient's program has about `count` equations, others in each turn."""
    import covector.numpy as cnp

    def f(x: Any) -> Any:
        y = x
        for k in range(count // 7):
            y = cnp.sin(y) * (1.0 + k * 1e-4 + turn * 1e-2) + x
        return y

    return f


def measure(count: int, turn: int = 0) -> dict[str, Any]:
    """Traces, differentiates and compiles a program of about `count` equations.

    Args:
        count: equations.
        turn: no cache knows the program of another one.

    Returns:
        Equations of the program, seconds in Python and in LLVM.
    """
    import covector as cv
    from covector.core.program import count_equations

    gradient = cv.jit(cv.value_and_grad(chain(count, turn)))
    start = time.perf_counter()
    traced = gradient.trace(1.0)
    tracing = time.perf_counter() - start
    start = time.perf_counter()
    compiled = traced.lower().compile()
    compiling = time.perf_counter() - start
    llvm = compiled.cost_analysis()["seconds"]["llvm"]
    equations = count_equations(traced.program)
    python = tracing + compiling - llvm
    return {
        "equations": equations,
        "trace_s": tracing,
        "compile_s": compiling,
        "llvm_s": llvm,
        "python_us_per_equation": python / equations * 1e6,
        "total_us_per_equation": (tracing + compiling) / equations * 1e6,
    }


def table(sizes: tuple[int, ...] = (1000, 4000, 16000)) -> list[dict[str, Any]]:
    """The fastest of three measurements for each size, after a warm-up."""
    measure(200)
    return [
        min(
            [measure(size, turn) for turn in (1, 2, 3)],
            key=lambda row: row["trace_s"] + row["compile_s"],
        )
        for size in sizes
    ]


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
