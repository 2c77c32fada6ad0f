"""Which equations may overwrite an operand: nothing reads it any more when they run.

    c1 = dynamic_update_slice c u i      nothing reads c after this: its buffer becomes that of c1
    d = slice c1
    c2, n = cond p c1 n                  both branches only update it: likewise

What was computed from the operand before, and is still needed, must not read its buffer any more:
`Overwrite.before` lists what the schedule settles first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from covector.core.program import Atom, Equation, Literal, Program, Variable
from covector.ops.nested import definitions
from covector.ops.windows import static_size

_T = TypeVar("_T")

UPDATES = frozenset(
    ("dynamic_update_slice", "scatter", "scatter-add", "scatter-mul", "scatter-min", "scatter-max")
)
"""Primitives that replace parts of their first operand."""

_LOOPS = frozenset(("scan", "while"))
_CAPABLE = UPDATES | _LOOPS | {"cond"}
_MAKERS = _CAPABLE | {"lanes"}
"""Primitives whose results may be in buffers made for them, which nothing else knows."""


class Overwrite(NamedTuple):
    """An equation that may overwrite an operand.

    Attributes:
        equation: which.
        operand: position of the operand among its inputs.
        output: position of the result that takes its place.
        before: variables to compute before it.
    """

    equation: Equation
    operand: int
    output: int
    before: list[Variable]


def is_wide(equation: Equation) -> bool:
    """Whether an update replaces most of its operand at a place known here.

    Then a loop over the result, with the update fused, is better than one over the update and
    another one to copy it.
    """
    if equation.primitive.name != "dynamic_update_slice":
        return False
    operand, update = (static_size(a.aval.shape) for a in equation.inputs[:2])
    known = all([isinstance(a, Literal) for a in equation.inputs[2:]])
    return known and operand is not None and update is not None and 2 * update >= operand


def path(program: Program, start: Variable, end: Atom) -> list[Overwrite] | None:
    """The equations that lead from a variable to another in one buffer.

    Args:
        program: that of both.
        start: what is in the buffer first.
        end: what is in it last.

    Returns:
        What may overwrite the buffer, in order; `None` if it does not hold `end` in the end.
    """
    if end is start:
        return []
    uses = _Uses(program)
    found: list[Overwrite] = []
    atom = end
    while atom is not start:
        overwrite = uses.overwrite(atom)
        if overwrite is None:
            return None
        found.append(overwrite)
        atom = overwrite.equation.inputs[overwrite.operand]
    return found[::-1]


def dying(program: Program) -> list[Overwrite]:
    """The equations of a program that may overwrite what another of them has just made.

    Args:
        program: any program.

    Returns:
        Updates, loops and branches of which an operand was made by such an equation, too.
    """
    if sum([e.primitive.name in _MAKERS for e in program.equations]) < 2:
        return []
    uses = _Uses(program)
    found: list[Overwrite] = []
    for equation in program.equations:
        if equation.primitive.name not in _CAPABLE:
            continue
        for out in equation.outputs:
            overwrite = uses.overwrite(out)
            if overwrite is None:
                continue
            maker = uses.defined.get(equation.inputs[overwrite.operand])  # pyright: ignore[reportArgumentType]
            if maker is not None and maker.primitive.name in _MAKERS:
                found.append(overwrite)
                break
    return found


def through(targets: Mapping[Variable, _T], overwrites: Iterable[Overwrite]) -> dict[Variable, _T]:
    """Where variables should end up, and what is overwritten on the way to them.

    Args:
        targets: the places of some variables.
        overwrites: in the order of their equations.

    Returns:
        The places of more of them.
    """
    found = dict(targets)
    for overwrite in reversed(list(overwrites)):
        equation = overwrite.equation
        old, target = (
            equation.inputs[overwrite.operand],
            found.get(equation.outputs[overwrite.output]),
        )
        if target is not None and type(old) is Variable:
            found.setdefault(old, target)
    return found


class _Uses:
    """Who makes and who reads the variables of a program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.defined = definitions(program)
        self.position = {id(e): n for n, e in enumerate(program.equations)}
        self.last: dict[Variable, int] = {}
        for n, equation in enumerate(program.equations):
            self._read(equation.inputs, n)
        self._read(program.outputs, len(program.equations))

    def _read(self, atoms: Iterable[Atom], n: int) -> None:
        for atom in atoms:
            if type(atom) is Variable:
                self.last[atom] = n

    def overwrite(self, atom: Any) -> Overwrite | None:
        """How the equation that makes an atom may overwrite an operand with it."""
        equation = self.defined.get(atom)
        if equation is None or equation.primitive.name not in _CAPABLE or is_wide(equation):
            return None
        output = equation.outputs.index(atom)
        operand = _overwritten(equation, output)
        if operand is None:
            return None
        old, n = equation.inputs[operand], self.position[id(equation)]
        if type(old) is not Variable or old.aval.shape != atom.aval.shape:
            return None
        if self.last[old] > n or sum([a is old for a in equation.inputs]) > 1:
            return None
        return Overwrite(equation, operand, output, self._before(old, n))

    def _before(self, old: Variable, n: int) -> list[Variable]:
        """What an equation or the outputs still need of what may read the old value's buffer."""
        # Anything made from what was in the buffer earlier counts too.
        sources = {old}
        maker = self.defined.get(old)
        while maker is not None and maker.primitive.name in _CAPABLE:
            operand = _overwritten(maker, maker.outputs.index(old))
            if operand is None or type(maker.inputs[operand]) is not Variable:
                break
            old = maker.inputs[operand]  # pyright: ignore[reportAssignmentType]
            sources.add(old)
            maker = self.defined.get(old)
        reached = set(sources)
        needed: list[Variable] = []
        for equation in self.program.equations[:n]:
            if not reached.isdisjoint(equation.inputs):  # pyright: ignore[reportArgumentType]
                for variable in equation.outputs:
                    reached.add(variable)
                    if variable not in sources and self.last.get(variable, -1) >= n:
                        needed.append(variable)
        return needed


def _overwritten(equation: Equation, output: int) -> int | None:
    """The position of the operand that can share a buffer with an output."""
    name = equation.primitive.name
    if name in UPDATES:
        return 0
    if name == "cond":
        return _through_branches(equation, output)
    return _through_loop(equation, output)


def _through_branches(equation: Equation, output: int) -> int | None:
    branches: Sequence[Program] = equation.params["branches"]
    aval = equation.outputs[output].aval
    for k, atom in enumerate(equation.inputs[1:]):
        if atom.aval.shape == aval.shape and atom.aval.dtype == aval.dtype:
            ways = (path(p, p.inputs[k], p.outputs[output]) for p in branches)
            if all(way is not None for way in ways):
                return k + 1
    return None


def _through_loop(equation: Equation, output: int) -> int | None:
    from covector.ops.carry_plan import IN_PLACE, Plan

    params = equation.params
    if equation.primitive.name == "scan":
        body, first, count = params["program"], params["num_consts"], params["num_carry"]
        before = first
    else:
        body, first = params["body_program"], params["body_nconsts"]
        before, count = params["cond_nconsts"] + first, len(body.outputs)
    if output >= count:
        return None
    sizes = [static_size(v.aval.shape) for v in body.inputs[first : first + count]]
    if Plan(body, first, sizes).modes[output] not in IN_PLACE:
        return None
    return before + output
