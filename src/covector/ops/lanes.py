"""`lanes`: programs applied to consecutive lanes of arrays, a chunk of them at a time.

The compiler makes it of what separates along one axis of its arrays (`covector.compiler.lanes`);
no transformation ever meets it. Its parameters:

- programs: `number of the first lane, operands -> results`, for a whole chunk and, where the last
  chunk has fewer lanes, for that one;
- length: how many lanes there are; width: how many in a chunk;
- in_dims: the axis of each operand that the lanes are along; `None` passes it whole;
- apart: native code runs chunks one after the other, and each array of a chunk by vectors along its
  last axis, not lane by lane in vectors of lanes; so do chunks of more than one lane;
- out_dims: that of each result; `None` if it is the same for every chunk; or what combines the
  results of all chunks ("add", "max" ...).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from covector.core import dtypes, interpret
from covector.core.avals import Aval, same_type
from covector.core.dims import DimSize
from covector.core.effects import NONE, Effects
from covector.core.primitive import Primitive, unsupported
from covector.core.program import Program
from covector.loopir.tensor import Lowering, Registers, Stored, Tensor
from covector.ops import indices as ix
from covector.ops.lanes_apart import lower_apart
from covector.ops.reduce import COMBINE, IDENTITIES, accumulator

OFFSET = Aval((), dtypes.int32)
"""The first input of the program: the number of the chunk's first lane."""

_COMBINE: dict[str, np.ufunc] = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
}
"""What joins the partial results of two chunks."""


def resized(aval: Aval, dim: int | None, extent: Any) -> Aval:
    """An aval with another extent along an axis; `None` is no axis."""
    if dim is None:
        return aval
    return aval.update(shape=(*aval.shape[:dim], extent, *aval.shape[dim + 1 :]))


def chunk_widths(length: DimSize, width: int) -> tuple[int, ...]:
    """How many lanes there are in a chunk, and in the last one if that differs.

    Raises:
        TypeError: if that depends on a symbolic size.
    """
    rest = length % width
    if type(rest) is not int or (type(length) is int and length < width):
        raise TypeError(f"lanes: {length} lanes cannot run in chunks of {width}")
    return (width, rest) if rest else (width,)


def _lanes_shape(
    *avals: Aval,
    programs: tuple[Program, ...],
    length: Any,
    width: int,
    in_dims: Sequence[int | None],
    out_dims: Sequence[int | str | None],
    apart: bool = False,
) -> list[Aval]:
    widths = chunk_widths(length, width)
    if width < 1 or len(programs) != len(widths):
        raise TypeError(
            f"lanes: {length} lanes in chunks of {width} take {len(widths)} programs, "
            f"got {len(programs)}"
        )
    for program, extent in zip(programs, widths, strict=True):
        wanted = [resized(a, d, extent) for a, d in zip(avals, in_dims, strict=True)]
        found = program.input_avals
        if len(found) != len(wanted) + 1 or not all(map(same_type, found, [OFFSET, *wanted])):
            raise TypeError(f"lanes: the program takes {found}, got {[OFFSET, *wanted]}")
    return [
        resized(a, d if type(d) is int else None, length).strong()
        for a, d in zip(programs[0].output_avals, out_dims, strict=True)
    ]


def _lanes_evaluate(
    *operands: Any,
    programs: tuple[Program, ...],
    length: Any,
    width: int,
    in_dims: Sequence[int | None],
    out_dims: Sequence[int | str | None],
    apart: bool = False,
) -> list[Any]:
    pieces: list[list[Any]] = []
    for start in range(0, length, width):
        stop = min(start + width, length)
        parts = [_part(x, d, start, stop) for x, d in zip(operands, in_dims, strict=True)]
        program = programs[0] if stop - start == width else programs[1]
        pieces.append(interpret.run(program, np.array(start, np.int32), *parts))
    return [_whole(p, d) for p, d in zip(zip(*pieces, strict=True), out_dims, strict=True)]


def _part(x: Any, dim: int | None, start: int, stop: int) -> Any:
    if dim is None:
        return x
    return np.ascontiguousarray(x[(*[slice(None)] * dim, slice(start, stop))])


def _whole(parts: Sequence[Any], dim: int | str | None) -> Any:
    if dim is None:
        return parts[0]  # the same in every chunk
    return _total(parts, dim) if type(dim) is str else np.concatenate(parts, axis=int(dim))


def _total(parts: Sequence[Any], operation: str) -> Any:
    """All parts combined, by a tree of pairs that depends on nothing but their number."""
    combine = _COMBINE[operation]
    while len(parts) > 1:
        pairs = [combine(*parts[i : i + 2]) for i in range(0, len(parts) - 1, 2)]
        parts = [*pairs, parts[-1]] if len(parts) % 2 else pairs
    return np.asarray(parts[0])


def _lanes_effects(*, programs: tuple[Program, ...], **params: Any) -> Effects:
    return NONE.union(*[program.effects for program in programs])


# --- native code ----------------------------------------------------------------------------------

TOGETHER = 32
"""Lanes whose arrays share memory: two of the widest vectors of float32, few enough for the tape of
a loop of many steps to stay in cache."""

GROUPS = 64
"""Groups of lanes, at most, that have partial results of their own."""


def _lanes_lower(
    b: Lowering,
    *operands: Tensor,
    programs: tuple[Program, ...],
    length: Any,
    width: int,
    in_dims: Sequence[int | None],
    out_dims: Sequence[int | str | None],
    apart: bool = False,
) -> list[Tensor]:
    program = programs[0]
    builder = b.builder
    (count,) = b.extents(Aval((length,), dtypes.int32))
    operands = tuple([_ready(b, x, d) for x, d in zip(operands, in_dims, strict=True)])

    def run_chunk(program: Program, first: Any) -> list[Tensor]:
        offset = b.lazy((), dtypes.int32, lambda _: builder.convert(first, dtypes.int32))
        avals = program.input_avals[1:]
        parts = [
            _of_chunk(b, x, d, first, aval)
            for x, d, aval in zip(operands, in_dims, avals, strict=True)
        ]
        return b.inline(program, [offset, *parts])

    run = partial(run_chunk, program)
    if apart or width > 1:
        rest = partial(run_chunk, programs[1]) if len(programs) > 1 else None
        return lower_apart(b, count, width, run, rest, program.output_avals, out_dims)
    chunks = builder.quotient(count, TOGETHER)
    partials = any([type(d) is str for d in out_dims])
    group = ix.at_least(builder, builder.quotient(chunks, GROUPS), 1) if partials else 1
    groups = builder.quotient(chunks, group)
    results = [
        _Partial(b, aval, d, groups) if isinstance(d, str) else _Result(b, aval, d, count, k)
        for k, (aval, d) in enumerate(zip(program.output_avals, out_dims, strict=True))
    ]

    def lane(number: Any) -> None:
        for result, out in zip(results, run(number), strict=True):
            result.take(out, number)

    def around(number: Any, run: Callable[[], None]) -> None:
        sums = [result for result in results if isinstance(result, _Partial)]
        for each in sums:
            each.begin()
        run()
        for each in sums:
            each.end(number)

    builder.lanes(count, TOGETHER, lane, group, around if partials else None)
    return [result.whole() for result in results]


def _ready(b: Lowering, x: Tensor, dim: int | None) -> Tensor:
    """An operand that is not computed over and over: by every lane, or at every use in one."""
    return b.hoist(x) if dim is None else b.stored(x) if x.cost > 0 else x


def _of_chunk(b: Lowering, x: Tensor, dim: int | None, first: Any, aval: Aval) -> Tensor:
    """What a chunk has of an operand, from its first lane on."""
    if dim is None:
        return x
    shape = [*x.shape]
    shape[dim] = aval.shape[dim]
    builder, alone = b.builder, shape[dim] == 1

    def element(index: Any) -> Any:
        place = first if alone else ix.add(builder, first, index[dim])
        return x.at((*index[:dim], place, *index[dim + 1 :]))

    return b.lazy(shape, x.dtype, element, x.cost, moves=True)


class _Result:
    """Where the lanes leave one of their results that is not a partial one.

    One with lanes goes to its place. Of others there is one for each of the lanes that run
    together, the same for all of them.
    """

    def __init__(self, b: Lowering, aval: Aval, dim: int | None, length: Any, output: int) -> None:
        self._b = b
        self._dim = dim
        self._dtype = b.element_dtype(aval)
        self._shape = shape = [*b.extents(aval)]
        if dim is not None:
            shape[dim] = length
            self._memory = b.new(shape, self._dtype, output)
        else:
            self._memory = _beside(b, self._dtype, shape, TOGETHER)

    def take(self, out: Tensor, number: Any) -> None:
        """Takes the result of a lane."""
        dim = self._dim
        together = _number_together(self._b)

        def store(index: Any) -> None:
            place = (*index, together) if dim is None else (*index[:dim], number, *index[dim + 1 :])
            self._b.builder.store(self._memory.buffer, place, out.at(index))

        _visit(self._b, out, store)

    def whole(self) -> Tensor:
        """The result of all lanes."""
        memory = self._memory
        if self._dim is not None:
            return memory
        return self._b.lazy(
            self._shape, self._dtype, lambda index: memory.at((*index, 0)), moves=True
        )


class _Partial:
    """Partial results, combined in an order that depends on nothing but the number of lanes.

    Those of a group of lanes are combined chunk by chunk, for each of the lanes that run together;
    then with each other; in the end groups are combined.
    """

    def __init__(self, b: Lowering, aval: Aval, operation: str, groups: Any) -> None:
        self._b = b
        self._dtype = b.element_dtype(aval)
        self._shape = b.extents(aval)
        self._wide = wide = accumulator(self._dtype)
        self._combine = partial(COMBINE[operation], b.builder)
        identity = np.array(IDENTITIES[operation](wide)).astype(wide)[()]
        self._identity = b.builder.const(identity, wide)
        self._groups = _beside(b, wide, self._shape, groups)

    def begin(self) -> None:
        """Before the lanes of a group."""
        b, builder = self._b, self._b.builder
        self._memory = memory = _beside(b, self._wide, self._shape, TOGETHER)

        def clear(index: Any) -> None:
            def element(lane: Any) -> None:
                builder.store(memory.buffer, (*index, lane), self._identity)

            builder.loop(0, TOGETHER, element, kind="simd")

        b.for_each(self._shape, clear)

    def take(self, out: Tensor, number: Any) -> None:
        """Takes the result of a lane."""
        builder, memory = self._b.builder, self._memory
        together = _number_together(self._b)

        def store(index: Any) -> None:
            value = builder.convert(out.at(index), memory.dtype)
            place = (*index, together)
            builder.store(memory.buffer, place, self._combine(memory.at(place), value))

        _visit(self._b, out, store)

    def end(self, number: Any) -> None:
        """After the lanes of a group."""
        b, memory = self._b, self._memory

        def total(index: Any) -> None:
            def step(lane: Any, value: Any) -> list[Any]:
                return [self._combine(value, memory.at((*index, lane)))]

            (value,) = b.builder.loop(0, TOGETHER, step, [self._identity], kind="simd")
            b.builder.store(self._groups.buffer, (*index, number), value)

        b.for_each(self._shape, total)

    def whole(self) -> Tensor:
        """The result of all lanes."""
        b: Any = self._b
        memory = self._groups

        def total(index: Any) -> Any:
            # One after the other: however many there are, and whether that is known here or not.
            def step(group: Any, value: Any) -> list[Any]:
                return [self._combine(value, memory.at((*index, group)))]

            (value,) = b.builder.loop(0, memory.shape[-1], step, [self._identity])
            return b.builder.convert(value, self._dtype)

        return b.stored(b.lazy(self._shape, self._dtype, total, 2.0 * TOGETHER))


def _beside(b: Lowering, dtype: Any, shape: Sequence[Any], count: Any) -> Stored:
    """Some arrays, equal elements of all of them neighbours."""
    extents = (*shape, count)
    return Stored(b.builder, b.builder.buffer(dtype, extents), extents)


def _number_together(b: Lowering) -> Any:
    assert b.builder.lane is not None
    return b.builder.lane[0]


def _visit(b: Lowering, out: Tensor, store: Callable[[Any], None]) -> None:
    """Stores every element of a lane's result."""
    if isinstance(out, Registers):
        for index in np.ndindex(*out.shape):
            store(index)
    else:
        b.for_each(out.shape, store)


_AFTERWARDS = "the compiler makes it, after all transformations"

lanes = Primitive(
    "lanes",
    shape=_lanes_shape,
    evaluate=_lanes_evaluate,
    jvp=unsupported(_AFTERWARDS),
    transpose=unsupported(_AFTERWARDS),
    batch=unsupported(_AFTERWARDS),
    lanes=unsupported(_AFTERWARDS),
    lower=_lanes_lower,
    effects=_lanes_effects,
    multiple_results=True,
    tags=frozenset({"control"}),
)
