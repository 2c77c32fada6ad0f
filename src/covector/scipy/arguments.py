"""What functions of SciPy take: numbers of any dtype, promoted to one floating dtype."""

from __future__ import annotations

from typing import Any

from covector.core.primitive import Primitive
from covector.numpy.promote import broadcast, operand, promote_inexact


def floats(name: str, *values: Any) -> list[Any]:
    """Arguments in the floating (or complex) dtype they meet in.

    Args:
        name: of the function, for messages.
        values: arrays and numbers.
    """
    return promote_inexact(*[operand(v, name) for v in values])


def apply(primitive: Primitive, name: str, *values: Any) -> Any:
    """An elementwise operation on promoted arguments of shapes that broadcast."""
    return primitive(*broadcast(name, floats(name, *values)))
