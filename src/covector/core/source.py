"""Where in the user's code an equation was traced."""

from __future__ import annotations

import os
from types import CodeType
from typing import NamedTuple

from covector import _native

_native.register_internal_prefix(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class SourceLocation(NamedTuple):
    """A line of the user's code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.function})"


Frame = tuple[CodeType, int]
"""A code object and the offset of the instruction being run, resolved to a line only on demand."""

current_frame = _native.find_frame
"""The innermost frame outside this package; cheap enough to call for every equation."""


def resolve(frame: Frame | SourceLocation | None) -> SourceLocation | None:
    """The location a frame stands for."""
    if frame is None or isinstance(frame, SourceLocation):
        return frame
    code, offset = frame
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= offset < end and number is not None:
            line = number
            break
    return SourceLocation(code.co_filename, line, code.co_qualname)


def here() -> SourceLocation | None:
    """The user's line being run now."""
    return resolve(current_frame())
