"""Reverse mode of `scan`: one scan that computes and keeps residuals, and a linear one.

The body is linearized first; what it keeps of each iteration then finds its place:

- a residual computed from consts alone is computed once, before both loops;
- one that is an element of xs, of ys or of another residual is read where it is;
- a counter, a carry that grows by a constant, is recomputed from its first value;
- what is cheap to recompute from fewer bytes is recomputed (`residuals`);
- any other is stacked, an output of the known scan and an input of the linear one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.core import dtypes
from covector.core.primitive import Context, Linearized, Primitive
from covector.core.program import Atom, Equation, Literal, Program, Variable
from covector.core.trace import aval_of, eval_program
from covector.ops.fixed_carries import Result, WithoutFixed, fixed_carries
from covector.ops.nested import (
    chosen,
    definitions,
    either,
    live_body,
    nbytes,
    prune,
    split,
    substitute,
    with_zeros,
)
from covector.ops.residuals import choose_residuals, report_saved
from covector.ops.segments import Loop, segmented
from covector.ops.tapes import Remat, segment_lengths


def linearize_scan(
    scan: Primitive,
    ctx: Context,
    primals: Sequence[Any],
    nonzero: Sequence[bool],
    *,
    program: Program,
    num_consts: int,
    num_carry: int,
    length: Any,
    reverse: bool,
    unroll: int,
    remat: Remat = None,
) -> Result:
    """The linearize rule of `scan`; see `Primitive`."""
    fixed = fixed_carries(program, num_consts, num_carry)
    loop: dict[str, Any] = {"length": length, "reverse": reverse, "unroll": unroll}
    if any(fixed):
        moved = WithoutFixed(program, num_consts, fixed)
        params: dict[str, Any] = {**loop, "remat": remat, **moved.params}
        found = linearize_scan(scan, ctx, *moved.given(primals, nonzero), **params)
        return moved.restored(primals, nonzero, found)
    const_nz, carry_nz, x_nz = split(nonzero, num_consts, num_carry)
    num_ys = len(program.outputs) - num_carry
    while True:
        forced = carry_nz + [False] * num_ys
        body = ctx.linearize(program, const_nz + carry_nz + x_nz, forced)
        grown = either(carry_nz, body.nonzero_out[:num_carry])
        if grown == carry_nz:
            break
        carry_nz = grown
    before = len(body.linear.equations)
    free = _free(body.known, num_consts, num_carry, num_ys)
    body = choose_residuals(body, num_carry + num_ys, free, length)
    parts = SplitBody(body, num_consts, num_carry, num_ys, const_nz + carry_nz)
    consts, carry, xs = split(primals, num_consts, num_carry)
    shared = [*consts, *eval_program(parts.invariant, *consts)]
    num_ts = (sum(const_nz), sum(carry_nz))
    if remat is False:
        loop["remat"] = False
    lengths = segment_lengths(remat, length, *parts.sizes(len(shared), num_carry), program)
    again = body.linear.equations[: len(body.linear.equations) - before]
    report_saved("scan", parts.known, parts.stacked, length, again, lengths)
    if lengths:
        outs, run, residuals = _in_segments(scan, parts, shared, carry, xs, num_ts, loop, lengths)
    else:
        outs, run, residuals = _in_one_piece(scan, parts, shared, carry, xs, loop)

    tangent_avals = [aval_of(p).tangent() for p in primals]
    given = list(nonzero)
    wanted = const_nz + carry_nz + x_nz

    def linear(residuals: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        everything = with_zeros(tangents, given, wanted, tangent_avals)
        return run(residuals, *split(everything, *num_ts))

    return outs, body.nonzero_out, linear, residuals


Run = Callable[[Sequence[Any], Sequence[Any], Sequence[Any], Sequence[Any]], list[Any]]
"""`residuals, tangents of consts, of carries, of xs -> tangents of last carries and ys`."""


def _in_one_piece(
    scan: Primitive,
    parts: SplitBody,
    shared: Sequence[Any],
    carry: Sequence[Any],
    xs: Sequence[Any],
    loop: dict[str, Any],
) -> tuple[list[Any], Run, list[Any]]:
    num_carry = len(carry)
    outs = scan(
        *(*shared, *carry, *xs),
        program=parts.known,
        num_consts=len(shared),
        num_carry=num_carry,
        **loop,
    )
    residuals = [shared[k] for k in parts.shared]
    residuals += parts.read(carry, xs, outs[num_carry:], loop["length"], loop["reverse"])

    def run(residuals: Any, const_ts: Any, carry_ts: Any, x_ts: Any) -> list[Any]:
        shared, stacked = split(residuals, len(parts.shared))
        return scan(
            *(*shared, *const_ts, *carry_ts, *stacked, *x_ts),
            program=parts.linear,
            num_consts=len(shared) + len(const_ts),
            num_carry=len(carry_ts),
            **loop,
        )

    return outs[: parts.num_outs], run, residuals


def _in_segments(
    scan: Primitive,
    parts: SplitBody,
    shared: Sequence[Any],
    carry: Sequence[Any],
    xs: Sequence[Any],
    num_ts: tuple[int, int],
    loop: dict[str, Any],
    lengths: Sequence[int],
) -> tuple[list[Any], Run, list[Any]]:
    shared_avals, carry_avals, elements = split(parts.known.input_avals, len(shared), len(carry))
    _, const_ts, carry_ts, rest = split(parts.linear.input_avals, len(parts.shared), *num_ts)
    params = dict(loop)
    length = params.pop("length")
    whole = Loop(
        scan,
        parts,
        parts.num_outs - len(carry),
        shared_avals,
        carry_avals,
        elements,
        const_ts,
        carry_ts,
        rest[len(parts.sources) :],
        params,
    )
    runner = segmented(whole, length, lengths)
    outs, saved = runner.forward(length, shared, carry, xs, parts.known)

    def run(residuals: Any, const_ts: Any, carry_ts: Any, x_ts: Any) -> list[Any]:
        shared, saved = split(residuals, len(shared_avals))
        return runner.linear(length, shared, saved, const_ts, carry_ts, x_ts)[num_ts[0] :]

    return outs, run, [*shared, *saved]


def _free(known: Program, num_consts: int, num_carry: int, num_ys: int) -> set[Variable]:
    """The values in a body that the linear loop has for nothing."""
    consts, carry, xs = split(known.inputs, num_consts, num_carry)
    ys = [a for a in known.outputs[num_carry : num_carry + num_ys] if type(a) is Variable]
    return {*_fixed(known, consts)[0], *xs, *ys, *_counters(known, carry)}


class Counter:
    """A carry that grows by a constant in every iteration.

    Attributes:
        carry: its position.
        step: what is added to it.
    """

    __slots__ = ("carry", "step")

    def __init__(self, carry: int, step: Literal) -> None:
        self.carry = carry
        self.step = step


Source = tuple[str, int] | Counter
"""Where the residuals of all iterations are: ("x", position), ("y", position) or a counter."""


def _count(first: Any, step: Literal, length: Any, reverse: bool) -> Any:
    """The values of a counter at the start of each iteration, in the order of xs."""
    from covector.ops.elementwise import add, mul
    from covector.ops.shape import iota, rev

    dtype = aval_of(first).dtype
    steps = iota(dtype=dtype, shape=(length,), dimension=0)
    if reverse:
        steps = rev(steps, dimensions=(0,))
    return add(first, mul(steps, step.value))


class SplitBody:
    """A linearized scan body, taken apart.

    Args:
        body: the linearization; which residuals there are is settled before this.
        num_consts: inputs of the body that are the same in every iteration.
        num_carry: carried inputs and outputs.
        num_ys: stacked outputs.
        nonzero: which consts and carries have tangents.

    Attributes:
        invariant: `consts -> extra consts`, run before the loops.
        known: `consts, extra consts, carry, xs -> carry, ys, stacked residuals`.
        linear: `shared residuals, const tangents, carry tangents, other residuals, x tangents ->
            carry tangents, y tangents`.
        shared: positions of the shared residuals among consts and extra consts.
        sources: where the other residuals come from, the `ys` including stacked residuals.
        num_outs: how many outputs of `known` are carries and ys, not residuals.
    """

    __slots__ = ("invariant", "known", "linear", "num_outs", "shared", "sources")

    def __init__(
        self,
        body: Linearized,
        num_consts: int,
        num_carry: int,
        num_ys: int,
        nonzero: Sequence[bool],
    ) -> None:
        known = body.known
        consts, carry, xs = split(known.inputs, num_consts, num_carry)
        outs, atoms = split(known.outputs, num_carry + num_ys)
        residual_vars, tangent_vars = split(body.linear.inputs, body.num_residuals)
        hoisted = _Hoisted(known, consts, atoms)
        counters = _counters(known, carry)
        places: dict[Variable, Source] = {x: ("x", k) for k, x in enumerate(xs)}
        for k, atom in enumerate(outs[num_carry:]):
            if type(atom) is Variable:
                places.setdefault(atom, ("y", k))

        self.num_outs = num_carry + num_ys
        self.shared: list[int] = []
        self.sources: list[Source] = []
        shared_vars: list[Variable] = []
        other_vars: list[Variable] = []
        names: dict[Variable, Atom] = {}
        chosen_for: dict[Variable, Variable] = {}
        stacked: list[Atom] = []
        for variable, atom in zip(residual_vars, atoms, strict=True):
            if isinstance(atom, Literal):
                names[variable] = atom
            elif atom in chosen_for:
                names[variable] = chosen_for[atom]
            elif atom in hoisted.position:
                chosen_for[atom] = variable
                shared_vars.append(variable)
                self.shared.append(hoisted.position[atom])
            else:
                chosen_for[atom] = variable
                other_vars.append(variable)
                source = places.get(atom) or counters.get(atom)
                if source is None:
                    source = ("y", num_ys + len(stacked))
                    stacked.append(atom)
                self.sources.append(source)

        const_ts, carry_ts, x_ts = split(
            tangent_vars, sum(nonzero[:num_consts]), sum(nonzero[num_consts:])
        )
        self.invariant = hoisted.program
        self.known = prune(
            known.replace(
                inputs=[*consts, *hoisted.program.outputs, *carry, *xs],  # type: ignore[list-item]
                equations=hoisted.rest,
                outputs=[*outs, *stacked],
            )
        )
        self.linear = substitute(body.linear, names).replace(
            inputs=[*shared_vars, *const_ts, *carry_ts, *other_vars, *x_ts]
        )

    def read(
        self, carry: Sequence[Any], xs: Sequence[Any], ys: Sequence[Any], length: Any, reverse: bool
    ) -> list[Any]:
        """The residuals that are not shared, of all iterations.

        Args:
            carry: the first one.
            xs: of all iterations.
            ys: what `known` stacked.
            length: how many iterations there were.
            reverse: whether they went from the last element to the first.
        """
        found: list[Any] = []
        for source in self.sources:
            if isinstance(source, Counter):
                found.append(_count(carry[source.carry], source.step, length, reverse))
            else:
                kind, position = source
                found.append((xs if kind == "x" else ys)[position])
        return found

    @property
    def stacked(self) -> list[Atom]:
        """What is kept of each iteration for the derivative alone."""
        return self.known.outputs[self.num_outs :]

    def sizes(self, num_shared: int, num_carry: int) -> tuple[int, int]:
        """Bytes of the carry on which residuals depend, and of what an iteration stacks."""
        residuals = self.known.outputs[self.num_outs :]
        num_ys = len(self.known.outputs) - num_carry
        used = [k >= self.num_outs - num_carry for k in range(num_ys)]
        _, live = live_body(self.known, num_shared, [False] * num_carry, used)
        carry = self.known.inputs[num_shared : num_shared + num_carry]
        needed = chosen(carry, live[num_shared : num_shared + num_carry])
        return sum([nbytes(v.aval) for v in needed]), sum([nbytes(a.aval) for a in residuals])


class _Hoisted:
    """The residuals that do not change from one iteration to the next.

    Attributes:
        program: `consts -> extra`.
        rest: the equations of the body without those that compute extra ones.
        position: of each const and extra variable among `consts + extra`.
    """

    __slots__ = ("position", "program", "rest")

    def __init__(self, known: Program, consts: list[Variable], residuals: list[Atom]) -> None:
        fixed, equations = _fixed(known, consts)
        needed = {a for a in residuals if type(a) is Variable and a in fixed} - set(consts)
        taken = [e for e in equations if any([v in needed for v in e.outputs])]
        extra = [v for e in taken for v in e.outputs]
        self.program = prune(Program(consts, equations, extra, known.name))
        gone = {id(e) for e in taken}
        self.rest = [e for e in known.equations if id(e) not in gone]
        self.position = {v: k for k, v in enumerate([*consts, *extra])}


def _fixed(known: Program, consts: list[Variable]) -> tuple[set[Variable], list[Equation]]:
    """What is the same in every iteration, and the equations that compute it."""
    fixed = set(consts)
    equations: list[Equation] = []
    for equation in known.equations:
        if not equation.effects and all(
            [a in fixed for a in equation.inputs if type(a) is Variable]
        ):
            fixed.update(equation.outputs)
            equations.append(equation)
    return fixed, equations


def _counters(known: Program, carry: Sequence[Variable]) -> dict[Variable, Source]:
    """The carries that grow by a constant."""
    defined = definitions(known)
    found: dict[Variable, Source] = {}
    for k, variable in enumerate(carry):
        equation = defined.get(known.outputs[k])  # type: ignore[arg-type]
        if equation is None or equation.primitive.name != "add":
            continue
        if variable.aval.shape != () or not dtypes.is_integer(variable.aval.dtype):
            continue
        steps = [a for a in equation.inputs if a is not variable]
        if len(steps) == 1 and isinstance(steps[0], Literal):
            found[variable] = Counter(k, steps[0])
    return found
