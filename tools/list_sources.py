"""Print the sources of one kind, a line each, relative to src/ (called by src/meson.build)."""

import sys
from pathlib import Path

SRC = Path(__file__).resolve().parent.parent / "src"
NOT_INSTALLED = {".c", ".h", ".so", ".o", ".pyc"}


def native_sources() -> list[Path]:
    return list((SRC / "covector" / "_native").glob("*.c"))


def python_sources() -> list[Path]:
    """Everything else beneath the package: modules, stubs, py.typed and data files."""
    return [
        path
        for path in (SRC / "covector").rglob("*")
        if path.is_file()
        and path.suffix not in NOT_INSTALLED
        and not any(part.startswith(".") for part in path.relative_to(SRC).parts)
        and path.parent.name != "_native"
    ]


if __name__ == "__main__":
    kinds = {"native": native_sources, "python": python_sources}
    for path in sorted(kinds[sys.argv[1]]()):
        print(path.relative_to(SRC).as_posix())
