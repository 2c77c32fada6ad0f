"""Dispatchers under cycles, changes from within, and threads; nothing leaks."""

import contextlib
import gc
import threading
import weakref

import numpy as np

from covector._native import Dispatcher, Executable

from .test_dispatch import COPY, NOTHING


def test_cycles_are_collected(entries, array_class):
    class Owner:
        pass

    def make():
        owner = Owner()
        executable = Executable(entries.llvm(NOTHING), owner, [], [])

        def fall_back(args, kwargs):
            return d, owner

        d = Dispatcher(fall_back, static_argnums=[0])
        owner.dispatcher = d
        d.self = d
        d.insert((owner,), {}, executable, lambda results: d)
        assert d(owner) is d
        return weakref.ref(owner), weakref.ref(d)

    owner, d = make()
    gc.collect()
    assert owner() is None
    assert d() is None


def test_clearing_while_running(entries):
    def callback(arrays):
        d.clear()
        gc.collect()
        return []

    def make():
        def run(dims, args, results, ctx):
            return entries.callback(ctx, 0, args, results)

        return Executable(entries.python(run), None, [], [], callbacks=[(callback, [], [])])

    d = Dispatcher(lambda args, kwargs: d.insert(args, kwargs, make(), lambda results: "built"))
    d()
    assert d() == "built"
    assert d.size == 0


def test_a_list_that_changes_while_code_runs(entries, array_class):
    def callback(arrays):
        values.clear()
        gc.collect()
        return []

    def run(dims, args, results, ctx):
        entries.callback(ctx, 0, args, results)
        seen.append(entries.view(args[0], (100,), np.float32).copy())
        return 0

    seen = []
    executable = Executable(
        entries.python(run), None, [((100,), np.dtype("f"))], [], callbacks=[(callback, [], [])]
    )
    d = Dispatcher(lambda args, kwargs: d.insert(args, kwargs, executable, ()))
    values = [array_class(np.full(100, 3, np.float32))]
    d(values)
    d(values)
    np.testing.assert_array_equal(seen, np.full((1, 100), 3))
    assert values == []


def test_threads_share_a_dispatcher(entries, array_class):
    f32 = np.dtype(np.float32)
    executable = Executable(
        entries.llvm(COPY), None, [((), f32)], [((), f32, False)], release_gil=True
    )
    failures = []
    d = Dispatcher(lambda args, kwargs: (d.insert(args, kwargs, executable, 0), d(*args))[1])

    def work(seed):
        for i in range(2000):
            x = array_class(np.float32(seed * 10000 + i))
            if d(x)._value != seed * 10000 + i:
                failures.append(seed)
            if i % 50 == 0:
                d.clear()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_nothing_leaks(entries, array_class, leaked_blocks):
    f32 = np.dtype(np.float32)
    executable = Executable(entries.llvm(COPY), None, [((), f32)], [((), f32, False)])
    x = array_class(np.float32(1))

    def work():
        d = Dispatcher(lambda args, kwargs: None, lambda: "k", static_argnums=[1])
        d.note = d
        d.insert((x, "s"), {}, executable, {"a": [0, None]})
        d.insert((x, "t"), {}, executable, lambda results: results)
        for args in [(x, "s"), (x, "t"), (x, []), ("x", "s"), ({"a": x}, 1)]:
            d(*args)
            d(*args, key=x)
        with contextlib.suppress(TypeError, ValueError):
            d.insert((x, "s"), {}, executable, {"a": [0, object()]})

    assert leaked_blocks(work) < 100
