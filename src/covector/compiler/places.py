"""Where passes of users can run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from covector.compiler.passes.rewrites import Rewrites
from covector.compiler.passes.rules import Rule
from covector.compiler.pipeline import NAMES, before_place
from covector.compiler.placed import LOOP_PLACES, Placed
from covector.core.config import config
from covector.core.errors import compose
from covector.core.program import Program

USUAL = "cse"
"""The pass after which passes on programs run where nothing else is said: calls are inlined,
constants are known, and equal things are computed once."""


@dataclass(frozen=True)
class Before:
    """Takes patterns of rules as far as programs have come where the rules are applied."""

    where: str
    neighbour: str

    def __call__(self, program: Program) -> Program:
        return before_place(program, self.where, self.neighbour)


def placed_at(
    given: Any, before: str | None = None, after: str | None = None, limit: int = 100
) -> Placed:
    """A pass of a user's at its place.

    Args:
        given: what has `name` and `run`, and maybe `in_loops` and `version`; or a sequence of
            rules.
        before: the pass before which it runs.
        after: the pass after which it runs.
        limit: see `Rewrites`.

    Raises:
        TypeError: if it is no pass, or both places are given.
        ValueError: if there is no such place, or the name is taken by a built-in pass.
    """
    rules = _rules(given)
    name = "+".join([r.name for r in rules]) if rules else getattr(given, "name", None)
    if not isinstance(name, str) or not (rules or callable(getattr(given, "run", None))):
        raise TypeError(
            compose(
                "a pass has a name and run(program)",
                found=repr(given),
                fix="decorate the function: passes.program_pass, passes.loop_pass, passes.rewrite",
            )
        )
    if before is not None and after is not None:
        raise TypeError(f"the pass {name} runs before {before} or after {after}, not both")
    if name in (*NAMES, *LOOP_PLACES):
        raise ValueError(
            compose(f"a pass cannot be called {name!r}", found="a built-in pass of that name")
        )
    where = "after" if before is None else "before"
    in_loops = False if rules else getattr(given, "in_loops", None)
    neighbour = before or after or (LOOP_PLACES[0] if in_loops else USUAL)
    in_loops = _checked(name, where, neighbour, in_loops)
    wrapped = Rewrites(rules, Before(where, neighbour), limit) if rules else given
    return Placed(wrapped, where, neighbour, in_loops, getattr(wrapped, "version", "") or "")


def _rules(given: Any) -> tuple[Rule, ...]:
    """The rules that are given; none if it is another pass."""
    if isinstance(given, Rule):
        return (given,)
    several = isinstance(given, tuple | list)
    rules = [r for r in cast("Sequence[Any]", given) if isinstance(r, Rule)] if several else []
    return tuple(rules) if rules and len(rules) == len(given) else ()


def _checked(name: str, where: str, neighbour: str, kind: bool | None) -> bool:
    """Whether a place is one in the loop IR, if passes of a kind may be there."""
    mine = {p.name: p for p in config.passes if isinstance(p, Placed)}
    if neighbour not in (*NAMES, *LOOP_PLACES, *mine):
        fix = f"programs: {_list([*NAMES, *mine])}; loop IR: {_list(LOOP_PLACES)}"
        raise ValueError(compose(f"the pass {name}: there is no pass {neighbour!r}", fix=fix))
    other = mine.get(neighbour)
    in_loops = neighbour in LOOP_PLACES if other is None else other.in_loops
    kind = in_loops if kind is None else kind
    if kind != in_loops or (where, neighbour) == ("before", "schedule"):
        fitting = _list(LOOP_PLACES if kind else NAMES)
        raise ValueError(
            compose(
                f"the pass {name} cannot run {where} {neighbour}",
                found=f"a pass on {'loop IR' if kind else 'programs'}",
                fix=f"choose among {fitting}; none of loop IR runs before schedule, which makes it",
            )
        )
    return in_loops


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
