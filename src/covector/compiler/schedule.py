"""Scheduling: from a program to one loop IR function.

Equations are lowered in order. A primitive's `lower` rule mostly returns a lazy tensor, and the
schedule decides what becomes of it: it stays lazy, and fuses into whatever reads it; its elements
are computed at once into SSA values (small arrays inside loops); or it is stored in a buffer by a
loop nest. Tensors of one shape that are stored one after the other share a loop nest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from covector.compiler.nests import SMALL_IN_LOOP, Nests
from covector.compiler.sizes.extents import Extents
from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.config import config
from covector.core.program import Atom, Equation, Literal, Program, Variable
from covector.loopir.builder import Builder
from covector.loopir.ir import Buffer, CallInLanes
from covector.loopir.tensor import (
    NOTHING,
    Index,
    InPlace,
    Lazy,
    Pending,
    Registers,
    Scalar,
    Stored,
    Tensor,
)
from covector.ops.nested import count_uses
from covector.ops.overwriting import Overwrite, dying, is_wide, through
from covector.ops.windows import static_size

CHEAP = 3.0
"""Operations worth repeating at every use instead of storing their result."""
OFTEN = 8
"""How many times as many elements a result has as an operand of which any operation is repeated
too often."""
LARGE = 1 << 18
"""Bytes from which on an array that is stored leaves the nearer caches before it is read."""
WORTH_A_PASS = 12.0
"""Operations for an element that cost less than writing and reading a large array."""
DEEP = 400.0
"""Operations in one fused expression beyond which its result is stored."""
LONG_NEST = 1500.0
"""Operations for an element that one loop nest may have: LLVM takes more than linear time for more,
and values go through memory then in any case."""

WORDS = np.dtype(np.uint32)


class Schedule(Nests):
    """Lowers programs into a builder; the `b` that `lower` rules receive.

    Attributes:
        builder: where the loop IR goes.
        sites: what each site of a run-time check means: (message, equation).
        callbacks: Python functions the compiled program calls.
        constants: arrays the compiled program reads, by the order of its constant buffers.
        scalars: which constants each parameter is.
        sizes: symbolic sizes as values.

    Args:
        builder: of the function.
        symbols: of sizes that are known at run time only, in the order of the function's.
        parameters: identities of the values of literals that are read at run time, with the
            parameters' numbers.
    """

    def __init__(
        self,
        builder: Builder,
        symbols: Sequence[str] = (),
        parameters: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__(builder)
        self.sizes = Extents(builder, symbols)
        self._parameters = parameters or {}
        self.scalars: dict[int, list[int]] = {}
        self.sites: list[tuple[str, Equation | None]] = []
        self.callbacks: list[Any] = []
        self.constants: list[Any] = []
        self._literals: dict[int, Tensor] = {}
        self._pending: list[Pending] = []
        self._pending_cost = 0.0
        self._new: set[Buffer] = set()
        self._targets: dict[int, Stored] = {}
        self._taken: dict[int, Stored] = {}
        self.equation: Any = None

    # --- whole programs -----------------------------------------------------------------------

    def inline(
        self,
        program: Program,
        operands: Sequence[Tensor],
        in_place: Mapping[int, Sequence[tuple[Overwrite, Stored]]] = NOTHING,
        targets: Mapping[Variable, Stored] = NOTHING,
    ) -> list[Tensor]:
        """Lowers a nested program's equations in place.

        Args:
            program: its inputs correspond to the operands.
            operands: tensors of the shapes and dtypes of the inputs.
            in_place: by identity of an equation, what it overwrites and the tensors that are there.
            targets: buffers in which some variables should end up.

        Returns:
            A tensor for each output.
        """
        return self.lower_program(program, operands, targets, in_place)

    def lower_program(
        self,
        program: Program,
        operands: Sequence[Tensor],
        targets: Mapping[Variable, Stored],
        in_place: Mapping[int, Sequence[tuple[Overwrite, Stored]]] = NOTHING,
    ) -> list[Tensor]:
        """`inline`, with buffers in which some variables should end up."""
        env: dict[Variable, Tensor] = dict(zip(program.inputs, operands, strict=True))
        uses = count_uses(program)
        own = {} if "in_place" in config.disable else {id(o.equation): o for o in dying(program)}
        targets = through(targets, own.values())
        outer, depth = self.equation, self.body_depth
        self.body_depth = self.builder.depth
        for equation in program.equations:
            self.equation = self.builder.origin = equation
            buffers = len(self.builder.function.buffers)
            given = in_place.get(id(equation), ())
            if not given and id(equation) in own:
                given = self._made_here(own[id(equation)], env)
            if given:
                self._overwrite(equation, given, env, uses)
            else:
                tensors = [self._tensor(a, env) for a in equation.inputs]
                self._lower_equation(equation, tensors, env, uses, targets)
            if own:
                self._note_new(equation, env, buffers, targets)
        self.flush()
        self.equation = self.builder.origin = outer
        self.body_depth = depth
        return [self._tensor(a, env) for a in program.outputs]

    def _note_new(
        self,
        equation: Equation,
        env: dict[Variable, Tensor],
        buffers: int,
        targets: Mapping[Variable, Stored],
    ) -> None:
        """Notes which results of an equation are in buffers that were made, or kept, for it."""
        made = self.builder.function.buffers[buffers:]
        for variable in equation.outputs:
            tensor, target = env[variable], targets.get(variable)
            if type(tensor) is Stored and (
                tensor.buffer in made or (target is not None and tensor.buffer is target.buffer)
            ):
                self._new.add(tensor.buffer)

    def _made_here(
        self, overwrite: Overwrite, env: dict[Variable, Tensor]
    ) -> Sequence[tuple[Overwrite, Stored]]:
        """An overwrite and the tensor, if that is in a buffer which an equation was given."""
        atom = overwrite.equation.inputs[overwrite.operand]
        tensor = env[atom]  # pyright: ignore[reportArgumentType]
        if type(tensor) is Stored and tensor.buffer in self._new:
            return [(overwrite, tensor)]
        return ()

    def _overwrite(
        self,
        equation: Equation,
        overwrites: Sequence[tuple[Overwrite, Stored]],
        env: dict[Variable, Tensor],
        uses: dict[Variable, int],
    ) -> None:
        """Lowers an equation whose results take the places of operands."""
        for overwrite, own in overwrites:
            for variable in overwrite.before:
                env[variable] = self._settled(env[variable], own)
        self.flush()
        tensors = [self._tensor(a, env) for a in equation.inputs]
        tensors = self._prepared(equation, tensors)
        for overwrite, own in overwrites:
            tensors[overwrite.operand] = own
        b: Any = InPlace(self, *[own for _, own in overwrites])
        results = equation.primitive.lower(b, *tensors, **equation.params)
        if not equation.primitive.multiple_results:
            results = [results]
        elsewhere = [
            (own, self.update_in_place(results[overwrite.output]))
            for overwrite, own in overwrites
            if results[overwrite.output] is not own
        ]
        for own, copy in elsewhere:
            self.fill(own, copy)
        places: dict[int, Tensor] = {overwrite.output: own for overwrite, own in overwrites}
        for k, (variable, result) in enumerate(zip(equation.outputs, results, strict=True)):
            tensor: Any = places.get(k, result)
            env[variable] = self._settle(tensor, uses.get(variable, 0), None)

    def _settled(self, tensor: Tensor, changing: Stored) -> Tensor:
        """A tensor of the same elements that does not read a buffer which is about to change."""
        if type(tensor) is Registers:
            return tensor
        if type(tensor) is Pending:
            self.flush()
            return tensor.target
        if type(tensor) is Stored and tensor.buffer is not changing.buffer:
            return tensor
        size = _size(tensor)
        if size is not None and size <= SMALL_IN_LOOP:
            return self._in_registers(tensor)
        return self.update_in_place(tensor)

    def owns(self, tensor: Tensor) -> bool:
        """Whether a tensor's buffer may be overwritten; only `InPlace` lowerings know of such."""
        return False

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
        number = self._parameters.get(id(literal.value))
        if data.ndim == 0 and number is None:
            value = self.builder.const(data[()], dtype)
            return Lazy(self.builder, (), dtype, lambda index: value, 0.0, moves=True)
        data = np.asarray(data, order="C")
        if number is not None:
            self.scalars.setdefault(number, []).append(len(self.constants))
        indices = data if number is None and dtypes.is_integer(dtype) else None
        buffer = self.builder.constant(dtype, data.shape, data=indices)
        self.constants.append(data)
        return Stored(self.builder, buffer, data.shape)

    def _lower_equation(
        self,
        equation: Equation,
        tensors: list[Tensor],
        env: dict[Variable, Tensor],
        uses: dict[Variable, int],
        targets: Mapping[Variable, Stored],
    ) -> None:
        primitive = equation.primitive
        elementwise = "elementwise" in primitive.tags
        if not elementwise:
            # It may read neighbours, or begin a loop: what waits must be in memory by then.
            self.flush()
            tensors = self._prepared(equation, tensors)
        outer = self._taken
        self._taken = {}
        self._targets = (
            {}
            if elementwise
            else {k: targets[v] for k, v in enumerate(equation.outputs) if v in targets}
        )
        try:
            results = primitive.lower(self, *tensors, **equation.params)
        except CallInLanes as call:
            if call.equation is None:
                call.equation = equation
            raise
        taken, self._taken = self._taken, outer
        self._targets = {}
        if not primitive.multiple_results:
            results = [results]
        if taken:
            results = self._apart(results, taken)
        for variable, result in zip(equation.outputs, results, strict=True):
            env[variable] = self._settle(result, uses.get(variable, 0), targets.get(variable))

    def _apart(self, results: Sequence[Tensor], taken: Mapping[int, Stored]) -> list[Tensor]:
        """Results that can be written to targets which the lowering has used for something else.

        One that is not stored may read such a buffer, in another order than it is written in.
        """
        places = {k: r.buffer for k, r in enumerate(results) if type(r) is Stored}
        if all([places.get(k) is target.buffer for k, target in taken.items()]):
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
            if type(tensor) is Lazy and tensor.cost >= 1.0:
                size = _size(tensor)
                often = out is not None and size is not None and out >= OFTEN * size
                if often or (tensor.cost > CHEAP and _repeats(equation, size, out)):
                    tensor = self._computed(tensor)
            prepared.append(tensor)
        return prepared

    def _settle(self, tensor: Tensor, uses: int, target: Stored | None) -> Tensor:
        """Decides what becomes of an equation's result."""
        if type(tensor) is not Lazy or uses == 0:
            return tensor
        if tensor.moves and (uses == 1 or tensor.cost <= CHEAP):
            return tensor
        size = _size(tensor)
        if self.is_unrolled(size, tensor.cost):
            return self._in_registers(tensor) if tensor.cost > 0 else tensor
        large = target is None and size is not None and size * tensor.dtype.itemsize >= LARGE
        affordable = WORTH_A_PASS if large else 0.0
        again = uses > 1 and tensor.cost > CHEAP and (uses - 1) * tensor.cost > affordable
        if tensor.cost > DEEP or again:
            return self._store_later(tensor, target, uses)
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
            Ints, and values where sizes are symbolic.
        """
        shape = tuple([self.sizes.of(n) for n in aval.shape])
        if type(aval.dtype) is dtypes.KeyDType:
            return (*shape, aval.dtype.words)
        return shape

    def element_dtype(self, aval: Aval) -> np.dtype[Any]:
        """The dtype of an aval's data: that of the words for PRNG keys."""
        return WORDS if type(aval.dtype) is dtypes.KeyDType else aval.dtype

    def new(self, shape: Sequence[Any], dtype: np.dtype[Any], output: int = 0) -> Stored:
        """A new uninitialised buffer.

        Args:
            shape: extents.
            dtype: element type.
            output: number of the equation's result that will be there.

        Returns:
            The tensor stored in it; where the caller needs it to be, if that place is free.
        """
        self.flush()
        target = self._targets.get(output)
        if target is not None and target.shape == tuple(shape) and target.dtype == dtype:
            self._taken[output] = self._targets.pop(output)
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
        return Registers(values, dtype, self._spilled, self.builder.depth)

    def _spilled(self, registers: Registers) -> tuple[Stored, bool]:
        """The copy, and whether it can be used from now on."""
        if self.builder.lane is None:
            return self._spill(registers), True
        return self.stored(registers), False

    def _spill(self, registers: Registers) -> Stored:
        """A copy of SSA values in memory, stored where they were made.

        In lanes it is stored here: only here is known where a lane's memory is.
        """
        self.flush()
        builder = self.builder
        depth = registers.depth if builder.lane is None else None
        copy = Stored(builder, builder.buffer(registers.dtype, registers.shape), registers.shape)
        for index, value in np.ndenumerate(registers.values):
            builder.store(copy.buffer, index, value, depth)
        return copy

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
        if type(tensor) is Registers and self.builder.lane is None:
            spilled = tensor.spilled()
            assert type(spilled) is Stored
            return spilled
        known = self.builder.recall(("stored", tensor))
        if known is None:
            if type(tensor) is Registers:
                known = self._spill(tensor)
            else:
                known = self.new(tensor.shape, tensor.dtype)
                known.buffer.reason = known.buffer.reason or "what uses it reads it from memory"
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
        return self._computed(tensor)

    def _computed(self, tensor: Tensor) -> Tensor:
        size = _size(tensor)
        if size is not None and size <= (self.small if self.builder.depth else SMALL_IN_LOOP):
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

    def _store_later(self, tensor: Lazy, target: Stored | None, uses: int) -> Tensor:
        apart = self._pending_cost + tensor.cost > LONG_NEST
        if self._pending and (apart or self._pending[0].shape != tensor.shape):
            self.flush()
        self._pending_cost += tensor.cost
        if target is None:
            buffer = self.builder.buffer(tensor.dtype, tensor.shape)
            long = f"an element takes more than {DEEP:.0f} operations"
            buffer.reason = f"it is read {uses} times" if tensor.cost <= DEEP else long
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
        self._pending_cost = 0.0
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

        outer, self.builder.origin = self.builder.origin, None  # loops belong to what is stored

        def store(index: Index) -> None:
            values = [source.at(index) for _, source in members]
            for (target, _), value in zip(members, values, strict=True):
                self.builder.store(target.buffer, index, value)

        if any([type(source) is Registers for _, source in members]):
            # Register arrays are small, and only indices known here reach their values.
            for index in np.ndindex(*shape):
                store(index)
        else:
            cost = sum([source.cost for _, source in members])
            self.for_each(shape, store, independent=True, cost=cost)
        self.builder.origin = outer

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

    # --- what can go wrong at run time ------------------------------------------------------------

    def site(self, message: str) -> int:
        """A number for a check that the generated code makes.

        Args:
            message: what to tell the user if it fails.

        Returns:
            The site, for `builder.check` and `builder.call`.
        """
        self.sites.append((message, self.equation))
        return len(self.sites) - 1

    def callback(self, function: Any) -> int:
        """The number by which generated code calls a Python function."""
        self.callbacks.append(function)
        return len(self.callbacks) - 1


def _repeats(equation: Equation, size: int | None, out: int | None) -> bool:
    """Whether an equation reads elements of an operand of some size more than once."""
    if "contraction" in equation.primitive.tags or out is None or size is None:
        return True
    if equation.primitive.name == "pad" or is_wide(equation):
        # Without padding, most of a loop's iterations read each element once.
        return out > 2 * size or "ranges" in config.disable
    return out > size


def _elements(aval: Aval) -> int | None:
    return static_size(aval.shape)


def _size(tensor: Tensor) -> int | None:
    return static_size(tensor.shape)
