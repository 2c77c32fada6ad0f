"""What variables of kernels hold besides scalars, and the dry run that finds their types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, cast

import numpy as np

import covector.numpy as cnp
from covector.core.array import as_array
from covector.core.avals import Aval
from covector.core.operand import Operand
from covector.core.primitive import Primitive
from covector.core.trace import Trace, Tracer, aval_of, get_trace, set_trace
from covector.extend.kernel_names import is_number
from covector.ops.convert import convert_element_type

MAX_LOCAL = 64
"""Elements of a local array, all of which are kept in registers."""


class Undefined:
    """A variable that may not have a value.

    Args:
        why: how that can be; a clause.
    """

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why


class LocalArray(NamedTuple):
    """A small array of a kernel: its shape, and its elements in row-major order."""

    shape: tuple[int, ...]
    values: tuple[Any, ...]

    def position(self, index: Sequence[int]) -> int:
        """Where an element is, given an index whose negative parts count from the end."""
        number = 0
        for i, n in zip(index, self.shape, strict=True):
            if not -n <= i < n:
                raise IndexError(f"index {i} is out of bounds for an axis of {n} elements")
            number = number * n + i % n
        return number


class ScalarType(NamedTuple):
    """The type of a scalar: what promotion needs to know of it."""

    dtype: Any
    weak: bool


class DryTracer(Tracer):
    """A scalar of which only the type is known."""

    __slots__ = ()

    def __init__(self, trace: Trace, aval: Aval) -> None:
        self._trace = trace
        self.aval = aval


class DryTrace(Trace):
    """Computes the types of results and nothing else."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(get_trace(), "a dry run of a kernel")

    def process(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        if primitive.prepare is not None:
            args, params = primitive.prepare(args, params)
        avals = primitive.shape(*[aval_of(a) for a in args], **params)
        if primitive.multiple_results:
            return [DryTracer(self, aval) for aval in avals]
        return DryTracer(self, avals)


def items_of(value: Any) -> tuple[Any, ...]:
    """The items of a tuple or list."""
    return tuple(cast("Sequence[Any]", value))


def type_of(value: Any) -> Any:
    """The type of a variable's value: that of a scalar, or a structure of them.

    Raises:
        TypeError: if it is no number and no structure of numbers.
    """
    if isinstance(value, LocalArray):
        return LocalArray(value.shape, tuple([type_of(v) for v in value.values]))
    if isinstance(value, tuple):
        return tuple([type_of(v) for v in items_of(value)])
    if isinstance(value, Operand) or is_number(value):
        aval = aval_of(value)
        return ScalarType(aval.dtype, aval.weak_type)
    raise TypeError(f"a variable that changes must be a number, found {type(value).__name__}")


def example(type_: ScalarType, trace: DryTrace) -> DryTracer:
    """A value of a type."""
    return DryTracer(trace, Aval((), type_.dtype, type_.weak))


def converted(value: Any, type_: ScalarType) -> Any:
    """A scalar as one of another type."""
    value = value if isinstance(value, Operand) else as_array(value)
    aval = aval_of(value)
    if aval.dtype == type_.dtype and aval.weak_type == type_.weak:
        return value
    return convert_element_type(value, new_dtype=type_.dtype, weak_type=type_.weak)


def joined(a: ScalarType, b: ScalarType) -> ScalarType:
    """The type that two promote to."""
    if a == b:
        return a
    trace = DryTrace()
    previous = set_trace(trace)
    try:
        result = aval_of(cnp.where(True, example(a, trace), example(b, trace)))
    finally:
        set_trace(previous)
    return ScalarType(result.dtype, a.weak and b.weak)


def flatten(value: Any) -> list[Any]:
    """The scalars of a value, or the types of one's type."""
    if isinstance(value, LocalArray):
        return list(value.values)
    if isinstance(value, tuple) and not isinstance(value, ScalarType):
        return [leaf for item in items_of(value) for leaf in flatten(item)]
    return [value]


def rebuild(like: Any, scalars: Any) -> Any:
    """A value of the structure of another from an iterator of scalars."""
    if isinstance(like, LocalArray):
        return LocalArray(like.shape, tuple([next(scalars) for _ in like.values]))
    if isinstance(like, tuple) and not isinstance(like, ScalarType):
        return tuple([rebuild(item, scalars) for item in items_of(like)])
    return next(scalars)


def combined(a: Any, b: Any, combine: Callable[[Any, Any], Any], problem: Any) -> Any:
    """Two values of one structure combined scalar by scalar.

    Args:
        a: first.
        b: second.
        combine: of two scalars.
        problem: called with both if their structures differ; raises.
    """
    first, second = flatten(a), flatten(b)
    alike = type(a) is type(b) or (not isinstance(a, tuple) and not isinstance(b, tuple))
    shapes = isinstance(a, LocalArray) and isinstance(b, LocalArray) and a.shape != b.shape
    if not alike or shapes or len(first) != len(second):
        problem(a, b)
    return rebuild(a, iter([combine(x, y) for x, y in zip(first, second, strict=True)]))


def same_constant(a: Any, b: Any) -> bool:
    """Whether two values are one, as far as is known while compiling."""
    if a is b:
        return True
    return is_number(a) and type(a) is type(b) and (a == b or bool(a != a and b != b))


def local_array(shape: Any, value: Any) -> LocalArray:
    """An array filled with a value.

    Raises:
        ValueError: if it is too large, or its size is not known.
    """
    sizes = items_of(shape) if isinstance(shape, tuple) else (shape,)
    if not all([type(n) is int and n > 0 for n in sizes]):
        raise ValueError(f"the size of a local array is known while compiling, found {shape!r}")
    count = int(np.prod(sizes))
    if count > MAX_LOCAL:
        too_large(count)
    return LocalArray(sizes, (value,) * count)


def too_large(count: int) -> NoReturn:
    """Raises the error for arrays that do not fit into registers."""
    raise ValueError(
        f"a local array has at most {MAX_LOCAL} elements, found {count}: make it an operand or "
        "a result of an array_kernel"
    )


def closed_over(array: np.ndarray[Any, Any]) -> LocalArray:
    """A constant array that a kernel closes over."""
    if array.size > MAX_LOCAL:
        too_large(array.size)
    return LocalArray(array.shape, tuple([x[()] for x in array.reshape(-1)]))
