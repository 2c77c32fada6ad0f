"""How much of a loop its derivative may keep, and how long segments are if that is too much.

A loop that is cut into segments keeps the carry at the start of each, and of one segment at a time
what the derivative needs of its iterations (`segments`). Segments may be in segments themselves.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from covector.core import ladder
from covector.core.config import config
from covector.core.errors import UnsupportedRuleError
from covector.core.program import Program
from covector.core.source import here
from covector.core.trace import examples
from covector.ops.nested import HARMLESS

Remat = None | bool | str | int | tuple[int, ...]
"""`scan`'s parameter: see `covector.lax.scan`."""

BRANCHING = 8
"""Segments of each level where memory should grow as the logarithm of the length."""


def segment_lengths(
    remat: Remat, length: Any, carry_bytes: int, tape_bytes: int, program: Program
) -> tuple[int, ...]:
    """How long the segments of each level are; nothing for a loop in one piece.

    Args:
        remat: what was asked for.
        length: of the loop.
        carry_bytes: of what is kept at the start of a segment.
        tape_bytes: of what is kept of an iteration inside one.
        program: the body.
    """
    if remat is False or tape_bytes == 0 or type(length) is not int or length < 2:
        return ()
    if remat is None:
        return _within_budget(length, carry_bytes, tape_bytes, program)
    if program.effects - HARMLESS:
        raise UnsupportedRuleError(
            f"scan: remat={remat!r} repeats iterations, and with them what the io_callback in the "
            "body does; leave remat out, or move the callback out of the loop"
        )
    if remat is True:
        return _balanced(length, carry_bytes, tape_bytes, 1)
    if remat == "log":
        return _balanced(length, carry_bytes, tape_bytes, _deepest(length))
    lengths: list[int] = []
    for count in remat if isinstance(remat, tuple) else (remat,):
        assert isinstance(count, int)
        length = -(-length // count)
        lengths.append(length)
    return tuple(lengths)


def _within_budget(
    length: int, carry_bytes: int, tape_bytes: int, program: Program
) -> tuple[int, ...]:
    copies, budget = examples(), tape_budget()
    whole = length * tape_bytes * copies
    if whole <= budget or program.effects or "segments" in config.disable:
        return ()
    lengths: tuple[int, ...] = ()
    for levels in range(1, _deepest(length) + 1):
        lengths = _balanced(length, carry_bytes, tape_bytes, levels)
        kept = memory(lengths, length, carry_bytes, tape_bytes) * copies
        if kept <= budget:
            break
    if lengths and ladder.shows(ladder.TIMES):
        kept = memory(lengths, length, carry_bytes, tape_bytes) * copies
        ladder.say(
            f"the derivative of a scan of {length} iterations would keep {_size(whole)}, more than "
            f"tape_bytes ({_size(budget)}): it keeps {_size(kept)} and computes the rest again, "
            f"in segments of {' of '.join(map(str, lengths))} iterations, at {here()}"
        )
    return lengths


def _deepest(length: int) -> int:
    """As many levels as leave about `BRANCHING` segments in each."""
    return max(1, round(math.log(length) / math.log(BRANCHING)) - 1)


def _balanced(length: int, carry_bytes: int, tape_bytes: int, levels: int) -> tuple[int, ...]:
    """Lengths with which all levels take the same memory, which is the least in total."""
    ratio = length * tape_bytes / max(carry_bytes, 1)
    branching = ratio ** (1 / (levels + 1))
    lengths: list[int] = []
    whole = length
    for level in range(1, levels + 1):
        size = _divisor_near(whole, length / branching**level)
        if size < whole:
            lengths.append(size)
            whole = size
    if memory(lengths, length, carry_bytes, tape_bytes) >= length * tape_bytes:
        return ()
    return tuple(lengths)


def _divisor_near(whole: int, wanted: float) -> int:
    """A divisor near a number, or the number itself if there is none.

    A segment that is left over costs a loop of its own, more than lengths that are not quite even.
    """
    target = min(max(1, round(wanted)), whole)
    near = [k for k in range(max(1, target // 2), 2 * target + 1) if whole % k == 0]
    return min(near, key=lambda k: abs(math.log(k / target)), default=target)


def memory(lengths: Sequence[int], length: int, carry_bytes: int, tape_bytes: int) -> int:
    """The most bytes that are kept at one time.

    Args:
        lengths: of the segments of each level.
        length: of the loop.
        carry_bytes: of what is kept at the start of a segment.
        tape_bytes: of what is kept of an iteration of the innermost ones.
    """
    total = 0
    for size in lengths:
        total += length // size * carry_bytes
        length = size
    return total + length * tape_bytes


def tape_budget() -> int:
    """How many bytes a loop may keep for its derivative before it is cut into segments."""
    if config.tape_bytes:
        return config.tape_bytes
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
