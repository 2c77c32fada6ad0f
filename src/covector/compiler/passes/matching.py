"""Finding a pattern in a program: both are graphs of equations, compared from their results on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from covector.core.avals import same_type
from covector.core.program import Atom, Equation, Literal, Program, Variable, param_key
from covector.ops.nested import definitions

COMMUTATIVE = frozenset(
    {"add", "add_any", "and", "eq", "max", "min", "mul", "ne", "or", "xor"},
)
"""Primitives whose operands may change places."""

Bound = dict[Variable, Atom]
"""What variables of a pattern stand for, those in its middle too."""


class Pattern:
    """A program of one result to look for.

    Args:
        program: the pattern, simplified as programs are where it is looked for.
        exact: whether parameters, literals, shapes and dtypes have to be the same. Without, only
            the graph of operations counts.
        ordered: whether operands of commutative operations have to be in the same order.

    Attributes:
        root: the equation that gives its result.
    """

    def __init__(self, program: Program, exact: bool, ordered: bool) -> None:
        self.program = program
        self.inputs = list(program.inputs)
        self.equations = definitions(program)
        (result,) = program.outputs
        assert type(result) is Variable
        self.result = result
        self.root = self.equations[result]
        self._exact = exact
        self._ordered = ordered

    def matches(self, equation: Equation, defined: Mapping[Variable, Equation]) -> Iterator[Bound]:
        """The ways in which an equation gives the pattern's result.

        Args:
            equation: what is asked about.
            defined: the equations of the program's variables.
        """
        if equation.primitive is not self.root.primitive:
            return
        position = list(self.root.outputs).index(self.result)
        yield from self._found([(self.result, equation.outputs[position])], {}, defined)

    def matched(self, bound: Bound, defined: Mapping[Variable, Equation]) -> list[Equation]:
        """The program's equations that a match consists of, each once."""
        found = {defined[bound[v]]: None for v in self.equations if v in bound}  # type: ignore[index]
        return list(found)

    def _found(
        self,
        pending: Sequence[tuple[Atom, Atom]],
        bound: Bound,
        defined: Mapping[Variable, Equation],
    ) -> Iterator[Bound]:
        if not pending:
            yield bound
            return
        (wanted, atom), *rest = pending
        if isinstance(wanted, Literal):
            if self._is_literal(wanted, atom):
                yield from self._found(rest, bound, defined)
            return
        known = bound.get(wanted)
        if known is not None:
            if same_atom(known, atom):
                yield from self._found(rest, bound, defined)
            return
        equation = self.equations.get(wanted)
        if equation is None:  # an operand
            if not self._exact or wanted.aval == atom.aval:
                yield from self._found(rest, {**bound, wanted: atom}, defined)
            return
        made = defined.get(atom) if type(atom) is Variable else None
        if made is None or not self._is_alike(equation, made):
            return
        if equation.outputs.index(wanted) != made.outputs.index(atom):  # type: ignore[arg-type]
            return
        bound = {**bound, **dict(zip(equation.outputs, made.outputs, strict=True))}
        for operands in self._orders(equation):
            pairs = list(zip(operands, made.inputs, strict=True))
            yield from self._found([*pairs, *rest], bound, defined)

    def _is_alike(self, wanted: Equation, found: Equation) -> bool:
        if wanted.primitive is not found.primitive or len(wanted.inputs) != len(found.inputs):
            return False
        if not self._exact:
            return len(wanted.outputs) == len(found.outputs)
        pairs = zip(wanted.outputs, found.outputs, strict=True)
        return all([same_type(a.aval, b.aval) for a, b in pairs]) and param_key(
            wanted.params
        ) == param_key(found.params)

    def _is_literal(self, wanted: Literal, atom: Atom) -> bool:
        if not isinstance(atom, Literal):
            return False
        return not self._exact or same_atom(wanted, atom)

    def _orders(self, equation: Equation) -> list[Sequence[Atom]]:
        inputs = equation.inputs
        commutes = equation.primitive.name in COMMUTATIVE and not self._ordered
        return [inputs, inputs[::-1]] if commutes and inputs[0] is not inputs[1] else [inputs]


def same_atom(a: Atom, b: Atom) -> bool:
    """Whether two atoms are one variable, or equal constants."""
    if a is b:
        return True
    if not (isinstance(a, Literal) and isinstance(b, Literal) and same_type(a.aval, b.aval)):
        return False
    return a.value is b.value or a.value._value.tobytes() == b.value._value.tobytes()


def shape_of(program: Program) -> Any:
    """What two patterns share that find the same graphs of operations."""
    numbers: dict[Variable, int] = {v: k for k, v in enumerate(program.inputs)}
    lines: list[Any] = []
    for equation in program.equations:
        atoms = tuple([numbers.get(a, -1) for a in equation.inputs])  # type: ignore[arg-type]
        for variable in equation.outputs:
            numbers[variable] = len(numbers)
        lines.append((equation.primitive.name, atoms, len(equation.outputs)))
    return tuple(lines)
