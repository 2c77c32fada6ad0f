"""Loop nests and reductions of the schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.compiler import parallel
from covector.compiler.jam import jam_last
from covector.compiler.strides import (
    has_simd_loop,
    reads_apart,
    reads_contiguously,
    reads_records,
)
from covector.core.config import config
from covector.loopir.builder import Builder
from covector.loopir.fusion import fuse_last
from covector.loopir.ir import PARALLEL, SERIAL, SIMD, For
from covector.loopir.ranges import split_last
from covector.loopir.tensor import Index, Scalar
from covector.loopir.unrolling import unroll_last
from covector.ops import indices as ix
from covector.ops.windows import static_size

SMALL_IN_LOOP = 32
"""Elements up to which an array inside a loop lives in registers."""
SMALL_APART = 4
"""The same where most arrays are long, so that what short ones do need not become longer code."""
UNROLLED_REDUCTION = 16
"""Steps up to which a reduction is unrolled; inside register arrays `SMALL_IN_LOOP` applies."""
UNROLLED = 1024.0
"""Operations of a small array beyond which it is computed by a loop, into memory."""
REDUCTION_BLOCK = 4096
"""Elements that a long reduction combines before it adds to its total."""


class Nests:
    """Builds loops over the elements of arrays.

    Attributes:
        builder: where the loop IR goes.
        body_depth: in how many loops of the program the equations being lowered stand: there,
            small arrays are in registers.
    """

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.body_depth = 0

    @property
    def small(self) -> int:
        """Elements up to which an array made here lives in registers."""
        if not self.builder.depth:
            return 1
        return SMALL_IN_LOOP if self.builder.apart is None else SMALL_APART

    def flush(self) -> None:
        """Emits what waits to be stored."""

    def is_unrolled(self, size: int | None, cost: float) -> bool:
        """Whether elements are computed one after the other, without a loop.

        Args:
            size: their number, None if known only at run time.
            cost: operations of each.
        """
        return size is not None and size <= self.small and size * cost <= UNROLLED

    def for_each(
        self,
        shape: Sequence[Any],
        body: Callable[[Index], None],
        independent: bool = False,
        cost: float = 1.0,
    ) -> None:
        """Runs `body` at each index.

        Args:
            shape: extents; few static ones are unrolled, others become a loop nest.
            body: given the index.
            independent: no two indices touch the same memory, so that they may run in any order.
            cost: operations of `body`, as far as is known; what is long is not unrolled.
        """
        self.flush()
        if self.is_unrolled(static_size(shape), cost):
            for index in np.ndindex(*shape):
                body(index)
            return
        self._nest(tuple(shape), (), body, SIMD if independent else SERIAL)
        fuse_last(self.builder)
        jam_last(self.builder)

    def for_each_apart(self, shape: Sequence[Any], body: Callable[[Index], None]) -> None:
        """Runs `body` at each index, which different threads may do at the same time.

        Args:
            shape: extents.
            body: given the index; it may call libraries. No two touch the same memory.
        """
        self.flush()
        if static_size(shape) == 1:
            body((0,) * len(shape))
            return

        def run(number: Any) -> None:
            body(tuple(ix.delinear(self.builder, number, shape)))

        self.builder.loop(0, ix.product(self.builder, shape), run, kind=PARALLEL)

    def _nest(self, shape: Index, index: Index, body: Callable[[Index], None], kind: str) -> None:
        if not shape:
            body(index)
            return
        rest = shape[1:]

        def step(i: Any) -> None:
            self._nest(rest, (*index, i), body, kind)

        if shape[0] == 1:
            self._nest(rest, (*index, 0), body, kind)
        else:
            innermost = all([type(extent) is int and extent == 1 for extent in rest])
            self.builder.loop(
                0,
                shape[0],
                step,
                kind=kind if innermost else SERIAL,
                independent=kind == SIMD,
            )
            self._prefer_inner_lanes()
            if "ranges" not in config.disable:
                split_last(self.builder)
            self._unroll_fields(index)
            if index:
                jam_last(self.builder)

    def _unroll_fields(self, around: Index) -> None:
        """Unrolls the loop just built, unless it is the outermost, if it goes through fields."""
        loop = self.builder.block.last
        if around and isinstance(loop, For) and reads_records(loop):
            unroll_last(self.builder)

    def _prefer_inner_lanes(self) -> None:
        """A loop around one that runs in lanes does not run in lanes itself."""
        loop = self.builder.block.last
        if isinstance(loop, For) and loop.kind == SIMD and has_simd_loop(loop.body):
            loop.kind = SERIAL

    def reduce(
        self,
        extents: Sequence[Any],
        element: Callable[[Index], Scalar],
        combine: Callable[[Scalar, Scalar], Scalar],
        init: Scalar,
    ) -> Scalar:
        """Combines the elements at every index.

        Args:
            extents: of the axes reduced.
            element: the element at an index.
            combine: of two elements; associative.
            init: the neutral element, to start from.

        Returns:
            The combination, made in any order.
        """
        size = static_size(extents)
        limit = SMALL_IN_LOOP if self.builder.depth else UNROLLED_REDUCTION
        if size is not None and UNROLLED_REDUCTION < size <= limit:
            total = self._reduce_rolled(extents, element, combine, init)
            if total is not None:
                return total
        if size is not None and size <= limit:
            total = init
            for index in np.ndindex(*extents):
                total = combine(total, element(index))
            return total
        if size is not None and size >= parallel.LONG_REDUCTION and not self.builder.shared:
            return self._reduce_shared(tuple(extents), (), element, combine, (init, init))
        return self._reduce_nest(tuple(extents), (), element, combine, (init, init))

    def _reduce_rolled(
        self,
        extents: Sequence[Any],
        element: Callable[[Index], Scalar],
        combine: Callable[[Scalar, Scalar], Scalar],
        init: Scalar,
    ) -> Scalar | None:
        """A short reduction of what is in memory as a loop, which is less code and runs in lanes.

        `None` where it had better be unrolled: inside of the program's loops arrays as short are in
        registers. Where some reads are of neighbours and others far apart, the loop around this one
        is better in lanes.
        """
        axis = max(range(len(extents)), key=lambda k: extents[k])
        if "rolled_reductions" in config.disable or self.body_depth:
            return None
        if static_size(extents) != extents[axis]:
            return None
        place: list[Any] = [0] * len(extents)

        def step(i: Any, total: Scalar) -> list[Scalar]:
            place[axis] = i
            return [combine(total, element(tuple(place)))]

        total = self.builder.loop(0, extents[axis], step, [init])[0]
        loop = self.builder.block.last
        if not isinstance(loop, For) or has_simd_loop(loop.body):
            return total
        if reads_contiguously(loop) and not reads_apart(loop):
            loop.kind = SIMD
        fuse_last(self.builder)
        return total

    def _reduce_shared(
        self,
        extents: Index,
        index: Index,
        element: Callable[[Index], Scalar],
        combine: Callable[[Scalar, Scalar], Scalar],
        start: tuple[Scalar, Scalar],
    ) -> Scalar:
        """A reduction whose blocks threads may combine: first each block, then their results."""
        carry, neutral = start
        builder, rest = self.builder, extents[1:]
        if rest and extents[0] < parallel.MANY:

            def outer(i: Any, total: Scalar) -> list[Scalar]:
                along = (total, neutral)
                return [self._reduce_shared(rest, (*index, i), element, combine, along)]

            return builder.loop(0, extents[0], outer, [carry])[0]
        size = max(1, REDUCTION_BLOCK // (static_size(rest) or 1))
        count = -(-extents[0] // size)
        results = builder.buffer(neutral.dtype, (count,))

        def block(k: Any) -> None:
            low = builder.op("mul", k, builder.index(size))
            high = builder.op("add", low, builder.index(size))
            if extents[0] % size:
                high = builder.op("min", high, builder.index(extents[0]))

            def step(i: Any, total: Scalar) -> list[Scalar]:
                return [self._reduce_nest(rest, (*index, i), element, combine, (total, neutral))]

            builder.store(results, (k,), self._reduction_loop(low, high, step, neutral))

        builder.loop(0, count, block, kind=PARALLEL)

        def part(i: Index) -> Scalar:
            return builder.load(results, *i)

        return self._reduce_nest((count,), (), part, combine, (carry, neutral))

    def _reduce_nest(
        self,
        extents: Index,
        index: Index,
        element: Callable[[Index], Scalar],
        combine: Callable[[Scalar, Scalar], Scalar],
        start: tuple[Scalar, Scalar],
    ) -> Scalar:
        """One loop of a reduction; `start` is the total so far and the neutral element."""
        carry, neutral = start
        if not extents:
            return combine(carry, element(index))
        rest = extents[1:]
        if not rest and (type(extents[0]) is not int or extents[0] > REDUCTION_BLOCK):
            return self._reduce_blocks(extents[0], index, element, combine, start)

        def step(i: Any, total: Scalar) -> list[Scalar]:
            return [self._reduce_nest(rest, (*index, i), element, combine, (total, neutral))]

        return self._reduction_loop(0, extents[0], step, carry)

    def _reduce_blocks(
        self,
        extent: Any,
        index: Index,
        element: Callable[[Index], Scalar],
        combine: Callable[[Scalar, Scalar], Scalar],
        start: tuple[Scalar, Scalar],
    ) -> Scalar:
        """A long reduction as one of blocks, so that rounding errors do not grow with length."""
        carry, neutral = start
        op, index_of = self.builder.op, self.builder.index
        last = index_of(extent) if type(extent) is int else extent
        blocks = self.builder.quotient(extent, REDUCTION_BLOCK)

        def block(k: Any, total: Scalar) -> list[Scalar]:
            low = op("mul", k, index_of(REDUCTION_BLOCK))
            high = op("min", op("add", low, index_of(REDUCTION_BLOCK)), last)

            def step(i: Any, partial: Scalar) -> list[Scalar]:
                return [combine(partial, element((*index, i)))]

            return [combine(total, self._reduction_loop(low, high, step, neutral))]

        return self.builder.loop(0, blocks, block, [carry])[0]

    def _reduction_loop(
        self, low: Any, high: Any, step: Callable[..., list[Scalar]], carry: Scalar
    ) -> Scalar:
        """A loop that combines in any order, in lanes where it reads neighbours."""
        total = self.builder.loop(low, high, step, [carry])[0]
        loop = self.builder.block.last
        if isinstance(loop, For) and reads_contiguously(loop) and not has_simd_loop(loop.body):
            loop.kind = SIMD
        fuse_last(self.builder)
        return total
