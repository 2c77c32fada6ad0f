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
    while True:
        units, waiting = _sorted(search)
        if not waiting:
            return units
        seeds = [p for p in waiting if p.kind == OPERATION and _weight(p.members[0].op) > 1]
        search.remove(next((p for p in reversed(waiting) if p not in seeds), waiting[-1]))


def _sorted(search: Search) -> tuple[list[Item | Pack], list[Pack]]:
    """Units in order, as far as possible, and the packs among those that are left."""
    units, unit_of = _units(search)
    before = _dependencies(search, units, unit_of)
    after: list[list[int]] = [[] for _ in units]
    missing = [len(each) for each in before]
    for number, each in enumerate(before):
        for other in each:
            after[other].append(number)
    ready = [number for number, count in enumerate(missing) if not count]
    heapq.heapify(ready)
    order: list[Item | Pack] = []
    while ready:
        number = heapq.heappop(ready)
        order.append(units[number])
        for other in after[number]:
            missing[other] -= 1
            if not missing[other]:
                heapq.heappush(ready, other)
    left = {id(u) for number, u in enumerate(units) if missing[number]}
    return order, [p for p in search.packs if id(p) in left]


def _units(search: Search) -> tuple[list[Item | Pack], list[int]]:
    """Items and packs by their first appearance, and for each item the number of its unit."""
    units: list[Item | Pack] = []
    numbers: dict[Pack, int] = {}
    unit_of: list[int] = []
    for item in search.region.items:
        place = search.place.get(item)
        number = numbers.get(place[0]) if place else None
        if number is None:
            number = len(units)
            units.append(item if place is None else place[0])
            if place:
                numbers[place[0]] = number
        unit_of.append(number)
    return units, unit_of


def _dependencies(
    search: Search, units: Sequence[Item | Pack], unit_of: Sequence[int]
) -> list[set[int]]:
    """For each unit, those that it has to follow."""
    # A pack in which one value uses another waits for itself, and so is found out.
    maker: dict[Value, int] = {}
    before: list[set[int]] = [set() for _ in units]
    statement: int | None = None
    loads: list[int] = []
    for item, number in zip(search.region.items, unit_of, strict=True):
        for value in results(item):
            maker[value] = number
    for item, number in zip(search.region.items, unit_of, strict=True):
        needed = before[number]
        if type(item) is Value:
            used: Sequence[Value] = item.args
            if item.op == "load":
                loads.append(number)
                if statement is not None:
                    needed.add(statement)
        else:
            used = reads(item)
            needed.update(loads)
            if statement is not None and statement != number:
                needed.add(statement)
            statement, loads = number, []
        for value in used:
            other = maker.get(value)
            if other is not None:
                needed.add(other)
    return before
