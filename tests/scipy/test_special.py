"""Special functions against SciPy (values, edges) and mpmath (derivatives), on both backends."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest
import scipy.special as scipy

import covector as cv
from covector.scipy import special as ours

Array = np.ndarray[Any, Any]

RNG = np.random.default_rng(0)
REALS = np.concatenate([RNG.uniform(-8, 8, 40), RNG.uniform(-40, 40, 20), [1e-9, -1e-9, 1e5]])
POSITIVE = np.concatenate([RNG.uniform(0, 6, 30), 10.0 ** RNG.uniform(-8, 3, 30)])
SHARES = np.concatenate([RNG.uniform(0, 1, 40), 10.0 ** -RNG.uniform(1, 12, 10)])
EDGES = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0, -1.0, 2.0, -2.0, -0.5, 0.5])
WHOLE = np.array([0.0, 1, 2, 5, 20, 3, 1, 7, 2, 4])


class Case:
    """A function, where it is compared, and how.

    Args:
        operands: NumPy arrays.
        slopes: operands by which derivatives of order one and two are compared.
        edges: whether values at edges are those of SciPy.
        scipy: replaces SciPy's function.
        points: where derivatives are compared, by default the first operands.
        rtol: of values.
    """

    def __init__(
        self,
        *operands: Array,
        slopes: tuple[int, ...] = (0,),
        edges: bool = True,
        scipy: Callable[..., Any] | None = None,
        points: tuple[Array, ...] | None = None,
        rtol: float = 2e-13,
    ) -> None:
        self.operands = operands
        self.slopes = slopes
        self.edges = edges
        self.scipy = scipy
        self.points = points or tuple(x[:12] for x in operands)
        self.rtol = rtol


UNIT = (np.array([0.1, 0.35, 0.5, 0.72, 0.95]),)
ABOVE = (np.array([0.3, 0.9, 1.7, 3.2, 6.1]),)
PAIR = (np.array([0.4, 1.3, 2.5, 7.0]), np.array([0.7, 0.2, 3.1, 11.0]))
FAR = (np.array([-30.0, -12.0, -2.5, -0.3, 0.0, 1.1, 4.0]),)


def binomial(n: Any, k: Any) -> Any:
    return np.where(k <= n, scipy.comb(n, k), 0)


CASES: dict[str, Case] = {
    "beta": Case(POSITIVE, RNG.uniform(0.1, 20, 60), slopes=(0, 1), points=PAIR, rtol=1e-11),
    "betainc": Case(POSITIVE[:40], RNG.uniform(0.1, 20, 40), SHARES[:40], slopes=(), edges=False),
    "betaln": Case(POSITIVE, RNG.uniform(0.1, 40, 60), slopes=(0, 1), points=PAIR, rtol=1e-11),
    "boxcox": Case(POSITIVE, RNG.uniform(-2, 2, 60), slopes=(0, 1), points=PAIR, edges=False),
    "boxcox1p": Case(POSITIVE, RNG.uniform(-2, 2, 60), slopes=(0, 1), points=PAIR, edges=False),
    "comb": Case(WHOLE + 3, WHOLE[::-1], slopes=(), scipy=binomial, edges=False, rtol=1e-12),
    "dawsn": Case(REALS, points=FAR),
    "digamma": Case(POSITIVE, points=ABOVE, edges=False),
    "entr": Case(np.concatenate([POSITIVE, [-1.0]]), points=ABOVE),
    "erf": Case(REALS),
    "erfc": Case(REALS, rtol=1e-11),
    "erfcx": Case(REALS[REALS > -20], points=(FAR[0][2:],)),
    "erfinv": Case(2 * SHARES - 1, points=(2 * UNIT[0] - 1,)),
    "exp1": Case(POSITIVE, points=ABOVE, edges=False),
    "expi": Case(REALS, points=(np.array([-7.0, -0.6, 0.2, 1.5, 9.0, 50.0]),), rtol=1e-12),
    "expit": Case(REALS),
    "expn": Case(np.tile(WHOLE, 6), POSITIVE, slopes=(), edges=False),
    "factorial": Case(WHOLE, points=ABOVE, edges=False, rtol=1e-12),
    "gamma": Case(REALS[np.abs(REALS) < 40], points=(ABOVE[0] - 2.6,), edges=False, rtol=1e-11),
    "gammainc": Case(POSITIVE, RNG.uniform(0, 20, 60), slopes=(), edges=False, rtol=2e-12),
    "gammaincc": Case(POSITIVE, RNG.uniform(0, 20, 60), slopes=(), edges=False, rtol=2e-11),
    "gammaln": Case(POSITIVE, points=ABOVE, edges=False),
    "gammasgn": Case(REALS, slopes=(), edges=False),
    "hyp1f1": Case(
        RNG.uniform(-2, 5, 60),
        RNG.uniform(0.2, 6, 60),
        RNG.uniform(-20, 20, 60),
        slopes=(),
        edges=False,
        rtol=1e-10,
    ),
    "i0": Case(REALS, points=FAR),
    "i0e": Case(REALS, points=(FAR[0][FAR[0] != 0],)),
    "i1": Case(REALS, points=FAR),
    "i1e": Case(REALS, points=(FAR[0][FAR[0] != 0],)),
    "kl_div": Case(POSITIVE, POSITIVE[::-1], slopes=(0, 1), points=PAIR, rtol=1e-10),
    "log_ndtr": Case(REALS[REALS < 35], points=FAR),
    "logit": Case(SHARES, points=UNIT, rtol=1e-11),
    "loggamma": Case(POSITIVE, points=ABOVE, edges=False),
    "ndtr": Case(REALS, points=FAR),
    "ndtri": Case(SHARES, points=UNIT),
    "poch": Case(POSITIVE[:30], RNG.uniform(0, 4, 30), slopes=(0, 1), points=PAIR, edges=False),
    "rel_entr": Case(POSITIVE, POSITIVE[::-1], slopes=(0, 1), points=PAIR, rtol=1e-11),
    "spence": Case(POSITIVE, points=(np.array([0.1, 0.9, 0.999, 1.001, 1.6, 4.0]),), rtol=1e-12),
    "xlog1py": Case(POSITIVE, POSITIVE[::-1], slopes=(0, 1), points=PAIR),
    "xlogy": Case(POSITIVE, POSITIVE[::-1], slopes=(0, 1), points=PAIR),
    "zeta": Case(1.1 + POSITIVE[:20], POSITIVE[20:40], slopes=(1,), points=(PAIR[0] + 1, PAIR[1])),
}


@pytest.fixture(autouse=True)
def _x64() -> Iterator[None]:
    with cv.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def close(found: Any, expected: Any, rtol: float, atol: float = 0.0) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=rtol, atol=atol)


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_scipy(name: str) -> None:
    case, fn = CASES[name], getattr(ours, name)
    expected = (case.scipy or getattr(scipy, name))(*case.operands)
    found = fn(*case.operands)
    assert found.dtype == np.float64
    # Relative to 1 near the functions' zeros.
    close(found, expected, case.rtol, 1e-14)
    compiled = cv.jit(fn, backend="native")(*case.operands)
    close(compiled, found, max(case.rtol, 1e-11), 1e-14)
    close(cv.jit(fn, backend="reference")(*case.operands), found, 1e-13, 1e-15)


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.edges and len(c.operands) == 1])
def test_edges_are_those_of_scipy(name: str) -> None:
    expected = getattr(scipy, name)(EDGES)
    for fn in (getattr(ours, name), cv.jit(getattr(ours, name))):
        close(fn(EDGES), expected, 1e-12)


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.edges and len(c.operands) == 2])
def test_edges_of_pairs_are_those_of_scipy(name: str) -> None:
    x, y = (v.ravel() for v in np.meshgrid(EDGES[2:], EDGES[2:]))
    if name in ("beta", "betaln", "zeta"):
        x, y = np.array([2.0, 1.0, 30.0, np.nan, 200.0]), np.array([3.0, 1.0, 40.0, 1.0, 0.5])
    expected = getattr(scipy, name)(x, y)
    for fn in (getattr(ours, name), cv.jit(getattr(ours, name))):
        close(fn(x, y), expected, 1e-11)


def test_other_edges() -> None:
    nan, inf = np.nan, np.inf
    table: list[tuple[Any, Any, Any]] = [
        (
            ours.expn,
            ([0.0, 1, 2, -1, 3, 1, 2], [0.0, 0, 0, 1, inf, nan, -1]),
            (inf, inf, 1, nan, 0, nan, nan),
        ),
        (ours.exp1, ([0.0, inf, -1.0, nan],), (inf, 0, nan, nan)),
        (ours.expi, ([inf, -inf],), (inf, 0)),
        (ours.gamma, ([0.0, -0.0, -1.0, inf, 5.0],), (inf, -inf, nan, inf, 24)),
        (ours.gammasgn, ([0.0, -0.0, -0.5, -1.5, -1.0, nan],), (1, -1, -1, 1, nan, nan)),
        (ours.factorial, ([-1.0, 0.0, 4.0],), (0, 1, 24)),
        (ours.loggamma, ([-0.5, 0.0, 1.0],), (nan, nan, 0)),
        (ours.poch, ([0.0, -1.0, 2.0], [0.0, 0.0, 3.0]), (1, 1, 24)),
        (ours.hyp1f1, ([0.0, 1, 2], [2.0, 0, 2], [3.0, 1, 1]), (1, inf, np.e)),
        (ours.comb, ([3.0, 5.0, -1.0], [4.0, 2.0, 0.0]), (0, 10, 0)),
        (ours.ndtri, ([0.0, 1.0, 1e-300],), (-inf, inf, scipy.ndtri(1e-300))),
        (ours.gammainc, ([1.0, 2.0, -1.0], [0.0, inf, 1.0]), (0, 1, nan)),
        (ours.betainc, ([1.0] * 3, [1.0] * 3, [0.0, 1.0, 2.0]), (0, 1, nan)),
    ]
    for fn, operands, expected in table:
        for run in (fn, cv.jit(fn)):
            close(run(*[np.array(x) for x in operands]), expected, 1e-11)


# --- derivatives ----------------------------------------------------------------------------------


mp = mpmath.mp
TWINS: dict[str, Callable[..., Any]] = {
    "beta": mp.beta,
    "betaln": lambda a, b: mp.log(mp.beta(a, b)),
    "boxcox": lambda x, p: (x**p - 1) / p,
    "boxcox1p": lambda x, p: ((1 + x) ** p - 1) / p,
    "dawsn": lambda x: mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x),
    "digamma": mp.digamma,
    "entr": lambda x: -x * mp.log(x),
    "erf": mp.erf,
    "erfc": mp.erfc,
    "erfcx": lambda x: mp.exp(x * x) * mp.erfc(x),
    "erfinv": mp.erfinv,
    "exp1": mp.e1,
    "expi": mp.ei,
    "expit": lambda x: 1 / (1 + mp.exp(-x)),
    "factorial": mp.factorial,
    "gamma": mp.gamma,
    "gammaln": mp.loggamma,
    "i0": lambda x: mp.besseli(0, x),
    "i0e": lambda x: mp.exp(-mp.fabs(x)) * mp.besseli(0, x),
    "i1": lambda x: mp.besseli(1, x),
    "i1e": lambda x: mp.exp(-mp.fabs(x)) * mp.besseli(1, x),
    "kl_div": lambda p, q: p * mp.log(p / q) - p + q,
    "log_ndtr": lambda x: mp.log(mp.ncdf(x)),
    "logit": lambda x: mp.log(x / (1 - x)),
    "loggamma": mp.loggamma,
    "ndtr": mp.ncdf,
    "ndtri": lambda p: mp.sqrt(2) * mp.erfinv(2 * p - 1),
    "poch": lambda z, m: mp.gamma(z + m) / mp.gamma(z),
    "rel_entr": lambda p, q: p * mp.log(p / q),
    "spence": lambda x: mp.re(mp.polylog(2, 1 - x)),
    "xlog1py": lambda x, y: x * mp.log(1 + y),
    "xlogy": lambda x, y: x * mp.log(y),
    "zeta": mp.zeta,
}


def along(fn: Callable[..., Any], point: Any, k: int) -> Callable[[Any], Any]:
    """A function of one operand, the others fixed."""
    return lambda v: fn(*[v if i == k else x for i, x in enumerate(point)])


def exact_slope(twin: Callable[..., Any], point: Any, k: int, order: int) -> float:
    with mp.workdps(40):
        exact = [mpmath.mpf(x) for x in point]
        return float(mpmath.diff(along(twin, exact, k), exact[k], order))


@pytest.mark.parametrize("name", TWINS)
def test_derivatives(name: str) -> None:
    case, fn = CASES[name], getattr(ours, name)

    def slopes(*points: Any) -> Any:
        found: list[Any] = []
        for k in case.slopes:
            first = cv.grad(fn, k)
            found += [cv.vmap(first)(*points), cv.vmap(cv.grad(first, k))(*points)]
        return found

    compiled = iter(cv.jit(slopes)(*case.points))
    for k in case.slopes:
        points = list(zip(*case.points, strict=True))
        first, second = next(compiled), next(compiled)
        exact = [exact_slope(TWINS[name], point, k, 1) for point in points]
        close(first, exact, 1e-11, 1e-13)
        close(second, [exact_slope(TWINS[name], p, k, 2) for p in points], 1e-8, 1e-10)
        tangent = cv.jvp(along(fn, case.points, k), (case.points[k],), (np.ones(len(points)),))[1]
        close(tangent, exact, 1e-11, 1e-13)


def test_derivatives_at_ends() -> None:
    assert float(cv.grad(ours.entr)(0.0)) == np.inf  # as in JAX
    assert float(cv.grad(ours.gammasgn)(0.5)) == 0
    assert float(cv.grad(ours.xlogy)(0.0, 2.0)) == pytest.approx(np.log(2))
    assert float(cv.grad(ours.xlogy, 1)(0.0, 2.0)) == 0
    assert float(cv.grad(ours.spence)(1.0)) == -1
    assert float(cv.grad(cv.grad(ours.spence))(1.0)) == pytest.approx(0.5)
    assert float(cv.grad(ours.logit)(0.0)) == np.inf
    assert float(cv.grad(ours.i0)(0.0)) == 0
    assert float(cv.grad(ours.i1)(0.0)) == 0.5
    assert np.isfinite(cv.grad(ours.log_ndtr)(-1e4))


def test_derivatives_of_incomplete_functions() -> None:
    a, b, x = 1.7, 2.4, 0.6
    eps = 1e-6
    checks: list[tuple[Any, tuple[float, ...], tuple[int, ...]]] = [
        (ours.gammainc, (a, x), (0, 1)),
        (ours.gammaincc, (a, x), (0, 1)),
        (ours.betainc, (a, b, x), (2,)),
        (ours.hyp1f1, (a, b, x), (0, 1, 2)),
        (ours.hyp1f1, (a, b, -7.0), (0, 1, 2)),
        (lambda x: ours.expn(3, x), (x,), (0,)),
        (lambda x: ours.polygamma(2, x), (x,), (0,)),
        (lambda a: ours.multigammaln(a + 2, 3), (a,), (0,)),
    ]
    for fn, point, which in checks:
        for k in which:
            up, down = list(point), list(point)
            up[k] += eps
            down[k] -= eps
            numeric = (float(fn(*up)) - float(fn(*down))) / (2 * eps)
            assert float(cv.grad(fn, k)(*point)) == pytest.approx(numeric, rel=1e-7)
            tangent = cv.jvp(along(fn, point, k), (point[k],), (1.0,))[1]
            assert float(tangent) == pytest.approx(numeric, rel=1e-7)


def test_second_derivatives_of_expn_and_hyp1f1() -> None:
    def kummer(x: Any) -> Any:
        return ours.hyp1f1(1.5, 2.5, x)

    for x in (-2.0, 0.4, 3.0):
        wanted = float(mpmath.diff(lambda v: mpmath.hyp1f1(1.5, 2.5, v), x, 2))
        assert float(cv.grad(cv.grad(kummer))(x)) == pytest.approx(wanted, rel=1e-10)
    assert float(cv.grad(cv.grad(lambda x: ours.expn(4, x)))(1.2)) == pytest.approx(
        scipy.expn(2, 1.2)
    )


def test_derivatives_without_a_form() -> None:
    with pytest.raises(NotImplementedError, match="order n"):
        cv.grad(lambda n: ours.expn(n, 1.0))(2.0)
    with pytest.raises(NotImplementedError, match="`zeta` by its operand x"):
        cv.grad(lambda x: ours.zeta(x, 1.0))(2.0)


# --- dtypes and shapes ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_integers_are_promoted(name: str) -> None:
    count = len(CASES[name].operands)
    found = getattr(ours, name)(*[np.array([1, 2])] * count)
    assert found.dtype == np.float64
    wanted = getattr(ours, name)(*[np.array([1.0, 2.0])] * count)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_narrow_floats(dtype: Any) -> None:
    eps = float(ml_dtypes.finfo(dtype).eps)
    for name in (
        "erfcx",
        "expi",
        "gammaln",
        "hyp1f1",
        "i0e",
        "log_ndtr",
        "ndtri",
        "spence",
        "xlogy",
    ):
        operands = [np.asarray([0.2, 0.5, 0.9], dtype)] * len(CASES[name].operands)
        wide = [x.astype(np.float64) for x in operands]
        for fn in (getattr(ours, name), cv.jit(getattr(ours, name))):
            found = fn(*operands)
            assert found.dtype == dtype
            close(np.asarray(found).astype(np.float64), getattr(scipy, name)(*wide), 8 * eps)


def test_broadcasting() -> None:
    a, x = np.array([0.5, 2.0, 7.0])[:, None], np.array([0.1, 3.0])
    close(ours.gammainc(a, x), scipy.gammainc(a, x), 1e-12)
    close(ours.xlogy(2.0, x), scipy.xlogy(2.0, x), 1e-12)
    close(cv.vmap(ours.betaln, in_axes=(0, None))(a, x), scipy.betaln(a, x), 1e-11)


# --- those of another kind ------------------------------------------------------------------------


def test_polygamma_multigammaln_bernoulli() -> None:
    x = POSITIVE[:20]
    for n in (0, 1, 4):
        close(ours.polygamma(n, x), scipy.polygamma(n, x), 1e-11)
    with pytest.raises(ValueError, match="integer dtype"):
        ours.polygamma(1.0, x)
    for d in (1, 2, 5):
        close(ours.multigammaln(x + 2, d), scipy.multigammaln(x + 2, d), 1e-12)
        close(ours.multigammaln(7, d), scipy.multigammaln(7, d), 1e-12)
    for n in (0, 1, 2, 9, 40):
        found = ours.bernoulli(n)
        close(found, scipy.bernoulli(n)[: n + 1], 1e-11)
        assert found.shape == (n + 1,)


def test_betaln_of_large_arguments() -> None:
    for a, b in [(1e5, 3.0), (1e8, 1e8), (0.3, 1e6), (12.0, 15.0), (9.9, 10.1)]:
        exact = mpmath.log(mpmath.beta(a, b)) if b < 1e7 and a < 1e7 else None
        exact = exact or mpmath.loggamma(a) + mpmath.loggamma(b) - mpmath.loggamma(a + b)
        assert float(ours.betaln(a, b)) == pytest.approx(float(exact), rel=1e-12)


def test_comb_with_repetition() -> None:
    n, k = WHOLE, WHOLE[::-1]
    close(ours.comb(n, k, repetition=True), scipy.comb(n, k, repetition=True), 1e-11)


def test_softmax_and_logsumexp() -> None:
    x = RNG.normal(size=(3, 4))
    close(ours.softmax(x), scipy.softmax(x), 1e-12)
    close(ours.softmax(x, axis=0), scipy.softmax(x, axis=0), 1e-12)
    close(ours.log_softmax(x, axis=1), scipy.log_softmax(x, axis=1), 1e-12)
    b = RNG.normal(size=(3, 4))
    for found, wanted in zip(
        ours.logsumexp(x, axis=1, b=b, return_sign=True),
        scipy.logsumexp(x, axis=1, b=b, return_sign=True),
        strict=True,
    ):
        close(found, wanted, 1e-12)


def test_spherical_harmonics() -> None:
    pairs = [(n, m) for n in range(5) for m in range(-n, n + 1)]
    n, m = (np.array(v) for v in zip(*pairs, strict=True))
    theta, phi = RNG.uniform(0, np.pi, n.size), RNG.uniform(-np.pi, np.pi, n.size)
    expected = scipy.sph_harm_y(n, m, theta, phi)
    close(ours.sph_harm_y(n, m, theta, phi), expected, 1e-12, 1e-14)
    found = cv.jit(lambda t, p: ours.sph_harm_y(n, m, t, p, n_max=4))(theta, phi)
    close(found, expected, 1e-12, 1e-14)
    close(ours.sph_harm_y(n, m, theta, phi, n_max=7), expected, 1e-12, 1e-14)
    with pytest.raises(TypeError, match="n_max"):
        cv.jit(lambda n: ours.sph_harm_y(n, m, theta, phi))(n)


def test_what_is_refused() -> None:
    refused: list[tuple[Any, type[Exception], str]] = [
        (lambda: ours.factorial(3, exact=True), NotImplementedError, "exact"),
        (lambda: ours.zeta(2.0), NotImplementedError, "needs q"),
        (lambda: ours.gamma(1j), ValueError, "complex"),
        (lambda: ours.entr(1j), ValueError, "complex"),
        (lambda: ours.erf(1j), TypeError, "complex|c128"),
        (lambda: ours.bernoulli(-1), ValueError, "negative"),
        (lambda: ours.multigammaln(3.0, 2.5), TypeError, "known while tracing"),
        (lambda: ours.log_ndtr(1.0, 31), ValueError, "series_order"),
        (lambda: ours.log_ndtr(1.0, 1.5), TypeError, "series_order"),
        (lambda: ours.sph_harm_y(1, 0, 0.1, 0.1, diff_n=1), NotImplementedError, "diff_n"),
        (lambda: ours.erf([1.0]), TypeError, "arrays or numbers"),
    ]
    for call, error, words in refused:
        with pytest.raises(error, match=words):
            call()
