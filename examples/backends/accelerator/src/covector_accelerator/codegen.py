"""From a program of claimed equations to instructions.

Reindexing becomes views. A product of matrices begins a kernel; operations on elements join the
kernel that makes their operand, so that a chain passes through the scratchpad once, tile by tile.
Kernels run one after the other, and only what later ones or the caller read is written to DRAM.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from covector.extend.backends import Equation, Literal, Program, Variable
from covector_accelerator import claims
from covector_accelerator.isa import Instruction, Move
from covector_accelerator.kernels import Kernel, Made, Product, Step, emit
from covector_accelerator.machine import Machine
from covector_accelerator.vector import NAMES
from covector_accelerator.views import View, packed

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Constant:
    """A number at all places of an array."""

    value: float
    shape: tuple[int, ...]
    dtype: str


Operand = View | Made | Constant


@dataclass
class Code:
    """A compiled part.

    Attributes:
        instructions: that run it.
        tensors: element type and size of each tensor in DRAM: inputs, then others.
        constants: data of some of them, by number.
        results: the numbers of those that are returned, in order.
    """

    instructions: list[Instruction]
    tensors: list[tuple[str, int]]
    constants: dict[int, Array] = field(default_factory=dict[int, Array])
    results: list[int] = field(default_factory=list[int])


def generate(program: Program, machine: Machine) -> Code:
    """Compiles a program of claimed equations.

    Args:
        program: the part.
        machine: whose sizes tiles have.

    Returns:
        Instructions, and the tensors that they work on.
    """
    generator = _Generator(program, machine)
    for equation in program.equations:
        generator.equation(equation)
    return generator.finished()


class _Generator:
    def __init__(self, program: Program, machine: Machine) -> None:
        self._program = program
        self._machine = machine
        self._code = Code([], [])
        self._order: list[Kernel | Move] = []
        self._known: dict[Variable, Operand] = {}
        self._literals: dict[int, View] = {}
        for variable in program.inputs:
            shape, dtype = variable.aval.shape, NAMES[variable.aval.dtype]
            self._known[variable] = self._tensor(shape, dtype)

    def _tensor(self, shape: Sequence[int], dtype: str, data: Array | None = None) -> View:
        """A new tensor."""
        number = len(self._code.tensors)
        self._code.tensors.append((dtype, math.prod(shape)))
        if data is not None:
            self._code.constants[number] = data.reshape(-1)
        return View.whole(number, shape, dtype)

    # --- equations ---

    def equation(self, equation: Equation) -> None:
        """Compiles one."""
        name, (out,) = equation.primitive.name, equation.outputs
        operands = [self._operand(a) for a in equation.inputs]
        if name in claims.REINDEXING:
            made = self._reindexed(equation, operands[0])
        elif name == "dot_general":
            made = self._product(equation, [self._in_dram(x) for x in operands])
        else:
            made = self._elements(equation, operands)
        self._known[out] = made

    def _operand(self, atom: Any) -> Operand:
        if isinstance(atom, Variable):
            return self._known[atom]
        assert isinstance(atom, Literal)
        data, dtype = np.asarray(atom.value), NAMES[atom.aval.dtype]
        if data.ndim == 0:
            return Constant(float(data), (), dtype)
        known = self._literals.get(id(atom.value))
        if known is None:
            known = self._tensor(data.shape, dtype, np.ascontiguousarray(data))
            self._literals[id(atom.value)] = known
        return known

    def _in_dram(self, operand: Operand) -> View:
        """Where its elements are; it is stored by the kernel that makes it."""
        if isinstance(operand, View):
            return operand
        if isinstance(operand, Constant):
            value = np.array([operand.value], claims.DTYPES[operand.dtype])
            one = self._tensor((), operand.dtype, value)
            return one.broadcast(operand.shape, ())
        kernel = operand.kernel
        number = kernel.stored.get(operand.step)
        if number is None:
            view = self._tensor(operand.shape, operand.dtype)
            number = kernel.stored[operand.step] = view.tensor
        return View.whole(number, operand.shape, operand.dtype)

    def _moved(self, view: View, before: Kernel | None = None) -> View:
        """A copy without gaps or repetitions, made when all kernels so far, or up to one, ran."""
        copy = self._tensor(view.shape, view.dtype)
        place = len(self._order) if before is None else self._order.index(before)
        self._order.insert(place, Move(copy.tensor, view.place))
        return copy

    def _shaped(self, view: View, shape: Sequence[int]) -> View:
        """A view as an array of another shape, copied where strides do not suffice."""
        found = view.merged(shape) or self._moved(view).merged(shape)
        assert found is not None
        return found

    def _reindexed(self, equation: Equation, operand: Operand) -> Operand:
        shape = equation.outputs[0].aval.shape
        if isinstance(operand, Constant):
            return Constant(operand.value, shape, operand.dtype)
        view, params = self._in_dram(operand), equation.params
        match equation.primitive.name:
            case "broadcast_in_dim":
                return view.broadcast(shape, params["broadcast_dimensions"])
            case "transpose":
                return view.transposed(params["permutation"])
            case "slice":
                steps = params["strides"] or (1,) * len(shape)
                return view.sliced(params["start_indices"], params["limit_indices"], steps)
            case _:  # reshape, squeeze
                return self._shaped(view, shape)

    def _product(self, equation: Equation, operands: Sequence[View]) -> Made:
        (lhs_terms, rhs_terms), (lhs_batch, rhs_batch) = equation.params["dimension_numbers"]
        lhs, rhs = operands
        lhs_free = [k for k in range(len(lhs.shape)) if k not in (*lhs_terms, *lhs_batch)]
        rhs_free = [k for k in range(len(rhs.shape)) if k not in (*rhs_terms, *rhs_batch)]

        def size(view: View, axes: Sequence[int]) -> int:
            return math.prod([view.shape[k] for k in axes])

        b, m, n = size(lhs, lhs_batch), size(lhs, lhs_free), size(rhs, rhs_free)
        k = size(lhs, lhs_terms)
        rows = self._shaped(lhs.transposed((*lhs_batch, *lhs_free, *lhs_terms)), (b, m, k))
        weights = self._shaped(rhs.transposed((*rhs_batch, *rhs_terms, *rhs_free)), (b, k, n))
        out = equation.outputs[0].aval
        dtype = NAMES[out.dtype]
        sums = "i32" if dtype == "i32" else "f32"
        kernel = Kernel(out.shape, Product(rows, weights, sums))
        self._order.append(kernel)
        made = Made(kernel, 0, out.shape, sums)
        return made if sums == dtype else kernel.add(Step("convert", (made,), dtype))

    def _elements(self, equation: Equation, operands: list[Operand]) -> Operand:
        out = equation.outputs[0].aval
        shape, dtype = out.shape, NAMES[out.dtype]
        if all([isinstance(x, Constant) for x in operands]):
            operands[0] = self._in_dram(operands[0])
        kernel = self._kernel_for(shape, operands)
        values = [self._joined(kernel, x, shape) for x in operands]
        name = claims.VECTOR.get(equation.primitive.name)
        if name is not None:
            return kernel.add(Step(name, tuple(values), dtype))
        return claims.EXPANDED[equation.primitive.name](kernel, values, dtype, equation.params)

    def _kernel_for(self, shape: tuple[int, ...], operands: Sequence[Operand]) -> Kernel:
        """The last kernel that makes an operand, if elements of the result can be made there."""
        makers = [x.kernel for x in operands if isinstance(x, Made)]
        last = self._order[-1] if self._order else None
        # Another kernel or move may have begun since, which may read what this one stores.
        if isinstance(last, Kernel) and last in makers and last.takes(shape, self._machine):
            read = {x.tensor for x in operands if isinstance(x, View)}
            if not read & set(last.stored.values()):
                return last
        kernel = Kernel(shape, None)
        self._order.append(kernel)
        return kernel

    def _joined(self, kernel: Kernel, operand: Operand, shape: tuple[int, ...]) -> Any:
        """An operand of a step: of the same kernel, a constant, or something to load."""
        if isinstance(operand, Constant):
            return operand.value
        if isinstance(operand, Made) and operand.kernel is kernel:
            return operand
        view = self._in_dram(operand)
        if view.shape != shape:
            view = view.broadcast(shape, ())
        if view.merged(kernel.sizes) is None:
            view = self._moved(view, kernel)
        return kernel.load(view)

    # --- the end ---

    def finished(self) -> Code:
        """The code, with results in tensors of their own."""
        inputs = len(self._program.inputs)
        for atom in self._program.outputs:
            view = self._in_dram(self._operand(atom))
            taken = view.tensor < inputs or view.tensor in self._code.constants
            whole = view.offset == 0 and view.is_packed and view.strides == packed(view.shape)
            size = self._code.tensors[view.tensor][1]
            if taken or not whole or size != math.prod(view.shape):
                view = self._moved(view)
            self._code.results.append(view.tensor)
        for each in self._order:
            if isinstance(each, Kernel):
                self._code.instructions += emit(each, self._machine)
            else:
                self._code.instructions.append(each)
        return self._code
