"""Recomputation: `checkpoint`, the names its policies go by, and a barrier against merging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.core import interpret
from covector.core.avals import Aval, Linear, Zero, same_type
from covector.core.effects import Effects
from covector.core.primitive import BatchContext, Context, Primitive, unsupported
from covector.core.program import Program
from covector.core.trace import eval_program
from covector.loopir.tensor import Lowering, Tensor
from covector.ops.common import front, instantiate
from covector.ops.factory import lanes_elementwise
from covector.ops.nested import chosen, jvp_of_call, others, prune, trim_call
from covector.ops.policies import Policy
from covector.ops.remat_linearize import split_residuals

# --- optimization_barrier -------------------------------------------------------------------------


def _barrier_shape(*avals: Aval) -> list[Aval]:
    return list(avals)


def _barrier_evaluate(*operands: Any) -> list[Any]:
    return list(operands)


def _barrier_jvp(
    ctx: Context, primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    nonzero = [type(t) is not Zero for t in tangents]
    results = iter(optimization_barrier(*chosen(tangents, nonzero)))
    out_tangents = [next(results) if n else t for t, n in zip(tangents, nonzero, strict=True)]
    return optimization_barrier(*primals), out_tangents


def _barrier_transpose(ctx: Context, cts: Sequence[Any], *args: Any) -> list[Any]:
    nonzero = [type(ct) is not Zero for ct in cts]
    results = iter(optimization_barrier(*chosen(cts, nonzero)))
    found = [next(results) if n else ct for ct, n in zip(cts, nonzero, strict=True)]
    return [ct if type(a) is Linear else None for a, ct in zip(args, found, strict=True)]


def _barrier_batch(
    ctx: BatchContext, args: Sequence[Any], dims: Sequence[int | None]
) -> tuple[list[Any], list[int | None]]:
    return optimization_barrier(*args), list(dims)


def _barrier_lanes(dims: Sequence[int | None], *avals: Aval) -> list[int | None]:
    return list(dims)


def _barrier_lower(b: Lowering, *tensors: Tensor) -> list[Tensor]:
    # Programs are lowered in the order they are written: nothing is left to keep apart.
    return list(tensors)


optimization_barrier = Primitive(
    "optimization_barrier",
    shape=_barrier_shape,
    evaluate=_barrier_evaluate,
    jvp=_barrier_jvp,
    transpose=_barrier_transpose,
    batch=_barrier_batch,
    lanes=_barrier_lanes,
    lower=_barrier_lower,
    multiple_results=True,
    tags=frozenset({"barrier"}),
)
"""Its operands; passes do not merge what is computed behind it with what is computed before."""

# --- name -----------------------------------------------------------------------------------------


def _name_shape(x: Aval, *, name: str) -> Aval:
    return x


def _name_evaluate(x: Any, *, name: str) -> Any:
    return x


def _name_jvp(
    ctx: Context, primals: Sequence[Any], tangents: Sequence[Any], *, name: str
) -> tuple[Any, Any]:
    return name_value(primals[0], name=name), tangents[0]


def _name_transpose(ctx: Context, ct: Any, x: Any, *, name: str) -> list[Any]:
    return [ct]


def _name_batch(
    ctx: BatchContext, args: Sequence[Any], dims: Sequence[int | None], *, name: str
) -> tuple[Any, int | None]:
    return name_value(args[0], name=name), dims[0]


def _name_lower(b: Lowering, x: Tensor, *, name: str) -> Tensor:
    return x


name_value = Primitive(
    "name",
    shape=_name_shape,
    evaluate=_name_evaluate,
    jvp=_name_jvp,
    transpose=_name_transpose,
    batch=_name_batch,
    lanes=lanes_elementwise,
    lower=_name_lower,
    tags=frozenset({"elementwise"}),
)
"""Its operand, under a name that policies of `checkpoint` know it by."""

# --- checkpoint -----------------------------------------------------------------------------------


def _checkpoint_shape(*avals: Aval, program: Program, **params: Any) -> list[Aval]:
    wanted = program.input_avals
    if len(avals) != len(wanted) or not all(map(same_type, avals, wanted)):
        raise TypeError(f"checkpoint: the program takes {wanted}, got {list(avals)}")
    return program.output_avals


def _checkpoint_effects(*, program: Program, **params: Any) -> Effects:
    return program.effects


def _checkpoint_evaluate(*operands: Any, program: Program, **params: Any) -> list[Any]:
    return interpret.run(program, *operands)


def _checkpoint_direct(*operands: Any, program: Program, **params: Any) -> list[Any]:
    return eval_program(program, *operands)


def _checkpoint_jvp(
    ctx: Context,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    program: Program,
    **params: Any,
) -> tuple[list[Any], list[Any]]:
    return jvp_of_call(checkpoint, ctx, primals, tangents, program, params)


def _checkpoint_linearize(
    ctx: Context,
    primals: Sequence[Any],
    nonzero: Sequence[bool],
    *,
    program: Program,
    policy: Policy | None,
    prevent_cse: bool,
) -> tuple[list[Any], list[bool], Callable[..., list[Any]], list[Any]]:
    body = ctx.linearize(program, nonzero)
    num_outs = len(program.outputs)
    parts = split_residuals(body, num_outs, policy, barrier=prevent_cse)
    params: dict[str, Any] = {"policy": policy, "prevent_cse": prevent_cse}
    results = checkpoint(*primals, program=parts.known, **params)
    residuals = [primals[k] for k in parts.operands] + [results[k] for k in parts.results]

    def linear(residuals: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        return checkpoint(*residuals, *tangents, program=parts.linear, **params)

    return results[:num_outs], body.nonzero_out, linear, residuals


def _checkpoint_transpose(
    ctx: Context, cts: Sequence[Any], *args: Any, program: Program, **params: Any
) -> list[Any]:
    linear = [type(a) is Linear for a in args]
    used = [type(ct) is not Zero for ct in cts]
    pullback = ctx.transpose(prune(program.replace(outputs=chosen(program.outputs, used))), linear)
    operands = [*others(args, linear), *map(instantiate, chosen(cts, used))]
    results = iter(checkpoint(*operands, program=pullback, **params))
    return [next(results) if lin else None for lin in linear]


def _checkpoint_batch(
    ctx: BatchContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    program: Program,
    **params: Any,
) -> tuple[list[Any], list[int | None]]:
    mapped, out_batched = ctx.batch(program, [d is not None for d in dims])
    outs = checkpoint(*front(args, dims), program=mapped, **params)
    return outs, [0 if b else None for b in out_batched]


def _checkpoint_lower(
    b: Lowering, *tensors: Tensor, program: Program, **params: Any
) -> list[Tensor]:
    return b.inline(program, tensors)


checkpoint = Primitive(
    "checkpoint",
    shape=_checkpoint_shape,
    evaluate=_checkpoint_evaluate,
    jvp=_checkpoint_jvp,
    linearize=_checkpoint_linearize,
    transpose=_checkpoint_transpose,
    batch=_checkpoint_batch,
    lanes=unsupported("calls are inlined before lanes are looked for"),
    lower=_checkpoint_lower,
    effects=_checkpoint_effects,
    direct=_checkpoint_direct,
    trim=trim_call,
    multiple_results=True,
    tags=frozenset({"call", "control"}),
)
"""A call of `program` whose derivative computes its residuals again, unless `policy` saves them."""
