"""Transposed reads: several rows of a result at a time, so that what they read stands together.

Before:                                    After:

    for %i in 0..40                            for %k in 0..5
        for %j in 0..40 simd                       for %j in 0..40 simd
            %v = load x[40 * %j + %i]                  %v0 = load x[40 * %j + 8 * %k]
            store y[40 * %i + %j] = %v                 ...
                                                       %v7 = load x[40 * %j + 8 * %k + 7]
                                                       store y[40 * (8 * %k) + %j] = %v0
                                                       ...

Each lane reads neighbours, which the code generator loads as one vector, and transposes those of
all lanes in registers (see `emit_strided`). One by one they would be gathered.
"""

from __future__ import annotations

from covector.compiler.strides import coefficient
from covector.core.config import config
from covector.loopir.builder import Builder
from covector.loopir.copying import Copy, used_in
from covector.loopir.ir import SERIAL, SIMD, For, Store, Value

ROWS = 8
"""Rows of the result made together."""

FAR = 8
"""Elements from one lane to the next, beyond which records are not loaded whole."""

MAX_ITEMS = 24
"""Items of a body beyond which its copies would be too long."""


def jam_last(b: Builder) -> None:
    """Makes several iterations of the loop that was just built together, if it reads transposed.

    Args:
        b: the builder; the last statement of its block is replaced.
    """
    items = b.block.items
    outer = b.block.last
    if not isinstance(outer, For) or b.lane is not None or "transposed_reads" in config.disable:
        return
    inner = _only_loop(outer)
    if inner is None or not _is_plain(outer, inner) or not _reads_transposed(outer, inner):
        return
    items.pop()
    count = (outer.trips or 0) // ROWS
    low, used = outer.lower.attr, used_in(outer)

    def several(number: Value) -> None:
        first = b.op("add", b.op("mul", number, ROWS), low)

        def body(place: Value) -> None:
            for row in range(ROWS):
                copy = Copy(b, used)
                copy.begin(outer, b.op("add", first, row), ())
                for item in outer.body.items[:-1]:
                    copy.item(item)
                copy.begin(inner, place, ())
                copy.block(inner.body)

        b.loop(inner.lower, inner.upper, body, kind=SIMD)

    b.loop(0, count, several, kind=SERIAL, independent=True)
    rest = Copy(b, used).body_of(outer)
    b.loop(low + count * ROWS, outer.upper, rest, kind=SERIAL, independent=True)


def _only_loop(outer: For) -> For | None:
    """The loop at the end of a loop that has nothing but values besides."""
    *values, last = outer.body.items or [None]
    if isinstance(last, For) and all([type(item) is Value for item in values]):
        return last
    return None


def _is_plain(outer: For, inner: For) -> bool:
    """Whether the iterations may run in any order, and it is known how many the outer loop has."""
    known = outer.lower.op == outer.upper.op == "const"
    if not known or outer.inits or inner.inits or inner.lower.depth or inner.upper.depth:
        return False
    if not outer.independent or outer.kind != SERIAL or inner.kind != SIMD or inner.width:
        return False
    items = inner.body.items
    flat = all([isinstance(item, Value | Store) for item in items]) and len(items) <= MAX_ITEMS
    return flat and (outer.trips or 0) >= ROWS and (inner.trips or ROWS) >= ROWS


def _reads_transposed(outer: For, inner: For) -> bool:
    written = {item.buffer for item in inner.body.items if isinstance(item, Store)}
    for item in inner.body.items:
        if isinstance(item, Value) and item.op == "load" and item.attr not in written:
            far = coefficient(item.args[0], inner.index)
            if far is not None and far > FAR and coefficient(item.args[0], outer.index) == 1:
                return True
    return False
