"""Machine code into memory, without LLVM where the linker here has understood it."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from typing import Any

from covector import _native
from covector.backends.native import cache, libraries
from covector.backends.native.compiled import Machine
from covector.backends.native.line_tables import stretches
from covector.backends.native.linking import Unlinkable, at_address, link
from covector.core.config import config
from covector.core.errors import CompilationError
from covector.loopir import foreign


class Loaded:
    """Code in memory, where it stays as long as this object lives.

    Attributes:
        address: of the entry function.
        start: where the code begins.
        size: its bytes; 0 if LLVM linked it.
        debug: its debug information, as in `Linked`.
    """

    __slots__ = ("_needed", "address", "debug", "size", "start")

    def __init__(
        self, address: int, *needed: Any, start: int = 0, size: int = 0, debug: bytes = b""
    ) -> None:
        self.address = address
        self.debug = debug
        self.start = start
        self.size = size
        self._needed = needed


def machine_of(
    symbol: str, object_code: bytes, externals: tuple[str, ...], shared: tuple[str, ...]
) -> Machine:
    """Links an object file as far as it can be done without LLVM.

    Args:
        symbol: name of its entry function.
        object_code: a relocatable object file.
        externals: functions of C that it calls.
        shared: elementary functions that it calls and does not contain.

    Returns:
        The code, in the form in which it can be kept.
    """
    try:
        return Machine(symbol, link(object_code), b"", externals, shared)
    except Unlinkable:
        return Machine(symbol, None, object_code, externals, shared)


def load(machine: Machine, cpu: str) -> Loaded:
    """Makes code callable.

    Args:
        machine: the code.
        cpu: the setting that it was compiled with.

    Returns:
        Where it is.

    Raises:
        CompilationError: if it calls what does not exist.
    """
    libraries.ensure_loaded(machine.externals)
    if machine.linked is None:
        from covector.backends.native.engine import get_engine

        tracker = get_engine(cpu).link(machine.object_code, machine.symbol, machine.shared)
        return Loaded(tracker[machine.symbol], tracker)
    called = {symbol: _elementary(symbol, cpu) for symbol in machine.shared}

    def resolve(symbol: str) -> int:
        if symbol in called:
            return called[symbol].address
        own = foreign.find(symbol)
        address = _symbols().get(symbol) if own is None else own.address
        if address is None:
            raise CompilationError(
                f"{machine.symbol} needs a function that is not on the list: {symbol}"
            )
        return address

    linked = machine.linked
    image = linked.load(resolve)
    address = image.address + linked.symbols[machine.symbol]
    shown = None
    if linked.debug:
        shown = _native.debug_register(at_address(linked.debug, image.address))
    needed = (shown, image, called)
    return Loaded(address, *needed, start=image.address, size=image.size, debug=linked.debug)


def tell_perf(loaded: Loaded, name: str) -> None:
    """Names code in the file that Linux's perf looks for, if the setting `perf_map` is on.

    With debug information, each line of the user's has a name of its own.

    Args:
        loaded: the code.
        name: of the function.
    """
    if not config.perf_map or not loaded.size:
        return
    path = f"/tmp/perf-{os.getpid()}.map"  # the name that perf knows
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
    with contextlib.suppress(OSError), open(os.open(path, flags, 0o600), "a") as opened:
        for start, size, label in _named(loaded, f"covector:{name}"):
            opened.write(f"{start:x} {size:x} {label}\n")


def _named(loaded: Loaded, name: str) -> Iterator[tuple[int, int, str]]:
    """Address, size and name of each part of some code."""
    end = 0
    for part in stretches(loaded.debug):
        if part.start > end:
            yield loaded.start + end, part.start - end, name
        place = f" {os.path.basename(part.file)}:{part.line}" if part.line else ""
        yield loaded.start + part.start, part.end - part.start, name + place
        end = part.end
    yield loaded.start + end, loaded.size - end, name


@functools.cache
def _symbols() -> dict[str, int]:
    return _native.symbols()


_loaded: dict[tuple[str, str], Loaded] = {}
_lock = threading.RLock()


def _elementary(symbol: str, cpu: str) -> Loaded:
    """An elementary function that programs share, compiled when it is first called."""
    with _lock:
        known = _loaded.get((symbol, cpu))
        if known is None:
            key = cache.elementary_key(symbol, cpu)
            machine = None if key is None else cache.load_machine(key)
            if machine is None:
                from covector.backends.native.engine import get_engine

                machine = get_engine(cpu).elementary(symbol)
                if key is not None:
                    cache.store_machine(key, machine)
            known = _loaded[symbol, cpu] = load(machine, cpu)
            tell_perf(known, symbol)
        return known
