"""Memory planning: places in one workspace for the buffers a function uses.

A buffer is live from the first to the last statement of the function's body that touches it, loops
counting as one statement. Buffers that are never live together may share a place.
"""

from __future__ import annotations

from collections.abc import Iterator

from covector.loopir.ir import WORKSPACE, Block, Buffer, Function, Item, children, touched

ALIGNMENT = 64


def plan(function: Function) -> None:
    """Gives every workspace buffer of a function its offset.

    Buffers that share a place get one alias class, so that later passes do not take accesses to
    them for independent.

    Args:
        function: changed in place: buffers' `offset` and `alias_class`, `workspace_bytes`.
    """
    spans = _live_spans(function.body)
    buffers = [b for b in function.buffers if b.space == WORKSPACE and b.offset is None]
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
    end = _aligned(function.workspace_bytes)
    for slot in slots:
        for buffer in slot.buffers:
            buffer.offset = end
            if len(slot.buffers) > 1:
                buffer.alias_class = slot
        end += slot.nbytes
    function.workspace_bytes = end


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
        for buffer in _touched(item):
            first = spans[buffer][0] if buffer in spans else position
            spans[buffer] = (first, position)
    return spans


def _touched(item: Item) -> Iterator[Buffer]:
    yield from touched(item)
    for block in children(item):
        for inner in block.items:
            yield from _touched(inner)
