"""JAX's avals, arrays, parameter values and source information as Covector's.

Objects of JAX are known by their attributes, not by their classes, which move between versions.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from covector.core import dtypes
from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.params import param_fields, param_type
from covector.core.program import Literal
from covector.core.shapes import parse_dim
from covector.core.source import SourceLocation


class JaxprError(NotImplementedError):
    """A jaxpr holds something that Covector has no counterpart for; the message says what."""


def convert_dtype(dtype: Any) -> Any:
    """The dtype, NumPy's own or that of PRNG keys.

    Raises:
        JaxprError: Covector has no such dtype.
    """
    name = str(dtype)
    try:
        if name.startswith("key<"):
            return dtypes.from_short_name(name)
        return dtypes.float0 if name.startswith("[('float0'") else dtypes.as_dtype(dtype)
    except (TypeError, ValueError) as error:
        raise JaxprError(f"there is no dtype {name}") from error


def convert_aval(aval: Any) -> Aval:
    """Shape, dtype and weak type of a `ShapedArray`.

    Raises:
        JaxprError: the value is no array: a token or a mutable reference.
    """
    shape, dtype = getattr(aval, "shape", None), getattr(aval, "dtype", None)
    if shape is None or dtype is None or "Ref" in type(aval).__name__:
        raise JaxprError(f"{aval} is not an array")
    return Aval(convert_shape(shape), convert_dtype(dtype), bool(getattr(aval, "weak_type", False)))


def convert_shape(shape: Sequence[Any]) -> tuple[Any, ...]:
    """Sizes as integers, symbolic ones as `Dim`s."""
    return tuple([_convert_size(size) for size in shape])


def _convert_size(size: Any) -> Any:
    if hasattr(size, "__index__") and type(size).__name__ != "_DimExpr":
        return int(size)
    try:
        return parse_dim(str(size).replace("^", "**"))
    except ValueError as error:
        raise JaxprError(f"the symbolic dimension {size} has no counterpart") from error


def convert_array(value: Any, aval: Aval) -> Literal:
    """A constant of a jaxpr."""
    if isinstance(aval.dtype, dtypes.KeyDType):
        import jax

        data = np.asarray(jax.random.key_data(value))
    elif aval.dtype == dtypes.float0:
        data = np.zeros(aval.shape, dtypes.float0)
    else:
        data = np.array(value, aval.dtype, order="C")
    return Literal(Array.of(data, aval), aval)


def convert_param(value: Any) -> Any:
    """A parameter value other than a jaxpr.

    Raises:
        JaxprError: it is of a kind that has no counterpart.
    """
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return value
    kind = cast("type[Any]", type(value))
    if issubclass(kind, enum.Enum):
        return _convert_enum(value)
    cls: Any = param_type(kind.__name__)
    if cls is not None:
        fields = param_fields(cls) or ()
        return cls(**{field: convert_param(getattr(value, field)) for field in fields})
    convert = _BY_NAME.get(kind.__name__)
    if convert is not None:
        return convert(value)
    if isinstance(value, np.dtype | type):
        return convert_dtype(cast("Any", value))
    if hasattr(value, "item"):  # a NumPy scalar
        return value.item()
    raise JaxprError(f"a parameter of type {kind.__name__} has no counterpart: {value!r:.80}")


def _convert_items(values: Any) -> Any:
    return tuple([convert_param(item) for item in values])


_BY_NAME: dict[str, Callable[[Any], Any]] = {
    "tuple": _convert_items,
    "list": _convert_items,
    "KeyTy": convert_dtype,
    "PRNGImpl": lambda implementation: implementation.tag,
    "_DimExpr": _convert_size,
}


def _convert_enum(value: enum.Enum) -> Any:
    cls: Any = param_type(type(value).__name__)
    return cls[value.name] if cls is not None else value.name


def convert_source(info: Any) -> tuple[SourceLocation | None, str]:
    """Where an equation was traced, outside of JAX itself, and its scope."""
    scope = str(getattr(info, "name_stack", "") or "")
    traceback = getattr(info, "traceback", None)
    for frame in getattr(traceback, "frames", ()):
        if not frame.file_name.startswith(_jax_folders()):
            return SourceLocation(frame.file_name, frame.line_num, frame.function_name), scope
    return None, scope


_folders: list[str] = []


def _jax_folders() -> tuple[str, ...]:
    if not _folders:
        import jax
        import jaxlib

        for module in (jax, jaxlib):
            _folders.append(os.path.dirname(str(module.__file__)) + os.sep)
    return tuple(_folders)
