"""Which user's line each stretch of machine code is for, read from its debug information.

The table of lines is a program for a small machine (DWARF 4, section 6.2), whose registers are an
address, a file and a line, and which emits a row whenever the line changes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from covector.backends.native import linking

_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE, _CONST_ADD_PC, _FIXED_ADVANCE = 1, 2, 3, 4, 8, 9
_END_SEQUENCE, _SET_ADDRESS = 1, 2
_EXTENDED = 0


class Stretch(NamedTuple):
    """Neighbouring instructions of one line.

    Attributes:
        start: offset of the first in the code.
        end: of what follows the last.
        file: the user's.
        line: of the file; 0 where no line is known.
    """

    start: int
    end: int
    file: str
    line: int


def stretches(debug: bytes) -> list[Stretch]:
    """The lines of linked code.

    Args:
        debug: of a `Linked`; empty for code without debug information.

    Returns:
        Stretches by address.
    """
    if not debug:
        return []
    reader = _Reader(_relocated_lines(debug))
    rows = list(reader.rows())
    found: list[Stretch] = []
    for (start, file, line, ends), (end, *_) in itertools.pairwise(rows):
        if ends or start == end:
            continue
        last = found[-1] if found else None
        if last is not None and (last.end, last.file, last.line) == (start, file, line):
            found[-1] = last._replace(end=end)
        else:
            found.append(Stretch(start, end, file, line))
    return found


def _relocated_lines(debug: bytes) -> bytes:
    """The section with the table of lines; addresses are offsets in the code."""
    sections, name_of = linking.sections_of(debug)
    number = [name_of(section) for section in sections].index(".debug_line")
    content = bytearray(_content(debug, sections[number]))
    (table,) = [s for s in sections if s["type"] == linking.SYMTAB]
    symbols = np.frombuffer(_content(debug, table), linking.SYMBOL)
    for each in sections:
        if each["type"] == linking.RELA and each["info"] == number:
            for relocation in np.frombuffer(_content(debug, each), linking.RELOCATION):
                symbol = symbols[relocation["symbol"]]
                base = int(sections[symbol["section"]]["address"]) + int(symbol["value"])
                place = int(relocation["offset"])
                value = base + int(relocation["addend"])
                content[place : place + 8] = value.to_bytes(8, "little")
    return bytes(content)


def _content(file: bytes, section: Any) -> bytes:
    start = int(section["offset"])
    return file[start : start + int(section["size"])]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, size: int, signed: bool = False) -> int:
        start, self.at = self.at, self.at + size
        return int.from_bytes(self.data[start : self.at], "little", signed=signed)

    def leb(self, signed: bool = False) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value - (1 << shift) if signed and byte & 64 else value

    def string(self) -> str:
        start, self.at = self.at, self.data.index(b"\0", self.at) + 1
        return self.data[start : self.at - 1].decode()

    def files(self) -> list[str]:
        """The files of the header; they are numbered from 1."""
        folders, names = [""], [""]
        while folder := self.string():
            folders.append(folder)
        while name := self.string():
            folder, _time, _size = self.leb(), self.leb(), self.leb()
            names.append(os.path.join(folders[folder], name))
        return names

    def rows(self) -> Iterator[tuple[int, str, int, bool]]:
        """Address, file, line, and whether a sequence ends, of each row of all tables."""
        while self.at < len(self.data):
            start = self.at
            end = 4 + start + self.number(4)
            version = self.number(2)
            if version != 4:
                raise ValueError(f"a table of lines of version {version}, not 4")
            program = start + 10 + self.number(4)
            unit, _, _ = self.number(1), self.number(1), self.number(1)
            machine = _Machine(unit, self.number(1, signed=True), self.number(1))
            lengths = [0, *self.data[self.at + 1 : self.at + self.data[self.at]]]
            self.at += len(lengths)
            names = self.files()
            self.at = program
            while self.at < end:
                if machine.step(self, lengths):
                    file = names[machine.file]
                    yield machine.address, file, machine.line, machine.ended
                    if machine.ended:
                        machine.reset()


class _Machine:
    """The machine that runs a table's program."""

    def __init__(self, unit: int, line_base: int, line_range: int) -> None:
        self.unit, self.line_base, self.line_range = unit, line_base, line_range
        self.reset()

    def reset(self) -> None:
        self.address, self.file, self.line, self.ended = 0, 1, 1, False

    def step(self, reader: _Reader, lengths: list[int]) -> bool:
        """Runs one instruction; whether it emits a row."""
        opcode = reader.number(1)
        if opcode >= len(lengths):
            opcode -= len(lengths)
            self.address += opcode // self.line_range * self.unit
            self.line += self.line_base + opcode % self.line_range
            return True
        if opcode == _EXTENDED:
            return self.extended(reader)
        if opcode == _ADVANCE_PC:
            self.address += reader.leb() * self.unit
        elif opcode == _ADVANCE_LINE:
            self.line += reader.leb(signed=True)
        elif opcode == _SET_FILE:
            self.file = reader.leb()
        elif opcode == _CONST_ADD_PC:
            self.address += (255 - len(lengths)) // self.line_range * self.unit
        elif opcode == _FIXED_ADVANCE:
            self.address += reader.number(2)
        else:
            for _ in range(lengths[opcode]):
                reader.leb()
        return opcode == _COPY

    def extended(self, reader: _Reader) -> bool:
        size = reader.leb()
        following = reader.at + size
        opcode = reader.number(1)
        if opcode == _SET_ADDRESS:
            self.address = reader.number(8)
        self.ended = opcode == _END_SEQUENCE
        reader.at = following
        return self.ended
