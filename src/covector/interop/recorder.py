"""Recording the equations of jaxprs as equations of programs.

An equation becomes that of the same name, unless there is a handler for it (those of
`covector.interop.exceptions`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from covector.core.avals import Aval, same_type
from covector.core.effects import NONE
from covector.core.errors import compose
from covector.core.primitive import REGISTRY, Primitive
from covector.core.program import Atom, Equation, Literal, Program, Variable
from covector.interop.values import (
    JaxprError,
    convert_array,
    convert_aval,
    convert_param,
    convert_source,
)
from covector.ops.registry import load_all

Handler = Callable[["Recorder", Any, list[Atom]], list[Atom]]
"""What to do with an equation instead; returns the atoms of its results."""

# Parameters that have no meaning here: where arrays are, how exactly to compute.
_DROPPED = frozenset(("sharding", "out_sharding", "accuracy"))
_DROPPED_IF_NONE = frozenset(("out_dtype",))
_SCATTERS = ("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max")
_DROPPED_OF = {
    **dict.fromkeys(_SCATTERS, ("update_jaxpr", "update_consts")),
    "reduce": ("computation",),
    "top_k": ("is_stable",),  # it always is, here
}
_RENAMED = {"jaxpr": "program"}


class Importer:
    """What the programs of one import share.

    Args:
        handlers: for equations that do not become those of the same name, by primitive.

    Attributes:
        missing: an equation, as text, for each primitive that is lacking.
    """

    def __init__(self, handlers: dict[str, Handler]) -> None:
        load_all()
        self.handlers = handlers
        self.missing: dict[str, str] = {}
        # By identity; the jaxpr and the constant are kept, so that ids stay their own.
        self._programs: dict[int, tuple[Any, Program]] = {}
        self._constants: dict[int, tuple[Any, Literal]] = {}

    def program(self, jaxpr: Any, name: str) -> Program:
        """A jaxpr as a program; the same one again gives the same program."""
        known = self._programs.get(id(jaxpr))
        if known is not None:
            return known[1]
        recorder = Recorder(self)
        inputs = new_inputs(jaxpr)
        outputs = recorder.inline(jaxpr, inputs)
        program = Program(inputs, recorder.equations, outputs, name)
        self._programs[id(jaxpr)] = (jaxpr, program)
        return program

    def constant(self, value: Any, aval: Aval) -> Literal:
        """A literal; the same constant again gives a literal with the same array."""
        known = self._constants.get(id(value))
        if known is None or known[1].aval != aval:
            known = self._constants[id(value)] = (value, convert_array(value, aval))
        return known[1]

    def raise_missing(self) -> None:
        """Raises if primitives are lacking, naming all of them."""
        if self.missing:
            names = ", ".join(sorted(self.missing))
            examples = "; ".join(self.missing.values())
            raise JaxprError(compose(f"there are no primitives {names}", found=examples))


class Recorder:
    """Records the equations of one program."""

    def __init__(self, importer: Importer) -> None:
        self.importer = importer
        self.equations: list[Equation] = []

    def inline(self, jaxpr: Any, atoms: Sequence[Atom]) -> list[Atom]:
        """Records the equations of a jaxpr, closed or without constants; returns its outputs."""
        inner = getattr(jaxpr, "jaxpr", jaxpr)
        env: dict[Any, Atom] = dict(zip(inner.invars, atoms, strict=True))
        for variable, value in zip(inner.constvars, getattr(jaxpr, "consts", ()), strict=True):
            env[variable] = self.importer.constant(value, convert_aval(variable.aval))
        for eqn in inner.eqns:
            results = self._equation(eqn, [self._atom(v, env) for v in eqn.invars])
            env.update(zip(eqn.outvars, results, strict=True))
        return [self._atom(v, env) for v in inner.outvars]

    def _atom(self, atom: Any, env: dict[Any, Atom]) -> Atom:
        if hasattr(atom, "val"):
            return self.importer.constant(atom.val, convert_aval(atom.aval))
        return env[atom]

    def _equation(self, eqn: Any, inputs: list[Atom]) -> list[Atom]:
        name = eqn.primitive.name
        try:
            handler = self.importer.handlers.get(name)
            if handler is not None:
                return handler(self, eqn, inputs)
            if name not in REGISTRY:
                return self._missing(eqn, inputs)
            return self.record(name, eqn, inputs, self._params(eqn))
        except JaxprError as error:
            if str(error).startswith(_REFUSAL):  # of an equation nested in this one
                raise
            raise JaxprError(
                compose(f"{_REFUSAL} of {name}: {error}", found=_shorten(eqn))
            ) from error

    def _params(self, eqn: Any) -> dict[str, Any]:
        dropped = _DROPPED_OF.get(eqn.primitive.name, ())
        return {
            _RENAMED.get(key, key): self._param(value)
            for key, value in eqn.params.items()
            if key not in _DROPPED
            and key not in dropped
            and not (key in _DROPPED_IF_NONE and value is None)
        }

    def _param(self, value: Any) -> Any:
        if hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns"):
            return self.importer.program(value, "")
        return convert_param(value)

    def record(
        self, name: str, eqn: Any, inputs: Sequence[Atom], params: dict[str, Any]
    ) -> list[Atom]:
        """Records an equation of the primitive called `name` in place of a jaxpr's."""
        primitive = REGISTRY[name]
        avals = [convert_aval(v.aval) for v in eqn.outvars]
        outputs = [Variable(aval) for aval in avals]
        if "elementwise" in primitive.tags:
            inputs = [self._broadcast(eqn, x, avals[0]) for x in inputs]
        _check_types(primitive, inputs, params, avals)
        self._append(eqn, primitive, inputs, outputs, params)
        return list(outputs)

    def _broadcast(self, eqn: Any, operand: Atom, result: Aval) -> Atom:
        """An operand of an elementwise operation; JAX lets axes of one element broadcast."""
        shape = operand.aval.shape
        if shape in ((), result.shape) or len(shape) != len(result.shape):
            return operand
        params = {"shape": result.shape, "broadcast_dimensions": tuple(range(len(shape)))}
        aval = operand.aval.update(shape=result.shape)
        return self.apply("broadcast_in_dim", eqn, [operand], aval, **params)

    def apply(
        self, name: str, eqn: Any, inputs: Sequence[Atom], aval: Aval, **params: Any
    ) -> Variable:
        """Records an equation with one result, which does a part of what JAX's equation does."""
        output = Variable(aval)
        self._append(eqn, REGISTRY[name], inputs, [output], params)
        return output

    def _append(
        self,
        eqn: Any,
        primitive: Primitive,
        inputs: Sequence[Atom],
        outputs: Sequence[Variable],
        params: dict[str, Any],
    ) -> None:
        effects = NONE if primitive.effects is None else primitive.effects(**params)
        location, scope = convert_source(eqn.source_info)
        self.equations.append(
            Equation(primitive, list(inputs), outputs, params, effects, location, scope)
        )

    def _missing(self, eqn: Any, inputs: Sequence[Atom]) -> list[Atom]:
        """What primitives of other libraries are made of; stand-ins for those that JAX has."""
        if not _is_of_jax(eqn.primitive.impl):
            return self.inline(trace_equation(eqn, eqn.primitive.impl), inputs)
        self.importer.missing.setdefault(eqn.primitive.name, _shorten(eqn))
        return [Variable(convert_aval(v.aval)) for v in eqn.outvars]


_REFUSAL = "cannot import an equation"


def new_inputs(jaxpr: Any) -> list[Variable]:
    """Variables for the inputs of a jaxpr, closed or without constants."""
    return [Variable(convert_aval(v.aval)) for v in getattr(jaxpr, "jaxpr", jaxpr).invars]


def make_jaxpr(fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The jaxpr of a function for example arguments."""
    import jax

    return cast("Any", jax).make_jaxpr(fn)(*args, **kwargs)


def _check_types(
    primitive: Primitive, inputs: Sequence[Atom], params: dict[str, Any], wanted: Sequence[Aval]
) -> None:
    """Checks that our shape rule takes the equation, and gives the types that JAX gives."""
    try:
        avals = primitive.shape(*[a.aval for a in inputs], **params)
    except (TypeError, ValueError) as error:
        raise JaxprError(f"the shape rule refuses it: {error}") from error
    found = list(avals) if primitive.multiple_results else [avals]
    if len(found) != len(wanted) or not all(map(same_type, found, wanted)):
        raise JaxprError(f"its results are {wanted} in JAX, {found} here")


def _is_of_jax(implementation: Any) -> bool:
    """Whether an implementation is JAX's own: those compile the primitive or are written in C."""
    fn = getattr(implementation, "func", implementation)
    return str(getattr(fn, "__module__", "jax")).split(".")[0] in ("jax", "jaxlib")


def trace_equation(eqn: Any, fn: Callable[..., Any]) -> Any:
    """The jaxpr of a function, written with JAX, that does what an equation does."""

    def equation(*args: Any) -> Any:
        return fn(*args, **eqn.params)

    return make_jaxpr(equation, [v.aval for v in eqn.invars], {})


def _shorten(eqn: Any) -> str:
    text = " ".join(str(eqn).split())
    return text if len(text) <= 300 else f"{text[:300]} ..."
