"""Elementary functions: errors in units in the last place, and special values.

float32 is compared with NumPy's and SciPy's float64 functions, float64 with mpmath.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath as mp
import numpy as np
import pytest
import scipy.special as special

from covector.loopir.mathematics import DEFINITIONS, RARE, definition
from covector.loopir.scalars import TABLE
from covector.loopir.verifier import verify

F32, F64 = np.dtype("f4"), np.dtype("f8")
CPUS = (None, "x86-64-v2")
NAN, INF = math.nan, math.inf

NUMPY: dict[str, Callable[..., np.ndarray]] = {
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "logistic": lambda x: np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))),
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "cbrt": np.cbrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "erf": special.erf,
    "erfc": special.erfc,
    "erf_inv": special.erfinv,
    "lgamma": special.gammaln,
    "digamma": special.digamma,
    "pow": np.power,
    "atan2": np.arctan2,
    "hypot": np.hypot,
}
MPMATH: dict[str, Callable[..., mp.mpf]] = {
    "exp2": lambda x: mp.mpf(2) ** x,
    "log2": lambda x: mp.log(x) / mp.log(2),
    "logistic": lambda x: 1 / (1 + mp.exp(-x)),
    "cbrt": lambda x: mp.sign(x) * mp.cbrt(abs(x)),
    "rsqrt": lambda x: 1 / mp.sqrt(x),
    "erf_inv": mp.erfinv,
    "lgamma": lambda x: mp.re(mp.loggamma(x)),
    "pow": mp.power,
}
HARD = ("pow", "asinh", "acosh", "atanh", "erfc", "erf_inv", "digamma", "lgamma")
# Roots other than 0, near which the error is absolute.
ROOTS = {"lgamma": (1.0, 2.0)}
POSITIVE = ("log", "log2", "log10", "rsqrt", "lgamma")
LIMITS = {
    **dict.fromkeys(("exp", "expm1", "logistic", "sinh", "cosh"), (104.0, 745.0)),
    "exp2": (150.0, 1075.0),
    **dict.fromkeys(("asin", "acos", "atanh", "erf_inv"), (1.0, 1.0)),
    "erfc": (10.5, 27.5),
    "erf": (5.0, 7.0),
    "tanh": (12.0, 24.0),
    "lgamma": (50.0, 50.0),
    "digamma": (50.0, 50.0),
}


def arguments(name: str, dtype: np.dtype, n: int) -> list[np.ndarray]:
    """Samples of the whole domain, all scales of it, and what is near its ends."""
    rng = np.random.default_rng(sum(map(ord, name)))
    if name == "pow":
        scale = 60 if dtype == F32 else 600
        x = np.concatenate([np.exp(rng.uniform(-scale, scale, n)), 1 + rng.normal(0, 1e-4, n)])
        y = np.concatenate([rng.uniform(-1, 1, n), rng.uniform(-1e5, 1e5, n)])
        return [x.astype(dtype), y.astype(dtype)]
    if TABLE[name].arity == 2:
        values = np.exp(rng.uniform(-40, 40, (2, n))) * rng.choice([-1.0, 1.0], (2, n))
        near = values[0] * rng.uniform(0.3, 3, n)
        return [
            np.concatenate([values[0], values[0]]).astype(dtype),
            np.concatenate([values[1], near]).astype(dtype),
        ]
    limit = LIMITS.get(name, (1e4, 1e5))[dtype == F64]
    x = np.concatenate(
        [
            rng.uniform(-limit, limit, n),
            rng.uniform(-1, 1, n),
            np.exp(rng.uniform(-45, math.log(limit), n)) * rng.choice([-1, 1], n),
            limit - np.exp(rng.uniform(-30, 0, n // 4)) * min(limit, 1.0),
        ]
    )
    if name in POSITIVE:
        x = np.concatenate([np.abs(x), 1 + rng.normal(0, 1e-3, n // 4)])
    elif name == "acosh":
        x = 1 + np.abs(x)
    elif name == "log1p":
        x = np.where(x > -1, x, -1 + np.abs(x) / (1.01 * limit))
    elif name == "digamma":
        x = np.where(x > 0, x, x / limit * 5)
    elif name in ("sin", "cos", "tan"):
        multiples = np.arange(1, n) * (math.pi / 2)
        x = np.concatenate([x, multiples, multiples * 1000, rng.uniform(0, 1e12, n // 8)])
    x = x.astype(dtype)
    return [x[np.abs(x) < 1] if limit == 1.0 else x]


def errors(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Differences in units in the last place of the exact result."""
    info = np.finfo(found.dtype)
    exact = exact.astype(np.longdouble)
    size = np.maximum(np.abs(exact), np.longdouble(info.tiny))
    unit = np.exp2(np.floor(np.log2(size))) * np.longdouble(info.eps)
    error = np.abs(found.astype(np.longdouble) - exact) / unit
    limit = exact.astype(found.dtype)
    same = (found == limit) | (np.isnan(found) & np.isnan(limit))
    return np.where(same & ~np.isfinite(limit), 0, error)


def precise(name: str, args: list[np.ndarray]) -> np.ndarray:
    """Results of mpmath in twice double precision, as long doubles."""
    function = MPMATH.get(name) or getattr(mp, name)
    results = []
    with mp.workdps(45):
        for values in zip(*(a.tolist() for a in args), strict=True):
            value = function(*map(mp.mpf, values))
            head = float(value)
            rest = 0.0 if math.isinf(head) else float(value - mp.mpf(head))
            results.append(np.longdouble(head) + np.longdouble(rest))
    return np.array(results)


def tolerance(name: str) -> float:
    return 4.0 if name in HARD else 2.0


def check(name: str, args: list[np.ndarray], found: np.ndarray, exact: np.ndarray) -> None:
    error = errors(found, exact)
    for root in ROOTS.get(name, ()):
        near = np.abs(args[0] - root) < 0.2
        unit = float(np.finfo(found.dtype).eps)
        error = np.where(near, np.abs(found - exact.astype(np.float64)) / unit, error)
    if name == "digamma":  # roots between the poles
        error = np.where(args[0] < 0, np.minimum(error, np.abs(found - exact) * 1e15), error)
    worst = int(np.argmax(np.where(np.isnan(error), INF, error)))
    report = f"{name}{[a[worst] for a in args]} = {found[worst]!r}, not {exact[worst]!r}"
    assert error[worst] <= tolerance(name), f"{report}: {error[worst]} units"


NAMES = [n for n in DEFINITIONS if not n.endswith("_large")]


@pytest.mark.parametrize("cpu", CPUS, ids=str)
@pytest.mark.parametrize("name", NAMES)
@np.errstate(all="ignore")
def test_float32(name, cpu, elementwise):
    args = arguments(name, F32, 20000)
    arity = len(args)
    run = elementwise(lambda b, *x: b.op(name, *x), [F32] * arity, F32, len(args[0]), True, cpu)
    exact = NUMPY[name](*(a.astype(np.float64) for a in args))
    check(name, args, run(*args)[0], exact)


@pytest.mark.parametrize("cpu", CPUS, ids=str)
@pytest.mark.parametrize("name", NAMES)
@np.errstate(all="ignore")
def test_float64(name, cpu, elementwise):
    args = arguments(name, F64, 100)
    arity = len(args)
    run = elementwise(lambda b, *x: b.op(name, *x), [F64] * arity, F64, len(args[0]), True, cpu)
    check(name, args, run(*args)[0], precise(name, args))


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", NAMES)
@np.errstate(all="ignore")
def test_one_at_a_time(name, dtype, elementwise):
    """Scalar code gives what vector code gives."""
    args = arguments(name, dtype, 300)
    arity = len(args)
    results = [
        elementwise(lambda b, *x: b.op(name, *x), [dtype] * arity, dtype, len(args[0]), lanes)(
            *args
        )[0]
        for lanes in (True, False)
    ]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@np.errstate(all="ignore")
def test_lgamma_of_negative_numbers(dtype, elementwise):
    """Roots lie between the poles, so errors near them count as those of 1."""
    rng = np.random.default_rng(3)
    tiny = -np.exp(rng.uniform(-80 if dtype == F32 else -700, 0, 100))
    x = np.concatenate([-rng.uniform(0, 30, 300), -rng.uniform(0, 1e5, 100), tiny]).astype(dtype)
    x = x[x != np.round(x)]
    run = elementwise(lambda b, x: b.op("lgamma", x), [dtype], dtype, len(x), True)
    exact = precise("lgamma", [x])
    error = np.abs(run(x)[0] - exact) / np.maximum(1, np.abs(exact))
    assert np.max(error) <= 4 * np.finfo(dtype).eps


SPECIAL: dict[str, list[tuple[float, ...]]] = {
    "exp": [(0, 1), (-0.0, 1), (INF, INF), (-INF, 0.0), (1e9, INF), (-1e9, 0.0)],
    "exp2": [(0, 1), (3, 8), (-2, 0.25), (INF, INF), (-INF, 0.0)],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -1)],
    "log": [(1, 0.0), (0.0, -INF), (-0.0, -INF), (-1, NAN), (INF, INF), (-INF, NAN)],
    "log2": [(1, 0.0), (8, 3), (0.125, -3), (0.0, -INF), (-1, NAN), (INF, INF)],
    "log10": [(1, 0.0), (100, 2), (0.0, -INF), (-1, NAN), (INF, INF)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (-1, -INF), (-2, NAN), (INF, INF), (-INF, NAN)],
    "logistic": [(0, 0.5), (INF, 1), (-INF, 0.0), (1e9, 1)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN)],
    "cos": [(0.0, 1), (-0.0, 1), (INF, NAN)],
    "tan": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN)],
    "asin": [(0.0, 0.0), (-0.0, -0.0), (1, math.pi / 2), (-1, -math.pi / 2), (1.5, NAN)],
    "acos": [(1, 0.0), (-1, math.pi), (0, math.pi / 2), (-2, NAN), (INF, NAN)],
    "atan": [(0.0, 0.0), (-0.0, -0.0), (INF, math.pi / 2), (-INF, -math.pi / 2)],
    "sinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (1e9, INF)],
    "cosh": [(0.0, 1), (INF, INF), (-INF, INF), (-1e9, INF)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1), (1e9, 1)],
    "asinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF)],
    "acosh": [(1, 0.0), (0.5, NAN), (-5, NAN), (INF, INF), (-INF, NAN)],
    "atanh": [(0.0, 0.0), (-0.0, -0.0), (1, INF), (-1, -INF), (2, NAN)],
    "cbrt": [(0.0, 0.0), (-0.0, -0.0), (8, 2), (-27, -3), (INF, INF), (-INF, -INF)],
    "rsqrt": [(4, 0.5), (0.0, INF), (-0.0, -INF), (INF, 0.0), (-1, NAN)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1)],
    "erfc": [(0.0, 1), (INF, 0.0), (-INF, 2)],
    "erf_inv": [(0.0, 0.0), (-0.0, -0.0), (1, INF), (-1, -INF), (1.5, NAN)],
    "lgamma": [(1, 0.0), (2, 0.0), (0.0, INF), (-1, INF), (INF, INF), (-INF, INF), (-0.0, INF)],
    "digamma": [(0.0, -INF), (-0.0, -INF), (-1, NAN), (INF, INF), (-INF, NAN)],
    "atan2": [
        (0.0, 1, 0.0),
        (-0.0, 1, -0.0),
        (0.0, -1, math.pi),
        (-0.0, -1, -math.pi),
        (0.0, 0.0, 0.0),
        (-0.0, -0.0, -math.pi),
        (0.0, -0.0, math.pi),
        (1, 0.0, math.pi / 2),
        (-1, -0.0, -math.pi / 2),
        (INF, INF, math.pi / 4),
        (INF, -INF, 3 * math.pi / 4),
        (1, INF, 0.0),
        (-1, INF, -0.0),
        (1, -INF, math.pi),
        (NAN, 1, NAN),
        (1, NAN, NAN),
    ],
    "hypot": [(3, 4, 5), (INF, NAN, INF), (NAN, -INF, INF), (NAN, 1, NAN), (0.0, -0.0, 0.0)],
    "pow": [
        (2, 10, 1024),
        (-2, 3, -8),
        (-2, 2, 4),
        (-2, 0.5, NAN),
        (0.0, 3, 0.0),
        (-0.0, 3, -0.0),
        (-0.0, 2, 0.0),
        (0.0, -1, INF),
        (-0.0, -1, -INF),
        (-0.0, -2, INF),
        (NAN, 0, 1),
        (1, NAN, 1),
        (NAN, 1, NAN),
        (2, NAN, NAN),
        (2, INF, INF),
        (2, -INF, 0.0),
        (0.5, INF, 0.0),
        (0.5, -INF, INF),
        (-1, INF, 1),
        (-1, -INF, 1),
        (INF, 2, INF),
        (INF, -2, 0.0),
        (-INF, 3, -INF),
        (-INF, 2, INF),
        (-INF, -3, -0.0),
        (-INF, 0.5, INF),
        (10, 400, INF),
        (10, -400, 0.0),
        (-10, 401, -INF),
    ],
}


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", NAMES)
@np.errstate(all="ignore")
def test_special_values(name, dtype, elementwise):
    rows = [*SPECIAL[name]]
    arity = TABLE[name].arity
    if arity == 1:
        rows.append((NAN, NAN))
    columns = [np.array(c, dtype) for c in zip(*rows, strict=True)]
    run = elementwise(lambda b, *x: b.op(name, *x), [dtype] * arity, dtype, len(rows), True)
    found, wanted = run(*columns[:-1])[0], columns[-1]
    np.testing.assert_allclose(found, wanted, rtol=4 * np.finfo(dtype).eps)
    zero = wanted == 0
    np.testing.assert_array_equal(np.signbit(found[zero]), np.signbit(wanted[zero]))


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize(
    "name", ["exp", "exp2", "expm1", "log", "log2", "sin", "tanh", "erfc", "cbrt"]
)
@np.errstate(all="ignore")
def test_subnormal_numbers(name, dtype, elementwise):
    """Arguments that are, and arguments whose results are."""
    info = np.finfo(dtype)
    least = float(info.smallest_subnormal)
    x = np.concatenate([least * np.arange(1, 50), np.geomspace(least, info.tiny, 50)])
    if name in ("exp", "exp2"):
        low = math.log(least) if name == "exp" else math.log2(least)
        x = np.linspace(low - 2, low * 0.95, 200)
    elif name == "erfc":
        x = np.linspace(9.2, 10.2, 100) if dtype == F32 else np.linspace(26.2, 27.3, 100)
    x = x.astype(dtype)
    found = elementwise(lambda b, v: b.op(name, v), [dtype], dtype, len(x), True)(x)[0]
    check(name, [x], found, precise(name, [x]))


def test_definitions_are_complete_and_valid():
    elementary = {name for name, spec in TABLE.items() if spec.elementary}
    assert elementary == set(DEFINITIONS)
    assert set(DEFINITIONS) >= RARE
    for name in DEFINITIONS:
        for dtype in (F32, F64):
            function = definition(name, dtype)
            assert function is definition(name, dtype)
            verify(function)
