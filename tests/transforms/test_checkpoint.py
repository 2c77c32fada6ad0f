"""`checkpoint`: equal values and derivatives, less kept."""

from __future__ import annotations

import doctest
import importlib
import math

import jax
import jax.ad_checkpoint
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax, random
from covector.core.errors import UnsupportedRuleError
from covector.core.parsing import parse
from covector.core.program import Program, all_equations
from covector.core.verify import verify

P = cv.checkpoint_policies
W = np.linspace(-1, 1, 9, dtype=np.float32).reshape(3, 3)
X = np.array([0.3, -0.7, 1.1], np.float32)

POLICIES = {
    "none": (None, None),
    "everything": (P.everything_saveable, jax.checkpoint_policies.everything_saveable),
    "nothing": (P.nothing_saveable, jax.checkpoint_policies.nothing_saveable),
    "dots": (P.dots_saveable, jax.checkpoint_policies.dots_saveable),
    "names": (
        P.save_only_these_names("hidden"),
        jax.checkpoint_policies.save_only_these_names("hidden"),
    ),
}


def layer(m, name, w, x):
    """A function of both libraries."""
    hidden = name(m.sin(w @ x), "hidden")
    return m.cos(w @ hidden).sum() * m.exp(x[0])


def ours(w, x):
    return layer(cnp, cv.checkpoint_name, w, x)


def theirs(w, x):
    return layer(jnp, jax.ad_checkpoint.checkpoint_name, w, x)


def close(a, b, tolerance=2e-5):
    flat_a, flat_b = cv.tree.leaves(a), jax.tree.leaves(b)
    assert len(flat_a) == len(flat_b)
    for x, y in zip(flat_a, flat_b, strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=tolerance, atol=tolerance)


def count(program: Program, *names: str) -> int:
    return sum([e.primitive.name in names for e in all_equations(program)])


# --- values and derivatives -----------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_gradients_are_those_of_jax(policy):
    mine, other = POLICIES[policy]
    f = cv.checkpoint(ours, policy=mine)
    expected = jax.value_and_grad(jax.checkpoint(theirs, policy=other), (0, 1))(W, X)
    both = cv.value_and_grad(f, (0, 1))
    close(both(W, X), expected)
    close(cv.jit(both)(W, X), expected)
    close(f(W, X), theirs(W, X))


def composed(f):
    pair = np.stack([X, X + 1])
    return {
        "jvp": lambda: cv.jvp(f, (W, X), (W + 1, X * 2)),
        "jvp of grad": lambda: cv.jvp(cv.grad(f), (W, X), (W + 1, X * 2)),
        "grad of grad": lambda: cv.grad(lambda w, x: cv.grad(f)(w, x).sum())(W, X),
        "hessian": lambda: cv.hessian(f, 1)(W, X),
        "vmap": lambda: cv.vmap(f, (None, 0))(W, pair),
        "vmap of grad": lambda: cv.vmap(cv.grad(f), (None, 0))(W, pair),
        "grad of vmap": lambda: cv.grad(lambda w, xs: cv.vmap(f, (None, 0))(w, xs).sum())(W, pair),
    }


@pytest.fixture(scope="module")
def plain():
    """What the function without `checkpoint` gives, under each composition."""
    return {name: run() for name, run in composed(ours).items()}


@pytest.mark.parametrize("policy", ["none", "names"])
@pytest.mark.parametrize("composition", composed(ours))
def test_compositions(plain, policy, composition):
    run = composed(cv.checkpoint(ours, policy=POLICIES[policy][0]))[composition]
    close(run(), plain[composition], 1e-4)
    close(cv.jit(run)(), plain[composition], 1e-4)


def test_under_the_reference_backend():
    expected = jax.grad(theirs)(W, X)
    close(cv.jit(cv.grad(cv.checkpoint(ours)), backend="reference")(W, X), expected)


def test_nested():
    def f(x):
        inner = cv.checkpoint(lambda y: cnp.sin(cnp.sin(y)))
        return inner(inner(x) * 2)

    for g in (cv.grad(cv.checkpoint(f)), cv.jit(cv.grad(cv.checkpoint(f)))):
        np.testing.assert_allclose(g(0.4), cv.grad(f)(0.4), rtol=1e-6)
    second = cv.grad(cv.grad(cv.checkpoint(f)))
    np.testing.assert_allclose(cv.jit(second)(0.4), cv.grad(cv.grad(f))(0.4), rtol=1e-5)


def test_pytrees_keywords_and_closures():
    scale = cnp.array(2.0)

    def outer(a):
        @cv.checkpoint
        def f(tree, *, shift):
            return {"y": cnp.sin(tree["x"] * a) + shift[0], "z": (tree["x"] * scale,)}

        out = f({"x": a + 1}, shift=[a])
        return out["y"] * out["z"][0]

    def plain(a):
        return (jnp.sin((a + 1) * a) + a) * (a + 1) * 2

    expected = jax.grad(plain)(0.3)
    np.testing.assert_allclose(cv.grad(outer)(0.3), expected, rtol=1e-5)
    np.testing.assert_allclose(cv.jit(cv.grad(outer))(0.3), expected, rtol=1e-5)


def test_static_arguments_and_decorators():
    @cv.remat(static_argnums=(1, -1), policy=P.dots_saveable)
    def f(x, power, y, negate):
        assert isinstance(power, int)
        return -(x**power) * y if negate else x**power * y

    np.testing.assert_allclose(cv.grad(f)(2.0, 3, 1.5, True), -18.0)
    np.testing.assert_allclose(cv.grad(f, 2)(2.0, 3, 1.5, False), 8.0)
    assert f.__name__ == "f"
    with pytest.raises(ValueError, match=r"static_argnums=\(3,\).*1 positional"):
        cv.checkpoint(lambda x: x, static_argnums=3)(1.0)


def test_integers_and_keys():
    key = random.key(3)

    @cv.checkpoint
    def f(x, n, key):
        return cnp.sin(x) * random.normal(key, (3,)) * n

    def plain(x):
        return cnp.sin(x) * random.normal(key, (3,)) * 2

    expected = cv.grad(lambda x: plain(x).sum())(X)
    for g in (cv.grad, lambda h: cv.jit(cv.grad(h))):
        close(g(lambda x: f(x, 2, key).sum())(X), expected)
    keys = random.split(key, 4)
    batch = cv.vmap(cv.grad(lambda x, k: f(x, 2, k).sum()), (None, 0))(X, keys)
    assert batch.shape == (4, 3)


# --- what is kept ---------------------------------------------------------------------------------


def chain(c, x):
    for _ in range(4):
        c = cnp.sin(c * x)
    return c, None


def stacked_bytes(body):
    """How much the backward loop reads of what the forward loop stacked."""

    def loss(c, xs):
        return lax.scan(body, c, xs)[0].sum()

    program = cv.make_program(cv.grad(loss))(np.ones(64, np.float32), np.ones(100, np.float32))
    scans = [e for e in program.equations if e.primitive.name == "scan"]
    forward = scans[0]
    ys = forward.outputs[forward.params["num_carry"] :]
    return sum([math.prod(v.aval.shape) * v.aval.dtype.itemsize for v in ys])


def test_a_checkpointed_scan_keeps_the_carry_alone():
    carry = 100 * 64 * 4
    assert stacked_bytes(cv.checkpoint(chain)) == carry
    assert stacked_bytes(cv.checkpoint(chain, policy=P.nothing_saveable)) == carry
    assert stacked_bytes(cv.checkpoint(chain, policy=P.everything_saveable)) >= 4 * carry


def test_a_checkpointed_scan_has_the_same_gradient():
    c, xs = np.linspace(0.1, 1, 5, dtype=np.float32), np.linspace(1, 2, 7, dtype=np.float32)

    def gradient(m, scan, body):
        return m.grad(lambda c, xs: scan(body, c, xs)[0].sum(), (0, 1))

    def body(c, x):
        for _ in range(4):
            c = jnp.sin(c * x)
        return c, None

    expected = gradient(jax, jax.lax.scan, jax.checkpoint(body))(c, xs)
    for policy in (None, P.everything_saveable):
        mine = gradient(cv, lax.scan, cv.checkpoint(chain, policy=policy))
        close(mine(c, xs), expected)
        close(cv.jit(mine)(c, xs), expected)
        batched = cv.jit(cv.vmap(mine, (0, None)))(np.stack([c] * 3), xs)
        close([b[1] for b in batched], expected)


def test_a_loop_inside_is_run_again():
    def f(x):
        return lax.scan(chain, x, cnp.arange(1.0, 4.0))[0].sum()

    kept = cv.ad_checkpoint.saved_residuals(cv.checkpoint(f), X)
    assert [(a.shape, origin) for a, origin in kept] == [((3,), "from the argument args[0]")]
    # Values inside the loop are saved where the policy says so.
    everything = cv.ad_checkpoint.saved_residuals(cv.checkpoint(f, policy=P.everything_saveable), X)
    assert any("cos" in origin for _, origin in everything)
    close(cv.jit(cv.grad(cv.checkpoint(f)))(X), cv.grad(f)(X))


def origins(policy):
    found = cv.ad_checkpoint.saved_residuals(cv.checkpoint(ours, policy=policy), W, X)
    return sorted([origin.split(" at ")[0] for _, origin in found])


ARGUMENTS = ["from the argument args[0]", "from the argument args[1]"]


def test_policies_choose_what_is_saved():
    assert origins(None) == origins(P.nothing_saveable) == ARGUMENTS
    named = [*ARGUMENTS, "named 'hidden'"]
    assert origins(P.save_only_these_names("hidden")) == named
    assert origins(P.save_only_these_names("other")) == ARGUMENTS
    assert origins(P.save_any_names_but_these("other")) == named
    assert origins(P.save_any_names_but_these("hidden")) == ARGUMENTS
    dots = [*ARGUMENTS, "output of dot_general", "output of dot_general"]
    assert origins(P.dots_saveable) == dots
    assert origins(P.dots_with_no_batch_dims_saveable) == dots
    both = P.save_from_both_policies(P.dots_saveable, P.save_only_these_names("hidden"))
    assert "output of dot_general" in origins(both)
    assert "named 'hidden'" in origins(both)
    everything = origins(P.everything_saveable)
    assert "output of cos" in everything
    assert "named 'hidden'" in everything
    assert "named 'hidden'" not in origins(P.save_anything_except_these_names("hidden"))


def test_contractions_with_batch_dimensions():
    def f(x):
        return cnp.sin(cnp.matmul(cnp.sin(x), x)).sum()

    x = np.ones((2, 3, 3), np.float32)

    def saves(policy):
        found = cv.ad_checkpoint.saved_residuals(cv.checkpoint(f, policy=policy), x)
        return any("dot_general" in origin for _, origin in found)

    assert saves(P.dots_saveable)
    assert not saves(P.dots_with_no_batch_dims_saveable)


def test_a_policy_of_ones_own():
    asked = []

    def policy(primitive, *avals, **params):
        asked.append((primitive.name, avals[0].shape))
        return primitive.name == "sin"

    expected = cv.grad(ours)(W, X)
    close(cv.grad(cv.checkpoint(ours, policy=policy))(W, X), expected)
    assert ("cos", (3,)) in asked
    assert "output of cos" not in origins(policy)


def test_residuals_of_the_closure_in_eager_code():
    _, pullback = cv.vjp(cv.checkpoint(ours), W, X)
    np.testing.assert_allclose(pullback(1.0)[1], jax.grad(theirs, 1)(W, X), rtol=2e-5)


def test_saved_residuals_are_printed(capsys):
    cv.ad_checkpoint.print_saved_residuals(cv.checkpoint(lambda x, y: cnp.sin(x) * y), 1.0, y=X)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["~f32[] from the argument args[0]", "f32[3] from the argument kwargs['y']"]


# --- what the compiler makes of it ----------------------------------------------------------------


def test_values_are_computed_again():
    def f(x):
        return cnp.sin(cnp.sin(cnp.sin(x)))

    def sines(g):
        value_and_grad = cv.value_and_grad(g)
        return parse(cv.jit(value_and_grad).lower(0.5).compile().as_text("optimized"))

    with cv.config.override("disable", cv.config.disable - {"cse"}):
        assert count(sines(f), "sin") == 3
        assert count(sines(cv.checkpoint(f)), "sin") == 5
        assert count(sines(cv.checkpoint(f)), "optimization_barrier") == 1
        assert count(sines(cv.checkpoint(f, prevent_cse=False)), "sin") == 3
        assert count(sines(cv.checkpoint(f, policy=P.everything_saveable)), "sin") == 3


def test_programs_are_printed_and_parsed():
    for policy, _ in POLICIES.values():
        program = cv.make_program(cv.grad(cv.checkpoint(ours, policy=policy)))(W, X)
        verify(program)
        text = program.as_text()
        assert parse(text).as_text() == text


def test_lines_of_the_user_are_kept():
    program = cv.make_program(cv.grad(cv.checkpoint(ours)))(W, X)
    again = [e for e in all_equations(program) if e.primitive.name in ("sin", "cos")]
    assert again
    assert {e.location.function for e in again if e.location} == {"layer"}


def test_optimization_barrier():
    tree = {"a": X, "b": (cnp.arange(3),)}
    out = cv.jit(lax.optimization_barrier)(tree)
    close(out, tree)

    def f(x):
        a, b = lax.optimization_barrier((cnp.sin(x), x))
        return (a * b).sum()

    expected = jax.hessian(lambda x: (jnp.sin(x) * x).sum())(X)
    close(cv.jit(cv.hessian(f))(X), expected)
    np.testing.assert_allclose(cv.vmap(f)(np.stack([X, X])), [f(X), f(X)], rtol=1e-6)


# --- effects and control flow ---------------------------------------------------------------------


def test_prints_when_values_are_computed_again(capsys):
    def f(x):
        y = cnp.sin(x)
        cv.debug.print("y")
        return cnp.sin(y)

    for g in (cv.grad(cv.checkpoint(f)), cv.jit(cv.grad(cv.checkpoint(f)))):
        g(1.0)
        assert capsys.readouterr().out == "y\ny\n"
    cv.grad(cv.checkpoint(f, policy=P.everything_saveable))(1.0)
    assert capsys.readouterr().out == "y\n"


def test_other_effects_happen_once():
    calls = []

    def host(x):
        calls.append(float(x))
        return np.float32(2 * x)

    def f(x):
        y = cv.io_callback(host, cv.ShapeDtypeStruct((), np.float32), lax.stop_gradient(x))
        return cnp.sin(y * x)

    value = cv.jit(cv.grad(cv.checkpoint(f)))(1.5)
    np.testing.assert_allclose(value, 3 * np.cos(3 * 1.5), rtol=1e-5)
    assert calls == [1.5]


def test_a_loop_in_a_branch_of_a_batch():
    """Lanes that take the other branch must not run the loop, which would not end for them."""

    @cv.checkpoint
    def halve(x):
        return lax.while_loop(lambda c: c > 1.0, lambda c: c / 2, x)

    def f(x):
        return lax.cond(x < cnp.inf, halve, lambda x: 0.0, x)

    xs = np.array([8.0, np.inf, 3.0], np.float32)
    np.testing.assert_allclose(cv.jit(cv.vmap(f))(xs), [1.0, 0.0, 0.75])


# --- messages -------------------------------------------------------------------------------------


def test_messages():
    with pytest.raises(TypeError, match="policy must be a function, got str"):
        cv.checkpoint(ours, policy="dots_saveable")
    with pytest.raises(TypeError, match="prevent_cse must be a bool"):
        cv.checkpoint(ours, prevent_cse=1)
    with pytest.raises(TypeError, match="expects a function"):
        cv.checkpoint(3)
    with pytest.raises(TypeError, match="static_argnums must be ints"):
        cv.checkpoint(ours, static_argnums=("x",))
    with pytest.raises(TypeError, match="name must be a string"):
        cv.checkpoint_name(1.0, 3)
    with pytest.raises(TypeError, match="checkpoint of <lambda>: arguments must consist"):
        cv.checkpoint(lambda x: x)("text")
    for offload in (P.offload_dot_with_no_batch_dims, P.save_and_offload_only_these_names):
        with pytest.raises(UnsupportedRuleError, match="offloading residuals"):
            offload("device", "pinned_host")


# --- examples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["transforms.checkpoint"])
def test_examples(name):
    result = doctest.testmod(importlib.import_module(f"covector.{name}"))
    assert result.failed == 0
    assert result.attempted > 0
