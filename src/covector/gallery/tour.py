"""`covector tour`: the influenza calibration, told step by step."""

from __future__ import annotations

import importlib.util
import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.table import Table

import covector as cv
import covector.numpy as cnp
from covector.gallery import influenza

SIMULATIONS = 10_000


def run(picture: Path, show_ir: bool) -> int:
    """Runs the tour.

    Args:
        picture: where to save the plot.
        show_ir: also print the compiler's intermediate forms.

    Returns:
        An exit status.
    """
    console = Console()
    with cv.enable_x64():
        days, confined = influenza.load()
        console.rule("[bold]Covector: an epidemic model, calibrated through compiled gradients")
        console.print(
            f"Influenza in an English boarding school, 1978: {influenza.BOYS} boys, "
            f"{len(days)} days, {int(confined.max())} in bed at the peak (BMJ 1978;1:587).\n"
        )
        console.print("The equations, as plain Python:")
        console.print(Syntax(_body(influenza.sir), "python", background_color="default"))
        _compare_speed(console)
        if show_ir:
            _show_ir(console)
        fit = _calibrate(console, confined)
        low, high = _predict(console, fit)
        inside = int(np.sum((confined >= low) & (confined <= high)))
        console.print(f"{inside} of {len(days)} observations lie inside the 95% band.")
        _draw(console, picture, days, confined, fit, low, high)
    r0, r0_low, r0_high = fit.estimates()["R0"]
    console.print(f"[bold]R0 = {r0:.2f} (95% interval {r0_low:.2f} to {r0_high:.2f})[/bold]")
    return 0


def _body(fn: Callable[..., Any]) -> str:
    """A function's source without its docstring."""
    source = inspect.getsource(fn)
    head, _, rest = source.partition('    """')
    return head + rest.partition('"""\n')[2]


def _best_time(fn: Callable[[], Any], repeats: int) -> float:
    times: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        fn()
        times.append(time.perf_counter() - start)
    return min(times)


def _compare_speed(console: Console) -> None:
    parameters = influenza.start()
    array = cnp.asarray(parameters)
    compiled = cv.jit(influenza.simulate)
    first = _best_time(lambda: compiled(array), 1)
    later = _best_time(lambda: compiled(array), 200)
    eager = _best_time(lambda: influenza.simulate_in_numpy(parameters), 3)
    difference = float(
        np.max(np.abs(np.asarray(compiled(array)) - influenza.simulate_in_numpy(parameters)))
    )
    steps = 14 * influenza.STEPS_PER_DAY
    table = Table(title=f"One simulation: {steps} steps of RK4", title_justify="left")
    table.add_column("")
    table.add_column("time", justify="right")
    table.add_row("tracing and compiling, once", f"{(first - later) * 1e3:.0f} ms")
    table.add_row("compiled", f"{later * 1e6:.1f} us")
    table.add_row("the same Python with NumPy numbers", f"{eager * 1e3:.2f} ms")
    table.add_row("compiled is faster by", f"{eager / later:.0f} times")
    table.add_row("largest difference (boys)", f"{difference:.1e}")
    console.print(table)


def _show_ir(console: Console) -> None:
    def peak(parameters: Any) -> Any:
        return influenza.simulate(parameters).max()

    parameters = cnp.asarray(influenza.start())
    gradient = cv.jit(cv.grad(peak))
    sections = [
        ("The program of the simulation's peak", cv.make_program(peak)(parameters).as_text()),
        ("The program of its gradient", gradient.trace(parameters).as_text()),
        ("The loop IR of the simulation", cv.jit(peak).lower(parameters).as_text("loopir")),
    ]
    for title, text in sections:
        console.rule(title)
        console.print(text, markup=False, highlight=False)


def _calibrate(console: Console, confined: np.ndarray[Any, Any]) -> influenza.Fit:
    with _progress(console, "calibrating by Gauss-Newton"):
        start = time.perf_counter()
        fit = influenza.calibrate(confined)
        seconds = time.perf_counter() - start
    table = Table(
        title=f"Calibrated in {len(fit.history) - 1} Gauss-Newton steps, "
        f"{seconds:.1f} s with compilation",
        title_justify="left",
    )
    for column in ("", "estimate", "95% interval"):
        table.add_column(column, justify="left" if not column else "right")
    for name, (value, low, high) in fit.estimates().items():
        table.add_row(name, f"{value:.3f}", f"{low:.3f} to {high:.3f}")
    table.add_row("residual std. deviation (boys)", f"{fit.sigma:.1f}", "")
    console.print(table)
    return fit


def _predict(
    console: Console, fit: influenza.Fit
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    with _progress(console, f"{SIMULATIONS:,} simulations at once with vmap"):
        start = time.perf_counter()
        band = influenza.predictive_band(fit, SIMULATIONS)
        seconds = time.perf_counter() - start
    console.print(f"{SIMULATIONS:,} simulations: {seconds:.2f} s with compilation.")
    return band


def _progress(console: Console, text: str) -> Progress:
    progress = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console
    )
    progress.add_task(text, total=None)
    return progress


def _draw(
    console: Console,
    picture: Path,
    days: np.ndarray[Any, Any],
    confined: np.ndarray[Any, Any],
    fit: influenza.Fit,
    low: np.ndarray[Any, Any],
    high: np.ndarray[Any, Any],
) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        console.print("No picture: matplotlib is missing (pip install 'covector[plot]').")
        return
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    course = np.asarray(cv.jit(influenza.simulate)(cnp.asarray(fit.parameters)))
    axes.fill_between(days, low, high, alpha=0.25, label="95% predictive band")
    axes.plot(days, course, label="SIR model, calibrated")
    axes.plot(days, confined, "o", color="black", label="confined to bed")
    axes.set_xlabel("day")
    axes.set_ylabel("boys")
    r0, r0_low, r0_high = fit.estimates()["R0"]
    axes.set_title(f"Influenza, 1978: R0 = {r0:.2f} ({r0_low:.2f} to {r0_high:.2f})")
    axes.legend()
    figure.savefig(picture, dpi=150)
    console.print(f"Picture: {picture.resolve()}")
