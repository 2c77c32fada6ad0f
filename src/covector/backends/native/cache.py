"""The disk cache of compiled programs: what an entry's key is made of, and how entries are used.

A program is looked up as it was traced, before any work of the compiler. Its key holds everything
that the code depends on: the program's fingerprint, the effort, the settings, the processor, and
the build of this package, NumPy and LLVM. Programs without a fingerprint (they call Python, say)
are scheduled anew in every process, and only what LLVM makes of their text is kept; so are the
elementary functions that programs share.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np

from covector import _native
from covector.backends.native.compiled import (
    Compiled,
    Machine,
    from_bytes,
    machine_from_bytes,
    machine_to_bytes,
    to_bytes,
)
from covector.backends.native.disk import Directory, default_directory
from covector.compiler.fingerprint import digest, fingerprint
from covector.core.backend import Options, debug_key
from covector.core.config import SETTINGS, config
from covector.core.program import Program

FORMAT = "3"
"""Of entries; a change makes all older ones unknown."""

_WITHOUT_EFFECT = frozenset(
    {"debug", "dump", "check", "num_threads", "cache_dir", "cache_size", "perf_map", "passes"}
)
"""Settings that compiled code does not depend on, or that the key has in another way. New settings
count until they stand here."""

_DAMAGED = (ValueError, KeyError, TypeError, IndexError)

_directories: dict[tuple[str, int], Directory] = {}


def _directory() -> Directory | None:
    """The directory that the settings name, if it can be used."""
    limit = config.cache_size
    if limit == 0 or "disk_cache" in config.disable:
        return None
    path = config.cache_dir or default_directory()
    if not path:
        return None
    found = _directories.get((path, limit))
    if found is None:
        found = _directories[path, limit] = Directory(path, limit)
    return found if found.usable else None


def enabled() -> bool:
    """Whether there is a disk cache.

    Returns:
        False where the settings turn it off or its directory cannot be used.
    """
    return _directory() is not None


# --- keys -----------------------------------------------------------------------------------------


def program_key(program: Program, options: Options) -> str | None:
    """The key of a program.

    Args:
        program: as it was traced.
        options: of its compilation; its name is not part of the code.

    Returns:
        Hexadecimal digits; `None` without a disk cache, or for a program without a fingerprint.
    """
    if not enabled():
        return None
    found, passes = fingerprint(program), _passes()
    if found is None or passes is None:
        return None
    settings = {name: getattr(config, name) for name in SETTINGS if name not in _WITHOUT_EFFECT}
    texts = [f"{name}={_setting(value)}" for name, value in sorted(settings.items())]
    texts += [str(options.effort), str(options.fixed_sizes), str(options.overwritten)]
    texts += debug_key(program)
    return digest("program", _environment(), *texts, passes, found)


def text_key(text: str, effort: int, cpu: str) -> str | None:
    """The key of what LLVM makes of a text.

    Args:
        text: a module.
        effort: of its compilation.
        cpu: the setting.

    Returns:
        Hexadecimal digits; `None` without a disk cache.
    """
    if not enabled():
        return None
    passes = "all" if "fewer_passes" in config.disable else "few"
    return digest("text", _environment(), cpu, str(effort), passes, text)


def elementary_key(symbol: str, cpu: str) -> str | None:
    """The key of an elementary function, as `text_key`."""
    if not enabled():
        return None
    passes = "all" if "fewer_passes" in config.disable else "few"
    return digest("elementary", _environment(), cpu, passes, symbol)


def _passes() -> str | None:
    """What passes of users do; `None` if that cannot be told."""
    if not config.passes:
        return ""
    from covector.compiler import placed

    return placed.fingerprints()


def _setting(value: Any) -> str:
    if isinstance(value, frozenset):
        return ",".join(sorted(cast("frozenset[str]", value)))
    return repr(value)


@functools.cache
def _environment() -> str:
    """Everything around a program that the code depends on."""
    return digest(
        FORMAT,
        sys.version,
        np.__version__,
        platform.machine(),
        _native.processor(),
        _build(str(Path(__file__).parents[2])),
        _llvm_build(),
    )


def _build(folder: str) -> str:
    """What tells one state of a package from another: size and time of each of its files.

    A version does not: it stays the same while somebody works on the package.
    """
    found: list[str] = []
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as listing:
            for item in listing:
                if item.is_dir():
                    if item.name != "__pycache__":
                        pending.append(item.path)
                else:
                    status = item.stat()
                    name = item.path[len(folder) :]
                    found.append(f"{name}:{status.st_size}:{status.st_mtime_ns}")
    return "\n".join(sorted(found))


def _llvm_build() -> str:
    """The build of LLVM, found without loading it."""
    spec = importlib.util.find_spec("llvmlite")
    places = spec.submodule_search_locations if spec is not None else None
    return _build(places[0]) if places else "none"


# --- entries --------------------------------------------------------------------------------------


def load_program(key: str, program: Program) -> Compiled | None:
    """Looks a program up.

    Args:
        key: of the program.
        program: as it was traced; what the entry says is relative to it.

    Returns:
        What was kept, or `None`.
    """
    payload = _read(key)
    if payload is None:
        return None
    try:
        return from_bytes(payload, program)
    except _DAMAGED:  # a checksum that fits what another program wrote
        _remove(key)
        return None


def store_program(key: str, compiled: Compiled, program: Program) -> None:
    """Keeps a program.

    Args:
        key: of the program.
        compiled: what became of it.
        program: as it was traced.
    """
    _write(key, to_bytes(compiled, program))


def load_machine(key: str) -> Machine | None:
    """Looks machine code up; `None` if it is not there."""
    payload = _read(key)
    if payload is None:
        return None
    try:
        return machine_from_bytes(payload)
    except _DAMAGED:
        _remove(key)
        return None


def store_machine(key: str, machine: Machine) -> None:
    """Keeps machine code."""
    _write(key, machine_to_bytes(machine))


def load_text(key: str) -> str | None:
    """Looks a text up that is kept beside code; `None` if it is not there."""
    payload = _read(key)
    if payload is None:
        return None
    try:
        return payload.decode()
    except UnicodeDecodeError:
        _remove(key)
        return None


def store_text(key: str, text: str) -> None:
    """Keeps a text."""
    _write(key, text.encode())


def _read(key: str) -> bytes | None:
    directory = _directory()
    return None if directory is None else directory.read(key)


def _write(key: str, payload: bytes) -> None:
    directory = _directory()
    if directory is not None:
        directory.write(key, payload)


def _remove(key: str) -> None:
    directory = _directory()
    if directory is not None:
        directory.remove(key)
