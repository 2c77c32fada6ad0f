"""Linear functions that know their transposes, and records that make these quick.

The derivative of a `while` is a pair of loops: one takes tangents forwards, its transpose takes
cotangents backwards. The backward one reads a record, snapshots that a `recorded` call leaves;
reverse mode through it as it stands would keep snapshots of stacks of snapshots. But what it
computes depends on the operands of the loop alone, and since it is the transpose of the forward one

    <u, T(r) c> = <P(r) u, c>      where T(r) is the transpose of P(r),

its derivative is that of the forward one. `P(r) u` is a loop like the first, with a tangent beside
each carry, so that reverse mode of any order keeps snapshots of carries and their tangents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from covector.core.avals import Aval, Linear, Zero
from covector.core.primitive import BatchContext, Context, Primitive, unsupported
from covector.core.program import Program
from covector.core.trace import aval_of, eval_program, trace_program
from covector.ops import common
from covector.ops.call import (
    check_call,
    effects_of_call,
    evaluate_call,
    linearize_call,
    lower_call,
)
from covector.ops.common import batch_at_front, front
from covector.ops.nested import chosen, prune, quiet, split, with_zeros


def _nonzero(tangents: Sequence[Any]) -> list[bool]:
    return [type(t) is not Zero for t in tangents]


# --- recorded -------------------------------------------------------------------------------------


def _recorded_jvp(
    ctx: Context,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    program: Program,
    plain: Program,
) -> tuple[list[Any], list[Any]]:
    nonzero, count = _nonzero(tangents), len(plain.outputs)
    _, out_nz = ctx.jvp(plain, nonzero)
    record_nz = [False] * (len(program.outputs) - count)
    while True:
        both, found = ctx.jvp(program, nonzero, out_nz + record_nz)
        alone, again = ctx.jvp(plain, nonzero, found[:count])
        if again == found[:count]:
            break
        out_nz = again
    outs, record, out_ts, record_ts = split(both.outputs, count, len(record_nz), sum(found[:count]))
    results = iter(
        recorded(
            *(*primals, *chosen(tangents, nonzero)),
            program=both.replace(outputs=[*outs, *out_ts, *record, *record_ts]),
            plain=alone,
        )
    )
    values = [next(results) for _ in outs]
    moved = [next(results) for _ in out_ts]
    values += [next(results) for _ in record]
    given = iter([*moved, *results])
    return values, [
        next(given) if nz else Zero(aval_of(v).tangent())
        for v, nz in zip(values, found, strict=True)
    ]


def _recorded_linearize(
    ctx: Context,
    primals: Sequence[Any],
    nonzero: Sequence[bool],
    *,
    program: Program,
    plain: Program,
) -> tuple[list[Any], list[bool], Callable[..., list[Any]], list[Any]]:
    _, *record = split(recorded(*primals, program=program, plain=plain), len(plain.outputs))
    outs, out_nz, linear, residuals = linearize_call(
        ctx, primals, nonzero, program=quiet(plain), name="recorded", inline=True
    )
    flags = [*out_nz, *[False] * len(record[0])]
    return [*outs, *record[0]], flags, linear, residuals


def _recorded_batch(
    ctx: BatchContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    program: Program,
    plain: Program,
) -> tuple[list[Any], list[int | None]]:
    batched, count = [d is not None for d in dims], len(plain.outputs)
    wanted = [False] * len(program.outputs)
    while True:
        mapped, found = ctx.batch(program, batched, wanted)
        alone, again = ctx.batch(plain, batched, found[:count])
        if again == found[:count]:
            break
        wanted = again + found[count:]
    outs = recorded(*front(args, dims), program=mapped, plain=alone)
    return outs, [0 if b else None for b in found]


recorded = Primitive(
    "recorded",
    shape=check_call,
    evaluate=evaluate_call,
    jvp=_recorded_jvp,
    linearize=_recorded_linearize,
    transpose=unsupported("what is linear about it is a linear_call"),
    batch=_recorded_batch,
    lanes=unsupported("the lanes pass walks into its program"),
    lower=lower_call,
    effects=effects_of_call,
    multiple_results=True,
    compiled=True,
    tags=frozenset({"call", "control"}),
)
"""A function that leaves a record for the derivative of its results.

`program` gives the results of `plain` and, behind them, the record. Only a `linear_call` may read
it: in reverse mode it has no derivative of its own, as that of the `linear_call` by its operands
includes what passes through the record.
"""

# --- linear_call ----------------------------------------------------------------------------------


def _linear_jvp(
    ctx: Context, primals: Sequence[Any], tangents: Sequence[Any], **params: Any
) -> tuple[list[Any], list[Any]]:
    sizes = (params["num_operands"], params["num_record"])
    operands, record, linear = split(primals, *sizes)
    operand_ts, record_ts, linear_ts = split(tangents, *sizes)
    linear_ts = [common.instantiate(t) for t in linear_ts]
    moved, noted = _nonzero(operand_ts), _nonzero(record_ts)
    if not any(moved):
        outs = linear_call(*primals, **params)
        return outs, linear_call(*operands, *record, *linear_ts, **params)
    operand_ts, record_ts = chosen(operand_ts, moved), chosen(record_ts, noted)
    recording: Program | None = params["recording"]
    if recording is not None:
        recording, found = ctx.jvp(recording, moved, noted)
        if found != noted:
            results = eval_program(recording, *operands, *operand_ts)
            noted, (record, record_ts) = found, split(results, len(record))
    flags = [*moved, *noted]
    results = linear_call(
        *(*operands, *operand_ts, *record, *record_ts, *linear, *linear_ts),
        program=_pushed(ctx, params["program"], flags, *sizes),
        transposed=_pushed(ctx, params["transposed"], flags, *sizes, swapped=True),
        recording=recording,
        num_operands=len(operands) + len(operand_ts),
        num_record=len(record) + len(record_ts),
        plain=params["plain"],
    )
    outs, out_ts = split(results, len(results) // 2)
    return outs, out_ts


def _pushed(
    ctx: Context,
    program: Program,
    flags: Sequence[bool],
    num_operands: int,
    num_record: int,
    swapped: bool = False,
) -> Program:
    """The jvp of one of the programs of a `linear_call`, with its inputs in their order.

    Args:
        flags: which operands, and which values of the record, have a tangent.
        swapped: whether to put the tangents of what is linear before the values. With `P` the
            program, `(a, b) -> (P a, P' a + P b)` has the transpose `(c, d) -> (T c + T' d, T d)`:
            the jvp of `T` at `d` along `c`, its results in the other order.
    """
    num_linear = len(program.inputs) - num_operands - num_record
    both, _ = ctx.jvp(program, [*flags, *[True] * num_linear], True)
    operands, record, linear, operand_ts, record_ts, linear_ts = split(
        both.inputs,
        *(num_operands, num_record, num_linear),
        *(sum(flags[:num_operands]), sum(flags[num_operands:])),
    )
    outs, out_ts = split(both.outputs, len(program.outputs))
    if swapped:
        linear, linear_ts, outs, out_ts = linear_ts, linear, out_ts, outs
    inputs = [*operands, *operand_ts, *record, *record_ts, *linear, *linear_ts]
    return both.replace(inputs=inputs, outputs=[*outs, *out_ts])


def _linear_linearize(
    ctx: Context, primals: Sequence[Any], nonzero: Sequence[bool], **params: Any
) -> tuple[list[Any], list[bool], Callable[..., list[Any]], list[Any]]:
    sizes = (params["num_operands"], params["num_record"])
    operands, _, values = split(primals, *sizes)
    moved, noted, linear_nz = split(nonzero, *sizes)
    if any(moved) and params["plain"]:
        outs, out_nz, inner, residuals = linearize_call(
            ctx,
            [*operands, *values],
            [*moved, *linear_nz],
            program=_without_record(params["program"], *sizes),
            name="linear",
            inline=True,
        )

        def linear(residuals: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
            # Tangents of the record are part of those of the operands.
            operand_ts, _, rest = split(tangents, sum(moved), sum(noted))
            return inner(residuals, [*operand_ts, *rest])

        return outs, out_nz, linear, residuals
    if any(moved):
        run, residuals = _derivative(ctx, primals, moved, **params), [*operands, *values]
    else:
        run, residuals = partial(linear_call, **params), primals[: sum(sizes)]
    avals = [aval_of(x).tangent() for x in values]
    every = [True] * len(values)

    def linear_in_all(residuals: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        operand_ts, _, rest = split(tangents, sum(moved), sum(noted))
        return run(*residuals, *operand_ts, *with_zeros(rest, linear_nz, every, avals))

    outs = linear_call(*primals, **params)
    return outs, [True] * len(outs), linear_in_all, list(residuals)


def _derivative(
    ctx: Context,
    primals: Sequence[Any],
    moved: Sequence[bool],
    *,
    program: Program,
    transposed: Program,
    recording: Program | None,
    num_operands: int,
    num_record: int,
    plain: bool,
) -> Callable[..., list[Any]]:
    """`operands, linear ones, their tangents -> tangents of the results`, for a program not plain.

    Its transpose is the derivative of the plain program, which is the transpose of this one: see
    the top of this module.
    """
    operands, _, linear = split([aval_of(x) for x in primals], num_operands, num_record)

    def again(*args: Any) -> list[Any]:
        record: list[Any] = []
        if recording is not None:
            nothing = recording.replace(equations=[], outputs=[])
            record = recorded(*args[:num_operands], program=recording, plain=nothing)
        return linear_call(
            *(*args[:num_operands], *record, *args[num_operands:]),
            program=program,
            transposed=transposed,
            recording=recording,
            num_operands=num_operands,
            num_record=num_record,
            plain=plain,
        )

    whole, _ = trace_program(again, [*operands, *linear], program.name)
    both, _ = ctx.jvp(whole, [*moved, *[True] * len(linear)], True)
    forward = prune(both.replace(outputs=both.outputs[len(program.outputs) :]))

    other = _without_record(transposed, num_operands, num_record)
    num_cts, num_values = len(program.outputs), len(linear)
    body = ctx.linearize(other, [*moved, *[False] * num_cts], True)
    pullback = ctx.transpose(body.linear, [False] * body.num_residuals + [True] * sum(moved))

    def pull(*args: Any) -> list[Any]:
        operands, linear, cts = split(args, num_operands, num_values)
        values, residuals = split(eval_program(body.known, *operands, *cts), num_values)
        return [*eval_program(pullback, *residuals, *linear), *values]

    cotangents = [v.aval for v in other.inputs[num_operands:]]
    backward, _ = trace_program(pull, [*operands, *linear, *cotangents], program.name)
    return partial(
        linear_call,
        program=forward,
        transposed=backward,
        recording=None,
        num_operands=num_operands + num_values,
        num_record=0,
        plain=True,
    )


def _without_record(program: Program, num_operands: int, num_record: int) -> Program:
    """A plain program, which reads no record, without the inputs for it."""
    operands, _, rest = split(program.inputs, num_operands, num_record)
    return program.replace(inputs=[*operands, *rest])


def _linear_transpose(
    ctx: Context,
    cts: Sequence[Any],
    *args: Any,
    program: Program,
    transposed: Program,
    recording: Program | None,
    num_operands: int,
    num_record: int,
    plain: bool,
) -> list[Any]:
    known, linear = split(args, num_operands + num_record)
    if any([type(r) is Linear for r in known]):
        raise TypeError("linear_call is not linear in its operands and in the record")
    results = linear_call(
        *known,
        *map(common.instantiate, cts),
        program=transposed,
        transposed=program,
        recording=recording,
        num_operands=num_operands,
        num_record=num_record,
        plain=not plain,
    )
    moved = [r if type(a) is Linear else None for r, a in zip(results, linear, strict=True)]
    return [None] * len(known) + moved


def _linear_batch(
    ctx: BatchContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    program: Program,
    transposed: Program,
    recording: Program | None,
    num_operands: int,
    num_record: int,
    plain: bool,
) -> tuple[list[Any], list[int | None]]:
    # All that is linear gets the batch axis, so that both directions agree which has it.
    known = num_operands + num_record
    batched = [d is not None or k >= known for k, d in enumerate(dims)]
    before = recording
    if recording is not None:
        recording, noted = ctx.batch(recording, batched[:num_operands], batched[num_operands:known])
        batched[num_operands:known] = noted
    operands = [
        batch_at_front(x, d, ctx.axis_size) if b else x
        for x, d, b in zip(args, dims, batched, strict=True)
    ]
    num_outs = len(program.outputs)
    forward, _ = ctx.batch(program, batched, True)
    backward, _ = ctx.batch(transposed, batched[:known] + [True] * num_outs, True)
    params = {"num_operands": num_operands, "num_record": num_record, "plain": plain}
    outs = linear_call(
        *operands, program=forward, transposed=backward, recording=recording, **params
    )
    given = [d is not None for d in dims]
    _, differs = ctx.batch(program, batched[:known] + given[known:])
    if all(differs):
        return outs, [0] * num_outs
    # Values whose derivatives are batched are not themselves: they come from a call of their own.
    one = linear_call(
        *[_of_one_lane(x, d, k >= known) for k, (x, d) in enumerate(zip(args, dims, strict=True))],
        program=program,
        transposed=transposed,
        recording=before,
        **params,
    )
    values = [b if differ else a for a, b, differ in zip(one, outs, differs, strict=True)]
    return values, [0 if differ else None for differ in differs]


def _of_one_lane(x: Any, dim: int | None, linear: bool) -> Any:
    """An operand of what does not depend on it if it is batched."""
    from covector.ops.shape import squeeze
    from covector.ops.slices import slice_in_dim

    if dim is None:
        return x
    aval = aval_of(x)
    if linear or aval.shape[dim] == 0:
        shape = [n for d, n in enumerate(aval.shape) if d != dim]
        return common.zeros(Aval(tuple(shape), aval.dtype))
    return squeeze(slice_in_dim(x, 0, 1, dim), dimensions=(dim,))


linear_call = Primitive(
    "linear_call",
    shape=check_call,
    evaluate=evaluate_call,
    jvp=_linear_jvp,
    linearize=_linear_linearize,
    transpose=_linear_transpose,
    batch=_linear_batch,
    lanes=unsupported("the lanes pass walks into its program"),
    lower=lower_call,
    effects=effects_of_call,
    multiple_results=True,
    compiled=True,
    tags=frozenset({"call", "control"}),
)
"""A function that is linear in what follows its operands and their record, and its transpose.

`program` takes operands, the record and linear operands, `transposed` the first two and a cotangent
for each output, and gives a cotangent for each linear operand. `recording` makes the record of the
operands once more (`None` if there is none). The program that is `plain`, `program` if the flag is
set and `transposed` if not, reads no record, and is what reverse mode differentiates.
"""
