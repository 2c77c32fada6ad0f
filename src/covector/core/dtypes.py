"""Data types: what there is, canonical forms, kinds, short names; promotion is in `promotion.py`.

A dtype is a native-endian `numpy.dtype` (bfloat16's comes from ml_dtypes) or a `KeyDType`. Unless
`config.x64` is on, 64-bit dtypes that users ask for or pass in become 32-bit ones.
"""

from __future__ import annotations

import warnings
from typing import Any, Final, TypeGuard, cast

import ml_dtypes
import numpy as np

from covector.core.config import config
from covector.core.errors import compose


class extended(np.generic):  # noqa: N801 - named as NumPy names abstract scalar types
    """Abstract scalar type of dtypes that NumPy does not know."""


class prng_key(extended):  # noqa: N801 - named as NumPy names abstract scalar types
    """Abstract scalar type of PRNG keys: `issubdtype(key.dtype, prng_key)`."""


class KeyDType:
    """The dtype of PRNG keys: an array of them is opaque to arithmetic.

    Args:
        tag: short name of the generator, as in `key<fry>`.

    Raises:
        ValueError: no generator has this tag.
    """

    __slots__ = ("impl", "name", "tag", "words")

    impl: str
    """The generator, `threefry2x32`."""
    name: str
    tag: str
    words: int
    """Length of the trailing uint32 axis that holds a key."""

    type = prng_key

    def __new__(cls, tag: str = "fry") -> KeyDType:
        # One object for each generator, so that dtypes compare by identity.
        known = _key_dtypes.get(tag)
        if known is None:
            raise ValueError(f"no PRNG is called {tag!r}; there are: {', '.join(_key_dtypes)}")
        return known

    @property
    def itemsize(self) -> int:
        return 4 * self.words

    def __reduce__(self) -> tuple[Any, ...]:
        return (KeyDType, (self.tag,))

    def __repr__(self) -> str:
        return self.name


_key_dtypes: dict[str, KeyDType] = {}


def define_key_dtype(tag: str, impl: str, words: int) -> KeyDType:
    """Make the dtype for the keys of a generator.

    Args:
        tag: short name, as in `key<fry>`.
        impl: full name.
        words: how many uint32 words make a key.

    Raises:
        ValueError: the tag belongs to another generator.
    """
    known = _key_dtypes.get(tag)
    if known is not None:
        if (known.impl, known.words) != (impl, words):
            raise ValueError(f"the PRNG tag {tag!r} belongs to {known.impl} already")
        return known
    dtype = object.__new__(KeyDType)
    dtype.impl, dtype.name, dtype.tag, dtype.words = impl, f"key<{tag}>", tag, words
    _key_dtypes[tag] = dtype
    _SHORT_NAMES[dtype] = dtype.name
    _BY_SHORT_NAME[dtype.name] = dtype
    return dtype


DType = np.dtype[Any] | KeyDType

bool_: Final[np.dtype[Any]] = np.dtype(np.bool_)
int8: Final[np.dtype[Any]] = np.dtype(np.int8)
int16: Final[np.dtype[Any]] = np.dtype(np.int16)
int32: Final[np.dtype[Any]] = np.dtype(np.int32)
int64: Final[np.dtype[Any]] = np.dtype(np.int64)
uint8: Final[np.dtype[Any]] = np.dtype(np.uint8)
uint16: Final[np.dtype[Any]] = np.dtype(np.uint16)
uint32: Final[np.dtype[Any]] = np.dtype(np.uint32)
uint64: Final[np.dtype[Any]] = np.dtype(np.uint64)
float16: Final[np.dtype[Any]] = np.dtype(np.float16)
bfloat16: Final[np.dtype[Any]] = np.dtype(ml_dtypes.bfloat16)
float32: Final[np.dtype[Any]] = np.dtype(np.float32)
float64: Final[np.dtype[Any]] = np.dtype(np.float64)
complex64: Final[np.dtype[Any]] = np.dtype(np.complex64)
complex128: Final[np.dtype[Any]] = np.dtype(np.complex128)
float0: Final[np.dtype[Any]] = np.dtype([("float0", np.void, 0)])
"""The dtype of tangents of values that have no derivative: integers, booleans and keys."""

SIGNED: Final = frozenset((int8, int16, int32, int64))
UNSIGNED: Final = frozenset((uint8, uint16, uint32, uint64))
INTEGER: Final = SIGNED | UNSIGNED
FLOATING: Final = frozenset((bfloat16, float16, float32, float64))
COMPLEX: Final = frozenset((complex64, complex128))
INEXACT: Final = FLOATING | COMPLEX
NUMERIC: Final = INTEGER | INEXACT
ARRAY_DTYPES: Final = NUMERIC | {bool_}
"""Every dtype arrays may have, except those of keys and float0."""

_SHORT_NAMES: dict[DType, str] = {
    bool_: "bool",
    int8: "i8",
    int16: "i16",
    int32: "i32",
    int64: "i64",
    uint8: "u8",
    uint16: "u16",
    uint32: "u32",
    uint64: "u64",
    float16: "f16",
    bfloat16: "bf16",
    float32: "f32",
    float64: "f64",
    complex64: "c64",
    complex128: "c128",
    float0: "float0",
}
_BY_SHORT_NAME: dict[str, DType] = {name: dtype for dtype, name in _SHORT_NAMES.items()}

key_fry: Final = define_key_dtype("fry", "threefry2x32", 2)


def short_name(dtype: DType) -> str:
    """The name programs print: `f32`, `bf16`, `i32`, `u8`, `bool`, `c64`, `key<fry>`."""
    return _SHORT_NAMES[dtype]


def from_short_name(name: str) -> DType:
    """The dtype a short name stands for.

    Raises:
        ValueError: no dtype has this name.
    """
    dtype = _BY_SHORT_NAME.get(name)
    if dtype is None:
        raise ValueError(f"no dtype is called {name!r}; there are: {', '.join(_BY_SHORT_NAME)}")
    return dtype


# ---- kinds: set look-ups, because np.issubdtype takes a microsecond and misses bfloat16


def is_bool(dtype: DType) -> bool:
    """Whether it is bool."""
    return dtype is bool_ or dtype == bool_


def is_integer(dtype: DType) -> bool:
    """Whether it is a signed or unsigned integer (bool is neither)."""
    return dtype in INTEGER


def is_signed(dtype: DType) -> bool:
    """Whether it is a signed integer."""
    return dtype in SIGNED


def is_unsigned(dtype: DType) -> bool:
    """Whether it is an unsigned integer."""
    return dtype in UNSIGNED


def is_floating(dtype: DType) -> bool:
    """Whether it is a real floating-point dtype."""
    return dtype in FLOATING


def is_complex(dtype: DType) -> bool:
    """Whether it is complex."""
    return dtype in COMPLEX


def is_inexact(dtype: DType) -> bool:
    """Whether it is floating or complex: whether derivatives exist."""
    return dtype in INEXACT


def is_numeric(dtype: DType) -> bool:
    """Whether it is a number: neither bool nor a key."""
    return dtype in NUMERIC


def is_key(dtype: DType) -> TypeGuard[KeyDType]:
    """Whether it is the dtype of PRNG keys."""
    return type(dtype) is KeyDType


# ---- canonical forms

_NARROWED: dict[DType, DType] = {
    int64: int32,
    uint64: uint32,
    float64: float32,
    complex128: complex64,
}
_WIDE_FORM: dict[DType, DType] = {dtype: dtype for dtype in (*ARRAY_DTYPES, float0)}
_NARROW_FORM: dict[DType, DType] = {**_WIDE_FORM, **_NARROWED}
# Indexed by config.x64.
_CANONICAL = (_NARROW_FORM, _WIDE_FORM)
_PYTHON_SCALARS: dict[type, DType] = {
    bool: bool_,
    int: int64,
    float: float64,
    complex: complex128,
}
_WEAK_SCALARS = frozenset((int, float, complex))


def canonicalize(dtype: Any) -> Any:
    """The dtype as arrays have it: native byte order, and 32-bit when x64 is off.

    Args:
        dtype: a dtype, or anything `as_dtype` reads.

    Raises:
        TypeError: arrays cannot have this dtype.
    """
    try:
        known = _CANONICAL[config.x64].get(dtype)
    except TypeError:  # unhashable
        known = None
    if known is not None:
        return known
    exact = as_dtype(dtype)
    return _CANONICAL[config.x64].get(exact, exact)


def as_dtype(spec: Any) -> Any:
    """Read a dtype from whatever users write: a dtype, a scalar type, a name, a Python type.

    Args:
        spec: `np.float32`, `"float32"`, `np.dtype("float32")`, `"bfloat16"`, `float` (the default
            float dtype), a `KeyDType`, or an object whose `dtype` attribute is one of these.

    Returns:
        The dtype as asked for, whatever the x64 setting (but for Python types).

    Raises:
        TypeError: arrays cannot have this dtype.
    """
    if isinstance(spec, type):
        default = _PYTHON_SCALARS.get(spec)
        if default is not None:
            return _CANONICAL[config.x64][default]
    if isinstance(spec, KeyDType):
        return spec
    dtype = _read_numpy_dtype(spec)
    native = dtype.newbyteorder("=")
    known = _WIDE_FORM.get(native)
    if known is None:
        raise TypeError(_not_an_array_dtype(str(dtype)))
    return known


def _read_numpy_dtype(spec: Any) -> np.dtype[Any]:
    if isinstance(spec, np.dtype):
        return cast("np.dtype[Any]", spec)
    if spec is None:
        # NumPy takes None for float64, which would hide a forgotten argument.
        raise TypeError("a dtype is needed here, found None")
    if isinstance(spec, str) and spec == "bfloat16":
        return bfloat16
    inner = getattr(spec, "dtype", None)
    if isinstance(inner, np.dtype):
        return cast("np.dtype[Any]", inner)
    try:
        return np.dtype(spec)
    except TypeError:
        raise TypeError(_not_an_array_dtype(repr(spec))) from None


def _not_an_array_dtype(found: str) -> str:
    return compose(
        "arrays hold numbers, booleans or PRNG keys",
        found=f"dtype {found}",
        fix=f"convert to one of: {', '.join(sorted(str(d) for d in ARRAY_DTYPES))}",
    )


def requested(spec: Any, what: str = "") -> Any:
    """The canonical form of a dtype that a user asked for by name; warns where it differs.

    Args:
        spec: what the user passed as `dtype`.
        what: the function it was passed to, for the warning.

    Raises:
        TypeError: arrays cannot have this dtype.
    """
    dtype = as_dtype(spec)
    if not config.x64 and dtype in _NARROWED:
        narrowed = _NARROWED[dtype]
        _warn_of_narrowing(dtype, narrowed, what)
        return narrowed
    return dtype


# What Python's warning machinery remembers for each file: it warns once for each line.
_warned: dict[str, dict[Any, Any]] = {}


def _warn_of_narrowing(dtype: DType, narrowed: DType, what: str) -> None:
    from covector.core import source

    place = source.here()
    file, line = (place.file, place.line) if place is not None else ("<unknown>", 1)
    where = f" in {what}" if what else ""
    warnings.warn_explicit(
        f"dtype {dtype} was asked for{where}, but 64-bit dtypes are off: {narrowed} is used. "
        "Turn them on with covector.config.update('enable_x64', True), "
        "`with covector.enable_x64():` or COVECTOR_ENABLE_X64=1; "
        f"or ask for {narrowed} to silence this warning.",
        UserWarning,
        file,
        line,
        registry=_warned.setdefault(file, {}),
    )


def default_int() -> np.dtype[Any]:
    """The dtype of Python ints: int64 when x64 is on, else int32."""
    return int64 if config.x64 else int32


def default_uint() -> np.dtype[Any]:
    """The default unsigned dtype: uint64 when x64 is on, else uint32."""
    return uint64 if config.x64 else uint32


def default_float() -> np.dtype[Any]:
    """The dtype of Python floats: float64 when x64 is on, else float32."""
    return float64 if config.x64 else float32


def default_complex() -> np.dtype[Any]:
    """The dtype of Python complex numbers: complex128 when x64 is on, else complex64."""
    return complex128 if config.x64 else complex64


# ---- values


def python_scalar_dtype(kind: type) -> tuple[Any, bool]:
    """Dtype and weakness of `bool`, `int`, `float` or `complex`.

    Raises:
        KeyError: another type.
    """
    return _CANONICAL[config.x64][_PYTHON_SCALARS[kind]], kind in _WEAK_SCALARS


def dtype_of(value: Any) -> tuple[Any, bool]:
    """Dtype and weakness of an operand.

    Args:
        value: an array or tracer (whose dtype is taken as it is), a Python scalar, a NumPy array
            or scalar, or another object with a `dtype` (which is canonicalised).

    Raises:
        TypeError: it is nothing an array can be made from.
    """
    kind = value.__class__
    scalar = _PYTHON_SCALARS.get(kind)
    if scalar is not None:
        return _CANONICAL[config.x64][scalar], kind in _WEAK_SCALARS
    aval = getattr(value, "aval", None)
    if aval is not None:
        return aval.dtype, aval.weak_type
    dtype = getattr(value, "dtype", None)
    if dtype is not None:
        return canonicalize(dtype), False
    # Subclasses of Python's scalars, such as members of an IntEnum.
    for base, scalar in _PYTHON_SCALARS.items():
        if isinstance(value, base):
            return _CANONICAL[config.x64][scalar], False
    raise TypeError(
        compose(
            "an array or a number is needed here",
            found=f"{value!r:.80} of type {kind.__module__}.{kind.__qualname__}",
            fix="convert it with covector.numpy.asarray first",
        )
    )


# ---- dtypes derived from dtypes

_TO_INEXACT: dict[DType, DType] = {
    **{dtype: float32 for dtype in ARRAY_DTYPES if not is_inexact(dtype)},
    int64: float64,
    uint64: float64,
}
_REAL: dict[DType, DType] = {complex64: float32, complex128: float64}
_COMPLEX_OF: dict[DType, DType] = {
    **dict.fromkeys(ARRAY_DTYPES, complex64),
    **dict.fromkeys((int64, uint64, float64, complex128), complex128),
}


def to_inexact(dtype: DType) -> Any:
    """The floating dtype that functions like `sin` take an integer dtype to; others stay."""
    return _TO_INEXACT.get(dtype, dtype)


def to_numeric(dtype: DType) -> Any:
    """int32 for bool; other dtypes stay."""
    return int32 if is_bool(dtype) else dtype


def real_of(dtype: DType) -> Any:
    """The dtype of real parts: float32 for complex64; dtypes that are not complex stay."""
    return _REAL.get(dtype, dtype)


def complex_of(dtype: DType) -> Any:
    """The complex dtype that holds values of a dtype: complex64 for float32 and narrower."""
    return _COMPLEX_OF[dtype]


def tangent_dtype(dtype: DType) -> Any:
    """The dtype of tangents and cotangents: the same for floating and complex, else float0."""
    return dtype if dtype in INEXACT else float0


# ---- NumPy's inquiries, for these dtypes

_ABOVE_BFLOAT16 = (ml_dtypes.bfloat16, np.floating, np.inexact, np.number, np.generic)
_subtypes: dict[Any, bool] = {}


def issubdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is of a kind, as `numpy.issubdtype`, also for bfloat16 and keys.

    Args:
        dtype: a dtype, scalar type or name.
        kind: the same, or an abstract scalar type such as `np.floating` or `prng_key`.

    Example:
        >>> issubdtype(bfloat16, np.floating)
        True
    """
    key = (dtype, kind)
    try:
        known = _subtypes.get(key)
    except TypeError:  # unhashable: an object with a dtype
        return _is_subtype(dtype, kind)
    if known is None:
        # Not kept for names of the caller's making: the memo stays as small as the set of dtypes.
        known = _is_subtype(dtype, kind)
        if len(_subtypes) < 4096:
            _subtypes[key] = known
    return known


def _is_subtype(dtype: Any, kind: Any) -> bool:
    if isinstance(kind, KeyDType):
        return dtype is kind
    lower, upper = _scalar_type(dtype), _scalar_type(kind)
    if lower is ml_dtypes.bfloat16:
        return upper in _ABOVE_BFLOAT16
    return issubclass(lower, upper)


def _scalar_type(spec: Any) -> type[Any]:
    if isinstance(spec, KeyDType):
        return spec.type
    if isinstance(spec, type) and issubclass(spec, np.generic):
        return cast("type[Any]", spec)
    return np.dtype(cast("Any", spec)).type


_float_limits: dict[np.dtype[Any], Any] = {}
_read_float_limits: Any = ml_dtypes.finfo


def finfo(dtype: Any) -> Any:
    """Limits of a floating or complex dtype, as `numpy.finfo`, also for bfloat16.

    Args:
        dtype: a dtype, anything `as_dtype` reads, or an array.

    Raises:
        ValueError: the dtype is not inexact.
    """
    exact = as_dtype(dtype)
    known = _float_limits.get(exact)
    if known is None:
        if not is_inexact(exact):
            raise ValueError(f"finfo is for floating and complex dtypes, found {exact}; see iinfo")
        known = _float_limits[exact] = _read_float_limits(exact)
    return known


def iinfo(dtype: Any) -> Any:
    """Limits of an integer dtype, as `numpy.iinfo`.

    Args:
        dtype: a dtype, anything `as_dtype` reads, or an array.

    Raises:
        ValueError: the dtype is not an integer.
    """
    exact = as_dtype(dtype)
    if not is_integer(exact):
        raise ValueError(f"iinfo is for integer dtypes, found {exact}; see finfo")
    return np.iinfo(exact)
