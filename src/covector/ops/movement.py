"""The factory of movement operations: those that only re-index their operands.

They apply to PRNG keys too. An array of keys is held as uint32 words with one more, trailing axis;
rules for avals never see it, evaluation and lowering do. `movement` makes both work on words by
extending the parameters to the trailing axis, once for all of these operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.core.primitive import Primitive, Rule

Params = dict[str, Any]


def movement(
    name: str,
    *,
    shape: Rule,
    evaluate: Rule,
    lower: Rule,
    transpose: Rule,
    batch: Rule,
    lanes: Rule,
    narrow: Rule | None = None,
    creates: Callable[..., bool] | None = None,
    jvp: Rule | None = None,
    rank: Callable[[Params, Sequence[Any]], int] | None = None,
    extend: Callable[[Params, Any], Params] | None = None,
    multiple_results: bool = False,
) -> Primitive:
    """A primitive that only re-indexes its operands, and is linear in them.

    Args:
        name: of the primitive.
        shape: as in `Primitive`, like the other rules; works on logical shapes.
        evaluate: for data without a trailing axis of words, `extend`ed parameters otherwise.
        lower: likewise.
        transpose: of the linear operation.
        batch: its batching.
        lanes: its lanes rule.
        narrow: as in `Primitive`.
        creates: likewise.
        jvp: by default that of a linear operation of one operand.
        rank: the logical rank of the first operand, given parameters and the shape of its data.
            Not needed where the rules leave trailing axes alone anyway, or see to them.
        extend: the parameters for data with one more axis, of the given length, at the end.
        multiple_results: whether the rules return lists.
    """

    def linear_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
        return primitive(primals[0], **params), primitive(tangents[0], **params)

    if rank is not None and extend is not None:
        evaluate, lower = _on_words(evaluate, lower, rank, extend)
    primitive = Primitive(
        name,
        shape=shape,
        evaluate=evaluate,
        jvp=jvp or linear_jvp,
        transpose=transpose,
        batch=batch,
        lower=lower,
        lanes=lanes,
        narrow=narrow,
        creates=creates,
        multiple_results=multiple_results,
        tags=frozenset({"movement"}),
    )
    return primitive


def _on_words(
    evaluate: Rule,
    lower: Rule,
    rank: Callable[[Params, Sequence[Any]], int],
    extend: Callable[[Params, Any], Params],
) -> tuple[Rule, Rule]:
    def evaluate_words(x: Any, *others: Any, **params: Any) -> Any:
        if x.ndim > rank(params, x.shape):
            params = extend(params, x.shape[-1])
        return evaluate(x, *others, **params)

    def lower_words(b: Any, x: Any, *others: Any, **params: Any) -> Any:
        if len(x.shape) > rank(params, x.shape):
            params = extend(params, x.shape[-1])
        return lower(b, x, *others, **params)

    return evaluate_words, lower_words


def check_axes(name: str, what: str, axes: Sequence[int], ndim: int) -> None:
    """Checks that axes are distinct and in range.

    Raises:
        ValueError: naming what was found.
    """
    if len(set(axes)) != len(axes) or any(not 0 <= a < ndim for a in axes):
        raise ValueError(
            f"{name}: {what} must be distinct and in range({ndim}), found {tuple(axes)}; "
            "negative axes are resolved by the functions of covector.lax"
        )


def without(axes: Sequence[int], ndim: int) -> tuple[int, ...]:
    """The axes of `range(ndim)` that are not in `axes`."""
    return tuple([i for i in range(ndim) if i not in axes])


def inserted(values: Sequence[Any], position: int, value: Any) -> tuple[Any, ...]:
    """A tuple with one more entry."""
    return (*values[:position], value, *values[position:])


def past(axes: Sequence[int], position: int) -> tuple[int, ...]:
    """Axes renumbered after an axis was inserted at `position`."""
    return tuple([a + (a >= position) for a in axes])
