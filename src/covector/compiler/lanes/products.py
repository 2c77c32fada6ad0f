"""Programs without loops that lanes pay for: many products for each element of a batch.

Equation after equation, arrays of the whole batch would pass through memory; element after element
they stay in cache.
"""

from __future__ import annotations

from collections.abc import Iterator

from covector.compiler.lanes.flow import State
from covector.core.dims import Dim, DimSize
from covector.core.program import Equation, Program
from covector.ops.nested import elements, nbytes

MANY = 12
"""Products for which it is worth looking."""

LARGE = 1 << 20
"""Bytes of all arrays of the batch that do not stay in a core's cache."""

SMALL = 1 << 20
"""Bytes of all arrays of an element that do."""


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
