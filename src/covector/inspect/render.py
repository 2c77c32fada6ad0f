"""Reports as text, for terminals, files and notebooks."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from covector.core.config import config
from covector.core.program import Equation, count_equations
from covector.core.source import SourceLocation, resolve
from covector.inspect.explanation import TRANSCENDENTAL_FLOPS, Report
from covector.inspect.nests import Nest
from covector.inspect.sections import LISTINGS, SECTIONS
from covector.ops.nested import nbytes
from covector.ops.residuals import Saved

WIDTH = 100
CUT = 24
"""Lines of listings and tables that are shown unless their section was asked for."""


def as_text(report: Report, sections: Sequence[str], whole: bool) -> str:
    """Plain text.

    Args:
        report: the report.
        sections: their names.
        whole: whether listings and tables are shown with all of their lines.
    """
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, legacy_windows=False)
    return _printed(console, report, sections, whole)


def as_html(report: Report, sections: Sequence[str], whole: bool) -> str:
    """HTML for notebooks; see `as_text`."""
    console = Console(file=io.StringIO(), width=WIDTH, record=True, force_jupyter=False)
    _printed(console, report, sections, whole)
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def _printed(console: Console, report: Report, sections: Sequence[str], whole: bool) -> str:
    for part in renderables(report, sections, whole):
        console.print(part, soft_wrap=isinstance(part, Text) and part.no_wrap is True)
    file = console.file
    assert isinstance(file, io.StringIO)
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    return "\n".join(lines).strip("\n")


def renderables(report: Report, sections: Sequence[str], whole: bool) -> Iterator[Any]:
    """What rich prints; see `as_text`."""
    for number, section in enumerate(sections):
        head = Text("\n" if number else "")
        yield head.append(section, style="bold").append(f": {SECTIONS[section]}", style="dim")
        if section in LISTINGS:
            yield _listing(report.listing(section), section, whole)
            continue
        known = report.scheduled is not None or section not in _OF_THE_COMPILER
        for part in _RENDERED[section](report, whole) if known else [_UNKNOWN]:
            yield Padding(Text(part) if isinstance(part, str) else part, (0, 0, 0, 2))


_OF_THE_COMPILER = ("passes", "fusion", "lanes", "memory", "threads")
_UNKNOWN = "The backend does not say."


def _listing(text: str, section: str, whole: bool) -> Text:
    lines = text.splitlines()
    if not whole and len(lines) > CUT:
        lines = [*lines[:CUT], f"... {len(lines) - CUT} more lines: sections={section!r}"]
    return Text("\n".join([f"  {line}" for line in lines]), no_wrap=True, overflow="ignore")


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


# --- words ----------------------------------------------------------------------------------------


def size(count: float) -> str:
    """A number of bytes: `size(12_000)` is "12 kB"."""
    return _scaled(count, "B") if count >= 1000 else f"{count:.0f} bytes"


def duration(seconds: float) -> str:
    """A time: `duration(0.0123)` is "12.3 ms"."""
    for unit, length in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _scaled(count: float, unit: str) -> str:
    for prefix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {prefix}{unit}"
    return f"{count:.0f} {unit}"


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _plural(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _line(location: SourceLocation | None) -> str:
    return "" if location is None else f"{os.path.basename(location.file)}:{location.line}"


def _lines(equations: Iterable[Equation]) -> str:
    """The user's lines, those of one file together: "model.py:3,4,7"."""
    by_file: dict[str, dict[int, None]] = {}
    for equation in equations:
        if (location := equation.location) is not None:
            by_file.setdefault(os.path.basename(location.file), {})[location.line] = None
    return " ".join([f"{f}:{','.join(map(str, sorted(n)))}" for f, n in by_file.items()])


def _names(names: Iterable[str]) -> str:
    """Names with how often they appear: "sin, 2 mul"."""
    return ", ".join([name if n == 1 else f"{n} {name}" for name, n in Counter(names).items()])


def _extents(nest: Nest) -> str:
    text = " x ".join(["?" if extent is None else str(extent) for extent in nest.extents])
    return text if nest.kind == "for" else nest.kind


# --- sections -------------------------------------------------------------------------------------


def _summary(report: Report, whole: bool) -> Iterator[Any]:
    inputs = ", ".join(map(str, report.program.input_avals))
    outputs = ", ".join(map(str, report.program.output_avals))
    memory, costs, estimate = report.memory, report.costs, report.estimate
    yield f"{report.name}({inputs}) -> {outputs}"
    yield (
        f"{_plural(count_equations(report.program), 'equation')} traced, "
        f"{count_equations(report.optimized)} after the passes, in {_shape_of_code(report)}"
    )
    if report.decisions:
        laned = sum([d.lanes > 0 for d in report.decisions])
        yield f"{laned} of {_plural(len(report.decisions), 'loop')} in lanes"
    yield f"memory at most {size(memory.peak)}, {size(memory.temporary)} of it temporary arrays"
    yield (
        f"{_scaled(costs.flops, 'flop')}, {_count(costs.transcendentals)} calls of elementary "
        f"functions: at least {duration(estimate.seconds)} on this machine, "
        f"limited by {estimate.limit}"
        + (" (one iteration of while loops counted)" if costs.unbounded_loops else "")
    )
    if report.measured is not None:
        yield f"measured: {_measured(report)}"
    total = sum(report.profile.values())
    yield f"traced and compiled in {duration(total)}; disk cache: {report.disk_cache}"


def _shape_of_code(report: Report) -> str:
    if report.scheduled is None:
        return "a backend that tells nothing of its code"
    loops = [n for n in report.nests if n.kind in ("for", "while")]
    temporary = [b for b in report.buffers if b.space in ("workspace", "private", "heap")]
    nests = _plural(len(loops), "loop nest")
    return f"{nests} with {_plural(len(temporary), 'temporary array')}"


def _measured(report: Report) -> str:
    assert report.measured is not None
    text = duration(report.measured)
    if report.estimate.seconds > 0 and not report.costs.unbounded_loops:
        ratio = report.measured / report.estimate.seconds
        text += f", {ratio:.3g} times the estimate"
        if ratio < 1:
            text += " (this machine was busy when its peak was measured: see docs/explain.md)"
    return text


def _fusion(report: Report, whole: bool) -> Iterator[Any]:
    fused = [n for n in report.nests if n.equations]
    equations = {e: None for n in fused for e in n.equations}
    if not fused:
        yield "There are no loops: everything is scalar code."
        return
    yield (
        f"{_plural(len(equations), 'equation')} in {_plural(len(fused), 'loop nest')}; "
        "those in one line share a nest, and pass values in registers."
    )
    table = _table("nest", "iterations", "computes", "lines", "reads", "writes")
    rows = [row for k, nest in enumerate(report.nests) for row in _nest_rows(nest, str(k + 1), 0)]
    for row in rows if whole else rows[:CUT]:
        table.add_row(*row)
    yield table
    if not whole and len(rows) > CUT:
        yield f"... {len(rows) - CUT} more: sections='fusion'"


def _nest_rows(nest: Nest, number: str, depth: int) -> Iterator[tuple[str, ...]]:
    inner = [n for n in nest.inner if n.kind != "if" or n.inner]
    below = {e for n in inner for e in n.equations}
    own = [e for e in nest.equations if e not in below]
    yield (
        "  " * depth + number,
        _extents(nest),
        _names([e.primitive.name for e in own]) or ("" if inner or nest.is_library else "(copies)"),
        _lines(own),
        _few(nest.reads),
        _few(nest.writes),
    )
    for k, each in enumerate(inner):
        yield from _nest_rows(each, f"{number}.{k + 1}", depth + 1)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _offload(report: Report, whole: bool) -> Iterator[Any]:
    if not report.parts:
        yield "Everything runs on the processor."
        return
    numbers = ("to the device", "back", "in the last call")
    table = _table("part", "operations", "in", "line", *numbers, right=numbers)
    for part in report.parts:
        names = [e.primitive.name for e in part.program.equations]
        moved = report.transfers.get(part.number)
        table.add_row(
            part.name,
            _few(names) if not whole else _names(names),
            ", ".join(part.path) or "the program",
            _lines([part.equation]),
            size(part.bytes_in),
            size(part.bytes_out),
            "not called" if moved is None else f"{_plural(moved.runs, 'run')}",
        )
    yield table
    for part in report.parts:
        if (moved := report.transfers.get(part.number)) is not None:
            yield (
                f"{part.name}: {_plural(moved.uploads, 'array')} to the device, "
                f"{size(moved.uploaded_bytes)}; {_plural(moved.downloads, 'array')} back, "
                f"{size(moved.downloaded_bytes)}; {moved.resident} times an operand was there"
            )


def _passes(report: Report, whole: bool) -> Iterator[Any]:
    if not report.applied:
        yield "There are none besides the built-in ones (covector.extend.passes)."
        return
    table = _table("pass", "place", "rule", "applied", "size before", "after", right=("applied",))
    for each in report.applied:
        sizes = str(each.before), str(each.after)
        rows = [(fired.rule, f"{fired.times} times") for fired in each.fired] or [("", "")]
        for number, row in enumerate(rows):
            own = (each.name, each.place) if number == 0 else ("", "")
            table.add_row(*own, *row, *(sizes if number == 0 else ("", "")))
    yield table


def _lanes(report: Report, whole: bool) -> Iterator[Any]:
    if not report.decisions:
        yield (
            "Lanes are turned off (disable)."
            if "lanes" in config.disable
            else "The program has no loops of its own: operations on arrays run in vectors."
        )
    for decision, count in Counter(report.decisions).items():
        yield f"{decision}" + (f" ({count} such loops)" if count > 1 else "")


def _residuals(report: Report, whole: bool) -> Iterator[Any]:
    if not report.saved:
        yield "No loop and no checkpoint is differentiated in reverse mode."
    for saved in report.saved:
        yield from _saved(saved)


def _saved(saved: Saved) -> Iterator[Any]:
    each = sum([nbytes(aval) for aval, _, _ in saved.kept])
    copies = saved.copies if isinstance(saved.copies, int) else None
    unit = {"scan": "iterations", "while": "slots"}.get(saved.what)
    head = f"{saved.what} at {_line(resolve(saved.frame)) or 'an unknown line'}"
    if not saved.kept:
        yield f"{head}: nothing is kept but what is there anyway"
    elif unit is None:
        yield f"{head}: {size(each)} kept"
    elif saved.segments:
        lengths = " of ".join(map(str, saved.segments))
        yield (
            f"{head}: in segments of {lengths} iterations; {size(each)} kept of each "
            f"iteration of one segment at a time, where all {copies} iterations would be "
            f"{size(each * (copies or 1))}"
        )
    else:
        total = "" if copies is None else f", {size(each * copies)} in all"
        yield f"{head}: {size(each)} kept in each of {saved.copies} {unit}{total}"
    for aval, maker, frame in saved.kept:
        place = _line(resolve(frame))
        origin = f"{maker} at {place}" if place else maker or "given: a carry, const or argument"
        yield f"  kept: {aval}, {origin}"
    if saved.again:
        yield f"  computed again: {_names([name for name, _ in saved.again])}"


def _memory(report: Report, whole: bool) -> Iterator[Any]:
    memory = report.memory
    yield (
        f"at most {size(memory.peak)}: arguments {size(memory.arguments)}, results "
        f"{size(memory.results)}, constants {size(memory.constants)}, temporary arrays "
        f"{size(memory.workspace)}"
        + (f", arrays of {report.threads} threads {size(memory.private)}" * (memory.private > 0))
    )
    for b in report.buffers:
        if b.space == "result" and b.donated:
            yield f"{b.name} {b.array}: {b.reason}"
    temporary = [b for b in report.buffers if b.space in ("workspace", "private", "heap")]
    if not temporary:
        yield "There are no temporary arrays: all other values stay in registers."
        return
    total = sum([b.nbytes or 0 for b in temporary if b.space == "workspace"])
    if total > memory.workspace:
        yield f"temporary arrays of {size(total)} share these places, one after the other"
    table = _table(
        "array", "dtype and shape", "size", "of", "line", "in memory because", right="size"
    )
    temporary.sort(key=lambda b: -1 if b.nbytes is None else b.nbytes, reverse=True)
    for b in temporary if whole else temporary[:12]:
        maker = b.equation.primitive.name if b.equation else ""
        place = _line(b.equation.location) if b.equation else ""
        extent = "known at run time" if b.nbytes is None else size(b.nbytes)
        table.add_row(b.name, b.array, extent, maker, place, b.reason)
    yield table
    if not whole and len(temporary) > 12:
        yield f"... {len(temporary) - 12} smaller ones: sections='memory'"


def _threads(report: Report, whole: bool) -> Iterator[Any]:
    from covector.compiler.parallel import WORTHWHILE

    if not report.nests:
        yield "There are no loops."
        return
    yield f"a call may use {_plural(report.threads, 'thread')}"
    table = _table("nest", "iterations", "estimated", "decision", right=("estimated",))
    for k, nest in enumerate(report.nests if whole else report.nests[:CUT]):
        pieces = [n.pieces for n in nest.walk() if n.parallel]
        if nest.is_library:
            python = nest.kind == "Python function"
            decision = "on the calling thread" if python else "libraries have threads of their own"
        elif pieces:
            where = "" if nest.parallel else " inside"
            decision = f"shared in {_plural(max(pieces), 'piece')}{where}"
        elif "threads" in config.disable:
            decision = "on one thread: threads are turned off (disable)"
        elif nest.nanoseconds < WORTHWHILE:
            decision = f"on one thread: waking others pays from {duration(WORTHWHILE * 1e-9)} on"
        elif not nest.fixed:
            decision = "on one thread: its length is known at run time only (fixed_size_argnums)"
        else:
            decision = "on one thread: iterations build on each other, or a library runs in them"
        estimated = "" if nest.is_library else duration(nest.nanoseconds * 1e-9)
        table.add_row(str(k + 1), _extents(nest), estimated, decision)
    yield table


def _costs(report: Report, whole: bool) -> Iterator[Any]:
    costs, estimate, machine = report.costs, report.estimate, report.machine
    peak = machine.flops64 if costs.wide else machine.flops32
    table = _table("", "work", "this machine, measured", "least time", right=("work", "least time"))
    table.add_row(
        "arithmetic",
        _scaled(costs.flops, "flop"),
        f"{_scaled(peak, 'flop/s')} a core in {'f64' if costs.wide else 'f32'}, "
        f"{_plural(estimate.cores, 'core')}",
        duration(estimate.arithmetic),
    )
    table.add_row(
        "elementary functions",
        _count(costs.transcendentals),
        f"counted as {TRANSCENDENTAL_FLOPS:.0f} flop each",
        "included",
    )
    table.add_row(
        "arguments and results",
        size(costs.moved),
        f"{_scaled(machine.bandwidth, 'B/s')} from memory",
        duration(estimate.memory) if estimate.memory else "in caches",
    )
    yield table
    if costs.accessed:
        yield f"unfused, equations would move {size(costs.accessed)}"
    if costs.unbounded_loops:
        loops = _plural(costs.unbounded_loops, "while loop")
        yield f"of {loops} one iteration is counted: how many there are depends on values"
    if costs.uncounted:
        yield f"not counted, since libraries do it: {', '.join(costs.uncounted)}"
    yield f"least time {duration(estimate.seconds)}, limited by {estimate.limit}"
    if report.measured is not None:
        yield f"measured {_measured(report)}"


def _profile(report: Report, whole: bool) -> Iterator[Any]:
    total = sum(report.profile.values())
    table = _table("stage", "time", "share", right=("time", "share"))
    for stage, seconds in report.profile.items():
        table.add_row(stage, duration(seconds), f"{seconds / max(total, 1e-12):.0%}")
    table.add_row("all", duration(total), "")
    yield table
    meaning = {
        "hit": "hit: code was loaded, nothing was compiled",
        "partial": "partial: scheduled anew, machine code loaded",
        "miss": "miss: compiled, and kept for later processes",
        "off": "off",
    }
    if getattr(report._executable, "recognised", False):
        yield "recognised: there was code for all sizes of a batch"
    yield f"disk cache: {meaning.get(report.disk_cache, report.disk_cache)}"


_RENDERED: dict[str, Callable[[Report, bool], Iterator[Any]]] = {
    "summary": _summary,
    "passes": _passes,
    "fusion": _fusion,
    "offload": _offload,
    "lanes": _lanes,
    "residuals": _residuals,
    "memory": _memory,
    "threads": _threads,
    "costs": _costs,
    "profile": _profile,
}
