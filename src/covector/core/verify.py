"""Verification: whether a program keeps the rules of the IR.

Passes are run with it in tests (`COVECTOR_CHECK=1` everywhere): a pass that breaks a program is
found where it does so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from covector.core.array import Array
from covector.core.avals import Aval, same_type
from covector.core.effects import NONE
from covector.core.errors import VerificationError, compose
from covector.core.primitive import REGISTRY
from covector.core.printing import print_equation, programs_within
from covector.core.program import Equation, Literal, Program, Variable


def verify(program: Program) -> None:
    """Checks a program and the programs nested in it.

    Every variable is defined once, before it is used; literals are what their avals say; applying
    the shape rule of each primitive gives the avals of the equation's outputs (up to weak types,
    which passes need not keep); the effects of equations are those of their primitives.

    Raises:
        VerificationError: with the equation and the user's line it came from.
    """
    pending = [program]
    # Shared programs are verified once; the list keeps them alive, so that ids stay their own.
    known = {id(program)}
    while pending:
        current = pending.pop()
        _Verifier(current).run()
        for equation in current.equations:
            for nested in programs_within(equation.params):
                if id(nested) not in known:
                    known.add(id(nested))
                    pending.append(nested)


def verify_flat(program: Program) -> None:
    """Checks a program as `verify` does, but not those nested in it.

    Raises:
        VerificationError: see `verify`.
    """
    _Verifier(program).run()


class _Verifier:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._defined: set[Variable] = set()
        self._equation: Equation | None = None

    def run(self) -> None:
        program = self._program
        for variable in program.inputs:
            self._define(variable, "input")
        for equation in program.equations:
            self._equation = equation
            self._check_equation(equation)
        self._equation = None
        for i, atom in enumerate(program.outputs):
            self._check_atom(atom, f"output {i}")

    def _fail(self, asked: str, found: str) -> NoReturn:
        equation, name = self._equation, self._program.name or "(unnamed)"
        message = compose(f"in program {name}: {asked}", found=found)
        if equation is None:
            raise VerificationError(message)
        at = f"\n  at: {equation.place}" if equation.place else ""
        raise VerificationError(f"{message}\n  equation: {self._text(equation)}{at}")

    def _text(self, equation: Equation) -> str:
        try:
            return print_equation(self._program, equation)
        except AttributeError:  # what stands in for an atom has no aval
            return repr(equation)

    def _define(self, variable: Any, what: str) -> None:
        if type(variable) is not Variable:
            self._fail(f"an {what} is a variable", f"{variable!r}")
        if variable in self._defined:
            self._fail("a variable is defined once", f"another {what} defines it: {variable}")
        self._defined.add(variable)

    def _check_equation(self, equation: Equation) -> None:
        for i, atom in enumerate(equation.inputs):
            self._check_atom(atom, f"operand {i}")
        primitive = equation.primitive
        if REGISTRY.get(primitive.name) is not primitive:
            self._fail("a primitive is registered under its name", repr(primitive))
        self._check_outputs(equation, self._expected_outputs(equation))
        effects = NONE if primitive.effects is None else primitive.effects(**equation.params)
        if effects != equation.effects:
            self._fail(
                f"the effects of an equation are its primitive's own, {sorted(map(str, effects))}",
                str(sorted(map(str, equation.effects))),
            )

    def _check_atom(self, atom: Any, what: str) -> None:
        if type(atom) is Variable:
            if atom not in self._defined:
                self._fail("a variable is defined before it is used", f"{what} is not: {atom}")
        elif type(atom) is Literal:
            self._check_literal(atom, what)
        else:
            self._fail(f"{what} is a variable or a literal", f"{atom!r}")

    def _check_literal(self, literal: Literal, what: str) -> None:
        value: Any = literal.value
        if not isinstance(value, Array):
            self._fail(f"the literal of {what} holds an Array", f"{value!r}")
        if not same_type(value.aval, literal.aval):
            self._fail(f"the literal of {what} has the aval {literal.aval}", str(value.aval))

    def _expected_outputs(self, equation: Equation) -> list[Aval]:
        primitive = equation.primitive
        try:
            expected = primitive.shape(*[a.aval for a in equation.inputs], **equation.params)
        except Exception as error:
            self._fail_with_cause(f"the shape rule of {primitive.name} accepts its operands", error)
        return list(expected) if primitive.multiple_results else [expected]

    def _fail_with_cause(self, asked: str, error: Exception) -> NoReturn:
        try:
            self._fail(asked, f"{type(error).__name__}: {error}")
        except VerificationError as failure:
            raise failure from error

    def _check_outputs(self, equation: Equation, expected: Sequence[Aval]) -> None:
        outputs = equation.outputs
        if len(outputs) != len(expected):
            self._fail(f"the shape rule gives {len(expected)} outputs", f"{len(outputs)}")
        for i, (variable, aval) in enumerate(zip(outputs, expected, strict=True)):
            self._define(variable, "output")
            if not same_type(variable.aval, aval):
                self._fail(f"the shape rule says that output {i} is {aval}", str(variable.aval))
