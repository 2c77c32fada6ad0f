"""An epidemic model calibrated to a real outbreak, with gradients through a compiled simulation.

In January 1978 influenza went through an English boarding school of 763 boys. The SIR model
(Kermack and McKendrick, Proc. R. Soc. A 115, 1927) splits them into susceptible, infected and
recovered:

    dS/dt = -beta S I / N,    dI/dt = beta S I / N - gamma I,    dR/dt = gamma I

The infection rate beta, the recovery rate gamma and the number infected on the first day are found
by Gauss-Newton with Levenberg's damping; their covariance is the inverse Fisher information of
independent normal errors.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

import covector.numpy as cnp
from covector import jacfwd, jit, lax, random, vmap

BOYS = 763
STEPS_PER_DAY = 24
NAMES = ("beta", "gamma", "initially infected")


def load() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The data: days (1 to 14), and boys confined to bed on each."""
    text = resources.files("covector.gallery").joinpath("data/influenza_1978.csv").read_text()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    pairs = [(float(row["day"]), float(row["confined"])) for row in rows]
    return np.array([d for d, _ in pairs]), np.array([c for _, c in pairs])


def sir(state: Any, beta: Any, gamma: Any) -> Any:
    """The SIR equations.

    Args:
        state: susceptible, infected, recovered.
        beta: infections per infected and day in a susceptible population.
        gamma: recoveries per infected and day.

    Returns:
        The rates of change per day.
    """
    s, i, _ = state
    infections = beta * s * i / BOYS
    recoveries = gamma * i
    return -infections, infections - recoveries, recoveries


def rk4_step(state: Any, beta: Any, gamma: Any, h: float) -> Any:
    """One step of the classical Runge-Kutta method.

    Args:
        state: susceptible, infected, recovered.
        beta: as for `sir`.
        gamma: as for `sir`.
        h: step in days.

    Returns:
        The state after the step.
    """

    def moved(slope: Any, by: float) -> Any:
        return tuple([x + by * k for x, k in zip(state, slope, strict=True)])

    k1 = sir(state, beta, gamma)
    k2 = sir(moved(k1, h / 2), beta, gamma)
    k3 = sir(moved(k2, h / 2), beta, gamma)
    k4 = sir(moved(k3, h), beta, gamma)
    return tuple(
        [
            x + h / 6 * (a + 2 * b + 2 * c + d)
            for x, a, b, c, d in zip(state, k1, k2, k3, k4, strict=True)
        ]
    )


def simulate(parameters: Any, days: int = 14) -> Any:
    """Infected boys at the start of each day.

    Args:
        parameters: logarithms of beta, gamma and the number infected on day 1.
        days: how many days.

    Returns:
        An array with one number for each day.
    """
    beta, gamma, infected = cnp.exp(parameters)
    start = (BOYS - infected, infected, cnp.zeros_like(infected))

    def day(state: Any, _: None) -> Any:
        after = lax.fori_loop(
            0, STEPS_PER_DAY, lambda _, y: rk4_step(y, beta, gamma, 1 / STEPS_PER_DAY), state
        )
        return after, state[1]

    return lax.scan(day, start, None, length=days)[1]


def simulate_in_numpy(parameters: np.ndarray[Any, Any], days: int = 14) -> np.ndarray[Any, Any]:
    """The same simulation step by step in Python, with NumPy numbers.

    Args:
        parameters: as for `simulate`.
        days: how many days.

    Returns:
        An array with one number for each day.
    """
    beta, gamma, infected = np.exp(parameters)
    state = (BOYS - infected, infected, np.zeros_like(infected))
    course: list[Any] = []
    for _ in range(days):
        course.append(state[1])
        for _ in range(STEPS_PER_DAY):
            state = rk4_step(state, beta, gamma, 1 / STEPS_PER_DAY)
    return np.array(course)


@dataclass(frozen=True)
class Fit:
    """The calibrated model.

    Attributes:
        parameters: logarithms of beta, gamma and the initially infected.
        covariance: of the parameters, from the Fisher information.
        sigma: standard deviation of an observation.
        history: sum of squared residuals after each iteration.
    """

    parameters: np.ndarray[Any, Any]
    covariance: np.ndarray[Any, Any]
    sigma: float
    history: list[float]

    def estimates(self) -> dict[str, tuple[float, float, float]]:
        """Each quantity's estimate with its 95% interval, by name; R0 = beta / gamma among them."""
        rows = {name: np.eye(3)[k] for k, name in enumerate(NAMES)}
        rows["R0"] = np.array([1.0, -1.0, 0.0])
        found: dict[str, tuple[float, float, float]] = {}
        for name, row in rows.items():
            center = float(row @ self.parameters)
            spread = 1.959964 * float(np.sqrt(row @ self.covariance @ row))
            low, middle, high = np.exp([center - spread, center, center + spread])
            found[name] = (float(middle), float(low), float(high))
        return found


def start() -> np.ndarray[Any, Any]:
    """Where the calibration starts: beta 2, gamma 1/2, one boy infected."""
    return np.log(np.array([2.0, 0.5, 1.0]))


def calibrate(
    confined: np.ndarray[Any, Any], iterations: int = 50, tolerance: float = 1e-10
) -> Fit:
    """Least squares by Gauss-Newton; the Jacobian goes through the compiled simulation.

    Args:
        confined: boys in bed on each day.
        iterations: at most this many.
        tolerance: relative decrease of the sum of squares at which to stop.

    Returns:
        The fit.

    Raises:
        RuntimeError: if it does not converge.
    """

    @jit
    def residuals(p: Any) -> Any:
        return simulate(p, len(confined)) - confined

    jacobian = jit(jacfwd(residuals))
    parameters = start()
    damping = 1e-3
    r = np.asarray(residuals(parameters))
    history = [float(r @ r)]
    for _ in range(iterations):
        j = np.asarray(jacobian(parameters))
        normal = j.T @ j
        while True:
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -j.T @ r)
            trial = np.asarray(residuals(parameters + step))
            if trial @ trial <= history[-1]:
                break
            damping *= 10
            if damping >= 1e12:
                break
        parameters = parameters + step
        damping /= 10
        r = trial
        history.append(float(r @ r))
        if history[-2] - history[-1] <= tolerance * history[-1]:
            j = np.asarray(jacobian(parameters))
            sigma = float(np.sqrt(r @ r / (len(r) - 3)))
            return Fit(parameters, sigma**2 * np.linalg.inv(j.T @ j), sigma, history)
    raise RuntimeError(f"the calibration did not converge in {iterations} iterations")


def predictive_band(
    fit: Fit, count: int = 10_000, days: int = 14, seed: int = 0
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Bounds between which 95% of observations are expected.

    Args:
        fit: the calibrated model.
        count: how many simulations, all at once.
        days: how long each is.
        seed: of the random numbers.

    Returns:
        Lower and upper bound for each day.
    """

    @jit
    @vmap
    def simulate_all(p: Any) -> Any:
        return simulate(p, days)

    key, noise_key = random.split(random.key(seed))
    factor = np.linalg.cholesky(fit.covariance)
    deviations = random.normal(key, (count, 3), dtype=factor.dtype)
    courses = simulate_all(fit.parameters + deviations @ factor.T)
    noise = fit.sigma * random.normal(noise_key, (count, days), dtype=factor.dtype)
    observed = np.maximum(np.asarray(courses + noise), 0.0)
    low, high = np.percentile(observed, [2.5, 97.5], axis=0)
    return low, high
