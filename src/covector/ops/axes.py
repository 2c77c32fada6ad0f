"""Movement operations that change the axes of an array: broadcast, reshape, transpose, reverse."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from covector.core.avals import Aval, Linear
from covector.core.primitive import Primitive, unsupported
from covector.core.trace import aval_of
from covector.loopir.ir import component
from covector.loopir.tensor import Stored
from covector.ops import indices
from covector.ops.common import Chunk, Inseparable, batch_at_front, kind_of, narrow_sizes
from covector.ops.movement import check_axes, inserted, movement, past, without

# --- broadcast_in_dim ---------------------------------------------------------------------------


def _broadcast_shape(x: Aval, *, shape: Sequence[Any], broadcast_dimensions: Sequence[int]) -> Aval:
    if len(broadcast_dimensions) != len(x.shape):
        raise ValueError(
            f"broadcast_in_dim of {x}: broadcast_dimensions must name one axis of the result for "
            f"each of the {len(x.shape)} axes of the operand, found {tuple(broadcast_dimensions)}"
        )
    check_axes("broadcast_in_dim", "broadcast_dimensions", broadcast_dimensions, len(shape))
    if list(broadcast_dimensions) != sorted(broadcast_dimensions):
        raise ValueError(
            "broadcast_in_dim: broadcast_dimensions must increase, "
            f"found {tuple(broadcast_dimensions)}; transpose the operand first"
        )
    for extent, d in zip(x.shape, broadcast_dimensions, strict=True):
        if extent != 1 and extent != shape[d]:
            raise TypeError(
                f"broadcast_in_dim of {x} to shape {tuple(shape)} along {broadcast_dimensions}: "
                f"an axis of size {extent} cannot become one of size {shape[d]}"
            )
    return Aval(shape, x.dtype, x.weak_type)


def _broadcast_evaluate(
    x: Any, *, shape: Sequence[Any], broadcast_dimensions: Sequence[int]
) -> Any:
    kept = [1] * len(shape)
    for extent, d in zip(x.shape, broadcast_dimensions, strict=True):
        kept[d] = extent
    out = np.empty(shape, x.dtype)
    out[...] = x.reshape(kept)
    return out


def _broadcast_transpose(
    ctx: Any, ct: Any, x: Linear, *, shape: Sequence[Any], broadcast_dimensions: Sequence[int]
) -> list[Any]:
    from covector.ops.reduce import reduce_sum

    same = [
        d
        for extent, d in zip(x.aval.shape, broadcast_dimensions, strict=True)
        if extent == shape[d]
    ]
    summed = without(same, len(shape))
    if summed:
        ct = reduce_sum(ct, axes=summed)
    if len(same) == len(x.aval.shape):
        return [ct]
    kept = tuple([i for i, d in enumerate(broadcast_dimensions) if d in same])
    return [broadcast_in_dim(ct, shape=x.aval.shape, broadcast_dimensions=kept)]


def _broadcast_batch(
    ctx: Any, args: Any, dims: Any, *, shape: Sequence[Any], broadcast_dimensions: Sequence[int]
) -> Any:
    x, dim = args[0], int(dims[0])
    out_dim = _after_broadcast(dim, broadcast_dimensions)
    dimensions = inserted(past(broadcast_dimensions, out_dim), dim, out_dim)
    new_shape = inserted(shape, out_dim, aval_of(x).shape[dim])
    return broadcast_in_dim(x, shape=new_shape, broadcast_dimensions=dimensions), out_dim


def _after_broadcast(dim: int, broadcast_dimensions: Sequence[int]) -> int:
    """Where the batch axis goes: before the axis of the result that the next one maps to."""
    if dim < len(broadcast_dimensions):
        return broadcast_dimensions[dim]
    return broadcast_dimensions[-1] + 1 if broadcast_dimensions else 0


def _broadcast_lower(
    b: Any, x: Any, *, shape: Sequence[Any], broadcast_dimensions: Sequence[int]
) -> Any:
    extents = b.extents(Aval(shape, x.dtype))
    at = x.at
    sources = [
        None if type(n) is int and n == 1 else d
        for n, d in zip(x.shape, broadcast_dimensions, strict=True)
    ]

    def element(index: Any) -> Any:
        return at(tuple([0 if d is None else index[d] for d in sources]))

    return b.lazy(extents, x.dtype, element, x.cost, moves=True)


def _broadcast_lanes(
    dims: Any, x: Aval, *, shape: Sequence[Any], broadcast_dimensions: Sequence[int]
) -> int | None:
    if dims[0] is None:
        return None
    lane: int = dims[0]
    target = broadcast_dimensions[lane]
    if x.shape[lane] != shape[target]:
        raise Inseparable("it repeats the lanes' only axis")
    return target


def _broadcast_creates(
    dim: int, x: Aval, *, shape: Sequence[Any], broadcast_dimensions: Sequence[int]
) -> bool:
    return dim not in broadcast_dimensions or x.shape[list(broadcast_dimensions).index(dim)] == 1


def _broadcast_words(params: dict[str, Any], words: Any) -> dict[str, Any]:
    shape = params["shape"]
    return {
        "shape": (*shape, words),
        "broadcast_dimensions": (*params["broadcast_dimensions"], len(shape)),
    }


broadcast_in_dim = movement(
    "broadcast_in_dim",
    shape=_broadcast_shape,
    evaluate=_broadcast_evaluate,
    transpose=_broadcast_transpose,
    batch=_broadcast_batch,
    lower=_broadcast_lower,
    lanes=_broadcast_lanes,
    narrow=narrow_sizes(lambda: broadcast_in_dim, "shape"),
    creates=_broadcast_creates,
    rank=lambda params, shape: len(params["broadcast_dimensions"]),
    extend=_broadcast_words,
)


def expand_dims(x: Any, dimensions: Sequence[int]) -> Any:
    """New axes of size 1.

    Args:
        x: an operand.
        dimensions: where they stand in the result; negative ones count from its end.

    Returns:
        `x` with `len(dimensions)` more axes.

    Example:
        >>> expand_dims(x, (0, -1)).shape  # doctest: +SKIP
        (1, 3, 1)
    """
    own = aval_of(x).shape
    ndim = len(own) + len(dimensions)
    new = [d % ndim if -ndim <= d < ndim else d for d in dimensions]
    check_axes("expand_dims", "dimensions", new, ndim)
    if not new:
        return x
    kept = without(new, ndim)
    shape: list[Any] = [1] * ndim
    for extent, d in zip(own, kept, strict=True):
        shape[d] = extent
    return broadcast_in_dim(x, shape=tuple(shape), broadcast_dimensions=kept)


# --- reshape ------------------------------------------------------------------------------------


def _reshape_shape(x: Aval, *, new_sizes: Sequence[Any], dimensions: None = None) -> Aval:
    if dimensions is not None:
        raise ValueError("reshape takes no dimensions; transpose the operand first")
    out = Aval(new_sizes, x.dtype, x.weak_type)
    if any(type(n) is int and n < 0 for n in new_sizes):
        raise ValueError(f"reshape of {x}: new sizes cannot be negative, found {tuple(new_sizes)}")
    if out.size != x.size:
        raise TypeError(
            f"reshape of {x} to {tuple(new_sizes)}: it has {x.size} elements, not {out.size}"
        )
    return out


def _reshape_evaluate(x: Any, *, new_sizes: Sequence[Any], dimensions: None = None) -> Any:
    # Data of keys have more elements than the result, by their words. Without elements they
    # cannot be told from numbers.
    words = x.shape[-1:] if x.size != prod(new_sizes) else ()
    return np.asarray(x, order="C").reshape((*new_sizes, *words))


def _reshape_transpose(ctx: Any, ct: Any, x: Linear, **params: Any) -> list[Any]:
    return [reshape(ct, new_sizes=x.aval.shape, dimensions=None)]


def _reshape_batch(
    ctx: Any, args: Any, dims: Any, *, new_sizes: Sequence[Any], dimensions: None = None
) -> Any:
    x = batch_at_front(args[0], dims[0], None)
    new_sizes = (aval_of(x).shape[0], *new_sizes)
    return reshape(x, new_sizes=new_sizes, dimensions=None), 0


def _reshape_lower(b: Any, x: Any, *, new_sizes: Sequence[Any], dimensions: None = None) -> Any:
    builder = b.builder
    extents = b.extents(Aval(new_sizes, b.equation.outputs[0].aval.dtype))
    if type(x) is Stored:
        buffer = x.buffer

        def stored_element(index: Any) -> Any:
            return builder.load_at(buffer, indices.linear(builder, index, extents))

        return b.lazy(extents, x.dtype, stored_element, x.cost, moves=True)
    groups = _groups(x.shape, extents)

    def element(index: Any) -> Any:
        source: list[Any] = []
        for old, axes, new in groups:
            if len(old) == 1 and len(new) == 1:
                source.append(index[axes])
            elif old:
                position = indices.linear(builder, index[axes : axes + len(new)], new)
                source += indices.delinear(builder, position, old)
        return x.at(tuple(source))

    divisions = sum(2.0 * (len(old) - 1) for old, _, _ in groups if len(old) > 1)
    return b.lazy(extents, x.dtype, element, x.cost + divisions, moves=True)


def _groups(old: Sequence[Any], new: Sequence[Any]) -> list[tuple[Any, int, Any]]:
    """Splits both shapes into the shortest runs of axes with equal products.

    Returns:
        For each run the old extents, the first of the new axes, and the new extents.
    """
    groups: list[tuple[Any, int, Any]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        first_i, first_j = i, j
        if i < len(old) and j < len(new) and _same(old[i], new[j]):
            i, j = i + 1, j + 1
        else:
            i, j = _end_of_group(old, new, i, j)
        groups.append((tuple(old[first_i:i]), first_j, tuple(new[first_j:j])))
    return groups


def _end_of_group(old: Sequence[Any], new: Sequence[Any], i: int, j: int) -> tuple[int, int]:
    """Extends a group from `old[i]`, `new[j]` until the products agree."""
    # An axis of size 1 on one side is a group by itself.
    if i < len(old) and _same(old[i], 1):
        return i + 1, j
    if j < len(new) and _same(new[j], 1):
        return i, j + 1
    rest = [*old[i:], *new[j:]]
    if any(type(n) is not int or n == 0 for n in rest):
        return len(old), len(new)
    left, right = old[i], new[j]
    i, j = i + 1, j + 1
    while left != right:
        if left < right:
            left, i = left * old[i], i + 1
        else:
            right, j = right * new[j], j + 1
    return i, j


def _same(m: Any, n: Any) -> bool:
    # Run-time sizes are equal for certain only if they are the same value.
    return m is n or (type(m) is int and type(n) is int and m == n)


def _reshape_lanes(
    dims: Any, x: Aval, *, new_sizes: Sequence[Any], dimensions: None = None
) -> int | None:
    if dims[0] is None:
        return None
    lane = int(dims[0])
    lanes, before = x.shape[lane], Aval(x.shape[:lane], x.dtype).size
    for d, extent in enumerate(new_sizes):
        if extent == lanes and Aval(new_sizes[:d], x.dtype).size == before:
            return d
    raise Inseparable(f"it reshapes {x} to {tuple(new_sizes)}, which merges or splits the lanes")


reshape = movement(
    "reshape",
    shape=_reshape_shape,
    evaluate=_reshape_evaluate,
    transpose=_reshape_transpose,
    batch=_reshape_batch,
    lower=_reshape_lower,
    lanes=_reshape_lanes,
    narrow=narrow_sizes(lambda: reshape, "new_sizes"),
)

# --- squeeze ------------------------------------------------------------------------------------


def _squeeze_shape(x: Aval, *, dimensions: Sequence[int]) -> Aval:
    check_axes("squeeze", "dimensions", dimensions, len(x.shape))
    for d in dimensions:
        if x.shape[d] != 1:
            raise ValueError(f"squeeze of {x}: axis {d} has size {x.shape[d]}, not 1")
    kept = without(dimensions, len(x.shape))
    return Aval([x.shape[d] for d in kept], x.dtype, x.weak_type)


def _squeeze_evaluate(x: Any, *, dimensions: Sequence[int]) -> Any:
    return x.squeeze(tuple(dimensions))


def _squeeze_transpose(ctx: Any, ct: Any, x: Linear, *, dimensions: Sequence[int]) -> list[Any]:
    kept = without(dimensions, len(x.aval.shape))
    return [broadcast_in_dim(ct, shape=x.aval.shape, broadcast_dimensions=kept)]


def _squeeze_batch(ctx: Any, args: Any, dims: Any, *, dimensions: Sequence[int]) -> Any:
    removed = past(dimensions, dims[0])
    out_dim = dims[0] - sum(d < dims[0] for d in removed)
    return squeeze(args[0], dimensions=removed), out_dim


def _squeeze_lower(b: Any, x: Any, *, dimensions: Sequence[int]) -> Any:
    kept = without(dimensions, len(x.shape))
    places = sorted(dimensions)

    def element(index: Any) -> Any:
        source = list(index)
        for d in places:
            source.insert(d, 0)
        return x.at(tuple(source))

    return b.lazy([x.shape[d] for d in kept], x.dtype, element, x.cost, moves=True)


def _squeeze_lanes(dims: Any, x: Aval, *, dimensions: Sequence[int]) -> int | None:
    if dims[0] is None:
        return None
    if dims[0] in dimensions:
        raise Inseparable("it removes the lanes' axis")
    return dims[0] - sum(d < dims[0] for d in dimensions)


squeeze = movement(
    "squeeze",
    shape=_squeeze_shape,
    evaluate=_squeeze_evaluate,
    transpose=_squeeze_transpose,
    batch=_squeeze_batch,
    lower=_squeeze_lower,
    lanes=_squeeze_lanes,
)

# --- transpose ----------------------------------------------------------------------------------


def _transpose_shape(x: Aval, *, permutation: Sequence[int]) -> Aval:
    if sorted(permutation) != list(range(len(x.shape))):
        raise TypeError(
            f"transpose of {x}: permutation must be one of range({len(x.shape)}), "
            f"found {tuple(permutation)}"
        )
    return Aval([x.shape[p] for p in permutation], x.dtype, x.weak_type)


def _transpose_evaluate(x: Any, *, permutation: Sequence[int]) -> Any:
    return np.asarray(x.transpose(permutation), order="C")


def _transpose_transpose(ctx: Any, ct: Any, x: Linear, *, permutation: Sequence[int]) -> list[Any]:
    return [transpose(ct, permutation=_inverse(permutation))]


def _inverse(permutation: Sequence[int]) -> tuple[int, ...]:
    inverse = [0] * len(permutation)
    for i, p in enumerate(permutation):
        inverse[p] = i
    return tuple(inverse)


def _transpose_batch(ctx: Any, args: Any, dims: Any, *, permutation: Sequence[int]) -> Any:
    dim = dims[0]
    return transpose(args[0], permutation=inserted(past(permutation, dim), dim, dim)), dim


def _transpose_lower(b: Any, x: Any, *, permutation: Sequence[int]) -> Any:
    inverse = _inverse(permutation)
    at = x.at
    shape = [x.shape[p] for p in permutation]

    def element(index: Any) -> Any:
        return at(tuple([index[i] for i in inverse]))

    return b.lazy(shape, x.dtype, element, x.cost, moves=True)


def _transpose_lanes(dims: Any, x: Aval, *, permutation: Sequence[int]) -> int | None:
    return None if dims[0] is None else list(permutation).index(dims[0])


transpose = movement(
    "transpose",
    shape=_transpose_shape,
    evaluate=_transpose_evaluate,
    transpose=_transpose_transpose,
    batch=_transpose_batch,
    lower=_transpose_lower,
    lanes=_transpose_lanes,
    rank=lambda params, shape: len(params["permutation"]),
    extend=lambda params, words: {
        "permutation": (*params["permutation"], len(params["permutation"]))
    },
)

# --- rev ----------------------------------------------------------------------------------------


def _rev_shape(x: Aval, *, dimensions: Sequence[int]) -> Aval:
    check_axes("rev", "dimensions", dimensions, len(x.shape))
    return x


def _rev_evaluate(x: Any, *, dimensions: Sequence[int]) -> Any:
    return np.asarray(np.flip(x, tuple(dimensions)), order="C")


def _rev_transpose(ctx: Any, ct: Any, x: Linear, *, dimensions: Sequence[int]) -> list[Any]:
    return [rev(ct, dimensions=dimensions)]


def _rev_batch(ctx: Any, args: Any, dims: Any, *, dimensions: Sequence[int]) -> Any:
    return rev(args[0], dimensions=past(dimensions, dims[0])), dims[0]


def _rev_lower(b: Any, x: Any, *, dimensions: Sequence[int]) -> Any:
    builder = b.builder
    last = {d: indices.sub(builder, x.shape[d], 1) for d in dimensions}

    def element(index: Any) -> Any:
        source = [indices.sub(builder, last[d], i) if d in last else i for d, i in enumerate(index)]
        return x.at(tuple(source))

    return b.lazy(x.shape, x.dtype, element, x.cost, moves=True)


def _rev_lanes(dims: Any, x: Aval, *, dimensions: Sequence[int]) -> int | None:
    if dims[0] in dimensions:
        raise Inseparable("it reverses the order of the lanes")
    return dims[0]


rev = movement(
    "rev",
    shape=_rev_shape,
    evaluate=_rev_evaluate,
    transpose=_rev_transpose,
    batch=_rev_batch,
    lower=_rev_lower,
    lanes=_rev_lanes,
)

# --- iota ---------------------------------------------------------------------------------------


def _iota_shape(*, dtype: Any, shape: Sequence[Any], dimension: int) -> Aval:
    if kind_of(dtype) not in "iufc":
        raise TypeError(f"iota does not make {dtype}: it makes numbers")
    if not 0 <= dimension < len(shape):
        raise ValueError(f"iota: dimension must be in range({len(shape)}), found {dimension}")
    return Aval(shape, dtype)


def _iota_evaluate(*, dtype: Any, shape: Sequence[Any], dimension: int) -> Any:
    aligned = [1] * len(shape)
    aligned[dimension] = shape[dimension]
    out = np.empty(shape, dtype)
    out[...] = np.arange(int(shape[dimension])).astype(dtype).reshape(aligned)
    return out


def _iota_batch(ctx: Any, args: Any, dims: Any, **params: Any) -> Any:
    return iota(**params), None


def _iota_lower(b: Any, *, dtype: Any, shape: Sequence[Any], dimension: int) -> Any:
    builder = b.builder
    real = component(dtype)

    def element(index: Any) -> Any:
        i = index[dimension]
        if type(i) is int:
            return builder.const(np.array(i).astype(dtype)[()], dtype)
        value = builder.convert(i, real)
        return value if real is dtype else builder.complex(value, 0)

    return b.lazy(b.extents(Aval(shape, dtype)), dtype, element, 1.0, moves=True)


def _iota_lanes(dims: Any, **params: Any) -> None:
    return None


def _iota_narrow(
    chunk: Chunk, dims: Any, out_dim: int, *, dtype: Any, shape: Sequence[Any], dimension: int
) -> Any:
    from covector.ops.arithmetic import add
    from covector.ops.convert import convert_element_type

    narrow = chunk.narrowed(shape, out_dim)
    if dimension != out_dim:
        return iota(dtype=dtype, shape=narrow, dimension=dimension)
    # In integers: floats far from 0 are not exact.
    here = iota(dtype=np.dtype(np.int32), shape=narrow, dimension=dimension)
    first = broadcast_in_dim(chunk.offset, shape=narrow, broadcast_dimensions=())
    return convert_element_type(add(here, first), new_dtype=dtype, weak_type=False)


def _iota_creates(dim: int, **params: Any) -> bool:
    return True


iota = Primitive(
    "iota",
    shape=_iota_shape,
    evaluate=_iota_evaluate,
    jvp=unsupported("it has no operands"),
    transpose=unsupported("it has no operands"),
    batch=_iota_batch,
    lower=_iota_lower,
    lanes=_iota_lanes,
    narrow=_iota_narrow,
    creates=_iota_creates,
    tags=frozenset({"movement"}),
)
