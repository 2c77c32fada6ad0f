"""Parallel loops: the same bits for every number of threads, errors, private memory, forks."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import _native, lax, random
from covector.compiler import memory, nests, parallel
from covector.compiler.sizes import policy
from covector.core import backend
from covector.core.backend import Options
from covector.core.config import config, num_threads
from covector.loopir.builder import Builder
from covector.loopir.ir import Function
from covector.loopir.printer import print_function

F32 = np.dtype(np.float32)
COUNTS = (1, 2, 3, 7)
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _small_loops_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every parallel loop runs on threads, in pieces as small as can be."""
    monkeypatch.setattr(parallel, "WORTHWHILE", 0.0)
    monkeypatch.setattr(parallel, "PIECE", 1.0)
    monkeypatch.setattr(parallel, "MANY", 4)
    monkeypatch.setattr(parallel, "BLOCKS", (4, 16))
    monkeypatch.setattr(parallel, "LONG_REDUCTION", 16)
    monkeypatch.setattr(nests, "REDUCTION_BLOCK", 8)
    monkeypatch.setattr(policy, "LARGE", 1)


def compiled(f: Callable[..., Any], *args: Any) -> Any:
    """A function compiled for these arguments, past the cache of programs."""
    program = cv.make_program(f)(*args)
    return backend.get_backend("native").compile(program, Options())


def same_bits(f: Callable[..., Any], *args: Any, loops: bool = True) -> list[np.ndarray]:
    """The results, the same for every number of threads."""
    executable = compiled(f, *args)
    if loops:
        assert " parallel in " in executable.as_text("loopir")
    leaves = [np.asarray(x) for x in cv.tree.leaves(args)]
    results: list[list[np.ndarray]] = []
    for count in COUNTS:
        with num_threads(count):
            results.append([np.asarray(x) for x in executable(*leaves)])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert a.tobytes() == b.tobytes()
    return results[0]


# --- loop IR -------------------------------------------------------------------------------------


def rows(count: int, site: int | None = None) -> Function:
    """Each iteration squares a row into an array of its own, then sums that up."""
    b = Builder("entry")
    x = b.argument(F32, (count, 16))
    y = b.result(F32, (count,))
    factor = b.load(x, 0, 1)

    def row(i: Any) -> None:
        own = b.buffer(F32, (16,))

        def square(j: Any) -> None:
            b.store(own, (j,), b.op("mul", b.load(x, i, j), b.load(x, i, j)))

        b.loop(0, 16, square)
        zero = b.const(np.float32(0), F32)
        (total,) = b.loop(0, 16, lambda j, s: [b.op("add", s, b.load(own, j))], [zero])
        if site is not None:
            b.check(b.op("lt", b.load(x, i, 0), b.const(np.float32(1000), F32)), site)
        b.store(y, (i,), b.op("mul", total, factor))

    b.loop(0, count, row, kind="parallel")
    function = b.finish()
    parallel.choose(function)
    memory.plan(function)
    return function


@pytest.mark.parametrize("count", COUNTS)
def test_iterations_have_private_buffers(count: int, compiled: Any) -> None:
    function = rows(200)
    assert function.workspace_bytes == 0
    run = compiled(function)
    assert "run entry.loop1 parallel in 0..200 by 1" in print_function(function)
    x = RNG.integers(0, 9, (200, 16)).astype(F32)
    with num_threads(count):
        np.testing.assert_array_equal(run(x)[0], (x * x).sum(1) * x[0, 1])


def test_the_first_failure_is_reported(compiled: Any) -> None:
    x = np.zeros((2000, 16), F32)
    run = compiled(rows(2000, site=6))
    with num_threads(3):
        assert run.run([x])[0] == 0
        x[[1500, 300], 0] = 1e6
        for _ in range(20):
            assert run.run([x])[0] == 7
    assert run.run([x], cancel=1)[0] == -1


@pytest.mark.parametrize(("count", "grain"), [(1000, 100), (1000, 1), (33, 64), (7, 2), (1, 1)])
def test_pieces_get_smaller_towards_the_end(count: int, grain: int) -> None:
    """However far an estimate of the grain is off, no thread waits for another one's last piece."""
    numbers = [ctypes.c_void_p] * 6 + [ctypes.c_int64] * 2
    body_type = ctypes.CFUNCTYPE(ctypes.c_int32, *numbers)
    pieces: list[tuple[int, int]] = []

    @body_type
    def body(*args: Any) -> int:
        pieces.append(args[-2:])
        return 0

    context = ctypes.create_string_buffer(1024)
    frame = (ctypes.c_void_p * 5)(None, None, None, ctypes.addressof(context), None)
    parallel_loop = ctypes.CFUNCTYPE(
        ctypes.c_int32, ctypes.c_void_p, body_type, *[ctypes.c_int64] * 4
    )(_native.symbols()["cv_parallel"])
    with num_threads(2):
        assert parallel_loop(ctypes.addressof(frame), body, 0, count, grain, 0) == 0
    pieces.sort()
    assert [a for a, _ in pieces] == [0, *[b for _, b in pieces[:-1]]]
    assert pieces[-1][1] == count
    sizes = [b - a for a, b in pieces]
    if count > grain:  # else one thread does it alone
        assert max(sizes) <= grain
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] == 1


def test_loops_inside_are_serial(compiled: Any) -> None:
    b = Builder("entry")
    y = b.result(F32, (50, 60))

    def row(i: Any) -> None:
        def element(j: Any) -> None:
            value = b.convert(b.op("add", b.op("mul", i, b.index(60)), j), F32)
            b.store(y, (i, j), value)

        b.loop(0, 60, element, kind="parallel")

    b.loop(0, 50, row, kind="parallel")
    function = b.finish()
    parallel.choose(function)
    memory.plan(function)
    run = compiled(function)
    assert print_function(function).count("parallel in") == 1
    with num_threads(2):
        np.testing.assert_array_equal(run()[0], np.arange(3000, dtype=F32).reshape(50, 60))


def test_without_threads_loops_are_serial() -> None:
    with config.override("disable", "threads"):
        function = rows(200)
    assert "parallel" not in print_function(function)
    assert function.workspace_bytes > 0


def test_cheap_loops_are_serial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "WORTHWHILE", 1e6)
    assert "parallel" not in print_function(rows(200))


# --- programs ------------------------------------------------------------------------------------


def decay(x: Any) -> Any:
    """Steps that depend on the value: lanes of very different cost."""
    return lax.while_loop(lambda c: c[0] > 1, lambda c: (c[0] * 0.9, c[1] + 1), (x, 0))


@pytest.mark.parametrize("lanes", [1, 31, 32, 33, 64, 1000])
def test_a_divergent_while(lanes: int) -> None:
    x = np.exp(RNG.normal(size=lanes) * 2).astype(F32)
    _, steps = same_bits(cv.vmap(decay), x, loops=lanes > 32)
    np.testing.assert_array_equal(steps, [decay(v)[1] for v in x])


def simulate(rate: Any, y: Any) -> Any:
    def step(y: Any, _: Any) -> Any:
        return y + 0.01 * cnp.stack([-y[1] * rate[0], y[0] * rate[1]]), None

    return lax.scan(step, y, None, length=40)[0]


@pytest.mark.parametrize("lanes", [7, 33, 500, 5000])
def test_the_gradient_of_an_ensemble(lanes: int) -> None:
    y = RNG.normal(size=(lanes, 2)).astype(F32)
    rate = np.array([1.0, 2.0], F32)

    def loss(rate: Any, y: Any) -> Any:
        return (cv.vmap(lambda each: simulate(rate, each))(y) ** 2).mean()

    found = same_bits(cv.grad(loss, (0, 1)), rate, y, loops=lanes > 32)
    program = cv.make_program(cv.grad(loss, (0, 1)))(rate, y)
    wanted = backend.executable(program, backend="reference")(rate, y)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, np.asarray(b), rtol=2e-4, atol=1e-6)


def test_random_numbers_of_lanes() -> None:
    def walk(key: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            key, x = carry
            key, own = random.split(key)
            return (key, x + random.normal(own)), None

        return lax.scan(step, (key, 0.0), None, length=5)[0][1]

    def f(seed: Any) -> Any:
        return cv.vmap(walk)(random.split(random.key(seed), 100))

    same_bits(f, np.uint32(3))


def test_callbacks_stay_on_the_calling_thread() -> None:
    threads: set[int] = set()

    def record(x: Any) -> Any:
        threads.add(threading.get_ident())
        return x

    def f(x: Any) -> Any:
        shape = cv.ShapeDtypeStruct((), F32)

        def step(y: Any, _: Any) -> Any:
            return cv.pure_callback(record, shape, y, vmap_method="sequential") + 1, None

        return cv.vmap(lambda y: lax.scan(step, y, None, length=3)[0])(x)

    x = np.arange(100, dtype=F32)
    executable = compiled(f, x)
    with num_threads(3):
        np.testing.assert_array_equal(np.asarray(executable(x)[0]), x + 3)
    assert threads == {threading.get_ident()}


SHAPES = [(50,), (64,), (1031,), (3, 41), (2, 3, 29), (70, 5), (9000, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_elementwise_loops(shape: tuple[int, ...]) -> None:
    x = RNG.normal(size=shape).astype(F32)
    found = same_bits(lambda x: (cnp.exp(x) + 1, cnp.flip(x).T * 2), x)
    np.testing.assert_allclose(found[0], np.exp(x) + 1, rtol=1e-6)
    np.testing.assert_array_equal(found[1], np.flip(x).T * 2)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "int32", "complex64", "bool", "float16"])
def test_reductions(shape: tuple[int, ...], dtype: str) -> None:
    x = (RNG.normal(size=shape) * 3).astype(dtype)
    found = same_bits(lambda x: (x.sum(), x.sum(0), x.sum(-1), x.mean(), x.prod(0)), x)
    near = 1e-3 if dtype == "float16" else 1e-5
    exact = x.astype("complex128" if dtype == "complex64" else "float64")
    wanted = [exact.sum(), exact.sum(0), exact.sum(-1), exact.mean()]
    for a, b in zip(found[:4], wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=near, atol=near * 100)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_extrema(shape: tuple[int, ...]) -> None:
    x = RNG.integers(-50, 50, shape).astype(F32)
    found = same_bits(lambda x: (x.max(), x.argmax(), x.min(0), x.argmin(-1)), x)
    for a, b in zip(found, [x.max(), x.argmax(), x.min(0), x.argmin(-1)], strict=True):
        np.testing.assert_array_equal(a, b)


def test_threads_off_gives_the_same_bits() -> None:
    x = RNG.normal(size=5000).astype(F32)

    def f(x: Any) -> Any:
        return (x * cnp.sin(x)).sum(), cnp.exp(x), cv.grad(lambda y: (y**3).mean())(x)

    on = same_bits(f, x)
    with config.override("disable", "threads"):
        off = compiled(f, x)(x)
    for a, b in zip(on, off, strict=True):
        assert a.tobytes() == np.asarray(b).tobytes()


# --- user threads, forks -------------------------------------------------------------------------


def test_user_threads_share_the_pool() -> None:
    x = RNG.normal(size=(3000, 2)).astype(F32)
    rate = np.array([1.0, 2.0], F32)
    executable = compiled(lambda rate, y: cv.vmap(lambda e: simulate(rate, e))(y), rate, x)
    wanted = np.asarray(executable(rate, x)[0])
    wrong: list[int] = []

    def call(number: int) -> None:
        with num_threads(1 + number % 3):
            for _ in range(20):
                if np.asarray(executable(rate, x)[0]).tobytes() != wanted.tobytes():
                    wrong.append(number)

    users = [threading.Thread(target=call, args=[n]) for n in range(6)]
    for user in users:
        user.start()
    for user in users:
        user.join(60)
        assert not user.is_alive()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_forked_child_has_a_pool_of_its_own() -> None:
    x = np.exp(RNG.normal(size=1000)).astype(F32)
    executable = compiled(cv.vmap(decay), x)
    with num_threads(3):
        wanted = np.asarray(executable(x)[0])
        assert _native.pool_workers() >= 2
        child = os.fork()
        if child == 0:
            fresh = _native.pool_workers() == 0
            same = np.asarray(executable(x)[0]).tobytes() == wanted.tobytes()
            os._exit(0 if fresh and same and _native.pool_workers() == 2 else 1)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    np.testing.assert_array_equal(np.asarray(executable(x)[0]), wanted)


AT_EXIT = """
import threading, time
import numpy as np
import covector as cv
from covector import lax
from covector.core.config import num_threads

x = np.ones(5000, np.float32)
forever = lambda x: lax.while_loop(lambda y: y != 0, lambda y: y * 0.5 + 0.5, x)
f = cv.jit(cv.vmap(forever)).lower(x).compile()

def user():
    with num_threads(3):
        f(x)

for _ in range(2):
    threading.Thread(target=user, daemon=True).start()
time.sleep(0.2)
print(float(cv.jit(lambda x: x.sum())(np.ones(10**6, np.float32))))
"""


def test_the_process_ends_while_daemon_threads_compute() -> None:
    done = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, b"1000000.0\n"), done.stderr


def test_the_number_of_threads_follows_the_setting() -> None:
    before = _native.get_num_threads()
    with num_threads(5):
        assert _native.get_num_threads() == 5
        with num_threads(0):
            assert _native.get_num_threads() == len(os.sched_getaffinity(0))
        other: list[int] = []
        thread = threading.Thread(target=lambda: other.append(_native.get_num_threads()))
        thread.start()
        thread.join()
        assert other == [before]
    assert _native.get_num_threads() == before
