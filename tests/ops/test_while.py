"""`while_loop`: batched lanes that end on their own, reverse mode in bounded memory."""

from __future__ import annotations

import signal

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector.core.errors import UnsupportedRuleError
from covector.core.verify import verify
from covector.lax import control_flow as lax
from covector.lax.callbacks import debug_callback, io_callback
from covector.ops import guard, while_linearize


@pytest.fixture(params=["reference", "native"], autouse=True)
def backend(request):
    with cv.config.override("backend", request.param), cv.core.config.checked():
        yield request.param


def f32(*values):
    return np.asarray(values if len(values) > 1 else values[0], np.float32)


def test_lanes_that_are_done_do_not_hang_inner_loops():
    """With y == 0 the inner loop would run forever: in a lane that is done it must not start."""

    def f(y):
        def body(state):
            y, total = state
            z = lax.while_loop(lambda z: z < 10.0, lambda z: z + y, 0.0)
            return y - 1.0, total + z

        return lax.while_loop(lambda s: s[0] > 0.0, body, (y, 0.0))[1]

    assert cv.vmap(f)(f32([1.0, 3.0, 0.0, 2.0])).tolist() == [
        float(f(y)) for y in f32([1.0, 3.0, 0.0, 2.0])
    ]


def test_branches_not_taken_do_not_hang():
    def f(y):
        def loop(start):
            return lax.while_loop(lambda z: z < 10.0, lambda z: z + y, start)

        def through_scan(start):
            return lax.scan(lambda c, _: (loop(c) - 9.0, None), start, None, length=2)[0]

        return lax.cond(y > 0.0, through_scan, lambda start: start - 1.0, 0.0)

    y = f32([1.0, 0.0, 2.5, -1.0])
    assert cv.vmap(f)(y).tolist() == [float(f(v)) for v in y]


def test_guarded_programs_are_valid():
    def f(x, y):
        def body(c, _):
            c = lax.cond(c > 0, lambda: cv.jit(loop)(c), lambda: c)
            return c, None

        def loop(c):
            return lax.while_loop(lambda z: z < loop_end(c), lambda z: z + y, c)

        def loop_end(c):
            return lax.while_loop(lambda z: z < 2.0, lambda z: z + 1.0, c) + 5.0

        return lax.scan(body, x, None, length=2)

    program = cv.make_program(f)(f32(1.0), f32(1.0))
    assert guard.loops_inside(program)
    guarded = guard.guard_loops(program)
    verify(guarded)
    assert guard.guard_loops(program) is guarded


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 8, 17, 60])
def test_reverse_mode_of_while_with_few_slots(n, monkeypatch):
    monkeypatch.setattr(while_linearize, "MIN_SLOTS", 4)
    monkeypatch.setattr(while_linearize, "MAX_SLOTS", 4)

    def by_while(w, x, n):
        def body(state):
            i, x, v, same = state
            return i + 1, cnp.sin(x) * w + 0.3, v * 0.9 + x * w, same

        out = lax.while_loop(lambda s: s[0] < s[3], body, (0, x, x * cnp.ones(3), n))
        return out[1] + out[2].sum()

    def by_scan(w, x, n):
        def body(state, _):
            x, v = state
            return (cnp.sin(x) * w + 0.3, v * 0.9 + x * w), None

        (x, v), _ = lax.scan(body, (x, x * cnp.ones(3)), None, length=n)
        return x + v.sum()

    args = (f32(0.8), f32(0.5))
    expected = cv.grad(lambda w, x: by_scan(w, x, n), (0, 1))(*args)
    found = cv.jit(cv.grad(by_while, (0, 1)))(*args, np.int32(n))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-4)


def test_advancing_uses_the_slots_there_are():
    """The backward pass over many iterations repeats each of them few times."""
    capacity, n = 8, 1000
    stack, work = [0], 0
    t = n - 1
    while t >= 0:
        start = stack[-1]
        distance, free = t - start, capacity - len(stack)
        steps = int(while_linearize._advance(np.int32(distance), np.int32(free)))
        assert steps <= distance
        work += steps
        if start + steps == t:
            if distance == 0:
                stack.pop()
            t -= 1
        else:
            assert steps > 0
            stack.append(start + steps)
            assert len(stack) <= capacity
    assert work < 12 * n


def test_slots_are_reused_as_snapshots_are_given_up():
    slots = 8
    checkpointing = object.__new__(while_linearize.Checkpointing)
    checkpointing.slots = slots
    held: dict[int, int] = {}
    filled = level = 0
    for iteration in range(1000):
        if iteration != filled << level:
            continue
        if filled == slots:
            filled, level = slots // 2, level + 1
            held = {k: v for k, v in held.items() if v % (1 << level) == 0}
            assert len(held) == filled
            if iteration != filled << level:
                continue
        place = int(checkpointing._place(np.int32(filled), np.int32(level)))
        assert place not in held
        held[place] = iteration
        filled += 1
        for position in range(filled):
            place = int(checkpointing._place(np.int32(position), np.int32(level)))
            assert held[place] == position << level


def test_reverse_mode_of_while_refuses_side_effects():
    def with_io(x):
        def body(x):
            io_callback(lambda v: None, None, x)
            return x * 2.0

        return lax.while_loop(lambda x: x < 10.0, body, x)

    with pytest.raises(UnsupportedRuleError, match="io_callback"):
        cv.grad(with_io)(f32(1.0))

    seen = []

    def with_debug(x):
        def body(x):
            debug_callback(lambda v: seen.append(float(v)), x)
            return x * 2.0

        return lax.while_loop(lambda x: x < 10.0, body, x)

    assert float(cv.grad(with_debug)(f32(1.0))) == 16.0
    assert seen == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("size", [1, 100])
def test_endless_loops_can_be_interrupted(size):
    def interrupt(*args):
        raise KeyboardInterrupt

    forever = cv.jit(lambda x: lax.while_loop(lambda v: v[0] > 0, lambda v: v * 1.0, x))
    x = np.ones(size, np.float32)
    forever(x * 0)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            forever(x)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert forever(x * 0).tolist() == [0.0] * size
