"""Algorithms of special functions, written once for NumPy arrays and for scalars of the loop IR.

An algorithm takes a `math` namespace and float64 operands; operators and the functions of the
namespace do the rest. `on_arrays` runs it on NumPy arrays (loops go on until all elements are
done), `on_scalars` writes it as loop IR.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes

Number = Any
Algorithm = Callable[..., Number]

EPS = 2.0**-52
TINY = 1e-300


class Scalar:
    """A loop IR value with operators."""

    __slots__ = ("b", "v")

    def __init__(self, builder: Any, value: Any) -> None:
        self.b = builder
        self.v = value

    def _apply(self, name: str, *operands: Any) -> Scalar:
        values = [o.v if type(o) is Scalar else o for o in operands]
        return Scalar(self.b, self.b.op(name, *values))

    def __add__(self, other: Any) -> Scalar:
        return self._apply("add", self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Scalar:
        return self._apply("sub", self, other)

    def __rsub__(self, other: Any) -> Scalar:
        return self._apply("sub", other, self)

    def __mul__(self, other: Any) -> Scalar:
        return self._apply("mul", self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Scalar:
        return self._apply("div", self, other)

    def __rtruediv__(self, other: Any) -> Scalar:
        return self._apply("div", other, self)

    def __neg__(self) -> Scalar:
        return self._apply("neg", self)

    def __lt__(self, other: Any) -> Scalar:
        return self._apply("lt", self, other)

    def __le__(self, other: Any) -> Scalar:
        return self._apply("le", self, other)

    def __gt__(self, other: Any) -> Scalar:
        return self._apply("gt", self, other)

    def __ge__(self, other: Any) -> Scalar:
        return self._apply("ge", self, other)

    def __and__(self, other: Any) -> Scalar:
        return self._apply("and", self, other)

    def __or__(self, other: Any) -> Scalar:
        return self._apply("or", self, other)

    def __invert__(self) -> Scalar:
        return self._apply("not", self)


class ScalarMath:
    """The namespace of algorithms written as loop IR."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def __getattr__(self, name: str) -> Callable[..., Scalar]:
        def function(*operands: Any) -> Scalar:
            first = next(o for o in operands if type(o) is Scalar)
            return first._apply(name, *operands)

        return function

    def equal(self, x: Scalar, y: Any) -> Scalar:
        """Where two numbers are equal."""
        return x._apply("eq", x, y)

    def where(self, predicate: Scalar, x: Any, y: Any) -> Scalar:
        """`x` where the predicate holds, else `y`."""
        b = self.builder
        x, y = [o.v if type(o) is Scalar else b.const(o, dtypes.float64) for o in (x, y)]
        return Scalar(b, b.select(predicate.v, x, y))

    def repeat(
        self, while_: Callable[..., Scalar], body: Callable[..., Sequence[Any]], *init: Any
    ) -> list[Scalar]:
        """Applies `body` to the state as long as `while_` holds."""
        b = self.builder

        def wrap(values: Sequence[Any]) -> list[Scalar]:
            return [Scalar(b, v) for v in values]

        start = [o.v if type(o) is Scalar else b.const(o, dtypes.float64) for o in init]

        def goes_on(*state: Any) -> Any:
            return while_(*wrap(state)).v

        def next_state(*state: Any) -> Any:
            return [s.v for s in body(*wrap(state))]

        return wrap(b.while_(goes_on, next_state, start))


def _lgamma(x: Any) -> Any:
    from scipy import special

    return special.gammaln(x)


def _digamma(x: Any) -> Any:
    from scipy import special

    return special.psi(x)


class ArrayMath:
    """The namespace of algorithms run on NumPy arrays."""

    exp = staticmethod(np.exp)
    log = staticmethod(np.log)
    log1p = staticmethod(np.log1p)
    sqrt = staticmethod(np.sqrt)
    abs = staticmethod(np.abs)
    floor = staticmethod(np.floor)
    pow = staticmethod(np.power)
    is_nan = staticmethod(np.isnan)
    equal = staticmethod(np.equal)
    where = staticmethod(np.where)
    lgamma = staticmethod(_lgamma)
    digamma = staticmethod(_digamma)

    @staticmethod
    def repeat(
        while_: Callable[..., Any], body: Callable[..., Sequence[Any]], *init: Any
    ) -> list[Any]:
        """Applies `body` to the state, at each element as long as `while_` holds there."""
        state: list[Any] = [np.asarray(x) for x in np.broadcast_arrays(*init)]
        active = while_(*state)
        while np.any(active):
            changed = body(*state)
            state = [np.where(active, new, old) for new, old in zip(changed, state, strict=True)]
            active = active & while_(*state)
        return state


def on_arrays(algorithm: Algorithm) -> Callable[..., Any]:
    """An algorithm as a function of NumPy arrays of any floating dtype."""

    def evaluate(*operands: np.ndarray[Any, Any]) -> Any:
        return algorithm(ArrayMath, *[x.astype(np.float64) for x in operands])

    return evaluate


def on_scalars(algorithm: Algorithm) -> Callable[..., Any]:
    """An algorithm as a lowering `(builder, *values) -> value` for any floating dtype."""

    def lower(builder: Any, *operands: Any) -> Any:
        dtype = operands[0].dtype
        wide = [Scalar(builder, builder.convert(x, dtypes.float64)) for x in operands]
        return builder.convert(algorithm(ScalarMath(builder), *wide).v, dtype)

    return lower


# --- the incomplete gamma function --------------------------------------------------------------


def _gamma_series(m: Any, a: Number, x: Number, slope: bool) -> tuple[Number, Number]:
    """sum of x^n / ((a + 1) ... (a + n)), which is P(a, x) a Gamma(a) / (x^a e^-x), and d/da."""

    def step(n: Number, term: Number, total: Number, dterm: Number, dtotal: Number) -> Any:
        ratio = x / (a + n)
        dterm = (dterm - term / (a + n)) * ratio if slope else dterm
        term = term * ratio
        return n + 1.0, term, total + term, dterm, dtotal + dterm

    def unfinished(n: Number, term: Number, total: Number, dterm: Number, dtotal: Number) -> Any:
        more = term > EPS * total
        if slope:
            more = more | (m.abs(dterm) > EPS * m.abs(dtotal))
        return more & (n < 1e6)

    one, nil = x * 0.0 + 1.0, x * 0.0
    state = m.repeat(unfinished, step, *step(one, one, one, nil, nil))
    return state[2], state[4]


def _gamma_fraction(m: Any, a: Number, x: Number, slope: bool) -> tuple[Number, Number]:
    """Gamma(a, x) / (x^a e^-x) and d/da by Legendre's continued fraction (DLMF 8.9.2).

    The modified Lentz method carries the derivative of each of its quantities along.
    """

    def step(n: Number, b: Number, c: Number, d: Number, h: Number, *slopes: Number) -> Any:
        numerator, b = n * (a - n), b + 2.0
        denominator, c_next = numerator * d + b, b + numerator / c
        d_next = 1.0 / m.where(m.equal(denominator, 0.0), TINY, denominator)
        factor = c_next * d_next
        if not slope:
            return n + 1.0, b, c_next, d_next, h * factor, m.abs(factor - 1.0)
        dc, dd, dh, _ = slopes
        dd_next = -(n * d + numerator * dd - 1.0) * d_next * d_next
        dc_next = (n - numerator * dc / c) / c - 1.0
        change = dh * (factor - 1.0) + h * (dc_next * d_next + c_next * dd_next)
        error = m.abs(factor - 1.0) + m.abs(change) / (m.abs(dh + change) + TINY)
        return n + 1.0, b, c_next, d_next, h * factor, dc_next, dd_next, dh + change, error

    b = x + 1.0 - a
    d = 1.0 / m.where(m.equal(b, 0.0), TINY, b)
    one, nil = x * 0.0 + 1.0, x * 0.0
    slopes = (nil, d * d, d * d) if slope else ()

    def unfinished(n: Number, *rest: Number) -> Any:
        return (rest[-1] > EPS) & (n < 1e5)

    state = m.repeat(unfinished, step, one, b, one / TINY, d, d, *slopes, one)
    return state[4], state[7] if slope else nil


def _inside(m: Any, a: Number, x: Number) -> tuple[Number, Number, Number, Number, Number]:
    """Where the series and where the fraction converges, with operands safe for each."""
    regular = (a > 0.0) & (x > 0.0) & (a < 1e300) & (x < 1e300)
    fraction = regular & (x >= 1.0) & (x > a)
    series = regular & ~fraction
    a_series, x_series = m.where(series, a, 1.0), m.where(series, x, 0.5)
    return fraction, a_series, x_series, m.where(fraction, a, 1.0), m.where(fraction, x, 2.0)


def _weight(m: Any, a: Number, x: Number) -> Number:
    return m.exp(a * m.log(x) - x - m.lgamma(a))


def _gamma_edges(m: Any, a: Number, x: Number, value: Number, at_zero: float) -> Number:
    """P or Q where a or x is zero, infinite or out of the domain."""
    at_infinity = 1.0 - at_zero
    value = m.where(m.equal(a, float("inf")), at_zero, value)
    value = m.where(m.equal(x, 0.0), at_zero, value)
    value = m.where(m.equal(x, float("inf")) | m.equal(a, 0.0), at_infinity, value)
    wrong = (x < 0.0) | (a < 0.0) | m.is_nan(x) | m.is_nan(a)
    wrong = wrong | (m.equal(x, 0.0) & m.equal(a, 0.0))
    wrong = wrong | (m.equal(x, float("inf")) & m.equal(a, float("inf")))
    return m.where(wrong, float("nan"), value)


def igamma(m: Any, a: Number, x: Number) -> Number:
    """The regularised lower incomplete gamma function P(a, x)."""
    fraction, a1, x1, a2, x2 = _inside(m, a, x)
    by_series = _gamma_series(m, a1, x1, False)[0] * _weight(m, a1, x1) / a1
    by_fraction = 1.0 - _gamma_fraction(m, a2, x2, False)[0] * _weight(m, a2, x2)
    return _gamma_edges(m, a, x, m.where(fraction, by_fraction, by_series), 0.0)


def igammac(m: Any, a: Number, x: Number) -> Number:
    """The regularised upper incomplete gamma function Q(a, x)."""
    fraction, a1, x1, a2, x2 = _inside(m, a, x)
    by_series = 1.0 - _gamma_series(m, a1, x1, False)[0] * _weight(m, a1, x1) / a1
    by_fraction = _gamma_fraction(m, a2, x2, False)[0] * _weight(m, a2, x2)
    return _gamma_edges(m, a, x, m.where(fraction, by_fraction, by_series), 1.0)


def igamma_grad_a(m: Any, a: Number, x: Number) -> Number:
    """The derivative of P(a, x) by a."""
    fraction, a1, x1, a2, x2 = _inside(m, a, x)
    total, dtotal = _gamma_series(m, a1, x1, True)
    by_series = _weight(m, a1, x1) / a1 * (dtotal + total * _log_slope(m, a1 + 1.0, x1))
    tail, dtail = _gamma_fraction(m, a2, x2, True)
    by_fraction = -_weight(m, a2, x2) * (dtail + tail * _log_slope(m, a2, x2))
    value = m.where(fraction, by_fraction, by_series)
    value = m.where(m.equal(x, 0.0) | m.equal(x, float("inf")), 0.0, value)
    wrong = (x < 0.0) | (a <= 0.0) | m.is_nan(x) | m.is_nan(a) | m.equal(a, float("inf"))
    return m.where(wrong, float("nan"), value)


def random_gamma_grad(m: Any, a: Number, x: Number) -> Number:
    """dx/da at constant P(a, x): how a gamma variate moves with its parameter."""
    fraction, a1, x1, a2, x2 = _inside(m, a, x)
    total, dtotal = _gamma_series(m, a1, x1, True)
    by_series = -(dtotal + total * _log_slope(m, a1 + 1.0, x1)) * x1 / a1
    tail, dtail = _gamma_fraction(m, a2, x2, True)
    by_fraction = (dtail + tail * _log_slope(m, a2, x2)) * x2
    value = m.where(fraction, by_fraction, by_series)
    wrong = (x < 0.0) | (a <= 0.0) | m.is_nan(x) | m.is_nan(a)
    wrong = wrong | m.equal(a, float("inf")) | m.equal(x, float("inf"))
    return m.where(wrong, float("nan"), m.where(m.equal(x, 0.0), 0.0, value))


def _log_slope(m: Any, a: Number, x: Number) -> Number:
    """d/da of log(x^a / Gamma(a))."""
    return m.log(x) - m.digamma(a)


# --- the Hurwitz zeta function, polygamma -------------------------------------------------------

_BERNOULLI = (
    *(1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730),
    *(7 / 6, -3617 / 510, 43867 / 798, -174611 / 330),
)
"""B_2, B_4, ... B_20."""


def zeta(m: Any, s: Number, q: Number) -> Number:
    """sum of (q + k)^-s over k >= 0, by Euler-Maclaurin summation from q + k >= 10 on."""
    even = m.equal(s, 2.0 * m.floor(s * 0.5))
    pole = (q <= 0.0) & m.equal(q, m.floor(q))
    undefined = (s < 1.0) | m.is_nan(s) | m.is_nan(q) | (q < -1e6)
    undefined = undefined | ((q < 0.0) & ~m.equal(s, m.floor(s)))
    regular = (s > 1.0) & ~pole & ~undefined & (s < 1e300) & (q < 1e300)
    safe_s, safe_q = m.where(regular, s, 2.0), m.where(regular, q, 1.0)
    term = m.pow(safe_q, -safe_s)

    # The tail's series wants w > s; where it is negligible it is left out.
    def unfinished(total: Number, w: Number, term: Number) -> Any:
        return (w < safe_s + 10.0) & ((term > 1e-17 * total) | (w < 1.0))

    def step(total: Number, w: Number, term: Number) -> Any:
        return total + term, w + 1.0, m.pow(w + 1.0, -safe_s)

    head, w, term = m.repeat(unfinished, step, safe_q * 0.0, safe_q, term)
    total = head + term * w / (safe_s - 1.0) + 0.5 * term
    factor = term * safe_s / (2.0 * w)
    for j, bernoulli in enumerate(_BERNOULLI, 1):
        total = total + bernoulli * factor
        k = 2.0 * j
        factor = factor * ((safe_s + (k - 1.0)) * (safe_s + k)) / (w * w * ((k + 1.0) * (k + 2.0)))
    total = m.where(w < safe_s + 10.0, head, total)
    total = m.where(m.equal(q, float("inf")), 0.0, total)
    total = m.where(m.equal(s, float("inf")), m.where(q < 1.0, float("inf"), 0.0), total)
    total = m.where(m.equal(s, float("inf")) & m.equal(q, 1.0), 1.0, total)
    # At a pole the terms have one sign on both of its sides only for even s.
    total = m.where(pole, m.where(even | m.equal(q, 0.0), float("inf"), float("nan")), total)
    total = m.where(m.equal(s, 1.0), float("inf"), total)
    return m.where(undefined, float("nan"), total)


def polygamma(m: Any, n: Number, x: Number) -> Number:
    """The n-th derivative of digamma: (-1)^(n+1) n! zeta(n + 1, x)."""
    order = m.where((n >= 1.0) & m.equal(n, m.floor(n)), n, 1.0)
    size = m.exp(m.lgamma(order + 1.0)) * zeta(m, order + 1.0, x)
    odd = ~m.equal(order, 2.0 * m.floor(order * 0.5))
    value = m.where(m.equal(n, 0.0), m.digamma(x), m.where(odd, size, -size))
    wrong = (n < 0.0) | ~m.equal(n, m.floor(n))
    return m.where(wrong, float("nan"), value)


# --- the incomplete beta function ---------------------------------------------------------------


def _beta_fraction(m: Any, a: Number, b: Number, x: Number) -> Number:
    """The continued fraction of DLMF 8.17.22, by the modified Lentz method."""

    def advance(numerator: Number, c: Number, d: Number) -> tuple[Number, Number, Number]:
        denominator, c = 1.0 + numerator * d, 1.0 + numerator / c
        d = 1.0 / m.where(m.abs(denominator) < TINY, TINY, denominator)
        c = m.where(m.abs(c) < TINY, TINY, c)
        return c, d, c * d

    def step(n: Number, c: Number, d: Number, h: Number, error: Number) -> Any:
        even = n * (b - n) * x / ((a + 2.0 * n - 1.0) * (a + 2.0 * n))
        c, d, first = advance(even, c, d)
        odd = -(a + n) * (a + b + n) * x / ((a + 2.0 * n) * (a + 2.0 * n + 1.0))
        c, d, second = advance(odd, c, d)
        return n + 1.0, c, d, h * first * second, m.abs(second - 1.0)

    one = x * 0.0 + 1.0
    start = 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / m.where(m.abs(start) < TINY, TINY, start)

    def unfinished(n: Number, c: Number, d: Number, h: Number, error: Number) -> Any:
        return (error > EPS) & (n < 1e4)

    return m.repeat(unfinished, step, one, one, d, d, one)[3]


def betainc(m: Any, a: Number, b: Number, x: Number) -> Number:
    """The regularised incomplete beta function I_x(a, b)."""
    inf = float("inf")
    wrong = (a < 0.0) | (b < 0.0) | (x < 0.0) | (x > 1.0)
    wrong = wrong | m.is_nan(a) | m.is_nan(b) | m.is_nan(x)
    wrong = wrong | (m.equal(a, 0.0) & m.equal(b, 0.0)) | (m.equal(a, inf) & m.equal(b, inf))
    full = m.equal(x, 1.0) | ((x > 0.0) & (m.equal(a, 0.0) | m.equal(b, inf)))
    nil = ~full & (m.equal(x, 0.0) | m.equal(b, 0.0) | m.equal(a, inf))
    regular = ~(wrong | nil | full)
    a, b, x = m.where(regular, a, 1.0), m.where(regular, b, 1.0), m.where(regular, x, 0.5)
    reflect = x > (a + 1.0) / (a + b + 2.0)
    p, q = m.where(reflect, b, a), m.where(reflect, a, b)
    y = m.where(reflect, 1.0 - x, x)
    log_beta = m.lgamma(a) + m.lgamma(b) - m.lgamma(a + b)
    weight = m.exp(a * m.log(x) + b * m.log1p(-x) - log_beta)
    value = weight * _beta_fraction(m, p, q, y) / p
    value = m.where(reflect, 1.0 - value, value)
    value = m.where(nil, 0.0, m.where(full, 1.0, value))
    return m.where(wrong, float("nan"), value)


# --- Bessel functions ---------------------------------------------------------------------------

_TERMS = 27
"""So many terms of the power series at 8 reach double precision."""
_TAILS = (
    (
        *(0.4022452055070544, 0.0033691164782556943, 6.889758346916825e-05),
        *(2.8913705208347567e-06, 2.0489185894690638e-07, 2.266668990498178e-08),
        *(3.3962320257083865e-09, 4.94060238822497e-10, 1.1889147107846439e-11),
        *(-3.1499165279632416e-11, -1.3215811840447713e-11, -1.7941785315068062e-12),
        *(7.180124451383666e-13, 3.8527783827421426e-13, 1.54008621752141e-14),
        *(-4.150569347287222e-14, -9.554846698828307e-15, 3.8116806693526224e-15),
        *(1.7725601330565263e-15, -3.425485619677219e-16, -2.8276239805165836e-16),
        *(3.461222867697461e-17, 4.46562142029676e-17, -4.830504485944182e-18),
    ),
    (
        *(0.38928811750914005, -0.009761097491361469, -0.00011058893876262371),
        *(-3.882564808877691e-06, -2.512236237870209e-07, -2.6314688468895196e-08),
        *(-3.835380385964237e-09, -5.589743462196584e-10, -1.8974958123505413e-11),
        *(3.2526035830154884e-11, 1.4125807436613782e-11, 2.0356285441470896e-12),
        *(-7.198551776245908e-13, -4.0835511110921974e-13, -2.1015418427726643e-14),
        *(4.272440016711951e-14, 1.0420276984128802e-14, -3.8144030724370075e-15),
        *(-1.8803547755107825e-15, 3.3082023109209285e-16, 2.96262899764595e-16),
        *(-3.209525921993424e-17, -4.6503053684893586e-17, 4.414348323071708e-18),
    ),
)
"""Chebyshev coefficients of sqrt(x) e^-x I_n(x), n = 0 and 1, as functions of 16/x - 1 in [-1, 1].

They are cosine sums over 128 nodes, taken with 40 digits by mpmath.
"""


def _series(order: int) -> tuple[float, ...]:
    """Coefficients of I_n(x) (2/x)^n in powers of (x/2)^2."""
    terms = range(_TERMS)
    return tuple([1.0 / (math.factorial(k) * math.factorial(k + order)) for k in terms])


def _clenshaw(coefficients: Sequence[float], t: Number) -> Number:
    """sum of c_k T_k(t)."""
    upper: Number = t * 0.0
    last: Number = upper
    for c in reversed(coefficients[1:]):
        upper, last = 2.0 * t * upper - last + c, upper
    return t * upper - last + coefficients[0]


def _bessel(m: Any, size: Number, order: int) -> Number:
    """e^-x I_n(x) for x >= 0: the power series up to 8, an expansion in 1/x beyond."""
    near = m.where(size < 8.0, size, 8.0)
    far = m.where(size > 8.0, size, 8.0)
    square = near * near * 0.25
    total: Number = square * 0.0
    for c in reversed(_series(order)):
        total = total * square + c
    below = total * m.exp(-near)
    if order == 1:
        below = below * near * 0.5
    above = _clenshaw(_TAILS[order], 16.0 / far - 1.0) / m.sqrt(far)
    return m.where(size < 8.0, below, above)


def bessel_i0e(m: Any, x: Number) -> Number:
    """exp(-|x|) I_0(x)."""
    return m.where(m.is_nan(x), x, _bessel(m, m.abs(x), 0))


def bessel_i1e(m: Any, x: Number) -> Number:
    """exp(-|x|) I_1(x)."""
    value = _bessel(m, m.abs(x), 1)
    return m.where(m.is_nan(x), x, m.where(x < 0.0, -value, value))
