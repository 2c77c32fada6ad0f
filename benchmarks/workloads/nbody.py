"""Direct n-body: every pair, leapfrog steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workloads.case import Api, Case, Promise, Workload, jitted

H, SOFTENING = 1e-3, 1e-2


def _bodies(count: int) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(0)
    positions = generator.normal(size=(count, 3)).astype("float32")
    velocities = 0.1 * generator.normal(size=(count, 3)).astype("float32")
    return positions, velocities, np.full(count, 1 / count, "float32")


def _simulate(api: Api, steps: int, around_step: Callable[..., Any] = lambda f: f) -> Any:
    def simulate(positions: Any, velocities: Any, masses: Any) -> Any:
        def acceleration(p: Any) -> Any:
            apart = p[None, :, :] - p[:, None, :]
            squared = (apart**2).sum(-1) + SOFTENING**2
            return (masses[None, :, None] * apart * squared[:, :, None] ** -1.5).sum(1)

        def step(state: Any, _: Any) -> Any:
            p, v, a = state
            v = v + 0.5 * H * a
            p = p + H * v
            a = acceleration(p)
            return (p, v + 0.5 * H * a, a), None

        state = (positions, velocities, acceleration(positions))
        return api.lax.scan(around_step(step), state, None, length=steps)[0][:2]

    return simulate


def _simulate_apart(api: Api, steps: int) -> Any:
    """Coordinates kept apart by hand, reciprocal square roots: JAX's best."""

    def simulate(positions: Any, velocities: Any, masses: Any) -> Any:
        def acceleration(p: Any) -> Any:
            apart = [c[None, :] - c[:, None] for c in p]
            inverse = api.lax.rsqrt(sum(d * d for d in apart) + SOFTENING**2)
            pull = masses[None, :] * (inverse * inverse * inverse)
            return [(pull * d).sum(1) for d in apart]

        def moved(p: Any, h: float, v: Any) -> Any:
            return [a + h * b for a, b in zip(p, v, strict=True)]

        def step(state: Any, _: Any) -> Any:
            p, v, a = state
            v = moved(v, 0.5 * H, a)
            p = moved(p, H, v)
            a = acceleration(p)
            return (p, moved(v, 0.5 * H, a), a), None

        state = (list(positions.T), list(velocities.T), acceleration(list(positions.T)))
        p, v, _ = api.lax.scan(step, state, None, length=steps)[0]
        return api.np.stack(p, -1), api.np.stack(v, -1)

    return simulate


def forward(api: Api, count: int = 1024, steps: int = 100) -> Case:
    return jitted(api, _simulate(api, steps), *_bodies(count))


def forward_apart(api: Api, count: int = 1024, steps: int = 100) -> Case:
    return jitted(api, _simulate_apart(api, steps), *_bodies(count))


def gradient(api: Api, count: int = 1024, steps: int = 100) -> Case:
    """Of a final radius, by positions and velocities; steps are checkpointed, as they have to be.

    Without, JAX keeps several arrays of all pairs for each step: gigabytes.
    """
    simulate = _simulate(api, steps, api.checkpoint)

    def radius(positions: Any, velocities: Any, masses: Any) -> Any:
        return (simulate(positions, velocities, masses)[0] ** 2).sum()

    return jitted(api, api.grad(radius, argnums=(0, 1)), *_bodies(count))


TINY = {"count": 12, "steps": 3}
WORKLOADS = (
    Workload(
        "n-body 1024, 100 leapfrog steps",
        {"covector": forward, "jax": forward, "jax, coordinates apart": forward_apart},
        (Promise(("jax",), 6.0),),
        TINY,
        1e-3,
        limit=14.9e-3,
        laned=True,
    ),
    Workload(
        "n-body 1024, 100 leapfrog steps: gradient",
        {"covector": gradient, "jax": gradient},
        (Promise(("jax",), 3.0),),
        TINY,
        1e-2,
        laned=True,
    ),
)
