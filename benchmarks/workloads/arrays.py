"""Big arrays: rows normalised, cumulative sums, reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workloads.case import Api, Case, Promise, Workload, called, jitted


def _rows(n: int, m: int) -> Any:
    return np.random.default_rng(0).normal(size=(n, m)).astype("float32")


def _layer_norm(x: Any, root: Callable[[Any], Any]) -> Any:
    centred = x - x.mean(-1)[:, None]
    return centred * root((centred**2).mean(-1) + 1e-5)[:, None]


def softmax(api: Api, n: int = 4096, m: int = 1024) -> Case:
    return jitted(api, lambda x: api.nn.softmax(x, axis=-1), _rows(n, m))


def layer_norm(api: Api, n: int = 4096, m: int = 1024) -> Case:
    return jitted(api, lambda x: _layer_norm(x, api.lax.rsqrt), _rows(n, m))


def logsumexp(api: Api, n: int = 4096, m: int = 1024) -> Case:
    return jitted(api, lambda x: api.nn.logsumexp(x, axis=-1), _rows(n, m))


def _torch_rows(fn: Callable[[Api, Any], Any], compiled: bool) -> Callable[..., Case]:
    def build(api: Api, n: int = 4096, m: int = 1024) -> Case:
        def function(x: Any) -> Any:
            return fn(api.torch, x)

        return called(api, api.compile(function) if compiled else function, _rows(n, m))

    return build


def _row(name: str, build: Any, torch: Any, limit: float) -> Workload:
    versions = {
        "covector": build,
        "jax": build,
        "torch": _torch_rows(torch, True),
        "torch, eager": _torch_rows(torch, False),
    }
    promises = (Promise(("jax",), 1.5), Promise(("torch", "torch, eager"), 1.0))
    return Workload(f"{name} 4096 x 1024", versions, promises, {"n": 7, "m": 20}, limit=limit)


def _numbers(n: int) -> Any:
    return np.random.default_rng(0).uniform(-1.0, 1.0, n).astype("float32")


def _vector(fn: Callable[[Any, Any], Any]) -> Callable[..., Case]:
    """A function of a vector, in JAX's and NumPy's manner."""

    def build(api: Api, n: int = 10_000_000) -> Case:
        make = jitted if hasattr(api, "jit") else called
        return make(api, lambda x: fn(api.np, x), _numbers(n))

    return build


def _vector_torch(fn: Callable[[Any, Any], Any], compiled: bool = False) -> Callable[..., Case]:
    def build(api: Api, n: int = 10_000_000) -> Case:
        def function(x: Any) -> Any:
            return fn(api.torch, x)

        return called(api, api.compile(function) if compiled else function, _numbers(n))

    return build


def _mean_variance(xp: Any, x: Any) -> Any:
    return x.mean(), x.var()


def _torch_mean_variance(torch: Any, x: Any) -> Any:
    return x.mean(), x.var(correction=0)


def associative(api: Api, n: int = 10_000_000) -> Case:
    return jitted(api, lambda x: api.lax.associative_scan(api.np.add, x), _numbers(n))


def cumsum_1m(build: Callable[..., Case]) -> Callable[..., Case]:
    """The same with a million numbers."""
    return lambda api, n=1_000_000: build(api, n=n)


def _cumsum(name: str, sized: Callable[..., Any], limit: float) -> Workload:
    build = sized(_vector(lambda xp, x: xp.cumsum(x)))
    versions = {
        "covector": build,
        "jax": build,
        "jax, associative_scan": sized(associative),
        "torch": sized(_vector_torch(lambda torch, x: torch.cumsum(x, 0))),
        "numpy": build,
    }
    promises = (Promise(("jax",), 8.0), Promise(("torch",), 2.0))
    return Workload(name, versions, promises, {"n": 1000}, 1e-3, limit=limit)


def _reduction(name: str, fn: Any, torch: Any, tolerance: float = 1e-3) -> Workload:
    build = _vector(fn)
    versions = {
        "covector": build,
        "jax": build,
        "torch": _vector_torch(torch, compiled=True),
        "torch, eager": _vector_torch(torch),
        "numpy": build,
    }
    return Workload(name, versions, (Promise(("jax",), 1.0),), {"n": 1000}, tolerance)


WORKLOADS = (
    _row("softmax", softmax, lambda torch, x: torch.softmax(x, -1), 1.0e-3),
    _row("layer norm", layer_norm, lambda torch, x: _layer_norm(x, torch.rsqrt), 0.9e-3),
    _row("logsumexp", logsumexp, lambda torch, x: torch.logsumexp(x, -1), 0.82e-3),
    _cumsum("cumsum 1M", cumsum_1m, 0.12e-3),
    _cumsum("cumsum 10M", lambda build: build, 2.65e-3),
    _reduction("sum 10M", lambda xp, x: xp.sum(x), lambda torch, x: torch.sum(x)),
    _reduction("mean and variance 10M", _mean_variance, _torch_mean_variance),
    _reduction("argmax 10M", lambda xp, x: xp.argmax(x), lambda torch, x: torch.argmax(x), 0.0),
)
