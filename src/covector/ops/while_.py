"""`while`: a loop that carries state for as long as a predicate on it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from covector.core import dtypes, interpret
from covector.core.avals import Aval, Zero, same_type
from covector.core.effects import Effects
from covector.core.primitive import BatchContext, Context, Primitive, unsupported
from covector.core.program import Program, Variable
from covector.core.trace import aval_of, eval_program, trace_program
from covector.loopir.tensor import Lowering, Tensor
from covector.ops import common
from covector.ops import indices as ix
from covector.ops.carries import Carries
from covector.ops.common import batch_at_front, move_axis
from covector.ops.guard import guard_loops, loops_inside
from covector.ops.nested import chosen, either, split
from covector.ops.while_linearize import linearize_while

# --- types and evaluation -------------------------------------------------------------------------


def _while_shape(
    *avals: Aval,
    cond_program: Program,
    cond_nconsts: int,
    body_program: Program,
    body_nconsts: int,
) -> list[Aval]:
    if cond_nconsts < 0 or body_nconsts < 0 or cond_nconsts + body_nconsts > len(avals):
        raise TypeError(f"while: there are no {cond_nconsts} and {body_nconsts} constants")
    cond_consts, body_consts, carry = split(avals, cond_nconsts, body_nconsts)
    _check_operands("condition", [*cond_consts, *carry], cond_program)
    _check_operands("body", [*body_consts, *carry], body_program)
    (predicate,) = cond_program.output_avals
    if predicate.shape != () or predicate.dtype != dtypes.bool_:
        raise TypeError(f"while: the condition must give a bool, it gives {predicate}")
    results: list[Aval] = []
    for before, after in zip(
        body_program.input_avals[body_nconsts:], body_program.output_avals, strict=True
    ):
        if not same_type(before, after):
            raise TypeError(f"while: a carry of type {before} becomes {after} in the body")
        results.append(before if after.weak_type else before.strong())
    return results


def _check_operands(what: str, avals: Sequence[Aval], program: Program) -> None:
    wanted = program.input_avals
    if len(wanted) != len(avals):
        raise TypeError(f"while: the {what} takes {len(wanted)} inputs, got {len(avals)} operands")
    for found, want in zip(avals, wanted, strict=True):
        if not same_type(found, want):
            raise TypeError(f"while: the {what} takes {want}, got {found}")


def _while_effects(*, cond_program: Program, body_program: Program, **params: Any) -> Effects:
    return cond_program.effects | body_program.effects


def _while_evaluate(
    *operands: Any,
    cond_program: Program,
    cond_nconsts: int,
    body_program: Program,
    body_nconsts: int,
) -> list[Any]:
    cond_consts, body_consts, carry = split(operands, cond_nconsts, body_nconsts)
    while interpret.run(cond_program, *cond_consts, *carry)[0]:
        carry = interpret.run(body_program, *body_consts, *carry)
    return list(carry)


# --- differentiation ------------------------------------------------------------------------------


def _while_jvp(
    ctx: Context,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    cond_program: Program,
    cond_nconsts: int,
    body_program: Program,
    body_nconsts: int,
) -> tuple[list[Any], list[Any]]:
    nonzero = [type(t) is not Zero for t in tangents]
    _, const_nz, carry_nz = split(nonzero, cond_nconsts, body_nconsts)
    while True:
        both, out_nz = ctx.jvp(body_program, const_nz + carry_nz, carry_nz)
        grown = either(carry_nz, out_nz)
        if grown == carry_nz:
            break
        carry_nz = grown
    cond_consts, body_consts, carry = split(primals, cond_nconsts, body_nconsts)
    given = tangents[cond_nconsts:]
    const_ts, carry_ts = split(
        [common.instantiate(t) for t in chosen(given, const_nz + carry_nz)], sum(const_nz)
    )
    outs = while_(
        *(*cond_consts, *body_consts, *const_ts, *carry, *carry_ts),
        cond_program=_with_more_inputs(cond_program, carry_ts),
        cond_nconsts=cond_nconsts,
        body_program=_interleaved(both, body_nconsts, len(carry), len(const_ts)),
        body_nconsts=body_nconsts + len(const_ts),
    )
    results, found = outs[: len(carry)], iter(outs[len(carry) :])
    out_tangents = [
        next(found) if nz else Zero(aval_of(out).tangent())
        for out, nz in zip(results, carry_nz, strict=True)
    ]
    return results, out_tangents


def _with_more_inputs(program: Program, values: Sequence[Any]) -> Program:
    """The program with inputs after its own that it ignores."""
    ignored = [Variable(aval_of(v)) for v in values]
    return program.replace(inputs=[*program.inputs, *ignored])


def _interleaved(both: Program, num_consts: int, num_carry: int, num_const_ts: int) -> Program:
    """From `primals, tangents` to consts and carries, each with their tangents behind them."""
    consts, carry, const_ts, carry_ts = split(both.inputs, num_consts, num_carry, num_const_ts)
    return both.replace(inputs=[*consts, *const_ts, *carry, *carry_ts])


def _while_linearize(ctx: Context, primals: Any, nonzero: Any, **params: Any) -> Any:
    return linearize_while(while_, ctx, primals, nonzero, **params)


# --- batching -------------------------------------------------------------------------------------


def _while_batch(
    ctx: BatchContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    cond_program: Program,
    cond_nconsts: int,
    body_program: Program,
    body_nconsts: int,
) -> tuple[list[Any], list[int | None]]:
    batched = [d is not None for d in dims]
    cond_b, const_b, carry_b = split(batched, cond_nconsts, body_nconsts)
    while True:
        body, out_b = ctx.batch(body_program, const_b + carry_b, carry_b)
        grown = either(carry_b, out_b)
        if grown == carry_b:
            break
        carry_b = grown
    condition, (lanes_differ,) = ctx.batch(cond_program, cond_b + carry_b)
    if lanes_differ:
        # Each lane ends on its own, so that each has a carry of its own.
        carry_b = [True] * len(carry_b)
        condition, _ = ctx.batch(cond_program, cond_b + carry_b, True)

    operands: list[Any] = []
    first_carry = cond_nconsts + body_nconsts
    for k, (x, dim) in enumerate(zip(args, dims, strict=True)):
        if k >= first_carry and carry_b[k - first_carry]:
            operands.append(batch_at_front(x, dim, ctx.axis_size))
        else:
            operands.append(x if dim is None else move_axis(x, dim, 0))
    out_dims: list[int | None] = [0 if b else None for b in carry_b]
    if not lanes_differ:
        outs = while_(
            *operands,
            cond_program=condition,
            cond_nconsts=cond_nconsts,
            body_program=body,
            body_nconsts=body_nconsts,
        )
        return outs, out_dims

    cond_consts, body_consts, carry = split(operands, cond_nconsts, body_nconsts)
    avals = [aval_of(x) for x in carry]
    step = _lane_by_lane(
        ctx, condition, [aval_of(c) for c in cond_consts], body_program, body_consts, const_b, avals
    )
    outs = while_(
        *(*cond_consts, *cond_consts, *body_consts, *carry),
        cond_program=_any_lane(condition),
        cond_nconsts=cond_nconsts,
        body_program=step,
        body_nconsts=cond_nconsts + body_nconsts,
    )
    return outs, out_dims


def _any_lane(condition: Program) -> Program:
    """Whether any lane goes on."""
    from covector.ops.reduce import reduce_or

    def anything(*args: Any) -> list[Any]:
        return [reduce_or(eval_program(condition, *args)[0], axes=(0,))]

    return trace_program(anything, condition.input_avals, condition.name)[0]


def _lane_by_lane(
    ctx: BatchContext,
    condition: Program,
    cond_consts: Sequence[Aval],
    body_program: Program,
    body_consts: Sequence[Any],
    const_b: list[bool],
    carry: Sequence[Aval],
) -> Program:
    """The body for batched lanes: those that are done keep their carries."""
    guarded = loops_inside(body_program)
    if guarded:
        body_program = guard_loops(body_program)
    flags = [True] * guarded + const_b + [True] * len(carry)
    body, _ = ctx.batch(body_program, flags, True)

    def step(*args: Any) -> list[Any]:
        for_condition, for_body, state = split(args, len(cond_consts), len(body_consts))
        (active,) = eval_program(condition, *for_condition, *state)
        after = eval_program(body, *([active] if guarded else []), *for_body, *state)
        return [
            old if new is old else where(active, new, old)
            for new, old in zip(after, state, strict=True)
        ]

    avals = [*cond_consts, *[aval_of(c) for c in body_consts], *carry]
    return trace_program(step, avals, body_program.name)[0]


def where(active: Any, new: Any, old: Any) -> Any:
    """`new` in the lanes (along the first axis) where `active`, else `old`."""
    from covector.ops.compare import select_n
    from covector.ops.shape import broadcast_in_dim

    shape = aval_of(new).shape
    if len(shape) > 1:
        active = broadcast_in_dim(active, shape=shape, broadcast_dimensions=(0,))
    return select_n(active, old, new)


# --- native code ----------------------------------------------------------------------------------


def _while_lower(
    b: Lowering,
    *tensors: Tensor,
    cond_program: Program,
    cond_nconsts: int,
    body_program: Program,
    body_nconsts: int,
) -> list[Tensor]:
    cond_consts, body_consts, initial = split(tensors, cond_nconsts, body_nconsts)
    builder = b.builder
    carries = Carries(b, body_program, body_nconsts, initial)
    cond_consts = [b.hoist(t) for t in cond_consts]
    body_consts = [b.hoist(t) for t in body_consts]

    def condition(step: Any, *scalars: Any) -> Any:
        state = carries.tensors(scalars, step)
        (predicate,) = b.inline(cond_program, [*cond_consts, *state])
        return predicate.at(())

    def body(step: Any, *scalars: Any) -> list[Any]:
        outs = carries.run(b, [*body_consts, *carries.tensors(scalars, step)])
        return [ix.add(builder, step, 1), *carries.advance(outs, step)]

    steps, *scalars = builder.while_(condition, body, [builder.index(0), *carries.scalars])
    return carries.tensors(scalars, steps)


while_ = Primitive(
    "while",
    shape=_while_shape,
    evaluate=_while_evaluate,
    jvp=_while_jvp,
    linearize=_while_linearize,
    transpose=unsupported(
        "a loop whose number of iterations depends on its input cannot be run backwards as it is"
    ),
    batch=_while_batch,
    lanes=unsupported("the lanes pass walks into its programs"),
    lower=_while_lower,
    effects=_while_effects,
    multiple_results=True,
    compiled=True,
    tags=frozenset({"control"}),
)
