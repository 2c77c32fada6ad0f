"""Addresses of C functions, from the objects that libraries have for them."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from covector.core import dtypes
from covector.core.errors import compose
from covector.extend.prototypes import TYPES


class Pointer(NamedTuple):
    """A C function.

    Attributes:
        address: in this process.
        owner: what keeps it in memory.
        params: what it says of its parameters: "ptr" or short names of dtypes; `None` if nothing.
        result: likewise of its result.
        place: library and symbol, if that is what it was found by.
    """

    address: int
    owner: Any
    params: tuple[str, ...] | None = None
    result: str | None = None
    place: tuple[str, str] | None = None


_CTYPES: Any = ctypes.CFUNCTYPE(None).__base__
"""What all functions of ctypes are instances of."""


def resolve(function: Any) -> Pointer:
    """Finds out what an object stands for.

    Args:
        function: a ctypes function, a cffi function pointer, what `numba.cfunc` makes, a
            `scipy.LowLevelCallable`, a pair of a library's path and a symbol, or an address.

    Returns:
        The function.

    Raises:
        TypeError: for other objects.
        OSError: if there is no such library.
        ValueError: if it has no such symbol, or the address is null.
    """
    found = _resolve(function)
    if not found.address:
        raise ValueError(f"{function!r} is a null pointer")
    _keep_library(found.address)
    return found


class _Symbol(ctypes.Structure):
    """What `dladdr` tells of an address (`Dl_info`)."""

    _fields_ = (
        ("path", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("nearest", ctypes.c_void_p),
    )


def _keep_library(address: int) -> None:
    """Keeps the library that an address is in from being unloaded.

    Programs call it for as long as the process lasts, while a pointer (of cffi, say) may not keep
    its library, which goes with the object that opened it.
    """
    dladdr = getattr(ctypes.CDLL(None), "dladdr", None)
    found = _Symbol()
    if dladdr is None or not dladdr(ctypes.c_void_p(address), ctypes.byref(found)):
        return  # compiled at run time, so that its owner keeps it
    path: bytes | None = found.path
    if path:
        with contextlib.suppress(OSError):  # the executable itself
            ctypes.CDLL(os.fsdecode(path), os.RTLD_NOLOAD | os.RTLD_NOW)  # ctypes never closes


def _resolve(function: Any) -> Pointer:
    kind = cast("type[Any]", type(function))
    if kind.__name__ == "LowLevelCallable" and kind.__module__.startswith("scipy."):
        return _low_level(function)
    if isinstance(function, tuple):
        return _in_library(cast("tuple[Any, ...]", function))
    if isinstance(function, _CTYPES):
        return _of_ctypes(function)
    if kind.__module__ == "_cffi_backend" and kind.__name__ != "CompiledLib":
        return _of_cffi(function)
    if isinstance(getattr(function, "address", None), int) and hasattr(function, "_sig"):
        return _of_numba(function)
    if kind is int:
        return Pointer(function, None)
    raise TypeError(
        compose(
            "a foreign function is given by something that has its address",
            found=f"a {kind.__module__}.{kind.__qualname__}",
            fix="pass a ctypes function, a cffi function pointer (ffi.addressof(lib, 'name')), a "
            "numba.cfunc, a scipy.LowLevelCallable, or (path of a library, symbol)",
        )
    )


# --- a symbol of a library ------------------------------------------------------------------------


def _in_library(pair: Sequence[Any]) -> Pointer:
    if len(pair) != 2 or not isinstance(pair[1], str):
        raise TypeError(f"a place in a library is a pair (path, symbol), got {pair!r}")
    path, symbol = str(os.fspath(cast("str", pair[0]))), pair[1]
    library = ctypes.CDLL(path)
    try:
        found = library[symbol]
    except AttributeError:
        raise ValueError(
            compose(
                f"the library {path} has no symbol {symbol}",
                fix='declare it extern "C" if it is C++, and see what `nm -D` lists',
            )
        ) from None
    return Pointer(_address(found), library, place=(path, symbol))


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


# --- ctypes ---------------------------------------------------------------------------------------

_ADDRESSES = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_wchar_p)


def _of_ctypes(function: Any) -> Pointer:
    if function.argtypes is None:  # nobody has declared it, and the result is int by default
        return Pointer(_address(function), function)
    params = tuple([_ctypes_kind(t) for t in function.argtypes])
    return Pointer(_address(function), function, params, _ctypes_kind(function.restype))


def _ctypes_kind(type_: Any) -> str:
    if type_ is None:
        return "void"
    if isinstance(type_, type) and issubclass(type_, _ADDRESSES):
        return "ptr"
    try:
        dtype = np.dtype(cast("Any", type_))
    except TypeError:
        return "ptr"
    return "ptr" if dtype.kind in "OSV" else dtypes.short_name(dtype)


# --- cffi -----------------------------------------------------------------------------------------


def _of_cffi(function: Any) -> Pointer:
    ffi = importlib.import_module("cffi").FFI()
    try:
        type_ = ffi.typeof(function)
    except TypeError:
        type_ = None
    if type_ is not None and type_.kind == "pointer":
        type_ = type_.item
    if type_ is None or type_.kind != "function":
        raise TypeError(
            compose(
                "a foreign function of cffi is given by a pointer to it",
                found=repr(function),
                fix="ffi.addressof(lib, 'name') gives one",
            )
        )
    params = tuple([_cffi_kind(t) for t in type_.args])
    return Pointer(int(ffi.cast("uintptr_t", function)), function, params, _cffi_kind(type_.result))


def _cffi_kind(type_: Any) -> str:
    if type_.kind in ("pointer", "array"):
        return "ptr"
    return _named(type_.cname)


def _named(name: str) -> str:
    """The short name of a type of C; its own name if there is none."""
    if name not in TYPES:
        return name
    dtype = TYPES[name]
    return "void" if dtype is None else dtypes.short_name(dtype)


# --- numba ----------------------------------------------------------------------------------------


def _of_numba(function: Any) -> Pointer:
    signature = function._sig
    params = tuple([_numba_kind(str(t)) for t in signature.args])
    return Pointer(function.address, function, params, _numba_kind(str(signature.return_type)))


def _numba_kind(name: str) -> str:
    if name == "none":
        return "void"
    if name.startswith(("CPointer", "voidptr")) or name.endswith("*"):
        return "ptr"
    try:
        return dtypes.short_name(np.dtype(name))
    except TypeError:
        return name


# --- scipy ----------------------------------------------------------------------------------------


def _low_level(function: Any) -> Pointer:
    if function.user_data is not None:
        raise TypeError(
            compose(
                "a foreign function gets its operands alone",
                found="a LowLevelCallable with user_data",
                fix="make what it points to an operand",
            )
        )
    inner = function.function
    if isinstance(inner, _CTYPES):
        return _of_ctypes(inner)._replace(owner=function)
    capsule: Any = cast("Any", tuple).__getitem__(function, 0)  # which it hides
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    signature: bytes = name(capsule)
    head, _, rest = signature.decode().partition("(")
    params = [_abstract(p) for p in rest.rpartition(")")[0].split(",") if p.strip()]
    return Pointer(pointer(capsule, signature) or 0, function, tuple(params), _abstract(head))


def _abstract(text: str) -> str:
    """The short name of a type in a signature such as `double (int n, double *)`."""
    words = text.split()
    if " ".join(words) not in TYPES:
        words = words[:-1]
    return "ptr" if "*" in text else _named(" ".join(words))
