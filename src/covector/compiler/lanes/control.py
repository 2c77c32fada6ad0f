"""How lanes flow through loops and branches: to a fixed point through what loops carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from covector.compiler.lanes.flow import Blocked, Flow, State, Step, is_uniform
from covector.compiler.lanes.frozen import Outside, check_lanes_stop
from covector.core import dtypes
from covector.core.program import Atom, Equation, Literal, Program, Variable
from covector.ops.common import LOCAL, Inseparable, Partial
from covector.ops.nested import definitions, split

# --- what loops and branches share ----------------------------------------------------------------


def joined(a: State, b: State) -> State:
    """The state of what is sometimes in state `a` and sometimes in `b`.

    Raises:
        Inseparable: if there is none.
    """
    if a is None or a == b:
        return b
    if b is None:
        return a
    if a is LOCAL or b is LOCAL:
        state = b if a is LOCAL else a
        if type(state) is int:
            return state
        raise Inseparable("it is a reduction over lanes at one time, and each chunk's own before")
    if type(a) is int and type(b) is int:
        raise Inseparable(f"its lanes are along axis {a} before and axis {b} after")
    raise Inseparable("it is a lane's own value at one time and a reduction over lanes at another")


def _join_all(a: Sequence[State], b: Sequence[State]) -> list[State]:
    return [joined(x, y) for x, y in zip(a, b, strict=True)]


Settled = tuple[list[State], Any]
"""States of operands, grown as far as the programs need, and the flows through these."""


def cut_where_demanded(
    states: list[State], settle: Callable[[list[State]], Settled], demands: Callable[[Any], Any]
) -> Settled:
    """Cuts the uniform operands that the programs use along one axis only.

    Args:
        states: of the operands.
        settle: the flows with given states; raises if there are none.
        demands: for flows, the axes along which each operand is cut inside.
    """
    states, flows = settle(states)
    kept_whole: set[int] = set()
    while True:
        wanted = {
            k: next(iter(dims))
            for k, dims in enumerate(demands(flows))
            if is_uniform(states[k]) and k not in kept_whole and len(dims) == 1
        }
        if not wanted:
            return states, flows
        try:
            states, flows = settle([wanted.get(k, s) for k, s in enumerate(states)])
        except (Blocked, Inseparable):
            # All at once did not work: one after the other, so that one cannot spoil the rest.
            first = min(wanted)
            try:
                trial = [wanted[k] if k == first else s for k, s in enumerate(states)]
                states, flows = settle(trial)
            except (Blocked, Inseparable):
                kept_whole.add(first)


def _demanded(flow: Flow, variables: Sequence[Variable]) -> list[set[int]]:
    none: set[int] = set()
    return [flow.demands.get(v, none) for v in variables]


# --- scan -----------------------------------------------------------------------------------------


def _scan_step(outer: Flow, equation: Equation, found: Sequence[State]) -> Step:
    params = equation.params
    program, num_carry = params["program"], params["num_carry"]
    first_x = params["num_consts"] + num_carry
    _refuse_partial(found, "the loop", params["num_consts"], first_x)
    start = [_inside(s) if k >= first_x else s for k, s in enumerate(found)]

    def settle(states: list[State]) -> Settled:
        while True:
            flow = Flow(program, states, outer.axis)
            consts, carry, xs = split(states, params["num_consts"], num_carry)
            grown = _join_all(carry, flow.outputs[:num_carry])
            if grown == carry:
                flow.finish([*carry, *flow.outputs[num_carry:]])
                return states, flow
            states = [*consts, *grown, *xs]

    states, flow = cut_where_demanded(start, settle, lambda f: _demanded(f, program.inputs))
    carry = states[params["num_consts"] : first_x]
    stacks = flow.outputs[num_carry:]
    ins = [_outside(s) if k >= first_x else s for k, s in enumerate(states)]
    wanted = [*carry, *stacks]
    return Step(equation, ins, [*carry, *map(_outside, stacks)], [(flow, wanted)])


def _refuse_partial(found: Sequence[State], what: str, start: int, stop: int) -> None:
    for k, state in enumerate(found):
        if type(state) is Partial and not start <= k < stop:
            raise Inseparable(f"{what} uses a reduction over all lanes")


def _inside(state: State) -> State:
    """The state of a slice along the first axis."""
    if state == 0:
        raise Inseparable("it runs over the lanes one after the other")
    return state - 1 if type(state) is int else state


def _outside(state: State) -> State:
    return state + 1 if type(state) is int else state


# --- while ----------------------------------------------------------------------------------------


def _while_step(outer: Flow, equation: Equation, found: Sequence[State]) -> Step:
    params = equation.params
    num_cond, num_body = params["cond_nconsts"], params["body_nconsts"]
    _refuse_partial(found, "the loop", 0, 0)
    condition, body = params["cond_program"], params["body_program"]

    def settle(states: list[State]) -> Settled:
        while True:
            cond_consts, body_consts, carry = split(states, num_cond, num_body)
            after = Flow(body, body_consts + carry, outer.axis)
            grown = _join_all(carry, after.outputs)
            if grown == carry:
                break
            states = [*cond_consts, *body_consts, *grown]
        if any([type(s) is Partial for s in carry]):
            raise Inseparable("the loop carries a reduction over all lanes")
        test = Flow(condition, cond_consts + carry, outer.axis)
        if test.outputs[0] is LOCAL:  # how often it runs is each chunk's own
            grown = _varying(body, num_body, carry)
            if grown != carry:
                return settle([*cond_consts, *body_consts, *grown])
        after.finish(carry)
        test.finish(test.outputs)
        return states, (test, after)

    def demands(flows: tuple[Flow, Flow]) -> list[set[int]]:
        test, after = flows
        cond_consts, in_condition = split(_demanded(test, condition.inputs), num_cond)
        body_consts, in_body = split(_demanded(after, body.inputs), num_body)
        carried = [a | b for a, b in zip(in_condition, in_body, strict=True)]
        return [*cond_consts, *body_consts, *carried]

    states, (test, after) = cut_where_demanded(list(found), settle, demands)
    carry = states[num_cond + num_body :]
    (predicate,) = test.outputs
    outs: Sequence[State] = carry
    if type(predicate) is Partial:
        if predicate != Partial("or"):
            raise Inseparable("whether it goes on is not asked of any lane but of all")
        _check_lanes_stop(outer, equation, test, after, carry)
        outs = _counted(outer, equation, carry)
    return Step(equation, states, outs, [(test, test.outputs), (after, carry)])


def _check_lanes_stop(
    outer: Flow, equation: Equation, test: Flow, after: Flow, carry: Sequence[State]
) -> None:
    tests = definitions(test.program)

    def per_lane(variable: Variable) -> bool:
        state = test.states.get(variable, after.states.get(variable))
        return type(state) is int and variable.aval.ndim == 1

    own = _own_predicate(test, tests)
    uniform = [type(s) is not int for s in carry]
    check_lanes_stop(equation, own, Outside(outer.axis.defined), per_lane, uniform)


def _counted(outer: Flow, equation: Equation, carry: Sequence[State]) -> list[State]:
    """The states of the results of a loop whose lanes stop one by one.

    What all lanes share changes until the last one is done: each chunk may have its own if nobody
    reads the result, or if the greatest or least of those of all chunks is the last.

    Raises:
        Inseparable: it is read.
    """
    params = equation.params
    body: Program = params["body_program"]
    defined = definitions(body)
    before = body.inputs[params["body_nconsts"] :]
    outs: list[State] = [*carry]
    for k, (old, new) in enumerate(zip(before, body.outputs, strict=True)):
        if new is old or type(carry[k]) is int or not outer.uses.get(equation.outputs[k], 0):
            continue
        operation = _last_of(defined.get(new), old) if type(new) is Variable else None
        if operation is None:
            raise Inseparable(
                f"the loop's value {k} ({old.aval}), the same for all lanes, changes until the "
                "last lane is done"
            )
        outs[k] = Partial(operation)
    return outs


def _last_of(equation: Equation | None, old: Variable) -> str | None:
    """What finds the last of the values that a counter had in different chunks.

    Signed integers of 32 bits or more are taken not to wrap around.
    """
    if equation is None or equation.primitive.name not in ("add", "sub"):
        return None
    dtype = old.aval.dtype
    if not dtypes.is_inexact(dtype) and (not dtypes.is_signed(dtype) or dtype.itemsize < 4):
        return None
    x, y = equation.inputs
    if equation.primitive.name == "add" and isinstance(x, Literal):
        x, y = y, x
    if x is not old or not isinstance(y, Literal) or y.aval.shape != ():
        return None
    down = bool(y.value._value < 0) != (equation.primitive.name == "sub")
    return "min" if down else "max"


def _varying(body: Program, num_consts: int, carry: Sequence[State]) -> list[State]:
    """The states of carries, each chunk's own if they are uniform and change."""
    before = body.inputs[num_consts:]
    return [
        LOCAL if state is None and new is not old else state
        for state, old, new in zip(carry, before, body.outputs, strict=True)
    ]


def _own_predicate(test: Flow, defined: Mapping[Variable, Equation]) -> Atom:
    """What is reduced over lanes to give the loop's predicate."""
    (atom,) = test.program.outputs
    while True:
        equation = defined.get(atom) if type(atom) is Variable else None
        name = equation.primitive.name if equation is not None else ""
        if equation is not None and name == "reduce_or":
            return equation.inputs[0]
        if equation is None or name != "and":
            raise Inseparable("its predicate is not a plain any-reduction over lanes")
        (atom,) = [a for a in equation.inputs if type(test.state(a)) is Partial]


# --- cond -----------------------------------------------------------------------------------------


def _cond_step(outer: Flow, equation: Equation, found: Sequence[State]) -> Step:
    branches: tuple[Program, ...] = equation.params["branches"]
    if not is_uniform(found[0]):
        raise Inseparable("which branch is taken depends on all lanes")
    _refuse_partial(found, "a branch", 0, 0)

    def settle(states: list[State]) -> Settled:
        flows = [Flow(branch, states, outer.axis) for branch in branches]
        outs = flows[0].outputs
        for flow in flows[1:]:
            outs = _join_all(outs, flow.outputs)
        if found[0] is LOCAL:
            outs = [LOCAL if s is None else s for s in outs]
        for flow in flows:
            flow.finish(outs)
        return states, (flows, outs)

    def demands(settled: tuple[list[Flow], list[State]]) -> list[set[int]]:
        every = [_demanded(f, f.program.inputs) for f in settled[0]]
        return [set[int]().union(*dims) for dims in zip(*every, strict=True)]

    states, (flows, outs) = cut_where_demanded(list(found[1:]), settle, demands)
    return Step(equation, [found[0], *states], outs, [(flow, outs) for flow in flows])


CONTROL: dict[str, Callable[[Flow, Equation, Sequence[State]], Step]] = {
    "scan": _scan_step,
    "while": _while_step,
    "cond": _cond_step,
}
"""How each primitive that holds programs continues states."""
