"""How many operations a compiled program does: counted in its loop IR, and for library calls from
the shapes of their operands."""

from __future__ import annotations

from dataclasses import dataclass, field

from covector.compiler.costs import products
from covector.core.program import Equation
from covector.inspect.extents import Extents
from covector.loopir.ir import Block, Call, For, Function, If, Item, Value, While, children
from covector.loopir.scalars import COMPLEX, FLOATS, TABLE

_FLOPS = dict.fromkeys(("add", "sub", "mul", "div", "rem", "min", "max", "sqrt"), 1.0) | {
    "fma": 2.0,
    "mul_error": 2.0,
}
"""Floating point operations of values; of others, which move and compare, none."""


@dataclass
class Work:
    """Operations of one call.

    Attributes:
        flops: of each width of floating point numbers in bytes.
        transcendentals: elements of functions such as `exp`.
        uncounted: functions of libraries whose work is not known.
        unbounded_loops: how many loops there are of unknown length: one iteration is counted.
    """

    flops: dict[int, float] = field(default_factory=lambda: {4: 0.0, 8: 0.0})
    transcendentals: float = 0.0
    uncounted: set[str] = field(default_factory=set[str])
    unbounded_loops: int = 0


def work_of(function: Function, extents: Extents) -> Work:
    """Counts the operations of a function; of a branch, the mean of both sides.

    Args:
        function: after scheduling, before a backend rewrites it.
        extents: for its sizes.

    Returns:
        The counts.
    """
    work = Work()
    _count(work, extents, function.body, 1.0, [])
    return work


def _count(
    work: Work, extents: Extents, block: Block, times: float, around: list[tuple[object, float]]
) -> None:
    """Counts a block; `around` are the loops it is in: for what they were made, their trips."""
    for item in block.items:
        if type(item) is Value:
            _count_value(work, item, times)
        elif isinstance(item, Call):
            _count_call(work, item, around)
        else:
            trips = _trips(work, extents, item)
            for child in children(item):
                opener = next(iter(child.origins), None)
                _count(work, extents, child, times * trips, [*around, (opener, trips)])


def _trips(work: Work, extents: Extents, item: Item) -> float:
    if isinstance(item, For):
        trips = extents.trips(item)
        work.unbounded_loops += trips is None
        return 1.0 if trips is None else trips
    work.unbounded_loops += isinstance(item, While)
    return 0.5 if isinstance(item, If) else 1.0


def _count_value(work: Work, value: Value, times: float) -> None:
    if value.dtype not in FLOATS:
        return
    if value.op == "call" or (value.op in TABLE and TABLE[value.op].elementary):
        work.transcendentals += times
    else:
        work.flops[value.dtype.itemsize] += times * _FLOPS.get(value.op, 0.0)


def _count_call(work: Work, call: Call, around: list[tuple[object, float]]) -> None:
    """A call of a library: its equation's work, as often as the equation runs."""
    equation = call.origin
    if not isinstance(equation, Equation) or "contraction" not in equation.primitive.tags:
        work.uncounted.add(call.symbol)
        return
    times = 1.0
    for opener, trips in around:
        times *= 1.0 if opener is equation else trips
    dtype = equation.outputs[0].aval.dtype
    is_complex = dtype in COMPLEX
    width = dtype.itemsize // (2 if is_complex else 1)
    flops = products(equation) * (4.0 if is_complex else 1.0)
    work.flops[8 if width == 8 else 4] += times * flops
