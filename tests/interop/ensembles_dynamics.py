"""Ensembles of solves, paths and rollouts."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import grad, lax, vmap

from .ensembles import L, case, keys, normal, uniform, wrap


def lorenz(t: Any, y: Any, args: Any) -> Any:
    s, r, b = args
    return jnp.stack([s * (y[1] - y[0]), y[0] * (r - y[2]) - y[1], y[0] * y[1] - b * y[2]])


def dfx(
    y0: Any,
    rho: Any,
    adaptive: Any = True,
    saveat: Any = None,
    throw: Any = True,
    solver: Any = None,
    **kw: Any,
) -> Any:
    import diffrax

    return diffrax.diffeqsolve(
        diffrax.ODETerm(lorenz),
        solver or diffrax.Tsit5(),
        0.0,
        0.5,
        0.01,
        y0,
        args=(10.0, rho, 8 / 3),
        stepsize_controller=diffrax.PIDController(rtol=0.0001, atol=1e-06)
        if adaptive
        else diffrax.ConstantStepSize(),
        saveat=saveat or diffrax.SaveAt(t1=True),
        max_steps=256,
        throw=throw,
        **kw,
    )


Y0 = 1 + 0.1 * normal(L, 3)


RHO = uniform(20, 30, L)


@case
def diffrax_adaptive_t1() -> Any:
    return (vmap(lambda y, r: dfx(y, r).ys), (Y0, RHO))


@case
def diffrax_adaptive_ts() -> Any:
    import diffrax

    ts = jnp.linspace(0.1, 0.5, 5)
    return (vmap(lambda y, r: dfx(y, r, saveat=diffrax.SaveAt(ts=ts)).ys), (Y0, RHO))


@case
def diffrax_fixed_forward() -> Any:
    return (vmap(lambda y, r: dfx(y, r, adaptive=False).ys), (Y0, RHO))


@case
def diffrax_fixed_gradient() -> Any:
    return (
        grad(lambda r, y: vmap(lambda y, r: dfx(y, r, adaptive=False).ys)(y, r).sum()),
        (RHO, Y0),
    )


@case
def diffrax_adaptive_gradient() -> Any:
    return (grad(lambda r, y: vmap(lambda y, r: dfx(y, r).ys)(y, r).sum()), (RHO, Y0))


@case
def diffrax_direct_dopri8_dense_ts() -> Any:
    import diffrax

    return (
        vmap(
            lambda y, r: (
                dfx(
                    y,
                    r,
                    solver=diffrax.Dopri8(),
                    saveat=diffrax.SaveAt(
                        t0=True, t1=True, steps=False, ts=jnp.linspace(0.05, 0.4, 7)
                    ),
                ).ys
            )
        ),
        (Y0, RHO),
    )


@case
def diffrax_kvaerno3_stiff() -> Any:
    import diffrax

    def f(t: Any, y: Any, k: Any) -> Any:
        a = -0.04 * y[0] + 100.0 * y[1] * y[2]
        b = k * y[1] ** 2
        return jnp.stack([a, -a - b, b])

    def solve(k: Any) -> Any:
        return diffrax.diffeqsolve(
            diffrax.ODETerm(f),
            diffrax.Kvaerno3(),
            0.0,
            1.0,
            0.001,
            jnp.array([1.0, 0.0, 0.0]),
            args=k,
            stepsize_controller=diffrax.PIDController(rtol=0.001, atol=1e-05),
            max_steps=256,
        ).ys

    return (vmap(solve), (uniform(10, 30, L),))


@case
def diffrax_sde_euler() -> Any:
    import diffrax

    def solve(key: Any, mu: Any) -> Any:
        bm = diffrax.UnsafeBrownianPath(shape=(), key=wrap(key))
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, y, a: mu * y),
            diffrax.ControlTerm(lambda t, y, a: 0.2 * y, bm),
        )
        return diffrax.diffeqsolve(
            terms,
            diffrax.Euler(),
            0.0,
            1.0,
            0.0625,
            jnp.float32(1.0),
            max_steps=64,
            adjoint=diffrax.DirectAdjoint(),
        ).ys

    return (vmap(solve), (keys(), uniform(0, 0.1, L)))


@case
def diffrax_event() -> Any:
    import diffrax

    # Shaken: of a free fall solvers make no error but of rounding, which would choose their steps.
    def fall(t: Any, y: Any, args: Any) -> Any:
        return jnp.stack([y[1], -9.8 - 0.3 * y[1] + 20 * jnp.sin(6 * t)])

    def solve(h: Any) -> Any:
        ev = diffrax.Event(lambda t, y, args, **kw: y[0] < 0)
        s = diffrax.diffeqsolve(
            diffrax.ODETerm(fall),
            diffrax.Tsit5(),
            0.0,
            10.0,
            0.5,
            jnp.stack([h, jnp.float32(0.0)]),
            stepsize_controller=diffrax.PIDController(rtol=0.02, atol=0.02),
            event=ev,
            max_steps=256,
        )
        return (s.ys, s.ts)

    return (vmap(solve), (uniform(5, 20, L),))


@case
def neural_ode_gradient() -> Any:
    w = (normal(3, 8) / 2, normal(8), normal(8, 3, seed=1) / 3, normal(3, seed=2))

    def field(p: Any, y: Any) -> Any:
        return jnp.tanh(y @ p[0] + p[1]) @ p[2] + p[3]

    def solve(p: Any, y: Any) -> Any:

        def step(y: Any, _: Any) -> Any:
            k1 = field(p, y)
            k2 = field(p, y + 0.05 * k1)
            return (y + 0.1 * k2, None)

        return lax.scan(step, y, None, length=15)[0]

    def loss(p: Any, ys: Any, targets: Any) -> Any:
        return jnp.mean((vmap(solve, (None, 0))(p, ys) - targets) ** 2)

    return (jax.value_and_grad(loss), (w, normal(L, 3, seed=3), normal(L, 3, seed=4)))


@case
def tau_leaping_sir() -> Any:

    def run(key: Any, beta: Any, gamma: Any) -> Any:

        def step(c: Any, key: Any) -> Any:
            s, i, r = c
            k1, k2 = jax.random.split(key)
            inf = jnp.minimum(jax.random.poisson(k1, beta * s * i / 100 * 0.1), s)
            rec = jnp.minimum(jax.random.poisson(k2, gamma * i * 0.1), i)
            c = (s - inf, i + inf - rec, r + rec)
            return (c, c[1])

        return lax.scan(step, (90, 10, 0), jax.random.split(wrap(key), 25))

    return (vmap(run), (keys(), uniform(0.5, 2, L), uniform(0.1, 0.5, L)))


@case
def gillespie() -> Any:

    def run(key: Any, beta: Any, gamma: Any) -> Any:

        def cond(c: Any) -> Any:
            return (c[2] > 0) & (c[3] < 5.0)

        def event(c: Any) -> Any:
            key, s, i, t, n = c
            key, k1, k2 = jax.random.split(key, 3)
            a = beta * s * i / 50
            tot = a + gamma * i
            t = t - jnp.log(jax.random.uniform(k1, minval=1e-06)) / tot
            b = jax.random.uniform(k2) * tot < a
            return (key, s - b, i + jnp.where(b, 1, -1), t, n + 1)

        o = lax.while_loop(cond, event, (wrap(key), 45, 5, 0.0, 0))
        return o[1:]

    return (vmap(run), (keys(), uniform(0.5, 2, L), uniform(0.1, 0.5, L)))


@case
def option_lattice() -> Any:

    def price(S: Any, K: Any, sigma: Any) -> Any:
        n = 24
        dt = 1 / n
        u = jnp.exp(sigma * jnp.sqrt(dt))
        d = 1 / u
        p = (jnp.exp(0.03 * dt) - d) / (u - d)
        disc = jnp.exp(-0.03 * dt)
        j = jnp.arange(n + 1)
        v = jnp.maximum(K - S * u ** (2 * j - n), 0.0)

        def back(i: Any, v: Any) -> Any:
            k = n - 1 - i
            cont = disc * (p * jnp.roll(v, -1) + (1 - p) * v)
            ex = jnp.maximum(K - S * u ** (2.0 * j - k), 0.0)
            return jnp.where(j <= k, jnp.maximum(cont, ex), 0.0)

        return lax.fori_loop(0, n, back, v)[0]

    return (
        vmap(jax.value_and_grad(price, 2)) if False else vmap(price),
        (uniform(80, 120, L), uniform(90, 110, L), uniform(0.1, 0.4, L)),
    )


@case
def cartpole_rollouts() -> Any:
    W = normal(4, 8) / 2
    V = normal(8, seed=1)

    def run(state: Any) -> Any:

        def step(c: Any, _: Any) -> Any:
            s, alive, R = c
            _x, v, th, w = s
            force = 10 * jnp.sign(jnp.tanh(s @ W) @ V)
            ct, st = (jnp.cos(th), jnp.sin(th))
            tmp = (force + 0.05 * w**2 * st) / 1.1
            ta = (9.8 * st - ct * tmp) / (0.5 * (4 / 3 - 0.1 * ct**2 / 1.1))
            xa = tmp - 0.05 * ta * ct / 1.1
            s2 = s + 0.02 * jnp.stack([v, xa, w, ta])
            alive2 = alive & (jnp.abs(s2[0]) < 2.4) & (jnp.abs(s2[2]) < 0.21)
            return ((jnp.where(alive, s2, s), alive2, R + alive), s2[2])

        return lax.scan(step, (state, True, 0), None, length=60)

    return (vmap(run), (0.05 * normal(L, 4),))


@case
def pendulum_mpc() -> Any:

    def rollout(x0: Any, us: Any) -> Any:

        def step(x: Any, u: Any) -> Any:
            th, w = x
            w2 = w + 0.05 * (9.8 * jnp.sin(th) + u)
            th2 = th + 0.05 * w2
            x = jnp.stack([th2, w2])
            return (x, th2**2 + 0.1 * w2**2 + 0.01 * u**2)

        return lax.scan(step, x0, us)[1].sum()

    def mpc(x0: Any) -> Any:

        def it(us: Any, _: Any) -> Any:
            v, g = jax.value_and_grad(rollout, 1)(x0, us)
            return (us - 0.2 * jnp.clip(g, -1, 1), v)

        us, vs = lax.scan(it, jnp.zeros(15), None, length=12)
        return (us[0], vs)

    return (vmap(mpc), (0.5 * normal(L, 2),))


@case
def rk_with_events_bouncing_ball() -> Any:

    def run(h: Any, e: Any) -> Any:

        def cond(c: Any) -> Any:
            return c[2] < 3.0

        def body(c: Any) -> Any:
            y, v, t, n = c
            dt = jnp.minimum(0.02, 3.0 - t + 1e-06)
            y2, v2 = (y + dt * v - 4.9 * dt**2, v - 9.8 * dt)
            hit = y2 < 0

            def bounce(_: Any) -> Any:
                return (jnp.float32(0.0), -e * v, n + 1)

            def free(_: Any) -> Any:
                return (y2, v2, n)

            y3, v3, n = lax.cond(hit, bounce, free, None)
            return (y3, v3, t + dt, n)

        return lax.while_loop(cond, body, (h, jnp.float32(0.0), jnp.float32(0.0), 0))

    return (vmap(run), (uniform(1, 4, L), uniform(0.4, 0.9, L)))


@case
def lotka_volterra_sweep_interp_table() -> Any:
    table = jnp.cos(jnp.linspace(0, 6, 32))

    def run(a: Any, b: Any) -> Any:

        def step(c: Any, t: Any) -> Any:
            x, y = c
            season = 1 + 0.2 * jnp.interp(t, jnp.linspace(0, 1, 32), table)
            dx, dy = (x * (a * season - b * y), y * (b * x - 1.0))
            return ((x + 0.01 * dx, y + 0.01 * dy), x)

        return lax.scan(step, (jnp.float32(1.0), jnp.float32(0.5)), jnp.linspace(0, 1, 50))

    return (vmap(run), (uniform(0.5, 1.5, L), uniform(0.5, 1.5, L)))


@case
def mppi_planner() -> Any:

    def plan(key: Any, x0: Any) -> Any:

        def it(c: Any, key: Any) -> Any:
            us = c
            noise = jax.random.normal(key, (8, 10))

            def cost(us: Any) -> Any:

                def step(x: Any, u: Any) -> Any:
                    x = jnp.stack([x[0] + 0.1 * x[1], x[1] + 0.1 * u])
                    return (x, x @ x)

                return lax.scan(step, x0, us)[1].sum()

            J = vmap(cost)(us + noise)
            w = jax.nn.softmax(-J)
            return (us + w @ noise, J.min())

        return lax.scan(it, jnp.zeros(10), jax.random.split(wrap(key), 6))

    return (vmap(plan), (keys(), normal(L, 2)))
