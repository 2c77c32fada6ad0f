"""Loop IR functions as readable C99."""

from __future__ import annotations

import linecache
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from covector.extend.backends import CompilationError, Equation, Lowered
from covector.extend.loopir import (
    ARGUMENT,
    CONSTANT,
    HEAP,
    OPERATIONS,
    RESULT,
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
    children,
    closing,
    definition,
    operands,
    short_name,
    walk,
)
from covector_c.helpers import NEEDS, name_of, text_of
from covector_c.library import LIBRARY
from covector_c.operations import (
    ATOM,
    Text,
    expression,
    literal,
    memory_type,
    type_of,
    wrapped,
)

OUT_OF_MEMORY = -3
"""What the compiled function returns if `malloc` gave nothing."""

LONGEST = 60
"""Characters of an expression that is written where it is used, without a name."""

_WORDS = """
    auto break case char const continue default do double else enum extern float for goto if inline
    int long register restrict return short signed sizeof static struct switch typedef union
    unsigned void volatile while bool true false dims args results constants workspace status done
"""
_RESERVED = frozenset(_WORDS.split())
"""What nothing else may be called."""
_PURE = frozenset((ARGUMENT, CONSTANT))

_TOP = """\
/* {name}: written by Covector's C backend.
 *
 * C99 that needs nothing but the standard library. Compile with
 *     cc {flags}
 * (signed numbers wrap around, and products and sums are rounded one by one).
 *
 * dims are the sizes known at run time only; args, results and constants are the addresses of
 * contiguous arrays; workspace has {workspace} bytes, aligned to 64. Returns 0, 1 + the number of
 * the check that failed, or {out_of_memory} if memory ran out. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
"""


@dataclass
class Unit:
    """What one file contains besides its entry function.

    Attributes:
        parts: texts of helpers, elementary functions and library functions, in order.
    """

    parts: dict[str, str] = field(default_factory=dict[str, str])

    def need(self, operation: str, dtype: str) -> str:
        """The name of a helper or of an elementary function, which becomes part of the file."""
        for each in NEEDS.get(operation, ()):
            self.need(each, dtype)
        spec = OPERATIONS.get(operation)
        elementary = spec is not None and spec.elementary
        name = f"cv_{operation}_{dtype}" if elementary else name_of(operation, dtype)
        if name in self.parts:
            return name
        if spec is not None and elementary:
            real = next(d for d in spec.results if short_name(d) == dtype)
            text = _elementary(name, definition(operation, real), self)
        else:
            text = text_of(operation, dtype)
        self.parts[name] = text
        return name

    def library(self, symbol: str) -> None:
        """Makes a function of the library part of the file, and what it calls."""
        if symbol not in self.parts:
            for each in LIBRARY[symbol].needs:
                self.library(each)
            self.parts[symbol] = LIBRARY[symbol].text


def emit(lowered: Lowered, name: str, flags: str) -> str:
    """Writes a program as one file.

    Args:
        lowered: the program as loop IR.
        name: symbol of its function.
        flags: of the compiler, for the comment at the top.

    Returns:
        The file.
    """
    unit = Unit()
    body = emit_entry(lowered, name, unit)
    top = _TOP.format(
        name=name,
        flags=flags,
        workspace=lowered.workspace_bytes,
        out_of_memory=OUT_OF_MEMORY,
    )
    return "\n".join([top, *unit.parts.values(), body])


def _elementary(name: str, function: Function, unit: Unit) -> str:
    writer = _Writer(function, unit)
    params = [
        f"{type_of(p.dtype)} {writer.define(p, f'x{k}')}" for k, p in enumerate(function.params)
    ]
    writer.block(function.body)
    (result,) = function.returns
    head = f"static inline {type_of(result.dtype)} {name}({', '.join(params)}) {{"
    return "\n".join([head, *writer.lines, f"    return {writer.use(result).code};", "}", ""])


def emit_entry(lowered: Lowered, name: str, unit: Unit) -> str:
    """Writes a program as a function of tables of addresses.

    Args:
        lowered: the program as loop IR.
        name: symbol of the function.
        unit: the file, which gets what the function needs.

    Returns:
        The function.
    """
    function = lowered.function
    writer = _Writer(function, unit)
    used = _used(function)
    buffers = [b for b in function.buffers if b in used]
    names = {b: writer.name_buffer(b) for b in buffers}
    writer.block(function.body)
    lines = [
        f"int32_t {name}(const int64_t *dims, const void *const *args, void *const *results,",
        f"{' ' * (len(name) + 9)}const void *const *constants, unsigned char *workspace) {{",
        *[f"    {_declaration(b, names[b], writer)}" for b in buffers],
        *[f"    const int64_t n{k} = dims[{k}]; /* {s} */" for k, s in enumerate(lowered.sizes)],
        "    (void)dims, (void)args, (void)results, (void)constants, (void)workspace;",
    ]
    heap = [b for b in buffers if b.space == HEAP]
    leaves = writer.leaves
    if leaves:
        lines.append("    int32_t status = 0;")
    lines += ["", *writer.lines]
    if leaves:
        lines.append("done:")
    lines += [f"    free({names[b]});" for b in heap]
    return "\n".join([*lines, f"    return {'status' if leaves else '0'};", "}", ""])


def _used(function: Function) -> set[Buffer]:
    found: set[Buffer] = set()
    for item in walk(function.body):
        if isinstance(item, Value):
            if item.op == "load":
                found.add(item.attr)
        elif isinstance(item, Store | Allocate):
            found.add(item.buffer)
        elif isinstance(item, Call):
            found |= {a.buffer for a in item.args if isinstance(a, Pointer)}
    return found


def _declaration(buffer: Buffer, name: str, writer: _Writer) -> str:
    type_ = memory_type(buffer.element)
    shape = ", ".join([str(e) if isinstance(e, int) else writer.size(e) for e in buffer.shape])
    comment = f"/* {short_name(buffer.dtype)}[{shape}] */"
    # Buffers of one alias class share memory, at different times.
    pointer = "*restrict " if buffer.alias_class is None else "*"
    if buffer.space == ARGUMENT:
        return f"const {type_} *{name} = args[{buffer.index}]; {comment}"
    if buffer.space == CONSTANT:
        return f"const {type_} *{name} = constants[{buffer.index}]; {comment}"
    if buffer.space == RESULT:
        return f"{type_} {pointer}{name} = results[{buffer.index}]; {comment}"
    if buffer.space == WORKSPACE:
        return f"{type_} {pointer}{name} = ({type_} *)(workspace + {buffer.offset}); {comment}"
    if buffer.space == HEAP:
        return f"{type_} *{name} = NULL; {comment}"
    raise CompilationError(f"the C backend has no memory for {buffer!r}")


class _Writer:
    """Writes the blocks of one function.

    Args:
        function: what to write.
        unit: the file.

    Attributes:
        lines: what is written.
        leaves: whether it may go to the end early.
    """

    def __init__(self, function: Function, unit: Unit) -> None:
        self.lines: list[str] = []
        self.leaves = False
        self._unit = unit
        self._origins = function.origins
        self._texts: dict[Value, Text] = {}
        self._taken = set(_RESERVED)
        self._buffers: dict[Buffer, str] = {}
        self._inlined = _used_once(function)
        self._live = _live(function)
        self._indent = 1
        self._loops = 0
        self._line: tuple[str, int] | None = None

    # Names

    def define(self, value: Value, name: str = "") -> str:
        """Gives a value a name."""
        name = self._unique(name or f"v{value.id}")
        self._texts[value] = Text(name, ATOM)
        return name

    def name_buffer(self, buffer: Buffer) -> str:
        """Gives a buffer a name, that of the loop IR where C allows."""
        name = self._buffers[buffer] = self._unique(re.sub(r"\W", "_", buffer.name))
        return name

    def _unique(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def use(self, value: Value) -> Text:
        """The text of a value where it is used."""
        if value.op == "const":
            return literal(value.attr, value.dtype)
        if value.op == "dim":
            return Text(f"n{value.attr}", ATOM)
        return self._texts[value]

    def size(self, value: Value) -> str:
        """The text of a size in a comment."""
        found = self.use(value) if value.op in ("const", "dim") or value in self._texts else None
        return "?" if found is None else found.code

    def write(self, line: str) -> None:
        """Adds a line."""
        self.lines.append("    " * self._indent + line)

    # Blocks

    def block(self, block: Block) -> None:
        """Writes the items of a block."""
        for item in block.items:
            if isinstance(item, Value):
                self._value(item)
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

    def _value(self, value: Value) -> None:
        if value.op in ("const", "dim") or value not in self._live:
            return
        text = self._expression(value)
        short = len(text.code) <= LONGEST and (value.op != "load" or value.attr.space in _PURE)
        if value in self._inlined and short:
            self._texts[value] = text
            return
        self._comment(value)
        self.write(f"const {type_of(value.dtype)} {self.define(value)} = {text.code};")

    def _expression(self, value: Value) -> Text:
        xs = [self.use(a) for a in value.args]
        if value.op == "load":
            code = f"{self._buffers[value.attr]}[{xs[0].code}]"
            is_bool = short_name(value.dtype) == "bool"
            return Text(f"{code} != 0", 1) if is_bool else Text(code, ATOM)
        if value.op == "call":
            return Text(f"{value.attr}({', '.join([x.code for x in xs])})", ATOM)
        return expression(value, xs, self._unit.need)

    def _simple(self, item: Item) -> None:
        if isinstance(item, Store):
            value = self.use(item.value).code
            self.write(f"{self._buffers[item.buffer]}[{self.use(item.offset).code}] = {value};")
        elif isinstance(item, Check):
            self._leave(f"!{wrapped(self.use(item.ok), ATOM)}", str(item.site + 1))
        elif isinstance(item, Allocate):
            self._allocate(item)
        elif isinstance(item, Call):
            self._call(item)
        elif not isinstance(item, Poll):  # a call cannot be interrupted
            raise CompilationError(f"the C backend has no {type(item).__name__}")

    def _leave(self, condition: str, status: str) -> None:
        self.leaves = True
        self.write(f"if ({condition}) {{")
        self.write(f"    status = {status};")
        self.write("    goto done;")
        self.write("}")

    def _allocate(self, item: Allocate) -> None:
        name = self._buffers[item.buffer]
        count = wrapped(self.use(item.count), ATOM)
        self.write(f"{name} = malloc({count} ? {count} * sizeof *{name} : 1);")
        self._leave(f"!{name}", str(OUT_OF_MEMORY))

    def _call(self, item: Call) -> None:
        self._unit.library(item.symbol)
        call = f"{item.symbol}({', '.join([self._argument(a) for a in item.args])})"
        if item.result is None:
            self.write(f"{call};")
            return
        name = self.define(item.result)
        self.write(f"const {type_of(item.result.dtype)} {name} = {call};")
        if item.leaves:
            self._leave(f"{name} != 0", name if item.site is None else str(item.site + 1))

    def _argument(self, arg: Any) -> str:
        if isinstance(arg, Value):
            return self.use(arg).code
        if isinstance(arg, Pointer):
            offset, name = self.use(arg.offset), self._buffers[arg.buffer]
            return name if offset.code == "0" else f"{name} + {wrapped(offset, 2)}"
        return "NULL"  # there is no context, or none is wanted

    # Loops and branches

    def _for(self, loop: For) -> None:
        self._carries(loop)
        letter = "ijklm"[self._loops] if self._loops < 5 else f"i{self._loops}"
        lower, upper = self.use(loop.lower).code, wrapped(self.use(loop.upper), 2)
        index = self.define(loop.index, letter)
        step = f"{index}++" if loop.step == 1 else f"{index} += {loop.step}"
        self.write(f"for (int64_t {index} = {lower}; {index} < {upper}; {step}) {{")
        self._loops += 1
        self._inside(loop.body)
        self._loops -= 1
        self._next(loop)
        self.write("}")
        self._taken.discard(index)

    def _while(self, loop: While) -> None:
        self._carries(loop)
        self.write("for (;;) {")
        self._inside(loop.header)
        self.write(f"    if (!{wrapped(self.use(loop.predicate), ATOM)})")
        self.write("        break;")
        self._inside(loop.body)
        self._next(loop)
        self.write("}")

    def _inside(self, block: Block) -> None:
        self._indent += 1
        self.block(block)
        self._indent -= 1

    def _carries(self, loop: For | While) -> None:
        for init, param, result in zip(loop.inits, loop.params, loop.results, strict=True):
            text = self.use(init).code
            name = self.define(param, f"c{param.id}")
            self._texts[result] = self._texts[param]
            self.write(f"{type_of(param.dtype)} {name} = {text};")

    def _next(self, loop: For | While) -> None:
        """The carries of the next iteration, by way of copies where one is another's old value."""
        self._indent += 1
        changed = [(p, y) for p, y in zip(loop.params, loop.yields, strict=True) if p is not y]
        old = {p for p, _ in changed}
        values = {y: self.use(y).code for _, y in changed}
        for y in dict.fromkeys([y for _, y in changed if y in old]):
            copy = self._unique(f"old_{values[y]}")
            self.write(f"const {type_of(y.dtype)} {copy} = {values[y]};")
            values[y] = copy
        for param, y in changed:
            self.write(f"{self.use(param).code} = {values[y]};")
        self._indent -= 1

    def _if(self, branch: If) -> None:
        for result in branch.results:
            self.write(f"{type_of(result.dtype)} {self.define(result)};")
        self.write(f"if ({self.use(branch.predicate).code}) {{")
        self._side(branch.then, branch.results, branch.then_values)
        if branch.otherwise.items or branch.results:
            self.write("} else {")
            self._side(branch.otherwise, branch.results, branch.else_values)
        self.write("}")

    def _side(self, block: Block, results: Sequence[Value], values: Sequence[Value]) -> None:
        self._inside(block)
        for result, value in zip(results, values, strict=True):
            self.write(f"    {self.use(result).code} = {self.use(value).code};")

    # The user's lines

    def _comment(self, item: Item) -> None:
        """The line for which an item was made, where it is another one than before."""
        origin = None if self._origins is None else self._origins.of(item)
        place = origin.location if isinstance(origin, Equation) else None
        if place is None or (place.file, place.line) == self._line:
            return
        self._line = place.file, place.line
        code = linecache.getline(place.file, place.line).strip()
        text = f"{os.path.basename(place.file)}:{place.line}  {code}".replace("*/", "* /")
        self.write(f"/* {text.replace('/*', '/ *').strip()} */")


def _used_once(function: Function) -> set[Value]:
    """Values that are used once, in the block where they are defined.

    What must have a name is left out: bounds of loops, which are looked at again and again, and
    what a loop with several carries yields, since one of them changes before the next is written.
    """
    blocks = list(_blocks(function.body))
    home = {item: b for b in blocks for item in b.items if isinstance(item, Value)}
    live = _live(function)
    uses: Counter[Value] = Counter(function.returns)
    named: set[Value] = set()

    def count(values: Iterable[Value], block: Block, again: bool) -> None:
        for value in values:
            uses[value] += 1
            if again or home.get(value) is not block:
                named.add(value)

    for block in blocks:
        for item in block.items:
            if isinstance(item, Value) and item not in live:
                continue
            again = isinstance(item, For | While | Call | Check | Allocate)
            count(operands(item), block, again)
            several = isinstance(item, For | While) and len(item.yields) > 1
            for child, values in zip(children(item), closing(item), strict=True):
                count(values, child, several)
    return {v for v, number in uses.items() if number == 1} - named


def _live(function: Function) -> set[Value]:
    """Values that something needs."""
    found: set[Value] = set()
    pending = list(function.returns)
    for item in walk(function.body):
        if not isinstance(item, Value):
            pending += operands(item)
            for values in closing(item):
                pending += values
    while pending:
        value = pending.pop()
        if value not in found:
            found.add(value)
            pending += value.args
    return found


def _blocks(block: Block) -> Iterator[Block]:
    yield block
    for item in block.items:
        for child in children(item):
            yield from _blocks(child)
