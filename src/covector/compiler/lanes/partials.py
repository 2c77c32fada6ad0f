"""Operations on reductions over lanes: which of them may wait until all chunks are combined.

What is linear can be applied to each chunk's sum as well as to the sum of all; what only moves
elements, to every kind of partial result.
"""

from __future__ import annotations

from collections.abc import Sequence

from covector.compiler.lanes.flow import State, Step
from covector.core import dtypes
from covector.core.program import Equation
from covector.ops.common import LOCAL, Inseparable, Partial

_FIRST = (0,)

MOVES: dict[str, tuple[int, ...] | str] = {
    **dict.fromkeys(
        ("broadcast_in_dim", "reshape", "transpose", "squeeze", "slice", "rev", "copy"), _FIRST
    ),
    **dict.fromkeys(("split", "unstack", "tile", "dynamic_slice"), _FIRST),
    **dict.fromkeys(("concatenate", "stack"), "all"),
    "dynamic_update_slice": (0, 1),
    "select_n": "rest",
}
"""Which operands may be partial, whatever the reduction; the others are uniform."""

LINEAR: dict[str, tuple[int, ...] | str] = {
    **dict.fromkeys(("neg", "reduce_sum", "cumsum", "real", "imag", "conj"), _FIRST),
    "convert_element_type": _FIRST,
    "div": _FIRST,
    "gather": _FIRST,
    "triangular_solve": (1,),
    "lu_solve": (3,),
    "scatter-add": (0, 2),
    **dict.fromkeys(("add", "add_any", "sub"), "all"),
    **dict.fromkeys(("mul", "dot_general"), "one"),
}
"""The same for sums over lanes."""

IDEMPOTENT = {"max": "max", "min": "min", "or": "or", "and": "and"}
"""Operations that may join a partial result of their own kind with a uniform value."""


def partial_step(equation: Equation, found: Sequence[State]) -> Step:
    """The step of an equation some of whose operands are partial results.

    Raises:
        Inseparable: the operation needs the result over all lanes.
    """
    kinds = {s for s in found if type(s) is Partial}
    name = equation.primitive.name
    if len(kinds) > 1:
        raise Inseparable("it joins different reductions over lanes")
    if any([s is LOCAL for s in found]):
        raise Inseparable("it joins a reduction over all lanes with what only some decide")
    if any([type(s) is int for s in found]):
        raise Inseparable("it uses a reduction over all lanes in each lane")
    (kind,) = kinds
    assert type(kind) is Partial
    exact = name in MOVES or kind.operation != "add" or _keeps_sums(equation)
    which = _partial_operands(name, kind, found) if exact else None
    if which is None or any([s is not None and not w for s, w in zip(found, which, strict=True)]):
        raise Inseparable(f"it needs the reduction ({kind.operation}) over all lanes")
    ins: list[State] = [kind if w else None for w in which]
    return Step(equation, ins, [kind] * len(equation.outputs))


def _keeps_sums(equation: Equation) -> bool:
    """Whether the sum of what parts give is what their sum gives, up to rounding.

    Integers that wrap around are still sums modulo a power of two, which division and conversions
    to more bits or to floats do not keep. Signed ones of 32 bits or more are taken not to wrap
    around there: they count things, for averages and the like.
    """
    before, after = equation.inputs[0].aval.dtype, equation.outputs[0].aval.dtype
    if dtypes.is_inexact(before):
        return dtypes.is_inexact(after)
    if dtypes.is_inexact(after) or after.itemsize > before.itemsize:
        return dtypes.is_signed(before) and before.itemsize >= 4
    return equation.primitive.name != "div" and not dtypes.is_bool(after)


def _partial_operands(name: str, kind: Partial, found: Sequence[State]) -> list[bool] | None:
    """Which operands are made partial; `None` if the operation does not allow it."""
    positions = MOVES.get(name)
    if positions is None and kind.operation == "add":
        positions = LINEAR.get(name)
    if positions is None and IDEMPOTENT.get(name) == kind.operation:
        positions = "all"
    if positions is None and (name, kind.operation) == ("and", "or"):
        positions = "one"  # (a or b) and c = (a and c) or (b and c)
    if positions is None:
        return None
    count = len(found)
    if positions == "all":
        return [True] * count
    if positions == "rest":
        return [False] + [True] * (count - 1)
    if positions == "one":
        given = [s is not None for s in found]
        return given if sum(given) == 1 else None
    assert type(positions) is tuple
    return [k in positions for k in range(count)]
