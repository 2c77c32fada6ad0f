"""The lowering of convolutions: sums in the reader's loop, loops over rows, or BLAS on patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

from covector.loopir.tensor import Lowering, Stored
from covector.ops import indices as ix
from covector.ops.contract_lowering import (
    LIBRARY_SIZE,
    Axes,
    has_library,
    lower_dot,
    plus,
    times,
)
from covector.ops.conv_shapes import Convolution
from covector.ops.product_tiles import Factor, multiply
from covector.ops.slices import pad

TINY = 64
"""Windowed arrays of so few elements are read where they are, without a padded copy."""
FEW = 4
"""Fewer output features, or products in a sum, make no matrix."""
MANY = 64
"""Neighbours in memory that are summed up fast without BLAS."""
PATCH_BYTES = 1 << 20
"""Patches for one call of BLAS take up to so much memory, so that they stay in cache."""
LEAST_COLUMNS = 64
"""But a call has so many columns, if there are any more."""


def lower_convolution(
    b: Lowering, lhs: Any, rhs: Any, conv: Convolution, out: Any, wide: Any
) -> Any:
    """A convolution as a tensor.

    Args:
        b: the lowering.
        lhs: tensor.
        rhs: tensor of the kernel.
        conv: what is convolved.
        out: dtype of the result.
        wide: dtype of products and sums.

    Returns:
        The tensor.
    """
    return _Lowering(b, lhs, rhs, conv, out, wide).result()


class _Lowering:
    """One convolution being lowered."""

    def __init__(
        self, b: Lowering, lhs: Any, rhs: Any, conv: Convolution, out: Any, wide: Any
    ) -> None:
        # The scheduler gives more than the protocol says: reductions, sites of errors.
        self.b: Any = b
        self.builder = b.builder
        self.conv = conv
        self.rhs = rhs
        self.out = out
        self.wide = wide
        numbers = conv.numbers
        self.channels_last = numbers.lhs_spec[1] == len(numbers.lhs_spec) - 1
        self.padded = self._padded(lhs)

    # --- operands ---------------------------------------------------------------------------------

    def _padded(self, lhs: Any) -> Any:
        """What the windows are on: axes (batch, feature, spatial ...), or the feature axis last."""
        b, conv = self.b, self.conv
        zero = self.builder.const(0, lhs.dtype)

        def padding(index: Any) -> Any:
            return zero

        scalar = b.lazy((), lhs.dtype, padding, 0.0, moves=True)
        config = conv.padding_config
        if any(entry != (0, 0, 0) for entry in config):
            lhs = pad.lower(b, b.hoist(lhs), scalar, padding_config=config)
        lhs_spec = conv.numbers.lhs_spec
        if self.channels_last:
            axes = (lhs_spec[0], *lhs_spec[2:], lhs_spec[1])
        else:
            axes = lhs_spec
        ordered = self._ordered(lhs, axes)
        return ordered if prod(ordered.shape) <= TINY else b.stored(ordered)

    def _ordered(self, tensor: Any, axes: Sequence[int]) -> Any:
        """The tensor in the dtype of the products, with its axes in another order."""
        if tuple(axes) == tuple(range(len(axes))) and tensor.dtype == self.wide:
            return tensor
        place = [axes.index(axis) for axis in range(len(axes))]

        def element(index: tuple[Any, ...]) -> Any:
            value = tensor.at(tuple([index[k] for k in place]))
            return self.builder.convert(value, self.wide)

        shape = [tensor.shape[axis] for axis in axes]
        return self.b.lazy(shape, self.wide, element, tensor.cost, moves=True)

    def read(self, group: Any, batch: Any, feature: Any, place: Any, inside: Any) -> Any:
        """An element of a window.

        Args:
            group: which group.
            batch: which element of the batch.
            feature: which feature of the group.
            place: which window, an index for each spatial axis.
            inside: where in it.
        """
        builder, conv = self.builder, self.conv
        if conv.by_batch:
            batch = ix.add(builder, ix.mul(builder, group, conv.batch), batch)
        else:
            feature = ix.add(builder, ix.mul(builder, group, conv.features), feature)
        at = [
            ix.add(builder, ix.mul(builder, i, step), ix.mul(builder, k, gap))
            for i, k, step, gap in zip(place, inside, conv.strides, conv.rhs_dilation, strict=True)
        ]
        index = (batch, *at, feature) if self.channels_last else (batch, feature, *at)
        return self.padded.at(index)

    def _weight(self, group: Any, output: Any, feature: Any, inside: Sequence[Any]) -> Any:
        """An element of the kernel."""
        builder, spec = self.builder, self.conv.numbers.rhs_spec
        output = ix.add(builder, ix.mul(builder, group, self.conv.outputs), output)
        index: list[Any] = [0] * len(spec)
        for axis, i in zip(spec, (output, feature, *inside), strict=True):
            index[axis] = i
        return builder.convert(self.rhs.at(tuple(index)), self.wide)

    # --- which way --------------------------------------------------------------------------------

    def result(self) -> Any:
        """The convolution."""
        conv = self.conv
        columns = conv.batch * prod(conv.places)
        size = conv.outputs * conv.terms * columns
        by_matrices = size >= LIBRARY_SIZE and has_library(self.wide) and columns >= FEW
        if by_matrices and conv.terms >= FEW and (conv.outputs >= FEW or self._hops()):
            return _Patches(self).result()
        if conv.outputs >= FEW and conv.terms >= FEW and columns >= FEW and conv.groups > 0:
            return self._by_rows()
        return self._by_elements()

    def _hops(self) -> bool:
        """Whether a window has many elements, but few that are neighbours in memory."""
        conv = self.conv
        run = conv.features if self.channels_last else conv.kernel[-1] if conv.kernel else 1
        return conv.terms >= MANY and run < MANY

    def _by_elements(self) -> Any:
        """Each element a sum, in whatever loop wants the element."""
        b, builder, conv = self.b, self.builder, self.conv

        def element(index: tuple[Any, ...]) -> Any:
            batch, joint, *place = [index[axis] for axis in conv.numbers.out_spec]
            group, output = ix.delinear(builder, joint, (conv.groups, conv.outputs))

            def term(k: tuple[Any, ...]) -> Any:
                x = self.read(group, batch, k[0], place, k[1:])
                return times(builder, x, self._weight(group, output, k[0], k[1:]))

            def add(x: Any, y: Any) -> Any:
                return plus(builder, x, y)

            zero = builder.const(0, self.wide)
            total = b.reduce((conv.features, *conv.kernel), term, add, zero)
            return builder.convert(total, self.out)

        cost = (self.padded.cost + self.rhs.cost + 4.0) * conv.terms
        return b.lazy(conv.shape, self.out, element, cost)

    def _by_rows(self) -> Any:
        """For each window a row of output features: a contraction that reads windows in place."""
        conv, rank = self.conv, len(self.conv.kernel)

        def patch(index: tuple[Any, ...]) -> Any:
            group, batch, *rest = index
            return self.read(group, batch, rest[rank], rest[:rank], rest[rank + 1 :])

        def weight(index: tuple[Any, ...]) -> Any:
            return self._weight(index[0], index[1], index[2], index[3:])

        shape = (conv.groups, conv.batch, *conv.places, conv.features, *conv.kernel)
        patches = self.b.lazy(shape, self.wide, patch, self.padded.cost, moves=True)
        weights = self.b.lazy(
            (conv.groups, conv.outputs, conv.features, *conv.kernel),
            self.wide,
            weight,
            self.rhs.cost,
            moves=True,
        )
        of_patches = Axes((0,), tuple(range(1, rank + 2)), tuple(range(rank + 2, 2 * rank + 3)))
        of_weights = Axes((0,), (1,), tuple(range(2, rank + 3)))
        product = lower_dot(self.b, patches, weights, of_patches, of_weights, self.out, self.wide)

        def element(batch: Any, group: Any, output: Any, place: Sequence[Any]) -> Any:
            return product.at((group, batch, *place, output))

        return self.arranged(element, product.cost)

    def arranged(self, element: Callable[..., Any], cost: float) -> Any:
        """The result, given `element(batch, group, output, place)`."""
        builder, conv = self.builder, self.conv

        def at(index: tuple[Any, ...]) -> Any:
            batch, joint, *place = [index[axis] for axis in conv.numbers.out_spec]
            group, output = ix.delinear(builder, joint, (conv.groups, conv.outputs))
            return element(batch, group, output, place)

        return self.b.lazy(conv.shape, self.out, at, cost, moves=cost == 0)


class _Blocks(NamedTuple):
    """How the columns of a matrix of patches are cut.

    Attributes:
        around: extents of the leading axes, of which the last is cut; none if nothing is.
        rows: extents of the blocks along that axis: of the whole ones, and of what remains.
        together: how many columns there are for each index along it.
        inside: extents of the other axes.
    """

    around: tuple[int, ...]
    rows: tuple[int, ...]
    together: int
    inside: tuple[int, ...]


class _Block(NamedTuple):
    """One block of columns.

    Attributes:
        first: where it begins along the leading axes of the columns.
        extents: of the last of these, and of the other axes.
        start: its first column.
        size: how many columns it has.
    """

    first: tuple[Any, ...]
    extents: tuple[int, ...]
    start: Any
    size: int

    def place(self, builder: Any, column: Sequence[Any]) -> list[Any]:
        """The index along the axes of the columns of one in the block."""
        if not self.first:
            return list(column)
        row = ix.add(builder, self.first[-1], column[0])
        return [*self.first[:-1], row, *column[1:]]

    def position(self, builder: Any, column: Sequence[Any]) -> Any:
        """The number of a column in the block."""
        return ix.linear(builder, column, self.extents)


class _Patches:
    """A convolution by BLAS: windows copied into the columns of a matrix, block by block.

    The result has its axes in the order (output features, batch, places) or (batch, output
    features, places) or (batch, places, output features), whichever is wanted.
    """

    def __init__(self, of: _Lowering) -> None:
        self.of = of
        self.b = of.b
        self.builder = of.builder
        conv = self.conv = of.conv
        batch_axis, output_axis = conv.numbers.out_spec[:2]
        self.outputs_last = output_axis == len(conv.numbers.out_spec) - 1
        self.outputs_first = output_axis < batch_axis and not self.outputs_last
        self.pointwise = self._is_pointwise()
        # One product of matrices may have columns of the whole batch where these are neighbours.
        self.joint = (self.outputs_first or self.outputs_last) and not self.pointwise
        self.columns = (conv.batch, *conv.places) if self.joint else tuple(conv.places)
        inner = (*conv.kernel, conv.features), (conv.features, *conv.kernel)
        self.inner = inner[0] if of.channels_last else inner[1]

    def _is_pointwise(self) -> bool:
        """Whether the windows are single elements, so that lhs is the matrix of patches."""
        conv = self.conv
        return (
            prod(conv.kernel) == 1 and conv.padded == conv.places and type(self.of.padded) is Stored
        )

    def result(self) -> Any:
        """The convolution."""
        conv, of = self.conv, self.of
        total = conv.groups * conv.outputs
        if self.outputs_last:
            shape = (conv.batch, *conv.places, total)
        elif self.outputs_first:
            shape = (total, conv.batch, *conv.places)
        else:
            shape = (conv.batch, total, *conv.places)
        spec = conv.numbers.out_spec
        order = (spec[1], spec[0], *spec[2:]) if self.outputs_first else spec
        order = (spec[0], *spec[2:], spec[1]) if self.outputs_last else order
        in_place = order == tuple(range(len(spec))) and of.out == of.wide
        target = self.b.new(shape, of.wide)
        self._fill(target)
        if in_place:
            return target

        def element(index: tuple[Any, ...]) -> Any:
            value = target.at(tuple([index[axis] for axis in order]))
            return self.builder.convert(value, of.out)

        return self.b.lazy(conv.shape, of.out, element, 0.0, moves=True)

    # --- matrices ---------------------------------------------------------------------------------

    def _weights(self) -> tuple[Stored, bool]:
        """The kernel as (outputs, inner), or as (inner, outputs) if that is how it is laid out."""
        output, feature, *kernel = self.conv.numbers.rhs_spec
        inner = (*kernel, feature) if self.of.channels_last else (feature, *kernel)
        last = output == len(kernel) + 1
        order = (*inner, output) if last else (output, *inner)
        return self.b.stored(self.of._ordered(self.of.rhs, order)), last

    def _fill(self, target: Stored) -> None:
        conv, builder = self.conv, self.builder
        weights, weights_last = self._weights()
        blocks = self._blocks()
        across = self._copies_windows()

        def multiply(group: Any, batch: Any, block: _Block) -> None:
            if self.pointwise:
                matrix = self._in_place(group, batch, block.start)
            else:
                patches = self.b.new((block.size, conv.terms), self.of.wide)
                self._copy(patches, group, batch, block, across)
                matrix = Factor(patches.buffer, 0, conv.terms if across else block.size, across)
            offset = ix.mul(builder, group, conv.outputs * (1 if weights_last else conv.terms))
            leading = conv.groups * conv.outputs if weights_last else conv.terms
            kernel = Factor(weights.buffer, offset, leading, weights_last)
            whole = block.size == prod(self.columns)
            self._gemm(
                kernel, matrix, self._target(target, group, batch, block.start), block.size, whole
            )

        def of_group(group: Any) -> None:
            def of_element(batch: Any) -> None:
                self._each_block(blocks, (), lambda block: multiply(group, batch, block))

            if self.joint:
                of_element(0)
            else:
                builder.loop(0, conv.batch, of_element, kind="parallel")

        builder.loop(0, conv.groups, of_group, kind="parallel")

    def _copies_windows(self) -> bool:
        """Whether patches are copied window by window, or else places of all windows one by one.

        What is copied at once should be long.
        """
        conv = self.conv
        if self.of.channels_last:
            return True
        return bool(conv.kernel) and conv.kernel[-1] > conv.places[-1]

    def _blocks(self) -> _Blocks:
        """How the columns are cut into blocks for one call of BLAS each."""
        limit = max(PATCH_BYTES // (self.conv.terms * self.of.wide.itemsize), LEAST_COLUMNS)
        together, axis = 1, len(self.columns)
        while axis > 0 and (self.pointwise or together * self.columns[axis - 1] <= limit):
            axis -= 1
            together *= self.columns[axis]
        if axis == 0:
            return _Blocks((), (1,), together, self.columns)
        extent = self.columns[axis - 1]
        count = -(-extent // max(limit // together, 1))
        rows = -(-extent // count)
        sizes = (rows,) if extent % rows == 0 else (rows, extent % rows)
        return _Blocks(self.columns[:axis], sizes, together, self.columns[axis:])

    def _each_block(
        self, blocks: _Blocks, outer: tuple[Any, ...], body: Callable[[_Block], None]
    ) -> None:
        """Runs `body` for each block, in loops over the axes that blocks are cut along."""
        builder, depth = self.builder, len(outer)
        if depth + 1 < len(blocks.around):

            def step(i: Any) -> None:
                self._each_block(blocks, (*outer, i), body)

            builder.loop(0, blocks.around[depth], step, kind="parallel")
            return
        if not blocks.around:
            body(_Block((), blocks.inside, 0, blocks.together))
            return
        extent = blocks.around[-1]
        rest = (0,) * len(blocks.inside)

        def of_rows(first: Any, rows: int) -> None:
            start = ix.linear(builder, (*outer, first, *rest), self.columns)
            extents = (rows, *blocks.inside)
            body(_Block((*outer, first), extents, start, rows * blocks.together))

        rows = blocks.rows[0]
        whole = extent - extent % rows

        def whole_rows(number: Any) -> None:
            of_rows(ix.mul(builder, number, rows), rows)

        builder.loop(0, whole // rows, whole_rows, kind="parallel")
        if whole < extent:
            of_rows(whole, extent - whole)

    def _in_place(self, group: Any, batch: Any, start: Any) -> Factor:
        """Where the patches of a block are in lhs, of which they are single elements."""
        builder, conv, of = self.builder, self.conv, self.of
        places = prod(conv.places)
        total = of.padded.shape[-1 if of.channels_last else 1]
        if conv.by_batch:
            batch = ix.add(builder, ix.mul(builder, group, conv.batch), batch)
            feature: Any = 0
        else:
            feature = ix.mul(builder, group, conv.features)
        offset = ix.mul(builder, batch, total * places)
        if of.channels_last:
            offset = ix.add(builder, offset, ix.mul(builder, start, total))
            offset = ix.add(builder, offset, feature)
            return Factor(of.padded.buffer, offset, total, True)
        offset = ix.add(builder, offset, ix.mul(builder, feature, places))
        offset = ix.add(builder, offset, start)
        return Factor(of.padded.buffer, offset, places)

    def _copy(self, patches: Stored, group: Any, batch: Any, block: _Block, across: bool) -> None:
        """Fills the matrix of patches of one block."""
        builder, of, terms = self.builder, self.of, self.conv.terms

        def store(index: tuple[Any, ...]) -> None:
            if across:
                column, k = index[: len(block.extents)], index[len(block.extents) :]
            else:
                k, column = index[: len(self.inner)], index[len(self.inner) :]
            place = block.place(builder, column)
            of_batch = place.pop(0) if self.joint else batch
            feature, inside = (k[-1], k[:-1]) if of.channels_last else (k[0], k[1:])
            value = of.read(group, of_batch, feature, place, inside)
            row, position = ix.linear(builder, k, self.inner), block.position(builder, column)
            at, width = ((position, row), terms) if across else ((row, position), block.size)
            builder.store_at(patches.buffer, ix.linear(builder, at, (0, width)), value)

        order = (*block.extents, *self.inner) if across else (*self.inner, *block.extents)
        self.b.for_each(order, store, independent=True)

    def _target(self, target: Stored, group: Any, batch: Any, start: Any) -> Factor:
        """Where the block of the result is."""
        builder, conv = self.builder, self.conv
        count = prod(conv.places)
        total = conv.groups * conv.outputs
        row = ix.mul(builder, group, conv.outputs)
        if self.outputs_last:
            column = ix.add(builder, ix.mul(builder, batch, count), start)
            offset = ix.add(builder, ix.mul(builder, column, total), row)
            return Factor(target.buffer, offset, total)
        if self.outputs_first:
            leading = conv.batch * count
            column = ix.add(builder, ix.mul(builder, batch, count), start)
        else:
            leading = count
            row = ix.add(builder, ix.mul(builder, batch, total), row)
            column = start
        offset = ix.add(builder, ix.mul(builder, row, leading), column)
        return Factor(target.buffer, offset, leading)

    def _gemm(self, kernel: Factor, matrix: Factor, target: Factor, size: int, whole: bool) -> None:
        """The kernel (outputs, inner) times the patches (inner, columns), or all transposed.

        Threads share the product if it is the whole one, or else the blocks.
        """
        conv = self.conv
        rows, columns = conv.outputs, size
        left, right = kernel, matrix
        if self.outputs_last:
            rows, columns = columns, rows
            left, right = (f._replace(transposed=not f.transposed) for f in (matrix, kernel))
        site = self.b.site("BLAS could not multiply the matrices of a convolution")
        sizes, factors = (rows, columns, conv.terms), (left, right, target)
        sides = None if whole else sizes
        multiply(self.b, self.of.wide, sizes, factors, site, sides)
