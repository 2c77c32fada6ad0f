"""Contraction: a sum with a product becomes one operation, rounded once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covector.compiler.passes.base import inside
from covector.core.program import Atom, Equation, Program, Variable
from covector.ops.arithmetic import fma, neg

_CONTRACTED = (np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True)
class Contraction:
    """Fuses products into the sums and differences that read them, in nested programs too.

    ```
    b = mul x y
    c = add b z    =>    c = fma x y z
    ```

    Decided on the program, it holds wherever an equation ends up: in a lane, a vector, or an array
    that is stored. A product keeps its equation if something else reads it, too. The difference of
    two products stays as it is: with one of them rounded, `a * b - b * a` would not be zero and
    `sqrt(a * a - b * b)` would be NaN at `a == b`.
    """

    name: str = "contraction"

    def run(self, program: Program) -> Program:
        """The program with fused operations; products of no use any more are left for `dce`."""
        products: dict[Variable, Equation] = {}
        equations: list[Equation] = []
        for equation in program.equations:
            name = equation.primitive.name
            if name == "mul" and equation.outputs[0].aval.dtype in _CONTRACTED:
                products[equation.outputs[0]] = equation
            elif name in ("add", "add_any", "sub"):
                equations.extend(_contracted(equation, products))
                continue
            elif name == "convert_element_type":
                _look_through(equation, products)
            else:
                equation = inside(equation, self.run)
            equations.append(equation)
        return program.replace(equations=equations)


def _look_through(convert: Equation, products: dict[Variable, Equation]) -> None:
    """A conversion from a weak type to the same dtype changes nothing."""
    (before,), (after,) = convert.inputs, convert.outputs
    if type(before) is Variable and before in products and before.aval.dtype == after.aval.dtype:
        products[after] = products[before]


def _contracted(equation: Equation, products: dict[Variable, Equation]) -> list[Equation]:
    first, second = equation.inputs
    difference = equation.primitive.name == "sub"
    later = products.get(second) if type(second) is Variable else None
    earlier = products.get(first) if type(first) is Variable else None
    if difference and later is not None and earlier is not None:
        return [equation]
    if later is not None:
        return _fused(equation, later, first, negative=difference)
    if earlier is None:
        return [equation]
    if not difference:
        return _fused(equation, earlier, second)
    negated = Variable(second.aval)
    return [
        equation.replace(primitive=neg, inputs=[second], outputs=[negated]),
        *_fused(equation, earlier, negated),
    ]


def _fused(
    equation: Equation, product: Equation, term: Atom, *, negative: bool = False
) -> list[Equation]:
    """`x * y + term`, or `term - x * y`, in place of a sum or difference."""
    x, y = product.inputs
    if product.outputs[0].aval.shape != equation.outputs[0].aval.shape:
        # The product of scalars is computed once, not for each element.
        return [equation]
    if not negative:
        return [equation.replace(primitive=fma, inputs=[x, y, term])]
    negated = Variable(x.aval)
    return [
        equation.replace(primitive=neg, inputs=[x], outputs=[negated]),
        equation.replace(primitive=fma, inputs=[negated, y, term]),
    ]
