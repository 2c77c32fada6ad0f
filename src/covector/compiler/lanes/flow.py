"""How lanes flow through a program.

Each variable has a state: an `int` is the axis its lanes are along; `None` says that its value is
the same for all lanes; a `Partial` is a reduction over the lanes of a chunk, which those of other
chunks have yet to be combined with; `LOCAL` says that each chunk has a value of its own, which is
used like one that is the same for all lanes. A uniform value may still be *used* along lanes, by
taking the chunk's part of it: this is a demand, noted for whoever made the value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from covector.core.avals import Aval, same_type
from covector.core.dims import DimSize
from covector.core.errors import UnsupportedRuleError
from covector.core.program import Atom, Equation, Program, Variable
from covector.ops.common import LOCAL, Inseparable, Local, Partial
from covector.ops.lanes import resized
from covector.ops.nested import count_uses, definitions

State = int | Partial | Local | None

CONTROLLED = ("scan", "while", "cond")
"""The primitives with programs that lanes are followed through."""

MAX_CHOICES = 256
"""How many ways to cut uniform operands are tried for one equation."""


def is_uniform(state: State) -> bool:
    """Whether a value has no lanes and needs nothing from other chunks."""
    return state is None or state is LOCAL


def place_of(equation: Equation) -> tuple[str, str]:
    """What tells an operation in programs made of one another: its name, and the user's line."""
    return equation.primitive.name, str(equation.location)


class Axis:
    """The axis that is looked for, and what was found about equations along it.

    Flows begin again whenever one more operand turns out to have lanes, and flows through nested
    programs within flows: without a memory each level would multiply the work of those inside.

    Args:
        size: how many lanes it has.
        width: how many make a chunk.
        expected: how many it is thought to have, where that is known at run time only.
        whole: where (see `place_of`) operations are that only exist for all lanes at once.
        values: numbers to think of for symbolic sizes.
        by_cost: whether the way to run a loop is chosen by what it is thought to take.

    Attributes:
        defined: the equations of all variables met so far.
        words: on the ways to run the regions found, the best first.
    """

    __slots__ = (
        "_answers",
        "by_cost",
        "defined",
        "expected",
        "size",
        "values",
        "whole",
        "width",
        "words",
    )

    def __init__(
        self,
        size: DimSize,
        width: int,
        expected: int | None = None,
        whole: Collection[tuple[str, str]] = frozenset(),
        values: Mapping[str, int] | None = None,
        by_cost: bool = False,
    ) -> None:
        self.size = size
        self.width = width
        self.whole = whole
        self.values = values or {}
        self.by_cost = by_cost
        self.words: list[str] = []
        self.defined: dict[Variable, Equation] = {}
        self.expected: int = int(size) if expected is None else expected
        self._answers: dict[Hashable, Any] = {}

    def recall(self, question: Hashable, find: Callable[[], Any]) -> Any:
        """The answer to a question, found the first time it is asked.

        Raises:
            Blocked: there was none.
            Inseparable: likewise.
        """
        if question not in self._answers:
            try:
                self._answers[question] = find()
            except (Blocked, Inseparable) as problem:
                self._answers[question] = problem
        answer = self._answers[question]
        if isinstance(answer, (Blocked, Inseparable)):
            raise answer.with_traceback(None)
        return answer


class Blocked(Exception):
    """Lanes cannot be followed any further.

    Args:
        reason: why.
        equation: where.
    """

    def __init__(self, reason: str, equation: Equation) -> None:
        super().__init__(reason)
        self.reason = reason
        self.equation = equation

    def __str__(self) -> str:
        location = self.equation.location
        where = f" at {location}" if location is not None else ""
        return f"{self.equation.primitive.name}: {self.reason}{where}"


class SharedWork(Blocked):
    """Lanes can be followed, but they have too little of the work to themselves."""


class Step:
    """An equation, with the states of its operands and results.

    Attributes:
        equation: as it is for all lanes.
        ins: how each operand is used; a uniform one may be cut (`int`) or made partial.
        outs: the states of the results.
        inner: for control flow, the flows through its programs and what their outputs should be.
        forms: for a uniform equation, how to compute a result for some lanes alone: the states of
            operands and results, by number of the result and axis.
    """

    __slots__ = ("equation", "forms", "inner", "ins", "outs")

    def __init__(
        self,
        equation: Equation,
        ins: Sequence[State],
        outs: Sequence[State],
        inner: Sequence[tuple[Flow, Sequence[State]]] = (),
    ) -> None:
        self.equation = equation
        self.ins = list(ins)
        self.outs = list(outs)
        self.inner = list(inner)
        self.forms: dict[tuple[int, int], tuple[list[State], list[State]]] = {}

    @property
    def uniform(self) -> bool:
        return all(map(is_uniform, self.ins)) and all(map(is_uniform, self.outs))


class Flow:
    """The states of a program's variables, given those of its inputs.

    Args:
        program: what is followed.
        inputs: a state for each input.
        axis: the lanes.
        begin: results of uniform equations that lanes begin at, and along which axis.

    Attributes:
        states: of all variables.
        steps: the equations with how they use their operands.
        demands: axes along which uniform variables are cut.

    Raises:
        Blocked: an equation does not separate.
    """

    def __init__(
        self,
        program: Program,
        inputs: Sequence[State],
        axis: Axis,
        begin: Mapping[Variable, int] | None = None,
    ) -> None:
        self.program = program
        self.axis = axis
        self._begin = begin or {}
        self.states: dict[Variable, State] = dict(zip(program.inputs, inputs, strict=True))
        self.steps: list[Step] = []
        self.demands: dict[Variable, set[int]] = {}
        self.uses = count_uses(program)
        axis.defined.update(definitions(program))
        for equation in program.equations:
            self.add(self.step(equation))

    def state(self, atom: Atom) -> State:
        """The state of an operand; literals are uniform."""
        return self.states.get(atom) if type(atom) is Variable else None

    @property
    def outputs(self) -> list[State]:
        return [self.state(a) for a in self.program.outputs]

    def step(self, equation: Equation) -> Step:
        """How an equation continues the states of its operands."""
        found = [self.state(a) for a in equation.inputs]
        if equation.effects:
            raise Blocked("its effects would be those of every chunk", equation)
        if self.axis.whole and place_of(equation) in self.axis.whole:
            raise Blocked("it calls a library, which wants whole arrays", equation)
        if all([s is None for s in found]):
            return self._first_step(equation, found)
        if all(map(is_uniform, found)) and equation.primitive.name not in CONTROLLED:
            return Step(equation, found, [LOCAL] * len(equation.outputs))
        return self.continued(equation, found)

    def continued(self, equation: Equation, found: Sequence[State]) -> Step:
        """How an equation continues given states of its operands, not all of them uniform."""
        used = tuple([self.uses.get(v, 0) > 0 for v in equation.outputs])
        question = ("continued", equation, tuple(found), used)
        return self.axis.recall(question, lambda: self._continued(equation, found))

    def _continued(self, equation: Equation, found: Sequence[State]) -> Step:
        from covector.compiler.lanes.control import CONTROL
        from covector.compiler.lanes.partials import partial_step

        try:
            rule = CONTROL.get(equation.primitive.name)
            if rule is not None:
                return rule(self, equation, found)
            if any([type(s) is Partial for s in found]):
                return partial_step(equation, found)
            return lane_step(equation, found, self.axis)
        except (Inseparable, UnsupportedRuleError) as problem:
            raise Blocked(str(problem), equation) from None

    def _first_step(self, equation: Equation, found: Sequence[State]) -> Step:
        for number, variable in enumerate(equation.outputs):
            dim = self._begin.get(variable)
            form = None if dim is None else form_of(equation, number, dim, self.axis)
            if form is not None:
                return Step(equation, *form)
        return Step(equation, found, [None] * len(equation.outputs))

    def add(self, step: Step) -> None:
        """Takes a step into account."""
        self.steps.append(step)
        self.states.update(zip(step.equation.outputs, step.outs, strict=True))
        for atom, state in zip(step.equation.inputs, step.ins, strict=True):
            self.demand(atom, state)

    def demand(self, atom: Atom, state: State) -> None:
        """Notes how an atom is used."""
        if type(state) is int and type(atom) is Variable and is_uniform(self.states.get(atom)):
            self.demands.setdefault(atom, set()).add(state)

    def finish(self, wanted: Sequence[State]) -> None:
        """Passes demands on to the operands of uniform equations, from the last to the first.

        Args:
            wanted: the states the outputs should have.
        """
        for atom, state in zip(self.program.outputs, wanted, strict=True):
            self.demand(atom, state)
        for step in reversed(self.steps):
            if step.uniform:
                self._find_forms(step)

    def _find_forms(self, step: Step) -> None:
        for number, variable in enumerate(step.equation.outputs):
            for dim in self.demands.get(variable, ()):
                form = form_of(step.equation, number, dim, self.axis)
                if form is not None:
                    step.forms[number, dim] = form
                    for atom, state in zip(step.equation.inputs, form[0], strict=True):
                        self.demand(atom, state)


# --- one equation ---------------------------------------------------------------------------------


def lane_step(equation: Equation, found: Sequence[State], axis: Axis) -> Step:
    """The step of an ordinary equation whose operands have lanes or are uniform.

    Uniform operands are used whole if the operation separates so, else cut along one of their axes.
    """
    avals = [a.aval for a in equation.inputs]
    problem = ""
    local = any([s is LOCAL for s in found])
    found = [None if s is LOCAL else s for s in found]
    first = next(s for s in found if type(s) is int)
    for dims in _choices(found, avals, axis.size, first):
        try:
            outs = _results(equation, dims, avals)
        except Inseparable as reason:
            problem = problem or str(reason)
            continue
        if _fits(equation, dims, outs, axis):
            return Step(equation, dims, [LOCAL if local and s is None else s for s in outs])
        problem = problem or "its parameters or the shapes of its operands are for all lanes"
    raise Inseparable(problem)


def _choices(
    found: Sequence[State], avals: Sequence[Aval], size: DimSize, dim: int
) -> Iterator[list[State]]:
    """Ways to use the operands: the uniform ones whole, all cut along one axis, cut in any way."""
    options: list[list[State]] = []
    for state, aval in zip(found, avals, strict=True):
        cuts: list[State] = [d for d, n in enumerate(aval.shape) if n == size]
        options.append([None, *cuts] if state is None else [state])
    yield list(found)
    yield [dim if dim in choice else choice[0] for choice in options]
    for count, dims in enumerate(product(*options)):
        if count >= MAX_CHOICES:
            return
        yield list(dims)


def _results(equation: Equation, dims: Sequence[State], avals: Sequence[Aval]) -> list[State]:
    primitive = equation.primitive
    answer: Any = primitive.lanes(tuple(dims), *avals, **equation.params)
    return list(answer) if primitive.multiple_results else [answer]


def _fits(equation: Equation, dims: Sequence[State], outs: Sequence[State], axis: Axis) -> bool:
    """Whether the equation for a chunk has the results for a chunk."""
    if all([s is None for s in outs]) and any([s is not None for s in dims]):
        return False
    expected: list[Aval] = []
    for variable, state in zip(equation.outputs, outs, strict=True):
        if type(state) is int and variable.aval.shape[state] != axis.size:
            return False
        expected.append(cut(variable.aval, state, axis.width))
    primitive = equation.primitive
    if primitive.narrow is not None:
        return True
    operands = [cut(a.aval, s, axis.width) for a, s in zip(equation.inputs, dims, strict=True)]
    try:
        answer: Any = primitive.shape(*operands, **equation.params)
    except Exception:  # a shape rule may object in any way
        return False
    found: list[Aval] = list(answer) if primitive.multiple_results else [answer]
    return all(map(same_type, found, expected))


def cut(aval: Aval, state: State, width: int) -> Aval:
    """What an array is in a chunk."""
    return resized(aval, state, width) if type(state) is int else aval


Form = tuple[list[State], list[State]] | None
"""The states of operands and results with which a result is computed for some lanes alone."""


def form_of(equation: Equation, number: int, dim: int, axis: Axis) -> Form:
    """How to compute one result of a uniform equation for some lanes alone.

    Args:
        equation: all its operands are uniform.
        number: of the result.
        dim: the axis its lanes should be along.
        axis: the lanes.

    Returns:
        The states of operands and results; `None` if there is no way.
    """
    question = ("form", equation, number, dim)
    return axis.recall(question, lambda: _form_of(equation, number, dim, axis))


def _form_of(equation: Equation, number: int, dim: int, axis: Axis) -> Form:
    primitive = equation.primitive
    avals = [a.aval for a in equation.inputs]
    whole: list[State] = [None] * len(avals)
    if primitive.creates is not None and primitive.creates(dim, *avals, **equation.params):
        return whole, [dim]
    if equation.effects or "control" in primitive.tags:
        return None
    for dims in _choices(whole, avals, axis.size, dim) if avals else ():
        if all([s is None for s in dims]):
            continue
        try:
            outs = _results(equation, dims, avals)
        except (Inseparable, UnsupportedRuleError):
            continue
        if outs[number] == dim and _fits(equation, dims, outs, axis):
            return dims, outs
    return None
