"""What the rules of matrix primitives are written in: products, triangles, diagonals.

All work on the last two axes; axes before them are a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.trace import aval_of
from covector.ops import common
from covector.ops.arithmetic import add, mul
from covector.ops.compare import eq, ge, select_n
from covector.ops.contract import dot_general
from covector.ops.convert import conj, convert_element_type
from covector.ops.convert import real as real_
from covector.ops.index import gather
from covector.ops.reduce import reduce_sum
from covector.ops.shape import broadcast_in_dim, concatenate, iota, slice_, transpose
from covector.ops.windows import GatherDimensionNumbers, GatherScatterMode


def shape_of(x: Any) -> tuple[Any, ...]:
    """The shape of an operand."""
    return aval_of(x).shape


def matmul(x: Any, y: Any) -> Any:
    """The matrix product."""
    rank = len(shape_of(x))
    batch = tuple(range(rank - 2))
    numbers = (((rank - 1,), (rank - 2,)), (batch, batch))
    return dot_general(x, y, dimension_numbers=numbers, precision=None, preferred_element_type=None)


def transposed(x: Any) -> Any:
    """Matrices with their axes exchanged."""
    rank = len(shape_of(x))
    return transpose(x, permutation=(*range(rank - 2), rank - 1, rank - 2))


def conjugate(x: Any) -> Any:
    """The complex conjugate; real numbers as they are."""
    return conj(x, input_dtype=x.dtype) if dtypes.is_complex(x.dtype) else x


def adjoint(x: Any) -> Any:
    """The conjugate transpose."""
    return conjugate(transposed(x))


def real(x: Any) -> Any:
    """The real part; real numbers as they are."""
    return real_(x) if dtypes.is_complex(x.dtype) else x


def convert(x: Any, dtype: Any) -> Any:
    """`x` in another dtype."""
    return x if x.dtype == dtype else convert_element_type(x, new_dtype=dtype)


def expand(x: Any, shape: Sequence[Any], axes: Sequence[int]) -> Any:
    """`x` repeated to a shape; `axes` are the places of its own axes there."""
    return broadcast_in_dim(x, shape=tuple(shape), broadcast_dimensions=tuple(axes))


def on_rows(vector: Any, like: Any) -> Any:
    """A vector `(..., n)` as matrices `(..., m, n)` with equal rows, of the shape of `like`."""
    shape = shape_of(like)
    return expand(vector, shape, (*range(len(shape) - 2), len(shape) - 1))


def on_columns(vector: Any, like: Any) -> Any:
    """A vector `(..., m)` as matrices `(..., m, n)` with equal columns, shaped as `like`."""
    shape = shape_of(like)
    return expand(vector, shape, tuple(range(len(shape) - 1)))


def _positions(x: Any) -> tuple[Any, Any]:
    """Row and column numbers, of the shape of the matrices `x`."""
    shape = shape_of(x)
    core, axes = shape[-2:], (len(shape) - 2, len(shape) - 1)
    return tuple(
        [
            expand(iota(dtype=dtypes.int32, shape=core, dimension=d), shape, axes)
            if len(shape) > 2
            else iota(dtype=dtypes.int32, shape=core, dimension=d)
            for d in (0, 1)
        ]
    )


def _offset(x: Any, k: int) -> Any:
    if k == 0:
        return x
    return add(x, common.like(x, k))


def lower_mask(x: Any, k: int = 0) -> Any:
    """Whether an element of matrices like `x` is on or below the `k`-th diagonal."""
    rows, columns = _positions(x)
    return ge(_offset(rows, k), columns)


def lower_triangle(x: Any, k: int = 0) -> Any:
    """Zeros above the `k`-th diagonal."""
    return select_n(lower_mask(x, k), common.zeros(aval_of(x).strong()), x)


def upper_triangle(x: Any, k: int = 0) -> Any:
    """Zeros below the `k`-th diagonal."""
    rows, columns = _positions(x)
    return select_n(ge(columns, _offset(rows, k)), common.zeros(aval_of(x).strong()), x)


def identity_like(x: Any, dtype: Any = None) -> Any:
    """Ones on the main diagonals, zeros elsewhere."""
    rows, columns = _positions(x)
    return convert_element_type(eq(rows, columns), new_dtype=dtype or x.dtype)


def diagonal(x: Any) -> Any:
    """The main diagonals of square matrices."""
    rows, columns = _positions(x)
    alone = select_n(eq(rows, columns), common.zeros(aval_of(x).strong()), x)
    return reduce_sum(alone, axes=(len(shape_of(x)) - 1,))


def scaled(x: Any, factor: complex) -> Any:
    """`factor * x`."""
    return mul(x, common.like(x, factor))


def ones_like(x: Any) -> Any:
    """Ones of an operand's shape and dtype."""
    return common.full(aval_of(x).strong(), 1)


def row_numbers(x: Any) -> Any:
    """For each element of matrices, the number of its row as int32."""
    return _positions(x)[0]


def scalar(dtype: Any, value: complex) -> Array:
    """A rank-0 constant."""
    return Array.of(np.array(value, dtype), Aval((), dtype))


def columns_of(x: Any, start: Any, stop: Any) -> Any:
    """Some columns of matrices."""
    shape = shape_of(x)
    return slice_(
        x,
        start_indices=(*[0] * (len(shape) - 1), start),
        limit_indices=(*shape[:-1], stop),
        strides=None,
    )


def rows_of(x: Any, start: Any, stop: Any) -> Any:
    """Some rows of matrices."""
    shape = shape_of(x)
    return slice_(
        x,
        start_indices=(*[0] * (len(shape) - 2), start, 0),
        limit_indices=(*shape[:-2], stop, shape[-1]),
        strides=None,
    )


def beside(*parts: Any) -> Any:
    """Matrices next to each other."""
    return concatenate(*parts, dimension=len(shape_of(parts[0])) - 1)


def below(*parts: Any) -> Any:
    """Matrices below each other."""
    return concatenate(*parts, dimension=len(shape_of(parts[0])) - 2)


def take_rows(x: Any, rows: Any) -> Any:
    """The rows of matrices whose numbers `(..., k)` are given, all different."""
    shape, count = shape_of(x), shape_of(rows)
    batch = tuple(range(len(shape) - 2))
    dim = len(batch)
    numbers = GatherDimensionNumbers(
        offset_dims=(dim + 1,),
        collapsed_slice_dims=(dim,),
        start_index_map=(dim,),
        operand_batching_dims=batch,
        start_indices_batching_dims=batch,
    )
    return gather(
        x,
        expand(rows, (*count, 1), tuple(range(len(count)))),
        dimension_numbers=numbers,
        slice_sizes=(*[1] * (dim + 1), shape[-1]),
        mode=GatherScatterMode.PROMISE_IN_BOUNDS,
        fill_value=None,
        indices_are_sorted=False,
        unique_indices=True,
    )


def take_columns(x: Any, columns: Any) -> Any:
    """The columns of matrices whose numbers `(..., k)` are given, all different."""
    return transposed(take_rows(transposed(x), columns))
