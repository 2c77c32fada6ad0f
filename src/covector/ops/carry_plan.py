"""How the carried arrays of a loop are kept, found from its body alone: see `ops/carries.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from covector.core.config import config
from covector.core.program import Atom, Equation, Program, Variable
from covector.ops.nested import count_uses, definitions, elements
from covector.ops.overwriting import UPDATES, Overwrite, is_wide, path

MAX_ELEMENTS = 32
"""Elements up to which a carried array lives in registers."""
MAX_APART = 4
"""The same where most arrays are long (`Builder.apart`): what reads one there reads it in loops."""
MAX_TOTAL = 128
"""Elements of all carried arrays in registers together."""
MAX_REDUCED = 512
"""Elements that a reduction to arrays in registers may have: it is written out, step by step."""
_MAX_CHAIN = 16

IN_PLACE = frozenset({"updated", "accumulated"})
"""Modes in which a carry has one buffer, that of its initial value if that may be overwritten."""


def is_long(program: Program) -> bool:
    """Whether a body has reductions to small arrays that are better loops: see `MAX_REDUCED`."""
    return any(
        [
            "reduction" in e.primitive.tags
            and 1 < elements(e.outputs[0].aval) <= MAX_ELEMENTS
            and elements(e.inputs[0].aval) > MAX_REDUCED
            for e in program.equations
        ]
    )


class Ring(NamedTuple):
    """Carries that take turns in some buffers: each becomes the one before it.

    Attributes:
        members: positions of the carries.
        slots: how many buffers.
        fresh: whether the last carry gets a new value, not the first one's.
        overwrites: whether that is written over the first one, element by element.
    """

    members: tuple[int, ...]
    slots: int
    fresh: bool
    overwrites: bool


class Plan:
    """How a loop body's carries are kept.

    Args:
        program: the body.
        first: position of the first carry among its inputs; its outputs begin with the carries.
        sizes: elements of each carry, `None` where known at run time only.
        most: elements up to which a carry is in registers.

    Attributes:
        body: the program to lower: in place of carries updated at the end, it returns the operands
            of the updates after all other outputs.
        modes: for each carry "unchanged", "registers", "updated", "accumulated" or "ring".
        updates: for each carry updated at the end of an iteration the equations that do it, in
            order; they begin with its own value or, in a ring, that of the carry after it.
        overwrites: for carries updated in the course of an iteration, what does it.
        rings: of the carries in rings.
        private: operands of updates at the end that may read what these change.
    """

    def __init__(
        self,
        program: Program,
        first: int,
        sizes: Sequence[int | None],
        most: int = MAX_ELEMENTS,
    ) -> None:
        self._program = program
        self._carries = program.inputs[first : first + len(sizes)]
        self._uses = count_uses(program)
        self._defined = definitions(program)
        self.updates: dict[int, list[Equation]] = {}
        self.overwrites: dict[int, list[Overwrite]] = {}
        self.rings: list[Ring] = []
        self.modes = self._simple_modes(sizes, most)
        sources = self._sources()
        self.body = self._without_updates(program)
        for members, cycle in _sequences(sources):
            self._keep(members, cycle)
        self.private = self._changing()

    def _simple_modes(self, sizes: Sequence[int | None], most: int) -> list[str]:
        modes: list[str] = []
        total = 0
        outputs = self._program.outputs
        for variable, out, size in zip(self._carries, outputs, sizes, strict=False):
            if out is variable:
                modes.append("unchanged")
            elif size is not None and size <= most and total + size <= MAX_TOTAL:
                total += size
                modes.append("registers")
            else:
                modes.append("")
        return modes

    def _sources(self) -> dict[int, int | None]:
        """For each carry in memory the one whose buffer has its next value, perhaps itself."""
        inputs = {v: k for k, v in enumerate(self._carries) if not self.modes[k]}
        sources: dict[int, int | None] = {}
        taken: set[int] = set()
        rotate = "in_place" not in config.disable
        for own in (True, False):  # a carry's own buffer is the best place for it
            for k in inputs.values():
                if sources.get(k) is not None:
                    continue
                source, chain = self._source(k, inputs)
                usable = source is not None and source not in taken and (source == k) == own
                if usable and (own or rotate):
                    sources[k] = source
                    taken.add(source)  # pyright: ignore[reportArgumentType]
                    if chain:
                        self.updates[k] = chain
                else:
                    sources[k] = None
        return sources

    def _source(self, k: int, inputs: dict[Variable, int]) -> tuple[int | None, list[Equation]]:
        """The carry from which nothing but updates lead to another's next value."""
        atom: Any = self._program.outputs[k]
        aval = self._carries[k].aval
        chain: list[Equation] = []
        while atom not in inputs:
            equation = self._defined.get(atom) if type(atom) is Variable else None
            if equation is None or equation.primitive.name not in UPDATES or self._uses[atom] != 1:
                return None, []
            chain.append(equation)
            atom = equation.inputs[0]
        source = inputs[atom]
        found = self._carries[source].aval
        if found.shape != aval.shape or found.dtype != aval.dtype or len(chain) > _MAX_CHAIN:
            return None, []
        if "ranges" not in config.disable and any([self._better_rewritten(e) for e in chain]):
            return None, []
        return source, chain[::-1]

    def _better_rewritten(self, update: Equation) -> bool:
        """Whether an update needs the old values of most of what it replaces."""
        return is_wide(update) and bool(
            self._dependent(self._carries).intersection(
                [a for a in update.inputs[1:2] if type(a) is Variable]
            )
        )

    def _dependent(self, variables: Sequence[Variable]) -> set[Variable]:
        """What is computed from some variables, themselves included."""
        reached = set(variables)
        for equation in self._program.equations:
            if not reached.isdisjoint([a for a in equation.inputs if type(a) is Variable]):
                reached.update(equation.outputs)
        return reached

    def _keep(self, members: list[int], cycle: bool) -> None:
        """Decides how a sequence of carries is kept of which each becomes the one before it."""
        head, last = members[0], members[-1]
        if cycle and len(members) == 1:
            self.modes[head] = "updated"
            return
        if cycle:
            self._add_ring(members, len(members), fresh=False, overwrites=False)
            return
        overwrites = self._element_by_element(head, self._program.outputs[last])
        if len(members) == 1:
            overwrite = None if overwrites else self._in_course(head)
            if overwrite is not None:
                self.overwrites[head] = overwrite
                self.modes[head] = "updated"
                return
            if overwrites:
                self.modes[head] = "accumulated"
                return
        slots = len(members) + (not overwrites)
        self._add_ring(members, slots, fresh=True, overwrites=overwrites)

    def _add_ring(self, members: list[int], slots: int, fresh: bool, overwrites: bool) -> None:
        self.rings.append(Ring(tuple(members), slots, fresh, overwrites))
        for k in members:
            self.modes[k] = "ring"

    def _in_course(self, k: int) -> list[Overwrite] | None:
        if "in_place" in config.disable:
            return None
        return path(self.body, self._carries[k], self.body.outputs[k])

    def _element_by_element(self, k: int, out: Atom) -> bool:
        """Whether an output reads a carry once, and each element of it for the same of its own."""
        variable = self._carries[k]
        if self._uses.get(variable) != 1:
            return False
        chain = _chain(variable, out, self._uses, self._defined)
        return bool(chain) and all([_same_index(e) for e in chain])

    def _changing(self) -> set[Variable]:
        """Variables that may depend on carries whose buffers change at the end of an iteration."""
        changing = [
            v
            for v, mode in zip(self._carries, self.modes, strict=True)
            if mode in ("ring", *IN_PLACE)
        ]
        return self._dependent(changing)

    def _without_updates(self, program: Program) -> Program:
        if not self.updates:
            return program
        gone = {id(e) for chain in self.updates.values() for e in chain}
        outputs = [
            program.inputs[0] if k in self.updates else a for k, a in enumerate(program.outputs)
        ]
        for chain in self.updates.values():
            for equation in chain:
                outputs += equation.inputs[1:]
        equations = [e for e in program.equations if id(e) not in gone]
        return program.replace(equations=equations, outputs=outputs)


def _sequences(sources: dict[int, int | None]) -> list[tuple[list[int], bool]]:
    """Carries in sequences of which each becomes the one before it, and whether they are cycles."""
    wanted = {source for source in sources.values() if source is not None}
    found: list[tuple[list[int], bool]] = []
    seen: set[int] = set()
    heads = [k for k in sources if k not in wanted]
    for head in [*heads, *sources]:  # what is left after the heads' sequences are cycles
        if head in seen:
            continue
        members: list[int] = []
        k: int | None = head
        while k is not None and k not in seen:
            seen.add(k)
            members.append(k)
            k = sources[k]
        found.append((members, k is not None))
    return found


def _chain(
    start: Variable, end: Any, uses: dict[Variable, int], defined: dict[Variable, Equation]
) -> list[Equation]:
    """The equations from a variable to an output, each one's result read by the next alone.

    The way leads through the first operand, and through any one operand of elementwise operations.
    """

    def way(atom: Any, depth: int) -> list[Equation] | None:
        if atom is start:
            return []
        equation = defined.get(atom) if type(atom) is Variable else None
        if equation is None or uses[atom] != 1 or len(equation.outputs) != 1 or depth == 0:
            return None
        elementwise = "elementwise" in equation.primitive.tags
        operands = equation.inputs if elementwise else equation.inputs[:1]
        found = [p for a in operands if (p := way(a, depth - 1)) is not None]
        return [*found[0], equation] if len(found) == 1 else None

    return way(end, _MAX_CHAIN) or []


def _same_index(equation: Equation) -> bool:
    shape = equation.outputs[0].aval.shape
    return "elementwise" in equation.primitive.tags and all(
        [a.aval.shape in (shape, ()) for a in equation.inputs]
    )
