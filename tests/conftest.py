"""What all tests share: Hypothesis profiles, parallel runs, golden files."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# The oracle must not look for accelerators, nor keep the cores busy when idle.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Programs and loop IR are verified after every pass; it costs two percent of the suite's time.
os.environ.setdefault("COVECTOR_CHECK", "1")

# What one test compiles must not hide that another one compiles it wrong.
os.environ.setdefault("COVECTOR_CACHE_SIZE", "0")

from covector.core import backend

# A shell's background jobs ignore Ctrl-C, which tests send to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)

_QUIET = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
# "fast" draws the same examples in every run; ask for more with --hypothesis-profile=long.
hypothesis.settings.register_profile(
    "fast",
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=_QUIET,
)
hypothesis.settings.register_profile(
    "long", max_examples=2000, deadline=None, print_blob=True, suppress_health_check=_QUIET
)
hypothesis.settings.load_profile("fast")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """The whole suite runs on all cores; a selection of files runs in this process."""
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        return None
    return 0


class Golden:
    """Compares texts with files in the folder `golden` beside the test."""

    def __init__(self, folder: Path, update: bool) -> None:
        self.folder = folder
        self.update = update

    def check(self, name: str, text: str) -> None:
        """Assert that `text` is what the file `name` holds (or write it, under --update-golden)."""
        path = self.folder / name
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if not path.exists():
            pytest.fail(f"{path} is missing; to create it: pytest --update-golden")
        assert text == path.read_text(), f"differs from {path}; if intended, use --update-golden"


MEMORY = 2 << 30
"""Bytes of a process from which on compiled programs are forgotten between modules."""


@pytest.fixture(scope="module", autouse=True)
def _bounded_memory() -> Iterator[None]:
    yield
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux
        return
    if pages * os.sysconf("SC_PAGESIZE") > MEMORY:
        backend.clear_cache()
        if "jax" in sys.modules:
            sys.modules["jax"].clear_caches()
        gc.collect()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.path.parent / "golden", request.config.getoption("--update-golden"))
