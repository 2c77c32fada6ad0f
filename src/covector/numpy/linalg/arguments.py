"""What the functions of linear algebra do with their arguments first."""

from __future__ import annotations

from typing import Any

from covector.core.errors import compose
from covector.core.source import here
from covector.numpy.elementwise import conjugate
from covector.numpy.manipulation import matrix_transpose
from covector.numpy.promote import operand, promote_inexact


def matrices(name: str, a: Any, square: bool = False) -> Any:
    """An argument as matrices of a floating or complex dtype.

    Args:
        name: of the function, for messages.
        a: an array.
        square: whether they have to be square.

    Raises:
        ValueError: the argument is no matrix, or not a square one.
    """
    (x,) = promote_inexact(operand(a, name))
    check_matrices(name, x, square)
    return x


def check_matrices(name: str, x: Any, square: bool = False) -> None:
    """Checks that an array has two axes or more; `square`: the last two of them equal.

    Raises:
        ValueError: it has not.
    """
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        wanted = "square matrices, of shape [..., n, n]" if square else "matrices, two axes or more"
        raise ValueError(compose(f"{name} needs {wanted}", found=str(x.aval), line=here()))


def adjoint(x: Any) -> Any:
    """The conjugate transpose."""
    return conjugate(matrix_transpose(x))


def symmetrized(x: Any) -> Any:
    """The mean of a matrix and its conjugate transpose."""
    return (x + adjoint(x)) / 2
