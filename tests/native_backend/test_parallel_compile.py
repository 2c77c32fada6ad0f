"""Parts of a program compiled at once: the same bits, whatever the threads, and no part missing."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading

import llvmlite.binding as llvm
import numpy as np
import pytest

import covector as cv
from covector import lax
from covector import numpy as cnp
from covector.backends.native import emit, engine, split, toolchain, workers
from covector.backends.native.parts import parts_of
from covector.core import backend
from covector.core.config import config, num_threads
from covector.core.errors import CompilationError
from covector.testing.functions import generate, namespace

RNG = np.random.default_rng(5)
F32 = np.float32
OURS = namespace(cv)
SIZES = (16, 24, 20, 24, 12, 1)
PARAMS = [
    ((RNG.normal(size=(a, b)) / 4).astype(F32), np.zeros(b, F32))
    for a, b in itertools.pairwise(SIZES)
]
X = RNG.normal(size=(32, 16)).astype(F32)


def network(params, x):
    for w, b in params:
        x = cnp.tanh(x @ w + b) + cnp.exp(-x).sum(axis=1, keepdims=True)
    return (x**2).mean()


def recurrence(params, x):
    forth, back = params[1][0], params[2][0]

    def body(carry, row):
        carry = cnp.tanh(carry @ forth @ back + row.mean())
        return carry, cnp.log1p(carry**2).sum()

    carry, sums = lax.scan(body, cnp.ones(24, F32), x)
    return (carry**2).sum() + sums.sum() + network(params, x)


PROGRAMS = {
    "network": (cv.grad(network), (PARAMS, X)),
    "rows": (cv.vmap(cv.grad(network), in_axes=(None, 0)), (PARAMS, X[:, None])),
    "recurrence": (cv.value_and_grad(recurrence), (PARAMS, X)),
}


def switched_on():
    return config.override("disable", config.disable - {"parallel_compile"})


def switched_off():
    return config.override("disable", config.disable | {"parallel_compile"})


@pytest.fixture(autouse=True)
def tested_even_where_the_suite_is_run_without():
    with switched_on():
        yield


@pytest.fixture
def pieces(monkeypatch):
    """Compiles in parts whatever has several loops; what parts there were."""
    monkeypatch.setattr(split, "FINE", 10)
    seen: list[list[str]] = []

    def cut(module, threads):
        parts = parts_of(module, 2 * threads, least=40)
        seen.append(parts)
        return parts

    monkeypatch.setattr(engine, "parts_of", cut)
    return seen


def bits(fun, args, threads=3):
    backend.clear_cache()
    with config.override("cache_size", 0), num_threads(threads):
        leaves = cv.tree.leaves(cv.jit(lambda *args: fun(*args))(*args))
    return [np.asarray(leaf).tobytes() for leaf in leaves]


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_bit_depends_on_parts(pieces, name):
    fun, args = PROGRAMS[name]
    found = bits(fun, args)
    assert max(map(len, pieces)) >= 4
    pieces.clear()
    with switched_off():
        assert bits(fun, args) == found
    assert bits(fun, args, threads=1) == found
    assert not pieces


def test_large_programs_are_cut_and_small_ones_are_not(monkeypatch):
    counts: list[int] = []

    def counted(module, threads):
        parts = parts_of(module, threads)
        counts.append(len(parts))
        return parts

    monkeypatch.setattr(engine, "parts_of", counted)
    bits(cnp.sin, (X,))
    assert set(counts) == {0}
    bits(*PROGRAMS["network"])
    assert max(counts) >= 2


def module_of(fun, args):
    modules: list[emit.Module] = []
    original = engine.Engine.machine_code

    def recorded(self, module, effort):
        modules.append(module)
        return original(self, module, effort)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.Engine, "machine_code", recorded)
        bits(fun, args)
    return max(modules, key=lambda m: m.instructions)


def test_parts_have_every_function_once_and_are_of_like_size():
    module = module_of(*PROGRAMS["network"])
    parts = parts_of(module, 4)
    assert parts == parts_of(module, 4)
    assert len(parts) == 4
    own = [
        {line.split("@")[1].split("(")[0] for line in part.splitlines() if is_own(line)}
        for part in parts
    ]
    every = [name for names in own for name in names]
    wanted = [t.split("@")[1].split("(")[0] for t in module.functions if is_own(t.split("\n")[0])]
    assert sorted(every) == sorted(wanted)
    assert "entry" in every
    sizes = [part.count("\n") for part in parts]
    assert 2 * max(sizes) < sum(sizes)


def test_how_many_parts_there_are():
    texts = [f"define internal i32 @entry.{k}() #1 {{\n{'; ' * 9}\n" for k in range(40)]

    def count(lines, threads):
        module = emit.Module("entry", [text + "\n" * (lines // 40) for text in texts])
        return len(parts_of(module, threads))

    assert count(400, 8) == 0
    assert count(500, 8) == 2
    assert count(3000, 2) == 2
    assert count(3000, 8) == 8
    assert count(9000, 2) == 4


def is_own(line):
    return line.startswith("define") and not line.endswith("#4 {")


def test_the_texts_to_look_at_are_whole(pieces):
    fun, args = PROGRAMS["network"]
    jitted = cv.jit(fun)
    jitted(*args)
    text = jitted.lower(*args).as_text("llvm")
    assert text.count("\ndefine internal i32 @") >= 3
    assert "hidden" not in text
    listing = jitted.lower(*args).as_text("assembly")
    assert "entry.shared1" in listing
    assert any(pieces)


def test_python_threads_compile_in_parts(pieces):
    fun, args = PROGRAMS["network"]
    wanted = [bits(lambda *args, k=k: fun(*args)[k], args) for k in range(3)]
    pieces.clear()
    found: dict[int, list[np.ndarray]] = {}

    def work(k):
        with config.override("cache_size", 0), num_threads(3), switched_on():
            found[k] = cv.tree.leaves(cv.jit(lambda *args: fun(*args)[k])(*args))

    backend.clear_cache()
    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(map(bool, pieces)) >= 3
    for k in range(3):
        assert [np.asarray(leaf).tobytes() for leaf in found[k]] == wanted[k]


def test_others_may_use_llvmlite_meanwhile(pieces):
    fun, args = PROGRAMS["network"]
    wanted = bits(fun, args)
    machine = llvm.Target.from_default_triple().create_target_machine()
    text = "".join(
        f"define float @f{k}(float %x) {{ %y = fadd float %x, {k}.0\n ret float %y }}\n"
        for k in range(50)
    )
    ended = threading.Event()
    objects: set[bytes] = set()

    def other():
        while not ended.is_set():
            objects.add(machine.emit_object(llvm.parse_assembly(text, llvm.create_context())))

    thread = threading.Thread(target=other)
    thread.start()
    try:
        for _ in range(3):
            assert bits(fun, args) == wanted
    finally:
        ended.set()
        thread.join()
    assert len(objects) == 1


@pytest.mark.parametrize("seed", range(24))
def test_random_programs(pieces, seed):
    function = generate(seed)
    args = function.arguments()

    def run(*args):
        return function(OURS, *args)

    with cv.enable_x64(function.style.wide):
        found = bits(run, args)
        with switched_off():
            assert bits(run, args) == found


def test_errors_in_a_part_are_reported():
    functions = [
        "define i32 @entry() #0 {\n %1 = call i32 @entry.1()\n ret i32 %1\n}\n",
        "define internal i32 @entry.1() #1 {\n ret i64 0\n}\n",
    ]
    module = emit.Module("entry", [text + "; \n" * 700 for text in functions])
    assert len(parts_of(module, 2)) == 2
    with num_threads(2), pytest.raises(CompilationError, match="LLVM rejects"):
        engine.get_engine().compile(module, 2)


def test_one_module_where_the_way_past_the_lock_is_unknown(pieces, monkeypatch):
    fun, args = PROGRAMS["network"]
    wanted = bits(fun, args)
    pieces.clear()
    monkeypatch.setattr(engine, "direct_calls", lambda: None)
    assert bits(fun, args) == wanted
    assert not pieces


def test_the_way_past_the_lock_is_known_here():
    assert toolchain.direct_calls() is not None


def test_fewer_functions_of_llvmlite_are_noticed(monkeypatch):
    def missing(self, library, name):
        raise AttributeError(name)

    monkeypatch.setattr(toolchain.DirectCalls, "_function", missing)
    assert toolchain.direct_calls.__wrapped__() is None
    monkeypatch.setattr(toolchain, "KNOWN", range(14, 15))
    assert toolchain.direct_calls.__wrapped__() is None


def test_work_is_done_once_and_its_errors_arrive():
    assert workers.at_once(lambda k: k * k, 50, 4) == [k * k for k in range(50)]
    assert workers.at_once(lambda k: k, 3, 1) == [0, 1, 2]
    assert workers.at_once(lambda k: k, 0, 4) == []
    both = threading.Barrier(2, timeout=60)
    assert workers.at_once(lambda k: both.wait() >= 0, 2, 2) == [True, True]

    def failing(number):
        both.wait()
        if threading.current_thread() is not caller:
            raise ValueError(number)
        return number

    caller = threading.current_thread()
    with pytest.raises(ValueError, match=r"[01]"):
        workers.at_once(failing, 2, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_forked_child_has_threads_of_its_own(pieces):
    fun, args = PROGRAMS["network"]
    wanted = bits(fun, args)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            pieces.clear()
            fresh = workers._pool is None
            status = 0 if fresh and bits(fun, args) == wanted and any(pieces) else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert bits(fun, args) == wanted


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_fork_waits_for_what_another_thread_compiles():
    inside, ended = threading.Event(), threading.Event()

    def compiling():
        with engine.Engine._lock:
            inside.set()
            ended.wait(0.3)

    other = threading.Thread(target=compiling)
    other.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if engine.Engine._lock.acquire(timeout=20) else 1)
    _, status = os.waitpid(child, 0)
    other.join()
    assert os.waitstatus_to_exitcode(status) == 0


def test_the_first_compilation_may_come_when_python_is_ending():
    script = """
import threading
import numpy as np
import covector as cv

def late():
    threading.main_thread().join()
    print(cv.jit(lambda x: (x + 1).sum())(np.ones(4, np.float32)))

threading.Thread(target=late).start()
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "8.0"


SCRIPT = """
import atexit, sys
import numpy as np
import covector as cv
from covector import numpy as cnp
from covector.core.config import config

config.update("num_threads", 2)
params = [np.full((8, 8), 0.1 * k, np.float32) for k in range(1, 9)]

def network(params, x):
    for k, w in enumerate(params):
        x = cnp.tanh(x @ w) + cnp.exp(-x * k).sum(axis=1, keepdims=True) * cnp.sin(x)
    return (x**2).mean()

def show(scale):
    jitted = cv.jit(lambda params, x: [g * scale for g in cv.grad(network)(params, x)])
    lowered = jitted.lower(params, np.ones((4, 8), np.float32)).compile()
    total = sum(float(abs(g).sum()) for g in jitted(params, np.ones((4, 8), np.float32)))
    print(lowered.cost_analysis()["disk_cache"], total)

show(1.0)
atexit.register(show, 2.0)
"""


def test_other_processes_use_the_code_and_threads_end_with_python(tmp_path):
    def run(disable):
        variables = {
            "COVECTOR_CACHE_DIR": str(tmp_path),
            "COVECTOR_CACHE_SIZE": "1M",
            "COVECTOR_DISABLE": disable,
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            capture_output=True,
            env={**os.environ, **variables},
            timeout=300,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return [line.split() for line in done.stdout.splitlines()]

    first, second = run(""), run("")
    whole = run("parallel_compile")
    assert [line[0] for line in first] == ["miss", "miss"]
    assert [line[0] for line in second] == ["hit", "hit"]
    assert [line[1] for line in first] == [line[1] for line in second]
    assert [line[1] for line in first] == [line[1] for line in whole]
