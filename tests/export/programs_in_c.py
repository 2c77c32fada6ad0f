"""C programs that call exported functions, and what they print."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from covector.export import Exported

_TYPES = {"float32": "float", "float64": "double", "int32": "int32_t", "int64": "int64_t"}


def compiler() -> str:
    found = shutil.which("cc")
    if found is None:
        pytest.skip("there is no C compiler")
    return found


def literal(value: Any) -> str:
    return float(value).hex() if isinstance(value, np.floating) else str(int(value))


def main_of(
    header: str, symbol: str, exported: Exported, sizes: dict[str, int], args: Sequence[Any]
) -> str:
    """A C program that calls a function once and prints its results as they are, in hexadecimal."""
    arrays: list[str] = []
    for name, arg in zip(exported.in_names, args, strict=True):
        flat = np.asarray(arg).reshape(-1)
        numbers = ", ".join([literal(x) for x in flat])
        arrays.append(f"static const {_TYPES[str(flat.dtype)]} in_{name}[] = {{{numbers}}};")
    prints: list[str] = []
    for name, aval in zip(exported.out_names, exported.out_avals, strict=True):
        count = int(np.prod([n if isinstance(n, int) else n.evaluate(sizes) for n in aval.shape]))
        kind = _TYPES[str(aval.dtype)]
        arrays.append(f"static {kind} out_{name}[{max(count, 1)}];")
        text = 'printf("%a\\n", (double)' if "float" in str(aval.dtype) else 'printf("%d\\n", (int)'
        prints.append(f"    for (int i = 0; i < {count}; i++) {text}out_{name}[i]);")
    passed = [
        *[str(n) for n in sizes.values()],
        *[f"in_{n}" for n in exported.in_names],
        *[f"out_{n}" for n in exported.out_names],
    ]
    return "\n".join(
        [
            "#include <stdio.h>",
            f'#include "{header}"',
            *arrays,
            "int main(void) {",
            f"    int32_t status = {symbol}({', '.join(passed)});",
            f'    if (status) {{ fprintf(stderr, "%s\\n", {symbol}_error(status)); return 1; }}',
            *prints,
            "    return 0;",
            "}",
            "",
        ]
    )


def run(folder: Path, source: str, *inputs: str) -> list[float]:
    """Compiles a program with what it is linked with, runs it without Python's surroundings."""
    (folder / "main.c").write_text(source)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
    command = [compiler(), *flags, "-fwrapv", "-ffp-contract=off", "main.c", *inputs]
    subprocess.run([*command, "-o", "main", "-lm"], cwd=folder, check=True)
    environment = {"LD_LIBRARY_PATH": str(folder)}
    said = subprocess.run(
        [folder / "main"], capture_output=True, text=True, check=True, env=environment
    )
    return [float.fromhex(word) if "0x" in word else float(word) for word in said.stdout.split()]


def flat(results: Sequence[Any]) -> list[float]:
    return [float(x) for r in results for x in np.asarray(r).reshape(-1)]
