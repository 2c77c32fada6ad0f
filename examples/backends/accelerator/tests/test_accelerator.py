"""The accelerator: the same results as the interpreter, and numbers that can be checked by hand."""

from __future__ import annotations

import gc
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.extend.backends import get_backend, register_backend
from covector.testing import conformance
from covector_accelerator import Accelerator, Machine, measuring, parse, report

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 80)).astype(np.float32)
W = (RNG.normal(size=(80, 130)) / 9).astype(np.float32)
B = RNG.normal(size=130).astype(np.float32)


def layer(x: Any, w: Any, b: Any) -> Any:
    return cnp.tanh(x @ w + b)


def on(function: Any, *args: Any, backend: str = "eager") -> Any:
    """The result on the accelerator, which is that of the interpreter."""
    found = cv.jit(function, backend=backend)(*args)
    wanted = cv.jit(function, backend="reference")(*args)
    for a, b in zip(cv.tree.leaves(found), cv.tree.leaves(wanted), strict=True):
        exact = np.asarray(b).dtype.kind in "iub"
        close = 2e-2 if np.asarray(b).dtype.itemsize == 2 else 1e-4
        tolerance = {} if exact else {"rtol": close, "atol": close}
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), **tolerance)
    return found


def parts(function: Any, *args: Any, backend: str = "eager") -> dict[str, Any]:
    return cv.jit(function, backend=backend).lower(*args).compile().cost_analysis()["parts"]


def code(function: Any, *args: Any, backend: str = "eager") -> list[str]:
    """The instructions of all parts."""
    text = cv.jit(function, backend=backend).lower(*args).compile().as_text("device")
    return [line for line in text.splitlines() if line and "bytes to the device" not in line]


# --- conformance ----------------------------------------------------------------------------------

FAMILIES = ["loops", "while", "branches", "nested", "vmap", "grad", "scan gradients"]


@pytest.mark.parametrize(
    ("backend", "families"), [("eager", FAMILIES), ("accelerator", ["vmap", "grad"])]
)
def test_programs(backend: str, families: list[str]) -> None:
    conforming = conformance(backend, families)
    assert conforming.ok, str(conforming)
    assert not conforming.missing


def test_products_of_all_kinds() -> None:
    conforming = conformance("eager", ["contract"])
    assert conforming.ok, str(conforming)


SOME = """
    add sub mul div neg abs max min exp log sqrt rsqrt tanh logistic square integer_pow_3 clamp
    select_n eq lt ge and not
"""


def test_elementwise_operations_at_all_dtypes() -> None:
    conforming = conformance("eager", ["elementwise"], only=lambda name: name in SOME.split())
    assert conforming.ok, str(conforming)
    assert len(conforming.cases) > 60


def test_random_programs() -> None:
    conforming = conformance("eager", ["random programs"], programs=6)
    assert conforming.ok, str(conforming)


# --- what runs there ------------------------------------------------------------------------------


def test_a_layer_is_one_part_and_one_pass() -> None:
    """The sum stays in the scratchpad until it is through: one store for each tile."""
    on(layer, X, W, B)
    assert len(parts(layer, X, W, B)) == 1
    text = code(layer, X, W, B)
    assert sum(line.startswith("store") for line in text) == 2 * 3
    assert not any(line.startswith("move") for line in text)


def test_the_rest_is_left_to_the_base() -> None:
    def f(x: Any, w: Any) -> Any:
        y = cnp.sort(x @ w, axis=0)
        return cnp.exp(y - y.max()), cnp.arange(5).sum()

    on(f, X, W)
    assert len(parts(f, X, W)) == 2


def test_derivatives_and_batches() -> None:
    def loss(w: Any, b: Any) -> Any:
        return cnp.mean(layer(X, w, b) ** 2)

    on(cv.grad(loss, (0, 1)), W, B)
    on(cv.vmap(layer, (0, None, None)), np.stack([X, -X]), W, B)
    on(cv.vmap(layer, (0, 0, None)), np.stack([X, -X]), np.stack([W, W]), B)
    on(lambda w, b, t: cv.jvp(loss, (w, b), (t, b)), W, B, W)
    text = "\n".join(code(cv.grad(loss), W, B))
    assert "(1, 80)" in text  # x transposed is x read with other strides


def test_loops_and_branches() -> None:
    def f(x: Any, w: Any) -> Any:
        def step(h: Any, row: Any) -> Any:
            h = lax.cond(row[0] > 0, lambda: cnp.tanh(h @ w + row), lambda: h * 0.5)
            return h, h.sum()

        return lax.scan(step, cnp.zeros(80), x)

    square = W[:, :80]
    on(f, X, square)
    found = report(cv.jit(f, backend="eager"), X, square, backend="eager")
    assert found.counters.runs >= 100


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x.T @ x)[3:50:7, ::2] * 2,
        lambda x: cnp.einsum("ij,kj->ki", x, x[5:9]),
        lambda x: cnp.einsum("abc,dbe->adce", x.reshape(10, 10, 80), x.reshape(20, 10, 40)),
        lambda x: cnp.einsum("bij,bkj->bik", x.reshape(5, 20, 80), x.reshape(5, 20, 80)),
        lambda x: x[:, :100:2].T.reshape(40, 10, 10).transpose(2, 0, 1) + 1,
        lambda x: x * 2 + (x * 2)[::-1],
        lambda x: (lambda y: y[:80].T * 3 + y[:80])(x + 1),
        lambda x: cnp.where(x > 0, x, 0.1 * x) ** -3,
        lambda x: x[0] @ x[1] + x[2, 3],
        lambda x: cnp.broadcast_to(x[:, None, :1], (100, 3, 7)) * x[:7, 0],
        lambda x: (x, x.T, cnp.full((3, 4), 2.0) @ x[:4]),
        lambda x: cnp.clip(x, -0.5, x[0, 0]) / 3,
        lambda x: lax.reciprocal(cnp.abs(x.reshape(-1)) + 1),
    ],
)
def test_reindexing(function: Any) -> None:
    on(function, X)


def test_narrow_types() -> None:
    half = X.astype(cnp.bfloat16)
    on(lambda x, w: cnp.tanh(x @ w * 0.5), half, W.astype(cnp.bfloat16))
    a, b = (RNG.integers(-128, 128, size).astype(np.int8) for size in ((70, 90), (90, 65)))

    def quantised(a: Any, b: Any) -> Any:
        numbers = (((1,), (0,)), ((), ()))
        y = lax.dot_general(a, b, numbers, preferred_element_type=np.int32)
        return y, y.astype(np.float32) * 0.01

    on(quantised, a, b)
    assert any(line.startswith("accumulate.i32") for line in code(quantised, a, b))
    (part,) = parts(quantised, a, b).values()
    (wide,) = parts(
        lambda a, b: (a @ b) * 0.01, a.astype(np.float32), b.astype(np.float32)
    ).values()
    assert part["macs"] == wide["macs"]
    assert part["picojoules"] < wide["picojoules"]


def test_machines_of_any_size() -> None:
    for rows, columns, accumulators in ((8, 16, 1), (128, 32, 4)):
        name = f"array{rows}x{columns}"
        machine = Machine(rows=rows, columns=columns, accumulators=accumulators)
        register_backend(name, lambda m=machine, n=name: Accelerator(m, name=n, least_work=1))
        on(layer, X, W, B, backend=name)
        on(cv.grad(lambda w: layer(X, w, B).sum()), W, backend=name)
    with pytest.raises(ValueError, match="at least 40 slots"):
        Machine(slots=20)


# --- what it takes --------------------------------------------------------------------------------


def test_counters_are_what_the_operations_say() -> None:
    found = report(cv.jit(layer, backend="accelerator"), X, W, B)
    c = found.counters
    assert c.runs == 1
    assert c.macs == 100 * 80 * 130
    assert c.vector_elements == 2 * 100 * 130
    assert c.link_in == 4 * (X.size + W.size + B.size)
    assert c.link_out == c.dram_written == 4 * 100 * 130
    # Rows are read once for each column of tiles, weights once, the bias for each row of tiles.
    assert c.dram_read == 4 * (3 * X.size + W.size + 2 * B.size)
    assert c.energy["array"] == pytest.approx(c.macs * 4.6)
    assert found.joules == pytest.approx(1e-12 * sum(c.energy.values()))
    assert 0 < found.utilisation < c.macs / (c.cycles * 64 * 64) < 1
    np.testing.assert_allclose(found.result, layer(X, W, B), rtol=1e-4, atol=1e-5)
    assert "utilisation" in str(found)


def test_one_tile_takes_what_the_manual_says() -> None:
    """Load 16 x 16, take weights, multiply, store: each waits for the one before."""
    machine = Machine(rows=16, columns=16, dram_bytes_per_cycle=64, dram_latency=10)
    register_backend("small", lambda: Accelerator(machine, name="small"))
    (part,) = parts(lambda x, w: x @ w, X[:16, :16], W[:16, :16], backend="small").values()
    load = 16 * 16 * 4 // 64
    # The tile of rows is loaded while the array takes the weights.
    waits = max(load + 10 + 16, 2 * load + 10)
    assert part["cycles"] == waits + 16 + (16 + 16) + load + 10
    assert part["instructions"] == 5


def test_engines_work_at_the_same_time() -> None:
    x = np.ones((640, 64), np.float32)
    (part,) = parts(lambda v: v * 2 + 1, x).values()
    alone = 10 * (4 * 4096 // 64 * 2 + 2 * 64)
    assert part["cycles"] < 0.75 * alone


def test_larger_arrays_take_fewer_cycles_and_are_used_less() -> None:
    found = {}
    for n in (16, 64):
        machine = Machine(rows=n, columns=n, dram_bytes_per_cycle=1024)
        register_backend(f"n{n}", lambda m=machine, n=n: Accelerator(m, name=f"n{n}"))
        found[n] = next(iter(parts(lambda x, w: x @ w, X, W, backend=f"n{n}").values()))
    assert found[64]["cycles"] < found[16]["cycles"]
    assert found[64]["utilisation"] < found[16]["utilisation"]


def test_reports_add_up_and_stand_alone() -> None:
    f = cv.jit(layer, backend="accelerator")
    with measuring() as outer:
        one = report(f, X, W, B)
        two = report(f, X, W, B)
    assert one.counters == two.counters
    assert outer.counters.macs == 2 * one.counters.macs
    assert report(cv.jit(lambda x: x + 1), X).counters.runs == 0
    with pytest.raises(TypeError, match="'native' is no Accelerator"):
        report(f, X, W, B, backend="native")


# --- memory ---------------------------------------------------------------------------------------


def test_placed_weights_are_moved_once() -> None:
    (chip,) = cv.devices("accelerator")
    assert [m.kind for m in chip.addressable_memories()] == ["dram", "scratchpad"]
    weights = cv.device_put((W, B), chip)
    f = cv.jit(layer, backend="accelerator")
    found = report(f, X, *weights)
    assert found.counters.link_in == X.nbytes
    np.testing.assert_allclose(found.result, layer(X, W, B), rtol=1e-4, atol=1e-5)


def test_memory_is_given_back() -> None:
    backend = get_backend("eager")
    assert isinstance(backend, Accelerator)
    f = cv.jit(lambda x, w: cnp.tanh(x @ w) + cnp.ones((100, 130)), backend="eager")
    f(X, W)
    gc.collect()
    before = backend.chip.used_bytes
    for _ in range(3):
        f(X, W)
    gc.collect()
    assert backend.chip.used_bytes == before
    placed = cv.device_put(X, backend.chip)
    assert backend.chip.used_bytes == before + X.nbytes
    del placed
    assert backend.chip.used_bytes == before


def test_a_program_that_does_not_fit_says_so() -> None:
    machine = Machine(dram_bytes=50_000)
    register_backend("tiny", lambda: Accelerator(machine, name="tiny"))
    f = cv.jit(layer, backend="tiny")
    with pytest.raises(MemoryError, match=r"TinyDevice\(id=0\) has .* left") as e:
        f(X, W, B)
    assert "test_accelerator.py" in "".join(e.value.__notes__)
    np.testing.assert_allclose(f(X[:2, :4], W[:4, :8], B[:8]), layer(X[:2, :4], W[:4, :8], B[:8]),
                               rtol=1e-4)  # fmt: skip


# --- the README -----------------------------------------------------------------------------------


def test_the_readme_says_what_happens(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(block, "README.md", "exec"), names)
    (shown,) = re.findall(r"^```\n(parts run.*?)\n\.\.\.", text, re.MULTILINE | re.DOTALL)
    assert capsys.readouterr().out.startswith(shown)


# --- assembly language ----------------------------------------------------------------------------


def test_code_reads_back() -> None:
    def f(x: Any, w: Any, b: Any) -> Any:
        y = cnp.where(x @ w > b, 0.1, x @ w / 3)
        return y.T[::2] * cnp.inf, cnp.einsum("abc,dbe->adce", x.reshape(10, 10, 80),
                                              x.reshape(20, 10, 40))  # fmt: skip

    text = code(f, X, W, B)
    assert [str(i) for i in parse("\n".join(text))] == text
    kinds = {line.split()[0].partition(".")[0] for line in text}
    assert kinds >= {"load", "store", "move", "weights", "matmul", "accumulate", "gt", "select"}


def test_what_is_no_instruction_is_named() -> None:
    with pytest.raises(ValueError, match="line 2 is no instruction: jump s1"):
        parse("weights s1\njump s1")
