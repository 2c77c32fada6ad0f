"""Continuous distributions drawn by transforming normal or uniform numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.errors import compose
from covector.core.source import here
from covector.numpy.elementwise import log1p, power, where
from covector.numpy.promote import broadcast_shapes, constant, convert, operand
from covector.numpy.reductions import sum as total
from covector.numpy.rounding import clip
from covector.ops import elementwise as el
from covector.ops.gradient import stop_gradient
from covector.ops.random import random_bits
from covector.random.arguments import (
    Shape,
    float_dtype,
    joint_shape,
    parameters,
    shape_argument,
    single_key,
    spread,
    subkeys,
)
from covector.random.uniforms import between, uniform, unit

_ROOT_2 = math.sqrt(2.0)

# --- normal -------------------------------------------------------------------------------------


def normal(key: Any, shape: Shape = (), dtype: Any = None) -> Any:
    """Standard normal numbers, complex ones of variance 1 for complex dtypes.

    Args:
        key: a PRNG key.
        shape: of the result.
        dtype: a floating or complex dtype, float32 (float64 with x64) by default.

    Raises:
        ValueError: the dtype is neither floating nor complex.

    >>> from covector import random
    >>> random.normal(random.key(0), (3, 2)).shape
    (3, 2)
    """
    single = single_key("normal", key)
    target = dtypes.default_float() if dtype is None else dtypes.requested(dtype, "normal")
    if not dtypes.is_inexact(target):
        raise ValueError(f"normal draws floats: dtype must be floating or complex, got {target}")
    sizes = shape_argument("normal", shape)
    if not dtypes.is_complex(target):
        return standard_normal(single, sizes, target)
    part = dtypes.real_of(target)
    parts = [standard_normal(k, sizes, part) for k in subkeys(single)]
    return el.div(el.complex_(*parts), constant(_ROOT_2, target))


def standard_normal(key: Any, shape: tuple[Any, ...], dtype: Any) -> Any:
    """Normal numbers by the inverse of their distribution function."""
    low = np.nextafter(dtype.type(-1), dtype.type(0), dtype=dtype)
    drawn = between(key, shape, dtype, low, dtype.type(1))
    return el.mul(el.erf_inv(drawn), constant(_ROOT_2, dtype))


def truncated_normal(
    key: Any, lower: Any, upper: Any, shape: Shape | None = None, dtype: Any = None
) -> Any:
    """Standard normal numbers, those between bounds only.

    Args:
        key: a PRNG key.
        lower: lower bounds.
        upper: upper bounds, of a shape that broadcasts with theirs.
        shape: of the result, by default that of the bounds.
        dtype: a floating dtype, float32 (float64 with x64) by default.

    Returns:
        Numbers above `lower` and below `upper`.

    >>> from covector import random
    >>> x = random.truncated_normal(random.key(0), 1.0, 2.0, (100,))
    >>> bool((x > 1).all() and (x < 2).all())
    True
    """
    single = single_key("truncated_normal", key)
    target = float_dtype("truncated_normal", dtype)
    low, high = (convert(operand(v, "truncated_normal"), target) for v in (lower, upper))
    sizes = joint_shape("truncated_normal", shape, low, high)
    root = constant(_ROOT_2, target)
    drawn = uniform(single, sizes, target, el.erf(el.div(low, root)), el.erf(el.div(high, root)))
    drawn = el.mul(root, el.erf_inv(drawn))
    # Rounding may have reached a bound, or gone beyond.
    infinity = constant(math.inf, target)
    inside = (
        el.nextafter(stop_gradient(low), infinity),
        el.nextafter(stop_gradient(high), el.neg(infinity)),
    )
    return clip(drawn, *inside)


def lognormal(key: Any, sigma: Any = 1.0, shape: Shape | None = None, dtype: Any = None) -> Any:
    """Numbers whose logarithms are normal of mean 0.

    Args:
        key: a PRNG key.
        sigma: standard deviations of the logarithms.
        shape: of the result, by default that of `sigma`.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    single = single_key("lognormal", key)
    target = float_dtype("lognormal", dtype)
    (scale,) = parameters("lognormal", target, sigma)
    sizes = joint_shape("lognormal", shape, scale)
    return el.exp(el.mul(standard_normal(single, sizes, target), spread(scale, sizes)))


def maxwell(key: Any, shape: Shape = (), dtype: Any = None) -> Any:
    """Lengths of vectors of three standard normal numbers.

    Args:
        key: a PRNG key.
        shape: of the result.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    single = single_key("maxwell", key)
    target = float_dtype("maxwell", dtype)
    drawn = standard_normal(single, (*shape_argument("maxwell", shape), 3), target)
    return el.sqrt(total(el.square(drawn), -1))


def double_sided_maxwell(
    key: Any, loc: Any, scale: Any, shape: Shape = (), dtype: Any = None
) -> Any:
    """Maxwell numbers with a random sign, scaled and moved.

    Args:
        key: a PRNG key.
        loc: centres.
        scale: factors.
        shape: put before the shape of the parameters.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    from covector.random.discrete import rademacher

    single = single_key("double_sided_maxwell", key)
    target = float_dtype("double_sided_maxwell", dtype)
    centre, factor = operand(loc, "double_sided_maxwell"), operand(scale, "double_sided_maxwell")
    own = broadcast_shapes("double_sided_maxwell", centre.shape, factor.shape)
    sizes = (shape_argument("double_sided_maxwell", shape) or own) + own
    first, second = subkeys(single)
    return rademacher(second, sizes, target) * maxwell(first, sizes, target) * factor + centre


def wald(key: Any, mean: Any, shape: Shape | None = None, dtype: Any = None) -> Any:
    """Inverse Gaussian numbers of shape 1, by Michael, Schucany and Haas (1976).

    Args:
        key: a PRNG key.
        mean: their means.
        shape: of the result, by default that of `mean`.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    single = single_key("wald", key)
    target = float_dtype("wald", dtype)
    (mu,) = parameters("wald", target, mean)
    sizes = joint_shape("wald", shape, mu)
    mu = spread(mu, sizes)
    first, second = subkeys(single)
    y = el.square(standard_normal(first, sizes, target))
    root = el.sqrt(4 * mu * y + el.square(mu) * el.square(y))
    x = mu + el.square(mu) * y / 2 - mu / 2 * root
    smaller = unit(second, sizes, target) <= mu / (mu + x)
    return where(smaller, x, el.square(mu) / x)


# --- from uniform numbers -----------------------------------------------------------------------


def exponential(key: Any, shape: Shape = (), dtype: Any = None) -> Any:
    """Exponential numbers of mean 1.

    Args:
        key: a PRNG key.
        shape: of the result.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    single = single_key("exponential", key)
    target = float_dtype("exponential", dtype)
    return standard_exponential(single, shape_argument("exponential", shape), target)


def standard_exponential(key: Any, shape: tuple[Any, ...], dtype: Any) -> Any:
    """Exponential numbers, as `-log(1 - u)`: `u` may be 0 but not 1."""
    return el.neg(el.log1p(el.neg(unit(key, shape, dtype))))


def gumbel(key: Any, shape: Shape = (), dtype: Any = None, mode: str | None = None) -> Any:
    """Gumbel numbers, of distribution function `exp(-exp(-x))`.

    Args:
        key: a PRNG key.
        shape: of the result.
        dtype: a floating dtype, float32 (float64 with x64) by default.
        mode: "low" (the default) draws one word for each number, so that float32 numbers are at
            most about 16; "high" draws two, for at most about 32; "highest" uses all bits of both.

    Raises:
        ValueError: for another mode.
    """
    single = single_key("gumbel", key)
    target = float_dtype("gumbel", dtype)
    sizes = shape_argument("gumbel", shape)
    tiny = float(dtypes.finfo(target).tiny)
    if mode in (None, "low"):
        return _double_log(el.log(between(single, sizes, target, tiny, 1.0)))
    if mode not in ("high", "highest"):
        raise ValueError(f"gumbel: mode must be 'low', 'high' or 'highest', got {mode!r}")
    if mode == "highest" and target == dtypes.float32:
        return _gumbel_of_words(single, sizes)
    drawn = unit(single, (2, *sizes), target)
    high, low = drawn[0], drawn[1]
    finer = high + low * 2.0 ** -dtypes.finfo(target).nmant + tiny
    return _double_log(el.log1p(el.neg(where(high >= 0.5, high, finer))))


def _double_log(log_u: Any) -> Any:
    return el.neg(el.log(el.neg(log_u)))


def _gumbel_of_words(key: Any, shape: tuple[Any, ...]) -> Any:
    """Gumbel numbers of a fixed-point number of 64 bits, from whichever end is nearer."""
    high, low = (random_bits(key, bit_width=32, shape=(2, *shape))[k] for k in (0, 1))
    left = high < np.uint32(1 << 31)
    # The two's complement: 1 - u.
    low_negated = el.not_(low) + np.uint32(1)
    high_negated = el.not_(high) + convert(low == np.uint32(0), dtypes.uint32)
    x = _fixed_point(where(left, high, high_negated), where(left, low, low_negated))
    return where(left, _double_log(el.log1p(el.neg(x))), _double_log(el.log(x)))


def _fixed_point(high: Any, low: Any) -> Any:
    """The float32 below `(high * 2**32 + low) / 2**64`: leading zeros give the exponent."""
    in_low = high == np.uint32(0)
    zeros = el.clz(where(in_low, low, high))
    # Shifts by 32 give 0.
    filled = el.or_(el.shift_left(high, zeros), el.shift_right_logical(low, np.uint32(32) - zeros))
    mantissa = where(in_low, el.shift_left(low, zeros), filled)
    mantissa = el.and_(mantissa >> np.uint32(8), constant((1 << 23) - 1, dtypes.uint32))
    leading = where(in_low, zeros + np.uint32(32), zeros)
    exponent = el.and_(
        (np.uint32(126) - leading) << np.uint32(23), constant(0x3FC00000, dtypes.uint32)
    )
    return el.bitcast_convert_type(el.or_(exponent, mantissa), new_dtype=dtypes.float32)


def laplace(key: Any, shape: Shape = (), dtype: Any = None) -> Any:
    """Laplace numbers, of density `exp(-abs(x)) / 2`.

    Args:
        key: a PRNG key.
        shape: of the result.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    single = single_key("laplace", key)
    target = float_dtype("laplace", dtype)
    low = float(dtypes.finfo(target).epsneg) - 1.0
    u = between(single, shape_argument("laplace", shape), target, low, 1.0)
    return el.mul(el.sign(u), el.log1p(el.neg(el.abs_(u))))


def logistic(key: Any, shape: Shape = (), dtype: Any = None) -> Any:
    """Logistic numbers, of distribution function `1 / (1 + exp(-x))`.

    Args:
        key: a PRNG key.
        shape: of the result.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    single = single_key("logistic", key)
    target = float_dtype("logistic", dtype)
    tiny = float(dtypes.finfo(target).tiny)
    u = between(single, shape_argument("logistic", shape), target, tiny, 1.0)
    return el.sub(el.log(u), el.log1p(el.neg(u)))


def cauchy(key: Any, shape: Shape = (), dtype: Any = None) -> Any:
    """Cauchy numbers, of density `1 / (pi * (1 + x**2))`.

    Args:
        key: a PRNG key.
        shape: of the result.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    single = single_key("cauchy", key)
    target = float_dtype("cauchy", dtype)
    eps = float(dtypes.finfo(target).eps)
    u = between(single, shape_argument("cauchy", shape), target, eps, 1.0)
    return el.tan(el.mul(constant(math.pi, target), el.sub(u, constant(0.5, target))))


def pareto(key: Any, b: Any, shape: Shape | None = None, dtype: Any = None) -> Any:
    """Pareto numbers, of density `b / x**(b + 1)` above 1.

    Args:
        key: a PRNG key.
        b: exponents.
        shape: of the result, by default that of `b`.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    single = single_key("pareto", key)
    target = float_dtype("pareto", dtype)
    (exponent,) = parameters("pareto", target, b)
    sizes = joint_shape("pareto", shape, exponent)
    return el.exp(el.div(standard_exponential(single, sizes, target), spread(exponent, sizes)))


def rayleigh(key: Any, scale: Any, shape: Shape | None = None, dtype: Any = None) -> Any:
    """Rayleigh numbers: lengths of vectors of two normal numbers.

    Args:
        key: a PRNG key.
        scale: standard deviations of the components.
        shape: of the result, by default that of `scale`.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    single = single_key("rayleigh", key)
    target = float_dtype("rayleigh", dtype)
    (sigma,) = parameters("rayleigh", target, scale)
    sizes = joint_shape("rayleigh", shape, sigma)
    squares = el.mul(el.log(unit(single, sizes, target)), constant(-2.0, target))
    return el.mul(spread(sigma, sizes), el.sqrt(squares))


def weibull_min(
    key: Any, scale: Any, concentration: Any, shape: Shape = (), dtype: Any = None
) -> Any:
    """Weibull numbers, of distribution function `1 - exp(-(x / scale)**concentration)`.

    Args:
        key: a PRNG key.
        scale: factors.
        concentration: exponents.
        shape: of the numbers drawn, with which the parameters broadcast.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    single = single_key("weibull_min", key)
    target = float_dtype("weibull_min", dtype)
    u = unit(single, shape_argument("weibull_min", shape), target)
    return power(-log1p(-u), 1.0 / concentration) * scale


def triangular(
    key: Any, left: Any, mode: Any, right: Any, shape: Shape | None = None, dtype: Any = None
) -> Any:
    """Numbers whose density rises from `left` to `mode` and falls to `right`.

    Args:
        key: a PRNG key.
        left: lower bounds.
        mode: where the density is highest.
        right: upper bounds.
        shape: of the result, by default that of the parameters.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    single = single_key("triangular", key)
    target = float_dtype("triangular", dtype)
    bounds = parameters("triangular", target, left, mode, right)
    sizes = joint_shape("triangular", shape, *bounds)
    low, top, high = (spread(x, sizes) for x in bounds)
    u = unit(single, sizes, target)
    rising = low + el.sqrt(u * (high - low) * (top - low))
    falling = high - el.sqrt((1 - u) * (high - low) * (high - top))
    return where(u < (top - low) / (high - low), rising, falling)


def check_vector(name: str, what: str, x: Any, ndim: int) -> None:
    """Raises unless an array has so many axes at least."""
    if x.ndim < ndim:
        raise ValueError(
            compose(
                f"{name} needs {what} with at least {ndim} {'axis' if ndim == 1 else 'axes'}",
                found=str(x.aval),
                line=here(),
            )
        )
