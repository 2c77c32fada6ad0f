"""Loop nests that are equal apart from the buffers they work on become one function.

Layers of a network, steps written out by a Python loop, a gradient that goes back through them:
LLVM compiles each body once.

    for %1 in 0..64 {                       run entry.shared1 with x, y
      %2 = load x[%1]                       run entry.shared1 with y, z
      store y[%1] = ...
    }                                   function entry.shared1(x, y)
    for %3 in 0..64 {                       for %1 in 0..64 {
      %4 = load y[%3]                         %2 = load x[%1]
      store z[%3] = ...                       store y[%1] = ...
    }                                       }

Only loops that stand in no other loop are taken: there the call costs nothing to speak of.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from covector.loopir.ir import (
    PARALLEL,
    READ_ONLY,
    Allocate,
    Block,
    Buffer,
    Call,
    Check,
    Context,
    For,
    Function,
    If,
    Item,
    Pointer,
    Poll,
    Segment,
    Store,
    Value,
    While,
    results,
    walk,
)

SHORTEST = 8
"""Items from which on a loop nest is worth a function."""

LONGEST = 500
"""Items up to which it is: longer ones are split into pieces."""

_STATEMENTS = (Store, For, While, If, Call, Check, Poll, Pointer)
_PLAIN = (str, int, bool, float, type(None))


class _Different(Exception):
    """A loop that cannot be a function: it depends on more than constants and buffers."""


def share(function: Function) -> int:
    """Replaces loop nests that occur several times by runs of one function.

    Args:
        function: an entry function, changed in place.

    Returns:
        How many functions there are.
    """
    groups: dict[Any, list[tuple[int, list[Buffer]]]] = {}
    for position, item in enumerate(function.body.items):
        if isinstance(item, For) and not item.results and _is_of_size(item):
            try:
                shape = _Shape(item)
            except _Different:
                continue
            groups.setdefault(shape.key, []).append((position, list(shape.buffers)))
    repeated = [members for members in groups.values() if len(members) > 1]
    for number, members in enumerate(repeated, 1):
        body = Function(f"{function.name}.shared{number}")
        body.body.items = [function.body.items[members[0][0]]]
        body.buffers = body.received = members[0][1]
        body.values = function.values
        for position, buffers in members:
            function.body.items[position] = Segment(body, buffers)
    return len(repeated)


def _is_of_size(loop: For) -> bool:
    size = 0
    for _ in walk(loop.body):
        size += 1
        if size > LONGEST:
            return False
    return size >= SHORTEST


class _Shape:
    """What a loop does, up to the numbers of its values and the buffers it works on.

    Attributes:
        key: equal for loops that do the same.
        buffers: in the order in which they are met.
    """

    def __init__(self, loop: For) -> None:
        self.buffers: dict[Buffer, int] = {}
        self._classes: dict[object, int] = {}
        self._values: dict[Value, int] = {}
        self._defined = set(_definitions(loop))
        self.key = self._text(loop)

    def _text(self, thing: Any) -> Any:
        kind = cast("type[Any]", type(thing))
        if kind is Value:
            return self._value(thing)
        if kind is Buffer:
            return self._buffer(thing)
        if kind is Block:
            return tuple([self._item(item) for item in thing.items])
        if kind in (tuple, list):
            return tuple([self._text(x) for x in cast("list[Any]", thing)])
        if kind in _PLAIN:
            return (kind.__name__, repr(thing))
        if kind is Context:
            return "context"
        if kind not in _STATEMENTS or (kind is For and thing.kind == PARALLEL):
            raise _Different
        names = [name for name in kind.__slots__ if name != "origin"]
        return (kind.__name__, *[self._text(getattr(thing, name)) for name in names])

    def _item(self, item: Item) -> Any:
        """A value where it is defined, or a statement."""
        if type(item) is not Value:
            return self._text(item)
        arguments = tuple([self._value(v) for v in item.args])
        return (self._value(item), item.op, arguments, self._attribute(item))

    def _attribute(self, value: Value) -> Any:
        if value.op == "load":
            return self._buffer(value.attr)
        attribute: Any = value.attr
        if isinstance(attribute, np.generic):
            number = cast("Any", attribute)
            return (str(number.dtype), number.tobytes())
        return self._text(attribute)

    def _value(self, value: Value) -> Any:
        known = self._values.get(value)
        if known is not None:
            return known
        if value in self._defined:
            number = self._values[value] = len(self._values)
            return (number, value.dtype.name)
        if value.op == "const":
            return ("const", value.dtype.name, self._attribute(value))
        raise _Different

    def _buffer(self, buffer: Buffer) -> Any:
        known = self.buffers.get(buffer)
        if known is not None:
            return ("buffer", known)
        if buffer.lane is not None:
            raise _Different
        number = self.buffers[buffer] = len(self.buffers)
        # Buffers of one class may overlap, which is part of what code is compiled for.
        kind = buffer.alias_class
        if kind is None:
            kind = "read-only" if buffer.space in READ_ONLY else buffer
        overlap = self._classes.setdefault(kind, len(self._classes))
        layout = self._text(buffer.shape), self._text(buffer.strides)
        return ("buffer", number, buffer.dtype.name, layout, overlap)


def _definitions(loop: For) -> list[Value]:
    """Every value that a loop defines, its index and those of loops inside it included."""
    found: list[Value] = [loop.index, *loop.params]
    for item in walk(loop.body):
        found += results(item)
        if isinstance(item, For):
            found += [item.index, *item.params]
        elif isinstance(item, While):
            found += item.params
        elif isinstance(item, Allocate):
            raise _Different
    return found
