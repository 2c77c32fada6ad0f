"""`lanes`: programs applied to consecutive lanes of arrays, a chunk of them at a time.

The compiler makes it of what separates along one axis of its arrays (`covector.compiler.lanes`);
no transformation ever meets it. Its parameters:

- programs: `number of the first lane, operands -> results`, for a whole chunk and, where the last
  chunk has fewer lanes, for that one;
- length: how many lanes there are; width: how many in a chunk;
- in_dims: the axis of each operand that the lanes are along; `None` passes it whole;
- out_dims: that of each result; `None` if it is the same for every chunk; or what combines the
  results of all chunks ("add", "max" ...).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from covector.core import dtypes, interpret
from covector.core.avals import Aval, same_type
from covector.core.effects import NONE, Effects
from covector.core.errors import CompilationError
from covector.core.primitive import Primitive, unsupported
from covector.core.program import Program
from covector.loopir.tensor import Lowering, Registers, Stored, Tensor
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


def _lanes_shape(
    *avals: Aval,
    programs: tuple[Program, ...],
    length: int,
    width: int,
    in_dims: Sequence[int | None],
    out_dims: Sequence[int | str | None],
) -> list[Aval]:
    rest = length % width
    widths = (width, rest) if rest else (width,)
    if not 0 < width <= length or len(programs) != len(widths):
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
    length: int,
    width: int,
    in_dims: Sequence[int | None],
    out_dims: Sequence[int | str | None],
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


def _lanes_lower(
    b: Lowering,
    *operands: Tensor,
    programs: tuple[Program, ...],
    length: int,
    width: int,
    in_dims: Sequence[int | None],
    out_dims: Sequence[int | str | None],
) -> list[Tensor]:
    if width != 1:
        raise CompilationError(f"lanes of {width} are for the interpreter, not for native code")
    (program,) = programs
    builder = b.builder
    operands = tuple([_ready(b, x, d) for x, d in zip(operands, in_dims, strict=True)])
    results = [
        _Result(b, aval, d, length) for aval, d in zip(program.output_avals, out_dims, strict=True)
    ]

    def lane(number: Any) -> None:
        offset = b.lazy((), dtypes.int32, lambda _: builder.convert(number, dtypes.int32))
        parts = [_of_lane(b, x, d, number) for x, d in zip(operands, in_dims, strict=True)]
        outs = b.inline(program, [offset, *parts])
        for result, out in zip(results, outs, strict=True):
            result.take(out, number)

    builder.lanes(length, TOGETHER, lane)
    return [result.whole() for result in results]


def _ready(b: Lowering, x: Tensor, dim: int | None) -> Tensor:
    """An operand that is not computed over and over: by every lane, or at every use in one."""
    return b.hoist(x) if dim is None else b.stored(x) if x.cost > 0 else x


def _of_lane(b: Lowering, x: Tensor, dim: int | None, number: Any) -> Tensor:
    if dim is None:
        return x
    shape = [*x.shape]
    shape[dim] = 1

    def element(index: Any) -> Any:
        return x.at((*index[:dim], number, *index[dim + 1 :]))

    return b.lazy(shape, x.dtype, element, x.cost, moves=True)


class _Result:
    """Where the lanes leave one of their results.

    One with lanes goes to its place. Of the others there is one for each of the lanes that run
    together; partial results are combined there as chunk follows chunk, and in the end with each
    other: in an order that depends on nothing but the number of lanes.
    """

    def __init__(self, b: Lowering, aval: Aval, dim: int | str | None, length: int) -> None:
        self._b = b
        self._dim = dim
        self._dtype = b.element_dtype(aval)
        shape = [*b.extents(aval)]
        if type(dim) is int:
            shape[dim] = length
            self._memory = b.new(shape, self._dtype)
            return
        wide = accumulator(self._dtype) if type(dim) is str else self._dtype
        buffer = b.builder.buffer(wide, (*shape, TOGETHER))
        self._shape, self._memory = shape, Stored(b.builder, buffer, (*shape, TOGETHER))
        if type(dim) is str:
            self._combine = COMBINE[dim]
            self._identity = b.builder.const(np.array(IDENTITIES[dim](wide)).astype(wide)[()], wide)
            b.for_each(
                self._memory.shape,
                lambda index: b.builder.store(buffer, index, self._identity),
                independent=True,
            )

    def take(self, out: Tensor, number: Any) -> None:
        """Takes the result of a lane."""
        b, builder, memory = self._b, self._b.builder, self._memory
        dim = self._dim
        assert builder.lane is not None
        together = builder.lane[0]

        def store(index: Any) -> None:
            value = out.at(index)
            if type(dim) is int:
                place = (*index[:dim], number, *index[dim + 1 :])
            else:
                place = (*index, together)
            if type(dim) is str:
                value = builder.convert(value, memory.dtype)
                value = self._combine(builder, memory.at(place), value)
            builder.store(memory.buffer, place, value)

        if isinstance(out, Registers):
            for index in np.ndindex(*out.shape):
                store(index)
        else:
            b.for_each(out.shape, store)

    def whole(self) -> Tensor:
        """The result of all lanes."""
        b: Any = self._b
        memory, dim = self._memory, self._dim
        if type(dim) is int:
            return memory

        def first(index: Any) -> Any:
            return memory.at((*index, 0))

        if dim is None:
            return b.lazy(self._shape, self._dtype, first, moves=True)

        def total(index: Any) -> Any:
            def element(place: Any) -> Any:
                return memory.at((*index, *place))

            combine = partial(self._combine, b.builder)
            value = b.reduce((TOGETHER,), element, combine, self._identity)
            return b.builder.convert(value, self._dtype)

        return b.stored(b.lazy(self._shape, self._dtype, total, 2.0 * TOGETHER))


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
