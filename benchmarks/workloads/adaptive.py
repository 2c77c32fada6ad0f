"""Adaptive integration: Tsitouras 5(4) with PI control, a while loop for each trajectory."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads.case import Api, Case, Promise, Workload, called, jitted

TOLERANCE, SAFETY, SMALLEST, LARGEST = 1e-6, 0.9, 0.2, 10.0
INTEGRAL, PROPORTIONAL = 0.3, 0.4
FIRST_STEP, END = 1e-2, 2.0

# Ch. Tsitouras, Computers & Mathematics with Applications 62 (2011) 770-775.
A = (
    (0.161,),
    (-0.008480655492356989, 0.335480655492357),
    (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
    (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
    (
        5.86145544294642,
        -12.92096931784711,
        8.159367898576159,
        -0.071584973281401,
        -0.028269050394068383,
    ),
    (
        0.09646076681806523,
        0.01,
        0.4798896504144996,
        1.379008574103742,
        -3.290069515436081,
        2.324710524099774,
    ),
)
E = (
    -0.00178001105222577714,
    -0.0008164344596567469,
    0.007880878010261995,
    -0.1447110071732629,
    0.5823571654525552,
    -0.45808210592918697,
    0.015151515151515152,
)


def _start(lanes: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    states = generator.normal(size=(lanes, 3)).astype("float32")
    rhos = generator.uniform(20.0, 30.0, size=lanes).astype("float32")
    return states, rhos


def _weighted(weights: Any, slopes: Any) -> Any:
    return sum(
        (w * k for w, k in zip(weights[1:], slopes[1:], strict=True)), weights[0] * slopes[0]
    )


def solve(api: Api, rates: Any, y: Any) -> Any:
    """The state at the end of time.

    Args:
        api: a peer with JAX's programming model.
        rates: the derivative of a state.
        y: state at time 0, a vector.

    Returns:
        The state.
    """
    xp = api.np

    def body(state: Any) -> Any:
        t, h, y, slope, error_before = state
        h = xp.minimum(h, END - t)
        slopes, ahead = [slope], y
        for row in A:
            ahead = y + h * _weighted(row, slopes)
            slopes.append(rates(ahead))
        scale = TOLERANCE + TOLERANCE * xp.maximum(xp.abs(y), xp.abs(ahead))
        error = xp.sqrt(xp.mean((h * _weighted(E, slopes) / scale) ** 2))
        error = xp.maximum(error, 1e-10)
        factor = SAFETY * error ** (-(INTEGRAL + PROPORTIONAL) / 5)
        factor = factor * error_before ** (PROPORTIONAL / 5)
        factor = xp.clip(factor, SMALLEST, LARGEST)
        accepted = error < 1.0
        reached = xp.where(h >= END - t, END, t + h)
        return (
            xp.where(accepted, reached, t),
            h * factor,
            xp.where(accepted, ahead, y),
            xp.where(accepted, slopes[-1], slope),
            xp.where(accepted, error, error_before),
        )

    zero = 0.0 * y[0]
    state = (zero, zero + FIRST_STEP, y, rates(y), zero + 1.0)
    return api.lax.while_loop(lambda state: state[0] < END, body, state)[2]


def _rates(api: Api, rho: Any) -> Any:
    def rates(state: Any) -> Any:
        x, y, z = state
        return api.np.stack([10.0 * (y - x), x * (rho - z) - y, x * y - 8.0 / 3.0 * z])

    return rates


def tsit5(api: Api, lanes: int = 8192) -> Case:
    return jitted(api, api.vmap(lambda y, rho: solve(api, _rates(api, rho), y)), *_start(lanes))


def tsit5_diffrax(api: Api, lanes: int = 8192) -> Case:
    diffrax = api.diffrax
    control = diffrax.PIDController(
        rtol=TOLERANCE,
        atol=TOLERANCE,
        pcoeff=PROPORTIONAL,
        icoeff=INTEGRAL,
        safety=SAFETY,
        factormin=SMALLEST,
        factormax=LARGEST,
    )

    def one(y: Any, rho: Any) -> Any:
        term = diffrax.ODETerm(lambda t, y, rho: _rates(api, rho)(y))
        saved = diffrax.SaveAt(t1=True)
        solution = diffrax.diffeqsolve(
            term,
            diffrax.Tsit5(),
            0.0,
            END,
            FIRST_STEP,
            y,
            args=rho,
            saveat=saved,
            stepsize_controller=control,
        )
        return solution.ys[0]

    return jitted(api, api.vmap(one), *_start(lanes))


def tsit5_numba(api: Api, lanes: int = 8192) -> Case:
    """Each thread takes trajectories one by one."""
    f4, prange, njit = np.float32, api.numba.prange, api.numba.njit
    (a21,), (a31, a32), (a41, a42, a43), (a51, a52, a53, a54), row6, row7 = (
        tuple(f4(a) for a in row) for row in A
    )
    (a61, a62, a63, a64, a65), (a71, a72, a73, a74, a75, a76) = row6, row7
    e1, e2, e3, e4, e5, e6, e7 = (f4(e) for e in E)
    end, tolerance, safety, first = f4(END), f4(TOLERANCE), f4(SAFETY), f4(FIRST_STEP)
    smallest, largest, third = f4(SMALLEST), f4(LARGEST), f4(1 / 3)
    alpha, beta = f4(-(INTEGRAL + PROPORTIONAL) / 5), f4(PROPORTIONAL / 5)
    sigma, decay, one, tiny = f4(10.0), f4(8.0 / 3.0), f4(1), f4(1e-10)

    @njit(fastmath=True)
    def rates(x: Any, y: Any, z: Any, rho: Any) -> Any:
        return sigma * (y - x), x * (rho - z) - y, x * y - decay * z

    @njit(fastmath=True)
    def scaled(error: Any, a: Any, b: Any) -> Any:
        ratio = error / (tolerance + tolerance * max(abs(a), abs(b)))
        return ratio * ratio

    @njit(fastmath=True)
    def moved(y: Any, h: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, row: Any) -> Any:
        return y + h * (row[0] * a + row[1] * b + row[2] * c + row[3] * d + row[4] * e + row[5] * f)

    @njit(fastmath=True)
    def trajectory(x: Any, y: Any, z: Any, rho: Any) -> Any:
        t, h, before = f4(0), first, one
        k1 = rates(x, y, z, rho)
        while t < end:
            h = min(h, end - t)
            k2 = rates(x + h * a21 * k1[0], y + h * a21 * k1[1], z + h * a21 * k1[2], rho)
            k3 = rates(
                x + h * (a31 * k1[0] + a32 * k2[0]),
                y + h * (a31 * k1[1] + a32 * k2[1]),
                z + h * (a31 * k1[2] + a32 * k2[2]),
                rho,
            )
            k4 = rates(
                x + h * (a41 * k1[0] + a42 * k2[0] + a43 * k3[0]),
                y + h * (a41 * k1[1] + a42 * k2[1] + a43 * k3[1]),
                z + h * (a41 * k1[2] + a42 * k2[2] + a43 * k3[2]),
                rho,
            )
            k5 = rates(
                x + h * (a51 * k1[0] + a52 * k2[0] + a53 * k3[0] + a54 * k4[0]),
                y + h * (a51 * k1[1] + a52 * k2[1] + a53 * k3[1] + a54 * k4[1]),
                z + h * (a51 * k1[2] + a52 * k2[2] + a53 * k3[2] + a54 * k4[2]),
                rho,
            )
            k6 = rates(
                x + h * (a61 * k1[0] + a62 * k2[0] + a63 * k3[0] + a64 * k4[0] + a65 * k5[0]),
                y + h * (a61 * k1[1] + a62 * k2[1] + a63 * k3[1] + a64 * k4[1] + a65 * k5[1]),
                z + h * (a61 * k1[2] + a62 * k2[2] + a63 * k3[2] + a64 * k4[2] + a65 * k5[2]),
                rho,
            )
            row = (a71, a72, a73, a74, a75, a76)
            xn = moved(x, h, k1[0], k2[0], k3[0], k4[0], k5[0], k6[0], row)
            yn = moved(y, h, k1[1], k2[1], k3[1], k4[1], k5[1], k6[1], row)
            zn = moved(z, h, k1[2], k2[2], k3[2], k4[2], k5[2], k6[2], row)
            k7 = rates(xn, yn, zn, rho)
            row = (e1, e2, e3, e4, e5, e6)
            zero = f4(0)
            ex = moved(zero, h, k1[0], k2[0], k3[0], k4[0], k5[0], k6[0], row) + h * e7 * k7[0]
            ey = moved(zero, h, k1[1], k2[1], k3[1], k4[1], k5[1], k6[1], row) + h * e7 * k7[1]
            ez = moved(zero, h, k1[2], k2[2], k3[2], k4[2], k5[2], k6[2], row) + h * e7 * k7[2]
            squares = scaled(ex, x, xn) + scaled(ey, y, yn) + scaled(ez, z, zn)
            error = max(np.sqrt(third * squares), tiny)
            factor = safety * error**alpha * before**beta
            if error < one:
                t = end if h >= end - t else t + h
                x, y, z, k1, before = xn, yn, zn, k7, error
            h = h * min(max(factor, smallest), largest)
        return x, y, z

    @njit(parallel=True, fastmath=True)
    def run(states: Any, rhos: Any) -> Any:
        out = np.empty_like(states)
        for lane in prange(states.shape[0]):
            s = states[lane]
            out[lane, 0], out[lane, 1], out[lane, 2] = trajectory(s[0], s[1], s[2], rhos[lane])
        return out

    return called(api, run, *_start(lanes))


WORKLOADS = (
    Workload(
        "adaptive Tsit5, 8192 Lorenz",
        {"covector": tsit5, "jax": tsit5, "diffrax": tsit5_diffrax, "numba": tsit5_numba},
        (Promise(("jax",), 6.0), Promise(("diffrax",), 40.0), Promise(("numba",), 1.0)),
        {"lanes": 20},
        1e-2,
        limit=2.0e-3,
        laned=True,
    ),
)
