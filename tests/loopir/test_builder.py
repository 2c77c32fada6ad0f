"""What the builder merges, folds, hoists and refuses."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covector.loopir.builder import Builder
from covector.loopir.ir import ComplexValue, If, LoopIRError, Store, walk
from covector.loopir.printer import print_function
from covector.loopir.scalars import COMPLEX, FLOATS, INTEGERS, RANGE, TABLE
from covector.loopir.storage import MAX_HOISTED
from covector.loopir.verifier import verify

F32, F64, I32, I64, BOOL = (np.dtype(t) for t in ("f4", "f8", "i4", "i8", "?"))
BF16, C64 = np.dtype(ml_dtypes.bfloat16), np.dtype(np.complex64)


@pytest.fixture
def b() -> Builder:
    return Builder("test")


def lines(b: Builder) -> list[str]:
    return print_function(b.finish()).splitlines()


def test_equal_operations_are_one_value(b):
    x, y = b.parameter(F32), b.parameter(F32)
    assert b.op("add", x, y) is b.op("add", y, x)
    assert b.op("sub", x, y) is not b.op("sub", y, x)
    assert b.op("add", x, y, attr="contract") is not b.op("add", x, y)
    assert b.const(1, F32) is b.const(1.0, F32)
    assert b.const(0.0, F32) is not b.const(-0.0, F32)
    assert b.const(1, I32) is not b.const(1, I64)
    assert b.index(3) is b.const(3, I64)


def test_values_are_forgotten_at_the_end_of_their_scope(b):
    p = b.parameter(BOOL)
    x = b.parameter(F32)
    made = []

    def side():
        made.append(b.op("sqrt", x))
        return [made[-1]]

    b.if_(p, side, lambda: [b.op("neg", b.op("sqrt", x))])
    assert made[0] is not b.op("sqrt", x)
    assert b.recall("key") is None
    b.remember("key", 1)
    b.loop(0, 4, lambda i: b.remember("inner", b.recall("key")))
    assert b.recall("key") == 1
    assert b.recall("inner") is None


def test_operations_move_out_of_loops_but_not_out_of_branches(b):
    x, p = b.parameter(F32), b.parameter(BOOL)
    y = b.result(F32, (4, 4))

    def row(i):
        def cell(j):
            b.store(y, (i, j), b.op("mul", b.op("sqrt", x), b.convert(i, F32)))

        b.loop(0, 4, cell)
        b.if_(p, lambda: b.store(y, (i, 0), b.op("exp", x)), lambda: None)

    b.loop(0, 4, row)
    items = b.function.body.items
    assert [i.op for i in items if hasattr(i, "op")] == ["sqrt"]
    outer = items[-1]
    names = [getattr(i, "op", type(i).__name__) for i in outer.body.items]
    assert names == ["convert", "mul", "mul", "For", "If"]
    branch = next(i for i in walk(outer.body) if isinstance(i, If))
    assert branch.then.items[0].op == "exp"


def test_loads_are_merged_between_stores(b):
    x, y = b.argument(F32, (4,)), b.result(F32, (4,))
    first = b.load(x, 1)
    b.store(y, (0,), first)
    assert b.load(y, 0) is first, "what was stored is known"
    second = b.load(y, 1)
    assert b.load(y, 1) is second
    b.store(y, (2,), first)
    assert b.load(y, 1) is not second, "the store may have changed it"
    assert b.load(x, 1) is first, "nobody writes to arguments"
    b.callback(0, [x], [y])
    assert b.load(y, 0) is not first


def test_loads_of_written_buffers_stay_in_loops(b):
    y = b.result(F32, (8,))
    b.store(y, (0,), b.const(1.0, F32))
    before = b.load(y, 0)
    b.loop(1, 8, lambda i: b.store(y, (0,), b.op("add", b.load(y, 0), 1.0)))
    inside = [i for i in walk(b.function.body.items[-1].body) if getattr(i, "op", "") == "load"]
    assert len(inside) == 1
    assert inside[0] is not before


def test_loads_from_arguments_move_out_of_loops_if_in_bounds(b):
    x, y = b.argument(F32, (8, 64)), b.result(F32, (64,))
    k = b.load(b.argument(I64, ()))

    def body(i):
        total = b.op("add", b.load(x, 3, 2), b.load_at(x, k))
        for j in range(64):
            total = b.op("add", total, b.load(x, 1, j))
        b.store(y, (i,), total)

    b.loop(0, 64, body)
    outside = [v for v in b.function.body.items if getattr(v, "op", "") == "load"]
    assert len(outside) == MAX_HOISTED + 1
    inside = [v for v in b.function.body.items[-1].body.items if getattr(v, "op", "") == "load"]
    assert any(v.args[0] is k for v in inside), "who knows what is there"


def test_constant_loops_and_branches_disappear(b):
    y = b.result(F32, (4,))
    b.loop(2, 2, lambda i: b.store(y, (i,), b.const(0.0, F32)))
    b.loop(1, 2, lambda i: b.store(y, (i,), b.const(0.0, F32)))
    (v,) = b.if_(b.const(True, BOOL), lambda: [b.const(1.0, F32)], lambda: [b.const(2.0, F32)])
    assert v.attr == 1.0
    assert [type(i) for i in b.function.body.items] == [Store]
    assert b.loop(3, 1, lambda i, c: [c], [v]) == [v]


def test_index_arithmetic_folds(b):
    x, y = b.argument(F32, (6, 10)), b.result(F32, (60,))

    def body(k):
        assert b.op("index_div", k, 60).attr == 0
        assert b.op("index_rem", k, 60) is k
        assert b.op("lt", k, 60).attr is True
        assert b.op("ge", k, 0).attr is True
        assert b.op("min", k, 59) is k
        assert b.op("max", k, 0) is k
        assert b.op("add", b.op("add", k, 2), 3) is b.op("add", k, 5)
        assert b.op("sub", b.op("add", k, 2), b.op("add", k, 2)).attr == 0
        assert b.op("sub", b.op("add", k, 2), 2) is k
        assert b.op("mul", b.op("mul", k, 2), 3) is b.op("mul", k, 6)
        i, j = b.op("index_div", k, 10), b.op("index_rem", k, 10)
        assert b.bounds(i) == (0, 5)
        assert b.bounds(j) == (0, 9)
        flat = b.op("add", b.op("mul", i, 10), j)
        assert b.op("index_div", flat, 10) is i
        assert b.op("index_rem", flat, 10) is j
        b.store(y, (k,), b.load(x, i, j))

    b.loop(0, 60, body)
    verify(b.finish())


def test_nested_indices_divide(b):
    def outer(i):
        def inner(j):
            flat = b.op("add", b.op("mul", i, 12), b.op("add", j, 1))
            assert b.op("index_div", flat, 12) is i
            assert b.op("index_rem", flat, 12) is b.op("add", j, 1)
            assert b.op("index_div", b.op("index_div", i, 2), 3) is b.op("index_div", i, 6)

        b.loop(0, 11, inner)

    b.loop(0, 50, outer)


def test_a_place_and_its_rest_are_one_again(b):
    """Whatever else is added: the offset of a slot, say, in which a loop keeps its carry."""

    def body(k):
        slot = b.op("mul", b.op("and", k, 1), 64)
        other = b.op("mul", b.op("and", k, 2), 48)
        for scale in (1, 4):
            whole = b.op("mul", b.op("index_div", k, 10), 10 * scale)
            rest = b.op("mul", b.op("index_rem", k, 10), scale)
            for apart in ([slot], [slot, other], []):
                total, wanted = whole, b.op("mul", k, scale)
                for more in apart:
                    total, wanted = b.op("add", more, total), b.op("add", more, wanted)
                total = b.op("add", rest, total)
                assert "index_rem" not in _operations(total)
                for i in range(60):
                    assert _evaluate(total, k, i) == _evaluate(wanted, k, i)

    b.loop(0, 60, body)


def _operations(value):
    return {value.op}.union(*[_operations(a) for a in value.args])


def _evaluate(value, k, i):
    if value is k:
        return i
    if value.op == "const":
        return value.attr
    args = [_evaluate(a, k, i) for a in value.args]
    return {"add": sum, "mul": math.prod, "and": lambda a: a[0] & a[1]}[value.op](args)


def test_neighbours_share_their_address(b):
    x = b.argument(F32, (10, 10))

    def body(i):
        here, there = b.load(x, i, 3), b.load(x, b.op("add", i, 1), 2)
        assert here.args[0].args[0] is there.args[0].args[0]
        assert there.args[0].args[1].attr == 12

    b.loop(0, 9, body)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_floats_fold_only_where_bits_agree(dtype, b):
    x = b.parameter(dtype)
    assert b.op("add", x, -0.0) is x
    assert b.op("add", x, 0.0) is not x
    assert b.op("sub", x, 0.0) is x
    assert b.op("mul", x, 1.0) is x
    assert b.op("mul", x, 0.0).op == "mul"
    assert b.op("mul", x, -1.0) is b.op("neg", x)
    assert b.op("div", x, 4.0) is b.op("mul", x, 0.25)
    assert b.op("div", x, 3.0).op == "div"
    assert b.op("neg", b.op("neg", x)) is x
    assert b.op("sub", x, x).op == "sub"
    third = b.op("div", b.const(1.0, dtype), 3.0)
    assert third.attr == dtype.type(1) / dtype.type(3)
    assert b.op("add", b.const(1e30, dtype), 1.0).attr == dtype.type(1e30)
    assert b.op("not", b.op("lt", x, 1.0)).op == "not", "NaN is neither less nor not less"
    assert b.op("not", b.op("eq", x, 1.0)) is b.op("ne", x, 1.0)
    assert math.isnan(b.op("min", b.const(math.nan, dtype), 1.0).attr)


@given(st.sampled_from(INTEGERS), st.data())
def test_integers_fold_as_the_table_says(dtype, data):
    low, high = RANGE[dtype]
    numbers = st.integers(low, high) | st.sampled_from([low, high, 0, 1, high - 1])
    x, y = data.draw(numbers), data.draw(numbers)
    names = [n for n, s in TABLE.items() if dtype in s.results and s.evaluate and s.arity == 2]
    b = Builder("fold")
    for name in names:
        if name.startswith("index"):
            continue
        folded = b.op(name, b.const(x, dtype), b.const(y, dtype))
        assert folded.op == "const", name
        p = b.parameter(dtype)
        assert b.op(name, p, b.const(y, dtype)).dtype is folded.dtype


def test_halves_are_computed_in_float32(b):
    x, y = b.parameter(BF16), b.parameter(BF16)
    total = b.op("add", x, y)
    assert total.dtype is BF16
    assert total.op == "convert"
    assert total.args[0].op == "add"
    assert total.args[0].dtype is F32
    assert b.op("lt", x, y).dtype is BOOL
    assert b.op("sin", x).dtype is BF16
    assert b.select(b.op("lt", x, y), x, y).op == "select"
    assert b.const(1.0009765625, BF16).attr == 1.0
    assert b.convert(b.convert(x, F32), BF16) is x


def test_complex_numbers_are_pairs(b):
    z = b.complex(b.parameter(F32), b.parameter(F32))
    assert isinstance(z, ComplexValue)
    assert z.dtype is C64
    product = b.op("mul", z, 2.0)
    assert isinstance(product, ComplexValue)
    assert b.op("real", z) is z.re
    assert b.op("abs", z).dtype is F32
    assert b.op("eq", z, z).dtype is BOOL
    assert b.convert(z, F32) is z.re
    assert b.convert(z.re, C64).im.attr == 0.0
    x, y = b.argument(C64, (3,)), b.result(C64, (3,))
    (v,) = b.loop(0, 3, lambda i, v: [b.op("add", v, b.load(x, i))], [z])
    b.store(y, (1,), v)
    stores = [i for i in b.function.body.items if isinstance(i, Store)]
    assert [s.offset.attr for s in stores] == [2, 3]
    verify_parameters(b)
    with pytest.raises(LoopIRError, match="floor is not defined on complex"):
        b.op("floor", z)


def verify_parameters(b: Builder) -> None:
    verify(b.finish())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda b, x: b.op("frobnicate", x), "unknown operation 'frobnicate' on"),
        (lambda b, x: b.op("add", x, b.const(1, I32)), "add does not take operands of type"),
        (lambda b, x: b.op("add", x), "add takes 2 operands, got 1"),
        (lambda b, x: b.op("shl", x, x), "shl does not take operands of type"),
        (lambda b, x: b.op("select", x, x, x), "select does not take operands of type"),
        (lambda b, x: b.op("bitcast", x, attr=F64), "bitcast of float32 to"),
        (lambda b, x: b.op("add", 1, 2), "one operand must be a value"),
        (lambda b, x: b.load(b.argument(F32, (2, 2)), 0), "has 2 axes, indexed with 1"),
        (lambda b, x: b.store(b.argument(F32, ()), (), x), "read-only"),
        (lambda b, x: b.store(b.result(F64, ()), (), x), "store of float32"),
        (lambda b, x: b.loop(0, 3, lambda i, c: [i], [x]), "expected values like"),
        (lambda b, x: b.loop(0, 3, lambda i: None, step=0), "step 0"),
        (lambda b, x: b.loop(0, 3, lambda i: None, kind="fast"), "kind 'fast'"),
        (lambda b, x: b.complex(x, b.const(1.0, F64)), "no complex number has parts"),
    ],
)
def test_mistakes_are_named(make, text, b):
    with pytest.raises(LoopIRError, match=text):
        make(b, b.parameter(F32))


def test_complex_dtypes_are_known():
    assert set(COMPLEX) == {np.dtype(np.complex64), np.dtype(np.complex128)}


def test_golden(b, golden):
    """Stencil with boundary, reduction and run-time size."""
    n = b.dim(0)
    x, y, z = b.argument(F32, (n, 8), "x"), b.result(F32, (n, 8), "y"), b.result(F32, (), "z")

    def row(i, total):
        def cell(j, total):
            left = b.op("lt", j, 1)
            (v,) = b.if_(
                left,
                lambda: [b.const(0.0, F32)],
                lambda: [b.load(x, i, b.op("sub", j, 1))],
            )
            w = b.op("add", v, b.load(x, i, j))
            b.store(y, (i, j), w)
            return [b.op("add", total, w)]

        return b.loop(0, 8, cell, [total])

    (total,) = b.loop(0, n, row, [b.const(0.0, F32)])
    b.store(z, (), total)
    function = b.finish()
    verify(function)
    golden.check("stencil.loopir", print_function(function) + "\n")


def test_constants_move_out_of_sums_of_indices_alone():
    """A hash needs its sums with and without constants; offsets are only read."""
    b = Builder("entry")
    n, word = b.dim(0), np.dtype("u4")
    x, y = b.argument(word, (4,)), b.result(word, (4,))
    offset = b.op("add", b.op("add", n, 3), n)
    assert offset.args[1] is b.index(3)
    u, v = b.load(x, 0), b.load(x, 1)
    shifted = b.op("add", u, 5)
    total = b.op("add", shifted, v)
    assert set(total.args) == {shifted, v}
    assert b.op("add", shifted, 7) is b.op("add", u, 12)
    assert b.op("mul", shifted, 3).args[0] is shifted
    b.store(y, (0,), total)
    verify(b.finish())
