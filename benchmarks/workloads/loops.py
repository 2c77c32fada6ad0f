"""`while` loops: for each element, and one alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads.case import Api, Case, Promise, Workload, called, jitted


def divergent(api: Api, lanes: int = 1024, longest: int = 100_000) -> Case:
    """One element takes 100,000 steps, all others ten."""

    def count(n: Any, x: Any) -> Any:
        def body(state: Any) -> Any:
            k, x = state
            return k + 1, 0.999 * x + api.np.sin(x)

        return api.lax.while_loop(lambda state: state[0] < n, body, (0 * n, x))[1]

    steps = np.full(lanes, 10, "int32")
    steps[lanes // 2] = longest
    starts = np.linspace(0.0, 1.0, lanes, dtype="float32")
    return jitted(api, api.vmap(count), steps, starts)


def _grid(side: int) -> Any:
    x, y = np.linspace(-2.0, 0.5, side), np.linspace(-1.2, 1.2, side)
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).astype("float32")


def mandelbrot(api: Api, side: int = 400, most: int = 200) -> Case:
    """Escape times of points of the plane."""

    def escape(c: Any) -> Any:
        def body(state: Any) -> Any:
            x, y, k = state
            return x * x - y * y + c[0], 2 * x * y + c[1], k + 1

        def inside(state: Any) -> Any:
            x, y, k = state
            return (x * x + y * y < 4.0) & (k < most)

        return api.lax.while_loop(inside, body, (0.0 * c[0], 0.0 * c[0], 0))[2]

    return jitted(api, api.vmap(escape), _grid(side))


def mandelbrot_numba(api: Api, side: int = 400, most: int = 200) -> Case:
    two, four, prange = np.float32(2), np.float32(4), api.numba.prange

    @api.numba.njit(parallel=True)
    def run(points: Any) -> Any:
        out = np.empty(points.shape[0], np.int32)
        for p in prange(points.shape[0]):
            a, b = points[p, 0], points[p, 1]
            x, y, k = np.float32(0), np.float32(0), 0
            while x * x + y * y < four and k < most:
                x, y, k = x * x - y * y + a, two * x * y + b, k + 1
            out[p] = k
        return out

    return called(api, run, _grid(side))


def collatz(api: Api, count: int = 100_000) -> Case:
    """Steps to 1 from each of the first integers."""

    def length(n: Any) -> Any:
        def body(state: Any) -> Any:
            n, k = state
            return api.np.where(n % 2 == 0, n // 2, 3 * n + 1), k + 1

        return api.lax.while_loop(lambda state: state[0] != 1, body, (n, 0))[1]

    # From 113,383 on values exceed 32 bits.
    return jitted(api, api.vmap(length), np.arange(1, count + 1, dtype="int32"))


def collatz_numba(api: Api, count: int = 100_000) -> Case:
    prange = api.numba.prange

    @api.numba.njit(parallel=True)
    def run(numbers: Any) -> Any:
        out = np.empty(numbers.shape[0], np.int32)
        for p in prange(numbers.shape[0]):
            n, k = np.uint32(numbers[p]), 0
            while n != 1:
                n = n // np.uint32(2) if n % np.uint32(2) == 0 else np.uint32(3) * n + np.uint32(1)
                k += 1
            out[p] = k
        return out

    return called(api, run, np.arange(1, count + 1, dtype="int32"))


def scalar(api: Api, steps: int = 2**22) -> Case:
    """One number, 2^22 steps."""

    def loop(x: Any) -> Any:
        def body(carry: Any) -> Any:
            i, y = carry
            return i + 1, y * 0.999999 + 1.0

        return api.lax.while_loop(lambda carry: carry[0] < steps, body, (0, x))[1]

    return jitted(api, loop, np.float32(1.0))


def scalar_numba(api: Api, steps: int = 2**22) -> Case:
    a, b = np.float32(0.999999), np.float32(1.0)

    @api.numba.njit
    def run(y: Any) -> Any:
        i = 0
        while i < steps:
            i, y = i + 1, y * a + b
        return y

    return called(api, run, np.float32(1.0))


WORKLOADS = (
    Workload(
        "vmapped while, one of 1024 with 100,000 steps",
        {"covector": divergent, "jax": divergent},
        (Promise(("jax",), 50.0),),
        {"lanes": 40, "longest": 100},
        1e-2,
    ),
    Workload(
        "Mandelbrot, 160k points, 200 iterations",
        {"covector": mandelbrot, "jax": mandelbrot, "numba": mandelbrot_numba},
        (Promise(("jax",), 20.0),),
        {"side": 10, "most": 20},
        differing=3e-3,
        limit=0.74e-3,
        laned=True,
    ),
    Workload(
        "Collatz, 100k",
        {"covector": collatz, "jax": collatz, "numba": collatz_numba},
        (Promise(("jax",), 4.0),),
        {"count": 40},
        laned=True,
    ),
    Workload(
        "scalar while, 2^22 steps",
        {"covector": scalar, "jax": scalar, "numba": scalar_numba},
        (Promise(("jax",), 2.5), Promise(("numba",), 0.95)),
        {"steps": 100},
        1e-3,
    ),
)
