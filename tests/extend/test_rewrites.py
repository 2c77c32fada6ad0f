"""Rewrite rules: what they match, what they leave alone, and two worked cases."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings

import covector as cv
import covector.numpy as cnp
from covector import lax, nn
from covector.compiler.places import placed_at
from covector.core import backend, interpret, notes
from covector.core.config import config, enable_x64
from covector.core.verify import verify
from covector.extend import passes
from covector.testing.functions import generate, namespace
from covector.testing.functions.comparison import expect
from covector.testing.programs import arguments, programs

F32 = np.float32
X = np.linspace(0.5, 2.0, 5, dtype=F32)


@pytest.fixture(autouse=True)
def _passes_of_users():
    with config.override("disable", config.disable - {"user_passes", "cse", "constants"}):
        yield


def rewritten(f, *args, rules, **options):
    """The program of a function after rules, and how often each fired."""
    program = cv.make_program(f)(*args)
    with notes.collected() as found:
        inlined = placed_at(rules, **options).wrapped.simplify(program)
        after = placed_at(rules, **options).run(inlined)
    (applied,) = [n for n in found if hasattr(n, "fired")]
    return after, {fired.rule: fired.times for fired in applied.fired}


def names(program):
    return [e.primitive.name for e in passes.all_equations(program)]


# --- worked cases ---------------------------------------------------------------------------------


def _naive(x, *, axes=(0,)):
    return cnp.log(cnp.sum(cnp.exp(x), axis=axes))


@passes.rewrite(_naive)
def stable(x, *, axes):
    return nn.logsumexp(x, axis=axes)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((4,), None), ((3, 4), 0), ((3, 4), -1), ((3, 4), None), ((2, 3, 4), (0, 2)), ((0,), None)],
)
def test_a_stable_logsumexp(shape, axis):
    values = np.random.default_rng(0).normal(0, 300, shape).astype(F32)

    def f(x):
        return cnp.log(cnp.exp(x).sum(axis=axis)) * 2

    with passes.using(stable):
        found = cv.jit(f)(values)
        report = cv.jit(f).explain(values)
    np.testing.assert_allclose(found, 2 * nn.logsumexp(values, axis=axis), rtol=1e-6)
    assert report.applied[0].fired == (("stable", 1),)


def test_a_rule_holds_for_every_dtype():
    for dtype in ("bfloat16", "float16", "float32", "float64"):
        with enable_x64():
            x = cnp.asarray([100.0, 99.0], dtype)
            with passes.using(stable):
                found = cv.jit(lambda x: cnp.log(cnp.sum(cnp.exp(x))))(x)
        assert found.dtype == x.dtype
        assert abs(float(found) - 100.3133) < 0.5


def test_derivatives_of_what_a_rule_made():
    def f(x):
        return cnp.log(cnp.sum(cnp.exp(x)))

    large = cnp.array([1000.0, 1000.0])
    softmax = cv.grad(passes.applied(f, stable))(large)
    np.testing.assert_allclose(softmax, [0.5, 0.5])
    both = cv.jit(cv.vmap(cv.hessian(passes.applied(f, stable))))(cnp.stack([large, -large]))
    np.testing.assert_allclose(both, np.full((2, 2, 2), [[0.25, -0.25], [-0.25, 0.25]]))
    with passes.using(stable):  # what was differentiated is what was written
        assert not np.isfinite(cv.jit(cv.grad(f))(large)).any()


def products(narrow, wide):
    """Products of matrices in a narrow dtype, accumulated and returned in a wide one."""

    def product(a, b, *, dimension_numbers=(((1,), (0,)), ((), ())), precision=None):
        return lax.dot_general(a, b, dimension_numbers, precision)

    @passes.rewrite(product, when=lambda a, b, **_: a.dtype == b.dtype == wide)
    def narrowed(a, b, *, dimension_numbers, precision):
        a, b = lax.convert_element_type(a, narrow), lax.convert_element_type(b, narrow)
        return lax.dot_general(a, b, dimension_numbers, precision, wide)

    return narrowed


def _network(parameters, x, y):
    first, second = parameters
    return cnp.mean((cnp.tanh(x @ first) @ second - y) ** 2)


@pytest.mark.parametrize(
    ("narrow", "wide"), [("bfloat16", "float32"), ("float16", "float32"), ("float32", "float64")]
)
def test_mixed_precision_with_gradients(narrow, wide):
    rng = np.random.default_rng(0)
    rule = products(cnp.dtype(narrow), np.dtype(wide))
    with enable_x64():
        shapes = (4, 8), (8, 2), (16, 4), (16, 2)
        *parameters, x, y = [cnp.asarray(rng.normal(size=s), wide) for s in shapes]
        loss = cv.jit(cv.value_and_grad(_network))
        wanted, wanted_gradient = loss(parameters, x, y)
        with passes.using(rule):
            report = loss.explain(parameters, x, y)
            found, gradient = loss(parameters, x, y)
    assert report.applied[0].fired == (("narrowed", 5),)  # 2 forward, 3 backward
    text = report.text("optimized")
    short = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}[narrow]
    assert text.count("= dot_general") == 5
    assert f"{short}[16,4] = convert_element_type" in text
    assert found.dtype == wide
    tolerance = {"bfloat16": 2e-2, "float16": 3e-3, "float32": 1e-6}[narrow]
    np.testing.assert_allclose(found, wanted, rtol=tolerance)
    for mine, reference in zip(gradient, wanted_gradient, strict=True):
        assert mine.dtype == wide
        scale = float(cnp.abs(reference).max())
        np.testing.assert_allclose(mine, reference, atol=tolerance * scale)
        assert (np.asarray(mine) != np.asarray(reference)).any()


def test_a_chain_of_products_is_done_from_the_vector_on():
    chain = passes.rewrite(
        lambda a, b, v: (a @ b) @ v,
        lambda a, b, v: a @ (b @ v),
        when=lambda a, b, v: v.ndim == 1,
        name="chain",
    )
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(size=(6, 6)).astype(F32) for _ in range(3))
    v = rng.normal(size=6).astype(F32)

    def f(a, b, c, v):
        return ((a @ b) @ c) @ v

    after, fired = rewritten(f, a, b, c, v, rules=chain)
    assert fired == {"chain": 2}
    assert [e.outputs[0].aval.shape for e in after.equations] == [(6,)] * 3
    np.testing.assert_allclose(interpret.run(after, a, b, c, v)[0], f(a, b, c, v), rtol=1e-4)
    _, fired = rewritten(lambda a, b, c: (a @ b) @ c, a, b, c, rules=chain)
    assert fired == {"chain": 0}


# --- matching -------------------------------------------------------------------------------------

factored = passes.rewrite(
    lambda a, b, c: a * b + a * c, lambda a, b, c: a * (b + c), name="factored"
)


@pytest.mark.parametrize(
    "f",
    [
        lambda a, b, c: a * b + a * c,
        lambda a, b, c: b * a + c * a,
        lambda a, b, c: a * c + b * a,
        lambda a, b, c: cnp.sin(a) * b + c * cnp.sin(a),
        lambda a, b, c: 2 * b + 2 * c,
    ],
)
def test_operands_of_commutative_operations_have_no_order(f):
    after, fired = rewritten(f, X, X + 1, X * X, rules=factored)
    assert fired == {"factored": 1}
    assert names(after).count("mul") == 1
    np.testing.assert_allclose(
        interpret.run(after, X, X + 1, X * X)[0], f(X, X + 1, X * X), rtol=1e-6
    )


@pytest.mark.parametrize(
    "f",
    [
        lambda a, b, c: a * b + b * c * c,  # other operands
        lambda a, b, c: a * b - a * c,
        lambda a, b, c: (a * b + a * c, a * b),  # a product is needed elsewhere
        lambda a, b, c: a * b + 2 * c,
        lambda a, b, c: (2 * b + 3 * c,),  # not one constant
    ],
)
def test_what_does_not_match(f):
    _, fired = rewritten(f, X, X + 1, X * X, rules=factored)
    assert fired == {"factored": 0}


def test_ranks_and_shapes_may_differ():
    scaled = passes.rewrite(
        lambda s, a, b: (s * a) @ b, lambda s, a, b: s * (a @ b), name="scaled",
        when=lambda s, a, b: s.ndim == 0,
    )  # fmt: skip
    matrix = np.ones((3, 3), F32)
    for b in (matrix, matrix[0]):
        _, fired = rewritten(lambda s, a, b: (s * a) @ b, F32(2), matrix, b, rules=scaled)
        assert fired == {"scaled": 1}
        _, fired = rewritten(lambda s, a, b: (s * a) @ b, matrix, matrix, b, rules=scaled)
        assert fired == {"scaled": 0}


def test_constants_in_patterns():
    halved = passes.rewrite(lambda x: x / 2, lambda x: x * 0.5, name="halved")
    for value, count in ((2, 1), (3, 0), (2.0, 1)):
        _, fired = rewritten(lambda x, v=value: x / v, X, rules=halved)
        assert fired == {"halved": count}, value
    mean = passes.rewrite(lambda x: cnp.mean(x), lambda x: cnp.sum(x * 2), name="mean")
    for size in (3, 7):  # the constant is the size
        _, fired = rewritten(lambda x: cnp.mean(x), np.ones(size, F32), rules=mean)
        assert fired == {"mean": 1}


def test_conditions_see_values_of_constants():
    power = passes.rewrite(
        lambda x, y: x * y,
        lambda x, y: x + x,
        when=lambda x, y: y.value is not None and y.value == 2,
        name="power",
    )
    _, fired = rewritten(lambda x: (x * 2, 2 * x + 1, x * 3, x * x), X, rules=power)
    assert fired == {"power": 2}


def test_operations_with_several_results():
    rule = passes.rewrite(
        lambda x: cnp.sort(x)[..., ::-1], lambda x: -cnp.sort(-x), name="descending",
    )  # fmt: skip
    after, fired = rewritten(lambda x: cnp.sort(x)[::-1] * 2, X, rules=rule)
    assert fired == {"descending": 1}
    assert "rev" not in names(after)


def test_rules_reach_into_loops_branches_and_calls():
    twice = passes.rewrite(lambda x: x + x, lambda x: 2 * x, name="twice")

    def f(x):
        @cv.jit
        def inner(x):
            return x + x

        def step(c, _):
            c = lax.cond(c.sum() > 3, inner, lambda c: c + c, c)
            c = lax.while_loop(lambda c: c.sum() < 100, lambda c: c + c, c)
            return c, c

        return lax.scan(step, inner(x), None, length=3)

    after, fired = rewritten(f, X, rules=twice)
    assert fired == {"twice": 4}
    verify(after)
    with passes.using(twice):
        for mine, plain in zip(cv.jit(f)(X), interpret.run(after, X), strict=True):
            np.testing.assert_array_equal(mine, plain)


def test_rules_work_together():
    """One makes what another one finds, in later equations too."""
    rules = [
        passes.rewrite(lambda x: cnp.negative(-x), lambda x: x, name="minus"),
        passes.rewrite(lambda x, y: x - (-y), lambda x, y: x + y, name="plus"),
        passes.rewrite(lambda x: x + x, lambda x: cnp.negative(-(x * 2)), name="twice"),
    ]
    after, fired = rewritten(lambda x: -(x - (-x)), X, rules=rules)
    assert fired == {"minus": 1, "plus": 1, "twice": 1}
    assert names(after) == ["mul", "neg"]


def test_a_result_may_be_an_operand_or_a_constant():
    rules = [
        passes.rewrite(lambda x: x + 0, lambda x: x, name="nothing"),
        passes.rewrite(lambda x: cnp.sum(x * 0), lambda x: cnp.zeros((), x.dtype), name="zero"),
    ]
    after, fired = rewritten(lambda x: (x + 0, cnp.sum((x + 0) * 0)), X, rules=rules)
    assert fired == {"nothing": 1, "zero": 1}
    assert names(after) == []
    with passes.using(*rules):
        y, zero = cv.jit(lambda x: (x + 0, cnp.sum(x * 0)))(X)
    np.testing.assert_array_equal(y, X)
    assert zero == 0


def test_weak_types_of_results_stay():
    nothing = passes.rewrite(lambda x: x * 1, lambda x: x, name="nothing")
    after, fired = rewritten(lambda x: lax.mul(x, F32(1)), 2.0, rules=nothing)
    assert fired["nothing"] in (0, 1)
    assert after.output_avals[0].weak_type == cv.make_program(
        lambda x: lax.mul(x, F32(1)))(2.0).output_avals[0].weak_type  # fmt: skip


def test_nothing_is_computed_twice():
    squared = passes.rewrite(lambda x: cnp.exp(x) ** 2, lambda x: cnp.exp(2 * x), name="squared")
    _, fired = rewritten(lambda x: cnp.exp(x) ** 2 + cnp.exp(x), X, rules=squared)
    assert fired == {"squared": 0}
    _, fired = rewritten(lambda x: (cnp.exp(x) ** 2, cnp.exp(x)), X, rules=squared)
    assert fired == {"squared": 0}
    # Equal values are one value before rules are tried.
    _, fired = rewritten(lambda x: cnp.exp(x) ** 2 + cnp.exp(x) ** 2, X, rules=squared)
    assert fired == {"squared": 1}
    # What nobody needs any more does not count.
    minus = passes.rewrite(lambda x, y: (x + y) - y, lambda x, y: x, name="minus")
    _, fired = rewritten(
        lambda x: cnp.exp(x) ** 2 + ((X + cnp.exp(x)) - cnp.exp(x)), X, rules=[squared, minus]
    )
    assert fired == {"squared": 1, "minus": 1}


# --- ends -----------------------------------------------------------------------------------------


def test_a_rule_leaves_its_own_work_alone():
    turned = passes.rewrite(lambda x, y: x + y, lambda x, y: y + x, name="turned")
    after, fired = rewritten(lambda x, y: cnp.sin(x + y) + y, X, X + 1, rules=turned)
    assert fired == {"turned": 2}
    assert len(after.equations) == 3


def test_rules_that_undo_each_other_are_an_error():
    rules = [
        passes.rewrite(lambda x: x * 2, lambda x: x + x, name="sum"),
        passes.rewrite(lambda x: x + x, lambda x: x * 2, name="product"),
    ]
    text = r"(?s)sum\+product still applies.*sum \d+ time"
    with passes.using(*rules, limit=10), pytest.raises(passes.PassError, match=text):
        cv.jit(lambda x: x + x)(X)


def test_long_chains_are_rewritten_to_their_end():
    def pattern(a, b, c):
        return (a + b) + c

    def f(*xs):
        total = xs[0]
        for x in xs[1:]:
            total = total + x
        return total

    xs = [X + k for k in range(8)]
    right = passes.rewrite(pattern, lambda a, b, c: a + (b + c), name="right", ordered=True)
    after, fired = rewritten(f, *xs, rules=right)
    assert fired["right"] >= 6
    np.testing.assert_allclose(interpret.run(after, *xs)[0], f(*xs), rtol=1e-6)
    assert after.equations[-1].inputs[0] is after.inputs[0]  # x0 + (x1 + (...))
    turning = passes.rewrite(pattern, lambda a, b, c: a + (b + c), name="turning")
    with passes.using(turning), pytest.raises(passes.PassError, match="turning still applies"):
        cv.jit(f)(*xs)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (lambda x: x, "has an operation"),
        (lambda x, y: x + 1, "uses all its operands: rule rule\n.*y unused"),
        (lambda *xs: xs[0] + 1, "names its operands"),
        (lambda x, *, axes: cnp.sum(x, axes), "without a default"),
        (lambda x: (x + 1, x), "one result"),
        (lambda x: x.nothing, "few shapes; give others by `like`"),
        (lambda x: lax.reshape(x, (17,)), "few shapes"),
        (lambda x: cv.debug.print("{}", x) or x + 1, "has no effects"),
    ],
)
def test_patterns_are_checked(pattern, text):
    with pytest.raises(passes.PassError, match=f"(?s){text}"):
        passes.rewrite(pattern, lambda *xs: xs[0], name="rule")


def test_patterns_that_need_other_operands():
    def pattern(x, i):
        return cnp.take(x, i, axis=0)

    like = cv.ShapeDtypeStruct((4, 2), "float32"), cv.ShapeDtypeStruct((3,), "int32")
    rule = passes.rewrite(pattern, lambda x, i: x[i] * 1.0, like=like, name="taken")
    _, fired = rewritten(pattern, np.ones((9, 5), F32), np.array([1, 2, 0]), rules=rule)
    assert fired == {"taken": 1}


@pytest.mark.parametrize(
    ("replacement", "text"),
    [
        (lambda x: cnp.sum(x), r"rule wrong.*f32\[\] instead of f32\[5\]"),
        (lambda x: x > 0, r"bool\[5\] instead of f32\[5\]"),
        (lambda x: x.nothing, "wrong can be traced.*AttributeError"),
        (lambda x: (x, x), "one result: rule wrong"),
        (lambda x, y: x, "wrong can be traced.*TypeError"),
    ],
)
def test_replacements_are_checked(replacement, text):
    rule = passes.rewrite(lambda x: cnp.sin(x) * 2, replacement, name="wrong")
    with passes.using(rule), pytest.raises(passes.PassError, match=f"(?s){text}"):
        cv.jit(lambda x: cnp.sin(x) * 2)(X)


# --- random programs ------------------------------------------------------------------------------

EXACT = [
    passes.rewrite(lambda x, y: x + y, lambda x, y: y + x, name="turned"),
    passes.rewrite(lambda x, y: x - y, lambda x, y: x + (-y), name="added"),
    passes.rewrite(lambda x: cnp.square(x), lambda x: x * x, name="multiplied"),
    passes.rewrite(lambda x: cnp.negative(-x), lambda x: x, name="minus"),
    passes.rewrite(lambda x: cnp.sin(x), lambda x: -cnp.sin(-x), name="odd"),
    passes.rewrite(lambda x: cnp.cos(x), lambda x: cnp.cos(-x), name="even"),
    passes.rewrite(lambda x: cnp.abs(-x), lambda x: cnp.abs(x), name="size"),
    passes.rewrite(lambda x, y: x < y, lambda x, y: y > x, name="greater", like=(X, X)),
    passes.rewrite(
        lambda x, *, axes=(0,): lax.reduce_max(x, axes),
        lambda x, *, axes: lax.reduce_max(x + 0 if x.dtype == np.int32 else x, axes),
        name="largest",
    ),
]
"""Rules that hold to the last bit, up to signs of NaN."""


@given(program=programs())
@settings(deadline=None)
def test_rules_that_hold_exactly_change_no_result(program):
    placed = placed_at(EXACT)
    plain = placed.wrapped.simplify(program)
    after = placed.run(plain)
    args = arguments(program)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted, results = interpret.run(program, *args), interpret.run(after, *args)
    for mine, reference in zip(results, wanted, strict=True):
        np.testing.assert_array_equal(mine, reference)


def test_random_functions_with_rules():
    """Programs after rules mean what they meant, to the bit; and compile to it."""
    api, fired = namespace(cv), Counter()
    for seed in range(10):
        function = generate(seed)
        args = [np.asarray(a) for a in function.arguments()]
        with enable_x64(function.style.wide), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = cv.make_program(lambda *xs, f=function: f(api, *xs))(*args)
            placed = placed_at(EXACT)
            plain = placed.wrapped.simplify(program)
            with notes.collected() as found:
                after = placed.run(plain)
            fired.update({f.rule: f.times for f in found[0].fired})
            for mine, wanted in zip(
                interpret.run(after, *args), interpret.run(plain, *args), strict=True
            ):
                np.testing.assert_array_equal(mine, wanted, str(seed))
            run = backend.executable(program, backend="reference")
            precision = "float32" if "float32" in function.dtypes else "float64"
            expected = expect(run, args, exact=function.style.exact, precision=precision, seed=seed)
            with passes.using(*EXACT, factored):
                problem = expected.mismatch(cv.jit(lambda *xs, f=function: f(api, *xs))(*args))
            assert not problem, f"{seed}: {problem}"
    assert sum([count > 0 for count in fired.values()]) >= 5, fired
    assert fired.total() > 20, fired
