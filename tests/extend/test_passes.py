"""Passes of users: places, scopes, caches, what is checked, and what reports say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.backends.native import compilations
from covector.compiler import placed
from covector.compiler.function_text import Unstable, text_of
from covector.compiler.places import placed_at
from covector.core.config import config
from covector.extend import loopir, passes

F32 = np.float32
X = np.linspace(0.5, 2.0, 5, dtype=F32)


@pytest.fixture(autouse=True)
def _passes_of_users():
    with config.override("disable", config.disable - {"user_passes"}):
        yield


@passes.program_pass
def cos_for_sin(program):
    def rule(equation):
        return cnp.cos if equation.primitive.name == "sin" else None

    return passes.map_equations(program, rule)


@passes.loop_pass
def add_for_sub(function):
    def rule(edit, value):
        if value.op == "sub" and value.dtype == F32:
            return edit.op("add", *value.args)
        return None

    loopir.map_values(function, rule)


@dataclass(frozen=True)
class Renamed:
    """A pass as a class of its own, with data."""

    before: str
    after: str
    name: str = "renamed"

    def run(self, program):
        def rule(equation):
            if equation.primitive.name != self.before:
                return None
            return getattr(lax, self.after)

        return passes.map_equations(program, rule)


def seen(*names):
    """A pass that appends what it sees to a list, and the list."""
    found = []

    def look(program):
        found.append([e.primitive.name for e in passes.all_equations(program)])
        return program

    return passes.program_pass(look, name=names[0] if names else "look"), found


# --- places and scopes ----------------------------------------------------------------------------


def test_a_pass_holds_in_its_block():
    f = cv.jit(cnp.sin)
    np.testing.assert_allclose(f(X), np.sin(X), rtol=1e-6)
    with passes.using(cos_for_sin):
        assert passes.registered() == (("cos_for_sin", "after cse"),)
        np.testing.assert_allclose(f(X), np.cos(X), rtol=1e-6)
        np.testing.assert_allclose(cv.vmap(f)(X), np.cos(X), rtol=1e-6)
    np.testing.assert_allclose(f(X), np.sin(X), rtol=1e-6)
    assert passes.registered() == ()


def test_a_pass_holds_everywhere_until_it_is_removed():
    f = cv.jit(lambda x: cnp.sin(x) + 1)
    found = []

    def elsewhere():
        found.append(np.asarray(f(X)))

    passes.register(cos_for_sin)
    try:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        np.testing.assert_allclose(found[0], np.cos(X) + 1, rtol=1e-6)
    finally:
        passes.unregister(cos_for_sin)
    np.testing.assert_allclose(f(X), np.sin(X) + 1, rtol=1e-6)
    with passes.using(cos_for_sin):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    np.testing.assert_allclose(found[1], np.sin(X) + 1, rtol=1e-6)


def test_passes_run_in_loops_branches_and_calls():
    def f(x):
        def step(carry, _):
            carry = lax.cond(carry.sum() > 0, cnp.sin, cv.jit(cnp.sin), carry)
            return carry, carry

        return lax.scan(step, x, None, length=3)

    with passes.using(cos_for_sin):
        last, steps = cv.jit(f)(X)
    wanted = np.cos(np.cos(np.cos(X)))
    np.testing.assert_allclose(last, wanted, rtol=1e-5)
    np.testing.assert_allclose(steps[-1], wanted, rtol=1e-5)


def test_every_place_among_programs():
    for name in passes.program_names():
        for where in ("before", "after"):
            look, found = seen()
            with passes.using(look, **{where: name}):
                y = cv.jit(lambda x: cv.jit(cnp.sin)(x) * 2)(X)
            np.testing.assert_allclose(y, 2 * np.sin(X), rtol=1e-6)
            assert found, (where, name)
            assert ("jit" in found[0]) == ((where, name) == ("before", "inline"))


def test_passes_stand_next_to_others_of_users():
    first, found = seen("first")
    second, found_by_second = seen("second")
    with (
        passes.using(first, cos_for_sin),
        passes.using(second, before="cos_for_sin"),
        passes.using(Renamed("cos", "tanh")),
    ):
        names = [name for name, _ in passes.registered()]
        y = cv.jit(cnp.sin)(X)
    assert names == ["first", "cos_for_sin", "second", "renamed"]
    np.testing.assert_allclose(y, np.tanh(X), rtol=1e-6)
    assert found[0] == found_by_second[0] == ["sin"]


def test_every_place_among_loops():
    places = [("after", "schedule"), *[(w, n) for n in ("threads", "memory") for w in _BOTH]]
    for where, name in places:
        with passes.using(add_for_sub, **{where: name}):
            np.testing.assert_allclose(cv.jit(lambda x: 3 - x)(X), 3 + X)


_BOTH = ("before", "after")


@pytest.mark.parametrize(
    ("given", "place", "error", "text"),
    [
        (cos_for_sin, {"after": "nothing"}, ValueError, "no pass 'nothing'"),
        (cos_for_sin, {"after": "memory"}, ValueError, "a pass on programs"),
        (add_for_sub, {"after": "cse"}, ValueError, "a pass on loop IR"),
        (add_for_sub, {"before": "schedule"}, ValueError, "before schedule"),
        (cos_for_sin, {"after": "cse", "before": "cse"}, TypeError, "not both"),
        (np.sin, {}, TypeError, "decorate the function"),
        (Renamed("sin", "cos", name="cse"), {}, ValueError, "cannot be called 'cse'"),
        (passes.ProgramPass("bad", {}.get), {}, None, ""),
    ],
)
def test_places_are_checked(given, place, error, text):
    if error is None:
        return
    with pytest.raises(error, match=text), passes.using(given, **place):
        pass


def test_passes_do_not_change():
    @dataclass
    class Mutable:
        name = "mutable"

        def run(self, program):
            return program

    with pytest.raises(TypeError, match="frozen dataclass"), passes.using(Mutable()):
        pass


def test_they_can_be_turned_off():
    with passes.using(cos_for_sin), config.override("disable", {"user_passes"}):
        np.testing.assert_allclose(cv.jit(cnp.sin)(X), np.sin(X), rtol=1e-6)


# --- what is checked ------------------------------------------------------------------------------


def _broken(program):
    equation = program.equations[0]
    return program.replace(equations=[equation, equation])


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (lambda program: None, "gives a program.*NoneType"),
        (lambda program: program.replace(outputs=[]), r"keeps the outputs.*\(\) instead of \(f32"),
        (lambda program: program.replace(inputs=[]), "keeps the inputs"),
        (_broken, "gives a program that verifies.*defined once"),
        (lambda program: program.nothing, "does not raise.*AttributeError"),
    ],
)
def test_what_passes_make_is_checked(run, text):
    wrong = passes.program_pass(run, name="wrong")
    match = f"(?s){text}"
    with passes.using(wrong), pytest.raises(passes.PassError, match=match) as caught:
        cv.jit(lambda x: x + 1.5)(X)
    assert "wrong (after cse)" in str(caught.value)
    np.testing.assert_allclose(cv.jit(lambda x: x + 1.5)(X), X + F32(1.5))


def _with_unknown_value(function):
    store = next(i for i in loopir.walk(function.body) if isinstance(i, loopir.Store))
    store.value = loopir.Value("neg", (store.value,), None, store.value.dtype, 10_000, 0)


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (lambda function: 3, "gives a function of the loop IR.*int"),
        (_with_unknown_value, "gives loop IR that verifies"),
        (lambda function: 1 / 0, "does not raise.*ZeroDivisionError"),
        (
            lambda function: loopir.map_values(
                function,
                lambda edit, value: edit.const(1, np.dtype("i4")) if value.op == "add" else None,
            ),
            "another dtype",
        ),
    ],
)
def test_loop_ir_is_checked(run, text):
    wrong = passes.loop_pass(run, name="wrong")
    with passes.using(wrong), pytest.raises(passes.PassError, match=f"(?s){text}"):
        cv.jit(lambda x: x + 2.5)(X)


def test_results_that_stand_for_others_are_checked():
    @passes.program_pass
    def wrong(program):
        return passes.map_equations(program, lambda e: cnp.sum if len(e.inputs) == 1 else None)

    with passes.using(wrong), pytest.raises(passes.PassError, match="what stands for sin") as got:
        cv.jit(lambda x: 2 * cnp.sin(x))(X)
    assert os.path.basename(__file__) in str(got.value)


def test_loop_ir_is_edited_in_branches_and_loops():
    """Loads, operations and ends of blocks: every use of a value is that of its replacement."""

    def f(x):
        def step(state):
            count, value = state
            value = lax.cond(value > 0, lambda v: v - 0.25, lambda v: 1 - v, value)
            return count + 1, value

        return lax.while_loop(lambda s: s[0] < 4, step, (0, x))[1] - 1

    @passes.loop_pass
    def by_negation(function):
        def rule(edit, value):
            if value.op == "sub" and value.dtype == F32:
                return edit.op("add", value.args[0], edit.op("neg", value.args[1]))
            return None

        assert loopir.map_values(function, rule)

    plain = cv.jit(cv.vmap(f))(X)
    with passes.using(by_negation):
        np.testing.assert_array_equal(cv.jit(cv.vmap(f))(X), plain)


# --- caches ---------------------------------------------------------------------------------------


def test_code_is_kept_for_equal_passes():
    f = cv.jit(lambda x: cnp.sin(x) * 1.25)
    with config.override("disable", config.disable | {"disk_cache"}):
        f(X)
        before = compilations()
        with passes.using(Renamed("sin", "cos")):
            f(X)
        assert compilations() == before + 1
        with passes.using(Renamed("sin", "cos")):
            f(X)
        f(X)
        assert compilations() == before + 1
        with passes.using(Renamed("sin", "tanh")):
            np.testing.assert_allclose(f(X), 1.25 * np.tanh(X), rtol=1e-6)
        assert compilations() == before + 2


_SCRIPT = """
import sys, numpy as np, covector as cv, covector.numpy as cnp
from covector.extend import passes
FACTOR = {factor}
rule = passes.rewrite(cnp.sin, lambda x: FACTOR * cnp.cos(x), name="rule", version={version!r})
{extra}
if __name__ == "__main__":
    f = cv.jit(lambda x: cnp.sin(x) + 2)
    x = np.ones(3, np.float32)
    def run():
        compiled = f.lower(x).compile()
        return compiled.explain(sections="profile").disk_cache, round(float(f(x)[0]), 3)
    print(*run())
    with passes.using(rule):
        print(*run())
"""


def _cache(folder):
    return {"COVECTOR_CACHE_DIR": str(folder / "cache"), "COVECTOR_CACHE_SIZE": "1G"}


def _run(folder, *, factor=2.0, version="", extra="", **environment):
    script = folder / "script.py"
    script.write_text(_SCRIPT.format(factor=factor, version=version, extra=extra))
    result = subprocess.run(
        [sys.executable, script],
        env={**os.environ, **_cache(folder), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.splitlines()


@pytest.mark.skipif("disk_cache" in config.disable, reason="there is no disk cache")
def test_code_on_disk_belongs_to_what_passes_do(tmp_path):
    plain, rewritten = f"{np.sin(1) + 2:.3f}", f"{2 * np.cos(1) + 2:.3f}"
    assert _run(tmp_path) == [f"miss {plain}", f"miss {rewritten}"]
    assert _run(tmp_path) == [f"hit {plain}", f"hit {rewritten}"]
    # Another value of what the replacement refers to is another rule.
    status, value = _run(tmp_path, factor=3.0)[1].split()
    assert status != "hit"
    assert value == f"{3 * np.cos(1) + 2:.3f}"
    # A version says it all.
    assert _run(tmp_path, version="1")[1] == f"partial {rewritten}"
    assert _run(tmp_path, version="1")[1] == f"hit {rewritten}"
    assert _run(tmp_path, version="2")[1].split()[0] != "hit"


def test_what_depends_on_other_packages_has_no_text():
    with pytest.raises(Unstable):
        placed_at(passes.rewrite(cnp.sin, lambda x: pytest.approx(x))).fingerprint()
    with passes.using(passes.rewrite(cnp.sin, lambda x: x * len(pytest.__name__), name="length")):
        assert placed.fingerprints() is None
    versioned = passes.rewrite(cnp.sin, lambda x: pytest.approx(x), name="p", version="7")
    with passes.using(versioned):
        assert placed.fingerprints() == "p after cse False 7"


def test_the_environment_names_passes(tmp_path):
    wanted = f"{2 * np.cos(1) + 2:.3f}"
    environment = {"COVECTOR_PASSES": "script:rule", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    assert [line.split()[1] for line in _run(tmp_path, **environment)] == [wanted, wanted]


def test_the_environment_names_what_is_there():
    for path in ("no_such_module:rule", "math:sin", "math:nothing"):
        wrong = pytest.raises(passes.PassError, match=f"COVECTOR_PASSES: {path} is a pass")
        with config.override("passes", path), wrong:
            cv.jit(lambda x: x + 3.5)(X)


def test_texts_of_functions():
    offset = 1

    def first(x):
        return helper(x) + offset

    def helper(x):
        return [cnp.sin(v) for v in x]

    before = text_of(first)
    assert before == text_of(first)
    offset = 2
    assert text_of(first) != before
    assert text_of(Renamed("sin", "cos")) != text_of(Renamed("sin", "tanh"))
    assert text_of(cv.grad(first)) != text_of(cv.grad(helper))
    with pytest.raises(Unstable):
        text_of(lambda x: pytest.approx(x))
    with pytest.raises(Unstable):
        text_of(object())


# --- reports --------------------------------------------------------------------------------------


def test_reports_say_what_ran():
    twice = passes.rewrite(lambda x: x + x, lambda x: 2 * x, name="twice")
    never = passes.rewrite(lambda x: x * x * x, lambda x: x**3, name="never")

    def f(x):
        def step(c, _):
            return cnp.sin(c) + cnp.sin(c), None

        return lax.scan(step, x + x, None, length=4)[0]

    with passes.using(twice, never), passes.using(cos_for_sin), passes.using(add_for_sub):
        report = cv.jit(f).explain(X)
    fired = {f.rule: f.times for note in report.applied for f in note.fired}
    assert fired == {"twice": 2, "never": 0}
    names = [(note.name, note.place) for note in report.applied]
    assert names == [
        ("twice+never", "after cse"),
        ("cos_for_sin", "after cse"),
        ("add_for_sub", "after schedule"),
    ]
    text = report.text("passes")
    assert "twice" in text
    assert "2 times" in text
    assert "cos" in report.text("optimized")
    assert "none besides the built-in" in cv.jit(f).explain(X).text("passes")


def test_rules_and_passes_are_told_from_other_things():
    own = placed_at([passes.rewrite(cnp.sin, cnp.cos, name="a")], after="dce")
    assert (own.name, own.place, own.in_loops) == ("a", "after dce", False)
    with pytest.raises(TypeError, match="decorate"):
        placed_at([])


def test_the_chapter_runs(capsys):
    chapter = Path(__file__).parents[2] / "docs" / "passes.md"
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", chapter.read_text(), re.DOTALL):
        exec(compile(block, str(chapter), "exec"), names)
    assert "1 times" in capsys.readouterr().out
    f, large = names["f"], cnp.array([[1000.0, 1000.0], [0.0, 0.0]])
    assert np.isinf(f(large)[0])
    with passes.using(names["stable"]):
        np.testing.assert_allclose(f(large), [1000.6931, 0.6931472], rtol=1e-6)
    with passes.using(names["fast_tanh"], after="cse"):
        np.testing.assert_allclose(cv.jit(cnp.tanh)(0.1), np.tanh(0.1), rtol=1e-3)
        assert cv.jit(cnp.tanh)(0.1) != cnp.tanh(0.1)
    text = " ".join(chapter.read_text().split())
    assert ", ".join(passes.program_names()) in text
    assert ", ".join(passes.loop_names()) in text
