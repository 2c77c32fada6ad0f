"""Lanes one after the other: programs whose arrays are long enough to be vectors themselves.

The lanes of a vector would have to share the caches, each with matrices of its own. One lane at a
time keeps what it computes in cache from one equation to the next; threads take different lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from covector.core.avals import Aval
from covector.core.program import Program, subprograms
from covector.loopir.tensor import Lowering, Registers, Stored, Tensor
from covector.ops import indices as ix
from covector.ops.nested import elements, nbytes
from covector.ops.reduce import COMBINE, IDENTITIES, accumulator

GROUPS = 64
"""Groups of lanes, at most, that have partial results of their own."""

LONG = 64
"""Elements of arrays that are worth vectors of their own."""

CACHE = 1 << 18
"""Bytes of all arrays of a vector of lanes from which on they leave the nearest caches."""


def runs_apart(program: Program, together: int) -> bool:
    """Whether the lanes of a program run better one after the other.

    Args:
        program: for one lane.
        together: how many lanes would share the caches.
    """
    size, count, memory = _sizes(program)
    return size >= LONG * count and together * memory >= CACHE


def _sizes(program: Program) -> tuple[float, float, float]:
    """Elements computed and equations run, as often as they are; bytes of all arrays."""
    size = count = memory = 0.0
    for equation in program.equations:
        inner = [_sizes(p) for p in subprograms(equation.params)]
        if inner:
            length = equation.params.get("length", 1)
            times = length if type(length) is int else 1
            size += times * sum([s for s, _, _ in inner])
            count += times * sum([c for _, c, _ in inner])
            memory += sum([m for _, _, m in inner])
            continue
        count += 1
        size += sum([elements(v.aval) for v in equation.outputs])
        memory += sum([nbytes(v.aval) for v in equation.outputs])
    return size, count, memory


def lower_apart(
    b: Lowering,
    length: Any,
    run: Callable[[Any], Sequence[Tensor]],
    avals: Sequence[Aval],
    out_dims: Sequence[int | str | None],
) -> list[Tensor]:
    """Runs lanes one after the other, several threads at a time.

    Args:
        b: the lowering.
        length: how many lanes there are, an int or an index value.
        run: from the number of a lane to its results.
        avals: of a lane's results.
        out_dims: as those of `lanes`.

    Returns:
        The results of all lanes.
    """
    builder = b.builder
    group = ix.at_least(builder, builder.quotient(length, GROUPS), 1)
    groups = builder.quotient(length, group)
    dims = enumerate(zip(avals, out_dims, strict=True))
    results = [_result(b, a, d, length, groups, k) for k, (a, d) in dims]

    def run_group(number: Any) -> None:
        for result in results:
            result.begin(number)
        first = builder.op("mul", number, group)
        bound = builder.op("min", ix.sub(builder, length, first), group)

        def lane(place: Any) -> None:
            current = builder.op("add", first, place)
            before, builder.apart = builder.apart, builder.depth
            outs = run(current)
            builder.apart = before
            for result, out in zip(results, outs, strict=True):
                result.take(out, current, number)

        builder.loop(0, bound, lane)

    builder.loop(0, groups, run_group, kind="parallel")
    return [result.whole() for result in results]


def _result(
    b: Lowering, aval: Aval, dim: int | str | None, length: Any, groups: Any, output: int
) -> Any:
    if isinstance(dim, int):
        return _Cut(b, aval, dim, length, output)
    return _Combined(b, aval, dim, groups)


class _Cut:
    """A result of which each lane has a part."""

    def __init__(self, b: Lowering, aval: Aval, dim: int, length: Any, output: int) -> None:
        self._b = b
        self._dim = dim
        shape = [*b.extents(aval)]
        shape[dim] = length
        self._memory = b.new(shape, b.element_dtype(aval), output)

    def begin(self, number: Any) -> None:
        """Before a group of lanes."""

    def take(self, out: Tensor, lane: Any, number: Any) -> None:
        """Takes the result of a lane."""
        dim, buffer = self._dim, self._memory.buffer

        def store(index: Any) -> None:
            self._b.builder.store(buffer, (*index[:dim], lane, *index[dim + 1 :]), out.at(index))

        _visit(self._b, out, store)

    def whole(self) -> Tensor:
        """The result of all lanes."""
        return self._memory


class _Combined:
    """A result that is the same for all lanes, or combined from those of all, group by group."""

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
        """Before a group of lanes."""
        if self._combine is None:
            return
        builder, buffer = self._b.builder, self._memory.buffer

        def clear(index: Any) -> None:
            builder.store(buffer, (number, *index), self._identity)

        self._b.for_each(self._shape, clear, independent=True)

    def take(self, out: Tensor, lane: Any, number: Any) -> None:
        """Takes the result of a lane."""
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
