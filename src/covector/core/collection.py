"""When Python's garbage collector runs while programs are made.

What tracing and compilation make they mostly keep until they end: millions of small objects for a
long program, and the collector would go through all of them again and again.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator
from contextlib import contextmanager

RARE = 100_000
"""Objects made between two collections while a function is traced: some tens of megabytes."""

_lock = threading.Lock()
_tracing = 0
_usual = (0, 0, 0)


@contextmanager
def collection_paused() -> Generator[None]:
    """No collection inside the block: for the compiler, which makes no cycles to speak of."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def collection_rare() -> Generator[None]:
    """Few collections inside the block: for tracing, which runs the user's code.

    That may make cycles without end, so the collector still runs, after more objects than usual.
    """
    global _tracing, _usual
    with _lock:
        if _tracing == 0:
            _usual = gc.get_threshold()
            if 0 < _usual[0] < RARE:
                gc.set_threshold(RARE, *_usual[1:])
        _tracing += 1
    try:
        yield
    finally:
        with _lock:
            _tracing -= 1
            # Where the user's code has set its own threshold meanwhile, it stays.
            if _tracing == 0 and gc.get_threshold()[0] == RARE:
                gc.set_threshold(*_usual)
