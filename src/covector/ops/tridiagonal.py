"""Systems of equations with tridiagonal matrices.

Names, parameters and meanings are those of JAX's linear algebra primitives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval, Zero
from covector.core.trace import aval_of
from covector.loopir.ir import ComplexValue
from covector.loopir.tensor import Lowering
from covector.ops import common
from covector.ops import indices as ix
from covector.ops import matrices as mx
from covector.ops.arithmetic import add, mul, neg
from covector.ops.common import batch_at_front, move_axis
from covector.ops.matrix_primitives import (
    LANES,
    SUFFIX,
    check_batches,
    each_matrix,
    is_empty,
    library,
    matrix_primitive,
    nan_of,
    scratch,
)
from covector.ops.shape import pad, reshape
from covector.ops.windows import as_value, static_size

Array = np.ndarray[Any, Any]


def _shape(dl: Aval, d: Aval, du: Aval, b: Aval, *, perturb_singular: bool) -> Aval:
    if perturb_singular:
        raise NotImplementedError(
            "tridiagonal_solve: perturb_singular=True is not supported; "
            "add a small number to the diagonal"
        )
    if b.dtype not in SUFFIX or any(a.dtype != b.dtype for a in (dl, d, du)):
        found = ", ".join(map(str, (dl, d, du, b)))
        raise TypeError(
            f"tridiagonal_solve takes operands of one dtype of {', '.join(SUFFIX.values())}, "
            f"got {found}"
        )
    if any(a.ndim < 1 for a in (dl, d, du)) or b.ndim < 2:
        raise TypeError(f"tridiagonal_solve takes vectors and matrices, got {dl}, {d}, {du}, {b}")
    check_batches("tridiagonal_solve", (dl, d, du, b), (1, 1, 1, 2))
    if any(a.shape[-1] != b.shape[-2] for a in (dl, d, du)):
        raise TypeError(
            "tridiagonal_solve takes a right-hand side with as many rows as the diagonals have "
            f"elements, got {d} and {b}"
        )
    return b.strong()


def _evaluate(dl: Array, d: Array, du: Array, b: Array, *, perturb_singular: bool) -> Any:
    if b.size == 0:
        return b.copy()
    solve = library("gtsv", b)

    def one(low: Array, middle: Array, high: Array, rhs: Array) -> list[Array]:
        if len(middle) == 1:
            found, info = rhs / middle[:, None], int(middle[0] == 0)
        else:
            *_, found, info = solve(low[1:], middle, high[:-1], rhs)
        return [found if info == 0 else np.full_like(rhs, nan_of(rhs.dtype))]

    return each_matrix(one, [dl, d, du, b], [1, 1, 1, 2], [(b.shape[-2:], b.dtype)])[0]


# --- derivatives and batching --------------------------------------------------------------------


def _shifted(x: Any, down: bool) -> Any:
    """Vectors (or rows of matrices, along the last axis but one) moved by one, a zero moved in."""
    axis = len(mx.shape_of(x)) - 1
    config = [(0, 0, 0)] * axis + [(1, -1, 0) if down else (-1, 1, 0)]
    return pad(x, mx.scalar(x.dtype, 0), padding_config=tuple(config))


def _product(dl: Any, d: Any, du: Any, x: Any) -> Any:
    """The tridiagonal matrix times `x`."""
    above = mx.transposed(_shifted(mx.transposed(x), True))
    below = mx.transposed(_shifted(mx.transposed(x), False))
    terms = [mul(mx.on_columns(v, x), y) for v, y in ((dl, above), (d, x), (du, below))]
    return add(add(terms[0], terms[1]), terms[2])


def _jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    *diagonals, _ = primals
    out = tridiagonal_solve(*primals, **params)
    change = tangents[3]
    if any(type(t) is not Zero for t in tangents[:3]):
        low, middle, high = [common.instantiate(t) for t in tangents[:3]]
        moved = _product(low, middle, high, out)
        change = common.add_tangents(change, neg(moved))
    if type(change) is Zero:
        return out, Zero(aval_of(out).tangent())
    return out, tridiagonal_solve(*diagonals, change, **params)


def _transpose(ctx: Any, ct: Any, dl: Any, d: Any, du: Any, b: Any, **params: Any) -> list[Any]:
    lower, upper = _shifted(du, True), _shifted(dl, False)
    return [None, None, None, tridiagonal_solve(lower, d, upper, ct, **params)]


def _batch(ctx: Any, args: Any, dims: Any, **params: Any) -> Any:
    if any(d is not None for d in dims[:3]):
        fronted = [batch_at_front(x, d, ctx.axis_size) for x, d in zip(args, dims, strict=True)]
        return tridiagonal_solve(*fronted, **params), 0
    # One matrix for all examples: more columns of one right-hand side.
    axis = len(mx.shape_of(args[3])) - 1
    b = move_axis(args[3], dims[3], axis)
    shape = mx.shape_of(b)
    merged = reshape(b, new_sizes=(*shape[:-2], shape[-2] * shape[-1]), dimensions=None)
    out = tridiagonal_solve(*args[:3], merged, **params)
    return reshape(out, new_sizes=shape, dimensions=None), axis


# --- lowering ------------------------------------------------------------------------------------


def _lower(b: Lowering, dl: Any, d: Any, du: Any, rhs: Any, *, perturb_singular: bool) -> Any:
    if is_empty(rhs.shape):
        return rhs
    out = b.new(rhs.shape, rhs.dtype)
    tensors = [b.stored(t) if t.cost > 0 else t for t in (dl, d, du, rhs)]
    _Systems(b, tensors, out).solve()
    return out


class _Systems:
    """Gaussian elimination for `LANES` systems at a time, one in each lane of a vector.

    A column of the right-hand side is a system. Rows are exchanged by choice, so that no lane
    branches; the matrix becomes upper triangular with two diagonals above the main one.
    """

    def __init__(self, b: Lowering, tensors: Sequence[Any], out: Any) -> None:
        self.b = b
        self.builder = b.builder
        self.tensors = tensors
        self.out = out
        *batch, self.rows, columns = out.shape
        self.systems = (*batch, columns)
        total = static_size(self.systems)
        self.lanes = LANES if total is None else min(total, LANES)
        shape, dtype = (self.rows, self.lanes), out.dtype
        # Pivots, the two diagonals above, the diagonal below, right-hand sides and solutions.
        names = ("pivot", "next", "second", "below", "rhs")
        self.local = {name: scratch(b, shape, dtype) for name in names}
        self.failed = scratch(b, (self.lanes,), dtypes.bool_)

    def solve(self) -> None:
        builder = self.builder
        total = ix.product(builder, self.systems)
        blocks = ix.div(builder, ix.add(builder, total, self.lanes - 1), self.lanes)

        def run(block: Any) -> None:
            first = builder.op("mul", as_value(builder, block), self.lanes)
            left = builder.op("sub", as_value(builder, total), first)
            count = builder.op("min", left, self.lanes)
            builder.loop(0, count, partial(self._load, first))
            self._for_lanes(self._begin)
            builder.loop(1, self.rows, partial(self._for_lanes, self._eliminate))
            self._for_lanes(self._finish)
            builder.loop(0, self.rows, partial(self._for_lanes, self._substitute))
            builder.loop(0, count, partial(self._store, first))

        builder.loop(0, blocks, run)

    def _for_lanes(self, step: Callable[..., None], *args: Any) -> None:
        def run(lane: Any) -> None:
            step(lane, *args)

        self.builder.loop(0, self.lanes, run, kind="simd")

    def _index(self, first: Any, lane: Any) -> tuple[tuple[Any, ...], Any]:
        place = self.builder.op("add", first, as_value(self.builder, lane))
        *batch, column = ix.delinear(self.builder, place, self.systems)
        return tuple(batch), column

    def _get(self, name: str, i: Any, lane: Any) -> Any:
        return self.local[name].at((i, lane))

    def _set(self, name: str, i: Any, lane: Any, value: Any) -> None:
        self.builder.store(self.local[name].buffer, (i, lane), value)

    def _load(self, first: Any, lane: Any) -> None:
        batch, column = self._index(first, lane)

        def row(i: Any) -> None:
            for name, tensor in zip(("below", "pivot", "next"), self.tensors, strict=False):
                self._set(name, i, lane, tensor.at((*batch, i)))
            self._set("rhs", i, lane, self.tensors[3].at((*batch, i, column)))

        self.builder.loop(0, self.rows, row)

    def _begin(self, lane: Any) -> None:
        zero = self.builder.const(0, self.out.dtype)
        self.builder.store(self.failed.buffer, (lane,), self.builder.const(False, dtypes.bool_))
        self._set("next", self.rows - 1, lane, zero)

    def _eliminate(self, lane: Any, i: Any) -> None:
        """Removes the entry below the diagonal in row `i`, perhaps after an exchange of rows."""
        builder, zero = self.builder, self.builder.const(0, self.out.dtype)
        before = ix.sub(builder, i, 1)
        mine = [self._get(name, before, lane) for name in ("pivot", "next", "rhs")]
        theirs = [self._get(name, i, lane) for name in ("below", "pivot", "rhs")]
        further = self._get("next", i, lane)
        swap = builder.op("gt", _size(builder, theirs[0]), _size(builder, mine[0]))
        upper = [builder.select(swap, y, x) for x, y in zip(mine, theirs, strict=True)]
        lower = [builder.select(swap, x, y) for x, y in zip(mine, theirs, strict=True)]
        second = builder.select(swap, further, zero)
        factor = builder.op("div", lower[0], upper[0])
        for name, value in zip(("pivot", "next", "rhs"), upper, strict=True):
            self._set(name, before, lane, value)
        self._set("second", before, lane, second)
        rest = builder.select(swap, zero, further)
        for name, x, y in (
            ("pivot", lower[1], upper[1]),
            ("rhs", lower[2], upper[2]),
            ("next", rest, second),
        ):
            self._set(name, i, lane, builder.op("sub", x, builder.op("mul", factor, y)))
        self._note(lane, upper[0])

    def _note(self, lane: Any, pivot: Any) -> None:
        """Remembers that a system has no unique solution."""
        singular = self.builder.op("eq", pivot, self.builder.const(0, pivot.dtype))
        failed = self.builder.op("or", self.failed.at((lane,)), singular)
        self.builder.store(self.failed.buffer, (lane,), failed)

    def _finish(self, lane: Any) -> None:
        zero = self.builder.const(0, self.out.dtype)
        last = self.rows - 1
        self._note(lane, self._get("pivot", last, lane))
        self._set("next", last, lane, zero)
        self._set("second", last, lane, zero)

    def _substitute(self, lane: Any, k: Any) -> None:
        """Solves for the row that is `k` rows above the last one."""
        builder = self.builder
        i = ix.sub(builder, self.rows - 1, k)
        rest = self._get("rhs", i, lane)
        # Beyond the end, the factors are zero and the rows read are others'.
        for distance, name in ((1, "next"), (2, "second")):
            j = builder.op("min", as_value(builder, ix.add(builder, i, distance)), self.rows - 1)
            known = builder.select(
                builder.op("eq", self._get(name, i, lane), builder.const(0, rest.dtype)),
                builder.const(0, rest.dtype),
                self._get("rhs", j, lane),
            )
            part = builder.op("mul", self._get(name, i, lane), known)
            rest = builder.op("sub", rest, part)
        self._set("rhs", i, lane, builder.op("div", rest, self._get("pivot", i, lane)))

    def _store(self, first: Any, lane: Any) -> None:
        batch, column = self._index(first, lane)
        builder = self.builder
        failed = self.failed.at((lane,))
        nan = builder.const(nan_of(self.out.dtype), self.out.dtype)

        def row(i: Any) -> None:
            value = builder.select(failed, nan, self._get("rhs", i, lane))
            builder.store(self.out.buffer, (*batch, i, column), value)

        builder.loop(0, self.rows, row)


def _size(builder: Any, x: Any) -> Any:
    """What pivots are compared by."""
    if type(x) is ComplexValue:
        return builder.op("add", builder.op("abs", x.re), builder.op("abs", x.im))
    return builder.op("abs", x)


tridiagonal_solve = matrix_primitive(
    "tridiagonal_solve",
    cores=(1, 1, 1, 2),
    shape=_shape,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    lower=_lower,
)
"""The X with A X = b, A given by the diagonals below, on and above its main one.

The first element of the diagonal below and the last one of that above are not read. NaN where A is
singular.
"""
