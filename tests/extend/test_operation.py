"""Operations by rules: what is given, what is derived, and what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from tests.extend.worked import lambertw

import covector as cv
import covector.numpy as cnp
from covector import extend, lax
from covector.compiler.fingerprint import fingerprint
from covector.core.errors import UnsupportedRuleError
from covector.core.parsing import parse
from covector.core.primitive import REGISTRY

X = np.array([0.5, 2.0, 3.0], np.float32)


def product_and_sum(name, **rules):
    return extend.operation(name, decomposition=lambda x, y: (x * y, x + y), **rules)


# --- decompositions -------------------------------------------------------------------------------


def test_a_decomposition_computes_what_its_function_does():
    w = lambertw(X)
    np.testing.assert_allclose(w * np.exp(w), X, rtol=1e-5)
    np.testing.assert_allclose(cv.jit(lambertw, backend="reference")(X), w, rtol=1e-5)
    assert lambertw.__doc__.startswith("The principal branch")


def test_the_name_stays_in_programs_that_print_and_parse():
    program = cv.make_program(cv.vmap(cv.vmap(lambertw)))(X[None])
    text = program.as_text()
    assert "test_lambertw[mapped=((True,), (True,))] a" in text
    again = parse(text)
    assert again.as_text() == text
    np.testing.assert_array_equal(cv.jit(cv.vmap(cv.vmap(lambertw)))(X[None]), lambertw(X)[None])


def test_the_compiler_sees_the_decomposition():
    lowered = cv.jit(cv.vmap(lambertw)).lower(X)
    assert "test_lambertw[mapped" in lowered.as_text("program")
    assert "test_lambertw[" not in lowered.as_text("optimized")


def test_it_is_part_of_the_key_of_caches():
    program = cv.make_program(lambertw)(X)
    assert fingerprint(program) is not None
    double = extend.operation("test_keyed", decomposition=lambda x: x * 2)
    first = fingerprint(cv.make_program(double)(X))
    triple = extend.operation("test_keyed", decomposition=lambda x: x * 3)
    assert fingerprint(cv.make_program(triple)(X)) != first


def test_a_custom_jvp_serves_every_derivative():
    w = np.asarray(lambertw(X))
    expected = 1 / (X + np.exp(w))
    for gradient in (
        cv.vmap(cv.grad(lambertw)),
        cv.jit(cv.vmap(cv.jacfwd(lambertw))),
        lambda x: cv.vmap(cv.vmap(cv.grad(lambertw)))(x[None])[0],
        cv.grad(lambda x: cnp.sum(cv.vmap(lambertw)(x))),
    ):
        np.testing.assert_allclose(gradient(X), expected, rtol=1e-5)
    # w'' = -exp(-2w) (w + 2) / (1 + w)^3
    second = -np.exp(-2 * w) * (w + 2) / (1 + w) ** 3
    for hessian in (cv.grad(cv.grad(lambertw)), cv.jacfwd(cv.grad(lambertw))):
        np.testing.assert_allclose(cv.jit(cv.vmap(hessian))(X), second, rtol=1e-4)


def test_a_decomposition_without_rules_is_differentiated_itself():
    repeat = extend.decomposition(name="test_repeat")(
        lambda x, *, n: lax.fori_loop(0, n, lambda _, c: cnp.sin(c), x)
    )

    def plain(x):
        return cnp.sin(cnp.sin(cnp.sin(x)))

    for transform in (cv.grad, cv.jacfwd, lambda f: cv.grad(cv.grad(f))):
        np.testing.assert_allclose(
            cv.jit(cv.vmap(transform(lambda x: repeat(x, n=3))))(X),
            cv.vmap(transform(plain))(X),
            rtol=1e-5,
        )
    assert "n=3" in cv.make_program(lambda x: repeat(x, n=3))(1.0).as_text()


def test_compositions_in_loops():
    def model(x):
        return lax.scan(lambda c, _: (lambertw(c), None), x, None, length=3)[0]

    expected = lambertw(lambertw(lambertw(X)))
    np.testing.assert_allclose(cv.jit(cv.vmap(model))(X), expected, rtol=1e-5)
    eager = [cv.grad(lambda x: lambertw(lambertw(lambertw(x))))(x) for x in X]
    np.testing.assert_allclose(cv.jit(cv.vmap(cv.grad(model)))(X), eager, rtol=1e-5)


@pytest.mark.parametrize("in_axes", [(0, None), (None, 0), (0, 0), (1, 0)])
def test_batching_with_some_operands(in_axes):
    mapped = product_and_sum("test_pair", jvp=pair_jvp)
    x, y = (np.arange(9.0, dtype=np.float32).reshape(3, 3) + k for k in range(2))
    for f in (mapped, lambda x, y: cv.grad(lambda y: cnp.sum(mapped(x, y)[0] ** 2))(y)):
        found = cv.jit(cv.vmap(f, in_axes))(x, y)
        rows = [
            f(
                x if in_axes[0] is None else np.take(x, k, in_axes[0]),
                y if in_axes[1] is None else np.take(y, k, in_axes[1]),
            )
            for k in range(3)
        ]
        expected = cv.tree.map(lambda *r: np.stack(r), *rows)
        cv.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


def pair_jvp(primals, tangents):
    (x, y), (s, t) = primals, tangents
    return (x * y, x + y), (s * y + x * t, s + t)


# --- vjp ------------------------------------------------------------------------------------------


def test_jvp_from_a_linear_vjp():
    def vjp(cts, results, operands):
        x, y = operands
        return cts[0] * y + cts[1], cts[0] * x + cts[1]

    pair = product_and_sum("test_vjp", vjp=vjp)

    def loss(x, y):
        product, total = pair(x, y)
        return cnp.sum(product * total)

    def plain(x, y):
        return cnp.sum(x * y * (x + y))

    for transform in (
        lambda f: cv.grad(f, (0, 1)),
        lambda f: cv.jacfwd(f, (0, 1)),
        lambda f: cv.jacfwd(cv.grad(f)),
        lambda f: cv.jacrev(cv.jacfwd(f)),
        lambda f: cv.vmap(cv.grad(f, (0, 1))),
        lambda f: cv.grad(lambda x, y: cnp.sum(cv.vmap(f, (None, 0))(x, cnp.stack([y, 2 * y])))),
    ):
        found, expected = (cv.jit(transform(f))(X, X + 1) for f in (loss, plain))
        cv.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


def test_a_vjp_that_is_not_linear_has_no_jvp():
    clipped = extend.operation(
        "test_clipped",
        decomposition=lambda x: x,
        vjp=lambda ct, y, operands: (cnp.clip(ct, -1, 1),),
    )
    assert cv.grad(lambda x: 5 * clipped(x))(2.0) == 1
    with pytest.raises(UnsupportedRuleError, match="linear in the cotangent"):
        cv.jvp(clipped, (2.0,), (1.0,))


# --- operations by evaluation and by lowering ---------------------------------------------------


def running_total(name, **rules):
    return extend.operation(
        name,
        shape=lambda x: x,
        evaluate=np.cumsum,
        linear=True,
        **rules,
    )


def backwards(ct, x):
    assert isinstance(x, extend.Linear)
    return (cnp.flip(cnp.cumsum(cnp.flip(ct))),)


def test_a_linear_operation_with_its_transpose():
    total = running_total("test_total", transpose=backwards)
    x = np.stack([X, 2 * X])
    for f, plain in (
        (lambda x: cnp.sum(total(x) ** 2), lambda x: cnp.sum(cnp.cumsum(x) ** 2)),
        (
            lambda x: cnp.sum(cv.jvp(total, (x,), (x**2,))[1] ** 2),
            lambda x: cnp.sum(cnp.cumsum(x**2) ** 2),
        ),
    ):
        found = cv.jit(cv.vmap(cv.grad(f)))(x)
        np.testing.assert_allclose(found, cv.vmap(cv.grad(plain))(x), rtol=1e-5)


def test_a_linear_operation_without_transpose_says_so():
    total = running_total("test_no_transpose")
    np.testing.assert_allclose(cv.jvp(total, (X,), (X,))[1], np.cumsum(X), rtol=1e-6)
    with pytest.raises(UnsupportedRuleError, match="transpose=") as caught:
        cv.grad(lambda x: cnp.sum(total(x)))(X)
    assert "test_no_transpose" in str(caught.value)


def square(name, **rules):
    def lower(b, x):
        return b.lazy(x.shape, x.dtype, lambda i: b.builder.op("mul", x.at(i), x.at(i)), x.cost + 1)

    return extend.operation(name, shape=lambda x: x, lower=lower, **rules)


def test_a_lowering_is_fused_and_evaluates():
    op = square(
        "test_square",
        elementwise=True,
        jvp=lambda primals, tangents: (op(primals[0]), 2 * primals[0] * tangents[0]),
    )
    np.testing.assert_array_equal(op(X), X * X)
    np.testing.assert_array_equal(cv.jit(op, backend="reference")(X), X * X)
    np.testing.assert_array_equal(cv.jit(cv.vmap(cv.grad(op)))(X), 2 * X)
    loops = cv.jit(lambda x: op(x) + 1).lower(X).as_text("loopir")
    assert loops.count("for ") == 1


def test_what_is_not_elementwise_is_mapped_by_a_loop():
    op = square("test_square_whole")
    program = cv.make_program(cv.vmap(op))(X)
    assert [e.primitive.name for e in program.equations] == ["scan"]
    np.testing.assert_array_equal(cv.jit(cv.vmap(op))(X), X * X)


def test_a_batch_rule_of_the_user():
    def batch(size, operands, dims):
        (x,), (dim,) = operands, dims
        assert size == 3
        return op(x), dim

    op = square("test_square_batch", batch=batch)
    program = cv.make_program(cv.vmap(op))(X)
    assert [e.primitive.name for e in program.equations] == ["test_square_batch"]


# --- refusals -------------------------------------------------------------------------------------


def test_missing_derivatives_are_refused_with_a_reason():
    op = square("test_no_jvp")
    with pytest.raises(UnsupportedRuleError, match=r"`test_no_jvp`[\s\S]*jvp="):
        cv.grad(op)(1.0)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"shape": lambda x: x}, "what it computes"),
        ({"evaluate": np.sin}, "what its result is"),
        ({"decomposition": cnp.sin, "jvp": max, "vjp": max}, "two derivatives"),
        (
            {"decomposition": cnp.sin, "elementwise": True, "multiple_results": True},
            "one result",
        ),
    ],
)
def test_rules_that_say_too_little_or_too_much(rules, message):
    with pytest.raises(TypeError, match=message):
        extend.operation("test_refused", **rules)
    assert "test_refused" not in REGISTRY


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"evaluate": lambda x: x[:1]}, "evaluate rule of test_wrong .*shape rule"),
        ({"evaluate": lambda x: x * 1j}, "evaluate rule"),
        ({"shape": lambda x: 3, "evaluate": lambda x: x}, "shape rule of test_wrong"),
        ({"decomposition": lambda x: x[0]}, "contradict"),
        ({"shape": None, "decomposition": lambda x: {"a": x}}, "an array or a tuple"),
    ],
)
def test_rules_that_contradict_each_other(rules, message):
    op = extend.operation("test_wrong", **{"shape": lambda x: x, **rules})
    with pytest.raises(TypeError, match=message):
        op(X)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda primals, tangents: primals[0], "a pair"),
        (lambda primals, tangents: (primals[0], tangents[0][:1]), r"f32\[3\][\s\S]*f32\[1\]"),
        (lambda primals, tangents: (primals[0], (tangents[0],) * 2), "1 results and 2 tangents"),
    ],
)
def test_jvp_rules_that_return_something_else(rule, message):
    op = extend.operation("test_bad_jvp", decomposition=lambda x: x, jvp=rule)
    with pytest.raises(TypeError, match=message):
        cv.jvp(op, (X,), (X,))


def test_vjp_rules_that_return_something_else():
    op = extend.operation(
        "test_bad_vjp", decomposition=lambda x, y: x, vjp=lambda ct, y, operands: (ct,)
    )
    with pytest.raises(TypeError, match="1 for 2 operands"):
        cv.grad(lambda x: cnp.sum(op(x, X)))(X)


def test_names_of_others_are_not_taken():
    with pytest.raises(ValueError, match=r"'sin'[\s\S]*defined by covector"):
        extend.decomposition(name="sin")(lambda x: x)
    assert REGISTRY["sin"].built_in


def test_code_of_an_operation_that_was_defined_before_is_not_used():
    for factor in (2, 3):

        def lower(b, x, factor=factor):
            return b.lazy(x.shape, x.dtype, lambda i: b.builder.op("mul", x.at(i), factor))

        scaled = extend.operation("test_scaled", shape=lambda x: x, lower=lower, elementwise=True)
        np.testing.assert_array_equal(scaled(X), factor * X)
        np.testing.assert_array_equal(cv.jit(lambda x, op=scaled: op(x))(X), factor * X)


def test_a_module_may_define_its_operation_again():
    assert product_and_sum("test_again")(1.0, 2.0)[0] == 2
    again = extend.decomposition(name="test_again")(lambda x: x)
    assert REGISTRY["test_again"] is again.primitive
    with pytest.raises(TypeError):
        extend.operation("test_again")
    assert REGISTRY["test_again"] is again.primitive


def test_parameters_are_static():
    op = extend.decomposition(name="test_static")(lambda x, *, k: x * k)
    with pytest.raises(TypeError, match="cannot be hashed"):
        op(X, k=[1])


def test_traced_values_are_operands():
    def f(y):
        op = extend.decomposition(name="test_closure")(lambda x: x * y)
        return op(X)

    with pytest.raises(TypeError, match=r"pass them as operands|reached code"):
        cv.jit(f)(2.0)


def test_pickling_goes_by_name():
    assert pickle.loads(pickle.dumps(lambertw)) is lambertw  # noqa: S301  # our own
    text = pickle.dumps(lambertw).replace(b"test_lambertw", b"test_lambertx")
    with pytest.raises(LookupError, match="import the module"):
        pickle.loads(text)  # noqa: S301  # our own


def test_integers_carry_no_derivatives():
    op = extend.operation(
        "test_integers",
        decomposition=lambda x, n: (x * n, n + 1),
        vjp=lambda cts, results, operands: (cts[0] * operands[1], None),
    )
    n = np.arange(3, dtype=np.int32)
    np.testing.assert_array_equal(
        cv.vmap(cv.grad(lambda x, n: op(x, n)[0]))(X, n), n.astype(np.float32)
    )
