"""Regions: equations around a loop that separate along the same axis, gathered into one `lanes`.

Equations are sorted into stages. What needs a result over all lanes (a total, a sorted array) comes
a stage later than what the result is made of, so that the region of a stage, all its chunks, can
run between two stages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from covector.compiler.lanes.control import cut_where_demanded
from covector.compiler.lanes.estimate import UNKNOWN, VECTOR
from covector.compiler.lanes.flow import (
    Axis,
    Blocked,
    Flow,
    SharedWork,
    State,
    Step,
    cut,
    form_of,
    is_uniform,
)
from covector.compiler.lanes.narrow import narrowed
from covector.compiler.lanes.products import runs_apart
from covector.compiler.lanes.ways import Way, ways
from covector.core.effects import NONE
from covector.core.program import Atom, Equation, Program, Variable, subprograms
from covector.ops.common import LOCAL, Inseparable, Partial
from covector.ops.lanes import chunk_widths, lanes
from covector.ops.nested import count_uses, definitions, elements


def is_loop(equation: Equation) -> bool:
    """Whether lanes pay for an equation: it runs a program over and over."""
    return equation.primitive.name in ("scan", "while")


def separate(program: Program, first: Equation, axis: Axis, seed: Sequence[State]) -> Program:
    """Runs what separates along an axis in lanes.

    Args:
        program: any program.
        first: a loop in it that separates.
        axis: along how many lanes.
        seed: the states of its operands.

    Returns:
        The program with one `lanes` equation for each stage that has a loop.

    Raises:
        Blocked: the loop does not separate together with what surrounds it.
    """
    stages = _settled_stages(program, first, axis, seed)
    regions = [_Region(program, stages, axis, number) for number in stages.with_loops]
    for region in regions:
        region.check_results()
    equations = [_lanes_equation(region, axis, axis.width) for region in regions]
    for number, region in enumerate(regions):
        chunk = equations[number].params["programs"][0]
        way = _best_way(region, chunk, axis, first)
        if way.width != axis.width or way.apart != (axis.width > 1):
            equations[number] = _lanes_equation(region, axis, way.width, way.apart)
    inside = {e for region in regions for e in region.equations}
    return _rebuilt(program, stages, inside, equations)


def followed(program: Program, loop: Equation, axis: Axis, seed: Sequence[State]) -> Step:
    """How lanes flow through a loop alone.

    Args:
        program: that of the loop.
        loop: a scan or while.
        axis: the lanes.
        seed: the states of its operands.

    Raises:
        Blocked: they do not.
        Inseparable: likewise.
    """
    return _empty_flow(program, axis).continued(loop, seed)


def _empty_flow(program: Program, axis: Axis) -> Flow:
    """The flow before any equation: they are added where they separate."""
    flow = Flow(program.replace(equations=[]), [None] * len(program.inputs), axis)
    flow.uses = count_uses(program)
    axis.defined.update(definitions(program))
    return flow


def _settled_stages(
    program: Program, first: Equation, axis: Axis, seed: Sequence[State]
) -> _Stages:
    """The stages, with what each chunk has of its own read inside regions alone."""
    outside: set[Equation] = set()
    while True:
        stages = _Stages(program, first, axis, seed, outside)
        leaking = stages.leaking()
        if not leaking:
            return stages
        for equation in leaking:
            if is_loop(equation):
                raise Blocked("each chunk has its own result, others read that of all", equation)
        outside |= leaking


def _check_worthwhile(region: _Region, chunk: Program, axis: Axis, loop: Equation) -> None:
    """Refuses lanes that share most of their work: what they share each chunk would repeat."""
    flow = region.flow
    one, two = work(chunk), work(narrowed(flow, flow.outputs, axis.width + 1)[0])
    a_lane = two - one
    _check_shared(one - a_lane * axis.width, a_lane * axis.expected, axis, loop)


def _best_way(region: _Region, chunk: Program, axis: Axis, loop: Equation) -> Way:
    """How to run a region.

    Raises:
        Blocked: it is better not run in lanes, or not in lanes of a number that is not known yet.
    """
    if not axis.by_cost or not is_loop(loop):
        _check_worthwhile(region, chunk, axis, loop)
        return Way(axis.width, axis.width > 1 or runs_apart(chunk))
    found = ways(region.flow, chunk, axis)
    try:
        _check_worthwhile(region, chunk, axis, loop)
    except Blocked:
        found = [way for way in found if way.apart or way.width == 0]
        if found[0].width == 0:
            raise
    best, words = found[0], " or ".join([str(way) for way in found[:3]])
    if best.width == 0:
        raise Blocked(f"it is thought to take {words}", loop)
    if best.width > 1 and type(axis.size) is not int:
        raise Blocked(f"{best.name} would be best, their number has to be known for that", loop)
    axis.words.append(words)
    return best


def _check_shared(shared: float, of_lanes: float, axis: Axis, loop: Equation) -> None:
    """Refuses lanes for whose chunks there is more to repeat than to share out."""
    chunks = -(-axis.expected // max(axis.width, VECTOR))
    if shared * chunks > of_lanes:
        share = 100 * shared / (shared + of_lanes)
        raise SharedWork(
            f"{share:.0f}% of its work is shared by all lanes, each chunk would repeat it", loop
        )


def _work_of(step: Step, axis: Axis) -> tuple[float, float]:
    """How many elements a step computes that all lanes share, and how many that are of lanes."""
    if step.inner:
        times = _times(step.equation)
        inner = [_work_of(s, axis) for flow, _ in step.inner for s in flow.steps]
        return times * sum([s for s, _ in inner]), times * sum([lanes for _, lanes in inner])
    (states, *_) = [outs for _, outs in step.forms.values()] or [step.outs]
    each = [elements(cut(v.aval, s, 1)) for v, s in zip(step.equation.outputs, states, strict=True)]
    if all(map(is_uniform, states)):
        return sum(each), 0.0
    return 0.0, sum(each) * axis.expected


def work(program: Program) -> float:
    """How many elements a program computes."""
    return _executed(program, lambda e: sum(elements(v.aval) for v in e.outputs))


def _executed(program: Program, measure: Callable[[Equation], float]) -> float:
    """The sum of a measure over all equations that are run, as often as they are."""
    total = 0.0
    for equation in program.equations:
        inner = [_executed(p, measure) for p in subprograms(equation.params)]
        total += _times(equation) * sum(inner) if inner else measure(equation)
    return total


def _times(equation: Equation) -> int:
    """How often an equation is thought to run its programs."""
    times = equation.params.get("length", UNKNOWN if is_loop(equation) else 1)
    return times if type(times) is int else UNKNOWN


class _Stages:
    """When each equation runs, and which of them run in lanes.

    Attributes:
        number: the stage of each equation.
        lane: the equations that run in lanes.
        seeds: for operands of loops the axes that lanes begin along.
        with_loops: the stages whose region is worth it.
        flow: the states of the results of lane equations.
        defined: the equation of each variable.
        readers: those that use it; `None` for an output of the program.
    """

    def __init__(
        self,
        program: Program,
        first: Equation,
        axis: Axis,
        seed: Sequence[State],
        outside: Collection[Equation],
    ) -> None:
        self._program = program
        self._outside = outside
        self.number: dict[Equation, int] = {}
        self.lane: dict[Equation, Step] = {}
        self.seeds: dict[Variable, State] = {}
        self.flow = _empty_flow(program, axis)
        self._ready: dict[Variable, int] = {}
        self._effects = 0
        start = program.equations.index(first)
        self.number.update(dict.fromkeys(program.equations[:start], 0))
        for equation in program.equations[start:]:
            self._place(equation, seed if equation is first else None)
        loops = {self.number[e] for e in self.lane if is_loop(e) or e is first}
        self.with_loops = sorted(loops)
        self.lane = {e: s for e, s in self.lane.items() if self.number[e] in loops}
        self.defined = definitions(program)
        self.readers: dict[Variable, list[Equation | None]] = {}
        for equation in program.equations:
            for atom in equation.inputs:
                if type(atom) is Variable:
                    self.readers.setdefault(atom, []).append(equation)
        for atom in program.outputs:
            if type(atom) is Variable:
                self.readers.setdefault(atom, []).append(None)

    def _place(self, equation: Equation, seed: Sequence[State] | None) -> None:
        step = self._step(equation, seed)
        if step is None:
            self._place_outside(equation)
            return
        stage = max([self._stage(a) for a in equation.inputs], default=0)
        self.number[equation], self.lane[equation] = stage, step
        self.flow.add(step)
        for variable, state in zip(equation.outputs, step.outs, strict=True):
            if type(state) is int or state is LOCAL:
                self._ready[variable] = stage
            else:  # known when all chunks are done
                self._ready[variable] = stage + 1
                self.flow.states[variable] = None

    def _step(self, equation: Equation, seed: Sequence[State] | None) -> Step | None:
        """How an equation runs in lanes; `None` if it does not."""
        states = [self.flow.state(a) for a in equation.inputs]
        try:
            if seed is not None:
                for atom, state in zip(equation.inputs, seed, strict=True):
                    # An operand may be there twice, and begin lanes at one of its places.
                    if (
                        state is not None
                        and type(atom) is Variable
                        and self.flow.state(atom) is None
                    ):
                        self.seeds[atom] = state
                step = _with_lanes(self.flow.continued(equation, seed))
                _check_shared(*_work_of(step, self.flow.axis), self.flow.axis, equation)
                return step
            if equation.effects or equation in self._outside or all([s is None for s in states]):
                return None
            step = self.flow.step(equation)
        except (Blocked, Inseparable):
            if seed is not None:
                raise
            return None
        return None if all([s is None for s in step.outs]) else step

    def leaking(self) -> set[Equation]:
        """Equations of regions whose results, each chunk's own, are read outside their region."""
        found: set[Equation] = set()
        for equation in reversed(self._program.equations):
            step = self.lane.get(equation)
            if step is None or LOCAL not in step.outs:
                continue
            number = self.number[equation]
            readers = [
                reader
                for variable, state in zip(equation.outputs, step.outs, strict=True)
                if state is LOCAL
                for reader in self.readers.get(variable, [])
            ]
            inside = [
                r in self.lane and r not in found and self.number[r] == number for r in readers
            ]
            if not all(inside):
                found.add(equation)
        return found

    def _place_outside(self, equation: Equation) -> None:
        stage = 0
        for atom in equation.inputs:
            lane = type(self.flow.state(atom)) is int
            stage = max(stage, self._stage(atom) + (1 if lane else 0))
        if equation.effects:
            stage = self._effects = max(stage, self._effects)
        self.number[equation] = stage
        if stage:
            self._ready.update(dict.fromkeys(equation.outputs, stage))

    def _stage(self, atom: Atom) -> int:
        return self._ready.get(atom, 0) if type(atom) is Variable else 0


def _with_lanes(step: Step) -> Step:
    if all(map(is_uniform, step.outs)):
        raise Inseparable("none of its results is computed lane by lane")
    return step


class _Region:
    """The equations of one stage that run in lanes, as a program with its flow.

    Attributes:
        equations: in their order.
        program: them alone, from what they read to what others read.
        flow: the states in it.
    """

    def __init__(self, program: Program, stages: _Stages, axis: Axis, number: int) -> None:
        self._whole = program
        self._axis = axis
        self._stages = stages
        self._begin: dict[Variable, int] = {}
        members = {e for e in stages.lane if stages.number[e] == number}
        while True:
            self._gather(members)
            more = self._movable(members)
            if not more:
                break
            members |= more

    def _gather(self, members: set[Equation]) -> None:
        """Makes the program of the members and finds how lanes flow through it."""
        self.equations = [e for e in self._whole.equations if e in members]
        made = {v for e in self.equations for v in e.outputs}
        reads = [a for e in self.equations for a in e.inputs if type(a) is Variable]
        inputs = list(dict.fromkeys([v for v in reads if v not in made]))
        readers = self._stages.readers
        outputs = [
            v
            for e in self.equations
            for v in e.outputs
            if any([reader not in members for reader in readers.get(v, [])])
        ]
        self.program = Program(inputs, self.equations, outputs, "lanes")
        start = [self._start(v) for v in inputs]

        def settle(states: list[State]) -> tuple[list[State], Flow]:
            flow = Flow(self.program, states, self._axis, self._begin)
            flow.finish(flow.outputs)
            return states, flow

        none: set[int] = set()
        _, self.flow = cut_where_demanded(
            start, settle, lambda flow: [flow.demands.get(v, none) for v in inputs]
        )

    def check_results(self) -> None:
        """Checks that what others read of the region is known to them.

        Raises:
            Blocked: a result is each chunk's own.
        """
        for atom, state in zip(self.program.outputs, self.flow.outputs, strict=True):
            if state is LOCAL and type(atom) is Variable:
                equation = self._stages.defined[atom]
                raise Blocked("each chunk has its own result, others read that of all", equation)

    def _start(self, variable: Variable) -> State:
        state = self._stages.flow.states.get(variable)
        return self._stages.seeds.get(variable) if state is None else state

    def _movable(self, members: set[Equation]) -> set[Equation]:
        """Equations outside whose results only the region reads, and which separate likewise."""
        stages = self._stages
        found: set[Equation] = set()
        wanted: dict[Variable, set[State]] = {v: {self.flow.states[v]} for v in self.program.inputs}
        for equation in reversed(self._whole.equations):
            if equation.effects or equation in members or equation in stages.lane:
                continue
            number = next((k for k, v in enumerate(equation.outputs) if v in wanted), None)
            if number is None or any(
                [
                    r not in members and r not in found
                    for v in equation.outputs
                    for r in stages.readers.get(v, [])
                ]
            ):
                continue
            variable = equation.outputs[number]
            (state, *others) = wanted[variable]
            if others or type(state) is not int:
                continue
            form = form_of(equation, number, state, self._axis)
            if form is None:
                continue
            found.add(equation)
            self._begin[variable] = state
            for atom, used in zip(equation.inputs, form[0], strict=True):
                if type(atom) is Variable:
                    wanted.setdefault(atom, set()).add(used)
        return found


def _rebuilt(
    program: Program, stages: _Stages, inside: set[Equation], lanes_of: Sequence[Equation]
) -> Program:
    by_stage: dict[int, list[Equation]] = {}
    for equation in program.equations:
        if equation not in inside:
            by_stage.setdefault(stages.number[equation], []).append(equation)
    for number, equation in zip(stages.with_loops, lanes_of, strict=True):
        by_stage.setdefault(number, []).append(equation)
    equations = [e for number in sorted(by_stage) for e in by_stage[number]]
    return program.replace(equations=equations)


def _lanes_equation(region: _Region, axis: Axis, width: int, apart: bool = False) -> Equation:
    flow, program = region.flow, region.program
    wanted = flow.outputs
    widths = chunk_widths(axis.size, width)
    params = {
        "programs": tuple([_numbered(flow, wanted, w) for w in widths]),
        "length": axis.size,
        "width": width,
        "in_dims": tuple([flow.states[v] for v in program.inputs]),
        "out_dims": tuple([s.operation if type(s) is Partial else s for s in wanted]),
    }
    if apart and width == 1:
        params["apart"] = True
    outputs = [v for v in program.outputs if type(v) is Variable]
    return Equation(lanes, list(program.inputs), outputs, params, NONE)


def _numbered(flow: Flow, wanted: Sequence[State], width: int) -> Program:
    """The program for a chunk; its first input is the number of the chunk's first lane."""
    from covector.ops.lanes import OFFSET

    program, numbered = narrowed(flow, wanted, width)
    if numbered:
        return program
    return program.replace(inputs=[Variable(OFFSET), *program.inputs])
