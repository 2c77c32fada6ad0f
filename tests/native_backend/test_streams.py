"""Large results stored past the caches, and rows fetched ahead: where, and with equal results."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector.core.config import config

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="they are of x86-64")

PAST = "!nontemporal !2"
AHEAD = "@llvm.prefetch"


def llvm(function: Any, *shapes: tuple[int, ...], cpu: str = "x86-64-v4") -> str:
    args = [cv.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    with config.override("cpu", cpu):
        return cv.jit(lambda *a: function(*a)).lower(*args).as_text("llvm")


def centred(x: Any) -> Any:
    return x - x.mean(-1, keepdims=True)


@pytest.mark.parametrize("cpu", ["x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("shape", [(1 << 22,), (4096, 1024), (1 << 23,)], ids=str)
def test_large_results_go_past_the_caches(shape, cpu):
    text = llvm(lambda x: x * 2 + 1, shape, cpu=cpu)
    assert PAST in text
    width = 64 if cpu.endswith("4") else 32
    assert all(f"align {width}," in line for line in text.splitlines() if PAST in line)
    assert "@llvm.x86.sse.sfence()" in text


def test_small_results_and_those_that_are_read_again_do_not():
    assert PAST not in llvm(lambda x: x * 2 + 1, (1 << 20,))
    assert PAST not in llvm(lambda x: cnp.sort(x * 2), (1 << 22,))
    assert PAST not in llvm(lambda x: x * 2 + 1, (1 << 22,), cpu="x86-64-v2")
    with config.override("disable", frozenset({"streaming_stores"})):
        assert PAST not in llvm(lambda x: x * 2 + 1, (1 << 22,))


def test_vectors_that_are_not_aligned_do_not():
    """The rows of a matrix with an odd number of columns begin anywhere."""
    assert PAST in llvm(centred, (4096, 1040))
    assert PAST not in llvm(centred, (4096, 1030))


def log_of_sum(x: Any) -> Any:
    return cnp.log(cnp.exp(x - x.max(-1, keepdims=True)).sum(-1))


def test_rows_are_fetched_ahead():
    assert AHEAD in llvm(log_of_sum, (4096, 1024))
    assert AHEAD not in llvm(log_of_sum, (4096, 256))  # short
    assert AHEAD not in llvm(log_of_sum, (64, 1024))  # an array that stays in the caches
    assert AHEAD not in llvm(lambda x: x.sum(-1), (4096, 1024))  # read once
    assert AHEAD not in llvm(centred, (4096, 1024))  # the second loop writes results
    with config.override("disable", frozenset({"rows_ahead"})):
        assert AHEAD not in llvm(log_of_sum, (4096, 1024))


@pytest.mark.parametrize("columns", [2048, 2050, 2064])
@pytest.mark.parametrize(
    "function", [centred, log_of_sum, lambda x: x * 2], ids=["centred", "log_of_sum", "twice"]
)
def test_results_are_the_same(function, columns):
    """In the last row, too, after which there is nothing to fetch."""
    x = np.random.default_rng(0).normal(size=(2100, columns)).astype(np.float32)
    found = np.asarray(cv.jit(lambda x: function(x))(x))
    for without in ({"streaming_stores", "rows_ahead"}, {"threads"}):
        with config.override("disable", frozenset(without)):
            np.testing.assert_array_equal(np.asarray(cv.jit(lambda x: function(x))(x)), found)


def test_donated_results_are_stored_in_place():
    x = cnp.arange(1 << 22, dtype=np.float32)
    expected = np.asarray(x) * 2 + 1
    doubled = cv.jit(lambda x: x * 2 + 1, donate_argnums=0)
    np.testing.assert_array_equal(np.asarray(doubled(x)), expected)
