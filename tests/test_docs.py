"""The code of README.md and of the pages in docs/ runs.

The Python blocks of a page are one script, top to bottom; a block whose fence names a file
(```python model.py) is a module that later ones can import. Lines of tracebacks are those of the
page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> dict[str, str]:
    """Python code by the file it belongs to, each line where it is in the page; "" is the script.

    Args:
        page: Markdown.
    """
    found: dict[str, list[str]] = {}
    lines = page.count("\n") + 1
    for fence in FENCE.finditer(page):
        language, file, code = fence.groups()
        if language == "python":
            first = page.count("\n", 0, fence.start(3))
            target = found.setdefault(file, [""] * lines)
            for k, line in enumerate(code.splitlines()):
                target[first + k] = line
    return {file: "\n".join(code) + "\n" for file, code in found.items()}


CODE = {page.name: blocks(page.read_text()) for page in PAGES}


@pytest.mark.parametrize("name", [name for name, code in CODE.items() if code])
def test_code_runs(name: str, tmp_path: Path) -> None:
    for file, code in CODE[name].items():
        (tmp_path / (file or f"{name}.py")).write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", f"{name}.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_lines_stay_where_they_are() -> None:
    page = "# A\n```python\na = 1\n```\ntext\n```\nnot = code\n```\n```python m.py\nb = 2\n```\n"
    found = blocks(page)
    assert found[""].splitlines()[2] == "a = 1"
    assert found["m.py"].splitlines()[9] == "b = 2"
    assert "not" not in found[""]


def test_failures_show(tmp_path: Path) -> None:
    """What the test above looks at is there to be seen."""
    (tmp_path / "page.py").write_text(blocks("text\n\n```python\nassert False\n```\n")[""])
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode
    assert "line 4" in done.stderr
