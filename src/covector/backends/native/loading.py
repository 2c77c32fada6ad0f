"""Machine code into memory, without LLVM where the linker here has understood it."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from typing import Any

from covector import _native
from covector.backends.native import cache, libraries
from covector.backends.native.compiled import Machine
from covector.backends.native.linking import Unlinkable, link
from covector.core.config import config
from covector.core.errors import CompilationError


class Loaded:
    """Code in memory, where it stays as long as this object lives.

    Attributes:
        address: of the entry function.
        start: where the code begins.
        size: its bytes; 0 if LLVM linked it.
    """

    __slots__ = ("_needed", "address", "size", "start")

    def __init__(self, address: int, *needed: Any, start: int = 0, size: int = 0) -> None:
        self.address = address
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
        address = _symbols().get(symbol)
        if address is None:
            raise CompilationError(
                f"{machine.symbol} needs a function that is not on the list: {symbol}"
            )
        return address

    image = machine.linked.load(resolve)
    address = image.address + machine.linked.symbols[machine.symbol]
    return Loaded(address, image, called, start=image.address, size=image.size)


def tell_perf(loaded: Loaded, name: str) -> None:
    """Names code in the file that Linux's perf looks for, if the setting `perf_map` is on.

    Args:
        loaded: the code.
        name: of the function.
    """
    if not config.perf_map or not loaded.size:
        return
    path = f"/tmp/perf-{os.getpid()}.map"  # the name that perf knows
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
    with contextlib.suppress(OSError), open(os.open(path, flags, 0o600), "a") as opened:
        opened.write(f"{loaded.start:x} {loaded.size:x} covector:{name}\n")


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
