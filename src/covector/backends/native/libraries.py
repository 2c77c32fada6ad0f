"""BLAS and LAPACK for generated code, through the C pointers that SciPy exports.

They are looked up when a program first needs one: importing SciPy's wrappers takes a while.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Iterable
from threading import Lock
from typing import Any

from covector import _native
from covector.core.errors import CompilationError

_SHIMS = tuple(
    f"cv_{name}_" for name in ("gemm", "trsm", "potrf", "getrf", "geqrf", "orgqr", "syevd", "gesdd")
)
_MODULES = ("scipy.linalg.cython_blas", "scipy.linalg.cython_lapack")
_INTEGER_BYTES = {"int": 4, "int32_t": 4, "long": 8, "long long": 8, "int64_t": 8, "npy_int64": 8}

_lock = Lock()
_loaded = False


def ensure_loaded(externals: Iterable[str]) -> None:
    """Makes the library functions available that some external symbols stand for.

    Args:
        externals: symbols that generated code calls.

    Raises:
        CompilationError: if SciPy does not export them as expected.
    """
    global _loaded
    if _loaded or not any(name.startswith(_SHIMS) for name in externals):
        return
    with _lock:
        if not _loaded:
            _load()
            _loaded = True


def _load() -> None:
    exported: dict[str, Any] = {}
    for module in _MODULES:
        exported.update(importlib.import_module(module).__pyx_capi__)
    missing = [name for name in _native.library_functions() if name not in exported]
    if missing:
        raise CompilationError(
            f"the installed SciPy exports no {', '.join(missing)}; install another SciPy"
        )
    for name in _native.library_functions():
        signature = _signature(exported[name])
        _native.set_library_function(
            name, _address(exported[name], signature), _integer_bytes(name, signature)
        )


def _integer_bytes(name: str, signature: str) -> int:
    """The width of the library's integers, from the type of the first integer parameter."""
    parameters = [p.strip() for p in signature.partition("(")[2].rstrip(")").split(",")]
    kinds = {p.rstrip(" *") for p in parameters} & set(_INTEGER_BYTES)
    if len(kinds) != 1:
        raise CompilationError(
            f"the integer type of SciPy's {name} is not known: its signature is {signature!r}"
        )
    return _INTEGER_BYTES[kinds.pop()]


def _signature(capsule: Any) -> str:
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype = ctypes.c_char_p
    get_name.argtypes = [ctypes.py_object]
    return get_name(capsule).decode()


def _address(capsule: Any, signature: str) -> int:
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype = ctypes.c_void_p
    get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return get_pointer(capsule, signature.encode())
