"""List the files that exceed the size budget, the longest first. A report, not a check."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUDGET = 600
FOLDERS = ("src", "tests", "benchmarks", "tools", "docs")
SUFFIXES = (".py", ".pyi", ".c", ".h")


def file_lengths() -> list[tuple[int, Path]]:
    files = [
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in SUFFIXES and path.is_file()
    ]
    return sorted(((len(path.read_bytes().splitlines()), path) for path in files), reverse=True)


def main() -> None:
    lengths = file_lengths()
    over = [(length, path) for length, path in lengths if length > BUDGET]
    total = sum(length for length, _ in lengths)
    print(f"{len(lengths)} files, {total} lines, {len(over)} above {BUDGET} lines")
    for length, path in over:
        print(f"{length:6} {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
