"""Convolutions: `conv_general_dilated`, products of a kernel with windows of an array, summed up.

Names and meanings are those of `jax.lax`; the kernel is not reversed.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval, Zero
from covector.core.errors import compose
from covector.core.primitive import Primitive
from covector.core.source import here
from covector.core.trace import aval_of
from covector.loopir.tensor import Lowering
from covector.ops import common
from covector.ops.axes import reshape, rev
from covector.ops.common import Inseparable, Partial, check_dtypes, is_linear
from covector.ops.contract import accumulator
from covector.ops.conv_lowering import lower_convolution
from covector.ops.conv_shapes import (
    ConvDimensionNumbers,
    Convolution,
    check_convolution,
    dilated,
)
from covector.ops.convert import convert_element_type
from covector.ops.slices import pad

NumPy = np.ndarray[Any, Any]
Params = dict[str, Any]

# --- shape and dtype ------------------------------------------------------------------------------


def _conv_shape(lhs: Aval, rhs: Aval, **params: Any) -> Aval:
    check_dtypes("conv_general_dilated", (lhs, rhs), "biufc")
    check_convolution(lhs, rhs, params)
    dtype = _result_dtype(lhs.dtype, params["preferred_element_type"])
    return Aval(Convolution(lhs, rhs, params).shape, dtype, lhs.weak_type and rhs.weak_type)


_PREFERRED = frozenset({"ii", "ff", "cc", "uu", "ui", "if", "uf"})


def _result_dtype(dtype: Any, preferred: Any) -> Any:
    if preferred is None or preferred == dtype:
        return dtype
    kinds = common.kind_of(dtype) + common.kind_of(preferred)
    if kinds not in _PREFERRED or preferred.itemsize < dtype.itemsize:
        raise TypeError(
            compose(
                "conv_general_dilated: preferred_element_type must be of the operands' kind, or "
                "floating for integers, and no narrower",
                found=f"{dtypes.short_name(preferred)} for {dtypes.short_name(dtype)}",
                fix="convert the result with lax.convert_element_type",
                line=here(),
            )
        )
    return preferred


# --- evaluation -----------------------------------------------------------------------------------


def _conv_evaluate(lhs: NumPy, rhs: NumPy, **params: Any) -> NumPy:
    """Every window as a row of a matrix, times the kernel as a matrix."""
    conv = Convolution(Aval(lhs.shape, lhs.dtype), Aval(rhs.shape, rhs.dtype), params)
    out = _result_dtype(lhs.dtype, params["preferred_element_type"])
    wide = accumulator(lhs.dtype, rhs.dtype, out)
    product: NumPy = np.zeros((conv.groups, conv.outputs, conv.batch * prod(conv.places)), wide)
    if product.size and conv.terms:
        rows = _window_rows(conv, lhs.astype(wide, copy=False))
        kernel = rhs.transpose(conv.numbers.rhs_spec).astype(wide, copy=False)
        kernel = kernel.reshape(conv.groups, conv.outputs, conv.terms)
        product = np.matmul(kernel, rows.transpose(0, 2, 1))
    split = product.reshape(conv.groups, conv.outputs, conv.batch, *conv.places)
    joined = np.moveaxis(split, 2, 0)
    joined = joined.reshape(conv.batch, conv.groups * conv.outputs, *conv.places)
    order = np.argsort(conv.numbers.out_spec)
    return np.ascontiguousarray(joined.transpose(order).astype(out, copy=False))


def _window_rows(conv: Convolution, lhs: NumPy) -> NumPy:
    """For each group a matrix with a row for each window."""
    padded: NumPy = pad.evaluate(lhs, np.zeros((), lhs.dtype), padding_config=conv.padding_config)
    padded = np.ascontiguousarray(padded.transpose(conv.numbers.lhs_spec))
    if conv.by_batch:
        grouped = padded.reshape(conv.groups, conv.batch, conv.features, *conv.padded)
    else:
        grouped = padded.reshape(conv.batch, conv.groups, conv.features, *conv.padded)
        grouped = grouped.swapaxes(0, 1)
    strides = grouped.strides
    between = [s * step for s, step in zip(strides[3:], conv.strides, strict=True)]
    inside = [s * gap for s, gap in zip(strides[3:], conv.rhs_dilation, strict=True)]
    as_strided: Any = np.lib.stride_tricks.as_strided
    windows: NumPy = as_strided(
        grouped,
        (conv.groups, conv.batch, *conv.places, conv.features, *conv.kernel),
        (*strides[:2], *between, strides[2], *inside),
        writeable=False,
    )
    return windows.reshape(conv.groups, conv.batch * prod(conv.places), conv.terms)


# --- derivatives ----------------------------------------------------------------------------------


def _conv_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    lhs, rhs = primals
    out = conv_general_dilated(lhs, rhs, **params)
    aval = aval_of(out)
    tangent: Any = Zero(aval.tangent())
    if not dtypes.is_inexact(aval.dtype):
        return out, tangent
    if type(tangents[0]) is not Zero:
        tangent = conv_general_dilated(tangents[0], rhs, **params)
    if type(tangents[1]) is not Zero:
        by_rhs = conv_general_dilated(lhs, tangents[1], **params)
        tangent = common.add_tangents(tangent, by_rhs)
    return out, tangent


def _conv_transpose(ctx: Any, ct: Any, lhs: Any, rhs: Any, **params: Any) -> list[Any]:
    linear, other = (lhs, rhs) if is_linear(lhs) else (rhs, lhs)
    of_lhs, of_rhs = [x.aval if is_linear(x) else aval_of(x) for x in (lhs, rhs)]
    conv = Convolution(of_lhs, of_rhs, params)
    if conv.terms == 0 or 0 in aval_of(ct).shape:
        found = common.zeros(linear.aval)
    else:
        if aval_of(other).dtype != aval_of(ct).dtype:
            other = convert_element_type(other, new_dtype=aval_of(ct).dtype)
        pull_back = _pull_back_lhs if linear is lhs else _pull_back_rhs
        found = pull_back(conv, ct, other, params)
        if aval_of(found).dtype != linear.aval.dtype:
            found = convert_element_type(found, new_dtype=linear.aval.dtype)
    return [found, None] if linear is lhs else [None, found]


def _swapped(spec: tuple[int, ...]) -> tuple[int, ...]:
    return (spec[1], spec[0], *spec[2:])


def _pull_back_lhs(conv: Convolution, ct: Any, rhs: Any, params: Params) -> Any:
    """Each element of lhs meets the reversed kernel in the windows that hold it.

    By group: [batch, outputs] [outputs, features] -> [batch, features].
    """
    lhs_spec, rhs_spec, out_spec = conv.numbers
    padding: list[tuple[Any, Any]] = []
    for n, k, m, gap, stretch, step, (low, _) in zip(
        conv.spatial,
        conv.kernel,
        conv.places,
        conv.lhs_dilation,
        conv.rhs_dilation,
        conv.strides,
        conv.padding,
        strict=True,
    ):
        reach = dilated(k, stretch)
        before = reach - 1 - low
        padding.append((before, dilated(n, gap) + reach - 1 - dilated(m, step) - before))
    if conv.groups > 1:
        rhs = _move_groups(rhs, rhs_spec[0], rhs_spec[1], conv.groups)
    back = {
        **params,
        "window_strides": conv.lhs_dilation,
        "padding": tuple(padding),
        "lhs_dilation": conv.strides,
        "dimension_numbers": ConvDimensionNumbers(out_spec, _swapped(rhs_spec), lhs_spec),
        "feature_group_count": conv.groups,
        "batch_group_count": 1,
        "preferred_element_type": None,
    }
    out = conv_general_dilated(ct, rev(rhs, dimensions=rhs_spec[2:]), **back)
    if conv.by_batch:
        out = _move_groups(out, lhs_spec[1], lhs_spec[0], conv.groups)
    return out


def _pull_back_rhs(conv: Convolution, ct: Any, lhs: Any, params: Params) -> Any:
    """The cotangent itself is the kernel, its elements `window_strides` apart.

    By group: [features, batch] [batch, outputs] -> [features, outputs]; groups of features become
    groups of the batch, and the other way round.
    """
    padding: list[tuple[Any, Any]] = []
    for n, k, m, gap, stretch, step, (low, _) in zip(
        conv.spatial,
        conv.kernel,
        conv.places,
        conv.lhs_dilation,
        conv.rhs_dilation,
        conv.strides,
        conv.padding,
        strict=True,
    ):
        needed = dilated(k, stretch) + dilated(m, step) - 1
        padding.append((low, needed - dilated(n, gap) - low))
    lhs_spec, rhs_spec, out_spec = map(_swapped, conv.numbers)
    back = {
        **params,
        "window_strides": conv.rhs_dilation,
        "padding": tuple(padding),
        "rhs_dilation": conv.strides,
        "dimension_numbers": ConvDimensionNumbers(lhs_spec, out_spec, rhs_spec),
        "feature_group_count": conv.groups if conv.by_batch else 1,
        "batch_group_count": 1 if conv.by_batch else conv.groups,
        "preferred_element_type": None,
    }
    return conv_general_dilated(lhs, ct, **back)


# --- moving parts of axes -------------------------------------------------------------------------


def _extent(x: Any, axis: int) -> Any:
    return aval_of(x).shape[axis]


def _split(x: Any, axis: int, outer: Any) -> Any:
    """An axis made two, the outer one of the given size."""
    shape = aval_of(x).shape
    inner = shape[axis] // outer
    return reshape(x, new_sizes=(*shape[:axis], outer, inner, *shape[axis + 1 :]), dimensions=None)


def _join(x: Any, outer: int, axis: int) -> Any:
    """One axis made the outer part of another, whose number is that without the first."""
    x = common.move_axis(x, outer, axis)
    shape = aval_of(x).shape
    joint = shape[axis] * shape[axis + 1]
    return reshape(x, new_sizes=(*shape[:axis], joint, *shape[axis + 2 :]), dimensions=None)


def _move_groups(x: Any, source: int, target: int, groups: int) -> Any:
    """The groups moved from the outer part of one axis to that of another."""
    return _join(_split(x, source, groups), source, target)


# --- batching and lanes ---------------------------------------------------------------------------


def _conv_batch(ctx: Any, args: Any, dims: Any, **params: Any) -> Any:
    if ctx.axis_size == 0:
        return _empty_batch(args, dims, params), 0
    lhs_dim, rhs_dim = dims
    if lhs_dim is not None and rhs_dim is not None:
        return _batch_both(args, dims, params)
    return _batch_rhs(args, rhs_dim, params) if lhs_dim is None else _batch_lhs(args, dims, params)


def _empty_batch(args: Any, dims: Any, params: Params) -> Any:
    avals: list[Aval] = []
    for x, dim in zip(args, dims, strict=True):
        aval = aval_of(x)
        kept = [n for axis, n in enumerate(aval.shape) if axis != dim]
        avals.append(Aval(kept, aval.dtype))
    single = _conv_shape(*avals, **params)
    return common.zeros(Aval((0, *single.shape), single.dtype))


def _batch_both(args: Any, dims: Any, params: Params) -> Any:
    """The batch becomes groups, outside of those there are."""
    numbers: ConvDimensionNumbers = params["dimension_numbers"]
    count = "batch_group_count" if params["batch_group_count"] > 1 else "feature_group_count"
    grouped = numbers.lhs_spec[0 if count == "batch_group_count" else 1]
    size = _extent(args[0], dims[0])
    lhs = _join(args[0], dims[0], grouped)
    rhs = _join(args[1], dims[1], numbers.rhs_spec[0])
    out = conv_general_dilated(lhs, rhs, **{**params, count: params[count] * size})
    return _split(out, numbers.out_spec[1], size), numbers.out_spec[1]


def _batch_lhs(args: Any, dims: Any, params: Params) -> Any:
    """The batch becomes part of the convolution's own, inside of its groups."""
    numbers: ConvDimensionNumbers = params["dimension_numbers"]
    (lhs, rhs), dim = args, dims[0]
    axis, groups = numbers.lhs_spec[0], params["batch_group_count"]
    size = _extent(lhs, dim)
    if groups > 1:
        # The axes are then (batch, ..., groups, own batch, ...).
        lhs = _split(common.move_axis(lhs, dim, 0), axis + 1, groups)
        lhs = _join(_join(lhs, 0, axis + 1), axis, axis)
    else:
        lhs = _join(lhs, dim, axis)
    out = conv_general_dilated(lhs, rhs, **params)
    return _split(out, numbers.out_spec[0], size), numbers.out_spec[0]


def _batch_rhs(args: Any, dim: Any, params: Params) -> Any:
    """The batch becomes part of the output features, inside of the groups."""
    numbers: ConvDimensionNumbers = params["dimension_numbers"]
    lhs, rhs = args
    axis, feature = numbers.rhs_spec[0], numbers.out_spec[1]
    groups = max(params["batch_group_count"], params["feature_group_count"])
    size = _extent(rhs, dim)
    if groups == 1:
        out = conv_general_dilated(lhs, _join(rhs, dim, axis), **params)
        return _split(out, feature, size), feature
    rhs = _split(common.move_axis(rhs, dim, 0), axis + 1, groups)
    out = conv_general_dilated(lhs, _join(_join(rhs, 0, axis + 1), axis, axis), **params)
    # The result's feature axis is (groups, batch, outputs).
    out = _split(_split(out, feature, groups), feature + 1, size)
    return _join(common.move_axis(out, feature + 1, 0), feature + 1, feature + 1), 0


def _conv_lanes(dims: Any, lhs: Aval, rhs: Aval, **params: Any) -> Any:
    numbers: ConvDimensionNumbers = params["dimension_numbers"]
    lhs_role, rhs_role = (
        None if dim is None else tuple(spec).index(dim)
        for dim, spec in zip(dims, numbers[:2], strict=True)
    )
    if lhs_role is None and rhs_role is None:
        return None
    grouped = max(params["batch_group_count"], params["feature_group_count"]) > 1
    if (lhs_role, rhs_role) == (0, None) and params["batch_group_count"] == 1:
        return numbers.out_spec[0]
    if (lhs_role, rhs_role) == (None, 0) and not grouped:
        return numbers.out_spec[1]
    if (lhs_role, rhs_role) == (1, 1) and not grouped:
        return Partial("add")
    if any(role is not None and role >= 2 for role in (lhs_role, rhs_role)):
        raise Inseparable("its windows reach over lanes")
    raise Inseparable("it combines each lane with all others")


# --- lowering -------------------------------------------------------------------------------------


def _conv_lower(b: Lowering, lhs: Any, rhs: Any, **params: Any) -> Any:
    conv = Convolution(Aval(lhs.shape, lhs.dtype), Aval(rhs.shape, rhs.dtype), params)
    out = _result_dtype(lhs.dtype, params["preferred_element_type"])
    return lower_convolution(b, lhs, rhs, conv, out, accumulator(lhs.dtype, rhs.dtype, out))


conv_general_dilated = Primitive(
    "conv_general_dilated",
    shape=_conv_shape,
    evaluate=_conv_evaluate,
    jvp=_conv_jvp,
    transpose=_conv_transpose,
    batch=_conv_batch,
    lanes=_conv_lanes,
    lower=_conv_lower,
    tags=frozenset({"contraction"}),
)
"""Sums of products of a kernel with windows of an array, for each window.

Params:
    window_strides: how far apart windows begin, for each spatial axis.
    padding: (low, high) zeros for each spatial axis; negative numbers cut off.
    lhs_dilation: distance of lhs's elements before padding, zeros between them.
    rhs_dilation: distance of the elements in a window.
    dimension_numbers: a `ConvDimensionNumbers`.
    feature_group_count: lhs's features and the output features are cut into so many groups, which
        are convolved each by itself.
    batch_group_count: the same with lhs's batch in place of its features.
    precision: accepted for compatibility and kept in the program; see `dot_general`.
    preferred_element_type: dtype of the result and the sums, or `None`.
"""
