"""Compiled code for all sizes of a batch, recognised when a size is new.

A program is generalised, and its skeleton looked up here. What differs between two sizes of one
function is then only the sizes themselves and some scalars, which an executable has as constants.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from covector.backends.native.compiled import Compiled
from covector.backends.native.loading import Loaded
from covector.compiler.sizes.generalise import General, generalise
from covector.compiler.sizes.literals import Skeleton, parameters, skeleton
from covector.compiler.sizes.policy import too_large
from covector.core.backend import Options, debug_key
from covector.core.config import config
from covector.core.program import Program
from covector.core.verify import verify

LIMIT = 4096
"""How many skeletons are remembered, the oldest forgotten first."""

Scalars = Sequence[np.ndarray[Any, Any]]


@dataclass(frozen=True, eq=False)
class Entry:
    """Code for all sizes, kept by the executables that use it.

    Attributes:
        values: the scalars of the program it was compiled from.
        parameters: which of them it reads at run time.
        places: the constants that hold each parameter.
        compiled: what is needed to run it.
        loaded: its code in memory.
        callbacks: Python functions it calls.
    """

    values: Scalars
    parameters: frozenset[int]
    places: dict[int, list[int]]
    compiled: Compiled
    loaded: Loaded
    callbacks: Sequence[Any]

    def serves(self, values: Scalars) -> bool:
        """Whether it computes the program with other scalars."""
        return all(
            [
                k in self.parameters or mine.tobytes() == other.tobytes()
                for k, (mine, other) in enumerate(zip(self.values, values, strict=True))
            ]
        )

    def at(self, values: Scalars, sizes: Sequence[int]) -> Compiled:
        """What is needed to run it with other scalars and sizes."""
        constants = list(self.compiled.constants)
        for k, places in self.places.items():
            for place in places:
                constants[place] = values[k]
        return replace(self.compiled, constants=constants, sizes=tuple(sizes))


class Request(NamedTuple):
    """A program to run, generalised.

    Attributes:
        general: its form for all sizes, scalars apart.
        scalars: its scalars.
        key: what programs of one skeleton share.
    """

    general: General
    scalars: Skeleton
    key: Any


def request(plain: Program, options: Options) -> Request | None:
    """A program in its general form; `None` if it is to be compiled for its sizes.

    Args:
        plain: after the first passes of the compiler.
        options: of its compilation.
    """
    if "run_time_sizes" in config.disable:
        return None
    general = generalise(plain, options.fixed_sizes)
    if general is None or 0 in general.values.values() or too_large(general):
        return None
    if config.check:
        verify(general.program)
    found = skeleton(general.program)
    how = options.effort, options.overwritten
    settings = config.disable, config.passes, config.cpu
    key = (found.key(), *settings, how, debug_key(plain))
    return Request(general._replace(program=found.program), found, key)


class GeneralCode:
    """The entries of all programs, by skeleton and what else compilation depends on."""

    def __init__(self) -> None:
        self._entries: dict[Any, list[weakref.ref[Entry]]] = {}

    def _alive(self, key: Any) -> list[Entry]:
        found = [reference() for reference in self._entries.get(key, ())]
        return [entry for entry in found if entry is not None]

    def find(self, wanted: Request) -> Entry | None:
        """Code that serves a program."""
        values = wanted.scalars.values
        for entry in self._alive(wanted.key):
            if entry.serves(values):
                return entry
        return None

    def parameters(self, wanted: Request) -> frozenset[int]:
        """Which scalars new code should read at run time.

        Those that look like sizes, and those that were others in earlier programs.
        """
        differing = {
            k
            for entry in self._alive(wanted.key)
            for k, (old, new) in enumerate(zip(entry.values, wanted.scalars.values, strict=True))
            if old.tobytes() != new.tobytes()
        }
        return parameters(wanted.general, wanted.scalars) | differing

    def add(self, wanted: Request, entry: Entry) -> None:
        """Remembers code."""
        while len(self._entries) >= LIMIT:
            self._entries.pop(next(iter(self._entries)), None)
        alive = [entry, *self._alive(wanted.key)]
        self._entries[wanted.key] = [weakref.ref(each) for each in alive]


def parameter_numbers(found: Skeleton, chosen: frozenset[int]) -> dict[int, int]:
    """The identity of the value of each literal that is a parameter, with its number."""
    return {id(found.places[k][0].value): k for k in chosen}
