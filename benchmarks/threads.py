"""Threads: the same workloads on one thread and on two."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.client import Peer
from benchmarks.measure import Line, measure
from benchmarks.workloads import WORKLOADS, Promise, Workload

PROMISED = 1.8


def table(
    names: list[str], repeats: int, folder: Path, log: Path, tiny: bool = False
) -> list[Line]:
    """Time on one thread divided by that on two, of workloads bound by computation in lanes.

    Args:
        names: of the workloads asked for.
        repeats: turns of each.
        folder: for results that pass between processes.
        log: where workers print.
        tiny: toy sizes.

    Returns:
        A line for each; results have to be equal bit for bit.
    """
    peers: Mapping[str, Peer] = {
        "covector": Peer("covector", log, {"COVECTOR_NUM_THREADS": "2"}),
        "one thread": Peer("covector", log, {"COVECTOR_NUM_THREADS": "1"}),
    }
    lines: list[Line] = []
    for workload in WORKLOADS:
        if workload.laned and workload.name in names:
            sizes = workload.tiny if tiny else None
            row = measure(_against_one(workload), peers, repeats, folder, sizes=sizes)
            lines += row.lines
    for peer in peers.values():
        peer.close()
    return lines


def _against_one(workload: Workload) -> Workload:
    build = workload.versions["covector"]
    return Workload(
        workload.name,
        {"covector": build, "one thread": build},
        (Promise(("one thread",), PROMISED),),
        workload.tiny,
        tolerance=0.0,
    )
