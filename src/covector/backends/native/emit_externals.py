"""The list of external functions that generated code may call, with their signatures."""

from __future__ import annotations

from covector.loopir import foreign
from covector.loopir.verifier import Signature

_LIBM_UNARY = (
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan"),
    *("asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    *("sqrt", "cbrt", "erf", "erfc", "tgamma", "lgamma", "fabs", "floor", "ceil", "trunc"),
    *("round", "roundeven", "rint", "nearbyint"),
)
_LIBM_BINARY = (
    *("atan2", "hypot", "pow", "fmod", "remainder", "nextafter", "fmin", "fmax", "copysign"),
)

_I64 = "i64"
_STATUS = "i32"


def _numbers_and_pointers(text: str) -> tuple[str, ...]:
    """Parameter types from letters: n for a number, p for a pointer."""
    return tuple({"n": _I64, "p": "ptr"}[letter] for letter in text)


# As documented in _native/blas.c and _native/lapack.c.
_LIBRARY = {
    "gemm": "nnnpnpnpnnn",
    "trsm": "nnnnnnpnpn",
    "potrf": "npnn",
    "getrf": "nnpnp",
    "geqrf": "nnpnp",
    "orgqr": "nnnpnp",
    "syevd": "npnpnn",
    "gesdd": "nnpnppnpnn",
}

PURE: dict[str, Signature] = {}
"""Functions without effects."""

EXTERNALS: dict[str, Signature] = {
    "cv_poll": (("ptr",), _STATUS),
    "cv_parallel": (_numbers_and_pointers("ppnnnn"), _STATUS),
    "cv_sort": (_numbers_and_pointers("pnnnnnpppppppp"), _STATUS),
    "cv_argsort": (_numbers_and_pointers("pnnnnnnppppp"), _STATUS),
    **dict.fromkeys(("cv_fft_c64", "cv_fft_c128"), (_numbers_and_pointers("pnnnpn"), _STATUS)),
    **dict.fromkeys(("cv_rfft_f32", "cv_rfft_f64"), (_numbers_and_pointers("pnnpp"), _STATUS)),
    **dict.fromkeys(("cv_irfft_c64", "cv_irfft_c128"), (_numbers_and_pointers("pnnpp"), _STATUS)),
}
"""Every function that generated code may call by name."""

IMPLIED = frozenset(
    {"memcpy", "memmove", "memset", "memcmp", "fma", "fmaf", "ldexp", "ldexpf", "frexp", "frexpf"}
)
"""Functions that LLVM itself may call, besides those of libm on the list."""

for _name in _LIBM_UNARY:
    PURE[_name] = (("f64",), "f64")
    PURE[f"{_name}f"] = (("f32",), "f32")
for _name in _LIBM_BINARY:
    PURE[_name] = (("f64", "f64"), "f64")
    PURE[f"{_name}f"] = (("f32", "f32"), "f32")
for _name, _letters in _LIBRARY.items():
    for _type in ("f32", "f64", "c64", "c128"):
        EXTERNALS[f"cv_{_name}_{_type}"] = (_numbers_and_pointers(_letters), _STATUS)
EXTERNALS.update(PURE)

_LLVM = {
    "f32": "float",
    "f64": "double",
    "ptr": "ptr",
    "void": "void",
    "i32": "i32",
    "i64": "i64",
    "u32": "i32",
    "u64": "i64",
}


def signatures() -> dict[str, Signature]:
    """What generated code may call: the functions on the list, and users' own."""
    return {**EXTERNALS, **foreign.signatures()}


def declaration(symbol: str) -> str | None:
    """The LLVM declaration of an external function.

    Args:
        symbol: its name.

    Returns:
        One line; functions of libm are declared free of effects, errno included. `None` for what
        is neither on the list nor a function of a user's.
    """
    own = foreign.find(symbol)
    signature = EXTERNALS.get(symbol) if own is None else own.signature
    if signature is None:
        return None
    params, result = signature
    attributes = " #2" if symbol in PURE or (own is not None and own.pure) else " #3"
    return f"declare {_LLVM[result]} @{symbol}({', '.join(_LLVM[p] for p in params)}){attributes}"
