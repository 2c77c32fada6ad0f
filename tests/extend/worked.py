"""Operations that tests define as a user would: the mathematics, and a rule or two."""

from __future__ import annotations

import covector.numpy as cnp
from covector import extend, lax


@extend.decomposition(name="test_lambertw")
def lambertw(x):
    """The principal branch of Lambert's W, for x >= 0, by Halley's iteration."""

    def unsettled(state):
        w, step, count = state
        tolerance = 4 * cnp.finfo(x.dtype).eps
        return cnp.any(cnp.abs(step) > tolerance * (1 + cnp.abs(w))) & (count < 40)

    def halley(state):
        w, _, count = state
        e = cnp.exp(w)
        f = w * e - x
        step = f / (e * (w + 1) - (w + 2) * f / (2 * w + 2))
        return w - step, step, count + 1

    return lax.while_loop(unsettled, halley, (cnp.log1p(x), cnp.ones_like(x), 0))[0]


@lambertw.defjvp
def _implicit(primals, tangents):
    # W exp(W) = x, so that W' exp(W) (1 + W) = 1.
    (x,), (t,) = primals, tangents
    w = lambertw(x)
    return w, t / (x + cnp.exp(w))
