"""The loop IR, for backends that compile it and passes that change it: what a function consists of,
how to walk it, and how to put values in the place of others (`map_values`).

A `Function` owns typed buffers and one `Block` of values and statements. Values are scalars: an
operation of `OPERATIONS` applied to others, a load, a constant. Statements are stores, loops
(`For`, `While`), branches (`If`), checks, allocations and calls. `print_function` shows all of it.

Example:
    >>> import numpy as np
    >>> b = Builder("negate")
    >>> x = b.argument(np.dtype("f4"), (4,), "x")
    >>> y = b.result(np.dtype("f4"), (4,), "y")
    >>> b.loop(0, 4, lambda i: b.store(y, (i,), b.op("neg", b.load(x, i))))
    []
    >>> function = b.finish()
    >>> [type(item).__name__ for item in walk(function.body)]
    ['For', 'Value', 'Value', 'Store']
    >>> OPERATIONS["index_div"].doc
    'a // b for a >= 0, b > 0'
"""

from __future__ import annotations

from covector.loopir.builder import Builder
from covector.loopir.editing import Editor, map_values
from covector.loopir.ir import (
    ARGUMENT,
    CONSTANT,
    HEAP,
    PARALLEL,
    PRIVATE,
    RESULT,
    SERIAL,
    SIMD,
    WORKSPACE,
    Allocate,
    Block,
    Buffer,
    Call,
    Callback,
    Check,
    Context,
    For,
    Function,
    If,
    Item,
    LoopIRError,
    Pointer,
    Poll,
    Store,
    Value,
    While,
    children,
    closing,
    operands,
    results,
    touched,
    walk,
)
from covector.loopir.mathematics import definition
from covector.loopir.origins import Origins
from covector.loopir.printer import print_function, short_name
from covector.loopir.scalars import TABLE as OPERATIONS
from covector.loopir.scalars import OpSpec
from covector.loopir.verifier import verify

__all__ = [
    "ARGUMENT",
    "CONSTANT",
    "HEAP",
    "OPERATIONS",
    "PARALLEL",
    "PRIVATE",
    "RESULT",
    "SERIAL",
    "SIMD",
    "WORKSPACE",
    "Allocate",
    "Block",
    "Buffer",
    "Builder",
    "Call",
    "Callback",
    "Check",
    "Context",
    "Editor",
    "For",
    "Function",
    "If",
    "Item",
    "LoopIRError",
    "OpSpec",
    "Origins",
    "Pointer",
    "Poll",
    "Store",
    "Value",
    "While",
    "children",
    "closing",
    "definition",
    "map_values",
    "operands",
    "print_function",
    "results",
    "short_name",
    "touched",
    "verify",
    "walk",
]
