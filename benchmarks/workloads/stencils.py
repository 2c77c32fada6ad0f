"""Stencils on a plane, in the formulation JAX compiles best: slices, and a pad for the frame."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads.case import Api, Case, Promise, Workload, called, jitted


def _plane(size: int) -> Any:
    x = np.linspace(0.0, np.pi, size)
    bumps = np.outer(np.sin(3 * x), np.sin(5 * x)) + 0.1 * np.outer(np.sin(17 * x), np.sin(13 * x))
    return bumps.astype("float32")


def heat(api: Api, size: int = 1024, steps: int = 100) -> Case:
    def step(u: Any, _: Any) -> Any:
        around = u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:]
        inner = u[1:-1, 1:-1]
        return api.np.pad(inner + 0.2 * (around - 4.0 * inner), 1), None

    return jitted(api, lambda u: api.lax.scan(step, u, None, length=steps)[0], _plane(size))


def heat_numba(api: Api, size: int = 1024, steps: int = 100) -> Case:
    prange, rate, four = api.numba.prange, np.float32(0.2), np.float32(4)

    @api.numba.njit(parallel=True, fastmath=True)
    def step(u: Any, out: Any) -> None:
        for i in prange(1, u.shape[0] - 1):
            for j in range(1, u.shape[1] - 1):
                around = u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1]
                out[i, j] = u[i, j] + rate * (around - four * u[i, j])

    def run(u: Any) -> Any:
        u, out = u.copy(), np.zeros_like(u)
        for _ in range(steps):
            step(u, out)
            u, out = out, u
            out[0] = out[-1] = 0
            out[:, 0] = out[:, -1] = 0
        return u

    return called(api, run, _plane(size))


def _hdiff(api: Api, steps: int) -> Any:
    """Horizontal diffusion as in weather models: fourth order, fluxes limited."""
    xp = api.np

    def limited(flux: Any, difference: Any) -> Any:
        return xp.where(flux * difference > 0.0, 0.0, flux)

    def step(u: Any, _: Any) -> Any:
        inner = u[1:-1, 1:-1]
        lap = 4.0 * inner - (u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:])
        down = limited(lap[1:, 1:-1] - lap[:-1, 1:-1], inner[1:, 1:-1] - inner[:-1, 1:-1])
        right = limited(lap[1:-1, 1:] - lap[1:-1, :-1], inner[1:-1, 1:] - inner[1:-1, :-1])
        change = down[1:] - down[:-1] + right[:, 1:] - right[:, :-1]
        return xp.pad(u[2:-2, 2:-2] - 0.03 * change, 2), None

    return lambda u: api.lax.scan(step, u, None, length=steps)[0]


def hdiff(api: Api, size: int = 1024, steps: int = 100) -> Case:
    # The limiter is discontinuous: after many steps roundings show. Two are compared.
    compared = jitted(api, _hdiff(api, 2), _plane(size))
    case = jitted(api, _hdiff(api, steps), _plane(size))
    return Case(case.run, compared.result, compiled=case.compiled)


TINY = {"size": 20, "steps": 3}
WORKLOADS = (
    Workload(
        "heat 1024^2, 100 steps",
        {"covector": heat, "jax": heat, "numba": heat_numba},
        (Promise(("jax",), 2.5),),
        TINY,
        1e-3,
        limit=6.7e-3,
    ),
    Workload(
        "hdiff 1024^2, 100 steps",
        {"covector": hdiff, "jax": hdiff},
        (Promise(("jax",), 2.0),),
        TINY,
        1e-3,
        differing=1e-4,
        limit=29e-3,
    ),
)
