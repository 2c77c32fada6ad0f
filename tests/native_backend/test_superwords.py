"""Packs of scalar operations: which are made, that they pay, and that no bit depends on them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from covector.backends.native import emit, engine
from covector.backends.native.emit_ops import Target
from covector.backends.native.split import split
from covector.backends.native.superword_plan import Packing, plan_packs
from covector.backends.native.superwords import CARRY, LOAD, OPERATION, STORE, Pack, Region
from covector.loopir.builder import Builder
from covector.loopir.ir import WORKSPACE, For, Function, If, Value, While, walk

F32, F64, I32, C64 = (np.dtype(t) for t in ("f4", "f8", "i4", "c8"))
WIDE = Target(512, fma=True, half=True, masks=True)
STEPS = 5
VECTOR_CALL = re.compile(r"@(?:cv|shared)\.(\w+)\.v(\d+)f(\d+)\(")


def only_loop(function: Function) -> For | While:
    loops = [i for i in function.body.items if isinstance(i, For | While)]
    assert len(loops) == 1
    return loops[0]


def packing_of(function: Function, target: Target = WIDE) -> Packing | None:
    loop = only_loop(function)
    carried = list(zip(loop.params, loop.yields, strict=True))
    return plan_packs(Region(loop.body.items, carried, (), loop.body.depth, {}), target)


def packs_of(packing: Packing | None, kind: str = OPERATION) -> list[Pack]:
    if packing is None:
        return []
    found = dict.fromkeys(place[0] for place in packing.place.values())
    return [p for p in found if p.kind == kind]


def ops_of(packing: Packing | None) -> list[tuple[str, int]]:
    return sorted((p.members[0].op, len(p.members)) for p in packs_of(packing))


def scan(step: Callable[[Builder, list[Any]], list[Any]], n: int, dtype: np.dtype = F32) -> Any:
    """A loop over a state of `n` scalars, stored at the end."""
    b = Builder("entry")
    x, y = b.argument(dtype, (n,)), b.result(dtype, (n,))
    state = b.loop(0, STEPS, lambda i, *s: step(b, list(s)), [b.load(x, k) for k in range(n)])
    for k, value in enumerate(state):
        b.store(y, (k,), value)
    return b.finish()


def field(b: Builder, y: list[Any], op: str = "tanh") -> list[Any]:
    """A matrix of constants times a vector, through a function, added to the vector."""
    n = len(y)
    out = []
    for row in range(n):
        total = b.op("mul", y[0], 0.1 * row + 0.2, attr="contract")
        for k in range(1, n):
            term = b.op("mul", y[k], 0.1 * row - 0.3 * k, attr="contract")
            total = b.op("add", total, term, attr="contract")
        out.append(b.op(op, total))
    return [b.op("add", a, b.op("mul", v, 0.5)) for a, v in zip(y, out, strict=True)]


# What is packed


def test_a_state_stays_in_a_vector():
    packing = packing_of(scan(field, 4))
    assert ops_of(packing) == [
        *[("add", 4), ("fma", 4), ("fma", 4), ("fma", 4)],
        *[("mul", 4), ("mul", 4), ("tanh", 4)],
    ]
    (carry,) = packs_of(packing, CARRY)
    assert carry.scalars == ()
    assert all(isinstance(unit, Pack) or unit.op == "add" for unit in packing.order)


def test_three_lanes_fill_four():
    (seed,) = [p for p in packs_of(packing_of(scan(field, 3))) if p.members[0].op == "tanh"]
    assert (len(seed.members), seed.lanes) == (3, 4)
    (seed,) = [p for p in packs_of(packing_of(scan(field, 3, F64))) if p.members[0].op == "tanh"]
    assert (len(seed.members), seed.lanes) == (3, 4)


def test_many_lanes_become_several_packs():
    def step(b: Builder, y: list[Any]) -> list[Any]:
        return [b.op("exp", v) for v in y]

    lanes = [p.lanes for p in packs_of(packing_of(scan(step, 21)))]
    assert lanes == [16, 8]
    narrow = Target(128, fma=False, half=False, masks=False)
    assert [p.lanes for p in packs_of(packing_of(scan(step, 6), narrow))] == [4, 4]


def test_cheap_operations_alone_are_not_packed():
    def step(b: Builder, y: list[Any]) -> list[Any]:
        return [b.op("add", b.op("mul", v, 0.5), w) for v, w in zip(y, y[1:] + y[:1], strict=True)]

    assert packing_of(scan(step, 4)) is None


def test_one_expensive_operation_is_not_packed():
    assert packing_of(scan(lambda b, y: [b.op("exp", y[0]), y[0]], 2)) is None


def test_operations_that_depend_on_each_other_are_not_packed():
    def step(b: Builder, y: list[Any]) -> list[Any]:
        first = b.op("exp", y[0])
        return [b.op("exp", b.op("mul", first, 0.1)), first]

    assert packing_of(scan(step, 2)) is None


def test_other_kinds_are_not_packed_together():
    def step(b: Builder, y: list[Any]) -> list[Any]:
        return [b.op("exp", y[0]), b.op("sin", y[1])]

    assert packing_of(scan(step, 2)) is None


def test_a_division_that_needs_more_moves_than_it_saves_is_not_packed():
    b = Builder("entry")
    x, y = b.argument(F32, (64,)), b.result(F32, (STEPS, 64))

    def step(i: Any) -> None:
        for k in (0, 1):
            place = b.op("mul", i, 7 + k)
            quotient = b.op("div", b.load(x, place), b.load(x, b.op("add", place, 3 * k)))
            b.store(y, (i, 5 * k), quotient)

    b.loop(0, STEPS, step)
    assert packing_of(b.finish()) is None


def test_neighbours_are_loaded_and_stored_together():
    b = Builder("entry")
    x, y = b.argument(F32, (STEPS, 4)), b.result(F32, (STEPS, 4))

    def step(i: Any, carry: Any) -> list[Any]:
        values = [b.op("log", b.load(x, i, k)) for k in range(4)]
        for k, value in enumerate(values):
            b.store(y, (i, k), b.op("mul", value, carry))
        return [b.op("add", carry, 1.0)]

    b.loop(0, STEPS, step, [b.const(0.0, F32)])
    packing = packing_of(b.finish())
    assert [len(packs_of(packing, kind)) for kind in (LOAD, OPERATION, STORE)] == [1, 2, 1]


def test_stores_do_not_pass_loads():
    """The second load sees what the first store wrote."""
    b = Builder("entry")
    x, y = b.argument(F32, (STEPS, 2)), b.result(F32, (4,))

    def step(i: Any, *carry: Any) -> list[Any]:
        firsts = [b.op("exp", b.load(x, i, k)) for k in (0, 1)]
        b.store(y, (0,), firsts[0])
        again = b.load(y, b.op("and", i, 1))
        b.store(y, (1,), firsts[1])
        return [b.op("add", carry[0], again)]

    b.loop(0, STEPS, step, [b.const(0.0, F32)])
    function = b.finish()
    packing = packing_of(function)
    assert packs_of(packing)
    assert not packs_of(packing, STORE)
    effects = [
        u
        for u in packing.order
        if not isinstance(u, Pack | Value) or getattr(u, "op", "") == "load"
    ]
    original = [
        i for i in walk(only_loop(function).body) if not isinstance(i, Value) or i.op == "load"
    ]
    assert effects[-3:] == original[-3:]


def test_packs_that_wait_for_each_other_are_taken_apart():
    """a0 -> b0 and b1 -> a1, so that {a0, a1} and {b0, b1} cannot both be packs."""

    def step(b: Builder, y: list[Any]) -> list[Any]:
        heads = [b.op("exp", v) for v in y]
        a0 = b.op("mul", heads[0], 3.0)
        b0 = b.op("add", a0, y[1])
        b1 = b.op("add", heads[1], y[0])
        a1 = b.op("mul", b1, 3.0)
        return [b.op("sub", a0, b0), b.op("sub", a1, b1)]

    function = scan(step, 2)
    packing = packing_of(function)
    done: set[Any] = set()
    for unit in packing.order:
        members = unit.members if isinstance(unit, Pack) else (unit,)
        inside = set(only_loop(function).body.items)
        for member in members:
            assert all(a in done for a in member.args if a in inside)
        done.update(members)
    assert done == inside


def test_what_is_the_same_in_each_iteration_is_made_before_the_loop():
    b = Builder("entry")
    w, x, y = b.argument(F32, (8,)), b.argument(F32, (4,)), b.result(F32, (4,))
    weights = [b.load(w, 2 * k) for k in range(4)]

    def step(i: Any, *state: Any) -> list[Any]:
        return [b.op("tanh", b.op("mul", v, u)) for v, u in zip(state, weights, strict=True)]

    for k, value in enumerate(b.loop(0, STEPS, step, [b.load(x, k) for k in range(4)])):
        b.store(y, (k,), value)
    function = b.finish()
    assert packing_of(function).invariant == [(tuple(weights), 4)]
    text = emit.emit(function, WIDE).text
    body = text[text.index("L1:") : text.index("L2:")]
    assert "insertelement" not in body
    assert "extractelement" not in body


def test_lanes_of_a_swapped_operand_are_matched():
    def step(b: Builder, y: list[Any]) -> list[Any]:
        slow = [b.op("exp", v) for v in y]
        fast = [b.op("mul", v, 2.0) for v in y]
        pairs = zip(slow, fast, strict=True)
        return [b.op("mul", *(p if k % 2 else p[::-1])) for k, p in enumerate(pairs)]

    assert ops_of(packing_of(scan(step, 4))) == [("exp", 4), ("mul", 4), ("mul", 4)]


def test_golden(golden):
    golden.check("packs.ll", emit.emit(scan(field, 3), WIDE).text)


# Values


class Generator:
    """Builds a random loop over a few scalars that are treated alike, or almost."""

    UNARY = ("tanh", "exp", "sin", "log1p", "sqrt", "neg", "floor", "erf")
    BINARY = ("add", "sub", "mul", "div", "min", "max", "atan2")

    def __init__(self, seed: int) -> None:
        self.rnd = random.Random(seed)
        self.dtype = self.rnd.choice((F32, F64))
        self.n = self.rnd.choice((2, 3, 4, 4, 5, 8))
        self.b = Builder("entry")
        self.x = self.b.argument(self.dtype, (STEPS, self.n))
        self.w = self.b.argument(self.dtype, (16,))
        self.y = self.b.result(self.dtype, (STEPS, self.n))
        self.z = self.b.result(self.dtype, (self.n,))
        self.scratch = self.b.buffer(self.dtype, (self.n,))

    def build(self) -> Function:
        b = self.b
        init = [b.load(self.w, k) for k in range(self.n)]
        if self.rnd.random() < 0.3:
            zero = b.const(0, I32)
            last = b.while_(
                lambda i, *s: b.op("lt", i, STEPS),
                lambda i, *s: [b.op("add", i, 1), *self.body(b.convert(i, np.dtype("i8")), s)],
                [zero, *init],
            )[1:]
        else:
            last = b.loop(0, STEPS, lambda i, *s: self.body(i, s), init)
        for k, value in enumerate(last):
            b.store(self.z, (k,), value)
        return b.finish()

    def body(self, i: Any, state: Any) -> list[Any]:
        b = self.b
        rows = [list(state), [b.load(self.x, i, k) for k in range(self.n)]]
        rows.append([b.load(self.w, self.rnd.randrange(16)) for _ in range(self.n)])
        for k in range(self.n):
            b.store(self.scratch, (k,), rows[1][k])
        self.statements(rows, depth=1)
        for k in range(self.n):
            b.store(self.y, (i, k), rows[-1][k])
        return rows[-1] if self.rnd.random() < 0.7 else rows[-1][::-1]

    def statements(self, rows: list[list[Any]], depth: int) -> None:
        for _ in range(self.rnd.randrange(4, 10)):
            kinds = ["unary", "binary", "binary", "mixed", "memory", "select", "matrix"]
            if depth:
                kinds += ["branch", "inner"]
            made = getattr(self, self.rnd.choice(kinds))(rows, depth)
            if made:
                b = self.b
                low, high = b.const(-20.0, self.dtype), b.const(20.0, self.dtype)
                rows.append([b.op("clamp", low, v, high) for v in made])

    def pick(self, rows: list[list[Any]]) -> list[Any]:
        return self.rnd.choice(rows[-4:])

    def unary(self, rows: list[list[Any]], depth: int) -> list[Any]:
        name = self.rnd.choice(Generator.UNARY)
        return [self.b.op(name, v) for v in self.pick(rows)]

    def binary(self, rows: list[list[Any]], depth: int) -> list[Any]:
        name = self.rnd.choice(Generator.BINARY)
        if self.rnd.random() < 0.2:
            return [self.b.op(name, v, 0.75) for v in self.pick(rows)]
        pairs = zip(self.pick(rows), self.pick(rows), strict=True)
        return [self.b.op(name, v, w) for v, w in pairs]

    def mixed(self, rows: list[list[Any]], depth: int) -> list[Any]:
        """One lane goes another way, or lanes change places."""
        row = list(self.pick(rows))
        if self.rnd.random() < 0.5:
            self.rnd.shuffle(row)
            return row
        k = self.rnd.randrange(self.n)
        row[k] = self.b.op(self.rnd.choice(("neg", "tanh")), row[k])
        return row

    def memory(self, rows: list[list[Any]], depth: int) -> list[Any] | None:
        if self.rnd.random() < 0.5:
            for k, value in enumerate(self.pick(rows)):
                self.b.store(self.scratch, (k,), value)
            return None
        return [self.b.load(self.scratch, k) for k in range(self.n)]

    def select(self, rows: list[list[Any]], depth: int) -> list[Any]:
        triples = zip(self.pick(rows), self.pick(rows), self.pick(rows), strict=True)
        return [self.b.select(self.b.op("lt", p, q), q, r) for p, q, r in triples]

    def matrix(self, rows: list[list[Any]], depth: int) -> list[Any]:
        b, row = self.b, self.pick(rows)
        out = []
        for _ in range(self.n):
            total = b.op("mul", row[0], b.load(self.w, self.rnd.randrange(16)), attr="contract")
            for value in row[1:]:
                term = b.op("mul", value, b.load(self.w, self.rnd.randrange(16)), attr="contract")
                total = b.op("add", total, term, attr="contract")
            out.append(total)
        return out

    def branch(self, rows: list[list[Any]], depth: int) -> list[Any]:
        def side() -> list[Any]:
            inner = list(rows)
            self.statements(inner, depth - 1)
            return inner[-1]

        first, second = self.pick(rows)[0], self.pick(rows)[-1]
        return self.b.if_(self.b.op("lt", first, second), side, side)

    def inner(self, rows: list[list[Any]], depth: int) -> list[Any]:
        def step(j: Any, *state: Any) -> list[Any]:
            within = [*rows, list(state)]
            self.statements(within, depth - 1)
            return within[-1]

        return self.b.loop(0, 3, step, self.pick(rows))


SEEDS = range(60)


def runs(seed: int, compiled: Callable, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    machine = engine.get_engine()
    one = Target(8, fma=machine.target.fma, half=machine.target.half, masks=False)
    found = {"packs": compiled(Generator(seed).build(), effort=1 + seed % 2)}
    monkeypatch.setattr(engine, "split", lambda f, t, fine: split(f, t, limit=40, fine=fine))
    found["packs in pieces"] = compiled(Generator(seed).build())
    monkeypatch.undo()
    monkeypatch.setattr(machine, "target", one)
    found["one by one"] = compiled(Generator(seed).build())
    monkeypatch.undo()
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_packs_change_no_bit(seed, compiled, monkeypatch):
    generator = Generator(seed)
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 3, (STEPS, generator.n)).astype(generator.dtype)
    w = rng.normal(0, 1, 16).astype(generator.dtype)
    results = {name: run(x, w) for name, run in runs(seed, compiled, monkeypatch).items()}
    for name, arrays in results.items():
        for found, wanted in zip(arrays, results["one by one"], strict=True):
            np.testing.assert_array_equal(found, wanted, err_msg=name)


def test_random_functions_have_packs():
    counts = {"packed": 0, "branches": 0, "loops": 0}
    for seed in SEEDS:
        function = Generator(seed).build()
        for buffer in function.buffers:
            if buffer.space == WORKSPACE:
                buffer.offset = 0
        text = emit.emit(function, WIDE).text
        entry = text[: text.index("\n}")]
        counts["packed"] += VECTOR_CALL.search(entry) is not None
        items = list(walk(function.body))
        counts["branches"] += any(isinstance(i, If) for i in items)
        counts["loops"] += sum(isinstance(i, For | While) for i in items) > 1
    assert counts["packed"] >= 40, counts
    assert counts["branches"] >= 10, counts
    assert counts["loops"] >= 10, counts


@pytest.mark.parametrize("cpu", [None, "x86-64-v2"], ids=str)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("op", ["tanh", "exp", "sin", "log", "erf", "lgamma", "pow"])
def test_vector_functions_are_called(op, dtype, cpu, compiled):
    """Both ways give the same bits, hard arguments among easy ones included."""

    def step(b: Builder, y: list[Any]) -> list[Any]:
        operands = [y, y[1:] + y[:1]] if op == "pow" else [y]
        raised = [b.op(op, *args) for args in zip(*operands, strict=True)]
        return [b.op("add", b.op("mul", v, 0.25), u) for v, u in zip(raised, y, strict=True)]

    x = np.array([0.5, 1e5, 3.25, 1e9, 7.0], dtype)
    packed = compiled(scan(step, 5, dtype), cpu=cpu)
    (found,) = packed(x)
    called = VECTOR_CALL.search(packed.code.llvm_text)
    assert called is not None
    assert called.group(1) == op
    alone = Builder("entry")
    # Five loops of one lane each do not see each other, but for pow.
    source, target = alone.argument(dtype, (5,)), alone.result(dtype, (5,))
    if op == "pow":
        return
    for k in range(5):
        (value,) = alone.loop(0, STEPS, lambda i, v: step(alone, [v]), [alone.load(source, k)])
        alone.store(target, (k,), value)
    np.testing.assert_array_equal(found, compiled(alone.finish(), cpu=cpu)(x)[0])


def test_parts_of_complex_numbers(compiled):
    b = Builder("entry")
    x, y = b.argument(C64, (3,)), b.result(C64, (3,))

    def step(i: Any, *state: Any) -> list[Any]:
        return [b.op("mul", b.op("exp", v), b.const(0.1 + 0.2j, C64)) for v in state]

    for k, value in enumerate(b.loop(0, STEPS, step, [b.load(x, k) for k in range(3)])):
        b.store(y, (k,), value)
    run = compiled(b.finish())
    assert {m[0] for m in VECTOR_CALL.findall(run.code.llvm_text)} >= {"sin", "cos", "exp"}
    start = np.array([0.3 + 1j, -1 + 0.5j, 2j], C64)
    expected = start.astype(np.complex128)
    for _ in range(STEPS):
        expected = np.exp(expected) * (0.1 + 0.2j)
    np.testing.assert_allclose(run(start)[0], expected, rtol=1e-5)


def test_a_while_loop_reads_its_condition_from_a_pack(compiled):
    b = Builder("entry")
    x, y = b.argument(F32, (4,)), b.result(F32, (4,))

    def step(*state: Any) -> list[Any]:
        return [b.op("add", b.op("exp", b.op("neg", v)), v) for v in state]

    last = b.while_(
        lambda *state: b.op("lt", state[2], 3.0), step, [b.load(x, k) for k in range(4)]
    )
    for k, value in enumerate(last):
        b.store(y, (k,), value)
    run = compiled(b.finish())
    assert "@cv.exp.v4f32" in run.code.llvm_text
    start = np.array([1, 2, 0.5, 3], np.float32)
    expected = start.astype(np.float64)
    while expected[2] < 3:
        expected += np.exp(-expected)
    np.testing.assert_allclose(run(start)[0], expected, rtol=1e-5)
