"""How long loop IR takes, by rule of thumb: for decisions that a factor of two does not change."""

from __future__ import annotations

from collections.abc import Callable

from covector.loopir.ir import (
    SIMD,
    Block,
    Call,
    Callback,
    For,
    Item,
    Segment,
    Value,
    While,
    children,
)
from covector.loopir.scalars import TABLE

_OPERATIONS = {
    **{name: 5.0 for name, spec in TABLE.items() if spec.elementary},
    **dict.fromkeys(("div", "rem", "sqrt"), 3.0),
    "call": 20.0,
}
"""Nanoseconds of operations; of others `_SIMPLE`."""

_SIMPLE = 0.3

SIMD_GAIN = 8.0
"""By how much lanes make a loop faster."""

UNKNOWN_TRIPS = 100
"""Iterations of a loop of which it is not known."""


def operation_cost(value: Value) -> float:
    """Nanoseconds of one value.

    Args:
        value: an operation, load or call.

    Returns:
        The estimate.
    """
    return _OPERATIONS.get(value.op, _SIMPLE)


def statement_cost(item: Item) -> float:
    """Nanoseconds of a statement without blocks.

    Args:
        item: a store, call, check ...

    Returns:
        The estimate.
    """
    if isinstance(item, Call | Callback):
        return 1000.0
    return 10.0 if isinstance(item, Segment) else 0.5


def trips_at_most(loop: For) -> int | None:
    """How many iterations a loop has at most.

    Args:
        loop: any loop.

    Returns:
        The number, or a bound for a loop over a block of a longer range; `None` if unknown.
    """
    trips = loop.trips
    if trips is not None:
        return trips
    lower, upper = loop.lower, loop.upper
    for bound in upper.args if upper.op == "min" else ():
        if bound.op == "const" and lower.op == "const":
            return bound.attr - lower.attr
        if bound.op == "add" and bound.args[0] is lower and bound.args[1].op == "const":
            return bound.args[1].attr
    return None


def block_cost(block: Block, trips_of: Callable[[For], int | None] = trips_at_most) -> float:
    """Nanoseconds of a block with what is inside it.

    Args:
        block: any block.
        trips_of: how many iterations loops have, as far as that is known.

    Returns:
        The estimate, both sides of branches included.
    """
    total = 0.0
    for item in block.items:
        if type(item) is Value:
            total += operation_cost(item)
            continue
        inner = sum([block_cost(child, trips_of) for child in children(item)])
        if isinstance(item, For):
            trips = trips_of(item)
            inner *= UNKNOWN_TRIPS if trips is None else trips
            inner /= SIMD_GAIN if item.kind == SIMD else 1.0
        elif isinstance(item, While):
            inner *= UNKNOWN_TRIPS
        total += inner or statement_cost(item)
    return total
