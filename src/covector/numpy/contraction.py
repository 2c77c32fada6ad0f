"""Sums of products given by index letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from covector.core import dtypes
from covector.numpy.manipulation import reshape, transpose
from covector.numpy.promote import (
    broadcast_to,
    constant,
    convert,
    operand,
    promote_dtypes,
)
from covector.numpy.reductions import no_out
from covector.ops import elementwise as el
from covector.ops import shape as sh
from covector.ops.contract import dot_general
from covector.ops.reduce import reduce_sum

__all__ = ["einsum", "einsum_path"]

Labels = str
"""One letter for each axis."""


def einsum_path(subscripts: Any, /, *operands: Any, optimize: Any = "auto") -> Any:
    """In which order `einsum` contracts its operands.

    Args:
        subscripts: see `einsum`.
        operands: arrays, or anything with a shape.
        optimize: see `einsum`.

    Returns:
        A list of the operands contracted in each step, and a description.
    """
    method = "optimal" if optimize is True else ("auto" if optimize is False else optimize)
    return _opt_einsum().contract_path(subscripts, *operands, optimize=method)


def _opt_einsum() -> Any:
    """The package that finds paths, imported when it is first needed."""
    import opt_einsum

    return opt_einsum


def einsum(
    subscripts: Any,
    /,
    *operands: Any,
    out: None = None,
    optimize: Any = "auto",
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Sums of products given by index letters.

    Args:
        subscripts: a letter for each axis of each operand and of the result, as in "ij,jk->ik";
            letters that the result lacks are summed over. "..." stands for axes that broadcast.
        operands: arrays. Operands and lists of axis numbers in turns, without subscripts, also do.
        out: must be `None`.
        optimize: how the order of contractions is found: a method of opt_einsum, "auto" by
            default, or a path; `False` goes from left to right.
        precision: accepted for JAX's sake; see `matmul`.
        preferred_element_type: dtype of the result.

    Returns:
        An array.

    Raises:
        ValueError: the subscripts do not fit the operands.

    >>> import covector.numpy as cnp
    >>> cnp.einsum("ij,j->i", cnp.ones((2, 3)), cnp.arange(3.0))
    Array([3., 3.], dtype=float32)
    """
    no_out("einsum", out)
    if isinstance(subscripts, str) and not operands:
        raise ValueError("einsum needs at least one operand")

    given = (subscripts, *operands)
    if not isinstance(subscripts, str):
        given = tuple([operand(x, "einsum") if hasattr(x, "ndim") else x for x in given])
    parsed: tuple[str, str, Sequence[Any]] = _opt_einsum().parser.parse_einsum_input(given)
    labels, result, arrays = parsed
    arrays = [operand(x, "einsum") for x in arrays]
    inputs = labels.split(",")
    path = _path(f"{labels}->{result}", arrays, optimize)
    arrays = promote_dtypes(*arrays)
    steps = list(zip(inputs, arrays, strict=True))
    for chosen in path:
        taken = [steps.pop(k) for k in sorted(chosen, reverse=True)]
        kept = set(result).union(*[set(names) for names, _ in steps])
        last = not steps
        steps.append(_contract(taken, kept, result if last else None, precision))
    ((names, array),) = steps
    if names != result:
        array = transpose(array, [names.index(c) for c in result])
    if preferred_element_type is not None:
        array = convert(array, dtypes.requested(preferred_element_type, "einsum"))
    return array


def _path(equation: str, arrays: Sequence[Any], optimize: Any) -> list[tuple[int, ...]]:
    """Which operands to contract in each step."""
    count = len(arrays)
    if count <= 2:
        return [tuple(range(count))]
    if optimize is False:
        # The result goes to the end: the next step takes it and what is then the first.
        return [(0, 1), *[(0, count - k - 1) for k in range(1, count - 1)]]
    if isinstance(optimize, (list, tuple)):
        given = cast("Sequence[Any]", optimize)
        steps: list[Any] = [step for step in given if not isinstance(step, str)]
    else:
        method = "optimal" if optimize is True else optimize
        shapes = [tuple(x.shape) for x in arrays]
        finder = _opt_einsum()
        steps = finder.contract_path(equation, *shapes, shapes=True, optimize=method)[0]
    return [tuple(step) for step in steps]


def _contract(
    taken: Sequence[tuple[Labels, Any]], kept: set[str], order: Labels | None, precision: Any
) -> tuple[Labels, Any]:
    """Multiplies operands and sums over the letters that are no longer needed."""
    taken = [_diagonal(names, x) for names, x in taken]
    while len(taken) > 2:
        *others, first, second = taken
        needed = kept.union(*[set(names) for names, _ in others])
        taken = [*others, _pair(first, second, needed, precision)]
    if len(taken) == 2:
        # In the order of the operands, as `taken` is from the last to the first.
        second, first = taken
        names, x = _pair(first, second, kept, precision)
    else:
        names, x = _summed(*taken[0], kept)
    if order is not None and names != order:
        x, names = transpose(x, [names.index(c) for c in order]), order
    return names, x


def _diagonal(names: Labels, x: Any) -> tuple[Labels, Any]:
    """Axes with the same letter made one: only elements with equal indices there stay."""
    for letter in dict.fromkeys(names):
        while names.count(letter) > 1:
            first = names.index(letter)
            second = names.index(letter, first + 1)
            x = _one_diagonal(x, first, second)
            names = names[:second] + names[second + 1 :]
    return names, x


def _one_diagonal(x: Any, first: int, second: int) -> Any:
    rows = sh.iota(dtype=dtypes.int32, shape=x.shape, dimension=first)
    columns = sh.iota(dtype=dtypes.int32, shape=x.shape, dimension=second)
    zero = broadcast_to(constant(0, x.dtype), x.shape)
    on_diagonal = el.select_n(el.eq(rows, columns), zero, x)
    return _sum_axes(on_diagonal, (second,))


def _sum_axes(x: Any, axes: tuple[int, ...]) -> Any:
    if dtypes.is_bool(x.dtype):
        from covector.ops.reduce import reduce_or

        return reduce_or(x, axes=axes)
    return reduce_sum(x, axes=axes)


def _summed(names: Labels, x: Any, kept: set[str]) -> tuple[Labels, Any]:
    """Summed over the letters that are not kept."""
    axes = tuple([k for k, c in enumerate(names) if c not in kept])
    if not axes:
        return names, x
    return "".join(c for c in names if c in kept), _sum_axes(x, axes)


def _pair(
    first: tuple[Labels, Any], second: tuple[Labels, Any], kept: set[str], precision: Any
) -> tuple[Labels, Any]:
    """Two operands contracted by one `dot_general`."""
    (a_names, a), (b_names, b) = first, second
    a_names, a = _without_ones(a_names, a, b_names)
    b_names, b = _without_ones(b_names, b, a_names)
    a_names, a = _summed(a_names, a, kept | set(b_names))
    b_names, b = _summed(b_names, b, kept | set(a_names))
    shared = [c for c in a_names if c in b_names]
    batch = [c for c in shared if c in kept]
    contracted = [c for c in shared if c not in kept]
    numbers = (
        (tuple(map(a_names.index, contracted)), tuple(map(b_names.index, contracted))),
        (tuple(map(a_names.index, batch)), tuple(map(b_names.index, batch))),
    )
    product = dot_general(
        a, b, dimension_numbers=numbers, precision=precision, preferred_element_type=None
    )
    free = [c for c in a_names if c not in shared] + [c for c in b_names if c not in shared]
    return "".join(batch + free), product


def _without_ones(names: Labels, x: Any, others: Labels) -> tuple[Labels, Any]:
    """Without axes of size 1 whose letters the other operand has too: they broadcast."""
    ones = [k for k, c in enumerate(names) if c in others and x.shape[k] == 1]
    if not ones:
        return names, x
    rest = [k for k in range(len(names)) if k not in ones]
    return "".join(names[k] for k in rest), reshape(x, [x.shape[k] for k in rest])
