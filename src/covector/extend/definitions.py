"""Kernels as data: text and constants, which programs print, compare and keep on disk."""

from __future__ import annotations

import ast
import builtins
import importlib
import types
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np

from covector.core.params import register_param_type
from covector.extend.kernel_names import is_number
from covector.extend.kernel_source import KernelSource
from covector.extend.kernel_values import closed_over

_NUMBERS: dict[str, Callable[[str], Any]] = {
    "bool": lambda text: text == "True",
    "int": int,
    "float": float,
    "complex": complex,
}
_LIBRARIES = ("math", "numpy", "scipy", "covector")
_PLACES: dict[KernelDefinition, tuple[str, int]] = {}
"""Where kernels of this process are defined, for messages."""


@register_param_type
class KernelDefinition(NamedTuple):
    """What a kernel is, apart from where it stands.

    Attributes:
        name: of the function.
        text: its source.
        constants: name, kind and value of what it takes from outside.
    """

    name: str
    text: str
    constants: tuple[tuple[str, str, Any], ...]


class Callee:
    """A kernel that another one calls."""

    is_kernel = True

    def __init__(self, definition: KernelDefinition) -> None:
        self.source = source_from(definition)
        self.__name__ = definition.name


def define(source: KernelSource) -> KernelDefinition:
    """A kernel with the present values of the constants it takes from outside."""
    node = source.node
    own = {a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
    names: dict[str, ast.Name] = {}
    for statement in node.body:
        for part in ast.walk(statement):
            if isinstance(part, ast.Name):
                if isinstance(part.ctx, ast.Store):
                    own.add(part.id)
                names.setdefault(part.id, part)
    constants: list[tuple[str, str, Any]] = []
    for name, where in sorted(names.items()):
        if name in own or (name not in source.globals and hasattr(builtins, name)):
            continue
        if name not in source.globals:
            raise source.error(where, f"name {name!r} is not defined")
        constants.append((name, *_encoded(source, where, source.globals[name])))
    definition = KernelDefinition(source.name, ast.unparse(_bare(node)), tuple(constants))
    _PLACES.setdefault(definition, (source.file, source.first_line))
    return definition


def _bare(node: ast.FunctionDef) -> ast.FunctionDef:
    return ast.FunctionDef(node.name, node.args, node.body, [], None, lineno=1)


def _encoded(source: KernelSource, where: ast.Name, value: Any) -> tuple[str, Any]:
    if getattr(value, "is_kernel", False) and isinstance(value.source, KernelSource):
        return "kernel", define(value.source)
    if isinstance(value, np.generic):
        return "array", _contents(np.asarray(cast("Any", value)))
    if is_number(value):
        return "number", _number(value)
    if isinstance(value, types.ModuleType) and _is_library(value.__name__):
        return "module", value.__name__
    if getattr(value, "is_prange", False):
        return "prange", ""
    if callable(value):
        found = _library_name(value)
        if found is not None:
            return "function", found
    elif hasattr(value, "__array__"):
        array = np.asarray(value)
        closed_over(array)
        return "array", _contents(array)
    raise source.error(
        where,
        f"an array kernel cannot use {where.id!r} from outside",
        found=f"{type(value).__name__} {getattr(value, '__name__', '')}".strip(),
        fix="use numbers, small arrays, scalar kernels and functions of math, numpy or covector",
    )


def _number(value: Any) -> tuple[str, str]:
    """A number as text: 1, 1.0 and True are equal, as are 0.0 and -0.0, and mean different code."""
    kinds: tuple[Any, ...] = (bool, int, float, complex)
    kind = next(k for k in kinds if isinstance(value, k))
    return kind.__name__, repr(kind(value))


def _contents(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return array.dtype, array.shape, array.tobytes()


def _is_library(module: str) -> bool:
    return module.split(".")[0] in _LIBRARIES


def _library_name(function: Any) -> tuple[str, str] | None:
    name = getattr(function, "__name__", "")
    own = getattr(function, "__module__", None) or ""
    for module in (own, "numpy", "scipy.special"):
        if _is_library(module) and getattr(importlib.import_module(module), name, None) is function:
            return module, name
    return None


def _decoded(kind: str, value: Any) -> Any:
    if kind == "kernel":
        return Callee(value)
    if kind == "module" and _is_library(value):
        return importlib.import_module(value)
    if kind == "function" and _is_library(value[0]):
        return getattr(importlib.import_module(value[0]), value[1])
    if kind == "prange":
        from covector.extend.array_kernel import prange

        return prange
    if kind == "array":
        dtype, shape, contents = value
        array = np.frombuffer(contents, dtype).reshape(shape)
        return array[()] if shape == () else array
    if kind == "number":
        of, text = value
        return _NUMBERS[of](text)
    raise ValueError(f"a kernel has no constants of the kind {kind!r}")


_sources: dict[KernelDefinition, KernelSource] = {}


def source_from(definition: KernelDefinition) -> KernelSource:
    """The source that a definition stands for."""
    if definition not in _sources:
        file, line = _PLACES.get(definition, ("<kernel>", 1))
        names = {name: _decoded(kind, value) for name, kind, value in definition.constants}
        source = KernelSource(definition.name, file, line, definition.text, names)
        _sources[definition] = source
    return _sources[definition]
