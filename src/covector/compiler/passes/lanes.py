"""Separation of loops into lanes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from covector.compiler.lanes.control import CONTROL
from covector.compiler.lanes.distribute import Distributed, distributed, distributed_anyhow
from covector.compiler.lanes.flow import Axis, Blocked, SharedWork, State, place_of
from covector.compiler.lanes.hints import hint
from covector.compiler.lanes.products import batch_of_products, keeps_in_cache, product_seeds
from covector.compiler.lanes.regions import is_loop, separate
from covector.compiler.lanes.seeds import Tried, along_steps, every_operand
from covector.core import ladder, notes
from covector.core.config import config
from covector.core.dims import Dim, DimSize
from covector.core.program import Equation, Program, map_subprograms
from covector.ops.common import Inseparable

AXES_NAMED = 2
"""Of how many axes a decision says why there are no lanes along them."""

Axes = dict[DimSize, Axis]
"""The axes met so far, by their size."""


@dataclass(frozen=True)
class Decision:
    """What was decided about a loop, and why.

    Attributes:
        loop: its primitive and the user's line.
        lanes: how many, or 0 if it does not run in lanes.
        reason: why not, or how.
        hint: what to change, so that it does.
    """

    loop: str
    lanes: int
    reason: str
    hint: str = ""

    def __str__(self) -> str:
        verdict = f"in {self.lanes} lanes" if self.lanes else "not in lanes"
        fix = f" (fix: {self.hint})" if self.hint else ""
        return f"{self.loop}: {verdict}: {self.reason}{fix}"


@dataclass(frozen=True)
class Lanes:
    """Runs loops that treat many elements independently on chunks of these elements.

    ```
    b = scan[{ x: f32[1000] -> y: y = sin x }] a      =>
    b = lanes[{ offset, a: f32[16] -> b: b = scan[{ x: f32[16] -> y: y = sin x }] a },
              length=1000, width=16] a
    ```

    Whatever else separates around a loop goes along. Loops that do not separate are searched for
    loops inside that do.

    Attributes:
        width: lanes in a chunk.
        fewest: lanes that are worth it.
        whole: operations that only exist for all lanes at once, calls of libraries: the names of
            primitives with the places in the user's code.
        values: numbers to think of for symbolic sizes.
        by_cost: whether loops run in the way that is thought to take the least time: in chunks of
            some other width, or not in lanes at all.
    """

    width: int = 16
    fewest: int = 16
    whole: frozenset[tuple[str, str]] = frozenset()
    values: tuple[tuple[str, int], ...] = ()
    by_cost: bool = False
    name: str = field(default="lanes", init=False)

    def run(self, program: Program) -> Program:
        """The program with loops in lanes where possible; the debug ladder shows which, and why."""
        program, decisions = self.decide(program)
        for decision in decisions:
            notes.leave(decision)
        if decisions:
            ladder.show(ladder.PASSES, "loops in lanes", lambda: "\n".join(map(str, decisions)))
        return program

    def without(self, equation: Equation) -> Lanes:
        """The pass that keeps an operation, and with it all loops that contain it, out of lanes."""
        return replace(self, whole=self.whole | {place_of(equation)})

    def decide(self, program: Program) -> tuple[Program, list[Decision]]:
        """The program, and what was decided about each loop.

        Args:
            program: without calls: inlined.
        """
        return self._decide(program, {})

    def _decide(self, program: Program, axes: Axes) -> tuple[Program, list[Decision]]:
        """As `decide`, with the axes met so far."""
        decisions: list[Decision] = []
        given_up: set[Equation] = set()
        while True:
            loops = [e for e in program.equations if is_loop(e) and e not in given_up]
            if not loops:
                break
            program = self._decide_loop(program, loops[0], axes, given_up, decisions)
        program = self._decide_products(program, axes, decisions)
        equations = [self._inside(e, axes, decisions) for e in program.equations]
        return program.replace(equations=equations), decisions

    @property
    def _by_cost(self) -> bool:
        return self.by_cost and "lane_ways" not in config.disable

    @property
    def _fewest(self) -> int:
        return max(self.fewest, self.width + 1)

    def _decide_loop(
        self,
        program: Program,
        loop: Equation,
        axes: Axes,
        given_up: set[Equation],
        decisions: list[Decision],
    ) -> Program:
        problems: dict[DimSize, str] = {}
        tried = Tried(program, loop)
        for axis, seed in self._seeds(loop, axes):
            if tried.covers(axis, seed):
                continue
            try:
                after = self._separated_at_once(program, loop, axis, seed, tried)
            except (Blocked, Inseparable) as reason:
                tried.add(axis, seed)
                problems.setdefault(axis.size, f"along an axis of {axis.size}: {reason}")
                continue
            gone = {id(e) for e in program.equations} - {id(e) for e in after.equations}
            for equation in program.equations:
                if id(equation) in gone and is_loop(equation):
                    decisions.append(_done(equation, axis))
            return after
        given_up.add(loop)
        decisions.append(self._refused(loop, problems))
        return program

    def _refused(self, loop: Equation, problems: dict[DimSize, str]) -> Decision:
        """Why a loop stays out of lanes: for each of a few axes what was met first."""
        reasons = list(problems.values())[:AXES_NAMED]
        if not reasons:
            reasons = [f"no axis of its operands has {self._fewest} elements"]
        found = [hint(reason) for reason in reasons]
        hints = [text for k, text in enumerate(found) if text and text not in found[:k]]
        return Decision(_title(loop), 0, "; ".join(reasons), "; or ".join(hints))

    def _decide_products(self, program: Program, axes: Axes, decisions: list[Decision]) -> Program:
        """The program with what is around many products of a batch run by element of the batch."""
        size = batch_of_products(program)
        if size is None or (type(size) is int and size < self._fewest):
            return program
        numbers = dict(self.values)
        expected = _number(size, numbers)
        axis = axes.setdefault(
            size, Axis(size, self.width, expected, self.whole, numbers, self._by_cost)
        )
        for equation, seed in product_seeds(program, size):
            try:
                after = separate(program, equation, axis, seed)
            except (Blocked, Inseparable):
                continue
            if keeps_in_cache(program, after):
                decisions.append(Decision("products", expected, "each keeps its arrays in cache"))
                return after
            return program
        return program

    def _separated_at_once(
        self, program: Program, loop: Equation, axis: Axis, seed: Sequence[State], tried: Tried
    ) -> Program:
        """The program with a loop in lanes that begin in one operand, or in all that have them.

        What is carried may be independent of each other: the lanes of one lead to no other, and
        alone have little of the work.
        """
        try:
            return self._separated(program, loop, axis, seed)
        except SharedWork as problem:
            every = every_operand(loop, axis)
            if every == seed or not tried.first_at_once(axis):
                raise
            try:
                return self._separated(program, loop, axis, every)
            except (Blocked, Inseparable):
                raise problem from None

    def _separated(
        self, program: Program, loop: Equation, axis: Axis, seed: Sequence[State]
    ) -> Program:
        """The program with a loop in lanes: what lanes share in loops of its own, if that pays.

        The loops that follow it are distributed, too, so that they can run in the same lanes.
        """
        if "distribution" in config.disable:
            return separate(program, loop, axis, seed)
        try:
            whole, start = self._distributed(program, loop, axis, seed, False)
            return separate(whole, start.loop, axis, start.seed)
        except (Blocked, Inseparable):
            whole, start = self._distributed(program, loop, axis, seed, True)
            if len(whole.equations) == len(program.equations):
                raise
            return separate(whole, start.loop, axis, start.seed)

    def _distributed(
        self, program: Program, loop: Equation, axis: Axis, seed: Sequence[State], totals: bool
    ) -> tuple[Program, Distributed]:
        """The program with scans in parts along an axis; the parts of one of them."""
        own = distributed(loop, axis, seed, totals)
        equations: list[Equation] = []
        for equation in program.equations:
            parts = own if equation is loop else None
            if is_loop(equation) and equation is not loop:
                seeds = self._seeds_along(equation, axis)
                parts = distributed_anyhow(equation, axis, seeds, totals)
            equations += [equation] if parts is None else parts.equations
        return program.replace(equations=equations), own or Distributed([loop], loop, list(seed))

    def _seeds(
        self, loop: Equation, axes: Axes, only: DimSize | None = None
    ) -> Iterator[tuple[Axis, list[State]]]:
        """Axes to try: run-time sizes before others, the longest first; perhaps of one size only.

        Those of what the loop carries come before others.
        """
        numbers = dict(self.values)
        places = [
            (type(extent) is int, -_number(extent, numbers), order, place, dim, extent)
            for order, place in enumerate(_carried_first(loop))
            for dim, extent in enumerate(loop.inputs[place].aval.shape)
            if (type(extent) is not int or extent >= self._fewest)
            and (only is None or extent == only)
        ]
        for _, size, _, place, dim, extent in sorted(places, key=lambda found: found[:5]):
            seed: list[State] = [dim if k == place else None for k in range(len(loop.inputs))]
            axis = Axis(extent, self.width, -size, self.whole, numbers, self._by_cost)
            yield axes.setdefault(extent, axis), seed

    def _seeds_along(self, loop: Equation, axis: Axis) -> Iterator[list[State]]:
        """Where lanes of one axis may begin."""
        for found, seed in self._seeds(loop, {axis.size: axis}, axis.size):
            if found is axis and not along_steps(loop, seed):
                yield seed

    def _inside(self, equation: Equation, axes: Axes, decisions: list[Decision]) -> Equation:
        """An equation that stayed outside, with the loops in its programs separated."""
        if equation.primitive.name not in CONTROL:
            return equation

        def inner(program: Program) -> Program:
            after, more = self._decide(program, axes)
            decisions.extend(more)
            return after

        return equation.replace(params=map_subprograms(equation.params, inner))


UNKNOWN_SIZE = 1000
"""What is thought of a symbolic size of which nothing is known."""


def _number(size: DimSize, values: dict[str, int]) -> int:
    if type(size) is not Dim:
        return int(size)
    return size.evaluate(values) if size.symbols <= values.keys() else UNKNOWN_SIZE


def _carried_first(loop: Equation) -> list[int]:
    """The positions of a loop's operands: first those it carries."""
    params, count = loop.params, len(loop.inputs)
    if loop.primitive.name == "scan":
        first = params["num_consts"]
        carried = range(first, first + params["num_carry"])
    else:
        carried = range(params["cond_nconsts"] + params["body_nconsts"], count)
    return [*carried, *[k for k in range(count) if k not in carried]]


def _title(loop: Equation) -> str:
    where = f" at {loop.location}" if loop.location is not None else ""
    return f"{loop.primitive.name}{where}"


def _done(loop: Equation, axis: Axis) -> Decision:
    chunks = f", in chunks of {axis.width}" if axis.width > 1 else ""
    thought = f", thought to take {axis.words[-1]}" if axis.words else ""
    reason = f"it treats them independently{chunks}{thought}"
    return Decision(_title(loop), axis.expected, reason)
