"""The accelerator's memory as a device, and who counts what happens there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from typing import Any

import numpy as np

from covector.extend.backends import Device, Memory
from covector_accelerator.machine import Machine
from covector_accelerator.timing import Counters, transfer

Array = np.ndarray[Any, Any]


class Buffer:
    """An array in the accelerator's DRAM, which is free again when nobody refers to it.

    Attributes:
        data: its elements; only the simulator looks at them.
    """

    __slots__ = ("_chip", "data")

    def __init__(self, chip: Chip, data: Array) -> None:
        chip.allocate(data.nbytes)
        self._chip = chip
        self.data = data

    def __del__(self) -> None:
        if hasattr(self, "data"):
            self._chip.free(self.data.nbytes)


class Chip(Device):
    """An accelerator with its DRAM and scratchpad.

    Args:
        platform: name of the backend.
        machine: its parameters.

    Attributes:
        machine: likewise.
        used_bytes: of its DRAM.
    """

    def __init__(self, platform: str, machine: Machine) -> None:
        memories = (
            Memory("dram", machine.dram_bytes),
            Memory("scratchpad", machine.scratchpad_bytes),
        )
        kind = f"systolic {machine.rows}x{machine.columns}"
        super().__init__(platform, kind=kind, memories=memories)
        self.machine = machine
        self.used_bytes = 0
        self._lock = threading.RLock()  # garbage may be collected, and freed, while it is held
        self._meters = threading.local()

    def allocate(self, nbytes: int) -> None:
        """Takes memory.

        Raises:
            MemoryError: if there is not enough.
        """
        with self._lock:
            left = self.machine.dram_bytes - self.used_bytes
            if nbytes > left:
                raise MemoryError(
                    f"{self!r} has {left:,} bytes of {self.machine.dram_bytes:,} left, an array "
                    f"takes {nbytes:,}"
                )
            self.used_bytes += nbytes

    def free(self, nbytes: int) -> None:
        """Gives memory back."""
        with self._lock:
            self.used_bytes -= nbytes

    def put(self, data: Array) -> Buffer:
        self.count(transfer(self.machine, data.nbytes, True))
        return Buffer(self, np.array(data))

    def get(self, buffer: Buffer) -> Array:
        self.count(transfer(self.machine, buffer.data.nbytes, False))
        return buffer.data

    # --- counting ---

    @contextlib.contextmanager
    def counting(self) -> Generator[Counters]:
        """Counts what this thread does with the accelerator."""
        found = Counters()
        meters = self._active()
        meters.append(found)
        try:
            yield found
        finally:
            meters[:] = [meter for meter in meters if meter is not found]

    def count(self, counters: Counters) -> None:
        """Adds to all that count in this thread."""
        for meter in self._active():
            meter.add(counters)

    def _active(self) -> list[Counters]:
        if not hasattr(self._meters, "list"):
            self._meters.list = []
        return self._meters.list
