"""Blocks of the loop IR as LLVM text, one scalar at a time.

Values become numbered registers. Loops are emitted with their test at the end, guarded by one
before where they may not run at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from covector.backends.native import emit_ops
from covector.backends.native.emit_memory import Memory
from covector.backends.native.emit_ops import BETTER_WITH_CONSTANTS, Target
from covector.backends.native.emit_types import INLINED, SHARED, register_type
from covector.backends.native.emit_writer import Writer
from covector.backends.native.superwords import Pack
from covector.loopir.ir import (
    Allocate,
    Block,
    Call,
    Callback,
    Check,
    For,
    If,
    Parallel,
    Poll,
    Reload,
    Segment,
    Store,
    Value,
    While,
)

Carried = Value | Pack
"""What one phi at the head of a loop stands for."""

Phi = tuple[int, str, str]
"""Of a phi: the position of its line, its register and its type."""

_templates: dict[tuple[Any, ...], str] = {}
"""Templates by (operation, attribute, dtype, lanes, target), shared by all compilations."""

_plain_templates: dict[Target, dict[tuple[Any, ...], str]] = {}
"""For each target, those for scalars of which nothing but the operation and type decides."""


_STATEMENTS = {
    Store: "store",
    For: "loop",
    While: "while_loop",
    If: "branch",
    Call: "call",
    Callback: "callback",
    Allocate: "allocate",
    Check: "check",
    Poll: "poll",
    Segment: "segment",
    Parallel: "parallel",
    Reload: "reload",
}
"""Methods of a `BlockEmitter` by what they emit. By name: an emitter refers to itself nowhere, and
goes with the last reference to it."""


class BlockEmitter(Writer):
    """Emits the blocks of one function.

    Args:
        target: the machine.
        memory: addresses and alias information of the function's buffers.
    """

    def __init__(self, target: Target, memory: Memory) -> None:
        super().__init__(target, memory)
        self._plain = _plain_templates.setdefault(target, {})

    # Values

    def block(self, block: Block) -> None:
        """Emits what is in a block.

        Args:
            block: of this function.
        """
        plain, names, lines = self._plain, self.names, self.lines
        for item in self.visited(block.items):
            if type(item) is not Value:
                self.statement(item)
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
        getattr(self, _STATEMENTS[type(item)])(item)

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
            plain = text and not lanes and value.op not in BETTER_WITH_CONSTANTS
            if plain and INLINED not in text:
                self._plain[value.op, value.attr, last.dtype] = text
        if not text:
            return args[0]
        if self.runs and INLINED in text:
            text = text.replace(INLINED, SHARED, 1)
        number = self.count
        self.count = number + 1
        self.lines.append(text.format(number, *args))
        return f"%{number}"

    # Control flow

    def loop(self, item: For) -> None:
        """Emits a counted loop.

        Args:
            item: the statement.
        """
        inits = self.carried(item.params, item.inits)
        self.counted(item, self.use(item.lower), self.use(item.upper), inits, item.trips is None)

    def counted(
        self, item: For, lower: str, upper: str, inits: Sequence[str], guarded: bool
    ) -> None:
        """Emits a counted loop between bounds, perhaps the rest of a loop run in lanes.

        Args:
            item: the statement.
            lower: text of the first index.
            upper: text of the bound.
            inits: texts of the carries on entry.
            guarded: whether there may be no iteration at all.
        """
        params = self.begin_loop(item)
        inits = self.joined(params, item, inits)
        head, done, before = self.new_label(), self.new_label(), self.label
        if guarded:
            self.jump_if(self.define(f"icmp slt i64 {lower}, {upper}"), head, done)
        else:
            self.jump(head)
        self.start(head)
        index = self.names[item.index] = self.fresh()
        position = self.reserve()
        phis = self.open_phis(params)
        self.entered([item.index, *params])
        self.block(item.body)
        following = self.count_on(item, index, lower, item.step)
        lasts = self.carried(params, item.yields)
        self.close_loop(head, done, following, upper)
        latch = self.label
        self.lines[position] = (
            f"  {index} = phi i64 [ {lower}, %{before} ], [ {following}, %{latch} ]"
        )
        self.close_phis(phis, before, inits, lasts)
        self.start(done)
        if guarded:
            lasts = [
                self.define(f"phi {phi[2]} [ {init}, %{before} ], [ {last}, %{latch} ]")
                for phi, init, last in zip(phis, inits, lasts, strict=True)
            ]
        self.end_loop(params, item, lasts)
        self.spend_range(item, lower, upper)

    def spend_range(self, item: For, lower: str, upper: str) -> None:
        """Emits what a counted loop of unknown length adds to the time spent without polling.

        The last loop of a function adds nothing: nobody would ask.

        Args:
            item: the loop.
            lower: text of its first index.
            upper: text of its bound.
        """
        if item.poll_every and item.trips is None and item is not self.last:
            count = self.define(f"sub i64 {upper}, {lower}")
            count = self.define(f"call i64 @llvm.smax.i64(i64 {count}, i64 0)")
            self.spend(count, item.poll_every * item.step)

    def count_on(self, item: For, index: str, lower: str, step: int) -> str:
        """Emits the next index at the end of a loop body, and polls if it is time.

        Args:
            item: the loop.
            index: text of the index.
            lower: text of the first index.
            step: how far to go.

        Returns:
            Text of the next index.
        """
        following = self.define(f"add nsw i64 {index}, {step}")
        if item.poll_every:
            count = self.define(f"sub i64 {following}, {lower}")
            self.poll_every(count, max(item.poll_every * item.step, step))
        return following

    def close_loop(self, head: str, done: str, following: str, upper: str) -> None:
        """Emits the jump back to the head of a counted loop.

        Args:
            head: label of the body.
            done: label of what follows the loop.
            following: text of the next index.
            upper: text of the bound.
        """
        more = self.define(f"icmp slt i64 {following}, {upper}")
        self.jump_if(more, head, done, self.memory.loop_metadata())

    def open_phis(self, params: Sequence[Carried]) -> list[Phi]:
        """Begins the phis of carries at the head of a loop.

        Args:
            params: the carries.

        Returns:
            For each, the position of its line, its register and its type.
        """
        phis: list[Phi] = []
        for param in params:
            name = self.fresh()
            self.name_carry(param, name)
            phis.append((self.reserve(), name, self.type_of(param)))
        return phis

    def close_phis(
        self, phis: Sequence[Phi], before: str, inits: Sequence[str], lasts: Sequence[str]
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
        inits = self.carried(item.params, item.inits)
        params = self.begin_loop(item)
        inits = self.joined(params, item, inits)
        head, body, done, before = *(self.new_label() for _ in range(3)), self.label
        self.jump(head)
        self.start(head)
        counter = self.open_counter(item)
        phis = self.open_phis(params)
        self.entered(params)
        self.block(item.header)
        self.jump_if(self.use(item.predicate), body, done)
        self.start(body)
        self.block(item.body)
        lasts = self.carried(params, item.yields)
        self.close_counter(counter, before, item.poll_every)
        self.close_phis(phis, before, inits, lasts)
        self.lines.append(f"  br label %{head}{self.memory.loop_metadata()}")
        self.start(done)
        self.end_loop(params, item, [name for _, name, _ in phis])
        if counter is not None:
            self.spend(counter[1], item.poll_every)

    def open_counter(self, item: While) -> tuple[int, str] | None:
        """Begins the counter of a loop without an index, if it has to poll.

        Args:
            item: the loop.

        Returns:
            The position of the phi's line and its register.
        """
        if not item.poll_every:
            return None
        name = self.fresh()
        return self.reserve(), name

    def close_counter(self, counter: tuple[int, str] | None, before: str, interval: int) -> None:
        """Completes a counter at the end of a loop body, and polls by it.

        Args:
            counter: from `open_counter`.
            before: label of the block before the loop.
            interval: after how many iterations to poll.
        """
        if counter is None:
            return
        position, name = counter
        following = self.define(f"add nuw nsw i64 {name}, 1")
        self.poll_every(following, interval)
        self.lines[position] = (
            f"  {name} = phi i64 [ 0, %{before} ], [ {following}, %{self.label} ]"
        )

    def branch(self, item: If) -> None:
        """Emits a branch.

        Args:
            item: the statement.
        """
        then, otherwise, done, origin = *(self.new_label() for _ in range(3)), self.label
        empty = not item.otherwise.items
        self.jump_if(self.use(item.predicate), then, done if empty else otherwise)
        second: Sequence[str] = self.carried(item.results, item.else_values) if empty else ()
        self.start(then)
        self.block(item.then)
        first, here = self.carried(item.results, item.then_values), self.label
        self.jump(done)
        if not empty:
            self.start(otherwise)
            self.block(item.otherwise)
            second, origin = self.carried(item.results, item.else_values), self.label
            self.jump(done)
        self.start(done)
        # All phis stand together, before what setting a result may add.
        texts = [
            self.define(f"phi {self.type_of(result)} [ {one}, %{here} ], [ {other}, %{origin} ]")
            for result, one, other in zip(item.results, first, second, strict=True)
        ]
        for result, text in zip(item.results, texts, strict=True):
            self.set_result(result, text)

    # What differs in lanes and with packs

    def begin_loop(self, item: For | While) -> Sequence[Carried]:
        """Called before a loop.

        Args:
            item: the loop.

        Returns:
            What its phis stand for: its parameters, some of them perhaps in packs.
        """
        return item.params

    def joined(
        self, params: Sequence[Carried], item: For | While, texts: Sequence[str]
    ) -> Sequence[str]:
        """Values of what phis stand for.

        Args:
            params: from `begin_loop`.
            item: the loop.
            texts: a value for each of its parameters.

        Returns:
            A value for each phi.
        """
        return texts

    def end_loop(self, params: Sequence[Carried], item: For | While, texts: Sequence[str]) -> None:
        """Notes the results of a loop.

        Args:
            params: from `begin_loop`.
            item: the loop.
            texts: the value of each phi after it.
        """
        for result, text in zip(item.results, texts, strict=True):
            self.set_result(result, text)

    def carried(self, params: Sequence[Carried], values: Sequence[Value]) -> Sequence[str]:
        """Texts of values that become those of others.

        Args:
            params: carries or results.
            values: what they become; those of packs are known to the pack.

        Returns:
            The texts.
        """
        return [self.use(v) for v in values]

    def type_of(self, value: Carried) -> str:
        """The type of the register that holds a value."""
        return register_type(value.dtype)

    def name_carry(self, param: Carried, name: str) -> None:
        """Notes the register of a carry."""
        assert type(param) is Value
        self.names[param] = name

    def set_result(self, result: Value, text: str) -> None:
        """Notes the text of a statement's result."""
        self.names[result] = text

    def entered(self, values: Sequence[Carried]) -> None:
        """Called at the head of a loop, after its phis, with what they define."""
