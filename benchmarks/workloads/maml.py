"""Meta-learning: the gradient through gradient steps, a second-order derivative."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from benchmarks.workloads.case import Api, Case, Promise, Workload, compiling, jitted

INNER_STEPS, RATE = 5, 0.01


def _tasks(tasks: int, shots: int) -> Any:
    generator = np.random.default_rng(0)
    amplitude = generator.uniform(0.1, 5.0, (tasks, 1, 1))
    phase = generator.uniform(0.0, np.pi, (tasks, 1, 1))
    x = generator.uniform(-5.0, 5.0, (2, tasks, shots, 1))
    y = amplitude * np.sin(x - phase)
    return tuple(a.astype("float32") for a in (x[0], y[0], x[1], y[1]))


def _weights(width: int) -> Any:
    generator = np.random.default_rng(1)
    sizes = (1, width, width, 1)
    flat: list[Any] = []
    for n, m in itertools.pairwise(sizes):
        flat += [generator.normal(size=(n, m)) / n**0.5, np.zeros(m)]
    return [w.astype("float32") for w in flat]


def _meta_loss(api: Api) -> Any:
    tanh = api.np.tanh

    def predict(weights: Any, x: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = weights
        return tanh(tanh(x @ w1 + b1) @ w2 + b2) @ w3 + b3

    def loss(weights: Any, x: Any, y: Any) -> Any:
        return ((predict(weights, x) - y) ** 2).mean()

    def adapted(weights: Any, x: Any, y: Any, seen_x: Any, seen_y: Any) -> Any:
        for _ in range(INNER_STEPS):
            slopes = api.grad(loss)(weights, x, y)
            weights = [w - RATE * g for w, g in zip(weights, slopes, strict=True)]
        return loss(weights, seen_x, seen_y)

    def meta(weights: Any, *batch: Any) -> Any:
        return api.vmap(adapted, in_axes=(None, 0, 0, 0, 0))(weights, *batch).mean()

    return meta


def step(api: Api, tasks: int = 25, shots: int = 10, width: int = 40) -> Case:
    meta = _meta_loss(api)

    def gradient(*args: Any) -> Any:
        return api.value_and_grad(meta)(list(args[:6]), *args[6:])

    return jitted(api, gradient, *_weights(width), *_tasks(tasks, shots))


def step_compile(api: Api, tasks: int = 25, shots: int = 10, width: int = 40) -> Case:
    def make(k: float) -> Any:
        meta = _meta_loss(api)

        def gradient(*args: Any) -> Any:
            return api.value_and_grad(lambda *a: k * meta(*a))(list(args[:6]), *args[6:])

        return gradient

    return compiling(api, make, *_weights(width), *_tasks(tasks, shots))


TINY = {"tasks": 3, "shots": 4, "width": 5}
WORKLOADS = (
    Workload(
        "MAML sinusoid step, 25 tasks",
        {"covector": step, "jax": step},
        (Promise(("jax",), 2.5),),
        TINY,
        1e-3,
        limit=0.43e-3,
    ),
    Workload(
        "MAML sinusoid step: compile",
        {"covector": step_compile, "jax": step_compile},
        (Promise(("jax",), 3.0),),
        TINY,
        1e-3,
    ),
)
