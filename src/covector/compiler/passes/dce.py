"""Dead code elimination."""

from __future__ import annotations

from dataclasses import dataclass

from covector.compiler.passes.base import inside
from covector.core.program import Program
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
        equations = [inside(e, self.run) for e in program.equations]
        if all([a is b for a, b in zip(equations, program.equations, strict=True)]):
            return program
        return program.replace(equations=equations)
