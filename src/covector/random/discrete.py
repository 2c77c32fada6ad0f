"""Discrete distributions, choices and permutations."""

from __future__ import annotations

import math
from typing import Any

from covector.core import dtypes
from covector.core.dims import Dim
from covector.core.errors import compose
from covector.core.source import here
from covector.numpy.creation import arange, asarray, zeros
from covector.numpy.elementwise import where
from covector.numpy.index_functions import take
from covector.numpy.manipulation import expand_dims, moveaxis, reshape
from covector.numpy.promote import convert, operand, promote_inexact
from covector.numpy.reductions import argmax, cumsum, one_axis
from covector.numpy.sorting import searchsorted
from covector.ops import elementwise as el
from covector.ops import sort as so
from covector.ops.random import random_bits
from covector.random.arguments import (
    Shape,
    check_broadcast,
    int_dtype,
    joint_shape,
    shape_argument,
    single_key,
    spread,
    subkeys,
)
from covector.random.continuous import gumbel
from covector.random.uniforms import randint, unit


def bernoulli(key: Any, p: Any = 0.5, shape: Shape | None = None, mode: str = "low") -> Any:
    """Bools that are true with a probability.

    Args:
        key: a PRNG key.
        p: probabilities, of a floating dtype.
        shape: of the result, by default that of `p`.
        mode: "low" draws one number for each; "high" draws two, for small probabilities (below
            about 1e-7 in float32).

    Raises:
        TypeError: `p` is not of a floating dtype.
        ValueError: for another mode.
    """
    if mode not in ("low", "high"):
        raise ValueError(f"bernoulli: mode must be 'low' or 'high', got {mode!r}")
    single = single_key("bernoulli", key)
    probability = operand(p, "bernoulli")
    target = probability.dtype
    if not dtypes.is_floating(target):
        raise TypeError(f"bernoulli: p must be of a floating dtype, got {probability.aval}")
    sizes = joint_shape("bernoulli", shape, probability)
    probability = spread(convert(probability, target), sizes)
    if mode == "low":
        return el.lt(unit(single, sizes, target), probability)
    drawn = unit(single, (2, *sizes), target)
    coarse, fine = drawn[0], drawn[1] * 2.0 ** -dtypes.finfo(target).nmant
    return fine < probability - coarse


def rademacher(key: Any, shape: Shape = (), dtype: Any = None) -> Any:
    """-1 and 1 with equal probability.

    Args:
        key: a PRNG key.
        shape: of the result.
        dtype: int32 (int64 with x64) by default.
    """
    single = single_key("rademacher", key)
    target = dtypes.default_int() if dtype is None else dtypes.requested(dtype, "rademacher")
    heads = bernoulli(single, 0.5, shape_argument("rademacher", shape))
    return convert(2 * convert(heads, target) - 1, target)


def geometric(key: Any, p: Any, shape: Shape | None = None, dtype: Any = None) -> Any:
    """How many trials it takes until the first success.

    Args:
        key: a PRNG key.
        p: probabilities of success.
        shape: of the result, by default that of `p`.
        dtype: an integer dtype, int32 (int64 with x64) by default.
    """
    single = single_key("geometric", key)
    target = int_dtype("geometric", dtype)
    (probability,) = promote_inexact(operand(p, "geometric"))
    sizes = joint_shape("geometric", shape, probability)
    u = unit(single, sizes, probability.dtype)
    u = where(u == 0, 1, u)
    trials = el.div(el.log(u), spread(el.log1p(-probability), sizes))
    return convert(el.floor(trials) + 1, target)


def categorical(
    key: Any,
    logits: Any,
    axis: int = -1,
    shape: Shape | None = None,
    replace: bool = True,
    mode: str | None = None,
) -> Any:
    """Numbers of categories, drawn by the logarithms of their probabilities.

    Each is the category for which logit plus Gumbel noise is largest; without replacement, those
    for which the sum is largest (Kool, van Hoof, Welling 2019).

    Args:
        key: a PRNG key.
        logits: logarithms of probabilities, up to a constant.
        axis: along which the categories lie.
        shape: of the result: that of the logits without the axis, which is the default, with axes
            of samples before it.
        replace: whether a category may come more than once.
        mode: of the noise, see `gumbel`.

    Raises:
        ValueError: the shapes do not agree, or there are fewer categories than samples.
    """
    single = single_key("categorical", key)
    scores = asarray(logits)
    place = one_axis("categorical", axis, scores.ndim)
    batch = tuple(n for k, n in enumerate(scores.shape) if k != place)
    sizes = batch if shape is None else shape_argument("categorical", shape)
    check_broadcast("categorical", sizes, batch)
    prefix = sizes[: len(sizes) - len(batch)]
    if not replace:
        noisy = scores + gumbel(single, scores.shape, scores.dtype, mode)
        return _most_likely(moveaxis(noisy, place, -1), prefix, sizes)
    whole = list(sizes[len(prefix) :])
    whole.insert(place, scores.shape[place])
    noise = gumbel(single, (*prefix, *whole), scores.dtype, mode)
    spread_scores = expand_dims(scores, tuple(range(len(prefix)))) if prefix else scores
    return argmax(noise + spread_scores, place - scores.ndim)


def _most_likely(scores: Any, prefix: tuple[Any, ...], shape: tuple[Any, ...]) -> Any:
    count, there = math.prod(prefix), scores.shape[-1]
    if count > there:
        raise ValueError(
            f"categorical cannot draw {count} of {there} categories without replacement"
        )
    _, found = so.top_k(scores, k=count, axis=scores.ndim - 1)
    return reshape(moveaxis(found, -1, 0), shape)


# --- permutations and choices -------------------------------------------------------------------


def permutation(key: Any, x: Any, axis: int = 0, independent: bool = False) -> Any:
    """An array in random order, or the numbers below `x`.

    Args:
        key: a PRNG key.
        x: an array, or an int known while tracing.
        axis: along which elements change places.
        independent: whether each vector along the axis is put in an order of its own.

    >>> from covector import random
    >>> random.permutation(random.key(0), 5)
    Array([0, 1, 4, 3, 2], dtype=int32)
    """
    single = single_key("permutation", key)
    array = operand(x, "permutation")
    if not array.ndim:
        return _shuffled(single, arange(_count("permutation", x, array)), 0)
    place = one_axis("permutation", axis, array.ndim)
    if independent or array.ndim == 1:
        return _shuffled(single, array, place)
    order = _shuffled(single, arange(array.shape[place]), 0)
    return take(array, order, axis=place)


def _count(name: str, x: Any, array: Any) -> int:
    if not dtypes.is_integer(array.dtype):
        raise TypeError(f"{name} takes an array with at least one axis or an int, got {array.aval}")
    return int(x)


def _shuffled(key: Any, x: Any, axis: int) -> Any:
    """Elements sorted by random words, often enough that ties in all rounds are unlikely."""
    if any(isinstance(s, Dim) for s in x.shape):
        raise NotImplementedError(
            f"permutation needs an array of known size, got {x.aval}: the number of rounds "
            "depends on it"
        )
    rounds = math.ceil(3 * math.log(max(1, x.size)) / math.log(2**32 - 1))
    for _ in range(rounds):
        key, one_time = subkeys(key)
        words = random_bits(one_time, bit_width=32, shape=x.shape)
        _, x = so.sort(words, x, dimension=axis, is_stable=True, num_keys=1)
    return x


def choice(
    key: Any,
    a: Any,
    shape: Shape = (),
    replace: bool = True,
    p: Any = None,
    axis: int = 0,
    mode: str | None = None,
) -> Any:
    """Elements of an array chosen at random.

    Args:
        key: a PRNG key.
        a: an array, or an int for the numbers below it.
        shape: how many to choose; it takes the place of the axis in the result.
        replace: whether an element may be chosen more than once.
        p: probabilities of the elements, equal by default.
        axis: along which the elements lie.
        mode: of the noise that decides with `p` and without replacement, see `gumbel`.

    Raises:
        ValueError: there are not enough elements, or `p` has another size.

    >>> from covector import random
    >>> import covector.numpy as cnp
    >>> random.choice(random.key(0), cnp.array([10, 20, 30]), (4,)).shape
    (4,)
    """
    single = single_key("choice", key)
    sizes = shape_argument("choice", shape)
    array = operand(a, "choice")
    place = one_axis("choice", axis, array.ndim) if array.ndim else 0
    size = array.shape[place] if array.ndim else _count("choice", a, array)
    draws = math.prod(sizes)
    if draws == 0:
        return zeros(sizes, array.dtype)
    _check_enough(size, draws, replace)
    if p is None and not replace:
        shuffled = permutation(single, array if array.ndim else size, place)
        chosen = take(shuffled, arange(draws), axis=place)
    else:
        chosen = _chosen(single, size, sizes, replace, p, mode)
        chosen = take(array, chosen, axis=place) if array.ndim else chosen
    before, after = array.shape[:place], array.shape[place + 1 :]
    return reshape(chosen, (*before, *sizes, *after))


def _check_enough(size: int, draws: int, replace: bool) -> None:
    if size <= 0:
        raise ValueError("choice needs something to choose from: a has no elements")
    if not replace and draws > size:
        raise ValueError(
            compose(
                "choice cannot take more elements than there are without replacement",
                found=f"{draws} samples of {size} elements",
                fix="pass replace=True or a smaller shape",
                line=here(),
            )
        )


def _chosen(
    key: Any, size: int, shape: tuple[Any, ...], replace: bool, p: Any, mode: str | None
) -> Any:
    """Indices of the elements chosen."""
    if p is None:
        return randint(key, shape, 0, size)
    (weights,) = promote_inexact(operand(p, "choice"))
    if weights.shape != (size,):
        raise ValueError(
            f"choice: p must be a vector of {size} probabilities, one for each element, "
            f"got {weights.aval}"
        )
    index = dtypes.default_int()
    if replace:
        bounds = cumsum(weights)
        drawn = bounds[-1] * (1 - unit(key, shape, bounds.dtype))
        return convert(searchsorted(bounds, drawn), index)
    noisy = gumbel(key, (size,), weights.dtype, mode) + el.log(weights)
    return convert(so.top_k(noisy, k=math.prod(shape), axis=0)[1], index)
