"""Passes of users' own: their places among the built-in ones, and checks of what they make.

A pass stands in the setting `passes` with its place. It is part of the keys of caches from there:
in memory by what it is, on disk by a text that says what it does.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from covector.compiler.function_text import Unstable, text_of
from covector.compiler.passes.base import Pass
from covector.core import notes
from covector.core.avals import Aval, same_type
from covector.core.config import config
from covector.core.errors import InconclusiveDimension, PassError, VerificationError, compose
from covector.core.program import Program, count_equations
from covector.core.verify import verify
from covector.loopir.ir import Function, LoopIRError, walk
from covector.loopir.verifier import verify as verify_function

LOOP_PLACES = ("schedule", "threads", "memory")
"""What is done with loop IR, in order: it is made, its parallel loops are chosen, and its arrays
get their places in memory."""


class Fired(NamedTuple):
    """A note on a rule: how often it was applied to a program."""

    rule: str
    times: int


class Applied(NamedTuple):
    """A note that a pass of a user's ran.

    Attributes:
        name: of the pass.
        place: as in "after cse".
        fired: how often each of its rules did, for passes that consist of rules.
        before: equations before it, or items of the loop IR.
        after: likewise.
    """

    name: str
    place: str
    fired: tuple[Fired, ...]
    before: int
    after: int


@dataclass(frozen=True)
class Placed:
    """A pass of a user's and its place.

    Attributes:
        wrapped: what has `name` and `run`.
        where: "before" or "after".
        neighbour: the pass that it stands next to.
        in_loops: whether it takes loop IR, not programs.
        version: what tells it from others of its name, in later processes too; empty to find out
            from its code.
    """

    wrapped: Any
    where: str
    neighbour: str
    in_loops: bool = False
    version: str = ""

    @property
    def name(self) -> str:
        return self.wrapped.name

    @property
    def place(self) -> str:
        """As in "after cse"."""
        return f"{self.where} {self.neighbour}"

    def run(self, program: Program) -> Program:
        """The program after the pass, verified.

        Raises:
            PassError: if the pass fails, or makes what is no program with the same inputs and
                outputs.
        """
        with notes.collected() as found:
            after = self._ran(program)
        if not isinstance(after, Program):
            self._fail("gives a program", f"{type(after).__name__}")
        self._check_avals("inputs", program.input_avals, after.input_avals)
        self._check_avals("outputs", program.output_avals, after.output_avals)
        try:
            verify(after)
        except VerificationError as error:
            raise self._error("gives a program that verifies", str(error)) from error
        counts = count_equations(program), count_equations(after)
        fired = tuple([note for note in found if isinstance(note, Fired)])
        notes.leave(Applied(self.name, self.place, fired, *counts))
        return after

    def run_on_loops(self, function: Function) -> Function:
        """The loop IR after the pass, verified; as `run`."""
        before = len(walk(function.body))
        after = self._ran(function)
        after = function if after is None else after  # it was changed in place
        if not isinstance(after, Function):
            self._fail("gives a function of the loop IR, or None", f"{type(after).__name__}")
        try:
            verify_function(after)
        except LoopIRError as error:
            raise self._error("gives loop IR that verifies", str(error)) from error
        notes.leave(Applied(self.name, self.place, (), before, len(walk(after.body))))
        return after

    def _ran(self, given: Any) -> Any:
        try:
            return self.wrapped.run(given)
        except (PassError, InconclusiveDimension):
            raise
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
            raise self._error("does not raise", found) from error

    def _check_avals(self, what: str, before: Sequence[Aval], after: Sequence[Aval]) -> None:
        pairs = list(zip(before, after, strict=False))
        if len(before) != len(after) or not all([same_type(a, b) for a, b in pairs]):
            texts = [f"({', '.join(map(str, avals))})" for avals in (after, before)]
            self._fail(f"keeps the {what} of programs", " instead of ".join(texts))

    def _fail(self, asked: str, found: str) -> None:
        raise self._error(asked, found)

    def _error(self, asked: str, found: str) -> PassError:
        text = f"a pass {asked}: {self.name} ({self.place}) does not"
        return PassError(compose(text, found=found, fix="correct the pass"))

    def fingerprint(self) -> str:
        """What it does, as a text that means the same in every process.

        Raises:
            Unstable: if it depends on what has no such text.
        """
        version = self.version or text_of(self.wrapped)
        return f"{self.name} {self.place} {self.in_loops} {version}"


def current() -> tuple[Placed, ...]:
    """The passes of the setting `passes`; those given by name are imported."""
    if not config.passes or "user_passes" in config.disable:
        return ()
    return tuple([_imported(p) if isinstance(p, str) else p for p in config.passes])


@functools.cache
def _imported(path: str) -> Placed:
    from covector.compiler.places import placed_at

    module, _, attribute = path.partition(":")
    try:
        return placed_at(getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        asked = f"COVECTOR_PASSES: {path} is a pass"
        fix = "name what covector.extend.passes makes: a rule, or a decorated function"
        raise PassError(compose(asked, found=f"{error}", fix=fix)) from error


def with_neighbours(passes: Sequence[Pass]) -> Iterator[Pass]:
    """Built-in passes and those of users before and after each, in order.

    Args:
        passes: built-in ones; those that are turned off are left out, their neighbours are not.
    """
    mine = [placed for placed in current() if not placed.in_loops]
    for each in passes:
        yield from _with_neighbours(each, mine) if mine else (each,)


def _with_neighbours(each: Pass, mine: Sequence[Placed]) -> Iterator[Pass]:
    own = [placed for placed in mine if placed.neighbour == each.name]
    for placed in own:
        if placed.where == "before":
            yield from _with_neighbours(placed, mine)
    yield each
    for placed in own:
        if placed.where == "after":
            yield from _with_neighbours(placed, mine)


def run_on_loops(function: Function, where: str, neighbour: str) -> Function:
    """Loop IR after the passes of users at a place.

    Args:
        function: complete; it may be changed.
        where: "before" or "after".
        neighbour: one of `LOOP_PLACES`, or a pass of a user's.
    """
    mine = [placed for placed in current() if placed.in_loops]
    for placed in mine:
        if (placed.where, placed.neighbour) == (where, neighbour):
            function = run_on_loops(function, "before", placed.name)
            function = placed.run_on_loops(function)
            function = run_on_loops(function, "after", placed.name)
    return function


def with_pass(passes: Sequence[Any], added: Placed) -> tuple[Any, ...]:
    """The setting with one pass more, in place of one of the same name if there is any.

    Args:
        passes: the setting.
        added: the pass.

    Raises:
        TypeError: if it cannot be hashed, so that nobody could tell whether it has changed.
    """
    try:
        hash(added)
    except TypeError:
        raise TypeError(
            compose(
                f"the pass {added.name} is part of the keys of caches, and must not change",
                found=f"a {type(added.wrapped).__name__}, which cannot be hashed",
                fix="make it a frozen dataclass",
            )
        ) from None
    others = [p for p in passes if isinstance(p, str) or p.name != added.name]
    return (*others, added)


def fingerprints() -> str | None:
    """What the passes do, as a text for keys; `None` if one of them has none.

    Give a pass a `version` to keep what is compiled with it on disk.
    """
    try:
        return "\n".join([placed.fingerprint() for placed in current()])
    except Unstable:
        return None
