"""Programs people write in JAX, to import: solvers, training steps, filters, Monte Carlo, models.

Each case makes a function of arrays and example arguments; sizes are small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax


class Case(NamedTuple):
    """A program: `make` returns the function and its arguments."""

    name: str
    make: Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]
    rtol: float


CASES: dict[str, Case] = {}


def case(rtol: float = 2e-5) -> Callable[[Any], Any]:
    """Registers a function that makes a program, under its name."""

    def register(make: Any) -> Any:
        CASES[make.__name__] = Case(make.__name__, make, rtol)
        return make

    return register


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# --- differential equations -----------------------------------------------------------------------


def lorenz(t: Any, y: Any, args: Any) -> Any:
    sigma, rho, beta = args
    return jnp.stack([sigma * (y[1] - y[0]), y[0] * (rho - y[2]) - y[1], y[0] * y[1] - beta * y[2]])


LORENZ = (jnp.array([1.0, 1.0, 1.0]), jnp.array([10.0, 28.0, 8 / 3]))


def diffrax_solve(controller: str, **options: Any) -> Callable[..., Any]:
    diffrax = pytest.importorskip("diffrax")
    adaptive = diffrax.PIDController(rtol=1e-3, atol=1e-5)
    constant = diffrax.ConstantStepSize()

    def solve(y0: Any, args: Any) -> Any:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lorenz),
            diffrax.Tsit5(),
            t0=0.0,
            t1=0.3,
            dt0=0.01,
            y0=y0,
            args=args,
            stepsize_controller=adaptive if controller == "adaptive" else constant,
            saveat=diffrax.SaveAt(ts=jnp.array([0.1, 0.3])),
            max_steps=64,
            throw=False,
            **options,
        )
        return solution.ys

    return solve


@case()
def diffrax_fixed_step() -> Any:
    return diffrax_solve("constant"), LORENZ


@case(1e-4)
def diffrax_adaptive() -> Any:
    return diffrax_solve("adaptive"), LORENZ


@case(1e-3)
def diffrax_fixed_step_gradient() -> Any:
    solve = diffrax_solve("constant")
    return jax.grad(lambda y0, args: solve(y0, args).sum(), argnums=(0, 1)), LORENZ


@case(1e-3)
def diffrax_adaptive_gradient() -> Any:
    solve = diffrax_solve("adaptive")
    return jax.grad(lambda y0, args: solve(y0, args).sum(), argnums=(0, 1)), LORENZ


def rk4(y0: Any, args: Any, steps: int = 20, dt: float = 0.01) -> Any:
    def step(y: Any, _: Any) -> Any:
        k1 = lorenz(0.0, y, args)
        k2 = lorenz(0.0, y + 0.5 * dt * k1, args)
        k3 = lorenz(0.0, y + 0.5 * dt * k2, args)
        k4 = lorenz(0.0, y + dt * k3, args)
        y = y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y, y[0]

    return lax.scan(step, y0, None, length=steps)


@case()
def lorenz_rk4_vmapped() -> Any:
    rho = jnp.linspace(20.0, 30.0, 5)

    def ensemble(y0: Any, rho: Any) -> Any:
        return jax.vmap(lambda r: rk4(y0, (10.0, r, 8 / 3)))(rho)

    return ensemble, (LORENZ[0], rho)


@case(1e-3)
def lorenz_rk4_vmapped_gradient() -> Any:
    ensemble, args = lorenz_rk4_vmapped()
    return jax.grad(lambda y0, rho: ensemble(y0, rho)[0].sum(), argnums=(0, 1)), args


@case()
def heat_equation() -> Any:
    def simulate(u: Any, alpha: Any) -> Any:
        def step(_: Any, u: Any) -> Any:
            padded = jnp.pad(u, 1, mode="edge")
            laplacian = padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2]
            return u + alpha * (laplacian - 4 * u)

        return lax.fori_loop(0, 10, step, u.at[0].set(1.0))

    return simulate, (normal(8, 8), 0.1)


@case()
def n_body() -> Any:
    def energy_after(x: Any, v: Any, mass: Any) -> Any:
        def acceleration(x: Any) -> Any:
            d = x[None] - x[:, None]
            r2 = jnp.sum(d * d, -1) + 1e-2
            return jnp.sum(mass[None, :, None] * d * lax.rsqrt(r2)[..., None] ** 3, axis=1)

        def step(state: Any, _: Any) -> Any:
            x, v = state
            v = v + 0.01 * acceleration(x)
            return (x + 0.01 * v, v), jnp.sum(mass * jnp.sum(v**2, -1)) / 2

        return lax.scan(step, (x, v), None, length=10)

    return energy_after, (normal(6, 3), normal(6, 3, seed=1), np.abs(normal(6)))


# --- learning -------------------------------------------------------------------------------------


@case()
def optax_adam_step() -> Any:
    optax = pytest.importorskip("optax")
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
    params = {"w": normal(4, 3), "b": normal(3)}
    x, y = normal(8, 4, seed=1), normal(8, 3, seed=2)

    def loss(params: Any, x: Any, y: Any) -> Any:
        return jnp.mean((jnp.tanh(x @ params["w"] + params["b"]) - y) ** 2)

    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params, x, y)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    return step, (params, optimizer.init(params), x, y)


@case(1e-4)
def optax_lbfgs() -> Any:
    optax = pytest.importorskip("optax")
    optimizer = optax.lbfgs(memory_size=4)

    def rosenbrock(x: Any) -> Any:
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    def minimize(x: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            x, state = carry
            value, grad = optax.value_and_grad_from_state(rosenbrock)(x, state=state)
            updates, state = optimizer.update(
                grad, state, x, value=value, grad=grad, value_fn=rosenbrock
            )
            return (optax.apply_updates(x, updates), state), value

        return lax.scan(step, (x, optimizer.init(x)), None, length=3)[1]

    return minimize, (np.array([-1.0, 1.5, 0.5], np.float32),)


def flax_mlp() -> Any:
    linen = pytest.importorskip("flax.linen")

    class Model(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            x = linen.gelu(linen.Dense(16)(x))
            x = linen.LayerNorm()(x)
            return linen.log_softmax(linen.Dense(4)(x))

    model = Model()
    x = normal(5, 8)
    return model, model.init(jax.random.key(0), x), x


@case()
def flax_mlp_forward() -> Any:
    model, variables, x = flax_mlp()
    return model.apply, (variables, x)


@case(1e-4)
def flax_mlp_gradient() -> Any:
    model, variables, x = flax_mlp()
    labels = np.array([0, 1, 2, 3, 0])

    def loss(variables: Any, x: Any, labels: Any) -> Any:
        return -jnp.mean(jnp.take_along_axis(model.apply(variables, x), labels[:, None], 1))

    return jax.value_and_grad(loss), (variables, x, labels)


@case()
def logistic_regression() -> Any:
    def fit(w: Any, x: Any, y: Any) -> Any:
        def loss(w: Any) -> Any:
            logits = x @ w
            return jnp.mean(jnp.logaddexp(0.0, logits) - y * logits) + 0.1 * jnp.sum(w**2)

        def step(w: Any, _: Any) -> Any:
            value, grad = jax.value_and_grad(loss)(w)
            return w - 0.5 * grad, value

        return lax.scan(step, w, None, length=20)

    x = normal(30, 3)
    return fit, (np.zeros(3, np.float32), x, (x[:, 0] > 0).astype(np.float32))


@case()
def gru_cell_scan() -> Any:
    def run(params: Any, h: Any, xs: Any) -> Any:
        wi, wh, b = params

        def cell(h: Any, x: Any) -> Any:
            xi = jnp.split(x @ wi + b, 3)
            hi = jnp.split(h @ wh, 3)
            reset, update = jax.nn.sigmoid(xi[0] + hi[0]), jax.nn.sigmoid(xi[1] + hi[1])
            candidate = jnp.tanh(xi[2] + reset * hi[2])
            h = (1 - update) * candidate + update * h
            return h, h

        return lax.scan(cell, h, xs)

    params = (normal(3, 12), normal(4, 12, seed=1), normal(12, seed=2))
    return run, (params, np.zeros(4, np.float32), normal(6, 3, seed=3))


@case()
def softmax_attention() -> Any:
    def attend(q: Any, k: Any, v: Any) -> Any:
        scores = jnp.einsum("bhqd,bhkd->bhqk", q, k) / jnp.sqrt(q.shape[-1])
        causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        weights = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf))
        return jnp.einsum("bhqk,bhkd->bhqd", weights, v)

    return attend, tuple(normal(2, 3, 5, 4, seed=s) for s in range(3))


@case(1e-4)
def vision_mlp() -> Any:
    """Patches mixed along tokens and along channels, without a convolution."""

    def model(params: Any, image: Any) -> Any:
        patches = image.reshape(4, 2, 4, 2, 3).transpose(0, 2, 1, 3, 4).reshape(16, 12)
        x = patches @ params["embed"]
        for tokens, channels in params["blocks"]:
            x = x + jnp.tanh(x.T @ tokens).T
            x = x + jax.nn.relu(x @ channels)
        x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return jax.nn.log_softmax(x.mean(0) @ params["head"])

    params = {
        "embed": normal(12, 8) / 4,
        "blocks": [(normal(16, 16, seed=s) / 4, normal(8, 8, seed=s + 9) / 4) for s in (1, 2)],
        "head": normal(8, 10, seed=3),
    }
    batched = jax.vmap(model, in_axes=(None, 0))
    return jax.jit(batched), (params, normal(2, 8, 8, 3, seed=4))


# --- statistics -----------------------------------------------------------------------------------


@case(1e-4)
def kalman_filter() -> Any:
    def log_likelihood(F: Any, H: Any, Q: Any, R: Any, ys: Any) -> Any:
        def step(carry: Any, y: Any) -> Any:
            m, P = carry
            m, P = F @ m, F @ P @ F.T + Q
            S = H @ P @ H.T + R
            K = jnp.linalg.solve(S, H @ P).T
            e = y - H @ m
            _, logdet = jnp.linalg.slogdet(2 * jnp.pi * S)
            ll = -0.5 * (logdet + e @ jnp.linalg.solve(S, e))
            return (m + K @ e, P - K @ H @ P), ll

        _, lls = lax.scan(step, (jnp.zeros(2), jnp.eye(2)), ys)
        return lls.sum()

    F = np.array([[1, 0.1], [0, 1]], np.float32)
    eye = np.eye(2, dtype=np.float32)
    return log_likelihood, (F, eye, 0.01 * eye, 0.1 * eye, normal(10, 2))


@case(1e-4)
def hmc_step() -> Any:
    def log_density(x: Any) -> Any:
        return -0.5 * jnp.sum(x**2 / jnp.arange(1.0, 4.0)) - jnp.sum(jnp.log1p(x**2))

    def step(seed: Any, x: Any) -> Any:
        momentum_key, accept_key = jax.random.split(jax.random.key(seed))
        p = jax.random.normal(momentum_key, x.shape)

        def leapfrog(_: Any, state: Any) -> Any:
            x, p = state
            p = p + 0.05 * jax.grad(log_density)(x)
            x = x + 0.1 * p
            return x, p + 0.05 * jax.grad(log_density)(x)

        y, q = lax.fori_loop(0, 8, leapfrog, (x, p))
        log_ratio = log_density(y) - log_density(x) + 0.5 * (p @ p - q @ q)
        accept = jnp.log(jax.random.uniform(accept_key)) < log_ratio
        return jnp.where(accept, y, x), accept

    return step, (3, normal(3))


@case(1e-4)
def black_scholes_monte_carlo() -> Any:
    def price(seed: Any, spot: Any, sigma: Any) -> Any:
        def path(key: Any) -> Any:
            shocks = jax.random.normal(key, (12,))
            drift = (0.02 - 0.5 * sigma**2) / 12
            log_path = jnp.cumsum(drift + sigma * jnp.sqrt(1 / 12) * shocks)
            return jnp.maximum(spot * jnp.exp(log_path).mean() - 100.0, 0.0)

        keys = jax.random.split(jax.random.key(seed), 64)
        return jnp.exp(-0.02) * jax.vmap(path)(keys).mean()

    return jax.value_and_grad(price, argnums=(1, 2)), (0, 100.0, 0.2)


@case(1e-3)
def gaussian_process_likelihood() -> Any:
    def negative_log_likelihood(theta: Any, x: Any, y: Any) -> Any:
        scale, variance, noise = jnp.exp(theta)
        d2 = jnp.sum((x[:, None] - x[None]) ** 2, -1)
        K = variance * jnp.exp(-0.5 * d2 / scale**2) + noise * jnp.eye(len(y))
        L = jnp.linalg.cholesky(K)
        alpha = jax.scipy.linalg.cho_solve((L, True), y)
        return 0.5 * y @ alpha + jnp.sum(jnp.log(jnp.diag(L)))

    theta = np.array([0.0, 0.1, -1.0], np.float32)
    return jax.value_and_grad(negative_log_likelihood), (theta, normal(8, 2), normal(8, seed=1))


@case(1e-4)
def pca_power_iteration() -> Any:
    def leading(x: Any, v: Any) -> Any:
        x = x - x.mean(0)

        def unfinished(state: Any) -> Any:
            v, previous, i = state
            return (jnp.abs(v - previous).max() > 1e-3) & (i < 50)

        def iterate(state: Any) -> Any:
            v, _, i = state
            w = x.T @ (x @ v)
            return w / jnp.linalg.norm(w), v, i + 1

        v, _, _ = lax.while_loop(unfinished, iterate, (v, jnp.zeros_like(v), 0))
        return v, jnp.var(x @ v)

    return leading, (normal(20, 4) * np.array([3, 1, 1, 1], np.float32), np.ones(4, np.float32))


@case()
def sorted_quantiles() -> Any:
    def summary(x: Any) -> Any:
        order = jnp.argsort(x)
        ranks = jnp.zeros_like(order).at[order].set(jnp.arange(len(x)))
        quantiles = jnp.quantile(x, jnp.array([0.1, 0.5, 0.9]))
        return quantiles, jnp.median(x), ranks, jnp.searchsorted(jnp.sort(x), 0.0)

    return summary, (normal(21),)


@case()
def mandelbrot() -> Any:
    def escape_times(re: Any, im: Any) -> Any:
        def count(c_re: Any, c_im: Any) -> Any:
            def inside(state: Any) -> Any:
                x, y, n = state
                return (x * x + y * y < 4) & (n < 50)

            def step(state: Any) -> Any:
                x, y, n = state
                return x * x - y * y + c_re, 2 * x * y + c_im, n + 1

            return lax.while_loop(inside, step, (0.0, 0.0, 0))[2]

        return jax.vmap(jax.vmap(count, (0, None)), (None, 0))(re, im)

    return escape_times, (np.linspace(-2, 1, 8, dtype="f"), np.linspace(-1, 1, 6, dtype="f"))


@case()
def sir_epidemic() -> Any:
    """Gillespie's algorithm: events at random times until nobody is infected."""

    def simulate(seed: Any, beta: Any, gamma: Any) -> Any:
        def unfinished(state: Any) -> Any:
            _, _, infected, t, _ = state
            return (infected > 0) & (t < 20.0)

        def event(state: Any) -> Any:
            key, susceptible, infected, t, steps = state
            key, wait_key, kind_key = jax.random.split(key, 3)
            infection = beta * susceptible * infected / 50
            total = infection + gamma * infected
            t = t - jnp.log(jax.random.uniform(wait_key, minval=1e-6)) / total
            infects = jax.random.uniform(kind_key) * total < infection
            return (
                key,
                susceptible - infects,
                infected + jnp.where(infects, 1, -1),
                t,
                steps + 1,
            )

        state = (jax.random.key(seed), 45, 5, 0.0, 0)
        return lax.while_loop(unfinished, event, state)[1:]

    return simulate, (1, 0.3, 0.2)
