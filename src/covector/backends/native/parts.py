"""A module cut into parts, so that LLVM can compile them at once.

Each part has some of the functions; it declares those of the others that it calls, and has copies
of those that are inlined. What becomes of a function does not depend on the part it is in, so that
programs compute the same however they are cut.

    define i32 @entry(...) {                define i32 @entry(...) {
      call i32 @entry.1(...)                  call i32 @entry.1(...)
    }                                       }
    define internal i32 @entry.1(...) {     declare hidden i32 @entry.1(...)
      ...
    }                                       define hidden i32 @entry.1(...) {
                                              ...
                                            }
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from typing import NamedTuple

from covector.backends.native.emit import Module, module_text

LEAST = 300
"""Lines that a part has on average at least: LLVM takes some time for any module."""

LONG = 1000
"""Lines from which on parts are better cut once more: no thread then waits long for another."""

_HEAD = re.compile(r"define (internal )?([^@]*@([\w.]+)\(.*\) #(\d+)) \{$", re.MULTILINE)
_SYMBOL = re.compile(r"@([\w.]+)")
_INLINED = "4"
"""The number of the attributes of functions that are always inlined."""


class _Function(NamedTuple):
    """A function of a module.

    Attributes:
        name: its symbol.
        text: as it stands in the part that it is in.
        declaration: as it stands in the others.
        inlined: whether those that call it have copies of it.
        uses: which functions it calls or passes on, and how often.
        lines: of its text.
    """

    name: str
    text: str
    declaration: str
    inlined: bool
    uses: dict[str, int]
    lines: int


def parts_of(module: Module, threads: int, least: int = LEAST) -> list[str]:
    """Cuts a module into parts of about the same size.

    Args:
        module: the module.
        threads: how many will compile them.
        least: lines that they have on average at least.

    Returns:
        Modules, the longest first; none if the module is better compiled as it is.
    """
    lines = module.instructions
    count = min(2 * threads if lines >= 2 * threads * LONG else threads, lines // least)
    if count < 2 or module.has_debug_info:
        return []
    functions = {f.name: f for f in map(_function, module.functions)}
    groups = _balanced([f for f in functions.values() if not f.inlined], functions, count)
    return [_text(group, functions, module) for group in groups] if len(groups) > 1 else []


def _function(text: str) -> _Function:
    head = _HEAD.match(text)
    assert head is not None, text[:200]
    internal, signature, name, attributes = head.groups()
    uses: dict[str, int] = {}
    for symbol in _SYMBOL.findall(text, head.end()):
        if not symbol.startswith("llvm."):
            uses[symbol] = uses.get(symbol, 0) + 1
    inlined = attributes == _INLINED
    if internal and not inlined:
        text = f"define hidden {text[head.start(2) :]}"
    return _Function(name, text, f"declare hidden {signature}", inlined, uses, text.count("\n"))


def _balanced(
    chosen: Sequence[_Function], functions: dict[str, _Function], count: int
) -> list[list[_Function]]:
    """Groups of about as many lines, the largest first."""
    sizes = {f.name: _size(f, functions) for f in chosen}
    heap: list[tuple[int, int]] = [(0, k) for k in range(count)]
    groups: list[list[_Function]] = [[] for _ in range(count)]
    for function in sorted(chosen, key=lambda f: -sizes[f.name]):
        size, k = heap[0]
        groups[k].append(function)
        heapq.heapreplace(heap, (size + sizes[function.name], k))
    totals = {k: size for size, k in heap}
    order = sorted(range(count), key=lambda k: (-totals[k], k))
    return [groups[k] for k in order if groups[k]]


def _size(function: _Function, functions: dict[str, _Function]) -> int:
    """Lines of a function after inlining."""
    size = function.lines
    for name, times in function.uses.items():
        used = functions.get(name)
        if used is not None and used.inlined:
            size += times * _size(used, functions)
    return size


def _text(group: Sequence[_Function], functions: dict[str, _Function], module: Module) -> str:
    """The module of a group of functions."""
    inside = {f.name: f for f in group}
    declared: dict[str, str] = {}
    pending = list(group)
    while pending:
        for name in pending.pop().uses:
            if name in inside or name in declared:
                continue
            function = functions.get(name)
            if function is None:
                declared[name] = module.declarations[name]
            elif function.inlined:
                inside[name] = function
                pending.append(function)
            else:
                declared[name] = function.declaration
    texts = [f.text for f in inside.values()]
    return module_text(texts, [declared[name] for name in sorted(declared)], module.metadata)
