"""What rules of users' close over, where the function they belong to is part of a program.

A program outlives the traces it was made in. Values of such a trace that a function closes over
become operands of its equation; a rule that closes over the same values is given these operands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.core.errors import UnexpectedTracerError, compose
from covector.core.source import here
from covector.core.trace import aval_of, eval_program, revived, trace_program


def with_operands_for(
    captured: Sequence[Any],
    consts: Sequence[Any],
    fn: Callable[..., Sequence[Any]],
    operands: Sequence[Any],
    name: str,
) -> list[Any]:
    """Applies `fn` with other values in place of some that it closes over.

    Args:
        captured: traced values that `fn` may close over.
        consts: what stands for them.
        fn: from flat operands to flat values.
        operands: what to apply it to.
        name: of the function whose rule it is, for messages.

    Returns:
        What it gives.
    """
    with revived(captured):
        program, found = trace_program(fn, [aval_of(x) for x in operands], name)
    places = {id(value): k for k, value in enumerate(captured)}
    values = [consts[places[id(v)]] if id(v) in places else v for v in found]
    return eval_program(program, *values, *operands)


def refuse_tangents(
    primitive: str, name: str, consts: Sequence[Any], flags: Sequence[bool]
) -> None:
    """Raises if what a function with a rule closes over is differentiated.

    Args:
        primitive: what the rule was set with.
        name: of the function.
        consts: the values.
        flags: which of them are.
    """
    for value, flag in zip(consts, flags, strict=False):
        if flag:
            found = f"a value {aval_of(value)} that is being differentiated"
            raise TypeError(_not_closed_over(primitive, name, found))


def _not_closed_over(primitive: str, name: str, found: str) -> str:
    return compose(
        f"derivatives of the {primitive} function {name} are by its arguments alone: its rule does "
        "not know what it closes over",
        found=found,
        fix="pass the value as an argument; closure_convert does so for functions",
        line=here(),
    )


def applying(primitive: str, name: str, rule: Callable[..., Any], *args: Any) -> Any:
    """Calls a function or its rule; values of a transformation that it closes over are named."""
    try:
        return rule(*args)
    except UnexpectedTracerError as error:
        text = _not_closed_over(primitive, name, str(error))
        raise UnexpectedTracerError(text) from error
