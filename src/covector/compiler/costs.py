"""What a program costs to run, estimated from its shapes."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from covector.core.program import Equation, Program, subprograms
from covector.ops.common import CHEAP
from covector.ops.nested import elements, nbytes

UNKNOWN_SIZE = 1000
"""What symbolic sizes are taken for."""


def cost_of(program: Program) -> dict[str, Any]:
    """The work of one call.

    Args:
        program: any program; symbolic sizes are guessed.

    Returns:
        `flops`: additions, multiplications and the like; `transcendentals`: elements of functions
        such as `exp`; `bytes accessed`: if every equation read its operands from memory and wrote
        its results there, as an upper bound; `unbounded loops`: how many `while` loops there are,
        of which one iteration is counted.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> cost_of(cv.make_program(lambda x: cnp.exp(x @ x))(cnp.ones((8, 8))))["flops"]
        1024.0
    """
    total = _Totals()
    total.add(program, 1.0)
    return {
        "flops": total.flops,
        "transcendentals": total.transcendentals,
        "bytes accessed": total.moved,
        "unbounded loops": total.loops,
    }


FUNCTION = 12.0
"""How many operations an elementary function counts for."""


def operations(cost: Mapping[str, Any]) -> float:
    """What a program costs as one number: about how many operations it takes.

    Args:
        cost: what `cost_of` says of it.
    """
    return cost["flops"] + FUNCTION * cost["transcendentals"]


class _Totals:
    def __init__(self) -> None:
        self.flops = self.transcendentals = self.moved = 0.0
        self.loops = 0

    def add(self, program: Program, times: float) -> None:
        for equation in program.equations:
            inner = list(subprograms(equation.params))
            if inner:
                self._add_nested(equation, inner, times)
            else:
                self._add_equation(equation, times)

    def _add_nested(self, equation: Equation, inner: list[Program], times: float) -> None:
        params = equation.params
        if equation.primitive.name == "while":
            self.loops += 1
        if equation.primitive.name == "lanes":
            length = params["length"] if isinstance(params["length"], int) else UNKNOWN_SIZE
            inner, times = inner[:1], times * length / params["width"]
        elif equation.primitive.name == "cond":
            times /= len(inner)  # one of them runs
        length = params.get("length", 1) if equation.primitive.name == "scan" else 1
        for program in inner:
            self.add(program, times * (length if isinstance(length, int) else 1))

    def _add_equation(self, equation: Equation, times: float) -> None:
        outs = [v.aval for v in equation.outputs]
        self.moved += times * sum(nbytes(a) for a in outs)
        self.moved += times * sum(nbytes(a.aval) for a in equation.inputs)
        tags = equation.primitive.tags
        size = sum(elements(a) for a in outs)
        if "contraction" in tags:
            self.flops += times * products(equation)
        elif "reduction" in tags:
            self.flops += times * elements(equation.inputs[0].aval)
        elif "elementwise" in tags and CHEAP not in tags:
            self.transcendentals += times * size
        elif "elementwise" in tags:
            self.flops += times * size * (2.0 if equation.primitive.name == "fma" else 1.0)


def products(equation: Equation) -> float:
    """Multiplications and additions of a contraction.

    Args:
        equation: of a primitive that is tagged as one.

    Returns:
        How many there are; those of complex numbers count as one.
    """
    lhs, out = equation.inputs[0].aval, equation.outputs[0].aval
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.inputs[1].aval
        output_features: int = equation.params["dimension_numbers"].rhs_spec[0]
        per_feature = kernel.shape[:output_features] + kernel.shape[output_features + 1 :]
        return 2.0 * elements(out) * elements(kernel.update(shape=per_feature))
    (contracted, _), _ = equation.params["dimension_numbers"]
    terms = prod([n for d, n in enumerate(lhs.shape) if d in contracted and isinstance(n, int)])
    return 2.0 * elements(out) * terms
