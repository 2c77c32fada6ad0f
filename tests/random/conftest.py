"""What jax.random draws, kept in a file: compiling its samplers takes JAX seconds for each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

FILE = Path(__file__).parent / "golden" / "samples.json"


class Samples:
    """Arrays by name, in a file with a line of text for each."""

    def __init__(self, update: bool) -> None:
        self.update = update
        self.changed = False
        self.lines: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}

    def expected(self, name: str, draw: Callable[[Any], Any]) -> np.ndarray[Any, Any]:
        """The array of this name; under --update-golden what `draw(jax)` returns."""
        if self.update:
            import jax

            value = np.asarray(draw(jax))
            self.lines[name] = [str(value.dtype), list(value.shape), _text(value)]
            self.changed = True
        if name not in self.lines:
            pytest.fail(f"{name!r} is not in {FILE}; to add it: pytest --update-golden")
        dtype, shape, text = self.lines[name]
        return _array(text, np.dtype(getattr(ml_dtypes, dtype, dtype))).reshape(shape)

    def save(self) -> None:
        rows = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(self.lines.items())]
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")


def _text(value: np.ndarray[Any, Any]) -> str:
    if value.dtype.kind == "c":
        value = np.stack([value.real, value.imag], -1)
    return " ".join(str(x) if x.dtype != np.bool_ else str(int(x)) for x in value.reshape(-1))


def _array(text: str, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    part = np.empty(0, dtype).real.dtype
    read = float if part.kind in "fV" else int
    numbers = np.array([read(word) for word in text.split()]).astype(part)
    return numbers.reshape(-1, 2).copy().view(dtype)[:, 0] if dtype.kind == "c" else numbers


@pytest.fixture(scope="session")
def samples(request: pytest.FixtureRequest) -> Iterator[Samples]:
    kept = Samples(request.config.getoption("--update-golden"))
    yield kept
    if kept.changed:
        kept.save()
