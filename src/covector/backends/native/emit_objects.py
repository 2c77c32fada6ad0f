"""What an object file needs: its undefined symbols, read from the file itself."""

from __future__ import annotations

import struct

_ELF64_LITTLE = b"\x7fELF\x02\x01"
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMBOL_TABLE = 2


def undefined_symbols(object_code: bytes) -> set[str]:
    """The symbols that an object file expects from elsewhere.

    Args:
        object_code: a relocatable object file.

    Returns:
        Their names; none for formats other than 64-bit little-endian ELF, whose linking errors
        name them too, only less clearly.
    """
    if not object_code.startswith(_ELF64_LITTLE):
        return set()
    (table,) = struct.unpack_from("<Q", object_code, 40)
    size, count = struct.unpack_from("<HH", object_code, 58)
    sections: list[tuple[int, ...]] = [
        _SECTION.unpack_from(object_code, table + k * size) for k in range(count)
    ]
    found: set[str] = set()
    for section in sections:
        if section[1] == _SYMBOL_TABLE:
            names = sections[section[6]][4]
            found |= _undefined(object_code, section[4], section[5], names)
    return found


def _undefined(object_code: bytes, offset: int, size: int, names: int) -> set[str]:
    found: set[str] = set()
    for place in range(offset, offset + size, _SYMBOL.size):
        name, _, _, section, _, _ = _SYMBOL.unpack_from(object_code, place)
        if section == 0 and name:
            start = names + name
            found.add(object_code[start : object_code.index(b"\0", start)].decode())
    return found
