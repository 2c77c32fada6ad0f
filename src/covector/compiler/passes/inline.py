"""Inlining of nested calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from covector.compiler.passes.base import Substitution, substitute
from covector.core.program import (
    Equation,
    Literal,
    Program,
    Variable,
    map_subprograms,
    subprograms,
)


@dataclass(frozen=True)
class Inline:
    """Replaces each call of a program by its equations, in nested programs too.

    ```
    b = jit[program={ x -> y: y = sin x }] a    =>    b = sin a
    ```

    A primitive is inlined if it has the tag "call" and one parameter `program`, or a rule that
    says what it is made of.

    Attributes:
        kept: says of equations of the latter kind which ones stay.
    """

    name: str = "inline"
    kept: Callable[[Equation], bool] | None = None

    def run(self, program: Program) -> Program:
        """The program without calls."""
        if not any(_may_be_call(e) or _has_programs(e) for e in program.equations):
            return program
        names: Substitution = {}
        equations: list[Equation] = []
        for equation in program.equations:
            self._emit(equation, names, equations)
        outputs = [substitute(a, names) for a in program.outputs]
        return program.replace(equations=equations, outputs=outputs)

    def _keeps(self, equation: Equation) -> bool:
        kept = self.kept
        return kept is not None and equation.primitive.decompose is not None and kept(equation)

    def _emit(self, equation: Equation, names: Substitution, out: list[Equation]) -> None:
        inputs = [substitute(a, names) for a in equation.inputs]
        nested = None if self._keeps(equation) else called(equation)
        if nested is not None:
            # A program may be called more than once: each call gets variables of its own.
            local: Substitution = dict(zip(nested.inputs, inputs, strict=True))
            for inner in nested.equations:
                self._emit(_renamed(inner, local, equation.scope), local, out)
            for variable, atom in zip(equation.outputs, nested.outputs, strict=True):
                names[variable] = substitute(atom, local)
            return
        params = equation.params
        if _has_programs(equation):
            params = map_subprograms(params, self.run)
        out.append(
            Equation(
                equation.primitive,
                inputs,
                equation.outputs,
                params,
                equation.effects,
                equation.frame,
                equation.scope,
            )
        )


def called(equation: Equation) -> Program | None:
    """What stands for an equation; `None` for those that compilers lower themselves."""
    primitive = equation.primitive
    if "call" in primitive.tags:
        return equation.params["program"]
    if primitive.decompose is not None:
        return primitive.decompose(*[a.aval for a in equation.inputs], **equation.params)
    return None


def _may_be_call(equation: Equation) -> bool:
    return equation.primitive.decompose is not None


def _has_programs(equation: Equation) -> bool:
    return next(subprograms(equation.params), None) is not None


def _renamed(equation: Equation, local: Substitution, scope: str) -> Equation:
    outputs: list[Variable] = []
    for variable in equation.outputs:
        fresh = Variable(variable.aval)
        local[variable] = fresh
        outputs.append(fresh)
    inputs = [a if isinstance(a, Literal) else local.get(a, a) for a in equation.inputs]
    return Equation(
        equation.primitive,
        inputs,
        outputs,
        equation.params,
        equation.effects,
        equation.frame,
        "/".join([part for part in (scope, equation.scope) if part]),
    )
