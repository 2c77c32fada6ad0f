"""Blocks with packs of scalar operations: their vectors, and what moves in and out of lanes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from covector.backends.native.emit_blocks import BlockEmitter, Carried
from covector.backends.native.emit_memory import Memory
from covector.backends.native.emit_ops import Target
from covector.backends.native.emit_types import constant, register_type
from covector.backends.native.split import reads
from covector.backends.native.superword_plan import Packing, plan_packs
from covector.backends.native.superwords import CARRY, LOAD, OPERATION, STORE, Pack, Place, Region
from covector.loopir.ir import Block, For, If, Value, While, closing

Gathered = tuple[tuple[Value, ...], int]
"""Values that make a vector, and its lanes."""


class SuperwordEmitter(BlockEmitter):
    """Emits the bodies of loops, and branches in them, with packs where they pay.

    Args:
        target: the machine.
        memory: addresses and alias information of the function's buffers.

    Attributes:
        packs: whether to look for packs.
    """

    def __init__(self, target: Target, memory: Memory) -> None:
        super().__init__(target, memory)
        self.packs = True
        self._packings: dict[Block, Packing] = {}
        self._places: dict[Value, Place] = {}
        self._registers: dict[Pack, str] = {}
        self._gathered: dict[Gathered, str] = {}
        self._outer: list[dict[Gathered, str]] = []
        self._yields: dict[Value, Value] = {}

    # Blocks

    def block(self, block: Block) -> None:
        """Emits what is in a block, with packs if it was planned."""
        packing = self._packings.pop(block, None) if self._packings else None
        if packing is None:
            super().block(block)
            return
        outer = self._gathered
        self._gathered = dict(outer)
        for unit in self.visited(packing.order):
            if type(unit) is Pack:
                self.pack(unit)
            elif type(unit) is Value:
                self.value(unit)
            else:
                self.statement(unit)
        self._gathered = outer

    def plan_block(
        self,
        block: Block,
        carried: Sequence[tuple[Value, Value]],
        elsewhere: Iterable[Value],
        depth: int,
    ) -> Packing | None:
        """Looks for packs in a block that is about to be emitted.

        Args:
            block: the body of a loop or a side of a branch.
            carried: parameters of the loop, with what it yields for them.
            elsewhere: values used after the items of the block.
            depth: of the loop's values; 0 if nothing can be made before it.

        Returns:
            The packing, or `None` if the block stays scalar.
        """
        region = Region(block.items, carried, elsewhere, depth, self._places)
        packing = plan_packs(region, self.target)
        if packing is not None:
            self._packings[block] = packing
            self._places.update(packing.place)
        return packing

    def branch(self, item: If) -> None:
        """Emits a branch; inside of loops its sides may have packs."""
        if self.packs and item.then.depth > 1:
            for block, values in zip((item.then, item.otherwise), closing(item), strict=True):
                self.plan_block(block, (), values, depth=0)
        super().branch(item)

    def begin_loop(self, item: For | While) -> Sequence[Carried]:
        """Plans the packs of a loop, and makes the vectors that are the same in each iteration."""
        packing = self.plan_loop_body(item) if self.packs else None
        for values, lanes in packing.invariant if packing else ():
            self.vector_of(values, lanes)
        self._outer.append(self._gathered)
        self._gathered = dict(self._gathered)
        if packing is None or not packing.carries:
            return item.params
        self._yields.update(zip(item.params, item.yields, strict=True))
        packed = {member for pack in packing.carries for member in pack.members}
        return [*packing.carries, *(p for p in item.params if p not in packed)]

    def plan_loop_body(self, item: For | While) -> Packing | None:
        carried = list(zip(item.params, item.yields, strict=True))
        elsewhere: list[Value] = []
        depth = item.body.depth
        if isinstance(item, While):
            depth = item.header.depth
            elsewhere.append(item.predicate)
            for each in item.header.items:
                elsewhere += reads(each)
        return self.plan_block(item.body, carried, elsewhere, depth)

    def joined(
        self, params: Sequence[Carried], item: For | While, texts: Sequence[str]
    ) -> Sequence[str]:
        """Values of what phis stand for: those of packs are put into lanes."""
        if params is item.params:
            return texts
        text_of = dict(zip(item.params, texts, strict=True))
        return [
            self.inserted(p, [text_of[m] for m in p.members]) if isinstance(p, Pack) else text_of[p]
            for p in params
        ]

    def inserted(self, pack: Pack, texts: Sequence[str]) -> str:
        """A vector of scalars, for a carry.

        Args:
            pack: the carry.
            texts: of its lanes.

        Returns:
            The vector.
        """
        type_, scalar = register_type(pack.dtype, pack.lanes), register_type(pack.dtype)
        text = "poison"
        for lane in range(pack.lanes):
            value = texts[lane] if lane < len(texts) else texts[0]
            text = self.define(f"insertelement {type_} {text}, {scalar} {value}, i64 {lane}")
        return text

    def end_loop(self, params: Sequence[Carried], item: For | While, texts: Sequence[str]) -> None:
        """Notes the results of a loop: those of packs are taken out of their lanes."""
        self._gathered = self._outer.pop()
        if params is item.params:
            super().end_loop(params, item, texts)
            return
        result_of = dict(zip(item.params, item.results, strict=True))
        for param, text in zip(params, texts, strict=True):
            if isinstance(param, Pack):
                for lane, member in enumerate(param.members):
                    self.set_result(result_of[member], self.extracted(param, text, lane))
            else:
                self.set_result(result_of[param], text)

    def carried(self, params: Sequence[Carried], values: Sequence[Value]) -> Sequence[str]:
        """Texts of values that become those of others, as vectors for packs."""
        if not any([isinstance(p, Pack) for p in params]):
            return super().carried(params, values)
        return [
            self.vector_of(p.operands[0], p.lanes)
            if isinstance(p, Pack)
            else self.use(self._yields[p])
            for p in params
        ]

    def type_of(self, value: Carried) -> str:
        """The type of the register that holds a value or a pack."""
        return register_type(value.dtype, value.lanes if type(value) is Pack else 0)

    def name_carry(self, param: Carried, name: str) -> None:
        """Notes the register of a carry."""
        if isinstance(param, Pack):
            self._registers[param] = name
        else:
            super().name_carry(param, name)

    def entered(self, values: Sequence[Carried]) -> None:
        """Takes carries that are needed as scalars out of their lanes."""
        for value in values:
            if type(value) is Pack:
                self.extract(value)

    # Packs

    def pack(self, pack: Pack) -> None:
        """Emits a pack.

        Args:
            pack: not a carry.
        """
        assert pack.kind != CARRY
        if pack.kind == STORE:
            self.store_pack(pack)
            return
        if pack.kind == LOAD:
            text = self.load_pack(pack)
        else:
            assert pack.kind == OPERATION
            operands = [self.vector_of(values, pack.lanes) for values in pack.operands]
            text = self.operation(pack.members[0], operands, pack.lanes)
        self._registers[pack] = text
        self.extract(pack)

    def extract(self, pack: Pack) -> None:
        """Takes lanes that are needed as scalars out of a pack."""
        for lane in pack.scalars:
            self.names[pack.members[lane]] = self.extracted(pack, self._registers[pack], lane)

    def extracted(self, pack: Pack, text: str, lane: int) -> str:
        """One lane.

        Args:
            pack: gives the type.
            text: the vector.
            lane: which.

        Returns:
            The scalar.
        """
        type_ = register_type(pack.dtype, pack.lanes)
        return self.define(f"extractelement {type_} {text}, i64 {lane}")

    def load_pack(self, pack: Pack) -> str:
        """Emits the load of neighbouring elements.

        Args:
            pack: of loads.

        Returns:
            The vector.
        """
        first, count = pack.members[0], len(pack.members)
        text = self.load(first.attr, count, self.use(first.args[0]))
        if count == pack.lanes:
            return text
        places = [lane if lane < count else 0 for lane in range(pack.lanes)]
        return self.shuffled(register_type(pack.dtype, count), text, "poison", places)

    def store_pack(self, pack: Pack) -> None:
        """Emits the store of neighbouring elements.

        Args:
            pack: of stores.
        """
        first, count = pack.members[0], len(pack.members)
        text = self.vector_of(pack.operands[0], pack.lanes)
        if count < pack.lanes:
            type_ = register_type(pack.dtype, pack.lanes)
            text = self.shuffled(type_, text, "poison", range(count))
        self.store_text(first.buffer, self.use(first.offset), text, count)

    # Vectors of values

    def vector_of(self, values: tuple[Value, ...], lanes: int) -> str:
        """Values in lanes.

        Args:
            values: of one dtype.
            lanes: how many; those beyond the values repeat the first.

        Returns:
            The vector.
        """
        place = self._places.get(values[0])
        if place is not None and place[0].members == values and place[0].lanes == lanes:
            return self._registers[place[0]]
        key = (values, lanes)
        known = self._gathered.get(key)
        if known is None:
            padded = values + values[:1] * (lanes - len(values))
            known = self._gathered[key] = self.gathered(padded)
        return known

    def gathered(self, values: tuple[Value, ...]) -> str:
        """A vector made of lanes of others, constants and scalars.

        Args:
            values: of its lanes.

        Returns:
            The vector.
        """
        dtype, lanes = values[0].dtype, len(values)
        type_, scalar = register_type(dtype, lanes), register_type(dtype)
        if len(set(values)) == 1 and values[0].op != "const" and values[0] not in self._places:
            first = f"insertelement {type_} poison, {scalar} {self.use(values[0])}, i64 0"
            return self.shuffled(type_, self.define(first), "poison", [0] * lanes)
        text = self.constants(values)
        for pack in dict.fromkeys(self._places[v][0] for v in values if v in self._places):
            text = self.with_lanes_of(pack, values, text)
        for lane, value in enumerate(values):
            if value.op != "const" and value not in self._places:
                text = self.define(
                    f"insertelement {type_} {text}, {scalar} {self.use(value)}, i64 {lane}"
                )
        return text

    def constants(self, values: tuple[Value, ...]) -> str:
        """A vector of the constants among values, the other lanes to be filled."""
        dtype = values[0].dtype
        scalar = register_type(dtype)
        if not any([v.op == "const" for v in values]):
            return "poison"
        texts = [constant(v.attr, dtype) if v.op == "const" else "poison" for v in values]
        if len(set(texts)) == 1:
            return f"splat ({scalar} {texts[0]})"
        return f"<{', '.join(f'{scalar} {text}' for text in texts)}>"

    def with_lanes_of(self, pack: Pack, values: tuple[Value, ...], text: str) -> str:
        """A vector with lanes taken from a pack.

        Args:
            pack: where from.
            values: those that are in the pack are taken.
            text: the vector so far.

        Returns:
            The vector.
        """
        lanes = len(values)
        type_ = register_type(pack.dtype, lanes)
        taken = [self._places[v][1] if self.is_in(v, pack) else None for v in values]
        source = self._registers[pack]
        if pack.lanes != lanes:
            source = self.shuffled(register_type(pack.dtype, pack.lanes), source, "poison", taken)
            taken = [None if place is None else lane for lane, place in enumerate(taken)]
        if text == "poison":
            return self.shuffled(type_, source, "poison", taken)
        merged = [lanes + k if place is None else place for k, place in enumerate(taken)]
        return self.shuffled(type_, source, text, merged)

    def is_in(self, value: Value, pack: Pack) -> bool:
        """Whether a value is a member of a pack."""
        place = self._places.get(value)
        return place is not None and place[0] is pack

    def shuffled(self, type_: str, a: str, b: str, places: Iterable[int | None]) -> str:
        """Lanes of two vectors.

        Args:
            type_: of both.
            a: lanes 0 and on.
            b: the lanes after those.
            places: which lanes; `None` for any.

        Returns:
            The vector.
        """
        mask = ", ".join("i32 poison" if p is None else f"i32 {p}" for p in places)
        count = mask.count("i32")
        return self.define(f"shufflevector {type_} {a}, {type_} {b}, <{count} x i32> <{mask}>")
