"""What a Python function does, as a text that means the same in every process.

It covers the code of the function and of those it refers to, constants, defaults, and what it
closes over. What belongs to this package, NumPy or Python itself is named: their versions are in
the keys of the disk cache. A function that refers to anything else has no text.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from dataclasses import fields, is_dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any, cast

import numpy as np

from covector.core.avals import Aval
from covector.core.primitive import Primitive

_NAMED = frozenset({"covector", "numpy", *sys.stdlib_module_names}) - {"__main__"}
_PLAIN = (int, bool, str, bytes, float, complex, type(None), type(Ellipsis))


class Unstable(Exception):
    """Something that a function depends on has no text that means the same in another process."""


def text_of(value: Any) -> str:
    """The text of a function, of an object with methods, or of plain data.

    Args:
        value: anything.

    Returns:
        Hexadecimal digits.

    Raises:
        Unstable: if it depends on what has no such text.

    Example:
        >>> def double(x):
        ...     return 2 * x
        >>> def triple(x):
        ...     return 3 * x
        >>> text_of(double) == text_of(triple)
        False
    """
    return hashlib.blake2b(_Writer().value(value).encode(), digest_size=20).hexdigest()


class _Writer:
    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._kept: list[Any] = []

    def value(self, value: Any) -> str:
        kind = cast("type[Any]", type(value))
        if kind in _PLAIN:
            return f"{kind.__name__} {value!r}"
        if kind in (tuple, list):
            return f"{kind.__name__}({','.join([self.value(v) for v in value])})"
        if kind in (frozenset, set):
            return f"set({','.join(sorted([self.value(v) for v in value]))})"
        if kind is dict:
            pairs = cast("dict[Any, Any]", value).items()
            return f"dict({','.join([f'{self.value(k)}:{self.value(v)}' for k, v in pairs])})"
        if isinstance(value, np.ndarray | np.generic):
            data: Any = np.ascontiguousarray(cast("Any", value))
            return f"{data.dtype}{data.shape}{data.tobytes().hex()}"
        if isinstance(value, ModuleType):
            return self._module(value.__name__)
        if id(value) in self._known:  # functions may refer to each other
            return f"known {self._known[id(value)]}"
        self._known[id(value)] = len(self._known)
        self._kept.append(value)
        return self._object(value)

    def _object(self, value: Any) -> str:
        if isinstance(value, Primitive) and value.built_in:
            return f"primitive {value.name}"
        if isinstance(value, Aval | np.dtype):
            return f"{value!s}"
        module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        if module and name and _is_named(module) and _found(module, name) is value:
            return f"{module}.{name}"
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, CodeType):
            return self._code(value)
        if isinstance(value, type):
            return self._class(cast("type[Any]", value))
        if is_dataclass(value):
            data = {f.name: getattr(value, f.name) for f in fields(value) if f.compare}
            own = type(value)
            kind = own.__qualname__ if _is_named(own.__module__) else self.value(own)
            return f"{kind}{self.value(data)}"
        raise Unstable(repr(value))

    def _module(self, name: str) -> str:
        if not _is_named(name):
            raise Unstable(name)
        return f"module {name}"

    def _function(self, function: FunctionType) -> str:
        inner = inspect.getclosurevars(function)
        names = {**inner.globals, **inner.nonlocals}
        given = [self.value(function.__defaults__), self.value(function.__kwdefaults__)]
        refers = [f"{name}={self.value(names[name])}" for name in sorted(names)]
        # Functions inside it look for their names in the same module.
        nested = [self._globals(code, function) for code in _nested(function.__code__)]
        return ";".join([self._code(function.__code__), *given, *refers, *nested])

    def _globals(self, code: CodeType, function: FunctionType) -> str:
        known = function.__globals__
        names = sorted([name for name in code.co_names if name in known])
        return ",".join([f"{name}={self.value(known[name])}" for name in names])

    def _code(self, code: CodeType) -> str:
        constants = [self.value(c) for c in code.co_consts]
        return f"{code.co_code.hex()}{constants}{code.co_names}{code.co_varnames}"

    def _class(self, kind: type[Any]) -> str:
        parts = [kind.__qualname__]
        for base in kind.__mro__:
            if base is object or _is_named(base.__module__):
                parts.append(base.__qualname__)
                continue
            for name, member in vars(base).items():
                inner = member.fget if isinstance(member, property) else member
                if isinstance(inner, FunctionType) and inner.__code__.co_filename != "<string>":
                    parts.append(f"{name}={self.value(inner)}")
        return ";".join(parts)


def _found(module: str, name: str) -> Any:
    """What a module has under a dotted name."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _is_named(module: str) -> bool:
    return module.partition(".")[0] in _NAMED


def _nested(code: CodeType) -> list[CodeType]:
    found: list[CodeType] = []
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found += [constant, *_nested(constant)]
    return found
