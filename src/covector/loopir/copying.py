"""Copies of loops, built anew so that what is known of their indices folds."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from covector.loopir.builder import Builder
from covector.loopir.ir import (
    Block,
    Buffer,
    For,
    If,
    Item,
    Store,
    Value,
    children,
    closing,
    operands,
    walk,
)


def can_copy(item: Item) -> bool:
    """Whether an item can be copied: all values, stores, counted loops and branches."""
    return isinstance(item, Value | Store | If | For)


def used_in(loop: For) -> set[Value]:
    """The values that something in a loop reads, or its yields."""
    used: set[Value] = set()
    for item in (loop, *walk(loop.body)):
        used.update(operands(item))
        for values in closing(item):
            used.update(values)
    return used


class Copy:
    """Copies what is in some loops, dropping values that nothing reads.

    Args:
        b: where the copies go.
        used: the values that are read.
        forwarded: buffers of which each element is stored once, in the block of the copied loops
            itself, before it is read: loads give what was stored.
        after_loop: called when a nested loop has been copied.
    """

    def __init__(
        self,
        b: Builder,
        used: set[Value],
        forwarded: Collection[Buffer] = (),
        after_loop: Callable[[Builder], None] | None = None,
    ) -> None:
        self._b = b
        self._used = used
        self._names: dict[Value, Value] = {}
        self._forwarded = forwarded
        self._after_loop = after_loop
        self._stored: dict[tuple[Buffer, Value], Value] = {}

    def begin(self, loop: For, index: Value, carries: Any) -> None:
        """Names the index and carries of a loop."""
        self._names[loop.index] = index
        self._names.update(zip(loop.params, carries, strict=True))

    def body_of(self, loop: For) -> Callable[..., list[Value]]:
        """What `Builder.loop` takes for the body of a copy of a loop."""

        def body(index: Value, *carries: Value) -> list[Value]:
            self.begin(loop, index, carries)
            self.block(loop.body)
            return self.all(loop.yields)

        return body

    def name(self, value: Value) -> Value:
        """The copy of a value; itself if it is from outside."""
        return self._names.get(value, value)

    def all(self, values: Any) -> list[Value]:
        """The copies of values."""
        return [self.name(v) for v in values]

    def block(self, block: Block) -> None:
        """Copies what is in a block to where the builder is."""
        self._b.block.origins.update(block.origins)
        origins, outer = self._b.function.origins, self._b.origin
        for item in block.items:
            if origins is not None:
                self._b.origin = origins.of(item)
            self.item(item)
        if origins is not None:
            self._b.origin = outer

    def item(self, item: Item) -> None:
        """Copies one item to where the builder is."""
        if type(item) is Value:
            if item in self._used:
                self._names[item] = self._value(item)
        elif isinstance(item, Store):
            offset, value = self.name(item.offset), self.name(item.value)
            self._b.store_linear(item.buffer, offset, value)
            if item.buffer in self._forwarded:
                self._stored[item.buffer, offset] = value
        else:
            assert isinstance(item, For | If)
            self._names.update(zip(item.results, self._statement(item), strict=True))

    def _value(self, value: Value) -> Value:
        if value.op == "load":
            offset = self.name(value.args[0])
            known = self._stored.get((value.attr, offset))
            return self._b.load_linear(value.attr, offset) if known is None else known
        args = self.all(value.args)
        if value.op == "call":
            return self._b.pure_call(value.attr, value.dtype, *args)
        return self._b.op(value.op, *args, attr=value.attr)

    def _statement(self, item: For | If) -> list[Value]:
        b = self._b
        if isinstance(item, For):
            lower, upper, *inits = self.all(operands(item))
            body = self.body_of(item)
            results = b.loop(
                lower,
                upper,
                body,
                inits,
                step=item.step,
                kind=item.kind,
                width=item.width,
                independent=item.independent,
            )
            if self._after_loop is not None:
                self._after_loop(b)
            return results
        sides = zip(children(item), closing(item), strict=True)
        then, otherwise = [self._side(block, values) for block, values in sides]
        return b.if_(self.name(item.predicate), then, otherwise)

    def _side(self, block: Block, values: Any) -> Callable[[], list[Value]]:
        def side() -> list[Value]:
            self.block(block)
            return self.all(values)

        return side
