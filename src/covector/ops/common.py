"""What the rules of many primitives share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.array import Array
from covector.core.avals import Aval, Linear, Zero
from covector.core.primitive import REGISTRY, Primitive
from covector.core.trace import aval_of

where: Callable[..., Any] = np.where
"""`numpy.where`, whose own stubs give results of unknown type."""

CHEAP = "cheap"
"""Tag of primitives whose results are sooner recomputed than loaded from memory."""

CHEAP_COST = 8.0
"""Instructions per element of an elementwise operation up to which it is cheap."""

_scalars: dict[Any, Array] = {}
_MAX_SCALARS = 4096


def like(x: Any, value: complex) -> Array:
    """`value` as a rank-0 array of `x`'s dtype."""
    # 0.0 and -0.0 are equal keys; their texts are not.
    key = (x.dtype, value or str(value))
    known = _scalars.get(key)
    if known is None:
        if len(_scalars) >= _MAX_SCALARS:
            _scalars.clear()
        known = _scalars[key] = Array.of(np.array(value, x.dtype), Aval((), x.dtype))
    return known


def full(aval: Aval, value: complex) -> Any:
    """An array of an aval's shape and dtype, every element `value`."""
    from covector.ops.shape import broadcast_in_dim

    dtype = aval.dtype
    if type(dtype) is dtypes.KeyDType:
        raise TypeError("PRNG keys cannot be filled with a number")
    scalar = Array.of(np.array(value, dtype), Aval((), dtype))
    if aval.shape == ():
        return scalar
    return broadcast_in_dim(scalar, shape=aval.shape, broadcast_dimensions=())


def zeros(aval: Aval) -> Any:
    """Zeros of an aval's shape and dtype."""
    return full(aval, 0)


def instantiate(tangent: Any) -> Any:
    """A tangent with symbolic zeros turned into arrays of zeros."""
    return zeros(tangent.aval) if type(tangent) is Zero else tangent


def add_tangents(a: Any, b: Any) -> Any:
    """The sum of two tangents or cotangents, symbolic zeros understood."""
    if type(a) is Zero:
        return b
    if type(b) is Zero:
        return a
    # By name: the module of `add` imports this one.
    return REGISTRY["add"](a, b)


def broadcast_to(x: Any, shape: Sequence[Any]) -> Any:
    """A rank-0 operand at every index of `shape`; others already have it."""
    from covector.ops.shape import broadcast_in_dim

    if tuple(aval_of(x).shape) == tuple(shape):
        return x
    return broadcast_in_dim(x, shape=tuple(shape), broadcast_dimensions=())


def unbroadcast(cotangent: Any, aval: Aval) -> Any:
    """A cotangent summed to the shape of the rank-0 operand that was broadcast."""
    from covector.ops.reduce import reduce_sum

    shape = aval_of(cotangent).shape
    if shape == aval.shape:
        return cotangent
    return reduce_sum(cotangent, axes=tuple(range(len(shape))))


def move_axis(x: Any, source: int, target: int) -> Any:
    """`x` with one axis moved."""
    from covector.ops.shape import transpose

    if source == target:
        return x
    order = [i for i in range(len(aval_of(x).shape)) if i != source]
    order.insert(target, source)
    return transpose(x, permutation=tuple(order))


def batch_at_front(x: Any, dim: int | None, size: Any) -> Any:
    """`x` with its batch axis first, broadcast along one if it has none."""
    from covector.ops.shape import broadcast_in_dim

    if dim is not None:
        return move_axis(x, dim, 0)
    shape = aval_of(x).shape
    dims = tuple(range(1, len(shape) + 1))
    return broadcast_in_dim(x, shape=(size, *shape), broadcast_dimensions=dims)


def front(args: Sequence[Any], dims: Sequence[int | None]) -> list[Any]:
    """Operands with their batch axis, where they have one, first."""
    return [x if d is None else move_axis(x, d, 0) for x, d in zip(args, dims, strict=True)]


def is_linear(x: Any) -> bool:
    """Whether an operand of a transpose rule is a linear one."""
    return type(x) is Linear


def linear_jvp(primitive: Primitive, ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    """The jvp of a primitive of one operand that is linear in it."""
    (x,), (t,) = primals, tangents
    return primitive(x, **params), primitive(t, **params)


class Inseparable(Exception):
    """Raised by lanes rules: the operation mixes lanes; the text says how."""


class Partial:
    """A lanes rule's answer: the result is a partial reduction over the lanes.

    Combining the results of all chunks with `operation` ("add", "mul", "max", "min", "and", "or")
    gives the whole.
    """

    __slots__ = ("operation",)

    def __init__(self, operation: str) -> None:
        self.operation = operation

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Partial) and self.operation == other.operation

    def __hash__(self) -> int:
        return hash(self.operation)

    def __repr__(self) -> str:
        return f"Partial({self.operation!r})"


class Local:
    """A lanes rule's answer: the result has no axis of lanes, and each chunk has one of its own.

    It is used as if it were the same for all lanes; nothing combines those of different chunks.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "LOCAL"


LOCAL = Local()
"""The only `Local` there is."""


class Chunk:
    """Some consecutive lanes, of those there are.

    Attributes:
        width: how many.
        offset: the number of the first one, a traced int32 scalar.
    """

    __slots__ = ("offset", "width")

    def __init__(self, width: int, offset: Any) -> None:
        self.width = width
        self.offset = offset

    def narrowed(self, shape: Sequence[Any], dim: int | None) -> tuple[Any, ...]:
        """A shape with the lanes' extent, if it has one, replaced."""
        return tuple([self.width if d == dim else n for d, n in enumerate(shape)])


def narrow_sizes(primitive: Callable[[], Primitive], name: str) -> Any:
    """A `narrow` rule: the extent of the lanes stands in a parameter, the sizes of the result.

    Args:
        primitive: gives the primitive; its block refers to the rule.
        name: of the parameter.
    """

    def narrow(chunk: Chunk, dims: Any, out_dim: Any, *operands: Any, **params: Any) -> Any:
        return primitive()(*operands, **{**params, name: chunk.narrowed(params[name], out_dim)})

    return narrow


def same_lane(dims: Sequence[int | None], *avals: Aval) -> int | None:
    """The lane dimension of an elementwise result: the operands' own, which must agree."""
    found = {d for d in dims if d is not None}
    if len(found) > 1:
        raise Inseparable(f"operands have their lanes along different axes {sorted(found)}")
    return found.pop() if found else None


def check_dtypes(name: str, avals: Sequence[Aval], kinds: str | None) -> Any:
    """The one dtype of all operands, checked against the kinds an operation is defined on.

    Args:
        name: the operation, for the message.
        avals: of the operands.
        kinds: letters of `KINDS`, or `None` for every dtype.

    Raises:
        TypeError: naming the dtypes found.
    """
    dtype = avals[0].dtype
    for aval in avals[1:]:
        if aval.dtype != dtype:
            found = ", ".join(str(a) for a in avals)
            raise TypeError(
                f"{name} requires operands of equal dtype, got {found}; "
                "convert one with lax.convert_element_type, or use covector.numpy, which promotes"
            )
    if kinds is not None and kind_of(dtype) not in kinds:
        accepted = ", ".join(KINDS[k] for k in kinds)
        raise TypeError(f"{name} does not accept {dtypes.short_name(dtype)}: it takes {accepted}")
    return dtype


KINDS = {
    "b": "bool",
    "i": "signed",
    "u": "unsigned",
    "f": "floating",
    "c": "complex",
    "k": "PRNG keys",
}
_MEMBERS: dict[str, frozenset[Any]] = {
    "b": frozenset({dtypes.bool_}),
    "i": dtypes.SIGNED,
    "u": dtypes.UNSIGNED,
    "f": dtypes.FLOATING,
    "c": dtypes.COMPLEX,
    "k": frozenset(),
}


def members(kinds: str) -> frozenset[Any]:
    """The dtypes of some kinds (letters of `KINDS`), apart from those of PRNG keys."""
    return frozenset[Any]().union(*(_MEMBERS[k] for k in kinds))


_kind_cache: dict[Any, str] = {}


def kind_of(dtype: Any) -> str:
    """One letter of `KINDS`, "k" for PRNG keys, "0" for float0."""
    kind = _kind_cache.get(dtype)
    if kind is None:
        kind = _kind_cache[dtype] = _find_kind(dtype)
    return kind


def _find_kind(dtype: Any) -> str:
    if type(dtype) is dtypes.KeyDType:
        return "k"
    if dtype.names:
        return "0"
    return "f" if dtypes.is_floating(dtype) else dtype.kind
