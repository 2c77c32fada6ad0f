"""Extensions: what kernels and functions in C cost beside what is built in."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Line

WITHIN = 1 / 1.1
"""A kernel may take 10 % longer than the same expression."""

CALL = 20e-9
"""Seconds that a call may take beyond the function."""

SOURCE = """
double step(double x) { return 0.5 * x + 1.0 / (1.0 + x * x); }
typedef double (*function)(double);
double loop(function f, double x, long n) {
    for (long i = 0; i < n; i++) x = f(x);
    return x;
}
"""

HALF = 0.5


def table(repeats: int, folder: Path, tiny: bool = False) -> list[Line]:
    """Kernels against the same expressions, and calls of a function in C against C's own.

    Args:
        repeats: turns of each, interleaved; the fastest count.
        folder: for a library in C.
        tiny: toy sizes.

    Returns:
        A line for each. That of calls compares what one takes beyond the function with `CALL`.
    """
    size = 1000 if tiny else 200_000
    return [*_kernels(size, repeats), _calls(1000 if tiny else 200_000, repeats, folder)]


def _kernels(size: int, repeats: int) -> list[Line]:
    import covector as cv
    import covector.numpy as cnp
    from covector import extend

    @extend.scalar_kernel
    def smooth(x: Any, y: Any) -> Any:
        return math.exp(-x * x) * HALF + y / (1 + x * x)

    def smooth_expression(x: Any, y: Any) -> Any:
        return cnp.exp(-x * x) * HALF + y / (1 + x * x)

    @extend.scalar_kernel
    def branch(x: Any, y: Any) -> Any:
        return math.sqrt(x) if x > y else x * y

    def branch_expression(x: Any, y: Any) -> Any:
        return cnp.where(x > y, cnp.sqrt(x), x * y)

    def around(fn: Callable[..., Any]) -> Callable[..., Any]:
        """In a loop over time, whose lanes run by themselves."""

        def run(x: Any, y: Any) -> Any:
            return cv.lax.fori_loop(0, 20, lambda _, v: fn(cnp.abs(v), y), x)

        return run

    x = np.random.default_rng(0).random((2, size), np.float32)
    few = x[:, : size // 20]
    pairs = {
        "kernel": (smooth, smooth_expression, x),
        "kernel with a branch": (branch, branch_expression, x),
        "gradient of a kernel": (_gradient(smooth), _gradient(smooth_expression), x),
        "kernel in a loop in lanes": (around(smooth), around(smooth_expression), few),
    }
    lines: list[Line] = []
    for name, (kernel, expression, values) in pairs.items():
        ours, theirs = cv.jit(kernel), cv.jit(expression)
        np.testing.assert_allclose(ours(*values), theirs(*values), rtol=1e-5)
        seconds = fastest([partial(f, *values) for f in (ours, theirs)], repeats)
        lines.append(Line(name, "expression", *seconds, promised=WITHIN))
    return lines


def _gradient(fn: Callable[..., Any]) -> Callable[..., Any]:
    import covector as cv

    return cv.grad(lambda x, y: fn(x, y).sum())


def _calls(count: int, repeats: int, folder: Path) -> Line:
    import covector as cv
    from covector import extend

    line = Line("call of a function in C", f"{1e9 * CALL:.0f} ns", promised=1.0)
    compiler = shutil.which("cc")
    if compiler is None:
        line.note = "no C compiler"
        return line
    source, library = folder / "step.c", folder / "libstep.so"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    step = extend.foreign("double step(double x)", (str(library), "step"), name="bench_step")
    native = ctypes.CDLL(str(library))
    native.loop.argtypes = [ctypes.c_void_p, ctypes.c_double, ctypes.c_long]
    native.loop.restype = ctypes.c_double
    address = ctypes.cast(native.step, ctypes.c_void_p)
    with cv.enable_x64(True):
        ours = cv.jit(lambda x: cv.lax.fori_loop(0, count, lambda _, v: step(v), x))
        assert math.isclose(float(ours(0.3)), native.loop(address, 0.3, count), rel_tol=1e-12)
        turns = [lambda: ours(0.3), lambda: native.loop(address, 0.3, count)]
        seconds = [total / count for total in fastest(turns, repeats)]
    line.ours, line.theirs = max(seconds[0] - seconds[1], 1e-10), CALL
    line.note = f"{1e9 * seconds[0]:.2f} ns a call, in a loop in C {1e9 * seconds[1]:.2f} ns"
    return line


def fastest(turns: list[Callable[[], Any]], repeats: int) -> list[float]:
    """Seconds of the fastest turn of each of several functions, taken in turns.

    Args:
        turns: what to time; each is called once before.
        repeats: how often, in rounds of ten calls.

    Returns:
        One figure for each.
    """
    best = [math.inf] * len(turns)
    for turn in turns:
        turn()
    for _ in range(10 * repeats):
        for k, turn in enumerate(turns):
            start = time.perf_counter()
            turn()
            best[k] = min(best[k], time.perf_counter() - start)
    return best
