"""Networks in loops: what a batch shares is read by all, and products are of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads.case import Api, Case, Workload, jitted

RNG = np.random.default_rng


def _normal(rng: Any, *shape: int) -> Any:
    return (rng.normal(size=shape) / 10).astype("float32")


def _neural_ode(api: Api, batch: int, hidden: int, steps: int) -> tuple[Any, ...]:
    tanh = api.np.tanh

    def one(y: Any, a: Any, b: Any, c: Any) -> Any:
        def step(y: Any, _: Any) -> Any:
            return y + 0.05 * tanh(tanh(y @ a) @ b) @ c, None

        return api.lax.scan(step, y, None, length=steps)[0]

    rng = RNG(0)
    shapes = ((batch, 8), (8, hidden), (hidden, hidden), (hidden, 8))
    return api.vmap(one, (0, None, None, None)), *[_normal(rng, *shape) for shape in shapes]


def neural_ode(api: Api, batch: int = 512, hidden: int = 128, steps: int = 50) -> Case:
    return jitted(api, *_neural_ode(api, batch, hidden, steps))


def neural_ode_gradient(api: Api, batch: int = 512, hidden: int = 128, steps: int = 50) -> Case:
    """By the states and all weights."""
    function, *args = _neural_ode(api, batch, hidden, steps)
    return jitted(api, api.grad(lambda *a: function(*a).sum(), (0, 1, 2, 3)), *args)


def _gru(api: Api, batch: int, hidden: int, steps: int) -> tuple[Any, ...]:
    xp = api.np

    def sigmoid(x: Any) -> Any:
        return 1 / (1 + xp.exp(-x))

    def one(xs: Any, w: Any, u: Any) -> Any:
        def cell(state: Any, x: Any) -> Any:
            z, r, n = xp.split(x @ w + state @ u, 3)
            z, r = sigmoid(z), sigmoid(r)
            return (1 - z) * xp.tanh(r * n) + z * state, None

        return api.lax.scan(cell, xp.zeros(hidden, "float32"), xs)[0]

    rng = RNG(0)
    shapes = ((batch, steps, 32), (32, 3 * hidden), (hidden, 3 * hidden))
    return api.vmap(one, (0, None, None)), *[_normal(rng, *shape) for shape in shapes]


def gru(api: Api, batch: int = 64, hidden: int = 256, steps: int = 50) -> Case:
    return jitted(api, *_gru(api, batch, hidden, steps))


def gru_gradient(api: Api, batch: int = 64, hidden: int = 256, steps: int = 50) -> Case:
    """By the inputs and all weights."""
    function, *args = _gru(api, batch, hidden, steps)
    return jitted(api, api.grad(lambda *a: function(*a).sum(), (0, 1, 2)), *args)


def _own_matrices(api: Api, batch: int, size: int, steps: int) -> tuple[Any, ...]:
    def one(y: Any, a: Any) -> Any:
        def step(y: Any, _: Any) -> Any:
            return y + 0.01 * api.np.tanh(a @ y), None

        return api.lax.scan(step, y, None, length=steps)[0]

    rng = RNG(0)
    return api.vmap(one), _normal(rng, batch, size), _normal(rng, batch, size, size)


def own_matrices(api: Api, batch: int = 256, size: int = 32, steps: int = 100) -> Case:
    """A matrix for each element of the batch: nothing is shared."""
    return jitted(api, *_own_matrices(api, batch, size, steps))


def own_matrices_gradient(api: Api, batch: int = 256, size: int = 32, steps: int = 100) -> Case:
    function, *args = _own_matrices(api, batch, size, steps)
    return jitted(api, api.grad(lambda *a: function(*a).sum(), (0, 1)), *args)


_TINY = {"batch": 20, "hidden": 6, "steps": 3}

WORKLOADS = (
    Workload(
        "neural ODE, 512 x 128 hidden, 50 steps",
        {"covector": neural_ode, "jax": neural_ode},
        tiny=_TINY,
    ),
    Workload(
        "neural ODE, 512 x 128 hidden: gradient",
        {"covector": neural_ode_gradient, "jax": neural_ode_gradient},
        tiny=_TINY,
        tolerance=1e-3,
    ),
    Workload("GRU, 64 x 256, 50 steps", {"covector": gru, "jax": gru}, tiny=_TINY),
    Workload(
        "GRU, 64 x 256, 50 steps: gradient",
        {"covector": gru_gradient, "jax": gru_gradient},
        tiny=_TINY,
        tolerance=1e-3,
    ),
    Workload(
        "256 linear systems of 32, 100 steps",
        {"covector": own_matrices, "jax": own_matrices},
        tiny={"batch": 20, "size": 5, "steps": 3},
    ),
    Workload(
        "256 linear systems of 32: gradient",
        {"covector": own_matrices_gradient, "jax": own_matrices_gradient},
        tiny={"batch": 20, "size": 5, "steps": 3},
        tolerance=1e-3,
    ),
)
