"""Products and sums that may be rounded once become one operation, wherever they stand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from covector.loopir.builder import Builder
from covector.loopir.ir import For, Function, Value, walk
from covector.loopir.verifier import verify

F32, F64, I32 = (np.dtype(t) for t in ("f4", "f8", "i4"))
N = 8


def build(body: Any, dtype: np.dtype = F32) -> Function:
    """Stores `body(b, x, y, z)` of the elements of three arguments."""
    b = Builder("entry")
    x, y, z = (b.argument(dtype, (N,)) for _ in range(3))
    out = b.result(dtype, (N,))
    b.loop(0, N, lambda i: b.store(out, (i,), body(b, *(b.load(a, i) for a in (x, y, z)))))
    function = b.finish()
    verify(function)
    return function


def operations(function: Function) -> list[str]:
    items = walk(function.body)
    return [i.op for i in items if isinstance(i, Value) and i.op not in ("load", "index")]


def times(b: Builder, x: Any, y: Any) -> Any:
    return b.op("mul", x, y, attr="contract")


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_a_sum_takes_its_product_in(dtype):
    for body in (
        lambda b, x, y, z: b.op("add", times(b, x, y), z, attr="contract"),
        lambda b, x, y, z: b.op("add", z, times(b, x, y), attr="contract"),
        lambda b, x, y, z: b.op("add", times(b, x, y), 2.5, attr="contract"),
    ):
        assert operations(build(body, dtype)) == ["fma"]


def test_differences():
    assert operations(
        build(lambda b, x, y, z: b.op("sub", z, times(b, x, y), attr="contract"))
    ) == ["neg", "fma"]
    assert operations(
        build(lambda b, x, y, z: b.op("sub", times(b, x, y), z, attr="contract"))
    ) == ["neg", "fma"]


def test_of_two_products_the_later_one():
    function = build(
        lambda b, x, y, z: b.op("add", times(b, x, y), times(b, y, z), attr="contract")
    )
    assert operations(function) == ["mul", "fma"]
    fma = next(i for i in walk(function.body) if isinstance(i, Value) and i.op == "fma")
    assert fma.args[2].op == "mul"


def test_both_have_to_allow_it():
    for product, total in ((None, "contract"), ("contract", None), (None, None)):
        function = build(
            lambda b, x, y, z, p=product, t=total: b.op("add", b.op("mul", x, y, attr=p), z, attr=t)
        )
        assert operations(function) == ["mul", "add"]


def test_integers_are_left_alone():
    function = build(lambda b, x, y, z: b.op("add", b.op("mul", x, y), z), I32)
    assert operations(function) == ["mul", "add"]


def test_a_product_that_is_used_otherwise_stays():
    def body(b: Builder, x: Any, y: Any, z: Any) -> Any:
        product = times(b, x, y)
        return b.op("max", product, b.op("add", product, z, attr="contract"))

    assert operations(build(body)) == ["mul", "fma", "max"]


def test_a_product_that_a_loop_or_branch_gives_stays():
    def looped(b: Builder, x: Any, y: Any, z: Any) -> Any:
        product = times(b, x, y)
        b.op("add", product, z, attr="contract")
        return b.loop(0, 3, lambda k, c: [b.op("add", c, 1.0)], [product])[0]

    def branched(b: Builder, x: Any, y: Any, z: Any) -> Any:
        def then() -> list[Any]:
            product = times(b, x, y)
            b.op("add", product, z, attr="contract")
            return [product]

        return b.if_(b.op("lt", x, y), then, lambda: [z])[0]

    assert "mul" in operations(build(looped))
    assert "mul" in operations(build(branched))


def test_equal_sums_are_one():
    def body(b: Builder, x: Any, y: Any, z: Any) -> Any:
        first = b.op("add", times(b, x, y), z, attr="contract")
        assert b.op("add", times(b, x, y), z, attr="contract") is first
        return first

    assert operations(build(body)) == ["fma"]


def test_a_dot_product_is_a_chain():
    b = Builder("entry")
    x, y, out = b.argument(F32, (4,)), b.argument(F32, (4,)), b.result(F32, (1,))
    total = times(b, b.load(x, 0), b.load(y, 0))
    for k in range(1, 4):
        total = b.op("add", total, times(b, b.load(x, k), b.load(y, k)), attr="contract")
    b.store(out, (0,), total)
    function = b.finish()
    verify(function)
    assert operations(function) == ["mul", "fma", "fma", "fma"]
    assert not any(isinstance(i, For) for i in walk(function.body))
