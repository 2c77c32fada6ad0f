"""Errors of the elementary and special functions, measured: python -m covector.testing.accuracy.

Arguments are random bit patterns, so of every magnitude, and samples where a function varies. The
exact values are mpmath's; for float32, of whose arguments there are many more, those of SciPy in
float64 say first which are worth a look.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import covector as cv
from covector import lax

Array = np.ndarray[Any, Any]

_SATURATED = ("exp", "exp2", "expm1", "logistic", "sinh", "cosh", "tanh", "erf", "erfc")
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(_SATURATED, (-2000.0, 2000.0)),
    **dict.fromkeys(("asin", "acos", "atanh", "erf_inv"), (-1.0, 1.0)),
    **dict.fromkeys(("log", "log2", "log10", "rsqrt", "lgamma", "digamma"), (0.0, math.inf)),
    "acosh": (1.0, math.inf),
    "log1p": (-1.0, math.inf),
}
"""Where a function is looked at, if not everywhere: its domain, and where it still varies; lgamma
and digamma right of their poles."""

CENTRES: dict[str, float] = {
    **dict.fromkeys(("exp", "expm1", "logistic", "sinh", "cosh"), 100.0),
    "exp2": 140.0,
    **dict.fromkeys(("tanh", "erf", "erfc"), 10.0),
    **dict.fromkeys(("sin", "cos", "tan"), 1e4),
}
"""How far from 0 a function still varies; 4 where nothing is said."""

ROOTS: dict[str, tuple[float, ...]] = {"lgamma": (1.0, 2.0), "digamma": (1.4616321449683623,)}
"""Roots near which errors count relative to 1."""


@dataclass(frozen=True)
class Error:
    """The greatest error found of one function.

    Attributes:
        name: of the function.
        dtype: "float32" or "float64".
        ulp: in units in the last place of the exact value.
        at: the arguments.
        samples: how many were compared.
    """

    name: str
    dtype: str
    ulp: float
    at: tuple[float, ...]
    samples: int


ARITY = {"pow": 2, "atan2": 2, "hypot": 2}

_SPECIAL: dict[str, str] = {"lgamma": "gammaln", "erf_inv": "erfinv", "logistic": "expit"}
_NUMPY: dict[str, str] = {
    **{name: f"arc{name[1:]}" for name in ("asin", "acos", "atan", "asinh", "acosh", "atanh")},
    "atan2": "arctan2",
    "pow": "power",
}


def functions() -> dict[str, Callable[..., Any]]:
    """The functions that have polynomials of their own in native code, by name."""
    import covector.numpy as cnp
    from covector.loopir.scalars import TABLE

    names = [n for n, row in TABLE.items() if row.elementary and not n.endswith("_large")]
    return {n: getattr(lax, n, None) or getattr(cnp, n) for n in names}


def arguments(name: str, dtype: Any, count: int) -> list[Array]:
    """Arguments of every magnitude, and where the function varies.

    Args:
        name: of the function.
        dtype: float32 or float64.
        count: about how many of each kind.

    Returns:
        An array for each operand.

    Example:
        >>> (x,) = arguments("acosh", "float32", 100)
        >>> bool((x > 1).all())
        True
    """
    rng = np.random.default_rng(sum(map(ord, name)))
    dtype = np.dtype(dtype)
    low, high = RANGES.get(name, (-math.inf, math.inf))
    bits = np.dtype(f"u{dtype.itemsize}")
    columns: list[Array] = []
    for _ in range(ARITY.get(name, 1)):
        patterns = rng.integers(0, np.iinfo(bits).max, 2 * count, bits, endpoint=True).view(dtype)
        centre = CENTRES.get(name, 4.0)
        near = rng.uniform(max(low, -centre), min(high, centre), count).astype(dtype)
        columns.append(np.concatenate([near, patterns]))
    if name == "pow":
        # Where the result is a number, which of two random operands it seldom is.
        with np.errstate(all="ignore"):
            columns[0] = np.abs(columns[0])
            reach = math.log(float(np.finfo(dtype).max)) / np.abs(np.log(columns[0]))
            columns[1] = (reach * rng.uniform(-1, 1, len(reach))).astype(dtype)
    inside = (columns[0] > low) & (columns[0] < high)
    for column in columns:
        inside &= np.isfinite(column)
    return [c[inside] for c in columns]


def _by_mpmath(mp: Any) -> dict[str, Callable[[Any], Any]]:
    """Functions that mpmath has under another name, or not at all."""

    def lgamma(x: Any) -> Any:
        return mp.re(mp.loggamma(x))

    def cbrt(x: Any) -> Any:
        return mp.sign(x) * mp.cbrt(abs(x))

    def logistic(x: Any) -> Any:
        return 1 / (1 + mp.exp(-x))

    def rsqrt(x: Any) -> Any:
        return 1 / mp.sqrt(x)

    def exp2(x: Any) -> Any:
        return mp.mpf(2) ** x

    def log2(x: Any) -> Any:
        return mp.log(x, 2)

    own = (lgamma, cbrt, logistic, rsqrt, exp2, log2)
    return {f.__name__: f for f in own} | {"erf_inv": mp.erfinv, "pow": mp.power}


def exact(name: str, columns: Sequence[Array]) -> Array:
    """The values by mpmath, as long doubles.

    Args:
        name: of the function.
        columns: an array for each operand.

    Returns:
        What float64 holds of each value, and of what is left again.
    """
    import mpmath

    # It has no types.
    mp: Any = mpmath
    function = _by_mpmath(mp).get(name) or getattr(mp, name)
    results: list[Any] = []
    with mp.workdps(50):
        for values in zip(*[c.tolist() for c in columns], strict=True):
            value = function(*map(mp.mpf, values))
            head = float(value)
            rest = float(value - mp.mpf(head)) if math.isfinite(head) else 0.0
            results.append(np.longdouble(head) + np.longdouble(rest))
    return np.array(results, np.longdouble)


def _estimate(name: str, columns: Sequence[Array]) -> Array:
    """The values for float32 operands by NumPy or SciPy in float64."""
    from scipy import special

    wide = [c.astype(np.float64) for c in columns]
    if name == "rsqrt":
        return 1.0 / np.sqrt(wide[0])
    function = getattr(np, _NUMPY.get(name, name), None)
    return (function or getattr(special, _SPECIAL.get(name, name)))(*wide)


def units(name: str, columns: Sequence[Array], found: Array, true: Array) -> Array:
    """Differences in units in the last place of the true values.

    Near roots of lgamma and digamma a unit is that of 1. Overflow in the right place is no error.
    """
    info = np.finfo(found.dtype)
    true = true.astype(np.longdouble)
    with np.errstate(all="ignore"):
        size = np.clip(np.abs(true), np.longdouble(info.tiny), np.longdouble(info.max))
        if name in ROOTS:
            near = np.any([np.abs(columns[0] - r) < 0.5 for r in ROOTS[name]], axis=0)
            size = np.where(near, np.maximum(size, 1), size)
        unit = np.exp2(np.floor(np.log2(size))) * np.longdouble(info.eps)
        error = np.abs(found.astype(np.longdouble) - true) / unit
        limit = true.astype(found.dtype)
    same = (found == limit) | (np.isnan(found) & np.isnan(limit))
    error = np.where(same & ~np.isfinite(limit), 0, error)
    return np.where(np.isnan(error), np.inf, error).astype(np.float64)


def measure(name: str, dtype: Any, count: int, refine: int = 200) -> Error:
    """The greatest error of a function over samples of its whole range.

    Args:
        name: of the function, as in `functions()`.
        dtype: float32 or float64.
        count: about how many samples of each kind: uniform ones where the function varies, and
            twice as many random bit patterns.
        refine: of how many float32 samples mpmath computes the value: the worst by an estimate.

    Returns:
        The error and where it is.

    Example:
        >>> measure("exp", "float32", 100).ulp < 1
        True
    """
    columns = arguments(name, dtype, count)
    total = len(columns[0])
    with cv.enable_x64(True):
        found = np.asarray(cv.jit(functions()[name])(*columns))
        if np.dtype(dtype) == np.float32:
            with np.errstate(all="ignore"):
                guess = units(name, columns, found, _estimate(name, columns))
            worst = np.argsort(guess)[-refine:]
            columns, found = [c[worst] for c in columns], found[worst]
        error = units(name, columns, found, exact(name, columns))
    worst = int(error.argmax())
    at = tuple([float(c[worst]) for c in columns])
    return Error(name, np.dtype(dtype).name, float(error[worst]), at, total)


def table(singles: int, doubles: int) -> str:
    """The errors of all functions as a Markdown table.

    Args:
        singles: samples of each kind for float32.
        doubles: samples of each kind for float64.

    Returns:
        The table's text.
    """
    lines = [
        "| function | float32: ulp | at | float64: ulp | at |",
        "|---|---|---|---|---|",
    ]
    for name in functions():
        row = [measure(name, dtype, n) for dtype, n in (("f4", singles), ("f8", doubles))]
        cells = [f"{e.ulp:.2f} | {', '.join(f'{x:.6g}' for x in e.at)}" for e in row]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--singles", type=int, default=300_000, help="float32 samples of a kind")
    parser.add_argument("--doubles", type=int, default=3_000, help="float64 samples of a kind")
    arguments = parser.parse_args()
    print(table(arguments.singles, arguments.doubles))


if __name__ == "__main__":
    main()
