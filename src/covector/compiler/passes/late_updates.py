"""Updates as late as possible, so that they are the last to read what they update."""

from __future__ import annotations

from dataclasses import dataclass

from covector.compiler.passes.base import inside
from covector.core.program import Equation, Program, Variable
from covector.ops.overwriting import UPDATES


@dataclass(frozen=True)
class LateUpdates:
    """Moves updates of arrays behind the other equations that read these, in nested programs too.

    ```
    b = scatter a i u             c = sin a
    c = sin a              =>     b = scatter a i u
    d = mul b b                   d = mul b b
    ```

    Nothing reads the array after the update then, which may take place in its buffer. An update
    stays where it is if what reads the array needs the updated one, too.
    """

    name: str = "in_place"

    def run(self, program: Program) -> Program:
        """The program in another order."""
        equations = [inside(e, self.run) for e in program.equations]
        if any([e.primitive.name in UPDATES for e in equations]):
            equations = _reordered(program, equations)
        return program.replace(equations=equations)


def _reordered(program: Program, equations: list[Equation]) -> list[Equation]:
    first: dict[Variable, int] = {}
    last: dict[Variable, int] = {}
    for n, equation in enumerate(equations):
        for atom in equation.inputs:
            if type(atom) is Variable:
                first.setdefault(atom, n)
                last[atom] = n
    places: list[float] = list(range(len(equations)))
    for n, equation in enumerate(equations):
        operand = equation.inputs[0] if equation.inputs else None
        if equation.primitive.name not in UPDATES or type(operand) is not Variable:
            continue
        reader = last[operand]
        if n < reader < first.get(equation.outputs[0], len(equations)):
            places[n] = reader + 0.5
    order = sorted(range(len(equations)), key=places.__getitem__)
    return [equations[n] for n in order]
