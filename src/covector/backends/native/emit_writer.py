"""Writing the text of one function: registers, labels, memory, ways out, calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from covector.backends.native.emit_memory import Convention, Memory
from covector.backends.native.emit_ops import Target
from covector.backends.native.emit_source import SourceLines
from covector.backends.native.emit_types import (
    CANCELLED,
    CONTEXT_ALLOC,
    CONTEXT_CALLBACK,
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
    Buffer,
    Call,
    CallArgument,
    Callback,
    Check,
    Context,
    DType,
    Function,
    LoopIRError,
    Parallel,
    Pointer,
    Poll,
    Reload,
    Segment,
    Store,
    Value,
)

POLL_TIME = 1 << 20
"""The time between two polls, in what loops add to the time spent without."""


class Writer:
    """Writes the body of one function, statement by statement.

    Args:
        target: the machine.
        memory: addresses and alias information of the function's buffers.

    Attributes:
        lines: the body so far.
        label: of the basic block being written.
        names: texts of scalar values.
        exits: labels of the blocks that return a status known beforehand.
        statuses: others that may be returned, and the blocks where that is decided.
        conventions: of the pieces that the function calls.
        runs: how often what is emitted runs in a run of the program; 0 if that may be often. Where
            it is not, elementary functions are called: their code would be longer.
    """

    def __init__(self, target: Target, memory: Memory) -> None:
        self.target = target
        self.memory = memory
        self.lines: list[str] = []
        self.label = "entry"
        self.names: dict[Value, str] = {}
        self.count = 0
        self.labels = 0
        self.exits: dict[int, str] = {}
        self.statuses: list[tuple[str, str]] = []
        self.conventions: Mapping[Function, Convention] = {}
        self.runs = 0
        self.allocas: list[str] = []
        self.spends = False
        self.last: object = None
        """The last statement of the function."""
        self.source: SourceLines | None = None

    def visited(self, items: Sequence[Any]) -> Iterable[Any]:
        """Items about to be emitted.

        Args:
            items: values, statements and packs of one block.

        Returns:
            The same.
        """
        return items if self.source is None else self.source.visit(items, self.lines)

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
        return self.define(
            f"getelementptr inbounds {memory_type(buffer.element)}, ptr {base}, i64 {offset}"
        )

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
        after = self.new_label()
        condition = self.define(f"icmp ne i32 {status}, 0")
        self.statuses.append((status, self.label))
        self.jump_if(condition, "exit", after, ", !prof !0")
        self.start(after)

    @property
    def leaves(self) -> bool:
        """Whether the function may return before its end."""
        return bool(self.exits or self.statuses)

    def ways_out(self) -> list[str]:
        """The blocks that return a status, for the end of the function."""
        lines: list[str] = []
        for status, label in self.exits.items():
            lines += [f"{label}:", f"  ret i32 {status}"]
        if self.statuses:
            known = ", ".join([f"[ {status}, %{label} ]" for status, label in self.statuses])
            lines += ["exit:", f"  %status = phi i32 {known}", "  ret i32 %status"]
        return lines

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

    def spend(self, count: str, interval: int) -> None:
        """Emits, after a loop that polls, what it adds to the time spent without polling.

        Args:
            count: text of how many iterations it had.
            interval: after how many of them it polls.
        """
        if not self.spends:
            self.spends = True
            self.allocas += ["  %spent = alloca i64", "  store i64 0, ptr %spent"]
        share = self.define(f"mul i64 {count}, {max(1, POLL_TIME // interval)}")
        spent = self.define(f"add i64 {self.define('load i64, ptr %spent')}, {share}")
        self.lines.append(f"  store i64 {spent}, ptr %spent")
        due, after = self.new_label(), self.new_label()
        self.jump_if(self.define(f"icmp ugt i64 {spent}, {POLL_TIME}"), due, after, ", !prof !0")
        self.start(due)
        self.lines.append("  store i64 0, ptr %spent")
        self.poll()
        self.jump(after)
        self.start(after)

    def segment(self, item: Segment) -> None:
        """Emits a call of an outlined piece.

        Args:
            item: the statement.
        """
        convention = self.conventions[item.function]
        passed = self.memory.passed(convention)
        for buffer in item.buffers:
            self.labels += 1
            base, lines = self.memory.base_here(buffer, f"%at{self.labels}")
            self.lines += lines
            passed.append(f"ptr {base}")
        call = f"@{item.function.name}({', '.join(passed)})"
        if convention.leaves:
            self.leave_with(self.define(f"call i32 {call}"))
        else:
            self.lines.append(f"  call void {call}")

    def parallel(self, item: Parallel) -> None:
        """Emits a parallel loop whose iterations are a function.

        Args:
            item: the statement.
        """
        frame = f"%frame{len(self.allocas)}"
        members = self.memory.frame()
        self.allocas.append(f"  {frame} = alloca [{len(members)} x ptr]")
        for k, member in enumerate(members):
            place = self.define(f"getelementptr inbounds ptr, ptr {frame}, i64 {k}")
            self.lines.append(f"  store ptr {member}, ptr {place}")
        bounds = f"i64 {self.use(item.lower)}, i64 {self.use(item.upper)}"
        self.leave_with(
            self.define(
                f"call i32 @cv_parallel(ptr {frame}, ptr @{item.function.name}, {bounds}, "
                f"i64 {item.grain}, i64 {item.private_bytes})"
            )
        )

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
