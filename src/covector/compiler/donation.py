"""Donated arguments: which results take their memory.

An argument may give its memory to one result of as many bytes, in one of two ways.

- Nothing but updates, loops and branches that overwrite lead from the argument to the result. Then
  the result's buffer *holds* the argument from the start: the runtime puts both into one place, or
  copies the argument there if its memory is shared with somebody.

      x1 = dynamic_update_slice x u i       x is donated, x1 a result: only u is written

- The loops that write the result come after all that read the argument, or each iteration reads of
  it what it overwrites itself, and no more. Then both may be in one place, and need not.

      y = sub x g                           x is donated, y a result: y[i] = x[i] - g[i]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from covector.core.backend import Donation
from covector.core.config import config
from covector.core.program import Program, Variable
from covector.loopir.ir import (
    PARALLEL,
    SIMD,
    Block,
    Buffer,
    For,
    Function,
    Item,
    Store,
    Value,
    touched_within,
)
from covector.ops.overwriting import Overwrite, path


def held(program: Program, donated: Iterable[int]) -> list[tuple[Donation, Sequence[Overwrite]]]:
    """Results that donated arguments become by being overwritten.

    Args:
        program: about to be lowered.
        donated: numbers of the inputs that may be overwritten.

    Returns:
        For each of them the equations that overwrite it.
    """
    if _disabled():
        return []
    found: list[tuple[Donation, Sequence[Overwrite]]] = []
    taken: set[int] = set()
    for k in donated:
        variable = program.inputs[k]
        for n, atom in enumerate(program.outputs):
            if n in taken or type(atom) is not Variable or atom in program.outputs[:n]:
                continue
            same = atom.aval.shape == variable.aval.shape and atom.aval.dtype == variable.aval.dtype
            way = path(program, variable, atom) if same else None
            if way is not None:
                found.append((Donation(k, n, True), way))
                taken.add(n)
                break
    return found


def share(function: Function, donated: Iterable[int], known: Sequence[Donation]) -> list[Donation]:
    """Lets donated arguments and results share memory where the order of accesses allows it.

    Args:
        function: complete; buffers that may be in one place get one alias class.
        donated: numbers of the arguments that may be overwritten.
        known: donations decided already.

    Returns:
        These and the new ones.
    """
    found = list(known)
    if _disabled():
        return found
    used = {d.argument for d in found}
    arguments = {b.index: b for b in function.buffers if b.space == "argument"}
    results = {b.index: b for b in function.buffers if b.space == "result"}
    for number in [d.result for d in found]:
        results.pop(number, None)
    for k in donated:
        if k in used or k not in arguments:
            continue
        for n, result in results.items():
            if same_size(arguments[k], result) and _in_turn(function.body, arguments[k], result):
                found.append(Donation(k, n, False))
                arguments[k].alias_class = result.alias_class = ("donated", k)
                del results[n]
                break
    for donation in found:
        for buffer in function.buffers:
            if buffer.space == "result" and buffer.index == donation.result:
                buffer.reason = f"it is a result, in the memory of argument {donation.argument}"
    return found


def _disabled() -> bool:
    return "in_place" in config.disable or "donation" in config.disable


def same_size(a: Buffer, b: Buffer) -> bool:
    """Whether two buffers take equally many bytes, and are laid out alike in elements."""
    return a.element.itemsize == b.element.itemsize and _extents(a) == _extents(b)


def _extents(buffer: Buffer) -> tuple[Any, ...]:
    if buffer.size is not None:
        return (buffer.size,)
    parts = 2 if buffer.element is not buffer.dtype else 1
    return (parts, *buffer.shape)


# --- the order of accesses ------------------------------------------------------------------------


def _in_turn(body: Block, argument: Buffer, result: Buffer) -> bool:
    """Whether everything is read from an argument before its place in the result is written."""
    last, first = -1, len(body.items)
    for position, item in enumerate(body.items):
        buffers = set(touched_within(item))
        if argument in buffers:
            last = position
        if result in buffers:
            first = min(first, position)
    if last < first:
        return True
    item = body.items[first]
    return last == first and type(item) is not Value and _each_its_own(item, argument, result)


def _each_its_own(item: Item, argument: Buffer, result: Buffer) -> bool:
    """Whether iterations are independent and read of an argument what they overwrite later."""
    block = _innermost(item, argument, result)
    if block is None:
        return False
    read: list[Value] = []
    written: list[Value] = []
    for inner in block.items:
        if type(inner) is Value:
            if inner.op == "load" and inner.attr is argument:
                if written:
                    return False
                read.append(inner.args[0])
            elif inner.op == "load" and inner.attr is result:
                return False
        elif type(inner) is Store and inner.buffer is result:
            written.append(inner.offset)
        elif argument in (buffers := set(touched_within(inner))) or result in buffers:
            return False
    return all([any([_equal(a, b) for b in written]) for a in read])


def _innermost(item: Item, argument: Buffer, result: Buffer) -> Block | None:
    """The block in loops of independent iterations that has all accesses to two buffers."""
    block: Block | None = None
    while isinstance(item, For):
        if item.params or not (item.independent or item.kind in (SIMD, PARALLEL)):
            return None
        block = item.body
        both = {argument, result}
        accesses = [inner for inner in block.items if not both.isdisjoint(touched_within(inner))]
        if all([isinstance(inner, Value | Store) for inner in accesses]):
            return block
        if len(accesses) > 1:
            return None
        (item,) = accesses
    return None


def _equal(a: Value, b: Value) -> bool:
    """Whether two indices of one iteration are the same."""
    if a is b:
        return True
    if a.op != b.op or a.attr != b.attr or len(a.args) != len(b.args) or a.op == "load":
        return False
    if not a.args:
        return a.op in ("const", "dim") and a.dtype == b.dtype
    return all([_equal(x, y) for x, y in zip(a.args, b.args, strict=True)])
