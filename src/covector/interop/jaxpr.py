"""Programs from jaxprs.

Primitives of JAX and Covector share names, parameters and meaning, so that an equation of a jaxpr
becomes the equation of the same name; the exceptions are in `covector.interop.exceptions`.
A program imported from JAX is run, transformed and compiled like any other.

Derivatives of an imported program are those of its equations: rules of `jax.custom_jvp` and
`jax.custom_vjp` are not imported, the functions that carry them are. Differentiate with JAX before
importing where that matters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from covector.core.program import Program
from covector.interop.exceptions import HANDLERS
from covector.interop.recorder import Importer, make_jaxpr
from covector.interop.values import JaxprError

__all__ = ["JaxprError", "from_jax", "from_jaxpr", "missing_primitives"]


def from_jaxpr(jaxpr: Any, name: str = "") -> Program:
    """Imports a jaxpr of JAX 0.10 or later.

    Args:
        jaxpr: what `jax.make_jaxpr(f)(*args)` returns.
        name: of the program, for display.

    Returns:
        The program; it takes and returns the flattened arguments and results, in order.

    Raises:
        JaxprError: naming the primitives that Covector lacks, with an equation of each.

    Example:
        >>> import jax
        >>> print(from_jaxpr(jax.make_jaxpr(lambda x: 2 * jax.numpy.sin(x))(1.0), "f"))
        program f(a: ~f32[]) {
          b: ~f32[] = sin a
          c: ~f32[] = mul 2.0:~f32[] b
        } -> c
    """
    importer = Importer(HANDLERS)
    program = importer.program(jaxpr, name)
    importer.raise_missing()
    return program


def from_jax(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Program:
    """Traces a function with JAX and imports the jaxpr.

    Args:
        fn: takes and returns pytrees of arrays.
        args: example arguments: arrays, or anything with a shape and dtype.
        kwargs: keyword arguments of the same kinds.

    Raises:
        JaxprError: as `from_jaxpr`.
    """
    return from_jaxpr(make_jaxpr(fn, args, kwargs), getattr(fn, "__name__", ""))


def missing_primitives(jaxpr: Any) -> list[str]:
    """The names of the primitives in a jaxpr that Covector lacks."""
    importer = Importer(HANDLERS)
    importer.program(jaxpr, "")
    return sorted(importer.missing)
