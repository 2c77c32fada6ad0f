"""Loops over the same rows as one loop, and what becomes of the arrays between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax, nn
from covector.core.config import config, num_threads
from covector.loopir.builder import Builder
from covector.loopir.fusion import fuse_last
from covector.loopir.printer import print_function
from covector.loopir.shrinking import shrink
from covector.scipy.special import logsumexp

F32 = np.dtype(np.float32)


def planned(fn: Callable[..., Any], *args: Any) -> int:
    return cv.jit(fn).lower(*args).compile().cost_analysis()["workspace_bytes"]


def array(*shape: int) -> Any:
    return cnp.asarray(np.random.default_rng(3).standard_normal(shape).astype(np.float32))


def layer_norm(x: Any) -> Any:
    return (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)


def moments(x: Any) -> Any:
    return x.sum(-1), (x * x).sum(-1), cnp.exp(x).max(-1)


def rows_and_columns(x: Any) -> Any:
    return nn.softmax(x, -1) + nn.softmax(x, 0)


def shifted_rows(x: Any) -> Any:
    """Each row needs the sum of the one before: this may not become one loop."""
    total = cnp.exp(x).sum(-1)
    return x / cnp.roll(total, 1)[..., None]


def reversed_rows(x: Any) -> Any:
    y = cnp.exp(x)
    return y / y[::-1].sum(-1, keepdims=True) + y


def ranks(x: Any) -> Any:
    return cnp.argmax(x, -1), cnp.argmin(x, -1), x.max(-1)


CASES = (nn.softmax, nn.log_softmax, layer_norm, moments, rows_and_columns, shifted_rows)
CASES = (*CASES, reversed_rows, ranks, lambda x: logsumexp(x, axis=-1), lambda x: x.std(0))


@pytest.mark.parametrize("fn", CASES)
@pytest.mark.parametrize("shape", [(70, 90), (65, 33), (5, 700), (700, 5), (3, 40, 50)])
def test_rows(fn: Any, shape: tuple[int, ...]) -> None:
    x = array(*shape)
    expected = cv.tree.leaves(cv.jit(fn, backend="reference")(x))
    for disabled in ((), ("row_fusion",), ("threads",)):
        with config.override("disable", frozenset(disabled)):
            found = cv.tree.leaves(cv.jit(lambda x: fn(x))(x))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=2e-5, atol=2e-5)


def test_results_do_not_depend_on_threads() -> None:
    x = array(600, 500)
    fn = cv.jit(lambda x: (nn.softmax(x), layer_norm(x), x.sum()))
    expected = fn(x)
    with num_threads(1):
        found = fn(x)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("fn", [nn.softmax, layer_norm, moments])
def test_nothing_but_a_row_is_kept(fn: Any) -> None:
    assert planned(fn, array(512, 1024)) <= 4 * 1024 + 1024


def test_two_reductions_read_their_operand_once() -> None:
    text = cv.jit(lambda x: (x.sum(1), (x * x).sum(1))).lower(array(100, 300)).as_text("loopir")
    assert text.count("load a0") == 1


def exchanges(layers: int) -> Callable[[Any], Any]:
    """Each layer reads the one before at two places for each element, behind a reshape."""

    def fn(x: Any) -> Any:
        for k in range(layers):
            x = x.reshape(2**k, 2, -1)
            x = x.at[:, 1].set(cnp.sin(x[:, 1, ::-1])).reshape(-1)
        return x

    return fn


def test_work_grows_with_the_number_of_exchanges_alone() -> None:
    x = array(2**10)
    lengths = [len(cv.jit(exchanges(n)).lower(x).as_text("loopir")) for n in (4, 8)]
    assert lengths[1] < 2.5 * lengths[0]
    expected = cv.jit(exchanges(8), backend="reference")(x)
    np.testing.assert_allclose(cv.jit(exchanges(8))(x), expected, rtol=1e-5, atol=1e-5)


def test_long_nests_are_cut() -> None:
    def fn(x: Any) -> Any:
        values = [x, x + 1]
        for k in range(1000):  # each value is read twice
            values.append(cnp.sin(values[-1]) * 0.5 + values[-2] / (k + 2))
        return values[-1]

    x = array(300)
    with config.override("disable", config.disable | {"rolling"}):
        text = cv.jit(fn).lower(x).as_text("loopir")
        found = cv.jit(fn)(x)
    assert 8 <= text.count("for ") <= 40
    expected = cv.jit(fn, backend="reference")(x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def two_loops(second: Callable[[Builder, Any, Any, Any], None], rows: int = 100) -> str:
    """Text of a loop that fills `w[i, :]` and a second one, after fusion."""
    b = Builder("f")
    x, y = b.argument(F32, (rows, 8)), b.result(F32, (rows, 8))
    w = b.buffer(F32, (rows, 8))

    def fill(i: Any) -> None:
        b.loop(0, 8, lambda j: b.store(w, (i, j), b.op("exp", b.load(x, i, j))), kind="simd")

    b.loop(0, rows, fill, independent=True)
    b.loop(0, rows, lambda i: second(b, w, y, i), independent=True)
    fuse_last(b)
    shrink(b)
    return print_function(b.finish())


def test_a_row_is_passed_on() -> None:
    def second(b: Builder, w: Any, y: Any, i: Any) -> None:
        def reverse(j: Any) -> None:
            b.store(y, (i, j), b.load(w, i, b.op("sub", b.index(7), j)))

        b.loop(0, 8, reverse, kind="simd")

    text = two_loops(second)
    assert text.count("in 0..100") == 1
    assert "w0: f32[8]" in text


@pytest.mark.parametrize("extent", [8, None], ids=["static", "at_run_time"])
def test_arrays_that_nothing_reads_are_gone(extent: int | None) -> None:
    """And those that are left say where they stand among the others."""
    b = Builder("entry")
    size = extent or b.dim(0)
    x, y = b.argument(F32, (size,)), b.result(F32, (size,))
    dead, kept = b.buffer(F32, (size,)), b.buffer(F32, (size,))

    def fill(i: Any) -> None:
        b.store(dead, (i,), b.load(x, i))
        b.store(kept, (i,), b.load(x, i))

    b.loop(0, size, fill, kind="simd")
    last = b.op("sub", b.index(extent) if extent else size, b.index(1))
    b.loop(0, size, lambda i: b.store(y, (i,), b.load(kept, b.op("sub", last, i))), kind="simd")
    shrink(b)
    text = print_function(b.finish())
    assert dead.name not in text
    assert f"load {kept.name}" in text
    if extent is None:
        assert f"allocate {kept.name}[%dim0] else site {b.function.buffers.index(kept)}" in text


def test_an_element_is_passed_on_in_a_register() -> None:
    def second(b: Builder, w: Any, y: Any, i: Any) -> None:
        b.loop(0, 8, lambda j: b.store(y, (i, j), b.load(w, i, j)), kind="simd")

    text = two_loops(second)
    assert "load w0" not in text
    assert "store w0" not in text


@pytest.mark.parametrize("shift", [-1, 1])
def test_neighbouring_rows_are_not(shift: int) -> None:
    def second(b: Builder, w: Any, y: Any, i: Any) -> None:
        other = b.op("max", b.op("min", b.op("add", i, b.index(shift)), b.index(99)), b.index(0))
        b.loop(0, 8, lambda j: b.store(y, (i, j), b.load(w, other, j)), kind="simd")

    assert two_loops(second).count("in 0..100") == 2


def test_elements_beyond_the_row_are_not() -> None:
    def second(b: Builder, w: Any, y: Any, i: Any) -> None:
        def shifted(j: Any) -> None:
            place = b.op("add", b.op("mul", i, b.index(8)), b.op("add", j, b.index(1)))
            b.store(y, (i, j), b.load_at(w, b.op("min", place, b.index(799))))

        b.loop(0, 8, shifted, kind="simd")

    assert two_loops(second).count("in 0..100") == 2


def pull(x: Any, masses: Any) -> Any:
    """Sums over pairs of vectors with three components."""
    apart = x[None, :, :] - x[:, None, :]
    squared = (apart**2).sum(-1) + 0.01
    return (masses[None, :, None] * apart * squared[:, :, None] ** -1.5).sum(1)


@pytest.mark.parametrize("components", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("count", [33, 64, 130])
def test_sums_of_vectors(components: int, count: int) -> None:
    x, masses = array(count, components), abs(array(count))
    expected = np.asarray(cv.jit(pull, backend="reference")(x, masses))
    for disabled in ((), ("row_fusion",), ("threads",), ("half_powers",)):
        with config.override("disable", frozenset(disabled)):
            found = np.asarray(cv.jit(lambda x, m: pull(x, m))(x, masses))
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5 * scale)


def test_components_share_one_loop_and_no_array_of_pairs() -> None:
    x, masses = array(1024, 3), abs(array(1024))
    text = cv.jit(pull).lower(x, masses).as_text("loopir")
    assert text.count("in 0..1024 simd carry") == 1
    assert planned(pull, x, masses) < 1024 * 1024


def test_outer_loops_that_are_short_stay_whole() -> None:
    """Threads share them; only components inside of other loops are unrolled."""
    text = cv.jit(lambda x: cnp.exp(x).sum(1)).lower(array(3, 4000)).as_text("loopir")
    assert text.count("simd carry") == 1


def test_rows_that_are_few_and_contiguous_stay_a_loop() -> None:
    """Reading four rows at once is no faster; only fields of records are unrolled."""
    text = cv.jit(lambda x: cnp.exp(x).sum(-1)).lower(array(100, 4, 1000)).as_text("loopir")
    assert text.count("simd carry") == 1
    assert "yield %" in text
    assert len([w for w in text.splitlines() if "yield" in w and "," in w]) == 0
    fields = cv.jit(lambda x: cnp.exp(x).sum(1)).lower(array(100, 1000, 3)).as_text("loopir")
    assert [w.count(",") for w in fields.splitlines() if "yield" in w] == [2]
