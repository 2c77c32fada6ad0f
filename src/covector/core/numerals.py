"""Numbers as text: the shortest decimal that reads back as the same value of the same dtype."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from covector.core import dtypes

REAL = r"(?:0x[0-9a-f]\.[0-9a-f]*p[+-]?\d+|\d+(?:\.\d*)?(?:e[+-]?\d+)?|inf|nan(?:#[0-9a-f]+)?)"
"""Pattern of an unsigned real number; `nan#bits` is a NaN other than the usual one."""
NUMBER = rf"[+-]?{REAL}(?:[+-]{REAL}j)?(?!\w)"
"""Pattern of a real or complex number."""

_COMPLEX = re.compile(rf"([+-]?{REAL})([+-]{REAL})j")


def format_number(value: Any, dtype: np.dtype[Any]) -> str:
    """The text of a NumPy scalar (or what converts to one) of a dtype."""
    if dtype in dtypes.FLOATING:
        return _format_real(value, dtype)
    if dtype in dtypes.COMPLEX:
        return _format_complex(value, dtypes.real_of(dtype))
    return str(bool(value)) if dtype == dtypes.bool_ else str(int(value))


def read_number(text: str, dtype: np.dtype[Any]) -> Any:
    """The NumPy scalar that `format_number` wrote.

    Raises:
        ValueError: the text is no number of this dtype.
    """
    if dtype in dtypes.FLOATING:
        return _read_real(text, dtype)
    if dtype in dtypes.COMPLEX:
        return _read_complex(text, dtype)
    if dtype == dtypes.bool_:
        if text not in ("True", "False"):
            raise ValueError(f"a boolean is True or False, found {text}")
        return np.bool_(text == "True")
    try:
        return dtype.type(int(text))
    except (ValueError, OverflowError):
        raise ValueError(f"{text} is not a number of dtype {dtype}") from None


def _format_real(value: Any, dtype: np.dtype[Any]) -> str:
    number = float(value)
    if number != number:
        bits = _bits(value, dtype)
        return "nan" if bits == _bits(np.nan, dtype) else f"nan#{bits}"
    if number in (float("inf"), float("-inf")):
        return str(number)
    text = _shortest(number, dtype)
    # Reading goes through float64, which rounds twice: in rare cases, to a neighbour.
    return text if float(dtype.type(float(text))) == number else number.hex()


def _bits(value: Any, dtype: np.dtype[Any]) -> str:
    return np.asarray(value, dtype).tobytes()[::-1].hex()


def _shortest(number: float, dtype: np.dtype[Any]) -> str:
    if dtype == dtypes.float64 or (number.is_integer() and abs(number) < 1e6):
        return repr(number)
    if dtype == dtypes.float32:
        return str(np.float32(number))
    # Five digits tell float16 and bfloat16 apart; what NumPy prints does not always read back.
    with np.errstate(over="ignore"):  # few digits may round up to infinity
        text = next(
            text
            for digits in range(1, 10)
            if float(dtype.type(float(text := f"{number:.{digits}g}"))) == number
        )
    return repr(float(text))


def _read_real(text: str, dtype: np.dtype[Any]) -> Any:
    sign = text[0] if text[0] in "+-" else ""
    if text.startswith("nan#", len(sign)):
        data = bytes.fromhex(text[len(sign) + 4 :])[::-1]
        if len(data) != dtype.itemsize:
            raise ValueError(f"{text} does not have the bits of a {dtype}")
        return np.frombuffer(data, dtype)[0]
    number = float.fromhex(text) if "x" in text else float(text)
    return dtype.type(number)


def _format_complex(value: Any, part: np.dtype[Any]) -> str:
    real, imag = _format_real(value.real, part), _format_real(value.imag, part)
    sign = "" if imag.startswith("-") else "+"
    return f"{real}{sign}{imag}j"


def _read_complex(text: str, dtype: np.dtype[Any]) -> Any:
    match = _COMPLEX.fullmatch(text)
    if match is None:
        raise ValueError(f"a complex number is written 1.0+2.0j, found {text}")
    part = dtypes.real_of(dtype)
    # From parts: arithmetic would turn inf+nanj into nan+nanj and lose the sign of zero.
    parts = np.array([_read_real(t, part) for t in match.groups()], part)
    return parts.view(dtype)[0]
