"""Monte Carlo: option prices and their pathwise derivatives, normals drawn step by step."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads.case import Api, Case, Promise, Workload, jitted

SEED = np.uint32(7)


def _gbm(api: Api, paths: int, steps: int) -> Any:
    xp, dt = api.np, 1.0 / steps

    def price(parameters: Any, seed: Any) -> Any:
        spot, rate, volatility = parameters

        def step(logs: Any, key: Any) -> Any:
            drawn = api.random.normal(key, (paths,))
            drift = (rate - 0.5 * volatility**2) * dt
            return logs + drift + volatility * dt**0.5 * drawn, None

        keys = api.random.split(api.random.key(seed), steps)
        logs = api.lax.scan(step, xp.zeros(paths, "float32"), keys)[0]
        return xp.exp(-rate) * xp.maximum(spot * xp.exp(logs) - 100.0, 0.0).mean()

    return price, np.array([100.0, 0.03, 0.2], "float32")


def _heston(api: Api, paths: int, steps: int) -> Any:
    xp, dt = api.np, 1.0 / steps

    def price(parameters: Any, seed: Any) -> Any:
        spot, variance, reversion, level, volatility, correlation = parameters
        other = xp.sqrt(1.0 - correlation**2)

        def step(state: Any, key: Any) -> Any:
            logs, v = state
            key_price, key_variance = api.random.split(key)
            a = api.random.normal(key_price, (paths,))
            b = api.random.normal(key_variance, (paths,))
            v = xp.maximum(v, 0.0)
            # The square root's derivative at 0 is infinite.
            root = xp.sqrt(v + 1e-8) * dt**0.5
            logs = logs - 0.5 * v * dt + root * a
            v = v + reversion * (level - v) * dt
            return (logs, v + volatility * root * (correlation * a + other * b)), None

        keys = api.random.split(api.random.key(seed), steps)
        start = (xp.zeros(paths, "float32"), xp.zeros(paths, "float32") + variance)
        logs = api.lax.scan(step, start, keys)[0][0]
        return xp.maximum(spot * xp.exp(logs) - 100.0, 0.0).mean()

    return price, np.array([100.0, 0.04, 2.0, 0.04, 0.3, -0.7], "float32")


def gbm(api: Api, paths: int = 102_400, steps: int = 100) -> Case:
    return jitted(api, *_gbm(api, paths, steps), SEED)


def gbm_greeks(api: Api, paths: int = 102_400, steps: int = 100) -> Case:
    price, parameters = _gbm(api, paths, steps)
    return jitted(api, api.value_and_grad(price), parameters, SEED)


def heston(api: Api, paths: int = 102_400, steps: int = 100) -> Case:
    return jitted(api, *_heston(api, paths, steps), SEED)


def heston_greeks(api: Api, paths: int = 102_400, steps: int = 100) -> Case:
    price, parameters = _heston(api, paths, steps)
    return jitted(api, api.value_and_grad(price), parameters, SEED)


TINY = {"paths": 100, "steps": 5}


def _row(name: str, build: Any, limit: float | None) -> Workload:
    versions = {"covector": build, "jax": build}
    promises = (Promise(("jax",), 4.0),)
    return Workload(name, versions, promises, TINY, 1e-3, limit=limit, laned=True)


WORKLOADS = (
    _row("GBM 102,400 x 100: price", gbm, 13.6e-3),
    _row("GBM 102,400 x 100: price and Greeks", gbm_greeks, None),
    _row("Heston 102,400 x 100: price", heston, 27.9e-3),
    _row("Heston 102,400 x 100: price and Greeks", heston_greeks, None),
)
