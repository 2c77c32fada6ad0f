"""Loops and elementary functions in vectors of 128 bits, where `vector_plan` has found a way."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from covector.extend.loopir import (
    Block,
    For,
    Function,
    If,
    Store,
    Value,
    walk,
)
from covector_wasm import vector_operations
from covector_wasm.operations import load_of, operation, store_of, value_type
from covector_wasm.vector_operations import is_fast, kind_of
from covector_wasm.vector_plan import (
    IDENTITIES,
    UNIFORM,
    VECTOR,
    Plan,
    plan_vectors,
    vector_definition,
)

if TYPE_CHECKING:
    from covector_wasm.emit import Writer

_BOOL = np.dtype(np.bool_)
_FORMATS = {"f32x4": "<4f", "f64x2": "<2d", "i32x4": "<4I", "i64x2": "<2Q"}


class Vectors:
    """Writes what runs in vectors.

    Args:
        writer: of the function, which writes all that is the same for all lanes.
        plan: what is what.

    Attributes:
        lanes: how many there are in a vector.
        places: the local variables of vectors.
    """

    def __init__(self, writer: Writer, plan: Plan) -> None:
        self.lanes = plan.lanes
        self.places: dict[Value, int] = {}
        self._to = writer
        self._shape = plan.shape

    # Instructions

    def write(self, name: str, *immediates: Any) -> None:
        """Adds an instruction."""
        self._to.write(name, *immediates)

    def splat(self, kind: str, number: Any) -> None:
        """Leaves a vector of equal numbers on the stack."""
        form = _FORMATS[kind]
        if kind[0] == "i":
            number = int(number) % (1 << (32 if kind == "i32x4" else 64))
        self.write("v128.const", struct.pack(form, *[number] * self.lanes))

    def kept(self, value: Value) -> int:
        """Leaves a vector on the stack and in a local variable."""
        self.push(value)
        local = self._to.new("v128")
        self.write("local.tee", local)
        return local

    def push(self, value: Value) -> None:
        """Leaves a vector on the stack."""
        if value in self.places:
            self.write("local.get", self.places[value])
        elif self._shape(value) == VECTOR:
            self._compute(value)
        elif value.op == "const":
            number = -int(value.attr) if value.dtype == _BOOL else value.attr
            self.splat(kind_of(value.dtype, self.lanes), number)
        else:
            self._to.push(value)
            self._mask(value.dtype)
            self.write(f"{kind_of(value.dtype, self.lanes)}.splat")

    def _mask(self, dtype: Any) -> None:
        """The bits of a lane for the scalar on the stack."""
        if dtype == _BOOL:
            type_ = "i32" if self.lanes == 4 else "i64"
            local = self._to.set_new("i32")
            self.write(f"{type_}.const", 0)
            self.write("local.get", local)
            if type_ == "i64":
                self.write("i64.extend_i32_u")
            self.write(f"{type_}.sub")

    def _take(self, value: Value, lane: int) -> None:
        """Leaves one lane of a vector, which is in a variable or can be computed again."""
        self.push(value)
        self.write(f"{kind_of(value.dtype, self.lanes)}.extract_lane", lane)
        if value.dtype == _BOOL:
            if self.lanes == 2:
                self.write("i32.wrap_i64")
            self.write("i32.const", 1)
            self.write("i32.and")

    def _gathered(self, dtype: Any, element: Callable[[int], None]) -> None:
        """Leaves a vector on the stack whose lanes are computed one by one."""
        kind = kind_of(dtype, self.lanes)
        for lane in range(self.lanes):
            element(lane)
            self._mask(dtype)
            self.write(*((f"{kind}.splat",) if lane == 0 else (f"{kind}.replace_lane", lane)))

    # Values

    def _compute(self, value: Value) -> None:
        function = vector_definition(value)
        if value.op == "load":
            self._load(value)
        elif function is not None and plan_vectors(function) is not None:
            for arg in value.args:
                self.push(arg)
            self.write("call", self._to.need_vector(function, value.op, value.dtype))
        elif is_fast(value) and all([self._shape(a) in (UNIFORM, VECTOR) for a in value.args]):
            vector_operations.operation(value, self)
        else:
            self._one_by_one(value)

    def _load(self, value: Value) -> None:
        buffer, offset = value.attr, value.args[0]
        step = self._shape(offset) * buffer.element.itemsize
        more = self._to.address(buffer, offset)
        if self._shape(offset) == 1 and value.dtype != _BOOL:
            self.write("v128.load", more)
            return
        address = self._to.set_new("i32")

        def element(lane: int) -> None:
            self._moved(address, lane * step)
            self.write(load_of(value.dtype), more)
            if value.dtype == _BOOL:
                self.write("i32.const", 0)
                self.write("i32.ne")

        self._gathered(value.dtype, element)

    def _moved(self, address: int, by: int) -> None:
        self.write("local.get", address)
        if by:
            self.write("i32.const", by)
            self.write("i32.add")

    def _one_by_one(self, value: Value) -> None:
        """An operation for which there is no instruction: each lane by itself."""
        for arg in value.args:
            if self._shape(arg) == VECTOR and arg not in self.places:
                self.push(arg)
                self.places[arg] = self._to.set_new("v128")

        def element(lane: int) -> None:
            scalars: list[Value] = []
            for arg in value.args:
                shape = self._shape(arg)
                if shape == UNIFORM:
                    scalars.append(arg)
                    continue
                scalar = Value("parameter", (), None, arg.dtype, -1, 0)
                if shape == VECTOR:
                    self._take(arg, lane)
                else:
                    self._to.push(arg)
                    self.write("i64.const", lane * shape)
                    self.write("i64.add")
                self._to.places[scalar] = self._to.set_new(value_type(arg.dtype))
                scalars.append(scalar)
            one = Value(value.op, tuple(scalars), value.attr, value.dtype, -1, 0)
            self._to.compute(one)

        self._gathered(value.dtype, element)

    # Blocks

    def block(self, block: Block) -> None:
        """Writes the items of a block."""
        for item in block.items:
            if isinstance(item, Value):
                self._value(item)
            elif isinstance(item, Store):
                self._store(item)
            elif isinstance(item, For):
                self._for(item)
            elif isinstance(item, If):
                self._if(item)

    def _value(self, value: Value) -> None:
        if self._shape(value) != VECTOR:
            self._to.value(value)
        elif value not in self.places and not self._to.waits(value):
            self.push(value)
            self.places[value] = self._to.set_new("v128")

    def _store(self, item: Store) -> None:
        more = self._to.address(item.buffer, item.offset)
        if self._shape(item.offset) == 1 and item.value.dtype != _BOOL:
            self.push(item.value)
            self.write("v128.store", more)
            return
        address = self._to.set_new("i32")
        step = self._shape(item.offset) * item.buffer.element.itemsize
        self.push(item.value)
        self.places[item.value] = self._to.set_new("v128")
        for lane in range(self.lanes):
            self._moved(address, lane * step)
            self._take(item.value, lane)
            self.write(store_of(item.value.dtype), more)

    def _set(self, values: Sequence[Value], places: Sequence[Value]) -> None:
        """Gives variables values, all at once."""
        for value, place in zip(values, places, strict=True):
            (self.push if place in self.places else self._to.push)(value)
        for place in reversed(places):
            table = self.places if place in self.places else self._to.places
            self.write("local.set", table[place])

    def _new(self, value: Value) -> int:
        if self._shape(value) == VECTOR:
            self.places[value] = self._to.new("v128")
            return self.places[value]
        self._to.places[value] = self._to.new(value_type(value.dtype))
        return self._to.places[value]

    def _for(self, loop: For) -> None:
        for param, result in zip(loop.params, loop.results, strict=True):
            local = self._new(param)
            table = self.places if param in self.places else self._to.places
            table[result] = local
        self._set(loop.inits, loop.params)

        def body() -> None:
            self.block(loop.body)
            self._set(loop.yields, loop.params)

        self._to.counted(loop, loop.lower, body)

    def _if(self, branch: If) -> None:
        for result in branch.results:
            self._new(result)
        if self._shape(branch.predicate) == UNIFORM:
            self._to.push(branch.predicate)
            self.write("if", "")
            self._side(branch.then, branch.then_values, branch.results)
            self.write("else")
            self._side(branch.otherwise, branch.else_values, branch.results)
            self.write("end")
            return
        # What all lanes would have without the branch, and then those that take it.
        self._side(branch.otherwise, branch.else_values, branch.results)
        predicate = self.kept(branch.predicate)
        self.write("v128.any_true")
        self.write("if", "")
        self._to.enter()
        self.block(branch.then)
        for result, value in zip(branch.results, branch.then_values, strict=True):
            self.push(value)
            self.write("local.get", self.places[result])
            self.write("local.get", predicate)
            self.write("v128.bitselect")
            self.write("local.set", self.places[result])
        self._to.exit()
        self.write("end")

    def _side(self, block: Block, values: Sequence[Value], results: Sequence[Value]) -> None:
        self._to.enter()
        self.block(block)
        self._set(values, results)
        self._to.exit()

    # Whole loops and functions

    def loop(self, loop: For, index: int) -> None:
        """Writes all iterations of a loop that fill vectors.

        Args:
            loop: its carries, which are reductions, have their scalar variables.
            index: the variable that counts, which is at the first iteration and is left at the
                first one that remains.
        """
        self._to.enter()
        for param, value in zip(loop.params, loop.yields, strict=True):
            self._begin(param, value)
        # One vector further than the last index is not beyond the loop.
        self._to.push(loop.upper)
        self.write("i64.const", self.lanes - 1)
        self.write("i64.sub")
        last = self._to.set_new("i64")
        self.write("local.get", index)
        self.write("local.get", last)
        self.write("i64.lt_s")
        self.write("if", "")
        self.write("loop", "")
        self.block(loop.body)
        self._set(loop.yields, loop.params)
        self.write("local.get", index)
        self.write("i64.const", self.lanes)
        self.write("i64.add")
        self.write("local.tee", index)
        self.write("local.get", last)
        self.write("i64.lt_s")
        self.write("br_if", 0)
        self.write("end")
        for param, value in zip(loop.params, loop.yields, strict=True):
            self._combine(param, value)
        self.write("end")
        self._to.exit()
        for item in walk(loop.body):  # they are written again for what remains
            if isinstance(item, Value):
                self._to.places.pop(item, None)

    def _begin(self, param: Value, value: Value) -> None:
        """A reduction begins with the carry in one lane, and nothing in the others."""
        identity, kind = IDENTITIES[value.op], kind_of(param.dtype, self.lanes)
        if identity is None:
            self._to.push(param)
            self._mask(param.dtype)
            self.write(f"{kind}.splat")
        else:
            self.splat(kind, identity)
            self._to.push(param)
            self._mask(param.dtype)
            self.write(f"{kind}.replace_lane", 0)
        self.places[param] = self._to.set_new("v128")

    def _combine(self, param: Value, value: Value) -> None:
        name = "add" if value.op == "fma" else value.op
        scalars: list[Value] = []
        for lane in range(self.lanes):
            self._take(param, lane)
            scalar = Value("parameter", (), None, param.dtype, -1, 0)
            self._to.places[scalar] = self._to.set_new(value_type(param.dtype))
            scalars.append(scalar)
        while len(scalars) > 1:
            pair = (scalars.pop(0), scalars.pop(0))
            both = Value(name, pair, None, param.dtype, -1, 0)
            operation(both, self._to)
            self._to.places[both] = self._to.set_new(value_type(param.dtype))
            scalars.append(both)
        self._to.push(scalars[0])
        self.write("local.set", self._to.places[param])

    def function(self, function: Function) -> None:
        """Writes a function of vectors."""
        for k, parameter in enumerate(function.params):
            self.places[parameter] = k
        self.block(function.body)
        for value in function.returns:
            self.push(value)
