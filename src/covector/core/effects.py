"""Effects: what an equation does besides computing its outputs.

Passes keep every equation with an effect, and keep ordered effects in their order.
"""

from __future__ import annotations


class Effect:
    """A kind of side effect.

    Args:
        name: how it prints in a program.
        ordered: whether two equations with this effect must keep their order.
    """

    __slots__ = ("name", "ordered")

    def __init__(self, name: str, ordered: bool) -> None:
        self.name = name
        self.ordered = ordered

    def __repr__(self) -> str:
        return self.name


IO = Effect("io", ordered=False)
ORDERED_IO = Effect("ordered_io", ordered=True)
DEBUG = Effect("debug", ordered=False)
ORDERED_DEBUG = Effect("ordered_debug", ordered=True)

BY_NAME = {effect.name: effect for effect in (IO, ORDERED_IO, DEBUG, ORDERED_DEBUG)}

Effects = frozenset[Effect]
NONE: Effects = frozenset()
