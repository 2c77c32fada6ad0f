"""`checkpoint`: derivatives that compute intermediate values again instead of keeping them.

Names, signatures and meanings are those of `jax.checkpoint` and `jax.ad_checkpoint`.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from covector.core import dtypes, pytree
from covector.core.avals import Aval
from covector.core.errors import UnsupportedRuleError
from covector.core.program import Atom, Equation, Literal, Program
from covector.core.trace import aval_of, trace_program
from covector.ops import policies
from covector.ops import remat as ops
from covector.ops.nested import definitions, split
from covector.ops.remat_linearize import origins
from covector.transforms.context import CONTEXT
from covector.transforms.flat import FlatFunction, check_leaves, function_name, operands

__all__ = [
    "checkpoint",
    "checkpoint_name",
    "checkpoint_policies",
    "print_saved_residuals",
    "remat",
    "saved_residuals",
]

Policy = policies.Policy


def checkpoint(
    fun: Callable[..., Any] | None = None,
    *,
    prevent_cse: bool = True,
    policy: Policy | None = None,
    static_argnums: int | Sequence[int] = (),
) -> Any:
    """A function whose intermediate values are computed again when its derivative needs them.

    Reverse mode keeps what the derivative of each operation needs until it gets there. Of a
    checkpointed function it keeps the arguments, and what `policy` allows; the rest it computes a
    second time. Used on the body of a `scan`, each iteration keeps its carry alone.

    Args:
        fun: a function of pytrees of arrays; without it, returns a decorator.
        prevent_cse: keep compilers from merging the second computation with the first, which
            would keep its values after all.
        policy: which values may be saved: a member of `checkpoint_policies`, or a function
            `(primitive, *avals, **params) -> bool` that is asked about every operation.
        static_argnums: positions of arguments that are Python values, not arrays.

    Returns:
        A function of the same arguments and results.

    Raises:
        TypeError: if an option is not what it should be.
        ValueError: when calling it, if there is no argument at a static position.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> f = cv.checkpoint(lambda x: cnp.sin(cnp.sin(x)))
        >>> print(cv.grad(f)(0.0))
        1.0
    """
    if type(prevent_cse) is not bool:
        raise TypeError(f"checkpoint: prevent_cse must be a bool, got {prevent_cse!r}")
    if policy is not None and not callable(policy):
        raise TypeError(
            f"checkpoint: policy must be a function, got {type(policy).__name__}; "
            f"choose one of checkpoint_policies: {', '.join(vars(checkpoint_policies))}"
        )
    static = _positions(static_argnums)
    params: dict[str, Any] = {"policy": policy, "prevent_cse": prevent_cse}
    if fun is None:
        return functools.partial(checkpoint, static_argnums=static, **params)
    if not callable(fun):
        raise TypeError(f"checkpoint expects a function, got {type(fun).__name__}: {fun!r}")
    name = function_name(fun)

    @functools.wraps(fun)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        inner, dynamic = _without_static(fun, name, static, args)
        leaves, tree = pytree.flatten((dynamic, kwargs))
        check_leaves(f"checkpoint of {name}: arguments", (dynamic, kwargs))
        flat = FlatFunction(inner, tree)
        program, captured = trace_program(flat, [aval_of(x) for x in leaves], name)
        outs = ops.checkpoint(*captured, *operands(leaves), program=program, **params)
        return pytree.unflatten(flat.out_tree, outs)

    return checkpointed


def _positions(static_argnums: Any) -> tuple[int, ...]:
    positions: Any = static_argnums
    if isinstance(static_argnums, int):
        positions = (static_argnums,)
    if not all([isinstance(n, int) for n in positions]):
        raise TypeError(f"checkpoint: static_argnums must be ints, got {static_argnums!r}")
    return tuple(positions)


def _without_static(
    fun: Callable[..., Any], name: str, static: Sequence[int], args: tuple[Any, ...]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The function with its static arguments fixed, and the other ones."""
    if not static:
        return fun, args
    for n in static:
        if not -len(args) <= n < len(args):
            raise ValueError(
                f"checkpoint of {name}: static_argnums={tuple(static)}, but it was called with "
                f"{len(args)} positional arguments"
            )
    fixed = {n % len(args) for n in static}

    def inner(*dynamic: Any, **kwargs: Any) -> Any:
        given = iter(dynamic)
        return fun(*[a if k in fixed else next(given) for k, a in enumerate(args)], **kwargs)

    inner.__name__ = name
    return inner, tuple([a for k, a in enumerate(args) if k not in fixed])


remat = checkpoint


def checkpoint_name(x: Any, name: str) -> Any:
    """Gives values a name that policies of `checkpoint` know them by.

    Args:
        x: a pytree of arrays.
        name: several values may share one.

    Returns:
        `x`; it is these values that a policy saves, so use them in what follows.

    Raises:
        TypeError: if the name is not a string.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> def f(x):
        ...     return cnp.sin(cv.checkpoint_name(cnp.sin(x), "inner"))
        >>> policy = cv.checkpoint_policies.save_only_these_names("inner")
        >>> print(cv.grad(cv.checkpoint(f, policy=policy))(0.0))
        1.0
    """
    if type(name) is not str:
        raise TypeError(f"checkpoint_name: the name must be a string, got {name!r}")
    check_leaves(f"checkpoint_name {name!r}", x)
    leaves, tree = pytree.flatten(x)
    return pytree.unflatten(tree, [ops.name_value(leaf, name=name) for leaf in operands(leaves)])


# --- policies -------------------------------------------------------------------------------------


def save_only_these_names(*names_which_can_be_saved: str) -> Policy:
    """Values named by `checkpoint_name` may be saved if their name is one of these."""
    return policies.Names(tuple(names_which_can_be_saved), listed=True, unnamed=False)


def save_any_names_but_these(*names_not_to_save: str) -> Policy:
    """Values named by `checkpoint_name` may be saved unless their name is one of these."""
    return policies.Names(tuple(names_not_to_save), listed=False, unnamed=False)


def save_anything_except_these_names(*names_not_to_save: str) -> Policy:
    """All values may be saved except those named by `checkpoint_name` with one of these names."""
    return policies.Names(tuple(names_not_to_save), listed=False, unnamed=True)


def save_from_both_policies(policy_1: Policy, policy_2: Policy) -> Policy:
    """What one or the other of two policies allows may be saved."""
    return policies.EitherPolicy(policy_1, policy_2)


def _no_offloading(*args: Any, **kwargs: Any) -> NoReturn:
    raise UnsupportedRuleError(
        "offloading residuals to another memory is not supported: a CPU has one memory; "
        "use dots_with_no_batch_dims_saveable or save_only_these_names to keep them in it"
    )


checkpoint_policies = types.SimpleNamespace(
    everything_saveable=policies.Everything(),
    nothing_saveable=policies.Nothing(),
    dots_saveable=policies.Dots(only_without_batch=False),
    checkpoint_dots=policies.Dots(only_without_batch=False),
    dots_with_no_batch_dims_saveable=policies.Dots(only_without_batch=True),
    checkpoint_dots_with_no_batch_dims=policies.Dots(only_without_batch=True),
    offload_dot_with_no_batch_dims=_no_offloading,
    save_anything_except_these_names=save_anything_except_these_names,
    save_any_names_but_these=save_any_names_but_these,
    save_only_these_names=save_only_these_names,
    save_from_both_policies=save_from_both_policies,
    save_and_offload_only_these_names=_no_offloading,
)
"""What `checkpoint` takes as `policy`; names and meanings are those of JAX."""


# --- what is saved --------------------------------------------------------------------------------


def saved_residuals(f: Callable[..., Any], *args: Any, **kwargs: Any) -> list[tuple[Aval, str]]:
    """The values that the derivative of a function keeps from its evaluation.

    Args:
        f: a function of pytrees of arrays.
        *args: its arguments, or anything with their shapes and dtypes.
        **kwargs: keyword arguments.

    Returns:
        For each value its shape and dtype, and where it comes from.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> from covector import ad_checkpoint
        >>> f = cv.checkpoint(lambda x: cnp.sin(cnp.sin(x)))
        >>> ad_checkpoint.saved_residuals(f, 1.0)
        [(~f32[], 'from the argument args[0]')]
    """
    leaves, tree = pytree.flatten((args, kwargs))
    avals = [_described(x) for x in leaves]
    flat = FlatFunction(f, tree)
    program, captured = trace_program(flat, avals, function_name(f))
    nonzero = [dtypes.is_inexact(v.aval.dtype) for v in program.inputs]
    body = CONTEXT.linearize(program, nonzero)
    _, residuals = split(body.known.outputs, len(program.outputs))
    names = ["a closed-over value"] * len(captured)
    names += [f"the argument {_path(p)}" for p, _ in pytree.leaves_with_path((args, kwargs))]
    found: dict[Atom, str] = {}
    for atom in residuals:
        found.setdefault(atom, _origin(body.known, atom, names))
    return [(atom.aval, origin) for atom, origin in found.items()]


def _described(x: Any) -> Aval:
    if hasattr(x, "shape") and hasattr(x, "dtype") and not hasattr(x, "aval"):
        return Aval(tuple(x.shape), dtypes.canonicalize(x.dtype))
    return aval_of(x) if not isinstance(getattr(x, "aval", None), Aval) else x.aval


def _path(path: Any) -> str:
    text = pytree.keystr(path)
    return ("args" if text.startswith("[0]") else "kwargs") + text[3:]


def _origin(known: Program, atom: Atom, names: Sequence[str]) -> str:
    if isinstance(atom, Literal):
        return "a constant"
    if atom in known.inputs:
        return f"from {names[known.inputs.index(atom)]}"
    equation: Equation = definitions(known)[atom]
    equation = next(origins(equation, equation.outputs.index(atom)))
    at = f" at {equation.location}" if equation.location else ""
    if equation.primitive.name == "name":
        return f"named {equation.params['name']!r}{at}"
    return f"output of {equation.primitive.name}{at}"


def print_saved_residuals(f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Prints the values that the derivative of a function keeps, one a line.

    Args:
        f: a function of pytrees of arrays.
        *args: its arguments.
        **kwargs: keyword arguments.
    """
    for aval, origin in saved_residuals(f, *args, **kwargs):
        print(aval, origin)
