"""Libraries ahead of time: one C file with a header, or what the compiler makes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from covector.extend.backends import (
    OUT_OF_MEMORY,
    LibraryFunction,
    LibraryOptions,
    Lowered,
    MissingCapabilityError,
    c_declaration,
    c_header,
)
from covector_c.emit import Unit, emit_entry
from covector_c.operations import literal, memory_type

KINDS = ("source", "shared")

_TOP = """\
/* {name}.c: functions written by Covector's C backend; {name}.h declares them.
 *
 * C99 that needs nothing but the standard library. Compile with
 *     cc {flags}
 * (signed numbers wrap around, and products and sums are rounded one by one). */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
"""
_NUMBERS_PER_LINE = 12


def source(
    functions: Sequence[tuple[LibraryFunction, Lowered]], options: LibraryOptions, flags: str
) -> str:
    """The file of a library.

    Args:
        functions: with their loop IR.
        options: of the library.
        flags: of the compiler, for the comment at the top.

    Returns:
        C that declares and defines all that it needs.
    """
    unit = Unit()
    entries: list[str] = []
    for function, lowered in functions:
        entries.append("static " + emit_entry(lowered, f"{function.symbol}_body", unit))
        entries += [_function(function, lowered), _messages(function, lowered)]
    top = _TOP.format(name=options.name, flags=flags)
    return "\n".join([top, *unit.parts.values(), *entries])


def header(functions: Sequence[LibraryFunction], options: LibraryOptions) -> bytes:
    """The header of a library."""
    return c_header(functions, options.name).encode()


def check(options: LibraryOptions) -> None:
    """Refuses what the C backend cannot write.

    Raises:
        MissingCapabilityError: for other machines and for BLAS.
    """
    for wanted, what, fix in (
        (options.target, "target", "write kind='source' and compile it for that machine"),
        (options.blas, "BLAS", "the file has its own matrix products: leave `blas` empty"),
    ):
        if wanted:
            raise MissingCapabilityError(
                f"the backend 'c' lacks: libraries for a {what}\n  found: {wanted!r}\n  fix: {fix}",
                what,
            )


def machine_flags(options: LibraryOptions) -> Mapping[str, str]:
    """What replaces `-march=native` among the flags, by that."""
    return {"-march=native": f"-march={options.cpu}" if options.cpu else ""}


def _function(function: LibraryFunction, lowered: Lowered) -> str:
    """What C calls: it makes tables of its parameters, and has memory for temporary arrays."""
    lines = [f"{c_declaration(function)} {{"]
    for k, constant in enumerate(lowered.constants):
        lines += _constant(f"covector_k{k}", constant)
    constants = [f"covector_k{k}" for k in range(len(lowered.constants))]
    lines += [
        _table("const int64_t dims", lowered.sizes),
        _table("const void *const args", function.inputs),
        _table("void *const results", function.outputs),
        _table("const void *const constants", constants),
    ]
    call = f"{function.symbol}_body(dims, args, results, constants, "
    if lowered.workspace_bytes:
        lines += [
            f"    unsigned char *memory = malloc({lowered.workspace_bytes + 64});",
            "    if (!memory)",
            f"        return {OUT_OF_MEMORY};",
            f"    const int32_t status = {call}memory + (64 - (uintptr_t)memory % 64));",
            "    free(memory);",
            "    return status;",
        ]
    else:
        lines.append(f"    return {call}NULL);")
    return "\n".join([*lines, "}", ""])


def _table(declaration: str, items: Sequence[str]) -> str:
    # Arrays of C have an element at least.
    return f"    {declaration}[] = {{{', '.join(items) or '0'}}};"


def _constant(name: str, array: np.ndarray[Any, Any]) -> list[str]:
    flat = array.reshape(-1)
    if flat.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    texts = [literal(number, flat.dtype).code for number in flat.tolist()]
    rows = [
        "        " + ", ".join(texts[k : k + _NUMBERS_PER_LINE]) + ","
        for k in range(0, len(texts), _NUMBERS_PER_LINE)
    ]
    return [f"    static const {memory_type(flat.dtype)} {name}[] = {{", *rows, "    };"]


def _messages(function: LibraryFunction, lowered: Lowered) -> str:
    texts = {0: "no error", OUT_OF_MEMORY: "there is not enough memory"}
    for k, site in enumerate(lowered.sites):
        texts[k + 1] = f"{site.message} (at {site.place})" if site.place else site.message
    cases = [f"    case {k}:\n        return {json.dumps(text)};" for k, text in texts.items()]
    return "\n".join(
        [
            f"const char *{function.symbol}_error(int32_t status) {{",
            "    switch (status) {",
            *cases,
            "    }",
            '    return "an unknown error";',
            "}",
            "",
        ]
    )
