"""The loop IR: scalar SSA values inside structured loops over typed buffers.

A `Function` owns buffers and one `Block`; a block is a list of values (pure operations and loads)
and statements (stores, loops, branches, calls). Values are scalars of a NumPy dtype; complex
numbers are pairs of values (`ComplexValue`) and exist only in the builder. An index is an `int64`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from covector.loopir.values import *  # noqa: F403  # all of the IR is found here
from covector.loopir.values import Buffer, Value

if TYPE_CHECKING:
    from covector.loopir.origins import Origins

SERIAL = "serial"
SIMD = "simd"
PARALLEL = "parallel"
LOOP_KINDS = (SERIAL, SIMD, PARALLEL)


class Pointer:
    """The address of an element of a buffer, as an argument of a call."""

    __slots__ = ("buffer", "offset")

    def __init__(self, buffer: Buffer, offset: Value) -> None:
        self.buffer = buffer
        self.offset = offset


class Context:
    """Stands for the run-time context among the arguments of a call."""

    __slots__ = ()


CONTEXT = Context()


class Block:
    """Values and statements in order.

    Attributes:
        items: the values and statements.
        depth: of nesting; 0 is the function's own.
        origins: what the builder was told it builds in the block itself (see `Buffer`), in order,
            as keys: for people.
    """

    __slots__ = ("depth", "items", "origins")

    def __init__(self, depth: int) -> None:
        self.items: list[Any] = []
        self.depth = depth
        self.origins: dict[object, None] = {}

    @property
    def last(self) -> Any:
        """The last value or statement, `None` if there is none."""
        return self.items[-1] if self.items else None


class Store:
    """Writes a value at a linear offset of a buffer."""

    __slots__ = ("buffer", "offset", "value")

    def __init__(self, buffer: Buffer, offset: Value, value: Value) -> None:
        self.buffer = buffer
        self.offset = offset
        self.value = value


class For:
    """A counted loop with carried values.

    Attributes:
        lower: first index.
        upper: bound, exclusive.
        step: positive constant.
        kind: "simd" if iterations are independent of each other, apart from carries that are
            reductions by one associative operation, whose order is then the backend's; else
            "serial", which backends still vectorise where they see that nothing changes.
            "parallel" if they are independent and there are no carries: several threads may share
            them. A workspace buffer that nothing outside touches is each iteration's own.
        width: iterations in one vector step of a "simd" loop; 0 leaves it to the target.
        index: the value that counts.
        inits: values of the carries on entry.
        params: values of the carries at the start of an iteration.
        yields: values of the carries at its end.
        results: values of the carries after the loop.
        poll_every: after how many iterations to look whether to stop; 0 for never.
        independent: no two iterations touch the same memory, so that the loop may become parallel.
        grain: how many iterations of a parallel loop a thread takes at once.
        private_bytes: memory that each thread of a parallel loop needs for private buffers.
    """

    __slots__ = (
        "body",
        "grain",
        "independent",
        "index",
        "inits",
        "kind",
        "lower",
        "params",
        "poll_every",
        "private_bytes",
        "results",
        "step",
        "upper",
        "width",
        "yields",
    )

    def __init__(
        self,
        lower: Value,
        upper: Value,
        step: int,
        kind: str,
        width: int,
        index: Value,
        inits: list[Value],
        params: list[Value],
        body: Block,
    ) -> None:
        self.lower = lower
        self.upper = upper
        self.step = step
        self.kind = kind
        self.width = width
        self.index = index
        self.inits = inits
        self.params = params
        self.body = body
        self.yields: list[Value] = []
        self.results: list[Value] = []
        self.poll_every = 0
        self.independent = False
        self.grain = 1
        self.independent = False
        self.private_bytes = 0

    @property
    def trips(self) -> int | None:
        """How many iterations; `None` if known at run time only."""
        lower, upper = self.lower, self.upper
        if upper.op == "add" and upper.args[0] is lower and upper.args[1].op == "const":
            return max(0, -(-upper.args[1].attr // self.step))
        if self.lower.op != "const" or self.upper.op != "const":
            return None
        return max(0, -(-(self.upper.attr - self.lower.attr) // self.step))


class While:
    """A loop that runs its body as long as a predicate over the carries holds.

    The header computes the predicate; its values are visible in the body. The other attributes are
    as for `For`.
    """

    __slots__ = (
        "body",
        "header",
        "inits",
        "params",
        "poll_every",
        "predicate",
        "results",
        "yields",
    )

    def __init__(
        self,
        inits: list[Value],
        params: list[Value],
        header: Block,
        predicate: Value,
        body: Block,
    ) -> None:
        self.inits = inits
        self.params = params
        self.header = header
        self.predicate = predicate
        self.body = body
        self.yields: list[Value] = []
        self.results: list[Value] = []
        self.poll_every = 0


class If:
    """A branch; each side gives one value for each result."""

    __slots__ = ("else_values", "otherwise", "predicate", "results", "then", "then_values")

    def __init__(self, predicate: Value, then: Block, otherwise: Block) -> None:
        self.predicate = predicate
        self.then = then
        self.otherwise = otherwise
        self.then_values: list[Value] = []
        self.else_values: list[Value] = []
        self.results: list[Value] = []


class Call:
    """A call of an external function with effects.

    Attributes:
        symbol: name on the backend's list of externals.
        args: values, pointers, `CONTEXT`, and `None` for a null pointer.
        result: what it returns, or `None`.
        leaves: whether it returns a status, of which non-zero leaves this function.
        site: the error with which to leave; `None` leaves with the status itself.
        origin: what the builder was told it builds: see `Buffer`.
    """

    __slots__ = ("args", "leaves", "origin", "result", "site", "symbol")

    def __init__(
        self,
        symbol: str,
        args: Sequence[CallArgument],
        result: Value | None,
        leaves: bool = False,
        site: int | None = None,
        origin: object = None,
    ) -> None:
        self.symbol = symbol
        self.origin = origin
        self.args = tuple(args)
        self.result = result
        self.leaves = leaves
        self.site = site


class Callback:
    """Calls a Python function of the executable through the context.

    Attributes:
        number: which function.
        args: buffers it reads.
        outputs: buffers it writes.
        origin: what the builder was told it builds: see `Buffer`.
    """

    __slots__ = ("args", "number", "origin", "outputs")

    def __init__(
        self,
        number: int,
        args: Sequence[Buffer],
        outputs: Sequence[Buffer],
        origin: object = None,
    ) -> None:
        self.number = number
        self.origin = origin
        self.args = tuple(args)
        self.outputs = tuple(outputs)


class Allocate:
    """Allocates a heap buffer through the context; leaves the function if there is no memory.

    Attributes:
        buffer: of space "heap".
        count: how many elements of `buffer.element`.
        site: what the runtime blames: the buffer's place among those of the function.
    """

    __slots__ = ("buffer", "count", "site")

    def __init__(self, buffer: Buffer, count: Value, site: int) -> None:
        self.buffer = buffer
        self.count = count
        self.site = site


class Check:
    """Leaves the function with the error of `site` unless the value is true."""

    __slots__ = ("ok", "site")

    def __init__(self, ok: Value, site: int) -> None:
        self.ok = ok
        self.site = site


class Poll:
    """Leaves the function if the caller has asked for it."""

    __slots__ = ()


class Segment:
    """Runs an outlined piece of this function; values pass through frame buffers.

    Attributes:
        function: the piece.
        buffers: what it gets as the buffers that it receives, in their order.
    """

    __slots__ = ("buffers", "function")

    def __init__(self, function: Function, buffers: Sequence[Buffer] = ()) -> None:
        self.function = function
        self.buffers = tuple(buffers)


class Parallel:
    """Runs an outlined parallel loop; values pass through frame buffers.

    Attributes:
        function: runs the iterations between its two parameters.
        lower: first index.
        upper: bound, exclusive.
        grain: as for `For`.
        private_bytes: as for `For`.
    """

    __slots__ = ("function", "grain", "lower", "private_bytes", "upper")

    def __init__(
        self, function: Function, lower: Value, upper: Value, grain: int, private_bytes: int
    ) -> None:
        self.function = function
        self.lower = lower
        self.upper = upper
        self.grain = grain
        self.private_bytes = private_bytes


class Reload:
    """Makes a value that was stored in a frame visible again, in the piece that goes on with it."""

    __slots__ = ("buffer", "slot", "value")

    def __init__(self, value: Value, buffer: Buffer, slot: int) -> None:
        self.value = value
        self.buffer = buffer
        self.slot = slot


class Function:
    """A function: buffers and a body.

    An entry function has no parameters and no returns; everything passes through buffers. A scalar
    function (an elementary function's definition) has parameters and returns and no buffers. The
    parameters of a parallel loop's function are its bounds.

    Attributes:
        name: symbol.
        buffers: every buffer, in order of creation.
        body: the statements.
        dims: how many run-time sizes the caller passes.
        origins: what its values were built for, if that is kept (see `loopir/origins.py`).
        params: parameters.
        received: those of its buffers that its callers choose.
        returns: results of a scalar function.
        values: how many value numbers are taken.
        workspace_bytes: size of the workspace, set by the memory planner.
    """

    __slots__ = (
        "body",
        "buffers",
        "dims",
        "name",
        "origins",
        "params",
        "received",
        "returns",
        "values",
        "workspace_bytes",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.buffers: list[Buffer] = []
        self.body = Block(0)
        self.dims = 0
        self.origins: Origins | None = None
        self.params: list[Value] = []
        self.received: list[Buffer] = []
        self.returns: list[Value] = []
        self.values = 0
        self.workspace_bytes = 0


CallArgument = Value | Pointer | Context | None
Statement = (
    Store
    | For
    | While
    | If
    | Call
    | Callback
    | Allocate
    | Check
    | Poll
    | Segment
    | Parallel
    | Reload
)
Item = Value | Statement


def children(item: Item) -> tuple[Block, ...]:
    """The blocks inside a statement.

    Args:
        item: anything that stands in a block.

    Returns:
        The nested blocks in order of execution, empty for values and simple statements.
    """
    if type(item) is Value:  # most are, and nothing is called more often
        return ()
    if isinstance(item, For):
        return (item.body,)
    if isinstance(item, While):
        return (item.header, item.body)
    if isinstance(item, If):
        return (item.then, item.otherwise)
    return ()


def walk(block: Block) -> Sequence[Item]:
    """Every value and statement of a block and of the blocks inside it, in order.

    Args:
        block: where to start.

    Returns:
        Each item, a statement before what is inside it.
    """
    found: list[Item] = []
    _gather(block, found)
    return found


def _gather(block: Block, found: list[Item]) -> None:
    for item in block.items:
        found.append(item)
        if type(item) is not Value:
            for child in children(item):
                _gather(child, found)


def operands(item: Item) -> tuple[Value, ...]:
    """The values an item reads, apart from what the blocks inside it read and yield.

    Args:
        item: anything that stands in a block.

    Returns:
        The operands, constants included.
    """
    if type(item) is Value:
        return item.args
    if isinstance(item, Store):
        return (item.offset, item.value)
    if isinstance(item, For):
        return (item.lower, item.upper, *item.inits)
    if isinstance(item, Parallel):
        return (item.lower, item.upper)
    if isinstance(item, While):
        return tuple(item.inits)
    if isinstance(item, If):
        return (item.predicate,)
    if isinstance(item, Call):
        pointers = (a.offset if isinstance(a, Pointer) else a for a in item.args)
        return tuple(a for a in pointers if isinstance(a, Value))
    if isinstance(item, Check):
        return (item.ok,)
    if isinstance(item, Allocate):
        return (item.count,)
    return ()


def touched(item: Item) -> Sequence[Buffer]:
    """The buffers an item reads or writes, apart from what the blocks inside it do.

    Args:
        item: anything that stands in a block.

    Returns:
        Buffers, possibly some of them twice.
    """
    if type(item) is Value:
        return (item.attr,) if item.op == "load" else ()
    if isinstance(item, Store | Allocate | Reload):
        return (item.buffer,)
    if isinstance(item, Call):
        return [a.buffer for a in item.args if isinstance(a, Pointer)]
    if isinstance(item, Callback):
        return (*item.args, *item.outputs)
    if isinstance(item, Segment):
        return item.buffers
    return ()


def touched_within(item: Item) -> Iterator[Buffer]:
    """The buffers an item and what is inside it read or write, each as often as they do.

    Args:
        item: anything that stands in a block.
    """
    yield from touched(item)
    for block in children(item):
        for inner in walk(block):
            yield from touched(inner)


def results(item: Item) -> Sequence[Value]:
    """The values an item defines in the block where it stands.

    Args:
        item: anything that stands in a block.

    Returns:
        A value itself, the results of a loop, branch or call, else nothing.
    """
    if isinstance(item, Value):
        return (item,)
    if isinstance(item, For | While | If):
        return item.results
    if isinstance(item, Reload):
        return (item.value,)
    if isinstance(item, Call) and item.result is not None:
        return (item.result,)
    return ()


def closing(item: Item) -> tuple[Sequence[Value], ...]:
    """The values that each block of `children` gives at its end.

    Args:
        item: anything that stands in a block.

    Returns:
        One sequence for each child; for the header of a `While`, its predicate.
    """
    if isinstance(item, For):
        return (item.yields,)
    if isinstance(item, While):
        return ((item.predicate,), item.yields)
    if isinstance(item, If):
        return (item.then_values, item.else_values)
    return ()
