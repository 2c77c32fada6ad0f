"""What the samplers share: reading keys, shapes, dtypes and parameters."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from covector.core import dtypes
from covector.core.array import Array
from covector.core.dims import Dim
from covector.core.errors import TypePromotionError, compose
from covector.core.promotion import lattice_result
from covector.core.source import here
from covector.core.trace import Tracer
from covector.numpy.promote import broadcast_shapes, broadcast_to, convert, operand
from covector.ops.random import random_split, random_wrap

Shape = Sequence[Any]
"""Ints known while tracing, or symbolic dimensions."""

DEFAULT_IMPL = "fry"


def key_argument(name: str, key: Any, *, batched: bool = False) -> tuple[Any, bool]:
    """A key as an array of the key dtype, and whether it was given by its words.

    Args:
        name: the function, for messages.
        key: a PRNG key, or its words as a uint32 array (a legacy key).
        batched: allow an array of keys.

    Raises:
        TypeError: it is no key.
        ValueError: it is an array of keys where a single one is needed.
    """
    if not isinstance(key, (Array, Tracer, np.ndarray)):
        raise TypeError(
            compose(
                f"{name} needs a PRNG key",
                found=f"{type(key).__name__} {key!r}"[:120],
                fix="make one with random.key(seed)",
                line=here(),
            )
        )
    given = cast("Any", key)
    legacy = not dtypes.is_key(given.dtype)
    keys: Any = random_wrap(given, impl=DEFAULT_IMPL) if legacy else given
    if keys.ndim and not batched:
        raise ValueError(
            compose(
                f"{name} takes a single key",
                found=f"an array of keys of shape {keys.shape}",
                fix=f"use vmap(random.{name}), or index the array",
                line=here(),
            )
        )
    return keys, legacy


def single_key(name: str, key: Any) -> Any:
    """The key that a sampler draws from."""
    return key_argument(name, key)[0]


def subkeys(key: Any, count: int = 2) -> list[Any]:
    """Independent keys from one."""
    from covector.ops.pieces import unstack

    return unstack(random_split(key, shape=(count,)), axis=0)


def shape_argument(name: str, shape: Any) -> tuple[Any, ...]:
    """A shape as a tuple.

    Raises:
        TypeError: it is no sequence of ints known while tracing.
        ValueError: a size is negative.
    """
    try:
        sizes = tuple([s if isinstance(s, Dim) else operator.index(s) for s in shape])
    except TypeError:
        raise TypeError(
            compose(
                f"the shape given to {name} must be a sequence of ints known while tracing",
                found=repr(shape)[:120],
                fix="write (n,) for a single axis; mark traced sizes static",
                line=here(),
            )
        ) from None
    if any(not isinstance(s, Dim) and s < 0 for s in sizes):
        raise ValueError(f"the shape given to {name} must not be negative, found {sizes}")
    return sizes


def joint_shape(name: str, shape: Any, *parameters: Any) -> tuple[Any, ...]:
    """The shape of the result: the one asked for, or that of all parameters together.

    Raises:
        ValueError: the parameters do not broadcast to the shape asked for.
    """
    own = [p.shape for p in parameters]
    if shape is None:
        return broadcast_shapes(name, *own) if own else ()
    sizes = shape_argument(name, shape)
    check_broadcast(name, sizes, *own)
    return sizes


def check_broadcast(name: str, shape: tuple[Any, ...], *shapes: Any) -> None:
    """Raises unless shapes broadcast to `shape`."""
    if broadcast_shapes(name, shape, *shapes) != shape:
        found = ", ".join(str(tuple(s)) for s in shapes)
        raise ValueError(
            compose(
                f"the parameters of {name} must broadcast to the shape {shape}",
                found=f"parameters of shape {found}",
                fix="ask for a larger shape, or leave it out",
                line=here(),
            )
        )


def float_dtype(name: str, dtype: Any) -> Any:
    """The dtype of a sampler of floats, by default float32 (float64 with x64).

    Raises:
        ValueError: it is not a floating dtype.
    """
    target = dtypes.default_float() if dtype is None else dtypes.requested(dtype, name)
    if not dtypes.is_floating(target):
        raise ValueError(f"{name} draws floats: dtype must be a floating dtype, got {target}")
    return target


def int_dtype(name: str, dtype: Any) -> Any:
    """The dtype of a sampler of integers, by default int32 (int64 with x64).

    Raises:
        TypeError: it is not an integer dtype.
    """
    target = dtypes.default_int() if dtype is None else dtypes.requested(dtype, name)
    if not dtypes.is_integer(target):
        raise TypeError(f"{name} draws integers: dtype must be an integer dtype, got {target}")
    return target


def parameters(name: str, dtype: Any, *values: Any) -> list[Any]:
    """Parameters of a distribution as arrays of a dtype that holds what they hold.

    Raises:
        TypePromotionError: converting one to the dtype would lose precision.
    """
    found: list[Any] = []
    for value in values:
        x = operand(value, name)
        if lattice_result([(x.aval.dtype, x.aval.weak_type), (dtype, False)])[0] != dtype:
            raise TypePromotionError(
                compose(
                    f"{name} in {dtype} cannot hold its parameters exactly",
                    found=f"a parameter {x.aval}",
                    fix=f"pass dtype={x.aval.dtype}, or convert the parameter",
                    line=here(),
                )
            )
        found.append(convert(x, dtype))
    return found


def spread(x: Any, shape: tuple[Any, ...]) -> Any:
    """A parameter repeated to the shape of the result."""
    return broadcast_to(x, shape)
