"""Random functions that Covector and JAX can both run, transformed at random.

What `covector.testing.programs` does for whatever takes a program, this does for whatever takes a
Python function: tracing, transformations, the compiler and its backends, all at once.

```python
import covector as cv
from covector.testing.functions import generate, namespace

function, api = generate(seed=7), namespace(cv)
print(function)
cv.jit(lambda *args: function(api, *args))(*function.arguments())
```
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from covector.testing.functions import control, elementwise, structure
from covector.testing.functions.graph import FLOATS, Builder, Graph, Kind, Style
from covector.testing.functions.layers import REVERSE, SMALL, Layer, choose_names, make_layers

Array = np.ndarray[Any, Any]
RULES = (*elementwise.RULES, *structure.RULES, *control.RULES)
SIZES = (3, 13)
_SHAPES = ((), (1,), (3,), (4,), (5,), (2, 3), (3, 1), (3, 4), (2, 1, 3), (19,), (3, 17), (40,))
_SMALL_SHAPES = ((), (2,), (3,), (2, 2), (1, 3))


@dataclass(frozen=True)
class Function:
    """A random function and the transformations around it.

    Attributes:
        seed: what it was made from.
        size: about how many steps it has.
        graph: the function.
        layers: the transformations, innermost first.
        style: whether it rounds, uses float64, ...
    """

    seed: int
    size: int
    graph: Graph
    layers: tuple[Layer, ...]
    style: Style

    def __call__(self, api: Any, *args: Any) -> list[Any]:
        """Runs it.

        Args:
            api: a library's namespace, from `namespace`.
            args: its arguments, as from `arguments`.
        """

        def plain(*values: Any) -> list[Any]:
            return list(self.graph.run(api, *values))

        run: Callable[..., list[Any]] = plain
        for layer in self.layers:
            run = layer.wrap(api, run)
        return run(*args)

    @property
    def has_loop(self) -> bool:
        return any([step.loops for step in self.graph.all_steps()])

    @property
    def dtypes(self) -> frozenset[str]:
        """The dtypes that occur."""
        bodies = [body for step in self.graph.all_steps() for _, body in step.bodies]
        return frozenset([k.dtype for graph in (self.graph, *bodies) for k in graph.kinds])

    def arguments(self) -> list[Array]:
        """Arguments: floats are odd multiples of 1/8 below 2, so there is no 0 among them."""
        rng = np.random.default_rng((self.seed, 3))
        kinds = self.graph.inputs
        shapes = self.layers[-1].shapes if self.layers else tuple([k.shape for k in kinds])
        return [_sample(rng, kind, shape) for kind, shape in zip(kinds, shapes, strict=True)]

    def __str__(self) -> str:
        names = [layer.name for layer in self.layers]
        lines = self.graph.lines("function")
        lines.append(f"transformed, innermost first: {', '.join(names) or 'not at all'}")
        return "\n".join(lines)


def namespace(package: Any) -> SimpleNamespace:
    """What functions need of a library with JAX's interface.

    Args:
        package: the module `covector` or `jax`.
    """
    names = ("jit", "grad", "value_and_grad", "vmap", "jvp", "vjp", "linearize", "jacfwd",
             "jacrev", "hessian")  # fmt: skip
    found = {name: getattr(package, name) for name in names}
    for name in ("numpy", "lax", "tree"):
        found["np" if name == "numpy" else name] = importlib.import_module(
            f"{package.__name__}.{name}"
        )
    return SimpleNamespace(**found)


def generate(seed: int, size: int | None = None, depth: int | None = None) -> Function:
    """A random function.

    One with a smaller size from the same seed has the same first steps, and one with a smaller
    depth the same first transformations, so failures shrink in both.

    Args:
        seed: the same seed gives the same function.
        size: about how many steps it has, those of nested graphs not counted; by default random.
        depth: at most so many transformations; by default up to four.

    Example:
        >>> str(generate(3)) == str(generate(3))
        True
    """
    rng = np.random.default_rng((seed, 0))
    names = choose_names(rng)
    drawn = int(rng.integers(*SIZES, endpoint=True))
    size = drawn if size is None else size
    style = Style(
        exact=bool(rng.random() < 0.3),
        wide=bool(rng.random() < 0.4),
        differentiated=any([name not in ("jit", "vmap") for name in names]),
        reverse=bool(REVERSE & {*names}),
        small=bool(SMALL & {*names}),
    )
    inputs = _draw_inputs(rng, style)
    builder = Builder(np.random.default_rng((seed, 1)), style, RULES, list(inputs))
    builder.grow(size)
    outputs = _choose_outputs(np.random.default_rng((seed, 2)), builder)
    layers = make_layers(rng, names, inputs)[:depth]
    return Function(seed, size, builder.graph(outputs), tuple(layers), style)


def _draw_inputs(rng: np.random.Generator, style: Style) -> list[Kind]:
    """One or two arrays of floats, then perhaps an integer, some integers, some truth values."""
    shapes = _SMALL_SHAPES if style.small else _SHAPES
    wide = FLOATS[1] if style.wide else FLOATS[0]
    kinds = [Kind(shapes[int(rng.integers(1, len(shapes)))], wide, 2.0, 3)]
    if rng.random() < 0.6:
        dtype = FLOATS[0] if rng.random() < 0.3 else wide
        kinds.append(Kind(shapes[int(rng.integers(len(shapes)))], dtype, 2.0, 3))
    if rng.random() < 0.6:
        kinds.append(Kind((), "int32", 8.0))
    if rng.random() < 0.4:
        kinds.append(Kind((3,), "int32", 8.0))
    if rng.random() < 0.4:
        kinds.append(Kind(((), (3,))[int(rng.integers(2))], "bool"))
    return kinds


def _choose_outputs(rng: np.random.Generator, builder: Builder) -> list[int]:
    """The latest floats that nothing uses, so that little is computed in vain, and one other."""
    positions = range(len(builder.kinds))
    floats = [i for i in positions if builder.kinds[i].is_float]
    unused = [i for i in floats if not builder.uses[i]] or floats[-1:]
    others = [i for i in positions if not builder.kinds[i].is_float and i >= len(builder.inputs)]
    outputs = unused[-3:]
    if others and rng.random() < 0.5:
        outputs.append(others[int(rng.integers(len(others)))])
    return outputs


def _sample(rng: np.random.Generator, kind: Kind, shape: tuple[int, ...]) -> Array:
    if kind.dtype == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if kind.dtype == "int32":
        return rng.integers(-2, 8, shape).astype(np.int32)
    odd = 2 * rng.integers(-8, 8, shape) + 1
    return np.asarray(odd / 8, kind.dtype)
