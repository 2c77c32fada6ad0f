"""Making values: constants, operations, and the memory of what is known in each scope.

Pure operations are hash-consed: an equal operation that is visible gives the same value again. They
are placed in the outermost loop that has their operands, so loops contain what varies in them;
nothing is hoisted out of a branch.
"""

from __future__ import annotations

import struct
from typing import Any

from covector.loopir import folding
from covector.loopir.contraction import CONTRACT, contracted
from covector.loopir.ir import (
    BOOL,
    INDEX,
    Block,
    ComplexValue,
    DType,
    Function,
    LoopIRError,
    Value,
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

_pack_double = struct.Struct("d").pack


class Expressions:
    """What a builder knows of values.

    Args:
        name: symbol of the function.
    """

    __slots__ = (
        "_blocks",
        "_bounds",
        "_consts",
        "_memo",
        "_next",
        "_placement",
        "_products",
        "_scopes",
        "block",
        "depth",
        "function",
    )

    def __init__(self, name: str) -> None:
        self.function = Function(name)
        self.block = self.function.body
        self.depth: int = 0
        self._blocks: list[Block] = [self.block]
        self._scopes: list[list[Any]] = [[]]
        self._memo: dict[Any, Any] = {}
        self._consts: dict[Any, Value] = {}
        self._bounds: dict[Value, tuple[int, int]] = {}
        # For each depth, where an operation goes whose deepest operand is there.
        self._placement = [0]
        # What fused operations have taken the place of.
        self._products: list[Value] = []
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
                    if attr == CONTRACT and name != "mul" and only_constants:
                        fused = self._contract(key, name, x, y)
                        if fused is not None:
                            return fused
                    if only_constants and y.op != "const":
                        return self._place(key, name, args, attr, result)
                    return self._fold(key, TABLE[name], args, attr, result)
        return self._general_op(key, name, args, attr)

    def _contract(self, key: Any, name: str, x: Value, y: Value) -> Value | None:
        found = contracted(self, name, x, y)
        if found is None:
            return None
        fused, product = found
        self._products.append(product)
        self._memo[key] = fused
        self._scopes[-1].append(key)
        return fused

    def _general_op(self, key: Any, name: str, args: tuple[Any, ...], attr: Any) -> Any:
        spec = TABLE.get(name)
        dtype = getattr(args[-1], "dtype", None) if args else None
        if spec is None or dtype is None or dtype not in spec.results or attr in COMPLEX:
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

    def inserted(self, name: str, args: tuple[Value, ...], depth: int) -> Value:
        """An index operation that the caller puts in a block that is complete already.

        Args:
            name: of the operation.
            args: index values.
            depth: of the block.

        Returns:
            The value, in no block yet.
        """
        return Value(name, args, None, INDEX, self._number(), depth)

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

    def _as_index(self, extent: Any) -> Value:
        return extent if type(extent) is Value else self.index(extent)

    def _inner(self, op: str, attr: Any, dtype: DType) -> Value:
        return Value(op, (), attr, dtype, self._number(), self.depth)

    def _number(self) -> int:
        number = self._next
        self._next = number + 1
        return number
