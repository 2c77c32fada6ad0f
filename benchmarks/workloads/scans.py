"""Long scans of a single trajectory, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads.case import Api, Case, Promise, Workload, jitted
from benchmarks.workloads.ensembles import _rk4


def _tanh_field(api: Api, steps: int) -> tuple[Any, Any, Any]:
    def simulate(w: Any, y: Any) -> Any:
        def step(y: Any, _: Any) -> Any:
            return _rk4(lambda y: api.np.tanh(w @ y), y, 1e-3), None

        return api.lax.scan(step, y, None, length=steps)[0]

    w = np.random.default_rng(0).normal(size=(4, 4)).astype("float32")
    return simulate, w, np.ones(4, "float32")


def rk4(api: Api, steps: int = 20_000) -> Case:
    return jitted(api, *_tanh_field(api, steps))


def rk4_gradient(api: Api, steps: int = 20_000) -> Case:
    """By the field's matrix."""
    simulate, w, y = _tanh_field(api, steps)
    return jitted(api, api.grad(lambda w, y: simulate(w, y).sum()), w, y)


def reverse(api: Api, size: int = 20_000, steps: int = 1000) -> Case:
    """Coupled oscillators on a ring, by the midpoint rule; the gradient by the first state."""
    xp, h = api.np, 0.05

    def rates(phase: Any) -> Any:
        right, left = xp.roll(phase, -1) - phase, xp.roll(phase, 1) - phase
        return xp.sin(right) + xp.sin(left)

    def step(phase: Any, _: Any) -> Any:
        return phase + h * rates(phase + h / 2 * rates(phase)), None

    def order(phase: Any) -> Any:
        phase = api.lax.scan(step, phase, None, length=steps)[0]
        return xp.cos(phase).mean()

    phases = np.random.default_rng(0).uniform(-3.0, 3.0, size).astype("float32")
    return jitted(api, api.grad(order), phases)


WORKLOADS = (
    Workload(
        "RK4 scan, 4x4 tanh field, 20,000 steps",
        {"covector": rk4, "jax": rk4},
        (Promise(("jax",), 2.0),),
        {"steps": 20},
        1e-3,
    ),
    Workload(
        "RK4 scan, 4x4 tanh field: gradient",
        {"covector": rk4_gradient, "jax": rk4_gradient},
        (Promise(("jax",), 2.0),),
        {"steps": 20},
        1e-2,
    ),
    Workload(
        "reverse scan, 1000 x 80 kB",
        {"covector": reverse, "jax": reverse},
        (Promise(("jax",), 1.0),),
        {"size": 20, "steps": 10},
        1e-3,
    ),
)
