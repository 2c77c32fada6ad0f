"""Reports: what they say of programs of which it is known, and that they agree with what runs."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.core import backend
from covector.core.config import config
from covector.inspect import SECTIONS, Report, this_machine

DOCS = Path(__file__).parents[2] / "docs" / "explain.md"
F32 = np.float32


def ensemble(states: Any) -> Any:
    def one(x: Any) -> Any:
        def step(x: Any, _: Any) -> tuple[Any, None]:
            return x + 0.01 * cnp.sin(x) * x, None

        return lax.scan(step, x, None, length=50)[0]

    return cv.vmap(one)(states)


def words(report: Report, section: str) -> str:
    """The text in one line: where it breaks depends on the length of paths."""
    return " ".join(report.text(section).split())


# --- figures that are known ----------------------------------------------------------------------


def test_elementwise_function() -> None:
    report = cv.jit(lambda x: cnp.exp(x) * 2 + 1).explain(np.ones(1000, F32))
    assert len(report.nests) == 1
    assert [e.primitive.name for e in report.nests[0].equations] == ["exp", "fma"]
    assert report.nests[0].lanes
    assert not report.nests[0].parallel
    assert report.costs.flops == 2000
    assert report.costs.transcendentals == 1000
    assert report.costs.moved == 8000
    assert report.memory.peak == 8000
    assert report.memory.workspace == 0
    assert not report.costs.wide


def test_widths() -> None:
    with cv.enable_x64():
        report = cv.jit(lambda x: x * 2 + 1).explain(np.ones(1000))
    assert report.costs.wide
    assert report.costs.moved == 16_000


@pytest.mark.parametrize("size", [3, 40, 300], ids=["unrolled", "generated", "library"])
def test_matrix_product(size: int) -> None:
    a, b = np.ones((size, size), F32), np.ones((size, size + 1), F32)
    report = cv.jit(lambda a, b: a @ b).explain(a, b)
    exact = 2 * size * size * (size + 1)
    # The first product of a sum needs no addition.
    assert exact - size * (size + 1) <= report.costs.flops <= exact
    assert report.memory.arguments == a.nbytes + b.nbytes
    assert report.memory.results == b.nbytes


def test_products_by_a_library_in_a_loop() -> None:
    def f(x: Any) -> Any:
        return lax.scan(lambda x, _: (0.001 * (x @ x), None), x, None, length=5)[0]

    report = cv.jit(f).explain(np.ones((200, 200), F32))
    assert any(n.kind.startswith("cv_gemm") for nest in report.nests for n in nest.walk())
    products = 5 * 2 * 200**3
    assert products <= report.costs.flops <= 1.01 * products


def test_loops_multiply_work() -> None:
    report = cv.jit(ensemble).explain(np.ones(1024, F32))
    assert report.costs.transcendentals == 50 * 1024
    assert report.costs.unbounded_loops == 0
    while_loop = cv.jit(lambda x: lax.while_loop(lambda x: x < 10, lambda x: 2 * x, x))
    assert while_loop.explain(1.0).costs.unbounded_loops == 1


@pytest.mark.parametrize("size", [17, 1000, 5000])
def test_sizes_of_batches_are_numbers(size: int) -> None:
    """Code for all sizes of a batch is described for the size that it is asked about."""

    def f(x: Any) -> Any:
        return cnp.exp(ensemble(x)) * 2 + 1

    jitted = cv.jit(f)
    jitted(np.ones(33, F32))
    report = jitted.explain(np.ones(size, F32))
    assert report.scheduled is not None
    assert report.scheduled.symbols
    assert "recognised" in report.text("profile")
    assert "known at run time only" in words(
        cv.jit(cnp.tanh).explain(np.ones((200, 999))), "threads"
    )
    with config.override("disable", "run_time_sizes"):
        special = cv.jit(f).explain(np.ones(size, F32))
        assert 51 * size <= special.costs.transcendentals <= 51 * (size + 31)
    assert 51 * size <= report.costs.transcendentals <= 51 * (size + 31)
    assert report.memory.arguments == special.memory.arguments == 4 * size
    assert report.memory.results == 4 * size
    assert None not in [extent for nest in report.nests for extent in nest.extents]
    assert all(b.nbytes is not None for b in report.buffers)
    assert f"f32[{size}]" in report.text("optimized")


def test_what_libraries_do_is_named() -> None:
    report = cv.jit(cnp.linalg.inv).explain(np.eye(64, dtype=F32))
    assert any("getrf" in name for name in report.costs.uncounted)
    assert "not counted" in report.text("costs")


def test_unused_arguments_take_no_memory() -> None:
    report = cv.jit(lambda x, y: 2 * x).explain(np.ones(10, F32), np.ones(10**6, F32))
    assert report.memory.peak == 80


# --- fusion and memory ---------------------------------------------------------------------------


def test_why_an_array_is_in_memory() -> None:
    def f(x: Any) -> Any:
        y = cnp.sin(x)
        return cnp.cumsum(y * 2) + y

    report = cv.jit(f).explain(np.ones(5000, F32))
    temporary = [b for b in report.buffers if b.space == "workspace"]
    assert temporary
    assert all(b.reason and b.equation is not None and b.offset is not None for b in temporary)
    assert max(b.nbytes or 0 for b in temporary) == 20_000
    assert report.memory.workspace >= 20_000
    text = report.text("memory")
    assert Path(__file__).name in text
    assert "20 kB" in text


def test_the_users_lines_are_named() -> None:
    report = cv.jit(ensemble).explain(np.ones(1024, F32))
    line = ensemble.__code__.co_firstlineno + 3
    assert re.search(rf"test_explain\.py:[\d,]*\b{line}\b", report.text("fusion"))


def test_every_equation_of_loops_is_in_a_nest() -> None:
    def f(x: Any) -> Any:
        rows = x / cnp.sum(x, axis=1, keepdims=True)
        return cnp.exp(rows), cnp.max(cnp.exp(rows), axis=0)

    report = cv.jit(f).explain(np.ones((64, 48), F32))
    found = {e.primitive.name for nest in report.nests for e in nest.equations}
    assert {"reduce_sum", "div", "exp", "reduce_max"} <= found


def test_workspace_is_that_of_the_code() -> None:
    jitted = cv.jit(cv.grad(lambda x: cnp.sum(ensemble(x) ** 2)))
    report = jitted.explain(np.ones(100, F32))
    analysis = jitted.lower(np.ones(100, F32)).compile().cost_analysis()
    assert report.memory.workspace == analysis["workspace_bytes"]
    assert report.profile.items() >= analysis["seconds"].items()


# --- lanes, threads, residuals -------------------------------------------------------------------


def test_an_ensemble_in_lanes() -> None:
    report = cv.jit(ensemble).explain(np.ones(1024, F32))
    (decision,) = report.decisions
    assert decision.lanes == 1024
    assert "in 1024 lanes" in words(report, "lanes")


def test_a_loop_that_does_not_separate_says_why() -> None:
    def f(x: Any) -> Any:
        def step(x: Any, _: Any) -> tuple[Any, None]:
            return x + 0.01 * cnp.sort(x), None

        return lax.scan(step, x, None, length=5)[0]

    report = cv.jit(f).explain(np.ones(64, F32))
    (decision,) = report.decisions
    assert decision.lanes == 0
    text = words(report, "lanes")
    assert "not in lanes" in text
    assert "sort" in text
    assert Path(__file__).name in text


def test_lanes_turned_off() -> None:
    with config.override("disable", "lanes,threads"):
        report = cv.jit(ensemble).explain(np.ones(1 << 16, F32))
        assert "turned off" in report.text("lanes")
        assert "turned off" in report.text("threads")


def test_threads() -> None:
    big = cv.jit(cnp.sin).explain(np.ones(1 << 20, F32))
    assert big.nests[0].parallel
    assert big.nests[0].pieces > 1
    small = cv.jit(cnp.sin).explain(np.ones(100, F32))
    assert not small.nests[0].parallel
    assert "waking others" in small.text("threads")


def test_a_gradient_names_its_residuals() -> None:
    def growth(x: Any) -> Any:
        def step(x: Any, _: Any) -> tuple[Any, None]:
            return x + 0.01 * x * x * (1 - x), None

        return cnp.sum(lax.scan(step, x, None, length=50)[0])

    report = cv.jit(cv.grad(growth)).explain(np.ones(1024, F32))
    (saved,) = report.saved
    assert saved.what == "scan"
    assert saved.copies == 50
    assert [str(aval) for aval, _, _ in saved.kept] == ["f32[1024]"]
    assert "mul" in [name for name, _ in saved.again]
    text = report.text("residuals")
    assert "4.1 kB kept in each of 50 iterations, 205 kB in all" in text
    assert "computed again" in text


def test_residuals_of_functions_jitted_inside() -> None:
    inner = cv.jit(cv.grad(lambda x: cnp.sum(ensemble(x))))
    inner(np.ones(32, F32))  # it is in the memory of the inner function
    report = cv.jit(lambda x: 2 * inner(x)).explain(np.ones(32, F32))
    assert len(report.saved) == 1


def test_residuals_of_checkpoint_and_while() -> None:
    f = cv.checkpoint(lambda x: cnp.sum(cnp.sin(cnp.sin(x))))
    (saved,) = cv.jit(cv.grad(f)).explain(np.ones(8, F32)).saved
    assert saved.what == "checkpoint"
    assert sorted(name for name, _ in saved.again) == ["cos", "cos", "sin"]

    def g(x: Any) -> Any:
        return lax.while_loop(lambda x: x < 10, lambda x: x * 1.5, x)

    report = cv.jit(cv.grad(g)).explain(1.0)
    assert [s.what for s in report.saved] == ["while"]
    assert "slots" in report.text("residuals")


# --- the report itself ---------------------------------------------------------------------------


def test_every_section_has_text() -> None:
    report = cv.jit(ensemble).explain(np.ones(64, F32), sections="all")
    assert report.sections == tuple(SECTIONS)
    text = str(report)
    for section, meaning in SECTIONS.items():
        assert f"{section}: {meaning}" in text
        assert len(report.text(section).splitlines()) > 1
    assert "\x1b" not in text
    assert "vector" in report.listing("llvm") or "define" in report.listing("llvm")


def test_other_views() -> None:
    report = cv.jit(ensemble).explain(np.ones(64, F32), sections=["lanes", "fusion"])
    assert report.sections == ("fusion", "lanes")
    assert repr(report) == "<Report on ensemble: fusion, lanes>"
    assert "<span" in report._repr_html_()
    console = Console(file=io.StringIO(), width=120)
    console.print(report)
    shown = console.file
    assert isinstance(shown, io.StringIO)
    assert "in 64 lanes" in shown.getvalue()


def test_long_listings_are_cut_unless_asked_for() -> None:
    def f(x: Any) -> Any:
        for _ in range(60):
            x = cnp.sin(x)
        return x

    report = cv.jit(f).explain(1.0)
    assert "more lines" in str(report)
    assert report.text("program").count("sin") == 60


def test_run_measures() -> None:
    jitted = cv.jit(ensemble, donate_argnums=0)
    x = cnp.ones(64)
    report = jitted.explain(x, sections="summary,costs", run=True)
    assert report.measured is not None
    assert 0 < report.measured < 10
    assert "measured" in str(report)
    assert float(x[0]) == 1.0  # what is measured is not donated
    assert jitted.explain(x).measured is None


def test_static_arguments_and_stages() -> None:
    jitted = cv.jit(lambda x, n: x**n, static_argnums=1)
    assert jitted.explain(cnp.ones(4), 3, run=True).measured is not None
    lowered = jitted.lower(cv.ShapeDtypeStruct((4,), "float32"), 3)
    assert isinstance(lowered.explain(sections="program"), Report)
    assert "integer_pow" in str(lowered.compile().explain(sections="program"))


def test_errors() -> None:
    jitted = cv.jit(cnp.sin)
    with pytest.raises(ValueError, match=r"no section 'lane'[\s\S]*choose among all, summary"):
        jitted.explain(1.0, sections="lane")
    with pytest.raises(ValueError, match="nothing can be run without arrays"):
        jitted.explain(cv.ShapeDtypeStruct((4,), "float32"), run=True)


def test_programs_from_the_disk_cache(tmp_path: Path) -> None:
    """What is not kept on disk is found again."""
    jitted = cv.jit(cv.grad(lambda x: cnp.sum(ensemble(x))))
    x = np.ones(77, F32)
    with config.override("cache_size", "16M"), config.override("cache_dir", str(tmp_path)):
        texts: list[str] = []
        for expected in ("miss", "hit"):
            jitted.clear_cache()
            backend.clear_cache()
            report = jitted.explain(x)
            assert report.disk_cache == expected
            texts.append(report.text("fusion,lanes,residuals,memory,threads"))
        assert texts[0] == texts[1]
        assert "hit: code was loaded" in report.text("profile")


def test_other_backends() -> None:
    report = cv.jit(ensemble, backend="reference").explain(np.ones(8, F32), run=True)
    assert report.scheduled is None
    assert "The backend does not say." in report.text("fusion")
    assert report.costs.transcendentals == 50 * 8
    assert str(report)


def test_the_machine_is_measured_once(tmp_path: Path) -> None:
    with config.override("cache_size", "16M"), config.override("cache_dir", str(tmp_path)):
        first = this_machine(again=True)
        entries = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
        assert this_machine() is first
        better = this_machine(again=True)
    assert entries
    assert better.flops32 >= first.flops32 > first.flops64 > 1e8
    assert better.bandwidth >= first.bandwidth > 1e8


def test_rich_is_loaded_for_reports_alone() -> None:
    code = (
        "import sys, numpy as np, covector as cv\n"
        "cv.jit(lambda x: x + 1)(np.ones(3))\n"
        "assert not {'rich', 'covector.inspect'} & sys.modules.keys()\n"
        "report = cv.jit(lambda x: x + 1).explain(np.ones(3))\n"
        "assert report.nests and 'rich' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_docs_name_all_sections() -> None:
    text = DOCS.read_text()
    for section in SECTIONS:
        assert f"`{section}`" in text, f"docs/explain.md does not mention {section}"
