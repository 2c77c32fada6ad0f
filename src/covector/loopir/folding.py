"""Folding: exact simplifications of operations as the builder makes them.

Integers fold freely (their arithmetic is modular); floats only where IEEE arithmetic gives the same
bits. Offsets are brought to the form `(varying + ...) + constant`, so that neighbouring elements
share an address; sums of other integers, as in a hash, keep their order, since a sum that is needed
with and without a constant would be made twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from covector.loopir.ir import BOOL, INDEX, DType, Value
from covector.loopir.powers import expand_power
from covector.loopir.scalars import (
    F32,
    F64,
    HALVES,
    RANGE,
    TABLE,
    WIDTH,
    OpSpec,
    bits_of,
    canonical,
    round_to,
)

if TYPE_CHECKING:
    from covector.loopir.expressions import Expressions

_ANYTHING = RANGE[INDEX]


def fold(
    b: Expressions, spec: OpSpec, args: tuple[Value, ...], attr: Any, result: DType
) -> Value | None:
    """A simpler value equal to an operation.

    Args:
        b: builder to make it with.
        spec: the operation.
        args: operands of checked types, a constant last if the operation commutes.
        attr: its attribute.
        result: its dtype.

    Returns:
        The value, or `None` if the operation is needed.
    """
    last = args[-1]
    if last.op == "const" and (len(args) == 1 or args[0].op == "const"):
        number = _evaluate(spec, args, attr, result)
        if number is not None:
            return b.const(number, result)
    rule = _RULES.get(spec.name)
    return None if rule is None else rule(b, args, attr, result)


def _evaluate(spec: OpSpec, args: tuple[Value, ...], attr: Any, result: DType) -> Any:
    numbers = [a.attr for a in args]
    dtype = args[-1].dtype
    if spec.name == "convert":
        return convert_number(numbers[0], dtype, result)
    if spec.name == "bitcast":
        return None if dtype in HALVES or result in HALVES else _bitcast(numbers[0], dtype, result)
    if spec.evaluate is None or any(a.op != "const" for a in args):
        return None
    return spec.evaluate(dtype, *numbers)


def convert_number(number: Any, source: DType, target: DType) -> Any:
    """The meaning of `convert` on constants.

    Args:
        number: canonical constant of the source dtype.
        source: dtype converted from.
        target: dtype converted to.

    Returns:
        The canonical constant of the target dtype.
    """
    if target is BOOL:
        return number != 0
    limits = RANGE.get(target)
    if limits is None:
        return (
            _int_to_float(number, target) if isinstance(number, int) else round_to(number, target)
        )
    if isinstance(number, float):
        if number != number:
            return 0
        if math.isinf(number):
            return limits[number > 0]
        return min(max(int(number), limits[0]), limits[1])
    return canonical(number, target)


def _int_to_float(number: int, target: DType) -> float:
    # Through float64 a large integer would round twice on its way to a narrower type.
    exact = float(number)
    if target is F64 or int(exact) == number:
        return round_to(exact, target)
    below = exact if int(exact) < number else math.nextafter(exact, -math.inf)
    odd = below if int(math.frexp(below)[0] * 2**53) & 1 else math.nextafter(below, math.inf)
    return round_to(odd, target)


def _bitcast(number: Any, source: DType, target: DType) -> Any:
    bits = bits_of(number, source)
    if target in RANGE:
        return canonical(bits, target)
    import numpy as np

    array = np.array(bits, np.dtype(f"uint{WIDTH[target]}")).view(target)
    value = float(array)
    # A Python float does not keep the payload of a signalling NaN.
    return None if value != value else value


# Integers and bools


def _is_const(value: Value, number: Any) -> bool:
    return value.op == "const" and value.attr == number


def _add(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    x, y = args
    if dtype not in RANGE:
        negative_zero = y.op == "const" and y.attr == 0.0 and math.copysign(1.0, y.attr) < 0
        return x if negative_zero else None
    if y.op == "const":
        if y.attr == 0:
            return x
        if x.op == "add" and x.args[1].op == "const":
            return b.op("add", x.args[0], b.const(x.args[1].attr + y.attr, dtype))
        return None
    if dtype is not INDEX:
        return None
    for first, second in ((x, y), (y, x)):
        if first.op == "add" and first.args[1].op == "const":
            return b.op("add", b.op("add", first.args[0], second), first.args[1])
    return _rejoined(b, x, y) or _rejoined(b, y, x)


def _sub(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    x, y = args
    if dtype not in RANGE:
        positive_zero = y.op == "const" and y.attr == 0.0 and math.copysign(1.0, y.attr) > 0
        return x if positive_zero else None
    if x is y:
        return b.const(0, dtype)
    if y.op == "const":
        return b.op("add", x, b.const(-y.attr, dtype))
    if dtype is not INDEX:
        return None
    if x.op == "add" and x.args[1].op == "const":
        return b.op("add", b.op("sub", x.args[0], y), x.args[1])
    if y.op == "add" and y.args[1].op == "const":
        return b.op("add", b.op("sub", x, y.args[0]), b.const(-y.args[1].attr, dtype))
    return None


def _mul(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    x, y = args
    if y.op != "const":
        return None
    if y.attr == 1:
        return x
    if y.attr == -1:
        return b.op("neg", x)
    if dtype not in RANGE:
        return None
    if y.attr == 0:
        return y
    if x.op in ("mul", "add") and x.args[1].op == "const":
        inner = x.args[1].attr
        if x.op == "add" and dtype is not INDEX:
            return None
        if x.op == "mul":
            return b.op("mul", x.args[0], b.const(inner * y.attr, dtype))
        scaled = b.op("mul", x.args[0], y)
        return b.op("add", scaled, b.const(inner * y.attr, dtype))
    return None


def _div(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    x, y = args
    if y.op != "const":
        return None
    if y.attr == 1:
        return x
    if dtype in RANGE or y.attr == 0 or not math.isfinite(y.attr):
        return None
    # Dividing by a power of two is exact in the same cases as multiplying by its inverse.
    inverse = 1.0 / y.attr
    tiny, huge = (2.0**-126, 2.0**126) if dtype is F32 else (2.0**-1022, 2.0**1022)
    if abs(math.frexp(y.attr)[0]) == 0.5 and tiny <= abs(inverse) <= huge:
        return b.op("mul", x, b.const(inverse, dtype))
    return None


def _pow(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    x, y = args
    return expand_power(b, x, y.attr) if y.op == "const" else None


def _rem(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    y = args[1]
    if dtype in RANGE and (_is_const(y, 1) or _is_const(y, -1)):
        return b.const(0, dtype)
    return None


def _neg(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    (x,) = args
    return x.args[0] if x.op == "neg" else None


def _abs(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    (x,) = args
    if x.op == "abs" or (dtype in RANGE and RANGE[dtype][0] == 0):
        return x
    return b.op("abs", x.args[0]) if x.op == "neg" else None


def _and(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    x, y = args
    if x is y or _is_all_ones(y, dtype):
        return x
    return y if _is_const(y, 0) else None


def _or(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    x, y = args
    if x is y or _is_const(y, 0):
        return x
    return y if _is_all_ones(y, dtype) else None


def _xor(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    x, y = args
    if x is y:
        return b.const(0, dtype)
    if _is_const(y, 0):
        return x
    return b.op("not", x) if _is_all_ones(y, dtype) else None


def _is_all_ones(value: Value, dtype: DType) -> bool:
    return value.op == "const" and value.attr == (True if dtype is BOOL else canonical(-1, dtype))


_INVERSE_COMPARISON = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}


def _not(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    (x,) = args
    if x.op == "not":
        return x.args[0]
    inverse = _INVERSE_COMPARISON.get(x.op)
    if inverse is None:
        return None
    # An unordered pair is neither less nor greater or equal.
    ordered = x.args[0].dtype in (F32, F64) and x.op not in ("eq", "ne")
    return None if ordered else b.op(inverse, *x.args)


def _shift(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    x, y = args
    if _is_const(x, 0) or _is_const(y, 0):
        return x
    return None


def _shift_out(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    y = args[1]
    if y.op == "const" and not 0 <= y.attr < WIDTH[dtype]:
        return b.const(0, dtype)
    return _shift(b, args, attr, dtype)


def _extreme(least: bool) -> Callable[..., Value | None]:
    def rule(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
        x, y = args
        if x is y:
            return x
        if dtype is not INDEX:
            return None
        (low_x, high_x), (low_y, high_y) = b.bounds(x), b.bounds(y)
        if high_x <= low_y:
            return x if least else y
        if high_y <= low_x:
            return y if least else x
        return None

    return rule


def _compare(name: str) -> Callable[..., Value | None]:
    def rule(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
        x, y = args
        if x.dtype in (F32, F64):
            return None
        if x is y:
            return b.const(name in ("eq", "le", "ge"), BOOL)
        if x.dtype is INDEX:
            known = _compare_ranges(name, b.bounds(x), b.bounds(y))
            return None if known is None else b.const(known, BOOL)
        if x.dtype is BOOL and y.op == "const" and name in ("eq", "ne"):
            return x if (name == "eq") == y.attr else b.op("not", x)
        return None

    return rule


def _compare_ranges(name: str, x: tuple[int, int], y: tuple[int, int]) -> bool | None:
    if name in ("gt", "ge"):
        return _compare_ranges("lt" if name == "gt" else "le", y, x)
    if name in ("eq", "ne"):
        return (name == "ne") if x[1] < y[0] or y[1] < x[0] else None
    above = x[1] < y[0] if name == "lt" else x[1] <= y[0]
    below = x[0] >= y[1] if name == "lt" else x[0] > y[1]
    return True if above else False if below else None


def _select(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    p, x, y = args
    if p.op == "const":
        return x if p.attr else y
    if x is y:
        return x
    if dtype is BOOL:
        if x.op == "const":
            return b.op("or", p, y) if x.attr else b.op("and", b.op("not", p), y)
        if y.op == "const":
            return b.op("or", b.op("not", p), x) if y.attr else b.op("and", p, x)
    return b.op("select", p.args[0], y, x) if p.op == "not" else None


def _convert(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    (x,) = args
    if x.dtype is dtype:
        return x
    if x.op == "convert":
        source = x.args[0].dtype
        # A round trip through a wider type of the same kind changes nothing.
        if source is dtype and _holds(x.dtype, source):
            return x.args[0]
    return None


def _holds(wide: DType, narrow: DType) -> bool:
    if narrow in RANGE and wide in RANGE:
        (low, high), (least, greatest) = RANGE[narrow], RANGE[wide]
        return least <= low and high <= greatest
    if narrow in HALVES:
        return wide in (F32, F64)
    return narrow is F32 and wide is F64


def _bitcast_rule(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    (x,) = args
    if x.dtype is dtype:
        return x
    return b.op("bitcast", x.args[0], attr=dtype) if x.op == "bitcast" else None


# Indices


def _index_div(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    x, y = args
    if y.op != "const":
        return None
    if y.attr == 1:
        return x
    if b.bounds(x)[0] >= 0 and b.bounds(x)[1] < y.attr:
        return b.index(0)
    quotient, rest = _split(b, x, y.attr)
    if quotient is not None and rest is not None and rest is not x and b.bounds(rest)[0] >= 0:
        return b.op("add", quotient, b.op("index_div", rest, y))
    if x.op == "index_div" and x.args[1].op == "const":
        return b.op("index_div", x.args[0], b.index(x.args[1].attr * y.attr))
    return None


def _index_rem(b: Expressions, args: tuple[Value, ...], attr: Any, dtype: DType) -> Value | None:
    x, y = args
    if y.op != "const":
        return None
    if y.attr == 1:
        return b.index(0)
    if _within(b, x, y.attr):
        return x
    quotient, rest = _split(b, x, y.attr)
    if quotient is not None and rest is not None and b.bounds(rest)[0] >= 0:
        return b.op("index_rem", rest, y)
    return None


def _rejoined(b: Expressions, whole: Value, part: Value) -> Value | None:
    """`(u + q // n) * n * m + (q % n) * m` as `u * n * m + q * m`; `u` may be missing or apart.

    So an array that is reshaped and read in its own order is read without divisions.
    """
    rest, m = _scaled(part)
    if rest.op != "index_rem" or rest.args[1].op != "const":
        return None
    q, n = rest.args[0], rest.args[1].attr
    return _with_whole(b, whole, q, n, m)


def _with_whole(b: Expressions, x: Value, q: Value, n: int, m: int) -> Value | None:
    """A sum with `q * m` in the place of its term `q // n * n * m`, if it has that one."""
    total, scale = _scaled(x)
    if scale == n * m and _is_quotient(total, q, n):
        return b.op("mul", q, b.index(m))
    if total.op != "add":
        return None
    for u, v in (total.args, total.args[::-1]):
        if scale == n * m and _is_quotient(v, q, n):
            return b.op("add", b.op("mul", u, b.index(scale)), b.op("mul", q, b.index(m)))
        found = _with_whole(b, v, q, n, m) if total is x else None
        if found is not None:
            return b.op("add", u, found)
    return None


def _scaled(x: Value) -> tuple[Value, int]:
    """A value as another one times a constant."""
    return (x.args[0], x.args[1].attr) if x.op == "mul" and x.args[1].op == "const" else (x, 1)


def _is_quotient(x: Value, q: Value, n: int) -> bool:
    """Whether `x` is `q // n`, perhaps made of a `q` that is itself a quotient."""
    if x.op != "index_div" or x.args[1].op != "const":
        return False
    dividend, divisor = x.args[0], x.args[1].attr
    if dividend is q:
        return divisor == n
    known = q.op == "index_div" and q.args[1].op == "const"
    return known and dividend is q.args[0] and divisor == n * q.args[1].attr


def _within(b: Expressions, value: Value, divisor: int) -> bool:
    low, high = b.bounds(value)
    return low >= 0 and high < divisor


def _split(b: Expressions, x: Value, divisor: int) -> tuple[Value | None, Value | None]:
    """`x` as `divisor * quotient + rest`, where the terms of the sum `x` show it."""
    exact = _quotient(b, x, divisor)
    if exact is not None:
        return exact, b.index(0)
    if x.op != "add":
        return None, None
    left, right = x.args
    if right.op == "const" and right.attr >= 0:
        quotient, rest = _split(b, left, divisor)
        if quotient is None or rest is None:
            return None, None
        more, least = divmod(right.attr, divisor)
        return b.op("add", quotient, b.index(more)), b.op("add", rest, b.index(least))
    for first, second in ((left, right), (right, left)):
        quotient = _quotient(b, first, divisor)
        if quotient is not None and b.bounds(first)[0] >= 0:
            more, rest = _split(b, second, divisor)
            if more is None or rest is None:
                return quotient, second
            return b.op("add", quotient, more), rest
    return None, None


def _quotient(b: Expressions, x: Value, divisor: int) -> Value | None:
    if x.op == "const":
        return b.index(x.attr // divisor) if x.attr % divisor == 0 else None
    if x.op == "mul" and x.args[1].op == "const" and x.args[1].attr % divisor == 0:
        return b.op("mul", x.args[0], b.index(x.args[1].attr // divisor))
    return None


def bounds(b: Expressions, value: Value) -> tuple[int, int]:
    """The range of an index, from those of its operands.

    Args:
        b: the builder, which keeps the ranges.
        value: an int64 value.

    Returns:
        The least and greatest number it can be, inclusive.
    """
    if value.op == "const":
        return value.attr, value.attr
    rule = _BOUNDS.get(value.op)
    if rule is None or value.dtype is not INDEX or value.args[-1].dtype is not INDEX:
        return _ANYTHING
    ends = rule(*(b.bounds(a) for a in value.args if a.dtype is INDEX))
    if ends is None or ends[0] < _ANYTHING[0] or ends[1] > _ANYTHING[1]:
        return _ANYTHING
    return ends


Range = tuple[int, int]


def _bounds_mul(x: Range, y: Range) -> Range:
    products = [i * j for i in x for j in y]
    return min(products), max(products)


def _bounds_div(x: Range, y: Range) -> Range | None:
    if x[0] < 0 or y[0] < 1:
        return None
    return x[0] // y[1], x[1] // y[0]


def _bounds_rem(x: Range, y: Range) -> Range | None:
    if x[0] < 0 or y[0] < 1:
        return None
    return 0, min(x[1], y[1] - 1)


def _bounds_floor_rem(x: Range, y: Range) -> Range | None:
    return (0, y[1] - 1) if y[0] >= 1 else None


def _bounds_add(x: Range, y: Range) -> Range:
    return x[0] + y[0], x[1] + y[1]


def _bounds_sub(x: Range, y: Range) -> Range:
    return x[0] - y[1], x[1] - y[0]


def _bounds_neg(x: Range) -> Range:
    return -x[1], -x[0]


def _bounds_min(x: Range, y: Range) -> Range:
    return min(x[0], y[0]), min(x[1], y[1])


def _bounds_max(x: Range, y: Range) -> Range:
    return max(x[0], y[0]), max(x[1], y[1])


def _bounds_either(x: Range, y: Range) -> Range:
    return min(x[0], y[0]), max(x[1], y[1])


_BOUNDS: dict[str, Callable[..., Range | None]] = {
    "add": _bounds_add,
    "sub": _bounds_sub,
    "neg": _bounds_neg,
    "mul": _bounds_mul,
    "min": _bounds_min,
    "max": _bounds_max,
    "select": _bounds_either,
    "index_div": _bounds_div,
    "index_rem": _bounds_floor_rem,
    "div": _bounds_div,
    "rem": _bounds_rem,
}

_RULES: dict[str, Callable[..., Value | None]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "rem": _rem,
    "pow": _pow,
    "neg": _neg,
    "abs": _abs,
    "and": _and,
    "or": _or,
    "xor": _xor,
    "not": _not,
    "shl": _shift_out,
    "shr_logical": _shift_out,
    "shr_arithmetic": _shift,
    "min": _extreme(least=True),
    "max": _extreme(least=False),
    "select": _select,
    "convert": _convert,
    "bitcast": _bitcast_rule,
    "index_div": _index_div,
    "index_rem": _index_rem,
    **{name: _compare(name) for name in _INVERSE_COMPARISON},
}

# What the builder looks up first: result dtype, whether the operands may change places, and whether
# the rules concern a constant last operand alone, which is so for floats.
BINARY: dict[tuple[str, DType], tuple[DType, bool, bool]] = {
    (spec.name, dtype): (result, spec.commutative, dtype in (F32, F64))
    for spec in TABLE.values()
    if spec.arity == 2 and spec.uniform
    for dtype, result in spec.results.items()
}
