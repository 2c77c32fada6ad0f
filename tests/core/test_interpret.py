import gc
import weakref

import numpy as np
import pytest
from hypothesis import given

from covector.core.array import Array
from covector.core.config import disable_jit
from covector.core.interpret import run
from covector.core.parsing import parse
from covector.core.trace import eval_program
from covector.testing.programs import arguments, programs


def test_literals_inputs_and_results_come_out(every):
    program = parse("""
        program (a: f32[2], b: i32[]) {
          c: f32[2], d: i32[] = test_all a 3:i32[]
        } -> d, a, c, 1.5:f32[], [1, 2]:i32[2]
    """)
    a = np.array([1, 2], np.float32)
    results = run(program, a, np.array(7, np.int32))
    assert [r.tolist() for r in results] == [3, [1, 2], [1, 2], 1.5, [1, 2]]
    assert [r.dtype for r in results] == [np.int32, np.float32, np.float32, np.float32, np.int32]


def test_nested_programs_run_by_their_evaluate_rule(every):
    every.evaluate = lambda *args, program, times: _repeat(program, args, times)
    program = parse("""
        program (a: f32[]) {
          b: f32[] = test_all[
            program=program (c: f32[]) {
              d: f32[] = mul c 2.0:f32[]
            } -> d,
            times=10,
          ] a
        } -> b
    """)
    assert run(program, np.float32(3).reshape(()))[0] == 3 * 2**10


def _repeat(program, args, times):
    for _ in range(times):
        args = run(program, *args)
    return args


def test_values_are_freed_after_their_last_use(first):
    alive = []

    def evaluate(x):
        alive.append(sum(r() is not None for r in references))
        result = Tracked(x + 1)
        references.append(weakref.ref(result))
        return result

    class Tracked(np.ndarray):
        def __new__(cls, values):
            return np.asarray(values).view(cls)

    references: list = []
    first.evaluate = evaluate
    pairs = zip("abcdef", "bcdefg", strict=True)
    steps = "\n".join(f"  {b}: f32[3] = test_first {a}" for a, b in pairs)
    program = parse(f"program (a: f32[3]) {{\n{steps}\n}} -> g")
    run(program, np.zeros(3, np.float32))
    # np.asarray makes a plain view, which keeps the tracked array alive as its base.
    gc.collect()
    assert max(alive) <= 1
    assert sum(r() is not None for r in references) == 0


def test_arguments_that_do_not_fit():
    program = parse("program (a: f32[2], b: key<fry>[3]) {\n} -> a")
    keys = np.zeros((3, 2), np.uint32)
    assert run(program, np.zeros(2, np.float32), keys)
    with pytest.raises(TypeError, match="takes 2 arguments, got 1"):
        run(program, np.zeros(2, np.float32))
    with pytest.raises(TypeError, match=r"argument 0 .* float32\[2\], found float64\[2\]"):
        run(program, np.zeros(2), keys)
    with pytest.raises(TypeError, match=r"argument 1 .* should be uint32\[3, 2\]"):
        run(program, np.zeros(2, np.float32), np.zeros(3, np.uint32))


def test_rules_that_contradict_each_other(first):
    program = parse("program (a: f32[2]) {\n  b: f32[2] = test_first a\n} -> b")
    first.evaluate = lambda x: x[:1]
    with pytest.raises(TypeError, match=r"shape says float32\[2\], evaluate returned float32\[1\]"):
        run(program, np.zeros(2, np.float32))


def test_floating_point_errors_are_results():
    program = parse("program (a: f32[]) {\n  b: f32[] = div a 0.0:f32[]\n} -> b")
    assert run(program, np.ones((), np.float32))[0] == np.inf


def test_symbolic_dimensions_take_their_sizes_from_the_arguments():
    program = parse("""
        program (a: f32[n], b: f32[2*n + 1]) {
          c: f32[n,3] = broadcast_in_dim[shape=(n, 3), broadcast_dimensions=(0,)] a
        } -> c, b
    """)
    for n in (2, 5):
        c, b = run(program, np.ones(n, np.float32), np.ones(2 * n + 1, np.float32))
        assert c.shape == (n, 3)
        assert b.shape == (2 * n + 1,)
    with pytest.raises(ValueError, match=r"2\*n \+ 1"):
        run(program, np.ones(2, np.float32), np.ones(4, np.float32))


@given(program=programs())
def test_random_programs_agree_with_eager_evaluation(program):
    values = arguments(program)
    wrapped = [Array.of(v, a) for v, a in zip(values, program.input_avals, strict=True)]
    with disable_jit():  # else control flow is compiled, by a backend
        expected = eval_program(program, *wrapped)
    for a, b in zip(run(program, *values), expected, strict=True):
        np.testing.assert_array_equal(a, b._value)
