"""Structured control flow: loops and branches that transformations and the compiler understand.

Names, signatures and meanings are those of `jax.lax`.
"""

from __future__ import annotations

import builtins
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes, promotion, pytree
from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.config import config
from covector.core.dims import Dim
from covector.core.source import here
from covector.core.trace import Tracer, aval_of
from covector.lax.associative import associative_scan
from covector.lax.bodies import (
    Body,
    check_callable,
    check_carry_types,
    check_structure,
    trace_body,
)
from covector.lax.branches import cond, switch
from covector.lax.loop_options import loop_options
from covector.ops import scan as scan_ops
from covector.ops import while_ as while_ops
from covector.ops.elementwise import convert_element_type
from covector.ops.pieces import concatenate, stack
from covector.ops.shape import reshape
from covector.ops.slices import slice_in_dim
from covector.transforms.batching import vmap
from covector.transforms.flat import check_leaves

__all__ = [
    "associative_scan",
    "cond",
    "fori_loop",
    "map",
    "scan",
    "switch",
    "while_loop",
]

Adapter = Callable[[Any], Callable[..., Any]]

# --- scan -----------------------------------------------------------------------------------------


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    remat: bool | str | int | Sequence[int] | None = None,
) -> tuple[Any, Any]:
    """Runs a function over the leading axis of arrays while carrying state.

    With lists in place of arrays, it does this:

    ```python
    def scan(f, init, xs):
        carry, ys = init, []
        for x in xs:
            carry, y = f(carry, x)
            ys.append(y)
        return carry, stack(ys)
    ```

    The function is traced once, and the loop is native.

    Args:
        f: takes the carry and one element of `xs`, returns the next carry and an output. The carry
            keeps its pytree structure, shapes and dtypes.
        init: the first carry, a pytree of arrays and numbers.
        xs: a pytree of arrays with equal sizes of their leading axis; `None` for none.
        length: how many iterations; needed only without `xs`.
        reverse: run from the last element to the first; outputs keep the places of their elements.
        unroll: how many iterations the loop body repeats; `True` for all.
        remat: how reverse mode keeps what it needs of n iterations. The loop can be cut into
            segments: the carry at the start of each is kept, and a segment is run again when the
            backward pass gets there. `True` cuts it where memory is least, near the square root of
            n, for one more forward pass; "log" cuts segments into segments, for memory of order
            log(n) and as many passes; a number is how many segments there are; a sequence how many
            at each level. `False` keeps all. `None` does so up to the setting `tape_bytes`, and
            beyond it cuts the loop into as few levels as keep within it. Derivatives are the same.
            What is kept of an iteration is up to `checkpoint` around `f`.

    Returns:
        The last carry and the outputs stacked along a new leading axis.

    Raises:
        TypeError: if the carry changes its structure or a type; the message names the component.
        ValueError: if the leading axes differ in size, there is no length at all, or `remat` is not
            a choice there is.

    >>> import covector.numpy as cnp
    >>> from covector import lax
    >>> lax.scan(lambda total, x: (total + x, total), 0, cnp.arange(4))
    (Array(6, dtype=int32), Array([0, 0, 1, 3], dtype=int32, weak_type=True))
    """
    check_callable("lax.scan: f", f)
    check_leaves("lax.scan: init", init)
    check_leaves("lax.scan: xs", xs)
    size = _scan_length(xs, length)
    options = loop_options("scan", unroll, remat, size)
    return _scan("scan", f, None, init, xs, size, reverse, options)


def _scan(
    what: str,
    f: Callable[..., Any],
    adapt: Adapter | None,
    init: Any,
    xs: Any,
    length: Any,
    reverse: bool,
    options: dict[str, Any],
) -> tuple[Any, Any]:
    if config.disable_jit:
        return _scan_in_python(f if adapt is None else adapt(f), init, xs, length, reverse)
    carry, carry_tree = pytree.flatten(init)
    stacks = pytree.leaves(xs)
    args = pytree.structure((init, xs))
    elements = [_element(aval_of(x)) for x in stacks]
    named = f if adapt is None else None

    def traced(avals: Sequence[Aval]) -> tuple[Body, Any, list[Aval]]:
        body = trace_body(f"{what} body", f, args, [*avals, *elements], adapt)
        carry_out, ys = _pair(what, body)
        check_structure(what, named, carry_tree, carry_out)
        return body, ys, body.avals[: len(carry)]

    carry, body, ys_tree = _settled(what, named, carry_tree, carry, traced)
    outs = scan_ops.scan(
        *(*body.captured, *carry, *stacks),
        program=body.program,
        num_consts=len(body.captured),
        num_carry=len(carry),
        length=length,
        reverse=bool(reverse),
        **options,
    )
    last, ys = outs[: len(carry)], outs[len(carry) :]
    return pytree.unflatten(carry_tree, last), pytree.unflatten(ys_tree, ys)


def _settled(
    what: str, named: Any, tree: Any, carry: list[Any], traced: Callable[..., Any]
) -> tuple[list[Any], Body, Any]:
    """Traces a body until the types of its carry stay the same.

    A weakly typed carry, such as a Python number, gives way to what the body makes of it.
    """
    while True:
        avals = [aval_of(x) for x in carry]
        body, extra, found = traced(avals)
        promoted = [_promoted(x, a, b) for x, a, b in zip(carry, avals, found, strict=True)]
        if builtins.all([p is x for p, x in zip(promoted, carry, strict=True)]):
            check_carry_types(what, named, tree, avals, found)
            return carry, body, extra
        carry = promoted


def _promoted(value: Any, before: Aval, after: Aval) -> Any:
    if not before.weak_type or before.dtype == after.dtype:
        return value
    dtype, _ = promotion.lattice_result([(before.dtype, True), (after.dtype, after.weak_type)])
    if dtype == before.dtype:
        return value
    return convert_element_type(value, new_dtype=dtype, weak_type=after.weak_type)


def _pair(what: str, body: Body) -> tuple[Any, Any]:
    tree = body.out_tree
    if tree.type not in (tuple, list) or tree.num_children != 2:
        raise TypeError(
            f"{what} body output must be a pair (carry, output), got {tree}; "
            f"return None as the output if there is none\n  at: {here()}"
        )
    return tuple(tree.children())  # type: ignore[return-value]


def _element(aval: Aval) -> Aval:
    return Aval(aval.shape[1:], aval.dtype, aval.weak_type)


def _scan_length(xs: Any, length: Any) -> Any:
    leaves = pytree.leaves_with_path(xs)
    sizes: list[Any] = []
    for path, leaf in leaves:
        aval = aval_of(leaf)
        if not aval.shape:
            raise ValueError(
                f"scan got a value without a leading axis to scan over: {aval} at "
                f"xs{pytree.keystr(path)}; pass it through the carry or close over it"
            )
        sizes.append(aval.shape[0])
    if length is not None and not isinstance(length, Dim):
        try:
            length = operator.index(length)
        except TypeError:
            raise TypeError(
                f"scan: length must be an int, got {type(length).__name__} {length!r:.60}"
            ) from None
        if length < 0:
            raise ValueError(f"scan: length must not be negative, got {length}")
    if length is None and not sizes:
        raise ValueError("scan got no values to scan over and `length` was not given")
    if builtins.any([s != sizes[0] for s in sizes]):
        found = ", ".join(
            f"xs{pytree.keystr(path)}: {s}" for (path, _), s in zip(leaves, sizes, strict=True)
        )
        raise ValueError(f"scan got values with different leading axis sizes: {found}")
    if length is not None and sizes and sizes[0] != length:
        raise ValueError(
            f"scan got `length` argument of {length} which disagrees with the leading axis size "
            f"{sizes[0]} of xs"
        )
    return sizes[0] if length is None else length


def _scan_in_python(
    f: Callable[..., Any], init: Any, xs: Any, length: Any, reverse: bool
) -> tuple[Any, Any]:
    if length == 0:
        raise ValueError(
            "a scan of length 0 is not possible with disable_jit: nothing says what it outputs"
        )
    carry, outputs = init, list[Any]()
    for i in reversed(range(length)) if reverse else range(length):
        carry, y = f(carry, pytree.map(functools.partial(_row, i), xs))
        outputs.append(y)
    if reverse:
        outputs.reverse()
    return carry, pytree.map(_stacked, *outputs)


def _stacked(*ys: Any) -> Any:
    return stack(*ys, axis=0)


def _row(i: int, x: Any) -> Any:
    return reshape(slice_in_dim(x, i, i + 1, 0), new_sizes=aval_of(x).shape[1:], dimensions=None)


# --- while_loop -----------------------------------------------------------------------------------


def while_loop(
    cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any
) -> Any:
    """Runs a function on state for as long as a condition on the state holds.

    ```python
    def while_loop(cond_fun, body_fun, init_val):
        val = init_val
        while cond_fun(val):
            val = body_fun(val)
        return val
    ```

    Both functions are traced once, and the loop is native. Reverse-mode differentiation works in
    bounded memory: it keeps some of the states, and computes others again.

    Args:
        cond_fun: takes the state, returns a bool.
        body_fun: takes the state, returns the next one, with the same structure and types.
        init_val: the first state, a pytree of arrays and numbers.

    Returns:
        The first state for which the condition does not hold.

    Raises:
        TypeError: if the condition is not a bool, or the state changes its structure or a type.

    >>> from covector import lax
    >>> lax.while_loop(lambda x: x < 100, lambda x: x * 3, 1)
    Array(243, dtype=int32, weak_type=True)
    """
    check_callable("lax.while_loop: cond_fun", cond_fun)
    check_callable("lax.while_loop: body_fun", body_fun)
    check_leaves("lax.while_loop: init_val", init_val)
    return _while("while_loop", cond_fun, body_fun, None, init_val)


def _while(
    what: str,
    cond_fun: Callable[..., Any],
    body_fun: Callable[..., Any],
    adapt: Adapter | None,
    init: Any,
) -> Any:
    if config.disable_jit:
        step = body_fun if adapt is None else adapt(body_fun)
        value = init
        while cond_fun(value):
            value = step(value)
        return value
    carry, tree = pytree.flatten(init)
    args = pytree.structure((init,))
    named = body_fun if adapt is None else None

    def traced(avals: Sequence[Aval]) -> tuple[Body, Body, list[Aval]]:
        condition = trace_body(f"{what} condition", cond_fun, args, avals)
        _check_condition(condition)
        body = trace_body(f"{what} body", body_fun, args, avals, adapt)
        check_structure(what, named, tree, body.out_tree)
        return body, condition, body.avals

    carry, body, condition = _settled(what, named, tree, carry, traced)
    outs = while_ops.while_(
        *(*condition.captured, *body.captured, *carry),
        cond_program=condition.program,
        cond_nconsts=len(condition.captured),
        body_program=body.program,
        body_nconsts=len(body.captured),
    )
    return pytree.unflatten(tree, outs)


def _check_condition(condition: Body) -> None:
    avals = condition.avals
    if condition.out_tree.num_nodes != 1 or len(avals) != 1:
        raise TypeError(
            f"cond_fun must return a boolean scalar, but got pytree {condition.out_tree}"
            f"\n  at: {here()}"
        )
    if avals[0].shape != () or avals[0].dtype != dtypes.bool_:
        raise TypeError(
            f"cond_fun must return a boolean scalar, but got {avals[0]}; compare with a number, "
            f"or reduce with any() or all()\n  at: {here()}"
        )


# --- fori_loop ------------------------------------------------------------------------------------


def fori_loop(
    lower: Any,
    upper: Any,
    body_fun: Callable[[Any, Any], Any],
    init_val: Any,
    *,
    unroll: int | bool | None = None,
    remat: bool | str | int | Sequence[int] | None = None,
) -> Any:
    """Runs a function on an index and state, for the indices from `lower` to `upper`.

    ```python
    def fori_loop(lower, upper, body_fun, init_val):
        val = init_val
        for i in range(lower, upper):
            val = body_fun(i, val)
        return val
    ```

    Args:
        lower: first index.
        upper: index after the last; both may be traced.
        body_fun: takes the index and the state, returns the next state.
        init_val: the first state, a pytree of arrays and numbers.
        unroll: as for `scan`; only with bounds known while tracing.
        remat: as for `scan`; only with bounds known while tracing. With others, reverse mode keeps
            a limited number of states, whatever the bounds.

    Returns:
        The last state.

    Raises:
        TypeError: if the bounds are not integers of one type, or the state changes its structure
            or a type.
        ValueError: if `unroll` or `remat` is given with bounds that are not known while tracing.

    >>> from covector import lax
    >>> lax.fori_loop(0, 5, lambda i, total: total + i, 0)
    Array(10, dtype=int32, weak_type=True)
    """
    check_callable("lax.fori_loop: body_fun", body_fun)
    check_leaves("lax.fori_loop: init_val", init_val)
    dtype = _bounds_dtype(aval_of(lower), aval_of(upper))
    first, last = _known_integer(lower), _known_integer(upper)
    if first is not None and last is not None:
        length = max(last - first, 0)
        if config.disable_jit and length == 0:
            return init_val
        options = loop_options("fori_loop", 1 if unroll is None else unroll, remat, length)
        init = (_counter(lower, first, dtype), init_val)
        (_, result), _ = _scan(
            "fori_loop", body_fun, _counting_scan, init, None, length, False, options
        )
        return result
    for name, value in (("unroll", unroll), ("remat", remat)):
        if value is None:
            continue
        raise ValueError(
            f"fori_loop: {name} needs bounds that are known while tracing; "
            f"got lower {aval_of(lower)} and upper {aval_of(upper)}"
        )
    bounds = [
        x if aval_of(x).dtype == dtype else convert_element_type(x, new_dtype=dtype)
        for x in (lower, upper)
    ]
    _, _, result = _while("fori_loop", _below, body_fun, _counting, (*bounds, init_val))
    return result


def _counting_scan(body_fun: Any) -> Callable[..., Any]:
    def step(carry: Any, _: Any) -> Any:
        i, value = carry
        return (i + 1, body_fun(i, value)), None

    return step


def _counting(body_fun: Any) -> Callable[..., Any]:
    def step(carry: Any) -> Any:
        i, upper, value = carry
        return i + 1, upper, body_fun(i, value)

    return step


def _below(carry: Any) -> Any:
    i, upper, _ = carry
    return i < upper


def _bounds_dtype(lower: Aval, upper: Aval) -> Any:
    for name, aval in (("lower", lower), ("upper", upper)):
        if aval.shape != () or not dtypes.is_integer(aval.dtype):
            raise TypeError(f"fori_loop: {name} must be an integer scalar, got {aval}")
    if lower.dtype == upper.dtype:
        return lower.dtype
    if dtypes.is_signed(lower.dtype) and dtypes.is_signed(upper.dtype):
        if lower.weak_type and not upper.weak_type:
            return upper.dtype
        if upper.weak_type and not lower.weak_type:
            return lower.dtype
    raise TypeError(
        "lower and upper arguments to fori_loop must have equal types, got "
        f"{lower.dtype.name} and {upper.dtype.name}; convert one with astype"
    )


def _known_integer(bound: Any) -> int | None:
    if isinstance(bound, Tracer):
        bound = bound.concrete()
        if bound is None:
            return None
    return int(bound)


def _counter(lower: Any, first: int, dtype: Any) -> Array:
    """The first index as an array, weakly typed where the bound is a Python number.

    If it takes the other bound's dtype, it is of that dtype for good, as it is while tracing.
    """
    aval = aval_of(lower)
    weak = aval.weak_type and aval.dtype == dtype
    return Array.of(np.array(first, dtype), Aval((), dtype, weak))


# --- map ------------------------------------------------------------------------------------------


def map(f: Callable[..., Any], xs: Any, *, batch_size: int | None = None) -> Any:
    """Applies a function to each element along the leading axis, one after the other.

    Less memory than `vmap`, which takes all elements at once; with `batch_size` so many at once.

    Args:
        f: takes one element of `xs`.
        xs: a pytree of arrays with equal sizes of their leading axis.
        batch_size: how many elements to apply `f` to at once, by `vmap`.

    Returns:
        The results, stacked along a new leading axis.

    Raises:
        ValueError: if leading axes differ in size, or `batch_size` is not positive.

    >>> import covector.numpy as cnp
    >>> from covector import lax
    >>> lax.map(lambda x: x * x, cnp.arange(4))
    Array([0, 1, 4, 9], dtype=int32)
    """
    check_callable("lax.map: f", f)
    check_leaves("lax.map: xs", xs)
    length = _scan_length(xs, None)
    if batch_size is None:
        return _scan("map", f, _mapping, (), xs, length, False, {"unroll": 1})[1]
    if batch_size < 1:
        raise ValueError(f"lax.map: batch_size must be positive, got {batch_size}")
    whole, rest = divmod(length, batch_size)
    if whole == 0:
        return vmap(f)(xs)
    batches = pytree.map(functools.partial(_in_batches, whole, batch_size), xs)
    outs = _scan("map", f, _mapping_batches, (), batches, whole, False, {"unroll": 1})[1]
    outs = pytree.map(functools.partial(_joined, whole * batch_size), outs)
    if rest == 0:
        return outs
    last = vmap(f)(pytree.map(functools.partial(_last, rest), xs))
    return pytree.map(_appended, outs, last)


def _mapping(f: Any) -> Callable[..., Any]:
    def body(_: Any, x: Any) -> Any:
        return (), f(x)

    return body


def _mapping_batches(f: Any) -> Callable[..., Any]:
    return _mapping(vmap(f))


def _in_batches(whole: int, size: int, x: Any) -> Any:
    shape = aval_of(x).shape
    used = slice_in_dim(x, 0, whole * size, 0)
    return reshape(used, new_sizes=(whole, size, *shape[1:]), dimensions=None)


def _joined(length: int, y: Any) -> Any:
    return reshape(y, new_sizes=(length, *aval_of(y).shape[2:]), dimensions=None)


def _last(count: int, x: Any) -> Any:
    size = aval_of(x).shape[0]
    return slice_in_dim(x, size - count, size, 0)


def _appended(a: Any, b: Any) -> Any:
    return concatenate(a, b, dimension=0)
