"""Neighbouring fields: loads and stores that together cover whole records, such as complex numbers.

    x[3 i], x[3 i + 1], x[3 i + 2]   for i in lanes

One by one these would be gathers. Together they are one long vector and its permutations.

    x[40 i + j], x[40 i + j + 1], ... x[40 i + j + 7]   for i in lanes

Neighbours that are a part of longer records are one vector of each lane, and transposed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from covector.loopir.ir import Block, Buffer, Store, Value, children, touched, walk

LONGEST_RECORD = 8
"""Fields of a record up to which it is loaded or stored as a whole."""

MAX_ELEMENTS = 256
"""Elements of the long vector."""


PARTS = (8, 4)
"""Fields of a part of a longer record that are loaded together."""


class Record:
    """Accesses to the fields of a record, one for each.

    Attributes:
        buffer: where it is.
        stride: number of fields.
        fields: offset of each access within the record, by access.
        part: whether these are only neighbours among the fields of longer records.
    """

    __slots__ = ("buffer", "fields", "part", "stride")

    def __init__(
        self, buffer: Buffer, stride: int, fields: dict[Value | Store, int], part: bool = False
    ) -> None:
        self.buffer = buffer
        self.stride = stride
        self.fields = fields
        self.part = part


Key = tuple[Buffer, Any, int]


def find_records(
    block: Block, strides: dict[Value, int | None], lanes: int
) -> dict[Value | Store, Record]:
    """The records that are loaded or stored whole in a block that runs in lanes.

    Args:
        block: the block; those inside it are searched too.
        strides: how indices change from lane to lane.
        lanes: how many.

    Returns:
        The record of each access that belongs to one.
    """
    written = {memory_of(i.buffer) for i in walk(block) if isinstance(i, Store)}
    search = _Search(strides, lanes, written)
    search.block(block)
    return search.found


def memory_of(buffer: Buffer) -> object:
    """What two buffers share if they may overlap.

    Args:
        buffer: any buffer.

    Returns:
        Its alias class, or the buffer itself.
    """
    return buffer if buffer.alias_class is None else buffer.alias_class


def split_offset(offset: Value) -> tuple[Value, int]:
    """An index as one that varies and a constant.

    Args:
        offset: any index.

    Returns:
        The two terms.
    """
    if offset.op == "add" and offset.args[1].op == "const":
        return offset.args[0], offset.args[1].attr
    return offset, 0


class _Search:
    def __init__(self, strides: dict[Value, int | None], lanes: int, written: set[object]) -> None:
        self.strides = strides
        self.lanes = lanes
        self.written = written
        self.found: dict[Value | Store, Record] = {}

    def block(self, block: Block) -> None:
        loads: dict[Key, dict[int, Value | Store]] = {}
        stores: dict[Key, dict[int, Value | Store]] = {}
        for item in block.items:
            if isinstance(item, Store):
                key, place = self.key(item.buffer, item.offset)
                self.forget(stores, item.buffer, key)
                if key is not None:
                    members = stores.setdefault(key, {})
                    members[place] = item
                    if len(members) == key[2]:
                        self.close(key, stores.pop(key))
            elif isinstance(item, Value):
                if item.op == "load":
                    self.forget(stores, item.attr, None)
                    self.load(item, loads)
            else:
                for buffer in (*touched(item), *_inside(item)):
                    self.forget(stores, buffer, None)
                for child in children(item):
                    self.block(child)
        for key, members in loads.items():
            self.close(key, members)

    def load(self, item: Value, loads: dict[Key, dict[int, Value | Store]]) -> None:
        """Notes a load that may be of a record, or of a part of one."""
        if memory_of(item.attr) in self.written:
            return
        stride = self.strides.get(item.args[0], 0)
        if stride is not None and stride > LONGEST_RECORD:
            terms, place = _terms(item.args[0])
            key = (item.attr, terms, stride)
        else:
            key, place = self.key(item.attr, item.args[0])
        if key is not None:
            loads.setdefault(key, {})[place] = item

    def forget(
        self, pending: dict[Key, dict[int, Value | Store]], buffer: Buffer, key: Key | None
    ) -> None:
        """Another access to the memory may not move past stores that wait for their last."""
        memory = memory_of(buffer)
        for other in [k for k in pending if memory_of(k[0]) is memory and k != key]:
            del pending[other]

    def key(self, buffer: Buffer, offset: Value) -> tuple[Key | None, int]:
        stride = self.strides.get(offset, 0)
        if stride is None or not 2 <= stride <= LONGEST_RECORD:
            return None, 0
        if stride * self.lanes > MAX_ELEMENTS:
            return None, 0
        base, place = split_offset(offset)
        return (buffer, base, stride), place

    def close(self, key: Key, members: dict[int, Value | Store]) -> None:
        """Notes a record if all its fields are there, in places that follow each other."""
        buffer, _, stride = key
        if stride > LONGEST_RECORD:
            self.close_parts(key, members)
            return
        first = min(members)
        if len(members) == stride and max(members) == first + stride - 1:
            record = Record(buffer, stride, {m: p - first for p, m in members.items()})
            for member in members.values():
                self.found[member] = record

    def close_parts(self, key: Key, members: dict[int, Value | Store]) -> None:
        """Notes neighbours among the fields of long records, as many as make whole vectors."""
        buffer, _, stride = key
        for size in PARTS:
            if self.lanes % size or stride < size:
                continue
            for first in sorted(members):
                places = range(first, first + size)
                if all([p in members and members[p] not in self.found for p in places]):
                    fields = {members[p]: p - first for p in places}
                    record = Record(buffer, stride, fields, part=True)
                    self.found.update(dict.fromkeys(fields, record))


def _terms(offset: Value) -> tuple[frozenset[tuple[Value, int]], int]:
    """An index as a sum of other values, and a constant."""
    terms: dict[Value, int] = {}
    place = 0
    pending = [offset]
    while pending:
        value = pending.pop()
        if value.op == "add":
            pending += value.args
        elif value.op == "const":
            place += value.attr
        else:
            terms[value] = terms.get(value, 0) + 1
    return frozenset(terms.items()), place


def _inside(item: object) -> Iterable[Buffer]:
    for child in children(item):  # pyright: ignore[reportArgumentType]
        for inner in walk(child):
            yield from touched(inner)


def repeated(count: int, lanes: int) -> str:
    """The shuffle mask that repeats each lane.

    Args:
        count: how often.
        lanes: how many lanes.

    Returns:
        LLVM text.
    """
    return _mask(k // count for k in range(count * lanes))


def exchanged(distance: int, length: int, upper: bool) -> str:
    """The shuffle mask of one half of a pair of rows that exchange off-diagonal blocks.

    Args:
        distance: side of the blocks, and how many rows apart the pair is.
        length: of both vectors.
        upper: which row of the result.

    Returns:
        LLVM text; the second vector's elements follow those of the first.
    """
    shift = distance if upper else 0
    return _mask(
        length + k - distance + shift if k & distance else k + shift for k in range(length)
    )


def every(stride: int, first: int, lanes: int) -> str:
    """The shuffle mask that takes one field out of records.

    Args:
        stride: fields of a record.
        first: which field.
        lanes: how many records.

    Returns:
        LLVM text.
    """
    return _mask(k * stride + first for k in range(lanes))


def interleaved(places: list[int], lanes: int) -> str:
    """The shuffle mask that makes records from fields that stand one after the other.

    Args:
        places: of each field in turn, the position of its vector.
        lanes: how many records.

    Returns:
        LLVM text.
    """
    return _mask(place * lanes + k for k in range(lanes) for place in places)


def joined(length: int) -> str:
    """The shuffle mask that appends one vector to another.

    Args:
        length: of each.

    Returns:
        LLVM text.
    """
    return _mask(range(2 * length))


def _mask(numbers: Iterable[int]) -> str:
    return f"<{', '.join(f'i32 {n}' for n in numbers)}>"
