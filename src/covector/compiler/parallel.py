"""Which parallel loops are worth several threads, and how many iterations a thread takes at once.

Lowerings mark loops of independent iterations as parallel wherever they find them. Of loops inside
each other one is chosen; what takes less time than waking threads pays for stays serial, and so
does what threads must not do: callbacks belong to the calling thread, and libraries have threads of
their own.
"""

from __future__ import annotations

import math
from collections import Counter

from covector.core.config import config
from covector.loopir.costs import block_cost
from covector.loopir.ir import (
    HEAP,
    PARALLEL,
    SERIAL,
    Block,
    Buffer,
    Call,
    Callback,
    For,
    Function,
    Value,
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

_THREAD_SAFE = ("cv_fft", "cv_rfft", "cv_irfft", "cv_sort", "cv_argsort")
"""Functions called by generated code that know no threads."""


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
                item.kind = SERIAL
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
    return all(_is_safe(item) for item in walk(loop.body) if isinstance(item, Call | Callback))


def _has_parallel(block: Block) -> bool:
    return any(isinstance(item, For) and item.kind == PARALLEL for item in walk(block))


def _is_safe(item: Call | Callback) -> bool:
    return isinstance(item, Call) and item.symbol.startswith(_THREAD_SAFE)


def _touches(block: Block) -> list[Buffer]:
    return [buffer for item in walk(block) for buffer in touched(item)]
