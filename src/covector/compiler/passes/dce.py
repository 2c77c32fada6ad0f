"""Dead code elimination."""

from __future__ import annotations

from dataclasses import dataclass

from covector.core.program import Equation, Program, Variable


@dataclass(frozen=True)
class DeadCode:
    """Drops equations whose results are not used and that have no effects.

    ```
    b = sin a
    c = cos a      =>    b = sin a
    -> b                 -> b
    ```
    """

    name: str = "dce"

    def run(self, program: Program) -> Program:
        """The program without dead equations."""
        live = {a for a in program.outputs if type(a) is Variable}
        kept: list[Equation] = []
        for equation in reversed(program.equations):
            if equation.effects or any([v in live for v in equation.outputs]):
                kept.append(equation)
                live.update([a for a in equation.inputs if type(a) is Variable])
        if len(kept) == len(program.equations):
            return program
        return program.replace(equations=kept[::-1])
