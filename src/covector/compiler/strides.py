"""How memory accesses move as a loop counts: what decides which loop of a nest runs in lanes."""

from __future__ import annotations

from covector.loopir.ir import SIMD, Block, For, Store, Value, children, walk


def coefficient(value: Value, index: Value) -> int | None:
    """By how much an index expression grows when a loop index grows by one.

    Args:
        value: an index value.
        index: of the loop.

    Returns:
        The constant, or `None` if it is not one.
    """
    if value is index:
        return 1
    if value.depth < index.depth or value.op in ("const", "dim"):
        return 0
    if value.op in ("add", "sub"):
        a, b = (coefficient(arg, index) for arg in value.args)
        if a is None or b is None:
            return None
        return a + b if value.op == "add" else a - b
    if value.op == "mul":
        a, b = (coefficient(arg, index) for arg in value.args)
        if a == 0 and b == 0:
            return 0
        for inner, other in ((a, value.args[1]), (b, value.args[0])):
            if inner is not None and other.op == "const":
                return inner * other.attr
        return None
    return 0 if all([coefficient(a, index) == 0 for a in value.args]) else None


def reads_contiguously(loop: For) -> bool:
    """Whether a load or store in a loop moves to the next element with each iteration."""
    return _contiguous(loop.body, loop.index)


def _contiguous(block: Block, index: Value) -> bool:
    for item in block.items:
        if isinstance(item, Value):
            if item.op == "load" and coefficient(item.args[0], index) == 1:
                return True
        elif isinstance(item, Store):
            if coefficient(item.offset, index) == 1:
                return True
        elif any(_contiguous(child, index) for child in children(item)):
            return True
    return False


def reads_apart(loop: For) -> bool:
    """Whether a load in a loop moves by more than to the next element with each iteration."""
    loads = (i for i in walk(loop.body) if isinstance(i, Value) and i.op == "load")
    return any(coefficient(load.args[0], loop.index) not in (0, 1) for load in loads)


def reads_records(loop: For) -> bool:
    """Whether a loop goes through the fields of records, and one inside it from record to record.

    Args:
        loop: the loop.

    Returns:
        True if some load moves to the next element with each iteration, and further with each
        iteration of a loop inside.
    """
    for inner in loop.body.items:
        if isinstance(inner, For):
            for item in inner.body.items:
                if isinstance(item, Value) and item.op == "load":
                    stride = coefficient(item.args[0], inner.index)
                    next_one = coefficient(item.args[0], loop.index) == 1
                    if next_one and stride is not None and stride > 1:
                        return True
    return False


def has_simd_loop(block: Block) -> bool:
    """Whether a block contains a loop that is meant to run in lanes."""
    return any(
        (isinstance(item, For) and item.kind == SIMD)
        or any(has_simd_loop(child) for child in children(item))
        for item in block.items
        if not isinstance(item, Value)
    )
