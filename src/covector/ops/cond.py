"""`cond`: runs one of several programs, chosen by an index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes, interpret
from covector.core.avals import Aval, Linear, Zero, same_type
from covector.core.effects import NONE, Effects
from covector.core.errors import UnsupportedRuleError
from covector.core.primitive import BatchContext, Context, Linearized, Primitive, unsupported
from covector.core.program import Atom, Equation, Literal, Program, Variable
from covector.core.trace import aval_of, eval_program
from covector.loopir.tensor import Lowering, Stored, Tensor
from covector.ops import common
from covector.ops.carries import MAX_ELEMENTS, MAX_TOTAL, as_registers
from covector.ops.common import front, move_axis
from covector.ops.guard import guard_loops, loops_inside
from covector.ops.nested import chosen, either, others, prune, split, substitute, zero_atom
from covector.ops.overwriting import Overwrite, path
from covector.ops.windows import static_size

Branches = tuple[Program, ...]

# --- types and evaluation -------------------------------------------------------------------------


def _cond_shape(index: Aval, *operands: Aval, branches: Branches) -> list[Aval]:
    if index.shape != () or index.dtype != dtypes.int32:
        raise TypeError(f"cond: the index must be of type i32[], got {index}")
    for k, branch in enumerate(branches):
        wanted = branch.input_avals
        if len(wanted) != len(operands) or not all(map(same_type, operands, wanted)):
            raise TypeError(f"cond: branch {k} takes {wanted}, got {list(operands)}")
    first = branches[0].output_avals
    for k, branch in enumerate(branches[1:], 1):
        found = branch.output_avals
        if len(found) != len(first) or not all(map(same_type, found, first)):
            raise TypeError(f"cond: branch 0 gives {first}, branch {k} gives {found}")
    every = zip(*[branch.output_avals for branch in branches], strict=True)
    return [a[0] if all([b.weak_type for b in a]) else a[0].strong() for a in every]


def _cond_effects(*, branches: Branches) -> Effects:
    return NONE.union(*[branch.effects for branch in branches])


def _cond_evaluate(index: Any, *operands: Any, branches: Branches) -> list[Any]:
    taken = min(max(int(index), 0), len(branches) - 1)
    return interpret.run(branches[taken], *operands)


# --- differentiation ------------------------------------------------------------------------------


def _cond_jvp(
    ctx: Context, primals: Sequence[Any], tangents: Sequence[Any], *, branches: Branches
) -> tuple[list[Any], list[Any]]:
    nonzero = [type(t) is not Zero for t in tangents[1:]]
    wanted = [False] * len(branches[0].outputs)
    for branch in branches:
        wanted = either(wanted, ctx.jvp(branch, nonzero)[1])
    both = tuple([ctx.jvp(branch, nonzero, wanted)[0] for branch in branches])
    results = cond(*primals, *chosen(tangents[1:], nonzero), branches=both)
    outs, found = results[: len(wanted)], iter(results[len(wanted) :])
    out_tangents = [
        next(found) if nz else Zero(aval_of(out).tangent())
        for out, nz in zip(outs, wanted, strict=True)
    ]
    return outs, out_tangents


def _cond_linearize(
    ctx: Context, primals: Sequence[Any], nonzero: Sequence[bool], *, branches: Branches
) -> tuple[list[Any], list[bool], Callable[..., list[Any]], list[Any]]:
    index, *operands = primals
    wanted = [False] * len(branches[0].outputs)
    for branch in branches:
        wanted = either(wanted, ctx.linearize(branch, nonzero[1:]).nonzero_out)
    bodies = [ctx.linearize(branch, nonzero[1:], wanted) for branch in branches]
    parts = _SplitBranches(bodies, len(wanted))
    results = cond(index, *operands, branches=parts.known)
    residuals = [
        index,
        *[operands[k] for k in parts.operands],
        *[results[k] for k in parts.results],
        *results[len(wanted) :],
    ]

    def linear(residuals: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        return cond(*residuals, *tangents, branches=parts.linear)

    return results[: len(wanted)], wanted, linear, residuals


class _SplitBranches:
    """Linearized branches with one list of residuals for all.

    A residual that is an operand or a result is read there. The others share slots: those of one
    branch and those of another take the same slot if they have the same type; slots which the
    branch taken has no use for are filled with zeros.

    Attributes:
        known: `operands -> results, slots`.
        linear: `operands kept, results kept, slots, tangents -> output tangents`.
        operands: positions of the operands kept.
        results: positions of the results kept.
    """

    __slots__ = ("known", "linear", "operands", "results")

    def __init__(self, bodies: Sequence[Linearized], num_outs: int) -> None:
        places = [_places(body, num_outs) for body in bodies]
        self.operands = sorted({k for p in places for kind, k in p.values() if kind == "operand"})
        self.results = sorted({k for p in places for kind, k in p.values() if kind == "result"})
        slots: list[Aval] = []
        taken = [_take_slots(b, p, num_outs, slots) for b, p in zip(bodies, places, strict=True)]
        known = [_with_slots(b, t, num_outs, slots) for b, t in zip(bodies, taken, strict=True)]
        linear = [
            self._linear(body, p, t, num_outs, slots)
            for body, p, t in zip(bodies, places, taken, strict=True)
        ]
        self.known = tuple(known)
        self.linear = tuple(linear)

    def _linear(
        self,
        body: Linearized,
        places: dict[Atom, tuple[str, int]],
        taken: dict[Atom, int],
        num_outs: int,
        slots: list[Aval],
    ) -> Program:
        known_inputs, known_outputs = body.known.inputs, body.known.outputs
        kept = {
            **{("operand", k): Variable(known_inputs[k].aval) for k in self.operands},
            **{("result", k): Variable(known_outputs[k].aval) for k in self.results},
            **{("slot", k): Variable(aval) for k, aval in enumerate(slots)},
        }
        residuals, tangents = split(body.linear.inputs, body.num_residuals)
        names: dict[Variable, Atom] = {}
        for variable, atom in zip(residuals, known_outputs[num_outs:], strict=True):
            if isinstance(atom, Literal):
                names[variable] = atom
            elif atom in places:
                names[variable] = kept[places[atom]]
            else:
                names[variable] = kept[("slot", taken[atom])]
        program = substitute(body.linear, names)
        return program.replace(inputs=[*kept.values(), *tangents])


def _places(body: Linearized, num_outs: int) -> dict[Atom, tuple[str, int]]:
    """Which of a branch's residuals are operands or results, and which."""
    known = body.known
    found: dict[Atom, tuple[str, int]] = {}
    for k, atom in enumerate(known.outputs[:num_outs]):
        if type(atom) is Variable:
            found[atom] = ("result", k)
    for k, variable in enumerate(known.inputs):
        found[variable] = ("operand", k)
    residuals = set(known.outputs[num_outs:])
    return {atom: place for atom, place in found.items() if atom in residuals}


def _take_slots(
    body: Linearized, places: dict[Atom, tuple[str, int]], num_outs: int, slots: list[Aval]
) -> dict[Atom, int]:
    """The slot of each other residual of a branch; new slots are added to the list."""
    taken: dict[Atom, int] = {}
    for atom in body.known.outputs[num_outs:]:
        if isinstance(atom, Literal) or atom in places or atom in taken:
            continue
        used = set(taken.values())
        aval = atom.aval.strong()
        free = (k for k, slot in enumerate(slots) if slot == aval and k not in used)
        position = next(free, len(slots))
        if position == len(slots):
            slots.append(aval)
        taken[atom] = position
    return taken


def _with_slots(
    body: Linearized, taken: dict[Atom, int], num_outs: int, slots: list[Aval]
) -> Program:
    outputs: list[Atom] = body.known.outputs[:num_outs]
    equations: list[Equation] = list(body.known.equations)
    by_slot = {k: atom for atom, k in taken.items()}
    for k, aval in enumerate(slots):
        atom = by_slot.get(k)
        if atom is None:
            atom, more = zero_atom(aval)
            equations += more
        outputs.append(atom)
    return body.known.replace(equations=equations, outputs=outputs)


def _cond_transpose(
    ctx: Context, cts: Sequence[Any], index: Any, *operands: Any, branches: Branches
) -> list[Any]:
    linear = [type(a) is Linear for a in operands]
    used = [type(ct) is not Zero for ct in cts]
    pullbacks = tuple(
        [ctx.transpose(prune(b.replace(outputs=chosen(b.outputs, used))), linear) for b in branches]
    )
    results = iter(cond(index, *others(operands, linear), *chosen(cts, used), branches=pullbacks))
    return [None, *[next(results) if lin else None for lin in linear]]


# --- batching -------------------------------------------------------------------------------------


def _cond_batch(
    ctx: BatchContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    branches: Branches,
) -> tuple[list[Any], list[int | None]]:
    index, *operands = args
    batched = [d is not None for d in dims[1:]]
    operands = front(operands, dims[1:])
    if dims[0] is not None:
        return _batch_by_choice(ctx, move_axis(index, dims[0], 0), operands, batched, branches)
    wanted = [False] * len(branches[0].outputs)
    for branch in branches:
        wanted = either(wanted, ctx.batch(branch, batched)[1])
    mapped = tuple([ctx.batch(branch, batched, wanted)[0] for branch in branches])
    outs = cond(index, *operands, branches=mapped)
    return outs, [0 if b else None for b in wanted]


def _batch_by_choice(
    ctx: BatchContext,
    index: Any,
    operands: Sequence[Any],
    batched: list[bool],
    branches: Branches,
) -> tuple[list[Any], list[int | None]]:
    """All branches for all lanes, and of their results each lane's own."""
    from covector.ops.elementwise import clamp, eq, ne, select_n
    from covector.ops.shape import broadcast_in_dim

    if _cond_effects(branches=branches):
        raise UnsupportedRuleError(
            "vmap of a cond or switch whose predicate differs between lanes runs all branches, "
            "and one of them has side effects (a callback or debug print): "
            "move it out of the branches"
        )
    last = len(branches) - 1
    index = clamp(common.like(index, 0), index, common.like(index, last))
    which = ne(index, common.like(index, 0)) if last == 1 else index
    every: list[list[Any]] = []
    for k, branch in enumerate(branches):
        taken = eq(index, common.like(index, k))
        flags, values = batched, _without_idle_derivatives(taken, operands, batched)
        if loops_inside(branch):
            branch = guard_loops(branch)
            flags, values = [True, *batched], [taken, *values]
        mapped, _ = ctx.batch(branch, flags, True)
        every.append(eval_program(mapped, *values))
    outs: list[Any] = []
    for cases in zip(*every, strict=True):
        shape = aval_of(cases[0]).shape
        pick = broadcast_in_dim(which, shape=shape, broadcast_dimensions=(0,))
        outs.append(cases[0] if all([c is cases[0] for c in cases]) else select_n(pick, *cases))
    return outs, [0] * len(outs)


def _without_idle_derivatives(
    taken: Any, operands: Sequence[Any], batched: Sequence[bool]
) -> list[Any]:
    """The operands of a branch, with no derivative in the lanes that do not take it.

    There it may be infinite, and a select would turn it into NaN instead of dropping it.
    """
    from covector.ops.elementwise import select_n
    from covector.ops.gradient import stop_gradient
    from covector.ops.shape import broadcast_in_dim

    values: list[Any] = []
    for x, has_lanes in zip(operands, batched, strict=True):
        aval = aval_of(x)
        if has_lanes and dtypes.is_inexact(aval.dtype):
            mask = broadcast_in_dim(taken, shape=aval.shape, broadcast_dimensions=(0,))
            x = select_n(mask, stop_gradient(x), x)
        values.append(x)
    return values


# --- native code ----------------------------------------------------------------------------------


def _cond_lower(b: Lowering, index: Tensor, *operands: Tensor, branches: Branches) -> list[Tensor]:
    builder = b.builder
    taken = index.at(())
    own = next(
        (k for k, t in enumerate(operands) if type(t) is Stored and b.owns(t)), len(operands)
    )
    output, in_place = _updated_by_all(branches, operands, own)
    places = _Results(b, branches[0].output_avals, output, operands[own] if in_place else None)

    def run(k: int) -> list[Any]:
        overwrites = in_place[k] if in_place else {}
        targets = places.targets(branches[k], output)
        return places.keep(b.inline(branches[k], operands, overwrites, targets))

    def choose(first: int) -> list[Any]:
        if first == len(branches) - 1:
            return run(first)
        here = builder.op("le", taken, first)
        return builder.if_(here, lambda: run(first), lambda: choose(first + 1))

    return places.tensors(choose(0))


def _updated_by_all(
    branches: Branches, operands: Sequence[Tensor], own: int
) -> tuple[int, list[dict[int, list[tuple[Overwrite, Stored]]]]]:
    """The result that every branch leaves in an operand's buffer, and how; -1 if there is none."""
    if own == len(operands):
        return -1, []
    tensor = operands[own]
    assert type(tensor) is Stored
    for output in range(len(branches[0].outputs)):
        ways = [path(p, p.inputs[own], p.outputs[output]) for p in branches]
        if all([way is not None for way in ways]):
            return output, [{id(o.equation): [(o, tensor)] for o in way or ()} for way in ways]
    return -1, []


class _Results:
    """Where a branch leaves its results: few elements in SSA values, more in a buffer."""

    def __init__(
        self, b: Lowering, avals: Sequence[Aval], own: int = -1, place: Tensor | None = None
    ) -> None:
        self._b = b
        self._shapes = [b.extents(aval) for aval in avals]
        self._dtypes = [b.element_dtype(aval) for aval in avals]
        self._buffers: list[Stored | None] = []
        total = 0
        for k, (shape, dtype) in enumerate(zip(self._shapes, self._dtypes, strict=True)):
            size = static_size(shape)
            if k == own:
                assert type(place) is Stored
                self._buffers.append(place)
            elif size is not None and size <= MAX_ELEMENTS and total + size <= MAX_TOTAL:
                total += size
                self._buffers.append(None)
            else:
                self._buffers.append(b.new(shape, dtype, k))

    def targets(self, branch: Program, own: int) -> dict[Variable, Stored]:
        """Where a branch should leave its results, apart from one that is in its place already."""
        found: dict[Variable, Stored] = {}
        for k, (atom, buffer) in enumerate(zip(branch.outputs, self._buffers, strict=True)):
            if type(atom) is Variable and buffer is not None and k != own:
                found.setdefault(atom, buffer)
        return found

    def keep(self, tensors: Sequence[Tensor]) -> list[Any]:
        """Stores the results in buffers and gives the others' elements."""
        scalars: list[Any] = []
        for tensor, buffer in zip(tensors, self._buffers, strict=True):
            if buffer is None:
                scalars += [tensor.at(i) for i in np.ndindex(*tensor.shape)]
            elif not (type(tensor) is Stored and tensor.buffer is buffer.buffer):
                self._b.fill(buffer, tensor)
        return scalars

    def tensors(self, scalars: Sequence[Any]) -> list[Tensor]:
        """The results after the branch."""
        given = iter(scalars)
        return [
            as_registers(self._b, shape, dtype, given) if buffer is None else buffer
            for shape, dtype, buffer in zip(self._shapes, self._dtypes, self._buffers, strict=True)
        ]


cond = Primitive(
    "cond",
    shape=_cond_shape,
    evaluate=_cond_evaluate,
    jvp=_cond_jvp,
    linearize=_cond_linearize,
    transpose=_cond_transpose,
    batch=_cond_batch,
    lanes=unsupported("the lanes pass walks into its programs"),
    lower=_cond_lower,
    effects=_cond_effects,
    multiple_results=True,
    compiled=True,
    tags=frozenset({"control"}),
)
