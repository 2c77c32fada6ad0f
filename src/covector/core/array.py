"""`Array`: the immutable array users hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from covector import _native
from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.operand import Operand


class Array(_native.ArrayBase, Operand):
    """An immutable n-dimensional array.

    Arrays are made by `covector.numpy` functions and by transformed functions, not by calling
    this class. They share the protocols of `numpy.ndarray`; `x.at[i].set(v)` takes the place of
    assignment.
    """

    __slots__ = ()

    @staticmethod
    def of(value: np.ndarray[Any, Any], aval: Aval) -> Array:
        """Wraps NumPy data that nobody else writes to."""
        if type(aval.dtype) is dtypes.KeyDType:
            return KeyArray(value, owned=True, aval=aval, extended=1)
        return Array(value, aval.weak_type, owned=True, aval=aval)

    @property
    def aval(self) -> Aval:
        """Shape, dtype and weak type."""
        aval = self._aval
        if aval is None:
            value = self._value
            aval = self._aval = Aval(value.shape, value.dtype, self.weak_type)
        return aval

    def concrete(self) -> Array:
        """Itself: arrays always know their value."""
        return self

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self._value, dtype=dtype, copy=copy)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __int__(self) -> int:
        return int(self._value)

    def __float__(self) -> float:
        return float(self._value)

    def __complex__(self) -> complex:
        return complex(self._value)

    def __index__(self) -> int:
        return self._value.__index__()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d array")
        return self.shape[0]

    def __repr__(self) -> str:
        text = np.array2string(self._value, separator=", ", prefix="Array(")
        weak = ", weak_type=True" if self.weak_type else ""
        return f"Array({text}, dtype={self._value.dtype}{weak})"

    def __str__(self) -> str:
        return str(self._value)

    def __format__(self, spec: str) -> str:
        return format(self._value[()], spec) if self.ndim == 0 else format(self._value, spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (np.array(self._value), self.aval.weak_type))

    def __copy__(self) -> Array:
        return self

    def __deepcopy__(self, memo: Any) -> Array:
        return self


class KeyArray(Array):
    """An array of PRNG keys; its data holds a trailing axis of words."""

    __slots__ = ()

    @property
    def dtype(self) -> Any:
        return self.aval.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        raise TypeError(
            "PRNG keys have no NumPy representation: use random.key_data(keys) for their words"
        )

    def __repr__(self) -> str:
        return f"Array({self.aval.shape}, dtype={self.aval.dtype}) overlaying:\n{self._value}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore_keys, (np.array(self._value), self.aval.shape, self.aval.dtype))


def _restore(value: np.ndarray[Any, Any], weak_type: bool) -> Array:
    value = _with_known_dtype(value, dtypes.from_short_name(dtypes.short_name(value.dtype)))
    return Array.of(value, Aval(value.shape, value.dtype, weak_type))


def _with_known_dtype(value: np.ndarray[Any, Any], dtype: Any) -> np.ndarray[Any, Any]:
    """The array with the one object that stands for its dtype: unpickled arrays have another."""
    return value if value.dtype is dtype else value.view(dtype)


def _restore_keys(value: np.ndarray[Any, Any], shape: tuple[int, ...], dtype: Any) -> Array:
    return Array.of(value, Aval(shape, dtype))


_native.register_array_class(Array)


def as_array(value: Any) -> Array:
    """An operand as an `Array`; dtypes are canonicalised, NumPy data is copied.

    Args:
        value: an `Array`, NumPy array or scalar, or Python scalar (which gives a weak type).

    Raises:
        TypeError: for anything else.
    """
    if isinstance(value, Array):
        return value
    dtype, weak = dtypes.dtype_of(value)
    data = _with_known_dtype(np.array(value, dtype=dtype, order="C"), dtype)
    return Array.of(data, Aval(data.shape, dtype, weak))
