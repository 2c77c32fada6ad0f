"""The native backend: whole programs as machine code, through loop IR and LLVM."""

from __future__ import annotations

import contextlib
import functools
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from covector import _native
from covector.backends.native import cache, loading, out_of_memory
from covector.backends.native.compiled import Compiled, place_of, sites_of
from covector.compiler.costs import cost_of
from covector.core import dtypes, ladder
from covector.core.array import Array, KeyArray
from covector.core.avals import Aval
from covector.core.backend import Options
from covector.core.collection import collection_paused
from covector.core.config import config
from covector.core.program import Program, count_equations
from covector.loopir.ir import Block, For, Function, Parallel, Segment, Value, While, children
from covector.loopir.printer import print_function

# The compiler and LLVM are imported where something is compiled: a program from the disk cache
# runs without them.

OUT_OF_MEMORY = -3
"""What generated code returns when it gets no memory (CV_OUT_OF_MEMORY)."""

_STAGES = {ladder.LOOP_IR: "loopir", ladder.LLVM: "llvm", ladder.ASSEMBLY: "assembly"}

LONG = 10_000
"""Iterations of a loop from which on a call lets other Python threads run."""


class NativeBackend:
    """Compiles programs with LLVM (implements `covector.core.backend.Backend`)."""

    name = "native"

    def compile(self, program: Program, options: Options) -> NativeExecutable:
        """Compiles a program, or finds it in the disk cache.

        Args:
            program: any valid program without symbolic sizes.
            options: what to trade.

        Returns:
            What runs it.

        Raises:
            CompilationError: for a primitive that cannot be lowered.
        """
        start = time.perf_counter()
        key = cache.program_key(program, options)
        found = None if key is None else cache.load_program(key, program)
        seconds = time.perf_counter() - start
        if found is None:
            executable = _compile(program, options, key, seconds)
        else:
            executable = NativeExecutable(program, options, found, {"disk_cache": seconds}, "hit")
        for rung, stage in _STAGES.items():
            ladder.show(rung, stage, functools.partial(executable.as_text, stage))
        return executable


class _Stages:
    """Stages of compilation that people may look at."""

    def __init__(self, program: Program, options: Options, by_text: bool) -> None:
        from covector.backends.native import engine
        from covector.compiler.pipeline import schedule

        with collection_paused():
            self.scheduled = schedule(program)
            start = time.perf_counter()
            self.code = engine.compile_function(
                self.scheduled.function, options.effort, by_text=by_text
            )
            self.scheduled.profile["llvm"] = time.perf_counter() - start
        _recent.append(self)


_recent: deque[_Stages] = deque(maxlen=8)
"""Stages are many times larger than code: those of the latest compilations are kept."""


def _compile(
    program: Program, options: Options, key: str | None, seconds: float
) -> NativeExecutable:
    stages = _Stages(program, options, by_text=key is None)
    scheduled, code, profile = stages.scheduled, stages.code, stages.scheduled.profile
    compiled = Compiled(
        code.machine,
        scheduled.function.workspace_bytes,
        _is_long(scheduled.function),
        scheduled.constants,
        sites_of(program, scheduled.sites),
    )
    start = time.perf_counter()
    if key is not None and not scheduled.callbacks:
        cache.store_program(key, compiled, program)
    if cache.enabled():
        profile["disk_cache"] = seconds + time.perf_counter() - start
    status = "partial" if code.was_kept else "miss" if cache.enabled() else "off"
    executable = NativeExecutable(
        program, options, compiled, profile, status, code.loaded, scheduled.callbacks
    )
    executable.remember(stages)
    return executable


class NativeExecutable:
    """A compiled program.

    Attributes:
        profile: seconds spent in each stage of compilation.
        disk_cache: "hit", "miss", "partial" (only the machine code was found), or "off".
        nbytes: of memory for code and constants.
    """

    def __init__(
        self,
        program: Program,
        options: Options,
        compiled: Compiled,
        profile: dict[str, float],
        disk_cache: str,
        loaded: loading.Loaded | None = None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self._program = program
        self._options = options
        self._compiled = compiled
        self._settings = {name: getattr(config, name) for name in ("cpu", "disable")}
        self._stages: Callable[[], _Stages | None] = _none
        self.profile = profile
        self.disk_cache = disk_cache
        machine = compiled.machine
        code = machine.object_code if machine.linked is None else machine.linked.code
        self.nbytes = len(code) + sum([c.nbytes for c in compiled.constants])
        if loaded is None:
            start = time.perf_counter()
            loaded = loading.load(compiled.machine, config.cpu)
            profile["load"] = time.perf_counter() - start
        name = options.name or program.name or "program"
        loading.tell_perf(loaded, name)
        self.native = _native.Executable(
            loaded.address,
            loaded,
            [_input_spec(a) for a in program.input_avals],
            [_output_spec(a) for a in program.output_avals],
            workspace_bytes=compiled.workspace_bytes,
            constants=compiled.constants,
            callbacks=callbacks,
            error_handler=self._fail,
            name=name,
            release_gil=compiled.release_gil,
        )

    def __call__(self, *args: Any) -> list[Array]:
        return self.native(*args)

    def remember(self, stages: _Stages) -> None:
        """Keeps the stages of compilation at hand, as long as others do."""
        self._stages = weakref.ref(stages)

    def _inspected(self) -> _Stages:
        """The stages of compilation, gone through again where they are no longer at hand."""
        stages = self._stages()
        if stages is None:
            with contextlib.ExitStack() as overrides:
                for name, value in self._settings.items():
                    overrides.enter_context(config.override(name, value))
                stages = _Stages(self._program, self._options, by_text=False)
            self.remember(stages)
        return stages

    def _fail(self, code: int, site: int, nbytes: int) -> NoReturn:
        name, program = self.native.name, self._program
        if code == OUT_OF_MEMORY:
            if (text := out_of_memory.describe(name, site, nbytes, program)) is None:
                function = self._inspected().scheduled.function
                text = out_of_memory.describe_temporary(name, site, nbytes, function)
            raise MemoryError(text)
        found = self._compiled.sites[site]
        place = place_of(program, found)
        raise RuntimeError(f"{found.message}\n  at: {place}" if place else found.message)

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
            return self._inspected().scheduled.program.as_text()
        if stage in ("", "loopir"):
            return print_function(self._inspected().scheduled.function)
        if stage == "llvm":
            return self._inspected().code.llvm_text
        if stage == "assembly":
            return self._inspected().code.assembly()
        raise ValueError(f"no stage {stage!r}: choose program, optimized, loopir, llvm or assembly")

    def cost(self) -> dict[str, Any]:
        """Figures of the program and what it compiled to."""
        scheduled = self._inspected().scheduled
        return {
            **cost_of(scheduled.program),
            "equations": count_equations(scheduled.program),
            "bytes_in": sum(_nbytes(a) for a in self._program.input_avals),
            "bytes_out": sum(_nbytes(a) for a in self._program.output_avals),
            "workspace_bytes": self._compiled.workspace_bytes,
            "buffers": len(scheduled.function.buffers),
            "seconds": dict(self.profile),
            "disk_cache": self.disk_cache,
        }


def _none() -> None:
    return None


def _is_long(function: Function) -> bool:
    """Whether a call takes so long that releasing the interpreter lock is worth it."""
    return _iterations(function.body) >= LONG


def _iterations(block: Block) -> int:
    total = 0
    for item in block.items:
        if type(item) is Value:
            continue
        if isinstance(item, Segment):
            total += _iterations(item.function.body)
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
