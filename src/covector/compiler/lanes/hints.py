"""What to change in a program whose loop does not run in lanes, by the reason."""

from __future__ import annotations

HINTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("over all lanes", "each lane with all others", "combines all lanes"),
        "use what is reduced over the batch after the loop, or split the loop there",
    ),
    (
        ("its windows reach over lanes", "takes some of the lanes", "a part of the lanes"),
        "neighbours along an axis depend on each other: batch over another axis (vmap)",
    ),
    (
        ("one after the other",),
        "the loop runs over this axis: batch over another one (vmap)",
    ),
    (
        ("sorts along the lanes", "runs along the lanes", "transforms along the lanes"),
        "do this before or after the loop, or along another axis than that of the batch",
    ),
    (
        ("splits the lanes", "merges or splits the lanes", "concatenates along the lanes"),
        "keep the axis of the batch as it is inside of the loop: write it for one and use vmap",
    ),
    (
        ("write to the same array", "the updates have lanes, operand and indices have not"),
        "give each lane an array of its own, and add them up after the loop",
    ),
    (
        ("changes in lanes that are done", "changes by another predicate"),
        "write the loop for one element and use vmap: it keeps what is done",
    ),
    (
        ("is not a plain any-reduction", "is not asked of any lane"),
        "write the loop for one element and use vmap: it ends when no element goes on",
    ),
    (
        ("until the last lane is done", "the same for all lanes, changes"),
        "count in each element, and reduce after the loop",
    ),
    (
        ("which branch is taken depends on all lanes",),
        "choose by each element (where, or vmap of cond), or before the loop",
    ),
    (
        ("its effects",),
        "move the callback out of the loop, or return what it needs",
    ),
    (
        ("it calls a library",),
        "matrices of more than a few rows use libraries: this loop is as fast as they are",
    ),
    (
        ("each chunk would repeat it",),
        "compute what does not depend on the element in a loop of its own, before this one",
    ),
    (
        ("no axis of its operands",),
        "batch more elements (vmap), if there are any: vectors run along the arrays instead",
    ),
    (
        ("each chunk has its own result",),
        "reduce over the batch what is read of the loop, with max or min for counters",
    ),
)
"""Phrases of reasons, and what to change."""


def hint(reason: str) -> str:
    """What to change; empty if nothing is known to help.

    Example:
        >>> hint("sort: it sorts along the lanes")
        'do this before or after the loop, or along another axis than that of the batch'
    """
    return next((text for phrases, text in HINTS if any([p in reason for p in phrases])), "")
