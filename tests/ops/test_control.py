"""Control flow: what the functions of `covector.lax` accept, mean and say, on both backends."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector.core import dtypes, interpret
from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.dims import symbol
from covector.core.errors import UnsupportedRuleError
from covector.core.trace import trace_program
from covector.core.verify import verify
from covector.lax import bodies
from covector.lax import control_flow as lax
from covector.ops import scan_linearize

BACKENDS = ["reference", "native"]


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request):
    with cv.config.override("backend", request.param), cv.core.config.checked():
        yield request.param


def f32(*values):
    return np.asarray(values if len(values) > 1 else values[0], np.float32)


def close(found, expected, **tolerance):
    np.testing.assert_allclose(
        np.asarray(found), np.asarray(expected), **({"rtol": 1e-5} | tolerance)
    )


def pairs(found, expected):
    return zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)


# --- scan -----------------------------------------------------------------------------------------


def test_weak_carries_give_way():
    carry, ys = lax.scan(lambda c, x: (c + x, c), 0, cnp.arange(3.0))
    expected, expected_ys = jax.lax.scan(lambda c, x: (c + x, c), 0, jnp.arange(3.0))
    assert (carry.dtype, carry.weak_type) == (expected.dtype, expected.weak_type)
    assert ys.dtype == expected_ys.dtype
    close(ys, expected_ys)


def test_one_carry_that_gives_way_may_make_another_do_so():
    def body(carry, x):
        a, b = carry
        return (b, a * 0 + x), a

    (a, b), _ = lax.scan(body, (0, 0), cnp.arange(3.0))
    assert a.dtype == b.dtype == np.float32


def test_keys_and_integers_are_carried():
    def body(carry, x):
        n, flag = carry
        return (n + x, flag | (n > 2)), flag

    (n, flag), flags = lax.scan(body, (np.int8(0), False), cnp.arange(4, dtype="int8"))
    assert n.dtype == np.int8
    assert bool(flag) is True
    assert flags.tolist() == [False, False, False, False]


@pytest.mark.parametrize("unroll", [1, 2, 3, 7, 8, True, False])
@pytest.mark.parametrize("reverse", [False, True])
def test_unrolling_changes_nothing(unroll, reverse):
    xs = np.arange(7.0, dtype=np.float32)
    w = f32(0.5)
    expected = jax.lax.scan(lambda c, x: (c * w + x, c - x), 1.0, xs, reverse=reverse)
    found = lax.scan(lambda c, x: (c * w + x, c - x), 1.0, xs, reverse=reverse, unroll=unroll)
    close(found[0], expected[0])
    close(found[1], expected[1])


@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_large_carries_swap(length):
    a, b = np.arange(50.0, dtype=np.float32), np.ones(50, np.float32)

    def run(lax, np):
        return lax.scan(lambda c, _: ((c[1], c[0] * 2.0), c[0][3]), (a, b), None, length=length)

    for x, y in zip(
        jax.tree.leaves(run(lax, cnp)), jax.tree.leaves(run(jax.lax, jnp)), strict=True
    ):
        close(x, y)


def test_updates_in_place_read_the_old_values():
    """Each element of the state is computed from elements that are replaced at the same time."""

    def run(lax, np):
        def body(state, i):
            a, b, n = state
            a, b = a.at[1:].set(a[:-1] * 2.0), b + a[0] + n
            a = a.at[i].set(b[i])
            return (a, b, n + 1), a[i]

        init = (np.arange(40.0), np.ones(40), 0)
        return lax.scan(body, init, np.arange(6))

    for x, y in zip(
        jax.tree.leaves(run(lax, cnp)), jax.tree.leaves(run(jax.lax, jnp)), strict=True
    ):
        close(x, y)


def test_an_accumulator_reads_what_is_updated():
    def run(lax, np):
        def body(state, i):
            table, total = state
            return (table.at[i, 2].add(1.5), total + table * 0.5), None

        return lax.scan(body, (np.ones((6, 7)), np.zeros((6, 7))), np.arange(5))[0]

    for x, y in zip(run(lax, cnp), run(jax.lax, jnp), strict=True):
        close(x, y)


def test_residuals_are_neither_stacked_twice_nor_for_constants():
    w = f32(0.5)

    def loss(w, xs):
        def body(carry, x):
            i, c = carry
            return (i + 1, cnp.tanh(c) * cnp.exp(w) * x + x * x * i), x * c

        (_, last), ys = lax.scan(body, (0, w), xs)
        return last + ys.sum()

    found: list[scan_linearize.SplitBody] = []
    original = scan_linearize.SplitBody

    class Spy(original):
        __slots__ = ()

        def __init__(self, *args):
            super().__init__(*args)
            found.append(self)

    scan_linearize.SplitBody = Spy
    try:
        xs = np.arange(4.0, dtype=np.float32)
        close(cv.grad(loss)(w, xs), jax.grad(lambda w, xs: _jax_loss(w, xs))(w, xs), rtol=1e-4)
    finally:
        scan_linearize.SplitBody = original
    (split,) = found
    verify(split.known)
    verify(split.linear)
    verify(split.invariant)
    assert len(split.invariant.outputs) == 1  # exp(w)
    kinds = [s[0] if isinstance(s, tuple) else "counter" for s in split.sources]
    assert kinds.count("x") == 1
    stacked = [s for s in split.sources if isinstance(s, tuple) and s[0] == "y"]
    assert len(stacked) == len(set(stacked))


def _jax_loss(w, xs):
    def body(carry, x):
        i, c = carry
        return (i + 1, jnp.tanh(c) * jnp.exp(w) * x + x * x * i), x * c

    (_, last), ys = jax.lax.scan(body, (0, w), xs)
    return last + ys.sum()


def test_a_counter_is_not_stacked():
    def last(w, reverse):
        def body(carry, x):
            i, c = carry
            return (i + 3, c * w + cnp.sin(w * i)), None

        return lax.scan(body, (2, w), cnp.arange(4.0), reverse=reverse)[0][1]

    def expected(w, reverse):
        def body(carry, x):
            i, c = carry
            return (i + 3, c * w + jnp.sin(w * i)), None

        return jax.lax.scan(body, (2, w), jnp.arange(4.0), reverse=reverse)[0][1]

    for reverse in (False, True):
        close(cv.grad(last)(f32(0.3), reverse), jax.grad(expected)(f32(0.3), reverse), rtol=1e-4)


def test_transposing_a_scan_with_a_counter():
    """A linear function may carry what is not linear beside what is."""

    def linear(x):
        def body(carry, _):
            i, c = carry
            return (i + 1, c * (i + 1.0)), c * i

        return lax.scan(body, (0, x), None, length=4)

    def only_floats(x):
        (_, c), ys = linear(x)
        return c, ys

    cts = (f32(2.0), f32([1.0, 2.0, 3.0, 4.0]))
    (ct,) = cv.linear_transpose(only_floats, f32(1.0))(cts)
    _, tangents = cv.jvp(only_floats, (f32(1.0),), (f32(1.0),))
    close(ct, tangents[0] * 2.0 + (tangents[1] * cts[1]).sum())


def test_the_body_is_traced_once_in_a_call():
    count = 0

    def body(c, x):
        nonlocal count
        count += 1
        return c + x, None

    for _ in range(3):
        lax.scan(body, 0.0, np.arange(3.0, dtype=np.float32))
    # `count` is a cell that changes: such a function is traced each time, but only once a call.
    assert count == 3


_factor = 1.0


def test_a_traced_body_is_used_again_until_what_it_reads_changes():
    global _factor
    xs = np.arange(3.0, dtype=np.float32)
    _factor = 1.0

    def counted(c, x):
        return c + x * _factor, None

    before = bodies.trace_body("scan body", counted, cv.core.pytree.structure((0, 0)), _avals())
    again = bodies.trace_body("scan body", counted, cv.core.pytree.structure((0, 0)), _avals())
    assert before is again
    assert float(lax.scan(counted, 0.0, xs)[0]) == 3.0
    _factor = 2.0
    assert float(lax.scan(counted, 0.0, xs)[0]) == 6.0


def _avals():
    return [Aval((), np.dtype(np.float32)), Aval((), np.dtype(np.float32))]


def test_closed_over_lists_and_arrays_may_change():
    table = [1.0]
    data = np.ones(2, np.float32)

    def body(c, x):
        return c + x * table[0] + data[0], None

    xs = np.arange(3.0, dtype=np.float32)
    assert float(lax.scan(body, 0.0, xs)[0]) == 6.0
    table[0] = 2.0
    assert float(lax.scan(body, 0.0, xs)[0]) == 9.0
    data[0] = 0.0
    assert float(lax.scan(body, 0.0, xs)[0]) == 6.0


def test_bodies_that_were_used_are_released():
    import gc
    import weakref

    def make():
        def body(c, x):
            return c + x, None

        lax.scan(body, 0.0, np.arange(3.0, dtype=np.float32))
        return weakref.ref(body)

    released = make()
    gc.collect()
    assert released() is None


def test_disable_jit_runs_python():
    seen = []

    def body(c, x):
        seen.append(float(x))
        return c + x, c

    with cv.disable_jit():
        carry, ys = lax.scan(body, 0.0, np.arange(3.0, dtype=np.float32), reverse=True)
        assert seen == [2.0, 1.0, 0.0]
        assert float(lax.while_loop(lambda x: x < 5, lambda x: x + seen[0], 0.0)) == 6.0
        assert int(lax.fori_loop(0, 3, lambda i, c: c + i, 0)) == 3
        assert lax.cond(True, lambda: "yes", lambda: 0.0) == "yes"
        assert lax.switch(5, [lambda: "a", lambda: "b"]) == "b"
        with pytest.raises(ValueError, match="length 0"):
            lax.scan(body, 0.0, None, length=0)
    assert float(carry) == 3.0
    assert ys.tolist() == [3.0, 2.0, 0.0]


def key_array(*words):
    data = np.asarray(words, np.uint32)
    return Array.of(data, Aval(data.shape[:-1], dtypes.key_fry))


def test_keys_are_carried_chosen_and_stacked():
    k, ks = key_array(7, 8), key_array([1, 2], [3, 4], [5, 6])

    def f(k, ks):
        return lax.scan(lambda c, key: ((c[1], key), c[0]), (k, k), ks)

    for g in (f, cv.jit(f)):
        (a, b), ys = g(k, ks)
        assert (a._value.tolist(), b._value.tolist()) == ([3, 4], [5, 6])
        assert ys._value.tolist() == [[7, 8], [7, 8], [1, 2]]
        assert ys.shape == (3,)
    chosen = cv.vmap(lambda p, key: lax.cond(p, lambda: key, lambda: k))
    found = chosen(np.array([True, False, True]), ks)
    assert found._value.tolist() == [[1, 2], [7, 8], [5, 6]]


def test_symbolic_lengths():
    n = symbol("n")

    def loss(x):
        c, ys = lax.scan(lambda c, row: (c + row, c.sum()), cnp.zeros(3), x)
        return (c**2).sum() + (ys**2).sum()

    def both(x):
        return [loss(x), cv.grad(loss)(x)]

    program, _ = trace_program(both, [Aval((n, 3), dtypes.float32)])
    verify(program)
    for length in (0, 1, 4):
        x = np.ones((length, 3), np.float32)
        value, gradient = interpret.run(program, x)
        close(value, loss(x))
        close(gradient, cv.grad(loss)(x))


# --- fori_loop ------------------------------------------------------------------------------------


def test_fori_loop_bounds():
    add = lambda i, c: c + i  # noqa: E731
    assert lax.fori_loop(0, 3, lambda i, c: i, 0).dtype == np.int32
    assert lax.fori_loop(5, 3, add, 0).tolist() == 0
    assert lax.fori_loop(np.int8(0), np.int8(3), lambda i, c: i, np.int8(0)).dtype == np.int8
    assert lax.fori_loop(0, np.int8(3), lambda i, c: i, np.int8(0)).dtype == np.int8
    with cv.enable_x64():
        assert lax.fori_loop(0, 3, lambda i, c: i, 0).dtype == np.int64
    with pytest.raises(TypeError, match="must have equal types, got int32 and uint8"):
        lax.fori_loop(0, np.uint8(3), add, 0)
    with pytest.raises(TypeError, match="upper must be an integer"):
        lax.fori_loop(0, 3.0, add, 0)
    with pytest.raises(ValueError, match="unroll needs bounds"):
        cv.jit(lambda n: lax.fori_loop(0, n, add, 0, unroll=2))(3)
    assert int(lax.fori_loop(0, 5, add, 0, unroll=2)) == 10


def test_fori_loop_with_static_bounds_is_a_scan():
    names = [
        e.primitive.name
        for e in cv.make_program(lambda x: lax.fori_loop(0, 3, lambda i, c: c * x, x))(
            1.0
        ).equations
    ]
    assert names == ["scan"]


# --- cond and switch ------------------------------------------------------------------------------


def test_cond_signatures():
    assert int(lax.cond(True, lambda x: x + 1, lambda x: x - 1, operand=3)) == 4
    assert int(lax.cond(False, 3, lambda x: x + 1, 5, lambda x: x - 1)) == 4
    assert int(lax.cond(2.5, lambda: 1, lambda: 2)) == 1
    assert int(lax.cond(np.int8(0), lambda: 1, lambda: 2)) == 2
    with pytest.raises(TypeError, match="not both"):
        lax.cond(True, lambda x: x, lambda x: x, 1, operand=3)


@pytest.mark.parametrize("index", [-3, 0, 1, 2, 9, np.int8(1), np.uint8(200)])
def test_switch_clamps(index):
    branches = [lambda x: x, lambda x: 2 * x, lambda x: 3 * x]
    expected = int(jax.lax.switch(index, branches, 10))
    assert int(lax.switch(index, branches, 10)) == expected
    assert int(cv.jit(lambda i: lax.switch(i, branches, 10))(index)) == expected


def test_only_the_branch_taken_runs():
    from covector.lax.callbacks import io_callback

    seen = []

    def branch(name):
        def run(x):
            io_callback(lambda v: seen.append((name, float(v))), None, x)
            return x

        return run

    f = cv.jit(lambda p, x: lax.cond(p, branch("yes"), branch("no"), x))
    f(True, 1.0)
    f(False, 2.0)
    assert seen == [("yes", 1.0), ("no", 2.0)]
    with pytest.raises(UnsupportedRuleError, match="side effects"):
        cv.vmap(lambda p: lax.cond(p, branch("yes"), branch("no"), 1.0))(np.array([True, False]))


@pytest.mark.parametrize("p", [True, False])
def test_branches_close_over_different_values(p):
    def f(lax):
        return lambda a, b: lax.cond(p, lambda x: x * a, lambda x: x + b, a + b)

    args = (f32(2.0), f32(3.0))
    for x, y in pairs(cv.grad(f(lax), (0, 1))(*args), jax.grad(f(jax.lax), (0, 1))(*args)):
        close(x, y)


def test_branches_share_slots_for_residuals():
    def f(i, x):
        return lax.switch(
            i, [lambda x: cnp.tanh(x * x), lambda x: cnp.exp(x) * cnp.exp(-x * x), lambda x: x], x
        )

    program = cv.make_program(cv.grad(f, 1))(1, f32(0.5))
    conds = [e for e in program.equations if e.primitive.name == "cond"]
    assert len(conds) == 2
    verify(program)
    known = conds[0]
    assert len(known.outputs) <= 1 + 3


# --- maps and associative scans -------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 1, 2, 3, 5, 7])
def test_map(batch_size):
    xs = np.arange(10.0, dtype=np.float32).reshape(5, 2)
    expected = jax.lax.map(lambda x: (x * 2, x.sum()), xs, batch_size=batch_size)
    found = lax.map(lambda x: (x * 2, x.sum()), xs, batch_size=batch_size)
    close(found[0], expected[0])
    close(found[1], expected[1])


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 8, 13])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan_sizes(size, reverse):
    xs = np.arange(1, 2 * size + 1, dtype=np.int32).reshape(2, size)
    found = lax.associative_scan(lambda a, b: a + b, xs, reverse=reverse, axis=-1)
    expected = np.cumsum(xs[:, ::-1], 1)[:, ::-1] if reverse else np.cumsum(xs, 1)
    assert np.array_equal(np.asarray(found), expected)
