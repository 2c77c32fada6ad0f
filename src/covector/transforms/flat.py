"""From functions of pytrees to functions of flat operands and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from covector.core import pytree
from covector.core.array import Array, as_array
from covector.core.errors import compose
from covector.core.source import here
from covector.core.trace import Tracer


def named_like(wrapper: Any, fun: Callable[..., Any], prefix: str) -> Any:
    """`wrapper`, presented as the transformed `fun`."""
    name = function_name(fun)
    wrapper.__name__ = f"{prefix}({name})"
    wrapper.__qualname__ = wrapper.__name__
    wrapper.__doc__ = getattr(fun, "__doc__", None)
    wrapper.__wrapped__ = fun
    return wrapper


def function_name(fun: Any) -> str:
    """What to call a function in messages."""
    inner = getattr(fun, "func", fun)  # functools.partial
    return getattr(inner, "__name__", type(inner).__name__)


_SCALARS = (bool, int, float, complex, np.generic, np.ndarray)


def check_leaves(what: str, tree: Any) -> None:
    """Raises unless every leaf is an array or a number.

    Args:
        what: the call and what was passed, for the message: "grad of f: argument 0".
        tree: the pytree.

    Raises:
        TypeError: naming the key path and type of the first leaf that is neither.
    """
    for path, leaf in pytree.leaves_with_path(tree):
        if not isinstance(leaf, (Array, Tracer, *_SCALARS)):
            raise TypeError(
                compose(
                    f"{what} must consist of arrays and numbers",
                    found=f"{type(leaf).__name__} {_short(leaf)} at {pytree.keystr(path) or 'top'}",
                    fix="mark it static (static_argnums of jit), close over it, "
                    "or register its class as a pytree",
                    line=here(),
                )
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def operands(leaves: Sequence[Any]) -> list[Any]:
    """Leaves as arrays and tracers, which rules of primitives can ask for their dtype."""
    return [x if isinstance(x, (Array, Tracer)) else as_array(x) for x in leaves]


class FlatFunction:
    """A function of flat operands around one of pytrees; remembers the output's structure.

    Args:
        fun: the function of pytrees.
        tree: the structure of `(args, kwargs)`.
        has_aux: `fun` returns a pair whose second part is auxiliary data.
        name: what to call it in messages; by default its own name.
    """

    __slots__ = ("aux", "fun", "has_aux", "name", "out_tree", "tree")

    def __init__(
        self, fun: Callable[..., Any], tree: Any, has_aux: bool = False, name: str | None = None
    ) -> None:
        self.fun = fun
        self.name = function_name(fun) if name is None else name
        self.tree = tree
        self.has_aux = has_aux
        self.out_tree: Any = None
        self.aux: Any = None

    def __call__(self, *flat: Any) -> list[Any]:
        args, kwargs = pytree.unflatten(self.tree, flat)
        out = self.fun(*args, **kwargs)
        if self.has_aux:
            pair = cast("tuple[Any, ...]", out)
            if not isinstance(out, tuple) or len(pair) != 2:
                raise TypeError(
                    f"{self.name} must return a pair (output, aux) with "
                    f"has_aux=True, got {type(pair).__name__}"
                )
            out, self.aux = pair
        leaves, self.out_tree = pytree.flatten(out)
        check_leaves(f"the output of {self.name}", out)
        return leaves


def release_aux(fn: Callable[..., Any], split: Callable[[Sequence[Any]], Any]) -> None:
    """Replaces a finished trace's tracers in the auxiliary data of `fn` by their primals.

    Args:
        fn: what was traced; nothing happens unless it is a `FlatFunction` with auxiliary data.
        split: gives the primals of a list of values first.
    """
    if isinstance(fn, FlatFunction) and fn.has_aux:
        leaves, tree = pytree.flatten(fn.aux)
        which = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tracer)]
        for i, primal in zip(which, split([leaves[i] for i in which])[0], strict=True):
            leaves[i] = primal
        fn.aux = pytree.unflatten(tree, leaves)


def split_args(
    fun: Callable[..., Any], argnums: Sequence[int], args: Sequence[Any]
) -> tuple[Callable[..., Any], list[Any]]:
    """`fun` as a function of the chosen positional arguments, and those arguments."""
    chosen = [args[i] for i in argnums]

    def partial(*dynamic: Any, **kwargs: Any) -> Any:
        full = list(args)
        for i, value in zip(argnums, dynamic, strict=True):
            full[i] = value
        return fun(*full, **kwargs)

    partial.__name__ = function_name(fun)
    return partial, chosen


def normalize_argnums(what: str, argnums: int | Sequence[int], count: int) -> tuple[int, ...]:
    """Argument positions as a tuple of non-negative ints.

    Raises:
        ValueError: if a position is out of range.
    """
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for n in numbers:
        if not -count <= n < count:
            raise ValueError(f"{what}: argnums={argnums} but only {count} positional arguments")
    return tuple(n % count for n in numbers)
