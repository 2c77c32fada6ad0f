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
from typing import Any

import numpy as np

from covector.core import dtypes, interpret
from covector.core.avals import Aval, same_type
from covector.core.effects import NONE, Effects
from covector.core.primitive import Primitive, unsupported
from covector.core.program import Program

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


_AFTERWARDS = "the compiler makes it, after all transformations"

lanes = Primitive(
    "lanes",
    shape=_lanes_shape,
    evaluate=_lanes_evaluate,
    jvp=unsupported(_AFTERWARDS),
    transpose=unsupported(_AFTERWARDS),
    batch=unsupported(_AFTERWARDS),
    lanes=unsupported(_AFTERWARDS),
    lower=unsupported("native code of lanes is not generated yet; the pass is not in its pipeline"),
    effects=_lanes_effects,
    multiple_results=True,
    tags=frozenset({"control"}),
)
