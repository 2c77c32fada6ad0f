"""How loop IR types, constants and the run-time context look in LLVM IR.

bool is i1 in registers and a byte in memory; float16 and bfloat16 are their bits as i16, since
conversions are all that is ever done to them.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from covector.loopir.ir import BOOL, DType
from covector.loopir.scalars import BF16, F16, F32, F64, INTEGERS, WIDTH, bits_of

# Offsets of the fields of the context, as in _native/covector.h.
CONTEXT_ALLOC = 0
CONTEXT_WORKSPACE = 16
CONTEXT_CONSTANTS = 24
CONTEXT_CALLBACK = 32

# What an entry function returns, as in _native/covector.h; site + 1 is a failed check.
CANCELLED = -1
PYTHON_ERROR = -2
OUT_OF_MEMORY = -3

INLINED = "@cv."
"""How names of elementary functions begin that a module contains."""
SHARED = "@shared."
"""How names of those begin that are compiled once, for all modules that call them."""

_SCALAR: dict[DType, str] = {
    BOOL: "i1",
    F16: "i16",
    BF16: "i16",
    F32: "float",
    F64: "double",
    **{d: f"i{WIDTH[d]}" for d in INTEGERS},
}
_MEMORY: dict[DType, str] = {**_SCALAR, BOOL: "i8"}

SUFFIX: dict[DType, str] = {F32: "f32", F64: "f64", **{d: f"i{WIDTH[d]}" for d in INTEGERS}}
"""How intrinsics name a type."""


def vector(element: str, lanes: int) -> str:
    """The LLVM vector type of an element type.

    Args:
        element: an LLVM scalar type.
        lanes: how many; 0 for the scalar itself.

    Returns:
        The type.
    """
    return f"<{lanes} x {element}>" if lanes else element


def register_type(dtype: DType, lanes: int = 0) -> str:
    """The LLVM type of values of a dtype.

    Args:
        dtype: a scalar dtype of the loop IR.
        lanes: 0 for scalars.

    Returns:
        The type.
    """
    return vector(_SCALAR[dtype], lanes)


def memory_type(dtype: DType, lanes: int = 0) -> str:
    """The LLVM type of elements of buffers of a dtype.

    Args:
        dtype: a scalar dtype of the loop IR.
        lanes: 0 for scalars.

    Returns:
        The type.
    """
    return vector(_MEMORY[dtype], lanes)


def suffix(dtype: DType, lanes: int = 0) -> str:
    """How intrinsics and this backend's own functions name a type: f32, v16f32.

    Args:
        dtype: a number type.
        lanes: 0 for scalars.

    Returns:
        The suffix.
    """
    return f"v{lanes}{SUFFIX[dtype]}" if lanes else SUFFIX[dtype]


def constant(number: Any, dtype: DType) -> str:
    """A scalar constant.

    Args:
        number: canonical constant of the dtype.
        dtype: its dtype.

    Returns:
        LLVM text without the type.
    """
    if dtype is BOOL:
        return "true" if number else "false"
    if dtype is F32 or dtype is F64:
        return float_constant(number)
    if dtype is F16 or dtype is BF16:
        return str(bits_of(number, dtype))
    return str(number)


def float_constant(number: float) -> str:
    """A float or double constant; LLVM writes both as the bits of the double.

    Args:
        number: exactly representable in the type.

    Returns:
        LLVM text without the type.
    """
    if number != number:
        return "0xFFF8000000000000" if math.copysign(1.0, number) < 0 else "0x7FF8000000000000"
    return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"


def splat(number: Any, dtype: DType, lanes: int = 0) -> str:
    """A constant in every lane.

    Args:
        number: canonical constant of the dtype.
        dtype: its dtype.
        lanes: 0 for a scalar.

    Returns:
        LLVM text without the type.
    """
    text = constant(number, dtype)
    return f"splat ({_SCALAR[dtype]} {text})" if lanes else text


def alignment(dtype: DType) -> int:
    """Natural alignment in bytes.

    Args:
        dtype: a scalar dtype of the loop IR.

    Returns:
        Its size.
    """
    return np.dtype(dtype).itemsize
