"""The instructions of WebAssembly that the backend uses, by their names in the text format."""

from __future__ import annotations

from typing import NamedTuple

NONE, INDEX, LABEL, FUNCTION, BLOCK, MEMORY, NUMBER, LANE, ZEROS = range(9)
"""Kinds of immediates: none, the index of a local or global, a depth, a function, the type of a
block, an offset in memory, a number, the number of a lane, zero bytes alone."""


class Opcode(NamedTuple):
    """How an instruction is encoded.

    Attributes:
        code: its first bytes.
        kind: what follows.
        detail: for memory the alignment (as a power of two), for zeros how many.
    """

    code: bytes
    kind: int = NONE
    detail: int = 0


def _leb(number: int) -> bytes:
    """An unsigned number below 2^14 in LEB128."""
    return bytes([number]) if number < 128 else bytes([number & 127 | 128, number >> 7])


_COMPARED = "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u"
_COMPARED_FLOATS = ("eq", "ne", "lt", "gt", "le", "ge")
_INTEGER = "clz ctz popcnt add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr"
_FLOAT = "abs neg ceil floor trunc nearest sqrt add sub mul div min max copysign"
_CONVERSIONS = """
    i32.wrap_i64 i32.trunc_f32_s i32.trunc_f32_u i32.trunc_f64_s i32.trunc_f64_u
    i64.extend_i32_s i64.extend_i32_u i64.trunc_f32_s i64.trunc_f32_u i64.trunc_f64_s
    i64.trunc_f64_u f32.convert_i32_s f32.convert_i32_u f32.convert_i64_s f32.convert_i64_u
    f32.demote_f64 f64.convert_i32_s f64.convert_i32_u f64.convert_i64_s f64.convert_i64_u
    f64.promote_f32 i32.reinterpret_f32 i64.reinterpret_f64 f32.reinterpret_i32
    f64.reinterpret_i64 i32.extend8_s i32.extend16_s i64.extend8_s i64.extend16_s i64.extend32_s
"""
_SATURATING = """
    i32.trunc_sat_f32_s i32.trunc_sat_f32_u i32.trunc_sat_f64_s i32.trunc_sat_f64_u
    i64.trunc_sat_f32_s i64.trunc_sat_f32_u i64.trunc_sat_f64_s i64.trunc_sat_f64_u
"""
_MEMORY = {
    "i32.load": 2, "i64.load": 3, "f32.load": 2, "f64.load": 3, "i32.load8_s": 0,
    "i32.load8_u": 0, "i32.load16_s": 1, "i32.load16_u": 1, "i64.load8_s": 0, "i64.load8_u": 0,
    "i64.load16_s": 1, "i64.load16_u": 1, "i64.load32_s": 2, "i64.load32_u": 2, "i32.store": 2,
    "i64.store": 3, "f32.store": 2, "f64.store": 3, "i32.store8": 0, "i32.store16": 1,
}  # fmt: skip
"""Loads and stores in the order of their codes, with the alignment of what they access."""

_VECTOR_MEMORY = {"v128.load": (0, 4), "v128.load32_splat": (9, 2), "v128.load64_splat": (10, 3),
                  "v128.store": (11, 4)}  # fmt: skip
_VECTOR_LANES = {
    "i32x4.extract_lane": 27, "i32x4.replace_lane": 28, "i64x2.extract_lane": 29,
    "i64x2.replace_lane": 30, "f32x4.extract_lane": 31, "f32x4.replace_lane": 32,
    "f64x2.extract_lane": 33, "f64x2.replace_lane": 34,
}  # fmt: skip
_VECTOR = {
    "i32x4.splat": 17, "i64x2.splat": 18, "f32x4.splat": 19, "f64x2.splat": 20,
    "v128.not": 77, "v128.and": 78, "v128.or": 80, "v128.xor": 81, "v128.bitselect": 82,
    "v128.any_true": 83, "f32x4.ceil": 103, "f32x4.floor": 104, "f32x4.trunc": 105,
    "f32x4.nearest": 106, "f64x2.ceil": 116, "f64x2.floor": 117, "f64x2.trunc": 122,
    "f64x2.nearest": 148, "i32x4.abs": 160, "i32x4.neg": 161, "i32x4.shl": 171,
    "i32x4.shr_s": 172, "i32x4.shr_u": 173, "i32x4.add": 174, "i32x4.sub": 177,
    "i32x4.mul": 181, "i32x4.min_s": 182, "i32x4.min_u": 183, "i32x4.max_s": 184,
    "i32x4.max_u": 185, "i64x2.abs": 192, "i64x2.neg": 193, "i64x2.shl": 203, "i64x2.shr_s": 204,
    "i64x2.shr_u": 205, "i64x2.add": 206, "i64x2.sub": 209, "i64x2.mul": 213, "i64x2.eq": 214,
    "i64x2.ne": 215, "i64x2.lt_s": 216, "i64x2.gt_s": 217, "i64x2.le_s": 218, "i64x2.ge_s": 219,
    "f32x4.abs": 224, "f32x4.neg": 225, "f32x4.sqrt": 227, "f32x4.add": 228, "f32x4.sub": 229,
    "f32x4.mul": 230, "f32x4.div": 231, "f32x4.min": 232, "f32x4.max": 233, "f64x2.abs": 236,
    "f64x2.neg": 237, "f64x2.sqrt": 239, "f64x2.add": 240, "f64x2.sub": 241, "f64x2.mul": 242,
    "f64x2.div": 243, "f64x2.min": 244, "f64x2.max": 245, "i32x4.trunc_sat_f32x4_s": 248,
    "i32x4.trunc_sat_f32x4_u": 249, "f32x4.convert_i32x4_s": 250, "f32x4.convert_i32x4_u": 251,
}  # fmt: skip


def _table() -> dict[str, Opcode]:
    table = {
        "unreachable": Opcode(b"\x00"),
        "block": Opcode(b"\x02", BLOCK),
        "loop": Opcode(b"\x03", BLOCK),
        "if": Opcode(b"\x04", BLOCK),
        "else": Opcode(b"\x05"),
        "end": Opcode(b"\x0b"),
        "br": Opcode(b"\x0c", LABEL),
        "br_if": Opcode(b"\x0d", LABEL),
        "return": Opcode(b"\x0f"),
        "call": Opcode(b"\x10", FUNCTION),
        "drop": Opcode(b"\x1a"),
        "select": Opcode(b"\x1b"),
        "local.get": Opcode(b"\x20", INDEX),
        "local.set": Opcode(b"\x21", INDEX),
        "local.tee": Opcode(b"\x22", INDEX),
        "global.get": Opcode(b"\x23", INDEX),
        "global.set": Opcode(b"\x24", INDEX),
        "memory.size": Opcode(b"\x3f", ZEROS, 1),
        "memory.grow": Opcode(b"\x40", ZEROS, 1),
        "memory.copy": Opcode(b"\xfc\x0a", ZEROS, 2),
        "memory.fill": Opcode(b"\xfc\x0b", ZEROS, 1),
    }
    for k, (name, alignment) in enumerate(_MEMORY.items()):
        table[name] = Opcode(bytes([0x28 + k]), MEMORY, alignment)
    for k, name in enumerate(("i32.const", "i64.const", "f32.const", "f64.const")):
        table[name] = Opcode(bytes([0x41 + k]), NUMBER)
    plain = [f"i32.{x}" for x in ("eqz " + _COMPARED).split()]
    plain += [f"i64.{x}" for x in ("eqz " + _COMPARED).split()]
    plain += [f"{t}.{x}" for t in ("f32", "f64") for x in _COMPARED_FLOATS]
    plain += [f"{t}.{x}" for t in ("i32", "i64") for x in _INTEGER.split()]
    plain += [f"{t}.{x}" for t in ("f32", "f64") for x in _FLOAT.split()]
    plain += _CONVERSIONS.split()
    table |= {name: Opcode(bytes([0x45 + k])) for k, name in enumerate(plain)}
    for k, name in enumerate(_SATURATING.split()):
        table[name] = Opcode(bytes([0xFC, k]))
    return table | _vector_table()


def _vector_table() -> dict[str, Opcode]:
    def code(number: int) -> bytes:
        return b"\xfd" + _leb(number)

    table = {name: Opcode(code(n), MEMORY, bits) for name, (n, bits) in _VECTOR_MEMORY.items()}
    table["v128.const"] = Opcode(code(12), NUMBER)
    table |= {name: Opcode(code(n), LANE) for name, n in _VECTOR_LANES.items()}
    table |= {name: Opcode(code(n)) for name, n in _VECTOR.items()}
    for k, name in enumerate(_COMPARED.split()):
        table[f"i32x4.{name}"] = Opcode(code(55 + k))
    for k, name in enumerate(_COMPARED_FLOATS):
        table[f"f32x4.{name}"] = Opcode(code(65 + k))
        table[f"f64x2.{name}"] = Opcode(code(71 + k))
    return table


OPCODES = _table()
"""Every instruction by its name."""
