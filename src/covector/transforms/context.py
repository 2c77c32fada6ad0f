"""What rules of primitives that hold programs ask of the transformations, on whole programs.

Each method traces a transformed copy of a program; results are cached for as long as the program
lives.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from covector.core.avals import Aval, Zero
from covector.core.config import config
from covector.core.errors import UnexpectedTracerError, compose
from covector.core.primitive import Linearized
from covector.core.program import Program
from covector.core.source import here
from covector.core.trace import aval_of, eval_program, examples, trace_program
from covector.ops import common

_cache: weakref.WeakKeyDictionary[Program, dict[Any, Any]] = weakref.WeakKeyDictionary()


def _cached(program: Program, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    entries = _cache.setdefault(program, {})
    key = (*key, config.trace_key())
    if key not in entries:
        entries[key] = make()
    return entries[key]


def flags(value: bool | Sequence[bool], count: int) -> tuple[bool, ...]:
    """One flag for each of `count` outputs."""
    return (value,) * count if isinstance(value, bool) else tuple(value)


class TransformContext:
    """Implements `covector.core.primitive.Context`."""

    def jvp(
        self, program: Program, nonzero: Sequence[bool], instantiate: bool | Sequence[bool] = False
    ) -> tuple[Program, list[bool]]:
        wanted = flags(instantiate, len(program.outputs))
        key = ("jvp", tuple(nonzero), wanted)
        return _cached(program, key, lambda: _jvp_program(program, nonzero, wanted))

    def linearize(
        self, program: Program, nonzero: Sequence[bool], instantiate: bool | Sequence[bool] = False
    ) -> Linearized:
        from covector.transforms.linearize import linearize_program

        wanted = flags(instantiate, len(program.outputs))
        # The size of a tape decides how it is kept; under vmap there are several.
        key = ("linearize", tuple(nonzero), wanted, examples())
        return _cached(program, key, lambda: linearize_program(program, nonzero, wanted))

    def transpose(self, program: Program, linear: Sequence[bool]) -> Program:
        from covector.transforms.transpose import transpose_program

        key = ("transpose", tuple(linear))
        return _cached(program, key, lambda: transpose_program(program, linear))


class BatchingContext(TransformContext):
    """Implements `covector.core.primitive.BatchContext`."""

    def __init__(self, axis_size: Any, axis_name: Any) -> None:
        self.axis_size = axis_size
        self.axis_name = axis_name

    def batch(
        self,
        program: Program,
        batched: Sequence[bool],
        out_batched: bool | Sequence[bool] = False,
    ) -> tuple[Program, list[bool]]:
        from covector.transforms.batching import batch_program

        forced = flags(out_batched, len(program.outputs))
        key = ("batch", tuple(batched), forced, self.axis_size, self.axis_name)
        return _cached(program, key, lambda: batch_program(self, program, batched, forced))


CONTEXT = TransformContext()


def spread(values: Sequence[Any], nonzero: Sequence[bool], avals: Sequence[Aval]) -> list[Any]:
    """Tangents for every input: the given values in order where nonzero, symbolic zeros else."""
    given = iter(values)
    return [next(given) if n else Zero(a.tangent()) for n, a in zip(nonzero, avals, strict=True)]


def _jvp_program(
    program: Program, nonzero: Sequence[bool], instantiate: Sequence[bool]
) -> tuple[Program, list[bool]]:
    from covector.transforms.jvp import jvp_flat

    avals = program.input_avals
    nonzero_out: list[bool] = []

    def pushforward(*args: Any) -> list[Any]:
        primals = args[: len(avals)]
        tangents = spread(args[len(avals) :], nonzero, avals)
        outs, out_tangents = jvp_flat(lambda *a: eval_program(program, *a), primals, tangents)
        wanted, flags_out = keep_nonzero(out_tangents, instantiate)
        nonzero_out.extend(flags_out)
        return outs + wanted

    tangent_avals = [a.tangent() for a, n in zip(avals, nonzero, strict=True) if n]
    transformed, captured = trace_program(pushforward, [*avals, *tangent_avals], program.name)
    refuse_captured(program, captured)
    return transformed, nonzero_out


def refuse_captured(program: Program, captured: Sequence[Any]) -> None:
    """Raises if a rule that was applied within a program brought traced values of its own."""
    if captured:
        raise UnexpectedTracerError(
            compose(
                f"a rule of a function within {program.name or 'a program'} closes over a traced "
                "value that the function itself does not use",
                found=", ".join(str(aval_of(v)) for v in captured),
                fix="pass it as an argument, or let the function use it as well",
                line=here(),
            )
        )


def keep_nonzero(
    tangents: Sequence[Any], instantiate: Sequence[bool]
) -> tuple[list[Any], list[bool]]:
    """The tangents that are not symbolic zeros or must be instantiated, and which those are."""
    kept: list[Any] = []
    which: list[bool] = []
    for tangent, force in zip(tangents, instantiate, strict=True):
        nonzero = force or type(tangent) is not Zero
        which.append(nonzero)
        if nonzero:
            kept.append(common.instantiate(tangent))
    return kept, which
