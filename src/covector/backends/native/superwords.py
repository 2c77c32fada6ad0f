"""Superwords: independent scalar operations of one kind, as the lanes of one vector.

Before, in the body of a loop:             After:

    %1 = tanh %a                               {%1, %2, %3, %4} = tanh {%a, %b, %c, %d}
    %2 = tanh %b                               {%5, %6, %7, %8} = mul {%1, %2, %3, %4}, splat 0.5
    %3 = tanh %c
    %4 = tanh %d
    %5 = mul %1, 0.5
    ...

Packs start from expensive operations that are equally many expensive operations away from the
start of the block, and so independent. From there they grow along operands and users as long as
lanes are alike (Larsen and Amarasinghe, PLDI 2000), up to loads, stores and what a loop carries.
Packs that cost more than they save are taken apart again. An operation gives the same bits in a
lane as alone, so nothing but speed depends on packs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from covector.backends.native.emit_ops import BETTER_WITH_CONSTANTS, Target
from covector.backends.native.emit_strided import split_offset
from covector.backends.native.split import reads
from covector.loopir.ir import INDEX, Buffer, DType, Item, Store, Value, results
from covector.loopir.scalars import FLOATS, INTEGERS, TABLE

OPERATION = "operation"
LOAD = "load"
STORE = "store"
CARRY = "carry"

SEEDS = frozenset({name for name, spec in TABLE.items() if spec.elementary} | {"div", "sqrt"})
"""Operations so expensive that packs start from them, on floats."""

_SCALAR_ONLY = frozenset({"rem", "mulhi", "popcount", "clz", "ctz", "index_div", "index_rem"})
PACKABLE = frozenset(TABLE) - _SCALAR_ONLY
"""Operations with a vector form that is worth having."""

_COMMUTATIVE = frozenset({"add", "mul", "fma", "and", "or", "xor", "eq", "ne"})
"""Operations whose first two operands may change places without changing a bit of the result."""

SMALLEST_VECTOR = 16
"""Bytes of the shortest vector; shorter ones would be widened with lanes of unknown content."""


class Pack:
    """Values, or stores, as the lanes of one vector.

    Attributes:
        kind: OPERATION, LOAD (of neighbours), STORE (of neighbours) or CARRY (of a loop).
        members: what is in the lanes.
        operands: for each operand its values in the order of the lanes; of a CARRY, what the loop
            yields.
        lanes: of the vector, a power of two; lanes beyond the members repeat the first.
        scalars: lanes that are needed by themselves too.
    """

    __slots__ = ("kind", "lanes", "members", "operands", "scalars")

    def __init__(
        self,
        kind: str,
        members: tuple[Any, ...],
        operands: tuple[tuple[Value, ...], ...],
        lanes: int,
    ) -> None:
        self.kind = kind
        self.members = members
        self.operands = operands
        self.lanes = lanes
        self.scalars: tuple[int, ...] = ()

    @property
    def dtype(self) -> DType:
        """Of the lanes."""
        first = self.members[0]
        return first.value.dtype if self.kind == STORE else first.dtype

    def __repr__(self) -> str:
        return f"<pack of {len(self.members)}: {self.kind} {self.members[0]!r}>"


Place = tuple[Pack, int]
"""A pack and the position of a value in it."""


class Region:
    """A block that may be packed.

    Attributes:
        items: its values and statements.
        carried: parameters of the loop whose body it is, with what it yields for them.
        elsewhere: values that are used outside of the items.
        depth: of the loop; values of a smaller depth are the same in each iteration.
        known: places of values in packs outside of the block.
    """

    __slots__ = ("carried", "depth", "elsewhere", "items", "known")

    def __init__(
        self,
        items: Sequence[Item],
        carried: Sequence[tuple[Value, Value]],
        elsewhere: Iterable[Value],
        depth: int,
        known: Mapping[Value, Place],
    ) -> None:
        self.items = items
        self.carried = carried
        self.elsewhere = elsewhere
        self.depth = depth
        self.known = known


class Search:
    """Finds packs in a region.

    Args:
        region: the block and what surrounds it.
        target: the machine.

    Attributes:
        packs: what was found.
        place: of values, stores and carries in packs.
        exact: packs by their members.
        here: values that the block itself computes.
        users: operations, stores and carries that use a value.
        outside: values that are needed as scalars whatever is packed.
    """

    def __init__(self, region: Region, target: Target) -> None:
        self.region = region
        self.target = target
        self.packs: list[Pack] = []
        self.place: dict[Any, Place] = {}
        self.exact: dict[tuple[Any, ...], Pack] = {}
        self.users: dict[Value, list[Any]] = {}
        self.outside: set[Value] = set(region.elsewhere)
        self.yields = dict(region.carried)
        self.here: set[Value] = set()
        self.level: dict[Value, int] = {}
        self.epoch: dict[Value, int] = {}

    def run(self) -> bool:
        """Searches.

        Returns:
            Whether there are packs.
        """
        for members in self.seeds():
            self.add_seeds(members)
        if not self.packs:
            return False
        self.find_users()
        for pack in list(self.packs):
            self.extend_down(pack)
        for pack in self.packs:  # grows
            self.extend_up(pack)
            self.pack_carries(pack)
        self.pack_stores()
        return True

    # Seeds

    def seeds(self) -> list[list[Value]]:
        """Expensive operations of one kind, grouped so that those of a group are independent."""
        here, level, latest, loads, epoch = self.here, self.level, 0, 0, 0
        groups: dict[tuple[str, DType, int], list[Value]] = {}
        for item in self.region.items:
            if type(item) is not Value:
                used = [level.get(v, 0) for v in reads(item)]
                latest = loads = max([latest, loads, *used])
                epoch += 1
                for value in results(item):
                    level[value] = latest
                continue
            here.add(item)
            depth = latest if item.op == "load" else 0
            for arg in item.args:
                before = level.get(arg, 0)
                if before > depth:
                    depth = before
            if item.op == "load":
                loads = max(loads, depth)
                self.epoch[item] = epoch
            elif item.op in SEEDS and item.dtype in FLOATS:
                depth += 1
                groups.setdefault((item.op, item.dtype, depth), []).append(item)
            level[item] = depth
        return [members for members in groups.values() if len(members) > 1]

    def add_seeds(self, members: list[Value]) -> None:
        """Packs independent operations, as many at a time as fit a vector register."""
        size = members[0].dtype.itemsize
        width = self.target.vector_bits // 8 // size
        least = max(2, SMALLEST_VECTOR // size)
        for first in range(0, len(members), width) if width > 1 else ():
            chunk = tuple(members[first : first + width])
            if len(chunk) > 1:
                lanes = max(least, 1 << (len(chunk) - 1).bit_length())
                self.add(self.operation(chunk, lanes))

    # Packs

    def add(self, pack: Pack) -> None:
        """Notes a pack."""
        self.packs.append(pack)
        self.exact[pack.members] = pack
        for lane, member in enumerate(pack.members):
            self.place[member] = (pack, lane)

    def remove(self, pack: Pack) -> None:
        """Takes a pack apart."""
        self.packs.remove(pack)
        del self.exact[pack.members]
        for member in pack.members:
            del self.place[member]

    def find(self, value: Value) -> Place | None:
        """Where a value is packed, in this block or outside of it."""
        return self.place.get(value) or self.region.known.get(value)

    def operation(self, members: tuple[Value, ...], lanes: int) -> Pack:
        """A pack of operations; operands that may change places are matched with the first's."""
        first = members[0].args
        rows = [first]
        for member in members[1:]:
            args = member.args
            if member.op in _COMMUTATIVE:
                swapped = (args[1], args[0], *args[2:])
                if self.likeness(first, swapped) > self.likeness(first, args):
                    args = swapped
            rows.append(args)
        return Pack(OPERATION, members, tuple(zip(*rows, strict=True)), lanes)

    def likeness(self, first: Sequence[Value], other: Sequence[Value]) -> int:
        """How well the first two operands of two operations go together."""
        return self.alike(first[0], other[0]) + self.alike(first[1], other[1])

    def alike(self, a: Value, b: Value) -> int:
        """How well two values go together as lanes."""
        if a is b:
            return 3
        one, other = self.find(a), self.find(b)
        if one or other:
            return 3 if one and other and one[0] is other[0] else 0
        if a.op != b.op or a.attr != b.attr:
            return 2 if a.op == b.op == "const" else 0
        return 2 if (a in self.here) == (b in self.here) else 1

    def are_isomorphic(self, values: tuple[Value, ...]) -> bool:
        """Whether operations of this block, none of them packed yet, can be one pack."""
        first = values[0]
        if first.op not in PACKABLE or first.dtype is INDEX:
            return False
        if first.op == "div" and first.dtype in INTEGERS:
            return False
        last, level = first.args[-1], self.level.get(first)
        if last.dtype is INDEX:
            return False
        for value in values:
            if value.op != first.op or value.attr != first.attr or value.dtype is not first.dtype:
                return False
            if value in self.place or self.level.get(value) != level:
                return False
            if value.args[-1].dtype is not last.dtype:
                return False
        if first.op in BETTER_WITH_CONSTANTS:
            # Constants choose the form of these.
            numbers = {v.args[-1].attr if v.args[-1].op == "const" else None for v in values}
            return len(numbers) == 1
        return True

    # Growing

    def find_users(self) -> None:
        """Who uses each value."""
        users, outside = self.users, self.outside
        for item in self.region.items:
            if type(item) is Value:
                for arg in item.args:
                    if arg.op != "const":
                        users.setdefault(arg, []).append(item)
                if item.op == "load":
                    outside.add(item.args[0])
            elif type(item) is Store:
                users.setdefault(item.value, []).append(item)
                outside.add(item.offset)
            else:
                outside.update(reads(item))
        for param, value in self.yields.items():
            users.setdefault(value, []).append(param)

    def extend_down(self, pack: Pack) -> None:
        """Packs the operands of a pack where they are alike, and theirs."""
        stack = [pack]
        while stack:
            top = stack.pop()
            for values in top.operands:
                found = self.operand_pack(values, top.lanes)
                if found is not None:
                    self.add(found)
                    stack.append(found)

    def operand_pack(self, values: tuple[Value, ...], lanes: int) -> Pack | None:
        """A new pack of values that are an operand of a pack, if they can be one."""
        if values in self.exact or len(set(values)) < len(values):
            return None
        if any([self.find(v) for v in values]):
            return None
        if all([v in self.yields for v in values]):
            return self.carry_pack(values, lanes)
        if not all([v in self.here for v in values]):
            return None
        if values[0].op == "load":
            return self.load_pack(values, lanes)
        return self.operation(values, lanes) if self.are_isomorphic(values) else None

    def carry_pack(self, params: tuple[Value, ...], lanes: int) -> Pack | None:
        if any([p.dtype is not params[0].dtype for p in params]):
            return None
        return Pack(CARRY, params, (tuple([self.yields[p] for p in params]),), lanes)

    def load_pack(self, loads: tuple[Value, ...], lanes: int) -> Pack | None:
        """Loads of neighbouring elements, with no statement between them."""
        if any([v.op != "load" or self.epoch[v] != self.epoch[loads[0]] for v in loads]):
            return None
        if not _are_neighbours([(v.attr, v.args[0]) for v in loads]):
            return None
        return Pack(LOAD, loads, (), lanes)

    def extend_up(self, pack: Pack) -> None:
        """Packs the operations that use the lanes of a pack alike, with their other operands."""
        if pack.kind == STORE:
            return
        for user in self.users.get(pack.members[0], ()):
            if user not in self.here or user in self.place:
                continue
            members = self.alike_users(user, pack)
            if members is not None and self.are_isomorphic(members):
                found = self.operation(members, pack.lanes)
                self.add(found)
                self.extend_down(found)

    def alike_users(self, user: Value, pack: Pack) -> tuple[Value, ...] | None:
        found = [user]
        for member in pack.members[1:]:
            other = next((u for u in self.users.get(member, ()) if self.fits(u, found)), None)
            if other is None:
                return None
            found.append(other)
        return tuple(found)

    def fits(self, user: Any, lanes: Sequence[Value]) -> bool:
        """Whether an item may be the next lane after others."""
        return (
            user in self.here
            and user not in self.place
            and user not in lanes
            and user.op == lanes[0].op
            and user.attr == lanes[0].attr
        )

    def pack_carries(self, pack: Pack) -> None:
        """Carries the next value of which is a pack are one too."""
        if pack.kind not in (OPERATION, LOAD) or not self.yields:
            return
        params: list[Value] = []
        for member in pack.members:
            for user in self.users.get(member, ()):
                if user in self.yields and user not in self.place and user not in params:
                    params.append(user)
                    break
            else:
                return
        self.add(Pack(CARRY, tuple(params), (pack.members,), pack.lanes))

    def pack_stores(self) -> None:
        """Stores of a pack in neighbouring elements, with no access to memory between them."""
        run: list[Store] = []
        for item in self.region.items:
            if type(item) is Value and item.op != "load":
                continue
            if type(item) is Store and item.value in self.place:
                run.append(item)
                pack, lane = self.place[item.value]
                if lane == 0:
                    run = [item]
                elif lane == len(pack.members) - 1:
                    self.store_pack(pack, run)
                    run = []
            else:
                run = []

    def store_pack(self, pack: Pack, run: list[Store]) -> None:
        values = tuple([item.value for item in run])
        if values == pack.members and _are_neighbours([(s.buffer, s.offset) for s in run]):
            self.add(Pack(STORE, tuple(run), (values,), pack.lanes))


def _are_neighbours(places: Sequence[tuple[Buffer, Value]]) -> bool:
    (buffer, start), *rest = places
    base, first = _split(start)
    for k, (other, offset) in enumerate(rest, 1):
        if other is not buffer or _split(offset) != (base, first + k):
            return False
    return True


def _split(offset: Value) -> tuple[Value | None, int]:
    return (None, offset.attr) if offset.op == "const" else split_offset(offset)
