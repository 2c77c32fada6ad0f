"""Traffic with memory that caches cannot hide: results stored past them, rows fetched ahead.

A line that is stored is read first, unless the store says that it will not be needed soon. Large
results that the program does not read again are stored so, where whole aligned vectors are.

The machine fetches the lines of a row ahead as it is read, but not the next row. A loop over rows
that reads each row in several loops has the time between: the second of them asks for the next,
unless it writes results, with which that would compete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import gcd

from covector.backends.native.emit_lanes import Plan
from covector.backends.native.emit_ops import Target
from covector.compiler.strides import coefficient
from covector.core.config import config
from covector.loopir.ir import (
    RESULT,
    SIMD,
    Block,
    Buffer,
    For,
    Function,
    Store,
    Value,
    children,
    touched,
    walk,
)

LARGE_RESULT = 1 << 24
"""Bytes of a result from which on it is stored past the caches."""

LARGE_ARRAY = 1 << 22
"""Bytes of an array from which on rows are fetched ahead: what does not stay in nearer caches."""

ROW_BYTES = (1 << 12, 1 << 14)
"""Of rows that are fetched ahead: shorter ones the machine fetches in time, and of longer ones it
waits for the first lines only."""

LINE = 64
"""Bytes of a cache line, and to how many memory of results is aligned (`CV_ALIGNMENT`)."""

FENCE = "  call void @llvm.x86.sse.sfence()"
"""After which other threads see what was stored past the caches, as they see other stores."""


def streamed_buffers(functions: Iterable[Function], target: Target) -> frozenset[Buffer]:
    """The results that are stored past the caches.

    Args:
        functions: all of a module.
        target: the machine.

    Returns:
        Large buffers that nothing reads or hands on.
    """
    if target.vector_bits < 256 or "streaming_stores" in config.disable:
        return frozenset()  # x86-64 with AVX or more has whole lines of a store or two
    functions = list(functions)
    large = {b for f in functions for b in f.buffers if _is_large_result(b)}
    if large:
        for item in [i for f in functions for i in walk(f.body)]:
            if not isinstance(item, Store):
                large.difference_update(touched(item))
    return frozenset(large)


def _is_large_result(buffer: Buffer) -> bool:
    return (
        buffer.space == RESULT
        and buffer.alias_class is None
        and (buffer.nbytes or 0) >= LARGE_RESULT
    )


def loops_by_index(function: Function) -> dict[Value, For]:
    """The loops of a function by the value that counts."""
    return {item.index: item for item in walk(function.body) if isinstance(item, For)}


def divisor(value: Value, loops: Mapping[Value, For], plan: Plan) -> int:
    """A number that divides an index in every iteration of the loops around.

    Args:
        value: the index.
        loops: by the value that counts.
        plan: of the loop that runs in lanes: what counts there is that of the first lane.

    Returns:
        The number; 0 if the index is 0.
    """
    loop = loops.get(value)
    if loop is not None:
        step = plan.lanes if plan.strides.get(value) == 1 else loop.step
        return gcd(divisor(loop.lower, loops, plan), step)
    if value.op == "const":
        return abs(int(value.attr))
    if value.op in ("mul", "add", "sub", "min", "max"):
        a, b = [divisor(arg, loops, plan) for arg in value.args]
        return a * b if value.op == "mul" else gcd(a, b)
    return 1


def stream_alignment(item: Store, plan: Plan, loops: Mapping[Value, For], target: Target) -> int:
    """Whether the vectors of a store in lanes are whole and aligned.

    Args:
        item: a store to neighbouring elements.
        plan: of its loop.
        loops: of the function, by the value that counts.
        target: the machine.

    Returns:
        The bytes of a vector; 0 if they are not.
    """
    size, width = item.buffer.element.itemsize, target.vector_bits // 8
    place = divisor(item.offset, loops, plan) * size
    return 0 if place % width or plan.lanes * size % width else width


def rows_ahead(function: Function) -> dict[Value, int]:
    """Loads that ask for an element of the next row, too.

    Args:
        function: any.

    Returns:
        How many elements further that is.
    """
    ahead: dict[Value, int] = {}
    if "rows_ahead" not in config.disable:
        _look_ahead(function.body, ahead)
    return ahead


def _look_ahead(block: Block, ahead: dict[Value, int]) -> None:
    for item in block.items:
        if type(item) is Value:
            continue
        if isinstance(item, For) and item.kind != SIMD and item.step == 1:
            _look_ahead_in(item, ahead)
        for child in children(item):
            _look_ahead(child, ahead)


def _look_ahead_in(outer: For, ahead: dict[Value, int]) -> None:
    """Notes the loads of the second loop that reads the rows of a large array."""
    seen: dict[tuple[Buffer, int], int] = {}
    for inner in outer.body.items:
        if not isinstance(inner, For) or inner.kind != SIMD or inner.trips is None:
            continue
        writes = any([isinstance(i, Store) and i.buffer.space == RESULT for i in inner.body.items])
        rows: dict[tuple[Buffer, int], Value] = {}
        for item in inner.body.items:
            if isinstance(item, Value) and item.op == "load":
                distance = _next_row(item, inner, outer)
                if distance is not None:
                    rows.setdefault((item.attr, distance), item)
        for row, load in rows.items():
            seen[row] = seen.get(row, 0) + 1
            if seen[row] == 2 and not writes:
                ahead[load] = row[1]


def _next_row(load: Value, inner: For, outer: For) -> int | None:
    """How far the next row is, if a loop reads a row from its first element to its last."""
    buffer: Buffer = load.attr
    if (buffer.nbytes or 0) < LARGE_ARRAY:
        return None
    row, size = inner.trips or 0, buffer.element.itemsize
    if not ROW_BYTES[0] <= row * size <= ROW_BYTES[1]:
        return None
    if coefficient(load.args[0], inner.index) != 1:
        return None
    distance = coefficient(load.args[0], outer.index)
    return distance if distance is not None and distance >= row else None
