"""Which values a linearized program keeps: the fewest bytes from which the rest is cheap to redo.

Each value that the linear part needs is either kept, or recomputed from others by cheap equations.
The choice is a minimum cut: values are vertices with their sizes as capacities, cheap equations the
edges between them; what separates the values that cannot be recomputed from those that are needed
is kept. Among cuts of one size that nearest to the needed values is taken: it recomputes least.
Of large tapes, whose bytes have to come from memory, elementary functions may be recomputed, if
that saves more time than it takes.

Source: L. R. Ford and D. R. Fulkerson, "Maximal flow through a network", Canadian Journal of
Mathematics 8 (1956) 399-404; augmenting paths in phases after E. A. Dinic (1970).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from covector.core import notes
from covector.core.avals import Aval
from covector.core.config import config
from covector.core.primitive import Linearized
from covector.core.program import Atom, Equation, Literal, Program, Variable
from covector.core.source import Frame, SourceLocation
from covector.core.trace import current_frame
from covector.ops.common import CHEAP
from covector.ops.nested import definitions, elements, nbytes, split, substitute

Place = Frame | SourceLocation | None

LARGE_TAPE = 1 << 27
"""Bytes of residuals that no cache holds: from there on functions are computed again, too."""
WORD = 4
"""Bytes that must be saved for each element of a function that is computed twice."""


@dataclass(frozen=True)
class Saved:
    """What the derivative of a loop or checkpoint needs of its evaluation: a note for people.

    Attributes:
        what: "scan", "while" or "checkpoint".
        frame: where the user asked for it.
        copies: how many times each of `kept` is kept, by iterations or slots; 1 for a checkpoint.
        kept: each value by its aval, what computes it, and where that stands.
        again: what is computed again in the backward pass: primitives, and where they stand.
        segments: lengths of the segments of each level, from the outside in, if there are any.
            Then `kept` is kept of one segment of the innermost level at a time, of others the
            carry that they start from.
    """

    what: str
    frame: Place
    copies: Any
    kept: list[tuple[Aval, str, Place]]
    again: list[tuple[str, Place]] = field(default_factory=list[tuple[str, Place]])
    segments: tuple[int, ...] = ()


def report_saved(
    what: str,
    known: Program,
    atoms: Sequence[Atom],
    copies: Any = 1,
    again: Sequence[Equation] = (),
    segments: tuple[int, ...] = (),
) -> None:
    """Leaves a note of what is saved.

    Args:
        what: see `Saved`.
        known: the program that computes it.
        atoms: what is kept of it.
        copies: see `Saved`.
        again: what is computed again.
        segments: see `Saved`.
    """
    defined = definitions(known)
    kept: list[tuple[Aval, str, Place]] = []
    for atom in atoms:
        equation = defined.get(atom) if type(atom) is Variable else None
        if equation is None:
            kept.append((atom.aval, "", None))
        else:
            kept.append((atom.aval, equation.primitive.name, equation.frame))
    repeated = [(e.primitive.name, e.frame) for e in again]
    notes.leave(Saved(what, current_frame(), copies, kept, repeated, segments))


def choose_residuals(
    body: Linearized, num_outs: int, free: Collection[Variable], length: Any = 1
) -> Linearized:
    """The same linearization with the smallest residuals.

    Args:
        body: a program taken apart.
        num_outs: how many of the outputs of its known part are not residuals.
        free: variables of the known part that are there anyway.
        length: how many times the residuals are kept.

    Returns:
        A linearization whose linear part first recomputes what is no longer kept.
    """
    outs, atoms = split(body.known.outputs, num_outs)
    needed = [a for a in dict.fromkeys(atoms) if type(a) is Variable]
    if "residuals" in config.disable:
        return body
    every = {v: e for v, e in definitions(body.known).items() if not e.effects}
    defined = {v: e for v, e in every.items() if _is_cheap(e)}
    settled = all([v in free or v not in defined for v in needed])
    kept = set(needed) if settled else _minimum_cut(needed, defined, free)
    tape = _bytes(kept, free)
    if type(length) is int and tape * length >= LARGE_TAPE:
        functions = {v: e for v, e in every.items() if "elementwise" in e.primitive.tags}
        wider = defined | functions
        fewer = _minimum_cut(needed, wider, free)
        again = _between(needed, fewer, wider)
        if 0 < tape - _bytes(fewer, free) >= WORD * _twice(again, outs, every):
            kept, defined, settled = fewer, wider, False
    return body if settled else _recomputing(body, outs, atoms, needed, kept, defined)


def _is_cheap(equation: Equation) -> bool:
    tags = equation.primitive.tags
    return not equation.effects and (CHEAP in tags or "movement" in tags)


def _bytes(kept: Collection[Variable], free: Collection[Variable]) -> int:
    return sum([nbytes(v.aval) for v in kept if v not in free])


def _twice(
    again: Sequence[Equation], outs: Sequence[Atom], defined: dict[Variable, Equation]
) -> int:
    """Elements of functions that are computed again though the outputs need them as well.

    What only derivatives need is computed once in any case, in one pass or the other.
    """
    needed = {id(e) for e in _between([a for a in outs if type(a) is Variable], set(), defined)}
    dear = [e for e in again if id(e) in needed and not _is_cheap(e)]
    return sum([elements(e.outputs[0].aval) for e in dear])


def _recomputing(
    body: Linearized,
    outs: list[Atom],
    atoms: list[Atom],
    needed: list[Variable],
    kept: set[Variable],
    defined: dict[Variable, Equation],
) -> Linearized:
    again = _between(needed, kept, defined)
    made = {v for e in again for v in e.outputs}
    reads = [a for e in again for a in e.inputs if type(a) is Variable]
    residuals = [v for v in dict.fromkeys([*needed, *reads]) if v in kept or v not in made]
    names: dict[Variable, Atom] = {v: Variable(v.aval) for v in residuals}
    equations: list[Equation] = []
    chosen = set(map(id, again))
    for equation in [e for e in body.known.equations if id(e) in chosen]:
        outputs = [Variable(v.aval) for v in equation.outputs]
        inputs = [names[a] if type(a) is Variable else a for a in equation.inputs]
        for old, new in zip(equation.outputs, outputs, strict=True):
            names.setdefault(old, new)
        equations.append(equation.replace(inputs=inputs, outputs=outputs))
    before, tangents = split(body.linear.inputs, body.num_residuals)
    stand_ins: dict[Variable, Atom] = {
        v: a if isinstance(a, Literal) else names[a] for v, a in zip(before, atoms, strict=True)
    }
    linear = substitute(body.linear, stand_ins)
    return Linearized(
        body.known.replace(outputs=[*outs, *residuals]),
        linear.replace(
            inputs=[*[names[v] for v in residuals], *tangents],  # type: ignore[list-item]
            equations=[*equations, *linear.equations],
        ),
        len(residuals),
        body.nonzero_out,
    )


def _between(
    needed: list[Variable], kept: set[Variable], defined: dict[Variable, Equation]
) -> list[Equation]:
    """The equations that lead from what is kept to what is needed."""
    found: dict[int, Equation] = {}
    pending = [v for v in needed if v not in kept]
    while pending:
        equation = defined.get(pending.pop())
        if equation is None or id(equation) in found:
            continue
        found[id(equation)] = equation
        pending += [a for a in equation.inputs if type(a) is Variable and a not in kept]
    return list(found.values())


# --- the minimum cut ------------------------------------------------------------------------------


def _minimum_cut(
    needed: list[Variable], defined: dict[Variable, Equation], free: Collection[Variable]
) -> set[Variable]:
    """The values to keep."""
    network = _Network()
    seen: set[Variable] = set()
    pending = list(needed)
    while pending:
        variable = pending.pop()
        if variable in seen:
            continue
        seen.add(variable)
        enter, leave = network.vertex(variable)
        if variable in free:
            continue  # nothing flows out of it: it need not be cut off
        network.connect(enter, leave, nbytes(variable.aval))
        equation = defined.get(variable)
        if equation is None:
            network.connect(_SOURCE, enter, _UNLIMITED)
            continue
        for atom in equation.inputs:
            if type(atom) is Variable:
                network.connect(network.vertex(atom)[1], enter, _UNLIMITED)
                pending.append(atom)
    for variable in needed:
        network.connect(network.vertex(variable)[1], _SINK, _UNLIMITED)
    network.saturate()
    near_sink = network.leading_to_sink()
    cut = {v for v in seen if v not in free and _is_cut(network.vertex(v), near_sink)}
    return cut | {v for v in seen if v in free}


def _is_cut(ends: tuple[int, int], near_sink: set[int]) -> bool:
    enter, leave = ends
    return leave in near_sink and enter not in near_sink


_SOURCE, _SINK = 0, 1
_UNLIMITED = 1 << 60


class _Network:
    """A flow network; edge `i ^ 1` is edge `i` backwards."""

    def __init__(self) -> None:
        self._edges: list[list[int]] = [[], []]  # from each node
        self._ends: list[int] = []
        self._left: list[int] = []  # capacity that is left
        self._nodes: dict[Variable, int] = {}

    def vertex(self, variable: Variable) -> tuple[int, int]:
        """The nodes at which flow enters and leaves a value."""
        node = self._nodes.get(variable)
        if node is None:
            node = self._nodes[variable] = len(self._edges)
            self._edges += [[], []]
        return node, node + 1

    def connect(self, start: int, end: int, capacity: int) -> None:
        """Adds an edge."""
        for node, other, left in ((start, end, capacity), (end, start, 0)):
            self._edges[node].append(len(self._ends))
            self._ends.append(other)
            self._left.append(left)

    def saturate(self) -> None:
        """Sends as much as possible from source to sink."""
        while True:
            levels = self._levels()
            if levels[_SINK] < 0:
                return
            tried = [0] * len(self._edges)
            while self._augment(levels, tried):
                pass

    def _levels(self) -> list[int]:
        """The distance of each node from the source, -1 if nothing more can flow there."""
        levels = [-1] * len(self._edges)
        levels[_SOURCE] = 0
        queue = [_SOURCE]
        for node in queue:
            for edge in self._edges[node]:
                end = self._ends[edge]
                if self._left[edge] and levels[end] < 0:
                    levels[end] = levels[node] + 1
                    queue.append(end)
        return levels

    def _augment(self, levels: list[int], tried: list[int]) -> bool:
        """Sends flow along one shortest path; `tried` counts each node's edges to nowhere."""
        path: list[int] = []
        node = _SOURCE
        while node != _SINK:
            edges = self._edges[node]
            while tried[node] < len(edges):
                edge = edges[tried[node]]
                if self._left[edge] and levels[self._ends[edge]] == levels[node] + 1:
                    break
                tried[node] += 1
            else:
                if not path:
                    return False
                node = self._ends[path.pop() ^ 1]
                tried[node] += 1
                continue
            path.append(edge)
            node = self._ends[edge]
        amount = min([self._left[edge] for edge in path])
        for edge in path:
            self._left[edge] -= amount
            self._left[edge ^ 1] += amount
        return True

    def leading_to_sink(self) -> set[int]:
        """The nodes from which more could flow to the sink."""
        found = {_SINK}
        queue = [_SINK]
        for node in queue:
            for edge in self._edges[node]:
                start = self._ends[edge]
                if self._left[edge ^ 1] and start not in found:
                    found.add(start)
                    queue.append(start)
        return found
