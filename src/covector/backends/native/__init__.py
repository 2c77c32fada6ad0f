"""The native backend: whole programs as machine code, through loop IR and LLVM."""

from __future__ import annotations

import functools
import time
from typing import Any, NoReturn

import numpy as np

from covector import _native
from covector.backends.native import engine, libraries
from covector.compiler.costs import cost_of
from covector.compiler.pipeline import Scheduled, collection_paused, schedule
from covector.core import dtypes, ladder
from covector.core.array import Array, KeyArray
from covector.core.avals import Aval
from covector.core.backend import Options
from covector.core.program import Program, count_equations
from covector.loopir.ir import Block, For, Function, Parallel, Value, While, children
from covector.loopir.printer import print_function

OUT_OF_MEMORY = -3
"""What generated code returns when it gets no memory (CV_OUT_OF_MEMORY)."""

_STAGES = {ladder.LOOP_IR: "loopir", ladder.LLVM: "llvm", ladder.ASSEMBLY: "assembly"}

LONG = 10_000
"""Iterations of a loop from which on a call lets other Python threads run."""


class NativeBackend:
    """Compiles programs with LLVM (implements `covector.core.backend.Backend`)."""

    name = "native"

    def compile(self, program: Program, options: Options) -> NativeExecutable:
        """Compiles a program.

        Args:
            program: any valid program without symbolic sizes.
            options: what to trade.

        Returns:
            What runs it.

        Raises:
            CompilationError: for a primitive that cannot be lowered.
        """
        with collection_paused():
            scheduled = schedule(program)
            start = time.perf_counter()
            code = engine.compile_function(scheduled.function, effort=options.effort)
            libraries.ensure_loaded(code.externals)
            scheduled.profile["llvm"] = time.perf_counter() - start
            executable = NativeExecutable(program, scheduled, code, options)
        for rung, stage in _STAGES.items():
            ladder.show(rung, stage, functools.partial(executable.as_text, stage))
        return executable


class NativeExecutable:
    """A compiled program.

    Attributes:
        profile: seconds spent in each stage of compilation.
    """

    def __init__(self, program: Program, scheduled: Scheduled, code: Any, options: Options) -> None:
        self._program = program
        self._scheduled = scheduled
        self._code = code
        self.profile = scheduled.profile
        self.native = _native.Executable(
            code.address,
            code,
            [_input_spec(a) for a in program.input_avals],
            [_output_spec(a) for a in program.output_avals],
            workspace_bytes=scheduled.function.workspace_bytes,
            constants=scheduled.constants,
            callbacks=scheduled.callbacks,
            error_handler=self._fail,
            name=options.name or program.name or "program",
            release_gil=_is_long(scheduled.function),
        )

    def __call__(self, *args: Any) -> list[Array]:
        return self.native(*args)

    def _fail(self, code: int, site: int) -> NoReturn:
        if code == OUT_OF_MEMORY:
            raise MemoryError(f"{self.native.name}: not enough memory for a temporary array")
        message, equation = self._scheduled.sites[site]
        place = "" if equation is None else equation.place
        raise RuntimeError(f"{message}\n  at: {place}" if place else message)

    def as_text(self, stage: str = "") -> str:
        """The code at one stage.

        Args:
            stage: "program", "optimized" (after the passes), "loopir", "llvm" or "assembly".

        Returns:
            The text; that of the loop IR by default.

        Raises:
            ValueError: for another stage.
        """
        if stage == "program":
            return self._program.as_text()
        if stage == "optimized":
            return self._scheduled.program.as_text()
        if stage in ("", "loopir"):
            return print_function(self._scheduled.function)
        if stage == "llvm":
            return self._code.llvm_text
        if stage == "assembly":
            return self._code.assembly()
        raise ValueError(f"no stage {stage!r}: choose program, optimized, loopir, llvm or assembly")

    def cost(self) -> dict[str, Any]:
        """Figures of the program and what it compiled to."""
        function = self._scheduled.function
        return {
            **cost_of(self._scheduled.program),
            "equations": count_equations(self._scheduled.program),
            "bytes_in": sum(_nbytes(a) for a in self._program.input_avals),
            "bytes_out": sum(_nbytes(a) for a in self._program.output_avals),
            "workspace_bytes": function.workspace_bytes,
            "buffers": len(function.buffers),
            "seconds": dict(self.profile),
        }


def _is_long(function: Function) -> bool:
    """Whether a call takes so long that releasing the interpreter lock is worth it."""
    return _iterations(function.body) >= LONG


def _iterations(block: Block) -> int:
    total = 0
    for item in block.items:
        if type(item) is Value:
            continue
        if isinstance(item, Parallel):
            return LONG
        inner = 1 + sum([_iterations(child) for child in children(item)])
        if isinstance(item, For):
            inner *= LONG if item.trips is None else max(item.trips, 1)
        elif isinstance(item, While):
            inner *= LONG
        total += inner
    return total


def _input_spec(aval: Aval) -> tuple[Any, ...]:
    if type(aval.dtype) is dtypes.KeyDType:
        return ((*aval.shape, aval.dtype.words), np.dtype(np.uint32))
    return (aval.shape, aval.dtype)


def _output_spec(aval: Aval) -> tuple[Any, ...]:
    if type(aval.dtype) is dtypes.KeyDType:

        def wrap(data: np.ndarray[Any, Any]) -> Array:
            return KeyArray.of(data, aval)

        return ((*aval.shape, aval.dtype.words), np.dtype(np.uint32), False, wrap)
    return (aval.shape, aval.dtype, aval.weak_type)


def _nbytes(aval: Aval) -> int:
    shape, dtype = _input_spec(aval)[:2]
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
