"""`covector explain`: scripts, functions, arguments, and what can be wrong with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from covector.cli import main

SCRIPT = """
import covector as cv
import covector.numpy as cnp

SIZE = 7


def plain(x, power=2):
    return cnp.sum(cnp.exp(x) ** power)


jitted = cv.jit(plain, static_argnames="power")
if __name__ == "__main__":
    raise SystemExit("scripts do not run")
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "model.py"
    path.write_text(SCRIPT)
    return str(path)


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["explain", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["explain", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("covector: ")
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize("argument", ["f32[1000, 3]", "cnp.ones((1000, 3))", "np.ones((1000, 3))"])
def test_arguments(script: str, capsys: pytest.CaptureFixture[str], argument: str) -> None:
    text = explained(capsys, f"{script}:plain", "--args", argument, "--section", "summary")
    assert "plain(f32[1000,3]) -> f32[]" in text


def test_names_of_the_script_keywords_and_statics(
    script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target, arguments = f"{script}:plain", ["cnp.ones(SIZE)", "power=1 + 2"]
    text = explained(
        capsys, target, "--args", *arguments, "--static", "power", "--section", "program"
    )
    assert "integer_pow[y=3]" in text
    text = explained(capsys, f"{script}:jitted", "--args", *arguments, "--section", "program")
    assert "program plain(a: f32[7])" in text


def test_run(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = explained(
        capsys, f"{script}:jitted", "--args", "f32[9]", "--run", "--section", "summary,lanes"
    )
    assert "measured: " in text
    assert "lanes: " in text
    assert "residuals" not in text


def test_as_a_process(script: str) -> None:
    """Plain text where the output is no terminal."""
    command = [sys.executable, "-m", "covector", "explain", f"{script}:plain", "--args", "f32[8]"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("summary: ")
    assert "\x1b" not in done.stdout
    failed = subprocess.run([*command, "--section", "nothing"], capture_output=True, text=True)
    assert failed.returncode == 2
    assert "there is no section 'nothing'" in failed.stderr


def test_what_is_missing(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no script nowhere.py" in refused(capsys, "nowhere.py:f")
    assert "write script.py:function" in refused(capsys, script)
    assert "it has plain, jitted" in refused(capsys, f"{script}:other")
    assert "SIZE" in refused(capsys, f"{script}:SIZE")
    assert "missing 1 required positional argument: 'x'" in refused(capsys, f"{script}:plain")


def test_bad_arguments(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    target = f"{script}:plain"
    assert "no dtype is called 'f33'" in refused(capsys, target, "--args", "f33[3]")
    assert "SyntaxError" in refused(capsys, target, "--args", "ones(")
    text = refused(capsys, target, "--args", "cnp.nothing(3)")
    assert "AttributeError" in text
    assert 'write a shape such as "f32[1000,3]"' in text
    assert "static_argnums" in refused(capsys, target, "--args", "f32[3]", "--static", "7")
    jitted = refused(capsys, f"{script}:jitted", "--args", "f32[3]", "--static", "1")
    assert "leave --static out" in jitted


def test_a_script_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import nothing_of_this_name\n")
    text = refused(capsys, f"{path}:f")
    assert "ModuleNotFoundError" in text
    assert "nothing_of_this_name" in text
