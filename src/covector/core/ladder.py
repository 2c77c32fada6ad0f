"""The debug ladder: what compilation shows of itself, on standard error or in files.

`COVECTOR_DEBUG=n` prints the first `n` rungs of what `RUNGS` lists, `COVECTOR_DUMP=folder` writes
every stage of every compiled program to a file of its own.
"""

from __future__ import annotations

import itertools
import re
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from covector.core import pytree
from covector.core.config import SETTINGS, config
from covector.core.program import Program, count_equations
from covector.core.source import here

TIMES, PROGRAM, PASSES, LOOP_IR, LLVM, ASSEMBLY = range(1, 7)

RUNGS = {
    TIMES: "what is traced and compiled, how long it takes, why again, and the user's line",
    PROGRAM: "programs as they were traced",
    PASSES: "programs after every pass",
    LOOP_IR: "loop IR",
    LLVM: "LLVM text",
    ASSEMBLY: "machine code",
}
"""What each value of `COVECTOR_DEBUG` adds."""

_SUFFIXES = {LOOP_IR: "loopir", LLVM: "ll", ASSEMBLY: "s"}


class _Stages:
    """One compilation: its name, and the folder its stages go to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._folder: Path | None = None
        self._numbers = itertools.count(1)

    def write(self, rung: int, stage: str, text: str) -> None:
        if self._folder is None:
            self._folder = _new_folder(Path(config.dump), self.name)
        suffix = _SUFFIXES.get(rung, "program")
        label = re.sub(r"[^\w.-]+", "_", stage)
        (self._folder / f"{next(self._numbers):02d}-{label}.{suffix}").write_text(text + "\n")


def _new_folder(parent: Path, name: str) -> Path:
    """A folder of this name nobody else has, with a number behind it: others may be compiling."""
    parent.mkdir(parents=True, exist_ok=True)
    label = re.sub(r"[^\w.-]+", "_", name).strip("_") or "program"
    for number in itertools.count(1):
        folder = parent / f"{label[:80]}-{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("there are always more numbers")


class _Current(threading.local):
    stages: _Stages | None = None


_current = _Current()


def shows(rung: int) -> bool:
    """Whether anything wants to see this rung."""
    return config.debug >= rung or (config.dump != "" and rung >= PROGRAM)


def show(rung: int, stage: str, text: Callable[[], str]) -> None:
    """Prints a stage of the current compilation if the ladder reaches it, and writes it to a file.

    Args:
        rung: of the ladder.
        stage: its name.
        text: called where somebody wants to see it.
    """
    if not shows(rung):
        return
    stages = _current.stages or _Stages("program")
    shown = text()
    if config.debug >= rung:
        say(f"{stages.name}: {stage}\n{shown}")
    if config.dump:
        stages.write(rung, stage, shown)


def say(text: str) -> None:
    """Prints to standard error."""
    print(f"covector: {text}", file=sys.stderr)


@contextmanager
def compilation(name: str, program: Program) -> Generator[Callable[[Any], None]]:
    """What is shown inside the block belongs to the compilation of a program.

    Args:
        name: of what is compiled.
        program: as it was traced.

    Yields:
        A function to call with what was compiled, whose `profile` has the seconds of each stage.
    """
    if not (config.debug or config.dump):
        yield lambda executable: None
        return
    name = name or program.name or _only_primitive(program)
    previous, _current.stages = _current.stages, _Stages(name)
    start = time.perf_counter()

    def done(executable: Any) -> None:
        seconds = time.perf_counter() - start
        if config.debug >= TIMES:
            parts: dict[str, float] = getattr(executable, "profile", {})
            detail = ", ".join([f"{part} {_duration(s)}" for part, s in parts.items()])
            count = count_equations(program)
            recognised = getattr(executable, "recognised", False)
            verb = "recognised, at another size," if recognised else "compiled"
            say(
                f"{verb} {name} ({count} equations) in {_duration(seconds)}"
                f"{f' ({detail})' if detail else ''}, at {here()}"
            )

    try:
        show(PROGRAM, "program", program.as_text)
        yield done
    finally:
        _current.stages = previous


def _only_primitive(program: Program) -> str:
    names = {e.primitive.name for e in program.equations}
    return names.pop() if len(names) == 1 else "program"


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


# --- misses ---------------------------------------------------------------------------------------

Signature = tuple[Any, Sequence[Any], Sequence[Any], Any]
"""The structure of the arguments, their avals, the settings, and the batch axes with names."""


def report_trace(
    name: str, program: Program, seconds: float, new: Signature, before: Sequence[Signature]
) -> None:
    """Says that a function was traced, and what is new in its signature.

    Args:
        name: of the function.
        program: what it became.
        seconds: it took.
        new: the signature.
        before: those it was traced for already.
    """
    avals = ", ".join(map(str, new[1]))
    size = count_equations(program)
    say(f"traced {name}({avals}): {size} equations in {_duration(seconds)}, at {here()}")
    if before:
        nearest = min([_differences(new, old) for old in before], key=len)
        say(f"  again, since {'; '.join(nearest) or 'it closes over values being traced'}")


def _differences(new: Signature, old: Signature) -> list[str]:
    found: list[str] = []
    if new[0] != old[0]:
        found.append(f"the arguments are {new[0]}, where they were {old[0]}")
    else:
        arguments = pytree.leaves_with_path(pytree.unflatten(new[0], list(new[1])))
        for (path, aval), previous in zip(arguments, old[1], strict=True):
            if aval != previous:
                found.append(f"{_argument(path)} is {aval}, where it was {previous}")
    traced = [key for key, setting in SETTINGS.items() if setting.traced]
    for key, value, previous in zip(traced, new[2], old[2], strict=True):
        if value != previous:
            found.append(f"the setting {key} is {value!r}, where it was {previous!r}")
    if new[3] != old[3]:
        found.append(f"the named axes are {new[3]}, where they were {old[3]}")
    return found


def _argument(path: Any) -> str:
    text = pytree.keystr(path)
    return ("args" if text.startswith("[0]") else "kwargs") + text[3:]
