"""Where generated code looks whether it should stop: in loops that run for about a millisecond.

A loop of unknown length looks every so many iterations. If it ends before, it adds what it took to
the time that its function has spent since it last looked (see `Writer.spend`), so that short loops
inside long ones count too.
"""

from __future__ import annotations

import math

from covector.loopir import foreign
from covector.loopir.costs import operation_cost, statement_cost, trips_at_most
from covector.loopir.ir import Block, Call, Callback, For, Function, Value, While, children

INTERVAL = 1e6
"""Nanoseconds between polls, by estimate."""


def insert_polls(function: Function) -> None:
    """Sets `poll_every` of loops that may run longer than the interval.

    Args:
        function: changed in place.
    """
    _visit(function.body)


def _visit(block: Block) -> float:
    """Sets the polls inside a block, and estimates its time from one poll to the next."""
    total = 0.0
    for item in block.items:
        if type(item) is Value:
            total += INTERVAL if _is_foreign(item) else operation_cost(item)
            continue
        inner = sum(_visit(child) for child in children(item))
        if isinstance(item, For | While):
            total += _loop(item, inner)
        elif isinstance(item, Call | Callback):
            total += INTERVAL  # may take any time; looking costs nothing beside it
        else:
            total += inner or statement_cost(item)
    return total


def _is_foreign(value: Value) -> bool:
    """Whether it calls a function of the user's, which may take any time."""
    return value.op == "call" and foreign.find(str(value.attr)) is not None


def _loop(loop: For | While, body: float) -> float:
    trips = trips_at_most(loop) if isinstance(loop, For) else None
    if trips is not None and trips * body < INTERVAL:
        return trips * body
    interval = INTERVAL / max(body, 1.0)
    loop.poll_every = 1 << max(0, int(math.log2(max(interval, 1.0))))
    return body
