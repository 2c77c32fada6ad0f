"""The native backend: whole programs as machine code, through loop IR and LLVM."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from covector import _native
from covector.backends.native import cache, loading, out_of_memory
from covector.backends.native.compiled import Compiled, place_of
from covector.backends.native.signature import Signature
from covector.compiler.costs import cost_of
from covector.core import ladder
from covector.core.array import Array
from covector.core.backend import Options
from covector.core.config import config
from covector.core.libraries import LibraryFunction, LibraryOptions
from covector.core.program import Program, count_equations, symbols_of
from covector.loopir.printer import print_function
from covector.ops.nested import nbytes

if TYPE_CHECKING:
    from covector.backends.native.compiling import Stages
    from covector.backends.native.general import Entry
    from covector.compiler.pipeline import Scheduled

# The compiler and LLVM are imported where something is compiled: a program from the disk cache
# runs without them.

OUT_OF_MEMORY = -3
"""What generated code returns when it gets no memory (CV_OUT_OF_MEMORY)."""

_LOOKED_AT = ("cpu", "disable", "passes", "x64", "debug_info")
"""Settings that the stages of compilation depend on, passes of users included."""

_STAGES = {ladder.LOOP_IR: "loopir", ladder.LLVM: "llvm", ladder.ASSEMBLY: "assembly"}


class NativeBackend:
    """Compiles programs with LLVM (implements `covector.core.backend.Backend`)."""

    name = "native"
    library_kinds = ("shared", "static", "object")

    def library(
        self, functions: Sequence[LibraryFunction], options: LibraryOptions
    ) -> Mapping[str, bytes]:
        """Writes a library of native code; see `covector.core.libraries.LibraryWriter`."""
        from covector.backends.native.library import write

        return write(functions, options)

    level = "loop IR"

    def compile(self, program: Program, options: Options) -> NativeExecutable:
        """Compiles a program, or finds it in the disk cache.

        Args:
            program: any valid program; symbolic sizes are those of arguments.
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
            executable = self._compile(program, options, key, seconds)
        else:
            executable = NativeExecutable(program, options, found, {"disk_cache": seconds}, "hit")
        for rung, stage in _STAGES.items():
            ladder.show(rung, stage, functools.partial(executable.as_text, stage))
        return executable

    def _compile(
        self, program: Program, options: Options, key: str | None, seconds: float
    ) -> NativeExecutable:
        from covector.backends.native.compiling import compiler

        made = compiler.compile(program, options, key)
        if cache.enabled():
            made.profile["disk_cache"] = made.profile.get("disk_cache", 0.0) + seconds
        executable = NativeExecutable(
            program,
            options,
            made.compiled,
            made.profile,
            made.disk_cache,
            made.loaded,
            made.callbacks,
        )
        executable.recognised, executable.entry = made.recognised, made.entry
        if made.stages is not None:
            executable.remember(made.stages)
        return executable

    def forget(self) -> None:
        """Forgets code for all sizes of a batch; executables that use it keep it."""
        module = sys.modules.get("covector.backends.native.compiling")
        if module is not None:
            module.compiler.forget()


def compilations() -> int:
    """How many programs LLVM has compiled in this process.

    Example:
        >>> import covector as cv, numpy as np
        >>> from covector.core.backend import clear_cache
        >>> clear_cache()
        >>> before = compilations()
        >>> double = cv.jit(lambda x: 2 * x)
        >>> for size in 16, 1000:
        ...     y = double(np.ones(size, np.float32))
        >>> compilations() - before
        1
    """
    from covector.backends.native.compiling import compiler

    return compiler.compilations


class NativeExecutable:
    """A compiled program.

    Attributes:
        profile: seconds spent in each stage of compilation.
        entry: what other sizes of a batch are recognised by.
        recognised: whether its code was there before, compiled for another size of a batch.
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
        self._settings = {name: getattr(config, name) for name in _LOOKED_AT}
        self._stages: Callable[[], Stages | None] = _none
        self.profile = profile
        self.recognised = False
        self.entry: Entry | None = None
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
        symbols = symbols_of(program)
        signature = Signature(symbols)
        inputs = [signature.input(a) for a in program.input_avals]
        results = [signature.result(a) for a in program.output_avals]
        self.native = _native.Executable(
            loaded.address,
            loaded,
            inputs,
            results,
            dims=[None] * len(symbols) if compiled.sizes is None else compiled.sizes,
            expressions=signature.expressions,
            workspace_bytes=compiled.workspace_bytes,
            constants=compiled.constants,
            callbacks=callbacks,
            donate=_donations(compiled, options),
            error_handler=self._fail,
            name=name,
            release_gil=compiled.release_gil,
        )

    def __call__(self, *args: Any) -> list[Array]:
        return self.native(*args)

    def remember(self, stages: Stages) -> None:
        """Keeps the stages of compilation at hand, as long as others do."""
        self._stages = weakref.ref(stages)

    def _inspected(self) -> Stages:
        """The stages of compilation, gone through again where they are no longer at hand."""
        stages = self._stages()
        if stages is None:
            with self._as_compiled():
                from covector.backends.native.compiling import stages_of

                stages = stages_of(self._program, self._options)
            self.remember(stages)
        return stages

    @contextlib.contextmanager
    def _as_compiled(self) -> Generator[None]:
        """The settings it was compiled under."""
        with contextlib.ExitStack() as overrides:
            for name, value in self._settings.items():
                overrides.enter_context(config.override(name, value))
            yield

    @property
    def workspace_bytes(self) -> int:
        """Memory for temporary arrays that it takes in a call."""
        return self._compiled.workspace_bytes

    @property
    def sizes(self) -> Sequence[int | None]:
        """What its code takes for the symbolic sizes of what was scheduled; `None` if unknown."""
        if self._compiled.sizes is None:
            return [None] * len(symbols_of(self._program))
        return self._compiled.sizes

    def scheduled(self) -> Scheduled:
        """The program as it was scheduled, before the loop IR is cut into functions for LLVM.

        Scheduling is done again: it takes milliseconds, and always comes to the same.
        """
        from covector.backends.native.compiling import scheduled_again

        quiet = {"debug": 0, "dump": ""}
        with self._as_compiled(), contextlib.ExitStack() as overrides:
            for name, value in quiet.items():
                overrides.enter_context(config.override(name, value))
            return scheduled_again(self._program, self._options)

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
        program = scheduled.program
        if self._compiled.sizes:
            from covector.compiler.sizes.generalise import with_numbers

            numbers = dict(zip(scheduled.symbols, self._compiled.sizes, strict=True))
            program = with_numbers(program, numbers)
        return {
            **cost_of(program),
            "equations": count_equations(program),
            "bytes_in": sum(nbytes(a) for a in self._program.input_avals),
            "bytes_out": sum(nbytes(a) for a in self._program.output_avals),
            "workspace_bytes": self._compiled.workspace_bytes,
            "buffers": len(scheduled.function.buffers),
            "seconds": dict(self.profile),
            "disk_cache": self.disk_cache,
        }


def _none() -> None:
    return None


def _donations(compiled: Compiled, options: Options) -> list[tuple[int, int, bool, str]]:
    """What the executable is told of donated arguments."""
    places = {d.argument: (d.result, d.holds) for d in compiled.donations}
    return [(k, *places.get(k, (-1, False)), text) for k, text in options.donated]
