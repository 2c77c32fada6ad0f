"""What stands inside loops that run in lanes: vectors for what varies, masks for branches."""

from __future__ import annotations

from collections.abc import Sequence

from covector.backends.native.emit_blocks import Carried
from covector.backends.native.emit_lane_memory import LaneMemory
from covector.backends.native.emit_lanes import is_plain
from covector.backends.native.emit_types import (
    constant,
    register_type,
    splat,
    vector,
)
from covector.loopir.ir import (
    BOOL,
    Block,
    Check,
    DType,
    If,
    Value,
    While,
)
from covector.loopir.scalars import BF16, F16, F32, F64, RANGE, canonical

PLAIN_SIDE = 12
"""Operations of one side of a varying branch up to which both sides simply run."""


class LaneEmitter(LaneMemory):
    """Emits blocks, in lanes where there is a plan."""

    def block(self, block: Block) -> None:
        """Emits what is in a block, in lanes inside of loops that run in lanes."""
        if self.plan is None:
            super().block(block)
            return
        for item in self.visited(block.items):
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
        elif value.op == "convert" and plan.stride(value.args[0]) is not None:
            self.vectors[value] = self.convert_index(value)
        else:
            args = [self.vector(a) for a in value.args]
            if value.op == "call":
                self.vectors[value] = self.call_lanes(value, args)
            else:
                self.vectors[value] = self.operation(value, args, plan.lanes)

    def widen(self, value: Value) -> None:
        """Makes the vector form of a value that is the same in all lanes, or a strided index.

        Args:
            value: visible here.
        """
        self.vectors[value] = self.wide(value)

    def convert_index(self, value: Value) -> str:
        """Converts a strided index: the first lane's, plus multiples of the stride.

        Integers wrap alike in every type. In float64 indices are exact, so that a narrower float
        is rounded once.

        Args:
            value: the conversion.

        Returns:
            The vector.
        """
        assert self.plan is not None
        index, target, lanes = value.args[0], value.dtype, self.lanes
        stride = self.plan.stride(index) or 0
        exact = F64 if target in (F32, F64, F16, BF16) else target
        if target is BOOL:
            self.widen(index)
            return self.operation(value, [self.vectors[index]], lanes)
        convert = Value("convert", (index,), exact, exact, value.id, value.depth)
        first = self.splat_register(self.operation(convert, [self.use(index)], 0), exact)
        numbers = [canonical(stride * k, exact) for k in range(lanes)]
        scalar, type_ = register_type(exact), register_type(exact, lanes)
        steps = ", ".join(f"{scalar} {constant(n, exact)}" for n in numbers)
        text = self.define(f"{'fadd' if exact is F64 else 'add'} {type_} {first}, <{steps}>")
        if exact is target:
            return text
        narrow = Value("convert", (convert,), target, target, value.id, value.depth)
        return self.operation(narrow, [text], lanes)

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
        self.jump_if(more, head, done, self.memory.loop_metadata())
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

    # Control flow

    def carried(self, params: Sequence[Carried], values: Sequence[Value]) -> Sequence[str]:
        """Texts of values that become those of others, as vectors for those that vary."""
        if self.plan is None:
            return super().carried(params, values)
        pairs = zip(params, values, strict=True)
        return [self.vector(v) if self.varies(p) else self.use(v) for p, v in pairs]

    def type_of(self, value: Carried) -> str:
        """The type of the register that holds a value."""
        if self.plan is None:
            return super().type_of(value)
        return register_type(value.dtype, self.lanes if self.varies(value) else 0)

    def name_carry(self, param: Carried, name: str) -> None:
        """Notes the register of a carry."""
        if self.plan is None:
            super().name_carry(param, name)
            return
        assert type(param) is Value
        (self.vectors if self.varies(param) else self.names)[param] = name

    def set_result(self, result: Value, text: str) -> None:
        """Notes the text of a statement's result, and widens it where that is needed."""
        self.name_carry(result, text)
        self.entered([result])

    def entered(self, values: Sequence[Carried]) -> None:
        """Widens values just defined where that is needed."""
        if self.plan is None:
            super().entered(values)
            return
        for value in values:
            if type(value) is Value and value in self.plan.widened and not self.varies(value):
                self.widen(value)

    def while_loop(self, item: While) -> None:
        """Emits a loop with a condition; in lanes it runs until no lane goes on."""
        if self.varies(item.predicate):
            self.masked_while(item)
        else:
            super().while_loop(item)

    def masked_while(self, item: While) -> None:
        """Emits a loop that lanes leave at different times, keeping their carries from then on.

        Args:
            item: the statement.
        """
        inits, entering, outer = self.carried(item.params, item.inits), self.active(), self.mask
        head, body, done, before = *(self.new_label() for _ in range(3)), self.label
        self.jump(head)
        self.start(head)
        going, position = self.fresh(), self.reserve()
        counter = self.open_counter(item)
        phis = self.open_phis(item.params)
        self.entered(item.params)
        self.mask = going
        self.block(item.header)
        self.mask = still = self.both(self.vector(item.predicate))
        self.jump_if(self.any(still), body, done)
        self.start(body)
        self.block(item.body)
        lasts = [
            self.blend(still, last, name, p.dtype) if self.varies(p) else last
            for last, (_, name, _), p in zip(
                self.carried(item.params, item.yields), phis, item.params, strict=True
            )
        ]
        self.close_counter(counter, before, item.poll_every)
        self.lines[position] = (
            f"  {going} = phi {vector('i1', self.lanes)} "
            f"[ {entering}, %{before} ], [ {still}, %{self.label} ]"
        )
        self.close_phis(phis, before, inits, lasts)
        self.lines.append(f"  br label %{head}{self.memory.loop_metadata()}")
        self.start(done)
        self.mask = outer
        for result, (_, name, _) in zip(item.results, phis, strict=True):
            self.set_result(result, name)
        if counter is not None:
            self.spend(counter[1], item.poll_every)

    def branch(self, item: If) -> None:
        """Emits a branch; in lanes that disagree, both sides run under masks."""
        if self.varies(item.predicate):
            self.masked_branch(item)
        else:
            super().branch(item)

    def masked_branch(self, item: If) -> None:
        """Emits a branch on which lanes may disagree.

        Args:
            item: the statement.
        """
        outer = self.mask
        condition = self.vector(item.predicate)
        blocks, values = (item.then, item.otherwise), (item.then_values, item.else_values)
        plain = [is_plain(block, PLAIN_SIDE) for block in blocks]
        found: list[list[str]] = [[], []]
        # A side jumped over comes last: what it leaves as it is need not wait for it.
        for k in sorted((0, 1), key=lambda k: not plain[k]):
            if plain[k]:
                self.block(blocks[k])
                found[k] = [self.vector(v) for v in values[k]]
                continue
            lanes = condition if k == 0 else self.inverse(condition)
            self.mask = self.both(lanes)
            if plain[1 - k]:
                found = [self.side(blocks[k], values[k], lanes, found[1 - k])] * 2
            else:
                found[k] = self.side(blocks[k], values[k])
            self.mask = outer
        for result, one, other in zip(item.results, *found, strict=True):
            self.set_result(result, self.blend(condition, one, other, result.dtype))

    def inverse(self, condition: str) -> str:
        """The lanes for which a condition does not hold."""
        return self.define(f"xor {vector('i1', self.lanes)} {condition}, splat (i1 true)")

    def side(
        self,
        block: Block,
        values: Sequence[Value],
        lanes: str = "",
        others: Sequence[str] | None = None,
    ) -> list[str]:
        """Emits one side of a branch, jumped over if no lane needs it.

        Args:
            block: the side.
            values: what it gives.
            lanes: the vector of the lanes that need it; asked for with `others`.
            others: vectors that the branch gives in other lanes, if they are known.

        Returns:
            Vectors of the values, or of what the whole branch gives with `others`.
        """
        body, done, before = self.new_label(), self.new_label(), self.label
        assert self.mask is not None
        self.jump_if(self.any(self.mask), body, done)
        self.start(body)
        self.block(block)
        texts = [self.vector(v) for v in values]
        if others is None:
            others = [splat(_zero(v.dtype), v.dtype, self.lanes) for v in values]
        else:
            # Here and not after the jump, where it would be paid for when no lane needs it.
            triples = zip(texts, others, values, strict=True)
            texts = [self.blend(lanes, text, other, v.dtype) for text, other, v in triples]
        after = self.label
        self.jump(done)
        self.start(done)
        return [
            self.define(
                f"phi {register_type(v.dtype, self.lanes)} [ {text}, %{after} ], "
                f"[ {other}, %{before} ]"
            )
            for v, text, other in zip(values, texts, others, strict=True)
        ]


def _zero(dtype: DType) -> bool | float | int:
    if dtype is BOOL:
        return False
    return 0 if dtype in RANGE else 0.0
