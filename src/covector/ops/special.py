"""Special functions: the gamma and beta functions and their relatives, Bessel functions.

Names and meanings are those of `jax.lax`; `kernels` has the algorithms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core.errors import UnsupportedRuleError
from covector.core.primitive import Primitive, unsupported
from covector.ops import kernels
from covector.ops.arithmetic import abs_, add, div, mul, neg, sign, sub
from covector.ops.common import like, where
from covector.ops.compare import gt, select_n
from covector.ops.factory import Function, elementwise, in_float32
from covector.ops.functions import exp, function, log, log1p, scipy_function

Array = np.ndarray[Any, Any]


def special(
    name: str,
    evaluate: Function,
    algorithm: kernels.Algorithm,
    jvp: Sequence[Function | None] | str,
    *,
    jvp_uses_result: bool = False,
    cost: float = 300.0,
) -> Primitive:
    """A special function of real operands.

    Args:
        name: of the primitive.
        evaluate: NumPy function of float32 or float64 operands.
        algorithm: for the lowering, see `kernels`.
        jvp: a rule for each operand, or why there is no derivative.
        jvp_uses_result: the rules take `(tangent, result, *operands)`.
        cost: estimated instructions per element.
    """
    rules: Any = None if isinstance(jvp, str) else jvp
    return elementwise(
        name,
        evaluate=in_float32(evaluate),
        jvp=rules,
        jvp_uses_result=jvp_uses_result,
        jvp_rule=unsupported(jvp) if isinstance(jvp, str) else None,
        arity=2,
        scalar=kernels.on_scalars(algorithm),
        kinds="f",
        cost=cost,
    )


def _no_slope(name: str, operand: str) -> Callable[..., Any]:
    """The rule of an operand by which the derivative has no known form."""

    def rule(*args: Any) -> Any:
        raise UnsupportedRuleError(
            f"differentiation of `{name}` by its operand {operand} is not supported: "
            "the derivative has no form in known functions"
        )

    return rule


# --- gamma and its logarithmic derivatives ------------------------------------------------------


def _lgamma_evaluate(x: Array) -> Any:
    return where(np.isinf(x), np.inf, scipy_function("gammaln")(x))


lgamma = function("lgamma", _lgamma_evaluate, lambda t, x: mul(t, digamma(x)), kinds="f", cost=40.0)


def _digamma_evaluate(x: Array) -> Any:
    pole = (x < 0) & (x == np.floor(x))
    value = where(pole, np.nan, scipy_function("digamma")(x))
    return where(x == 0, -np.inf, value)


def _digamma_jvp(t: Any, x: Any) -> Any:
    return mul(t, polygamma(like(x, 1), x))


digamma = function("digamma", _digamma_evaluate, _digamma_jvp, kinds="f", cost=40.0)

zeta = special(
    "zeta",
    kernels.on_arrays(kernels.zeta),
    kernels.zeta,
    (
        _no_slope("zeta", "x"),
        lambda t, x, q: mul(t, mul(neg(x), zeta(add(x, like(x, 1)), q))),
    ),
)


polygamma = special(
    "polygamma",
    kernels.on_arrays(kernels.polygamma),
    kernels.polygamma,
    (
        _no_slope("polygamma", "m"),
        lambda t, m, x: mul(t, polygamma(add(m, like(m, 1)), x)),
    ),
)

# --- incomplete gamma and beta functions --------------------------------------------------------


def _gamma_density(a: Any, x: Any) -> Any:
    """x^(a-1) e^-x / Gamma(a)."""
    power = sub(mul(sub(a, like(a, 1)), log(x)), x)
    return exp(sub(power, lgamma(a)))


igamma_grad_a = special(
    "igamma_grad_a",
    kernels.on_arrays(kernels.igamma_grad_a),
    kernels.igamma_grad_a,
    "its derivative has no form in known functions",
)
igamma = special(
    "igamma",
    kernels.on_arrays(kernels.igamma),
    kernels.igamma,
    (
        lambda t, a, x: mul(t, igamma_grad_a(a, x)),
        lambda t, a, x: mul(t, _gamma_density(a, x)),
    ),
)
igammac = special(
    "igammac",
    kernels.on_arrays(kernels.igammac),
    kernels.igammac,
    (
        lambda t, a, x: mul(t, neg(igamma_grad_a(a, x))),
        lambda t, a, x: mul(t, neg(_gamma_density(a, x))),
    ),
)
random_gamma_grad = special(
    "random_gamma_grad",
    kernels.on_arrays(kernels.random_gamma_grad),
    kernels.random_gamma_grad,
    "its derivative has no form in known functions",
)


def _beta_density(t: Any, a: Any, b: Any, x: Any) -> Any:
    """t x^(a-1) (1-x)^(b-1) / B(a, b)."""
    one = like(x, 1)
    log_beta = sub(add(lgamma(a), lgamma(b)), lgamma(add(a, b)))
    powers = add(mul(sub(b, one), log1p(neg(x))), mul(sub(a, one), log(x)))
    return mul(t, exp(sub(powers, log_beta)))


regularized_incomplete_beta = special(
    "regularized_incomplete_beta",
    kernels.on_arrays(kernels.betainc),
    kernels.betainc,
    (
        _no_slope("regularized_incomplete_beta", "a"),
        _no_slope("regularized_incomplete_beta", "b"),
        _beta_density,
    ),
)

# --- Bessel functions ---------------------------------------------------------------------------


def _i0e_jvp(t: Any, y: Any, x: Any) -> Any:
    return mul(t, sub(bessel_i1e(x), mul(sign(x), y)))


bessel_i0e = function(
    "bessel_i0e",
    scipy_function("i0e"),
    _i0e_jvp,
    kinds="f",
    jvp_uses_result=True,
    scalar=kernels.on_scalars(kernels.bessel_i0e),
    cost=120.0,
)


def _i1e_jvp(t: Any, y: Any, x: Any) -> Any:
    """i0e(x) - y (sign(x) + 1/x), which is 1/2 at 0."""
    eps = float(np.finfo(np.float32).eps) if x.dtype.itemsize < 8 else kernels.EPS
    regular = gt(abs_(x), like(x, eps))
    safe = select_n(regular, like(x, eps), x)
    slope = sub(bessel_i0e(safe), mul(y, add(sign(safe), div(like(x, 1), safe))))
    return mul(t, select_n(regular, like(x, 0.5), slope))


bessel_i1e = function(
    "bessel_i1e",
    scipy_function("i1e"),
    _i1e_jvp,
    kinds="f",
    jvp_uses_result=True,
    scalar=kernels.on_scalars(kernels.bessel_i1e),
    cost=120.0,
)
