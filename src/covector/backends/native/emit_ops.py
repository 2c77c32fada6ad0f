"""Operations of the loop IR as LLVM text: one template for each operation, type and lane count.

A template is a format string: `{0}` is the number of the result, `{1}` and on are the operands.
Intermediate values are named `%t{0}.a` and so on. Everything is written so that LLVM's undefined
cases (division by zero, wide shifts, conversions out of range) never reach it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from covector.backends.native.emit_scale import scale
from covector.backends.native.emit_types import (
    constant,
    register_type,
    splat,
    suffix,
    vector,
)
from covector.loopir.ir import BOOL, DType, LoopIRError
from covector.loopir.scalars import BF16, F16, F32, F64, RANGE, SIGNED, TABLE, WIDTH


class Target:
    """What the emitter has to know of the machine.

    Attributes:
        vector_bits: width of vector registers.
        fma: fused multiply-add instructions.
        half: instructions that convert float16.
        masks: loads and stores that skip lanes, at every element size.
        registers: how many vectors can be alive at once, by the emitter's rough count.
    """

    __slots__ = ("fma", "half", "masks", "registers", "vector_bits")

    def __init__(self, vector_bits: int, fma: bool, half: bool, masks: bool) -> None:
        self.vector_bits = vector_bits
        self.fma = fma
        self.half = half
        self.masks = masks
        self.registers = 34 if vector_bits == 512 else 17


class Kind:
    """The type an operation works on."""

    __slots__ = ("dtype", "lanes", "mask", "target", "type")

    def __init__(self, dtype: DType, lanes: int, target: Target) -> None:
        self.dtype = dtype
        self.lanes = lanes
        self.target = target
        self.type = register_type(dtype, lanes)
        self.mask = register_type(BOOL, lanes)

    def const(self, number: Any) -> str:
        """A constant of this type in every lane."""
        return splat(number, self.dtype, self.lanes)

    @property
    def is_float(self) -> bool:
        return self.dtype in (F32, F64)

    @property
    def is_signed(self) -> bool:
        return self.dtype in SIGNED


Maker = Callable[[Kind, Any], str]

_SAME = "  %{{0}} = {op} {type} {{1}}, {{2}}"


def template(name: str, attr: Any, dtype: DType, lanes: int, target: Target) -> str:
    """The template of an operation.

    Args:
        name: operation of the table.
        attr: its attribute.
        dtype: of its last operand.
        lanes: 0 for scalars.
        target: the machine.

    Returns:
        The format string, empty if the result is the operand itself.
    """
    kind = Kind(dtype, lanes, target)
    maker = _MAKERS.get(name)
    if maker is not None:
        return maker(kind, attr)
    spec = TABLE.get(name)
    if spec is None or not spec.elementary:
        raise LoopIRError(f"the native backend has no operation {name!r}")
    operands = ", ".join(f"{kind.type} {{{k + 1}}}" for k in range(spec.arity))
    return f"  %{{0}} = call {kind.type} @cv.{name}.{suffix(dtype, lanes)}({operands})"


def constant_template(
    name: str, dtype: DType, lanes: int, number: Any, target: Target
) -> str | None:
    """A shorter template for operations whose second operand is a constant.

    Args:
        name: one of `BETTER_WITH_CONSTANTS`.
        dtype: of the operands.
        lanes: 0 for scalars.
        number: the constant.
        target: the machine.

    Returns:
        The format string, or `None` if the constant does not help.
    """
    kind = Kind(dtype, lanes, target)
    if name in ("min", "max"):
        if not kind.is_float or number != number:
            return None
        # The other operand comes out if it is NaN.
        order, t = "olt" if name == "min" else "ogt", kind.type
        return (
            f"  %t{{0}}.a = fcmp {order} {t} {{2}}, {{1}}\n"
            f"  %{{0}} = select {kind.mask} %t{{0}}.a, {t} {{2}}, {t} {{1}}"
        )
    if kind.is_float:
        return None
    if name in ("div", "rem"):
        return (
            None
            if number in (0, -1)
            else _binary(("s" if kind.is_signed else "u") + name, kind.type)
        )
    if not 0 <= number < WIDTH[dtype]:
        return None
    op = {"shl": "shl", "shr_logical": "lshr", "shr_arithmetic": "ashr"}[name]
    return _binary(op, kind.type)


BETTER_WITH_CONSTANTS = frozenset(
    {"min", "max", "div", "rem", "shl", "shr_logical", "shr_arithmetic"}
)


def _binary(op: str, type_: str) -> str:
    return _SAME.format(op=op, type=type_)


def _arithmetic(integer: str, floating: str) -> Maker:
    def make(k: Kind, attr: Any) -> str:
        return _binary(floating if k.is_float else integer, k.type)

    return make


def _bitwise(op: str) -> Maker:
    return lambda k, attr: _binary(op, k.type)


def _division(k: Kind, attr: Any) -> str:
    if k.is_float:
        return _binary("fdiv", k.type)
    return _guarded("sdiv" if k.is_signed else "udiv", k, k.const(-1 if k.is_signed else _top(k)))


def _remainder(k: Kind, attr: Any) -> str:
    if k.is_float:
        return _binary("frem", k.type)
    return _guarded("srem" if k.is_signed else "urem", k, "{1}")


def _top(k: Kind) -> int:
    return RANGE[k.dtype][1]


def _guarded(op: str, k: Kind, by_zero: str) -> str:
    """Replaces the divisor by 1 where the hardware would trap."""
    t, m, n = k.type, k.mask, "%t{0}"
    lines = [f"  {n}.z = icmp eq {t} {{2}}, {k.const(0)}"]
    unsafe = f"{n}.z"
    if k.is_signed:
        lines += [
            f"  {n}.m = icmp eq {t} {{1}}, {k.const(RANGE[k.dtype][0])}",
            f"  {n}.n = icmp eq {t} {{2}}, {k.const(-1)}",
            f"  {n}.o = and {m} {n}.m, {n}.n",
            f"  {n}.u = or {m} {n}.z, {n}.o",
        ]
        unsafe = f"{n}.u"
    lines += [
        f"  {n}.d = select {m} {unsafe}, {t} {k.const(1)}, {t} {{2}}",
        f"  {n}.q = {op} {t} {{1}}, {n}.d",
        f"  %{{0}} = select {m} {n}.z, {t} {by_zero}, {t} {n}.q",
    ]
    return "\n".join(lines)


def _negate(k: Kind, attr: Any) -> str:
    if k.is_float:
        return f"  %{{0}} = fneg {k.type} {{1}}"
    return f"  %{{0}} = sub {k.type} {k.const(0)}, {{1}}"


def _intrinsic(name: str, arity: int) -> Maker:
    def make(k: Kind, attr: Any) -> str:
        operands = ", ".join(f"{k.type} {{{i + 1}}}" for i in range(arity))
        return f"  %{{0}} = call {k.type} @llvm.{name}.{suffix(k.dtype, k.lanes)}({operands})"

    return make


def _absolute(k: Kind, attr: Any) -> str:
    if k.is_float:
        return _intrinsic("fabs", 1)(k, attr)
    if not k.is_signed:
        return ""
    s = suffix(k.dtype, k.lanes)
    return f"  %{{0}} = call {k.type} @llvm.abs.{s}({k.type} {{1}}, i1 false)"


def _extreme(order: str, integer: str) -> Maker:
    """A comparison gives the second operand if either is NaN, as the machine's min and max do.

    A first one that is NaN is doubled: it stays what it is, but LLVM does not make one condition of
    both, for which it would have no use for the machine's operation.
    """

    def make(k: Kind, attr: Any) -> str:
        if not k.is_float:
            return _intrinsic(("s" if k.is_signed else "u") + integer, 2)(k, attr)
        t, m, n = k.type, k.mask, "%t{0}"
        return "\n".join(
            [
                f"  {n}.a = fcmp {order} {t} {{1}}, {{2}}",
                f"  {n}.b = select {m} {n}.a, {t} {{1}}, {t} {{2}}",
                f"  {n}.c = fcmp uno {t} {{1}}, {k.const(0.0)}",
                f"  {n}.d = fadd {t} {{1}}, {{1}}",
                f"  %{{0}} = select {m} {n}.c, {t} {n}.d, {t} {n}.b",
            ]
        )

    return make


def _fused(k: Kind, attr: Any) -> str:
    """Without fused operations, "exact" adds the product and its rounding error."""
    if attr != "exact":
        return _intrinsic("fmuladd", 3)(k, attr)
    if k.target.fma:
        return _intrinsic("fma", 3)(k, attr)
    t, n = k.type, "%t{0}"
    error = _mul_error(k, None).replace("%{0} =", f"{n}.r =").replace("{3}", f"{n}.p")
    return "\n".join(
        [
            f"  {n}.p = fmul {t} {{1}}, {{2}}",
            error,
            f"  {n}.c = fadd {t} {n}.p, {{3}}",
            f"  %{{0}} = fadd {t} {n}.c, {n}.r",
        ]
    )


def _mul_error(k: Kind, attr: Any) -> str:
    """a * b - p by a fused operation, or by splitting each factor in halves (Dekker, 1971)."""
    t, n = k.type, "%t{0}"
    if k.target.fma:
        s = suffix(k.dtype, k.lanes)
        return (
            f"  {n}.n = fneg {t} {{3}}\n"
            f"  %{{0}} = call {t} @llvm.fma.{s}({t} {{1}}, {t} {{2}}, {t} {n}.n)"
        )
    splitter = k.const(2.0**27 + 1 if k.dtype is F64 else 4097.0)
    lines: list[str] = []
    for x, operand in (("a", "{1}"), ("b", "{2}")):
        lines += [
            f"  {n}.{x}s = fmul {t} {operand}, {splitter}",
            f"  {n}.{x}d = fsub {t} {n}.{x}s, {operand}",
            f"  {n}.{x}h = fsub {t} {n}.{x}s, {n}.{x}d",
            f"  {n}.{x}l = fsub {t} {operand}, {n}.{x}h",
        ]
    products = [("hh", "ah", "bh"), ("hl", "ah", "bl"), ("lh", "al", "bh"), ("ll", "al", "bl")]
    lines += [f"  {n}.{p} = fmul {t} {n}.{x}, {n}.{y}" for p, x, y in products]
    lines += [
        f"  {n}.e = fsub {t} {n}.hh, {{3}}",
        f"  {n}.f = fadd {t} {n}.e, {n}.hl",
        f"  {n}.g = fadd {t} {n}.f, {n}.lh",
        f"  %{{0}} = fadd {t} {n}.g, {n}.ll",
    ]
    return "\n".join(lines)


def _complement(k: Kind, attr: Any) -> str:
    ones = k.const(True) if k.dtype is BOOL else splat_bits(k, -1)
    return f"  %{{0}} = xor {k.type} {{1}}, {ones}"


def splat_bits(k: Kind, number: int) -> str:
    """An integer constant given as a signed number, whatever the signedness of the type."""
    scalar = register_type(k.dtype)
    return f"splat ({scalar} {number})" if k.lanes else str(number)


def _shift(op: str) -> Maker:
    def make(k: Kind, attr: Any) -> str:
        t, n = k.type, "%t{0}"
        return "\n".join(
            [
                f"  {n}.a = icmp ult {t} {{2}}, {k.const(WIDTH[k.dtype])}",
                f"  {n}.b = {op} {t} {{1}}, {{2}}",
                f"  %{{0}} = select {k.mask} {n}.a, {t} {n}.b, {t} {k.const(0)}",
            ]
        )

    return make


def _shift_arithmetic(k: Kind, attr: Any) -> str:
    t, s = k.type, suffix(k.dtype, k.lanes)
    last = k.const(WIDTH[k.dtype] - 1)
    return (
        f"  %t{{0}}.a = call {t} @llvm.umin.{s}({t} {{2}}, {t} {last})\n"
        f"  %{{0}} = ashr {t} {{1}}, %t{{0}}.a"
    )


def _count_zeros(name: str) -> Maker:
    def make(k: Kind, attr: Any) -> str:
        s = suffix(k.dtype, k.lanes)
        return f"  %{{0}} = call {k.type} @llvm.{name}.{s}({k.type} {{1}}, i1 false)"

    return make


def _high_product(k: Kind, attr: Any) -> str:
    wide = vector(f"i{2 * WIDTH[k.dtype]}", k.lanes)
    width = f"splat (i{2 * WIDTH[k.dtype]} {WIDTH[k.dtype]})" if k.lanes else str(WIDTH[k.dtype])
    extend, n = "sext" if k.is_signed else "zext", "%t{0}"
    return "\n".join(
        [
            f"  {n}.a = {extend} {k.type} {{1}} to {wide}",
            f"  {n}.b = {extend} {k.type} {{2}} to {wide}",
            f"  {n}.c = mul {wide} {n}.a, {n}.b",
            f"  {n}.d = lshr {wide} {n}.c, {width}",
            f"  %{{0}} = trunc {wide} {n}.d to {k.type}",
        ]
    )


def _compare(name: str, floating: str) -> Maker:
    def make(k: Kind, attr: Any) -> str:
        if k.is_float:
            return _binary(f"fcmp {floating}", k.type)
        unsigned = not k.is_signed and name not in ("eq", "ne")
        signed = k.is_signed and name not in ("eq", "ne")
        return _binary(f"icmp {'u' if unsigned else 's' if signed else ''}{name}", k.type)

    return make


def _is_nan(k: Kind, attr: Any) -> str:
    return f"  %{{0}} = fcmp uno {k.type} {{1}}, {k.const(0.0)}"


def _select(k: Kind, attr: Any) -> str:
    return f"  %{{0}} = select {k.mask} {{1}}, {k.type} {{2}}, {k.type} {{3}}"


def _bitcast(k: Kind, attr: Any) -> str:
    if register_type(attr) == register_type(k.dtype):
        return ""
    return f"  %{{0}} = bitcast {k.type} {{1}} to {register_type(attr, k.lanes)}"


# Conversions


def _convert(k: Kind, attr: Any) -> str:
    source, target = k.dtype, attr
    if source in (F16, BF16):
        return _from_half(k, target)
    if target in (F16, BF16):
        return _to_half(k, target)
    if target is BOOL:
        if k.is_float:
            return f"  %{{0}} = fcmp une {k.type} {{1}}, {k.const(0.0)}"
        return f"  %{{0}} = icmp ne {k.type} {{1}}, {k.const(0)}"
    out = Kind(target, k.lanes, k.target)
    if k.is_float and out.is_float:
        return _cast("fpext" if source is F32 else "fptrunc", k, out)
    if k.is_float:
        sign, s = "s" if out.is_signed else "u", suffix(source, k.lanes)
        name = f"llvm.fpto{sign}i.sat.{suffix(target, k.lanes)}.{s}"
        return f"  %{{0}} = call {out.type} @{name}({k.type} {{1}})"
    if out.is_float:
        return _cast("sitofp" if k.is_signed else "uitofp", k, out)
    narrower = source is not BOOL and WIDTH[target] <= WIDTH[source]
    if narrower and WIDTH[target] == WIDTH[source]:
        return ""
    return _cast("trunc" if narrower else "sext" if k.is_signed else "zext", k, out)


def _cast(op: str, k: Kind, out: Kind) -> str:
    return f"  %{{0}} = {op} {k.type} {{1}} to {out.type}"


class _Lines:
    """Writes templates of several instructions on i32, i16, float and double lanes."""

    def __init__(self, lanes: int) -> None:
        self.lines: list[str] = []
        self.lanes = lanes
        self.count = 0

    def type(self, scalar: str) -> str:
        return vector(scalar, self.lanes)

    def const(self, scalar: str, number: Any) -> str:
        text = constant(number, F64) if scalar in ("float", "double") else str(number)
        return f"splat ({scalar} {text})" if self.lanes else text

    def add(self, text: str) -> str:
        name = f"%t{{0}}.{self.count}"
        self.count += 1
        self.lines.append(f"  {name} = {text}")
        return name

    def op(self, op: str, scalar: str, a: str, b: str | float) -> str:
        operand = b if isinstance(b, str) else self.const(scalar, b)
        return self.add(f"{op} {self.type(scalar)} {a}, {operand}")

    def cast(self, op: str, source: str, a: str, target: str) -> str:
        return self.add(f"{op} {self.type(source)} {a} to {self.type(target)}")

    def select(self, condition: str, scalar: str, a: str | int, b: str) -> str:
        first = a if isinstance(a, str) else self.const(scalar, a)
        t = self.type(scalar)
        return self.add(f"select {self.type('i1')} {condition}, {t} {first}, {t} {b}")

    def finish(self, value: str) -> str:
        """The text, with the last value as the result."""
        last = self.lines[-1]
        assert last.startswith(f"  {value} = ")
        self.lines[-1] = last.replace(f"  {value} = ", "  %{0} = ", 1)
        return "\n".join(self.lines)


def _from_half(k: Kind, target: DType) -> str:
    lines = _Lines(k.lanes)
    wide = _bf16_to_float(lines) if k.dtype is BF16 else _f16_to_float(lines, k.target)
    if target is F32:
        return lines.finish(wide)
    rest = _convert(Kind(F32, k.lanes, k.target), target)
    return "\n".join([*lines.lines, rest.replace("%t{0}.", "%t{0}.w").replace("{1}", wide)])


def _bf16_to_float(w: _Lines) -> str:
    bits = w.op("shl", "i32", w.cast("zext", "i16", "{1}", "i32"), 16)
    return w.cast("bitcast", "i32", bits, "float")


def _f16_to_float(w: _Lines, target: Target) -> str:
    if target.half:
        return w.cast("fpext", "half", w.cast("bitcast", "i16", "{1}", "half"), "float")
    # Exponent and mantissa are moved to their places in float32; a multiplication then corrects
    # the bias, exactly and for subnormals too. Infinities and NaNs get the greatest exponent.
    bits = w.cast("zext", "i16", "{1}", "i32")
    moved = w.op("shl", "i32", w.op("and", "i32", bits, 0x7FFF), 13)
    scaled = w.op("fmul", "float", w.cast("bitcast", "i32", moved, "float"), 2.0**112)
    special = w.op("icmp uge", "i32", moved, 0x7C00 << 13)
    extreme = w.op("or", "i32", moved, 0x7F800000)
    finite = w.cast("bitcast", "float", scaled, "i32")
    magnitude = w.select(special, "i32", extreme, finite)
    sign = w.op("shl", "i32", w.op("and", "i32", bits, 0x8000), 16)
    return w.cast("bitcast", "i32", w.op("or", "i32", magnitude, sign), "float")


def _to_half(k: Kind, target: DType) -> str:
    if k.dtype is not F32 and k.dtype is not F64:
        return _integer_to_half(k, target)
    lines = _Lines(k.lanes)
    narrow = "{1}" if k.dtype is F32 else _round_to_odd(lines)
    if target is BF16:
        return lines.finish(_float_to_bf16(lines, narrow))
    return lines.finish(_float_to_f16(lines, narrow, k.target))


def _integer_to_half(k: Kind, target: DType) -> str:
    wide = F64 if WIDTH[k.dtype] > 16 else F32
    first = _convert(k, wide)
    head = first.replace("%{0} =", "%t{0}.h =")
    rest = _to_half(Kind(wide, k.lanes, k.target), target)
    return head + "\n" + rest.replace("{1}", "%t{0}.h")


def _round_to_odd(w: _Lines) -> str:
    """double to float so that rounding once more gives what rounding at once would have given."""
    narrow = w.cast("fptrunc", "double", "{1}", "float")
    back = w.cast("fpext", "float", narrow, "double")
    bits = w.cast("bitcast", "float", narrow, "i32")
    even = w.op("icmp eq", "i32", w.op("and", "i32", bits, 1), 0)
    inexact = w.op("fcmp one", "double", back, "{1}")
    finite = w.op("icmp ne", "i32", w.op("and", "i32", bits, 0x7FFFFFFF), 0x7F800000)
    double = w.type("double")
    size = w.add(f"call {double} @llvm.fabs.{_f64(w)}({double} {{1}})")
    rounded = w.add(f"call {double} @llvm.fabs.{_f64(w)}({double} {back})")
    up = w.op("fcmp ogt", "double", size, rounded)
    step = w.select(up, "i32", 1, w.const("i32", -1))
    wrong = w.op("and", "i1", w.op("and", "i1", even, inexact), finite)
    odd = w.select(wrong, "i32", w.op("add", "i32", bits, step), bits)
    return w.cast("bitcast", "i32", odd, "float")


def _f64(w: _Lines) -> str:
    return suffix(F64, w.lanes)


def _float_to_bf16(w: _Lines, value: str) -> str:
    bits = w.cast("bitcast", "float", value, "i32")
    lowest = w.op("and", "i32", w.op("lshr", "i32", bits, 16), 1)
    rounded = w.op("add", "i32", w.op("add", "i32", bits, 0x7FFF), lowest)
    quiet = w.op("or", "i32", bits, 0x400000)
    nan = w.op("fcmp uno", "float", value, 0.0)
    chosen = w.select(nan, "i32", quiet, rounded)
    return w.cast("trunc", "i32", w.op("lshr", "i32", chosen, 16), "i16")


def _float_to_f16(w: _Lines, value: str, target: Target) -> str:
    if target.half:
        return w.cast("bitcast", "half", w.cast("fptrunc", "float", value, "half"), "i16")
    # Normal results: rebias the exponent and round the mantissa in integer arithmetic. Subnormal
    # results: adding 2^-1 times the unit in place makes the hardware round at the right bit.
    bits = w.cast("bitcast", "float", value, "i32")
    size = w.op("and", "i32", bits, 0x7FFFFFFF)
    lowest = w.op("and", "i32", w.op("lshr", "i32", size, 13), 1)
    biased = w.op("add", "i32", size, 0xC8000FFF - (1 << 32))
    normal = w.op("lshr", "i32", w.op("add", "i32", biased, lowest), 13)
    shifted = w.op("fadd", "float", w.cast("bitcast", "i32", size, "float"), 0.5)
    subnormal = w.op("sub", "i32", w.cast("bitcast", "float", shifted, "i32"), 0x3F000000)
    tiny = w.op("icmp ult", "i32", size, 0x38800000)
    finite = w.select(tiny, "i32", subnormal, normal)
    large = w.op("icmp uge", "i32", size, 0x47800000)
    finite = w.select(large, "i32", 0x7C00, finite)
    nan = w.op("icmp ugt", "i32", size, 0x7F800000)
    payload = w.op("and", "i32", w.op("lshr", "i32", size, 13), 0x3FF)
    result = w.select(nan, "i32", w.op("or", "i32", payload, 0x7E00), finite)
    sign = w.op("and", "i32", w.op("lshr", "i32", bits, 16), 0x8000)
    return w.cast("trunc", "i32", w.op("or", "i32", result, sign), "i16")


_MAKERS: dict[str, Maker] = {
    "add": _arithmetic("add", "fadd"),
    "sub": _arithmetic("sub", "fsub"),
    "mul": _arithmetic("mul", "fmul"),
    "div": _division,
    "rem": _remainder,
    "index_div": lambda k, attr: _binary("udiv", k.type),
    "index_rem": lambda k, attr: _binary("urem", k.type),
    "neg": _negate,
    "abs": _absolute,
    "min": _extreme("olt", "min"),
    "max": _extreme("ogt", "max"),
    "fma": _fused,
    "mul_error": _mul_error,
    "scale": scale,
    "sqrt": _intrinsic("sqrt", 1),
    "floor": _intrinsic("floor", 1),
    "ceil": _intrinsic("ceil", 1),
    "trunc": _intrinsic("trunc", 1),
    "round_even": _intrinsic("roundeven", 1),
    "copysign": _intrinsic("copysign", 2),
    "and": _bitwise("and"),
    "or": _bitwise("or"),
    "xor": _bitwise("xor"),
    "not": _complement,
    "shl": _shift("shl"),
    "shr_logical": _shift("lshr"),
    "shr_arithmetic": _shift_arithmetic,
    "popcount": _intrinsic("ctpop", 1),
    "clz": _count_zeros("ctlz"),
    "ctz": _count_zeros("cttz"),
    "mulhi": _high_product,
    "eq": _compare("eq", "oeq"),
    "ne": _compare("ne", "une"),
    "lt": _compare("lt", "olt"),
    "le": _compare("le", "ole"),
    "gt": _compare("gt", "ogt"),
    "ge": _compare("ge", "oge"),
    "is_nan": _is_nan,
    "select": _select,
    "bitcast": _bitcast,
    "convert": _convert,
}
