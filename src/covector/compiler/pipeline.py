"""The compiler's pipeline: program passes, then scheduling into one loop IR function."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from covector.compiler import donation, memory, parallel, placed
from covector.compiler.passes.base import Pass
from covector.compiler.passes.branches import Branches
from covector.compiler.passes.constants import Constants
from covector.compiler.passes.contraction import Contraction
from covector.compiler.passes.cse import CommonSubexpressions
from covector.compiler.passes.dce import DeadCode
from covector.compiler.passes.inline import Inline
from covector.compiler.passes.invariants import Invariants
from covector.compiler.passes.lanes import Decision, Lanes
from covector.compiler.passes.late_updates import LateUpdates
from covector.compiler.passes.rolling import Rolling
from covector.compiler.passes.transposes import Transposes
from covector.compiler.schedule import Schedule
from covector.compiler.sizes.generalise import General
from covector.compiler.sizes.policy import SpecialSizes, checked, has_uniform_results
from covector.core import ladder, notes
from covector.core.backend import Donation
from covector.core.config import config
from covector.core.errors import InconclusiveDimension
from covector.core.program import Equation, Program, Variable, symbols_of
from covector.core.verify import verify
from covector.loopir.builder import Builder
from covector.loopir.ir import CallInLanes, Function, SizeInBlock
from covector.loopir.origins import TracingBuilder
from covector.loopir.shrinking import shrink
from covector.loopir.tensor import Stored, Tensor
from covector.loopir.verifier import verify as verify_function
from covector.ops.overwriting import Overwrite

PASSES: tuple[Pass, ...] = (
    Inline(),
    Constants(),
    DeadCode(),
    CommonSubexpressions(),
    Rolling(),
    Invariants(),
    Transposes(),
    LateUpdates(),
)
"""What every program goes through before scheduling, in order."""

LANES = Lanes(width=1, by_cost=True)
"""Native code takes lanes one by one: they become those of its vectors."""

LAST: tuple[Pass, ...] = (Contraction(), DeadCode("late_dce"), Branches())
"""What comes after lanes: their analysis knows sums and products better than what fuses them."""


NAMES = tuple([each.name for each in (*PASSES, LANES, *LAST)])
"""Of all program passes, in order: places for those of users (`compiler/placed.py`)."""


@dataclass
class Scheduled:
    """A program as one loop IR function, with what the run time must know of it.

    Attributes:
        program: after the passes.
        function: the loop IR; its arguments and results are those of the program, in order.
        constants: arrays for its constant buffers, in order.
        sites: message and equation of each run-time check.
        callbacks: Python functions it calls.
        profile: seconds spent by stage.
        decisions: which loops run in lanes, and why others do not.
        applied: what passes of users did, after those of `prepare`.
        symbols: the sizes it is called with, in order.
        scalars: which constants hold each parameter of a general program.
        donations: results in the memory of arguments.
    """

    program: Program
    function: Function
    constants: list[np.ndarray[Any, Any]]
    sites: list[tuple[str, Equation | None]]
    callbacks: list[Any]
    profile: dict[str, float] = field(default_factory=dict[str, float])
    decisions: list[Decision] = field(default_factory=list[Decision])
    applied: list[placed.Applied] = field(default_factory=list[placed.Applied])
    symbols: Sequence[str] = ()
    scalars: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    donations: Sequence[Donation] = ()


def run_passes(
    program: Program, passes: Sequence[Pass] = PASSES, profile: dict[str, float] | None = None
) -> Program:
    """Applies program passes in order, verifying after each with `COVECTOR_CHECK=1`.

    Those whose name is in the setting `disable` are left out. Passes of users run at their places.

    Args:
        program: a valid program.
        passes: what to apply.
        profile: receives the seconds of each pass.

    Returns:
        The rewritten program.
    """
    for each in placed.with_neighbours(passes):
        if each.name in config.disable:
            continue
        start = time.perf_counter()
        program = each.run(program)
        if profile is not None:
            profile[each.name] = profile.get(each.name, 0.0) + time.perf_counter() - start
        ladder.show(ladder.PASSES, f"after {each.name}", program.as_text)
        if config.check:
            verify(program)
    return program


def before_place(program: Program, where: str, neighbour: str) -> Program:
    """A program after the built-in passes that programs have gone through at a place.

    Args:
        program: any program.
        where: "before" or "after".
        neighbour: a built-in pass; lanes and what comes later do not count.
    """
    names = [each.name for each in PASSES]
    count = len(names) if neighbour not in names else names.index(neighbour) + (where == "after")
    with config.override("passes", ()):
        return run_passes(program, PASSES[:count])


def prepare(program: Program, profile: dict[str, float] | None = None) -> Program:
    """The program after the passes that every program goes through."""
    return run_passes(program, PASSES, profile)


def schedule(program: Program, name: str = "entry") -> Scheduled:
    """Compiles a program as far as loop IR.

    Args:
        program: any valid program; symbolic sizes are those of arguments.
        name: symbol of the function.

    Returns:
        The loop IR and what goes with it.

    Raises:
        CompilationError: if a primitive cannot be lowered; names the primitive and user's line.
    """
    profile: dict[str, float] = {}
    return schedule_prepared(prepare(program, profile), profile, name)


def schedule_prepared(
    plain: Program, profile: dict[str, float], name: str = "entry", donated: Sequence[int] = ()
) -> Scheduled:
    """`schedule` of a program that is `prepare`d; inputs in `donated` may be overwritten."""

    def settled(program: Program) -> Program:
        return run_passes(plain, LAST, profile) if has_uniform_results(program) else program

    inputs = _Inputs(name, symbols_of(plain), donated=donated)
    return _scheduled(plain, LANES, profile, inputs, settled)


def schedule_general(
    general: General,
    parameters: Mapping[int, int],
    profile: dict[str, float],
    name: str = "entry",
    donated: Sequence[int] = (),
) -> Scheduled:
    """Compiles a general program as far as loop IR.

    Args:
        general: a prepared program with symbolic sizes.
        parameters: identities of the values of literals that are read at run time, with the
            parameters' numbers.
        profile: receives the seconds of each stage.
        name: symbol of the function.
        donated: numbers of the inputs that may be overwritten.

    Raises:
        SpecialSizes: if the program should be compiled for its own sizes.
    """
    lanes = replace(LANES, values=tuple(general.values.items()))
    inputs = _Inputs(name, tuple(general.values), parameters, donated)
    try:
        return _scheduled(general.program, lanes, profile, inputs, checked)
    except (InconclusiveDimension, SizeInBlock) as problem:
        raise SpecialSizes(str(problem)) from None


class _Inputs(NamedTuple):
    """What a function is given apart from arrays.

    Attributes:
        name: its symbol.
        symbols: the sizes it is called with.
        parameters: see `schedule_general`.
        donated: likewise.
    """

    name: str
    symbols: Sequence[str]
    parameters: Mapping[int, int] = {}
    donated: Sequence[int] = ()


def _scheduled(
    plain: Program,
    lanes: Lanes,
    profile: dict[str, float],
    inputs: _Inputs,
    settled: Callable[[Program], Program],
) -> Scheduled:
    """Lowers a program; `settled` says what to do with what the lanes pass made of it."""
    with notes.collected() as found:
        program = settled(run_passes(plain, (lanes, *LAST), profile))
    start = time.perf_counter()
    while True:
        try:
            lowering, function, held = _lower(program, inputs)
            break
        except CallInLanes as call:  # what contains it stays outside
            fewer = lanes.without(call.equation)
            if fewer == lanes:
                found = [_without_lanes(note, str(call)) for note in found]
                program = settled(run_passes(plain, LAST, profile))
            else:
                with notes.collected() as found:
                    program = settled(run_passes(plain, (fewer, *LAST), profile))
            lanes = fewer
    with notes.collected() as late:
        function, donations = _finished(function, inputs, held)
    profile["schedule"] = time.perf_counter() - start
    if config.check:
        verify_function(function)
    return Scheduled(
        program,
        function,
        lowering.constants,
        lowering.sites,
        lowering.callbacks,
        profile,
        [note for note in found if isinstance(note, Decision)],
        [note for note in (*found, *late) if isinstance(note, placed.Applied)],
        inputs.symbols,
        lowering.scalars,
        donations,
    )


def _without_lanes(note: Any, reason: str) -> Any:
    return replace(note, lanes=0, reason=reason, hint="") if isinstance(note, Decision) else note


def _finished(
    function: Function, inputs: _Inputs, held: list[Donation]
) -> tuple[Function, Sequence[Donation]]:
    """Loop IR with its threads and its memory, passes of users before and after each."""
    function = placed.run_on_loops(function, "after", "schedule")
    function = placed.run_on_loops(function, "before", "threads")
    parallel.choose(function)
    function = placed.run_on_loops(function, "after", "threads")
    donations = donation.share(function, inputs.donated, held)
    function = placed.run_on_loops(function, "before", "memory")
    memory.plan(function)
    return placed.run_on_loops(function, "after", "memory"), donations


def _lower(program: Program, inputs: _Inputs) -> tuple[Schedule, Function, list[Donation]]:
    if config.debug_info:
        builder = TracingBuilder(inputs.name, program.name or "program")
    else:
        builder = Builder(inputs.name)
    lowering = Schedule(builder, inputs.symbols, inputs.parameters)
    held = _lower_entry(lowering, program, inputs.donated)
    shrink(builder)
    parallel.share(builder)
    return lowering, builder.finish(), held


def _lower_entry(lowering: Schedule, program: Program, donated: Sequence[int]) -> list[Donation]:
    """Lowers a program; says which results hold donated inputs from the start."""
    builder = lowering.builder
    lowering.sizes.compute_all(program)
    operands: list[Tensor] = []
    for variable in program.inputs:
        shape, dtype = lowering.extents(variable.aval), lowering.element_dtype(variable.aval)
        operands.append(Stored(builder, builder.argument(dtype, shape), shape))
    results: list[Stored] = []
    for atom in program.outputs:
        shape, dtype = lowering.extents(atom.aval), lowering.element_dtype(atom.aval)
        results.append(Stored(builder, builder.result(dtype, shape), shape))
    targets: dict[Variable, Stored] = {}
    for atom, result in zip(program.outputs, results, strict=True):
        if type(atom) is Variable:
            targets.setdefault(atom, result)
    held = donation.held(program, donated)
    in_place: dict[int, list[tuple[Overwrite, Stored]]] = {}
    for pair, overwrites in held:
        operands[pair.argument] = results[pair.result]
        for each in overwrites:
            own = each, results[pair.result]
            in_place.setdefault(id(each.equation), []).append(own)
    outputs = lowering.lower_program(program, operands, targets, in_place)
    _write_results(lowering, results, outputs)
    return [pair for pair, _ in held]


def _write_results(
    lowering: Schedule, results: Sequence[Stored], outputs: Sequence[Tensor]
) -> None:
    """Stores the outputs that are not in their place yet, those of one shape in one loop nest."""
    groups: dict[tuple[Any, ...], list[tuple[Stored, Tensor]]] = {}
    for result, output in zip(results, outputs, strict=True):
        source = lowering.resolved(output)
        if not (type(source) is Stored and source.buffer is result.buffer):
            groups.setdefault(result.shape, []).append((result, source))
    for shape, members in groups.items():
        lowering.fill_together(shape, members)
