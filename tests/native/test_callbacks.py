"""Python functions called from compiled code."""

import threading

import numpy as np
import pytest

from covector import _native
from covector._native import Executable

F32, F64, I32 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int32)

CALL_BACK = """
define i32 @entry(ptr %dims, ptr %args, ptr %results, ptr %ctx) {{
  %p = getelementptr i8, ptr %ctx, i64 32
  %f = load ptr, ptr %p
  %q = getelementptr i8, ptr %ctx, i64 40
  %poll = load ptr, ptr %q
  %c = call i32 %f(ptr %ctx, i32 0, ptr %args, ptr %results)
  {more}
  ret i32 {code}
}}
"""


def call_back(entries, inputs, results, function, release=False, code="%c", more=""):
    """An executable which calls function 0 with its inputs and gives its results."""
    return Executable(
        entries.llvm(CALL_BACK.format(code=code, more=more)),
        None,
        inputs,
        [(*spec, False) for spec in results],
        callbacks=[(function, inputs, [(*spec, False) for spec in results])],
        name="caller",
        release_gil=release,
    )


@pytest.mark.parametrize("release", [False, True])
def test_callbacks(entries, array_class, release):
    seen = []

    def function(arrays):
        seen.append(arrays)
        return [arrays[0] * 2, np.float32(7)]

    run = call_back(
        entries, [((2, 2), F32), ((0,), I32)], [((2, 2), F32), ((), F32)], function, release
    )
    x = np.arange(4, dtype=np.float32).reshape(2, 2)
    doubled, seven = run(x, np.zeros(0, np.int32))
    np.testing.assert_array_equal(doubled._value, 2 * x)
    assert seven._value == 7
    (kept, empty) = seen[0]
    assert not kept.flags.writeable
    assert empty.shape == (0,)
    x[:] = -1
    np.testing.assert_array_equal(kept, [[0, 1], [2, 3]])  # a copy: it may be kept


@pytest.mark.parametrize(
    "make",
    [
        lambda x: np.asfortranarray(x),
        lambda x: x.astype(">f4"),
        lambda x: x[:, ::-1][:, ::-1],
        _native.ArrayBase,
        lambda x: _native.new_array(np.asfortranarray(x)),
    ],
)
def test_callback_results_of_any_layout(entries, make):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    run = call_back(entries, [], [((2, 3), F32)], lambda arrays: [make(x)])
    np.testing.assert_array_equal(run()[0]._value, x)


@pytest.mark.parametrize("code", ["%c", 0, 5, -1])
@pytest.mark.parametrize("release", [False, True])
def test_exceptions_of_callbacks_pass_through(entries, release, code):
    def function(arrays):
        raise KeyError("mine")

    run = call_back(entries, [], [], function, release, code)
    for _ in range(3):
        with pytest.raises(KeyError, match="mine"):
            run()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([], "declared to return 1 arrays, got 0"),
        ([1, 2], "declared to return 1 arrays, got 2"),
        ([np.zeros(3)], r"declared as float32\[3\], but it returned float64\[3\]"),
        ([np.zeros(4, np.float32)], r"returned float32\[4\]"),
        ([np.zeros((3, 1), np.float32)], r"returned float32\[3,1\]"),
        ([[[1], [2, 3]]], "inhomogeneous"),
        ([None], "object"),
        (None, "not iterable"),
    ],
)
def test_results_of_callbacks_are_checked(entries, returned, message):
    run = call_back(entries, [], [((3,), F32)], lambda arrays: returned)
    with pytest.raises((TypeError, ValueError), match=message):
        run()


def test_a_failed_callback_is_not_called_again(entries):
    calls = []

    def function(arrays):
        calls.append(1)
        raise KeyError

    again = """
  call i32 %poll(ptr %ctx)
  call i32 %f(ptr %ctx, i32 0, ptr %args, ptr %results)
    """
    run = call_back(entries, [], [], function, more=again, code=0)
    with pytest.raises(KeyError):
        run()
    assert calls == [1]


def test_callbacks_on_another_thread_are_refused(entries):
    def run(dims, args, results, ctx):
        codes = []
        thread = threading.Thread(
            target=lambda: codes.append(entries.callback(ctx, 0, args, results))
        )
        thread.start()
        thread.join()
        return codes[0]

    run = Executable(entries.python(run), None, [], [], callbacks=[(lambda a: [], [], [])])
    with pytest.raises(RuntimeError, match="code -2"):
        run()
