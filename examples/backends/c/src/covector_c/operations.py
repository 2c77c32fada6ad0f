"""Operations of the loop IR as C expressions, and the helper functions that some of them need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from covector.extend.loopir import OPERATIONS, LoopIRError, Value, short_name
from covector_c.helpers import HELPERS

DType = np.dtype[Any]


class Text(NamedTuple):
    """An expression of C.

    Attributes:
        code: its text.
        rank: how tightly it binds.
    """

    code: str
    rank: int


ATOM, PREFIX, PRODUCT, SUM, LOOSE = 5, 4, 3, 2, 1

_TYPES = {"bool": "bool", "f32": "float", "f64": "double", "f16": "uint16_t", "bf16": "uint16_t"}


def type_of(dtype: DType) -> str:
    """The C type of a value."""
    name = short_name(dtype)
    known = _TYPES.get(name)
    return known or f"{'u' if name[0] == 'u' else ''}int{8 * dtype.itemsize}_t"


def memory_type(dtype: DType) -> str:
    """The C type of an element in memory: any byte but zero is true."""
    return "uint8_t" if dtype == np.bool_ else type_of(dtype)


def is_float(dtype: DType) -> bool:
    """Whether a dtype is one that C computes with as a floating-point number."""
    return short_name(dtype) in ("f32", "f64")


def literal(number: Any, dtype: DType) -> Text:
    """A constant of a dtype.

    Args:
        number: as the loop IR has it.
        dtype: not complex.
    """
    name = short_name(dtype)
    if name == "bool":
        return Text("true" if number else "false", ATOM)
    if name in ("f16", "bf16"):
        bits = np.array(number, dtype).view(np.uint16)
        return Text(f"(uint16_t)0x{int(bits):04x}", PREFIX)
    if is_float(dtype):
        return _float_literal(float(number), name)
    width, unsigned = 8 * dtype.itemsize, name[0] == "u"
    if not unsigned and number == -(1 << (width - 1)):
        return Text(f"INT{width}_MIN", ATOM)
    text = str(number)
    if width == 64:
        text = f"UINT64_C({text})" if unsigned else text
        if not unsigned and abs(number) >= 1 << 31:
            text = f"INT64_C({text})"
    elif unsigned and width == 32:
        text += "u"
    return Text(text, PREFIX if number < 0 else ATOM)


def _float_literal(number: float, name: str) -> Text:
    if number != number:
        return Text("NAN", ATOM)
    if number in (np.inf, -np.inf):
        return Text("INFINITY", ATOM) if number > 0 else Text("-INFINITY", PREFIX)
    text = str(np.float32(number)) if name == "f32" else repr(number)
    if not set(text) & set(".e"):
        text += ".0"
    suffix = "f" if name == "f32" else ""
    return Text(text + suffix, PREFIX if text[0] == "-" else ATOM)


def wrapped(text: Text, rank: int) -> str:
    """An operand of an operator that binds as tightly as `rank` says."""
    return text.code if text.rank >= rank else f"({text.code})"


Need = Callable[[str, str], str]
"""`need(helper, type) -> name` of a helper function, which the file then has."""


def expression(value: Value, operands: Sequence[Text], need: Need) -> Text:
    """An operation of the table as C.

    Args:
        value: the operation.
        operands: its operands.
        need: asks for helper functions.

    Returns:
        The expression, of the type of the result.

    Raises:
        LoopIRError: for an operation that this backend does not know.
    """
    dtype = value.args[-1].dtype
    maker = _MAKERS.get(value.op)
    if maker is not None:
        return maker(value, dtype, operands, need)
    if value.op in OPERATIONS and (value.op in HELPERS or OPERATIONS[value.op].elementary):
        return _called(need(value.op, short_name(dtype)), operands)
    raise LoopIRError(f"the C backend has no operation {value.op!r}")


def _called(name: str, operands: Sequence[Text]) -> Text:
    return Text(f"{name}({', '.join([x.code for x in operands])})", ATOM)


def _infix(symbol: str, rank: int, left: Text, right: Text) -> Text:
    return Text(f"{wrapped(left, rank)} {symbol} {wrapped(right, rank + 1)}", rank)


def _cast(target: str, x: Text) -> Text:
    return Text(f"({target}){wrapped(x, PREFIX)}", PREFIX)


def _narrowed(result: Text, dtype: DType) -> Text:
    """C computes in int what is narrower."""
    is_narrow = dtype.kind in "iu" and dtype.itemsize < 4
    return _cast(type_of(dtype), result) if is_narrow else result


def _arithmetic(symbol: str, rank: int) -> Any:
    def make(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
        return _narrowed(_infix(symbol, rank, xs[0], xs[1]), dtype)

    return make


def _comparison(symbol: str) -> Any:
    def make(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
        return _infix(symbol, LOOSE, Text(wrapped(xs[0], SUM), ATOM), xs[1])

    return make


def _bitwise(symbol: str) -> Any:
    def make(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
        code = f"{wrapped(xs[0], PREFIX)} {symbol} {wrapped(xs[1], PREFIX)}"
        return _narrowed(Text(code, LOOSE), dtype)

    return make


def _complement(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
    sign = "!" if dtype == np.bool_ else "~"
    return _narrowed(Text(sign + wrapped(xs[0], ATOM), PREFIX), dtype)


def _negated(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
    return _narrowed(Text(f"-{wrapped(xs[0], ATOM)}", PREFIX), dtype)


def _division(symbol: str, function: str) -> Any:
    def make(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
        if is_float(dtype):
            if symbol == "/":
                return _infix("/", PRODUCT, xs[0], xs[1])
            return _called(_of_libm("fmod", dtype), xs)
        divisor = value.args[1]
        if divisor.op == "const" and divisor.attr not in (0, -1):
            return _narrowed(_infix(symbol, PRODUCT, xs[0], xs[1]), dtype)
        return _called(need(function, short_name(dtype)), xs)

    return make


def _of_libm(name: str, dtype: DType) -> str:
    return f"{name}f" if short_name(dtype) == "f32" else name


def _libm(name: str) -> Any:
    def make(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
        return _called(_of_libm(name, dtype), xs)

    return make


def _absolute(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
    if is_float(dtype):
        return _called(_of_libm("fabs", dtype), xs)
    return xs[0] if dtype.kind == "u" else _called(need("abs", short_name(dtype)), xs)


def _extreme(name: str) -> Any:
    def make(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
        helper = f"{name}_float" if is_float(dtype) else name
        return _called(need(helper, short_name(dtype)), xs)

    return make


def _fused(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
    if value.attr == "exact":
        return _called(_of_libm("fma", dtype), xs)
    return _called(need("fma", short_name(dtype)), xs)


def _product_error(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
    negated = Text(f"-{wrapped(xs[2], ATOM)}", PREFIX)
    return _called(_of_libm("fma", dtype), (xs[0], xs[1], negated))


def _selection(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
    test, yes, no = [wrapped(x, SUM) for x in xs]
    return Text(f"{test} ? {yes} : {no}", 0)


def _is_nan(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
    return Text(f"isnan({xs[0].code})", ATOM)


def _shift(symbol: str, helper: str) -> Any:
    """By a number that is known and not too large, an operator of C is enough."""
    bits_alone = helper != "shr_arithmetic"

    def make(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
        amount, signed = value.args[1], dtype.kind == "i"
        if amount.op != "const" or not 0 <= amount.attr < 8 * dtype.itemsize:
            return _called(need(helper, short_name(dtype)), xs)
        type_ = type_of(dtype)
        computed = type_ if signed != bits_alone else f"u{type_}" if signed else type_[1:]
        x = xs[0] if computed == type_ else _cast(computed, xs[0])
        shifted = Text(f"{wrapped(x, PREFIX)} {symbol} {amount.attr}", LOOSE)
        return shifted if computed == type_ and dtype.itemsize > 2 else _cast(type_, shifted)

    return make


def _high_product(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
    helper = "mulhi" if dtype.itemsize < 8 else f"mulhi_{short_name(dtype)}"
    return _called(need(helper, short_name(dtype)), xs)


def _bits(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
    source, target = type_of(dtype), type_of(value.attr)
    if source == target:
        return xs[0]
    if not is_float(dtype) and not is_float(value.attr):
        return _cast(target, xs[0])
    return _called(need(f"bits:{short_name(value.attr)}", short_name(dtype)), xs)


def _conversion(value: Value, dtype: DType, xs: Sequence[Text], need: Need) -> Text:
    source, target = short_name(dtype), short_name(value.attr)
    (x,) = xs
    if source == target:
        return x
    if source in ("f16", "bf16"):  # by way of float, which has all of their values
        wide = _called(need(f"to_f32:{source}", source), xs)
        return wide if target == "f32" else _converted("f32", target, value.attr, wide, need)
    return _converted(source, target, value.attr, x, need)


def _converted(source: str, target: str, to: DType, x: Text, need: Need) -> Text:
    if target in ("f16", "bf16"):
        if source not in ("f32", "f64"):
            small = source in ("bool", "i8", "u8", "i16", "u16")
            source, x = ("f32", _cast("float", x)) if small else ("f64", _cast("double", x))
        return _called(need(f"from_{source}:{target}", source), [x])
    if target == "bool":
        zero = "0" if source not in ("f32", "f64") else "0.0f" if source == "f32" else "0.0"
        return Text(f"{wrapped(x, SUM)} != {zero}", LOOSE)
    if source in ("f32", "f64") and target not in ("f32", "f64"):
        return _called(need(f"saturate:{target}", source), [x])
    return _cast(type_of(to), x)


_MAKERS: dict[str, Callable[[Value, DType, Sequence[Text], Need], Text]] = {
    "add": _arithmetic("+", SUM),
    "sub": _arithmetic("-", SUM),
    "mul": _arithmetic("*", PRODUCT),
    "div": _division("/", "div"),
    "rem": _division("%", "rem"),
    "index_div": _arithmetic("/", PRODUCT),
    "index_rem": _arithmetic("%", PRODUCT),
    "neg": _negated,
    "abs": _absolute,
    "min": _extreme("min"),
    "max": _extreme("max"),
    "fma": _fused,
    "mul_error": _product_error,
    "sqrt": _libm("sqrt"),
    "floor": _libm("floor"),
    "ceil": _libm("ceil"),
    "trunc": _libm("trunc"),
    "round_even": _libm("rint"),
    "copysign": _libm("copysign"),
    "and": _bitwise("&"),
    "or": _bitwise("|"),
    "xor": _bitwise("^"),
    "not": _complement,
    "shl": _shift("<<", "shl"),
    "shr_logical": _shift(">>", "shr_logical"),
    "shr_arithmetic": _shift(">>", "shr_arithmetic"),
    "mulhi": _high_product,
    "eq": _comparison("=="),
    "ne": _comparison("!="),
    "lt": _comparison("<"),
    "le": _comparison("<="),
    "gt": _comparison(">"),
    "ge": _comparison(">="),
    "is_nan": _is_nan,
    "select": _selection,
    "bitcast": _bits,
    "convert": _conversion,
}
