"""Functions of users in C that loop IR may call, beside the external functions of a backend.

Code refers to them by symbol; the address is that in this process. What is kept of code elsewhere
therefore never has a stale one: a symbol that stands for a place in a library is resolved anew by
the process that defines the function, and one that stands for an address contains a number that no
other process uses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from covector.loopir.ir import LoopIRError
from covector.loopir.verifier import Signature


class ForeignFunction(NamedTuple):
    """A function in C.

    Attributes:
        signature: parameter and result types.
        address: where it is in this process.
        pure: whether it has no effects, so that equal calls may share one, and those of which
            nobody uses the result may be left out.
        stable: whether the symbol means the same in other processes.
        owner: what keeps it in memory.
    """

    signature: Signature
    address: int
    pure: bool
    stable: bool
    owner: Any


_FUNCTIONS: dict[str, ForeignFunction] = {}


def register(symbol: str, function: ForeignFunction) -> None:
    """Makes a function callable from loop IR, until the process ends.

    Args:
        symbol: letters, digits and underscores; starts with `cvx_`.
        function: what it stands for.

    Raises:
        LoopIRError: for another symbol.
    """
    if not (symbol.startswith("cvx_") and symbol.isidentifier() and symbol.isascii()):
        raise LoopIRError(f"a foreign function cannot have the symbol {symbol!r}")
    # One that was there before stays: code in memory may hold its address.
    _FUNCTIONS.setdefault(symbol, function)


def find(symbol: str) -> ForeignFunction | None:
    """The function that a symbol stands for, if there is one."""
    return _FUNCTIONS.get(symbol)


def signatures() -> dict[str, Signature]:
    """The signatures of all functions."""
    return {symbol: function.signature for symbol, function in _FUNCTIONS.items()}
