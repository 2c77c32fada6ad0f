"""WebAssembly modules: instructions in lists, written in the binary format and as text.

An instruction is a tuple of its name in the text format and its immediates: `("local.get", 2)`,
`("f32.const", 1.5)`, `("call", "exp_f32")`. Blocks are between `("block", type)`, `("loop", type)`
or `("if", type)` and `("end",)`; a type is "" or that of the block's result.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from covector_wasm.opcodes import (
    BLOCK,
    FUNCTION,
    INDEX,
    LABEL,
    LANE,
    MEMORY,
    NUMBER,
    OPCODES,
    ZEROS,
)

Instruction = tuple[Any, ...]

COMMENT = ";;"
"""The name of what stands among instructions for people alone."""

PAGE = 65536
"""Bytes of a page of memory."""

_TYPES = {"i32": 0x7F, "i64": 0x7E, "f32": 0x7D, "f64": 0x7C, "v128": 0x7B, "": 0x40}


@dataclass
class Code:
    """A function.

    Attributes:
        name: unique in its module.
        params: types of its parameters.
        results: types of its results: none or one.
        locals: types of its other locals, numbered after the parameters.
        body: its instructions, without the last `end`.
        comment: what stands above it in the text.
        exported: the name under which it is exported, if it is.
        names: of its parameters, for the text.
    """

    name: str
    params: Sequence[str]
    results: Sequence[str]
    locals: list[str]
    body: list[Instruction]
    comment: str = ""
    exported: str = ""
    names: Sequence[str] = ()


@dataclass
class Module:
    """A module with one memory, which it exports, and one global, where free memory begins.

    Attributes:
        functions: in order, by name.
        data: what memory holds when the module is loaded, from address `base` on.
        base: the first address that is used.
    """

    functions: dict[str, Code] = field(default_factory=dict[str, Code])
    data: bytearray = field(default_factory=bytearray)
    base: int = 64

    def place(self, contents: bytes, alignment: int = 16) -> int:
        """Puts bytes into the memory that the module starts with.

        Args:
            contents: the bytes.
            alignment: of their address.

        Returns:
            The address.
        """
        self.data += bytes(-(self.base + len(self.data)) % alignment)
        address = self.base + len(self.data)
        self.data += contents
        return address

    @property
    def heap(self) -> int:
        """Where free memory begins when the module is loaded."""
        return -(-(self.base + len(self.data)) // 64) * 64

    @property
    def pages(self) -> int:
        """How many pages the memory has when the module is loaded."""
        return -(-self.heap // PAGE) + 1

    def binary(self) -> bytes:
        """The module in the binary format."""
        functions = list(self.functions.values())
        numbers = {f.name: k for k, f in enumerate(functions)}
        types = {s: k for k, s in enumerate(dict.fromkeys([_signature(f) for f in functions]))}
        exports = [("memory", 2, 0), ("heap", 3, 0)]
        exports += [(f.exported, 0, numbers[f.name]) for f in functions if f.exported]
        heap = b"\x7f\x01\x41" + signed(self.heap) + b"\x0b"  # a mutable i32
        sections = [
            (1, [_function_type(s) for s in types]),
            (3, [unsigned(types[_signature(f)]) for f in functions]),
            (5, [b"\x00" + unsigned(self.pages)]),
            (6, [heap]),
            (7, [_name(n) + bytes([kind]) + unsigned(k) for n, kind, k in exports]),
            (10, [_sized(_encoded(f, numbers)) for f in functions]),
        ]
        if self.data:
            place = b"\x00\x41" + signed(self.base) + b"\x0b"
            sections.append((11, [place + unsigned(len(self.data)) + bytes(self.data)]))
        parts = [b"\x00asm\x01\x00\x00\x00"]
        parts += [bytes([number]) + _sized(_vector(items)) for number, items in sections]
        names = _vector([unsigned(k) + _name(n) for n, k in numbers.items()])
        parts.append(b"\x00" + _sized(_name("name") + b"\x01" + _sized(names)))
        return b"".join(parts)

    def text(self) -> str:
        """The module in the text format, as tools such as `wat2wasm` read it."""
        lines = ["(module", f'  (memory (export "memory") {self.pages})']
        lines.append(f'  (global $heap (export "heap") (mut i32) (i32.const {self.heap}))')
        for function in self.functions.values():
            lines += _function_text(function)
        if self.data:
            lines.append(f'  (data (i32.const {self.base}) "{_escaped(self.data)}")')
        return "\n".join([*lines, ")"]) + "\n"


# --- the binary format ----------------------------------------------------------------------------


def unsigned(number: int) -> bytes:
    """A non-negative number in LEB128."""
    if number < 128:
        return bytes([number])
    found = bytearray()
    while number >= 128:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def signed(number: int) -> bytes:
    """A number in LEB128, with its sign."""
    found = bytearray()
    while not -64 <= number < 64:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number & 127)
    return bytes(found)


def _vector(items: Sequence[bytes]) -> bytes:
    return unsigned(len(items)) + b"".join(items)


def _sized(contents: bytes) -> bytes:
    return unsigned(len(contents)) + contents


def _name(name: str) -> bytes:
    return _sized(name.encode())


def _signature(function: Code) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(function.params), tuple(function.results)


def _function_type(signature: tuple[tuple[str, ...], tuple[str, ...]]) -> bytes:
    return b"\x60" + b"".join([_vector([bytes([_TYPES[t]]) for t in part]) for part in signature])


def _encoded(function: Code, numbers: dict[str, int]) -> bytes:
    runs: list[tuple[int, str]] = []
    for type_ in function.locals:
        if runs and runs[-1][1] == type_:
            runs[-1] = (runs[-1][0] + 1, type_)
        else:
            runs.append((1, type_))
    head = _vector([unsigned(n) + bytes([_TYPES[t]]) for n, t in runs])
    return head + b"".join([_instruction(i, numbers) for i in function.body]) + b"\x0b"


def _instruction(instruction: Instruction, numbers: dict[str, int]) -> bytes:
    name = instruction[0]
    if name == COMMENT:
        return b""
    code, kind, detail = OPCODES[name]
    if kind in (INDEX, LABEL):
        return code + unsigned(instruction[1])
    if kind == MEMORY:
        return code + bytes([detail]) + unsigned(instruction[1])
    if kind == NUMBER:
        return code + _number(name, instruction[1])
    if kind == FUNCTION:
        return code + unsigned(numbers[instruction[1]])
    if kind == BLOCK:
        return code + bytes([_TYPES[instruction[1]]])
    if kind == LANE:
        return code + bytes([instruction[1]])
    return code + bytes(detail) if kind == ZEROS else code


def _number(name: str, value: Any) -> bytes:
    if name == "f32.const":
        return struct.pack("<f", value)
    if name == "f64.const":
        return struct.pack("<d", value)
    if name == "v128.const":
        return bytes(value)
    bits = int(name[1:3])
    return signed((value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1)))


# --- the text format ------------------------------------------------------------------------------


def _function_text(function: Code) -> Iterable[str]:
    if function.comment:
        yield f"  ;; {function.comment}"
    head = f"  (func ${function.name}"
    if function.exported:
        head += f' (export "{function.exported}")'
    names = [f"$p{k}" for k in range(len(function.params))]
    names[: len(function.names)] = [f"${name}" for name in function.names]
    head += "".join([f" (param {n} {t})" for n, t in zip(names, function.params, strict=True)])
    yield head + "".join([f" (result {t})" for t in function.results])
    if function.locals:
        yield f"    (local {' '.join(function.locals)})"
    depth = 2
    for instruction in function.body:
        if instruction[0] in ("end", "else"):
            depth -= 1
        yield "  " * depth + _instruction_text(instruction, names)
        if instruction[0] in ("block", "loop", "if", "else"):
            depth += 1
    yield "  )"


def _instruction_text(instruction: Instruction, names: Sequence[str]) -> str:
    name = instruction[0]
    if name == COMMENT:
        return f";; {instruction[1]}"
    kind = OPCODES[name].kind
    if kind == BLOCK:
        return f"{name} (result {instruction[1]})" if instruction[1] else name
    if kind == MEMORY:
        return f"{name} offset={instruction[1]}" if instruction[1] else name
    if kind == FUNCTION:
        return f"{name} ${instruction[1]}"
    if name == "v128.const":
        words = struct.unpack("<4I", instruction[1])
        return f"{name} i32x4 {' '.join([f'0x{w:08x}' for w in words])}"
    if kind == NUMBER and name[0] == "f":
        return f"{name} {_float_text(instruction[1])}"
    if name.startswith("local.") and instruction[1] < len(names):
        return f"{name} {names[instruction[1]]}"
    if name.startswith("global."):
        return f"{name} $heap"
    return " ".join([str(part) for part in instruction])


def _float_text(number: float) -> str:
    if math.isnan(number):
        return "nan"
    return repr(float(number)) if math.isfinite(number) else "inf" if number > 0 else "-inf"


def _escaped(data: bytes | bytearray) -> str:
    return "".join([chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:02x}" for b in data])
