"""Bars for loops that take long, from inside of compiled code."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from math import isqrt
from typing import Any

from covector import lax
from covector import numpy as cnp
from covector.core import pytree
from covector.core.errors import compose
from covector.core.source import here
from covector.inspect.meter import LoopMeter
from covector.ops.progress import progress as tell
from covector.transforms.flat import function_name

_MOST_PIECES = 512
_LONGEST_PIECE = 4096


def progress(
    loop: Callable[..., Any], *, name: str | None = None, every: int | None = None
) -> Callable[..., Any]:
    """A loop that shows how far it is, compiled or not, and under any transformation.

    The loop runs in pieces, in a loop around them that looks at the clock. A bar appears on
    standard error if it takes longer than 0.3 s, is brought up to date ten times a second at most,
    and stays when the loop has ended; where standard error is no terminal, this is all that is
    written. After an exception or Ctrl-C nothing stays. Loops within loops have bars below each
    other. Under `vmap` there is one bar for all lanes; under `grad` the bar is of the forward loop.

    Args:
        loop: `lax.scan`, `lax.fori_loop`, `lax.while_loop` or `lax.map`.
        name: beside the bar; that of the loop by default.
        every: steps in a piece: more cost less, fewer tell sooner. By default about as many as
            there are pieces, but no more than 512 pieces; for loops whose length is not known,
            pieces double up to 4096 steps.

    Returns:
        A function of the same arguments that computes the same.

    Raises:
        TypeError: for another function.
        ValueError: if `every` is no positive number of steps.

    Example:
        >>> import covector as cv
        >>> from covector import lax
        >>> from covector.inspect import progress
        >>> def simulate(x):
        ...     return progress(lax.fori_loop)(0, 1000, lambda i, y: y + 0.5, x)
        >>> cv.jit(simulate)(1.0)
        Array(501., dtype=float32, weak_type=True)
    """
    kinds = {lax.scan: _scan, lax.fori_loop: _fori, lax.while_loop: _while, lax.map: _map}
    run = kinds.get(loop)
    if run is None:
        raise TypeError(
            compose(
                "progress takes lax.scan, lax.fori_loop, lax.while_loop or lax.map",
                found=function_name(loop),
                fix="progress(lax.scan)(f, init, xs): the loop itself, not a call of it",
                line=here(),
            )
        )
    if every is not None and (type(every) is not int or every < 1):
        raise ValueError(
            compose("progress: every is a number of steps", found=repr(every), line=here())
        )
    meter = LoopMeter(name or function_name(loop))

    @wraps(loop)
    def shown(*args: Any, **kwargs: Any) -> Any:
        try:
            return run(meter, every, *args, **kwargs)
        except BaseException:
            meter.aborted()  # loops that run in Python fail here
            raise

    return shown


def _tell(meter: LoopMeter, count: Any, total: Any, done: bool = False) -> None:
    tell(cnp.asarray(count, cnp.int32), cnp.asarray(total, cnp.int32), meter=meter, done=done)


def _piece(length: int, every: int | None) -> int:
    """Steps in a piece; if there is a length near that leaves no rest, it is taken."""
    if every is not None:
        return min(every, max(length, 1))
    pieces = min(length, max(32, min(isqrt(length), _MOST_PIECES)))
    least = -(-length // max(pieces, 1))
    for size in range(max(least, 1), 2 * least):
        if length % size == 0:
            return size
    return max(least, 1)


def _scan(
    meter: LoopMeter,
    every: int | None,
    f: Callable[[Any, Any], Any],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    **options: Any,
) -> Any:
    leaves = pytree.leaves(xs)
    if length is None and not leaves:
        return lax.scan(f, init, xs, length, reverse, unroll, **options)  # it says what is wrong
    total = int(length if length is not None else leaves[0].shape[0])
    size = _piece(total, every)
    whole = total - total % size
    # The rest, shorter than a piece, is what the loop comes to last.
    rest, main = (slice(whole, None), slice(0, whole))
    if reverse:
        rest, main = slice(0, total - whole), slice(total - whole, None)

    def steps(carry: Any, xs: Any, length: int) -> Any:
        return lax.scan(f, carry, xs, length, reverse, unroll, **options)

    def piece(state: Any, xs: Any) -> Any:
        count, carry = state
        _tell(meter, count, total)
        carry, ys = steps(carry, xs, size)
        return (count + size, carry), ys

    def in_pieces(x: Any) -> Any:
        x = cnp.asarray(x)[main]
        return x.reshape(whole // size, size, *x.shape[1:])

    def of_rest(x: Any) -> Any:
        return cnp.asarray(x)[rest]

    def flat(y: Any) -> Any:
        return y.reshape(whole, *y.shape[2:])

    def joined(main: Any, rest: Any) -> Any:
        return cnp.concatenate((rest, main) if reverse else (main, rest))

    pieces = pytree.map(in_pieces, xs)
    start = (cnp.int32(0), init)
    (_, carry), ys = lax.scan(piece, start, pieces, whole // size, reverse, **options)
    ys = pytree.map(flat, ys)
    if whole < total:
        carry, last = steps(carry, pytree.map(of_rest, xs), total - whole)
        ys = pytree.map(joined, ys, last)
    _tell(meter, total, total, done=True)
    return carry, ys


def _map(
    meter: LoopMeter,
    every: int | None,
    f: Callable[..., Any],
    xs: Any,
    *,
    batch_size: int | None = None,
) -> Any:
    if batch_size is not None:
        raise ValueError(
            compose(
                "progress of lax.map with batch_size",
                fix="progress(lax.map)(vmap(f), batches)",
                line=here(),
            )
        )
    return _scan(meter, every, lambda _, x: ((), f(x)), (), xs)[1]


def _fori(
    meter: LoopMeter,
    every: int | None,
    lower: Any,
    upper: Any,
    body_fun: Callable[[Any, Any], Any],
    init_val: Any,
    **options: Any,
) -> Any:
    if type(lower) is not int or type(upper) is not int:
        if any([v is not None for v in options.values()]):
            return lax.fori_loop(lower, upper, body_fun, init_val, **options)  # it says why not
        return _fori_traced(meter, every, lower, upper, body_fun, init_val)
    total = max(upper - lower, 0)
    size = _piece(total, every)

    def piece(k: Any, value: Any) -> Any:
        _tell(meter, k * size, total)
        first = lower + k * size
        return lax.fori_loop(0, size, lambda i, v: body_fun(first + i, v), value, **options)

    remat = {k: v for k, v in options.items() if k == "remat"}
    value = lax.fori_loop(0, total // size, piece, init_val, **remat)
    first = lower + total // size * size
    value = lax.fori_loop(first, lower + total, body_fun, value, **options)
    _tell(meter, total, total, done=True)
    return value


def _fori_traced(
    meter: LoopMeter, every: int | None, lower: Any, upper: Any, body_fun: Any, init_val: Any
) -> Any:
    first, last = cnp.asarray(lower), cnp.asarray(upper)
    dtype = cnp.result_type(first, last)
    first, last = first.astype(dtype), last.astype(dtype)

    def step(state: Any) -> Any:
        i, value = state
        return i + 1, body_fun(i, value)

    start = (first, init_val)
    return _while(meter, every, lambda s: s[0] < last, step, start, last - first)[1]


def _while(
    meter: LoopMeter,
    every: int | None,
    cond_fun: Callable[[Any], Any],
    body_fun: Callable[[Any], Any],
    init_val: Any,
    total: Any = -1,
) -> Any:
    def step(state: Any) -> Any:
        k, value = state
        return k + 1, body_fun(value)

    def piece(state: Any) -> Any:
        count, size, value = state
        _tell(meter, count, total)
        start = (cnp.int32(0), value)
        k, value = lax.while_loop(lambda s: (s[0] < size) & cond_fun(s[1]), step, start)
        longer = size if every else cnp.minimum(2 * size, _LONGEST_PIECE)
        return count + k, longer, value

    start = (cnp.int32(0), cnp.int32(every or 1), init_val)
    count, _, value = lax.while_loop(lambda state: cond_fun(state[2]), piece, start)
    _tell(meter, count, total, done=True)
    return value
