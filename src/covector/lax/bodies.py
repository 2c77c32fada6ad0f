"""Tracing the functions that control flow takes, and saying what is wrong with them."""

from __future__ import annotations

import inspect
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from covector.core import dtypes, pytree
from covector.core.avals import Aval, same_type
from covector.core.config import config
from covector.core.program import Program
from covector.core.source import here
from covector.core.trace import named_axes, trace_program
from covector.transforms.flat import FlatFunction, function_name


class Body:
    """A traced function.

    Attributes:
        program: its leading inputs stand for the captured values.
        captured: values of enclosing transformations that the function closes over.
        out_tree: the structure of what it returns.
    """

    __slots__ = ("captured", "out_tree", "program")

    def __init__(self, program: Program, captured: list[Any], out_tree: Any) -> None:
        self.program = program
        self.captured = captured
        self.out_tree = out_tree

    @property
    def avals(self) -> list[Aval]:
        """The avals of what it returns."""
        return self.program.output_avals


# What was traced before, by function; with what the function read from outside itself.
_traced: weakref.WeakKeyDictionary[Any, dict[Any, tuple[Body, Any]]] = weakref.WeakKeyDictionary()


def trace_body(
    what: str,
    fun: Callable[..., Any],
    args: Any,
    avals: Sequence[Aval],
    adapt: Callable[[Any], Callable[..., Any]] | None = None,
) -> Body:
    """Traces a function of pytrees; the same function and types are traced once.

    Args:
        what: for messages, "scan body".
        fun: a user's function.
        args: the structure of the tuple of positional arguments.
        avals: of their leaves.
        adapt: makes of `fun` the function to trace; by default that is `fun`.
    """
    entries: dict[Any, tuple[Body, Any]] | None = None
    key: Any = None
    surroundings = _surroundings(fun)
    if surroundings is not None:
        key = (adapt, args, tuple(avals), config.trace_key(), named_axes())
        entries = _traced.setdefault(fun, {})
        known = entries.get(key)
        if known is not None and known[1] == surroundings:
            return known[0]
    with_kwargs = pytree.structure((pytree.unflatten(args, [0] * len(avals)), {}))
    flat = FlatFunction(fun if adapt is None else adapt(fun), with_kwargs)
    program, captured = trace_program(flat, avals, f"{what} {function_name(fun)}")
    body = Body(program, captured, flat.out_tree)
    if entries is not None and not captured:
        entries[key] = (body, surroundings)
    return body


_MAX_FUNCTIONS = 32
_MAX_BYTES = 1 << 20
_CONSTANT = (int, float, complex, bool, str, bytes, type(None), np.generic, np.dtype, type)
_IMMUTABLE = (*_CONSTANT, types.ModuleType, types.BuiltinFunctionType, np.ufunc)


class _Changing(Exception):
    """Raised for what may change without anyone noticing."""


class _Same:
    """Compares an object by identity."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]


def _surroundings(fun: Any) -> list[Any] | None:
    """What a function reads from outside itself, in a form to compare with later.

    Returns:
        `None` if it may change unnoticed: a function that reads attributes of an object can mean
        something else at the next call. Such functions are traced each time.
    """
    if type(fun) is not types.FunctionType:
        return None
    found: list[Any] = []
    pending: list[types.FunctionType] = [fun]
    seen = {id(fun)}
    try:
        while pending:
            for value in _read_by(pending.pop()):
                if type(value) is types.FunctionType:
                    if id(value) not in seen and len(seen) < _MAX_FUNCTIONS:
                        seen.add(id(value))
                        pending.append(value)
                    # Weakly: it may be the function whose entry this belongs to.
                    found.append(weakref.ref(value))
                else:
                    found.append(_snapshot(value))
    except _Changing:
        return None
    return found


def _read_by(function: types.FunctionType) -> list[Any]:
    values: list[Any] = [cell.cell_contents for cell in function.__closure__ or () if _full(cell)]
    namespace = function.__globals__
    values += [namespace[name] for name in function.__code__.co_names if name in namespace]
    values += function.__defaults__ or ()
    return values + list((function.__kwdefaults__ or {}).values())


def _full(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - empty cells raise
    except ValueError:
        return False
    return True


def _snapshot(value: Any) -> Any:
    if isinstance(value, _IMMUTABLE) or type(value).__module__.startswith("covector."):
        return _Same(value)
    if type(value) is np.ndarray and value.nbytes <= _MAX_BYTES and not value.dtype.hasobject:
        return (value.dtype, value.shape, value.tobytes())
    if type(value) in (tuple, list):
        return [_snapshot(v) for v in value]
    if type(value) is dict:
        items = cast("dict[Any, Any]", value).items()
        return [(_snapshot(k), _snapshot(v)) for k, v in items]
    raise _Changing


# --- messages -------------------------------------------------------------------------------------


def check_callable(what: str, fun: Any) -> None:
    """Raises unless `fun` can be called."""
    if not callable(fun):
        raise TypeError(f"{what} must be a function, got {type(fun).__name__}: {fun!r:.80}")


def carry_name(body: Any) -> str:
    """What a body calls the carry, its first parameter; `None` for a body not of the user's."""
    try:
        return next(iter(inspect.signature(body).parameters))
    except (TypeError, ValueError, StopIteration):
        return "carry"


def check_structure(what: str, body: Any, expected: Any, found: Any) -> None:
    """Raises if a body's output has not the structure of its carry.

    Args:
        what: "scan", "while_loop".
        body: whose first parameter is the carry.
        expected: structure of the carry.
        found: structure of the output.
    """
    if expected == found:
        return
    raise TypeError(
        f"{what} body function carry input and carry output must have the same pytree structure, "
        f"but they differ:\n\n  {difference(carry_name(body), expected, found)}\n\n"
        "Revise the function so that the carry output has the same pytree structure as the carry "
        f"input.\n  at: {here()}"
    )


def difference(name: str, expected: Any, found: Any) -> str:
    """Where two structures differ first, in a sentence."""
    a = pytree.unflatten(expected, [_LEAF] * expected.num_leaves)
    b = pytree.unflatten(found, [_LEAF] * found.num_leaves)
    return _difference(name, a, b) or f"{name} is {expected} but became {found}"


class _Leaf:
    """Stands for an array."""


_LEAF = _Leaf()


def _difference(path: str, a: Any, b: Any) -> str | None:
    if type(a) is not type(b):
        return f"{path} is {_kind(a)}, but {_kind(b)} in the output"
    if a is _LEAF:
        return None
    a_children, a_data = pytree.flatten_one_level_with_keys(a) if a is not None else ([], None)
    b_children, b_data = pytree.flatten_one_level_with_keys(b) if b is not None else ([], None)
    a_keys, b_keys = [k for k, _ in a_children], [k for k, _ in b_children]
    if len(a_keys) != len(b_keys) or a_keys != b_keys:
        return (
            f"{path} is {_kind(a)} with {len(a_keys)} children {_keys(a_keys)}, but with "
            f"{len(b_keys)} children {_keys(b_keys)} in the output"
        )
    for (key, x), (_, y) in zip(a_children, b_children, strict=True):
        found = _difference(path + pytree.keystr((key,)), x, y)
        if found:
            return found
    return None if a_data == b_data else f"{path} has the data {a_data!r}, but {b_data!r} then"


def _kind(node: Any) -> str:
    if node is _LEAF:
        return "an array"
    return "None" if node is None else f"a {type(node).__name__}"


def _keys(keys: Sequence[Any]) -> str:
    return ", ".join(pytree.keystr((k,)) for k in keys) or "(none)"


def check_carry_types(
    what: str, body: Any, tree: Any, expected: Sequence[Aval], found: Sequence[Aval]
) -> None:
    """Raises if a carry changes its type, naming each component that does and the likely fix."""
    if all([same_type(a, b) for a, b in zip(expected, found, strict=True)]):
        return
    paths = [p for p, _ in pytree.leaves_with_path(pytree.unflatten(tree, list(expected)))]
    name = carry_name(body)
    lines: list[str] = []
    for path, a, b in zip(paths, expected, found, strict=True):
        if not same_type(a, b):
            where = f"{name}{pytree.keystr(path)}"
            lines.append(
                f"  * the input carry component {where} has type {a} but the corresponding output "
                f"carry component has type {b}, so {mismatch(a, b)};\n    {_fix(where, a, b)}"
            )
    raise TypeError(
        f"{what} body function carry input and carry output must have equal types, but they "
        "differ:\n\n" + "\n".join(lines) + "\n\nRevise the function so that all output types match "
        f"the corresponding input types.\n  at: {here()}"
    )


def mismatch(a: Aval, b: Aval) -> str:
    """What differs between two avals, in a clause."""
    parts: list[str] = []
    if a.dtype != b.dtype:
        parts.append("the dtypes do not match")
    if a.shape != b.shape:
        parts.append("the shapes do not match")
    return " and ".join(parts)


def _fix(where: str, a: Aval, b: Aval) -> str:
    if a.shape == b.shape:
        return (
            f"start with {where} as {dtypes.short_name(b.dtype)}, or end the body with "
            f"{where}.astype({where}.dtype)"
        )
    if len(a.shape) < len(b.shape):
        return f"start with {where} of shape {_shape(b)}: the body broadcasts it"
    return f"start with {where} of shape {_shape(b)}, or keep its shape in the body"


def _shape(aval: Aval) -> str:
    return "(" + ", ".join(map(str, aval.shape)) + ("," if len(aval.shape) == 1 else "") + ")"
