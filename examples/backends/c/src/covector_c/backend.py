"""The backend: from a program to a shared library, and calls of it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from covector.extend.backends import (
    Capabilities,
    CompilationError,
    LibraryFunction,
    LibraryOptions,
    Lowered,
    Options,
    Program,
    Signature,
    lower,
)
from covector.extend.loopir import print_function
from covector_c import ahead
from covector_c.emit import OUT_OF_MEMORY, emit
from covector_c.library import CALLS

CAPABILITIES = Capabilities(calls=CALLS, callbacks=False)

_FLAGS = (
    *("-std=c99", "-march=native", "-fPIC", "-shared", "-fwrapv", "-fno-strict-aliasing"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
)
_LEVELS = ("-O0", "-O1", "-O3", "-O3")
"""What the compiler is told at each level of effort."""

_ALIGNMENT = 64


class CBackend:
    """Compiles programs with the system's C compiler: `CC`, or `cc`."""

    name = "c"
    level = "loop IR"
    capabilities = CAPABILITIES
    library_kinds = ahead.KINDS

    def compile(self, program: Program, options: Options) -> CExecutable:
        """Writes a program as C and compiles it.

        Args:
            program: any valid program.
            options: its `effort` is the compiler's optimisation level.

        Returns:
            What runs it.

        Raises:
            MissingCapabilityError: if it needs Python functions, or a library function that is not
                in `library.c`.
            CompilationError: if there is no compiler, or it refuses.
        """
        lowered = lower(program, backend=self.name, capabilities=CAPABILITIES)
        return CExecutable(program, lowered, options)

    def library(
        self, functions: Sequence[LibraryFunction], options: LibraryOptions
    ) -> Mapping[str, bytes]:
        """Writes a library for use without Python: a C file and a header.

        Args:
            functions: of the library.
            options: its kind is "source", or "shared" for what the compiler makes of the file.

        Returns:
            The files.

        Raises:
            MissingCapabilityError: as `compile`; for other machines, and for BLAS.
            CompilationError: if there is no compiler, or it refuses.
        """
        ahead.check(options)
        swapped = ahead.machine_flags(options)
        flags = [swapped.get(flag, flag) for flag in (*_FLAGS, _LEVELS[options.effort])]
        flags = [flag for flag in flags if flag]
        lowered = [
            (f, lower(f.program, backend=self.name, capabilities=CAPABILITIES)) for f in functions
        ]
        text = ahead.source(lowered, options, " ".join(flags))
        files = {f"{options.name}.h": ahead.header(functions, options)}
        if options.kind == "source":
            return {**files, f"{options.name}.c": text.encode()}
        return {**files, f"lib{options.name}.so": compiled(text, flags).read_bytes()}


class CExecutable:
    """A program compiled from C.

    Args:
        program: as it was traced.
        lowered: the same as loop IR.
        options: of the compilation.

    Attributes:
        source: the C file.
    """

    def __init__(self, program: Program, lowered: Lowered, options: Options) -> None:
        self._program = program
        self._lowered = lowered
        self._signature = Signature(program)
        self._flags = (*_FLAGS, _LEVELS[options.effort])
        self.symbol = re.sub(r"\W", "_", f"covector_{options.name or program.name or 'program'}")
        self.source = emit(lowered, self.symbol, " ".join(self._flags))
        self._library = ctypes.CDLL(str(compiled(self.source, self._flags)))
        self._entry = self._library[self.symbol]
        self._entry.restype = ctypes.c_int32
        self._constants = _addresses(lowered.constants)

    def __call__(self, *args: Any) -> Sequence[Any]:
        call = self._signature.bind(args)
        results = self._signature.new_results(call.sizes)
        sizes = (ctypes.c_int64 * max(1, len(call.sizes)))(
            *[call.sizes[name] for name in self._lowered.sizes]
        )
        workspace = np.empty(self._lowered.workspace_bytes + _ALIGNMENT, np.uint8)
        start = -workspace.ctypes.data % _ALIGNMENT
        status = self._entry(
            sizes,
            _addresses(call.arguments),
            _addresses(results),
            self._constants,
            ctypes.c_void_p(workspace.ctypes.data + start),
        )
        if status == OUT_OF_MEMORY:
            raise MemoryError(f"{self.symbol}: not enough memory for temporary arrays")
        if status:
            raise self._lowered.sites[status - 1].error()
        return self._signature.wrap(results)

    def as_text(self, stage: str = "") -> str:
        """The code at one stage.

        Args:
            stage: "c" (the default), "program", "optimized" (after the passes), "loopir" or
                "assembly".

        Raises:
            ValueError: for another stage.
        """
        if stage in ("", "c"):
            return self.source
        if stage == "program":
            return self._program.as_text()
        if stage == "optimized":
            return self._lowered.program.as_text()
        if stage == "loopir":
            return print_function(self._lowered.function)
        if stage == "assembly":
            return self._assembly
        raise ValueError(
            f"the C backend has no stage {stage!r}: choose c, program, optimized, loopir, assembly"
        )

    @cached_property
    def _assembly(self) -> str:
        flags = [flag for flag in self._flags if flag != "-shared"]
        return compiled(self.source, (*flags, "-S")).read_text()

    def cost(self) -> dict[str, Any]:
        """Sizes: lines of C, and bytes of temporary arrays and constants."""
        return {
            "lines": self.source.count("\n"),
            "workspace_bytes": self._lowered.workspace_bytes,
            "constant_bytes": sum(c.nbytes for c in self._lowered.constants),
        }


def _addresses(arrays: Sequence[np.ndarray[Any, Any]]) -> Any:
    return (ctypes.c_void_p * max(1, len(arrays)))(*[a.ctypes.data for a in arrays])


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Where this process keeps its libraries; it goes when the process ends."""
    return tempfile.TemporaryDirectory(prefix="covector-c-")


_lock = threading.Lock()


def compiled(source: str, flags: Sequence[str]) -> Path:
    """Runs the C compiler, once for each file and flags.

    Args:
        source: the file.
        flags: what to tell it.

    Returns:
        What it made.

    Raises:
        CompilationError: if there is no compiler, or it reports an error.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    key = hashlib.sha256(repr((source, flags, compiler)).encode()).hexdigest()[:24]
    with _lock:
        target = Path(_folder().name) / f"{key}.so"
        if target.exists():
            return target
        file, made = target.with_suffix(".c"), target.with_suffix(".part")
        file.write_text(source)
        command = [*compiler, *flags, str(file), "-o", str(made), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise CompilationError(
                f"there is no C compiler called {compiler[0]!r}\n"
                "  fix: install one, as gcc or clang, or name yours in the environment variable CC"
            ) from None
        except subprocess.CalledProcessError as error:
            raise CompilationError(
                f"the C compiler failed: {shlex.join(command)}\n{error.stderr}"
            ) from None
        made.rename(target)
    return target
