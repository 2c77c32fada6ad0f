"""The conformance kit finds what backends do wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from covector.core import backend as registry
from covector.core.interpret import run
from covector.extend import backends
from covector.testing import conformance


class Wrong:
    """Runs programs, but for one mistake."""

    def __init__(self, mistake: str) -> None:
        self.name = mistake
        self.mistake = mistake

    def compile(self, program: backends.Program, options: backends.Options) -> Any:
        names = [e.primitive.name for e in backends.all_equations(program)]
        if self.mistake == "refuses sin" and "sin" in names:
            raise backends.MissingCapabilityError("no sin", "primitive sin")
        if self.mistake == "fails at cos" and "cos" in names:
            raise ValueError("what is a cosine?")
        return Runs(program, self.mistake)


class Runs:
    def __init__(self, program: backends.Program, mistake: str) -> None:
        self.program, self.mistake = program, mistake
        self.signature = backends.Signature(program)
        self.calls = 0

    def __call__(self, *args: Any) -> Sequence[Any]:
        self.calls += 1
        results = [np.array(r) for r in run(self.program, *self.signature.bind(args).arguments)]
        if self.mistake == "off by a little" or (self.mistake == "second call" and self.calls > 1):
            results = [r * 1.01 if r.dtype.kind == "f" else r for r in results]
        if self.mistake == "forgets a result":
            return self.signature.wrap(results)[:-1]
        if self.mistake == "wrong type":
            return [registry.Array(r.astype(np.complex64), False, owned=True) for r in results]
        return self.signature.wrap(results)


@pytest.fixture
def make() -> Iterator[Any]:
    def register(mistake: str) -> str:
        registry.register_backend(mistake, lambda: Wrong(mistake))
        return mistake

    before = dict(registry._factories)
    yield register
    registry._factories.clear()
    registry._factories.update(before)


def some(name: str) -> bool:
    return name in ("sin", "cos", "exp", "running_sum", "passed_on", "normalised", "seed 3")


FAMILIES = ["elementwise", "loops", "sizes and types", "sizes at run time"]


def test_the_interpreter_conforms_to_itself() -> None:
    report = conformance("reference", [*FAMILIES, "random programs"], only=some, programs=4)
    assert report.ok
    assert not report.missing
    assert {f: c["passed"] for f, c in report.counts().items()} == {
        "elementwise": 18, "loops": 1, "sizes and types": 1, "sizes at run time": 1,
        "random programs": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    "mistake", ["off by a little", "second call", "forgets a result", "wrong type"]
)
def test_mistakes_are_found(make: Any, mistake: str) -> None:
    report = conformance(make(mistake), ["loops"], only=some)
    assert [c.name for c in report.failures] == ["running_sum"]
    assert not report.ok


def test_failures_are_named(make: Any) -> None:
    report = conformance(make("fails at cos"), ["elementwise"], only=some)
    assert {c.name.split()[0] for c in report.failures} == {"cos"}
    assert report.failures[0].detail == "ValueError: what is a cosine?"
    assert "failed: elementwise: cos f16: ValueError: what is a cosine?" in str(report)


def test_what_is_declared_missing_is_no_failure(make: Any) -> None:
    report = conformance(make("refuses sin"), ["elementwise"], only=some)
    assert report.ok
    assert report.missing == {"primitive sin": 6}
    assert "declared missing: primitive sin (6)" in str(report)


def test_unknown_families_are_listed() -> None:
    with pytest.raises(ValueError, match=r"no family waves; there are: contract, conv"):
        conformance("reference", ["waves"])
    with pytest.raises(ValueError, match="no backend named 'nowhere'"):
        conformance("nowhere")


def test_native_code_conforms() -> None:
    report = conformance(
        "native",
        ["loops", "while", "branches", "vmap", "grad", "scan gradients", "nested", *FAMILIES[2:]],
    )
    assert report.ok, str(report)
    assert not report.missing
