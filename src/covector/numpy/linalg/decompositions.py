"""Decompositions of matrices."""

from __future__ import annotations

from typing import Any, NamedTuple

from covector.numpy.elementwise import absolute, sign
from covector.numpy.index_functions import take_along_axis
from covector.numpy.linalg.arguments import adjoint, matrices, symmetrized
from covector.numpy.manipulation import expand_dims, flip, matrix_transpose
from covector.numpy.promote import convert
from covector.numpy.sorting import argsort
from covector.ops import linalg as ops

__all__ = [
    "cholesky",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "qr",
    "svd",
    "svdvals",
]


class EigResult(NamedTuple):
    """Eigenvalues, and eigenvectors as columns."""

    eigenvalues: Any
    eigenvectors: Any


class EighResult(NamedTuple):
    """Eigenvalues, ascending, and eigenvectors as columns."""

    eigenvalues: Any
    eigenvectors: Any


class QRResult(NamedTuple):
    """An orthogonal or unitary matrix, and an upper triangular one."""

    Q: Any
    R: Any


class SVDResult(NamedTuple):
    """Left singular vectors as columns, singular values, right singular vectors as rows."""

    U: Any
    S: Any
    Vh: Any


def cholesky(a: Any, *, upper: bool = False, symmetrize_input: bool = True) -> Any:
    """The triangular factor of Hermitian, positive definite matrices.

    Args:
        a: matrices.
        upper: return U with U^H U = a in place of L with L L^H = a.
        symmetrize_input: take the mean of the matrix and its conjugate transpose first, so that
            derivatives are symmetric; otherwise only the lower triangle is read.

    Returns:
        Matrices, of NaN where there is no such factor.

    Raises:
        ValueError: `a` has no square matrices.

    Example:
        >>> import covector.numpy as cnp
        >>> cnp.linalg.cholesky(cnp.array([[4.0, 2.0], [2.0, 5.0]]))
        Array([[2., 0.],
               [1., 2.]], dtype=float32)
    """
    x = matrices("linalg.cholesky", a, square=True)
    factor = ops.cholesky(symmetrized(x) if symmetrize_input else x)
    return adjoint(factor) if upper else factor


# --- eigenvalues --------------------------------------------------------------------------------


def eig(a: Any) -> EigResult:
    """Eigenvalues, in no order, and eigenvectors of square matrices; both are complex.

    Only the eigenvalues can be differentiated.

    Args:
        a: square matrices.

    Returns:
        `eigenvalues` and `eigenvectors`.
    """
    values, vectors = _eig("linalg.eig", a, True)
    return EigResult(values, vectors)


def eigvals(a: Any) -> Any:
    """The eigenvalues of square matrices, complex and in no order."""
    return _eig("linalg.eigvals", a, False)[0]


def _eig(name: str, a: Any, vectors: bool) -> list[Any]:
    return ops.eig(
        matrices(name, a, square=True),
        compute_left_eigenvectors=False,
        compute_right_eigenvectors=vectors,
        enable_eigvec_derivs=False,
        implementation=None,
    )


def eigh(a: Any, UPLO: str | None = None, symmetrize_input: bool = True) -> EighResult:
    """Eigenvalues and eigenvectors of Hermitian matrices.

    Args:
        a: matrices.
        UPLO: which triangle is read, "L" (the default) or "U".
        symmetrize_input: take the mean of the matrix and its conjugate transpose first.

    Returns:
        `eigenvalues`, ascending, and `eigenvectors`.

    Raises:
        ValueError: `UPLO` is neither, or the matrices are not square.

    Example:
        >>> import covector.numpy as cnp
        >>> cnp.linalg.eigh(cnp.array([[2.0, 0.0], [0.0, 1.0]])).eigenvalues
        Array([1., 2.], dtype=float32)
    """
    if UPLO not in (None, "L", "U"):
        raise ValueError(f'linalg.eigh: UPLO is "L", "U" or None, got {UPLO!r}')
    x = matrices("linalg.eigh", a, square=True)
    x = symmetrized(x) if symmetrize_input else x
    return EighResult(*hermitian_eigenvalues(x, lower=UPLO != "U"))


def hermitian_eigenvalues(x: Any, lower: bool = True) -> tuple[Any, Any]:
    """Eigenvalues and eigenvectors of Hermitian matrices given by one triangle."""
    vectors, values = ops.eigh(
        x, lower=lower, sort_eigenvalues=True, subset_by_index=None, algorithm=None
    )
    return values, vectors


def eigvalsh(a: Any, UPLO: str | None = "L", *, symmetrize_input: bool = True) -> Any:
    """The eigenvalues of Hermitian matrices, ascending; see `eigh`."""
    return eigh(a, UPLO, symmetrize_input).eigenvalues


# --- singular values ----------------------------------------------------------------------------


def svd(
    a: Any,
    full_matrices: bool = True,
    compute_uv: bool = True,
    hermitian: bool = False,
    subset_by_index: tuple[int, int] | None = None,
) -> Any:
    """The singular value decomposition U diag(S) Vh = a.

    Args:
        a: matrices.
        full_matrices: whether U and Vh are square.
        compute_uv: whether they are wanted.
        hermitian: the matrices are Hermitian: use their eigenvalues.
        subset_by_index: the first and last (exclusive) singular values wanted.

    Returns:
        `U`, `S` and `Vh`; without `compute_uv` the singular values, descending.

    Raises:
        ValueError: `a` has no matrices (square ones, if Hermitian).
        NotImplementedError: a part of the singular values of Hermitian matrices.

    Example:
        >>> import covector.numpy as cnp
        >>> cnp.linalg.svd(cnp.array([[3.0, 0.0], [0.0, 4.0]]), compute_uv=False)
        Array([4., 3.], dtype=float32)
    """
    x = matrices("linalg.svd", a, square=hermitian)
    if hermitian:
        if subset_by_index is not None:
            raise NotImplementedError(
                "linalg.svd: subset_by_index is not supported with hermitian=True; leave one out"
            )
        return _hermitian_svd(x, compute_uv)
    found = ops.svd(
        x,
        full_matrices=full_matrices,
        compute_uv=compute_uv,
        subset_by_index=subset_by_index,
        algorithm=None,
    )
    if not compute_uv:
        return found[0]
    return SVDResult(found[1], found[0], found[2])


def _hermitian_svd(x: Any, compute_uv: bool) -> Any:
    """Singular values are the magnitudes of eigenvalues; signs go to the vectors of one side."""
    values, vectors = hermitian_eigenvalues(symmetrized(x))
    magnitudes = absolute(values)
    order = flip(argsort(magnitudes, -1), -1)
    s = take_along_axis(magnitudes, order, -1)
    if not compute_uv:
        return s
    u = take_along_axis(vectors, expand_dims(order, -2), -1)
    signs = expand_dims(take_along_axis(sign(values), order, -1), -2)
    return SVDResult(u, s, adjoint(u * convert(signs, u.dtype)))


def svdvals(x: Any, /) -> Any:
    """The singular values of matrices, descending."""
    return svd(x, compute_uv=False)


# --- QR -----------------------------------------------------------------------------------------


def qr(a: Any, mode: str = "reduced") -> Any:
    """The decomposition Q R = a into an orthogonal (unitary) and an upper triangular matrix.

    Args:
        a: matrices of m rows and n columns.
        mode: "reduced": Q has min(m, n) columns; "complete": Q is square; "r": R alone; "raw":
            the Householder vectors of Q and R in one matrix, transposed, and scalar factors. "full"
            is an old name of "reduced".

    Returns:
        `Q` and `R`, or R alone.

    Raises:
        ValueError: the mode is none of these.
    """
    x = matrices("linalg.qr", a)
    if mode == "raw":
        vectors, taus = ops.geqrf(x)
        return QRResult(matrix_transpose(vectors), taus)
    if mode not in ("reduced", "r", "full", "complete"):
        raise ValueError(
            f"linalg.qr: unsupported mode {mode!r}; it is 'reduced', 'complete', 'r' or 'raw'"
        )
    q, r = ops.qr(x, pivoting=False, full_matrices=mode == "complete")
    return r if mode == "r" else QRResult(q, r)
