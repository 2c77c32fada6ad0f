"""Which equations of a program run together on a device, and which stay with the host."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from covector.core.program import (
    Atom,
    Equation,
    Program,
    Variable,
    map_subprograms,
    subprograms,
)
from covector.ops.nested import substitute

Claims = Callable[[Equation], bool]
MakePart = Callable[[Program, Sequence[Equation]], Equation | None]
"""Given a part and its equations: the equation that stands for it, or `None` if it is not worth
it."""


def partition(program: Program, claims: Claims, make: MakePart) -> Program:
    """Puts claimed equations that can run together into parts.

    The host's equations run as long as they can, then the claimed ones as long as they can, so that
    the two take turns as seldom as their dependences let them. What runs in one turn is one part
    for each group of equations that share values.

    Args:
        program: without calls.
        claims: whether the device runs an equation.
        make: gives the equation of a part; its inputs and outputs are set here.

    Returns:
        The host's program; the bodies of loops and branches are gone through too.
    """
    return _Partition(claims, make).rewritten(program)


class _Partition:
    def __init__(self, claims: Claims, make: MakePart) -> None:
        self._claims = claims
        self._make = make

    def rewritten(self, program: Program) -> Program:
        equations = [self._nested(e) for e in program.equations]
        mine = [self._is_claimed(e) for e in equations]
        if not any(mine):
            return program.replace(equations=equations)
        kept = {a for a in program.outputs if type(a) is Variable}
        read = _readers(equations)
        found: list[Equation] = []
        for turn, is_mine in _turns(equations, mine):
            if is_mine:
                for group in _groups(turn):
                    found += self._part(group, read, kept)
            else:
                found += turn
        return program.replace(equations=found)

    def _nested(self, equation: Equation) -> Equation:
        """An equation whose loop body or branches are partitioned, unless it is claimed whole."""
        holds = any(True for _ in subprograms(equation.params))
        if not holds or "control" not in equation.primitive.tags or self._is_claimed(equation):
            return equation
        return equation.replace(params=map_subprograms(equation.params, self.rewritten))

    def _is_claimed(self, equation: Equation) -> bool:
        return may_move(equation) and self._claims(equation)

    def _part(
        self,
        group: Sequence[Equation],
        read: dict[Variable, list[Equation]],
        kept: set[Variable],
    ) -> Sequence[Equation]:
        members = {id(e) for e in group}
        made = [v for e in group for v in e.outputs]
        inside = set(made)
        inputs = list(
            dict.fromkeys(
                [a for e in group for a in e.inputs if type(a) is Variable and a not in inside]
            )
        )
        outputs = [
            v for v in made if v in kept or any([id(e) not in members for e in read.get(v, ())])
        ]
        own = [Variable(v.aval) for v in inputs]
        program = Program(inputs, group, outputs)
        program = substitute(program, dict(zip(inputs, own, strict=True))).replace(inputs=own)
        equation = self._make(program, group)
        return group if equation is None else [equation.replace(inputs=inputs, outputs=outputs)]


def may_move(equation: Equation) -> bool:
    """Whether an equation can run elsewhere: it has no effects, and numbers for all sizes."""
    if equation.effects or equation.primitive.tags & {"callback", "call"}:
        return False
    atoms: list[Atom] = [*equation.inputs, *equation.outputs]
    return all([type(n) is int for a in atoms for n in a.aval.shape])


def _readers(equations: Sequence[Equation]) -> dict[Variable, list[Equation]]:
    found: dict[Variable, list[Equation]] = {}
    for equation in equations:
        for atom in equation.inputs:
            if type(atom) is Variable:
                found.setdefault(atom, []).append(equation)
    return found


def _turns(
    equations: Sequence[Equation], mine: Sequence[bool]
) -> list[tuple[list[Equation], bool]]:
    """Equations in an order that respects dependences, the host's and the device's in turns.

    Those with effects keep their order.
    """
    waits, next_ones = _dependences(equations)
    ready: dict[bool, list[int]] = {True: [], False: []}
    for k, count in enumerate(waits):
        if not count:
            ready[mine[k]].append(k)
    turns: list[tuple[list[Equation], bool]] = []
    whose = False
    while ready[True] or ready[False]:
        turn: list[Equation] = []
        while ready[whose]:
            k = heapq.heappop(ready[whose])
            turn.append(equations[k])
            for after in next_ones[k]:
                waits[after] -= 1
                if not waits[after]:
                    heapq.heappush(ready[mine[after]], after)
        if turn:
            turns.append((turn, whose))
        whose = not whose
    return turns


def _dependences(equations: Sequence[Equation]) -> tuple[list[int], list[list[int]]]:
    """For each equation how many others it waits for, and which wait for it."""
    made = {v: k for k, e in enumerate(equations) for v in e.outputs}
    waits: list[int] = []
    next_ones: list[list[int]] = [[] for _ in equations]
    last = -1
    for k, equation in enumerate(equations):
        before = {made[a] for a in equation.inputs if type(a) is Variable and a in made}
        if equation.effects:
            before |= {last} - {-1}
            last = k
        for other in before:
            next_ones[other].append(k)
        waits.append(len(before))
    return waits, next_ones


def _groups(equations: Sequence[Equation]) -> list[list[Equation]]:
    """Equations that share values, directly or through others, in their order."""
    leader = list(range(len(equations)))

    def find(k: int) -> int:
        while leader[k] != k:
            leader[k] = leader[leader[k]]
            k = leader[k]
        return k

    seen: dict[Variable, int] = {}
    for k, equation in enumerate(equations):
        for atom in (*equation.inputs, *equation.outputs):
            if type(atom) is Variable:
                leader[find(k)] = find(seen.setdefault(atom, k))
    groups: dict[int, list[Equation]] = {}
    for k, equation in enumerate(equations):
        groups.setdefault(find(k), []).append(equation)
    return list(groups.values())
