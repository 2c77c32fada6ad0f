"""Random functions give the same bits in lanes, one by one, whole and in pieces."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from covector.backends.native import engine
from covector.backends.native.emit import segments
from covector.backends.native.emit_ops import Target
from covector.backends.native.split import split
from covector.loopir.builder import Builder
from covector.loopir.ir import SIMD, Function

F32, I32, I64, BOOL = (np.dtype(t) for t in ("f4", "i4", "i8", "?"))
N = 43


class Generator:
    """Builds a random loop over independent elements."""

    def __init__(self, seed: int) -> None:
        self.rnd = random.Random(seed)
        self.b = Builder("entry")
        self.x = self.b.argument(F32, (N, 3))
        self.k = self.b.argument(I32, (N,))
        self.y = self.b.result(F32, (N, 2))
        self.z = self.b.result(I32, (N,))
        self.scratch = self.b.buffer(F32, (N, 2))

    def build(self) -> Function:
        self.b.loop(0, N, self.body, kind=SIMD)
        return self.b.finish()

    def body(self, i: Any) -> None:
        b = self.b
        floats = [b.load(self.x, i, c) for c in range(3)]
        floats.append(b.convert(i, F32))
        integers = [b.load(self.k, i), b.convert(b.op("mul", i, 3), I32)]
        for c in range(2):
            b.store(self.scratch, (i, c), floats[c])
        floats, integers = self.statements(i, floats, integers, depth=2)
        for c in range(2):
            b.store(self.y, (i, c), floats[-1 - c])
        b.store(self.z, (i,), integers[-1])

    def statements(self, i: Any, floats: list[Any], integers: list[Any], depth: int) -> Any:
        floats, integers = list(floats), list(integers)
        for _ in range(self.rnd.randrange(3, 9)):
            kinds = ["float", "float", "integer", "memory"]
            if depth:
                kinds += ["if", "for", "while"]
            getattr(self, "add_" + self.rnd.choice(kinds))(i, floats, integers, depth)
        return floats, integers

    def pick(self, values: list[Any]) -> Any:
        return self.rnd.choice(values[-6:])

    def condition(self, floats: list[Any], integers: list[Any]) -> Any:
        if self.rnd.random() < 0.5:
            return self.b.op("lt", self.pick(floats), self.pick(floats))
        return self.b.op("gt", self.b.op("and", self.pick(integers), 7), self.rnd.randrange(8))

    def add_float(self, i: Any, floats: list[Any], integers: list[Any], depth: int) -> None:
        b, rnd = self.b, self.rnd
        name = rnd.choice(["add", "sub", "mul", "min", "max", "select", "convert", "floor", "sqrt"])
        if name == "select":
            v = b.select(self.condition(floats, integers), self.pick(floats), self.pick(floats))
        elif name == "convert":
            v = b.convert(b.op("and", self.pick(integers), 1023), F32)
        elif name in ("floor", "sqrt"):
            v = b.op(name, b.op("abs", self.pick(floats)))
        else:
            v = b.op(name, self.pick(floats), self.pick(floats))
        floats.append(b.op("clamp", b.const(-1e3, F32), v, b.const(1e3, F32)))

    def add_integer(self, i: Any, floats: list[Any], integers: list[Any], depth: int) -> None:
        b, rnd = self.b, self.rnd
        name = rnd.choice(["add", "mul", "xor", "div", "rem", "shl", "shr_logical", "convert"])
        if name == "convert":
            integers.append(b.convert(self.pick(floats), I32))
        else:
            integers.append(b.op(name, self.pick(integers), self.pick(integers)))

    def add_memory(self, i: Any, floats: list[Any], integers: list[Any], depth: int) -> None:
        place = self.rnd.randrange(2)
        if self.rnd.random() < 0.5:
            self.b.store(self.scratch, (i, place), self.pick(floats))
        elif self.rnd.random() < 0.5:
            floats.append(self.b.load(self.scratch, i, place))
        else:
            row = self.b.op(
                "index_rem", self.b.convert(self.b.op("and", self.pick(integers), 255), I64), N
            )
            floats.append(self.b.load(self.x, row, self.rnd.randrange(3)))

    def add_if(self, i: Any, floats: list[Any], integers: list[Any], depth: int) -> None:
        def side() -> list[Any]:
            f, k = self.statements(i, floats, integers, depth - 1)
            return [f[-1], k[-1]]

        predicate = self.condition(floats, integers)
        if self.rnd.random() < 0.2:
            predicate = self.b.op("lt", self.b.load(self.k, 0), 5)
        f, k = self.b.if_(predicate, side, side)
        floats.append(f)
        integers.append(k)

    def add_for(self, i: Any, floats: list[Any], integers: list[Any], depth: int) -> None:
        def body(j: Any, f: Any, k: Any) -> list[Any]:
            fs, ks = self.statements(
                i, [*floats, f], [*integers, k, self.b.convert(j, I32)], depth - 1
            )
            return [fs[-1], ks[-1]]

        f, k = self.b.loop(0, self.rnd.randrange(2, 5), body, [floats[-1], integers[-1]])
        floats.append(f)
        integers.append(k)

    def add_while(self, i: Any, floats: list[Any], integers: list[Any], depth: int) -> None:
        limit = self.b.op("and", self.pick(integers), 3)

        def body(f: Any, k: Any) -> list[Any]:
            fs, _ = self.statements(i, [*floats, f], [*integers, k], depth - 1)
            return [fs[-1], self.b.op("add", k, 1)]

        f, k = self.b.while_(
            lambda f, k: self.b.op("lt", k, limit), body, [floats[-1], self.b.const(0, I32)]
        )
        floats.append(f)
        integers.append(k)


def variants(seed: int, compiled: Callable, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    machine = engine.get_engine()
    one = Target(8, fma=machine.target.fma, half=machine.target.half, masks=False)
    runs = {"lanes": compiled(Generator(seed).build())}
    runs["avx2"] = compiled(Generator(seed).build(), cpu="x86-64-v2")
    monkeypatch.setattr(machine, "target", one)
    runs["one by one"] = compiled(Generator(seed).build(), effort=seed % 4)
    monkeypatch.setattr(engine, "split", lambda f, t, fine: split(f, t, limit=12, fine=fine))
    runs["pieces"] = compiled(Generator(seed).build())
    assert segments(runs["pieces"].function)
    monkeypatch.undo()
    return runs


@pytest.mark.parametrize("seed", range(40))
def test_variants_agree(seed, compiled, monkeypatch):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 10, (N, 3)).astype(np.float32)
    k = rng.integers(-100, 100, N, np.int32)
    results = {name: run(x, k) for name, run in variants(seed, compiled, monkeypatch).items()}
    for name, arrays in results.items():
        for found, wanted in zip(arrays, results["one by one"], strict=True):
            np.testing.assert_array_equal(found, wanted, err_msg=name)
