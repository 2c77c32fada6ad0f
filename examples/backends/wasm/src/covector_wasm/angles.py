"""sin, cos and tan of angles so large that the elementary functions leave them to a library.

The fraction of x * 2/pi comes from the binary digits of 2/pi that matter (Payne and Hanek).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from covector_wasm.helpers import F32, F64, I64, U64, error_of
from covector_wasm.routines import Routine, RoutineBuilder

FUNCTIONS = {f"{name}{end}": name for name in ("sin", "cos", "tan") for end in ("", "f")}
"""Names of C's functions: those that end with f take floats."""

_DIGITS = 1216
_ZEROS = 64
"""Zero digits in front of the point, so that all windows begin inside of the table."""

_HALF_PI = (1.5707963267948966, 6.123233995736766e-17)


def make(symbol: str, args: Sequence[Any]) -> Routine:
    """The function with a name of `FUNCTIONS`."""
    is_float = symbol != FUNCTIONS[symbol]
    b = RoutineBuilder(f"large_{symbol}")
    x = b.number(F32 if is_float else F64)
    result = _of_angle(b, FUNCTIONS[symbol], b.convert(x, F64))
    return b.routine(b.convert(result, x.dtype))


@cache
def _two_over_pi() -> np.ndarray[Any, Any]:
    """The binary digits of 2/pi after zeros, in words of 64, the first digit the highest."""
    more = 64
    one = 1 << (_DIGITS + more)

    def arctangent_of_inverse(n: int) -> int:
        total, power, k = 0, one // n, 1
        while power:
            total += (power // k) * (1 if k % 4 == 1 else -1)
            power //= n * n
            k += 2
        return total

    pi = 4 * (4 * arctangent_of_inverse(5) - arctangent_of_inverse(239))  # Machin
    digits = (2 * one << _DIGITS) // pi
    count = (_DIGITS + _ZEROS) // 64
    words = [digits >> 64 * k & (1 << 64) - 1 for k in reversed(range(count))]
    return np.array(words, np.uint64)


def _of_angle(b: Any, name: str, x: Any) -> Any:
    quadrant, fraction, rest = _reduced(b, b.op("abs", x))
    r = b.op("mul", fraction, _HALF_PI[0])
    lost = error_of(b, fraction, b.const(_HALF_PI[0], F64), r)
    lost = b.add(lost, b.mul(fraction, _HALF_PI[1]))
    lost = b.add(lost, b.mul(rest, _HALF_PI[0]))
    sine, cosine = b.op("sin", r), b.op("cos", r)
    sine, cosine = b.add(sine, b.mul(lost, cosine)), b.sub(cosine, b.mul(lost, sine))
    odd = b.op("eq", b.op("and", quadrant, 1), 1)
    if name == "tan":
        numerator = b.select(odd, b.op("neg", cosine), sine)
        value = b.op("div", numerator, b.select(odd, sine, cosine))
    else:
        turned = odd if name == "sin" else b.op("not", odd)
        value = b.select(turned, cosine, sine)
        quadrant = quadrant if name == "sin" else b.add(quadrant, 1)
        negative = b.op("ge", b.op("and", quadrant, 3), 2)
        value = b.select(negative, b.op("neg", value), value)
    if name != "cos":  # odd functions
        value = b.select(b.op("lt", x, 0.0), b.op("neg", value), value)
    return b.select(b.op("lt", b.op("abs", x), np.inf), value, b.const(np.nan, F64))


def _reduced(b: Any, x: Any) -> tuple[Any, Any, Any]:
    """n, f and g with x = (n + f + g) pi/2, but for multiples of 2 pi; |f| <= 1/2, g is tiny."""
    bits = b.op("bitcast", x, attr=I64)
    exponent = b.sub(b.op("shr_logical", bits, 52), 1075)
    m = b.op("or", b.op("and", bits, (1 << 52) - 1), 1 << 52)
    m = b.op("bitcast", m, attr=U64)
    # Digits in front of this one make multiples of four; 192 after it are enough.
    first = b.add(exponent, _ZEROS - 2)
    first = b.op("max", first, 0)
    table = b.constant(U64, _two_over_pi().shape, "two_over_pi", _two_over_pi())
    word, shift = b.op("shr_logical", first, 6), b.op("and", first, 63)
    shift = b.op("bitcast", shift, attr=U64)
    words = [b.load_linear(table, b.add(word, k)) for k in range(4)]
    high, middle, low = [_joined(b, *pair, shift) for pair in pairwise(words)]
    # The product modulo 2^192, without its last 64 bits.
    second = b.mul(m, middle)
    lower = b.add(second, b.op("mulhi", m, low))
    carry = b.convert(b.op("lt", lower, second), U64)
    upper = b.add(b.add(b.mul(m, high), b.op("mulhi", m, middle)), carry)
    return _split(b, upper, lower)


def _joined(b: Any, word: Any, following: Any, shift: Any) -> Any:
    """64 digits that begin inside of a word."""
    rest = b.op("shr_logical", following, b.sub(b.const(64, U64), shift))
    return b.op("or", b.op("shl", word, shift), rest)


def _split(b: Any, upper: Any, lower: Any) -> tuple[Any, Any, Any]:
    """The nearest integer to a number with two digits in front of the point, and the rest."""
    high = b.op("or", b.op("shl", upper, 2), b.op("shr_logical", lower, 62))
    low = b.op("shl", lower, 2)
    negative = b.op("lt", b.op("bitcast", high, attr=I64), 0)
    whole = b.op("bitcast", b.op("shr_logical", upper, 62), attr=I64)
    whole = b.add(whole, b.convert(negative, I64))
    high = b.select(negative, b.op("not", high), high)
    low = b.select(negative, b.op("not", low), low)  # all but one of the last digit
    zeros = b.op("clz", high)
    top = _joined(b, high, low, zeros)
    scale = b.op("shl", b.sub(b.const(1023 - 64, U64), zeros), 52)
    scale = b.op("bitcast", scale, attr=F64)
    signed = b.select(negative, b.op("neg", scale), scale)
    parts = [b.op("and", top, b.const((1 << 64) - 2048, U64)), b.op("and", top, 2047)]
    fraction, rest = [b.mul(b.convert(part, F64), signed) for part in parts]
    return whole, fraction, rest
