"""Ensembles of small systems, integrated with fixed steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workloads.case import Api, Case, Promise, Workload, called, jitted

STEP = 1e-3


def _start(lanes: int) -> tuple[Any, Any]:
    states = np.random.default_rng(0).normal(size=(lanes, 3)).astype("float32")
    return states, np.linspace(20.0, 30.0, lanes, dtype="float32")


def _rk4(rates: Callable[[Any], Any], y: Any, h: float) -> Any:
    k1 = rates(y)
    k2 = rates(y + h / 2 * k1)
    k3 = rates(y + h / 2 * k2)
    k4 = rates(y + h * k3)
    return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def _lorenz(api: Api, steps: int, around_step: Callable[..., Any] = lambda f: f) -> Any:
    def simulate(y: Any, rho: Any) -> Any:
        def rates(state: Any) -> Any:
            # Taken apart at once: with an index for each use, JAX's gradient takes ten times as
            # long.
            x, y, z = state
            return api.np.stack([10.0 * (y - x), x * (rho - z) - y, x * y - 8.0 / 3.0 * z])

        def step(y: Any, _: Any) -> Any:
            return _rk4(rates, y, STEP), None

        return api.lax.scan(around_step(step), y, None, length=steps)[0]

    return simulate


def lorenz(api: Api, lanes: int = 16384, steps: int = 1000) -> Case:
    return jitted(api, api.vmap(_lorenz(api, steps)), *_start(lanes))


def lorenz_torch(api: Api, lanes: int = 16384, steps: int = 1000) -> Case:
    """Ten steps at a time in one compiled function, called in a Python loop."""
    torch = api.torch
    unrolled = 10 if steps % 10 == 0 else 1

    @api.compile
    def advance(x: Any, y: Any, z: Any, rho: Any) -> Any:
        def rates(s: Any) -> Any:
            x, y, z = s
            return 10.0 * (y - x), x * (rho - z) - y, x * y - 8.0 / 3.0 * z

        def moved(s: Any, h: float, k: Any) -> Any:
            return tuple(a + h * b for a, b in zip(s, k, strict=True))

        s = (x, y, z)
        for _ in range(unrolled):
            k1 = rates(s)
            k2 = rates(moved(s, STEP / 2, k1))
            k3 = rates(moved(s, STEP / 2, k2))
            k4 = rates(moved(s, STEP, k3))
            slopes = [a + 2 * b + 2 * c + d for a, b, c, d in zip(k1, k2, k3, k4, strict=True)]
            s = moved(s, STEP / 6, slopes)
        return s

    def run(states: Any, rho: Any) -> Any:
        s = tuple(states.T.contiguous())
        for _ in range(steps // unrolled):
            s = advance(*s, rho)
        return torch.stack(s, -1)

    return called(api, run, *_start(lanes))


def lorenz_numba(api: Api, lanes: int = 16384, steps: int = 1000) -> Case:
    f4, prange = np.float32, api.numba.prange
    sigma, beta = f4(10.0), f4(8.0 / 3.0)
    half, whole, sixth, two = f4(STEP / 2), f4(STEP), f4(STEP / 6), f4(2)

    @api.numba.njit(fastmath=True)
    def rates(x: Any, y: Any, z: Any, rho: Any) -> Any:
        return sigma * (y - x), x * (rho - z) - y, x * y - beta * z

    @api.numba.njit(parallel=True, fastmath=True)
    def run(states: Any, rhos: Any) -> Any:
        out = np.empty_like(states)
        for lane in prange(states.shape[0]):
            x, y, z = states[lane, 0], states[lane, 1], states[lane, 2]
            rho = rhos[lane]
            for _ in range(steps):
                a1, b1, c1 = rates(x, y, z, rho)
                a2, b2, c2 = rates(x + half * a1, y + half * b1, z + half * c1, rho)
                a3, b3, c3 = rates(x + half * a2, y + half * b2, z + half * c2, rho)
                a4, b4, c4 = rates(x + whole * a3, y + whole * b3, z + whole * c3, rho)
                x += sixth * (a1 + two * a2 + two * a3 + a4)
                y += sixth * (b1 + two * b2 + two * b3 + b4)
                z += sixth * (c1 + two * c2 + two * c3 + c4)
            out[lane, 0], out[lane, 1], out[lane, 2] = x, y, z
        return out

    return called(api, run, *_start(lanes))


def _lorenz_gradient(api: Api, lanes: int, simulate: Any) -> Case:
    states, rhos = _start(lanes)
    gradient = api.grad(lambda rhos, states: (api.vmap(simulate)(states, rhos) ** 2).sum())
    return jitted(api, gradient, rhos, states)


def lorenz_gradient(api: Api, lanes: int = 16384, steps: int = 1000) -> Case:
    return _lorenz_gradient(api, lanes, _lorenz(api, steps))


def lorenz_gradient_checkpoint(api: Api, lanes: int = 16384, steps: int = 1000) -> Case:
    return _lorenz_gradient(api, lanes, _lorenz(api, steps, api.checkpoint))


def lorenz_gradient_chunked(api: Api, lanes: int = 16384, steps: int = 1000) -> Case:
    """By hand: 256 lanes at a time, whose tape fits into the cache."""
    states, rhos = _start(lanes)
    simulate = _lorenz(api, steps, api.checkpoint)
    one = api.grad(lambda rho, y: (simulate(y, rho) ** 2).sum())

    def gradient(rhos: Any, states: Any) -> Any:
        return api.lax.map(lambda a: one(*a), (rhos, states), batch_size=min(256, lanes))

    return jitted(api, gradient, rhos, states)


def hodgkin_huxley(api: Api, lanes: int = 4096, steps: int = 1000) -> Case:
    """Squid axon membranes under different currents, forward Euler with 0.01 ms."""
    xp, exp, h = api.np, api.np.exp, 0.01

    def exprel(x: Any) -> Any:
        return xp.where(xp.abs(x) < 1e-4, 1.0 + x / 2, x / (1.0 - exp(-x)))

    def neuron(current: Any) -> Any:
        def step(state: Any, _: Any) -> Any:
            v, n, m, k = state
            opening_n = 0.1 * exprel((v + 55.0) / 10.0)
            opening_m = exprel((v + 40.0) / 10.0)
            opening_k = 0.07 * exp(-(v + 65.0) / 20.0)
            closing_n = 0.125 * exp(-(v + 65.0) / 80.0)
            closing_m = 4.0 * exp(-(v + 65.0) / 18.0)
            closing_k = 1.0 / (1.0 + exp(-(v + 35.0) / 10.0))
            sodium = 120.0 * m**3 * k * (v - 50.0)
            potassium = 36.0 * n**4 * (v + 77.0)
            leak = 0.3 * (v + 54.387)
            return (
                v + h * (current - sodium - potassium - leak),
                n + h * (opening_n * (1.0 - n) - closing_n * n),
                m + h * (opening_m * (1.0 - m) - closing_m * m),
                k + h * (opening_k * (1.0 - k) - closing_k * k),
            ), None

        start = (-65.0 + 0.0 * current, 0.317 + 0.0 * current, 0.053 + 0.0 * current)
        start = (*start, 0.596 + 0.0 * current)
        return api.lax.scan(step, start, None, length=steps)[0]

    return jitted(api, api.vmap(neuron), np.linspace(0.0, 20.0, lanes, dtype="float32"))


TINY = {"lanes": 20, "steps": 10}
WORKLOADS = (
    Workload(
        "RK4 Lorenz 16384 x 1000",
        {"covector": lorenz, "jax": lorenz, "torch": lorenz_torch, "numba": lorenz_numba},
        (Promise(("jax",), 5.0),),
        TINY,
        1e-3,
        limit=4.9e-3,
        laned=True,
    ),
    Workload(
        "RK4 Lorenz 16384 x 1000: gradient",
        {
            "covector": lorenz_gradient,
            "jax": lorenz_gradient,
            "jax, checkpoint": lorenz_gradient_checkpoint,
            "jax, checkpoint, 256 at a time": lorenz_gradient_chunked,
        },
        (Promise(("jax",), 15.0), Promise(("jax, checkpoint",), 8.0)),
        TINY,
        1e-3,
        limit=15.1e-3,
        laned=True,
    ),
    Workload(
        "Hodgkin-Huxley 4096 x 1000",
        {"covector": hodgkin_huxley, "jax": hodgkin_huxley},
        (Promise(("jax",), 2.5),),
        TINY,
        1e-2,
        limit=4.1e-3,
        laned=True,
    ),
)
