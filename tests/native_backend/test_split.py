"""Large functions in pieces give what they gave whole."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from covector.backends.native import engine
from covector.backends.native.emit import segments
from covector.backends.native.split import choose_cuts, split
from covector.loopir.builder import Builder
from covector.loopir.ir import SIMD, Function, walk
from covector.loopir.printer import print_function
from covector.loopir.verifier import verify

F32, F64, I64, BOOL = (np.dtype(t) for t in ("f4", "f8", "i8", "?"))


def target():
    return engine.get_engine().target


def chain(n: int, width: int = 20, seed: int = 0):
    """Random sums and differences of registers, with what they should give."""
    rnd = random.Random(seed)
    steps = [(rnd.randrange(width), rnd.randrange(width), rnd.random() < 0.5) for _ in range(n)]
    b = Builder("entry")
    x, y = b.argument(F32, (width,)), b.result(F32, (width,))
    values = [b.load(x, k) for k in range(width)]
    for i, j, half in steps:
        values[i] = b.op("mul", values[i], 0.5) if half else b.op("sub", values[i], values[j])
    for k, v in enumerate(values):
        b.store(y, (k,), v)

    def expected(x: np.ndarray) -> np.ndarray:
        values = x.copy()
        for i, j, half in steps:
            values[i] = values[i] * np.float32(0.5) if half else values[i] - values[j]
        return values

    return b.finish(), expected


@pytest.mark.parametrize("n", [600, 3000])
def test_chain(n, compiled):
    function, expected = chain(n)
    run = compiled(function)
    assert len(segments(function)) >= n // 500
    x = np.linspace(-1, 1, 20, dtype=np.float32)
    np.testing.assert_array_equal(run(x)[0], expected(x))


def test_small_functions_stay_whole():
    function, _ = chain(100)
    text = print_function(function)
    assert split(function, target()) == 0
    assert print_function(function) == text


def test_values_of_every_type_cross_cuts(compiled):
    b = Builder("entry")
    x = b.argument(F32, (40,))
    half, number = b.result(np.dtype("f2"), (40,)), b.result(F64, (40,))
    truth, count = b.result(BOOL, (40,)), b.result(I64, (40,))
    rows = []
    for k in range(40):
        v = b.load(x, k)
        for _ in range(20):
            v = b.op("mul", b.op("add", v, 1.0), 0.5)
        rows.append(
            (b.convert(v, np.dtype("f2")), b.convert(v, F64), b.op("gt", v, 1.0), b.convert(v, I64))
        )
    for k, row in enumerate(rows):
        for buffer, value in zip((half, number, truth, count), row, strict=True):
            b.store(buffer, (k,), value)
    data = np.linspace(-9e6, 9e6, 40).astype(np.float32)
    v = data
    for _ in range(20):
        v = (v + np.float32(1)) * np.float32(0.5)
    outs = compiled(b.finish())(data)
    wanted = (v.astype(np.float16), v.astype(np.float64), v > 1, np.trunc(v).astype(np.int64))
    for found, expected in zip(outs, wanted, strict=True):
        np.testing.assert_array_equal(found, expected)


def nested(n: int) -> Function:
    """A long body in a loop in a branch, with carries, a while and checks."""
    b = Builder("entry")
    x, y = b.argument(F64, (4,)), b.result(F64, (4,))
    scratch = b.buffer(F64, (8,))

    def long(values):
        for k in range(n):
            i, j = k % 4, (k * 3 + 1) % 4
            values[i] = b.op("mul", b.op("add", values[i], values[j]), 0.5)
            if k % 50 == 0:
                b.store(scratch, (k % 8,), values[i])
                b.check(b.op("lt", values[i], 1e6), k)
        return values

    def body(i, *values):
        values = long(list(values))
        shift = b.convert(i, F64)
        values[0] = b.op("add", values[0], b.op("add", shift, b.load(scratch, 0)))

        def step(v, k):
            return [b.op("add", v, b.op("mul", values[1], 0.25)), b.op("add", k, 1)]

        values[2], _ = b.while_(
            lambda v, k: b.op("lt", k, 3), step, [values[2], b.const(0, np.dtype("i4"))]
        )
        return values

    start = [b.load(x, k) for k in range(4)]

    def then():
        return b.loop(0, 5, body, start)

    out = b.if_(b.op("gt", start[0], 0.0), then, lambda: long(list(start)))
    for k, v in enumerate(out):
        b.store(y, (k,), v)
    return b.finish()


@pytest.mark.parametrize("first", [0.5, -0.5, 1e7])
def test_nested(first, compiled):
    pieces = nested(700)
    x = np.array([first, 1.0, -2.0, 3.0])
    run = compiled(pieces)
    assert len(segments(pieces)) > 4
    small = compiled(nested(100))
    status, (found,) = run.run([x])
    assert status == (1 if first == 1e7 else 0)
    if not status:
        reference = simulate(x, 700)
        np.testing.assert_array_equal(found, reference)
        np.testing.assert_array_equal(small(x)[0], simulate(x, 100))


def simulate(x: np.ndarray, n: int) -> np.ndarray:
    scratch = np.zeros(8)

    def long(v: list[float]) -> list[float]:
        for k in range(n):
            i, j = k % 4, (k * 3 + 1) % 4
            v[i] = (v[i] + v[j]) * 0.5
            if k % 50 == 0:
                scratch[k % 8] = v[i]
        return v

    v = x.tolist()
    if v[0] > 0:
        for i in range(5):
            v = long(v)
            v[0] = v[0] + (i + scratch[0])
            for _ in range(3):
                v[2] = v[2] + v[1] * 0.25
    else:
        v = long(v)
    return np.array(v)


def test_loops_in_lanes_stay_whole(compiled):
    n = 20
    b = Builder("entry")
    x, y = b.argument(F32, (n,)), b.result(F32, (n,))

    def body(i):
        v = b.load(x, i)
        for _ in range(900):
            v = b.op("mul", b.op("add", v, 1.0), 0.5)
        b.store(y, (i,), v)

    b.loop(0, n, body, kind=SIMD)
    function = b.finish()
    data = np.linspace(0, 1, n, dtype=np.float32)
    v = data
    for _ in range(900):
        v = (v + np.float32(1)) * np.float32(0.5)
    np.testing.assert_array_equal(compiled(function)(data)[0], v)
    assert not segments(function)


def test_slots_are_used_again():
    function, _ = chain(6000)
    split(function, target())
    verify(function)
    assert function.workspace_bytes < 4000


def test_cuts_prefer_few_crossing_values():
    b = Builder("entry")
    x = b.argument(F32, (64,))
    y = b.result(F32, (2,))
    for half in range(2):
        total = b.load(x, 0)
        for k in range(400 if half else 370):
            total = b.op("add", b.op("mul", total, 0.5), b.load(x, k % 64))
        b.store(y, (half,), total)
    items = b.finish().body.items
    cuts = choose_cuts(items, [1] * len(items), 500)
    assert cuts[0] == 0
    assert cuts[-1] == len(items)
    assert all(end - start <= 500 for start, end in itertools.pairwise(cuts))


def test_golden(golden):
    b = Builder("entry")
    x, y = b.argument(F32, (3,), "x"), b.result(F32, (3,), "y")

    def body(i, total):
        v = b.load(x, i)
        for _ in range(6):
            v = b.op("mul", b.op("add", v, total), 0.5)
        b.store(y, (i,), v)
        return [v]

    b.loop(0, 3, body, [b.const(1.0, F32)])
    function = b.finish()
    split(function, target(), limit=8)
    verify(function)
    assert sum(1 for _ in walk(function.body)) < 8
    golden.check("split.loopir", print_function(function) + "\n")
