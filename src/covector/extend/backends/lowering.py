"""From a program to one loop IR function, for backends that compile loops."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from covector.compiler.passes.constants import Constants
from covector.compiler.passes.cse import CommonSubexpressions
from covector.compiler.passes.dce import DeadCode
from covector.compiler.passes.inline import Inline
from covector.compiler.pipeline import Scheduled, prepare, run_passes, schedule_prepared
from covector.core.config import config
from covector.core.program import Equation, Program
from covector.extend.backends.capabilities import EVERYTHING, Capabilities, claimed, missing
from covector.loopir import foreign
from covector.loopir.ir import Call, Callback, Function, Item, Value, walk


@dataclass(frozen=True)
class Site:
    """What a check of generated code says when it fails.

    Attributes:
        message: what went wrong.
        place: the user's line and name scopes; empty if neither is known.
    """

    message: str
    place: str

    def error(self) -> RuntimeError:
        """The exception to raise: that of every backend."""
        text = f"{self.message}\n  at: {self.place}" if self.place else self.message
        return RuntimeError(text)


@dataclass(frozen=True)
class Lowered:
    """A program as one loop IR function, with what running it needs.

    Attributes:
        program: after the compiler's passes.
        function: the loop IR. Its argument and result buffers are those of the program, in order
            (`Buffer.index`); its workspace buffers have byte offsets (`Buffer.offset`).
        constants: arrays for its constant buffers, in order, contiguous.
        workspace_bytes: size of the workspace, which is aligned to 64 bytes.
        sites: of its checks and calls, by number.
        callbacks: Python functions that it calls, by number.
        sizes: names of the run-time sizes, in the order of `dim` values.
    """

    program: Program
    function: Function
    constants: Sequence[np.ndarray[Any, Any]]
    workspace_bytes: int
    sites: Sequence[Site]
    callbacks: Sequence[Any]
    sizes: Sequence[str]


def simplified(program: Program, keep: Collection[str] = ()) -> Program:
    """A program without calls of programs, dead equations and what can be computed beforehand.

    Args:
        program: any valid program.
        keep: names of operations of users that stay; for others stands what they are made of.

    Returns:
        An equal one; loops and branches still hold programs, which are simplified too.
    """
    inline = Inline(kept=lambda equation: equation.primitive.name in keep)
    return run_passes(program, (inline, Constants(), DeadCode(), CommonSubexpressions()))


def lower(
    program: Program,
    *,
    backend: str = "a backend",
    capabilities: Capabilities = EVERYTHING,
    threads: bool = False,
    lines: bool = True,
) -> Lowered:
    """Brings a program to loop IR: passes, lanes, fusion, scheduling, memory planning.

    Args:
        program: any valid program; symbolic sizes are those of arguments. Results never take the
            memory of donated arguments.
        backend: its name, for messages.
        capabilities: what it can do; see `claimed`.
        threads: whether loops may be parallel, and have private buffers.
        lines: whether `Function.origins` tells which equations values were made for.

    Returns:
        The function, and what goes with it.

    Raises:
        MissingCapabilityError: if it needs what the backend does not have.
        CompilationError: if a primitive cannot be lowered.

    Example:
        >>> import covector as cv
        >>> from covector.extend.loopir import print_function
        >>> program = cv.make_program(lambda x: 2 * x)(cv.ShapeDtypeStruct((4,), "float32"))
        >>> print(print_function(lower(program).function))
        function entry
          argument a0: f32[4]
          result r0: f32[4]
          for %0 in 0..4 simd {
            %1: f32 = load a0[%0]
            %2: f32 = mul %1, 2.0
            store r0[%0] = %2
          }
    """
    program = claimed(program, backend, capabilities)
    with contextlib.ExitStack() as settings:
        if not threads:
            settings.enter_context(config.override("disable", config.disable | {"threads"}))
        settings.enter_context(config.override("debug_info", lines))
        profile: dict[str, float] = {}
        plain = prepare(program, profile)
        scheduled = schedule_prepared(plain, profile)
    _check_calls(scheduled, backend, capabilities)
    return Lowered(
        scheduled.program,
        scheduled.function,
        [np.require(c, requirements=["C", "A"]) for c in scheduled.constants],
        scheduled.function.workspace_bytes,
        [Site(text, equation.place if equation else "") for text, equation in scheduled.sites],
        scheduled.callbacks,
        scheduled.symbols,
    )


def _check_calls(scheduled: Scheduled, backend: str, capabilities: Capabilities) -> None:
    calls = capabilities.calls
    for item in walk(scheduled.function.body):
        if isinstance(item, Callback) and not capabilities.callbacks:
            found = f"{_name(item.origin)} is computed by a Python function"
            raise missing(backend, "callbacks", found, item.origin)
        symbol = _called(item)
        if symbol is not None and calls is not None and symbol not in calls:
            origins = scheduled.function.origins
            origin = item.origin if isinstance(item, Call) else origins and origins.of(item)
            found = f"{_name(origin)} is compiled to a call of {symbol}"
            raise missing(backend, f"call {symbol}", found, origin)


def _called(item: Item) -> str | None:
    """The function that an item calls, if it is none of C's mathematics."""
    if isinstance(item, Value):
        return item.attr if item.op == "call" and foreign.find(item.attr) else None
    return item.symbol if isinstance(item, Call) else None


def _name(origin: object) -> str:
    return origin.primitive.name if isinstance(origin, Equation) else "an operation"
