"""Loops over the same range become one, if each iteration needs nothing of the others.

Before:                                    After:

    for %i in 0..4096                          for %i in 0..4096
        %m = for %j in 0..1024 ...                 %m = for %j in 0..1024 ...
        store w0[%i] = %m                          %s = for %j in 0..1024 carry ...
    for %i in 0..4096                                  %e = exp (x[%i, %j] - %m)
        for %j in 0..1024                              store w1[%i, %j] = %e
            store w1[%i, %j] = exp (...)               yield ... + %e
    for %i in 0..4096
        %s = for %j in 0..1024 carry ...

What is passed from one loop to the next stays in a register, or in the nearest cache.
"""

from __future__ import annotations

from typing import NamedTuple

from covector.core.config import config
from covector.loopir.builder import Builder
from covector.loopir.copying import Copy, can_copy, used_in
from covector.loopir.costs import SIMD_GAIN, block_cost, item_cost
from covector.loopir.ir import (
    PARALLEL,
    SERIAL,
    SIMD,
    Block,
    Buffer,
    For,
    Item,
    Store,
    Value,
    walk,
)

MAX_ITEMS = 400
"""Items of two loops beyond which they stay apart."""

WORTH_LANES = 0.5
"""Part of a row's time from which on what is computed for the whole row is worth lanes of its own:
in the loop over rows it is computed for one after the other."""


def fuse_last(b: Builder) -> None:
    """Fuses the loop that was just built with the one before it, if it may be and it is worthwhile.

    Args:
        b: the builder; the last statements of its block are replaced.
    """
    items = b.block.items
    second = b.block.last
    if not isinstance(second, For) or b.lane is not None or "row_fusion" in config.disable:
        return
    place = len(items) - 2
    while place >= 0 and isinstance(items[place], Value | Store):
        place -= 1
    first = items[place] if place >= 0 else None
    if not isinstance(first, For) or not _alike(first, second):
        return
    bodies = list(walk(first.body)), list(walk(second.body))
    items_in_both = [*bodies[0], *bodies[1]]
    if len(items_in_both) > MAX_ITEMS or not all(map(can_copy, items_in_both)):
        return
    accesses = [_accesses(loop, body) for loop, body in zip((first, second), bodies, strict=True)]
    if not _share(*accesses) or not _independent(b, (first, second), *accesses):
        return
    before, after = _around(items[place + 1 : -1], first, second, *accesses) or (None, None)
    if before is None or after is None:
        return
    del items[place:]
    items += before
    _build(b, first, second, _forwarded(*accesses))
    items += after


def _alike(first: For, second: For) -> bool:
    """Whether two loops have the same range and may run in the same manner."""
    if (first.lower, first.upper, first.step) != (second.lower, second.upper, second.step):
        return False
    if first.kind == second.kind:
        return True
    return _alone(first) and _alone(second) and not _loses_lanes(first, second)


def _loses_lanes(first: For, second: For) -> bool:
    """Whether one of two loops runs in lanes, and would be much slower in the rows of the other."""
    lanes, rows = (first, second) if first.kind == SIMD else (second, first)
    if lanes.kind != SIMD or not _has_simd_loop(rows.body):
        return False
    if any([isinstance(item, For) for item in walk(lanes.body)]):
        return True
    along = sum([item_cost(item) for item in rows.body.items if isinstance(item, For)])
    once = block_cost(rows.body) - along + block_cost(lanes.body)
    return once * (1 - 1 / SIMD_GAIN) > WORTH_LANES * along


def _alone(loop: For) -> bool:
    """Whether the iterations of a loop may run in any order, or at once."""
    return loop.independent or (loop.kind in (SIMD, PARALLEL) and not loop.inits)


class _Access(NamedTuple):
    """A load or store of a loop.

    Attributes:
        item: which.
        offset: its offset.
        top: whether it stands in the loop's own block.
    """

    item: Item
    offset: Value
    top: bool

    @property
    def writes(self) -> bool:
        return isinstance(self.item, Store)


_Accesses = dict[Buffer, list[_Access]]


def _accesses(loop: For, body: list[Item]) -> _Accesses:
    own = {id(item) for item in loop.body.items}
    found: _Accesses = {}
    for item in body:
        if isinstance(item, Store):
            found.setdefault(item.buffer, []).append(_Access(item, item.offset, id(item) in own))
        elif isinstance(item, Value) and item.op == "load":
            access = _Access(item, item.args[0], id(item) in own)
            found.setdefault(item.attr, []).append(access)
    return found


def _share(first: _Accesses, second: _Accesses) -> bool:
    return not first.keys().isdisjoint(second)


def _independent(b: Builder, loops: tuple[For, For], first: _Accesses, second: _Accesses) -> bool:
    """Whether what both loops touch, and one of them writes, is each iteration's own."""
    for buffer in first.keys() & second.keys():
        both = [first[buffer], second[buffer]]
        if not any([a.writes for accesses in both for a in accesses]):
            continue
        strides: set[object] = set()
        for loop, accesses in zip(loops, both, strict=True):
            for access in accesses:
                found = own_part(b, loop, access.offset)
                if found is None:
                    return False
                strides.add(found)
        if len(strides) > 1:
            return False
    return True


def own_part(
    b: Builder, loop: For, offset: Value
) -> tuple[int, frozenset[tuple[Value, int]]] | None:
    """Where the part of a buffer is that an access of an iteration stays in.

    Args:
        b: the builder.
        loop: the loop.
        offset: of the access.

    Returns:
        How far apart the parts of two iterations are, and where the first one begins, as
        multiples of values from outside of the loop; `None` if it may touch others' parts.
    """
    low = high = 0
    stride = 0
    base: dict[Value, int] = {}
    terms: list[tuple[Value, int]] = [(offset, 1)]
    while terms:
        value, factor = terms.pop()
        if value is loop.index:
            stride += factor
        elif value.op == "const":
            low, high = low + factor * value.attr, high + factor * value.attr
        elif value.op in ("add", "sub"):
            sign = 1 if value.op == "add" else -1
            terms += [(value.args[0], factor), (value.args[1], sign * factor)]
        elif value.op == "mul" and value.args[1].op == "const":
            terms.append((value.args[0], factor * value.args[1].attr))
        elif value.depth < loop.body.depth:
            base[value] = base.get(value, 0) + factor
        else:
            ends = [factor * end for end in b.bounds(value)]
            low, high = low + min(ends), high + max(ends)
    if stride <= 0 or low < 0 or high >= stride:
        return None
    return stride, frozenset(base.items())


def _around(
    between: list[Item], first: For, second: For, reads: _Accesses, others: _Accesses
) -> tuple[list[Item], list[Item]] | None:
    """What stands between two loops, in two parts: what may come first, and what comes after both.

    `None` if the second loop needs something that must come after the first one.
    """
    written = {b for b, accesses in reads.items() if any(a.writes for a in accesses)}
    stored = {item.buffer for item in between if isinstance(item, Store)}
    if not stored.isdisjoint(others) or not stored.isdisjoint(reads):
        return None
    late: set[Value] = set(first.results)
    before: list[Item] = []
    after: list[Item] = []
    for item in between:
        if isinstance(item, Value) and late.isdisjoint(item.args):
            if item.op == "load" and (item.attr in written or item.attr in stored):
                return None
            before.append(item)
        else:
            if isinstance(item, Value):
                if item.op == "load":
                    return None
                late.add(item)
            after.append(item)
    needed = used_in(second)
    return None if not late.isdisjoint(needed) else (before, after)


def _forwarded(first: _Accesses, second: _Accesses) -> set[Buffer]:
    """Buffers of which the first loop stores one element in each iteration, and the second none."""
    return {
        buffer
        for buffer, accesses in first.items()
        if len(accesses) == 1
        and accesses[0].writes
        and accesses[0].top
        and not any([a.writes for a in second.get(buffer, ())])
    }


def _build(b: Builder, first: For, second: For, forwarded: set[Buffer]) -> None:
    copy = Copy(b, used_in(first) | used_in(second), forwarded, after_loop=fuse_last)
    count = len(first.inits)

    def body(index: Value, *carries: Value) -> list[Value]:
        copy.begin(first, index, carries[:count])
        copy.begin(second, index, carries[count:])
        copy.block(first.body)
        copy.block(second.body)
        return copy.all([*first.yields, *second.yields])

    inits = [*first.inits, *second.inits]
    alone = _alone(first) and _alone(second)
    kind = first.kind if first.kind == second.kind else SERIAL
    step = first.step
    b.loop(first.lower, first.upper, body, inits, step=step, kind=kind, independent=alone)
    loop = b.block.items[-1]
    assert isinstance(loop, For)
    if loop.kind == SIMD and _has_simd_loop(loop.body):
        loop.kind = SERIAL
    # What reads the results of either loop goes on reading the same values.
    loop.results = [*first.results, *second.results]


def _has_simd_loop(block: Block) -> bool:
    return any(isinstance(item, For) and item.kind == SIMD for item in walk(block))
