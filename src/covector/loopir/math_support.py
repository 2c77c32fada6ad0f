"""Writing elementary functions: values with operators, polynomials, error-free arithmetic."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.loopir.builder import Builder
from covector.loopir.ir import DType
from covector.loopir.scalars import F32, F64

I32: DType = np.dtype(np.int32)
I64: DType = np.dtype(np.int64)


class Format:
    """What algorithms have to know of a float type.

    Attributes:
        dtype: the float type.
        bits: the integer type of its width.
        mantissa: stored bits of the significand.
        bias: of the exponent.
        magic: 1.5 * 2^mantissa; adding it rounds to an integer, which is then in the low bits.
        tiny: least normal number.
    """

    __slots__ = ("bias", "bits", "dtype", "magic", "mantissa", "tiny")

    def __init__(self, dtype: DType, bits: DType, mantissa: int, bias: int) -> None:
        self.dtype = dtype
        self.bits = bits
        self.mantissa = mantissa
        self.bias = bias
        self.magic = 1.5 * 2.0**mantissa
        self.tiny = 2.0 ** (1 - bias)


SINGLE = Format(F32, I32, 23, 127)
DOUBLE = Format(F64, I64, 52, 1023)
FORMATS = {F32: SINGLE, F64: DOUBLE}


def bit_pattern(number: float, fmt: Format) -> int:
    """The bits of a constant as a signed integer.

    Args:
        number: representable in the format.
        fmt: the format.

    Returns:
        The integer.
    """
    codes = ("<f", "<i") if fmt is SINGLE else ("<d", "<q")
    return int(struct.unpack(codes[1], struct.pack(codes[0], number))[0])


class Real:
    """A float, integer or bool value of a builder, with operators."""

    __slots__ = ("b", "value")

    def __init__(self, b: Builder, value: Any) -> None:
        self.b = b
        self.value = value

    @property
    def dtype(self) -> DType:
        return self.value.dtype

    @property
    def fmt(self) -> Format:
        """The float format of the value."""
        return FORMATS[self.value.dtype]

    def op(self, name: str, *others: Any, attr: Any = None) -> Real:
        """Applies an operation of the table, with this value first."""
        operands = [o.value if isinstance(o, Real) else o for o in others]
        return Real(self.b, self.b.op(name, self.value, *operands, attr=attr))

    def const(self, number: float) -> Real:
        """A constant of this value's type."""
        return Real(self.b, self.b.const(number, self.value.dtype))

    def __add__(self, other: Any) -> Real:
        return self.op("add", other)

    def __radd__(self, other: Any) -> Real:
        return self.const(other) + self

    def __sub__(self, other: Any) -> Real:
        return self.op("sub", other)

    def __rsub__(self, other: Any) -> Real:
        return self.const(other) - self

    def __mul__(self, other: Any) -> Real:
        return self.op("mul", other)

    def __rmul__(self, other: Any) -> Real:
        return self.op("mul", other)

    def __truediv__(self, other: Any) -> Real:
        return self.op("div", other)

    def __rtruediv__(self, other: Any) -> Real:
        return self.const(other) / self

    def __neg__(self) -> Real:
        return self.op("neg")

    def __abs__(self) -> Real:
        return self.op("abs")

    def __and__(self, other: Any) -> Real:
        return self.op("and", other)

    def __or__(self, other: Any) -> Real:
        return self.op("or", other)

    def __xor__(self, other: Any) -> Real:
        return self.op("xor", other)

    def __invert__(self) -> Real:
        return self.op("not")

    def __lshift__(self, other: Any) -> Real:
        return self.op("shl", other)

    def __rshift__(self, other: Any) -> Real:
        return self.op("shr_arithmetic", other)

    def __lt__(self, other: Any) -> Real:
        return self.op("lt", other)

    def __le__(self, other: Any) -> Real:
        return self.op("le", other)

    def __gt__(self, other: Any) -> Real:
        return self.op("gt", other)

    def __ge__(self, other: Any) -> Real:
        return self.op("ge", other)

    def eq(self, other: Any) -> Real:
        """Whether two values are equal."""
        return self.op("eq", other)

    def ne(self, other: Any) -> Real:
        """Whether two values differ or are unordered."""
        return self.op("ne", other)

    def fma(self, factor: Any, term: Any) -> Real:
        """self * factor + term, perhaps rounded once."""
        return self.op("fma", factor, term if isinstance(term, Real) else self.const(term))

    def pick(self, a: Any, b: Any) -> Real:
        """`a` where this bool holds, else `b`; one of them must be a value."""
        if not isinstance(a, Real):
            a = b.const(a)
        return Real(
            self.b, self.b.select(self.value, a.value, b.value if isinstance(b, Real) else b)
        )

    def clamp(self, low: float, high: float) -> Real:
        """The value brought between two constants; NaN stays."""
        return self.op("max", low).op("min", high)

    def convert(self, dtype: DType) -> Real:
        """The value in another type."""
        return Real(self.b, self.b.convert(self.value, dtype))

    def as_bits(self) -> Real:
        """The bits of a float as a signed integer."""
        return self.op("bitcast", attr=self.fmt.bits)

    def as_float(self) -> Real:
        """The float with these bits."""
        return self.op("bitcast", attr=F32 if self.dtype is I32 else F64)

    def is_nan(self) -> Real:
        """Whether the value is not a number."""
        return self.op("is_nan")

    def copysign(self, other: Real) -> Real:
        """The value with the sign of another."""
        return self.op("copysign", other)

    def scale(self, bits: Real) -> Real:
        """This number, from 1/2 to 2, times 2^n, rounded once, with n from `round_to_integer`."""
        return self.op("scale", bits.as_float())

    def sqrt(self) -> Real:
        """The square root."""
        return self.op("sqrt")


def polynomial(x: Real, coefficients: Sequence[float]) -> Real:
    """A polynomial in two interleaved chains, which halves the time to wait for it.

    Args:
        x: where to evaluate.
        coefficients: lowest degree first.

    Returns:
        Its value.
    """
    if len(coefficients) < 5:
        return horner(x, coefficients)
    square = x * x
    even, odd = horner(square, coefficients[::2]), horner(square, coefficients[1::2])
    return odd.fma(x, even)


def estrin(x: Real, coefficients: Sequence[float]) -> Real:
    """A polynomial by Estrin's scheme: more operations, but the shortest time to wait for it.

    Args:
        x: where to evaluate.
        coefficients: lowest degree first.

    Returns:
        Its value.
    """
    power, terms = x, [x.const(c) for c in coefficients]
    while len(terms) > 1:
        pairs = zip(terms[1::2], terms[::2], strict=False)
        last = terms[-1:] if len(terms) % 2 else []
        terms = [high.fma(power, low) for high, low in pairs] + last
        power = power * power
    return terms[0]


def horner(x: Real, coefficients: Sequence[float]) -> Real:
    """A polynomial by Horner's rule.

    Args:
        x: where to evaluate.
        coefficients: lowest degree first.

    Returns:
        Its value.
    """
    total = x.const(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total.fma(x, c)
    return total


def round_to_integer(x: Real, factor: float | None = None) -> tuple[Real, Real]:
    """The nearest integer to a number of moderate size.

    Args:
        x: less than 2^(mantissa - 1) in size.
        factor: what to multiply it with first; near ties either neighbour may be the result.

    Returns:
        The integer as a float, and an integer value that has it in its low bits.
    """
    magic = x.fmt.magic
    shifted = x + magic if factor is None else x.fma(factor, magic)
    return shifted - magic, shifted.as_bits()


def power_of_two(bits: Real, offset: Any, fmt: Format) -> Real:
    """2^(n + offset), from an integer that has n in its low bits.

    Args:
        bits: as from `round_to_integer`.
        offset: an int, or an integer value.
        fmt: of the result, whose exponent must be in range.

    Returns:
        The power.
    """
    return ((bits + (offset + fmt.bias)) << fmt.mantissa).as_float()


def integer_to_float(n: Real, fmt: Format) -> Real:
    """A small integer as a float, without the conversion that older machines lack for int64.

    Args:
        n: integer value, less than 2^(mantissa - 2) in size.
        fmt: of the result.

    Returns:
        The float.
    """
    return (n + bit_pattern(fmt.magic, fmt)).as_float() - fmt.magic


def split_exponent(x: Real) -> tuple[Real, Real, Real]:
    """x = m 2^k with m from sqrt(1/2) to sqrt(2), for positive finite x.

    Args:
        x: subnormals included.

    Returns:
        m; k as an integer; k as a float.
    """
    fmt = x.fmt
    small = x < fmt.tiny
    lifted = fmt.mantissa + 2
    bits = small.pick(x * 2.0**lifted, x).as_bits()
    k = (bits - bit_pattern(float(np.array(np.sqrt(0.5), fmt.dtype)), fmt)) >> fmt.mantissa
    m = (bits - (k << fmt.mantissa)).as_float()
    k = k - small.pick(lifted, k.const(0))
    return m, k, integer_to_float(k, fmt)


def split_normal(x: Real) -> tuple[Real, Real]:
    """`split_exponent` for what is not subnormal: m, and k as a float.

    Args:
        x: positive, finite and normal.

    Returns:
        m; k.
    """
    fmt = x.fmt
    bits = x.as_bits()
    k = (bits - bit_pattern(float(np.array(np.sqrt(0.5), fmt.dtype)), fmt)) >> fmt.mantissa
    return (bits - (k << fmt.mantissa)).as_float(), integer_to_float(k, fmt)


def two_sum(a: Real, b: Real) -> tuple[Real, Real]:
    """The sum of two numbers and what rounding took from it (Knuth).

    Args:
        a: a number.
        b: a number.

    Returns:
        Two numbers whose exact sum is that of a and b.
    """
    total = a + b
    virtual = total - a
    return total, (a - (total - virtual)) + (b - virtual)


def quick_two_sum(a: Real, b: Real) -> tuple[Real, Real]:
    """`two_sum` for |a| >= |b| (Dekker).

    Args:
        a: the larger number.
        b: the smaller.

    Returns:
        Two numbers whose exact sum is that of a and b.
    """
    total = a + b
    return total, b - (total - a)


def two_product(a: Real, b: Any) -> tuple[Real, Real]:
    """The product of two numbers and what rounding took from it.

    Args:
        a: a number.
        b: a number.

    Returns:
        Two numbers whose exact sum is the product.
    """
    b = b if isinstance(b, Real) else a.const(b)
    product = a * b
    return product, a.op("mul_error", b, product)
