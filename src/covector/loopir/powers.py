"""Powers with constant exponents that are small multiples of 1/2: roots, products and quotients.

They take one square root and at most one division, where the general power takes a logarithm and an
exponential of higher precision. Errors stay below 4 units in the last place, for subnormal results
too, and the special cases are those of `pow`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from covector.core.config import config
from covector.loopir.ir import Value

if TYPE_CHECKING:
    from covector.loopir.expressions import Expressions


def expand_power(b: Expressions, x: Value, exponent: float) -> Value | None:
    """A power of a float by cheaper operations.

    Args:
        b: builder to make it with.
        x: the base, float32 or float64.
        exponent: what it is raised to.

    Returns:
        The value; `None` where the general power is needed.

    Example:
        >>> from covector.loopir.builder import Builder
        >>> import numpy as np
        >>> b = Builder("f")
        >>> expand_power(b, b.parameter(np.dtype("f4")), 2.0).op
        'mul'
    """
    rule = _RULES.get(exponent)
    return None if rule is None or "half_powers" in config.disable else rule(b, x)


def _whole(count: int) -> Callable[[Expressions, Value], Value]:
    def power(b: Expressions, x: Value) -> Value:
        result = x
        for _ in range(count - 1):
            result = b.op("mul", result, x)
        return result

    return power


def _inverse(b: Expressions, x: Value) -> Value:
    return b.op("div", b.const(1.0, x.dtype), x)


def _one(b: Expressions, x: Value) -> Value:
    return b.const(1.0, x.dtype)


def _unsigned(b: Expressions, x: Value) -> Value:
    """The base without the signs that a root minds and a power does not: of -0 and of -inf."""
    infinity = b.const(inf, x.dtype)
    is_least = b.op("eq", x, b.const(-inf, x.dtype))
    return b.op("select", is_least, infinity, b.op("add", x, b.const(0.0, x.dtype)))


def _root(count: int) -> Callable[[Expressions, Value], Value]:
    """x^(count + 1/2)"""

    def power(b: Expressions, x: Value) -> Value:
        x = _unsigned(b, x)
        result = b.op("sqrt", x)
        for _ in range(count):
            result = b.op("mul", result, x)
        return result

    return power


def _inverse_root(count: int) -> Callable[[Expressions, Value], Value]:
    """x^-(count + 1/2), from r = 1 / sqrt(x), by r^(2 count + 1) to first order in 1 - x r^2.

    Intermediate results stay in range wherever the result does, which those of
    1 / (x^count sqrt(x)) do not. Near the ends of the range of x, where the correction is
    nothing, the result has overflowed or vanished.
    """

    def power(b: Expressions, x: Value) -> Value:
        x, one = _unsigned(b, x), b.const(1.0, x.dtype)
        r = b.op("div", one, b.op("sqrt", x))
        if count == 0:
            return r
        square = b.op("mul", r, r)
        result = r
        for _ in range(count):
            result = b.op("mul", result, square)
        rest = b.op("fma", b.op("neg", x), square, one)
        scaled = b.op("mul", rest, b.const(count + 0.5, x.dtype))
        corrected = b.op("fma", result, scaled, result)
        ordinary = b.op("lt", b.op("abs", rest), b.const(0.5, x.dtype))
        return b.op("select", ordinary, corrected, result)

    return power


_RULES: dict[float, Callable[[Expressions, Value], Value]] = {
    -2.5: _inverse_root(2),
    -1.5: _inverse_root(1),
    -1.0: _inverse,
    -0.5: _inverse_root(0),
    0.0: _one,
    0.5: _root(0),
    1.0: _whole(1),
    1.5: _root(1),
    2.0: _whole(2),
    2.5: _root(2),
    3.0: _whole(3),
}
