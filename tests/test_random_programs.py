"""Random functions, transformed at random: every way of running them gives the same results.

Of 200 functions, each is run natively and a third each by JAX and eagerly. For more of them, each
in every way: `COVECTOR_RANDOM_PROGRAMS=2000 pytest tests/test_random_programs.py -n 2`.
"""

from __future__ import annotations

import os
import statistics
import warnings
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import covector as cv
import covector.numpy as cnp
from covector.compiler import nests, parallel
from covector.compiler.passes.lanes import Lanes
from covector.compiler.pipeline import run_passes
from covector.core import backend
from covector.core.config import checked, num_threads
from covector.core.interpret import run
from covector.core.parsing import parse
from covector.core.program import Program, count_equations
from covector.core.verify import verify
from covector.testing.functions import Function, generate, namespace
from covector.testing.functions.comparison import Expected, expect

OURS, THEIRS = namespace(cv), namespace(jax)
COUNT = int(os.environ.get("COVECTOR_RANDOM_PROGRAMS", "200"))
GROUP = 50
GROUPS = range(0, COUNT, GROUP)
THOROUGH = COUNT > 200
"""On demand, every program is run in every way; otherwise some ways take turns."""

EVERYTHING = "text native donated threads eager jax lanes"

# JAX has these limits, and says so; Covector has not.
BEYOND_JAX = ("Reverse-mode differentiation does not work for lax.while_loop",)


class Mismatch(AssertionError):
    """One way of running a function gives something else."""


def trace(function: Function) -> Program:
    return cv.make_program(lambda *args: function(OURS, *args))(*function.arguments())


def reference_of(function: Function, program: Program) -> Expected:
    """What the function must return, from the interpreter."""
    run = backend.executable(program, backend="reference")
    precision = "float32" if "float32" in function.dtypes else "float64"
    expected = expect(
        run,
        function.arguments(),
        exact=function.style.exact,
        precision=precision,
        seed=function.seed,
    )
    for result in expected.results:
        assert np.isfinite(result).all(), "functions are made such that results are finite"
    return expected


def demand(what: str, expected: Expected, results: Any) -> None:
    problem = expected.mismatch(results)
    if problem:
        raise Mismatch(f"{what}: {problem}")


def check_text(program: Program) -> None:
    text = program.as_text()
    again = parse(text)
    verify(again)
    if again.as_text() != text:
        raise Mismatch("the text of the program does not parse to the same program")


def check_native(function: Function, expected: Expected) -> None:
    args = function.arguments()
    compiled = cv.jit(lambda *values: function(OURS, *values), effort=function.seed % 3)
    with checked():
        first = compiled(*args)
        demand("native", expected, first)
        for a, b in zip(first, compiled(*args), strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b), "the second call differs")


def check_donated(function: Function, expected: Expected) -> None:
    """With results in the memory of arguments, and with arguments whose memory is not given up."""

    def run(*values: Any) -> Any:
        return function(OURS, *values)

    args = function.arguments()
    wanted = cv.jit(run)(*args)
    donating = cv.jit(run, donate_argnums=range(len(args)))
    own = cv.jit(lambda *values: values)(*args)
    with checked(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some donated buffers were not usable")
        for given in (own, args):
            found = donating(*given)
            demand("donated", expected, found)
            for a, b in zip(wanted, found, strict=True):
                np.testing.assert_array_equal(np.asarray(a), np.asarray(b), "donation differs")


def check_threads(function: Function, expected: Expected) -> None:
    """With every loop that can be parallel run so, however small it is."""
    program = trace(function)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"WORTHWHILE": 0.0, "PIECE": 1.0, "MANY": 4, "BLOCKS": (4, 16)}.items():
            patch.setattr(parallel, name, value)
        patch.setattr(parallel, "LONG_REDUCTION", 16)
        patch.setattr(nests, "REDUCTION_BLOCK", 8)
        executable = backend.get_backend("native").compile(program, backend.Options())
    results: list[Any] = []
    for count in (1, 3):
        with num_threads(count):
            results.append(executable(*map(np.asarray, function.arguments())))
    demand("threads", expected, results[1])
    for a, b in zip(*results, strict=True):
        if np.asarray(a).tobytes() != np.asarray(b).tobytes():
            raise Mismatch("one thread and three give different bits")


def check_eager(function: Function, expected: Expected) -> None:
    demand("eager", expected, function(OURS, *map(cnp.asarray, function.arguments())))


def check_jax(function: Function, expected: Expected) -> bool:
    """Whether JAX can run the function; if so, it must agree."""
    run = jax.jit(lambda *args: function(THEIRS, *args))
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    try:
        results = run.lower(*function.arguments()).compile(options)(*function.arguments())
    except ValueError as error:
        if not any([limit in str(error) for limit in BEYOND_JAX]):
            raise
        return False
    if expected.mismatch(results):
        # XLA may be the one that is wrong: it fuses a gather with a dynamic_slice whose start was
        # moved inside as if it had not been. Operation by operation, it is right.
        with jax.disable_jit():
            results = function(THEIRS, *map(jax.numpy.asarray, function.arguments()))
    demand("JAX", expected, results)
    return True


def check_lanes(function: Function) -> None:
    """In a batch, what the lanes pass makes of the function must compute the same."""
    lanes = 5

    def spread(x: np.ndarray) -> np.ndarray:
        batch = np.stack([x] * lanes)
        if batch.dtype.kind != "f":
            return batch
        factors = 1 + 0.01 * np.arange(lanes).reshape(lanes, *[1] * x.ndim)
        return (batch * factors).astype(batch.dtype)

    args = [spread(np.asarray(x)) for x in function.arguments()]
    batched = cv.vmap(lambda *values: function(OURS, *values))
    program = run_passes(cv.make_program(batched)(*args))
    separated, decisions = Lanes(2, 2).decide(program)
    if not any([d.lanes for d in decisions]):
        return
    verify(separated)
    for found, wanted in zip(run(separated, *args), run(program, *args), strict=True):
        # Partial sums are rounded otherwise.
        near = 1e-6 if wanted.dtype.itemsize >= 8 else 2e-3
        if not np.allclose(found, wanted, rtol=near, atol=near, equal_nan=True):
            raise Mismatch(f"lanes: {[str(d) for d in decisions]}")


def check(function: Function, ways: str = EVERYTHING) -> bool:
    """Checks one function in some ways; returns whether its decisions are stable."""
    with cv.enable_x64(function.style.wide), jax.enable_x64(function.style.wide):
        program = trace(function)
        verify(program)
        expected = reference_of(function, program)
        if "text" in ways:
            check_text(program)
        if "native" in ways:
            check_native(function, expected)
        if "donated" in ways:
            check_donated(function, expected)
        if "threads" in ways:
            check_threads(function, expected)
        if "eager" in ways:
            check_eager(function, expected)
        if "jax" in ways:
            check_jax(function, expected)
        if "lanes" in ways and expected.decided:
            check_lanes(function)
    return expected.decided


def report(seed: int, ways: str, error: Exception) -> str:
    """The smallest function of a seed that fails, and how."""
    smallest, found = generate(seed), error
    for depth, size in [(d, s) for d in range(5) for s in range(1, smallest.size)]:
        try:
            check(generate(seed, size, depth), ways)
        except Exception as problem:
            if type(problem) is type(error):
                smallest, found = generate(seed, size, depth), problem
                break
    call = f"check(generate({seed}, {smallest.size}, {len(smallest.layers)}), {ways!r})"
    return f"{call}\n{smallest}\n{type(found).__name__}: {found}"


def ways_of(seed: int) -> str:
    some = ("jax", "eager", "lanes", "threads", "donated")[seed % 5]
    return EVERYTHING if THOROUGH else f"text native {some}"


@pytest.mark.parametrize("first", GROUPS)
def test_all_ways_of_running_agree(first: int) -> None:
    problems: list[str] = []
    undecided = 0
    for seed in range(first, min(first + GROUP, COUNT)):
        try:
            undecided += not check(generate(seed), ways_of(seed))
        except Exception as error:
            problems.append(report(seed, ways_of(seed), error))
    # Thousands of compiled programs would take gigabytes.
    backend.clear_cache()
    jax.clear_caches()
    assert not problems, "\n\n".join(problems)
    assert undecided < 0.1 * GROUP, "too many functions decide by the last bit of their inputs"


def traced_size(function: Function) -> int:
    with cv.enable_x64(function.style.wide):
        return count_equations(trace(function))


def test_the_programs_are_large_and_varied(capsys: pytest.CaptureFixture[str]) -> None:
    functions = [generate(seed) for seed in range(COUNT)]
    equations = [traced_size(function) for function in functions]
    loops = sum([function.has_loop for function in functions]) / COUNT
    deep = sum([len(function.layers) >= 2 for function in functions]) / COUNT
    exact = sum([function.style.exact for function in functions]) / COUNT
    with capsys.disabled():
        print(
            f"\n{COUNT} random programs: {loops:.0%} with loops, {deep:.0%} with two or more "
            f"transformations, {exact:.0%} exact; equations: median "
            f"{statistics.median(equations):.0f}, from {min(equations)} to {max(equations)}"
        )
    assert loops >= 0.3
    assert deep >= 0.3
    assert statistics.median(equations) >= 15


@settings(max_examples=5)
@given(
    function=st.builds(
        generate, seed=st.integers(10_000, 2**32), size=st.integers(1, 6), depth=st.integers(0, 2)
    )
)
def test_functions_by_hypothesis(function: Function) -> None:
    check(function, "text native")
