"""Calling Python functions from within traced and compiled ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from covector.core import dtypes, pytree
from covector.core.avals import Aval
from covector.core.trace import aval_of
from covector.lax.bodies import check_callable
from covector.ops import callback as ops
from covector.transforms.flat import check_leaves, function_name


def pure_callback(
    callback: Callable[..., Any],
    result_shape_dtypes: Any,
    *args: Any,
    sharding: Any = None,
    vmap_method: str | None = None,
    **kwargs: Any,
) -> Any:
    """Calls a Python function without side effects, compiled code included.

    The call may be left out if its result is not used, or be made more than once.

    Args:
        callback: takes arrays, returns arrays of the declared shapes and dtypes.
        result_shape_dtypes: a pytree of what has `shape` and `dtype`, such as `ShapeDtypeStruct`.
        *args: pytrees of arrays passed to the function.
        sharding: `None`: there is one device.
        vmap_method: how to apply it to a batch: "sequential" and "sequential_unrolled" call it for
            each element, "expand_dims" and "broadcast_all" call it once with a leading axis on
            every argument (of size 1 or the batch's where an argument is not batched),
            "legacy_vectorized" with a leading axis on the batched arguments alone.
        **kwargs: passed like `args`.

    Returns:
        What the function returns.

    Raises:
        ValueError: for an unknown `vmap_method`, or a sharding.
        RuntimeError: when it runs, if the function returns other shapes or dtypes than declared.

    >>> import numpy as np
    >>> import covector as cv
    >>> like = cv.ShapeDtypeStruct((), np.float32)
    >>> cv.jit(lambda x: cv.pure_callback(np.sinh, like, x))(0.0)
    Array(0., dtype=float32)
    """
    if vmap_method is not None and vmap_method not in ops.VMAP_METHODS:
        raise ValueError(
            f"pure_callback: vmap_method must be one of {', '.join(ops.VMAP_METHODS)}, "
            f"got {vmap_method!r}"
        )
    _refuse_sharding("pure_callback", sharding)
    flat, leaves, avals, tree = _prepared(
        "pure_callback", callback, result_shape_dtypes, args, kwargs
    )
    outs = ops.pure_callback(*leaves, callback=flat, result_avals=avals, vmap_method=vmap_method)
    return pytree.unflatten(tree, outs)


def io_callback(
    callback: Callable[..., Any],
    result_shape_dtypes: Any,
    *args: Any,
    sharding: Any = None,
    ordered: bool = False,
    **kwargs: Any,
) -> Any:
    """Calls a Python function with side effects, compiled code included.

    It is called once each time the program gets there, whether its result is used or not.

    Args:
        callback: takes arrays, returns arrays of the declared shapes and dtypes.
        result_shape_dtypes: a pytree of what has `shape` and `dtype`; `None` for no result.
        *args: pytrees of arrays passed to the function.
        sharding: `None`: there is one device.
        ordered: whether calls keep the order in which the program was written.
        **kwargs: passed like `args`.

    Returns:
        What the function returns.

    Raises:
        ValueError: for a sharding.
        RuntimeError: when it runs, if the function returns other shapes or dtypes than declared.

    >>> import covector as cv
    >>> cv.io_callback(lambda x: print("x is", x), None, 3)
    x is 3
    """
    _refuse_sharding("io_callback", sharding)
    flat, leaves, avals, tree = _prepared(
        "io_callback", callback, result_shape_dtypes, args, kwargs
    )
    outs = ops.io_callback(*leaves, callback=flat, result_avals=avals, ordered=bool(ordered))
    return pytree.unflatten(tree, outs)


def debug_callback(
    callback: Callable[..., Any], *args: Any, ordered: bool = False, **kwargs: Any
) -> None:
    """Calls a Python function to look at values, under any transformation.

    Under `grad` it sees primal values; under `vmap` it is called for each element of the batch.

    Args:
        callback: takes arrays; what it returns is ignored.
        *args: pytrees of arrays passed to the function.
        ordered: whether calls keep the order in which the program was written.
        **kwargs: passed like `args`.
    """

    def silent(*args: Any, **kwargs: Any) -> None:
        callback(*args, **kwargs)

    check_callable("debug_callback: callback", callback)
    silent.__name__ = function_name(callback)
    flat, leaves, _, _ = _prepared("debug_callback", silent, None, args, kwargs)
    ops.debug_callback(*leaves, callback=flat, ordered=bool(ordered))


def _refuse_sharding(what: str, sharding: Any) -> None:
    if sharding is not None:
        raise ValueError(f"{what}: sharding must be None, there is one device; got {sharding!r}")


def _prepared(
    what: str, callback: Callable[..., Any], results: Any, args: Any, kwargs: Any
) -> tuple[ops.FlatCallback, list[Any], tuple[Aval, ...], Any]:
    check_callable(f"{what}: callback", callback)
    check_leaves(f"{what}: arguments", (args, kwargs))
    leaves, tree = pytree.flatten((args, kwargs))
    structs, out_tree = pytree.flatten(results)
    avals = tuple([_declared(what, s) for s in structs])
    name = function_name(callback)

    def flat(*operands: Any) -> list[Any]:
        call_args, call_kwargs = pytree.unflatten(tree, operands)
        found, found_tree = pytree.flatten(callback(*call_args, **call_kwargs))
        if found_tree != out_tree:
            raise RuntimeError(
                f"{what}: {name} returned the pytree {found_tree} where {out_tree} was declared "
                "by result_shape_dtypes"
            )
        return found

    operand_dtypes = [aval_of(x).dtype for x in leaves]
    return ops.FlatCallback(flat, operand_dtypes, name), leaves, avals, out_tree


def _declared(what: str, struct: Any) -> Aval:
    shape, dtype = getattr(struct, "shape", None), getattr(struct, "dtype", None)
    if shape is None or dtype is None:
        raise TypeError(
            f"{what}: result_shape_dtypes must consist of objects with shape and dtype, such as "
            f"ShapeDtypeStruct; found {type(struct).__name__} {struct!r:.60}"
        )
    return Aval(tuple(shape), dtypes.requested(dtype))
