"""What is known of the values of a function before it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from covector.extend.loopir import (
    Allocate,
    Block,
    Buffer,
    Call,
    For,
    Function,
    Pointer,
    Store,
    Value,
    While,
    children,
    closing,
    operands,
    walk,
)


def used_once(function: Function, live: set[Value]) -> set[Value]:
    """Values that are used once, in the block where they are defined.

    They may be computed where they are used. Bounds of loops and sizes of buffers, which are looked
    at again and again, are left out.

    Args:
        function: any function.
        live: see `live_values`.
    """
    blocks = list(_blocks(function.body))
    home = {item: b for b in blocks for item in b.items if isinstance(item, Value)}
    uses: Counter[Value] = Counter(function.returns)
    named: set[Value] = set()

    def count(values: Iterable[Value], block: Block, again: bool = False) -> None:
        for value in values:
            uses[value] += 1
            if again or home.get(value) is not block:
                named.add(value)

    for block in blocks:
        for item in block.items:
            if isinstance(item, Value) and item not in live:
                continue
            count(operands(item), block, isinstance(item, For | While | Allocate))
            for child, values in zip(children(item), closing(item), strict=True):
                count(values, child)
    return {v for v, number in uses.items() if number == 1} - named


def live_values(function: Function) -> set[Value]:
    """Values that something needs."""
    found: set[Value] = set()
    pending = list(function.returns)
    for item in walk(function.body):
        if not isinstance(item, Value):
            pending += operands(item)
            for values in closing(item):
                pending += values
    while pending:
        value = pending.pop()
        if value not in found:
            found.add(value)
            pending += value.args
    return found


def used_buffers(function: Function) -> set[Buffer]:
    """Buffers that something reads, writes or passes on."""
    found: set[Buffer] = set()
    for item in walk(function.body):
        if isinstance(item, Value):
            if item.op == "load":
                found.add(item.attr)
        elif isinstance(item, Store | Allocate):
            found.add(item.buffer)
        elif isinstance(item, Call):
            found |= {a.buffer for a in item.args if isinstance(a, Pointer)}
    return found


def _blocks(block: Block) -> Iterator[Block]:
    yield block
    for item in block.items:
        for child in children(item):
            yield from _blocks(child)
