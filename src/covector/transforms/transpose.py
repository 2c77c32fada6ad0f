"""Transposition of linear programs: what turns a linearization into reverse mode."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from covector.core.avals import Linear, Zero
from covector.core.program import Equation, Literal, Program, Variable
from covector.core.trace import (
    BACKWARD,
    current_scope,
    name_scope,
    replayed,
    trace_program,
)
from covector.ops.common import add_tangents, instantiate
from covector.transforms.context import CONTEXT, refuse_captured


def backward_pass(
    program: Program, linear: Sequence[bool], values: Sequence[Any], cotangents: Sequence[Any]
) -> list[Any]:
    """Pulls cotangents of a linear program's outputs back to its linear inputs.

    Args:
        program: linear in the marked inputs.
        linear: for each input, whether it is a linear one.
        values: of the other inputs, in order.
        cotangents: of the outputs; may be symbolic zeros.

    Returns:
        A cotangent for each linear input; may be symbolic zeros.
    """
    given = iter(values)
    known: dict[Variable, Any] = {
        v: next(given) for v, is_linear in zip(program.inputs, linear, strict=True) if not is_linear
    }
    pending: dict[Variable, Any] = {}
    for atom, ct in zip(program.outputs, cotangents, strict=True):
        _accumulate(pending, atom, ct)
    scope = current_scope().split("/")
    inside = nullcontext() if BACKWARD in scope else name_scope(BACKWARD)
    with inside, replayed() as replay:
        equations: list[Equation] = []
        for equation in program.equations:
            replay(equation)
            if not _evaluate_known(equation, known):
                equations.append(equation)
        for equation in reversed(equations):
            cts = [pending.pop(v, None) for v in equation.outputs]
            if any([ct is not None for ct in cts]):
                replay(equation)
                _transpose_equation(equation, known, pending, cts)
    inputs = [v for v, is_linear in zip(program.inputs, linear, strict=True) if is_linear]
    return [pending.get(v, Zero(v.aval)) for v in inputs]


def _evaluate_known(equation: Equation, known: dict[Variable, Any]) -> bool:
    """Computes an equation that depends on no linear input, at once."""
    operands: list[Any] = []
    for atom in equation.inputs:
        if type(atom) is Variable:
            if atom not in known:
                return False
            operands.append(known[atom])
        else:
            assert isinstance(atom, Literal)
            operands.append(atom.value)
    results = equation.primitive(*operands, **equation.params)
    if not equation.primitive.multiple_results:
        results = [results]
    known.update(zip(equation.outputs, results, strict=True))
    return True


def _transpose_equation(
    equation: Equation, known: dict[Variable, Any], pending: dict[Variable, Any], cts: list[Any]
) -> None:
    args: list[Any] = []
    for atom in equation.inputs:
        if isinstance(atom, Literal):
            args.append(atom.value)
        elif atom in known:
            args.append(known[atom])
        else:
            args.append(Linear(atom.aval))
    primitive = equation.primitive
    if primitive.multiple_results:
        cts = [
            Zero(v.aval) if ct is None else ct for v, ct in zip(equation.outputs, cts, strict=True)
        ]
        results = primitive.transpose(CONTEXT, cts, *args, **equation.params)
    else:
        results = primitive.transpose(CONTEXT, cts[0], *args, **equation.params)
    for atom, arg, ct in zip(equation.inputs, args, results, strict=True):
        if type(arg) is Linear and ct is not None:
            _accumulate(pending, atom, ct)


def _accumulate(pending: dict[Variable, Any], atom: Any, ct: Any) -> None:
    if type(atom) is not Variable or type(ct) is Zero:
        return
    before = pending.get(atom)
    pending[atom] = ct if before is None else add_tangents(before, ct)


def transpose_program(program: Program, linear: Sequence[bool]) -> Program:
    """`other inputs + output cotangents -> cotangents of the linear inputs`, all instantiated."""
    others = [a for a, is_linear in zip(program.input_avals, linear, strict=True) if not is_linear]

    def pullback(*args: Any) -> list[Any]:
        values, cts = args[: len(others)], args[len(others) :]
        return [instantiate(ct) for ct in backward_pass(program, linear, values, cts)]

    cotangent_avals = [a.tangent() for a in program.output_avals]
    transposed, captured = trace_program(pullback, [*others, *cotangent_avals], program.name)
    refuse_captured(program, captured)
    return transposed
