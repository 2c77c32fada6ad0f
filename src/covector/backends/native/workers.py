"""Threads that work for a caller that waits for them: LLVM leaves Python alone while it works.

They live on, since a new thread's memory has to be found anew. Those of a process do not exist in
its forks, which start their own.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

MOST = 16
"""Threads besides callers."""

_T = TypeVar("_T")

_pool: ThreadPoolExecutor | None = None


def at_once(work: Callable[[int], _T], count: int, threads: int) -> list[_T]:
    """Does several pieces of work, the caller's thread among others.

    Args:
        work: does the piece of a number; settings of the caller's thread do not hold in others.
        count: how many pieces there are; those of low numbers are begun first.
        threads: how many threads may be used.

    Returns:
        What became of each.

    Raises:
        BaseException: what `work` raises, when no thread works any longer.
    """
    pending = deque(range(count))
    done: dict[int, _T] = {}

    def take() -> None:
        while True:
            try:
                number = pending.popleft()
            except IndexError:
                return
            done[number] = work(number)

    helpers = _started(take, min(threads, count, MOST + 1) - 1)
    try:
        take()
    finally:
        pending.clear()
        working = [helper for helper in helpers if not helper.cancel()]
        errors = [helper.exception() for helper in working]
    for error in errors:
        if error is not None:
            raise error
    return [done[number] for number in range(count)]


def _started(task: Callable[[], None], count: int) -> list[Future[None]]:
    """Runs a task on several threads; on fewer, or none, when Python is about to end."""
    global _pool
    started: list[Future[None]] = []
    try:
        if _pool is None and count > 0:
            from concurrent.futures import ThreadPoolExecutor  # refuses when Python is ending

            _pool = ThreadPoolExecutor(MOST, "covector")
        for _ in range(count):
            assert _pool is not None
            started.append(_pool.submit(task))
    except RuntimeError:
        pass
    return started


def _forget() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
