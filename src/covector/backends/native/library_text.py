"""What surrounds compiled code in a library, as LLVM text: memory, constants, messages.

In a process of Python the runtime (`_native/covector.h`) calls compiled code and has a context for
it. In a library a function with the signature of C does this, with `malloc` and `free`:

    int32_t f(int64_t n, const float *x, float *y)  ->  int32_t f.body(dims, args, results, ctx)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from covector.core.libraries import OUT_OF_MEMORY, LibraryFunction

ON_STACK = 1 << 14
"""Bytes of temporary arrays that are on the stack; more are allocated."""
_ALIGNMENT = 64
_CONTEXT_BYTES = 128
_ALLOCATIONS = 56
"""Where the context has the list of what was allocated, past the fields that code reads."""
_LARGEST = 1 << 60

RUNTIME = f"""\
declare noalias ptr @malloc(i64)
declare void @free(ptr)

define ptr @covector.alloc(ptr %ctx, i64 %bytes, i32 %site) noinline {{
entry:
  %small = icmp ule i64 %bytes, {_LARGEST}
  br i1 %small, label %get, label %none
get:
  %size = add i64 %bytes, {2 * _ALIGNMENT}
  %raw = call ptr @malloc(i64 %size)
  %failed = icmp eq ptr %raw, null
  br i1 %failed, label %none, label %keep
keep:
  %list = getelementptr inbounds i8, ptr %ctx, i64 {_ALLOCATIONS}
  %next = load ptr, ptr %list
  store ptr %next, ptr %raw
  store ptr %raw, ptr %list
  %address = ptrtoint ptr %raw to i64
  %past = add i64 %address, {_ALIGNMENT + 8 - 1}
  %aligned = and i64 %past, -{_ALIGNMENT}
  %result = inttoptr i64 %aligned to ptr
  ret ptr %result
none:
  ret ptr null
}}

define void @covector.release(ptr %ctx) noinline {{
entry:
  %list = getelementptr inbounds i8, ptr %ctx, i64 {_ALLOCATIONS}
  %first = load ptr, ptr %list
  br label %next
next:
  %block = phi ptr [ %first, %entry ], [ %after, %one ]
  %done = icmp eq ptr %block, null
  br i1 %done, label %end, label %one
one:
  %after = load ptr, ptr %block
  call void @free(ptr %block)
  br label %next
end:
  ret void
}}

define i32 @cv_poll(ptr %ctx) {{
entry:
  ret i32 0
}}
"""
"""What all functions of a library share. A block that was allocated begins with the next one."""


_DECLARATIONS = """\
declare ptr @covector.alloc(ptr, i64, i32)
declare void @covector.release(ptr)
declare i32 @cv_poll(ptr)
"""


def bytes_text(data: bytes) -> str:
    """A constant of LLVM of the type of as many bytes."""
    if not any(data):
        return "zeroinitializer"
    digits = data.hex().upper()
    return 'c"' + "".join(["\\" + digits[k : k + 2] for k in range(0, len(digits), 2)]) + '"'


def entry_text(
    function: LibraryFunction,
    constants: Sequence[np.ndarray[Any, Any]],
    workspace: int,
    messages: Sequence[str],
) -> str:
    """The function that C calls.

    Args:
        function: of the library; its code is called `<symbol>.body`.
        constants: of its code, in order.
        workspace: bytes of temporary arrays that its code needs.
        messages: what its checks say, in order.

    Returns:
        Definitions of it and of what it reads.
    """
    name = function.symbol
    sizes = [f"%n{k}" for k in range(len(function.sizes))]
    arguments = [f"%a{k}" for k in range(len(function.inputs))]
    results = [f"%r{k}" for k in range(len(function.outputs))]
    parameters = [f"i64 {n}" for n in sizes] + [f"ptr {p}" for p in (*arguments, *results)]
    lines = [
        _DECLARATIONS,
        f"declare i32 @{name}.body(ptr, ptr, ptr, ptr)",
        *_constants(name, constants),
        *_messages(name, messages),
        f"define i32 @{name}({', '.join(parameters)}) alignstack(64) {{",
        "entry:",
        f"  %ctx = alloca [{_CONTEXT_BYTES} x i8], align 64",
        *_table("dims", "i64", sizes),
        *_table("args", "ptr", arguments),
        *_table("results", "ptr", results),
        *_fields(name, bool(constants)),
        *_workspace(workspace),
        f"  %status = call i32 @{name}.body(ptr %dims, ptr %args, ptr %results, ptr %ctx)",
        "  call void @covector.release(ptr %ctx)",
        "  ret i32 %status",
    ]
    if workspace > ON_STACK:
        lines += ["none:", f"  ret i32 {OUT_OF_MEMORY}"]
    return "\n".join([*lines, "}", ""])


def _constants(name: str, constants: Sequence[np.ndarray[Any, Any]]) -> Iterable[str]:
    for k, constant in enumerate(constants):
        data = constant.tobytes()
        yield (
            f"@{name}.k{k} = internal constant [{len(data)} x i8] {bytes_text(data)}, "
            f"align {_ALIGNMENT}"
        )
    if constants:
        items = ", ".join([f"ptr @{name}.k{k}" for k in range(len(constants))])
        yield f"@{name}.constants = internal constant [{len(constants)} x ptr] [{items}]"


def _messages(name: str, messages: Sequence[str]) -> Iterable[str]:
    texts = {OUT_OF_MEMORY: "there is not enough memory", 0: "no error"}
    texts |= {k + 1: text for k, text in enumerate(messages)}
    for status, text in (*texts.items(), (None, "an unknown error")):
        data = text.encode() + b"\0"
        symbol = _message(name, status)
        yield f"{symbol} = internal constant [{len(data)} x i8] {bytes_text(data)}"
    yield f"define ptr @{name}_error(i32 %status) {{"
    yield "entry:"
    cases = " ".join([f"i32 {status}, label %s{k}" for k, status in enumerate(texts)])
    yield f"  switch i32 %status, label %other [ {cases} ]"
    for k, status in enumerate(texts):
        yield f"s{k}:\n  ret ptr {_message(name, status)}"
    yield f"other:\n  ret ptr {_message(name, None)}\n}}"


def _message(name: str, status: int | None) -> str:
    return f"@{name}.e{'x' if status is None else str(status).replace('-', 'm')}"


def _table(name: str, type_: str, values: Sequence[str]) -> Iterable[str]:
    yield f"  %{name} = alloca [{max(1, len(values))} x {type_}]"
    for k, value in enumerate(values):
        yield f"  %{name}{k} = getelementptr inbounds {type_}, ptr %{name}, i64 {k}"
        yield f"  store {type_} {value}, ptr %{name}{k}"


def _fields(name: str, has_constants: bool) -> Iterable[str]:
    """The context: see `cv_context`. There are no callbacks, and nobody cancels."""
    constants = f"@{name}.constants" if has_constants else "null"
    fields = {
        0: "ptr @covector.alloc",
        8: "i64 0",
        24: f"ptr {constants}",
        32: "ptr null",
        40: "ptr @cv_poll",
        _ALLOCATIONS: "ptr null",
    }
    for offset, value in fields.items():
        yield f"  %c{offset} = getelementptr inbounds i8, ptr %ctx, i64 {offset}"
        yield f"  store {value}, ptr %c{offset}"


def _workspace(size: int) -> Iterable[str]:
    yield "  %c16 = getelementptr inbounds i8, ptr %ctx, i64 16"
    if size > ON_STACK:
        yield f"  %memory = call ptr @covector.alloc(ptr %ctx, i64 {size}, i32 -2)"
        yield "  store ptr %memory, ptr %c16"
        yield "  %lacking = icmp eq ptr %memory, null"
        yield "  br i1 %lacking, label %none, label %ready"
        yield "ready:"
        return
    if size:
        yield f"  %memory = alloca [{size} x i8], align {_ALIGNMENT}"
    yield f"  store ptr {'%memory' if size else 'null'}, ptr %c16"
