"""What passes share: the protocol, and rewriting with substitution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from covector.core.program import (
    Atom,
    Equation,
    Literal,
    Program,
    Variable,
    map_subprograms,
    subprograms,
)


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


def inside(equation: Equation, rewrite: Callable[[Program], Program]) -> Equation:
    """The equation with its own programs rewritten, itself where that changes none of them."""
    before = list(subprograms(equation.params))
    if not before:
        return equation
    params = map_subprograms(equation.params, rewrite)
    if all([a is b for a, b in zip(before, subprograms(params), strict=True)]):
        return equation
    return equation.replace(params=params)
