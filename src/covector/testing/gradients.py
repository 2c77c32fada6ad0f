"""The gradient checker: derivatives of any function against finite differences, in both modes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import covector as cv
from covector.core import dtypes
from covector.testing.optable import Domain

Array = np.ndarray[Any, Any]

MODES = ("fwd", "rev")


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int,
    modes: str | Sequence[str] = MODES,
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
) -> None:
    """Checks derivatives of a function along random directions.

    The derivative in forward mode must be the difference quotient, and that in reverse mode its
    transpose; for higher orders, derivatives are checked in the same way themselves, in every
    combination of modes. Shapes and dtypes of all of them are checked, too.

    Args:
        f: a function of pytrees of floating or complex arrays, differentiable near `args`.
        args: where, a sequence of its arguments; use float64 for sharp results.
        order: how many derivatives.
        modes: "fwd", "rev" or both.
        atol: absolute tolerance; by default what the dtype allows.
        rtol: relative tolerance; likewise.
        eps: half the distance between the two points of a difference; likewise.

    Raises:
        AssertionError: saying which derivative is wrong, by how much.
        ValueError: for an unknown mode.

    Example:
        >>> import covector.numpy as cnp
        >>> with cv.enable_x64(True):
        ...     check_grads(cnp.sin, (np.array([0.1, 0.7]),), order=2)
    """
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    for mode in modes:
        if mode not in MODES:
            raise ValueError(f"check_grads: modes are 'fwd' and 'rev', got {mode!r}")
    leaves, tree = cv.tree.flatten(tuple(args))
    leaves = [np.asarray(x) for x in leaves]
    tolerances = _tolerances(leaves, atol, rtol, eps)

    def flat(*xs: Any) -> list[Any]:
        return cv.tree.leaves(f(*cv.tree.unflatten(tree, xs)))

    _check(flat, leaves, order, modes, tolerances, np.random.default_rng(0), "")


Tolerances = tuple[float, float, float]
Flat = Callable[..., list[Any]]


def _tolerances(
    leaves: Sequence[Array], atol: float | None, rtol: float | None, eps: float | None
) -> Tolerances:
    wide = all([dtypes.real_of(x.dtype).itemsize >= 8 for x in leaves])
    return (
        atol if atol is not None else 1e-6 if wide else 2e-2,
        rtol if rtol is not None else 1e-6 if wide else 2e-2,
        eps if eps is not None else 1e-5 if wide else 1e-2,
    )


def _check(
    f: Flat,
    xs: list[Array],
    order: int,
    modes: Sequence[str],
    tolerances: Tolerances,
    rng: np.random.Generator,
    path: str,
) -> None:
    if order == 0:
        return
    directions = [_random_like(rng, x) for x in xs]
    if "fwd" in modes:
        here = f"{path}fwd"
        _check_forward(f, xs, directions, tolerances, here)

        def forward(*ys: Any) -> list[Any]:
            return cv.jvp(f, list(ys), directions)[1]

        _check(forward, xs, order - 1, modes, tolerances, rng, f"{here} of ")
    if "rev" in modes:
        here = f"{path}rev"
        cotangents = [_random_like(rng, np.asarray(y)) for y in f(*xs)]
        _check_reverse(f, xs, directions, cotangents, tolerances, here)

        def reverse(*ys: Any) -> list[Any]:
            return list(cv.vjp(f, *ys)[1](cotangents))

        _check(reverse, xs, order - 1, modes, tolerances, rng, f"{here} of ")


def _random_like(rng: np.random.Generator, x: Array) -> Array:
    return Domain(-1.0, 1.0).sample(rng, x.dtype, x.shape)


def _quotient(f: Flat, xs: list[Array], directions: list[Array], eps: float) -> list[Array]:
    def at(step: float) -> list[Array]:
        moved = [np.asarray(x + step * t, x.dtype) for x, t in zip(xs, directions, strict=True)]
        return [np.asarray(y) for y in f(*moved)]

    return [(b - a) / (2 * eps) for a, b in zip(at(-eps), at(eps), strict=True)]


def _check_forward(
    f: Flat, xs: list[Array], directions: list[Array], tolerances: Tolerances, path: str
) -> None:
    values, found = cv.jvp(f, xs, directions)
    expected = _quotient(f, xs, directions, tolerances[2])
    for k, (value, tangent, quotient) in enumerate(zip(values, found, expected, strict=True)):
        assert (tangent.shape, tangent.dtype) == (value.shape, value.dtype), (
            f"{path}: the tangent of output {k} is {tangent.dtype}{list(tangent.shape)}, "
            f"the output {value.dtype}{list(value.shape)}"
        )
        _assert_close(f"{path}: the tangent of output {k}", tangent, quotient, tolerances)


def _check_reverse(
    f: Flat,
    xs: list[Array],
    directions: list[Array],
    cotangents: list[Array],
    tolerances: Tolerances,
    path: str,
) -> None:
    found = cv.vjp(f, *xs)[1](list(cotangents))
    for k, (x, ct) in enumerate(zip(xs, found, strict=True)):
        assert (ct.shape, ct.dtype) == (x.shape, x.dtype), (
            f"{path}: the cotangent of argument {k} is {ct.dtype}{list(ct.shape)}, "
            f"the argument {x.dtype}{list(x.shape)}"
        )
    quotient = _quotient(f, xs, directions, tolerances[2])
    _assert_close(
        f"{path}: the cotangents along the direction of the difference",
        _inner(found, directions),
        _inner(cotangents, quotient),
        tolerances,
    )


def _inner(a: Sequence[Any], b: Sequence[Any]) -> Array:
    """The real part of the sum of products: how cotangents pair with tangents."""
    terms = [np.sum(np.asarray(x) * np.asarray(y)) for x, y in zip(a, b, strict=True)]
    return np.real(np.asarray(sum(terms)))


def _assert_close(what: str, found: Any, expected: Array, tolerances: Tolerances) -> None:
    found = np.asarray(found)
    wide = np.complex128 if dtypes.is_complex(found.dtype) else np.float64
    found, expected = found.astype(wide), expected.astype(wide)
    atol, rtol, _ = tolerances
    scale = max([1.0, float(np.max(np.abs(expected), initial=0.0))])
    error = float(np.max(np.abs(found - expected), initial=0.0))
    assert error <= atol + rtol * scale, (
        f"{what} differs from the difference quotient by {error:.1e}: {found} instead of {expected}"
    )
