"""`custom_root` and `custom_linear_solve`: solutions, and derivatives by what they solve."""

from __future__ import annotations

import doctest
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.core.errors import UnsupportedRuleError
from covector.core.parsing import parse
from covector.core.trace import eval_program
from covector.core.verify import verify
from covector.interop.jaxpr import from_jax


@pytest.fixture(autouse=True)
def x64():
    with cv.enable_x64(), jax.enable_x64(True):
        yield


def close(a, b, tolerance=1e-8):
    flat_a, flat_b = cv.tree.leaves(a), jax.tree.leaves(b)
    assert len(flat_a) == len(flat_b)
    for x, y in zip(flat_a, flat_b, strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=tolerance, atol=tolerance)


def differences(f, x, step=1e-6):
    """The derivative of a scalar function by central differences."""
    return (f(x + step) - f(x - step)) / (2 * step)


# --- custom_root ----------------------------------------------------------------------------------


def newton(f, x):
    return lax.while_loop(lambda x: cnp.abs(f(x)) > 1e-12, lambda x: x - f(x) / cv.grad(f)(x), x)


def cube_root(a, guess=1.0):
    return lax.custom_root(lambda x: x**3 - a, guess + 0 * a, newton, lambda g, y: y / g(1.0))


A = 5.0
FIRST, SECOND = A ** (-2 / 3) / 3, -2 / 9 * A ** (-5 / 3)


@pytest.mark.parametrize("compiled", [cv.jit, lambda f: f], ids=["jit", "eager"])
def test_derivatives_of_a_root(compiled):
    close(compiled(cube_root)(A), A ** (1 / 3))
    close(compiled(cv.grad(cube_root))(A), FIRST)
    close(compiled(cv.grad(cube_root))(A), differences(cube_root, A), 1e-6)
    close(compiled(cv.jacfwd(cube_root))(A), FIRST)
    close(compiled(cv.grad(cv.grad(cube_root)))(A), SECOND)
    close(compiled(lambda a: cv.jvp(cv.grad(cube_root), (a,), (1.0,)))(A), (FIRST, SECOND))
    close(compiled(lambda a: cv.jacfwd(cv.jacfwd(cube_root))(a))(A), SECOND)


def test_batches_of_roots():
    a = np.array([1.0, 5.0, 27.0])
    expected = a ** (-2 / 3) / 3
    close(cv.vmap(cube_root)(a), a ** (1 / 3))
    close(cv.jit(cv.vmap(cv.grad(cube_root)))(a), expected)
    close(cv.grad(lambda a: cv.vmap(cube_root)(a).sum())(a), expected)
    close(cv.vmap(lambda a: cv.jvp(cv.grad(cube_root), (a,), (1.0,))[1])(a), -2 / 9 * a ** (-5 / 3))
    # The guess may be batched alone.
    close(cv.vmap(lambda g: cube_root(A, g))(a), np.full(3, A ** (1 / 3)))


def test_the_guess_has_no_derivative():
    assert float(cv.grad(cube_root, 1)(A, 1.0)) == 0.0


def system(m, params):
    """Two equations in a pytree, from closed-over arrays in another."""

    def f(x):
        u, v = x["u"], x["v"]
        return {"u": u + 0.1 * m.sin(v[0]) - params["a"], "v": v + 0.1 * u * v - params["b"]}

    return f


def fixed_point(loop):
    def solve(f, x):
        def step(state):
            i, x = state
            y = f(x)
            return i + 1, {k: x[k] - y[k] for k in x}

        x = loop(lambda state: state[0] < 40, step, (0, x))[1]
        return x, 40.0  # JAX cannot differentiate with integers as auxiliary data

    return solve


def dense(m, tree, jacobian, ravel):
    def tangent_solve(g, y):
        flat, unravel = ravel(y)

        def matvec(v):
            return ravel(g(unravel(v)))[0]

        return unravel(m.linalg.solve(jacobian(matvec)(flat), flat))

    return tangent_solve


def solved_by_jax(params):
    guess = {"u": jnp.zeros(()), "v": jnp.zeros(2)}
    tangent_solve = dense(jnp, jax.tree, jax.jacobian, jax.flatten_util.ravel_pytree)
    loop = jax.lax.while_loop
    return jax.lax.custom_root(
        system(jnp, params), guess, fixed_point(loop), tangent_solve, has_aux=True
    )


def solved(params):
    guess = {"u": cnp.zeros(()), "v": cnp.zeros(2)}

    def tangent_solve(g, y):
        # Richardson's iteration converges: the system is close to the identity.
        def solve(matvec, b):
            def step(_, x):
                r = matvec(x)
                return {k: x[k] + b[k] - r[k] for k in x}

            return lax.while_loop(lambda s: s[0] < 60, lambda s: (s[0] + 1, step(*s)), (0, b))[1]

        return lax.custom_linear_solve(g, y, solve, solve)

    return lax.custom_root(
        system(cnp, params), guess, fixed_point(lax.while_loop), tangent_solve, has_aux=True
    )


def test_a_system_in_a_pytree_with_auxiliary_data():
    import jax.flatten_util

    params = {"a": np.array(0.4), "b": np.array([0.3, -0.2])}

    def loss(solve):
        def f(params):
            x, steps = solve(params)
            return (x["v"] ** 2).sum() * x["u"], steps

        return f

    expected = jax.value_and_grad(loss(solved_by_jax), has_aux=True)(params)
    close(cv.value_and_grad(loss(solved), has_aux=True)(params), expected)
    close(cv.jit(cv.value_and_grad(loss(solved), has_aux=True))(params), expected)

    def slope(a):
        return cv.grad(lambda a: loss(solved)({"a": a, "b": params["b"]})[0])(a)

    close(cv.jit(cv.grad(slope))(0.4), differences(cv.jit(slope), 0.4), 1e-5)


def test_roots_inside_a_scan():
    def f(a):
        def body(c, _):
            return cube_root(c + a), None

        return lax.scan(body, a, None, length=3)[0]

    def plain(a):
        x = a
        for _ in range(3):
            x = (x + a) ** (1 / 3)
        return x

    close(cv.jit(cv.grad(f))(A), jax.grad(plain)(A))
    close(cv.grad(cv.checkpoint(f))(A), jax.grad(plain)(A))


def test_a_root_in_a_branch_of_a_batch():
    """Lanes that take the other branch must not look for a root: there is none for them."""

    def f(a):
        return lax.cond(a > 0, lambda a: square_root(a), lambda a: 0.0 * a, a)

    def square_root(a):
        return lax.custom_root(lambda x: x * x - a, a, newton, lambda g, y: y / g(1.0))

    a = np.array([4.0, -1.0, 9.0])
    close(cv.jit(cv.vmap(f))(a), np.array([2.0, 0.0, 3.0]))
    close(cv.jit(cv.vmap(cv.grad(f)))(a), np.array([1 / 4, 0.0, 1 / 6]))


# --- custom_linear_solve --------------------------------------------------------------------------

RNG = np.random.default_rng(0)
M = RNG.normal(size=(3, 3)) + 3 * np.eye(3)
S = M @ M.T
B = np.array([1.0, -2.0, 0.5])


def conjugate_gradients(matvec, b):
    def step(state):
        x, r, p, rr, i = state
        q = matvec(p)
        alpha = rr / (p * q).sum()
        x, r = x + alpha * p, r - alpha * q
        new = (r * r).sum()
        return x, r, r + new / rr * p, new, i + 1

    zero = cnp.zeros_like(b)
    start = (zero, b, b, (b * b).sum(), 0)
    return lax.while_loop(lambda s: (s[3] > 1e-28) & (s[4] < 20), step, start)[0]


def symmetric_solve(s, b):
    return lax.custom_linear_solve(lambda x: s @ x, b, conjugate_gradients, symmetric=True)


def normal_equations(matvec, b):
    """Solves for any matrix, by conjugate gradients on its square."""
    transposed = cv.linear_transpose(matvec, b)
    right = transposed(b)[0]
    return conjugate_gradients(lambda x: transposed(matvec(x))[0], right)


def general_solve(m, b):
    return lax.custom_linear_solve(lambda x: m @ x, b, normal_equations, normal_equations)


SOLVERS = {"symmetric": (symmetric_solve, S), "general": (general_solve, M)}


@pytest.mark.parametrize("kind", SOLVERS)
def test_derivatives_of_solutions(kind):
    solve, matrix = SOLVERS[kind]

    def ours(a, b):
        return (cnp.sin(solve(a, b)) * b).sum()

    def theirs(a, b):
        return (jnp.sin(jnp.linalg.solve(a, b)) * b).sum()

    close(ours(matrix, B), theirs(matrix, B))
    mine, other = cv.grad(ours, (0, 1)), jax.jit(jax.grad(theirs, (0, 1)))
    for run in (mine, cv.jit(mine)):
        close(run(matrix, B), other(matrix, B), 1e-7)
    direction = (matrix * 0.1, B + 1)
    expected = jax.jvp(other, (matrix, B), direction)
    close(cv.jit(lambda: cv.jvp(mine, (matrix, B), direction))(), expected, 1e-6)
    expected = jax.hessian(theirs, 1)(matrix, B)
    close(cv.jit(cv.hessian(ours, 1))(matrix, B), expected, 1e-6)
    matrices, rights = np.stack([matrix, 2 * matrix]), np.stack([B, B * B])
    same = np.stack([B, B])
    for axes, args, every in (
        ((0, 0), (matrices, rights), zip(matrices, rights, strict=True)),
        ((None, 0), (matrix, rights), zip([matrix] * 2, rights, strict=True)),
        ((0, None), (matrices, B), zip(matrices, same, strict=True)),
    ):
        expected = [np.stack(each) for each in zip(*[other(*one) for one in every], strict=True)]
        close(cv.jit(cv.vmap(mine, axes))(*args), expected, 1e-6)
    total = cv.grad(lambda a: cv.vmap(ours, (0, None))(a, B).sum())
    close(total(matrices), expected[0], 1e-6)


def test_the_gradient_by_finite_differences():
    def f(t):
        return (general_solve(M + t * S, B) ** 2).sum()

    close(cv.grad(f)(0.1), differences(f, 0.1), 1e-5)


def test_transposition():
    transposed = cv.linear_transpose(lambda b: general_solve(M, b), B)
    close(transposed(B)[0], np.linalg.solve(M.T, B), 1e-7)


def test_right_hand_sides_in_pytrees_with_auxiliary_data():
    def divide(scale, b):
        def matvec(x):
            return {"p": scale * x["p"], "q": 2.0 * x["q"]}

        def solve(matvec, b):
            return {"p": b["p"] / scale, "q": b["q"] / 2.0}, {"steps": 1, "residual": scale}

        return lax.custom_linear_solve(matvec, b, solve, symmetric=True, has_aux=True)

    b = {"p": np.ones(2), "q": np.array(3.0)}

    def loss(scale, b):
        x, aux = divide(scale, b)
        return x["p"].sum() + x["q"], aux

    gradient, aux = cv.jit(cv.grad(loss, (0, 1), has_aux=True))(4.0, b)
    close(gradient, (-2 / 16, {"p": np.full(2, 0.25), "q": 0.5}))
    close(aux, {"steps": 1, "residual": 4.0})


def test_complex_systems():
    matrix = M + 1j * np.diag([1.0, 2.0, 3.0])

    def solve(matvec, b):
        return cnp.asarray(np.linalg.inv(matrix)) @ b

    def transpose_solve(vecmat, b):
        return cnp.asarray(np.linalg.inv(matrix.T)) @ b

    def ours(b):
        x = lax.custom_linear_solve(lambda x: cnp.asarray(matrix) @ x, b, solve, transpose_solve)
        return (cnp.abs(x) ** 2).sum()

    expected = jax.grad(lambda b: (jnp.abs(jnp.linalg.solve(matrix, b)) ** 2).sum())(B + 1j)
    close(cv.grad(ours)(B + 1j), expected)


def test_programs_are_verified_printed_and_parsed():
    for f in (symmetric_solve, lambda a, b: cv.vjp(general_solve, a, b)[1](b)):
        program = cv.make_program(f)(S, B)
        verify(program)
        assert parse(program.as_text()).as_text() == program.as_text()


def test_import_from_jax():
    def f(a, b):
        return (jnp.linalg.solve(a, b) ** 2).sum()

    program = from_jax(f, M, B)
    assert "custom_linear_solve" in str(program)

    def imported(a, b):
        return eval_program(program, a, b)[0]

    close(cv.jit(cv.grad(imported, (0, 1)))(M, B), jax.grad(f, (0, 1))(M, B))
    close(cv.hessian(imported)(M, B), jax.hessian(f)(M, B), 1e-7)
    batch = np.stack([B, B + 1])
    close(cv.vmap(imported, (None, 0))(M, batch), jax.vmap(f, (None, 0))(M, batch))


# --- messages -------------------------------------------------------------------------------------


def scale(g, y):
    return y / g(1.0)


def test_messages_of_custom_root():
    with pytest.raises(TypeError, match=r"custom_root: f must return a pytree like initial_guess"):
        lax.custom_root(lambda x: (x, x), 1.0, newton, scale)
    with pytest.raises(ValueError, match=r"custom_root: f must .*shapes do not match"):
        lax.custom_root(lambda x: x * cnp.ones(2), 1.0, newton, scale)
    with pytest.raises(TypeError, match=r"custom_root: solve must .*dtypes do not match"):
        lax.custom_root(lambda x: x, 1.0, lambda f, x: 1, scale)
    with pytest.raises(TypeError, match=r"tangent_solve must return a pytree like initial_guess"):
        lax.custom_root(lambda x: x, 1.0, lambda f, x: x, lambda g, y: [y])
    with pytest.raises(TypeError, match=r"solve must return a pair .*has_aux=True, got"):
        lax.custom_root(lambda x: x, 1.0, lambda f, x: x, scale, has_aux=True)
    with pytest.raises(TypeError, match="custom_root: f must be a function"):
        lax.custom_root(1.0, 1.0, newton, scale)
    with pytest.raises(TypeError, match="initial_guess must consist of arrays"):
        lax.custom_root(lambda x: x, "one", newton, scale)


def test_messages_of_custom_linear_solve():
    def half(matvec, b):
        return b / 2

    with pytest.raises(ValueError, match=r"matvec must .*shapes do not match"):
        lax.custom_linear_solve(lambda x: x[:2], B, half)
    with pytest.raises(TypeError, match=r"solve must return a pytree like b"):
        lax.custom_linear_solve(lambda x: 2 * x, B, lambda matvec, b: (b, b))
    with pytest.raises(TypeError, match=r"transpose_solve must return a pytree like b"):
        lax.custom_linear_solve(lambda x: 2 * x, B, half, lambda vecmat, b: (b,))
    with pytest.raises(TypeError, match=r"without transpose_solve[\s\S]*symmetric=True"):
        cv.grad(lambda b: lax.custom_linear_solve(lambda x: 2 * x, b, half).sum())(B)
    with pytest.raises(UnsupportedRuleError):
        lax.custom_linear_solve(cnp.sin, B, half, half)


# --- examples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lax.solvers"])
def test_examples(name):
    result = doctest.testmod(importlib.import_module(f"covector.{name}"))
    assert result.failed == 0
    assert result.attempted > 0
