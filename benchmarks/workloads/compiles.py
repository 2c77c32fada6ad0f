"""Tracing and compiling functions never seen before."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from benchmarks.workloads.adaptive import A
from benchmarks.workloads.case import Api, Case, Promise, Workload, compiling


def small(api: Api) -> Case:
    """Three operations."""
    return compiling(api, lambda k: lambda x: api.np.sin(x) * 2 + k, np.arange(8, dtype="float32"))


def unrolled(api: Api, steps: int = 800) -> Case:
    """The gradient of steps that a Python loop has written out: Euler's, of a 4x4 tanh field.

    Each step has a matrix product, at which XLA ends what it fuses. Of steps of scalars alone
    (`unrolled_scalars`) it fuses all, in time that is exponential in steps: 800 of them it does
    not compile within half an hour, and there would be nothing to compare with.
    """
    field = np.random.default_rng(0).normal(0.0, 0.3, (4, 4)).astype("float32")

    def make(k: float) -> Any:
        def simulate(y: Any) -> Any:
            for _ in range(steps):
                y = y + 0.01 * api.np.tanh(api.np.asarray(field) @ y)
            return k * y.sum()

        return api.grad(simulate)

    return compiling(api, make, np.ones(4, "float32"))


def unrolled_scalars(api: Api, steps: int = 100) -> Case:
    """The gradient of a pendulum's steps that a Python loop has written out.

    Few enough for XLA to compile, in a second; 200 take it more than 40.
    """

    def make(k: float) -> Any:
        def simulate(y: Any) -> Any:
            position, velocity = y
            for _ in range(steps):
                velocity = velocity - 0.01 * api.np.sin(position)
                position = position + 0.01 * velocity
            return k * position + velocity

        return api.grad(simulate)

    return compiling(api, make, np.array([0.5, 0.0], "float32"))


def _network(width: int) -> list[Any]:
    generator = np.random.default_rng(0)
    sizes = (8, width, width, width, width, width, 1)
    flat: list[Any] = []
    for n, m in itertools.pairwise(sizes):
        flat += [generator.normal(size=(n, m)) / n**0.5, np.zeros(m)]
    return [w.astype("float32") for w in flat]


def network(api: Api, width: int = 64, batch: int = 32) -> Case:
    """The gradient of a network of six layers."""

    def make(k: float) -> Any:
        def loss(weights: Any, x: Any) -> Any:
            for w, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
                x = api.np.tanh(x @ w + b)
            return k * ((x @ weights[-2] + weights[-1]) ** 2).mean()

        def gradient(*args: Any) -> Any:
            return api.grad(loss)(list(args[:-1]), args[-1])

        return gradient

    x = np.random.default_rng(1).normal(size=(batch, 8)).astype("float32")
    return compiling(api, make, *_network(width), x)


def tsit5(api: Api, steps: int = 100) -> Case:
    """The gradient of a scan of Tsitouras 5 steps."""

    def make(k: float) -> Any:
        def simulate(parameters: Any, y: Any) -> Any:
            def rates(y: Any) -> Any:
                a, b, c, d = parameters
                prey, hunters = y
                growth = prey * (a - b * hunters)
                return api.np.stack([growth, hunters * (c * prey - d)])

            def step(y: Any, _: Any) -> Any:
                slopes, ahead = [rates(y)], y
                for row in A:
                    ahead = y + 0.05 * sum(w * s for w, s in zip(row, slopes, strict=True))
                    slopes.append(rates(ahead))
                return ahead, None

            return k * api.lax.scan(step, y, None, length=steps)[0].sum()

        return api.grad(simulate)

    parameters = np.array([1.1, 0.4, 0.1, 0.4], "float32")
    return compiling(api, make, parameters, np.array([10.0, 5.0], "float32"))


def _row(name: str, build: Any, ratio: float, tiny: dict[str, int]) -> Workload:
    versions = {"covector": build, "jax": build}
    promises = (Promise(("jax",), ratio),)
    return Workload(f"compile {name}", versions, promises, tiny, 1e-2, cold=True)


WORKLOADS = (
    _row("sin(x)*2+1", small, 2.0, {}),
    _row("the gradient of 800 unrolled steps", unrolled, 4.0, {"steps": 5}),
    _row("the gradient of 100 unrolled steps of scalars", unrolled_scalars, 4.0, {"steps": 5}),
    _row("the gradient of 6 layers", network, 2.0, {"width": 5}),
    _row("the gradient of Tsit5 steps", tsit5, 2.0, {"steps": 5}),
)
