"""Compile time as programs grow: seconds, and Python time for each equation."""

from __future__ import annotations

import time
from typing import Any


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
