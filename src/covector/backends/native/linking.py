"""Links object files, so that loading code later needs no LLVM.

A relocatable object becomes one block of bytes that runs at any address: references within it are
relative to the instruction, those to other code go through a table of addresses at its end.

```
code, constants | jumps to external functions | table of addresses
```

What this linker does not know (another format or machine, another kind of relocation) it leaves to
LLVM's own.
"""

from __future__ import annotations

from collections.abc import Callable
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

_FUNCTION = 2
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


def link(object_code: bytes) -> Linked:
    """Links an object file.

    Args:
        object_code: a relocatable ELF file for x86-64.

    Returns:
        The code, and what it needs.

    Raises:
        Unlinkable: if it is something else, has data that changes, or relocations not known here.
    """
    return _Linker(object_code).linked()


def _uses(relocations: Any) -> Any:
    kinds = relocations["type"]
    return np.where(kinds < len(_USES), _USES[np.minimum(kinds, len(_USES) - 1)], 0)


class _Linker:
    def __init__(self, object_code: bytes) -> None:
        if not object_code.startswith(_MAGIC):
            raise Unlinkable("not a 64-bit little-endian ELF file")
        header = np.frombuffer(object_code, _HEADER, 1)[0]
        if header["machine"] != _X86_64:
            raise Unlinkable(f"machine {header['machine']}")
        self.file = object_code
        self.sections, self.name_of = sections_of(object_code)
        # Of sections, -1 where one is left out; the last stands for those that are no sections.
        self.places = np.full(len(self.sections) + 1, -1, np.int64)
        self.is_debug = False
        self.code = self._place()
        self._read_symbols()

    def _place(self) -> bytearray:
        """The sections that are part of the program, one after the other."""
        code = bytearray()
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
        return code

    def _string(self, section: int, offset: int) -> str:
        start = int(self.sections[section]["offset"]) + offset
        return self.file[start : self.file.index(b"\0", start)].decode()

    def _read_symbols(self) -> None:
        tables = np.flatnonzero(self.sections["type"] == SYMTAB)
        if len(tables) != 1:
            raise Unlinkable(f"{len(tables)} symbol tables")
        table = self.sections[tables[0]]
        self.names = int(table["link"])
        self.symbols: Any = np.frombuffer(
            self.file, SYMBOL, int(table["size"]) // SYMBOL.itemsize, int(table["offset"])
        )
        sections = self.symbols["section"].astype(np.int64)
        if np.any((sections >= _RESERVED) & (self.symbols["info"] & 15 != 4)):
            raise Unlinkable("symbols without a section")
        places = self.places[np.minimum(sections, len(self.sections))]
        self.undefined = sections == 0
        self.values = np.where(places >= 0, places + self.symbols["value"].astype(np.int64), -1)

    def linked(self) -> Linked:
        """Applies the relocations."""
        relocations = self._relocations()
        self.slots: dict[int, int] = {}
        self.jumps: dict[int, int] = {}
        self._extend(relocations)
        code = np.frombuffer(self.code, np.uint8)
        relative: list[tuple[int, int]] = []
        for places, group in relocations:
            relative += self._apply(code, places, group)
        named = [(slot, self._symbol(s)) for s, slot in self.slots.items() if self.undefined[s]]
        relative += [
            (slot, int(self.values[s])) for s, slot in self.slots.items() if not self.undefined[s]
        ]
        debug = self._debug() if self.is_debug else b""
        return Linked(bytes(self.code), self._exported(), named, relative, debug)

    def _debug(self) -> bytes:
        """The object file with the places of its sections; others are not in memory."""
        file = bytearray(self.file)
        sections = _sections(file)
        places = self.places[: len(sections)]
        sections["address"] = np.maximum(places, 0)
        sections["flags"][places < 0] &= ~np.uint64(_ALLOCATED)
        return bytes(file)

    def _relocations(self) -> list[tuple[Any, Any]]:
        """Where each relocation applies, and what it is, section by section."""
        found: list[tuple[Any, Any]] = []
        for section in self.sections[self.sections["type"] == RELA]:
            place = int(self.places[int(section["info"])])
            if place < 0:
                continue
            count, offset = int(section["size"]) // RELOCATION.itemsize, int(section["offset"])
            group = np.frombuffer(self.file, RELOCATION, count, offset)
            found.append((group["offset"].astype(np.int64) + place, group))
        return found

    def _extend(self, relocations: list[tuple[Any, Any]]) -> None:
        """Appends the jumps and the table of addresses that relocations ask for."""
        jumps: list[int] = []
        slots: list[int] = []
        for _, group in relocations:
            uses, symbols = _uses(group), group["symbol"]
            targets = np.unique(symbols[uses == _RELATIVE])
            jumps += targets[self.undefined[targets]].tolist()
            slots += np.unique(symbols[uses == _THROUGH_TABLE]).tolist()
        jumps = sorted(set(jumps))
        self.code.extend(b"\xcc" * (-len(self.code) % 16))
        first = len(self.code)
        table = first + _JUMP_SIZE * len(jumps)
        for k, symbol in enumerate(sorted({*jumps, *slots})):
            self.slots[symbol] = table + 8 * k
        for k, symbol in enumerate(jumps):
            self.jumps[symbol] = place = first + _JUMP_SIZE * k
            distance = self.slots[symbol] - (place + 6)
            self.code += _JUMP + distance.to_bytes(4, "little") + b"\xcc\xcc"
        self.code.extend(bytes(8 * len(self.slots)))
        for symbol, place in self.jumps.items():
            self.values[symbol] = place

    def _apply(self, code: Any, places: Any, group: Any) -> list[tuple[int, int]]:
        uses, symbols, addends = _uses(group), group["symbol"], group["addend"]
        if not uses.all():
            raise Unlinkable(f"relocation of kind {group['type'][uses == 0][0]}")
        through, absolute = uses == _THROUGH_TABLE, uses == _ABSOLUTE
        targets = self.values[symbols]
        targets[through] = [self.slots[int(s)] for s in symbols[through]]
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

    def _symbol(self, number: int) -> str:
        return self._string(self.names, int(self.symbols[number]["name"]))

    def _exported(self) -> dict[str, int]:
        info = self.symbols["info"]
        chosen = np.flatnonzero((info >> 4 == 1) & (info & 15 == _FUNCTION) & ~self.undefined)
        return {self._symbol(int(k)): int(self.values[k]) for k in chosen}
