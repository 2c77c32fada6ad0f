"""`cond` and `switch`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes, pytree
from covector.core.avals import same_type
from covector.core.config import config
from covector.core.program import Program, Variable
from covector.core.source import here
from covector.core.trace import aval_of
from covector.lax.bodies import Body, check_callable, difference, mismatch, trace_body
from covector.ops import cond as cond_ops
from covector.ops.common import like
from covector.ops.elementwise import clamp, convert_element_type, ne
from covector.transforms.flat import check_leaves, function_name

_NOTHING: Any = object()


def cond(*args: Any, **kwargs: Any) -> Any:
    """Applies one of two functions, chosen by a predicate.

    ```python
    def cond(pred, true_fun, false_fun, *operands):
        return true_fun(*operands) if pred else false_fun(*operands)
    ```

    Both functions are traced, and only the chosen one is run (under `vmap` with a batched
    predicate, both are).

    Args:
        pred: a bool scalar; of numbers, zero is false.
        true_fun: applied if `pred` is true.
        false_fun: applied if not; its results have the structure and types of `true_fun`'s.
        *operands: pytrees of arrays and numbers, passed to the function.

    Returns:
        What the function returns.

    Raises:
        TypeError: if `pred` is not a scalar, or the results of the functions differ in structure
            or types.

    >>> from covector import lax
    >>> lax.cond(True, lambda x: x + 1, lambda x: x - 1, 10)
    Array(11, dtype=int32, weak_type=True)
    """
    # JAX's former signature: cond(pred, true_operand, true_fun, false_operand, false_fun).
    if len(args) == 5 and not kwargs and callable(args[2]) and callable(args[4]):
        pred, true_operand, true_fun, false_operand, false_fun = args

        def if_true(operands: Any) -> Any:
            return true_fun(operands[0])

        def if_false(operands: Any) -> Any:
            return false_fun(operands[1])

        return _cond(pred, if_true, if_false, (true_operand, false_operand))
    return _cond(*args, **kwargs)


def _cond(
    pred: Any,
    true_fun: Callable[..., Any],
    false_fun: Callable[..., Any],
    *operands: Any,
    operand: Any = _NOTHING,
) -> Any:
    operands = _with_operand("cond", operands, operand)
    check_callable("lax.cond: true_fun", true_fun)
    check_callable("lax.cond: false_fun", false_fun)
    pred = _predicate(pred)
    if config.disable_jit and (known := _concrete(pred)) is not None:
        return (true_fun if known else false_fun)(*operands)
    index = convert_element_type(pred, new_dtype=dtypes.int32)
    names = ("false_fun", "true_fun")
    return _choose("cond", index, (false_fun, true_fun), names, operands)


cond.__signature__ = inspect.signature(_cond)  # type: ignore[attr-defined]


def _predicate(pred: Any) -> Any:
    try:
        aval = aval_of(pred)
    except TypeError:
        raise TypeError(f"Pred must be a scalar, got {pred!r:.60} of type {type(pred)}") from None
    if aval.shape != ():
        raise TypeError(
            f"Pred must be a scalar, got {aval}; reduce it with any() or all(), or use where() to "
            f"choose element by element\n  at: {here()}"
        )
    if dtypes.is_bool(aval.dtype):
        return pred
    if not dtypes.is_numeric(aval.dtype):
        raise TypeError(f"Pred type must be either boolean or number, got {aval}")
    return ne(pred, like(aval, 0))


def switch(
    index: Any, branches: Sequence[Callable[..., Any]], *operands: Any, operand: Any = _NOTHING
) -> Any:
    """Applies one of several functions, chosen by an index.

    ```python
    def switch(index, branches, *operands):
        return branches[clamp(0, index, len(branches) - 1)](*operands)
    ```

    Args:
        index: an integer scalar; outside the range it counts as the nearest in it.
        branches: functions whose results have one structure and equal types.
        *operands: pytrees of arrays and numbers, passed to the function.

    Returns:
        What the function returns.

    Raises:
        TypeError: if `index` is not an integer scalar, or the results differ in structure or types.
        ValueError: if there are no branches.

    >>> from covector import lax
    >>> lax.switch(1, [lambda x: x, lambda x: 2 * x, lambda x: 3 * x], 10)
    Array(20, dtype=int32, weak_type=True)
    """
    operands = _with_operand("switch", operands, operand)
    branches = tuple(branches)
    for k, branch in enumerate(branches):
        check_callable(f"lax.switch: branches[{k}]", branch)
    aval = aval_of(index)
    if aval.shape != ():
        raise TypeError(f"Branch index must be scalar, got {aval}")
    if not dtypes.is_integer(aval.dtype):
        raise TypeError(f"Index type must be an integer, got {aval}")
    if not branches:
        raise ValueError("Empty branch sequence")
    if len(branches) == 1:
        return branches[0](*operands)
    last = len(branches) - 1
    # Clamped before it is narrowed.
    index = clamp(like(aval, 0), index, like(aval, min(last, int(np.iinfo(aval.dtype).max))))
    if config.disable_jit and (known := _concrete(index)) is not None:
        return branches[int(known)](*operands)
    index = convert_element_type(index, new_dtype=dtypes.int32)
    names = [f"branches[{k}]" for k in range(len(branches))]
    return _choose("switch", index, branches, names, operands)


def _concrete(value: Any) -> Any:
    concrete = getattr(value, "concrete", None)
    return value if concrete is None else concrete()


def _with_operand(what: str, operands: tuple[Any, ...], operand: Any) -> tuple[Any, ...]:
    if operand is _NOTHING:
        return operands
    if operands:
        raise TypeError(
            f"{what}: pass operands by position or one as `operand=`, not both: "
            f"got {len(operands)} and operand={operand!r:.60}"
        )
    return (operand,)


def _choose(
    what: str,
    index: Any,
    branches: Sequence[Callable[..., Any]],
    names: Sequence[str],
    operands: tuple[Any, ...],
) -> Any:
    check_leaves(f"lax.{what}: operands", operands)
    leaves, tree = pytree.flatten(operands)
    avals = [aval_of(x) for x in leaves]
    bodies = [trace_body(f"{what} branch", f, tree, avals) for f in branches]
    for k in range(1, len(bodies)):
        labels = (_label(names[0], branches[0]), _label(names[k], branches[k]))
        _check_alike(what, labels, bodies[0], bodies[k])
    captured, programs = _with_common_inputs(bodies)
    outs = cond_ops.cond(index, *captured, *leaves, branches=programs)
    return pytree.unflatten(bodies[0].out_tree, outs)


def _label(name: str, branch: Any) -> str:
    return f"{name} ({function_name(branch)})"


def _check_alike(what: str, labels: tuple[str, str], a: Body, b: Body) -> None:
    """Raises if two branches differ in the structure or types of what they return."""
    if a.out_tree != b.out_tree:
        raise TypeError(
            f"{what} branch outputs must have the same pytree structure, but they differ: "
            f"comparing {labels[0]} with {labels[1]},\n\n"
            f"  {difference('the output', a.out_tree, b.out_tree)} of {labels[1]}\n\n"
            f"Revise the branches so that they return the same pytree structure.\n  at: {here()}"
        )
    lines: list[str] = []
    paths = [p for p, _ in pytree.leaves_with_path(pytree.unflatten(a.out_tree, a.avals))]
    for path, x, y in zip(paths, a.avals, b.avals, strict=True):
        if not same_type(x, y):
            lines.append(
                f"  * the output{pytree.keystr(path)} of {labels[0]} has type {x} but that of "
                f"{labels[1]} has type {y}, so {mismatch(x, y)}"
            )
    if lines:
        raise TypeError(
            f"{what} branches must have equal output types but they differ:\n\n"
            + "\n".join(lines)
            + "\n\nRevise the branches so that all output types match, for instance with "
            f".astype(...).\n  at: {here()}"
        )


def _with_common_inputs(bodies: Sequence[Body]) -> tuple[list[Any], tuple[Program, ...]]:
    """Gives all branches the captured values of all of them as leading inputs."""
    captured: dict[int, Any] = {}
    for body in bodies:
        for value in body.captured:
            captured.setdefault(id(value), value)
    programs: list[Program] = []
    for body in bodies:
        inputs = body.program.inputs
        own = {id(value): v for value, v in zip(body.captured, inputs, strict=False)}
        leading = [own.get(key) or Variable(aval_of(value)) for key, value in captured.items()]
        rest = inputs[len(body.captured) :]
        same = len(leading) == len(body.captured)
        programs.append(body.program if same else body.program.replace(inputs=[*leading, *rest]))
    return list(captured.values()), tuple(programs)
