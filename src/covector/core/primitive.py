"""Primitives: the operations programs are made of, each one block of rules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from covector import _native
from covector.core import effects as fx
from covector.core.errors import UnsupportedRuleError

if TYPE_CHECKING:
    from covector.core.program import Program

Rule = Callable[..., Any]

_get_trace = _native.get_trace

REGISTRY: dict[str, Primitive] = {}
"""Every primitive by name, users' own included."""

RULES = ("shape", "evaluate", "jvp", "transpose", "batch", "lanes", "lower")
"""The rules each primitive must have, or declare `unsupported`."""


class Unsupported:
    """A rule that a primitive cannot have; calling it raises with the reason."""

    __slots__ = ("name", "reason", "rule")

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.name = self.rule = "?"

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnsupportedRuleError(
            f"{_RULE_TITLES.get(self.rule, self.rule)} of `{self.name}` is not supported: "
            f"{self.reason}"
        )


_RULE_TITLES = {
    "jvp": "differentiation",
    "transpose": "transposition (reverse-mode differentiation)",
    "batch": "batching (vmap)",
    "lanes": "separation into lanes",
    "lower": "compilation",
    "evaluate": "evaluation",
}


def unsupported(reason: str) -> Rule:
    """Declares that a rule does not exist, and why.

    Args:
        reason: one clause that reaches the user as the error's text.

    Returns:
        A rule that raises `UnsupportedRuleError`, naming the primitive.
    """
    return Unsupported(reason)


class Primitive:
    """An operation with all its rules.

    Calling a primitive applies it under the current transformation.

    Args:
        name: unique name, printed in programs.
        shape: `(*avals, **params) -> Aval`, or a list of them with `multiple_results`.
        evaluate: `(*ndarrays, **params) -> ndarray`: the meaning, in NumPy.
        jvp: `(ctx, primals, tangents, **params) -> (outputs, output_tangents)`; tangents may be
            symbolic `Zero`s, one at least is not.
        transpose: `(ctx, cotangents, *operands, **params) -> cotangents of the operands`; linear
            operands are `Linear` markers, the others get `None`.
        batch: `(ctx, operands, dims, **params) -> (outputs, output_dims)`; a dim is an `int` or
            `None` for an operand without the batch axis; `ctx.axis_size` is its size.
        lanes: which result dimension is the lane dimension, given that of each operand.
        narrow: optional, `(chunk, dims, out_dims, *operands, **params) -> outputs`: the operation
            on some of the lanes, for primitives whose parameters depend on how many there are.
        creates: optional, `(dim, *avals, **params) -> bool`: whether operands without lanes can
            give a result whose lanes are along `dim`, each made by itself.
        lower: `(b, *tensors, **params) -> Tensor`: native code, through the loop IR builder.
        linearize: optional; replaces jvp in reverse mode, for primitives that hold programs.
        effects: optional, `(**params) -> frozenset[Effect]`.
        multiple_results: whether the rules return lists.
        prepare: optional, `(operands, params) -> (operands, params)`: before an equation is
            recorded; a primitive that holds Python functions turns them into programs here.
        direct: optional, `(*operands, **params) -> outputs` on arrays: replaces `evaluate` in eager
            code, for primitives that hold Python functions.
        trim: optional, `(equation, used) -> Equation`: the operation without results that nothing
            uses, for primitives that would do work for them; `used` has a flag for each result.
        compiled: eager calls compile a one-equation program instead of using `evaluate`.
        decompose: optional, `(*avals, **params) -> Program | None`: what it is made of; compilers
            put the program in its place, and nothing else of it matters to them. `None` is for
            parameters with which it is lowered like any other.

    Attributes:
        built_in: whether a module of this package defines it, so that its rules cannot change
            while the package stays the same.
    """

    __slots__ = (
        "batch",
        "built_in",
        "compiled",
        "creates",
        "decompose",
        "direct",
        "effects",
        "evaluate",
        "jvp",
        "lanes",
        "linearize",
        "lower",
        "multiple_results",
        "name",
        "narrow",
        "prepare",
        "shape",
        "tags",
        "transpose",
        "trim",
    )

    def __init__(
        self,
        name: str,
        *,
        shape: Rule,
        evaluate: Rule,
        jvp: Rule,
        transpose: Rule,
        batch: Rule,
        lower: Rule,
        lanes: Rule,
        narrow: Rule | None = None,
        creates: Callable[..., bool] | None = None,
        linearize: Rule | None = None,
        effects: Callable[..., fx.Effects] | None = None,
        prepare: Rule | None = None,
        direct: Rule | None = None,
        trim: Callable[[Any, Sequence[bool]], Any] | None = None,
        multiple_results: bool = False,
        compiled: bool = False,
        decompose: Callable[..., Program | None] | None = None,
        tags: frozenset[str] = frozenset(),
    ) -> None:
        if name in REGISTRY:
            raise ValueError(f"there is already a primitive named {name!r}")
        self.name = name
        self.shape = shape
        self.evaluate = evaluate
        self.jvp = jvp
        self.transpose = transpose
        self.batch = batch
        self.lower = lower
        self.lanes = lanes
        self.narrow = narrow
        self.creates = creates
        self.linearize = linearize
        self.effects = effects
        self.prepare = prepare
        self.direct = direct
        self.trim = trim
        self.multiple_results = multiple_results
        self.compiled = compiled
        self.decompose = decompose
        self.tags = tags
        self.built_in = _is_built_in()
        for rule in RULES:
            value = getattr(self, rule)
            if isinstance(value, Unsupported):
                value.name, value.rule = name, rule
        REGISTRY[name] = self

    def __call__(self, *args: Any, **params: Any) -> Any:
        trace = _get_trace()
        if trace is None:
            return _evaluate_eagerly(self, args, params)
        return trace.process(self, args, params)

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_by_name, (self.name,))


def _is_built_in() -> bool:
    """Whether a primitive is being made by a module of this package, not by one of its functions.

    A user may call the same factories.
    """
    frame = sys._getframe(2)
    while frame.f_globals.get("__name__", "").startswith("covector."):
        if frame.f_code.co_name == "<module>":
            return True
        if frame.f_back is None:
            break
        frame = frame.f_back
    return False


def _by_name(name: str) -> Primitive:
    found = REGISTRY.get(name)
    if found is None:
        raise LookupError(
            f"there is no primitive {name!r} in this process: import the module that defines it "
            "before unpickling what uses it"
        )
    return found


_Evaluation = Callable[[Primitive, Sequence[Any], dict[str, Any]], Any]


def _no_evaluation(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> NoReturn:
    raise RuntimeError("covector.core.eager has not been imported")


# Set by covector.core.eager when it is imported: evaluation needs arrays, arrays need primitives
# for their operators.
_evaluate_eagerly: _Evaluation = _no_evaluation


def set_eager_evaluation(fn: _Evaluation) -> None:
    """Installs how primitives run outside of any transformation."""
    global _evaluate_eagerly
    _evaluate_eagerly = fn


class Linearized:
    """A program split for reverse mode.

    Attributes:
        known: `inputs -> outputs + residuals`.
        linear: `residuals + tangents -> output tangents`, only where they do not vanish.
        num_residuals: how many residuals there are.
        nonzero_out: for each output whether it has a tangent.
    """

    __slots__ = ("known", "linear", "nonzero_out", "num_residuals")

    def __init__(
        self, known: Program, linear: Program, num_residuals: int, nonzero_out: list[bool]
    ) -> None:
        self.known = known
        self.linear = linear
        self.num_residuals = num_residuals
        self.nonzero_out = nonzero_out


class Context(Protocol):
    """What rules of primitives that hold programs may ask of the transformations."""

    def jvp(
        self, program: Program, nonzero: Sequence[bool], instantiate: bool | Sequence[bool] = False
    ) -> tuple[Program, list[bool]]:
        """`primals + nonzero tangents -> outputs + nonzero output tangents`."""
        ...

    def linearize(
        self, program: Program, nonzero: Sequence[bool], instantiate: bool | Sequence[bool] = False
    ) -> Linearized:
        """The program's outputs and its linear part as two programs."""
        ...

    def transpose(self, program: Program, linear: Sequence[bool]) -> Program:
        """`other inputs + cotangents of outputs -> cotangents of the linear inputs`."""
        ...


class BatchContext(Context, Protocol):
    """What batching rules may ask."""

    axis_size: Any
    axis_name: Any

    def batch(
        self,
        program: Program,
        batched: Sequence[bool],
        out_batched: bool | Sequence[bool] = False,
    ) -> tuple[Program, list[bool]]:
        """The program with a leading batch axis on the batched inputs; which outputs have it.

        `out_batched` forces outputs to have the axis.
        """
        ...
