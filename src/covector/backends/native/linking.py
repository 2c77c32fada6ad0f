"""Links object files, so that loading code later needs no LLVM.

Relocatable objects become one block of bytes that runs at any address: references within it are
relative to the instruction, those to other code go through a table of addresses at its end.

```
code, constants | jumps to external functions | table of addresses
```

What this linker does not know (another format or machine, another kind of relocation) it leaves to
LLVM's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from covector import _native

_HEADER = np.dtype(
    [
        ("magic", "S6"),
        ("ident", "V10"),
        ("type", "<u2"),
        ("machine", "<u2"),
        ("version", "<u4"),
        ("entry", "<u8"),
        ("programs", "<u8"),
        ("sections", "<u8"),
        ("flags", "<u4"),
        ("header_size", "<u2"),
        ("program_size", "<u2"),
        ("program_count", "<u2"),
        ("section_size", "<u2"),
        ("section_count", "<u2"),
        ("names", "<u2"),
    ]
)
_SECTION = np.dtype(
    [
        ("name", "<u4"),
        ("type", "<u4"),
        ("flags", "<u8"),
        ("address", "<u8"),
        ("offset", "<u8"),
        ("size", "<u8"),
        ("link", "<u4"),
        ("info", "<u4"),
        ("alignment", "<u8"),
        ("entry_size", "<u8"),
    ]
)
SYMBOL = np.dtype(
    [
        ("name", "<u4"),
        ("info", "u1"),
        ("other", "u1"),
        ("section", "<u2"),
        ("value", "<u8"),
        ("size", "<u8"),
    ]
)
RELOCATION = np.dtype([("offset", "<u8"), ("type", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])

_MAGIC, _X86_64 = b"\x7fELF\x02\x01", 62
_PROGBITS, SYMTAB, RELA, _NOBITS = 1, 2, 4, 8
_WRITE, _ALLOCATED = 1, 2
_ABSOLUTE, _RELATIVE, _THROUGH_TABLE = 1, 2, 3
_USES = np.zeros(64, np.uint8)
"""How relocations of each kind use a symbol; 0 for kinds that are not known here."""
_USES[[1]] = _ABSOLUTE  # R_X86_64_64
_USES[[2, 4]] = _RELATIVE  # PC32 and PLT32
_USES[[9, 41, 42]] = _THROUGH_TABLE  # GOTPCREL, GOTPCRELX and REX_GOTPCRELX

_GLOBAL, _FUNCTION, _HIDDEN = 1, 2, 2
_RESERVED = 0xFF00
_JUMP = b"\xff\x25"
_JUMP_SIZE = 8


def at_address(debug: bytes, address: int) -> bytes:
    """Tells debug information where the code is.

    Args:
        debug: of a `Linked`.
        address: of its code in memory.

    Returns:
        The object file with the addresses of its sections, as debuggers read it.
    """
    file = bytearray(debug)
    sections = _sections(file)
    sections["address"][sections["flags"] & _ALLOCATED != 0] += np.uint64(address)
    return bytes(file)


def sections_of(file: bytes) -> tuple[Any, Callable[[Any], str]]:
    """The sections of an object file.

    Args:
        file: for a 64-bit machine.

    Returns:
        Their headers, and what gives the name of one.
    """
    sections = _sections(file)
    names = int(sections[int(np.frombuffer(file, _HEADER, 1)[0]["names"])]["offset"])

    def name_of(section: Any) -> str:
        start = names + int(section["name"])
        return file[start : file.index(b"\0", start)].decode()

    return sections, name_of


def _sections(file: bytes | bytearray) -> Any:
    header = np.frombuffer(file, _HEADER, 1)[0]
    return np.frombuffer(file, _SECTION, int(header["section_count"]), int(header["sections"]))


class Unlinkable(Exception):
    """The object needs something that this linker does not know."""


@dataclass(frozen=True)
class Linked:
    """Linked code.

    Attributes:
        code: the bytes.
        symbols: offsets of its global functions.
        addresses: offsets of 64-bit words that receive the addresses of external symbols.
        relative: offsets of words that receive the address of this code plus a number.
        debug: the object file, if it has debug information: each of its sections that is part of
            the code has the offset there as its address.
    """

    code: bytes
    symbols: dict[str, int]
    addresses: list[tuple[int, str]]
    relative: list[tuple[int, int]]
    debug: bytes = b""

    def load(self, resolve: Callable[[str], int]) -> Any:
        """Puts the code into memory.

        Args:
            resolve: gives the address of an external symbol.

        Returns:
            An image, which frees the memory when it goes.
        """
        addresses = [(offset, resolve(symbol)) for offset, symbol in self.addresses]
        return _native.Image(self.code, addresses, self.relative)


def link(*objects: bytes) -> Linked:
    """Links object files into one block; what one refers to may be part of another.

    Args:
        objects: relocatable ELF files for x86-64.

    Returns:
        The code, and what it needs.

    Raises:
        Unlinkable: if one is something else, has data that changes, or relocations not known here,
            if two define the same symbol, or if several have debug information.
    """
    return _Linker(objects).linked()


def _uses(relocations: Any) -> Any:
    kinds = relocations["type"]
    return np.where(kinds < len(_USES), _USES[np.minimum(kinds, len(_USES) - 1)], 0)


class _Object:
    """One of the object files.

    Args:
        file: the object file.
        code: receives those of its sections that are part of the program.

    Attributes:
        places: of sections in the code, -1 where one is left out; the last stands for those that
            are no sections.
        values: of symbols, -1 for those without one.
        undefined: which symbols another file must define.
        relocations: where each applies in the code, and what it is, section by section.
        is_debug: whether there is debug information.
    """

    def __init__(self, file: bytes, code: bytearray) -> None:
        if not file.startswith(_MAGIC):
            raise Unlinkable("not a 64-bit little-endian ELF file")
        header = np.frombuffer(file, _HEADER, 1)[0]
        if header["machine"] != _X86_64:
            raise Unlinkable(f"machine {header['machine']}")
        self.file = file
        self.sections, self.name_of = sections_of(file)
        self.places = np.full(len(self.sections) + 1, -1, np.int64)
        self.is_debug = False
        self._place(code)
        self._read_symbols()
        self.relocations = self._relocations()

    def _place(self, code: bytearray) -> None:
        for k, section in enumerate(self.sections):
            size, flags = int(section["size"]), int(section["flags"])
            kind = int(section["type"])
            name = self.name_of(section)
            self.is_debug |= name == ".debug_line"
            if not flags & _ALLOCATED or size == 0 or kind not in (_PROGBITS, _NOBITS):
                continue
            if flags & _WRITE and not name.startswith(".data.rel.ro"):
                raise Unlinkable(f"section {name} can be written to")
            if name == ".eh_frame":  # nothing unwinds through generated code
                continue
            code.extend(bytes(-len(code) % int(section["alignment"])))
            self.places[k] = len(code)
            offset = int(section["offset"])
            code += self.file[offset : offset + size]

    def _read_symbols(self) -> None:
        tables = np.flatnonzero(self.sections["type"] == SYMTAB)
        if len(tables) != 1:
            raise Unlinkable(f"{len(tables)} symbol tables")
        table = self.sections[tables[0]]
        self._names = int(self.sections[int(table["link"])]["offset"])
        self.symbols: Any = np.frombuffer(
            self.file, SYMBOL, int(table["size"]) // SYMBOL.itemsize, int(table["offset"])
        )
        sections = self.symbols["section"].astype(np.int64)
        if np.any((sections >= _RESERVED) & (self.symbols["info"] & 15 != 4)):
            raise Unlinkable("symbols without a section")
        places = self.places[np.minimum(sections, len(self.sections))]
        self.undefined = sections == 0
        self.values = np.where(places >= 0, places + self.symbols["value"].astype(np.int64), -1)

    def _relocations(self) -> list[tuple[Any, Any]]:
        found: list[tuple[Any, Any]] = []
        for section in self.sections[self.sections["type"] == RELA]:
            place = int(self.places[int(section["info"])])
            if place < 0:
                continue
            count, offset = int(section["size"]) // RELOCATION.itemsize, int(section["offset"])
            group = np.frombuffer(self.file, RELOCATION, count, offset)
            found.append((group["offset"].astype(np.int64) + place, group))
        return found

    def name(self, symbol: int) -> str:
        """The name of a symbol."""
        start = self._names + int(self.symbols[symbol]["name"])
        return self.file[start : self.file.index(b"\0", start)].decode()

    def functions(self) -> dict[str, int]:
        """The numbers of the functions that it defines for others, by name."""
        info = self.symbols["info"]
        chosen = np.flatnonzero((info >> 4 == _GLOBAL) & (info & 15 == _FUNCTION) & ~self.undefined)
        return {self.name(k): k for k in chosen.tolist()}

    def is_hidden(self, symbol: int) -> bool:
        """Whether a function is for the other files of the program only."""
        return int(self.symbols[symbol]["other"]) & 3 == _HIDDEN

    def define(self, values: dict[str, int]) -> None:
        """Gives symbols that it does not define their values, if others do."""
        for symbol in np.flatnonzero(self.undefined).tolist():
            value = values.get(self.name(symbol))
            if value is not None:
                self.values[symbol], self.undefined[symbol] = value, False

    def used(self, use: int) -> list[int]:
        """The symbols that relocations use in one way."""
        found: set[int] = set()
        for _, group in self.relocations:
            found.update(group["symbol"][_uses(group) == use].tolist())
        return sorted(found)

    def debug(self) -> bytes:
        """The object file with the places of its sections; others are not in memory."""
        file = bytearray(self.file)
        sections = _sections(file)
        places = self.places[: len(sections)]
        sections["address"] = np.maximum(places, 0)
        sections["flags"][places < 0] &= ~np.uint64(_ALLOCATED)
        return bytes(file)


class _Linker:
    def __init__(self, files: Sequence[bytes]) -> None:
        self.code = bytearray()
        self.objects = [_Object(file, self.code) for file in files]
        self.is_debug = any(each.is_debug for each in self.objects)
        if self.is_debug and len(files) > 1:
            raise Unlinkable("several files with debug information")
        self.exported: dict[str, int] = {}
        values: dict[str, int] = {}
        for each in self.objects:
            self._export(each, values)
        for each in self.objects:
            each.define(values)

    def _export(self, each: _Object, values: dict[str, int]) -> None:
        for name, symbol in each.functions().items():
            if name in values:
                raise Unlinkable(f"{name} is defined twice")
            values[name] = value = int(each.values[symbol])
            if not each.is_hidden(symbol):
                self.exported[name] = value

    def linked(self) -> Linked:
        """Applies the relocations."""
        self.slots: dict[str | int, int] = {}
        self._extend()
        code = np.frombuffer(self.code, np.uint8)
        relative: list[tuple[int, int]] = []
        for each in self.objects:
            for places, group in each.relocations:
                relative += self._apply(code, each, places, group)
        named = [(slot, symbol) for symbol, slot in self.slots.items() if isinstance(symbol, str)]
        relative += [(slot, value) for value, slot in self.slots.items() if isinstance(value, int)]
        debug = self.objects[0].debug() if self.is_debug else b""
        return Linked(bytes(self.code), self.exported, named, relative, debug)

    def _extend(self) -> None:
        """Appends the jumps and the table of addresses that relocations ask for.

        A slot of the table is for the name of a symbol that nobody defines, or for a value.
        """
        jumps: dict[str, int] = {}
        slots: dict[str | int, None] = {}
        called: list[tuple[_Object, int, str]] = []
        for each in self.objects:
            for symbol in each.used(_RELATIVE):
                if each.undefined[symbol]:
                    called.append((each, symbol, each.name(symbol)))
        self.code.extend(b"\xcc" * (-len(self.code) % 16))
        first = len(self.code)
        for _, _, name in called:
            if name not in jumps:
                jumps[name] = first + _JUMP_SIZE * len(jumps)
                slots[name] = None
        for each in self.objects:
            slots |= dict.fromkeys(self._slot(each, s) for s in each.used(_THROUGH_TABLE))
        table = first + _JUMP_SIZE * len(jumps)
        self.slots = {key: table + 8 * k for k, key in enumerate(slots)}
        for name, place in jumps.items():
            distance = self.slots[name] - (place + 6)
            self.code += _JUMP + distance.to_bytes(4, "little") + b"\xcc\xcc"
        self.code.extend(bytes(8 * len(slots)))
        for each, symbol, name in called:
            each.values[symbol] = jumps[name]

    def _slot(self, each: _Object, symbol: int) -> str | int:
        return each.name(symbol) if each.undefined[symbol] else int(each.values[symbol])

    def _apply(self, code: Any, each: _Object, places: Any, group: Any) -> list[tuple[int, int]]:
        uses, symbols, addends = _uses(group), group["symbol"], group["addend"]
        if not uses.all():
            raise Unlinkable(f"relocation of kind {group['type'][uses == 0][0]}")
        through, absolute = uses == _THROUGH_TABLE, uses == _ABSOLUTE
        targets = each.values[symbols]
        targets[through] = [self.slots[self._slot(each, int(s))] for s in symbols[through]]
        if np.any(targets < 0):
            raise Unlinkable("a reference to what is not part of the code")
        near = ~absolute
        distances = (targets + addends - places)[near]
        if np.any(np.abs(distances) >= 1 << 31):
            raise Unlinkable("more than 2 GB of code")
        for byte in range(4):
            code[places[near] + byte] = (distances >> 8 * byte) & 255
        words = (targets + addends)[absolute]
        return list(zip(places[absolute].tolist(), words.tolist(), strict=True))
