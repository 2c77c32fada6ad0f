"""Ctrl-C stops generated code wherever it is; memory that is not there has a name and a size."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.core.config import config, num_threads

F32 = np.dtype(np.float32)
PATIENCE = 1.0
"""Seconds; it takes less than a tenth of this where the machine has nothing else to do."""


def approach(x: Any) -> Any:
    return lax.while_loop(lambda y: y != 0, lambda y: y * 0.5 + 0.5, x)


def repeat(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: lax.fori_loop(0, 10**8, lambda i, y: f(y), x)


def tape(x: Any) -> Any:
    def walk(y: Any) -> Any:
        return lax.scan(lambda c, _: (cnp.sin(c) + c, None), y, None, length=3_000_000)[0]

    return cv.grad(lambda y: cv.vmap(walk)(y).sum())(x)


ENDLESS = {
    "while": (approach, ()),
    "while in lanes": (cv.vmap(approach), (5000,)),
    "counted": (repeat(lambda y: y * 0.9 + 1), ()),
    "arrays": (repeat(lambda y: cnp.roll(y, 1, 0) * 0.5), (700, 700)),
    "reductions": (repeat(lambda y: y / y.sum()), (300_000,)),
    "products": (repeat(lambda y: (y @ y) / 200), (200, 200)),
    "sorting": (repeat(lambda y: cnp.sort(-y)), (100_000,)),
    "gradient in lanes": (tape, (640,)),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ENDLESS)
def test_control_c_stops(name: str, threads: int) -> None:
    f, shape = ENDLESS[name]
    x = np.ones(shape, F32)
    endless = cv.jit(f).lower(x).compile()
    with num_threads(threads):
        for _ in range(2):
            sent: list[float] = []

            def interrupt(sent: list[float] = sent) -> None:
                sent.append(time.monotonic())
                signal.raise_signal(signal.SIGINT)

            timer = threading.Timer(0.1, interrupt)
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                endless(x)
            assert time.monotonic() - sent[0] < PATIENCE
            timer.join()
        y = cv.jit(lambda y: cnp.sin(y).sum())(np.ones(200_000, F32))
        np.testing.assert_allclose(np.asarray(y), 200_000 * np.sin(1.0), rtol=1e-4)


HUGE = 1 << 23
"""The square of it is more floats than a process can address."""


def out_of_memory(f: Callable[..., Any]) -> str:
    x = np.ones(HUGE, F32)
    with pytest.raises(MemoryError) as info:
        cv.jit(f)(x)
    assert np.asarray(cv.jit(lambda x: x + 1)(x))[0] == 2
    return str(info.value)


def test_a_result_without_memory() -> None:
    def outer(x: Any) -> Any:
        return x.sum(), x[:, None] * x

    text = out_of_memory(outer)
    assert "outer: not enough memory for result 1, f32[8388608,8388608]" in text
    assert "281.5 TB asked for" in text
    assert "test_limits.py" in text


def test_a_temporary_without_memory() -> None:
    def table(x: Any) -> Any:
        return lax.sort(cnp.sin(x[:, None] * x)).sum()

    text = out_of_memory(table)
    assert "table: not enough memory for the temporary array f32[8388608,8388608] of" in text
    assert "asked for" in text
    assert "test_limits.py" in text
    assert "fix: " in text


def test_a_tape_without_memory() -> None:
    def loss(x: Any) -> Any:
        def walk(y: Any) -> Any:
            step = lambda c, _: (cnp.sin(c) + c.sum(), None)  # noqa: E731
            return lax.scan(step, cnp.ones(4096) * y, None, length=1 << 30)[0].sum()

        return cv.vmap(walk)(x[:640]).sum()

    # Else it would recompute, and take very long instead.
    with config.override("disable", "segments"):
        text = out_of_memory(cv.grad(loss))
    assert "not enough memory for the temporary array f32[" in text
    assert "TB asked for" in text
    assert "test_limits.py" in text
