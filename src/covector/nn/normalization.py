"""Functions along axes: softmax and its relatives, standardisation, one-hot vectors."""

from __future__ import annotations

import math
import operator
from typing import Any

import covector.numpy as cnp
from covector.core import dtypes
from covector.core.dims import Dim
from covector.core.errors import compose
from covector.core.source import here
from covector.numpy.promote import broadcast_shapes, constant, operand, promote_inexact
from covector.numpy.reductions import Axis, axes_of
from covector.ops import elementwise as el
from covector.ops.gradient import stop_gradient
from covector.transforms.custom_jvp import custom_jvp

__all__ = ["log_softmax", "logmeanexp", "logsumexp", "one_hot", "softmax", "standardize"]


def softmax(x: Any, axis: Axis = -1, where: Any = None) -> Any:
    """Exponentials divided by their sum along axes.

    Args:
        x: an array.
        axis: one or several, `None` for all.
        where: which elements take part; the result is 0 elsewhere.

    Returns:
        An array of the shape of `x`.

    >>> import covector.numpy as cnp
    >>> from covector import nn
    >>> nn.softmax(cnp.zeros(4))
    Array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    return _softmax(operand(x, "nn.softmax"), axis, where)


def _softmax_of(x: Any, axis: Axis, where: Any) -> Any:
    largest = cnp.max(x, axis, where=where, initial=-math.inf, keepdims=True)
    chosen = x if where is None else cnp.where(where, x, -math.inf)
    weights = cnp.exp(chosen - largest)
    shares = weights / cnp.sum(weights, axis, where=where, keepdims=True)
    return shares if where is None else cnp.where(where, shares, 0)


_softmax = custom_jvp(_softmax_of, nondiff_argnums=(1,))


@_softmax.defjvp
def _softmax_jvp(axis: Axis, primals: Any, tangents: Any) -> Any:
    (x, where), (t, _) = primals, tangents
    y = _softmax(x, axis, where)
    return y, y * (t - cnp.sum(y * t, axis, where=where, keepdims=True))


def log_softmax(x: Any, axis: Axis = -1, where: Any = None) -> Any:
    """The logarithm of the softmax.

    Args:
        x: an array.
        axis: one or several, `None` for all.
        where: which elements take part; the result is minus infinity elsewhere.

    Returns:
        An array of the shape of `x`.
    """
    x = operand(x, "nn.log_softmax")
    largest = cnp.max(x, axis, where=where, initial=-math.inf, keepdims=True)
    chosen = x if where is None else cnp.where(where, x, -math.inf)
    shifted = chosen - stop_gradient(largest)
    total = cnp.log(cnp.sum(cnp.exp(shifted), axis, where=where, keepdims=True))
    result = shifted - total
    return result if where is None else cnp.where(where, result, -math.inf)


def logsumexp(
    a: Any,
    axis: Axis = None,
    b: Any = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: Any = None,
) -> Any:
    """The logarithm of a sum of exponentials, without overflow.

    Args:
        a: exponents.
        axis: one or several, `None` for all.
        b: factors of the exponentials.
        keepdims: keep the axes summed over, with size 1.
        return_sign: return the sign of the sum too, and the logarithm of its absolute value.
        where: which elements take part.

    Returns:
        An array; of a real sum that is negative NaN, unless the sign is returned. Or the pair of
        the logarithm and the sign.

    >>> import covector.numpy as cnp
    >>> from covector.nn import logsumexp
    >>> logsumexp(cnp.array([1000.0, -1000.0]))
    Array(1000., dtype=float32)
    """
    exponents = operand(a, "logsumexp")
    if where is not None:
        exponents = cnp.where(where, exponents, 0)
    factors: Any = None
    if b is None:
        (exponents,) = promote_inexact(exponents)
    else:
        exponents, factors = promote_inexact(exponents, operand(b, "logsumexp"))
        # A term with factor 0 must not decide what is subtracted, nor be 0 times infinity.
        exponents = cnp.where(factors != 0, exponents, -math.inf)
    largest = cnp.max(cnp.real(exponents), axis, keepdims=True, where=where, initial=-math.inf)
    largest = stop_gradient(cnp.where(cnp.isfinite(largest), largest, 0))
    terms = cnp.exp(exponents - largest.astype(exponents.dtype))
    if factors is not None:
        terms = terms * factors
    total = cnp.sum(terms, axis, keepdims=True, where=where)
    sign = cnp.sign(total)
    real = not dtypes.is_complex(exponents.dtype)
    if return_sign or real:
        total = cnp.abs(total)
    result = cnp.log(total) + largest.astype(total.dtype)
    if b is not None and not return_sign and real:
        result = cnp.where(sign < 0, math.nan, result)
    if not keepdims:
        rank = max(len(exponents.shape), len(result.shape))
        axes = axes_of("logsumexp", axis, rank)
        result, sign = (cnp.squeeze(v, axes) for v in (result, sign))
    return (result, sign) if return_sign else result


def logmeanexp(x: Any, axis: Axis = None, where: Any = None, keepdims: bool = False) -> Any:
    """The logarithm of a mean of exponentials, without overflow.

    Args:
        x: exponents.
        axis: one or several, `None` for all.
        where: which elements take part.
        keepdims: keep the axes averaged over, with size 1.
    """
    x = operand(x, "nn.logmeanexp")
    total = logsumexp(x, axis=axis, where=where, keepdims=keepdims)
    shape = x.shape if where is None else broadcast_shapes("logmeanexp", x.shape, cnp.shape(where))
    if where is None:
        axes = axes_of("logmeanexp", axis, len(shape))
        count = constant(math.prod([shape[i] for i in axes]), total.dtype)
    else:
        taking = cnp.broadcast_to(where, shape)
        count = cnp.sum(taking, axis, dtype=total.dtype, keepdims=keepdims)
    return total - cnp.log(count)


def standardize(
    x: Any,
    axis: Axis = -1,
    mean: Any = None,
    variance: Any = None,
    epsilon: Any = 1e-5,
    where: Any = None,
    *,
    algorithm: str = "fast",
) -> Any:
    """Numbers with their mean subtracted, divided by their standard deviation.

    Args:
        x: an array.
        axis: along which axes mean and variance are taken.
        mean: in place of that of `x`.
        variance: likewise.
        epsilon: added to the variance.
        where: which elements take part.
        algorithm: of the variance: "fast", the mean of squares less the square of the mean; or
            "stable", the mean of squared distances from the mean.

    Raises:
        ValueError: for another algorithm.
    """
    x = operand(x, "nn.standardize")
    if mean is None:
        mean = cnp.mean(x, axis, keepdims=True, where=where)
    if variance is None:
        if algorithm == "fast":
            squares = cnp.mean(cnp.square(x), axis, keepdims=True, where=where)
            variance = cnp.clip(squares - cnp.square(mean), 0)
        elif algorithm == "stable":
            distance = cnp.square(cnp.subtract(x, mean))
            variance = cnp.mean(distance, axis, keepdims=True, where=where)
        else:
            raise ValueError(f"nn.standardize: algorithm is 'fast' or 'stable', not {algorithm!r}")
    return cnp.subtract(x, mean) * el.rsqrt(cnp.add(variance, epsilon))


def one_hot(x: Any, num_classes: int, *, dtype: Any = None, axis: Any = -1) -> Any:
    """For each index a vector of zeros with a one at its place; indices outside give zeros.

    Args:
        x: indices.
        num_classes: length of the vectors.
        dtype: of the result, the default floating one if not given.
        axis: where the axis of the vectors goes; or the name of an axis of `vmap`, along which each
            lane gets its element.

    >>> import covector.numpy as cnp
    >>> from covector import nn
    >>> nn.one_hot(cnp.array([1, 3]), 3)
    Array([[0., 1., 0.],
           [0., 0., 0.]], dtype=float32)
    """
    indices = cnp.asarray(x)
    target = dtypes.default_float() if dtype is None else dtypes.requested(dtype, "one_hot")
    count = _class_count(num_classes)
    try:
        place = operator.index(axis)
    except TypeError:
        return _own_element(indices, count, axis).astype(target)
    rank = len(indices.shape) + 1
    place = axes_of("nn.one_hot", place, rank)[0]
    shape = [1] * rank
    shape[place] = count
    classes = cnp.arange(count, dtype=indices.dtype).reshape(shape)
    return cnp.equal(cnp.expand_dims(indices, place), classes).astype(target)


def _class_count(num_classes: Any) -> Any:
    if isinstance(num_classes, Dim):
        return num_classes
    try:
        return operator.index(num_classes)
    except TypeError:
        raise TypeError(
            compose(
                "num_classes of nn.one_hot must be an int known while tracing",
                found=repr(num_classes)[:120],
                fix="mark it static (static_argnums of jit)",
                line=here(),
            )
        ) from None


def _own_element(indices: Any, count: Any, name: Any) -> Any:
    from covector import lax

    size = lax.axis_size(name)
    if size != count:
        raise ValueError(
            f"nn.one_hot: num_classes is {count}, but the axis {name!r} has {size} elements"
        )
    return cnp.equal(indices, lax.axis_index(name))
