"""Contraction: a sum and a product that both allow it become one fused operation.

Before:                                    After:

    %2 = mul.contract %0, %1                   %3 = fma %0, %1, %sum
    %3 = add.contract %sum, %2

It is decided here, where the operations are made, and not by the code generator: so the same
products are rounded in scalar code, in lanes, in packs and in pieces of a function that was split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from covector.loopir.ir import Block, Function, Value, children, closing, operands, walk

if TYPE_CHECKING:
    from covector.loopir.expressions import Expressions

CONTRACT = "contract"
"""The `attr` of operations that may be fused."""


def contracted(b: Expressions, name: str, x: Value, y: Value) -> tuple[Value, Value] | None:
    """A sum or difference of floats as a fused operation, if an operand is a product that may be.

    Args:
        b: the builder.
        name: "add" or "sub", itself marked "contract".
        x: first operand.
        y: second operand; of two products it is the one that is fused, being the later one.

    Returns:
        The fused operation and the product it replaces, or `None`.
    """
    if y.op == "mul" and y.attr == CONTRACT:
        first, second = y.args
        if name == "sub":
            first = b.op("neg", first)
        return b.op("fma", first, second, x), y
    if x.op == "mul" and x.attr == CONTRACT:
        rest = b.op("neg", y) if name == "sub" else y
        return b.op("fma", *x.args, rest), x
    return None


def remove_unused(function: Function, products: Sequence[Value]) -> None:
    """Removes products of which nothing is left but what was fused with them.

    Args:
        function: changed in place.
        products: what fused operations replace.
    """
    unused = set(products).difference(function.returns)
    for item in walk(function.body):
        unused.difference_update(operands(item))
        for values in closing(item):
            unused.difference_update(values)
    if unused:
        _remove(function.body, unused)


def _remove(block: Block, unused: set[Value]) -> None:
    block.items = [item for item in block.items if item not in unused]
    for item in block.items:
        if type(item) is not Value:
            for child in children(item):
                _remove(child, unused)
