"""The sections of a report."""

from __future__ import annotations

from collections.abc import Sequence

from covector.core.errors import compose

SECTIONS: dict[str, str] = {
    "summary": "what it is, how large, how long it takes",
    "program": "the program as it was traced",
    "optimized": "the program after the passes",
    "passes": "which passes and rewrite rules of users ran, and how often rules were applied",
    "fusion": "loop nests, and the equations that share one",
    "offload": "what a device runs, and what is moved for it",
    "lanes": "which loops run in lanes, and why others do not",
    "residuals": "what derivatives keep of loops and checkpoints, and what they compute again",
    "memory": "arrays in memory, why they are there, and how much they take at most",
    "threads": "which loops threads share",
    "costs": "operations and bytes, against what this machine can do",
    "profile": "how long each stage of compilation took",
    "loopir": "the loop IR",
    "llvm": "the LLVM text",
    "assembly": "the machine code",
}
"""What reports consist of, in order."""

LISTINGS = ("program", "optimized", "loopir", "llvm", "assembly")
"""Sections that may be very long; unless asked for the last three are left out, others cut."""

_BY_DEFAULT = tuple(name for name in SECTIONS if name not in LISTINGS[2:])


def chosen_sections(sections: str | Sequence[str] | None) -> tuple[str, ...]:
    """The sections that are asked for.

    Args:
        sections: names, or text with commas between them; "all", or `None` for the usual ones.

    Returns:
        Names, in the order of reports.

    Raises:
        ValueError: if there is no such section.

    Example:
        >>> chosen_sections("lanes, fusion")
        ('fusion', 'lanes')
    """
    if sections is None:
        return _BY_DEFAULT
    names = sections.split(",") if isinstance(sections, str) else sections
    wanted = {name.strip() for name in names}
    if unknown := sorted(wanted - SECTIONS.keys() - {"all"}):
        raise ValueError(
            compose(
                f"explain: there is no section {', '.join(map(repr, unknown))}",
                fix=f"choose among all, {', '.join(SECTIONS)}",
            )
        )
    return tuple(name for name in SECTIONS if name in wanted or "all" in wanted)
