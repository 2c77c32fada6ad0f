"""Which loops run several iterations at once, in vectors of 128 bits.

A value of such a loop is the same for all lanes (UNIFORM), an index that grows by a fixed step from
lane to lane (that step), or a VECTOR. What does not fit this makes a loop run without vectors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from covector.extend.loopir import (
    OPERATIONS,
    SIMD,
    Block,
    For,
    Function,
    If,
    Store,
    Value,
    children,
    closing,
    definition,
    operands,
    short_name,
    walk,
)
from covector_wasm.helpers import helper
from covector_wasm.vector_operations import is_fast

UNIFORM, VECTOR = 0, "vector"

_INDEX = np.dtype(np.int64)
_BOOL = np.dtype(np.bool_)
_IN_VECTORS = frozenset(("f32", "i32", "u32", "f64", "i64", "u64"))

IDENTITIES: dict[str, float | None] = {
    "add": -0.0, "fma": -0.0, "mul": 1, "xor": 0, "min": None, "max": None, "and": None, "or": None,
}  # fmt: skip
"""What a reduction may begin with; `None` where its first number may be met more than once."""


class NoVectorsError(Exception):
    """A loop or function has to run without vectors."""


@dataclass
class Plan:
    """How a loop or function runs in vectors.

    Attributes:
        shapes: what its values are.
        lanes: how many there are in a vector.
    """

    shapes: dict[Value, Any] = field(default_factory=dict[Value, Any])
    lanes: int = 0

    def shape(self, value: Value) -> Any:
        """What a value is; all from outside are the same for all lanes."""
        return self.shapes.get(value, UNIFORM)


def plan_loop(loop: For, live: set[Value]) -> Plan | None:
    """How a loop runs in vectors, `None` if it does not.

    Args:
        loop: any loop.
        live: the values that its function needs.
    """
    if loop.kind != SIMD or loop.step != 1:
        return None
    planner = _Planner(live)
    try:
        planner.plan.shapes[loop.index] = 1
        planner.reductions(loop)
        planner.block(loop.body)
        return planner.finished()
    except NoVectorsError:
        return None


def plan_function(function: Function) -> Plan | None:
    """How a function of scalars runs for vectors of them, `None` if it does not."""
    planner = _Planner(set(walk_values(function)))
    try:
        for parameter in function.params:
            planner.vector(parameter)
        planner.block(function.body)
        if any(planner.plan.shape(v) != VECTOR for v in function.returns):
            return None
        return planner.finished()
    except NoVectorsError:
        return None


_plans: dict[Function, Plan | None] = {}


def vector_definition(value: Value) -> Function | None:
    """The scalar function that has to be called for an operation on vectors, if there is one."""
    spec = OPERATIONS.get(value.op)
    if spec is None or not value.args:
        return None
    dtype = value.args[-1].dtype
    if spec.elementary:
        return definition(value.op, dtype)
    if value.op == "mul_error":
        return helper("mul_error", short_name(dtype))
    if value.op == "fma" and value.attr == "exact":
        return helper("fma_in_parts", short_name(dtype))
    return None


def plan_vectors(function: Function) -> Plan | None:
    """The plan of a function of scalars, which is kept."""
    if function not in _plans:
        _plans[function] = None  # while it is not known, as for functions that need themselves
        _plans[function] = plan_function(function)
    return _plans[function]


def walk_values(function: Function) -> list[Value]:
    """All values of a function."""
    return [item for item in walk(function.body) if isinstance(item, Value)]


class _Planner:
    def __init__(self, live: set[Value]) -> None:
        self.plan = Plan()
        self._live = live
        self._sizes: set[int] = set()
        self._fast = self._slow = 0

    def finished(self) -> Plan:
        """The plan, if there are vectors of one kind, and more is gained than lost."""
        if len(self._sizes) != 1 or self._slow > self._fast:
            raise NoVectorsError
        self.plan.lanes = 16 // self._sizes.pop()
        return self.plan

    def vector(self, value: Value) -> None:
        """A value is a vector."""
        if value.dtype != _BOOL:
            if short_name(value.dtype) not in _IN_VECTORS:
                raise NoVectorsError
            self._sizes.add(value.dtype.itemsize)
        self.plan.shapes[value] = VECTOR

    def reductions(self, loop: For) -> None:
        """Carries have to be reductions by operations whose order does not matter."""
        uses = _uses(loop)
        for param, value in zip(loop.params, loop.yields, strict=True):
            reduces = value.op in IDENTITIES and uses[param] == 1 and value.attr != "exact"
            places = value.args[2:] if value.op == "fma" else value.args
            if not reduces or param not in places or uses[value] != 1:
                raise NoVectorsError
            self.vector(param)

    def block(self, block: Block) -> None:
        """Goes through a block."""
        for item in block.items:
            if isinstance(item, Value):
                if item in self._live:
                    self._value(item)
            elif isinstance(item, Store):
                self._store(item)
            elif isinstance(item, For):
                self._for(item)
            elif isinstance(item, If):
                self._if(item)
            else:
                raise NoVectorsError

    def _value(self, value: Value) -> None:
        shapes = [self.plan.shape(a) for a in value.args]
        if value.op == "const" or all([s == UNIFORM for s in shapes]):
            return
        if value.op == "load":
            if shapes[0] == VECTOR:
                raise NoVectorsError
            self.vector(value)
            self._fast += 1
            self._slow += 2 * (shapes[0] != 1 or value.dtype == _BOOL)
        elif VECTOR not in shapes and value.dtype == _INDEX:
            self.plan.shapes[value] = self._step(value, shapes)
        else:
            if any([s not in (UNIFORM, VECTOR) for s in shapes]) and value.op != "convert":
                raise NoVectorsError
            self.vector(value)
            self._count(value, shapes)

    def _count(self, value: Value, shapes: Sequence[Any]) -> None:
        function = vector_definition(value)
        if function is not None:
            fast = plan_vectors(function) is not None
            self._fast, self._slow = self._fast + 20 * fast, self._slow + 2 * (not fast)
        elif is_fast(value) and all([s in (UNIFORM, VECTOR) for s in shapes]):
            self._fast += 1
        else:
            self._slow += 4

    def _step(self, value: Value, shapes: Sequence[Any]) -> int:
        """By how much an index grows from lane to lane."""
        if value.op in ("add", "sub"):
            first, second = shapes
            return first + second if value.op == "add" else first - second
        factors = [a for a in value.args if a.op == "const"]
        if value.op == "mul" and factors:
            (step,) = [s for s in shapes if s != UNIFORM] or [0]
            return step * factors[0].attr
        raise NoVectorsError

    def _store(self, item: Store) -> None:
        offset, value = self.plan.shape(item.offset), self.plan.shape(item.value)
        if offset in (UNIFORM, VECTOR) or value not in (UNIFORM, VECTOR):
            raise NoVectorsError
        name = short_name(item.value.dtype)
        if name not in _IN_VECTORS and name != "bool":
            raise NoVectorsError
        if name != "bool":
            self._sizes.add(item.value.dtype.itemsize)
        self._fast += 1
        self._slow += 2 * (offset != 1 or name == "bool")

    def _for(self, loop: For) -> None:
        if self.plan.shape(loop.lower) != UNIFORM or self.plan.shape(loop.upper) != UNIFORM:
            raise NoVectorsError
        for param, init in zip(loop.params, loop.inits, strict=True):
            self._joined(param, [init])
        self.block(loop.body)
        for param, value, result in zip(loop.params, loop.yields, loop.results, strict=True):
            self._joined(result, [value])
            if self.plan.shape(param) != self.plan.shape(result):
                raise NoVectorsError

    def _joined(self, value: Value, sources: Sequence[Value]) -> None:
        """A carry or result: an index is the same for all lanes, all else a vector."""
        shapes = [self.plan.shape(s) for s in sources]
        if value.dtype == _INDEX and all([s == UNIFORM for s in shapes]):
            return
        if any([s not in (UNIFORM, VECTOR) for s in shapes]):
            raise NoVectorsError
        self.vector(value)

    def _if(self, branch: If) -> None:
        if self.plan.shape(branch.predicate) != UNIFORM:
            for block in children(branch):  # computed for all lanes if for any
                for item in block.items:
                    if not isinstance(item, Value) or item.op == "load":
                        raise NoVectorsError
        slow = self._slow
        self.block(branch.then)
        if self.plan.shape(branch.predicate) != UNIFORM:
            self._slow = slow  # a branch for a few lanes, which is seldom taken
        self.block(branch.otherwise)
        ends = zip(branch.then_values, branch.else_values, strict=True)
        for result, pair in zip(branch.results, ends, strict=True):
            if self.plan.shape(branch.predicate) == UNIFORM:
                self._joined(result, pair)
            else:
                self.vector(result)


def _uses(loop: For) -> Counter[Value]:
    """How often values are used in a loop."""
    found: Counter[Value] = Counter(loop.yields)
    for item in walk(loop.body):
        found.update(operands(item))
        for values in closing(item):
            found.update(values)
    return found
