"""Loop nests that occur several times are compiled once, and compute what each one did."""

from __future__ import annotations

import numpy as np
import pytest

import covector as cv
from covector import numpy as cnp
from covector.backends.native.emit_ops import Target
from covector.backends.native.share import share
from covector.core.config import config
from covector.loopir.builder import Builder
from covector.loopir.ir import Segment, walk

F32 = np.dtype("f4")
TARGET = Target(512, fma=True, half=True, masks=True)


def chain(b, source, target, scale, n=64, op="sin"):
    def body(i):
        value = b.load(source, i)
        for _ in range(6):
            value = b.op("add", b.op("mul", value, scale), 1.0)
        b.store(target, (i,), b.op(op, value))

    b.loop(0, n, body)


def function(loops, n=64):
    """Loops over a row of buffers: each reads one and writes the next."""
    b = Builder("entry")
    x, y = b.argument(F32, (n,), "x"), b.result(F32, (n,), "y")
    buffers = [x, *[b.buffer(F32, (n,)) for _ in loops[1:]], y]
    for k, options in enumerate(loops):
        chain(b, buffers[k], buffers[k + 1], n=n, **options)
    return b.finish()


def runs(f):
    return [item for item in walk(f.body) if isinstance(item, Segment)]


def test_equal_loops_become_one_function(compiled):
    same = [{"scale": 0.5}] * 5
    f = function(same)
    assert share(f, TARGET) == 1
    assert len(runs(f)) == 5
    assert len({item.function for item in runs(f)}) == 1
    x = np.linspace(-1, 1, 64, dtype=np.float32)
    shared = compiled(function(same))
    with config.override("disable", "repeated_loops"):
        plain = compiled(function(same))
    np.testing.assert_array_equal(shared(x)[0], plain(x)[0])
    # Both have the same headers, the longer part of code for narrow vectors.
    assert 10 * len(shared.code.object_code) < 7 * len(plain.code.object_code)


@pytest.mark.parametrize(
    "loops",
    [
        [{"scale": 0.5}, {"scale": 0.25}],
        [{"scale": 0.0}, {"scale": -0.0}],
        [{"scale": 0.5, "op": "sin"}, {"scale": 0.5, "op": "cos"}],
    ],
)
def test_different_loops_stay(loops):
    assert share(function(loops), TARGET) == 0


def test_sizes_and_overlaps_count():
    b = Builder("entry")
    x, z = b.argument(F32, (64,), "x"), b.result(F32, (64,), "z")
    w = [b.buffer(F32, (64,)) for _ in range(3)]
    short = [b.buffer(F32, (63,)) for _ in range(2)]
    chain(b, x, w[0], 0.5)
    chain(b, short[0], short[1], 0.5, n=63)
    chain(b, w[1], w[1], 0.5)  # in place
    chain(b, w[1], z, 0.5)
    f = b.finish()
    assert share(f, TARGET) == 1
    assert [len(item.buffers) for item in runs(f)] == [2, 2]


def network(weights, x):
    for w in weights:
        x = cnp.tanh(x @ w)
    return (x**2).sum()


@pytest.mark.parametrize("fun", [network, cv.grad(network)])
def test_programs_are_equal_bit_for_bit(fun):
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=(24, 24)).astype("f4") for _ in range(5)]
    x = generator.normal(size=(40, 24)).astype("f4")
    found = cv.jit(fun)
    shared = cv.tree.leaves(found(weights, x))
    assert ".shared1" in found.lower(weights, x).as_text("llvm")
    with config.override("disable", "repeated_loops"):
        plain = cv.tree.leaves(cv.jit(fun)(weights, x))
    for a, b in zip(shared, plain, strict=True):
        np.testing.assert_array_equal(a, b)


def test_numbers_from_outside_pass_through_memory(compiled):
    def function_of():
        b = Builder("entry")
        x, y = b.argument(F32, (64,), "x"), b.result(F32, (64,), "y")
        w = b.buffer(F32, (64,))
        chain(b, x, w, b.load(x, 0))
        chain(b, w, y, b.load(x, 1))
        return b.finish()

    f = function_of()
    assert share(f, TARGET) == 1
    assert len(runs(f)) == 2
    x = np.linspace(0.5, 1, 64, dtype=np.float32)
    with config.override("disable", "repeated_loops"):
        plain = compiled(function_of())(x)[0]
    np.testing.assert_array_equal(compiled(function_of())(x)[0], plain)


def test_long_loops_inside_others_are_shared():
    def function_of(n):
        b = Builder("entry")
        x, y = b.argument(F32, (4, n), "x"), b.result(F32, (4, n), "y")
        w = [b.buffer(F32, (n,)) for _ in range(3)]

        def step(i):
            def first(j):
                b.store(w[0], (j,), b.load(x, i, j))

            b.loop(0, n, first)
            chain(b, w[0], w[1], 0.5, n)
            chain(b, w[1], w[2], 0.5, n)
            b.loop(0, n, lambda j: b.store(y, (i, j), b.load(w[2], j)))

        b.loop(0, 4, step)
        return b.finish()

    assert share(function_of(64), TARGET) == 0  # the whole loop is short enough
    long = function_of(64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("covector.backends.native.share.LONGEST", 40)
        assert share(long, TARGET) == 1
    assert len(runs(long)) == 2
    few = function_of(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("covector.backends.native.share.LONGEST", 40)
        assert share(few, TARGET) == 0  # a call would take as long as the loop
