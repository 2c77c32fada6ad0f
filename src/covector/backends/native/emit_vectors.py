"""Loops that run in lanes: what varies becomes vectors, branches that vary become masks.

A loop of unknown or odd length ends with one more step in which lanes beyond the end are masked
off, or with a scalar loop where the machine has no masked memory operations. Where few remain, that
step has fewer lanes.
"""

from __future__ import annotations

from collections.abc import Sequence

from covector.backends.native import emit_ops
from covector.backends.native.emit_lanes import Plan, Reduction, narrowed, plan_loop
from covector.backends.native.emit_masks import LaneEmitter
from covector.backends.native.emit_memory import Memory
from covector.backends.native.emit_ops import Target
from covector.backends.native.emit_types import constant, register_type, splat, vector
from covector.loopir.costs import trips_at_most
from covector.loopir.ir import BOOL, INDEX, DType, For, Value, While, walk
from covector.loopir.scalars import F32, F64, RANGE

LARGE_BODY = 200
"""Items of a body from which on a loop's last, partial step is not emitted separately."""
LARGE_CHUNK = 60
"""The same for a loop that makes one step at most: the lanes of a chunk."""
FEW_RUNS = 16
"""How often code may run for its calls to be cheaper than what they call once more: they take less
than a tenth of a microsecond."""


class Emitter(LaneEmitter):
    """Emits functions, running loops in lanes where that is possible."""

    def __init__(self, target: Target, memory: Memory) -> None:
        super().__init__(target, memory)
        self.prefixes: dict[Value, Reduction] = {}
        """The running totals of the loop in lanes."""
        self.totals: dict[Value, str] = {}
        """Of their carries, what they are after the step being emitted, in every lane."""

    def loop(self, item: For) -> None:
        """Emits a loop, in lanes if it qualifies."""
        plan = plan_loop(item, self.target) if self.plan is None else None
        runs, trips = self.runs, trips_at_most(item)
        self.runs = 0 if trips is None else few(runs * -(-trips // (plan.lanes if plan else 1)))
        if plan is None:
            super().loop(item)
        else:
            self.lanes_loop(item, plan, runs)
            self.spend_range(item, self.use(item.lower), self.use(item.upper))
        self.runs = runs

    def while_loop(self, item: While) -> None:
        """Emits a loop with a condition."""
        runs, self.runs = self.runs, 0
        super().while_loop(item)
        self.runs = runs

    def lanes_loop(self, item: For, plan: Plan, runs: int) -> None:
        """Emits whole steps of a loop in lanes, and what remains after them.

        Args:
            item: the loop.
            plan: how it runs.
            runs: how often the loop does, and with it what remains after whole steps.
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
        carries = [
            self.start_reduction(r, init)
            for r, init in zip(plan.reductions, item.inits, strict=True)
        ]
        self.prefixes = {r.prefix: r for r in plan.reductions if r.prefix is not None}
        one_step = trips is None and (trips_at_most(item) or lanes + 1) <= lanes
        large = size > (LARGE_CHUNK if one_step else LARGE_BODY)
        if rest != 0 and masks and (large or (trips is not None and trips < lanes)):
            carries = self.steps(item, lower, upper, carries, trips, masked=True)
            self.finish_reductions(item, carries)
            self.exit()
            return
        end = self.last_step(item, lower, upper, lanes)
        carries = self.steps(item, lower, end, carries, trips, masked=False)
        self.runs = runs
        if rest == 0:
            self.finish_reductions(item, carries)
            self.exit()
        elif rest and (narrow := narrowed(item, plan, rest)) and (masks or narrow.lanes == rest):
            self.exit()
            self.enter(item, narrow)
            self.step(item, end, None if narrow.lanes == rest else upper, ())
            self.exit()
        elif masks:
            carries = self.partial_step(item, end, upper, carries, rest)
            self.finish_reductions(item, carries)
            self.exit()
        else:
            self.finish_reductions(item, carries)
            self.exit()
            self.runs = few(runs * (rest or lanes - 1))
            self.scalar_rest(item, end, upper, rest is None)

    def enter(self, item: For, plan: Plan) -> None:
        """Begins code in lanes: values from outside get their vector form.

        Args:
            item: the loop.
            plan: how it runs.
        """
        self.plan, self.lanes, self.vectors, self.mask = plan, plan.lanes, {}, None
        self.loaded = set()
        self.packs = False
        for value in sorted(plan.widened, key=lambda v: v.id):
            if value not in plan.strides:
                self.widen(value)

    def exit(self) -> None:
        """Ends code in lanes."""
        self.plan, self.lanes, self.mask = None, 0, None
        self.prefixes = {}
        self.packs = True

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
            whole = trips - trips % lanes
            if item.lower.op == "const":
                return constant(item.lower.attr + whole, INDEX)
            return self.define(f"add i64 {lower}, {whole}")
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
        whole = (
            None if trips is None else -(-trips // self.lanes) if masked else trips // self.lanes
        )
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
        phis = self.open_phis(item.params)
        heads = [name for _, name, _ in phis]
        lasts = self.step(item, index, upper if masked else None, heads)
        following = self.count_on(item, index, lower, self.lanes)
        self.close_loop(head, done, following, upper)
        latch = self.label
        self.lines[position] = (
            f"  {index} = phi i64 [ {lower}, %{before} ], [ {following}, %{latch} ]"
        )
        self.close_phis(phis, before, carries, lasts)
        self.start(done)
        if whole is not None:
            return lasts
        return [
            self.define(f"phi {type_} [ {init}, %{before} ], [ {last}, %{latch} ]")
            for (_, _, type_), init, last in zip(phis, carries, lasts, strict=True)
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
        self.loaded = set()
        self.totals = {}
        if upper is not None:
            self.mask = self.lanes_below(index, upper)
        if self.plan and item.index in self.plan.widened:
            self.widen(item.index)
        for param, name in zip(item.params, carries, strict=True):
            self.vectors[param] = name
        self.block(item.body)
        lasts = [
            self.totals[p] if v in self.prefixes else self.vector(v)
            for p, v in zip(item.params, item.yields, strict=True)
        ]
        if self.mask is not None:
            lasts = [
                last if p in self.totals else self.blend(self.mask, last, carry, p.dtype)
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
            bits = ", ".join(
                f"i1 {'true' if k < int(upper) - int(index) else 'false'}" for k in range(lanes)
            )
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

    def start_reduction(self, reduction: Reduction, init: Value) -> str:
        """The vector with which a reduction starts.

        Args:
            reduction: the carry.
            init: its value on entry.

        Returns:
            The identity of its operation in every lane; of a running total, what it is on entry.
        """
        if reduction.prefix is not None:
            return self.splat_register(self.use(init), init.dtype)
        return splat(
            identity(reduction.op, reduction.param.dtype), reduction.param.dtype, self.lanes
        )

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
            if reduction.prefix is not None:
                type_ = register_type(dtype, lanes)
                self.names[result] = self.define(f"extractelement {type_} {text}, i64 0")
                continue
            while lanes > 1:
                lanes //= 2
                halves = [self.half(text, dtype, lanes, first) for first in (0, lanes)]
                text = self.combine(reduction.op, dtype, lanes, *halves)
            type_ = register_type(dtype, 1)
            total = self.define(f"extractelement {type_} {text}, i64 0")
            self.names[result] = self.combine(reduction.op, dtype, 0, self.use(init), total)

    def spread(self, text: str, dtype: DType, lane: int) -> str:
        """One lane of a vector in all lanes.

        Args:
            text: the vector.
            dtype: of it.
            lane: which.

        Returns:
            The vector of copies.
        """
        type_, chosen = register_type(dtype, self.lanes), f"i32 {lane}"
        mask = ", ".join([chosen] * self.lanes)
        return self.define(
            f"shufflevector {type_} {text}, {type_} poison, <{self.lanes} x i32> <{mask}>"
        )

    def lanes_value(self, value: Value) -> None:
        """Emits a value; a running total by combining each lane with those before it.

        x0          x1          x2          x3
        x0       x0+x1       x1+x2       x2+x3
        x0       x0+x1    x0+x1+x2 x0+x1+x2+x3
        """
        reduction = self.prefixes.get(value)
        if reduction is None:
            super().lanes_value(value)
            return
        first, second = value.args
        dtype, lanes, param = value.dtype, self.lanes, reduction.param
        text = self.vector(second if first is param else first)
        neutral = splat(identity(reduction.op, dtype), dtype, lanes)
        if self.mask is not None:
            text = self.blend(self.mask, text, neutral, dtype)
        type_ = register_type(dtype, lanes)
        shift = 1
        while shift < lanes:
            places = [k - shift if k >= shift else lanes + k for k in range(lanes)]
            chosen = ", ".join(f"i32 {k}" for k in places)
            moved = self.define(
                f"shufflevector {type_} {text}, {type_} {neutral}, <{lanes} x i32> <{chosen}>"
            )
            text = self.combine(reduction.op, dtype, lanes, moved, text)
            shift *= 2
        before = self.vectors[param]
        self.vectors[value] = self.combine(reduction.op, dtype, lanes, before, text)
        # All lanes' is spread before it is added: so one addition waits for the last step's.
        whole = self.spread(text, dtype, lanes - 1)
        self.totals[param] = self.combine(reduction.op, dtype, lanes, before, whole)

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
        return self.define(
            f"shufflevector {type_} {text}, {type_} poison, <{lanes} x i32> <{chosen}>"
        )

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


def few(times: int) -> int:
    """How often code runs, or 0 if that is more often than a few times."""
    return times if times <= FEW_RUNS else 0


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
