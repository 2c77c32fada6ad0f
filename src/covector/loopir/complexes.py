"""Complex arithmetic and functions on pairs of real values.

The formulas keep the accuracy of the components where the textbook ones lose it: quotients are
scaled (Smith, 1962), the square root and the logarithm avoid overflow and cancellation, and the
inverse functions follow Kahan, "Branch cuts for complex elementary functions" (1987).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from covector.loopir.ir import BOOL, ComplexValue, DType, LoopIRError
from covector.loopir.scalars import COMPLEX, F32, HALVES

if TYPE_CHECKING:
    from covector.loopir.expressions import Expressions

Rule = Callable[..., Any]


def apply(b: Expressions, name: str, args: tuple[Any, ...], attr: Any) -> Any:
    """Applies an operation some of whose operands or whose result are complex.

    Args:
        b: the builder.
        name: operation.
        args: operands; real ones count as complex with imaginary part 0.
        attr: target dtype of `convert`.

    Returns:
        The result.

    Raises:
        LoopIRError: if there is no such operation on complex numbers.
    """
    if name == "convert":
        return convert(b, args[0], attr)
    rule = RULES.get(name)
    if rule is None:
        raise LoopIRError(f"{name} is not defined on complex numbers")
    if name == "select":
        return rule(b, *args)
    dtype = next(a.dtype for a in args if a.dtype in COMPLEX)
    return rule(b, *(a if a.dtype is dtype else convert(b, a, dtype) for a in args))


def convert(b: Expressions, x: Any, target: DType) -> Any:
    """Converts between complex dtypes, from real to complex, or to the real part.

    Args:
        b: the builder.
        x: a value or complex value.
        target: any dtype; bool tests for non-zero.

    Returns:
        The converted value.
    """
    part = COMPLEX.get(target)
    if type(x) is not ComplexValue:
        if part is None:
            return b.convert(x, target)
        return ComplexValue(b.convert(x, part), b.const(0.0, part), target)
    if part is not None:
        return ComplexValue(b.convert(x.re, part), b.convert(x.im, part), target)
    if target is BOOL:
        return b.op("or", b.convert(x.re, BOOL), b.convert(x.im, BOOL))
    return b.convert(b.convert(x.re, F32) if target in HALVES else x.re, target)


def _make(b: Expressions, re: Any, im: Any) -> ComplexValue:
    return b.complex(re, im)


def _real(b: Expressions, x: Any) -> Any:
    return x.re


def _imag(b: Expressions, x: Any) -> Any:
    return x.im


def _conj(b: Expressions, x: Any) -> Any:
    return _make(b, x.re, b.op("neg", x.im))


def _neg(b: Expressions, x: Any) -> Any:
    return _make(b, b.op("neg", x.re), b.op("neg", x.im))


def _add(b: Expressions, x: Any, y: Any) -> Any:
    return _make(b, b.op("add", x.re, y.re), b.op("add", x.im, y.im))


def _sub(b: Expressions, x: Any, y: Any) -> Any:
    return _make(b, b.op("sub", x.re, y.re), b.op("sub", x.im, y.im))


def _mul(b: Expressions, x: Any, y: Any) -> Any:
    re = b.op("sub", b.op("mul", x.re, y.re), b.op("mul", x.im, y.im))
    im = b.op("add", b.op("mul", x.re, y.im), b.op("mul", x.im, y.re))
    return _make(b, re, im)


def _scale(b: Expressions, x: Any, factor: Any) -> Any:
    return _make(b, b.op("mul", x.re, factor), b.op("mul", x.im, factor))


def _times_i(b: Expressions, x: Any) -> Any:
    return _make(b, b.op("neg", x.im), x.re)


def _over_i(b: Expressions, x: Any) -> Any:
    return _make(b, x.im, b.op("neg", x.re))


def _div(b: Expressions, x: Any, y: Any) -> Any:
    """Smith's quotient: divides by the larger component of y first."""
    swap = b.op("lt", b.op("abs", y.re), b.op("abs", y.im))
    large = b.select(swap, y.im, y.re)
    small = b.select(swap, y.re, y.im)
    ratio = b.op("div", small, large)
    denominator = b.op("add", large, b.op("mul", small, ratio))
    first = b.select(swap, x.im, x.re)
    second = b.select(swap, x.re, x.im)
    re = b.op("div", b.op("add", first, b.op("mul", second, ratio)), denominator)
    im = b.op("div", b.op("sub", second, b.op("mul", first, ratio)), denominator)
    im = b.select(swap, b.op("neg", im), im)
    # A zero divisor makes the ratio NaN; the quotient by a real zero is what is wanted.
    zero = b.op("eq", large, 0.0)
    re = b.select(zero, b.op("div", x.re, b.op("abs", large)), re)
    im = b.select(zero, b.op("div", x.im, b.op("abs", large)), im)
    return _make(b, re, im)


def _eq(b: Expressions, x: Any, y: Any) -> Any:
    return b.op("and", b.op("eq", x.re, y.re), b.op("eq", x.im, y.im))


def _ne(b: Expressions, x: Any, y: Any) -> Any:
    return b.op("or", b.op("ne", x.re, y.re), b.op("ne", x.im, y.im))


def _is_nan(b: Expressions, x: Any) -> Any:
    return b.op("or", b.op("is_nan", x.re), b.op("is_nan", x.im))


def _is_finite(b: Expressions, x: Any) -> Any:
    return b.op("and", b.op("is_finite", x.re), b.op("is_finite", x.im))


def _is_inf(b: Expressions, x: Any) -> Any:
    return b.op("or", b.op("is_inf", x.re), b.op("is_inf", x.im))


def _select(b: Expressions, p: Any, x: Any, y: Any) -> Any:
    return _make(b, b.select(p, x.re, y.re), b.select(p, x.im, y.im))


def _abs(b: Expressions, x: Any) -> Any:
    return b.op("hypot", x.re, x.im)


def _arg(b: Expressions, x: Any) -> Any:
    return b.op("atan2", x.im, x.re)


def _sign(b: Expressions, x: Any) -> Any:
    """x / |x|, and 0 at 0."""
    size = _abs(b, x)
    zero = b.op("eq", size, 0.0)
    safe = b.select(zero, b.const(1.0, size.dtype), size)
    return _make(b, b.op("div", x.re, safe), b.op("div", x.im, safe))


def _square(b: Expressions, x: Any) -> Any:
    re = b.op("mul", b.op("sub", x.re, x.im), b.op("add", x.re, x.im))
    product = b.op("mul", x.re, x.im)
    return _make(b, re, b.op("add", product, product))


def _exp(b: Expressions, x: Any) -> Any:
    size = b.op("exp", x.re)
    # exp(re) * 0 stays 0 on the real axis even where exp overflows.
    on_axis = b.op("eq", x.im, 0.0)
    im = b.select(on_axis, x.im, b.op("mul", size, b.op("sin", x.im)))
    re = b.select(on_axis, size, b.op("mul", size, b.op("cos", x.im)))
    return _make(b, re, im)


def _exp2(b: Expressions, x: Any) -> Any:
    return _exp(b, _scale(b, x, math.log(2.0)))


def _expm1(b: Expressions, x: Any) -> Any:
    """exp(a) cos(b) - 1 = expm1(a) cos(b) - 2 sin(b/2)^2, which cancels nowhere near 0."""
    grown = b.op("expm1", x.re)
    half = b.op("sin", b.op("mul", x.im, 0.5))
    versine = b.op("mul", b.op("mul", half, half), 2.0)
    re = b.op("sub", b.op("mul", grown, b.op("cos", x.im)), versine)
    im = b.op("mul", b.op("add", grown, 1.0), b.op("sin", x.im))
    return _make(b, re, im)


def _log_abs(b: Expressions, x: Any) -> Any:
    """log|x|, through log1p where |x| is near 1."""
    a, c = b.op("abs", x.re), b.op("abs", x.im)
    large, small = b.op("max", a, c), b.op("min", a, c)
    near = b.op("and", b.op("gt", large, 0.5), b.op("lt", large, 2.0))
    excess = b.op(
        "add",
        b.op("mul", b.op("sub", large, 1.0), b.op("add", large, 1.0)),
        b.op("mul", small, small),
    )
    near_one = b.op("mul", b.op("log1p", excess), 0.5)
    return b.select(near, near_one, b.op("log", _abs(b, x)))


def _log(b: Expressions, x: Any) -> Any:
    return _make(b, _log_abs(b, x), _arg(b, x))


def _log2(b: Expressions, x: Any) -> Any:
    return _scale(b, _log(b, x), 1.0 / math.log(2.0))


def _log10(b: Expressions, x: Any) -> Any:
    return _scale(b, _log(b, x), 1.0 / math.log(10.0))


def _log1p(b: Expressions, x: Any) -> Any:
    """log|1 + x| from log1p(2 a + a^2 + b^2) / 2 near 0, else from the logarithm of the sum."""
    shifted = _make(b, b.op("add", x.re, 1.0), x.im)
    excess = b.op(
        "add",
        b.op("mul", x.re, b.op("add", x.re, 2.0)),
        b.op("mul", x.im, x.im),
    )
    near = b.op("lt", b.op("max", b.op("abs", x.re), b.op("abs", x.im)), 0.5)
    re = b.select(near, b.op("mul", b.op("log1p", excess), 0.5), _log_abs(b, shifted))
    return _make(b, re, _arg(b, shifted))


def _sqrt(b: Expressions, x: Any) -> Any:
    """With t = sqrt((|re| + |x|) / 2), the root is t and im / 2t, sides and signs as needed.

    Scaling by 1/4 (or 2^n for tiny operands) keeps the sum in range.
    """
    dtype = x.re.dtype
    tiny, up = (2.0**-60, 2.0**50) if dtype is F32 else (2.0**-500, 2.0**400)
    size = b.op("max", b.op("abs", x.re), b.op("abs", x.im))
    small = b.op("lt", size, tiny)
    factor = b.select(small, b.const(up, dtype), b.const(0.25, dtype))
    back = b.select(small, b.const(1.0 / math.sqrt(up), dtype), b.const(2.0, dtype))
    re, im = b.op("mul", x.re, factor), b.op("mul", x.im, factor)
    sum_ = b.op("add", b.op("abs", re), b.op("hypot", re, im))
    t = b.op("sqrt", b.op("mul", sum_, 0.5))
    zero = b.op("eq", t, 0.0)
    safe = b.select(zero, b.const(1.0, dtype), t)
    other = b.op("div", b.op("mul", b.op("abs", im), 0.5), safe)
    left = b.op("lt", re, 0.0)
    root_re = b.op("mul", b.select(left, other, t), back)
    root_im = b.op("mul", b.select(left, t, other), back)
    infinite = b.op("is_inf", x.im)
    root_re = b.select(infinite, b.op("abs", x.im), root_re)
    root_im = b.select(infinite, b.op("abs", x.im), root_im)
    return _make(b, root_re, b.op("copysign", root_im, x.im))


def _rsqrt(b: Expressions, x: Any) -> Any:
    return _div(b, _one(b, x), _sqrt(b, x))


def _one(b: Expressions, x: Any) -> Any:
    return b.const(1.0, x.dtype)


def _sinh(b: Expressions, x: Any) -> Any:
    re = b.op("mul", b.op("sinh", x.re), b.op("cos", x.im))
    im = b.op("mul", b.op("cosh", x.re), b.op("sin", x.im))
    return _make(b, re, im)


def _cosh(b: Expressions, x: Any) -> Any:
    re = b.op("mul", b.op("cosh", x.re), b.op("cos", x.im))
    im = b.op("mul", b.op("sinh", x.re), b.op("sin", x.im))
    return _make(b, re, im)


def _tanh(b: Expressions, x: Any) -> Any:
    """Kahan's formula; for large |re| the result is +-1 with an imaginary part that decays."""
    limit = 9.0 if x.re.dtype is F32 else 20.0
    t = b.op("tan", x.im)
    s = b.op("sinh", b.op("clamp", b.const(-limit, t.dtype), x.re, b.const(limit, t.dtype)))
    c = b.op("sqrt", b.op("add", b.op("mul", s, s), 1.0))
    beta = b.op("add", b.op("mul", t, t), 1.0)
    denominator = b.op("add", b.op("mul", beta, b.op("mul", s, s)), 1.0)
    re = b.op("div", b.op("mul", b.op("mul", beta, c), s), denominator)
    im = b.op("div", t, denominator)
    far = b.op("gt", b.op("abs", x.re), limit)
    decay = b.op("exp", b.op("mul", b.op("abs", x.re), -2.0))
    cos = b.op("cos", x.im)
    tail = b.op("mul", b.op("mul", b.op("mul", b.op("sin", x.im), cos), 4.0), decay)
    one = b.op("copysign", b.const(1.0, t.dtype), x.re)
    return _make(b, b.select(far, one, re), b.select(far, tail, im))


def _sin(b: Expressions, x: Any) -> Any:
    return _over_i(b, _sinh(b, _times_i(b, x)))


def _cos(b: Expressions, x: Any) -> Any:
    return _cosh(b, _times_i(b, x))


def _tan(b: Expressions, x: Any) -> Any:
    return _over_i(b, _tanh(b, _times_i(b, x)))


def _asinh(b: Expressions, x: Any) -> Any:
    """Kahan: re = asinh(Re(sqrt(1 + iz)* ... )), written for z = x as asin of i x over i."""
    return _over_i(b, _asin(b, _times_i(b, x)))


def _asin(b: Expressions, x: Any) -> Any:
    below, above = _sqrt_one_minus(b, x), _sqrt_one_plus(b, x)
    product = _mul(b, below, above)
    re = b.op("atan2", x.re, product.re)
    crossed = _mul(b, _conj(b, below), above)
    return _make(b, re, b.op("asinh", crossed.im))


def _acos(b: Expressions, x: Any) -> Any:
    below, above = _sqrt_one_minus(b, x), _sqrt_one_plus(b, x)
    re = b.op("mul", b.op("atan2", below.re, above.re), 2.0)
    crossed = _mul(b, _conj(b, above), below)
    return _make(b, re, b.op("asinh", crossed.im))


def _acosh(b: Expressions, x: Any) -> Any:
    below = _sqrt(b, _make(b, b.op("sub", x.re, 1.0), x.im))
    above = _sqrt_one_plus(b, x)
    re = b.op("asinh", _mul(b, _conj(b, below), above).re)
    return _make(b, re, b.op("mul", b.op("atan2", below.im, above.re), 2.0))


def _sqrt_one_minus(b: Expressions, x: Any) -> Any:
    return _sqrt(b, _make(b, b.op("sub", b.const(1.0, x.re.dtype), x.re), b.op("neg", x.im)))


def _sqrt_one_plus(b: Expressions, x: Any) -> Any:
    return _sqrt(b, _make(b, b.op("add", x.re, 1.0), x.im))


def _atanh(b: Expressions, x: Any) -> Any:
    """re = log1p(4a / ((1 - a)^2 + b^2)) / 4, im = atan2(2b, (1 - a)(1 + a) - b^2) / 2."""
    one = b.const(1.0, x.re.dtype)
    a, c = b.op("abs", x.re), x.im
    minus, plus = b.op("sub", one, a), b.op("add", one, a)
    square = b.op("mul", c, c)
    distance = b.op("add", b.op("mul", minus, minus), square)
    re = b.op("mul", b.op("log1p", b.op("div", b.op("mul", a, 4.0), distance)), 0.25)
    angle = b.op("atan2", b.op("mul", c, 2.0), b.op("sub", b.op("mul", minus, plus), square))
    far = b.op("gt", b.op("max", a, b.op("abs", c)), 1e15 if one.dtype is F32 else 1e150)
    quarter = b.op("copysign", b.const(math.pi / 2, one.dtype), c)
    re = b.select(far, b.const(0.0, one.dtype), re)
    im = b.select(far, quarter, b.op("mul", angle, 0.5))
    return _make(b, b.op("copysign", re, x.re), im)


def _atan(b: Expressions, x: Any) -> Any:
    return _over_i(b, _atanh(b, _times_i(b, x)))


def _pow(b: Expressions, x: Any, y: Any) -> Any:
    """exp(y log x); 0 to a power with positive real part is 0, to the power 0 it is 1."""
    power = _exp(b, _mul(b, y, _log(b, x)))
    base_zero = b.op("and", b.op("eq", x.re, 0.0), b.op("eq", x.im, 0.0))
    exponent_zero = b.op("and", b.op("eq", y.re, 0.0), b.op("eq", y.im, 0.0))
    zero = b.const(0.0, x.dtype)
    vanishing = b.op("and", base_zero, b.op("gt", y.re, 0.0))
    power = _select(b, vanishing, zero, power)
    return _select(b, exponent_zero, _one(b, x), power)


def _logistic(b: Expressions, x: Any) -> Any:
    return _div(b, _one(b, x), _add(b, _one(b, x), _exp(b, _neg(b, x))))


RULES: dict[str, Rule] = {
    "real": _real,
    "imag": _imag,
    "conj": _conj,
    "neg": _neg,
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "eq": _eq,
    "ne": _ne,
    "is_nan": _is_nan,
    "is_finite": _is_finite,
    "is_inf": _is_inf,
    "select": _select,
    "abs": _abs,
    "sign": _sign,
    "square": _square,
    "exp": _exp,
    "exp2": _exp2,
    "expm1": _expm1,
    "log": _log,
    "log2": _log2,
    "log10": _log10,
    "log1p": _log1p,
    "sqrt": _sqrt,
    "rsqrt": _rsqrt,
    "sin": _sin,
    "cos": _cos,
    "tan": _tan,
    "sinh": _sinh,
    "cosh": _cosh,
    "tanh": _tanh,
    "asin": _asin,
    "acos": _acos,
    "atan": _atan,
    "asinh": _asinh,
    "acosh": _acosh,
    "atanh": _atanh,
    "pow": _pow,
    "logistic": _logistic,
}
