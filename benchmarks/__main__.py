"""`python -m benchmarks`: Covector against its peers in one run.

Each peer runs in an interpreter of its own (JAX 0.12 needs Python 3.12): `--jax-python PATH`, or
the environment variable COVECTOR_BENCH_JAX_PYTHON; without it, the current one. Turns are
interleaved, results compared before times, and ratios are of minima.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import growth
from benchmarks.workloads import WORKLOADS, Workload


class Peer:
    """A worker process.

    Args:
        name: key of `benchmarks.peers.PEERS`.
        python: interpreter to run it in.
    """

    def __init__(self, name: str, python: str) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
        self.version = self._reply()["version"]

    def ask(self, **request: Any) -> dict[str, Any]:
        """Sends a request and waits for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the {self.name} worker ended; see its error above")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def _decode(text: str) -> np.ndarray[Any, Any]:
    return np.load(io.BytesIO(base64.b64decode(text)))


def _check_equal(workload: Workload, answers: dict[str, dict[str, Any]]) -> None:
    results = {peer: _decode(a["result"]) for peer, a in answers.items() if a["result"]}
    ours = results.get("covector")
    for peer, theirs in results.items():
        if ours is None or peer == "covector":
            continue
        scale = max(float(np.max(np.abs(theirs))), 1e-30)
        error = float(np.max(np.abs(np.asarray(ours, "f8") - np.asarray(theirs, "f8")))) / scale
        if not error <= workload.tolerance:
            raise RuntimeError(f"{workload.name}: results differ from {peer}'s by {error:.1e}")


def measure(workload: Workload, peers: dict[str, Peer], repeats: int) -> dict[str, Any]:
    """Times one workload on every peer that runs it.

    Args:
        workload: the row.
        peers: the workers.
        repeats: turns of each.

    Returns:
        For each peer its first call, minimum and median in seconds; the ratio of the best peer.
    """
    chosen = [p for p in ("covector", *workload.peers) if p in peers]
    answers = {p: peers[p].ask(do="build", workload=workload.name, seconds=0.05) for p in chosen}
    _check_equal(workload, answers)
    times: dict[str, list[float]] = {p: [] for p in chosen}
    for _ in range(repeats):
        for p in chosen:
            times[p].append(peers[p].ask(do="time")["seconds"])
    row: dict[str, Any] = {"name": workload.name, "target": workload.target, "peers": {}}
    for p in chosen:
        row["peers"][p] = {
            "first": answers[p]["first"],
            "min": min(times[p]),
            "median": statistics.median(times[p]),
        }
    others = [row["peers"][p]["min"] for p in chosen if p != "covector"]
    row["ratio"] = min(others) / row["peers"]["covector"]["min"] if others else None
    row["ratio_jax"] = (
        row["peers"]["jax"]["min"] / row["peers"]["covector"]["min"]
        if "jax" in row["peers"]
        else None
    )
    return row


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


def _print(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    table = Table(title="Time of the peer divided by Covector's")
    columns = ("workload", "Covector", "first call", "JAX", "NumPy", "JAX / Covector", "promised")
    for column in columns:
        table.add_column(column, justify="left" if column == "workload" else "right")
    for row in rows:
        peers = row["peers"]
        table.add_row(
            row["name"],
            _seconds(peers["covector"]["min"]),
            _seconds(peers["covector"]["first"]),
            _seconds(peers["jax"]["min"]) if "jax" in peers else "",
            _seconds(peers["numpy"]["min"]) if "numpy" in peers else "",
            f"{row['ratio_jax']:.2f}" if row["ratio_jax"] else "",
            f"{row['target']:.2f}" if row["target"] else "",
        )
    console.print(table)


def _seconds(value: float) -> str:
    for scale, unit in ((1e-6, "ns"), (1e-3, "us"), (1.0, "ms")):
        if value < scale:
            return f"{value / scale * 1e3:.3g} {unit}"
    return f"{value:.3g} s"


def main() -> None:
    """Runs the rows asked for and prints them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--rows", help="only workloads whose name contains this")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument(
        "--jax-python", default=os.environ.get("COVECTOR_BENCH_JAX_PYTHON", sys.executable)
    )
    options = parser.parse_args()
    console = Console()
    peers = {
        "covector": Peer("covector", sys.executable),
        "jax": Peer("jax", options.jax_python),
        "numpy": Peer("numpy", sys.executable),
    }
    versions = ", ".join(f"{p.name} {p.version}" for p in peers.values())
    console.print(f"{versions}; {os.cpu_count()} cores")
    chosen = [w for w in WORKLOADS if not options.rows or options.rows in w.name]
    rows = [measure(w, peers, options.repeats) for w in chosen]
    for peer in peers.values():
        peer.close()
    _print(console, rows)
    report: dict[str, Any] = {"versions": versions, "rows": rows}
    if not options.rows:
        report["imports"] = import_times(5)
        report["growth"] = growth.table()
        ratio = report["imports"]["covector"] / report["imports"]["numpy"]
        console.print(f"import covector: {ratio:.2f} times import numpy")
        for line in report["growth"]:
            console.print(line)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
