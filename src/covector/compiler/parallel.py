"""Which loops several threads share, and how many iterations a thread takes at once.

Lowerings mark loops of independent iterations as parallel wherever they find them; `share` does so
for the nests of the schedule. In the end `choose` decides. Of loops inside each other one is
chosen; what takes less time than waking threads pays for stays serial, and so do callbacks, which
belong to the calling thread. Calls of BLAS and LAPACK use no threads but that which makes them.

Nothing here depends on how many threads there are: so results do not either.
"""

from __future__ import annotations

import math
from collections import Counter

from covector.core.config import config
from covector.loopir.builder import Builder
from covector.loopir.costs import SIMD_GAIN, block_cost
from covector.loopir.ir import (
    HEAP,
    PARALLEL,
    SERIAL,
    SIMD,
    Block,
    Buffer,
    Callback,
    For,
    Function,
    Value,
    While,
    children,
    touched,
    walk,
)

WORTHWHILE = 40_000.0
"""Nanoseconds from which on a loop runs on several threads, by estimate."""

PIECE = 10_000.0
"""Nanoseconds that a thread takes at once, by estimate."""

FEW = 8
"""Iterations below which a parallel loop inside is preferred."""

MANY = 64
"""Iterations that are enough for all threads; loops inside those of fewer are looked at first."""

BLOCKS = (64, 16384)
"""The least and greatest number of neighbouring elements that a thread takes at once. The least is
one vector of the narrowest type, so that no thread needs masks but for the last elements."""

LONG_REDUCTION = 1 << 16
"""Elements of a reduction from which on threads share it."""


def share(builder: Builder) -> None:
    """Makes loops of independent iterations parallel where that is worth it.

    Args:
        builder: of a function that is complete but not finished.
    """
    _share_in(builder, builder.function.body)


def _share_in(builder: Builder, block: Block) -> None:
    for position, item in enumerate(block.items):
        if type(item) is Value:
            continue
        if isinstance(item, For) and item.kind == PARALLEL:
            continue
        if isinstance(item, For) and _is_shared(builder, block, position, item):
            continue
        for child in children(item):
            _share_in(builder, child)


def _is_shared(builder: Builder, block: Block, position: int, loop: For) -> bool:
    """Whether a loop has become parallel; those inside are left alone then."""
    trips = loop.trips
    alone = loop.independent or (loop.kind == SIMD and not loop.params)
    if not alone or trips is None:
        return False
    if trips * block_cost(loop.body) < WORTHWHILE:
        return True  # nor is what is inside
    if _has_parallel(loop.body) or (trips < MANY and _is_loop_around(loop, 4 * WORTHWHILE)):
        return False
    if loop.kind != SIMD and _has_loops(loop.body):
        loop.kind = PARALLEL
    else:
        _share_blocks(builder, block, position, loop)
    return True


def _is_loop_around(loop: For, cost: float) -> bool:
    """Whether the last thing in a loop is another one that takes some time."""
    inner = loop.body.last
    if not isinstance(inner, For) or inner.params or inner.trips is None:
        return False
    return inner.trips * block_cost(inner.body) >= cost


def _has_loops(block: Block) -> bool:
    return any(isinstance(item, For | While) for item in walk(block))


def _share_blocks(builder: Builder, block: Block, position: int, loop: For) -> None:
    """Puts a parallel loop over blocks of neighbouring elements around a loop over elements."""
    trips = loop.trips or 0
    cost = block_cost(loop.body) / (SIMD_GAIN if loop.kind == SIMD else 1.0)
    size = block_size(trips, PIECE / max(cost, 1e-3))
    if size < trips:
        builder.in_blocks(block, position, size)


def block_size(extent: int, wanted: float) -> int:
    """Into how large blocks to divide neighbouring elements.

    Args:
        extent: how many there are.
        wanted: about how many make one block.

    Returns:
        A multiple of the least size, which divides the extent where that is possible.
    """
    least, most = BLOCKS
    top = min(max(int(wanted), least), most) // least * least
    for size in range(top, top // 4, -least):
        if extent % size == 0:
            return size
    return top


def choose(function: Function) -> None:
    """Leaves the loops parallel that shall be, and makes the others serial.

    Args:
        function: changed in place: `kind` and `grain` of its loops.
    """
    heap = Counter(b for b in _touches(function.body) if b.space == HEAP)
    _visit(function.body, heap, "threads" not in config.disable)


def _visit(block: Block, heap: Counter[Buffer], allowed: bool) -> None:
    for item in block.items:
        if type(item) is Value:
            continue
        inside = allowed
        if isinstance(item, For) and item.kind == PARALLEL:
            if allowed and _qualifies(item, heap):
                inside = False
                item.grain = max(1, math.ceil(PIECE / max(block_cost(item.body), 1.0)))
            else:
                item.kind, item.independent = SERIAL, True
        for child in children(item):
            _visit(child, heap, inside)


def _qualifies(loop: For, heap: Counter[Buffer]) -> bool:
    trips = loop.trips
    if trips is not None and trips * block_cost(loop.body) < WORTHWHILE:
        return False
    if trips is not None and trips < FEW and _has_parallel(loop.body):
        return False
    own = Counter(b for b in _touches(loop.body) if b.space == HEAP)
    if any([own[buffer] == heap[buffer] - 1 for buffer in own]):
        return False  # an array of each iteration, of which there is only one: see `Allocate`
    return not any(isinstance(item, Callback) for item in walk(loop.body))


def _has_parallel(block: Block) -> bool:
    return any(isinstance(item, For) and item.kind == PARALLEL for item in walk(block))


def _touches(block: Block) -> list[Buffer]:
    return [buffer for item in walk(block) for buffer in touched(item)]
