"""Calls so small that only their overhead counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads.case import Api, Case, Promise, Workload


def _small(api: Api, add: float = 0.0) -> Any:
    return api.put(np.arange(8, dtype="float32") + np.float32(add))


def _calls(api: Api, fn: Any, *args: Any) -> Case:
    # Nobody waits: a peer that computes asynchronously is asked for its dispatch alone.
    fn(*args)
    return Case(lambda: fn(*args), lambda: api.leaves(fn(*args)))


def jit_one(api: Api) -> Case:
    return _calls(api, api.jit(lambda x: x + 1), _small(api))


def numpy_one(api: Api) -> Case:
    return _calls(api, lambda x: x + 1, _small(api))


def numba_one(api: Api) -> Case:
    one = np.float32(1)
    return _calls(api, api.numba.njit(lambda x: x + one), _small(api))


def jit_ten(api: Api) -> Case:
    return _calls(
        api, api.jit(lambda *xs: sum(xs[1:], xs[0])), *(_small(api, k) for k in range(10))
    )


def eager(api: Api) -> Case:
    return _calls(api, lambda x: x + x, _small(api))


FOUR = (Promise(("jax",), 4.0),)
WORKLOADS = (
    Workload(
        "jit(x + 1), f32[8]",
        {"covector": jit_one, "jax": jit_one, "numba": numba_one, "numpy": numpy_one},
        FOUR,
        limit=0.14e-6,
    ),
    Workload("jit of ten arguments f32[8]", {"covector": jit_ten, "jax": jit_ten}, FOUR),
    Workload(
        "eager x + x, f32[8]",
        {"covector": eager, "jax": eager, "torch": eager, "numpy": eager},
        FOUR,
    ),
)
