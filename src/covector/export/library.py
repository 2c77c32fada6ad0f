"""Libraries that backends write of exported functions."""

from __future__ import annotations

import keyword
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from covector.core.backend import get_backend
from covector.core.errors import MissingCapabilityError, compose
from covector.core.libraries import LibraryFunction, LibraryOptions, LibraryWriter
from covector.core.program import Program, symbols_of

_C_WORDS = """
    auto break case char const continue default do double else enum extern float for goto if inline
    int long register restrict return short signed sizeof static struct switch typedef union
    unsigned void volatile while bool true false alignas alignof asm catch class delete explicit
    friend namespace new operator private protected public template this throw try typename using
    virtual main status
"""
_TAKEN = frozenset(_C_WORDS.split())


class Library:
    """The files of a library.

    Attributes:
        files: contents by name.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)

    @property
    def names(self) -> list[str]:
        """The names of the files, in order."""
        return sorted(self.files)

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Writes the files.

        Args:
            folder: where to; it is made if it is missing.

        Returns:
            Their paths, in the order of `names`.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for name in self.names:
            (place / name).write_bytes(self.files[name])
        return [place / name for name in self.names]

    def __repr__(self) -> str:
        return f"<library: {', '.join([f'{n} ({len(self.files[n])} bytes)' for n in self.names])}>"


def identifiers(
    names: Sequence[str], program: Program, others: Iterable[str] = ()
) -> tuple[str, ...]:
    """Names as different identifiers of C and Python.

    Args:
        names: any texts.
        program: whose sizes have names of their own.
        others: names that are taken, too.
    """
    taken = {*others, *symbols_of(program), *_TAKEN, *keyword.kwlist}
    found: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name) or "value"
        plain = f"_{plain}" if plain[0].isdigit() else plain
        unique, number = plain, 0
        while unique in taken:
            number += 1
            unique = f"{plain}_{number}"
        taken.add(unique)
        found.append(unique)
    return tuple(found)


def write_library(
    functions: Sequence[LibraryFunction], options: LibraryOptions, backend: str | None
) -> Library:
    """Has a backend write a library.

    Args:
        functions: of the library.
        options: what to write; an empty kind is the backend's first.
        backend: its name.

    Returns:
        The files.

    Raises:
        ValueError: for names that are no identifiers.
        MissingCapabilityError: if the backend writes no such libraries.
    """
    for name in (options.name, *[f.symbol for f in functions]):
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or name in _TAKEN:
            raise ValueError(f"a library and its functions have identifiers as names, not {name!r}")
    if options.effort not in range(4):
        raise ValueError(f"effort is from 0 to 3, found {options.effort!r}")
    if not functions:
        raise ValueError(f"the library {options.name} has no functions")
    writer = get_backend(backend)
    kinds: Sequence[str] = getattr(writer, "library_kinds", ())
    kind = options.kind or (kinds[0] if kinds else "")
    if kind not in kinds:
        raise MissingCapabilityError(
            compose(
                f"the backend {writer.name!r} lacks: {f'{kind} ' if kind else ''}libraries",
                found=f"it writes {', '.join(kinds)}" if kinds else "it writes none",
                fix="choose one of those" if kinds else "choose another backend, as 'native'",
            ),
            f"library {kind}".strip(),
        )
    files = cast("LibraryWriter", writer).library(functions, replace(options, kind=kind))
    return Library(files)
