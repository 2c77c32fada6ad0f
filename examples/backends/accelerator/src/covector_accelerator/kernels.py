"""Kernels: a product of matrices or nothing, then operations on the elements of its tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from covector_accelerator.isa import Instruction, Load, Matmul, Store, Vector, Weights
from covector_accelerator.machine import Machine
from covector_accelerator.views import View, packed


@dataclass(frozen=True)
class Made:
    """The result of a step of a kernel.

    Attributes:
        kernel: that makes it.
        step: its number.
        shape: of the array.
        dtype: of its elements.
    """

    kernel: Kernel
    step: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Product:
    """Matrices to be multiplied, for each of a batch.

    Attributes:
        rows: [batch, M, K].
        weights: [batch, K, N].
        dtype: of the sums.
    """

    rows: View
    weights: View
    dtype: str


@dataclass(frozen=True)
class Step:
    """An operation of the vector unit on the elements of arrays of the kernel's shape, or a load.

    Attributes:
        name: of the operation; "load" reads `view`, "product" is the kernel's.
        operands: results of earlier steps, and constants.
        dtype: of the result.
        view: what a load reads.
    """

    name: str
    operands: tuple[Made | float, ...]
    dtype: str
    view: View | None = None


@dataclass(eq=False)
class Kernel:
    """Steps on arrays of one shape.

    Attributes:
        shape: of the arrays.
        product: what step 0 is, if there is one.
        steps: in order.
        stored: tensors that results of steps are written to, by the number of the step.
    """

    shape: tuple[int, ...]
    product: Product | None
    steps: list[Step] = field(default_factory=list[Step])
    stored: dict[int, int] = field(default_factory=dict[int, int])

    def __post_init__(self) -> None:
        if self.product is not None:
            self.steps.append(Step("product", (), self.product.dtype))

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Its shape as batch, rows and columns."""
        if self.product is not None:
            batch, m, _ = self.product.rows.shape
            return batch, m, self.product.weights.shape[2]
        padded = (1, 1, *self.shape)
        return math.prod(padded[:-2]), padded[-2], padded[-1]

    def takes(self, shape: tuple[int, ...], machine: Machine) -> bool:
        """Whether a step on arrays of some shape can join, and leaves room in the scratchpad."""
        return shape == self.shape and len(self.steps) + machine.accumulators < machine.slots // 2

    def add(self, step: Step) -> Made:
        """A new step."""
        self.steps.append(step)
        return Made(self, len(self.steps) - 1, self.shape, step.dtype)

    def load(self, view: View) -> Made:
        """A step that reads an array, the same for the same one."""
        for k, step in enumerate(self.steps):
            if step.view == view:
                return Made(self, k, self.shape, step.dtype)
        return self.add(Step("load", (), view.dtype, view))

    @property
    def last_uses(self) -> dict[int, int]:
        """The step that uses the result of each step last; the number of steps if it is stored."""
        found = {k: k for k in range(len(self.steps))}
        for k, step in enumerate(self.steps):
            found.update({x.step: k for x in step.operands if isinstance(x, Made)})
        return {k: len(self.steps) if k in self.stored else last for k, last in found.items()}


@dataclass(frozen=True)
class _Space:
    """Tiles that a kernel goes through: [batch, M, N], and its arrays in that form."""

    sizes: tuple[int, int, int]
    loads: dict[int, View]
    stores: dict[int, View]

    def tiles(self, rows: int, columns: int) -> Iterator[tuple[int, int, int, int, int]]:
        """Where each begins, and how large it is."""
        batch, m, n = self.sizes
        for b in range(batch):
            for i in range(0, m, rows):
                for j in range(0, n, columns):
                    yield b, i, j, min(rows, m - i), min(columns, n - j)


def emit(kernel: Kernel, machine: Machine) -> list[Instruction]:
    """The instructions of a kernel."""
    emitter = _Emitter(kernel, machine)
    if kernel.product is None:
        for space in _elementwise_spaces(kernel, machine):
            for tile in space.tiles(machine.rows, machine.columns):
                emitter.steps(space, tile, {})
        return emitter.code
    emitter.products(_space(kernel, kernel.sizes))
    return emitter.code


def _space(kernel: Kernel, sizes: tuple[int, int, int], offset: int = 0) -> _Space:
    """A kernel's arrays, or a part of them, as arrays of three axes."""
    loads: dict[int, View] = {}
    for k, step in enumerate(kernel.steps):
        if step.view is not None:
            loads[k] = _part(step.view, sizes, offset)
    stores = {
        k: View(tensor, offset, sizes, packed(sizes), kernel.steps[k].dtype)
        for k, tensor in kernel.stored.items()
    }
    return _Space(sizes, loads, stores)


def _part(view: View, sizes: tuple[int, int, int], offset: int) -> View:
    if not any(view.strides):  # one element, repeated
        return View(view.tensor, view.offset, sizes, (0, 0, 0), view.dtype)
    if offset == 0 and math.prod(sizes) == math.prod(view.shape):
        found = view.merged(sizes)
        assert found is not None, view
        return found
    return View(view.tensor, view.offset + offset, sizes, packed(sizes), view.dtype)


def _elementwise_spaces(kernel: Kernel, machine: Machine) -> list[_Space]:
    """Where all arrays are without gaps, full tiles and a rest; else rows of the last axis."""
    views = [step.view for step in kernel.steps if step.view is not None]
    size, columns = math.prod(kernel.shape), machine.columns
    if all([v.is_packed or not any(v.strides) for v in views]):
        full = size // columns
        spaces = [_space(kernel, (1, full, columns))] if full else []
        if size % columns:
            spaces.append(_space(kernel, (1, 1, size % columns), full * columns))
        return spaces
    return [_space(kernel, kernel.sizes)]


class _Emitter:
    """Writes the instructions of a kernel; slots are taken in turns, so that tiles overlap."""

    def __init__(self, kernel: Kernel, machine: Machine) -> None:
        self.code: list[Instruction] = []
        self._kernel = kernel
        self._machine = machine
        self._free = list(range(machine.slots))
        self._last = kernel.last_uses

    def _take(self) -> int:
        return self._free.pop(0)

    def _give(self, slot: int) -> None:
        self._free.append(slot)

    def products(self, space: _Space) -> None:
        """Tiles of a product, some rows of tiles at a time, each followed by the steps on it."""
        machine, (batch, m, n) = self._machine, space.sizes
        block = machine.rows * machine.accumulators
        for b in range(batch):
            for first in range(0, m, block):
                rows = range(first, min(m, first + block), machine.rows)
                for j in range(0, n, machine.columns):
                    width = min(machine.columns, n - j)
                    sums = self._sums(b, rows, j, m, width)
                    for i in rows:
                        tile = (b, i, j, min(machine.rows, m - i), width)
                        self.steps(space, tile, {0: sums[i]})

    def _sums(self, b: int, rows: range, j: int, m: int, width: int) -> dict[int, int]:
        """The slots of one column of tiles: weights are taken once for all of them."""
        product, machine = self._kernel.product, self._machine
        assert product is not None
        sums = {i: self._take() for i in rows}
        terms = product.rows.shape[2]
        for k in range(0, terms, machine.rows):
            depth = min(machine.rows, terms - k)
            slot = self._take()
            place = product.weights.tile(b, k, j, depth, width)
            self.code += [Load(slot, place, product.weights.dtype), Weights(slot)]
            self._give(slot)
            for i in rows:
                slot = self._take()
                place = product.rows.tile(b, i, k, min(machine.rows, m - i), depth)
                self.code.append(Load(slot, place, product.rows.dtype))
                self.code.append(Matmul(sums[i], slot, product.dtype, k > 0))
                self._give(slot)
        return sums

    def steps(
        self, space: _Space, tile: tuple[int, int, int, int, int], slots: dict[int, int]
    ) -> None:
        """All steps on one tile; `slots` has those of which the result is there."""
        for k, step in enumerate(self._kernel.steps):
            if step.view is not None:
                slots[k] = self._take()
                self.code.append(Load(slots[k], space.loads[k].tile(*tile), step.dtype))
            elif step.name != "product":
                operands = [slots[x.step] if isinstance(x, Made) else x for x in step.operands]
                slots[k] = self._take()
                self.code.append(Vector(step.name, slots[k], tuple(operands), step.dtype))
            for done in [x for x in slots if self._last[x] <= k]:
                self._give(slots.pop(done))
        for k, slot in slots.items():
            self.code.append(Store(slot, space.stores[k].tile(*tile)))
            self._give(slot)
