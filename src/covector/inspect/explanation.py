"""Reports on compiled functions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from covector import _native
from covector.compiler.costs import cost_of
from covector.compiler.passes.lanes import Decision
from covector.compiler.pipeline import Scheduled
from covector.compiler.placed import Applied
from covector.compiler.sizes.generalise import with_numbers
from covector.core import notes, pytree
from covector.core.errors import compose
from covector.core.program import Program
from covector.core.trace import Tracer
from covector.inspect.extents import Extents
from covector.inspect.machine import Machine, this_machine
from covector.inspect.nests import BufferUse, Nest, buffers_of, nests_of
from covector.inspect.sections import chosen_sections
from covector.inspect.work import work_of
from covector.loopir.ir import For, walk
from covector.ops.nested import nbytes
from covector.ops.residuals import Saved
from covector.transforms.donation import kept_alive
from covector.transforms.stages import Compiled, ShapeDtypeStruct, canonical

TRANSCENDENTAL_FLOPS = 20.0
"""Operations that an elementary function of one element counts for in estimates of time."""

CACHED = 1 << 20
"""Bytes of arguments, results and temporary arrays that caches are taken to hold: reading those
takes no time in estimates."""

RUN_SECONDS = 0.5
"""About how long a call is repeated to measure it."""


@dataclass(frozen=True)
class Memory:
    """The memory of a call, in bytes.

    Attributes:
        arguments: of the arrays it is given.
        results: of those it returns.
        constants: of those it contains.
        workspace: for temporary arrays; those not needed at the same time share places.
        private: for temporary arrays that each thread has for itself, of all threads.
    """

    arguments: int
    results: int
    constants: int
    workspace: int
    private: int

    @property
    def temporary(self) -> int:
        """Of all temporary arrays."""
        return self.workspace + self.private

    @property
    def peak(self) -> int:
        """All of it together; what libraries allocate for themselves is not known."""
        return self.arguments + self.results + self.constants + self.temporary


@dataclass(frozen=True)
class Costs:
    """The work of a call.

    Attributes:
        flops: additions, multiplications and the like.
        transcendentals: elements of functions such as `exp`.
        accessed: bytes, if each equation read its operands from memory and wrote its results.
        moved: bytes of arguments and results alone: less than that cannot be moved.
        wide: whether most operations are on 64 bits.
        unbounded_loops: how many `while` loops there are, of which one iteration is counted.
        uncounted: functions of libraries whose work is not known.
    """

    flops: float
    transcendentals: float
    accessed: float
    moved: int
    wide: bool
    unbounded_loops: int
    uncounted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """The least time of a call, as far as arithmetic and memory limit it.

    Attributes:
        arithmetic: seconds for the operations, on all cores that share in them, at their peak.
        memory: seconds for reading arguments and writing results, 0 if caches hold them.
        cores: how many share in the operations.
    """

    arithmetic: float
    memory: float
    cores: int

    @property
    def seconds(self) -> float:
        """The larger of both: they can overlap."""
        return max(self.arithmetic, self.memory)

    @property
    def limit(self) -> str:
        """What takes longer."""
        return "memory" if self.memory > self.arithmetic else "arithmetic"


class Report:
    """What a function compiled to for some arguments, and why; `str` of it is the text.

    Everything comes from what compilation did. What is not kept with compiled code, as that of a
    former process from the disk cache, is made by scheduling the program again.

    Attributes:
        name: of the function.
        sections: those in the text.
        program: as it was traced.
        saved: what derivatives keep of loops and checkpoints.
        measured: seconds of the fastest call measured; `None` if none was.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> report = cv.jit(lambda x: cnp.exp(-x * x)).explain(cnp.ones(1000))
        >>> len(report.nests), report.costs.transcendentals, report.memory.peak
        (1, 1000.0, 8000)
        >>> print(report.text("lanes"))
        lanes: which loops run in lanes, and why others do not
          The program has no loops of its own: operations on arrays run in vectors.
    """

    def __init__(
        self, compiled: Compiled, sections: tuple[str, ...], whole: bool, measured: float | None
    ) -> None:
        self._compiled = compiled
        self._whole = whole
        self.sections = sections
        self.name = compiled._compiler.name
        self.program = compiled._call.program
        self.saved = [n for n in compiled._call.notes if isinstance(n, Saved)]
        self.measured = measured

    @property
    def _executable(self) -> Any:
        return self._compiled._executable

    @cached_property
    def scheduled(self) -> Scheduled | None:
        """What scheduling made of the program; `None` from backends that have none."""
        return self._scheduled_and_noted[0]

    @cached_property
    def _scheduled_and_noted(self) -> tuple[Scheduled | None, list[Applied]]:
        scheduled = getattr(self._executable, "scheduled", None)
        if scheduled is None:
            return None, []
        with notes.collected() as early:
            made: Scheduled = scheduled()
        return made, [n for n in (*early, *made.applied) if isinstance(n, Applied)]

    @property
    def applied(self) -> list[Applied]:
        """What passes of users did, in order; `fired` has how often each of their rules did."""
        return self._scheduled_and_noted[1]

    @cached_property
    def _extents(self) -> Extents:
        return Extents(getattr(self._executable, "sizes", ()))

    @cached_property
    def optimized(self) -> Program:
        """The program after the passes, with numbers for the sizes of a batch."""
        if self.scheduled is None:
            return self.program
        sizes = zip(self.scheduled.symbols, self._executable.sizes, strict=True)
        numbers = {symbol: size for symbol, size in sizes if size is not None}
        program = self.scheduled.program
        return with_numbers(program, numbers) if numbers else program

    @cached_property
    def nests(self) -> list[Nest]:
        """The loop nests, in order."""
        return (
            [] if self.scheduled is None else nests_of(self.scheduled.function.body, self._extents)
        )

    @cached_property
    def buffers(self) -> list[BufferUse]:
        """The arrays in memory: arguments, results, constants and temporary ones."""
        return [] if self.scheduled is None else buffers_of(self.scheduled.function, self._extents)

    @property
    def decisions(self) -> list[Decision]:
        """For loops of the program, whether they run in lanes, and why."""
        return [] if self.scheduled is None else self.scheduled.decisions

    @property
    def parts(self) -> Sequence[Any]:
        """The parts of the program that a device runs (`covector.extend.backends.offload`)."""
        return getattr(self._executable, "parts", ())

    @property
    def transfers(self) -> Mapping[int, Any]:
        """What was moved for each part in the last call, by its number; empty without a call."""
        return getattr(self._executable, "transfers", {})

    @property
    def threads(self) -> int:
        """How many threads a call may use."""
        return _native.get_num_threads()

    @cached_property
    def memory(self) -> Memory:
        """How much memory a call takes."""
        program = self.program
        kept = self._compiled._call.kept
        inputs = program.input_avals if kept is None else [program.input_avals[k] for k in kept]
        constants = private = workspace = 0
        if self.scheduled is not None:
            loops = [i for i in walk(self.scheduled.function.body) if isinstance(i, For)]
            constants = sum([c.nbytes for c in self.scheduled.constants])
            private = self.threads * max([loop.private_bytes for loop in loops], default=0)
            heap = [b.nbytes or 0 for b in self.buffers if b.space == "heap"]
            workspace = self._executable.workspace_bytes + sum(heap)
        return Memory(
            sum([nbytes(a) for a in inputs]),
            sum([nbytes(a) for a in program.output_avals]),
            constants,
            workspace,
            private,
        )

    @cached_property
    def costs(self) -> Costs:
        """The work of a call: operations of the loop IR, or of equations where there is none."""
        cost = cost_of(self.optimized)
        moved = self.memory.arguments + self.memory.results
        if self.scheduled is None:
            flops, elements = cost["flops"], cost["transcendentals"]
            loops = cost["unbounded loops"]
            return Costs(flops, elements, cost["bytes accessed"], moved, False, loops)
        work = work_of(self.scheduled.function, self._extents)
        return Costs(
            sum(work.flops.values()),
            work.transcendentals,
            cost["bytes accessed"],
            moved,
            work.flops[8] > work.flops[4],
            work.unbounded_loops,
            tuple(sorted(work.uncounted)),
        )

    @property
    def machine(self) -> Machine:
        """What this machine can do at most, measured when first asked for."""
        return this_machine()

    @cached_property
    def estimate(self) -> Estimate:
        """The least time that a call takes on this machine."""
        machine, costs, memory = self.machine, self.costs, self.memory
        shared = any(n.parallel or n.is_library for nest in self.nests for n in nest.walk())
        cores = min(self.threads, machine.cores) if shared else 1
        peak = cores * (machine.flops64 if costs.wide else machine.flops32)
        flops = costs.flops + TRANSCENDENTAL_FLOPS * costs.transcendentals
        held = costs.moved + memory.temporary <= CACHED
        return Estimate(flops / peak, 0.0 if held else costs.moved / machine.bandwidth, cores)

    @property
    def profile(self) -> dict[str, float]:
        """Seconds of each stage of compilation; tracing first."""
        stages: dict[str, float] = getattr(self._executable, "profile", {})
        return {"trace": self._compiled._call.seconds, **stages}

    @property
    def disk_cache(self) -> str:
        """What the disk cache did: "hit", "miss", "partial" or "off"."""
        return getattr(self._executable, "disk_cache", "off")

    def listing(self, section: str) -> str:
        """The text of the program or code in a stage.

        Args:
            section: "program", "optimized", "loopir", "llvm" or "assembly".

        Returns:
            All of its lines.
        """
        if section in ("program", "optimized"):
            return str(self.program if section == "program" else self.optimized)
        return self._compiled.as_text(section)

    def text(self, sections: str | Sequence[str] | None = None) -> str:
        """The report as plain text.

        Args:
            sections: some of them; by default those the report was made for.

        Returns:
            Lines of about a hundred characters, those of listings as long as they are.

        Raises:
            ValueError: if there is no such section.
        """
        from covector.inspect.render import as_text

        if sections is None:
            return as_text(self, self.sections, self._whole)
        return as_text(self, chosen_sections(sections), True)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Report on {self.name}: {', '.join(self.sections)}>"

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from covector.inspect.render import renderables

        yield from renderables(self, self.sections, self._whole)

    def _repr_html_(self) -> str:
        from covector.inspect.render import as_html

        return as_html(self, self.sections, self._whole)


def explain(compiled: Compiled, sections: str | Sequence[str] | None, args: Any) -> Report:
    """The report on a compiled function.

    Args:
        compiled: the function.
        sections: which parts; see `chosen_sections`.
        args: positional and keyword arguments to measure calls with, or `None`.

    Returns:
        The report.

    Raises:
        ValueError: for a section that there is not, or arguments that are no arrays.
    """
    chosen = chosen_sections(sections)
    if sections is None and not getattr(compiled._executable, "parts", ()):
        chosen = tuple([name for name in chosen if name != "offload"])
    measured = None if args is None else _measured(compiled, *args)
    return Report(compiled, chosen, sections is not None, measured)


def _measured(compiled: Compiled, args: Sequence[Any], kwargs: dict[str, Any]) -> float:
    leaves = pytree.leaves((args, kwargs))
    if wrong := [x for x in leaves if isinstance(x, (ShapeDtypeStruct, Tracer))]:
        raise ValueError(
            compose(
                f"explain of {compiled._compiler.name}: nothing can be run without arrays",
                found=f"an argument is {wrong[0]!r}",
                fix="pass arrays, or leave out run=True",
            )
        )
    leaves, _ = compiled._compiler.flatten(args, kwargs)
    leaves, call = canonical(leaves), compiled._call

    def arguments() -> list[Any]:
        given = kept_alive(leaves, call.donated)
        return given if call.kept is None else [given[k] for k in call.kept]

    compiled._executable(*arguments())
    best, end = float("inf"), time.perf_counter() + RUN_SECONDS
    while True:
        given = arguments()
        start = time.perf_counter()
        compiled._executable(*given)
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end:
            return best
