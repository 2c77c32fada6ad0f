"""The code of docs/export.md runs as it stands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tests.export.programs_in_c import compiler

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.S)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile("\n".join(blocks("python")), str(PAGE), "exec"), {})
    (program,), (command,) = blocks("c"), blocks("console")
    Path("main.c").write_text(program)
    words = command.split()
    subprocess.run([compiler(), *words[1:], "-o", "main"], check=True)
    subprocess.run(["./main"], check=True)
