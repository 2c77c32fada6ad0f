"""`python -m benchmarks`: Covector against its peers in one run.

Each peer runs in an interpreter of its own, as a worker process that times on request:
COVECTOR_BENCH_JAX_PYTHON (JAX 0.12 or newer, which needs Python 3.12; Diffrax too),
COVECTOR_BENCH_TORCH_PYTHON and COVECTOR_BENCH_NUMBA_PYTHON name them; without, it is the
interpreter that runs this. A peer that is not there is left out, and the output says so. Turns are
interleaved, results compared before times, and a ratio is of the fastest turns.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import extensions, growth, processes, report, threads
from benchmarks.client import LONGEST, Peer, PeerError
from benchmarks.measure import Line, Row, measure
from benchmarks.peers import PEERS
from benchmarks.workloads import WORKLOADS

REVERSE = "reverse scan, 1000 x 80 kB"
TABLES = ("ratios", "processes", "threads", "extensions", "growth")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", default="", help="only workloads whose name has this pattern")
    parser.add_argument("--list", action="store_true", help="print the names of workloads")
    parser.add_argument(
        "--tables", default=",".join(TABLES), help="which to make (default: %(default)s)"
    )
    parser.add_argument("--peers", default=",".join(PEERS), help="which to run")
    parser.add_argument("--repeats", type=int, default=20, help="turns of each (default: 20)")
    parser.add_argument("--quick", action="store_true", help="five turns")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, to see that it all runs")
    parser.add_argument(
        "--limit",
        type=float,
        default=LONGEST,
        help="seconds after which a peer's first call or turn is ended (default: %(default)g)",
    )
    parser.add_argument("--threads", type=int, help="threads of Covector (default: one a core)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--plot", type=Path, help="also draw the ratios here (needs matplotlib)")
    parser.add_argument("--log", type=Path, default=Path(os.devnull), help="what workers print")
    options = parser.parse_args(arguments)
    options.tables = options.tables.split(",")
    if unknown := set(options.tables) - set(TABLES):
        parser.error(f"--tables: no table {', '.join(sorted(unknown))}; there are {TABLES}")
    if options.quick:
        options.repeats = min(options.repeats, 5)
    return options


def _start(options: argparse.Namespace, console: Console) -> dict[str, Peer]:
    peers: dict[str, Peer] = {}
    for name in PEERS:
        if name not in options.peers.split(",") and name != "covector":
            continue
        environment = {}
        if name == "covector" and options.threads is not None:
            environment["COVECTOR_NUM_THREADS"] = str(options.threads)
        try:
            peers[name] = Peer(name, options.log, environment, longest=options.limit)
        except PeerError as error:
            console.print(f"{name} is left out: {error}", highlight=False)
    for peer in peers.values():
        console.print(f"{peer.name} {peer.version}, threads: {peer.threads}", highlight=False)
    return peers


def _ratios(options: argparse.Namespace, console: Console, folder: Path) -> list[Row]:
    peers = _start(options, console)
    if "covector" not in peers:
        raise SystemExit("Covector's own worker did not start")
    rows: list[Row] = []
    for workload in WORKLOADS:
        if workload.name in options.names:
            sizes = workload.tiny if options.tiny else None
            row = measure(workload, peers, options.repeats, folder, sizes=sizes)
            rows.append(row)
            for line in row.lines:
                console.print(_progress(line), highlight=False)
    for peer in peers.values():
        peer.close()
    return rows


def _progress(line: Line) -> str:
    ratio = f"{line.ratio:.2f}" if line.ratio is not None else "no ratio"
    if line.at_least:
        ratio = f"more than {ratio}"
    promised = f" of {line.promised:g}" if line.promised is not None else ""
    note = f" ({line.note})" if line.note else ""
    return f"{line.name}, {line.against}: {ratio}{promised}{note}"


def _processes(options: argparse.Namespace) -> list[Line]:
    lines: list[Line] = []
    if REVERSE in options.names:
        sizes = {w.name: dict(w.tiny) for w in WORKLOADS}[REVERSE] if options.tiny else {}
        lines.append(processes.peak_memory(REVERSE, sizes, options.log))
    if not options.rows:
        lines.append(processes.compilations(options.log))
        lines += processes.second_process(3, options.log)
        imports = processes.import_times(5)
        lines.append(Line("import", "numpy", imports["covector"], imports["numpy"]))
    return lines


def main(arguments: list[str] | None = None) -> None:
    """Runs the rows asked for, prints and writes them.

    Args:
        arguments: of the command; those of the process by default.
    """
    options = _options(arguments)
    pattern = re.compile(options.rows, re.IGNORECASE)
    options.names = [w.name for w in WORKLOADS if pattern.search(w.name)]
    console = Console(width=None if Console().is_terminal else 150)
    if options.list:
        console.print("\n".join(options.names), highlight=False)
        return
    console.print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    written: dict[str, Any] = {"cores": os.cpu_count(), "repeats": options.repeats}
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="covector-bench-") as name:
        folder = Path(name)
        if "ratios" in options.tables:
            rows = _ratios(options, console, folder)
            written["versions"] = {row.name: row.versions for row in rows}
            lines += [line for row in rows for line in row.lines]
        if "processes" in options.tables:
            lines += _processes(options)
        report.print_lines(console, "Time of the peer divided by Covector's", lines)
        if "threads" in options.tables:
            repeats, tiny = options.repeats, options.tiny
            table = threads.table(options.names, repeats, folder, options.log, tiny)
            report.print_lines(console, "One thread's time divided by two threads'", table)
            written["threads"] = [line.as_dict() for line in table]
            lines += table
        if "extensions" in options.tables and not options.rows:
            table = extensions.table(options.repeats, folder, options.tiny)
            report.print_lines(console, "Time of what is built in divided by an extension's", table)
            lines += table
        if "growth" in options.tables and not options.rows:
            written["growth"] = _growth(options, console, folder)
    console.print(report.summary(lines))
    written["lines"] = [line.as_dict() for line in lines]
    if options.json:
        report.write_json(options.json, written)
    if options.plot:
        report.plot(options.plot, lines, f"Covector on {os.cpu_count()} cores")


def _growth(options: argparse.Namespace, console: Console, folder: Path) -> dict[str, Any]:
    tables = {
        "compile": growth.table((200, 400) if options.tiny else growth.SIZES),
        "ensemble": growth.ensemble(options.repeats, folder, options.log, options.tiny),
    }
    for name, rows in tables.items():
        console.print(f"Growth: {name}")
        for row in rows:
            console.print(
                ", ".join(
                    f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
                )
            )
    return tables


if __name__ == "__main__":
    main()
