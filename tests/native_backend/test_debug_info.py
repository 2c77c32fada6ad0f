"""Debug information: generated code has the user's lines, and debuggers find it."""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import covector as cv
from covector import _native, lax
from covector import numpy as cnp
from covector.backends.native import compiling
from covector.backends.native.line_tables import stretches
from covector.backends.native.linking import at_address
from covector.core import backend
from covector.core.config import config, num_threads

HERE = os.path.abspath(__file__)
X = np.linspace(0, 1, 40, dtype=np.float32)

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.uname().machine != "x86_64",
    reason="LLVM's own linker does not tell debuggers",
)


@pytest.fixture(autouse=True)
def debug_info(tmp_path):
    """Nothing from memory, and a disk cache of its own."""
    backend.clear_cache()
    with (
        config.override("debug_info", True),
        config.override("cache_dir", str(tmp_path / "programs")),
        config.override("cache_size", 1 << 24),
    ):
        yield
    backend.clear_cache()


class _Entry(ctypes.Structure):
    pass


_Entry._fields_ = [
    ("next", ctypes.POINTER(_Entry)),
    ("previous", ctypes.POINTER(_Entry)),
    ("address", ctypes.c_void_p),
    ("size", ctypes.c_uint64),
]


class _Descriptor(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_uint32),
        ("action", ctypes.c_uint32),
        ("relevant", ctypes.POINTER(_Entry)),
        ("first", ctypes.POINTER(_Entry)),
    )


def registered() -> list[bytes]:
    """The object files that a debugger would find, the latest first."""
    descriptor = _Descriptor.from_address(_native.debug_descriptor())
    assert descriptor.version == 1
    found, entry = [], descriptor.first
    while entry:
        found.append(ctypes.string_at(entry.contents.address, entry.contents.size))
        following = entry.contents.next
        if following:
            assert following.contents.previous.contents.address == entry.contents.address
        entry = following
    return found


def machine_of(jitted, *args):
    return jitted.lower(*args).compile()._executable._compiled.machine


def lines_in(debug: bytes) -> set[str]:
    """The source text of every line that some instruction is for."""
    text = Path(HERE).read_text().splitlines()
    parts = stretches(debug)
    assert all(part.file in (HERE, "") for part in parts)
    return {text[part.line - 1].strip() for part in parts if part.line}


def recurrence(x):
    def step(carry, value):
        carry = carry * 0.5 + value
        return carry, 1 / (carry + 2)

    return lax.scan(step, x[0], x)


def elementwise(x):
    y = x * x + 3
    return cnp.sqrt(y)


def rows(x):
    y = cnp.outer(x, x)
    return (y * y).sum(0)


def many_steps(x):
    for _ in range(400):
        x = x * (x + 1)
        x = x / (x + 2)
    return x


def solved(x):
    a = cnp.outer(x, x) + 9 * cnp.eye(40)
    return cnp.linalg.solve(a, x)


def rolled(x):
    y = cnp.roll(x, 3)
    return cnp.roll(y * 2, 1) + 1


BIG = np.linspace(0, 1, 1 << 21, dtype=np.float32)
PROGRAMS = {
    "loop": (recurrence, (X,), ["carry = carry * 0.5 + value", "return carry, 1 / (carry + 2)"]),
    "lanes": (cv.vmap(recurrence), (np.outer(X, X),), ["carry = carry * 0.5 + value"]),
    "vectors": (elementwise, (X,), ["return cnp.sqrt(y)"]),
    "threads": (elementwise, (BIG,), ["return cnp.sqrt(y)"]),
    "reduction": (rows, (X,), ["return (y * y).sum(0)"]),
    "packs": (many_steps, (X[:4],), ["x = x * (x + 1)", "x = x / (x + 2)"]),
    "pieces": (many_steps, (X[0],), ["x = x * (x + 1)", "x = x / (x + 2)"]),
    "ranges": (rolled, (X,), ["return cnp.roll(y * 2, 1) + 1"]),
    "library": (solved, (X,), ["return cnp.linalg.solve(a, x)"]),
    "gradient": (
        cv.grad(lambda x: recurrence(x)[1].sum()),
        (X,),
        ["carry = carry * 0.5 + value", "return carry, 1 / (carry + 2)"],
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_code_has_the_users_lines(name):
    fun, args, expected = PROGRAMS[name]
    jitted = cv.jit(fun)
    linked = machine_of(jitted, *args).linked
    debug = linked.debug
    assert set(expected) <= lines_in(debug)
    with config.override("debug_info", False):
        plain = cv.jit(fun)
        with num_threads(1):  # else parts are compiled at once, and functions stand in other order
            without = machine_of(plain, *args).linked
        assert not without.debug
        assert without.code == linked.code  # what is measured and debugged is what runs
        assert "!dbg" not in plain.lower(*args).as_text("llvm")
        expected = cv.tree.leaves(plain(*args))
    for found, value in zip(cv.tree.leaves(jitted(*args)), expected, strict=True):
        assert np.asarray(found).tobytes() == np.asarray(value).tobytes()


def test_tables_are_read_as_other_tools_read_them(tmp_path):
    tool = shutil.which("llvm-dwarfdump")
    if tool is None:
        pytest.skip("there is no llvm-dwarfdump")
    debug = machine_of(cv.jit(recurrence), X).linked.debug
    (tmp_path / "code.o").write_bytes(debug)
    command = [tool, "--debug-line", str(tmp_path / "code.o")]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^0x([0-9a-f]{16}) +(\d+) .*?(end_sequence)?$", text, re.M)
    ours = stretches(debug)
    assert ours[-1].end == int(rows[-1][0], 16)
    for part in ours:
        lines = [int(line) for start, line, ends in rows if int(start, 16) == part.start]
        assert lines[-1] == part.line


def test_debuggers_find_code_as_long_as_it_lives():
    def doubled(x):
        return x * 2

    compiling._recent.clear()
    gc.collect()
    before = len(registered())
    jitted = cv.jit(doubled)
    jitted(X)
    machine, found = machine_of(jitted, X), registered()
    assert len(found) == before + 1
    assert found[0] != machine.linked.debug  # which does not know where the code is
    start = min(part.start for part in stretches(found[0]))
    assert found[0] == at_address(machine.linked.debug, start)
    del jitted, machine
    backend.clear_cache()
    compiling._recent.clear()  # the latest stages, for people to look at
    gc.collect()
    assert len(registered()) == before


def test_registrations_go_in_any_order():
    before = registered()
    kept = [_native.debug_register(b"%d" % k) for k in range(4)]
    assert registered() == [b"3", b"2", b"1", b"0", *before]
    del kept[1]
    assert registered() == [b"3", b"2", b"0", *before]
    del kept[2]
    assert registered() == [b"2", b"0", *before]
    del kept[0]
    assert registered() == [b"2", *before]
    del kept[0]
    assert registered() == before


def compiled_from(text: str, filename: str = "<cell>"):
    space: dict = {}
    exec(compile(text, filename, "exec"), space)
    return cv.jit(space["f"])


def test_lines_are_part_of_what_is_kept():
    first = compiled_from("def f(x):\n  return x * 3")
    moved = compiled_from("def f(x):\n\n\n  return x * 3")
    for jitted, line in ((first, 2), (moved, 4), (first, 2)):
        assert line in {p.line for p in stretches(machine_of(jitted, X).linked.debug)}
    for status, line in (("hit", 2), ("hit", 4), ("miss", 3)):
        backend.clear_cache()
        again = compiled_from("def f(x):" + "\n" * (line - 1) + "  return x * 3")
        compiled = again.lower(X).compile()
        assert compiled.cost_analysis()["disk_cache"] == status
        debug = machine_of(again, X).linked.debug
        assert line in {p.line for p in stretches(debug)}
        before = len(registered())
        again(X)
        assert len(registered()) == before


def test_programs_that_are_not_kept_whole_have_lines():
    def watched(x):
        y = x * 4
        cv.debug.callback(lambda value: None, y.sum())
        return y + 1

    for status in ("miss", "partial"):
        backend.clear_cache()
        compiled = cv.jit(watched).lower(X).compile()
        assert compiled.cost_analysis()["disk_cache"] == status
        assert "y = x * 4" in lines_in(compiled._executable._compiled.machine.linked.debug)


@pytest.mark.parametrize("name", ["a b.py", 'q"uote.py', "br{0}ace}.py", "back\\slash.py", "ü.py"])
def test_names_of_files(name, tmp_path):
    path = str(tmp_path / name)
    jitted = compiled_from("def f(x):\n  return x * 3", path)
    parts = stretches(machine_of(jitted, X).linked.debug)
    assert (path, 2) in {(part.file, part.line) for part in parts}
    assert np.allclose(jitted(X), X * 3)


def test_equal_loops_of_other_lines_stay_apart():
    def twice(x, w):
        x = cnp.tanh(w @ x)
        return cnp.tanh(w @ x)

    w = np.ones((40, 40), np.float32)
    found = lines_in(machine_of(cv.jit(twice), X, w).linked.debug)
    assert found >= {"x = cnp.tanh(w @ x)", "return cnp.tanh(w @ x)"}


def test_perf_has_lines_too():
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    before = path.read_text() if path.exists() else ""
    try:
        with config.override("perf_map", True):
            jitted = cv.jit(recurrence)
            jitted(X)
        entries = [line.split(" ", 2) for line in path.read_text()[len(before) :].splitlines()]
    finally:
        path.unlink(missing_ok=True)
    spans = sorted((int(start, 16), int(size, 16)) for start, size, _ in entries)
    assert all(a + size == b for (a, size), (b, _) in itertools.pairwise(spans))
    line = recurrence.__code__.co_firstlineno + 2
    assert f"covector:recurrence {os.path.basename(HERE)}:{line}" in {n for _, _, n in entries}


SCRIPT = """\
import numpy as np
import covector as cv

def halved(x):
    return x * 0.5 + 1

def step(carry, x):
    carry = halved(carry) + x
    return carry, 1 / carry

def model(c, x):
    return cv.lax.scan(step, c, x)

print(cv.jit(model)(np.float32(1), np.ones(100, np.float32))[0])
"""


def test_gdb_stops_at_lines(tmp_path):
    gdb = shutil.which("gdb")
    if gdb is None:
        pytest.skip("there is no gdb")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    steps = ["set breakpoint pending on", "break script.py:9", "run", "bt 3", "delete", "continue"]
    command = [gdb, "-nx", "-q", "-batch", "-ex", "set debuginfod enabled off"]
    for each in steps:
        command += ["-ex", each]
    root = str(Path(cv.__file__).parents[1])
    environment = {
        **os.environ,
        "COVECTOR_DEBUG_INFO": "1",
        "COVECTOR_CACHE_SIZE": "0",
        "PYTHONPATH": root,
    }
    command += ["--args", sys.executable, str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    if "ptrace" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("gdb may not trace processes here")
    assert re.search(r"#0 +step \(\) at \S+script.py:9", done.stdout), done.stdout + done.stderr
    assert re.search(r"#1 +covector:model \(\) at \S+script.py:", done.stdout)
    assert re.search(r"#2 .* in cv_context_run", done.stdout)
    assert "exited normally" in done.stdout
