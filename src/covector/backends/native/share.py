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

Numbers from outside of it (a scalar, a size, the index of a loop around it) pass through memory. A
loop that stands in another one is taken if it runs so long that the call costs nothing to speak
of.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np

from covector.backends.native.emit_lanes import plan_loop
from covector.backends.native.emit_ops import Target
from covector.backends.native.split import new_frame
from covector.loopir.costs import block_cost
from covector.loopir.ir import (
    INDEX,
    PARALLEL,
    READ_ONLY,
    Allocate,
    Block,
    Buffer,
    Call,
    Check,
    Context,
    DType,
    For,
    Function,
    If,
    Item,
    Pointer,
    Poll,
    Reload,
    Segment,
    Store,
    Value,
    While,
    results,
    walk,
)
from covector.loopir.printer import short_name

SHORTEST = 8
"""Items from which on a loop nest is worth a function."""

LONGEST = 500
"""Items up to which it is: longer ones are split into pieces."""

LONG = 50.0
"""Nanoseconds that a loop inside another one takes at least to be worth a call."""

MOST_OUTSIDE = 12
"""Values from outside that a loop may use."""

_STATEMENTS = (Store, For, While, If, Call, Check, Poll, Pointer)
_PLAIN = (str, int, bool, type(None))


class _Different(Exception):
    """A loop that cannot be a function: it depends on more than constants and buffers."""


class _Member(NamedTuple):
    """One of several equal loop nests.

    Attributes:
        block: where it stands.
        position: its place there.
        buffers: what it works on.
        outside: values that it uses and does not define.
        parallel: the loop of whose threads each has an own one.
    """

    block: Block
    position: int
    buffers: list[Buffer]
    outside: list[Value]
    parallel: For | None


class _Place(NamedTuple):
    """Where a loop stands, which may be equal to others.

    Attributes:
        block: as for `_Member`.
        position: there.
        parallel: as for `_Member`.
    """

    block: Block
    position: int
    parallel: For | None


_Alike = dict[tuple[Any, ...], list[_Place]]
"""Loops by depth and operations, which are equal if any others are."""


def share(function: Function, target: Target) -> int:
    """Replaces loop nests that occur several times by runs of one function.

    Args:
        function: an entry function, changed in place.
        target: the machine, which decides what runs in lanes.

    Returns:
        How many functions there are.
    """
    alike: _Alike = {}
    _collect(function.body, alike, target, None)
    groups: dict[Any, list[_Member]] = {}
    for places in alike.values():
        if len(places) > 1:
            _compare(places, groups)
    repeated = [members for members in groups.values() if len(members) > 1]
    replaced: dict[Block, dict[int, list[Item]]] = {}
    for number, members in enumerate(repeated, 1):
        for member, items in zip(members, _runs(function, number, members), strict=True):
            replaced.setdefault(member.block, {})[member.position] = items
    for block, places in replaced.items():
        items = enumerate(block.items)
        block.items = [new for k, old in items for new in places.get(k, [old])]
    return len(repeated)


def _runs(function: Function, number: int, members: list[_Member]) -> list[list[Item]]:
    """For each of equal loop nests, what runs the function that they become."""
    block, position, buffers, outside, _ = members[0]
    body = Function(f"{function.name}.shared{number}")
    frames = _Frames(function, body.name, outside)
    first = frames.of(members[0].parallel)
    body.body.items = [
        *[Reload(v, first[v.dtype], slot) for v, slot in zip(outside, frames.slots, strict=True)],
        block.items[position],
    ]
    body.body.depth = block.depth
    body.buffers = body.received = [*buffers, *first.values()]
    runs: list[list[Item]] = []
    for member in members:
        own = frames.of(member.parallel)
        saves = [
            Store(own[value.dtype], frames.index(slot), value)
            for value, slot in zip(member.outside, frames.slots, strict=True)
        ]
        runs.append([*saves, Segment(body, [*member.buffers, *own.values()])])
    body.values = function.values
    return runs


class _Frames:
    """Memory through which values from outside pass to a function.

    Attributes:
        slots: place of each value among those of its dtype.
    """

    def __init__(self, function: Function, name: str, outside: list[Value]) -> None:
        self._function = function
        self._name = name
        self._counts: dict[DType, int] = {}
        self._made: dict[For | None, dict[DType, Buffer]] = {}
        self.slots: list[int] = []
        for value in outside:
            slot = self._counts.get(value.dtype, 0)
            self._counts[value.dtype] = slot + 1
            self.slots.append(slot)

    def of(self, parallel: For | None) -> dict[DType, Buffer]:
        """The buffer for each dtype, one for every thread of a parallel loop."""
        made = self._made.get(parallel)
        if made is None:
            made = self._made[parallel] = {
                dtype: new_frame(
                    self._function, f"{self._name}.{short_name(dtype)}", dtype, count, parallel
                )
                for dtype, count in self._counts.items()
            }
        return made

    def index(self, slot: int) -> Value:
        """A place as a constant."""
        number = self._function.values
        self._function.values = number + 1
        return Value("const", (), slot, INDEX, number, 0)


def _collect(block: Block, alike: _Alike, target: Target, parallel: For | None) -> None:
    """Notes the loop nests of a block, and of the blocks inside loops that are too long."""
    for position, item in enumerate(block.items):
        if type(item) is not For:
            continue
        inside = walk(item.body)
        if len(inside) > LONGEST:
            if plan_loop(item, target) is None:
                _collect(item.body, alike, target, item if item.kind == PARALLEL else parallel)
        elif len(inside) >= SHORTEST and not item.results:
            operations = [i.op if type(i) is Value else type(i) for i in inside]
            place = _Place(block, position, parallel)
            alike.setdefault((block.depth, *operations), []).append(place)


def _compare(places: list[_Place], groups: dict[Any, list[_Member]]) -> None:
    """Puts loops that are equal, up to what they work on, into groups."""
    for block, position, parallel in places:
        shape = _shape(block.items[position], block.depth)
        if shape is not None:
            found = _Member(block, position, list(shape.buffers), list(shape.outside), parallel)
            groups.setdefault((block.depth, shape.key), []).append(found)


def _shape(loop: For, depth: int) -> _Shape | None:
    """What a loop does, if it may become a function."""
    if depth and (loop.trips or 0) * block_cost(loop.body) < LONG:
        return None
    try:
        return _Shape(loop)
    except _Different:
        return None


class _Shape:
    """What a loop does, up to the numbers of its values and the buffers it works on.

    Attributes:
        key: equal for loops that do the same.
        buffers: in the order in which they are met.
        outside: values from outside, in the order in which they are met.
    """

    def __init__(self, loop: For) -> None:
        self.buffers: dict[Buffer, int] = {}
        self.outside: dict[Value, int] = {}
        self._classes: dict[object, int] = {}
        self._values: dict[Value, Any] = {}
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
            return (kind, thing)
        if kind is float:
            return (kind, repr(thing))  # zeros have a sign
        if kind is Context:
            return "context"
        if kind not in _STATEMENTS or (kind is For and thing.kind == PARALLEL):
            raise _Different
        names = [name for name in kind.__slots__ if name != "origin"]
        return (kind, *[self._text(getattr(thing, name)) for name in names])

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
            return (number.dtype, number.tobytes())
        return self._text(attribute)

    def _value(self, value: Value) -> Any:
        known = self._values.get(value)
        if known is not None:
            return known
        if value in self._defined:
            number = self._values[value] = len(self._values)
            return (number, value.dtype)
        if value.op == "const":
            return ("const", value.dtype, self._attribute(value))
        if len(self.outside) == MOST_OUTSIDE and value not in self.outside:
            raise _Different
        return ("outside", self.outside.setdefault(value, len(self.outside)), value.dtype)

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
        return ("buffer", number, buffer.dtype, layout, overlap)


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
