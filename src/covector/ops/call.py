"""Calls of nested programs: `jit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.core import interpret
from covector.core.avals import Aval, Linear, Zero, same_type
from covector.core.effects import Effects
from covector.core.primitive import BatchContext, Context, Primitive, unsupported
from covector.core.program import Atom, Literal, Program, Variable
from covector.loopir.tensor import Lowering, Tensor
from covector.ops.common import front
from covector.ops.nested import chosen, jvp_of_call, others, prune, split, substitute


def check_call(*avals: Aval, program: Program, **params: Any) -> list[Aval]:
    """The shape rule of primitives that run one program on their operands."""
    wanted = program.input_avals
    if len(avals) != len(wanted) or not all(map(same_type, avals, wanted)):
        raise TypeError(f"jit: the program takes {wanted}, got {list(avals)}")
    return program.output_avals


def effects_of_call(*, program: Program, **params: Any) -> Effects:
    """The effects of such primitives."""
    return program.effects


def evaluate_call(*operands: Any, program: Program, **params: Any) -> list[Any]:
    """The evaluation of such primitives."""
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


def linearize_call(
    ctx: Context,
    primals: Sequence[Any],
    nonzero: Sequence[bool],
    *,
    program: Program,
    **params: Any,
) -> tuple[list[Any], list[bool], Callable[..., list[Any]], list[Any]]:
    """The linearize rule of such primitives: two calls; `params` are those of `jit`."""
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


def lower_call(b: Lowering, *tensors: Tensor, program: Program, **params: Any) -> list[Tensor]:
    """The lowering of such primitives: the program stands in the place of the call."""
    return b.inline(program, tensors)


call = Primitive(
    "jit",
    shape=check_call,
    evaluate=evaluate_call,
    jvp=_call_jvp,
    linearize=linearize_call,
    transpose=_call_transpose,
    batch=_call_batch,
    lanes=unsupported("the lanes pass walks into its program"),
    lower=lower_call,
    effects=effects_of_call,
    multiple_results=True,
    compiled=True,
    tags=frozenset({"call", "control"}),
)
