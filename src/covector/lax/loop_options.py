"""The choices `scan` and `fori_loop` give their users, checked."""

from __future__ import annotations

import operator
from typing import Any

from covector.core.source import here


def _unroll(unroll: Any, length: Any) -> int:
    if isinstance(unroll, bool):
        return max(length, 1) if unroll and isinstance(length, int) else 1
    if not isinstance(unroll, int) or unroll < 1:
        raise ValueError(f"unroll must be a bool or a positive int, got {unroll!r}")
    return unroll


def loop_options(what: str, unroll: Any, remat: Any, length: Any) -> dict[str, Any]:
    """Parameters of the primitive `scan` that are the user's choice.

    Args:
        what: for messages.
        unroll: as the user gave it.
        remat: as the user gave it.
        length: of the loop.
    """
    options: dict[str, Any] = {"unroll": _unroll(unroll, length)}
    if remat is None:
        return options
    if remat and not isinstance(length, int):
        raise ValueError(
            f"{what}: remat={remat!r} cuts the loop into segments and needs its length while "
            f"tracing, got {length}\n  at: {here()}"
        )
    if not isinstance(remat, bool) and remat != "log":
        remat = _segment_counts(what, remat)
    return {**options, "remat": remat}


def _segment_counts(what: str, remat: Any) -> tuple[int, ...]:
    try:
        several = type(remat) in (tuple, list)
        counts = tuple(map(operator.index, remat if several else (remat,)))
    except TypeError:
        raise TypeError(
            f'{what}: remat must be a bool, "log", a number of segments or a sequence of them, got '
            f"{remat!r:.60}; to choose what is saved of an iteration, wrap its function in "
            f"checkpoint(..., policy=...)\n  at: {here()}"
        ) from None
    if not counts or min(counts) < 1:
        raise ValueError(
            f"{what}: remat must be positive numbers of segments, got {remat!r}\n  at: {here()}"
        )
    return counts
