"""The lowering of `dot_general`, by size: sums in the reader's loop, rows, tiles, or BLAS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from covector.core import dtypes
from covector.core.config import config
from covector.loopir.tensor import Lazy, Lowering, Stored
from covector.ops import indices as ix
from covector.ops.matrix_primitives import SUFFIX
from covector.ops.product_tiles import Factor, multiply
from covector.ops.windows import static_size

UNROLLED = 16
"""Sums of at most so many products are spelled out."""
ROW_STEP = 4
"""How many products a pass over a row of the result adds to it."""
FEWEST_ROWS, MOST_ROWS = 4, 10
"""How many rows of the result are computed together: so many sums hide the time that each takes."""
SHORT_SUM = 8
"""Sums of so many products are made in tiles if there are rows and columns enough for these."""
SHORT_ROW = 4
"""Rows of fewer elements are not worth loops over rows."""
LIBRARY_SIZE = 64**3
"""From so many multiplications for one product of matrices on, BLAS does it."""


class Axes(NamedTuple):
    """What the axes of an operand are.

    Attributes:
        batch: shared by both operands and the result.
        free: of this operand and the result only.
        contract: summed over.
    """

    batch: tuple[int, ...]
    free: tuple[int, ...]
    contract: tuple[int, ...]


class _Operand:
    """A tensor read by what its axes are."""

    __slots__ = ("axes", "dtype", "tensor")

    def __init__(self, tensor: Any, axes: Axes, dtype: Any) -> None:
        self.tensor = tensor
        self.axes = axes
        self.dtype = dtype

    @property
    def ends_free(self) -> bool:
        """Whether neighbours in memory are neighbours in the result."""
        return len(self.tensor.shape) - 1 in self.axes.free

    def extents(self, axes: Sequence[int]) -> tuple[Any, ...]:
        return tuple([self.tensor.shape[axis] for axis in axes])

    def at(
        self, builder: Any, batch: Sequence[Any], free: Sequence[Any], contract: Sequence[Any]
    ) -> Any:
        """An element, in the dtype of the products."""
        index: list[Any] = [0] * len(self.tensor.shape)
        for axes, part in zip(self.axes, (batch, free, contract), strict=True):
            for axis, i in zip(axes, part, strict=True):
                index[axis] = i
        return builder.convert(self.tensor.at(tuple(index)), self.dtype)

    def ordered(self, b: Lowering, axes: Sequence[int]) -> Any:
        """The tensor in the dtype of the products, with its axes in another order."""
        tensor, builder, dtype = self.tensor, b.builder, self.dtype
        if tuple(axes) == tuple(range(len(axes))) and tensor.dtype == dtype:
            return tensor
        place = [axes.index(axis) for axis in range(len(axes))]

        def element(index: tuple[Any, ...]) -> Any:
            return builder.convert(tensor.at(tuple([index[k] for k in place])), dtype)

        return b.lazy(self.extents(axes), dtype, element, tensor.cost, moves=True)


class _Product:
    """A contraction to be lowered."""

    __slots__ = ("b", "batch", "columns", "inner", "lhs", "out", "rhs", "rows", "wide")

    def __init__(self, b: Lowering, lhs: _Operand, rhs: _Operand, out: Any, wide: Any) -> None:
        self.b = b
        self.lhs = lhs
        self.rhs = rhs
        self.out = out
        self.wide = wide
        self.batch = lhs.extents(lhs.axes.batch)
        self.rows = lhs.extents(lhs.axes.free)
        self.columns = rhs.extents(rhs.axes.free)
        self.inner = lhs.extents(lhs.axes.contract)

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.batch + self.rows + self.columns

    def parts(self, index: Sequence[Any]) -> tuple[Any, Any, Any]:
        """An index of the result as those of the batch, the row and the column."""
        batch, rows = len(self.batch), len(self.batch) + len(self.rows)
        return index[:batch], index[batch:rows], index[rows:]


def lower_dot(
    b: Lowering, lhs: Any, rhs: Any, lhs_axes: Axes, rhs_axes: Axes, out: Any, wide: Any
) -> Any:
    """A contraction as a tensor.

    Args:
        b: the lowering.
        lhs: tensor.
        rhs: tensor.
        lhs_axes: what the axes of `lhs` are.
        rhs_axes: what those of `rhs` are, batch and contracted ones in corresponding order.
        out: dtype of the result.
        wide: dtype of products and sums.

    Returns:
        The tensor.
    """
    product = _Product(b, _Operand(lhs, lhs_axes, wide), _Operand(rhs, rhs_axes, wide), out, wide)
    sizes = [static_size(part) for part in (product.rows, product.columns, product.inner)]
    if all(size is not None for size in sizes) and static_size(product.batch) != 0:
        rows, columns, inner = (size or 0 for size in sizes)
        if rows * columns * inner >= LIBRARY_SIZE and has_library(wide):
            if 1 in (rows, columns):
                return _by_vector(product, rows, columns, inner)
            return _by_library(product, rows, columns, inner)
        by_rows = _row_product(product, rows, columns) if _in_loops(rows, columns, inner) else None
        if by_rows is not None:
            rows, columns = (static_size(part) or 0 for part in (by_rows.rows, by_rows.columns))
            if rows < FEWEST_ROWS:
                return _by_rows(by_rows, inner)
            return _by_tiles(by_rows, rows, columns, inner)
    return _by_elements(product)


def has_library(dtype: Any) -> bool:
    """Whether BLAS is to make products of a dtype."""
    return dtype in SUFFIX and "library_products" not in config.disable


def _by_vector(product: _Product, rows: int, columns: int, inner: int) -> Any:
    """A large matrix times a vector: each element of the matrix is read once, in memory's order.

    BLAS would copy the matrix first, as it does for products that read it again and again.
    """
    matrix = product.rhs if rows == 1 else product.lhs
    if not matrix.ends_free or rows == columns:
        return _by_elements(product)
    if rows == 1:
        return _by_rows(product, inner)
    turned = _Product(product.b, product.rhs, product.lhs, product.out, product.wide)
    result = _by_rows(turned, inner)

    def element(index: tuple[Any, ...]) -> Any:
        batch, row, column = product.parts(index)
        return result.at((*batch, *column, *row))

    return product.b.lazy(product.shape, product.out, element, 0.0, moves=True)


def _in_loops(rows: int, columns: int, inner: int) -> bool:
    """Whether sums are made in loops of their own, apart from what reads them."""
    if inner > UNROLLED:
        return True
    return inner >= SHORT_SUM and rows >= FEWEST_ROWS and columns >= UNROLLED


def _row_product(product: _Product, rows: int, columns: int) -> _Product | None:
    """The product with its operands in the order that suits loops over rows, if these pay."""
    lhs, rhs = product.lhs, product.rhs
    if columns >= SHORT_ROW and (rhs.ends_free or rows >= 2 * SHORT_ROW):
        return product
    if not product.columns and rows >= SHORT_ROW and lhs.ends_free:
        return _Product(product.b, rhs, lhs, product.out, product.wide)
    return None


# --- sums at each element ------------------------------------------------------------------------


def _by_elements(product: _Product) -> Any:
    b, builder = product.b, product.b.builder
    inner = static_size(product.inner)

    def element(index: tuple[Any, ...]) -> Any:
        batch, row, column = product.parts(index)

        def term(k: tuple[Any, ...]) -> Any:
            lhs = product.lhs.at(builder, batch, row, k)
            return times(builder, lhs, product.rhs.at(builder, batch, column, k))

        return builder.convert(_sum(b, product.inner, inner, term, product.wide), product.out)

    each = product.lhs.tensor.cost + product.rhs.tensor.cost + 2
    cost = each * (1024 if inner is None else inner)
    return b.lazy(product.shape, product.out, element, cost)


def _sum(
    b: Any, extents: Sequence[Any], size: int | None, term: Callable[..., Any], dtype: Any
) -> Any:
    builder = b.builder
    if size is None or size == 0 or size > UNROLLED:
        zero = builder.const(0, dtype)
        return b.reduce(extents, term, partial(plus, builder), zero)
    total: Any = None
    for index in np.ndindex(*extents):
        part = term(tuple([int(i) for i in index]))
        total = part if total is None else plus(builder, total, part)
    return total


def times(builder: Any, x: Any, y: Any) -> Any:
    """A product that may be rounded together with the sum it goes into."""
    if dtypes.is_bool(x.dtype):
        return builder.op("and", x, y)
    return builder.op("mul", x, y, attr=_contract(x.dtype))


def plus(builder: Any, x: Any, y: Any) -> Any:
    """A sum that may be rounded together with a product in it."""
    if dtypes.is_bool(x.dtype):
        return builder.op("or", x, y)
    return builder.op("add", x, y, attr=_contract(x.dtype))


def _contract(dtype: Any) -> str | None:
    return "contract" if dtypes.is_floating(dtype) else None


# --- loops over rows ---------------------------------------------------------------------------


def _by_rows(product: _Product, inner: int) -> Any:
    """For each row of the result, sums of multiples of rows of the right operand.

    The innermost loop runs along rows in memory and each step is independent of the others.
    """
    b, builder, rhs = product.b, product.b.builder, product.rhs
    direct = product.out == product.wide
    out = b.new(product.shape, product.out)
    sums = out if direct else b.new(product.columns, product.wide)
    if not rhs.ends_free or rhs.tensor.cost > 0:
        product.rhs = _in_rows(b, rhs)

    def make_row(index: tuple[Any, ...]) -> None:
        batch, row = index[: len(product.batch)], index[len(product.batch) :]
        prefix = index if direct else ()
        _sum_row(product, batch, row, sums, prefix, inner)
        if not direct:

            def narrow(column: tuple[Any, ...]) -> None:
                value = builder.convert(sums.at(column), product.out)
                builder.store(out.buffer, (*index, *column), value)

            b.for_each(product.columns, narrow, independent=True)

    b.for_each(product.batch + product.rows, make_row)
    return out


def _sum_row(
    product: _Product,
    batch: tuple[Any, ...],
    row: tuple[Any, ...],
    sums: Stored,
    prefix: tuple[Any, ...],
    inner: int,
) -> None:
    b, builder = product.b, product.b.builder

    def add_products(first: Any, count: int, fresh: bool) -> None:
        steps = [
            ix.delinear(builder, ix.add(builder, first, k), product.inner) for k in range(count)
        ]
        factors = [product.lhs.at(builder, batch, row, k) for k in steps]

        def element(column: tuple[Any, ...]) -> None:
            place = (*prefix, *column)
            total = None if fresh else sums.at(place)
            for factor, k in zip(factors, steps, strict=True):
                part = times(builder, factor, product.rhs.at(builder, batch, column, k))
                total = part if total is None else plus(builder, total, part)
            builder.store(sums.buffer, place, total)

        b.for_each(product.columns, element, independent=True)

    add_products(0, ROW_STEP, True)
    whole = inner - inner % ROW_STEP
    add_more = partial(add_products, count=ROW_STEP, fresh=False)
    builder.loop(ROW_STEP, whole, add_more, step=ROW_STEP)
    if whole < inner:
        add_products(whole, inner - whole, False)


# --- tiles ---------------------------------------------------------------------------------------


def _by_tiles(product: _Product, rows: int, columns: int, inner: int) -> Any:
    """A few rows of the result at a time, in registers.

    Lanes are along the columns: for each product an element of the right operand is read once and
    used for all rows of the tile.
    """
    b, builder = product.b, product.b.builder
    product.lhs, product.rhs = _computed(b, product.lhs), _computed(b, product.rhs)
    if not product.rhs.ends_free or product.rhs.tensor.dtype != product.wide:
        product.rhs = _in_rows(b, product.rhs)
    out = b.new(product.shape, product.out)
    size = _tile_rows(rows)

    def multiply(batch: tuple[Any, ...]) -> None:
        def tile(first: Any, count: int = size) -> None:
            numbers = [
                ix.delinear(builder, ix.add(builder, first, i), product.rows) for i in range(count)
            ]

            def column(number: Any) -> None:
                place = ix.delinear(builder, number, product.columns)
                sums = _tile_column(product, batch, numbers, place, inner)
                for row, total in zip(numbers, sums, strict=True):
                    value = builder.convert(total, product.out)
                    builder.store(out.buffer, (*batch, *row, *place), value)

            builder.loop(0, columns, column, kind="simd")

        whole = rows - rows % size
        builder.loop(0, whole, tile, step=size)
        if whole < rows:
            tile(whole, rows - whole)

    b.for_each_apart(product.batch, multiply)
    return out


def _computed(b: Lowering, operand: _Operand) -> _Operand:
    """An operand whose elements are only read: each is used for many, and often out of order."""
    if operand.tensor.cost == 0:
        return operand
    return _Operand(b.stored(operand.tensor), operand.axes, operand.dtype)


def _tile_rows(rows: int) -> int:
    """How many rows of the result are computed together."""
    divisors = [n for n in range(FEWEST_ROWS, MOST_ROWS + 1) if rows % n == 0]
    return max(divisors, default=min(rows, MOST_ROWS))


def _tile_column(
    product: _Product,
    batch: tuple[Any, ...],
    rows: Sequence[Sequence[Any]],
    column: Sequence[Any],
    inner: int,
) -> list[Any]:
    """The elements of a tile in one column."""
    builder = product.b.builder

    def step(number: Any, *sums: Any) -> list[Any]:
        k = ix.delinear(builder, number, product.inner)
        factor = product.rhs.at(builder, batch, column, k)
        return [
            plus(builder, total, times(builder, product.lhs.at(builder, batch, row, k), factor))
            for total, row in zip(sums, rows, strict=True)
        ]

    zero = builder.const(0, product.wide)
    return builder.loop(0, inner, step, [zero] * len(rows))


def _in_rows(b: Lowering, operand: _Operand) -> _Operand:
    """The operand in memory with its free axes last."""
    batch, free, contract = operand.axes
    order = (*batch, *contract, *free)
    source = operand.tensor
    version = source.buffer.version if type(source) is Stored else None
    key = ("ordered", source, version, order, operand.dtype)
    tensor = b.builder.recall(key)
    if tensor is None:  # more than one product may want it so
        tensor = b.stored(operand.ordered(b, order))
        b.builder.remember(key, tensor)
    ends = len(batch), len(batch) + len(contract), len(tensor.shape)
    axes = Axes(
        tuple(range(ends[0])), tuple(range(ends[1], ends[2])), tuple(range(ends[0], ends[1]))
    )
    return _Operand(tensor, axes, operand.dtype)


# --- BLAS ----------------------------------------------------------------------------------------


class _Matrix:
    """A stored operand as matrices.

    Attributes:
        stored: the tensor.
        batch: strides of its batch axes.
        transposed: whether the matrix in memory is the transpose.
        leading: how many elements apart the rows of the matrix in memory are.
    """

    __slots__ = ("batch", "leading", "stored", "transposed")

    def __init__(self, stored: Any, batch: list[int], transposed: bool, leading: int) -> None:
        self.stored = stored
        self.batch = batch
        self.transposed = transposed
        self.leading = leading

    def at(self, builder: Any, index: Sequence[Any]) -> Factor:
        """The matrix of a batch index."""
        offset: Any = 0
        for i, stride in zip(index, self.batch, strict=True):
            offset = ix.add(builder, offset, ix.mul(builder, i, stride))
        return Factor(self.stored.buffer, offset, self.leading, self.transposed)


def _by_library(product: _Product, rows: int, columns: int, inner: int) -> Any:
    b: Any = product.b
    builder, lhs, rhs = b.builder, product.lhs, product.rhs
    out = b.new(product.shape, product.wide)
    left = _matrix(b, lhs, lhs.axes.free, lhs.axes.contract)
    right = _matrix(b, rhs, rhs.axes.contract, rhs.axes.free)
    target = _Matrix(out, _strides(product.shape)[: len(product.batch)], False, columns)
    site = b.site("BLAS could not multiply two matrices")

    def one(index: Sequence[Any]) -> None:
        factors = left.at(builder, index), right.at(builder, index), target.at(builder, index)
        multiply(b, product.wide, (rows, columns, inner), factors, site)

    b.for_each_apart(product.batch, one)
    if product.out == product.wide:
        return out

    def narrow(index: tuple[Any, ...]) -> Any:
        return builder.convert(out.at(index), product.out)

    return b.lazy(product.shape, product.out, narrow, 1.0)


def _strides(shape: Sequence[int]) -> list[int]:
    strides: list[int] = []
    stride = 1
    for extent in reversed(shape):
        strides.append(stride)
        stride *= extent
    return strides[::-1]


def _matrix(b: Lowering, operand: _Operand, rows: Sequence[int], columns: Sequence[int]) -> _Matrix:
    """The operand in memory, where it is if its layout will do."""
    axes, tensor = operand.axes, operand.tensor
    if tensor.dtype == operand.dtype and not isinstance(tensor, Lazy):
        stored = b.stored(tensor)
        found = _as_matrix(stored, axes.batch, rows, columns)
        if found is not None:
            return found
    order = (*axes.batch, *rows, *columns)
    stored = b.stored(operand.ordered(b, order))
    ends = len(axes.batch), len(axes.batch) + len(rows), len(order)
    found = _as_matrix(stored, range(ends[0]), range(ends[0], ends[1]), range(ends[1], ends[2]))
    assert found is not None
    return found


def _as_matrix(
    stored: Any, batch: Sequence[int], rows: Sequence[int], columns: Sequence[int]
) -> _Matrix | None:
    strides = _strides(stored.shape)
    row, column = (_joint_stride(stored.shape, strides, axes) for axes in (rows, columns))
    if row is None or column is None:
        return None
    (row_stride, row_count), (column_stride, column_count) = row, column
    outside = [strides[axis] for axis in batch]
    if (column_stride == 1 or column_count == 1) and (row_count == 1 or row_stride >= column_count):
        leading = row_stride if row_count > 1 else column_count
        return _Matrix(stored, outside, False, leading)
    if (row_stride == 1 or row_count == 1) and column_stride >= row_count:
        return _Matrix(stored, outside, True, column_stride)
    return None


def _joint_stride(
    shape: Sequence[int], strides: Sequence[int], axes: Sequence[int]
) -> tuple[int, int] | None:
    """Stride and number of elements of axes taken as one; `None` if they are not evenly spaced."""
    stride, count = 1, 1
    for axis in reversed(axes):
        if shape[axis] == 1:
            continue
        if count == 1:
            stride = strides[axis]
        elif strides[axis] != stride * count:
            return None
        count *= shape[axis]
    return stride, count
