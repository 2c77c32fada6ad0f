"""The backend: claims equations, and compiles parts made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.extend.backends import Equation, Offloaded, Options, Program, offload
from covector_accelerator.claims import claims, work
from covector_accelerator.codegen import generate
from covector_accelerator.device import Buffer, Chip
from covector_accelerator.isa import assembly
from covector_accelerator.machine import Machine
from covector_accelerator.simulator import simulate
from covector_accelerator.timing import measure
from covector_accelerator.vector import DTYPES


class Accelerator:
    """Runs products of matrices and operations on elements on a simulated accelerator.

    Args:
        machine: its parameters.
        name: of the backend.
        base: the backend of everything else.
        least_work: parts with fewer products and operations on elements than this stay with the
            base: moving their operands is not worth it.

    Attributes:
        chip: the device.
    """

    def __init__(
        self,
        machine: Machine | None = None,
        *,
        name: str = "accelerator",
        base: str = "native",
        least_work: int = 64,
    ) -> None:
        self.name = name
        self.base = base
        self.least_work = least_work
        self.chip = Chip(name, machine or Machine())

    @property
    def devices(self) -> Sequence[Chip]:
        """The one there is."""
        return (self.chip,)

    def claims(self, equation: Equation) -> bool:
        """Whether the accelerator runs an equation."""
        return claims(equation)

    def is_worthwhile(self, program: Program) -> bool:
        """Whether a part has enough work."""
        return work(program) >= max(1, self.least_work)

    def compile_part(self, program: Program, options: Options) -> Part:
        """Compiles a part to instructions."""
        return Part(program, self.chip)

    def compile(self, program: Program, options: Options) -> Offloaded:
        """Compiles a program: claimed parts for the accelerator, the rest for the base."""
        return offload(program, options, self, self.base)


class Part:
    """A part of a program as instructions.

    Attributes:
        code: what it is compiled to.
        counters: what a run takes.
    """

    def __init__(self, program: Program, chip: Chip) -> None:
        self._chip = chip
        self._shapes = [a.shape for a in program.output_avals]
        self.code = code = generate(program, chip.machine)
        self._inputs = len(program.inputs)
        self._constants = {k: Buffer(chip, data) for k, data in code.constants.items()}
        itemsizes = [DTYPES[dtype].itemsize for dtype, _ in code.tensors]
        self.counters = measure(code.instructions, chip.machine, itemsizes)

    def __call__(self, *buffers: Buffer) -> Sequence[Buffer]:
        tensors = list(buffers)
        for k, (dtype, size) in enumerate(self.code.tensors[self._inputs :], self._inputs):
            constant = self._constants.get(k)
            tensors.append(constant or Buffer(self._chip, np.empty(size, DTYPES[dtype])))
        simulate(self.code.instructions, [b.data.reshape(-1) for b in tensors])
        self._chip.count(self.counters)
        results: list[Buffer] = []
        for k, shape in zip(self.code.results, self._shapes, strict=True):
            tensors[k].data = tensors[k].data.reshape(shape)
            results.append(tensors[k])
        return results

    def as_text(self, stage: str = "") -> str:
        """The assembly language."""
        return assembly(self.code.instructions)

    def cost(self) -> dict[str, Any]:
        """What a run takes on the accelerator, without transfers from and to the host."""
        found = self.counters
        return {
            "instructions": found.instructions,
            "cycles": found.cycles,
            "macs": found.macs,
            "utilisation": found.utilisation(self._chip.machine),
            "dram_bytes": found.dram_read + found.dram_written,
            "picojoules": found.picojoules,
        }
