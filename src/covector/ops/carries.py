"""Where the carried values of native loops live: in SSA values or in buffers.

A carried array is kept in one of five ways, decided before the loop is built:

- unchanged: the body returns what it got, so every iteration reads the initial value;
- registers: few elements, each an SSA value carried by the loop;
- updated: the body only replaces parts of it (`dynamic_update_slice`, scatter), in place;
- accumulated: the body reads it once, element for element, on the way to its new value;
- alternating: two buffers in turn, read from one and written to the other.

Within an iteration everything is read before anything that is read from is overwritten: register
values first, then what goes to other memory, then what changes in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from covector.core.program import Equation, Program, Variable
from covector.loopir.tensor import Lowering, Registers, Row, Stored, Tensor
from covector.ops import indices as ix
from covector.ops.nested import count_uses, definitions
from covector.ops.windows import static_size

MAX_ELEMENTS = 32
"""Elements up to which a carried array lives in registers."""
MAX_TOTAL = 128
"""Elements of all carried arrays in registers together."""

_MAX_CHAIN = 16
_UPDATES = frozenset(
    ("dynamic_update_slice", "scatter", "scatter-add", "scatter-mul", "scatter-min", "scatter-max")
)


class _InPlace:
    """A lowering in which one tensor may be overwritten instead of copied."""

    def __init__(self, b: Any, own: Stored) -> None:
        self._b = b
        self._own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._b, name)

    def update_in_place(self, tensor: Tensor) -> Stored:
        """The tensor's own buffer for the one tensor, a copy for others."""
        return self._own if tensor is self._own else self._b.update_in_place(tensor)


class Plan:
    """How a loop body's carries are kept, found from the program alone.

    Args:
        program: the body.
        first: position of the first carry among its inputs; its outputs begin with the carries.
        sizes: elements of each carry, `None` where known at run time only.

    Attributes:
        body: the program to lower: in place of carries updated in place, it returns the operands
            of the updates after all other outputs.
        modes: for each carry "unchanged", "registers", "updated", "accumulated", "alternating".
        updates: for each carry updated in place the equations that do it, in order.
    """

    def __init__(self, program: Program, first: int, sizes: Sequence[int | None]) -> None:
        self.modes: list[str] = []
        self.updates: dict[int, list[Equation]] = {}
        uses = count_uses(program)
        defined = definitions(program)
        total = 0
        for k, size in enumerate(sizes):
            variable, out = program.inputs[first + k], program.outputs[k]
            if out is variable:
                self.modes.append("unchanged")
            elif size is not None and size <= MAX_ELEMENTS and total + size <= MAX_TOTAL:
                total += size
                self.modes.append("registers")
            else:
                self.modes.append(self._memory_mode(k, variable, out, uses, defined))
        self.body = self._without_updates(program)

    def _memory_mode(
        self,
        k: int,
        variable: Variable,
        out: Any,
        uses: dict[Variable, int],
        defined: dict[Variable, Equation],
    ) -> str:
        chain = _chain(variable, out, uses, defined)
        if chain and all([e.primitive.name in _UPDATES for e in chain]):
            self.updates[k] = chain
            return "updated"
        if chain and uses[variable] == 1 and all([_same_index(e) for e in chain]):
            return "accumulated"
        return "alternating"

    def _without_updates(self, program: Program) -> Program:
        if not self.updates:
            return program
        gone = {id(e) for chain in self.updates.values() for e in chain}
        outputs = [
            program.inputs[0] if k in self.updates else a for k, a in enumerate(program.outputs)
        ]
        for chain in self.updates.values():
            for equation in chain:
                outputs += equation.inputs[1:]
        equations = [e for e in program.equations if id(e) not in gone]
        return program.replace(equations=equations, outputs=outputs)


def _chain(
    start: Variable, end: Any, uses: dict[Variable, int], defined: dict[Variable, Equation]
) -> list[Equation]:
    """The equations from a variable to an output, each one's result read by the next alone.

    The way leads through the first operand, and through any one operand of elementwise operations.
    """

    def path(atom: Any, depth: int) -> list[Equation] | None:
        if atom is start:
            return []
        equation = defined.get(atom) if type(atom) is Variable else None
        if equation is None or uses[atom] != 1 or len(equation.outputs) != 1 or depth == 0:
            return None
        elementwise = "elementwise" in equation.primitive.tags
        operands = equation.inputs if elementwise else equation.inputs[:1]
        found = [p for a in operands if (p := path(a, depth - 1)) is not None]
        return [*found[0], equation] if len(found) == 1 else None

    return path(end, _MAX_CHAIN) or []


def _same_index(equation: Equation) -> bool:
    shape = equation.outputs[0].aval.shape
    return "elementwise" in equation.primitive.tags and all(
        [a.aval.shape in (shape, ()) for a in equation.inputs]
    )


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
        plan = Plan(program, first, [static_size(t.shape) for t in initial])
        self._b = b
        self._modes = plan.modes
        self._updates = plan.updates
        self._initial = list(initial)
        self.body = plan.body
        # Memory first: the buffer of the first result may be the caller's own.
        self._memory = [self._allocate(k, t) for k, t in enumerate(initial)]
        self.scalars: list[Any] = []
        for mode, tensor, memory in zip(self._modes, initial, self._memory, strict=True):
            if mode == "registers":
                self.scalars += [tensor.at(i) for i in np.ndindex(*tensor.shape)]
            elif memory is not None:
                if mode == "alternating":
                    store_together(b, [(memory.row(0), tensor)])
                else:
                    b.fill(memory, tensor)
        for k, mode in enumerate(self._modes):
            if mode == "unchanged":
                self._initial[k] = b.hoist(self._initial[k])

    def _allocate(self, k: int, tensor: Tensor) -> Stored | None:
        mode = self._modes[k]
        if mode == "alternating":
            return scratch(self._b, (2, *tensor.shape), tensor.dtype)
        if mode in ("unchanged", "registers"):
            return None
        if k == 0:
            return self._b.new(tensor.shape, tensor.dtype)
        return scratch(self._b, tensor.shape, tensor.dtype)

    @property
    def alternates(self) -> bool:
        """Whether the parity of the iteration matters."""
        return "alternating" in self._modes

    def tensors(self, scalars: Sequence[Any], iteration: Any) -> list[Tensor]:
        """The carries at the start of an iteration, or after as many iterations."""
        given = iter(scalars)
        parity = self._parity(iteration)
        found: list[Tensor] = []
        for mode, initial, memory in zip(self._modes, self._initial, self._memory, strict=True):
            if mode == "unchanged":
                found.append(initial)
            elif mode == "registers":
                found.append(as_registers(self._b, initial.shape, initial.dtype, given))
            else:
                assert memory is not None
                found.append(memory.row(parity) if mode == "alternating" else memory)
        return found

    def _parity(self, iteration: Any) -> Any:
        if not self.alternates:
            return 0
        return iteration & 1 if type(iteration) is int else self._b.builder.op("and", iteration, 1)

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
        accumulated: list[tuple[Stored, Tensor]] = []
        next_parity = self._parity(ix.add(self._b.builder, iteration, 1))
        for mode, memory, out in zip(self._modes, self._memory, outputs, strict=False):
            if mode == "registers":
                scalars += [out.at(i) for i in np.ndindex(*out.shape)]
            elif mode == "alternating" and memory is not None:
                stores.append((memory.row(next_parity), out))
            elif mode == "accumulated" and memory is not None:
                accumulated.append((memory, out))
        operands = [self._private(t) for t in outputs[count + len(targets) :]]
        store_together(self._b, stores)
        for memory, out in accumulated:
            self._b.fill(memory, out)
        self._update(operands)
        return scalars

    def _private(self, tensor: Tensor) -> Tensor:
        """A tensor with the same elements that does not read what is about to change."""
        size = static_size(tensor.shape)
        if size is not None and size <= MAX_ELEMENTS:
            values = iter([tensor.at(i) for i in np.ndindex(*tensor.shape)])
            return as_registers(self._b, tensor.shape, tensor.dtype, values)
        changing = [m.buffer for m in self._memory if m is not None]
        if type(tensor) is Stored and tensor.buffer not in changing:
            return tensor
        return self._b.update_in_place(tensor)

    def _update(self, operands: Sequence[Tensor]) -> None:
        given = iter(operands)
        for k, chain in self._updates.items():
            memory = self._memory[k]
            assert memory is not None
            b: Any = _InPlace(self._b, memory)
            for equation in chain:
                rest = [next(given) for _ in equation.inputs[1:]]
                out = equation.primitive.lower(b, memory, *rest, **equation.params)
                if out is not memory:
                    self._b.fill(memory, self._private(out))


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


def store_together(b: Lowering, pairs: Sequence[tuple[Row, Tensor]]) -> None:
    """Stores tensors in rows that none of them reads, those of one shape in one loop."""
    groups: dict[Any, list[list[tuple[Row, Tensor]]]] = {}
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


def _store_group(b: Lowering, shape: Any, group: list[tuple[Row, Tensor]]) -> None:
    def store(index: Any) -> None:
        values = [source.at(index) for _, source in group]
        for (target, _), value in zip(group, values, strict=True):
            target.put(index, value)

    if any([isinstance(source, Registers) for _, source in group]):
        # Only indices known here reach values in registers.
        for index in np.ndindex(*shape):
            store(index)
    else:
        b.for_each(shape, store, independent=True)


def scratch(b: Lowering, shape: Sequence[Any], dtype: np.dtype[Any]) -> Stored:
    """A buffer that is never the caller's."""
    return Stored(b.builder, b.builder.buffer(dtype, shape), shape)
