"""The engine: processors, efforts, errors, lifetimes, threads, and the text it compiles."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from covector.backends.native import emit, engine, loading
from covector.backends.native.emit_ops import Target
from covector.backends.native.emit_vectors import Emitter
from covector.core.config import config
from covector.core.errors import CompilationError
from covector.loopir.builder import Builder
from covector.loopir.ir import SIMD

F32, F64 = np.dtype("f4"), np.dtype("f8")


def formula(n: int = 40):
    """sin(x) * 2 + 1"""
    b = Builder("entry")
    x, y = b.argument(F32, (n,), "x"), b.result(F32, (n,), "y")

    def body(i):
        b.store(y, (i,), b.op("add", b.op("mul", b.op("sin", b.load(x, i)), 2.0), 1.0))

    b.loop(0, n, body)
    return b.finish()


def scan(n: int = 9):
    b = Builder("entry")
    x, y = b.argument(F64, (n,), "x"), b.result(F64, (n,), "y")

    def body(i, total):
        total = b.op("add", total, b.load(x, i))
        b.store(y, (i,), total)
        return [total]

    b.loop(0, n, body, [b.const(0.0, F64)])
    return b.finish()


@pytest.mark.parametrize(
    ("effort", "disable", "expected"),
    [(2, "", ["true", "false"]), (3, "", []), (2, "fewer_passes", [])],
)
def test_passes_are_left_out_and_put_back(monkeypatch, effort, disable, expected):
    """Others in this process, Numba say, find LLVM as they know it."""
    seen = []
    switch = engine._switch

    def recorded(llvm, value):
        seen.append(value)
        switch(llvm, value)

    monkeypatch.setattr(engine, "_switch", recorded)
    with config.override("disable", disable):
        engine.compile_function(scan(), effort)
    assert seen == expected


def test_passes_left_out_change_no_bit(compiled):
    x = np.linspace(-400, 40, 1000, dtype=np.float32)
    few = compiled(formula(1000))(x)[0]
    with config.override("disable", "fewer_passes"):
        every = compiled(formula(1000))(x)[0]
    np.testing.assert_array_equal(few, every)


def test_what_a_function_was_emitted_with_goes_at_once():
    """Without the garbage collector, which would have to look at all of it."""
    target = Target(256, fma=True, half=True, masks=False)
    gc.collect()
    gc.disable()
    try:
        emit.emit(formula(), target)
        left = [o for o in gc.get_objects() if isinstance(o, Emitter)]
    finally:
        gc.enable()
    assert not left


def test_few_steps_are_all_of_as_many_lanes(compiled):
    """The body once, where whole registers would leave a last step of other lanes."""
    wide = Target(512, fma=True, half=True, masks=True)
    text = emit.emit(formula(40), wide).text
    assert "<8 x float>" in text
    assert "<16 x float>" not in text
    assert "<8 x float>" not in emit.emit(formula(80), wide).text
    with config.override("disable", "even_steps"):
        assert "<16 x float>" in emit.emit(formula(40), wide).text
        x = np.linspace(-4, 4, 40, dtype=np.float32)
        expected = compiled(formula(40))(x)[0]
    np.testing.assert_array_equal(compiled(formula(40))(x)[0], expected)


@pytest.mark.parametrize("effort", [0, 1, 2, 3])
def test_efforts_agree(effort, compiled):
    x = np.linspace(-4, 4, 40, dtype=np.float32)
    found = compiled(formula(), effort=effort)(x)[0]
    np.testing.assert_allclose(found, np.sin(x) * 2 + 1, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(compiled(scan(), effort)(np.arange(9))[0], np.arange(9).cumsum())


def test_code_object(compiled):
    code = compiled(formula()).code
    assert code.address
    assert code.object_code[:4] == b"\x7fELF"
    assert "define i32 @entry" in code.llvm_text
    assert "entry:" in code.assembly()
    assert "entry" in repr(code)


def test_processor_of_the_setting(compiled):
    with config.override("cpu", "x86-64-v2"):
        code = compiled(formula()).code
    assert code.cpu == "x86-64-v2"
    assert "<4 x float>" in code.llvm_text
    assert "ymm" not in code.assembly()
    with pytest.raises(CompilationError, match=r"'pentium' .* is not supported"):
        engine.compile_function(formula(), cpu="pentium")
    with pytest.raises(ValueError, match="setting cpu='pentium': expected one of native"):
        config.override("cpu", "pentium")


def test_invalid_text_is_reported():
    module = emit.Module("entry", ["define i32 @entry() { ret i64 0 }"])
    with pytest.raises(CompilationError, match="LLVM rejects"):
        engine.get_engine().compile(module, 2)


def test_missing_symbols_are_reported():
    text = "define i32 @entry() {\n %1 = call i32 @nowhere()\n ret i32 %1\n}"
    module = emit.Module("entry", [text], {"nowhere": "declare i32 @nowhere()"})
    with pytest.raises(CompilationError, match="nowhere"):
        engine.get_engine().compile(module, 2)


def test_code_lives_as_long_as_its_object(compiled):
    x = np.linspace(-1, 1, 40, dtype=np.float32)
    keep = compiled(formula())
    for _ in range(5):
        compiled(scan())
        gc.collect()
    np.testing.assert_allclose(keep(x)[0], np.sin(x) * 2 + 1, rtol=1e-6)


def test_threads_compile_at_once(compiled):
    x = np.linspace(-1, 1, 40, dtype=np.float32)
    results: list[np.ndarray] = []

    def work() -> None:
        results.append(compiled(formula())(x)[0])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for found in results:
        np.testing.assert_array_equal(found, results[0])


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("avx2", Target(256, fma=True, half=True, masks=False)),
        ("avx512", Target(512, fma=True, half=True, masks=True)),
    ],
)
def test_golden(name, target, golden):
    """A loop in lanes with a rest, a reduction, and a scalar loop with a carry."""
    b = Builder("entry")
    n = b.dim(0)
    x, y = b.argument(F32, (n,), "x"), b.result(F32, (n,), "y")
    z = b.result(F32, (), "z")
    b.loop(0, n, lambda i: b.store(y, (i,), b.op("max", b.load(x, i), 0.0)))
    (total,) = b.loop(
        0, 100, lambda i, t: [b.op("add", t, b.load(y, i))], [b.const(0.0, F32)], kind=SIMD, width=8
    )
    b.store(z, (), total)
    golden.check(f"{name}.ll", emit.emit(b.finish(), target).text)
    golden.check("scan.ll", emit.emit(scan(), target).text)


def test_long_functions_are_compiled_once(compiled):
    """What hard arguments need is not part of every module."""

    def wave(scale):
        b = Builder("entry")
        x, y = b.argument(F32, (16,)), b.result(F32, (16,))
        b.loop(0, 16, lambda i: b.store(y, (i,), b.op("sin", b.op("mul", b.load(x, i), scale))))
        return compiled(b.finish())

    first = wave(1.0)
    known = dict(loading._loaded)
    second = wave(2.0)
    assert loading._loaded == known
    x = np.linspace(-1e6, 1e6, 16).astype(np.float32)
    for scale, run in ((1, first), (2, second)):
        text = run.code.llvm_text
        assert "declare" in text
        assert not any(
            line.startswith("define") and "sin_large" in line for line in text.split("\n")
        )
        wanted = np.sin(scale * x.astype(np.float64))
        np.testing.assert_allclose(run(x)[0], wanted, rtol=1e-6, atol=1e-7)
