"""Collective operations over the axes that `vmap` names.

They stand in programs only inside of a `vmap` with their axis name, whose batching turns them into
reductions and movements along the batch axis. Batching along another axis leaves them as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from covector.core import dtypes
from covector.core.array import as_array
from covector.core.avals import Aval, Linear, Zero
from covector.core.errors import compose
from covector.core.primitive import BatchContext, Primitive, Rule, unsupported
from covector.core.source import here
from covector.core.trace import aval_of
from covector.ops import common
from covector.ops.arithmetic import div, mul
from covector.ops.axes import broadcast_in_dim, iota, transpose
from covector.ops.common import batch_at_front, check_dtypes, like, linear_jvp, move_axis
from covector.ops.compare import eq, select_n
from covector.ops.convert import convert_element_type
from covector.ops.index import gather
from covector.ops.pieces import concatenate
from covector.ops.reduce import reduce_max, reduce_min, reduce_sum
from covector.ops.slices import slice_in_dim
from covector.ops.windows import GatherDimensionNumbers, GatherScatterMode

_NO_LANES = "a named axis is resolved by vmap before lanes are looked for"


def _unbound(name: str) -> Rule:
    """What evaluating or compiling a collective means where no `vmap` has resolved it."""

    def rule(*operands: Any, axis_name: Any, **params: Any) -> NoReturn:
        raise NameError(
            compose(
                f"unbound axis name {axis_name!r}: {name} is run outside of the vmap that names "
                "the axis",
                fix=f"run the program under vmap(..., axis_name={axis_name!r})",
                line=here(),
            )
        )

    return rule


def _collective(name: str, *, shape: Rule, jvp: Rule, transpose: Rule, batch: Rule) -> Primitive:
    return Primitive(
        name,
        shape=shape,
        evaluate=_unbound(name),
        jvp=jvp,
        transpose=transpose,
        batch=batch,
        lanes=unsupported(_NO_LANES),
        lower=_unbound(name),
        tags=frozenset({"collective"}),
    )


def _check_size(name: str, ctx: BatchContext, axis_size: Any) -> None:
    if axis_size != ctx.axis_size:
        raise ValueError(
            f"{name} over the axis {ctx.axis_name!r} was traced for size {axis_size}, but is "
            f"batched with size {ctx.axis_size}"
        )


# --- reductions ---------------------------------------------------------------------------------


def _reduction_shape(name: str, kinds: str) -> Rule:
    def shape(x: Aval, *, axis_name: Any) -> Aval:
        check_dtypes(name, (x,), kinds)
        return x.strong()

    return shape


def _reduction_batch(
    primitive: Callable[[], Primitive],
    reduce: Primitive,
    repeated: Callable[[BatchContext, Any], Any],
) -> Rule:
    """The batch rule of a reduction.

    Args:
        primitive: gives the collective itself.
        reduce: the reduction along a positional axis.
        repeated: the reduction of an operand that is the same for all examples.
    """

    def batch(
        ctx: BatchContext, args: Sequence[Any], dims: Sequence[int | None], *, axis_name: Any
    ) -> tuple[Any, int | None]:
        (x,), (dim,) = args, dims
        if axis_name != ctx.axis_name:
            return primitive()(x, axis_name=axis_name), dim
        return (repeated(ctx, x) if dim is None else reduce(x, axes=(dim,))), None

    return batch


def _times_size(ctx: BatchContext, x: Any) -> Any:
    if type(ctx.axis_size) is int:
        return mul(x, like(aval_of(x), ctx.axis_size))
    return reduce_sum(batch_at_front(x, None, ctx.axis_size), axes=(0,))


def _psum_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    return linear_jvp(psum, ctx, primals, tangents, **params)


def _psum_transpose(ctx: Any, ct: Any, x: Linear, *, axis_name: Any) -> list[Any]:
    # Every example's operand contributes to every example's sum.
    return [Zero(x.aval) if type(ct) is Zero else psum(ct, axis_name=axis_name)]


psum = _collective(
    "psum",
    shape=_reduction_shape("psum", "iufc"),
    jvp=_psum_jvp,
    transpose=_psum_transpose,
    batch=_reduction_batch(lambda: psum, reduce_sum, _times_size),
)


def _extremum_jvp(primitive: Primitive, primals: Any, tangents: Any, axis_name: Any) -> Any:
    """Examples that attain the extremum share the derivative equally, as in `reduce_max`."""
    (x,), (t,) = primals, tangents
    out = primitive(x, axis_name=axis_name)
    mask = convert_element_type(eq(x, out), new_dtype=aval_of(t).dtype)
    total = psum(mul(t, mask), axis_name=axis_name)
    return out, div(total, psum(mask, axis_name=axis_name))


def _pmax_jvp(ctx: Any, primals: Any, tangents: Any, *, axis_name: Any) -> Any:
    return _extremum_jvp(pmax, primals, tangents, axis_name)


def _pmin_jvp(ctx: Any, primals: Any, tangents: Any, *, axis_name: Any) -> Any:
    return _extremum_jvp(pmin, primals, tangents, axis_name)


def _same(ctx: BatchContext, x: Any) -> Any:
    return x


pmax = _collective(
    "pmax",
    shape=_reduction_shape("pmax", "biufc"),
    jvp=_pmax_jvp,
    transpose=unsupported("it is not a linear function of its operand"),
    batch=_reduction_batch(lambda: pmax, reduce_max, _same),
)
pmin = _collective(
    "pmin",
    shape=_reduction_shape("pmin", "biufc"),
    jvp=_pmin_jvp,
    transpose=unsupported("it is not a linear function of its operand"),
    batch=_reduction_batch(lambda: pmin, reduce_min, _same),
)

# --- axis_index ---------------------------------------------------------------------------------


def _index_shape(*, axis_name: Any) -> Aval:
    return Aval((), dtypes.int32)


def _index_batch(ctx: BatchContext, args: Any, dims: Any, *, axis_name: Any) -> tuple[Any, Any]:
    if axis_name != ctx.axis_name:
        return axis_index(axis_name=axis_name), None
    return iota(dtype=dtypes.int32, shape=(ctx.axis_size,), dimension=0), 0


axis_index = _collective(
    "axis_index",
    shape=_index_shape,
    jvp=unsupported("it has no operand to differentiate"),
    transpose=unsupported("it has no operand that could be linear"),
    batch=_index_batch,
)

# --- all_gather ---------------------------------------------------------------------------------


def _gather_shape(x: Aval, *, axis_name: Any, axis_size: Any, axis: int) -> Aval:
    if not 0 <= axis <= x.ndim:
        raise ValueError(f"all_gather of {x}: axis {axis} is out of range")
    return x.update(shape=(*x.shape[:axis], axis_size, *x.shape[axis:]))


def _gather_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    return linear_jvp(all_gather, ctx, primals, tangents, **params)


def _gather_transpose(
    ctx: Any, ct: Any, x: Linear, *, axis_name: Any, axis_size: Any, axis: int
) -> list[Any]:
    if type(ct) is Zero:
        return [Zero(x.aval)]
    swapped = all_to_all(ct, axis_name=axis_name, axis_size=axis_size, axis=axis)
    return [reduce_sum(swapped, axes=(axis,))]


def _gather_batch(
    ctx: BatchContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    axis_name: Any,
    axis_size: Any,
    axis: int,
) -> tuple[Any, int | None]:
    (x,), (dim,) = args, dims
    if axis_name != ctx.axis_name:
        params = {"axis_name": axis_name, "axis_size": axis_size}
        if dim is None:
            return all_gather(x, axis=axis, **params), None
        return all_gather(move_axis(x, dim, 0), axis=axis + 1, **params), 0
    _check_size("all_gather", ctx, axis_size)
    if dim is not None:
        return move_axis(x, dim, axis), None
    shape = aval_of(x).shape
    kept = tuple([d + (d >= axis) for d in range(len(shape))])
    gathered = (*shape[:axis], axis_size, *shape[axis:])
    return broadcast_in_dim(x, shape=gathered, broadcast_dimensions=kept), None


all_gather = _collective(
    "all_gather",
    shape=_gather_shape,
    jvp=_gather_jvp,
    transpose=_gather_transpose,
    batch=_gather_batch,
)
"""Every example gets the operands of all of them, along a new axis."""

# --- all_to_all ---------------------------------------------------------------------------------


def _swap_shape(x: Aval, *, axis_name: Any, axis_size: Any, axis: int) -> Aval:
    if not 0 <= axis < x.ndim or x.shape[axis] != axis_size:
        raise ValueError(
            f"all_to_all of {x}: the size along axis {axis} must be that of the named axis "
            f"{axis_name!r}, {axis_size}"
        )
    return x.strong()


def _swap_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    return linear_jvp(all_to_all, ctx, primals, tangents, **params)


def _swap_transpose(ctx: Any, ct: Any, x: Linear, **params: Any) -> list[Any]:
    return [Zero(x.aval) if type(ct) is Zero else all_to_all(ct, **params)]


def _swap_batch(
    ctx: BatchContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    axis_name: Any,
    axis_size: Any,
    axis: int,
) -> tuple[Any, int | None]:
    (x,), (dim,) = args, dims
    params = {"axis_name": axis_name, "axis_size": axis_size}
    if axis_name != ctx.axis_name:
        if dim is None:
            return all_to_all(x, axis=axis, **params), None
        return all_to_all(move_axis(x, dim, 0), axis=axis + 1, **params), 0
    _check_size("all_to_all", ctx, axis_size)
    x = batch_at_front(x, dim, axis_size)
    order = list(range(len(aval_of(x).shape)))
    order[0], order[axis + 1] = axis + 1, 0
    return transpose(x, permutation=tuple(order)), 0


all_to_all = _collective(
    "all_to_all",
    shape=_swap_shape,
    jvp=_swap_jvp,
    transpose=_swap_transpose,
    batch=_swap_batch,
)
"""Swaps the named axis with a positional one: element j of example i is element i of example j."""

# --- ppermute -----------------------------------------------------------------------------------

Permutation = Sequence[tuple[int, int]]
"""Pairs of a source and its destination."""

_MANY_RUNS = 8
"""Permutations of more pieces than this are a gather, others a concatenation."""


def _permute_shape(x: Aval, *, axis_name: Any, perm: Permutation) -> Aval:
    return x.strong()


def _permute_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    return linear_jvp(ppermute, ctx, primals, tangents, **params)


def _permute_transpose(
    ctx: Any, ct: Any, x: Linear, *, axis_name: Any, perm: Permutation
) -> list[Any]:
    if type(ct) is Zero:
        return [Zero(x.aval)]
    inverse = tuple([(target, source) for source, target in perm])
    return [ppermute(ct, axis_name=axis_name, perm=inverse)]


def _permute_batch(
    ctx: BatchContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    axis_name: Any,
    perm: Permutation,
) -> tuple[Any, int | None]:
    (x,), (dim,) = args, dims
    if axis_name != ctx.axis_name:
        return ppermute(x, axis_name=axis_name, perm=perm), dim
    size = ctx.axis_size
    if type(size) is not int:
        raise NotImplementedError(
            f"ppermute over the axis {axis_name!r} of symbolic size {size} is not supported"
        )
    if dim is None:
        if len(perm) == size:  # every example has the same
            return x, None
        x, dim = batch_at_front(x, None, size), 0
    sources: list[int | None] = [None] * size
    for source, target in perm:
        sources[target] = source
    return _taken(x, sources, dim), dim


def _taken(x: Any, sources: Sequence[int | None], axis: int) -> Any:
    """Slices of `x` along an axis by their numbers, zeros where there is none."""
    runs = _runs(sources)
    if not runs:
        return x
    if len(runs) > _MANY_RUNS:
        return _gathered(x, sources, axis)
    aval = aval_of(x)
    pieces: list[Any] = []
    for start, length in runs:
        if start is None:
            shape = [length if d == axis else n for d, n in enumerate(aval.shape)]
            pieces.append(common.zeros(Aval(shape, aval.dtype)))
        else:
            pieces.append(slice_in_dim(x, start, start + length, axis))
    return pieces[0] if len(pieces) == 1 else concatenate(*pieces, dimension=axis)


def _runs(sources: Sequence[int | None]) -> list[tuple[int | None, int]]:
    """Start and length of each piece of consecutive sources, or of none."""
    runs: list[tuple[int | None, int]] = []
    for source in sources:
        start, length = runs[-1] if runs else (None, 0)
        follows = source is None if start is None else source == start + length
        if runs and follows:
            runs[-1] = (start, length + 1)
        else:
            runs.append((source, 1))
    return runs


def _gathered(x: Any, sources: Sequence[int | None], axis: int) -> Any:
    shape = aval_of(x).shape
    numbers = GatherDimensionNumbers(
        offset_dims=tuple([d for d in range(len(shape)) if d != axis]),
        collapsed_slice_dims=(axis,),
        start_index_map=(axis,),
    )
    indices = np.array([[s or 0] for s in sources], np.int32)
    found = gather(
        x,
        as_array(indices),
        dimension_numbers=numbers,
        slice_sizes=tuple([1 if d == axis else n for d, n in enumerate(shape)]),
        mode=GatherScatterMode.PROMISE_IN_BOUNDS,
        fill_value=None,
        indices_are_sorted=False,
        unique_indices=False,
    )
    if None not in sources:
        return found
    given = as_array(np.array([s is not None for s in sources]))
    mask = broadcast_in_dim(given, shape=shape, broadcast_dimensions=(axis,))
    return select_n(mask, common.zeros(aval_of(found)), found)


ppermute = _collective(
    "ppermute",
    shape=_permute_shape,
    jvp=_permute_jvp,
    transpose=_permute_transpose,
    batch=_permute_batch,
)
"""Each example gets the operand of the one that `perm` sends to it, or zeros."""
