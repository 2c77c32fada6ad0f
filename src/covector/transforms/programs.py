"""Programs of functions, to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.core import pytree
from covector.core.trace import aval_of, trace_program
from covector.transforms.arguments import Statics
from covector.transforms.flat import FlatFunction, check_leaves, function_name
from covector.transforms.stages import ShapeDtypeStruct, shapes_only


def make_program(
    fun: Callable[..., Any],
    static_argnums: int | Sequence[int] = (),
    *,
    return_shape: bool = False,
) -> Callable[..., Any]:
    """A function that returns the program of `fun` for given arguments.

    It is also called `make_jaxpr`, as in JAX.

    Args:
        fun: a function of pytrees of arrays.
        static_argnums: positions of arguments that are constants, and of any type.
        return_shape: return the shapes and dtypes of the output too, in its structure.

    Returns:
        A function that takes the arguments (arrays, numbers or `ShapeDtypeStruct`s) and returns
        the program, or with `return_shape` a pair.

    Raises:
        TypeError: if `fun` is no function; when called, if an argument that is not static is no
            array.
        ValueError: if a static position is out of range.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> def wave(x):
        ...     return cnp.sin(x) * 2
        >>> print(cv.make_program(wave)(cv.ShapeDtypeStruct((3,), "float32")))
        program wave(a: f32[3]) {
          b: f32[3] = sin a
          c: f32[3] = mul b 2.0:f32[]
        } -> c
    """
    if not callable(fun):
        raise TypeError(f"make_program expects a function, got {type(fun).__name__}: {fun!r:.80}")
    statics = Statics(fun, static_argnums, None)
    name = function_name(fun)

    def traced(*args: Any, **kwargs: Any) -> Any:
        numbers = {n % len(args) if n < 0 else n for n in statics.numbers}
        fixed = {i: a for i, a in enumerate(args) if i in numbers}
        dynamic = tuple([a for i, a in enumerate(args) if i not in numbers])
        given = shapes_only(dynamic, kwargs)
        check_leaves(f"make_program of {name}: arguments", given)
        leaves, tree = pytree.flatten(given)

        def merged(*own: Any, **named: Any) -> Any:
            rest = iter(own)
            every = [fixed[i] if i in fixed else next(rest) for i in range(len(args))]
            return fun(*every, **named)

        flat = FlatFunction(merged, tree, name=name)
        program, _ = trace_program(flat, [aval_of(x) for x in leaves], name)
        if not return_shape:
            return program
        infos = [ShapeDtypeStruct(a.shape, a.dtype, a.weak_type) for a in program.output_avals]
        return program, pytree.unflatten(flat.out_tree, infos)

    return traced
