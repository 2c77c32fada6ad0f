"""Chunks of lanes one after the other: programs whose arrays are long enough to be vectors.

The lanes of a vector would have to share the caches, each with matrices of its own. One lane at a
time keeps what it computes in cache from one equation to the next; so does a chunk of lanes that
read the same matrices, whose products become products of matrices. Threads take different chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from covector.core.avals import Aval
from covector.loopir.tensor import Lowering, Registers, Stored, Tensor
from covector.ops import indices as ix
from covector.ops.nested import nbytes
from covector.ops.reduce import COMBINE, IDENTITIES, accumulator

GROUPS = 64
"""Groups of chunks, at most, that have partial results of their own."""

FEWEST_GROUPS = 8
"""Groups that there may be in any case, so that threads have some to take."""

TOTALS = 1 << 22
"""Bytes, about, that the partial results of all groups may have."""

Run = Callable[[Any], Sequence[Tensor]]
"""From the number of the first lane of a chunk to the chunk's results."""


def lower_apart(
    b: Lowering,
    length: Any,
    width: int,
    run: Run,
    rest: Run | None,
    avals: Sequence[Aval],
    out_dims: Sequence[int | str | None],
) -> list[Tensor]:
    """Runs chunks of lanes one after the other, several threads at a time.

    Args:
        b: the lowering.
        length: how many lanes there are, an int or an index value.
        width: how many make a chunk.
        run: what runs a chunk.
        rest: what runs the lanes that are left, if there are any.
        avals: of a chunk's results.
        out_dims: as those of `lanes`.

    Returns:
        The results of all lanes.
    """
    builder = b.builder
    chunks = length // width if type(length) is int else length  # of one lane where not known
    group = ix.at_least(builder, builder.quotient(chunks, _most_groups(avals, out_dims)), 1)
    groups = builder.quotient(chunks, group)
    slots = groups if rest is None else groups + 1
    dims = enumerate(zip(avals, out_dims, strict=True))
    results = [_result(b, a, d, length, slots, k) for k, (a, d) in dims]

    def run_chunk(number: Any, first: Any, run: Run) -> None:
        before, builder.apart = builder.apart, builder.depth
        outs = run(first)
        builder.apart = before
        for result, out in zip(results, outs, strict=True):
            result.take(out, first, number)

    def run_group(number: Any) -> None:
        for result in results:
            result.begin(number)
        start = builder.op("mul", number, group)
        bound = builder.op("min", ix.sub(builder, chunks, start), group)

        def chunk(k: Any) -> None:
            first = ix.mul(builder, builder.op("add", start, k), width)
            run_chunk(number, first, run)

        builder.loop(0, bound, chunk)

    builder.loop(0, groups, run_group, kind="parallel")
    if rest is not None:
        for result in results:
            result.begin(groups)
        run_chunk(groups, builder.index(chunks * width), rest)
    return [result.whole() for result in results]


def _most_groups(avals: Sequence[Aval], out_dims: Sequence[int | str | None]) -> int:
    """How many groups of chunks have totals of their own, which have to be added up in the end."""
    size = sum([nbytes(a) for a, d in zip(avals, out_dims, strict=True) if not isinstance(d, int)])
    return min(GROUPS, max(FEWEST_GROUPS, int(TOTALS // max(size, 1))))


def _result(
    b: Lowering, aval: Aval, dim: int | str | None, length: Any, groups: Any, output: int
) -> Any:
    if isinstance(dim, int):
        return _Cut(b, aval, dim, length, output)
    return _Combined(b, aval, dim, groups)


class _Cut:
    """A result of which each chunk has a part."""

    def __init__(self, b: Lowering, aval: Aval, dim: int, length: Any, output: int) -> None:
        self._b = b
        self._dim = dim
        shape = [*b.extents(aval)]
        self._alone = shape[dim] == 1
        shape[dim] = length
        self._memory = b.new(shape, b.element_dtype(aval), output)

    def begin(self, number: Any) -> None:
        """Before a group of chunks."""

    def take(self, out: Tensor, lane: Any, number: Any) -> None:
        """Takes the result of a chunk."""
        dim, buffer = self._dim, self._memory.buffer

        def store(index: Any) -> None:
            place = lane if self._alone else ix.add(self._b.builder, lane, index[dim])
            self._b.builder.store(buffer, (*index[:dim], place, *index[dim + 1 :]), out.at(index))

        _visit(self._b, out, store)

    def whole(self) -> Tensor:
        """The result of all lanes."""
        return self._memory


class _Combined:
    """A result that is the same for all chunks, or combined from those of all, group by group."""

    def __init__(self, b: Lowering, aval: Aval, operation: str | None, groups: Any) -> None:
        self._b = b
        self._dtype = b.element_dtype(aval)
        self._shape = tuple(b.extents(aval))
        wide = self._dtype
        self._combine: Any = None
        if operation is not None:
            wide = accumulator(self._dtype)
            self._combine = partial(COMBINE[operation], b.builder)
            identity = np.array(IDENTITIES[operation](wide)).astype(wide)[()]
            self._identity = b.builder.const(identity, wide)
        shape = (groups, *self._shape)
        self._memory = Stored(b.builder, b.builder.buffer(wide, shape), shape)

    def begin(self, number: Any) -> None:
        """Before a group of chunks."""
        if self._combine is None:
            return
        builder, buffer = self._b.builder, self._memory.buffer

        def clear(index: Any) -> None:
            builder.store(buffer, (number, *index), self._identity)

        self._b.for_each(self._shape, clear, independent=True)

    def take(self, out: Tensor, lane: Any, number: Any) -> None:
        """Takes the result of a chunk."""
        builder, memory = self._b.builder, self._memory

        def store(index: Any) -> None:
            value, place = out.at(index), (number, *index)
            if self._combine is not None:
                value = builder.convert(value, memory.dtype)
                value = self._combine(memory.at(place), value)
            builder.store(memory.buffer, place, value)

        _visit(self._b, out, store)

    def whole(self) -> Tensor:
        """The result of all lanes."""
        b: Any = self._b
        memory = self._memory
        if self._combine is None:
            return memory.row(0)

        def total(index: Any) -> Any:
            def element(place: Any) -> Any:
                return memory.at((*place, *index))

            value = b.reduce(memory.shape[:1], element, self._combine, self._identity)
            return b.builder.convert(value, self._dtype)

        return b.stored(b.lazy(self._shape, self._dtype, total, 2.0 * GROUPS))


def _visit(b: Lowering, out: Tensor, store: Callable[[Any], None]) -> None:
    if isinstance(out, Registers):
        for index in np.ndindex(*out.shape):
            store(index)
    else:
        b.for_each(out.shape, store, independent=True)
