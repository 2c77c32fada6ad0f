"""Dead code elimination."""

from __future__ import annotations

from dataclasses import dataclass

from covector.core.program import Equation, Program, map_subprograms, subprograms
from covector.ops.nested import prune


@dataclass(frozen=True)
class DeadCode:
    """Drops equations whose results are not used and that have no effects, in loops as well.

    ```
    b = sin a
    c = cos a      =>    b = sin a
    -> b                 -> b
    ```
    """

    name: str = "dce"

    def run(self, program: Program) -> Program:
        """The program without dead equations."""
        program = prune(program)
        equations = [self._inside(e) for e in program.equations]
        if all([a is b for a, b in zip(equations, program.equations, strict=True)]):
            return program
        return program.replace(equations=equations)

    def _inside(self, equation: Equation) -> Equation:
        params = map_subprograms(equation.params, self.run)
        before, after = subprograms(equation.params), subprograms(params)
        if all([a is b for a, b in zip(before, after, strict=True)]):
            return equation
        return equation.replace(params=params)
