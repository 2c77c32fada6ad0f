"""Transformations around a function, one within the other.

A layer takes a function of arrays that returns a list of arrays, and returns another one, perhaps
of arrays with one more axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from covector.testing.functions.graph import Kind, Shape

Run = Callable[..., list[Any]]
Wrap = Callable[[Any, Run], Run]


@dataclass(frozen=True)
class Layer:
    """One transformation.

    Attributes:
        name: how it reads.
        wrap: applies it: called with the namespace of a library and the function.
        shapes: of the arguments of what it returns.
        derivative: whether it takes derivatives.
    """

    name: str
    wrap: Wrap
    shapes: tuple[Shape, ...]
    derivative: bool = False


def _is_float(x: Any) -> bool:
    return np.dtype(x.dtype).kind == "f"


def _floats(api: Any, results: Any) -> list[Any]:
    return [x for x in api.tree.leaves(results) if _is_float(x)]


def _scalar(api: Any, run: Run) -> Callable[..., Any]:
    """The weighted sum of a function's float results."""

    def total(*args: Any) -> Any:
        terms = [x.sum() * 0.5**n for n, x in enumerate(_floats(api, run(*args)))]
        return sum(terms[1:], terms[0])

    return total


def _of_floats(api: Any, run: Run, args: Sequence[Any]) -> tuple[Callable[..., Any], list[Any]]:
    """A function's float results as a function of its float arguments, and these."""
    which = [i for i, x in enumerate(args) if _is_float(x)]

    def partial(*floats: Any) -> list[Any]:
        replaced = dict(zip(which, floats, strict=True))
        return _floats(api, run(*[replaced.get(i, x) for i, x in enumerate(args)]))

    return partial, [args[i] for i in which]


def _directions(values: Sequence[Any]) -> list[Any]:
    return [x * 0.5 - 0.25 * (n + 1) for n, x in enumerate(values)]


def _jit(api: Any, run: Run) -> Run:
    return api.jit(run)


def _grad(api: Any, run: Run) -> Run:
    def gradient(*args: Any) -> list[Any]:
        which = tuple([i for i, x in enumerate(args) if _is_float(x)])
        return list(api.grad(_scalar(api, run), argnums=which)(*args))

    return gradient


def _value_and_grad(api: Any, run: Run) -> Run:
    def both(*args: Any) -> list[Any]:
        return api.tree.leaves(api.value_and_grad(_scalar(api, run))(*args))

    return both


def _jvp(api: Any, run: Run) -> Run:
    def pushed(*args: Any) -> list[Any]:
        f, values = _of_floats(api, run, args)
        return api.tree.leaves(api.jvp(f, values, _directions(values)))

    return pushed


def _vjp(api: Any, run: Run) -> Run:
    def pulled(*args: Any) -> list[Any]:
        f, values = _of_floats(api, run, args)
        results, pull = api.vjp(f, *values)
        return [*results, *pull([api.np.ones_like(y) * 0.5 for y in results])]

    return pulled


def _linearize(api: Any, run: Run) -> Run:
    def linear(*args: Any) -> list[Any]:
        f, values = _of_floats(api, run, args)
        results, push = api.linearize(f, *values)
        return [*results, *push(*_directions(values))]

    return linear


def _jacfwd(api: Any, run: Run) -> Run:
    def jacobian(*args: Any) -> list[Any]:
        f, values = _of_floats(api, run, args)
        return api.tree.leaves(api.jacfwd(f)(*values))

    return jacobian


def _jacrev(api: Any, run: Run) -> Run:
    def jacobian(*args: Any) -> list[Any]:
        f, values = _of_floats(api, run, args)
        return api.tree.leaves(api.jacrev(f)(*values))

    return jacobian


def _hessian(api: Any, run: Run) -> Run:
    def second(*args: Any) -> list[Any]:
        return api.tree.leaves(api.hessian(_scalar(api, run))(*args))

    return second


DERIVATIVES: dict[str, Wrap] = {
    "grad": _grad,
    "value_and_grad": _value_and_grad,
    "jvp": _jvp,
    "vjp": _vjp,
    "linearize": _linearize,
    "jacfwd": _jacfwd,
    "jacrev": _jacrev,
    "hessian": _hessian,
}
REVERSE = frozenset(("grad", "value_and_grad", "vjp", "jacrev", "hessian"))
SMALL = frozenset(("jacfwd", "jacrev", "hessian"))
"""These return as many arrays as their argument has elements."""


def choose_names(rng: np.random.Generator) -> list[str]:
    """The transformations of a function, innermost first: at most two take derivatives."""
    depth = int(rng.choice([0, 1, 2, 3, 4], p=[0.12, 0.23, 0.38, 0.2, 0.07]))
    names: list[str] = []
    for _ in range(depth):
        order = sum([2 if name == "hessian" else 1 for name in names if name in DERIVATIVES])
        derivatives = [name for name in DERIVATIVES if order + (2 if name == "hessian" else 1) <= 2]
        options = ["jit", "vmap"] if names[-1:] != ["jit"] else ["vmap"]
        if derivatives and rng.random() < 0.5:
            options = derivatives
        names.append(str(rng.choice(options)))
    return names


def make_layers(
    rng: np.random.Generator, names: Sequence[str], kinds: Sequence[Kind]
) -> list[Layer]:
    """The layers of these names around a function of arguments of these kinds."""
    layers: list[Layer] = []
    shapes = [kind.shape for kind in kinds]
    for name in names:
        if name == "vmap":
            layers.append(_make_vmap(rng, shapes))
            shapes = list(layers[-1].shapes)
        else:
            wrap = _jit if name == "jit" else DERIVATIVES[name]
            layers.append(Layer(name, wrap, tuple(shapes), name in DERIVATIVES))
    return layers


def _make_vmap(rng: np.random.Generator, shapes: Sequence[Shape]) -> Layer:
    """Some arguments batched, each along any axis; results along the first or the last."""
    batched = rng.random(len(shapes)) < 0.7
    batched[int(rng.integers(len(shapes)))] = True
    axes: list[int | None] = [
        int(rng.integers(len(shape) + 1)) if is_batched else None
        for shape, is_batched in zip(shapes, batched, strict=True)
    ]
    size, out = int(rng.integers(2, 4)), int(rng.choice([0, -1]))
    grown = [
        shape if axis is None else (*shape[:axis], size, *shape[axis:])
        for shape, axis in zip(shapes, axes, strict=True)
    ]

    def wrap(api: Any, run: Run) -> Run:
        return api.vmap(run, in_axes=tuple(axes), out_axes=out)

    return Layer(f"vmap(in_axes={tuple(axes)}, out_axes={out})", wrap, tuple(grown))
