"""How far apart two computations of one function may be: what an ulp of its input changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

FACTOR = 10.0
"""Results may differ by this times the change that an ulp of the input causes."""

FLOOR = 8.0
"""Results may differ by this many ulps of the greatest result whatever the inputs change: the
rounding of steps that depend on the input little or not at all, such as sums of constants."""

LEAST = 0.125
"""Results below this count as of this magnitude for the floor. Inputs are about 1; what is much
smaller is often a difference of terms that an input moves together, but that round apart, as in
`x - arctan(x)`."""

DECIDED = 0.25
"""Where an ulp of the input changes more than its ulp to this power, it changed a decision."""


@dataclass(frozen=True)
class Expected:
    """What a function must return.

    Attributes:
        results: computed by the reference.
        tolerances: for each result, how far its elements may be off.
        decided: whether no decision of the function hangs on an ulp of its input; if one does,
            only shapes and dtypes are compared.
    """

    results: tuple[Array, ...]
    tolerances: tuple[float, ...]
    decided: bool

    def mismatch(self, found: Sequence[Any]) -> str | None:
        """What is wrong with other results, if anything."""
        if len(found) != len(self.results):
            return f"{len(found)} results instead of {len(self.results)}"
        for i, (a, b) in enumerate(zip(found, self.results, strict=True)):
            problem = self._mismatch(np.asarray(a), b, self.tolerances[i])
            if problem:
                return f"result {i}: {problem}"
        return None

    def _mismatch(self, found: Array, wanted: Array, tolerance: float) -> str | None:
        if found.dtype != wanted.dtype or found.shape != wanted.shape:
            return f"{found.dtype}{found.shape} instead of {wanted.dtype}{wanted.shape}"
        if not self.decided or _same(found, wanted):
            return None
        if wanted.dtype.kind != "f":
            return f"{found.tolist()} instead of {wanted.tolist()}"
        with np.errstate(invalid="ignore"):
            error = float(np.max(np.abs(found.astype(np.float64) - wanted), initial=0.0))
        if error <= tolerance:
            return None
        place = np.unravel_index(
            int(np.argmax(np.abs(found.astype(np.float64) - wanted))), wanted.shape
        )
        return (
            f"off by {error:.3g} where {tolerance:.3g} is allowed: {found[place]!r} instead of "
            f"{wanted[place]!r} at {[int(i) for i in place]} of {wanted.shape}"
        )


def _same(a: Array, b: Array) -> bool:
    """Bitwise but for the sign of zero, which the order of additions determines."""
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


def expect(
    reference: Callable[..., Sequence[Any]],
    args: Sequence[Array],
    *,
    exact: bool,
    precision: str,
    seed: int,
) -> Expected:
    """Runs the reference, at the arguments and an ulp beside them.

    Args:
        reference: the function, evaluated by the reference.
        args: its arguments.
        exact: whether nothing rounds, so that results must be equal.
        precision: the coarsest floating-point dtype the function computes in.
        seed: of the patterns of signs of the perturbations.
    """
    results = tuple([np.asarray(x) for x in reference(*args)])
    if exact:
        return Expected(results, (0.0,) * len(results), True)
    epsilon = float(np.finfo(precision).eps)
    changes = [0.0] * len(results)
    decided = True
    for moved in perturbed(args, precision, seed):
        for i, (a, b) in enumerate(zip(reference(*moved), results, strict=True)):
            change = _change(np.asarray(a), b)
            changes[i] = max(changes[i], change)
            decided = decided and change <= epsilon**DECIDED * max(_magnitude(b), 1.0)
    tolerances = [
        max(FACTOR * change, FLOOR * epsilon * max(_magnitude(b), LEAST))
        for change, b in zip(changes, results, strict=True)
    ]
    return Expected(results, tuple(tolerances), decided)


def _change(moved: Array, wanted: Array) -> float:
    if wanted.dtype.kind == "f":
        return float(np.max(np.abs(moved.astype(np.float64) - wanted), initial=0.0))
    return 0.0 if np.array_equal(moved, wanted) else np.inf


def _magnitude(x: Array) -> float:
    return float(np.max(np.abs(x), initial=0.0)) if x.dtype.kind == "f" else 0.0


def perturbed(args: Sequence[Array], precision: str, seed: int) -> list[list[Array]]:
    """The arguments with every float moved by an ulp: all up, all down, and four patterns.

    The ulp is that of the precision the function computes in: in a float32 program that takes a
    float64, one of the latter would be rounded away.
    """
    rng = np.random.default_rng((seed, 4))
    moves: list[list[Array]] = []
    for pattern in (1.0, -1.0, None, None, None, None):
        moved: list[Array] = []
        for x in args:
            if x.dtype.kind != "f":
                moved.append(x)
                continue
            signs = np.full(x.shape, pattern) if pattern else rng.choice([-1.0, 1.0], x.shape)
            ulp = np.spacing(np.abs(x).astype(precision)).astype(x.dtype)
            moved.append(np.asarray(x + signs * ulp, x.dtype))
        moves.append(moved)
    return moves
