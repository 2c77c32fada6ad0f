"""What passes through the run-time context: memory, constants, checks, callbacks, cancellation."""

from __future__ import annotations

import numpy as np
import pytest

from covector.backends.native import emit, engine
from covector.backends.native.emit_externals import EXTERNALS
from covector.backends.native.emit_polls import insert_polls
from covector.core.errors import CompilationError
from covector.loopir.builder import Builder
from covector.loopir.ir import CONTEXT, SIMD, For, LoopIRError, While, walk
from covector.loopir.verifier import verify

F32, F64, I32, I64 = (np.dtype(t) for t in ("f4", "f8", "i4", "i8"))


def test_constants_and_workspace(compiled):
    b = Builder("entry")
    c = b.constant(F64, (5,))
    w, v = b.buffer(F64, (5,)), b.buffer(I32, (5,))
    y = b.result(F64, (5,))
    b.loop(0, 5, lambda i: b.store(w, (i,), b.op("mul", b.load(c, i), 2.0)))
    b.loop(0, 5, lambda i: b.store(v, (i,), b.convert(b.load(w, i), I32)))
    b.loop(
        0, 5, lambda i: b.store(y, (i,), b.op("add", b.convert(b.load(v, i), F64), b.load(w, i)))
    )
    constant = np.array([0.5, 1, 2, 3, 4])
    np.testing.assert_array_equal(
        compiled(b.finish())(constants=[constant])[0], 2 * constant + np.trunc(2 * constant)
    )


def test_heap_buffers_of_run_time_size(compiled):
    b = Builder("entry")
    n = b.dim(0)
    x, y = b.argument(F32, (n,)), b.result(F32, (n,))
    h = b.buffer(F32, (n, 2))

    def fill(i):
        b.store(h, (i, 0), b.load(x, i))
        b.store(h, (i, 1), b.op("neg", b.load(x, i)))

    b.loop(0, n, fill)
    b.loop(0, n, lambda i: b.store(y, (i,), b.op("sub", b.load(h, i, 0), b.load(h, i, 1))))
    run = compiled(b.finish())
    x_in = np.arange(33, dtype=np.float32)
    np.testing.assert_array_equal(run(x_in, dims=[33])[0], 2 * x_in)
    status, _ = run.run([x_in], dims=[33], memory=False)
    assert status == -3


@pytest.mark.parametrize("kind", ["serial", SIMD])
def test_checks_leave_with_their_site(kind, compiled):
    b = Builder("entry")
    x, y = b.argument(F32, (50,)), b.result(F32, (50,))

    def body(i):
        v = b.load(x, i)
        b.check(b.op("ge", v, 0.0), 11)
        b.check(b.op("lt", v, 100.0), 3)
        b.store(y, (i,), v)

    b.loop(0, 50, body, kind=kind)
    run = compiled(b.finish())
    good = np.arange(50, dtype=np.float32)
    np.testing.assert_array_equal(run(good)[0], good)
    for value, status in ((-1.0, 12), (500.0, 4), (np.nan, 12)):
        bad = good.copy()
        bad[37] = value
        assert run.run([bad])[0] == status


def test_checks_do_not_see_masked_lanes(compiled):
    """Neither lanes beyond the end nor those of the other side of a branch fail."""
    b = Builder("entry")
    x, y = b.argument(F32, (3,)), b.result(F32, (3,))

    def body(i):
        v = b.load(x, i)

        def checked():
            b.check(b.op("gt", v, 2.0), 0)
            return [b.op("neg", v)]

        (w,) = b.if_(b.op("gt", v, 1.0), checked, lambda: [v])
        b.check(b.op("gt", v, 0.0), 1)
        b.store(y, (i,), w)

    b.loop(0, 3, body, kind=SIMD)
    run = compiled(b.finish())
    np.testing.assert_array_equal(run(np.float32([0.5, 3, 4]))[0], [0.5, -3, -4])
    assert run.run([np.float32([0.5, 1.5, 4])])[0] == 1


def test_callbacks(compiled):
    b = Builder("entry")
    x, y = b.argument(F64, (3,)), b.result(F64, (3,))
    t = b.buffer(F64, (3,))
    b.loop(0, 3, lambda i: b.store(t, (i,), b.op("mul", b.load(x, i), 2.0)))
    b.callback(5, [t, x], [y])
    b.loop(0, 3, lambda i: b.store(y, (i,), b.op("add", b.load(y, i), 1.0)))
    run = compiled(b.finish())

    def callback(context, number, args, results):
        assert number == 5
        first, second = (_view(args[k]) for k in range(2))
        _view(results[0])[:] = first - second
        return 0

    x_in = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(run(x_in, callback=callback)[0], x_in + 1)
    assert run.run([x_in], callback=lambda *_: 1)[0] == -2


def _view(address: int) -> np.ndarray:
    import ctypes

    return np.ctypeslib.as_array((ctypes.c_double * 3).from_address(address))


def test_calls_of_externals(compiled):
    b = Builder("entry")
    x, y = b.argument(F64, (4,)), b.result(F64, (4,))
    b.loop(0, 4, lambda i: b.store(y, (i,), b.pure_call("tgamma", F64, b.load(x, i))))
    run = compiled(b.finish())
    np.testing.assert_allclose(run(np.array([1.0, 2, 3, 4]))[0], [1, 1, 2, 6])


def test_sort_through_the_runtime(compiled):
    b = Builder("entry")
    x, y = b.argument(F64, (6,)), b.result(F64, (6,))
    b.loop(0, 6, lambda i: b.store(y, (i,), b.load(x, i)))
    numbers = [b.index(k) for k in (1, 6, 1, 1, 12)]
    b.call("cv_sort", I32, CONTEXT, *numbers, y, *[None] * 7, leaves=True)
    (total,) = b.loop(0, 6, lambda i, t: [b.op("max", t, b.load(y, i))], [b.const(0.0, F64)])
    b.store(y, (0,), total)
    found = compiled(b.finish())(np.array([3.0, 1, 2, 6, 5, 4]))[0]
    np.testing.assert_array_equal(found, [6, 2, 3, 4, 5, 6])


def test_unknown_externals_are_refused(compiled):
    b = Builder("entry")
    b.call("system", I32, b.argument(I32, (1,)))
    function = b.finish()
    with pytest.raises(CompilationError, match="'system', which is not on the list"):
        emit.emit(function, engine.get_engine().target)
    with pytest.raises(LoopIRError, match="system is not on the list"):
        verify(function, EXTERNALS)


def test_cancelled_loops_stop(compiled):
    b = Builder("entry")
    n = b.dim(0)
    y = b.result(I64, ())
    (total,) = b.while_(lambda k: b.op("lt", k, n), lambda k: [b.op("add", k, 1)], [b.index(0)])
    b.store(y, (), total)
    run = compiled(b.finish())
    assert run(dims=[1000])[0] == 1000
    assert run.run([], dims=[10**15], cancel=1)[0] == -1


@pytest.mark.parametrize("kind", ["serial", SIMD])
def test_cancelled_counted_loops_stop(kind, compiled):
    b = Builder("entry")
    n = b.dim(0)
    y = b.result(I64, ())

    def outer(i, total):
        return b.loop(0, n, lambda j, t: [b.op("add", t, b.op("xor", i, j))], [total], kind=kind)

    b.store(y, (), b.loop(0, n, outer, [b.index(0)])[0])
    run = compiled(b.finish())
    i, j = np.indices((70, 70))
    assert run(dims=[70])[0] == (i ^ j).sum()
    assert run.run([], dims=[10**8], cancel=1)[0] == -1


def test_polls_are_about_a_millisecond_apart():
    b = Builder("entry")
    x, y = b.argument(F32, (1000,)), b.result(F32, (1000,))
    n = b.dim(0)

    def work(i):
        return b.store(y, (i,), b.op("sin", b.load(x, i)))

    b.loop(0, 1000, work)

    def outer(k):
        b.loop(0, 1000, work)

    b.loop(0, 10, outer)
    b.loop(0, n, outer)
    b.while_(lambda k: b.op("lt", k, n), lambda k: [b.op("add", k, 1)], [b.index(0)])
    function = b.finish()
    insert_polls(function)
    loops = [i for i in walk(function.body) if isinstance(i, For | While)]
    assert [loop.poll_every for loop in loops[:5]] == [0, 0, 0, 128, 0]
    assert loops[5].poll_every == 2**19


def test_explicit_polls(compiled):
    b = Builder("entry")
    y = b.result(F32, ())
    b.poll()
    b.store(y, (), b.const(1.0, F32))
    run = compiled(b.finish())
    assert run.run([], cancel=1)[0] == -1


def test_buffers_of_one_alias_class_are_kept_in_order(compiled):
    """Two names of one place: what is stored through one is read through the other."""
    b = Builder("entry")
    x, y = b.argument(F32, (32,)), b.result(F32, (32,))
    first, second = b.buffer(F32, (32,)), b.buffer(F32, (32,))
    first.alias_class = second.alias_class = "slot"
    first.offset = second.offset = 0
    b.loop(0, 32, lambda i: b.store(first, (i,), b.load(x, i)))

    def shift(i):
        b.store(second, (b.op("add", i, 1),), b.load(first, i))

    b.loop(0, 31, shift)
    b.loop(0, 32, lambda i: b.store(y, (i,), b.load(second, i)))
    function = b.finish()
    function.workspace_bytes = 128
    np.testing.assert_array_equal(compiled(function)(np.arange(32))[0], np.zeros(32))
