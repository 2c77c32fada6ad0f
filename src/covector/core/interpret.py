"""The interpreter: runs a program on NumPy arrays by the `evaluate` rules of its primitives.

It says what programs mean. The reference backend is made of it, and so are the `evaluate` rules of
primitives that hold programs, which run them with `run`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.dims import Dim
from covector.core.program import Equation, Literal, Program, Variable
from covector.core.shapes import Binding

NumpyArray = np.ndarray[Any, Any]


def run(program: Program, *args: NumpyArray) -> list[NumpyArray]:
    """The outputs of a program.

    Args:
        program: what to run; symbolic dimensions take their sizes from the arguments.
        args: an array for each input, as `Array` stores them: PRNG keys are words along a trailing
            axis.

    Raises:
        TypeError: an argument is not what the program takes.
        ValueError: the sizes of the arguments do not fit its symbolic dimensions.

    Example:
        >>> from covector.core.parsing import parse
        >>> swap = parse("program (a: f32[2], b: i32[]) {\\n} -> b, a")
        >>> run(swap, np.zeros(2, np.float32), np.array(3, np.int32))
        [array(3, dtype=int32), array([0., 0.], dtype=float32)]
    """
    plan = _plans.get(program)
    if plan is None:
        plan = _plans[program] = _make_plan(program)
    if plan.symbols:
        sizes = _bind_sizes(program, args)
        return run(_with_sizes(program, sizes), *args)
    _check_arguments(plan.inputs, args)
    if _watching.by is not None:
        return _watching.by(program, args)
    # Errors of floating-point arithmetic are results, infinities and NaNs, not warnings.
    with np.errstate(all="ignore"):
        return _execute(plan, args)


Watcher = Callable[[Program, Sequence[NumpyArray]], list[NumpyArray]]


class _Watching(threading.local):
    by: Watcher | None = None


_watching = _Watching()


@contextmanager
def watched_by(watcher: Watcher | None) -> Generator[None]:
    """Lets a function run programs in place of `run` inside the block, `None` for `run` itself."""
    previous, _watching.by = _watching.by, watcher
    try:
        yield
    finally:
        _watching.by = previous


class _Slot(NamedTuple):
    """Where a value is kept, and what it must be."""

    number: int
    shape: tuple[Any, ...]
    dtype: np.dtype[Any]


class _Step(NamedTuple):
    """An equation made ready to run."""

    equation: Equation
    evaluate: Callable[..., Any]
    params: dict[str, Any]
    operands: tuple[int, ...]
    single: _Slot | None
    """Where the result goes, if the rule returns one and not a list."""
    results: tuple[_Slot, ...]
    dead: tuple[int, ...]
    """Slots that no later step reads."""


class _Plan(NamedTuple):
    """A program made ready to run."""

    slots: list[Any]
    """What the slots hold at first: the literals, `None` for everything else."""
    inputs: tuple[_Slot, ...]
    steps: list[_Step]
    outputs: tuple[int, ...]
    symbols: frozenset[str]


_plans: WeakKeyDictionary[Program, _Plan] = WeakKeyDictionary()


def _make_plan(program: Program) -> _Plan:
    slots: list[Any] = []
    numbers: dict[Any, int] = {}

    def number_of(atom: Variable | Literal) -> int:
        number = numbers.get(atom)
        if number is None:
            number = numbers[atom] = len(slots)
            slots.append(atom.value._value if isinstance(atom, Literal) else None)
        return number

    def slot(variable: Variable) -> _Slot:
        return _Slot(number_of(variable), *stored_form(variable.aval))

    inputs = tuple([slot(v) for v in program.inputs])
    unfreed = [
        (e, tuple([number_of(a) for a in e.inputs]), tuple([slot(v) for v in e.outputs]))
        for e in program.equations
    ]
    outputs = tuple([number_of(a) for a in program.outputs])
    steps: list[_Step] = []
    read_later = set(outputs)
    for equation, operands, results in reversed(unfreed):
        dead = tuple({*operands, *[r.number for r in results]} - read_later)
        read_later.update(operands)
        primitive = equation.primitive
        single = None if primitive.multiple_results else results[0]
        steps.append(
            _Step(equation, primitive.evaluate, equation.params, operands, single, results, dead)
        )
    return _Plan(slots, inputs, steps[::-1], outputs, program_symbols(program))


def _execute(plan: _Plan, args: Sequence[NumpyArray]) -> list[NumpyArray]:
    slots = list(plan.slots)
    for slot, value in zip(plan.inputs, args, strict=True):
        slots[slot.number] = value
    for step in plan.steps:
        equation, evaluate, params, operands, single, results, dead = step
        values = evaluate(*[slots[i] for i in operands], **params)
        if single is not None:
            slots[single.number] = _checked(equation, single, values)
        else:
            for slot, value in zip(results, values, strict=True):
                slots[slot.number] = _checked(equation, slot, value)
        for number in dead:
            slots[number] = None
    return [slots[i] for i in plan.outputs]


def stored_form(aval: Aval) -> tuple[tuple[Any, ...], np.dtype[Any]]:
    """Shape and dtype of the NumPy array behind an array: keys have a trailing axis of words."""
    if isinstance(aval.dtype, dtypes.KeyDType):
        return (*aval.shape, aval.dtype.words), dtypes.uint32
    return aval.shape, aval.dtype


def _checked(equation: Equation, slot: _Slot, value: Any) -> NumpyArray:
    array = value if type(value) is np.ndarray else np.asarray(value)
    if array.shape != slot.shape or array.dtype != slot.dtype:
        raise TypeError(
            f"the rules of {equation.primitive.name} contradict each other: "
            f"shape says {_describe(slot)}, "
            f"evaluate returned {array.dtype}{list(array.shape)}\n  at: {equation.place}"
        )
    return array


def _check_arguments(inputs: Sequence[_Slot], args: Sequence[NumpyArray]) -> None:
    if len(args) != len(inputs):
        raise TypeError(f"the program takes {len(inputs)} arguments, got {len(args)}")
    for i, (slot, value) in enumerate(zip(inputs, args, strict=True)):
        if value.shape != slot.shape or value.dtype != slot.dtype:
            raise TypeError(
                f"argument {i} of the program should be {_describe(slot)}, "
                f"found {value.dtype}{list(value.shape)}"
            )


def _describe(slot: _Slot) -> str:
    return f"{slot.dtype}{list(slot.shape)}"


# --- symbolic dimensions ---


def program_symbols(program: Program) -> frozenset[str]:
    """The names of the symbolic dimensions in the shapes and parameters of a program."""
    found: set[str] = set()
    variables = [*program.inputs, *[v for e in program.equations for v in e.outputs]]
    for variable in variables:
        _add_symbols(variable.aval.shape, found)
    for equation in program.equations:
        for value in equation.params.values():
            _add_symbols(value, found)
    return frozenset(found)


def _add_symbols(value: Any, found: set[str]) -> None:
    if isinstance(value, Dim):
        found |= value.symbols
    elif isinstance(value, (tuple, list)):
        for item in cast("Sequence[Any]", value):
            _add_symbols(item, found)
    elif isinstance(value, Program):
        found |= program_symbols(value)
    elif isinstance(value, Aval):
        _add_symbols(value.shape, found)


def _bind_sizes(program: Program, args: Sequence[NumpyArray]) -> dict[str, int]:
    if len(args) != len(program.inputs):
        raise TypeError(f"the program takes {len(program.inputs)} arguments, got {len(args)}")
    binding = Binding()
    for i, (variable, value) in enumerate(zip(program.inputs, args, strict=True)):
        shape, _ = stored_form(variable.aval)
        binding.add(f"argument {i}", shape, value.shape)
    return binding.values()


_specialised: WeakKeyDictionary[Program, dict[Any, Program]] = WeakKeyDictionary()


def _with_sizes(program: Program, sizes: dict[str, int]) -> Program:
    """The program with sizes for its symbols, from memory where that was asked for before."""
    known = _specialised.setdefault(program, {})
    key = tuple(sorted(sizes.items()))
    if key not in known:
        known[key] = substitute(program, sizes)
    return known[key]


def substitute(program: Program, sizes: dict[str, int]) -> Program:
    """A program with sizes in place of the symbolic dimensions of its shapes and parameters."""
    variables: dict[Variable, Variable] = {}

    def new_variable(variable: Variable) -> Variable:
        variables[variable] = Variable(_substitute_value(variable.aval, sizes))
        return variables[variable]

    def atom(old: Variable | Literal) -> Variable | Literal:
        return variables[old] if isinstance(old, Variable) else old

    inputs = [new_variable(v) for v in program.inputs]
    equations = [
        e.replace(
            inputs=[atom(a) for a in e.inputs],
            outputs=[new_variable(v) for v in e.outputs],
            params={k: _substitute_value(v, sizes) for k, v in e.params.items()},
        )
        for e in program.equations
    ]
    return Program(inputs, equations, [atom(a) for a in program.outputs], program.name)


def _substitute_value(value: Any, sizes: dict[str, int]) -> Any:
    if isinstance(value, Dim):
        return value.substitute(sizes)
    if isinstance(value, Aval):
        shape = [_substitute_value(size, sizes) for size in value.shape]
        return Aval(shape, value.dtype, value.weak_type)
    if isinstance(value, Program):
        return substitute(value, sizes)
    if isinstance(value, (tuple, list)):
        items = [_substitute_value(item, sizes) for item in cast("Sequence[Any]", value)]
        return _rebuilt(value, items)
    return value


def _rebuilt(old: Any, items: list[Any]) -> Any:
    """A tuple, named tuple or list of the same class."""
    return type(old)(*items) if hasattr(old, "_fields") else type(old)(items)
