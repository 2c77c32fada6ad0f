"""What a row of the table is made of: cases to time, versions of a workload, promised figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Api = Any
"""A peer's namespace, from `benchmarks.peers`."""


@dataclass(frozen=True)
class Case:
    """One workload, ready to run.

    Attributes:
        run: does the work once and waits for it.
        result: the results to compare, `None` where there is nothing to compare.
        before: what to do before each run, not timed.
        compiled: compiles ahead of time and returns what runs; for the peak of memory.
    """

    run: Callable[[], Any]
    result: Callable[[], Any] | None = None
    before: Callable[[], Any] | None = None
    compiled: Callable[[], Callable[[], Any]] | None = None


@dataclass(frozen=True)
class Promise:
    """A figure the project has given its word on.

    Attributes:
        against: versions; the ratio is to the fastest of them.
        ratio: their time divided by Covector's, at least.
    """

    against: tuple[str, ...]
    ratio: float


@dataclass(frozen=True)
class Workload:
    """What is measured: one thing to compute, in each peer's version.

    Attributes:
        name: of the row.
        versions: what builds the case, by version. A version is the name of a peer, a key of
            `benchmarks.peers.PEERS`, and after a comma what sets it apart: `"jax, checkpoint"`.
            Builders take the peer's namespace, and sizes by name.
        promises: the figures promised.
        tiny: sizes to see that everything runs.
        tolerance: the largest difference of results, relative to their largest magnitude.
        differing: the share of elements that may differ by more, for discontinuous results.
        limit: seconds that hand-written native code takes on 2 cores with AVX-512.
        laned: whether it is bound by computation in lanes, and two threads should help.
        cold: whether each call is like the first one, as where compiling is what is timed: a peer
            whose first call is ended for taking too long would take that long in each.
    """

    name: str
    versions: Mapping[str, Callable[..., Case]]
    promises: tuple[Promise, ...] = ()
    tiny: Mapping[str, int] = field(default_factory=dict[str, int])
    tolerance: float = 1e-4
    differing: float = 0.0
    limit: float | None = None
    laned: bool = False
    cold: bool = False


def peer_of(version: str) -> str:
    """The peer that runs a version."""
    return version.split(",")[0]


def jitted(api: Api, fn: Callable[..., Any], *args: Any) -> Case:
    """The case of a function to compile and call.

    Args:
        api: a peer with JAX's programming model.
        fn: the function, not compiled.
        *args: NumPy arrays.

    Returns:
        The case.
    """
    compiled = api.jit(fn)
    put = [api.put(a) for a in args]

    def ahead() -> Callable[[], Any]:
        executable = api.jit(fn).lower(*put).compile()
        return lambda: api.wait(executable(*put))

    def run() -> Any:
        return api.wait(compiled(*put))

    return Case(run, lambda: api.leaves(run()), compiled=ahead)


def called(api: Api, fn: Callable[..., Any], *args: Any) -> Case:
    """The case of a function as it is.

    Args:
        api: any peer.
        fn: the function.
        *args: NumPy arrays.

    Returns:
        The case.
    """
    put = [api.put(a) for a in args]

    def run() -> Any:
        return api.wait(fn(*put))

    return Case(run, lambda: api.leaves(run()))


def compiling(api: Api, make: Callable[[float], Callable[..., Any]], *args: Any) -> Case:
    """The case of tracing and compiling a function never seen before.

    Args:
        api: a peer with JAX's programming model.
        make: a new function for each number it gets, of which the function makes use.
        *args: NumPy arrays to compile for.

    Returns:
        The case; no cache, in memory or on disk, knows the function.
    """
    put = [api.put(a) for a in args]
    numbers = (1.0 + k / 1024 for k in range(1 << 20))
    return Case(
        lambda: api.jit(make(next(numbers))).lower(*put).compile(),
        lambda: api.leaves(api.wait(api.jit(make(1.0))(*put))),
        before=api.forget,
    )
