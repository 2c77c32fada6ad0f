"""Compiled programs in memory: bounded in number and bytes, the latest used ones stay."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import covector as cv
from covector.core import backend
from covector.core.backend import Options, _Cache
from covector.transforms import jit


class Executable:
    def __init__(self, nbytes):
        self.nbytes = nbytes


class Fake:
    name = "fake"

    def __init__(self):
        self.compiled = 0

    def compile(self, program, options):
        self.compiled += 1
        return Executable(100)


@pytest.fixture
def fake():
    made = Fake()
    backend.register_backend("fake", lambda: made)
    yield made
    del backend._factories["fake"]
    backend._backends.pop("fake", None)


def program(k):
    return cv.jit(lambda x: x + k).trace(np.float32(0)).program


@pytest.mark.parametrize("limits", [{"limit": 3}, {"limit_bytes": 300}])
def test_what_was_not_used_for_longest_goes(fake, limits):
    cache = _Cache(**limits)
    programs = [program(k) for k in range(4)]
    first = [cache.get(p, Options(), "fake") for p in programs[:3]]
    assert cache.get(programs[0], Options(), "fake") is first[0]
    cache.get(programs[3], Options(), "fake")
    assert fake.compiled == 4
    assert (len(cache.entries), cache.nbytes) == (3, 300)
    assert cache.get(programs[0], Options(), "fake") is first[0]
    cache.get(programs[1], Options(), "fake")
    assert fake.compiled == 5
    cache.clear()
    assert (len(cache.entries), cache.nbytes) == (0, 0)


def test_one_that_is_too_large_is_used(fake):
    cache = _Cache(limit_bytes=10)
    one = program(1)
    assert cache.get(one, Options(), "fake") is cache.get(one, Options(), "fake")
    cache.get(program(2), Options(), "fake")
    assert len(cache.entries) == 1


def test_code_goes_with_its_function():
    """Nothing else holds what a forgotten function was compiled to."""
    fun = cv.jit(lambda x: x * 3 + np.arange(1000, dtype=np.float32).sum())
    fun(np.float32(2))
    (call,) = fun._compiler.calls.values()
    assert call.executable.nbytes > 0
    alive = weakref.ref(call.executable)
    del call, fun
    backend.clear_cache()
    gc.collect()
    assert alive() is None


def test_a_function_forgets_its_oldest_signatures(monkeypatch):
    monkeypatch.setattr(jit, "SIGNATURES", 3)
    traced = []

    @cv.jit
    def double(x):
        traced.append(x.shape)
        return 2 * x

    for size in (1, 2, 3, 4, 4, 2, 1):
        assert double(np.ones(size, np.float32)).shape == (size,)
    assert traced == [(1,), (2,), (3,), (4,), (1,)]
    assert len(double._compiler.calls) == 3
