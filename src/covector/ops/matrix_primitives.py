"""The factory of matrix primitives, and how they are evaluated and compiled over batches."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.config import config
from covector.core.primitive import Primitive, Rule, unsupported
from covector.loopir.tensor import Lowering
from covector.ops import indices as ix
from covector.ops.axes import reshape
from covector.ops.common import Inseparable, batch_at_front, move_axis
from covector.ops.windows import as_value, static_size

Array = np.ndarray[Any, Any]

SUFFIX = {
    dtypes.float32: "f32",
    dtypes.float64: "f64",
    dtypes.complex64: "c64",
    dtypes.complex128: "c128",
}
"""The dtypes of matrices, and what shims of BLAS and LAPACK call them."""

SMALL = 8
"""Matrices of at most so many rows and columns are factorised by code spelled out for them."""


def is_small(n: int) -> bool:
    """Whether matrices of so many rows and columns are factorised by code spelled out for them."""
    return n <= SMALL and "small_linalg" not in config.disable


def nan_of(dtype: Any) -> complex:
    """What stands for results that do not exist."""
    return complex(np.nan, np.nan) if dtypes.is_complex(dtype) else np.nan


LANES = 16
"""How many small matrices are factorised at once, one in each lane of a vector."""

NOT_LINEAR = "it is not a linear function of its operands"


def check_matrices(name: str, *avals: Aval, square: bool = False) -> Any:
    """The dtype of operands that are matrices, or batches of them.

    Raises:
        TypeError: for dtypes that have no linear algebra, or operands of several dtypes.
        ValueError: for operands that are no matrices, or no square ones where these are needed.
    """
    dtype = avals[0].dtype
    if dtype not in SUFFIX:
        accepted = ", ".join(SUFFIX.values())
        raise TypeError(f"{name} takes matrices of dtype {accepted}, got {avals[0]}")
    if any(a.dtype != dtype for a in avals):
        found = ", ".join(map(str, avals))
        raise TypeError(f"{name} takes operands of equal dtype, got {found}")
    for aval in avals:
        if aval.ndim < 2:
            raise ValueError(f"{name} takes matrices (arrays of two or more axes), got {aval}")
    if square and avals[0].shape[-1] != avals[0].shape[-2]:
        raise ValueError(f"{name} takes square matrices, got {avals[0]}")
    return dtype


def check_batches(name: str, avals: Sequence[Aval], cores: Sequence[int]) -> tuple[Any, ...]:
    """The batch axes of all operands, which must agree.

    Args:
        name: for the message.
        avals: of the operands.
        cores: how many trailing axes of each are not batch axes.

    Raises:
        TypeError: if they differ.
    """
    batches = [a.shape[: a.ndim - core] for a, core in zip(avals, cores, strict=True)]
    if any(batch != batches[0] for batch in batches):
        found = ", ".join(map(str, avals))
        raise TypeError(f"{name} takes operands with equal batch axes, got {found}")
    return batches[0]


def matrix_primitive(
    name: str,
    *,
    cores: Sequence[int],
    shape: Rule,
    evaluate: Rule,
    jvp: Rule,
    lower: Rule,
    transpose: Rule | None = None,
    batch: Rule | None = None,
    lanes: Rule | None = None,
    results: int = 1,
) -> Primitive:
    """A primitive that treats each matrix of a batch alike.

    Args:
        name: of the primitive.
        cores: how many trailing axes of each operand are not batch axes.
        shape: as in `Primitive`, like the other rules.
        evaluate: likewise.
        jvp: likewise.
        lower: likewise.
        transpose: likewise; `None` if it is not linear.
        batch: likewise; by default the batch axis becomes the first of all operands.
        lanes: likewise; by default lanes are along a batch axis.
        results: the number of results; 0 if it depends on parameters.
    """

    def batch_rule(ctx: Any, args: Any, dims: Any, **params: Any) -> Any:
        args = [batch_at_front(x, d, ctx.axis_size) for x, d in zip(args, dims, strict=True)]
        out = primitive(*args, **params)
        return (out, 0) if results == 1 else (out, [0] * len(out))

    def lanes_rule(dims: Any, *avals: Aval, **params: Any) -> Any:
        lane = _common_lane(dims, avals, cores)
        if results == 1:
            return lane
        return [lane] * len(shape(*avals, **params))

    primitive = Primitive(
        name,
        shape=shape,
        evaluate=evaluate,
        jvp=jvp,
        transpose=transpose or unsupported(NOT_LINEAR),
        batch=batch or batch_rule,
        lanes=lanes or lanes_rule,
        lower=lower,
        multiple_results=results != 1,
    )
    return primitive


def _common_lane(
    dims: Sequence[int | None], avals: Sequence[Aval], cores: Sequence[int]
) -> int | None:
    if any(d != dims[0] for d in dims):
        raise Inseparable("operands have their lanes along different axes")
    lane = dims[0]
    if lane is not None and lane >= avals[0].ndim - cores[0]:
        raise Inseparable("it mixes the rows and columns of a matrix")
    return lane


def column_lane(
    dims: Sequence[int | None], avals: Sequence[Aval], cores: Sequence[int], left_side: bool
) -> int | None:
    """The lanes rule of solutions: along a batch axis, or along right-hand sides of one matrix.

    Args:
        dims: of the operands, the right-hand sides last.
        avals: the operands.
        cores: how many trailing axes of each are not batch axes.
        left_side: whether right-hand sides are columns.
    """
    vectors = avals[-1].ndim - (1 if left_side else 2)
    if dims[-1] == vectors and all([d is None for d in dims[:-1]]):
        return vectors
    return _common_lane(dims, avals, cores)


def shared_matrix_batch(
    primitive: Primitive, args: Sequence[Any], dim: int, ctx: Any, **params: Any
) -> tuple[Any, int]:
    """The batching rule of solutions with one matrix for all examples.

    Right-hand sides of all examples become those of one system. Small matrices are repeated
    instead unless there is one right-hand side for each: it costs nothing to compute with the same
    elements again, and the examples keep an axis of their own.

    Args:
        primitive: solves.
        args: what describes the matrix, and the right-hand sides.
        dim: the batch axis of these.
        ctx: of the batching.
        **params: of the primitive; `left_side` says whether right-hand sides are columns.

    Returns:
        The solutions and their batch axis.
    """
    from covector.ops import matrices as mx

    *factored, b = args
    left_side = params.get("left_side", True)
    rank = len(mx.shape_of(b))
    n, vectors = _order(mx.shape_of(b), dim, left_side)
    if type(n) is int and n <= SMALL and vectors != 1:
        size = ctx.axis_size
        shapes = [mx.shape_of(x) for x in factored]
        factored = [
            mx.expand(x, (size, *shape), range(1, len(shape) + 1))
            for x, shape in zip(factored, shapes, strict=True)
        ]
        return primitive(*factored, batch_at_front(b, dim, size), **params), 0
    axis = rank - 1 if left_side else rank - 2
    b = move_axis(b, dim, axis)
    shape = mx.shape_of(b)
    first = axis - 1
    merged = (*shape[:first], shape[first] * shape[axis], *shape[axis + 1 :])
    out = primitive(*factored, reshape(b, new_sizes=merged, dimensions=None), **params)
    return reshape(out, new_sizes=shape, dimensions=None), axis


def _order(shape: Sequence[Any], batch: int, left_side: bool) -> tuple[Any, Any]:
    """Number of equations and of right-hand sides."""
    core = [n for axis, n in enumerate(shape) if axis != batch][-2:]
    return (core[0], core[1]) if left_side else (core[1], core[0])


# --- evaluation ----------------------------------------------------------------------------------


def library(name: str, like: Array) -> Any:
    """SciPy's wrapper of a BLAS or LAPACK function for a dtype.

    Args:
        name: without the letter for the dtype, such as "potrf".
        like: an array of the dtype.
    """
    module = scipy_linalg()
    find = module.get_blas_funcs if name == "trsm" else module.get_lapack_funcs
    return find(name, (like,))


def scipy_linalg() -> Any:
    """The module `scipy.linalg`, which takes a while to import."""
    return importlib.import_module("scipy.linalg")


def each_matrix(
    function: Callable[..., Sequence[Array]],
    operands: Sequence[Array],
    cores: Sequence[int],
    results: Sequence[tuple[Sequence[Any], Any]],
) -> list[Array]:
    """Applies a function to every matrix of a batch.

    Args:
        function: of arrays without batch axes, to arrays without batch axes.
        operands: with equal batch axes.
        cores: how many trailing axes of each operand the function gets.
        results: shape and dtype of each array that the function returns.

    Returns:
        The results of all calls, stacked.
    """
    batch = operands[0].shape[: operands[0].ndim - cores[0]]
    stacked = [np.zeros((*batch, *core), dtype) for core, dtype in results]
    for index in np.ndindex(*batch):
        found = function(*[x[index] for x in operands])
        for out, value in zip(stacked, found, strict=True):
            out[index] = value
    return stacked


# --- lowering ------------------------------------------------------------------------------------


def scratch(b: Lowering, shape: Sequence[Any], dtype: Any) -> Any:
    """A buffer that no result is wanted in."""
    from covector.loopir.tensor import Stored

    return Stored(b.builder, b.builder.buffer(dtype, shape), shape)


def elements(tensor: Any, batch: Sequence[Any]) -> Array:
    """All elements of a small matrix or vector of a batch, as loop IR scalars."""
    core = tensor.shape[len(batch) :]
    values = np.empty(core, object)
    for index in np.ndindex(*core):
        values[index] = tensor.at((*batch, *[int(i) for i in index]))
    return values


def spell_out(
    b: Lowering,
    operands: Sequence[Any],
    batch: Sequence[Any],
    results: Sequence[tuple[Sequence[int], Any]],
    compute: Callable[..., Sequence[Array]],
) -> list[Any]:
    """Tensors of small matrices computed by straight-line code.

    Args:
        b: the lowering.
        operands: tensors of small matrices or vectors, with equal batch axes.
        batch: extents of the batch axes; without any the results stay in registers.
        results: shape and dtype of each result, without batch axes.
        compute: from the elements of each operand to those of each result.
    """
    if not batch:
        values = compute(*[elements(t, ()) for t in operands])
        return [b.registers(v, dtype) for v, (_, dtype) in zip(values, results, strict=True)]
    outs: list[Any] = []
    for k, (core, dtype) in enumerate(results):
        outs.append(b.new((*batch, *core), dtype, k))
    operands = [b.stored(t) if t.cost > 0 else t for t in operands]
    size = static_size(batch)
    if size is not None and size < LANES:

        def one(index: tuple[Any, ...]) -> None:
            values = compute(*[elements(t, index) for t in operands])
            for out, array in zip(outs, values, strict=True):
                _store_elements(b, out, index, array)

        b.for_each(batch, one)
    else:
        _in_lanes(b, operands, batch, outs, compute)
    return outs


def substitute(
    b: Lowering,
    matrix: Sequence[Any],
    rhs: Any,
    prepare: Callable[..., Callable[[Any], Array]],
    left_side: bool = True,
) -> Any:
    """For each column (or row) of right-hand sides, a solution spelled out.

    Args:
        b: the lowering.
        matrix: tensors that describe a small matrix, with batch axes.
        rhs: the right-hand sides, with the same batch axes.
        prepare: from the elements of `matrix` to a function from a column to its solution.
        left_side: whether right-hand sides are columns.
    """
    builder = b.builder
    batch, core = rhs.shape[:-2], rhs.shape[-2:]
    n, vectors = core if left_side else core[::-1]
    if vectors <= SMALL:

        def compute(*values: Array) -> list[Array]:
            *described, known = values
            solve = prepare(*described)
            columns = known if left_side else known.T
            solved = np.stack([solve(columns[:, j]) for j in range(vectors)], axis=1)
            return [solved if left_side else solved.T]

        return spell_out(b, [*matrix, rhs], batch, [(core, rhs.dtype)], compute)[0]
    out = b.new(rhs.shape, rhs.dtype)

    def one(index: tuple[Any, ...]) -> None:
        solve = prepare(*[elements(t, index) for t in matrix])

        def place(i: int, j: Any) -> tuple[Any, ...]:
            return (*index, i, j) if left_side else (*index, j, i)

        def column(which: tuple[Any, ...]) -> None:
            known = np.empty(n, object)
            for i in range(n):
                known[i] = rhs.at(place(i, which[0]))
            for i, value in enumerate(solve(known)):
                builder.store(out.buffer, place(i, which[0]), value)

        b.for_each((vectors,), column, independent=True)

    b.for_each(batch, one)
    return out


def _store_elements(b: Lowering, out: Any, index: Sequence[Any], values: Array) -> None:
    for place, value in np.ndenumerate(values):
        b.builder.store(out.buffer, (*index, *place), value)


def _in_lanes(
    b: Lowering, operands: Sequence[Any], batch: Sequence[Any], outs: Sequence[Any], compute: Any
) -> None:
    """Computes `LANES` matrices at a time, one in each lane of a vector.

    Equal elements of all matrices are neighbours in blocks that stay in the cache: copying
    matrices there and back costs less than lanes which read and write far apart.
    """
    builder = b.builder
    rank = len(batch)
    blocks = [[_Block(b, t, rank) for t in tensors] for tensors in (operands, outs)]
    total = ix.product(builder, batch)

    def run(block: Any) -> None:
        first = builder.op("mul", block, LANES)
        count = builder.op("min", builder.op("sub", as_value(builder, total), first), LANES)

        def load(lane: Any) -> None:
            index = ix.delinear(builder, builder.op("add", first, lane), batch)
            for each in blocks[0]:
                each.load(index, lane)

        def in_lane(lane: Any) -> None:
            values = compute(*[each.lane(lane) for each in blocks[0]])
            for each, array in zip(blocks[1], values, strict=True):
                each.set_lane(lane, array)

        def store(lane: Any) -> None:
            index = ix.delinear(builder, builder.op("add", first, lane), batch)
            for each in blocks[1]:
                _store_elements(b, each.tensor, index, each.lane(lane))

        builder.loop(0, count, load)
        builder.loop(0, LANES, in_lane, kind="simd")
        builder.loop(0, count, store)

    number = ix.div(builder, ix.add(builder, total, LANES - 1), LANES)
    builder.loop(0, number, run, kind="parallel")


class _Block:
    """Some matrices of a batch, with equal elements of all of them next to each other."""

    __slots__ = ("builder", "core", "local", "tensor")

    def __init__(self, b: Lowering, tensor: Any, rank: int) -> None:
        self.builder = b.builder
        self.tensor = tensor
        self.core = tensor.shape[rank:]
        self.local = scratch(b, (*self.core, LANES), tensor.dtype)

    def load(self, index: Sequence[Any], lane: Any) -> None:
        """Copies a matrix in."""
        self.set_lane(lane, elements(self.tensor, index))

    def lane(self, lane: Any) -> Array:
        """The elements of a matrix."""
        values = np.empty(self.core, object)
        for place in np.ndindex(*self.core):
            values[place] = self.local.at((*place, lane))
        return values

    def set_lane(self, lane: Any, values: Array) -> None:
        """Sets the elements of a matrix."""
        for place, value in np.ndenumerate(values):
            self.builder.store(self.local.buffer, (*place, lane), value)


def pointer(b: Lowering, stored: Any, batch: Sequence[Any]) -> tuple[Any, Any]:
    """Where the matrix of a batch index begins, as an argument of a call."""
    core = (0,) * (len(stored.shape) - len(batch))
    return stored.buffer, b.builder.offset(stored.buffer, (*batch, *core))


def call_library(b: Any, symbol: str, *args: Any) -> Any:
    """Calls a shim of LAPACK and fails if it reports misuse or a missing library.

    Args:
        b: the lowering.
        symbol: the shim.
        *args: integers and pointers.

    Returns:
        A bool: whether the factorisation succeeded.
    """
    builder = b.builder
    passed = [builder.index(a) if type(a) is int else a for a in args]
    info = builder.call(symbol, np.dtype(np.int32), *passed)
    site = b.site(f"{symbol} could not be called")
    builder.check(builder.op("ge", info, 0), site)
    return builder.op("eq", info, 0)


def spoil(b: Lowering, ok: Any, batch: Sequence[Any], *outs: Any) -> None:
    """Fills the matrices of a batch index with NaN unless all went well."""
    builder = b.builder

    def fill() -> None:
        for out in outs:
            nan = builder.const(nan_of(out.dtype), out.dtype)

            def store(place: tuple[Any, ...], out: Any = out, nan: Any = nan) -> None:
                builder.store(out.buffer, (*batch, *place), nan)

            b.for_each(out.shape[len(batch) :], store, independent=True)

    builder.if_(ok, lambda: None, fill)


def is_empty(*shapes: Sequence[Any]) -> bool:
    """Whether one of the shapes has no elements."""
    return any(static_size(shape) == 0 for shape in shapes)


def lower_by_evaluation(
    b: Lowering,
    evaluate: Callable[..., Any],
    tensors: Sequence[Any],
    results: Sequence[Aval],
) -> list[Any]:
    """Compiled code that calls back into Python, for what no library function is at hand.

    Args:
        b: the lowering.
        evaluate: of NumPy arrays (and static parameters), to a sequence of them.
        tensors: the operands.
        results: what comes out.

    Returns:
        The results, in buffers.
    """
    outs: list[Any] = []
    for k, aval in enumerate(results):
        outs.append(b.new(b.extents(aval), aval.dtype, k))
    operands = [b.stored(t) for t in tensors]
    inputs = [(t.shape, t.dtype) for t in operands]
    outputs = [(t.shape, t.dtype, False) for t in outs]

    def function(arrays: Sequence[Array]) -> list[Array]:
        return list(evaluate(*arrays))

    number = b.callback((function, inputs, outputs))
    b.builder.callback(number, [t.buffer for t in operands], [t.buffer for t in outs])
    return outs
