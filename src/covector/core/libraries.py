"""Libraries written ahead of time: what backends are asked for, and the C signature of functions.

A function of a library has the parameters: each run-time size as an `int64_t`, then the address of
each argument and of each result, all contiguous arrays. It returns 0, or a status that the
function `<symbol>_error` explains.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.errors import CompilationError, compose
from covector.core.program import Program, symbols_of

OUT_OF_MEMORY = -3
"""What a function of a library returns if `malloc` gave nothing."""


@dataclass(frozen=True)
class LibraryFunction:
    """A function of a library.

    Attributes:
        symbol: what it is called there, an identifier of C.
        program: what it computes.
        inputs: names of its arguments, identifiers of C; no two of all names are the same.
        outputs: names of its results.
    """

    symbol: str
    program: Program
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of its run-time sizes, which come first among its parameters."""
        return tuple(symbols_of(self.program))


@dataclass(frozen=True)
class LibraryOptions:
    """What kind of library.

    Attributes:
        name: of the library; files are called after it.
        kind: one of the backend's `library_kinds`.
        target: LLVM's triple of the machine that it is for, such as "aarch64-linux-gnu"; empty for
            this one.
        cpu: of that machine; empty for what all of its kind can run, "native" for this very one.
        effort: 0 compiles fastest, 3 runs fastest.
        blas: name of the BLAS that it is to be linked with, such as "openblas"; empty for none.
    """

    name: str
    kind: str
    target: str = ""
    cpu: str = ""
    effort: int = 2
    blas: str = ""


class LibraryWriter(Protocol):
    """What a backend has that can write libraries.

    Attributes:
        library_kinds: what it can write, such as "source", "object", "static", "shared" or
            "module"; the first is the default.
    """

    library_kinds: Sequence[str]

    def library(
        self, functions: Sequence[LibraryFunction], options: LibraryOptions
    ) -> Mapping[str, bytes]:
        """Writes a library.

        Args:
            functions: of the library, with different symbols.
            options: what to write; what a backend cannot do of them it refuses.

        Returns:
            The files, by name, a C header among them where C can call the functions.

        Raises:
            MissingCapabilityError: for what cannot run without Python, or is not supported.
            CompilationError: if it cannot be compiled.
        """
        ...


_C_TYPES = {
    "bool": "uint8_t", "f16": "uint16_t", "bf16": "uint16_t", "f32": "float", "f64": "double",
    "c64": "float", "c128": "double",
}  # fmt: skip
_NOTES = {
    "bool": "0 or 1",
    "f16": "bits",
    "bf16": "bits",
    "c64": "pairs of real and imaginary part",
    "c128": "pairs of real and imaginary part",
}


def c_type(dtype: Any) -> str:
    """The C type of an element, or of its parts where C has no such type.

    Args:
        dtype: of an array.

    Raises:
        CompilationError: for a dtype without elements.

    Example:
        >>> import numpy as np
        >>> c_type(np.dtype("float32")), c_type(np.dtype("int64")), c_type(np.dtype("complex64"))
        ('float', 'int64_t', 'float')
    """
    if dtypes.is_key(dtype):
        return "uint32_t"
    name = dtypes.short_name(dtype)
    if name in _C_TYPES:
        return _C_TYPES[name]
    if name[0] in "iu" and name[1:] in ("8", "16", "32", "64"):
        return f"{'u' if name[0] == 'u' else ''}int{name[1:]}_t"
    raise CompilationError(
        compose(
            f"a library has no arrays of {name}",
            found=f"an argument or result of dtype {name}",
            fix="convert it in the function that is exported",
        )
    )


def c_declaration(function: LibraryFunction) -> str:
    """The C declaration of a function, without a semicolon.

    Args:
        function: of a library.

    Example:
        >>> import covector as cv
        >>> program = cv.make_program(lambda x: x + 1)(cv.ShapeDtypeStruct((3,), "float32"))
        >>> print(c_declaration(LibraryFunction("plus_one", program, ("x",), ("y",))))
        int32_t plus_one(const float *x, float *y)
    """
    program = function.program
    parameters = [f"int64_t {name}" for name in function.sizes]
    for name, aval in zip(function.inputs, program.input_avals, strict=True):
        parameters.append(f"const {c_type(aval.dtype)} *{name}")
    for name, aval in zip(function.outputs, program.output_avals, strict=True):
        parameters.append(f"{c_type(aval.dtype)} *{name}")
    head, indent = f"int32_t {function.symbol}(", " " * (len(function.symbol) + 9)
    lines = [""]
    for k, parameter in enumerate(parameters or ["void"]):
        text = parameter + ("," if k + 1 < len(parameters) else "")
        if lines[-1] and len(indent) + len(lines[-1]) + len(text) > 98:
            lines.append("")
        lines[-1] = f"{lines[-1]} {text}".lstrip()
    return head + f"\n{indent}".join(lines) + ")"


_HEADER = """\
/* {name}.h: functions written by Covector.
 *
 * Arrays are contiguous, in row-major order, aligned as their elements are; results overlap neither
 * arguments nor each other. The functions keep nothing between calls: several threads may call them
 * at once. They return 0, or a status that is not 0: {memory} if there is not enough memory, else
 * the number of the check that failed; the function `..._error` gives its text. */
#ifndef {guard}
#define {guard}

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

{functions}
#ifdef __cplusplus
}}
#endif
#endif
"""


def c_header(functions: Iterable[LibraryFunction], name: str) -> str:
    """The C header of a library.

    Args:
        functions: of the library.
        name: of the library.

    Returns:
        Its text: a declaration of each function, with shapes and dtypes of its arrays, and of the
        function that tells what a status means.
    """
    texts = [
        f"{_comment(f)}\n{c_declaration(f)};\nconst char *{f.symbol}_error(int32_t status);\n"
        for f in functions
    ]
    guard = re.sub(r"\W", "_", f"{name}_H").upper()
    text = "\n".join(texts)
    return _HEADER.format(name=name, guard=guard, functions=text, memory=OUT_OF_MEMORY)


def _comment(function: LibraryFunction) -> str:
    program = function.program
    lines = [f"/* {function.symbol}"]
    for name in function.sizes:
        lines.append(f"   {name}: size, at least 0")
    named = zip(
        (*function.inputs, *function.outputs),
        (*program.input_avals, *program.output_avals),
        strict=True,
    )
    for k, (name, aval) in enumerate(named):
        arrow = "-> " if k >= len(function.inputs) else ""
        lines.append(f"   {arrow}{name}: {_described(aval)}")
    return "\n".join(lines) + " */"


def _described(aval: Aval) -> str:
    name = dtypes.short_name(aval.dtype)
    text = f"{name}[{', '.join(map(str, aval.shape))}]"
    note = "words" if dtypes.is_key(aval.dtype) else _NOTES.get(name, "")
    return f"{text}, {note}" if note else text
