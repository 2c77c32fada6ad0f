"""Unification of sizes: which numbers of a traced program are the same unknown.

Each leading axis of an input begins as a symbol of its own, and so does every axis that an
operation creates. Operations that need equal sizes bind symbols to each other, or to a number. A
symbol remembers the number it was traced with, so that giving it up is always possible.
"""

from __future__ import annotations

from collections.abc import Sequence

from covector.core.dims import Dim, DimSize, symbol


class Sizes:
    """Symbols, the numbers they were traced with, and what they are bound to."""

    __slots__ = ("_bound", "_created", "_values")

    def __init__(self) -> None:
        self._values: dict[str, int] = {}
        self._created: set[str] = set()
        self._bound: dict[str, DimSize] = {}

    @property
    def values(self) -> dict[str, int]:
        """The number of each symbol."""
        return self._values

    def of_input(self, value: int) -> Dim:
        """A symbol for an axis of an input."""
        name = f"n{len(self._values)}"
        self._values[name] = value
        return symbol(name)

    def created(self, value: int) -> Dim:
        """A symbol for an axis that an operation makes; left alone, it is the number in the end."""
        name = f"n{len(self._values)}"
        self._values[name] = value
        self._created.add(name)
        return symbol(name)

    def resolve(self, size: DimSize) -> DimSize:
        """A size with all that is known of its symbols put in."""
        while type(size) is Dim:
            known = {s: self._bound[s] for s in size.symbols if s in self._bound}
            if not known:
                return size
            size = size.substitute(known)
        return size

    def settle(self, size: DimSize) -> DimSize:
        """The final form of a size: axes that nothing related to an input are numbers."""
        size = self.resolve(size)
        while type(size) is Dim:
            made = [s for s in size.symbols if s in self._created]
            if not made:
                break
            for name in made:
                self._bound[name] = self._values[name]
            size = self.resolve(size)
        return size

    def value(self, size: DimSize) -> int:
        """The number a size was traced with."""
        return size.evaluate(self._values) if type(size) is Dim else int(size)

    def fix(self, *sizes: DimSize) -> None:
        """Gives the symbols of sizes up: they are the numbers they were traced with."""
        for size in map(self.resolve, sizes):
            if type(size) is Dim:
                for name in size.symbols:
                    self._bound.setdefault(name, self._values[name])

    def equal(self, a: DimSize, b: DimSize) -> bool:
        """Makes two sizes one, if they are of the same number.

        Returns:
            Whether they are.
        """
        a, b = self.resolve(a), self.resolve(b)
        if a is b or a == b:
            return True
        if self.value(a) != self.value(b):
            return False
        difference = a - b
        if not (type(difference) is Dim and self._solve(difference)):
            self.fix(a, b)
        return True

    def all_equal(self, shapes: Sequence[Sequence[DimSize]]) -> None:
        """Makes shapes of one rank equal, axis by axis; their numbers are."""
        for axis in zip(*shapes, strict=True):
            for size in axis[1:]:
                if not self.equal(axis[0], size):
                    self.fix(axis[0], size)

    def _solve(self, zero: Dim) -> bool:
        """Binds a symbol so that a polynomial vanishes; created ones rather than inputs'."""
        linear: list[tuple[bool, str, int]] = []
        for monomial, coefficient in zero.terms:
            if len(monomial) == 1 and abs(coefficient) == 1:
                atom, power = monomial[0]
                if isinstance(atom, str) and power == 1:
                    linear.append((atom not in self._created, atom, coefficient))
        linear.sort(key=lambda found: (found[0], -_number(found[1])))
        for _, name, coefficient in linear:
            rest = zero - coefficient * symbol(name)
            answer: DimSize = -rest if coefficient == 1 else rest
            if type(answer) is not Dim or name not in answer.symbols:
                self._bound[name] = answer
                return True
        return False


def _number(name: str) -> int:
    """When a symbol was made: of two inputs' symbols the first one stays."""
    return int(name[1:])
