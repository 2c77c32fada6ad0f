"""Operations of the loop IR on vectors of 128 bits.

The lanes of a bool are all ones or all zeros, as wide as the numbers that it goes with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from covector.extend.loopir import Value, short_name
from covector_wasm.operations import SCALES

_KINDS = {"f32": "f32x4", "f64": "f64x2", "i32": "i32x4", "u32": "i32x4", "i64": "i64x2",
          "u64": "i64x2"}  # fmt: skip
_BOOL = np.dtype(np.bool_)


class VectorTarget(Protocol):
    """Where makers write."""

    lanes: int

    def push(self, value: Value) -> None:
        """Leaves a vector on the stack."""

    def write(self, name: str, *immediates: Any) -> None:
        """Adds an instruction."""

    def splat(self, kind: str, number: Any) -> None:
        """Leaves a vector of equal numbers on the stack."""

    def kept(self, value: Value) -> int:
        """Leaves a vector on the stack and in a local variable."""
        ...


def kind_of(dtype: Any, lanes: int = 0) -> str:
    """The interpretation of vectors of a dtype, as instructions name it.

    Args:
        dtype: of the elements.
        lanes: how many, which tells how wide bools are.
    """
    if dtype == _BOOL:
        return "i32x4" if lanes == 4 else "i64x2"
    return _KINDS[short_name(dtype)]


_FLOATS = {
    "add": "add", "sub": "sub", "mul": "mul", "div": "div", "neg": "neg", "abs": "abs",
    "min": "min", "max": "max", "sqrt": "sqrt", "floor": "floor", "ceil": "ceil",
    "trunc": "trunc", "round_even": "nearest",
}  # fmt: skip
_INTEGERS = {"add": "add", "sub": "sub", "mul": "mul", "neg": "neg"}
_BITS = frozenset(("and", "or", "xor", "not"))
_SHIFTS = {"shl": "shl", "shr_logical": "shr_u", "shr_arithmetic": "shr_s"}
_COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))
_CONVERSIONS = {
    ("f32", "i32"): "i32x4.trunc_sat_f32x4_s", ("f32", "u32"): "i32x4.trunc_sat_f32x4_u",
    ("i32", "f32"): "f32x4.convert_i32x4_s", ("u32", "f32"): "f32x4.convert_i32x4_u",
}  # fmt: skip
_SPECIAL = frozenset(("fma", "scale", "copysign", "is_nan"))


def is_fast(value: Value) -> bool:
    """Whether an operation is done for all lanes at once."""
    if value.op == "select":
        return True
    if not value.args:
        return False
    dtype = value.args[-1].dtype
    name = short_name(dtype)
    if value.op == "bitcast":
        return name in _KINDS and short_name(value.attr) in _KINDS
    if value.op == "convert":
        return (name, short_name(value.attr)) in _CONVERSIONS or dtype == _BOOL
    if name in ("f32", "f64"):
        special = value.op in _SPECIAL and value.attr != "exact"
        return special or value.op in _FLOATS or value.op in _COMPARISONS
    if value.op in _BITS:
        return True
    if name not in _KINDS:
        return False
    if value.op in _SHIFTS:
        amount = value.args[1]
        return amount.op == "const" and 0 <= amount.attr < 8 * dtype.itemsize
    if value.op in _COMPARISONS:
        return name != "u64" or value.op in ("eq", "ne")
    return value.op in _INTEGERS


def operation(value: Value, to: VectorTarget) -> None:
    """Writes an operation for which `is_fast` holds."""
    maker = _MAKERS.get(value.op)
    if maker is not None:
        maker(value, to)
        return
    dtype = value.args[-1].dtype
    for arg in value.args:
        to.push(arg)
    if value.op in _BITS:
        to.write(f"v128.{value.op}")
        return
    name = (_FLOATS if dtype.kind == "f" else _INTEGERS).get(value.op, value.op)
    sign = ""
    if value.op in _COMPARISONS and value.op not in ("eq", "ne") and dtype.kind != "f":
        sign = f"_{'s' if dtype.kind == 'i' else 'u'}"
    to.write(f"{kind_of(dtype)}.{name}{sign}")


Maker = Callable[[Value, VectorTarget], None]


def _shift(value: Value, to: VectorTarget) -> None:
    to.push(value.args[0])
    to.write("i32.const", value.args[1].attr)
    to.write(f"{kind_of(value.dtype)}.{_SHIFTS[value.op]}")


def _fused(value: Value, to: VectorTarget) -> None:
    kind = kind_of(value.dtype)
    to.push(value.args[0])
    to.push(value.args[1])
    to.write(f"{kind}.mul")
    to.push(value.args[2])
    to.write(f"{kind}.add")


def _selection(value: Value, to: VectorTarget) -> None:
    test, yes, no = value.args
    to.push(yes)
    to.push(no)
    to.push(test)
    to.write("v128.bitselect")


def _is_nan(value: Value, to: VectorTarget) -> None:
    x = to.kept(value.args[0])
    to.write("local.get", x)
    to.write(f"{kind_of(value.args[0].dtype)}.ne")


def _copysign(value: Value, to: VectorTarget) -> None:
    sign = {"f32": ("i32x4", 0x7FFFFFFF), "f64": ("i64x2", (1 << 63) - 1)}
    to.push(value.args[0])
    to.push(value.args[1])
    to.splat(*sign[short_name(value.dtype)])
    to.write("v128.bitselect")


def _bits(value: Value, to: VectorTarget) -> None:
    to.push(value.args[0])


def _conversion(value: Value, to: VectorTarget) -> None:
    (x,) = value.args
    to.push(x)
    if x.dtype == value.attr:
        return
    if x.dtype == _BOOL:
        to.splat(kind_of(value.attr), 1)
        to.write("v128.and")
    else:
        to.write(_CONVERSIONS[short_name(x.dtype), short_name(value.attr)])


def _scaled(value: Value, to: VectorTarget) -> None:
    """As for scalars, see `operations`."""
    name = short_name(value.dtype)
    floats, bits = kind_of(value.dtype), "i32x4" if name == "f32" else "i64x2"
    magic, least, down, up, mantissa, factor = SCALES[name]
    to.push(value.args[0])
    y = to.kept(value.args[1])

    def is_small() -> None:
        to.write("local.get", y)
        to.splat(floats, magic)
        to.write(f"{floats}.sub")
        to.splat(floats, least)
        to.write(f"{floats}.lt")

    to.splat(bits, down)
    to.splat(bits, up)
    is_small()
    to.write("v128.bitselect")
    to.write(f"{bits}.add")
    to.write("i32.const", mantissa)
    to.write(f"{bits}.shl")
    to.write(f"{floats}.mul")
    to.splat(floats, factor)
    to.splat(floats, 2.0)
    is_small()
    to.write("v128.bitselect")
    to.write(f"{floats}.mul")


_MAKERS: dict[str, Maker] = {
    "fma": _fused,
    "select": _selection,
    "is_nan": _is_nan,
    "copysign": _copysign,
    "bitcast": _bits,
    "convert": _conversion,
    "scale": _scaled,
    **dict.fromkeys(_SHIFTS, _shift),
}
