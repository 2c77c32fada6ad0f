"""Changing a finished function: values in the place of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.loopir.ir import (
    Allocate,
    Block,
    Call,
    Check,
    DType,
    For,
    Function,
    If,
    Item,
    LoopIRError,
    Pointer,
    Store,
    Value,
    While,
    children,
)
from covector.loopir.scalars import canonical, check_types


class Editor:
    """Makes values in front of the one that is looked at.

    Args:
        function: what is changed.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._depth = 0
        self._new: list[Value] = []

    def at(self, depth: int) -> list[Value]:
        """Goes on to another place; gives the list that receives what is made there."""
        self._depth, self._new = depth, []
        return self._new

    def const(self, value: Any, dtype: DType) -> Value:
        """A constant.

        Args:
            value: a number; wrapped or rounded to the dtype.
            dtype: element type, not complex.

        Returns:
            The value.
        """
        return Value("const", (), canonical(value, dtype), dtype, self._number(), 0)

    def op(self, name: str, *args: Value, attr: Any = None) -> Value:
        """An operation.

        Args:
            name: one of `OPERATIONS`.
            args: its operands, which are visible where it is put.
            attr: what it needs besides, see `Value`.

        Returns:
            The value.

        Raises:
            LoopIRError: for an unknown operation, or operands that it does not take.
        """
        dtype = check_types(name, args, attr)
        made = Value(name, args, attr, dtype, self._number(), self._depth)
        self._new.append(made)
        return made

    def _number(self) -> int:
        self._function.values += 1
        return self._function.values - 1


Rule = Callable[[Editor, Value], Value | None]


def map_values(function: Function, rule: Rule) -> int:
    """Puts other values in the place of some, in all of a function.

    Args:
        function: changed in place.
        rule: `(editor, value) -> value`: what is used instead, an operand of it or made by the
            editor; `None` leaves the value. It is asked about operations and loads, in order, of
            which the operands have been replaced already.

    Returns:
        How many values were replaced.

    Raises:
        LoopIRError: if a value is of another dtype than the one it stands for.

    Example:
        >>> import numpy as np
        >>> from covector.loopir.builder import Builder
        >>> from covector.loopir.printer import print_function
        >>> b = Builder("third")
        >>> x, y = b.argument(np.dtype("f4"), (8,)), b.result(np.dtype("f4"), (8,))
        >>> b.loop(0, 8, lambda i: b.store(y, (i,), b.op("div", b.load(x, i), 3.0)))
        []
        >>> function = b.finish()
        >>> def by_reciprocal(edit, value):
        ...     if value.op == "div" and value.args[1].op == "const":
        ...         return edit.op("mul", value.args[0], edit.const(1 / 3, value.dtype))
        >>> map_values(function, by_reciprocal)
        1
        >>> print(print_function(function))
        function third
          argument a0: f32[8]
          result r0: f32[8]
          for %0 in 0..8 {
            %1: f32 = load a0[%0]
            %2: f32 = mul %1, 0.3333333432674408
            store r0[%0] = %2
          }
    """
    mapping = _Mapping(function, rule)
    mapping.block(function.body)
    function.returns = mapping.all(function.returns)
    for buffer in function.buffers:
        buffer.shape = tuple([mapping.one(n) if type(n) is Value else n for n in buffer.shape])
    return len(mapping.names)


class _Mapping:
    def __init__(self, function: Function, rule: Rule) -> None:
        self.names: dict[Value, Value] = {}
        self._edit = Editor(function)
        self._rule = rule

    def one(self, value: Value) -> Value:
        return self.names.get(value, value)

    def all(self, values: Sequence[Value]) -> list[Value]:
        return [self.names.get(v, v) for v in values]

    def block(self, block: Block) -> None:
        items: list[Item] = []
        for item in block.items:
            self._rename(item)
            if type(item) is Value:
                items += self._value(item, block)
                continue
            for child in children(item):
                self.block(child)
            self._rename_ends(item)
            items.append(item)
        block.items = items

    def _value(self, value: Value, block: Block) -> list[Value]:
        new = self._edit.at(block.depth)
        found = self._rule(self._edit, value)
        if found is None or found is value:
            return [*new, value]
        if found.dtype != value.dtype:
            raise LoopIRError(f"{found!r} cannot stand for {value!r}: it has another dtype")
        self.names[value] = found
        return new

    def _rename(self, item: Item) -> None:
        """Gives an item the operands that stand for its own."""
        if isinstance(item, Value):
            item.args = tuple(self.all(item.args))
        elif isinstance(item, Store):
            item.offset, item.value = self.one(item.offset), self.one(item.value)
        elif isinstance(item, For):
            item.lower, item.upper = self.one(item.lower), self.one(item.upper)
            item.inits = self.all(item.inits)
        elif isinstance(item, While):
            item.inits = self.all(item.inits)
        elif isinstance(item, If):
            item.predicate = self.one(item.predicate)
        elif isinstance(item, Call):
            item.args = tuple([self._argument(a) for a in item.args])
        elif isinstance(item, Check):
            item.ok = self.one(item.ok)
        elif isinstance(item, Allocate):
            item.count = self.one(item.count)

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, Pointer):
            return Pointer(argument.buffer, self.one(argument.offset))
        return self.one(argument) if type(argument) is Value else argument

    def _rename_ends(self, item: Item) -> None:
        """Lets the blocks of an item end with what stands for their values."""
        if isinstance(item, For | While):
            item.yields = self.all(item.yields)
        if isinstance(item, While):
            item.predicate = self.one(item.predicate)
        if isinstance(item, If):
            item.then_values = self.all(item.then_values)
            item.else_values = self.all(item.else_values)
