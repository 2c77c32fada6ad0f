"""Addresses of buffers, and what LLVM is told about which of them overlap.

Every buffer that is written gets an alias scope of its own, shared within an alias class; buffers
that are only read share one. Two accesses are independent if either lists the other's scope, so
each lists the scopes before its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from covector.backends.native.emit_types import CONTEXT_CONSTANTS, CONTEXT_WORKSPACE
from covector.loopir.ir import (
    ARGUMENT,
    CONSTANT,
    HEAP,
    PRIVATE,
    READ_ONLY,
    RESULT,
    WORKSPACE,
    Buffer,
    LoopIRError,
)

MAX_SCOPES = 64
"""Scopes in one module; further buffers share them, since LLVM looks through the lists often."""

NONTEMPORAL = ", !nontemporal !2"
"""What to append to a store past the caches."""

_FRAME = ("%dims", "%args", "%results", "%ctx")
_OF_PIECES = (*_FRAME, "%heap", "%private")


class Convention(NamedTuple):
    """How an outlined piece is called: with what it uses, and for a status if it may leave early.

    Attributes:
        needs: those of its callers' parameters that it uses, before the buffers it receives.
        leaves: whether it returns a status.
    """

    needs: tuple[str, ...]
    leaves: bool


class Metadata:
    """The numbered metadata of a module.

    `!0` marks branches that are rarely taken, `!1` loops that make progress, `!2` is the number by
    which stores past the caches are marked.
    """

    def __init__(self) -> None:
        self.lines = [
            '!0 = !{!"branch_weights", i32 1, i32 1048576}',
            '!1 = !{!"llvm.loop.mustprogress"}',
            "!2 = !{i32 1}",
        ]

    def add(self, text: str) -> int:
        """Adds a node.

        Args:
            text: the node; `{0}` is its own number.

        Returns:
            Its number.
        """
        number = len(self.lines)
        self.lines.append(f"!{number} = {text.format(number)}")
        return number


class Scopes:
    """Alias scopes of the buffers of a module.

    Args:
        buffers: all of them.
        metadata: of the module, or `None`.
    """

    def __init__(self, buffers: Iterable[Buffer], metadata: Metadata | None) -> None:
        self._texts: dict[Buffer, str] = {}
        self._members: dict[object, int] = {}
        for buffer in buffers:
            self._members.setdefault(_alias_class(buffer), len(self._members) % MAX_SCOPES)
        self._domain = 0
        self._nodes: list[int] = []
        self._lists: dict[int, str] = {}
        self._metadata = metadata

    def text(self, buffer: Buffer) -> str:
        """What to append to an access.

        Args:
            buffer: what is accessed.

        Returns:
            Metadata attachments, empty if the module has one buffer only.
        """
        known = self._texts.get(buffer)
        if known is None:
            known = self._texts[buffer] = self._attachments(self._members[_alias_class(buffer)])
        return known

    def _attachments(self, scope: int) -> str:
        count = min(len(self._members), MAX_SCOPES)
        if count < 2 or self._metadata is None:
            return ""
        add = self._metadata.add
        if not self._nodes:
            self._domain = add("distinct !{{!{0}}}")
            domain = self._domain
            self._nodes = [add(f"distinct !{{{{!{{0}}, !{domain}}}}}") for _ in range(count)]
        known = self._lists.get(scope)
        if known is None:
            own = add(f"!{{{{!{self._nodes[scope]}}}}}")
            known = f", !alias.scope !{own}"
            if scope:
                before = ", ".join(f"!{node}" for node in self._nodes[:scope])
                known += f", !noalias !{add(f'!{{{{{before}}}}}')}"
            self._lists[scope] = known
        return known


def _alias_class(buffer: Buffer) -> object:
    if buffer.alias_class is not None:
        return buffer.alias_class
    return "read-only" if buffer.space in READ_ONLY else buffer


class Memory:
    """Addresses inside one function.

    Args:
        scopes: of the module.
        metadata: of the module; `None` for functions whose text is kept for other modules.
        heap: heap buffers of the whole module, in the order of the table of their addresses.
        segment: whether the function is an outlined piece, which gets that table from its caller.
        ranges: whether it is a parallel loop, which gets its bounds besides.
        received: buffers whose addresses it gets from its caller.
    """

    def __init__(
        self,
        scopes: Scopes,
        metadata: Metadata | None,
        heap: list[Buffer],
        segment: bool,
        ranges: bool = False,
        received: Iterable[Buffer] = (),
    ) -> None:
        self._scopes = scopes
        self._metadata = metadata
        self._heap = heap
        self.is_segment = segment
        self._ranges = ranges
        self._bases = {buffer: f"%q{k}" for k, buffer in enumerate(received)}
        self._received = tuple(self._bases.values())
        self._dims: dict[int, str] = {}
        self._fields: dict[int, str] = {}
        self._tables: dict[int, str] = {}
        self._sizes: dict[int, int] = {}
        self.prologue: list[str] = []

    def convention(self, lines: Iterable[str], leaves: bool) -> Convention:
        """How the function is called.

        Args:
            lines: its body.
            leaves: whether it may leave early.

        Returns:
            The convention; that of entry functions and parallel loops is the same for all.
        """
        if not self.is_segment:
            return Convention(_FRAME, True)
        if self._ranges:
            return Convention(_OF_PIECES, True)
        text = "\n".join([*self.prologue, *lines])
        return Convention(tuple([name for name in _OF_PIECES if name in text]), leaves)

    def parameters(self, convention: Convention) -> str:
        """The parameter list of the function.

        Args:
            convention: of it.

        Returns:
            Types and names.
        """
        pointers = ", ".join([f"ptr {name}" for name in (*convention.needs, *self._received)])
        return f"{pointers}, i64 %begin, i64 %end" if self._ranges else pointers

    def passed(self, convention: Convention) -> list[str]:
        """Arguments of a call of an outlined piece, before the buffers it receives.

        Args:
            convention: of the piece.

        Returns:
            The typed arguments.
        """
        own = {"%heap": self._heap_table(), "%private": "%private" if self.is_segment else "null"}
        return [f"ptr {own.get(name, name)}" for name in convention.needs]

    def frame(self) -> tuple[str, ...]:
        """The members of a `cv_frame`."""
        return (*_FRAME, self._heap_table())

    def _heap_table(self) -> str:
        return "%heap" if self._heap else "null"

    def scope(self, buffer: Buffer) -> str:
        """What to append to an access to a buffer."""
        return self._scopes.text(buffer)

    def loop_metadata(self) -> str:
        """What to append to the branch that closes a loop, a new node for each."""
        if self._metadata is None:
            return ""
        return f", !llvm.loop !{self._metadata.add('distinct !{{!{0}, !1}}')}"

    def base(self, buffer: Buffer) -> str:
        """The address of a buffer's first element.

        Args:
            buffer: of this function.

        Returns:
            A pointer defined at the entry of the function.

        Raises:
            LoopIRError: if the buffer has no place yet.
        """
        known = self._bases.get(buffer)
        if known is None:
            known = self._bases[buffer] = f"%b{len(self._bases)}"
            self.prologue += self._find(buffer, known)
        return known

    def base_here(self, buffer: Buffer, name: str) -> tuple[str, list[str]]:
        """The address of a buffer for one use: no register keeps it from the entry until then.

        Args:
            buffer: of this function.
            name: a register for it.

        Returns:
            The pointer, and what defines it.
        """
        known = self._bases.get(buffer)
        return (name, self._find(buffer, name)) if known is None else (known, [])

    def _find(self, buffer: Buffer, name: str) -> list[str]:
        if buffer.space == WORKSPACE:
            if buffer.offset is None:
                raise LoopIRError(f"{buffer!r} has no place in the workspace")
            table = self._table(CONTEXT_WORKSPACE)
            return [f"  {name} = getelementptr inbounds i8, ptr {table}, i64 {buffer.offset}"]
        if buffer.space == PRIVATE:
            return [f"  {name} = getelementptr inbounds i8, ptr %private, i64 {buffer.offset}"]
        if buffer.space == HEAP:
            if not self.is_segment:
                raise LoopIRError(f"{buffer!r} is used before it is allocated")
            table, index = "%heap", self._heap.index(buffer)
        else:
            index = buffer.index
            if buffer.space == CONSTANT:
                table = self._table(CONTEXT_CONSTANTS)
            else:
                assert buffer.space in (ARGUMENT, RESULT)
                table = "%args" if buffer.space == ARGUMENT else "%results"
        size = buffer.nbytes
        extra = (
            f", !dereferenceable !{self._size(self._metadata, size)}"
            if size and self._metadata
            else ""
        )
        return [
            f"  {name}.p = getelementptr inbounds ptr, ptr {table}, i64 {index}",
            f"  {name} = load ptr, ptr {name}.p{extra}",
        ]

    def _size(self, metadata: Metadata, nbytes: int) -> int:
        known = self._sizes.get(nbytes)
        if known is None:
            known = self._sizes[nbytes] = metadata.add(f"!{{{{i64 {nbytes}}}}}")
        return known

    def allocated(self, buffer: Buffer, name: str, lines: list[str]) -> None:
        """Notes where a heap buffer is.

        Args:
            buffer: the buffer.
            name: its address.
            lines: where to write code that leaves the address in the table.
        """
        self._bases[buffer] = name
        index = self._heap.index(buffer)
        place = f"{name.replace('%', '%h')}.p"
        lines.append(f"  {place} = getelementptr inbounds ptr, ptr %heap, i64 {index}")
        lines.append(f"  store ptr {name}, ptr {place}")

    def entry_lines(self) -> list[str]:
        """What the entry block of the function begins with."""
        if self._heap and not self.is_segment:
            return [f"  %heap = alloca [{len(self._heap)} x ptr]", *self.prologue]
        return self.prologue

    def dim(self, position: int) -> str:
        """A run-time size."""
        known = self._dims.get(position)
        if known is None:
            known = self._dims[position] = f"%d{position}"
            self.prologue += [
                f"  {known}.p = getelementptr inbounds i64, ptr %dims, i64 {position}",
                f"  {known} = load i64, ptr {known}.p",
            ]
        return known

    def field(self, offset: int) -> str:
        """The address of a field of the context."""
        known = self._fields.get(offset)
        if known is None:
            known = self._fields[offset] = f"%f{offset}"
            self.prologue.append(f"  {known} = getelementptr inbounds i8, ptr %ctx, i64 {offset}")
        return known

    def _table(self, offset: int) -> str:
        known = self._tables.get(offset)
        if known is None:
            field = self.field(offset)
            known = self._tables[offset] = f"%w{offset}"
            self.prologue.append(f"  {known} = load ptr, ptr {field}")
        return known
