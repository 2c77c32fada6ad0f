"""Loops split where conditions on their index change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.core.config import config
from covector.loopir.builder import Builder
from covector.loopir.printer import print_function
from covector.loopir.ranges import split_last

F32 = np.dtype(np.float32)


def loop_ir(fn: Callable[..., Any], *args: Any) -> str:
    return cv.jit(fn).lower(*args).as_text("loopir")


def both(fn: Callable[..., Any], *args: Any) -> Any:
    """The result, bit for bit the same with loops left whole."""
    split = cv.jit(lambda *a: fn(*a))(*args)
    with config.override("disable", frozenset({"ranges"})):
        whole = cv.jit(lambda *a: fn(*a))(*args)
    np.testing.assert_array_equal(np.asarray(split), np.asarray(whole))
    return np.asarray(split)


def array(*shape: int, dtype: Any = np.float32) -> Any:
    values = np.random.default_rng(sum(shape)).standard_normal(shape) * 10
    return cnp.asarray(values.astype(dtype))


@pytest.mark.parametrize("n", [1, 2, 31, 64, 65, 100, 130, 1000, 1023])
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.complex64, np.float16])
def test_neighbours(n: int, dtype: Any) -> None:
    x = array(n, dtype=dtype)

    def fn(x: Any) -> Any:
        p = cnp.pad(x, (2, 3))
        return p[:-5] + p[1:-4] + p[5:] + cnp.roll(x, 1) - cnp.roll(x[::-1], -3)

    p, y = np.pad(np.asarray(x), (2, 3)), np.asarray(x)
    expected = p[:-5] + p[1:-4] + p[5:] + np.roll(y, 1) - np.roll(y[::-1], -3)
    np.testing.assert_allclose(both(fn, x), expected, rtol=1e-2 if dtype is np.float16 else 1e-6)


@pytest.mark.parametrize("shape", [(70, 90), (64, 3), (3, 200), (5, 70, 40)])
def test_neighbours_along_every_axis(shape: tuple[int, ...]) -> None:
    x = array(*shape)

    def fn(xp: Any, x: Any) -> Any:
        total = x * 0
        for axis in range(x.ndim):
            total = total + xp.roll(x, 2, axis) * 3 + xp.roll(x, -1, axis)
            ends = [(1, 0) if a == axis else (0, 0) for a in range(x.ndim)]
            total = total - xp.pad(x, ends)[tuple(slice(0, n) for n in x.shape)]
        return total

    expected = fn(np, np.asarray(x))
    np.testing.assert_allclose(both(lambda x: fn(cnp, x), x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sizes", [(40, 50), (1, 99), (99, 1), (50, 1, 49), (33, 33, 34)])
def test_joined_arrays(sizes: tuple[int, ...]) -> None:
    parts = [array(100, n) for n in sizes]

    def fn(xp: Any, *parts: Any) -> Any:
        whole = xp.concatenate(parts, 1)
        return whole * 2 + whole[:, ::-1]

    found = both(lambda *p: fn(cnp, *p), *parts)
    np.testing.assert_array_equal(found, fn(np, *[np.asarray(p) for p in parts]))
    total = np.asarray(cv.jit(lambda *p: cnp.concatenate(p, 1).sum(1))(*parts))
    expected = np.concatenate([np.asarray(p) for p in parts], 1).sum(1)
    np.testing.assert_allclose(total, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("low", [0, 1, 5])
@pytest.mark.parametrize("high", [95, 99, 100])
def test_windows(low: int, high: int) -> None:
    x = array(100, 80)

    def fn(x: Any) -> Any:
        return x.at[low:high, 1:-1].set(x[100 - high : 100 - low, 2:] * 2)[::-1]

    expected = np.array(np.asarray(x))
    expected[low:high, 1:-1] = np.asarray(x)[100 - high : 100 - low, 2:] * 2
    np.testing.assert_array_equal(both(fn, x), expected[::-1])


def test_no_choice_is_left_where_it_matters() -> None:
    def fn(x: Any) -> Any:
        return x + cnp.pad(x[1:-1] * x[2:], 1) + cnp.roll(x, 1)

    x = array(1000)
    assert "select" not in loop_ir(fn, x)
    with config.override("disable", frozenset({"ranges"})):
        assert "select" in loop_ir(lambda x: fn(x), x)


def test_a_stencil_stores_nothing_in_between() -> None:
    def step(u: Any) -> Any:
        p = cnp.pad(u, 1)
        return u + 0.1 * (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u)

    u = array(300, 300)
    fn = cv.jit(lambda u: lax.fori_loop(0, 3, lambda i, u: step(u), u))
    assert fn.lower(u).compile().cost_analysis()["workspace_bytes"] <= 2 * 4 * 300 * 300 + 8192


def built(upper: int, body: Callable[[Builder, Any, Any, Any], None]) -> str:
    """The text of a loop with a body that reads `x` and writes `y`, after splitting."""
    b = Builder("f")
    x, y = b.argument(F32, (upper + 8,)), b.result(F32, (upper,))
    b.loop(0, upper, lambda i: body(b, x, y, i))
    split_last(b)
    return print_function(b.finish())


COMPARISONS = {"lt": 50, "le": 51, "gt": 51, "ge": 50, "min": 51, "max": 50}


@pytest.mark.parametrize("op", COMPARISONS)
@pytest.mark.parametrize("mirrored", [False, True])
def test_each_piece_has_a_constant_condition(op: str, mirrored: bool) -> None:
    def body(b: Builder, x: Any, y: Any, i: Any) -> None:
        at = b.op("sub", b.index(99), i) if mirrored else i
        value = b.op(op, at, b.index(50))
        if op in ("min", "max"):
            b.store(y, (i,), b.load(x, value))
        else:
            b.store(y, (i,), b.op("select", value, b.load(x, i), 0.0))

    text = built(100, body)
    assert text.count("for ") == 2
    assert f" {op} " not in text
    assert "select" not in text


@pytest.mark.parametrize("upper", [20, 63])
def test_short_loops_stay_whole(upper: int) -> None:
    def body(b: Builder, x: Any, y: Any, i: Any) -> None:
        b.store(y, (i,), b.op("select", b.op("ge", i, b.index(3)), b.load(x, i), 0.0))

    assert built(upper, body).count("for ") == 1


def test_conditions_on_what_is_loaded_do_not_matter() -> None:
    def body(b: Builder, x: Any, y: Any, i: Any) -> None:
        b.store(y, (i,), b.op("max", b.load(x, i), b.const(3.0, F32)))

    assert built(1000, body).count("for ") == 1
