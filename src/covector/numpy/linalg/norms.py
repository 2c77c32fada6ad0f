"""Norms of vectors and matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.numpy.elementwise import absolute, conjugate, isnan, power, real, sqrt, where
from covector.numpy.linalg.arguments import check_matrices
from covector.numpy.linalg.decompositions import svdvals
from covector.numpy.linalg.systems import inv
from covector.numpy.manipulation import expand_dims, moveaxis, squeeze
from covector.numpy.promote import operand, promote_inexact
from covector.numpy.reductions import any as some
from covector.numpy.reductions import max as largest
from covector.numpy.reductions import min as smallest
from covector.numpy.reductions import one_axis
from covector.numpy.reductions import sum as total

__all__ = ["cond", "matrix_norm", "norm", "vector_norm"]

Order = float | str | None
Axis = int | Sequence[int] | None


def _euclidean(x: Any, axis: Axis, keepdims: bool) -> Any:
    return sqrt(total(real(x * conjugate(x)), axis, keepdims=keepdims))


def vector_norm(x: Any, /, *, axis: Axis = None, keepdims: bool = False, ord: Order = 2) -> Any:
    """Norms of vectors.

    Args:
        x: an array.
        axis: the axes whose elements make a vector; all by default.
        keepdims: keep these axes, with size 1.
        ord: the root of the sum of so manieth powers; `inf` and `-inf` are the greatest and least
            magnitude, 0 the number of elements other than 0.

    Returns:
        An array of real numbers.

    Raises:
        ValueError: `ord` is no number.

    Example:
        >>> import covector.numpy as cnp
        >>> cnp.linalg.vector_norm(cnp.array([3.0, 4.0]))
        Array(5., dtype=float32)
    """
    x = operand(x, "linalg.vector_norm")
    if ord is None or ord == 2:
        return _euclidean(x, axis, keepdims)
    if isinstance(ord, str):
        hint = f"; use the number {ord}" if ord in ("inf", "-inf") else ""
        raise ValueError(f"linalg.vector_norm: invalid order {ord!r} for vectors{hint}")
    if ord == np.inf:
        return largest(absolute(x), axis, keepdims=keepdims, initial=0)
    if ord == -np.inf:
        return smallest(absolute(x), axis, keepdims=keepdims)
    if ord == 0:
        dtype = dtypes.real_of(dtypes.to_inexact(x.aval.dtype))
        return total(x != 0, axis, dtype, keepdims=keepdims)
    if ord == 1:
        return total(absolute(x), axis, keepdims=keepdims)
    (magnitudes,) = promote_inexact(absolute(x))
    return power(total(power(magnitudes, ord), axis, keepdims=keepdims), 1.0 / ord)


def _matrix_norm(x: Any, ord: Order, axes: tuple[int, int], keepdims: bool) -> Any:
    rows, columns = axes
    if ord is None or ord in ("f", "fro"):
        return _euclidean(x, axes, keepdims)
    if ord in ("nuc", 2, -2):
        found = _spectral(svdvals(moveaxis(x, axes, (-2, -1))), ord)
        return expand_dims(found, axes) if keepdims else found
    if isinstance(ord, str) or abs(ord) not in (1, np.inf):
        raise ValueError(f"linalg.norm: invalid order {ord!r} for matrices")
    summed, compared = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = total(absolute(x), summed, keepdims=True)
    if ord > 0:
        found = largest(sums, compared, keepdims=True, initial=0)
    else:
        found = smallest(sums, compared, keepdims=True)
    return found if keepdims else squeeze(found, axes)


def _spectral(s: Any, ord: Order) -> Any:
    if ord == "nuc":
        return total(s, -1)
    return largest(s, -1, initial=0) if ord == 2 else smallest(s, -1)


def norm(x: Any, ord: Order = None, axis: Axis = None, keepdims: bool = False) -> Any:
    """Norms of vectors or matrices.

    Args:
        x: an array.
        ord: which norm. For vectors see `vector_norm`. For matrices: "fro" (the default), "nuc"
            (the sum of singular values), 2 and -2 (the greatest and least of them), 1 and -1 (the
            greatest and least sum of magnitudes in a column), `inf` and `-inf` (in a row).
        axis: one axis for vectors, two for matrices. Without it and `ord`, all elements are one
            vector; with `ord` the array itself has one or two axes.
        keepdims: keep these axes, with size 1.

    Returns:
        An array of real numbers.

    Raises:
        ValueError: there is no such norm, or there are more than two axes.

    Example:
        >>> import covector.numpy as cnp
        >>> cnp.linalg.norm(cnp.array([[1.0, -2.0], [3.0, 0.0]]), 1)
        Array(4., dtype=float32)
    """
    (x,) = promote_inexact(operand(x, "linalg.norm"))
    if axis is None and ord is None:
        return _euclidean(x, None, keepdims)
    if axis is None:
        axes: Sequence[int] = tuple(range(x.ndim))
    else:
        given = (axis,) if isinstance(axis, int) else tuple(axis)
        axes = tuple([one_axis("linalg.norm", a, x.ndim) for a in given])
    if len(axes) == 1:
        return vector_norm(x, ord=2 if ord is None else ord, axis=axes[0], keepdims=keepdims)
    if len(axes) == 2 and axes[0] != axes[1]:
        return _matrix_norm(x, ord, (axes[0], axes[1]), keepdims)
    raise ValueError(
        f"linalg.norm needs one axis for vectors or two for matrices, got axis={axis} for {x.aval}"
    )


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Order = "fro") -> Any:
    """Norms of matrices; see `norm`."""
    return norm(x, ord, (-2, -1), keepdims)


def cond(x: Any, p: Order = None) -> Any:
    """How much matrices magnify relative errors: their norm times that of the inverse.

    Args:
        x: matrices, square ones unless `p` is `None`, 2 or -2.
        p: which norm, see `norm`; 2 by default.

    Returns:
        Real numbers, infinite for singular matrices.

    Raises:
        ValueError: matrices are empty, or not square where they have to be.
    """
    x = operand(x, "linalg.cond")
    spectral = p is None or p in (2, -2)
    check_matrices("linalg.cond", x, square=not spectral)
    if x.shape[-1] == 0 or x.shape[-2] == 0:
        raise ValueError(f"linalg.cond needs matrices with elements, got {x.aval}")
    if p is None or p == 2:
        s = svdvals(x)
        return s[..., 0] / s[..., -1]
    if p == -2:
        s = svdvals(x)
        found = s[..., -1] / s[..., 0]
    else:
        found = norm(x, p, (-2, -1)) * norm(inv(x), p, (-2, -1))
    undefined = isnan(found) & ~some(isnan(x), (-2, -1))
    return where(undefined, np.inf, found)
