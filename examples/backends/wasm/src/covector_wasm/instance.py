"""Modules in Wasmtime, and calls of their functions with arrays."""

from __future__ import annotations

import atexit
import ctypes
import threading
import weakref
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import wasmtime

from covector.extend.backends import CompilationError

_ALIGNMENT = 64
_LEVELS = ("none", "speed", "speed", "speed")
"""What Cranelift is told at each level of effort."""

NumpyArray = np.ndarray[Any, Any]


@cache
def _engine(level: str) -> wasmtime.Engine:
    config = wasmtime.Config()
    config.cranelift_opt_level = level
    engine = wasmtime.Engine(config)
    atexit.register(engine.close)
    return engine


def _close(*objects: Any) -> None:
    """Gives memory back: at the end of the process before what that needs is gone."""
    for each in objects:
        each.close()


class Instance:
    """A module that was compiled and has memory.

    Calls are made one at a time: the memory is shared by all of them.

    Args:
        binary: the module.
        effort: of compilation.

    Raises:
        CompilationError: if the module is not valid.
    """

    def __init__(self, binary: bytes, effort: int) -> None:
        engine = _engine(_LEVELS[effort])
        try:
            module = wasmtime.Module(engine, binary)
        except wasmtime.WasmtimeError as error:
            raise CompilationError(f"Wasmtime refused the module: {error}") from None
        self._store = wasmtime.Store(engine)
        exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        weakref.finalize(self, _close, self._store, module)
        self._exports = exports
        self._memory: Any = exports["memory"]
        self._start: int = exports["heap"].value(self._store)  # pyright: ignore
        self._lock = threading.Lock()
        self._layout: tuple[Any, ...] = ()
        self._addresses: list[int] = []

    def call(
        self,
        symbol: str,
        sizes: Sequence[int],
        arguments: Sequence[NumpyArray],
        results: Sequence[NumpyArray],
    ) -> int:
        """Calls a function.

        Args:
            symbol: its name.
            sizes: that it takes first.
            arguments: contiguous arrays, which are copied to the module's memory.
            results: contiguous arrays to write to.

        Returns:
            The function's status.

        Raises:
            MemoryError: if the module's memory is too small.
        """
        with self._lock:
            arrays = [*arguments, *results]
            places = self._places(arrays)
            memory = self._base()
            for array, place in zip(arguments, places, strict=False):
                ctypes.memmove(memory + place, array.ctypes.data, array.nbytes)
            status = self._exports[symbol](self._store, *sizes, *places)  # pyright: ignore
            memory = self._base()  # which may have moved
            for array, place in zip(results, places[len(arguments) :], strict=True):
                ctypes.memmove(array.ctypes.data, memory + place, array.nbytes)
            return status

    def _base(self) -> int:
        return ctypes.addressof(self._memory.data_ptr(self._store).contents)

    def _places(self, arrays: Sequence[NumpyArray]) -> list[int]:
        """Addresses for arrays, the same as in the last call if their sizes are."""
        layout = tuple([a.nbytes for a in arrays])
        if layout != self._layout:
            addresses: list[int] = []
            total = 0
            for size in layout:
                addresses.append(self._start + total)
                total += -(-size // _ALIGNMENT) * _ALIGNMENT
            self._exports["release"](self._store, self._start)  # pyright: ignore
            if total >= 1 << 32 or not self._exports["allocate"](self._store, total):  # pyright: ignore
                raise MemoryError(f"arguments and results have {total} bytes, beyond WebAssembly's")
            self._layout, self._addresses = layout, addresses
        return self._addresses
