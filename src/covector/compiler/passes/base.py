"""What passes share: the protocol, and rewriting with substitution."""

from __future__ import annotations

from typing import Protocol

from covector.core.program import Atom, Equation, Literal, Program, Variable


class Pass(Protocol):
    """A program pass."""

    @property
    def name(self) -> str:
        """For profiles and dumps."""
        ...

    def run(self, program: Program) -> Program:
        """The rewritten program; the argument is left alone."""
        ...


Substitution = dict[Variable, Atom]


def substitute(atom: Atom, names: Substitution) -> Atom:
    """What stands for an atom after a rewrite, substitutions of substitutes followed."""
    while not isinstance(atom, Literal):
        after = names.get(atom)
        if after is None:
            break
        atom = after
    return atom


def with_inputs(equation: Equation, inputs: list[Atom]) -> Equation:
    """The equation applied to other operands."""
    return Equation(
        equation.primitive,
        inputs,
        equation.outputs,
        equation.params,
        equation.effects,
        equation.frame,
        equation.scope,
    )
