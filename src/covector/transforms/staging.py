"""What steers tracing from inside of the traced function: closures, scopes, early evaluation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from covector.core import dtypes, pytree
from covector.core.avals import Aval
from covector.core.errors import compose
from covector.core.primitive import Primitive
from covector.core.source import here
from covector.core.trace import (
    Trace,
    Tracer,
    aval_of,
    current_trace,
    eval_program,
    get_trace,
    name_scope,
    set_trace,
    trace_program,
)
from covector.transforms.batching import BatchTracer
from covector.transforms.flat import FlatFunction, check_leaves, function_name


def closure_convert(
    fun: Callable[..., Any], *example_args: Any
) -> tuple[Callable[..., Any], list[Any]]:
    """A function that takes what `fun` closes over as further arguments.

    Functions with derivative rules of their own (`custom_vjp`) must have all that derivatives
    pass through as arguments. One that takes another function gets the values which that one
    closes over so.

    Args:
        fun: a pure function of pytrees of arrays.
        *example_args: arguments that have the structure, shapes and dtypes it will be called with.

    Returns:
        A function that takes these arguments and the values, and the list of values: those traced
        ones among what `fun` closes over that may carry a derivative.

    Raises:
        TypeError: when calling the result, if arguments have another structure than the example's.

    Example:
        >>> import covector as cv
        >>> def scaled(scale):
        ...     converted, values = cv.closure_convert(lambda x: scale * x, 1.0)
        ...     print(len(values))
        ...     return converted(5.0, *values)
        >>> float(cv.grad(scaled)(3.0))
        1
        5.0
    """
    name = function_name(fun)
    check_leaves(f"closure_convert of {name}: arguments", example_args)
    leaves, tree = pytree.flatten((example_args, {}))
    flat = FlatFunction(fun, tree)
    program, captured = trace_program(flat, [aval_of(x) for x in leaves], name)
    hoisted = [_may_have_tangent(value) for value in captured]
    values = [value for value, h in zip(captured, hoisted, strict=True) if h]

    def converted(*args: Any) -> Any:
        count = len(args) - len(values)
        own, found = pytree.flatten((args[:count], {}))
        if count < 0 or found != tree:
            raise TypeError(
                compose(
                    f"{name} after closure_convert takes the example's arguments and "
                    f"{len(values)} values",
                    found=f"arguments of structure {found}, the example's have {tree}",
                    line=here(),
                )
            )
        given = iter(args[count:])
        consts = [next(given) if h else c for c, h in zip(captured, hoisted, strict=True)]
        return pytree.unflatten(flat.out_tree, eval_program(program, *consts, *own))

    converted.__name__ = name
    return converted, values


def _may_have_tangent(value: Any) -> bool:
    if isinstance(value, BatchTracer):
        return _may_have_tangent(value.value)
    return isinstance(value, Tracer) and dtypes.is_inexact(value.dtype)


def named_scope(name: str) -> AbstractContextManager[None]:
    """Gives the equations traced within a name, in programs and error messages.

    Args:
        name: any text; nested scopes are joined by "/".

    Returns:
        A context manager, which also works as a decorator of functions.

    Raises:
        TypeError: if the name is no string.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> def layer(x):
        ...     with cv.named_scope("activation"):
        ...         return cnp.tanh(x)
        >>> cv.make_program(layer)(1.0).equations[0].scope
        'activation'
    """
    _check_name("named_scope", name)
    return name_scope(name)


def _check_name(what: str, name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(
            compose(
                f"{what}: the name must be a string",
                found=f"{type(name).__name__} {name!r}"[:80],
                line=here(),
            )
        )


def named_call(fun: Callable[..., Any], *, name: str | None = None) -> Callable[..., Any]:
    """A function whose equations are traced in a scope.

    Args:
        fun: any function.
        name: of the scope; that of the function by default.

    Returns:
        A function that does the same.

    Raises:
        TypeError: if the name is no string.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> program = cv.make_program(cv.named_call(cnp.sin, name="wave"))(1.0)
        >>> program.equations[0].scope
        'wave'
    """
    scope = function_name(fun) if name is None else name
    _check_name("named_call", scope)

    @functools.wraps(fun)
    def call(*args: Any, **kwargs: Any) -> Any:
        with name_scope(scope):
            return fun(*args, **kwargs)

    return call


class _EarlyTrace(Trace):
    """Evaluates what has only known operands, and leaves the rest to the parent."""

    __slots__ = ()

    def process(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        unknown = "collective" in primitive.tags or any([isinstance(a, Tracer) for a in args])
        previous = set_trace(self.parent if unknown else None)
        try:
            return primitive(*args, **params)
        finally:
            set_trace(previous)


@contextmanager
def ensure_compile_time_eval() -> Generator[None]:
    """Evaluates operations on known values at once, also where a function is traced.

    Within the block, under `jit` too, what is computed of arrays and numbers alone is an array
    whose value Python can look at. Operations on traced values are traced as ever.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> @cv.jit
        ... def f(x):
        ...     with cv.ensure_compile_time_eval():
        ...         positive = cnp.sin(3.0) > 0
        ...     return x if positive else -x
        >>> float(f(2.0))
        2.0
    """
    parent = get_trace()
    with current_trace(None if parent is None else _EarlyTrace(parent, "early evaluation")):
        yield


def typeof(x: Any) -> Aval:
    """Shape, dtype and weak type of an array, traced value or number.

    Args:
        x: what to describe.

    Raises:
        TypeError: if it is none of these.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> cv.typeof(cnp.ones((2, 3)))
        f32[2,3]
    """
    check_leaves("typeof: the argument", x)
    return aval_of(x)
