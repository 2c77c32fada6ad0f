"""Fit the polynomials of the elementary functions: python tools/fit_polynomials.py [name ...]

Writes src/covector/loopir/coefficients.py (all of it, or the rows named). Each fit minimises the
greatest weighted error over an interval by Remez's exchange, in 50 digits. Coefficients are rounded
one after the other, from the lowest degree up, and those that follow make good for the rounding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mpmath as mp
import numpy as np

mp.mp.dps = 50
TARGET = Path(__file__).resolve().parent.parent / "src/covector/loopir/coefficients.py"

Function = Callable[[mp.mpf], mp.mpf]
LN2 = mp.log(2)


@dataclass(frozen=True)
class Fit:
    """What to approximate: `function` on an interval, its error multiplied by `weight`."""

    name: str
    function: Function
    low: mp.mpf
    high: mp.mpf
    degree: int
    weight: Function
    single: bool
    about: str


def smooth(function: Function, terms: int = 24) -> Function:
    """A function of the form f(x) / x^k, continued through the origin by its Taylor series."""
    series: list[mp.mpf] = []

    def evaluate(x: mp.mpf) -> mp.mpf:
        if abs(x) > mp.mpf("0.02"):
            return function(x)
        if not series:
            with mp.workdps(400):
                h = mp.mpf(10) ** -6
                points = [h * k for k in range(1, terms)]
                series.extend(_newton(points, [function(p) for p in points]))
        total = mp.mpf(0)
        h = mp.mpf(10) ** -6
        for k in range(terms - 2, -1, -1):
            total = total * (x - h * (k + 1)) + series[k]
        return total

    return evaluate


def _newton(points: list[mp.mpf], values: list[mp.mpf]) -> list[mp.mpf]:
    table = list(values)
    for order in range(1, len(points)):
        for k in range(len(points) - 1, order - 1, -1):
            table[k] = (table[k] - table[k - 1]) / (points[k] - points[k - order])
    return table


def horner(coefficients: list[mp.mpf], x: mp.mpf) -> mp.mpf:
    total = mp.mpf(0)
    for c in reversed(coefficients):
        total = total * x + c
    return total


def chebyshev_points(low: mp.mpf, high: mp.mpf, n: int) -> list[mp.mpf]:
    middle, half = (low + high) / 2, (high - low) / 2
    return [middle - half * mp.cos(mp.pi * k / (n - 1)) for k in range(n)]


class Remez:
    """The exchange algorithm for one fit."""

    def __init__(self, fit: Fit) -> None:
        self.fit = fit
        count = 40 * (fit.degree + 2)
        self.grid = chebyshev_points(mp.mpf(fit.low), mp.mpf(fit.high), count)
        self.values = [fit.function(x) for x in self.grid]
        self.weights = [abs(fit.weight(x)) for x in self.grid]
        # The exchange starts from weights without zeros, which would make it run away.
        greatest = max(self.weights)
        self.first_weights = [max(w, greatest / 8) for w in self.weights]

    def errors(self, coefficients: list[mp.mpf], weights: list[mp.mpf]) -> list[mp.mpf]:
        triples = zip(self.grid, self.values, weights, strict=True)
        return [(v - horner(coefficients, x)) * w for x, v, w in triples]

    def solve(self) -> list[mp.mpf]:
        unknowns = self.fit.degree + 1
        last = len(self.grid) - 1
        angles = [mp.pi * (k + mp.mpf(1) / 2) / (unknowns + 1) for k in range(unknowns + 1)]
        chosen = [round(last * (1 - float(mp.cos(a))) / 2) for a in angles]
        best, least = [mp.mpf(0)] * unknowns, mp.inf
        for round_ in range(16):
            weights = self.first_weights if round_ < 3 else self.weights
            coefficients = self._interpolate(unknowns, chosen, weights)
            worst = max(abs(e) for e in self.errors(coefficients, self.weights))
            if worst < least:
                best, least = coefficients, worst
            peaks = _alternation(self.errors(coefficients, weights), unknowns + 1)
            if peaks is None or (peaks == chosen and round_ > 3):
                break
            chosen = peaks
        return best

    def _interpolate(self, unknowns: int, chosen: list[int], weights: list[mp.mpf]) -> list[mp.mpf]:
        matrix, right = mp.matrix(unknowns + 1), mp.matrix(unknowns + 1, 1)
        for row, k in enumerate(chosen):
            x, w = self.grid[k], weights[k]
            for column in range(unknowns):
                matrix[row, column] = x**column
            matrix[row, unknowns] = (-1) ** row / w if w else mp.mpf(0)
            right[row] = self.values[k]
        return list(mp.lu_solve(matrix, right))[:unknowns]

    def round(self, best: list[mp.mpf]) -> list[mp.mpf]:
        """Rounds one coefficient after the other; the rest follow by weighted least squares."""
        rest, fixed = list(best), []
        points = list(zip(self.grid, self.first_weights, strict=True))[::4]
        for k in range(len(best)):
            fixed.append(rounded(rest[0], self.fit.single))
            difference = rest[0] - fixed[-1]
            rest = rest[1:]
            if not rest:
                break
            # difference x^k is to be made good by powers from k + 1 on
            size = len(rest)
            matrix, right = mp.matrix(size), mp.matrix(size, 1)
            for x, w in points:
                powers = [w * x ** (k + 1 + j) for j in range(size)]
                for i in range(size):
                    right[i] += powers[i] * w * x**k * difference
                    for j in range(size):
                        matrix[i, j] += powers[i] * powers[j]
            change = mp.lu_solve(matrix, right)
            rest = [c + d for c, d in zip(rest, change, strict=True)]
        return fixed


def _alternation(errors: list[mp.mpf], count: int) -> list[int] | None:
    """Positions of extremes of alternating sign, the largest `count` in a row."""
    peaks: list[int] = []
    for k, e in enumerate(errors):
        if peaks and (errors[peaks[-1]] > 0) == (e > 0):
            if abs(e) > abs(errors[peaks[-1]]):
                peaks[-1] = k
        elif e != 0:
            peaks.append(k)
    while len(peaks) > count:
        peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
    return peaks if len(peaks) == count else None


def rounded(value: mp.mpf, single: bool) -> mp.mpf:
    number = float(value)
    return mp.mpf(float(np.float32(number)) if single else number)


def run(fit: Fit) -> tuple[list[float], float]:
    """The rounded coefficients and the binary logarithm of their greatest error."""
    remez = Remez(fit)
    best = remez.solve()
    candidates = [remez.round(best), [rounded(c, fit.single) for c in best]]
    fixed = min(candidates, key=lambda c: max(abs(e) for e in remez.errors(c, remez.weights)))
    worst = max(abs(e) for e in remez.errors(fixed, remez.weights))
    return [float(c) for c in fixed], float(mp.log(worst, 2))


def both(
    name: str,
    function: Function,
    low: mp.mpf,
    high: mp.mpf,
    degrees: tuple[int, int],
    weight: Function,
    about: str,
) -> list[Fit]:
    """A fit for float32 and one for float64."""
    return [
        Fit(f"{name}_F{32 if single else 64}", function, low, high, degree, weight, single, about)
        for single, degree in zip((True, False), degrees, strict=True)
    ]


def _even(function: Function) -> Function:
    """A function of x as a function of t = x^2."""
    return lambda t: function(mp.sqrt(t))


HALF_LN2 = LN2 / 2 * mp.mpf("1.0001")
LOG_LOW, LOG_HIGH = mp.sqrt(mp.mpf("0.5")) - 1, mp.sqrt(2) - 1
LOG_S = (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)
QUARTER_PI = mp.pi / 4 * mp.mpf("1.0001")
TAN_EIGHTH = mp.tan(mp.pi / 8) * mp.mpf("1.0001")


def log_series(z: mp.mpf) -> mp.mpf:
    """(log((1 + s) / (1 - s)) - 2 s) / (s z) with z = s^2."""
    s = mp.sqrt(z)
    return (mp.log((1 + s) / (1 - s)) - 2 * s) / (s * z)


def erfcx(x: mp.mpf) -> mp.mpf:
    return mp.exp(x * x) * mp.erfc(x)


def log_series_rest(z: mp.mpf) -> mp.mpf:
    """What follows the 2/3 of `log_series`, over z."""
    return (log_series(z) - mp.mpf(2) / 3) / z


def erf_inv_of_log(w: mp.mpf) -> mp.mpf:
    """erf_inv(x) / x as a function of w = -log(1 - x^2)."""
    x = mp.sqrt(-mp.expm1(-w))
    if w < mp.mpf("1e-20"):
        return mp.sqrt(mp.pi) / 2
    return mp.erfinv(x) / x


def _erf_inv(centre: str, root: bool) -> Function:
    """`erf_inv_of_log` in w - centre, or in sqrt(w) - centre."""
    shift = mp.mpf(centre)
    return lambda u: erf_inv_of_log((u + shift) ** 2 if root else u + shift)


def _erf_inv_fit(
    name: str, low: str, high: str, centre: str, degree: int, root: bool, single: bool
) -> Fit:
    function = _erf_inv(centre, root)
    shift = mp.mpf(centre)
    variable = "sqrt(w)" if root else "w"
    about = (
        f"erf_inv(x) / x in {variable} - {centre}, w = -log(1 - x^2), {low} <= {variable} <= {high}"
    )
    ends = mp.mpf(low) - shift, mp.mpf(high) - shift
    return Fit(name, function, *ends, degree, lambda u: 1 / function(u), single, about)


def _erfcx_mapped(centre: int) -> Function:
    """(1 + 2 x) erfcx(x) as a function of u = (x - c) / (x + c)."""

    def function(u: mp.mpf) -> mp.mpf:
        x = centre * (1 + u) / (1 - u)
        return (1 + 2 * x) * erfcx(x)

    return function


def denominator(
    function: Function, low: float, high: float, degrees: tuple[int, int]
) -> list[float]:
    """The denominator of a rational approximation of small absolute error, its first term 1.

    Least squares of the linearised error, weighted by the last denominator (C. K. Sanathanan and
    J. Koerner, 1963) and by the errors before (C. L. Lawson, 1961).
    """
    top, bottom = degrees
    middle, half = (low + high) / 2, (high - low) / 2
    x = middle - half * np.cos(np.pi * (np.arange(2000) + 0.5) / 2000)
    values = np.array([float(function(mp.mpf(p))) for p in x])
    powers = np.vander(x / high, max(degrees) + 1, increasing=True)
    weights, below, least = np.ones_like(x), np.ones_like(x), np.inf
    best = np.ones(1)
    for _ in range(60):
        scale = np.sqrt(weights) / below
        columns = [powers[:, : top + 1], -values[:, None] * powers[:, 1 : bottom + 1]]
        system = np.hstack(columns) * scale[:, None]
        norms = np.linalg.norm(system, axis=0)
        solution = np.linalg.lstsq(system / norms, values * scale, rcond=1e-17)[0] / norms
        found = np.concatenate([[1.0], solution[top + 1 :]])
        below = powers[:, : bottom + 1] @ found
        errors = np.abs(powers[:, : top + 1] @ solution[: top + 1] / below - values)
        if errors.max() < least and np.all(below > 0):
            best, least = found * high ** -np.arange(bottom + 1.0), errors.max()
        weights *= errors / errors.max() + 1e-3
        weights /= weights.mean()
    return [float(np.float32(c)) for c in best]


def _tanh_rest(x: mp.mpf) -> mp.mpf:
    return 2 / (1 + mp.exp(2 * x))


TANH_POLES = [mp.mpf(c) for c in denominator(_tanh_rest, 0.98, 9.2, (7, 5))]

DIGAMMA_ROOT = mp.findroot(mp.digamma, mp.mpf("1.4616321449683623"))


def _digamma_over_root(x: mp.mpf) -> mp.mpf:
    return mp.digamma(x) / (x - DIGAMMA_ROOT)


def _lgamma_near(centre: str) -> Function:
    """lgamma(x) / ((x - 1) (x - 2)) in x - centre; at a root, its value very near."""

    def function(u: mp.mpf) -> mp.mpf:
        x = u + mp.mpf(centre)
        x += mp.mpf("1e-22") if x in (1, 2) else 0
        return mp.loggamma(x) / ((x - 1) * (x - 2))

    return function


def _stirling_rest(z: mp.mpf) -> mp.mpf:
    """x times what lgamma(x) is beyond (x - 1/2) log(x) - x + log(2 pi) / 2, z = 1 / x^2."""
    x = 1 / mp.sqrt(z)
    return (mp.loggamma(x) - (x - mp.mpf("0.5")) * mp.log(x) + x - mp.log(2 * mp.pi) / 2) * x


def _stirling_weight(z: mp.mpf) -> mp.mpf:
    return mp.sqrt(z) / mp.loggamma(1 / mp.sqrt(z)) if z else mp.mpf(0)


def _lgamma_fits(width: int, high: int, far: int, degrees: tuple[int, int]) -> list[Fit]:
    """A polynomial from 1 to `high`, and one from `far` on; the coefficients are float64."""
    centre, half = str((1 + high) / 2), mp.mpf(high - 1) / 2
    near = _lgamma_near(centre)
    one = f"lgamma(x) / ((x - 1) (x - 2)) in x - {centre} for 1 <= x <= {high}"
    two = f"x (lgamma(x) - (x - 1/2) log(x) + x - log(2 pi) / 2) in 1 / x^2 for x >= {far}"
    rest, least, weight = smooth(_stirling_rest), 1 / mp.mpf(far) ** 2, _stirling_weight
    names = f"LGAMMA_NEAR_F{width}", f"LGAMMA_FAR_F{width}"
    return [
        Fit(names[0], near, -half, half, degrees[0], lambda u: 1 / near(u), False, one),
        Fit(names[1], rest, mp.mpf(0), least, degrees[1], weight, False, two),
    ]


FITS: list[Fit] = [
    *both(
        "EXP",
        smooth(lambda r: (mp.expm1(r) - r) / r**2),
        -HALF_LN2,
        HALF_LN2,
        (5, 9),
        lambda r: r,
        "(exp(r) - 1 - r) / r^2 for |r| <= log(2) / 2",
    ),
    *both(
        "EXP_PLUS_ONE",
        smooth(lambda r: (mp.expm1(r) - r) / r**2),
        -HALF_LN2,
        HALF_LN2,
        (4, 9),
        lambda r: r**2,
        "(exp(r) - 1 - r) / r^2 for |r| <= log(2) / 2, for use in exp(r) itself",
    )[:1],
    *both(
        "EXP2",
        smooth(lambda r: (mp.exp(r * LN2) - 1) / r),
        mp.mpf("-0.5"),
        mp.mpf("0.5"),
        (5, 10),
        lambda r: r,
        "(2^r - 1) / r for |r| <= 1/2",
    ),
    *both(
        "LOG",
        smooth(lambda f: (mp.log1p(f) - f + f**2 / 2) / f**3),
        LOG_LOW,
        LOG_HIGH,
        (7, 7),
        lambda f: f**2,
        "(log(1 + f) - f + f^2 / 2) / f^3 for sqrt(1/2) <= 1 + f <= sqrt(2)",
    )[:1],
    *both(
        "LOG_S",
        smooth(log_series),
        mp.mpf(0),
        LOG_S**2 * mp.mpf("1.0001"),
        (3, 6),
        lambda z: z,
        "(log((1 + s) / (1 - s)) - 2 s) / s^3 in s^2",
    ),
    Fit(
        "LOG_S_POW32",
        smooth(log_series),
        mp.mpf(0),
        LOG_S**2 * mp.mpf("1.0001"),
        4,
        lambda z: z,
        False,
        "the same for the float32 power, which is computed in float64",
    ),
    Fit(
        "LOG_S_REST",
        smooth(log_series_rest, 20),
        mp.mpf(0),
        LOG_S**2 * mp.mpf("1.0001"),
        7,
        lambda z: z**2,
        False,
        "((log((1 + s) / (1 - s)) - 2 s) / s^3 - 2/3) / s^2 in s^2, for the float64 power",
    ),
    Fit(
        "EXP2_POW32",
        smooth(lambda r: (mp.exp(r * LN2) - 1) / r),
        mp.mpf("-0.5"),
        mp.mpf("0.5"),
        5,
        lambda r: r,
        False,
        "(2^r - 1) / r for |r| <= 1/2, for the float32 power",
    ),
    Fit(
        "CBRT",
        lambda m: mp.cbrt(m),
        mp.sqrt(mp.mpf("0.5")),
        mp.sqrt(2),
        3,
        lambda m: 1 / mp.cbrt(m),
        False,
        "cube root for sqrt(1/2) <= m <= sqrt(2), a first guess",
    ),
    _erf_inv_fit("ERF_INV_LOW_F32", "0", "5", "2.5", 9, False, True),
    _erf_inv_fit("ERF_INV_HIGH_F32", "2.236", "4", "3", 9, True, True),
    _erf_inv_fit("ERF_INV_LOW_F64", "0", "6.25", "3.125", 24, False, False),
    _erf_inv_fit("ERF_INV_MIDDLE_F64", "2.5", "4", "3.25", 20, True, False),
    _erf_inv_fit("ERF_INV_HIGH_F64", "4", "6.1", "5", 18, True, False),
    *both(
        "SINH",
        smooth(_even(lambda x: (mp.sinh(x) / x - 1) / x**2)),
        mp.mpf(0),
        mp.mpf("1.0001"),
        (3, 7),
        lambda t: t,
        "(sinh(x) / x - 1) / x^2 in x^2 for |x| <= 1",
    ),
    *both(
        "TANH",
        smooth(_even(lambda x: (mp.tanh(x) / x - 1) / x**2)),
        mp.mpf(0),
        mp.mpf("1.0001"),
        (6, 10),
        lambda t: t,
        "(tanh(x) / x - 1) / x^2 in x^2 for |x| <= 1",
    )[:1],
    *both(
        "TANH",
        smooth(_even(lambda x: (mp.tanh(x) / x - 1) / x**2)),
        mp.mpf(0),
        mp.mpf("0.3026"),
        (4, 10),
        lambda t: t,
        "(tanh(x) / x - 1) / x^2 in x^2 for |x| <= 0.55",
    )[1:],
    Fit(
        "TANH_REST_ABOVE",
        lambda x: _tanh_rest(x) * horner(TANH_POLES, x),
        mp.mpf("0.99"),
        mp.mpf("9.2"),
        7,
        lambda x: 1 / horner(TANH_POLES, x),
        True,
        "numerator of 1 - tanh(x) for 1 <= x <= 9.2",
    ),
    Fit(
        "TANH_REST_BELOW",
        lambda x: horner(TANH_POLES, x),
        mp.mpf("0.99"),
        mp.mpf("9.2"),
        5,
        lambda x: 1 / horner(TANH_POLES, x),
        True,
        "its denominator",
    ),
    *both(
        "SIN",
        smooth(_even(lambda r: (mp.sin(r) / r - 1) / r**2)),
        mp.mpf(0),
        QUARTER_PI**2,
        (2, 5),
        lambda t: t,
        "(sin(r) / r - 1) / r^2 in r^2 for |r| <= pi/4",
    ),
    *both(
        "COS",
        smooth(_even(lambda r: (mp.cos(r) - 1 + r**2 / 2) / r**4)),
        mp.mpf(0),
        QUARTER_PI**2,
        (2, 5),
        lambda t: t**2,
        "(cos(r) - 1 + r^2 / 2) / r^4 in r^2 for |r| <= pi/4",
    ),
    *both(
        "TAN",
        smooth(_even(lambda r: (mp.tan(r) / r - 1) / r**2)),
        mp.mpf(0),
        QUARTER_PI**2,
        (6, 14),
        lambda t: t,
        "(tan(r) / r - 1) / r^2 in r^2 for |r| <= pi/4",
    ),
    *both(
        "ATAN",
        smooth(_even(lambda z: (mp.atan(z) / z - 1) / z**2)),
        mp.mpf(0),
        mp.mpf("1.0001"),
        (8, 0),
        lambda t: t,
        "(atan(z) / z - 1) / z^2 in z^2 for |z| <= 1",
    )[:1],
    *both(
        "ATAN",
        smooth(_even(lambda z: (mp.atan(z) / z - 1) / z**2)),
        mp.mpf(0),
        TAN_EIGHTH**2,
        (0, 10),
        lambda t: t,
        "(atan(z) / z - 1) / z^2 in z^2 for |z| <= tan(pi/8)",
    )[1:],
    *both(
        "ASIN",
        smooth(_even(lambda s: (mp.asin(s) / s - 1) / s**2)),
        mp.mpf(0),
        mp.mpf("0.25"),
        (4, 11),
        lambda t: t,
        "(asin(s) / s - 1) / s^2 in s^2 for |s| <= 1/2",
    ),
    *[
        both(
            "ERF",
            smooth(_even(lambda x: mp.erf(x) / x - 1)),
            mp.mpf(0),
            mp.mpf(high) ** 2,
            (7, 14),
            lambda t: 1,
            f"erf(x) / x - 1 in x^2 for |x| <= {high}",
        )[k]
        for k, high in enumerate(("1.1", "1"))
    ],
    Fit(
        "ERF_REST_F32",
        lambda u: mp.erfc(u + mp.mpf("2.5")) ** mp.mpf("0.25"),
        mp.mpf("-1.4"),
        mp.mpf("1.5"),
        8,
        lambda u: 4 * mp.erfc(u + mp.mpf("2.5")) ** mp.mpf("0.75"),
        True,
        "erfc(x)^(1/4) in x - 2.5 for 1.1 <= x <= 4",
    ),
    *both(
        "ERFC",
        _erfcx_mapped(2),
        mp.mpf(-1),
        mp.mpf("0.87"),
        (11, 25),
        lambda u: 1,
        "(1 + 2 x) exp(x^2) erfc(x) in (x - 2) / (x + 2) for 0 <= x <= 28",
    ),
    Fit(
        "DIGAMMA",
        lambda u: _digamma_over_root(u + mp.mpf("1.5")),
        mp.mpf("-0.5"),
        mp.mpf("0.5"),
        22,
        lambda u: 1 / _digamma_over_root(u + mp.mpf("1.5")),
        False,
        "digamma(x) / (x - r) in x - 3/2 for 1 <= x <= 2, r its root",
    ),
    *_lgamma_fits(32, 3, 3, (15, 4)),
    *_lgamma_fits(64, 2, 8, (20, 5)),
]

HEADER = '''"""Coefficients of polynomials, lowest degree first; by tools/fit_polynomials.py."""
'''


def main(names: list[str]) -> None:
    rows = [fit for fit in FITS if not names or fit.name in names]
    lines: list[str] = []
    for fit in rows:
        coefficients, error = run(fit)
        print(
            f"{fit.name:12s} degree {fit.degree:2d} error 2^{error:.1f}",
            file=sys.stderr,
            flush=True,
        )
        body = "".join(f"    {c!r},\n" for c in coefficients)
        lines.append(f"\n# {fit.about}; error 2^{error:.1f}\n{fit.name} = (\n{body})\n")
    if names:
        print("".join(lines))
    else:
        TARGET.write_text(HEADER + "".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
