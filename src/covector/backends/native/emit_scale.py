"""Multiplication with powers of two, as LLVM text: what ends exponentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from covector.backends.native.emit_types import register_type, vector
from covector.loopir.scalars import F32, WIDTH

if TYPE_CHECKING:
    from covector.backends.native.emit_ops import Kind


def scale(k: Kind, attr: Any) -> str:
    """One instruction of AVX-512, else two multiplications with powers of two.

    The first power is 2^(n - 1), or 2^(n + up) where a product with that might be subnormal: the
    second product alone is rounded, so that all machines give the same bits.

    Args:
        k: the type.
        attr: none.

    Returns:
        The template.
    """
    mantissa, bias, up, whole = (23, 127, 64, "i32") if k.dtype is F32 else (52, 1023, 128, "i64")
    t, n, magic = k.type, "%t{0}", k.const(1.5 * 2.0**mantissa)
    exponent = f"  {n}.n = fsub {t} {{2}}, {magic}"
    if k.target.masks and k.lanes * WIDTH[k.dtype] >= 128:
        return "\n".join([exponent, _in_vectors(k)])

    def number(i: int) -> str:
        return f"splat ({whole} {i})" if k.lanes else str(i)

    i = vector(whole, k.lanes)

    return "\n".join(
        [
            exponent,
            f"  {n}.t = fcmp olt {t} {n}.n, {k.const(3.0 - bias)}",
            f"  {n}.b = bitcast {t} {{2}} to {i}",
            f"  {n}.o = select {k.mask} {n}.t, {i} {number(up + bias)}, {i} {number(bias - 1)}",
            f"  {n}.e = add {i} {n}.b, {n}.o",
            f"  {n}.p = shl {i} {n}.e, {number(mantissa)}",
            f"  {n}.f = bitcast {i} {n}.p to {t}",
            f"  {n}.s = select {k.mask} {n}.t, {t} {k.const(2.0**-up)}, {t} {k.const(2.0)}",
            f"  {n}.r = fmul {t} {{1}}, {n}.f",
            f"  %{{0}} = fmul {t} {n}.r, {n}.s",
        ]
    )


def _in_vectors(k: Kind) -> str:
    """The instruction takes vectors of at most 512 bits: longer ones are taken apart."""
    n, width = "%t{0}", WIDTH[k.dtype]
    lanes = min(k.lanes, 512 // width)
    piece, letter = vector(register_type(k.dtype), lanes), "s" if k.dtype is F32 else "d"
    mask = f"i{max(lanes, 8)}"
    rounding = ", i32 4" if lanes * width == 512 else ""  # as the mode says
    name = f"llvm.x86.avx512.mask.scalef.p{letter}.{lanes * width}"

    def call(result: str, a: str, b: str) -> str:
        operands = f"{piece} {a}, {piece} {b}, {piece} zeroinitializer, {mask} -1{rounding}"
        return f"  {result} = call {piece} @{name}({operands})"

    if lanes == k.lanes:
        return call("%{0}", "{1}", f"{n}.n")
    lines: list[str] = []
    parts: list[str] = []
    for first in range(0, k.lanes, lanes):
        chosen = ", ".join(f"i32 {i}" for i in range(first, first + lanes))
        for part, whole in (("a", "{1}"), ("b", f"{n}.n")):
            lines.append(
                f"  {n}.{part}{first} = shufflevector {k.type} {whole}, {k.type} poison, "
                f"<{lanes} x i32> <{chosen}>"
            )
        lines.append(call(f"{n}.c{first}", f"{n}.a{first}", f"{n}.b{first}"))
        parts.append(f"{n}.c{first}")
    size = lanes
    while len(parts) > 1:
        half, size = vector(register_type(k.dtype), size), 2 * size
        chosen = ", ".join(f"i32 {i}" for i in range(size))
        pairs = list(zip(parts[::2], parts[1::2], strict=True))
        parts = ["%{0}" if size == k.lanes else f"{n}.j{size}x{i}" for i in range(len(pairs))]
        lines += [
            f"  {name} = shufflevector {half} {a}, {half} {b}, <{size} x i32> <{chosen}>"
            for name, (a, b) in zip(parts, pairs, strict=True)
        ]
    return "\n".join(lines)
