"""Promotion: the dtype that operands of different dtypes meet in.

Dtypes form a lattice, JAX's; operands meet in the least upper bound of theirs. Python scalars are
weak: they stand on nodes of their own (`i*`, `f*`, `c*`), below the dtypes of their kind, so that
`f16 + 2.0` stays f16.

    bool -> i* -> u8 -> u16 -> u32 -> u64 -> f*
                  |      |      |            ^
                  v      v      v            |
            i* -> i8 -> i16 -> i32 -> i64 ---+     (each unsigned steps into the next signed)

    f* -> bf16, f16 -> f32 -> f64;   f* -> c* -> c64 -> c128;   f32 -> c64;   f64 -> c128
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from covector.core import dtypes
from covector.core.config import config
from covector.core.dtypes import DType
from covector.core.errors import TypePromotionError, compose

WeakDType = tuple[Any, bool]
"""A dtype, and whether it is weak."""

_WEAK_INT, _WEAK_FLOAT, _WEAK_COMPLEX = "i*", "f*", "c*"

# What each node steps up to.
_STEPS: dict[str, tuple[str, ...]] = {
    "bool": (_WEAK_INT,),
    _WEAK_INT: ("u8", "i8"),
    "u8": ("u16", "i16"),
    "u16": ("u32", "i32"),
    "u32": ("u64", "i64"),
    "u64": (_WEAK_FLOAT,),
    "i8": ("i16",),
    "i16": ("i32",),
    "i32": ("i64",),
    "i64": (_WEAK_FLOAT,),
    _WEAK_FLOAT: ("bf16", "f16", _WEAK_COMPLEX),
    "bf16": ("f32",),
    "f16": ("f32",),
    "f32": ("f64", "c64"),
    "f64": ("c128",),
    _WEAK_COMPLEX: ("c64",),
    "c64": ("c128",),
    "c128": (),
}
# Without x64, 32-bit operands must not meet in a 64-bit dtype.
_STEPS_32 = {**_STEPS, "u32": ("u64", "i32")}


def _upper_bounds(steps: dict[str, tuple[str, ...]]) -> dict[str, frozenset[str]]:
    """For each node, itself and everything above it."""
    bounds: dict[str, frozenset[str]] = {}

    def visit(node: str) -> frozenset[str]:
        if node not in bounds:
            bounds[node] = frozenset({node}).union(*map(visit, steps[node]))
        return bounds[node]

    for node in steps:
        visit(node)
    return bounds


# Indexed by config.x64, as are the memos below.
_BOUNDS = (_upper_bounds(_STEPS_32), _upper_bounds(_STEPS))


def _least_upper_bound(nodes: Iterable[str]) -> str:
    bounds = _BOUNDS[config.x64]
    first, *others = [bounds[node] for node in nodes]
    common = first.intersection(*others)
    # The node whose own upper bounds are all of the common ones; in a lattice there is one.
    return next(node for node in common if bounds[node] == common)


_WEAK_NODES: dict[DType, str] = {
    dtypes.bool_: "bool",
    **dict.fromkeys(dtypes.INTEGER, _WEAK_INT),
    **dict.fromkeys(dtypes.FLOATING, _WEAK_FLOAT),
    **dict.fromkeys(dtypes.COMPLEX, _WEAK_COMPLEX),
}


def _node(dtype: DType, weak: bool) -> str:
    if dtype not in dtypes.ARRAY_DTYPES:
        raise TypePromotionError(
            compose(
                "this dtype takes part in no promotion",
                found=str(dtype),
                fix="convert the other operand to it, or use random.key_data for the bits of keys",
            )
        )
    return _WEAK_NODES[dtype] if weak else dtypes.short_name(dtype)


def _dtype_at(node: str) -> WeakDType:
    if node == _WEAK_INT:
        return dtypes.default_int(), True
    if node == _WEAK_FLOAT:
        return dtypes.default_float(), True
    if node == _WEAK_COMPLEX:
        return dtypes.default_complex(), True
    return dtypes.canonicalize(dtypes.from_short_name(node)), False


_results: tuple[dict[Any, WeakDType], dict[Any, WeakDType]] = ({}, {})
_MAX_RESULTS = 4096


def lattice_result(operands: Iterable[WeakDType]) -> WeakDType:
    """The dtype in which operands meet, and whether the result is weak.

    Args:
        operands: dtype and weakness of each, at least one.

    Raises:
        TypePromotionError: keys meet other dtypes.

    Example:
        >>> lattice_result([(dtypes.float16, False), (dtypes.float32, True)])
        (dtype('float16'), False)
    """
    key = tuple(operands)
    memo = _results[config.x64]
    known = memo.get(key)
    if known is None:
        if len(memo) >= _MAX_RESULTS:
            memo.clear()
        known = memo[key] = _meet(key)
    return known


def _meet(operands: tuple[WeakDType, ...]) -> WeakDType:
    first, weak = operands[0]
    if len(operands) == 1:
        return first, weak
    all_weak = all(weak for _, weak in operands)
    if not all_weak and all(dtype == first for dtype, _ in operands):
        # Keys take this way too.
        return first, False
    if all_weak:
        # Weak results of narrow dtypes keep their width: weak i16 with weak i8 is weak i16.
        dtype, _ = _dtype_at(_least_upper_bound({_node(dtype, False) for dtype, _ in operands}))
        return dtype, dtype != dtypes.bool_
    return _dtype_at(_least_upper_bound({_node(dtype, weak) for dtype, weak in operands}))


_NUMPY_FORM = {
    _WEAK_INT: dtypes.int64,
    _WEAK_FLOAT: dtypes.float64,
    _WEAK_COMPLEX: dtypes.complex128,
}
_pairs: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})


def promote_types(a: Any, b: Any) -> Any:
    """The dtype in which two dtypes meet; Python's `int`, `float`, `complex` count as weak.

    Args:
        a: a dtype, or anything `as_dtype` reads.
        b: another.

    Raises:
        TypePromotionError: a key dtype meets another dtype.

    Example:
        >>> promote_types("int32", "float16")
        dtype('float16')
    """
    memo = _pairs[config.x64]
    known = memo.get((a, b))
    if known is None:
        if len(memo) >= _MAX_RESULTS:
            memo.clear()
        known = memo[a, b] = _promote(_type_operand(a), _type_operand(b))
    return known


def _promote(a: WeakDType, b: WeakDType) -> Any:
    if a == b and not a[1]:
        return a[0]
    node = _least_upper_bound({_node(*a), _node(*b)})
    # Types meet in the exact dtype, whatever the x64 setting: there is no value to narrow yet.
    return _NUMPY_FORM[node] if node in _NUMPY_FORM else dtypes.from_short_name(node)


_PYTHON_TYPES = (bool, int, float, complex)


def _type_operand(spec: Any) -> WeakDType:
    if any(spec is kind for kind in _PYTHON_TYPES):
        return dtypes.python_scalar_dtype(spec)
    return dtypes.as_dtype(spec), False


def result_type(*operands: Any) -> WeakDType:
    """The dtype in which values meet, and whether the result is weak.

    Args:
        operands: arrays, tracers, Python scalars, dtypes or scalar types.

    Raises:
        TypeError: an operand is neither a value nor a dtype.
        ValueError: there are no operands.

    Example:
        >>> result_type(1, 2.0)
        (dtype('float32'), True)
    """
    if not operands:
        raise ValueError("result_type needs at least one operand")
    return lattice_result([_operand(operand) for operand in operands])


def _operand(operand: Any) -> WeakDType:
    if isinstance(operand, (type, str)) or hasattr(operand, "newbyteorder"):
        dtype, weak = _type_operand(operand)
        return dtypes.canonicalize(dtype), weak
    if dtypes.is_key(operand):
        return operand, False
    return dtypes.dtype_of(operand)
