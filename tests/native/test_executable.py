import contextlib
import ctypes
import gc
import signal
import threading
import time
import weakref

import ml_dtypes
import numpy as np
import pytest

from covector import _native
from covector._native import Executable

F32, F64, I32 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int32)

DOUBLE = """
define i32 @entry(ptr %dims, ptr %args, ptr %results, ptr %ctx) {
  %a = load ptr, ptr %args
  %r = load ptr, ptr %results
  %n = load i64, ptr %dims
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %loop, label %done
loop:
  %i = phi i64 [0, %0], [%next, %loop]
  %p = getelementptr float, ptr %a, i64 %i
  %q = getelementptr float, ptr %r, i64 %i
  %x = load float, ptr %p
  %y = fadd float %x, %x
  store float %y, ptr %q
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret i32 0
}
"""

# Runs for ever, polling.
ENDLESS = """
declare i32 @cv_poll(ptr)
define i32 @entry(ptr %dims, ptr %args, ptr %results, ptr %ctx) {
  br label %loop
loop:
  %stop = call i32 @cv_poll(ptr %ctx)
  %go = icmp eq i32 %stop, 0
  br i1 %go, label %loop, label %done
done:
  ret i32 -1
}
"""


def copy_entry(entries, count):
    """An entry which copies `count` float32 from the first input to the first result."""

    def run(dims, args, results, ctx):
        ctypes.memmove(results[0], args[0], 4 * count)
        return 0

    return entries.python(run)


def test_compiled_code_runs(entries, array_class):
    double = Executable(
        entries.llvm(DOUBLE), None, [((-1,), F32)], [((-1,), F32, False)], dims=(None,)
    )
    for n in (0, 1, 5, 1 << 16):
        x = np.arange(n, dtype=np.float32)
        (y,) = double(array_class(x))
        assert type(y) is array_class
        np.testing.assert_array_equal(y._value, 2 * x)
        assert y._value.ctypes.data % 64 == 0
        assert not y._value.flags.writeable


def test_arguments_may_come_in_a_sequence(entries, array_class):
    copy = Executable(copy_entry(entries, 3), None, [((3,), F32)], [((3,), F32, True)], name="c")
    x = np.arange(3, dtype=np.float32)
    for arguments in [(x,), ([x],), ((x,),), (array_class(x),), ([array_class(x)],)]:
        (y,) = copy(*arguments)
        np.testing.assert_array_equal(y._value, x)
        assert y.weak_type
    assert (copy.name, copy.input_count, copy.result_count, copy.release_gil) == ("c", 1, 1, False)
    assert "c" in repr(copy)
    for wrong in [(), (x, x), ([],), ([x, x],)]:
        with pytest.raises(TypeError, match="takes 1 arguments"):
            copy(*wrong)
    with pytest.raises(TypeError, match="keyword"):
        copy(x=x)


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.arange(6, dtype=np.float32)[::2],
        lambda: np.arange(3, dtype=">f4"),
        lambda: np.frombuffer(b"\0" + np.arange(3, dtype=np.float32).tobytes(), np.uint8)[1:].view(
            np.float32
        ),
        lambda: np.asfortranarray(np.arange(3, dtype=np.float32)),
        lambda: np.broadcast_to(np.float32(3), (3,)),
    ],
)
def test_any_layout_is_made_plain(entries, array_class, make):
    copy = Executable(copy_entry(entries, 3), None, [((3,), F32)], [((3,), F32, False)])
    x = make()
    np.testing.assert_array_equal(copy(x)[0]._value, x)
    np.testing.assert_array_equal(copy(array_class(x))[0]._value, x)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(4, np.float32),
        np.zeros((3, 1), np.float32),
        np.float32(1),
        np.zeros(3),
        np.zeros(3, np.int32),
        np.zeros(3, bool),
        np.zeros(3, ml_dtypes.bfloat16),
        np.zeros(3, "S4"),
        np.array([None] * 3),
        1.0,
        2,
        True,
        1j,
        None,
        "text",
        object(),
        [1.0, 2.0, 3.0],
    ],
)
def test_mismatches_name_the_argument(entries, array_class, wrong):
    add = Executable(
        copy_entry(entries, 3),
        None,
        [((3,), F32), ((3,), F32, "velocity")],
        [((3,), F32, False)],
        name="step",
    )
    good = np.zeros(3, np.float32)
    with pytest.raises(TypeError, match=r"step: argument 1 \('velocity'\) must be float32\[3\]"):
        add(good, wrong)
    with pytest.raises(TypeError, match=r"step: argument 0 must be float32\[3\]"):
        add(wrong, good)


def test_python_scalars(entries, array_class):
    seen = []

    def run(dims, args, results, ctx):
        seen.append([entries.view(args[i], (), t)[()] for i, t in enumerate(types)])
        return 0

    types = [np.bool_, np.int32, np.int64, np.float32, np.float64, np.complex64, np.complex128]
    run = Executable(entries.python(run), None, [((), np.dtype(t)) for t in types], [])
    assert run(True, -5, 1 << 40, 0.1, 0.1, 1 + 2j, 0.1j) == []
    assert seen == [
        [True, -5, 1 << 40, np.float32(0.1), 0.1, np.complex64(1 + 2j), np.complex128(0.1j)]
    ]
    with pytest.raises(OverflowError, match="int32"):
        run(True, 1 << 31, 0, 0.0, 0.0, 0j, 0j)
    with pytest.raises(OverflowError, match="int64"):
        run(True, 0, 1 << 63, 0.0, 0.0, 0j, 0j)
    with pytest.raises(TypeError, match="argument 3"):
        run(True, 0, 0, 1, 0.0, 0j, 0j)
    run(np.bool_(1), np.int32(1), np.int64(2), np.float32(3), 4.0, np.complex64(5), 6j)
    assert seen[-1] == [True, 1, 2, 3, 4, 5, 6j]


def test_constants_and_workspace(entries):
    seen = []

    def run(dims, args, results, ctx):
        context = ctx.contents
        assert context.workspace % 64 == 0
        seen.append(context.workspace)
        ctypes.memset(context.workspace, 1, 1000)
        constant = entries.view(context.constants[1], (4,), np.float64)
        ctypes.memmove(results[0], constant.ctypes.data, 32)
        return 0

    constants = [np.zeros((3, 3)), np.arange(8, dtype=">f8")[::2]]
    run = Executable(
        entries.python(run), None, [], [((4,), F64, False)], workspace_bytes=1000,
        constants=constants,
    )  # fmt: skip
    constants[1][:] = 0  # it was copied: its layout is not the ABI's
    for _ in range(3):
        np.testing.assert_array_equal(run()[0]._value, [0, 2, 4, 6])
    assert len(set(seen)) == 1


def test_constants_of_plain_layout_are_shared_and_kept(entries):
    constant = np.arange(3, dtype=np.float32)

    def run(dims, args, results, ctx):
        assert ctx.contents.constants[0] == address
        return 0

    address = constant.ctypes.data
    run = Executable(entries.python(run), None, [], [], constants=[constant])
    del constant
    gc.collect()
    assert run() == []


def test_concurrent_calls_have_their_own_workspace(entries):
    seen = []

    def run(dims, args, results, ctx):
        seen.append(ctx.contents.workspace)
        if len(seen) < 4:
            nested()
        return 0

    nested = Executable(entries.python(run), None, [], [], workspace_bytes=64)
    nested()
    assert len(set(seen)) == 4


@pytest.mark.parametrize("bytes_", [0, 1, 1000, 1 << 20])
def test_allocation(entries, bytes_):
    def run(dims, args, results, ctx):
        context = ctx.contents
        pointers = [context.alloc(ctx, bytes_, i) for i in range(5)]
        assert all(p and p % 64 == 0 for p in pointers)
        assert len(set(pointers)) == 5
        for pointer in pointers:
            ctypes.memset(pointer, 255, bytes_)
        return 0

    run = Executable(entries.python(run), None, [], [])
    for _ in range(10):
        run()


@pytest.mark.parametrize("bytes_", [-1, 1 << 62, (1 << 63) - 1, 1 << 55])
@pytest.mark.parametrize("code", [0, 8, -3])
def test_failed_allocation(entries, bytes_, code):
    def run(dims, args, results, ctx):
        assert ctx.contents.alloc(ctx, bytes_, 7) is None
        assert ctx.contents.error == -3
        return code

    entry = entries.python(run)
    with pytest.raises(MemoryError, match=r"site 7"):
        Executable(entry, None, [], [])()
    calls = []
    with pytest.raises(MemoryError):
        Executable(entry, None, [], [], error_handler=lambda *a: calls.append(a))()
    assert calls == [(-3, 7, bytes_)]


def test_errors_reach_the_handler(entries):
    def handler(code, site, bytes_):
        raise IndexError(code, site)

    for code, site in [(1, 0), (42, 41)]:
        entry = entries.python(lambda dims, args, results, ctx, code=code: code)
        with pytest.raises(IndexError) as info:
            Executable(entry, None, [], [], error_handler=handler)()
        assert info.value.args == (code, site)
        with pytest.raises(RuntimeError, match=f"code {code}"):
            Executable(entry, None, [], [])()
        with pytest.raises(RuntimeError, match=f"code {code}"):
            Executable(entry, None, [], [], error_handler=lambda code, site, bytes_: None)()
    for code in (-1, -2, -7):
        entry = entries.python(lambda dims, args, results, ctx, code=code: code)
        with pytest.raises(RuntimeError, match=f"code {code}"):
            Executable(entry, None, [], [], error_handler=handler)()


def test_run_time_sizes(entries):
    def run(dims, args, results, ctx):
        seen.append([dims[k] for k in range(3)])
        return 0

    seen = []
    executable = Executable(
        entries.python(run),
        None,
        [((-1, 3), F32), ((-2, -1), F32), ((-4,), F32)],
        [((-1, -2), F32, False), ((-5, 2), F32, False)],
        dims=(None, None, 99),
        expressions=([(2, (0,)), (1, ())], [(1, (0, 1)), (-3, ())]),
    )
    x = np.zeros
    outputs = executable(x((4, 3), "f"), x((5, 4), "f"), x(9, "f"))
    assert [y.shape for y in outputs] == [(4, 5), (17, 2)]
    assert seen == [[4, 5, 99]]
    with pytest.raises(TypeError, match=r"argument 1 must be float32\[n1,n0\], got .*\[5,5\]"):
        executable(x((4, 3), "f"), x((5, 5), "f"), x(9, "f"))
    with pytest.raises(TypeError, match="argument 2"):
        executable(x((4, 3), "f"), x((5, 4), "f"), x(8, "f"))
    with pytest.raises(ValueError, match="negative"):
        executable(x((1, 3), "f"), x((1, 1), "f"), x(3, "f"))


def test_sizes_that_overflow(entries):
    entry = entries.python(lambda *_: 0)
    square = Executable(
        entry, None, [((-1, 0), F32)], [((-2,), F32, False)], dims=(None,),
        expressions=([(1, (0, 0))],),
    )  # fmt: skip
    with pytest.raises(ValueError, match="too large"):
        square(np.zeros((1 << 40, 0), "f"))
    with pytest.raises((ValueError, MemoryError)):
        square(np.zeros((1 << 31, 0), "f"))
    with pytest.raises(ValueError, match="address"):
        Executable(entry, None, [], [((1 << 40, 1 << 40), F32, False)])
    huge = Executable(entry, None, [], [((1 << 56,), F32, False)])
    with pytest.raises(MemoryError):
        huge()
    arena = Executable(entry, None, [], [], workspace_bytes=1 << 60)
    with pytest.raises(MemoryError, match="workspace"):
        arena()


def test_many_arguments_and_results(entries):
    n = 100

    def run(dims, args, results, ctx):
        for i in range(n):
            ctypes.memmove(results[n - 1 - i], args[i], 4)
        return 0

    executable = Executable(
        entries.python(run), None, [((), F32)] * n, [((), F32, False)] * n, dims=[3] * 40
    )
    values = executable([float(i) for i in range(n)])
    assert [float(v._value) for v in values] == list(range(n))[::-1]


def test_wrappers_make_the_result(entries):
    def run(dims, args, results, ctx):
        return 0

    wrapped = Executable(
        entries.python(run), None, [], [((2,), F32, False), ((2,), F32, False, lambda x: [x])]
    )
    plain, (value,) = wrapped()
    assert isinstance(plain, _native.ArrayBase)
    assert type(value) is np.ndarray
    failing = Executable(
        entries.python(run), None, [],
        [((2,), F32, False), ((2,), F32, False, lambda x: 1 / 0)],
    )  # fmt: skip
    with pytest.raises(ZeroDivisionError):
        failing()


# ---- interruption and threads ----


@pytest.mark.parametrize("release", [False, True])
def test_signals_stop_compiled_code(entries, release):
    endless = Executable(
        entries.llvm(ENDLESS, ["cv_poll"]), None, [], [], name="endless", release_gil=release
    )
    for _ in range(2):
        start = time.monotonic()
        threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            endless()
        assert time.monotonic() - start < 2


def test_a_signal_handler_that_returns_does_not_stop_it(entries):
    seen = []

    def run(dims, args, results, ctx):
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            assert entries.poll(ctx, released=True) == 0
        return 0

    previous = signal.signal(signal.SIGALRM, lambda *a: seen.append(a))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        Executable(entries.python(run), None, [], [], release_gil=True)()
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert len(seen) == 1


def test_a_long_call_lets_other_threads_run(entries):
    """Even one which was thought to be short: polling gives the lock away."""
    endless = Executable(entries.llvm(ENDLESS, ["cv_poll"]), None, [], [])
    ticks = []

    def tick():
        for _ in range(5):
            ticks.append(time.monotonic())
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    threading.Timer(0.05, tick).start()
    with pytest.raises(KeyboardInterrupt):
        endless()
    assert len(ticks) == 5


def test_threads_call_at_once(entries, array_class):
    double = Executable(
        entries.llvm(DOUBLE), None, [((-1,), F32)], [((-1,), F32, False)], dims=(None,),
        workspace_bytes=4096, release_gil=True,
    )  # fmt: skip
    failures = []

    def work(seed):
        for i in range(300):
            x = np.full(1000 + i * seed, seed, np.float32)
            if not (double(x)[0]._value == 2 * seed).all():
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# ---- donation ----


def test_donated_memory_is_reused(entries, array_class):
    same = []

    def run(dims, args, results, ctx):
        same.append(args[0] == results[0])
        return 0

    donating = Executable(
        entries.python(run), None, [((8,), F32)], [((8,), F32, False)], donate=[(0, 0)]
    )
    x = array_class(np.ones(8, np.float32)) + 1.0
    (y,) = donating(x)
    assert x.is_deleted()
    np.testing.assert_array_equal(y._value, [2] * 8)
    shared = y._value
    donating(y)
    np.testing.assert_array_equal(shared, [2] * 8)
    foreign = array_class(np.ones(8, np.float32))
    donating(foreign)
    assert foreign.is_deleted()
    donating(np.ones(8, np.float32))
    assert same == [True, False, False, False]
    with pytest.raises(RuntimeError, match="deleted"):
        donating(x)


def test_an_array_given_twice_is_not_overwritten(entries, array_class):
    same = []

    def run(dims, args, results, ctx):
        same.append(results[0] in (args[0], args[1]))
        return 0

    donating = Executable(
        entries.python(run), None, [((8,), F32)] * 2, [((8,), F32, False)] * 2,
        donate=[(0, 0), (0, 1)],
    )  # fmt: skip
    x = array_class(np.ones(8, np.float32)) + 1.0
    donating(x, x)
    assert same == [False]
    assert x.is_deleted()


# ---- construction ----


def test_construction_is_checked(entries):
    entry = entries.python(lambda *_: 0)
    good = ((3,), F32)
    wrong = [
        (0, None, [], []),
        ("x", None, [], []),
        (entry, None, [1], []),
        (entry, None, [((3,),)], []),
        (entry, None, [((3,), "nonsense")], []),
        (entry, None, [((3,), object)], []),
        (entry, None, [((3,), [("a", "f")])], []),
        (entry, None, [((1.5,), F32)], []),
        (entry, None, [((1,) * 70, F32)], []),
        (entry, None, [(3, F32)], []),
        (entry, None, [], [good]),
        (entry, None, [], [(*good, False, 3)]),
        (entry, None, [], [(*good, False, None, None)]),
        (entry, None, [((-1,), F32)], []),
        (entry, None, None, []),
    ]
    for arguments in wrong:
        with pytest.raises((TypeError, ValueError, OverflowError)):
            Executable(*arguments)
    options = [
        {"dims": [None]},
        {"dims": [-1]},
        {"dims": ["x"]},
        {"dims": 3},
        {"dims": [1], "expressions": [[(1, (1,))]]},
        {"dims": [1], "expressions": [[(1, (-1,))]]},
        {"expressions": [3]},
        {"expressions": [[3]]},
        {"expressions": [[(1, [0])]]},
        {"expressions": [[("x", ())]]},
        {"workspace_bytes": -1},
        {"workspace_bytes": 1.5},
        {"constants": [3]},
        {"constants": [np.array([None])]},
        {"callbacks": [3]},
        {"callbacks": [(3, [], [])]},
        {"callbacks": [(len, [good], [good])]},
        {"callbacks": [(len, [((-1,), F32)], [])]},
        {"donate": [(0, 1)]},
        {"donate": [(1, 0)]},
        {"donate": [(-1, 0)]},
        {"donate": [3]},
        {"error_handler": 3},
        {"name": 3},
        {"nonsense": 3},
    ]
    for option in options:
        with pytest.raises((TypeError, ValueError)):
            Executable(entry, None, [good], [(*good, False)], **option)


def test_nothing_leaks(entries, array_class, leaked_blocks):
    class Owner:
        pass

    def function(arrays):
        return [arrays[0]]

    def run(dims, args, out, ctx):
        ctx.contents.alloc(ctx, 100, 0)
        return entries.callback(ctx, 0, args, out)

    entry = entries.python(run)
    x = array_class(np.ones(3, np.float32))

    def work():
        owner = Owner()
        spec = ((-1,), F32)
        executable = Executable(
            entry, owner, [spec, ((), F64, "name")], [(*spec, False), (*spec, True, list)],
            dims=[None, 4], expressions=[[(1, (0, 1))]], workspace_bytes=-3,
            constants=[np.zeros((3, 3)).T], callbacks=[(function, [spec], [(*spec, False)])],
            donate=[(0, 1)], error_handler=lambda *a: None,
        )  # fmt: skip
        owner.executable = executable
        for argument in (x + x, np.ones(3, np.float32), np.ones(3), "x"):
            with contextlib.suppress(TypeError):
                executable(argument, 1.0)
        return weakref.ref(owner)

    gone = work()
    gc.collect()
    assert gone() is None
    assert leaked_blocks(work) < 100
