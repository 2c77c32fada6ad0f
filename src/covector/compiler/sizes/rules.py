"""What primitives say about sizes: which of them are equal, and which stand in parameters.

A rule takes the shapes of an equation's operands with symbols in them, makes sizes equal that have
to be, and gives the equation's parameters with symbols in place of numbers. The shapes of results
then follow from the primitive's shape rule. Operands of primitives without a rule keep their
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.compiler.sizes.unify import Sizes
from covector.core.dims import Dim, DimSize
from covector.core.program import Equation
from covector.ops.contract import operand_axes
from covector.ops.windows import batch_axes, inverse, window_dims

Shape = tuple[DimSize, ...]
Params = dict[str, Any]
Rule = Callable[[Sizes, Equation, Sequence[Shape]], Params]

RULES: dict[str, Rule] = {}
"""By the name of the primitive; elementwise ones share `elementwise`."""


def rule_of(equation: Equation) -> Rule | None:
    """The rule of an equation's primitive."""
    if "elementwise" in equation.primitive.tags:
        return elementwise
    return RULES.get(equation.primitive.name)


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def _traced(equation: Equation, operand: int = 0) -> tuple[int, ...]:
    """The shape an operand was traced with."""
    return equation.inputs[operand].aval.shape  # pyright: ignore[reportReturnType]


# --- the parameters have no sizes -----------------------------------------------------------------


@_rule("threefry2x32", "random_fold_in")
def elementwise(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    """Operands have one shape, apart from scalars."""
    rank = max([len(s) for s in shapes], default=0)
    sizes.all_equal([s for s in shapes if len(s) == rank])
    return equation.params


@_rule(
    *("transpose", "rev", "reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and"),
    *("reduce_or", "reduce_xor", "argmax", "argmin", "random_wrap", "random_unwrap"),
    *("random_clone", "random_seed", "tile"),
)
def _as_it_is(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    """Nothing about the operand's sizes stands in the parameters."""
    return equation.params


@_rule("squeeze")
def _squeeze(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    removed: Sequence[int] = equation.params["dimensions"]
    sizes.fix(*[shapes[0][d] for d in removed])
    return equation.params


@_rule("unstack", "split", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _along_axis(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    axis: int = equation.params["axis"]
    sizes.fix(shapes[0][axis])
    return equation.params


@_rule("sort")
def _sort(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    sizes.all_equal(shapes)
    axis: int = equation.params["dimension"]
    sizes.fix(shapes[0][axis])
    return equation.params


@_rule("pad")
def _pad(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    padding: Sequence[Any] = equation.params["padding_config"]
    sizes.fix(*[n for n, p in zip(shapes[0], padding, strict=True) if any(p)])
    return equation.params


@_rule("stack")
def _stack(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    sizes.all_equal(shapes)
    return equation.params


@_rule("concatenate")
def _concatenate(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    # Joined along the batch its elements are neighbours in space, whose ends matter to the code.
    axis: int = equation.params["dimension"]
    sizes.fix(*[s[axis] for s in shapes])
    sizes.all_equal([(*s[:axis], *s[axis + 1 :]) for s in shapes])
    return equation.params


@_rule("dot_general")
def _dot_general(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    lhs, rhs = shapes
    of_lhs, of_rhs = operand_axes(equation.params["dimension_numbers"], (len(lhs), len(rhs)))
    for mine, theirs in ((of_lhs.batch, of_rhs.batch), (of_lhs.contract, of_rhs.contract)):
        sizes.all_equal([[lhs[d] for d in mine], [rhs[d] for d in theirs]])
    return equation.params


# --- axes that are created ------------------------------------------------------------------------


@_rule("broadcast_in_dim")
def _broadcast(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    params, (shape,) = equation.params, shapes
    target: list[DimSize] = [sizes.created(n) for n in params["shape"]]
    for size, d in zip(shape, params["broadcast_dimensions"], strict=True):
        if type(size) is Dim and sizes.value(size) != params["shape"][d]:
            sizes.fix(size)
        elif type(size) is Dim or size != 1:
            target[d] = size
    return {**params, "shape": tuple(target)}


@_rule("iota", "random_bits", "random_split")
def _creation(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    params = equation.params
    return {**params, "shape": tuple([sizes.created(n) for n in params["shape"]])}


@_rule("reshape")
def _reshape(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    old, new = shapes[0], equation.params["new_sizes"]
    target: list[DimSize] = list(new)
    traced = _traced(equation)
    if 0 in traced:
        sizes.fix(*old)
        return equation.params
    for axes, results in _runs(traced, new, [type(sizes.resolve(n)) is Dim for n in old]):
        _spread(sizes, [old[d] for d in axes], results, target)
    return {**equation.params, "new_sizes": tuple(target)}


def _runs(
    old: Sequence[int], new: Sequence[int], unknown: Sequence[bool]
) -> list[tuple[list[int], list[int]]]:
    """The axes of both shapes in the shortest runs of equal products, from the left.

    Axes of size 1 at the end of a run belong to it; an unknown one is never a run by itself if
    the other side has no axis for it.
    """
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        axes, results, left, right = [i], [j], old[i], new[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                axes.append(i)
                left, i = left * old[i], i + 1
            else:
                results.append(j)
                right, j = right * new[j], j + 1
        runs.append((axes, results))
    rest = (list(range(i, len(old))), list(range(j, len(new))))
    if any([unknown[d] for d in rest[0]]) and runs:
        runs[-1] = (runs[-1][0] + rest[0], runs[-1][1] + rest[1])
    return runs


def _spread(
    sizes: Sizes, run: Sequence[DimSize], results: Sequence[int], target: list[DimSize]
) -> None:
    """Finds which result axis of a run has the symbols of its operand axes."""
    run = [sizes.resolve(n) for n in run]
    if not any([type(n) is Dim for n in run]):
        return
    product: DimSize = 1
    for n in run:
        product = product * n
    for d in results:
        others = 1
        for other in results:
            others *= target[other] if other != d else 1  # pyright: ignore[reportOperatorIssue]
        extent = product if others == 1 else product // others if others else product
        if extent * others == product and sizes.value(extent) == target[d]:
            target[d] = extent
            return
    sizes.fix(*run)


@_rule("slice")
def _slice(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    params, traced = equation.params, _traced(equation)
    starts, limits = list(params["start_indices"]), list(params["limit_indices"])
    steps = params["strides"] or (1,) * len(starts)
    for d, size in enumerate(shapes[0]):
        start, limit = starts[d], limits[d]
        if type(size) is not Dim:
            continue
        if limit == traced[d] and (start <= limit - start or steps[d] != 1):
            limits[d] = size
        elif steps[d] != 1:
            sizes.fix(size)
        else:
            extent = sizes.created(limit - start)
            if limit == traced[d]:  # the last ones
                starts[d], limits[d] = size - extent, size
            else:
                limits[d] = start + extent
    return {**params, "start_indices": tuple(starts), "limit_indices": tuple(limits)}


# --- parts at places known at run time ------------------------------------------------------------


@_rule("dynamic_slice")
def _dynamic_slice(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    wanted, traced = equation.params["slice_sizes"], _traced(equation)
    found = [n if m == k else m for m, k, n in zip(wanted, traced, shapes[0], strict=True)]
    return {**equation.params, "slice_sizes": tuple(found)}


@_rule("dynamic_update_slice")
def _dynamic_update_slice(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    for whole, part in zip(shapes[0], shapes[1], strict=True):
        sizes.equal(whole, part)
    return equation.params


@_rule("gather")
def _gather(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    params, traced = equation.params, _traced(equation)
    operand, places = shapes[0], shapes[1]
    numbers = params["dimension_numbers"]
    sizes.fix(places[-1])
    _batched_together(sizes, numbers, operand, places)
    window = list(params["slice_sizes"])
    for d in window_dims(numbers, len(operand)):
        if window[d] == traced[d]:
            window[d] = operand[d]
    return {**params, "slice_sizes": tuple(window)}


@_rule("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max")
def _scatter(sizes: Sizes, equation: Equation, shapes: Sequence[Shape]) -> Params:
    operand, places, updates = shapes
    numbers = inverse(equation.params["dimension_numbers"])
    sizes.fix(places[-1])
    _batched_together(sizes, numbers, operand, places)
    for d, axis in zip(window_dims(numbers, len(operand)), numbers.offset_dims, strict=True):
        sizes.equal(operand[d], updates[axis])
    which = batch_axes(numbers, len(places))
    sizes.all_equal([places[:-1], [updates[axis] for axis in which]])
    return equation.params


def _batched_together(sizes: Sizes, numbers: Any, operand: Shape, places: Shape) -> None:
    mine: Sequence[int] = numbers.operand_batching_dims
    theirs: Sequence[int] = numbers.start_indices_batching_dims
    sizes.all_equal([[operand[d] for d in mine], [places[d] for d in theirs]])
