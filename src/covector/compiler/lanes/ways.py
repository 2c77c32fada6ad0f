"""The choice of how to run what separates: in vectors of lanes, in chunks of them, or not apart.

Vectors of lanes keep small arrays in registers. A chunk of lanes computes its arrays one after the
other, in cache: it reads what lanes share once for all of its own, and products with that are
products of matrices. As whole arrays, everything passes through memory, equation after equation,
but nothing is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from covector.compiler.lanes.estimate import (
    IN_REGISTERS,
    VECTOR,
    array_time,
    by_threads,
    has_products,
    lane_time,
    needs_library,
    partial_time,
)
from covector.compiler.lanes.flow import Axis, Flow, State
from covector.compiler.lanes.narrow import narrowed
from covector.core.dims import Dim
from covector.core.program import Program, Variable, subprograms
from covector.ops.lanes import TOGETHER
from covector.ops.nested import elements

WIDTHS = (4, 8, 16, 32, 64, 128)
"""About how many lanes a chunk may have."""

MANY = 2 * WIDTHS[-1]
"""Lanes to think of, at least, where code is for any number of them: the number that comes first
must not decide how all others run."""

PREFERRED = 0.75
"""What takes one lane at a time is chosen unless others take less than this part of its time: it is
the same code for any number of lanes."""


@dataclass(frozen=True)
class Way:
    """A way to run a region, and what it is thought to take.

    Attributes:
        width: lanes of a chunk; 0 for whole arrays.
        apart: whether a chunk's arrays are computed one after the other, not in vectors of lanes.
        time: nanoseconds.
    """

    width: int
    apart: bool
    time: float = 0.0

    @property
    def name(self) -> str:
        """What it is called."""
        if self.width == 0:
            return "whole arrays"
        if not self.apart:
            return "vectors of lanes"
        return "one lane at a time" if self.width == 1 else f"chunks of {self.width} lanes"

    def __str__(self) -> str:
        return f"{duration(self.time)} ({self.name})"


def duration(time: float) -> str:
    """Nanoseconds in words.

    Example:
        >>> duration(1234567.0)
        '1.2 ms'
    """
    for limit, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if time >= limit:
            return f"{time / limit:.2g} {unit}"
    return f"{time:.2g} ns"


def ways(flow: Flow, one: Program, axis: Axis) -> list[Way]:
    """The ways to run a region, the best first.

    Args:
        flow: of the region.
        one: the region for one lane.
        axis: the lanes.
    """
    (lanes, values), wanted = _numbers(axis), flow.outputs
    found = [Way(0, False, array_time(flow.program, values, shared=True))]
    if not needs_library(one):
        inputs = [(v, s) for v, s in _inputs(flow, one) if type(s) is int]
        scattered = [v for v, dim in inputs if dim < v.aval.ndim - 1]
        chunk = one.inputs[: len(one.inputs) - len(flow.program.inputs)]  # their number: it differs
        time = lane_time(one, [*chunk, *[v for v, _ in inputs]], scattered)
        time += partial_time(one, wanted, TOGETHER)
        parts = -(-lanes // VECTOR) * VECTOR / TOGETHER
        found.append(Way(1, False, by_threads(time * parts, parts)))
    if _has_long_arrays(one):
        found.append(_in_chunks(one, wanted, 1, lanes))
        widths = WIDTHS if has_products(one) else ()  # nothing else is better for more lanes
        for width in sorted({_fitting(lanes, w) for w in widths if 2 * w <= lanes}):
            found.append(_in_chunks(narrowed(flow, wanted, width)[0], wanted, width, lanes))
    return sorted(found, key=_handicapped)


def _numbers(axis: Axis) -> tuple[int, Mapping[str, int]]:
    """How many lanes to think of, and the numbers to think of for symbolic sizes."""
    size, values = axis.size, axis.values
    if type(size) is not Dim or not size.symbols <= values.keys():
        return axis.expected, values
    values = {**values, **{name: max(values[name], MANY) for name in size.symbols}}
    return size.evaluate(values), values


def _handicapped(way: Way) -> float:
    """The time of a way, less for what is preferred."""
    return way.time * (PREFERRED if way.width == 1 else 1.0)


def _in_chunks(chunk: Program, wanted: Sequence[State], width: int, lanes: int) -> Way:
    time = array_time(chunk) + partial_time(chunk, wanted, 1)
    chunks = ceil(lanes / width)
    return Way(width, True, by_threads(time * chunks, chunks))


def _inputs(flow: Flow, one: Program) -> list[tuple[Variable, State]]:
    """The inputs of the program for one lane that are operands of the region, and their states."""
    states = [flow.states[v] for v in flow.program.inputs]
    return list(zip(one.inputs[len(one.inputs) - len(states) :], states, strict=True))


def _has_long_arrays(one: Program) -> bool:
    """Whether its loops work on arrays that are worth vectors of their own."""
    inner = [p for e in one.equations for p in subprograms(e.params)]
    if inner:
        return any([_has_long_arrays(p) for p in inner])
    arrays = [*one.inputs, *[v for e in one.equations for v in e.outputs]]
    return any([elements(v.aval) > IN_REGISTERS for v in arrays])


def _fitting(lanes: int, width: int) -> int:
    """About so many lanes, without a rest if that is possible."""
    near = sorted(range(width * 3 // 4, width * 3 // 2 + 1), key=lambda n: abs(n - width))
    return next((n for n in near if lanes % n == 0), width)
