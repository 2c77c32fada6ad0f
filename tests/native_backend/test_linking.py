"""The linker: several object files as one block of code."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest

from covector.backends.native import engine, loading
from covector.backends.native.compiled import Machine
from covector.backends.native.linking import Unlinkable, link
from covector.core.errors import CompilationError

CALLER = """
declare hidden double @piece(double)
declare double @sin(double)
define double @entry(double %x) {
  %1 = call double @piece(double %x)
  %2 = call double @sin(double %x)
  %3 = fmul double %1, 1.234567
  %4 = fadd double %3, %2
  ret double %4
}
"""
PIECE = """
declare double @sin(double)
declare double @cos(double)
@.const = private unnamed_addr constant [3 x double] [double 1.5, double 2.5, double 3.5]
define hidden double @piece(double %x) {
  %1 = call double @cos(double %x)
  %2 = call double @sin(double %x)
  %3 = fmul double %1, 7.654321
  %4 = fptosi double %x to i64
  %5 = getelementptr [3 x double], ptr @.const, i64 0, i64 %4
  %6 = load double, ptr %5
  %7 = fadd double %3, %6
  %8 = fadd double %7, %2
  ret double %8
}
"""
ADDRESSES = """
@.const = private unnamed_addr constant [3 x double] [double 10.5, double 20.5, double 30.5]
define {visibility} ptr @{name}() {{
  ret ptr @{other}
}}
declare {other_visibility} ptr @{other}()
"""


def objects(*texts: str) -> list[bytes]:
    return [engine.get_engine().object_code(text, 2) for text in texts]


def loaded(linked, symbol, *shared):
    return loading.load(Machine(symbol, linked, b"", (), shared), "native")


def test_calls_go_from_one_object_to_the_other():
    linked = link(*objects(CALLER, PIECE))
    assert set(linked.symbols) == {"entry"}
    assert sorted(name for _, name in linked.addresses) == ["cos", "sin"]
    code = loaded(linked, "entry")
    entry = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(code.address)
    for x, number in ((0.3, 1.5), (1.3, 2.5), (2.3, 3.5)):
        piece = math.cos(x) * 7.654321 + number + math.sin(x)
        assert entry(x) == pytest.approx(piece * 1.234567 + math.sin(x), rel=1e-14)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_order_of_objects_does_not_matter(order):
    files = objects(CALLER, PIECE)
    code = loaded(link(*[files[k] for k in order]), "entry")
    entry = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(code.address)
    assert entry(0.0) == pytest.approx((7.654321 + 1.5) * 1.234567, rel=1e-14)


@pytest.mark.parametrize("visibility", ["", "hidden"])
def test_addresses_of_functions_in_the_other_object(visibility):
    texts = [
        ADDRESSES.format(
            name=name,
            other=other,
            visibility=visibility if own else "",
            other_visibility=visibility,
        )
        for name, other, own in (("entry", "piece", False), ("piece", "entry", True))
    ]
    texts[1] = texts[1].replace(f"declare {visibility} ptr @entry", "declare ptr @entry")
    linked = link(*objects(*texts))
    code = loaded(linked, "entry")
    start = code.start
    get = ctypes.CFUNCTYPE(ctypes.c_void_p)
    piece = get(code.address)()
    assert start < piece < start + code.size
    assert get(piece)() == code.address
    assert ("piece" in linked.symbols) == (visibility == "")


def test_one_object_is_linked_as_before():
    text = CALLER.replace("declare hidden double @piece(double)", "") + PIECE.replace(
        "declare double @sin(double)", ""
    )
    one, two = link(*objects(text)), link(*objects(CALLER, PIECE))
    assert one.symbols.keys() == two.symbols.keys()
    results = []
    for linked in (one, two):
        code = loaded(linked, "entry")
        entry = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(code.address)
        results.append([entry(x) for x in np.linspace(0, 2.9, 30)])
    assert results[0] == results[1]


def test_a_function_that_no_object_has():
    linked = link(*objects(CALLER))
    with pytest.raises(CompilationError, match="not on the list: piece"):
        loaded(linked, "entry")


def test_what_cannot_be_linked():
    files = objects(CALLER, PIECE)
    with pytest.raises(Unlinkable, match="piece is defined twice"):
        link(*files, files[1])
    with pytest.raises(Unlinkable, match="not a 64-bit"):
        link(files[0], b"MZ")
