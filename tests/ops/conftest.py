"""Comparison of a function and its transformations with a twin written for JAX."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

import covector as cv

Array = np.ndarray[Any, Any]


class AgainstJax:
    """Compares `ours` with `theirs`, functions of arrays that return an array or a list of them.

    Operands are NumPy arrays; those at `differentiable` (by default all inexact ones) are
    differentiated.
    """

    def __init__(self, rtol: float = 1e-6) -> None:
        self.rtol = rtol

    def everything(
        self,
        ours: Callable[..., Any],
        theirs: Callable[..., Any],
        args: Sequence[Array],
        differentiable: Sequence[int] | None = None,
    ) -> None:
        """Values, both modes of differentiation, and batching."""
        self.value(ours, theirs, args)
        self.jvp(ours, theirs, args, differentiable)
        self.vjp(ours, theirs, args, differentiable)
        self.vmap(ours, theirs, args)

    def value(self, ours: Callable[..., Any], theirs: Callable[..., Any], args: Any) -> None:
        self.agree(ours(*args), theirs(*args))

    def jvp(
        self,
        ours: Callable[..., Any],
        theirs: Callable[..., Any],
        args: Sequence[Array],
        differentiable: Sequence[int] | None = None,
    ) -> None:
        which = _differentiable(args, differentiable)
        for chosen in {tuple(which), *[(i,) for i in which]}:
            some_ours, some_theirs = _only(ours, args, chosen), _only(theirs, args, chosen)
            primals = [args[i] for i in chosen]
            tangents = [random_like(x, 7 + i) for i, x in enumerate(primals)]
            self.agree(
                cv.jvp(some_ours, tuple(primals), tuple(tangents)),
                jax.jit(partial(jax.jvp, some_theirs))(tuple(primals), tuple(tangents)),
            )

    def vjp(
        self,
        ours: Callable[..., Any],
        theirs: Callable[..., Any],
        args: Sequence[Array],
        differentiable: Sequence[int] | None = None,
    ) -> None:
        which = _differentiable(args, differentiable)
        some_ours, some_theirs = _only(ours, args, which), _only(theirs, args, which)
        primals = [args[i] for i in which]
        out, pull_back = cv.vjp(some_ours, *primals)
        shapes = jax.eval_shape(some_theirs, *primals)
        cotangents = jax.tree.map(lambda x: random_like(np.zeros(x.shape, x.dtype), 3), shapes)

        def both(*primals: Any) -> Any:
            expected, pull_back_expected = jax.vjp(some_theirs, *primals)
            return expected, pull_back_expected(cotangents)

        self.agree((out, pull_back(cotangents)), jax.jit(both)(*primals))

    def vmap(
        self, ours: Callable[..., Any], theirs: Callable[..., Any], args: Sequence[Array]
    ) -> None:
        """Batches along all combinations of operands, of which the axes alternate."""
        for flags in itertools.product((False, True), repeat=len(args)):
            if not any(flags):
                continue
            axes = tuple([(-(i % 2) if f else None) for i, f in enumerate(flags)])
            stacked = [
                x if axis is None else np.stack([x, *_others(x)], axis)
                for x, axis in zip(args, axes, strict=True)
            ]
            self.agree(
                cv.vmap(ours, in_axes=axes)(*stacked),
                jax.jit(jax.vmap(theirs, in_axes=axes))(*stacked),
            )

    def agree(self, ours: Any, theirs: Any) -> None:
        """Equal structure, shapes and dtypes, and values up to the tolerance."""
        if isinstance(theirs, (list, tuple)):
            assert len(ours) == len(theirs)
            for a, b in zip(ours, theirs, strict=True):
                self.agree(a, b)
            return
        expected = np.asarray(theirs)
        assert ours.shape == expected.shape
        if expected.dtype == jax.dtypes.float0:
            return
        assert ours.dtype == expected.dtype
        found = np.asarray(ours)
        assert found.shape == expected.shape
        if expected.dtype.kind in "biu":
            np.testing.assert_array_equal(found, expected)
            return
        if expected.dtype.kind == "V":
            found, expected = found.astype(np.float32), expected.astype(np.float32)
        rtol = self.rtol if ours.dtype.itemsize > 2 else 2e-2
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)


def random_like(x: Array, seed: int) -> Array:
    """Normal numbers of an array's shape and dtype; float0 for integers."""
    if x.dtype.kind not in "fcV":
        return np.zeros(x.shape, jax.dtypes.float0)
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=x.shape)
    if x.dtype.kind == "c":
        parts = parts + 1j * rng.normal(size=x.shape)
    return np.asarray(parts, x.dtype)


def _others(x: Array) -> list[Array]:
    """Two more examples like `x`."""
    flipped = np.flip(x)
    return [flipped, np.roll(x, 1) if x.size else x]


def _differentiable(args: Sequence[Array], given: Sequence[int] | None) -> tuple[int, ...]:
    if given is not None:
        return tuple(given)
    return tuple(i for i, x in enumerate(args) if x.dtype.kind in "fcV")


def _only(fn: Callable[..., Any], args: Sequence[Array], which: Sequence[int]) -> Any:
    """The function of the chosen operands alone."""

    def of_chosen(*chosen: Any) -> Any:
        given = dict(zip(which, chosen, strict=True))
        return fn(*[given.get(i, x) for i, x in enumerate(args)])

    return of_chosen


@pytest.fixture
def against_jax() -> AgainstJax:
    return AgainstJax()
