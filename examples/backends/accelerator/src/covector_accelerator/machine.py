"""The parameters of the machine: sizes, speeds, energies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


def _mac() -> dict[str, float]:
    return {"f32": 4.6, "bf16": 1.5, "i8": 0.3}


@dataclass(frozen=True)
class Machine:
    """A weight-stationary systolic array with a vector unit, a scratchpad and a DRAM of its own.

    The array holds a tile of weights of `rows` x `columns` and multiplies rows of another tile by
    it, one a cycle. The vector unit applies an operation to `lanes` elements a cycle. Tiles live in
    slots of the scratchpad, each of `rows` x `columns` words of 4 bytes; two DMA engines move them
    from and to DRAM. The host reaches DRAM over a link.

    Energies are of the order of published figures for 45 nm (M. Horowitz, ISSCC 2014), as defaults
    to be replaced by those of your design.

    Attributes:
        rows: of the array; the terms of a product that are summed in a pass.
        columns: of the array; the columns of a result that are made in a pass.
        lanes: of the vector unit.
        slots: of the scratchpad.
        accumulators: how many tiles of a result are summed up at a time, in the same slots.
        clock_hz: cycles a second.
        dram_bytes: capacity.
        dram_bytes_per_cycle: bandwidth of each DMA engine.
        dram_latency: cycles from the end of a transfer until its tile may be used.
        link_bytes_per_cycle: bandwidth between the host and DRAM.
        link_latency: cycles for each array that is moved over the link.
        mac_pj: energy of a multiplication and addition in the array, by operand type.
        vector_pj: of an operation of the vector unit on an element, for each cycle it takes.
        scratchpad_pj: of a byte read or written.
        dram_pj: likewise.
        link_pj: likewise.
        static_pj: leakage, a cycle.
    """

    rows: int = 64
    columns: int = 64
    lanes: int = 64
    slots: int = 48
    accumulators: int = 8
    clock_hz: float = 700e6
    dram_bytes: int = 1 << 30
    dram_bytes_per_cycle: float = 64.0
    dram_latency: int = 100
    link_bytes_per_cycle: float = 16.0
    link_latency: int = 700
    mac_pj: Mapping[str, float] = field(default_factory=_mac)
    vector_pj: float = 4.0
    scratchpad_pj: float = 2.5
    dram_pj: float = 160.0
    link_pj: float = 60.0
    static_pj: float = 500.0

    def __post_init__(self) -> None:
        least = 2 * self.accumulators + 24
        if self.slots < least or min(self.rows, self.columns, self.lanes, self.accumulators) < 1:
            raise ValueError(
                f"the array needs rows, columns, lanes and accumulators, and at least {least} "
                f"slots for {self.accumulators} accumulators; got {self}"
            )

    @property
    def slot_bytes(self) -> int:
        """Of a tile."""
        return 4 * self.rows * self.columns

    @property
    def scratchpad_bytes(self) -> int:
        """Of all slots."""
        return self.slots * self.slot_bytes
