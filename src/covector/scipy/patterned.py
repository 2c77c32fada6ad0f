"""Matrices that are put together or follow a pattern."""

from __future__ import annotations

from typing import Any

from covector.core.errors import compose
from covector.core.source import here
from covector.numpy.creation import asarray, zeros
from covector.numpy.elementwise import conjugate
from covector.numpy.joining import concatenate
from covector.numpy.manipulation import at_least_2d, atleast_1d
from covector.numpy.padding import pad
from covector.numpy.promote import (
    broadcast_shapes,
    broadcast_to,
    operand,
    promote_dtypes,
    whole_numbers,
)

__all__ = ["block_diag", "toeplitz"]


def block_diag(*arrs: Any) -> Any:
    """Matrices along the diagonal of one that is zero elsewhere.

    Args:
        arrs: matrices; vectors and numbers are rows.

    Raises:
        ValueError: an array of more than two axes.

    Example:
        >>> import covector.numpy as cnp
        >>> from covector.scipy import linalg
        >>> linalg.block_diag(cnp.array([[1, 2]]), 3)
        Array([[1, 2, 0],
               [0, 0, 3]], dtype=int32)
    """
    blocks = promote_dtypes(*[asarray(x) for x in arrs]) if arrs else [zeros((1, 0))]
    for k, x in enumerate(blocks):
        if x.ndim > 2:
            raise ValueError(
                compose(
                    "scipy.linalg.block_diag takes matrices",
                    found=f"{x.aval}, the argument {k}",
                    line=here(),
                )
            )
    blocks = [at_least_2d(x) for x in blocks]
    width, before = sum(x.shape[1] for x in blocks), 0
    padded: list[Any] = []
    for x in blocks:
        padded.append(pad(x, ((0, 0), (before, width - before - x.shape[1]))))
        before += x.shape[1]
    return concatenate(padded)


def toeplitz(c: Any, r: Any = None) -> Any:
    """Matrices with equal elements along each diagonal.

    Args:
        c: the first column; axes before the last broadcast.
        r: the first row, of which the first element is not used; by default the conjugate of `c`.

    Example:
        >>> import covector.numpy as cnp
        >>> from covector.scipy import linalg
        >>> linalg.toeplitz(cnp.array([1, 2, 3]), cnp.array([1, 5]))
        Array([[1, 5],
               [2, 1],
               [3, 2]], dtype=int32)
    """
    column = atleast_1d(operand(c, "scipy.linalg.toeplitz"))
    row = conjugate(column) if r is None else atleast_1d(operand(r, "scipy.linalg.toeplitz"))
    column, row = promote_dtypes(column, row)
    batch = broadcast_shapes("scipy.linalg.toeplitz", column.shape[:-1], row.shape[:-1])
    column = broadcast_to(column, (*batch, column.shape[-1]))
    row = broadcast_to(row, (*batch, row.shape[-1]))
    m, n = column.shape[-1], row.shape[-1]
    if m == 0 or n == 0:
        return zeros((*batch, m, n), column.dtype)
    values = concatenate([column[..., ::-1], row[..., 1:]], -1)
    places = whole_numbers(n)[None, :] - whole_numbers(m)[:, None] + m - 1
    return values[..., places]
