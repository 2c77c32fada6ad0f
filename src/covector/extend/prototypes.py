"""Prototypes of C functions, and what they say about operands and results.

The extents of arrays are part of a prototype, as C99 has them in parameters:

    void smooth(int64_t n, double width, const double x[n], double y[n])

`const` arrays and numbers are operands, other arrays results, integers that extents are made of are
sizes, found from the operands.
"""

from __future__ import annotations

import ast
import ctypes
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from covector.core import dtypes
from covector.core.errors import compose


def _integer(size: int, signed: bool) -> np.dtype[Any]:
    return np.dtype(f"{'i' if signed else 'u'}{size}")


_LONG = ctypes.sizeof(ctypes.c_long)
_SIZE = ctypes.sizeof(ctypes.c_size_t)

TYPES: dict[str, np.dtype[Any] | None] = {
    "void": None,
    "bool": dtypes.bool_,
    "_Bool": dtypes.bool_,
    "float": dtypes.float32,
    "double": dtypes.float64,
    **dict.fromkeys(("float complex", "float _Complex"), dtypes.complex64),
    **dict.fromkeys(("double complex", "double _Complex"), dtypes.complex128),
    **dict.fromkeys(("int", "signed", "signed int"), _integer(4, True)),
    **dict.fromkeys(("unsigned", "unsigned int"), _integer(4, False)),
    **dict.fromkeys(("short", "short int"), _integer(2, True)),
    **dict.fromkeys(("unsigned short", "unsigned short int"), _integer(2, False)),
    **dict.fromkeys(("long", "long int"), _integer(_LONG, True)),
    **dict.fromkeys(("unsigned long", "unsigned long int"), _integer(_LONG, False)),
    **dict.fromkeys(("long long", "long long int"), _integer(8, True)),
    **dict.fromkeys(("unsigned long long", "unsigned long long int"), _integer(8, False)),
    "signed char": _integer(1, True),
    "unsigned char": _integer(1, False),
    **dict.fromkeys(("ptrdiff_t", "ssize_t", "intptr_t"), _integer(_SIZE, True)),
    **dict.fromkeys(("size_t", "uintptr_t"), _integer(_SIZE, False)),
    **{f"int{8 * k}_t": _integer(k, True) for k in (1, 2, 4, 8)},
    **{f"uint{8 * k}_t": _integer(k, False) for k in (1, 2, 4, 8)},
}
"""Types of C by name; `None` is void."""

BY_VALUE = frozenset(map(np.dtype, ("f4", "f8", "i4", "i8", "u4", "u8")))
"""What can be passed and returned as a number."""

SIZE, OPERAND, RESULT = "size", "operand", "result"


class Parameter(NamedTuple):
    """A parameter of a function.

    Attributes:
        name: as declared.
        dtype: of the number, or of the elements.
        extents: of an array, expressions of sizes; `None` for a number.
        role: "size", "operand" or "result".
    """

    name: str
    dtype: np.dtype[Any]
    extents: tuple[str, ...] | None
    role: str


class Prototype(NamedTuple):
    """A function's declaration.

    Attributes:
        name: of the function.
        result: dtype of what it returns; `None` for void.
        parameters: in order.
        text: the declaration.
    """

    name: str
    result: np.dtype[Any] | None
    parameters: tuple[Parameter, ...]
    text: str

    @property
    def elementwise(self) -> bool:
        """Whether it takes numbers and returns one."""
        return all([p.extents is None for p in self.parameters])

    @property
    def operands(self) -> list[Parameter]:
        return [p for p in self.parameters if p.role == OPERAND]

    @property
    def results(self) -> list[Parameter]:
        return [p for p in self.parameters if p.role == RESULT]

    @property
    def returns_status(self) -> bool:
        """Whether what it returns tells of failure: it has results among its parameters."""
        return self.result is not None and bool(self.results)

    def kinds(self) -> tuple[tuple[str, ...], str]:
        """Parameter types ("ptr" or a short name of a dtype) and the type it returns."""
        params = tuple(
            [
                "ptr" if p.extents is not None else dtypes.short_name(p.dtype)
                for p in self.parameters
            ]
        )
        return params, "void" if self.result is None else dtypes.short_name(self.result)


def _fail(text: str, found: str, fix: str = "") -> Any:
    raise ValueError(compose(f"cannot read the C prototype {text!r}", found=found, fix=fix))


_FUNCTION = re.compile(r"\s*([\w\s]+?)\s*\b(\w+)\s*\((.*)\)\s*;?\s*", re.DOTALL)
_EXTENT = re.compile(r"\[([^\[\]]*)\]")
_QUALIFIERS = ("const", "restrict", "__restrict", "static", "extern", "inline", "register")


def parse(text: str) -> Prototype:
    """Reads the prototype of a function.

    Args:
        text: in C, arrays with their extents.

    Returns:
        What it says.

    Raises:
        ValueError: saying what is not understood.

    Example:
        >>> prototype = parse("void scale(size_t n, double by, const double x[n], double y[n])")
        >>> [(p.name, p.role) for p in prototype.parameters]
        [('n', 'size'), ('by', 'operand'), ('x', 'operand'), ('y', 'result')]
    """
    match = _FUNCTION.fullmatch(text)
    if match is None:
        _fail(text, "no `type name(parameters)`", "write it as in a header")
    assert match is not None
    result = _type(text, match[1])
    inside = match[3].strip()
    parts = [] if inside in ("", "void") else inside.split(",")
    parsed = [_parameter(text, part, k) for k, part in enumerate(parts)]
    sizes = {name for p in parsed for extent in p.extents or () for name in names_in(extent)}
    parameters = tuple(
        [p._replace(role=SIZE) if p.extents is None and p.name in sizes else p for p in parsed]
    )
    found = Prototype(match[2], result, parameters, text)
    _check(found, sizes)
    return found


def _type(text: str, words: str) -> np.dtype[Any] | None:
    name = " ".join([w for w in words.split() if w not in _QUALIFIERS])
    if name not in TYPES:
        _fail(text, f"the type {name!r}", f"use one of {', '.join(TYPES)}")
    return TYPES[name]


def _parameter(text: str, part: str, number: int) -> Parameter:
    words = part.split("[")[0].replace("*", " * ").split()
    is_const = "const" in words
    words = [w for w in words if w not in _QUALIFIERS]
    stars = words.count("*")
    named = [w for w in words if w != "*"]
    name = ""
    if " ".join(named) not in TYPES and len(named) > 1:
        name = named.pop()
    dtype = _type(text, " ".join(named))
    extents = tuple([e.strip() for e in _EXTENT.findall(part)])
    if _EXTENT.sub("", part).count("[") or (stars and extents):
        _fail(text, f"the parameter {part.strip()!r}", "write arrays as x[n][m]")
    if stars:
        _fail(
            text,
            f"the pointer {part.strip()!r}, which does not say how many elements there are",
            f"write its extents, as in {'const ' * is_const}{' '.join(named)} {name or 'x'}[n]",
        )
    if dtype is None:
        _fail(text, f"the parameter {part.strip()!r}")
    assert dtype is not None
    if not extents:
        if dtype not in BY_VALUE:
            _fail(text, f"{part.strip()!r} by value", "pass int, int64_t, float or double")
        return Parameter(name or f"x{number}", dtype, None, OPERAND)
    return Parameter(name or f"x{number}", dtype, extents, OPERAND if is_const else RESULT)


def _check(prototype: Prototype, sizes: set[str]) -> None:
    text = prototype.text
    for p in prototype.parameters:
        if p.role == SIZE and p.dtype.kind not in "iu":
            _fail(text, f"the size {p.name} of type {p.dtype}", "make it an integer")
    inferred = {
        extent for p in prototype.operands for extent in p.extents or () if extent.isidentifier()
    }
    if sizes - inferred:
        _fail(
            text,
            f"the size {sorted(sizes - inferred)[0]}, which is no extent of an operand",
            "a `const` array with that extent tells it",
        )
    if prototype.result is not None and prototype.result not in BY_VALUE:
        _fail(text, f"a result of type {prototype.result}", "return int, int64_t, float or double")
    if prototype.returns_status and prototype.result != np.dtype(np.int32):
        _fail(
            text, "results as arrays and another that is returned", "return void or an int status"
        )
    if prototype.result is None and not prototype.results:
        _fail(
            text,
            "no result: it returns void and has no array that is not const",
            "leave const away where it writes",
        )
    if not prototype.operands:
        _fail(text, "no operand", "a function of nothing is a constant: compute it outside")


def names_in(extent: str) -> list[str]:
    """The names of sizes in an extent."""
    return re.findall(r"[A-Za-z_]\w*", extent)


def evaluate(extent: str, sizes: Mapping[str, Any]) -> Any:
    """An extent, of integers or symbolic dimensions.

    Args:
        extent: integers and names of sizes with `+`, `-` and `*`.
        sizes: what they are.

    Returns:
        The number.

    Raises:
        ValueError: for other expressions.
    """
    try:
        tree = ast.parse(extent, mode="eval").body
    except SyntaxError:
        raise ValueError(f"the extent {extent!r} is no expression of sizes") from None
    return _evaluate(tree, extent, sizes)


def _evaluate(node: ast.expr, extent: str, sizes: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name):
        return sizes[node.id]
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub, ast.Mult)):
        a = _evaluate(node.left, extent, sizes)
        b = _evaluate(node.right, extent, sizes)
        if isinstance(node.op, ast.Add):
            return a + b
        return a - b if isinstance(node.op, ast.Sub) else a * b
    raise ValueError(f"the extent {extent!r} is not made of sizes with +, - and *")


def compare(prototype: Prototype, params: Sequence[str] | None, result: str | None) -> None:
    """Checks a prototype against what a function says of itself.

    Args:
        prototype: as declared.
        params: "ptr" or short names of dtypes; `None` if it does not say.
        result: likewise, or "void".

    Raises:
        TypeError: if they differ.
    """
    declared, returned = prototype.kinds()
    if (params is not None and tuple(params) != declared) or result not in (None, returned):
        own = "unknown" if params is None else f"({', '.join(params)})"
        raise TypeError(
            compose(
                f"the function is not what {prototype.text!r} declares",
                found=f"{own} -> {result or returned}, declared as "
                f"({', '.join(declared)}) -> {returned}",
                fix="declare it as it was compiled",
            )
        )
