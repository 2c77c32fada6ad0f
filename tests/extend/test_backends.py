"""Backends from outside: discovery, capabilities, loop IR, arguments and results."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import extend, lax
from covector.core import backend as registry
from covector.core.interpret import run
from covector.extend import backends
from covector.extend.loopir import Call, Callback, For, Store, walk

F32 = np.dtype(np.float32)
PAGE = """
from covector.core.interpret import run
from covector.extend.backends import Signature

class Interpreted:
    def __init__(self, program):
        self.program, self.signature = program, Signature(program)

    def __call__(self, *args):
        return self.signature.wrap(run(self.program, *self.signature.bind(args).arguments))

    def as_text(self, stage=""):
        return "made outside"

    def cost(self):
        return {}

class Backend:
    name = "outside"

    def compile(self, program, options):
        return Interpreted(program)

def nothing():
    return 3
"""


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Makes a module importable and lists entry points, as an installed package would."""
    points: list[EntryPoint] = []
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda **k: EntryPoints(points).select(**k)
    )
    before = dict(registry._backends)

    def add(module: str, text: str, **names: str) -> None:
        (tmp_path / f"{module}.py").write_text(text)
        for name, attribute in names.items():
            points.append(EntryPoint(name, f"{module}:{attribute}", "covector.backends"))

    yield add
    registry._backends.clear()
    registry._backends.update(before)
    for name in ("outside_package", "broken_package"):
        sys.modules.pop(name, None)


def test_an_installed_package_offers_its_backend(install: Any) -> None:
    install("outside_package", PAGE, outside="Backend")
    assert "outside" in backends.backend_names()
    assert "outside_package" not in sys.modules
    f = cv.jit(lambda x: cnp.sin(x) + 1, backend="outside")
    np.testing.assert_allclose(f(np.ones(3, F32)), np.sin(np.ones(3)) + 1, rtol=1e-6)
    assert f.lower(np.ones(3, F32)).compile().as_text() == "made outside"
    with cv.config.override("backend", "outside"):
        assert cv.jit(lambda x: x + 1).lower(1.0).compile().as_text() == "made outside"


def test_a_broken_package_harms_nobody_else(install: Any) -> None:
    install("broken_package", "import a_module_that_is_not_there", broken="Backend")
    assert cv.jit(lambda x: x + 1)(1) == 2
    with pytest.raises(
        ImportError, match=r"(?s)backend 'broken'.*broken_package:Backend.*there"
    ) as e:
        cv.jit(lambda x: x + 1, backend="broken")(1)
    assert "fix: repair or uninstall" in str(e.value)


def test_an_entry_point_must_make_a_backend(install: Any) -> None:
    install("outside_package", PAGE, number="nothing")
    with pytest.raises(ImportError, match="makes a int without `compile`"):
        backends.get_backend("number")


def test_two_packages_with_one_name_are_refused(install: Any) -> None:
    install("outside_package", PAGE, outside="Backend")
    install("broken_package", PAGE, outside="Backend")
    with pytest.raises(ValueError, match="more than one installed package"):
        backends.get_backend("outside")


def test_unknown_names_are_listed(install: Any) -> None:
    install("outside_package", PAGE, outside="Backend")
    with pytest.raises(ValueError, match=r"no backend named 'other'; there are \[.*'outside'"):
        cv.jit(lambda x: x, backend="other")(1)


# --- capabilities ---------------------------------------------------------------------------------


def program_of(function: Any, *shapes: tuple[int, ...], dtype: Any = F32) -> backends.Program:
    return cv.make_program(function)(*[cv.ShapeDtypeStruct(s, dtype) for s in shapes])


def names(program: backends.Program) -> list[str]:
    return [e.primitive.name for e in backends.all_equations(program)]


CORE = frozenset(
    ("add", "sub", "mul", "div", "neg", "sin", "cos", "sqrt", "exp", "max", "min")
    + ("eq", "lt", "le", "not", "scan", "convert_element_type", "broadcast_in_dim")
)


@pytest.mark.parametrize("name", sorted(backends.DECOMPOSITIONS))
def test_decompositions_mean_what_the_primitive_does(name: str) -> None:
    from covector.testing.optable import all_rows

    rows = [r for r in all_rows() if getattr(r.op, "name", "") == name and "f32" in r.dtypes]
    assert rows
    claims = backends.Capabilities(primitives=CORE)
    for row in rows:
        operands = row.sample(3, "f32", (4,))
        program = cv.make_program(row)(*operands)
        changed = backends.simplified(backends.claimed(program, "mine", claims))
        assert name not in names(changed)
        for a, b in zip(run(changed, *operands), run(program, *operands), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_what_is_claimed_stays() -> None:
    program = program_of(lambda x: cnp.square(x), (3,))
    assert backends.claimed(program, "mine", backends.EVERYTHING) is program


def test_decompositions_reach_into_loops() -> None:
    def f(x: Any) -> Any:
        return lax.scan(lambda c, v: (lax.logistic(c + v), c), np.float32(0), x)

    program = program_of(f, (4,))
    changed = backends.simplified(
        backends.claimed(program, "mine", backends.Capabilities(primitives=CORE))
    )
    assert "logistic" in names(program)
    assert "logistic" not in names(changed)
    x = np.linspace(-1, 1, 4, dtype=F32)
    for a, b in zip(run(changed, x), run(program, x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_backend_brings_its_own_decompositions() -> None:
    claims = backends.Capabilities(
        primitives=CORE,
        decompositions={"tanh": lambda x, **_: (lax.exp(2 * x) - 1) / (lax.exp(2 * x) + 1)},
    )
    changed = backends.simplified(backends.claimed(program_of(cnp.tanh, (3,)), "mine", claims))
    assert set(names(changed)) <= CORE
    x = np.array([-1, 0, 2], F32)
    np.testing.assert_allclose(run(changed, x)[0], np.tanh(x), rtol=1e-5)


def test_operations_of_users_have_decompositions_of_their_own() -> None:
    @extend.decomposition(name="twice_and_one")
    def twice_and_one(x: Any) -> Any:
        return 2 * x + 1

    program = program_of(twice_and_one, (3,))
    claims = backends.Capabilities(primitives=CORE)
    changed = backends.simplified(backends.claimed(program, "mine", claims))
    assert set(names(changed)) <= CORE


def test_functions_of_users_are_asked_for() -> None:
    @ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)
    def half(x: float) -> float:
        return x / 2

    with cv.enable_x64(True):
        op = extend.foreign("double half_of_it(double x)", half)
        program = program_of(op, (3,), dtype=np.float64)
        none = backends.Capabilities(calls=frozenset())
        with pytest.raises(backends.MissingCapabilityError, match="lacks: call cvx_"):
            backends.lower(program, backend="mine", capabilities=none)


def test_a_wrong_decomposition_is_noticed() -> None:
    claims = backends.Capabilities(
        primitives=CORE, decompositions={"tanh": lambda x, **_: lax.max(x, x)[:1]}
    )
    with pytest.raises((TypeError, backends.MissingCapabilityError), match=r"tanh|slice"):
        backends.claimed(program_of(cnp.tanh, (3,)), "mine", claims)


def test_what_is_neither_claimed_nor_decomposed_is_refused_by_line() -> None:
    program = program_of(lambda x: cnp.sort(x), (3,))
    with pytest.raises(
        backends.MissingCapabilityError, match=r"(?s)'mine' lacks: primitive sort.*test_backends.py"
    ) as e:
        backends.claimed(program, "mine", backends.Capabilities(primitives=CORE))
    assert e.value.capability == "primitive sort"


def test_dtypes_and_sizes_may_be_missing() -> None:
    no_doubles = backends.Capabilities(dtypes=frozenset(("f32", "i32", "bool")))
    with pytest.raises(backends.MissingCapabilityError, match="lacks: dtype f16"):
        backends.claimed(program_of(lambda x: x.astype(cnp.float16), (3,)), "mine", no_doubles)
    from covector.core.dims import symbol

    program = cv.make_program(lambda x: x + 1)(cv.ShapeDtypeStruct((symbol("n"),), F32))
    fixed = backends.Capabilities(run_time_sizes=False)
    with pytest.raises(backends.MissingCapabilityError, match="lacks: sizes at run time"):
        backends.claimed(program, "mine", fixed)


# --- loop IR --------------------------------------------------------------------------------------


def test_lowered_programs_know_their_lines() -> None:
    def f(x: Any) -> Any:
        return cnp.sin(x).sum()  # this line

    lowered = backends.lower(program_of(f, (100,)))
    origins = lowered.function.origins
    assert origins is not None
    lines = {
        o.location.line for o in origins.all() if isinstance(o, backends.Equation) and o.location
    }
    assert lines == {f.__code__.co_firstlineno + 1}
    assert backends.lower(program_of(f, (100,)), lines=False).function.origins is None


def test_loops_are_parallel_only_for_those_who_have_threads() -> None:
    def f(x: Any) -> Any:
        return cnp.tanh(x) ** 3

    def kinds(threads: bool) -> set[str]:
        function = backends.lower(program_of(f, (1000, 1000)), threads=threads).function
        return {item.kind for item in walk(function.body) if isinstance(item, For)}

    assert "parallel" in kinds(True)
    assert "parallel" not in kinds(False)


def test_calls_are_asked_for() -> None:
    program = program_of(lambda x, y: x @ y, (200, 200), (200, 200))
    calls = [i.symbol for i in walk(backends.lower(program).function.body) if isinstance(i, Call)]
    assert set(calls) == {"cv_gemm_f32"}
    none = backends.Capabilities(calls=frozenset())
    with pytest.raises(backends.MissingCapabilityError, match=r"(?s)call cv_gemm_f32.*dot_general"):
        backends.lower(program, backend="mine", capabilities=none)


def test_callbacks_are_asked_for() -> None:
    def f(x: Any) -> Any:
        return cv.pure_callback(np.cumsum, cv.ShapeDtypeStruct((3,), F32), x)

    program = program_of(f, (3,))
    assert any(isinstance(i, Callback) for i in walk(backends.lower(program).function.body))
    none = backends.Capabilities(callbacks=False)
    with pytest.raises(backends.MissingCapabilityError, match=r"(?s)callbacks.*test_backends.py"):
        backends.lower(program, backend="mine", capabilities=none)


def test_settings_of_the_caller_are_left_alone() -> None:
    before = cv.config.disable, cv.config.debug_info
    lowered = backends.lower(program_of(lambda x: 2 * x, (4,)))
    assert (cv.config.disable, cv.config.debug_info) == before
    assert any(isinstance(i, Store) for i in walk(lowered.function.body))


# --- arguments and results ------------------------------------------------------------------------


def test_signatures_check_arguments() -> None:
    signature = backends.Signature(program_of(lambda x, y: x + y, (3,), (3,)))
    x = np.zeros(3, F32)
    with pytest.raises(TypeError, match="takes 2 arguments, got 1"):
        signature.bind([x])
    with pytest.raises(TypeError, match="argument 1 is int32, the program takes float32"):
        signature.bind([x, np.zeros(3, np.int32)])
    with pytest.raises(ValueError, match="argument 0"):
        signature.bind([np.zeros(4, F32), x])


def test_signatures_make_arguments_contiguous() -> None:
    signature = backends.Signature(program_of(lambda x: x, (3, 2)))
    (argument,) = signature.bind([np.zeros((2, 3), F32).T]).arguments
    assert argument.flags.c_contiguous


def test_signatures_know_keys_and_sizes_at_run_time() -> None:
    from covector.core.parsing import parse

    signature = backends.Signature(parse("program (a: key<fry>[2], b: f32[n]) {\n} -> a, b"))
    keys = cv.random.split(cv.random.key(0))
    call = signature.bind([keys, np.zeros(5, F32)])
    assert [a.shape for a in call.arguments] == [(2, 2), (5,)]
    assert call.sizes == {"n": 5}
    results = signature.new_results(call.sizes)
    assert [(r.shape, r.dtype.name) for r in results] == [((2, 2), "uint32"), ((5,), "float32")]
    assert [str(r.aval) for r in signature.wrap(results)] == ["key<fry>[2]", "f32[5]"]
