"""Temporary arrays that fused loops have left behind: gone, or as large as one iteration needs.

Before:                                    After:

    w0: f32[4096], w1: f32[4096,1024]          w1: f32[1024]
    for %i in 0..4096                          for %i in 0..4096
        store w0[%i] = %m
        for %j in 0..1024                          for %j in 0..1024
            store w1[1024 %i + %j] = %e                store w1[%j] = %e
        for %j in 0..1024                          for %j in 0..1024
            %x = load w1[1024 %i + %j]                 %x = load w1[%j]
"""

from __future__ import annotations

from collections import Counter

from covector.loopir.builder import Builder
from covector.loopir.fusion import own_part
from covector.loopir.ir import (
    HEAP,
    WORKSPACE,
    Allocate,
    Block,
    Buffer,
    For,
    Item,
    Store,
    Value,
    children,
    touched,
    walk,
)


def shrink(b: Builder) -> None:
    """Removes arrays that nothing reads, and shortens those that one loop has for itself.

    Args:
        b: the builder of a function that is complete but not finished.
    """
    function = b.function
    read, touches = _read_and_touched(function.body)
    dead = {x for x in touches if x.space in (WORKSPACE, HEAP) and x not in read}
    if dead:
        _remove_stores(function.body, dead)
    own = Counter({x: n for x, n in touches.items() if x.space == WORKSPACE and x not in dead})
    for loop in [item for item in walk(function.body) if isinstance(item, For)]:
        found: dict[Buffer, list[_Access]] = {}
        _find_accesses(loop.body, own, found)
        for buffer, accesses in found.items():
            if len(accesses) == own[buffer]:
                _shorten(b, loop, buffer, accesses)
    function.buffers = [x for x in function.buffers if x not in dead]
    places = {x: n for n, x in enumerate(function.buffers)}
    for item in walk(function.body):
        if isinstance(item, Allocate):
            item.site = places[item.buffer]


def _read_and_touched(body: Block) -> tuple[set[Buffer], Counter[Buffer]]:
    """Which buffers are read, or passed on, and how often each is touched."""
    read: set[Buffer] = set()
    touches: Counter[Buffer] = Counter()
    for item in walk(body):
        for buffer in touched(item):
            touches[buffer] += 1
            if not isinstance(item, Store | Allocate):
                read.add(buffer)
    return read, touches


def _remove_stores(block: Block, dead: set[Buffer]) -> None:
    kept: list[Item] = []
    for item in block.items:
        if isinstance(item, Store | Allocate) and item.buffer in dead:
            continue
        inner = () if isinstance(item, Value) else children(item)
        for child in inner:
            _remove_stores(child, dead)
        if not isinstance(item, For) or not _is_idle(item):
            kept.append(item)
    block.items = kept


def _is_idle(loop: For) -> bool:
    return not loop.inits and all([isinstance(each, Value) for each in walk(loop.body)])


_Access = tuple[Block, Item, Value]


def _find_accesses(block: Block, own: Counter[Buffer], found: dict[Buffer, list[_Access]]) -> None:
    """Notes the loads and stores of some buffers in a block and those inside it, in order."""
    for item in block.items:
        if type(item) is Value:
            if item.op == "load" and item.attr in own:
                found.setdefault(item.attr, []).append((block, item, item.args[0]))
        elif isinstance(item, Store):
            if item.buffer in own:
                found.setdefault(item.buffer, []).append((block, item, item.offset))
        else:
            for child in children(item):
                _find_accesses(child, own, found)


def _shorten(b: Builder, loop: For, buffer: Buffer, accesses: list[_Access]) -> None:
    """Gives all iterations of a loop the same part of a buffer, if none needs another's."""
    parts = {own_part(b, loop, offset) for _, _, offset in accesses}
    part = parts.pop()
    first = accesses[0][1]
    if parts or part is None or part[1] or not isinstance(first, Store) or buffer.lane is not None:
        return
    stride = part[0]
    if buffer.size is None or stride >= buffer.size or loop.lower.op != "const":
        return
    for block, item, offset in accesses:
        place = _without(b, block, item, offset, loop.index, stride)
        if isinstance(item, Store):
            item.offset = place
        else:
            assert isinstance(item, Value)
            item.args = (place,)
    count = stride // (2 if buffer.element is not buffer.dtype else 1)
    buffer.shape, buffer.strides = (count,), (1,)


def _without(
    b: Builder, block: Block, item: Item, offset: Value, index: Value, stride: int
) -> Value:
    """An offset less what a loop's index adds to it, put before an item."""
    if offset is index:
        return b.index(0)
    if offset.op == "add" and _stride_of(offset.args[1]) == (index, stride):
        return offset.args[0]
    if offset.op == "add" and _stride_of(offset.args[0]) == (index, stride):
        return offset.args[1]
    skipped = b.inserted("mul", (index, b.index(stride)), block.depth)
    place = b.inserted("sub", (offset, skipped), block.depth)
    position = next(k for k, each in enumerate(block.items) if each is item)
    block.items[position:position] = [skipped, place]
    return place


def _stride_of(value: Value) -> tuple[Value, int]:
    """An index times a constant as the pair of them."""
    if value.op == "mul" and value.args[1].op == "const":
        return value.args[0], value.args[1].attr
    return value, 1
