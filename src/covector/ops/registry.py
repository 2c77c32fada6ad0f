"""Loading every primitive: they are registered where they are defined, on import."""

from __future__ import annotations

import functools
import importlib
import pkgutil

import covector.ops


@functools.cache
def load_all() -> None:
    """Imports every module of `covector.ops`, so that each primitive is in the registry.

    For what looks primitives up by name: the parser, the importer of jaxprs, completeness tests.
    """
    for module in pkgutil.iter_modules(covector.ops.__path__, "covector.ops."):
        importlib.import_module(module.name)
