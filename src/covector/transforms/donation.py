"""Donated arguments: which of them a result could take the memory of, as JAX decides it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

from covector.core import pytree
from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.dims import DimSize
from covector.core.errors import compose
from covector.core.program import Program
from covector.core.source import here
from covector.transforms.arguments import Statics


def usable(name: str, program: Program, given: Sequence[int]) -> list[int]:
    """The donated inputs for which there is a result of the same size, each for one of its own.

    Args:
        name: of the function.
        program: what is called.
        given: positions of the donated inputs.

    Returns:
        Some of these positions. There is a warning about the others, which stay as they are.
    """
    free = Counter([_nbytes(a) for a in program.output_avals])
    found: list[int] = []
    others: list[Aval] = []
    for k in given:
        aval = program.input_avals[k]
        size = _nbytes(aval)
        if free[size] > 0:
            free[size] -= 1
            found.append(k)
        else:
            others.append(aval)
    if others:
        warnings.warn(
            compose(
                # These words are JAX's, by which programs filter the warning.
                "Some donated buffers were not usable: "
                + ", ".join([str(a.strong()) for a in others]),
                found=f"{name} has no result of as many bytes that is not another argument's",
                fix="donate only arguments that a result of the same shape and dtype replaces",
                line=here(),
            ),
            UserWarning,
            stacklevel=5,
        )
    return found


def _nbytes(aval: Aval) -> DimSize:
    size: DimSize = aval.dtype.itemsize
    for extent in aval.shape:
        size = size * extent
    return size


def labels(
    name: str, donated: Statics, statics: Statics, args: Sequence[Any], kwargs: dict[str, Any]
) -> list[str]:
    """What to say of each array among the arguments after it has been donated.

    Args:
        name: of the function.
        donated: knows the names of its parameters.
        statics: arguments that have no arrays.
        args: of a call.
        kwargs: likewise.

    Returns:
        A text for each leaf.
    """
    texts: list[str] = []
    named = [(donated.name_of(i), a) for i, a in enumerate(args) if i not in statics.numbers]
    named += [(k, kwargs[k]) for k in sorted(kwargs) if k not in statics.names]
    for label, value in named:
        for path, _ in pytree.leaves_with_path(value):
            texts.append(f"it was donated to {name} as argument {label}{pytree.keystr(path)}")
    return texts


def end(array: Any, why: str) -> None:
    """Deletes a donated array, and so ends the use of it; other values stay as they are.

    Args:
        array: an argument.
        why: for the error on later uses.
    """
    if isinstance(array, Array) and not array.is_deleted():
        array._donate(why)


def kept_alive(given: Sequence[Any], donated: Sequence[tuple[int, str]]) -> list[Any]:
    """Arguments with copies in the place of the donated arrays.

    Args:
        given: the arguments.
        donated: positions, and texts.
    """
    copies = list(given)
    for k, _ in donated:
        if isinstance(copies[k], Array):
            copies[k] = copies[k].copy()
    return copies
