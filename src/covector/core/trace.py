"""Tracing: the current trace, tracers, and the trace that records programs.

There is one current trace, a thread-local; `None` means that primitives are evaluated at once. A
trace handles the operations on its own tracers and hands the rest to its parent.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import numpy as np

from covector import _native
from covector.core import config as settings
from covector.core import dtypes, source
from covector.core.array import Array, as_array
from covector.core.avals import Aval
from covector.core.effects import NONE
from covector.core.errors import (
    ConcretizationTypeError,
    TracerArrayConversionError,
    TracerBoolConversionError,
    TracerIntegerConversionError,
    UnexpectedTracerError,
    compose,
)
from covector.core.operand import Operand
from covector.core.primitive import Primitive
from covector.core.program import Atom, Equation, Literal, Program, Variable

get_trace = _native.get_trace
set_trace = _native.set_trace


@contextmanager
def current_trace(trace: Trace | None) -> Generator[None]:
    """Makes `trace` the current one inside the block."""
    previous = set_trace(trace)
    try:
        yield
    finally:
        set_trace(previous)


class _Scopes(threading.local):
    name = ""
    frame: source.Frame | source.SourceLocation | None = None
    """Where the equation that is being replayed was traced first."""
    caller: source.Frame | None = None
    """Where the user's code was when the replay began; rules of the user's own run elsewhere."""
    equation: Equation | None = None
    """What is being replayed."""


_scopes = _Scopes()

BACKWARD = "transpose"
"""The scope of the equations of backward passes."""


def current_frame() -> source.Frame | source.SourceLocation | None:
    """Where the user applied what is being applied now, the first time if it is a replay."""
    frame = source.current_frame()
    return _scopes.frame if _scopes.frame is not None and frame == _scopes.caller else frame


def current_line() -> source.SourceLocation | None:
    """The user's line behind what is being applied now."""
    return source.resolve(current_frame())


def current_scope() -> str:
    """The scope of what is being applied now, names separated by slashes."""
    return _scopes.name


@contextmanager
def name_scope(name: str) -> Generator[None]:
    """Prefixes the scope of the equations traced inside the block with `name`."""
    outer = _scopes.name
    _scopes.name = f"{outer}/{name}" if outer else name
    try:
        yield
    finally:
        _scopes.name = outer


class _NamedAxes(threading.local):
    sizes: tuple[tuple[Any, Any], ...] = ()


_axes = _NamedAxes()


@contextmanager
def named_axis(name: Any, size: Any) -> Generator[None]:
    """Makes a batch axis known by name to collective operations inside the block."""
    outer = _axes.sizes
    if name is not None:
        _axes.sizes = (*outer, (name, size))
    try:
        yield
    finally:
        _axes.sizes = outer


def named_axes() -> tuple[tuple[Any, Any], ...]:
    """Names and sizes of the batch axes in scope, the innermost last.

    What is traced depends on them, so what remembers traced programs has them in its keys.
    """
    return _axes.sizes


def named_axis_size(name: Any) -> Any:
    """The size of the innermost batch axis with this name.

    Raises:
        NameError: if there is none; the message lists those there are.
    """
    for known, size in reversed(_axes.sizes):
        if known == name:
            return size
    names = ", ".join([repr(known) for known, _ in _axes.sizes])
    raise NameError(
        compose(
            f"unbound axis name: {name!r} is not the axis name of any enclosing vmap",
            found=f"the names in scope are {names}" if names else "no axis has a name here",
            fix=f"call the function under vmap(..., axis_name={name!r})",
            line=source.here(),
        )
    )


class Trace:
    """One transformation in progress.

    Attributes:
        parent: the trace that was current when this one began.
        finished: set when the traced function has returned; using a tracer after that is a leak.
        name: what is being traced, for error messages.
        examples: how many values each value stands for, under `vmap`.
    """

    __slots__ = ("finished", "name", "parent")

    examples: Any = 1

    def __init__(self, parent: Trace | None, name: str) -> None:
        self.parent = parent
        self.finished = False
        self.name = name

    def process(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Applies a primitive to operands, some of which may be this trace's tracers."""
        raise NotImplementedError


def examples() -> int:
    """How many values a value stands for: the product of the sizes of the batches around."""
    count = 1
    trace: Trace | None = get_trace()
    while trace is not None:
        count *= trace.examples if isinstance(trace.examples, int) else 1
        trace = trace.parent
    return count


class Tracer(Operand):
    """Stands for an array while a function is traced."""

    __slots__ = ("__weakref__", "_trace", "aval")

    _trace: Trace
    aval: Aval

    @property
    def shape(self) -> Any:
        return self.aval.shape

    @property
    def dtype(self) -> Any:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    @property
    def size(self) -> Any:
        return self.aval.size

    @property
    def weak_type(self) -> bool:
        return self.aval.weak_type

    def concrete(self) -> Any:
        """The array whose value this is, where tracing knows it; else `None`."""
        return None

    def __repr__(self) -> str:
        return f"Traced<{self.aval}> by {self._trace.name}"

    def __len__(self) -> int:
        if not self.aval.shape:
            raise TypeError("len() of a 0-d array")
        return cast("int", self.aval.shape[0])

    # --- what needs a value -----------------------------------------------------------------------

    def __bool__(self) -> bool:
        value = self.concrete()
        if value is not None:
            return bool(value)
        raise TracerBoolConversionError(
            self._not_known(
                "a Python `if`, `while`, `and`, `or` or `not` needs a value known while tracing",
                "use covector.numpy.where, lax.cond or lax.while_loop, or mark the argument static "
                "(static_argnums)",
            )
        )

    def __int__(self) -> int:
        return self._number(int)

    def __float__(self) -> float:
        return self._number(float)

    def __complex__(self) -> complex:
        return self._number(complex)

    def _number(self, kind: type) -> Any:
        value = self.concrete()
        if value is not None:
            return kind(value)
        raise ConcretizationTypeError(
            self._not_known(
                f"{kind.__name__}() needs a value known while tracing",
                f"use x.astype({kind.__name__}), or mark the argument static",
            )
        )

    def __index__(self) -> int:
        value = self.concrete()
        if value is not None:
            return value.__index__()
        raise TracerIntegerConversionError(
            self._not_known(
                "an integer known while tracing is needed here (a size, an axis, a Python index)",
                "mark the argument static (static_argnums), or index an array instead of a list",
            )
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        value = self.concrete()
        if value is not None:
            return value.__array__(dtype, copy)
        raise TracerArrayConversionError(
            self._not_known(
                "NumPy needs the values of an array",
                "use covector.numpy instead of numpy in functions that are traced",
            )
        )

    def _not_known(self, problem: str, fix: str) -> str:
        found = f"a traced value {self.aval} of {self._trace.name}"
        return compose(problem, found=found, fix=fix, line=source.here())


def aval_of(value: Any) -> Aval:
    """The aval of an operand: tracer, array, NumPy array or scalar, Python scalar."""
    if isinstance(value, (Tracer, Array)):
        return value.aval
    if isinstance(value, np.ndarray):
        array = cast("np.ndarray[Any, Any]", value)
        return Aval(array.shape, dtypes.canonicalize(array.dtype))
    return as_array(value).aval


def check_live(tracer: Tracer) -> None:
    """Raises if a tracer is used after its transformation ended."""
    trace = tracer._trace
    if trace.finished:
        raise UnexpectedTracerError(
            f"a traced value {tracer.aval} of {trace.name} is used after {trace.name} returned. "
            "It was stored by a side effect (a global, an attribute, a list of the enclosing "
            "function); return it from the function instead."
            f"\n  used at: {source.here()}"
        )


@contextmanager
def revived(values: Sequence[Any]) -> Generator[None]:
    """Lets values of finished traces be traced again, by whoever replaces them afterwards.

    Args:
        values: tracers among them are of finished traces.
    """
    traces = [v._trace for v in values if isinstance(v, Tracer) and v._trace.finished]
    for trace in traces:
        trace.finished = False
    try:
        yield
    finally:
        for trace in traces:
            trace.finished = True


class ProgramTracer(Tracer):
    """A variable of the program being recorded."""

    __slots__ = ("variable",)

    def __init__(self, trace: ProgramTrace, variable: Variable) -> None:
        self._trace = trace
        self.variable = variable
        self.aval = variable.aval


class ProgramTrace(Trace):
    """Records operations as equations.

    Args:
        parent: the trace that is current outside.
        name: the traced function, for messages.
        capture_arrays: concrete arrays become inputs, like captured tracers, instead of literals.

    Attributes:
        captured: values from outside that became inputs, with their variables.
    """

    __slots__ = ("_atoms", "capture_arrays", "captured", "equations", "inputs")

    def __init__(self, parent: Trace | None, name: str, capture_arrays: bool = False) -> None:
        super().__init__(parent, name)
        self.equations: list[Equation] = []
        self.inputs: list[Variable] = []
        self.captured: list[tuple[Any, Variable]] = []
        self.capture_arrays = capture_arrays
        # By identity; the value keeps the object alive so that its id stays its own.
        self._atoms: dict[int, tuple[Any, Atom]] = {}

    def new_input(self, aval: Aval) -> ProgramTracer:
        """Adds an input to the program."""
        variable = Variable(aval)
        self.inputs.append(variable)
        return ProgramTracer(self, variable)

    def atom(self, value: Any) -> Atom:
        """The variable or literal that stands for an operand."""
        if type(value) is ProgramTracer and value._trace is self:
            if self.finished:
                check_live(value)
            return value.variable
        known = self._atoms.get(id(value))
        if known is not None:
            return known[1]
        atom = self._outside_atom(value)
        self._atoms[id(value)] = (value, atom)
        return atom

    def _outside_atom(self, value: Any) -> Atom:
        if isinstance(value, Tracer):
            check_live(value)
            return self._capture(value, value.aval)
        array = value if isinstance(value, Array) else as_array(value)
        if self.capture_arrays and array.aval.shape != ():
            return self._capture(array, array.aval)
        return Literal(array, array.aval)

    def _capture(self, value: Any, aval: Aval) -> Variable:
        variable = Variable(aval)
        self.captured.append((value, variable))
        return variable

    def process(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        if primitive.prepare is not None:
            args, params = primitive.prepare(args, params)
        inputs = [
            a.variable if type(a) is ProgramTracer and a._trace is self else self.atom(a)
            for a in args
        ]
        avals = primitive.shape(*[a.aval for a in inputs], **params)
        effects = NONE if primitive.effects is None else primitive.effects(**params)
        if primitive.multiple_results:
            outputs = [Variable(aval) for aval in avals]
            result = [ProgramTracer(self, v) for v in outputs]
        else:
            outputs = [Variable(avals)]
            result = ProgramTracer(self, outputs[0])
        self.equations.append(
            Equation(primitive, inputs, outputs, params, effects, current_frame(), _scopes.name)
        )
        if settings.watching:
            batch_axes.update({v: inherited_axes(v.aval.shape) for v in outputs})
        return result

    def finish(self, outputs: Sequence[Any], name: str = "") -> Program:
        """Ends the recording: captured values become the leading inputs."""
        atoms = [self.atom(o) for o in outputs]
        self.finished = True
        inputs = [v for _, v in self.captured] + self.inputs
        return Program(inputs, self.equations, atoms, name)


def trace_program(
    fn: Callable[..., Sequence[Any]],
    avals: Sequence[Aval],
    name: str = "",
    capture_arrays: bool = False,
) -> tuple[Program, list[Any]]:
    """Records a function of flat operands as a program.

    Args:
        fn: takes as many tracers as there are avals, returns a flat sequence of values.
        avals: what the inputs are.
        name: for display and messages.
        capture_arrays: see `ProgramTrace`.

    Returns:
        The program, and the captured values that its leading inputs stand for.
    """
    trace = ProgramTrace(get_trace(), name or getattr(fn, "__name__", "function"), capture_arrays)
    previous = set_trace(trace)
    # Scopes in a program are relative to that of whoever calls it.
    scope, _scopes.name = _scopes.name, ""
    try:
        outputs = list(fn(*[trace.new_input(aval) for aval in avals]))
        program = trace.finish(outputs, name)
    finally:
        trace.finished = True
        _scopes.name = scope
        set_trace(previous)
    return program, [value for value, _ in trace.captured]


class BatchAxis(NamedTuple):
    """A batch axis of a value: the name `vmap` gave it, and where it is."""

    name: Any
    axis: int


batch_axes: weakref.WeakKeyDictionary[Variable, Sequence[BatchAxis]] = weakref.WeakKeyDictionary()
"""The batch axes of variables, noted only while results are checked for NaNs."""


def inherited_axes(shape: Sequence[Any]) -> Sequence[BatchAxis]:
    """The batch axes of a value of this shape that comes of replaying an elementwise equation.

    Its derivative and the transpose of that are elementwise too.
    """
    equation = _scopes.equation
    if equation is None or "elementwise" not in equation.primitive.tags:
        return ()
    result = equation.outputs[0]
    return batch_axes.get(result, ()) if result.aval.shape == tuple(shape) else ()


class replayed:  # noqa: N801  # used like a function
    """Lets what is recorded keep the lines and scopes of the equations it comes from.

    Within the block, call what `with` gives with each equation before it is applied again.
    """

    __slots__ = ("_before",)

    def __enter__(self) -> replayed:
        self._before = (_scopes.frame, _scopes.name, _scopes.caller, _scopes.equation)
        _scopes.caller = source.current_frame()
        return self

    def __call__(self, equation: Equation) -> None:
        frame, name, *_ = self._before
        _scopes.equation = equation
        _scopes.frame = equation.frame or frame
        scope = equation.scope
        if not scope:
            _scopes.name = name
        elif not name or scope.startswith(name):  # it was traced in the same scope
            _scopes.name = scope
        else:
            _scopes.name = f"{name}/{scope}"

    def __exit__(self, *exception: object) -> None:
        _scopes.frame, _scopes.name, _scopes.caller, _scopes.equation = self._before


def eval_program(program: Program, *args: Any) -> list[Any]:
    """Applies a program's equations to operands under the current trace."""
    env: dict[Variable, Any] = dict(zip(program.inputs, args, strict=True))
    with replayed() as replay:
        for equation in program.equations:
            replay(equation)
            operands = [env[a] if type(a) is Variable else a.value for a in equation.inputs]
            results = equation.primitive(*operands, **equation.params)
            if equation.primitive.multiple_results:
                env.update(zip(equation.outputs, results, strict=True))
            else:
                env[equation.outputs[0]] = results
    return [env[a] if type(a) is Variable else a.value for a in program.outputs]
