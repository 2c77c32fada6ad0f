"""Recursive checkpointing: a loop in segments, each computed again when its derivative needs it.

The forward loop keeps the carry at the start of each segment alone. The backward loop goes over the
segments from the last to the first: it runs one again from its carry, keeps what the derivative
needs of its iterations, and goes back through them. Segments may be in segments themselves. With
`d` levels, n iterations need memory for about (d + 1) n^(1 / (d + 1)) of them, and d forward passes
more than without. Iterations are the same, and so is the order in which cotangents are summed.

Source: A. Griewank, "Achieving logarithmic growth of temporal and spatial complexity in reverse
automatic differentiation", Optimization Methods and Software 1 (1992) 35-54. Segments of one level
have equal lengths here (instead of binomially distributed ones), so that each level is a scan, with
one copy of the body for all its segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from covector.core.avals import Aval
from covector.core.primitive import Primitive
from covector.core.program import Equation, Program, Variable
from covector.core.trace import aval_of, trace_program
from covector.ops.nested import chosen, prune, quiet, split, stacked

if TYPE_CHECKING:
    from covector.ops.scan_linearize import SplitBody


@dataclass(frozen=True)
class Loop:
    """A linearized loop.

    Attributes:
        scan: the primitive.
        parts: its body, taken apart.
        num_ys: stacked outputs.
        shared: avals of the consts of `parts.known`.
        carry: avals of the carries.
        elements: avals of the elements of xs.
        const_ts: avals of the tangents of consts.
        carry_ts: avals of the tangents of carries.
        x_ts: avals of the tangents of elements of xs.
        params: `reverse` and `unroll`.
    """

    scan: Primitive
    parts: SplitBody
    num_ys: int
    shared: Sequence[Aval]
    carry: Sequence[Aval]
    elements: Sequence[Aval]
    const_ts: Sequence[Aval]
    carry_ts: Sequence[Aval]
    x_ts: Sequence[Aval]
    params: dict[str, Any]

    def run(
        self,
        program: Program,
        length: int,
        operands: Sequence[Any],
        num_consts: int,
        num_carry: int,
        **changes: Any,
    ) -> list[Any]:
        """Some of its iterations, or of its segments."""
        params = {**self.params, "num_consts": num_consts, "num_carry": num_carry, **changes}
        return self.scan(*operands, program=program, length=length, **params)


class Whole:
    """A loop in one piece.

    Args:
        loop: the loop.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._linear = self._carrying(loop)

    @staticmethod
    def _carrying(loop: Loop) -> Program:
        """The linear body, with the tangents of consts in carries.

        Their cotangents are then summed in the carry of one loop after the other, in the order in
        which one loop would sum them. What an iteration adds is summed up first: hence the copies.
        """
        from covector.ops.elementwise import copy

        linear = loop.parts.linear
        shared, const_ts, rest = split(linear.inputs, len(loop.parts.shared), len(loop.const_ts))
        carried = [Variable(v.aval) for v in const_ts]
        copies = [Equation(copy, [c], [v], {}) for c, v in zip(carried, const_ts, strict=True)]
        return linear.replace(
            inputs=[*shared, *carried, *rest],
            equations=[*copies, *linear.equations],
            outputs=[*carried, *linear.outputs],
        )

    def forward(
        self,
        length: int,
        shared: Sequence[Any],
        carry: Sequence[Any],
        xs: Sequence[Any],
        known: Program,
    ) -> tuple[list[Any], list[Any]]:
        """Runs the loop.

        Args:
            length: how many iterations.
            shared: consts of `known`.
            carry: the first carry.
            xs: of all iterations.
            known: `shared, carry, xs -> carry, ys, stacked residuals`.

        Returns:
            The carry with the ys, and what the linear part needs.
        """
        loop = self._loop
        outs = loop.run(known, length, [*shared, *carry, *xs], len(shared), len(carry))
        saved = loop.parts.read(carry, xs, outs[len(carry) :], length, loop.params["reverse"])
        return outs[: len(carry) + loop.num_ys], saved

    def linear(
        self,
        length: int,
        shared: Sequence[Any],
        saved: Sequence[Any],
        const_ts: Sequence[Any],
        carry_ts: Sequence[Any],
        x_ts: Sequence[Any],
    ) -> list[Any]:
        """Tangents of the consts (as they came), of the last carry and of the ys."""
        used = [shared[k] for k in self._loop.parts.shared]
        operands = [*used, *const_ts, *carry_ts, *saved, *x_ts]
        carried = len(const_ts) + len(carry_ts)
        return self._loop.run(self._linear, length, operands, len(used), carried)


class Segmented:
    """A loop in segments; its methods are those of `Whole`.

    Args:
        loop: the loop.
        length: how many iterations it has.
        size: the length of segments; the last one may be shorter.
        inner: what runs a segment.

    Attributes:
        counts: how many segments there are, and inside each of them at the levels below.
    """

    def __init__(self, loop: Loop, length: int, size: int, inner: Whole | Segmented) -> None:
        self.counts: tuple[int, ...] = (-(-length // size),)
        if isinstance(inner, Segmented):
            self.counts += inner.counts
        self._loop = loop
        self._size = size
        self._inner = inner
        program = self._segment()
        read = {a for e in program.equations for a in e.inputs if type(a) is Variable}
        sizes = (len(loop.shared), len(loop.carry), len(loop.elements))
        shared, carry, xs, tangents = split(program.inputs, *sizes)
        # The carries and xs from which a segment is computed again; others are not kept.
        self._carry_read = [v in read for v in carry]
        self._xs_read = [v in read for v in xs]
        const_and_carry_ts, x_ts = split(tangents, len(loop.const_ts) + len(loop.carry_ts))
        kept = [*chosen(carry, self._carry_read), *chosen(xs, self._xs_read)]
        self._linear = _checkpointed(
            program.replace(inputs=[*shared, *const_and_carry_ts, *kept, *x_ts])
        )

    def _segment(self) -> Program:
        """`shared, carry, xs, tangents -> tangents`: a segment again, and its linear part."""
        loop, inner, size = self._loop, self._inner, self._size
        sizes = [
            len(avals)
            for avals in (loop.shared, loop.carry, loop.elements, loop.const_ts, loop.carry_ts)
        ]

        def again(*args: Any) -> list[Any]:
            shared, carry, xs, const_ts, carry_ts, x_ts = split(args, *sizes)
            _, saved = inner.forward(size, shared, carry, xs, quiet(loop.parts.known))
            return inner.linear(size, shared, saved, const_ts, carry_ts, x_ts)

        xs, x_ts = ([stacked(a, size) for a in avals] for avals in (loop.elements, loop.x_ts))
        avals = [*loop.shared, *loop.carry, *xs, *loop.const_ts, *loop.carry_ts, *x_ts]
        return prune(trace_program(again, avals, "segment")[0])

    def forward(
        self,
        length: int,
        shared: Sequence[Any],
        carry: Sequence[Any],
        xs: Sequence[Any],
        known: Program,
    ) -> tuple[list[Any], list[Any]]:
        """Runs the loop; see `Whole.forward`."""
        count, left = divmod(length, self._size)
        if count == 0:
            return self._inner.forward(length, shared, carry, xs, known)
        main, rest = self._cut(xs, count * self._size)
        main = [_folded(x, count) for x in main]
        program = self._taking_snapshots(known)
        operands = [*shared, *carry, *main]
        outs = self._loop.run(program, count, operands, len(shared), len(carry), unroll=1)
        carry, ys, snapshots = split(outs, len(carry), self._loop.num_ys)
        ys = [_flat(y) for y in ys]
        saved = [*snapshots, *chosen(main, self._xs_read)]
        if left:
            last, more = self._inner.forward(left, shared, carry, rest, known)
            carry, last_ys = split(last, len(carry))
            ys = self._joined(ys, last_ys)
            saved += more
        return [*carry, *ys], saved

    def _taking_snapshots(self, known: Program) -> Program:
        """The body of the loop over segments: it keeps the carry as it was before."""
        loop = self._loop
        num_shared, num_carry = len(loop.shared), len(loop.carry)
        step = prune(known.replace(outputs=known.outputs[: num_carry + loop.num_ys]))
        deeper = {"remat": self._inner.counts} if isinstance(self._inner, Segmented) else {}

        def segment(*args: Any) -> list[Any]:
            return loop.run(step, self._size, args, num_shared, num_carry, **deeper)

        rows = [stacked(a, self._size) for a in loop.elements]
        avals = [*loop.shared, *loop.carry, *rows]
        program = _checkpointed(trace_program(segment, avals, known.name)[0])
        before = program.inputs[num_shared : num_shared + num_carry]
        return program.replace(outputs=[*program.outputs, *chosen(before, self._carry_read)])

    def linear(
        self,
        length: int,
        shared: Sequence[Any],
        saved: Sequence[Any],
        const_ts: Sequence[Any],
        carry_ts: Sequence[Any],
        x_ts: Sequence[Any],
    ) -> list[Any]:
        """The linear part; see `Whole.linear`."""
        count, left = divmod(length, self._size)
        if count == 0:
            return self._inner.linear(length, shared, saved, const_ts, carry_ts, x_ts)
        kept, more = split(saved, sum(self._carry_read) + sum(self._xs_read))
        main, rest = self._cut(x_ts, count * self._size)
        operands = [*shared, *const_ts, *carry_ts, *kept, *[_folded(t, count) for t in main]]
        num_consts, carried = len(const_ts), len(const_ts) + len(carry_ts)
        outs = self._loop.run(self._linear, count, operands, len(shared), carried, unroll=1)
        const_ts, carry_ts, y_ts = split(outs, num_consts, len(carry_ts))
        y_ts = [_flat(t) for t in y_ts]
        if left:
            last = self._inner.linear(left, shared, more, const_ts, carry_ts, rest)
            const_ts, carry_ts, last_y_ts = split(last, num_consts, len(carry_ts))
            y_ts = self._joined(y_ts, last_y_ts)
        return [*const_ts, *carry_ts, *y_ts]

    def _cut(self, xs: Sequence[Any], count: int) -> tuple[list[Any], list[Any]]:
        """What the first `count` iterations read of stacks, and what the others do."""
        from covector.ops.slices import slice_in_dim

        main: list[Any] = []
        rest: list[Any] = []
        for x in xs:
            length = aval_of(x).shape[0]
            if length == count:
                main.append(x)
            elif self._loop.params["reverse"]:
                main.append(slice_in_dim(x, length - count, length, 0))
                rest.append(slice_in_dim(x, 0, length - count, 0))
            else:
                main.append(slice_in_dim(x, 0, count, 0))
                rest.append(slice_in_dim(x, count, length, 0))
        return main, rest

    def _joined(self, main: Sequence[Any], rest: Sequence[Any]) -> list[Any]:
        """The inverse of `_cut`."""
        from covector.ops.pieces import concatenate

        pairs = zip(main, rest, strict=True)
        if self._loop.params["reverse"]:
            return [concatenate(b, a, dimension=0) for a, b in pairs]
        return [concatenate(a, b, dimension=0) for a, b in pairs]


def segmented(loop: Loop, length: int, sizes: Sequence[int]) -> Whole | Segmented:
    """A loop of some length in segments, of the given sizes at each level from the outside in."""
    if not sizes:
        return Whole(loop)
    return Segmented(loop, length, sizes[0], segmented(loop, sizes[0], sizes[1:]))


def _checkpointed(program: Program) -> Program:
    """A call of the program that derivatives of higher order compute again, too."""
    from covector.ops.remat import checkpoint

    inputs = [Variable(v.aval) for v in program.inputs]
    outputs = [Variable(a.aval) for a in program.outputs]
    params: dict[str, Any] = {"program": program, "policy": None, "prevent_cse": False}
    call = Equation(checkpoint, inputs, outputs, params, program.effects)
    return Program(inputs, [call], outputs, program.name)


def _folded(x: Any, count: int) -> Any:
    """A stack as `count` stacks."""
    from covector.ops.shape import reshape

    length, *rest = aval_of(x).shape
    return reshape(x, new_sizes=(count, length // count, *rest), dimensions=None)


def _flat(y: Any) -> Any:
    """Stacks as one stack."""
    from covector.ops.shape import reshape

    count, length, *rest = aval_of(y).shape
    return reshape(y, new_sizes=(count * length, *rest), dimensions=None)
