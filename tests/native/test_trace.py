import gc
import sys
import threading
import weakref

import pytest

from covector import _native


class Trace:
    pass


def test_set_trace_returns_the_previous_one():
    first, second = Trace(), Trace()
    assert _native.get_trace() is None
    assert _native.set_trace(first) is None
    assert _native.get_trace() is first
    assert _native.set_trace(second) is first
    assert _native.set_trace(None) is second
    assert _native.get_trace() is None


def test_the_trace_belongs_to_its_thread():
    seen = []
    _native.set_trace(Trace())
    thread = threading.Thread(target=lambda: seen.append(_native.get_trace()))
    thread.start()
    thread.join()
    assert seen == [None]


def test_a_thread_that_ends_lets_its_trace_go():
    trace = Trace()
    gone = weakref.ref(trace)

    def work(trace):
        _native.set_trace(trace)

    threads = [threading.Thread(target=work, args=(trace,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del trace, thread, threads
    gc.collect()
    assert gone() is None


def test_reference_counts_are_kept():
    trace = Trace()
    before = sys.getrefcount(trace)
    for _ in range(100):
        _native.set_trace(trace)
        _native.get_trace()
        _native.set_trace(None)
    assert sys.getrefcount(trace) == before


def test_x64_has_an_override_per_thread():
    before = _native.get_x64()
    seen = []
    assert _native.set_thread_x64(not before) is None
    assert _native.get_x64() is not before
    thread = threading.Thread(target=lambda: seen.append(_native.get_x64()))
    thread.start()
    thread.join()
    assert seen == [before]
    assert _native.set_thread_x64(None) is (not before)
    assert _native.get_x64() is before


def test_configuration_numbers_must_be_numbers():
    with pytest.raises(TypeError):
        _native.set_config_epoch("x")
    with pytest.raises(OverflowError):
        _native.set_thread_config(1 << 70)
    previous = _native.set_thread_config(7)
    assert _native.set_thread_config(previous) == 7
