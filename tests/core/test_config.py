from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

import covector.numpy as jnp
from covector import _native, jit, lax, vmap
from covector.core import config as settings
from covector.core.config import SETTINGS, config, enable_x64


def read(script, **environment):
    code = f"from covector.core.config import config\nprint({script})"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    return result.stdout.strip() or result.stderr.strip().splitlines()[-1]


@pytest.fixture
def restored():
    before = {name: getattr(config, name) for name in SETTINGS}
    yield
    for name, value in before.items():
        config.update(name, value)


def test_every_setting_has_an_attribute_and_a_line_in_the_documentation():
    for name, setting in SETTINGS.items():
        assert name in settings.Config.__annotations__
        assert f"`{name}`" in settings.__doc__
        assert f"`{setting.variable}`" in settings.__doc__


@pytest.mark.parametrize(
    ("variable", "text", "attribute", "expected"),
    [
        ("COVECTOR_ENABLE_X64", "1", "x64", "True"),
        ("COVECTOR_ENABLE_X64", "off", "x64", "False"),
        ("COVECTOR_DEBUG", "3", "debug", "3"),
        ("COVECTOR_NUM_THREADS", "2", "num_threads", "2"),
        ("COVECTOR_BACKEND", "reference", "backend", "reference"),
        ("COVECTOR_TAPE_BYTES", "3G", "tape_bytes", str(3 << 30)),
        ("COVECTOR_TAPE_BYTES", "1000", "tape_bytes", "1000"),
        ("COVECTOR_DISABLE", "lanes, cse", "disable - {'cse'}", "frozenset({'lanes'})"),
    ],
)
def test_the_environment_gives_the_first_value(variable, text, attribute, expected):
    assert read(f"config.{attribute}", **{variable: text}) == expected


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("COVECTOR_ENABLE_X64", "maybe"),
        ("COVECTOR_TAPE_BYTES", "-1"),
        ("COVECTOR_TAPE_BYTES", "much"),
        ("COVECTOR_TAPE_BYTES", "nanM"),
        ("COVECTOR_DEBUG", "7"),
        ("COVECTOR_NUM_THREADS", "-1"),
    ],
)
def test_a_bad_environment_variable_is_named(variable, text):
    assert f"environment variable {variable}='{text}': expected" in read(
        "config", **{variable: text}
    )


def test_update_holds_for_all_threads(restored):
    config.update("jax_enable_x64", True)
    seen = []
    thread = threading.Thread(target=lambda: seen.append((config.x64, _native.get_x64())))
    thread.start()
    thread.join()
    assert seen == [(True, True)]
    assert config.x64
    config.x64 = False
    assert not config.x64
    assert not _native.get_x64()


def test_an_override_holds_for_one_thread():
    seen = []
    with enable_x64():
        thread = threading.Thread(target=lambda: seen.append((config.x64, _native.get_x64())))
        thread.start()
        thread.join()
        assert config.x64
        assert _native.get_x64()
    assert seen == [(False, False)]
    assert not config.x64
    assert not _native.get_x64()


def test_overrides_nest_and_end_with_exceptions():
    with enable_x64(True):
        with enable_x64(False):
            assert not config.x64
        assert config.x64
        with pytest.raises(KeyError), enable_x64(False):
            raise KeyError
        assert config.x64
    assert not config.x64


def test_override_as_a_decorator():
    @enable_x64()
    def depth(n):
        assert config.x64
        return n if n == 0 else depth(n - 1)

    assert depth(3) == 0
    assert not config.x64


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (settings.enable_x64, "x64", True),
        (settings.debug_nans, "debug_nans", True),
        (settings.disable_jit, "disable_jit", True),
        (settings.checked, "check", not config.check),
        (settings.debug_infs, "debug_infs", True),
        (settings.debug_level, "debug", 4),
        (settings.dump_to, "dump", "somewhere"),
        (settings.default_backend, "backend", "reference"),
        (settings.num_threads, "num_threads", 1),
    ],
)
def test_every_setting_has_a_context_manager(make, name, value):
    before, key = getattr(config, name), config.trace_key()
    with make(value):
        assert getattr(config, name) == value
        assert (config.trace_key() != key) == SETTINGS[name].traced
    assert getattr(config, name) == before
    assert config.trace_key() == key


def test_the_epoch_is_equal_for_equal_settings():
    first = config.epoch
    with enable_x64():
        inside = config.epoch
        with settings.num_threads(1):
            assert config.epoch == inside
    assert config.epoch == first != inside
    with enable_x64():
        assert config.epoch == inside


def test_a_process_wide_change_reaches_threads_with_overrides(restored):
    ready, changed, keys = threading.Event(), threading.Event(), []

    def work():
        with enable_x64():
            ready.set()
            changed.wait()
            keys.append((config.trace_key(), config.x64, config.debug_nans))

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    config.update("debug_nans", True)
    changed.set()
    thread.join()
    with enable_x64(), settings.debug_nans():
        assert keys == [(config.trace_key(), True, True)]


def test_unknown_settings_and_bad_values_are_refused():
    with pytest.raises(AttributeError, match="no setting is called 'x65'; there are: x64, debug"):
        config.update("x65", True)
    with pytest.raises(AttributeError, match="no setting"):
        config.typo = 1
    with pytest.raises(ValueError, match="setting debug=9: expected a level from 0 to 6"):
        config.update("debug", 9)
    with pytest.raises(ValueError, match="expected a boolean"):
        enable_x64("maybe")
    with pytest.raises(ValueError, match="expected a name"):
        settings.default_backend("")


def test_an_unknown_optimisation_is_refused_with_the_known_ones(restored):
    with pytest.raises(ValueError, match=r"no optimisation loops; there are: .*lanes"):
        config.update("disable", "lanes,loops")


def test_what_is_disabled_is_left_out_and_compiled_anew(restored):
    def batched(xs):
        def step(x, _):
            return jnp.sin(x), None

        return vmap(lambda x: lax.scan(step, x, None, length=3)[0])(xs)

    compiled, xs = jit(batched), jnp.arange(64.0)
    with_lanes = compiled.lower(xs).as_text("optimized")
    before = compiled(xs)
    config.update("disable", "lanes")
    assert "lanes" in with_lanes
    assert "lanes" not in compiled.lower(xs).as_text("optimized")
    assert before.tolist() == compiled(xs).tolist()
