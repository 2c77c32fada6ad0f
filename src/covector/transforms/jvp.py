"""Forward-mode differentiation: each operation carries a tangent beside its value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.core.avals import Zero
from covector.core.primitive import Primitive
from covector.core.trace import (
    Trace,
    Tracer,
    aval_of,
    check_live,
    get_trace,
    set_trace,
)
from covector.transforms.context import CONTEXT
from covector.transforms.flat import release_aux


class JVPTracer(Tracer):
    """A value with a tangent that is not a symbolic zero."""

    __slots__ = ("primal", "tangent")

    def __init__(self, trace: JVPTrace, primal: Any, tangent: Any) -> None:
        self._trace = trace
        self.primal = primal
        self.tangent = tangent
        self.aval = primal.aval if isinstance(primal, Tracer) else aval_of(primal)

    def concrete(self) -> Any:
        return self.primal.concrete() if isinstance(self.primal, Tracer) else self.primal


class JVPTrace(Trace):
    """Pushes tangents through operations; both run under the parent trace."""

    __slots__ = ()

    def split(self, args: Sequence[Any]) -> tuple[list[Any], list[Any], bool]:
        """Primals, tangents, and whether there is any tangent at all."""
        primals: list[Any] = []
        tangents: list[Any] = []
        nonzero = False
        for a in args:
            if type(a) is JVPTracer and a._trace is self:
                if self.finished:
                    check_live(a)
                primals.append(a.primal)
                tangents.append(a.tangent)
                nonzero = True
            else:
                primals.append(a)
                tangents.append(Zero(aval_of(a).tangent()))
        return primals, tangents, nonzero

    def process(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        primals, tangents, nonzero = self.split(args)
        previous = set_trace(self.parent)
        try:
            if not nonzero:
                return primitive(*primals, **params)
            out, tangent = primitive.jvp(CONTEXT, primals, tangents, **params)
        finally:
            set_trace(previous)
        if primitive.multiple_results:
            return [self.join(o, t) for o, t in zip(out, tangent, strict=True)]
        return self.join(out, tangent)

    def join(self, primal: Any, tangent: Any) -> Any:
        """A tracer for the pair; the primal alone where the tangent vanishes."""
        return primal if type(tangent) is Zero else JVPTracer(self, primal, tangent)


def jvp_flat(
    fn: Callable[..., Sequence[Any]], primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Outputs and output tangents of a function of flat operands; zeros are symbolic."""
    trace = JVPTrace(get_trace(), "jvp")
    args = [trace.join(p, t) for p, t in zip(primals, tangents, strict=True)]
    previous = set_trace(trace)
    try:
        results = fn(*args)
    finally:
        set_trace(previous)
    outs, out_tangents, _ = trace.split(results)
    release_aux(fn, trace.split)
    trace.finished = True
    return outs, out_tangents
