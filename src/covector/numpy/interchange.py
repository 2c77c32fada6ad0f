"""Arrays as bytes, as files, as text, and as arrays of other libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from covector.core import dtypes
from covector.core.array import Array, as_array
from covector.core.errors import ConcretizationTypeError, compose
from covector.core.source import here
from covector.numpy.creation import asarray
from covector.numpy.manipulation import reshape
from covector.numpy.promote import constant, convert
from covector.ops import elementwise as el

__all__ = [
    "array_repr",
    "array_str",
    "from_dlpack",
    "frombuffer",
    "fromstring",
    "get_printoptions",
    "load",
    "printoptions",
    "save",
    "savez",
    "set_printoptions",
]

# --- bits ---------------------------------------------------------------------------------------


def view(x: Any, dtype: Any = None, type: None = None) -> Any:
    """The same bits as another dtype; the last axis changes its size with that of the elements.

    Args:
        x: an array.
        dtype: of the result.
        type: must be `None`.

    Raises:
        ValueError: the last axis does not hold a whole number of elements.
    """
    if type is not None:
        raise NotImplementedError("view: type= is not supported")
    if dtype is None:
        return x
    target = dtypes.requested(dtype, "view")
    if target == x.dtype:
        return x
    if dtypes.is_bool(x.dtype):
        return view(convert(x, dtypes.uint8), target)
    if dtypes.is_bool(target):
        words = view(x, dtypes.uint8)
        return el.ne(words, constant(0, dtypes.uint8))
    if dtypes.is_complex(x.dtype):
        return view(_parts(x), target)
    if dtypes.is_complex(target):
        parts = view(x, dtypes.real_of(target))
        if not parts.ndim or parts.shape[-1] % 2:
            raise _wrong_size(x, target)
        return el.complex_(parts[..., 0::2], parts[..., 1::2])
    return _as_dtype(x, target)


def _parts(x: Any) -> Any:
    """Complex numbers as pairs of real ones along the last axis."""
    from covector.numpy.joining import stack

    pairs = stack([el.real(x), el.imag(x)], axis=-1)
    return reshape(pairs, (*x.shape[:-1], 2 * x.shape[-1])) if x.ndim else pairs


def _as_dtype(x: Any, target: Any) -> Any:
    old, new = x.dtype.itemsize, target.itemsize
    if old == new:
        return el.bitcast_convert_type(x, new_dtype=target)
    if not x.ndim or (x.shape[-1] * old) % new:
        raise _wrong_size(x, target)
    if old < new:
        x = reshape(x, (*x.shape[:-1], x.shape[-1] * old // new, new // old))
        return el.bitcast_convert_type(x, new_dtype=target)
    parts = el.bitcast_convert_type(x, new_dtype=target)
    return reshape(parts, (*x.shape[:-1], x.shape[-1] * old // new))


def _wrong_size(x: Any, target: Any) -> ValueError:
    return ValueError(
        compose(
            f"view as {target} needs a last axis that holds a whole number of elements",
            found=str(x.aval),
            line=here(),
        )
    )


# --- bytes and other libraries ------------------------------------------------------------------


def frombuffer(buffer: Any, dtype: Any = float, count: int = -1, offset: int = 0) -> Any:
    """An array of the numbers in a buffer of bytes.

    Args:
        buffer: bytes, or another object with the buffer protocol.
        dtype: of the numbers.
        count: how many to read; all by default.
        offset: where to begin, in bytes.
    """
    found = np.frombuffer(buffer, dtypes.as_dtype(dtype), count, offset)
    return as_array(cast("np.ndarray[Any, Any]", found))


def fromstring(string: str, dtype: Any = float, count: int = -1, *, sep: str) -> Any:
    """An array of the numbers in a text.

    Args:
        string: the text.
        dtype: of the numbers.
        count: how many to read; all by default.
        sep: what stands between them.
    """
    found: Any = np.fromstring(string, dtypes.as_dtype(dtype), count, sep=sep)
    return as_array(found)


def from_dlpack(x: Any, /, *, device: None = None, copy: bool | None = None) -> Any:
    """An array of another library as one of ours; the data is copied.

    Args:
        x: an array with the DLPack protocol, in main memory.
        device: must be `None`: there is one.
        copy: must not be `False`.
    """
    if device is not None or copy is False:
        raise NotImplementedError("from_dlpack: there is one device, and data is always copied")
    if isinstance(x, Array):
        return x
    return as_array(cast("np.ndarray[Any, Any]", np.from_dlpack(x)))


# --- files and text -----------------------------------------------------------------------------


def save(file: Any, arr: Any, allow_pickle: bool = False) -> None:
    """Writes an array to a file that `load` reads.

    Args:
        file: a path or an open file.
        arr: an array.
        allow_pickle: must be `False`: files of pickles can run code when they are read.
    """
    _no_pickle("save", allow_pickle)
    np.save(file, _known("save", arr), allow_pickle=False)


def savez(file: Any, *args: Any, allow_pickle: bool = False, **kwds: Any) -> None:
    """Writes several arrays to a file that `load` reads.

    Args:
        file: a path or an open file.
        args: arrays; they are called `arr_0`, `arr_1` ...
        allow_pickle: must be `False`: files of pickles can run code when they are read.
        kwds: more arrays, by name.
    """
    _no_pickle("savez", allow_pickle)
    named = {k: _known("savez", v) for k, v in kwds.items()}
    # NumPy's stub takes any keyword for `allow_pickle`.
    write: Any = np.savez
    write(file, *[_known("savez", a) for a in args], **named)


def load(file: Any, *args: Any, **kwargs: Any) -> Any:
    """Reads what `save` or `savez` wrote.

    Args:
        file: a path or an open file.
        args: further arguments of `numpy.load`.
        kwargs: likewise.

    Returns:
        An array; for a file with several, a mapping from names to NumPy arrays.
    """
    _no_pickle("load", kwargs.pop("allow_pickle", False))
    found: Any = np.load(file, *args, allow_pickle=False, **kwargs)
    return as_array(found) if isinstance(found, np.ndarray) else found


def _no_pickle(name: str, allow_pickle: bool) -> None:
    if allow_pickle:
        raise ValueError(f"{name}: pickles are not read or written, as reading one can run code")


def _known(name: str, x: Any) -> np.ndarray[Any, Any]:
    array = asarray(x)
    known = array.concrete()
    if known is None:
        raise ConcretizationTypeError(
            compose(
                f"{name} needs values known while tracing",
                found=f"a traced value {array.aval} of {array._trace.name}",
                fix=f"call {name} outside of jit, or by a callback",
                line=here(),
            )
        )
    return np.asarray(known)


def array_repr(
    arr: Any,
    max_line_width: int | None = None,
    precision: int | None = None,
    suppress_small: bool | None = None,
) -> str:
    """The text of an array with its type, as NumPy writes it."""
    return np.array_repr(_known("array_repr", arr), max_line_width, precision, suppress_small)


def array_str(
    a: Any,
    max_line_width: int | None = None,
    precision: int | None = None,
    suppress_small: bool | None = None,
) -> str:
    """The text of the numbers of an array, as NumPy writes it."""
    return np.array_str(_known("array_str", a), max_line_width, precision, suppress_small)


get_printoptions: Callable[..., Any] = np.get_printoptions
set_printoptions: Callable[..., Any] = np.set_printoptions
printoptions: Callable[..., Any] = np.printoptions
