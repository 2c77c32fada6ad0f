"""Libraries of native code that run without Python: object files, archives, shared libraries."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from covector.backends.native import blas, emit
from covector.backends.native.archive import archive
from covector.backends.native.emit_externals import PURE
from covector.backends.native.emit_ops import Target
from covector.backends.native.engine import (
    GENERIC_CPUS,
    Engine,
    set_up_targets,
    target_of,
)
from covector.backends.native.library_text import RUNTIME, entry_text
from covector.backends.native.share import share
from covector.backends.native.split import split
from covector.backends.native.toolchain import Toolchain
from covector.compiler.pipeline import Scheduled, prepare, schedule_prepared
from covector.core.config import config
from covector.core.errors import CompilationError, MissingCapabilityError, compose
from covector.core.libraries import LibraryFunction, LibraryOptions, c_header
from covector.core.program import Equation
from covector.loopir.ir import Call, Callback, Item, Value, walk

KINDS = ("shared", "static", "object")

_WITHOUT = frozenset({"threads", "streaming_stores", "donation"})
"""What needs the runtime, or memory that is aligned to more than its elements."""
_ARM = ("generic", "cortex-a53", "cortex-a72", "cortex-a76", "neoverse-n1", "neoverse-v1")
_PROCESSORS = {"x86_64": GENERIC_CPUS, "aarch64": _ARM}
"""Processors by architecture, the first is what all of the kind are. LLVM ends the process for some
names that it does not know."""
_NEON = "+neon"
_ELF64 = b"\x7fELF\x02"


class Machine(NamedTuple):
    """What code is for.

    Attributes:
        triple: LLVM's name of it; empty for this one.
        cpu: of it.
        features: of that.
        target: what emission must know of it.
    """

    triple: str
    cpu: str
    features: str
    target: Target


def write(functions: Sequence[LibraryFunction], options: LibraryOptions) -> Mapping[str, bytes]:
    """Writes a library; see `LibraryWriter`."""
    machine = _machine(options)
    if options.kind == "shared" and machine.triple:
        raise MissingCapabilityError(
            compose(
                f"the backend 'native' lacks: shared libraries for {machine.triple}",
                found="only this machine's linker is called",
                fix="write a static library or an object, and link it there",
            ),
            "library shared",
        )
    header = c_header(functions, options.name).encode()
    with _module(functions, options, machine) as (tools, module):
        code = tools.object_code_of(module)
    if options.target and not code.startswith(_ELF64):
        raise MissingCapabilityError(
            compose(
                f"the backend 'native' lacks: libraries for {options.target}",
                found="its object files are not those of 64-bit Unix (ELF)",
                fix="choose a Linux, or C from the backend 'c'",
            ),
            "object format",
        )
    files = {f"{options.name}.h": header}
    if options.kind == "object":
        return {**files, f"{options.name}.o": code}
    if options.kind == "static":
        symbols = [s for f in functions for s in (f.symbol, f"{f.symbol}_error")]
        member = f"{options.name[:13]}.o"
        return {**files, f"lib{options.name}.a": archive({member: (code, symbols)})}
    return {**files, f"lib{options.name}.so": _linked(code, options)}


def _machine(options: LibraryOptions) -> Machine:
    import llvmlite.binding

    llvm: Any = llvmlite.binding
    set_up_targets(llvm)
    triple = options.target
    try:
        architecture = (triple or llvm.get_default_triple()).split("-")[0]
        llvm.Target.from_triple(triple or llvm.get_default_triple())
    except RuntimeError as error:
        raise CompilationError(
            compose(
                f"LLVM has no code for {triple!r}",
                found=str(error),
                fix="name a machine as LLVM does, as 'aarch64-linux-gnu' or 'x86_64-linux-gnu'",
            )
        ) from None
    if architecture not in _PROCESSORS:
        raise MissingCapabilityError(
            compose(
                f"the backend 'native' lacks: libraries for {architecture}",
                found=f"target {triple!r}",
                fix=f"choose one of {', '.join(_PROCESSORS)}, or C from the backend 'c'",
            ),
            f"target {architecture}",
        )
    cpu, features = _processor(llvm, options, architecture)
    return Machine(triple, cpu, features, target_of(cpu, features))


def _processor(llvm: Any, options: LibraryOptions, architecture: str) -> tuple[str, str]:
    known = _PROCESSORS[architecture]
    cpu = options.cpu or known[0]
    if cpu == "native" and not options.target:
        return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    if cpu not in known:
        raise CompilationError(
            compose(
                f"a library for {architecture} is not written for the processor {cpu!r}",
                fix=f"choose one of {', '.join(known)}"
                + ("" if options.target else ", or native for this very one"),
            )
        )
    return cpu, _NEON if architecture == "aarch64" else ""


def assembly(functions: Sequence[LibraryFunction], options: LibraryOptions) -> str:
    """The code of a library as assembly text.

    Args:
        functions: as for `write`.
        options: likewise.
    """
    with _module(functions, options, _machine(options)) as (tools, module):
        return tools.assembly_of(module)


@contextlib.contextmanager
def _module(
    functions: Sequence[LibraryFunction], options: LibraryOptions, machine: Machine
) -> Generator[tuple[Toolchain, Any]]:
    """What compiles a library, and its module."""
    import llvmlite.binding

    llvm: Any = llvmlite.binding
    texts = _texts(functions, options, machine.target)
    context = llvm.create_context()
    modules: list[Any] = []
    with contextlib.ExitStack() as leaving:
        leaving.enter_context(Engine._lock)  # LLVM's options are those of the process
        leaving.callback(_close, modules, context)
        modules += [_parsed(llvm, text, context) for text in texts]
        whole = modules[0]
        for other in modules[1:]:
            whole.link_in(other)
        _hide(whole, {s for f in functions for s in (f.symbol, f"{f.symbol}_error")})
        found = llvm.Target.from_triple(machine.triple or llvm.get_default_triple())
        code = found.create_target_machine(
            cpu=machine.cpu,
            features=machine.features,
            opt=min(options.effort, 3),
            reloc="pic",
            codemodel="small",
        )
        whole.triple, whole.data_layout = code.triple, str(code.target_data)
        yield Toolchain(code, options.effort), whole


def _close(modules: list[Any], context: Any) -> None:
    """Ends modules before their context: an order that the garbage collector need not keep."""
    for module in modules:
        module.close()
    context.close()


def _hide(module: Any, exported: set[str]) -> None:
    """Lets nobody else see what a library does not offer."""
    for defined in (*module.functions, *module.global_variables):
        if not defined.is_declaration and defined.name not in exported:
            defined.linkage = "internal"


def _parsed(llvm: Any, text: str, context: Any) -> Any:
    try:
        return llvm.parse_assembly(text, context)
    except RuntimeError as error:
        raise CompilationError(f"LLVM rejects the generated code: {error}\n{text}") from None


def _texts(
    functions: Sequence[LibraryFunction], options: LibraryOptions, target: Target
) -> list[str]:
    """The modules of a library, each function and what it needs."""
    texts = [RUNTIME]
    elementary: dict[str, None] = {}
    calls: dict[str, None] = {}
    for function in functions:
        scheduled = _scheduled(function, options)
        code = scheduled.function
        code.name = f"{function.symbol}.body"
        if "repeated_loops" not in config.disable:
            share(code, target)
        split(code, target)
        module = emit.emit(code, target)
        calls |= dict.fromkeys(module.externals)
        elementary |= dict.fromkeys(module.shared)
        messages = [
            f"{text} (at {equation.place})" if equation and equation.place else text
            for text, equation in scheduled.sites
        ]
        entry = entry_text(function, scheduled.constants, code.workspace_bytes, messages)
        texts += [module.text, entry]
    texts += [module.text for module in _elementary(elementary, target)]
    return [*texts, *blas.definitions([c for c in calls if c.startswith(blas.PREFIX)])]


def _elementary(symbols: Iterable[str], target: Target) -> list[emit.Module]:
    """Elementary functions that modules share, with those that these call."""
    found: dict[str, emit.Module] = {}
    pending = list(symbols)
    while pending:
        symbol = pending.pop()
        if symbol not in found:
            found[symbol] = emit.emit_shared(symbol, target)
            pending += found[symbol].shared
    return list(found.values())


def _scheduled(function: LibraryFunction, options: LibraryOptions) -> Scheduled:
    without = _WITHOUT if options.blas else _WITHOUT | {"library_products"}
    with contextlib.ExitStack() as settings:
        settings.enter_context(config.override("disable", config.disable | without))
        settings.enter_context(config.override("debug_info", False))
        profile: dict[str, float] = {}
        scheduled = schedule_prepared(prepare(function.program, profile), profile)
    for item in walk(scheduled.function.body):
        _check(item, options)
    return scheduled


def _check(item: Item, options: LibraryOptions) -> None:
    """Refuses what a library cannot do."""
    if isinstance(item, Callback):
        _refuse("callbacks", f"{_name(item.origin)} is computed by a Python function", item.origin)
    if isinstance(item, Value) and item.op == "call" and item.attr not in PURE:
        _refuse(f"call {item.attr}", "it is a C function that was found in this process", None)
    if isinstance(item, Call) and item.symbol not in blas.SYMBOLS:
        found = f"{_name(item.origin)} is compiled to a call of {item.symbol}"
        _refuse(f"call {item.symbol}", found, item.origin)
    if isinstance(item, Call) and not options.blas:
        found = f"{_name(item.origin)} is compiled to a call of {item.symbol}"
        fix = "link a BLAS that has it, as library(..., blas='openblas')"
        _refuse(f"call {item.symbol}", found, item.origin, fix)


def _name(origin: object) -> str:
    return origin.primitive.name if isinstance(origin, Equation) else "an operation"


def _refuse(capability: str, found: str, origin: object, fix: str = "") -> NoReturn:
    raise MissingCapabilityError(
        compose(
            f"a library of native code lacks: {capability}",
            found=found,
            line=(origin.place or None) if isinstance(origin, Equation) else None,
            fix=fix or "leave it out of the function that is exported, or let the caller do it",
        ),
        capability,
    )


def _linked(code: bytes, options: LibraryOptions) -> bytes:
    """A shared library, by the system's compiler: `CC`, or `cc`."""
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    with tempfile.TemporaryDirectory(prefix="covector-") as folder:
        source, made = Path(folder) / "code.o", Path(folder) / "code.so"
        source.write_bytes(code)
        libraries = [f"-l{options.blas}"] if options.blas else []
        name = f"-Wl,-soname,lib{options.name}.so"
        command = [*compiler, "-shared", name, str(source), "-o", str(made), *libraries, "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise CompilationError(
                f"there is no C compiler called {compiler[0]!r} to link a shared library with\n"
                "  fix: install one, or name yours in the environment variable CC, or write a "
                "static library (kind='static'), which needs none"
            ) from None
        except subprocess.CalledProcessError as error:
            raise CompilationError(
                f"linking failed: {shlex.join(command)}\n{error.stderr}"
            ) from None
        return made.read_bytes()
