"""Programs for a chunk of lanes, built from the flow of lanes through the programs for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.compiler.lanes.flow import Flow, State, Step, cut
from covector.core.avals import Aval
from covector.core.effects import NONE
from covector.core.program import Atom, Equation, Literal, Program, Variable
from covector.core.trace import aval_of, trace_program
from covector.ops import common
from covector.ops.common import LOCAL, Chunk, Partial
from covector.ops.lanes import OFFSET
from covector.ops.nested import prune


def narrowed(flow: Flow, wanted: Sequence[State], width: int) -> tuple[Program, bool]:
    """The program of a flow for some lanes.

    Args:
        flow: finished.
        wanted: the states of the outputs.
        width: how many lanes.

    Returns:
        The program, and whether its first input is the number of the first lane.
    """
    return _Narrowing(flow, width).build(wanted)


class _Narrowing:
    def __init__(self, flow: Flow, width: int) -> None:
        self._flow = flow
        self._width = width
        self._offset = Variable(OFFSET)
        self._equations: list[Equation] = []
        self._atoms: dict[tuple[Any, State], Atom] = {}
        self._emit = {"scan": self._scan, "while": self._while, "cond": self._cond}

    def build(self, wanted: Sequence[State]) -> tuple[Program, bool]:
        program = self._flow.program
        inputs: list[Variable] = []
        for variable in program.inputs:
            state = self._flow.states[variable]
            inputs.append(Variable(cut(variable.aval, state, self._width)))
            self._atoms[variable, _plain(state)] = inputs[-1]
        for step in self._flow.steps:
            self._add(step)
        outputs = [self._get(a, s, None) for a, s in zip(program.outputs, wanted, strict=True)]
        built = prune(Program(inputs, self._equations, outputs, program.name))
        if not any([a is self._offset for e in built.equations for a in e.inputs]):
            return built, False
        return built.replace(inputs=[self._offset, *inputs]), True

    # --- equations --------------------------------------------------------------------------------

    def _add(self, step: Step) -> None:
        equation = step.equation
        if not step.uniform:
            self._define(step, step.outs, self._step(step))
            return
        operands = [self._get(a, None, equation) for a in equation.inputs]
        self._define(step, step.outs, self._apply(equation, operands))
        for ins, outs in step.forms.values():
            form = Step(equation, ins, outs)
            self._define(step, outs, self._step(form))

    def _define(self, step: Step, states: Sequence[State], atoms: Sequence[Atom]) -> None:
        for variable, state, atom in zip(step.equation.outputs, states, atoms, strict=True):
            self._atoms.setdefault((variable, _plain(state)), atom)

    def _step(self, step: Step) -> Sequence[Atom]:
        equation = step.equation
        operands = [
            self._get(a, s, equation) for a, s in zip(equation.inputs, step.ins, strict=True)
        ]
        emit = self._emit.get(equation.primitive.name)
        if emit is not None:
            return emit(step, operands)
        if equation.primitive.narrow is None or not any(
            [type(s) is int for s in [*step.ins, *step.outs]]
        ):
            return self._apply(equation, operands)
        return self._narrow(step, operands)

    def _apply(
        self, equation: Equation, operands: Sequence[Atom], params: dict[str, Any] | None = None
    ) -> Sequence[Atom]:
        """The equation with other operands and parameters."""
        primitive = equation.primitive
        params = equation.params if params is None else params
        answer: Any = primitive.shape(*[a.aval for a in operands], **params)
        avals: list[Aval] = list(answer) if primitive.multiple_results else [answer]
        outputs = [Variable(aval) for aval in avals]
        effects = NONE if primitive.effects is None else primitive.effects(**params)
        self._equations.append(
            equation.replace(inputs=operands, outputs=outputs, params=params, effects=effects)
        )
        return outputs

    def _narrow(self, step: Step, operands: Sequence[Atom]) -> Sequence[Atom]:
        """The equations that a primitive says stand for it in a chunk."""
        primitive, params = step.equation.primitive, step.equation.params
        narrow = primitive.narrow
        assert narrow is not None
        many = primitive.multiple_results
        outs = step.outs if many else step.outs[0]

        def chunk_of(offset: Any, *values: Any) -> Sequence[Any]:
            found = narrow(Chunk(self._width, offset), step.ins, outs, *values, **params)
            return found if many else [found]

        return self._traced(chunk_of, [self._offset, *operands], step.equation)

    def _traced(
        self,
        function: Callable[..., Sequence[Any]],
        operands: Sequence[Atom],
        like: Equation | None,
    ) -> Sequence[Atom]:
        """The equations of a function, at the place in the user's code that another comes from."""
        program, captured = trace_program(function, [a.aval for a in operands])
        assert not captured
        names: dict[Variable, Atom] = dict(zip(program.inputs, operands, strict=True))
        for equation in program.equations:
            inputs = [a if isinstance(a, Literal) else names.get(a, a) for a in equation.inputs]
            place = {} if like is None else {"frame": like.frame, "scope": like.scope}
            self._equations.append(equation.replace(inputs=inputs, **place))
        return [a if isinstance(a, Literal) else names.get(a, a) for a in program.outputs]

    # --- operands ---------------------------------------------------------------------------------

    def _get(self, atom: Atom, wanted: State, user: Equation | None) -> Atom:
        """An atom in the state that its user wants."""
        wanted = _plain(wanted)
        if isinstance(atom, Literal) and wanted is None:
            return atom
        key = (atom, wanted)
        known = self._atoms.get(key)
        if known is None:
            whole = atom if isinstance(atom, Literal) else self._atoms[atom, None]
            known = self._atoms[key] = self._converted(whole, wanted, user)
        return known

    def _converted(self, whole: Atom, wanted: State, user: Equation | None) -> Atom:
        """A uniform value cut, or made a partial result that only the first chunk adds to."""

        def part(offset: Any, x: Any) -> Sequence[Any]:
            if type(wanted) is int:
                return [_lanes_of(x, wanted, self._width, offset)]
            assert type(wanted) is Partial
            return [_in_first_chunk(x, wanted.operation, offset)]

        return self._traced(part, [self._offset, whole], user)[0]

    # --- loops and branches -----------------------------------------------------------------------

    def _inner(self, step: Step) -> list[tuple[Program, bool]]:
        return [narrowed(flow, wanted, self._width) for flow, wanted in step.inner]

    def _scan(self, step: Step, operands: list[Atom]) -> Sequence[Atom]:
        ((program, numbered),) = self._inner(step)
        params: dict[str, Any] = {**step.equation.params, "program": program}
        if numbered:
            params["num_consts"] += 1
            operands = [self._offset, *operands]
        return self._apply(step.equation, operands, params)

    def _while(self, step: Step, operands: list[Atom]) -> Sequence[Atom]:
        (condition, in_condition), (body, in_body) = self._inner(step)
        params: dict[str, Any] = dict(step.equation.params)
        params |= {"cond_program": condition, "body_program": body}
        if in_body:
            operands.insert(params["cond_nconsts"], self._offset)
            params["body_nconsts"] += 1
        if in_condition:
            operands.insert(0, self._offset)
            params["cond_nconsts"] += 1
        return self._apply(step.equation, operands, params)

    def _cond(self, step: Step, operands: list[Atom]) -> Sequence[Atom]:
        inner = self._inner(step)
        branches = [program for program, _ in inner]
        if any([numbered for _, numbered in inner]):
            operands.insert(1, self._offset)
            branches = [
                p if numbered else p.replace(inputs=[Variable(OFFSET), *p.inputs])
                for p, numbered in inner
            ]
        return self._apply(step.equation, operands, {"branches": tuple(branches)})


def _plain(state: State) -> State:
    """Within a chunk, what is its own is the same for all its lanes."""
    return None if state is LOCAL else state


def _lanes_of(x: Any, dim: int, width: int, offset: Any) -> Any:
    from covector.ops.index import dynamic_slice

    shape = aval_of(x).shape
    zero = common.like(OFFSET, 0)
    starts = [offset if d == dim else zero for d in range(len(shape))]
    sizes = tuple([width if d == dim else n for d, n in enumerate(shape)])
    return dynamic_slice(x, *starts, slice_sizes=sizes)


def _in_first_chunk(x: Any, operation: str, offset: Any) -> Any:
    from covector.ops.compare import eq, select_n
    from covector.ops.reduce import IDENTITIES

    aval = aval_of(x)
    others = common.full(aval, IDENTITIES[operation](aval.dtype))
    return select_n(eq(offset, common.like(OFFSET, 0)), others, x)
