"""Libraries for use without Python: a module, and a file of JavaScript that calls it.

The module exports `memory`, `allocate(bytes)`, `release(address)`, and for each function

- `symbol(sizes..., arguments..., results...)`: takes the run-time sizes and the addresses of all
  arrays, all of them i32; returns a status, 0 if all is well;
- `symbol_error(status)`: the address of a text in UTF-8 that ends with a zero byte;
- `symbol_bytes(array, sizes...)`: how many bytes an array has: the arguments are numbered from 0
  on, then the results.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from covector.extend.backends import (
    OUT_OF_MEMORY,
    Capabilities,
    LibraryFunction,
    LibraryOptions,
    Lowered,
    MissingCapabilityError,
    c_type,
    lower,
)
from covector.extend.loopir import ARGUMENT, RESULT, Buffer, Value
from covector_wasm.emit import Unit, Writer
from covector_wasm.module import Code

KINDS = ("module",)

_ARRAYS = {
    "int8_t": "Int8Array", "uint8_t": "Uint8Array", "int16_t": "Int16Array",
    "uint16_t": "Uint16Array", "int32_t": "Int32Array", "uint32_t": "Uint32Array",
    "int64_t": "BigInt64Array", "uint64_t": "BigUint64Array", "float": "Float32Array",
    "double": "Float64Array",
}  # fmt: skip
"""Typed arrays of JavaScript for the elements that C declarations have."""


def library(
    functions: Sequence[LibraryFunction],
    options: LibraryOptions,
    capabilities: Capabilities,
    vectors: bool = True,
) -> Mapping[str, bytes]:
    """Writes a library.

    Args:
        functions: of the library.
        options: of kind "module", for no other machine.
        capabilities: of the backend.
        vectors: whether loops run in vectors.

    Returns:
        `name.wasm`, and `name.mjs` for JavaScript.

    Raises:
        MissingCapabilityError: for another kind or machine, a BLAS, and what needs Python.
        ValueError: for two exports of one name.
    """
    _check(options)
    _check_names([f.symbol for f in functions])
    unit = Unit(vectors)
    described: dict[str, Any] = {}
    for function in functions:
        lowered = lower(function.program, backend="wasm", capabilities=capabilities, lines=False)
        unit.entry(lowered, function.symbol)
        _add_error(unit, lowered, function.symbol)
        _add_bytes(unit, lowered, function.symbol)
        described[function.symbol] = _described(function)
    script = files("covector_wasm").joinpath("library.mjs").read_text()
    script = script.replace("NAME", options.name)
    table = json.dumps(described, indent=2)
    return {
        f"{options.name}.wasm": unit.module.binary(),
        f"{options.name}.mjs": f"{script}\nexport const functions = {table};\n".encode(),
    }


def _check(options: LibraryOptions) -> None:
    wanted = {
        f"libraries of kind {options.kind!r}": options.kind not in KINDS,
        f"target {options.target!r}": options.target and not options.target.startswith("wasm32"),
        f"processor {options.cpu!r}": options.cpu,
        f"BLAS {options.blas!r}": options.blas,
    }
    for capability, refused in wanted.items():
        if refused:
            raise MissingCapabilityError(
                f"the backend 'wasm' lacks: {capability}\n"
                "  found: it writes libraries of kind 'module', for all machines, of its own code\n"
                "  fix: leave the option out, or take the backend 'native'",
                capability,
            )


def _check_names(symbols: Sequence[str]) -> None:
    """Each function exports three names, the module four."""
    names = Counter(["memory", "heap", "allocate", "release"])
    for symbol in symbols:
        names.update([symbol, f"{symbol}_error", f"{symbol}_bytes"])
    again = [name for name, count in names.items() if count > 1]
    if again:
        raise ValueError(
            f"a module cannot export two things called {again[0]!r}\n"
            "  fix: export the function by another name"
        )


def _described(function: LibraryFunction) -> dict[str, Any]:
    """What callers have to know: sizes, and of each array name, typed array and shape."""
    avals = (function.program.input_avals, function.program.output_avals)
    names = (function.inputs, function.outputs)
    inputs, outputs = (
        [
            {"name": n, "array": _ARRAYS[c_type(a.dtype)], "dtype": str(a.dtype), "shape": s}
            for n, a in zip(own, of, strict=True)
            for s in [[m if isinstance(m, int) else str(m) for m in a.shape]]
        ]
        for own, of in zip(names, avals, strict=True)
    )
    return {"sizes": list(function.sizes), "inputs": inputs, "outputs": outputs}


def _add_error(unit: Unit, lowered: Lowered, symbol: str) -> None:
    """The function that gives the texts of statuses."""
    texts = {k + 1: str(site.error()) for k, site in enumerate(lowered.sites)}
    texts[OUT_OF_MEMORY] = "not enough memory for temporary arrays"
    body: list[Any] = []
    for status, text in texts.items():
        body += [("local.get", 0), ("i32.const", status), ("i32.eq",), ("if", "")]
        place = unit.module.place(text.encode() + b"\0", 1)
        body += [("i32.const", place), ("return",), ("end",)]
    body.append(("i32.const", unit.module.place(b"\0", 1)))
    name = f"{symbol}_error"
    comment = "status -> address of a text that ends with a zero byte"
    unit.module.functions[name] = Code(name, ["i32"], ["i32"], [], body, comment, name, ["status"])


def _add_bytes(unit: Unit, lowered: Lowered, symbol: str) -> None:
    """The function that gives the sizes of arguments and results."""
    count, inputs = 1 + len(lowered.sizes), len(lowered.program.inputs)
    writer = Writer(lowered.function, unit, count, 0)
    writer.sizes(first=1)
    first = {ARGUMENT: 0, RESULT: inputs}
    for buffer in lowered.function.buffers:
        if buffer.space in first:
            writer.write("local.get", 0)
            writer.write("i32.const", first[buffer.space] + buffer.index)
            writer.write("i32.eq")
            writer.write("if", "")
            _push_bytes(writer, buffer)
            writer.write("return")
            writer.write("end")
    writer.write("i32.const", 0)
    name, names = f"{symbol}_bytes", ["array", *[f"n{k}" for k in range(count - 1)]]
    comment = "number of an array, arguments before results, and sizes -> its bytes"
    unit.module.functions[name] = Code(
        name, ["i32"] * count, ["i32"], writer.locals, writer.body, comment, name, names
    )


def _push_bytes(writer: Writer, buffer: Buffer) -> None:
    writer.write("i64.const", buffer.dtype.itemsize)
    for extent in buffer.shape:
        if isinstance(extent, Value):
            writer.push(extent)
        else:
            writer.write("i64.const", extent)
        writer.write("i64.mul")
    writer.write("i32.wrap_i64")
