"""Loops, branches and masks, in lanes and one iteration after the other, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from covector.loopir.builder import Builder
from covector.loopir.ir import SERIAL, SIMD
from covector.loopir.printer import print_function

F32, F64, I32, I64, BOOL = (np.dtype(t) for t in ("f4", "f8", "i4", "i8", "?"))
SIZES = (1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 100, 1000)
CPUS = (None, "x86-64-v2", "x86-64-v3")


def data(n: int, dtype: np.dtype = F32) -> np.ndarray:
    return np.random.default_rng(n).normal(0, 2, n).astype(dtype)


@pytest.mark.parametrize("cpu", CPUS, ids=str)
@pytest.mark.parametrize("dynamic", [False, True])
def test_every_length(dynamic, cpu, compiled):
    for n in SIZES:
        b = Builder("entry")
        size = b.dim(0) if dynamic else n
        x, y = b.argument(F32, (size,)), b.result(F32, (size,))
        z = b.result(BOOL, (size,))

        def body(i, b=b, x=x, y=y, z=z):
            v = b.op("mul", b.load(x, i), 3.0)
            b.store(y, (i,), v)
            b.store(z, (i,), b.op("gt", v, 1.0))

        b.loop(0, size, body)
        run = compiled(b.finish(), cpu=cpu)
        y_found, z_found = run(data(n), dims=[n])
        np.testing.assert_array_equal(y_found, data(n) * np.float32(3))
        np.testing.assert_array_equal(z_found, data(n) * np.float32(3) > 1)


def test_empty_and_reversed_ranges(compiled):
    b = Builder("entry")
    n = b.dim(0)
    y = b.result(I64, (4,))
    for k, (low, high) in enumerate([(n, 0), (0, n), (5, n), (n, n)]):
        (count,) = b.loop(low, high, lambda i, c: [b.op("add", c, i)], [b.index(100)])
        b.store(y, (k,), count)
    run = compiled(b.finish())
    np.testing.assert_array_equal(run(dims=[3])[0], [100, 103, 100, 100])
    np.testing.assert_array_equal(run(dims=[0])[0], [100, 100, 100, 100])


@pytest.mark.parametrize("kind", [SERIAL, SIMD])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_steps(step, kind, compiled):
    n = 50
    b = Builder("entry")
    x, y = b.argument(F32, (n,)), b.result(F32, (n,))
    b.loop(0, n, lambda i: b.store(y, (i,), b.const(0.0, F32)))
    b.loop(4, n, lambda i: b.store(y, (i,), b.load(x, i)), step=step, kind=kind)
    wanted = np.zeros(n, np.float32)
    wanted[4::step] = data(n)[4::step]
    np.testing.assert_array_equal(compiled(b.finish())(data(n))[0], wanted)


@pytest.mark.parametrize("cpu", CPUS, ids=str)
@pytest.mark.parametrize("dtype", [F32, F64, I32, I64], ids=str)
@pytest.mark.parametrize("op", ["add", "mul", "min", "max"])
def test_reductions(op, dtype, cpu, compiled):
    numpy_op = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}[op]
    for n in SIZES:
        x = data(n, F64)
        x = (x * 10).astype(dtype) if dtype.kind == "i" else (1 + x / 100).astype(dtype)
        for kind in (SERIAL, SIMD):
            b = Builder("entry")
            source, y = b.argument(dtype, (n,)), b.result(dtype, ())
            (total,) = b.loop(
                0,
                n,
                lambda i, c, b=b, source=source: [b.op(op, c, b.load(source, i))],
                [b.const(3, dtype)],
                kind=kind,
            )
            b.store(y, (), total)
            wanted = numpy_op.reduce(x, initial=dtype.type(3), dtype=dtype)
            np.testing.assert_allclose(
                compiled(b.finish(), cpu=cpu)(x)[0], wanted, rtol=1e-5 if dtype == F32 else 1e-13
            )


def test_float_sums_keep_their_order_unless_asked(compiled):
    n = 1000
    b = Builder("entry")
    x, y = b.argument(F32, (n,)), b.result(F32, ())
    (total,) = b.loop(0, n, lambda i, c: [b.op("add", c, b.load(x, i))], [b.const(0.0, F32)])
    b.store(y, (), total)
    wanted = np.float32(0)
    for v in data(n):
        wanted += v
    assert compiled(b.finish())(data(n))[0] == wanted


@pytest.mark.parametrize("op", ["min", "max"])
def test_reductions_propagate_nan(op, compiled):
    n = 100
    for position in (0, 50, 99):
        x = data(n)
        x[position] = np.nan
        b = Builder("entry")
        source, y = b.argument(F32, (n,)), b.result(F32, ())
        (total,) = b.loop(
            0, n, lambda i, c, b=b, s=source: [b.op(op, c, b.load(s, i))], [b.const(0.0, F32)]
        )
        b.store(y, (), total)
        assert np.isnan(compiled(b.finish())(x)[0])


def test_loop_that_depends_on_itself_stays_in_order(compiled):
    n = 40
    b = Builder("entry")
    x, y = b.argument(F32, (n,)), b.result(F32, (n,))
    b.store(y, (0,), b.load(x, 0))

    def body(i):
        previous = b.load(y, b.op("sub", i, 1))
        b.store(y, (i,), b.op("add", previous, b.load(x, i)))

    b.loop(1, n, body)
    wanted = [data(n)[0]]
    for v in data(n)[1:]:
        wanted.append(np.float32(wanted[-1] + v))
    np.testing.assert_array_equal(compiled(b.finish())(data(n))[0], wanted)


def test_in_place_update_of_each_element(compiled):
    n = 37
    b = Builder("entry")
    x, y = b.argument(F32, (n,)), b.result(F32, (n,))
    b.loop(0, n, lambda i: b.store(y, (i,), b.load(x, i)))
    b.loop(0, n, lambda i: b.store(y, (i,), b.op("mul", b.load(y, i), b.load(y, i))))
    np.testing.assert_array_equal(compiled(b.finish())(data(n))[0], data(n) ** 2)


@pytest.mark.parametrize("kind", [SERIAL, SIMD])
def test_nested_loops_with_carries(kind, compiled):
    """x -> x / 2 + k, twenty times for each element."""
    n = 45
    b = Builder("entry")
    x, y = b.argument(F32, (n,)), b.result(F32, (n,))

    def body(i):
        def inner(k, v, total):
            v = b.op("add", b.op("mul", v, 0.5), b.convert(k, F32))
            return [v, b.op("add", total, v)]

        v, total = b.loop(0, 20, inner, [b.load(x, i), b.const(0.0, F32)])
        b.store(y, (i,), b.op("sub", total, v))

    b.loop(0, n, body, kind=kind)
    v, total = data(n), np.zeros(n, np.float32)
    for k in range(20):
        v = v * np.float32(0.5) + np.float32(k)
        total = total + v
    np.testing.assert_array_equal(compiled(b.finish())(data(n))[0], total - v)


@pytest.mark.parametrize("cpu", CPUS, ids=str)
@pytest.mark.parametrize("kind", [SERIAL, SIMD])
def test_while_loops_end_for_each_lane(kind, cpu, compiled):
    """Collatz steps."""
    n = 77
    start = np.arange(1, n + 1)
    b = Builder("entry")
    x, y, z = b.argument(I64, (n,)), b.result(I64, (n,)), b.result(I32, (n,))

    def body(i):
        def step(v, count):
            odd = b.op("eq", b.op("and", v, 1), 1)
            tripled = b.op("add", b.op("mul", v, 3), 1)
            halved = b.op("shr_arithmetic", v, 1)
            return [b.select(odd, tripled, halved), b.op("add", count, 1)]

        v, count = b.while_(
            lambda v, count: b.op("gt", v, 1), step, [b.load(x, i), b.const(0, I32)]
        )
        b.store(y, (i,), v)
        b.store(z, (i,), count)

    b.loop(0, n, body, kind=kind)
    counts = []
    for v in start.tolist():
        count = 0
        while v > 1:
            v = 3 * v + 1 if v & 1 else v // 2
            count += 1
        counts.append(count)
    ones, found = compiled(b.finish(), cpu=cpu)(start)
    np.testing.assert_array_equal(ones, 1)
    np.testing.assert_array_equal(found, counts)


@pytest.mark.parametrize("cpu", CPUS, ids=str)
@pytest.mark.parametrize("kind", [SERIAL, SIMD])
@pytest.mark.parametrize("n", [5, 64, 83])
def test_branches_that_lanes_disagree_on(n, kind, cpu, compiled):
    """Sides that load, store and loop; loads of the side not taken are out of bounds."""
    b = Builder("entry")
    x, y = b.argument(F32, (n,)), b.result(F32, (n,))

    def body(i):
        v = b.load(x, i)

        def negative():
            (total,) = b.loop(0, 3, lambda k, t: [b.op("add", t, v)], [b.const(1.0, F32)])
            return [total]

        def positive():
            far = b.op("add", i, b.select(b.op("lt", v, 0.0), b.index(10**15), b.index(0)))
            return [b.op("mul", b.load(x, far), 2.0)]

        (w,) = b.if_(b.op("lt", v, 0.0), negative, positive)
        b.store(y, (i,), w)
        b.if_(
            b.op("gt", v, 2.0),
            lambda: b.store(y, (i,), b.const(-1.0, F32)),
            lambda: None,
        )

    b.loop(0, n, body, kind=kind)
    v = data(n)
    wanted = np.where(v < 0, np.float32(1) + v + v + v, v * 2)
    wanted[v > 2] = -1
    np.testing.assert_array_equal(compiled(b.finish(), cpu=cpu)(v)[0], wanted)


@pytest.mark.parametrize("n", [9, 64])
def test_nested_branches(n, compiled):
    b = Builder("entry")
    x, y = b.argument(F32, (n,)), b.result(F32, (n,))

    def body(i):
        v = b.load(x, i)

        def inner():
            return b.if_(
                b.op("gt", v, -1.0),
                lambda: [b.load(x, b.index(0))],
                lambda: [b.load(x, b.index(1))],
            )

        (w,) = b.if_(b.op("lt", v, 0.0), inner, lambda: [b.load(x, b.index(2))])
        b.store(y, (i,), w)

    b.loop(0, n, body, kind=SIMD)
    v = data(n)
    wanted = np.where(v < 0, np.where(v > -1, v[0], v[1]), v[2])
    np.testing.assert_array_equal(compiled(b.finish())(v)[0], wanted)


@pytest.mark.parametrize("kind", [SERIAL, SIMD])
def test_uniform_branch_and_while_inside_lanes(kind, compiled):
    n = 40
    b = Builder("entry")
    x, y = b.argument(F32, (n,)), b.result(F32, (n,))
    flag = b.argument(BOOL, ())
    limit = b.argument(I32, ())

    def body(i):
        v = b.load(x, i)
        (w,) = b.if_(b.load(flag), lambda: [b.op("neg", v)], lambda: [b.op("mul", v, 2.0)])
        w, _ = b.while_(
            lambda w, k: b.op("lt", k, b.load(limit)),
            lambda w, k: [b.op("add", w, 1.0), b.op("add", k, 1)],
            [w, b.const(0, I32)],
        )
        b.store(y, (i,), w)

    b.loop(0, n, body, kind=kind)
    run = compiled(b.finish())
    np.testing.assert_array_equal(run(data(n), True, 3)[0], -data(n) + 1 + 1 + 1)
    np.testing.assert_array_equal(run(data(n), False, 0)[0], data(n) * 2)


@pytest.mark.parametrize("cpu", CPUS, ids=str)
@pytest.mark.parametrize("dtype", [F32, I64, BOOL, np.dtype("i2")], ids=str)
def test_gather_scatter_and_strides(dtype, cpu, compiled):
    n = 50
    rng = np.random.default_rng(0)
    table = rng.integers(0, 2 if dtype == BOOL else 99, 3 * n).astype(dtype)
    order = rng.permutation(n)
    b = Builder("entry")
    x, where = b.argument(dtype, (n, 3)), b.argument(I64, (n,))
    gathered, scattered = b.result(dtype, (n,)), b.result(dtype, (n,))
    strided, reverse = b.result(dtype, (n, 2)), b.result(dtype, (n,))

    def body(i):
        place = b.load(where, i)
        b.store(gathered, (i,), b.load(x, place, 1))
        b.store(scattered, (place,), b.load(x, i, 2))
        b.store(strided, (i, 0), b.load(x, i, 0))
        b.store(strided, (i, 1), b.load(x, 7, 0))
        b.store(reverse, (b.op("sub", n - 1, i),), b.load(x, i, 0))

    b.loop(0, n, body, kind=SIMD)
    outs = compiled(b.finish(), cpu=cpu)(table, order)
    grid = table.reshape(n, 3)
    wanted = np.empty(n, dtype)
    wanted[order] = grid[:, 2]
    np.testing.assert_array_equal(outs[0], grid[order, 1])
    np.testing.assert_array_equal(outs[1], wanted)
    np.testing.assert_array_equal(outs[2], np.stack([grid[:, 0], np.full(n, grid[7, 0])], 1))
    np.testing.assert_array_equal(outs[3], grid[::-1, 0])


@pytest.mark.parametrize("cpu", CPUS, ids=str)
@pytest.mark.parametrize("dtype", [F32, F64, BOOL, np.dtype("i1")], ids=str)
@pytest.mark.parametrize("fields", [2, 3, 5, 8, 9])
def test_records(fields, dtype, cpu, compiled):
    """All fields of each record are read and written: rotated by one, under a mask too."""
    for n in (1, 6, 16, 37):
        b = Builder("entry")
        x, y = b.argument(dtype, (n, fields)), b.result(dtype, (n, fields))
        z = b.result(dtype, (n, fields))

        def body(i, b=b, x=x, y=y, z=z):
            values = [b.load(x, i, k) for k in range(fields)]
            for k in range(fields):
                b.store(y, (i, k), values[k - 1])
            first = b.op("ne", b.op("index_rem", i, 3), 0)

            def keep():
                for k in range(fields):
                    b.store(z, (i, k), values[k])

            def reverse():
                for k in range(fields):
                    b.store(z, (i, k), values[-1 - k])

            b.if_(first, keep, reverse)

        b.loop(0, n, body, kind=SIMD)
        rng = np.random.default_rng(n)
        data_in = rng.integers(0, 2, (n, fields)).astype(dtype)
        rolled, kept = compiled(b.finish(), cpu=cpu)(data_in)
        np.testing.assert_array_equal(rolled, np.roll(data_in, 1, 1))
        wanted = data_in.copy()
        wanted[::3] = wanted[::3, ::-1]
        np.testing.assert_array_equal(kept, wanted)


def test_records_are_not_moved_past_other_accesses(compiled):
    """y[i, 0] is read between the stores of the two fields; records of y must wait."""
    n = 40
    b = Builder("entry")
    x, y, z = b.argument(F32, (n, 2)), b.result(F32, (n, 2)), b.result(F32, (n,))

    def body(i):
        b.store(y, (i, 0), b.load(x, i, 1))
        b.store(z, (i,), b.load_at(y, b.op("mul", i, 2)))
        b.store(y, (i, 1), b.load(x, i, 0))
        b.store(y, (i, 0), b.load(x, i, 0))

    b.loop(0, n, body, kind=SIMD)
    data_in = data(2 * n).reshape(n, 2)
    y_found, z_found = compiled(b.finish())(data_in)
    np.testing.assert_array_equal(y_found, data_in[:, [0, 0]])
    np.testing.assert_array_equal(z_found, data_in[:, 1])


def test_overlapping_strides_stay_in_order(compiled):
    """y[2 i] and y[2 i + 2] meet in the next iteration."""
    n = 30
    b = Builder("entry")
    y = b.result(F32, (2 * n + 2,))
    b.loop(0, 2 * n + 2, lambda i: b.store(y, (i,), b.const(1.0, F32)))

    def body(i):
        place = b.op("mul", i, 2)
        following = b.op("add", b.load(y, place), b.load(y, place))
        b.store(y, (b.op("add", place, 2),), b.op("sub", following, 0.5))

    b.loop(0, n, body)
    wanted = np.ones(2 * n + 2, np.float32)
    for i in range(n):
        wanted[2 * i + 2] = 2 * wanted[2 * i] - np.float32(0.5)
    np.testing.assert_array_equal(compiled(b.finish())()[0], wanted)


@pytest.mark.parametrize("cpu", CPUS, ids=str)
@pytest.mark.parametrize(
    "dtype", ["i1", "u1", "i2", "i4", "u4", "u8", "f2", "f4", "f8", "?"], ids=str
)
def test_iota(dtype, cpu, compiled):
    n = 300
    b = Builder("entry")
    y = b.result(np.dtype(dtype), (n,))
    start = b.load(b.argument(I64, ()))

    def body(i):
        number = b.op("add", b.op("mul", b.op("sub", i, 100), 3), start)
        b.store(y, (i,), b.convert(number, np.dtype(dtype)))

    b.loop(0, n, body)
    run = compiled(b.finish(), cpu=cpu)
    for first in (0, 2**31 - 50, 2**40 + 7):
        numbers = (np.arange(n) - 100) * 3 + first
        wanted = numbers.astype(dtype) if dtype != "f2" or first == 0 else None
        found = run(np.int64(first))[0]
        if wanted is not None:
            np.testing.assert_array_equal(found, wanted)


def test_contraction_is_by_request(compiled):
    n = 64
    b = Builder("entry")
    x, y, z = b.argument(F32, (n,)), b.result(F32, (n,)), b.result(F32, (n,))

    def body(i):
        v = b.load(x, i)
        b.store(y, (i,), b.op("sub", b.op("mul", v, v), 1.0))
        fused = b.op("mul", v, v, attr="contract")
        b.store(z, (i,), b.op("sub", fused, 1.0, attr="contract"))

    b.loop(0, n, body)
    run = compiled(b.finish())
    v = data(n)
    plain, fused = run(v)
    np.testing.assert_array_equal(plain, v * v - np.float32(1))
    exact = (v.astype(np.float64) ** 2 - 1).astype(np.float32)
    assert (
        "vfm" not in run.code.assembly() or (np.abs(fused - exact) <= np.abs(plain - exact)).all()
    )


def test_iota_and_index_arithmetic(compiled):
    n, m = 6, 35
    b = Builder("entry")
    y, z = b.result(F32, (n, m)), b.result(I32, (n * m,))

    def row(i):
        b.loop(
            0, m, lambda j: b.store(y, (i, j), b.convert(b.op("add", i, b.op("mul", j, 2)), F32))
        )

    b.loop(0, n, row)

    def flat(k):
        i, j = b.op("index_div", k, m), b.op("index_rem", k, m)
        b.store(z, (k,), b.convert(b.op("sub", i, j), I32))

    b.loop(0, n * m, flat)
    y_found, z_found = compiled(b.finish())()
    i, j = np.indices((n, m))
    np.testing.assert_array_equal(y_found, i + 2 * j)
    np.testing.assert_array_equal(z_found, (i - j).ravel())


def test_complex_carries_and_buffers(compiled):
    c64 = np.dtype(np.complex64)
    n = 21
    b = Builder("entry")
    x, y = b.argument(c64, (n,)), b.result(c64, (n,))
    w = b.buffer(c64, (n,))

    def body(i):
        (v,) = b.loop(0, 3, lambda k, v: [b.op("mul", v, v)], [b.load(x, i)])
        b.store(w, (i,), v)
        (v,) = b.if_(
            b.op("lt", b.op("real", v), 0.0), lambda: [b.op("conj", v)], lambda: [b.op("neg", v)]
        )
        b.store(y, (i,), v)

    b.loop(0, n, body, kind=SIMD)
    x_in = (data(2 * n) / 2).view(c64)
    v = x_in.astype(np.complex128) ** 8
    wanted = np.where(v.real < 0, v.conj(), -v)
    np.testing.assert_allclose(compiled(b.finish())(x_in)[0], wanted, rtol=1e-4, atol=1e-6)


def test_product_of_matrices_in_lanes(compiled):
    n = 24
    b = Builder("entry")
    x, w, y = b.argument(F32, (n, n)), b.argument(F32, (n, n)), b.result(F32, (n, n))

    def row(i):
        def column(j):
            def term(k, total):
                return [b.op("fma", b.load(x, i, k), b.load(w, k, j), total)]

            (total,) = b.loop(0, n, term, [b.const(0.0, F32)])
            b.store(y, (i, j), total)

        b.loop(0, n, column, kind=SIMD)

    b.loop(0, n, row)
    rng = np.random.default_rng(0)
    p, q = (rng.normal(size=(n, n)).astype(np.float32) for _ in range(2))
    np.testing.assert_allclose(compiled(b.finish())(p, q)[0], p @ q, rtol=1e-4, atol=1e-5)


def test_goldens(golden):
    """The text of a function with every kind of statement."""
    b = Builder("everything")
    n = b.dim(0)
    x, y = b.argument(F32, (n,), "x"), b.result(F32, (n,), "y")
    t = b.buffer(np.dtype(np.complex64), (3,), "t")
    heap = b.buffer(F32, (n, 2), "heap")
    z = b.complex(b.const(1.0, F32), 2.0)
    b.store(t, (1,), z)

    def body(i, total):
        v = b.load(x, i)
        b.check(b.op("gt", v, 0.0), 3)
        (w,) = b.if_(b.op("lt", v, 1.0), lambda: [b.op("sin", v)], lambda: [v])
        b.store(heap, (i, 1), w)
        w, _ = b.while_(
            lambda w, k: b.op("lt", k, 3),
            lambda w, k: [b.op("mul", w, w), b.op("add", k, 1)],
            [w, b.const(0, I32)],
        )
        b.store(y, (i,), w)
        return [b.op("add", total, w)]

    b.loop(0, n, body, [b.const(0.5, F32)], kind=SIMD, width=8)
    b.callback(2, [x, heap], [y])
    b.call("cv_poll", I32, None, leaves=True)
    b.poll()
    golden.check("everything.loopir", print_function(b.finish()) + "\n")
