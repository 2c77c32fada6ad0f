"""Loops whose range is split where conditions on their index change.

Before:                                    After:

    for %i in 0..1024                          store y[0] = 0.0
        %c = ge %i, 1                          for %i in 1..1024
        %j = max (%i - 1), 0                       store y[%i] = load x[%i - 1]
        %v = load x[%j]
        store y[%i] = select %c, %v, 0.0

Padding, concatenation and rolling become conditions like these. In each piece they are constants,
and clamped indices count on evenly, so that its accesses run in lanes without masks or gathers.
"""

from __future__ import annotations

import itertools

from covector.loopir.builder import Builder
from covector.loopir.copying import Copy, can_copy, used_in
from covector.loopir.ir import (
    INDEX,
    SIMD,
    For,
    Item,
    Value,
    walk,
)

LONG = 32
"""Iterations that some piece must have for a loop to be split."""
SHORT = 8
"""Iterations below which neighbouring pieces stay together."""
MAX_PIECES = 5
UNROLLED = 160
"""Items in copies of a body without loops, up to which a short piece is unrolled."""
MAX_ITEMS = 4000
"""Items of a loop and its copies together, beyond which it stays whole."""
LINE = 16
"""Where the first long piece of a loop in lanes begins: its stores stay within cache lines."""

_COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
_CUTTING = _COMPARISONS | {"min", "max"}


def split_last(b: Builder) -> None:
    """Splits the loop that was just built, if it is worthwhile.

    Args:
        b: the builder; the last statement of its block is replaced by those of the pieces.
    """
    items = b.block.items
    loop = b.block.last
    if not isinstance(loop, For) or loop.inits or loop.step != 1 or b.lane is not None:
        return
    if loop.lower.op != "const" or loop.upper.op != "const":
        return
    low, high = loop.lower.attr, loop.upper.attr
    if high - low < 2 * LONG:
        return
    body = list(walk(loop.body))
    pieces = _pieces(low, high, _cuts(body, loop.index, low, high), loop.kind == SIMD)
    if len(pieces) < 2 or len(pieces) * len(body) > MAX_ITEMS or not all(map(can_copy, body)):
        return
    items.pop()
    nested = any(isinstance(item, For) for item in body)
    used = used_in(loop)
    for first, last in pieces:
        copy = Copy(b, used)
        each = copy.body_of(loop)
        short = last - first < SHORT and (last - first) * len(body) <= UNROLLED
        if short and not nested:
            for i in range(first, last):
                each(b.index(i))
        else:
            b.loop(
                first,
                last,
                each,
                kind=loop.kind,
                width=loop.width,
                independent=loop.independent,
            )


def _cuts(body: list[Item], index: Value, low: int, high: int) -> list[int]:
    """Where in a range the outcome of a comparison changes."""
    cuts: set[int] = set()
    for item in body:
        if type(item) is Value and item.op in _CUTTING and item.args[0].dtype is INDEX:
            x, y = item.args
            if y.op != "const":
                continue
            scale, offset = _affine(x, index)
            if abs(scale) == 1:
                place = scale * (y.attr - offset)
                cuts.update(_sides(item.op, place, scale))
    return sorted([c for c in cuts if low < c < high])


def _sides(op: str, place: int, scale: int) -> tuple[int, ...]:
    """The first indices of the pieces around the one at which both operands are equal."""
    if op in ("eq", "ne"):
        return place, place + 1
    equal_above = (op in ("ge", "lt", "max")) == (scale > 0)
    return (place,) if equal_above else (place + 1,)


def _affine(value: Value, index: Value) -> tuple[int, int]:
    """The factor and offset of an index expression in one loop index; factor 0 for others."""
    if value is index:
        return 1, 0
    if value.op in ("add", "sub") and value.args[1].op == "const":
        scale, offset = _affine(value.args[0], index)
        return scale, offset + (1 if value.op == "add" else -1) * value.args[1].attr
    if value.op == "sub" and value.args[0].op == "const":
        scale, offset = _affine(value.args[1], index)
        return -scale, value.args[0].attr - offset
    return 0, 0


def _pieces(low: int, high: int, cuts: list[int], in_lanes: bool) -> list[tuple[int, int]]:
    """The pieces of a range, short neighbours joined; one if it is not worthwhile."""
    ends = [low, *cuts, high]
    pieces: list[tuple[int, int]] = []
    for first, last in itertools.pairwise(ends):
        if pieces and last - first < SHORT and pieces[-1][1] - pieces[-1][0] < SHORT:
            pieces[-1] = pieces[-1][0], last
        else:
            pieces.append((first, last))
    if len(pieces) > MAX_PIECES or max([q - p for p, q in pieces]) < LONG:
        return [(low, high)]
    if in_lanes and len(pieces) > 1:
        first, last = pieces[1]
        if pieces[0][1] - pieces[0][0] < SHORT and first < LINE and last - LINE >= LONG:
            pieces[1:2] = [(first, LINE), (LINE, last)]
    return pieces
