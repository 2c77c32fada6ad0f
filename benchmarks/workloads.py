"""What is measured. Each workload is written once, against JAX's API, and run by every peer.

A workload is a function of a peer's namespace that returns a `Case`: the callable to time, and a
function that gives its result as NumPy arrays for comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Api = Any


@dataclass(frozen=True)
class Case:
    """One workload, ready to run.

    Attributes:
        run: does the work once and waits for it.
        result: the result to compare, `None` where there is nothing to compare.
    """

    run: Callable[[], Any]
    result: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Workload:
    """A row of the table.

    Attributes:
        name: of the row.
        build: makes the case for a peer; called in the peer's own process.
        peers: who runs it besides Covector.
        unit: what one call is divided by, for the absolute figures: (count, name).
        tolerance: largest relative difference of results.
        target: the ratio to the best peer that the project has promised.
    """

    name: str
    build: Callable[[Api], Case]
    peers: tuple[str, ...]
    unit: tuple[float, str] = (1.0, "call")
    tolerance: float = 1e-4
    target: float | None = None


def _case(api: Api, fn: Callable[..., Any], *args: Any) -> Case:
    return Case(lambda: api.wait(fn(*args)), lambda: api.to_numpy(fn(*args)))


# --- dispatch and compilation -------------------------------------------------------------------


def dispatch(api: Api) -> Case:
    """A jitted call on one small array."""
    f = api.jit(lambda x: x + 1)
    x = api.np.arange(8, dtype="float32")
    f(x)
    return Case(lambda: f(x), lambda: api.to_numpy(f(x)))


def dispatch_ten(api: Api) -> Case:
    """A jitted call on ten small arrays."""
    f = api.jit(lambda *xs: sum(xs[1:], xs[0]))
    xs = [api.np.arange(8, dtype="float32") + k for k in range(10)]
    f(*xs)
    return Case(lambda: f(*xs), lambda: api.to_numpy(f(*xs)))


def eager_add(api: Api) -> Case:
    """An eager sum of two small arrays."""
    x = api.np.arange(8, dtype="float32")
    return Case(lambda: x + x, lambda: api.to_numpy(x + x))


def compile_small(api: Api) -> Case:
    """Tracing and compiling a function of three operations, never seen before."""
    x = api.np.arange(8, dtype="float32")
    counter = iter(range(1_000_000))

    def run() -> Any:
        # A new constant each time: no cache can know it.
        k = 1.0 + next(counter) * 1e-3
        return api.wait(api.jit(lambda v: api.np.sin(v) * 2 + k)(x))

    return Case(run)


# --- loops --------------------------------------------------------------------------------------


def lorenz_scan(api: Api) -> Case:
    """100,000 Euler steps of the Lorenz system, a vector of three."""
    steps = 100_000

    def rates(y: Any) -> Any:
        return api.np.stack(
            [10.0 * (y[1] - y[0]), y[0] * (28.0 - y[2]) - y[1], y[0] * y[1] - 8.0 / 3.0 * y[2]]
        )

    def simulate(y: Any) -> Any:
        return api.lax.scan(lambda y, _: (y + 1e-4 * rates(y), None), y, None, length=steps)[0]

    return _case(api, api.jit(simulate), api.np.ones(3, dtype="float32"))


def _tanh_field(api: Api, steps: int) -> tuple[Callable[..., Any], Any, Any]:
    def field(w: Any, y: Any) -> Any:
        return api.np.tanh(w @ y)

    def step(w: Any, y: Any, h: float) -> Any:
        k1 = field(w, y)
        k2 = field(w, y + h / 2 * k1)
        k3 = field(w, y + h / 2 * k2)
        k4 = field(w, y + h * k3)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    def simulate(w: Any, y: Any) -> Any:
        return api.lax.scan(lambda y, _: (step(w, y, 1e-3), None), y, None, length=steps)[0]

    w = api.np.asarray(np.random.default_rng(0).normal(size=(4, 4)).astype("float32"))
    return simulate, w, api.np.ones(4, dtype="float32")


def rk4_scan(api: Api) -> Case:
    """20,000 RK4 steps of a 4x4 tanh field, one trajectory."""
    simulate, w, y = _tanh_field(api, 20_000)
    return _case(api, api.jit(simulate), w, y)


def rk4_scan_grad(api: Api) -> Case:
    """The gradient of the same by the field's matrix."""
    simulate, w, y = _tanh_field(api, 20_000)
    return _case(api, api.jit(api.grad(lambda w, y: simulate(w, y).sum())), w, y)


def scalar_while(api: Api) -> Case:
    """A scalar while loop of 2^22 steps."""

    def loop(x: Any) -> Any:
        def body(carry: Any) -> Any:
            i, y = carry
            return i + 1, y * 0.999999 + 1.0

        return api.lax.while_loop(lambda c: c[0] < 2**22, body, (0, x))[1]

    return _case(api, api.jit(loop), api.np.asarray(1.0, dtype="float32"))


# --- many at once -------------------------------------------------------------------------------


def _lorenz_ensemble(
    api: Api, around_step: Callable[..., Any] = lambda step: step
) -> tuple[Callable[..., Any], Any, Any]:
    def rates(state: Any, rho: Any) -> Any:
        # Taken apart at once: with an index for each use, JAX's gradient takes ten times as long.
        x, y, z = state
        return api.np.stack([10.0 * (y - x), x * (rho - z) - y, x * y - 8.0 / 3.0 * z])

    def simulate(y: Any, rho: Any) -> Any:
        def step(y: Any, _: Any) -> Any:
            h = 1e-3
            k1 = rates(y, rho)
            k2 = rates(y + h / 2 * k1, rho)
            k3 = rates(y + h / 2 * k2, rho)
            k4 = rates(y + h * k3, rho)
            return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

        return api.lax.scan(around_step(step), y, None, length=1000)[0]

    starts = np.random.default_rng(0).normal(size=(16384, 3)).astype("float32")
    rhos = np.linspace(20.0, 30.0, 16384, dtype="float32")
    return api.vmap(simulate), api.np.asarray(starts), api.np.asarray(rhos)


def lorenz_ensemble(api: Api) -> Case:
    """1,000 RK4 steps of 16,384 Lorenz systems."""
    simulate, starts, rhos = _lorenz_ensemble(api)
    return _case(api, api.jit(simulate), starts, rhos)


def lorenz_ensemble_grad(api: Api) -> Case:
    """The gradient of the same by each system's parameter.

    With a checkpoint around the step, without which JAX takes several times as long.
    """
    simulate, starts, rhos = _lorenz_ensemble(api, api.checkpoint)
    gradient = api.jit(api.grad(lambda rhos, starts: (simulate(starts, rhos) ** 2).sum()))
    return _case(api, gradient, rhos, starts)


def mandelbrot(api: Api) -> Case:
    """Escape times of 400 x 400 points, at most 200 iterations: a while loop for each."""

    def escape(c: Any) -> Any:
        def body(state: Any) -> Any:
            x, y, k = state
            return x * x - y * y + c[0], 2 * x * y + c[1], k + 1

        def inside(state: Any) -> Any:
            x, y, k = state
            return (x * x + y * y < 4.0) & (k < 200)

        return api.lax.while_loop(inside, body, (0.0 * c[0], 0.0 * c[0], 0))[2]

    x, y = np.linspace(-2.0, 0.5, 400), np.linspace(-1.2, 1.2, 400)
    points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).astype("float32")
    return _case(api, api.jit(api.vmap(escape)), api.np.asarray(points))


def black_scholes(api: Api) -> Case:
    """100 steps of 102,400 geometric Brownian paths, normals drawn on the way."""

    def price(key: Any) -> Any:
        def step(logs: Any, key: Any) -> Any:
            drawn = api.random.normal(key, (102_400,))
            return logs + 0.0001 + 0.02 * drawn, None

        keys = api.random.split(key, 100)
        logs = api.lax.scan(step, api.np.zeros(102_400), keys)[0]
        return api.np.maximum(api.np.exp(logs) - 1.0, 0.0).mean()

    return _case(api, api.jit(price), api.random.key(0))


WORKLOADS = (
    Workload("jit(x+1), f32[8]", dispatch, ("jax",), target=2.0),
    Workload("jit, ten arguments f32[8]", dispatch_ten, ("jax",)),
    Workload("eager x+x, f32[8]", eager_add, ("jax", "numpy"), target=2.5),
    Workload("compile sin(x)*2+1", compile_small, ("jax",), target=2.0),
    Workload("Lorenz Euler scan", lorenz_scan, ("jax",), (1e5, "step"), 1e-2, 1.0),
    Workload("RK4 scan, 4x4 tanh", rk4_scan, ("jax",), (2e4, "step"), 1e-3, 1.0),
    Workload("RK4 scan, 4x4 tanh: gradient", rk4_scan_grad, ("jax",), (2e4, "step"), 1e-2, 1.0),
    Workload("RK4 Lorenz, 16384 x 1000", lorenz_ensemble, ("jax",), (16.384e6, "step"), 1e-2),
    Workload("RK4 Lorenz: gradient", lorenz_ensemble_grad, ("jax",), (16.384e6, "step"), 1e-2),
    Workload("Mandelbrot, 160k points", mandelbrot, ("jax",), (1.6e5, "point"), 0.5),
    Workload("GBM, 102400 x 100", black_scholes, ("jax",), (10.24e6, "step"), 1e-3),
    Workload("scalar while, 2^22", scalar_while, ("jax",), (2.0**22, "step"), 1e-3, 1.0),
)
