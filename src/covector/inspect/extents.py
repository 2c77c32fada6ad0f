"""Sizes and lengths of loops in numbers, where compiled code has them as run-time values."""

from __future__ import annotations

from collections.abc import Sequence

from covector.loopir.costs import trips_at_most
from covector.loopir.ir import Buffer, For, Value
from covector.loopir.scalars import TABLE


class Extents:
    """Evaluates what depends on the sizes that code is called with.

    Args:
        sizes: what it is called with; `None` for one that is not known.
    """

    def __init__(self, sizes: Sequence[int | None]) -> None:
        self._sizes = sizes
        self._known: dict[Value, int | None] = {}

    def number(self, value: Value) -> int | None:
        """The number that an index value is; `None` if it depends on more than sizes."""
        if value not in self._known:
            self._known[value] = self._number(value)
        return self._known[value]

    def _number(self, value: Value) -> int | None:
        if value.op == "const":
            return int(value.attr)
        if value.op == "dim":
            number: int = value.attr
            return self._sizes[number]
        spec = TABLE.get(value.op)
        if spec is None or spec.evaluate is None or not value.args:
            return None
        operands = [self.number(a) for a in value.args]
        return None if None in operands else int(spec.evaluate(value.dtype, *operands))

    def trips(self, loop: For) -> int | None:
        """How many iterations a loop has at most; `None` if unknown."""
        known = trips_at_most(loop)
        if known is not None:
            return known
        lower, upper = self.number(loop.lower), self.number(loop.upper)
        if lower is None:
            return None
        if upper is None and loop.upper.op == "min":
            bounds = [self.number(a) for a in loop.upper.args]
            upper = min([b for b in bounds if b is not None], default=None)
        return None if upper is None else max(0, -(-(upper - lower) // loop.step))

    def shape(self, buffer: Buffer) -> list[int | None]:
        """The extents of a buffer."""
        return [e if isinstance(e, int) else self.number(e) for e in buffer.shape]

    def nbytes(self, buffer: Buffer) -> int | None:
        """The size of a buffer; `None` if unknown."""
        if buffer.nbytes is not None:
            return buffer.nbytes
        total = buffer.dtype.itemsize
        for extent in self.shape(buffer):
            if extent is None:
                return None
            total *= extent
        return total
