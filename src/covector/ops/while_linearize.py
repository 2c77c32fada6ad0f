"""Reverse mode of `while` in bounded memory: online checkpointing.

The number of iterations is not known beforehand, so the forward pass keeps snapshots of the carry
in a fixed number of slots. They stand a power of two apart; when all slots are full, every second
snapshot is given up and the distance doubles. The backward pass walks from the last iteration to
the first. Where the carry of an iteration is not at hand, it is recomputed from the nearest
snapshot before it, and leaves further snapshots in free slots on the way.

Up to as many iterations as there are slots, nothing is computed twice. For n iterations and s
slots, about log(n) / log(s / 4) times the work of the forward pass is repeated.

The derivative is a `linear_call`: forward it is the loop with tangents beside the carries, its
transpose is the backward pass, which reads the snapshots as its record (see `linear`). Both are
programs of ordinary primitives, so that they can be batched and compiled as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core import effects as fx
from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.errors import UnsupportedRuleError
from covector.core.primitive import Context, Linearized, Primitive
from covector.core.program import Program, Variable
from covector.core.trace import aval_of, eval_program, trace_program
from covector.ops import common
from covector.ops.elementwise import (
    add,
    and_,
    div,
    eq,
    ge,
    gt,
    le,
    lt,
    max_,
    or_,
    rem,
    select_n,
    shift_left,
    shift_right_logical,
    sub,
)
from covector.ops.index import dynamic_slice, dynamic_update_slice
from covector.ops.nested import (
    HARMLESS,
    chosen,
    either,
    elements,
    others,
    prune,
    quiet,
    split,
    with_zeros,
)
from covector.ops.residuals import report_saved
from covector.ops.shape import broadcast_in_dim, concatenate, iota, squeeze

MIN_SLOTS = 32
MAX_SLOTS = 1024
SLOT_BYTES = 1 << 24
"""Memory for snapshots beyond which there are no more than `MIN_SLOTS` of them."""

Linear = Callable[[Sequence[Any], Sequence[Any]], list[Any]]
_INT = dtypes.int32


def linearize_while(
    loop: Primitive,
    ctx: Context,
    primals: Sequence[Any],
    nonzero: Sequence[bool],
    *,
    cond_program: Program,
    cond_nconsts: int,
    body_program: Program,
    body_nconsts: int,
) -> tuple[list[Any], list[bool], Linear, list[Any]]:
    """The linearize rule of `while`; see `Primitive`."""
    from covector.ops.linear import linear_call, recorded

    params: dict[str, Any] = {
        "cond_program": cond_program,
        "cond_nconsts": cond_nconsts,
        "body_program": body_program,
        "body_nconsts": body_nconsts,
    }
    _, const_nz, carry_nz = split(nonzero, cond_nconsts, body_nconsts)
    given = const_nz + carry_nz
    while True:
        body = ctx.linearize(body_program, const_nz + carry_nz, carry_nz)
        grown = either(carry_nz, body.nonzero_out)
        if grown == carry_nz:
            break
        carry_nz = grown
    if not any(carry_nz):
        return loop(*primals, **params), carry_nz, lambda residuals, tangents: [], []
    _check_effects(cond_program.effects | body_program.effects)

    steps = Checkpointing(loop, ctx, body_program, body_nconsts, body, const_nz, carry_nz)
    report_saved(
        "while", body_program, others(body_program.inputs[body_nconsts:], steps.fixed), steps.slots
    )
    avals, num_outs = [aval_of(x) for x in primals], len(carry_nz)
    program, _ = trace_program(partial(steps.forward, cond_program, cond_nconsts), avals, "while")
    plain, _ = trace_program(partial(loop, **params), avals, "while")
    outs, record = split(recorded(*primals, program=program, plain=plain), num_outs)
    wanted = [False] * cond_nconsts + const_nz + carry_nz
    forward, backward = steps.derivatives(plain, wanted, cond_nconsts, record)
    recording, _ = trace_program(
        lambda *args: steps.forward(cond_program, cond_nconsts, *args)[num_outs:], avals, "while"
    )
    # Tangents of what only the condition reads matter to nothing.
    ignored = sum(nonzero[:cond_nconsts])
    tangent_avals = [a.tangent() for a in avals[cond_nconsts:]]

    def linear(residuals: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        return linear_call(
            *residuals,
            *with_zeros(tangents[ignored:], given, const_nz + carry_nz, tangent_avals),
            program=forward,
            transposed=backward,
            recording=quiet(recording),
            num_operands=len(primals),
            num_record=len(record),
            plain=True,
        )

    return outs, carry_nz, linear, [*primals, *record]


def _check_effects(effects: fx.Effects) -> None:
    if effects - HARMLESS:
        raise UnsupportedRuleError(
            "reverse-mode differentiation of a while_loop with an io_callback is not supported: "
            "the backward pass repeats iterations, and with them what the callback does; "
            "use fori_loop with static bounds or scan, which keep every iteration"
        )


class Checkpointing:
    """The parts of a loop's derivative, as functions to be traced.

    The record is snapshots of the carries that change in stacks of slots, how many snapshots there
    are, the logarithm of their distance, and how many iterations there were.

    Args:
        loop: the `while` primitive.
        ctx: for transposing.
        body_program: what an iteration does.
        num_consts: how many consts the body has.
        body: its linearization.
        const_nz: which consts have tangents.
        carry_nz: which carries have tangents.
    """

    def __init__(
        self,
        loop: Primitive,
        ctx: Context,
        body_program: Program,
        num_consts: int,
        body: Linearized,
        const_nz: list[bool],
        carry_nz: list[bool],
    ) -> None:
        carry = body_program.inputs[num_consts:]
        self.loop = loop
        self.ctx = ctx
        self.body_program = body_program
        self.num_consts = num_consts
        self.const_nz = const_nz
        self.carry_nz = carry_nz
        self.known = quiet(body.known)
        # An iteration alone, without what its derivative needs.
        outputs = body.known.outputs[: len(body_program.outputs)]
        self.step = prune(self.known.replace(outputs=outputs))
        self.linear = body.linear
        num_tangents = sum(const_nz) + sum(carry_nz)
        linear = [False] * body.num_residuals + [True] * num_tangents
        first = body.num_residuals
        self.sums = [v.aval for v in body.linear.inputs[first : first + sum(const_nz)]]
        self.pullback = ctx.transpose(body.linear, linear)
        self.fixed = [a is v for a, v in zip(body_program.outputs, carry, strict=True)]
        self.avals = [v.aval for v in others(carry, self.fixed)]
        self.slots = _number_of_slots(self.avals)

    # --- the known part ---------------------------------------------------------------------------

    def forward(self, cond_program: Program, num_cond: int, *operands: Any) -> list[Any]:
        """Runs the loop on its operands and keeps snapshots: its results and the record."""
        cond_consts, consts, carry = split(operands, num_cond, self.num_consts)
        num_carry = len(carry)
        condition, segment = self._segments(cond_program, num_cond, num_carry)
        stacks = [_repeated(x, self.slots) for x in others(carry, self.fixed)]
        zero = _integer(0)
        state = [*carry, *stacks, zero, zero, zero]
        avals = [aval_of(x) for x in state]
        cond_avals, const_avals = [aval_of(c) for c in cond_consts], [aval_of(c) for c in consts]
        outer, _ = trace_program(condition, [*cond_avals, *avals], "while")
        inner, _ = trace_program(segment, [*cond_avals, *const_avals, *avals], "while")
        return self.loop(
            *(*cond_consts, *cond_consts, *consts, *state),
            cond_program=outer,
            cond_nconsts=num_cond,
            body_program=inner,
            body_nconsts=num_cond + len(consts),
        )

    def _segments(
        self, cond_program: Program, num_cond: int, num_carry: int
    ) -> tuple[Callable[..., list[Any]], Callable[..., list[Any]]]:
        """Condition and body of a loop over segments, which each begin with a snapshot."""

        def condition(*args: Any) -> list[Any]:
            cond_consts, carry, _ = split(args, num_cond, num_carry)
            return eval_program(cond_program, *cond_consts, *carry)

        def segment(*args: Any) -> list[Any]:
            cond_consts, consts, carry, stacks, (filled, level, count) = split(
                args, num_cond, self.num_consts, num_carry, len(self.avals)
            )
            full = eq(filled, _integer(self.slots))
            filled = select_n(full, filled, _integer(self.slots // 2))
            level = select_n(full, level, add(level, _integer(1)))
            place = self._place(filled, level)
            varying = others(carry, self.fixed)
            stacks = [_put(s, x, place) for s, x in zip(stacks, varying, strict=True)]
            stride = shift_left(_integer(1), level)
            taken, *carry = self._iterate(
                cond_program, cond_consts, self.body_program, consts, carry, stride
            )
            return [*carry, *stacks, add(filled, _integer(1)), level, add(count, taken)]

        return condition, segment

    def _iterate(
        self,
        cond_program: Program | None,
        cond_consts: Sequence[Any],
        body_program: Program,
        consts: Sequence[Any],
        carry: Sequence[Any],
        limit: Any,
    ) -> list[Any]:
        """Iterations up to a limit, or until the condition fails: their number and the carry."""

        def condition(limit: Any, *args: Any) -> list[Any]:
            for_condition, (step,), state = split(args, len(cond_consts), 1)
            within = lt(step, limit)
            if cond_program is None:
                return [within]
            return [and_(within, eval_program(cond_program, *for_condition, *state)[0])]

        def body(*args: Any) -> list[Any]:
            for_body, (step,), state = split(args, len(consts), 1)
            outs = eval_program(body_program, *for_body, *state)
            return [add(step, _integer(1)), *outs[: len(state)]]

        state = [_integer(0), *carry]
        cond_operands = [limit, *cond_consts]
        avals = [aval_of(x) for x in state]
        outer, _ = trace_program(condition, [*[aval_of(c) for c in cond_operands], *avals], "while")
        inner, _ = trace_program(body, [*[aval_of(c) for c in consts], *avals], "while")
        return self.loop(
            *(*cond_operands, *consts, *state),
            cond_program=outer,
            cond_nconsts=len(cond_operands),
            body_program=inner,
            body_nconsts=len(consts),
        )

    # --- the linear part --------------------------------------------------------------------------

    def derivatives(
        self, plain: Program, nonzero: Sequence[bool], num_cond: int, record: Sequence[Any]
    ) -> tuple[Program, Program]:
        """`operands, record, tangents -> tangents of the results`, and the transpose of that.

        Args:
            plain: the loop alone.
            nonzero: which of its operands have tangents.
            num_cond: how many of them the condition alone reads.
            record: what `forward` leaves.
        """
        noted = [aval_of(x) for x in record]
        both, _ = self.ctx.jvp(plain, nonzero, self.carry_nz)
        operands, tangents = split(both.inputs, len(plain.inputs))
        inputs = [*operands, *[Variable(a) for a in noted], *tangents]
        outputs = both.outputs[len(plain.outputs) :]
        forward = prune(quiet(both.replace(inputs=inputs, outputs=outputs)))

        def pull(*args: Any) -> list[Any]:
            return self.cotangents(*args[num_cond:])

        avals = [*plain.input_avals, *noted, *forward.output_avals]
        return forward, trace_program(pull, avals, "while")[0]

    def cotangents(self, *args: Any) -> list[Any]:
        """`consts, first carry, record, cotangents of the results -> those of the operands`."""
        consts, first, stacks, (filled, level, count), carry_cts = split(
            args, self.num_consts, len(self.fixed), len(self.avals), 3
        )
        fixed = chosen(first, self.fixed)
        capacity = 2 * self.slots
        # Two more rows of slots than the forward pass has, and one to write what nobody reads.
        stacks = [concatenate(s, s, _first_row(s), dimension=0) for s in stacks]
        at = shift_left(iota(dtype=_INT, shape=(capacity + 1,), dimension=0), level)
        sums = [common.zeros(aval) for aval in self.sums]
        num_fixed = len(fixed)

        def condition(t: Any, *state: Any) -> list[Any]:
            return [ge(t, _integer(0))]

        def step(*values: Any) -> list[Any]:
            consts, fixed, (level,), (t, top, at), stacks, cts = split(
                values, self.num_consts, num_fixed, 1, 3, len(self.avals)
            )
            last = sub(top, _integer(1))
            start = _take(at, last)
            distance, free = sub(t, start), sub(_integer(capacity), top)
            advance = _advance(distance, free)
            place = self._place(last, level)
            carry = self._restored(fixed, [_take(s, place) for s in stacks])
            _, *carry = self._iterate(None, [], self.step, consts, carry, advance)
            reached = add(start, advance)
            arrived = eq(reached, t)
            cts = self._pull(arrived, consts, carry, cts)
            place = self._place(top, level)
            varying = others(carry, self.fixed)
            stacks = [_put(s, x, place) for s, x in zip(stacks, varying, strict=True)]
            at = _put(at, reached, top)
            # Arrived: iteration t is done, and so is its snapshot if there was one.
            used = select_n(eq(distance, _integer(0)), _integer(0), _integer(-1))
            top = add(top, select_n(arrived, _integer(1), used))
            t = sub(t, select_n(arrived, _integer(0), _integer(1)))
            return [t, top, at, *stacks, *cts]

        operands = [*consts, *fixed, level]
        state = [sub(count, _integer(1)), filled, at, *stacks, *sums, *carry_cts]
        avals = [aval_of(x) for x in state]
        outer, _ = trace_program(condition, avals, "while")
        inner, _ = trace_program(step, [*[aval_of(x) for x in operands], *avals], "while")
        results = self.loop(
            *(*operands, *state),
            cond_program=outer,
            cond_nconsts=0,
            body_program=inner,
            body_nconsts=len(operands),
        )
        return results[3 + len(stacks) :]

    def _pull(
        self, arrived: Any, consts: Sequence[Any], carry: Sequence[Any], cts: Sequence[Any]
    ) -> list[Any]:
        """The cotangents before an iteration given those after it, if this is the one."""
        from covector.ops.cond import cond

        num_sums, num_outs = sum(self.const_nz), len(carry)

        def keep(*values: Any) -> list[Any]:
            return list(values[len(consts) + num_outs :])

        def pull(*values: Any) -> list[Any]:
            consts, carry, sums, cts = split(values, self.num_consts, num_outs, num_sums)
            _, residuals = split(eval_program(self.known, *consts, *carry), num_outs)
            results = eval_program(self.pullback, *residuals, *cts)
            more, cts = split(results, num_sums)
            return [*[add(a, b) for a, b in zip(sums, more, strict=True)], *cts]

        operands = [*consts, *carry, *cts]
        avals = [aval_of(x) for x in operands]
        branches = tuple(trace_program(f, avals, "while")[0] for f in (keep, pull))
        return cond(select_n(arrived, _integer(0), _integer(1)), *operands, branches=branches)

    # --- what they share --------------------------------------------------------------------------

    def _restored(self, fixed: Sequence[Any], varying: Sequence[Any]) -> list[Any]:
        """A whole carry from those that never change and the others."""
        kept, changed = iter(fixed), iter(varying)
        return [next(kept) if f else next(changed) for f in self.fixed]

    def _place(self, position: Any, level: Any) -> Any:
        """The slot of a snapshot, given its position in time.

        Giving up every second snapshot moves what position 2p held to position p and frees the
        slots of the odd ones for the positions that follow: a rotation of the bits.
        """
        bits = self.slots.bit_length() - 1
        turn = rem(level, _integer(bits))
        high = shift_left(position, turn)
        low = shift_right_logical(position, sub(_integer(bits), turn))
        rotated = and_(or_(high, low), _integer(self.slots - 1))
        return select_n(lt(position, _integer(self.slots)), position, rotated)


def _advance(distance: Any, free: Any) -> Any:
    """How far to go before the next snapshot.

    Args:
        distance: to the iteration that is wanted.
        free: slots; half of them are spent on this distance, the others on what is left of it.
    """
    one, two = _integer(1), _integer(2)
    parts = max_(two, div(add(free, one), two))
    spread = div(sub(add(distance, parts), one), parts)
    near = le(distance, add(free, one))
    steps = select_n(near, spread, select_n(gt(distance, one), distance, one))
    return select_n(eq(free, _integer(0)), steps, distance)


def _number_of_slots(avals: Sequence[Aval]) -> int:
    size = sum(elements(a) * a.dtype.itemsize for a in avals)
    slots = MAX_SLOTS
    while slots > MIN_SLOTS and slots * size > SLOT_BYTES:
        slots //= 2
    return slots


def _integer(value: int) -> Array:
    return Array.of(np.array(value, _INT), Aval((), _INT))


def _repeated(x: Any, count: int) -> Any:
    shape = aval_of(x).shape
    dims = tuple(range(1, len(shape) + 1))
    return broadcast_in_dim(x, shape=(count, *shape), broadcast_dimensions=dims)


def _starts(stack: Any, place: Any) -> list[Any]:
    return [place, *[_integer(0)] * (len(aval_of(stack).shape) - 1)]


def _put(stack: Any, value: Any, place: Any) -> Any:
    """The stack with another row at a place."""
    return dynamic_update_slice(stack, _repeated(value, 1), *_starts(stack, place))


def _take(stack: Any, place: Any) -> Any:
    """A row of the stack."""
    sizes = (1, *aval_of(stack).shape[1:])
    row = dynamic_slice(stack, *_starts(stack, place), slice_sizes=sizes)
    return squeeze(row, dimensions=(0,))


def _first_row(stack: Any) -> Any:
    sizes = (1, *aval_of(stack).shape[1:])
    return dynamic_slice(stack, *_starts(stack, _integer(0)), slice_sizes=sizes)
