"""Calls of nested programs: `jit`, and `linear_call`, which knows its own transpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.core import interpret
from covector.core.avals import Aval, Linear, Zero, same_type
from covector.core.effects import Effects
from covector.core.primitive import BatchContext, Context, Primitive, unsupported
from covector.core.program import Atom, Literal, Program, Variable
from covector.core.trace import aval_of
from covector.loopir.tensor import Lowering, Tensor
from covector.ops import common
from covector.ops.common import batch_at_front, front
from covector.ops.nested import chosen, jvp_of_call, others, prune, split, substitute

# --- jit ------------------------------------------------------------------------------------------


def _call_shape(*avals: Aval, program: Program, **params: Any) -> list[Aval]:
    wanted = program.input_avals
    if len(avals) != len(wanted) or not all(map(same_type, avals, wanted)):
        raise TypeError(f"jit: the program takes {wanted}, got {list(avals)}")
    return program.output_avals


def _call_effects(*, program: Program, **params: Any) -> Effects:
    return program.effects


def _call_evaluate(*operands: Any, program: Program, **params: Any) -> list[Any]:
    return interpret.run(program, *operands)


def _call_jvp(
    ctx: Context,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    program: Program,
    **params: Any,
) -> tuple[list[Any], list[Any]]:
    return jvp_of_call(call, ctx, primals, tangents, program, params)


def _call_linearize(
    ctx: Context,
    primals: Sequence[Any],
    nonzero: Sequence[bool],
    *,
    program: Program,
    **params: Any,
) -> tuple[list[Any], list[bool], Callable[..., list[Any]], list[Any]]:
    body = ctx.linearize(program, nonzero)
    known = body.known
    num_outs = len(program.outputs)
    outs, atoms = split(known.outputs, num_outs)
    residual_vars, tangent_vars = split(body.linear.inputs, body.num_residuals)
    # Residuals that are operands or results need not be returned once more.
    places: dict[Variable, tuple[str, int]] = {}
    for k, variable in enumerate(known.inputs):
        places.setdefault(variable, ("operand", k))
    for k, atom in enumerate(outs):
        if type(atom) is Variable:
            places.setdefault(atom, ("result", k))
    extra: list[Atom] = []
    names: dict[Variable, Atom] = {}
    kept: dict[Variable, Variable] = {}
    for variable, atom in zip(residual_vars, atoms, strict=True):
        if isinstance(atom, Literal):
            names[variable] = atom
        elif atom in kept:
            names[variable] = kept[atom]
        else:
            kept[atom] = variable
            if atom not in places:
                places[atom] = ("result", num_outs + len(extra))
                extra.append(atom)
    results = call(*primals, program=known.replace(outputs=[*outs, *extra]), **params)
    sources = {"operand": primals, "result": results}
    residuals = [sources[kind][k] for kind, k in (places[atom] for atom in kept)]
    linear_program = substitute(body.linear, names).replace(inputs=[*kept.values(), *tangent_vars])

    def linear(residuals: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        return call(*residuals, *tangents, program=linear_program, **params)

    return results[:num_outs], body.nonzero_out, linear, residuals


def _call_transpose(
    ctx: Context, cts: Sequence[Any], *args: Any, program: Program, **params: Any
) -> list[Any]:
    linear = [type(a) is Linear for a in args]
    used = [type(ct) is not Zero for ct in cts]
    pullback = ctx.transpose(prune(program.replace(outputs=chosen(program.outputs, used))), linear)
    results = iter(call(*others(args, linear), *chosen(cts, used), program=pullback, **params))
    return [next(results) if lin else None for lin in linear]


def _call_batch(
    ctx: BatchContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    program: Program,
    **params: Any,
) -> tuple[list[Any], list[int | None]]:
    mapped, out_batched = ctx.batch(program, [d is not None for d in dims])
    outs = call(*front(args, dims), program=mapped, **params)
    return outs, [0 if b else None for b in out_batched]


def _call_lower(b: Lowering, *tensors: Tensor, program: Program, **params: Any) -> list[Tensor]:
    return b.inline(program, tensors)


call = Primitive(
    "jit",
    shape=_call_shape,
    evaluate=_call_evaluate,
    jvp=_call_jvp,
    linearize=_call_linearize,
    transpose=_call_transpose,
    batch=_call_batch,
    lanes=unsupported("the lanes pass walks into its program"),
    lower=_call_lower,
    effects=_call_effects,
    multiple_results=True,
    compiled=True,
    tags=frozenset({"call", "control"}),
)

# --- linear_call ----------------------------------------------------------------------------------


def _linear_shape(*avals: Aval, program: Program, **params: Any) -> list[Aval]:
    return _call_shape(*avals, program=program)


def _linear_jvp(
    ctx: Context,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    program: Program,
    transposed: Program,
    num_residuals: int,
) -> tuple[list[Any], list[Any]]:
    residuals, (moved, linear_ts) = primals[:num_residuals], split(tangents, num_residuals)
    if any([type(t) is not Zero for t in moved]):
        return _call_jvp(ctx, primals, tangents, program=program, name="linear", inline=True)
    params: dict[str, Any] = {
        "program": program,
        "transposed": transposed,
        "num_residuals": num_residuals,
    }
    outs = linear_call(*primals, **params)
    return outs, linear_call(*residuals, *map(common.instantiate, linear_ts), **params)


def _linear_linearize(
    ctx: Context,
    primals: Sequence[Any],
    nonzero: Sequence[bool],
    *,
    program: Program,
    transposed: Program,
    num_residuals: int,
) -> tuple[list[Any], list[bool], Callable[..., list[Any]], list[Any]]:
    if any(nonzero[:num_residuals]):
        return _call_linearize(ctx, primals, nonzero, program=program, name="linear", inline=True)
    params: dict[str, Any] = {
        "program": program,
        "transposed": transposed,
        "num_residuals": num_residuals,
    }
    avals = [aval_of(p).tangent() for p in primals[num_residuals:]]

    def linear(residuals: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        given = iter(tangents)
        every = [
            next(given) if nz else common.zeros(aval)
            for aval, nz in zip(avals, nonzero[num_residuals:], strict=True)
        ]
        return linear_call(*residuals, *every, **params)

    outs = linear_call(*primals, **params)
    return outs, [True] * len(outs), linear, list(primals[:num_residuals])


def _linear_transpose(
    ctx: Context,
    cts: Sequence[Any],
    *args: Any,
    program: Program,
    transposed: Program,
    num_residuals: int,
) -> list[Any]:
    residuals, operands = split(args, num_residuals)
    if any([type(r) is Linear for r in residuals]):
        raise TypeError("linear_call is not linear in its residuals")
    results = linear_call(
        *residuals,
        *map(common.instantiate, cts),
        program=transposed,
        transposed=program,
        num_residuals=num_residuals,
    )
    moved = [r if type(a) is Linear else None for r, a in zip(results, operands, strict=True)]
    return [None] * num_residuals + moved


def _linear_batch(
    ctx: BatchContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    program: Program,
    transposed: Program,
    num_residuals: int,
) -> tuple[list[Any], list[int | None]]:
    # All that is linear gets the batch axis, so that both directions agree which has it.
    operands = [
        batch_at_front(x, d, ctx.axis_size) if d is not None or k >= num_residuals else x
        for k, (x, d) in enumerate(zip(args, dims, strict=True))
    ]
    batched = [d is not None for d in dims[:num_residuals]]
    num_outs = len(program.outputs)
    forward, _ = ctx.batch(program, batched + [True] * (len(args) - num_residuals), True)
    backward, _ = ctx.batch(transposed, batched + [True] * num_outs, True)
    outs = linear_call(*operands, program=forward, transposed=backward, num_residuals=num_residuals)
    return outs, [0] * num_outs


linear_call = Primitive(
    "linear_call",
    shape=_linear_shape,
    evaluate=_call_evaluate,
    jvp=_linear_jvp,
    linearize=_linear_linearize,
    transpose=_linear_transpose,
    batch=_linear_batch,
    lanes=unsupported("the lanes pass walks into its program"),
    lower=_call_lower,
    effects=_call_effects,
    multiple_results=True,
    compiled=True,
    tags=frozenset({"call", "control"}),
)
"""A function that is linear in what follows its residuals, and its transpose.

`program` takes residuals and linear operands, `transposed` the residuals and a cotangent for each
output, and gives a cotangent for each linear operand.
"""
