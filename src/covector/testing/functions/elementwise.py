"""Steps that compute element by element: arithmetic, decisions, conversions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from covector.testing.functions.graph import FLOATS, Apply, Builder, Kind, Shape, Step

INT = "int32"
WRAPPED = 2.0**31


def common_shape(x: Kind, y: Kind) -> Shape | None:
    """The shape two values broadcast to, if they do."""
    try:
        return np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        return None


def common_dtype(x: Kind, y: Kind) -> str:
    """The dtype that arithmetic on two values gives: JAX keeps a float's beside an integer."""
    floats = [k.dtype for k in (x, y) if k.dtype in FLOATS]
    return max(floats) if floats else INT


def _grain(*grains: int | None) -> int | None:
    known = [g for g in grains if g is not None]
    return max(known) if len(known) == len(grains) else None


def offset(b: Builder, *kinds: Kind) -> float:
    """What to add so that exact values never meet where a function jumps or has a kink.

    The results of a function that rounds are compared at inputs moved by an ulp, too, which must
    not change its decisions. Exact functions may well run into ties.
    """
    grain = _grain(*[k.grain for k in kinds])
    return 0.0 if b.style.exact or grain is None else 2.0 ** -(grain + 1)


def pair(b: Builder, first: int | None, among: tuple[str, ...] = FLOATS) -> tuple[int, int] | None:
    """Two values that broadcast, and are not one and the same."""
    if first is None:
        return None
    x = b.kinds[first]
    second = b.pick(lambda y: y.dtype in among and y is not x and common_shape(x, y) is not None)
    if second is None:
        return None
    return (first, second) if b.chance(0.5) else (second, first)


# --- unary --------------------------------------------------------------------------------------


def exact_unary(b: Builder) -> Step | None:
    """Arithmetic that never rounds."""
    i = b.pick_float()
    if i is None:
        return None
    x = b.kinds[i]
    e = offset(b, x)
    moved = x.update(bound=x.bound + e, grain=x.grain if not e or x.grain is None else x.grain + 1)
    scale = b.choose((2.0, 0.5, -0.25, -1.0, 4.0))
    grain = None if x.grain is None else max(x.grain - int(math.log2(abs(scale))), 0)
    options: list[tuple[str, Kind, Apply]] = [
        ("-{0}", x, lambda api, v: -v),
        (f"{{0}} * {scale}", x.update(bound=x.bound * abs(scale), grain=grain),
         lambda api, v: v * scale),
        (f"abs({{0}} + {e})", moved, lambda api, v: api.np.abs(v + e)),
        (f"maximum({{0}} + {e}, 0)", moved, lambda api, v: api.np.maximum(v + e, 0.0)),
        (f"clip({{0}} + {e}, -1, 1)", moved.update(bound=min(moved.bound, 1.0)),
         lambda api, v: api.np.clip(v + e, -1.0, 1.0)),
    ]  # fmt: skip
    text, kind, apply = b.choose(options)
    return Step((i,), (kind,), apply, text)


def square(b: Builder) -> Step | None:
    """Squares, written in two ways."""
    i = b.pick_float()
    if i is None or (b.style.exact and b.style.differentiated and b.depth):
        return None
    x = b.kinds[i]
    kind = x.update(bound=x.bound**2, grain=None if x.grain is None else 2 * x.grain)
    if b.chance(0.5):
        return Step((i,), (kind,), lambda api, v: v**2, "{0}**2")
    return Step((i,), (kind,), lambda api, v: api.lax.square(v), "square({0})")


def rounding(b: Builder) -> Step | None:
    """Floor, ceil, round, sign: they jump, so only of exact values."""
    i = b.pick_exact()
    if i is None:
        return None
    x = b.kinds[i]
    e = offset(b, x)
    name = b.choose(("floor", "ceil", "sign", "trunc") + (("round",) if b.style.exact else ()))
    kind = x.update(bound=1.0 if name == "sign" else x.bound + 1.0, grain=0)

    def apply(api: Any, v: Any) -> Any:
        return getattr(api.np, name)(v + e)

    return Step((i,), (kind,), apply, f"{name}({{0}} + {e})")


SMOOTH: tuple[tuple[str, float, Apply], ...] = (
    ("sin({0})", 1.0, lambda api, v: api.np.sin(v)),
    ("cos({0})", 1.0, lambda api, v: api.np.cos(v)),
    ("tanh({0})", 1.0, lambda api, v: api.np.tanh(v)),
    ("exp({0})", 7.4, lambda api, v: api.np.exp(v)),
    ("expm1({0})", 7.4, lambda api, v: api.np.expm1(v)),
    ("logistic({0})", 1.0, lambda api, v: api.lax.logistic(v)),
    ("arctan({0})", 1.2, lambda api, v: api.np.arctan(v)),
    ("sqrt({0}**2 + 0.5)", 2.2, lambda api, v: api.np.sqrt(v * v + 0.5)),
    ("rsqrt({0}**2 + 0.5)", 1.5, lambda api, v: api.lax.rsqrt(v * v + 0.5)),
    ("log1p({0}**2)", 1.7, lambda api, v: api.np.log1p(v * v)),
    ("log({0} + 2.5)", 1.6, lambda api, v: api.np.log(v + 2.5)),
    ("1 / ({0} + 3)", 1.0, lambda api, v: 1.0 / (v + 3.0)),
    ("{0} ** 3", 8.0, lambda api, v: v**3),
    ("({0} + 2.5) ** 1.5", 10.0, lambda api, v: (v + 2.5) ** 1.5),
    ("{0} / 3", 0.7, lambda api, v: v / 3.0),
    ("erf({0})", 1.0, lambda api, v: api.lax.erf(v)),
)
"""Functions that are smooth and far from singularities between -2 and 2, with their bounds."""


def smooth(b: Builder) -> Step | None:
    """A function that rounds, of a value between -2 and 2."""
    i = b.pick_float()
    if i is None or b.style.exact:
        return None
    i = b.tame(i, 2.0)
    text, bound, apply = b.choose(SMOOTH)
    return Step((i,), (b.kinds[i].update(bound=bound, grain=None),), apply, text)


# --- binary -------------------------------------------------------------------------------------


def linear_binary(b: Builder) -> Step | None:
    """Sums and differences; integers and Booleans take part by promotion."""
    others = FLOATS if b.chance(0.8) else (*FLOATS, INT)
    found = pair(b, b.pick_float(), others)
    if found is None:
        return None
    x, y = [b.kinds[i] for i in found]
    if max(x.bound, y.bound) > 2.0**12:
        return None
    shape = common_shape(x, y)
    kind = Kind(shape or (), common_dtype(x, y), x.bound + y.bound, _grain(x.grain, y.grain))
    if b.chance(0.6):
        return Step(found, (kind,), lambda api, u, v: u + v, "{0} + {1}")
    return Step(found, (kind,), lambda api, u, v: u - v, "{0} - {1}")


def extremum(b: Builder) -> Step | None:
    """The greater or the less of two values."""
    found = pair(b, b.pick_float())
    if found is None:
        return None
    x, y = [b.kinds[i] for i in found]
    e = offset(b, x, y)
    grain = _grain(x.grain, y.grain)
    grain = grain + 1 if grain is not None and e else grain
    kind = Kind(common_shape(x, y) or (), common_dtype(x, y), max(x.bound, y.bound) + e, grain)
    name = b.choose(("maximum", "minimum"))

    def apply(api: Any, u: Any, v: Any) -> Any:
        return getattr(api.np, name)(u, v + e)

    return Step(found, (kind,), apply, f"{name}({{0}}, {{1}} + {e})")


def product(b: Builder) -> Step | None:
    """A product; not in loops of exact functions, whose derivatives would grow by its bits."""
    found = pair(b, b.pick_float())
    if found is None or (b.style.exact and b.style.differentiated and b.depth):
        return None
    x, y = [b.kinds[i] for i in found]
    exact = x.grain is not None and y.grain is not None
    grain = (x.grain or 0) + (y.grain or 0) if exact else None
    kind = Kind(common_shape(x, y) or (), common_dtype(x, y), x.bound * y.bound, grain)
    return Step(found, (kind,), lambda api, u, v: u * v, "{0} * {1}")


def quotient(b: Builder) -> Step | None:
    """A quotient whose denominator is at least 1."""
    found = pair(b, b.pick_float())
    if found is None or b.style.exact:
        return None
    x, y = [b.kinds[i] for i in found]
    kind = Kind(common_shape(x, y) or (), common_dtype(x, y), x.bound, None)
    if b.chance(0.3):
        kind = kind.update(bound=1.6)

        def apply(api: Any, u: Any, v: Any) -> Any:
            return api.np.arctan2(u, v * v + 1.0)

        return Step(found, (kind,), apply, "arctan2({0}, {1}**2 + 1)")
    return Step(found, (kind,), lambda api, u, v: u / (v * v + 1.0), "{0} / ({1}**2 + 1)")


# --- decisions ----------------------------------------------------------------------------------


def comparison(b: Builder) -> Step | None:
    """Of integers, or of exact floats that never tie where ties could break."""
    integers = b.chance(0.3)
    first = b.pick(lambda k: k.dtype == INT) if integers else b.pick_exact()
    if first is None:
        return None
    x = b.kinds[first]
    second = b.pick(
        lambda y: (
            (y.dtype == INT if integers else y.is_float and y.is_exact)
            and y is not x
            and common_shape(x, y) is not None
        )
    )
    name = b.choose(("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"))
    if second is None or b.chance(0.3):
        threshold = 1 if integers else offset(b, x) + 0.5
        kind = Kind(x.shape, "bool")

        def apply(api: Any, u: Any) -> Any:
            return getattr(api.np, name)(u, threshold)

        return Step((first,), (kind,), apply, f"{name}({{0}}, {threshold})")
    y = b.kinds[second]
    e = 0 if integers else offset(b, x, y)
    kind = Kind(common_shape(x, y) or (), "bool")

    def compare(api: Any, u: Any, v: Any) -> Any:
        return getattr(api.np, name)(u, v + e)

    return Step((first, second), (kind,), compare, f"{name}({{0}}, {{1}} + {e})")


def logical(b: Builder) -> Step | None:
    """Logic of truth values."""
    found = pair(b, b.pick(lambda k: k.dtype == "bool"), ("bool",))
    if found is None:
        return None
    x, y = [b.kinds[i] for i in found]
    kind = Kind(common_shape(x, y) or (), "bool")
    name = b.choose(("and", "or", "xor"))

    def apply(api: Any, u: Any, v: Any) -> Any:
        return getattr(api.np, f"logical_{name}")(u, v)

    return Step(found, (kind,), apply, f"logical_{name}({{0}}, {{1}})")


def where(b: Builder) -> Step | None:
    """One of two values for each element."""
    mask = b.pick(lambda k: k.dtype == "bool")
    found = pair(b, b.pick_float())
    if mask is None or found is None:
        return None
    x, y = [b.kinds[i] for i in found]
    both = Kind(common_shape(x, y) or (), common_dtype(x, y), max(x.bound, y.bound))
    shape = common_shape(b.kinds[mask], both)
    if shape is None:
        return None
    kind = both.update(shape=shape, grain=_grain(x.grain, y.grain))

    def apply(api: Any, m: Any, u: Any, v: Any) -> Any:
        return api.np.where(m, u, v)

    return Step((mask, *found), (kind,), apply, "where({0}, {1}, {2})")


# --- integers and conversions -------------------------------------------------------------------

# Signed overflow wraps and division by zero has a value, in both libraries.
_INTEGER: tuple[tuple[str, Apply], ...] = (
    ("{0} + {1}", lambda api, u, v: u + v),
    ("{0} - {1}", lambda api, u, v: u - v),
    ("{0} * {1}", lambda api, u, v: u * v),
    ("{0} & {1}", lambda api, u, v: u & v),
    ("{0} | {1}", lambda api, u, v: u | v),
    ("{0} ^ {1}", lambda api, u, v: u ^ v),
    ("minimum({0}, {1})", lambda api, u, v: api.np.minimum(u, v)),
    ("maximum({0}, {1})", lambda api, u, v: api.np.maximum(u, v)),
    ("{0} // 3 + {1}", lambda api, u, v: u // 3 + v),
    ("{0} % 5 - {1}", lambda api, u, v: u % 5 - v),
    ("{0} << ({1} & 3)", lambda api, u, v: u << (v & 3)),
    ("{0} >> ({1} & 3)", lambda api, u, v: u >> (v & 3)),
    ("{0} // ({1} * {1} + 1)", lambda api, u, v: u // (v * v + 1)),
)


def integers(b: Builder) -> Step | None:
    """Arithmetic of integers, as it wraps."""
    found = pair(b, b.pick(lambda k: k.dtype == INT), (INT,))
    if found is None:
        return None
    x, y = [b.kinds[i] for i in found]
    text, apply = b.choose(_INTEGER)
    return Step(found, (Kind(common_shape(x, y) or (), INT, WRAPPED),), apply, text)


def float_of_integer(b: Builder) -> Step | None:
    """A small float from integers or truth values."""
    i = b.pick(lambda k: k.dtype in (INT, "bool"))
    if i is None:
        return None
    x = b.kinds[i]
    dtype = b.choose(FLOATS) if b.style.wide else FLOATS[0]
    if x.dtype == "bool":
        kind = Kind(x.shape, dtype, 1.0, 0)
        return Step((i,), (kind,), lambda api, v: v.astype(dtype), f"{{0}}.astype({dtype})")
    kind = Kind(x.shape, dtype, 7.0, 1)

    def apply(api: Any, v: Any) -> Any:
        return (v & 7).astype(dtype) - 3.5

    return Step((i,), (kind,), apply, f"({{0}} & 7).astype({dtype}) - 3.5")


def integer_of_float(b: Builder) -> Step | None:
    """Integers from exact floats."""
    i = b.pick_exact()
    if i is None:
        return None
    x = b.kinds[i]
    e = offset(b, x)

    def apply(api: Any, v: Any) -> Any:
        return api.np.floor(v * 2.0 + e).astype(np.int32)

    kind = Kind(x.shape, INT, 2.0 * x.bound + 1.0)
    return Step((i,), (kind,), apply, f"floor({{0}} * 2 + {e}).astype(int32)")


def float_of_float(b: Builder) -> Step | None:
    """Another width."""
    i = b.pick_float()
    if i is None or not b.style.wide:
        return None
    dtype = b.choose(FLOATS)
    kind = b.kinds[i].update(dtype=dtype)
    return Step((i,), (kind,), lambda api, v: v.astype(dtype), f"{{0}}.astype({dtype})")


def constant(b: Builder) -> Step | None:
    """An array known when the function is traced, or a scalar."""
    shape: Shape = b.choose(((), (3,), (2, 3), (4,), b.choose(b.kinds).shape))
    dtype = b.choose((FLOATS[0], FLOATS[1] if b.style.wide else FLOATS[0], INT))
    odd = b.rng.integers(-8, 8, shape) * 2 + 1
    array = np.asarray(odd if dtype == INT else odd / 8, dtype)
    kind = Kind(shape, dtype, 16.0, 0) if dtype == INT else Kind(shape, dtype, 2.0, 3)
    shown = " ".join(f"array({array.tolist()}, {dtype})".split())

    def apply(api: Any) -> Any:
        return api.np.asarray(array)

    return Step((), (kind,), apply, shown)


RULES = (
    (3.0, exact_unary),
    (1.0, square),
    (0.5, rounding),
    (5.0, smooth),
    (4.0, linear_binary),
    (1.0, extremum),
    (3.0, product),
    (1.5, quotient),
    (1.5, comparison),
    (0.5, logical),
    (1.5, where),
    (1.5, integers),
    (0.7, float_of_integer),
    (0.7, integer_of_float),
    (0.5, float_of_float),
    (0.7, constant),
)
