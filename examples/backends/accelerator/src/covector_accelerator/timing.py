"""The cycle and energy model.

Four engines work at the same time: the DMA that loads, the DMA that stores, the array, and the
vector unit. Instructions begin in order on their engine, as soon as what they read has been written
and what they overwrite has been read. A tile of R x C elements occupies

    a DMA engine   for its bytes / `dram_bytes_per_cycle`; it may be used `dram_latency` later
    the array      for K cycles while it takes weights of K rows, for R cycles while it multiplies;
                   the product is there K + C cycles later
    the vector unit for ceil(R C / lanes) times the cycles of the operation

Moves from DRAM to DRAM keep both DMA engines busy and wait for both. A program takes the cycles
until the last instruction has ended. Energy is counted for each multiplication, vector operation,
byte and cycle (`Machine`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from covector_accelerator.isa import Instruction, Load, Matmul, Move, Store, Vector, Weights
from covector_accelerator.machine import Machine
from covector_accelerator.vector import DTYPES, OPERATIONS

ENERGIES = ("array", "vector", "scratchpad", "dram", "link", "static")


def _no_energy() -> dict[str, float]:
    return dict.fromkeys(ENERGIES, 0.0)


@dataclass
class Counters:
    """What running takes.

    Attributes:
        runs: of parts.
        instructions: that were run.
        cycles: of the accelerator.
        link_cycles: of transfers from and to the host, which are not hidden behind anything.
        busy: cycles in which the array multiplied.
        macs: multiplications and additions in the array.
        vector_elements: results of the vector unit.
        dram_read: bytes.
        dram_written: likewise.
        scratchpad: likewise, read and written.
        link_in: bytes from the host.
        link_out: bytes to it.
        energy: picojoules by `ENERGIES`.
    """

    runs: int = 0
    instructions: int = 0
    cycles: float = 0.0
    link_cycles: float = 0.0
    busy: float = 0.0
    macs: int = 0
    vector_elements: int = 0
    dram_read: int = 0
    dram_written: int = 0
    scratchpad: int = 0
    link_in: int = 0
    link_out: int = 0
    energy: dict[str, float] = field(default_factory=_no_energy)

    def add(self, other: Counters) -> None:
        """Adds up."""
        for name, value in vars(other).items():
            if name != "energy":
                setattr(self, name, getattr(self, name) + value)
        for kind, value in other.energy.items():
            self.energy[kind] += value

    @property
    def picojoules(self) -> float:
        """All energy."""
        return sum(self.energy.values())

    def utilisation(self, machine: Machine) -> float:
        """The share of the array's multiplications that were made, of those that it could make."""
        possible = (self.cycles + self.link_cycles) * machine.rows * machine.columns
        return self.macs / possible if possible else 0.0


def transfer(machine: Machine, nbytes: int, is_upload: bool) -> Counters:
    """What moving an array over the link takes."""
    cycles = machine.link_latency + nbytes / machine.link_bytes_per_cycle
    found = Counters(link_cycles=cycles)
    found.link_in, found.link_out = (nbytes, 0) if is_upload else (0, nbytes)
    found.energy["link"] = nbytes * machine.link_pj
    found.energy["dram"] = nbytes * machine.dram_pj
    found.energy["static"] = cycles * machine.static_pj
    return found


def measure(code: Sequence[Instruction], machine: Machine, itemsizes: Sequence[int]) -> Counters:
    """What a program takes, which does not depend on the numbers it works on.

    Args:
        code: the program.
        machine: that runs it.
        itemsizes: bytes of an element of each tensor.
    """
    model = _Model(machine, itemsizes)
    for instruction in code:
        model.step(instruction)
    return model.finished(len(code))


_LOADS, _STORES, _ARRAY, _VECTOR = range(4)


class _Model:
    def __init__(self, machine: Machine, itemsizes: Sequence[int]) -> None:
        self._machine = machine
        self._itemsizes = itemsizes
        self._engines = [0.0] * 4
        self._written: dict[tuple[str, int], float] = {}  # when what is there may be read
        self._read: dict[tuple[str, int], float] = {}  # when it may be overwritten
        self._tiles: dict[int, tuple[int, int, str]] = {}
        self._weights = (0, 0, "f32")
        self._end = 0.0
        self.counters = Counters(runs=1)

    def step(self, instruction: Instruction) -> None:
        match instruction:
            case Load():
                self._load(instruction)
            case Store():
                self._store(instruction)
            case Move():
                self._move(instruction)
            case Weights(slot):
                self._weights = self._tiles[slot]
                self._touch(*self._weights)
                reads, writes = [("s", slot)], [("weights", 0)]
                self._occupy([_ARRAY], self._weights[0], 0, reads, writes)
            case Matmul():
                self._matmul(instruction)
            case Vector():
                self._vector(instruction)

    def finished(self, count: int) -> Counters:
        """The counters at the end."""
        found = self.counters
        found.instructions, found.cycles = count, self._end
        found.energy["static"] += self._end * self._machine.static_pj
        found.energy["scratchpad"] += found.scratchpad * self._machine.scratchpad_pj
        moved = found.dram_read + found.dram_written
        found.energy["dram"] += moved * self._machine.dram_pj
        return found

    def _occupy(
        self,
        engines: Sequence[int],
        cycles: float,
        latency: float,
        reads: Sequence[tuple[str, int]],
        writes: Sequence[tuple[str, int]],
    ) -> None:
        """Begins an instruction as soon as it may."""
        start = max([self._engines[e] for e in engines])
        start = max([start, *[self._written.get(x, 0.0) for x in (*reads, *writes)]])
        start = max([start, *[self._read.get(x, 0.0) for x in writes]])
        end = start + cycles
        for engine in engines:
            self._engines[engine] = end
        for x in reads:
            self._read[x] = max(self._read.get(x, 0.0), end)
        for x in writes:
            self._written[x] = end + latency
        self._end = max(self._end, end + latency)

    def _touch(self, rows: int, columns: int, dtype: str) -> None:
        self.counters.scratchpad += rows * columns * DTYPES[dtype].itemsize

    def _load(self, load: Load) -> None:
        machine = self._machine
        rows, columns = load.place.shape
        self._tiles[load.slot] = (rows, columns, load.dtype)
        self._touch(rows, columns, load.dtype)
        nbytes = load.place.distinct * DTYPES[load.dtype].itemsize
        self.counters.dram_read += nbytes
        cycles = math.ceil(nbytes / machine.dram_bytes_per_cycle)
        reads, writes = [("d", load.place.tensor)], [("s", load.slot)]
        self._occupy([_LOADS], cycles, machine.dram_latency, reads, writes)

    def _store(self, store: Store) -> None:
        machine = self._machine
        self._touch(*self._tiles[store.slot])
        nbytes = store.place.size * self._itemsizes[store.place.tensor]
        self.counters.dram_written += nbytes
        cycles = math.ceil(nbytes / machine.dram_bytes_per_cycle)
        # Stores to one tensor write different elements: they need not wait for each other.
        key = ("d", store.place.tensor)
        before = self._written.pop(key, 0.0)
        self._occupy([_STORES], cycles, machine.dram_latency, [("s", store.slot)], [key])
        self._written[key] = max(self._written[key], before)

    def _move(self, move: Move) -> None:
        machine = self._machine
        nbytes = move.place.size * self._itemsizes[move.tensor]
        self.counters.dram_read += move.place.distinct * self._itemsizes[move.tensor]
        self.counters.dram_written += nbytes
        cycles = math.ceil(nbytes / machine.dram_bytes_per_cycle)
        reads, writes = [("d", move.place.tensor)], [("d", move.tensor)]
        self._occupy([_LOADS, _STORES], cycles, 2 * machine.dram_latency, reads, writes)

    def _matmul(self, matmul: Matmul) -> None:
        rows, terms, dtype = self._tiles[matmul.rows]
        columns = self._weights[1]
        self._tiles[matmul.slot] = (rows, columns, matmul.dtype)
        self._touch(rows, terms, dtype)
        for _ in range(2 if matmul.adds else 1):
            self._touch(rows, columns, matmul.dtype)
        found = self.counters
        macs = rows * terms * columns
        found.macs += macs
        found.busy += rows
        found.energy["array"] += macs * self._machine.mac_pj[dtype]
        reads = [("s", matmul.rows), ("weights", 0)]
        # Sums stay in order without waiting: row after row passes through the array.
        writes = [] if matmul.adds else [("s", matmul.slot)]
        self._occupy([_ARRAY], rows, terms + columns, reads, writes)
        self._written[("s", matmul.slot)] = self._engines[_ARRAY] + terms + columns

    def _vector(self, vector: Vector) -> None:
        slots = [x for x in vector.operands if isinstance(x, int)]
        rows, columns, _ = self._tiles[slots[0]]
        for slot in slots:
            self._touch(*self._tiles[slot])
        self._tiles[vector.slot] = (rows, columns, vector.dtype)
        self._touch(rows, columns, vector.dtype)
        cost = OPERATIONS[vector.name].cycles
        cycles = math.ceil(rows * columns / self._machine.lanes) * cost
        self.counters.vector_elements += rows * columns
        self.counters.energy["vector"] += rows * columns * cost * self._machine.vector_pj
        reads = [("s", slot) for slot in slots]
        self._occupy([_VECTOR], cycles, 0, reads, [("s", vector.slot)])
