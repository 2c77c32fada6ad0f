"""Dtypes by name, and questions about dtypes, shapes and values."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from covector.core import dtypes, promotion
from covector.core.array import Array
from covector.core.trace import Tracer, aval_of
from covector.numpy.creation import asarray
from covector.numpy.promote import convert, operand
from covector.ops import elementwise as el

__all__ = [
    "astype",
    "bfloat16",
    "bool",
    "bool_",
    "can_cast",
    "cdouble",
    "character",
    "complex64",
    "complex128",
    "complex_",
    "complexfloating",
    "csingle",
    "double",
    "dtype",
    "finfo",
    "flexible",
    "float16",
    "float32",
    "float64",
    "float_",
    "floating",
    "generic",
    "iinfo",
    "inexact",
    "int8",
    "int16",
    "int32",
    "int64",
    "int_",
    "integer",
    "iscomplexobj",
    "isdtype",
    "isrealobj",
    "isscalar",
    "issubdtype",
    "iterable",
    "ndim",
    "number",
    "promote_types",
    "result_type",
    "shape",
    "signedinteger",
    "single",
    "size",
    "uint",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "unsignedinteger",
]

# --- names of dtypes ----------------------------------------------------------------------------


class _ScalarMeta(type):
    """The type of `float32` and the like: they are dtypes to whom asks, and make arrays."""

    dtype: np.dtype[Any]

    def __call__(cls, value: Any) -> Any:
        return asarray(value, cls.dtype)

    def __eq__(cls, other: Any) -> Any:
        return cls is other or cls.dtype.type == other or cls.dtype == other

    def __ne__(cls, other: object) -> Any:
        return not cls == other

    def __hash__(cls) -> int:
        return hash(cls.dtype.type)

    def __instancecheck__(cls, instance: Any) -> Any:
        return isinstance(instance, cls.dtype.type)


def _scalar(dtype: np.dtype[Any], name: str | None = None) -> Any:
    name = name or dtype.name
    text = f"The dtype {dtype.name}; called with a value, an array of it."
    return _ScalarMeta(name, (), {"dtype": dtype, "__doc__": text, "__module__": "covector.numpy"})


bool_ = bool = _scalar(dtypes.bool_, "bool")
int8 = _scalar(dtypes.int8)
int16 = _scalar(dtypes.int16)
int32 = _scalar(dtypes.int32)
int64 = int_ = _scalar(dtypes.int64)
uint8 = _scalar(dtypes.uint8)
uint16 = _scalar(dtypes.uint16)
uint32 = _scalar(dtypes.uint32)
uint64 = uint = _scalar(dtypes.uint64)
float16 = _scalar(dtypes.float16)
bfloat16 = _scalar(dtypes.bfloat16)
float32 = single = _scalar(dtypes.float32)
float64 = double = float_ = _scalar(dtypes.float64)
complex64 = csingle = _scalar(dtypes.complex64)
complex128 = cdouble = complex_ = _scalar(dtypes.complex128)

dtype = np.dtype
generic, number, integer, inexact = np.generic, np.number, np.integer, np.inexact
signedinteger, unsignedinteger = np.signedinteger, np.unsignedinteger
floating, complexfloating = np.floating, np.complexfloating
flexible, character = np.flexible, np.character

# --- questions about dtypes ---------------------------------------------------------------------

finfo = dtypes.finfo
iinfo = dtypes.iinfo


def _plain(spec: Any) -> Any:
    return spec.dtype if type(spec) is _ScalarMeta else spec


def issubdtype(arg1: Any, arg2: Any) -> Any:
    """Whether a dtype is of a kind, as `numpy.issubdtype`, also for bfloat16 and keys.

    Args:
        arg1: a dtype, scalar type or name.
        arg2: the same, or an abstract type such as `floating`.

    >>> import covector.numpy as cnp
    >>> cnp.issubdtype(cnp.bfloat16, cnp.floating)
    True
    """
    return dtypes.issubdtype(_plain(arg1), _plain(arg2))


_KINDS: dict[str, frozenset[Any]] = {
    "bool": frozenset({dtypes.bool_}),
    "signed integer": dtypes.SIGNED,
    "unsigned integer": dtypes.UNSIGNED,
    "integral": dtypes.INTEGER,
    "real floating": dtypes.FLOATING,
    "complex floating": dtypes.COMPLEX,
    "numeric": dtypes.NUMERIC,
}


def isdtype(dtype: Any, kind: Any) -> Any:
    """Whether a dtype is of a kind (the array API's `isdtype`).

    Args:
        dtype: a dtype, scalar type or name.
        kind: a dtype, "bool", "signed integer", "unsigned integer", "integral",
            "real floating", "complex floating", "numeric", or a tuple of these.

    Raises:
        ValueError: for another kind.
    """
    found = dtypes.as_dtype(dtype)
    for one in cast("tuple[Any, ...]", kind if isinstance(kind, tuple) else (kind,)):
        if not isinstance(one, str):
            matches = dtypes.as_dtype(one) == found
        elif one in _KINDS:
            matches = found in _KINDS[one]
        elif one in dtypes_by_name():
            matches = dtypes.as_dtype(one) == found
        else:
            raise ValueError(f"isdtype: there is no kind {one!r}; kinds are {', '.join(_KINDS)}")
        if matches:
            return True
    return False


def dtypes_by_name() -> frozenset[str]:
    """The names of the dtypes that arrays may have."""
    return frozenset(d.name for d in dtypes.ARRAY_DTYPES)


def promote_types(a: Any, b: Any) -> Any:
    """The dtype in which two dtypes meet.

    Args:
        a: a dtype, scalar type or name.
        b: another.

    >>> import covector.numpy as cnp
    >>> cnp.promote_types("int32", "float16")
    dtype('float16')
    """
    return promotion.promote_types(_plain(a), _plain(b))


def result_type(*args: Any) -> Any:
    """The dtype in which arrays, numbers and dtypes meet.

    Raises:
        ValueError: there are no arguments.

    >>> import covector.numpy as cnp
    >>> cnp.result_type(cnp.float16, 1.0)
    dtype('float16')
    """
    return promotion.result_type(*map(_plain, args))[0]


def can_cast(from_: Any, to: Any, casting: Any = "safe") -> Any:
    """Whether values of a dtype convert to another under NumPy's casting rule.

    Args:
        from_: a dtype, scalar type or name.
        to: another.
        casting: "no", "equiv", "safe", "same_kind" or "unsafe".
    """
    return np.can_cast(_numpy_dtype(from_), _numpy_dtype(to), casting)


def _numpy_dtype(spec: Any) -> np.dtype[Any]:
    return np.dtype(_plain(spec))


def astype(x: Any, dtype: Any, /, *, copy: Any = False, device: None = None) -> Any:
    """An array in another dtype.

    Args:
        x: an array.
        dtype: of the result; complex numbers lose their imaginary part.
        copy: arrays are immutable, so that copies and originals cannot be told apart.
        device: must be `None`: there is one.
    """
    if device is not None:
        raise NotImplementedError(f"astype: there are no devices to choose from, got {device!r}")
    x = operand(x, "astype")
    target = dtypes.default_float() if dtype is None else dtypes.requested(dtype, "astype")
    if dtypes.is_complex(x.dtype) and not dtypes.is_complex(target) and target != dtypes.bool_:
        x = el.real(x)
    if target == dtypes.bool_ and x.dtype != dtypes.bool_:
        return el.ne(x, el.convert_element_type(0, new_dtype=x.dtype, weak_type=False))
    return convert(x, target)


# --- questions about values ---------------------------------------------------------------------


def shape(a: Any) -> tuple[Any, ...]:
    """The sizes of the axes."""
    return tuple(np.shape(cast("Any", a))) if isinstance(a, (list, tuple)) else aval_of(a).shape


def ndim(a: Any) -> int:
    """The number of axes."""
    return len(shape(a))


def size(a: Any, axis: Any = None) -> Any:
    """The number of elements, of the whole or along axes."""
    extents = shape(a)
    if axis is None:
        axis = tuple(range(len(extents)))
    total: Any = 1
    several = isinstance(axis, (tuple, list))
    for k in cast("tuple[int, ...]", axis) if several else (axis,):
        total = total * extents[k]
    return total


def isscalar(element: Any) -> Any:
    """Whether it is a number, or an array without axes."""
    if isinstance(element, (Array, Tracer)):
        return element.ndim == 0
    return np.isscalar(element)


def iscomplexobj(x: Any) -> Any:
    """Whether the dtype is complex, whatever the values."""
    if isinstance(x, (list, tuple)):
        x = asarray(x)
    return dtypes.is_complex(aval_of(x).dtype)


def isrealobj(x: Any) -> Any:
    """Whether the dtype is not complex, whatever the values."""
    return not iscomplexobj(x)


def iterable(y: Any) -> Any:
    """Whether it can be iterated over; arrays without axes cannot."""
    if isinstance(y, (Array, Tracer)):
        return y.ndim > 0
    return np.iterable(y)
