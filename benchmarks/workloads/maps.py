"""Elementwise maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads.case import Api, Case, Promise, Workload, called, jitted


def _points(n: int) -> Any:
    return np.linspace(-3.0, 3.0, n, dtype="float32")


def _fused(xp: Any, x: Any) -> Any:
    return xp.exp(2 * xp.sin(x) + 1) / (1 + x * x)


def fused(api: Api, n: int = 10_000_000) -> Case:
    return jitted(api, lambda x: _fused(api.np, x), _points(n))


def fused_torch(api: Api, n: int = 10_000_000) -> Case:
    return called(api, api.compile(lambda x: _fused(api.torch, x)), _points(n))


def fused_numpy(api: Api, n: int = 10_000_000) -> Case:
    return called(api, lambda x: _fused(np, x), _points(n))


def fused_numba(api: Api, n: int = 10_000_000) -> Case:
    @api.numba.njit(parallel=True, fastmath=True)
    def f(x: Any) -> Any:
        return np.exp(np.float32(2) * np.sin(x) + np.float32(1)) / (np.float32(1) + x * x)

    return called(api, f, _points(n))


WORKLOADS = (
    Workload(
        "fused transcendental map, 10M",
        {
            "covector": fused,
            "jax": fused,
            "torch": fused_torch,
            "numba": fused_numba,
            "numpy": fused_numpy,
        },
        (Promise(("jax", "torch"), 2.0),),
        {"n": 1000},
        limit=7.4e-3,
    ),
)
