"""Operations of the loop IR as instructions of WebAssembly.

A number of up to 32 bits is an i32, with the sign of its type beyond its width: an int8 from -128
to 127, a uint8, a float16's bits and a bool from 0 on. int64 and uint64 are i64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from covector.extend.loopir import OPERATIONS, LoopIRError, Value, short_name

DType = np.dtype[Any]

_LOADS = {
    "bool": "i32.load8_u", "i8": "i32.load8_s", "u8": "i32.load8_u", "i16": "i32.load16_s",
    "u16": "i32.load16_u", "f16": "i32.load16_u", "bf16": "i32.load16_u", "i32": "i32.load",
    "u32": "i32.load", "i64": "i64.load", "u64": "i64.load", "f32": "f32.load", "f64": "f64.load",
}  # fmt: skip


class Target(Protocol):
    """Where makers write, and what they ask for."""

    def push(self, value: Value) -> None:
        """Leaves a value on the stack."""

    def write(self, name: str, *immediates: Any) -> None:
        """Adds an instruction."""

    def temporary(self, type_: str) -> int:
        """A local variable that nothing else uses until the operation is complete."""

    def need(self, helper: str, dtype: str) -> str:
        """The name of a helper or of an elementary function, which becomes part of the module."""
        ...


def value_type(dtype: DType) -> str:
    """The type of WebAssembly that holds a value."""
    name = short_name(dtype)
    return name if name in ("f32", "f64") else "i64" if dtype.itemsize == 8 else "i32"


def load_of(dtype: DType) -> str:
    """The instruction that loads an element. A bool in memory may be any byte but zero."""
    return _LOADS[short_name(dtype)]


def store_of(dtype: DType) -> str:
    """The instruction that stores an element."""
    return {1: "i32.store8", 2: "i32.store16"}.get(dtype.itemsize, f"{value_type(dtype)}.store")


def literal(number: Any, dtype: DType) -> tuple[str, Any]:
    """The instruction that leaves a constant on the stack.

    Args:
        number: as the loop IR has it.
        dtype: not complex.
    """
    name = short_name(dtype)
    if name in ("f16", "bf16"):
        return ("i32.const", int(np.array(number, dtype).view(np.uint16)))
    return (f"{value_type(dtype)}.const", int(number) if name[0] != "f" else float(number))


def is_float(dtype: DType) -> bool:
    """Whether a dtype is one that WebAssembly computes with as a floating-point number."""
    return short_name(dtype) in ("f32", "f64")


def operation(value: Value, to: Target) -> None:
    """Writes an operation of the table: its result is on the stack.

    Args:
        value: the operation.
        to: where to write.

    Raises:
        LoopIRError: for an operation that this backend does not know.
    """
    dtype = value.args[-1].dtype
    maker = MAKERS.get(value.op)
    if maker is not None:
        maker(value, dtype, to)
    elif value.op in OPERATIONS and OPERATIONS[value.op].elementary:
        _call(to.need(value.op, short_name(dtype)), value, to)
    else:
        raise LoopIRError(f"the wasm backend has no operation {value.op!r}")


Maker = Callable[[Value, DType, Target], None]


def _push_all(value: Value, to: Target) -> None:
    for arg in value.args:
        to.push(arg)


def _call(name: str, value: Value, to: Target) -> None:
    _push_all(value, to)
    to.write("call", name)


def _signed(dtype: DType) -> str:
    return "s" if dtype.kind == "i" else "u"


def _width(dtype: DType) -> int:
    return 8 * dtype.itemsize


def _narrow(dtype: DType, to: Target) -> None:
    """Brings an i32 to the range of a narrow type, modulo its number of values."""
    if dtype.itemsize > 2 or dtype == np.bool_:
        return
    if dtype.kind == "i":
        to.write(f"i32.extend{_width(dtype)}_s")
    else:
        to.write("i32.const", (1 << _width(dtype)) - 1)
        to.write("i32.and")


def _unsigned_bits(dtype: DType, to: Target) -> None:
    """Takes the sign of a narrow type away from the bits beyond its width."""
    if dtype.itemsize <= 2 and dtype.kind == "i":
        to.write("i32.const", (1 << _width(dtype)) - 1)
        to.write("i32.and")


def _kept(value: Value, type_: str, to: Target) -> int:
    """Leaves a value on the stack and in a local variable."""
    local = to.temporary(type_)
    to.push(value)
    to.write("local.tee", local)
    return local


# --- arithmetic -----------------------------------------------------------------------------------


def _plain(name: str, narrows: bool = False, signed: bool = False) -> Maker:
    """One instruction, the same for all types."""

    def make(value: Value, dtype: DType, to: Target) -> None:
        _push_all(value, to)
        sign = f"_{_signed(dtype)}" if signed and not is_float(dtype) else ""
        to.write(f"{value_type(dtype)}.{name}{sign}")
        if narrows and not is_float(dtype):
            _narrow(dtype, to)

    return make


def _negated(value: Value, dtype: DType, to: Target) -> None:
    if is_float(dtype):
        to.push(value.args[0])
        to.write(f"{value_type(dtype)}.neg")
        return
    to.write(f"{value_type(dtype)}.const", 0)
    to.push(value.args[0])
    to.write(f"{value_type(dtype)}.sub")
    _narrow(dtype, to)


def _absolute(value: Value, dtype: DType, to: Target) -> None:
    type_ = value_type(dtype)
    if is_float(dtype) or dtype.kind == "u":
        to.push(value.args[0])
        if is_float(dtype):
            to.write(f"{type_}.abs")
        return
    to.write(f"{type_}.const", 0)
    x = _kept(value.args[0], type_, to)
    to.write(f"{type_}.sub")
    to.write("local.get", x)
    to.write("local.get", x)
    to.write(f"{type_}.const", 0)
    to.write(f"{type_}.lt_s")
    to.write("select")
    _narrow(dtype, to)


def _extreme(name: str, comparison: str) -> Maker:
    def make(value: Value, dtype: DType, to: Target) -> None:
        type_ = value_type(dtype)
        if is_float(dtype):  # NaN if either is
            _push_all(value, to)
            to.write(f"{type_}.{name}")
            return
        x = _kept(value.args[0], type_, to)
        y = _kept(value.args[1], type_, to)
        to.write("local.get", x)
        to.write("local.get", y)
        to.write(f"{type_}.{comparison}_{_signed(dtype)}")
        to.write("select")

    return make


def _division(name: str) -> Maker:
    """Of integers, by zero: -1 and the dividend. What would trap is branched around."""

    def make(value: Value, dtype: DType, to: Target) -> None:
        type_, divisor = value_type(dtype), value.args[1]
        if is_float(dtype):
            if name == "div":
                _push_all(value, to)
                to.write(f"{type_}.div")
            else:
                _call(to.need("fmod", short_name(dtype)), value, to)
            return
        if divisor.op == "const" and divisor.attr not in (0, -1):
            _push_all(value, to)
            to.write(f"{type_}.{name}_{_signed(dtype)}")
            return
        _guarded(name, value, dtype, to)

    return make


def _guarded(name: str, value: Value, dtype: DType, to: Target) -> None:
    type_ = value_type(dtype)
    x = to.temporary(type_)
    to.push(value.args[0])
    to.write("local.set", x)
    y = _kept(value.args[1], type_, to)
    to.write(f"{type_}.eqz")
    to.write("if", type_)
    to.write(*((f"{type_}.const", -1) if name == "div" else ("local.get", x)))
    to.write("else")
    negates = name == "div" and dtype.kind == "i"
    if negates:
        to.write("local.get", y)
        to.write(f"{type_}.const", -1)
        to.write(f"{type_}.eq")
        to.write("if", type_)
        to.write(f"{type_}.const", 0)
        to.write("local.get", x)
        to.write(f"{type_}.sub")
        to.write("else")
    to.write("local.get", x)
    to.write("local.get", y)
    to.write(f"{type_}.{name}_{_signed(dtype)}")
    if negates:
        to.write("end")
    to.write("end")
    _narrow(dtype, to)


def _fused(value: Value, dtype: DType, to: Target) -> None:
    """There is no instruction that rounds once; where that must be, integers compute it."""
    if value.attr == "exact":
        _call(to.need("fma", short_name(dtype)), value, to)
        return
    type_ = value_type(dtype)
    x, y, z = value.args
    to.push(x)
    to.push(y)
    to.write(f"{type_}.mul")
    to.push(z)
    to.write(f"{type_}.add")


def _product_error(value: Value, dtype: DType, to: Target) -> None:
    if short_name(dtype) == "f64":
        _call(to.need("mul_error", "f64"), value, to)
        return
    for arg, then in zip(value.args, ("", "f64.mul", "f64.sub"), strict=True):
        to.push(arg)
        to.write("f64.promote_f32")  # which holds the product and the difference exactly
        if then:
            to.write(then)
    to.write("f32.demote_f64")


SCALES = {
    # magic, least, added to the exponent if less, if not, mantissa, factor if less
    "f32": (12582912.0, -124.0, 64 + 127, 126, 23, 2.0**-64),
    "f64": (6755399441055744.0, -1020.0, 128 + 1023, 1022, 52, 2.0**-128),
}


def _scaled(value: Value, dtype: DType, to: Target) -> None:
    """A first power of two that leaves the product exact, and one more factor."""
    type_ = short_name(dtype)
    bits = "i32" if type_ == "f32" else "i64"
    magic, least, down, up, mantissa, factor = SCALES[type_]
    small = to.temporary("i32")
    to.push(value.args[0])
    y = _kept(value.args[1], type_, to)
    to.write(f"{bits}.reinterpret_{type_}")
    to.write(f"{bits}.const", down)
    to.write(f"{bits}.const", up)
    to.write("local.get", y)
    to.write(f"{type_}.const", magic)
    to.write(f"{type_}.sub")
    to.write(f"{type_}.const", least)
    to.write(f"{type_}.lt")
    to.write("local.tee", small)
    to.write("select")
    to.write(f"{bits}.add")
    to.write(f"{bits}.const", mantissa)
    to.write(f"{bits}.shl")
    to.write(f"{type_}.reinterpret_{bits}")
    to.write(f"{type_}.mul")
    to.write(f"{type_}.const", factor)
    to.write(f"{type_}.const", 2.0)
    to.write("local.get", small)
    to.write("select")
    to.write(f"{type_}.mul")


# --- bits -----------------------------------------------------------------------------------------


def _complement(value: Value, dtype: DType, to: Target) -> None:
    to.push(value.args[0])
    if dtype == np.bool_:
        to.write("i32.eqz")
        return
    to.write(f"{value_type(dtype)}.const", -1)
    to.write(f"{value_type(dtype)}.xor")
    if dtype.kind == "u":
        _narrow(dtype, to)


def _shift(name: str) -> Maker:
    """Shifts by the width or more shift everything out."""

    def make(value: Value, dtype: DType, to: Target) -> None:
        type_, width, amount = value_type(dtype), _width(dtype), value.args[1]
        to.push(value.args[0])
        if name == "shr_u":
            _unsigned_bits(dtype, to)
        elif name == "shr_s" and dtype.kind == "u" and width < 32:
            to.write(f"i32.extend{width}_s")
        if amount.op == "const" and 0 <= amount.attr < width:
            to.write(f"{type_}.const", amount.attr)
            to.write(f"{type_}.{name}")
        else:
            _shifted_by(name, amount, type_, width, to)
        if name != "shr_u" or dtype.kind == "i":
            _narrow(dtype, to)

    return make


def _shifted_by(name: str, amount: Value, type_: str, width: int, to: Target) -> None:
    y = _kept(amount, type_, to)
    if name == "shr_s":  # the sign is left
        to.write(f"{type_}.const", width - 1)
        _is_below(y, type_, width, to)
        to.write("select")
        to.write(f"{type_}.shr_s")
        return
    to.write(f"{type_}.{name}")
    to.write(f"{type_}.const", 0)
    _is_below(y, type_, width, to)
    to.write("select")


def _is_below(local: int, type_: str, bound: int, to: Target) -> None:
    to.write("local.get", local)
    to.write(f"{type_}.const", bound)
    to.write(f"{type_}.lt_u")


def _count(name: str) -> Maker:
    def make(value: Value, dtype: DType, to: Target) -> None:
        type_, width = value_type(dtype), _width(dtype)
        to.push(value.args[0])
        _unsigned_bits(dtype, to)
        if width < 32 and name == "ctz":
            to.write("i32.const", 1 << width)
            to.write("i32.or")
        to.write(f"{type_}.{name}")
        if width < 32 and name == "clz":
            to.write("i32.const", 32 - width)
            to.write("i32.sub")

    return make


def _high_product(value: Value, dtype: DType, to: Target) -> None:
    width, sign = _width(dtype), _signed(dtype)
    if width == 64:
        _call(to.need("mulhi", short_name(dtype)), value, to)
        return
    wide = "i64" if width == 32 else "i32"
    for arg in value.args:
        to.push(arg)
        if width == 32:
            to.write(f"i64.extend_i32_{sign}")
    to.write(f"{wide}.mul")
    to.write(f"{wide}.const", width)
    to.write(f"{wide}.shr_{sign}")
    if width == 32:
        to.write("i32.wrap_i64")


# --- comparisons and conversions ------------------------------------------------------------------


def _is_nan(value: Value, dtype: DType, to: Target) -> None:
    x = _kept(value.args[0], value_type(dtype), to)
    to.write("local.get", x)
    to.write(f"{value_type(dtype)}.ne")


def _selection(value: Value, dtype: DType, to: Target) -> None:
    test, yes, no = value.args
    to.push(yes)
    to.push(no)
    to.push(test)
    to.write("select")


def _bits(value: Value, dtype: DType, to: Target) -> None:
    source, target = value_type(dtype), value_type(value.attr)
    to.push(value.args[0])
    if source != target:
        to.write(f"{target}.reinterpret_{source}")
    _narrow(value.attr, to)


def _conversion(value: Value, dtype: DType, to: Target) -> None:
    source, target = short_name(dtype), short_name(value.attr)
    to.push(value.args[0])
    if source == target:
        return
    if source in ("f16", "bf16"):  # by way of float, which has all of their values
        to.write("call", to.need(f"from_{source}", "f32"))
        source, dtype = "f32", np.dtype(np.float32)
    if target in ("f16", "bf16"):
        if not is_float(dtype):
            wide = "f32" if dtype.itemsize <= 2 else "f64"
            to.write(f"{wide}.convert_{value_type(dtype)}_{_signed(dtype)}")
            source = wide
        to.write("call", to.need(f"to_{target}", source))
    elif target == "bool":
        zero = 0.0 if is_float(dtype) else 0
        to.write(f"{value_type(dtype)}.const", zero)
        to.write(f"{value_type(dtype)}.ne")
    elif source != target:
        _converted(dtype, value.attr, to)


def _converted(dtype: DType, target: DType, to: Target) -> None:
    """Between numbers that WebAssembly knows."""
    source_type, target_type = value_type(dtype), value_type(target)
    if is_float(dtype) and is_float(target):
        to.write("f64.promote_f32" if target_type == "f64" else "f32.demote_f64")
    elif is_float(dtype):
        to.write(f"{target_type}.trunc_sat_{source_type}_{_signed(target)}")
        _clamped(target, to)
    elif is_float(target):
        to.write(f"{target_type}.convert_{source_type}_{_signed(dtype)}")
    elif source_type != target_type:
        wraps = target_type == "i32"
        to.write("i32.wrap_i64" if wraps else f"i64.extend_i32_{_signed(dtype)}")
        _narrow(target, to)
    elif target.itemsize < dtype.itemsize or target.kind != dtype.kind:
        _narrow(target, to)


def _clamped(target: DType, to: Target) -> None:
    """The nearest number of a narrow type."""
    if target.itemsize > 2:
        return
    limits = np.iinfo(target)
    ends = [(int(limits.max), "lt")] + ([(int(limits.min), "gt")] if target.kind == "i" else [])
    for end, comparison in ends:
        x = to.temporary("i32")
        to.write("local.tee", x)
        to.write("i32.const", end)
        to.write("local.get", x)
        to.write("i32.const", end)
        to.write(f"i32.{comparison}_{_signed(target)}")
        to.write("select")


MAKERS: dict[str, Maker] = {
    "add": _plain("add", narrows=True),
    "sub": _plain("sub", narrows=True),
    "mul": _plain("mul", narrows=True),
    "div": _division("div"),
    "rem": _division("rem"),
    "index_div": _plain("div_u"),
    "index_rem": _plain("rem_u"),
    "neg": _negated,
    "abs": _absolute,
    "min": _extreme("min", "lt"),
    "max": _extreme("max", "gt"),
    "fma": _fused,
    "mul_error": _product_error,
    "scale": _scaled,
    "sqrt": _plain("sqrt"),
    "floor": _plain("floor"),
    "ceil": _plain("ceil"),
    "trunc": _plain("trunc"),
    "round_even": _plain("nearest"),
    "copysign": _plain("copysign"),
    "and": _plain("and"),
    "or": _plain("or"),
    "xor": _plain("xor"),
    "not": _complement,
    "shl": _shift("shl"),
    "shr_logical": _shift("shr_u"),
    "shr_arithmetic": _shift("shr_s"),
    "popcount": _count("popcnt"),
    "clz": _count("clz"),
    "ctz": _count("ctz"),
    "mulhi": _high_product,
    "eq": _plain("eq"),
    "ne": _plain("ne"),
    "lt": _plain("lt", signed=True),
    "le": _plain("le", signed=True),
    "gt": _plain("gt", signed=True),
    "ge": _plain("ge", signed=True),
    "is_nan": _is_nan,
    "select": _selection,
    "bitcast": _bits,
    "convert": _conversion,
}
"""What writes each operation that is not an elementary function."""
