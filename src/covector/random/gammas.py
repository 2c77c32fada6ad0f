"""The gamma distribution, and those made of it.

Gamma numbers are Marsaglia and Tsang's: "A simple method for generating gamma variables" (2000).
Their derivative by the shape parameter is that of the number with the same value of the
distribution function: implicit differentiation, `random_gamma_grad`.
"""

from __future__ import annotations

import operator
from typing import Any

from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.trace import aval_of
from covector.lax.control_flow import while_loop
from covector.numpy.elementwise import absolute, power
from covector.numpy.manipulation import expand_dims
from covector.numpy.promote import constant, convert, operand
from covector.numpy.reductions import max as largest
from covector.numpy.reductions import sum as total
from covector.ops import elementwise as el
from covector.ops.common import zeros
from covector.ops.gradient import stop_gradient
from covector.ops.random import random_split
from covector.ops.shape import reshape
from covector.random.arguments import (
    Shape,
    check_broadcast,
    float_dtype,
    joint_shape,
    parameters,
    shape_argument,
    single_key,
    spread,
    subkeys,
)
from covector.random.continuous import check_vector, standard_exponential, standard_normal
from covector.random.discrete import rademacher
from covector.random.uniforms import unit
from covector.transforms.batching import vmap
from covector.transforms.custom_jvp import SymbolicZero, custom_jvp
from covector.transforms.jit import jit

# --- one gamma number ---------------------------------------------------------------------------


def _accepted_cube(key: Any, alpha: Any) -> tuple[Any, Any, Any]:
    """What makes a gamma number of shape `alpha`, at least 1: `d * v`, and a key for the rest."""
    dtype = alpha.dtype
    zero, one, half, third = (constant(x, dtype) for x in (0.0, 1.0, 0.5, 1 / 3))
    d = alpha - third
    c = third / el.sqrt(d)

    def not_accepted(state: Any) -> Any:
        _, square, v, u = state
        outside = u >= one - constant(0.0331, dtype) * el.square(square)
        return outside & (el.log(u) >= square * half + d * (one - v + el.log(v)))

    def cube_root_not_positive(state: Any) -> Any:
        return state[2] <= zero

    def draw_normal(state: Any) -> Any:
        key, one_time = subkeys(state[0])
        x = standard_normal(one_time, (), dtype)
        return key, x, one + x * c

    def draw(state: Any) -> Any:
        key, normal_key, uniform_key = subkeys(state[0], 3)
        start = (normal_key, zero, constant(-1.0, dtype))
        _, x, root = while_loop(cube_root_not_positive, draw_normal, start)
        return key, el.square(x), root * root * root, unit(uniform_key, (), dtype)

    key, rest = subkeys(key)
    # Not accepted, so that the loop begins.
    start = (key, zero, one, constant(2.0, dtype))
    v = while_loop(not_accepted, draw, start)[2]
    return d, v, rest


def _one_gamma(key: Any, alpha: Any) -> Any:
    one = constant(1.0, alpha.dtype)
    large = alpha >= one
    d, v, rest = _accepted_cube(key, el.select_n(large, alpha + one, alpha))
    # Gamma(a) is Gamma(a + 1) times a uniform number to the power 1 / a.
    boost = el.pow_(one - unit(rest, (), alpha.dtype), one / alpha)
    return d * v * el.select_n(large, boost, one)


def _one_loggamma(key: Any, alpha: Any) -> Any:
    zero, one = constant(0.0, alpha.dtype), constant(1.0, alpha.dtype)
    large = alpha >= one
    d, v, rest = _accepted_cube(key, el.select_n(large, alpha + one, alpha))
    log_uniform = el.neg(standard_exponential(rest, (), alpha.dtype))
    no_boost = large | (log_uniform == zero)
    boost = el.select_n(no_boost, log_uniform * (one / alpha), zero)
    return el.log(d) + el.log(v) + boost


# --- arrays of them, and their derivatives ------------------------------------------------------


@custom_jvp
@jit
def _gammas(keys: Any, alphas: Any) -> Any:
    """Gamma numbers of vectors of keys and shapes."""
    return vmap(_one_gamma)(keys, alphas)


@custom_jvp
@jit
def _loggammas(keys: Any, alphas: Any) -> Any:
    """Logarithms of gamma numbers of vectors of keys and shapes."""
    return vmap(_one_loggamma)(keys, alphas)


def _gammas_jvp(primals: Any, tangents: Any) -> Any:
    (keys, alphas), (_, tangent) = primals, tangents
    drawn = _gammas(keys, alphas)
    if isinstance(tangent, SymbolicZero):
        return drawn, zeros(aval_of(drawn).tangent())
    return drawn, el.mul(tangent, el.random_gamma_grad(alphas, drawn))


def _loggammas_jvp(primals: Any, tangents: Any) -> Any:
    (keys, alphas), (_, tangent) = primals, tangents
    drawn = _loggammas(keys, alphas)
    if isinstance(tangent, SymbolicZero):
        return drawn, zeros(aval_of(drawn).tangent())
    # exp may underflow where the derivative of the logarithm is finite.
    tiny = constant(float(dtypes.finfo(alphas.dtype).tiny), alphas.dtype)
    sample = el.max_(el.exp(drawn), tiny)
    return drawn, el.mul(tangent, el.div(el.random_gamma_grad(alphas, sample), sample))


_gammas.defjvp(_gammas_jvp, symbolic_zeros=True)
_loggammas.defjvp(_loggammas_jvp, symbolic_zeros=True)


def _drawn(sampler: Any, key: Any, alpha: Any, shape: tuple[Any, ...]) -> Any:
    """A number for each element of a shape, with a key of its own."""
    alphas = spread(alpha, shape)
    size = Aval(shape, alphas.dtype).size
    keys = random_split(key, shape=(size,))
    numbers = sampler(keys, reshape(alphas, new_sizes=(size,), dimensions=None))
    return reshape(numbers, new_sizes=shape, dimensions=None)


# --- public -------------------------------------------------------------------------------------


def gamma(key: Any, a: Any, shape: Shape | None = None, dtype: Any = None) -> Any:
    """Gamma numbers, of density proportional to `x**(a - 1) * exp(-x)`.

    Differentiable by `a`.

    Args:
        key: a PRNG key.
        a: shape parameters, positive.
        shape: of the result, by default that of `a`.
        dtype: a floating dtype, float32 (float64 with x64) by default.

    >>> from covector import random
    >>> random.gamma(random.key(0), 2.0, (3,)).shape
    (3,)
    """
    return _gamma("gamma", _gammas, key, a, shape, dtype)


def loggamma(key: Any, a: Any, shape: Shape | None = None, dtype: Any = None) -> Any:
    """Logarithms of gamma numbers, exact where `a` is so small that the numbers underflow.

    Args:
        key: a PRNG key.
        a: shape parameters, positive.
        shape: of the result, by default that of `a`.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    return _gamma("loggamma", _loggammas, key, a, shape, dtype)


def _gamma(name: str, sampler: Any, key: Any, a: Any, shape: Any, dtype: Any) -> Any:
    single = single_key(name, key)
    target = float_dtype(name, dtype)
    alpha = convert(operand(a, name), target)
    return _drawn(sampler, single, alpha, joint_shape(name, shape, alpha))


def beta(key: Any, a: Any, b: Any, shape: Shape | None = None, dtype: Any = None) -> Any:
    """Beta numbers, of density proportional to `x**(a - 1) * (1 - x)**(b - 1)`.

    Args:
        key: a PRNG key.
        a: parameters, positive.
        b: parameters, positive.
        shape: of the result, by default that of the parameters.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    single = single_key("beta", key)
    target = float_dtype("beta", dtype)
    alphas = parameters("beta", target, a, b)
    sizes = joint_shape("beta", shape, *alphas)
    logs = [_drawn(_loggammas, k, x, sizes) for k, x in zip(subkeys(single), alphas, strict=True)]
    highest = el.max_(*logs)
    first, second = (el.exp(x - highest) for x in logs)
    return first / (first + second)


def dirichlet(key: Any, alpha: Any, shape: Shape | None = None, dtype: Any = None) -> Any:
    """Vectors of positive numbers of sum 1, of density proportional to `prod(x**(alpha - 1))`.

    Args:
        key: a PRNG key.
        alpha: parameters, a vector or an array of vectors along its last axis.
        shape: how many vectors, by default as many as there are in `alpha`.
        dtype: a floating dtype, float32 (float64 with x64) by default.

    Returns:
        An array of shape `(*shape, n)`.
    """
    single = single_key("dirichlet", key)
    target = float_dtype("dirichlet", dtype)
    alphas = convert(operand(alpha, "dirichlet"), target)
    check_vector("dirichlet", "alpha", alphas, 1)
    batch = alphas.shape[:-1]
    sizes = batch if shape is None else shape_argument("dirichlet", shape)
    check_broadcast("dirichlet", sizes, batch)
    logs = _drawn(_loggammas, single, alphas, (*sizes, alphas.shape[-1]))
    weights = el.exp(logs - stop_gradient(largest(logs, -1, keepdims=True)))
    return weights / total(weights, -1, keepdims=True)


def chisquare(key: Any, df: Any, shape: Shape | None = None, dtype: Any = None) -> Any:
    """Chi-squared numbers: sums of the squares of `df` normal numbers.

    Args:
        key: a PRNG key.
        df: degrees of freedom.
        shape: of the result, by default that of `df`.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    single = single_key("chisquare", key)
    target = float_dtype("chisquare", dtype)
    (freedom,) = parameters("chisquare", target, df)
    return _chisquare(single, freedom, joint_shape("chisquare", shape, freedom))


def _chisquare(key: Any, df: Any, shape: tuple[Any, ...]) -> Any:
    return el.mul(el.exp(_drawn(_loggammas, key, df / 2, shape)), constant(2.0, df.dtype))


def f(key: Any, dfnum: Any, dfden: Any, shape: Shape | None = None, dtype: Any = None) -> Any:
    """F-distributed numbers: ratios of chi-squared numbers over their degrees of freedom.

    Args:
        key: a PRNG key.
        dfnum: degrees of freedom of the numerator.
        dfden: degrees of freedom of the denominator.
        shape: of the result, by default that of the parameters.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    single = single_key("f", key)
    target = float_dtype("f", dtype)
    above, below = parameters("f", target, dfnum, dfden)
    sizes = joint_shape("f", shape, above, below)
    key_below, key_above = subkeys(single)
    numerator = _chisquare(key_above, above, sizes) / above
    return numerator / (_chisquare(key_below, below, sizes) / below)


def t(key: Any, df: Any, shape: Shape | None = None, dtype: Any = None) -> Any:
    """Student's t-distributed numbers.

    Args:
        key: a PRNG key.
        df: degrees of freedom.
        shape: of the result, by default that of `df`.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    single = single_key("t", key)
    target = float_dtype("t", dtype)
    (freedom,) = parameters("t", target, df)
    sizes = joint_shape("t", shape, freedom)
    normal_key, gamma_key = subkeys(single)
    half = freedom / 2
    drawn = _drawn(_gammas, gamma_key, half, sizes)
    return standard_normal(normal_key, sizes, target) * el.sqrt(half / drawn)


def generalized_normal(key: Any, p: Any, shape: Shape = (), dtype: Any = None) -> Any:
    """Numbers of density proportional to `exp(-abs(x)**p)`.

    Args:
        key: a PRNG key.
        p: the exponent.
        shape: of the result.
        dtype: a floating dtype, float32 (float64 with x64) by default.
    """
    single = single_key("generalized_normal", key)
    target = float_dtype("generalized_normal", dtype)
    sizes = shape_argument("generalized_normal", shape)
    first, second = subkeys(single)
    sizes_of_power = 1 / p
    magnitude = power(gamma(first, sizes_of_power, sizes, target), sizes_of_power)
    return rademacher(second, sizes, target) * magnitude


def ball(key: Any, d: int, p: Any = 2, shape: Shape = (), dtype: Any = None) -> Any:
    """Points drawn uniformly from the unit ball of the p-norm.

    (Barthe, Guedon, Mendelson, Naor: "A probabilistic approach to the geometry of the l_p^n ball",
    2005.)

    Args:
        key: a PRNG key.
        d: the number of dimensions.
        p: of the norm.
        shape: how many points.
        dtype: a floating dtype, float32 (float64 with x64) by default.

    Returns:
        An array of shape `(*shape, d)`.
    """
    single = single_key("ball", key)
    target = float_dtype("ball", dtype)
    sizes = shape_argument("ball", shape)
    first, second = subkeys(single)
    direction = generalized_normal(first, p, (*sizes, operator.index(d)), target)
    extra = standard_exponential(second, sizes, target)
    length = power(total(power(absolute(direction), p), -1) + extra, 1 / p)
    return direction / expand_dims(length, -1)
