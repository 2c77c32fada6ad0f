"""Writing windows of arrays at places known at run time: the scatters.

Updates are applied in order: of several that write the same place with `scatter`, the last one
stays; those of the others are combined from first to last. Names and meanings are those of
`jax.lax`, where the order is not specified.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval, Zero
from covector.core.errors import UnsupportedRuleError
from covector.core.primitive import Primitive, Rule, unsupported
from covector.core.trace import aval_of
from covector.loopir.tensor import Lowering
from covector.ops import common
from covector.ops.arithmetic import add, div, mul, neg, sub
from covector.ops.common import Inseparable, batch_at_front, is_linear, like
from covector.ops.compare import eq, select_n
from covector.ops.convert import convert_element_type
from covector.ops.index import check_mode, gather, shifted
from covector.ops.scatter_lowering import lower_scatter, operand_rank
from covector.ops.windows import (
    WHOLE_WINDOWS,
    GatherScatterMode,
    ScatterDimensionNumbers,
    batch_axes,
    check_windows,
    inverse,
    result_shape,
    window_dims,
    window_lane,
    window_selection,
    window_sizes,
    window_starts,
)

_NOT_LINEAR = "it is not a linear function of its operands"

# --- shape ---------------------------------------------------------------------------------------


def _check_scatter(
    name: str, operand: Aval, indices: Aval, updates: Aval, numbers: ScatterDimensionNumbers
) -> None:
    common.check_dtypes(name, (operand, updates), None)
    reader = inverse(numbers)
    check_windows(name, operand, indices, reader, None)
    if updates.ndim != indices.ndim - 1 + len(reader.offset_dims):
        raise TypeError(
            f"{name} needs updates with an axis for each axis of the indices but the last and for "
            f"each window axis, got updates {updates}, indices {indices} and window axes "
            f"{reader.offset_dims}"
        )
    sizes = window_sizes(reader, operand.ndim, updates.shape)
    check_windows(name, operand, indices, reader, sizes)
    expected = result_shape(reader, indices.shape, sizes)
    if expected != updates.shape:
        raise TypeError(
            f"{name} needs updates of shape {expected} for indices {indices}, got {updates}"
        )


# --- evaluation ----------------------------------------------------------------------------------


def _write(
    operand: np.ndarray[Any, Any],
    indices: np.ndarray[Any, Any],
    updates: np.ndarray[Any, Any],
    combine: np.ufunc | None,
    params: dict[str, Any],
) -> np.ndarray[Any, Any]:
    """A copy of the operand with all windows written."""
    out = operand.copy()
    if updates.size == 0:
        return out
    numbers = inverse(params["dimension_numbers"])
    rank = operand_rank(params["dimension_numbers"])
    sizes = window_sizes(numbers, rank, updates.shape)
    starts, inside = window_starts(operand.shape, indices, numbers, sizes)
    target, selection, inner = window_selection(out, starts, inside, numbers, sizes)
    axis_of = dict(zip(window_dims(numbers, rank), numbers.offset_dims, strict=True))
    axes = batch_axes(numbers, indices.ndim) + [axis_of[dim] for dim in inner]
    values = updates.transpose(*axes, *range(len(axes), updates.ndim))
    if params["mode"] is not GatherScatterMode.CLIP and not inside.all():
        selection = tuple(
            [np.broadcast_to(i, inside.shape + i.shape[inside.ndim :])[inside] for i in selection]
        )
        values = values[inside]
    if combine is None:
        target[selection] = values
    elif params["unique_indices"]:
        target[selection] = combine(target[selection], values)
    else:
        combine.at(target, selection, values)
    return out


# --- batching and lanes --------------------------------------------------------------------------


def _batch(primitive: Primitive, ctx: Any, args: Any, dims: Any, params: dict[str, Any]) -> Any:
    window, inserted, to_operand, batching, index_batching = params["dimension_numbers"]
    operand, updates = (batch_at_front(args[i], dims[i], ctx.axis_size) for i in (0, 2))
    indices = args[1]
    inserted, to_operand = shifted(inserted), shifted(to_operand)
    window, batching = shifted(window), shifted(batching)
    if dims[1] is None:
        window = (0, *window)
    else:
        indices = batch_at_front(indices, dims[1], ctx.axis_size)
        batching, index_batching = (0, *batching), (0, *shifted(index_batching))
    numbers = ScatterDimensionNumbers(window, inserted, to_operand, batching, index_batching)
    return primitive(operand, indices, updates, **{**params, "dimension_numbers": numbers}), 0


def _lanes(
    partial: str | None,
    dims: Any,
    operand: Aval,
    indices: Aval,
    updates: Aval,
    numbers: ScatterDimensionNumbers,
) -> Any:
    reader = inverse(numbers)
    sizes = window_sizes(reader, operand.ndim, updates.shape)
    axis = window_lane(reader, operand, indices, dims[0], dims[1], sizes)
    if axis is None:
        if dims[2] is not None:
            raise Inseparable("the updates have lanes, operand and indices have not")
        return None
    if axis == WHOLE_WINDOWS:
        expected = reader.offset_dims[window_dims(reader, operand.ndim).index(dims[0])]
    else:
        expected = batch_axes(reader, indices.ndim)[axis]
    if dims[2] != expected:
        raise Inseparable("the updates have no lanes where the operand or the indices have them")
    if dims[0] is not None:
        return dims[0]
    if partial is None:
        raise Inseparable("all lanes write to the same array")
    return common.Partial(partial)


# --- the family ----------------------------------------------------------------------------------


def _scatter_primitive(
    name: str,
    *,
    jvp: Rule,
    transpose: Rule | None,
    combine: np.ufunc | None,
    scalar: str | None,
    partial: str | None = None,
) -> Primitive:
    """A scatter.

    Args:
        name: of the primitive.
        jvp: its derivative.
        transpose: its transposition; `None` if it is not linear.
        combine: what becomes of an old and a new value; `None` for the new one.
        scalar: the same as a loop IR operation.
        partial: the operation that combines results of lanes that write to the same array, where
            applying it to the operand more than once does no harm.
    """

    def shape_rule(
        operand: Aval,
        indices: Aval,
        updates: Aval,
        *,
        dimension_numbers: ScatterDimensionNumbers,
        indices_are_sorted: bool,
        unique_indices: bool,
        mode: Any,
    ) -> Aval:
        check_mode(name, mode)
        _check_scatter(name, operand, indices, updates, dimension_numbers)
        return operand

    def evaluate_rule(operand: Any, indices: Any, updates: Any, **params: Any) -> Any:
        return _write(operand, indices, updates, combine, params)

    def jvp_rule(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
        if type(tangents[0]) is Zero and type(tangents[2]) is Zero:
            out = primitive(*primals, **params)
            return out, Zero(aval_of(out).tangent())
        operand_tangent = common.instantiate(tangents[0])
        return jvp(primals, operand_tangent, common.instantiate(tangents[2]), params)

    def transpose_rule(
        ctx: Any, ct: Any, operand: Any, indices: Any, updates: Any, **params: Any
    ) -> list[Any]:
        assert transpose is not None
        operand_ct, updates_ct = transpose(ct, operand, indices, updates, params)
        return [operand_ct, None, updates_ct]

    def batch_rule(ctx: Any, args: Any, dims: Any, **params: Any) -> Any:
        return _batch(primitive, ctx, args, dims, params)

    def lanes_rule(dims: Any, operand: Aval, indices: Aval, updates: Aval, **params: Any) -> Any:
        return _lanes(partial, dims, operand, indices, updates, params["dimension_numbers"])

    def lower_rule(b: Lowering, operand: Any, indices: Any, updates: Any, **params: Any) -> Any:
        return lower_scatter(b, scalar, operand, indices, updates, params)

    primitive = Primitive(
        name,
        shape=shape_rule,
        evaluate=evaluate_rule,
        jvp=jvp_rule,
        transpose=transpose_rule if transpose is not None else unsupported(_NOT_LINEAR),
        batch=batch_rule,
        lanes=lanes_rule,
        lower=lower_rule,
    )
    return primitive


def read_back(x: Any, indices: Any, updates_shape: Sequence[Any], params: Any, fill: Any) -> Any:
    """What `x` holds in the windows of a scatter with these parameters.

    Args:
        x: of the operand's shape.
        indices: those of the scatter.
        updates_shape: the shape of its updates, and of the result.
        params: those of the scatter.
        fill: what stands for dropped windows.
    """
    numbers = inverse(params["dimension_numbers"])
    drops = params["mode"] is not GatherScatterMode.CLIP
    return gather(
        x,
        indices,
        dimension_numbers=numbers,
        slice_sizes=window_sizes(numbers, len(aval_of(x).shape), updates_shape),
        mode=GatherScatterMode.FILL_OR_DROP if drops else GatherScatterMode.CLIP,
        fill_value=fill if drops else None,
        indices_are_sorted=params["indices_are_sorted"],
        unique_indices=params["unique_indices"],
    )


def _zeros_like(x: Any) -> Any:
    return common.zeros(aval_of(x).strong())


def _ones_where(condition: Any, x: Any) -> Any:
    """1 where a condition holds, else 0, of `x`'s dtype."""
    return convert_element_type(condition, new_dtype=x.dtype)


def _shape_of(x: Any) -> Any:
    return x.aval.shape if is_linear(x) else aval_of(x).shape


# --- scatter -------------------------------------------------------------------------------------


def _scatter_jvp(primals: Any, operand_t: Any, updates_t: Any, params: dict[str, Any]) -> Any:
    operand, indices, updates = primals
    out = scatter(operand, indices, updates, **params)
    if params["unique_indices"]:
        return out, scatter(operand_t, indices, updates_t, **params)
    # Number the windows from 1 and scatter the numbers, to know which update each element of the
    # result comes from (0: from the operand). Tangents of the others are masked; what is left can
    # be added, which is linear and can be transposed.
    numbers = _window_numbers(params["dimension_numbers"], aval_of(updates).shape)
    origin = scatter(
        common.zeros(Aval(aval_of(operand).shape, dtypes.uint32)), indices, numbers, **params
    )
    stays = eq(origin, like(origin, 0))
    winner = read_back(origin, indices, aval_of(updates).shape, params, 0)
    kept_operand = select_n(stays, _zeros_like(operand_t), operand_t)
    kept_updates = select_n(eq(numbers, winner), _zeros_like(updates_t), updates_t)
    return out, scatter_add(kept_operand, indices, kept_updates, **params)


def _window_numbers(numbers: ScatterDimensionNumbers, shape: Sequence[Any]) -> Any:
    """For each element of the updates, the number of its window, from 1."""
    from covector.ops.shape import broadcast_in_dim, iota, reshape

    which = [axis for axis in range(len(shape)) if axis not in numbers.update_window_dims]
    extents = tuple([shape[axis] for axis in which])
    count = Aval(extents, dtypes.uint32).size
    flat = add(
        iota(dtype=dtypes.uint32, shape=(count,), dimension=0),
        common.full(Aval((), dtypes.uint32), 1),
    )
    return broadcast_in_dim(
        reshape(flat, new_sizes=extents, dimensions=None),
        shape=tuple(shape),
        broadcast_dimensions=tuple(which),
    )


def _scatter_transpose(
    ct: Any, operand: Any, indices: Any, updates: Any, params: dict[str, Any]
) -> tuple[Any, Any]:
    if not params["unique_indices"]:
        raise UnsupportedRuleError(
            "transposition of `scatter` is supported with unique_indices=True only: of several "
            "updates to one place the last stays, which the transposition cannot see"
        )
    operand_ct = updates_ct = None
    shape = _shape_of(updates)
    if is_linear(operand):
        nothing = common.zeros(Aval(shape, ct.dtype))
        operand_ct = scatter(ct, indices, nothing, **params)
    if is_linear(updates):
        updates_ct = read_back(ct, indices, shape, params, 0)
    return operand_ct, updates_ct


scatter = _scatter_primitive(
    "scatter", jvp=_scatter_jvp, transpose=_scatter_transpose, combine=None, scalar=None
)

# --- scatter-add and scatter-sub -----------------------------------------------------------------


def _add_jvp(primals: Any, operand_t: Any, updates_t: Any, params: dict[str, Any]) -> Any:
    operand, indices, updates = primals
    out = scatter_add(operand, indices, updates, **params)
    return out, scatter_add(operand_t, indices, updates_t, **params)


def _add_transpose(
    ct: Any, operand: Any, indices: Any, updates: Any, params: dict[str, Any]
) -> tuple[Any, Any]:
    operand_ct = ct if is_linear(operand) else None
    if not is_linear(updates):
        return operand_ct, None
    return operand_ct, read_back(ct, indices, updates.aval.shape, params, 0)


scatter_add = _scatter_primitive(
    "scatter-add", jvp=_add_jvp, transpose=_add_transpose, combine=np.add, scalar="add"
)


def _sub_jvp(primals: Any, operand_t: Any, updates_t: Any, params: dict[str, Any]) -> Any:
    operand, indices, updates = primals
    out = scatter_sub(operand, indices, updates, **params)
    return out, scatter_sub(operand_t, indices, updates_t, **params)


def _sub_transpose(
    ct: Any, operand: Any, indices: Any, updates: Any, params: dict[str, Any]
) -> tuple[Any, Any]:
    operand_ct, updates_ct = _add_transpose(ct, operand, indices, updates, params)
    return operand_ct, None if updates_ct is None else neg(updates_ct)


scatter_sub = _scatter_primitive(
    "scatter-sub", jvp=_sub_jvp, transpose=_sub_transpose, combine=np.subtract, scalar="sub"
)

# --- scatter-mul ---------------------------------------------------------------------------------


def _mul_jvp(primals: Any, operand_t: Any, updates_t: Any, params: dict[str, Any]) -> Any:
    operand, indices, updates = primals
    out = scatter_mul(operand, indices, updates, **params)
    from_operand = scatter_mul(operand_t, indices, updates, **params)
    # An update's factor is the product of all others in its place: the product of those that are
    # not zero, without the update itself, if no other one is zero.
    shape = aval_of(updates).shape
    zero = eq(updates, like(updates, 0))
    factors = select_n(zero, updates, common.full(aval_of(updates).strong(), 1))
    is_zero = _ones_where(zero, updates)
    product = scatter_mul(operand, indices, factors, **params)
    zeros = scatter_add(_zeros_like(operand), indices, is_zero, **params)
    others = div(read_back(product, indices, shape, params, 0), factors)
    other_zeros = sub(read_back(zeros, indices, shape, params, 0), is_zero)
    factor = select_n(eq(other_zeros, like(updates, 0)), _zeros_like(others), others)
    return out, scatter_add(from_operand, indices, mul(updates_t, factor), **params)


def _mul_transpose(
    ct: Any, operand: Any, indices: Any, updates: Any, params: dict[str, Any]
) -> tuple[Any, Any]:
    if is_linear(operand):
        return scatter_mul(ct, indices, updates, **params), None
    if not params["unique_indices"]:
        raise UnsupportedRuleError(
            "transposition of `scatter-mul` with respect to its updates is supported with "
            "unique_indices=True only: several updates to one place are not linear together"
        )
    return None, read_back(mul(ct, operand), indices, updates.aval.shape, params, 0)


scatter_mul = _scatter_primitive(
    "scatter-mul", jvp=_mul_jvp, transpose=_mul_transpose, combine=np.multiply, scalar="mul"
)

# --- scatter-min and scatter-max -----------------------------------------------------------------


def _extremum_jvp(
    primitive: Primitive, primals: Any, operand_t: Any, updates_t: Any, params: dict[str, Any]
) -> Any:
    """The tangent is the mean of those of all values that attain the extremum."""
    operand, indices, updates = primals
    shape = aval_of(updates).shape
    out = primitive(operand, indices, updates, **params)
    attains = _ones_where(eq(updates, read_back(out, indices, shape, params, None)), updates)
    stays = _ones_where(eq(operand, out), operand)
    count = scatter_add(stays, indices, attains, **params)
    share = div(attains, read_back(count, indices, shape, params, 1))
    # Where NaN wins nothing is equal to it and the operand's tangent stays.
    alone = eq(count, like(count, 0))
    kept = select_n(alone, div(stays, count), common.full(aval_of(count), 1))
    return out, scatter_add(mul(operand_t, kept), indices, mul(updates_t, share), **params)


def _min_jvp(primals: Any, operand_t: Any, updates_t: Any, params: dict[str, Any]) -> Any:
    return _extremum_jvp(scatter_min, primals, operand_t, updates_t, params)


def _max_jvp(primals: Any, operand_t: Any, updates_t: Any, params: dict[str, Any]) -> Any:
    return _extremum_jvp(scatter_max, primals, operand_t, updates_t, params)


scatter_min = _scatter_primitive(
    "scatter-min",
    jvp=_min_jvp,
    transpose=None,
    combine=np.minimum,
    scalar="min",
    partial="min",
)
scatter_max = _scatter_primitive(
    "scatter-max",
    jvp=_max_jvp,
    transpose=None,
    combine=np.maximum,
    scalar="max",
    partial="max",
)
