"""Transposes that products of arrays make themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from covector.compiler.passes.base import inside
from covector.core.program import Atom, Equation, Program, Variable
from covector.ops.nested import count_uses, definitions, prune


@dataclass(frozen=True)
class Transposes:
    """Leaves out transposes of what goes into a product, and of results with operands exchanged.

    ```
    b = transpose a
    d = dot_general[contracting axes 1 and 0] b c     =>   d = dot_general[axes 0 and 0] a c

    b = dot_general a c
    d = transpose b                                   =>   d = dot_general c a
    ```

    A product goes through its operands in any order, while a transposed copy costs as much as a
    small product.
    """

    name: str = "transposes"

    def run(self, program: Program) -> Program:
        """The program with transposes in products."""
        defined = definitions(program)
        uses = count_uses(program)
        made: dict[Variable, Equation] = {}
        equations: list[Equation] = []
        for equation in program.equations:
            name = equation.primitive.name
            if name == "dot_general":
                equation = _direct(equation, defined)
                made[equation.outputs[0]] = equation
            elif name == "transpose":
                equation = _exchanged(equation, made, uses) or equation
            else:
                equation = inside(equation, self.run)
            equations.append(equation)
        return prune(program.replace(equations=equations))


def _direct(product: Equation, defined: dict[Variable, Equation]) -> Equation:
    """A product that reads what its operands are transposes of."""
    (lhs, rhs), (lhs_batch, rhs_batch) = product.params["dimension_numbers"]
    left, (lhs, lhs_batch) = _untransposed(product.inputs[0], (lhs, lhs_batch), defined)
    right, (rhs, rhs_batch) = _untransposed(product.inputs[1], (rhs, rhs_batch), defined)
    if left is product.inputs[0] and right is product.inputs[1]:
        return product
    numbers = ((lhs, rhs), (lhs_batch, rhs_batch))
    params = {**product.params, "dimension_numbers": numbers}
    return product.replace(inputs=[left, right], params=params)


Axes = tuple[Sequence[int], Sequence[int]]


def _untransposed(atom: Atom, axes: Axes, defined: dict[Variable, Equation]) -> tuple[Atom, Axes]:
    """What an operand is a transpose of, and its contracted and batch axes there."""
    equation = defined.get(atom) if type(atom) is Variable else None
    if equation is None or equation.primitive.name != "transpose":
        return atom, axes
    permutation: Sequence[int] = equation.params["permutation"]
    contracted, batch = axes
    free = [permutation[a] for a in range(len(permutation)) if a not in {*contracted, *batch}]
    if free != sorted(free):
        return atom, axes  # the product has its free axes in the order of the operand
    inner = tuple([permutation[a] for a in contracted]), tuple([permutation[a] for a in batch])
    return _untransposed(equation.inputs[0], inner, defined)


def _exchanged(
    transpose: Equation, made: dict[Variable, Equation], uses: dict[Variable, int]
) -> Equation | None:
    """A transposed product as the product of the operands in the other order."""
    (atom,) = transpose.inputs
    product = made.get(atom) if type(atom) is Variable else None
    if product is None or type(atom) is not Variable or uses[atom] != 1:
        return None
    (lhs, rhs), (lhs_batch, rhs_batch) = product.params["dimension_numbers"]
    left, right = product.inputs
    batch = len(lhs_batch)
    rows = left.aval.ndim - batch - len(lhs)
    columns = right.aval.ndim - batch - len(rhs)
    order = [
        *range(batch),
        *range(batch + rows, batch + rows + columns),
        *range(batch, batch + rows),
    ]
    if tuple(order) != tuple(transpose.params["permutation"]):
        return None
    numbers = ((rhs, lhs), (rhs_batch, lhs_batch))
    params = {**product.params, "dimension_numbers": numbers}
    return product.replace(inputs=[right, left], outputs=transpose.outputs, params=params)
