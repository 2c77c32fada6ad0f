"""Random programs, as Hypothesis strategies: for tests of whatever takes a program.

They are well formed (`covector.core.verify.verify` accepts them), small, and cheap to run; nested
programs, several dtypes, literals and dead equations occur.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from covector.core import dtypes
from covector.core.array import Array
from covector.core.avals import Aval, same_type
from covector.core.effects import NONE
from covector.core.primitive import REGISTRY
from covector.core.program import Atom, Equation, Literal, Program, Variable
from covector.ops.registry import load_all

Draw = Callable[[st.SearchStrategy[Any]], Any]

_SHAPES = ((), (3,), (2, 3), (1, 3), (2, 0))
_DTYPES = (dtypes.float32, dtypes.int32, dtypes.bool_)
_UNARY = ("neg", "sin", "cos", "tanh", "abs", "floor", "square", "sign")
_BINARY = ("add", "sub", "mul", "max", "min")
_COMPARISONS = ("eq", "ne", "lt", "ge")
_REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min")


@st.composite
def programs(draw: Draw, max_equations: int = 12) -> Program:
    """Programs with up to `max_equations` equations.

    Example:
        >>> from hypothesis import given
        >>> from covector.core.verify import verify
        >>> @given(program=programs())
        ... def test_random_programs_verify(program):
        ...     verify(program)
    """
    kinds = [draw(avals()) for _ in range(draw(st.integers(1, 3)))]
    program = _draw_program(draw, kinds, max_equations, depth=2)
    outputs = [draw(st.sampled_from(_atoms(program))) for _ in range(draw(st.integers(0, 3)))]
    name = draw(st.sampled_from(["", "f", "<lambda>"]))
    return Program(program.inputs, program.equations, outputs, name)


def _draw_program(draw: Draw, kinds: Sequence[Aval], max_equations: int, depth: int) -> Program:
    """A program without outputs; `depth` bounds the nesting of programs."""
    inputs = [Variable(aval.strong()) if depth < 2 else Variable(aval) for aval in kinds]
    pool: list[Atom] = [*inputs, draw(literals())]
    equations: list[Equation] = []
    rules = _RULES + _NESTED_RULES if depth else _RULES
    for _ in range(draw(st.integers(0, max_equations))):
        equation = draw(st.sampled_from(rules))(draw, pool, depth)
        if equation is not None:
            equations.append(equation)
            pool += equation.outputs
    return Program(inputs, equations, pool[len(inputs) : len(inputs) + 1])


def _atoms(program: Program) -> list[Atom]:
    """What a program from `_draw_program` may return: its one output is a literal of its pool."""
    computed = [v for e in program.equations for v in e.outputs]
    return [*program.inputs, *program.outputs, *computed]


@st.composite
def avals(draw: Draw) -> Aval:
    """Avals of small arrays."""
    shape, dtype = draw(st.sampled_from(_SHAPES)), draw(st.sampled_from(_DTYPES))
    return Aval(shape, dtype, draw(st.booleans()) if dtype != dtypes.bool_ else False)


@st.composite
def literals(draw: Draw, aval: Aval | None = None) -> Literal:
    """Literals with small values, of an aval or of any."""
    kind: Aval = draw(avals()) if aval is None else aval
    values = [draw(st.integers(-2, 3)) / 2 for _ in range(kind.size)]
    data = np.array(values).reshape(kind.shape).astype(kind.dtype)
    return Literal(Array.of(data, kind), kind)


def arguments(program: Program, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    """NumPy arrays that a program without symbolic dimensions can be run on."""
    generator = np.random.default_rng(seed)
    return [
        np.asarray(generator.normal(0, 2, aval.shape)).astype(aval.dtype)
        for aval in program.input_avals
    ]


def apply(name: str, inputs: Sequence[Atom], /, **params: Any) -> Equation:
    """The equation that applies a primitive, with new variables for its results."""
    load_all()
    primitive = REGISTRY[name]
    results = primitive.shape(*[a.aval for a in inputs], **params)
    outputs = [Variable(a) for a in (results if primitive.multiple_results else [results])]
    effects = NONE if primitive.effects is None else primitive.effects(**params)
    return Equation(primitive, list(inputs), outputs, params, effects)


def _pick(draw: Draw, pool: Sequence[Atom], accept: Callable[[Aval], bool]) -> Atom | None:
    fitting = [a for a in pool if accept(a.aval)]
    return draw(st.sampled_from(fitting)) if fitting else None


def _is_float(aval: Aval) -> bool:
    return aval.dtype == dtypes.float32


def _unary(draw: Draw, pool: Sequence[Atom], depth: int) -> Equation | None:
    x = _pick(draw, pool, _is_float)
    return None if x is None else apply(draw(st.sampled_from(_UNARY)), [x])


def _pair(draw: Draw, pool: Sequence[Atom]) -> list[Atom] | None:
    """Two operands of an elementwise operation: equal shapes, or one of rank 0."""
    x = _pick(draw, pool, lambda a: a.dtype != dtypes.bool_)
    if x is None:
        return None
    y = _pick(
        draw,
        pool,
        lambda a: a.dtype == x.aval.dtype and (a.shape in ((), x.aval.shape)),
    )
    return None if y is None else [x, y]


def _binary(draw: Draw, pool: Sequence[Atom], depth: int) -> Equation | None:
    pair = _pair(draw, pool)
    return None if pair is None else apply(draw(st.sampled_from(_BINARY)), pair)


def _comparison(draw: Draw, pool: Sequence[Atom], depth: int) -> Equation | None:
    pair = _pair(draw, pool)
    return None if pair is None else apply(draw(st.sampled_from(_COMPARISONS)), pair)


def _select(draw: Draw, pool: Sequence[Atom], depth: int) -> Equation | None:
    which = _pick(draw, pool, lambda a: a.dtype == dtypes.bool_)
    if which is None:
        return None
    shape = which.aval.shape
    x = _pick(draw, pool, lambda a: a.shape == shape)
    if x is None:
        return None
    y = _pick(draw, pool, lambda a: a.shape == shape and a.dtype == x.aval.dtype)
    return None if y is None else apply("select_n", [which, x, y])


def _convert(draw: Draw, pool: Sequence[Atom], depth: int) -> Equation | None:
    x = draw(st.sampled_from(list(pool)))
    dtype = draw(st.sampled_from(_DTYPES))
    return apply("convert_element_type", [x], new_dtype=dtype, weak_type=False)


def _broadcast(draw: Draw, pool: Sequence[Atom], depth: int) -> Equation | None:
    x = _pick(draw, pool, lambda a: a.ndim < 2)
    if x is None:
        return None
    rank = x.aval.ndim
    return apply(
        "broadcast_in_dim",
        [x],
        shape=(2, *x.aval.shape),
        broadcast_dimensions=tuple(range(1, rank + 1)),
    )


def _transpose(draw: Draw, pool: Sequence[Atom], depth: int) -> Equation | None:
    x = _pick(draw, pool, lambda a: a.ndim > 1)
    return (
        None if x is None else apply("transpose", [x], permutation=tuple(range(x.aval.ndim))[::-1])
    )


def _reduce(draw: Draw, pool: Sequence[Atom], depth: int) -> Equation | None:
    x = _pick(draw, pool, lambda a: a.ndim > 0 and a.size > 0 and a.dtype != dtypes.bool_)
    if x is None:
        return None
    axes = draw(st.sets(st.integers(0, x.aval.ndim - 1)))
    return apply(draw(st.sampled_from(_REDUCTIONS)), [x], axes=tuple(sorted(axes)))


def _nested(draw: Draw, kinds: Sequence[Aval], depth: int, wanted: Sequence[Aval]) -> Program:
    """A program with results of the wanted avals, up to weak types, then at most one more."""
    program = _draw_program(draw, kinds, max_equations=3, depth=depth - 1)
    atoms = _atoms(program)
    results = [
        draw(st.sampled_from([a for a in atoms if same_type(a.aval, aval)])) for aval in wanted
    ]
    extra = [draw(st.sampled_from(atoms))] if draw(st.booleans()) else []
    return Program(program.inputs, program.equations, [*results, *extra], "nested")


def _operands(draw: Draw, pool: Sequence[Atom]) -> list[Atom]:
    return [draw(st.sampled_from(list(pool))) for _ in range(draw(st.integers(1, 2)))]


def _jit(draw: Draw, pool: Sequence[Atom], depth: int) -> Equation:
    operands = _operands(draw, pool)
    program = _nested(draw, [a.aval for a in operands], depth, [])
    return apply("jit", operands, program=program, name="nested", inline=False)


def _cond(draw: Draw, pool: Sequence[Atom], depth: int) -> Equation:
    operands = _operands(draw, pool)
    kinds = [a.aval for a in operands]
    branch = _nested(draw, kinds, depth, kinds[:1])
    constants = [draw(literals(aval.strong())) for aval in branch.output_avals]
    other = Program([Variable(aval) for aval in kinds], [], constants, "other")
    index = draw(literals(Aval((), dtypes.int32)))
    return apply("cond", [index, *operands], branches=(branch, other))


def _scan(draw: Draw, pool: Sequence[Atom], depth: int) -> Equation:
    (carry, *consts) = _operands(draw, pool)
    xs = [a for a in pool if a.aval.ndim == 2 and a.aval.shape[0] == 2][:1]
    slices = [a.aval.update(shape=a.aval.shape[1:]) for a in xs]
    kinds = [*[a.aval for a in consts], carry.aval, *slices]
    return apply(
        "scan",
        [*consts, carry, *xs],
        program=_nested(draw, kinds, depth, [carry.aval]),
        num_consts=len(consts),
        num_carry=1,
        length=2,
        reverse=draw(st.booleans()),
        unroll=1,
    )


def _while(draw: Draw, pool: Sequence[Atom], depth: int) -> Equation:
    """Three iterations that change one value."""
    value = draw(st.sampled_from(list(pool)))
    counter = Aval((), dtypes.int32)
    count, ignored = Variable(counter), Variable(value.aval)
    test = apply("lt", [count, _integer(3)])
    condition = Program([count, ignored], [test], test.outputs, "condition")
    body = _nested(draw, [value.aval], depth, [value.aval])
    count = Variable(counter)
    step = apply("add", [count, _integer(1)])
    equations = [*body.equations, step]
    return apply(
        "while",
        [_integer(0), value],
        cond_program=condition,
        cond_nconsts=0,
        body_program=Program(
            [count, *body.inputs], equations, [*step.outputs, body.outputs[0]], "body"
        ),
        body_nconsts=0,
    )


def _integer(value: int) -> Literal:
    aval = Aval((), dtypes.int32)
    return Literal(Array.of(np.array(value, np.int32), aval), aval)


_RULES: list[Any] = [
    _unary,
    _binary,
    _comparison,
    _select,
    _convert,
    _broadcast,
    _transpose,
    _reduce,
]
_NESTED_RULES: list[Any] = [_jit, _cond, _scan, _while]
