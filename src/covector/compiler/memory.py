"""Memory planning: places in one workspace for the buffers a function uses.

A buffer is live from the first to the last statement of the function's body that touches it, loops
counting as one statement. Buffers that are never live together may share a place. Those that only
one parallel loop touches are placed in memory that each of its threads has for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from covector.loopir.ir import (
    PARALLEL,
    PRIVATE,
    WORKSPACE,
    Block,
    Buffer,
    For,
    Function,
    touched_within,
    walk,
)

ALIGNMENT = 64


def plan(function: Function) -> None:
    """Gives every workspace buffer of a function its offset.

    Buffers that share a place get one alias class, so that later passes do not take accesses to
    them for independent.

    Args:
        function: changed in place: buffers' `offset` and `alias_class`, `workspace_bytes`.
    """
    touches = _count_touches(function.body)
    for loop in walk(function.body):
        if isinstance(loop, For) and loop.kind == PARALLEL:
            own = _count_touches(loop.body)
            private = [b for b, n in own.items() if b.space == WORKSPACE and n == touches[b]]
            for buffer in private:
                buffer.space = PRIVATE
            loop.private_bytes = _place(private, loop.body, loop.private_bytes)
    buffers = [b for b in function.buffers if b.space == WORKSPACE and b.offset is None]
    function.workspace_bytes = _place(buffers, function.body, function.workspace_bytes)


def _count_touches(body: Block) -> Counter[Buffer]:
    return Counter(buffer for item in body.items for buffer in touched_within(item))


def _place(buffers: Sequence[Buffer], body: Block, taken: int) -> int:
    """Gives buffers their offsets by when statements of a block touch them.

    Args:
        buffers: without offsets.
        body: outside of which none of them matters.
        taken: bytes in use already.

    Returns:
        Bytes in use afterwards.
    """
    spans = _live_spans(body)
    slots: list[_Slot] = []
    for buffer in sorted(buffers, key=lambda b: spans.get(b, (0, 0))[0]):
        first, last = spans.get(buffer, (0, 0))
        nbytes = _aligned(buffer.nbytes or 0)
        slot = _free_slot(slots, first, nbytes)
        if slot is None:
            slot = _Slot(nbytes)
            slots.append(slot)
        slot.until = last
        slot.buffers.append(buffer)
    end = _aligned(taken)
    for slot in slots:
        for buffer in slot.buffers:
            buffer.offset = end
            if len(slot.buffers) > 1:
                buffer.alias_class = slot
        end += slot.nbytes
    return end


class _Slot:
    """A place in the workspace, used by one buffer after the other."""

    __slots__ = ("buffers", "nbytes", "until")

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.until = -1
        self.buffers: list[Buffer] = []


def _free_slot(slots: list[_Slot], first: int, nbytes: int) -> _Slot | None:
    """The smallest free slot that is large enough, without wasting most of it."""
    free = [s for s in slots if s.until < first and nbytes <= s.nbytes <= 2 * nbytes]
    return min(free, key=lambda s: s.nbytes, default=None)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _live_spans(body: Block) -> dict[Buffer, tuple[int, int]]:
    spans: dict[Buffer, tuple[int, int]] = {}
    for position, item in enumerate(body.items):
        for buffer in touched_within(item):
            first = spans[buffer][0] if buffer in spans else position
            spans[buffer] = (first, position)
    return spans
