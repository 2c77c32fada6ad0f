"""Functions as graphs of steps that any library with JAX's interface can run.

A `Graph` knows nothing of the arrays it runs on: each of its steps is called with a namespace
(`np`, `lax`, `jit`, `grad`, ...) and its operands. What a generator needs to know of the values,
to make functions whose results can be compared, is in their `Kind`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Apply = (
    Callable[[Any, Any], Any]
    | Callable[[Any, Any, Any], Any]
    | Callable[[Any, Any, Any, Any], Any]
    | Callable[..., Any]
)
"""A step's function; the alternatives give lambdas the types of their parameters."""

FLOATS = ("float32", "float64")


@dataclass(frozen=True)
class Kind:
    """What is known of a value without running anything.

    Attributes:
        shape: its extents.
        dtype: NumPy's name of its dtype.
        bound: no element is greater in magnitude.
        grain: its elements are multiples of `2**-grain`, computed without rounding; `None` if they
            may be rounded.
    """

    shape: Shape
    dtype: str
    bound: float = 2.0
    grain: int | None = 0

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    @property
    def is_exact(self) -> bool:
        return self.grain is not None

    @property
    def bits(self) -> float:
        """How many bits of significand its elements need at most."""
        return math.log2(max(self.bound, 1.0)) + (self.grain or 0)

    def update(self, **changes: Any) -> Kind:
        """A copy with some attributes changed."""
        return replace(self, **changes)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Step:
    """One step of a graph.

    Attributes:
        operands: positions of the values it takes.
        kinds: what it returns, one value or a tuple of several.
        apply: called with the namespace and the operands.
        text: how it reads, with `{0}`, `{1}` for its operands.
        bodies: graphs that it calls, named as in `text`.
        loops: whether it repeats a body.
    """

    operands: tuple[int, ...]
    kinds: tuple[Kind, ...]
    apply: Apply
    text: str
    bodies: tuple[tuple[str, Graph], ...] = ()
    loops: bool = False


@dataclass(frozen=True)
class Graph:
    """A function of arrays that returns a tuple of arrays.

    Attributes:
        inputs: the kinds of its arguments.
        steps: what it does, in order; the values are the arguments, then what steps return.
        outputs: positions of the values it returns.
    """

    inputs: tuple[Kind, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    def run(self, api: Any, *args: Any) -> tuple[Any, ...]:
        """Runs it on arrays of a library.

        Args:
            api: the library's namespace: `np`, `lax`, `jit`, `grad`, `vmap`.
            args: as many as it has inputs.
        """
        values = list(args)
        for step in self.steps:
            result = step.apply(api, *[values[i] for i in step.operands])
            if len(step.kinds) == 1:
                values.append(result)
            else:
                values.extend(result)
        return tuple([values[i] for i in self.outputs])

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of all its values."""
        return (*self.inputs, *[kind for step in self.steps for kind in step.kinds])

    def all_steps(self) -> Iterator[Step]:
        """Its steps and those of the graphs they call."""
        for step in self.steps:
            yield step
            for _, body in step.bodies:
                yield from body.all_steps()

    def lines(self, name: str) -> list[str]:
        """The function as pseudocode."""
        names = [chr(ord("a") + i) for i in range(len(self.inputs))]
        arguments = [f"{n}: {k}" for n, k in zip(names, self.inputs, strict=True)]
        found = [f"def {name}({', '.join(arguments)}):"]
        for step in self.steps:
            for body_name, body in step.bodies:
                found += ["    " + line for line in body.lines(body_name)]
            results = [f"v{len(names) + i}" for i in range(len(step.kinds))]
            text = step.text.format(*[names[i] for i in step.operands])
            kinds = ", ".join(map(str, step.kinds))
            found.append(f"    {', '.join(results)} = {text}  # {kinds}")
            names += results
        found.append(f"    return {', '.join([names[i] for i in self.outputs])}")
        return found


@dataclass(frozen=True)
class Style:
    """What the functions of one graph and those within it have in common.

    Attributes:
        exact: no step rounds, neither in the function nor in its derivatives.
        wide: float64 occurs.
        differentiated: derivatives are taken of it.
        reverse: in reverse mode, too.
        small: the extents stay small, because Jacobians are taken of it.
    """

    exact: bool = False
    wide: bool = False
    differentiated: bool = False
    reverse: bool = False
    small: bool = False

    def room(self, dtype: str) -> int:
        """The bits that exact values may need: fewer where derivatives must be exact as well."""
        if dtype not in FLOATS:
            return 64
        whole = 20 if dtype == "float32" else 48
        return whole * 3 // 5 if self.differentiated else whole


Draw = Callable[["Builder"], Step | None]


@dataclass
class Builder:
    """A graph in the making: values so far, and random choices among them.

    Attributes:
        rng: where choices come from.
        style: of the function.
        rules: what may be added, with weights; control flow draws its bodies from them, too.
        kinds: of the values so far.
        depth: how many graphs it is within.
    """

    rng: np.random.Generator
    style: Style
    rules: tuple[tuple[float, Draw], ...]
    kinds: list[Kind]
    depth: int = 0
    steps: list[Step] = field(default_factory=list[Step])
    uses: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        self.inputs = tuple(self.kinds)
        self.uses = [0] * len(self.kinds)

    # --- choices ------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def integer(self, low: int, high: int) -> int:
        """From `low` to `high`, both included."""
        return int(self.rng.integers(low, high, endpoint=True))

    def choose(self, options: Sequence[Any]) -> Any:
        return options[self.integer(0, len(options) - 1)]

    def pick(self, accept: Callable[[Kind], bool]) -> int | None:
        """A value to compute with: rather a recent one, and one that nothing uses yet."""
        fitting = [i for i, kind in enumerate(self.kinds) if accept(kind)]
        if not fitting:
            return None
        weights = np.array(
            [(1.0 if self.uses[i] else 4.0) * (1.0 + 3.0 * i / len(self.kinds)) for i in fitting]
        )
        return int(self.rng.choice(fitting, p=weights / weights.sum()))

    def pick_float(self) -> int | None:
        return self.pick(lambda kind: kind.is_float)

    def pick_exact(self) -> int | None:
        """A float whose value is known to the last bit, so that decisions can depend on it."""
        return self.pick(lambda kind: kind.is_float and kind.is_exact)

    # --- growth -------------------------------------------------------------------------------

    def accepts(self, kind: Kind) -> bool:
        limit = 24 if self.style.small else 96
        return kind.size <= limit and kind.rank <= 4

    def sealed(self, kind: Kind) -> Kind | None:
        """A kind as it counts from here on; `None` if an exact function must not compute it."""
        if kind.is_exact and kind.bits <= self.style.room(kind.dtype):
            return kind
        return None if self.style.exact and kind.is_float else kind.update(grain=None)

    def add(self, step: Step | None) -> bool:
        """Adds a step, unless the function must not have it."""
        if step is None or not all([self.accepts(kind) for kind in step.kinds]):
            return False
        kinds: list[Kind] = []
        for kind in step.kinds:
            sealed = self.sealed(kind)
            if sealed is None:
                return False
            kinds.append(sealed)
        for i in step.operands:
            self.uses[i] += 1
        self.steps.append(replace(step, kinds=tuple(kinds)))
        self.kinds += kinds
        self.uses += [0] * len(kinds)
        for i in range(len(self.kinds) - len(kinds), len(self.kinds)):
            self.tame(i)
        return True

    def put(self, text: str, kind: Kind, apply: Apply, *operands: int) -> int:
        """Adds a step that is known to be possible, and returns the position of its value."""
        self.kinds.append(kind)
        self.uses.append(0)
        for i in operands:
            self.uses[i] += 1
        self.steps.append(Step(operands, (kind,), apply, text))
        return len(self.kinds) - 1

    def tame(self, i: int, limit: float = 32.0) -> int:
        """A float value scaled down by a power of two, where it may be large."""
        kind = self.kinds[i]
        if not kind.is_float or kind.bound <= limit:
            return i
        shift = math.ceil(math.log2(kind.bound / limit))
        factor = 2.0**-shift
        grain = None if kind.grain is None else kind.grain + shift
        scaled = kind.update(bound=kind.bound * factor, grain=grain)
        return self.put(f"{{0}} * {factor}", scaled, lambda api, x: x * factor, i)

    def grow(self, count: int) -> None:
        """Adds about `count` steps."""
        weights = np.array([weight for weight, _ in self.rules])
        weights /= weights.sum()
        for _ in range(count):
            for _ in range(8):
                rule = self.rules[int(self.rng.choice(len(self.rules), p=weights))][1]
                if self.add(rule(self)):
                    break

    def graph(self, outputs: Sequence[int]) -> Graph:
        return Graph(self.inputs, tuple(self.steps), tuple(outputs))

    def within(self, kinds: Sequence[Kind]) -> Builder:
        """A builder for a body: no control flow more than two deep."""
        return Builder(self.rng, self.style, self.rules, list(kinds), self.depth + 1)
