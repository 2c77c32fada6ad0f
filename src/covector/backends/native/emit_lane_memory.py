"""Loads and stores in loops that run in lanes: runs of elements, records, gathers and scatters."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from covector.backends.native.emit_blocks import Carried
from covector.backends.native.emit_lanes import Plan
from covector.backends.native.emit_memory import NONTEMPORAL
from covector.backends.native.emit_streams import LINE, stream_alignment
from covector.backends.native.emit_strided import (
    Record,
    every,
    exchanged,
    interleaved,
    joined,
    repeated,
)
from covector.backends.native.emit_superwords import SuperwordEmitter
from covector.backends.native.emit_types import (
    alignment,
    memory_type,
    register_type,
    splat,
    vector,
)
from covector.loopir.ir import Buffer, DType, For, Store, Value


class LaneMemory(SuperwordEmitter):
    """Emits accesses to memory, of vectors where there is a plan.

    Attributes:
        plan: of the loop being run in lanes, or `None`.
        mask: which lanes are active; `None` for all.
        lanes: vector length of what varies; 0 outside of lanes.
        vectors: the vector form of values.
        loaded: records whose fields have been loaded.
        ahead: loads that ask for an element further on, too, and how much further.
        streamed: results that are stored past the caches.
        streams: whether any has been.
        loops: of the function, by what counts.
    """

    plan: Plan | None = None
    mask: str | None = None
    vectors: dict[Value, str]
    loaded: set[Record]
    lanes = 0
    ahead: Mapping[Value, int] = MappingProxyType({})
    streamed: frozenset[Buffer] = frozenset()
    streams = False
    loops: Mapping[Value, For] = MappingProxyType({})

    def varies(self, value: Carried) -> bool:
        """Whether a value is a vector here.

        Args:
            value: visible here.

        Returns:
            False outside of lanes.
        """
        plan = self.plan
        return plan is not None and type(value) is Value and plan.stride(value) is None

    def vector(self, value: Value) -> str:
        """The vector form of a value.

        Args:
            value: visible here.

        Returns:
            The operand text.
        """
        if value.op == "const":
            return splat(value.attr, value.dtype, self.lanes)
        return self.vectors[value]

    def wide(self, value: Value) -> str:
        """The vector of a value that is the same in all lanes, or of a strided index.

        Args:
            value: visible here.

        Returns:
            A vector register.
        """
        stride = self.plan.stride(value) if self.plan else 0
        text = self.splat_register(self.use(value), value.dtype)
        if stride:
            steps = ", ".join(f"i64 {stride * k}" for k in range(self.lanes))
            text = self.define(f"add {vector('i64', self.lanes)} {text}, <{steps}>")
        return text

    def splat_register(self, text: str, dtype: DType) -> str:
        """A scalar register in every lane.

        Args:
            text: the register.
            dtype: its dtype.

        Returns:
            A vector register.
        """
        type_ = register_type(dtype, self.lanes)
        first = self.define(f"insertelement {type_} poison, {register_type(dtype)} {text}, i64 0")
        return self.define(
            f"shufflevector {type_} {first}, {type_} poison, <{self.lanes} x i32> zeroinitializer"
        )

    def load_lanes(self, value: Value) -> str:
        """Emits a load that varies.

        Args:
            value: the load.

        Returns:
            The vector.
        """
        assert self.plan is not None
        buffer: Buffer = value.attr
        offset = value.args[0]
        record = self.plan.records.get(value)
        if record is not None and record.part:
            if self.mask is None:
                self.load_parts(record, value)
                return self.vectors[value]
        elif record is not None:
            self.load_record(record, value)
            return self.vectors[value]
        if self.plan.stride(offset) == 1:
            if value in self.ahead and self.mask is None:
                self.ask_ahead(buffer, self.use(offset), self.ahead[value])
            loaded = self.load_run(buffer, self.use(offset), self.lanes, self.mask)
            return self.to_register(loaded, buffer.element, self.lanes)
        dtype, lanes = buffer.element, self.lanes
        if self.runs_backwards(offset):
            run = self.load_run(buffer, self.first_place(offset), lanes, None)
            return self.to_register(self.reversed_run(run, dtype), dtype, lanes)
        type_ = memory_type(dtype, lanes)
        gathered = self.define(
            f"call {type_} @llvm.masked.gather.{memory_suffix(dtype, lanes)}.v{lanes}p0"
            f"({self.addresses(buffer, offset)}, i32 {alignment(dtype)}, "
            f"{vector('i1', lanes)} {self.active()}, {type_} zeroinitializer)"
            f"{self.memory.scope(buffer)}"
        )
        return self.to_register(gathered, dtype, lanes)

    def runs_backwards(self, offset: Value) -> bool:
        """Whether each lane's element is before the last one's, and all lanes run."""
        return self.plan is not None and self.plan.stride(offset) == -1 and self.mask is None

    def first_place(self, offset: Value) -> str:
        """Where the run of elements begins that the last lane has the first of."""
        return self.define(f"sub i64 {self.use(offset)}, {self.lanes - 1}")

    def reversed_run(self, text: str, dtype: DType) -> str:
        """A vector, in its form in memory, from its last lane to its first."""
        type_, lanes = memory_type(dtype, self.lanes), self.lanes
        places = ", ".join(f"i32 {k}" for k in reversed(range(lanes)))
        return self.define(
            f"shufflevector {type_} {text}, {type_} poison, <{lanes} x i32> <{places}>"
        )

    def load_run(self, buffer: Buffer, offset: str, length: int, mask: str | None) -> str:
        """Emits the load of a run of elements, in their form in memory.

        Args:
            buffer: where from.
            offset: text of the offset of the first.
            length: how many.
            mask: which of them may be touched; `None` for all.

        Returns:
            The vector.
        """
        dtype, scope = buffer.element, self.memory.scope(buffer)
        pointer, type_ = self.address(buffer, offset), memory_type(dtype, length)
        if mask is None:
            return self.define(f"load {type_}, ptr {pointer}, align {alignment(dtype)}{scope}")
        return self.define(
            f"call {type_} @llvm.masked.load.{memory_suffix(dtype, length)}.p0"
            f"(ptr {pointer}, i32 {alignment(dtype)}, {vector('i1', length)} {mask}, "
            f"{type_} zeroinitializer){scope}"
        )

    def ask_ahead(self, buffer: Buffer, offset: str, further: int) -> None:
        """Emits what asks for the lines of a run of elements that is needed later.

        Args:
            buffer: where from.
            offset: text of the offset of the first element of this step.
            further: how many elements further the run is, perhaps beyond the buffer.
        """
        base, type_ = self.memory.base(buffer), memory_type(buffer.element)
        for k in range(0, self.lanes, LINE // buffer.element.itemsize):
            place = self.define(f"add i64 {offset}, {further + k}")
            place = self.define(f"getelementptr {type_}, ptr {base}, i64 {place}")
            self.lines.append(f"  call void @llvm.prefetch.p0(ptr {place}, i32 0, i32 3, i32 1)")

    def load_record(self, record: Record, value: Value) -> None:
        """Emits the load of all fields of records, when the first of them is needed.

        Args:
            record: the fields.
            value: the load of one of them.
        """
        buffer, stride, lanes = record.buffer, record.stride, self.lanes
        dtype, length = buffer.element, record.stride * self.lanes
        if record in self.loaded:
            return
        self.loaded.add(record)
        start = self.record_start(record, value, value.args[0])
        run = self.load_run(buffer, start, length, self.record_mask(stride))
        type_ = memory_type(dtype, length)
        for member, field in record.fields.items():
            mask = every(stride, field, lanes)
            one = self.define(
                f"shufflevector {type_} {run}, {type_} poison, <{lanes} x i32> {mask}"
            )
            assert isinstance(member, Value)
            self.vectors[member] = self.to_register(one, dtype, lanes)

    def load_parts(self, record: Record, value: Value) -> None:
        """Emits the load of neighbours for each lane, and their transposition.

        Rows whose numbers differ by the number of fields share a vector; pairs of vectors then
        exchange blocks, of single elements first.

        Args:
            record: the neighbours.
            value: the load of one of them.
        """
        if record in self.loaded:
            return
        self.loaded.add(record)
        dtype, lanes, count = record.buffer.element, self.lanes, len(record.fields)
        start = self.record_start(record, value, value.args[0])
        rows: list[str] = []
        for lane in range(lanes):
            place = self.define(f"add i64 {start}, {record.stride * lane}") if lane else start
            rows.append(self.load_run(record.buffer, place, count, None))
        vectors = [self.joined_rows(rows[k::count], dtype, count) for k in range(count)]
        type_, distance = memory_type(dtype, lanes), 1
        while distance < count:
            masks = [exchanged(distance, lanes, upper) for upper in (False, True)]
            for low in [k for k in range(count) if not k & distance]:
                pair = f"{type_} {vectors[low]}, {type_} {vectors[low + distance]}"
                for k, mask in zip((low, low + distance), masks, strict=True):
                    vectors[k] = self.define(f"shufflevector {pair}, <{lanes} x i32> {mask}")
            distance *= 2
        for member, field in record.fields.items():
            assert isinstance(member, Value)
            self.vectors[member] = self.to_register(vectors[field], dtype, lanes)

    def joined_rows(self, rows: list[str], dtype: DType, length: int) -> str:
        """Vectors one after the other as one.

        Args:
            rows: vectors, as many as a power of two.
            dtype: of their elements.
            length: of each.

        Returns:
            The vector.
        """
        while len(rows) > 1:
            type_, mask = memory_type(dtype, length), joined(length)
            rows = [
                self.define(f"shufflevector {type_} {a}, {type_} {b}, <{2 * length} x i32> {mask}")
                for a, b in zip(rows[::2], rows[1::2], strict=True)
            ]
            length *= 2
        return rows[0]

    def record_start(self, record: Record, member: Value | Store, offset: Value) -> str:
        """The offset of the first record, from that of one of its fields.

        Args:
            record: the fields.
            member: the access to one of them.
            offset: of that field.

        Returns:
            Its text.
        """
        text, field = self.use(offset), record.fields[member]
        return self.define(f"sub i64 {text}, {field}") if field else text

    def record_mask(self, stride: int) -> str | None:
        """The active lanes, once for each field of a record.

        Args:
            stride: fields of a record.

        Returns:
            The mask, `None` if all lanes are active.
        """
        if self.mask is None:
            return None
        type_, lanes = vector("i1", self.lanes), self.lanes
        return self.define(
            f"shufflevector {type_} {self.mask}, {type_} poison, "
            f"<{stride * lanes} x i32> {repeated(stride, lanes)}"
        )

    def store(self, item: Store) -> None:
        """Emits a store, of a vector in a loop that runs in lanes."""
        if self.plan is None:
            super().store(item)
            return
        buffer, lanes = item.buffer, self.lanes
        dtype = buffer.element
        record = self.plan.records.get(item)
        if record is not None:
            self.store_record(record, item)
            return
        stored = self.to_memory(self.vector(item.value), dtype, lanes)
        if self.plan.stride(item.offset) == 1:
            past = buffer in self.streamed and self.mask is None
            width = stream_alignment(item, self.plan, self.loops, self.target) if past else 0
            self.store_run(buffer, self.use(item.offset), stored, lanes, self.mask, width)
            self.streams = self.streams or width > 0
            return
        if self.runs_backwards(item.offset):
            place = self.first_place(item.offset)
            self.store_run(buffer, place, self.reversed_run(stored, dtype), lanes, None)
            return
        self.lines.append(
            f"  call void @llvm.masked.scatter.{memory_suffix(dtype, lanes)}.v{lanes}p0"
            f"({memory_type(dtype, lanes)} {stored}, {self.addresses(buffer, item.offset)}, "
            f"i32 {alignment(dtype)}, {vector('i1', lanes)} {self.active()})"
            f"{self.memory.scope(buffer)}"
        )

    def store_run(
        self,
        buffer: Buffer,
        offset: str,
        stored: str,
        length: int,
        mask: str | None,
        past: int = 0,
    ) -> None:
        """Emits the store of a run of elements.

        Args:
            buffer: where to.
            offset: text of the offset of the first.
            stored: the vector, in its form in memory.
            length: how many.
            mask: which of them to write; `None` for all.
            past: the bytes to which it is aligned, to store past the caches; else 0.
        """
        dtype, scope = buffer.element, self.memory.scope(buffer)
        pointer, type_ = self.address(buffer, offset), memory_type(dtype, length)
        if mask is None:
            kind = f"{scope}{NONTEMPORAL}" if past else scope
            self.lines.append(
                f"  store {type_} {stored}, ptr {pointer}, align {past or alignment(dtype)}{kind}"
            )
            return
        self.lines.append(
            f"  call void @llvm.masked.store.{memory_suffix(dtype, length)}.p0"
            f"({type_} {stored}, ptr {pointer}, i32 {alignment(dtype)}, "
            f"{vector('i1', length)} {mask}){scope}"
        )

    def store_record(self, record: Record, item: Store) -> None:
        """Emits the store of all fields of records, when the last of them is there.

        Args:
            record: the fields.
            item: the store of one of them.
        """
        dtype, lanes, stride = record.buffer.element, self.lanes, record.stride
        if item is not list(record.fields)[-1]:
            return
        members = sorted(record.fields, key=lambda m: record.fields[m])
        vectors = [
            self.to_memory(self.vector(m.value), dtype, lanes)
            for m in members
            if isinstance(m, Store)
        ]
        length = lanes
        while len(vectors) > 2:
            vectors = [
                self.join(a, b, dtype, length)
                for a, b in zip(vectors[::2], [*vectors[1::2], "poison"], strict=False)
            ]
            length *= 2
        type_ = memory_type(dtype, length)
        second = vectors[1] if len(vectors) > 1 else "poison"
        mask = interleaved(list(range(stride)), lanes)
        run = self.define(
            f"shufflevector {type_} {vectors[0]}, {type_} {second}, <{stride * lanes} x i32> {mask}"
        )
        start = self.record_start(record, item, item.offset)
        self.store_run(record.buffer, start, run, stride * lanes, self.record_mask(stride))

    def join(self, a: str, b: str, dtype: DType, length: int) -> str:
        """Appends one vector to another, both in their form in memory.

        Args:
            a: a vector.
            b: a vector.
            dtype: of both.
            length: of each.

        Returns:
            The vector of twice the length.
        """
        type_ = memory_type(dtype, length)
        return self.define(
            f"shufflevector {type_} {a}, {type_} {b}, <{2 * length} x i32> {joined(length)}"
        )

    def addresses(self, buffer: Buffer, offset: Value) -> str:
        """A vector of the addresses of elements.

        Args:
            buffer: their buffer.
            offset: an index that varies.

        Returns:
            Type and operand.
        """
        base, lanes = self.memory.base(buffer), self.lanes
        places = self.vector(offset) if self.varies(offset) else self.wide(offset)
        pointers = self.define(
            f"getelementptr inbounds {memory_type(buffer.element)}, ptr {base}, "
            f"{vector('i64', lanes)} {places}"
        )
        return f"{vector('ptr', lanes)} {pointers}"

    def active(self) -> str:
        """The mask of active lanes."""
        return self.mask or "splat (i1 true)"


def memory_suffix(dtype: DType, lanes: int) -> str:
    """How masked intrinsics name the vector type of a dtype in memory.

    Args:
        dtype: a scalar dtype.
        lanes: how many.

    Returns:
        The suffix.
    """
    element = memory_type(dtype)
    return f"v{lanes}{_SHORT.get(element, element)}"


_SHORT = {"float": "f32", "double": "f64"}
