"""Schur, Hessenberg and tridiagonal forms of square matrices, by LAPACK through SciPy.

Names, parameters and meanings are those of JAX's linear algebra primitives.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.primitive import Primitive, unsupported
from covector.loopir.tensor import Lowering
from covector.ops.matrix_primitives import (
    check_matrices,
    each_matrix,
    library,
    lower_by_evaluation,
    matrix_primitive,
    nan_of,
    scipy_linalg,
)

Array = np.ndarray[Any, Any]


def _form(
    name: str, shape: Callable[..., list[Aval]], factor: Callable[..., list[Any]]
) -> Primitive:
    """A decomposition with no derivative.

    Args:
        name: of the primitive.
        shape: its shape rule.
        factor: the arrays it makes of one matrix; raises `LinAlgError` if it cannot.
    """

    def evaluate(x: Array, **params: Any) -> list[Array]:
        core = shape(Aval(x.shape[-2:], x.dtype), **params)

        def one(matrix: Array) -> list[Any]:
            if np.isfinite(matrix).all():
                try:
                    return factor(matrix, **params)
                except np.linalg.LinAlgError:
                    pass
            return [np.full(a.shape, nan_of(a.dtype)) for a in core]

        return each_matrix(one, [x], [2], [(a.shape, a.dtype) for a in core])

    def lower(b: Lowering, x: Any, **params: Any) -> list[Any]:
        results = shape(Aval(x.shape, x.dtype), **params)
        return lower_by_evaluation(b, partial(evaluate, **params), [x], results)

    return matrix_primitive(
        name,
        cores=(2,),
        shape=shape,
        evaluate=evaluate,
        jvp=unsupported("its results are not unique"),
        lower=lower,
        results=0,
    )


# --- schur ---------------------------------------------------------------------------------------


def _schur_shape(
    x: Aval, *, compute_schur_vectors: bool, sort_eig_vals: bool, select_callable: Any
) -> list[Aval]:
    check_matrices("schur", x, square=True)
    if sort_eig_vals or select_callable is not None:
        raise NotImplementedError("schur does not sort eigenvalues; leave out sort_eig_vals")
    return [x.strong()] * (1 + compute_schur_vectors)


def _schur(matrix: Array, *, compute_schur_vectors: bool, **params: Any) -> list[Any]:
    if not matrix.size:
        return [matrix, matrix][: 1 + compute_schur_vectors]
    output = "complex" if dtypes.is_complex(matrix.dtype) else "real"
    return list(scipy_linalg().schur(matrix, output=output))[: 1 + compute_schur_vectors]


schur = _form("schur", _schur_shape, _schur)
"""T (and with `compute_schur_vectors` Z) with Z T Z^H = x; T is quasi-triangular for real x."""

# --- hessenberg ----------------------------------------------------------------------------------


def _less_one(n: Any) -> Any:
    return n - 1 if type(n) is not int else max(n - 1, 0)


def _hessenberg_shape(x: Aval) -> list[Aval]:
    check_matrices("hessenberg", x, square=True)
    return [x.strong(), Aval((*x.shape[:-2], _less_one(x.shape[-1])), x.dtype)]


def _hessenberg(matrix: Array) -> list[Any]:
    if len(matrix) < 2:
        return [matrix, np.zeros(_less_one(len(matrix)), matrix.dtype)]
    form, taus, _ = library("gehrd", matrix)(matrix)
    return [form, taus]


hessenberg = _form("hessenberg", _hessenberg_shape, _hessenberg)
"""The Hessenberg form with Householder vectors below the subdiagonal, and their scalar factors."""

# --- tridiagonal ---------------------------------------------------------------------------------


def _tridiagonal_shape(x: Aval, *, lower: bool) -> list[Aval]:
    check_matrices("tridiagonal", x, square=True)
    batch, n = x.shape[:-2], x.shape[-1]
    if n == 0:
        raise ValueError(f"tridiagonal takes matrices with at least one row, got {x}")
    real = dtypes.real_of(x.dtype)
    less = _less_one(n)
    return [
        x.strong(),
        Aval((*batch, n), real),
        Aval((*batch, less), real),
        Aval((*batch, less), x.dtype),
    ]


def _tridiagonal(matrix: Array, *, lower: bool) -> list[Any]:
    name = "hetrd" if dtypes.is_complex(matrix.dtype) else "sytrd"
    form, diagonal, beside, taus, _ = library(name, matrix)(matrix, lower=int(lower))
    return [form, diagonal, beside, taus]


tridiagonal = _form("tridiagonal", _tridiagonal_shape, _tridiagonal)
"""The tridiagonal form of Hermitian matrices, given by one triangle.

Results are the matrix with Householder vectors in that triangle, the diagonal, the diagonal beside
it, and the scalar factors of the vectors.
"""
