"""Contractions: `dot_general`, the product of arrays summed over some of their axes.

Names and meanings are those of `jax.lax`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval, Zero
from covector.core.errors import compose
from covector.core.primitive import Primitive
from covector.core.trace import aval_of
from covector.loopir.tensor import Lowering
from covector.ops import common
from covector.ops.common import Inseparable, Partial, is_linear, kind_of
from covector.ops.contract_lowering import Axes, lower_dot
from covector.ops.movement import past

DimensionNumbers = tuple[tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]]


def operand_axes(numbers: DimensionNumbers, ranks: tuple[int, int]) -> tuple[Axes, Axes]:
    """What the axes of both operands are, batch and contracted axes in corresponding order."""
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = numbers
    pairs = ((lhs_batch, lhs_contract, ranks[0]), (rhs_batch, rhs_contract, ranks[1]))
    lhs, rhs = (
        Axes(
            tuple(batch),
            tuple([i for i in range(rank) if i not in batch and i not in contract]),
            tuple(contract),
        )
        for batch, contract, rank in pairs
    )
    return lhs, rhs


# --- shape and dtype -----------------------------------------------------------------------------


def _dot_shape(
    lhs: Aval,
    rhs: Aval,
    *,
    dimension_numbers: DimensionNumbers,
    precision: Any,
    preferred_element_type: Any,
) -> Aval:
    _check_axes(lhs, rhs, dimension_numbers)
    of_lhs, of_rhs = operand_axes(dimension_numbers, (lhs.ndim, rhs.ndim))
    shape = [lhs.shape[i] for i in (*of_lhs.batch, *of_lhs.free)]
    shape += [rhs.shape[i] for i in of_rhs.free]
    dtype = _result_dtype(lhs, rhs, preferred_element_type)
    return Aval(shape, dtype, lhs.weak_type and rhs.weak_type)


def _check_axes(lhs: Aval, rhs: Aval, numbers: DimensionNumbers) -> None:
    contract, batch = numbers
    for side, aval in ((0, lhs), (1, rhs)):
        axes = (*contract[side], *batch[side])
        if len(set(axes)) != len(axes) or any(not 0 <= i < aval.ndim for i in axes):
            raise TypeError(
                compose(
                    "dot_general needs different axes inside each operand",
                    found=f"axes {axes} of {aval}, dimension numbers {numbers}",
                )
            )
    for what, (lhs_axes, rhs_axes) in (("contracted", contract), ("batch", batch)):
        mine = tuple([lhs.shape[i] for i in lhs_axes])
        theirs = tuple([rhs.shape[i] for i in rhs_axes])
        if mine != theirs:
            raise TypeError(
                compose(
                    f"dot_general needs {what} axes of equal sizes",
                    found=f"{mine} and {theirs} in {lhs} and {rhs}, dimension numbers {numbers}",
                    fix="check the order of the operands, or transpose one",
                )
            )


def _result_dtype(lhs: Aval, rhs: Aval, preferred: Any) -> Any:
    for aval in (lhs, rhs):
        if kind_of(aval.dtype) not in "biufc":
            raise TypeError(f"dot_general takes numbers, got {aval}")
    ranks = _wideness(lhs.dtype), _wideness(rhs.dtype)
    if ranks[0] == ranks[1] and lhs.dtype != rhs.dtype:
        raise TypeError(
            f"dot_general cannot tell the dtype of the result for {lhs} and {rhs}; "
            "convert one with lax.convert_element_type"
        )
    dtype = lhs.dtype if ranks[0] >= ranks[1] else rhs.dtype
    if preferred is None or preferred == dtype:
        return dtype
    if not dtypes.is_floating(dtype) and _bits(preferred) < _bits(dtype):
        raise TypeError(
            f"dot_general: preferred_element_type {preferred} must not be narrower than "
            f"{dtypes.short_name(dtype)}, the dtype of the result without it"
        )
    return preferred


def _bits(dtype: Any) -> int:
    return 1 if dtypes.is_bool(dtype) else 8 * dtypes.real_of(dtype).itemsize


def _wideness(dtype: Any) -> tuple[Any, ...]:
    """Orders dtypes: complex over real, then by range, precision, width and sign."""
    real = dtypes.real_of(dtype)
    float_range = precision = -1
    if dtypes.is_floating(real):
        info = dtypes.finfo(real)
        float_range, precision = int(info.maxexp), int(info.nmant)
    signed = not dtypes.is_unsigned(real)
    return dtypes.is_complex(dtype), float_range, precision, _bits(dtype), signed


@functools.cache
def accumulator(lhs: Any, rhs: Any, out: Any) -> Any:
    """The dtype of products and sums: float32 for narrower floats.

    Args:
        lhs: dtype of an operand.
        rhs: dtype of the other.
        out: dtype of the result.
    """
    wide = max((lhs, rhs, out), key=_wideness)
    if kind_of(out) == "c" and kind_of(wide) != "c":
        wide = dtypes.complex_of(wide)
    return dtypes.float32 if wide in (dtypes.float16, dtypes.bfloat16) else wide


# --- evaluation ----------------------------------------------------------------------------------


def _dot_evaluate(
    lhs: np.ndarray[Any, Any],
    rhs: np.ndarray[Any, Any],
    *,
    dimension_numbers: DimensionNumbers,
    precision: Any,
    preferred_element_type: Any,
) -> Any:
    out = _result_dtype(
        Aval(lhs.shape, lhs.dtype), Aval(rhs.shape, rhs.dtype), preferred_element_type
    )
    wide = accumulator(lhs.dtype, rhs.dtype, out)
    of_lhs, of_rhs = operand_axes(dimension_numbers, (lhs.ndim, rhs.ndim))
    batch = tuple([lhs.shape[i] for i in of_lhs.batch])
    rows = tuple([lhs.shape[i] for i in of_lhs.free])
    columns = tuple([rhs.shape[i] for i in of_rhs.free])
    inner = tuple([lhs.shape[i] for i in of_lhs.contract])
    shape = (*batch, _product(rows), _product(inner))
    a = lhs.transpose(*of_lhs.batch, *of_lhs.free, *of_lhs.contract).reshape(shape)
    shape = (*batch, _product(inner), _product(columns))
    b = rhs.transpose(*of_rhs.batch, *of_rhs.contract, *of_rhs.free).reshape(shape)
    product = np.matmul(a.astype(wide, copy=False), b.astype(wide, copy=False))
    return product.astype(out, copy=False).reshape(batch + rows + columns)


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


# --- derivatives ---------------------------------------------------------------------------------


def _dot_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    lhs, rhs = primals
    out = dot_general(lhs, rhs, **params)
    aval = aval_of(out).tangent()
    tangent: Any = Zero(aval)
    if not dtypes.is_inexact(aval_of(out).dtype):
        return out, tangent
    if type(tangents[0]) is not Zero:
        tangent = dot_general(tangents[0], rhs, **params)
    if type(tangents[1]) is not Zero:
        tangent = common.add_tangents(tangent, dot_general(lhs, tangents[1], **params))
    return out, tangent


def _dot_transpose(
    ctx: Any,
    ct: Any,
    lhs: Any,
    rhs: Any,
    *,
    dimension_numbers: DimensionNumbers,
    precision: Any,
    preferred_element_type: Any,
) -> list[Any]:
    params = {"precision": precision, "preferred_element_type": preferred_element_type}
    ranks = (_rank_of(lhs), _rank_of(rhs))
    of_lhs, of_rhs = operand_axes(dimension_numbers, ranks)
    batch = len(of_lhs.batch)
    rows = range(batch, batch + len(of_lhs.free))
    columns = range(rows.stop, rows.stop + len(of_rhs.free))
    if is_linear(lhs):
        return [_pull_back(ct, columns, rhs, of_rhs, lhs.aval, of_lhs, params), None]
    return [None, _pull_back(ct, rows, lhs, of_lhs, rhs.aval, of_rhs, params)]


def _rank_of(x: Any) -> int:
    return len(x.aval.shape if is_linear(x) else aval_of(x).shape)


def _pull_back(
    ct: Any, ct_axes: range, other: Any, other_axes: Axes, aval: Aval, mine: Axes, params: Any
) -> Any:
    """The cotangent of an operand: that of the result times the other operand."""
    from covector.ops.convert import convert_element_type
    from covector.ops.shape import transpose

    batch = tuple(range(len(mine.batch)))
    numbers = ((tuple(ct_axes), other_axes.free), (batch, other_axes.batch))
    product = dot_general(ct, other, dimension_numbers=numbers, **params)
    # The other operand's contracted axes come out in ascending order.
    order = sorted(range(len(mine.contract)), key=lambda i: other_axes.contract[i])
    axes = (*mine.batch, *mine.free, *[mine.contract[i] for i in order])
    permutation = tuple([axes.index(axis) for axis in range(len(axes))])
    if permutation != tuple(range(len(axes))):
        product = transpose(product, permutation=permutation)
    if aval_of(product).dtype != aval.dtype:
        product = convert_element_type(product, new_dtype=aval.dtype)
    return product


# --- batching and lanes --------------------------------------------------------------------------


def _dot_batch(ctx: Any, args: Any, dims: Any, **params: Any) -> Any:
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = params["dimension_numbers"]
    (lhs, rhs), (lhs_dim, rhs_dim) = args, dims
    ranks = len(aval_of(lhs).shape), len(aval_of(rhs).shape)
    if lhs_dim is not None:
        lhs_contract, lhs_batch = past(lhs_contract, lhs_dim), past(lhs_batch, lhs_dim)
    if rhs_dim is not None:
        rhs_contract, rhs_batch = past(rhs_contract, rhs_dim), past(rhs_batch, rhs_dim)
    if lhs_dim is not None and rhs_dim is not None:
        lhs_batch, rhs_batch = (lhs_dim, *lhs_batch), (rhs_dim, *rhs_batch)
    numbers = ((tuple(lhs_contract), tuple(rhs_contract)), (tuple(lhs_batch), tuple(rhs_batch)))
    dim = _place_in_result(numbers, ranks, lhs_dim, rhs_dim)
    return dot_general(lhs, rhs, **{**params, "dimension_numbers": numbers}), dim


def _place_in_result(
    numbers: DimensionNumbers, ranks: tuple[int, int], lhs_dim: int | None, rhs_dim: int | None
) -> int:
    """Which axis of the result an axis of the operands becomes; both are of one batch pair."""
    of_lhs, of_rhs = operand_axes(numbers, ranks)
    if lhs_dim is not None:
        return (*of_lhs.batch, *of_lhs.free).index(lhs_dim)
    assert rhs_dim is not None
    return len(of_lhs.batch) + len(of_lhs.free) + of_rhs.free.index(rhs_dim)


def _dot_lanes(dims: Any, lhs: Aval, rhs: Aval, **params: Any) -> Any:
    numbers = params["dimension_numbers"]
    of_lhs, of_rhs = operand_axes(numbers, (lhs.ndim, rhs.ndim))
    lhs_lane, rhs_lane = dims
    if lhs_lane is None and rhs_lane is None:
        return None
    if lhs_lane in of_lhs.contract and rhs_lane in of_rhs.contract:
        if of_lhs.contract.index(lhs_lane) == of_rhs.contract.index(rhs_lane):
            return Partial("add")
        raise Inseparable("it multiplies each lane with all others")
    if lhs_lane in of_lhs.contract or rhs_lane in of_rhs.contract:
        raise Inseparable("it sums over the lanes of one operand, the other has none there")
    paired = lhs_lane in of_lhs.batch or rhs_lane in of_rhs.batch
    if paired:
        lhs_place = of_lhs.batch.index(lhs_lane) if lhs_lane in of_lhs.batch else None
        rhs_place = of_rhs.batch.index(rhs_lane) if rhs_lane in of_rhs.batch else None
        if lhs_place != rhs_place:
            raise Inseparable("operands have their lanes along different axes")
    elif lhs_lane is not None and rhs_lane is not None:
        raise Inseparable("it multiplies each lane with all others")
    return _place_in_result(numbers, (lhs.ndim, rhs.ndim), lhs_lane, rhs_lane)


def _dot_lower(
    b: Lowering,
    lhs: Any,
    rhs: Any,
    *,
    dimension_numbers: DimensionNumbers,
    precision: Any,
    preferred_element_type: Any,
) -> Any:
    of_lhs, of_rhs = operand_axes(dimension_numbers, (lhs.ndim, rhs.ndim))
    out = _result_dtype(
        Aval(lhs.shape, lhs.dtype), Aval(rhs.shape, rhs.dtype), preferred_element_type
    )
    return lower_dot(b, lhs, rhs, of_lhs, of_rhs, out, accumulator(lhs.dtype, rhs.dtype, out))


dot_general = Primitive(
    "dot_general",
    shape=_dot_shape,
    evaluate=_dot_evaluate,
    jvp=_dot_jvp,
    transpose=_dot_transpose,
    batch=_dot_batch,
    lanes=_dot_lanes,
    lower=_dot_lower,
    tags=frozenset({"contraction"}),
)
"""The product of two arrays, summed over pairs of axes.

Params:
    dimension_numbers: `((contracted axes of lhs, of rhs), (batch axes of lhs, of rhs))`.
    precision: accepted for compatibility and kept in the program. It asks for speed at the price of
        accuracy on machines that have such a choice; products and sums here always have the full
        precision of the operands' dtype (float32 for narrower floats), the most it can ask for.
    preferred_element_type: dtype of the result and the sums, or `None`.

The result's axes are the batch axes, the free axes of lhs, those of rhs.
"""
