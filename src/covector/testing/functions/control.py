"""Steps that call graphs of their own: loops, branches, nested transformations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from covector.testing.functions.elementwise import INT
from covector.testing.functions.graph import Builder, Graph, Kind, Step


def _settled(b: Builder, wanted: Kind) -> int:
    """A value of a body as it must be returned: of a given kind, from the latest that fits.

    There is always one, for bodies take an argument of every kind they return.
    """
    fitting = [
        i
        for i, k in enumerate(b.kinds)
        if k.is_float == wanted.is_float
        and k.shape == wanted.shape
        and (k.is_float or k.dtype == wanted.dtype)
        and (k.is_exact or not wanted.is_exact)
    ]
    i = fitting[-1]
    if not wanted.is_float:
        return i
    i = _coarsened(b, i, wanted)
    if b.kinds[i].bound > wanted.bound:
        limit = wanted.bound
        kind = b.kinds[i].update(bound=limit)
        if b.style.exact:

            def clip(api: Any, v: Any) -> Any:
                return api.np.clip(v, -limit, limit)

            i = b.put(f"clip({{0}}, {-limit}, {limit})", kind, clip, i)
        else:
            i = b.tame(i, limit)
            i = _coarsened(b, i, wanted)
    dtype = wanted.dtype
    if b.kinds[i].dtype != dtype:

        def cast(api: Any, v: Any) -> Any:
            return v.astype(dtype)

        i = b.put(f"{{0}}.astype({dtype})", b.kinds[i].update(dtype=dtype), cast, i)
    return i


def _coarsened(b: Builder, i: int, wanted: Kind) -> int:
    """An exact value rounded down to a grain, so that loops do not add bits."""
    kind, grain = b.kinds[i], wanted.grain
    if grain is None or kind.grain is None or kind.grain <= grain:
        return i
    scale = 2.0**grain
    # Where the function rounds, its inputs are moved by an ulp: keep off the jumps of floor.
    e = 0.0 if b.style.exact else 2.0 ** -(kind.grain + 1)

    def floor(api: Any, v: Any) -> Any:
        return api.np.floor(v * scale + e) / scale

    rounded = kind.update(grain=grain, bound=kind.bound + 1.0)
    return b.put(f"floor({{0}} * {scale} + {e}) / {scale}", rounded, floor, i)


def _carried(b: Builder, i: int, rounds: bool) -> Kind:
    """The kind of a loop's carry that starts as a value."""
    kind = b.kinds[i]
    if not kind.is_float:
        return kind.update(bound=2.0**31)
    grain = None if rounds or kind.grain is None else max(kind.grain, 3)
    return kind.update(bound=max(kind.bound, 2.0), grain=grain)


def _rounds(b: Builder) -> bool:
    """Whether a loop's carry may be rounded: if so, it decides nothing."""
    return not b.style.exact and b.chance(0.8)


def _body(b: Builder, inputs: list[Kind], wanted: list[Kind], size: int) -> Graph:
    inner = b.within(inputs)
    inner.grow(size)
    outputs: list[int] = []
    for kind in wanted:
        outputs.append(_settled(inner, kind))
    return inner.graph(outputs)


def _extra(b: Builder) -> tuple[tuple[int, ...], list[Kind]]:
    """Values that a body captures."""
    found = [b.pick(lambda k: k.size <= 16) for _ in range(b.integer(0, 2))]
    chosen = tuple(dict.fromkeys([i for i in found if i is not None]))
    return chosen, [b.kinds[i] for i in chosen]


def _small_float(b: Builder) -> int | None:
    return b.pick(lambda k: k.is_float and k.size <= 24)


def scan(b: Builder) -> Step | None:
    """A loop over rows, with a carry and a result from each row."""
    i = _small_float(b)
    j = b.pick(lambda k: k.is_float and 1 <= k.rank <= 3 and k.shape[0] <= 6)
    if b.depth > 1 or i is None or j is None:
        return None
    carry, xs = _carried(b, i, _rounds(b)), b.kinds[j]
    row = xs.update(shape=xs.shape[1:])
    extra, captured = _extra(b)
    y = b.choose((carry, row))
    body = _body(b, [carry, row, *captured], [carry, y], b.integer(2, 5))
    reverse = b.chance(0.3)

    def apply(api: Any, start: Any, rows: Any, *more: Any) -> Any:
        def step(c: Any, x: Any) -> Any:
            return body.run(api, c, x, *more)

        return api.lax.scan(step, start, rows, reverse=reverse)

    kinds = (carry, y.update(shape=(xs.shape[0], *y.shape)))
    text = f"scan(lambda c, x: body(c, x{_names(extra)}), {{0}}, {{1}}, reverse={reverse})"
    return Step((i, j, *extra), kinds, apply, text, (("body", body),), loops=True)


def _names(extra: tuple[int, ...], first: int = 2) -> str:
    return "".join([f", {{{first + n}}}" for n in range(len(extra))])


def fori(b: Builder) -> Step | None:
    """A loop whose number of iterations is known, or an integer of the program."""
    i = _small_float(b)
    at = b.pick(lambda k: k.dtype == INT and k.rank == 0)
    if b.depth > 1 or i is None:
        return None
    if at is None or b.chance(0.4):
        at, count = i, b.integer(0, 4)
    else:
        count = None
        if b.style.reverse and b.chance(0.6):
            return None
    carry = _carried(b, i, _rounds(b))
    extra, captured = _extra(b)
    counter = Kind((), INT, 8.0)
    body = _body(b, [carry, counter, *captured], [carry], b.integer(2, 5))

    def apply(api: Any, start: Any, number: Any, *more: Any) -> Any:
        def step(n: Any, c: Any) -> Any:
            return body.run(api, c, n, *more)[0]

        return api.lax.fori_loop(0, number & 3 if count is None else count, step, start)

    shown = "{1} & 3" if count is None else str(count)
    text = f"fori_loop(0, {shown}, lambda i, c: body(c, i{_names(extra)})[0], {{0}})"
    return Step((i, at, *extra), (carry,), apply, text, (("body", body),), loops=True)


def while_(b: Builder) -> Step | None:
    """A loop until an exact quantity, which the data determine, is small; at most six times."""
    i = _small_float(b)
    at = b.pick(lambda k: k.is_float and k.is_exact and k.rank <= 1)
    # JAX does not differentiate such loops in reverse mode, so there are fewer to compare.
    if b.depth > 1 or i is None or at is None or (b.style.reverse and b.chance(0.6)):
        return None
    limit = b.kinds[at]
    assert limit.grain is not None
    e = 0.0 if b.style.exact else 2.0 ** -(limit.grain + 1)
    carry = _carried(b, i, _rounds(b))
    extra, captured = _extra(b)
    body = _body(b, [carry, Kind((), INT, 8.0), *captured], [carry], b.integer(2, 4))

    def apply(api: Any, start: Any, until: Any, *more: Any) -> Any:
        bound = api.np.max(api.np.abs(until + e))

        def going(s: Any) -> Any:
            return api.np.logical_and(s[0] < 6, s[0] * 0.5 < bound)

        def step(s: Any) -> Any:
            return s[0] + 1, body.run(api, s[1], s[0], *more)[0]

        return api.lax.while_loop(going, step, (np.int32(0), start))[1]

    text = (
        f"while_loop(lambda n, c: n < 6 and n / 2 < max(abs({{1}} + {e})), "
        f"lambda n, c: (n + 1, body(c, n{_names(extra)})), (0, {{0}}))[1]"
    )
    return Step((i, at, *extra), (carry,), apply, text, (("body", body),), loops=True)


def _first(api: Any, graph: Graph) -> Callable[..., Any]:
    def branch(*values: Any) -> Any:
        return graph.run(api, *values)[0]

    return branch


def cond(b: Builder) -> Step | None:
    """Two branches that return different values; the predicate may be batched."""
    i = _small_float(b)
    at = b.pick(lambda k: k.dtype in ("bool", INT) and k.rank == 0)
    if b.depth > 1 or i is None or at is None:
        return None
    result = _carried(b, i, _rounds(b))
    extra, captured = _extra(b)
    count = 2 if b.kinds[at].dtype == "bool" else b.integer(2, 3)
    inputs = [b.kinds[i], *captured]
    if result.bound > b.kinds[i].bound or result.grain != b.kinds[i].grain:
        inputs[0] = result
    branches = [_body(b, inputs, [result], b.integer(1, 4)) for _ in range(count)]

    def apply(api: Any, x: Any, which: Any, *more: Any) -> Any:
        functions = [_first(api, graph) for graph in branches]
        if is_bool:
            return api.lax.cond(which, functions[0], functions[1], x, *more)
        return api.lax.switch(which, functions, x, *more)

    is_bool = b.kinds[at].dtype == "bool"
    named = [(f"branch{n}", g) for n, g in enumerate(branches)]
    listed = ", ".join([name for name, _ in named])
    text = (
        f"cond({{1}}, {listed}, {{0}}{_names(extra)})"
        if is_bool
        else f"switch({{1}}, [{listed}], {{0}}{_names(extra)})"
    )
    return Step((i, at, *extra), (result,), apply, text, tuple(named))


def nested_jit(b: Builder) -> Step | None:
    """A function compiled by itself."""
    i = b.pick_float()
    if b.depth > 1 or i is None:
        return None
    extra, captured = _extra(b)
    result = _carried(b, i, not b.style.exact)
    body = _body(b, [b.kinds[i].update(bound=result.bound, grain=result.grain), *captured],
                 [result], b.integer(1, 4))  # fmt: skip

    def apply(api: Any, *values: Any) -> Any:
        def inner(*more: Any) -> Any:
            return body.run(api, *more)[0]

        return api.jit(inner)(*values)

    text = f"jit(body)({{0}}{_names(extra, 1)})"
    return Step((i, *extra), (result,), apply, text, (("body", body),))


def nested_vmap(b: Builder) -> Step | None:
    """A body for each row of an array; what else it reads is the same for all."""
    i = b.pick(lambda k: k.is_float and 1 <= k.rank <= 3 and k.size <= 48)
    if b.depth > 1 or i is None:
        return None
    x = b.kinds[i]
    axis = b.integer(0, x.rank - 1)
    row = x.update(shape=x.shape[:axis] + x.shape[axis + 1 :])
    extra, captured = _extra(b)
    result = row.update(bound=max(x.bound, 2.0), grain=x.grain if b.style.exact else None)
    body = _body(b, [row.update(grain=result.grain), *captured], [result], b.integer(1, 4))

    def apply(api: Any, rows: Any, *more: Any) -> Any:
        def inner(row: Any) -> Any:
            return body.run(api, row, *more)[0]

        return api.vmap(inner, in_axes=axis)(rows)

    kind = result.update(shape=(x.shape[axis], *row.shape))
    text = f"vmap(lambda x: body(x{_names(extra, 1)}), in_axes={axis})({{0}})"
    return Step((i, *extra), (kind,), apply, text, (("body", body),))


def nested_grad(b: Builder) -> Step | None:
    """A gradient inside of the function, of which others may be taken."""
    i = b.pick(lambda k: k.is_float and k.size <= 24)
    if b.depth > 0 or i is None or b.style.exact:
        return None
    x = b.kinds[i].update(grain=None, bound=max(b.kinds[i].bound, 2.0))
    extra, captured = _extra(b)
    inner = b.within([x, *captured])
    inner.style = b.style.__class__(
        wide=b.style.wide, differentiated=True, reverse=True, small=b.style.small
    )
    inner.grow(b.integer(1, 4))
    body = inner.graph([_settled(inner, x)])

    def apply(api: Any, v: Any, *more: Any) -> Any:
        def scalar(u: Any) -> Any:
            return (body.run(api, u, *more)[0] * 0.5).sum()

        return api.np.tanh(api.grad(scalar)(v))

    text = f"tanh(grad(lambda x: (body(x{_names(extra, 1)}) * 0.5).sum())({{0}}))"
    return Step((i, *extra), (x.update(bound=1.0),), apply, text, (("body", body),))


RULES = (
    (1.5, scan),
    (1.0, fori),
    (1.0, while_),
    (1.0, cond),
    (0.5, nested_jit),
    (0.5, nested_vmap),
    (0.4, nested_grad),
)
