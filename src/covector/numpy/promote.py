"""From what users pass to operands of one dtype and compatible shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from covector.core import dtypes
from covector.core.array import Array, as_array
from covector.core.avals import Aval
from covector.core.errors import compose
from covector.core.promotion import lattice_result
from covector.core.source import here
from covector.core.trace import Tracer, aval_of
from covector.ops.convert import convert_element_type
from covector.ops.shape import broadcast_in_dim, reshape

_constants: dict[Any, Array] = {}
_MAX_CONSTANTS = 1024

_type_of: Callable[[Any], Any] = type

SCALARS = (bool, int, float, complex)


def operand(x: Any, name: str) -> Any:
    """An argument of a NumPy-style function as an array or tracer.

    Args:
        x: an array, tracer, NumPy array or number.
        name: of the function, for the message.

    Raises:
        TypeError: for lists and other objects, which `covector.numpy.asarray` converts.
    """
    if isinstance(x, (Array, Tracer)):
        return x
    if isinstance(x, (np.ndarray, np.generic, *SCALARS)):
        return as_array(x)
    converted = getattr(x, "__jax_array__", None) or getattr(x, "__covector_array__", None)
    if converted is not None:
        return converted()
    raise TypeError(
        compose(
            f"{name} requires arrays or numbers",
            found=f"{type(x).__name__} {x!r}"[:120],
            fix="convert lists and tuples with covector.numpy.asarray",
            line=here(),
        )
    )


def constant(value: Any, dtype: Any) -> Array:
    """A Python number as a rank-0 array of a dtype; repeated ones are shared."""
    key = (value, _type_of(value), dtype)
    try:
        known = _constants.get(key)
    except TypeError:
        known = None
    if known is None or value != value or value == 0:  # NaN and the sign of zero are no keys
        known = Array.of(np.array(value).astype(dtype), Aval((), dtype))
        if len(_constants) >= _MAX_CONSTANTS:
            _constants.clear()
        _constants[key] = known
    return known


def convert(x: Any, dtype: Any, weak_type: bool = False) -> Any:
    """`x` in another dtype."""
    aval = x.aval
    if aval.dtype == dtype and aval.weak_type == weak_type:
        return x
    return convert_element_type(x, new_dtype=dtype, weak_type=weak_type)


def promote_dtypes(*args: Any) -> list[Any]:
    """Operands converted to the dtype they meet in, weak only if all are."""
    avals = [a.aval for a in args]
    first = avals[0]
    if all([a.dtype == first.dtype and a.weak_type == first.weak_type for a in avals]):
        return list(args)
    dtype, weak = lattice_result([(a.dtype, a.weak_type) for a in avals])
    return [convert(a, dtype, weak) for a in args]


def promote_inexact(*args: Any) -> list[Any]:
    """Operands in the floating or complex dtype they meet in."""
    avals = [a.aval for a in args]
    dtype, weak = lattice_result([(a.dtype, a.weak_type) for a in avals])
    return [convert(a, dtypes.to_inexact(dtype), weak) for a in args]


def broadcast_shapes(name: str, *shapes: Sequence[Any]) -> tuple[Any, ...]:
    """The shape that shapes broadcast to, by NumPy's rules.

    Raises:
        ValueError: if they do not.
    """
    rank = max(len(s) for s in shapes)
    result: list[Any] = []
    for axis in range(rank):
        extent: Any = 1
        for shape in shapes:
            position = axis - rank + len(shape)
            if position < 0 or shape[position] == 1:
                continue
            if extent == 1:
                extent = shape[position]
            elif shape[position] != extent:
                found = ", ".join(str(tuple(s)) for s in shapes)
                raise ValueError(
                    compose(
                        f"{name} needs shapes that broadcast together",
                        found=found,
                        fix="align axes with reshape or x[:, None]",
                        line=here(),
                    )
                )
        result.append(extent)
    return tuple(result)


def broadcast_to(x: Any, shape: Sequence[Any]) -> Any:
    """`x` repeated to a shape it broadcasts to."""
    own = x.aval.shape
    shape = tuple(shape)
    if own == shape:
        return x
    kept = [
        i for i, extent in enumerate(own) if extent != 1 or shape[len(shape) - len(own) + i] == 1
    ]
    if len(kept) < len(own):
        x = reshape(x, new_sizes=tuple(own[i] for i in kept), dimensions=None)
    dims = tuple(len(shape) - len(own) + i for i in kept)
    return broadcast_in_dim(x, shape=shape, broadcast_dimensions=dims)


def broadcast(name: str, args: Sequence[Any]) -> list[Any]:
    """Operands of equal shapes, rank-0 ones left as they are (elementwise primitives take them)."""
    shapes = [a.aval.shape for a in args]
    present = [s for s in shapes if s != ()]
    if not present or all([s == present[0] for s in present]):
        return list(args)
    shape = broadcast_shapes(name, *present)
    return [a if a.aval.shape == () else broadcast_to(a, shape) for a in args]


def binary_operands(name: str, x: Any, y: Any) -> Sequence[Any]:
    """Two operands of one dtype and shape; the common cases first."""
    if type(y) is float or type(y) is int:
        x = operand(x, name)
        aval = x.aval
        if aval.dtype.kind == "f" or (type(y) is int and aval.dtype.kind == "i" and _fits(y, aval)):
            if aval.weak_type:
                return x, Array.of(np.array(y, aval.dtype), Aval((), aval.dtype, True))
            return x, constant(y, aval.dtype)
    elif type(x) is float or type(x) is int:
        y = operand(y, name)
        aval = y.aval
        if aval.dtype.kind == "f" or (type(x) is int and aval.dtype.kind == "i" and _fits(x, aval)):
            if aval.weak_type:
                return Array.of(np.array(x, aval.dtype), Aval((), aval.dtype, True)), y
            return constant(x, aval.dtype), y
    x, y = operand(x, name), operand(y, name)
    a, b = x.aval, y.aval
    if a.dtype is not b.dtype or a.weak_type != b.weak_type:
        x, y = promote_dtypes(x, y)
    if a.shape != b.shape:
        return broadcast(name, (x, y))
    return x, y


def _fits(value: int, aval: Aval) -> bool:
    bits = aval.dtype.itemsize * 8 - 1
    return -(1 << bits) <= value < 1 << bits


def whole_numbers(*bounds: int) -> np.ndarray[Any, Any]:
    """`numpy.arange` of ints: indices known while tracing."""
    return cast("np.ndarray[Any, Any]", np.arange(*bounds))


def shape_of(x: Any) -> tuple[Any, ...]:
    """The shape of an array, tracer or number."""
    return aval_of(x).shape
