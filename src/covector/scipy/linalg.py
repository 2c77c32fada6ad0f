"""Linear algebra, as in `jax.scipy.linalg`."""

from __future__ import annotations

from typing import Any

from covector.core import dtypes
from covector.lax.solvers import custom_linear_solve
from covector.numpy.creation import asarray
from covector.numpy.elementwise import conjugate
from covector.numpy.index_functions import tril, triu
from covector.numpy.linalg import decompositions, determinants, systems
from covector.numpy.linalg.arguments import adjoint, check_matrices, matrices
from covector.numpy.manipulation import expand_dims, squeeze
from covector.numpy.padding import pad
from covector.numpy.products import matmul
from covector.numpy.promote import (
    broadcast_shapes,
    broadcast_to,
    convert,
    promote_inexact,
    whole_numbers,
)
from covector.ops import linalg as ops
from covector.ops import matrices as mx
from covector.ops.gradient import stop_gradient
from covector.scipy.exponentials import expm, expm_frechet
from covector.scipy.patterned import block_diag, toeplitz

__all__ = [
    "block_diag",
    "cho_factor",
    "cho_solve",
    "cholesky",
    "det",
    "eigh",
    "expm",
    "expm_frechet",
    "hessenberg",
    "inv",
    "lu",
    "lu_factor",
    "lu_solve",
    "polar",
    "qr",
    "schur",
    "solve",
    "solve_triangular",
    "svd",
    "toeplitz",
]

# Arguments named overwrite_a, overwrite_b, check_finite, lwork, turbo, lapack_driver and debug say
# how SciPy should go about its work, not what comes out: as in JAX they are accepted.


def _prepared(name: str, a: Any, square: bool = False) -> Any:
    return matrices(f"scipy.linalg.{name}", asarray(a), square)


# --- Cholesky -----------------------------------------------------------------------------------


def cholesky(
    a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> Any:
    """The triangular factor of Hermitian, positive definite matrices.

    Args:
        a: matrices, of which one triangle is read.
        lower: use the lower triangle and return L with L L^H = a, instead of U with U^H U = a.
        overwrite_a: without effect.
        check_finite: without effect.

    Returns:
        Matrices, of NaN where there is no such factor.

    Example:
        >>> import covector.numpy as cnp
        >>> from covector.scipy import linalg
        >>> linalg.cholesky(cnp.array([[4.0, 2.0], [2.0, 5.0]]))
        Array([[2., 1.],
               [0., 2.]], dtype=float32)
    """
    x = _prepared("cholesky", a, square=True)
    return ops.cholesky(x) if lower else adjoint(ops.cholesky(adjoint(x)))


def cho_factor(
    a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> tuple[Any, bool]:
    """`cholesky`, and which triangle it is, for `cho_solve`."""
    return cholesky(a, lower), lower


def cho_solve(
    c_and_lower: tuple[Any, bool], b: Any, overwrite_b: bool = False, check_finite: bool = True
) -> Any:
    """The x with a x = b, given what `cho_factor` makes of a.

    Args:
        c_and_lower: the factor, and whether it is a lower triangle.
        b: a vector, or matrices of as many rows.
        overwrite_b: without effect.
        check_finite: without effect.
    """
    factor, lower = c_and_lower
    factor, b = _system("cho_solve", factor, b)
    middle = _triangular(factor, b, lower=lower, adjoint_a=not lower)
    return _vector_if(b, _triangular(factor, middle, lower=lower, adjoint_a=lower))


def _system(name: str, a: Any, b: Any) -> tuple[Any, Any]:
    """Square matrices and right-hand sides of one dtype; shapes checked."""
    a, b = promote_inexact(asarray(a), asarray(b))
    name = f"scipy.linalg.{name}"
    check_matrices(name, a, square=True)
    systems.check_right_hand_side(name, a, b)
    return a, b


def _vector_if(b: Any, x: Any) -> Any:
    """The solution for a right-hand side that is a vector as one."""
    return squeeze(x, -1) if b.ndim == 1 else x


def _triangular(
    a: Any,
    b: Any,
    *,
    lower: bool,
    adjoint_a: bool = False,
    transpose_a: bool = False,
    unit_diagonal: bool = False,
) -> Any:
    """`triangular_solve` whose batch axes broadcast; vectors become a column."""
    b = expand_dims(b, -1) if b.ndim == 1 else b
    batch = broadcast_shapes("scipy.linalg", a.shape[:-2], b.shape[:-2])
    return ops.triangular_solve(
        broadcast_to(a, (*batch, *a.shape[-2:])),
        broadcast_to(b, (*batch, *b.shape[-2:])),
        left_side=True,
        lower=lower,
        transpose_a=transpose_a or adjoint_a,
        conjugate_a=adjoint_a and dtypes.is_complex(a.dtype),
        unit_diagonal=unit_diagonal,
    )


# --- LU -----------------------------------------------------------------------------------------


def lu_factor(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> tuple[Any, Any]:
    """The LU decomposition for `lu_solve`.

    Args:
        a: matrices.
        overwrite_a: without effect.
        check_finite: without effect.

    Returns:
        L below the diagonal (its own is ones) and U in one matrix; and the row that each row was
        exchanged with, from the first on.
    """
    both, pivots, _ = ops.lu(_prepared("lu_factor", a))
    return both, pivots


def lu_solve(
    lu_and_piv: tuple[Any, Any],
    b: Any,
    trans: int = 0,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Any:
    """The x with a x = b, given what `lu_factor` makes of a.

    Args:
        lu_and_piv: the factors and the row exchanges.
        b: a vector, or matrices of as many rows.
        trans: 0; 1 to solve a^T x = b; 2 for a^H x = b.
        overwrite_b: without effect.
        check_finite: without effect.

    Raises:
        ValueError: `trans` is none of these.
    """
    if trans not in (0, 1, 2):
        raise ValueError(f"scipy.linalg.lu_solve: trans is 0, 1 or 2, got {trans!r}")
    both, pivots = lu_and_piv
    both, b = _system("lu_solve", both, b)
    n = both.shape[-1]
    rows = ops.lu_pivots_to_permutation(asarray(pivots, dtypes.int32), permutation_size=n)
    x = expand_dims(b, -1) if b.ndim == 1 else b
    batch = broadcast_shapes(
        "scipy.linalg.lu_solve", both.shape[:-2], rows.shape[:-1], x.shape[:-2]
    )
    rows = broadcast_to(rows, (*batch, n))
    x = broadcast_to(x, (*batch, *x.shape[-2:]))
    if trans == 0:
        middle = _triangular(both, mx.take_rows(x, rows), lower=True, unit_diagonal=True)
        return _vector_if(b, _triangular(both, middle, lower=False))
    flags = {"transpose_a": True, "adjoint_a": trans == 2}
    middle = _triangular(both, x, lower=False, **flags)
    moved = _triangular(both, middle, lower=True, unit_diagonal=True, **flags)
    return _vector_if(b, mx.take_rows(moved, rows.argsort(-1).astype(dtypes.int32)))


def lu(
    a: Any, permute_l: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> tuple[Any, ...]:
    """The decomposition P L U = a into a permutation, a lower and an upper triangular matrix.

    Args:
        a: a matrix.
        permute_l: return P L and U.
        overwrite_a: without effect.
        check_finite: without effect.

    Returns:
        P, L and U.

    Raises:
        ValueError: `a` is not one matrix.
    """
    x = _prepared("lu", a)
    if x.ndim != 2:
        raise ValueError(f"scipy.linalg.lu takes one matrix, got {x.aval}; use vmap for several")
    both, _, rows = ops.lu(x)
    (m, n), k = x.shape, min(x.shape)
    places = asarray(whole_numbers(m), dtypes.int32)
    p = convert(expand_dims(places, 1) == expand_dims(rows, 0), dtypes.real_of(x.dtype))
    lower = tril(both, -1)[:, :k]
    lower = lower + mx.identity_like(lower)
    upper = triu(both)[:k, :n]
    if permute_l:
        return matmul(p, lower), upper
    return p, lower, upper


# --- systems ------------------------------------------------------------------------------------


def solve(
    a: Any,
    b: Any,
    lower: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    debug: bool = False,
    check_finite: bool = True,
    assume_a: str = "gen",
) -> Any:
    """The x with a x = b.

    Args:
        a: square matrices.
        b: a vector, or matrices of as many rows; other axes broadcast.
        lower: with "pos" use the lower triangle, else the upper one.
        overwrite_a: without effect.
        overwrite_b: without effect.
        debug: without effect.
        check_finite: without effect.
        assume_a: "gen", "sym", "her" (which are solved alike) or "pos" for positive definite
            matrices, solved by their Cholesky factor.

    Raises:
        ValueError: shapes do not fit, or `assume_a` is something else.
    """
    if assume_a not in ("gen", "sym", "her", "pos"):
        raise ValueError(
            f'scipy.linalg.solve: assume_a is "gen", "sym", "her" or "pos", got {assume_a!r}'
        )
    a, b = _system("solve", a, b)
    if assume_a != "pos":
        return systems.solve(a, b)
    batch = broadcast_shapes("scipy.linalg.solve", a.shape[:-2], b.shape[:-2] if b.ndim > 1 else ())
    column = expand_dims(b, -1) if b.ndim == 1 else b
    column = broadcast_to(column, (*batch, *column.shape[-2:]))
    factored = cho_factor(stop_gradient(a), lower)

    def solved(_: Any, y: Any) -> Any:
        return cho_solve(factored, y)

    def solved_transposed(_: Any, y: Any) -> Any:
        return conjugate(cho_solve(factored, conjugate(y)))

    x = custom_linear_solve(
        lambda y: matmul(a, y), column, solved, transpose_solve=solved_transposed
    )
    return _vector_if(b, x)


_TRANSPOSITIONS = {0: 0, 1: 1, 2: 2, "N": 0, "T": 1, "C": 2}


def solve_triangular(
    a: Any,
    b: Any,
    trans: int | str = 0,
    lower: bool = False,
    unit_diagonal: bool = False,
    overwrite_b: bool = False,
    debug: Any = None,
    check_finite: bool = True,
) -> Any:
    """The x with a x = b for triangular matrices.

    Args:
        a: square matrices, of which one triangle is read.
        b: a vector, or matrices of as many rows; other axes broadcast.
        trans: 0 or "N"; 1 or "T" to solve a^T x = b; 2 or "C" for a^H x = b.
        lower: whether the lower triangle is read.
        unit_diagonal: take the diagonal as ones.
        overwrite_b: without effect.
        debug: without effect.
        check_finite: without effect.

    Raises:
        ValueError: shapes do not fit, or `trans` is something else.

    Example:
        >>> import covector.numpy as cnp
        >>> from covector.scipy import linalg
        >>> linalg.solve_triangular(cnp.array([[2.0, 1.0], [0.0, 1.0]]), cnp.array([4.0, 2.0]))
        Array([1., 2.], dtype=float32)
    """
    if trans not in _TRANSPOSITIONS:
        raise ValueError(
            f'scipy.linalg.solve_triangular: trans is 0, 1, 2, "N", "T" or "C", got {trans!r}'
        )
    a, b = _system("solve_triangular", a, b)
    number = _TRANSPOSITIONS[trans]
    x = _triangular(
        a,
        b,
        lower=lower,
        transpose_a=number > 0,
        adjoint_a=number == 2,
        unit_diagonal=unit_diagonal,
    )
    return _vector_if(b, x)


def inv(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    """The inverse of square matrices; see `covector.numpy.linalg.inv`."""
    return systems.inv(_prepared("inv", a, square=True))


def det(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    """The determinant; see `covector.numpy.linalg.det`."""
    return determinants.det(_prepared("det", a, square=True))


# --- other decompositions -----------------------------------------------------------------------


def svd(
    a: Any,
    full_matrices: bool = True,
    compute_uv: bool = True,
    overwrite_a: bool = False,
    check_finite: bool = True,
    lapack_driver: str = "gesdd",
) -> Any:
    """The singular value decomposition; see `covector.numpy.linalg.svd`.

    Returns:
        A tuple of U, the singular values and V^H; without `compute_uv` the singular values.
    """
    found = decompositions.svd(_prepared("svd", a), full_matrices, compute_uv)
    return tuple(found) if compute_uv else found


def eigh(
    a: Any,
    b: Any = None,
    lower: bool = True,
    eigvals_only: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    turbo: bool = True,
    eigvals: None = None,
    type: int = 1,
    check_finite: bool = True,
) -> Any:
    """Eigenvalues, ascending, and eigenvectors of Hermitian matrices.

    Args:
        a: matrices.
        b: must be `None`: generalised problems are not supported.
        lower: whether the lower triangle counts.
        eigvals_only: return the eigenvalues alone.
        overwrite_a: without effect.
        overwrite_b: without effect.
        turbo: without effect.
        eigvals: must be `None`.
        type: must be 1.
        check_finite: without effect.

    Raises:
        NotImplementedError: an argument that has to be as it is by default is not.
    """
    if b is not None or eigvals is not None or type != 1:
        raise NotImplementedError(
            "scipy.linalg.eigh solves a x = w x alone: b and eigvals must be None, type 1"
        )
    x = _prepared("eigh", a, square=True)
    values, vectors = decompositions.hermitian_eigenvalues((x + adjoint(x)) / 2, lower)
    return values if eigvals_only else (values, vectors)


def qr(
    a: Any,
    overwrite_a: bool = False,
    lwork: Any = None,
    mode: str = "full",
    pivoting: bool = False,
    check_finite: bool = True,
) -> tuple[Any, ...]:
    """The decomposition Q R = a into an orthogonal (unitary) and an upper triangular matrix.

    Args:
        a: matrices.
        overwrite_a: without effect.
        lwork: without effect.
        mode: "full": Q is square; "economic": as many columns as min(m, n); "r": R alone, of the
            "full" mode.
        pivoting: exchange columns, so that the diagonal of R falls; a permutation p with
            Q R = a[:, p] comes last.
        check_finite: without effect.

    Returns:
        A tuple of Q, R and p, without those not asked for.

    Raises:
        ValueError: there is no such mode.
    """
    if mode not in ("full", "r", "economic"):
        raise ValueError(
            f"scipy.linalg.qr: unsupported mode {mode!r}; it is 'full', 'economic' or 'r'"
        )
    q, *others = ops.qr(_prepared("qr", a), pivoting=pivoting, full_matrices=mode != "economic")
    return tuple(others) if mode == "r" else (q, *others)


def schur(a: Any, output: str = "real") -> tuple[Any, Any]:
    """The Schur form T of square matrices, and Z with Z T Z^H = a.

    Args:
        a: square matrices.
        output: "real" leaves 2 x 2 blocks for pairs of complex eigenvalues of real matrices,
            "complex" makes T triangular.

    Raises:
        ValueError: `output` is something else, or matrices are not square.
    """
    if output not in ("real", "complex"):
        raise ValueError(f"scipy.linalg.schur: output is 'real' or 'complex', got {output!r}")
    x = _prepared("schur", a, square=True)
    if output == "complex":
        x = convert(x, dtypes.complex_of(x.dtype))
    t, z = ops.schur(x, compute_schur_vectors=True, sort_eig_vals=False, select_callable=None)
    return t, z


def hessenberg(
    a: Any, *, calc_q: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> Any:
    """The Hessenberg form H: zeros below the first subdiagonal.

    Args:
        a: square matrices.
        calc_q: also return Q with Q H Q^H = a.
        overwrite_a: without effect.
        check_finite: without effect.
    """
    x = _prepared("hessenberg", a, square=True)
    if x.shape[-1] == 0:
        return (x, x) if calc_q else x
    form, taus = ops.hessenberg(x)
    h = triu(form, -1)
    if not calc_q:
        return h
    inner = ops.householder_product(form[..., 1:, :-1], taus)
    none = [(0, 0)] * (x.ndim - 2)
    q = pad(inner, [*none, (1, 0), (1, 0)])
    corner = pad(mx.identity_like(x[..., :1, :1]), [*none, *[(0, x.shape[-1] - 1)] * 2])
    return h, q + corner


def polar(
    a: Any,
    side: str = "right",
    *,
    method: str = "qdwh",
    eps: float | None = None,
    max_iterations: int | None = None,
) -> tuple[Any, Any]:
    """The decomposition U P = a (or P U = a) with orthonormal U and positive semidefinite P.

    Args:
        a: matrices.
        side: of U on which P stands.
        method: "svd" or "qdwh"; either is made of the singular value decomposition here.
        eps: must be `None`.
        max_iterations: must be `None`.

    Returns:
        U and P.

    Raises:
        ValueError: `side` or `method` is something else.
        NotImplementedError: `eps` or `max_iterations` is given.
    """
    if side not in ("right", "left"):
        raise ValueError(f"scipy.linalg.polar: side is 'right' or 'left', got {side!r}")
    if method not in ("svd", "qdwh"):
        raise ValueError(f"scipy.linalg.polar: method is 'svd' or 'qdwh', got {method!r}")
    if eps is not None or max_iterations is not None:
        raise NotImplementedError(
            "scipy.linalg.polar does not iterate: eps and max_iterations must be None"
        )
    u, s, vh = decompositions.svd(_prepared("polar", a), full_matrices=False)
    stretch = expand_dims(convert(s, u.dtype), -2)
    if side == "right":
        v = adjoint(vh)
        return matmul(u, vh), matmul(v * stretch, vh)
    return matmul(u, vh), matmul(u * stretch, adjoint(u))
