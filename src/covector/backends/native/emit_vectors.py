"""Loops that run in lanes: what varies becomes vectors, branches that vary become masks.

A loop of unknown or odd length ends with one more step in which lanes beyond the end are masked
off, or with a scalar loop where the machine has no masked memory operations.
"""

from __future__ import annotations

from collections.abc import Sequence

from covector.backends.native import emit_ops
from covector.backends.native.emit_blocks import BlockEmitter
from covector.backends.native.emit_lanes import Plan, Reduction, is_plain, plan_loop
from covector.backends.native.emit_types import (
    alignment,
    constant,
    memory_type,
    register_type,
    splat,
    vector,
)
from covector.loopir.ir import (
    BOOL,
    INDEX,
    Block,
    Buffer,
    Check,
    DType,
    For,
    If,
    Store,
    Value,
    While,
    walk,
)
from covector.loopir.scalars import F32, F64, RANGE

LARGE_BODY = 200
"""Items of a body from which on a loop's last, partial step is not emitted separately."""

PLAIN_SIDE = 12
"""Operations of one side of a varying branch up to which both sides simply run."""


class Emitter(BlockEmitter):
    """Emits functions, running loops in lanes where that is possible.

    Attributes:
        plan: of the loop being run in lanes, or `None`.
        mask: which lanes are active; `None` for all.
        vectors: the vector form of values.
    """

    plan: Plan | None = None
    mask: str | None = None
    vectors: dict[Value, str]

    def block(self, block: Block) -> None:
        """Emits what is in a block, in lanes inside of loops that run in lanes."""
        if self.plan is None:
            super().block(block)
            return
        for item in block.items:
            if type(item) is Value:
                self.lanes_value(item)
            else:
                self.statement(item)

    # Values

    def lanes_value(self, value: Value) -> None:
        """Emits a value, as a vector if it varies.

        Args:
            value: in the loop that runs in lanes.
        """
        plan = self.plan
        assert plan is not None
        if plan.strides.get(value, 0) is not None:
            self.value(value)
            if value in plan.widened:
                self.widen(value)
        elif value.op == "load":
            self.vectors[value] = self.load_lanes(value)
        else:
            args = [self.vector(a) for a in value.args]
            if value.op == "call":
                self.vectors[value] = self.call_lanes(value, args)
            else:
                self.vectors[value] = self.operation(value, args, plan.lanes)

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

    def widen(self, value: Value) -> None:
        """Makes the vector form of a value that is the same in all lanes, or a strided index.

        Args:
            value: visible here.
        """
        stride = self.plan.stride(value) if self.plan else 0
        text = self.splat_register(self.use(value), value.dtype)
        if stride:
            steps = ", ".join(f"i64 {stride * k}" for k in range(self.lanes))
            text = self.define(f"add {vector('i64', self.lanes)} {text}, <{steps}>")
        self.vectors[value] = text

    def splat_register(self, text: str, dtype: DType) -> str:
        """A scalar register in every lane.

        Args:
            text: the register.
            dtype: its dtype.

        Returns:
            A vector register.
        """
        type_ = register_type(dtype, self.lanes)
        first = self.define(
            f"insertelement {type_} poison, {register_type(dtype)} {text}, i64 0"
        )
        return self.define(
            f"shufflevector {type_} {first}, {type_} poison, <{self.lanes} x i32> zeroinitializer"
        )

    def call_lanes(self, value: Value, args: Sequence[str]) -> str:
        """Calls an external function once for each lane.

        Args:
            value: the call.
            args: vector operands.

        Returns:
            The vector of results.
        """
        out = register_type(value.dtype, self.lanes)
        places = [self.spill(register_type(a.dtype, self.lanes)) for a in value.args]
        for arg, text, place in zip(value.args, args, places, strict=True):
            self.lines.append(f"  store {register_type(arg.dtype, self.lanes)} {text}, ptr {place}")
        results = self.spill(out)
        head, done, before = self.new_label(), self.new_label(), self.label
        self.jump(head)
        self.start(head)
        lane, following = self.fresh(), f"%next.{len(self.allocas)}"
        self.lines.append(f"  {lane} = phi i64 [ 0, %{before} ], [ {following}, %{head} ]")
        scalars: list[str] = []
        for arg, place in zip(value.args, places, strict=True):
            scalar = register_type(arg.dtype)
            where = self.define(f"getelementptr inbounds {scalar}, ptr {place}, i64 {lane}")
            scalars.append(self.define(f"load {scalar}, ptr {where}"))
        one = self.pure_call(value, scalars)
        scalar = register_type(value.dtype)
        where = self.define(f"getelementptr inbounds {scalar}, ptr {results}, i64 {lane}")
        self.lines.append(f"  store {scalar} {one}, ptr {where}")
        self.lines.append(f"  {following} = add nuw nsw i64 {lane}, 1")
        more = self.define(f"icmp ult i64 {following}, {self.lanes}")
        self.jump_if(more, head, done, self.memory.vector_loop_metadata())
        self.start(done)
        return self.define(f"load {out}, ptr {results}")

    def spill(self, type_: str) -> str:
        """Space on the stack.

        Args:
            type_: what it holds.

        Returns:
            Its address.
        """
        name = f"%spill{len(self.allocas)}"
        self.allocas.append(f"  {name} = alloca {type_}")
        return name

    # Memory

    def load_lanes(self, value: Value) -> str:
        """Emits a load that varies.

        Args:
            value: the load.

        Returns:
            The vector.
        """
        buffer: Buffer = value.attr
        offset = value.args[0]
        dtype, lanes = buffer.element, self.lanes
        type_ = memory_type(dtype, lanes)
        if self.plan and self.plan.stride(offset) == 1:
            if self.mask is None:
                return self.load(buffer, lanes, self.use(offset))
            pointer, name, where = self.address(buffer, self.use(offset)), "load", "p0"
            place = f"ptr {pointer}"
        else:
            place, name = self.addresses(buffer, offset), "gather"
            where = f"v{lanes}p0"
        masked = self.define(
            f"call {type_} @llvm.masked.{name}.{self.memory_suffix(dtype)}.{where}"
            f"({place}, i32 {alignment(dtype)}, {vector('i1', lanes)} {self.active()}, "
            f"{type_} zeroinitializer){self.memory.scope(buffer)}"
        )
        return self.to_register(masked, dtype, lanes)

    def store(self, item: Store) -> None:
        """Emits a store, of a vector in a loop that runs in lanes."""
        if self.plan is None:
            super().store(item)
            return
        buffer, lanes = item.buffer, self.lanes
        dtype = buffer.element
        text = self.vector(item.value)
        if self.plan.stride(item.offset) == 1:
            if self.mask is None:
                self.store_text(buffer, self.use(item.offset), text, lanes)
                return
            place, name = f"ptr {self.address(buffer, self.use(item.offset))}", "store"
            where = "p0"
        else:
            place, name = self.addresses(buffer, item.offset), "scatter"
            where = f"v{lanes}p0"
        stored = self.to_memory(text, dtype, lanes)
        self.lines.append(
            f"  call void @llvm.masked.{name}.{self.memory_suffix(dtype)}.{where}"
            f"({memory_type(dtype, lanes)} {stored}, {place}, i32 {alignment(dtype)}, "
            f"{vector('i1', lanes)} {self.active()}){self.memory.scope(buffer)}"
        )

    def memory_suffix(self, dtype: DType) -> str:
        """How masked intrinsics name the vector type of a dtype in memory."""
        element = memory_type(dtype)
        return f"v{self.lanes}{ {'float': 'f32', 'double': 'f64'}.get(element, element) }"

    def addresses(self, buffer: Buffer, offset: Value) -> str:
        """A vector of the addresses of elements.

        Args:
            buffer: their buffer.
            offset: an index that varies.

        Returns:
            Type and operand.
        """
        base, lanes = self.memory.base(buffer), self.lanes
        pointers = self.define(
            f"getelementptr inbounds {memory_type(buffer.element)}, ptr {base}, "
            f"{vector('i64', lanes)} {self.vector(offset)}"
        )
        return f"{vector('ptr', lanes)} {pointers}"

    def active(self) -> str:
        """The mask of active lanes."""
        return self.mask or "splat (i1 true)"

    # Masks

    def both(self, condition: str) -> str:
        """The active lanes for which a condition holds.

        Args:
            condition: a vector of i1.

        Returns:
            The mask.
        """
        if self.mask is None:
            return condition
        return self.define(f"and {vector('i1', self.lanes)} {self.mask}, {condition}")

    def any(self, mask: str) -> str:
        """Whether any lane of a mask is set.

        Args:
            mask: a vector of i1.

        Returns:
            An i1.
        """
        type_ = vector("i1", self.lanes)
        return self.define(f"call i1 @llvm.vector.reduce.or.v{self.lanes}i1({type_} {mask})")

    def blend(self, mask: str, a: str, b: str, dtype: DType) -> str:
        """`a` in the lanes of a mask, else `b`.

        Args:
            mask: a vector of i1.
            a: a vector.
            b: a vector.
            dtype: of both.

        Returns:
            The vector.
        """
        if a == b:
            return a
        type_ = register_type(dtype, self.lanes)
        return self.define(f"select {vector('i1', self.lanes)} {mask}, {type_} {a}, {type_} {b}")

    def check(self, item: Check) -> None:
        """Emits a check of all active lanes."""
        if self.plan is None or self.plan.stride(item.ok) is not None:
            super().check(item)
            return
        type_ = vector("i1", self.lanes)
        failed = self.define(f"xor {type_} {self.vector(item.ok)}, splat (i1 true)")
        self.leave_if(self.any(self.both(failed)), item.site + 1)

    # Loops in lanes

    def loop(self, item: For) -> None:
        """Emits a loop, in lanes if it qualifies."""
        if self.plan is not None:
            self.uniform_loop(item)
            return
        plan = plan_loop(item, self.target)
        if plan is None:
            super().loop(item)
        else:
            self.lanes_loop(item, plan)

    def lanes_loop(self, item: For, plan: Plan) -> None:
        """Emits whole steps of a loop in lanes, and what remains after them.

        Args:
            item: the loop.
            plan: how it runs.
        """
        lanes, trips = plan.lanes, item.trips
        masks = self.target.masks
        if trips is not None and trips < lanes and not masks:
            super().loop(item)
            return
        self.enter(item, plan)
        lower, upper = self.use(item.lower), self.use(item.upper)
        size = sum(1 for _ in walk(item.body))
        rest = None if trips is None else trips % lanes
        carries = [self.start_reduction(r) for r in plan.reductions]
        if rest and masks and (size > LARGE_BODY or (trips or 0) < lanes):
            carries = self.steps(item, lower, upper, carries, trips, masked=True)
            self.finish_reductions(item, carries)
            self.exit()
            return
        end = self.last_step(item, lower, upper, lanes)
        carries = self.steps(item, lower, end, carries, trips, masked=False)
        if rest == 0:
            self.finish_reductions(item, carries)
            self.exit()
        elif masks:
            carries = self.partial_step(item, end, upper, carries, rest)
            self.finish_reductions(item, carries)
            self.exit()
        else:
            self.finish_reductions(item, carries)
            self.exit()
            self.scalar_rest(item, end, upper, rest is None)

    def enter(self, item: For, plan: Plan) -> None:
        """Begins code in lanes: values from outside get their vector form.

        Args:
            item: the loop.
            plan: how it runs.
        """
        self.plan, self.lanes, self.vectors, self.mask = plan, plan.lanes, {}, None
        for value in sorted(plan.widened, key=lambda v: v.id):
            if value not in plan.strides:
                self.widen(value)

    def exit(self) -> None:
        """Ends code in lanes."""
        self.plan, self.lanes, self.mask = None, 0, None

    def last_step(self, item: For, lower: str, upper: str, lanes: int) -> str:
        """The index after the last whole step.

        Args:
            item: the loop.
            lower: text of the first index.
            upper: text of the bound.
            lanes: of a step.

        Returns:
            Its text.
        """
        trips = item.trips
        if trips is not None:
            return constant(item.lower.attr + trips - trips % lanes, INDEX)
        count = self.define(f"sub i64 {upper}, {lower}")
        count = self.define(f"call i64 @llvm.smax.i64(i64 {count}, i64 0)")
        whole = self.define(f"and i64 {count}, {-lanes}")
        return self.define(f"add i64 {lower}, {whole}")

    def steps(
        self,
        item: For,
        lower: str,
        upper: str,
        carries: list[str],
        trips: int | None,
        masked: bool,
    ) -> list[str]:
        """Emits the loop over steps of all lanes.

        Args:
            item: the loop.
            lower: text of the first index.
            upper: text of the bound; a multiple of the lanes away unless masked.
            carries: vectors of the carries on entry.
            trips: iterations, if known.
            masked: whether the last step is partial.

        Returns:
            Vectors of the carries after it.
        """
        whole = None if trips is None else -(-trips // self.lanes) if masked else trips // self.lanes
        if whole == 1:
            self.names[item.index] = lower
            return self.step(item, lower, upper if masked else None, carries)
        head, done, before = self.new_label(), self.new_label(), self.label
        if whole is None:
            self.jump_if(self.define(f"icmp slt i64 {lower}, {upper}"), head, done)
        else:
            self.jump(head)
        self.start(head)
        index, position = self.fresh(), self.reserve()
        phis = [(self.fresh(), self.reserve(), p) for p in item.params]
        heads = [name for name, _, _ in phis]
        lasts = self.step(item, index, upper if masked else None, heads)
        following = self.define(f"add nsw i64 {index}, {self.lanes}")
        if item.poll_every:
            count = self.define(f"sub i64 {following}, {lower}")
            self.poll_every(count, max(item.poll_every, self.lanes))
        more = self.define(f"icmp slt i64 {following}, {upper}")
        self.jump_if(more, head, done, self.memory.vector_loop_metadata())
        latch = self.label
        self.lines[position] = (
            f"  {index} = phi i64 [ {lower}, %{before} ], [ {following}, %{latch} ]"
        )
        for (name, line, param), init, last in zip(phis, carries, lasts, strict=True):
            type_ = register_type(param.dtype, self.lanes)
            self.lines[line] = f"  {name} = phi {type_} [ {init}, %{before} ], [ {last}, %{latch} ]"
        self.start(done)
        if whole is not None:
            return lasts
        return [
            self.define(
                f"phi {register_type(p.dtype, self.lanes)} "
                f"[ {init}, %{before} ], [ {last}, %{latch} ]"
            )
            for p, init, last in zip(item.params, carries, lasts, strict=True)
        ]

    def step(self, item: For, index: str, upper: str | None, carries: Sequence[str]) -> list[str]:
        """Emits one step of all lanes.

        Args:
            item: the loop.
            index: text of the first lane's index.
            upper: bound beyond which lanes are masked off, or `None`.
            carries: vectors of the carries.

        Returns:
            Vectors of the next carries.
        """
        self.names[item.index] = index
        if upper is not None:
            self.mask = self.lanes_below(index, upper)
        if self.plan and item.index in self.plan.widened:
            self.widen(item.index)
        for param, name in zip(item.params, carries, strict=True):
            self.vectors[param] = name
        self.block(item.body)
        lasts = [self.vector(v) for v in item.yields]
        if self.mask is not None:
            lasts = [
                self.blend(self.mask, last, carry, p.dtype)
                for last, carry, p in zip(lasts, carries, item.params, strict=True)
            ]
        self.mask = None
        return lasts

    def lanes_below(self, index: str, upper: str) -> str:
        """The mask of lanes whose index is below a bound.

        Args:
            index: of the first lane.
            upper: the bound.

        Returns:
            The mask.
        """
        lanes = self.lanes
        if index.isdecimal() and upper.isdecimal():
            bits = ", ".join(f"i1 {'true' if k < int(upper) - int(index) else 'false'}" for k in range(lanes))
            return f"<{bits}>"
        left = self.define(f"sub i64 {upper}, {index}")
        left = self.define(f"call i64 @llvm.smin.i64(i64 {left}, i64 {lanes})")
        narrow = self.define(f"trunc i64 {left} to i8")
        type_ = vector("i8", lanes)
        first = self.define(f"insertelement {type_} poison, i8 {narrow}, i64 0")
        many = self.define(
            f"shufflevector {type_} {first}, {type_} poison, <{lanes} x i32> zeroinitializer"
        )
        numbers = ", ".join(f"i8 {k}" for k in range(lanes))
        return self.define(f"icmp ult {type_} <{numbers}>, {many}")

    def partial_step(
        self, item: For, end: str, upper: str, carries: list[str], rest: int | None
    ) -> list[str]:
        """Emits the step of the lanes that remain.

        Args:
            item: the loop.
            end: text of the first index that remains.
            upper: text of the bound.
            carries: vectors of the carries.
            rest: how many remain, if known.

        Returns:
            Vectors of the carries after it.
        """
        if rest is not None:
            return self.step(item, end, upper, carries)
        body, done, before = self.new_label(), self.new_label(), self.label
        self.jump_if(self.define(f"icmp slt i64 {end}, {upper}"), body, done)
        self.start(body)
        lasts = self.step(item, end, upper, carries)
        self.jump(done)
        after = self.label
        self.start(done)
        return [
            self.define(
                f"phi {register_type(p.dtype, self.lanes)} "
                f"[ {carry}, %{before} ], [ {last}, %{after} ]"
            )
            for p, carry, last in zip(item.params, carries, lasts, strict=True)
        ]

    def scalar_rest(self, item: For, end: str, upper: str, guarded: bool) -> None:
        """Emits a scalar loop over what remains, from the carries so far.

        Args:
            item: the loop.
            end: text of the first index that remains.
            upper: text of the bound.
            guarded: whether nothing may remain.
        """
        self.counted(item, end, upper, [self.use(v) for v in item.results], guarded)

    # Reductions

    def start_reduction(self, reduction: Reduction) -> str:
        """The vector that leaves a reduction as it is.

        Args:
            reduction: the carry.

        Returns:
            The identity of its operation in every lane.
        """
        return splat(identity(reduction.op, reduction.param.dtype), reduction.param.dtype, self.lanes)

    def finish_reductions(self, item: For, carries: Sequence[str]) -> None:
        """Combines the lanes of each carry in halves, then with its value on entry.

        Args:
            item: the loop.
            carries: vectors of the carries.
        """
        assert self.plan is not None
        for reduction, result, init, text in zip(
            self.plan.reductions, item.results, item.inits, carries, strict=True
        ):
            dtype, lanes = result.dtype, self.lanes
            while lanes > 1:
                lanes //= 2
                halves = [self.half(text, dtype, lanes, first) for first in (0, lanes)]
                text = self.combine(reduction.op, dtype, lanes, *halves)
            type_ = register_type(dtype, 1)
            total = self.define(f"extractelement {type_} {text}, i64 0")
            self.names[result] = self.combine(reduction.op, dtype, 0, self.use(init), total)

    def half(self, text: str, dtype: DType, lanes: int, first: int) -> str:
        """Neighbouring lanes of a vector twice as long.

        Args:
            text: the vector.
            dtype: its dtype.
            lanes: how many to take.
            first: the first of them.

        Returns:
            The shorter vector.
        """
        type_ = register_type(dtype, 2 * lanes)
        chosen = ", ".join(f"i32 {first + k}" for k in range(lanes))
        return self.define(f"shufflevector {type_} {text}, {type_} poison, <{lanes} x i32> <{chosen}>")

    def combine(self, op: str, dtype: DType, lanes: int, a: str, b: str) -> str:
        """Applies the operation of a reduction.

        Args:
            op: the operation.
            dtype: of both operands.
            lanes: of both operands.
            a: an operand.
            b: an operand.

        Returns:
            The result.
        """
        text = emit_ops.template(op, None, dtype, lanes, self.target)
        number = self.count
        self.count = number + 1
        self.lines.append(text.format(number, a, b))
        return f"%{number}"

    # Control flow inside lanes

    def uniform_loop(self, item: For) -> None:
        """Emits a loop inside lanes, whose bounds are the same in all of them.

        Args:
            item: the statement.
        """
        assert self.plan is not None
        lower, upper, guarded = self.use(item.lower), self.use(item.upper), item.trips is None
        inits = self.carried(item.params, item.inits)
        head, done, before = self.new_label(), self.new_label(), self.label
        if guarded:
            self.jump_if(self.define(f"icmp slt i64 {lower}, {upper}"), head, done)
        else:
            self.jump(head)
        self.start(head)
        index = self.names[item.index] = self.fresh()
        position = self.reserve()
        phis = self.open_lane_phis(item.params)
        if item.index in self.plan.widened:
            self.widen(item.index)
        self.widen_params(item.params)
        self.block(item.body)
        following = self.define(f"add nsw i64 {index}, {item.step}")
        if item.poll_every:
            count = self.define(f"sub i64 {following}, {lower}")
            self.poll_every(count, item.poll_every * item.step)
        more = self.define(f"icmp slt i64 {following}, {upper}")
        self.jump_if(more, head, done, self.memory.vector_loop_metadata())
        latch = self.label
        self.lines[position] = (
            f"  {index} = phi i64 [ {lower}, %{before} ], [ {following}, %{latch} ]"
        )
        lasts = self.carried(item.params, item.yields)
        self.close_phis(phis, before, inits, lasts)
        self.start(done)
        for (_, _, type_), result, init, last in zip(phis, item.results, inits, lasts, strict=True):
            if guarded:
                last = self.define(f"phi {type_} [ {init}, %{before} ], [ {last}, %{latch} ]")
            self.set_result(result, last)

    def carried(self, params: Sequence[Value], values: Sequence[Value]) -> list[str]:
        """Texts of values for carries, as vectors for those that vary.

        Args:
            params: the carries.
            values: what they become.

        Returns:
            The texts.
        """
        assert self.plan is not None
        plan = self.plan
        return [
            self.vector(v) if plan.stride(p) is None else self.use(v)
            for p, v in zip(params, values, strict=True)
        ]

    def open_lane_phis(self, params: Sequence[Value]) -> list[tuple[int, str, str]]:
        """Begins the phis of carries, as vectors for those that vary.

        Args:
            params: the carries.

        Returns:
            For each, the position of its line, its register and its type.
        """
        assert self.plan is not None
        phis: list[tuple[int, str, str]] = []
        for param in params:
            name = self.fresh()
            varies = self.plan.stride(param) is None
            (self.vectors if varies else self.names)[param] = name
            type_ = register_type(param.dtype, self.lanes if varies else 0)
            phis.append((self.reserve(), name, type_))
        return phis

    def widen_params(self, params: Sequence[Value]) -> None:
        """Gives carries that do not vary their vector form where it is needed.

        Args:
            params: the carries.
        """
        assert self.plan is not None
        for param in params:
            if param in self.plan.widened and self.plan.stride(param) is not None:
                self.widen(param)

    def set_result(self, result: Value, text: str) -> None:
        """Names the result of a statement.

        Args:
            result: the value.
            text: a vector if it varies.
        """
        assert self.plan is not None
        if self.plan.stride(result) is None:
            self.vectors[result] = text
        else:
            self.names[result] = text
            if result in self.plan.widened:
                self.widen(result)

    def while_loop(self, item: While) -> None:
        """Emits a loop with a condition; in lanes it runs until no lane goes on."""
        if self.plan is None:
            super().while_loop(item)
            return
        varying = self.plan.stride(item.predicate) is None
        inits = self.carried(item.params, item.inits)
        head, body, done = self.new_label(), self.new_label(), self.new_label()
        outer, before = self.mask, self.label
        mask_type = vector("i1", self.lanes)
        entering = self.active()
        self.jump(head)
        self.start(head)
        going, position = self.fresh(), self.reserve()
        count, count_position = self.fresh(), self.reserve()
        phis = self.open_lane_phis(item.params)
        self.widen_params(item.params)
        if varying:
            self.mask = going
        self.block(item.header)
        if varying:
            self.mask = self.both(self.vector(item.predicate))
            condition = self.any(self.mask)
        else:
            condition = self.use(item.predicate)
        self.jump_if(condition, body, done)
        self.start(body)
        self.block(item.body)
        lasts = self.carried(item.params, item.yields)
        self.close_count(count_position, count, before, item.poll_every)
        still = self.mask if varying and self.mask else entering
        if varying:
            lasts = [
                self.blend(still, last, name, p.dtype) if self.plan.stride(p) is None else last
                for last, (_, name, _), p in zip(lasts, phis, item.params, strict=True)
            ]
        self.lines[position] = (
            f"  {going} = phi {mask_type} [ {entering}, %{before} ], [ {still}, %{self.label} ]"
        )
        self.close_phis(phis, before, inits, lasts)
        self.lines.append(f"  br label %{head}{self.memory.vector_loop_metadata()}")
        self.start(done)
        self.mask = outer
        for result, (_, name, _) in zip(item.results, phis, strict=True):
            self.set_result(result, name)

    def branch(self, item: If) -> None:
        """Emits a branch; in lanes that disagree, both sides run under masks."""
        if self.plan is None:
            super().branch(item)
        elif self.plan.stride(item.predicate) is not None:
            self.uniform_branch(item)
        else:
            self.masked_branch(item)

    def uniform_branch(self, item: If) -> None:
        """Emits a branch that all lanes take together.

        Args:
            item: the statement.
        """
        then, otherwise, done = self.new_label(), self.new_label(), self.new_label()
        self.jump_if(self.use(item.predicate), then, otherwise)
        sides: list[tuple[list[str], str]] = []
        for label, block, values in (
            (then, item.then, item.then_values),
            (otherwise, item.otherwise, item.else_values),
        ):
            self.start(label)
            self.block(block)
            sides.append((self.carried(item.results, values), self.label))
            self.jump(done)
        self.start(done)
        (first, here), (second, there) = sides
        for result, one, other in zip(item.results, first, second, strict=True):
            varies = self.plan is not None and self.plan.stride(result) is None
            type_ = register_type(result.dtype, self.lanes if varies else 0)
            text = self.define(f"phi {type_} [ {one}, %{here} ], [ {other}, %{there} ]")
            self.set_result(result, text)

    def masked_branch(self, item: If) -> None:
        """Emits a branch on which lanes may disagree.

        Args:
            item: the statement.
        """
        outer = self.mask
        condition = self.vector(item.predicate)
        opposite = self.define(f"xor {vector('i1', self.lanes)} {condition}, splat (i1 true)")
        first = self.side(item.then, item.then_values, self.both(condition))
        self.mask = outer
        second = self.side(item.otherwise, item.else_values, self.both(opposite))
        self.mask = outer
        for result, one, other in zip(item.results, first, second, strict=True):
            self.set_result(result, self.blend(condition, one, other, result.dtype))

    def side(self, block: Block, values: Sequence[Value], mask: str) -> list[str]:
        """Emits one side of a branch, jumped over if no lane needs it.

        Args:
            block: the side.
            values: what it gives.
            mask: lanes that need it.

        Returns:
            Vectors of the values.
        """
        if is_plain(block, PLAIN_SIDE):
            self.block(block)
            return [self.vector(v) for v in values]
        body, done, before = self.new_label(), self.new_label(), self.label
        self.jump_if(self.any(mask), body, done)
        self.start(body)
        self.mask = mask
        self.block(block)
        texts = [self.vector(v) for v in values]
        after = self.label
        self.jump(done)
        self.start(done)
        return [
            self.define(
                f"phi {register_type(v.dtype, self.lanes)} [ {text}, %{after} ], "
                f"[ {splat(_zero(v.dtype), v.dtype, self.lanes)}, %{before} ]"
            )
            for v, text in zip(values, texts, strict=True)
        ]


def identity(op: str, dtype: DType) -> bool | int | float:
    """What an operation leaves other operands unchanged with.

    Args:
        op: an operation that reductions use.
        dtype: of the operands.

    Returns:
        A constant of the dtype.
    """
    if dtype is BOOL:
        return op in ("and", "min", "mul")
    if dtype is F32 or dtype is F64:
        return {"add": -0.0, "mul": 1.0, "min": float("inf"), "max": -float("inf")}[op]
    low, high = RANGE[dtype]
    ones = -1 if low else high
    return {"add": 0, "mul": 1, "min": high, "max": low, "and": ones, "or": 0, "xor": 0}[op]


def _zero(dtype: DType) -> bool | float | int:
    if dtype is BOOL:
        return False
    return 0 if dtype in RANGE else 0.0
