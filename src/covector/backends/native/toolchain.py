"""LLVM's passes and code generator.

llvmlite lets one thread at a time into LLVM, which itself needs that only for what threads share.
Here they share nothing, so what takes long may be called by another way, past llvmlite's lock.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, Protocol

from covector.core.errors import CompilationError

KNOWN = range(20, 23)
"""Major versions of LLVM whose options and functions are known here."""


class Calls(Protocol):
    """What takes long."""

    def parse(self, text: str, context: Any) -> Any:
        """Reads a module; a `RuntimeError` says what is wrong with it."""
        ...

    def run(self, passes: Any, module: Any, builder: Any) -> None:
        """Runs passes."""
        ...

    def emit(self, machine: Any, module: Any) -> bytes:
        """Generates an object file."""
        ...


class LlvmliteCalls:
    """As llvmlite does it, one thread at a time.

    Args:
        llvm: `llvmlite.binding`.
    """

    def __init__(self, llvm: Any) -> None:
        self._llvm = llvm

    def parse(self, text: str, context: Any) -> Any:
        """See `Calls`."""
        return self._llvm.parse_assembly(text, context)

    def run(self, passes: Any, module: Any, builder: Any) -> None:
        """See `Calls`."""
        passes.run(module, builder)

    def emit(self, machine: Any, module: Any) -> bytes:
        """See `Calls`."""
        return machine.emit_object(module)


class DirectCalls:
    """The same functions, which any number of threads may be in.

    Args:
        llvm: `llvmlite.binding`.

    Raises:
        AttributeError: if llvmlite does not have them.
    """

    def __init__(self, llvm: Any) -> None:
        self._module: Any = llvm.ModuleRef
        self._locked: Any = llvm.ffi.lib
        self._string: Any = llvm.ffi.OutputString
        library = ctypes.CDLL(self._locked._name)
        self._parse = self._function(library, "LLVMPY_ParseAssembly")
        self._run = self._function(library, "LLVMPY_RunNewModulePassManager")
        self._emit = self._function(library, "LLVMPY_TargetMachineEmitToMemory")

    def _function(self, library: ctypes.CDLL, name: str) -> Any:
        function, known = getattr(library, name), getattr(self._locked, name)
        if known.argtypes is None:
            raise AttributeError(name)
        function.argtypes, function.restype = known.argtypes, known.restype
        return function

    def parse(self, text: str, context: Any) -> Any:
        """See `Calls`."""
        with self._string() as message:
            pointer = self._parse(context, text.encode(), message)
            if not pointer:
                raise RuntimeError(f"LLVM IR parsing error\n{message}")
        return self._module(pointer, context)

    def run(self, passes: Any, module: Any, builder: Any) -> None:
        """See `Calls`."""
        self._run(passes, module, builder)

    def emit(self, machine: Any, module: Any) -> bytes:
        """See `Calls`."""
        with self._string() as message:
            buffer = self._emit(machine, module, 1, message)
            if not buffer:
                raise RuntimeError(str(message))
        try:
            start = self._locked.LLVMPY_GetBufferStart(buffer)
            return ctypes.string_at(start, self._locked.LLVMPY_GetBufferSize(buffer))
        finally:
            self._locked.LLVMPY_DisposeMemoryBuffer(buffer)


@functools.cache
def direct_calls() -> DirectCalls | None:
    """The way past llvmlite's lock, `None` where it is not known to be one."""
    import llvmlite.binding

    llvm: Any = llvmlite.binding
    if llvm.llvm_version_info[0] not in KNOWN:
        return None
    try:
        return DirectCalls(llvm)
    except (AttributeError, OSError):
        return None


class Toolchain:
    """What a thread needs to compile modules, one after the other.

    Args:
        machine: what the code is for.
        effort: 0 compiles fastest, 3 runs fastest.
    """

    def __init__(self, machine: Any, effort: int) -> None:
        import llvmlite.binding

        llvm: Any = llvmlite.binding
        options = llvm.create_pipeline_tuning_options(speed_level=min(effort, 2))
        options.loop_vectorization = False
        options.slp_vectorization = effort >= 3
        self._llvm = llvm
        self._effort = effort
        self._machine = machine
        self._builder = llvm.create_pass_builder(machine, options)

    def object_code(self, text: str, calls: Calls) -> bytes:
        """Compiles a module.

        Args:
            text: the module.
            calls: a way into LLVM.

        Returns:
            A relocatable object file.
        """
        return calls.emit(self._machine, self._optimized(text, calls))

    def object_code_of(self, module: Any) -> bytes:
        """Compiles a module that was parsed; changes it.

        Args:
            module: of LLVM.

        Returns:
            A relocatable object file.
        """
        calls = LlvmliteCalls(self._llvm)
        self._run_passes(module, calls)
        return calls.emit(self._machine, module)

    def assembly_of(self, module: Any) -> str:
        """Like `object_code_of`, as assembly text."""
        self._run_passes(module, LlvmliteCalls(self._llvm))
        return self._machine.emit_assembly(module)

    def assembly(self, text: str) -> str:
        """Like `object_code`, as assembly text.

        Args:
            text: the module.

        Returns:
            The assembly.
        """
        module = self._optimized(text, LlvmliteCalls(self._llvm))
        return self._machine.emit_assembly(module)

    def _optimized(self, text: str, calls: Calls) -> Any:
        try:
            module = calls.parse(text, self._llvm.create_context())
        except RuntimeError as error:
            raise CompilationError(f"LLVM rejects the generated code: {error}\n{text}") from None
        self._run_passes(module, calls)
        return module

    def _run_passes(self, module: Any, calls: Calls) -> None:
        """Runs passes; few are needed, since the text is merged, folded and vectorised already.

        Measured against LLVM's O1 to O3, inlining, combining instructions and cleaning up gave the
        same run time in less than half of the time; the full pipeline is for effort 3.
        """
        llvm = self._llvm
        if self._effort >= 3:
            passes = self._builder.getModulePassManager()
        else:
            passes = llvm.create_new_module_pass_manager()
            passes.add_always_inliner_pass()
            if self._effort >= 2:
                passes.add_instruction_combine_pass()
                passes.add_simplify_cfg_pass()
                passes.add_aggressive_dce_pass()
        calls.run(passes, module, self._builder)
