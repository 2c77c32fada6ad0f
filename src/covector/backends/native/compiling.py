"""Compilation of programs by LLVM, for all sizes of a batch where that is as good.

Imported where something is compiled: a program from the disk cache runs without the compiler.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from covector.backends.native import cache, engine
from covector.backends.native.compiled import Compiled, sites_of
from covector.backends.native.general import Entry, GeneralCode, parameter_numbers, request
from covector.backends.native.loading import Loaded
from covector.backends.native.signature import is_long
from covector.compiler.pipeline import (
    Scheduled,
    prepare,
    schedule_general,
    schedule_prepared,
)
from covector.compiler.sizes.policy import SpecialSizes
from covector.core import ladder
from covector.core.backend import Options
from covector.core.collection import collection_paused
from covector.core.program import Program


class Stages:
    """Stages of compilation that people may look at.

    Args:
        schedule: goes through the first of them.
        options: of the compilation.
        by_text: look up what LLVM would make of the text.
    """

    def __init__(
        self, schedule: Callable[[], Scheduled], options: Options, by_text: bool = False
    ) -> None:
        with collection_paused():
            self.scheduled = schedule()
            start = time.perf_counter()
            self.code = engine.compile_function(
                self.scheduled.function, options.effort, by_text=by_text
            )
            self.scheduled.profile["llvm"] = time.perf_counter() - start
        _recent.append(self)


_recent: deque[Stages] = deque(maxlen=8)
"""Stages are many times larger than code: those of the latest compilations are kept."""


class Made(NamedTuple):
    """What became of a program.

    Attributes:
        compiled: what is needed to run it.
        profile: seconds spent by stage.
        disk_cache: see `NativeExecutable`.
        recognised: whether its code was there before, for another size.
        loaded: the code in memory.
        callbacks: Python functions it calls.
        stages: of its compilation.
        entry: of code for all sizes.
    """

    compiled: Compiled
    profile: dict[str, float]
    disk_cache: str
    recognised: bool
    loaded: Loaded
    callbacks: Sequence[Any]
    stages: Stages | None
    entry: Entry | None = None


class Compiler:
    """Compiles programs, and remembers those whose code is for all sizes.

    Attributes:
        compilations: how many LLVM has compiled.
    """

    def __init__(self) -> None:
        self.compilations = 0
        self._general = GeneralCode()

    def forget(self) -> None:
        """Forgets code for all sizes; executables that use it keep it."""
        self._general = GeneralCode()

    def compile(self, program: Program, options: Options, key: str | None) -> Made:
        """Compiles a program.

        Args:
            program: as it was traced.
            options: what to trade.
            key: of the disk cache; `None` if it has none.

        Returns:
            The code, and what goes with it.
        """
        profile: dict[str, float] = {}
        with collection_paused():
            plain = prepare(program, profile)
            made = self._for_all_sizes(program, plain, options, profile)
        if made is None:
            stages = Stages(
                lambda: schedule_prepared(plain, profile, donated=options.overwritten),
                options,
                by_text=key is None,
            )
            made = self._made(program, stages, profile)
        if key is not None and not made.recognised and not made.callbacks:
            start = time.perf_counter()
            cache.store_program(key, made.compiled, program)
            profile["disk_cache"] = time.perf_counter() - start
        return made

    def _for_all_sizes(
        self, program: Program, plain: Program, options: Options, profile: dict[str, float]
    ) -> Made | None:
        """Code for all sizes, recognised or new; `None` if the program is for its own."""
        start = time.perf_counter()
        wanted = request(plain, options)
        if wanted is None:
            return None
        entry = self._general.find(wanted)
        profile["sizes"] = time.perf_counter() - start
        general, sizes = wanted.general, tuple(wanted.general.values.values())
        values = wanted.scalars.values
        if entry is not None:
            compiled = entry.at(values, sizes)
            loaded, callbacks = entry.loaded, entry.callbacks
            return Made(compiled, profile, "off", True, loaded, callbacks, None, entry)
        chosen = self._general.parameters(wanted)
        numbers = parameter_numbers(wanted.scalars, chosen)
        try:
            stages = Stages(
                lambda: schedule_general(general, numbers, profile, donated=options.overwritten),
                options,
                True,
            )
        except SpecialSizes as problem:
            reason = str(problem)
            ladder.show(ladder.PASSES, "compiled for its sizes", lambda: reason)
            return None
        made = self._made(program, stages, profile, sizes)
        places = stages.scheduled.scalars
        entry = Entry(values, chosen, places, made.compiled, made.loaded, made.callbacks)
        self._general.add(wanted, entry)
        return made._replace(entry=entry)

    def _made(
        self,
        program: Program,
        stages: Stages,
        profile: dict[str, float],
        sizes: tuple[int, ...] | None = None,
    ) -> Made:
        scheduled, code = stages.scheduled, stages.code
        if sizes is None and not scheduled.symbols:
            sizes = ()
        compiled = Compiled(
            code.machine,
            scheduled.function.workspace_bytes,
            is_long(scheduled.function, sizes),
            scheduled.constants,
            sites_of(program, scheduled.sites),
            sizes,
            scheduled.donations,
        )
        self.compilations += not code.was_kept
        status = "partial" if code.was_kept else "miss" if cache.enabled() else "off"
        return Made(compiled, profile, status, False, code.loaded, scheduled.callbacks, stages)


def stages_of(program: Program, options: Options) -> Stages:
    """The stages of a program's compilation, gone through again for people to look at.

    Args:
        program: as it was traced.
        options: of its compilation.
    """
    return Stages(lambda: scheduled_again(program, options), options)


def scheduled_again(program: Program, options: Options) -> Scheduled:
    """A program as it was scheduled when it was compiled; see `stages_of`."""
    profile: dict[str, float] = {}
    plain = prepare(program, profile)
    wanted = request(plain, options)
    if wanted is not None:
        numbers = parameter_numbers(wanted.scalars, GeneralCode().parameters(wanted))
        try:
            donated = options.overwritten
            return schedule_general(wanted.general, numbers, profile, donated=donated)
        except SpecialSizes:
            pass
    return schedule_prepared(plain, profile, donated=options.overwritten)


compiler = Compiler()
"""Of this process."""
