"""Solutions of equations, differentiated by what they solve: `custom_linear_solve`, `custom_root`.

The programs of one call take the same constants first: all that any of the user's functions reads
from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from covector.core.avals import Aval, Linear, Zero, same_type
from covector.core.errors import UnsupportedRuleError, compose
from covector.core.primitive import BatchContext, Context, Primitive, unsupported
from covector.core.program import Program
from covector.core.source import here
from covector.core.trace import aval_of, eval_program
from covector.ops.call import effects_of_call, evaluate_call, lower_call
from covector.ops.common import add_tangents, batch_at_front, front, instantiate
from covector.ops.nested import split


def _shape(*avals: Aval, program: Program, **params: Any) -> list[Aval]:
    wanted = program.input_avals
    if len(avals) != len(wanted) or not all(map(same_type, avals, wanted)):
        raise TypeError(f"the solver takes {wanted}, got {list(avals)}")
    return program.output_avals


def _direct(*operands: Any, program: Program, **params: Any) -> list[Any]:
    return eval_program(program, *operands)


def _change(
    ctx: Context,
    program: Program,
    consts: Sequence[Any],
    const_ts: Sequence[Any],
    point: Sequence[Any],
) -> list[Any]:
    """How the outputs of `consts, point -> outputs` change with the constants alone."""
    nonzero = [type(t) is not Zero for t in const_ts]
    avals = program.output_avals
    if not any(nonzero):
        return [Zero(a.tangent()) for a in avals]
    both, nonzero_out = ctx.jvp(program, nonzero + [False] * len(point))
    given = [t for t, n in zip(const_ts, nonzero, strict=True) if n]
    results = iter(eval_program(both, *consts, *point, *given)[len(avals) :])
    return [
        next(results) if n else Zero(a.tangent()) for a, n in zip(avals, nonzero_out, strict=True)
    ]


def _negative(tangent: Any) -> Any:
    from covector.ops.elementwise import neg

    return tangent if type(tangent) is Zero else neg(tangent)


def _all_batched(
    ctx: BatchContext, args: Sequence[Any], dims: Sequence[int | None], num_consts: int
) -> tuple[list[Any], list[bool]]:
    """Operands with their batch axis first, the unknowns' all with one; which constants have it."""
    consts = front(args[:num_consts], dims[:num_consts])
    unknowns = [
        batch_at_front(x, d, ctx.axis_size)
        for x, d in zip(args[num_consts:], dims[num_consts:], strict=True)
    ]
    return consts + unknowns, [d is not None for d in dims[:num_consts]]


# --- custom_linear_solve --------------------------------------------------------------------------


def _linear_solve_jvp(
    ctx: Context,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    matvec: Program,
    num_consts: int,
    **params: Any,
) -> tuple[list[Any], list[Any]]:
    # A x = b, so that A dx = db - dA x.
    params |= {"matvec": matvec, "num_consts": num_consts}
    results = custom_linear_solve(*primals, **params)
    consts, b = split(primals, num_consts)
    const_ts, b_ts = split(tangents, num_consts)
    x, aux = split(results, len(b))
    moved = _change(ctx, matvec, consts, const_ts, x)
    right = [add_tangents(t, _negative(m)) for t, m in zip(b_ts, moved, strict=True)]
    aux_ts = [Zero(aval_of(a).tangent()) for a in aux]
    if all([type(t) is Zero for t in right]):
        return results, [*right, *aux_ts]
    solved = custom_linear_solve(*consts, *map(instantiate, right), **params)
    return results, [*solved[: len(b)], *aux_ts]


def _linear_solve_transpose(
    ctx: Context,
    cts: Sequence[Any],
    *args: Any,
    program: Program,
    matvec: Program,
    transpose_program: Program | None,
    vecmat: Program | None,
    num_consts: int,
) -> list[Any]:
    consts, b = split(args, num_consts)
    if any([type(c) is Linear for c in consts]):
        raise UnsupportedRuleError(
            "custom_linear_solve is linear in its right-hand side alone, not in what its functions "
            "close over"
        )
    if transpose_program is None or vecmat is None:
        raise TypeError(
            compose(
                "reverse mode of custom_linear_solve solves with the transposed matrix",
                found="a call without transpose_solve",
                fix="pass transpose_solve, or symmetric=True if matvec is symmetric",
                line=here(),
            )
        )
    results = custom_linear_solve(
        *consts,
        *map(instantiate, cts[: len(b)]),
        program=transpose_program,
        matvec=vecmat,
        transpose_program=program,
        vecmat=matvec,
        num_consts=num_consts,
    )
    return [None] * num_consts + results[: len(b)]


def _linear_solve_batch(
    ctx: BatchContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    num_consts: int,
    **programs: Program | None,
) -> tuple[list[Any], list[int | None]]:
    operands, const_b = _all_batched(ctx, args, dims, num_consts)
    flags = const_b + [True] * (len(args) - num_consts)
    batched = {
        name: None if program is None else ctx.batch(program, flags, True)[0]
        for name, program in programs.items()
    }
    outs = custom_linear_solve(*operands, num_consts=num_consts, **batched)
    return outs, [0] * len(outs)


custom_linear_solve = Primitive(
    "custom_linear_solve",
    shape=_shape,
    evaluate=evaluate_call,
    jvp=_linear_solve_jvp,
    transpose=_linear_solve_transpose,
    batch=_linear_solve_batch,
    lanes=unsupported("calls are inlined before lanes are looked for"),
    lower=lower_call,
    effects=effects_of_call,
    direct=_direct,
    multiple_results=True,
    tags=frozenset({"call", "control"}),
)
"""`consts, b -> x, aux` such that `matvec(consts, x) = b`, by `program`.

`transpose_program` solves the transposed equation, `vecmat(consts, y) = c`; both may be `None`.
"""

# --- custom_root ----------------------------------------------------------------------------------


def _root_jvp(
    ctx: Context,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    f: Program,
    tangent_solve: Program,
    num_consts: int,
    **params: Any,
) -> tuple[list[Any], list[Any]]:
    # f(c, x) = 0 holds around the root, so that (df/dx) dx = -(df/dc) dc.
    results = custom_root(
        *primals, f=f, tangent_solve=tangent_solve, num_consts=num_consts, **params
    )
    consts, guess = split(primals, num_consts)
    root, aux = split(results, len(guess))
    aux_ts = [Zero(aval_of(a).tangent()) for a in aux]
    moved = _change(ctx, f, consts, tangents[:num_consts], root)
    if all([type(m) is Zero for m in moved]):
        return results, [Zero(aval_of(r).tangent()) for r in root] + aux_ts
    solved = eval_program(tangent_solve, *consts, *root, *map(instantiate, moved))
    return results, [*map(_negative, solved), *aux_ts]


def _root_batch(
    ctx: BatchContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    program: Program,
    f: Program,
    tangent_solve: Program,
    num_consts: int,
) -> tuple[list[Any], list[int | None]]:
    operands, const_b = _all_batched(ctx, args, dims, num_consts)
    count = len(args) - num_consts
    outs = custom_root(
        *operands,
        program=ctx.batch(program, const_b + [True] * count, True)[0],
        f=ctx.batch(f, const_b + [True] * count, True)[0],
        tangent_solve=ctx.batch(tangent_solve, const_b + [True] * (2 * count), True)[0],
        num_consts=num_consts,
    )
    return outs, [0] * len(outs)


custom_root = Primitive(
    "custom_root",
    shape=_shape,
    evaluate=evaluate_call,
    jvp=_root_jvp,
    transpose=unsupported("a root is not a linear function of what the equation depends on"),
    batch=_root_batch,
    lanes=unsupported("calls are inlined before lanes are looked for"),
    lower=lower_call,
    effects=effects_of_call,
    direct=_direct,
    multiple_results=True,
    tags=frozenset({"call", "control"}),
)
"""`consts, guess -> root, aux` such that `f(consts, root) = 0`, by `program`.

`tangent_solve(consts, root, y)` solves `(df/dx) dx = y` at the root.
"""
