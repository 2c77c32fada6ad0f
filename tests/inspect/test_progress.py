"""Loops with bars compute what loops without compute, and leave nothing behind when they fail."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.inspect import meter, progress

XS = np.linspace(0.1, 1.0, 103, dtype=np.float32)
TRANSFORMS = {
    "plain": lambda f: f,
    "jit": cv.jit,
    "vmap": lambda f: lambda x: cv.vmap(f)(cnp.stack([x, 0.5 * x])),
    "jit vmap": lambda f: lambda x: cv.jit(cv.vmap(f))(cnp.stack([x, 0.5 * x])),
    "grad": lambda f: cv.grad(lambda x: f(x).sum()),
    "jit grad": lambda f: cv.jit(cv.grad(lambda x: f(x).sum())),
    "vmap grad": lambda f: lambda x: cv.vmap(cv.grad(lambda v: f(v).sum()))(cnp.stack([x, -x])),
    "jvp": lambda f: lambda x: cv.jvp(f, (x,), (x,))[1],
    "checkpoint": lambda f: cv.grad(lambda x: cv.checkpoint(f)(x).sum()),
    "hessian": lambda f: lambda x: cv.hessian(lambda v: f(v).sum())(x[:3]),
}


def scanned(wrap: Any, **options: Any) -> Any:
    def step(carry: Any, x: Any) -> Any:
        carry = cnp.sin(carry) + x
        return carry, carry * x

    def f(x: Any) -> Any:
        last, ys = wrap(lax.scan)(step, x.sum() * 0.0, x, **options)
        return last + ys

    return f


def nested(wrap: Any) -> Any:
    def f(x: Any) -> Any:
        def outer(i: Any, y: Any) -> Any:
            return wrap(lax.fori_loop)(0, 7, lambda j, v: 0.9 * v + 0.01 * i * j, y)

        return wrap(lax.fori_loop)(2, 39, outer, x)

    return f


def whiled(wrap: Any) -> Any:
    def f(x: Any) -> Any:
        def step(state: Any) -> Any:
            k, y = state
            return k + 1, cnp.cos(y)

        return wrap(lax.while_loop)(lambda s: (s[0] < 30) & (s[1].sum() > -9.0), step, (0, x))[1]

    return f


def bounded(wrap: Any) -> Any:
    def f(x: Any) -> Any:
        upper = cnp.asarray(x.size)  # an array: it could be traced
        return wrap(lax.fori_loop)(3, upper, lambda i, y: cnp.sin(y) + 0.1 * x, x)

    return f


LOOPS = {
    "scan": scanned,
    "reverse": lambda wrap: scanned(wrap, reverse=True),
    "fori": nested,
    "while": whiled,
    "map": lambda wrap: lambda x: wrap(lax.map)(cnp.sin, x),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("loop", LOOPS)
def test_loops_compute_the_same(loop: str, transform: str) -> None:
    found = TRANSFORMS[transform](LOOPS[loop](lambda inner: progress(inner, every=5)))(XS)
    wanted = TRANSFORMS[transform](LOOPS[loop](lambda inner: inner))(XS)
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("transform", ["plain", "jit", "jit vmap", "grad"])
def test_loops_with_bounds_that_are_not_known(transform: str) -> None:
    found = TRANSFORMS[transform](bounded(progress))(XS)
    wanted = TRANSFORMS[transform](bounded(lambda inner: inner))(XS)
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("length", [0, 1, 5, 97])
def test_lengths(length: int) -> None:
    carry, ys = progress(lax.scan)(lambda c, x: (c + x, (c, x)), 0.0, XS[:length])
    expected, outs = lax.scan(lambda c, x: (c + x, (c, x)), 0.0, XS[:length])
    np.testing.assert_allclose(carry, expected, rtol=1e-6)
    np.testing.assert_allclose(ys[0], outs[0], rtol=1e-6)
    counted = progress(lax.fori_loop)(4, 4 + length, lambda i, n: n + i, 0)
    assert int(counted) == sum(range(4, 4 + length))
    assert progress(lax.scan)(lambda c, _: (c + 1, None), 0, None, length)[0] == length


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is written to a terminal, by loops that are shown at once."""
    written = io.StringIO()
    original = meter._bars

    def bars() -> Any:
        made = original()
        made.live.console = Console(file=written, force_terminal=True, width=100)
        return made

    monkeypatch.setattr(meter, "_bars", bars)
    monkeypatch.setattr(meter, "_PATIENCE", 0)
    monkeypatch.setattr(meter, "_INTERVAL", 0)
    yield written
    assert meter._display.bars is None
    assert not meter._display.running


BACKENDS = ("native", "reference")


@pytest.mark.parametrize("backend", BACKENDS)
def test_bars(screen: io.StringIO, backend: str) -> None:
    f = cv.jit(
        lambda x: progress(lax.fori_loop, name="steps", every=10)(0, 100, lambda i, y: y + x, x),
        backend=backend,
    )
    assert float(f(1.0)) == 101.0
    text = screen.getvalue()
    assert "steps" in text
    assert all(f"{count}/100" in text for count in range(0, 101, 10))
    assert text.rstrip("\x1b[?25h\n ").count("100/100") >= 1


def test_bars_of_nested_and_batched_loops(screen: io.StringIO) -> None:
    def f(x: Any) -> Any:
        def outer(i: Any, y: Any) -> Any:
            return progress(lax.fori_loop, name="inner", every=2)(0, 4, lambda j, v: v + x, y)

        return progress(lax.fori_loop, name="outer", every=1)(0, 3, outer, x)

    cv.jit(cv.vmap(f))(XS)
    text = screen.getvalue()
    assert text.count("outer") > 3
    assert "2/3" in text
    assert "2/4" in text
    assert f"{XS.size}/" not in text  # not one for each lane


def test_total_of_while_is_not_known(screen: io.StringIO) -> None:
    f = cv.jit(lambda n: progress(lax.while_loop)(lambda k: k < n, lambda k: k + 1, 0))
    assert int(f(1000)) == 1000
    assert "511/?" in screen.getvalue()
    assert "1000/1000" in screen.getvalue()


def _fails(x: Any) -> Any:
    if float(x) > 40:
        raise RuntimeError("too far")
    return np.float32(x)


@pytest.mark.parametrize("how", ["jit", "eager", "reference", "python"])
def test_nothing_stays_after_an_exception(screen: io.StringIO, how: str) -> None:
    def step(i: Any, y: Any) -> Any:
        return cv.pure_callback(_fails, cv.typeof(y), y) + 1.0

    def f(x: Any) -> Any:
        return progress(lax.fori_loop, every=5)(0, 100, step, x)

    run = {"jit": cv.jit(f), "reference": cv.jit(f, backend="reference")}.get(how, f)
    with cv.disable_jit(how == "python"):
        for _ in range(2):
            with pytest.raises(Exception, match="too far"):
                run(cnp.float32(1.0))
            assert meter._display.bars is None
            assert not meter._display.running
        assert float(run(cnp.float32(-90.0))) == 10.0
    # The last thing done to the failed bar is to erase its line.
    assert "\x1b[2K" in screen.getvalue()
    assert screen.getvalue().count("100/100") >= 1


def test_nothing_stays_after_ctrl_c(screen: io.StringIO) -> None:
    f = cv.jit(
        lambda x: progress(lax.while_loop)(lambda y: y < 1e30, lambda y: y * 0.5 + 0.1, x)
    )  # without end
    f.lower(1.0).compile()
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        f(1.0)
    assert meter._display.bars is None
    g = cv.jit(lambda x: progress(lax.fori_loop, every=1)(0, 4, lambda i, y: y + 1.0, x))
    assert float(g(0.0)) == 4.0


def test_short_loops_show_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    f = cv.jit(lambda x: progress(lax.fori_loop)(0, 1000, lambda i, y: y + 1.0, x))
    for _ in range(3):
        f(1.0)
    assert capfd.readouterr() == ("", "")
    assert not meter._display.running


def test_long_loops_leave_one_line_where_there_is_no_terminal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def slow(i: Any, y: Any) -> Any:
        cv.debug.callback(lambda: time.sleep(0.01))
        return y + 1.0

    cv.jit(lambda x: progress(lax.fori_loop, name="slow", every=1)(0, 50, slow, x))(1.0)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "slow" in err
    assert "50/50" in err


def test_other_functions_are_refused() -> None:
    with pytest.raises(TypeError, match="takes lax"):
        progress(cnp.sin)
    with pytest.raises(ValueError, match="number of steps"):
        progress(lax.scan, every=0)
    with pytest.raises(ValueError, match="batch_size"):
        progress(lax.map)(cnp.sin, XS, batch_size=2)
