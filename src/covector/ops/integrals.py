"""More special functions: exponential integrals, normal quantiles, entropies, Kummer's function.

They are what `covector.scipy.special` needs beyond `jax.lax`; `kernels_integrals` has the
algorithms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core.errors import UnsupportedRuleError
from covector.core.primitive import Primitive, unsupported
from covector.ops import kernels
from covector.ops import kernels_integrals as algorithms
from covector.ops.arithmetic import abs_, add, div, max_, mul, neg, sub
from covector.ops.common import like, where
from covector.ops.compare import eq, lt, select_n
from covector.ops.factory import Function, elementwise, in_float32
from covector.ops.functions import exp, log, log1p, scipy_function

Array = np.ndarray[Any, Any]


def _function(
    name: str,
    evaluate: Callable[..., Any],
    algorithm: kernels.Algorithm,
    jvp: Sequence[Function | None] | str,
    *,
    arity: int = 1,
    uses_result: bool = False,
    cost: float = 300.0,
) -> Primitive:
    """A special function of real operands.

    Args:
        name: of the primitive.
        evaluate: NumPy function of float32 or float64 operands.
        algorithm: for the lowering, see `kernels`.
        jvp: a rule for each operand, or why there is no derivative.
        arity: number of operands.
        uses_result: the rules take `(tangent, result, *operands)`.
        cost: estimated instructions per element.
    """
    return elementwise(
        name,
        evaluate=in_float32(evaluate),
        jvp=None if isinstance(jvp, str) else jvp,
        jvp_uses_result=uses_result,
        jvp_rule=unsupported(jvp) if isinstance(jvp, str) else None,
        arity=arity,
        scalar=kernels.on_scalars(algorithm),
        kinds="f",
        cost=cost,
    )


# --- exponential integrals ------------------------------------------------------------------------


def _order_has_no_slope(*args: Any) -> Any:
    raise UnsupportedRuleError(
        "differentiation of `expn` by its order n is not supported: n is a whole number"
    )


def _expn_jvp(t: Any, n: Any, x: Any) -> Any:
    """-E_{n-1}(x), which is elementary for n <= 1."""
    one = like(x, 1)
    lowest = div(exp(neg(x)), x)
    next_lowest = mul(lowest, add(one, div(one, x)))
    lower = expn(max_(sub(n, like(n, 1)), like(n, 1)), x)
    small = select_n(lt(n, like(n, 1)), lowest, next_lowest)
    return mul(t, neg(select_n(lt(n, like(n, 2)), lower, small)))


expn = _function(
    "expn",
    kernels.on_arrays(algorithms.expn),
    algorithms.expn,
    (_order_has_no_slope, _expn_jvp),
    arity=2,
)
expi = _function(
    "expi",
    kernels.on_arrays(algorithms.expi),
    algorithms.expi,
    (lambda t, x: mul(t, div(exp(x), x)),),
)

# --- the dilogarithm ------------------------------------------------------------------------------


def _spence_jvp(t: Any, x: Any) -> Any:
    """log(x) / (1 - x), near 1 by its series, so that derivatives of it are right too."""
    distance = sub(x, like(x, 1))
    near = lt(abs_(distance), like(x, 0.01))
    total = like(x, 0)
    for k in range(10, 0, -1):
        total = sub(like(x, 1 / k), mul(distance, total))
    safe = select_n(near, x, like(x, 2))
    quotient = div(log(safe), sub(like(x, 1), safe))
    return mul(t, select_n(near, quotient, neg(total)))


spence = _function("spence", scipy_function("spence"), algorithms.spence, (_spence_jvp,), cost=80.0)

# --- normal probabilities -------------------------------------------------------------------------

_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


def _half_square(x: Any) -> Any:
    return mul(like(x, 0.5), mul(x, x))


def _log_ndtr_jvp(t: Any, y: Any, x: Any) -> Any:
    density = neg(add(_half_square(x), like(x, _HALF_LOG_2_PI)))
    return mul(t, exp(sub(density, y)))


log_ndtr = _function(
    "log_ndtr",
    scipy_function("log_ndtr"),
    algorithms.log_ndtr,
    (_log_ndtr_jvp,),
    uses_result=True,
    cost=80.0,
)


def _ndtri_jvp(t: Any, y: Any, p: Any) -> Any:
    return mul(t, exp(add(_half_square(y), like(y, _HALF_LOG_2_PI))))


ndtri = _function(
    "ndtri",
    scipy_function("ndtri"),
    algorithms.ndtri,
    (_ndtri_jvp,),
    uses_result=True,
    cost=300.0,
)

_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)


def _erfcx_jvp(t: Any, y: Any, x: Any) -> Any:
    return mul(t, sub(mul(mul(like(x, 2), x), y), like(x, _TWO_OVER_ROOT_PI)))


erfcx = _function(
    "erfcx", scipy_function("erfcx"), algorithms.erfcx, (_erfcx_jvp,), uses_result=True
)


def _dawsn_jvp(t: Any, y: Any, x: Any) -> Any:
    return mul(t, sub(like(x, 1), mul(mul(like(x, 2), x), y)))


dawsn = _function(
    "dawsn", scipy_function("dawsn"), algorithms.dawsn, (_dawsn_jvp,), uses_result=True
)

# --- Kummer's function ----------------------------------------------------------------------------

hyp1f1_grad_a = _function(
    "hyp1f1_grad_a",
    kernels.on_arrays(algorithms.hyp1f1_grad_a),
    algorithms.hyp1f1_grad_a,
    "its derivative has no form in known functions",
    arity=3,
)
hyp1f1_grad_b = _function(
    "hyp1f1_grad_b",
    kernels.on_arrays(algorithms.hyp1f1_grad_b),
    algorithms.hyp1f1_grad_b,
    "its derivative has no form in known functions",
    arity=3,
)


def _hyp1f1_slope(t: Any, a: Any, b: Any, x: Any) -> Any:
    raised = hyp1f1(add(a, like(a, 1)), add(b, like(b, 1)), x)
    return mul(t, mul(div(a, b), raised))


hyp1f1 = _function(
    "hyp1f1",
    kernels.on_arrays(algorithms.hyp1f1),
    algorithms.hyp1f1,
    (
        lambda t, a, b, x: mul(t, hyp1f1_grad_a(a, b, x)),
        lambda t, a, b, x: mul(t, hyp1f1_grad_b(a, b, x)),
        _hyp1f1_slope,
    ),
    arity=3,
)

# --- Bessel functions -----------------------------------------------------------------------------


def _bessel_i1_jvp(t: Any, y: Any, x: Any) -> Any:
    """i0(x) - i1(x) / x, which is 1/2 at 0."""
    origin = eq(x, like(x, 0))
    safe = select_n(origin, x, like(x, 1))
    slope = sub(bessel_i0(x), div(y, safe))
    return mul(t, select_n(origin, slope, like(x, 0.5)))


bessel_i1 = _function(
    "bessel_i1",
    scipy_function("i1"),
    algorithms.bessel_i1,
    (_bessel_i1_jvp,),
    uses_result=True,
    cost=130.0,
)
bessel_i0 = _function(
    "bessel_i0",
    scipy_function("i0"),
    algorithms.bessel_i0,
    (lambda t, x: mul(t, bessel_i1(x)),),
    cost=130.0,
)

# --- entropies ------------------------------------------------------------------------------------


def _vanishing(logarithm: Any) -> Callable[..., Any]:
    """`x logarithm(y)`, but 0 where x is 0, as a NumPy function."""

    def evaluate(x: Array, y: Array) -> Any:
        gone = (x == 0) & ~np.isnan(y)
        return where(gone, 0, x * logarithm(where(gone, 1, y)))

    return evaluate


def _vanishing_scalar(operation: str) -> Callable[..., Any]:
    """The same as loop IR."""

    def scalar(builder: Any, x: Any, y: Any) -> Any:
        op = builder.op
        zero = builder.const(0, x.dtype)
        gone = op("and", op("eq", x, zero), op("not", op("is_nan", y)))
        return builder.select(gone, zero, op("mul", x, op(operation, y)))

    return scalar


def _xlogx_scalar(builder: Any, x: Any) -> Any:
    return _vanishing_scalar("log")(builder, x, x)


xlogy = elementwise(
    "xlogy",
    evaluate=in_float32(_vanishing(np.log)),
    jvp=(lambda t, x, y: mul(t, log(y)), lambda t, x, y: mul(t, div(x, y))),
    scalar=_vanishing_scalar("log"),
    cost=14.0,
)
xlog1py = elementwise(
    "xlog1py",
    evaluate=in_float32(_vanishing(np.log1p)),
    jvp=(
        lambda t, x, y: mul(t, log1p(y)),
        lambda t, x, y: mul(t, div(x, add(y, like(y, 1)))),
    ),
    scalar=_vanishing_scalar("log1p"),
    cost=18.0,
)


def _xlogx_evaluate(x: Array) -> Any:
    return where(x == 0, 0, x * np.log(where(x == 0, 1, x)))


xlogx = elementwise(
    "xlogx",
    evaluate=in_float32(_xlogx_evaluate),
    jvp=lambda t, x: mul(t, add(log(x), like(x, 1))),
    scalar=_xlogx_scalar,
    cost=14.0,
)
