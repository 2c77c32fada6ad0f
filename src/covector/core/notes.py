"""Notes on decisions: what tracing and compilation decide, kept for those who ask why.

Whoever decides leaves a note of any type; whoever is interested collects the notes of a block.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


class _Current(threading.local):
    notes: list[Any] | None = None


_current = _Current()


def leave(note: Any) -> None:
    """Leaves a note; it is forgotten where nobody collects any.

    Args:
        note: any object; small, for it may be kept as long as compiled code.
    """
    if _current.notes is not None:
        _current.notes.append(note)


@contextmanager
def collected() -> Generator[list[Any]]:
    """Collects the notes left in this thread inside the block, those of blocks inside it apart.

    Yields:
        The list they are added to.

    Example:
        >>> with collected() as notes:
        ...     leave("the loop runs in lanes")
        >>> notes
        ['the loop runs in lanes']
    """
    outer, _current.notes = _current.notes, []
    try:
        yield _current.notes
    finally:
        _current.notes = outer
