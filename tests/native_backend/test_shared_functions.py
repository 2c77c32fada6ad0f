"""Elementary functions compiled once where calls cost less, and what pieces are called with."""

from __future__ import annotations

import re

import numpy as np
import pytest

import covector as cv
from covector import lax
from covector import numpy as cnp
from covector.backends.native.emit import segments
from covector.backends.native.emit_ops import Target
from covector.backends.native.remade import recipe
from covector.backends.native.split import split
from covector.core.config import config
from covector.loopir.builder import Builder
from covector.loopir.ir import Reload

F32 = np.dtype("f4")
WIDE = Target(512, fma=True, half=True, masks=True)
OFF = frozenset({"shared_functions"})
FIXED = frozenset({"run_time_sizes"})
LENGTHS = (0, 1, 7, 8, 15, 16, 17, 23, 31, 32, 33, 64, 257)
FUNCTIONS = {
    "sin": cnp.sin,
    "tan": cnp.tan,
    "exp": cnp.exp,
    "power": lambda x: cnp.abs(x) ** 1.7,
    "lgamma": lax.lgamma,
    "two": lambda x: cnp.sin(x) + cnp.tanh(x) * cnp.sin(x * 1e6),
    "sum": lambda x: cnp.tanh(x).sum(),
}


def values(length, dtype="f4"):
    return (np.random.default_rng(3).normal(size=length) * 40).astype(dtype)


def text(fun, *args):
    return cv.jit(fun).lower(*args).as_text("llvm")


def bits(fun, x, off):
    with config.override("disable", frozenset(off)):
        return np.asarray(cv.jit(lambda x: fun(x))(x)).tobytes()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_calls_give_the_same_bits(name, dtype):
    fun = FUNCTIONS[name]
    with cv.enable_x64(dtype == "f8"):
        for length in LENGTHS:
            x = values(length, dtype)
            expected = bits(fun, x, OFF | FIXED)
            assert bits(fun, x, FIXED) == expected, length
            assert bits(fun, x, OFF) == bits(fun, x, ()), length


def test_in_the_memory_of_a_donated_argument():
    for length in LENGTHS:
        x = values(length)
        expected = np.asarray(cv.jit(cnp.sin)(x))
        donated = cv.jit(lambda x: cnp.sin(x), donate_argnums=0)(cnp.asarray(x) + 0)
        assert np.asarray(donated).tobytes() == expected.tobytes()


def test_the_rest_of_a_long_loop_calls_and_its_steps_do_not():
    found = text(lambda x: cnp.sin(x), values(100))
    assert len(re.findall(r"call .*@cv\.sin\.", found)) == 1
    assert len(re.findall(r"call .*@shared\.sin\.", found)) == 1
    with config.override("disable", OFF):
        assert "@shared." not in text(lambda x: cnp.sin(x), values(100))


def test_short_loops_and_scalars_call():
    with config.override("disable", FIXED):
        for x in (values(9), values(64), np.float32(2)):
            assert "define internal" not in text(lambda x: cnp.exp(x), x)


def test_what_runs_often_does_not_call():
    def steps(x):
        return lax.scan(lambda c, _: (cnp.sin(c), None), x, None, length=50)[0]

    def until(x):
        return lax.while_loop(lambda c: c[0] < 3, lambda c: cnp.exp(c), x)

    def rows(x):
        return lax.map(lambda row: cnp.tanh(row).sum(), x)

    with config.override("disable", FIXED):
        assert "@shared." not in text(steps, values(5))
        assert "@shared." not in text(until, values(5))
        assert "@shared." not in text(rows, values((407, 200)))


def test_what_would_be_inlined_too_often_is_shared():
    run = cv.jit(chain)
    found = run.lower(values(5)).as_text("llvm")
    assert "define internal <" not in found
    assert "@shared.lgamma" in found
    with config.override("disable", OFF):
        assert "@shared." not in text(lambda x: chain(x), values(5))
        expected = np.asarray(cv.jit(lambda x: chain(x))(values(5)))
    assert np.asarray(run(values(5))).tobytes() == expected.tobytes()


def chain(x):
    def step(c, _):
        for k in range(1, 9):
            c = lax.lgamma(cnp.abs(c) + k)
        return c, None

    return lax.scan(step, x, None, length=50)[0]


# --- pieces ---------------------------------------------------------------------------------------


def layers(n):
    def run(x, *weights):
        for w in weights:
            x = cnp.tanh(x @ w)
        return x

    generator = np.random.default_rng(0)
    weights = [generator.normal(size=(64, 64)).astype("f4") for _ in range(n)]
    return run, (generator.normal(size=(32, 64)).astype("f4"), *weights)


def test_pieces_get_what_they_use():
    run, args = layers(4)
    found = text(run, *args)
    calls = re.findall(r"call (\w+) @entry\.shared\d+\((.*)\)", found)
    assert len(calls) >= 3
    for result, passed in calls:
        assert result == "void"  # nothing in them leaves early
        assert not re.search(r"%(dims|args|results|ctx|heap|private)\b|null", passed)


def test_a_piece_that_leaves_early_says_so():
    def body(c):
        for _ in range(700):
            c = c + cnp.sin(c) * 1e-3
        return lax.while_loop(lambda c: c < 10, lambda c: c + 1, c)

    with config.override("disable", frozenset({"rolling"})):
        found = text(body, np.float32(1))
    assert re.search(r"call i32 @entry\.\d+\(.*%ctx", found)
    assert "%status = phi i32" in found
    expected = cv.jit(body, backend="reference")(np.float32(1))
    np.testing.assert_allclose(cv.jit(body)(np.float32(1)), expected, rtol=1e-5)


def test_constants_are_read_again_by_each_piece():
    b = Builder("entry")
    c = b.constant(F32, (), 0)
    x, y = b.argument(F32, (4,)), b.result(F32, (4,))
    passed, again = b.load(x, 0), b.op("neg", b.load(c))
    values = [b.load(x, k) for k in range(4)]
    for _ in range(300):
        values = [b.op("add", b.op("mul", v, again), passed) for v in values]
    for k, value in enumerate(values):
        b.store(y, (k,), value)
    function = b.finish()
    assert split(function, WIDE) > 3
    pieces = [f.body.items for f in segments(function)]
    assert sum(again in items for items in pieces) == len(pieces)
    reloaded = [{i.value for i in items if isinstance(i, Reload)} for items in pieces]
    assert all(passed in found for found in reloaded[1:])
    assert not any(again in found for found in reloaded)


def test_long_computations_are_passed_on():
    b = Builder("entry")
    size = b.dim(0)
    assert recipe(b.op("add", size, size)) != []
    value = size
    for _ in range(4):
        value = b.op("mul", value, size)
    assert recipe(value) == []
    assert recipe(b.op("div", size, size)) == []
    assert recipe(b.load(b.argument(F32, (4,)), 0)) == []
