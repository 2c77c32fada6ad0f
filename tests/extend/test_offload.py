"""Parts of programs on devices: what goes there, what is moved, and what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import extend, lax
from covector.core import backend as registry
from covector.core.interpret import run
from covector.extend import backends

F32 = np.float32
MOVES = frozenset(("broadcast_in_dim", "transpose"))
CHAIN = MOVES | frozenset(("dot_general", "mul", "add", "tanh"))


class OnDevice:
    """A buffer: nothing but a device can read it."""

    def __init__(self, data: Any) -> None:
        self.data = data


class Memory(backends.Device):
    """A device whose buffers cannot be mistaken for arrays."""

    def put(self, data: Any) -> OnDevice:
        if data.size > 10_000:
            raise MemoryError(f"no room for {data.nbytes} bytes")
        return OnDevice(np.array(data))

    def get(self, buffer: Any) -> Any:
        assert type(buffer) is OnDevice
        return buffer.data


class Part:
    def __init__(self, program: backends.Program) -> None:
        self.program = program

    def __call__(self, *buffers: Any) -> Sequence[Any]:
        assert all(type(b) is OnDevice for b in buffers)
        return [OnDevice(x) for x in run(self.program, *[b.data for b in buffers])]

    def as_text(self, stage: str = "") -> str:
        return f"code of {len(self.program.equations)} operations"

    def cost(self) -> dict[str, Any]:
        return {"cycles": 10}


class Board:
    """Runs some operations on a device."""

    def __init__(self, claims: frozenset[str] = CHAIN, base: str = "native") -> None:
        self.name = "board"
        self.devices: Any = (Memory("board"),)
        self.base = base
        self._claims = claims

    def claims(self, equation: backends.Equation) -> bool:
        on_floats = all(v.aval.dtype == F32 for v in equation.outputs)
        return on_floats and equation.primitive.name in self._claims

    def is_worthwhile(self, program: backends.Program) -> bool:
        return any(e.primitive.name not in MOVES for e in program.equations)

    def compile_part(self, program: backends.Program, options: backends.Options) -> Part:
        return Part(program)

    def compile(self, program: backends.Program, options: backends.Options) -> backends.Offloaded:
        return backends.offload(program, options, self, self.base)


@pytest.fixture(autouse=True)
def _backends() -> Iterator[None]:
    tables: Any = (registry._factories, registry._backends)
    before = [dict(table) for table in tables]
    board = Board()
    backends.register_backend("board", lambda: board)
    yield
    registry.clear_cache()
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)


def compiled(function: Any, *args: Any, backend: str = "board") -> Any:
    return cv.jit(function, backend=backend).lower(*args).compile()


def parts(function: Any, *args: Any) -> list[list[str]]:
    executable = compiled(function, *args)._executable
    return [[e.primitive.name for e in p.program.equations] for p in executable.parts]


def moved(made: Any) -> backends.Transfers:
    """All that the last call moved."""
    total = backends.Transfers()
    for part in made.cost_analysis()["parts"].values():
        total.add(part["last call"])
    return total


def same(function: Any, *args: Any) -> None:
    found = cv.tree.leaves(cv.jit(function, backend="board")(*args))
    wanted = cv.tree.leaves(cv.jit(function, backend="reference")(*args))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


X = np.random.default_rng(0).normal(size=(8, 8)).astype(F32)
Y = np.random.default_rng(1).normal(size=(8, 8)).astype(F32)


def layer(x: Any, y: Any) -> Any:
    return cnp.tanh(x @ y * 2 + y)


# --- groups ---------------------------------------------------------------------------------------


def test_a_chain_is_one_part() -> None:
    assert parts(layer, X, Y) == [["dot_general", "mul", "add", "tanh"]]
    same(layer, X, Y)


def test_host_and_device_take_turns_as_seldom_as_possible() -> None:
    def f(x: Any, y: Any) -> Any:
        a = cnp.tanh(x @ y)
        b = cnp.sin(a)  # the host's
        c = a + y  # waits for nothing of the host's
        return c * b, cnp.cos(x) @ y  # cos is there before the first turn of the device

    found = parts(f, X, Y)
    assert [sorted(p) for p in found] == [["add", "dot_general", "dot_general", "tanh"], ["mul"]]
    same(f, X, Y)


def test_a_part_never_waits_for_itself() -> None:
    def f(x: Any) -> Any:
        a = cnp.tanh(x)
        return cnp.sin(a) + a, a * 2

    assert sorted(len(p) for p in parts(f, X)) == [1, 2]
    same(f, X)


def test_operations_of_users_may_be_claimed() -> None:
    @extend.decomposition(name="offload_gelu", elementwise=True)
    def gelu(x: Any) -> Any:
        return x * cnp.tanh(x)

    def f(x: Any) -> Any:
        return gelu(x @ x)

    assert parts(f, X) == [["dot_general", "tanh", "mul"]]
    board = Board(CHAIN | {"offload_gelu"})
    backends.register_backend("board", lambda: board)
    registry.clear_cache()
    assert parts(f, X) == [["dot_general", "offload_gelu"]]
    same(f, X)


def test_parts_that_share_nothing_are_apart() -> None:
    assert parts(lambda x, y: (cnp.tanh(x), cnp.tanh(y)), X, Y) == [["tanh"], ["tanh"]]


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs_keep_their_meaning(seed: int) -> None:
    def f(x: Any, y: Any) -> Any:
        rng = np.random.default_rng(seed)
        known = [x, y]
        for _ in range(25):
            a, b = (known[k] for k in rng.integers(len(known), size=2))
            made = [a * 0.5 + b, cnp.tanh(a), cnp.sin(b), a - b, cnp.cos(a) * b]
            known.append(made[rng.integers(len(made))])
        return known[2::3]

    same(f, X, Y)


def test_what_is_not_worthwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Board, "is_worthwhile", lambda s, p: len(p.equations) > 1)
    assert parts(lambda x, y: (cnp.tanh(x), cnp.sin(x) @ y + 1), X, Y) == [["dot_general", "add"]]


def test_effects_keep_their_order(capfd: pytest.CaptureFixture[str]) -> None:
    def f(x: Any) -> Any:
        cv.debug.print("one {}", cnp.tanh(x)[0, 0], ordered=True)
        cv.debug.print("two", ordered=True)
        return x * 2

    cv.jit(f, backend="board")(X)
    assert [line.split()[0] for line in capfd.readouterr().out.splitlines()] == ["one", "two"]


# --- loops, branches, transformations -------------------------------------------------------------


def recurrent(x: Any, y: Any) -> Any:
    def step(h: Any, v: Any) -> Any:
        h = cnp.tanh(h @ y + v)
        return h, cnp.sin(h)

    return lax.scan(step, cnp.zeros(8), x)


def test_parts_in_loops() -> None:
    made = compiled(recurrent, X, Y)
    (part,) = made._executable.parts
    assert part.path == ("scan",)
    made(X, Y)
    total = moved(made)
    assert total.runs == 8
    assert total.uploads == 1 + 2 * 8  # y once, since it is an argument
    assert total.resident == 7
    assert total.downloads == 8
    assert total.downloaded_bytes == 8 * 32
    same(recurrent, X, Y)


def test_parts_in_branches() -> None:
    def f(x: Any, y: Any, n: Any) -> Any:
        a = lax.cond(n > 0, lambda: x @ y, lambda: cnp.sin(x))
        return lax.while_loop(lambda s: s[1] < n, lambda s: (cnp.tanh(s[0] @ y), s[1] + 1), (a, 0))

    for n in (3, 0):
        same(f, X, Y, n)
    made = compiled(f, X, Y, 3)
    made(X, Y, np.int32(3))
    assert moved(made).runs == 4
    made(X, Y, np.int32(0))
    assert moved(made).runs == 0


def test_invariant_products_leave_loops() -> None:
    def f(x: Any, y: Any) -> Any:
        return lax.fori_loop(0, 5, lambda i, h: cnp.sin(h + x @ y), x)

    made = compiled(f, X, Y)
    made(X, Y)
    assert [p.path for p in made._executable.parts if "dot_general" in p.summary()] == [()]
    same(f, X, Y)


def test_derivatives_and_batches() -> None:
    def loss(x: Any, y: Any) -> Any:
        return cnp.sum(recurrent(x, y)[1] ** 2)

    same(cv.grad(loss, (0, 1)), X, Y)
    same(cv.vmap(layer, (0, None)), np.stack([X, Y]), Y)
    same(cv.jacfwd(lambda x: layer(x, Y)[0]), X)
    same(cv.vmap(cv.grad(loss), (0, None)), np.stack([X, Y]), Y)


def test_the_setting_offloads_everything_jitted() -> None:
    with cv.config.override("backend", "board"):
        assert "board.0" in cv.jit(layer).lower(X, Y).compile().as_text()


def test_sizes_at_run_time_stay_with_the_host() -> None:
    from covector.core.dims import symbol

    shape = cv.ShapeDtypeStruct((symbol("n"), 3), F32)
    program = cv.make_program(cnp.tanh)(shape)
    made = registry.get_backend("board").compile(program, backends.Options())
    assert not getattr(made, "parts", None)
    x = np.ones((5, 3), F32)
    np.testing.assert_allclose(made(x)[0], np.tanh(x), rtol=1e-6)


# --- other backends beneath -----------------------------------------------------------------------


def test_the_reference_backend_may_do_the_rest() -> None:
    backends.register_backend("board", lambda: Board(base="reference"))
    made = compiled(recurrent, X, Y)
    made(X, Y)
    assert moved(made).runs == 8
    same(recurrent, X, Y)


def test_two_devices_share_a_program() -> None:
    class Sines(Board):
        def __init__(self) -> None:
            super().__init__(frozenset({"sin"}))
            self.name = "sines"
            self.devices = (Memory("sines"),)

    backends.register_backend("sines", Sines)
    backends.register_backend("board", lambda: Board(base="sines"))
    made = compiled(recurrent, X, Y)
    made(X, Y)
    outer = made._executable
    assert [p.name for p in outer.parts] == ["sines.0"] or outer.parts[0].name == "board.0"
    assert {p.name for p in (*outer.parts, *outer._executable.parts)} == {"board.0", "sines.0"}
    assert [t.runs for t in outer.transfers.values()] == [8]
    assert [t.runs for t in outer._executable.transfers.values()] == [8]
    same(recurrent, X, Y)


def test_the_rest_needs_a_backend_that_calls_python() -> None:
    class NoCallbacks:
        name = "closed"

        def compile(self, program: Any, options: Any) -> Any:
            none = backends.Capabilities(callbacks=False)
            backends.lower(program, backend="closed", capabilities=none)

    backends.register_backend("closed", NoCallbacks)
    backends.register_backend("board", lambda: Board(base="closed"))
    with pytest.raises(backends.MissingCapabilityError, match=r"(?s)callbacks.*offload.*test_off"):
        cv.jit(layer, backend="board")(X, Y)


# --- devices --------------------------------------------------------------------------------------


def test_placed_arrays_are_not_moved_again() -> None:
    (device,) = cv.devices("board")
    y = cv.device_put(Y, device)
    assert y.device is device
    assert y.devices() == {device}
    np.testing.assert_array_equal(y, Y)
    made = compiled(layer, X, y)
    made(X, y)
    total = moved(made)
    assert (total.uploads, total.uploaded_bytes, total.resident) == (1, 256, 1)
    result = made(X, y)
    assert result.device is cv.devices()[0]
    np.testing.assert_allclose(result, np.tanh(X @ Y * 2 + Y), rtol=1e-5, atol=1e-6)


def test_placed_arrays_are_arrays() -> None:
    (device,) = cv.devices("board")
    y = cv.device_put({"w": Y}, device)["w"]
    assert isinstance(y, cv.Array)
    np.testing.assert_allclose(y + 1, Y + 1)
    np.testing.assert_allclose(cv.jit(lambda v: v * 2)(y), Y * 2)
    np.testing.assert_allclose(cv.grad(lambda v: cnp.sum(v * v))(y), 2 * Y)
    assert cv.device_put(y) is y
    assert cv.device_put(y, device) is y
    assert cv.device_put(y, cv.devices()[0]).device is cv.devices("cpu")[0]
    weak = cv.device_put(2.0, device)
    assert weak.weak_type
    assert (weak + cnp.ones(2, np.float16)).dtype == np.float16


def test_devices_are_listed() -> None:
    assert repr(cv.devices("board")) == "[BoardDevice(id=0)]"
    assert cv.device_count("board") == 1
    assert cv.devices("board")[0].default_memory().kind == "host"
    for name in ("reference", "nobody"):
        with pytest.raises(RuntimeError, match=f"no devices of platform '{name}'"):
            cv.devices(name)


def test_what_cannot_be_placed() -> None:
    (device,) = cv.devices("board")
    with pytest.raises(ValueError, match=r"(?s)keys stay.*test_offload.py"):
        cv.device_put(cv.random.key(0), device)
    with pytest.raises(ValueError, match=r"(?s)traced value.*backend='board'"):
        cv.jit(lambda x: cv.device_put(x, device))(X)
    with pytest.raises(MemoryError, match="no room for"):
        cv.device_put(np.zeros(20_000, F32), device)
    with pytest.raises(ValueError, match=r"(?s)jit: device.*fix: use backend='board'"):
        cv.jit(layer, device=device)


def test_a_part_of_an_argument_is_not_the_argument() -> None:
    (device,) = cv.devices("board")
    y = cv.device_put(Y, device)

    def f(y: Any) -> Any:
        return cnp.tanh(y[0]) + cnp.tanh(y[:4]).sum(), y @ y

    same(f, y)


def test_donated_arguments_keep_their_memory() -> None:
    x = cnp.asarray(X)
    f = cv.jit(lambda v: cnp.tanh(v.at[0].set(0.0)) + cnp.tanh(v), backend="board",
               donate_argnums=0)  # fmt: skip
    np.testing.assert_allclose(f(x)[1:], 2 * np.tanh(X)[1:], rtol=1e-5)


# --- what people see ------------------------------------------------------------------------------


def test_stages() -> None:
    made = compiled(recurrent, X, Y)
    text = made.as_text()
    assert "offload[part=<object board.0 #0>]" in text
    assert "board.0 in scan: dot_general, add, tanh; 320 bytes to the device, 32 back at" in text
    assert "dot_general" in made.as_text("parts")
    assert "code of 3 operations" in made.as_text("device")
    assert made.as_text("program").startswith("program recurrent")
    assert made.as_text("loopir").startswith("function")
    with pytest.raises(ValueError, match="no stage 'other'"):
        made.as_text("other")
    cost = made.cost_analysis()["parts"]["board.0"]
    assert (cost["cycles"], cost["bytes_in"], cost["bytes_out"]) == (10, 320, 32)


def test_reports_show_parts_and_transfers() -> None:
    f = cv.jit(recurrent, backend="board")
    text = f.explain(X, Y).text("offload")
    assert "board.0" in text
    assert "scan" in text
    assert "test_offload.py" in text
    report = f.explain(X, Y, run=True)
    assert "8 runs" in report.text("offload")
    assert "offload" in report.sections
    assert "offload" not in cv.jit(recurrent).explain(X, Y).sections
    assert "on the processor" in cv.jit(recurrent).explain(X, Y).text("offload")


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_device_without_room_says_which_part() -> None:
    x = np.zeros((200, 200), F32)
    with pytest.raises(MemoryError, match="no room") as e:
        cv.jit(layer, backend="board")(x, x)
    assert "board.0" in str(e.value.__notes__) or "board.0" in str(e.value)
    assert "test_offload.py" in str(getattr(e.value, "__notes__", "")) + str(e.value)
    same(layer, X, Y)  # the process goes on


def test_claims_that_do_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_part(self: Any, program: Any, options: Any) -> Any:
        raise KeyError("no tanh")

    monkeypatch.setattr(Board, "compile_part", compile_part)
    with pytest.raises(
        backends.CompilationError, match=r"(?s)'board' cannot compile what it claims.*test_offload"
    ):
        cv.jit(layer, backend="board")(X, Y)


def test_wrong_results_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Part, "__call__", lambda self, *b: [OnDevice(np.zeros(3))])
    with pytest.raises(TypeError, match=r"board\.0 gives"):
        cv.jit(layer, backend="board")(X, Y)


def test_a_backend_declares_its_devices() -> None:
    none = Board()
    none.devices = ()
    backends.register_backend("board", lambda: none)
    with pytest.raises(ValueError, match="declares none"):
        cv.jit(layer, backend="board")(X, Y)
    none.devices = ("chip",)
    with pytest.raises(TypeError, match="let `devices` be a list"):
        cv.devices("board")
