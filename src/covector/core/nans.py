"""Finding where a NaN comes from: what `debug_nans` and `debug_infs` do.

The results of eager operations are checked as they come. Of compiled code the outputs are; when one
has a NaN, the interpreter runs the program again and keeps every value, and the search goes back
from the output to the first equation that makes a NaN of operands without one. An equation that
holds programs (a loop, a branch, a call) is searched in the same way, iteration by iteration.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from covector.core import effects as fx
from covector.core import interpret
from covector.core import trace as tracing
from covector.core.array import Array, as_array
from covector.core.avals import Aval
from covector.core.config import config
from covector.core.errors import NonFiniteError
from covector.core.primitive import Primitive
from covector.core.program import Equation, Program, Variable, map_subprograms, subprograms
from covector.core.source import SourceLocation
from covector.core.trace import BACKWARD, BatchAxis, ProgramTracer, Tracer

NumpyArray = np.ndarray[Any, Any]


class _State(threading.local):
    suspended = False


_state = _State()


def enabled() -> bool:
    """Whether results are to be checked in this thread, now."""
    return (config.debug_nans or config.debug_infs) and not _state.suspended


# --- what is bad ----------------------------------------------------------------------------------


def _bad_elements(value: NumpyArray) -> NumpyArray | None:
    """Where an array has what is looked for, `None` if nowhere."""
    if value.dtype.kind in "biuOSUmM" or value.dtype.names:
        return None
    if value.dtype.kind == "V":  # the small floats of ml_dtypes
        value = value.astype(np.float32)
    found = np.isnan(value) if config.debug_nans else np.zeros(value.shape, bool)
    if config.debug_infs:
        found |= np.isinf(value)
    return found if found.any() else None


def _is_bad(value: Any) -> bool:
    return _bad_elements(value) is not None


def _first(found: NumpyArray) -> tuple[int, ...]:
    return tuple([int(i) for i in np.unravel_index(int(np.argmax(found)), found.shape)])


# --- what was found -------------------------------------------------------------------------------


class Finding(NamedTuple):
    """An operation that made a NaN, or an argument that was one."""

    culprit: str
    value: NumpyArray
    operands: Sequence[NumpyArray] = ()
    elementwise: bool = False
    line: SourceLocation | None = None
    backward: bool = False
    lanes: Sequence[BatchAxis] = ()
    path: tuple[str, ...] = ()
    """The loops, branches and calls it is in, from the innermost one."""


def error_of(finding: Finding) -> NonFiniteError:
    """What to raise for a finding."""
    found = _bad_elements(finding.value)
    assert found is not None
    index = _first(found)
    element = finding.value[index]
    kind = "nan" if np.isnan(np.complex128(element)) else "inf"
    text = f"{element} in {Aval(finding.value.shape, finding.value.dtype)}"
    if index:
        text += f" at {list(index)}"
    if finding.elementwise:
        same = [x for x in finding.operands if x.shape in (finding.value.shape, ())]
        text += f", of the operands {', '.join([str(x[index] if x.shape else x) for x in same])}"
    where = list(finding.path)
    if finding.backward:
        where.insert(0, "the backward pass of what is at that line")
    lanes = [(lane.name, index[lane.axis]) for lane in finding.lanes]
    message = f"invalid value ({kind}) encountered in {finding.culprit}"
    return NonFiniteError(message, text, finding.line, where, lanes)


def _is_backward(scope: str) -> bool:
    return BACKWARD in scope.split("/")


# --- eager operations -----------------------------------------------------------------------------


def check_operation(primitive: Primitive, arrays: Sequence[Array], results: Any) -> None:
    """Raises if an eager operation gave what is looked for.

    Args:
        primitive: what was applied.
        arrays: its operands.
        results: an array, or several.

    Raises:
        NonFiniteError: naming the primitive and the user's line.
    """
    for result in results if primitive.multiple_results else [results]:
        if _is_bad(result._value):
            raise error_of(
                Finding(
                    primitive.name,
                    result._value,
                    [a._value for a in arrays],
                    "elementwise" in primitive.tags,
                    tracing.current_line(),
                    _is_backward(tracing.current_scope()),
                    tracing.inherited_axes(result._value.shape),
                )
            )


# --- compiled programs ----------------------------------------------------------------------------


def check_outputs(name: str, program: Program, args: Sequence[Any], results: Sequence[Any]) -> None:
    """Raises if the outputs of a compiled program have what is looked for.

    Args:
        name: what was compiled, for messages; empty for an eager operation.
        program: as it was traced.
        args: what it was called with, one for each input.
        results: what it returned.

    Raises:
        NonFiniteError: naming the primitive that is to blame, its line, and the iterations of the
            loops it is in.
    """
    bad = [r._value for r in results if _is_bad(r._value)]
    if not bad:
        return
    called = f"jit of {name}" if name else ""
    outside = Finding(called or "a compiled program", bad[0], line=tracing.current_line())
    if program.effects & {fx.IO, fx.ORDERED_IO}:
        raise error_of(outside._replace(path=("a program not run again: it has side effects",)))
    values = [as_array(a)._value for a in args]
    finding = _search(_silent(program), values)
    if finding is None:
        raise error_of(outside._replace(path=("native code; the interpreter gives no such value",)))
    if finding.line is None:
        finding = finding._replace(line=outside.line)
    backward = finding.backward or _is_backward(tracing.current_scope())
    path = (*finding.path, called) if called else finding.path
    raise error_of(finding._replace(path=path, backward=backward))


def _silent(program: Program) -> Program:
    """The program without equations that only have effects, nested ones included."""
    if not program.effects:
        return program
    equations = [
        e.replace(params=map_subprograms(e.params, _silent)) if e.effects else e
        for e in program.equations
        if e.outputs or not e.effects
    ]
    return program.replace(equations=equations)


def _search(program: Program, args: Sequence[NumpyArray]) -> Finding | None:
    """What is to blame for the first output that is bad."""
    values = dict(zip(program.inputs, args, strict=True))
    defined: dict[Variable, Equation] = {}
    with np.errstate(all="ignore"):
        for equation in program.equations:
            results = _evaluate(equation, values)
            values.update(zip(equation.outputs, results, strict=True))
            defined.update(dict.fromkeys(equation.outputs, equation))
    bad = [a for a in program.outputs if type(a) is Variable and _is_bad(values[a])]
    if not bad:
        return None
    variable = bad[0]
    while variable in defined:
        earlier = [
            a for a in defined[variable].inputs if type(a) is Variable and _is_bad(values[a])
        ]
        if not earlier:
            return _blame(defined[variable], variable, values)
        variable = earlier[0]
    position = program.inputs.index(variable)
    return Finding(f"argument {position}, which has it before the call", values[variable])


def _evaluate(equation: Equation, values: dict[Variable, NumpyArray]) -> list[NumpyArray]:
    operands = _operands(equation, values)
    results = equation.primitive.evaluate(*operands, **equation.params)
    several = equation.primitive.multiple_results
    return [np.asarray(r) for r in (results if several else [results])]


def _operands(equation: Equation, values: dict[Variable, NumpyArray]) -> list[NumpyArray]:
    return [values[a] if type(a) is Variable else a.value._value for a in equation.inputs]


def _blame(equation: Equation, variable: Variable, values: dict[Variable, NumpyArray]) -> Finding:
    if next(subprograms(equation.params), None) is not None:
        inner = _search_inside(equation, values)
        if inner is not None:
            return inner
    return Finding(
        equation.primitive.name,
        values[variable],
        _operands(equation, values),
        "elementwise" in equation.primitive.tags,
        equation.location,
        _is_backward(equation.scope),
        tracing.batch_axes.get(variable, ()),
    )


class _Found(Exception):  # not an error: what ends the search
    def __init__(self, program: Program, run: int, finding: Finding) -> None:
        self.program = program
        self.run = run
        self.finding = finding


def _search_inside(equation: Equation, values: dict[Variable, NumpyArray]) -> Finding | None:
    """Applies an equation again and searches the first run of its programs that gives a NaN."""
    runs: dict[int, int] = {}

    def watched(program: Program, args: Sequence[NumpyArray]) -> list[NumpyArray]:
        number = runs.get(id(program), 0)
        runs[id(program)] = number + 1
        with interpret.watched_by(None):
            results = interpret.run(program, *args)
            if any(map(_is_bad, results)):
                finding = _search(program, args)
                if finding is not None:
                    raise _Found(program, number, finding)
        return results

    try:
        with interpret.watched_by(watched):
            _evaluate(equation, values)
    except _Found as found:
        finding = found.finding
        place = _place(equation, found.program, found.run)
        backward = finding.backward or _is_backward(equation.scope)
        return finding._replace(path=(*finding.path, place), backward=backward)
    return None


def _place(equation: Equation, program: Program, run: int) -> str:
    """Which run of which of its programs, in words."""
    params, name = equation.params, equation.primitive.name
    at = "" if equation.location is None else f" at {equation.location}"
    if program in params.get("branches", ()):
        return f"branch {params['branches'].index(program)} of {name}{at}"
    if name in ("scan", "while", "lanes"):
        return f"iteration {run} of {name}{at}"
    if name == "jit":
        return f"jit of {params['name']}{at}"
    return f"{name}{at}"


# --- lanes ----------------------------------------------------------------------------------------


def by_lane(
    rule: Callable[..., Any], multiple_results: bool, context: Any
) -> Callable[..., tuple[Any, Any]]:
    """A batching rule whose results are known to belong to lanes.

    Args:
        rule: a batching rule, as of `Primitive`.
        multiple_results: whether it gives several.
        context: of the batch, with its `axis_name`.

    Returns:
        The rule; an error names the lane, and variables of programs remember their batch axes.
    """

    def apply(*args: Any, **params: Any) -> tuple[Any, Any]:
        try:
            out, dims = rule(*args, **params)
        except NonFiniteError as error:
            previous, _state.suspended = _state.suspended, True
            try:
                out, dims = rule(*args, **params)
            finally:
                _state.suspended = previous
            error.lanes = _lane_of(_pairs(out, dims, multiple_results), context) or error.lanes
            raise
        for value, dim in _pairs(out, dims, multiple_results):
            _remember(value, dim, context)
        return out, dims

    return apply


def _pairs(out: Any, dims: Any, multiple_results: bool) -> list[tuple[Any, int | None]]:
    return list(zip(out, dims, strict=True)) if multiple_results else [(out, dims)]


def _peeled(value: Any, lanes: list[BatchAxis]) -> list[tuple[Any, list[BatchAxis]]]:
    """What tracers stand for, and along which axes their batches are; tangents after primals."""
    if not isinstance(value, Tracer) or isinstance(value, ProgramTracer):
        return [(value, lanes)]
    batch: Any = getattr(value, "batch", None)
    if batch is not None:
        dim: int = value.dim  # type: ignore[attr-defined]
        moved = [BatchAxis(n, axis + (axis >= dim)) for n, axis in lanes]
        outer = BatchAxis(batch.context.axis_name, dim)
        return _peeled(value.value, [outer, *moved])  # type: ignore[attr-defined]
    found: list[tuple[Any, list[BatchAxis]]] = []
    for part in ("primal", "tangent"):
        if hasattr(value, part):
            found += _peeled(getattr(value, part), lanes)
    return found


def _lane_of(pairs: Sequence[tuple[Any, int | None]], context: Any) -> list[tuple[Any, int]]:
    """The lanes of the first element that is bad, from the outermost `vmap` inwards."""
    for value, dim in pairs:
        own = [] if dim is None else [BatchAxis(context.axis_name, dim)]
        for array, lanes in _peeled(value, own):
            found = _bad_elements(array._value) if isinstance(array, Array) else None
            if found is not None:
                index = _first(found)
                return [(lane.name, index[lane.axis]) for lane in lanes]
    return []


def _remember(value: Any, dim: int | None, context: Any) -> None:
    own = [] if dim is None else [BatchAxis(context.axis_name, dim)]
    for traced, lanes in _peeled(value, own):
        if isinstance(traced, ProgramTracer) and lanes:
            tracing.batch_axes[traced.variable] = lanes
