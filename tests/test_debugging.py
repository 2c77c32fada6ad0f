"""What helps to find faults: NaN checks, printing, the debug ladder."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.core import config as settings
from covector.core import ladder
from covector.core.errors import NonFiniteError
from covector.core.parsing import parse

HERE = Path(__file__).name


def failure(f, *args) -> str:
    """The message of the error that checking for NaNs gives."""
    with cv.debug_nans(), pytest.raises(FloatingPointError) as caught:
        f(*args)
    assert isinstance(caught.value, NonFiniteError)
    return str(caught.value)


def line_of(f, offset: int) -> str:
    """A line of a function in this file, as messages name it."""
    return f"{HERE}:{f.__code__.co_firstlineno + offset} "


# --- debug_nans -----------------------------------------------------------------------------------


def root(x):
    y = cnp.sqrt(x)
    return y * 2


BOTH = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])


def maybe_jit(f, compiled):
    return cv.jit(f) if compiled else f


@BOTH
def test_the_operation_and_its_line_are_named(compiled):
    message = failure(maybe_jit(root, compiled), -4.0)
    assert message.startswith("invalid value (nan) encountered in sqrt\n")
    assert "found: nan in f32[], of the operands -4.0" in message
    assert line_of(root, 1) in message
    assert ("in: jit of root" in message) == compiled


def test_operators_are_checked():
    x = cnp.array([1.0, np.inf])
    message = failure(lambda: x - x)
    assert "encountered in sub" in message
    assert "nan in f32[2] at [1], of the operands inf, inf" in message


def test_no_error_without_nans():
    with cv.debug_nans(), cv.debug_infs():
        f = cv.jit(lambda x: cnp.where(x > 0, cnp.log(x), 0.0).sum())
        # The NaN of a logarithm that `where` does not choose reaches no output.
        assert float(f(cnp.array([1.0, -1.0]))) == 0.0
        assert int(cv.jit(lambda n: n // 2)(7)) == 3


def test_nothing_is_checked_when_it_is_off():
    for f in (root, cv.jit(root), cv.vmap(root)):
        assert np.isnan(f(cnp.array([-1.0]))).all()
        failure(f, cnp.array([-1.0]))
        assert np.isnan(f(cnp.array([-1.0]))).all()
    assert not settings.watching


def test_compiled_code_is_dispatched_without_python_when_it_is_off():
    f = cv.jit(root)
    for _ in range(3):
        f(4.0)
    hits = f.hits
    f(4.0)
    assert f.hits == hits + 1
    with cv.debug_nans():
        f(4.0)
        f(4.0)
    assert f.hits == hits + 1


@BOTH
def test_infinities(compiled):
    f = maybe_jit(lambda x: cnp.divide(1.0, x), compiled)
    with cv.debug_nans():
        assert np.isinf(f(0.0))
    with cv.debug_infs(), pytest.raises(FloatingPointError, match=r"value \(inf\) .* in div"):
        f(0.0)
    with cv.config.override("jax_debug_infs", True), pytest.raises(FloatingPointError):
        f(0.0)


@BOTH
def test_the_lane_of_a_batch(compiled):
    f = maybe_jit(cv.vmap(root), compiled)
    message = failure(f, cnp.array([1.0, 2.0, -3.0, 4.0]))
    assert "encountered in sqrt" in message
    assert line_of(root, 1) in message
    assert message.endswith("lane: 2 of vmap")


@BOTH
def test_the_lanes_of_nested_batches(compiled):
    f = cv.vmap(cv.vmap(root, in_axes=1), axis_name="rows")
    x = cnp.ones((2, 3, 4)).at[1, 2, 3].set(-1.0)
    message = failure(maybe_jit(f, compiled), x)
    assert message.endswith("lane: 1 of vmap over 'rows'\n  lane: 3 of vmap")


def partial_logs(c):
    def body(c, x):
        c = c - x
        return c, cnp.log(c)

    return lax.scan(body, c, cnp.ones(8))[1].sum()


@BOTH
def test_the_iteration_of_a_scan(compiled):
    message = failure(maybe_jit(partial_logs, compiled), 3.5)
    assert "encountered in log" in message
    assert "operands -0.5" in message
    assert line_of(partial_logs, 3) in message
    assert "in: iteration 3 of scan at " in message
    assert line_of(partial_logs, 5) in message


@BOTH
def test_the_lane_and_iteration_of_a_batched_scan(compiled):
    message = failure(maybe_jit(cv.vmap(partial_logs), compiled), cnp.array([10.0, 9.0, 2.5]))
    assert "in: iteration 2 of scan" in message
    assert message.endswith("lane: 2 of vmap")


@BOTH
def test_the_iteration_of_a_while_loop(compiled):
    def f(x):
        return lax.while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, cnp.sqrt(c[1] - 1)), (0, x))

    message = failure(maybe_jit(f, compiled), 3.0)
    assert "encountered in sqrt" in message
    assert "in: iteration 2 of while" in message


@BOTH
def test_the_branch_of_a_cond(compiled):
    def f(x):
        return lax.cond(x > 0, lambda x: x, cnp.log, x)

    message = failure(maybe_jit(f, compiled), -3.0)
    assert "encountered in log" in message
    assert "in: branch 0 of cond" in message


@BOTH
def test_calls_inside(compiled):
    inner = cv.jit(root)
    f = maybe_jit(cv.checkpoint(lambda x: inner(x) + 1), compiled)
    message = failure(f, -1.0)
    assert "encountered in sqrt" in message
    assert "in: jit of root" in message


def steep(x):
    return cnp.sqrt(x) * x


@BOTH
def test_backward_passes_say_so(compiled):
    message = failure(maybe_jit(cv.grad(steep), compiled), 0.0)
    assert "encountered in mul" in message
    assert line_of(steep, 1) in message
    assert "in: the backward pass" in message


@BOTH
def test_backward_passes_of_loops_and_batches(compiled):
    def loop(x):
        return lax.scan(lambda c, _: (steep(c), None), x, None, length=3)[0]

    message = failure(maybe_jit(cv.grad(loop), compiled), 0.0)
    assert "in: the backward pass" in message
    assert "in: iteration 0 of scan" in message
    message = failure(maybe_jit(cv.vmap(cv.grad(steep)), compiled), cnp.array([1.0, 0.0]))
    assert "in: the backward pass" in message
    assert message.endswith("lane: 1 of vmap")
    total = cv.grad(lambda x: cv.vmap(steep)(x).sum())
    message = failure(maybe_jit(total, compiled), cnp.array([1.0, 1.0, 0.0]))
    assert "in: the backward pass" in message
    assert message.endswith("lane: 2 of vmap")


@BOTH
def test_rules_of_the_user(compiled):
    @cv.custom_vjp
    def f(x):
        return x

    def backward(_, g):
        zero = g * 0
        return (zero / zero,)

    f.defvjp(lambda x: (x, None), backward)
    message = failure(maybe_jit(cv.grad(f), compiled), 1.0)
    assert "encountered in div" in message
    assert line_of(backward, 2) in message
    assert "in: the backward pass" in message


def test_arguments_that_are_nan_are_named():
    message = failure(cv.jit(lambda x, y: x + y), 1.0, np.float32("nan"))
    assert "argument 1, which has it before the call" in message


def test_programs_with_side_effects_are_not_run_again():
    calls = []

    def f(x):
        cv.io_callback(lambda x: calls.append(float(x)), None, x)
        return cnp.log(x)

    message = failure(cv.jit(f), -1.0)
    assert "jit of f" in message
    assert "side effects" in message
    assert calls == [-1.0]


def test_prints_are_not_repeated(capsys):
    def f(x):
        cv.debug.print("here")
        return lax.scan(lambda c, _: (cv.debug.print("loop"), (cnp.log(c), None))[1], x, None, 2)[0]

    assert "iteration 1 of scan" in failure(cv.jit(f), 0.5)
    assert capsys.readouterr().out == "here\nloop\nloop\n"


def test_small_floats_complex_numbers_and_keys():
    failure(cv.jit(lambda x: cnp.log(x.astype("bfloat16"))), -1.0)
    failure(lambda x: x / (x * 0), cnp.array(1.0 + 1j) * 0)
    with cv.debug_nans():
        key = cv.random.key(0)
        assert cv.jit(cv.random.split)(key).shape == (2,)


def test_donated_arguments_are_searched_first():
    f = cv.jit(root, donate_argnums=0)
    assert "encountered in sqrt" in failure(f, cnp.array([-1.0]))


def test_compiled_ahead_of_time():
    with cv.debug_nans():
        f = cv.jit(root).lower(1.0).compile()
        with pytest.raises(FloatingPointError, match="sqrt"):
            f(np.float32(-1.0))


def test_other_threads_are_left_alone():
    found = []
    with cv.debug_nans():
        thread = threading.Thread(target=lambda: found.append(cnp.log(-1.0)))
        thread.start()
        thread.join()
    assert np.isnan(found[0])


@pytest.mark.parametrize("wrap", [lambda m, f: f, lambda m, f: m.jit(f)], ids=["eager", "jit"])
def test_the_error_is_that_of_jax(wrap):
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match=r"invalid value \(nan\)"):
        wrap(jax, jnp.log)(-1.0)
    with cv.debug_nans(True), pytest.raises(FloatingPointError, match=r"invalid value \(nan\)"):
        wrap(cv, cnp.log)(-1.0)


# --- printing -------------------------------------------------------------------------------------


@pytest.fixture(params=["reference", "native"])
def backend(request):
    with cv.config.override("backend", request.param):
        yield request.param


@pytest.fixture
def printed(capsys):
    def run(f, *args):
        f(*args)
        return capsys.readouterr().out.splitlines()

    return run


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
class TestPrint:
    def test_formats(self, compiled, printed):
        def f(x, n):
            cv.debug.print("{0} {n:d} {{}} {y:.2f} {t[a]} {0!r:s}", "text", n=n, y=x, t={"a": x})
            return x

        assert printed(maybe_jit(f, compiled), 1.5, 3) == ["text 3 {} 1.50 1.5 'text'"]

    def test_batches(self, compiled, printed):
        def f(x):
            cv.debug.print("{}", x)

        assert printed(maybe_jit(cv.vmap(f), compiled), np.arange(3)) == ["0", "1", "2"]

    def test_derivatives(self, compiled, printed):
        def f(x):
            cv.debug.print("x={}", x)
            return cnp.sin(x)

        assert printed(maybe_jit(cv.grad(f), compiled), 2.0) == ["x=2.0"]
        assert printed(maybe_jit(lambda x: cv.jvp(f, (x,), (x,)), compiled), 2.0) == ["x=2.0"]
        assert printed(maybe_jit(cv.hessian(f), compiled), 2.0) == ["x=2.0"]

    def test_loops_and_branches(self, compiled, printed):
        def f(x):
            def body(c, i):
                cv.debug.print("step {}", i, ordered=True)
                return c + i, None

            x = lax.scan(body, x, cnp.arange(3))[0]
            x = lax.while_loop(lambda c: c < 6, lambda c: (cv.debug.print("{}", c), c + 1)[1], x)
            return lax.cond(x > 5, lambda: cv.debug.print("yes"), lambda: cv.debug.print("no"))

        expected = ["step 0", "step 1", "step 2", "4", "5", "yes"]
        assert printed(maybe_jit(f, compiled), 1) == expected

    def test_loops_under_grad(self, compiled, printed):
        def f(x):
            def body(c, i):
                cv.debug.print("{} {}", i, c)
                return c * x, None

            return lax.scan(body, x, cnp.arange(2))[0]

        assert printed(maybe_jit(cv.grad(f), compiled), 2.0) == ["0 2.0", "1 4.0"]
        both = ["0 1.0", "0 2.0", "1 1.0", "1 4.0"]
        assert printed(maybe_jit(cv.vmap(f), compiled), np.array([1.0, 2.0])) == both

    def test_callbacks(self, compiled):
        seen = []

        def f(x):
            cv.debug.callback(lambda *a, **k: seen.append((a, k)), x, "static", k=[x])
            return x

        maybe_jit(f, compiled)(3.0)
        ((args, kwargs),) = seen
        assert isinstance(args[0], cv.Array)
        assert (float(args[0]), args[1], float(kwargs["k"][0])) == (3.0, "static", 3.0)


def test_format_strings_are_checked():
    with pytest.raises(ValueError, match=r"argument 1, y= without a field.*f-string"):
        cv.debug.print("{}", 1, 2, y=3)
    with pytest.raises(IndexError):
        cv.debug.print("{} {}", 1)
    with pytest.raises(KeyError):
        cv.debug.print("{x}")
    with pytest.raises(TypeError, match="format string"):
        cv.debug.print(3.0)
    with pytest.raises(TypeError, match="callback must be a function"):
        cv.debug.callback(3.0)


def test_format_checks_can_be_skipped(capsys):
    cv.debug.print("{}", 1, 2, skip_format_check=True)
    assert capsys.readouterr().out == "1\n"


def test_ordered_prints_of_a_batch(capsys):
    cv.jit(cv.vmap(lambda x: cv.debug.print("{}", x, ordered=True)))(np.arange(3))
    assert capsys.readouterr().out == "0\n1\n2\n"


# --- callbacks by their public names --------------------------------------------------------------

METHODS = {
    "sequential": ([()] * 3, 3),
    "sequential_unrolled": ([()] * 3, 3),
    "expand_dims": ([(3,)], 1),
    "broadcast_all": ([(3,)], 1),
    "legacy_vectorized": ([(3,)], 1),
}


@pytest.mark.parametrize("method", METHODS)
def test_pure_callback_under_vmap(method):
    shapes, weights = [], []

    def host(x, w):
        shapes.append(x.shape)
        weights.append(w.shape)
        return np.asarray(np.asarray(x) * np.asarray(w), np.float32)

    def f(x):
        like = cv.ShapeDtypeStruct((), np.float32)
        return cv.pure_callback(host, like, x, np.float32(2), vmap_method=method)

    xs = np.arange(3, dtype=np.float32)
    np.testing.assert_array_equal(cv.vmap(f)(xs), 2 * xs)
    assert shapes == METHODS[method][0]
    expected = {"expand_dims": (1,), "broadcast_all": (3,)}.get(method, ())
    assert set(weights) == {expected}


def test_callbacks_have_one_device():
    like = cv.ShapeDtypeStruct((), np.float32)
    for callback in (cv.pure_callback, cv.io_callback):
        assert float(callback(np.sinh, like, 0.0, sharding=None)) == 0.0
        with pytest.raises(ValueError, match="sharding must be None"):
            callback(np.sinh, like, 0.0, sharding="device")


# --- the ladder -----------------------------------------------------------------------------------


def climbed(capsys, rung, f, *args):
    with settings.debug_level(rung):
        f(*args)
    return capsys.readouterr().err


def fresh():
    """A function nobody has compiled yet, for code in memory is not compiled again."""
    constant = np.random.default_rng().random()

    def mine(x, y=0.0):
        return cnp.sin(x) * constant + cnp.sin(x) + y

    return cv.jit(mine)


def test_every_rung_shows_more(capsys):
    marks = ["compiled mine", "mine: program\n", "mine: after cse\n", "mine: loopir\n",
             "mine: llvm\n", "mine: assembly\n"]  # fmt: skip
    assert climbed(capsys, 0, fresh(), 1.0) == ""
    for rung in ladder.RUNGS:
        shown = climbed(capsys, rung, fresh(), 1.0)
        assert [mark in shown for mark in marks] == [k < rung for k in range(len(marks))]


def test_what_is_compiled_and_why_again(capsys):
    f = fresh()
    shown = climbed(capsys, 1, f, 1.0)
    assert re.search(r"traced mine\(~f32\[\]\): \d+ equations in .*, at .*test_debugging", shown)
    assert re.search(r"compiled mine .* in .* ms \(.*llvm .*\), at .*test_debugging", shown)
    assert climbed(capsys, 1, f, 2.0) == ""
    shown = climbed(capsys, 1, f, np.ones(3, np.float32))
    assert "again, since args[0] is f32[3], where it was ~f32[]" in shown
    with cv.enable_x64():
        shown = climbed(capsys, 1, f, np.ones(3, np.float32))
    assert "again, since the setting x64 is True, where it was False" in shown
    assert "again, since the arguments are" in climbed(capsys, 1, lambda: f(1.0, y=2.0))


def test_the_reference_backend_has_fewer_stages(capsys):
    with cv.config.override("backend", "reference"):
        shown = climbed(capsys, 6, fresh(), 1.0)
    assert "compiled mine" in shown
    assert "loopir" not in shown


def test_stages_are_dumped_into_files(tmp_path, capsys):
    with settings.dump_to(tmp_path / "stages"):
        fresh()(1.0)
        fresh()(1.0)
    assert capsys.readouterr().err == ""
    assert sorted([p.name for p in (tmp_path / "stages").iterdir()]) == ["mine-1", "mine-2"]
    files = sorted((tmp_path / "stages" / "mine-1").iterdir())
    stages = [re.sub(r"^\d+-", "", p.name) for p in files]
    assert stages[0] == "program.program"
    assert "after_cse.program" in stages
    assert stages[-3:] == ["loopir.loopir", "llvm.ll", "assembly.s"]
    program = parse(files[0].read_text())
    assert [e.primitive.name for e in program.equations].count("sin") == 2
    after = parse(next(p for p in files if "after_cse" in p.name).read_text())
    assert [e.primitive.name for e in after.equations].count("sin") == 1


def test_the_ladder_is_climbed_by_environment_variables(tmp_path):
    code = "import covector as cv, covector.numpy as cnp; cv.jit(cnp.sin)(1.0)"
    variables = {"COVECTOR_DEBUG": "4", "COVECTOR_DUMP": str(tmp_path), "COVECTOR_CHECK": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "compiled sin" in result.stderr
    assert "function entry" in result.stderr
    assert "define i32" not in result.stderr
    assert (tmp_path / "sin-1").is_dir()


def test_programs_are_verified_in_tests():
    assert settings.config.check


# --- examples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["debug", "lax.callbacks", "lax.barriers"])
def test_examples(name):
    result = doctest.testmod(importlib.import_module(f"covector.{name}"))
    assert result.failed == 0
    assert result.attempted > 0
