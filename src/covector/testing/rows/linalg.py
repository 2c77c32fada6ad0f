"""Rows of the matrix primitives, applied so that signs and phases do not matter."""

from __future__ import annotations

from typing import Any

import numpy as np

from covector.ops import linalg as ops
from covector.ops import matrices as mx
from covector.ops.arithmetic import add, mul
from covector.ops.lu_solve import solve
from covector.testing.optable import Operand, OpRow, Shape

linalg: Any = np.linalg

WIDE = ("f32", "f64", "c64", "c128")
FLAGS = {"transpose_a": False, "conjugate_a": False, "unit_diagonal": False}


def _definite(x: Any) -> Any:
    """A positive definite matrix made of any square one."""
    product = mx.matmul(x, mx.adjoint(x))
    return add(product, mx.identity_like(product))


def _definite_twin(x: Any) -> Any:
    return x @ np.swapaxes(x.conj(), -1, -2) + np.eye(x.shape[-1])


def _cholesky(x: Any) -> Any:
    return ops.cholesky(_definite(x))


def _cholesky_twin(x: Any) -> Any:
    return linalg.cholesky(_definite_twin(x))


def _solve(a: Any, b: Any, *, left_side: bool, lower: bool) -> Any:
    factor = ops.cholesky(_definite(a))
    if not lower:
        factor = mx.adjoint(factor)
    return ops.triangular_solve(factor, b, left_side=left_side, lower=lower, **FLAGS)


def _lower_twin(a: Any, b: Any) -> Any:
    return linalg.solve(_cholesky_twin(a), b)


def _lu(x: Any) -> Any:
    return ops.lu(x)[0]


def _system(a: Any, b: Any) -> Any:
    return solve(_definite(a), b)


def _system_twin(a: Any, b: Any) -> Any:
    return linalg.solve(_definite_twin(a), b)


def _r_of_definite(x: Any) -> Any:
    """The R of a QR decomposition with a positive diagonal."""
    r = ops.qr(x, pivoting=False, full_matrices=False)[1]
    return mx.matmul(mx.adjoint(r), r)


def _gram(x: Any) -> Any:
    return np.swapaxes(x.conj(), -1, -2) @ x


def _eigenvalues(x: Any) -> Any:
    options = {"lower": True, "sort_eigenvalues": True, "subset_by_index": None}
    return ops.eigh(_definite(x), algorithm=None, **options)[1]


def _eigenvalues_twin(x: Any) -> Any:
    return np.linalg.eigvalsh(_definite_twin(x))


def _rebuilt(x: Any) -> Any:
    """The product of a singular value decomposition's factors."""
    s, u, vh = ops.svd(
        x, full_matrices=False, compute_uv=True, subset_by_index=None, algorithm=None
    )
    return mx.matmul(mul(u, mx.on_rows(mx.convert(s, x.dtype), u)), vh)


def _same(x: Any) -> Any:
    return x


def _singular_values(x: Any) -> Any:
    options = {"full_matrices": False, "subset_by_index": None, "algorithm": None}
    return ops.svd(x, compute_uv=False, **options)[0]


def _singular_values_twin(x: Any) -> Any:
    return np.linalg.svd(x, compute_uv=False)


def _row(name: str, op: Any, twin: Any, *shapes: Shape, **params: Any) -> OpRow:
    operands = tuple([Operand(shape=shape) for shape in shapes])
    return OpRow(name, op, operands, WIDE, params, numpy=twin, ulps=500.0, roots=True)


ROWS = (
    _row("cholesky", _cholesky, _cholesky_twin, (2, 3, 3)),
    _row("cholesky_large", _cholesky, _cholesky_twin, (10, 10)),
    _row("triangular_solve", _solve, _lower_twin, (3, 3), (3, 2), left_side=True, lower=True),
    _row("triangular_solve_right", _solve, None, (3, 3), (2, 3), left_side=False, lower=False),
    _row("triangular_solve_large", _solve, _lower_twin, (9, 9), (9, 2), left_side=True, lower=True),
    _row("lu", _lu, None, (2, 3, 3)),
    _row("lu_large", _lu, None, (9, 9)),
    _row("lu_solve", _system, _system_twin, (2, 3, 3), (2, 3, 2)),
    _row("lu_solve_large", _system, _system_twin, (9, 9), (9, 2)),
    _row("qr", _r_of_definite, _gram, (4, 3)),
    _row("eigh", _eigenvalues, _eigenvalues_twin, (3, 3)),
    _row("svd", _rebuilt, _same, (4, 3)),
    _row("svd_values", _singular_values, _singular_values_twin, (3, 4)),
)
"""One row for each operation."""
