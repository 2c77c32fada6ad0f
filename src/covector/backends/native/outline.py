"""Parallel loops become functions, which the thread pool calls for pieces of their ranges.

%1 = load x[0]                              %1 = load x[0]
for %2 in 0..1000 parallel {                store frame[0] = %1
  %3 = load y[%2]                           run entry.loop1 parallel in 0..1000 by 20
  %4 = add %3, %1
  store z[%2] = %4                      function entry.loop1(%begin, %end)
}                                           %1 = reload frame[0]
                                            for %2 in %begin..%end {
                                              ...
                                            }
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from covector.backends.native.remade import recipe
from covector.backends.native.split import all_touched, defined_inside, new_frame, used_in
from covector.loopir.ir import (
    INDEX,
    PARALLEL,
    SERIAL,
    Block,
    Buffer,
    DType,
    For,
    Function,
    Parallel,
    Reload,
    Segment,
    Store,
    Value,
    children,
)
from covector.loopir.printer import short_name


def outline(function: Function) -> int:
    """Makes the parallel loops of a function, and of the pieces it is split into, functions.

    Args:
        function: changed in place; frames are added to its workspace.

    Returns:
        How many there are.
    """
    outliner = _Outliner(function)
    outliner.block(function.body)
    return outliner.count


class _Outliner:
    def __init__(self, function: Function) -> None:
        self.function = function
        self.count = 0

    def block(self, block: Block, owner: Function | None = None) -> None:
        """Outlines the loops of a block.

        Args:
            block: changed in place.
            owner: the piece it belongs to, of which frames are buffers too.
        """
        items: list[Any] = []
        for item in block.items:
            if isinstance(item, For) and item.kind == PARALLEL:
                items += self.loop(item, owner)
                continue
            items.append(item)
            if isinstance(item, Segment):
                self.block(item.function.body, item.function)
            for child in children(item):
                self.block(child, owner)
        block.items = items

    def loop(self, loop: For, owner: Function | None) -> list[Any]:
        """What replaces a loop: values saved for it, and the run of its function."""
        self.count += 1
        inside = set(defined_inside(loop))
        used = dict.fromkeys(used_in(loop.body))
        outside = {v: recipe(v) for v in used if v.op != "const" and v not in inside}
        places = self.places([v for v, again in outside.items() if not again])
        made = dict.fromkeys(itertools.chain(*outside.values()))
        lower, upper = loop.lower, loop.upper
        begin, end = (self.index("parameter", None) for _ in range(2))
        loop.lower, loop.upper, loop.kind = begin, end, SERIAL
        function = Function(f"{self.function.name}.loop{self.count}")
        function.params = [begin, end]
        function.body.items = [*[Reload(v, *place) for v, place in places.items()], *made, loop]
        function.buffers = list(dict.fromkeys(all_touched(function.body.items)))
        function.values = self.function.values
        if owner is not None:
            owner.buffers = list(dict.fromkeys([*owner.buffers, *(b for b, _ in places.values())]))
        saves = [Store(b, self.index("const", slot), v) for v, (b, slot) in places.items()]
        run = Parallel(function, lower, upper, loop.grain, loop.private_bytes)
        return [*saves, run]

    def places(self, values: Iterable[Value]) -> dict[Value, tuple[Buffer, int]]:
        """A slot in a frame for each value."""
        by_dtype: dict[DType, list[Value]] = {}
        for value in values:
            by_dtype.setdefault(value.dtype, []).append(value)
        places: dict[Value, tuple[Buffer, int]] = {}
        for dtype, members in by_dtype.items():
            name = f"loop{self.count}.{short_name(dtype)}"
            frame = new_frame(self.function, name, dtype, len(members))
            places.update({v: (frame, slot) for slot, v in enumerate(members)})
        return places

    def index(self, op: str, attr: int | None) -> Value:
        number = self.function.values
        self.function.values = number + 1
        return Value(op, (), attr, INDEX, number, 0)
