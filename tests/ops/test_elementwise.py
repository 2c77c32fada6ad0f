"""Elementwise operations against JAX: values, types, derivatives, batching."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from fractions import Fraction
from functools import cache, partial
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest

import covector as cv
from covector.core import dtypes
from covector.core.array import Array, as_array
from covector.core.avals import Aval
from covector.core.primitive import REGISTRY, RULES
from covector.core.trace import trace_program
from covector.ops import elementwise as ops
from covector.ops.common import Inseparable
from covector.ops.registry import load_all
from covector.testing.optable import COMPLEXES, OpRow, all_rows, cases, edge_operands, ulps_between
from covector.testing.rows.elementwise import ROWS

RARE = ("i16", "i32", "i64", "u16", "u32", "u64", "f16", "c128")
QUICK = {"xla_backend_optimization_level": 0}


@pytest.fixture(autouse=True)
def _x64() -> Iterator[None]:
    with cv.enable_x64(True), jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def case_ids(pairs: list[tuple[OpRow, str]]) -> list[str]:
    return [f"{row}-{dtype}" for row, dtype in pairs]


def operands_of(row: OpRow, dtype: str) -> list[np.ndarray[Any, Any]]:
    """Random operands, followed by combinations of the ends of the dtypes' ranges."""
    sampled = row.sample(0, dtype, (200,))
    edges = edge_operands(row, dtype)
    if edges is None:
        return sampled
    return [np.concatenate(pair) for pair in zip(sampled, edges, strict=True)]


def evaluate(row: OpRow, operands: list[np.ndarray[Any, Any]]) -> Array:
    return row(*[as_array(x) for x in operands])


@cache
def oracle(dtype: str) -> dict[str, np.ndarray[Any, Any]]:
    """JAX's values of all rows, compiled at once."""
    return jax_values([row for row, d in COMPARED if d == dtype], dtype)


def jax_values(rows: list[OpRow], dtype: str) -> dict[str, np.ndarray[Any, Any]]:
    operands = [operands_of(row, dtype) for row in rows]

    def all_of(operands: Any) -> Any:
        return [row.jax_twin(jax)(*xs) for row, xs in zip(rows, operands, strict=True)]

    results = jax.jit(all_of, compiler_options=QUICK)(operands)
    return {row.name: np.asarray(r) for row, r in zip(rows, results, strict=True)}


def assert_agree(
    row: OpRow,
    operands: Any,
    found: np.ndarray[Any, Any],
    expected: np.ndarray[Any, Any],
    by: float,
) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if dtypes.is_inexact(found.dtype):
        bad = ulps_between(found, expected, row.roots) > by
    else:
        bad = found != expected
    if bad.any():
        place = tuple(np.argwhere(bad)[0])
        at = [np.broadcast_to(x, found.shape)[place] for x in operands if x.ndim == found.ndim]
        pytest.fail(f"{row}{at}: {found[place]!r}, JAX {expected[place]!r}; {bad.sum()} differ")


# --- values and types ---------------------------------------------------------------------------

# XLA takes ten seconds to compile its incomplete gamma and beta functions.
LENGTHY = ("igamma", "igammac", "igamma_grad_a", "random_gamma_grad", "regularized_incomplete_beta")
COMPARED = [case for case in cases(ROWS) if case[0].jax and case[0].name not in LENGTHY]
# Compiling JAX's side of each dtype takes a second or two; some dtypes stand for others.
EVERYWHERE = [
    pytest.param(row, dtype, marks=[pytest.mark.slow] if dtype in RARE else [], id=f"{row}-{dtype}")
    for row, dtype in COMPARED
]


@pytest.mark.parametrize(("row", "dtype"), EVERYWHERE)
def test_values_are_those_of_jax(row: OpRow, dtype: str) -> None:
    operands = operands_of(row, dtype)
    # Errors of complex functions are relative to the whole number, and grow near their poles.
    by = max(row.ulps, 256) if dtype in COMPLEXES else row.ulps
    found, expected = np.asarray(evaluate(row, operands)), oracle(dtype)[row.name]
    if row.name == "digamma" and jax.__version_info__ < (0, 11):
        # Older versions say NaN at the pole.
        regular = operands[0] != 0
        operands, found, expected = [operands[0][regular]], found[regular], expected[regular]
    assert_agree(row, operands, found, expected, by)


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in ROWS if row.name in LENGTHY], ids=str)
def test_lengthy_functions_are_those_of_jax(row: OpRow) -> None:
    operands = operands_of(row, "f64")
    expected = jax_values([row], "f64")[row.name]
    assert_agree(row, operands, np.asarray(evaluate(row, operands)), expected, row.ulps)


@pytest.mark.parametrize("row", [row for row in ROWS if row.numpy], ids=str)
def test_values_are_those_of_numpy(row: OpRow) -> None:
    dtype = next(d for d in ("f64", "c128", "i64", *row.dtypes) if d in row.dtypes)
    operands = row.sample(2, dtype)
    assert row.numpy is not None
    with np.errstate(all="ignore"):
        expected = row.numpy(*operands)
    np.testing.assert_allclose(np.asarray(evaluate(row, operands)), expected, rtol=1e-13)


def scalars(row: OpRow, weak: bool) -> Any:
    dtype = next(d for d in ("f64", "c128", "i64", *row.dtypes) if d in row.dtypes)
    return [x.item() if weak else x for x in row.sample(0, dtype, ())]


def has_free_shape(row: OpRow) -> bool:
    return all(o.shape is None for o in row.operands)


SCALAR_ROWS = [r for r in ROWS if r.jax and has_free_shape(r) and not r.name.startswith("conj")]


@pytest.mark.parametrize("row", SCALAR_ROWS, ids=str)
@pytest.mark.parametrize("weak", [True, False])
def test_weak_types_are_those_of_jax(row: OpRow, weak: bool) -> None:
    values = scalars(row, weak)
    (expected,) = jax.make_jaxpr(row.jax_twin(jax))(*values).out_avals
    aval = row(*values).aval
    assert (aval.shape, aval.dtype, aval.weak_type) == ((), expected.dtype, expected.weak_type)


@pytest.mark.parametrize(("row", "dtype"), list(cases(ROWS)), ids=case_ids(list(cases(ROWS))))
@pytest.mark.parametrize("shape", [(), (0, 3)], ids=str)
def test_evaluation_keeps_what_the_shape_rule_says(
    row: OpRow, dtype: str, shape: tuple[int, ...]
) -> None:
    operands = row.sample(0, dtype, shape)
    with np.errstate(all="ignore"):
        value = row.op.evaluate(*operands, **row.params)
    aval = row.op.shape(*[Aval(x.shape, x.dtype) for x in operands], **row.params)
    assert isinstance(value, np.ndarray)
    assert (value.shape, value.dtype) == (aval.shape, aval.dtype)
    assert value.flags.c_contiguous


NARY_ROWS = [r for r in ROWS if len(r.operands) > 1 and has_free_shape(r)]


@pytest.mark.parametrize("row", NARY_ROWS, ids=str)
def test_rank_0_operands_are_used_at_every_element(row: OpRow) -> None:
    dtype = next(d for d in ("f64", "c128", "i64", *row.dtypes) if d in row.dtypes)
    operands = row.sample(3, dtype, (3, 4))
    for k, x in enumerate(operands):
        mixed, full = list(operands), list(operands)
        mixed[k], full[k] = x[0, 0], np.full((3, 4), x[0, 0])
        expected = np.asarray(evaluate(row, full))
        np.testing.assert_array_equal(np.asarray(evaluate(row, mixed)), expected)


def test_small_subnormals_are_kept() -> None:
    x = as_array(np.array([1e-40, -3e-45], np.float32))
    np.testing.assert_array_equal(np.asarray(ops.neg(ops.neg(x))), np.asarray(x))
    assert np.asarray(ops.exp(as_array(np.float32(-100.0)))) > 0


def test_conversions_to_bfloat16_round_once() -> None:
    wide = np.array([1 + 2.0**-8 + 2.0**-40, 1 + 3 * 2.0**-8 - 2.0**-40, 1e-60, 3e38, 1e300])
    narrow = ops.convert_values(wide, np.dtype(ml_dtypes.bfloat16)).astype(np.float64)
    np.testing.assert_array_equal(narrow[:3], [1 + 2.0**-7, 1 + 2.0**-7, 0.0])
    assert narrow[4] == np.inf
    ints = np.array([(1 << 33) + (1 << 25) + 1, -(2**63), 0, 2**62 + 2**54 - 1])
    expected = [(1 << 33) + (1 << 26), -(2**63), 0, 2**62]
    found = ops.convert_values(ints, np.dtype(ml_dtypes.bfloat16)).astype(np.float64)
    np.testing.assert_array_equal(found, expected)


BRANCHED = ["sqrt", "log", "log1p", "asin", "acos", "atan", "asinh", "acosh", "atanh"]


@pytest.mark.parametrize("name", BRANCHED)
def test_branch_cuts_are_those_of_numpy(name: str) -> None:
    twin = next(row.numpy for row in ROWS if row.name == name)
    assert twin is not None
    parts = [-3.0, -1.5, -0.5, -0.0, 0.0, 0.5, 1.5, 3.0]
    z = np.array([complex(a, b) for a in parts for b in parts])
    np.testing.assert_allclose(np.asarray(getattr(ops, name)(as_array(z))), twin(z), rtol=1e-12)


# --- derivatives --------------------------------------------------------------------------------

DIFFERENTIABLE = [
    (row, dtype)
    for row, dtype in cases(ROWS, ("f64", "c128"))
    if row.order > 0 and not (row.name.startswith("convert") and dtype[0] != "f")
]


def active(row: OpRow) -> list[int]:
    if row.differentiable is not None:
        return list(row.differentiable)
    return list(range(len(row.operands)))


def tangents_of(row: OpRow, operands: list[Any], seed: int = 5) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    tangents: list[Any] = []
    for k in active(row):
        x = operands[k]
        t = rng.normal(size=x.shape)
        if dtypes.is_complex(x.dtype):
            t = t + 1j * rng.normal(size=x.shape)
        tangents.append(np.asarray(t, x.dtype))
    return tangents


def restricted(row: OpRow, function: Any, operands: list[Any]) -> Any:
    """The function of the differentiable operands alone."""
    places = active(row)

    def of_active(*xs: Any) -> Any:
        full = list(operands)
        for k, x in zip(places, xs, strict=True):
            full[k] = x
        return function(*full)

    return of_active


@cache
def jvp_oracle(dtype: str) -> dict[str, np.ndarray[Any, Any]]:
    rows = [row for row, d in JVP_COMPARED if d == dtype]
    operands = [operands_of(row, dtype) for row in rows]
    tangents = [tangents_of(row, xs) for row, xs in zip(rows, operands, strict=True)]

    def all_of(operands: Any, tangents: Any) -> Any:
        results: list[Any] = []
        for row, xs, ts in zip(rows, operands, tangents, strict=True):
            function = restricted(row, row.jax_twin(jax), xs)
            results.append(jax.jvp(function, [xs[k] for k in active(row)], ts)[1])
        return results

    found = jax.jit(all_of, compiler_options=QUICK)(operands, tangents)
    return {row.name: np.asarray(r) for row, r in zip(rows, found, strict=True)}


# Without a derivative in JAX, NaN at its ends, off by one where the quotient rounds to an integer.
NOT_THERE = ("zeta", "polygamma", "digamma", "rem")
if jax.__version_info__ < (0, 11):
    # Older versions lose the derivative far below 0, and have no digamma at 0.
    NOT_THERE += ("expm1", "lgamma")
# Newer versions of JAX do not compare complex numbers to choose whose derivative to take.
JVP_COMPARED = [
    case
    for case in DIFFERENTIABLE
    if case in COMPARED
    and case[0].name not in NOT_THERE
    and not (case[0].name in ("max", "min") and case[1] in COMPLEXES)
]
# Where the derivative cancels.
LOOSE_JVP = {"expm1": 1e16, "tanh": 1e9, "tan": 1e9, "atanh": 1e4}


@pytest.mark.parametrize(("row", "dtype"), JVP_COMPARED, ids=case_ids(JVP_COMPARED))
def test_forward_derivatives_are_those_of_jax(row: OpRow, dtype: str) -> None:
    operands = [as_array(x) for x in operands_of(row, dtype)]
    tangents = [as_array(t) for t in tangents_of(row, operands)]
    primals = [operands[k] for k in active(row)]
    _, found = cv.jvp(restricted(row, row, operands), primals, tangents)
    expected, values = jvp_oracle(dtype)[row.name], np.asarray(found)
    if row.name == "acosh" and dtype == "f64":
        # Versions of JAX differ where the function is NaN.
        regular = np.asarray(operands[0]) >= 1
        values, expected = values[regular], expected[regular]
    if row.name == "div":
        # Of a quotient by zero, NaN on one side may be an infinity on the other.
        regular = np.asarray(operands[1]) != 0
        values, expected = values[regular], expected[regular]
    assert_agree(row, [], values, expected, LOOSE_JVP.get(row.name, 4e3))


@pytest.mark.parametrize(("row", "dtype"), DIFFERENTIABLE, ids=case_ids(DIFFERENTIABLE))
def test_reverse_derivatives_are_the_transposes_of_forward_ones(row: OpRow, dtype: str) -> None:
    if not row.reverse or row.name.startswith("reduce_precision"):
        pytest.skip("rounds its cotangents")
    operands = [as_array(x) for x in row.sample(1, dtype)]
    tangents = [as_array(t) for t in tangents_of(row, operands)]
    function = restricted(row, row, operands)
    primals = [operands[k] for k in active(row)]
    out, tangent = cv.jvp(function, primals, tangents)
    rng = np.random.default_rng(0)
    cotangent = rng.normal(size=out.shape)
    if dtypes.is_complex(out.dtype):
        cotangent = cotangent + 1j * rng.normal(size=out.shape)
    _, pullback = cv.vjp(function, *primals)
    pulled = pullback(as_array(np.asarray(cotangent, out.dtype)))
    left = np.sum(cotangent * np.asarray(tangent)).real
    # Cotangents pair without conjugation: only real parts are determined by real functions.
    right = sum(
        np.sum(np.asarray(c) * np.asarray(t)).real for c, t in zip(pulled, tangents, strict=True)
    )
    rounding = float(ml_dtypes.finfo(out.dtype).eps)
    np.testing.assert_allclose(right, left, rtol=1e5 * rounding if rounding < 1e-10 else 0.05)
    assert [c.aval for c in pulled] == [p.aval.strong() for p in primals]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("row", "dtype"), DIFFERENTIABLE, ids=case_ids(DIFFERENTIABLE))
def test_derivatives_are_limits_of_quotients(row: OpRow, dtype: str, order: int) -> None:
    if order > row.order or row.name.startswith(("reduce_precision", "abs", "convert")):
        pytest.skip("not smooth enough")
    operands = [as_array(x) for x in row.sample(4, dtype)]
    tangents = [as_array(t) for t in tangents_of(row, operands)]
    function = restricted(row, row, operands)
    primals = [operands[k] for k in active(row)]

    def derivative(*xs: Any) -> Any:
        return cv.jvp(function, xs, tangents)[1]

    target = function if order == 1 else derivative
    _, found = cv.jvp(target, primals, tangents)
    step = 1e-5
    ahead = [
        ops.add(p, ops.mul(t, as_array(np.asarray(step, t.dtype))))
        for p, t in zip(primals, tangents, strict=True)
    ]
    behind = [
        ops.sub(p, ops.mul(t, as_array(np.asarray(step, t.dtype))))
        for p, t in zip(primals, tangents, strict=True)
    ]
    quotient = (np.asarray(target(*ahead)) - np.asarray(target(*behind))) / (2 * step)
    np.testing.assert_allclose(np.asarray(found), quotient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("row", [r for r in NARY_ROWS if r.order], ids=str)
def test_derivatives_by_rank_0_operands(row: OpRow) -> None:
    dtype = next(d for d in ("f64", "c128") if d in row.dtypes)
    operands = [as_array(x) for x in row.sample(6, dtype, (3, 4))]
    for k in active(row):
        mixed = list(operands)
        mixed[k] = as_array(np.asarray(operands[k])[1, 2])

        def of_scalar(x: Any, k: int = k, mixed: list[Any] = mixed) -> Any:
            return row(*mixed[:k], x, *mixed[k + 1 :])

        one = as_array(np.ones((), mixed[k].dtype))
        out, tangent = cv.jvp(of_scalar, (mixed[k],), (one,))
        assert tangent.aval == out.aval
        _, pullback = cv.vjp(of_scalar, mixed[k])
        (pulled,) = pullback(as_array(np.ones((3, 4), out.dtype)))
        assert pulled.shape == ()
        np.testing.assert_allclose(
            np.asarray(pulled).real, np.sum(np.asarray(tangent)).real, rtol=1e-12
        )


def test_derivative_of_remainder_is_the_exact_quotient() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1e3, 1e3, 500), rng.uniform(0.1, 3, 500) * rng.choice([-1, 1], 500)
    x[:100] = np.rint(x[:100]) * y[:100]  # products round to either side of a multiple
    exact = [-int(Fraction(a) / Fraction(b)) for a, b in zip(x, y, strict=True)]
    one = as_array(np.ones_like(y))
    _, slope = cv.jvp(lambda v: ops.rem(as_array(x), v), (as_array(y),), (one,))
    np.testing.assert_array_equal(np.asarray(slope), exact)


def test_derivatives_at_ties_are_those_of_jax() -> None:
    def slope(function: Any, *xs: float, at: int = 0) -> float:
        return float(cv.grad(lambda *ys: function(*ys), argnums=at)(*map(as_array, xs)))

    assert slope(ops.max_, 1.0, 1.0) == 0.5
    assert slope(ops.min_, 1.0, 1.0, at=1) == 0.5
    assert slope(ops.max_, 0.0, -0.0) == 0.5
    assert slope(ops.abs_, 0.0) == jax.grad(jax.lax.abs)(0.0) == 1.0
    assert slope(ops.sign, 0.0) == 0.0
    for low, x, high in [(0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (2.0, 1.0, 0.0), (0.0, 0.5, 1.0)]:
        for k in range(3):
            expected = float(jax.grad(jax.lax.clamp, k)(low, x, high))
            assert slope(ops.clamp, low, x, high, at=k) == expected
    for x, y in [(0.0, 0.0), (0.0, 1.0), (0.0, 2.0), (0.0, 0.5), (1.0, 0.0), (-1.0, 2.0)]:
        for k in range(2):
            expected = float(jax.grad(jax.lax.pow, k)(x, y))
            np.testing.assert_equal(slope(ops.pow_, x, y, at=k), expected)


# --- batching, lanes, tracing -------------------------------------------------------------------

BATCHED = [row for row in ROWS if has_free_shape(row)]


@pytest.mark.parametrize("row", BATCHED, ids=str)
@pytest.mark.parametrize("in_axis", [0, 2])
def test_vmap_is_the_operation_itself(row: OpRow, in_axis: int) -> None:
    dtype = next(d for d in ("f32", "c64", "i32", *row.dtypes) if d in row.dtypes)
    shape = (3, 2, 4)
    operands = [as_array(x) for x in row.sample(8, dtype, shape)]
    size = shape[in_axis]
    for unbatched in [None, *range(len(operands))] if len(operands) > 1 else [None]:
        axes: list[int | None] = [in_axis if x.ndim else None for x in operands]
        args, full = list(operands), list(operands)
        if unbatched is not None and operands[unbatched].ndim:
            axes[unbatched] = None
            one = np.take(np.asarray(operands[unbatched]), 0, in_axis)
            args[unbatched] = as_array(one)
            full[unbatched] = as_array(np.repeat(np.expand_dims(one, in_axis), size, in_axis))
        found = cv.vmap(row, in_axes=tuple(axes), out_axes=in_axis)(*args)
        np.testing.assert_array_equal(np.asarray(found), np.asarray(row(*full)))


@pytest.mark.parametrize("row", [r for r in NARY_ROWS if len(r.operands) == 2], ids=str)
def test_vmap_over_a_scalar_operand(row: OpRow) -> None:
    dtype = next(d for d in ("f32", "c64", "i32", *row.dtypes) if d in row.dtypes)
    x, y = row.sample(8, dtype, (3, 4))
    for axes in [(0, None), (None, 0)]:
        small, wide = (x[:, 0], y) if axes[0] == 0 else (x, y[:, 0])
        found = cv.vmap(row, in_axes=axes)(as_array(small), as_array(wide))
        a, b = (small[:, None, None], wide) if axes[0] == 0 else (small, wide[:, None, None])
        full = [np.ascontiguousarray(v) for v in np.broadcast_arrays(a, b)]
        np.testing.assert_array_equal(np.asarray(found), np.asarray(evaluate(row, full)))


def test_keys_are_chosen_whole() -> None:
    words = np.arange(12, dtype=np.uint32).reshape(2, 3, 2)
    a, b = [Array.of(w, Aval((3,), dtypes.key_fry)) for w in words]
    which = np.array([True, False, True])
    expected = np.where(which[:, None], words[1], words[0])
    for choose in (
        ops.select_n,
        cv.vmap(ops.select_n),
        cv.jit(ops.select_n, backend="native"),
        cv.jit(cv.vmap(ops.select_n), backend="native"),
    ):
        chosen = choose(as_array(which), a, b)
        assert chosen.aval == a.aval
        np.testing.assert_array_equal(chosen._value, expected)
    one, other = [Array.of(w[0], Aval((), dtypes.key_fry)) for w in words]
    spread = cv.vmap(ops.select_n, in_axes=(0, None, None))(as_array(which), one, other)
    np.testing.assert_array_equal(spread._value, words[which.astype(int), 0])
    np.testing.assert_array_equal(ops.copy(a)._value, words[0])
    with pytest.raises(TypeError, match="does not accept key<fry>"):
        ops.eq(a, b)


def test_lanes_are_where_the_operands_have_them() -> None:
    whole, scalar = Aval((4, 8), dtypes.float32), Aval((), dtypes.float32)
    assert ops.add.lanes((1, 1), whole, whole) == 1
    assert ops.add.lanes((0, None), whole, scalar) == 0
    assert ops.select_n.lanes((None, None), scalar, scalar) is None
    with pytest.raises(Inseparable, match="different axes"):
        ops.mul.lanes((0, 1), whole, whole)
    to_u64 = {"new_dtype": dtypes.uint64}
    assert ops.bitcast_convert_type.lanes((0,), Aval((8, 2), dtypes.float32), **to_u64) == 0
    with pytest.raises(Inseparable, match="several lanes"):
        ops.bitcast_convert_type.lanes((1,), Aval((8, 2), dtypes.float32), **to_u64)


def test_vmap_of_bitcasts_moves_the_axis_that_is_made_or_used_up() -> None:
    x = as_array(np.arange(12, dtype=np.uint8).reshape(4, 3))
    to_u32 = partial(ops.bitcast_convert_type, new_dtype=np.dtype(np.uint32))
    found = cv.vmap(to_u32, in_axes=1)(x)
    expected = np.ascontiguousarray(np.asarray(x).T).view(np.uint32)[:, 0]
    np.testing.assert_array_equal(np.asarray(found), expected)
    to_u8 = partial(ops.bitcast_convert_type, new_dtype=np.dtype(np.uint8))
    back = cv.vmap(to_u8, in_axes=0, out_axes=1)(found)
    np.testing.assert_array_equal(np.asarray(back), np.asarray(x))


def test_derivatives_take_few_equations() -> None:
    limits = {"tanh": 3, "exp": 1, "sin": 2, "logistic": 3, "sqrt": 2, "log": 1, "div": 3, "erf": 5}
    for name, limit in limits.items():
        row = next(row for row in ROWS if row.name == name)
        operands = row.sample(0, "f32")
        avals = [Aval(x.shape, x.dtype) for x in operands]

        def tangent(*xs: Any, row: OpRow = row, n: int = len(operands)) -> list[Any]:
            return [cv.jvp(row, xs[:n], xs[n:])[1]]

        program, _ = trace_program(tangent, avals + avals)
        # The operation itself is one more, where its result is used.
        assert len(program.equations) <= limit + 1, program


def test_every_elementwise_primitive_has_every_rule_and_a_row() -> None:
    load_all()  # whatever other tests have imported
    covered = {id(row.op) for row in all_rows()}
    for primitive in list(REGISTRY.values()):
        if "elementwise" not in primitive.tags or not primitive.built_in:
            continue
        if primitive.name != "scalar_kernel":  # what it computes is its user's: tests/extend
            assert id(primitive) in covered, f"{primitive} has no row in the op table"
        for rule in RULES:
            assert callable(getattr(primitive, rule))


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.add(np.float32(1), np.int32(1)), "operands of equal dtype"),
        (lambda: ops.add(np.zeros(2), np.zeros(3)), "operands of equal shapes"),
        (lambda: ops.add(np.True_, np.True_), "add does not accept bool"),
        (lambda: ops.sin(1), "sin does not accept i64"),
        (lambda: ops.lt(1j, 2j), "lt does not accept c128"),
        (lambda: ops.neg(1.0, 2.0), "neg takes 1 operands, got 2"),
        (lambda: ops.integer_pow(3, y=-1), "cannot be raised to negative powers"),
        (lambda: ops.select_n(np.True_, 1.0, 2.0, 3.0), "takes two cases, got 3"),
        (lambda: ops.select_n(1.0, 1.0, 2.0), "bool or integer"),
        (lambda: ops.select_n(np.True_, 1.0, 2), "cases of equal dtype"),
        (lambda: ops.pow_(2, 3), "pow takes a floating or complex base"),
        (
            lambda: ops.bitcast_convert_type(np.zeros(3, np.uint8), new_dtype=np.dtype("u4")),
            "must have size 4",
        ),
        (
            lambda: ops.bitcast_convert_type(1j, new_dtype=np.dtype("u4")),
            "no bits of another dtype",
        ),
        (lambda: cv.grad(lambda x: ops.nextafter(x, 1.0))(0.5), "not supported: the neighbour"),
    ],
)
def test_errors_say_what_was_found(call: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError, NotImplementedError), match=message):
        call()
