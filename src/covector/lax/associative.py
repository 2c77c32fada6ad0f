"""`associative_scan`: prefix sums with any associative operation, in logarithmic depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from covector.core import pytree
from covector.core.trace import aval_of
from covector.lax.bodies import check_callable
from covector.ops.axes import rev
from covector.ops.pieces import concatenate
from covector.ops.shape import reshape
from covector.ops.slices import slice_, slice_in_dim
from covector.transforms.flat import check_leaves


def associative_scan(
    fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0
) -> Any:
    """Combines each element with all before it, by an associative operation.

    `associative_scan(add, [a, b, c])` is `[a, a + b, a + b + c]`. The operation is applied to many
    pairs at once: about 2 n of them in 2 log(n) calls.

    Args:
        fn: takes two pytrees like `elems`, of some length along `axis`, and combines them element
            by element. `fn(fn(a, b), c)` is `fn(a, fn(b, c))`.
        elems: a pytree of arrays of equal size along `axis`.
        reverse: combine from the end.
        axis: to go along.

    Returns:
        A pytree like `elems`.

    Raises:
        ValueError: if sizes along the axis differ, or `fn` changes the structure or shapes.

    >>> import covector.numpy as cnp
    >>> from covector import lax
    >>> lax.associative_scan(lambda a, b: a * b, cnp.arange(1, 6))
    Array([  1,   2,   6,  24, 120], dtype=int32)
    """
    check_callable("lax.associative_scan: fn", fn)
    check_leaves("lax.associative_scan: elems", elems)
    leaves, tree = pytree.flatten(elems)
    if not leaves:
        return elems
    ndim = len(aval_of(leaves[0]).shape)
    if not -ndim <= axis < ndim:
        raise ValueError(f"associative_scan: axis {axis} of an array of {ndim} axes")
    axis %= ndim
    sizes = [_size(x, axis) for x in leaves]
    if any(s != sizes[0] for s in sizes):
        raise ValueError(
            f"associative_scan: arrays must have equal sizes along axis {axis}, got {sizes}"
        )

    def combine(a: list[Any], b: list[Any]) -> list[Any]:
        result = fn(pytree.unflatten(tree, a), pytree.unflatten(tree, b))
        found, found_tree = pytree.flatten(result)
        if found_tree != tree:
            raise ValueError(f"associative_scan: fn takes pytrees {tree} but returned {found_tree}")
        for x, y in zip(a, found, strict=True):
            if aval_of(y).shape != aval_of(x).shape:
                raise ValueError(
                    f"associative_scan: fn must keep shapes, it made {aval_of(y)} of {aval_of(x)}"
                )
        return found

    if reverse:
        leaves = [rev(x, dimensions=(axis,)) for x in leaves]
    results = _prefixes(combine, leaves, sizes[0], axis)
    if reverse:
        results = [rev(x, dimensions=(axis,)) for x in results]
    return pytree.unflatten(tree, results)


def _size(x: Any, axis: int) -> int:
    shape = aval_of(x).shape
    size = shape[axis] if axis < len(shape) else None
    if not isinstance(size, int):
        raise ValueError(
            f"associative_scan needs arrays of known size along axis {axis}, got {aval_of(x)}"
        )
    return size


def _prefixes(
    combine: Callable[[list[Any], list[Any]], list[Any]], xs: list[Any], size: int, axis: int
) -> list[Any]:
    """Prefixes of neighbouring pairs give the odd ones, and one more step the even ones.

    (Blelloch, "Prefix sums and their applications", in the form that shares the pairs.)
    """
    if size < 2:
        return xs
    even = [_every_second(x, 0, size - 1, axis) for x in xs]
    odd = [_every_second(x, 1, size, axis) for x in xs]
    at_odd = _prefixes(combine, combine(even, odd), size // 2, axis)
    # The even elements after the first, each with all before it.
    before = [slice_in_dim(x, 0, (size - 1) // 2, axis) for x in at_odd]
    after = [_every_second(x, 2, size, axis) for x in xs]
    rest = combine(before, after) if size > 2 else after
    first = [slice_in_dim(x, 0, 1, axis) for x in xs]
    at_even = [concatenate(a, b, dimension=axis) for a, b in zip(first, rest, strict=True)]
    return [_interleaved(a, b, size, axis) for a, b in zip(at_even, at_odd, strict=True)]


def _every_second(x: Any, start: int, limit: int, axis: int) -> Any:
    shape = aval_of(x).shape
    return slice_(
        x,
        start_indices=tuple([start if d == axis else 0 for d in range(len(shape))]),
        limit_indices=tuple([limit if d == axis else n for d, n in enumerate(shape)]),
        strides=tuple([2 if d == axis else 1 for d in range(len(shape))]),
    )


def _interleaved(even: Any, odd: Any, size: int, axis: int) -> Any:
    """One array of both, in turns; `even` may have one element more."""
    pairs = size // 2
    whole = [slice_in_dim(even, 0, pairs, axis), odd]
    shape = aval_of(odd).shape
    split = [
        reshape(x, new_sizes=(*shape[: axis + 1], 1, *shape[axis + 1 :]), dimensions=None)
        for x in whole
    ]
    both = concatenate(*split, dimension=axis + 1)
    both = reshape(both, new_sizes=(*shape[:axis], 2 * pairs, *shape[axis + 1 :]), dimensions=None)
    if size % 2 == 0:
        return both
    return concatenate(both, slice_in_dim(even, pairs, pairs + 1, axis), dimension=axis)
