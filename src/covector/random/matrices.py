"""Random vectors and matrices that linear algebra makes of normal numbers."""

from __future__ import annotations

import operator
from typing import Any

from covector.core import dtypes
from covector.core.errors import compose
from covector.core.source import here
from covector.numpy.contraction import einsum
from covector.numpy.elementwise import sign
from covector.numpy.index_functions import diagonal
from covector.numpy.manipulation import expand_dims, swapaxes
from covector.numpy.promote import broadcast_shapes, constant, operand, promote_inexact
from covector.ops import elementwise as el
from covector.ops.linalg import cholesky, eigh, qr, svd
from covector.random.arguments import Shape, check_broadcast, shape_argument, single_key
from covector.random.continuous import check_vector, normal


def multivariate_normal(
    key: Any,
    mean: Any,
    cov: Any,
    shape: Shape | None = None,
    dtype: Any = None,
    method: str = "cholesky",
) -> Any:
    """Normal vectors with given means and covariances.

    Args:
        key: a PRNG key.
        mean: a vector, or an array of vectors along its last axis.
        cov: a matrix, or an array of matrices along its last two axes.
        shape: how many vectors, by default as many as there are parameters.
        dtype: a floating dtype, by default that of the parameters.
        method: how the matrix is factorised: "cholesky", or for singular matrices "svd" or "eigh".

    Returns:
        An array of shape `(*shape, n)`.

    Raises:
        ValueError: for another method, or shapes that do not agree.
    """
    if method not in ("cholesky", "svd", "eigh"):
        raise ValueError(
            f"multivariate_normal: method must be 'cholesky', 'svd' or 'eigh', got {method!r}"
        )
    single = single_key("multivariate_normal", key)
    centre, matrix = promote_inexact(
        operand(mean, "multivariate_normal"), operand(cov, "multivariate_normal")
    )
    target = centre.dtype if dtype is None else dtypes.requested(dtype, "multivariate_normal")
    if not dtypes.is_floating(target):
        raise ValueError(f"multivariate_normal draws floats: dtype must be floating, got {target}")
    check_vector("multivariate_normal", "a mean", centre, 1)
    check_vector("multivariate_normal", "a covariance", matrix, 2)
    size = centre.shape[-1]
    if matrix.shape[-2:] != (size, size):
        raise ValueError(
            compose(
                f"multivariate_normal needs covariances of shape (..., {size}, {size})",
                found=str(matrix.aval),
                line=here(),
            )
        )
    batches = centre.shape[:-1], matrix.shape[:-2]
    if shape is None:
        sizes = broadcast_shapes("multivariate_normal", *batches)
    else:
        sizes = shape_argument("multivariate_normal", shape)
        check_broadcast("multivariate_normal", sizes, *batches)
    drawn = normal(single, (*sizes, size), target)
    return centre + einsum("...ij,...j->...i", _factor(matrix, method), drawn)


def _factor(matrix: Any, method: str) -> Any:
    """A matrix whose product with its transpose is the given one."""
    if method == "svd":
        values, vectors, _ = svd(
            matrix, full_matrices=True, compute_uv=True, subset_by_index=None, algorithm=None
        )
    else:
        half = constant(0.5, matrix.dtype)
        matrix = el.mul(el.add(matrix, swapaxes(matrix, -1, -2)), half)
        if method == "cholesky":
            return cholesky(matrix)
        vectors, values = eigh(
            matrix, lower=True, sort_eigenvalues=True, subset_by_index=None, algorithm=None
        )
    return vectors * expand_dims(el.sqrt(values), -2)


def orthogonal(key: Any, n: int, shape: Shape = (), dtype: Any = None, m: int | None = None) -> Any:
    """Matrices drawn uniformly from the orthogonal group; from the unitary one for complex dtypes.

    (Mezzadri: "How to generate random matrices from the classical compact groups", 2007.)

    Args:
        key: a PRNG key.
        n: rows.
        shape: how many matrices.
        dtype: a floating or complex dtype, float32 (float64 with x64) by default.
        m: columns, as many as rows by default; if there are fewer, they are orthonormal, else the
            rows are.

    Returns:
        An array of shape `(*shape, n, m)`.
    """
    single = single_key("orthogonal", key)
    sizes = shape_argument("orthogonal", shape)
    rows = operator.index(n)
    columns = rows if m is None else operator.index(m)
    drawn = normal(single, (*sizes, max(rows, columns), min(rows, columns)), dtype)
    q, r = qr(drawn, pivoting=False, full_matrices=False, use_magma=None)
    # Signs that make the diagonal of r positive: the factorisation is unique then.
    x = q * expand_dims(sign(diagonal(r, 0, -2, -1)), -2)
    return swapaxes(x, -1, -2) if rows < columns else x
