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
from covector.ops.nested import definitions, either, prune, split, substitute, with_zeros
from covector.ops.residuals import choose_residuals

Linear = Callable[[Sequence[Any], Sequence[Any]], list[Any]]


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
) -> tuple[list[Any], list[bool], Linear, list[Any]]:
    """The linearize rule of `scan`; see `Primitive`."""
    const_nz, carry_nz, x_nz = split(nonzero, num_consts, num_carry)
    num_ys = len(program.outputs) - num_carry
    while True:
        forced = carry_nz + [False] * num_ys
        body = ctx.linearize(program, const_nz + carry_nz + x_nz, forced)
        grown = either(carry_nz, body.nonzero_out[:num_carry])
        if grown == carry_nz:
            break
        carry_nz = grown
    body = choose_residuals(
        body, num_carry + num_ys, _free(body.known, num_consts, num_carry, num_ys)
    )
    parts = SplitBody(body, num_consts, num_carry, num_ys, const_nz + carry_nz)

    loop = {"length": length, "reverse": reverse, "unroll": unroll}
    consts, carry, xs = split(primals, num_consts, num_carry)
    extra = eval_program(parts.invariant, *consts)
    outs = scan(
        *(*consts, *extra, *carry, *xs),
        program=parts.known,
        num_consts=num_consts + len(extra),
        num_carry=num_carry,
        **loop,
    )
    shared = [*consts, *extra]
    residuals = [shared[k] for k in parts.shared]
    for source in parts.sources:
        residuals.append(_read(source, carry, xs, outs[num_carry:], length, reverse))

    tangent_avals = [aval_of(p).tangent() for p in primals]
    given = list(nonzero)
    wanted = const_nz + carry_nz + x_nz
    num_const_ts, num_carry_ts = sum(const_nz), sum(carry_nz)

    def linear(residuals: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        everything = with_zeros(tangents, given, wanted, tangent_avals)
        const_ts, carry_ts, x_ts = split(everything, num_const_ts, num_carry_ts)
        shared, stacked = split(residuals, len(parts.shared))
        return scan(
            *(*shared, *const_ts, *carry_ts, *stacked, *x_ts),
            program=parts.linear,
            num_consts=len(shared) + num_const_ts,
            num_carry=num_carry_ts,
            **loop,
        )

    return outs[: num_carry + num_ys], body.nonzero_out, linear, residuals


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


def _read(
    source: Source,
    carry: Sequence[Any],
    xs: Sequence[Any],
    ys: Sequence[Any],
    length: Any,
    reverse: bool,
) -> Any:
    if isinstance(source, Counter):
        return _count(carry[source.carry], source.step, length, reverse)
    kind, position = source
    return (xs if kind == "x" else ys)[position]


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
    """

    __slots__ = ("invariant", "known", "linear", "shared", "sources")

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
