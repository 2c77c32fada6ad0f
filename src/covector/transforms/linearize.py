"""Linearization: outputs now, and the derivative as a linear program of the tangents.

Each operation's jvp rule runs once. What it does to primal values happens under the parent trace
(at once, in eager code); what it does to tangents is recorded. Primal values that the recorded
part uses are the residuals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.core.avals import Zero
from covector.core.primitive import Linearized, Primitive
from covector.core.program import Program
from covector.core.trace import (
    ProgramTrace,
    ProgramTracer,
    Trace,
    Tracer,
    aval_of,
    check_live,
    eval_program,
    get_trace,
    set_trace,
    trace_program,
)
from covector.transforms.context import CONTEXT, keep_nonzero, refuse_captured, spread
from covector.transforms.flat import release_aux


class LinearizeTracer(Tracer):
    """A known primal value with a tangent in the linear program."""

    __slots__ = ("primal", "tangent")

    def __init__(self, trace: LinearizeTrace, primal: Any, tangent: Any) -> None:
        self._trace = trace
        self.primal = primal
        self.tangent = tangent
        self.aval = primal.aval if isinstance(primal, Tracer) else aval_of(primal)

    def concrete(self) -> Any:
        return self.primal.concrete() if isinstance(self.primal, Tracer) else self.primal


class _TangentTrace(Trace):
    """Current while a jvp rule runs: records what touches a tangent, hands the rest on."""

    __slots__ = ("recorder",)

    def __init__(self, parent: Trace | None, recorder: ProgramTrace) -> None:
        super().__init__(parent, "linearize")
        self.recorder = recorder

    def _is_tangent(self, args: Sequence[Any]) -> bool:
        recorder = self.recorder
        return any([type(a) is ProgramTracer and a._trace is recorder for a in args])

    def process(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        if self._is_tangent(args):
            return self.recorder.process(primitive, args, params)
        previous = set_trace(self.parent)
        try:
            return primitive(*args, **params)
        finally:
            set_trace(previous)


class LinearizeTrace(Trace):
    """Evaluates primals under the parent and records tangents in `recorder`."""

    __slots__ = ("recorder", "tangents")

    def __init__(self, parent: Trace | None) -> None:
        super().__init__(parent, "grad")
        self.recorder = ProgramTrace(parent, "grad", capture_arrays=True)
        self.tangents = _TangentTrace(parent, self.recorder)

    def split(self, args: Sequence[Any]) -> tuple[list[Any], list[Any], bool]:
        """Primals, tangents, and whether there is any tangent at all."""
        primals: list[Any] = []
        tangents: list[Any] = []
        nonzero = False
        for a in args:
            if type(a) is LinearizeTracer and a._trace is self:
                if self.finished:
                    check_live(a)
                primals.append(a.primal)
                tangents.append(a.tangent)
                nonzero = True
            else:
                primals.append(a)
                tangents.append(Zero(aval_of(a).tangent()))
        return primals, tangents, nonzero

    def join(self, primal: Any, tangent: Any) -> Any:
        """A tracer for the pair; the primal alone where the tangent vanishes."""
        return primal if type(tangent) is Zero else LinearizeTracer(self, primal, tangent)

    def process(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        primals, tangents, nonzero = self.split(args)
        previous = set_trace(self.parent)
        try:
            if not nonzero:
                return primitive(*primals, **params)
            if primitive.linearize is not None:
                return self._by_rule(primitive, primals, tangents, params)
            set_trace(self.tangents)
            out, tangent = primitive.jvp(CONTEXT, primals, tangents, **params)
        finally:
            set_trace(previous)
        if primitive.multiple_results:
            return [self.join(o, t) for o, t in zip(out, tangent, strict=True)]
        return self.join(out, tangent)

    def _by_rule(
        self,
        primitive: Primitive,
        primals: list[Any],
        tangents: list[Any],
        params: dict[str, Any],
    ) -> Any:
        assert primitive.linearize is not None
        nonzero = [type(t) is not Zero for t in tangents]
        outs, nonzero_out, linear, residuals = primitive.linearize(
            CONTEXT, primals, nonzero, **params
        )
        set_trace(self.recorder)
        results = linear(residuals, [t for t in tangents if type(t) is not Zero])
        out_tangents = spread(results, nonzero_out, [aval_of(o) for o in outs])
        joined = [self.join(o, t) for o, t in zip(outs, out_tangents, strict=True)]
        return joined if primitive.multiple_results else joined[0]


def linearize_flat(
    fn: Callable[..., Sequence[Any]], primals: Sequence[Any], nonzero: Sequence[bool]
) -> tuple[list[Any], list[Any], Callable[[Sequence[Any]], Program], LinearizeTrace]:
    """Runs `fn`, recording its derivative.

    Returns:
        The outputs, their tangents (tracers of the recorder, or symbolic zeros), a function that
        finishes the linear program given the tangents it should return, and the trace, whose
        `recorder.captured` holds the residuals once it is finished.
    """
    trace = LinearizeTrace(get_trace())
    args: list[Any] = []
    for primal, n in zip(primals, nonzero, strict=True):
        if n:
            tangent = trace.recorder.new_input(aval_of(primal).tangent())
            args.append(LinearizeTracer(trace, primal, tangent))
        else:
            args.append(primal)
    previous = set_trace(trace)
    try:
        results = fn(*args)
    finally:
        set_trace(previous)
    outs, tangents, _ = trace.split(results)
    release_aux(fn, trace.split)
    trace.finished = trace.tangents.finished = True
    return outs, tangents, lambda wanted: trace.recorder.finish(wanted, "linear"), trace


def linearize_program(
    program: Program, nonzero: Sequence[bool], instantiate: Sequence[bool]
) -> Linearized:
    """Splits a program into its outputs with residuals, and its linear part."""
    avals = program.input_avals
    found: list[tuple[Program, int, list[bool]]] = []

    def known(*primals: Any) -> list[Any]:
        outs, tangents, finish, trace = linearize_flat(
            lambda *a: eval_program(program, *a), primals, nonzero
        )
        nonzero_out = [
            force or type(t) is not Zero for t, force in zip(tangents, instantiate, strict=True)
        ]
        previous = set_trace(trace.recorder)
        try:
            wanted, _ = keep_nonzero(tangents, instantiate)
        finally:
            set_trace(previous)
        linear = finish(wanted)
        residuals = [value for value, _ in trace.recorder.captured]
        found.append((linear, len(residuals), nonzero_out))
        return outs + residuals

    known_program, captured = trace_program(known, avals, program.name)
    refuse_captured(program, captured)
    linear, num_residuals, nonzero_out = found[0]
    return Linearized(known_program, linear, num_residuals, nonzero_out)
