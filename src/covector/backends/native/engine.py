"""The LLVM engine: from loop IR functions to code in memory.

LLVM is loaded when the first function is compiled. What it makes is linked in `linking.py`; object
files of other formats go through LLVM's ORC LLJIT, which refuses missing symbols too (MCJIT would
crash on them). llvmlite's calls are serialised by a lock of its own, which parts of a large module
are compiled past; the lock here guards LLVM's options and what this module caches.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import threading
from collections.abc import Generator, Sequence
from typing import Any

from covector import _native
from covector.backends.native import cache, emit, loading
from covector.backends.native.compiled import Machine
from covector.backends.native.emit_externals import EXTERNALS, IMPLIED, signatures
from covector.backends.native.emit_objects import undefined_symbols
from covector.backends.native.emit_ops import Target
from covector.backends.native.emit_polls import insert_polls
from covector.backends.native.linking import Unlinkable, link
from covector.backends.native.outline import outline
from covector.backends.native.parts import parts_of
from covector.backends.native.share import share
from covector.backends.native.split import split
from covector.backends.native.toolchain import KNOWN, LlvmliteCalls, Toolchain, direct_calls
from covector.backends.native.workers import at_once
from covector.core.config import CPUS, config
from covector.core.errors import CompilationError
from covector.loopir import foreign
from covector.loopir.ir import Function
from covector.loopir.verifier import verify

GENERIC_CPUS = CPUS[1:]

_RUNTIME = "covector.runtime"

LARGE = 20_000
"""Lines of LLVM text from which on effort 2 is spent as effort 1."""

_OPTIONS = ("-dag-maps-huge-region=32", "-dag-maps-reduction-size=16")
"""Code generator options: where more memory operations than that stand in one basic block, their
dependences are approximated, since LLVM's schedulers take quadratic time to find them exactly."""

_LEFT_OUT = ("disable-lsr", "disable-select-optimize")
"""Passes of the code generator left out below effort 3, which are a fifth of its time: loop
strength reduction and another choice between selects and branches. Indices are affine and shared
in the text already, and selects stand where they are wanted: code runs as fast without."""


class Code:
    """Compiled code; it stays in memory as long as this object lives.

    Attributes:
        address: of the entry function.
        symbol: its name.
        machine: the code in the form in which it can be kept.
        was_kept: whether it comes from the disk cache.
        llvm_text: the LLVM IR before LLVM's passes.
        cpu: what it was compiled for.
        loaded: what keeps it in memory.
    """

    def __init__(
        self, engine: Engine, module: emit.Module, effort: int, kept: Machine | None = None
    ) -> None:
        self.symbol = module.symbol
        self.llvm_text = module.text
        self.cpu = engine.cpu
        self.was_kept = kept is not None
        self._engine = engine
        self._effort = effort
        self.machine = kept or engine.machine_code(module, effort)
        self.loaded = loading.load(self.machine, engine.name)
        self.address = self.loaded.address

    @functools.cached_property
    def object_code(self) -> bytes:
        """The relocatable object file, compiled anew."""
        return self._engine.object_code(self.llvm_text, self._effort)

    def assembly(self) -> str:
        """The machine code as assembly text, compiled anew.

        Returns:
            Text in AT&T syntax.
        """
        return self._engine.assembly(self.llvm_text, self._effort)

    def __repr__(self) -> str:
        return f"<native code {self.symbol} for {self.cpu}>"


class Engine:
    """LLVM set up for one machine.

    Args:
        cpu: LLVM's name of the processor; "native" is this one, with exactly its features.

    Raises:
        CompilationError: if LLVM does not know the processor, or this machine lacks its features.
    """

    # Of all engines: LLVM's options are those of the process.
    _lock = threading.RLock()

    def __init__(self, cpu: str = "native") -> None:
        import llvmlite.binding

        llvm: Any = llvmlite.binding
        self._llvm = llvm
        self.name = cpu
        _set_up(llvm)
        self.cpu, self.features = _processor(llvm, cpu)
        self.target = target_of(self.cpu, self.features)
        self._is_elf = "x86_64" in llvm.get_default_triple() and llvm.get_object_format() == "ELF"
        self._idle: dict[int, list[Toolchain]] = {}
        self._numbers = itertools.count()
        self._jit: Any = None
        self._known: set[str] = set()
        self._shared: dict[str, Any] = {}

    @contextlib.contextmanager
    def _toolchain(self, effort: int) -> Generator[Toolchain]:
        """Tools for the thread that asks, which others do not use meanwhile."""
        idle = self._idle.setdefault(effort, [])
        try:
            tools = idle.pop()
        except IndexError:
            tools = Toolchain(self._new_machine(effort), effort)
        yield tools
        idle.append(tools)

    def _new_machine(self, level: int) -> Any:
        return self._llvm.Target.from_default_triple().create_target_machine(
            cpu=self.cpu,
            features=self.features,
            opt=level,
            reloc="pic",
            codemodel="small",
            jit=True,
        )

    def _set_up_jit(self) -> None:
        """LLVM's linker with a library of every external function, when it is first needed."""
        if self._jit is not None:
            return
        self._jit = self._llvm.create_lljit_compiler(self._new_machine(2))
        library = self._llvm.JITLibraryBuilder()
        addresses = _native.symbols()
        for symbol in {*EXTERNALS, *IMPLIED} & addresses.keys():
            library.import_symbol(symbol, addresses[symbol])
            self._known.add(symbol)
        self._runtime = library.link(self._jit, _RUNTIME)

    def compile(self, module: emit.Module, effort: int, by_text: bool = False) -> Code:
        """Compiles a module.

        Args:
            module: LLVM text with one entry function.
            effort: 0 compiles fastest, 3 runs fastest.
            by_text: look the text up in the disk cache first, and keep what becomes of it.

        Returns:
            The code.

        Raises:
            CompilationError: if LLVM rejects it or a symbol is missing.
        """
        if effort == 2 and module.instructions > LARGE:
            effort = 1
        # What calls an address of this process is of no use to others.
        own = [foreign.find(symbol) for symbol in module.externals]
        if not all([function is None or function.stable for function in own]):
            by_text = False
        key = cache.text_key(module.text, effort, self.name) if by_text else None
        kept = None if key is None else cache.load_machine(key)
        code = Code(self, module, effort, kept)
        if key is not None and kept is None:
            cache.store_machine(key, code.machine)
        return code

    def object_code(self, text: str, effort: int) -> bytes:
        """Runs LLVM's passes and code generator.

        Args:
            text: a module.
            effort: 0 compiles fastest, 3 runs fastest.

        Returns:
            A relocatable object file.
        """
        calls = LlvmliteCalls(self._llvm)
        with self._lock, self._toolchain(effort) as tools, _passes_left_out(self._llvm, effort):
            return tools.object_code(text, calls)

    def machine_code(self, module: emit.Module, effort: int) -> Machine:
        """Compiles and links a module, parts of it at once if it is large.

        Args:
            module: LLVM text with one entry function.
            effort: 0 compiles fastest, 3 runs fastest.

        Returns:
            The code, in the form in which it can be kept.
        """
        objects = self._objects_of_parts(module, effort)
        if objects:
            with contextlib.suppress(Unlinkable):
                return Machine(module.symbol, link(*objects), b"", module.externals, module.shared)
        code = self.object_code(module.text, effort)
        return loading.machine_of(module.symbol, code, module.externals, module.shared)

    def _objects_of_parts(self, module: emit.Module, effort: int) -> list[bytes]:
        """Object files of the parts of a module; none if it is better compiled in one piece."""
        threads, calls = _native.get_num_threads(), direct_calls()
        if threads < 2 or calls is None or not self._is_elf or not _may_be_cut(effort):
            return []
        parts = parts_of(module, threads)
        if not parts:
            return []

        def compile_part(number: int) -> bytes:
            with self._toolchain(effort) as tools:
                return tools.object_code(parts[number], calls)

        with self._lock, _passes_left_out(self._llvm, effort):
            return at_once(compile_part, len(parts), threads)

    def assembly(self, text: str, effort: int) -> str:
        """Like `object_code`, as assembly text.

        Args:
            text: a module.
            effort: 0 compiles fastest, 3 runs fastest.

        Returns:
            The assembly.
        """
        with self._lock, self._toolchain(effort) as tools, _passes_left_out(self._llvm, effort):
            return tools.assembly(text)

    def link(self, object_code: bytes, symbol: str, shared: Sequence[str] = ()) -> Any:
        """Loads an object file by LLVM's linker.

        Args:
            object_code: the file.
            symbol: the function whose address is wanted.
            shared: elementary functions that it calls and does not contain.

        Returns:
            What keeps it in memory; indexed by the symbol it gives the address.

        Raises:
            CompilationError: if a symbol is missing.
        """
        with self._lock:
            self._set_up_jit()
            missing = undefined_symbols(object_code) - self._known
            missing -= {"_GLOBAL_OFFSET_TABLE_", *shared, *foreign.signatures()}
            if missing:
                names = ", ".join(sorted(missing))
                raise CompilationError(
                    f"{symbol} needs functions that are not on the list: {names}"
                )
            try:
                return self._load(object_code, symbol, shared)[1]
            except RuntimeError as error:
                raise CompilationError(f"linking {symbol} failed: {error}") from None

    def _load(self, object_code: bytes, symbol: str, shared: Sequence[str]) -> tuple[str, Any]:
        """A library made of an object file, by name, and what keeps it in memory."""
        library = self._llvm.JITLibraryBuilder()
        library.add_object_img(object_code)
        library.add_jit_library(_RUNTIME)
        for undefined in undefined_symbols(object_code):
            own = foreign.find(undefined)
            if own is not None:
                library.import_symbol(undefined, own.address)
        for each in shared:
            library.add_jit_library(self._share(each))
        library.export_symbol(symbol)
        name = f"{symbol}.{next(self._numbers)}"
        return name, library.link(self._jit, name)

    def elementary(self, symbol: str) -> Machine:
        """Compiles an elementary function that programs share.

        Args:
            symbol: one of the `shared` of a module.

        Returns:
            Its code.
        """
        return self.machine_code(emit.emit_shared(symbol, self.target), 2)

    def _share(self, symbol: str) -> str:
        """LLVM's library of an elementary function, made when it is first called."""
        known = self._shared.get(symbol)
        if known is None:
            module = emit.emit_shared(symbol, self.target)
            code = self.object_code(module.text, 2)
            known = self._shared[symbol] = self._load(code, symbol, module.shared)
        return known[0]


if hasattr(os, "register_at_fork"):
    # A child has no thread that could finish what another one of its parent was compiling.
    os.register_at_fork(
        before=Engine._lock.acquire,
        after_in_parent=Engine._lock.release,
        after_in_child=Engine._lock.release,
    )

_is_set_up = False


def _set_up(llvm: Any) -> None:
    """Process-wide initialisation, once."""
    global _is_set_up
    if _is_set_up:
        return
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    if llvm.llvm_version_info[0] in KNOWN:  # an unknown option would end the process
        for option in _OPTIONS:
            llvm.set_option("covector", option)
    _is_set_up = True


def set_up_targets(llvm: Any) -> None:
    """Initialises code generation for other machines than this one."""
    _set_up(llvm)
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@contextlib.contextmanager
def _passes_left_out(llvm: Any, effort: int) -> Generator[None]:
    """Leaves out passes inside the block; afterwards LLVM is as others in this process know it."""
    left_out = "fewer_passes" not in config.disable and effort < 3
    if not left_out or llvm.llvm_version_info[0] not in KNOWN:
        yield
        return
    _switch(llvm, "true")
    try:
        yield
    finally:
        _switch(llvm, "false")


def _switch(llvm: Any, value: str) -> None:
    for name in _LEFT_OUT:
        llvm.set_option("covector", f"-{name}={value}")


def _processor(llvm: Any, cpu: str) -> tuple[str, str]:
    if cpu in ("", "native"):
        return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    if cpu not in GENERIC_CPUS:
        raise CompilationError(
            f"code for the processor {cpu!r} (COVECTOR_CPU) is not supported\n"
            f"  fix: choose native or one of {', '.join(GENERIC_CPUS)}"
        )
    here = llvm.get_host_cpu_features()
    missing = [f for f in _NEEDED[cpu] if not here.get(f)]
    if missing:
        raise CompilationError(
            f"code for {cpu} (COVECTOR_CPU) would need what this machine lacks: "
            f"{', '.join(missing)}\n"
            "  fix: choose a lower level, or native for this machine"
        )
    return cpu, ""


_V2 = ("cx16", "popcnt", "sse4.2", "ssse3")
_V3 = (*_V2, "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_NEEDED = dict(zip(GENERIC_CPUS, ((), _V2, _V3, _V4), strict=True))


def target_of(cpu: str, features: str) -> Target:
    """What emission must know of a processor.

    Args:
        cpu: a level of x86-64, or LLVM's name.
        features: as LLVM writes them.

    Returns:
        The target.
    """
    have = set(features.split(","))
    if "+neon" in have:  # 64-bit ARM always has these
        return Target(vector_bits=128, fma=True, half=True, masks=False)
    level = GENERIC_CPUS.index(cpu) + 1 if cpu in GENERIC_CPUS else 0
    avx512 = level >= 4 or {"+avx512f", "+avx512bw", "+avx512vl", "+avx512dq"} <= have
    avx2 = level >= 3 or "+avx2" in have
    return Target(
        vector_bits=512 if avx512 else 256 if avx2 else 128,
        fma=level >= 3 or "+fma" in have,
        half=level >= 3 or "+f16c" in have,
        masks=avx512,
    )


_engines: dict[str, Engine] = {}
_lock = threading.Lock()


def get_engine(cpu: str | None = None) -> Engine:
    """The engine of a processor, set up when it is first asked for.

    Args:
        cpu: "native", or a generic level such as "x86-64-v3"; by default the setting `cpu`.

    Returns:
        The engine.
    """
    name = cpu or config.cpu
    with _lock:
        engine = _engines.get(name)
        if engine is None:
            engine = _engines[name] = Engine(name)
        return engine


def _may_be_cut(effort: int) -> bool:
    """Whether parts of a module may be compiled at once; with effort 3 LLVM sees it whole."""
    return effort < 3 and "parallel_compile" not in config.disable


def prepare(function: Function, target: Target, effort: int = 2) -> None:
    """Brings a function into pieces that LLVM compiles in linear time.

    With debug information, equal loops stay apart: they are of different lines.

    Args:
        function: as for `compile_function`; changed in place.
        target: the machine.
        effort: as for `compile_function`.
    """
    insert_polls(function)
    if "repeated_loops" not in config.disable and function.origins is None:
        share(function, target)
    split(function, target, fine=_may_be_cut(effort))
    outline(function)
    if config.check:
        verify(function, signatures())


def compile_function(
    function: Function, effort: int = 2, cpu: str | None = None, by_text: bool = False
) -> Code:
    """Compiles a loop IR function.

    Args:
        function: an entry function whose workspace buffers have their offsets; large bodies are
            split in place, and `workspace_bytes` may grow.
        effort: 0 compiles fastest, 3 runs fastest.
        cpu: as for `get_engine`.
        by_text: as for `Engine.compile`.

    Returns:
        The code.

    Raises:
        CompilationError: if it calls what does not exist.

    Example:
        >>> import numpy as np
        >>> from covector.loopir.builder import Builder
        >>> b = Builder("entry")
        >>> x = b.argument(np.dtype("f4"), (8,))
        >>> y = b.result(np.dtype("f4"), (8,))
        >>> b.loop(0, 8, lambda i: b.store(y, (i,), b.op("neg", b.load(x, i))))
        []
        >>> compile_function(b.finish()).symbol
        'entry'
    """
    engine = get_engine(cpu)
    prepare(function, engine.target, effort)
    return engine.compile(emit.emit(function, engine.target), effort, by_text)
