import subprocess
import sys

import pytest

from covector import _native


def define(filename, text, **names):
    """Runs code which claims to come from `filename`, returns its names."""
    exec(compile(text, filename, "exec"), names)
    return names


CHAIN = """
def call(function, depth):
    return call(function, depth - 1) if depth else function()
"""
USER = """
def user(call, function):
    x = 1
    return call(function, 10)
"""


def test_the_innermost_user_frame_is_found():
    _native.register_internal_prefix("/made-up/covector/")
    inner = define("/made-up/covector/inner.py", CHAIN)["call"]
    user = define("/made-up/user.py", USER)["user"]
    code, lasti = user(inner, _native.find_frame)
    assert code is user.__code__
    positions = list(code.co_positions())[lasti // 2]
    assert positions[0] == 4


def test_a_frame_of_the_user_is_its_own_answer():
    code, _ = _native.find_frame()
    assert code is sys._getframe().f_code


def test_without_user_frames_there_is_none():
    text = (
        "from covector import _native\n"
        "_native.register_internal_prefix('')\n"
        "print(_native.find_frame())\n"
    )
    command = [sys.executable, "-c", text]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "None\n"


def test_code_objects_that_die_leave_no_verdict_behind():
    _native.register_internal_prefix("/made-up/covector/")
    for i in range(5000):
        folder = "covector" if i % 2 else "user"
        filename = f"/made-up/{folder}/generated{i}.py"
        names = define(filename, "def f(find):\n    return find()\n")
        code, _ = names["f"](_native.find_frame)
        assert (code.co_filename == filename) == (folder == "user")


def test_a_prefix_is_text():
    with pytest.raises(TypeError, match="str"):
        _native.register_internal_prefix(b"/x")
