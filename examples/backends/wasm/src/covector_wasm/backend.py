"""The backend: from a program to a module of WebAssembly, and calls of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from covector.extend.backends import (
    OUT_OF_MEMORY,
    Capabilities,
    LibraryFunction,
    LibraryOptions,
    Lowered,
    Options,
    Program,
    Signature,
    lower,
)
from covector.extend.loopir import print_function
from covector_wasm.emit import Unit
from covector_wasm.exporting import KINDS, library
from covector_wasm.instance import Instance
from covector_wasm.library import CALLS

CAPABILITIES = Capabilities(calls=CALLS, callbacks=False)


class WasmBackend:
    """Compiles programs to WebAssembly, and runs them with Wasmtime.

    Args:
        vectors: whether loops run in vectors of 128 bits where they can. For machines without these
            and for comparisons there is
            `register_backend("plain-wasm", lambda: WasmBackend(vectors=False))`.
    """

    name = "wasm"
    capabilities = CAPABILITIES
    library_kinds = KINDS

    def __init__(self, vectors: bool = True) -> None:
        self._vectors = vectors

    def compile(self, program: Program, options: Options) -> WasmExecutable:
        """Writes a program as a module, which Wasmtime validates and compiles.

        Args:
            program: any valid program.
            options: its `effort` is that of Wasmtime's compiler.

        Returns:
            What runs it.

        Raises:
            MissingCapabilityError: if it needs Python functions, or a library function that the
                backend does not have.
            CompilationError: if the module is refused.
        """
        lowered = lower(program, backend=self.name, capabilities=CAPABILITIES)
        return WasmExecutable(program, lowered, options, self._vectors)

    def library(
        self, functions: Sequence[LibraryFunction], options: LibraryOptions
    ) -> Mapping[str, bytes]:
        """Writes functions as one module for use without Python; see `exporting.library`."""
        return library(functions, options, CAPABILITIES, self._vectors)


class WasmExecutable:
    """A program compiled to WebAssembly.

    Args:
        program: as it was traced.
        lowered: the same as loop IR.
        options: of the compilation.
        vectors: whether loops run in vectors.

    Attributes:
        symbol: the name of its function.
        binary: the module.
    """

    def __init__(
        self, program: Program, lowered: Lowered, options: Options, vectors: bool = True
    ) -> None:
        self._program = program
        self._lowered = lowered
        self._signature = Signature(program)
        self.symbol = re.sub(r"\W", "_", f"covector_{options.name or program.name or 'program'}")
        self._unit = Unit(vectors)
        self._unit.entry(lowered, self.symbol)
        self.binary = self._unit.module.binary()
        self._instance = Instance(self.binary, options.effort)

    def __call__(self, *args: Any) -> Sequence[Any]:
        call = self._signature.bind(args)
        results = self._signature.new_results(call.sizes)
        sizes = [call.sizes[name] for name in self._lowered.sizes]
        status = self._instance.call(self.symbol, sizes, call.arguments, results)
        if status == OUT_OF_MEMORY:
            raise MemoryError(f"{self.symbol}: not enough memory for temporary arrays")
        if status:
            raise self._lowered.sites[status - 1].error()
        return self._signature.wrap(results)

    def as_text(self, stage: str = "") -> str:
        """The code at one stage.

        Args:
            stage: "wat" (the default, WebAssembly's text format), "program", "optimized" (after the
                passes) or "loopir".

        Raises:
            ValueError: for another stage.
        """
        if stage in ("", "wat"):
            return self._text
        if stage == "program":
            return self._program.as_text()
        if stage == "optimized":
            return self._lowered.program.as_text()
        if stage == "loopir":
            return print_function(self._lowered.function)
        raise ValueError(
            f"the wasm backend has no stage {stage!r}: choose wat, program, optimized, loopir"
        )

    @cached_property
    def _text(self) -> str:
        return self._unit.module.text()

    def cost(self) -> dict[str, Any]:
        """Sizes in bytes: of the module, of temporary arrays and of constants."""
        return {
            "module_bytes": len(self.binary),
            "workspace_bytes": self._lowered.workspace_bytes,
            "constant_bytes": sum(c.nbytes for c in self._lowered.constants),
        }
