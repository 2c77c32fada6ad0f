"""Building loop IR: values are merged, folded and hoisted as they are made.

Pure operations are hash-consed: an equal operation that is visible gives the same value again. They
are placed in the outermost loop that has their operands, so loops contain what varies in them;
nothing is hoisted out of a branch.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from covector.loopir import folding
from covector.loopir.ir import (
    ARGUMENT,
    BOOL,
    CONSTANT,
    HEAP,
    INDEX,
    LOOP_KINDS,
    READ_ONLY,
    RESULT,
    SERIAL,
    WORKSPACE,
    Allocate,
    Block,
    Buffer,
    Call,
    CallArgument,
    Callback,
    Check,
    ComplexValue,
    DType,
    Extent,
    For,
    Function,
    If,
    LoopIRError,
    Pointer,
    Poll,
    Scalar,
    Store,
    Value,
    While,
    component,
)
from covector.loopir.scalars import (
    COMPLEX,
    F32,
    HALVES,
    RAW_ON_HALVES,
    TABLE,
    OpSpec,
    canonical,
    check_types,
)

MAX_HOISTED = 32
"""Loads moved out of loops into one block; more would not stay in registers anyway."""

Values = Sequence[Scalar]
_pack_double = struct.Struct("d").pack


class Builder:
    """Builds one function.

    Args:
        name: symbol of the function.

    Example:
        >>> import numpy as np
        >>> b = Builder("double")
        >>> x = b.argument(np.dtype("f4"), (8,))
        >>> y = b.result(np.dtype("f4"), (8,))
        >>> b.loop(0, 8, lambda i: b.store(y, (i,), b.op("mul", b.load(x, i), 2.0)))
        []
        >>> function = b.finish()
    """

    __slots__ = (
        "_blocks",
        "_bounds",
        "_consts",
        "_hoisted",
        "_memo",
        "_names",
        "_next",
        "_placement",
        "_scopes",
        "block",
        "depth",
        "function",
    )

    def __init__(self, name: str) -> None:
        self.function = Function(name)
        self.block = self.function.body
        self.depth = 0
        self._blocks: list[Block] = [self.block]
        self._scopes: list[list[Any]] = [[]]
        self._memo: dict[Any, Any] = {}
        self._consts: dict[Any, Value] = {}
        self._bounds: dict[Value, tuple[int, int]] = {}
        self._names: dict[str, int] = {}
        self._hoisted: dict[Block, int] = {}
        # For each depth, where an operation goes whose deepest operand is there.
        self._placement = [0]
        self._next = 0

    # Constants and parameters

    def const(self, value: Any, dtype: DType) -> Any:
        """A constant.

        Args:
            value: a Python or NumPy number; wrapped or rounded to the dtype.
            dtype: element type; complex gives a `ComplexValue`.

        Returns:
            The value, the same for equal bits.
        """
        parts = COMPLEX.get(dtype)
        if parts is not None:
            number = complex(value)
            return ComplexValue(
                self.const(number.real, parts), self.const(number.imag, parts), dtype
            )
        return self._const(canonical(value, dtype), dtype)

    def _const(self, number: Any, dtype: DType) -> Value:
        key = (_pack_double(number) if type(number) is float else number, dtype)
        found = self._consts.get(key)
        if found is None:
            found = self._consts[key] = Value("const", (), number, dtype, self._number(), 0)
        return found

    def index(self, number: int) -> Value:
        """An index constant.

        Args:
            number: a Python integer.

        Returns:
            The int64 constant.
        """
        key = (number, INDEX)
        found = self._consts.get(key)
        return self._const(int(number), INDEX) if found is None else found

    def dim(self, position: int) -> Value:
        """A size known at run time only.

        Args:
            position: which of the sizes the caller passes.

        Returns:
            An index value.
        """
        key = ("dim", position)
        found = self._memo.get(key)
        if found is None:
            found = Value("dim", (), position, INDEX, self._number(), 0)
            self._bounds[found] = (0, 2**48)
            self._blocks[0].items.append(found)
            self._remember_at(0, key, found)
            self.function.dims = max(self.function.dims, position + 1)
        return found

    def parameter(self, dtype: DType) -> Value:
        """A parameter of a scalar function.

        Args:
            dtype: element type, not complex.

        Returns:
            The value.
        """
        value = Value("parameter", (), len(self.function.params), dtype, self._number(), 0)
        self.function.params.append(value)
        return value

    def complex(self, re: Any, im: Any) -> ComplexValue:
        """A complex number from its parts.

        Args:
            re: real part, float32 or float64.
            im: imaginary part of the same type, or a Python number.

        Returns:
            The pair.
        """
        re, im = self._coerce((re, im))
        dtype = next((c for c, part in COMPLEX.items() if part is re.dtype), None)
        if dtype is None or im.dtype is not re.dtype:
            raise LoopIRError(f"no complex number has parts {re.dtype.name} and {im.dtype.name}")
        return ComplexValue(re, im, dtype)

    # Operations

    def op(self, name: str, *args: Any, attr: Any = None) -> Any:
        """Applies an operation of the table.

        Args:
            name: operation in `scalars.TABLE`.
            *args: values; Python numbers take the dtype of the other operands.
            attr: the target dtype of `convert` and `bitcast`; "contract" lets a product and a sum
                round once.

        Returns:
            The value, folded or shared where possible.

        Raises:
            LoopIRError: for an unknown operation or operands of wrong types.
        """
        key = (name, attr, args)
        found = self._memo.get(key)
        if found is not None:
            return found
        if len(args) == 2:  # the common case, without generality
            x, y = args
            if type(x) is Value and type(y) is Value and x.dtype is y.dtype:
                entry = folding.BINARY.get((name, y.dtype))
                if entry is not None:
                    result, commutative, only_constants = entry
                    if commutative and y.op != "const" and (x.op == "const" or x.id > y.id):
                        return self.op(name, y, x, attr=attr)
                    if only_constants and y.op != "const":
                        return self._place(key, name, args, attr, result)
                    return self._fold(key, TABLE[name], args, attr, result)
        return self._general_op(key, name, args, attr)

    def _general_op(self, key: Any, name: str, args: tuple[Any, ...], attr: Any) -> Any:
        spec = TABLE.get(name)
        dtype = getattr(args[-1], "dtype", None) if args else None
        if spec is None or dtype is None or dtype not in spec.results:
            return self._unusual_op(name, args, attr)
        for arg in args:
            if type(arg) is not Value:
                return self._unusual_op(name, args, attr)
        return self._fold(key, spec, args, attr, check_types(name, args, attr))

    def _fold(
        self, key: Any, spec: OpSpec, args: tuple[Value, ...], attr: Any, result: DType
    ) -> Value:
        value = folding.fold(self, spec, args, attr, result)
        if value is None:
            return self._place(key, spec.name, args, attr, result)
        self._memo[key] = value
        self._scopes[-1].append(key)
        return value

    def _place(
        self, key: Any, name: str, args: tuple[Value, ...], attr: Any, dtype: DType
    ) -> Value:
        depth = 0
        for arg in args:
            if arg.depth > depth:
                depth = arg.depth
        depth = self._placement[depth]
        number = self._next
        self._next = number + 1
        value = Value(name, args, attr, dtype, number, depth)
        self._blocks[depth].items.append(value)
        self._memo[key] = value
        self._scopes[depth].append(key)
        return value

    def _unusual_op(self, name: str, args: tuple[Any, ...], attr: Any) -> Any:
        """Operands that are Python numbers, complex or half-precision, and derived operations."""
        from covector.loopir import complexes, derived

        args = self._coerce(args, leading=1 if name == "select" else 0)
        dtype = args[-1].dtype
        if any(type(a) is ComplexValue for a in args) or attr in COMPLEX or dtype in COMPLEX:
            return complexes.apply(self, name, args, attr)
        if dtype in HALVES and name not in RAW_ON_HALVES and (name in TABLE or derived.has(name)):
            wide = [self.op("convert", a, attr=F32) if a.dtype is dtype else a for a in args]
            out = self.op(name, *wide, attr=attr)
            return self.op("convert", out, attr=dtype) if out.dtype is F32 else out
        expansion = derived.expansion(name, dtype)
        if expansion is not None:
            return expansion(self, *args)
        check_types(name, args, attr)
        return self.op(name, *args, attr=attr)

    def _coerce(self, args: tuple[Any, ...], leading: int = 0) -> tuple[Any, ...]:
        dtype = next((a.dtype for a in args[leading:] if hasattr(a, "depth")), None)
        if dtype is None:
            raise LoopIRError(f"one operand must be a value, all of {args!r} are numbers")
        return tuple(
            a if hasattr(a, "depth") else self.const(a, BOOL if k < leading else dtype)
            for k, a in enumerate(args)
        )

    def select(self, predicate: Any, a: Any, b: Any) -> Any:
        """`a` where the predicate holds, else `b`.

        Args:
            predicate: a bool value.
            a: a value, complex too.
            b: a value of the same dtype.

        Returns:
            The chosen value.
        """
        return self.op("select", predicate, a, b)

    def convert(self, value: Any, dtype: DType) -> Any:
        """A value converted to another dtype.

        Args:
            value: any value.
            dtype: target; floats saturate to integers, complex to real drops the imaginary part.

        Returns:
            The converted value.
        """
        return value if value.dtype is dtype else self.op("convert", value, attr=dtype)

    def bounds(self, value: Value) -> tuple[int, int]:
        """What is known of an index: the least and greatest number it can be.

        Args:
            value: an int64 value.

        Returns:
            Both ends, inclusive; those of int64 if nothing is known.
        """
        found = self._bounds.get(value)
        if found is None:
            found = self._bounds[value] = folding.bounds(self, value)
        return found

    # Memory

    def argument(self, dtype: DType, shape: Sequence[Extent], name: str | None = None) -> Buffer:
        """The next array argument of the function.

        Args:
            dtype: element type.
            shape: extents, ints or index values.
            name: for people.

        Returns:
            A read-only buffer.
        """
        return self._buffer(dtype, shape, ARGUMENT, name)

    def result(self, dtype: DType, shape: Sequence[Extent], name: str | None = None) -> Buffer:
        """The next array result of the function.

        Args:
            dtype: element type.
            shape: extents, ints or index values.
            name: for people.

        Returns:
            A buffer that the caller provides.
        """
        return self._buffer(dtype, shape, RESULT, name)

    def constant(self, dtype: DType, shape: Sequence[int], name: str | None = None) -> Buffer:
        """The next constant array that the executable owns.

        Args:
            dtype: element type.
            shape: extents.
            name: for people.

        Returns:
            A read-only buffer.
        """
        return self._buffer(dtype, shape, CONSTANT, name)

    def buffer(
        self, dtype: DType, shape: Sequence[Extent], name: str | None = None, site: int = 0
    ) -> Buffer:
        """A temporary array.

        Args:
            dtype: element type.
            shape: extents; run-time extents make it a heap buffer, allocated before all loops.
            name: for people.
            site: what to blame if there is no memory for a heap buffer.

        Returns:
            An uninitialised buffer.
        """
        static = all(isinstance(extent, int) for extent in shape)
        buffer = self._buffer(dtype, shape, WORKSPACE if static else HEAP, name)
        if not static:
            count = self.index(2 if buffer.element is not buffer.dtype else 1)
            for extent in buffer.shape:
                count = self.op("mul", count, self._as_index(extent))
            if count.depth:
                raise LoopIRError(f"the size of {buffer!r} depends on a loop or branch")
            self._blocks[0].items.append(Allocate(buffer, count, site))
        return buffer

    def _buffer(
        self, dtype: DType, shape: Sequence[Extent], space: str, name: str | None
    ) -> Buffer:
        buffers = self.function.buffers
        position = sum(1 for b in buffers if b.space == space)
        buffer = Buffer(
            self._unique(name or f"{space[0]}{position}"),
            dtype,
            [int(e) if not isinstance(e, Value) else e for e in shape],
            space,
            position,
            self._strides(shape),
        )
        buffers.append(buffer)
        return buffer

    def _unique(self, name: str) -> str:
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return name if count == 0 else self._unique(f"{name}_{count}")

    def _strides(self, shape: Sequence[Extent]) -> list[Extent]:
        strides: list[Extent] = []
        stride: Extent = 1
        for extent in reversed(shape):
            strides.append(stride)
            if isinstance(extent, int) and isinstance(stride, int):
                stride = stride * extent
            else:
                stride = self.op("mul", self._as_index(extent), self._as_index(stride))
        return strides[::-1]

    def _as_index(self, extent: Any) -> Value:
        return extent if type(extent) is Value else self.index(extent)

    def offset(self, buffer: Buffer, indices: Sequence[Any]) -> Value:
        """The linear offset of an element, in elements of the buffer's dtype.

        Args:
            buffer: any buffer.
            indices: an int or index value for each axis.

        Returns:
            An index value.

        Raises:
            LoopIRError: if the number of indices is not that of the axes.
        """
        strides = buffer.strides
        if len(indices) != len(strides):
            raise LoopIRError(f"{buffer!r} has {len(strides)} axes, indexed with {len(indices)}")
        fixed = 0
        total: Value | None = None
        op = self.op
        for i, stride in zip(indices, strides, strict=True):
            if type(i) is int and type(stride) is int:
                fixed += i * stride
                continue
            term = self._as_index(i)
            if stride != 1:
                term = op("mul", term, self._as_index(stride))
            total = term if total is None else op("add", total, term)
        if total is None:
            return self.index(fixed)
        return op("add", total, self.index(fixed)) if fixed else total

    def load(self, buffer: Buffer, *indices: Any) -> Any:
        """Reads an element.

        Args:
            buffer: any buffer.
            *indices: an int or index value for each axis.

        Returns:
            The value, complex for complex buffers.
        """
        return self.load_at(buffer, self.offset(buffer, indices))

    def load_at(self, buffer: Buffer, offset: Any) -> Any:
        """Reads an element at a linear offset.

        Args:
            buffer: any buffer.
            offset: in elements of the buffer's dtype.

        Returns:
            The value, complex for complex buffers.
        """
        offset = self._as_index(offset)
        if buffer.element is buffer.dtype:
            return self._load(buffer, offset)
        first = self.op("mul", offset, self.index(2))
        second = self.op("add", first, self.index(1))
        return ComplexValue(self._load(buffer, first), self._load(buffer, second), buffer.dtype)

    def _load(self, buffer: Buffer, offset: Value) -> Value:
        # What a block reads stays the same until a store; loops may store further down.
        fixed = buffer.space in READ_ONLY
        key = ("load", buffer, offset, None if fixed else (buffer.version, self.block))
        found = self._memo.get(key)
        if found is None:
            depth = self._load_depth(buffer, offset) if fixed else self.depth
            found = Value("load", (offset,), buffer, buffer.element, self._number(), depth)
            self._blocks[depth].items.append(found)
            self._remember_at(depth, key, found)
        return found

    def _load_depth(self, buffer: Buffer, offset: Value) -> int:
        """Where to load from a read-only buffer: outside loops if that is safe and worthwhile."""
        depth = self._placement[offset.depth]
        if depth == self.depth:
            return depth
        size = buffer.size
        low, high = self.bounds(offset)
        block = self._blocks[depth]
        if size is None or low < 0 or high >= size or self._hoisted.get(block, 0) >= MAX_HOISTED:
            return self.depth
        self._hoisted[block] = self._hoisted.get(block, 0) + 1
        return depth

    def store(self, buffer: Buffer, indices: Sequence[Any], value: Any) -> None:
        """Writes an element.

        Args:
            buffer: a buffer that is not read-only.
            indices: an int or index value for each axis.
            value: of the buffer's dtype.
        """
        self.store_at(buffer, self.offset(buffer, indices), value)

    def store_at(self, buffer: Buffer, offset: Any, value: Any) -> None:
        """Writes an element at a linear offset.

        Args:
            buffer: a buffer that is not read-only.
            offset: in elements of the buffer's dtype.
            value: of the buffer's dtype.

        Raises:
            LoopIRError: if the buffer is read-only or the dtype differs.
        """
        if value.dtype is not buffer.dtype:
            raise LoopIRError(f"store of {value.dtype.name} in {buffer!r}: {buffer.dtype.name}")
        if buffer.space in READ_ONLY:
            raise LoopIRError(f"store in the read-only {buffer!r}")
        offset = self._as_index(offset)
        if type(value) is Value:
            parts = [(offset, value)]
        else:
            first = self.op("mul", offset, self.index(2))
            parts = [(first, value.re), (self.op("add", first, self.index(1)), value.im)]
        self.touch(buffer)
        for place, part in parts:
            self.block.items.append(Store(buffer, place, part))
            key = ("load", buffer, place, (buffer.version, self.block))
            self._remember_at(self.depth, key, part)

    def touch(self, buffer: Buffer) -> None:
        """Forgets what is known of a buffer's contents, as a store or a call changes them.

        Args:
            buffer: the buffer.
        """
        buffer.version += 1

    # Control flow

    def loop(
        self,
        lower: Any,
        upper: Any,
        body: Callable[..., Values | None],
        init: Values = (),
        *,
        step: int = 1,
        kind: str = SERIAL,
        width: int = 0,
    ) -> list[Any]:
        """A counted loop.

        Args:
            lower: first index, an int or an index value.
            upper: bound, exclusive.
            body: `body(i, *carries)` gives the next carries, or `None` without any.
            init: the carries on entry, complex ones too.
            step: positive.
            kind: "serial", "simd" or "parallel", see `For`.
            width: iterations in one vector step of a simd loop; 0 leaves it to the target.

        Returns:
            The carries after the last iteration.

        Raises:
            LoopIRError: if the body's carries differ from `init` in number or dtype.
        """
        if kind not in LOOP_KINDS or step < 1:
            raise LoopIRError(f"no loop of kind {kind!r} and step {step}")
        lower, upper = self._as_index(lower), self._as_index(upper)
        if lower.op == "const" and upper.op == "const":
            if upper.attr <= lower.attr:
                return list(init)
            if upper.attr - lower.attr <= step:
                return _as_list(body(lower, *init), init)
        inits = _flatten(init)
        self._enter(Block(self.depth + 1))
        low, high = self.bounds(lower)[0], self.bounds(upper)[1] - 1
        index = self._inner("index", (low, high), INDEX)
        self._bounds[index] = (low, high)
        params = [self._inner("parameter", None, v.dtype) for v in inits]
        block = self.block
        loop = For(lower, upper, step, kind, width, index, inits, params, block)
        loop.yields = _flatten(_as_list(body(index, *_unflatten(params, init)), init))
        self._leave()
        return self._close(loop, init)

    def while_(
        self,
        condition: Callable[..., Value],
        body: Callable[..., Values | None],
        init: Values,
    ) -> list[Any]:
        """A loop that runs as long as a condition on its carries holds.

        Args:
            condition: `condition(*carries)` gives a bool value.
            body: `body(*carries)` gives the next carries.
            init: the carries on entry.

        Returns:
            The carries for which the condition failed.

        Raises:
            LoopIRError: if the body's carries differ from `init` in number or dtype.
        """
        inits = _flatten(init)
        self._enter(Block(self.depth + 1))
        params = [self._inner("parameter", None, v.dtype) for v in inits]
        carries = _unflatten(params, init)
        header = self.block
        predicate = condition(*carries)
        self._enter(Block(self.depth + 1))
        self._placement[-2] = self.depth  # the header is no place for what the body alone needs
        loop = While(inits, params, header, predicate, self.block)
        loop.yields = _flatten(_as_list(body(*carries), init))
        self._leave()
        self._leave()
        return self._close(loop, init)

    def if_(
        self,
        predicate: Value,
        then: Callable[[], Values | None],
        otherwise: Callable[[], Values | None],
    ) -> list[Any]:
        """A branch.

        Args:
            predicate: a bool value.
            then: gives the results where it holds; may store.
            otherwise: gives results of the same dtypes where it does not.

        Returns:
            The results of the side taken.

        Raises:
            LoopIRError: if the sides differ in number or dtypes of results.
        """
        if predicate.op == "const":
            return list((then if predicate.attr else otherwise)() or ())
        blocks: list[Block] = []
        sides: list[list[Any]] = []
        placement = self._placement
        for side in (then, otherwise):
            self._enter(Block(self.depth + 1))
            self._placement = [self.depth] * (self.depth + 1)
            blocks.append(self.block)
            sides.append(list(side() or ()))
            self._leave()
            self._placement = placement
        branch = If(predicate, blocks[0], blocks[1])
        branch.then_values = _flatten(sides[0])
        branch.else_values = _flatten(_as_list(sides[1], sides[0]))
        return self._close(branch, sides[0])

    def _close(self, statement: For | While | If, like: Values) -> list[Any]:
        dtypes = [v.dtype for v in _flatten(like)]
        values = [self._inner("result", None, dtype) for dtype in dtypes]
        statement.results = values
        self.block.items.append(statement)
        return _unflatten(values, like)

    def _enter(self, block: Block) -> None:
        self.depth += 1
        self.block = block
        self._blocks.append(block)
        self._scopes.append([])
        self._placement = [*self._placement, self.depth]

    def _leave(self) -> None:
        memo = self._memo
        for key in self._scopes.pop():
            memo.pop(key, None)
        self._blocks.pop()
        self._placement = self._placement[:-1]
        self.depth -= 1
        self.block = self._blocks[-1]

    # Calls and control

    def call(
        self,
        symbol: str,
        result: DType | None,
        *args: Any,
        leaves: bool = False,
        site: int | None = None,
    ) -> Any:
        """Calls an external function that has effects.

        Args:
            symbol: a name on the backend's list of externals.
            result: dtype of what it returns, or `None`.
            *args: values, buffers (passed as pointers), `(buffer, offset)` pairs, `ir.CONTEXT`, and
                `None` for a null pointer.
            leaves: whether it returns a status, of which non-zero leaves this function.
            site: the error with which to leave; `None` leaves with the status itself.

        Returns:
            The result, or `None`.
        """
        out = None if result is None else self._inner("result", None, result)
        passed = [self._call_argument(arg) for arg in args]
        self.block.items.append(Call(symbol, passed, out, leaves or site is not None, site))
        return out

    def _call_argument(self, arg: Any) -> CallArgument:
        if isinstance(arg, Buffer):
            arg = (arg, self.index(0))
        if not isinstance(arg, tuple):
            return arg
        buffer, offset = arg
        if buffer.space not in READ_ONLY:
            self.touch(buffer)
        if buffer.element is not buffer.dtype:
            offset = self.op("mul", self._as_index(offset), self.index(2))
        return Pointer(buffer, self._as_index(offset))

    def callback(self, number: int, args: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
        """Calls a Python function of the executable.

        Args:
            number: which function.
            args: buffers it reads.
            outputs: buffers it writes, none of them read-only.
        """
        for buffer in outputs:
            if buffer.space in READ_ONLY:
                raise LoopIRError(f"callback {number} writes to the read-only {buffer!r}")
            self.touch(buffer)
        self.block.items.append(Callback(number, args, outputs))

    def pure_call(self, symbol: str, result: DType, *args: Value) -> Value:
        """Calls an external function without effects, such as one of libm.

        Args:
            symbol: a name on the backend's list of externals.
            result: dtype of what it returns.
            *args: values.

        Returns:
            The result, shared between equal calls.
        """
        key = ("call", symbol, args)
        found = self._memo.get(key)
        return found or self._place(key, "call", args, symbol, result)

    def check(self, ok: Value, site: int) -> None:
        """Leaves the function with an error unless a value is true.

        Args:
            ok: a bool value.
            site: which error; the function returns `site + 1`.
        """
        if ok.op != "const" or not ok.attr:
            self.block.items.append(Check(ok, site))

    def poll(self) -> None:
        """Leaves the function here if the caller has asked for it."""
        self.block.items.append(Poll())

    # Scoped memory for lowerings

    def recall(self, key: Any) -> Any:
        """What was remembered under a key in this scope or one around it.

        Args:
            key: hashable.

        Returns:
            The object, or `None`.
        """
        return self._memo.get(("user", key))

    def remember(self, key: Any, value: Any) -> None:
        """Keeps an object until the current loop body or branch ends.

        Args:
            key: hashable.
            value: anything but `None`.
        """
        self._remember_at(self.depth, ("user", key), value)

    def _remember_at(self, depth: int, key: Any, value: Any) -> None:
        self._memo[key] = value
        self._scopes[depth].append(key)

    def finish(self, *returns: Any) -> Function:
        """Ends the function.

        Args:
            *returns: results of a scalar function.

        Returns:
            The function.

        Raises:
            LoopIRError: inside a loop or branch.
        """
        if self.depth:
            raise LoopIRError(f"{self.function.name} ends inside a loop or branch")
        self.function.returns = _flatten(returns)
        self.function.values = self._next
        return self.function

    def _inner(self, op: str, attr: Any, dtype: DType) -> Value:
        return Value(op, (), attr, dtype, self._number(), self.depth)

    def _number(self) -> int:
        number = self._next
        self._next = number + 1
        return number


def _flatten(values: Values) -> list[Value]:
    flat: list[Value] = []
    for value in values:
        if type(value) is ComplexValue:
            flat += (value.re, value.im)
        else:
            flat.append(value)  # pyright: ignore[reportArgumentType]
    return flat


def _unflatten(flat: Sequence[Value], like: Values) -> list[Any]:
    parts = iter(flat)
    return [
        ComplexValue(next(parts), next(parts), v.dtype) if type(v) is ComplexValue else next(parts)
        for v in like
    ]


def _as_list(values: Values | None, like: Values) -> list[Any]:
    """Checks carries or results against those they replace."""
    found = list(values or ())
    if [v.dtype for v in found] != [v.dtype for v in like]:
        raise LoopIRError(f"expected values like {list(like)!r}, got {found!r}")
    return found


__all__ = ["Builder", "component"]
