"""The verifier finds what is wrong and shows where."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from covector.loopir.builder import Builder
from covector.loopir.ir import (
    HEAP,
    INDEX,
    WORKSPACE,
    Allocate,
    Buffer,
    Call,
    Callback,
    Check,
    For,
    Function,
    LoopIRError,
    Reload,
    SizeInBlock,
    Store,
    Value,
)
from covector.loopir.verifier import verify

F32, F64, BOOL = np.dtype("f4"), np.dtype("f8"), np.dtype("?")
EXTERNALS = {"sinf": (("f32",), "f32"), "cv_poll": (("ptr",), "i32")}


def build() -> tuple[Builder, Buffer, Buffer]:
    b = Builder("f")
    return b, b.argument(F32, (4,), "x"), b.result(F32, (4,), "y")


def value(op: str, args: tuple[Value, ...], dtype: np.dtype, attr: object = None) -> Value:
    return Value(op, args, attr, dtype, 999, 0)


def finish(b: Builder, *items: object) -> Function:
    function = b.finish()
    function.body.items += items
    return function


def undefined(b: Builder, x: Buffer, y: Buffer) -> Function:
    return finish(b, Store(y, b.index(0), value("neg", (b.load(x, 0),), F32)))


def escaped(b: Builder, x: Buffer, y: Buffer) -> Function:
    kept: list[Value] = []
    b.loop(0, 4, lambda i: kept.append(b.load(x, i)))
    return finish(b, Store(y, b.index(0), kept[0]))


def twice(b: Builder, x: Buffer, y: Buffer) -> Function:
    v = b.load(x, 0)
    return finish(b, v)


def wrong_type(b: Builder, x: Buffer, y: Buffer) -> Function:
    return finish(b, value("neg", (b.load(x, 0),), F64))


def wrong_operands(b: Builder, x: Buffer, y: Buffer) -> Function:
    return finish(b, value("and", (b.load(x, 0), b.load(x, 1)), F32))


def wrong_store(b: Builder, x: Buffer, y: Buffer) -> Function:
    return finish(b, Store(y, b.index(0), b.const(1.0, F64)))


def store_in_argument(b: Builder, x: Buffer, y: Buffer) -> Function:
    return finish(b, Store(x, b.index(0), b.const(1.0, F32)))


def beyond(b: Builder, x: Buffer, y: Buffer) -> Function:
    b.load_at(x, 4)
    return b.finish()


def negative(b: Builder, x: Buffer, y: Buffer) -> Function:
    b.store_at(y, -1, b.const(1.0, F32))
    return b.finish()


def stranger(b: Builder, x: Buffer, y: Buffer) -> Function:
    return finish(b, Store(Buffer("z", F32, (4,), WORKSPACE), b.index(0), b.const(1.0, F32)))


def carries(b: Builder, x: Buffer, y: Buffer) -> Function:
    b.loop(0, 4, lambda i, c: [b.op("add", c, b.load(x, i))], [b.const(0.0, F32)])
    loop = b.function.body.items[-1]
    assert isinstance(loop, For)
    loop.yields = [b.const(0.0, F64)]
    return b.finish()


def bad_check(b: Builder, x: Buffer, y: Buffer) -> Function:
    return finish(b, Check(b.load(x, 0), 0))


def bad_call(b: Builder, x: Buffer, y: Buffer) -> Function:
    b.pure_call("sinf", F32, b.const(1.0, F64))
    return b.finish()


def unknown_call(b: Builder, x: Buffer, y: Buffer) -> Function:
    b.pure_call("gets", F32, b.const(1.0, F32))
    return b.finish()


def status(b: Builder, x: Buffer, y: Buffer) -> Function:
    return finish(b, Call("sinf", [b.const(1.0, F32)], value("result", (), F32), True, None))


def callback(b: Builder, x: Buffer, y: Buffer) -> Function:
    return finish(b, Callback(0, [], [x]))


def allocation(b: Builder, x: Buffer, y: Buffer) -> Function:
    return finish(b, Allocate(Buffer("h", F32, (4,), HEAP), b.index(4), 0))


def run_time_workspace(b: Builder, x: Buffer, y: Buffer) -> Function:
    b.function.buffers.append(Buffer("w", F32, (b.dim(0),), WORKSPACE))
    return b.finish()


def same_names(b: Builder, x: Buffer, y: Buffer) -> Function:
    b.function.buffers.append(Buffer("x", F32, (4,), WORKSPACE))
    return b.finish()


def bad_reload(b: Builder, x: Buffer, y: Buffer) -> Function:
    return finish(b, Reload(value("neg", (), F64), y, 0))


def bad_step(b: Builder, x: Buffer, y: Buffer) -> Function:
    b.loop(0, 4, lambda i: b.store(y, (i,), b.load(x, i)))
    b.function.body.items[-1].step = 0
    return b.finish()


CASES: list[tuple[Callable[[Builder, Buffer, Buffer], Function], str]] = [
    (undefined, "used in a store where it is not visible"),
    (escaped, "used in a store where it is not visible"),
    (twice, "is defined twice"),
    (wrong_type, "should be f32"),
    (wrong_operands, "and does not take operands"),
    (wrong_store, "store of"),
    (store_in_argument, "store of"),
    (beyond, "offset 4 is outside <argument x> of 4 elements"),
    (negative, "offset -1 is outside"),
    (stranger, "does not belong to f"),
    (carries, "carries of different types"),
    (bad_check, "should be bool"),
    (bad_call, "sinf is .* called as"),
    (unknown_call, "gets is not on the list"),
    (status, "a status is an int32"),
    (callback, "writes to the read-only"),
    (allocation, "allocation of"),
    (run_time_workspace, "a run-time size needs the heap"),
    (same_names, "two buffers of one name"),
    (bad_reload, "reload of"),
    (bad_step, "loop with step 0"),
]


@pytest.mark.parametrize(("make", "text"), CASES, ids=[c[0].__name__ for c in CASES])
def test_faults_are_found(make, text):
    with pytest.raises(LoopIRError, match=text) as caught:
        verify(make(*build()), EXTERNALS)
    assert "function f" in str(caught.value), "the function is shown"


def test_valid_functions_pass():
    b, x, y = build()
    b.loop(0, 4, lambda i: b.store(y, (i,), b.pure_call("sinf", F32, b.load(x, i))))
    b.call("cv_poll", np.dtype("i4"), None, leaves=True)
    h = b.buffer(F32, (b.dim(0), 2))
    b.store(h, (0, 1), b.load(x, 0))
    function = b.finish()
    verify(function, EXTERNALS)
    assert all(e.dtype is INDEX for e in h.shape if isinstance(e, Value))


def test_arrays_of_branches_are_allocated_before_them():
    b, x, y = build()
    rows = b.dim(0)

    def side():
        twice = b.op("mul", rows, 2)  # known in the branch alone
        h = b.buffer(F32, (rows, 2))
        b.store(h, (0, 1), b.load(x, 0))
        b.store(y, (0,), b.convert(twice, F32))

    b.if_(b.op("lt", rows, 5), side, lambda: None)
    function = b.finish()
    verify(function, EXTERNALS)
    (allocation,) = [item for item in function.body.items if isinstance(item, Allocate)]
    assert allocation.count.depth == 0

    def made_inside():
        b.buffer(F32, (b.op("max", rows, b.dim(1)), 3))

    with pytest.raises(SizeInBlock, match="depends on a loop or branch"):
        b.if_(b.op("lt", rows, 5), made_inside, lambda: None)
