"""The loop IR as text, for people and for golden tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from covector.loopir.ir import (
    PRIVATE,
    WORKSPACE,
    Allocate,
    Block,
    Buffer,
    Call,
    CallArgument,
    Callback,
    Check,
    For,
    Function,
    If,
    Item,
    Parallel,
    Pointer,
    Poll,
    Reload,
    Segment,
    Store,
    Value,
    While,
)
from covector.loopir.scalars import BF16

_SHORT = {"bool": "bool", "bfloat16": "bf16", "complex64": "c64", "complex128": "c128"}


def short_name(dtype: Any) -> str:
    """The short name of a dtype: f32, i64, u8, bool, bf16, c64.

    Args:
        dtype: a NumPy dtype.

    Returns:
        The name.
    """
    if dtype is BF16:
        return "bf16"
    return _SHORT.get(dtype.name) or f"{dtype.kind}{8 * dtype.itemsize}"


def print_function(function: Function) -> str:
    """A function as text; the same for functions that differ only in value numbers.

    Args:
        function: any function.

    Returns:
        Lines, the functions it is split into after it.

    Example:
        >>> import numpy as np
        >>> from covector.loopir.builder import Builder
        >>> b = Builder("negate")
        >>> x = b.argument(np.dtype("f4"), (4,), "x")
        >>> y = b.result(np.dtype("f4"), (4,), "y")
        >>> b.loop(0, 4, lambda i: b.store(y, (i,), b.op("neg", b.load(x, i))))
        []
        >>> print(print_function(b.finish()))
        function negate
          argument x: f32[4]
          result y: f32[4]
          for %0 in 0..4 {
            %1: f32 = load x[%0]
            %2: f32 = neg %1
            store y[%0] = %2
          }
    """
    return "\n".join(_Printer().function(function))


class _Printer:
    def __init__(self) -> None:
        self.names: dict[Value, str] = {}
        self.count = 0
        self.lines: list[str] = []
        self.segments: list[Function] = []

    def function(self, function: Function) -> list[str]:
        params = [f"{self.define(p)}: {short_name(p.dtype)}" for p in function.params]
        head = f"function {function.name}"
        self.lines.append(f"{head}({', '.join(params)})" if params else head)
        for buffer in function.buffers:
            self.lines.append(f"  {self.buffer(buffer)}")
        self.block(function.body, "  ")
        if function.returns:
            self.lines.append(f"  return {self.uses(function.returns)}")
        lines = self.lines
        for segment in dict.fromkeys(self.segments):
            lines += ["", *_Printer().function(segment)]
        return lines

    def buffer(self, buffer: Buffer) -> str:
        shape = ",".join(str(e) if isinstance(e, int) else self.use(e) for e in buffer.shape)
        text = f"{buffer.space} {buffer.name}: {short_name(buffer.dtype)}[{shape}]"
        if buffer.space in (WORKSPACE, PRIVATE) and buffer.offset is not None:
            text += f" at {buffer.offset}"
        return text

    def block(self, block: Block, indent: str) -> None:
        for item in block.items:
            self.item(item, indent)

    def item(self, item: Item, indent: str) -> None:
        if isinstance(item, Value):
            self.lines.append(f"{indent}{self.typed(item)} = {self.expression(item)}")
        elif isinstance(item, For):
            self.loop(item, indent)
        elif isinstance(item, While):
            self.while_loop(item, indent)
        elif isinstance(item, If):
            self.branch(item, indent)
        else:
            self.lines.append(indent + self.simple(item))

    def expression(self, value: Value) -> str:
        if value.op == "load":
            return f"load {value.attr.name}[{self.use(value.args[0])}]"
        if value.op == "dim":
            return f"dim {value.attr}"
        name = value.op
        if value.op == "call":
            name = f"call {value.attr}"
        elif value.op not in ("convert", "bitcast") and value.attr is not None:
            name = f"{value.op}.{value.attr}"
        return f"{name} {self.uses(value.args)}"

    def simple(
        self, item: Store | Call | Callback | Allocate | Check | Poll | Segment | Parallel | Reload
    ) -> str:
        if isinstance(item, Store):
            place = f"{item.buffer.name}[{self.use(item.offset)}]"
            return f"store {place} = {self.use(item.value)}"
        if isinstance(item, Call):
            args = ", ".join(self.argument(a) for a in item.args)
            text = f"call {item.symbol}({args})"
            if item.result is not None:
                text = f"{self.typed(item.result)} = {text}"
            if not item.leaves:
                return text
            return f"{text} else {'status' if item.site is None else f'site {item.site}'}"
        if isinstance(item, Callback):
            args, outputs = (", ".join(b.name for b in bs) for bs in (item.args, item.outputs))
            return f"callback {item.number}({args}) to ({outputs})"
        if isinstance(item, Allocate):
            return f"allocate {item.buffer.name}[{self.use(item.count)}] else site {item.site}"
        if isinstance(item, Check):
            return f"check {self.use(item.ok)} else site {item.site}"
        if isinstance(item, Reload):
            return f"{self.typed(item.value)} = reload {item.buffer.name}[{item.slot}]"
        if isinstance(item, Segment):
            self.segments.append(item.function)
            names = ", ".join([b.name for b in item.buffers])
            return f"run {item.function.name}{f' with {names}' if names else ''}"
        if isinstance(item, Parallel):
            self.segments.append(item.function)
            bounds = f"{self.use(item.lower)}..{self.use(item.upper)}"
            return f"run {item.function.name} parallel in {bounds} by {item.grain}"
        return "poll"

    def loop(self, loop: For, indent: str) -> None:
        head = f"for {self.define(loop.index)} in {self.use(loop.lower)}..{self.use(loop.upper)}"
        if loop.step != 1:
            head += f" step {loop.step}"
        if loop.kind != "serial":
            head += f" {loop.kind}"
        if loop.width:
            head += f"({loop.width})"
        head += self.polls(loop) + self.carries(loop.params, loop.inits)
        start = len(self.lines)
        self.lines.append("")
        self.block(loop.body, indent + "  ")
        self.end(loop.yields, indent)
        self.lines[start] = indent + self.defined(loop.results) + head + " {"

    def while_loop(self, loop: While, indent: str) -> None:
        head = f"while{self.polls(loop)}{self.carries(loop.params, loop.inits)}"
        start = len(self.lines)
        self.lines.append("")
        self.block(loop.header, indent + "  ")
        self.lines.append(f"{indent}}} {self.use(loop.predicate)} do {{")
        self.block(loop.body, indent + "  ")
        self.end(loop.yields, indent)
        self.lines[start] = indent + self.defined(loop.results) + head + " {"

    def branch(self, branch: If, indent: str) -> None:
        start = len(self.lines)
        self.lines.append("")
        self.block(branch.then, indent + "  ")
        if branch.otherwise.items or branch.results:
            self.end(branch.then_values, indent, "} else {")
            self.block(branch.otherwise, indent + "  ")
            self.end(branch.else_values, indent)
        else:
            self.end((), indent)
        head = f"if {self.use(branch.predicate)} {{"
        self.lines[start] = indent + self.defined(branch.results) + head

    def polls(self, loop: For | While) -> str:
        return f" polling every {loop.poll_every}" if loop.poll_every else ""

    def carries(self, params: Sequence[Value], inits: Sequence[Value]) -> str:
        if not params:
            return ""
        pairs = zip(params, inits, strict=True)
        return f" carry ({', '.join(f'{self.typed(p)} = {self.use(i)}' for p, i in pairs)})"

    def end(self, yields: Sequence[Value], indent: str, brace: str = "}") -> None:
        if yields:
            self.lines.append(f"{indent}  yield {self.uses(yields)}")
        self.lines.append(indent + brace)

    def defined(self, values: Sequence[Value]) -> str:
        return f"{', '.join(self.typed(v) for v in values)} = " if values else ""

    def typed(self, value: Value) -> str:
        return f"{self.define(value)}: {short_name(value.dtype)}"

    def define(self, value: Value) -> str:
        if value.op == "dim":
            return self.names.setdefault(value, f"%dim{value.attr}")
        self.count += value not in self.names
        return self.names.setdefault(value, f"%{self.count - 1}")

    def uses(self, values: Iterable[Value]) -> str:
        return ", ".join(self.use(v) for v in values)

    def use(self, value: Value) -> str:
        if value.op == "dim":
            return self.define(value)
        if value.op != "const":
            return self.names.get(value) or f"%undefined.{value.id}"
        if isinstance(value.attr, bool):
            return "true" if value.attr else "false"
        return repr(value.attr)

    def argument(self, arg: CallArgument) -> str:
        if isinstance(arg, Pointer):
            return f"&{arg.buffer.name}[{self.use(arg.offset)}]"
        if isinstance(arg, Value):
            return self.use(arg)
        return "null" if arg is None else "context"
