"""Functions that return their value and their backward rule."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

from covector.core import pytree
from covector.core.errors import compose
from covector.core.source import here
from covector.core.trace import aval_of, eval_program, trace_program
from covector.transforms.custom_jvp import is_pair
from covector.transforms.custom_vjp import custom_vjp
from covector.transforms.flat import FlatFunction, check_leaves, function_name


def custom_gradient(fun: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose backward rule is written within it, next to what the rule needs.

    Args:
        fun: returns `(output, rule)`; `rule(cotangent)` gives a tuple with a cotangent for each
            argument, or that of the only one. It may use whatever `fun` computed, which is what
            reverse mode keeps.

    Returns:
        A function that returns the output; other derivatives are as those of `custom_vjp`.

    Raises:
        TypeError: when it is called, if `fun` returns something else.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> from covector.custom_derivatives import custom_gradient
        >>> @custom_gradient
        ... def log1pexp(x):
        ...     e = cnp.exp(x)
        ...     return cnp.log1p(e), lambda ct: ct * (1 - 1 / (1 + e))
        >>> float(cv.grad(log1pexp)(100.0))
        1.0
    """
    name = function_name(fun)

    def both(args: Any, kwargs: Any) -> tuple[Any, Callable[..., Any]]:
        found = fun(*args, **kwargs)
        if not is_pair(found) or not callable(found[1]):
            raise TypeError(
                compose(
                    f"custom_gradient function {name} must return a pair (output, rule), the rule "
                    "a function of the output's cotangent",
                    found=f"a {type(found).__name__}",
                    line=here(),
                )
            )
        return found[0], found[1]

    def value(args: Any, kwargs: Any) -> Any:
        return both(args, kwargs)[0]

    def forward(args: Any, kwargs: Any) -> tuple[Any, pytree.Partial]:
        out, rule = both(args, kwargs)
        check_leaves(f"the output of {name}", out)
        leaves, tree = pytree.flatten(((out,), {}))
        flat = FlatFunction(rule, tree, name=f"the backward rule of {name}")
        avals = [aval_of(x).tangent() for x in leaves]
        program, captured = trace_program(flat, avals, name, capture_arrays=True)

        def backward(*values: Any) -> Any:
            return pytree.unflatten(flat.out_tree, eval_program(program, *values))

        return out, pytree.Partial(backward, *captured)

    def backward(rule: pytree.Partial, ct: Any) -> tuple[Any, None]:
        found = rule(*pytree.leaves(ct))
        several = isinstance(found, (tuple, list))
        return tuple(cast("Sequence[Any]", found)) if several else (found,), None

    value.__name__ = name
    function = custom_vjp(value)
    function.defvjp(forward, backward)

    @functools.wraps(fun)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(args, kwargs)

    return call
