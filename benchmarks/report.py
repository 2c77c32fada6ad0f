"""The figures as a table, JSON and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Line


def figure(value: float | None, unit: str) -> str:
    """A figure for people.

    Args:
        value: the figure; `None` is empty.
        unit: "s", "B" or "" for a count.

    Returns:
        Its text.
    """
    if value is None:
        return ""
    if unit == "B":
        return f"{value / 1e6:.3g} MB"
    if unit == "":
        return f"{value:g}"
    for scale, name in ((1e-6, "ns"), (1e-3, "us"), (1.0, "ms")):
        if value < scale:
            return f"{value / scale * 1e3:.3g} {name}"
    return f"{value:.3g} s"


def _verdict(line: Line) -> str:
    if line.holds is None:
        return "" if line.promised is None else "[yellow]not compared"
    return "[green]holds" if line.holds else "[red]short"


def print_lines(console: Console, title: str, lines: Sequence[Line]) -> None:
    """Prints a table of comparisons.

    Args:
        console: where to.
        title: of the table.
        lines: the comparisons.
    """
    table = Table(title=title)
    for column in ("workload", "against", "Covector", "peer", "ratio", "cpu ratio"):
        table.add_column(column, justify="left" if column in ("workload", "against") else "right")
    for column in ("promised", "", "native", "peer / native"):
        table.add_column(column, justify="right")
    for line in lines:
        more = "> " if line.at_least else ""
        possible = line.theirs / line.limit if line.theirs and line.limit else None
        table.add_row(
            line.name,
            line.against,
            figure(line.ours, line.unit),
            f"{more}{figure(line.theirs, line.unit)}",
            f"{more}{line.ratio:.2f}" if line.ratio is not None else "",
            f"{line.cpu_ratio:.2f}" if line.cpu_ratio is not None else "",
            f"{line.promised:.2f}" if line.promised is not None else "",
            _verdict(line),
            figure(line.limit, line.unit),
            f"{possible:.1f}" if possible is not None else "",
        )
    console.print(table)
    for line in lines:
        if line.note:
            console.print(f"{line.name}, {line.against}: {line.note}", highlight=False)


def summary(lines: Sequence[Line]) -> str:
    """How many promises hold."""
    judged = [line for line in lines if line.promised is not None]
    held = sum(line.holds is True for line in judged)
    missing = sum(line.holds is None for line in judged)
    text = f"{held} of {len(judged)} promised figures hold"
    return f"{text}, {missing} were not compared" if missing else text


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Writes all figures.

    Args:
        path: of the file.
        report: what is in it.
    """
    path.write_text(json.dumps(report, indent=1) + "\n")


def plot(path: Path, lines: Sequence[Line], title: str) -> None:
    """Draws the ratios as bars on a logarithmic axis, with the promised figures.

    Args:
        path: of the picture; its suffix says the format.
        lines: the comparisons.
        title: above it.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    shown = [line for line in lines if line.ratio is not None][::-1]
    picture, axes = pyplot.subplots(figsize=(9, 1.5 + 0.24 * len(shown)), layout="constrained")
    colours = {True: "tab:green", False: "tab:red", None: "tab:gray"}
    places = range(len(shown))
    ratios = [line.ratio or 1.0 for line in shown]
    axes.barh(
        places,
        [ratio - 1.0 for ratio in ratios],
        left=1.0,
        color=[colours[line.holds] for line in shown],
    )
    promised = [(line.promised, k) for k, line in zip(places, shown, strict=True) if line.promised]
    if promised:
        axes.scatter(*zip(*promised, strict=True), marker="|", s=90, color="black", zorder=3)
    axes.set_yticks(places, [f"{line.name}, {line.against}" for line in shown], fontsize=7)
    axes.set_xscale("log")
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlabel("time of the peer / Covector's; marks: promised")
    axes.set_title(title, fontsize=9)
    axes.margins(y=0.01)
    picture.savefig(path, dpi=150)
    pyplot.close(picture)
