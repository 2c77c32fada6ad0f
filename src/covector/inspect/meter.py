"""What a running loop tells of its progress, and the bars that show it."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

_NEVER = np.iinfo(np.int64).max
_INTERVAL = 100_000_000
_PATIENCE = 300_000_000
"""Nanoseconds between updates, and before a loop is shown at all."""


class _Display(threading.local):
    """The bars of a thread: those of the loops that run, the outermost first.

    Attributes:
        running: the loops, with the time they began and the steps they have made.
        bars: rich's display, while there is one.
        tasks: its numbers for the loops.
    """

    def __init__(self) -> None:
        self.running: dict[LoopMeter, list[int]] = {}
        self.bars: Any = None
        self.tasks: dict[LoopMeter, Any] = {}

    def show(self, meter: LoopMeter, count: int, total: int) -> None:
        if self.bars is None:
            self.bars = _bars()
            self.bars.start()
        for loop in self.running:
            if loop not in self.tasks:
                self.tasks[loop] = self.bars.add_task(loop.name, total=None)
        known = None if total < 0 else total
        self.bars.update(self.tasks[meter], completed=count, total=known)
        self.bars.refresh()

    def end(self, erase: bool) -> None:
        """Takes the bars away, or leaves them as they are now."""
        bars, self.bars = self.bars, None
        self.running.clear()
        self.tasks.clear()
        if bars is not None:
            bars.live.transient = erase
            bars.stop()


_display = _Display()


def _bars() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        auto_refresh=False,
    )


class LoopMeter:
    """Shows how far a loop is; see `covector.ops.progress.Meter`.

    Args:
        name: beside the bar.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        # Native code reads these; a loop that has not been heard of need not say that it ends.
        self._next = np.zeros(1, np.int64)
        self._end = np.full(1, _NEVER, np.int64)

    def gate(self, done: bool) -> np.ndarray[Any, Any]:
        """When to call `update`, as one int64: nanoseconds of the steady clock."""
        return self._end if done else self._next

    def update(self, count: int, total: int, done: bool) -> None:
        """Takes the steps made, and of how many; -1 for a total that nobody knows."""
        now = time.monotonic_ns()
        if done:
            self._finish(count, total)
            return
        if now < self._next[0]:  # other code than native does not look at gates
            return
        state = _display.running.get(self)
        if state is None or count < state[1]:
            state = _display.running[self] = [now, count]
            self._end[0] = 0
        state[1] = count
        begun = next(iter(_display.running.values()))[0]
        if _display.bars is not None or now - begun >= _PATIENCE:
            _display.show(self, count, total)
        self._next[0] = time.monotonic_ns() + _INTERVAL

    def _finish(self, count: int, total: int) -> None:
        self._end[0] = _NEVER
        if self not in _display.running:
            return
        if _display.bars is not None:
            _display.show(self, count, total if total >= 0 else count)
        del _display.running[self]
        if not _display.running:
            _display.end(erase=False)

    def aborted(self) -> None:
        """Takes that the program has failed: no bar of this thread stays behind."""
        self._end[0] = _NEVER
        if self in _display.running:
            _display.end(erase=True)

    def __repr__(self) -> str:
        return f"<progress of {self.name}>"
