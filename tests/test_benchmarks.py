"""The benchmark harness: that it compares like with like, judges rightly, and survives failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import measure, peers
from benchmarks.__main__ import main
from benchmarks.client import Peer, PeerError
from benchmarks.measure import Line, difference
from benchmarks.worker import Worker
from benchmarks.workloads import WORKLOADS, Promise, Workload, peer_of

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


def test_slow_turns_are_fewer() -> None:
    assert [measure.repeats_for(20, s) for s in (0.5, 3.0, 20.0)] == [20, 5, 3]
    assert measure.repeats_for(2, 20.0) == 2


class _Fake:
    """A peer whose calls take the seconds given, in turn."""

    def __init__(self, seconds: list[float], result: float, error: str = "") -> None:
        self.seconds, self.result, self.error = iter(seconds), result, error

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        if do == "build":
            if self.error:
                raise PeerError(self.error)
            np.savez(request["results"], np.float32(self.result))
            return {"first": 1.0, "calls": 1}
        return {"seconds": next(self.seconds), "cpu": 0.5} if do == "time" else {}


def _measured(tmp_path: Path, ours: Any, theirs: Any) -> Line:
    versions: Any = {"covector": None, "jax": None}
    workload = Workload("row", versions, (Promise(("jax",), 2.0),))
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
    line = _measured(tmp_path, _Fake([], 1.0, "no such primitive"), _Fake([0.4] * 3, 1.0))
    assert line.holds is False
    assert "covector: no such primitive" in line.note


def test_interpreter_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVECTOR_BENCH_JAX_PYTHON", "/nowhere/python")
    with pytest.raises(PeerError, match="/nowhere/python: No such file"):
        Peer("jax")


def test_worker_answers_with_its_error() -> None:
    peer = Peer("numpy")
    try:
        with pytest.raises(PeerError, match="KeyError: 'no such row'"):
            peer.ask(
                "build", workload="no such row", version="numpy", sizes={}, seconds=0.0, results=""
            )
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
