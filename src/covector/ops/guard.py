"""Guarding loops: programs whose inner `while` loops stop at once where a flag is not set.

A batched `while` or `cond` runs its body for lanes that are done or took another branch, and
throws the results away. Without a guard an inner loop could run forever on such a lane.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.program import Atom, Equation, Program, Variable, map_subprograms, subprograms
from covector.ops.nested import contains

_guarded: weakref.WeakKeyDictionary[Program, Program] = weakref.WeakKeyDictionary()


def guard_loops(program: Program) -> Program:
    """The program with a leading rank-0 bool input; where it is false, `while` loops do nothing.

    Args:
        program: any program.

    Returns:
        `active, *inputs -> outputs`; the outputs mean nothing where `active` is false.
    """
    known = _guarded.get(program)
    if known is None:
        known = _guarded[program] = _guard(program)
    return known


def loops_inside(program: Program) -> bool:
    """Whether there is a loop to guard."""
    return contains(program, "while")


def _guard(program: Program) -> Program:
    active = Variable(Aval((), dtypes.bool_))
    equations: list[Equation] = []
    for equation in program.equations:
        rule = _RULES.get(equation.primitive.name)
        nested = equation.primitive.name == "while" or any(
            loops_inside(p) for p in subprograms(equation.params)
        )
        equations.append(rule(equation, active) if rule is not None and nested else equation)
    return program.replace(inputs=[active, *program.inputs], equations=equations)


def _guard_while(equation: Equation, active: Variable) -> Equation:
    params = equation.params
    return equation.replace(
        inputs=[active, *equation.inputs],
        params={
            **params,
            "cond_program": _only_if_active(params["cond_program"]),
            "cond_nconsts": params["cond_nconsts"] + 1,
        },
    )


def _only_if_active(condition: Program) -> Program:
    from covector.ops.bitwise import and_

    guarded = guard_loops(condition)
    both = Variable(Aval((), dtypes.bool_))
    operands: list[Atom] = [guarded.outputs[0], guarded.inputs[0]]
    conjunction = Equation(and_, operands, [both], {})
    return guarded.replace(equations=[*guarded.equations, conjunction], outputs=[both])


def _guard_with_consts(equation: Equation, active: Variable) -> Equation:
    params = {**_guard_programs(equation), "num_consts": equation.params["num_consts"] + 1}
    return equation.replace(inputs=[active, *equation.inputs], params=params)


def _guard_cond(equation: Equation, active: Variable) -> Equation:
    index, *operands = equation.inputs
    return equation.replace(inputs=[index, active, *operands], params=_guard_programs(equation))


def _guard_call(equation: Equation, active: Variable) -> Equation:
    return equation.replace(inputs=[active, *equation.inputs], params=_guard_programs(equation))


def _guard_programs(equation: Equation) -> dict[str, Any]:
    return map_subprograms(equation.params, guard_loops)


_RULES: dict[str, Callable[[Equation, Variable], Equation]] = {
    "while": _guard_while,
    "scan": _guard_with_consts,
    "cond": _guard_cond,
    "jit": _guard_call,
    "checkpoint": _guard_call,
    "custom_linear_solve": _guard_with_consts,
    "custom_root": _guard_with_consts,
}
