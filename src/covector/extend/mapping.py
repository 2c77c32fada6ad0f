"""Operations over batches of which only the meaning for one example is known.

A mapped operation keeps its name: a parameter `mapped` has, for each `vmap` it went through, the
innermost first, which operands have a batch axis. These axes lead, the outermost `vmap`'s first;
results have all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.core.avals import Aval
from covector.core.program import Program
from covector.ops.common import batch_at_front
from covector.ops.reduce import reduce_sum
from covector.transforms.batching import batch_flat
from covector.transforms.context import BatchingContext

Mapped = tuple[tuple[bool, ...], ...]
"""Flags of operands for each `vmap`, the innermost first."""


def of_one(avals: Sequence[Aval], mapped: Mapped) -> tuple[list[Aval], list[Any]]:
    """What operands are for one example, and how many examples each `vmap` has.

    Args:
        avals: of operands with their batch axes.
        mapped: which of them have one.

    Returns:
        Avals without batch axes; sizes, the innermost `vmap`'s first.
    """
    sizes: list[Any] = []
    found = list(avals)
    for flags in reversed(mapped):
        sizes.append(next(a.shape[0] for a, f in zip(found, flags, strict=True) if f))
        found = [
            Aval(a.shape[1:], a.dtype, a.weak_type) if f else a
            for a, f in zip(found, flags, strict=True)
        ]
    return found, sizes[::-1]


def map_program(program: Program, mapped: Mapped, sizes: Sequence[Any]) -> Program:
    """A program over batches.

    Args:
        program: for one example.
        mapped: which inputs have batch axes.
        sizes: of the batches, as of `of_one`.

    Returns:
        The program of inputs with batch axes in front.
    """
    for flags, size in zip(mapped, sizes, strict=True):
        program, _ = BatchingContext(size, None).batch(program, flags, True)
    return program


def over_batches(
    fn: Callable[..., Sequence[Any]],
    args: Sequence[Any],
    mapped: Mapped,
    sizes: Sequence[Any],
    summed: Mapped | None = None,
) -> list[Any]:
    """Applies a rule for one example to batches.

    Args:
        fn: takes and returns flat values of one example.
        args: values with their batch axes in front.
        mapped: which of them have one.
        sizes: of the batches, as of `of_one`.
        summed: which results have a batch axis; others are summed over the examples. By default
            all have.

    Returns:
        The results.
    """
    if not mapped:
        return list(fn(*args))
    *inner, flags = mapped
    kept = None if summed is None else summed[:-1]

    def example(*values: Any) -> list[Any]:
        return over_batches(fn, values, tuple(inner), sizes[:-1], kept)

    context = BatchingContext(sizes[-1], None)
    outs, dims = batch_flat(example, context, args, [0 if f else None for f in flags])
    found = [batch_at_front(o, d, sizes[-1]) for o, d in zip(outs, dims, strict=True)]
    if summed is None:
        return found
    return [
        o if keep else reduce_sum(o, axes=(0,)) for o, keep in zip(found, summed[-1], strict=True)
    ]
