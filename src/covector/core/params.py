"""Parameter types that print by name: enumerations, named tuples, dataclasses.

Programs print and parse parameters of Python's built-in types, dtypes, dimensions and nested
programs; any other type of parameter that should survive the round trip is registered here.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, TypeVar

T = TypeVar("T", bound=type)

_by_name: dict[str, type] = {}
_fields: dict[type, tuple[str, ...]] = {}


def register_param_type(cls: T) -> T:
    """Lets a type appear in the parameters of equations; usable as a decorator.

    Args:
        cls: an `Enum`, or a named tuple or dataclass that is its fields and nothing else.

    Returns:
        The class itself.

    Raises:
        TypeError: it is none of these.
        ValueError: another class of this name is registered.

    Example:
        >>> @register_param_type
        ... class BoundaryCondition(enum.Enum):
        ...     DIRICHLET = 0
        ...     NEUMANN = 1
    """
    fields = _field_names(cls)
    known = _by_name.get(cls.__name__)
    if known is not None and _origin(known) != _origin(cls):
        raise ValueError(
            f"a parameter type named {cls.__name__} is registered already: {_origin(known)}"
        )
    _by_name[cls.__name__] = cls
    _fields[cls] = fields
    return cls


def _field_names(cls: Any) -> tuple[str, ...]:
    if issubclass(cls, enum.Enum):
        return ()
    if dataclasses.is_dataclass(cls):
        return tuple(f.name for f in dataclasses.fields(cls))
    fields = getattr(cls, "_fields", None)
    if issubclass(cls, tuple) and fields is not None:
        return tuple(fields)
    raise TypeError(
        f"a parameter type is an enumeration, a named tuple or a dataclass, found {cls!r}"
    )


def _origin(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def param_type(name: str) -> type | None:
    """The registered type of a name, if there is one."""
    return _by_name.get(name)


def param_fields(cls: type) -> tuple[str, ...] | None:
    """The fields of a registered type, `None` for other types; enumerations have none."""
    return _fields.get(cls)
