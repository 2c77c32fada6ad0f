"""Which loops can run several iterations in the lanes of vectors, and what varies among them.

A loop is taken apart into values that are the same in every lane, indices that differ by a constant
stride from lane to lane (their address arithmetic stays scalar), and values that vary. Control flow
that varies becomes masks.
"""

from __future__ import annotations

from collections.abc import Iterable

from covector.backends.native.emit_ops import Target
from covector.backends.native.emit_strided import Record, find_records, memory_of, split_offset
from covector.core.config import config
from covector.loopir.costs import trips_at_most
from covector.loopir.ir import (
    INDEX,
    SIMD,
    Block,
    Check,
    DType,
    For,
    If,
    Item,
    Poll,
    Store,
    Value,
    While,
    children,
    operands,
    walk,
)
from covector.loopir.scalars import F32, F64, TABLE

Stride = int | None
"""How an index changes from lane to lane; 0 for what is the same in all, `None` if it varies."""

REORDERED = frozenset({"add", "mul", "min", "max", "and", "or", "xor"})
"""Operations by which a carry may be reduced in any order."""

ALWAYS_EXACT = frozenset({"min", "max", "and", "or", "xor"})
"""Those of them whose order makes no difference even for floats."""

MAX_LANES = 64

FEWEST_LANES = 4
"""Lanes of the last step of a loop, at least."""

MOST_STEPS = 6
"""Steps of half a register up to which a loop may run in them."""

WORK_PER_SCATTERED = 3
"""Operations for each gathered or scattered element from which on lanes pay."""

FUNCTION_WORK = 10
"""How many operations an elementary function counts for."""


class Reduction:
    """A carry that is only combined with values, by one operation.

    Attributes:
        param: the carry.
        op: the operation.
        prefix: the combination, if iterations also use what it is up to them.
    """

    __slots__ = ("op", "param", "prefix")

    def __init__(self, param: Value, op: str, prefix: Value | None = None) -> None:
        self.param = param
        self.op = op
        self.prefix = prefix


class Plan:
    """How a block runs in lanes.

    Attributes:
        lanes: iterations at once.
        strides: for values of the block; others are the same in every lane.
        widened: values that are not vectors themselves, but are needed as such.
        reductions: what each carry of the loop is.
        records: accesses that together cover whole records in memory.
    """

    __slots__ = ("lanes", "records", "reductions", "strides", "widened")

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.records: dict[Value | Store, Record] = {}
        self.strides: dict[Value, Stride] = {}
        self.widened: set[Value] = set()
        self.reductions: list[Reduction] = []

    def stride(self, value: Value) -> Stride:
        """How a value changes from lane to lane.

        Args:
            value: any value visible in the block.

        Returns:
            Its stride.
        """
        return self.strides.get(value, 0)


class CannotVectorize(Exception):
    """The reason why a loop stays scalar."""


def plan_loop(loop: For, target: Target) -> Plan | None:
    """Decides whether a loop runs in lanes.

    Args:
        loop: any loop; a serial one qualifies if its iterations turn out to be independent.
        target: the machine.

    Returns:
        The plan, or `None` if the loop stays scalar.
    """
    if loop.step != 1 or loop.trips == 1:
        return None
    try:
        reductions = _reductions(loop)
        _check_items(loop, nested=loop.kind == SIMD)
        plan = Plan(0)
        plan.reductions = reductions
        plan.strides[loop.index] = 1
        for reduction in reductions:
            plan.strides[reduction.param] = None
        _Analysis(plan).block(loop.body)
        plan.widened.update(v for v in loop.yields if plan.stride(v) is not None)
        if loop.kind != SIMD:
            _check_independent(loop, plan)
        _check_stores(loop.body, plan)
    except CannotVectorize:
        return None
    plan.lanes = loop.width or choose_lanes(loop, plan, target)
    if plan.lanes < 2:
        return None
    plan.records = find_records(loop.body, plan.strides, plan.lanes)
    if loop.kind != SIMD and _mostly_scattered(loop.body, plan):
        return None
    return plan


def narrowed(loop: For, plan: Plan, rest: int) -> Plan | None:
    """How the last iterations of a loop run where few remain: in the fewest lanes they fit in.

    Args:
        loop: the loop.
        plan: of its whole steps.
        rest: how many iterations remain after them.

    Returns:
        The plan, or `None` where the step of all lanes will do: of reductions, whose carries have
        as many, and of elementary functions, of which there would be one more.
    """
    lanes = max(FEWEST_LANES, 1 << (rest - 1).bit_length())
    if lanes >= plan.lanes or plan.reductions or any(map(_is_elementary, walk(loop.body))):
        return None
    narrow = Plan(lanes)
    narrow.strides, narrow.widened = plan.strides, plan.widened
    narrow.records = find_records(loop.body, plan.strides, lanes)
    return narrow


def _is_elementary(item: Item) -> bool:
    return isinstance(item, Value) and item.op in TABLE and TABLE[item.op].elementary


def plan_function(params: Iterable[Value], body: Block, returns: list[Value], lanes: int) -> Plan:
    """How a scalar function runs in lanes, all its parameters varying.

    Args:
        params: the parameters.
        body: its block, without loops.
        returns: its results.
        lanes: how many.

    Returns:
        The plan.
    """
    plan = Plan(lanes)
    for param in params:
        plan.strides[param] = None
    _Analysis(plan).block(body)
    plan.widened.update(v for v in returns if plan.stride(v) is not None)
    return plan


def _mostly_scattered(block: Block, plan: Plan) -> bool:
    """Whether elements taken one by one cost more than lanes save in operations."""
    scattered = work = 0
    for item in walk(block):
        if isinstance(item, Store):
            scattered += plan.stride(item.offset) != 1 and item not in plan.records
        elif not isinstance(item, Value):
            continue
        elif item.op == "load":
            scattered += plan.stride(item.args[0]) not in (0, 1) and item not in plan.records
        elif plan.stride(item) is None:
            spec = TABLE.get(item.op)
            work += FUNCTION_WORK if spec is not None and spec.elementary else 1
    return work < WORK_PER_SCATTERED * scattered


def choose_lanes(loop: For, plan: Plan, target: Target) -> int:
    """How many iterations one vector holds.

    Args:
        loop: the loop.
        plan: what varies in it.
        target: the machine.

    Returns:
        As many elements of the widest type in memory as fill a register. Four or two registers
        where a chain of operations would wait for itself: plain reductions, and loops inside if
        their values fit; two where elementary functions take most of the time. No more than there
        are iterations.
    """
    widest = max((dtype.itemsize for dtype in _element_types(loop)), default=8)
    lanes = target.vector_bits // 8 // widest
    running = any([r.prefix is not None for r in plan.reductions])
    if loop.params and len(loop.body.items) <= 12 and not running:
        lanes *= 2 if any(map(_is_elementary, loop.body.items)) else 4
    else:
        pressure = _pressure(loop.body, plan)
        if pressure:
            lanes *= next(n for n in (4, 2, 1) if n * pressure <= target.registers or n == 1)
    lanes = min(lanes, MAX_LANES)
    trips = trips_at_most(loop)
    while trips is not None and lanes // 2 >= trips:
        lanes //= 2
    return _even_lanes(loop, lanes, target.vector_bits // 8 // widest)


def _even_lanes(loop: For, lanes: int, register: int) -> int:
    """Lanes of a loop of few steps: of half a register if there are no steps of other lanes then.

    The last iterations of a loop are its body once more, in code: loops of 40 iterations, say, are
    two thirds as long in 8 lanes as in 16. Loops around others, where time goes, stay wide.
    """
    trips, half = loop.trips, register // 2
    if "even_steps" in config.disable or half < 2 or trips is None or trips % lanes == 0:
        return lanes
    nested = any([type(item) in (For, While) for item in loop.body.items])
    few = trips % half == 0 and trips <= MOST_STEPS * half
    return half if few and not nested else lanes


def _pressure(block: Block, plan: Plan) -> int:
    """Roughly how many vectors are alive at once in the loops inside a block; 0 without loops."""
    most = 0
    for item in walk(block):
        if isinstance(item, For | While):
            most = max(most, _most_alive(item, plan))
    return most


def _most_alive(loop: For | While, plan: Plan) -> int:
    items = [i for child in children(loop) for i in walk(child)]
    last: dict[Value, int] = {}
    for position, item in enumerate(items):
        for value in operands(item):
            last[value] = position
    for value in loop.yields:
        last[value] = len(items)
    alive = {p for p in loop.params if plan.stride(p) is None}
    ends: dict[int, int] = {}
    for value in alive:
        end = last.get(value, 0)
        ends[end] = ends.get(end, 0) + 1
    count = most = len(alive)
    for position, item in enumerate(items):
        count -= ends.get(position, 0)
        if isinstance(item, Value) and plan.stride(item) is None and item in last:
            count += 1
            ends[last[item]] = ends.get(last[item], 0) + 1
        most = max(most, count)
    return most


def _element_types(loop: For) -> Iterable[DType]:
    floats = False
    for item in walk(loop.body):
        if isinstance(item, Store):
            yield item.value.dtype
        elif isinstance(item, Value):
            if item.op == "load":
                yield item.dtype
            floats = floats or item.dtype is F32 or item.dtype is F64
    for param in loop.params:
        yield param.dtype
    if floats:
        yield F32


def _check_items(loop: For, nested: bool) -> None:
    """Refuses what has no vector form."""
    for item in walk(loop.body):
        if isinstance(item, Value | Store | If):
            continue
        if isinstance(item, Check | Poll):
            if nested:
                continue
        elif isinstance(item, For | While) and nested:
            continue
        raise CannotVectorize


def _reductions(loop: For) -> list[Reduction]:
    uses = _count_uses(loop) if loop.params else {}
    reductions: list[Reduction] = []
    for param, result in zip(loop.params, loop.yields, strict=True):
        op = _reduced_by(param, result, uses)
        exact = param.dtype not in (F32, F64) or op in ALWAYS_EXACT
        if op is None or not (exact or loop.kind == SIMD):
            raise CannotVectorize
        reductions.append(Reduction(param, op, result if uses[result] > 1 else None))
    return reductions


def _reduced_by(param: Value, result: Value, uses: dict[Value, int]) -> str | None:
    """The operation by which `result` is `param` combined with values that do not depend on it."""
    op = "add" if result.op == "fma" else result.op
    if op not in REORDERED or uses.get(param, 0) != 1:
        return None
    if uses.get(result, 0) > 1:  # a running total
        return op if result.op == op and param in result.args else None
    return op if _combines(result, param, op, uses) else None


def _combines(value: Value, param: Value, op: str, uses: dict[Value, int]) -> bool:
    if value is param:
        return True
    if uses.get(value, 0) != 1:
        return False
    if value.op == "fma":
        return op == "add" and _combines(value.args[2], param, op, uses)
    return value.op == op and any(_combines(a, param, op, uses) for a in value.args)


def _count_uses(loop: For) -> dict[Value, int]:
    uses: dict[Value, int] = {}
    for item in walk(loop.body):
        for value in (*operands(item), *_yielded(item)):
            uses[value] = uses.get(value, 0) + 1
    for value in loop.yields:
        uses[value] = uses.get(value, 0) + 1
    return uses


def _yielded(item: Item) -> Iterable[Value]:
    if isinstance(item, For):
        return item.yields
    if isinstance(item, While):
        return (*item.yields, item.predicate)
    if isinstance(item, If):
        return (*item.then_values, *item.else_values)
    return ()


def _check_independent(loop: For, plan: Plan) -> None:
    """Each iteration may only touch elements of its own in what the loop stores to."""
    written = {memory_of(i.buffer) for i in walk(loop.body) if isinstance(i, Store)}
    places: dict[object, tuple[Value, int, set[int]]] = {}
    for item in walk(loop.body):
        if isinstance(item, Store):
            memory, offset = memory_of(item.buffer), item.offset
        elif isinstance(item, Value) and item.op == "load":
            memory, offset = memory_of(item.attr), item.args[0]
        else:
            continue
        if memory not in written:
            continue
        stride = plan.stride(offset)
        if not stride:
            raise CannotVectorize
        base, shift = split_offset(offset)
        known = places.setdefault(memory, (base, stride, set()))
        known[2].add(shift)
        if known[:2] != (base, stride) or len({c % stride for c in known[2]}) < len(known[2]):
            raise CannotVectorize


def _check_stores(block: Block, plan: Plan) -> None:
    for item in walk(block):
        if isinstance(item, Store) and plan.stride(item.offset) == 0:
            raise CannotVectorize  # every lane would store in one place


class _Analysis:
    """Finds strides, going round loops until nothing changes."""

    def __init__(self, plan: Plan) -> None:
        self.strides = plan.strides
        self.widened = plan.widened

    def stride(self, value: Value) -> Stride:
        return self.strides.get(value, 0)

    def block(self, block: Block) -> None:
        for item in block.items:
            if isinstance(item, Value):
                self.value(item)
            elif isinstance(item, Store):
                self.need(item.value)
            elif isinstance(item, For):
                self.loop(item)
            elif isinstance(item, While):
                self.while_loop(item)
            elif isinstance(item, If):
                self.branch(item)

    def need(self, value: Value) -> None:
        """A vector of the value will be used."""
        if self.stride(value) is not None and value.op != "const":
            self.widened.add(value)

    def value(self, value: Value) -> None:
        if value.op == "load":
            stride = self.stride(value.args[0])
            self.strides[value] = 0 if stride == 0 else None
            return
        stride = self.strides[value] = self.result_stride(value)
        if stride is None and not (value.op == "convert" and self.stride(value.args[0])):
            for arg in value.args:
                self.need(arg)

    def result_stride(self, value: Value) -> Stride:
        strides = [self.stride(a) for a in value.args]
        if not any(s is None or s for s in strides):
            return 0
        if value.dtype is not INDEX or None in strides:
            return None
        first, *rest = (s or 0 for s in strides)
        if value.op == "add":
            return first + rest[0]
        if value.op == "sub":
            return first - rest[0]
        if value.op == "neg":
            return -first
        factor = value.args[-1]
        if value.op == "mul" and factor.op == "const":
            return first * factor.attr
        return None

    def loop(self, loop: For) -> None:
        if self.stride(loop.lower) != 0 or self.stride(loop.upper) != 0:
            raise CannotVectorize
        self.strides[loop.index] = 0
        self.start(loop.params, loop.inits)
        while True:
            self.block(loop.body)
            if not self.feed_back(loop.params, loop.yields):
                break
        self.finish(loop, loop.inits, loop.yields)

    def while_loop(self, loop: While) -> None:
        self.start(loop.params, loop.inits)
        while True:
            self.block(loop.header)
            varying = self.stride(loop.predicate) is None
            self.block(loop.body)
            changed = self.feed_back(loop.params, loop.yields)
            if varying:
                # Lanes stop at different times, so every carry that changes varies.
                for param, last in zip(loop.params, loop.yields, strict=True):
                    if param is not last and self.strides[param] is not None:
                        self.strides[param] = None
                        changed = True
            if not changed:
                break
        self.finish(loop, loop.inits, loop.yields)

    def start(self, params: list[Value], inits: list[Value]) -> None:
        for param, init in zip(params, inits, strict=True):
            self.strides[param] = 0 if self.stride(init) == 0 else None

    def feed_back(self, params: list[Value], yields: list[Value]) -> bool:
        changed = False
        for param, last in zip(params, yields, strict=True):
            if self.stride(last) != 0 and self.strides[param] is not None:
                self.strides[param] = None
                changed = True
        return changed

    def finish(self, loop: For | While, inits: list[Value], yields: list[Value]) -> None:
        for param, init, last, result in zip(loop.params, inits, yields, loop.results, strict=True):
            stride = self.strides[result] = self.strides[param]
            if stride is None:
                self.need(init)
                self.need(last)

    def branch(self, branch: If) -> None:
        self.block(branch.then)
        self.block(branch.otherwise)
        varying = self.stride(branch.predicate) is None
        for one, other, result in zip(
            branch.then_values, branch.else_values, branch.results, strict=True
        ):
            same = not varying and self.stride(one) == 0 and self.stride(other) == 0
            self.strides[result] = 0 if same else None
            if not same:
                self.need(one)
                self.need(other)


def is_plain(block: Block, limit: int) -> bool:
    """Whether a branch is so short and harmless that running it for nothing beats a jump.

    Args:
        block: one side of a branch.
        limit: greatest number of operations.

    Returns:
        True for a few pure operations without loads.
    """
    if len(block.items) > limit:
        return False
    return all(isinstance(i, Value) and _is_cheap(i.op) for i in block.items)


def _is_cheap(op: str) -> bool:
    spec = TABLE.get(op)
    return spec is not None and not spec.elementary
