"""The primitives of linear algebra, which are defined by topic elsewhere."""

from __future__ import annotations

from covector.ops.decompositions import hessenberg, schur, tridiagonal
from covector.ops.lu import lu, lu_pivots_to_permutation
from covector.ops.qr import geqrf, householder_product, qr
from covector.ops.spectral import eig, eigh, svd
from covector.ops.triangular import cholesky, triangular_solve
from covector.ops.tridiagonal import tridiagonal_solve

__all__ = [
    "cholesky",
    "eig",
    "eigh",
    "geqrf",
    "hessenberg",
    "householder_product",
    "lu",
    "lu_pivots_to_permutation",
    "qr",
    "schur",
    "svd",
    "triangular_solve",
    "tridiagonal",
    "tridiagonal_solve",
]
