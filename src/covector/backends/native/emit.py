"""Loop IR functions as LLVM IR modules, written as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set

from covector.backends.native.emit_externals import declaration
from covector.backends.native.emit_lanes import plan_function
from covector.backends.native.emit_memory import Convention, Memory, Metadata, Scopes
from covector.backends.native.emit_ops import Target
from covector.backends.native.emit_source import Source
from covector.backends.native.emit_streams import (
    FENCE,
    loops_by_index,
    rows_ahead,
    streamed_buffers,
)
from covector.backends.native.emit_types import INLINED, SHARED, register_type, suffix
from covector.backends.native.emit_vectors import Emitter
from covector.core.config import config
from covector.core.errors import CompilationError
from covector.loopir import mathematics
from covector.loopir.ir import HEAP, Buffer, DType, Function, Parallel, Segment, walk
from covector.loopir.scalars import F32, F64, TABLE

INLINED_LINES = 400
"""Lines that the copies of an elementary function may have in all if it is inlined at each call."""

_ATTRIBUTES = """\
attributes #0 = { nounwind alignstack=64 }
attributes #1 = { noinline nounwind alignstack=64 }
attributes #2 = { nofree norecurse nosync nounwind willreturn memory(none) }
attributes #3 = { nounwind }
attributes #4 = { alwaysinline nofree norecurse nosync nounwind willreturn memory(none) }
attributes #5 = { noinline nofree norecurse nosync nounwind willreturn memory(none) }
"""

_CALLED = re.compile(r"call [^@\n]*@([\w.]+)\(")
_DTYPES: dict[str, DType] = {"f32": F32, "f64": F64}

_elementary: dict[tuple[str, Target], str] = {}
"""Texts of elementary functions by symbol and machine, shared by all compilations."""


class Module:
    """An LLVM module as text.

    Args:
        symbol: name of the entry function.
        functions: their texts.
        externals: declarations of what it calls, by name.
        shared: declarations of elementary functions that it calls and does not contain.
        metadata: lines for what instructions refer to by number.

    Attributes:
        text: the module.
        symbol, functions, metadata: as given.
        externals, shared: the names of those functions.
        declarations: of both, by name.
        instructions: how many lines it has, a measure of its size.
        has_debug_info: whether there is debug information, which is one for all functions.
    """

    __slots__ = (
        *("declarations", "externals", "functions", "has_debug_info", "instructions"),
        *("metadata", "shared", "symbol", "text"),
    )

    def __init__(
        self,
        symbol: str,
        functions: Sequence[str],
        externals: Mapping[str, str] | None = None,
        shared: Mapping[str, str] | None = None,
        metadata: Sequence[str] = (),
    ) -> None:
        self.symbol = symbol
        self.functions = functions
        self.externals = tuple(externals or ())
        self.shared = tuple(shared or ())
        self.declarations = {**(shared or {}), **(externals or {})}
        self.metadata = metadata
        self.has_debug_info = False
        self.text = module_text(functions, self.declarations.values(), metadata)
        self.instructions = self.text.count("\n")


def module_text(
    functions: Iterable[str], declarations: Iterable[str], metadata: Iterable[str]
) -> str:
    """The text of a module.

    Args:
        functions: definitions.
        declarations: a line for each function that is defined elsewhere.
        metadata: numbered lines.

    Returns:
        The module.
    """
    return "\n".join([*functions, *declarations, _ATTRIBUTES, *metadata, ""])


def emit(function: Function, target: Target) -> Module:
    """Writes a function, the pieces it is split into and what they call as one module.

    Args:
        function: an entry function; its workspace buffers have their offsets.
        target: the machine.

    Returns:
        The module.

    Raises:
        CompilationError: if it calls a function that is not on the list of externals.

    Example:
        >>> import numpy as np
        >>> from covector.loopir.builder import Builder
        >>> b = Builder("entry")
        >>> x = b.argument(np.dtype("f4"), (8,))
        >>> y = b.result(np.dtype("f4"), (8,))
        >>> b.loop(0, 8, lambda i: b.store(y, (i,), b.op("neg", b.load(x, i))))
        []
        >>> emit(b.finish(), Target(256, fma=True, half=True, masks=False)).symbol
        'entry'
    """
    functions = [function, *segments(function)]
    buffers = {buffer: None for f in functions for buffer in f.buffers}
    metadata = Metadata()
    scopes = Scopes(buffers, metadata)
    heap = [b for b in buffers if b.space == HEAP]
    source = None if function.origins is None else Source(function.origins, metadata)
    streamed = streamed_buffers(functions, target)
    written: dict[Function, str] = {}
    conventions: dict[Function, Convention] = {}
    for each in _callees_first(function, {}):
        segment, ranges = each is not function, bool(each.params)
        memory = Memory(scopes, metadata, heap, segment, ranges, each.received)
        written[each] = _entry(each, target, memory, source, streamed, conventions)
    texts = [written[each] for each in functions]
    if source is not None:
        texts.append(source.named_metadata())
    module = _module(function.name, texts, _names(functions), target, metadata.lines)
    module.has_debug_info = source is not None
    return module


def emit_shared(symbol: str, target: Target) -> Module:
    """Writes an elementary function as a module, for all modules that call it.

    Args:
        symbol: one of the `shared` of a module.
        target: the machine.

    Returns:
        The module.
    """
    text = _elementary_text(symbol, target).replace("define internal", "define", 1)
    return _module(symbol, [text.replace("#9 {", "#5 {", 1)], {symbol}, target)


def _module(
    symbol: str,
    texts: list[str],
    names: set[str],
    target: Target,
    metadata: Sequence[str] = (),
) -> Module:
    """Completes functions with what they call."""
    functions, called = _with_elementary_functions(texts, target)
    shared = sorted(filter(_is_shared, called))
    externals = sorted(s for s in called if "." not in s and s not in names)
    return Module(
        symbol,
        functions,
        {each: _declare(each) for each in externals},
        {each: _elementary_declaration(each) for each in shared},
        metadata,
    )


def segments(function: Function) -> list[Function]:
    """The pieces a function is split into, those of its pieces included.

    Args:
        function: any function.

    Returns:
        Each once, in order.
    """
    found: dict[Function, None] = {}
    for item in walk(function.body):
        if isinstance(item, Segment | Parallel) and item.function not in found:
            found[item.function] = None
            found |= dict.fromkeys(segments(item.function))
    return list(found)


def _callees_first(function: Function, found: dict[Function, None]) -> dict[Function, None]:
    """A function and its pieces, each after those that it calls."""
    for item in walk(function.body):
        if isinstance(item, Segment | Parallel) and item.function not in found:
            _callees_first(item.function, found)
    found[function] = None
    return found


def _names(functions: Iterable[Function]) -> set[str]:
    return {f.name for f in functions}


def _declare(symbol: str) -> str:
    found = declaration(symbol)
    if found is None:
        raise CompilationError(f"generated code would call {symbol!r}, which is not on the list")
    return found


def _entry(
    function: Function,
    target: Target,
    memory: Memory,
    source: Source | None,
    streamed: frozenset[Buffer],
    conventions: dict[Function, Convention],
) -> str:
    """The text of a function; notes how it is called."""
    emitter = Emitter(target, memory)
    emitter.conventions = conventions
    outermost = function.body.depth == 0
    emitter.runs = int(outermost and "shared_functions" not in config.disable)
    emitter.ahead, emitter.streamed = rows_ahead(function), streamed
    if streamed:
        emitter.loops = loops_by_index(function)
    if source is not None:
        emitter.source = source.function(function.name)
    emitter.names.update(zip(function.params, ("%begin", "%end"), strict=False))
    if function.body.depth:  # a piece of a loop's body
        emitter.plan_block(function.body, (), (), depth=0)
    emitter.last = function.body.last
    emitter.block(function.body)
    if emitter.streams:
        emitter.lines.append(FENCE)
    linkage, attributes = ("internal ", "#1") if memory.is_segment else ("", "#0")
    if emitter.source is not None:
        emitter.lines = emitter.source.attached(emitter.lines)
        attributes += f" {emitter.source.subprogram}"
    convention = memory.convention(emitter.lines, emitter.leaves)
    conventions[function] = convention
    type_, end = ("i32", "  ret i32 0") if convention.leaves else ("void", "  ret void")
    parameters = memory.parameters(convention)
    head = f"define {linkage}{type_} @{function.name}({parameters}) {attributes} {{\nentry:"
    lines = [head, *memory.entry_lines(), *emitter.allocas, *emitter.lines, end]
    return "\n".join([*lines, *emitter.ways_out(), "}\n"])


def _count_calls(texts: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for text in texts:
        for symbol in _CALLED.findall(text):
            if not symbol.startswith("llvm."):
                counts[symbol] = counts.get(symbol, 0) + 1
    return counts


def _with_elementary_functions(
    texts: list[str], target: Target
) -> tuple[list[str], dict[str, int]]:
    """Functions with the elementary ones that are inlined in them, and what all of these call.

    Those that would take too many lines if they were inlined at each call are shared: their code is
    called in any case.
    """
    called = _count_calls(texts)
    total = dict(called)
    inside = _inside(called, target)
    for counts in inside.values():
        for symbol, count in counts.items():
            total[symbol] = total.get(symbol, 0) + count
    lines = {s: total[s] * _elementary_text(s, target).count("\n") for s in inside}
    long = {s for s in inside if lines[s] > INLINED_LINES}
    sharing = "shared_functions" not in config.disable
    if sharing and long:
        inside = _inside(called, target, long)
    texts = list(texts)
    for symbol, counts in inside.items():
        attributes = "#5 {" if symbol in long else "#4 {"
        texts.append(_elementary_text(symbol, target).replace("#9 {", attributes, 1))
        called |= counts
    for symbol in sorted(long & called.keys()) if sharing else ():
        shared = symbol.replace(INLINED[1:], SHARED[1:], 1)
        texts = [text.replace(f"@{symbol}(", f"@{shared}(") for text in texts]
        called[shared] = called.pop(symbol)
    return texts, called


def _inside(
    called: Iterable[str], target: Target, without: Set[str] = frozenset()
) -> dict[str, dict[str, int]]:
    """The elementary functions called that may be inlined, with those that they call."""
    inside: dict[str, dict[str, int]] = {}
    pending = list(called)
    while pending:
        symbol = pending.pop()
        known = symbol in inside or symbol in without or _is_shared(symbol)
        if symbol.startswith(INLINED[1:]) and not known:
            inside[symbol] = _count_calls([_elementary_text(symbol, target)])
            pending += inside[symbol]
    return inside


def _is_shared(symbol: str) -> bool:
    """Whether an elementary function is compiled once, for all modules that call it."""
    if symbol.startswith(INLINED[1:]):
        return _parse_symbol(symbol)[0] in mathematics.RARE
    return symbol.startswith(SHARED[1:])


def _parse_symbol(symbol: str) -> tuple[str, DType, int]:
    """Name, dtype and lanes of an elementary function."""
    _, name, kind = symbol.split(".")
    return name, _DTYPES[kind[-3:]], int(kind[1:-3]) if kind.startswith("v") else 0


def _elementary_declaration(symbol: str) -> str:
    name, dtype, lanes = _parse_symbol(symbol)
    type_ = register_type(dtype, lanes)
    return f"declare {type_} @{symbol}({', '.join([type_] * TABLE[name].arity)}) #2"


def _elementary_text(symbol: str, target: Target) -> str:
    """An elementary function from its definition in the loop IR, for scalars or for lanes."""
    text = _elementary.get((symbol, target))
    if text is None:
        text = _elementary[symbol, target] = _write_elementary(symbol, target)
    return text


def _write_elementary(symbol: str, target: Target) -> str:
    name, dtype, lanes = _parse_symbol(symbol)
    function = mathematics.definition(name, dtype)
    emitter = Emitter(target, Memory(Scopes((), None), None, [], segment=False))
    emitter.packs = False
    params = [f"{register_type(p.dtype, lanes)} %p{k}" for k, p in enumerate(function.params)]
    if lanes:
        plan = plan_function(function.params, function.body, function.returns, lanes)
        emitter.plan, emitter.lanes = plan, lanes
        emitter.loaded = set()
        emitter.vectors = {p: f"%p{k}" for k, p in enumerate(function.params)}
    else:
        emitter.names.update({p: f"%p{k}" for k, p in enumerate(function.params)})
    emitter.block(function.body)
    (result,) = function.returns
    type_ = register_type(result.dtype, lanes)
    text = emitter.vector(result) if lanes else emitter.use(result)
    head = f"define internal {type_} @{symbol}({', '.join(params)}) #9 {{\nentry:"
    assert symbol.endswith(f".{name}.{suffix(dtype, lanes)}")
    lines = [head, *emitter.allocas, *emitter.lines, f"  ret {type_} {text}", "}\n"]
    return "\n".join(lines)
