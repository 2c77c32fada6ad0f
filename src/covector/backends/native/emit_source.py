"""Lines of the user's code in LLVM text, as debug information.

Each instruction belongs to the equation that its value was built for. To a debugger, the Python
function in which that equation was traced is inlined into the compiled one:

    #0  layer (...) at model.py:12
    #1  covector:loss (...) at model.py:20
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from covector.backends.native.emit_memory import Metadata
from covector.backends.native.superwords import Pack
from covector.core.program import Equation
from covector.core.source import SourceLocation
from covector.loopir.origins import Origins

_PLAIN = re.compile(rb"[^ !#-\[\]-z|~]")
"""Bytes that LLVM's strings have escaped; braces too, for they are templates here."""


class Source:
    """The debug information of a module.

    Args:
        origins: what its values were built for.
        metadata: of the module.
    """

    def __init__(self, origins: Origins, metadata: Metadata) -> None:
        self.origins = origins
        self._add = metadata.add
        self._nodes: dict[Any, int] = {}
        self._locations: dict[object, SourceLocation | None] = {}
        located = (self.location(origin) for origin in origins.all())
        self.start = next((place for place in located if place), SourceLocation("", 0, ""))
        self._file = self.file(self.start.file)
        self._type = self._add("!DISubroutineType(types: !{{null}})")
        self._unit = self._add(
            f"distinct !DICompileUnit(language: DW_LANG_Python, file: !{self._file}, "
            'producer: "covector", isOptimized: true, runtimeVersion: 0, emissionKind: FullDebug)'
        )
        self._flags = [
            self._add('!{{i32 7, !"Dwarf Version", i32 4}}'),
            self._add('!{{i32 2, !"Debug Info Version", i32 3}}'),
        ]

    def named_metadata(self) -> str:
        """What makes LLVM look at it."""
        flags = ", ".join(f"!{number}" for number in self._flags)
        return f"!llvm.dbg.cu = !{{!{self._unit}}}\n!llvm.module.flags = !{{{flags}}}\n"

    def node(self, text: str) -> int:
        """The number of a node, one for equal texts."""
        known = self._nodes.get(text)
        if known is None:
            known = self._nodes[text] = self._add(text)
        return known

    def file(self, path: str) -> int:
        """The node of a file; that of a notebook's cell or an expression has no folder."""
        full = path if path.startswith("<") or not path else os.path.abspath(path)
        return self.node(f'!DIFile(filename: "{_quoted(full)}", directory: "")')

    def location(self, origin: object) -> SourceLocation | None:
        """The user's line of what values were built for."""
        if origin not in self._locations:
            found = origin.location if isinstance(origin, Equation) else None
            self._locations[origin] = found
        return self._locations[origin]

    def subprogram(self, name: str, file: int, line: int) -> int:
        """The node of a function, the user's or a compiled one."""
        return self.node(
            f'distinct !DISubprogram(name: "{_quoted(name)}", scope: !{file}, file: !{file}, '
            f"line: {line}, type: !{self._type}, scopeLine: {line}, "
            f"spFlags: DISPFlagDefinition | DISPFlagOptimized, unit: !{self._unit})"
        )

    def function(self, symbol: str) -> SourceLines:
        """Begins a compiled function.

        Args:
            symbol: its name; that of a piece goes on after a dot.

        Returns:
            What notes its lines.
        """
        piece = symbol.partition(".")[2]
        name = f"covector:{self.origins.name}" + (f".{piece}" if piece else "")
        return SourceLines(self, self.subprogram(name, self._file, self.start.line))


class SourceLines:
    """Notes what the lines of a function's text are emitted for.

    Args:
        source: of the module.
        subprogram: the function's node.

    Attributes:
        subprogram: what to append to the function's attributes.
    """

    def __init__(self, source: Source, subprogram: int) -> None:
        self.subprogram = f"!dbg !{subprogram}"
        self._source = source
        self._scope = subprogram
        self._call = source.node(
            f"distinct !DILocation(line: {source.start.line}, scope: !{subprogram})"
        )
        self._current: object = None
        self._marks: list[tuple[int, object]] = [(0, None)]

    def visit(self, items: Sequence[Any], lines: list[str]) -> Iterable[Any]:
        """Goes through what is emitted next.

        Args:
            items: values, statements and packs of one block.
            lines: of the function so far.

        Yields:
            Each; what is then written belongs to it, and what follows the last to what is around
            the block.
        """
        outer = self._current
        for item in items:
            member = item.members[0] if type(item) is Pack else item
            self._mark(self._source.origins.of(member) or outer, lines)
            yield item
        self._mark(outer, lines)

    def _mark(self, origin: object, lines: list[str]) -> None:
        if origin is not self._current:
            self._current = origin
            self._marks.append((len(lines), origin))

    def attached(self, lines: Sequence[str]) -> list[str]:
        """Adds the places of instructions.

        Args:
            lines: the complete text of the function's body, some of several lines.

        Returns:
            The text.
        """
        marks = [*self._marks[1:], (len(lines), None)]
        attached: list[str] = []
        start, origin = self._marks[0]
        for end, following in marks:
            suffix = f", !dbg !{self._location(origin)}" if end > start else ""
            for line in lines[start:end]:
                parts = [p + suffix if p[:1] == " " else p for p in line.split("\n")]
                attached.append("\n".join(parts))
            start, origin = end, following
        return attached

    def _location(self, origin: object) -> int:
        """The node of a place; line 0 where no line of the user's is known."""
        found = self._source.location(origin)
        if found is None:
            return self._source.node(f"!DILocation(line: 0, scope: !{self._scope})")
        file, name = self._source.file(found.file), found.function.rpartition("<locals>.")[2]
        scope = self._source.subprogram(name, file, found.line if name == "<module>" else 0)
        return self._source.node(
            f"!DILocation(line: {found.line}, scope: !{scope}, inlinedAt: !{self._call})"
        )


def _quoted(text: str) -> str:
    """The inside of a string of LLVM's, in a template."""
    return _PLAIN.sub(lambda found: b"\\%02X" % found[0][0], text.encode()).decode()
