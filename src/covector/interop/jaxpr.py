"""Programs from jaxprs.

Primitives of JAX and Covector share names, parameters and meaning, so that an equation of a jaxpr
becomes the equation of the same name; this module holds the exceptions. A program imported from JAX
is run, transformed and compiled like any other.

Derivatives of an imported program are those of its equations: rules of `jax.custom_jvp` and
`jax.custom_vjp` are not imported, the functions that carry them are. Differentiate with JAX before
importing where that matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from covector.core.array import Array
from covector.core.avals import Aval, same_type
from covector.core.dtypes import is_key, uint32
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
from covector.ops.callback import FlatCallback
from covector.ops.registry import load_all


def from_jaxpr(jaxpr: Any, name: str = "") -> Program:
    """Imports a jaxpr of JAX 0.10 or later.

    Args:
        jaxpr: what `jax.make_jaxpr(f)(*args)` returns.
        name: of the program, for display.

    Returns:
        The program; it takes and returns the flattened arguments and results, in order.

    Raises:
        JaxprError: naming the primitives that Covector lacks, with an equation of each.

    Example:
        >>> import jax
        >>> print(from_jaxpr(jax.make_jaxpr(lambda x: 2 * jax.numpy.sin(x))(1.0), "f"))
        program f(a: ~f32[]) {
          b: ~f32[] = sin a
          c: ~f32[] = mul 2.0:~f32[] b
        } -> c
    """
    importer = _Importer()
    program = importer.program(jaxpr, name)
    importer.raise_missing()
    return program


def from_jax(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Program:
    """Traces a function with JAX and imports the jaxpr.

    Args:
        fn: takes and returns pytrees of arrays.
        args: example arguments: arrays, or anything with a shape and dtype.
        kwargs: keyword arguments of the same kinds.

    Raises:
        JaxprError: as `from_jaxpr`.
    """
    return from_jaxpr(_make_jaxpr(fn, args, kwargs), getattr(fn, "__name__", ""))


def _make_jaxpr(fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    import jax

    return cast("Any", jax).make_jaxpr(fn)(*args, **kwargs)


def missing_primitives(jaxpr: Any) -> list[str]:
    """The names of the primitives in a jaxpr that Covector lacks."""
    importer = _Importer()
    importer.program(jaxpr, "")
    return sorted(importer.missing)


class _Importer:
    """What the programs of one import share.

    Attributes:
        missing: an equation, as text, for each primitive that is lacking.
    """

    def __init__(self) -> None:
        load_all()
        self.missing: dict[str, str] = {}
        # By identity; the jaxpr and the constant are kept, so that ids stay their own.
        self._programs: dict[int, tuple[Any, Program]] = {}
        self._constants: dict[int, tuple[Any, Literal]] = {}

    def program(self, jaxpr: Any, name: str) -> Program:
        """A jaxpr as a program; the same one again gives the same program."""
        known = self._programs.get(id(jaxpr))
        if known is not None:
            return known[1]
        recorder = _Recorder(self)
        inputs = _new_inputs(jaxpr)
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
        if self.missing:
            names = ", ".join(sorted(self.missing))
            examples = "; ".join(self.missing.values())
            raise JaxprError(compose(f"there are no primitives {names}", found=examples))


class _Recorder:
    """Records the equations of one program."""

    def __init__(self, importer: _Importer) -> None:
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
            handler = _HANDLERS.get(name)
            if handler is not None:
                return handler(self, eqn, inputs)
            if name not in REGISTRY:
                return self._missing(eqn, inputs)
            return self.record(name, eqn, inputs, self._params(eqn))
        except JaxprError as error:
            if str(error).startswith("cannot import"):
                raise
            raise JaxprError(_describe(eqn, str(error))) from error

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
        """A parameter value; jaxprs become programs."""
        if hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns"):
            return self.importer.program(value, "")
        return convert_param(value)

    def record(
        self, name: str, eqn: Any, inputs: Sequence[Atom], params: dict[str, Any]
    ) -> list[Atom]:
        """Records the equation of the primitive called `name` in place of a jaxpr's."""
        primitive = REGISTRY[name]
        avals = [convert_aval(v.aval) for v in eqn.outvars]
        outputs = [Variable(aval) for aval in avals]
        if "elementwise" in primitive.tags:
            inputs = [self._broadcast(eqn, x, avals[0]) for x in inputs]
        _check_types(primitive, inputs, params, avals)
        self.append(eqn, primitive, inputs, outputs, params)
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
        """Records an equation with one result that is part of what an equation of JAX does."""
        output = Variable(aval)
        self.append(eqn, REGISTRY[name], inputs, [output], params)
        return output

    def append(
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
        implementation = eqn.primitive.impl
        if not _is_of_jax(implementation):
            return self.inline(_trace_implementation(eqn), inputs)
        self.importer.missing.setdefault(eqn.primitive.name, _shorten(eqn))
        return [Variable(convert_aval(v.aval)) for v in eqn.outvars]


def _check_types(
    primitive: Primitive, inputs: Sequence[Atom], params: dict[str, Any], wanted: Sequence[Aval]
) -> None:
    """Checks that our shape rule takes the equation, and gives the types that JAX gives."""
    try:
        avals = primitive.shape(*[a.aval for a in inputs], **params)
    except TypeError as error:
        raise JaxprError(f"the shape rule refuses it: {error}") from error
    found = list(avals) if primitive.multiple_results else [avals]
    if len(found) != len(wanted) or not all(map(same_type, found, wanted)):
        raise JaxprError(f"its results are {wanted} in JAX, {found} here")


def _is_of_jax(implementation: Any) -> bool:
    """Whether an implementation is JAX's own: those compile the primitive or are written in C."""
    fn = getattr(implementation, "func", implementation)
    return str(getattr(fn, "__module__", "jax")).split(".")[0] in ("jax", "jaxlib")


def _trace_implementation(eqn: Any) -> Any:
    """The jaxpr of what a primitive of another library, such as Equinox, is made of."""

    def implementation(*args: Any) -> Any:
        return eqn.primitive.impl(*args, **eqn.params)

    return _make_jaxpr(implementation, [v.aval for v in eqn.invars], {})


def _describe(eqn: Any, why: str) -> str:
    return compose(f"cannot import an equation of {eqn.primitive.name}: {why}", found=_shorten(eqn))


def _shorten(eqn: Any) -> str:
    text = " ".join(str(eqn).split())
    return text if len(text) <= 300 else f"{text[:300]} ..."


# --- the exceptions -------------------------------------------------------------------------------

_DROPPED = frozenset(("sharding", "out_sharding", "accuracy"))
_DROPPED_IF_NONE = frozenset(("out_dtype",))
_DROPPED_OF = {
    **dict.fromkeys(
        ("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max"),
        ("update_jaxpr", "update_consts"),
    ),
    "reduce": ("computation",),
}
_RENAMED = {
    "jaxpr": "program",
    "cond_jaxpr": "cond_program",
    "body_jaxpr": "body_program",
}

_Handler = Callable[[_Recorder, Any, list[Atom]], list[Atom]]


def _identity(recorder: _Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    return inputs


def _inline_param(name: str) -> _Handler:
    def inline(recorder: _Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
        return recorder.inline(eqn.params[name], inputs)

    return inline


def _import_jit(recorder: _Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    name = eqn.params["name"]
    program = recorder.importer.program(eqn.params["jaxpr"], name)
    params = {"program": program, "name": name, "inline": False}
    return recorder.record("jit", eqn, inputs, params)


def _import_scan(recorder: _Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    old = eqn.params
    if "ft_in" in old:  # JAX 0.12 keeps the three groups of operands as trees
        consts, carry, _ = old["ft_in"].unpack()
        num_consts, num_carry = len(consts), len(carry)
    else:
        num_consts, num_carry = old["num_consts"], old["num_carry"]
    params = {
        "program": recorder.importer.program(old["jaxpr"], "body"),
        "num_consts": num_consts,
        "num_carry": num_carry,
        "length": convert_param(old["length"]),
        "reverse": old["reverse"],
        "unroll": old["unroll"],
    }
    return recorder.record("scan", eqn, inputs, params)


def _import_while(recorder: _Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    old = eqn.params
    params = {
        "cond_program": recorder.importer.program(old["cond_jaxpr"], "condition"),
        "cond_nconsts": old["cond_nconsts"],
        "body_program": recorder.importer.program(old["body_jaxpr"], "body"),
        "body_nconsts": old["body_nconsts"],
    }
    if params["cond_program"].output_avals[0].shape != ():
        params |= _with_scalar_predicate(recorder.importer, eqn)
        inputs = [*inputs[: old["cond_nconsts"]], *inputs]
    return recorder.record("while", eqn, inputs, params)


def _with_scalar_predicate(importer: _Importer, eqn: Any) -> dict[str, Any]:
    """The programs of a `while` whose predicate has batch axes, as JAX's `vmap` leaves it.

    It goes on while any lane does, and lanes that are done keep their values; so the body needs
    the constants of the condition too, before its own.
    """
    old = eqn.params
    condition, body = _Recorder(importer), _Recorder(importer)
    tested = _new_inputs(old["cond_jaxpr"])
    (lanes,) = condition.inline(old["cond_jaxpr"], tested)
    axes = tuple(range(lanes.aval.ndim))
    predicate = condition.apply("reduce_or", eqn, [lanes], Aval((), lanes.aval.dtype), axes=axes)
    constants = _new_inputs(old["cond_jaxpr"])[: old["cond_nconsts"]]
    inputs = _new_inputs(old["body_jaxpr"])
    carry = inputs[old["body_nconsts"] :]
    (alive,) = body.inline(old["cond_jaxpr"], [*constants, *carry])
    results = body.inline(old["body_jaxpr"], inputs)
    outputs = [_keep_finished(body, eqn, alive, *x) for x in zip(carry, results, strict=True)]
    return {
        "cond_program": Program(tested, condition.equations, [predicate], "condition"),
        "body_program": Program([*constants, *inputs], body.equations, outputs, "body"),
        "body_nconsts": len(constants) + old["body_nconsts"],
    }


def _keep_finished(recorder: _Recorder, eqn: Any, alive: Atom, old: Atom, new: Atom) -> Atom:
    """The new value in the lanes that go on; the lanes are the leading axes."""
    aval = old.aval
    if alive.aval.shape != aval.shape:
        which = Aval(aval.shape, alive.aval.dtype)
        dims = tuple(range(alive.aval.ndim))
        params: dict[str, Any] = {"shape": aval.shape, "broadcast_dimensions": dims}
        alive = recorder.apply("broadcast_in_dim", eqn, [alive], which, **params)
    return recorder.apply("select_n", eqn, [alive, old, new], aval)


def _new_inputs(jaxpr: Any) -> list[Variable]:
    return [Variable(convert_aval(v.aval)) for v in jaxpr.jaxpr.invars]


def _import_cond(recorder: _Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    which = inputs[0]
    if eqn.params.get("branches_platforms") is not None and isinstance(which, Literal):
        return recorder.inline(eqn.params["branches"][int(which.value)], inputs[1:])
    branches = [recorder.importer.program(b, "branch") for b in eqn.params["branches"]]
    return recorder.record("cond", eqn, inputs, {"branches": tuple(branches)})


def _import_platform_index(recorder: _Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    """Which branch of `lax.platform_dependent` is meant for CPUs, or for whatever has none."""
    platforms = eqn.params["platforms"]
    suitable = [i for i, names in enumerate(platforms) if names is None or "cpu" in names]
    if not suitable:
        raise JaxprError("no branch is meant for CPUs")
    return [convert_array(np.int32(suitable[0]), convert_aval(eqn.outvars[0].aval))]


def _import_empty(recorder: _Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    """Zeros: programs have no uninitialised arrays."""
    aval = convert_aval(eqn.outvars[0].aval)
    words = (aval.dtype.words,) if is_key(aval.dtype) else ()
    zero = np.zeros(words, uint32 if words else aval.dtype)
    scalar = Aval((), aval.dtype)
    literal = Literal(Array.of(zero, scalar), scalar)
    if aval.shape == ():
        return [literal]
    params: dict[str, Any] = {"shape": aval.shape, "broadcast_dimensions": ()}
    return [recorder.apply("broadcast_in_dim", eqn, [literal], aval, **params)]


def _import_linear_solve(recorder: _Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    """Inlines the solver: only it runs, the other functions serve differentiation."""
    lengths = eqn.params["const_lengths"]
    first = lengths.matvec + lengths.vecmat
    constants = inputs[first : first + lengths.solve]
    operands = inputs[first + lengths.solve + lengths.transpose_solve :]
    return recorder.inline(eqn.params["jaxprs"].solve, [*constants, *operands])


def _import_callback(recorder: _Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    old = eqn.params
    params: dict[str, Any] = {
        "callback": _flat_callback(old["callback"], inputs, eqn.primitive.name),
        "result_avals": tuple([convert_aval(a) for a in old["result_avals"]]),
    }
    if "ordered" in old:
        params["ordered"] = old["ordered"]
    else:
        params["vmap_method"] = old.get("vmap_method")
    return recorder.record(eqn.primitive.name, eqn, inputs, params)


def _import_debug_callback(recorder: _Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    callback = _flat_callback(eqn.params["callback"], inputs, "debug_callback")
    ordered = "Ordered" in str(eqn.params.get("effect"))
    return recorder.record(
        "debug_callback", eqn, inputs, {"callback": callback, "ordered": ordered}
    )


def _import_debug_print(recorder: _Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    """`jax.debug.print` prints what it is given by itself."""
    implementation, params = eqn.primitive.impl, eqn.params

    def debug_print(*arrays: Any) -> Sequence[Any]:
        return implementation(*[np.asarray(a) for a in arrays], **params)

    callback = FlatCallback(debug_print, [a.aval.dtype for a in inputs], "debug_print")
    new = {"callback": callback, "ordered": params["ordered"]}
    return recorder.record("debug_callback", eqn, inputs, new)


def _flat_callback(function: Callable[..., Any], inputs: Sequence[Atom], name: str) -> FlatCallback:
    """A callback of JAX, which takes and returns flat arrays, as one that takes ours."""

    def call(*arrays: Any) -> Sequence[Any]:
        import jax

        return function(*[jax.device_put(np.asarray(a)) for a in arrays])

    return FlatCallback(call, [a.aval.dtype for a in inputs], name)


_HANDLERS: dict[str, _Handler] = {
    **dict.fromkeys(
        (
            "copy",
            "copy_p",
            "device_put",
            "layout_constraint",
            "mesh_cast",
            "name",
            "optimization_barrier",
            "pcast",
            "pvary",
            "reshard",
            "sharding_constraint",
            "stop_gradient",
        ),
        _identity,
    ),
    **dict.fromkeys(("jit", "pjit"), _import_jit),
    **dict.fromkeys(("remat2", "remat", "checkpoint"), _inline_param("jaxpr")),
    **dict.fromkeys(
        (
            "closed_call",
            "core_call",
            "core_closed_call",
            "custom_jvp_call",
            "custom_vjp_call",
            "custom_jvp_call_jaxpr",
        ),
        _inline_param("call_jaxpr"),
    ),
    "custom_vjp_call_jaxpr": _inline_param("fun_jaxpr"),
    "custom_linear_solve": _import_linear_solve,
    **dict.fromkeys(("empty", "empty2"), _import_empty),
    "platform_index": _import_platform_index,
    "debug_callback": _import_debug_callback,
    "debug_print": _import_debug_print,
    "io_callback": _import_callback,
    "pure_callback": _import_callback,
    "scan": _import_scan,
    "while": _import_while,
    "cond": _import_cond,
}
