"""Rules as people write them: each against what is known about it, under transformations."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.linalg

import covector as cv
import covector.numpy as cnp
from covector import lax


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with cv.enable_x64():
        yield


def close(found: Any, wanted: Any, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=tolerance, atol=1e-12)


# --- gradient clipping ----------------------------------------------------------------------------


@cv.custom_vjp
def clip_gradient(low: Any, high: Any, x: Any) -> Any:
    return x


clip_gradient.defvjp(
    lambda low, high, x: (x, (low, high)),
    lambda bounds, ct: (None, None, cnp.clip(ct, *bounds)),
)


def test_gradient_clipping() -> None:
    xs = cnp.array([0.1, -3.0, 0.4, 2.0])

    def loss(x: Any) -> Any:
        return (clip_gradient(-0.5, 0.5, x) ** 2).sum()

    clipped = [0.2, -0.5, 0.5, 0.5]
    close(cv.grad(loss)(xs), clipped)
    close(cv.jit(cv.grad(loss))(xs), clipped)
    close(cv.vmap(cv.grad(loss))(xs), clipped)

    # Through a recurrence that explodes, gradients stay bounded at every step.
    def rollout(x: Any) -> Any:
        def step(c: Any, _: Any) -> Any:
            return 3.0 * clip_gradient(-1.0, 1.0, c), c

        return lax.scan(step, x, None, length=20)[0]

    close(cv.jit(cv.grad(rollout))(0.5), 1.0)
    close(cv.vmap(cv.grad(rollout))(xs), np.ones(4))
    # Clipping is not linear in the cotangent, so that there is no forward mode, and it says so.
    with pytest.raises(cv.errors.UnsupportedRuleError, match="clip_gradient needs its backward"):
        cv.jvp(loss, (xs,), (xs,))
    # Forward over reverse differentiates the backward rule itself: zero where it clips.
    close(cv.hessian(loss)(xs), np.diag([2.0, 0.0, 0.0, 0.0]))


# --- straight-through estimation ------------------------------------------------------------------


@cv.custom_jvp
def quantised(x: Any) -> Any:
    return cnp.round(x)


quantised.defjvp(lambda primals, tangents: (quantised(*primals), tangents[0]))


def test_straight_through() -> None:
    xs = cnp.array([0.2, 1.7, -2.4])

    def loss(x: Any) -> Any:
        return (quantised(x) * cnp.array([1.0, 2.0, 3.0])).sum() ** 2

    total = 0.0 + 2.0 * 2.0 - 3.0 * 2.0
    close(cv.grad(loss)(xs), 2 * total * np.array([1.0, 2.0, 3.0]))
    close(cv.jacfwd(loss)(xs), cv.jacrev(loss)(xs))
    close(cv.hessian(loss)(xs), 2 * np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]))
    close(cv.vmap(cv.grad(lambda x: quantised(x) ** 2))(xs), 2 * np.round(xs))


# --- reversible layers ----------------------------------------------------------------------------


def half_step(weights: Any, x: Any) -> Any:
    return cnp.tanh(weights @ x)


def forwards(params: Any, pair: Any) -> Any:
    def layer(pair: Any, weights: Any) -> Any:
        x, y = pair
        x = x + half_step(weights["f"], y)
        return (x, y + half_step(weights["g"], x)), None

    return lax.scan(layer, pair, params)[0]


@cv.custom_vjp
def reversible(params: Any, pair: Any) -> Any:
    """Residual layers whose inputs are found again from their outputs."""
    return forwards(params, pair)


def reversible_fwd(params: Any, pair: Any) -> Any:
    out = forwards(params, pair)
    return out, (params, out)


def reversible_bwd(kept: Any, cts: Any) -> Any:
    params, out = kept

    def layer(carry: Any, weights: Any) -> Any:
        (x, y), (ct_x, ct_y) = carry
        g, pull_g = cv.vjp(half_step, weights["g"], x)
        y = y - g
        grad_g, ct = pull_g(ct_y)
        ct_x = ct_x + ct
        f, pull_f = cv.vjp(half_step, weights["f"], y)
        x = x - f
        grad_f, ct = pull_f(ct_x)
        return ((x, y), (ct_x, ct_y + ct)), {"f": grad_f, "g": grad_g}

    (_, ct_pair), grads = lax.scan(layer, (out, cts), params, reverse=True)
    return grads, ct_pair


reversible.defvjp(reversible_fwd, reversible_bwd)


def test_reversible_layers() -> None:
    rng = np.random.default_rng(0)
    params = {k: cnp.asarray(rng.normal(size=(6, 3, 3)) / 3) for k in "fg"}
    pair = tuple(cnp.asarray(rng.normal(size=3)) for _ in range(2))

    def loss(run: Any) -> Any:
        return lambda params, pair: sum(cnp.sum(cnp.sin(part)) for part in run(params, pair))

    wanted = cv.grad(loss(forwards), (0, 1))(params, pair)
    for transform in (lambda f: f, cv.jit):
        found = transform(cv.grad(loss(reversible), (0, 1)))(params, pair)
        for a, b in zip(cv.tree.leaves(found), cv.tree.leaves(wanted), strict=True):
            close(a, b)
    pairs = tuple(cnp.stack([part, -part]) for part in pair)
    batched = cv.vmap(cv.grad(loss(reversible)), (None, 0))(params, pairs)
    close(batched["f"][0], wanted[0]["f"])
    # Nothing is kept for each layer.
    residuals = cv.linearize(lambda x: reversible(params, (x, pair[1]))[0], pair[0])
    close(residuals[0], forwards(params, pair)[0])


# --- implicit fixed points ------------------------------------------------------------------------


def settled(f: Any, start: Any) -> Any:
    def unsettled(state: Any) -> Any:
        before, now, count = state
        return (cnp.abs(now - before).max() > 1e-13) & (count < 500)

    def step(state: Any) -> Any:
        _, now, count = state
        return now, f(now), count + 1

    return lax.while_loop(unsettled, step, (start, f(start), 0))[1]


@partial(cv.custom_vjp, nondiff_argnums=0)
def fixed_point(f: Any, params: Any, start: Any) -> Any:
    """The x with f(params, x) = x."""
    return settled(lambda x: f(params, x), start)


def fixed_point_fwd(f: Any, params: Any, start: Any) -> Any:
    x = fixed_point(f, params, start)
    return x, (params, x)


def fixed_point_bwd(f: Any, kept: Any, ct: Any) -> Any:
    params, x = kept

    def adjoint_equation(given: Any, u: Any) -> Any:  # u = ct + u df/dx
        ct, params, x = given
        return ct + cv.vjp(lambda v: f(params, v), x)[1](u)[0]

    u = fixed_point(adjoint_equation, (ct, params, x), ct)
    return cv.vjp(lambda p: f(p, x), params)[1](u)[0], None


fixed_point.defvjp(fixed_point_fwd, fixed_point_bwd)


def test_implicit_fixed_point() -> None:
    def kepler(params: Any, x: Any) -> Any:  # Kepler's equation: x = M + e sin x
        anomaly, eccentricity = params
        return anomaly + eccentricity * cnp.sin(x)

    def solve(anomaly: Any, eccentricity: Any) -> Any:
        return fixed_point(kepler, (anomaly, eccentricity), anomaly)

    m, e = 0.9, 0.4
    x = float(solve(m, e))
    slope = 1 / (1 - e * np.cos(x))
    close(x, m + e * np.sin(x))
    close(cv.grad(solve, (0, 1))(m, e), (slope, slope * np.sin(x)))
    close(cv.jit(cv.grad(solve))(m, e), slope)
    ms = cnp.linspace(0.1, 3.0, 5)
    found = cv.jit(cv.vmap(cv.grad(solve), (0, None)))(ms, e)
    close(found, 1 / (1 - e * np.cos(cv.vmap(solve, (0, None))(ms, e))))
    # Reverse over reverse: d2x/dM2 = -e sin x / (1 - e cos x)^3.
    close(cv.grad(cv.grad(solve))(m, e), -e * np.sin(x) * slope**3)


# --- log(1 + exp(x)) ------------------------------------------------------------------------------


@cv.custom_jvp
def log1pexp(x: Any) -> Any:
    return cnp.log1p(cnp.exp(x))


@log1pexp.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    return log1pexp(x), (1 - 1 / (1 + cnp.exp(x))) * t


def test_stable_log1pexp() -> None:
    xs = cnp.array([-800.0, -1.0, 0.0, 30.0, 800.0])
    assert np.isnan(cv.vmap(cv.grad(lambda x: cnp.log1p(cnp.exp(x))))(xs)[-1])
    sigmoid = 0.5 * (1 + np.tanh(np.asarray(xs) / 2))
    for derivative in (cv.grad(log1pexp), cv.jacfwd(log1pexp), cv.jit(cv.jacrev(log1pexp))):
        close(cv.vmap(derivative)(xs), sigmoid)
    second = cv.vmap(cv.grad(cv.grad(log1pexp)))(xs[1:4])
    close(second, (sigmoid * (1 - sigmoid))[1:4], 1e-6)
    total = cv.jit(cv.grad(lambda x: lax.scan(lambda c, v: (c + log1pexp(v), None), 0.0, x)[0]))
    close(total(xs), sigmoid)


# --- a physical solver with a hand-written adjoint ------------------------------------------------


def tridiagonal(diffusivity: Any, dx: float) -> Any:
    """-(k u')' on cells of width dx, with conductances on the faces and u = 0 at both ends."""
    k = diffusivity / dx**2
    return k[:-1] + k[1:], -k[1:-1]


def divergence(flux: Any) -> Any:
    """Of a flux through the faces of cells."""
    return cnp.diff(flux) * float(flux.size - 1)


def slope(u: Any) -> Any:
    """On the faces of cells."""
    return cnp.diff(cnp.pad(u, 1)) * float(u.size)


def solved_outside(diffusivity: Any, source: Any) -> Any:
    """Steady diffusion by SciPy."""

    def solve(k: Any, q: Any) -> Any:
        main, off = tridiagonal(np.asarray(k), 1.0 / len(q))
        banded = np.stack([np.append(0.0, off), main, np.append(off, 0.0)])
        return scipy.linalg.solve_banded((1, 1), banded, np.asarray(q))

    return cv.pure_callback(solve, cv.typeof(source), diffusivity, source, vmap_method="sequential")


def solved_inside(diffusivity: Any, source: Any) -> Any:
    main, off = tridiagonal(diffusivity, 1.0 / source.size)
    return cnp.linalg.solve(cnp.diag(main) + cnp.diag(off, 1) + cnp.diag(off, -1), source)


@cv.custom_vjp
def diffused(diffusivity: Any, source: Any) -> Any:
    return solved_outside(diffusivity, source)


def diffused_fwd(diffusivity: Any, source: Any) -> Any:
    u = diffused(diffusivity, source)
    return u, (diffusivity, u)


def diffused_bwd(kept: Any, ct: Any) -> Any:
    diffusivity, u = kept
    adjoint = diffused(diffusivity, ct)  # the operator is its own transpose
    return -slope(u) * slope(adjoint), adjoint


diffused.defvjp(diffused_fwd, diffused_bwd)


# The same, with all that it is: linear in the source, symmetric, and with a derivative.
diffused_linearly = cv.custom_transpose(solved_outside)
diffused_linearly.def_transpose(lambda diffusivity, ct: diffused_in_all_modes(diffusivity, ct))


@cv.custom_jvp
def diffused_in_all_modes(diffusivity: Any, source: Any) -> Any:
    return diffused_linearly(diffusivity, source)


@diffused_in_all_modes.defjvp
def _(primals: Any, tangents: Any) -> Any:  # A u = q, so that A du = dq - dA u
    (k, _), (k_t, q_t) = primals, tangents
    u = diffused_in_all_modes(*primals)
    return u, diffused_in_all_modes(k, q_t + divergence(k_t * slope(u)))


@pytest.mark.parametrize("solver", [diffused, diffused_in_all_modes])
def test_solver_with_an_adjoint(solver: Any) -> None:
    rng = np.random.default_rng(1)
    k, q = 1.0 + rng.random(9), rng.normal(size=8)

    def energy(solver: Any) -> Any:
        return lambda k, q: (solver(k, q) ** 2).sum()

    wanted = cv.grad(energy(solved_inside), (0, 1))(k, q)
    for transform in (lambda f: f, cv.jit):
        for a, b in zip(transform(cv.grad(energy(solver), (0, 1)))(k, q), wanted, strict=True):
            close(a, b)
    ks = cnp.stack([k, 2.0 * k])
    close(cv.jit(cv.vmap(cv.grad(energy(solver)), (0, None)))(ks, q)[0], wanted[0])

    # The adjoint is made of what has derivatives: so are second derivatives.
    def curvature(solver: Any) -> Any:
        return cv.grad(lambda k: (cv.grad(energy(solver))(k, q) ** 2).sum())(k)

    close(curvature(solver), curvature(solved_inside), 1e-7)


def test_forward_mode_of_a_solver() -> None:
    rng = np.random.default_rng(1)
    k, q = 1.0 + rng.random(9), rng.normal(size=8)
    wanted = cv.jvp(solved_inside, (k, q), (k, q))[1]
    close(cv.jvp(diffused_in_all_modes, (k, q), (k, q))[1], wanted)
    found = cv.jacfwd(cv.jacrev(lambda k: diffused_in_all_modes(k, q).sum()))(k)
    close(found, cv.hessian(lambda k: solved_inside(k, q).sum())(k), 1e-7)
    # Forward mode of the other would have to transpose what happens outside.
    with pytest.raises(cv.errors.UnsupportedRuleError, match="diffused needs its backward rule"):
        cv.jvp(diffused, (k, q), (k, q))
