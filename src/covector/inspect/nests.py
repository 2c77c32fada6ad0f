"""Loop nests and arrays in memory, as scheduling made them, with the equations they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from covector.core.program import Equation
from covector.inspect.extents import Extents
from covector.loopir.costs import block_cost
from covector.loopir.ir import (
    PARALLEL,
    SIMD,
    Block,
    Buffer,
    Call,
    Callback,
    For,
    Function,
    If,
    Item,
    Store,
    Value,
    While,
    children,
    touched,
    walk,
)
from covector.loopir.printer import short_name


@dataclass
class Nest:
    """A loop, a branch or a call of a library in the compiled program, with what is inside it.

    Attributes:
        kind: "for", "while", "if", or the name of a library's function.
        extents: iterations of loops directly inside each other, the outermost first; an upper bound
            where they are not the same every time, `None` where nothing is known.
        parallel: whether threads share it.
        fixed: whether its length is known to the compiler; else code is for all sizes of a batch.
        pieces: how many times threads take a piece of it, if they share it.
        lanes: whether the innermost loop runs in the lanes of vectors.
        equations: those whose results are computed in it, in this order; including `inner`.
        reads: names of the arrays it reads, in order.
        writes: names of the arrays it writes.
        nanoseconds: that it takes, by the rule of thumb with which compilation decides.
        inner: nests inside it, beyond the loops of `extents`.
    """

    kind: str
    extents: tuple[int | None, ...] = ()
    parallel: bool = False
    fixed: bool = True
    pieces: int = 1
    lanes: bool = False
    equations: list[Equation] = field(default_factory=list[Equation])
    reads: list[str] = field(default_factory=list[str])
    writes: list[str] = field(default_factory=list[str])
    nanoseconds: float = 0.0
    inner: list[Nest] = field(default_factory=list["Nest"])

    @property
    def is_library(self) -> bool:
        """Whether it is a call of a library or of Python, whose time is not known."""
        return self.kind not in ("for", "while", "if")

    def walk(self) -> Iterator[Nest]:
        """This nest and all nests inside it."""
        yield self
        for nest in self.inner:
            yield from nest.walk()


def nests_of(block: Block, extents: Extents) -> list[Nest]:
    """The loop nests of a block, in order.

    Args:
        block: of a function that is scheduled, before a backend rewrites it.
        extents: for its sizes.

    Returns:
        The nests; statements outside loops and branches are left out.
    """
    return [_nest(item, extents) for item in block.items if isinstance(item, _SHOWN)]


_SHOWN = (For, While, If, Call, Callback)


def _nest(item: Item, extents: Extents) -> Nest:
    alone = Block(0)
    alone.items.append(item)
    nest = Nest(_kind(item), nanoseconds=block_cost(alone, extents.trips))
    inside = _loops(nest, item, extents)
    nest.inner = [n for block in children(inside) for n in nests_of(block, extents)]
    origins: dict[Equation, None] = {}
    if isinstance(item, Call) and isinstance(item.origin, Equation):
        origins[item.origin] = None
    for block in _blocks(item):
        origins.update({o: None for o in block.origins if isinstance(o, Equation)})
    nest.equations = list(origins)
    nest.reads, nest.writes = _accesses(alone)
    return nest


def _kind(item: Item) -> str:
    if isinstance(item, Call):
        return item.symbol
    names = {For: "for", While: "while", If: "if", Callback: "Python function"}
    return names[type(item)]  # type: ignore[index]


def _loops(nest: Nest, item: Item, extents: Extents) -> Item:
    """Notes a loop, and the loops in which there is nothing but the next loop; the last of them."""
    while isinstance(item, For):
        trips = extents.trips(item)
        nest.fixed = nest.fixed and item.trips is not None
        nest.extents += (trips,)
        if item.kind == PARALLEL:
            nest.parallel = True
            nest.pieces = -(-(trips or 1) // item.grain)
        nest.lanes = nest.lanes or item.kind == SIMD
        statements = [i for i in item.body.items if type(i) is not Value]
        if len(statements) != 1 or not isinstance(statements[0], For) or item.params:
            break
        item = statements[0]
    return item


def _blocks(item: Item) -> Iterator[Block]:
    for block in children(item):
        for inner in block.items:
            if type(inner) is not Value:
                yield from _blocks(inner)
        yield block


def _accesses(block: Block) -> tuple[list[str], list[str]]:
    reads: dict[str, None] = {}
    writes: dict[str, None] = {}
    for item in walk(block):
        if isinstance(item, Store):
            writes[item.buffer.name] = None
        elif isinstance(item, Callback):
            reads.update({b.name: None for b in item.args})
            writes.update({b.name: None for b in item.outputs})
        elif isinstance(item, Call):
            # Who calls a function does not say what it writes: what may be written counts twice.
            for buffer in touched(item):
                reads[buffer.name] = None
                if buffer.space not in ("argument", "constant"):
                    writes[buffer.name] = None
        else:
            reads.update({b.name: None for b in touched(item)})
    return list(reads), list(writes)


@dataclass(frozen=True)
class BufferUse:
    """An array in memory.

    Attributes:
        name: as in the loop IR.
        array: its dtype and shape.
        nbytes: its size; `None` if that is known at run time only.
        space: "argument", "result", "constant", "workspace", "heap", or "private", of which each
            thread has its own.
        offset: where it is in the workspace: arrays that are not needed at the same time share.
        equation: what it is for.
        reason: why it is in memory.
        donated: whether it takes the memory of an argument.
    """

    name: str
    array: str
    nbytes: int | None
    space: str
    offset: int | None
    equation: Equation | None
    reason: str
    donated: bool = False


def buffers_of(function: Function, extents: Extents) -> list[BufferUse]:
    """The arrays of a function, in order.

    Args:
        function: after memory planning.
        extents: for its sizes.

    Returns:
        All of them, arguments, results and constants too.
    """
    return [_use(buffer, extents) for buffer in function.buffers]


def _use(buffer: Buffer, extents: Extents) -> BufferUse:
    origin = buffer.origin if isinstance(buffer.origin, Equation) else None
    shape = ",".join(["?" if e is None else str(e) for e in extents.shape(buffer)])
    array = f"{short_name(buffer.dtype)}[{shape}]"
    return BufferUse(
        buffer.name,
        array,
        extents.nbytes(buffer),
        buffer.space,
        buffer.offset,
        origin,
        buffer.reason or _default_reason(buffer, origin),
        buffer.space == "result" and bool(buffer.reason),
    )


def _default_reason(buffer: Buffer, origin: Equation | None) -> str:
    if buffer.space in ("argument", "result", "constant"):
        return f"it is {'an' if buffer.space == 'argument' else 'a'} {buffer.space}"
    return f"{origin.primitive.name} works on it in memory" if origin else "a temporary array"
