"""The benchmark harness: that it compares like with like, judges rightly, and survives failures."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import extensions, growth, measure, peers, report
from benchmarks.__main__ import main
from benchmarks.client import ROOT, Peer, PeerError, PeerTimeout
from benchmarks.measure import Line, difference
from benchmarks.worker import Worker
from benchmarks.workloads import WORKLOADS, Promise, Workload, peer_of
from rich.console import Console

from covector.backends.native import engine

# Rows that others contain: the value of a gradient's function, the same code in another size.
_CONTAINED = {
    "RK4 Lorenz 16384 x 1000",
    "RK4 scan, 4x4 tanh field, 20,000 steps",
    "GBM 102,400 x 100: price",
    "Heston 102,400 x 100: price",
    "Kalman log-likelihood, 256 x 1000",
    "n-body 1024, 100 leapfrog steps",
    "cumsum 10M",
}
_SHARED = [w for w in WORKLOADS if w.name not in _CONTAINED and "compile" not in w.name]


@pytest.fixture(scope="module")
def apis() -> dict[str, Any]:
    return {"covector": peers.covector(), "jax": peers.any_jax()}


@pytest.mark.parametrize("workload", _SHARED, ids=lambda w: w.name)
def test_versions_agree(workload: Workload, apis: dict[str, Any]) -> None:
    results: dict[str, Any] = {}
    for name, api in apis.items():
        case = workload.versions[name](api, **workload.tiny)
        assert case.result is not None
        results[name] = case.result()
    assert difference(workload, results["covector"], results["jax"]) == ""
    assert any(np.any(a != 0) for a in results["covector"])


def test_names_tell_rows_apart() -> None:
    assert len({w.name for w in WORKLOADS}) == len(WORKLOADS)
    assert {peer_of(v) for w in WORKLOADS for v in w.versions} <= set(peers.PEERS)
    for workload in WORKLOADS:
        assert "covector" in workload.versions
        assert all(v in workload.versions for p in workload.promises for v in p.against)


@pytest.mark.parametrize("name", ["compile sin(x)*2+1", "compile the gradient of Tsit5 steps"])
def test_each_compilation_is_a_new_one(
    name: str, apis: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    count, compile_function = 0, engine.compile_function

    def counting(*args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        return compile_function(*args, **options)

    workload = next(w for w in WORKLOADS if w.name == name)
    case = workload.versions["covector"](apis["covector"], **workload.tiny)
    monkeypatch.setattr(engine, "compile_function", counting)
    for turn in (1, 2, 3):
        assert case.before is not None
        case.before()
        case.run()
        assert count == turn


_ROW = Workload("row", {}, tolerance=1e-3)


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ([1.0, 100.0], [1.05, 100.0], True),  # relative to the largest
        ([1.0, 1.0], [1.0, 1.01], False),
        ([1.0, np.nan], [1.0, 1.0], False),
        ([], [], True),
    ],
)
def test_difference(ours: list[float], theirs: list[float], same: bool) -> None:
    assert (difference(_ROW, [np.array(ours)], [np.array(theirs)]) == "") == same


def test_difference_of_shapes_and_shares() -> None:
    assert "shapes" in difference(_ROW, [np.zeros(2)], [np.zeros((2, 1))])
    some = Workload("row", {}, tolerance=0.0, differing=0.1)
    ones, other = np.ones(20), np.ones(20)
    other[0] = 2.0
    assert difference(some, [ones], [other]) == ""
    other[:3] = 2.0
    assert "15.0%" in difference(some, [ones], [other])


def test_a_line_holds_at_its_figure_less_the_scatter() -> None:
    assert Line("row", "jax", 1.0, 1.91, promised=2.0).holds is True
    assert Line("row", "jax", 1.0, 1.89, promised=2.0).holds is False
    assert Line("row", "jax", 1.0, 1.89).holds is None
    assert Line("row", "jax", 1.0, None, promised=2.0).holds is None  # the peer is not there
    assert Line("row", "jax", None, 1.0, promised=2.0).holds is False  # ours failed


class _Fake:
    """A peer whose calls take the seconds given, in turn."""

    def __init__(self, seconds: list[float], result: float, error: PeerError | None = None) -> None:
        self.seconds, self.result, self.error = iter(seconds), result, error

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        if do == "build":
            if self.error:
                raise self.error
            return {"first": 1.0}
        if do == "settle":
            np.savez(request["results"], np.float32(self.result))
            return {"calls": 1}
        return {"seconds": next(self.seconds), "cpu": 0.5} if do == "time" else {}


def _measured(tmp_path: Path, ours: Any, theirs: Any, cold: bool = False) -> Line:
    versions: Any = {"covector": None, "jax": None}
    workload = Workload("row", versions, (Promise(("jax",), 2.0),), cold=cold)
    row = measure.measure(workload, {"covector": ours, "jax": theirs}, 3, tmp_path)
    (line,) = row.lines
    return line


def test_a_ratio_is_of_the_fastest_turns(tmp_path: Path) -> None:
    line = _measured(tmp_path, _Fake([0.3, 0.1, 0.2], 1.0), _Fake([0.5, 0.6, 0.4], 1.0))
    assert line.ratio == pytest.approx(4.0)
    assert line.cpu_ratio == 1.0
    assert line.holds
    assert line.note == ""


def test_other_results_are_no_comparison(tmp_path: Path) -> None:
    line = _measured(tmp_path, _Fake([0.1] * 3, 1.0), _Fake([0.4] * 3, 1.1))
    assert line.ratio is None
    assert "results differ" in line.note


def test_a_failure_is_reported_and_the_run_goes_on(tmp_path: Path) -> None:
    line = _measured(
        tmp_path, _Fake([], 1.0, PeerError("no such primitive")), _Fake([0.4] * 3, 1.0)
    )
    assert line.holds is False
    assert "covector: no such primitive" in line.note


@pytest.mark.parametrize(
    ("limit", "cold", "ratio", "holds"),
    [(50.0, True, 5.0, True), (15.0, True, 1.5, None), (50.0, False, None, None)],
)
def test_a_peer_ended_for_taking_too_long_gives_a_lower_bound(
    limit: float, cold: bool, ratio: float | None, holds: bool | None, tmp_path: Path
) -> None:
    """Unless only its first call, which compiles, took that long."""
    line = _measured(tmp_path, _Fake([10.0] * 3, 1.0), _Fake([], 1.0, PeerTimeout(limit)), cold)
    assert (line.ratio, line.holds, line.at_least) == (ratio, holds, cold)
    assert f"jax: more than {limit:g} s" in line.note
    console = Console(record=True, width=200)
    report.print_lines(console, "title", [line])
    assert (f"> {limit:g} s" in console.export_text()) == cold


def _ended(process: int) -> bool:
    """Whether a process ends within some seconds; those that nobody waits for are zombies."""
    for _ in range(200):
        status = Path(f"/proc/{process}/status")
        if not status.exists() or "State:\tZ" in status.read_text():
            return True
        time.sleep(0.05)
    return False


def test_a_peer_that_takes_too_long_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, child = tmp_path / "python", tmp_path / "child"
    hello = '{"version": "1", "threads": "1"}'
    script.write_text(f"#!/bin/sh\necho '{hello}'\nsleep 600 &\necho $! > {child}\nwait\n")
    script.chmod(0o755)
    monkeypatch.setenv("COVECTOR_BENCH_JAX_PYTHON", str(script))
    peer = Peer("jax", longest=2.0)
    try:
        with pytest.raises(PeerTimeout, match="more than 2 s"):
            peer.ask("drop")
        assert _ended(int(child.read_text()))
    finally:
        peer.close()


_BUSY = """
import time
from benchmarks import worker
requests = worker._requests()
next(requests)
print("busy", flush=True)
time.sleep(600)
"""


def test_a_busy_worker_ends_with_its_input() -> None:
    command = [sys.executable, "-c", _BUSY]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("{}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "busy\n"
        process.stdin.close()
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()


_PARENT = """
import subprocess, sys, time
code = "from benchmarks import worker; worker.die_with_parent(); print('there', flush=True)"
child = subprocess.Popen(
    [sys.executable, "-c", code + "; import time; time.sleep(600)"], stdout=subprocess.PIPE
)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel has no such signal")
def test_a_worker_dies_with_its_parent() -> None:
    command = [sys.executable, "-c", _PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    assert _ended(child)


def test_interpreter_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVECTOR_BENCH_JAX_PYTHON", "/nowhere/python")
    with pytest.raises(PeerError, match="/nowhere/python: No such file"):
        Peer("jax")


def test_worker_answers_with_its_error() -> None:
    peer = Peer("numpy")
    try:
        with pytest.raises(PeerError, match="KeyError: 'no such row'"):
            peer.ask("build", workload="no such row", version="numpy", sizes={})
        assert peer.ask("drop") == {}
    finally:
        peer.close()


def test_peak_of_memory() -> None:
    worker, sizes = Worker(peers.covector()), {"size": 20_000, "steps": 200}
    peak = worker.peak("reverse scan, 1000 x 80 kB", "covector", sizes)["bytes"]
    assert 16e6 < peak < 160e6  # a tape of 200 states of 80 kB, and no more than a few of them


def test_a_worker_that_has_died_starts_again() -> None:
    peer = Peer("numpy")
    try:
        assert peer._process is not None
        peer._process.kill()
        with pytest.raises(PeerError, match="died"):
            peer.ask("drop")
        assert peer.ask("drop") == {}
    finally:
        peer.close()


@pytest.mark.parametrize("shape", growth.SHAPES)
def test_programs_that_grow_have_about_the_equations_asked_for(shape: str) -> None:
    small, large = (growth.measure(shape, count)["equations"] for count in (300, 600))
    assert 0.7 * 300 < small < 1.3 * 300
    assert 1.7 < large / small < 2.3


def test_extensions_are_measured(tmp_path: Path) -> None:
    *kernels, call = extensions.table(1, tmp_path, tiny=True)
    assert len(kernels) == 4
    assert all(line.ours and line.theirs for line in kernels)
    assert call.note == "no C compiler" or " ns a call" in call.note


def test_a_run_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures, picture = tmp_path / "figures.json", tmp_path / "ratios.png"
    options = "--rows=eager --tiny --repeats=2 --peers=numpy --tables=ratios"
    main([*options.split(), f"--json={figures}", f"--plot={picture}"])
    printed = capsys.readouterr().out
    assert "Covector" in printed
    assert "promised figures hold" in printed
    lines = {
        (line["name"], line["against"]): line for line in json.loads(figures.read_text())["lines"]
    }
    assert lines["eager x + x, f32[8]", "numpy"]["ratio"] > 0
    assert picture.stat().st_size > 1000
