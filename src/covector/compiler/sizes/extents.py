"""Symbolic sizes as values of the loop IR."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from covector.core.dims import Composite, Dim, DimSize
from covector.core.program import Program, subprograms
from covector.loopir.builder import Builder
from covector.ops import indices as ix


class Extents:
    """Computes symbolic sizes from the numbers that a compiled function is called with.

    Args:
        builder: of the function.
        symbols: in the order of the numbers.
    """

    def __init__(self, builder: Builder, symbols: Sequence[str]) -> None:
        self._builder = builder
        self._position = {name: k for k, name in enumerate(symbols)}
        self._known: dict[Dim, Any] = {}

    def compute_all(self, program: Program) -> None:
        """Computes the sizes of all arrays of a program here, so that each is one value."""
        for size in sizes_of(program):
            self.of(size)

    def of(self, size: DimSize) -> Any:
        """A size as an `int` or a value."""
        if type(size) is not Dim:
            return size
        found = self._known.get(size)
        if found is None:
            found = self._polynomial(size)
            if self._builder.depth == 0:  # elsewhere it is known in a block only
                self._known[size] = found
        return found

    def _polynomial(self, size: Dim) -> Any:
        total: Any = 0
        for monomial, coefficient in size.terms:
            term: Any = coefficient
            for atom, power in monomial:
                for _ in range(power):
                    term = ix.mul(self._builder, term, self._atom(atom))
            total = ix.add(self._builder, total, term)
        return total

    def _atom(self, atom: str | Composite) -> Any:
        if isinstance(atom, str):
            return self._builder.dim(self._position[atom])
        values = [self.of(n) for n in atom.operands]
        if atom.op == "//":
            return self._quotient(*values)
        total, *rest = [self._builder.index(v) if type(v) is int else v for v in values]
        for value in rest:
            total = self._builder.op(atom.op, total, value)
        return total

    def _quotient(self, a: Any, b: Any) -> Any:
        """Rounded down; sizes are divided by sizes, but what is divided may be below 0."""
        builder = self._builder
        positive = ix.div(builder, ix.at_least(builder, a, 0), b)
        negated = ix.add(builder, ix.sub(builder, 0, a), ix.sub(builder, b, 1))
        negative = ix.sub(builder, 0, ix.div(builder, ix.at_least(builder, negated, 0), b))
        return ix.add(builder, positive, negative)


def sizes_of(program: Program) -> Iterator[Dim]:
    """The symbolic sizes of a program's arrays and parameters, nested programs included."""
    avals = [v.aval for v in program.inputs]
    avals += [v.aval for e in program.equations for v in e.outputs]
    for aval in avals:
        for size in aval.shape:
            if type(size) is Dim:
                yield size
    for equation in program.equations:
        yield from _in_parameter(tuple(equation.params.values()))
        for nested in subprograms(equation.params):
            yield from sizes_of(nested)


def _in_parameter(value: Any) -> Iterator[Dim]:
    if type(value) is Dim:
        yield value
    elif type(value) is tuple:
        for item in cast("tuple[Any, ...]", value):
            yield from _in_parameter(item)
