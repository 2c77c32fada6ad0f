"""The normal distribution of vectors."""

from __future__ import annotations

import math
from typing import Any

import covector.numpy as cnp
from covector.core.errors import compose
from covector.core.source import here
from covector.numpy.index_functions import diagonal
from covector.ops.linalg import cholesky, triangular_solve
from covector.scipy.arguments import floats


def logpdf(x: Any, mean: Any, cov: Any, allow_singular: None = None) -> Any:
    """The logarithm of the density.

    Args:
        x: where: a vector, or an array of vectors along its last axis.
        mean: a vector, or an array of them; a number in one dimension.
        cov: a positive definite matrix, or an array of them along the last two axes; or a number,
            the variance of each component.
        allow_singular: must be `None`.
    """
    if allow_singular is not None:
        raise NotImplementedError("multivariate_normal.logpdf: allow_singular is not supported")
    x, mean, cov = floats("multivariate_normal.logpdf", x, mean, cov)
    if not mean.shape:
        distance = (x - mean) * (x - mean) / cov
        return -0.5 * (distance + math.log(2 * math.pi) + cnp.log(cov))
    size = mean.shape[-1]
    centred = x - mean
    if not cov.shape:
        distance = cnp.sum(centred * centred, axis=-1) / cov
        return -0.5 * (distance + size * (math.log(2 * math.pi) + cnp.log(cov)))
    if len(cov.shape) < 2 or cov.shape[-2:] != (size, size):
        raise ValueError(
            compose(
                f"multivariate_normal needs a covariance of shape (..., {size}, {size})",
                found=f"{cov.aval} for a mean {mean.aval}",
                fix="pass a matrix, or a number for equal variances",
                line=here(),
            )
        )
    distance, volume = _measure(cov, centred)
    return -0.5 * (distance + size * math.log(2 * math.pi)) - volume


def pdf(x: Any, mean: Any, cov: Any) -> Any:
    """The density.

    Args:
        x: where: a vector, or an array of vectors along its last axis.
        mean: a vector, or an array of them; a number in one dimension.
        cov: a positive definite matrix, or an array of them along the last two axes; or a number,
            the variance of each component.
    """
    return cnp.exp(logpdf(x, mean, cov))


def _measure(cov: Any, centred: Any) -> tuple[Any, Any]:
    """The squared distance from the mean in terms of the covariance, and log(det) / 2."""
    batch = cnp.broadcast_shapes(cov.shape[:-2], centred.shape[:-1])
    factor = cholesky(cov)
    volume = cnp.sum(cnp.log(diagonal(factor, 0, -2, -1)), axis=-1)
    size = centred.shape[-1]
    solved = triangular_solve(
        cnp.broadcast_to(factor, (*batch, size, size)),
        cnp.broadcast_to(centred, (*batch, size))[..., None],
        left_side=True,
        lower=True,
        transpose_a=False,
        conjugate_a=False,
        unit_diagonal=False,
    )
    return cnp.sum(solved * solved, axis=(-2, -1)), volume
