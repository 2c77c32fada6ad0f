"""Values that pieces of a function make again, where that takes less than passing them on.

A scalar that is read from a constant of the executable, perhaps negated, or what follows from a
run-time size in a few steps, would be stored in a frame by one piece and loaded by each other.
"""

from __future__ import annotations

from covector.loopir.ir import CONSTANT, Value

STEPS = frozenset({"neg", "add", "sub", "mul"})
"""Operations that take no longer than a load."""

MOST = 3
"""Values that are made for one."""


def recipe(value: Value) -> list[Value]:
    """How to have a value again.

    Args:
        value: defined elsewhere.

    Returns:
        What to make, in order, the value last; nothing if it had better be passed on.
    """
    made: dict[Value, None] = {}
    return list(made) if _make(value, made, MOST) else []


def _make(value: Value, made: dict[Value, None], most: int) -> bool:
    """Whether a value can be made in so many steps; notes what that takes."""
    if value.op == "const" or value in made:
        return True
    if most == 0 or len(made) == MOST:
        return False
    if value.op == "load":
        cheap = value.attr.space == CONSTANT and value.args[0].op == "const"
    elif value.op in STEPS:
        cheap = all([_make(a, made, most - 1) for a in value.args])
    else:
        cheap = value.op == "dim"
    if cheap:
        made[value] = None
    return cheap and len(made) <= MOST
