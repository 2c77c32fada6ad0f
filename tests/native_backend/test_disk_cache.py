"""The disk cache: hits are equal to compilations, keys see everything, and nothing breaks it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import covector as cv
from covector import lax
from covector import numpy as cnp
from covector.backends.native import cache, disk
from covector.compiler.fingerprint import fingerprint
from covector.core import backend
from covector.core.backend import Options
from covector.core.config import config
from covector.core.primitive import REGISTRY, Primitive, unsupported
from covector.ops.functions import sin

X = np.linspace(-3, 3, 24, dtype=np.float32).reshape(4, 6)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "programs"
    with config.override("cache_dir", str(path)), config.override("cache_size", 1 << 24):
        backend.clear_cache()
        yield path
        backend.clear_cache()


def run(fun, *args, **options):
    """The results as bytes, and whether they came from the cache; nothing from memory."""
    backend.clear_cache()
    jitted = cv.jit(lambda *args: fun(*args), **options)
    result = jitted(*args)
    executable = jitted.lower(*args).compile()
    leaves = cv.tree.leaves(result)
    return [np.asarray(x).tobytes() for x in leaves], executable.cost_analysis()["disk_cache"]


def loop(x):
    def body(carry, row):
        carry = carry * 0.9 + cnp.sin(row)
        return carry, carry.sum()

    return lax.scan(body, cnp.zeros(6), x)


TABLE = np.arange(600, dtype=np.float32)

PROGRAMS = {
    "elementwise": (lambda x: cnp.sin(x) * 2 + 1, (X,)),
    "several outputs": (lambda x: {"a": x.sum(), "b": (x @ x.T, x > 0)}, (X,)),
    "scan": (loop, (X,)),
    "gradient": (cv.grad(lambda x: loop(x)[1].sum()), (X,)),
    "while": (lambda x: lax.while_loop(lambda c: c.sum() < 100, lambda c: c + abs(c), x), (X,)),
    "constant": (lambda x: x[0, 0] + cnp.asarray(TABLE), (X,)),
    "computed constant": (lambda x: x.sum() + cnp.cumsum(cnp.asarray(TABLE)), (X,)),
    "library": (lambda x: cnp.linalg.solve(x[:, :4] + 9 * cnp.eye(4), x), (X,)),
    "long functions": (lambda x: cv.scipy.special.gammaln(1e4 * cnp.cos(1e6 * x)), (X,)),
    "sort": (lambda x: (cnp.sort(x), cnp.argsort(x)), (X,)),
    "fft": (lambda x: cnp.fft.fft(x), (X,)),
    "random": (lambda k: cv.random.normal(k, (5,)), (cv.random.key(3),)),
    "relu": (cv.grad(lambda x: cv.nn.relu(x).sum()), (X,)),
    "bfloat16": (lambda x: x.astype("bfloat16") * cnp.asarray(TABLE[:6], "bfloat16"), (X,)),
    "empty": (lambda x: x[:0] + cnp.zeros((0, 6)), (X,)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_hits_are_equal(name, folder):
    fun, args = PROGRAMS[name]
    first, status = run(fun, *args)
    assert status == "miss"
    second, status = run(fun, *args)
    assert status == "hit"
    assert first == second


def test_hits_do_not_compile(folder, monkeypatch):
    run(*PROGRAMS["gradient"][:1], X)
    backend.clear_cache()
    monkeypatch.setattr("covector.compiler.pipeline.schedule", None)
    cv.jit(PROGRAMS["gradient"][0])(X)


def test_stages_of_a_hit(folder):
    fresh = cv.jit(loop).lower(X).compile()
    wanted = {stage: fresh.as_text(stage) for stage in ("optimized", "loopir", "llvm")}
    backend.clear_cache()
    found = cv.jit(loop).lower(X).compile()
    assert found.cost_analysis()["disk_cache"] == "hit"
    assert {stage: found.as_text(stage) for stage in wanted} == wanted


def test_run_time_errors_have_the_lines_of_this_process(folder):
    def solve(x):
        with cv.named_scope("here"):
            return cnp.linalg.solve(x @ x, x)

    line = solve.__code__.co_firstlineno + 2
    square = np.eye(40, dtype=np.float32)
    for status in ("miss", "hit"):
        backend.clear_cache()
        jitted = cv.jit(solve)
        jitted(square)
        (call,) = jitted._compiler.calls.values()
        assert call.executable.disk_cache == status
        with pytest.raises(RuntimeError, match=rf"test_disk_cache.py:{line} .* in here$"):
            call.executable._fail(-1, 0, 0)


# --- keys -----------------------------------------------------------------------------------------


def key_of(fun, *args, effort=2):
    program = cv.jit(fun).trace(*args).program
    return cache.program_key(program, Options(effort=effort))


def test_key_does_not_depend_on_names_or_lines(folder):
    def first(x):
        return cnp.sin(x) + 1

    def second(y):
        z = cnp.sin(y)

        return z + 1

    assert key_of(first, X) == key_of(second, X)


def test_key_sees_the_program(folder):
    functions = [
        lambda x: x + 1,
        lambda x: x + 2,
        lambda x: x - 1,
        lambda x: 1 + x,
        lambda x: x.sum(0),
        lambda x: x.sum(1),
        lambda x: x + cnp.asarray(TABLE[:6]),
        lambda x: x + cnp.asarray(TABLE[1:7]),
        lambda x: x[:1],
        lambda x: x.reshape(-1),
        lambda x: x.astype("float16"),
        lambda x: lax.fori_loop(0, 3, lambda i, c: c + i, x),
        lambda x: lax.fori_loop(0, 4, lambda i, c: c + i, x),
        lambda x: lax.fori_loop(0, 4, lambda i, c: c - i, x),
        lambda x: (x, x),
    ]
    keys = [key_of(f, X) for f in functions]
    keys += [key_of(functions[0], X[:2]), key_of(functions[0], X.astype("float16"))]
    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_key_sees_options_settings_and_surroundings(folder, monkeypatch):
    def fun(x):
        return x + 1

    keys = {key_of(fun, X), key_of(fun, X, effort=1)}
    with config.override("cpu", "x86-64" if config.cpu == "x86-64-v2" else "x86-64-v2"):
        keys.add(key_of(fun, X))
    with config.override("disable", "lanes"):
        keys.add(key_of(fun, X))
    with config.override("debug_nans", True):
        keys.add(key_of(fun, X))
    changes = {
        "covector._native.processor": lambda: b"another",
        "numpy.__version__": "0.1",
        "sys.version": "4.0",
        "covector.backends.native.cache.FORMAT": "0",
        "covector.backends.native.cache._llvm_build": lambda: "another",
        "covector.backends.native.cache._build": lambda folder: "changed",
    }
    for name, value in changes.items():
        cache._environment.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            keys.add(key_of(fun, X))
    cache._environment.cache_clear()
    assert len(keys) == 5 + len(changes)
    with config.override("debug", 0), config.override("dump", ""):
        assert key_of(fun, X) in keys


def test_build_sees_every_file(tmp_path):
    (tmp_path / "inner").mkdir()
    file = tmp_path / "inner" / "a.py"
    file.write_text("1")
    first = cache._build(str(tmp_path))
    os.utime(file, (1, 1))
    second = cache._build(str(tmp_path))
    file.write_text("22")
    os.utime(file, (1, 1))
    assert len({first, second, cache._build(str(tmp_path))}) == 3


def test_programs_that_call_python_keep_their_code_only(folder):
    def make(offset):
        def host(x):
            return np.asarray(x) + offset

        shape = cv.ShapeDtypeStruct((4, 6), "float32")
        return lambda x: cv.pure_callback(host, shape, cnp.cos(x)) * 2

    assert key_of(make(1), X) is None
    first = run(make(np.float32(1)), X)
    second = run(make(np.float32(5)), X)
    assert (first[1], second[1]) == ("miss", "partial")
    assert np.frombuffer(second[0][0], "f4") == pytest.approx((np.cos(X) + 5).ravel() * 2)


def test_primitives_of_users_have_no_fingerprint(folder):
    rules = {r: getattr(sin, r) for r in ("shape", "evaluate", "jvp", "batch", "lower", "lanes")}
    mine = Primitive("mine_in_cache", transpose=unsupported("it is not linear"), **rules)
    try:
        assert not mine.built_in
        assert sin.built_in
        assert fingerprint(cv.jit(mine).trace(X).program) is None
        assert run(mine, X)[1] == "miss"
        assert run(mine, X)[1] == "partial"
    finally:
        del REGISTRY["mine_in_cache"]


def test_switches(folder):
    with config.override("disable", "disk_cache"):
        assert run(cnp.sin, X)[1] == "off"
    with config.override("cache_size", 0):
        assert run(cnp.sin, X)[1] == "off"
    assert not folder.exists()
    for text, size in {"512M": 512 << 20, "2g": 2 << 30, "7": 7}.items():
        assert config.override("cache_size", text)._value == size
    with pytest.raises(ValueError, match="number of bytes"):
        config.override("cache_size", "plenty")


def test_default_directory(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert disk.default_directory() == "/somewhere/covector"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/me")
    assert disk.default_directory() == "/home/me/.cache/covector"


# --- damage ---------------------------------------------------------------------------------------


def entries(folder):
    return sorted(folder.glob("*.code"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:10],
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: pickle.dumps("not a program"),
    ],
)
def test_damaged_entries_are_replaced(folder, damage):
    first, _ = run(loop, X)
    # After those of the elementary functions that it calls.
    file = max(entries(folder), key=lambda f: f.stat().st_mtime_ns)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert run(loop, X) == (first, "miss")
    assert file.read_bytes() == whole
    assert run(loop, X) == (first, "hit")


@pytest.mark.parametrize(
    "payload", [b"", b"{}", bytes(64), (8).to_bytes(8, "little") + b"[1,2,3] "]
)
def test_whole_entries_of_something_else(folder, payload):
    first, _ = run(loop, X)
    for file in entries(folder):
        assert disk.Directory(str(folder), 1 << 24).write(file.stem, payload)
    assert run(loop, X) == (first, "miss")
    assert run(loop, X) == (first, "hit")


def test_entries_that_others_could_have_written_are_not_read(folder):
    run(loop, X)
    for file in entries(folder):
        file.chmod(0o666)
    assert run(loop, X)[1] == "miss"
    target = folder.parent / "elsewhere"
    for file in entries(folder):
        file.rename(target)
        file.symlink_to(target)
    assert run(loop, X)[1] == "miss"


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777])
def test_directories_open_to_others_are_not_used(folder, mode):
    folder.mkdir()
    folder.chmod(mode)
    with pytest.warns(RuntimeWarning, match=f"open to other users .mode {mode:o}"):
        assert run(cnp.sin, X)[1] == "off"
    assert run(cnp.sin, X)[1] == "off"  # and it is said once
    assert not entries(folder)


def test_directories_that_are_links_are_not_used(folder):
    (folder.parent / "real").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "real")
    with pytest.warns(RuntimeWarning, match="not a directory"):
        assert run(cnp.sin, X)[1] == "off"


def test_directories_of_other_users_are_not_used(folder, monkeypatch):
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.warns(RuntimeWarning, match="belongs to another user"):
        assert run(cnp.sin, X)[1] == "off"


def test_no_place_for_a_directory(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with config.override("cache_dir", str(file / "inside")), config.override("cache_size", 99999):
        assert run(cnp.sin, X)[1] == "off"


def test_full_disk(folder, monkeypatch):
    assert disk.Directory(str(folder), 1 << 20).write("ab", b"there")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert run(loop, X)[1] == "miss"
    assert [f.name for f in folder.iterdir()] == ["ab.code"]


# --- room -----------------------------------------------------------------------------------------


def test_eviction_of_what_was_not_read_for_longest(tmp_path):
    directory = disk.Directory(str(tmp_path / "d"), 100_000)
    for k in range(9):
        assert directory.write(f"{k}", bytes(10_000))
        os.utime(tmp_path / "d" / f"{k}.code", (k + 1, k + 1))
    assert directory.read("0") == bytes(10_000)
    assert directory.write("9", bytes(10_000))
    left = {f.stem for f in entries(tmp_path / "d")}
    assert "0" in left
    assert "9" in left
    assert "1" not in left
    total = sum([f.stat().st_size for f in entries(tmp_path / "d")])
    assert total <= disk.KEPT * 100_000
    assert not directory.write("big", bytes(30_000))


def test_others_entries_are_counted(tmp_path):
    mine, other = (disk.Directory(str(tmp_path / "d"), 100_000) for _ in range(2))
    for k in range(200):
        directory = (mine, other)[k % 2]
        assert directory.write(f"{k}", bytes(1000))
    assert sum([f.stat().st_size for f in entries(tmp_path / "d")]) <= 200_000


def test_unfinished_files_are_removed(tmp_path):
    directory = disk.Directory(str(tmp_path / "d"), 100_000)
    old, new = tmp_path / "d" / "x.1.0.new", tmp_path / "d" / "y.1.0.new"
    for file in (old, new):
        file.write_text("unfinished")
    os.utime(old, (time.time() - 7200,) * 2)
    directory.entries()
    assert not old.exists()
    assert new.exists()


# --- processes ------------------------------------------------------------------------------------

SCRIPT = """
import sys
import numpy as np
import covector as cv, covector.numpy as cnp
from covector import lax

def f(x, n):
    for _ in range(n):
        x = cnp.sin(x) + cnp.cos(x) * 0.5
    return x

x = np.linspace(0, 9, 16, dtype=np.float32)
for n in range(1, int(sys.argv[1])):
    print(np.asarray(cv.jit(f, static_argnums=1)(x, n)).tobytes().hex())
print("llvmlite" in sys.modules)
"""


def start(folder, count=6):
    environment = {
        **os.environ,
        "COVECTOR_CACHE_DIR": str(folder),
        "COVECTOR_CACHE_SIZE": "1M",
        "COVECTOR_CHECK": "0",
    }
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(SCRIPT), str(count)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_race_and_later_ones_need_no_llvm(tmp_path):
    racing = [start(tmp_path / "d") for _ in range(3)]
    outputs = [p.communicate(timeout=300)[0].split() for p in racing]
    assert all(p.returncode == 0 for p in racing)
    assert outputs[0] == outputs[1] == outputs[2]
    assert not list((tmp_path / "d").glob("*.new"))
    later = start(tmp_path / "d")
    output = later.communicate(timeout=300)[0].split()
    assert output[:-1] == outputs[0][:-1]
    assert (outputs[0][-1], output[-1]) == ("True", "False")


# JAX, which other tests of a process may have imported, warns of every fork.
@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_forks_use_the_cache(folder):
    first, _ = run(loop, X)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            fresh = run(lambda x: loop(x * 3), X)[1]
            status = 0 if run(loop, X) == (first, "hit") and fresh == "miss" else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert run(lambda x: loop(x * 3), X)[1] == "hit"


def test_names_for_perf(folder):
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    before = path.read_text() if path.exists() else ""

    def with_a_name(x):
        return x * 2 + 3

    try:
        with config.override("perf_map", True):
            for _ in ("miss", "hit"):
                backend.clear_cache()
                cv.jit(with_a_name)(X)
        lines = path.read_text()[len(before) :].splitlines()
        assert len(lines) == 2
        for line in lines:
            start, size, name = line.split()
            assert name == "covector:with_a_name"
            assert int(start, 16) > 0
            assert int(size, 16) > 50
    finally:
        path.unlink(missing_ok=True)
