"""`scalar_kernel`: a program of scalars, loops among them, applied to each element of arrays.

What a user wrote as a Python function of scalars is such a program. It is lowered where its
elements are needed, so that it fuses with what surrounds it like any elementwise operation. Another
program of scalars computes the partial derivatives of each element beside the results: loops inside
are not run backwards, and keep no tape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from covector.core import interpret
from covector.core.avals import Aval, Zero, same_type
from covector.core.primitive import Context, Primitive, unsupported
from covector.core.program import Equation, Literal, Program, Variable, all_equations
from covector.core.trace import aval_of, eval_program, trace_program
from covector.ops import common
from covector.ops.factory import (
    NOT_LINEAR,
    align_batched,
    at_shape,
    common_shape,
    elements,
    lanes_elementwise,
)
from covector.ops.fold import combine_scalars, several
from covector.ops.nested import chosen, prune, split

# --- types and evaluation -------------------------------------------------------------------------


def _shape(*avals: Aval, program: Program, name: str) -> list[Aval]:
    wanted = program.input_avals
    scalars = [Aval((), a.dtype, a.weak_type) for a in avals]
    if len(avals) != len(wanted) or not all(map(same_type, scalars, wanted)):
        raise TypeError(f"{name}: the kernel takes {wanted}, got elements of {list(avals)}")
    shape = common_shape(name, avals)
    return [Aval(shape, a.dtype, a.weak_type) for a in program.output_avals]


def _evaluate(*operands: Any, program: Program, name: str) -> list[Any]:
    shape = np.broadcast_shapes(*[x.shape for x in operands])
    columns = [np.broadcast_to(x, shape).reshape(-1) for x in operands]
    outs = _on_columns(program, columns, int(np.prod(shape, dtype=np.int64)))
    return [out.reshape(shape) for out in outs]


def _on_columns(program: Program, columns: Sequence[Any], count: int) -> list[Any]:
    """A program of scalars on one-dimensional arrays of `count` elements, loops with masks."""
    env: dict[Any, Any] = dict(zip(program.inputs, columns, strict=True))

    def column(atom: Any) -> Any:
        return np.broadcast_to(atom.value._value, (count,)) if type(atom) is Literal else env[atom]

    for equation in program.equations:
        values = [column(a) for a in equation.inputs]
        env.update(zip(equation.outputs, _equation(equation, values, count), strict=True))
    return [np.array(column(a)) for a in program.outputs]


def _equation(equation: Equation, values: list[Any], count: int) -> list[Any]:
    primitive, params = equation.primitive, equation.params
    if primitive is scalar_kernel or "call" in primitive.tags:
        return _on_columns(params["program"], values, count)
    if primitive.name == "while":
        return _while(values, count, **params)
    if primitive.name == "scan" and len(equation.outputs) == params["num_carry"]:
        consts, carry, _ = split(values, params["num_consts"], params["num_carry"])
        for _ in range(params["length"]):
            carry = _on_columns(params["program"], [*consts, *carry], count)
        return carry
    if "elementwise" in primitive.tags:
        return [primitive.evaluate(*values, **params)]
    return _one_by_one(equation, values, count)


def _while(
    values: list[Any],
    count: int,
    cond_program: Program,
    cond_nconsts: int,
    body_program: Program,
    body_nconsts: int,
) -> list[Any]:
    cond_consts, body_consts, carry = split(values, cond_nconsts, body_nconsts)
    carry = [np.array(c) for c in carry]
    active = np.arange(count)
    while True:
        state = [c[active] for c in carry]
        (goes_on,) = _on_columns(
            cond_program, [*[c[active] for c in cond_consts], *state], active.size
        )
        active = active[goes_on]
        if not active.size:
            return carry
        inputs = [*[c[active] for c in body_consts], *[c[active] for c in carry]]
        for own, new in zip(carry, _on_columns(body_program, inputs, active.size), strict=True):
            own[active] = new


def _one_by_one(equation: Equation, values: list[Any], count: int) -> list[Any]:
    """What has no form for arrays: each element by itself."""
    inputs = [Variable(a.aval) for a in equation.inputs]
    program = Program(inputs, [equation.replace(inputs=inputs)], equation.outputs)
    outs = [np.empty(count, v.aval.dtype) for v in equation.outputs]
    for k in range(count):
        results = interpret.run(program, *[np.asarray(v[k]) for v in values])
        for out, result in zip(outs, results, strict=True):
            out[k] = result
    return outs


# --- differentiation ------------------------------------------------------------------------------


_partials: WeakKeyDictionary[Program, dict[Any, tuple[Program, list[list[bool]]]]] = (
    WeakKeyDictionary()
)


def _with_partials(
    ctx: Context, program: Program, nonzero: Sequence[bool]
) -> tuple[Program, list[list[bool]]]:
    """The program that also gives partial derivatives.

    Returns:
        `inputs -> outputs + partials`, those with respect to one input after the other, and for
        each such input which outputs depend on it.
    """
    known = _partials.setdefault(program, {})
    key = tuple(nonzero)
    if key in known:
        return known[key]
    avals = program.input_avals
    depends: list[list[bool]] = []

    def function(*primals: Any) -> list[Any]:
        outs: list[Any] = []
        partials: list[Any] = []
        for j, wanted in enumerate(nonzero):
            if not wanted:
                continue
            one_hot = [k == j for k in range(len(avals))]
            both, nonzero_out = ctx.jvp(program, one_hot)
            one = common.full(avals[j].tangent(), 1)
            outs, found = split(eval_program(both, *primals, one), len(program.outputs))
            partials += found
            depends.append(nonzero_out)
        return [*outs, *partials]

    known[key] = trace_program(function, avals, program.name)[0], depends
    return known[key]


def _jvp(
    ctx: Context, primals: Sequence[Any], tangents: Sequence[Any], *, program: Program, name: str
) -> tuple[list[Any], list[Any]]:
    both, depends = _with_partials(ctx, program, [type(t) is not Zero for t in tangents])
    results = scalar_kernel(*primals, program=both, name=f"{name}_partials")
    outs, partials = split(results, len(program.outputs))
    given = iter(partials)
    totals: list[Any] = [Zero(aval_of(out).tangent()) for out in outs]
    for tangent, flags in zip([t for t in tangents if type(t) is not Zero], depends, strict=True):
        for k in [k for k, flag in enumerate(flags) if flag]:
            part = _product(next(given), tangent)
            first = type(totals[k]) is Zero
            totals[k] = part if first else common.add_tangents(totals[k], part)
    return outs, totals


def _product(partial: Any, tangent: Any) -> Any:
    from covector.ops.arithmetic import mul
    from covector.ops.convert import convert_element_type

    wide = at_shape(tangent, partial)
    if wide.dtype != partial.dtype:
        wide = convert_element_type(wide, new_dtype=partial.dtype, weak_type=False)
    return mul(partial, wide)


# --- batching and native code ---------------------------------------------------------------------


def _batch(
    ctx: Any, args: Sequence[Any], dims: Sequence[int | None], **params: Any
) -> tuple[list[Any], list[int]]:
    args, dim = align_batched(args, dims)
    outs = scalar_kernel(*args, **params)
    return outs, [dim] * len(outs)


def _lanes(dims: Sequence[int | None], *avals: Aval, program: Program, name: str) -> list[Any]:
    return [lanes_elementwise(dims, *avals)] * len(program.outputs)


_OF_LOOP = 200.0
"""Estimated operations of a loop for an element, whose iterations are not known."""


def cost_of(program: Program) -> float:
    """Estimated operations for one element."""
    equations = list(all_equations(program))
    loops = sum([e.primitive.name in ("while", "scan") for e in equations])
    return len(equations) + _OF_LOOP * loops


def _lower(b: Any, *tensors: Any, program: Program, name: str) -> list[Any]:
    shape: Any = max((t.shape for t in tensors), key=len)
    dtypes = [a.dtype for a in program.output_avals]
    cost = cost_of(program) + sum([t.cost for t in tensors])

    def element(index: Any) -> list[Any]:
        return combine_scalars(b, program, elements(tensors, index), ())

    return several(b, shape, dtypes, element, cost)


def _trim(equation: Equation, used: Sequence[bool]) -> Equation:
    program: Program = equation.params["program"]
    shorter = prune(program.replace(outputs=chosen(program.outputs, used)))
    return equation.replace(
        outputs=chosen(equation.outputs, used), params={**equation.params, "program": shorter}
    )


scalar_kernel = Primitive(
    "scalar_kernel",
    shape=_shape,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=unsupported(NOT_LINEAR),
    batch=_batch,
    lower=_lower,
    lanes=_lanes,
    trim=_trim,
    multiple_results=True,
    compiled=True,
    tags=frozenset({"elementwise"}),
)
