"""What compilation leaves for the run time, and its form on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np

from covector.backends.native.linking import Linked
from covector.core import dtypes
from covector.core.backend import Donation
from covector.core.program import Equation, Literal, Program, all_equations, subprograms

_LENGTH = 8
_ALIGNMENT = 64


class Site(NamedTuple):
    """What a run-time check says when it fails.

    Attributes:
        message: what went wrong.
        equation: which of the program's equations, nested ones included, has its source line;
            -1 if none has. Lines are not part of what is kept: they may change.
        scope: the name scopes it was traced in.
    """

    message: str
    equation: int
    scope: str


@dataclass(frozen=True)
class Machine:
    """Machine code.

    Attributes:
        symbol: name of the entry function.
        linked: the code; without it, `object_code` is to be linked by LLVM.
        object_code: the object file, empty where `linked` is there.
        externals: functions of C that it calls.
        shared: elementary functions that it calls and does not contain.
    """

    symbol: str
    linked: Linked | None
    object_code: bytes
    externals: tuple[str, ...]
    shared: tuple[str, ...]


@dataclass(frozen=True)
class Compiled:
    """A compiled program without the Python objects that made it.

    Attributes:
        machine: the code.
        workspace_bytes: of memory that it needs besides arguments and results.
        release_gil: whether calls are long enough to let other Python threads run.
        constants: arrays for its constant buffers, in order.
        sites: of its run-time checks.
        sizes: what code for all sizes is called with, besides arrays; `None` if the sizes are those
            of the arrays.
        donations: which results take the memory of which arguments.
    """

    machine: Machine
    workspace_bytes: int
    release_gil: bool
    constants: Sequence[np.ndarray[Any, Any]]
    sites: Sequence[Site]
    sizes: tuple[int, ...] | None = ()
    donations: Sequence[Donation] = ()


def sites_of(program: Program, sites: Iterable[tuple[str, Equation | None]]) -> list[Site]:
    """Run-time checks that find their source lines in the program itself.

    Args:
        program: as it was traced.
        sites: message and equation of each check; passes keep the frames of equations.

    Returns:
        The checks.
    """
    sites = list(sites)
    if not sites:
        return []
    numbers: dict[Any, int] = {}
    for k, equation in enumerate(all_equations(program)):
        numbers.setdefault(equation.frame, k)
    found: list[Site] = []
    for message, equation in sites:
        known = equation is not None and equation.frame is not None
        number = numbers.get(cast("Equation", equation).frame, -1) if known else -1
        found.append(Site(message, number, equation.scope if equation else ""))
    return found


def place_of(program: Program, site: Site) -> str:
    """The user's line of a run-time check.

    Args:
        program: as it was traced.
        site: one of its checks.

    Returns:
        The line and the name scopes; empty if neither is known.
    """
    line = ""
    for k, equation in enumerate(all_equations(program)):
        if k == site.equation:
            line = str(equation.location)
    return f"{line} in {site.scope}".lstrip() if site.scope else line


# --- on disk --------------------------------------------------------------------------------------


class _Blobs:
    """Bytes one after the other, aligned for arrays of any dtype."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, content: bytes) -> tuple[int, int]:
        self.data.extend(bytes(-len(self.data) % _ALIGNMENT))
        start = len(self.data)
        self.data += content
        return start, len(content)


def machine_to_bytes(machine: Machine) -> bytes:
    """The form of machine code on disk, which `machine_from_bytes` reads."""
    blobs = _Blobs()
    return _joined({"machine": _machine_header(machine, blobs)}, blobs)


def machine_from_bytes(payload: bytes) -> Machine:
    """Machine code from its form on disk.

    Raises:
        ValueError, KeyError, TypeError: if the bytes are something else.
    """
    header, blobs = _split(payload)
    return _machine_from_header(header["machine"], blobs)


def to_bytes(compiled: Compiled, program: Program) -> bytes:
    """The form of a compiled program on disk.

    Constants that are literals of the program are not written: who looks the entry up has them.

    Args:
        compiled: what to keep.
        program: as it was traced.

    Returns:
        What `from_bytes` reads.
    """
    blobs = _Blobs()
    literals = {id(data): k for k, data in enumerate(_literals(program))}
    constants: list[Any] = []
    for array in compiled.constants:
        known = literals.get(id(array))
        if known is None:
            start, size = blobs.add(array.tobytes())
            constants.append([dtypes.short_name(array.dtype), list(array.shape), start, size])
        else:
            constants.append(known)
    header = {
        "machine": _machine_header(compiled.machine, blobs),
        "workspace_bytes": compiled.workspace_bytes,
        "release_gil": compiled.release_gil,
        "constants": constants,
        "sites": compiled.sites,
        "sizes": compiled.sizes,
        "donations": compiled.donations,
    }
    return _joined(header, blobs)


def from_bytes(payload: bytes, program: Program) -> Compiled:
    """A compiled program from its form on disk.

    Args:
        payload: what `to_bytes` made.
        program: with the fingerprint of the one it was compiled from.

    Returns:
        The compiled program.

    Raises:
        ValueError, KeyError, TypeError, IndexError: if the bytes are something else.
    """
    header, blobs = _split(payload)
    literals: list[Any] = []
    if any([isinstance(c, int) for c in header["constants"]]):
        literals = list(_literals(program))
    constants: list[np.ndarray[Any, Any]] = []
    for entry in header["constants"]:
        if isinstance(entry, int):
            constants.append(literals[entry])
        else:
            name, shape, start, size = entry
            dtype: Any = dtypes.from_short_name(name)
            content = np.frombuffer(blobs[start : start + size], dtype)
            constants.append(content.reshape(shape))
    sizes = header["sizes"]
    return Compiled(
        _machine_from_header(header["machine"], blobs),
        int(header["workspace_bytes"]),
        bool(header["release_gil"]),
        constants,
        [Site(*site) for site in header["sites"]],
        None if sizes is None else tuple(map(int, sizes)),
        [Donation(int(k), int(n), bool(holds)) for k, n, holds in header["donations"]],
    )


def _machine_header(machine: Machine, blobs: _Blobs) -> dict[str, Any]:
    linked = machine.linked
    header: dict[str, Any] = {
        "symbol": machine.symbol,
        "externals": machine.externals,
        "shared": machine.shared,
        "code": blobs.add(machine.object_code if linked is None else linked.code),
    }
    if linked is not None:
        header |= {
            "symbols": linked.symbols,
            "addresses": linked.addresses,
            "relative": linked.relative,
        }
        if linked.debug:
            header["debug"] = blobs.add(linked.debug)
    return header


def _machine_from_header(header: dict[str, Any], blobs: bytes) -> Machine:
    start, size = header["code"]
    code, linked = blobs[start : start + size], None
    if "symbols" in header:
        addresses = [(int(k), str(s)) for k, s in header["addresses"]]
        relative = [(int(k), int(a)) for k, a in header["relative"]]
        start, size = header.get("debug", (0, 0))
        debug = blobs[start : start + size]
        linked, code = Linked(code, dict(header["symbols"]), addresses, relative, debug), b""
    externals, shared = tuple(header["externals"]), tuple(header["shared"])
    return Machine(str(header["symbol"]), linked, code, externals, shared)


def _joined(header: dict[str, Any], blobs: _Blobs) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + _LENGTH) % _ALIGNMENT)
    return len(text).to_bytes(_LENGTH, "little") + text + bytes(blobs.data)


def _split(payload: bytes) -> tuple[dict[str, Any], bytes]:
    end = _LENGTH + int.from_bytes(payload[:_LENGTH], "little")
    return json.loads(payload[_LENGTH:end]), payload[end:]


def _literals(program: Program) -> Iterator[Any]:
    """The data of every constant array in a program, always in the same order."""
    atoms: list[Any] = [*program.outputs]
    for equation in program.equations:
        atoms += equation.inputs
    for atom in atoms:
        if type(atom) is Literal and atom.aval.shape != ():
            yield atom.value._value
    for equation in program.equations:
        for nested in subprograms(equation.params):
            yield from _literals(nested)
