"""BLAS and LAPACK for generated code, through the C pointers that SciPy exports.

They are looked up when a program first needs one: importing SciPy's wrappers takes a while.
"""

from __future__ import annotations

import ctypes
import importlib
import itertools
from collections.abc import Iterable
from threading import Lock
from types import ModuleType
from typing import Any

from covector import _native
from covector.core.errors import CompilationError

_SHIMS = tuple(
    f"cv_{name}_" for name in ("gemm", "trsm", "potrf", "getrf", "geqrf", "orgqr", "syevd", "gesdd")
)
_MODULES = ("scipy.linalg.cython_blas", "scipy.linalg.cython_lapack")
_INTEGER_BYTES = {"int": 4, "int32_t": 4, "long": 8, "long long": 8, "int64_t": 8, "npy_int64": 8}

_OPENMP = ("get_max_threads", "set_num_threads")
"""What OpenMP has for the calling thread, which libraries that use it obey."""

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
    _native.set_library_threads(*_thread_functions(importlib.import_module(_MODULES[0])))


def _thread_functions(module: ModuleType) -> tuple[int, int, bool]:
    """How the threads of the library are counted behind an extension module that is linked to it.

    Args:
        module: that module.

    Returns:
        The addresses of functions that get and set how many there are, 0 where there is none, and
        whether that number is the calling thread's own: see `set_library_threads`.
    """
    # Names are looked up in the module and all that it depends on.
    library = ctypes.CDLL(str(module.__file__))
    for start, end in itertools.product(("scipy_", ""), ("", "64_", "_64")):
        get, of_parallel, change = [
            _symbol(library, f"{start}openblas_{name}{end}")
            for name in ("get_num_threads", "get_parallel", "set_num_threads")
        ]
        if get and change and of_parallel and ctypes.CFUNCTYPE(ctypes.c_int)(of_parallel)() == 1:
            return get, change, False
    change = _symbol(library, "MKL_Set_Num_Threads_Local")
    if change:
        return 0, change, True
    get, change = (_symbol(library, f"omp_{name}") for name in _OPENMP)
    return (get, change, True) if get and change else (0, 0, False)


def _symbol(library: ctypes.CDLL, name: str) -> int:
    """The address of a function; 0 if there is none."""
    try:
        return ctypes.cast(library[name], ctypes.c_void_p).value or 0
    except AttributeError:
        return 0


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
