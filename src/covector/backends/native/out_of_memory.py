"""What to tell the user when an array gets no memory: which one, how large, from which line."""

from __future__ import annotations

from collections.abc import Sequence

from covector.core.errors import compose
from covector.core.program import Equation, Program, Variable
from covector.loopir.ir import PRIVATE, WORKSPACE, Buffer, Function
from covector.loopir.printer import short_name

# Who asked, as in _native/covector.h; others are numbers of heap buffers.
PRIVATE_SITE = -1
WORKSPACE_SITE = -2
LIBRARY_SITE = -3
RESULT_SITE = -4


def describe(name: str, site: int, nbytes: int, program: Program) -> str | None:
    """Words the message of a `MemoryError`, if that takes no more than the program.

    Args:
        name: of the user's function.
        site: who asked for memory.
        nbytes: how much, -1 if that is not known.
        program: what was compiled.

    Returns:
        The message; `None` if it was a temporary array.
    """
    if site <= RESULT_SITE:
        return _result(name, RESULT_SITE - site, nbytes, program)
    if site == LIBRARY_SITE:
        return compose(f"{name}: not enough memory for the workspace of a library function")
    return None


def describe_temporary(name: str, site: int, nbytes: int, function: Function) -> str:
    """Words the message of a `MemoryError` about temporary arrays.

    Args:
        name: of the user's function.
        site: who asked for memory.
        nbytes: how much.
        function: the program as loop IR.

    Returns:
        The message, about the largest of them.
    """
    if site >= 0:
        buffers = [function.buffers[site]] if site < len(function.buffers) else []
    else:
        space = PRIVATE if site == PRIVATE_SITE else WORKSPACE
        buffers = [b for b in function.buffers if b.space == space]
    return _temporary(name, nbytes, buffers, each=site == PRIVATE_SITE)


def _result(name: str, index: int, nbytes: int, program: Program) -> str:
    atom = program.outputs[index]
    made = [e for e in program.equations if type(atom) is Variable and atom in e.outputs]
    what = f"result {index}" if len(program.outputs) > 1 else "the result"
    return compose(
        f"{name}: not enough memory for {what}, {atom.aval}",
        found=f"{_amount(nbytes)} asked for",
        line=_place(made[0] if made else None),
    )


def _temporary(name: str, nbytes: int, buffers: Sequence[Buffer], each: bool) -> str:
    found = f"{_amount(nbytes)} asked for"
    if each:
        found += " by each thread"
    buffer = max(buffers, key=lambda b: b.nbytes or 0, default=None)
    if buffer is None:
        return compose(f"{name}: not enough memory for temporary arrays", found=found)
    shape = ",".join(str(e) if isinstance(e, int) else "?" for e in buffer.shape)
    array = f"{short_name(buffer.dtype)}[{shape}]"
    maker = buffer.origin.primitive.name if isinstance(buffer.origin, Equation) else None
    what = f"{array} of {maker}" if maker else array
    if len(buffers) > 1:
        found += f", {_amount(buffer.nbytes or -1)} of them for this array"
    return compose(
        f"{name}: not enough memory for the temporary array {what}",
        found=found,
        line=_place(buffer.origin),
        fix="split the work, or keep less of it: checkpoint, scan over pieces",
    )


def _amount(nbytes: int) -> str:
    if nbytes < 0:
        return "more than can be counted"
    amount, unit = float(nbytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.4g} {unit}"


def _place(origin: object) -> str | None:
    return (origin.place or None) if isinstance(origin, Equation) else None
