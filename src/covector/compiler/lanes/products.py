"""Programs without loops that lanes pay for: many products for each element of a batch.

Equation after equation, arrays of the whole batch would pass through memory; element after element
they stay in cache.
"""

from __future__ import annotations

from collections.abc import Iterator

from covector.compiler.lanes.flow import State
from covector.core.dims import Dim, DimSize
from covector.core.program import Equation, Program, subprograms
from covector.ops.lanes import TOGETHER
from covector.ops.nested import elements, nbytes

MANY = 12
"""Products for which it is worth looking."""

LARGE = 1 << 20
"""Bytes of all arrays of the batch that do not stay in a core's cache."""

SMALL = 1 << 20
"""Bytes of all arrays of an element that do."""

LONG = 64
"""Elements of arrays that are worth vectors of their own."""

CACHE = 1 << 18
"""Bytes of all arrays of a vector of lanes from which on they leave the nearest caches."""


def batch_of_products(program: Program) -> DimSize | None:
    """How many elements the batch has that most products of a program are made for."""
    counts: dict[DimSize, int] = {}
    for equation in program.equations:
        if equation.primitive.name == "dot_general":
            _, (batch, _) = equation.params["dimension_numbers"]
            for axis, size in enumerate(equation.inputs[0].aval.shape):
                if axis in batch:
                    counts[size] = counts.get(size, 0) + 1
    if not counts:
        return None
    size = max(counts, key=lambda n: (counts[n], type(n) is Dim, n if type(n) is int else 0))
    return size if counts[size] >= MANY else None


def product_seeds(program: Program, size: DimSize) -> Iterator[tuple[Equation, list[State]]]:
    """The first products that may be of the batch, and the axes of their operands."""
    for equation in program.equations:
        if equation.primitive.name != "dot_general":
            continue
        dims: list[State] = [
            a.aval.shape.index(size) if size in a.aval.shape else None for a in equation.inputs
        ]
        if any([d is not None for d in dims]):
            yield equation, dims


def keeps_in_cache(before: Program, after: Program) -> bool:
    """Whether the arrays of one element fit into a cache that those of the batch do not."""
    gone = {*before.equations} - {*after.equations}
    (made,) = [e for e in after.equations if e not in {*before.equations}][:1]
    inner: Program = made.params["programs"][0]
    whole = sum([nbytes(v.aval) for e in gone for v in e.outputs])
    each = sum([nbytes(v.aval) for e in inner.equations for v in e.outputs])
    largest = max([elements(v.aval) for e in inner.equations for v in e.outputs], default=0)
    return whole >= LARGE and each <= SMALL and largest >= 64


def runs_apart(program: Program) -> bool:
    """Whether the lanes of a program without loops run better one after the other.

    Args:
        program: for one lane.
    """
    size, count, memory = _sizes(program)
    return size >= LONG * count and TOGETHER * memory >= CACHE


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
