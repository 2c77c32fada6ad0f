"""Surgery on the programs that control flow primitives hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core import effects as fx
from covector.core.array import Array
from covector.core.avals import Aval, Zero
from covector.core.interpret import stored_form
from covector.core.primitive import Context, Primitive
from covector.core.program import (
    Atom,
    Equation,
    Literal,
    Program,
    Variable,
    map_subprograms,
    subprograms,
)
from covector.core.trace import aval_of
from covector.ops import common


def split(items: Sequence[Any], *sizes: int) -> list[list[Any]]:
    """A sequence cut into pieces of the given sizes, and the rest."""
    pieces: list[list[Any]] = []
    start = 0
    for size in sizes:
        pieces.append(list(items[start : start + size]))
        start += size
    pieces.append(list(items[start:]))
    return pieces


def chosen(items: Iterable[Any], flags: Iterable[bool]) -> list[Any]:
    """The items whose flag is set."""
    return [item for item, flag in zip(items, flags, strict=True) if flag]


def others(items: Iterable[Any], flags: Iterable[bool]) -> list[Any]:
    """The items whose flag is not set."""
    return [item for item, flag in zip(items, flags, strict=True) if not flag]


def either(a: Iterable[bool], b: Iterable[bool]) -> list[bool]:
    """Flags set in one or both of two lists."""
    return [x or y for x, y in zip(a, b, strict=True)]


def stacked(aval: Aval, length: Any) -> Aval:
    """The aval of `length` arrays along a new leading axis."""
    return Aval((length, *aval.shape), aval.dtype, aval.weak_type)


def substitute(program: Program, names: dict[Variable, Atom]) -> Program:
    """The program with other atoms in place of some of its variables; inputs are left alone."""
    if not names:
        return program
    equations = [_renamed(equation, names) for equation in program.equations]
    outputs = [names.get(a, a) if type(a) is Variable else a for a in program.outputs]
    return program.replace(equations=equations, outputs=outputs)


def _renamed(equation: Equation, names: dict[Variable, Atom]) -> Equation:
    if not any([a in names for a in equation.inputs if type(a) is Variable]):
        return equation
    inputs = [names.get(a, a) if type(a) is Variable else a for a in equation.inputs]
    return equation.replace(inputs=inputs)


def prune(program: Program) -> Program:
    """The program without equations that neither its outputs nor its effects need."""
    live = {a for a in program.outputs if type(a) is Variable}
    kept: list[Equation] = []
    trimmed = False
    for equation in reversed(program.equations):
        used = [v in live for v in equation.outputs]
        if not (equation.effects or any(used)):
            continue
        if equation.primitive.trim is not None and not all(used):
            shorter = equation.primitive.trim(equation, used)
            trimmed |= shorter is not equation
            equation = shorter
        kept.append(equation)
        live.update([a for a in equation.inputs if type(a) is Variable])
    if len(kept) == len(program.equations) and not trimmed:
        return program
    return program.replace(equations=kept[::-1])


HARMLESS: fx.Effects = frozenset((fx.DEBUG, fx.ORDERED_DEBUG))
"""Effects of what may run once more if it is kept quiet."""


def quiet(program: Program) -> Program:
    """The program without debug printing, for iterations that are repeated."""
    if not program.effects & HARMLESS:
        return program
    equations = [
        e.replace(params=map_subprograms(e.params, quiet), effects=e.effects - HARMLESS)
        for e in program.equations
        if not (e.effects & HARMLESS and not e.outputs)
    ]
    return program.replace(equations=equations)


def live_body(
    program: Program, num_consts: int, carry_used: Sequence[bool], y_used: Sequence[bool]
) -> tuple[Program, list[bool]]:
    """What of a loop's body matters to some of its results.

    Args:
        program: `consts, carry, xs -> carry, ys`.
        num_consts: how many consts it has.
        carry_used: which of the last carries are wanted; those are carried in any case.
        y_used: which of the other results are wanted.

    Returns:
        The body with all its inputs, but of its outputs only the carries that matter and the ys
        that are wanted; and for each input whether it matters.
    """
    carry_live = list(carry_used)
    num_carry = len(carry_live)
    while True:
        body = prune(program.replace(outputs=chosen(program.outputs, [*carry_live, *y_used])))
        atoms = [*[a for e in body.equations for a in e.inputs], *body.outputs]
        read = {a for a in atoms if type(a) is Variable}
        live = [v in read for v in program.inputs]
        grown = either(carry_live, live[num_consts : num_consts + num_carry])
        if grown == carry_live:
            break
        carry_live = grown
    live[num_consts : num_consts + num_carry] = carry_live
    return body, live


def depends(program: Program, flags: Sequence[bool]) -> list[bool]:
    """For each output, whether a derivative could reach it from the flagged inputs.

    An equation's outputs depend on all its inputs, but integers carry no derivatives.
    """
    reached = set(chosen(program.inputs, flags))
    for equation in program.equations:
        if any([a in reached for a in equation.inputs if type(a) is Variable]):
            reached.update([v for v in equation.outputs if dtypes.is_inexact(v.aval.dtype)])
    return [type(a) is Variable and a in reached for a in program.outputs]


def count_uses(program: Program) -> dict[Variable, int]:
    """How often each variable is read, by equations and as an output."""
    uses: dict[Variable, int] = {}
    for atoms in [*[e.inputs for e in program.equations], program.outputs]:
        for atom in atoms:
            if type(atom) is Variable:
                uses[atom] = uses.get(atom, 0) + 1
    return uses


def definitions(program: Program) -> dict[Variable, Equation]:
    """The equation that defines each variable; inputs have none."""
    return {v: equation for equation in program.equations for v in equation.outputs}


def with_zeros(
    tangents: Sequence[Any], given: Sequence[bool], wanted: Sequence[bool], avals: Sequence[Aval]
) -> list[Any]:
    """The wanted tangents: those given, zeros for the others (of carries that get one later).

    Args:
        tangents: one for each flag in `given`.
        given: which inputs have a tangent.
        wanted: which inputs should have one, at least those of `given`.
        avals: of the tangents of all inputs.
    """
    values = iter(tangents)
    return [
        next(values) if has else common.zeros(aval)
        for has, want, aval in zip(given, wanted, avals, strict=True)
        if want
    ]


def zero_scalar(dtype: Any) -> Literal:
    """A rank-0 zero; a key of zero words for key dtypes."""
    if type(dtype) is dtypes.KeyDType:
        data = np.zeros(dtype.words, np.uint32)
    else:
        data = np.zeros((), dtype)
    aval = Aval((), dtype)
    return Literal(Array.of(data, aval), aval)


def zero_atom(aval: Aval) -> tuple[Atom, list[Equation]]:
    """An atom for zeros of an aval, and the equations that compute it."""
    from covector.ops.shape import broadcast_in_dim

    scalar = zero_scalar(aval.dtype)
    if aval.shape == ():
        return scalar, []
    variable = Variable(aval.strong())
    params = {"shape": aval.shape, "broadcast_dimensions": ()}
    return variable, [Equation(broadcast_in_dim, [scalar], [variable], params)]


def is_zero(atom: Atom) -> bool:
    """Whether an atom is a literal of zeros."""
    return (
        isinstance(atom, Literal)
        and not dtypes.is_key(atom.aval.dtype)
        and not np.any(atom.value._value)
    )


def stored_zeros(aval: Aval, length: int) -> np.ndarray[Any, Any]:
    """NumPy zeros that hold `length` arrays of an aval along a leading axis."""
    shape, dtype = stored_form(stacked(aval, length))
    return np.zeros(shape, dtype)


def contains(program: Program, name: str) -> bool:
    """Whether an equation, in nested programs too, applies the primitive of a name."""
    return any(_applies(equation, name) for equation in program.equations)


def _applies(equation: Equation, name: str) -> bool:
    return equation.primitive.name == name or any(
        contains(nested, name) for nested in subprograms(equation.params)
    )


def elements(aval: Aval) -> int:
    """How many elements an array has; a guess for symbolic sizes."""
    size = 1
    for extent in aval.shape:
        size *= extent if isinstance(extent, int) else 1000
    return size


def nbytes(aval: Aval) -> int:
    """How much memory an array takes; a guess for symbolic sizes."""
    dtype = aval.dtype
    width = dtype.words * 4 if isinstance(dtype, dtypes.KeyDType) else dtype.itemsize
    return elements(aval) * width


def trim_call(equation: Equation, used: Sequence[bool]) -> Equation:
    """The trim rule of primitives that run a program: without what it computes in vain."""
    program: Program = equation.params["program"]
    program = prune(program.replace(outputs=chosen(program.outputs, used)))
    read = {a for e in program.equations for a in e.inputs if type(a) is Variable}
    read.update([a for a in program.outputs if type(a) is Variable])
    live = [v in read for v in program.inputs]
    program = program.replace(inputs=chosen(program.inputs, live))
    return equation.replace(
        inputs=chosen(equation.inputs, live),
        outputs=chosen(equation.outputs, used),
        params={**equation.params, "program": program},
    )


def jvp_of_call(
    primitive: Primitive,
    ctx: Context,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    program: Program,
    params: dict[str, Any],
) -> tuple[list[Any], list[Any]]:
    """The jvp rule of a primitive that runs one program on its operands: it goes inside."""
    nonzero = [type(t) is not Zero for t in tangents]
    both, nonzero_out = ctx.jvp(program, nonzero)
    results = primitive(*primals, *chosen(tangents, nonzero), program=both, **params)
    outs, found = results[: len(nonzero_out)], iter(results[len(nonzero_out) :])
    out_tangents = [
        next(found) if nz else Zero(aval_of(out).tangent())
        for out, nz in zip(outs, nonzero_out, strict=True)
    ]
    return outs, out_tangents
