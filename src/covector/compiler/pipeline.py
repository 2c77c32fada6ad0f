"""The compiler's pipeline: program passes, then scheduling into one loop IR function."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from covector.compiler import memory, parallel
from covector.compiler.passes.base import Pass
from covector.compiler.passes.constants import Constants
from covector.compiler.passes.contraction import Contraction
from covector.compiler.passes.cse import CommonSubexpressions
from covector.compiler.passes.dce import DeadCode
from covector.compiler.passes.inline import Inline
from covector.compiler.passes.lanes import Decision, Lanes
from covector.compiler.passes.late_updates import LateUpdates
from covector.compiler.passes.transposes import Transposes
from covector.compiler.schedule import Schedule
from covector.core import ladder, notes
from covector.core.config import config
from covector.core.program import Equation, Program, Variable
from covector.core.verify import verify
from covector.loopir.builder import Builder
from covector.loopir.ir import CallInLanes, Function
from covector.loopir.shrinking import shrink
from covector.loopir.tensor import Stored, Tensor
from covector.loopir.verifier import verify as verify_function

PASSES: tuple[Pass, ...] = (
    Inline(),
    Constants(),
    DeadCode(),
    CommonSubexpressions(),
    Transposes(),
    LateUpdates(),
)
"""What every program goes through before scheduling, in order."""

LANES = Lanes(width=1)
"""Native code takes lanes one by one: they become those of its vectors."""

LAST: tuple[Pass, ...] = (Contraction(), DeadCode())
"""What comes after lanes: their analysis knows sums and products better than what fuses them."""


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
    """

    program: Program
    function: Function
    constants: list[np.ndarray[Any, Any]]
    sites: list[tuple[str, Equation | None]]
    callbacks: list[Any]
    profile: dict[str, float] = field(default_factory=dict[str, float])
    decisions: list[Decision] = field(default_factory=list[Decision])


def run_passes(
    program: Program, passes: Sequence[Pass] = PASSES, profile: dict[str, float] | None = None
) -> Program:
    """Applies program passes in order, verifying after each with `COVECTOR_CHECK=1`.

    Those whose name is in the setting `disable` are left out.

    Args:
        program: a valid program.
        passes: what to apply.
        profile: receives the seconds of each pass.

    Returns:
        The rewritten program.
    """
    for each in passes:
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


def schedule(program: Program, name: str = "entry") -> Scheduled:
    """Compiles a program as far as loop IR.

    Args:
        program: any valid program.
        name: symbol of the function.

    Returns:
        The loop IR and what goes with it.

    Raises:
        CompilationError: if a primitive cannot be lowered; names the primitive and user's line.
    """
    profile: dict[str, float] = {}
    plain = run_passes(program, PASSES, profile)
    with notes.collected() as decisions:
        program = run_passes(plain, (LANES, *LAST), profile)
    start = time.perf_counter()
    lanes = LANES
    while True:
        try:
            lowering, function = _lower(program, name)
            break
        except CallInLanes as call:  # what contains it stays outside
            fewer = lanes.without(call.equation)
            if fewer == lanes:
                decisions = [replace(d, lanes=0, reason=str(call)) for d in decisions]
                program = run_passes(plain, LAST, profile)
            else:
                with notes.collected() as decisions:
                    program = run_passes(plain, (fewer, *LAST), profile)
            lanes = fewer
    parallel.choose(function)
    memory.plan(function)
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
        decisions,
    )


def _lower(program: Program, name: str) -> tuple[Schedule, Function]:
    builder = Builder(name)
    lowering = Schedule(builder)
    _lower_entry(lowering, program)
    shrink(builder)
    parallel.share(builder)
    return lowering, builder.finish()


def _lower_entry(lowering: Schedule, program: Program) -> None:
    builder = lowering.builder
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
    outputs = lowering.lower_program(program, operands, targets)
    _write_results(lowering, results, outputs)


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
