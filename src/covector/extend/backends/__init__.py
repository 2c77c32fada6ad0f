"""What a backend is made of.

A backend has a `name` and `compile(program, options)`, which returns something callable with
`as_text` and `cost` (`Backend`, `Executable`). `register_backend` makes it available as
`jit(f, backend=name)` and `COVECTOR_BACKEND=name`; a package does the same for whoever installs it
by an entry point:

```toml
[project.entry-points."covector.backends"]
mine = "my_package:MyBackend"
```

It may start from the whole program (`simplified`, or the program as it comes), or from one loop IR
function that the compiler makes of it (`lower`; `covector.extend.loopir` is the language). Either
way it says what it can do (`Capabilities`), and what it cannot is decomposed or refused with the
user's line. `Signature` looks after arguments and results. `covector.testing.conformance` tells
what passes.

One with a device (`Device`) may run parts of programs and leave the rest to another backend
(`offload`). For a backend that differs from another in a few operations, rules for those will do
(`derived`). `docs/backends.md` builds one of each kind.

A backend may also offer to write libraries that run without Python: it has `library_kinds` and
`library(functions, options)` then (`LibraryWriter`), which `covector.export` calls.

Example:
    >>> import covector as cv, numpy as np
    >>> from covector.core.interpret import run
    >>> class Shouting:
    ...     name = "shouting"
    ...
    ...     def compile(self, program, options):
    ...         return ShoutingExecutable(simplified(program))
    >>> class ShoutingExecutable:
    ...     def __init__(self, program):
    ...         self.program = program
    ...         self.signature = Signature(program)
    ...
    ...     def __call__(self, *args):
    ...         print("HERE:", [e.primitive.name for e in self.program.equations])
    ...         call = self.signature.bind(args)
    ...         return self.signature.wrap(run(self.program, *call.arguments))
    ...
    ...     def as_text(self, stage=""):
    ...         return self.program.as_text()
    ...
    ...     def cost(self):
    ...         return {}
    >>> register_backend("shouting", Shouting)
    >>> f = cv.jit(lambda x: 2 * x + 1, backend="shouting")
    >>> f(np.arange(3))
    HERE: ['mul', 'add']
    Array([1, 3, 5], dtype=int32)
"""

from __future__ import annotations

from covector.core.backend import (
    Backend,
    Executable,
    Options,
    backend_names,
    get_backend,
    register_backend,
)
from covector.core.device import Device, Memory
from covector.core.errors import CompilationError, MissingCapabilityError
from covector.core.libraries import (
    OUT_OF_MEMORY,
    LibraryFunction,
    LibraryOptions,
    LibraryWriter,
    c_declaration,
    c_header,
    c_type,
)
from covector.core.program import Equation, Literal, Program, Variable, all_equations
from covector.extend.backends.calling import Bound, Signature
from covector.extend.backends.capabilities import (
    DECOMPOSITIONS,
    EVERYTHING,
    Capabilities,
    claimed,
)
from covector.extend.backends.derived import Derived, derived, scalar_rule
from covector.extend.backends.lowering import Lowered, Site, lower, simplified
from covector.extend.backends.offloading import (
    Offloaded,
    OffloadingBackend,
    PartExecutable,
    Transfers,
    offload,
)

__all__ = [
    "DECOMPOSITIONS",
    "EVERYTHING",
    "OUT_OF_MEMORY",
    "Backend",
    "Bound",
    "Capabilities",
    "CompilationError",
    "Derived",
    "Device",
    "Equation",
    "Executable",
    "LibraryFunction",
    "LibraryOptions",
    "LibraryWriter",
    "Literal",
    "Lowered",
    "Memory",
    "MissingCapabilityError",
    "Offloaded",
    "OffloadingBackend",
    "Options",
    "PartExecutable",
    "Program",
    "Signature",
    "Site",
    "Transfers",
    "Variable",
    "all_equations",
    "backend_names",
    "c_declaration",
    "c_header",
    "c_type",
    "claimed",
    "derived",
    "get_backend",
    "lower",
    "offload",
    "register_backend",
    "scalar_rule",
    "simplified",
]
