"""`scan`: a counted loop that carries state, reads slices of arrays and stacks results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.core import interpret
from covector.core.avals import Aval, Linear, Zero, same_type
from covector.core.effects import Effects
from covector.core.primitive import BatchContext, Context, Primitive, unsupported
from covector.core.program import Equation, Program, Variable
from covector.core.trace import aval_of
from covector.loopir.tensor import Lowering, Row, Stored, Tensor
from covector.ops import common
from covector.ops import indices as ix
from covector.ops.carries import Carries
from covector.ops.common import batch_at_front, move_axis
from covector.ops.nested import (
    chosen,
    count_uses,
    depends,
    either,
    is_zero,
    live_body,
    others,
    prune,
    split,
    stacked,
    stored_zeros,
)
from covector.ops.scan_linearize import linearize_scan
from covector.ops.tapes import Remat
from covector.ops.windows import static_size

# --- types and evaluation -------------------------------------------------------------------------


def _scan_shape(
    *avals: Aval,
    program: Program,
    num_consts: int,
    num_carry: int,
    length: Any,
    reverse: bool,
    unroll: int,
    remat: Remat = None,
) -> list[Aval]:
    inputs, outputs = program.input_avals, program.output_avals
    if num_consts < 0 or not 0 <= num_carry <= min(len(inputs) - num_consts, len(outputs)):
        raise TypeError(f"scan: {num_consts} constants and {num_carry} carries are not the body's")
    if len(inputs) != len(avals):
        raise TypeError(f"scan: the body takes {len(inputs)} inputs, got {len(avals)} operands")
    for k, (found, wanted) in enumerate(zip(avals, inputs, strict=True)):
        if k >= num_consts + num_carry:
            wanted = stacked(wanted, length)
        if not same_type(found, wanted):
            raise TypeError(f"scan: operand {k} must be of type {wanted}, got {found}")
    results: list[Aval] = []
    for before, after in zip(inputs[num_consts:], outputs[:num_carry], strict=False):
        if not same_type(before, after):
            raise TypeError(f"scan: a carry of type {before} becomes {after} in the body")
        results.append(before if after.weak_type else before.strong())
    return results + [stacked(a, length) for a in outputs[num_carry:]]


def _scan_effects(*, program: Program, **params: Any) -> Effects:
    return program.effects


def _scan_evaluate(
    *operands: Any,
    program: Program,
    num_consts: int,
    num_carry: int,
    length: int,
    reverse: bool,
    unroll: int,
    remat: Remat = None,
) -> list[Any]:
    consts, carry, xs = split(operands, num_consts, num_carry)
    ys: list[Any] = []
    for step in range(length):
        i = length - 1 - step if reverse else step
        outs = interpret.run(program, *consts, *carry, *[x[i, ...] for x in xs])
        carry = outs[:num_carry]
        if step == 0:
            ys = [np.empty((length, *y.shape), y.dtype) for y in outs[num_carry:]]
        for stack, y in zip(ys, outs[num_carry:], strict=True):
            stack[i] = y
    if length == 0:
        ys = [stored_zeros(a, 0) for a in program.output_avals[num_carry:]]
    return [*carry, *ys]


# --- forward mode ---------------------------------------------------------------------------------


def _scan_jvp(
    ctx: Context,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    program: Program,
    num_consts: int,
    num_carry: int,
    **params: Any,
) -> tuple[list[Any], list[Any]]:
    const_nz, carry_nz, x_nz = split([type(t) is not Zero for t in tangents], num_consts, num_carry)
    num_ys = len(program.outputs) - num_carry
    while True:
        forced = carry_nz + [False] * num_ys
        both, out_nz = ctx.jvp(program, const_nz + carry_nz + x_nz, forced)
        grown = either(carry_nz, out_nz[:num_carry])
        if grown == carry_nz:
            break
        carry_nz = grown
    nonzero = const_nz + carry_nz + x_nz
    given = [common.instantiate(t) for t in chosen(tangents, nonzero)]
    num_const_ts, num_carry_ts = sum(const_nz), sum(carry_nz)

    consts, carry, xs = split(primals, num_consts, num_carry)
    const_ts, carry_ts, x_ts = split(given, num_const_ts, num_carry_ts)
    sizes = (num_consts, num_carry, len(xs), num_const_ts, num_carry_ts)
    outs = scan(
        *(*consts, *const_ts, *carry, *carry_ts, *xs, *x_ts),
        program=_interleaved(both, sizes, num_ys),
        num_consts=num_consts + num_const_ts,
        num_carry=num_carry + num_carry_ts,
        **params,
    )
    carry, carry_ts, ys, y_ts = split(outs, num_carry, num_carry_ts, num_ys)
    found = iter(carry_ts + y_ts)
    out_tangents = [
        next(found) if nz else Zero(aval_of(out).tangent())
        for out, nz in zip(carry + ys, out_nz, strict=True)
    ]
    return carry + ys, out_tangents


def _interleaved(both: Program, sizes: Sequence[int], num_ys: int) -> Program:
    """From `primals, tangents` to consts, carries and xs, each with their tangents behind them."""
    consts, carry, xs, const_ts, carry_ts, x_ts = split(both.inputs, *sizes)
    num_carry, num_carry_ts = len(carry), len(carry_ts)
    carry_out, ys, carry_out_ts, y_ts = split(both.outputs, num_carry, num_ys, num_carry_ts)
    return both.replace(
        inputs=[*consts, *const_ts, *carry, *carry_ts, *xs, *x_ts],
        outputs=[*carry_out, *carry_out_ts, *ys, *y_ts],
    )


def _scan_linearize(ctx: Context, primals: Any, nonzero: Any, **params: Any) -> Any:
    return linearize_scan(scan, ctx, primals, nonzero, **params)


# --- reverse mode ---------------------------------------------------------------------------------


def _scan_transpose(
    ctx: Context,
    cts: Sequence[Any],
    *args: Any,
    program: Program,
    num_consts: int,
    num_carry: int,
    length: Any,
    reverse: bool,
    unroll: int,
    remat: Remat = None,
) -> list[Any]:
    linear = [type(a) is Linear for a in args]
    const_lin, carry_lin, x_lin = split(linear, num_consts, num_carry)
    while True:
        out_lin = depends(program, const_lin + carry_lin + x_lin)
        grown = either(carry_lin, out_lin[:num_carry])
        if grown == carry_lin:
            break
        carry_lin = grown
    loop = {"length": length, "reverse": reverse, "unroll": unroll}
    consts, carry, xs = split(args, num_consts, num_carry)
    known_carry = _known_carries(
        program, args, (const_lin, carry_lin, x_lin), num_consts, num_carry, loop
    )

    carry_cts, y_cts = cts[:num_carry], cts[num_carry:]
    y_used = [
        lin and type(ct) is not Zero for ct, lin in zip(y_cts, out_lin[num_carry:], strict=True)
    ]
    const_vars, carry_vars, x_vars = split(program.inputs, num_consts, num_carry)
    body = program.replace(
        inputs=[
            *(*others(const_vars, const_lin), *others(carry_vars, carry_lin)),
            *(*others(x_vars, x_lin), *chosen(const_vars, const_lin)),
            *(*chosen(carry_vars, carry_lin), *chosen(x_vars, x_lin)),
        ],
        outputs=[
            *chosen(program.outputs[:num_carry], carry_lin),
            *chosen(program.outputs[num_carry:], y_used),
        ],
    )
    num_lin = sum(const_lin) + sum(carry_lin) + sum(x_lin)
    flags = [False] * (len(body.inputs) - num_lin) + [True] * num_lin
    pullback = ctx.transpose(prune(body), flags)

    known_consts = others(consts, const_lin)
    sums = [common.zeros(v.aval.tangent()) for v in chosen(const_vars, const_lin)]
    last = [common.instantiate(ct) for ct in chosen(carry_cts, carry_lin)]
    known_xs = known_carry + others(xs, x_lin)
    outs = scan(
        *(*known_consts, *sums, *last, *known_xs, *chosen(y_cts, y_used)),
        program=_accumulating(pullback, len(known_consts), len(known_xs), len(sums), len(last)),
        num_consts=len(known_consts),
        num_carry=len(sums) + len(last),
        length=length,
        reverse=not reverse,
        unroll=unroll,
    )
    const_cts, init_cts, x_cts = (iter(part) for part in split(outs, len(sums), len(last)))
    init_all = [next(init_cts) if lin else None for lin in carry_lin]
    return [
        *[next(const_cts) if lin else None for lin in const_lin],
        *[ct if type(c) is Linear else None for ct, c in zip(init_all, carry, strict=True)],
        *[next(x_cts) if lin else None for lin in x_lin],
    ]


def _known_carries(
    program: Program,
    args: Sequence[Any],
    linear: tuple[list[bool], list[bool], list[bool]],
    num_consts: int,
    num_carry: int,
    loop: dict[str, Any],
) -> list[Any]:
    """The values of the carries that no derivative reaches at the start of every iteration."""
    const_lin, carry_lin, x_lin = linear
    if all(carry_lin):
        return []
    consts, carry, xs = split(program.inputs, num_consts, num_carry)
    kept = [
        *(*others(consts, const_lin), *others(carry, carry_lin)),
        *others(xs, x_lin),
    ]
    states = others(carry, carry_lin)
    body = program.replace(
        inputs=kept, outputs=[*others(program.outputs[:num_carry], carry_lin), *states]
    )
    operands = others(args, [*const_lin, *carry_lin, *x_lin])
    outs = scan(
        *operands,
        program=prune(body),
        num_consts=num_consts - sum(const_lin),
        num_carry=len(states),
        **loop,
    )
    return outs[len(states) :]


def _accumulating(
    pullback: Program, num_consts: int, num_known: int, num_sums: int, num_carry: int
) -> Program:
    """The body of the backward scan: cotangents of consts are summed in carries.

    `consts, known xs, carry cts, y cts -> const cts, carry cts, x cts` becomes
    `consts, sums, carry cts, known xs, y cts -> sums, carry cts, x cts`.
    """
    from covector.ops.elementwise import add

    consts, known, carry, ys = split(pullback.inputs, num_consts, num_known, num_carry)
    contributions, rest = split(pullback.outputs, num_sums)
    sums = [Variable(a.aval.strong()) for a in contributions]
    totals: list[Variable] = []
    equations = list(pullback.equations)
    for before, contribution in zip(sums, contributions, strict=True):
        if is_zero(contribution):
            totals.append(before)
            continue
        total = Variable(before.aval)
        equations.append(Equation(add, [before, contribution], [total], {}))
        totals.append(total)
    return Program(
        [*consts, *sums, *carry, *known, *ys], equations, [*totals, *rest], pullback.name
    )


# --- dead results ---------------------------------------------------------------------------------


def _scan_trim(equation: Equation, used: Sequence[bool]) -> Equation:
    """Without stacked outputs that nothing reads and carries that matter to nothing."""
    params = equation.params
    num_consts, num_carry = params["num_consts"], params["num_carry"]
    carry_used, y_used = split(used, num_carry)
    body, live = live_body(params["program"], num_consts, carry_used, y_used)
    const_live, carry_live, x_live = split(live, num_consts, num_carry)
    if all(carry_live) and all(y_used):
        return equation
    consts, carry, xs = split(equation.inputs, num_consts, num_carry)
    program = body.replace(inputs=chosen(body.inputs, live))
    trimmed = {"program": program, "num_consts": sum(const_live), "num_carry": sum(carry_live)}
    return equation.replace(
        inputs=chosen(consts, const_live) + chosen(carry, carry_live) + chosen(xs, x_live),
        outputs=chosen(equation.outputs, carry_live + y_used),
        params={**params, **trimmed},
    )


# --- batching -------------------------------------------------------------------------------------


def _scan_batch(
    ctx: BatchContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    program: Program,
    num_consts: int,
    num_carry: int,
    **params: Any,
) -> tuple[list[Any], list[int | None]]:
    const_b, carry_b, x_b = split([d is not None for d in dims], num_consts, num_carry)
    num_ys = len(program.outputs) - num_carry
    while True:
        forced = carry_b + [False] * num_ys
        body, out_b = ctx.batch(program, const_b + carry_b + x_b, forced)
        grown = either(carry_b, out_b[:num_carry])
        if grown == carry_b:
            break
        carry_b = grown
    operands: list[Any] = []
    for k, (x, dim) in enumerate(zip(args, dims, strict=True)):
        if k >= num_consts + num_carry:
            operands.append(x if dim is None else move_axis(x, dim, 1))
        elif k >= num_consts and carry_b[k - num_consts]:
            operands.append(batch_at_front(x, dim, ctx.axis_size))
        else:
            operands.append(x if dim is None else move_axis(x, dim, 0))
    outs = scan(*operands, program=body, num_consts=num_consts, num_carry=num_carry, **params)
    carry_dims = [0 if b else None for b in carry_b]
    return outs, carry_dims + [1 if b else None for b in out_b[num_carry:]]


# --- native code ----------------------------------------------------------------------------------

_NARROW = 16
"""Elements of a slice below which a costly xs is computed before the loop, as a whole, in SIMD."""
_COSTLY = 3.0


def _scan_lower(
    b: Lowering,
    *tensors: Tensor,
    program: Program,
    num_consts: int,
    num_carry: int,
    length: Any,
    reverse: bool,
    unroll: int,
    remat: Remat = None,
) -> list[Tensor]:
    consts, initial, xs = split(tensors, num_consts, num_carry)
    (count,) = b.extents(Aval((length,), np.dtype(np.int32)))
    stacks = _stacks(b, program, num_carry, count)
    carries = Carries(b, program, num_consts, initial)
    consts = [b.hoist(t) for t in consts]
    xs = _readable(b, program, xs)
    builder = b.builder

    def iteration(step: Any, scalars: Sequence[Any]) -> list[Any]:
        if type(step) is not int and step.op == "const":
            step = step.attr
        i = ix.sub(builder, ix.sub(builder, count, 1), step) if reverse else step
        slices = [_slice(b, x, i) for x in xs]
        outs = carries.run(b, [*consts, *carries.tensors(scalars, step), *slices])
        return carries.advance(outs, step, [stack.row(i) for stack in stacks])

    scalars = _run(b, count, unroll, iteration, carries.scalars)
    return [*carries.tensors(scalars, count), *stacks]


def _stacks(b: Lowering, program: Program, num_carry: int, count: Any) -> list[Stored]:
    """Buffers for the stacked outputs."""
    stacks: list[Stored] = []
    for k, atom in enumerate(program.outputs[num_carry:]):
        shape, dtype = (count, *b.extents(atom.aval)), b.element_dtype(atom.aval)
        stacks.append(b.new(shape, dtype, num_carry + k))
    return stacks


def _readable(b: Lowering, program: Program, xs: Sequence[Tensor]) -> list[Tensor]:
    """The xs, those stored first whose slices would be computed over and over or without SIMD."""
    uses = count_uses(program)
    variables = program.inputs[len(program.inputs) - len(xs) :]
    readable: list[Tensor] = []
    for x, variable in zip(xs, variables, strict=True):
        size = static_size(x.shape[1:])
        narrow = size is not None and size < _NARROW
        if x.cost > _COSTLY and (narrow or uses.get(variable, 0) > 1):
            x = b.stored(x)
        readable.append(x)
    return readable


def _slice(b: Lowering, x: Tensor, i: Any) -> Tensor:
    if isinstance(x, (Stored, Row)):
        return x.row(i)
    return b.lazy(x.shape[1:], x.dtype, lambda index: x.at((i, *index)), x.cost, moves=True)


def _run(b: Lowering, count: Any, unroll: int, iteration: Any, scalars: list[Any]) -> list[Any]:
    """The iterations: `unroll` of them in each turn of the loop, those left over in another."""
    builder = b.builder
    if type(count) is int and count <= unroll:
        for step in range(count):
            scalars = iteration(step, scalars)
        return scalars
    whole = ix.sub(builder, count, ix.rem(builder, count, unroll))

    def turn(first: Any, *carried: Any) -> list[Any]:
        values: list[Any] = list(carried)
        for k in range(unroll):
            values = iteration(ix.add(builder, first, k), values)
        return values

    scalars = builder.loop(0, whole, turn, scalars, step=unroll)
    if unroll == 1 or (type(whole) is int and whole == count):
        return scalars

    def single(step: Any, *carried: Any) -> list[Any]:
        return iteration(step, carried)

    return builder.loop(whole, count, single, scalars)


scan = Primitive(
    "scan",
    shape=_scan_shape,
    evaluate=_scan_evaluate,
    jvp=_scan_jvp,
    linearize=_scan_linearize,
    transpose=_scan_transpose,
    batch=_scan_batch,
    lanes=unsupported("the lanes pass walks into its program"),
    lower=_scan_lower,
    effects=_scan_effects,
    trim=_scan_trim,
    multiple_results=True,
    compiled=True,
    tags=frozenset({"control"}),
)
