"""Iterative solvers of linear equations, for matrices that are functions.

Names, signatures and meanings are those of `jax.scipy.sparse.linalg`. Derivatives are those of the
equation, found by solving it again; they are right where the iterations converge.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

import covector.numpy as cnp
from covector.core import dtypes, pytree
from covector.core.array import Array
from covector.core.trace import Tracer
from covector.lax.control_flow import fori_loop, while_loop
from covector.lax.solvers import custom_linear_solve
from covector.transforms.flat import check_leaves

__all__ = ["bicgstab", "cg", "gmres"]

Vector = Any
"""A pytree of arrays."""
Operator = Callable[[Vector], Vector]

# --- vectors --------------------------------------------------------------------------------------


def _sum(parts: Sequence[Any]) -> Any:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _inner(x: Vector, y: Vector) -> Any:
    """The inner product, conjugate linear in `x`."""
    pairs = zip(pytree.leaves(x), pytree.leaves(y), strict=True)
    return _sum([cnp.vdot(a, b) for a, b in pairs])


def _squared(x: Vector) -> Any:
    return _sum([cnp.real(cnp.vdot(a, a)) for a in pytree.leaves(x)])


def _combined(x: Vector, scale: Any, y: Vector) -> Vector:
    """`x + scale * y`, in the dtypes of `x`."""

    def combined(a: Any, b: Any) -> Any:
        return a + (scale * b).astype(a.dtype)

    return pytree.map(combined, x, y)


def _difference(x: Vector, y: Vector) -> Vector:
    return pytree.map(operator.sub, x, y)


def _identity(x: Vector) -> Vector:
    return x


# --- the common part ------------------------------------------------------------------------------


def _operator(name: str, matrix: Any) -> Operator:
    """A matrix, or a function that multiplies with it, as a function."""
    if callable(matrix):
        return cast("Operator", matrix)
    if not isinstance(matrix, (Array, Tracer, np.ndarray)):
        raise TypeError(
            f"{name} must be a function or a square matrix, got {type(matrix).__name__}"
        )
    given = cast("Any", matrix)
    if len(given.shape) != 2 or given.shape[0] != given.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got one of shape {given.shape}")
    return lambda x: cnp.matmul(given, x)


def _checked(what: str, b: Vector, x0: Vector | None) -> tuple[Vector, Vector]:
    """The right-hand side and the first guess, as arrays of inexact dtypes."""
    check_leaves(f"{what}: b", b)
    if not pytree.leaves(b):
        raise ValueError(f"{what}: b has no arrays")
    b = pytree.map(_inexact, b)
    if x0 is None:
        return b, pytree.map(cnp.zeros_like, b)
    check_leaves(f"{what}: x0", x0)
    x0 = pytree.map(_inexact, x0)
    if pytree.structure(x0) != pytree.structure(b):
        raise ValueError(
            f"{what}: x0 must have the structure of b, {pytree.structure(b)}, got "
            f"{pytree.structure(x0)}"
        )
    for guess, right in zip(pytree.leaves(x0), pytree.leaves(b), strict=True):
        if guess.shape != right.shape:
            raise ValueError(
                f"{what}: arrays of x0 must have the shapes of those of b, got {guess.shape} where "
                f"b has {right.shape}"
            )
    return b, pytree.map(_in_dtype_of, x0, b)


def _inexact(x: Any) -> Any:
    array = cnp.asarray(x)
    return array if dtypes.is_inexact(array.dtype) else array.astype(float)


def _in_dtype_of(guess: Any, right: Any) -> Any:
    return guess.astype(right.dtype)


def _size(b: Vector) -> int:
    return sum([math.prod(x.shape) for x in pytree.leaves(b)])


Solver = Callable[[Operator, Vector, Vector, Any], Vector]
"""From operator, right-hand side, first guess and tolerance to the solution."""


def _solve(
    solver: Solver, matvec: Operator, b: Vector, x0: Vector, tol: Any, atol: Any, *, symmetric: bool
) -> tuple[Vector, None]:
    def solve(matvec: Operator, right: Vector) -> Vector:
        # Without a derivative of its own: that of the solution is that of the equation.
        tolerance = cnp.maximum(tol * cnp.sqrt(_squared(right)), atol)
        return solver(matvec, right, x0, tolerance)

    symmetric = symmetric and all([not dtypes.is_complex(x.dtype) for x in pytree.leaves(b)])
    return custom_linear_solve(matvec, b, solve, solve, symmetric=symmetric), None


# --- conjugate gradients --------------------------------------------------------------------------


def cg(
    A: Any,
    b: Vector,
    x0: Vector | None = None,
    *,
    tol: Any = 1e-5,
    atol: Any = 0.0,
    maxiter: int | None = None,
    M: Any = None,
) -> tuple[Vector, None]:
    """Solves `A x = b` for a Hermitian positive definite `A` by conjugate gradients.

    Args:
        A: a square matrix, or the function that multiplies with it.
        b: a pytree of arrays.
        x0: where to start; zeros by default.
        tol: stop when the norm of the residual is below `max(tol * norm(b), atol)`.
        atol: see `tol`.
        maxiter: stop after so many iterations; ten times the size of `b` by default.
        M: approximates the inverse of `A`, as a matrix or function.

    Returns:
        The solution, and `None` in the place of information on convergence.

    Raises:
        ValueError: if `x0` is not like `b`, or `A` is no square matrix.

    Example:
        >>> import covector.numpy as cnp
        >>> from covector.scipy.sparse.linalg import cg
        >>> x, _ = cg(lambda x: 2.0 * x, cnp.array([2.0, 4.0]))
        >>> print(x)
        [1. 2.]
    """
    matvec = _operator("cg: A", A)
    precondition = _identity if M is None else _operator("cg: M", M)
    b, x0 = _checked("cg", b, x0)
    limit = 10 * _size(b) if maxiter is None else maxiter

    def solver(matvec: Operator, b: Vector, x: Vector, tolerance: Any) -> Vector:
        def unfinished(state: Any) -> Any:
            _, r, _, _, k = state
            return (_squared(r) > tolerance**2) & (k < limit)

        def step(state: Any) -> Any:
            x, r, p, gamma, k = state
            q = matvec(p)
            alpha = gamma / cnp.real(_inner(p, q))
            x, r = _combined(x, alpha, p), _combined(r, -alpha, q)
            z = precondition(r)
            following = cnp.real(_inner(r, z))
            return x, r, _combined(z, following / gamma, p), following, k + 1

        r = _difference(b, matvec(x))
        z = precondition(r)
        return while_loop(unfinished, step, (x, r, z, cnp.real(_inner(r, z)), 0))[0]

    return _solve(solver, matvec, b, x0, tol, atol, symmetric=True)


# --- stabilised biconjugate gradients -------------------------------------------------------------


def bicgstab(
    A: Any,
    b: Vector,
    x0: Vector | None = None,
    *,
    tol: Any = 1e-5,
    atol: Any = 0.0,
    maxiter: int | None = None,
    M: Any = None,
) -> tuple[Vector, None]:
    """Solves `A x = b` for any `A` by stabilised biconjugate gradients.

    Args:
        A: a square matrix, or the function that multiplies with it.
        b: a pytree of arrays.
        x0: where to start; zeros by default.
        tol: stop when the norm of the residual is below `max(tol * norm(b), atol)`.
        atol: see `tol`.
        maxiter: stop after so many iterations; ten times the size of `b` by default.
        M: approximates the inverse of `A`, as a matrix or function.

    Returns:
        The solution, and `None` in the place of information on convergence.

    Raises:
        ValueError: if `x0` is not like `b`, or `A` is no square matrix.
    """
    matvec = _operator("bicgstab: A", A)
    precondition = _identity if M is None else _operator("bicgstab: M", M)
    b, x0 = _checked("bicgstab", b, x0)
    limit = 10 * _size(b) if maxiter is None else maxiter

    def solver(matvec: Operator, b: Vector, x: Vector, tolerance: Any) -> Vector:
        # H. A. van der Vorst, SIAM J. Sci. Stat. Comput. 13 (1992), with a right preconditioner.
        start = _difference(b, matvec(x))

        def unfinished(state: Any) -> Any:
            (_, r, *_), k = state
            return (_squared(r) > tolerance**2) & (k < limit)

        def step(state: Any) -> Any:
            (x, r, p, q, rho, alpha, omega), k = state
            following = _inner(start, r)
            beta = following / rho * alpha / omega
            p = _combined(r, beta, _combined(p, -omega, q))
            p_hat = precondition(p)
            q = matvec(p_hat)
            alpha = following / _inner(start, q)
            s = _combined(r, -alpha, q)
            s_hat = precondition(s)
            t = matvec(s_hat)
            length = _squared(t)
            # Where the half step is the solution already, the other half divides zero by zero.
            omega = cnp.where(length == 0, 0, _inner(t, s) / cnp.where(length == 0, 1, length))
            x = _combined(_combined(x, alpha, p_hat), omega, s_hat)
            r = _combined(s, -omega, t)
            broken = (following == 0) | (omega == 0) | (alpha == 0)
            return (x, r, p, q, following, alpha, omega), cnp.where(broken, limit, k + 1)

        zero = pytree.map(cnp.zeros_like, b)
        one = cnp.ones_like(_inner(b, b))
        return while_loop(unfinished, step, ((x, start, zero, zero, one, one, one), 0))[0][0]

    return _solve(solver, matvec, b, x0, tol, atol, symmetric=False)


# --- generalised minimal residuals ----------------------------------------------------------------

_METHODS = ("batched", "incremental")


def gmres(
    A: Any,
    b: Vector,
    x0: Vector | None = None,
    *,
    tol: Any = 1e-5,
    atol: Any = 0.0,
    restart: int = 20,
    maxiter: int | None = None,
    M: Any = None,
    solve_method: str = "batched",
) -> tuple[Vector, None]:
    """Solves `A x = b` for any `A` by generalised minimal residuals.

    Args:
        A: a square matrix, or the function that multiplies with it.
        b: a pytree of arrays.
        x0: where to start; zeros by default.
        tol: stop when the norm of the residual is below `max(tol * norm(b), atol)`.
        atol: see `tol`.
        restart: how many vectors to keep before starting again from the solution so far.
        maxiter: how often to start again; ten times the size of `b` by default.
        M: approximates the inverse of `A`, as a matrix or function.
        solve_method: "incremental" stops as soon as the residual is small enough, "batched" when
            all `restart` vectors are there, without looking in between.

    Returns:
        The solution, and `None` in the place of information on convergence.

    Raises:
        ValueError: if `x0` is not like `b`, `A` is no square matrix, or the method is unknown.
    """
    if solve_method not in _METHODS:
        raise ValueError(f"gmres: solve_method must be one of {_METHODS}, got {solve_method!r}")
    matvec = _operator("gmres: A", A)
    precondition = _identity if M is None else _operator("gmres: M", M)
    b, x0 = _checked("gmres", b, x0)
    size = _size(b)
    limit = 10 * size if maxiter is None else maxiter
    count = min(restart, size)

    def solver(matvec: Operator, b: Vector, x: Vector, tolerance: Any) -> Vector:
        flat_b, unravel = _raveled(b)

        def apply(v: Any) -> Any:
            return _raveled(precondition(matvec(unravel(v))))[0]

        def residual(v: Any) -> Any:
            return _raveled(precondition(_difference(b, matvec(unravel(v)))))[0]

        # The preconditioned residual must fall as far below that of zero as asked.
        norm, whole = cnp.linalg.norm(_raveled(precondition(b))[0]), cnp.linalg.norm(flat_b)
        target = norm * cnp.minimum(1.0, tolerance / cnp.where(whole == 0, 1, whole))
        enough = target if solve_method == "incremental" else 0 * target

        def unfinished(state: Any) -> Any:
            _, r, k = state
            return (cnp.linalg.norm(r) > target) & (k < limit)

        def cycle(state: Any) -> Any:
            v, r, k = state
            v = v + _minimal_correction(apply, r, count, enough)
            return v, residual(v), k + 1

        start = _raveled(x)[0]
        return unravel(while_loop(unfinished, cycle, (start, residual(start), 0))[0])

    return _solve(solver, matvec, b, x0, tol, atol, symmetric=False)


def _raveled(x: Vector) -> tuple[Any, Callable[[Any], Vector]]:
    """A vector as one array, and the way back."""
    leaves, tree = pytree.flatten(x)
    flat = cnp.concatenate([cnp.ravel(leaf) for leaf in leaves])

    def unravel(v: Any) -> Vector:
        parts: list[Any] = []
        first = 0
        for leaf in leaves:
            size = math.prod(leaf.shape)
            part = v[first : first + size].reshape(leaf.shape)
            real = not dtypes.is_complex(leaf.dtype)
            parts.append((cnp.real(part) if real else part).astype(leaf.dtype))
            first += size
        return pytree.unflatten(tree, parts)

    return flat, unravel


def _minimal_correction(apply: Callable[[Any], Any], r: Any, count: int, enough: Any) -> Any:
    """The combination of `r, A r, A A r ...` that brings the residual nearest to zero.

    Y. Saad and M. H. Schultz, SIAM J. Sci. Stat. Comput. 7 (1986): Arnoldi's basis, and Givens
    rotations that keep its Hessenberg matrix triangular.
    """
    length = cnp.linalg.norm(r)
    basis = (
        cnp.zeros((count + 1, *r.shape), r.dtype).at[0].set(r / cnp.where(length == 0, 1, length))
    )
    # Columns not reached are those of the identity, with zeros on the right.
    triangle = cnp.eye(count, dtype=r.dtype)
    right = cnp.zeros(count + 1, r.dtype).at[0].set(length.astype(r.dtype))
    rotations = cnp.zeros((count, 2), r.dtype)

    def unfinished(state: Any) -> Any:
        _, _, right, _, k = state
        return (k < count) & (cnp.abs(right[k]) > enough)

    def step(state: Any) -> Any:
        basis, triangle, right, rotations, k = state
        column, following = _next_direction(apply(basis[k]), basis, k)
        basis = basis.at[k + 1].set(following)

        def turn(i: Any, h: Any) -> Any:
            c, s = rotations[i]
            above, below = h[i], h[i + 1]
            return h.at[i].set(c * above + s * below).at[i + 1].set(cnp.conj(c) * below - s * above)

        column = fori_loop(0, k, turn, column)
        above, below = column[k], column[k + 1]
        size = cnp.sqrt(cnp.abs(above) ** 2 + cnp.abs(below) ** 2)
        safe = cnp.where(size == 0, 1, size)
        c = cnp.where(size == 0, 1, cnp.conj(above) / safe).astype(r.dtype)
        s = (below / safe).astype(r.dtype)
        column = column.at[k].set(size.astype(r.dtype)).at[k + 1].set(0)
        right = right.at[k + 1].set(-s * right[k]).at[k].set(c * right[k])
        triangle = triangle.at[:, k].set(column[:count])
        return basis, triangle, right, rotations.at[k].set(cnp.stack([c, s])), k + 1

    basis, triangle, right, _, steps = while_loop(
        unfinished, step, (basis, triangle, right, rotations, 0)
    )
    # What is left of the residual stands behind the last column.
    right = cnp.where(cnp.arange(count + 1) < steps, right, 0)

    def substitute(i: Any, y: Any) -> Any:
        k = count - 1 - i
        diagonal = triangle[k, k]
        rest = right[k] - cnp.dot(triangle[k], y)
        return y.at[k].set(rest / cnp.where(diagonal == 0, 1, diagonal))

    weights = fori_loop(0, count, substitute, cnp.zeros(count, r.dtype))
    return cnp.dot(weights, basis[:count])


def _next_direction(w: Any, basis: Any, k: Any) -> tuple[Any, Any]:
    """A column of the Hessenberg matrix and the next vector of the basis."""
    before = cnp.linalg.norm(w)
    column = cnp.zeros(basis.shape[0], w.dtype)
    for _ in range(2):  # twice is enough (Kahan and Parlett)
        part = cnp.dot(cnp.conj(basis), w)
        w = w - cnp.dot(part, basis)
        column = column + part
    length = cnp.linalg.norm(w)
    # Nothing but rounding errors is left where the space is exhausted.
    exhausted = length <= 10 * float(dtypes.finfo(w.dtype).eps) * before
    length = cnp.where(exhausted, 0, length)
    following = cnp.where(exhausted, 0, w / cnp.where(exhausted, 1, length))
    return column.at[k + 1].set(length.astype(w.dtype)), following.astype(w.dtype)
