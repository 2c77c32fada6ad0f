"""Where generated code looks whether it should stop: in loops that run for about a millisecond."""

from __future__ import annotations

import math

from covector.loopir.ir import (
    Block,
    Call,
    Callback,
    For,
    Function,
    Item,
    Segment,
    Value,
    While,
    children,
)
from covector.loopir.scalars import TABLE

INTERVAL = 1e6
"""Nanoseconds between polls, by estimate."""

_COSTS = {
    **{name: 5.0 for name, spec in TABLE.items() if spec.elementary},
    **dict.fromkeys(("div", "rem", "sqrt"), 3.0),
    "call": 20.0,
}
"""Nanoseconds of operations by rule of thumb; of others 0.3."""


def insert_polls(function: Function) -> None:
    """Sets `poll_every` of loops that may run longer than the interval.

    Args:
        function: changed in place.
    """
    _visit(function.body)


def _visit(block: Block) -> float:
    """Sets the polls inside a block, and estimates its time from one poll to the next."""
    total = 0.0
    cost_of = _COSTS.get
    for item in block.items:
        if type(item) is Value:
            total += cost_of(item.op, 0.3)
            continue
        inner = sum(_visit(child) for child in children(item))
        if isinstance(item, For | While):
            total += _loop(item, inner)
        else:
            total += inner or _cost(item)
    return total


def _loop(loop: For | While, body: float) -> float:
    trips = loop.trips if isinstance(loop, For) else None
    if trips is not None and trips * body < INTERVAL:
        return trips * body
    interval = INTERVAL / max(body, 1.0)
    loop.poll_every = 1 << max(0, int(math.log2(max(interval, 1.0))))
    return body


def _cost(item: Item) -> float:
    """Nanoseconds of a statement by rule of thumb."""
    if isinstance(item, Call | Callback):
        return 1000.0
    return 10.0 if isinstance(item, Segment) else 0.5
