"""What this machine can do at most: measured once, and kept in the cache directory."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from covector import _native, lax
from covector import numpy as cnp
from covector.backends.native import cache
from covector.compiler.fingerprint import digest
from covector.core.config import config
from covector.transforms.jit import jit

CHAINS = 12
"""Independent products and sums at a time: more than a core's units have in the making."""
STEPS, LANES, READ = 2000, 64, 1 << 25

_FORMAT = "machine 2"


@dataclass(frozen=True)
class Machine:
    """Measured limits of the machine.

    Attributes:
        cores: that this process may use.
        flops32: floating point operations of 32 bits that a core does in a second, those of
            products and sums that are one instruction counted separately.
        flops64: the same for 64 bits.
        bandwidth: bytes that all cores together read from memory in a second.
    """

    cores: int
    flops32: float
    flops64: float
    bandwidth: float


def this_machine(again: bool = False) -> Machine:
    """The limits of this machine, measured when first asked for (a fraction of a second).

    Later processes read them from the cache directory, if there is one.

    Args:
        again: measure once more, and keep the better of what was found each time: other processes
            that keep the cores busy make a machine look slower than it is.

    Returns:
        The limits.

    Example:
        >>> this_machine().flops32 > 1e8
        True
    """
    key = digest(_FORMAT, _native.processor(), config.cpu, str(_cores()))
    machine = _known.get(key) or _kept(key)
    if machine is None or again:
        found = _measured(_cores())
        machine = found if machine is None else _better(machine, found)
        cache.store_text(key, json.dumps(asdict(machine)))
    _known[key] = machine
    return machine


_known: dict[str, Machine] = {}


def _better(a: Machine, b: Machine) -> Machine:
    return Machine(
        a.cores,
        max(a.flops32, b.flops32),
        max(a.flops64, b.flops64),
        max(a.bandwidth, b.bandwidth),
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _kept(key: str) -> Machine | None:
    text = cache.load_text(key)
    if text is not None:
        with contextlib.suppress(ValueError, TypeError):
            return Machine(**json.loads(text))
    return None


def _measured(cores: int) -> Machine:
    """Runs small programs of our own: what they reach, others can reach."""
    with contextlib.ExitStack() as stack:
        quiet: dict[str, Any] = {"debug": 0, "dump": "", "disable": (), "x64": True}
        checks = ("check", "debug_nans", "debug_infs", "disable_jit")
        for name, value in {**quiet, **dict.fromkeys(checks, False), "backend": "native"}.items():
            stack.enter_context(config.override(name, value))
        with config.override("num_threads", 1):
            flops32, flops64 = _flops(np.float32), _flops(np.float64)
        data = cnp.ones(READ, np.float32)
        seconds = _best(jit(cnp.sum), (data,), 7)
    return Machine(cores, flops32, flops64, 4 * READ / seconds)


def _flops(dtype: Any) -> float:
    """Chains of products and sums in vector registers, on one core."""

    def chains(x: Any, c: Any) -> Any:
        def step(values: Any, _: Any) -> tuple[Any, None]:
            return values * c + c, None

        return lax.scan(step, x, None, length=STEPS)[0]

    arguments = (np.ones((LANES, CHAINS), dtype), dtype(0.5))
    return 2.0 * CHAINS * STEPS * LANES / _best(jit(chains), arguments, 300)


def _best(function: Callable[..., Any], arguments: tuple[Any, ...], repeats: int) -> float:
    function(*arguments)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        function(*arguments)
        best = min(best, time.perf_counter() - start)
    return best
