"""Branches for lanes: what only a select needs runs where a lane takes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf

import numpy as np

from covector.compiler.costs import cost_of, operations
from covector.compiler.passes.base import inside
from covector.core import dtypes
from covector.core.program import Atom, Equation, Program, Variable
from covector.ops.nested import definitions, elements, prune, substitute

WORTH = 100.0
"""Operations of one side from which on a vector's lanes are asked whether any of them takes it."""

_MOVES = frozenset({"broadcast_in_dim", "reshape", "squeeze", "transpose"})
"""What may stand between a number and the array of it that a select takes."""


@dataclass(frozen=True)
class Branches:
    """Puts what only one side of selects needs into branches, in programs of single lanes.

    ```
    b = expensive a               b = cond[{ a, c -> c }
    d = select_n p c b     =>              { a, c -> b: b = expensive a }] p a c
    ```

    A `cond` whose predicate is batched runs all its branches and selects; in native code lanes run
    in vectors, and a vector can leave out the side that none of its lanes takes. Selects with one
    predicate share a branch. The equations and their order are the same in it: no value changes.
    """

    name: str = "lane_branches"

    def run(self, program: Program) -> Program:
        """The program with branches inside of lanes."""
        return program.replace(equations=[self._found(e) for e in program.equations])

    def _found(self, equation: Equation) -> Equation:
        if equation.primitive.name == "lanes" and equation.params["width"] == 1:
            return inside(equation, _with_branches)
        return inside(equation, self.run)


def _with_branches(program: Program, frozen: Iterable[Variable] = ()) -> Program:
    """A lane's program with branches, in nested programs too.

    Args:
        program: for one lane.
        frozen: predicates by which lanes that have left a `while` keep what it carries; masks do
            that anyway.
    """
    if _cost(program.equations) < WORTH:
        return program
    if not program.effects:
        spared = set(frozen)
        for predicate in _predicates(program):
            if predicate not in spared:
                program = _branching(program, predicate)
    return program.replace(equations=[_inside(e) for e in program.equations])


def _inside(equation: Equation) -> Equation:
    if equation.primitive.name != "while":
        return inside(equation, _with_branches)
    body: Program = equation.params["body_program"]
    body = _with_branches(body, _keeping(body, equation.params["body_nconsts"]))
    return equation.replace(params={**equation.params, "body_program": body})


def _keeping(body: Program, num_consts: int) -> set[Variable]:
    """The predicates of a loop's body that choose between a carry and what comes after it."""
    defined = definitions(body)
    found: set[Variable] = set()
    for before, after in zip(body.inputs[num_consts:], body.outputs, strict=True):
        equation = defined.get(after) if type(after) is Variable else None
        if equation is not None and before in equation.inputs[1:]:
            predicate = _predicate(equation, defined)
            found.update([] if predicate is None else [predicate])
    return found


# --- selects --------------------------------------------------------------------------------------


def _predicates(program: Program) -> list[Variable]:
    """What selects are made by, where that is one number."""
    defined = definitions(program)
    found = [_predicate(e, defined) for e in program.equations]
    return list(dict.fromkeys([p for p in found if p is not None]))


def _predicate(equation: Equation, defined: dict[Variable, Equation]) -> Variable | None:
    if equation.primitive.name != "select_n":
        return None
    found: Variable | None = None
    atom: Atom | None = equation.inputs[0]
    while type(atom) is Variable:
        if elements(atom.aval) == 1:
            found = atom
        source = defined.get(atom)
        moves = source is not None and source.primitive.name in _MOVES
        atom = source.inputs[0] if source is not None and moves else None
    return found


def _branching(program: Program, predicate: Variable) -> Program:
    """The program with branches by one predicate, the last selects first."""
    for group in _by_depth(program, predicate):
        there = set(program.equations)
        selects = [e for e in group if e in there]  # others are in a branch already
        sides = _sides(program, set(selects)) if selects else {}
        costs = [_cost([e for e, k in sides.items() if k == side]) for side in set(sides.values())]
        if max(costs, default=0.0) >= WORTH:
            program = _rebuilt(program, predicate, selects, sides)
    return program


def _by_depth(program: Program, predicate: Variable) -> list[list[Equation]]:
    """Selects by a predicate, those first that need others; no two of a group need each other."""
    defined = definitions(program)
    depth: dict[Variable, int] = {}
    groups: dict[int, list[Equation]] = {}
    for equation in program.equations:
        deepest = max([depth.get(a, 0) for a in equation.inputs if type(a) is Variable], default=0)
        if _predicate(equation, defined) is predicate:
            groups.setdefault(deepest, []).append(equation)
            deepest += 1
        depth.update(dict.fromkeys(equation.outputs, deepest))
    return [groups[n] for n in sorted(groups, reverse=True)]


def _sides(program: Program, selects: set[Equation]) -> dict[Equation, int]:
    """The equations that only one side of some selects needs, with the number of the side."""
    users: dict[Variable, set[int]] = {
        a: {_OUTSIDE} for a in program.outputs if type(a) is Variable
    }
    sides: dict[Equation, int] = {}
    for equation in reversed(program.equations):
        needed = {k for v in equation.outputs for k in users.get(v, ())}
        side = _OUTSIDE
        if equation not in selects and len(needed) == 1:
            (side,) = needed
        if side != _OUTSIDE:
            sides[equation] = side
        for place, atom in enumerate(equation.inputs):
            if type(atom) is Variable:
                user = place - 1 if equation in selects and place > 0 else side
                users.setdefault(atom, set()).add(user)
    return sides


_OUTSIDE = -1


def _cost(equations: Sequence[Equation]) -> float:
    """About how many operations equations take."""
    total = cost_of(Program([], list(equations), []))
    if total["unbounded loops"]:
        return inf
    return operations(total)


# --- the branch -----------------------------------------------------------------------------------


def _rebuilt(
    program: Program, predicate: Variable, selects: list[Equation], sides: dict[Equation, int]
) -> Program:
    """The program with a branch in place of selects and of what their sides need."""
    from covector.ops.cond import cond

    inside = [e for e in program.equations if e in sides]
    made = {v for e in inside for v in e.outputs}
    read = [a for e in inside for a in e.inputs] + [a for e in selects for a in e.inputs[1:]]
    operands = list(dict.fromkeys([a for a in read if type(a) is Variable and a not in made]))
    branches: list[Program] = []
    for side in range(len(selects[0].inputs) - 1):
        inputs = [Variable(v.aval) for v in operands]
        names: dict[Variable, Atom] = dict(zip(operands, inputs, strict=True))
        own = [e for e in inside if sides[e] == side]
        outs = [_whole(e, e.inputs[1 + side], own) for e in selects]
        branch = substitute(Program([], own, outs), names)
        branches.append(branch.replace(inputs=inputs))
    before, index = _index(predicate)
    outputs = [v for e in selects for v in e.outputs]
    params = {"branches": tuple(branches)}
    branch = selects[0].replace(
        primitive=cond, inputs=[index, *operands], outputs=outputs, params=params
    )
    equations: list[Equation] = []
    for equation in program.equations:
        if equation is selects[0]:
            equations += [*before, branch]
        elif equation not in sides and equation not in selects:
            equations.append(equation)
    return prune(program.replace(equations=_in_order(equations)))


def _whole(select: Equation, case: Atom, equations: list[Equation]) -> Atom:
    """What a select takes in the shape of its result: it may take one number for all elements."""
    from covector.ops.shape import broadcast_in_dim

    shape = select.outputs[0].aval.shape
    if case.aval.shape == shape:
        return case
    whole = Variable(case.aval.update(shape=shape))
    params = {"shape": shape, "broadcast_dimensions": ()}
    equations.append(Equation(broadcast_in_dim, [case], [whole], params))
    return whole


def _index(predicate: Variable) -> tuple[list[Equation], Atom]:
    """A predicate as the number of a branch, and the equations for it."""
    from covector.ops.convert import convert_element_type
    from covector.ops.shape import reshape

    equations: list[Equation] = []
    scalar = predicate
    if predicate.aval.shape:
        scalar = Variable(predicate.aval.update(shape=()))
        params = {"new_sizes": (), "dimensions": None}
        equations.append(Equation(reshape, [predicate], [scalar], params))
    if scalar.aval.dtype == dtypes.int32:
        return equations, scalar
    index = Variable(scalar.aval.update(dtype=np.dtype(np.int32)))
    params = {"new_dtype": index.aval.dtype, "weak_type": False}
    equations.append(Equation(convert_element_type, [scalar], [index], params))
    return equations, index


def _in_order(equations: list[Equation]) -> list[Equation]:
    """Equations such that each comes after what it reads, otherwise in the order given."""
    maker = {v: n for n, e in enumerate(equations) for v in e.outputs}
    needs = [{maker[a] for a in e.inputs if type(a) is Variable and a in maker} for e in equations]
    readers: list[list[int]] = [[] for _ in equations]
    for n, before in enumerate(needs):
        for m in before:
            readers[m].append(n)
    missing = [len(before) for before in needs]
    ready = [n for n, count in enumerate(missing) if count == 0]
    heapify(ready)
    found: list[Equation] = []
    while ready:
        n = heappop(ready)
        found.append(equations[n])
        for reader in readers[n]:
            missing[reader] -= 1
            if missing[reader] == 0:
                heappush(ready, reader)
    return found
