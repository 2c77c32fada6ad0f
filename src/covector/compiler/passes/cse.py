"""Common subexpression elimination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from covector.compiler.passes.base import Substitution, inside, substitute, with_inputs
from covector.core.program import (
    Atom,
    Equation,
    Literal,
    Program,
    param_key,
)


@dataclass(frozen=True)
class CommonSubexpressions:
    """Computes equal equations once.

    ```
    b = sin a
    c = sin a      =>    b = sin a
    d = add b c          d = add b b
    ```

    Equations with effects are all kept, and so are barriers, and with them what reads their
    results: `checkpoint` computes values again behind them. Nested programs are treated likewise,
    each by itself. What only says something to transformations, such as `stop_gradient`, is left
    out.
    """

    name: str = "cse"

    def run(self, program: Program) -> Program:
        """The program without repeated equations."""
        names: Substitution = {}
        seen: dict[Any, Equation] = {}
        kept: list[Equation] = []
        for equation in program.equations:
            inputs = [substitute(a, names) for a in equation.inputs] if names else equation.inputs
            if "same" in equation.primitive.tags and inputs[0].aval == equation.outputs[0].aval:
                names[equation.outputs[0]] = inputs[0]
                continue
            equation = inside(equation, self.run)
            if not equation.effects and "barrier" not in equation.primitive.tags:
                key = (
                    equation.primitive,
                    tuple([_atom_key(a) for a in inputs]),
                    param_key(equation.params) if equation.params else None,
                )
                first = seen.setdefault(key, equation)
                if first is not equation:
                    names.update(zip(equation.outputs, first.outputs, strict=True))
                    continue
            kept.append(with_inputs(equation, list(inputs)) if names else equation)
        outputs = [substitute(a, names) for a in program.outputs]
        return program.replace(equations=kept, outputs=outputs)


def _atom_key(atom: Atom) -> Any:
    if isinstance(atom, Literal):
        if atom.aval.shape == ():
            return (atom.aval, atom.value._value.tobytes())
        return id(atom.value)
    return atom
