"""Distribution of a scan over what all lanes share.

A batch of filters carries a covariance that is the same for all of them beside states that are not.
What the lanes share would be computed again by every chunk, and what follows from a sum over lanes
would wait in each for all of them:

```
s', x', y = scan[{ s, x -> s' = f(s); k = g(s); x', y = h(k, x); y = sum(y) ... }]    =>
s', ks = scan[{ s -> s' = f(s); k = g(s) }]
x', ys = scan[{ x, k -> x', y = h(k, x) }] over ks          (this one runs in lanes)
...    = scan[{ y -> ... }] over ys
```

Equations stay in their order, and each reads what it did before: no value changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple

from covector.compiler.costs import cost_of, operations
from covector.compiler.lanes.flow import Axis, Blocked, Flow, State, Step, form_of, lane_step
from covector.core.program import Atom, Equation, Program, Variable
from covector.ops.common import Inseparable, Partial
from covector.ops.nested import count_uses, definitions, elements, nbytes, prune, split, stacked

SHARED, LANES, TOTALS = 0, 1, 2
"""The parts, in their order: what no lane has a say in, the lanes, what follows from their sums, or
from what they write to one array."""

DEPOSITS = frozenset(
    ("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max")
)
"""By which lanes may write to one array: in the order of the lanes, step after step."""

WORTH = 4.0
"""Operations a part must save for each number that passes from one loop to another."""

STACKED_BYTES = 1 << 25
"""How much memory may pass from one loop to another."""


class Distributed(NamedTuple):
    """A scan as several.

    Attributes:
        equations: the scans that replace it, in order.
        loop: that of them which has the lanes.
        seed: the states of its operands.
    """

    equations: list[Equation]
    loop: Equation
    seed: list[State]


def distributed(
    loop: Equation, axis: Axis, seed: Sequence[State], totals: bool
) -> Distributed | None:
    """A scan whose parts that do not differ from lane to lane have loops of their own.

    Args:
        loop: any loop.
        axis: along how many lanes.
        seed: the states of its operands.
        totals: whether what follows from sums over lanes gets a loop of its own, too. Where it is
            linear the lanes can do it as well, each with its own part of the sums.

    Returns:
        The scans; `None` where it does not pay or the lanes need the totals.
    """
    parts = _parts(loop, axis, seed)
    return None if parts is None else parts.divided(totals)


def distributed_anyhow(
    loop: Equation, axis: Axis, seeds: Iterable[Sequence[State]], totals: bool
) -> Distributed | None:
    """A scan in parts, wherever in it lanes begin.

    Args:
        loop: any loop.
        axis: along how many lanes.
        seeds: the states of its operands to try.
        totals: as for `distributed`.

    Returns:
        The scans; `None` where it does not pay, whichever operands have lanes.
    """

    def find() -> Distributed | None:
        followed: set[tuple[int, State]] = set()  # lanes that begin there are the same again
        for seed in seeds:
            if followed.issuperset(_lanes_at(seed)):
                continue
            parts = _parts(loop, axis, seed)
            if parts is None:
                continue
            followed.update(_lanes_at(parts.seed))
            found = parts.divided(totals)
            if found is not None:
                return found
        return None

    return axis.recall(("distributed", loop, totals), find)


def _lanes_at(states: Sequence[State]) -> list[tuple[int, State]]:
    return [(k, state) for k, state in enumerate(states) if state is not None]


def _parts(loop: Equation, axis: Axis, seed: Sequence[State]) -> _Parts | None:
    """The parts of a loop; `None` if it cannot have any."""
    if loop.primitive.name != "scan" or loop.effects or type(loop.params["length"]) is not int:
        return None
    try:
        return _Parts(loop, axis, seed)
    except (Blocked, Inseparable):
        return None


class _Parts:
    """Which part each equation and each carry of a scan's program belongs to.

    Attributes:
        of: the part of each equation; those that depend on constants alone have none, and go along
            with whatever reads them.
        carries: the part of each carry.
        ready: the first part that can read a variable.
    """

    def __init__(self, loop: Equation, axis: Axis, seed: Sequence[State]) -> None:
        params = loop.params
        self.loop = loop
        self.body: Program = params["program"]
        self.num_consts: int = params["num_consts"]
        self.num_carry: int = params["num_carry"]
        self._axis = axis
        first_x = self.num_consts + self.num_carry
        if any([s == 0 for s in seed[first_x:]]):
            raise Inseparable("it runs over the lanes one after the other")
        self.states = [s - 1 if type(s) is int and k >= first_x else s for k, s in enumerate(seed)]
        self.carries = [SHARED] * self.num_carry
        self._cut: dict[Equation, tuple[int, int]] = {}
        while self._changes():
            pass
        self._keep_sums()

    # --- which part ---------------------------------------------------------------------------

    def _changes(self) -> bool:
        """Follows the lanes once; whether inputs or equations turned out to belong elsewhere."""
        inputs = self.body.inputs
        flow = Flow(self.body.replace(equations=[]), self.states, self._axis)
        self.of: dict[Equation, int] = {}
        self.ready: dict[Variable, int] = {}
        for k, variable in enumerate(inputs):
            carry = k - self.num_consts
            part = self.carries[carry] if 0 <= carry < self.num_carry else SHARED
            if self.states[k] is not None:
                part = max(part, LANES)
            self.ready[variable] = part
        self._free = set(inputs[: self.num_consts])
        self._free -= {v for v, s in zip(inputs, self.states, strict=True) if s is not None}
        for equation in self.body.equations:
            self._place(flow, equation)
        return self._grow(flow)

    def _place(self, flow: Flow, equation: Equation) -> None:
        variables = [a for a in equation.inputs if type(a) is Variable]
        part = max([self.ready[v] for v in variables], default=SHARED)
        states = [flow.state(a) for a in equation.inputs]
        outs: Sequence[State] = [None] * len(equation.outputs)
        if self._deposits(equation, states):
            step = None
            part = TOTALS
        elif any([type(s) is int for s in states]):
            if part == TOTALS:
                raise Inseparable("it uses a reduction over all lanes in each lane")
            step = flow.continued(equation, states)
        elif (form := self._form(equation)) is not None:
            step = Step(equation, *form)
        else:
            step = None
        if step is not None:
            flow.add(step)
            outs = step.outs
            part = max(part, LANES)
        elif all([v in self._free for v in variables]):
            self._free.update(equation.outputs)
        if not all([v in self._free for v in equation.outputs]):
            self.of[equation] = part
        for variable, state in zip(equation.outputs, outs, strict=True):
            total = type(state) is Partial
            flow.states[variable] = None if total else state
            self.ready[variable] = TOTALS if total else part

    def _deposits(self, equation: Equation, states: Sequence[State]) -> bool:
        """Whether lanes write to an array that is theirs together."""
        if equation.primitive.name not in DEPOSITS or type(states[0]) is int:
            return False
        if all([type(s) is not int for s in states[1:]]):
            return False
        target = equation.inputs[0]
        if type(target) is Variable and self.ready[target] == TOTALS:
            return True
        try:
            return type(lane_step(equation, states, self._axis).outs[0]) is Partial
        except Inseparable:
            return True

    def _form(self, equation: Equation) -> tuple[list[State], list[State]] | None:
        """How to compute, for some lanes alone, what all lanes together would be a part of."""
        if equation not in self._cut:
            return None
        return form_of(equation, *self._cut[equation], self._axis)

    def _grow(self, flow: Flow) -> bool:
        """Takes what was found into account; whether there was anything new."""
        before = list(self.states), list(self.carries), len(self._cut)
        for k, variable in enumerate(self.body.inputs):
            dims = flow.demands.get(variable, ())
            if self.states[k] is None and len(dims) == 1:
                (self.states[k],) = dims
        for k, atom in enumerate(self.body.outputs[: self.num_carry]):
            place = self.num_consts + k
            state = flow.state(atom)
            if self.states[place] is None and type(state) is int:
                self.states[place] = state
            if type(state) is int and self.states[place] != state:
                raise Inseparable("a carry changes the axis of its lanes")
            if type(atom) is Variable:
                self.carries[k] = max(self.carries[k], self.ready[atom])
            if self.states[place] is not None:
                self.carries[k] = max(self.carries[k], LANES)
        defined = definitions(self.body)
        for variable, dims in flow.demands.items():
            if variable in defined and len(dims) == 1:
                (dim,) = dims
                number = defined[variable].outputs.index(variable)
                self._cut.setdefault(defined[variable], (number, dim))
        return before != (self.states, self.carries, len(self._cut))

    def _keep_sums(self) -> None:
        """Sums that are only added to, step after step, stay with the lanes."""
        defined, uses = definitions(self.body), count_uses(self.body)
        first = self.num_consts
        carried = self.body.inputs[first : first + self.num_carry]
        for k, (before, after) in enumerate(zip(carried, self.body.outputs, strict=False)):
            found: set[Equation] = set()
            if (
                self.carries[k] == TOTALS
                and uses.get(before) == 1
                and self._only_adds(after, before, defined, uses, found)
            ):
                self.carries[k] = LANES
                self.of.update(dict.fromkeys(found, LANES))

    def _only_adds(
        self,
        atom: Atom,
        carried: Variable,
        defined: dict[Variable, Equation],
        uses: dict[Variable, int],
        found: set[Equation],
    ) -> bool:
        """Whether a value is a sum of a carry and of reductions that the lanes make."""
        if atom is carried:
            return True
        equation = defined.get(atom) if type(atom) is Variable else None
        if equation is None or type(atom) is not Variable:
            return False
        if self.of.get(equation) == LANES:
            return self.ready[atom] == TOTALS
        if equation.primitive.name not in ("add", "add_any") or uses[atom] != 1:
            return False
        found.add(equation)
        return all([self._only_adds(a, carried, defined, uses, found) for a in equation.inputs])

    @property
    def seed(self) -> list[State]:
        """The states of the loop's operands."""
        first_x = self.num_consts + self.num_carry
        return [_outside(s) if k >= first_x else s for k, s in enumerate(self.states)]

    def divided(self, totals: bool) -> Distributed | None:
        """The scans; `None` if it does not pay to have more than one."""
        if not self.pays(SHARED):
            self.merge(SHARED)
        if not totals or not self.pays(TOTALS):
            self.merge(TOTALS)
        return None if set(self.of.values()) == {LANES} else self.build()

    # --- whether it pays ----------------------------------------------------------------------

    def pays(self, part: int) -> bool:
        """Whether a loop of its own for a part is worth the values that pass to or from it."""
        own = [e for e, p in self.of.items() if p == part]
        if part == SHARED and any(
            [self._axis.size in v.aval.shape for e in own for v in e.outputs]
        ):
            return False  # the lanes may do it, each its own element
        worth, saved = WORTH, sum(map(_operations, own))
        if part == TOTALS and any([e.primitive.name in DEPOSITS for e in own]):
            # Without it, nothing is in lanes; but arrays as long as the lanes are fast as they are.
            of_lanes = Program([], [e for e, p in self.of.items() if p == LANES], [])
            saved, worth = operations(cost_of(of_lanes)), 12 * WORTH
        passing = [
            v.aval
            for p in (SHARED, LANES)
            for v in self._passing(p)
            if p == part or (part == TOTALS and p == LANES)
        ]
        moved = self.loop.params["length"] * sum([nbytes(a) for a in passing])
        return saved > worth * sum(map(elements, passing)) and moved <= STACKED_BYTES

    def merge(self, part: int) -> None:
        """Puts a part in with the lanes."""
        self.of = {e: LANES if p == part else p for e, p in self.of.items()}
        self.carries = [LANES if p == part else p for p in self.carries]

    # --- the scans ----------------------------------------------------------------------------

    def _made(self) -> dict[Variable, int]:
        """The part in which each variable is, apart from those that are in all of them."""
        made = {v: p for e, p in self.of.items() for v in e.outputs}
        carried = self.body.inputs[self.num_consts : self.num_consts + self.num_carry]
        made.update(zip(carried, self.carries, strict=True))
        return made

    def _readers(self) -> dict[Variable, set[int]]:
        """The parts that read each variable: through what depends on constants alone, too."""
        readers: dict[Variable, set[int]] = {}
        for equation, part in self.of.items():
            for atom in equation.inputs:
                if type(atom) is Variable:
                    readers.setdefault(atom, set()).add(part)
        for part, atom in zip(self.carries, self.body.outputs, strict=False):
            if type(atom) is Variable:
                readers.setdefault(atom, set()).add(part)
        return readers

    def _passing(self, part: int) -> list[Variable]:
        """What a part makes that later ones read."""
        readers = self._readers()
        return [
            v
            for v, p in self._made().items()
            if p == part and any([reader > part for reader in readers.get(v, ())])
        ]

    def build(self) -> Distributed:
        """The scans."""
        made = self._made()
        stacks: dict[Variable, Variable] = {}
        equations: list[Equation] = []
        found: list[tuple[Equation, list[State]]] = []
        for part in sorted({*self.of.values(), *self.carries, LANES}):
            equation, seed = self._scan(part, made, stacks)
            equations.append(equation)
            if part == LANES:
                found.append((equation, seed))
        return Distributed(equations, *found[0])

    def _scan(
        self, part: int, made: dict[Variable, int], stacks: dict[Variable, Variable]
    ) -> tuple[Equation, list[State]]:
        """The scan of a part, and the states of its operands.

        Args:
            part: which.
            made: where variables are.
            stacks: what earlier parts have passed on; what this one does is added.
        """
        loop, length = self.loop, self.loop.params["length"]
        carry_outs, ys = split(loop.outputs, self.num_carry)
        mine = [k for k, p in enumerate(self.carries) if p == part]
        kept = [
            (atom, out)
            for atom, out in zip(self.body.outputs[self.num_carry :], ys, strict=True)
            if (made.get(atom, LANES) if type(atom) is Variable else LANES) == part
        ]
        passing = self._passing(part)
        outputs = [
            *[self.body.outputs[k] for k in mine],
            *[atom for atom, _ in kept],
            *passing,
        ]
        new = {v: Variable(stacked(v.aval.strong(), length)) for v in passing}
        own = [e for e in self.body.equations if self.of.get(e, part) == part]
        body = prune(self.body.replace(equations=own, outputs=outputs))
        inputs, operands, seed, num_consts = self._operands(body, mine, stacks)
        params = {
            **loop.params,
            "program": body.replace(inputs=inputs),
            "num_consts": num_consts,
            "num_carry": len(mine),
        }
        outs = [*[carry_outs[k] for k in mine], *[out for _, out in kept], *new.values()]
        stacks.update(new)
        return loop.replace(inputs=operands, outputs=outs, params=params), seed

    def _operands(
        self, body: Program, mine: Sequence[int], stacks: dict[Variable, Variable]
    ) -> tuple[list[Variable], list[Atom], list[State], int]:
        """The inputs of a part's program, the operands for them, their states; how many constants.

        Args:
            body: what the part computes.
            mine: its carries.
            stacks: what earlier parts have passed on.
        """
        read = count_uses(body)
        first_x = self.num_consts + self.num_carry
        every: list[tuple[Variable, Atom, State]] = list(
            zip(self.body.inputs, self.loop.inputs, self.states, strict=True)
        )
        consts = [item for item in every[: self.num_consts] if item[0] in read]
        carries = [every[self.num_consts + k] for k in mine]
        xs = [(v, a, _outside(s)) for v, a, s in every[first_x:] if v in read]
        passed: list[tuple[Variable, Atom, State]] = [
            (v, stack, None) for v, stack in stacks.items() if v in read
        ]
        items = [*consts, *carries, *xs, *passed]
        return (
            [v for v, _, _ in items],
            [a for _, a, _ in items],
            [s for _, _, s in items],
            len(consts),
        )


def _outside(state: State) -> State:
    return state + 1 if type(state) is int else state


def _operations(equation: Equation) -> float:
    """About how many operations an equation takes."""
    out = sum([elements(v.aval) for v in equation.outputs])
    tags = equation.primitive.tags
    if "contraction" in tags and equation.primitive.name == "dot_general":
        contracted: Sequence[int] = equation.params["dimension_numbers"][0][0]
        shape = equation.inputs[0].aval.shape
        return out * prod([n for d, n in enumerate(shape) if d in contracted and type(n) is int])
    return out
