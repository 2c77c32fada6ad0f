"""The functions that loop IR calls, in loop IR themselves: see `matrices`, `sorting`, `transforms`
and `angles`. Names and arguments are those of Covector's own library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.extend.loopir import LoopIRError
from covector_wasm import angles, matrices, sorting, transforms
from covector_wasm.routines import Routine

Make = Callable[[str, Sequence[Any]], Routine]

_FAMILIES: tuple[tuple[dict[str, Any], Make], ...] = (
    (angles.FUNCTIONS, angles.make),
    (matrices.FUNCTIONS, matrices.make),
    (sorting.FUNCTIONS, sorting.make),
    (transforms.FUNCTIONS, transforms.make),
)

CALLS = frozenset(name for functions, _ in _FAMILIES for name in functions)
"""The functions that loop IR may call."""


def routine(symbol: str, args: Sequence[Any]) -> Routine:
    """The function that a call means.

    Args:
        symbol: of the function.
        args: of the call: some functions are made anew for the constants among them.

    Raises:
        LoopIRError: if there is none.
    """
    for functions, make in _FAMILIES:
        if symbol in functions:
            return make(symbol, args)
    raise LoopIRError(f"the wasm backend has no function {symbol!r}")
