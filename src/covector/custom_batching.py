"""Batching rules of the user's own: `jax.custom_batching`'s functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from covector import lax
from covector.core import pytree
from covector.transforms.custom_vmap import custom_vmap

__all__ = ["custom_vmap", "sequential_vmap"]


def sequential_vmap(f: Callable[..., Any]) -> custom_vmap:
    """A function that `vmap` applies to one example after the other, in a loop.

    Args:
        f: a function of pytrees of arrays.

    Returns:
        The function, with a batching rule.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> from covector.custom_batching import sequential_vmap
        >>> @sequential_vmap
        ... def double(x):
        ...     return 2 * x
        >>> "scan" in str(cv.make_program(cv.vmap(double))(cnp.arange(3)))
        True
    """
    function = custom_vmap(f)

    @function.def_vmap
    def rule(axis_size: Any, in_batched: list[Any], *args: Any) -> tuple[Any, Any]:
        leaves, tree = pytree.flatten(args)
        flags = pytree.leaves(in_batched)

        def example(batched: list[Any]) -> Any:
            own = iter(batched)
            every = [next(own) if b else x for x, b in zip(leaves, flags, strict=True)]
            return function(*pytree.unflatten(tree, every))

        out = lax.map(example, [x for x, b in zip(leaves, flags, strict=True) if b])
        tree = pytree.structure(out)
        return out, pytree.unflatten(tree, [True] * tree.num_leaves)

    return function
