"""Static libraries: archives of object files as `ar` writes them, with an index for linkers."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

_MAGIC = b"!<arch>\n"
_LONGEST = 15


def archive(members: Mapping[str, tuple[bytes, Sequence[str]]]) -> bytes:
    """An archive.

    Args:
        members: object files, and the symbols that each defines, by name.

    Returns:
        The file.

    Raises:
        ValueError: for a name of more than 15 letters.
    """
    symbols = [(symbol, name) for name, (_, own) in members.items() for symbol in own]
    text = b"".join([symbol.encode() + b"\0" for symbol, _ in symbols])
    index_size = 4 + 4 * len(symbols) + len(text)
    place = len(_MAGIC) + 60 + index_size + index_size % 2
    places: dict[str, int] = {}
    parts: list[bytes] = []
    for name, (data, _) in members.items():
        if len(name) > _LONGEST:
            raise ValueError(f"members of archives have names of {_LONGEST} letters, not {name!r}")
        places[name] = place
        part = _member(f"{name}/", data)
        parts.append(part)
        place += len(part)
    index = struct.pack(f">{len(symbols) + 1}I", len(symbols), *[places[n] for _, n in symbols])
    return _MAGIC + _member("/", index + text) + b"".join(parts)


def _member(name: str, data: bytes) -> bytes:
    # Name, time, owner, group, mode, size: no time, so that equal files give equal archives.
    head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
    return head + data + b"\n" * (len(data) % 2)
