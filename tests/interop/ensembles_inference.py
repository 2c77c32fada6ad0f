"""Ensembles of fits, filters, chains and searches."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import grad, lax, vmap

from .ensembles import L, case, keys, normal, uniform, wrap


@case
def optax_ensemble_training() -> Any:
    import optax

    opt = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01))
    x = normal(12, 2, seed=7)

    def train(key: Any, y: Any) -> Any:
        k = jax.random.split(wrap(key))
        p = {"w": jax.random.normal(k[0], (2, 6)), "v": jax.random.normal(k[1], (6,))}

        def loss(p: Any) -> Any:
            return jnp.mean((jnp.tanh(x @ p["w"]) @ p["v"] - y) ** 2)

        def step(c: Any, _: Any) -> Any:
            p, s = c
            l, g = jax.value_and_grad(loss)(p)
            u, s = opt.update(g, s, p)
            return ((optax.apply_updates(p, u), s), l)

        (p, _), ls = lax.scan(step, (p, opt.init(p)), None, length=30)
        return (p, ls)

    return (vmap(train), (keys(), normal(L, 12, seed=8)))


@case
def kalman_gradient() -> Any:
    F = np.array([[1, 0.1], [0, 1]], np.float32)
    H = np.array([[1, 0]], np.float32)

    def ll(q: Any, r: Any, ys: Any) -> Any:

        def step(c: Any, y: Any) -> Any:
            m, P = c
            m, P = (F @ m, F @ P @ F.T + q * jnp.eye(2))
            S = H @ P @ H.T + r * jnp.eye(1)
            K = jnp.linalg.solve(S, H @ P).T
            e = y - H @ m
            out = -0.5 * (jnp.linalg.slogdet(S)[1] + e @ jnp.linalg.solve(S, e))
            return ((m + K @ e, P - K @ H @ P), out)

        return lax.scan(step, (jnp.zeros(2), jnp.eye(2)), ys)[1].sum()

    def total(theta: Any, ys: Any) -> Any:
        return vmap(ll, (None, None, 0))(jnp.exp(theta[0]), jnp.exp(theta[1]), ys).sum()

    return (jax.value_and_grad(total), (np.array([-2, -1], np.float32), normal(L, 20, 1)))


@case
def kalman_multivariate_cholesky() -> Any:
    F = (np.eye(4) + 0.1 * np.eye(4, k=1)).astype(np.float32)
    H = np.eye(2, 4, dtype=np.float32)

    def ll(ys: Any, scale: Any) -> Any:

        def step(c: Any, y: Any) -> Any:
            m, P = c
            m, P = (F @ m, F @ P @ F.T + 0.01 * scale * jnp.eye(4))
            S = H @ P @ H.T + 0.1 * jnp.eye(2)
            C = jnp.linalg.cholesky(S)
            K = jax.scipy.linalg.cho_solve((C, True), H @ P).T
            e = y - H @ m
            z = jax.scipy.linalg.solve_triangular(C, e, lower=True)
            return (
                (m + K @ e, (jnp.eye(4) - K @ H) @ P),
                -0.5 * z @ z - jnp.log(jnp.diag(C)).sum(),
            )

        return lax.scan(step, (jnp.zeros(4), jnp.eye(4)), ys)[1].sum()

    return (vmap(ll), (normal(L, 20, 2), uniform(0.5, 2, L)))


@case
def hmc_chains() -> Any:
    scale = jnp.arange(1.0, 4.0)

    def logp(x: Any) -> Any:
        return -0.5 * jnp.sum(x**2 / scale) - jnp.sum(jnp.log1p(x**2))

    def chain(key: Any, x: Any) -> Any:

        def step(c: Any, key: Any) -> Any:
            x = c
            k1, k2 = jax.random.split(key)
            p = jax.random.normal(k1, x.shape)

            def leap(_: Any, s: Any) -> Any:
                x, p = s
                p = p + 0.05 * grad(logp)(x)
                x = x + 0.1 * p
                return (x, p + 0.05 * grad(logp)(x))

            y, q = lax.fori_loop(0, 6, leap, (x, p))
            a = jnp.log(jax.random.uniform(k2)) < logp(y) - logp(x) + 0.5 * (p @ p - q @ q)
            return (jnp.where(a, y, x), a)

        return lax.scan(step, x, jax.random.split(wrap(key), 12))

    return (vmap(chain), (keys(), normal(L, 3)))


@case
def particle_filter_per_series() -> Any:

    def run(key: Any, ys: Any) -> Any:

        def step(c: Any, inp: Any) -> Any:
            x, ll = c
            key, y = inp
            k1, k2 = jax.random.split(key)
            x = 0.9 * x + 0.3 * jax.random.normal(k1, x.shape)
            lw = -0.5 * (y - x) ** 2
            m = lw.max()
            w = jnp.exp(lw - m)
            u = (jnp.arange(16) + jax.random.uniform(k2)) / 16
            idx = jnp.searchsorted(jnp.cumsum(w) / w.sum(), u)
            return ((x[jnp.clip(idx, 0, 15)], ll + m + jnp.log(w.mean())), None)

        (x, ll), _ = lax.scan(step, (jnp.zeros(16), 0.0), (jax.random.split(wrap(key), 15), ys))
        return (x.mean(), ll)

    return (vmap(run), (keys(), normal(L, 15)))


@case
def bootstrap_regression() -> Any:
    x, y = (jnp.asarray(normal(40)), jnp.asarray(normal(40, seed=5)))

    def fit(key: Any) -> Any:
        idx = jax.random.randint(wrap(key), (40,), 0, 40)
        xs, ys = (x[idx], y[idx])

        def step(w: Any, _: Any) -> Any:
            g = grad(lambda w: jnp.mean((w[0] + w[1] * xs - ys) ** 2))(w)
            return (w - 0.1 * g, None)

        return lax.scan(step, jnp.zeros(2), None, length=50)[0]

    return (vmap(fit), (keys(),))


@case
def batched_newton() -> Any:

    def solve(a: Any, x0: Any) -> Any:

        def f(x: Any) -> Any:
            return jnp.stack([x[0] ** 2 + x[1] ** 2 - a, jnp.exp(x[0]) + x[1] - 2.0])

        def cond(c: Any) -> Any:
            _x, r, n = c
            return (jnp.linalg.norm(r) > 0.0001) & (n < 30)

        def body(c: Any) -> Any:
            x, r, n = c
            x = x - jnp.linalg.solve(jax.jacfwd(f)(x), r)
            return (x, f(x), n + 1)

        return lax.while_loop(cond, body, (x0, f(x0), 0))

    return (vmap(solve), (uniform(2, 6, L), 1 + 0.1 * normal(L, 2)))


@case
def batched_lbfgs() -> Any:
    import optax

    opt = optax.lbfgs(memory_size=4)

    def minimize(x: Any, a: Any) -> Any:

        def f(x):
            return jnp.sum(a * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

        def step(c: Any, _: Any) -> Any:
            x, s = c
            v, g = optax.value_and_grad_from_state(f)(x, state=s)
            u, s = opt.update(g, s, x, value=v, grad=g, value_fn=f)
            return ((optax.apply_updates(x, u), s), v)

        return lax.scan(step, (x, opt.init(x)), None, length=4)[1]

    return (vmap(minimize), (normal(L, 3), uniform(5, 10, L)))


@case
def simulated_annealing() -> Any:

    def run(key: Any, x: Any) -> Any:

        def f(x):
            return jnp.sum(x**2 - 3 * jnp.cos(5 * x))

        def step(i: Any, c: Any) -> Any:
            key, x, e, best = c
            key, k1, k2 = jax.random.split(key, 3)
            T = 1.0 / (1 + i)
            y = x + 0.3 * jax.random.normal(k1, x.shape)
            ey = f(y)
            ok = (ey < e) | (jax.random.uniform(k2) < jnp.exp((e - ey) / T))
            x, e = (jnp.where(ok, y, x), jnp.where(ok, ey, e))
            return (key, x, e, jnp.minimum(best, e))

        return lax.fori_loop(0, 40, step, (wrap(key), x, f(x), f(x)))[1:]

    return (vmap(run), (keys(), normal(L, 2)))


@case
def ising_metropolis() -> Any:

    def run(key: Any, beta: Any) -> Any:

        def step(c: Any, key: Any) -> Any:
            s = c
            k1, k2 = jax.random.split(key)
            ij = jax.random.randint(k1, (2,), 0, 6)
            i, j = (ij[0], ij[1])
            nb = s[(i + 1) % 6, j] + s[(i - 1) % 6, j] + s[i, (j + 1) % 6] + s[i, (j - 1) % 6]
            dE = 2 * s[i, j] * nb
            flip = jax.random.uniform(k2) < jnp.exp(-beta * dE)
            return (s.at[i, j].multiply(jnp.where(flip, -1.0, 1.0)), s.sum())

        return lax.scan(step, jnp.ones((6, 6)), jax.random.split(wrap(key), 60))

    return (vmap(run), (keys(), uniform(0.1, 0.8, L)))


@case
def hmm_forward_viterbi() -> Any:
    A = jax.nn.log_softmax(jnp.asarray(normal(4, 4)))
    B = jax.nn.log_softmax(jnp.asarray(normal(4, 6, seed=2)))

    def run(obs: Any) -> Any:

        def fwd(al: Any, o: Any) -> Any:
            return (jax.nn.logsumexp(al[:, None] + A, axis=0) + B[:, o], None)

        def vit(d: Any, o: Any) -> Any:
            s = d[:, None] + A
            return (s.max(0) + B[:, o], s.argmax(0))

        al, _ = lax.scan(fwd, B[:, obs[0]], obs[1:])
        d, ptr = lax.scan(vit, B[:, obs[0]], obs[1:])
        last = d.argmax()
        _, path = lax.scan(lambda s, p: (p[s], p[s]), last, ptr, reverse=True)
        return (jax.nn.logsumexp(al), path, last)

    return (vmap(run), (np.random.default_rng(0).integers(0, 6, (L, 20)).astype(np.int32),))


@case
def gru_sequences() -> Any:
    p = (normal(3, 12) / 2, normal(4, 12, seed=1) / 2, normal(12, seed=2))

    def run(xs: Any, n: Any) -> Any:
        wi, wh, b = p

        def cell(c: Any, x: Any) -> Any:
            h, i = c
            xi = jnp.split(x @ wi + b, 3)
            hi = jnp.split(h @ wh, 3)
            r, u = (jax.nn.sigmoid(xi[0] + hi[0]), jax.nn.sigmoid(xi[1] + hi[1]))
            h2 = (1 - u) * jnp.tanh(xi[2] + r * hi[2]) + u * h
            h = jnp.where(i < n, h2, h)
            return ((h, i + 1), h)

        return lax.scan(cell, (jnp.zeros(4), 0), xs)

    return (
        vmap(run),
        (normal(L, 12, 3), np.random.default_rng(1).integers(3, 12, L).astype(np.int32)),
    )


@case
def parallel_tempering() -> Any:
    """Replicas that swap with neighbours: they do not separate."""

    def run(key: Any, x: Any) -> Any:
        betas = jnp.linspace(0.1, 1.0, L)

        def step(c: Any, key: Any) -> Any:
            x = c
            k1, k2, k3 = jax.random.split(key, 3)
            e = x**4 - 2 * x**2
            y = x + 0.5 * jax.random.normal(k1, (L,))
            ey = y**4 - 2 * y**2
            x = jnp.where(jax.random.uniform(k2, (L,)) < jnp.exp(-betas * (ey - e)), y, x)
            e = x**4 - 2 * x**2
            d = (betas[1:] - betas[:-1]) * (e[1:] - e[:-1])
            swap = jnp.zeros(L, bool).at[:-1].set(jax.random.uniform(k3, (L - 1,)) < jnp.exp(d))
            swap = swap & (jnp.arange(L) % 2 == 0)
            x2 = jnp.where(swap, jnp.roll(x, -1), x)
            x2 = jnp.where(jnp.roll(swap, 1), jnp.roll(x, 1), x2)
            return (x2, x2.mean())

        return lax.scan(step, x, jax.random.split(wrap(key), 20))

    return (run, (keys(1)[0], normal(L)))


@case
def evolution_strategy() -> Any:
    """A mean over lanes feeds the next generation."""

    def run(key: Any, m: Any) -> Any:

        def gen(m: Any, key: Any) -> Any:
            pop = m + 0.2 * jax.random.normal(key, (L, 3))
            f = vmap(lambda x: jnp.sum((x - 1) ** 2))(pop)
            w = jax.nn.softmax(-f)
            return (w @ pop, f.min())

        return lax.scan(gen, m, jax.random.split(wrap(key), 10))

    return (run, (keys(1)[0], np.zeros(3, np.float32)))
