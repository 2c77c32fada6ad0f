"""The influenza calibration against scipy's integrator and optimiser, and the tour's output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import least_squares

import covector as cv
from covector.cli import main
from covector.gallery import influenza

Vector = np.ndarray[Any, Any]


def reference_course(parameters: Vector) -> Vector:
    beta, gamma, infected = np.exp(parameters)

    def rates(_: float, state: Vector) -> Vector:
        return np.array(influenza.sir(state, beta, gamma))

    start = [influenza.BOYS - infected, infected, 0.0]
    solution = solve_ivp(rates, (0.0, 13.0), start, t_eval=np.arange(14.0), rtol=1e-10, atol=1e-10)
    return solution.y[1]


def test_data() -> None:
    days, confined = influenza.load()
    assert days.tolist() == list(range(1, 15))
    assert confined.tolist()[:6] == [3, 8, 26, 76, 225, 298]


def test_simulation_agrees_with_scipy() -> None:
    with cv.enable_x64():
        ours = np.asarray(cv.jit(influenza.simulate)(influenza.start()))
    np.testing.assert_allclose(ours, reference_course(influenza.start()), rtol=1e-5)
    np.testing.assert_allclose(ours, influenza.simulate_in_numpy(influenza.start()), rtol=1e-12)


def test_fit_agrees_with_scipy() -> None:
    _, confined = influenza.load()
    with cv.enable_x64():
        fit = influenza.calibrate(confined)
    found = least_squares(
        lambda p: reference_course(p) - confined, influenza.start(), xtol=1e-12, ftol=1e-12
    )
    np.testing.assert_allclose(np.exp(fit.parameters), np.exp(found.x), rtol=5e-4)
    r0, low, high = fit.estimates()["R0"]
    assert low < r0 < high
    assert r0 == pytest.approx(np.exp(found.x[0] - found.x[1]), rel=5e-4)
    assert 3.5 < r0 < 4.0


def test_band_contains_most_observations() -> None:
    _, confined = influenza.load()
    with cv.enable_x64():
        fit = influenza.calibrate(confined)
        low, high = influenza.predictive_band(fit, 2000)
    assert np.all(low <= high)
    assert np.mean((confined >= low) & (confined <= high)) >= 0.7


def test_tour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "tour.png"
    assert main(["tour", "--picture", str(picture), "--show-ir"]) == 0
    printed = capsys.readouterr().out
    for part in ("R0 = ", "95% interval", "function entry", "program"):
        assert part in printed
    assert picture.stat().st_size > 10_000
