"""Short loops around long ones are unrolled, so that the long ones fuse into one.

Before:                                    After:

    for %c in 0..3                             %s, %t, %u = for %j in 0..1024 carry ...
        %s = for %j in 0..1024 carry ...           ... x[3 %j], x[3 %j + 1], x[3 %j + 2]
            ... x[3 %j + %c]                   store y[3 %i] = %s
        store y[3 %i + %c] = %s                store y[3 %i + 1] = %t
                                               store y[3 %i + 2] = %u

Sums for each component of a vector share the work that does not depend on the component, and read
whole records instead of one field in three.
"""

from __future__ import annotations

from covector.core.config import config
from covector.loopir.builder import Builder
from covector.loopir.copying import Copy, can_copy, used_in
from covector.loopir.fusion import MAX_ITEMS, fuse_last
from covector.loopir.ir import For, walk

SHORT = 4
"""Iterations up to which a loop is unrolled."""


def unroll_last(b: Builder) -> None:
    """Unrolls the loop that was just built, if it is short and there are loops in it.

    Args:
        b: the builder; the last statement of its block is replaced by the copies.
    """
    items = b.block.items
    loop = b.block.last
    if not isinstance(loop, For) or b.lane is not None or "row_fusion" in config.disable:
        return
    trips = loop.trips
    if trips is None or trips > SHORT or loop.inits or not _around_one(loop):
        return
    body = list(walk(loop.body))
    if trips * len(body) > MAX_ITEMS or not all(map(can_copy, body)):
        return
    items.pop()
    copy = Copy(b, used_in(loop), after_loop=fuse_last)
    each = copy.body_of(loop)
    for k in range(trips):
        each(b.index(loop.lower.attr + k * loop.step))


def _around_one(loop: For) -> bool:
    """Whether a loop's own block contains one other loop, and that no further ones."""
    inner = [item for item in loop.body.items if isinstance(item, For)]
    return len(inner) == 1 and not any(isinstance(item, For) for item in walk(inner[0].body))
