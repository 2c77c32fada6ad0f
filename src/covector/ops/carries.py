"""Where the carried values of native loops live: in SSA values or in buffers.

A carried array is kept in one of five ways, decided before the loop is built:

- unchanged: the body returns what it got, so every iteration reads the initial value;
- registers: few elements, each an SSA value carried by the loop;
- updated: the body only replaces parts of it (`dynamic_update_slice`, scatter), in place;
- accumulated: the body reads it once, element for element, on the way to its new value;
- ring: buffers taken in turn. Alone in its ring, a carry alternates between two of them, read from
  one and written to the other. Carries that are passed on (`u, v -> v, f(u, v)`) share a ring, so
  that what moves is the place where each is found, not its elements.

Within an iteration everything is read before anything that is read from is overwritten: register
values first, then what goes to other memory, then what changes in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from covector.core.program import Program, Variable
from covector.loopir.tensor import InPlace, Lowering, Registers, Row, Stored, Tensor
from covector.ops import indices as ix
from covector.ops.carry_plan import (
    IN_PLACE,
    MAX_APART,
    MAX_ELEMENTS,
    MAX_TOTAL,
    Plan,
    Ring,
    is_long,
)
from covector.ops.overwriting import Overwrite
from covector.ops.windows import static_size

__all__ = ["MAX_ELEMENTS", "MAX_TOTAL", "Carries", "as_registers", "scratch", "store_together"]

STAGGER = 1088
"""Bytes between the buffers of a ring beyond their size, so that equal elements are not a multiple
of 4 KiB apart: a load that follows such a store waits for it."""
_LARGE = 1 << 14


class Carries:
    """The carried arrays of one loop being lowered.

    Args:
        b: the lowering.
        program: the body.
        first: position of the first carry among the body's inputs.
        initial: the carries before the loop.

    Attributes:
        body: the program to lower for an iteration; `advance` takes what it returns.
        scalars: values of the SSA carries before the loop.
    """

    def __init__(
        self, b: Lowering, program: Program, first: int, initial: Sequence[Tensor]
    ) -> None:
        short = b.builder.apart is None and not is_long(program)
        self._most = MAX_ELEMENTS if short else MAX_APART
        sizes = [static_size(t.shape) for t in initial]
        plan = self._plan = Plan(program, first, sizes, self._most)
        self._b = b
        self._modes = plan.modes
        self._initial = list(initial)
        self.body = plan.body
        # Memory first: the buffers of results may be the caller's own.
        self._memory: dict[int, Stored] = {}
        self._rings = [(ring, self._ring_memory(ring)) for ring in plan.rings]
        for k, (mode, tensor) in enumerate(zip(self._modes, initial, strict=True)):
            if mode in IN_PLACE:
                self._memory[k] = self._own_memory(k, tensor)
        self.scalars: list[Any] = []
        for k, (mode, tensor) in enumerate(zip(self._modes, initial, strict=True)):
            if mode == "registers":
                self.scalars += [tensor.at(i) for i in np.ndindex(*tensor.shape)]
            elif mode in IN_PLACE and self._memory[k] is not tensor:
                b.fill(self._memory[k], tensor)
        for ring, memory in self._rings:
            rows = [memory.row(self._slot(ring, p, 0)) for p in range(len(ring.members))]
            store_together(b, [(r, initial[k]) for r, k in zip(rows, ring.members, strict=True)])
        for k, mode in enumerate(self._modes):
            if mode == "unchanged":
                self._initial[k] = b.hoist(self._initial[k])

    def _own_memory(self, k: int, tensor: Tensor) -> Stored:
        if type(tensor) is Stored and self._b.owns(tensor):
            return tensor
        return self._b.new(tensor.shape, tensor.dtype, k)

    def _ring_memory(self, ring: Ring) -> Stored:
        """Buffers in a row, somewhat apart."""
        tensor = self._initial[ring.members[0]]
        memory = scratch(self._b, (ring.slots, *tensor.shape), tensor.dtype)
        buffer = memory.buffer
        size, nbytes = static_size(tensor.shape), buffer.nbytes
        large = nbytes is not None and nbytes >= ring.slots * _LARGE
        if large and size is not None and buffer.lane is None:
            apart = size + STAGGER // tensor.dtype.itemsize
            buffer.strides = (apart, *buffer.strides[1:])
        return memory

    def _slot(self, ring: Ring, place: int, iteration: Any) -> Any:
        """Which buffer of a ring holds the carry at a place in it."""
        at = ix.add(self._b.builder, iteration, place)
        if type(at) is not int and ring.slots == 2:
            return self._b.builder.op("and", at, 1)
        return ix.rem(self._b.builder, at, ring.slots)

    def tensors(self, scalars: Sequence[Any], iteration: Any) -> list[Tensor]:
        """The carries at the start of an iteration, or after as many iterations."""
        given = iter(scalars)
        found: list[Tensor] = list(self._initial)
        for k, mode in enumerate(self._modes):
            if mode == "registers":
                initial = self._initial[k]
                found[k] = as_registers(self._b, initial.shape, initial.dtype, given)
            elif mode in IN_PLACE:
                found[k] = self._memory[k]
        for ring, memory in self._rings:
            for place, k in enumerate(ring.members):
                found[k] = memory.row(self._slot(ring, place, iteration))
        return found

    def run(self, b: Lowering, operands: Sequence[Tensor]) -> list[Tensor]:
        """Lowers the body for an iteration.

        Args:
            b: the lowering.
            operands: what it takes, the carries from `tensors`.

        Returns:
            What `advance` takes.
        """
        # One loop or branch may overwrite several carries.
        in_place: dict[int, list[tuple[Overwrite, Stored]]] = {}
        for k, overwrites in self._plan.overwrites.items():
            for each in overwrites:
                in_place.setdefault(id(each.equation), []).append((each, self._memory[k]))
        return b.inline(self.body, operands, in_place)

    def advance(
        self, outputs: Sequence[Tensor], iteration: Any, targets: Sequence[Row] = ()
    ) -> list[Any]:
        """Ends an iteration: stores its outputs.

        Args:
            outputs: of `body`.
            iteration: its number, from 0.
            targets: where the outputs after the carries go.

        Returns:
            The SSA carries of the next iteration.
        """
        count = len(self._modes)
        scalars: list[Any] = []
        stores: list[tuple[Row, Tensor]] = list(zip(targets, outputs[count:], strict=False))
        over: list[tuple[Stored | Row, Tensor]] = []
        following = ix.add(self._b.builder, iteration, 1)
        for k, mode in enumerate(self._modes):
            if mode == "registers":
                scalars += [outputs[k].at(i) for i in np.ndindex(*outputs[k].shape)]
            elif mode == "accumulated":
                over.append((self._memory[k], outputs[k]))
        for ring, memory in self._rings:
            if ring.fresh:
                last = len(ring.members) - 1
                row = memory.row(self._slot(ring, last, following))
                into: Any = over if ring.overwrites else stores
                into.append((row, outputs[ring.members[last]]))
        operands = self._operands(outputs[count + len(targets) :])
        store_together(self._b, stores)
        for target, out in over:
            store_together(self._b, [(target, out)])
        self._update(operands, iteration)
        return scalars

    def _operands(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The operands of updates at the end; none of them reads what these change."""
        atoms = [a for chain in self._plan.updates.values() for e in chain for a in e.inputs[1:]]
        return [
            self._private(t) if type(a) is Variable and a in self._plan.private else t
            for a, t in zip(atoms, tensors, strict=True)
        ]

    def _private(self, tensor: Tensor) -> Tensor:
        """A tensor with the same elements that does not read what is about to change."""
        size = static_size(tensor.shape)
        if size is not None and size <= self._most:
            values = iter([tensor.at(i) for i in np.ndindex(*tensor.shape)])
            return as_registers(self._b, tensor.shape, tensor.dtype, values)
        changing = [m.buffer for m in self._memory.values()]
        if type(tensor) is Stored and tensor.buffer not in changing:
            return tensor
        return self._b.update_in_place(tensor)

    def _update(self, operands: Sequence[Tensor], iteration: Any) -> None:
        given = iter(operands)
        places = {k: (r, p, m) for r, m in self._rings for p, k in enumerate(r.members)}
        following = ix.add(self._b.builder, iteration, 1)
        for k, chain in self._plan.updates.items():
            own: Any = self._memory.get(k)
            if own is None:
                ring, place, memory = places[k]
                own = memory.row(self._slot(ring, place, following))
            for equation in chain:
                rest = [next(given) for _ in equation.inputs[1:]]
                b: Any = InPlace(self._b, own)
                out = equation.primitive.lower(b, own, *rest, **equation.params)
                if out is not own:
                    store_together(self._b, [(own, self._private(out))])


def as_registers(
    b: Lowering, shape: Sequence[Any], dtype: np.dtype[Any], values: Iterator[Any]
) -> Tensor:
    """A tensor of the next SSA values, as many as it has elements."""
    array = np.empty(tuple(shape), object)
    for index in np.ndindex(*shape):
        array[index] = next(values)
    return b.registers(array, dtype)


_TOGETHER = 400.0
"""Operations in one loop that stores several tensors, beyond which another one begins."""


def store_together(b: Lowering, pairs: Sequence[tuple[Row | Stored, Tensor]]) -> None:
    """Stores tensors in rows that none of them reads, those of one shape in one loop."""
    groups: dict[Any, list[list[tuple[Row | Stored, Tensor]]]] = {}
    costs: dict[Any, float] = {}
    for target, source in pairs:
        cost = costs.get(target.shape, 0.0) + source.cost
        found = groups.setdefault(target.shape, [[]])
        if cost > _TOGETHER and found[-1]:
            found.append([])
            cost = source.cost
        found[-1].append((target, source))
        costs[target.shape] = cost
    for shape, found in groups.items():
        for group in found:
            _store_group(b, shape, group)


def _store_group(b: Lowering, shape: Any, group: list[tuple[Row | Stored, Tensor]]) -> None:
    def store(index: Any) -> None:
        values = [source.at(index) for _, source in group]
        for (target, _), value in zip(group, values, strict=True):
            target.put(index, value)

    if any([isinstance(source, Registers) for _, source in group]):
        # Only indices known here reach values in registers.
        for index in np.ndindex(*shape):
            store(index)
    else:
        b.for_each(shape, store, independent=True, cost=sum([s.cost for _, s in group]))


def scratch(b: Lowering, shape: Sequence[Any], dtype: np.dtype[Any]) -> Stored:
    """A buffer that is never the caller's."""
    return Stored(b.builder, b.builder.buffer(dtype, shape), shape)
