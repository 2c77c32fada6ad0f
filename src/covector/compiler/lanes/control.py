"""How lanes flow through loops and branches: to a fixed point through what loops carry."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from covector.compiler.lanes.flow import Blocked, Flow, State, Step
from covector.core.program import Atom, Equation, Literal, Program, Variable, param_key
from covector.ops.common import Inseparable, Partial
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
            if states[k] is None and k not in kept_whole and len(dims) == 1
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
    if predicate is not None:
        if predicate != Partial("or"):
            raise Inseparable("whether it goes on is not asked of any lane but of all")
        _check_lanes_stop(outer, equation, test, carry)
    return Step(equation, states, carry, [(test, test.outputs), (after, carry)])


def _check_lanes_stop(outer: Flow, equation: Equation, test: Flow, carry: list[State]) -> None:
    """Checks that a chunk may stop when its own lanes are done.

    Each lane's values must stay what they are once its own predicate is false, and the predicate
    must depend on nothing else that changes.

    Raises:
        Inseparable: saying which value changes.
    """
    params = equation.params
    body: Program = params["body_program"]
    num_cond, num_body = params["cond_nconsts"], params["body_nconsts"]
    cond_consts, body_consts, _ = split(equation.inputs, num_cond, num_body)
    tests = Expressions(params["cond_program"], cond_consts)
    bodies = Expressions(body, body_consts)
    own = _own_predicate(test, tests)
    defined = definitions(body)
    before = body.inputs[num_body:]
    for k, (old, new) in enumerate(zip(before, body.outputs, strict=True)):
        if new is old:
            continue
        if carry[k] is None:
            _check_uniform_carry(outer, equation, k, tests.depends_on(own, k))
            continue
        last = defined.get(new) if type(new) is Variable else None
        if last is None or last.primitive.name != "select_n" or last.inputs[1] is not old:
            raise Inseparable(f"carry {k} changes in lanes that are done")
        if bodies.spread_from(last.inputs[0]) != tests.key(own):
            raise Inseparable(f"carry {k} changes by another predicate than the loop ends by")


def _check_uniform_carry(outer: Flow, equation: Equation, k: int, asked: bool) -> None:
    used = outer.uses.get(equation.outputs[k], 0) > 0
    if used:
        raise Inseparable(f"carry {k}, the same for all lanes, counts until the last one is done")
    if asked:
        raise Inseparable(f"whether a lane is done depends on carry {k}, the same for all lanes")


def _own_predicate(test: Flow, tests: Expressions) -> Atom:
    """What is reduced over lanes to give the loop's predicate."""
    (atom,) = test.program.outputs
    while True:
        equation = tests.defined.get(atom) if type(atom) is Variable else None
        name = equation.primitive.name if equation is not None else ""
        if equation is not None and name == "reduce_or":
            return equation.inputs[0]
        if equation is None or name != "and":
            raise Inseparable("its predicate is not a plain any-reduction over lanes")
        (atom,) = [a for a in equation.inputs if test.state(a) is not None]


class Expressions:
    """Values of a loop's program as expressions of its carries and of values outside the loop.

    Two programs of one loop compute the same where their expressions are equal.

    Args:
        program: `constants, carries -> ...`.
        constants: what the leading inputs stand for.
    """

    def __init__(self, program: Program, constants: Sequence[Atom]) -> None:
        self.defined = definitions(program)
        self._keys: dict[Variable, Hashable] = {}
        self._carries: dict[Variable, frozenset[int]] = {}
        for k, variable in enumerate(program.inputs):
            carried = k - len(constants)
            self._keys[variable] = ("carry", carried) if carried >= 0 else _key(constants[k])
            self._carries[variable] = frozenset([carried] if carried >= 0 else [])
        for equation in program.equations:
            operands = tuple([self.key(a) for a in equation.inputs])
            own = (equation.primitive.name, param_key(equation.params), operands)
            reached = frozenset[int]().union(
                *[self._carries[a] for a in equation.inputs if type(a) is Variable]
            )
            for number, variable in enumerate(equation.outputs):
                self._keys[variable] = _Interned((own, number))
                self._carries[variable] = reached

    def key(self, atom: Atom) -> Hashable:
        """Equal for equal expressions."""
        return _key(atom) if isinstance(atom, Literal) else self._keys[atom]

    def depends_on(self, atom: Atom, carry: int) -> bool:
        """Whether a value is computed from a carry."""
        return type(atom) is Variable and carry in self._carries[atom]

    def spread_from(self, atom: Atom) -> Hashable:
        """The key of a value, or of the one it repeats along more axes."""
        equation = self.defined.get(atom) if type(atom) is Variable else None
        if equation is not None and equation.primitive.name == "broadcast_in_dim":
            return self.key(equation.inputs[0])
        return self.key(atom)


class _Interned:
    """A key whose hash is computed once: expressions share their parts many times over."""

    __slots__ = ("_hash", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self._hash = hash(value)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, _Interned) and self._hash == other._hash and self.value == other.value
        )


def _key(atom: Atom) -> Hashable:
    if not isinstance(atom, Literal):
        return atom
    if atom.aval.shape == ():
        return (atom.aval, atom.value._value.tobytes())
    return id(atom.value)


# --- cond -----------------------------------------------------------------------------------------


def _cond_step(outer: Flow, equation: Equation, found: Sequence[State]) -> Step:
    branches: tuple[Program, ...] = equation.params["branches"]
    if found[0] is not None:
        raise Inseparable("which branch is taken depends on all lanes")
    _refuse_partial(found, "a branch", 0, 0)

    def settle(states: list[State]) -> Settled:
        flows = [Flow(branch, states, outer.axis) for branch in branches]
        outs = flows[0].outputs
        for flow in flows[1:]:
            outs = _join_all(outs, flow.outputs)
        for flow in flows:
            flow.finish(outs)
        return states, (flows, outs)

    def demands(settled: tuple[list[Flow], list[State]]) -> list[set[int]]:
        every = [_demanded(f, f.program.inputs) for f in settled[0]]
        return [set[int]().union(*dims) for dims in zip(*every, strict=True)]

    states, (flows, outs) = cut_where_demanded(list(found[1:]), settle, demands)
    return Step(equation, [None, *states], outs, [(flow, outs) for flow in flows])


CONTROL: dict[str, Callable[[Flow, Equation, Sequence[State]], Step]] = {
    "scan": _scan_step,
    "while": _while_step,
    "cond": _cond_step,
}
"""How each primitive that holds programs continues states."""
