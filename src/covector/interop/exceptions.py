"""The exceptions: equations of jaxprs that do not become the equation of the same name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.interpret import stored_form
from covector.core.primitive import Primitive
from covector.core.program import Atom, Literal, Program, Variable
from covector.interop.recorder import Handler, Importer, Recorder, new_inputs, trace_equation
from covector.interop.values import JaxprError, convert_array, convert_aval, convert_param
from covector.ops.callback import FlatCallback
from covector.ops.remat_linearize import behind_barriers

HANDLERS: dict[str, Handler] = {}


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Registers a handler for the equations of some primitives."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


# --- equations that do nothing here ---------------------------------------------------------------


@handles(
    "copy",
    "copy_p",
    "device_put",
    "layout_constraint",
    "mesh_cast",
    "pcast",
    "pvary",
    "reshard",
    "sharding_constraint",
    "with_memory_space_constraint",
)
def _identity(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    return inputs


# --- calls ----------------------------------------------------------------------------------------


@handles(
    "call",
    "closed_call",
    "composite",
    "core_call",
    "core_closed_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vmap_call",
    "eval_jaxpr",
)
def _inline_call(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    called = next(eqn.params[k] for k in ("call_jaxpr", "jaxpr", "call") if k in eqn.params)
    return recorder.inline(called, inputs)


@handles("jit", "pjit")
def _import_jit(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    name = eqn.params["name"]
    program = recorder.importer.program(eqn.params["jaxpr"], name)
    params = {"program": program, "name": name, "inline": False}
    return recorder.record("jit", eqn, inputs, params)


@handles("checkpoint", "remat", "remat2")
def _import_checkpoint(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    old = eqn.params
    program = recorder.importer.program(old["jaxpr"], "checkpoint")
    prevent_cse = old["prevent_cse"] if isinstance(old["prevent_cse"], bool) else True
    if prevent_cse and old["differentiated"]:
        # It computes values again, behind barriers that JAX adds when it lowers the equation.
        program = behind_barriers(program, len(program.inputs))
    policy = None if old["policy"] is None else _imported_policy(old["policy"], old["jaxpr"])
    params = {"program": program, "policy": policy, "prevent_cse": prevent_cse}
    return recorder.record("checkpoint", eqn, inputs, params)


def _imported_policy(policy: Callable[..., bool], jaxpr: Any) -> Callable[..., bool]:
    """A policy of JAX, which wants JAX's primitives, as one that is asked about ours."""
    primitives: dict[str, Any] = {}
    pending: list[Any] = [jaxpr]
    while pending:
        found = pending.pop()
        if type(found) in (tuple, list):
            pending.extend(found)
        for eqn in getattr(getattr(found, "jaxpr", found), "eqns", ()):
            primitives[eqn.primitive.name] = eqn.primitive
            pending.extend(eqn.params.values())

    def imported(primitive: Primitive, *avals: Any, **params: Any) -> bool:
        known = primitives.get(primitive.name, primitive)
        return bool(policy(known, *avals, **params))

    return imported


@handles("call_hi_primitive")
def _inline_expansion(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    """What an operation on JAX's high-level types is made of; custom_jvp is one since 0.12."""
    return recorder.inline(trace_equation(eqn, eqn.primitive.to_lojax), inputs)


# --- control flow ---------------------------------------------------------------------------------


@handles("scan")
def _import_scan(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
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


@handles("while")
def _import_while(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
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


def _with_scalar_predicate(importer: Importer, eqn: Any) -> dict[str, Any]:
    """The programs of a `while` whose predicate has batch axes, as JAX's `vmap` leaves it.

    It goes on while any lane does, and lanes that are done keep their values; so the body needs
    the constants of the condition too, before its own.
    """
    old = eqn.params
    condition, body = Recorder(importer), Recorder(importer)
    tested = new_inputs(old["cond_jaxpr"])
    (lanes,) = condition.inline(old["cond_jaxpr"], tested)
    axes = tuple(range(lanes.aval.ndim))
    predicate = condition.apply("reduce_or", eqn, [lanes], Aval((), lanes.aval.dtype), axes=axes)
    constants = new_inputs(old["cond_jaxpr"])[: old["cond_nconsts"]]
    inputs = new_inputs(old["body_jaxpr"])
    carry = inputs[old["body_nconsts"] :]
    (alive,) = body.inline(old["cond_jaxpr"], [*constants, *carry])
    results = body.inline(old["body_jaxpr"], inputs)
    outputs = [_keep_finished(body, eqn, alive, *x) for x in zip(carry, results, strict=True)]
    return {
        "cond_program": Program(tested, condition.equations, [predicate], "condition"),
        "body_program": Program([*constants, *inputs], body.equations, outputs, "body"),
        "body_nconsts": len(constants) + old["body_nconsts"],
    }


def _keep_finished(recorder: Recorder, eqn: Any, alive: Atom, old: Atom, new: Atom) -> Atom:
    """The new value in the lanes that go on; the lanes are the leading axes."""
    aval = old.aval
    if alive.aval.shape != aval.shape:
        which = Aval(aval.shape, alive.aval.dtype)
        dims = tuple(range(alive.aval.ndim))
        params: dict[str, Any] = {"shape": aval.shape, "broadcast_dimensions": dims}
        alive = recorder.apply("broadcast_in_dim", eqn, [alive], which, **params)
    return recorder.apply("select_n", eqn, [alive, old, new], aval)


@handles("cond")
def _import_cond(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    which = inputs[0]
    if eqn.params.get("branches_platforms") is not None and isinstance(which, Literal):
        return recorder.inline(eqn.params["branches"][int(which.value)], inputs[1:])
    branches = [recorder.importer.program(b, "branch") for b in eqn.params["branches"]]
    return recorder.record("cond", eqn, inputs, {"branches": tuple(branches)})


# --- others ---------------------------------------------------------------------------------------


@handles("random_gamma")
def _inline_implementation(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    return recorder.inline(trace_equation(eqn, eqn.primitive.impl), inputs)


@handles("one_minus_square")
def _import_one_minus_square(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    def one_minus_square(x: Any) -> Any:
        return (1 - x) * (1 + x)

    return recorder.inline(trace_equation(eqn, one_minus_square), inputs)


@handles("log2")
def _import_log2(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    def log2(x: Any, accuracy: Any) -> Any:
        from jax import lax

        return cast("Any", lax).log(x) * (1 / math.log(2))

    return recorder.inline(trace_equation(eqn, log2), inputs)


@handles("polynomial")
def _import_polynomial(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    def horner(x: Any, *coefficients: Any, unroll: int | None = None) -> Any:
        total = coefficients[-1]
        for coefficient in coefficients[-2::-1]:
            total = total * x + coefficient
        return total

    return recorder.inline(trace_equation(eqn, horner), inputs)


@handles("platform_index")
def _import_platform_index(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    """Which branch of `lax.platform_dependent` is meant for CPUs, or for whatever has none."""
    platforms = eqn.params["platforms"]
    suitable = [i for i, names in enumerate(platforms) if names is None or "cpu" in names]
    if not suitable:
        raise JaxprError("no branch is meant for CPUs")
    return [convert_array(np.int32(suitable[0]), convert_aval(eqn.outvars[0].aval))]


@handles("empty", "empty2")
def _import_empty(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    """Zeros: programs have no uninitialised arrays."""
    aval = convert_aval(eqn.outvars[0].aval)
    scalar = Aval((), aval.dtype)
    shape, dtype = cast("Any", stored_form(scalar))
    literal = Literal(Array.of(np.zeros(shape, dtype), scalar), scalar)
    if aval.shape == ():
        return [literal]
    params: dict[str, Any] = {"shape": aval.shape, "broadcast_dimensions": ()}
    return [recorder.apply("broadcast_in_dim", eqn, [literal], aval, **params)]


@handles("custom_linear_solve")
def _import_linear_solve(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    """JAX gives each program constants of its own; here all of them take them all."""
    lengths, jaxprs = eqn.params["const_lengths"], eqn.params["jaxprs"]
    num_consts = sum(lengths)

    def program(which: str) -> Program | None:
        jaxpr = getattr(jaxprs, which)
        if jaxpr is None:
            return None
        consts = [Variable(a.aval) for a in inputs[:num_consts]]
        position = lengths._fields.index(which)
        first = sum(lengths[:position])
        own = consts[first : first + lengths[position]]
        unknowns = new_inputs(jaxpr)[len(own) :]
        inner = Recorder(recorder.importer)
        outputs = inner.inline(jaxpr, [*own, *unknowns])
        return Program([*consts, *unknowns], inner.equations, outputs, which)

    params = {
        "program": program("solve"),
        "matvec": program("matvec"),
        "transpose_program": program("transpose_solve"),
        "vecmat": program("vecmat"),
        "num_consts": num_consts,
    }
    return recorder.record("custom_linear_solve", eqn, inputs, params)


# --- callbacks ------------------------------------------------------------------------------------


@handles("io_callback", "pure_callback")
def _import_callback(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
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


@handles("debug_callback")
def _import_debug_callback(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
    callback = _flat_callback(eqn.params["callback"], inputs, "debug_callback")
    ordered = "Ordered" in str(eqn.params.get("effect"))
    return recorder.record(
        "debug_callback", eqn, inputs, {"callback": callback, "ordered": ordered}
    )


@handles("debug_print")
def _import_debug_print(recorder: Recorder, eqn: Any, inputs: list[Atom]) -> list[Atom]:
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

        put = cast("Any", jax).device_put
        return function(*[put(np.asarray(a)) for a in arrays])

    return FlatCallback(call, [a.aval.dtype for a in inputs], name)
