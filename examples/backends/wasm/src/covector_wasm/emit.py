"""Loop IR functions as functions of WebAssembly."""

from __future__ import annotations

import linecache
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.extend.backends import OUT_OF_MEMORY, CompilationError, Equation, Lowered
from covector.extend.loopir import (
    ARGUMENT,
    CONSTANT,
    HEAP,
    OPERATIONS,
    WORKSPACE,
    Allocate,
    Block,
    Buffer,
    Call,
    Check,
    For,
    Function,
    If,
    Item,
    Pointer,
    Poll,
    Store,
    Value,
    While,
    definition,
    short_name,
)
from covector_wasm.analysis import live_values, used_buffers, used_once
from covector_wasm.helpers import helper
from covector_wasm.library import routine
from covector_wasm.module import COMMENT, Code, Instruction, Module
from covector_wasm.operations import literal, load_of, operation, store_of, value_type
from covector_wasm.routines import Routine
from covector_wasm.runtime import ALLOCATE, memory_functions
from covector_wasm.vector_operations import kind_of
from covector_wasm.vector_plan import plan_loop, plan_vectors
from covector_wasm.vectors import Vectors

DEEPEST = 24
"""Operations in one expression that is computed on the stack, without a local variable."""

_READ_ONLY = frozenset((ARGUMENT, CONSTANT))


class Unit:
    """A module that is being written.

    Args:
        vectors: whether loops run in vectors of 128 bits where they can.

    Attributes:
        module: what is written so far.
        vectors: as above.
    """

    def __init__(self, vectors: bool = True) -> None:
        self.module = Module()
        self.vectors = vectors
        self._known: set[str] = set()
        self.module.functions |= {f.name: f for f in memory_functions()}

    def entry(self, lowered: Lowered, symbol: str, exported: bool = True) -> None:
        """Adds a program, as a function with addresses for parameters.

        Args:
            lowered: the program as loop IR.
            symbol: its name.
            exported: whether it can be called from outside.
        """
        function = lowered.function
        places = {
            buffer: (None, self.module.place(lowered.constants[buffer.index].tobytes(), 64))
            for buffer in function.buffers
            if buffer.space == CONSTANT
        }
        inputs, outputs = len(lowered.program.inputs), len(lowered.program.outputs)
        sizes = len(lowered.sizes)
        writer = Writer(function, self, sizes + inputs + outputs, lowered.workspace_bytes)
        writer.bases |= places
        for buffer in used_buffers(function):
            if buffer.space not in (CONSTANT, WORKSPACE, HEAP):
                first = sizes if buffer.space == ARGUMENT else sizes + inputs
                writer.bases[buffer] = (first + buffer.index, 0)
        writer.entry()
        names = [f"n{k}" for k in range(sizes)] + [f"a{k}" for k in range(inputs)]
        names += [f"r{k}" for k in range(outputs)]
        self.module.functions[symbol] = Code(
            symbol,
            ["i32"] * len(names),
            ["i32"],
            writer.locals,
            writer.body,
            "sizes, addresses of arguments and results -> status",
            symbol if exported else "",
            names,
        )

    def need(self, operation: str, dtype: str) -> str:
        """The name of a helper or of an elementary function, which becomes part of the module."""
        name = f"math.{operation}_{dtype}"
        if name not in self._known:
            spec = OPERATIONS.get(operation)
            if spec is not None and spec.elementary:
                real = next(d for d in spec.results if short_name(d) == dtype)
                self._scalar(name, definition(operation, real))
            else:
                self._scalar(name, helper(operation, dtype))
        return name

    def need_vector(self, function: Function, operation: str, dtype: Any) -> str:
        """The name of a function of vectors, which becomes part of the module.

        Args:
            function: the same of scalars, for which there is a plan.
            operation: what it computes.
            dtype: of the numbers.
        """
        name, plan = f"math.{operation}_{kind_of(dtype)}", plan_vectors(function)
        if plan is not None and name not in self._known:
            self._known.add(name)
            types = ["v128"] * len(function.params)
            writer = Writer(function, self, types, 0)
            Vectors(writer, plan).function(function)
            code = Code(name, types, ["v128"], writer.locals, writer.body)
            self.module.functions[name] = code
        return name

    def _scalar(self, name: str, function: Function) -> None:
        """Adds a function of scalars."""
        self._routine(Routine(name, function, function.params))

    def call(self, symbol: str, args: Sequence[Any]) -> Routine:
        """The function of the library that a call means, which becomes part of the module.

        Args:
            symbol: of the function.
            args: of the call.
        """
        found = routine(symbol, args)
        if found.name not in self._known:
            self._routine(found)
        return found

    def _routine(self, found: Routine) -> None:
        self._known.add(found.name)  # before it is there: it may call itself
        types = [value_type(p.dtype) if isinstance(p, Value) else "i32" for p in found.parameters]
        writer = Writer(found.function, self, types, _placed(found.function))
        for k, parameter in enumerate(found.parameters):
            if isinstance(parameter, Value):
                writer.places[parameter] = k
            else:
                writer.bases[parameter] = (k, 0)
        for buffer in found.function.buffers:
            if buffer.space == CONSTANT:
                writer.bases[buffer] = (None, self.module.place(buffer.data.tobytes(), 64))
        writer.routine()
        results = [value_type(v.dtype) for v in found.function.returns]
        self.module.functions[found.name] = Code(
            found.name, types, results, writer.locals, writer.body
        )


def _placed(function: Function) -> int:
    """Gives the temporary arrays of a routine places in its workspace, whose size is returned."""
    total = 0
    for buffer in function.buffers:
        if buffer.space == WORKSPACE:
            buffer.offset = total
            total += -(-(buffer.nbytes or 0) // 64) * 64
    return total


class Writer:
    """Writes the body of one function.

    Args:
        function: what to write.
        unit: the module.
        params: types of its parameters, or how many addresses they are.
        workspace: bytes of memory for its workspace.

    Attributes:
        body: the instructions.
        locals: types of local variables, without the parameters.
        places: the local variables of values.
        vectors: whether loops may run in vectors.
        bases: of each buffer the local variable with its address, if there is one, and what is to
            be added.
    """

    def __init__(
        self, function: Function, unit: Unit, params: Sequence[str] | int, workspace: int
    ) -> None:
        self.body: list[Instruction] = []
        self.locals: list[str] = []
        self.places: dict[Value, int] = {}
        self.bases: dict[Buffer, tuple[int | None, int]] = {}
        self.vectors = unit.vectors
        self._function = function
        self._unit = unit
        self._params = params if isinstance(params, int) else len(params)
        self._workspace = workspace
        self._live = live_values(function)
        self._inlined = used_once(function, self._live)
        self._depths: dict[Value, int] = {}
        self._free: dict[str, list[int]] = {}
        self._scopes: list[list[tuple[str, int]]] = [[]]
        self._mark: int | None = None
        self._line: tuple[str, int] | None = None

    def entry(self) -> None:
        """Writes a function whose first parameters are sizes, and which returns a status."""
        self.sizes()
        self._memory()
        self._block(self._function.body)
        self._forget()
        self.write("i32.const", 0)

    def sizes(self, first: int = 0) -> None:
        """Makes sizes that are parameters known, from a first one on."""
        for item in self._function.body.items:
            if isinstance(item, Value) and item.op == "dim":
                self.write("local.get", first + item.attr)
                self.write("i64.extend_i32_u")
                self.places[item] = self.set_new("i64")

    def routine(self) -> None:
        """Writes a function that returns what the loop IR says."""
        self._memory()
        self._block(self._function.body)
        for value in self._function.returns:
            self.push(value)
        self._forget()

    def _memory(self) -> None:
        """Workspace, and where memory is to be free again at the end."""
        used = used_buffers(self._function)
        spaces = {buffer.space for buffer in used}
        if spaces & {WORKSPACE, HEAP}:
            self.write("global.get", 0)
            self._mark = self.set_new("i32")
        if WORKSPACE in spaces:
            self.write("i64.const", self._workspace)
            local = self._allocated()
            for buffer in used:
                if buffer.space == WORKSPACE:
                    self.bases[buffer] = (local, buffer.offset or 0)

    def _allocated(self) -> int:
        """Memory for as many bytes as is on the stack; leaves the function if there is none."""
        self.write("call", ALLOCATE)
        local = self.new("i32")
        self.write("local.tee", local)
        self.write("i32.eqz")
        self._leave(lambda: self.write("i32.const", OUT_OF_MEMORY))
        return local

    def _forget(self) -> None:
        """Makes the memory of this function free."""
        if self._mark is not None:
            self.write("local.get", self._mark)
            self.write("global.set", 0)

    def _leave(self, status: Any) -> None:
        """Returns a status if there is a number other than zero on the stack."""
        self.write("if", "")
        self._forget()
        status()
        self.write("return")
        self.write("end")

    # Instructions and local variables

    def write(self, name: str, *immediates: Any) -> None:
        """Adds an instruction."""
        self.body.append((name, *immediates))

    def new(self, type_: str) -> int:
        """A local variable of this block and those inside of it."""
        free = self._free.setdefault(type_, [])
        if free:
            local = free.pop()
        else:
            local = self._params + len(self.locals)
            self.locals.append(type_)
        self._scopes[-1].append((type_, local))
        return local

    temporary = new

    def set_new(self, type_: str) -> int:
        """A local variable with what is on the stack."""
        local = self.new(type_)
        self.write("local.set", local)
        return local

    def need(self, helper: str, dtype: str) -> str:
        """As for `Unit`."""
        return self._unit.need(helper, dtype)

    def need_vector(self, function: Function, operation: str, dtype: Any) -> str:
        """As for `Unit`."""
        return self._unit.need_vector(function, operation, dtype)

    def push(self, value: Value) -> None:
        """Leaves a value on the stack."""
        if value.op == "const":
            self.write(*literal(value.attr, value.dtype))
        elif value in self.places:
            self.write("local.get", self.places[value])
        else:
            self.compute(value)

    def _set(self, values: Sequence[Value], places: Sequence[Value]) -> None:
        """Gives variables values, all at once."""
        for value in values:
            self.push(value)
        for place in reversed(places):
            self.write("local.set", self.places[place])

    def compute(self, value: Value) -> None:
        """Leaves a value on the stack that is in no variable."""
        if value.op == "load":
            offset = self.address(value.attr, value.args[0])
            self.write(load_of(value.dtype), offset)
            if value.dtype == np.bool_:
                self.write("i32.const", 0)
                self.write("i32.ne")
        elif value.op == "call":
            for arg in value.args:
                self.push(arg)
            self.write("call", self._unit.call(value.attr, value.args).name)
        else:
            operation(value, self)

    def address(self, buffer: Buffer, offset: Value) -> int:
        """Leaves an address on the stack; what is to be added to it is returned."""
        local, more = self.bases[buffer]
        size = buffer.element.itemsize
        if offset.op == "const":
            self.write(*(("i32.const", 0) if local is None else ("local.get", local)))
            return more + offset.attr * size
        self.push(offset)
        self.write("i32.wrap_i64")
        if size > 1:
            self.write("i32.const", size.bit_length() - 1)
            self.write("i32.shl")
        if local is not None:
            self.write("local.get", local)
            self.write("i32.add")
        return more

    # Blocks

    def _block(self, block: Block) -> None:
        for item in block.items:
            if isinstance(item, Value):
                self.value(item)
                continue
            self._comment(item)
            if isinstance(item, For):
                self._for(item)
            elif isinstance(item, While):
                self._while(item)
            elif isinstance(item, If):
                self._if(item)
            else:
                self._simple(item)

    def value(self, value: Value) -> None:
        """Computes a value, or leaves that for where it is used."""
        if value in self.places or self.waits(value):
            return
        self._comment(value)
        self.compute(value)
        self.places[value] = self.set_new(value_type(value.dtype))

    def waits(self, value: Value) -> bool:
        """Whether a value is computed where it is used, if at all."""
        if value.op in ("const", "dim") or value not in self._live:
            return True
        depth = 1 + max([self._depths.get(a, 0) for a in value.args], default=0)
        movable = value.op != "load" or value.attr.space in _READ_ONLY
        if value in self._inlined and movable and depth < DEEPEST:
            self._depths[value] = depth
            return True
        return False

    def _simple(self, item: Item) -> None:
        if isinstance(item, Store):
            more = self.address(item.buffer, item.offset)
            self.push(item.value)
            self.write(store_of(item.value.dtype), more)
        elif isinstance(item, Check):
            self.push(item.ok)
            self.write("i32.eqz")
            self._leave(lambda: self.write("i32.const", item.site + 1))
        elif isinstance(item, Allocate):
            self.push(item.count)
            self.write("i64.const", item.buffer.element.itemsize)
            self.write("i64.mul")
            self.bases[item.buffer] = (self._allocated(), 0)
        elif isinstance(item, Call):
            self._call(item)
        elif not isinstance(item, Poll):  # a call cannot be interrupted
            raise CompilationError(f"the wasm backend has no {type(item).__name__}")

    def _call(self, item: Call) -> None:
        routine = self._unit.call(item.symbol, item.args)
        for arg in routine.passed(item.args):
            if isinstance(arg, Pointer):
                more = self.address(arg.buffer, arg.offset)
                self.write("i32.const", more)
                self.write("i32.add")
            else:
                self.push(arg)
        self.write("call", routine.name)
        if item.result is None:
            self.write("drop")
            return
        status = self.places[item.result] = self.set_new(value_type(item.result.dtype))
        if item.leaves:
            code = ("local.get", status) if item.site is None else ("i32.const", item.site + 1)
            self.write("local.get", status)
            self._leave(lambda: self.write(*code))

    # Loops and branches

    def enter(self) -> None:
        """Begins a block, whose local variables are free again after `exit`."""
        self._scopes.append([])

    def exit(self) -> None:
        """Ends a block."""
        for type_, local in self._scopes.pop():
            self._free[type_].append(local)

    def _carries(self, loop: For | While) -> None:
        for param, result in zip(loop.params, loop.results, strict=True):
            self.places[param] = self.places[result] = self.new(value_type(param.dtype))
        self._set(loop.inits, loop.params)

    def _for(self, loop: For) -> None:
        self._carries(loop)
        plan = plan_loop(loop, self._live) if self.vectors else None
        trips = loop.trips
        if plan is None or (trips is not None and trips < plan.lanes):
            self.counted(loop, loop.lower, lambda: self._iteration(loop))
            return
        self.enter()
        self.push(loop.lower)
        index = self.places[loop.index] = self.set_new("i64")
        Vectors(self, plan).loop(loop, index)
        if trips is None or trips % plan.lanes:
            self.counted(loop, None, lambda: self._iteration(loop))
        self.exit()

    def _iteration(self, loop: For) -> None:
        self._block(loop.body)
        self._set(loop.yields, loop.params)

    def counted(self, loop: For, first: Value | None, body: Callable[[], None]) -> None:
        """Writes a counted loop.

        Args:
            loop: which; its carries have variables.
            first: where the index begins; `None` if it has its variable already.
            body: writes an iteration.
        """
        if loop.trips == 0:
            return
        self.enter()
        if first is not None:
            self.push(first)
            self.places[loop.index] = self.set_new("i64")
        index = self.places[loop.index]
        guarded = loop.trips is None or first is None
        if guarded:
            self.write("local.get", index)
            self.push(loop.upper)
            self.write("i64.lt_s")
            self.write("if", "")
        self.write("loop", "")
        body()
        self.write("local.get", index)
        self.write("i64.const", loop.step)
        self.write("i64.add")
        self.write("local.tee", index)
        self.push(loop.upper)
        self.write("i64.lt_s")
        self.write("br_if", 0)
        self.write("end")
        if guarded:
            self.write("end")
        self.exit()

    def _while(self, loop: While) -> None:
        self._carries(loop)
        self.enter()
        self.write("block", "")
        self.write("loop", "")
        self._block(loop.header)
        self.push(loop.predicate)
        self.write("i32.eqz")
        self.write("br_if", 1)
        self._block(loop.body)
        self._set(loop.yields, loop.params)
        self.write("br", 0)
        self.write("end")
        self.write("end")
        self.exit()

    def _if(self, branch: If) -> None:
        for result in branch.results:
            self.places[result] = self.new(value_type(result.dtype))
        self.push(branch.predicate)
        self.write("if", "")
        self._side(branch.then, branch.then_values, branch.results)
        if branch.otherwise.items or branch.results:
            self.write("else")
            self._side(branch.otherwise, branch.else_values, branch.results)
        self.write("end")

    def _side(self, block: Block, values: Sequence[Value], results: Sequence[Value]) -> None:
        self.enter()
        self._block(block)
        self._set(values, results)
        self.exit()

    # The user's lines

    def _comment(self, item: Item) -> None:
        """The line for which an item was made, where it is another one than before."""
        origins = self._function.origins
        origin = None if origins is None else origins.of(item)
        place = origin.location if isinstance(origin, Equation) else None
        if place is None or (place.file, place.line) == self._line:
            return
        self._line = place.file, place.line
        code = linecache.getline(place.file, place.line).strip()
        self.write(COMMENT, f"{os.path.basename(place.file)}:{place.line}  {code}".strip())
