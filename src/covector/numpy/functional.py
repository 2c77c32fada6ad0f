"""Functions of functions: applied along axes, to elements, to pieces."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

from covector.core import dtypes
from covector.core.trace import aval_of
from covector.numpy.creation import asarray
from covector.numpy.elementwise import where
from covector.numpy.manipulation import broadcast_shapes, expand_dims, moveaxis, squeeze
from covector.numpy.promote import broadcast_to, operand
from covector.numpy.reductions import one_axis
from covector.transforms.batching import vmap

__all__ = ["apply_along_axis", "apply_over_axes", "piecewise", "vectorize"]


def apply_along_axis(
    func1d: Callable[..., Any], axis: int, arr: Any, *args: Any, **kwargs: Any
) -> Any:
    """A function applied to each vector along an axis.

    Args:
        func1d: takes a vector, returns an array, whose axes take the place of the vector's.
        axis: along which.
        arr: an array.
        args: passed to the function behind the vector.
        kwargs: passed to the function.
    """
    x = operand(arr, "apply_along_axis")
    place = one_axis("apply_along_axis", axis, x.ndim)

    def function(vector: Any) -> Any:
        return asarray(func1d(vector, *args, **kwargs))

    rows = moveaxis(x, place, -1)
    for _ in range(x.ndim - 1):
        function = vmap(function)
    result = function(rows)
    added = result.ndim - (x.ndim - 1)
    sources = list(range(x.ndim - 1, x.ndim - 1 + added))
    return moveaxis(result, sources, list(range(place, place + added)))


def apply_over_axes(func: Callable[[Any, int], Any], a: Any, axes: Any) -> Any:
    """A function such as `sum` applied along one axis after the other, which are all kept.

    Args:
        func: takes an array and an axis; its result has as many axes, or one less.
        a: an array.
        axes: one axis or several.
    """
    x = operand(a, "apply_over_axes")
    for axis in (axes,) if isinstance(axes, int) else axes:
        result = func(x, axis)
        if result.ndim == x.ndim - 1:
            result = expand_dims(result, axis)
        if result.ndim != x.ndim:
            raise ValueError(
                f"apply_over_axes: the function made an array of {result.ndim} axes of one of "
                f"{x.ndim}; it may leave out the axis that it is applied along"
            )
        x = result
    return x


def piecewise(x: Any, condlist: Any, funclist: Sequence[Any], *args: Any, **kw: Any) -> Any:
    """For each element the value of the function whose condition holds.

    Args:
        x: an array.
        condlist: a bool array, or a list of them; of several that hold, the last one counts.
        funclist: a function or a number for each condition; one more is the value where none
            holds, 0 by default.
        args: passed to the functions behind the elements.
        kw: passed to the functions.
    """
    x = operand(x, "piecewise")
    conditions = asarray(condlist)
    if conditions.ndim == x.ndim and not (x.ndim == 0 and isinstance(condlist, (list, tuple))):
        conditions = conditions[None]
    if not dtypes.is_bool(conditions.dtype):
        conditions = conditions != 0
    count = conditions.shape[0]
    choices = list(funclist)
    if len(choices) == count:
        choices.append(0)
    if len(choices) != count + 1:
        raise ValueError(
            f"piecewise: {count} conditions need {count} or {count + 1} functions, "
            f"got {len(choices)}"
        )

    def value(choice: Any) -> Any:
        result = asarray(choice(x, *args, **kw) if callable(choice) else choice)
        return broadcast_to(operand(result, "piecewise").astype(x.dtype), x.shape)

    result = value(choices[-1])
    for k in range(count):
        result = where(conditions[k], value(choices[k]), result)
    return result


# --- vectorize ----------------------------------------------------------------------------------

_NAME = r"[A-Za-z_]\w*|\d+"
_AXES = rf"\(\s*(?:(?:{_NAME})\s*(?:,\s*(?:{_NAME})\s*)*,?)?\s*\)"
_SIGNATURE = re.compile(rf"\s*({_AXES}(?:\s*,\s*{_AXES})*)?\s*->\s*({_AXES}(?:\s*,\s*{_AXES})*)\s*")

Axes = list[tuple[str, ...]]


def _parse_signature(signature: str) -> tuple[Axes, Axes]:
    match = _SIGNATURE.fullmatch(signature)
    if match is None:
        raise ValueError(f"vectorize: {signature!r} is not a signature like '(m,n),(n)->(m)'")
    inputs, outputs = (
        [tuple(re.findall(_NAME, group)) for group in re.findall(_AXES, part or "")]
        for part in match.groups()
    )
    return inputs, outputs


def vectorize(
    pyfunc: Callable[..., Any],
    *,
    excluded: Collection[int | str] = frozenset(),
    signature: str | None = None,
) -> Callable[..., Any]:
    """A function of single elements, or of arrays with a few axes, applied to all that broadcast.

    Args:
        pyfunc: the function.
        excluded: positions or names of arguments that are passed as they are.
        signature: axes of arguments and results, such as "(m,n),(n)->(m)"; none by default.

    Returns:
        A function of arrays whose other axes broadcast together.

    >>> import covector.numpy as cnp
    >>> matvec = cnp.vectorize(lambda a, v: a @ v, signature="(m,n),(n)->(m)")
    >>> matvec(cnp.ones((5, 2, 3)), cnp.ones(3)).shape
    (5, 2)
    """
    for entry in excluded:
        if isinstance(entry, int) and entry < 0:
            raise ValueError(f"vectorize: positions in excluded must not be negative, got {entry}")
    axes = None if signature is None else _parse_signature(signature)

    @functools.wraps(pyfunc)
    def vectorized(*args: Any, **kwargs: Any) -> Any:
        fixed = {k for k in excluded if isinstance(k, int) and k < len(args)}
        names = [k for k in kwargs if k not in excluded]
        if axes is not None and names:
            raise TypeError(f"vectorize with a signature takes no keyword arguments, got {names}")
        mapped = [k for k in range(len(args)) if k not in fixed]
        passed = {k: v for k, v in kwargs.items() if k in excluded}

        def function(*values: Any) -> Any:
            given = list(args)
            for k, value in zip(mapped, values, strict=False):
                given[k] = value
            named = dict(zip(names, values[len(mapped) :], strict=True))
            return pyfunc(*given, **named, **passed)

        arrays = [asarray(args[k]) for k in mapped] + [asarray(kwargs[k]) for k in names]
        return _broadcast_call(function, arrays, axes, signature)

    return vectorized


def _broadcast_call(
    function: Callable[..., Any],
    arrays: list[Any],
    axes: tuple[Axes, Axes] | None,
    signature: str | None,
) -> Any:
    """The function mapped over the axes that its signature does not name."""
    inner = [()] * len(arrays) if axes is None else axes[0]
    if len(inner) != len(arrays):
        raise TypeError(f"vectorize: {signature!r} takes {len(inner)} arrays, got {len(arrays)}")
    if axes is not None:
        function = _checked(function, axes, str(signature))
    shapes: list[tuple[Any, ...]] = []
    for x, names in zip(arrays, inner, strict=True):
        if x.ndim < len(names):
            raise ValueError(
                f"vectorize: an argument of axes {names} needs at least {len(names)}, got {x.aval}"
            )
        shapes.append(x.shape[: x.ndim - len(names)])
    shape = broadcast_shapes(*shapes)
    rank = len(shape)
    levels: list[tuple[int | None, ...]] = []
    squeezed: list[Any] = []
    for x, own in zip(arrays, shapes, strict=True):
        ones = tuple(k for k, n in enumerate(own) if n == 1 and shape[rank - len(own) + k] != 1)
        squeezed.append(squeeze(x, ones) if ones else x)
    for level in range(rank):
        present = [0 if _has_axis(own, rank, level, shape) else None for own in shapes]
        levels.append(tuple(present))
    for present in reversed(levels):
        if any(p == 0 for p in present):
            function = vmap(function, in_axes=present)
    return function(*squeezed)


def _has_axis(own: Sequence[Any], rank: int, level: int, shape: Sequence[Any]) -> bool:
    """Whether an operand has an axis for one of the broadcast shape, and not of size 1 for more."""
    position = level - rank + len(own)
    return position >= 0 and (own[position] != 1 or shape[level] == 1)


def _checked(
    function: Callable[..., Any], axes: tuple[Axes, Axes], signature: str
) -> Callable[..., Any]:
    """The function, with the sizes of its arguments and results compared with the signature."""
    inputs, outputs = axes

    def checked(*args: Any) -> Any:
        sizes: dict[str, Any] = {}
        for x, names in zip(args, inputs, strict=True):
            _bind(sizes, names, aval_of(x).shape, "argument", signature)
        result = function(*args)
        several = isinstance(result, (tuple, list))
        results: Sequence[Any] = cast("Sequence[Any]", result) if several else (result,)
        if len(results) != len(outputs) or (len(outputs) == 1 and several):
            raise TypeError(
                f"vectorize: {signature!r} has {len(outputs)} results, got {result!r:.80}"
            )
        for x, names in zip(results, outputs, strict=True):
            _bind(sizes, names, aval_of(x).shape, "result", signature)
        return tuple(results) if len(outputs) > 1 else result

    return checked


def _bind(
    sizes: dict[str, Any], names: Sequence[str], shape: Sequence[Any], what: str, signature: str
) -> None:
    if len(names) != len(shape):
        raise ValueError(
            f"vectorize: a {what} of axes {tuple(names)} in {signature!r} has shape {tuple(shape)}"
        )
    for name, size in zip(names, shape, strict=True):
        wanted = int(name) if name.isdigit() else sizes.setdefault(name, size)
        if wanted != size:
            raise ValueError(
                f"vectorize: axis {name!r} in {signature!r} is {wanted}, but a {what} has {size}"
            )
