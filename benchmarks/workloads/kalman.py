"""The Kalman filter's log-likelihood as one writes it, with `linalg`, vmapped over series."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads.case import Api, Case, Promise, Workload, compiling, jitted


def _model() -> tuple[Any, Any, Any, Any]:
    dt = 0.1
    f = np.eye(4) + dt * np.eye(4, k=2)
    h = np.eye(2, 4)
    q = np.kron([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]], np.eye(2))
    f, h, q, r = (np.asarray(a, "float32") for a in (0.95 * f, h, q, 0.5 * np.eye(2)))
    return f, h, q, r


def _series(count: int, steps: int) -> Any:
    f, h, q, r = _model()
    generator = np.random.default_rng(0)
    root_q, root_r = np.linalg.cholesky(q), np.linalg.cholesky(r)
    x, seen = np.zeros((count, 4)), []
    for _ in range(steps):
        x = x @ f.T + generator.normal(size=(count, 4)) @ root_q.T
        seen.append(x @ h.T + generator.normal(size=(count, 2)) @ root_r.T)
    return np.stack(seen, 1).astype("float32")


def _log_likelihood(api: Api) -> Any:
    xp, linalg = api.np, api.np.linalg

    def one(f: Any, h: Any, q: Any, r: Any, series: Any) -> Any:
        def step(state: Any, seen: Any) -> Any:
            x, p = state
            x, p = f @ x, f @ p @ f.T + q
            s = h @ p @ h.T + r
            residual = seen - h @ x
            gain = linalg.solve(s, h @ p).T
            term = linalg.slogdet(s)[1] + residual @ linalg.solve(s, residual)
            p = (xp.eye(4, dtype="float32") - gain @ h) @ p
            return (x + gain @ residual, 0.5 * (p + p.T)), term

        start = (xp.zeros(4, "float32"), xp.eye(4, dtype="float32"))
        terms = api.lax.scan(step, start, series)[1]
        return -0.5 * (terms.sum() + series.size * float(np.log(2 * np.pi)))

    def total(f: Any, h: Any, q: Any, r: Any, series: Any) -> Any:
        return api.vmap(lambda s: one(f, h, q, r, s))(series).sum()

    return total


def forward(api: Api, count: int = 256, steps: int = 1000) -> Case:
    return jitted(api, _log_likelihood(api), *_model(), _series(count, steps))


def gradient(api: Api, count: int = 256, steps: int = 1000) -> Case:
    """By all four matrices."""
    derivative = api.grad(_log_likelihood(api), argnums=(0, 1, 2, 3))
    return jitted(api, derivative, *_model(), _series(count, steps))


def gradient_compile(api: Api, count: int = 256, steps: int = 1000) -> Case:
    def make(k: float) -> Any:
        value = _log_likelihood(api)
        return api.grad(lambda *args: k * value(*args), argnums=(0, 1, 2, 3))

    return compiling(api, make, *_model(), _series(count, steps))


def _row(name: str, build: Any, ratio: float, limit: float | None) -> Workload:
    versions = {"covector": build, "jax": build}
    tiny = {"count": 3, "steps": 5}
    return Workload(name, versions, (Promise(("jax",), ratio),), tiny, 1e-2, limit=limit)


WORKLOADS = (
    _row("Kalman log-likelihood, 256 x 1000", forward, 8.0, 0.8e-3),
    _row("Kalman log-likelihood: gradient", gradient, 8.0, 3.3e-3),
    _row("Kalman log-likelihood: compile the gradient", gradient_compile, 3.0, None),
)
