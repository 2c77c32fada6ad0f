"""How far a loop is: an equation that tells a meter, in a loop around pieces of the loop.

Native code looks at the clock and leaves Python alone for as long as the meter's `gate` is shut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from covector.core import effects as fx
from covector.core.avals import Aval
from covector.core.primitive import BatchContext, Context, Primitive, unsupported
from covector.core.trace import aval_of
from covector.loopir.tensor import Lowering, Tensor
from covector.ops.common import front
from covector.ops.reduce import reduce_max


class Meter(Protocol):
    """What is told how far a loop is."""

    def gate(self, done: bool) -> np.ndarray[Any, Any]:
        """When it wants to hear of it next: a nanosecond of the steady clock, as one int64."""
        ...

    def update(self, count: int, total: int, done: bool) -> None:
        """Takes the steps made, and of how many; -1 for a total that nobody knows."""
        ...

    def aborted(self) -> None:
        """Takes that the program has failed."""
        ...


class _Telling:
    """Tells a meter; native code reads the attributes `gate` and `aborted`."""

    def __init__(self, meter: Meter, done: bool) -> None:
        self.meter = meter
        self.done = done
        self.gate = meter.gate(done)
        self.aborted = meter.aborted

    def __call__(self, operands: Sequence[Any]) -> list[Any]:
        count, total = (int(np.asarray(x)) for x in operands)
        self.meter.update(count, total, self.done)
        return []


def _shape(*avals: Aval, **params: Any) -> list[Aval]:
    return []


def _evaluate(*operands: Any, meter: Meter, done: bool) -> list[Any]:
    return _Telling(meter, done)(operands)


def _jvp(
    ctx: Context, primals: Sequence[Any], tangents: Sequence[Any], **params: Any
) -> tuple[list[Any], list[Any]]:
    return progress(*primals, **params), []


def _batch(
    ctx: BatchContext, args: Sequence[Any], dims: Sequence[int | None], **params: Any
) -> tuple[list[Any], list[int | None]]:
    # The lanes of a batch are together as far as the foremost of them.
    operands = [
        x if d is None or aval_of(x).shape[0] == 0 else reduce_max(x, axes=(0,))
        for x, d in zip(front(args, dims), dims, strict=True)
    ]
    if all(aval_of(x).shape == () for x in operands):
        progress(*operands, **params)
    return [], []


def _lower(b: Lowering, *tensors: Tensor, meter: Meter, done: bool) -> list[Tensor]:
    operands = [b.stored(t) for t in tensors]
    number = b.callback((_Telling(meter, done), [(t.shape, t.dtype) for t in operands], []))
    b.builder.callback(number, [t.buffer for t in operands], [])
    return []


def _effects(**params: Any) -> fx.Effects:
    return frozenset((fx.ORDERED_DEBUG,))


progress = Primitive(
    "progress",
    shape=_shape,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=unsupported("how far a loop is has no derivative"),
    batch=_batch,
    lanes=unsupported("lanes are together as far as the foremost of them"),
    lower=_lower,
    effects=_effects,
    multiple_results=True,
    tags=frozenset({"callback", "control"}),
)
"""Tells a meter of the steps made and their number, both integers; `done` after the last one."""
