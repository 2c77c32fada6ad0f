"""Checks that loop IR makes sense: types, scopes, carries, constant offsets, call signatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.loopir.ir import (
    BOOL,
    HEAP,
    INDEX,
    PARALLEL,
    PRIVATE,
    READ_ONLY,
    WORKSPACE,
    Allocate,
    Block,
    Buffer,
    Call,
    CallArgument,
    Callback,
    Check,
    For,
    Function,
    If,
    Item,
    LoopIRError,
    Parallel,
    Pointer,
    Reload,
    Segment,
    Store,
    Value,
    While,
    operands,
    results,
)
from covector.loopir.printer import print_function, short_name
from covector.loopir.scalars import EVERYTHING, check_types

Signature = tuple[tuple[str, ...], str]
"""Parameter types ("ptr" or a short dtype name) and the return type ("void" or a short name)."""


def verify(function: Function, externals: dict[str, Signature] | None = None) -> None:
    """Checks a function and the segments it is split into.

    Args:
        function: any function.
        externals: signatures of the functions that may be called; `None` does not check calls.

    Raises:
        LoopIRError: at the first thing that is wrong, with the function's text.
    """
    try:
        _Verifier(function, externals).run(segment=False)
    except LoopIRError as error:
        raise LoopIRError(f"{error}\n\n{print_function(function)}") from None


class _Verifier:
    def __init__(self, function: Function, externals: dict[str, Signature] | None) -> None:
        self.function = function
        self.externals = externals
        self.buffers = set(function.buffers)
        self.visible: set[Value] = set(function.params)
        self.seen: set[Value] = set(function.params)
        self.checks: dict[type, Callable[[Any], None]] = {
            Value: self.value,
            Store: self.store,
            For: self.loop,
            While: self.while_loop,
            If: self.branch,
            Call: self.call,
            Callback: self.callback,
            Allocate: self.allocation,
            Check: self.check,
            Reload: self.reload,
            Segment: self.segment,
            Parallel: self.segment,
        }

    def run(self, segment: bool) -> None:
        names = [b.name for b in self.function.buffers]
        if len(set(names)) != len(names):
            raise LoopIRError(f"two buffers of one name: {sorted(names)}")
        for buffer in self.function.buffers:
            self.check_buffer(buffer)
        added = self.block(self.function.body)
        self.need(self.function.returns, "return")
        in_pieces = segment or any(isinstance(i, Segment) for i in self.function.body.items)
        for buffer in self.function.buffers:
            if not in_pieces:  # else sizes may be computed in another piece
                self.need([e for e in buffer.shape if isinstance(e, Value)], buffer.name)
        self.visible -= added

    def check_buffer(self, buffer: Buffer) -> None:
        if buffer.element not in EVERYTHING:
            raise LoopIRError(f"{buffer!r}: no backend stores {buffer.dtype}")
        for extent in buffer.shape:
            if isinstance(extent, int) and extent < 0:
                raise LoopIRError(f"{buffer!r}: negative extent in {buffer.shape}")
        if buffer.space in (WORKSPACE, PRIVATE) and buffer.nbytes is None:
            raise LoopIRError(f"{buffer!r}: a run-time size needs the heap")

    def block(self, block: Block) -> set[Value]:
        added: set[Value] = set()
        for item in block.items:
            self.need(operands(item), type(item).__name__.lower())
            self.item(item)
            for value in results(item):
                self.define(value, added, isinstance(item, Reload))
        return added

    def define(self, value: Value, added: set[Value], again: bool = False) -> None:
        if value in self.seen and not again:
            raise LoopIRError(f"{value!r} is defined twice")
        if value.dtype not in EVERYTHING:
            raise LoopIRError(f"{value!r}: not a scalar type")
        self.seen.add(value)
        self.visible.add(value)
        added.add(value)

    def need(self, values: Sequence[Value], where: str) -> None:
        for value in values:
            if value.op != "const" and value not in self.visible:
                raise LoopIRError(f"{value!r} is used in a {where} where it is not visible")

    def item(self, item: Item) -> None:
        check = self.checks.get(type(item))
        if check is not None:
            check(item)

    def store(self, item: Store) -> None:
        if item.value.dtype is not item.buffer.element or item.buffer.space in READ_ONLY:
            raise LoopIRError(f"store of {item.value!r} in {item.buffer!r}")
        self.access(item.buffer, item.offset)

    def check(self, item: Check) -> None:
        self.typed(item.ok, BOOL, "check")

    def allocation(self, item: Allocate) -> None:
        if item.buffer not in self.buffers or item.buffer.space != HEAP:
            raise LoopIRError(f"allocation of {item.buffer!r}")
        self.typed(item.count, INDEX, "size")

    def reload(self, item: Reload) -> None:
        if item.buffer not in self.buffers or item.buffer.element is not item.value.dtype:
            raise LoopIRError(f"reload of {item.value!r} from {item.buffer!r}")

    def segment(self, item: Segment | Parallel) -> None:
        if isinstance(item, Segment):
            given, wanted = item.buffers, item.function.received
            if [_layout(b) for b in given] != [_layout(b) for b in wanted]:
                raise LoopIRError(f"{item.function.name} gets {given}, where it expects {wanted}")
            if not self.buffers.issuperset(given):
                raise LoopIRError(f"{given} do not all belong to {self.function.name}")
        _Verifier(item.function, self.externals).run(segment=True)

    def value(self, value: Value) -> None:
        if value.op == "load":
            self.access(value.attr, value.args[0])
            expected: Any = value.attr.element
        elif value.op == "call":
            self.signature(value.attr, value.args, value.dtype)
            return
        elif value.op == "dim":
            expected = INDEX
        else:
            expected = check_types(value.op, value.args, value.attr)
        self.typed(value, expected, value.op)

    def typed(self, value: Value, dtype: Any, where: str) -> None:
        if value.dtype is not dtype:
            raise LoopIRError(f"{where}: {value!r} should be {short_name(dtype)}")

    def access(self, buffer: Buffer, offset: Value) -> None:
        if buffer not in self.buffers:
            raise LoopIRError(f"{buffer!r} does not belong to {self.function.name}")
        self.typed(offset, INDEX, "offset")
        size = buffer.size
        if offset.op == "const" and (offset.attr < 0 or (size is not None and offset.attr >= size)):
            raise LoopIRError(f"offset {offset.attr} is outside {buffer!r} of {size} elements")

    def loop(self, loop: For) -> None:
        self.typed(loop.lower, INDEX, "lower bound")
        self.typed(loop.upper, INDEX, "upper bound")
        if loop.step < 1:
            raise LoopIRError(f"loop with step {loop.step}")
        if loop.kind == PARALLEL and (loop.params or loop.step != 1):
            raise LoopIRError("a parallel loop with carries or steps")
        added: set[Value] = set()
        self.define(loop.index, added)
        for param in loop.params:
            self.define(param, added)
        added |= self.block(loop.body)
        self.need(loop.yields, "yield")
        self.same("carries", loop.inits, loop.params, loop.yields, loop.results)
        self.visible -= added

    def while_loop(self, loop: While) -> None:
        added: set[Value] = set()
        for param in loop.params:
            self.define(param, added)
        added |= self.block(loop.header)
        self.need((loop.predicate,), "predicate")
        self.typed(loop.predicate, BOOL, "predicate")
        added |= self.block(loop.body)
        self.need(loop.yields, "yield")
        self.same("carries", loop.inits, loop.params, loop.yields, loop.results)
        self.visible -= added

    def branch(self, branch: If) -> None:
        self.typed(branch.predicate, BOOL, "predicate")
        sides = ((branch.then, branch.then_values), (branch.otherwise, branch.else_values))
        for block, values in sides:
            added = self.block(block)
            self.need(values, "yield")
            self.visible -= added
        self.same("results", branch.then_values, branch.else_values, branch.results)

    def same(self, what: str, first: Sequence[Value], *others: Sequence[Value]) -> None:
        dtypes = [v.dtype for v in first]
        for values in others:
            if [v.dtype for v in values] != dtypes:
                raise LoopIRError(f"{what} of different types: {list(first)!r}, {list(values)!r}")

    def call(self, call: Call) -> None:
        for arg in call.args:
            if isinstance(arg, Pointer):
                self.access(arg.buffer, arg.offset)
        result = call.result.dtype if call.result is not None else None
        if call.leaves and (result is None or short_name(result) != "i32"):
            raise LoopIRError(f"{call.symbol}: a status is an int32")
        self.signature(call.symbol, call.args, result)

    def callback(self, item: Callback) -> None:
        for buffer in (*item.args, *item.outputs):
            if buffer not in self.buffers:
                raise LoopIRError(f"{buffer!r} does not belong to {self.function.name}")
        for buffer in item.outputs:
            if buffer.space in READ_ONLY:
                raise LoopIRError(f"callback {item.number} writes to the read-only {buffer!r}")

    def signature(self, symbol: str, args: Sequence[CallArgument], result: Any) -> None:
        if self.externals is None:
            return
        signature = self.externals.get(symbol)
        if signature is None:
            raise LoopIRError(f"{symbol} is not on the list of external functions")
        kinds = tuple(short_name(a.dtype) if isinstance(a, Value) else "ptr" for a in args)
        returned = "void" if result is None else short_name(result)
        if (kinds, returned) != signature:
            raise LoopIRError(f"{symbol} is {signature}, called as {(kinds, returned)}")


def _layout(buffer: Buffer) -> tuple[object, ...]:
    """What two buffers share if code for one is right for the other.

    Which run-time sizes they have does not matter: such code is given all numbers it computes with.
    """
    extents = [None if isinstance(n, Value) else n for n in (*buffer.shape, *buffer.strides)]
    return (buffer.dtype, len(buffer.shape), extents)
