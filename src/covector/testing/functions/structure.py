"""Steps that move elements, reduce and contract."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from covector.testing.functions.elementwise import INT, common_dtype
from covector.testing.functions.graph import Apply, Builder, Kind, Shape, Step


def _any_array(b: Builder, least_rank: int = 1) -> int | None:
    return b.pick(lambda k: k.rank >= least_rank and (k.is_float or k.dtype == INT))


def _float_array(b: Builder, least_rank: int = 1) -> int | None:
    return b.pick(lambda k: k.rank >= least_rank and k.is_float)


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]


def _with(shape: Shape, axis: int, extent: int) -> Shape:
    return (*shape[:axis], extent, *shape[axis + 1 :])


# --- movement -----------------------------------------------------------------------------------


def reshape(b: Builder) -> Step | None:
    """The same elements in another shape."""
    i = b.pick(lambda k: k.size > 1)
    if i is None:
        return None
    x = b.kinds[i]
    factors = [d for d in range(1, x.size + 1) if x.size % d == 0]
    first = b.choose(factors)
    options: list[Shape] = [(x.size,), (first, x.size // first), (1, *x.shape), (*x.shape, 1)]
    shape = b.choose(options)
    kind = x.update(shape=shape)
    return Step((i,), (kind,), lambda api, v: api.np.reshape(v, shape), f"reshape({{0}}, {shape})")


def transpose(b: Builder) -> Step | None:
    """Axes permuted."""
    i = b.pick(lambda k: k.rank >= 2)
    if i is None:
        return None
    x = b.kinds[i]
    axes = tuple([int(a) for a in b.rng.permutation(x.rank)])
    kind = x.update(shape=tuple([x.shape[a] for a in axes]))

    def apply(api: Any, v: Any) -> Any:
        return api.np.transpose(v, axes)

    return Step((i,), (kind,), apply, f"transpose({{0}}, {axes})")


def broadcast(b: Builder) -> Step | None:
    """Copies along a new axis."""
    i = b.pick(lambda k: k.rank < 3)
    if i is None:
        return None
    x = b.kinds[i]
    shape = (b.integer(2, 3), *x.shape)

    def apply(api: Any, v: Any) -> Any:
        return api.np.broadcast_to(v, shape)

    return Step((i,), (x.update(shape=shape),), apply, f"broadcast_to({{0}}, {shape})")


def squeeze(b: Builder) -> Step | None:
    """An axis of extent 1 dropped."""
    i = b.pick(lambda k: 1 in k.shape)
    if i is None:
        return None
    x = b.kinds[i]
    axis = x.shape.index(1)
    kind = x.update(shape=_without(x.shape, axis))

    def apply(api: Any, v: Any) -> Any:
        return api.np.squeeze(v, axis)

    return Step((i,), (kind,), apply, f"squeeze({{0}}, {axis})")


def join(b: Builder) -> Step | None:
    """Concatenation of two arrays, or of one with itself changed."""
    i = _float_array(b)
    if i is None:
        return None
    x = b.kinds[i]
    axis = b.integer(0, x.rank - 1)
    j = b.pick(
        lambda y: (
            y.rank == x.rank
            and y.dtype == x.dtype
            and _without(y.shape, axis) == _without(x.shape, axis)
        )
    )
    assert j is not None, "x itself fits"
    y = b.kinds[j]
    grain = None if x.grain is None or y.grain is None else max(x.grain, y.grain)
    if x.shape == y.shape and b.chance(0.4):
        shape = (*x.shape[:axis], 2, *x.shape[axis:])
        kind = Kind(shape, x.dtype, max(x.bound, y.bound), grain)

        def stack(api: Any, u: Any, v: Any) -> Any:
            return api.np.stack([u, v * 0.5], axis)

        kind = kind.update(grain=None if grain is None else grain + 1)
        return Step((i, j), (kind,), stack, f"stack([{{0}}, {{1}} * 0.5], {axis})")
    shape = _with(x.shape, axis, x.shape[axis] + y.shape[axis])
    kind = Kind(shape, x.dtype, max(x.bound, y.bound), grain)

    def apply(api: Any, u: Any, v: Any) -> Any:
        return api.np.concatenate([u, -v], axis)

    return Step((i, j), (kind,), apply, f"concatenate([{{0}}, -{{1}}], {axis})")


def cut(b: Builder) -> Step | None:
    """A static slice, forwards or backwards, with a step."""
    i = _any_array(b)
    if i is None:
        return None
    x = b.kinds[i]
    axis = b.integer(0, x.rank - 1)
    n = x.shape[axis]
    start = b.integer(0, (n - 1) // 2)
    options = (
        slice(start, None),
        slice(None, n - start),
        slice(start, n, 2),
        slice(None, None, -1),
    )
    chosen: slice[Any, Any, Any] = b.choose(options)
    index = (slice(None),) * axis + (chosen,)
    extent = len(range(n)[chosen])
    text = f"{{0}}[{':, ' * axis}{chosen.start}:{chosen.stop}:{chosen.step}]"
    kind = x.update(shape=_with(x.shape, axis, extent))
    return Step((i,), (kind,), lambda api, v: v[index], text)


def rearrange(b: Builder) -> Step | None:
    """Elements reversed, rotated, repeated or padded along an axis."""
    i = _any_array(b)
    if i is None:
        return None
    x = b.kinds[i]
    axis = b.integer(0, x.rank - 1)
    n = x.shape[axis]
    options: list[tuple[str, int, Apply]] = [
        (f"flip({{0}}, {axis})", n, lambda api, v: api.np.flip(v, axis)),
        (f"roll({{0}}, 1, {axis})", n, lambda api, v: api.np.roll(v, 1, axis)),
        (f"repeat({{0}}, 2, {axis})", 2 * n, lambda api, v: api.np.repeat(v, 2, axis)),
        (f"pad({{0}}, 1 on {axis})", n + 2, lambda api, v: api.np.pad(v, _padding(x.rank, axis))),
    ]
    text, extent, apply = b.choose(options)
    return Step((i,), (x.update(shape=_with(x.shape, axis, extent)),), apply, text)


def _padding(rank: int, axis: int) -> list[tuple[int, int]]:
    return [(1, 1) if a == axis else (0, 0) for a in range(rank)]


# --- data-dependent places ----------------------------------------------------------------------


def dynamic_slice(b: Builder) -> Step | None:
    """Starts outside are moved inside, so any integer will do."""
    i, at = _any_array(b), b.pick(lambda k: k.dtype == INT and k.rank == 0)
    if i is None or at is None:
        return None
    x = b.kinds[i]
    size = b.integer(1, x.shape[0])
    kind = x.update(shape=_with(x.shape, 0, size))

    def apply(api: Any, v: Any, s: Any) -> Any:
        return api.lax.dynamic_slice_in_dim(v, s, size)

    return Step((i, at), (kind,), apply, f"dynamic_slice_in_dim({{0}}, {{1}}, {size})")


def dynamic_update(b: Builder) -> Step | None:
    """A row replaced; places outside are moved inside."""
    i, at = _float_array(b), b.pick(lambda k: k.dtype == INT and k.rank == 0)
    if i is None or at is None:
        return None
    x = b.kinds[i]
    rest = x.shape[1:]
    j = b.pick(lambda k: k.dtype == x.dtype and k.shape == rest)
    if j is None:
        return None
    y = b.kinds[j]
    grain = None if x.grain is None or y.grain is None else max(x.grain, y.grain)
    kind = x.update(bound=max(x.bound, y.bound), grain=grain)

    def apply(api: Any, v: Any, u: Any, s: Any) -> Any:
        return api.lax.dynamic_update_index_in_dim(v, u, s, 0)

    return Step((i, j, at), (kind,), apply, "dynamic_update_index_in_dim({0}, {1}, {2}, 0)")


def gather(b: Builder) -> Step | None:
    """Indices count from the end where negative and are clamped where out of bounds.

    JAX has no derivative for those out of bounds: it promises itself that there are none.
    """
    i, at = _any_array(b), b.pick(lambda k: k.dtype == INT and k.rank <= 2)
    if i is None or at is None:
        return None
    x, where = b.kinds[i], b.kinds[at]
    if b.chance(0.3):
        axis = b.integer(0, x.rank - 1)
        shape = x.shape[:axis] + where.shape + x.shape[axis + 1 :]
        n = x.shape[axis]

        def take(api: Any, v: Any, s: Any) -> Any:
            return api.np.take(v, s % n, axis)

        return Step((i, at), (x.update(shape=shape),), take, f"take({{0}}, {{1}} % {n}, {axis})")
    kind = x.update(shape=where.shape + x.shape[1:])
    if b.style.differentiated:
        n = x.shape[0]
        return Step((i, at), (kind,), lambda api, v, s: v[s % n], f"{{0}}[{{1}} % {n}]")
    return Step((i, at), (kind,), lambda api, v, s: v[s], "{0}[{1}]")


def scatter(b: Builder) -> Step | None:
    """Updates out of bounds are dropped; those of one element are added, never overwritten."""
    i, at = _float_array(b), b.pick(lambda k: k.dtype == INT and k.rank <= 1)
    if i is None or at is None:
        return None
    x, where = b.kinds[i], b.kinds[at]
    wanted = where.shape + x.shape[1:]
    j = b.pick(lambda k: k.dtype == x.dtype and k.shape in ((), wanted, x.shape[1:]))
    if j is None:
        return None
    y = b.kinds[j]
    count = where.size
    grain = None if x.grain is None or y.grain is None else max(x.grain, y.grain)
    kind = x.update(bound=x.bound + count * y.bound, grain=grain)
    if where.rank == 0 and b.chance(0.5):
        kind = kind.update(bound=max(x.bound, y.bound))
        return Step(
            (i, at, j), (kind,), lambda api, v, s, u: v.at[s].set(u), "{0}.at[{1}].set({2})"
        )
    return Step((i, at, j), (kind,), lambda api, v, s, u: v.at[s].add(u), "{0}.at[{1}].add({2})")


# --- reductions ---------------------------------------------------------------------------------


def reduce(b: Builder) -> Step | None:
    """A sum, mean, variance or extremum, over an axis or all."""
    i = _any_array(b)
    if i is None:
        return None
    x = b.kinds[i]
    axis: int | None = b.choose((*range(x.rank), None))
    keep = axis is not None and b.chance(0.2)
    n = x.size if axis is None else x.shape[axis]
    shape = () if axis is None else _with(x.shape, axis, 1) if keep else _without(x.shape, axis)
    if x.dtype == INT:

        def apply(api: Any, v: Any) -> Any:
            return api.np.max(v, axis, keepdims=keep)

        return Step((i,), (x.update(shape=shape),), apply, f"max({{0}}, {axis}, keepdims={keep})")
    options: list[tuple[str, float, int | None]] = [
        ("sum", n, x.grain),
        ("sum", n, x.grain),
        ("mean", 1, None if x.grain is None or n & (n - 1) else x.grain + n.bit_length() - 1),
    ]
    # Where the derivative of an extremum is shared by ties it is rounded.
    if not (b.style.differentiated and x.is_exact):
        options += [("max", 1, x.grain), ("min", 1, x.grain)]
    if not b.style.exact:
        options.append(("var", x.bound, None))
    name, factor, grain = b.choose(options)
    kind = x.update(shape=shape, bound=x.bound * factor, grain=grain)

    def run(api: Any, v: Any) -> Any:
        return getattr(api.np, name)(v, axis, keepdims=keep)

    return Step((i,), (kind,), run, f"{name}({{0}}, {axis}, keepdims={keep})")


def truth(b: Builder) -> Step | None:
    """Whether some or all are true."""
    i = b.pick(lambda k: k.dtype == "bool" and k.rank > 0)
    if i is None:
        return None
    name = b.choose(("any", "all"))
    axis = b.choose((0, None))
    shape = () if axis is None else b.kinds[i].shape[1:]

    def apply(api: Any, v: Any) -> Any:
        return getattr(api.np, name)(v, axis)

    return Step((i,), (Kind(shape, "bool"),), apply, f"{name}({{0}}, {axis})")


def separated(b: Builder, i: int, axis: int) -> int:
    """A value of which no two elements along an axis tie, where a function must not meet ties."""
    x = b.kinds[i]
    if b.style.exact or x.grain is None:
        return i
    n = x.shape[axis]
    grain = x.grain + math.ceil(math.log2(n + 1)) + 1
    ramp = np.arange(1, n + 1).reshape([n if a == axis else 1 for a in range(x.rank)])
    array = (ramp * 2.0**-grain).astype(x.dtype)
    kind = x.update(bound=x.bound + 0.5, grain=grain)

    def add(api: Any, v: Any) -> Any:
        return v + array

    return b.put(f"{{0}} + {2.0**-grain} * arange(1, {n + 1}) along {axis}", kind, add, i)


def position(b: Builder) -> Step | None:
    """Where the extremum is, or the order of elements: only of exact values."""
    i = b.pick(lambda k: k.is_float and k.is_exact and k.rank > 0)
    if i is None:
        return None
    axis = b.integer(0, b.kinds[i].rank - 1)
    i = separated(b, i, axis)
    x = b.kinds[i]
    name = b.choose(("argmax", "argmin", "argsort"))
    shape = x.shape if name == "argsort" else _without(x.shape, axis)

    def apply(api: Any, v: Any) -> Any:
        return getattr(api.np, name)(v, axis=axis).astype(np.int32)

    kind = Kind(shape, INT, x.shape[axis])
    return Step((i,), (kind,), apply, f"{name}({{0}}, {axis}).astype(int32)")


def sort(b: Builder) -> Step | None:
    """Elements sorted along an axis."""
    i = _float_array(b)
    if i is None:
        return None
    axis = b.integer(0, b.kinds[i].rank - 1)
    i = separated(b, i, axis)
    kind = b.kinds[i]
    return Step((i,), (kind,), lambda api, v: api.np.sort(v, axis=axis), f"sort({{0}}, {axis})")


def cumulative(b: Builder) -> Step | None:
    """Cumulative sums or extrema, from either end."""
    i = _float_array(b)
    if i is None:
        return None
    x = b.kinds[i]
    axis = b.integer(0, x.rank - 1)
    reverse = b.chance(0.3)
    name = "cumsum" if b.style.differentiated or b.chance(0.7) else b.choose(("cummax", "cummin"))
    kind = x.update(bound=x.bound * x.shape[axis]) if name == "cumsum" else x

    def apply(api: Any, v: Any) -> Any:
        return getattr(api.lax, name)(v, axis=axis, reverse=reverse)

    return Step((i,), (kind,), apply, f"{name}({{0}}, {axis}, reverse={reverse})")


# --- contractions -------------------------------------------------------------------------------


def contract(b: Builder) -> Step | None:
    """A product of matrices and vectors, or an outer product."""
    i = _float_array(b)
    if i is None or (b.style.exact and b.style.differentiated and b.depth):
        return None
    x = b.kinds[i]
    n = x.shape[-1]
    j = b.pick(
        lambda y: y.is_float and y is not x and 1 <= y.rank <= 2 and x.rank <= 2 and y.shape[0] == n
    )
    if j is None:
        return _outer(b, i)
    y = b.kinds[j]
    exact = x.grain is not None and y.grain is not None
    grain = (x.grain or 0) + (y.grain or 0) if exact else None
    kind = Kind(x.shape[:-1] + y.shape[1:], common_dtype(x, y), n * x.bound * y.bound, grain)
    return Step((i, j), (kind,), lambda api, u, v: u @ v, "{0} @ {1}")


def _outer(b: Builder, i: int) -> Step | None:
    x = b.kinds[i]
    j = b.pick(lambda y: y.is_float and y.rank == 1)
    if j is None or x.rank != 1:
        return None
    y = b.kinds[j]
    exact = x.grain is not None and y.grain is not None
    grain = (x.grain or 0) + (y.grain or 0) if exact else None
    kind = Kind(x.shape + y.shape, common_dtype(x, y), x.bound * y.bound, grain)

    def apply(api: Any, u: Any, v: Any) -> Any:
        return api.np.outer(u, v)

    return Step((i, j), (kind,), apply, "outer({0}, {1})")


RULES = (
    (1.0, reshape),
    (0.7, transpose),
    (0.5, broadcast),
    (0.3, squeeze),
    (1.0, join),
    (1.0, cut),
    (1.0, rearrange),
    (0.7, dynamic_slice),
    (0.7, dynamic_update),
    (1.0, gather),
    (1.0, scatter),
    (2.0, reduce),
    (0.4, truth),
    (0.7, position),
    (0.7, sort),
    (0.7, cumulative),
    (1.5, contract),
)
