"""Timing: versions of a workload take turns, after their results have been compared."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.client import Peer, PeerError, PeerTimeout
from benchmarks.workloads import Workload, peer_of

HOLDS = 0.95
"""The share of its promised figure at which a row holds: measurements scatter."""


@dataclass
class Line:
    """One comparison.

    Attributes:
        name: of what is measured.
        against: the version compared with.
        ours: Covector's figure, the smaller the better.
        theirs: the peer's.
        unit: of both: "s", "B" or "" for a count.
        promised: what theirs / ours was promised to be at least.
        limit: the figure of hand-written native code, where one is known.
        cpu_ratio: the peer's time of processors divided by ours: what is left of a ratio on a busy
            machine, or on one core.
        note: what to know about it, such as an error.
        at_least: whether the peer was ended when it had taken what `theirs` says.
    """

    name: str
    against: str
    ours: float | None = None
    theirs: float | None = None
    unit: str = "s"
    promised: float | None = None
    limit: float | None = None
    cpu_ratio: float | None = None
    note: str = ""
    at_least: bool = False

    @property
    def ratio(self) -> float | None:
        """The peer's figure divided by ours; at least that with `at_least`."""
        if self.ours is None or self.theirs is None:
            return None
        return self.theirs / self.ours

    @property
    def holds(self) -> bool | None:
        """Whether the promise is kept; `None` where there is none, or no peer to compare with."""
        if self.promised is None or (self.ours is not None and self.theirs is None):
            return None
        kept = self.ratio is not None and self.ratio >= HOLDS * self.promised
        return None if self.at_least and not kept else kept

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "ratio": self.ratio, "holds": self.holds}


@dataclass
class Row:
    """What was measured of one workload.

    Attributes:
        name: of the workload.
        versions: seconds of each: `first` call, `min`, `median`, `cpu` (least time of processors);
            or its `error`, with the seconds it took at least if it was ended (`longer`).
        lines: the comparisons.
    """

    name: str
    versions: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    lines: list[Line] = field(default_factory=list[Line])


def difference(workload: Workload, ours: Sequence[Any], theirs: Sequence[Any]) -> str:
    """How two versions' results differ by more than is allowed.

    Args:
        workload: says what is allowed.
        ours: arrays.
        theirs: arrays.

    Returns:
        What differs; nothing if the results agree.
    """
    if [a.shape for a in ours] != [b.shape for b in theirs]:
        return f"shapes {[a.shape for a in ours]} and {[b.shape for b in theirs]}"
    for a, b in zip(ours, theirs, strict=True):
        a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
        scale = max(float(np.nanmax(np.abs(b), initial=0.0)), 1e-30)
        errors = np.abs(a - b) / scale
        share = float(np.mean(~(errors <= workload.tolerance))) if errors.size else 0.0
        if share > workload.differing:
            worst = float(np.max(errors))
            return f"results differ by {worst:.1e} of the largest, {share:.1%} of them too much"
    return ""


def _build(
    workload: Workload,
    peers: Mapping[str, Peer],
    sizes: Mapping[str, int],
    seconds: float,
    to: Path,
) -> dict[str, dict[str, Any]]:
    versions: dict[str, dict[str, Any]] = {}
    for version in workload.versions:
        peer = peers.get(peer_of(version))
        if peer is None:
            continue
        results = to / f"{version}.npz"
        results.unlink(missing_ok=True)
        request = {"workload": workload.name, "version": version, "sizes": dict(sizes)}
        try:
            first = peer.ask("build", **request)
        except PeerTimeout as error:
            versions[version] = {"error": str(error), "longer": error.seconds}
            continue
        except PeerError as error:
            versions[version] = {"error": str(error)}
            continue
        try:
            calls = peer.ask("settle", version=version, seconds=seconds, results=str(results))
            versions[version] = {**first, **calls}
        except PeerError as error:
            versions[version] = {"error": str(error)}
    return versions


def _compare(workload: Workload, versions: dict[str, dict[str, Any]], folder: Path) -> None:
    """Notes at each version whether its results are Covector's."""

    def load(version: str) -> list[Any] | None:
        path = folder / f"{version}.npz"
        if not path.exists():
            return None
        with np.load(path) as arrays:
            return [arrays[name] for name in arrays.files]

    ours = load("covector")
    for version, figures in versions.items():
        if version == "covector" or "error" in figures or ours is None:
            continue
        theirs = load(version)
        if theirs is not None and (text := difference(workload, ours, theirs)):
            figures["error"] = text


def measure(
    workload: Workload,
    peers: Mapping[str, Peer],
    repeats: int,
    folder: Path,
    *,
    sizes: Mapping[str, int] | None = None,
    seconds: float = 0.05,
) -> Row:
    """Times one workload on every peer that has a version of it.

    Args:
        workload: the row.
        peers: the workers, by name.
        repeats: turns of each version.
        folder: for results that pass between processes.
        sizes: other sizes than the workload's own.
        seconds: how long a turn takes at least.

    Returns:
        The figures; what fails is noted there.
    """
    row = Row(workload.name, _build(workload, peers, sizes or {}, seconds, folder))
    _compare(workload, row.versions, folder)
    running = [version for version, figures in row.versions.items() if "error" not in figures]
    turns: dict[str, list[float]] = {version: [] for version in running}
    for _ in range(repeats):
        for version in list(turns):
            time.sleep(0.002)  # threads of the turn before stop spinning
            try:
                answer = peers[peer_of(version)].ask("time", version=version)
            except PeerError as error:
                row.versions[version]["error"] = str(error)
                del turns[version]
                continue
            turns[version].append(answer["seconds"])
            figures = row.versions[version]
            figures["cpu"] = min(answer["cpu"], figures.get("cpu", answer["cpu"]))
    for version, times in turns.items():
        figures = {"min": min(times), "median": statistics.median(times), "repeats": len(times)}
        row.versions[version].update(figures)
    for name in {peer_of(version) for version in row.versions}:
        _drop(peers[name])
    row.lines = _lines(workload, row)
    return row


def _drop(peer: Peer) -> None:
    with contextlib.suppress(PeerError):  # it has died, and its rows say so
        peer.ask("drop")


def _lines(workload: Workload, row: Row) -> list[Line]:
    """A line for each promise, and one for each version that none is about."""
    promised = {version for promise in workload.promises for version in promise.against}
    groups: list[tuple[tuple[str, ...], float | None]] = [
        (promise.against, promise.ratio) for promise in workload.promises
    ]
    groups += [((v,), None) for v in row.versions if v not in promised and v != "covector"]
    return [_line(workload, row, against, ratio) for against, ratio in groups]


def _line(workload: Workload, row: Row, against: tuple[str, ...], promised: float | None) -> Line:
    ours = row.versions.get("covector", {})
    there = {v: row.versions[v] for v in against if v in row.versions}
    times = {v: figures["min"] for v, figures in there.items() if "min" in figures}
    best = min(times, key=lambda v: times[v]) if times else None
    notes = [f"covector: {ours['error']}"] if "error" in ours else []
    notes += [f"{v}: {figures['error']}" for v, figures in there.items() if "error" in figures]
    theirs = times[best] if best else None
    longer = [figures["longer"] for figures in there.values() if "longer" in figures]
    ended = workload.cold and 0 < len(longer) == len(there)
    label = " or ".join(against)
    if best and len(against) > 1:
        label = f"{best}, best of {', '.join(sorted({peer_of(v) for v in against}))}"
    return Line(
        workload.name,
        label,
        ours.get("min"),
        min(longer) if ended else theirs,
        cpu_ratio=row.versions[best]["cpu"] / ours["cpu"] if best and ours.get("cpu") else None,
        promised=promised,
        limit=workload.limit,
        note="; ".join(notes),
        at_least=ended,
    )
