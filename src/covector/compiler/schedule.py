"""Scheduling: from a program to one loop IR function.

Equations are lowered in order. A primitive's `lower` rule mostly returns a lazy tensor, and the
schedule decides what becomes of it: it stays lazy, and fuses into whatever reads it; its elements
are computed at once into SSA values (small arrays inside loops); or it is stored in a buffer by a
loop nest. Tensors of one shape that are stored one after the other share a loop nest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.compiler import parallel
from covector.compiler.strides import has_simd_loop, reads_contiguously
from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.errors import CompilationError
from covector.core.program import Atom, Equation, Literal, Program, Variable
from covector.loopir.builder import Builder
from covector.loopir.ir import PARALLEL, SERIAL, SIMD, For
from covector.loopir.tensor import Index, Lazy, Registers, Scalar, Stored, Tensor
from covector.ops.nested import count_uses
from covector.ops.windows import static_size

CHEAP = 3.0
"""Operations worth repeating at every use instead of storing their result."""
DEEP = 400.0
"""Operations in one fused expression beyond which its result is stored."""
SMALL_IN_LOOP = 32
"""Elements up to which an array inside a loop lives in registers."""
UNROLLED_REDUCTION = 16
"""Steps up to which a reduction is unrolled; inside register arrays `SMALL_IN_LOOP` applies."""

REDUCTION_BLOCK = 4096
"""Elements that a long reduction combines before it adds to its total."""

WORDS = np.dtype(np.uint32)


class Schedule:
    """Lowers programs into a builder; the `b` that `lower` rules receive.

    Attributes:
        builder: where the loop IR goes.
        sites: what each site of a run-time check means: (message, equation).
        callbacks: Python functions the compiled program calls.
        constants: arrays the compiled program reads, by the order of its constant buffers.
    """

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.sites: list[tuple[str, Equation | None]] = []
        self.callbacks: list[Any] = []
        self.constants: list[Any] = []
        self._literals: dict[int, Tensor] = {}
        self._pending: list[Pending] = []
        self._target: Stored | None = None
        self._equation: Equation | None = None

    # --- whole programs -----------------------------------------------------------------------

    def inline(self, program: Program, operands: Sequence[Tensor]) -> list[Tensor]:
        """Lowers a nested program's equations in place.

        Args:
            program: its inputs correspond to the operands.
            operands: tensors of the shapes and dtypes of the inputs.

        Returns:
            A tensor for each output.
        """
        return self.lower_program(program, operands, {})

    def lower_program(
        self, program: Program, operands: Sequence[Tensor], targets: dict[Variable, Stored]
    ) -> list[Tensor]:
        """`inline`, with buffers in which some variables should end up."""
        env: dict[Variable, Tensor] = dict(zip(program.inputs, operands, strict=True))
        uses = count_uses(program)
        outer = self._equation
        for equation in program.equations:
            self._equation = self.builder.origin = equation
            tensors = [self._tensor(a, env) for a in equation.inputs]
            self._lower_equation(equation, tensors, env, uses, targets)
        self.flush()
        self._equation = self.builder.origin = outer
        return [self._tensor(a, env) for a in program.outputs]

    def _tensor(self, atom: Atom, env: dict[Variable, Tensor]) -> Tensor:
        if type(atom) is Variable:
            return env[atom]
        assert isinstance(atom, Literal)
        known = self._literals.get(id(atom))
        if known is None:
            known = self._literals[id(atom)] = self._literal(atom)
        return known

    def _literal(self, literal: Literal) -> Tensor:
        data, dtype = literal.value._value, self.element_dtype(literal.aval)
        if data.ndim == 0:
            value = self.builder.const(data[()], dtype)
            return Lazy(self.builder, (), dtype, lambda index: value, 0.0, moves=True)
        data = np.ascontiguousarray(data)
        indices = data if dtypes.is_integer(dtype) else None
        buffer = self.builder.constant(dtype, data.shape, data=indices)
        self.constants.append(data)
        return Stored(self.builder, buffer, data.shape)

    def _lower_equation(
        self,
        equation: Equation,
        tensors: list[Tensor],
        env: dict[Variable, Tensor],
        uses: dict[Variable, int],
        targets: dict[Variable, Stored],
    ) -> None:
        primitive = equation.primitive
        elementwise = "elementwise" in primitive.tags
        if not elementwise:
            # It may read neighbours, or begin a loop: what waits must be in memory by then.
            self.flush()
            tensors = self._prepared(equation, tensors)
        first = equation.outputs[0] if equation.outputs else None
        target = self._target = None if elementwise or first is None else targets.get(first)
        results = primitive.lower(self, *tensors, **equation.params)
        taken, self._target = self._target is not target, None
        if not primitive.multiple_results:
            results = [results]
        if taken and target is not None:
            results = self._apart(results, target)
        for variable, result in zip(equation.outputs, results, strict=True):
            env[variable] = self._settle(result, uses.get(variable, 0), targets.get(variable))

    def _apart(self, results: Sequence[Tensor], target: Stored) -> list[Tensor]:
        """Results that can be written to a target which the lowering has used for something else.

        One that is not stored may read that buffer, in another order than it is written in.
        """
        if type(results[0]) is Stored and results[0].buffer is target.buffer:
            return list(results)
        apart: list[Tensor] = []
        for tensor in results:
            if type(tensor) is Lazy:
                buffer = self.builder.buffer(tensor.dtype, tensor.shape)
                place = Stored(self.builder, buffer, tensor.shape)
                self.flush()
                self.fill(place, tensor)
                tensor = place
            apart.append(tensor)
        return apart

    def _prepared(self, equation: Equation, tensors: list[Tensor]) -> list[Tensor]:
        """Operands, the costly ones computed first where each element is read more than once."""
        if equation.primitive.tags & {"reduction", "control"} or not equation.outputs:
            return tensors
        out = _elements(equation.outputs[0].aval)
        prepared: list[Tensor] = []
        for tensor in tensors:
            if type(tensor) is Lazy and tensor.cost > CHEAP:
                size = _size(tensor)
                repeats = "contraction" in equation.primitive.tags or (
                    out is None or size is None or out > size
                )
                if repeats:
                    tensor = self.hoist(tensor)
            prepared.append(tensor)
        return prepared

    def _settle(self, tensor: Tensor, uses: int, target: Stored | None) -> Tensor:
        """Decides what becomes of an equation's result."""
        if type(tensor) is not Lazy or tensor.moves or uses == 0:
            return tensor
        size = _size(tensor)
        limit = SMALL_IN_LOOP if self.builder.depth else 1
        if size is not None and size <= limit:
            return self._in_registers(tensor) if tensor.cost > 0 else tensor
        if tensor.cost > DEEP or (uses > 1 and tensor.cost > CHEAP):
            return self._store_later(tensor, target)
        return tensor

    # --- what becomes of tensors ----------------------------------------------------------------

    def lazy(
        self,
        shape: Sequence[Any],
        dtype: np.dtype[Any],
        fn: Callable[[Index], Scalar],
        cost: float = 1.0,
        moves: bool = False,
    ) -> Lazy:
        """A tensor computed on demand.

        Args:
            shape: extents.
            dtype: element type.
            fn: gives the element at an index.
            cost: operations for one element, the operands' included.
            moves: whether it only re-indexes an operand.

        Returns:
            The tensor.
        """
        return Lazy(self.builder, shape, dtype, fn, cost, moves)

    def extents(self, aval: Aval) -> tuple[Any, ...]:
        """The extents of an aval's data.

        Args:
            aval: of an array; PRNG keys have their words along a trailing axis.

        Returns:
            Ints.

        Raises:
            CompilationError: for symbolic sizes.
        """
        for extent in aval.shape:
            if not isinstance(extent, int):
                raise CompilationError(
                    f"{aval} has a symbolic size: trace again with concrete shapes to compile"
                )
        if type(aval.dtype) is dtypes.KeyDType:
            return (*aval.shape, aval.dtype.words)
        return aval.shape

    def element_dtype(self, aval: Aval) -> np.dtype[Any]:
        """The dtype of an aval's data: that of the words for PRNG keys."""
        return WORDS if type(aval.dtype) is dtypes.KeyDType else aval.dtype

    def new(self, shape: Sequence[Any], dtype: np.dtype[Any]) -> Stored:
        """A new uninitialised buffer.

        Args:
            shape: extents.
            dtype: element type.

        Returns:
            The tensor stored in it; where the caller needs it to be, if that place is free.
        """
        self.flush()
        target = self._target
        if target is not None and target.shape == tuple(shape) and target.dtype == dtype:
            self._target = None
            return target
        return Stored(self.builder, self.builder.buffer(dtype, shape), shape)

    def registers(self, values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> Registers:
        """A tensor of SSA values.

        Args:
            values: an object array of them.
            dtype: their type.

        Returns:
            The tensor.
        """
        return Registers(values, dtype, self.stored)

    def stored(self, tensor: Tensor) -> Stored:
        """The tensor in a row-major buffer.

        Args:
            tensor: any.

        Returns:
            Itself where it is stored, else a buffer it was computed into.
        """
        if type(tensor) is Stored:
            return tensor
        if type(tensor) is Pending:
            self.flush()
            return tensor.target
        known = self.builder.recall(("stored", tensor))
        if known is None:
            known = self.new(tensor.shape, tensor.dtype)
            self.fill(known, tensor)
            self.builder.remember(("stored", tensor), known)
        return known

    def hoist(self, tensor: Tensor) -> Tensor:
        """The tensor computed here, once: in registers if it is small, else in a buffer.

        Args:
            tensor: any; cheap lazy ones stay as they are.

        Returns:
            A tensor of the same elements.
        """
        if type(tensor) is not Lazy or tensor.cost <= CHEAP:
            return tensor
        size = _size(tensor)
        if size is not None and size <= SMALL_IN_LOOP:
            return self._in_registers(tensor)
        return self.stored(tensor)

    def update_in_place(self, tensor: Tensor) -> Stored:
        """A copy of the tensor in a buffer that the caller may write to.

        Args:
            tensor: any.

        Returns:
            The private copy.
        """
        copy = self.new(tensor.shape, tensor.dtype)
        self.fill(copy, tensor)
        return copy

    def _in_registers(self, tensor: Tensor) -> Registers:
        values = np.empty(tensor.shape, object)
        if not tensor.shape:
            values[()] = tensor.at(())
            return self.registers(values, tensor.dtype)
        for index in np.ndindex(*tensor.shape):
            values[index] = tensor.at(index)
        return self.registers(values, tensor.dtype)

    def _store_later(self, tensor: Lazy, target: Stored | None) -> Tensor:
        if self._pending and self._pending[0].shape != tensor.shape:
            self.flush()
        if target is None:
            buffer = self.builder.buffer(tensor.dtype, tensor.shape)
            target = Stored(self.builder, buffer, tensor.shape)
        pending = Pending(target, tensor)
        self._pending.append(pending)
        return pending

    def flush(self) -> None:
        """Emits the loop nest of the tensors waiting to be stored."""
        if not self._pending:
            return
        group = list(self._pending)
        self._pending.clear()
        self.fill_together(group[0].shape, [(w.target, w.source) for w in group])
        for waiting in group:
            waiting.done = True

    def fill_together(self, shape: Sequence[Any], members: Sequence[tuple[Stored, Tensor]]) -> None:
        """Stores tensors of one shape in one loop nest.

        Args:
            shape: of all of them.
            members: pairs of a buffer and the tensor to store there; no tensor reads any of the
                buffers at another index.
        """

        def store(index: Index) -> None:
            values = [source.at(index) for _, source in members]
            for (target, _), value in zip(members, values, strict=True):
                self.builder.store(target.buffer, index, value)

        if any([type(source) is Registers for _, source in members]):
            # Register arrays are small, and only indices known here reach their values.
            for index in np.ndindex(*shape):
                store(index)
        else:
            self.for_each(shape, store, independent=True)

    def resolved(self, tensor: Tensor) -> Tensor:
        """Where a tensor that has been stored is; other tensors as they are."""
        return tensor.target if type(tensor) is Pending and tensor.done else tensor

    def fill(self, target: Stored, source: Tensor) -> None:
        """Stores every element of a tensor.

        Args:
            target: a buffer of the same shape that `source` does not read.
            source: any tensor.
        """
        self.fill_together(target.shape, [(target, source)])

    # --- loops ------------------------------------------------------------------------------------

    def for_each(
        self, shape: Sequence[Any], body: Callable[[Index], None], independent: bool = False
    ) -> None:
        """Runs `body` at each index.

        Args:
            shape: extents; few static ones are unrolled, others become a loop nest.
            body: given the index.
            independent: no two indices touch the same memory, so that they may run in any order.
        """
        self.flush()
        size = static_size(shape)
        if size is not None and size <= (SMALL_IN_LOOP if self.builder.depth else 1):
            for index in np.ndindex(*shape):
                body(index)
            return
        self._nest(tuple(shape), (), body, SIMD if independent else SERIAL)
        if independent:
            parallel.share(self.builder)

    def _nest(self, shape: Index, index: Index, body: Callable[[Index], None], kind: str) -> None:
        if not shape:
            body(index)
            return
        rest = shape[1:]

        def step(i: Any) -> None:
            self._nest(rest, (*index, i), body, kind)

        if shape[0] == 1:
            self._nest(rest, (*index, 0), body, kind)
        else:
            innermost = all([type(extent) is int and extent == 1 for extent in rest])
            self.builder.loop(0, shape[0], step, kind=kind if innermost else SERIAL)
            self._prefer_inner_lanes()

    def _prefer_inner_lanes(self) -> None:
        """A loop around one that runs in lanes runs one iteration after the other."""
        loop = self.builder.block.items[-1] if self.builder.block.items else None
        if isinstance(loop, For) and loop.kind == SIMD and has_simd_loop(loop.body):
            loop.kind = SERIAL

    def reduce(
        self,
        extents: Sequence[Any],
        element: Callable[[Index], Scalar],
        combine: Callable[[Scalar, Scalar], Scalar],
        init: Scalar,
    ) -> Scalar:
        """Combines the elements at every index.

        Args:
            extents: of the axes reduced.
            element: the element at an index.
            combine: of two elements; associative.
            init: the neutral element, to start from.

        Returns:
            The combination, made in any order.
        """
        size = static_size(extents)
        limit = SMALL_IN_LOOP if self.builder.depth else UNROLLED_REDUCTION
        if size is not None and size <= limit:
            total = init
            for index in np.ndindex(*extents):
                total = combine(total, element(index))
            return total
        if size is not None and size >= parallel.LONG_REDUCTION and not self.builder.shared:
            return self._reduce_shared(tuple(extents), (), element, combine, (init, init))
        return self._reduce_nest(tuple(extents), (), element, combine, (init, init))

    def _reduce_shared(
        self,
        extents: Index,
        index: Index,
        element: Callable[[Index], Scalar],
        combine: Callable[[Scalar, Scalar], Scalar],
        start: tuple[Scalar, Scalar],
    ) -> Scalar:
        """A reduction whose blocks threads may combine: first each block, then their results."""
        carry, neutral = start
        builder, rest = self.builder, extents[1:]
        if rest and extents[0] < parallel.MANY:

            def outer(i: Any, total: Scalar) -> list[Scalar]:
                along = (total, neutral)
                return [self._reduce_shared(rest, (*index, i), element, combine, along)]

            return builder.loop(0, extents[0], outer, [carry])[0]
        size = max(1, REDUCTION_BLOCK // (static_size(rest) or 1))
        count = -(-extents[0] // size)
        results = builder.buffer(neutral.dtype, (count,))

        def block(k: Any) -> None:
            low = builder.op("mul", k, builder.index(size))
            high = builder.op("add", low, builder.index(size))
            if extents[0] % size:
                high = builder.op("min", high, builder.index(extents[0]))

            def step(i: Any, total: Scalar) -> list[Scalar]:
                return [self._reduce_nest(rest, (*index, i), element, combine, (total, neutral))]

            builder.store(results, (k,), self._reduction_loop(low, high, step, neutral))

        builder.loop(0, count, block, kind=PARALLEL)

        def part(i: Index) -> Scalar:
            return builder.load(results, *i)

        return self._reduce_nest((count,), (), part, combine, (carry, neutral))

    def _reduce_nest(
        self,
        extents: Index,
        index: Index,
        element: Callable[[Index], Scalar],
        combine: Callable[[Scalar, Scalar], Scalar],
        start: tuple[Scalar, Scalar],
    ) -> Scalar:
        """One loop of a reduction; `start` is the total so far and the neutral element."""
        carry, neutral = start
        if not extents:
            return combine(carry, element(index))
        rest = extents[1:]
        if not rest and type(extents[0]) is int and extents[0] >= 2 * REDUCTION_BLOCK:
            return self._reduce_blocks(extents[0], index, element, combine, start)

        def step(i: Any, total: Scalar) -> list[Scalar]:
            return [self._reduce_nest(rest, (*index, i), element, combine, (total, neutral))]

        return self._reduction_loop(0, extents[0], step, carry)

    def _reduce_blocks(
        self,
        extent: int,
        index: Index,
        element: Callable[[Index], Scalar],
        combine: Callable[[Scalar, Scalar], Scalar],
        start: tuple[Scalar, Scalar],
    ) -> Scalar:
        """A long reduction as one of blocks, so that rounding errors do not grow with length."""
        carry, neutral = start
        op, index_of = self.builder.op, self.builder.index
        blocks = -(-extent // REDUCTION_BLOCK)

        def block(k: Any, total: Scalar) -> list[Scalar]:
            low = op("mul", k, index_of(REDUCTION_BLOCK))
            high = op("min", op("add", low, index_of(REDUCTION_BLOCK)), index_of(extent))

            def step(i: Any, partial: Scalar) -> list[Scalar]:
                return [combine(partial, element((*index, i)))]

            return [combine(total, self._reduction_loop(low, high, step, neutral))]

        return self.builder.loop(0, blocks, block, [carry])[0]

    def _reduction_loop(
        self, low: Any, high: Any, step: Callable[..., list[Scalar]], carry: Scalar
    ) -> Scalar:
        """A loop that combines in any order, in lanes where it reads neighbours."""
        total = self.builder.loop(low, high, step, [carry])[0]
        loop = self.builder.block.items[-1] if self.builder.block.items else None
        if isinstance(loop, For) and reads_contiguously(loop) and not has_simd_loop(loop.body):
            loop.kind = SIMD
        return total

    # --- what can go wrong at run time ------------------------------------------------------------

    def site(self, message: str) -> int:
        """A number for a check that the generated code makes.

        Args:
            message: what to tell the user if it fails.

        Returns:
            The site, for `builder.check` and `builder.call`.
        """
        self.sites.append((message, self._equation))
        return len(self.sites) - 1

    def callback(self, function: Any) -> int:
        """The number by which generated code calls a Python function."""
        self.callbacks.append(function)
        return len(self.callbacks) - 1


class Pending(Tensor):
    """A tensor that is about to be stored: computed on demand until it is."""

    __slots__ = ("done", "source", "target")

    def __init__(self, target: Stored, source: Lazy) -> None:
        self.target = target
        self.source = source
        self.shape = source.shape
        self.dtype = source.dtype
        self.cost = 0.0
        self.done = False

    def at(self, index: Index) -> Scalar:
        return self.target.at(index) if self.done else self.source.at(index)


def _elements(aval: Aval) -> int | None:
    return static_size(aval.shape)


def _size(tensor: Tensor) -> int | None:
    return static_size(tensor.shape)
