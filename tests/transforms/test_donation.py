"""Donated arguments: whose memory results take, and what is left of the arguments."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax

WORDS = "Some donated buffers were not usable"


@pytest.fixture(autouse=True)
def donating() -> Generator[None]:
    """Memory is taken over, even where the suite runs without what that needs."""
    needed = {"donation", "in_place", "transposes"}
    with cv.config.override("disable", cv.config.disable - needed):
        yield


def address(x: Any) -> int:
    return int(np.asarray(x).__array_interface__["data"][0])


def fresh(*shape: int, dtype: str = "float32") -> Any:
    """An array in memory of its own, as results of compiled functions are."""
    size = int(np.prod(shape))
    return cv.jit(lambda x: x + 1)(cnp.arange(size, dtype=dtype).reshape(shape))


def roll_step(c: Any, _: Any) -> tuple[Any, None]:
    return 0.5 * c + 0.5 * cnp.roll(c, 1), None


def batch_step(s: Any) -> Any:
    def body(c: Any, _: Any) -> tuple[Any, None]:
        return cnp.stack([c[1], c[2], 0.9 * c[0]]), None

    return lax.scan(body, s, None, length=20)[0]


def heat(i: Any, u: Any) -> Any:
    inside = u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:]
    return u.at[1:-1, 1:-1].set(0.25 * inside)


# What is computed, the shape, and which result takes the memory: -1 for none.
CASES: dict[str, tuple[Any, tuple[int, ...], int]] = {
    "set": (lambda x: x.at[3].set(1.0), (1000,), 0),
    "add to some": (lambda x: x.at[cnp.array([1, 5, 1])].add(2.0), (1000,), 0),
    "slice": (lambda x: lax.dynamic_update_slice(x, 2 * x[:10], (5,)), (1000,), 0),
    "set and scale": (lambda x: 2 * x.at[3].set(1.0), (1000,), 0),
    "element by element": (lambda x: x + 1, (1000,), 0),
    "another dtype": (lambda x: x.astype("int32"), (1000,), 0),
    "reversed": (lambda x: x + x[::-1], (1000,), -1),
    "transposed": (lambda x: x.T + 0, (50, 50), -1),
    "product": (lambda x: x @ x, (50, 50), -1),
    "running sum": (cnp.cumsum, (1000,), -1),
    "unchanged": (lambda x: x, (1000,), 0),
    "old and new": (lambda x: (x, x.at[0].set(5.0)), (1000,), 0),
    "new and old": (lambda x: (x.at[0].set(5.0), x), (1000,), 1),
    "new and an old element": (lambda x: (x.at[3].set(1.0), x[3]), (1000,), 0),
    "new and twice the old": (lambda x: (x.at[3].set(1.0), 2 * x), (1000,), 0),
    "scan in place": (
        lambda x: lax.scan(lambda c, _: (1.01 * c + 1, None), x, None, length=10)[0],
        (1000,),
        0,
    ),
    "scan in a ring": (lambda x: lax.scan(roll_step, x, None, length=10)[0], (1000,), 0),
    "loop of updates": (
        lambda x: lax.fori_loop(0, 10, lambda i, c: c.at[i].add(2.0), x),
        (1000,),
        0,
    ),
    "while": (
        lambda x: lax.while_loop(
            lambda c: c[1] < 10, lambda c: (c[0].at[c[1]].set(3.0), c[1] + 1), (x, 0)
        )[0],
        (1000,),
        0,
    ),
    "lanes": (cv.vmap(batch_step), (100, 3), 0),
    "stencil": (lambda x: lax.fori_loop(0, 20, heat, x), (40, 40), 0),
}


@pytest.mark.parametrize("name", CASES)
def test_results_take_the_memory_of_arguments(name: str) -> None:
    function, shape, place = CASES[name]
    plain, donating = cv.jit(function), cv.jit(function, donate_argnums=0)
    wanted = [np.asarray(v) for v in cv.tree.leaves(plain(fresh(*shape)))]
    for _ in range(3):  # compiled, and found by the dispatcher
        x = fresh(*shape)
        start = address(x)
        found = cv.tree.leaves(donating(x))
        assert x.is_deleted()
        assert [k for k, v in enumerate(found) if address(v) == start] == [place] * (place >= 0)
        for a, b in zip(wanted, found, strict=True):
            np.testing.assert_array_equal(a, np.asarray(b))


@pytest.mark.parametrize("off", ["donation", "in_place"])
@pytest.mark.parametrize("name", CASES)
def test_nothing_else_depends_on_it(name: str, off: str) -> None:
    function, shape, _ = CASES[name]
    wanted = [np.asarray(v) for v in cv.tree.leaves(cv.jit(function)(fresh(*shape)))]
    with cv.config.override("disable", cv.config.disable | {off}):
        x = fresh(*shape)
        start = address(x)
        found = cv.tree.leaves(cv.jit(function, donate_argnums=0)(x))
    assert x.is_deleted()
    assert start not in [address(v) for v in found]
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(a, np.asarray(b))


@pytest.mark.parametrize("name", ["set", "element by element", "scan in place", "loop of updates"])
def test_memory_that_somebody_else_knows_is_left_alone(name: str) -> None:
    function, shape, _ = CASES[name]
    donating = cv.jit(function, donate_argnums=0)
    wanted = np.asarray(cv.jit(function)(fresh(*shape)))
    np.testing.assert_array_equal(np.asarray(donating(fresh(*shape))), wanted)

    def kept_by(export: Any) -> None:
        x = fresh(*shape)
        view, start = export(x), address(x)
        before = np.array(view)
        y = donating(x)
        assert x.is_deleted()
        assert address(y) != start or not np.shares_memory(view, np.asarray(y))
        np.testing.assert_array_equal(np.asarray(y), wanted)
        np.testing.assert_array_equal(np.asarray(view), before)

    kept_by(np.asarray)
    kept_by(memoryview)
    kept_by(np.from_dlpack)
    kept_by(lambda x: np.asarray(x)[3:5])
    given = np.array(fresh(*shape))
    before = given.copy()
    np.testing.assert_array_equal(np.asarray(donating(given)), wanted)
    given.flags.writeable = False  # such memory is shared with NumPy
    np.testing.assert_array_equal(np.asarray(donating(cnp.asarray(given))), wanted)
    np.testing.assert_array_equal(given, before)


def test_one_array_given_twice() -> None:
    step = cv.jit(lambda x, y: (x.at[0].set(7.0), x + y), donate_argnums=0)
    x = fresh(100)
    old = np.array(x)
    start = address(x)
    first, second = step(x, x)
    assert start not in (address(first), address(second))
    np.testing.assert_array_equal(np.asarray(second), 2 * old)
    both = cv.jit(lambda x, y: (x.at[0].set(7.0), y.at[1].set(8.0)), donate_argnums=(0, 1))
    x = fresh(100)
    first, second = both(x, x)
    assert [float(first[0]), float(first[1]), float(second[0])] == [7.0, 2.0, 1.0]


def test_constants_stay_what_they_are() -> None:
    table = fresh(100)
    old = np.array(table)
    f = cv.jit(lambda x: (x.at[0].set(7.0), table.at[0].set(9.0)), donate_argnums=0)
    for _ in range(3):
        f(fresh(100))
    np.testing.assert_array_equal(np.asarray(table), old)


def test_several_arguments_in_containers() -> None:
    def step(state: Any, gradient: Any) -> Any:
        return {k: state[k] - 0.1 * gradient[k] for k in state}

    f = cv.jit(step, donate_argnums=0)
    state = {"b": fresh(10), "w": fresh(20, 30)}
    for _ in range(3):
        gradient = {k: cnp.ones_like(v) for k, v in state.items()}
        places = {k: address(v) for k, v in state.items()}
        old, state = state, f(state, gradient)
        assert {k: address(v) for k, v in state.items()} == places
    with pytest.raises(RuntimeError, match=r"donated to step as argument 0 \('state'\)\['w'\]"):
        old["w"] + 1.0


def test_loops_with_several_carries() -> None:
    def run(x: Any, y: Any) -> Any:
        def body(c: Any, i: Any) -> Any:
            return (c[0].at[i].set(c[1][0]), c[1].at[i].add(c[0][1])), None

        return lax.scan(body, (x, y), cnp.arange(5))[0]

    wanted = cv.jit(run)(fresh(50), fresh(60))
    x, y = fresh(50), fresh(60)
    places = address(x), address(y)
    found = cv.jit(run, donate_argnums=(0, 1))(x, y)
    assert tuple([address(v) for v in found]) == places
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_run_time_sizes() -> None:
    f = cv.jit(lambda x: x * 2 + 1, donate_argnums=0)
    g = cv.jit(lambda x: x * 2 + 1)
    for size in (1000, 16, 1000, 7):
        x = fresh(size)
        start = address(x)
        y = f(x)
        assert address(y) == start
        assert address(g(y)) != start
        assert not y.is_deleted()


# --- what is left ---------------------------------------------------------------------------------


def test_errors_name_the_argument() -> None:
    @cv.jit
    def use(x: Any) -> Any:
        return x + 1

    def step(rate: Any, weights: Any) -> Any:
        return weights * rate

    for options in ({"donate_argnums": 1}, {"donate_argnames": "weights"}):
        x = fresh(4)
        cv.jit(step, **options)(2.0, x)
        for again in (use, np.asarray, lambda v: v + 1, cv.jit(step, **options).__wrapped__):
            with pytest.raises(RuntimeError, match="been deleted with shape") as caught:
                again(x) if again is not step else again(1.0, x)
            assert "float32[4]" in str(caught.value)
            assert "it was donated to step as argument 1 ('weights')" in str(caught.value)
    x = fresh(4)
    cv.jit(lambda *, w: 2 * w, donate_argnames="w")(w=x)
    with pytest.raises(RuntimeError, match="argument w"):
        use(x)
    x = fresh(4)
    x.delete()
    with pytest.raises(RuntimeError, match=r"its delete\(\) was called"):
        use(x)


def unusable(xp: Any) -> list[tuple[Any, dict[str, Any], list[Any]]]:
    """Functions, options and arguments of which some donated one has no result of its size."""
    return [
        (lambda x: x[:3], {"donate_argnums": 0}, [xp.ones(64)]),
        (lambda x, y: x + y, {"donate_argnums": (0, 1)}, [xp.ones(64), xp.ones(64)]),
        (lambda x, y: y, {"donate_argnums": 0}, [xp.ones(64), xp.ones(64)]),
        (
            lambda x, y: y + 1,
            {"donate_argnums": 0, "keep_unused": True},
            [xp.ones(64), xp.ones(64)],
        ),
        (lambda x: x.astype("int32"), {"donate_argnums": 0}, [xp.ones(64)]),
    ]


@pytest.mark.parametrize("case", range(5))
def test_what_is_deleted_and_warned_of_is_as_in_jax(case: int) -> None:
    outcomes: list[tuple[list[bool], int]] = []
    for module, xp in ((cv, cnp), (jax, jnp)):
        function, options, args = unusable(xp)[case]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            module.jit(function, **options)(*args)
        told = [w for w in caught if str(w.message).startswith(WORDS)]
        assert all([w.category is UserWarning for w in told])
        outcomes.append(([x.is_deleted() for x in args], len(told)))
    assert outcomes[0] == outcomes[1]


def test_the_warning_comes_once_and_names_the_function() -> None:
    def head(x: Any) -> Any:
        return x[:3]

    f = cv.jit(head, donate_argnums=0)
    with pytest.warns(UserWarning, match=WORDS) as caught:
        f(fresh(64))
    assert "head" in str(caught[0].message)
    assert "f32[64]" in str(caught[0].message)
    assert caught[0].filename == __file__
    f(fresh(64))  # an error if it warned


def test_tracers_are_not_donated() -> None:
    f = cv.jit(lambda x: x.at[0].set(2.0), donate_argnums=0)
    x = fresh(8)
    y = cv.jit(lambda x: f(x) + x)(x)
    np.testing.assert_array_equal(np.asarray(y)[1:], 2 * np.asarray(x)[1:])
    assert not x.is_deleted()


def test_the_reference_backend() -> None:
    f = cv.jit(lambda x: x + 1, donate_argnums=0, backend="reference")
    for _ in range(2):
        x = fresh(8)
        f(x)
        with pytest.raises(RuntimeError, match="argument 0"):
            x + 1


def test_from_the_disk_cache(tmp_path: Path) -> None:
    from covector.core.backend import clear_cache

    with cv.config.override("cache_dir", str(tmp_path)):
        for _ in range(2):
            clear_cache()
            for name in ("set", "element by element"):
                function, shape, _ = CASES[name]
                x = fresh(*shape)
                start = address(x)
                assert address(cv.jit(function, donate_argnums=0)(x)) == start
                kept = fresh(*shape)
                assert address(cv.jit(function)(kept)) != address(kept)


# --- memory ---------------------------------------------------------------------------------------


def resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise AssertionError(field)


@pytest.mark.parametrize("name", ["set", "element by element", "scan in place", "loop of updates"])
def test_peak_memory(name: str) -> None:
    function, _, _ = CASES[name]
    size = 20_000_000  # bytes
    f = cv.jit(function, donate_argnums=0)
    x = f(f(fresh(size // 4)))
    gc.collect()
    cv._native.clear_buffer_cache()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
    for _ in range(3):
        x = f(x)
    assert resident("VmHWM") - before < size // 4
    assert x.shape == (size // 4,)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: lax.scan(lambda c, _: ((1.5 * c[0], c[1] + 1), None), (x, 2 * x), None, 5)[0],
        lambda x: lax.cond(x[0, 0] > 0, lambda v: v.at[3].set(1.0), lambda v: 2 * v, x),
        lambda x: lax.cond(x[0, 0] > 0, lambda v: (v + 1, v.T @ v), lambda v: (v, v @ v), x),
        lambda x: lax.fori_loop(0, 5, lambda i, c: c.at[i].set(2.0), 3 * x).at[3, 0].set(1.0),
        lambda x: lax.scan(lambda c, v: (c + 1, (v + c, v - c)), x[0], x),
    ],
    ids=["carries", "branches", "products in branches", "updates of a loop's result", "stacks"],
)
def test_results_are_made_where_they_belong(function: Any) -> None:
    with cv.config.override("disable", cv.config.disable | {"run_time_sizes", "lanes"}):
        x = fresh(64, 64)
        lowered = cv.jit(function).lower(x)
        report = lowered.explain()
        temporary = [b for b in report.buffers if b.space in ("workspace", "private", "heap")]
        assert [b.array for b in temporary if (b.nbytes or 0) > 1024] == []
        wanted = function(x)
        for a, b in zip(cv.tree.leaves(wanted), cv.tree.leaves(cv.jit(function)(x)), strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5)


def test_explain_tells_whose_memory_a_result_takes() -> None:
    f = cv.jit(lambda x, y: (x.at[0].set(1.0), x.sum() + y), donate_argnums=0)
    report = f.explain(fresh(1000), 1.0)
    (taken,) = [b for b in report.buffers if "memory of argument" in b.reason]
    assert taken.space == "result"
    assert "in the memory of argument 0" in str(report)
    plain = cv.jit(lambda x: x.at[0].set(1.0)).explain(fresh(1000))
    assert "memory of argument" not in str(plain)
