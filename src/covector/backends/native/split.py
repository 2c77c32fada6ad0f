"""Splitting: no LLVM function gets so large that compiling it takes more than linear time.

Before, a block of too many items:          After, with values that cross cuts in a frame:

    %1 = load x[0]                              run entry.1
    %2 = mul %1, %1                             run entry.2
    ...
    %900 = add %2, %899                     function entry.1
    store y[0] = %900                         %1 = load x[0]
                                              %2 = mul %1, %1
                                              ...
                                              store frame[0] = %2
                                            function entry.2
                                              %2 = reload frame[0]
                                              ...

Blocks inside are split first. Loops that run in lanes stay whole: their compile time is linear as
it is. Slots of a frame are used again when their value is dead.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from covector.backends.native.emit_lanes import plan_loop
from covector.backends.native.emit_ops import Target
from covector.backends.native.remade import recipe
from covector.loopir.ir import (
    INDEX,
    PARALLEL,
    PRIVATE,
    WORKSPACE,
    Block,
    Buffer,
    DType,
    For,
    Function,
    Item,
    Reload,
    Segment,
    Store,
    Value,
    While,
    children,
    closing,
    operands,
    results,
    touched,
)
from covector.loopir.printer import short_name

LIMIT = 500
"""Items of a function beyond which it is split."""

ALIGNMENT = 64
"""Bytes to whose multiples frames are aligned."""

SHORTEST = 300
"""Items of a segment from which on it may end where fewest values cross."""


FINE = 120
"""Items of a piece where a function of many loops is split so that they can be compiled at once."""


def split(function: Function, target: Target, limit: int = LIMIT, fine: bool = False) -> int:
    """Outlines straight-line stretches of a function into segments.

    Args:
        function: changed in place; frames are added to its workspace.
        target: the machine, which decides what runs in lanes.
        limit: items beyond which a function is split.
        fine: split a function of many loops between them into pieces of a part of this.

    Returns:
        How many segments there are.
    """
    splitter = _Splitter(function, target, limit)
    splitter.block(function.body, function.returns)
    if fine:
        splitter.between_loops(function.body, function.returns)
    return splitter.count


class _Splitter:
    def __init__(self, function: Function, target: Target, limit: int) -> None:
        self.function = function
        self.target = target
        self.limit = limit
        self.count = 0
        self.number = function.values
        self.indices: dict[int, Value] = {}
        self.parallel: For | None = None

    def block(self, block: Block, needed: Sequence[Value]) -> int:
        """Splits a block.

        Args:
            block: changed in place.
            needed: values that must be visible at its end.

        Returns:
            How many items it has afterwards, those of the blocks inside it included.
        """
        sizes = [1 if type(item) is Value else self.item(item) for item in block.items]
        total = sum(sizes)
        if total <= self.limit:
            return total
        cuts = choose_cuts(block.items, sizes, self.limit)
        if len(cuts) == 2 and len(block.items) == 1:
            return total
        outliner = _Outliner(self, block, cuts, needed)
        block.items = outliner.run()
        return len(block.items)

    def between_loops(self, block: Block, needed: Sequence[Value]) -> None:
        """Splits a block that is loops for the most part, where a call more takes no time."""
        sizes = [1 + sum(_count(child) for child in children(item)) for item in block.items]
        loops = sum(n for n, item in zip(sizes, block.items, strict=True) if isinstance(item, For))
        total = sum(sizes)
        if total < 2 * FINE or 2 * loops < total:
            return
        cuts = choose_cuts(block.items, sizes, FINE)
        if len(cuts) > 2:
            block.items = _Outliner(self, block, cuts, needed).run()

    def item(self, item: Item) -> int:
        """Splits the blocks inside an item and counts what is left."""
        if isinstance(item, For) and item.kind == PARALLEL:
            self.parallel = item
            self.block(item.body, ())
            self.parallel = None
            return 1  # it becomes a function of its own
        if isinstance(item, For):
            whole = 1 + _count(item.body)
            if whole <= self.limit or plan_loop(item, self.target) is not None:
                return whole
        size = 1
        for child, values in zip(children(item), closing(item), strict=True):
            needed = list(values)
            if isinstance(item, While) and child is item.header:
                needed += used_in(item.body)
                needed += item.yields
            size += self.block(child, needed)
        return size

    def segment(self) -> Function:
        self.count += 1
        return Function(f"{self.function.name}.{self.count}")

    def frame(self, dtype: DType, slots: int) -> Buffer:
        """A new frame buffer at the end of the workspace, or of a thread's own memory."""
        name = f"frame{self.count}.{short_name(dtype)}"
        return new_frame(self.function, name, dtype, slots, self.parallel)

    def index(self, number: int) -> Value:
        known = self.indices.get(number)
        if known is None:
            known = self.indices[number] = Value("const", (), number, INDEX, self.number, 0)
            self.number += 1
            self.function.values = self.number
        return known


def new_frame(
    function: Function, name: str, dtype: DType, slots: int, parallel: For | None = None
) -> Buffer:
    """A buffer in which values pass from one piece of a function to others.

    Args:
        function: gets the buffer, at the end of its workspace.
        name: of the buffer.
        dtype: of the values.
        slots: how many there are.
        parallel: the loop whose threads each need one of their own.

    Returns:
        The buffer.
    """
    buffer = Buffer(name, dtype, (slots,), WORKSPACE if parallel is None else PRIVATE, 0, (1,))
    buffer.alias_class = "frame"
    taken = function.workspace_bytes if parallel is None else parallel.private_bytes
    buffer.offset = -(-taken // ALIGNMENT) * ALIGNMENT
    end = buffer.offset + slots * dtype.itemsize
    if parallel is None:
        function.workspace_bytes = end
    else:
        parallel.private_bytes = end
    function.buffers.append(buffer)
    return buffer


def _count(block: Block) -> int:
    inside = [c for item in block.items if type(item) is not Value for c in children(item)]
    return len(block.items) + sum(map(_count, inside))


def used_in(block: Block) -> list[Value]:
    """Values that a block and those inside it read."""
    used: list[Value] = []
    for item in block.items:
        if type(item) is Value:  # most are
            used += item.args
            continue
        used += operands(item)
        for child, values in zip(children(item), closing(item), strict=True):
            used += values
            used += used_in(child)
    return used


def reads(item: Item) -> Sequence[Value]:
    """The values an item reads, in the blocks inside it too.

    Args:
        item: anything that stands in a block.

    Returns:
        Values, those defined inside the item and constants included.
    """
    if type(item) is Value:
        return item.args
    used = list(operands(item))
    for child, values in zip(children(item), closing(item), strict=True):
        used += values
        used += used_in(child)
    return used


def choose_cuts(items: Sequence[Item], sizes: Sequence[int], limit: int) -> list[int]:
    """Where to cut a list of items: near the limit, where few values cross.

    Args:
        items: of a block.
        sizes: of each.
        limit: greatest size of a segment, if items allow.

    Returns:
        Positions, from 0 to the number of items.
    """
    crossing = _crossing(items)
    shortest = limit * SHORTEST // LIMIT
    cuts, start = [0], 0
    while start < len(items):
        size, best, fewest = 0, start + 1, 1 << 60
        for end in range(start + 1, len(items) + 1):
            size += sizes[end - 1]
            if size > limit and end > start + 1:
                break
            if end == len(items):
                best = end
                break
            if size < shortest:
                best = end
            elif crossing[end] <= fewest:
                best, fewest = end, crossing[end]
        cuts.append(best)
        start = best
    return cuts


def _crossing(items: Sequence[Item]) -> list[int]:
    """For each position, how many values are defined before it and used from it on."""
    defined: dict[Value, int] = {}
    last: dict[Value, int] = {}
    for position, item in enumerate(items):
        if type(item) is Value:
            for value in item.args:
                last[value] = position
            defined[item] = position
            continue
        for value in reads(item):
            last[value] = position
        for value in results(item):
            defined[value] = position
    changes = [0] * (len(items) + 2)
    for value, position in defined.items():
        end = last.get(value, position)
        if end > position:
            changes[position + 1] += 1
            changes[end + 1] -= 1
    total = 0
    counts: list[int] = []
    for change in changes[: len(items) + 1]:
        total += change
        counts.append(total)
    return counts


class _Outliner:
    """Turns the items of one block into segments.

    Segments are numbered from 0; a value from outside the block counts as defined by segment -1,
    and one needed at the end of the block as used by segment number `end`.
    """

    def __init__(
        self, splitter: _Splitter, block: Block, cuts: Sequence[int], needed: Sequence[Value]
    ) -> None:
        self.splitter = splitter
        self.depth = block.depth
        self.pieces = [block.items[a:b] for a, b in itertools.pairwise(cuts)]
        self.end = len(self.pieces)
        self.maker: dict[Value, int] = {}
        self.last_user: dict[Value, int] = {}
        self.recipes: dict[Value, list[Value]] = {}
        self.find_crossings(needed)
        self.places = self.place()

    def find_crossings(self, needed: Sequence[Value]) -> None:
        inside: set[Value] = set()
        maker, last_user = self.maker, self.last_user
        for number, piece in enumerate(self.pieces):
            for item in piece:
                if type(item) is Value:
                    for value in item.args:
                        if maker.get(value) != number and self.crosses(value):
                            last_user[value] = number
                    maker[item] = number
                    continue
                inside.update(defined_inside(item))
                for value in reads(item):
                    if maker.get(value) != number and value not in inside and self.crosses(value):
                        last_user[value] = number
                for value in results(item):
                    maker[value] = number
        for value in needed:
            if value in self.maker:
                self.last_user[value] = self.end

    def crosses(self, value: Value) -> bool:
        """Whether a value made elsewhere passes through the frame; others are made again."""
        if value.op == "const":
            return False
        known = self.recipes.get(value)
        if known is None:
            known = self.recipes[value] = recipe(value)
        return not known

    def run(self) -> list[Any]:
        """The items that replace those of the block."""
        before = [self.save(v) for v in self.last_user if v not in self.maker]
        bodies = [self.outline(number, piece) for number, piece in enumerate(self.pieces)]
        after = [self.reload(v) for v, last in self.last_user.items() if last == self.end]
        return [*before, *bodies, *after]

    def save(self, value: Value) -> Store:
        buffer, slot = self.places[value]
        return Store(buffer, self.splitter.index(slot), value)

    def reload(self, value: Value) -> Reload:
        return Reload(value, *self.places[value])

    def place(self) -> dict[Value, tuple[Buffer, int]]:
        """A slot for each value that crosses a cut, free again after its last user."""
        slots: dict[Value, int] = {}
        counts: dict[DType, int] = {}
        free: dict[DType, list[int]] = {}
        busy: list[tuple[int, int, DType, int]] = []
        for order, value in enumerate(sorted(self.last_user, key=lambda v: self.maker.get(v, -1))):
            start, dtype = self.maker.get(value, -1), value.dtype
            while busy and busy[0][0] < start:
                _, _, other, slot = heapq.heappop(busy)
                heapq.heappush(free.setdefault(other, []), slot)
            available = free.setdefault(dtype, [])
            if available:
                slot = heapq.heappop(available)
            else:
                slot = counts.get(dtype, 0)
                counts[dtype] = slot + 1
            slots[value] = slot
            heapq.heappush(busy, (self.last_user[value], order, dtype, slot))
        frames = {dtype: self.splitter.frame(dtype, n) for dtype, n in counts.items()}
        return {value: (frames[value.dtype], slot) for value, slot in slots.items()}

    def outline(self, number: int, piece: Sequence[Any]) -> Segment:
        """A piece as a function: values are reloaded where first used, and saved once made."""
        body: list[Any] = []
        known: set[Value] = set()
        crossing = self.last_user
        for item in piece:
            for value in reads(item):
                if value in known or self.maker.get(value) == number:
                    continue
                if self.recipes.get(value):
                    again = [v for v in self.recipes[value] if v not in known]
                    body += again
                    known.update(again)
                elif value in crossing:
                    known.add(value)
                    body.append(self.reload(value))
            body.append(item)
            if type(item) is Value:
                if item in crossing:
                    body.append(self.save(item))
            else:
                body += [self.save(v) for v in results(item) if v in crossing]
        function = self.splitter.segment()
        function.body.items = body
        function.body.depth = self.depth
        function.buffers = list(dict.fromkeys(all_touched(body)))
        function.values = self.splitter.number
        return Segment(function)


def defined_inside(item: Item) -> list[Value]:
    """Values defined in the blocks inside an item."""
    found: list[Value] = []
    if isinstance(item, For):
        found += (item.index, *item.params)
    elif isinstance(item, While):
        found += item.params
    for child in children(item):
        for inner in child.items:
            if type(inner) is Value:
                found.append(inner)
                continue
            found += results(inner)
            found += defined_inside(inner)
    return found


def all_touched(items: Iterable[Item]) -> Iterable[Buffer]:
    """The buffers that items read or write, in the blocks and pieces inside them too."""
    for item in items:
        if type(item) is Value:
            if item.op == "load":
                yield item.attr
            continue
        yield from touched(item)
        if isinstance(item, Segment) and not item.buffers:
            yield from item.function.buffers
        for child in children(item):
            yield from all_touched(child.items)
