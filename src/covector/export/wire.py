"""The bytes of a serialised function: sections with checksums, and numbers and texts in them.

    magic, 8 bytes | major, minor, sections: 3 x u16 | section ...
    section: tag, 4 bytes | length: u64 | checksum, 16 bytes | payload

All numbers are little-endian; those in payloads have 7 bits in a byte, least significant first, the
highest bit of a byte says that another one follows. A section whose tag begins with a small letter
may be skipped by readers that do not know it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping

from covector.core.errors import DeserializationError

MAGIC = b"\x89CVX\r\n\x1a\n"
"""Not a text, and damaged by whatever takes it for one."""
MAJOR, MINOR = 1, 0
"""Readers of a major version read all files of it, those of later minor versions too."""

MOST_SECTIONS = 64
MOST_BITS = 64

_HEADER = struct.Struct("<8sHHH")
_SECTION = struct.Struct("<4sQ16s")


def _checksum(tag: bytes, payload: bytes | memoryview) -> bytes:
    return hashlib.blake2b(payload, digest_size=16, person=tag).digest()


def packed(sections: Mapping[bytes, bytes]) -> bytes:
    """A whole file.

    Args:
        sections: payloads by tag, in order.
    """
    parts = [_HEADER.pack(MAGIC, MAJOR, MINOR, len(sections))]
    for tag, payload in sections.items():
        parts += [_SECTION.pack(tag, len(payload), _checksum(tag, payload)), payload]
    return b"".join(parts)


def unpacked(data: bytes, known: frozenset[bytes]) -> tuple[dict[bytes, Reader], bool]:
    """The sections of a file.

    Args:
        data: the file.
        known: tags of sections that are wanted, all of which must be there.

    Returns:
        A reader of each, and whether the file is of a later minor version.

    Raises:
        DeserializationError: if it is no such file, is damaged, or of another major version.
    """
    if len(data) < _HEADER.size or not data.startswith(MAGIC):
        raise DeserializationError("this is no serialised function: it does not begin like one")
    _, major, minor, count = _HEADER.unpack_from(data)
    if major != MAJOR:
        raise DeserializationError(
            f"this function was serialised in format {major}.{minor}, this version of Covector "
            f"reads {MAJOR}.x\n  fix: "
            + ("install a newer Covector" if major > MAJOR else "serialise it again")
        )
    if count > MOST_SECTIONS:
        raise DeserializationError(f"damaged: {count} sections")
    later = minor > MINOR
    found: dict[bytes, Reader] = {}
    seen: set[bytes] = set()
    place = _HEADER.size
    for _ in range(count):
        tag, payload = _section(data, place)
        place += _SECTION.size + len(payload)
        if tag in seen:
            raise DeserializationError(f"damaged: two sections {tag!r}")
        seen.add(tag)
        if tag in known:
            found[tag] = Reader(payload, later)
        elif not (later and tag[:1].islower()):
            raise DeserializationError(f"it has a section {tag!r}, which is not known here")
    if place != len(data):
        raise DeserializationError("damaged: there is more after its last section")
    missing = known - found.keys()
    if missing:
        raise DeserializationError(f"damaged: it has no section {min(missing)!r}")
    return found, later


def _section(data: bytes, place: int) -> tuple[bytes, memoryview]:
    """Tag and payload of the section at a place."""
    if len(data) - place >= _SECTION.size:
        tag, length, checksum = _SECTION.unpack_from(data, place)
        place += _SECTION.size
        if length <= len(data) - place:
            payload = memoryview(data)[place : place + length]
            if _checksum(tag, payload) != checksum:
                raise DeserializationError(f"damaged: the checksum of section {tag!r} is wrong")
            return tag, payload
    raise DeserializationError("damaged: it ends in the middle of a section")


class Writer:
    """Writes a payload."""

    def __init__(self) -> None:
        self.data = bytearray()

    def number(self, value: int) -> None:
        """A number of at least 0."""
        while value > 0x7F:
            self.data.append(value & 0x7F | 0x80)
            value >>= 7
        self.data.append(value)

    def signed(self, value: int) -> None:
        """Any integer."""
        self.number(value << 1 if value >= 0 else (-value << 1) - 1)

    def raw(self, data: bytes) -> None:
        """Bytes whose number the reader knows."""
        self.data += data

    def blob(self, data: bytes) -> None:
        """Bytes with their number."""
        self.number(len(data))
        self.data += data

    def text(self, value: str) -> None:
        """A text."""
        self.blob(value.encode())


class Reader:
    """Reads a payload, and believes nothing in it.

    Args:
        data: the payload.
        later: whether a later version wrote it, which may have added something at its end.
    """

    def __init__(self, data: memoryview, later: bool) -> None:
        self._data = data
        self._place = 0
        self._later = later

    @property
    def left(self) -> int:
        """How many bytes there are still."""
        return len(self._data) - self._place

    def number(self, limit: int, what: str = "number") -> int:
        """A number of at least 0.

        Args:
            limit: what it may be at most.
            what: it is, for messages.

        Raises:
            DeserializationError: if it is larger, or the payload ends.
        """
        value = shift = 0
        data, place, end = self._data, self._place, len(self._data)
        while True:
            if place >= end or shift > MOST_BITS:
                raise DeserializationError(f"damaged: the {what} at byte {self._place} has no end")
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        if value > limit:
            raise DeserializationError(f"a {what} of {value}; at most {limit} is allowed here")
        self._place = place
        return value

    def signed(self, limit: int) -> int:
        """An integer.

        Args:
            limit: what its size may be at most.
        """
        value = self.number(2 * limit)
        return -((value + 1) >> 1) if value & 1 else value >> 1

    def count(self, limit: int, what: str) -> int:
        """How many items follow, each of a byte at least."""
        value = self.number(limit, what)
        if value > self.left:
            raise DeserializationError(f"damaged: {value} {what} do not fit")
        return value

    def index(self, count: int, what: str) -> int:
        """A number of one of `count` items."""
        if count == 0:
            raise DeserializationError(f"there is no {what} to refer to")
        return self.number(count - 1, what)

    def raw(self, count: int) -> memoryview:
        """Bytes."""
        if count > self.left:
            raise DeserializationError(f"damaged: it ends before {count} bytes that it announces")
        start = self._place
        self._place += count
        return self._data[start : self._place]

    def blob(self, limit: int, what: str) -> bytes:
        """Bytes with their number."""
        return bytes(self.raw(self.number(limit, what)))

    def text(self, limit: int) -> str:
        """A text."""
        try:
            return self.blob(limit, "text").decode()
        except UnicodeDecodeError as error:
            raise DeserializationError(f"damaged: a text is not in UTF-8 ({error})") from None

    def finish(self) -> None:
        """Ends; what a later version added is left alone."""
        if self.left and not self._later:
            raise DeserializationError(f"damaged: {self.left} bytes more than there should be")
