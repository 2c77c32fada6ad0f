"""The table of scalar operations: operand types, result types and exact evaluation.

Semantics are JAX's: integer division by zero gives -1 (all ones if unsigned) and remainder by zero
the dividend, the lowest integer divided by -1 is itself, signed overflow wraps, shifts by the width
or more shift everything out, conversions to integers saturate with NaN going to 0, `min` and `max`
propagate NaN. Arithmetic on float16 and bfloat16 is done in float32 and rounded after each
operation, which the builder spells out; backends see only their loads, stores, selects, conversions
and bitcasts.
"""

from __future__ import annotations

import ctypes
import math
import operator
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from covector.loopir.ir import BOOL, INDEX, DType, LoopIRError

SIGNED: tuple[DType, ...] = tuple(np.dtype(f"int{n}") for n in (8, 16, 32, 64))
UNSIGNED: tuple[DType, ...] = tuple(np.dtype(f"uint{n}") for n in (8, 16, 32, 64))
INTEGERS = SIGNED + UNSIGNED
F32: DType = np.dtype(np.float32)
F64: DType = np.dtype(np.float64)
F16: DType = np.dtype(np.float16)
BF16: DType = np.dtype(ml_dtypes.bfloat16)
FLOATS = (F32, F64)
HALVES = frozenset({F16, BF16})
COMPLEX: dict[DType, DType] = {np.dtype(np.complex64): F32, np.dtype(np.complex128): F64}
NUMBERS = INTEGERS + FLOATS
BITS = (*INTEGERS, BOOL)
EVERYTHING = (BOOL, *NUMBERS, F16, BF16)

WIDTH: dict[DType, int] = {d: 8 * d.itemsize for d in EVERYTHING}
RANGE: dict[DType, tuple[int, int]] = {
    d: (int(np.iinfo(d).min), int(np.iinfo(d).max)) for d in INTEGERS
}
UNSIGNED_TWIN: dict[DType, DType] = {
    d: UNSIGNED[i] for dtypes in (SIGNED, UNSIGNED) for i, d in enumerate(dtypes)
} | {F32: UNSIGNED[2], F64: UNSIGNED[3], F16: UNSIGNED[1], BF16: UNSIGNED[1]}


Evaluate = Callable[..., Any]
"""`(dtype, *numbers) -> number`, or `None` where the result is not exact."""


class OpSpec:
    """One operation of the table.

    Attributes:
        name: as in `builder.op(name, ...)`.
        arity: number of operands.
        results: result dtype for each dtype of the last operand.
        like: how many trailing operands share that dtype; leading ones are bools.
        commutative: whether the two operands may change places.
        evaluate: exact meaning on Python numbers, `(dtype, *operands) -> number`, or `None`.
        elementary: a mathematical function defined in `mathematics`.
        doc: one line for readers of the table.
    """

    __slots__ = (
        "arity",
        "commutative",
        "doc",
        "elementary",
        "evaluate",
        "like",
        "name",
        "results",
        "targets",
        "uniform",
    )

    def __init__(
        self,
        name: str,
        arity: int,
        results: dict[DType, DType],
        doc: str,
        commutative: bool = False,
        evaluate: Evaluate | None = None,
        elementary: bool = False,
        like: int | None = None,
        targets: frozenset[DType] | None = None,
    ) -> None:
        self.name = name
        self.arity = arity
        self.results = results
        self.doc = doc
        self.commutative = commutative
        self.evaluate = evaluate
        self.elementary = elementary
        self.like = arity if like is None else like
        self.targets = targets
        """Allowed `attr` of a conversion; `None` for operations whose result the operands give."""
        self.uniform = self.like == arity and targets is None
        """Whether all operands have one dtype, which gives that of the result."""


TABLE: dict[str, OpSpec] = {}
"""Every operation by name."""


def canonical(value: Any, dtype: DType) -> Any:
    """The Python number that stands for a constant of a dtype.

    Args:
        value: a Python or NumPy number.
        dtype: element type, not complex.

    Returns:
        A bool, a wrapped int, or a float rounded to the dtype.
    """
    if dtype is BOOL:
        return bool(value)
    if dtype in RANGE:
        return wrap(int(value), dtype)
    return round_to(float(value), dtype)


def wrap(value: int, dtype: DType) -> int:
    """An integer reduced to the range of a dtype, modulo its number of values.

    Args:
        value: any integer.
        dtype: an integer dtype.

    Returns:
        The representative in the range.
    """
    low, high = RANGE[dtype]
    if low <= value <= high:
        return value
    return (value - low) % (high - low + 1) + low


def round_to(value: float, dtype: DType) -> float:
    """A float64 number rounded to a float dtype, ties to even.

    Args:
        value: a Python float.
        dtype: a float dtype.

    Returns:
        The rounded number as a Python float.
    """
    if dtype is F64:
        return value
    if dtype is F32:
        return ctypes.c_float(value).value
    with np.errstate(over="ignore"):
        return float(_to_half(value, dtype))


def _to_half(value: float, dtype: DType) -> Any:
    # ml_dtypes converts float64 to bfloat16 through float32, which rounds twice.
    if dtype is BF16 and value == value and abs(value) != math.inf:
        narrow = ctypes.c_float(value).value
        if narrow != value and abs(narrow) != math.inf:
            narrow = float(_round_to_odd(narrow, value))
        return np.float32(narrow).astype(dtype)
    return np.float64(value).astype(dtype)


def _round_to_odd(narrow: float, value: float) -> np.float32:
    bits = int(np.float32(narrow).view(np.uint32))
    if not bits & 1:
        bits += 1 if abs(narrow) < abs(value) else -1
    return np.uint32(bits).view(np.float32)


def bits_of(value: Any, dtype: DType) -> int:
    """The bit pattern of a constant as an unsigned integer.

    Args:
        value: a canonical constant.
        dtype: its dtype.

    Returns:
        The bits.
    """
    array = np.array(value, dtype)
    return int(array.view(np.dtype(f"uint{8 * dtype.itemsize}")))


def divide(dtype: DType, a: int, b: int) -> int:
    """Integer division towards zero; by zero -1.

    Args:
        dtype: an integer dtype.
        a: dividend.
        b: divisor.

    Returns:
        The quotient, wrapped.
    """
    if b == 0:
        return wrap(-1, dtype)
    quotient = abs(a) // abs(b)
    return wrap(-quotient if (a < 0) != (b < 0) else quotient, dtype)


def remainder(dtype: DType, a: int, b: int) -> int:
    """Remainder with the sign of the dividend; by zero the dividend.

    Args:
        dtype: an integer dtype.
        a: dividend.
        b: divisor.

    Returns:
        The remainder.
    """
    if b == 0:
        return a
    return -(abs(a) % abs(b)) if a < 0 else abs(a) % abs(b)


def _div(dtype: DType, a: Any, b: Any) -> Any:
    if dtype in RANGE:
        return divide(dtype, a, b)
    return None if b == 0 else a / b


def _rem(dtype: DType, a: Any, b: Any) -> Any:
    return remainder(dtype, a, b) if dtype in RANGE else None


def _minimum(dtype: DType, a: Any, b: Any) -> Any:
    if a != a or b != b:
        return math.nan
    return None if a == b and dtype in FLOATS else min(a, b)


def _maximum(dtype: DType, a: Any, b: Any) -> Any:
    if a != a or b != b:
        return math.nan
    return None if a == b and dtype in FLOATS else max(a, b)


def _shl(dtype: DType, a: int, b: int) -> int:
    return a << b if 0 <= b < WIDTH[dtype] else 0


def _shr_logical(dtype: DType, a: int, b: int) -> int:
    return (a % (1 << WIDTH[dtype])) >> b if 0 <= b < WIDTH[dtype] else 0


def _shr_arithmetic(dtype: DType, a: int, b: int) -> int:
    # An unsigned operand keeps its bits and is shifted as if it were signed.
    width = WIDTH[dtype]
    signed = a - (1 << width) if a >= 1 << (width - 1) else a
    return signed >> (b if 0 <= b < width else width - 1)


def _popcount(dtype: DType, a: int) -> int:
    return (a % (1 << WIDTH[dtype])).bit_count()


def _clz(dtype: DType, a: int) -> int:
    return WIDTH[dtype] - (a % (1 << WIDTH[dtype])).bit_length()


def _ctz(dtype: DType, a: int) -> int:
    return (a & -a).bit_length() - 1 if a else WIDTH[dtype]


def _mulhi(dtype: DType, a: int, b: int) -> int:
    return (a * b) >> WIDTH[dtype]


def _not(dtype: DType, a: Any) -> Any:
    return not a if dtype is BOOL else ~a


def _sqrt(dtype: DType, a: float) -> float | None:
    return math.sqrt(a) if a >= 0.0 else None


def _floor(dtype: DType, a: float) -> float | None:
    return float(math.floor(a)) if a and math.isfinite(a) and a >= 1.0 else None


def _and(dtype: DType, a: Any, b: Any) -> Any:
    return a & b


def _or(dtype: DType, a: Any, b: Any) -> Any:
    return a | b


def _xor(dtype: DType, a: Any, b: Any) -> Any:
    return a ^ b


def _floordiv(dtype: DType, a: int, b: int) -> int:
    return a // b


def _is_nan(dtype: DType, a: float) -> bool:
    return a != a


def _plain(function: Callable[..., Any]) -> Evaluate:
    """A meaning that does not depend on the dtype."""

    def evaluate(dtype: DType, *operands: Any) -> Any:
        return function(*operands)

    return evaluate


def _define(
    name: str,
    arity: int,
    dtypes: tuple[DType, ...],
    doc: str,
    evaluate: Evaluate | None = None,
    *,
    boolean: bool = False,
    commutative: bool = False,
    elementary: bool = False,
    like: int | None = None,
    targets: frozenset[DType] | None = None,
) -> None:
    results = {d: BOOL if boolean else d for d in dtypes}
    TABLE[name] = OpSpec(
        name, arity, results, doc, commutative, evaluate, elementary, like, targets
    )


_define("add", 2, NUMBERS, "sum", _plain(operator.add), commutative=True)
_define("sub", 2, NUMBERS, "difference", _plain(operator.sub))
_define("mul", 2, NUMBERS, "product", _plain(operator.mul), commutative=True)
_define("div", 2, NUMBERS, "quotient, integers towards zero", _div)
_define("rem", 2, NUMBERS, "remainder with the sign of the dividend", _rem)
_define("neg", 1, NUMBERS, "negation", _plain(operator.neg))
_define("abs", 1, NUMBERS, "absolute value", _plain(abs))
_define("min", 2, NUMBERS, "lesser, NaN if either is", _minimum, commutative=True)
_define("max", 2, NUMBERS, "greater, NaN if either is", _maximum, commutative=True)
_define("fma", 3, FLOATS, 'a * b + c, fused where the target can; with attr "exact" always')
_define("mul_error", 3, FLOATS, "a * b - c exactly, where c is the rounded a * b")
_define("scale", 2, FLOATS, "a * 2^n, rounded once, for a from 1/2 to 2, b = n + 1.5 * 2^mantissa")
_define("sqrt", 1, FLOATS, "square root", _sqrt)
_define("floor", 1, FLOATS, "round down", _floor)
_define("ceil", 1, FLOATS, "round up")
_define("trunc", 1, FLOATS, "round towards zero")
_define("round_even", 1, FLOATS, "round to nearest, ties to even")
_define("copysign", 2, FLOATS, "magnitude of a, sign of b", _plain(math.copysign))

_define("and", 2, BITS, "bitwise and", _and, commutative=True)
_define("or", 2, BITS, "bitwise or", _or, commutative=True)
_define("xor", 2, BITS, "bitwise exclusive or", _xor, commutative=True)
_define("not", 1, BITS, "bitwise complement", _not)
_define("shl", 2, INTEGERS, "shift left, 0 from the width on", _shl)
_define("shr_logical", 2, INTEGERS, "shift right, zeros in", _shr_logical)
_define("shr_arithmetic", 2, INTEGERS, "shift right, sign in", _shr_arithmetic)
_define("popcount", 1, INTEGERS, "number of ones", _popcount)
_define("clz", 1, INTEGERS, "leading zeros", _clz)
_define("ctz", 1, INTEGERS, "trailing zeros", _ctz)
_define("mulhi", 2, INTEGERS, "upper half of the product", _mulhi, commutative=True)
_define("index_div", 2, (INDEX,), "a // b for a >= 0, b > 0", _floordiv)
_define("index_rem", 2, (INDEX,), "a % b for a >= 0, b > 0", _plain(operator.mod))

_COMPARED = (*NUMBERS, BOOL)
_define("eq", 2, _COMPARED, "equal", _plain(operator.eq), boolean=True, commutative=True)
_define("ne", 2, _COMPARED, "not equal", _plain(operator.ne), boolean=True, commutative=True)
_define("lt", 2, _COMPARED, "less", _plain(operator.lt), boolean=True)
_define("le", 2, _COMPARED, "less or equal", _plain(operator.le), boolean=True)
_define("gt", 2, _COMPARED, "greater", _plain(operator.gt), boolean=True)
_define("ge", 2, _COMPARED, "greater or equal", _plain(operator.ge), boolean=True)
_define("is_nan", 1, FLOATS, "not a number", _is_nan, boolean=True)

_define("select", 3, EVERYTHING, "b where the bool a holds, else c", like=2)
_define("convert", 1, EVERYTHING, "to the dtype `attr`", targets=frozenset(EVERYTHING))
_define("bitcast", 1, EVERYTHING, "same bits as `attr`", targets=frozenset(EVERYTHING) - {BOOL})

UNARY_FUNCTIONS = (
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logistic"),
    *("sin", "cos", "tan", "asin", "acos", "atan"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    *("cbrt", "rsqrt", "erf", "erfc", "erf_inv", "lgamma", "digamma"),
    # For arguments beyond the range that the definitions of sin, cos and tan cover themselves.
    *("sin_large", "cos_large", "tan_large"),
)
BINARY_FUNCTIONS = ("pow", "atan2", "hypot")
for _name in UNARY_FUNCTIONS:
    _define(_name, 1, FLOATS, f"{_name}(a)", elementary=True)
for _name in BINARY_FUNCTIONS:
    _define(_name, 2, FLOATS, f"{_name}(a, b)", elementary=True)

RAW_ON_HALVES = frozenset({"select", "convert", "bitcast"})
"""Operations that take float16 and bfloat16 as they are."""


def check_types(name: str, args: tuple[Any, ...], attr: Any) -> DType:
    """The result dtype of an operation, after checking its operands.

    Args:
        name: operation in the table.
        args: operands, anything with a `dtype`.
        attr: target dtype of `convert` and `bitcast`.

    Returns:
        The dtype of the result.

    Raises:
        LoopIRError: for an unknown operation or operands it does not take.
    """
    spec = TABLE.get(name)
    found = ", ".join(a.dtype.name for a in args)
    if spec is None:
        raise LoopIRError(f"unknown operation {name!r} on ({found})")
    if len(args) != spec.arity:
        raise LoopIRError(f"{name} takes {spec.arity} operands, got {len(args)}: ({found})")
    dtype = args[-1].dtype
    result = spec.results.get(dtype)
    leading = spec.arity - spec.like
    if (
        result is None
        or any(a.dtype is not dtype for a in args[leading:])
        or any(a.dtype is not BOOL for a in args[:leading])
    ):
        raise LoopIRError(f"{name} does not take operands of type ({found})")
    if spec.targets is None:
        return result
    if attr not in spec.targets or (
        name == "bitcast" and (WIDTH[attr] != WIDTH[dtype] or dtype is BOOL)
    ):
        raise LoopIRError(f"{name} of {dtype.name} to {attr!r} is not possible")
    return attr
