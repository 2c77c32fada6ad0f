"""Blocks of the loop IR as LLVM text, one scalar at a time.

Values become numbered registers. Loops are emitted with their test at the end, guarded by one
before where they may not run at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.backends.native import emit_ops
from covector.backends.native.emit_memory import Memory
from covector.backends.native.emit_ops import BETTER_WITH_CONSTANTS, Target
from covector.backends.native.emit_types import (
    CANCELLED,
    CONTEXT_ALLOC,
    CONTEXT_CALLBACK,
    CONTEXT_CANCEL,
    OUT_OF_MEMORY,
    PYTHON_ERROR,
    alignment,
    constant,
    memory_type,
    register_type,
)
from covector.loopir.ir import (
    BOOL,
    Allocate,
    Block,
    Buffer,
    Call,
    CallArgument,
    Callback,
    Check,
    Context,
    DType,
    For,
    Function,
    If,
    LoopIRError,
    Pointer,
    Poll,
    Reload,
    Segment,
    Store,
    Value,
    While,
)

_templates: dict[tuple[Any, ...], str] = {}
"""Templates by (operation, attribute, dtype, lanes, target), shared by all compilations."""

_plain_templates: dict[Target, dict[tuple[Any, ...], str]] = {}
"""For each target, those for scalars of which nothing but the operation and type decides."""


class BlockEmitter:
    """Emits the body of one function.

    Args:
        function: the function.
        target: the machine.
        memory: addresses and alias information of its buffers.

    Attributes:
        lines: the body so far.
        label: of the basic block being written.
        lanes: vector length of what varies; 0 outside loops that run in lanes.
    """

    def __init__(self, function: Function, target: Target, memory: Memory) -> None:
        self.function = function
        self.target = target
        self.memory = memory
        self.lines: list[str] = []
        self.label = "entry"
        self.lanes = 0
        self.names: dict[Value, str] = {}
        self.count = 0
        self.labels = 0
        self.exits: dict[int, str] = {}
        self.allocas: list[str] = []
        self._plain = _plain_templates.setdefault(target, {})
        self._statements: dict[type, Callable[[Any], None]] = {
            Store: self.store,
            For: self.loop,
            While: self.while_loop,
            If: self.branch,
            Call: self.call,
            Callback: self.callback,
            Allocate: self.allocate,
            Check: self.check,
            Poll: self.poll,
            Segment: self.segment,
            Reload: self.reload,
        }

    # Text

    def fresh(self) -> str:
        """A register that no other line defines."""
        number = self.count
        self.count = number + 1
        return f"%{number}"

    def define(self, text: str) -> str:
        """Writes an instruction.

        Args:
            text: the instruction without its result.

        Returns:
            The register that holds the result.
        """
        name = self.fresh()
        self.lines.append(f"  {name} = {text}")
        return name

    def new_label(self) -> str:
        """A label that no other block has."""
        self.labels += 1
        return f"L{self.labels}"

    def start(self, label: str) -> None:
        """Begins a basic block.

        Args:
            label: its label.
        """
        self.lines.append(f"{label}:")
        self.label = label

    def jump(self, label: str) -> None:
        """Ends a basic block.

        Args:
            label: where to go.
        """
        self.lines.append(f"  br label %{label}")

    def jump_if(self, condition: str, then: str, otherwise: str, suffix: str = "") -> None:
        """Ends a basic block with a choice.

        Args:
            condition: an i1.
            then: where to go if it is true.
            otherwise: where to go else.
            suffix: metadata.
        """
        self.lines.append(f"  br i1 {condition}, label %{then}, label %{otherwise}{suffix}")

    def reserve(self) -> int:
        """A line to be written later.

        Returns:
            Its position.
        """
        self.lines.append("")
        return len(self.lines) - 1

    def use(self, value: Value) -> str:
        """The operand text of a scalar value.

        Args:
            value: visible here.

        Returns:
            A register or a constant.
        """
        name = self.names.get(value)
        if name is None:
            if value.op != "const":
                raise LoopIRError(f"{value!r} is used before it is defined")
            name = self.names[value] = constant(value.attr, value.dtype)
        return name

    # Values

    def block(self, block: Block) -> None:
        """Emits what is in a block.

        Args:
            block: of this function.
        """
        statements = self._statements
        plain, names, lines = self._plain, self.names, self.lines
        for item in block.items:
            if type(item) is not Value:
                statements[type(item)](item)
                continue
            args = item.args
            text = plain.get((item.op, item.attr, args[-1].dtype)) if args else None
            if text is None:
                self.value(item)
                continue
            # The common case, without generality: this is where most of the time goes.
            operands: list[str] = []
            for arg in args:
                name = names.get(arg)
                operands.append(self.use(arg) if name is None else name)
            number = self.count
            self.count = number + 1
            lines.append(text.format(number, *operands))
            names[item] = f"%{number}"

    def statement(self, item: Any) -> None:
        """Emits a statement.

        Args:
            item: anything in a block but a value.
        """
        self._statements[type(item)](item)

    def value(self, value: Value) -> None:
        """Emits a value.

        Args:
            value: an operation, load or call.
        """
        op = value.op
        if op == "load":
            self.names[value] = self.load(value.attr, 0, self.use(value.args[0]))
        elif op == "dim":
            self.names[value] = self.memory.dim(value.attr)
        elif op == "call":
            self.names[value] = self.pure_call(value, [self.use(a) for a in value.args])
        else:
            self.names[value] = self.operation(value, [self.use(a) for a in value.args], 0)

    def operation(self, value: Value, args: Sequence[str], lanes: int) -> str:
        """Emits an operation of the table.

        Args:
            value: the operation.
            args: operand texts.
            lanes: 0 for scalars.

        Returns:
            The result's text.
        """
        last = value.args[-1]
        text = None
        if value.op in BETTER_WITH_CONSTANTS and last.op == "const":
            text = emit_ops.constant_template(value.op, last.dtype, lanes, last.attr, self.target)
        if text is None:
            key = (value.op, value.attr, last.dtype, lanes, self.target)
            text = _templates.get(key)
            if text is None:
                text = emit_ops.template(value.op, value.attr, last.dtype, lanes, self.target)
                _templates[key] = text
            if text and not lanes and value.op not in BETTER_WITH_CONSTANTS:
                self._plain[value.op, value.attr, last.dtype] = text
        if not text:
            return args[0]
        number = self.count
        self.count = number + 1
        self.lines.append(text.format(number, *args))
        return f"%{number}"

    def pure_call(self, value: Value, args: Sequence[str]) -> str:
        """Emits a call of an external function without effects.

        Args:
            value: the call.
            args: operand texts.

        Returns:
            The result's text.
        """
        typed = [f"{register_type(a.dtype)} {t}" for a, t in zip(value.args, args, strict=True)]
        out = register_type(value.dtype)
        return self.define(f"call {out} @{value.attr}({', '.join(typed)})")

    # Memory

    def address(self, buffer: Buffer, offset: str) -> str:
        """The address of an element.

        Args:
            buffer: its buffer.
            offset: text of the linear offset.

        Returns:
            A pointer.
        """
        base = self.memory.base(buffer)
        if offset == "0":
            return base
        return self.define(f"getelementptr inbounds {memory_type(buffer.element)}, ptr {base}, i64 {offset}")

    def load(self, buffer: Buffer, lanes: int, offset: str) -> str:
        """Emits a load of neighbouring elements.

        Args:
            buffer: where from.
            lanes: how many elements; 0 for one as a scalar.
            offset: text of the offset of the first.

        Returns:
            The result's text.
        """
        pointer = self.address(buffer, offset)
        type_ = memory_type(buffer.element, lanes)
        scope = self.memory.scope(buffer)
        name = self.define(f"load {type_}, ptr {pointer}, align {alignment(buffer.element)}{scope}")
        return self.to_register(name, buffer.element, lanes)

    def to_register(self, name: str, dtype: DType, lanes: int) -> str:
        """What was loaded, in its register form: bools are bytes in memory.

        Args:
            name: the loaded value.
            dtype: its dtype.
            lanes: 0 for scalars.

        Returns:
            The value's text.
        """
        if dtype is not BOOL:
            return name
        zero = "zeroinitializer" if lanes else "0"
        return self.define(f"icmp ne {memory_type(dtype, lanes)} {name}, {zero}")

    def to_memory(self, name: str, dtype: DType, lanes: int) -> str:
        """The inverse of `to_register`, before a store.

        Args:
            name: the value.
            dtype: its dtype.
            lanes: 0 for scalars.

        Returns:
            The text of what to store.
        """
        if dtype is not BOOL:
            return name
        register, stored = register_type(dtype, lanes), memory_type(dtype, lanes)
        return self.define(f"zext {register} {name} to {stored}")

    def store(self, item: Store) -> None:
        """Emits a store.

        Args:
            item: the statement.
        """
        self.store_text(item.buffer, self.use(item.offset), self.use(item.value), 0)

    def store_text(self, buffer: Buffer, offset: str, value: str, lanes: int) -> None:
        """Emits a store of neighbouring elements.

        Args:
            buffer: where.
            offset: text of the offset of the first.
            value: text of what is stored.
            lanes: how many elements; 0 for one as a scalar.
        """
        dtype = buffer.element
        pointer = self.address(buffer, offset)
        stored = self.to_memory(value, dtype, lanes)
        scope = self.memory.scope(buffer)
        self.lines.append(
            f"  store {memory_type(dtype, lanes)} {stored}, ptr {pointer}, "
            f"align {alignment(dtype)}{scope}"
        )

    def allocate(self, item: Allocate) -> None:
        """Emits the allocation of a heap buffer.

        Args:
            item: the statement.
        """
        size = alignment(item.buffer.element)
        nbytes = self.define(f"mul i64 {self.use(item.count)}, {size}")
        allocator = self.define(f"load ptr, ptr {self.memory.field(CONTEXT_ALLOC)}")
        name = self.define(f"call ptr {allocator}(ptr %ctx, i64 {nbytes}, i32 {item.site})")
        null = self.define(f"icmp eq ptr {name}, null")
        self.leave_if(null, OUT_OF_MEMORY)
        self.memory.allocated(item.buffer, name, self.lines)

    # Leaving

    def leave_if(self, condition: str, status: int) -> None:
        """Leaves the function on a condition that is rarely true.

        Args:
            condition: an i1.
            status: what to return.
        """
        label = self.exits.get(status)
        if label is None:
            label = self.exits[status] = f"exit.{len(self.exits)}"
        after = self.new_label()
        self.jump_if(condition, label, after, ", !prof !0")
        self.start(after)

    def leave_with(self, status: str) -> None:
        """Leaves the function with a status that is usually 0.

        Args:
            status: an i32.
        """
        failed, after = self.new_label(), self.new_label()
        condition = self.define(f"icmp ne i32 {status}, 0")
        self.jump_if(condition, failed, after, ", !prof !0")
        self.lines += [f"{failed}:", f"  ret i32 {status}"]
        self.start(after)

    def check(self, item: Check) -> None:
        """Emits a check.

        Args:
            item: the statement.
        """
        failed = self.define(f"xor i1 {self.use(item.ok)}, true")
        self.leave_if(failed, item.site + 1)

    def poll(self, item: Poll | None = None) -> None:
        """Emits a look at whether to stop.

        Args:
            item: the statement, if there is one.
        """
        flag = self.define(f"load volatile i32, ptr {self.memory.field(CONTEXT_CANCEL)}")
        self.leave_if(self.define(f"icmp ne i32 {flag}, 0"), CANCELLED)
        status = self.define("call i32 @cv_poll(ptr %ctx)")
        self.leave_if(self.define(f"icmp ne i32 {status}, 0"), CANCELLED)

    def poll_every(self, count: str, interval: int) -> None:
        """Emits a look at whether to stop, every so often.

        Args:
            count: text of a counter.
            interval: when the counter is a multiple of it.
        """
        due, after = self.new_label(), self.new_label()
        rest = self.define(f"urem i64 {count}, {interval}")
        self.jump_if(self.define(f"icmp eq i64 {rest}, 0"), due, after, ", !prof !0")
        self.start(due)
        self.poll()
        self.jump(after)
        self.start(after)

    def segment(self, item: Segment) -> None:
        """Emits a call of an outlined piece.

        Args:
            item: the statement.
        """
        self.leave_with(self.define(f"call i32 @{item.function.name}({self.memory.passed()})"))

    def reload(self, item: Reload) -> None:
        """Emits the load of a value from a frame.

        Args:
            item: the statement.
        """
        self.names[item.value] = self.load(item.buffer, 0, str(item.slot))

    # Calls

    def call(self, item: Call) -> None:
        """Emits a call of an external function.

        Args:
            item: the statement.
        """
        args = ", ".join(self.argument(a) for a in item.args)
        if item.result is None:
            self.lines.append(f"  call void @{item.symbol}({args})")
            return
        status = self.define(f"call {register_type(item.result.dtype)} @{item.symbol}({args})")
        self.names[item.result] = status
        if item.leaves and item.site is None:
            self.leave_with(status)
        elif item.leaves:
            self.leave_if(self.define(f"icmp ne i32 {status}, 0"), (item.site or 0) + 1)

    def argument(self, arg: CallArgument) -> str:
        """The typed text of an argument of a call.

        Args:
            arg: the argument.

        Returns:
            Type and operand.
        """
        if isinstance(arg, Value):
            return f"{register_type(arg.dtype)} {self.use(arg)}"
        if isinstance(arg, Pointer):
            return f"ptr {self.address(arg.buffer, self.use(arg.offset))}"
        return "ptr %ctx" if isinstance(arg, Context) else "ptr null"

    def callback(self, item: Callback) -> None:
        """Emits a call of a Python function.

        Args:
            item: the statement.
        """
        function = self.define(f"load ptr, ptr {self.memory.field(CONTEXT_CALLBACK)}")
        args, outputs = self.pointer_table(item.args), self.pointer_table(item.outputs)
        status = self.define(f"call i32 {function}(ptr %ctx, i32 {item.number}, {args}, {outputs})")
        self.leave_if(self.define(f"icmp ne i32 {status}, 0"), PYTHON_ERROR)

    def pointer_table(self, buffers: Sequence[Buffer]) -> str:
        """An array of the addresses of buffers, on the stack.

        Args:
            buffers: any number of them.

        Returns:
            The array's address as an argument of a call.
        """
        name = f"%table{len(self.allocas)}"
        self.allocas.append(f"  {name} = alloca [{max(1, len(buffers))} x ptr]")
        for k, buffer in enumerate(buffers):
            place = self.define(f"getelementptr inbounds ptr, ptr {name}, i64 {k}")
            self.lines.append(f"  store ptr {self.memory.base(buffer)}, ptr {place}")
        return f"ptr {name}"

    # Control flow

    def loop(self, item: For) -> None:
        """Emits a counted loop.

        Args:
            item: the statement.
        """
        inits = [self.use(v) for v in item.inits]
        self.counted(item, self.use(item.lower), self.use(item.upper), inits, item.trips is None)

    def counted(
        self, item: For, lower: str, upper: str, inits: Sequence[str], guarded: bool
    ) -> None:
        """Emits a scalar loop between bounds, perhaps the rest of a loop run in lanes.

        Args:
            item: the statement.
            lower: text of the first index.
            upper: text of the bound.
            inits: texts of the carries on entry.
            guarded: whether there may be no iteration at all.
        """
        head, done = self.new_label(), self.new_label()
        before = self.label
        if guarded:
            runs = self.define(f"icmp slt i64 {lower}, {upper}")
            self.jump_if(runs, head, done)
        else:
            self.jump(head)
        self.start(head)
        index = self.names[item.index] = self.fresh()
        position = self.reserve()
        phis = self.open_phis(item.params)
        self.block(item.body)
        following = self.define(f"add nsw i64 {index}, {item.step}")
        if item.poll_every:
            count = self.define(f"sub i64 {following}, {lower}")
            self.poll_every(count, item.poll_every * item.step)
        more = self.define(f"icmp slt i64 {following}, {upper}")
        self.jump_if(more, head, done, self.memory.loop_metadata())
        self.lines[position] = (
            f"  {index} = phi i64 [ {lower}, %{before} ], [ {following}, %{self.label} ]"
        )
        lasts = [self.use(v) for v in item.yields]
        self.close_phis(phis, before, inits, lasts)
        latch = self.label
        self.start(done)
        for result, init, last in zip(item.results, inits, lasts, strict=True):
            if guarded:
                type_ = register_type(result.dtype)
                last = self.define(f"phi {type_} [ {init}, %{before} ], [ {last}, %{latch} ]")
            self.names[result] = last

    def open_phis(self, params: Sequence[Value]) -> list[tuple[int, str, str]]:
        """Begins the phis of scalar carries at the head of a loop.

        Args:
            params: the carries.

        Returns:
            For each, the position of its line, its register and its type.
        """
        phis: list[tuple[int, str, str]] = []
        for param in params:
            name = self.names[param] = self.fresh()
            phis.append((self.reserve(), name, register_type(param.dtype)))
        return phis

    def close_phis(
        self,
        phis: Sequence[tuple[int, str, str]],
        before: str,
        inits: Sequence[str],
        lasts: Sequence[str],
    ) -> None:
        """Completes phis at the end of a loop body, from the block being written.

        Args:
            phis: from `open_phis`.
            before: label of the block before the loop.
            inits: texts of the values from there.
            lasts: texts of the values from here.
        """
        for (position, name, type_), init, last in zip(phis, inits, lasts, strict=True):
            self.lines[position] = (
                f"  {name} = phi {type_} [ {init}, %{before} ], [ {last}, %{self.label} ]"
            )

    def while_loop(self, item: While) -> None:
        """Emits a loop with a condition.

        Args:
            item: the statement.
        """
        inits = [self.use(v) for v in item.inits]
        head, body, done = self.new_label(), self.new_label(), self.new_label()
        before = self.label
        self.jump(head)
        self.start(head)
        count, position = self.fresh(), self.reserve()
        phis = self.open_phis(item.params)
        self.block(item.header)
        self.jump_if(self.use(item.predicate), body, done)
        self.start(body)
        self.block(item.body)
        lasts = [self.use(v) for v in item.yields]
        self.close_count(position, count, before, item.poll_every)
        self.close_phis(phis, before, inits, lasts)
        self.lines.append(f"  br label %{head}{self.memory.loop_metadata()}")
        self.start(done)
        for result, param in zip(item.results, item.params, strict=True):
            self.names[result] = self.names[param]

    def close_count(self, position: int, count: str, before: str, interval: int) -> None:
        """Completes the counter of a loop without an index, and polls by it.

        Args:
            position: line of its phi.
            count: its register.
            before: label of the block before the loop.
            interval: after how many iterations to poll; 0 for never.
        """
        following = self.define(f"add nuw nsw i64 {count}, 1")
        if interval:
            self.poll_every(following, interval)
        self.lines[position] = (
            f"  {count} = phi i64 [ 0, %{before} ], [ {following}, %{self.label} ]"
        )

    def branch(self, item: If) -> None:
        """Emits a branch.

        Args:
            item: the statement.
        """
        then, otherwise, done = self.new_label(), self.new_label(), self.new_label()
        empty = not item.otherwise.items
        origin = self.label
        self.jump_if(self.use(item.predicate), then, done if empty else otherwise)
        self.start(then)
        self.block(item.then)
        first = [(self.use(v), self.label) for v in item.then_values]
        self.jump(done)
        if not empty:
            self.start(otherwise)
            self.block(item.otherwise)
            origin = self.label
        second = [(self.use(v), origin) for v in item.else_values]
        if not empty:
            self.jump(done)
        self.start(done)
        for result, (one, here), (other, there) in zip(item.results, first, second, strict=True):
            type_ = register_type(result.dtype)
            self.names[result] = self.define(
                f"phi {type_} [ {one}, %{here} ], [ {other}, %{there} ]"
            )
