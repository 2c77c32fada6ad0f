"""Derived operations: `builder.op` spells them out in operations of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from covector.loopir.ir import BOOL, DType
from covector.loopir.scalars import F32, FLOATS, NUMBERS, RANGE, UNSIGNED_TWIN, WIDTH

if TYPE_CHECKING:
    from covector.loopir.expressions import Expressions

Expansion = Callable[..., Any]


def _sign(b: Expressions, x: Any) -> Any:
    """-1, 0 or 1; zeros and NaN stay themselves."""
    if x.dtype in RANGE:
        positive = b.convert(b.op("gt", x, 0), x.dtype)
        return b.op("sub", positive, b.convert(b.op("lt", x, 0), x.dtype))
    one = b.op("copysign", b.const(1.0, x.dtype), x)
    return b.select(b.op("or", b.op("eq", x, 0.0), b.op("is_nan", x)), x, one)


def _square(b: Expressions, x: Any) -> Any:
    return b.op("mul", x, x)


def _is_inf(b: Expressions, x: Any) -> Any:
    return b.op("eq", b.op("abs", x), float("inf"))


def _is_finite(b: Expressions, x: Any) -> Any:
    return b.op("lt", b.op("abs", x), float("inf"))


def _signbit(b: Expressions, x: Any) -> Any:
    signed = {32: "int32", 64: "int64"}[WIDTH[x.dtype]]
    return b.op("lt", b.op("bitcast", x, attr=_dtype(signed)), 0)


def _dtype(name: str) -> DType:
    import numpy as np

    return np.dtype(name)


def _round_away(b: Expressions, x: Any) -> Any:
    """To nearest, ties away from zero: adding the greatest number below 1/2 never overshoots."""
    below_half = 0.5 - (2.0**-25 if x.dtype is F32 else 2.0**-54)
    nudge = b.op("copysign", b.const(below_half, x.dtype), x)
    return b.op("copysign", b.op("trunc", b.op("add", x, nudge)), x)


def _nextafter(b: Expressions, x: Any, y: Any) -> Any:
    """The neighbour of x towards y; the ordering of floats is that of their bits as integers."""
    unsigned = UNSIGNED_TWIN[x.dtype]
    zero = b.const(0.0, x.dtype)
    bits = b.op("bitcast", x, attr=unsigned)
    outwards = b.op("eq", b.op("lt", x, y), b.op("gt", x, zero))
    moved = b.select(outwards, b.op("add", bits, 1), b.op("sub", bits, 1))
    smallest = b.op("bitcast", b.const(1, unsigned), attr=x.dtype)
    stepped = b.op("bitcast", moved, attr=x.dtype)
    stepped = b.select(b.op("eq", x, zero), b.op("copysign", smallest, y), stepped)
    stepped = b.select(b.op("eq", x, y), y, stepped)
    unordered = b.op("or", b.op("is_nan", x), b.op("is_nan", y))
    return b.select(unordered, b.op("add", x, y), stepped)


def _clamp(b: Expressions, low: Any, x: Any, high: Any) -> Any:
    return b.op("min", b.op("max", x, low), high)


def _bool_and(b: Expressions, x: Any, y: Any) -> Any:
    return b.op("and", x, y)


def _bool_or(b: Expressions, x: Any, y: Any) -> Any:
    return b.op("or", x, y)


def _same(b: Expressions, x: Any) -> Any:
    return x


def _never(b: Expressions, x: Any) -> Any:
    return b.const(False, BOOL)


def _always(b: Expressions, x: Any) -> Any:
    return b.const(True, BOOL)


def _for(dtypes: tuple[DType, ...], expansion: Expansion) -> dict[DType, Expansion]:
    return dict.fromkeys(dtypes, expansion)


_INTEGERS = tuple(RANGE)

EXPANSIONS: dict[str, dict[DType, Expansion]] = {
    "sign": _for(NUMBERS, _sign),
    "square": _for(NUMBERS, _square),
    "is_inf": _for(FLOATS, _is_inf) | _for(_INTEGERS, _never),
    "is_finite": _for(FLOATS, _is_finite) | _for(_INTEGERS, _always),
    "signbit": _for(FLOATS, _signbit),
    "round_away": _for(FLOATS, _round_away),
    "nextafter": _for(FLOATS, _nextafter),
    "clamp": _for(NUMBERS, _clamp),
    # Arithmetic of bools is that of the two-element lattice, as in NumPy.
    "add": {BOOL: _bool_or},
    "max": {BOOL: _bool_or},
    "mul": {BOOL: _bool_and},
    "min": {BOOL: _bool_and},
    **{name: _for(_INTEGERS, _same) for name in ("floor", "ceil", "trunc", "round_even")},
}


def has(name: str) -> bool:
    """Whether an operation is derived for some dtype.

    Args:
        name: operation.

    Returns:
        True if `expansion` knows it.
    """
    return name in EXPANSIONS


def expansion(name: str, dtype: DType) -> Expansion | None:
    """How a derived operation is spelled out.

    Args:
        name: operation.
        dtype: of its last operand.

    Returns:
        A function `(builder, *operands) -> value`, or `None` if the operation is not derived.
    """
    return EXPANSIONS.get(name, {}).get(dtype)
