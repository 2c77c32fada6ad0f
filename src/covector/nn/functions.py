"""Activation functions: those of `jax.nn`, with its derivatives at kinks."""

from __future__ import annotations

import math
from typing import Any

import covector.numpy as cnp
from covector.core import dtypes
from covector.numpy.promote import operand, promote_inexact
from covector.ops import elementwise as el
from covector.ops.gradient import stop_gradient

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "identity",
    "leaky_relu",
    "log1mexp",
    "log_sigmoid",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softplus",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "swish",
    "tanh",
]

tanh = cnp.tanh


def identity(x: Any) -> Any:
    """`x` as an array.

    Args:
        x: an array or number.
    """
    return operand(x, "nn.identity")


# --- pieces of straight lines ---------------------------------------------------------------------


def _clipped(x: Any, clipped: Any, inside: Any) -> Any:
    """`clipped`, with the derivative of `x` where `inside` holds and 0 elsewhere, on kinks too."""
    return cnp.where(inside, x, stop_gradient(clipped))


def relu(x: Any) -> Any:
    """The larger of `x` and 0; the derivative at 0 is 0.

    Args:
        x: an array.

    >>> import covector as cv
    >>> from covector import nn
    >>> nn.relu(cv.numpy.array([-1.0, 2.0])), float(cv.grad(nn.relu)(0.0))
    (Array([0., 2.], dtype=float32), 0.0)
    """
    x = operand(x, "nn.relu")
    clipped = cnp.maximum(x, 0)
    return _clipped(x, clipped, x > 0) if dtypes.is_inexact(x.dtype) else clipped


def relu6(x: Any) -> Any:
    """`x` between bounds 0 and 6; the derivative at these is 0.

    Args:
        x: an array.
    """
    x = operand(x, "nn.relu6")
    clipped = cnp.minimum(cnp.maximum(x, 0), 6.0)
    if not dtypes.is_inexact(x.dtype):
        return clipped
    return _clipped(x, clipped, cnp.logical_and(x > 0, x < 6))


def hard_sigmoid(x: Any) -> Any:
    """`relu6(x + 3) / 6`, the sigmoid made of straight lines.

    Args:
        x: an array.
    """
    return relu6(operand(x, "nn.hard_sigmoid") + 3.0) / 6.0


def hard_silu(x: Any) -> Any:
    """`x` times its hard sigmoid.

    Args:
        x: an array.
    """
    x = operand(x, "nn.hard_silu")
    return x * hard_sigmoid(x)


hard_swish = hard_silu


def hard_tanh(x: Any) -> Any:
    """`x` between bounds -1 and 1; the derivative at these is 1.

    Args:
        x: an array.
    """
    x = operand(x, "nn.hard_tanh")
    return cnp.where(x > 1, 1, cnp.where(x < -1, -1, x))


def leaky_relu(x: Any, negative_slope: Any = 1e-2) -> Any:
    """`x` where it is not negative, elsewhere a multiple of it.

    Args:
        x: an array.
        negative_slope: the factor.
    """
    x = operand(x, "nn.leaky_relu")
    return cnp.where(x >= 0, x, negative_slope * x)


def sparse_plus(x: Any) -> Any:
    """0 up to -1, `x` from 1 on, a parabola between.

    Args:
        x: an array.
    """
    x = operand(x, "nn.sparse_plus")
    return cnp.where(x <= -1.0, 0.0, cnp.where(x >= 1.0, x, (x + 1.0) ** 2 / 4))


def sparse_sigmoid(x: Any) -> Any:
    """0 up to -1, 1 from 1 on, a straight line between.

    Args:
        x: an array.
    """
    return 0.5 * cnp.clip(operand(x, "nn.sparse_sigmoid") + 1.0, 0.0, 2.0)


# --- smooth ones ----------------------------------------------------------------------------------


def squareplus(x: Any, b: Any = 4) -> Any:
    """`(x + sqrt(x^2 + b)) / 2`, a smooth relu.

    Args:
        x: an array.
        b: how far the bend reaches.
    """
    x = operand(x, "nn.squareplus")
    return (x + cnp.sqrt(cnp.square(x) + b)) / 2


def softplus(x: Any) -> Any:
    """`log(1 + exp(x))` without overflow.

    Args:
        x: an array.
    """
    return cnp.logaddexp(x, 0)


def soft_sign(x: Any) -> Any:
    """`x / (|x| + 1)`.

    Args:
        x: an array.
    """
    x = operand(x, "nn.soft_sign")
    return x / (cnp.abs(x) + 1)


def sigmoid(x: Any) -> Any:
    """`1 / (1 + exp(-x))`.

    Args:
        x: an array of floating or complex numbers.
    """
    return el.logistic(operand(x, "nn.sigmoid"))


def silu(x: Any) -> Any:
    """`x` times its sigmoid.

    Args:
        x: an array of floating or complex numbers.
    """
    x = operand(x, "nn.silu")
    return x * sigmoid(x)


swish = silu


def mish(x: Any) -> Any:
    """`x` times the hyperbolic tangent of its softplus.

    Args:
        x: an array.
    """
    x = operand(x, "nn.mish")
    return x * cnp.tanh(softplus(x))


def log_sigmoid(x: Any) -> Any:
    """The logarithm of the sigmoid.

    Args:
        x: an array.
    """
    return -softplus(-operand(x, "nn.log_sigmoid"))


def log1mexp(x: Any) -> Any:
    """`log(1 - exp(-x))` for positive `x`, exact near 0 and for large ones.

    (Maechler: "Accurately computing log(1 - exp(-|a|))", 2012.)

    Args:
        x: an array.
    """
    (x,) = promote_inexact(operand(x, "nn.log1mexp"))
    near = x < math.log(2.0)
    # Each form is evaluated where it is exact only: it has no finite derivative elsewhere.
    small, large = cnp.where(near, x, 1.0), cnp.where(near, 1.0, x)
    return cnp.where(near, cnp.log(-cnp.expm1(-small)), cnp.log1p(-cnp.exp(-large)))


def elu(x: Any, alpha: Any = 1.0) -> Any:
    """`x` where it is positive, elsewhere `alpha (exp(x) - 1)`.

    Args:
        x: an array.
        alpha: minus the limit at minus infinity.
    """
    x = operand(x, "nn.elu")
    # Where x is positive the exponential may overflow, which would make derivatives NaN.
    return cnp.where(x > 0, x, alpha * cnp.expm1(cnp.where(x > 0, 0.0, x)))


def celu(x: Any, alpha: Any = 1.0) -> Any:
    """`x` where it is positive, elsewhere `alpha (exp(x / alpha) - 1)`.

    Args:
        x: an array.
        alpha: minus the limit at minus infinity.
    """
    x = operand(x, "nn.celu")
    return cnp.maximum(x, 0.0) + alpha * cnp.expm1(cnp.minimum(x, 0.0) / alpha)


_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def selu(x: Any) -> Any:
    """The elu that keeps mean 0 and variance 1 from layer to layer.

    (Klambauer et al.: "Self-normalizing neural networks", 2017.)

    Args:
        x: an array.
    """
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


def gelu(x: Any, approximate: bool = True) -> Any:
    """`x` times the probability that a standard normal number is less than it.

    Args:
        x: an array.
        approximate: use a formula with the hyperbolic tangent in place of the error function.
    """
    (x,) = promote_inexact(operand(x, "nn.gelu"))
    if approximate:
        probability = 0.5 * (1.0 + cnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return x * probability
    return 0.5 * x * el.erfc(-x * math.sqrt(0.5))


def glu(x: Any, axis: int = -1) -> Any:
    """The first half of `x` along an axis times the sigmoid of the second.

    Args:
        x: an array.
        axis: along which axis.

    Raises:
        ValueError: the axis has an odd number of elements.
    """
    x = operand(x, "nn.glu")
    if x.shape[axis] % 2:
        raise ValueError(f"nn.glu needs an even number of elements along axis {axis} of {x.aval}")
    first, second = cnp.split(x, 2, axis)
    return first * sigmoid(second)
