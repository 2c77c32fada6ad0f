"""PRNG keys: making, splitting and unwrapping them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.array import as_array
from covector.core.errors import compose
from covector.core.source import here
from covector.core.trace import aval_of
from covector.numpy.promote import convert, operand
from covector.ops import random as rnd
from covector.random.arguments import DEFAULT_IMPL, key_argument

_IMPLS = {"threefry2x32": DEFAULT_IMPL, "fry": DEFAULT_IMPL}


def _tag(impl: Any, dtype: Any = None) -> str:
    """The tag of a generator given by name or by dtype."""
    if impl is not None and dtype is not None:
        raise ValueError("a generator is given by impl or by dtype, not by both")
    spec = dtype if impl is None else impl
    if spec is None:
        return DEFAULT_IMPL
    if isinstance(spec, dtypes.KeyDType):
        return spec.tag
    if isinstance(spec, str):
        if spec in _IMPLS:
            return _IMPLS[spec]
        raise ValueError(f"no PRNG is called {spec!r}; there is: 'threefry2x32'")
    raise TypeError(
        f"a PRNG is given by name or by key dtype, got {type(spec).__name__} {spec!r:.60}"
    )


def key_dtype(impl: Any = None) -> Any:
    """The dtype of keys of a generator.

    Args:
        impl: its name, "threefry2x32" by default.

    >>> from covector import random
    >>> random.key_dtype()
    key<fry>
    """
    return dtypes.KeyDType(_tag(impl))


def key(seed: Any, *, impl: Any = None, dtype: Any = None) -> Any:
    """Makes a PRNG key from a seed.

    Args:
        seed: an integer scalar; equal seeds give equal keys. Without x64, ints count modulo 2**32.
        impl: the generator, "threefry2x32" by default.
        dtype: the same by its key dtype.

    Returns:
        A scalar array of a key dtype.

    Raises:
        TypeError: the seed is not an integer scalar.

    >>> from covector import random
    >>> random.key_data(random.key(42))
    Array([ 0, 42], dtype=uint32)
    """
    return _seeded("key", seed, _tag(impl, dtype))


def PRNGKey(seed: Any, *, impl: Any = None) -> Any:
    """Makes a legacy PRNG key from a seed: its words as a uint32 array.

    Every function here takes legacy keys too, and gives legacy keys back for them.

    Args:
        seed: an integer scalar.
        impl: the generator, "threefry2x32" by default.

    >>> from covector import random
    >>> random.PRNGKey(42)
    Array([ 0, 42], dtype=uint32)
    """
    return rnd.random_unwrap(_seeded("PRNGKey", seed, _tag(impl)))


def _seeded(name: str, seed: Any, tag: str) -> Any:
    if isinstance(seed, int) and not isinstance(seed, bool):
        # As 64 bits first, so that hashes, which may need them, are seeds without x64 too.
        seed = as_array(np.int64(seed))
    seed = operand(seed, name)
    if seed.ndim or not dtypes.is_integer(seed.dtype):
        raise TypeError(
            compose(
                f"{name} needs an integer scalar as its seed",
                found=str(seed.aval),
                fix=f"use vmap(random.{name}) for an array of seeds",
                line=here(),
            )
        )
    return rnd.random_seed(seed, impl=tag)


def split(key: Any, num: int | Sequence[int] = 2) -> Any:
    """New independent keys from one, which must not be used again.

    Args:
        key: a PRNG key.
        num: how many, or the shape of the array of keys.

    Returns:
        An array of keys.

    >>> from covector import random
    >>> first, second = random.split(random.key(0))
    """
    single, legacy = key_argument("split", key)
    shape = tuple(num) if isinstance(num, Sequence) else (num,)
    keys = rnd.random_split(single, shape=shape)
    return rnd.random_unwrap(keys) if legacy else keys


def fold_in(key: Any, data: Any) -> Any:
    """A new key from a key and a number, such as the index of a step.

    Args:
        key: a PRNG key.
        data: an integer scalar; it counts modulo 2**32.

    Raises:
        TypeError: `data` is not a scalar.
    """
    single, legacy = key_argument("fold_in", key)
    if isinstance(data, int):
        data = np.uint32(data & 0xFFFFFFFF)
    number = operand(data, "fold_in")
    if number.ndim:
        raise TypeError(
            f"fold_in takes an integer scalar, got {number.aval}; use vmap for arrays of numbers"
        )
    folded = rnd.random_fold_in(single, convert(number, dtypes.uint32))
    return rnd.random_unwrap(folded) if legacy else folded


def clone(key: Any) -> Any:
    """The same key under another name: says that using it twice is on purpose."""
    keys, legacy = key_argument("clone", key, batched=True)
    cloned = rnd.random_clone(keys)
    return rnd.random_unwrap(cloned) if legacy else cloned


def key_data(keys: Any) -> Any:
    """The words of keys, as a uint32 array with one more axis."""
    return rnd.random_unwrap(key_argument("key_data", keys, batched=True)[0])


def wrap_key_data(key_bits_array: Any, *, impl: Any = None, dtype: Any = None) -> Any:
    """Keys from their words; the inverse of `key_data`.

    Args:
        key_bits_array: uint32 words along the last axis.
        impl: the generator, "threefry2x32" by default.
        dtype: the same by its key dtype.

    Raises:
        TypeError: these are no words of keys.
    """
    return rnd.random_wrap(operand(key_bits_array, "wrap_key_data"), impl=_tag(impl, dtype))


def key_impl(keys: Any) -> str:
    """The name of the generator of keys.

    >>> from covector import random
    >>> random.key_impl(random.key(0))
    'threefry2x32'
    """
    return aval_of(key_argument("key_impl", keys, batched=True)[0]).dtype.impl
