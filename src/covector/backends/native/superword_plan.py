"""Which packs pay, and in which order a block with packs runs."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from covector.backends.native.emit_ops import Target
from covector.backends.native.split import reads
from covector.backends.native.superwords import (
    CARRY,
    OPERATION,
    STORE,
    Pack,
    Region,
    Search,
)
from covector.core.config import config
from covector.loopir.ir import Item, Value, results
from covector.loopir.scalars import TABLE

# Costs in simple instructions, by rule of thumb.
FUNCTION_COST = 30.0
SLOW_COST = 4.0
HOISTED_COST = 0.3
"""Making a vector before the loop; it then takes a register or a place in memory."""

ROUNDS = 3
"""How often packs are looked over again after some were taken apart."""


class Packing:
    """How a block runs with packs.

    Attributes:
        order: values, statements and packs.
        carries: packs of what the loop around it carries.
        invariant: operands that are the same in each iteration, with their lanes.
        place: of each packed value.
    """

    __slots__ = ("carries", "invariant", "order", "place")

    def __init__(
        self,
        order: list[Item | Pack],
        carries: list[Pack],
        invariant: list[tuple[tuple[Value, ...], int]],
        place: dict[Any, tuple[Pack, int]],
    ) -> None:
        self.order = order
        self.carries = carries
        self.invariant = invariant
        self.place = place


def plan_packs(region: Region, target: Target) -> Packing | None:
    """Decides what is packed in a block.

    Args:
        region: the block and what surrounds it.
        target: the machine.

    Returns:
        The packing, or `None` if the block stays scalar.
    """
    if "superwords" in config.disable:
        return None
    search = Search(region, target)
    if not search.run():
        return None
    _order(search)
    costs = _Costs(search)
    costs.prune()
    if not search.packs:
        return None
    for pack in search.packs:
        pack.scalars = costs.needed(pack)
    carries = [p for p in search.packs if p.kind == CARRY]
    return Packing(_order(search), carries, costs.invariant(), search.place)


class _Costs:
    """What packs of a search save and cost."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.depth = search.region.depth
        self.bits = search.target.vector_bits

    def prune(self) -> None:
        """Takes packs apart that cost more than they save, then groups of them that do."""
        search = self.search
        for _ in range(ROUNDS):
            worse = [p for p in search.packs if self.marginal(p) < 0]
            for pack in worse:
                search.remove(pack)
            if not worse:
                break
        for group in self.connected():
            if sum([self.saved(p) - self.cost(p) for p in group]) <= 0:
                for pack in group:
                    search.remove(pack)

    def saved(self, pack: Pack) -> float:
        """Instructions that a pack saves by itself."""
        count = len(pack.members)
        if pack.kind == CARRY:
            return 0.0
        if pack.kind != OPERATION:
            return count - 1.0
        first = pack.members[0]
        size = max(first.dtype.itemsize, first.args[-1].dtype.itemsize)
        vectors = max(1.0, 8.0 * size * pack.lanes / self.bits)
        return _weight(first.op) * (count - vectors)

    def cost(self, pack: Pack) -> float:
        """Instructions that bring values into the lanes of a pack, and out of them."""
        inserts = sum([self.gather(values, pack.lanes) for values in pack.operands])
        return inserts + len(self.needed(pack))

    def marginal(self, pack: Pack) -> float:
        """What all packs together would lose without this one."""
        search = self.search
        kept = 0
        for values in pack.operands:
            # Values that would have to be taken out of their packs.
            kept += sum([search.find(v) is not None for v in set(values)])
        for user in self.user_packs(pack):
            # Values that would have to be put into the lanes of others.
            kept += sum([len(pack.members) for values in user.operands if values == pack.members])
        return self.saved(pack) - self.cost(pack) + kept

    def user_packs(self, pack: Pack) -> list[Pack]:
        found: dict[Pack, None] = {}
        for user in self.search.users.get(pack.members[0], ()):
            place = self.search.place.get(user)
            if place is not None:
                found[place[0]] = None
        return list(found)

    def needed(self, pack: Pack) -> tuple[int, ...]:
        """The lanes that something reads as scalars."""
        if pack.kind == STORE:
            return ()
        search = self.search
        place, outside, users = search.place, search.outside, search.users
        return tuple(
            [
                lane
                for lane, value in enumerate(pack.members)
                if value in outside or any([u not in place for u in users.get(value, ())])
            ]
        )

    def gather(self, values: tuple[Value, ...], lanes: int) -> float:
        """Instructions that make a vector of values."""
        search = self.search
        exact = search.exact.get(values)
        if exact is not None and exact.lanes == lanes:
            return 0.0
        scalars: set[Value] = set()
        packs: set[Pack] = set()
        for value in values:
            if value.op == "const":
                continue
            place = search.find(value)
            if place is None:
                scalars.add(value)
            else:
                packs.add(place[0])
        if not packs and all([v.depth < self.depth for v in scalars]):
            return HOISTED_COST if scalars else 0.0
        inserts = 1.0 if len(set(values)) == 1 else float(len(scalars))
        return inserts + len(packs) if scalars else float(max(1, len(packs) - 1))

    def connected(self) -> list[list[Pack]]:
        """Packs in groups that are connected by their operands."""
        search = self.search
        group: dict[Pack, list[Pack]] = {p: [p] for p in search.packs}
        for pack in search.packs:
            for values in pack.operands:
                for value in values:
                    place = search.place.get(value)
                    if place is None or group[place[0]] is group[pack]:
                        continue
                    joined = group[pack] + group[place[0]]
                    for member in joined:
                        group[member] = joined
        return list({id(g): g for g in group.values()}.values())

    def invariant(self) -> list[tuple[tuple[Value, ...], int]]:
        """Operands of packs that can be made before the loop."""
        found: dict[tuple[tuple[Value, ...], int], None] = {}
        for pack in self.search.packs:
            for values in pack.operands if pack.kind == OPERATION else ():
                varying = [v for v in values if v.op != "const" and v.depth >= self.depth]
                if not varying and any([v.op != "const" for v in values]):
                    found[values, pack.lanes] = None
        return list(found)


def _weight(op: str) -> float:
    spec = TABLE.get(op)
    if spec is not None and spec.elementary:
        return FUNCTION_COST
    return SLOW_COST if op in ("div", "sqrt") else 1.0


# Order


def _order(search: Search) -> list[Item | Pack]:
    """The items and packs of a block, each after what it depends on.

    Statements keep their order, and loads their place between them. A pack in which one value
    depends on another, by way of other packs too, is taken apart.
    """
    sorter = _Sorter(search)
    while True:
        sorter.run()
        if not sorter.waiting:
            return sorter.order
        sorter.dissolve()


class _Sorter:
    """Sorts items and packs, as near to the original order as possible."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.items = search.region.items
        self.order: list[Item | Pack] = []
        before = _dependencies(search)
        self.missing = [len(each) for each in before]
        self.after: list[list[int]] = [[] for _ in before]
        for number, each in enumerate(before):
            for other in each:
                self.after[other].append(number)
        self.number = {item: k for k, item in enumerate(self.items) if item in search.place}
        # For each pack in the block, how many of its members still miss an operand.
        self.waiting = {p: len(p.members) for p in search.packs if p.kind != CARRY}
        self.ready: list[int] = []
        for number, count in enumerate(self.missing):
            if not count:
                self.release(number)

    def release(self, number: int) -> None:
        """An item misses nothing any more; a pack is ready with its last member."""
        place = self.search.place.get(self.items[number])
        if place is None:
            heapq.heappush(self.ready, number)
            return
        pack = place[0]
        self.waiting[pack] -= 1
        if not self.waiting[pack]:
            del self.waiting[pack]
            heapq.heappush(self.ready, self.number[pack.members[0]])

    def run(self) -> None:
        """Goes on until nothing is ready."""
        place, missing = self.search.place, self.missing
        while self.ready:
            number = heapq.heappop(self.ready)
            item = self.items[number]
            found = place.get(item)
            self.order.append(item if found is None else found[0])
            done = (number,) if found is None else [self.number[m] for m in found[0].members]
            for each in done:
                for other in self.after[each]:
                    missing[other] -= 1
                    if not missing[other]:
                        self.release(other)

    def dissolve(self) -> None:
        """Takes a waiting pack apart, of expensive operations only if there are no others.

        Packs of stores are never the reason why others wait: all between them can run before.
        """
        packs = [p for p in self.waiting if p.kind != STORE]
        cheap = [p for p in packs if p.kind == OPERATION and _weight(p.members[0].op) == 1.0]
        pack = (cheap or packs)[-1]
        del self.waiting[pack]
        self.search.remove(pack)
        for member in pack.members:
            number = self.number[member]
            if not self.missing[number]:
                heapq.heappush(self.ready, number)


def _dependencies(search: Search) -> list[set[int]]:
    """For each item, those that it has to follow."""
    items, place = search.region.items, search.place
    maker: dict[Value, int] = {}
    for number, item in enumerate(items):
        if type(item) is Value:
            maker[item] = number
        else:
            for value in results(item):
                maker[value] = number
    before: list[set[int]] = []
    statements: list[int] = []
    loads: list[int] = []
    earlier: list[int] = []
    together: Pack | None = None
    for number, item in enumerate(items):
        needed: set[int] = set()
        if type(item) is Value:
            used: Sequence[Value] = item.args
            if item.op == "load":
                loads.append(number)
                needed.update(statements)
        else:
            used = reads(item)
            found = place.get(item)
            if found is None or found[0] is not together:
                # Stores of one pack go together, after what came before the first.
                together = None if found is None else found[0]
                earlier, statements, loads = [*statements, *loads], [], []
            needed.update(earlier)
            statements.append(number)
        for value in used:
            other = maker.get(value)
            if other is not None:
                needed.add(other)
        before.append(needed)
    return before
