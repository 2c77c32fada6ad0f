"""Making arrays."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from covector.core import dtypes, pytree
from covector.core.array import Array, as_array
from covector.core.avals import Aval
from covector.core.errors import compose
from covector.core.source import here
from covector.core.trace import Tracer, aval_of
from covector.numpy.promote import broadcast_to, constant, convert, operand, promote_dtypes
from covector.ops import shape as sh

__all__ = [
    "arange",
    "array",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "identity",
    "linspace",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
]


def asarray(
    a: Any, dtype: Any = None, order: str | None = None, *, copy: bool | None = None
) -> Any:
    """Converts numbers, sequences, NumPy arrays and array-likes to an array.

    Args:
        a: what to convert; traced values inside sequences are stacked.
        dtype: of the result; by default that of the data (Python numbers stay weak only alone).
        order: "C", "K" or `None`: arrays are row-major.
        copy: `True` and `None` behave alike, arrays being immutable.

    Returns:
        The array.

    Raises:
        TypeError: if it cannot be converted.
    """
    if order not in (None, "C", "K", "A"):
        raise ValueError(f"asarray: order={order!r} is not supported, arrays are row-major")
    wanted = None if dtype is None else dtypes.requested(dtype, "asarray")
    result = _convert(a, wanted)
    return result if wanted is None else convert(result, wanted)


def array(
    object: Any,  # NumPy's name
    dtype: Any = None,
    copy: bool = True,
    order: str | None = "K",
    ndmin: int = 0,
) -> Any:
    """Makes an array; see `asarray`.

    Args:
        object: what to convert.
        dtype: of the result.
        copy: arrays are immutable, so that copies and originals cannot be told apart.
        order: "C" or "K".
        ndmin: axes of size 1 are put in front until there are so many.
    """
    result = asarray(object, dtype, order)
    # As in JAX, array() of a number is not weak, unlike asarray's argument in arithmetic.
    result = convert(result, result.dtype) if dtype is None and not np.isscalar(object) else result
    missing = ndmin - result.ndim
    if missing > 0:
        result = sh.reshape(result, new_sizes=(1,) * missing + tuple(result.shape), dimensions=None)
    return result


def _convert(a: Any, dtype: Any) -> Any:
    if isinstance(a, (Array, Tracer)):
        return a
    if isinstance(a, (bool, int, float, complex, np.ndarray, np.generic)):
        if dtype is not None and isinstance(a, (int, float, complex)):
            return Array.of(np.array(a).astype(dtype), Aval((), dtype))
        return as_array(a)
    if isinstance(a, (list, tuple)):
        return _from_sequence(cast("Sequence[Any]", a), dtype)
    for protocol in ("__jax_array__", "__covector_array__"):
        if hasattr(a, protocol):
            return getattr(a, protocol)()
    if hasattr(a, "__array__") or hasattr(a, "__array_interface__") or isinstance(a, memoryview):
        return as_array(np.asarray(a))
    if hasattr(a, "__dlpack__"):
        return as_array(np.from_dlpack(a))
    raise TypeError(
        compose(
            "asarray converts numbers, arrays and nested sequences of them",
            found=f"{type(a).__name__} {a!r}"[:120],
            line=here(),
        )
    )


def _from_sequence(a: Sequence[Any], dtype: Any) -> Any:
    leaves = pytree.leaves(a)
    if any(isinstance(x, Tracer) for x in leaves) or any(isinstance(x, Array) for x in leaves):
        parts = [_convert(x, dtype) for x in a]
        parts = promote_dtypes(*parts)
        shapes = {tuple(p.shape) for p in parts}
        if len(shapes) != 1:
            raise ValueError(f"asarray: the parts of a sequence have different shapes {shapes}")
        shape = parts[0].shape
        raised = [sh.reshape(p, new_sizes=(1, *shape), dimensions=None) for p in parts]
        joined = sh.concatenate(*raised, dimension=0)
        return convert(joined, joined.dtype)
    data = np.array(a)
    if data.dtype == object:
        raise TypeError(f"asarray: not a rectangular sequence of numbers: {a!r}"[:200])
    if data.size == 0 and not leaves:
        return as_array(data.astype(dtypes.default_float()))
    # A list of Python numbers has their default dtype, not NumPy's 64 bits.
    kinds: list[Any] = [type(x) for x in leaves]
    if all(k in (bool, int, float, complex) for k in kinds):
        kind = max(kinds, key=(bool, int, float, complex).index)
        target = dtype if dtype is not None else dtypes.python_scalar_dtype(kind)[0]
        return Array.of(data.astype(target), Aval(data.shape, target))
    return as_array(data)


def _shape(shape: Any) -> tuple[Any, ...]:
    if isinstance(shape, (int, np.integer)):
        return (int(cast("int", shape)),)
    try:
        return tuple([operator.index(s) if not hasattr(s, "evaluate") else s for s in shape])
    except TypeError:
        raise TypeError(
            compose(
                "shapes are sequences of ints known while tracing",
                found=repr(shape)[:120],
                fix="mark the argument static: jit(f, static_argnums=...)",
                line=here(),
            )
        ) from None


def full(shape: Any, fill_value: Any, dtype: Any = None) -> Any:
    """An array with one value everywhere.

    Args:
        shape: an int or a sequence of ints.
        fill_value: a number, or an array that broadcasts to the shape.
        dtype: by default that of the value.
    """
    value = asarray(fill_value, dtype)
    return broadcast_to(convert(value, value.dtype, value.weak_type), _shape(shape))


def zeros(shape: Any, dtype: Any = None) -> Any:
    """An array of zeros, float32 (float64 with x64) by default."""
    return _filled(shape, 0, dtype)


def ones(shape: Any, dtype: Any = None) -> Any:
    """An array of ones, float32 (float64 with x64) by default."""
    return _filled(shape, 1, dtype)


def empty(shape: Any, dtype: Any = None) -> Any:
    """Zeros: there are no uninitialised arrays."""
    return _filled(shape, 0, dtype)


def _filled(shape: Any, value: int, dtype: Any) -> Any:
    target = dtypes.default_float() if dtype is None else dtypes.requested(dtype)
    return broadcast_to(constant(value, target), _shape(shape))


def full_like(a: Any, fill_value: Any, dtype: Any = None, shape: Any = None) -> Any:
    """An array with one value everywhere, of the shape and dtype of another."""
    aval = aval_of(a if isinstance(a, (Array, Tracer)) else asarray(a))
    target = aval.dtype if dtype is None else dtypes.requested(dtype)
    value = convert(operand(fill_value, "full_like"), target, aval.weak_type and dtype is None)
    return broadcast_to(value, aval.shape if shape is None else _shape(shape))


def zeros_like(a: Any, dtype: Any = None, shape: Any = None) -> Any:
    """Zeros of the shape and dtype of another array."""
    return full_like(a, 0, dtype, shape)


def ones_like(a: Any, dtype: Any = None, shape: Any = None) -> Any:
    """Ones of the shape and dtype of another array."""
    return full_like(a, 1, dtype, shape)


def empty_like(a: Any, dtype: Any = None, shape: Any = None) -> Any:
    """Zeros of the shape and dtype of another array."""
    return full_like(a, 0, dtype, shape)


def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Any:
    """Numbers from `start` up to but not including `stop`.

    Args:
        start: the first number; with `stop` omitted, the bound of numbers from 0.
        stop: the bound.
        step: the difference of neighbours.
        dtype: by default that of the arguments.

    Raises:
        ConcretizationTypeError: for traced arguments: sizes must be known.
    """
    bounds = [x for x in (start, stop, step) if x is not None]
    if any(isinstance(x, Tracer) for x in bounds):
        from covector.core.errors import ConcretizationTypeError

        raise ConcretizationTypeError(
            compose(
                "arange needs numbers known while tracing, as they give the size of the result",
                found=", ".join(map(repr, bounds)),
                fix="mark the arguments static, or use lax.iota with a fixed size",
                line=here(),
            )
        )
    numbers: list[Any] = [x.item() if isinstance(x, np.generic) else x for x in bounds]
    values: list[Any] = [x._value[()] if isinstance(x, Array) else x for x in numbers]
    if stop is None and step is None:
        data = cast("np.ndarray[Any, Any]", np.arange(0, values[0]))
    else:
        first, last = (0, start) if stop is None else (start, stop)
        by = 1 if step is None else step
        data = cast("np.ndarray[Any, Any]", np.arange(first, last, by))
    if dtype is None:
        kind = next(
            (k for k in (complex, float, int) if any(isinstance(v, k) for v in values)), int
        )
        target = dtypes.python_scalar_dtype(kind)[0]
        if any(isinstance(v, np.generic) for v in values):
            target = dtypes.canonicalize(np.result_type(*values))
    else:
        target = dtypes.requested(dtype, "arange")
    size = len(data)
    if values == [size] and dtypes.is_integer(target):
        return sh.iota(dtype=target, shape=(size,), dimension=0)
    return as_array(data.astype(target))


def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """Evenly spaced numbers over an interval.

    Args:
        start: the first number, or an array of them.
        stop: the last number (excluded without `endpoint`).
        num: how many.
        endpoint: whether `stop` is one of them.
        retstep: whether to return the spacing too.
        dtype: of the result, a floating dtype by default.
        axis: along which the numbers lie when start and stop are arrays.
    """
    from covector.numpy import elementwise as el
    from covector.numpy.promote import promote_inexact
    from covector.ops import elementwise as lax_el
    from covector.ops.common import move_axis

    num = operator.index(num)
    if num < 0:
        raise ValueError(f"linspace: num must be at least 0, got {num}")
    first, last = promote_inexact(operand(start, "linspace"), operand(stop, "linspace"))
    first, last = convert(first, first.dtype), convert(last, last.dtype)
    parts = num - 1 if endpoint else num
    step = (last - first) / max(parts, 1)
    index = sh.iota(dtype=first.dtype, shape=(num,), dimension=0)
    index = sh.reshape(index, new_sizes=(num,) + (1,) * max(first.ndim, last.ndim), dimensions=None)
    fraction = index / max(parts, 1)
    result = first * (1 - fraction) + last * fraction
    if endpoint and num > 1:
        is_last = index == (num - 1)
        result = el.where(is_last, last, result)
    result = move_axis(result, 0, axis % result.ndim)
    if dtype is not None:
        target = dtypes.requested(dtype, "linspace")
        result = convert(lax_el.floor(result) if dtypes.is_integer(target) else result, target)
    return (result, step) if retstep else result


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Any:
    """Ones on a diagonal, zeros elsewhere.

    Args:
        N: rows.
        M: columns, as many as rows by default.
        k: which diagonal, 0 the main one.
        dtype: float32 (float64 with x64) by default.
    """
    target = dtypes.default_float() if dtype is None else dtypes.requested(dtype)
    columns = N if M is None else M
    return as_array(np.eye(N, columns, k).astype(target))


def identity(n: int, dtype: Any = None) -> Any:
    """The identity matrix of size `n`."""
    return eye(n, dtype=dtype)
