"""Products of matrices by BLAS, large ones in tiles that several threads share.

BLAS itself uses one thread for each call. Which tiles there are depends on sizes alone, so that
results do not depend on the number of threads, nor on whether the product stands in a loop that
threads share already. Each tile copies its rows and columns of the operands into the order that
BLAS wants: so tiles should be few, and nearly square. Where sums are much longer than the result
has rows and columns, tiles make parts of the sums, which are added up in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from covector.core import dtypes
from covector.loopir.costs import product_cost
from covector.loopir.tensor import Lowering
from covector.ops import indices as ix
from covector.ops.matrix_primitives import SUFFIX

LEAST_SIDE = 64
"""Rows or columns that a tile has at least."""

SHARE = 30_000.0
"""Nanoseconds: a product that takes n^2 times as long is cut into about n tiles."""

FEW_TILES = 8
"""Tiles beyond which they are made no smaller than `LARGE_TILE`."""

LARGE_TILE = 1 << 20
"""Elements of a tile where there are many."""

LONG_SUM = 4
"""Sums are cut if their parts are at least so many times longer than the sides of a tile."""

STEP = 16
"""Sides of tiles are multiples of this."""


class Factor(NamedTuple):
    """A matrix in memory.

    Attributes:
        buffer: where it is.
        offset: of its first element, an int or an index value.
        leading: how many elements apart its rows in memory are.
        transposed: whether the matrix in memory is the transpose.
    """

    buffer: Any
    offset: Any
    leading: int
    transposed: bool = False

    def moved(self, builder: Any, row: Any, column: Any) -> Any:
        """Where the part that begins at a row and a column is, as an argument of a call."""
        if self.transposed:
            row, column = column, row
        start = ix.add(builder, ix.mul(builder, row, self.leading), column)
        return self.buffer, ix.add(builder, self.offset, start)


def tile_sides(rows: int, columns: int, inner: int, dtype: Any) -> tuple[int, int, int]:
    """How many rows, columns and terms of sums of a product one call of BLAS works on.

    Args:
        rows: of the result.
        columns: of the result.
        inner: terms of each sum.
        dtype: one of `SUFFIX`.

    Returns:
        The sizes of a tile; all of the product if it is not worth more than one thread.
    """
    cost = product_cost(rows, columns, inner, SUFFIX[dtype])
    wanted = min((cost / SHARE) ** 0.5, max(FEW_TILES, rows * columns // LARGE_TILE))
    down = across = deep = 1
    while 2 * down * across * deep <= wanted:
        height, width = rows // down, columns // across
        longest = max(height, width)
        if inner // (2 * deep) >= LONG_SUM * max(longest, LEAST_SIDE):
            deep *= 2
        elif longest < 2 * LEAST_SIDE:
            break
        elif height >= width:
            down *= 2
        else:
            across *= 2
    return _side(rows, down), _side(columns, across), _side(inner, deep)


def strip_side(extent: int, cost: float) -> int:
    """How much of one side of a matrix a single call works on, if only that side can be cut.

    Args:
        extent: of that side.
        cost: of all, in nanoseconds.

    Returns:
        The extent of a strip; the whole if it is not worth more than one thread.
    """
    parts = min((cost / SHARE) ** 0.5, FEW_TILES, extent / LEAST_SIDE)
    return _side(extent, 1 << int(parts).bit_length() - 1) if parts >= 2 else extent


def _side(extent: int, parts: int) -> int:
    return extent if parts == 1 else -(-extent // (parts * STEP)) * STEP


def multiply(
    b: Lowering,
    dtype: Any,
    sizes: tuple[int, int, int],
    factors: tuple[Factor, Factor, Factor],
    site: int,
    sides: tuple[int, int, int] | None = None,
) -> None:
    """Stores a product of two matrices.

    Args:
        b: the lowering.
        dtype: of all three, one of `SUFFIX`.
        sizes: rows and columns of the result, and terms of each sum.
        factors: left, right, and where the result goes.
        site: the error with which to leave if BLAS is not there.
        sides: of tiles; `None` for those that suit the sizes.
    """
    rows, columns, inner = sizes
    sides = sides or tile_sides(rows, columns, inner, dtype)
    parts = -(-inner // sides[2])
    if parts == 1:
        _in_tiles(b.builder, dtype, sizes, factors, site, sides)
        return
    left, right, target = factors
    sums = b.new((parts, rows, columns), dtype)
    stacked = Factor(sums.buffer, 0, columns)
    _in_tiles(b.builder, dtype, sizes, (left, right, stacked), site, sides)

    def add_up(place: Sequence[Any]) -> None:
        builder = b.builder
        total = sums.at((0, *place))
        for part in range(1, parts):
            total = builder.op("add", total, sums.at((part, *place)))
        offset = ix.linear(builder, place, (rows, target.leading))
        builder.store_at(target.buffer, ix.add(builder, target.offset, offset), total)

    b.for_each((rows, columns), add_up, independent=True)


def _in_tiles(
    builder: Any,
    dtype: Any,
    sizes: tuple[int, int, int],
    factors: tuple[Factor, Factor, Factor],
    site: int,
    sides: tuple[int, int, int],
) -> None:
    """As `multiply`; results of parts of the sums are stored one matrix after the other."""
    left, right, target = factors
    counts = tuple([-(-size // side) for size, side in zip(sizes, sides, strict=True)])

    def tile(number: Any) -> None:
        position = ix.delinear(builder, number, counts)
        starts = [ix.mul(builder, i, side) for i, side in zip(position, sides, strict=True)]
        extents = [extent_at(builder, *each) for each in zip(sizes, sides, starts, strict=True)]
        row, column, term = starts
        below = ix.add(builder, row, ix.mul(builder, position[2], sizes[0]))
        operands: list[Any] = []
        for factor, place in (
            (left, (row, term)),
            (right, (term, column)),
            (target, (below, column)),
        ):
            operands += [factor.moved(builder, *place), builder.index(factor.leading)]
        flags = [builder.index(int(f.transposed)) for f in (left, right)]
        passed = [builder.index(n) if type(n) is int else n for n in extents]
        symbol = f"cv_gemm_{SUFFIX[dtype]}"
        builder.call(symbol, dtypes.int32, *passed, *operands, *flags, site=site)

    if prod(counts) == 1:
        tile(0)
    else:
        builder.loop(0, prod(counts), tile, kind="parallel")


def extent_at(builder: Any, whole: int, side: int, start: Any) -> Any:
    """Rows or columns of the tile that starts there: the last one may have fewer.

    Args:
        builder: of the loop IR.
        whole: rows or columns of the matrix.
        side: of most tiles.
        start: a multiple of `side`, an int or an index value.

    Returns:
        The number, an int if all tiles are equal.
    """
    if whole % side == 0:
        return side
    return builder.op("min", ix.sub(builder, whole, start), builder.index(side))
