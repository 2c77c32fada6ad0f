"""How long loop IR takes, by rule of thumb: for decisions that a factor of two does not change."""

from __future__ import annotations

from collections.abc import Callable

from covector.loopir.ir import (
    SIMD,
    Block,
    Call,
    CallArgument,
    Callback,
    For,
    Item,
    Segment,
    Value,
    While,
    children,
)
from covector.loopir.scalars import TABLE

_OPERATIONS = {
    **{name: 5.0 for name, spec in TABLE.items() if spec.elementary},
    **dict.fromkeys(("div", "rem", "sqrt"), 3.0),
    "call": 20.0,
}
"""Nanoseconds of operations; of others `_SIMPLE`."""

_MULTIPLY = {"f32": 0.02, "f64": 0.04, "c64": 0.08, "c128": 0.16}
"""Nanoseconds that BLAS takes for one multiplication of a large product, and its addition."""

_CALLS: dict[str, tuple[float, tuple[int, int, int]]] = {
    "cv_gemm": (1.0, (0, 1, 2)),
    "cv_trsm": (0.8, (4, 5, 5)),
    "cv_potrf": (0.3, (0, 0, 0)),
    "cv_getrf": (0.6, (0, 1, 1)),
    "cv_geqrf": (1.5, (0, 1, 1)),
    "cv_orgqr": (1.5, (0, 1, 2)),
    "cv_syevd": (10.0, (0, 0, 0)),
    "cv_gesdd": (20.0, (0, 1, 1)),
}
"""How many multiplications functions of BLAS and LAPACK take: a multiple of the product of sizes,
which are these arguments."""

_CALL = 1000.0
"""Nanoseconds of a call at least."""

UNKNOWN_SIZE = 64
"""Size of a matrix of which it is not known."""

_SIMPLE = 0.3

SIMD_GAIN = 8.0
"""By how much lanes make a loop faster."""

UNKNOWN_TRIPS = 100
"""Iterations of a loop of which it is not known."""


def operation_cost(value: Value) -> float:
    """Nanoseconds of one value.

    Args:
        value: an operation, load or call.

    Returns:
        The estimate.
    """
    return _OPERATIONS.get(value.op, _SIMPLE)


def statement_cost(item: Item) -> float:
    """Nanoseconds of a statement without blocks.

    Args:
        item: a store, call, check ...

    Returns:
        The estimate.
    """
    if isinstance(item, Call | Callback):
        return max(_CALL, call_cost(item)) if isinstance(item, Call) else _CALL
    return 10.0 if isinstance(item, Segment) else 0.5


def product_cost(rows: int, columns: int, inner: int, suffix: str) -> float:
    """Nanoseconds of a product of matrices by BLAS.

    Args:
        rows: of the result.
        columns: of the result.
        inner: terms of each sum.
        suffix: the type, as in the names of shims: "f32" ...

    Returns:
        The estimate, for one thread.
    """
    return rows * columns * inner * _MULTIPLY[suffix]


def call_cost(item: Call) -> float:
    """Nanoseconds of a call of BLAS or LAPACK; 0 for other functions.

    Args:
        item: the call.

    Returns:
        The estimate, for one thread.
    """
    name, _, suffix = item.symbol.rpartition("_")
    if name not in _CALLS:
        return 0.0
    factor, places = _CALLS[name]
    sizes = [_size_at_most(item.args[place]) for place in places]
    return factor * product_cost(sizes[0], sizes[1], sizes[2], suffix)


def _size_at_most(size: CallArgument) -> int:
    assert isinstance(size, Value)
    parts = size.args if size.op == "min" else (size,)
    return min([v.attr for v in parts if v.op == "const"], default=UNKNOWN_SIZE)


def trips_at_most(loop: For) -> int | None:
    """How many iterations a loop has at most.

    Args:
        loop: any loop.

    Returns:
        The number, or a bound for a loop over a block of a longer range; `None` if unknown.
    """
    trips = loop.trips
    if trips is not None:
        return trips
    lower, upper = loop.lower, loop.upper
    for bound in upper.args if upper.op == "min" else ():
        if bound.op == "const" and lower.op == "const":
            return bound.attr - lower.attr
        if bound.op == "add" and bound.args[0] is lower and bound.args[1].op == "const":
            return bound.args[1].attr
    return None


def block_cost(block: Block, trips_of: Callable[[For], int | None] = trips_at_most) -> float:
    """Nanoseconds of a block with what is inside it.

    Args:
        block: any block.
        trips_of: how many iterations loops have, as far as that is known.

    Returns:
        The estimate, both sides of branches included.
    """
    return sum([item_cost(item, trips_of) for item in block.items])


def item_cost(item: Item, trips_of: Callable[[For], int | None] = trips_at_most) -> float:
    """Nanoseconds of a value or statement with what is inside it.

    Args:
        item: any.
        trips_of: as for `block_cost`.

    Returns:
        The estimate.
    """
    if type(item) is Value:
        return operation_cost(item)
    inner = sum([block_cost(child, trips_of) for child in children(item)])
    if isinstance(item, For):
        trips = trips_of(item)
        inner *= UNKNOWN_TRIPS if trips is None else trips
        inner /= SIMD_GAIN if item.kind == SIMD else 1.0
    elif isinstance(item, While):
        inner *= UNKNOWN_TRIPS
    return inner or statement_cost(item)
