"""What takes processes of its own: peaks of memory, first results of a second process, imports."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.client import Peer, PeerError
from benchmarks.measure import Line

SIZES = (1, 7, 16, 1000, 16384)

STARTED = (
    "compile the gradient of 6 layers",
    "compile the gradient of Tsit5 steps",
    "RK4 Lorenz 16384 x 1000: gradient",
    "Kalman log-likelihood: gradient",
)
"""Whose first results are waited for. Toy sizes: it is compilation that takes the time."""


def peak_memory(workload: str, sizes: dict[str, int], log: Path) -> Line:
    """The peak of memory of a workload, against JAX's.

    Args:
        workload: its name.
        sizes: other sizes than its own.
        log: where workers print.

    Returns:
        The line.
    """
    line = Line(f"{workload}: peak memory", "jax", unit="B", promised=1 / 0.35)
    peaks: dict[str, float] = {}
    for name in ("covector", "jax"):
        try:
            peer = Peer(name, log)
            try:
                answer = peer.ask("peak", workload=workload, version=name, sizes=sizes)
            finally:
                peer.close()
            peaks[name] = float(answer["bytes"])
        except PeerError as error:
            line.note += f"{name}: {error} "
    line.ours, line.theirs = peaks.get("covector"), peaks.get("jax")
    return line


def compilations(log: Path) -> Line:
    """LLVM compilations of one function called with five batch sizes; JAX compiles each."""
    line = Line(f"compilations for batch sizes {', '.join(map(str, SIZES))}", "one", unit="")
    line.theirs, line.promised = 1.0, 1.0
    try:
        peer = Peer("covector", log)
        try:
            line.ours = float(peer.ask("compilations", sizes=SIZES)["count"])
        finally:
            peer.close()
    except PeerError as error:
        line.note = f"covector: {error}"
    return line


def _first_results(name: str, log: Path, environment: dict[str, str]) -> float:
    peer = Peer(name, log, environment, caches=True)
    try:
        return sum(peer.ask("first_results", names=STARTED)["seconds"].values())
    finally:
        peer.close()


def second_process(repeats: int, log: Path) -> list[Line]:
    """Time to first results in a process that is not the first, with caches as they are by default.

    Args:
        repeats: processes of each; the fastest counts.
        log: where workers print.

    Returns:
        Lines against JAX as it is, and against JAX with its persistent cache switched on.
    """
    name = "first results in a second process"
    lines = [Line(name, "jax", promised=3.0), Line(name, "jax, persistent cache")]
    with tempfile.TemporaryDirectory(prefix="covector-bench-") as folder:
        variants = {
            "covector": ("covector", {"XDG_CACHE_HOME": folder}),
            "jax": ("jax", {}),
            "jax, persistent cache": ("jax", {"JAX_COMPILATION_CACHE_DIR": f"{folder}/jax"}),
        }
        best: dict[str, float] = {}
        for turn in range(repeats + 1):
            for variant, (peer, environment) in variants.items():
                try:
                    seconds = _first_results(peer, log, environment)
                except PeerError as error:
                    lines[0].note = f"{variant}: {error}"
                    continue
                if turn > 0:
                    best[variant] = min(seconds, best.get(variant, seconds))
    for line in lines:
        line.ours, line.theirs = best.get("covector"), best.get(line.against)
        line.note = line.note or f"{repeats} repeats"
    return lines


def import_times(repeats: int) -> dict[str, float]:
    """Seconds to start an interpreter and import, beyond starting it."""

    # Bytecode is compiled once, as by an installation.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def best(statement: str) -> float:
        code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
        runs = [
            float(subprocess.check_output([sys.executable, "-c", code], text=True, env=environment))
            for _ in range(repeats)
        ]
        return min(runs)

    with tempfile.TemporaryDirectory() as bytecode:
        environment["PYTHONPYCACHEPREFIX"] = bytecode
        return {"numpy": best("import numpy"), "covector": best("import covector")}
